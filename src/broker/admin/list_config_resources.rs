//! ListConfigResources (74), versions 0-1.
//!
//! - Version 0 asks for subscriptions to metrics of clients, of which there are none.
//! - Version 1 asks for some kinds of resources, or for all: brokers, their loggers, topics, groups that have settings
//!   of their own; subscriptions to metrics have none here. An unknown kind is UNSUPPORTED_VERSION.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use kafka_wire::list_config_resources_response::ConfigResource;
use kafka_wire::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::describe_configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::handler::{Answer, Ctx};
use super::listing::{List, list};
use crate::base::ErrorCode;
use crate::controller::Topic;
use crate::wire::RequestHeader;

const KINDS: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

/// Answers a ListConfigResources request. Reads only.
#[must_use]
pub fn list_config_resources(ctx: &Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    list::<Resources>(ctx, header, body)
}

/// The resources that have settings.
#[derive(Debug)]
struct Resources {
    /// The kinds that are asked for.
    kinds: BTreeSet<i8>,
    /// The brokers and their loggers.
    brokers: vec::IntoIter<ConfigResource>,
    /// The topic that came last.
    last: Option<Arc<Topic>>,
    /// The group that came last.
    last_group: Option<Arc<str>>,
}

impl List for Resources {
    type Request = ListConfigResourcesRequest;
    type Element = ConfigResource;
    type Part = ConfigResource;

    fn new(version: i16, listed: Option<usize>) -> Self {
        // All kinds, if none is asked for.
        let all = version > 0 && listed == Some(0);
        Self {
            kinds: KINDS.into_iter().filter(|_| all).collect(),
            brokers: Vec::new().into_iter(),
            last: None,
            last_group: None,
        }
    }

    fn take(&mut self, kind: i8) {
        self.kinds.insert(kind);
    }

    fn rest(
        &mut self,
        ctx: &Ctx<'_>,
        _: ListConfigResourcesRequest,
    ) -> ListConfigResourcesResponse {
        let mut response = ListConfigResourcesResponse::default();
        if self.kinds.iter().any(|kind| !KINDS.contains(kind)) {
            self.kinds.clear();
            response.error_code = ErrorCode::UnsupportedVersion.code();
        }
        let kinds = [BROKER_LOGGER, BROKER].into_iter();
        let brokers = kinds
            .filter(|kind| self.kinds.contains(kind))
            .flat_map(|kind| {
                let ids = ctx
                    .brokers
                    .all(ctx.image, ctx.config, ctx.listener, ctx.now)
                    .into_iter();
                ids.map(move |broker| resource(kind, &broker.id.to_string()))
            });
        self.brokers = brokers.collect::<Vec<_>>().into_iter();
        response
    }

    fn next(&mut self, ctx: &Ctx<'_>, _: usize) -> Option<ConfigResource> {
        if let Some(broker) = self.brokers.next() {
            return Some(broker);
        }
        if self.kinds.contains(&TOPIC) {
            let after = self.last.as_ref().map(|topic| &*topic.name);
            if let Some(next) = ctx.image.topic_after(after) {
                self.last = Some(Arc::clone(next));
                return Some(resource(TOPIC, &next.name));
            }
            // All of them came.
            self.kinds.remove(&TOPIC);
        }
        if self.kinds.contains(&GROUP) {
            let (next, _) = ctx.image.groups.after(self.last_group.as_deref())?;
            self.last_group = Some(Arc::clone(next));
            return Some(resource(GROUP, next));
        }
        None
    }
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
    use crate::controller::{ConfigResource as Configured, MetadataRecord};

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
        for group in ["g", "h"] {
            let record = MetadataRecord::Config {
                resource: Configured::Group(group.to_owned()),
                key: "consumer.session.timeout.ms".to_owned(),
                value: Some("50000".to_owned()),
            };
            cluster.image.replay(&record).unwrap();
        }
        let groups = vec![own(GROUP, "g"), own(GROUP, "h")];
        assert_eq!(ask(&mut cluster, 1, &[GROUP]), (0, groups.clone()));
        let (_, all) = ask(&mut cluster, 1, &[]);
        assert_eq!(all[4..], groups);
    }
}
