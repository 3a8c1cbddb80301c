//! The feature level: which kinds and versions of records may be written, so that the nodes of a cluster can be
//! upgraded one by one. It is raised by a record, when every node reads what comes with it; a node that does
//! not know a level refuses to start with it instead of misreading what it may meet.

/// What is written: the level that the metadata says, or 0 before it says any.
pub type FeatureLevel = u16;

/// From this level on brokers register all that others need to know of them, and may be fenced.
pub(super) const REGISTRATION_LEVEL: FeatureLevel = 2;

/// From this level on the metadata log is that of a quorum, and each of its batches an entry.
const QUORUM_LEVEL: FeatureLevel = 3;

/// From this level on a partition has what is to be remembered of its elections.
pub(super) const ELECTIONS_LEVEL: FeatureLevel = 4;

/// From this level on Kafka's `transaction.version` is 2: the epoch of a producer grows with each of its transactions
/// (KIP-890).
const TRANSACTIONS_LEVEL: FeatureLevel = 5;

/// Kafka's `transaction.version` at a level: 0 or 2. What 1 brings comes with 2.
#[must_use]
pub const fn transaction_version(level: FeatureLevel) -> i16 {
    match level {
        TRANSACTIONS_LEVEL.. => 2,
        _ => 0,
    }
}

/// The versions of transactions that this release knows, oldest and newest.
pub const TRANSACTION_VERSIONS: (i16, i16) = (0, transaction_version(FEATURE_LEVEL));

/// From this level on there may be groups of the consumer protocol (KIP-848): their records are none that older
/// releases understand.
const CONSUMER_GROUPS_LEVEL: FeatureLevel = 6;

/// Kafka's `group.version` at a level.
#[must_use]
pub const fn group_version(level: FeatureLevel) -> i16 {
    match level {
        CONSUMER_GROUPS_LEVEL.. => 1,
        _ => 0,
    }
}

/// The versions of group protocols that this release knows, oldest and newest.
pub const GROUP_VERSIONS: (i16, i16) = (0, group_version(FEATURE_LEVEL));

/// From this level on there may be streams groups (KIP-1071): their records are none that older releases understand.
const STREAMS_GROUPS_LEVEL: FeatureLevel = 7;

/// Kafka's `streams.version` at a level.
#[must_use]
pub const fn streams_version(level: FeatureLevel) -> i16 {
    match level {
        STREAMS_GROUPS_LEVEL.. => 1,
        _ => 0,
    }
}

/// The versions of streams groups that this release knows, oldest and newest.
pub const STREAMS_VERSIONS: (i16, i16) = (0, streams_version(FEATURE_LEVEL));

/// From this level on single groups may have settings of their own, and groups with members may go over from the
/// classic protocol to that of consumers and back (KIP-848): older releases misread the records of both.
pub(super) const ONE_GROUP_LEVEL: FeatureLevel = 8;

/// Whether single groups may have settings of their own at a level.
#[must_use]
pub const fn groups_have_settings(level: FeatureLevel) -> bool {
    level >= ONE_GROUP_LEVEL
}

/// The levels that a node may be of a cluster with, oldest and newest.
pub const FEATURE_LEVELS: (i16, i16) = (QUORUM_LEVEL as i16, FEATURE_LEVEL as i16);

/// The newest level that this release reads and writes.
pub const FEATURE_LEVEL: FeatureLevel = ONE_GROUP_LEVEL;
