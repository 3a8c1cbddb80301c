//! A follower's log, driven by what its leader says: [`Follower`] decides, and this does it to the log.
//!
//! What a follower says of itself is what is on its disk, and only while its log is the beginning of its leader's. A
//! log that ends before its leader's starts begins anew, in one flush with the first batch that it is pushed, and not
//! before that has been found good. If something that was known to be committed is not here it stops, and says so: it
//! must not be in sync then.

use std::fmt;

use bytes::Bytes;

use super::follower::{Compared, EpochEnd, Follower, Pushed};
use super::term::Term;
use crate::base::{ErrorCode, LeaderEpoch, Now, Offset};
use crate::log::{Log, Truncation, UNDEFINED_EPOCH, Unfit};
use crate::record;
use crate::store::{FlushSeq, Store};

/// A leader's log, as it answers a follower's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderLog {
    /// Its last epoch that is not newer than the one that was asked about, and where that ends.
    pub ends: EpochEnd,
    /// Where it starts.
    pub start: Offset,
    /// Where it ends.
    pub end: Offset,
}

impl LeaderLog {
    /// The leader's answer to what a follower has asked.
    #[must_use]
    pub fn answering(log: &Log, asked: EpochEnd) -> Self {
        let (epoch, end) = log.end_offset_for_epoch(asked.epoch);
        Self {
            ends: EpochEnd { epoch, end },
            start: log.start_offset(),
            end: log.end_offset(),
        }
    }

    /// Behind which offset the pushes to the follower go on after this answer; `None` if it has to ask again.
    #[must_use]
    pub fn goes_on(&self, asked: EpochEnd) -> Option<Offset> {
        if self.start > asked.end {
            return Some(self.start);
        }
        if asked.epoch == UNDEFINED_EPOCH.0 {
            return Some(asked.end.min(self.end));
        }
        (self.ends.epoch == asked.epoch).then_some(asked.end.min(self.ends.end))
    }
}

/// What a leader pushes to a follower.
#[derive(Clone, Debug)]
pub struct Push {
    /// Behind which offset of the leader's log the batches come: the first one ends behind it, and there is none
    /// between.
    pub from: Offset,
    /// They, as the leader has them. None, if there is nothing but the rest to say.
    pub batches: Bytes,
    /// The leader's high watermark.
    pub committed: Offset,
    /// Where the leader's log starts.
    pub start: Offset,
}

/// What a follower has on its disk, and its log is the beginning of its leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnDisk {
    /// Everything before it: its durable end. Counts for the high watermark.
    pub end: Offset,
    /// Nothing before it comes back: its durable log start. The smallest one of all replicas is the low watermark that
    /// DeleteRecords waits for, which nobody does yet.
    pub start: Offset,
}

/// What comes next.
#[derive(Debug)]
pub enum FollowerNext {
    /// Nothing, until it is told something.
    Waits,
    /// It asks its leader where this epoch ends there.
    Asks(EpochEnd),
    /// It cuts its log back, which is not done yet: as [`Truncation`] says, then [`Following::go_on`].
    Cuts(Truncation),
    /// It tells its leader what is on its disk.
    Tells(OnDisk),
}

/// What comes next, and when it is to be told that more is on the disk.
#[derive(Debug)]
pub struct FollowerStep {
    /// What is to be done.
    pub next: FollowerNext,
    /// The newest flush that anything of its log waits for, if not all of it is on the disk:
    /// [`Following::on_durable`] when it is durable. Without that it says nothing any more.
    pub flush: Option<FlushSeq>,
}

impl FollowerStep {
    fn of(next: FollowerNext, log: &Log) -> Self {
        let flush = log.undurable();
        Self { next, flush }
    }
}

