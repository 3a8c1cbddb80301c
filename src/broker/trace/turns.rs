//! How long the turns of shards took, the longer ones by [bucket](bucket_of): for the whole of a
//! turn no other request of the core gets on, so its longest is what anyone may have to wait for another.

use super::buckets::{BUCKETS, UNIT_BITS, bucket_of, upper_ns};
use super::stats::counters;
use crate::base::Counter;

/// The turns of a shard that were told. Counters that only grow, as in [`Stats`](super::stats::Stats).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns(pub(super) Box<[u64; BUCKETS]>);

impl Default for Turns {
    fn default() -> Self {
        Self(Box::new([0; BUCKETS]))
    }
}

/// [`Turns`] that a shard adds to, and others may look at.
#[derive(Debug)]
pub struct LiveTurns(Box<[Counter; BUCKETS]>);

impl Default for LiveTurns {
    fn default() -> Self {
        Self(Box::new(counters()))
    }
}

impl LiveTurns {
    pub(super) fn add(&self, ns: u64) {
        self.0[bucket_of(ns >> UNIT_BITS)].add(1);
    }

    /// As they are now.
    #[must_use]
    pub fn read(&self) -> Turns {
        Turns(Box::new(self.counts()))
    }

    /// How many there are of each bucket.
    #[must_use]
    pub fn counts(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|bucket| self.0[bucket].get())
    }
}

impl Turns {
    fn with(&mut self, other: &Self, change: impl Fn(u64, u64) -> u64) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0.iter()) {
            *mine = change(*mine, *theirs);
        }
    }

    /// Takes in the turns of another shard.
    pub fn merge(&mut self, other: &Self) {
        self.with(other, u64::saturating_add);
    }

    /// Leaves what was counted after `earlier` was taken.
    pub fn subtract(&mut self, earlier: &Self) {
        self.with(earlier, u64::saturating_sub);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Length in nanoseconds, to within an eighth, and number of those of that length; the short ones first.
    pub fn lengths(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.0.iter().enumerate();
        let counts = counts.filter(|(_, count)| **count > 0);
        counts.map(|(bucket, count)| (upper_ns(bucket), *count))
    }

    /// The longest in nanoseconds, to within an eighth: the end of its bucket. 0 if there was none.
    #[must_use]
    pub fn longest_ns(&self) -> u64 {
        self.lengths().last().map_or(0, |(ns, _)| ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_looks_give_the_longest_in_between() {
        let live = LiveTurns::default();
        let mut turns = live.read();
        assert_eq!((turns.count(), turns.longest_ns()), (0, 0));
        live.add(9_000_000);
        let before = live.read();
        live.add(300_000);
        turns = live.read();
        assert!((9_000_000..=10_125_000).contains(&turns.longest_ns()));
        turns.subtract(&before);
        assert_eq!(turns.count(), 1);
        assert!((300_000..=337_500).contains(&turns.longest_ns()));
        turns.merge(&before);
        assert_eq!(turns.count(), 2);
    }
}
