//! Tombstones that compaction has removed of late, and those that it leaves for replicas that catch up: one that has
//! what a tombstone deleted, and does not come to that tombstone, would have it for ever.

use std::collections::VecDeque;

use crate::base::{Mono, NodeId, Offset};

/// Removals that are remembered one by one.
const REMOVALS_MAX: usize = 16;

/// See the module. Of this process: a removal is also remembered on the disk, and there only how far it went.
#[derive(Debug, Default)]
pub(super) struct GoneTombstones {
    /// Groups of segments of which some were removed.
    count: u64,
    /// The number of such a group and the offset behind the last of its tombstones: without those that a later one
    /// reaches beyond.
    last: VecDeque<(u64, Offset)>,
    /// The newest one that is remembered no more.
    forgotten: u64,
    /// Replicas that catch up: which tombstones stay for each, and until when.
    held: Vec<(NodeId, Offset, Mono)>,
}

impl GoneTombstones {
    /// Some before this offset were removed; none if it is 0.
    pub(super) fn removed(&mut self, before: Offset) {
        if before <= Offset(0) {
            return;
        }
        self.count += 1;
        while self.last.back().is_some_and(|last| last.1 <= before) {
            self.last.pop_back();
        }
        if self.last.len() == REMOVALS_MAX
            && let Some((number, _)) = self.last.pop_front()
        {
            self.forgotten = number;
        }
        self.last.push_back((self.count, before));
    }

    /// How many groups there were until now.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Before which offset some were removed since there had been so many groups; `None` if none were.
    pub(super) fn since(&self, count: u64) -> Option<Offset> {
        if count < self.forgotten {
            return Some(Offset(i64::MAX));
        }
        let mut later = self.last.iter().filter(|(number, _)| *number > count);
        later.next().map(|(_, before)| *before)
    }

    /// Those from an offset on stay for a replica until some time.
    pub(super) fn hold(&mut self, node: NodeId, from: Offset, until: Mono) {
        self.held.retain(|(other, ..)| *other != node);
        self.held.push((node, from, until));
    }

    /// From which offset on they stay now.
    pub(super) fn held_from(&self, now: Mono) -> Offset {
        let held = self.held.iter().filter(|(.., until)| now < *until);
        let from = held.map(|(_, from, _)| *from).min();
        from.unwrap_or(Offset(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_removals_went_is_known_since_any_of_them() {
        let mut gone = GoneTombstones::default();
        gone.removed(Offset(0));
        assert_eq!((gone.count(), gone.since(0)), (0, None));
        for before in [50, 20, 30, 10] {
            gone.removed(Offset(before));
        }
        let since = |gone: &GoneTombstones, count| gone.since(count).map(|before| before.0);
        let all: Vec<_> = (0..5).map(|count| since(&gone, count)).collect();
        assert_eq!(all, [Some(50), Some(30), Some(30), Some(10), None]);
        for before in (0..2 * REMOVALS_MAX as i64).rev() {
            gone.removed(Offset(100 + before));
        }
        let count = gone.count();
        assert_eq!(since(&gone, 0), Some(i64::MAX), "nobody knows");
        assert_eq!(since(&gone, count - 3), Some(102));
        assert!(gone.last.len() <= REMOVALS_MAX);
    }

    #[test]
    fn they_stay_for_who_is_least_far_as_long_as_it_counts() {
        let mut gone = GoneTombstones::default();
        assert_eq!(gone.held_from(Mono(0)), Offset(i64::MAX));
        gone.hold(NodeId(1), Offset(5), Mono(10));
        gone.hold(NodeId(2), Offset(7), Mono(20));
        let from = |gone: &GoneTombstones, now| gone.held_from(Mono(now)).0;
        assert_eq!(
            (from(&gone, 9), from(&gone, 10), from(&gone, 20)),
            (5, 7, i64::MAX)
        );
        gone.hold(NodeId(1), Offset(9), Mono(10));
        assert_eq!(from(&gone, 9), 7);
    }
}
