//! A follower's log, driven by what its leader says: [`Follower`] decides, and this does it to the log.
//!
//! What a follower says of itself is what is on its disk, and only while its log is the beginning of its leader's. A
//! log that ends before its leader's starts begins anew, in one flush with the first batch that it is pushed, and not
//! before that has been found good. If something that was known to be committed is not here it stops, and says so: it
//! must not be in sync then.
//!
//! Nothing repeats what is lost on the way but this: whoever drives it has it [ask](Following::ask) whenever its leader
//! may not have got what it said, so at each new connection, and again after a while without an answer.

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
    /// What is known there to be committed.
    pub committed: Offset,
    /// Before it compaction has removed tombstones there: whoever ends before it may have what they deleted.
    pub tombstones: Offset,
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
            committed: log.known_committed(),
            tombstones: log.tombstones_removed_before(),
        }
    }

    /// How far a follower's log is this one's beginning, as far as what it has asked tells. Nothing ends where no epoch
    /// is known.
    #[must_use]
    pub fn reached(&self, asked: EpochEnd) -> Offset {
        match asked.epoch != UNDEFINED_EPOCH.0 && self.ends.epoch == asked.epoch {
            true => asked.end.min(self.ends.end),
            false => asked.end,
        }
    }

    /// Whether a log that ends there has to begin anew: what follows it is not all there any more.
    fn is_behind(&self, end: Offset) -> bool {
        self.start > end || self.tombstones > end
    }

    /// Behind which offset the pushes to the follower go on after this answer; `None` if it has to ask again, or will
    /// not follow.
    #[must_use]
    pub fn goes_on(&self, asked: EpochEnd) -> Option<Offset> {
        if self.is_behind(self.reached(asked)) {
            return Some(self.start);
        }
        if asked.epoch == UNDEFINED_EPOCH.0 {
            return (asked.end <= self.end).then_some(asked.end);
        }
        (self.ends.epoch == asked.epoch).then_some(asked.end.min(self.ends.end))
    }

    /// Numbers are a peer's.
    fn check(&self, asked: EpochEnd) -> Result<(), Unfit> {
        let is_none = self.ends.epoch < LeaderEpoch(0);
        let is_possible = Offset(0) <= self.start
            && self.start <= self.committed
            && self.committed <= self.end
            && (Offset(0)..=self.end).contains(&self.tombstones)
            && self.ends.epoch <= asked.epoch
            && (is_none || (Offset(0)..=self.end).contains(&self.ends.end));
        let what = "the leader says of its log what cannot be";
        is_possible.then_some(()).ok_or(Unfit::Impossible(what))
    }
}

/// What a leader pushes to a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Behind which offset of the leader's log the batches come: the first one ends behind it, and there is none
    /// between.
    pub from: Offset,
    /// They, as the leader has them. None, if there is nothing but the rest to say.
    pub batches: Bytes,
    /// Before which offset they are all that the leader has: where the last one ends, or where the leader's log does
    /// behind that.
    pub to: Offset,
    /// The leader's high watermark.
    pub committed: Offset,
    /// Where the leader's log starts.
    pub start: Offset,
}

impl Push {
    /// Numbers are a peer's.
    fn check(&self) -> Result<(), Unfit> {
        let is_possible = Offset(0) <= self.start
            && self.start <= self.committed
            && Offset(0) <= self.from
            && self.from <= self.to;
        let what = "the leader pushes from or to where it cannot";
        is_possible.then_some(()).ok_or(Unfit::Impossible(what))
    }
}

/// What a follower has on its disk, and its log is the beginning of its leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnDisk {
    /// Everything before it: its durable end. Counts for the high watermark.
    pub end: Offset,
    /// Nothing before it comes back: its durable log start. The smallest one of all that are in sync is the low
    /// watermark that DeleteRecords waits for.
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
    /// Its log cannot be read where it is to be cut, so some of it is lost.
    Unreadable(ErrorCode),
    /// What it was pushed does not go on where its log ends, or is damaged, or makes no sense; or there is no room for
    /// it. Nothing has changed, but that what it would drop anyway may be gone to make room. It may be pushed the same
    /// again: when there is room, or else after it has [asked](Following::ask). What is refused once more then is a
    /// fault, here or at the leader, and needs a person.
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

