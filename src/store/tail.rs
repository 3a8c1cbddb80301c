//! The memory tail: which slices of which segments are kept for those who read the newest batches, oldest first,
//! and how much memory that may be.

use crate::base::limits::TAIL_OVER_BYTES_MAX;
use crate::base::{LogId, Queue, SegmentId};

/// What a slice itself takes, and its place here.
const SLICE_BYTES: usize = 128;

#[derive(Debug)]
pub(super) struct Tail {
    slices: Queue<(LogId, SegmentId, usize)>,
    bytes: usize,
    max: usize,
    /// What it may take as long as it has not yet forgotten what is too much: beyond that nothing may be added.
    ceiling: usize,
    /// Of the oldest, what was within the bound until that came down.
    given_up: usize,
    missed: u64,
}

impl Tail {
    pub fn new(max: usize) -> Self {
        let mut tail = Self {
            slices: Queue::default(),
            bytes: 0,
            max: 0,
            ceiling: 0,
            given_up: 0,
            missed: 0,
        };
        tail.set_max(max);
        tail
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it may take.
    #[cfg(test)]
    pub fn bytes_max(&self) -> usize {
        self.max
    }

    /// Memory that it could have done with besides, so far.
    pub fn missed_bytes(&self) -> u64 {
        self.missed
    }

    /// A slice was still there, and had to be forgotten for lack of so much memory.
    pub fn missed(&mut self, bytes: usize) {
        self.missed += bytes as u64;
    }

    /// Its bound from now on.
    pub fn set_max(&mut self, max: usize) {
        let (less, more) = (
            self.bytes.min(self.max).saturating_sub(max),
            max.saturating_sub(self.max),
        );
        let given_up = (self.given_up + less).saturating_sub(more);
        self.given_up = given_up.min(self.bytes.saturating_sub(max));
        self.max = max;
        // However often it moves, what is forgotten on the way makes room for more once.
        self.ceiling = self.ceiling.max(max.saturating_add(TAIL_OVER_BYTES_MAX));
        self.lower_ceiling();
    }

    /// What is forgotten makes no room for more before the bound is kept.
    fn lower_ceiling(&mut self) {
        let now = self.bytes.max(self.max).saturating_add(TAIL_OVER_BYTES_MAX);
        self.ceiling = self.ceiling.min(now);
    }

    /// Whether something is to be forgotten.
    pub fn is_over(&self) -> bool {
        self.bytes > self.max
    }

    /// Whether something has to be forgotten before anything is added.
    pub fn is_full(&self) -> bool {
        self.bytes > self.ceiling
    }

    /// Takes a segment's newest slice, with which so much memory goes.
    pub fn push(&mut self, log: LogId, segment: SegmentId, bytes: usize) {
        let bytes = bytes + SLICE_BYTES;
        self.slices.push_back((log, segment, bytes));
        self.bytes += bytes;
    }

    /// Whose oldest slice has to be forgotten for the tail to keep to its bound, if one has to; and for lack of how
    /// much memory, which is none if the bound came down.
    pub fn forget(&mut self) -> Option<(LogId, SegmentId, usize)> {
        if !self.is_over() {
            return None;
        }
        let (log, segment, bytes) = self.slices.pop_front()?;
        self.bytes -= bytes;
        self.lower_ceiling();
        let lacking = if self.given_up == 0 { bytes } else { 0 };
        self.given_up = self.given_up.saturating_sub(bytes);
        Some((log, segment, lacking))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn push(tail: &mut Tail, segment: u64, bytes: usize) {
        tail.push(LogId(1), SegmentId(segment), bytes - SLICE_BYTES);
    }

    fn forget(tail: &mut Tail) -> Vec<(u64, usize)> {
        std::iter::from_fn(|| tail.forget().map(|(_, segment, bytes)| (segment.0, bytes))).collect()
    }

    #[test]
    fn the_oldest_are_forgotten_in_order() {
        let mut tail = Tail::new(10_000);
        for n in 0..12 {
            push(&mut tail, n, 1000);
        }
        assert_eq!(forget(&mut tail), [(0, 1000), (1, 1000)]);
        tail.set_max(8_999);
        assert!(tail.is_over() && !tail.is_full());
        push(&mut tail, 12, 500);
        assert_eq!(
            forget(&mut tail),
            [(2, 0), (3, 0)],
            "they would have been kept, had the bound not come down"
        );
        push(&mut tail, 13, 1000);
        assert_eq!(forget(&mut tail), [(4, 1000)]);
        assert_eq!(tail.bytes(), 8500);
        tail.set_max(0);
        assert_eq!(forget(&mut tail).len(), 9);
        assert!(!tail.is_over());
    }

    #[test]
    fn a_bound_that_moves_all_the_time_lets_nobody_past_it() {
        let mut tail = Tail::new(10 * MIB);
        for n in 0..10 {
            push(&mut tail, n, MIB);
        }
        let mut pushed = 0;
        for n in 1..=100 {
            tail.set_max(10 * MIB - n % 2 * 1000 - n);
            if !tail.is_full() {
                push(&mut tail, 10 + n as u64, MIB);
                pushed += 1;
            }
        }
        assert_eq!(pushed, TAIL_OVER_BYTES_MAX / MIB + 1);
        // Of what is forgotten now only that counts as given up which was within the bound.
        let missed: usize = forget(&mut tail).iter().map(|(_, bytes)| bytes).sum();
        assert!((4 * MIB..=5 * MIB).contains(&missed), "{missed}");
    }

    #[test]
    fn what_is_forgotten_slowly_makes_no_room() {
        let mut tail = Tail::new(10 * MIB);
        for n in 0..10 {
            push(&mut tail, n, MIB);
        }
        // It may be so much over its bound, and not more.
        push(&mut tail, 10, TAIL_OVER_BYTES_MAX);
        assert!(!tail.is_full());
        push(&mut tail, 11, 1000);
        assert!(tail.is_full());
        tail.forget();
        assert!(!tail.is_full());
        forget(&mut tail);
        // The bound comes down far below what there is: what is added meanwhile is no problem, if it is little.
        tail.set_max(0);
        assert!(tail.is_over() && !tail.is_full());
        for n in 12..40 {
            push(&mut tail, n, MIB);
            tail.forget();
            assert!(!tail.is_full(), "one for one");
        }
        push(&mut tail, 40, TAIL_OVER_BYTES_MAX);
        push(&mut tail, 41, 1000);
        assert!(tail.is_full());
        forget(&mut tail);
        push(&mut tail, 42, TAIL_OVER_BYTES_MAX);
        assert!(!tail.is_full());
        push(&mut tail, 43, 1000);
        assert!(tail.is_full(), "the ceiling has come down with it");
    }
}
