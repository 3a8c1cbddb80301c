//! Whether a follower may lack tombstones that compaction has removed at its leader: who has what one of them deleted,
//! and has not come to it, starts over, or would have that for ever.
//!
//! How far removals ever went says it too, and is on the disk; but a replica that begins anew is far behind that for a
//! while. So this process remembers which removals there were since a follower has begun, and while one catches up
//! compaction leaves what it has not come to.

use crate::base::limits::TOMBSTONES_HELD_MS;
use crate::base::{Mono, NodeId, Offset};
use crate::log::Log;
use crate::replica::{EpochEnd, LeaderLog};

/// What a follower may lack, counted in [removals](Log::tombstones_removed) of this process.
#[derive(Debug, Default)]
pub struct Lacking {
    /// It lacked none of those when it was answered, or begins anew.
    asked: u64,
    /// Of those before it lacks none, whatever it is pushed next.
    pushed: u64,
    /// The same of what is on its disk; none before it has said in this term that it follows.
    on_disk: Option<u64>,
    /// So far it has come.
    come: Offset,
    /// Until when what is behind that is left for it.
    until: Mono,
}

impl Lacking {
    /// It has asked, and is about to be answered: it does not start over if nothing was removed that it has not come
    /// to. One that is in sync has everything that is committed, so it has come to all that was ever removed, though
    /// removals may have gone further before an unclean election than the log does now. `before`: what it was, if the
    /// same process of it has asked the same process of its leader in the same epoch, so that all that it has is from
    /// here.
    pub fn asks(
        now: Mono,
        before: Option<&Self>,
        asked: EpochEnd,
        (is_in_sync, answer, log): (bool, &mut LeaderLog, &Log),
    ) -> Self {
        let reached = answer.reached(asked);
        let on_disk = before.and_then(|it| it.on_disk).filter(|count| {
            let removed = log.tombstones_removed_since(*count);
            removed.is_none_or(|to| to <= reached)
        });
        if on_disk.is_some() || is_in_sync {
            answer.tombstones = answer.tombstones.min(reached);
        }
        let come = answer.goes_on(asked).unwrap_or(reached);
        let known = before.filter(|it| it.come >= come);
        Self {
            asked: log.tombstones_removed(),
            pushed: log.tombstones_removed(),
            on_disk,
            come,
            until: known.map_or(now.plus_ms(TOMBSTONES_HELD_MS), |it| it.until),
        }
    }

    /// It follows, and has everything before `end` on its disk.
    pub fn tells(&mut self, now: Mono, end: Offset, log: &Log) {
        let count = *self.on_disk.get_or_insert(self.asked);
        let removed = log.tombstones_removed_since(count);
        if removed.is_none_or(|to| to <= end) {
            self.on_disk = Some(log.tombstones_removed());
        }
        if end > self.come {
            (self.come, self.until) = (end, now.plus_ms(TOMBSTONES_HELD_MS));
        }
    }

    /// Compaction leaves what it has not come to, for a while.
    pub fn hold(&self, node: NodeId, log: &mut Log) {
        log.hold_tombstones(node, self.come, self.until);
    }

    /// Whether it has to start over before it is pushed what comes from here on.
    pub fn lacks(&mut self, from: Offset, log: &Log) -> bool {
        let removed = log.tombstones_removed_since(self.pushed);
        let lacks = removed.is_some_and(|to| from < to);
        if !lacks {
            self.pushed = log.tombstones_removed();
        }
        lacks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LeaderEpoch, Now};
    use crate::log::LogConfig;
    use crate::log::testing::{Disk, Draft, LOG, START_MS};
    use crate::store::LogLabel;

    const AT: Mono = Mono(7);

    /// A log of a hundred committed records.
    fn log() -> (Disk, Log) {
        let mut disk = Disk::raw(0);
        let now = Now {
            mono: AT,
            wall_ms: START_MS,
        };
        let store = &mut disk.store;
        let mut log = Log::create(LOG, LogLabel::default(), LogConfig::default(), now, store);
        let (batch, info) = Draft::plain(&[START_MS; 100], 3).build();
        log.append(now, batch, &info, store).unwrap();
        let flush = disk.settle().unwrap();
        log.on_durable(flush);
        log.raise_high_watermark(log.durable_end());
        (disk, log)
    }

