//! The leader epoch cache: from which offset on each epoch wrote. It answers
//! OffsetForLeaderEpoch, by which clients and followers find where their log
//! and the leader's went different ways (KIP-101, KIP-320).

use std::ops::RangeInclusive;

use crate::base::{LeaderEpoch, Offset};

/// What OffsetForLeaderEpoch answers where the epoch is not known: epoch -1, offset -1.
pub const UNDEFINED: (LeaderEpoch, Offset) = (LeaderEpoch(-1), Offset(-1));

/// Epochs and their start offsets, both strictly growing. Never empty: a log begins in some epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Epochs {
    starts: Vec<(LeaderEpoch, Offset)>,
    /// That of the last record before the log's start, as far as it is known.
    before: Option<LeaderEpoch>,
}

impl Epochs {
    /// The cache of a log that begins with this epoch and offset.
    pub(super) fn new(epoch: LeaderEpoch, start: Offset) -> Self {
        Self {
            starts: vec![(epoch, start)],
            before: None,
        }
    }

    /// A cache read back from a checkpoint; `None` if no cache could look like that.
    pub(super) fn restored(starts: Vec<(LeaderEpoch, Offset)>) -> Option<Self> {
        let before = None;
        let epochs = Self { starts, before };
        epochs.is_sound().then_some(epochs)
    }

