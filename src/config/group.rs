//! The settings of one group (KIP-848, KIP-1071): their table, the defaults they take from the broker, and the check of
//! what a client sets. They are those of groups whose members the coordinator assigns.

use std::collections::BTreeMap;

use super::broker::BrokerConfig;
use super::inert;
use super::setting::{SetError, settings};

const MAX: i64 = i32::MAX as i64;

settings! {
    /// What holds for one group: its own settings, and the broker's where it has none.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct GroupSettings {
        /// Least time between two assignments of a group of the consumer protocol.
        consumer_assignment_interval_ms: i32 = 1000, "consumer.assignment.interval.ms", Ms, (0, MAX),
            from ["group.consumer.assignment.interval.ms"];
        /// How often members of a group of the consumer protocol are told to send heartbeats.
        consumer_heartbeat_interval_ms: i32 = 5000, "consumer.heartbeat.interval.ms", Ms, (1, MAX),
            from ["group.consumer.heartbeat.interval.ms"];
        /// A member of a group of the consumer protocol that sends no heartbeat for so long is removed.
        consumer_session_timeout_ms: i32 = 45_000, "consumer.session.timeout.ms", Ms, (1, MAX),
            from ["group.consumer.session.timeout.ms"];
        /// Least time between two assignments of a streams group.
        streams_assignment_interval_ms: i32 = 1000, "streams.assignment.interval.ms", Ms, (0, MAX),
            from ["group.streams.assignment.interval.ms"];
        /// How often members of a streams group are told to send heartbeats.
        streams_heartbeat_interval_ms: i32 = 5000, "streams.heartbeat.interval.ms", Ms, (1, MAX),
            from ["group.streams.heartbeat.interval.ms"];
        /// How long an empty streams group waits for more members when the first one comes.
        streams_initial_rebalance_delay_ms: i32 = 3000, "streams.initial.rebalance.delay.ms", Ms, (0, MAX),
            from ["group.streams.initial.rebalance.delay.ms"];
        /// Standby replicas of each task of a streams group.
        streams_num_standby_replicas: i32 = 0, "streams.num.standby.replicas", None, (0, MAX),
            from ["group.streams.num.standby.replicas"];
        /// A member of a streams group that sends no heartbeat for so long is removed.
        streams_session_timeout_ms: i32 = 45_000, "streams.session.timeout.ms", Ms, (1, MAX),
            from ["group.streams.session.timeout.ms"];
    }
}

impl GroupSettings {
    /// What holds for a group with these settings of its own. One that cannot be read, left by another release, counts
    /// as not set; one that is outside of what the broker allows by now is the nearest that it does.
    #[must_use]
    pub fn effective(broker: &BrokerConfig, own: Option<&BTreeMap<String, String>>) -> Self {
        let mut config = Self::of_broker(broker);
        let Some(own) = own else {
            return config;
        };
        for (key, text) in own {
            let _ = config.set(key, text);
        }
        for (key, value, (min, max)) in config.bounds(broker) {
            if own.contains_key(key) {
                // Bounds of the broker's that contradict each other allow the least.
                *value = (*value).min(max).max(min);
            }
        }
        config
    }

    /// Checks all that a group is to have of its own.
    ///
    /// # Errors
    /// What is wrong, for people: INVALID_CONFIG.
    pub fn check(broker: &BrokerConfig, own: &BTreeMap<String, String>) -> Result<(), String> {
        let mut config = Self::of_broker(broker);
        for (key, text) in own {
            let wrong = |expected: String| {
                format!("Invalid value {text} for configuration {key}: expected {expected}")
            };
            match config.set(key, text) {
                Ok(()) => {}
                Err(SetError::Invalid(expected)) => return Err(wrong(expected)),
                Err(SetError::Unknown) => {
                    let Some(inert) = inert::find(&inert::GROUP, key) else {
                        return Err(format!("Unknown group config name: {key}"));
                    };
                    let checked = inert.check(text).and_then(|text| inert.honour(&text));
                    checked.map_err(wrong)?;
                }
            }
        }
        for (key, value, (min, max)) in config.bounds(broker) {
            if own.contains_key(key) && !(min..=max).contains(value) {
                return Err(format!(
                    "{key} must be between {min} and {max}, as the broker's settings say"
                ));
            }
        }
        for (session, session_ms, interval, interval_ms) in config.pairs() {
            let is_own = own.contains_key(session) || own.contains_key(interval);
            if is_own && session_ms <= interval_ms {
                return Err(format!("{session} must be greater than {interval}"));
            }
        }
        Ok(())
    }