    fn asks(now: Mono, it: &mut Lacking, end: i64, log: &Log) -> Option<i64> {
        let asked = EpochEnd {
            epoch: LeaderEpoch(0),
            end: Offset(end),
        };
        let mut answer = LeaderLog::answering(log, asked);
        *it = Lacking::asks(now, Some(it), asked, (false, &mut answer, log));
        answer.goes_on(asked).map(|offset| offset.0)
    }

    #[test]
    fn who_has_begun_anew_does_so_once() {
        let (_disk, mut log) = log();
        log.lose_tombstones(Offset(90));
        let mut it = Lacking::default();
        assert_eq!(
            asks(AT, &mut it, 10, &log),
            Some(0),
            "what it has is from elsewhere"
        );
        assert_eq!(asks(AT, &mut it, 10, &log), Some(0), "it has not begun yet");
        assert!(!it.lacks(Offset(0), &log));
        it.tells(AT, Offset(10), &log);
        assert_eq!(
            asks(AT, &mut it, 10, &log),
            Some(10),
            "the connection was lost"
        );
        assert_eq!(asks(AT, &mut it, 8, &log), Some(8));
        // What it has come to may go, and not what is behind that, though more went before.
        log.lose_tombstones(Offset(7));
        assert!(!it.lacks(Offset(8), &log));
        it.tells(AT, Offset(20), &log);
        log.lose_tombstones(Offset(50));
        assert!(it.lacks(Offset(30), &log));
        assert_eq!(asks(AT, &mut it, 30, &log), Some(0));
        it.tells(AT, Offset(5), &log);
        assert_eq!(asks(AT, &mut it, 5, &log), Some(5));
        let mut other = Lacking::default();
        assert_eq!(asks(AT, &mut other, 5, &log), Some(0), "another process");
        assert_eq!(
            asks(AT, &mut other, 90, &log),
            Some(90),
            "it has come to all of them"
        );
    }

    /// After an unclean election removals may have gone further than the log does by now.
    #[test]
    fn who_is_in_sync_has_come_to_all_that_was_removed() {
        let (mut disk, mut log) = log();
        log.inherit_tombstones(Offset(5000), &mut disk.store);
        let asked = EpochEnd {
            epoch: LeaderEpoch(0),
            end: Offset(90),
        };
        let goes_on = |is_in_sync| {
            let mut answer = LeaderLog::answering(&log, asked);
            Lacking::asks(AT, None, asked, (is_in_sync, &mut answer, &log));
            answer.goes_on(asked)
        };
        assert_eq!(goes_on(false), Some(Offset(0)));
        assert_eq!(goes_on(true), Some(Offset(90)));
    }

    #[test]
    fn what_was_removed_on_the_way_is_not_forgotten() {
        let (_disk, mut log) = log();
        log.lose_tombstones(Offset(90));
        let mut it = Lacking::default();
        asks(AT, &mut it, 0, &log);
        it.tells(AT, Offset(10), &log);
        // It was pushed beyond them, and has lost that on the way.
        log.lose_tombstones(Offset(20));
        assert!(!it.lacks(Offset(25), &log));
        it.tells(AT, Offset(15), &log);
        assert_eq!(asks(AT, &mut it, 15, &log), Some(0));
    }

    #[test]
    fn tombstones_are_left_to_who_comes_further() {
        let (_disk, mut log) = log();
        let mut it = Lacking::default();
        assert_eq!(asks(AT, &mut it, 10, &log), Some(10));
        it.hold(NodeId(1), &mut log);
        let from = |log: &Log, now| log.holds_tombstones_from(now).0;
        let over = AT.plus_ms(TOMBSTONES_HELD_MS);
        assert_eq!((from(&log, AT), from(&log, over)), (10, i64::MAX));
        let later = AT.plus_ms(1000);
        asks(later, &mut it, 10, &log);
        it.hold(NodeId(1), &mut log);
        assert_eq!(from(&log, over), i64::MAX, "to ask is not to come further");
        it.tells(later, Offset(40), &log);
        it.hold(NodeId(1), &mut log);
        assert_eq!((from(&log, over), from(&log, AT)), (40, 40));
    }
}
