//! The records that make an image of any other one, one after the other: there may be very many.

use std::sync::Arc;
use std::vec;

use super::image::Image;
use super::record::{ConfigResource, MetadataRecord};
use super::topic::Topic;

/// See the module.
#[derive(Debug)]
pub struct ImageRecords {
    image: Image,
    /// What comes before the topics.
    before: vec::IntoIter<MetadataRecord>,
    /// The topic whose records come, how many of them have, and the topic before.
    topic: Option<Arc<Topic>>,
    told: usize,
    last: Option<Arc<Topic>>,
    /// What comes behind the topics.
    behind: vec::IntoIter<MetadataRecord>,
}

impl ImageRecords {
    /// Of an image as it is now.
    #[must_use]
    pub fn new(image: &Image) -> Self {
        Self {
            before: before_topics(image).into_iter(),
            behind: behind_topics(image).into_iter(),
            topic: None,
            told: 0,
            last: None,
            image: image.clone(),
        }
    }
}

impl Iterator for ImageRecords {
    type Item = MetadataRecord;

    fn next(&mut self) -> Option<MetadataRecord> {
        if let Some(record) = self.before.next() {
            return Some(record);
        }
        loop {
            if self.topic.is_none() {
                let after = self.last.as_deref().map(|topic| &*topic.name);
                self.topic = self.image.topic_after(after).cloned();
                self.told = 0;
            }
            let Some(topic) = &self.topic else {
                return self.behind.next();
            };
            if let Some(record) = of_topic(topic, self.told) {
                self.told += 1;
                return Some(record);
            }
            self.last = self.topic.take();
        }
    }
}

fn before_topics(image: &Image) -> Vec<MetadataRecord> {
    let mut records = vec![MetadataRecord::SnapshotBegin];
    let cluster = image.cluster_id.as_ref();
    records.extend(cluster.map(|id| MetadataRecord::Cluster { id: id.to_string() }));
    if image.features > 0 {
        let level = image.features;
        records.push(MetadataRecord::Features { level });
    }
    let brokers = image.brokers.iter().cloned();
    records.extend(brokers.map(MetadataRecord::Broker));
    records.extend(image.strays().map(|log| MetadataRecord::Stray { log }));
    records
}

/// One of the records of a topic, by its place.
fn of_topic(topic: &Topic, at: usize) -> Option<MetadataRecord> {
    let Some(index) = at.checked_sub(1) else {
        return Some(MetadataRecord::Topic {
            name: topic.name.to_string(),
            id: topic.id,
        });
    };
    if let Some(partition) = topic.partitions.get(index) {
        let index = i32::try_from(index).unwrap_or(i32::MAX);
        return Some(MetadataRecord::Partition(partition.record(topic.id, index)));
    }
    let (key, value) = topic.configs.iter().nth(index - topic.partitions.len())?;
    let resource = ConfigResource::Topic(topic.name.to_string());
    Some(config(resource, key, value))
}

fn behind_topics(image: &Image) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for (node, configs) in image.all_broker_configs() {
        for (key, value) in configs {
            records.push(config(ConfigResource::Broker(node), key, value));
        }
    }
    if image.next_producer_id > 0 {
        let next = image.next_producer_id;
        records.push(MetadataRecord::ProducerIds { next });
    }
    records.push(MetadataRecord::SnapshotEnd {
        version: image.version,
        next_log: image.next_log,
    });
    records
}

fn config(resource: ConfigResource, key: &str, value: &str) -> MetadataRecord {
    MetadataRecord::Config {
        resource,
        key: key.to_owned(),
        value: Some(value.to_owned()),
    }
}
