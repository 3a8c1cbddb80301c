//! DescribeCluster (60), versions 0-2.
//!
//! - Brokers are announced with what is advertised for the listener by which the client came.
//! - Version 1: asking a broker for the controllers is MISMATCHED_ENDPOINT_TYPE, for anything
//!   else UNSUPPORTED_ENDPOINT_TYPE (KIP-919). Version 2: who is fenced is told of if it is asked for (KIP-1073).
//! - Authorized operations are all operations, as in Kafka without an authorizer.

use bytes::Bytes;
use kafka_wire::describe_cluster_response::DescribeClusterBroker;
use kafka_wire::{DescribeClusterRequest, DescribeClusterResponse};

use super::brokers::Announced;
use super::handler::{Answer, CLUSTER_OPERATIONS, Ctx, answer, outcome};
use crate::base::{ErrorCode, Refused};
use crate::wire::RequestHeader;

/// The endpoint types of the request.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers a DescribeCluster request. Reads only.
#[must_use]
pub fn describe_cluster(ctx: &Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    answer(header, body, |request| {
        respond(ctx, &request, header.version)
    })
}

fn respond(
    ctx: &Ctx<'_>,
    request: &DescribeClusterRequest,
    version: i16,
) -> DescribeClusterResponse {
    let mut response = DescribeClusterResponse::default();
    if let Some(refused) = wrong_endpoint(request.endpoint_type) {
        (response.error_code, response.error_message) = outcome(Some(&refused));
        return response;
    }
    let one = |announced: Announced| {
        let mut broker = DescribeClusterBroker::default();
        broker.broker_id = announced.id;
        broker.host = announced.host;
        broker.port = announced.port;
        broker.rack = announced.rack;
        // Before version 2 there is no place for it.
        broker.is_fenced = announced.is_fenced && version >= 2;
        broker
    };
    let brokers = match request.include_fenced_brokers {
        true => ctx.brokers.registered(ctx.image, ctx.config, ctx.listener),
        false => ctx
            .brokers
            .all(ctx.image, ctx.config, ctx.listener, ctx.now),
    };
    response.brokers = brokers.into_iter().map(one).collect();
    response.cluster_id = ctx.image.cluster_id.as_deref().unwrap_or_default().into();
    response.controller_id = ctx.brokers.controller();
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

fn wrong_endpoint(endpoint: i8) -> Option<Refused> {
    match endpoint {
        BROKERS => None,
        CONTROLLERS => Some(Refused::because(
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
        )),
        other => Some(Refused::because(
            ErrorCode::UnsupportedEndpointType,
            format!("Unsupported endpoint type {other}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Cluster, text};
    use super::*;
    use kafka_wire_core::StrBytes;

    use crate::base::NodeId;
    use crate::controller::BrokerAddress;

    fn ask(version: i16, endpoint: i8) -> DescribeClusterResponse {
        let mut request = DescribeClusterRequest::default();
        request.endpoint_type = endpoint;
        request.include_cluster_authorized_operations = true;
        Cluster::new().read(version, &request, |ctx, header, body| {
            describe_cluster(ctx, header, body)
        })
    }

    #[test]
    fn every_version_describes_the_cluster() {
        for version in 0..=2 {
            let response = ask(version, BROKERS);
            assert_eq!(response.cluster_id, text("c1"));
            assert_eq!(
                (response.controller_id, response.brokers[0].broker_id),
                (1, 1)
            );
            assert_eq!(response.brokers[0].port, 9092);
            assert_eq!(response.cluster_authorized_operations, CLUSTER_OPERATIONS);
        }
    }

    #[test]
    fn with_direct_ports_each_core_is_a_broker() {
        let mut cluster = Cluster::direct();
        for version in 0..=2 {
            let request = DescribeClusterRequest::default();
            let response = cluster.read(version, &request, |ctx, header, body| {
                describe_cluster(ctx, header, body)
            });
            let brokers = response.brokers.iter();
            let brokers: Vec<_> = brokers.map(|one| (one.broker_id, one.port)).collect();
            assert_eq!(brokers, [(10_000, 9093), (10_001, 9094)]);
            assert_eq!(response.controller_id, 10_000);
        }
    }

    #[test]
    fn who_is_fenced_is_told_of_if_it_is_asked_for() {
        let mut cluster = Cluster::of_three();
        for node in [2, 3].map(NodeId) {
            let mut registration = cluster.image.brokers.get(node).unwrap().clone();
            registration.fenced = node == NodeId(2);
            registration.rack = Some("r".to_owned());
            registration.addresses = vec![BrokerAddress {
                listener: "PLAINTEXT".to_owned(),
                host: "host".to_owned(),
                port: 9092,
                shards: Vec::new(),
            }];
            cluster.image.brokers.register(registration).unwrap();
        }
        let ask = |cluster: &mut Cluster, version, all| {
            let mut request = DescribeClusterRequest::default();
            request.include_fenced_brokers = all;
            let response = cluster.read(version, &request, |ctx, header, body| {
                describe_cluster(ctx, header, body)
            });
            let brokers = response.brokers.iter();
            let brokers = brokers.map(|one| {
                let rack = one.rack.as_ref().map(StrBytes::as_str);
                assert_eq!(rack, (one.broker_id > 1).then_some("r"));
                (one.broker_id, one.is_fenced)
            });
            brokers.collect::<Vec<_>>()
        };
        assert_eq!(ask(&mut cluster, 1, false), [(1, false), (3, false)]);
        assert_eq!(ask(&mut cluster, 2, false), [(1, false), (3, false)]);
        assert_eq!(
            ask(&mut cluster, 2, true),
            [(1, false), (2, true), (3, false)]
        );
        // This one answers also while it is fenced.
        cluster.image.brokers.set_fenced(NodeId(1), true);
        for version in 0..=1 {
            assert_eq!(ask(&mut cluster, version, false)[0], (1, false));
        }
        assert_eq!(ask(&mut cluster, 2, false)[0], (1, true));
    }

    #[test]
    fn only_brokers_are_here() {
        assert_eq!(ask(1, CONTROLLERS).error_code, 114);
        assert_eq!(ask(2, 7).error_code, 115);
    }
}
