//! How many producers the partitions of a shard may remember: clients make up their ids, and as many partitions as they
//! like. As long as all of them have room together, a partition has what a log allows; if not, those that have most get
//! less, and the others are not touched.

use crate::base::limits::{
    PRODUCERS_PER_PARTITION_MAX, PRODUCERS_PER_PARTITION_MIN, PRODUCERS_PER_SHARD_MAX,
};

/// See the module.
#[derive(Debug)]
pub struct ProducerRoom {
    /// For all partitions together.
    pub most: usize,
    /// What they have.
    entries: usize,
    /// What each of them may know.
    each: usize,
}

impl Default for ProducerRoom {
    fn default() -> Self {
        Self {
            most: PRODUCERS_PER_SHARD_MAX,
            entries: 0,
            each: PRODUCERS_PER_PARTITION_MAX,
        }
    }
}

impl ProducerRoom {
    /// How many a partition may know.
    pub fn each(&self) -> usize {
        self.each
    }

    /// What all partitions have.
    #[cfg(test)]
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// A partition had so many entries, and has so many now.
    pub fn changed(&mut self, before: usize, now: usize) {
        self.entries = (self.entries + now).saturating_sub(before);
    }

    /// Whether there are too many, and some can go.
    pub fn is_over(&self) -> bool {
        self.entries > self.most && self.each > PRODUCERS_PER_PARTITION_MIN
    }

    /// All partitions are to be looked at: what each of them may know then.
    pub fn share_out(&mut self) {
        if self.is_over() {
            self.each = (self.each / 2).max(PRODUCERS_PER_PARTITION_MIN);
        } else if self.entries < self.most / 4 {
            self.each = (self.each * 2).min(PRODUCERS_PER_PARTITION_MAX);
        }
    }
}
