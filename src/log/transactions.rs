//! Which transactions there are in a log: those that have ended and may yet be cut off, and the ranges of those that
//! were aborted. Which are open each producer's entry says (`producers`). Everything comes from the batches, so that
//! it is the same on every replica.
//!
//! What of it those may read who read what is committed: `stable`.

use std::collections::VecDeque;
use std::ops::Range;

use super::codec::{Malformed, Reader, Writer};
use super::hints::Position;
use super::steps::{AbortedRange, EndedTransaction};
use crate::base::Offset;
use crate::base::limits::TRANSACTIONS_ENDED_MAX;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Transactions {
    /// By the offsets of their markers, which are not known to be committed: each with where it began.
    ended: VecDeque<(Offset, Position)>,
    /// By the offsets of their markers.
    aborted: VecDeque<AbortedRange>,
    /// Offset of the first batch of any transaction, and where the last one ends.
    span: Option<(Offset, Offset)>,
}

impl Transactions {
    /// A batch of a transaction is in the log.
    pub(super) fn saw(&mut self, base: Offset, next: Offset) {
        let (first, _) = *self.span.get_or_insert((base, next));
        self.span = Some((first, next));
    }

    /// A transaction has ended; the first one that is open still begins here.
    pub(super) fn end(&mut self, ended: EndedTransaction, open: Option<Position>) {
        let EndedTransaction { first, last, .. } = ended;
        if self.ended.len() >= TRANSACTIONS_ENDED_MAX
            && let Some((_, newest)) = self.ended.pop_back()
        {
            // Both are waited for together.
            let both = if newest.offset < first.offset {
                newest
            } else {
                first
            };
            self.ended.push_back((last, both));
        } else {
            self.ended.push_back((last, first));
        }
        if !ended.commits {
            self.aborted.push_back(AbortedRange {
                producer_id: ended.producer_id,
                first: first.offset,
                last,
                stable: open.map_or(last.plus(1), |open| open.offset),
            });
        }
    }

    /// What is before the high watermark has ended for good.
    pub(super) fn are_committed(&mut self, high_watermark: Offset) {
        while self
            .ended
            .front()
            .is_some_and(|(last, _)| *last < high_watermark)
        {
            self.ended.pop_front();
        }
    }

    /// Nothing is read any more that is before the log's start.
    pub(super) fn start_at(&mut self, start: Offset) {
        // All of that is committed.
        self.are_committed(start);
        while self.aborted.front().is_some_and(|range| range.last < start) {
            self.aborted.pop_front();
        }
        self.span = self.span.filter(|(_, newest)| *newest > start);
    }

    /// Of what was aborted nothing is left before this, but where segments were left as they are.
    pub(super) fn cleaned_to(&mut self, end: Offset, left: Range<Offset>) {
        let count = self.aborted.partition_point(|range| range.last < end);
        let behind = self.aborted.split_off(count);
        self.aborted
            .retain(|range| range.first < left.end && left.start <= range.last);
        self.aborted.extend(behind);
    }

    /// What is not before this is gone.
    pub(super) fn cut_back(&mut self, end: Offset) {
        // One that stands for several is waited for on, as some of them may have ended before that.
        let several = self.ended.back().filter(|(last, first)| {
            self.ended.len() >= TRANSACTIONS_ENDED_MAX && *last >= end && first.offset < end
        });
        let several = several.map(|(_, first)| (Offset(end.0 - 1), *first));
        self.ended.retain(|(last, _)| *last < end);
        self.ended.extend(several);
        while self.aborted.back().is_some_and(|range| range.last >= end) {
            self.aborted.pop_back();
        }
        let span = self.span.filter(|(first, _)| *first < end);
        self.span = span.map(|(first, newest)| (first, newest.min(end)));
    }

