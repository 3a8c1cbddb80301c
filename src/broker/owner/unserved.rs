//! Logs of a shard that are there, but cannot be served: something of them has rotted, or the metadata does not
//! know them.

use crate::base::{ErrorCode, IdSet, LeaderEpoch, LogId, NodeId, Now, Offset, TopicId};
use crate::broker::owner::Owner;
use crate::config::TopicConfig;
use crate::controller::{Partition, Topic};
use crate::log::recovery::DamagedLog;

/// Whether nothing is lost if a node has nothing of a partition: nobody else has it, or another one leads it and this
/// one is not in sync.
fn may_be_empty(partition: &Partition, node: NodeId) -> bool {
    let leader = partition.leader;
    let follows = leader.0 >= 0 && leader != node && !partition.isr.contains(&node);
    partition.replicas.len() == 1 || follows
}

impl Owner {
    /// Whether a log is there, but cannot be served.
    pub fn is_damaged(&self, log: LogId) -> bool {
        self.damaged.contains_key(&log)
    }

    /// Whether a log is here, but not among the partitions.
    pub fn is_unserved(&self, log: LogId) -> bool {
        let mut slots = self.slots.iter();
        self.is_damaged(log) || slots.any(|slot| slot.recovered.contains_key(&log))
    }

    /// Why a log is not among the partitions.
    pub fn missing(&self, log: LogId) -> ErrorCode {
        match self.is_unserved(log) {
            true => ErrorCode::KafkaStorageError,
            false => ErrorCode::UnknownTopicOrPartition,
        }
    }

    /// Gives up a damaged log for a new and empty one, and returns whether it did: not where others have the partition
    /// too, unless one of them leads it and this node is not in sync.
    pub fn recreate(&mut self, now: Now, topic: &Topic, index: i32) -> bool {
        let (node, partition) = (self.config.node(), topic.partition(index));
        let Some(partition) = partition.filter(|it| may_be_empty(it, node)) else {
            return false;
        };
        let Some(&slot) = self.damaged.get(&partition.log) else {
            return false;
        };
        self.delete_log(partition.log);
        let config = TopicConfig::effective(&self.config, &topic.configs);
        self.open(now, slot, topic, index, partition, &config);
        true
    }

    /// How far somebody else has to have a log that is damaged here as a whole before that is given up: as far as is
    /// known of it that it was committed, or else that there was something. And its newest epoch, 0 if it is not known.
    pub fn least_elsewhere(&self, log: LogId) -> (Offset, LeaderEpoch) {
        let Some(slot) = self.damaged.get(&log).map(|slot| &self.slots[*slot]) else {
            return (Offset(0), LeaderEpoch(0));
        };
        if let Some(DamagedLog { committed, epoch }) = slot.damaged.get(&log) {
            return (*committed, *epoch);
        }
        // What was behind the last place that is known may not have been committed.
        let begun = slot.store.segments(log).map(|(_, base, _)| base);
        (begun.max().unwrap_or_default(), LeaderEpoch(0))
    }

    /// A partition's log is damaged as a whole. If others have it too, it is to be looked what becomes of it.
    pub(super) fn finds_damaged(&mut self, topic: TopicId, index: i32, partition: &Partition) {
        if self.roles.replicates && partition.replicas.len() > 1 {
            self.roles.damaged.insert(partition.log, (topic, index));
            self.roles.reassigned.insert(partition.log);
        }
    }

    /// The topic and the index of a partition that others may have too.
    pub fn place_of(&self, log: LogId) -> Option<(TopicId, i32)> {
        let open = self.partitions.get(&log).map(|open| open.log.label());
        let open = open.map(|label| (label.topic_id, label.partition));
        open.or_else(|| self.roles.damaged.get(&log).copied())
    }

    /// Whether something of a log is lost here that others may have: it is not led, and leaves the ISR.
    pub fn has_lost(&self, log: LogId) -> bool {
        let open = self.partitions.get(&log);
        let is_short = open.is_some_and(|open| open.log.lost_before().is_some());
        is_short || self.is_unreadable(log)
    }

    /// The same, where the log does not say so by itself.
    pub fn is_unreadable(&self, log: LogId) -> bool {
        let open = self.partitions.get(&log);
        self.is_damaged(log) || open.is_some_and(|open| open.has_lost)
    }

    /// Something of a log is lost here, or not any more: it is the beginning of its leader's again.
    pub fn loses(&mut self, log: LogId, has_lost: bool) {
        if let Some(open) = self.partitions.get_mut(&log) {
            open.has_lost = has_lost;
        }
    }

    /// The logs that are here and not among the partitions, but for these.
    pub fn unclaimed(&self, claimed: &IdSet<LogId>) -> Vec<LogId> {
        let recovered = self.slots.iter().flat_map(|slot| slot.recovered.keys());
        let found = self.damaged.keys().chain(recovered);
        found
            .copied()
            .filter(|log| !claimed.contains(log))
            .collect()
    }

    /// Says that a log is a stray.
    pub fn tell_stray(&self, log: LogId) {
        tracing::error!(
            "{}: the metadata has never given out this log. It is kept, and not served; \
             `millracectl store export` reads it",
            self.describe(log)
        );
    }

    /// A log that is not served, for people.
    fn describe(&self, log: LogId) -> String {
        let found = self.slots.iter().find_map(|slot| {
            let found = slot.recovered.get(&log)?;
            Some((slot.store.id(), found.label()))
        });
        found.map_or(format!("log {log}"), |(store, label)| {
            format!(
                "store-{store}: log {log}, of {}-{}",
                label.topic, label.partition
            )
        })
    }
}
