//! ApiVersions (18), versions 0-5.
//!
//! - An unknown version is answered in version 0 with UNSUPPORTED_VERSION and the range of
//!   ApiVersions itself (KIP-511).
//! - From version 3 on, a client's software name and version must be letters, digits, '-' and
//!   '.', beginning and ending with a letter or digit, or else INVALID_REQUEST (KIP-511).
//! - Version 5: a client that means another cluster or node gets REBOOTSTRAP_REQUIRED, and one that names only one of
//!   the two INVALID_REQUEST (KIP-1242).
//! - Features are told from version 3 on. metadata.version is at Kafka 4.4's level: tools take the release from it
//!   whose requests they may use. As soon as all brokers know what that is, transaction.version is 2 (KIP-890): by it
//!   clients choose versions of Produce, EndTxn and TxnOffsetCommit; and group.version and streams.version are 1
//!   (KIP-848, KIP-1071). kraft.version is 1 in a cluster of several nodes, whose voters can be changed (KIP-853). The
//!   others make clients rely on what is not there yet: share.version on a group protocol,
//!   eligible.leader.replicas.version on replicas.

use bytes::Bytes;
use kafka_wire::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_wire::{ApiVersionsRequest, ApiVersionsResponse};

use super::handler::{Answer, Ctx};
use crate::base::ErrorCode;
use crate::controller::{
    GROUP_VERSIONS, STREAMS_VERSIONS, TRANSACTION_VERSIONS, group_version, streams_version,
    transaction_version,
};
use crate::wire::{self, Api, RequestHeader};

/// Answers an ApiVersions request of any version, from what is claimed to be served.
#[must_use]
pub fn api_versions(
    ctx: &Ctx<'_>,
    header: &RequestHeader,
    body: Bytes,
    claims: impl Iterator<Item = ApiVersion>,
) -> Answer {
    let (correlation_id, version) = (header.correlation_id, header.version);
    let mut claims: Vec<ApiVersion> = claims.collect();
    let mut response = ApiVersionsResponse::default();
    let own = claims.iter().find(|c| c.api_key == Api::API_VERSIONS);
    if !own.is_some_and(|own| (own.min_version..=own.max_version).contains(&version)) {
        // From the one range the client picks the version to ask again in.
        claims.retain(|claim| claim.api_key == Api::API_VERSIONS);
        response.error_code = ErrorCode::UnsupportedVersion.code();
        response.api_keys = claims;
        return encoded(correlation_id, 0, &response);
    }
    match wire::decode::<ApiVersionsRequest>(body, version) {
        Ok(request) => match refusal(ctx, version, &request) {
            Some(code) => response.error_code = code.code(),
            None => {
                response.api_keys = claims;
                if version >= 3 {
                    add_features(ctx, version, &mut response);
                }
            }
        },
        Err(error) => return Answer::Malformed(error.to_string()),
    }
    encoded(correlation_id, version, &response)
}

fn encoded(correlation_id: i32, version: i16, response: &ApiVersionsResponse) -> Answer {
    match wire::encode_response(correlation_id, version, response) {
        Ok(reply) => Answer::Reply(reply),
        Err(error) => Answer::Malformed(error.to_string()),
    }
}

/// The level of metadata.version, 4.4-IV2. It has no effect here and cannot be changed, so that only one is supported.
const METADATA_VERSION: i16 = 33;

/// Of kraft.version: 1 where voters can be added and removed (KIP-853), which is in a cluster of several nodes.
const KRAFT_VERSIONS: (i16, i16) = (0, 1);

