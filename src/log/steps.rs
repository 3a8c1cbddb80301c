//! What happens to transactions in a log, and what is told of them.

use super::hints::Position;
use crate::base::Offset;
use crate::record::EndMarker;

/// What a batch is to the transaction of its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TransactionStep {
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    /// Offset of the batch's last record.
    pub(super) last_offset: Offset,
    /// Its largest timestamp.
    pub(super) timestamp: i64,
    /// Its end, if it is that; otherwise records of it.
    pub(super) end: Option<EndMarker>,
}

/// A transaction that has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndedTransaction {
    pub(super) producer_id: i64,
    pub(super) first: Position,
    /// Offset of its marker.
    pub(super) last: Offset,
    pub(super) commits: bool,
}

/// A transaction that was aborted: who reads what is committed leaves out what its producer wrote from `first` to
/// `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedRange {
    /// Its producer.
    pub producer_id: i64,
    /// Offset of its first record.
    pub first: Offset,
    /// Offset of its marker.
    pub last: Offset,
    /// Nothing of a transaction that ends later begins before this.
    pub stable: Offset,
}

/// What a log keeps in memory because of what clients make up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogKept {
    /// Entries of producers: those of before a segment count too.
    pub producers: usize,
    /// Aborted transactions.
    pub aborted: usize,
}

/// A producer that has written to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Sequence of its last record; -1 if none is known.
    pub last_sequence: i32,
    /// Largest timestamp of its last batch, -1 if it has none.
    pub last_timestamp: i64,
    /// Epoch of the coordinator that ended its last transaction; -1 if none is known.
    pub coordinator_epoch: i32,
    /// First offset of the transaction that it has open.
    pub transaction: Option<Offset>,
}

/// The end of a producer's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndOfTransaction {
    /// The producer.
    pub producer_id: i64,
    /// In which epoch it is ended.
    pub producer_epoch: i16,
    /// Epoch of the coordinator that has decided it.
    pub coordinator_epoch: i32,
    /// Committed, or else aborted.
    pub commits: bool,
    /// `transaction.version` by which it ends.
    pub version: i8,
}
