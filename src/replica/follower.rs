//! What a follower of a partition decides: where its log and its leader's went different ways, what it cuts off for
//! that, and what of the leader's it appends.
//!
//! It compares epochs, newest first, until one is the leader's too (KIP-101, KIP-279), cuts by epoch and offset and
//! never by watermark, and appends only what follows its log's end without a gap.

use super::term::Term;
use crate::base::{LeaderEpoch, Offset};

/// An epoch, and the offset at which it ends in somebody's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The offset behind its last record.
    pub end: Offset,
}

/// What a follower does after a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Nothing: it was not what was asked last.
    Ignored,
    /// Cuts its log back to there, which may be its end already; all that is left is the leader's too.
    Matches(Offset),
    /// Cuts its log back to there, and asks again.
    Differs(Offset),
    /// Nothing, and it stops following: it would cut off what it has known to be committed. A log lost something, here
    /// or at the leader.
    Contradiction(Offset),
}

/// What a follower does with what it is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Appends it.
    Appends,
    /// Appends what is behind its log's end, if anything: it has the beginning.
    Has,
    /// Nothing: it has to compare first, because it has not yet or because something before it is missing.
    Compares,
}

/// A follower of a partition, in one term.
#[derive(Debug)]
pub struct Follower {
    term: Term,
    asked: Option<EpochEnd>,
    follows: bool,
    /// Everything before it is known to be committed.
    watermark: Offset,
}

impl Follower {
    /// It begins to follow. Everything before `watermark` was known to be committed when that was written down.
    #[must_use]
    pub const fn new(term: Term, watermark: Offset) -> Self {
        Self {
            term,
            asked: None,
            follows: false,
            watermark,
        }
    }

    /// Whom it follows, and as whom.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.term
    }

    /// Everything before it is committed.
    #[must_use]
    pub const fn watermark(&self) -> Offset {
        self.watermark
    }

    /// Whether its log is the beginning of its leader's, as far as it goes.
    #[must_use]
    pub const fn follows(&self) -> bool {
        self.follows
    }

    /// What it asks its leader: where the latest epoch of the follower's own log ends in the leader's.
    pub fn ask(&mut self, latest: EpochEnd) -> EpochEnd {
        self.follows = false;
        self.asked = Some(latest);
        latest
    }

    /// Whether it waits for the answer to this.
    #[must_use]
    pub fn waits_for(&self, asked: EpochEnd) -> bool {
        self.asked == Some(asked)
    }

    /// Whether it has asked, and has no answer yet.
    #[must_use]
    pub const fn has_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Its log ends before its leader's starts: there is nothing to compare, and it will begin anew.
    pub const fn begins_anew(&mut self) {
        (self.asked, self.follows) = (None, true);
    }

    /// Its log starts where its leader's does, with nothing of what was before: that was committed, and is deleted.
    pub fn began_anew(&mut self, start: Offset) {
        self.watermark = self.watermark.max(start);
    }

    /// The leader's answer to what was `asked`: its last epoch that is not newer, and its end there. `own` is where, in
    /// the follower's own log, everything that is not newer than the answer's epoch ends.
    pub fn compared(&mut self, asked: EpochEnd, answer: EpochEnd, own: Offset) -> Compared {
        if self.asked != Some(asked) {
            return Compared::Ignored;
        }
        self.asked = None;
        let to = own.min(answer.end).min(asked.end);
        if to < self.watermark {
            return Compared::Contradiction(to);
        }
        if answer.epoch == asked.epoch {
            self.follows = true;
            return Compared::Matches(to);
        }
        Compared::Differs(to)
    }

    /// The leader pushes what begins at `base`, to a log that ends at `end`.
    pub const fn pushed(&mut self, base: Offset, end: Offset) -> Pushed {
        if !self.follows {
            return Pushed::Compares;
        }
        if base.0 < end.0 {
            return Pushed::Has;
        }
        if base.0 > end.0 {
            self.follows = false;
            return Pushed::Compares;
        }
        Pushed::Appends
    }

    /// The leader says what is committed: of a log that it follows that holds for the log's own records, which end at
    /// `end`. It never goes back.
    pub fn committed(&mut self, watermark: Offset, end: Offset) {
        if self.follows {
            self.watermark = self.watermark.max(watermark.min(end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Incarnation, NodeId, NodeProcess};

    fn follower(watermark: i64) -> Follower {
        let member = |node| NodeProcess {
            node: NodeId(node),
            incarnation: Incarnation(1),
        };
        let term = Term {
            epoch: LeaderEpoch(5),
            leader: member(1),
            follower: member(2),
        };
        Follower::new(term, Offset(watermark))
    }

    const fn at(epoch: i32, end: i64) -> EpochEnd {
        EpochEnd {
            epoch: LeaderEpoch(epoch),
            end: Offset(end),
        }
    }

    #[test]
    fn it_asks_until_an_epoch_is_the_leaders_too() {
        let mut it = follower(10);
        assert_eq!(it.pushed(Offset(30), Offset(30)), Pushed::Compares);
        let asked = it.ask(at(4, 30));
        // The leader knows no epoch 4; 3 ended at 25 there. Here it ended at 20.
        let answer = it.compared(asked, at(3, 25), Offset(20));
        assert_eq!(answer, Compared::Differs(Offset(20)));
        assert_eq!(it.pushed(Offset(20), Offset(20)), Pushed::Compares);
        let asked = it.ask(at(3, 20));
        assert_eq!(
            it.compared(at(4, 30), at(3, 25), Offset(20)),
            Compared::Ignored,
            "an answer to what was asked before"
        );
        let answer = it.compared(asked, at(3, 15), Offset(20));
        assert_eq!(answer, Compared::Matches(Offset(15)));
        assert!(it.follows());
        assert_eq!(it.pushed(Offset(15), Offset(15)), Pushed::Appends);
    }

    #[test]
    fn what_is_missing_is_asked_for_and_what_is_there_is_left() {
        let mut it = follower(0);
        let asked = it.ask(at(4, 30));
        it.compared(asked, at(4, 99), Offset(30));
        assert_eq!(it.pushed(Offset(29), Offset(30)), Pushed::Has);
        assert_eq!(it.pushed(Offset(31), Offset(30)), Pushed::Compares);
        assert_eq!(
            it.pushed(Offset(30), Offset(30)),
            Pushed::Compares,
            "not before it has compared again"
        );
    }

    #[test]
    fn it_never_cuts_off_what_is_committed() {
        let mut it = follower(10);
        let asked = it.ask(at(4, 30));
        let answer = it.compared(asked, at(3, 9), Offset(20));
        assert_eq!(answer, Compared::Contradiction(Offset(9)));
        assert!(!it.follows());
    }

    #[test]
    fn the_watermark_is_the_leaders_as_far_as_the_log_goes() {
        let mut it = follower(10);
        it.committed(Offset(40), Offset(30));
        assert_eq!(
            it.watermark(),
            Offset(10),
            "whose records these are is not known yet"
        );
        let asked = it.ask(at(4, 30));
        it.compared(asked, at(4, 99), Offset(30));
        it.committed(Offset(40), Offset(30));
        it.committed(Offset(20), Offset(30));
        assert_eq!(it.watermark(), Offset(30));
    }
}