/// As in Kafka what is at 0 is not among what is finalized.
fn add_features(ctx: &Ctx<'_>, version: i16, response: &mut ApiVersionsResponse) {
    let transactions = transaction_version(ctx.image.features);
    let kraft = i16::from(ctx.config.is_member());
    for (name, (least, most), level) in [
        ("kraft.version", KRAFT_VERSIONS, kraft),
        (
            "group.version",
            GROUP_VERSIONS,
            group_version(ctx.image.features),
        ),
        (
            "metadata.version",
            (METADATA_VERSION, METADATA_VERSION),
            METADATA_VERSION,
        ),
        (
            "streams.version",
            STREAMS_VERSIONS,
            streams_version(ctx.image.features),
        ),
        ("transaction.version", TRANSACTION_VERSIONS, transactions),
    ] {
        // Clients of version 3 take one that begins at 0 for an error (KAFKA-17011).
        if least > 0 || version >= 4 {
            let mut supported = SupportedFeatureKey::default();
            supported.name = name.into();
            (supported.min_version, supported.max_version) = (least, most);
            response.supported_features.push(supported);
        }
        if level > 0 {
            let mut finalized = FinalizedFeatureKey::default();
            finalized.name = name.into();
            (finalized.min_version_level, finalized.max_version_level) = (level, level);
            response.finalized_features.push(finalized);
        }
    }
    // Clients keep what comes with the largest one.
    response.finalized_features_epoch = i64::try_from(ctx.image.version).unwrap_or(i64::MAX);
}

/// The node of a client that does not say which one it means.
const NO_NODE: i32 = -1;

fn refusal(ctx: &Ctx<'_>, version: i16, request: &ApiVersionsRequest) -> Option<ErrorCode> {
    let names = [
        &request.client_software_name,
        &request.client_software_version,
    ];
    if version >= 3 && !names.iter().all(|name| is_software_name(name)) {
        return Some(ErrorCode::InvalidRequest);
    }
    match (&request.cluster_id, request.node_id) {
        (None, NO_NODE) => None,
        (None, _) | (_, NO_NODE) => Some(ErrorCode::InvalidRequest),
        (Some(cluster), node) => {
            let is_it = Some(cluster.as_str()) == ctx.image.cluster_id.as_deref();
            (!is_it || !ctx.brokers.is_here(node)).then_some(ErrorCode::RebootstrapRequired)
        }
    }
}