    /// Whether there is an entry and all are in order.
    pub(super) fn is_sound(&self) -> bool {
        !self.starts.is_empty()
            && self
                .starts
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1)
    }

    /// The epoch of the last record before the log's start, as far as it is known.
    pub(super) fn before(&self) -> Option<LeaderEpoch> {
        self.before
    }

    /// The same, as it was.
    pub(super) fn restore_before(&mut self, before: Option<LeaderEpoch>) {
        self.before = before;
    }

    /// The epoch of the last record of a log that ends at `end`, deleted ones included, as far as it is known: those
    /// that begin there have written nothing, and may be no epochs of anybody's.
    pub(super) fn last_written(&self, end: Offset) -> Option<LeaderEpoch> {
        let written = self.starts.iter().rev().find(|entry| entry.1 < end);
        written.map(|entry| entry.0).or(self.before)
    }

    pub(super) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.starts
    }

    /// The newest epoch.
    pub(super) fn latest(&self) -> LeaderEpoch {
        self.starts.last().map_or(UNDEFINED.0, |last| last.0)
    }

    /// The epoch that wrote this offset; the first known one for offsets before it.
    pub(super) fn at(&self, offset: Offset) -> LeaderEpoch {
        let after = self.starts.partition_point(|entry| entry.1 <= offset);
        self.starts
            .get(after.saturating_sub(1))
            .map_or(UNDEFINED.0, |entry| entry.0)
    }

    /// Whether an epoch begins within these offsets, or is known from there on.
    pub(super) fn begins_in(&self, offsets: RangeInclusive<Offset>) -> bool {
        let from = self
            .starts
            .partition_point(|entry| entry.1 < *offsets.start());
        (self.starts.get(from)).is_some_and(|entry| offsets.contains(&entry.1))
    }

    /// Notes that `epoch` writes from `start` on. Entries that this contradicts, or that turn out
    /// to have written nothing, go. An epoch that is not newer than the latest changes nothing.
    pub(super) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if epoch <= self.latest() {
            return;
        }
        while self.starts.last().is_some_and(|last| last.1 >= start) {
            self.starts.pop();
        }
        self.starts.push((epoch, start));
    }

    /// A batch of `epoch` comes at `start`, to a log that ends at `end`. What begins at the end and is no newer has
    /// written nothing, or stands for that nothing is known: it would be taken for what has written all that the log
    /// leaves out before the batch.
    pub(super) fn wrote(&mut self, epoch: LeaderEpoch, start: Offset, end: Offset) {
        let wrote_nothing = |last: &mut (LeaderEpoch, Offset)| last.1 >= end && last.0 <= epoch;
        while self.starts.pop_if(wrote_nothing).is_some() {}
        match self.starts.is_empty() {
            true => self.starts.push((epoch, start)),
            false => self.assign(epoch, start),
        }
    }

    /// Nobody writes from the log's end up to `to`: who has written nothing begins behind that.
    pub(super) fn leave_out(&mut self, end: Offset, to: Offset) {
        if let Some(last) = self.starts.last_mut()
            && last.1 >= end
        {
            last.1 = to;
        }
    }

    /// A log without a record ends at `end` from now on: nothing is known of what will write there.
    pub(super) fn nothing_until(&mut self, end: Offset) {
        self.starts = vec![(LeaderEpoch(0), end)];
    }

    /// Forgets the epochs that began at the log's new end or after it. If none is left, nothing is known of what will
    /// write there, as in a new log.
    pub(super) fn end_at(&mut self, end: Offset) {
        while self.starts.len() > 1 && self.starts.last().is_some_and(|last| last.1 >= end) {
            self.starts.pop();
        }
        if self.starts.first().is_some_and(|first| first.1 >= end) {
            self.nothing_until(end);
        }
    }

    /// Forgets what lies before the log's new start. The epoch that wrote across it stays, and
    /// begins there.
    pub(super) fn start_at(&mut self, log_start: Offset) {
        let after = self.starts.partition_point(|entry| entry.1 <= log_start);
        if after == 0 {
            return;
        }
        self.before = self.last_written(log_start);
        self.starts.drain(..after - 1);
        if let Some(first) = self.starts.first_mut() {
            first.1 = log_start;
        }
    }

    /// The last epoch not newer than `epoch` and the offset at which it ended, `log_end` for the
    /// latest one; [`UNDEFINED`] for an epoch from the future or for -1. An epoch older than all
    /// known ones ended where the first known one begins.
    pub(super) fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> (LeaderEpoch, Offset) {
        if epoch == UNDEFINED.0 {
            return UNDEFINED;
        }
        if epoch == self.latest() {
            return (epoch, log_end);
        }
        let after = self.starts.partition_point(|entry| entry.0 <= epoch);
        let Some(higher) = self.starts.get(after) else {
            return UNDEFINED;
        };
        let floor = after
            .checked_sub(1)
            .and_then(|floor| self.starts.get(floor))
            .map_or(epoch, |entry| entry.0);
        (floor, higher.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(i32, i64)]) -> Epochs {
        let mut epochs = Epochs::new(LeaderEpoch(entries[0].0), Offset(entries[0].1));
        for entry in &entries[1..] {
            epochs.assign(LeaderEpoch(entry.0), Offset(entry.1));
        }
        assert!(epochs.is_sound());
        epochs
    }

    fn list(epochs: &Epochs) -> Vec<(i32, i64)> {
        epochs.entries().iter().map(|e| (e.0.0, e.1.0)).collect()
    }

    #[test]
    fn end_offsets_as_kafka_answers_them() {
        let epochs = cache(&[(2, 10), (4, 20), (7, 30)]);
        let ask = |epoch| {
            let (epoch, offset) = epochs.end_offset_for(LeaderEpoch(epoch), Offset(99));
            (epoch.0, offset.0)
        };
        assert_eq!(ask(-1), (-1, -1), "undefined epoch");
        assert_eq!(ask(0), (0, 10), "older than every known epoch");
        assert_eq!(ask(-2), (-2, 10), "and one that none can be");
        assert_eq!(ask(2), (2, 20));
        assert_eq!(ask(3), (2, 20), "an epoch that wrote nothing");
        assert_eq!(ask(4), (4, 30));
        assert_eq!(ask(6), (4, 30));
        assert_eq!(ask(7), (7, 99), "the current epoch ends at the log's end");
        assert_eq!(ask(8), (-1, -1), "an epoch from the future");
    }

    #[test]
    fn epochs_that_wrote_nothing_go() {
        let mut epochs = cache(&[(0, 0), (1, 5), (2, 5), (3, 5)]);
        assert_eq!(list(&epochs), [(0, 0), (3, 5)]);
        epochs.assign(LeaderEpoch(3), Offset(4));
        epochs.assign(LeaderEpoch(1), Offset(9));
        assert_eq!(list(&epochs), [(0, 0), (3, 5)], "not newer, no change");
    }

    #[test]
    fn the_end_moves_back_with_the_log() {
        let mut epochs = cache(&[(1, 5), (2, 8), (4, 12)]);
        epochs.end_at(Offset(13));
        assert_eq!(list(&epochs), [(1, 5), (2, 8), (4, 12)]);
        epochs.end_at(Offset(12));
        assert_eq!(list(&epochs), [(1, 5), (2, 8)]);
        epochs.end_at(Offset(7));
        assert_eq!(list(&epochs), [(1, 5)]);
        epochs.end_at(Offset(3));
        assert_eq!(list(&epochs), [(0, 3)], "older ones may come");
        epochs.assign(LeaderEpoch(1), Offset(3));
        assert_eq!(list(&epochs), [(1, 3)]);
    }

    #[test]
    fn a_batch_takes_the_place_of_what_has_written_nothing() {
        let wrote = |entries: &[(i32, i64)], epoch, start, end| {
            let mut epochs = cache(entries);
            epochs.wrote(LeaderEpoch(epoch), Offset(start), Offset(end));
            assert!(epochs.is_sound());
            list(&epochs)
        };
        assert_eq!(wrote(&[(0, 5)], 3, 9, 5), [(3, 9)], "nobody wrote 5 to 9");
        assert_eq!(
            wrote(&[(2, 5)], 3, 9, 5),
            [(3, 9)],
            "nor did one that began"
        );
        assert_eq!(wrote(&[(2, 5)], 2, 9, 5), [(2, 9)]);
        assert_eq!(wrote(&[(1, 0), (2, 5)], 3, 9, 5), [(1, 0), (3, 9)]);
        assert_eq!(wrote(&[(1, 0), (2, 5)], 2, 5, 5), [(1, 0), (2, 5)]);
        assert_eq!(wrote(&[(1, 0), (2, 5)], 2, 9, 8), [(1, 0), (2, 5)]);
        assert_eq!(wrote(&[(1, 0), (2, 5)], 3, 9, 8), [(1, 0), (2, 5), (3, 9)]);
    }

    #[test]
    fn the_last_record_is_known_when_it_is_deleted() {
        let mut epochs = cache(&[(1, 5), (2, 8)]);
        let last = |epochs: &Epochs, end| epochs.last_written(Offset(end)).map(|epoch| epoch.0);
        assert_eq!((last(&epochs, 9), last(&epochs, 8)), (Some(2), Some(1)));
        assert_eq!(last(&epochs, 5), None, "that it began says nothing");
        epochs.assign(LeaderEpoch(4), Offset(9));
        epochs.start_at(Offset(9));
        assert_eq!(list(&epochs), [(4, 9)]);
        assert_eq!(last(&epochs, 9), Some(2));
        epochs.end_at(Offset(9));
        assert_eq!((list(&epochs), last(&epochs, 9)), (vec![(0, 9)], Some(2)));
        epochs.nothing_until(Offset(30));
        assert_eq!((list(&epochs), last(&epochs, 30)), (vec![(0, 30)], Some(2)));
        epochs.wrote(LeaderEpoch(5), Offset(40), Offset(30));
        assert_eq!((last(&epochs, 41), last(&epochs, 40)), (Some(5), Some(2)));
    }

    #[test]
    fn the_start_moves_with_the_log() {
        let mut epochs = cache(&[(0, 0), (1, 5), (2, 8)]);
        epochs.start_at(Offset(6));
        assert_eq!(list(&epochs), [(1, 6), (2, 8)]);
        epochs.start_at(Offset(8));
        assert_eq!(list(&epochs), [(2, 8)]);
        epochs.start_at(Offset(20));
        assert_eq!(list(&epochs), [(2, 20)]);
        epochs.start_at(Offset(3));
        assert_eq!(list(&epochs), [(2, 20)], "never back");
    }

    #[test]
    fn epoch_of_an_offset() {
        let epochs = cache(&[(1, 5), (2, 8)]);
        let at = |offset| epochs.at(Offset(offset)).0;
        assert_eq!((at(0), at(5), at(7), at(8), at(100)), (1, 1, 1, 2, 2));
    }
}