/// Why a follower goes on no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowerStopped {
    /// After a start the log ended before what it had known to be committed.
    Lost {
        /// Where it ends.
        end: Offset,
        /// What was known.
        committed: Offset,
    },
    /// It would have to cut off what it has known to be committed. Something was lost here or at the leader, and if it
    /// was there this log has it: it is kept as it is, and a person is told. It follows nobody before it is decided
    /// that the leader's log is to count, by an unclean election or by that person; then [as one that is not in
    /// sync](Following::out_of_sync).
    Contradiction {
        /// Where it would cut.
        to: Offset,
        /// What was known.
        committed: Offset,
    },
    /// Its log cannot be read where it is to be cut.
    Unreadable(ErrorCode),
    /// What it was pushed does not go on where its log ends, or is damaged; or there is no room for it. Nothing has
    /// changed, and it may be pushed the same again: when there is room, or else after it has [asked](Following::ask).
    /// What is refused once more then is a fault, here or at the leader, and needs a person.
    Unfit(Unfit),
}

impl FollowerStopped {
    /// Whether something that counts may be missing here: it has to leave the ISR before it follows again, and then
    /// [as one that is not in sync](Following::out_of_sync). Not so after a [contradiction](Self::Contradiction), where
    /// this log may be the last good one.
    #[must_use]
    pub const fn has_lost(self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Unreadable(_))
    }
}

impl fmt::Display for FollowerStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { end, committed } => write!(
                f,
                "the log ends at offset {end}, and everything before {committed} was known to be committed: some of it \
                 was lost here"
            ),
            Self::Contradiction { to, committed } => write!(
                f,
                "the leader's log is another one from offset {to} on, and everything before {committed} was known to \
                 be committed: some of it was lost here or at the leader"
            ),
            Self::Unreadable(code) => write!(f, "the log cannot be cut back: {code}"),
            Self::Unfit(unfit) => write!(f, "the leader's batches cannot be appended: {unfit}"),
        }
    }
}

impl std::error::Error for FollowerStopped {}

/// A cut that is not done.
#[derive(Clone, Copy, Debug)]
struct Cutting {
    to: Offset,
    /// It asks again then; else its log is the beginning of its leader's.
    asks: bool,
}

/// A partition that this node follows, in one term.
#[derive(Debug)]
pub struct Following {
    follower: Follower,
    cutting: Option<Cutting>,
    /// Everything here is before where its leader's log starts: it begins anew there, with what it is pushed next.
    anew: Option<Offset>,
    /// Where the leader's log starts.
    start: Offset,
    /// What the leader was told last.
    told: Option<OnDisk>,
    /// It may be in sync.
    counts: bool,
}

/// A log and the store that it is in.
pub type Here<'a> = (&'a mut Log, &'a mut Store);

impl Following {
    /// It begins to follow, as one that may be in sync, and asks.
    ///
    /// # Errors
    /// [`FollowerStopped::Lost`].
    pub fn begin(
        now: Now,
        term: Term,
        here: Here<'_>,
    ) -> Result<(Self, FollowerStep), FollowerStopped> {
        if let Some(committed) = here.0.lost_before() {
            let end = here.0.end_offset();
            return Err(FollowerStopped::Lost { end, committed });
        }
        let watermark = here.0.known_committed();
        Self::with(now, Follower::new(term, watermark), true, here)
    }

    /// The same for one that has left the ISR because of what it [has lost](FollowerStopped::has_lost), or after it was
    /// decided that its leader's log counts whatever is here: what it has known to be committed does not keep it from
    /// becoming like its leader. From when its log is the beginning of its leader's [nothing is
    /// missing](Log::give_up_lost) any more.
    ///
    /// # Errors
    /// [`FollowerStopped::Unreadable`].
    pub fn out_of_sync(
        now: Now,
        term: Term,
        here: Here<'_>,
    ) -> Result<(Self, FollowerStep), FollowerStopped> {
        Self::with(now, Follower::new(term, Offset(0)), false, here)
    }

    fn with(
        now: Now,
        follower: Follower,
        counts: bool,
        here: Here<'_>,
    ) -> Result<(Self, FollowerStep), FollowerStopped> {
        let mut it = Self {
            follower,
            cutting: None,
            anew: None,
            start: Offset(0),
            told: None,
            counts,
        };
        // Epochs in which it led and wrote nothing are none that its leader could know.
        let to = here.0.end_offset();
        let next = it.cut(now, Cutting { to, asks: true }, here)?;
        Ok((it, next))
    }

