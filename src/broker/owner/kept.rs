//! How many producers and aborted transactions the partitions of a shard may remember: clients make up their ids, and
//! as many partitions as they like. As long as all of them have room together, a partition has what a log allows; if
//! not, those that have most get less, and the others are not touched.

use crate::base::limits::{
    ABORTED_TRANSACTIONS_PER_LOG_MAX, ABORTED_TRANSACTIONS_PER_LOG_MIN,
    ABORTED_TRANSACTIONS_PER_SHARD_MAX, PRODUCERS_PER_PARTITION_MAX, PRODUCERS_PER_PARTITION_MIN,
    PRODUCERS_PER_SHARD_MAX,
};
use crate::log::LogKept;

/// See the module.
#[derive(Debug)]
pub struct KeptRoom {
    /// For all partitions together.
    pub most: LogKept,
    /// What they have.
    kept: LogKept,
    /// How many producers each of them may know.
    producers: usize,
}

impl Default for KeptRoom {
    fn default() -> Self {
        Self {
            most: LogKept {
                producers: PRODUCERS_PER_SHARD_MAX,
                aborted: ABORTED_TRANSACTIONS_PER_SHARD_MAX,
            },
            kept: LogKept::default(),
            producers: PRODUCERS_PER_PARTITION_MAX,
        }
    }
}

impl KeptRoom {
    /// What a partition may keep.
    pub fn each(&self) -> LogKept {
        LogKept {
            producers: self.producers,
            aborted: self.aborted_each(),
        }
    }

    /// How many aborted transactions a partition may have.
    fn aborted_each(&self) -> usize {
        let Some(over) = self.kept.aborted.checked_sub(self.most.aborted) else {
            return ABORTED_TRANSACTIONS_PER_LOG_MAX;
        };
        let halved = 1 + 16 * over / self.most.aborted.max(1);
        let each = ABORTED_TRANSACTIONS_PER_LOG_MAX >> halved.min(usize::BITS as usize - 1);
        each.max(ABORTED_TRANSACTIONS_PER_LOG_MIN)
    }

    /// What all partitions have.
    #[cfg(test)]
    pub fn kept(&self) -> LogKept {
        self.kept
    }

    /// A partition has so much now, of which so much was counted before.
    pub fn count(&mut self, counted: &mut LogKept, now: LogKept) {
        let before = std::mem::replace(counted, now);
        self.kept = LogKept {
            producers: self.kept.producers + now.producers - before.producers,
            aborted: self.kept.aborted + now.aborted - before.aborted,
        };
    }

    /// Whether there are too many producers, and some can go.
    pub fn is_over(&self) -> bool {
        self.kept.producers > self.most.producers && self.producers > PRODUCERS_PER_PARTITION_MIN
    }

    /// All partitions are to be looked at: what each of them may know then.
    pub fn share_out(&mut self) {
        if self.is_over() {
            self.producers = (self.producers / 2).max(PRODUCERS_PER_PARTITION_MIN);
        } else if self.kept.producers < self.most.producers / 4 {
            self.producers = (self.producers * 2).min(PRODUCERS_PER_PARTITION_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_too_many_aborted_transactions_those_that_have_many_get_no_more() {
        let mut room = KeptRoom::default();
        room.most.aborted = 100;
        let kept = |aborted| LogKept {
            producers: 1,
            aborted,
        };
        let mut counted = [LogKept::default(); 2];
        room.count(&mut counted[0], kept(80));
        for (more, each) in [
            (19, ABORTED_TRANSACTIONS_PER_LOG_MAX),
            (20, ABORTED_TRANSACTIONS_PER_LOG_MAX / 2),
            (27, ABORTED_TRANSACTIONS_PER_LOG_MAX / 4),
            (120, ABORTED_TRANSACTIONS_PER_LOG_MIN),
            (usize::MAX / 32, ABORTED_TRANSACTIONS_PER_LOG_MIN),
            (10, ABORTED_TRANSACTIONS_PER_LOG_MAX),
        ] {
            room.count(&mut counted[1], kept(more));
            assert_eq!(room.each().aborted, each, "{more}");
        }
        let all = room.kept();
        assert_eq!((all.producers, all.aborted), (2, 90));
        room.count(&mut counted[0], LogKept::default());
        assert_eq!(room.kept(), kept(10));
    }
}