    /// Where those began whose end may yet be cut off.
    pub(super) fn ended_firsts(&self) -> impl Iterator<Item = Position> + '_ {
        self.ended.iter().map(|(_, first)| *first)
    }

    /// Where the first of those began whose end may yet be cut off.
    pub(super) fn first_ended(&self) -> Option<Position> {
        self.ended_firsts().min_by_key(|first| first.offset)
    }

    /// How many were aborted.
    pub(super) fn aborted(&self) -> usize {
        self.aborted.len()
    }

    /// How many of those ended here or later.
    pub(super) fn aborted_from(&self, offset: Offset) -> usize {
        let before = self.aborted.partition_point(|range| range.last < offset);
        self.aborted.len() - before
    }

    /// Whether none has anything at this offset or behind it.
    pub(super) fn are_before(&self, offset: Offset) -> bool {
        self.span.is_none_or(|(_, newest)| newest <= offset)
    }

    /// The ranges among which all are that have something between two offsets.
    pub(super) fn aborted_in(
        &self,
        from: Offset,
        to: Offset,
    ) -> impl Iterator<Item = &AbortedRange> {
        let begin = self.aborted.partition_point(|range| range.last < from);
        let mut is_over = false;
        let ranges = self.aborted.range(begin..);
        ranges.take_while(move |range| !std::mem::replace(&mut is_over, range.stable >= to))
    }

    /// The ranges that have something between two offsets.
    pub(super) fn aborted_between(&self, from: Offset, to: Offset) -> Vec<AbortedRange> {
        let ranges = self.aborted_in(from, to);
        ranges.filter(|range| range.first < to).copied().collect()
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.unsigned(self.ended.len() as u64);
        for (last, first) in &self.ended {
            out.signed(last.0);
            write_place(out, first);
        }
        out.unsigned(self.aborted.len() as u64);
        let mut before = 0;
        for range in &self.aborted {
            out.signed(range.producer_id);
            out.signed(range.last.0.wrapping_sub(before));
            out.signed(range.last.0.wrapping_sub(range.first.0));
            out.signed(range.last.0.wrapping_sub(range.stable.0));
            before = range.last.0;
        }
        out.byte(u8::from(self.span.is_some()));
        if let Some((first, newest)) = self.span {
            out.signed(first.0);
            out.signed(newest.0);
        }
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut read = Self::default();
        for _ in 0..input.count()? {
            let last = input.offset()?;
            read.ended.push_back((last, read_place(input)?));
        }
        let mut before = 0;
        for _ in 0..input.count()? {
            let producer_id = input.signed()?;
            before = i64::wrapping_add(before, input.signed()?);
            let first = before.wrapping_sub(input.signed()?);
            let stable = before.wrapping_sub(input.signed()?);
            read.aborted.push_back(AbortedRange {
                producer_id,
                first: Offset(first),
                last: Offset(before),
                stable: Offset(stable),
            });
        }
        if input.flag()? {
            read.span = Some((input.offset()?, input.offset()?));
        }
        match read.is_sound() {
            true => Ok(read),
            false => Err(Malformed("its transactions are not in order")),
        }
    }

    /// Whether they are in order.
    fn is_sound(&self) -> bool {
        let ended = self.ended.iter().map(|(last, _)| last);
        let aborted = self.aborted.iter().map(|range| range.last);
        let in_bounds = |range: &AbortedRange| {
            range.first.0 >= 0
                && range.first < range.last
                && range.stable.0 <= range.last.0.saturating_add(1)
        };
        ended.is_sorted()
            && aborted.is_sorted()
            && self.ended.iter().all(|(last, first)| first.offset <= *last)
            && self.aborted.iter().all(in_bounds)
            && self.span.is_none_or(|(first, newest)| first < newest)
    }

    /// The same in a log that ends here.
    pub(super) fn check(&self, end: Offset) -> Result<(), String> {
        let newest = self.span.map_or(Offset(0), |(_, newest)| newest);
        let last_ended = self.ended.back().map(|(last, _)| *last);
        let last = last_ended.max(self.aborted.back().map(|range| range.last));
        match self.is_sound() && newest <= end && last.is_none_or(|last| last < newest) {
            true => Ok(()),
            false => Err("its transactions are not in order".to_owned()),
        }
    }
}

pub(super) fn write_place(out: &mut Writer, at: &Position) {
    out.signed(at.offset.0);
    out.unsigned(at.segment.0);
    out.unsigned(at.pos);
}