    /// Whom it follows, and as whom.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.follower.term()
    }

    /// Whether its log is the beginning of its leader's.
    #[must_use]
    pub const fn follows(&self) -> bool {
        self.follower.follows() && self.cutting.is_none() && self.anew.is_none()
    }

    /// It asks, or once more: an answer may have been lost.
    pub fn ask(&mut self, log: &Log) -> FollowerStep {
        if self.cutting.is_some() {
            return FollowerStep::of(FollowerNext::Waits, log);
        }
        let epoch = match log.is_empty() {
            true => UNDEFINED_EPOCH.0,
            false => log.leader_epoch(),
        };
        let end = log.end_offset();
        self.anew = None;
        let asked = self.follower.ask(EpochEnd { epoch, end });
        FollowerStep::of(FollowerNext::Asks(asked), log)
    }

    /// The leader's answer to what was `asked`.
    ///
    /// # Errors
    /// [`FollowerStopped::Contradiction`], [`FollowerStopped::Unreadable`].
    pub fn answered(
        &mut self,
        now: Now,
        asked: EpochEnd,
        answer: LeaderLog,
        here: Here<'_>,
    ) -> Result<FollowerStep, FollowerStopped> {
        let is_empty = asked.epoch == UNDEFINED_EPOCH.0;
        // A leader that does not know the epoch, nor any before it, has not begun its own.
        let has_begun = is_empty || answer.ends.epoch >= LeaderEpoch(0);
        if !self.follower.waits_for(asked) || !has_begun {
            return Ok(FollowerStep::of(FollowerNext::Waits, here.0));
        }
        self.start = answer.start;
        let end = here.0.end_offset();
        if answer.start > end {
            // With the first batch, which is not known yet: the start may lie inside of it.
            self.anew = Some(answer.start);
            self.follower.begins_anew();
            return Ok(FollowerStep::of(FollowerNext::Waits, here.0));
        }
        let (ends, own) = if is_empty {
            // Without records there is nothing to compare, but where it is.
            let (epoch, there) = (asked.epoch, answer.end);
            (EpochEnd { epoch, end: there }, end)
        } else {
            let (_, own) = here.0.end_offset_for_epoch(answer.ends.epoch);
            (answer.ends, own)
        };
        match self.follower.compared(asked, ends, own) {
            Compared::Ignored => Ok(FollowerStep::of(FollowerNext::Waits, here.0)),
            Compared::Matches(to) => self.cut(now, Cutting { to, asks: false }, here),
            Compared::Differs(to) => self.cut(now, Cutting { to, asks: true }, here),
            Compared::Contradiction(to) => {
                let committed = self.follower.watermark();
                Err(FollowerStopped::Contradiction { to, committed })
            }
        }
    }

    /// Goes on with a cut.
    ///
    /// # Errors
    /// [`FollowerStopped::Unreadable`].
    pub fn go_on(&mut self, now: Now, here: Here<'_>) -> Result<FollowerStep, FollowerStopped> {
        match self.cutting.take() {
            Some(cutting) => self.cut(now, cutting, here),
            None => Ok(FollowerStep::of(FollowerNext::Waits, here.0)),
        }
    }

    fn cut(
        &mut self,
        now: Now,
        cutting: Cutting,
        here: Here<'_>,
    ) -> Result<FollowerStep, FollowerStopped> {
        let cut = here.0.truncate(now, cutting.to, here.1);
        match cut.map_err(FollowerStopped::Unreadable)? {
            Truncation::Done { .. } if cutting.asks => Ok(self.ask(here.0)),
            Truncation::Done { .. } => {
                if !self.counts {
                    here.0.give_up_lost(here.1);
                }
                Ok(self.tells(now, here))
            }
            more => {
                self.cutting = Some(cutting);
                Ok(FollowerStep::of(FollowerNext::Cuts(more), here.0))
            }
        }
    }

    /// The leader pushes.
    ///
    /// # Errors
    /// [`FollowerStopped::Unfit`]; the log is what it was then.
    pub fn pushed(
        &mut self,
        now: Now,
        push: &Push,
        here: Here<'_>,
    ) -> Result<FollowerStep, FollowerStopped> {
        if self.cutting.is_some() || self.follower.has_asked() {
            return Ok(FollowerStep::of(FollowerNext::Waits, here.0));
        }
        let end = self.anew.unwrap_or(here.0.end_offset());
        if push.start > end {
            // What comes between is gone there, and would be a gap that is nobody else's.
            return Ok(self.ask(here.0));
        }
        let batches = match self.follower.pushed(push.from, end) {
            Pushed::Compares => return Ok(self.ask(here.0)),
            Pushed::Appends => push.batches.clone(),
            Pushed::Has => behind(&push.batches, end),
        };
        let epoch = self.term().epoch;
        let begins = self.begins(push, &batches, here.0);
        let appended = match begins {
            Some(start) => here.0.begin_anew(now, start, &batches, epoch, here.1),
            None => here.0.append_replica(now, &batches, epoch, here.1),
        };
        let appended = appended.map_err(FollowerStopped::Unfit)?;
        if let Some(start) = begins {
            self.anew = None;
            self.follower.began_anew(start);
        }
        self.follower.committed(push.committed, appended.end);
        self.start = push.start;
        self.move_marks(now, (&mut *here.0, &mut *here.1));
        Ok(FollowerStep::of(FollowerNext::Waits, here.0))
    }

    /// Whether its log begins anew with these batches, and where it starts then. The leader's log may start inside of a
    /// batch, and so may a log without records: it begins with that batch, and nothing before the start counts.
    fn begins(&self, push: &Push, batches: &[u8], log: &Log) -> Option<Offset> {
        let end = log.end_offset();
        match self.anew {
            None if !begins_before(batches, end) => None,
            None if push.start == end => Some(end),
            None => log.is_empty().then_some(log.start_offset()),
            anew => anew,
        }
    }

    /// A flush of this node's, and all before it, are on its disk.
    pub fn on_durable(&mut self, now: Now, flush: FlushSeq, here: Here<'_>) -> FollowerStep {
        here.0.on_durable(flush);
        if !self.follows() {
            here.0.write_watermark(here.1);
            return FollowerStep::of(FollowerNext::Waits, here.0);
        }
        let told = self.told;
        let mut step = self.tells(now, here);
        if matches!(step.next, FollowerNext::Tells(on_disk) if Some(on_disk) == told) {
            step.next = FollowerNext::Waits;
        }
        step
    }

    fn tells(&mut self, now: Now, here: Here<'_>) -> FollowerStep {
        self.move_marks(now, (&mut *here.0, &mut *here.1));
        // A crash could still bring back a log that ends elsewhere.
        if !here.0.is_cut_durable() {
            return FollowerStep::of(FollowerNext::Waits, here.0);
        }
        let on_disk = OnDisk {
            end: here.0.durable_end(),
            start: here.0.durable_start(),
        };
        self.told = Some(on_disk);
        FollowerStep::of(FollowerNext::Tells(on_disk), here.0)
    }

    /// What is known to be committed and durable here may be read, and goes if the leader has dropped it.
    fn move_marks(&self, now: Now, (log, store): Here<'_>) {
        log.is_committed(self.follower.watermark());
        log.raise_high_watermark(self.follower.watermark());
        log.write_watermark(store);
        log.follow_start(now, self.start, store);
    }
}

/// Whether the first batch begins before an offset that it holds.
fn begins_before(batches: &[u8], offset: Offset) -> bool {
    record::parse(batches)
        .is_ok_and(|first| first.base_offset < offset.0 && first.last_offset() >= offset.0)
}

/// Those of some batches that do not end before an offset.
fn behind(batches: &Bytes, offset: Offset) -> Bytes {
    let mut at = 0;
    while let Ok(info) = record::parse(&batches[at..])
        && info.last_offset() < offset.0
    {
        at += info.len;
    }
    batches.slice(at..)
}
