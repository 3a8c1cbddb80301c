//! What becomes of topics, their settings and the leaders of their partitions, for the log of each node: from the
//! records that are committed while it runs.

use std::collections::BTreeMap;

use crate::base::{Mono, NodeId, TopicId};
use crate::broker::rare_log::LifeLog;
use crate::controller::{ConfigResource, Image, MetadataRecord, PartitionRecord};

/// See the module.
#[derive(Debug, Default)]
pub struct Life {
    topics: LifeLog,
    settings: LifeLog,
    leaders: LifeLog,
    /// Topics of the entry that is being replayed that have new partitions, and how many they had; `None` for those
    /// that are new themselves.
    grown: BTreeMap<TopicId, Option<usize>>,
}

impl Life {
    /// A record is about to be replayed.
    pub fn record(&mut self, now: Mono, image: &Image, record: &MetadataRecord) {
        match record {
            MetadataRecord::Topic { id, .. } => {
                self.grown.entry(*id).or_insert(None);
            }
            MetadataRecord::Partition(partition) => self.partition(now, image, partition),
            MetadataRecord::RemoveTopic { id } => {
                if let Some(topic) = image.topic_by_id(*id) {
                    let name = &topic.name;
                    self.topics
                        .say(now, |more| tracing::info!("topic {name} is deleted{more}"));
                }
            }
            MetadataRecord::Config {
                resource,
                key,
                value,
            } => self.setting(now, image, resource, (key, value.as_deref())),
            _ => {}
        }
    }

    fn partition(&mut self, now: Mono, image: &Image, record: &PartitionRecord) {
        let Some(topic) = image.topic_by_id(record.topic) else {
            return;
        };
        let Some(before) = topic.partition(record.index) else {
            let count = topic.partitions.len();
            self.grown.entry(topic.id).or_insert(Some(count));
            return;
        };
        if before.leader == record.leader {
            return;
        }
        let (name, index, epoch) = (&topic.name, record.index, record.leader_epoch);
        let (old, new) = (before.leader, record.leader);
        let unclean = match record.elections.unclean == Some(epoch) {
            true => ", though it may lack what was acknowledged",
            false => "",
        };
        self.leaders.say(now, |more| match new {
            NodeId(..0) => tracing::warn!("{name}-{index} has no leader after node {old}{more}"),
            _ => {
                tracing::info!("{name}-{index}: node {new} leads, in epoch {epoch}{unclean}{more}")
            }
        });
    }

    fn setting(
        &mut self,
        now: Mono,
        image: &Image,
        resource: &ConfigResource,
        (key, value): (&str, Option<&str>),
    ) {
        let whose = match resource {
            // What a topic is created with is told with it.
            ConfigResource::Topic(name) => match image.topic(name) {
                Some(topic) if self.grown.get(&topic.id) == Some(&None) => return,
                _ => format!("topic {name}"),
            },
            ConfigResource::Broker(Some(node)) => format!("node {node}"),
            ConfigResource::Broker(None) => "all nodes".to_owned(),
            ConfigResource::Group(id) => format!("group {id}"),
        };
        let value = value.map_or_else(
            || format!("{key} is what it is by default"),
            |value| format!("{key}={value}"),
        );
        self.settings.say(now, |more| {
            tracing::info!("settings of {whose}: {value}{more}")
        });
    }

    /// All records of an entry are replayed.
    pub fn entry(&mut self, now: Mono, image: &Image) {
        for (id, before) in std::mem::take(&mut self.grown) {
            let Some(topic) = image.topic_by_id(id) else {
                continue;
            };
            let (name, partitions) = (&topic.name, topic.partitions.len());
            let replicas = topic.partition(0).map_or(0, |first| first.replicas.len());
            let settings: String = topic
                .configs
                .iter()
                .map(|(key, value)| format!(", {key}={value}"))
                .collect();
            self.topics.say(now, |more| match before {
                None => tracing::info!(
                    "topic {name} is created: {partitions} partitions, {replicas} replicas, id {id}{settings}{more}"
                ),
                Some(before) => {
                    tracing::info!("topic {name} has {partitions} partitions, {before} before{more}");
                }
            });
        }
    }
}