/// What of its log a follower has its leader compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compares {
    /// All of it, by epochs.
    Epochs,
    /// Nothing: all of it is committed, here and there, and somebody has left some of it out.
    Committed,
    /// Nothing: it begins anew, whatever it has.
    Nothing,
}

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
    compares: Compares,
    cutting: Option<Cutting>,
    /// It begins anew where its leader's log starts, with what it is pushed next: everything here is before that, or
    /// does not count.
    anew: Option<Offset>,
    /// Where the leader's log starts.
    start: Offset,
    /// Where it ended when it answered last.
    end: Offset,
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
            compares: Compares::Epochs,
            cutting: None,
            anew: None,
            start: Offset(0),
            end: Offset(0),
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

    /// Whether it cuts its log back.
    #[must_use]
    pub const fn is_cutting(&self) -> bool {
        self.cutting.is_some()
    }

    /// It asks, or once more: an answer may have been lost, or what it told.
    pub fn ask(&mut self, log: &Log) -> FollowerStep {
        if let Some(cutting) = &mut self.cutting {
            // It does so when that is done.
            cutting.asks = true;
            return FollowerStep::of(FollowerNext::Waits, log);
        }
        self.anew = None;
        let latest = self.latest(log);
        let asked = self.follower.ask(latest);
        FollowerStep::of(FollowerNext::Asks(asked), log)
    }

    /// What it has its leader compare.
    fn latest(&mut self, log: &Log) -> EpochEnd {
        let (epoch, end) = (UNDEFINED_EPOCH.0, log.end_offset());
        match (self.compares, log.last_epoch()) {
            (Compares::Epochs, Some(epoch)) => return EpochEnd { epoch, end },
            (Compares::Nothing, _) => {}
            // A log that never had a record: where it ends everything is committed, for one that counts.
            _ if self.counts => return EpochEnd { epoch, end },
            _ => self.compares = Compares::Nothing,
        }
        let end = Offset(0);
        EpochEnd { epoch, end }
    }

    /// The leader's answer to what was `asked`.
    ///
    /// # Errors
    /// [`FollowerStopped::Contradiction`], [`FollowerStopped::Unreadable`], [`FollowerStopped::Unfit`].
    pub fn answered(
        &mut self,
        now: Now,
        asked: EpochEnd,
        answer: LeaderLog,
        here: Here<'_>,
    ) -> Result<FollowerStep, FollowerStopped> {
        answer.check(asked).map_err(FollowerStopped::Unfit)?;
        let is_by_epoch = asked.epoch != UNDEFINED_EPOCH.0;
        // A leader that does not know the epoch, nor any before it, has not begun its own.
        let has_begun = !is_by_epoch || answer.ends.epoch >= LeaderEpoch(0);
        if !self.follower.waits_for(asked) || !has_begun {
            return Ok(FollowerStep::of(FollowerNext::Waits, here.0));
        }
        (self.start, self.end) = (answer.start, answer.end);
        // What is appended from now on lacks them.
        here.0.inherit_tombstones(answer.tombstones, here.1);
        let end = here.0.end_offset();
        // What it would cut off is another question, if it has known that to be committed.
        let reached = answer.reached(asked);
        let is_behind = answer.is_behind(reached) && reached >= self.follower.watermark();
        if answer.is_behind(end) || is_behind || self.compares == Compares::Nothing {
            self.follower.begins_anew();
            if here.0.last_epoch().is_none() && end == answer.start {
                // It is new, and where it has to be.
                let (to, asks) = (end, false);
                return self.cut(now, Cutting { to, asks }, here);
            }
            // With the first batch, which is not known yet: the start may lie inside of it.
            self.anew = Some(answer.start);
            return Ok(FollowerStep::of(FollowerNext::Waits, here.0));
        }
        let (ends, own) = match is_by_epoch {
            false => {
                let (epoch, end) = (asked.epoch, answer.end);
                (EpochEnd { epoch, end }, here.0.end_offset())
            }
            true if answer.ends.epoch == asked.epoch => (answer.ends, end),
            true => {
                let (_, own) = here.0.end_offset_for_epoch(answer.ends.epoch);
                (answer.ends, own)
            }
        };
        self.go_apart_or_on(now, (asked, ends, own), answer.committed, here)
    }

    /// Where its log and its leader's go different ways is known, or that they do not.
    fn go_apart_or_on(
        &mut self,
        now: Now,
        (asked, ends, own): (EpochEnd, EpochEnd, Offset),
        committed: Offset,
        here: Here<'_>,
    ) -> Result<FollowerStep, FollowerStopped> {
        let start = here.0.start_offset();
        // Of a log without records it is not known where an older epoch ended, but that it was before the start.
        let own = match here.0.is_empty() && ends.epoch != asked.epoch {
            true => Offset(start.0 - 1),
            false => own,
        };
        match self.follower.compared(asked, ends, own) {
            Compared::Ignored => Ok(FollowerStep::of(FollowerNext::Waits, here.0)),
            Compared::Matches(to) | Compared::Differs(to) if to < start => {
                // It would not be the beginning of its leader's log, but something in the middle.
                self.compares = Compares::Nothing;
                Ok(self.ask(here.0))
            }
            Compared::Matches(to) => self.cut(now, Cutting { to, asks: false }, here),
            Compared::Differs(to) => self.cut(now, Cutting { to, asks: true }, here),
            Compared::Contradiction(to) => {
                let known = self.follower.watermark();
                // What the leader has nothing in place of was left out by it, or will be known to be.
                if ends.epoch == asked.epoch || ends.end < known {
                    let committed = known;
                    return Err(FollowerStopped::Contradiction { to, committed });
                }
                if committed < known {
                    return Ok(FollowerStep::of(FollowerNext::Waits, here.0));
                }
                self.compares = Compares::Committed;
                let (to, asks) = (known, true);
                self.cut(now, Cutting { to, asks }, here)
            }
        }
    }

    /// Goes on with a cut.
    ///
    /// # Errors
    /// [`FollowerStopped::Unreadable`].
    pub fn go_on(&mut self, now: Now, here: Here<'_>) -> Result<FollowerStep, FollowerStopped> {
        match self.cutting {
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
        // Until it is done nothing is told of a log that goes on where its leader's does not.
        self.cutting = Some(cutting);
        match here.0.truncate(now, cutting.to, here.1) {
            Ok(Truncation::Done { .. }) => self.cutting = None,
            Ok(more) => return Ok(FollowerStep::of(FollowerNext::Cuts(more), here.0)),
            Err(code) if self.counts => return Err(FollowerStopped::Unreadable(code)),
            Err(_) => {
                (self.cutting, self.compares) = (None, Compares::Nothing);
                return Ok(self.ask(here.0));
            }
        }
        if cutting.asks {
            return Ok(self.ask(here.0));
        }
        self.compares = Compares::Epochs;
        if !self.counts {
            here.0.give_up_lost(here.1);
        }
        Ok(self.tells(now, here))
    }

    /// The leader pushes.
    ///
    /// # Errors
    /// [`FollowerStopped::Unfit`]; the log is what it was then, unless it is to begin anew and was in the way.
    pub fn pushed(
        &mut self,
        now: Now,
        push: &Push,
        here: Here<'_>,
    ) -> Result<FollowerStep, FollowerStopped> {
        if let Some(cutting) = &mut self.cutting {
            // It is not taken, and nobody pushes it again unless this one asks, which it does when that is done.
            cutting.asks = true;
            return Ok(FollowerStep::of(FollowerNext::Waits, here.0));
        }
        if self.follower.has_asked() {
            // What it cannot have is from a leader that did not know that it leads when it was asked.
            let asks = push.batches.is_empty() && push.from > here.0.end_offset();
            return Ok(match asks {
                true => self.ask(here.0),
                false => FollowerStep::of(FollowerNext::Waits, here.0),
            });
        }
        push.check().map_err(FollowerStopped::Unfit)?;
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
        if self.anew.is_some() && batches.is_empty() && push.to < self.end {
            // There is a batch to begin with, and what is here is dropped for no less.
            return Ok(FollowerStep::of(FollowerNext::Waits, here.0));
        }
        self.append(now, push, &batches, (&mut *here.0, &mut *here.1))?;
        self.follower.committed(push.committed, here.0.end_offset());
        self.start = push.start;
        self.move_marks(now, (&mut *here.0, &mut *here.1));
        let is_behind = |told: OnDisk| push.batches.is_empty() && push.committed < told.end;
        match self.told.is_some_and(is_behind) {
            // What it told may have been lost.
            true => Ok(self.tells(now, here)),
            false => Ok(FollowerStep::of(FollowerNext::Waits, here.0)),
        }
    }

    /// Appends what is behind its end, or begins anew with that.
    fn append(
        &mut self,
        now: Now,
        push: &Push,
        batches: &Bytes,
        (log, store): Here<'_>,
    ) -> Result<(), FollowerStopped> {
        let epoch = self.term().epoch;
        let begins = self.begins(push, batches, log);
        let appended = match begins {
            Some(_) if batches.is_empty() => {
                self.starts_over(now, push.to, (log, store));
                return Ok(());
            }
            Some(start) => log.begin_anew(now, start, batches, epoch, store),
            None => log.append_replica(now, batches, epoch, store),
        };
        if let (Err(Unfit::Full), Some(start)) = (appended, self.anew) {
            // What is dropped makes room for what is to come.
            self.starts_over(now, start, (log, store));
        }
        appended.map_err(FollowerStopped::Unfit)?;
        if let Some(start) = begins {
            self.has_begun_anew(start);
        }
        log.leave_out(now, push.to, store);
        Ok(())
    }

    /// Begins anew, without a batch.
    fn starts_over(&mut self, now: Now, start: Offset, (log, store): Here<'_>) {
        log.start_over(now, start, store);
        self.has_begun_anew(start);
    }

    fn has_begun_anew(&mut self, start: Offset) {
        (self.anew, self.compares) = (None, Compares::Epochs);
        self.follower.began_anew(start);
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
