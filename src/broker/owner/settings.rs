//! What logs need to know of the settings.

use crate::config::{BrokerConfig, CleanupPolicy, TopicConfig};
use crate::log::LogConfig;

/// What a log needs to know of a topic's settings.
pub fn log_config(topic: &TopicConfig, broker: &BrokerConfig) -> LogConfig {
    // What is kept by key is not dropped by age or size: a committed offset counts until it is replaced.
    let kept = |limit| match topic.cleanup_policy {
        CleanupPolicy::Delete => limit,
        CleanupPolicy::Compact => -1,
    };
    LogConfig {
        segment_bytes: topic.segment_bytes as u64,
        segment_ms: topic.segment_ms,
        retention_ms: kept(topic.retention_ms),
        retention_bytes: kept(topic.retention_bytes),
        max_message_bytes: topic.max_message_bytes as u64,
        timestamp_type: topic.message_timestamp_type,
        timestamp_before_max_ms: topic.message_timestamp_before_max_ms,
        timestamp_after_max_ms: topic.message_timestamp_after_max_ms,
        producer_id_expiration_ms: i64::from(broker.producer_id_expiration_ms),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_kept_by_key_is_not_dropped_by_age_or_size() {
        let broker = BrokerConfig::default();
        let by_age = log_config(&TopicConfig::of_broker(&broker), &broker);
        assert!(by_age.retention_ms > 0, "Kafka's default is seven days");
        let overrides = BTreeMap::from([
            ("cleanup.policy".to_owned(), "compact".to_owned()),
            ("retention.bytes".to_owned(), "1000".to_owned()),
        ]);
        let by_key = log_config(&TopicConfig::effective(&broker, &overrides), &broker);
        assert_eq!((by_key.retention_ms, by_key.retention_bytes), (-1, -1));
    }
}
