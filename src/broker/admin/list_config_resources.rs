//! ListConfigResources (74), versions 0-1.
//!
//! - Version 0 asks for subscriptions to metrics of clients, of which there are none.
//! - Version 1 asks for some kinds of resources, or for all: brokers, their loggers, topics; groups and
//!   subscriptions to metrics have no settings of their own here. An unknown kind is UNSUPPORTED_VERSION.

use bytes::Bytes;
use kafka_wire::list_config_resources_response::ConfigResource;
use kafka_wire::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::describe_configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::handler::{Answer, Ctx, answer};
use crate::base::ErrorCode;
use crate::wire::RequestHeader;

const KINDS: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

/// Answers a ListConfigResources request. Reads only.
#[must_use]
pub fn list_config_resources(ctx: &Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    let version = header.version;
    answer(header, body, |request| respond(ctx, version, &request))
}

fn respond(
    ctx: &Ctx<'_>,
    version: i16,
    request: &ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let mut response = ListConfigResourcesResponse::default();
    if version == 0 {
        return response;
    }
    let asked = &request.resource_types;
    if asked.iter().any(|kind| !KINDS.contains(kind)) {
        response.error_code = ErrorCode::UnsupportedVersion.code();
        return response;
    }
    let listed = |kind: i8| asked.is_empty() || asked.contains(&kind);
    for kind in [BROKER_LOGGER, BROKER].into_iter().filter(|k| listed(*k)) {
        let ids = ctx.brokers.all(ctx.config, ctx.listener);
        let ids = ids.into_iter().map(|broker| broker.id.to_string());
        response
            .config_resources
            .extend(ids.map(|id| resource(kind, &id)));
    }
    if listed(TOPIC) {
        let topics = ctx.image.topics().map(|topic| resource(TOPIC, &topic.name));
        response.config_resources.extend(topics);
    }
    response
}

fn resource(kind: i8, name: &str) -> ConfigResource {
    let mut resource = ConfigResource::default();
    resource.resource_type = kind;
    resource.resource_name = name.into();
    resource
}

#[cfg(test)]
mod tests {
    use super::super::testing::Cluster;
    use super::*;

    fn ask(cluster: &mut Cluster, version: i16, kinds: &[i8]) -> (i16, Vec<(i8, String)>) {
        let mut request = ListConfigResourcesRequest::default();
        request.resource_types = kinds.to_vec();
        let response = cluster.read(version, &request, |ctx, header, body| {
            list_config_resources(ctx, header, body)
        });
        let resources = response.config_resources.into_iter();
        let resources = resources.map(|r| (r.resource_type, r.resource_name.into_string()));
        (response.error_code, resources.collect())
    }

    #[test]
    fn every_version_lists_what_it_is_asked_for() {
        let mut cluster = Cluster::with(&[("a", 1), ("b", 1)]);
        let own = |kind, name: &str| (kind, name.to_owned());
        assert_eq!(ask(&mut cluster, 0, &[]), (0, Vec::new()));
        let topics = vec![own(TOPIC, "a"), own(TOPIC, "b")];
        assert_eq!(ask(&mut cluster, 1, &[TOPIC]), (0, topics.clone()));
        let mut all = vec![own(BROKER_LOGGER, "1"), own(BROKER, "1")];
        all.extend(topics);
        assert_eq!(ask(&mut cluster, 1, &[]), (0, all));
        assert_eq!(
            ask(&mut cluster, 1, &[GROUP, CLIENT_METRICS]),
            (0, Vec::new())
        );
        assert_eq!(ask(&mut cluster, 1, &[TOPIC, 64]), (35, Vec::new()));
    }
}
