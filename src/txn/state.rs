//! One transactional id.

use std::collections::BTreeSet;

use crate::base::Name;

/// A partition of a transaction: topic and index.
pub type TxnPartition = (Name, i32);

/// Epoch of a producer that has none.
pub const NO_EPOCH: i16 = -1;
/// From this epoch on a producer gets a new id instead of a new epoch: one more is kept for the coordinator, which
/// fences with it.
pub const LAST_EPOCH: i16 = i16::MAX - 1;

/// The state of a transactional id, as Kafka numbers it in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TxnState {
    /// There has been no transaction in this epoch.
    Empty,
    /// One has begun.
    Ongoing,
    /// It is decided: it commits. Markers are on their way.
    PrepareCommit,
    /// It is decided: it aborts.
    PrepareAbort,
    /// All partitions have the markers.
    CompleteCommit,
    /// The same.
    CompleteAbort,
}

impl TxnState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// Its number in records.
    #[must_use]
    pub const fn number(self) -> i8 {
        self as i8
    }

    /// The one of a number.
    #[must_use]
    pub fn of_number(number: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.number() == number)
    }

    /// Its name in the Admin APIs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// What becomes of the transaction, if that is decided and not done.
    #[must_use]
    pub const fn decided(self) -> Option<bool> {
        match self {
            Self::PrepareCommit => Some(true),
            Self::PrepareAbort => Some(false),
            _ => None,
        }
    }

    /// Decided so.
    #[must_use]
    pub const fn prepare(commits: bool) -> Self {
        match commits {
            true => Self::PrepareCommit,
            false => Self::PrepareAbort,
        }
    }

    /// Done so.
    #[must_use]
    pub const fn complete(commits: bool) -> Self {
        match commits {
            true => Self::CompleteCommit,
            false => Self::CompleteAbort,
        }
    }
}

/// What is known of a transactional id; but for the epoch before, its record says all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnFacts {
    /// Producer id.
    pub producer_id: i64,
    /// The producer id before that one, -1 if none is known.
    pub previous_producer_id: i64,
    /// Epoch, -1 before the first one is given out.
    pub epoch: i16,
    /// The epoch from which the producer came to this one by asking for it (KIP-360), -1 if it did not, or nobody
    /// remembers: it may ask again if the answer was lost.
    pub last_epoch: i16,
    /// How long a transaction may take, ms.
    pub timeout_ms: i32,
    /// State.
    pub state: TxnState,
    /// Of the transaction that is going on, or decided.
    pub partitions: BTreeSet<TxnPartition>,
    /// When that transaction began, wall clock ms; -1 without one.
    pub start_ms: i64,
    /// When the state changed last, wall clock ms.
    pub updated_ms: i64,
}

impl TxnFacts {
    /// Of an id that nobody used before.
    #[must_use]
    pub fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer_id,
            previous_producer_id: -1,
            epoch: NO_EPOCH,
            last_epoch: NO_EPOCH,
            timeout_ms,
            state: TxnState::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            updated_ms: now_ms,
        }
    }

    /// Whether the producer needs a new id for its next epoch.
    #[must_use]
    pub const fn is_exhausted(&self) -> bool {
        self.epoch >= LAST_EPOCH
    }

    /// What is kept of it, in bytes, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        /// A node of the tree, and of the name's text.
        const PARTITION_BYTES: usize = 48;
        size_of::<Self>() + self.partitions.len() * PARTITION_BYTES
    }

    /// No transaction, in this epoch.
    #[must_use]
    pub fn empty(&self, epoch: i16, last_epoch: i16, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            epoch,
            last_epoch,
            timeout_ms,
            previous_producer_id: self.previous_producer_id,
            ..Self::new(self.producer_id, timeout_ms, now_ms)
        }
    }

    /// The transaction is decided.
    #[must_use]
    pub fn prepared(&self, commits: bool, now_ms: i64) -> Self {
        Self {
            state: TxnState::prepare(commits),
            updated_ms: now_ms,
            ..self.clone()
        }
    }

    /// All partitions have the markers.
    #[must_use]
    pub fn completed(&self, commits: bool, now_ms: i64) -> Self {
        Self {
            state: TxnState::complete(commits),
            partitions: BTreeSet::new(),
            start_ms: -1,
            updated_ms: now_ms,
            ..self.clone()
        }
    }

    /// More partitions; the first ones begin a transaction.
    #[must_use]
    pub fn with(&self, more: impl IntoIterator<Item = TxnPartition>, now_ms: i64) -> Self {
        let mut facts = self.clone();
        if facts.state != TxnState::Ongoing {
            facts.partitions.clear();
            facts.start_ms = now_ms;
        }
        facts.state = TxnState::Ongoing;
        facts.partitions.extend(more);
        facts.updated_ms = now_ms;
        facts
    }

    /// The transaction is aborted in an epoch that no producer has: whoever has begun it can do no more.
    #[must_use]
    pub fn fenced(&self, now_ms: i64) -> Self {
        Self {
            epoch: self.epoch.saturating_add(1),
            last_epoch: NO_EPOCH,
            ..self.prepared(false, now_ms)
        }
    }
}
