//! IncrementalAlterConfigs (44), versions 0-1.
//!
//! - Topics: set, delete, append, subtract; all changes of a resource or none of them. What a
//!   topic cannot have is INVALID_CONFIG.
//! - Brokers: INVALID_REQUEST, because the settings of a running broker cannot be changed: they
//!   are changed in its file. Kafka answers so for its read-only settings.
//! - A resource that comes twice is INVALID_REQUEST.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_wire::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::describe_configs::{BROKER, TOPIC, check_broker, unsupported};
use super::{Answer, Ctx, change, full, outcome};
use crate::base::ErrorCode;
use crate::controller::{ConfigOp, Draft, MetadataRecord, Refused, alter_topic_configs};
use crate::wire::RequestHeader;

/// Answers an IncrementalAlterConfigs request.
#[must_use]
pub fn incremental_alter_configs(ctx: &mut Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    change(
        header,
        body,
        |request| respond(ctx, request),
        Some(full::configs_refused),
    )
}

fn respond(
    ctx: &Ctx<'_>,
    request: IncrementalAlterConfigsRequest,
) -> (IncrementalAlterConfigsResponse, Vec<MetadataRecord>) {
    let mut count = BTreeMap::new();
    for resource in &request.resources {
        *count
            .entry((resource.resource_type, resource.resource_name.clone()))
            .or_insert(0) += 1;
    }
    let mut draft = Draft::new(ctx.image);
    let mut response = IncrementalAlterConfigsResponse::default();
    for resource in request.resources {
        let result = match count.remove(&(resource.resource_type, resource.resource_name.clone())) {
            None => continue,
            Some(1) => alter(ctx, &mut draft, &resource),
            Some(_) => Err(Refused::because(
                ErrorCode::InvalidRequest,
                "Each resource must appear at most once.",
            )),
        };
        let mut shown = AlterConfigsResourceResponse::default();
        shown.resource_type = resource.resource_type;
        shown.resource_name = resource.resource_name;
        (shown.error_code, shown.error_message) = outcome(result.as_ref().err());
        response.responses.push(shown);
    }
    let records = if request.validate_only {
        Vec::new()
    } else {
        draft.into_records()
    };
    (response, records)
}

fn alter(ctx: &Ctx<'_>, draft: &mut Draft, resource: &AlterConfigsResource) -> Result<(), Refused> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => {
            let changes: Result<Vec<_>, _> = resource.configs.iter().map(config_op).collect();
            alter_topic_configs(draft, ctx.config, name, &changes?)
        }
        BROKER => {
            if !name.is_empty() {
                check_broker(ctx, name)?;
            }
            let keys: Vec<_> = resource.configs.iter().map(|c| c.name.as_str()).collect();
            let why = format!(
                "Cannot update these configs dynamically: {}. Change the broker's configuration \
                 file and restart it.",
                keys.join(", ")
            );
            Err(Refused::because(ErrorCode::InvalidRequest, why))
        }
        other => Err(unsupported(other)),
    }
}

fn config_op(config: &AlterableConfig) -> Result<(String, ConfigOp), Refused> {
    let invalid = |why| Refused::because(ErrorCode::InvalidRequest, why);
    let key = config.name.as_str().to_owned();
    let text = || match &config.value {
        Some(value) => Ok(value.as_str().to_owned()),
        None => Err(invalid(format!(
            "Null value not supported for : {}",
            config.name
        ))),
    };
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
    use super::super::testing::{Cluster, text};
    use super::*;

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
            (resource(8, "1", &[]), 42),
        ] {
            let request = request(&[resource]);
            assert_eq!(codes(&mut cluster, 1, &request), [code], "{request:?}");
            assert_eq!(cluster.committed, 0);
        }
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
