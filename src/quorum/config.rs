//! Times and bounds of a replica.

use crate::base::limits;

/// See the module. The bounds are those of [`limits`]; tests have smaller ones.
#[derive(Clone, Debug)]
pub struct QuorumConfig {
    /// A leader is heard of at least so often, ms.
    pub heartbeat_ms: u64,
    /// Who has heard of no leader for so long, or up to twice as long, stands for election; a leader that has not heard
    /// of a majority for so long gives up. ms. Longer where others are [late](super::QuorumInput::Patience).
    pub election_ms: u64,
    /// Where nobody leads that is never made longer than this, ms.
    pub nobody_ms_max: u64,
    /// A new voter that has not caught up by then is none, ms.
    pub joining_ms: u64,
    /// Entries of one message, in bytes; one entry may be more.
    pub append_bytes: usize,
    /// What is on its way to one voter and not acknowledged, in bytes.
    pub in_flight_bytes: usize,
    /// Entries since the last snapshot, in bytes, from which on a leader takes no proposals. A follower keeps up to
    /// twice as much.
    pub log_bytes: usize,
    /// Entries since the last snapshot, in bytes, from which on a new one is wanted.
    pub snapshot_bytes: usize,
    /// What chance is drawn from: when this replica stands for election.
    pub seed: u64,
    /// What is made wrong on purpose.
    #[cfg(test)]
    pub flaw: Option<super::flaw::Flaw>,
}

impl QuorumConfig {
    /// As it is used.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            heartbeat_ms: 50,
            election_ms: 300,
            nobody_ms_max: 1_000,
            joining_ms: limits::VOTER_JOINS_WITHIN_MS,
            append_bytes: limits::QUORUM_APPEND_BYTES,
            in_flight_bytes: limits::QUORUM_IN_FLIGHT_BYTES_MAX,
            log_bytes: limits::QUORUM_LOG_BYTES_MAX,
            snapshot_bytes: limits::QUORUM_SNAPSHOT_BYTES,
            seed,
            #[cfg(test)]
            flaw: None,
        }
    }
}
