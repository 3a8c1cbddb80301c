//! Who waits for a mark of a log, in the order of the offsets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::limits::WAITS_KEPT_MIN;
use crate::base::{Mono, Offset};

/// See the module.
#[derive(Debug)]
pub(super) struct Waits<W> {
    /// Those who wait however long it takes, each for no earlier offset than those before.
    in_order: VecDeque<(Offset, W)>,
    /// All others, numbered: those who have a deadline, so that who is late is taken out wherever he stands; and
    /// retries of what others have come behind. A crowd of these, put where they belong in the queue, would move the
    /// rest of it each time.
    others: BTreeMap<(Offset, u64), (Mono, W)>,
    /// Those of them that have a deadline, by that.
    deadlines: BTreeSet<(Mono, Offset, u64)>,
    /// How many of the others there were.
    numbered: u64,
}

impl<W> Default for Waits<W> {
    fn default() -> Self {
        Self {
            in_order: VecDeque::new(),
            others: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            numbered: 0,
        }
    }
}

impl<W> Waits<W> {
    /// Somebody waits until the mark is at `offset`, but not beyond `until`.
    pub(super) fn push(&mut self, offset: Offset, until: Mono, waiter: W) {
        let last = self.in_order.back();
        if until == Mono::NEVER && last.is_none_or(|(last, _)| *last <= offset) {
            return self.in_order.push_back((offset, waiter));
        }
        self.numbered += 1;
        let number = self.numbered;
        if until < Mono::NEVER {
            self.deadlines.insert((until, offset, number));
        }
        self.others.insert((offset, number), (until, waiter));
    }

    /// Somebody who has waited for too long, and the offset that he waits for: whose time was up first.
    pub(super) fn pop_late(&mut self, now: Mono) -> Option<(Offset, W)> {
        let (until, offset, number) = *self.deadlines.first()?;
        if until > now {
            return None;
        }
        self.deadlines.pop_first();
        let (_, waiter) = self.others.remove(&(offset, number))?;
        Some((offset, waiter))
    }

    /// Whether somebody has a deadline.
    pub(super) fn may_be_late(&self) -> bool {
        !self.deadlines.is_empty()
    }

    /// The next one who does not wait any more, if the mark is here.
    pub(super) fn pop(&mut self, mark: Offset) -> Option<W> {
        let in_order = self.in_order.front().map(|(offset, _)| *offset);
        let other = self.others.first_key_value();
        let other = other.map(|((offset, _), _)| *offset);
        let first = in_order.into_iter().chain(other).min();
        let first = first.filter(|first| *first <= mark)?;
        if in_order.is_none_or(|offset| offset > first) {
            let ((offset, number), (until, waiter)) = self.others.pop_first()?;
            self.deadlines.remove(&(until, offset, number));
            return Some(waiter);
        }
        let (_, waiter) = self.in_order.pop_front()?;
        // A crowd leaves no memory behind.
        if self.in_order.is_empty() && self.in_order.capacity() > WAITS_KEPT_MIN {
            self.in_order.shrink_to(WAITS_KEPT_MIN);
        }
        Some(waiter)
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.in_order.is_empty() && self.others.is_empty()
    }

    /// Panics if somebody waits for what is there.
    pub(super) fn invariants(&self, mark: Offset) {
        self.are_in_order();
        let others = self.others.keys().map(|(offset, _)| *offset);
        let first = self
            .in_order
            .iter()
            .map(|(offset, _)| *offset)
            .chain(others);
        assert!(
            first.min().is_none_or(|first| first > mark),
            "somebody waits and the mark is at {mark}"
        );
    }

    /// Panics if they are not in order.
    pub(super) fn are_in_order(&self) {
        let offsets = self.in_order.iter().map(|(offset, _)| *offset);
        assert!(offsets.is_sorted(), "waits are in order");
        let limited = self
            .others
            .iter()
            .filter(|(_, (until, _))| *until < Mono::NEVER);
        let limited = limited.map(|((offset, number), (until, _))| (*until, *offset, *number));
        let limited: BTreeSet<_> = limited.collect();
        assert_eq!(limited, self.deadlines, "deadlines");
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
            let late = std::iter::from_fn(|| waits.pop_late(Mono(now)));
            late.map(|(_, waiter)| waiter).collect()
        };
        waits.push(Offset(5), Mono::NEVER, 'n');
        assert_eq!(late(&mut waits, 4), "c", "the others wait on");
        assert_eq!(late(&mut waits, 6), "ar");
        assert_eq!(waits.pop(Offset(20)), Some('n'));
        assert_eq!(waits.pop(Offset(20)), Some('b'));
        assert_eq!(late(&mut waits, 100), "");
        waits.push(Offset(25), Mono(9), 's');
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
