//! The settings of a topic: their table, the defaults they take from the broker,
//! and the check of what a client sets.

use std::collections::BTreeMap;

use super::broker::BrokerConfig;
use super::inert::{self, Inert};
use super::setting::{ANY, SetError, from, settings};
use super::value::{CleanupPolicy, CompressionType, Share};
use crate::record::TimestampType;

const MIB: i64 = 1024 * 1024;

/// The setting, of topics and of brokers, that allows elections by which something may be lost.
pub const UNCLEAN_ELECTIONS: &str = "unclean.leader.election.enable";

/// Topics that belong to the broker, as Kafka names them.
pub const INTERNAL_TOPICS: &[&str] = &[
    "__cluster_metadata",
    "__consumer_offsets",
    "__share_group_state",
    "__transaction_state",
];

/// Whether a topic belongs to the broker.
#[must_use]
pub fn is_internal(topic: &str) -> bool {
    INTERNAL_TOPICS.contains(&topic)
}

settings! {
    /// What holds for one topic: its own settings, and the broker's where it has none.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TopicConfig {
        /// What happens to old segments: they are deleted, or of each key the newest record is kept, or both.
        cleanup_policy: CleanupPolicy = CleanupPolicy::Delete, "cleanup.policy", None, ANY,
            from ["log.cleanup.policy"];
        /// The codec that Kafka would store batches in. Here they are stored as they came, whatever it says.
        compression_type: CompressionType = CompressionType::Producer, "compression.type", None, ANY,
            from ["compression.type"];
        /// How long a tombstone stays in a compacted topic after compaction has met it first.
        delete_retention_ms: i64 = 86_400_000, "delete.retention.ms", Ms, from(0),
            from ["log.cleaner.delete.retention.ms"];
        /// A record of a compacted topic that is older than this is compacted, however little is dirty.
        max_compaction_lag_ms: i64 = i64::MAX, "max.compaction.lag.ms", Ms, from(1),
            from ["log.cleaner.max.compaction.lag.ms"];
        /// Largest batch that is accepted.
        max_message_bytes: i32 = 1_048_588, "max.message.bytes", Bytes, (0, i32::MAX as i64),
            from ["message.max.bytes"];
        /// How far a producer's timestamp may lie in the future.
        message_timestamp_after_max_ms: i64 = 3_600_000, "message.timestamp.after.max.ms", Ms, from(0),
            from ["log.message.timestamp.after.max.ms"];
        /// How far a producer's timestamp may lie in the past.
        message_timestamp_before_max_ms: i64 = i64::MAX, "message.timestamp.before.max.ms", Ms, from(0),
            from ["log.message.timestamp.before.max.ms"];
        /// Whether records keep the producer's timestamp or get the broker's.
        message_timestamp_type: TimestampType = TimestampType::CreateTime, "message.timestamp.type", None, ANY,
            from ["log.message.timestamp.type"];
        /// A compacted partition is compacted when more than this share of it was not compacted yet.
        min_cleanable_dirty_ratio: Share = Share { millionths: 500_000 }, "min.cleanable.dirty.ratio", None, ANY,
            from ["log.cleaner.min.cleanable.ratio"];
        /// No record of a compacted topic that is younger than this is compacted.
        min_compaction_lag_ms: i64 = 0, "min.compaction.lag.ms", Ms, from(0),
            from ["log.cleaner.min.compaction.lag.ms"];
        /// In-sync replicas that a produce with acks=all needs.
        min_insync_replicas: i32 = 1, "min.insync.replicas", None, (1, i32::MAX as i64),
            from ["min.insync.replicas"];
        /// Whether a replica that is not in sync may lead if no other one can: what was acknowledged may be lost then.
        unclean_leader_election_enable: bool = false, "unclean.leader.election.enable", None, ANY,
            from ["unclean.leader.election.enable"];
        /// The oldest segments of a partition are deleted while what is left is no less than this; -1 for never.
        retention_bytes: i64 = -1, "retention.bytes", Bytes, from(-1),
            from ["log.retention.bytes"];
        /// Segments older than this are deleted; -1 for never.
        retention_ms: i64 = 604_800_000, "retention.ms", Ms, from(-1),
            from ["log.retention.ms", "log.retention.minutes", "log.retention.hours"];
        /// A segment of this size is followed by a new one.
        segment_bytes: i32 = 1_073_741_824, "segment.bytes", Bytes, (MIB, i32::MAX as i64),
            from ["log.segment.bytes"];
        /// A segment of this age is followed by a new one.
        segment_ms: i64 = 604_800_000, "segment.ms", Ms, from(1),
            from ["log.roll.ms", "log.roll.hours"];
    }
}

