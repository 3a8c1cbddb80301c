//! Logs of a shard that are there, but cannot be served: something of them has rotted, or the metadata does not
//! know them.

use crate::base::{ErrorCode, IdSet, LogId, Now};
use crate::broker::owner::Owner;
use crate::config::TopicConfig;
use crate::controller::Topic;

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

    /// Gives up a damaged log for a new and empty one.
    pub fn recreate(&mut self, now: Now, topic: &Topic, index: i32) {
        let Some(partition) = topic.partition(index) else {
            return;
        };
        if let Some(&slot) = self.damaged.get(&partition.log) {
            self.delete_log(partition.log);
            let config = TopicConfig::effective(&self.config, &topic.configs);
            self.open(now, slot, topic, index, partition, &config);
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
