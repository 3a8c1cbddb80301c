//! A number that one thread changes and any other may look at.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// See the module. Only one thread may change it: a change is a load and a store, with no lock of the bus, so that
/// it costs what it would cost in a plain number, and two threads that change it lose one of the changes. Who looks
/// from another thread sees a value that it has had, and different counters at slightly different times.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. Wraps, after some centuries.
    pub fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    /// Takes from it what was added.
    pub fn take(&self, less: u64) {
        self.set(self.get().wrapping_sub(less));
    }

    /// Gives it another value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// What it is.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_thread_adds_another_one_sees_grow() {
        let counter = Counter::default();
        counter.set(3);
        counter.add(4);
        assert_eq!(counter.get(), 7);
        counter.set(u64::MAX);
        counter.add(2);
        assert_eq!(counter.get(), 1);
        counter.take(1);
        assert_eq!(counter.get(), 0);
    }
}
