//! Segments that are cleaned: what is left of them is written to a log of its own, which nobody reads, and takes
//! their place with one entry of the journal. A crash before that leaves the old segments, one after it the new one,
//! and a log besides that is deleted when the store is begun again.

use bytes::Bytes;

use super::api::{Cleaned, FlushSeq, LogLabel};
use super::journal::Entry;
use super::map::Segment;
use super::{Store, StoreFull};
use crate::base::{LeaderEpoch, LogId, Offset, SegmentId};
use crate::store::RoomFor;

impl Store {
    /// Makes the log in which segments of another one are cleaned; the cleaned one begins at `base`.
    pub fn begin_cleaning(&mut self, log: LogId, label: LogLabel, base: Offset) -> FlushSeq {
        self.before_cleaning(log);
        self.create_log(log.cleaning(), label, base)
    }

    /// Adds a batch to what is left of them, with the base offset and the leader epoch that it has.
    ///
    /// # Errors
    /// [`StoreFull`] if it leaves no room for what clients write; nothing is kept then.
    pub fn append_cleaned(
        &mut self,
        log: LogId,
        batch: Bytes,
        base_offset: Offset,
        epoch: LeaderEpoch,
    ) -> Result<FlushSeq, StoreFull> {
        if !self.has_room(batch.len(), RoomFor::Clients) {
            return Err(StoreFull);
        }
        self.before_cleaning(log);
        Ok(self.append_anyway(log.cleaning(), batch, base_offset, epoch))
    }

    /// Puts what is left in the place of these segments, of which none is active, with an opaque note. All of it has
    /// to be durable, and a checkpoint that is being made must not [lack](Self::lacks) the log. It can be read as the
    /// log's at once.
    pub fn end_cleaning(&mut self, log: LogId, cleaned: Cleaned, note: Bytes) -> FlushSeq {
        self.before_cleaning(log);
        self.cleaned.insert(log, cleaned.by);
        self.push_entry(Entry::Clean { log, cleaned, note })
    }

    /// Gives up what is left.
    pub fn give_up_cleaning(&mut self, log: LogId) -> FlushSeq {
        self.before_cleaning(log);
        self.delete_log(log.cleaning())
    }

    /// The logs of which segments were being cleaned.
    pub fn cleanings(&self) -> impl Iterator<Item = LogId> + '_ {
        let logs = self.map.logs.keys().copied();
        let cleanings = logs.filter(|log| log.is_cleaning());
        cleanings.map(LogId::cleaned)
    }

    /// A checkpoint that is being made takes it as it is: it has no state.
    fn before_cleaning(&mut self, log: LogId) {
        self.give_state(log.cleaning(), Bytes::new());
    }

    /// A segment of a log, as the log knows it. One that was cleaned may still be where it was written.
    pub(super) fn segment(&self, log: LogId, segment: SegmentId) -> Option<&Segment> {
        let (log, segment) = match self.cleaned.get(&log) {
            Some(by) if *by == segment => (log.cleaning(), SegmentId::FIRST),
            _ => (log, segment),
        };
        self.map.logs.get(&log)?.segment(segment)
    }

    /// A segment has become one of another log: whoever speaks of it means that from now on. What is in no chunk yet
    /// stays in memory of its own; the tail is for what was written last.
    pub(super) fn renamed(&mut self, was: (LogId, SegmentId), is: (LogId, SegmentId)) {
        self.cleaned.remove(&is.0);
        if let Some(segment) = self.map.segment_mut(is.0, is.1) {
            self.gone.push_back(segment.leave_tail());
        }
        for at in self
            .filled
            .iter_mut()
            .map(|(at, _)| at)
            .filter(|at| **at == was)
        {
            *at = is;
        }
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.renamed(was, is);
        }
    }
}
