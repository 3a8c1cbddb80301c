//! What single groups have of their own settings, for the coordinators of a shard.

use std::sync::Arc;

use crate::config::{BrokerConfig, GroupSettings};
use crate::controller::GroupConfigs;
use crate::group::{ConsumerConfig, OwnSettings, StreamsConfig};

/// Settings of groups over those of the broker.
#[derive(Debug)]
pub struct ImageSettings {
    pub broker: Arc<BrokerConfig>,
    pub groups: Arc<GroupConfigs>,
}

impl ImageSettings {
    fn of(&self, group: &str) -> Option<GroupSettings> {
        let own = self.groups.get(group)?;
        Some(GroupSettings::effective(&self.broker, Some(own)))
    }
}

impl OwnSettings for ImageSettings {
    fn consumer(&self, group: &str, config: &mut ConsumerConfig) {
        if let Some(own) = self.of(group) {
            config.session_timeout_ms = own.consumer_session_timeout_ms.max(1) as u64;
            config.heartbeat_interval_ms = own.consumer_heartbeat_interval_ms;
            config.assignment_interval_ms = own.consumer_assignment_interval_ms.max(0) as u64;
        }
    }

    fn streams(&self, group: &str, config: &mut StreamsConfig) {
        if let Some(own) = self.of(group) {
            config.session_timeout_ms = own.streams_session_timeout_ms.max(1) as u64;
            config.heartbeat_interval_ms = own.streams_heartbeat_interval_ms;
            config.assignment_interval_ms = own.streams_assignment_interval_ms.max(0) as u64;
            config.initial_rebalance_delay_ms =
                own.streams_initial_rebalance_delay_ms.max(0) as u64;
            config.standby_replicas = own.streams_num_standby_replicas.max(0) as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{ConfigResource, Image, MetadataRecord};

    #[test]
    fn what_a_group_has_of_its_own_holds_for_it_alone() {
        let mut image = Image::default();
        for (key, value) in [
            ("consumer.session.timeout.ms", "50000"),
            ("consumer.heartbeat.interval.ms", "6000"),
            ("consumer.assignment.interval.ms", "7"),
            ("streams.session.timeout.ms", "51000"),
            ("streams.heartbeat.interval.ms", "7000"),
            ("streams.assignment.interval.ms", "8"),
            ("streams.initial.rebalance.delay.ms", "9"),
            ("streams.num.standby.replicas", "2"),
        ] {
            let record = MetadataRecord::Config {
                resource: ConfigResource::Group("g".to_owned()),
                key: key.to_owned(),
                value: Some(value.to_owned()),
            };
            image.replay(&record).unwrap();
        }
        let own = ImageSettings {
            broker: Arc::default(),
            groups: Arc::clone(&image.groups),
        };
        let of = |group| {
            let (mut consumer, mut streams) = (ConsumerConfig::default(), StreamsConfig::default());
            own.consumer(group, &mut consumer);
            own.streams(group, &mut streams);
            let consumer = (
                consumer.session_timeout_ms,
                consumer.heartbeat_interval_ms,
                consumer.assignment_interval_ms,
            );
            let more = (streams.initial_rebalance_delay_ms, streams.standby_replicas);
            let streams = (
                streams.session_timeout_ms,
                streams.heartbeat_interval_ms,
                streams.assignment_interval_ms,
            );
            (consumer, streams, more)
        };
        assert_eq!(of("g"), ((50_000, 6_000, 7), (51_000, 7_000, 8), (9, 2)));
        let others = ((45_000, 5_000, 0), (45_000, 5_000, 1_000), (3_000, 0));
        assert_eq!(of("h"), others);
    }
}
