//! The APIs that the broker serves: one table that decides which versions are
//! taken, which are advertised, and how headers look.

use kafka_wire::ApiVersionsResponse;
use kafka_wire::api_versions_response::ApiVersion;

use crate::base::ErrorCode;

/// One API and its versions, all inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    /// The API key.
    pub key: i16,
    /// Kafka's name.
    pub name: &'static str,
    /// Oldest version that is served.
    pub min: i16,
    /// Newest version that is served.
    pub max: i16,
    /// Oldest version that ApiVersions claims.
    pub advertised_min: i16,
    /// First version with flexible (compact, tagged) encoding; may be beyond `max`.
    pub flexible_from: i16,
}

impl Api {
    /// Key of Produce.
    pub const PRODUCE: i16 = 0;
    /// Key of Fetch.
    pub const FETCH: i16 = 1;
    /// Key of our own Explain: where the time of requests went, see `broker::trace`. Not listed by
    /// ApiVersions; a broker that does not know it closes the connection, as Kafka does. Kafka's
    /// keys are small and dense, so that it will not meet one of theirs.
    pub const EXPLAIN: i16 = 20_100;
    /// Key of ApiVersions.
    pub const API_VERSIONS: i16 = 18;

    const fn new(key: i16, name: &'static str, min: i16, max: i16, flexible_from: i16) -> Self {
        Self {
            key,
            name,
            min,
            max,
            advertised_min: min,
            flexible_from,
        }
    }

    /// Whether requests of this version are served.
    #[must_use]
    pub const fn serves(&self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// Whether bodies of this version are flexible; their request header is version 2, not 1.
    #[must_use]
    pub const fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }

    /// Whether responses of this version have the flexible header (version 1). Never for
    /// ApiVersions: a client that does not know the broker yet must be able to read it.
    #[must_use]
    pub const fn response_header_is_flexible(&self, version: i16) -> bool {
        self.key != Self::API_VERSIONS && self.is_flexible(version)
    }
}

/// Everything the broker serves, by key.
pub const APIS: &[Api] = &[
    // librdkafka refuses a broker that does not claim Produce 0 (KAFKA-18659), so 0 is claimed as
    // Kafka 4 claims it; versions 0 to 2 are refused all the same.
    Api {
        advertised_min: 0,
        ..Api::new(0, "Produce", 3, 13, 9)
    },
    Api::new(1, "Fetch", 4, 18, 12),
    Api::new(2, "ListOffsets", 1, 11, 6),
    Api::new(3, "Metadata", 0, 13, 9),
    Api::new(8, "OffsetCommit", 2, 10, 8),
    Api::new(9, "OffsetFetch", 1, 10, 6),
    Api::new(10, "FindCoordinator", 0, 6, 3),
    Api::new(11, "JoinGroup", 0, 9, 6),
    Api::new(12, "Heartbeat", 0, 4, 4),
    Api::new(13, "LeaveGroup", 0, 5, 4),
    Api::new(14, "SyncGroup", 0, 5, 4),
    Api::new(15, "DescribeGroups", 0, 6, 5),
    Api::new(16, "ListGroups", 0, 5, 3),
    Api::new(18, "ApiVersions", 0, 5, 3),
    Api::new(19, "CreateTopics", 2, 7, 5),
    Api::new(20, "DeleteTopics", 1, 6, 4),
    Api::new(21, "DeleteRecords", 0, 2, 2),
    Api::new(22, "InitProducerId", 0, 5, 2),
    Api::new(23, "OffsetForLeaderEpoch", 2, 4, 4),
    Api::new(29, "DescribeAcls", 1, 3, 2),
    Api::new(32, "DescribeConfigs", 1, 4, 4),
    Api::new(33, "AlterConfigs", 0, 2, 2),
    Api::new(35, "DescribeLogDirs", 1, 5, 2),
    Api::new(37, "CreatePartitions", 0, 3, 2),
    Api::new(42, "DeleteGroups", 0, 3, 2),
    Api::new(44, "IncrementalAlterConfigs", 0, 1, 1),
    Api::new(46, "ListPartitionReassignments", 0, 0, 0),
    Api::new(47, "OffsetDelete", 0, 0, i16::MAX),
    Api::new(60, "DescribeCluster", 0, 2, 0),
    Api::new(74, "ListConfigResources", 0, 1, 0),
    Api::new(75, "DescribeTopicPartitions", 0, 0, 0),
];

