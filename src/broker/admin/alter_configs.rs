//! AlterConfigs (33), versions 0-2.
//!
//! - What a topic, broker or group has of its own afterwards is what the request names: the rest goes back to
//!   its default. The broker's own topics stay compacted nevertheless.
//! - All changes of a resource or none of them; the errors are those of IncrementalAlterConfigs.
//! - Loggers cannot be named, as in Kafka.
//! - A resource that comes twice is INVALID_REQUEST.

use bytes::Bytes;
use kafka_wire::AlterConfigsRequest;
use kafka_wire::alter_configs_request::AlterConfigsResource;
use kafka_wire::alter_configs_response::AlterConfigsResourceResponse;
use kafka_wire_core::StrBytes;

use super::altering::{Alters, Resources, apply, target, value};
use super::deciding::{Deciding, Decision, decide};
use super::describe_configs::{BROKER_LOGGER, unsupported};
use super::full;
use crate::base::Refused;
use crate::controller::{each_once, replacing};
use crate::wire::{RequestHeader, WireError};

/// Decides on an AlterConfigs request.
pub fn alter_configs(header: &RequestHeader, body: Bytes) -> Result<Box<dyn Decision>, WireError> {
    decide::<Resources<AlterConfigsRequest>>(header, body)
}

impl Alters for AlterConfigsRequest {
    type Answer = AlterConfigsResourceResponse;

    fn only_validates(&self) -> bool {
        self.validate_only
    }

    fn name(resource: &AlterConfigsResource) -> (i8, StrBytes) {
        (resource.resource_type, resource.resource_name.clone())
    }

    fn alter(cx: &mut Deciding<'_>, resource: &AlterConfigsResource) -> Result<(), Refused> {
        if resource.resource_type == BROKER_LOGGER {
            return Err(unsupported(BROKER_LOGGER));
        }
        let name = resource.resource_name.as_str();
        let target = target(&cx.ctx, resource.resource_type, name)?;
        each_once(resource.configs.iter().map(|config| config.name.as_str()))?;
        let wanted = resource.configs.iter().map(|config| {
            let key = config.name.as_str().to_owned();
            let value = value(&key, config.value.as_ref())?;
            Ok((key, value))
        });
        let wanted = wanted.collect::<Result<Vec<_>, Refused>>()?;
        let changes = replacing(cx.draft, &target, wanted);
        apply(cx, &target, &changes)
    }

    fn answer(
        name: (i8, StrBytes),
        outcome: (i16, Option<StrBytes>),
    ) -> AlterConfigsResourceResponse {
        let mut shown = AlterConfigsResourceResponse::default();
        (shown.resource_type, shown.resource_name) = name;
        (shown.error_code, shown.error_message) = outcome;
        shown
    }

