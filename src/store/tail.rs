//! The memory tail: which slices of which segments are kept for those who read the newest batches, oldest first,
//! and how much memory that may be.

use std::collections::VecDeque;

use crate::base::{LogId, SegmentId};

/// What a slice itself takes, and its place here.
const SLICE_BYTES: usize = 128;

#[derive(Debug)]
pub(super) struct Tail {
    slices: VecDeque<(LogId, SegmentId, usize)>,
    bytes: usize,
    max: usize,
    forgotten: u64,
}

impl Tail {
    pub fn new(max: usize) -> Self {
        Self {
            slices: VecDeque::new(),
            bytes: 0,
            max,
            forgotten: 0,
        }
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory that it would have taken besides, so far, had it not been for its bound.
    pub fn forgotten_bytes(&self) -> u64 {
        self.forgotten
    }

    /// Its bound from now on.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Whether something is to be forgotten.
    pub fn is_over(&self) -> bool {
        self.bytes > self.max
    }

    /// Takes a segment's newest slice, with which so much memory goes.
    pub fn push(&mut self, log: LogId, segment: SegmentId, bytes: usize) {
        let bytes = bytes + SLICE_BYTES;
        self.slices.push_back((log, segment, bytes));
        self.bytes += bytes;
    }

    /// Whose oldest slice has to be forgotten for the tail to keep to its bound, if one has to.
    pub fn forget(&mut self) -> Option<(LogId, SegmentId)> {
        if !self.is_over() {
            return None;
        }
        let (log, segment, bytes) = self.slices.pop_front()?;
        self.bytes -= bytes;
        self.forgotten += bytes as u64;
        Some((log, segment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_in_order() {
        let mut tail = Tail::new(10_000);
        for n in 0..12 {
            tail.push(LogId(1), SegmentId(n), 1000 - SLICE_BYTES);
        }
        let forget = |tail: &mut Tail| -> Vec<u64> {
            std::iter::from_fn(|| tail.forget().map(|(_, segment)| segment.0)).collect()
        };
        assert_eq!(forget(&mut tail), [0, 1]);
        tail.set_max(8_999);
        assert!(tail.is_over());
        assert_eq!(forget(&mut tail), [2, 3]);
        assert_eq!((tail.bytes(), tail.forgotten_bytes()), (8000, 4000));
        tail.set_max(0);
        assert_eq!(forget(&mut tail).len(), 8);
        assert!(!tail.is_over());
    }
}
