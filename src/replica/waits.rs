//! Who waits for a mark of a log, in the order of the offsets.

use std::collections::{BTreeMap, VecDeque};

use crate::base::limits::WAITS_KEPT_MIN;
use crate::base::{Mono, Offset};

/// See the module.
#[derive(Debug)]
pub(super) struct Waits<W> {
    /// Each for no earlier offset than those before.
    in_order: VecDeque<(Offset, Mono, W)>,
    /// Retries of what others have come behind: they wait for their originals' offsets, and are numbered. A crowd of
    /// them, put where they belong in the queue, would move the rest of it each time.
    retries: BTreeMap<(Offset, u64), (Mono, W)>,
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
    /// Somebody waits until the mark is at `offset`, but not beyond `until`.
    pub(super) fn push(&mut self, offset: Offset, until: Mono, waiter: W) {
        match self.in_order.back() {
            Some((last, ..)) if *last > offset => {
                self.numbered += 1;
                self.retries
                    .insert((offset, self.numbered), (until, waiter));
            }
            _ => self.in_order.push_back((offset, until, waiter)),
        }
    }

    /// Somebody who has waited for too long, if it is the first one: who comes behind one that waits on is not looked
    /// for.
    pub(super) fn pop_late(&mut self, now: Mono) -> Option<W> {
        let retry = self.retries.first_entry();
        if let Some(retry) = retry.filter(|retry| retry.get().0 <= now) {
            return Some(retry.remove().1);
        }
        self.in_order
            .front()
            .filter(|(_, until, _)| *until <= now)?;
        let (_, _, waiter) = self.in_order.pop_front()?;
        self.gives_back();
        Some(waiter)
    }

    /// A crowd leaves no memory behind.
    fn gives_back(&mut self) {
        if self.in_order.is_empty() && self.in_order.capacity() > WAITS_KEPT_MIN {
            self.in_order.shrink_to(WAITS_KEPT_MIN);
        }
    }

    /// The first offset that somebody waits for.
    fn first(&self) -> Option<Offset> {
        let in_order = self.in_order.front().map(|(offset, ..)| *offset);
        let retried = self.retries.keys().next().map(|(offset, _)| *offset);
        in_order.into_iter().chain(retried).min()
    }

    /// The next one who does not wait any more, if the mark is here.
    pub(super) fn pop(&mut self, mark: Offset) -> Option<W> {
        let first = self.first().filter(|first| *first <= mark)?;
        let in_order = self.in_order.front().map(|(offset, ..)| *offset);
        if in_order.is_none_or(|offset| offset > first) {
            return self.retries.pop_first().map(|(_, (_, waiter))| waiter);
        }
        let (_, _, waiter) = self.in_order.pop_front()?;
        self.gives_back();
        Some(waiter)
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.in_order.is_empty() && self.retries.is_empty()
    }

    /// Panics if somebody waits for what is there.
    pub(super) fn invariants(&self, mark: Offset) {
        self.are_in_order();
        assert!(
            self.first().is_none_or(|first| first > mark),
            "somebody waits and the mark is at {mark}"
        );
    }

    /// Panics if they are not in order.
    pub(super) fn are_in_order(&self) {
        let offsets = self.in_order.iter().map(|(offset, ..)| *offset);
        assert!(offsets.is_sorted(), "waits are in order");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn_when_the_mark_is_there() {
        let mut waits = Waits::default();
        for (offset, waiter) in [(10, 'a'), (20, 'b'), (10, 'c'), (30, 'd'), (15, 'e')] {
            waits.push(Offset(offset), Mono::NEVER, waiter);
        }
        let mut reached =
            |mark| -> String { std::iter::from_fn(|| waits.pop(Offset(mark))).collect() };
        assert_eq!(reached(9), "");
        assert_eq!(reached(19), "ace");
        assert_eq!(reached(20), "b");
        waits.push(Offset(25), Mono::NEVER, 'f');
        let rest = std::iter::from_fn(|| waits.pop(Offset(30)));
        assert_eq!(rest.collect::<String>(), "fd");
        assert!(waits.is_empty());
    }

    /// It would take minutes if each retry made all that come behind its original move.
    #[test]
    fn retries_of_the_middle_leave_the_rest_where_it_is() {
        const MANY: i64 = 400_000;
        let mut waits = Waits::default();
        (0..MANY).for_each(|n| waits.push(Offset(2 * n), Mono::NEVER, (2 * n, 0)));
        // Some wait with their originals, others for what nobody waits for in this way.
        for n in MANY / 2..MANY {
            waits.push(Offset(n), Mono::NEVER, (n, 1));
            waits.push(Offset(n), Mono::NEVER, (n, 2));
        }
        let told: Vec<_> = std::iter::from_fn(|| waits.pop(Offset(2 * MANY))).collect();
        assert_eq!(told.len() as i64, 2 * MANY);
        assert!(told.is_sorted());
    }

    #[test]
    fn who_has_waited_for_too_long_waits_no_more() {
        let mut waits = Waits::default();
        let all = [(10, 5, 'a'), (20, 7, 'b'), (15, 6, 'r'), (30, 4, 'c')];
        for (offset, until, waiter) in all {
            waits.push(Offset(offset), Mono(until), waiter);
        }
        let late = |waits: &mut Waits<char>, now| -> String {
            std::iter::from_fn(|| waits.pop_late(Mono(now))).collect()
        };
        assert_eq!(late(&mut waits, 4), "", "the first one waits on");
        assert_eq!(late(&mut waits, 6), "ra");
        assert_eq!(waits.pop(Offset(20)), Some('b'));
        // All that is left of what a retry came behind.
        waits.push(Offset(25), Mono(9), 's');
        assert_eq!(late(&mut waits, 4), "c");
        waits.are_in_order();
        assert!(!waits.is_empty());
        assert_eq!(waits.pop(Offset(24)), None);
        assert_eq!(waits.pop(Offset(25)), Some('s'));
        assert!(waits.is_empty());
    }

    #[test]
    fn a_crowd_leaves_no_memory_behind() {
        let mut waits = Waits::default();
        (0..10_000).for_each(|n| waits.push(Offset(n), Mono::NEVER, n));
        (0..10_000).for_each(|n| assert_eq!(waits.pop(Offset(n)), Some(n)));
        assert!(waits.in_order.capacity() <= 2 * WAITS_KEPT_MIN);
    }
}
