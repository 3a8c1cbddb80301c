//! What the coordinator is asked by a producer, and what it wants done.

use std::sync::Arc;

use super::state::TxnPartition;
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

/// What the coordinator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnEffect {
    /// Append these records to the coordinator's partition as one batch, then call [`super::TxnCoordinator::appended`].
    Append {
        /// Number of the append.
        append: u64,
        /// At least one.
        records: Arc<[Record]>,
    },
    /// The answer to an InitProducerId.
    Inited(u64, Result<TxnProducer, ErrorCode>),
    /// Ask once more with a producer id that nobody has.
    NeedsProducerId(u64, InitTxn),
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
    /// When that was decided, wall clock ms.
    pub decided_ms: i64,
    /// Where.
    pub partitions: Vec<TxnPartition>,
}
