//! Who waits for a mark of a log, in the order of the offsets.

use std::collections::{BTreeMap, VecDeque};

use crate::base::Offset;
use crate::base::limits::WAITS_KEPT_MIN;

/// See the module.
#[derive(Debug)]
pub(super) struct Waits<W> {
    /// Each for no earlier offset than those before.
    in_order: VecDeque<(Offset, W)>,
    /// Retries of what others have come behind: they wait for their originals' offsets, and are numbered. A crowd of
    /// them, put where they belong in the queue, would move the rest of it each time.
    retries: BTreeMap<(Offset, u64), W>,
    /// How many retries there were.
    numbered: u64,
}

impl<W> Default for Waits<W> {
    fn default() -> Self {
        Self {
            in_order: VecDeque::new(),
            retries: BTreeMap::new(),
            numbered: 0,
        }
    }
}

impl<W> Waits<W> {
    /// Somebody waits until the mark is at `offset`.
    pub(super) fn push(&mut self, offset: Offset, waiter: W) {
        match self.in_order.back() {
            Some((last, _)) if *last > offset => {
                self.numbered += 1;
                self.retries.insert((offset, self.numbered), waiter);
            }
            _ => self.in_order.push_back((offset, waiter)),
        }
    }

    /// The first offset that somebody waits for.
    fn first(&self) -> Option<Offset> {
        let in_order = self.in_order.front().map(|(offset, _)| *offset);
        let retried = self.retries.keys().next().map(|(offset, _)| *offset);
        in_order.into_iter().chain(retried).min()
    }

    /// The next one who does not wait any more, if the mark is here.
    pub(super) fn pop(&mut self, mark: Offset) -> Option<W> {
        let first = self.first().filter(|first| *first <= mark)?;
        if let Some((offset, _)) = self.in_order.front()
            && *offset > first
        {
            return self.retries.pop_first().map(|(_, waiter)| waiter);
        }
        let (_, waiter) = self.in_order.pop_front()?;
        if self.in_order.is_empty() && self.in_order.capacity() > WAITS_KEPT_MIN {
            self.in_order.shrink_to(WAITS_KEPT_MIN);
        }
        Some(waiter)
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.in_order.is_empty()
    }

    /// Panics if somebody waits for what is there.
    pub(super) fn invariants(&self, mark: Offset) {
        self.are_in_order();
        assert!(
            self.first().is_none_or(|first| first > mark),
            "somebody waits and the mark is at {mark}"
        );
    }

    /// Panics if they are not in order, or a retry would be told after all others.
    pub(super) fn are_in_order(&self) {
        let offsets = self.in_order.iter().map(|(offset, _)| *offset);
        assert!(offsets.is_sorted(), "waits are in order");
        let last = self.in_order.back().map(|(offset, _)| *offset);
        let retried = self.retries.keys().next_back();
        assert!(
            retried.is_none_or(|(offset, _)| last.is_some_and(|last| last > *offset)),
            "a retry is before what has come behind it"
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
        let rest = std::iter::from_fn(|| waits.pop(Offset(30)));
        assert_eq!(rest.collect::<String>(), "fd");
        assert!(waits.is_empty());
    }

    /// It would take minutes if each retry made all that come behind its original move.
    #[test]
    fn retries_of_the_middle_leave_the_rest_where_it_is() {
        const MANY: i64 = 400_000;
        let mut waits = Waits::default();
        (0..MANY).for_each(|n| waits.push(Offset(2 * n), (2 * n, 0)));
        // Some wait with their originals, others for what nobody waits for in this way.
        for n in MANY / 2..MANY {
            waits.push(Offset(n), (n, 1));
            waits.push(Offset(n), (n, 2));
        }
        let told: Vec<_> = std::iter::from_fn(|| waits.pop(Offset(2 * MANY))).collect();
        assert_eq!(told.len() as i64, 2 * MANY);
        assert!(told.is_sorted());
    }

    #[test]
    fn a_crowd_leaves_no_memory_behind() {
        let mut waits = Waits::default();
        (0..10_000).for_each(|n| waits.push(Offset(n), n));
        (0..10_000).for_each(|n| assert_eq!(waits.pop(Offset(n)), Some(n)));
        assert!(waits.in_order.capacity() <= 2 * WAITS_KEPT_MIN);
    }
}
