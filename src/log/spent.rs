//! What a pass of compaction makes of transactions: records of those that were aborted go, and the marker of one goes
//! when nothing of it is left, after the time that tombstones stay.

use std::collections::BTreeSet;

use super::Log;
use crate::base::Offset;
use crate::base::limits::PRODUCERS_PER_PARTITION_MAX;
use crate::record::BatchInfo;

/// The transactions of which something was kept, of a pass that goes through the log in order.
#[derive(Debug, Default)]
pub(super) struct KeptTransactions {
    /// Producers whose transaction has not ended so far.
    begun: BTreeSet<i64>,
    /// There were more: something may be left of any.
    are_many: bool,
}

impl KeptTransactions {
    /// A batch stays.
    pub(super) fn keep(&mut self, info: &BatchInfo) {
        if !info.is_transactional() || info.is_control() || info.records == 0 {
            return;
        }
        self.are_many |= self.begun.len() >= PRODUCERS_PER_PARTITION_MAX;
        if !self.are_many {
            self.begun.insert(info.producer_id);
        }
    }

    /// A transaction ends. Returns whether nothing of it is left.
    pub(super) fn end(&mut self, producer_id: i64) -> bool {
        !self.begun.remove(&producer_id) && !self.are_many
    }
}

impl Log {
    /// Whether a batch that is before the last stable offset is of a transaction that was aborted. What it takes to see
    /// that comes off `work`, in bytes decompressed.
    pub(super) fn is_aborted(&self, info: &BatchInfo, work: &mut usize) -> bool {
        /// Ranges that are passed in the time of one byte.
        const RANGES_PER_WORK: usize = 4;
        if !info.is_transactional() || info.is_control() {
            return false;
        }
        let (from, to) = (Offset(info.base_offset), Offset(info.last_offset() + 1));
        let mut passed = 0;
        let mut ranges = self.transactions.aborted_in(from, to);
        let is_aborted = ranges.any(|range| {
            passed += 1;
            range.producer_id == info.producer_id && range.first < to
        });
        *work = work.saturating_sub(passed / RANGES_PER_WORK);
        is_aborted
    }
}
