//! Logs of a shard that are there, but cannot be served: something of them has rotted.

use super::owner::Owner;
use crate::base::{ErrorCode, LogId, Now};
use crate::config::TopicConfig;
use crate::controller::Topic;

impl Owner {
    /// Whether a log is there, but cannot be served.
    pub fn is_damaged(&self, log: LogId) -> bool {
        self.damaged.contains_key(&log)
    }

    /// Why a log is not among the partitions.
    pub fn missing(&self, log: LogId) -> ErrorCode {
        if self.is_damaged(log) {
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
}