pub(super) fn read_place(input: &mut Reader<'_>) -> Result<Position, Malformed> {
    Ok(Position {
        offset: input.offset()?,
        segment: input.segment()?,
        pos: input.unsigned()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SegmentId;

    fn at(offset: i64) -> Position {
        Position {
            offset: Offset(offset),
            segment: SegmentId::FIRST,
            pos: offset as u64 * 100,
        }
    }

    fn ended(producer_id: i64, first: i64, last: i64, commits: bool) -> EndedTransaction {
        EndedTransaction {
            producer_id,
            first: at(first),
            last: Offset(last),
            commits,
        }
    }

    fn found(all: &Transactions, from: i64, to: i64) -> Vec<i64> {
        let found = all.aborted_between(Offset(from), Offset(to));
        found.iter().map(|range| range.producer_id).collect()
    }

    /// Batches in segments that compaction has passed are still of what was aborted.
    #[test]
    fn what_was_aborted_is_known_where_compaction_has_left_it() {
        let mut all = Transactions::default();
        for (id, first) in [(1, 0), (2, 12), (3, 8), (4, 22), (5, 40)] {
            all.end(ended(id, first, 10 * id - 1, false), None);
        }
        let mut none_left = all.clone();
        none_left.cleaned_to(Offset(40), Offset(0)..Offset(0));
        assert_eq!(found(&none_left, 0, 99), [5]);
        all.cleaned_to(Offset(40), Offset(10)..Offset(20));
        assert_eq!(found(&all, 0, 99), [2, 3, 5]);
        all.cleaned_to(Offset(40), Offset(5)..Offset(12));
        assert_eq!(found(&all, 0, 99), [3, 5]);
    }

    #[test]
    fn ranges_are_found_by_what_they_overlap() {
        let mut all = Transactions::default();
        all.saw(Offset(0), Offset(100));
        all.end(ended(1, 5, 10, false), Some(at(3)));
        all.end(ended(2, 12, 20, true), Some(at(3)));
        all.end(ended(3, 3, 30, false), None);
        all.end(ended(4, 40, 50, false), None);
        assert_eq!(found(&all, 0, 100), [1, 3, 4]);
        assert_eq!(found(&all, 0, 3), [0; 0]);
        assert_eq!(
            found(&all, 0, 4),
            [3],
            "it ends behind one that does not count"
        );
        assert_eq!(found(&all, 10, 12), [1, 3]);
        assert_eq!(found(&all, 11, 12), [3]);
        assert_eq!(found(&all, 31, 40), [0; 0]);
        assert_eq!(found(&all, 31, 41), [4]);
        let mut out = Writer::default();
        all.write(&mut out);
        let bytes = out.finish();
        let mut input = Reader::new(&bytes);
        assert_eq!(Transactions::read(&mut input), Ok(all.clone()));
        all.cut_back(Offset(30));
        assert_eq!(found(&all, 0, 100), [1]);
        all.start_at(Offset(11));
        assert_eq!(found(&all, 0, 100), [0; 0]);
        assert_eq!(all.span, Some((Offset(0), Offset(30))));
        all.start_at(Offset(30));
        assert_eq!(all.span, None);
    }

    #[test]
    fn many_that_wait_are_waited_for_together() {
        let mut all = Transactions::default();
        for n in 0..2 * TRANSACTIONS_ENDED_MAX as i64 {
            all.saw(Offset(2 * n), Offset(2 * n + 2));
            all.end(ended(n, 2 * n, 2 * n + 1, true), None);
        }
        assert_eq!(all.ended.len(), TRANSACTIONS_ENDED_MAX);
        let together = 2 * TRANSACTIONS_ENDED_MAX as i64 - 2;
        all.are_committed(Offset(together));
        assert_eq!(all.first_ended(), Some(at(together)));
        all.are_committed(Offset(2 * together));
        assert_eq!(all.first_ended(), Some(at(together)), "the last is not");
        all.are_committed(Offset(4 * TRANSACTIONS_ENDED_MAX as i64));
        assert_eq!(all.first_ended(), None);
    }

    #[test]
    fn many_that_are_waited_for_together_are_waited_for_when_some_are_cut_off() {
        let mut all = Transactions::default();
        let many = TRANSACTIONS_ENDED_MAX as i64 + 2;
        for n in 0..many {
            all.saw(Offset(2 * n), Offset(2 * n + 2));
            all.end(ended(n, 2 * n, 2 * n + 1, true), None);
        }
        // The last three are one, and the first of them stays.
        let end = Offset(2 * many - 4);
        all.cut_back(end);
        assert_eq!(all.check(end), Ok(()));
        all.are_committed(Offset(end.0 - 1));
        assert_eq!(all.first_ended(), Some(at(end.0 - 2)));
        all.are_committed(end);
        assert_eq!(all.first_ended(), None);
    }
}