/// What is served to our own tools and not advertised.
static EXPLAIN: Api = Api::new(Api::EXPLAIN, "Explain", 0, 0, 0);

/// The API of a key, if it is served.
#[must_use]
pub fn api(key: i16) -> Option<&'static Api> {
    if key == Api::EXPLAIN {
        return Some(&EXPLAIN);
    }
    APIS.binary_search_by_key(&key, |api| api.key)
        .ok()
        .map(|at| &APIS[at])
}

/// The answer to an ApiVersions request of `request_version`, and the version to encode it in.
/// The caller may add features.
///
/// A version that is not served is answered in version 0 with `UNSUPPORTED_VERSION` and the range
/// of ApiVersions alone, from which the client picks the version to ask again in (KIP-511).
#[must_use]
pub fn api_versions(request_version: i16) -> (i16, ApiVersionsResponse) {
    let served = api(Api::API_VERSIONS).is_some_and(|api| api.serves(request_version));
    let listed = APIS
        .iter()
        .filter(|api| served || api.key == Api::API_VERSIONS);
    let mut response = ApiVersionsResponse::default();
    response.api_keys = listed
        .map(|api| {
            let mut range = ApiVersion::default();
            range.api_key = api.key;
            range.min_version = api.advertised_min;
            range.max_version = api.max;
            range
        })
        .collect();
    if served {
        (request_version, response)
    } else {
        response.error_code = ErrorCode::UnsupportedVersion.code();
        (0, response)
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::API_DESCRIPTORS;

    use super::*;

    #[test]
    fn the_table_is_sorted_and_agrees_with_the_generated_types() {
        assert!(APIS.is_sorted_by_key(|api| api.key));
        for api in APIS {
            let theirs = API_DESCRIPTORS
                .iter()
                .find(|d| d.api_key.value() == api.key)
                .unwrap();
            assert_eq!(theirs.request.name, format!("{}Request", api.name));
            let range = theirs.supported_versions;
            assert!(
                range.min().value() <= api.min && api.max <= range.max().value(),
                "{api:?}"
            );
            for version in api.min..=api.max {
                let flexible = theirs
                    .flexible_versions
                    .is_some_and(|range| range.contains(kafka_wire_core::ApiVersion::new(version)));
                assert_eq!(api.is_flexible(version), flexible, "{api:?} {version}");
            }
        }
    }

    #[test]
    fn our_own_is_served_and_not_advertised() {
        assert!(api(Api::EXPLAIN).unwrap().serves(0));
        let (_, response) = api_versions(3);
        assert!(response.api_keys.iter().all(|api| api.api_key < 1000));
    }

    #[test]
    fn produce_is_claimed_from_0_but_served_from_3() {
        let (version, response) = api_versions(3);
        assert_eq!((version, response.error_code), (3, 0));
        assert_eq!(response.api_keys.len(), APIS.len());
        assert_eq!(
            (
                response.api_keys[0].min_version,
                response.api_keys[0].max_version
            ),
            (0, 13)
        );
        assert!(!api(0).unwrap().serves(2));
    }

    #[test]
    fn an_unknown_version_is_answered_in_version_0() {
        for asked in [6, i16::MAX, -1] {
            let (version, response) = api_versions(asked);
            assert_eq!((version, response.error_code), (0, 35));
            assert_eq!(response.api_keys.len(), 1);
            assert_eq!(
                (
                    response.api_keys[0].api_key,
                    response.api_keys[0].max_version
                ),
                (18, 5)
            );
        }
    }
}
