//! Settings of brokers that clients change while they run: kept as metadata records, for one broker or
//! for all, and laid over what the file says.

use std::collections::BTreeMap;

use super::broker::BrokerConfig;
use super::inert::{self, Update};
use super::setting::SetError;
use super::topic::UNCLEAN_ELECTIONS;

/// Settings that are acted on and take effect at once. All of them are the defaults of topics, and what
/// is read with each request or handed on; Kafka changes some more while it runs (listeners, bounds of connections).
pub(super) const LIVE: &[&str] = &[
    "compression.type",
    "group.consumer.assignment.interval.ms",
    "group.streams.assignment.interval.ms",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.delete.retention.ms",
    "log.cleaner.max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleanup.policy",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.type",
    "log.retention.bytes",
    "log.retention.ms",
    "log.roll.ms",
    "log.segment.bytes",
    "message.max.bytes",
    "min.insync.replicas",
    "producer.id.expiration.ms",
    UNCLEAN_ELECTIONS,
];

/// Why a setting of a broker cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DynamicError {
    /// There is no such setting.
    Unknown,
    /// It is read at the start.
    ReadOnly,
    /// It is of one broker, not of all.
    SingleBroker,
    /// The value is not allowed; what was expected.
    Invalid(String),
}

/// Who may change a setting of the broker while it runs; `None` if there is no such setting.
#[must_use]
pub fn update_of(key: &str) -> Option<Update> {
    if BrokerConfig::setting(key).is_none() {
        let inert = inert::find(&inert::BROKER, key)?;
        // A secret that nobody needs is not worth to be written down.
        return Some(if inert.is_sensitive() {
            Update::ReadOnly
        } else {
            inert.update
        });
    }
    Some(if LIVE.contains(&key) {
        Update::Cluster
    } else {
        Update::ReadOnly
    })
}

/// Checks a change of a setting of one broker, or of all.
///
/// # Errors
/// Why it cannot be changed.
pub fn check_dynamic(key: &str, text: Option<&str>, of_all: bool) -> Result<(), DynamicError> {
    match update_of(key).ok_or(DynamicError::Unknown)? {
        Update::ReadOnly => return Err(DynamicError::ReadOnly),
        Update::Broker if of_all => return Err(DynamicError::SingleBroker),
        Update::Broker | Update::Cluster | Update::Resource => {}
    }
    let Some(text) = text else {
        return Ok(());
    };
    let mut config = BrokerConfig::default();
    match config.set(key, text) {
        Ok(()) => {
            let contradictions = config.contradictions();
            let wrong = contradictions.into_iter().find(|(wrong, _)| *wrong == key);
            wrong.map_or(Ok(()), |(_, why)| Err(DynamicError::Invalid(why)))
        }
        Err(SetError::Invalid(expected)) => Err(DynamicError::Invalid(expected)),
        Err(SetError::Unknown) => {
            let inert = inert::find(&inert::BROKER, key).ok_or(DynamicError::Unknown)?;
            let checked = inert.check(text).and_then(|text| inert.honour(&text));
            checked.map_err(DynamicError::Invalid)
        }
    }
}

impl BrokerConfig {
    /// What holds with these settings for all brokers and for this one. They were checked when they were
    /// made; one that cannot be read, left by another release, counts as not set.
    #[must_use]
    pub fn with_dynamic(
        &self,
        all: Option<&BTreeMap<String, String>>,
        own: Option<&BTreeMap<String, String>>,
    ) -> Self {
        let mut config = self.clone();
        for (key, text) in all.into_iter().chain(own).flatten() {
            if LIVE.contains(&key.as_str()) {
                let _ = config.set(key, text);
            }
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn a_brokers_own_wins_over_that_of_all_and_over_the_file() {
        let file = BrokerConfig {
            log_retention_ms: Some(1),
            num_partitions: 3,
            ..BrokerConfig::default()
        };
        let all = of(&[("log.retention.ms", "2"), ("num.partitions", "9")]);
        let own = of(&[("log.retention.ms", "3"), ("message.max.bytes", "rubbish")]);
        assert_eq!(file.with_dynamic(None, None), file);
        assert_eq!(
            file.with_dynamic(Some(&all), None).log_retention_ms,
            Some(2)
        );
        let both = file.with_dynamic(Some(&all), Some(&own));
        assert_eq!(both.log_retention_ms, Some(3));
        assert_eq!(
            (both.num_partitions, both.message_max_bytes),
            (3, 1_048_588)
        );
    }

    #[test]
    fn what_can_be_changed() {
        for (key, text, all) in [
            ("log.retention.ms", Some("5"), true),
            ("log.retention.ms", None, true),
            ("num.io.threads", Some("16"), true),
            ("ssl.keystore.location", Some("/x"), false),
        ] {
            assert_eq!(check_dynamic(key, text, all), Ok(()), "{key}");
        }
        let invalid = |result| matches!(result, Err(DynamicError::Invalid(_)));
        assert!(invalid(check_dynamic("log.retention.ms", Some("x"), true)));
        assert!(invalid(check_dynamic("log.retention.ms", Some("0"), true)));
        assert!(invalid(check_dynamic(
            "log.cleanup.policy",
            Some("compacted"),
            true
        )));
        assert!(invalid(check_dynamic("num.io.threads", Some("0"), true)));
        for (key, all, why) in [
            ("num.partitions", true, DynamicError::ReadOnly),
            ("ssl.keystore.password", false, DynamicError::ReadOnly),
            ("ssl.keystore.location", true, DynamicError::SingleBroker),
            ("no.such", true, DynamicError::Unknown),
        ] {
            assert_eq!(check_dynamic(key, Some("5"), all), Err(why), "{key}");
        }
    }

    #[test]
    fn every_live_setting_is_one() {
        for key in LIVE {
            assert!(BrokerConfig::setting(key).is_some(), "{key}");
        }
    }
}
