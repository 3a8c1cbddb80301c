//! Who waits for a mark of a log, in the order of the offsets.

use std::collections::VecDeque;

use crate::base::Offset;
use crate::base::limits::WAITS_KEPT_MIN;

/// See the module.
#[derive(Debug)]
pub(super) struct Waits<W>(VecDeque<(Offset, W)>);

impl<W> Default for Waits<W> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<W> Waits<W> {
    /// Somebody waits until the mark is at `offset`. Most wait for a later one than those before; a retry may wait for
    /// an earlier one, its original's.
    pub(super) fn push(&mut self, offset: Offset, waiter: W) {
        let after = match self.0.back() {
            Some((last, _)) if *last > offset => self.0.partition_point(|(at, _)| *at <= offset),
            _ => self.0.len(),
        };
        self.0.insert(after, (offset, waiter));
    }

    /// The next one who does not wait any more, if the mark is here.
    pub(super) fn pop(&mut self, mark: Offset) -> Option<W> {
        if self.0.front()?.0 > mark {
            return None;
        }
        let (_, waiter) = self.0.pop_front()?;
        if self.0.is_empty() && self.0.capacity() > WAITS_KEPT_MIN {
            self.0.shrink_to(WAITS_KEPT_MIN);
        }
        Some(waiter)
    }

    /// All of them, in order.
    pub(super) fn into_waiters(self) -> impl Iterator<Item = W> {
        self.0.into_iter().map(|(_, waiter)| waiter)
    }

    /// Panics if somebody waits for what is there.
    pub(super) fn invariants(&self, mark: Offset) {
        let offsets = self.0.iter().map(|(offset, _)| *offset);
        assert!(offsets.is_sorted(), "waits are in order");
        let first = self.0.front();
        assert!(
            first.is_none_or(|(offset, _)| *offset > mark),
            "somebody waits and the mark is at {mark}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn_when_the_mark_is_there() {
        let mut waits = Waits::default();
        for (offset, waiter) in [(10, 'a'), (20, 'b'), (10, 'c'), (30, 'd'), (15, 'e')] {
            waits.push(Offset(offset), waiter);
        }
        let mut reached =
            |mark| -> String { std::iter::from_fn(|| waits.pop(Offset(mark))).collect() };
        assert_eq!(reached(9), "");
        assert_eq!(reached(19), "ace");
        assert_eq!(reached(20), "b");
        waits.push(Offset(25), 'f');
        assert_eq!(waits.into_waiters().collect::<String>(), "fd");
    }

    #[test]
    fn a_crowd_leaves_no_memory_behind() {
        let mut waits = Waits::default();
        (0..10_000).for_each(|n| waits.push(Offset(n), n));
        (0..10_000).for_each(|n| assert_eq!(waits.pop(Offset(n)), Some(n)));
        assert!(waits.0.capacity() <= 2 * WAITS_KEPT_MIN);
    }
}
