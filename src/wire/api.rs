//! What reading and writing a frame needs to know of its API. Which ones are served is the broker's to say.

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
    /// First version with flexible (compact, tagged) encoding; may be beyond `max`.
    pub flexible_from: i16,
}

impl Api {
    /// Key of Produce.
    pub const PRODUCE: i16 = 0;
    /// Key of Fetch.
    pub const FETCH: i16 = 1;
    /// Key of ApiVersions.
    pub const API_VERSIONS: i16 = 18;
    /// Key of AddPartitionsToTxn, which nodes ask of each other too.
    pub const ADD_PARTITIONS_TO_TXN: i16 = 24;
    /// Key of WriteTxnMarkers, which nodes ask of each other.
    pub const WRITE_TXN_MARKERS: i16 = 27;
    /// Key of AlterPartition, which nodes ask of each other.
    pub const ALTER_PARTITION: i16 = 56;
    /// Key of our own Explain: where the time of requests went, see `broker::trace`. Not listed by
    /// ApiVersions; a broker that does not know it closes the connection, as Kafka does. Kafka's
    /// keys are small and dense, so that it will not meet one of theirs.
    pub const EXPLAIN: i16 = 20_100;

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

/// A few APIs, for the tests of this module: which ones are served is decided above it.
#[cfg(test)]
pub(super) fn known(key: i16) -> Option<&'static Api> {
    const fn api(key: i16, name: &'static str, min: i16, max: i16, flexible_from: i16) -> Api {
        Api {
            key,
            name,
            min,
            max,
            flexible_from,
        }
    }
    const KNOWN: [Api; 6] = [
        api(Api::PRODUCE, "Produce", 3, 13, 9),
        api(Api::FETCH, "Fetch", 4, 18, 12),
        api(3, "Metadata", 0, 13, 9),
        api(12, "Heartbeat", 0, 4, 4),
        api(Api::API_VERSIONS, "ApiVersions", 0, 5, 3),
        api(Api::EXPLAIN, "Explain", 0, 0, 0),
    ];
    KNOWN.iter().find(|api| api.key == key)
}
