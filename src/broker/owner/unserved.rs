//! Logs of a shard that are there, but cannot be served: something of them has rotted, or the metadata does not
//! know them.

use crate::base::{ErrorCode, LogId, Now};
use crate::broker::owner::Owner;
use crate::config::TopicConfig;
use crate::controller::{Image, Topic};

impl Owner {
    /// Whether a log is there, but cannot be served.
    pub fn is_damaged(&self, log: LogId) -> bool {
        self.damaged.contains_key(&log)
    }

    /// Why a log is not among the partitions.
    pub fn missing(&self, log: LogId) -> ErrorCode {
        let mut slots = self.slots.iter();
        if self.is_damaged(log) || slots.any(|slot| slot.recovered.contains_key(&log)) {
            ErrorCode::KafkaStorageError
        } else {
            ErrorCode::UnknownTopicOrPartition
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

    /// Decides about logs that recovery found and no partition has. Those of removed topics go; what the
    /// metadata has never given out is kept: the metadata may be what is wrong. Returns what it does not know yet.
    pub fn settle_recovered(&mut self, image: &Image) -> Vec<LogId> {
        let recovered = self.slots.iter().flat_map(|slot| slot.recovered.keys());
        let found: Vec<LogId> = self.damaged.keys().chain(recovered).copied().collect();
        let mut strays = Vec::new();
        if found.is_empty() {
            return strays;
        }
        let known = image.logs();
        for log in found {
            if known.contains(&log) {
                continue;
            }
            if image.has_removed(log) {
                self.delete_log(log);
            } else if log.0 >= image.next_log {
                tracing::error!(
                    "{}: the metadata has never given out this log. It is kept, and not served; \
                     `millracectl store export` reads it",
                    self.describe(log)
                );
                strays.push(log);
            }
        }
        strays
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
