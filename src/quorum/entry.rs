//! What the log consists of, and what a replica has to remember besides.

use std::fmt;

use bytes::Bytes;

use super::voters::{ReplicaKey, Voters};
use crate::base::LeaderEpoch;
use crate::base::limits::QUORUM_ENTRY_COST;

/// The place of an entry in the log: 1 is the first one's, each has the one behind the other's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryIndex(pub u64);

impl EntryIndex {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The place behind.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The place before; that before the first one is its own.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for EntryIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which entry: no two have the same place and term. Of two logs the one whose last entry is greater is the newer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The term of the leader that made it: Raft's term is Kafka's leader epoch.
    pub term: LeaderEpoch,
    /// Its place.
    pub index: EntryIndex,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A term has a leader; its first entry (Kafka's LeaderChangeMessage). When it is committed, so is all before it.
    LeaderChange,
    /// A batch of metadata records, which nobody in here looks into. At most
    /// [`QUORUM_ENTRY_BYTES_MAX`](crate::base::limits::QUORUM_ENTRY_BYTES_MAX).
    Records(Bytes),
    /// Who has a vote, from here on, committed or not (Kafka's VotersRecord).
    Voters(Voters),
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumEntry {
    /// Which one.
    pub id: EntryId,
    /// What it says.
    pub payload: Payload,
}

impl QuorumEntry {
    /// What it counts for in bounds, in bytes.
    #[must_use]
    pub const fn cost(&self) -> usize {
        QUORUM_ENTRY_COST
            + match &self.payload {
                Payload::Records(records) => records.len(),
                Payload::LeaderChange | Payload::Voters(_) => 0,
            }
    }
}

/// What a replica has promised, and may never forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term that it has heard of.
    pub term: LeaderEpoch,
    /// Whom it has voted for in that term.
    pub vote: Option<ReplicaKey>,
    /// Up to here entries are known to be committed. It may be behind what was known: it is written when something
    /// else is.
    pub commit: EntryIndex,
}

/// What a snapshot is of: all that entries up to this one say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMark {
    /// The last entry that is in it.
    pub id: EntryId,
    /// Who has a vote behind it.
    pub voters: Voters,
}