    fn of_broker(broker: &BrokerConfig) -> Self {
        Self {
            consumer_assignment_interval_ms: broker.group_consumer_assignment_interval_ms,
            consumer_heartbeat_interval_ms: broker.group_consumer_heartbeat_interval_ms,
            consumer_session_timeout_ms: broker.group_consumer_session_timeout_ms,
            streams_assignment_interval_ms: broker.group_streams_assignment_interval_ms,
            streams_heartbeat_interval_ms: broker.group_streams_heartbeat_interval_ms,
            streams_initial_rebalance_delay_ms: broker.group_streams_initial_rebalance_delay_ms,
            streams_num_standby_replicas: broker.group_streams_num_standby_replicas,
            streams_session_timeout_ms: broker.group_streams_session_timeout_ms,
        }
    }

    /// What the broker allows of each setting that it bounds, least and most.
    fn bounds(&mut self, broker: &BrokerConfig) -> [(&'static str, &mut i32, (i32, i32)); 7] {
        [
            (
                "consumer.assignment.interval.ms",
                &mut self.consumer_assignment_interval_ms,
                (
                    broker.group_consumer_min_assignment_interval_ms,
                    broker.group_consumer_max_assignment_interval_ms,
                ),
            ),
            (
                "consumer.heartbeat.interval.ms",
                &mut self.consumer_heartbeat_interval_ms,
                (
                    broker.group_consumer_min_heartbeat_interval_ms,
                    broker.group_consumer_max_heartbeat_interval_ms,
                ),
            ),
            (
                "consumer.session.timeout.ms",
                &mut self.consumer_session_timeout_ms,
                (
                    broker.group_consumer_min_session_timeout_ms,
                    broker.group_consumer_max_session_timeout_ms,
                ),
            ),
            (
                "streams.assignment.interval.ms",
                &mut self.streams_assignment_interval_ms,
                (
                    broker.group_streams_min_assignment_interval_ms,
                    broker.group_streams_max_assignment_interval_ms,
                ),
            ),
            (
                "streams.heartbeat.interval.ms",
                &mut self.streams_heartbeat_interval_ms,
                (
                    broker.group_streams_min_heartbeat_interval_ms,
                    broker.group_streams_max_heartbeat_interval_ms,
                ),
            ),
            (
                "streams.num.standby.replicas",
                &mut self.streams_num_standby_replicas,
                (0, broker.group_streams_max_standby_replicas),
            ),
            (
                "streams.session.timeout.ms",
                &mut self.streams_session_timeout_ms,
                (
                    broker.group_streams_min_session_timeout_ms,
                    broker.group_streams_max_session_timeout_ms,
                ),
            ),
        ]
    }

    /// Sessions, and the heartbeats that have to come more often than they end.
    fn pairs(&self) -> [(&'static str, i32, &'static str, i32); 2] {
        [
            (
                "consumer.session.timeout.ms",
                self.consumer_session_timeout_ms,
                "consumer.heartbeat.interval.ms",
                self.consumer_heartbeat_interval_ms,
            ),
            (
                "streams.session.timeout.ms",
                self.streams_session_timeout_ms,
                "streams.heartbeat.interval.ms",
                self.streams_heartbeat_interval_ms,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(own).collect()
    }

    fn check(pairs: &[(&str, &str)]) -> Result<(), String> {
        GroupSettings::check(&BrokerConfig::default(), &own(pairs))
    }

    #[test]
    fn what_a_group_has_of_its_own_holds_and_the_rest_is_the_brokers() {
        let broker = BrokerConfig {
            group_streams_num_standby_replicas: 1,
            ..BrokerConfig::default()
        };
        assert_eq!(
            GroupSettings::effective(&broker, None),
            GroupSettings::of_broker(&broker)
        );
        let own = own(&[
            ("consumer.session.timeout.ms", "50000"),
            ("share.session.timeout.ms", "45000"),
            ("of.another.release", "1"),
            ("streams.session.timeout.ms", "what"),
        ]);
        let found = GroupSettings::effective(&broker, Some(&own));
        let expected = GroupSettings {
            consumer_session_timeout_ms: 50_000,
            ..GroupSettings::of_broker(&broker)
        };
        assert_eq!(found, expected);
        assert_eq!(found.streams_num_standby_replicas, 1);
    }

    #[test]
    fn what_the_broker_does_not_allow_any_more_is_the_nearest_that_it_does() {
        let own = own(&[
            ("consumer.session.timeout.ms", "1"),
            ("streams.num.standby.replicas", "100"),
        ]);
        let broker = BrokerConfig::default();
        let found = GroupSettings::effective(&broker, Some(&own));
        let least = broker.group_consumer_min_session_timeout_ms;
        assert_eq!(found.consumer_session_timeout_ms, least);
        let most = broker.group_streams_max_standby_replicas;
        assert_eq!(found.streams_num_standby_replicas, most);
    }

    #[test]
    fn what_is_set_is_checked_as_by_kafka() {
        for good in [
            &[][..],
            &[("consumer.session.timeout.ms", "45000")],
            &[("streams.initial.rebalance.delay.ms", "0")],
            &[
                ("consumer.session.timeout.ms", "60000"),
                ("consumer.heartbeat.interval.ms", "15000"),
            ],
            // There are no share groups: what holds for them anyway may be said.
            &[("share.session.timeout.ms", "45000")],
            &[("share.auto.offset.reset", "latest")],
            &[("streams.assignor.name", "sticky")],
        ] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        for (bad, why) in [
            (
                &[("nobodys", "1")][..],
                "Unknown group config name: nobodys",
            ),
            (&[("consumer.session.timeout.ms", "x")], "Invalid value x"),
            (&[("consumer.session.timeout.ms", "")], "Invalid value"),
            (&[("consumer.session.timeout.ms", "0")], "1 to"),
            (&[("consumer.session.timeout.ms", "44999")], "between"),
            (&[("consumer.session.timeout.ms", "60001")], "between"),
            (&[("consumer.heartbeat.interval.ms", "15001")], "between"),
            (&[("consumer.assignment.interval.ms", "15001")], "between"),
            (&[("streams.num.standby.replicas", "3")], "between"),
            (&[("streams.num.standby.replicas", "-1")], "0 to"),
            (&[("share.session.timeout.ms", "50000")], "no share groups"),
            (&[("streams.rack.aware.assignment.tags", "zone")], "spread"),
            (&[("streams.assignor.name", "other")], "sticky"),
        ] {
            let found = check(bad).unwrap_err();
            assert!(found.contains(why), "{bad:?}: {found}");
        }
    }

    #[test]
    fn heartbeats_come_more_often_than_sessions_end() {
        let broker = BrokerConfig {
            group_consumer_min_session_timeout_ms: 1,
            ..BrokerConfig::default()
        };
        for own in [
            own(&[("consumer.session.timeout.ms", "5000")]),
            own(&[
                ("consumer.session.timeout.ms", "6000"),
                ("consumer.heartbeat.interval.ms", "6000"),
            ]),
        ] {
            let found = GroupSettings::check(&broker, &own).unwrap_err();
            assert!(found.contains("must be greater than"), "{found}");
        }
        // The broker's own are not judged here.
        let broker = BrokerConfig {
            group_consumer_session_timeout_ms: 5,
            ..broker
        };
        let other = own(&[("streams.session.timeout.ms", "45000")]);
        assert_eq!(GroupSettings::check(&broker, &other), Ok(()));
    }
}
