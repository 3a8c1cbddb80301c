//! Deadlines of many things, each with at most one: setting, cancelling and
//! finding the next one cost O(log n).

use std::collections::{BTreeMap, BTreeSet};

use super::time::Mono;

/// Deadlines by key.
#[derive(Debug)]
pub struct Timers<K> {
    queue: BTreeSet<(Mono, K)>,
    by_key: BTreeMap<K, Mono>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self {
            queue: BTreeSet::new(),
            by_key: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Sets or moves the deadline of `key`.
    pub fn set(&mut self, key: K, at: Mono) {
        if let Some(old) = self.by_key.insert(key.clone(), at) {
            self.queue.remove(&(old, key.clone()));
        }
        self.queue.insert((at, key));
    }

    /// Sets or moves the deadline of `key` to so many milliseconds after `now`, at least one: what sets a timer again
    /// when it is due has its turn once, and who asks until nothing is due comes to an end.
    pub fn set_after(&mut self, key: K, now: Mono, ms: u64) {
        self.set(key, now.plus_ms(ms.max(1)));
    }

    /// Forgets the deadline of `key`, if it has one.
    pub fn cancel(&mut self, key: &K) {
        if let Some(old) = self.by_key.remove(key) {
            self.queue.remove(&(old, key.clone()));
        }
    }

    /// Panics if the two tables differ. For tests and the simulator.
    pub fn invariants(&self) {
        assert_eq!(self.queue.len(), self.by_key.len(), "deadlines");
        for (at, key) in &self.queue {
            assert_eq!(
                self.by_key.get(key),
                Some(at),
                "a deadline is in both tables"
            );
        }
    }

    /// Whether `key` has a deadline.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.by_key.contains_key(key)
    }

    /// Takes one key whose time has come, earliest first.
    pub fn pop_due(&mut self, now: Mono) -> Option<K> {
        let (at, _) = self.queue.first()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.queue.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    /// The earliest deadline, [`Mono::NEVER`] if there is none.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        self.queue.first().map_or(Mono::NEVER, |(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_deadline() {
        let mut timers = Timers::default();
        timers.set("a", Mono(10));
        timers.set("b", Mono(20));
        timers.set("a", Mono(30));
        assert_eq!(timers.next_deadline(), Mono(20));
        assert_eq!(timers.pop_due(Mono(19)), None);
        assert_eq!(timers.pop_due(Mono(40)), Some("b"));
        timers.cancel(&"a");
        assert_eq!(timers.pop_due(Mono(40)), None);
        assert_eq!(timers.next_deadline(), Mono::NEVER);
    }

    #[test]
    fn what_is_set_again_while_it_is_due_waits() {
        let mut timers = Timers::default();
        timers.set("a", Mono(10));
        let mut turns = 0;
        while let Some(key) = timers.pop_due(Mono(10)) {
            timers.set_after(key, Mono(10), 0);
            turns += 1;
        }
        assert_eq!((turns, timers.next_deadline()), (1, Mono(1_000_010)));
    }
}
