//! The records that make an image of any other one, one after the other: there may be very many.

use std::sync::Arc;
use std::vec;

use super::group_configs::OwnConfigs;
use super::image::Image;
use super::record::{ConfigResource, MetadataRecord};
use super::topic::Topic;
use crate::base::Leftovers;

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
    /// The group whose settings come, how many of them have, and the group before.
    group: Option<(Arc<str>, OwnConfigs)>,
    told_of_group: usize,
    last_group: Option<Arc<str>>,
    /// What comes behind the topics and groups.
    behind: vec::IntoIter<MetadataRecord>,
}

impl ImageRecords {
    /// Of an image as it is now.
    #[must_use]
    pub fn new(image: &Image) -> Self {
        // All that an image has, so that nothing it will have besides is forgotten here: of a log that is compacted
        // nothing else is left.
        let Image {
            version,
            cluster_id,
            features,
            next_producer_id,
            next_log,
            topics: _, // They come one by one.
            brokers,
            load: _,
            here: _,
            strays,
            settings,
            groups: _, // The same.
        } = image;
        let mut before = vec![MetadataRecord::SnapshotBegin];
        let cluster = cluster_id.as_ref();
        before.extend(cluster.map(|id| MetadataRecord::Cluster { id: id.to_string() }));
        if *features > 0 {
            before.push(MetadataRecord::Features { level: *features });
        }
        before.extend(brokers.iter().cloned().map(MetadataRecord::Broker));
        before.extend(strays.iter().map(|log| MetadataRecord::Stray { log: *log }));
        let mut behind = Vec::new();
        for (node, configs) in settings {
            let set = configs.iter();
            behind
                .extend(set.map(|(key, value)| config(ConfigResource::Broker(*node), key, value)));
        }
        if *next_producer_id > 0 {
            let next = *next_producer_id;
            behind.push(MetadataRecord::ProducerIds { next });
        }
        behind.push(MetadataRecord::SnapshotEnd {
            version: *version,
            next_log: *next_log,
        });
        Self {
            before: before.into_iter(),
            behind: behind.into_iter(),
            topic: None,
            told: 0,
            last: None,
            group: None,
            told_of_group: 0,
            last_group: None,
            image: image.clone(),
        }
    }

    /// Gives up what is left: if nobody else has the image, its topics are dropped some at a time.
    pub fn leave(self, leftovers: &mut Leftovers) {
        Arc::new(self.image).leave(leftovers);
    }

    /// The next setting of a group.
    fn next_of_groups(&mut self) -> Option<MetadataRecord> {
        loop {
            if self.group.is_none() {
                let next = self.image.groups.after(self.last_group.as_deref());
                self.group = next.map(|(name, own)| (Arc::clone(name), Arc::clone(own)));
                self.told_of_group = 0;
            }
            let (name, own) = self.group.as_ref()?;
            if let Some((key, value)) = own.iter().nth(self.told_of_group) {
                self.told_of_group += 1;
                return Some(config(ConfigResource::Group(name.to_string()), key, value));
            }
            self.last_group = self.group.take().map(|(name, _)| name);
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
                return self.next_of_groups().or_else(|| self.behind.next());
            };
            if let Some(record) = of_topic(topic, self.told) {
                self.told += 1;
                return Some(record);
            }
            self.last = self.topic.take();
        }
    }
}

/// One of the records of a topic, by its place.
fn of_topic(topic: &Topic, at: usize) -> Option<MetadataRecord> {
    let Topic {
        name,
        id,
        internal: _,
        partitions,
        configs,
    } = topic;
    let Some(index) = at.checked_sub(1) else {
        let (name, id) = (name.to_string(), *id);
        return Some(MetadataRecord::Topic { name, id });
    };
    if let Some(partition) = partitions.get(index) {
        let index = i32::try_from(index).unwrap_or(i32::MAX);
        return Some(MetadataRecord::Partition(partition.record(*id, index)));
    }
    let (key, value) = configs.iter().nth(index - partitions.len())?;
    let resource = ConfigResource::Topic(name.to_string());
    Some(config(resource, key, value))
}

fn config(resource: ConfigResource, key: &str, value: &str) -> MetadataRecord {
    MetadataRecord::Config {
        resource,
        key: key.to_owned(),
        value: Some(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::mem::discriminant;

    use super::*;
    use crate::controller::testing::one_of_each;

    /// Whether a record of this kind leaves something that a snapshot tells by one of the same kind.
    fn is_told_by_its_like(record: &MetadataRecord) -> bool {
        match record {
            MetadataRecord::Cluster { .. }
            | MetadataRecord::Features { .. }
            | MetadataRecord::Broker(_)
            | MetadataRecord::Topic { .. }
            | MetadataRecord::Partition(_)
            | MetadataRecord::Config { .. }
            | MetadataRecord::ProducerIds { .. }
            | MetadataRecord::Stray { .. }
            | MetadataRecord::SnapshotBegin
            | MetadataRecord::SnapshotEnd { .. } => true,
            // What is gone, and what the registration of a broker says itself.
            MetadataRecord::RemoveTopic { .. }
            | MetadataRecord::RemoveBroker { .. }
            | MetadataRecord::Fence { .. } => false,
        }
    }

    #[test]
    fn every_kind_of_record_has_its_place() {
        let (mut image, records) = (Image::default(), one_of_each());
        for record in &records {
            let before = image.clone();
            image.replay(record).unwrap();
            // Whatever it changes besides how many there were.
            let version = image.version;
            let before = Image { version, ..before };
            assert_ne!(image, before, "{record:?} changes nothing");
        }
        let told: Vec<MetadataRecord> = ImageRecords::new(&image).collect();
        let kinds: Vec<_> = told.iter().map(discriminant).collect();
        for record in &records {
            let is_told = kinds.contains(&discriminant(record));
            assert_eq!(is_told, is_told_by_its_like(record), "{record:?}");
        }
        let mut copy = Image::default();
        for record in &told {
            copy.replay(record).unwrap();
        }
        assert_eq!(copy, image);
    }
}