impl TopicConfig {
    /// What holds for a topic with these settings of its own. They were checked when they were
    /// made; one that cannot be read, left by another release, counts as not set.
    #[must_use]
    pub fn effective(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Self {
        let mut config = Self::of_broker(broker);
        for (key, text) in overrides {
            let _ = config.set(key, text);
        }
        config
    }

    /// The same for one setting alone, if the topic has it of its own.
    fn with_own(
        broker: &BrokerConfig,
        overrides: &BTreeMap<String, String>,
        key: &str,
    ) -> Option<Self> {
        let text = overrides.get(key)?;
        let mut config = Self::of_broker(broker);
        let _ = config.set(key, text);
        Some(config)
    }

    /// What `max.message.bytes` of such a topic is, without a look at the rest.
    #[must_use]
    pub fn effective_max_message_bytes(
        broker: &BrokerConfig,
        overrides: &BTreeMap<String, String>,
    ) -> i32 {
        let own = Self::with_own(broker, overrides, "max.message.bytes");
        own.map_or(broker.message_max_bytes, |own| own.max_message_bytes)
    }

    /// The same for [`UNCLEAN_ELECTIONS`].
    #[must_use]
    pub fn allows_unclean_elections(
        broker: &BrokerConfig,
        overrides: &BTreeMap<String, String>,
    ) -> bool {
        let own = Self::with_own(broker, overrides, UNCLEAN_ELECTIONS);
        own.map_or(broker.unclean_leader_election_enable, |own| {
            own.unclean_leader_election_enable
        })
    }

    /// The same for `cleanup.policy`.
    #[must_use]
    pub fn effective_cleanup_policy(
        broker: &BrokerConfig,
        overrides: &BTreeMap<String, String>,
    ) -> CleanupPolicy {
        let own = Self::with_own(broker, overrides, "cleanup.policy");
        own.map_or(broker.log_cleanup_policy, |own| own.cleanup_policy)
    }

    /// What holds for a topic without settings of its own.
    #[must_use]
    pub fn of_broker(broker: &BrokerConfig) -> Self {
        Self {
            cleanup_policy: broker.log_cleanup_policy,
            compression_type: broker.compression_type,
            delete_retention_ms: broker.log_cleaner_delete_retention_ms,
            max_compaction_lag_ms: broker.log_cleaner_max_compaction_lag_ms,
            max_message_bytes: broker.message_max_bytes,
            message_timestamp_after_max_ms: broker.log_message_timestamp_after_max_ms,
            message_timestamp_before_max_ms: broker.log_message_timestamp_before_max_ms,
            message_timestamp_type: broker.log_message_timestamp_type,
            min_cleanable_dirty_ratio: broker.log_cleaner_min_cleanable_ratio,
            min_compaction_lag_ms: broker.log_cleaner_min_compaction_lag_ms,
            min_insync_replicas: broker.min_insync_replicas,
            unclean_leader_election_enable: broker.unclean_leader_election_enable,
            retention_bytes: broker.log_retention_bytes,
            retention_ms: broker.retention_ms(),
            segment_bytes: broker.log_segment_bytes,
            segment_ms: broker.roll_ms(),
        }
    }

    /// Checks one setting that a client wants for a topic. The broker's own topics are compacted, and cannot be
    /// anything else.
    ///
    /// # Errors
    /// The message for the client.
    pub fn check(topic: &str, key: &str, text: &str) -> Result<(), String> {
        let mut config = Self::default();
        match config.set(key, text) {
            Ok(()) if key != "cleanup.policy" => Ok(()),
            Ok(()) if is_internal(topic) => match config.cleanup_policy {
                CleanupPolicy::Compact => Ok(()),
                CleanupPolicy::Delete | CleanupPolicy::CompactAndDelete => Err(format!(
                    "Invalid value {text} for configuration {key}: {topic} must be compacted"
                )),
            },
            Ok(()) => Ok(()),
            Err(SetError::Invalid(expected)) => Err(format!(
                "Invalid value {text} for configuration {key}: expected {expected}"
            )),
            Err(SetError::Unknown) => match inert::find(&inert::TOPIC, key) {
                Some(inert) => Self::check_inert(inert, text),
                None => Err(format!("Unknown topic config name: {key}")),
            },
        }
    }

    fn check_inert(inert: &Inert, text: &str) -> Result<(), String> {
        let checked = inert.check(text).and_then(|text| inert.honour(&text));
        checked.map_err(|expected| {
            let key = inert.setting.key;
            format!("Invalid value {text} for configuration {key}: expected {expected}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_a_broker_at_its_defaults() {
        assert_eq!(
            TopicConfig::of_broker(&BrokerConfig::default()),
            TopicConfig::default()
        );
    }

    #[test]
    fn a_topics_own_setting_wins() {
        let broker = BrokerConfig {
            log_retention_hours: 1,
            ..BrokerConfig::default()
        };
        let own = BTreeMap::from([
            ("segment.bytes".to_owned(), "2097152".to_owned()),
            ("retention.bytes".to_owned(), "rubbish".to_owned()),
        ]);
        let config = TopicConfig::effective(&broker, &own);
        assert_eq!(config.retention_ms, 3_600_000);
        assert_eq!(config.segment_bytes, 2_097_152);
        assert_eq!(config.retention_bytes, -1);
    }

    #[test]
    fn clients_get_told_what_is_wrong() {
        assert_eq!(TopicConfig::check("t", "retention.ms", "-1"), Ok(()));
        assert!(
            TopicConfig::check("t", "retention.ms", "-2")
                .unwrap_err()
                .contains("at least -1")
        );
        for policy in ["compact", "delete", "delete,compact"] {
            assert_eq!(TopicConfig::check("t", "cleanup.policy", policy), Ok(()));
        }
        assert!(TopicConfig::check("t", "compression.type", "none").is_err());
        assert_eq!(
            TopicConfig::check("__consumer_offsets", "cleanup.policy", "compact"),
            Ok(())
        );
        assert!(TopicConfig::check("__consumer_offsets", "cleanup.policy", "delete").is_err());
        assert!(
            TopicConfig::check("t", "retention", "1")
                .unwrap_err()
                .contains("Unknown")
        );
    }

    #[test]
    fn what_changes_nothing_is_taken_if_kafka_would_take_it() {
        for (key, value) in [
            ("compression.type", "gzip"),
            ("flush.messages", "1000"),
            ("min.cleanable.dirty.ratio", "0.5"),
            ("local.retention.ms", "-2"),
            ("remote.storage.enable", "false"),
        ] {
            assert_eq!(TopicConfig::check("t", key, value), Ok(()), "{key}");
        }
        for (key, value, why) in [
            ("flush.messages", "0", "at least 1"),
            ("remote.storage.enable", "true", "tiered storage"),
            ("message.format.version", "3.0", "Unknown topic config name"),
        ] {
            let refused = TopicConfig::check("t", key, value).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn every_synonym_is_a_setting_of_the_broker() {
        for setting in TopicConfig::SETTINGS {
            assert!(!setting.synonyms.is_empty(), "{}", setting.key);
            for synonym in setting.synonyms {
                assert!(BrokerConfig::setting(synonym).is_some(), "{synonym}");
            }
        }
    }
}
