//! IncrementalAlterConfigs (44), versions 0-1.
//!
//! - Topics: set, delete, append, subtract; all changes of a resource or none of them. What a
//!   topic cannot have is INVALID_CONFIG.
//! - Brokers, one or all: what takes effect while the broker runs, or changes nothing here. The others are
//!   INVALID_REQUEST, as from Kafka; so is what is no setting of the broker, which Kafka keeps for plugins.
//! - Groups, whether there is such a group or not: set and delete; what a group cannot have is INVALID_CONFIG, as is
//!   what is for share groups, of which there are none. POLICY_VIOLATION where settings of groups have no more room.
//! - Loggers and subscriptions to metrics of clients have nothing that could be changed here.
//! - A resource that comes twice is INVALID_REQUEST.

use bytes::Bytes;
use kafka_wire::IncrementalAlterConfigsRequest;
use kafka_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_wire_core::StrBytes;

use super::altering::{Alters, Resources, apply, target, value};
use super::deciding::{Deciding, Decision, decide};
use super::full;
use crate::base::{ErrorCode, Refused};
use crate::controller::{ConfigOp, each_once};
use crate::wire::{RequestHeader, WireError};

/// Decides on an IncrementalAlterConfigs request.
pub fn incremental_alter_configs(
    header: &RequestHeader,
    body: Bytes,
) -> Result<Box<dyn Decision>, WireError> {
    decide::<Resources<IncrementalAlterConfigsRequest>>(header, body)
}

impl Alters for IncrementalAlterConfigsRequest {
    type Answer = AlterConfigsResourceResponse;

    fn only_validates(&self) -> bool {
        self.validate_only
    }

    fn name(resource: &AlterConfigsResource) -> (i8, StrBytes) {
        (resource.resource_type, resource.resource_name.clone())
    }

