//! What the coordinator is asked by a producer, and what it wants done.

use std::sync::Arc;

use super::state::{TxnPartition, TxnVersion};
use crate::base::coordinating::Record;
use crate::base::{ErrorCode, Name};

/// A producer id with its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TxnProducer {
    /// Producer id.
    pub id: i64,
    /// Epoch.
    pub epoch: i16,
}

/// An InitProducerId.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitTxn {
    /// Transactional id.
    pub id: Name,
    /// How long its transactions may take, ms.
    pub timeout_ms: i32,
    /// Who the producer says that it is: it asks for its next epoch (KIP-360).
    pub expected: Option<TxnProducer>,
    /// A producer id that nobody has, once [`TxnEffect::NeedsProducerId`] asked for one.
    pub fresh: Option<i64>,
}

/// An EndTxn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndTxn {
    /// Transactional id.
    pub id: Name,
    /// Whose transaction.
    pub producer: TxnProducer,
    /// Committed, or else aborted.
    pub commits: bool,
    /// By which version of transactions the client goes.
    pub version: TxnVersion,
    /// A producer id that nobody has, as of an [`InitTxn`].
    pub fresh: Option<i64>,
}

/// For what a producer id is needed that nobody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NeedsId {
    /// A request, with its token.
    Init(u64, InitTxn),
    /// The same.
    End(u64, EndTxn),
    /// The transaction of this id takes too long.
    Abort(Name),
}

/// What the coordinator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnEffect {
    /// Append these records to the coordinator's partition as one batch, then call [`super::TxnCoordinator::appended`].
    Append {
        /// Number of the append.
        append: u64,
        /// At least one.
        records: Arc<[Record]>,
        /// By it a transaction ends that was going on, or is decided: nothing else makes it end.
        ends: bool,
    },
    /// The answer to an InitProducerId or an EndTxn: as whom the producer goes on.
    Producer(u64, Result<TxnProducer, ErrorCode>),
    /// Call [`super::TxnCoordinator::got_id`] with a producer id that nobody has, or why there is none.
    NeedsProducerId(NeedsId),
    /// The answer to any other request that writes.
    Done(u64, ErrorCode),
    /// Have these markers written, then call [`super::TxnCoordinator::marked`] for each of the partitions.
    Markers(MarkersToSend),
}

/// Markers that are to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkersToSend {
    /// The transactional id.
    pub id: Name,
    /// Which time that its markers are sent: for [`super::TxnCoordinator::marked`].
    pub round: u64,
    /// Whose transaction it was.
    pub producer: TxnProducer,
    /// Whether it commits.
    pub commits: bool,
    /// By which version of transactions: from 2 on the epoch is newer than that of the records.
    pub version: TxnVersion,
    /// When that was decided, wall clock ms.
    pub decided_ms: i64,
    /// Where.
    pub partitions: Vec<TxnPartition>,
}
