//! What a change of the metadata touches, so that a shard looks at that and not at every partition.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::image::Image;
use super::record::{ConfigResource, MetadataRecord};
use super::topic::Topic;
use crate::base::{LogId, TopicId};
use crate::config::UNCLEAN_ELECTIONS;

/// The difference between an image and the one before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Anything may have changed: there was no image before, or what holds for all topics is different.
    everything: bool,
    topics: BTreeSet<TopicId>,
    removed: Vec<LogId>,
    /// Topics were removed.
    removes_topics: bool,
    /// Which replicas of a topic may lead by its settings may be different.
    alters_elections: bool,
}

impl Delta {
    /// From nothing to an image.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }

    /// From one image to another one that many records have made of it, which are not known.
    #[must_use]
    pub fn between(before: &Image, after: &Image) -> Self {
        let mut delta = Self::everything();
        let mut last: Option<&Arc<Topic>> = None;
        while let Some(topic) = before.topic_after(last.map(|topic| &*topic.name)) {
            if after.topic_by_id(topic.id).is_none() {
                let logs = topic.partitions.iter().map(|partition| partition.log);
                delta.removed.extend(logs);
                delta.removes_topics = true;
            }
            last = Some(topic);
        }
        delta
    }

    /// Takes in a record that `image` is about to replay.
    pub fn note(&mut self, image: &Image, record: &MetadataRecord) {
        match record {
            MetadataRecord::Topic { id, .. } => {
                self.topics.insert(*id);
            }
            MetadataRecord::Partition(partition) => {
                self.topics.insert(partition.topic);
            }
            MetadataRecord::RemoveTopic { id } => {
                if let Some(topic) = image.topic_by_id(*id) {
                    let logs = topic.partitions.iter().map(|partition| partition.log);
                    self.removed.extend(logs);
                    self.removes_topics = true;
                }
            }
            MetadataRecord::Config { resource, key, .. } => match resource {
                ConfigResource::Topic(name) => {
                    self.topics.extend(image.topic(name).map(|topic| topic.id));
                    self.alters_elections |= key == UNCLEAN_ELECTIONS;
                }
                // Defaults of topics.
                ConfigResource::Broker(_) => self.everything = true,
                ConfigResource::Group(_) => {}
            },
            MetadataRecord::SnapshotBegin => self.everything = true,
            MetadataRecord::Cluster { .. }
            | MetadataRecord::Broker(_)
            | MetadataRecord::Fence { .. }
            | MetadataRecord::RemoveBroker { .. }
            | MetadataRecord::Features { .. }
            | MetadataRecord::ProducerIds { .. }
            | MetadataRecord::Stray { .. }
            | MetadataRecord::SnapshotEnd { .. } => {}
        }
    }

    /// Whether there was no image before, or every topic may be different.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.everything
    }

    /// The topics of the image to look at, one after the other: there may be very many.
    #[must_use]
    pub fn topic_after<'i>(
        &self,
        image: &'i Image,
        last: Option<&Topic>,
    ) -> Option<&'i Arc<Topic>> {
        if self.everything {
            return image.topic_after(last.map(|topic| &*topic.name));
        }
        let from = last.map_or(Bound::Unbounded, |topic| Bound::Excluded(topic.id));
        let mut touched = self.topics.range((from, Bound::Unbounded));
        touched.find_map(|id| image.topic_by_id(*id))
    }

    /// The logs of topics that were removed.
    #[must_use]
    pub fn removed(&self) -> &[LogId] {
        &self.removed
    }

    /// Whether it may be that other replicas of a topic may lead than before, by its own settings.
    #[must_use]
    pub const fn alters_elections(&self) -> bool {
        self.alters_elections
    }

    /// Whether topics were removed.
    #[must_use]
    pub const fn removes_topics(&self) -> bool {
        self.removes_topics
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::testing::partition;

    fn topic(name: &str, id: u8) -> MetadataRecord {
        MetadataRecord::Topic {
            name: name.to_owned(),
            id: TopicId([id; 16]),
        }
    }

    fn config(resource: ConfigResource) -> MetadataRecord {
        MetadataRecord::Config {
            resource,
            key: "retention.ms".to_owned(),
            value: Some("1".to_owned()),
        }
    }

    fn apply(image: &mut Image, records: &[MetadataRecord]) -> Delta {
        let mut delta = Delta::default();
        for record in records {
            delta.note(image, record);
            image.replay(record).unwrap();
        }
        delta
    }

    fn names(delta: &Delta, image: &Image) -> Vec<String> {
        let mut last = None;
        let mut next = || {
            last = delta.topic_after(image, last.as_deref()).cloned();
            last.as_ref()
                .map(|topic: &Arc<Topic>| topic.name.to_string())
        };
        std::iter::from_fn(&mut next).collect()
    }

    #[test]
    fn only_what_was_touched_is_looked_at() {
        let mut image = Image::default();
        let made = [
            topic("a", 1),
            partition(1, 0, 1),
            topic("b", 2),
            partition(2, 0, 2),
        ];
        let delta = apply(&mut image, &made);
        assert_eq!(names(&delta, &image), ["a", "b"]);
        let delta = apply(&mut image, &[partition(2, 1, 3)]);
        assert_eq!(names(&delta, &image), ["b"]);
        let delta = apply(&mut image, &[config(ConfigResource::Topic("a".to_owned()))]);
        assert_eq!(names(&delta, &image), ["a"]);
        let delta = apply(&mut image, &[MetadataRecord::ProducerIds { next: 5 }]);
        assert_eq!(delta, Delta::default());
        let delta = apply(&mut image, &[config(ConfigResource::Broker(None))]);
        assert!(delta.is_everything());
        assert_eq!(names(&delta, &image), ["a", "b"]);
    }

    #[test]
    fn a_removed_topic_names_its_logs() {
        let mut image = Image::default();
        let made = [topic("a", 1), partition(1, 0, 1), partition(1, 1, 2)];
        apply(&mut image, &made);
        let id = TopicId([1; 16]);
        let delta = apply(&mut image, &[MetadataRecord::RemoveTopic { id }]);
        assert_eq!(delta.removed(), [LogId(1), LogId(2)]);
        assert!(delta.removes_topics());
        assert_eq!(names(&delta, &image), [""; 0]);
    }
}
