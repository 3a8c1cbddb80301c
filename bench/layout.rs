//! Which partitions of which topics a run is about.

use std::collections::HashMap;
use std::time::Duration;

use millrace::wire::TopicRef;

use crate::args::TopicArgs;
use millrace_client::{Cluster, NewTopic, Topic, ensure_topic};

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Index of its topic in [`Layout::topics`].
    pub topic: usize,
    /// Its index within the topic.
    pub partition: i32,
    /// Node id of its leader.
    pub leader: i32,
}

/// All partitions of a run. A slot's index is its number within the run.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// The topics.
    pub topics: Vec<Topic>,
    /// Their partitions.
    pub slots: Vec<Slot>,
    by_place: HashMap<(usize, i32), usize>,
}

impl Layout {
    /// All partitions of these topics.
    pub fn new(topics: Vec<Topic>) -> Self {
        let mut layout = Self::default();
        for (topic, found) in topics.iter().enumerate() {
            for partition in &found.partitions {
                let slot = Slot {
                    topic,
                    partition: partition.index,
                    leader: partition.leader,
                };
                layout
                    .by_place
                    .insert((topic, slot.partition), layout.slots.len());
                layout.slots.push(slot);
            }
        }
        layout.topics = topics;
        layout
    }

    /// Whether every topic has an id: then requests name topics by it.
    pub fn has_ids(&self) -> bool {
        self.topics.iter().all(|topic| topic.id.0 != [0; 16])
    }

    /// The slot that an answer is about.
    pub fn find(&self, topic: &TopicRef, partition: i32) -> Option<usize> {
        let topic = self.topics.iter().position(|known| match topic {
            TopicRef::Id(id) => *id == known.id,
            TopicRef::Name(name) => **name == *known.name,
        })?;
        self.by_place.get(&(topic, partition)).copied()
    }

    /// `topic-3`, for messages.
    pub fn name(&self, slot: usize) -> String {
        let slot = self.slots[slot];
        format!("{}-{}", self.topics[slot.topic].name, slot.partition)
    }
}

/// Connects to the cluster and makes the topics that are missing: one of the name given, or
/// several, numbered from 0.
pub fn open(args: &TopicArgs, configs: &[(String, String)]) -> Result<(Cluster, Layout), String> {
    let timeout = Duration::from_secs(args.timeout);
    let mut cluster = Cluster::connect(&args.bootstrap, timeout).map_err(|e| e.to_string())?;
    let mut topics = Vec::new();
    for name in names(&args.topic, args.topics) {
        let new = NewTopic {
            name: &name,
            partitions: args.partitions,
            replication: args.replication,
            configs,
        };
        topics.push(ensure_topic(&mut cluster, &new).map_err(|e| e.to_string())?);
    }
    Ok((cluster, Layout::new(topics)))
}

fn names(base: &str, count: u32) -> Vec<String> {
    if count == 1 {
        return vec![base.to_owned()];
    }
    (0..count)
        .map(|number| format!("{base}-{number}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_client::Partition;

    fn topic(name: &str, id: u8, partitions: i32) -> Topic {
        let partitions = (0..partitions).map(|index| Partition {
            index,
            leader: 1,
            leader_epoch: 0,
            replicas: Vec::new(),
            isr: Vec::new(),
        });
        Topic {
            name: name.to_owned(),
            id: millrace::base::TopicId([id; 16]),
            internal: false,
            partitions: partitions.collect(),
        }
    }

    #[test]
    fn answers_are_found_by_name_and_by_id() {
        let layout = Layout::new(vec![topic("a", 1, 2), topic("b", 2, 2)]);
        assert_eq!(layout.slots.len(), 4);
        let by_name = TopicRef::Name("b".into());
        assert_eq!(layout.find(&by_name, 1), Some(3));
        assert_eq!(layout.find(&TopicRef::Id(layout.topics[0].id), 1), Some(1));
        assert_eq!(layout.find(&by_name, 2), None);
        assert_eq!(layout.name(2), "b-0");
        assert!(layout.has_ids());
        assert!(!Layout::new(vec![topic("a", 0, 1)]).has_ids());
    }

    #[test]
    fn one_topic_keeps_its_name() {
        assert_eq!(names("t", 1), ["t"]);
        assert_eq!(names("t", 3), ["t-0", "t-1", "t-2"]);
    }
}
