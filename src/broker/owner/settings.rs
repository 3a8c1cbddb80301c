//! What logs need to know of the settings.

use crate::config::{BrokerConfig, TopicConfig, is_internal};
use crate::log::{CompactionConfig, LogConfig};

/// What a log needs to know of the settings of its topic.
pub fn log_config(name: &str, topic: &TopicConfig, broker: &BrokerConfig) -> LogConfig {
    let policy = topic.cleanup_policy;
    // What is kept by key is not dropped by age or size: a committed offset counts until it is replaced.
    let kept = |limit| match policy.deletes() {
        true => limit,
        false => -1,
    };
    // The broker's own are compacted by those who know what is valid in them, but for transactional ids.
    let compacts = policy.compacts() && (!is_internal(name) || name == "__transaction_state");
    let compaction = compacts.then_some(CompactionConfig {
        min_dirty_millionths: topic.min_cleanable_dirty_ratio.millionths,
        min_lag_ms: topic.min_compaction_lag_ms,
        max_lag_ms: topic.max_compaction_lag_ms,
        delete_retention_ms: topic.delete_retention_ms,
    });
    // What has to be compacted in time has to leave the active segment in time.
    let longest = match compacts {
        true => topic.max_compaction_lag_ms,
        false => i64::MAX,
    };
    LogConfig {
        segment_bytes: topic.segment_bytes as u64,
        segment_ms: topic.segment_ms.min(longest),
        retention_ms: kept(topic.retention_ms),
        retention_bytes: kept(topic.retention_bytes),
        max_message_bytes: topic.max_message_bytes as u64,
        timestamp_type: topic.message_timestamp_type,
        timestamp_before_max_ms: topic.message_timestamp_before_max_ms,
        timestamp_after_max_ms: topic.message_timestamp_after_max_ms,
        producer_id_expiration_ms: i64::from(broker.producer_id_expiration_ms),
        compaction,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_kept_by_key_is_not_dropped_by_age_or_size() {
        let broker = BrokerConfig::default();
        let by_age = log_config("a", &TopicConfig::of_broker(&broker), &broker);
        assert!(by_age.retention_ms > 0, "Kafka's default is seven days");
        let overrides = BTreeMap::from([
            ("cleanup.policy".to_owned(), "compact".to_owned()),
            ("retention.bytes".to_owned(), "1000".to_owned()),
        ]);
        let config = TopicConfig::effective(&broker, &overrides);
        let by_key = log_config("a", &config, &broker);
        assert_eq!((by_key.retention_ms, by_key.retention_bytes), (-1, -1));
        assert!(by_key.compaction.is_some());
        let own = log_config("__consumer_offsets", &config, &broker);
        assert_eq!((own.retention_bytes, own.compaction), (-1, None));
        let own = log_config("__transaction_state", &config, &broker);
        assert!(own.compaction.is_some());
    }
}
