//! Which partitions have their turn to be pushed, looked at or told, some at a time: those that can be pushed before
//! those whose followers lag, of which there may be thousands when a node comes back.

use std::collections::VecDeque;

use crate::base::limits::{REPLICA_LOGS_PER_SLICE, REPLICA_PUSHED_PER_SLICE};
use crate::base::{IdSet, LogId};

/// Logs, each once, in the order in which they came.
#[derive(Debug, Default)]
pub struct LogTurns {
    queue: VecDeque<LogId>,
    known: IdSet<LogId>,
}

impl LogTurns {
    /// One more; whether it was not among them.
    pub fn push(&mut self, log: LogId) -> bool {
        let is_new = self.known.insert(log);
        if is_new {
            self.queue.push_back(log);
        }
        is_new
    }

    /// The next one.
    pub fn pop(&mut self) -> Option<LogId> {
        let log = self.queue.pop_front()?;
        self.known.remove(&log);
        Some(log)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// Partitions that are led here and that others may be pushed something of.
#[derive(Debug, Default)]
pub struct PushTurns {
    /// Something has moved in these.
    moved: LogTurns,
    /// These have something that no flush has begun with, and how far flushes had begun when that was looked at.
    unflushed: LogTurns,
    begun: u64,
    /// These have followers that lag: there is no room on the link, or too much is read.
    lagging: LogTurns,
    /// How many of those are to be looked at since it may be otherwise.
    unlooked: usize,
    /// What is left of this turn.
    left: (usize, usize),
}

impl PushTurns {
    /// Something has moved in a partition.
    pub fn moved(&mut self, log: LogId) {
        self.moved.push(log);
    }

    /// A partition has something that no flush has begun with.
    pub fn waits(&mut self, log: LogId) {
        self.unflushed.push(log);
    }

    /// A partition has a follower that lags.
    pub fn lags(&mut self, log: LogId) {
        self.lagging.push(log);
    }

    /// A link has taken something, or a read has ended: those that lag may go on.
    pub fn may_go_on(&mut self) {
        self.unlooked = self.lagging.len();
    }

    /// A turn begins. `begun` grows with each flush that begins: those that waited for one are pushed, however many
    /// lag, since they are no more than was appended to.
    pub fn begin_turn(&mut self, begun: u64) {
        self.left = (REPLICA_PUSHED_PER_SLICE, REPLICA_LOGS_PER_SLICE);
        if self.begun != begun {
            self.begun = begun;
            self.look_again();
        }
    }

    /// Those that wait for a flush are looked at in any case.
    pub fn look_again(&mut self) {
        while let Some(log) = self.unflushed.pop() {
            self.moved.push(log);
        }
    }

    /// The next one of this turn.
    pub fn next(&mut self) -> Option<LogId> {
        let (moved, lagging) = &mut self.left;
        if *moved > 0
            && let Some(log) = self.moved.pop()
        {
            *moved -= 1;
            return Some(log);
        }
        if *lagging == 0 || self.unlooked == 0 {
            return None;
        }
        (*lagging, self.unlooked) = (*lagging - 1, self.unlooked - 1);
        self.lagging.pop()
    }

    /// Whether there is another turn to be had at once.
    pub fn has_more(&self) -> bool {
        !self.moved.is_empty() || self.unlooked > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(turns: &mut PushTurns, begun: u64) -> Vec<u64> {
        turns.begin_turn(begun);
        std::iter::from_fn(|| turns.next())
            .map(|log| log.0)
            .collect()
    }

    #[test]
    fn who_waits_for_a_flush_alone_does_not_wait_for_those_that_lag() {
        const LAGGING: u64 = 20 * REPLICA_LOGS_PER_SLICE as u64;
        let mut turns = PushTurns::default();
        (0..LAGGING).for_each(|log| turns.lags(LogId(log)));
        turns.waits(LogId(LAGGING));
        assert!(!turns.has_more());
        assert_eq!(turn(&mut turns, 0), [0; 0], "nothing has changed");
        turns.may_go_on();
        let first = turn(&mut turns, 0);
        assert!(first.iter().copied().eq(0..REPLICA_LOGS_PER_SLICE as u64));
        // They lag still.
        first.into_iter().for_each(|log| turns.lags(LogId(log)));
        assert_eq!(turn(&mut turns, 1)[0], LAGGING, "at once");
    }

    #[test]
    fn each_that_lags_is_looked_at_once_when_something_has_changed() {
        const LAGGING: usize = 3 * REPLICA_LOGS_PER_SLICE + 1;
        let mut turns = PushTurns::default();
        (0..LAGGING as u64).for_each(|log| turns.lags(LogId(log)));
        turns.may_go_on();
        let mut looked = Vec::new();
        while turns.has_more() {
            let some = turn(&mut turns, 0);
            assert!(some.len() <= REPLICA_LOGS_PER_SLICE);
            some.iter().for_each(|log| turns.lags(LogId(*log)));
            looked.extend(some);
        }
        assert!(looked.into_iter().eq(0..LAGGING as u64));
        assert_eq!(turn(&mut turns, 0), [0; 0], "and not again");
    }

    #[test]
    fn what_has_moved_is_pushed_some_at_a_time() {
        let mut turns = PushTurns::default();
        let all = 2 * REPLICA_PUSHED_PER_SLICE as u64 + 1;
        (0..all)
            .chain(0..all)
            .for_each(|log| turns.moved(LogId(log)));
        let mut pushed = Vec::new();
        while turns.has_more() {
            let some = turn(&mut turns, 0);
            assert!(some.len() <= REPLICA_PUSHED_PER_SLICE);
            pushed.extend(some);
        }
        assert!(pushed.into_iter().eq(0..all), "each once");
    }
}