    fn refuse(answer: &mut AlterConfigsResourceResponse) {
        full::refuse(&mut answer.error_code, &mut answer.error_message);
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::alter_configs_request::AlterableConfig;

    use super::super::describe_configs::{BROKER, GROUP, TOPIC};
    use super::super::testing::{Cluster, text};
    use super::*;
    use crate::controller::FEATURE_LEVEL;

    type Settings<'a> = &'a [(&'a str, Option<&'a str>)];

    fn request(resources: &[(i8, &str, Settings<'_>)]) -> AlterConfigsRequest {
        let setting = |(key, value): &(&str, Option<&str>)| {
            let mut config = AlterableConfig::default();
            config.name = text(key);
            config.value = value.map(text);
            config
        };
        let mut request = AlterConfigsRequest::default();
        for (kind, name, configs) in resources {
            let mut resource = AlterConfigsResource::default();
            resource.resource_type = *kind;
            resource.resource_name = text(name);
            resource.configs = configs.iter().map(setting).collect();
            request.resources.push(resource);
        }
        request
    }

    fn codes(cluster: &mut Cluster, version: i16, request: &AlterConfigsRequest) -> Vec<i16> {
        let response = cluster.ask(version, request, alter_configs);
        response.responses.iter().map(|r| r.error_code).collect()
    }

    #[test]
    fn every_version_replaces_the_settings_of_a_topic() {
        for version in 0..=2 {
            let mut cluster = Cluster::with(&[("a", 1)]);
            let both = [("retention.ms", Some("5")), ("segment.ms", Some("9"))];
            assert_eq!(
                codes(&mut cluster, version, &request(&[(TOPIC, "a", &both)])),
                [0]
            );
            let one = [("retention.ms", Some("7"))];
            assert_eq!(
                codes(&mut cluster, version, &request(&[(TOPIC, "a", &one)])),
                [0]
            );
            let configs = |cluster: &Cluster| cluster.image.topic("a").unwrap().configs.clone();
            assert_eq!(configs(&cluster).len(), 1);
            assert_eq!(configs(&cluster)["retention.ms"], "7");
            assert_eq!(
                codes(&mut cluster, version, &request(&[(TOPIC, "a", &[])])),
                [0]
            );
            assert!(configs(&cluster).is_empty());
        }
    }

    #[test]
    fn settings_of_brokers_are_replaced_too() {
        let mut cluster = Cluster::new();
        let all = |cluster: &Cluster| cluster.image.broker_configs(None).map(|set| set.len());
        let set = [
            ("log.retention.ms", Some("5")),
            ("num.io.threads", Some("9")),
        ];
        assert_eq!(codes(&mut cluster, 2, &request(&[(BROKER, "", &set)])), [0]);
        assert_eq!(all(&cluster), Some(2));
        assert_eq!(
            codes(&mut cluster, 2, &request(&[(BROKER, "", &set[..1])])),
            [0]
        );
        assert_eq!(all(&cluster), Some(1));
        assert_eq!(codes(&mut cluster, 2, &request(&[(BROKER, "", &[])])), [0]);
        assert_eq!(all(&cluster), None);
    }

    #[test]
    fn settings_of_groups_are_replaced_too() {
        let mut cluster = Cluster::new();
        cluster.image.features = FEATURE_LEVEL;
        let own = |cluster: &Cluster| cluster.image.groups.get("g").map(|own| own.len());
        let set = [
            ("consumer.session.timeout.ms", Some("50000")),
            ("streams.num.standby.replicas", Some("1")),
        ];
        assert_eq!(codes(&mut cluster, 2, &request(&[(GROUP, "g", &set)])), [0]);
        assert_eq!(own(&cluster), Some(2));
        let one = request(&[(GROUP, "g", &set[1..])]);
        assert_eq!(codes(&mut cluster, 2, &one), [0]);
        assert_eq!(own(&cluster), Some(1));
        assert_eq!(codes(&mut cluster, 2, &request(&[(GROUP, "g", &[])])), [0]);
        assert_eq!(own(&cluster), None);
    }

    #[test]
    fn what_cannot_be_done_changes_nothing() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        cluster.image.features = FEATURE_LEVEL;
        let good: (&str, Option<&str>) = ("retention.ms", Some("5"));
        for (kind, name, configs, code) in [
            (TOPIC, "x", [good], 3),
            (TOPIC, "", [good], 42),
            (TOPIC, "no good", [good], 17),
            (TOPIC, "a", [("retention.ms", None)], 42),
            (TOPIC, "a", [("retention.ms", Some("-5"))], 40),
            (TOPIC, "a", [("nonsense", Some("1"))], 40),
            (BROKER, "1", [("num.partitions", Some("5"))], 42),
            (BROKER, "7", [("log.retention.ms", Some("5"))], 42),
            (BROKER_LOGGER, "1", [("root", Some("INFO"))], 42),
            (GROUP, "g", [("consumer.session.timeout.ms", Some("1"))], 40),
            (
                GROUP,
                "",
                [("consumer.session.timeout.ms", Some("50000"))],
                42,
            ),
        ] {
            let request = request(&[(kind, name, &configs)]);
            assert_eq!(codes(&mut cluster, 2, &request), [code], "{request:?}");
            assert_eq!(cluster.committed, 0);
        }
        let twice = request(&[(TOPIC, "a", &[good]), (TOPIC, "a", &[])]);
        assert_eq!(codes(&mut cluster, 2, &twice), [42]);
        let mut only = request(&[(TOPIC, "a", &[good])]);
        only.validate_only = true;
        assert_eq!(
            (codes(&mut cluster, 2, &only), cluster.committed),
            (vec![0], 0)
        );
    }
}