fn is_software_name(name: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    ends(name.chars().next()) && ends(name.chars().next_back()) && name.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Cluster, text};
    use super::*;
    use crate::broker::apis::claims;
    use crate::controller::FEATURE_LEVEL;

    fn request(name: &str, version: &str) -> ApiVersionsRequest {
        let mut request = ApiVersionsRequest::default();
        request.client_software_name = text(name);
        request.client_software_version = text(version);
        request
    }

    fn ask(version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
        let mut cluster = Cluster::new();
        cluster.image.features = FEATURE_LEVEL;
        cluster.read(version, request, |ctx, header, body| {
            api_versions(ctx, header, body, claims())
        })
    }

    #[test]
    fn every_version_lists_everything() {
        for version in 0..=5 {
            let response = ask(version, &request("apache-kafka-java", "4.1.0"));
            assert_eq!(response.error_code, 0, "version {version}");
            assert_eq!(response.api_keys.len(), claims().count());
            let features = response.finalized_features.iter();
            let features: Vec<_> = features
                .map(|f| (f.name.as_str(), f.max_version_level))
                .collect();
            if version < 3 {
                assert_eq!(features, []);
            } else {
                assert_eq!(
                    features,
                    [
                        ("group.version", 1),
                        ("metadata.version", 33),
                        ("streams.version", 1),
                        ("transaction.version", 2)
                    ]
                );
                assert!(response.finalized_features_epoch >= 0);
            }
        }
    }

    #[test]
    fn features_are_finalized_when_all_brokers_know_them() {
        let mut cluster = Cluster::new();
        for (below, known) in [
            (
                2,
                &["group.version", "metadata.version", "transaction.version"][..],
            ),
            (3, &["metadata.version", "transaction.version"]),
            (4, &["metadata.version"]),
        ] {
            cluster.image.features = FEATURE_LEVEL - below;
            let request = request("x", "1");
            let response = cluster.read(4, &request, |ctx, header, body| {
                api_versions(ctx, header, body, claims())
            });
            let finalized = response.finalized_features.iter();
            let finalized: Vec<_> = finalized.map(|it| it.name.as_str()).collect();
            assert_eq!(finalized, known);
            let supported = response.supported_features.iter();
            let supported: Vec<_> = supported
                .map(|it| (it.name.as_str(), it.max_version))
                .collect();
            assert_eq!(
                supported,
                [
                    ("kraft.version", 1),
                    ("group.version", 1),
                    ("metadata.version", 33),
                    ("streams.version", 1),
                    ("transaction.version", 2)
                ]
            );
        }
    }

    /// Older clients of Kafka's do not connect to a broker that tells of such.
    #[test]
    fn features_that_begin_at_0_are_told_from_version_4_on() {
        let mut cluster = Cluster::new();
        let supported = |cluster: &mut Cluster, version| {
            let response = cluster.read(version, &request("x", "1"), |ctx, header, body| {
                api_versions(ctx, header, body, claims())
            });
            let least = response.supported_features.iter();
            least.map(|it| it.min_version).collect::<Vec<_>>()
        };
        assert_eq!(supported(&mut cluster, 3), [METADATA_VERSION]);
        assert_eq!(
            supported(&mut cluster, 4)
                .iter()
                .filter(|it| **it == 0)
                .count(),
            4
        );
    }

    #[test]
    fn software_names_are_checked_from_version_3_on() {
        let invalid = ErrorCode::InvalidRequest.code();
        for (name, version) in [("", "1"), ("a", ""), ("-a", "1"), ("a b", "1"), ("a", "1.")] {
            assert_eq!(
                ask(3, &request(name, version)).error_code,
                invalid,
                "{name} {version}"
            );
        }
        assert_eq!(ask(2, &request("", "")).error_code, 0);
        assert_eq!(ask(4, &request("x", "1")).error_code, 0);
    }

    #[test]
    fn a_client_of_another_cluster_is_sent_away() {
        let mut request = request("a", "1");
        request.cluster_id = Some(text("c1"));
        request.node_id = 1;
        assert_eq!(ask(5, &request).error_code, 0);
        request.node_id = 2;
        let rebootstrap = ErrorCode::RebootstrapRequired.code();
        assert_eq!(ask(5, &request).error_code, rebootstrap);
        request.node_id = 1;
        request.cluster_id = Some(text("c2"));
        assert_eq!(ask(5, &request).error_code, rebootstrap);
        let invalid = ErrorCode::InvalidRequest.code();
        request.node_id = -1;
        assert_eq!(ask(5, &request).error_code, invalid, "a cluster alone");
        (request.cluster_id, request.node_id) = (None, 1);
        assert_eq!(ask(5, &request).error_code, invalid, "a node alone");
    }

    #[test]
    fn an_unknown_version_is_answered_in_version_0() {
        let mut cluster = Cluster::new();
        let header = RequestHeader {
            key: 18,
            version: 99,
            correlation_id: 5,
            client_id: None,
        };
        let Answer::Reply(reply) = api_versions(&cluster.ctx(), &header, Bytes::new(), claims())
        else {
            panic!("no reply");
        };
        // Correlation id, then UNSUPPORTED_VERSION.
        assert_eq!(reply[4..10], [0, 0, 0, 5, 0, 35]);
    }

    #[test]
    fn with_direct_ports_each_core_is_the_broker_that_is_meant() {
        let mut cluster = Cluster::direct();
        for (node, code) in [(10_000, 0), (10_001, 0), (10_002, 129), (2, 129)] {
            let mut request = ApiVersionsRequest::default();
            request.client_software_name = text("x");
            request.client_software_version = text("1");
            request.cluster_id = Some(text("c1"));
            request.node_id = node;
            let response = cluster.read(5, &request, |ctx, header, body| {
                api_versions(ctx, header, body, claims())
            });
            assert_eq!(response.error_code, code, "{node}");
        }
    }
}
