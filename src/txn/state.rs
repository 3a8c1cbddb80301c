//! One transactional id.

use std::collections::BTreeSet;

use crate::base::Name;

/// A partition of a transaction: topic and index.
pub type TxnPartition = (Name, i32);

/// What a partition of a transaction takes besides the name of its topic, in bytes: of a node of the tree, and of what
/// is before the text.
const PARTITION_BYTES: usize = 48;

/// What these take, in bytes, each with a name of its own, as partitions have that were added one by one.
pub fn bytes_of<'a>(partitions: impl IntoIterator<Item = &'a TxnPartition>) -> usize {
    let each = partitions.into_iter();
    each.map(|(topic, _)| PARTITION_BYTES + topic.len()).sum()
}

/// Epoch of a producer that has none.
pub const NO_EPOCH: i16 = -1;
/// From this epoch on a producer gets a new id instead of a new epoch: one more is kept for the coordinator, which
/// fences with it.
pub const LAST_EPOCH: i16 = i16::MAX - 1;

/// Producer id of nobody.
pub const NO_PRODUCER_ID: i64 = -1;

/// By which `transaction.version` a transaction goes, as Kafka numbers it in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TxnVersion(i16);

impl TxnVersion {
    /// Clients add partitions themselves, and one epoch has any number of transactions.
    pub const V0: Self = Self(0);
    /// Each end of a transaction makes the epoch grow (KIP-890, part 2).
    pub const V2: Self = Self(2);

    /// The one of a number.
    #[must_use]
    pub const fn of_number(number: i16) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> i16 {
        self.0
    }

    /// Whether the epoch grows with each end.
    #[must_use]
    pub const fn bumps_epoch(self) -> bool {
        self.0 >= Self::V2.0
    }
}

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

    /// Whether the last transaction has ended, and none has begun since.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::CompleteCommit | Self::CompleteAbort)
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
    /// The producer id before the last change, -1 if there was none: mostly the same.
    pub previous_producer_id: i64,
    /// The one that comes when the transaction which is decided is done, -1 if it stays the same.
    pub next_producer_id: i64,
    /// Epoch, -1 before the first one is given out.
    pub epoch: i16,
    /// The epoch from which the producer came to this one, by asking for it (KIP-360) or by the end of a transaction of
    /// version 2; -1 if it did not, or nobody remembers: it may ask again if the answer was lost.
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
    /// By which version partitions were added last, or the transaction ended.
    pub version: TxnVersion,
}

impl TxnFacts {
    /// Of an id that nobody used before.
    #[must_use]
    pub fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer_id,
            previous_producer_id: NO_PRODUCER_ID,
            next_producer_id: NO_PRODUCER_ID,
            epoch: NO_EPOCH,
            last_epoch: NO_EPOCH,
            timeout_ms,
            state: TxnState::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            updated_ms: now_ms,
            version: TxnVersion::V0,
        }
    }

    /// Whether the producer needs a new id for its next epoch.
    #[must_use]
    pub const fn is_exhausted(&self) -> bool {
        self.epoch >= LAST_EPOCH
    }

    /// Id and epoch of the producer's next transaction, once what is decided is done.
    #[must_use]
    pub const fn next_producer(&self) -> (i64, i16) {
        match self.next_producer_id {
            NO_PRODUCER_ID => (self.producer_id, self.epoch),
            next => (next, 0),
        }
    }

    /// What is kept of it, in bytes, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + bytes_of(&self.partitions)
    }

    /// The same, from which it is to change, with these partitions.
    fn changed(&self, partitions: BTreeSet<TxnPartition>, now_ms: i64) -> Self {
        Self {
            previous_producer_id: self.producer_id,
            updated_ms: now_ms,
            partitions,
            ..*self
        }
    }

    /// No transaction, in this epoch.
    #[must_use]
    pub fn empty(&self, epoch: i16, last_epoch: i16, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            epoch,
            last_epoch,
            timeout_ms,
            state: TxnState::Empty,
            start_ms: -1,
            ..self.changed(BTreeSet::new(), now_ms)
        }
    }

    /// The transaction is decided; one with nothing in it begins with that. In version 2 the epoch grows, and of whom
    /// that was the last one gets the next id when it is done.
    #[must_use]
    pub fn prepared(&self, commits: bool, by: Ending, now_ms: i64) -> Self {
        let mut facts = Self {
            state: TxnState::prepare(commits),
            version: by.version,
            next_producer_id: by.next_producer_id,
            ..self.changed(self.partitions.clone(), now_ms)
        };
        if self.state != TxnState::Ongoing {
            facts.start_ms = now_ms;
        }
        if by.version.bumps_epoch() {
            facts.last_epoch = self.epoch;
            facts.epoch = self.epoch.saturating_add(1);
        }
        facts
    }

    /// All partitions have the markers.
    #[must_use]
    pub fn completed(&self, commits: bool, now_ms: i64) -> Self {
        let (producer_id, epoch) = self.next_producer();
        Self {
            producer_id,
            epoch,
            next_producer_id: NO_PRODUCER_ID,
            state: TxnState::complete(commits),
            start_ms: -1,
            ..self.changed(BTreeSet::new(), now_ms)
        }
    }

    /// More partitions; the first ones begin a transaction.
    #[must_use]
    pub fn with(
        &self,
        more: impl IntoIterator<Item = TxnPartition>,
        version: TxnVersion,
        now_ms: i64,
    ) -> Self {
        let goes_on = self.state == TxnState::Ongoing;
        let before = match goes_on {
            true => self.partitions.clone(),
            false => BTreeSet::new(),
        };
        let mut facts = self.changed(before, now_ms);
        if !goes_on {
            facts.start_ms = now_ms;
        }
        facts.state = TxnState::Ongoing;
        facts.partitions.extend(more);
        facts.version = version;
        facts
    }

    /// The transaction is aborted for its producer. In version 2 that one may ask what has become of it, and go on;
    /// before, it is aborted in an epoch that no producer has: whoever has begun it can do no more.
    #[must_use]
    pub fn fenced(&self, by: Ending, now_ms: i64) -> Self {
        let mut facts = self.prepared(false, by, now_ms);
        if !by.version.bumps_epoch() {
            facts.epoch = self.epoch.saturating_add(1);
            facts.last_epoch = NO_EPOCH;
        }
        facts
    }
}

/// What ids take, or may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxnUsage {
    /// Transactional ids.
    pub ids: usize,
    /// Bytes.
    pub bytes: usize,
}

impl TxnUsage {
    /// Something of it took so much before, and takes so much now.
    pub fn change(&mut self, before: Self, now: Self) {
        *self = Self {
            ids: self.ids + now.ids - before.ids,
            bytes: self.bytes + now.bytes - before.bytes,
        };
    }
}

/// By what a transaction ends.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Of whoever ends it.
    pub version: TxnVersion,
    /// A producer id that nobody has, or -1: needed in version 2 where the producer has none after this epoch.
    pub next_producer_id: i64,
}
