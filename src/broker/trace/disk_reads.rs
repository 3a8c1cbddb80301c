//! How what replies have from the disk was read.

use crate::base::Counter;

/// Counters that only grow, as in [`Stats`](super::stats::Stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskReads {
    /// Bytes read past the page cache.
    pub past: u64,
    /// Bytes that were not in the page cache when somebody needed them, and were brought in.
    pub filled: u64,
    /// Bytes sent from the page cache.
    pub sent: u64,
    /// How often something was gone from it when it was about to be sent; that was read past it.
    pub gone: u64,
    /// Chunks of which it held something that could not be let go, or that the disk has not; they were read past it.
    pub unclean: u64,
    /// How often sending from it took more than [`SLOW_SEND_US`]: it waited for the disk, or others had the core.
    pub slow: u64,
    /// Microseconds that those took.
    pub slow_us: u64,
}

/// Microseconds from which on a call that sends from the page cache is counted.
pub const SLOW_SEND_US: u64 = 1000;

impl DiskReads {
    /// All of them, in this order.
    #[must_use]
    pub const fn all(&self) -> [u64; 7] {
        [
            self.past,
            self.filled,
            self.sent,
            self.gone,
            self.unclean,
            self.slow,
            self.slow_us,
        ]
    }

    pub(super) const fn of([past, filled, sent, gone, unclean, slow, slow_us]: [u64; 7]) -> Self {
        Self {
            past,
            filled,
            sent,
            gone,
            unclean,
            slow,
            slow_us,
        }
    }

    /// These in the counters that others may look at.
    pub(super) fn show(self, live: &[Counter; 7]) {
        for (counter, count) in live.iter().zip(self.all()) {
            counter.set(count);
        }
    }

    fn with(&mut self, other: &Self, change: impl Fn(u64, u64) -> u64) {
        let (mine, theirs) = (self.all(), other.all());
        *self = Self::of(std::array::from_fn(|i| change(mine[i], theirs[i])));
    }

    /// Takes in the counts of another shard.
    pub fn merge(&mut self, other: &Self) {
        self.with(other, u64::saturating_add);
    }

    /// Leaves what was counted after `earlier` was taken.
    pub fn subtract(&mut self, earlier: &Self) {
        self.with(earlier, u64::saturating_sub);
    }
}