    fn alter(cx: &mut Deciding<'_>, resource: &AlterConfigsResource) -> Result<(), Refused> {
        let name = resource.resource_name.as_str();
        let target = target(&cx.ctx, resource.resource_type, name)?;
        each_once(resource.configs.iter().map(|config| config.name.as_str()))?;
        let changes: Result<Vec<_>, _> = resource.configs.iter().map(config_op).collect();
        apply(cx, &target, &changes?)
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

fn config_op(config: &AlterableConfig) -> Result<(String, ConfigOp), Refused> {
    let invalid = |why| Refused::because(ErrorCode::InvalidRequest, why);
    let key = config.name.as_str().to_owned();
    let text = || value(&key, config.value.as_ref());
    let op = match config.config_operation {
        0 => ConfigOp::Set(text()?),
        1 => ConfigOp::Delete,
        2 => ConfigOp::Append(text()?),
        3 => ConfigOp::Subtract(text()?),
        other => return Err(invalid(format!("Unknown operation type {other}"))),
    };
    Ok((key, op))
}

#[cfg(test)]
mod tests {
    use super::super::describe_configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
    use super::super::testing::{Cluster, text};
    use super::*;
    use crate::base::NodeId;
    use crate::controller::FEATURE_LEVEL;

    fn resource(
        kind: i8,
        name: &str,
        changes: &[(&str, i8, Option<&str>)],
    ) -> AlterConfigsResource {
        let one = |(key, op, value): &(&str, i8, Option<&str>)| {
            let mut config = AlterableConfig::default();
            config.name = text(key);
            config.config_operation = *op;
            config.value = value.map(text);
            config
        };
        let mut resource = AlterConfigsResource::default();
        resource.resource_type = kind;
        resource.resource_name = text(name);
        resource.configs = changes.iter().map(one).collect();
        resource
    }

    fn request(resources: &[AlterConfigsResource]) -> IncrementalAlterConfigsRequest {
        let mut request = IncrementalAlterConfigsRequest::default();
        request.resources = resources.to_vec();
        request
    }

    fn codes(
        cluster: &mut Cluster,
        version: i16,
        request: &IncrementalAlterConfigsRequest,
    ) -> Vec<i16> {
        let response = cluster.ask(version, request, incremental_alter_configs);
        response
            .responses
            .iter()
            .map(|resource| resource.error_code)
            .collect()
    }

    #[test]
    fn every_version_sets_and_deletes() {
        for version in 0..=1 {
            let mut cluster = Cluster::with(&[("a", 1)]);
            let set = request(&[resource(TOPIC, "a", &[("retention.ms", 0, Some("5"))])]);
            assert_eq!(codes(&mut cluster, version, &set), [0]);
            assert_eq!(
                cluster.image.topic("a").unwrap().configs["retention.ms"],
                "5"
            );
            let delete = request(&[resource(TOPIC, "a", &[("retention.ms", 1, None)])]);
            assert_eq!(codes(&mut cluster, version, &delete), [0]);
            assert!(cluster.image.topic("a").unwrap().configs.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_done() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        for (resource, code) in [
            (resource(TOPIC, "x", &[("retention.ms", 0, Some("5"))]), 3),
            (resource(TOPIC, "a", &[("retention.ms", 0, Some("x"))]), 40),
            (resource(TOPIC, "a", &[("retention.ms", 0, None)]), 42),
            (resource(TOPIC, "a", &[("retention.ms", 9, Some("5"))]), 42),
            (resource(TOPIC, "a", &[("retention.ms", 2, Some("5"))]), 40),
            (
                resource(BROKER, "1", &[("num.partitions", 0, Some("5"))]),
                42,
            ),
            (
                resource(BROKER, "", &[("num.partitions", 0, Some("5"))]),
                42,
            ),
            (resource(BROKER_LOGGER, "1", &[]), 40),
            (resource(CLIENT_METRICS, "m", &[]), 42),
            // Before every broker knows them.
            (resource(GROUP, "g", &[]), 35),
            (resource(GROUP, "", &[]), 42),
            (resource(64, "1", &[]), 42),
            (resource(TOPIC, "", &[]), 42),
            (resource(TOPIC, "no good", &[]), 17),
            (
                resource(BROKER, "2", &[("log.retention.ms", 0, Some("5"))]),
                42,
            ),
        ] {
            let request = request(&[resource]);
            assert_eq!(codes(&mut cluster, 1, &request), [code], "{request:?}");
            assert_eq!(cluster.committed, 0);
        }
    }

    #[test]
    fn settings_of_groups() {
        const SESSION: &str = "consumer.session.timeout.ms";
        let mut cluster = Cluster::new();
        cluster.image.features = FEATURE_LEVEL;
        let change = |op, value| resource(GROUP, "g", &[(SESSION, op, value)]);
        let share = resource(
            GROUP,
            "g",
            &[("share.session.timeout.ms", 0, Some("50000"))],
        );
        let unknown = |op| resource(GROUP, "g", &[("nobody's", op, Some("1"))]);
        for (resource, code) in [
            (change(0, Some("50000")), 0),
            (change(0, Some("60001")), 40),
            (change(0, Some("x")), 40),
            (change(2, Some("1")), 40),
            (change(3, Some("1")), 40),
            (change(0, None), 42),
            (share, 40),
            (unknown(0), 40),
            (unknown(1), 0),
            (unknown(2), 40),
            (unknown(3), 40),
        ] {
            let request = request(&[resource]);
            assert_eq!(codes(&mut cluster, 1, &request), [code], "{request:?}");
            let own = cluster.image.groups.get("g").unwrap();
            assert_eq!(own.len(), 1);
            assert_eq!(own[SESSION], "50000");
        }
        let gone = request(&[change(1, None)]);
        assert_eq!(codes(&mut cluster, 1, &gone), [0]);
        assert!(cluster.image.groups.is_empty());
    }

    #[test]
    fn settings_of_brokers_are_records_too() {
        let mut cluster = Cluster::new();
        let set = |name: &str| resource(BROKER, name, &[("log.retention.ms", 0, Some("5"))]);
        assert_eq!(
            codes(&mut cluster, 1, &request(&[set("1"), set("")])),
            [0, 0]
        );
        for node in [Some(cluster.config.node()), None] {
            let settings = cluster.image.broker_configs(node).unwrap();
            assert_eq!(settings["log.retention.ms"], "5");
        }
        let nothing = request(&[resource(BROKER, "1", &[])]);
        assert_eq!(codes(&mut cluster, 1, &nothing), [0]);
    }

    /// Whoever leads decides, and need not be the one whose settings they are.
    #[test]
    fn settings_of_other_brokers_are_theirs() {
        let mut cluster = Cluster::of_three();
        let set = |name: &str| resource(BROKER, name, &[("log.retention.ms", 0, Some("5"))]);
        let both = request(&[set("2"), set("4")]);
        assert_eq!(codes(&mut cluster, 1, &both), [0, 42]);
        let settings = |node: i32| cluster.image.broker_configs(Some(NodeId(node)));
        assert_eq!(settings(2).unwrap()["log.retention.ms"], "5");
        assert!(settings(1).is_none() && settings(4).is_none());
    }

    #[test]
    fn twice_or_only_validated_changes_nothing() {
        let mut cluster = Cluster::with(&[("a", 1), ("b", 1)]);
        let set = |name: &str| resource(TOPIC, name, &[("retention.ms", 0, Some("5"))]);
        let twice = request(&[set("a"), set("b"), set("a")]);
        assert_eq!(codes(&mut cluster, 1, &twice), [42, 0]);
        assert_eq!(cluster.committed, 1);
        let mut only = request(&[set("a")]);
        only.validate_only = true;
        assert_eq!(codes(&mut cluster, 1, &only), [0]);
        assert_eq!(cluster.committed, 0);
    }
}
