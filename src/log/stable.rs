//! What is stable in a log. The last stable offset is where a consumer stops that reads what is committed
//! (`isolation.level=read_committed`): the high watermark, or the first record of a transaction that is open, or whose
//! end is not known to be committed.

use super::Log;
use super::hints::Position;
use super::steps::{AbortedRange, ActiveProducer};
use crate::base::limits::OPEN_TRANSACTIONS_PER_LOG_MAX;
use crate::base::{ErrorCode, Offset, Refused, SegmentId};

impl Log {
    /// Where the first record is whose transaction has not ended for good.
    fn first_unstable(&self) -> Option<Position> {
        let (open, ended) = (self.producers.first_open(), self.transactions.first_ended());
        open.into_iter().chain(ended).min_by_key(|at| at.offset)
    }

    /// The first offset that those may not read who read what is committed: see the module.
    #[must_use]
    pub fn last_stable(&self) -> Offset {
        let mark = self.high_watermark();
        let unstable = self.first_unstable();
        unstable.map_or(mark, |at| mark.min(at.offset).max(self.log_start))
    }

    /// The same as a place.
    pub(super) fn stable_position(&self) -> Position {
        let mark = self.high_watermark;
        match self.first_unstable() {
            // Its first batch may be gone; there is nothing to read then.
            Some(at) if at.offset < self.log_start => Position {
                offset: self.log_start,
                segment: self.segments.front().map_or(SegmentId::FIRST, |s| s.id),
                pos: 0,
            },
            Some(at) if at.offset < mark.offset => at,
            _ => mark,
        }
    }

    /// Bytes that became stable since this was asked last; more if what was stable then is gone.
    pub fn stable_advance(&mut self) -> u64 {
        let now = self.stable_position();
        let before = std::mem::replace(&mut self.stable_seen, now);
        self.log_bytes(&now).saturating_sub(self.log_bytes(&before))
    }

    /// The aborted transactions of which something is between two offsets, in the order of their ends: who reads that
    /// leaves out what they wrote.
    #[must_use]
    pub fn aborted_between(&self, from: Offset, to: Offset) -> Vec<AbortedRange> {
        self.transactions.aborted_between(from, to)
    }

    /// The producers that have written to it and are known, by their ids.
    #[must_use]
    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        let active = self
            .producers
            .iter()
            .map(|(producer_id, known)| ActiveProducer {
                producer_id,
                producer_epoch: known.epoch,
                last_sequence: known.last_sequence(),
                last_timestamp: known.last_timestamp().unwrap_or(-1),
                coordinator_epoch: known.coordinator_epoch,
                transaction: known.transaction.map(|first| first.offset),
            });
        active.collect()
    }

    /// Whether this producer has a transaction open here, in this epoch.
    #[must_use]
    pub fn has_open_transaction(&self, producer_id: i64, producer_epoch: i16) -> bool {
        let known = self.producers.get(producer_id);
        known.is_some_and(|it| it.transaction.is_some() && it.epoch == producer_epoch)
    }

    /// Whether one more transaction may begin here.
    pub(super) fn check_transactions(&self) -> Result<(), Refused> {
        let (open, aborted) = (self.producers.open(), self.transactions.aborted());
        if open < OPEN_TRANSACTIONS_PER_LOG_MAX && aborted < self.aborted_max {
            return Ok(());
        }
        let message = format!(
            "The partition has {open} open transactions and keeps {aborted} aborted ones: another one may begin when \
             some have ended, or their records are gone. Use more partitions."
        );
        Err(Refused::because(ErrorCode::KafkaStorageError, message))
    }

    /// Whether it is known which transactions were open at an offset, to which the log is to be cut.
    pub(super) fn knows_transactions_at(&self, offset: Offset) -> bool {
        let after = self.segments.partition_point(|s| s.base <= offset);
        let segment = after.checked_sub(1).and_then(|n| self.segments.get(n));
        self.transactions.are_before(offset)
            || segment.is_some_and(|segment| self.producers.knows_before(segment.id))
    }
}
