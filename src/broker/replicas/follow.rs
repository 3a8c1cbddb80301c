//! The partitions of a shard that another node leads: what this node asks and tells about each, and when it asks again.

use std::collections::BTreeSet;

use super::leading::said;
use super::said::{ReplicaSaid, ReplicaWhat};
use crate::base::limits::{
    REPLICA_ASKS_AGAIN_MS_MAX, REPLICA_ASKS_AGAIN_MS_MIN, REPLICA_REFUSES_MS_MAX,
};
use crate::base::{IdMap, LogId, Mono, NodeId, Now, Offset};
use crate::broker::msg::ReplicaPeer;
use crate::broker::owner::Owner;
use crate::broker::owner::refused_reads::RefusedReads;
use crate::log::{Truncation, UNDEFINED_EPOCH, Unfit};
use crate::replica::{
    EpochEnd, FollowerNext, FollowerStep, FollowerStopped, Following, Here, LeaderLog, Term,
};
use crate::store::DiskError;

/// What this node is told by a leader, or has to do next.
pub type Stepped = Result<FollowerStep, FollowerStopped>;

/// What is asked of a leader by one whose log is damaged as a whole: how far it has it. Nothing is pushed after that.
pub(super) const HAS_NOTHING: EpochEnd = EpochEnd {
    epoch: UNDEFINED_EPOCH.0,
    end: Offset(i64::MAX),
};

/// A partition that this node follows.
#[derive(Debug)]
struct Followed {
    term: Term,
    leader: ReplicaPeer,
    /// None if it goes on no more in this term, or has lost something and is in sync still.
    it: Option<Following>,
    /// The metadata have it in the ISR.
    in_sync: bool,
    has_lost: bool,
    /// When it asks again, or goes on with a cut.
    asks_at: Option<Mono>,
    /// The disk has refused to read what a cut needs, which goes on then.
    cut_waits: bool,
    /// How often that was.
    disk: RefusedReads,
    /// How long it waits the next time.
    pause_ms: u64,
    /// It takes no pushes before it has asked again: it could not take one.
    refuses: bool,
    /// How often it could not, since it has come further.
    refusals: u32,
    /// Why it does not go on was said in the log.
    has_complained: bool,
}

/// What is to be done for a partition.
#[derive(Debug)]
pub enum FollowsUp {
    /// Say this to its leader.
    Say(ReplicaPeer, ReplicaSaid),
    /// Go on with a cut, as this says.
    Cut(Truncation),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Followeds {
    logs: IdMap<LogId, Followed>,
    /// When which of them asks again.
    due: BTreeSet<(Mono, LogId)>,
}

impl Followeds {
    /// Whether something that is said by this node in this term is of the leader that is followed.
    pub fn is_of_leader(&self, log: LogId, node: NodeId, term: Term) -> bool {
        let followed = self.logs.get(&log);
        followed.is_some_and(|it| it.leader.node == node && it.term == term)
    }

    /// Whether it takes what it is pushed.
    pub fn takes(&self, log: LogId) -> bool {
        self.logs.get(&log).is_some_and(|it| !it.refuses)
    }

    /// Nothing is followed any more.
    pub fn leave_all(&mut self) {
        *self = Self::default();
    }

    /// A partition is followed in this term, if it was not before. `in_sync` says whether the metadata have it in the
    /// ISR, `has_lost` whether something of it is lost here.
    pub fn follow(
        &mut self,
        now: Now,
        (log, term): (LogId, Term),
        leader: ReplicaPeer,
        (in_sync, has_lost): (bool, bool),
        owner: &mut Owner,
    ) -> Option<FollowsUp> {
        let known = self.logs.get_mut(&log);
        let has_lost = has_lost || known.as_ref().is_some_and(|it| it.has_lost);
        if let Some(known) = known.filter(|it| it.term == term) {
            known.in_sync = in_sync;
            // If it has left the ISR for what it has lost, it may follow from now on.
            let may_now = known.it.is_none() && has_lost && !in_sync;
            return may_now.then(|| self.begin(now, log, owner)).flatten();
        }
        self.leave(log);
        let followed = Followed {
            term,
            leader,
            it: None,
            in_sync,
            has_lost,
            asks_at: None,
            cut_waits: false,
            disk: RefusedReads::default(),
            pause_ms: REPLICA_ASKS_AGAIN_MS_MIN,
            refuses: false,
            refusals: 0,
            has_complained: false,
        };
        self.logs.insert(log, followed);
        self.begin(now, log, owner)
    }

    /// Begins to follow, as one that counts or, if something is lost, as one that does not.
    fn begin(&mut self, now: Now, log: LogId, owner: &mut Owner) -> Option<FollowsUp> {
        let followed = self.logs.get_mut(&log)?;
        let (term, in_sync, has_lost) = (followed.term, followed.in_sync, followed.has_lost);
        if has_lost && in_sync {
            self.ask_later(now.mono, log);
            return self.lost(log);
        }
        if owner.is_damaged(log) {
            let (to, asks) = (followed.leader, ReplicaWhat::Asks(HAS_NOTHING));
            self.ask_later(now.mono, log);
            return Some(FollowsUp::Say(to, said(log, term, asks)));
        }
        let begun = with(owner, log, |here| match has_lost {
            true => Following::out_of_sync(now, term, here),
            false => Following::begin(now, term, here),
        })?;
        let stepped = begun.map(|(it, step)| {
            followed.it = Some(it);
            step
        });
        self.stepped(now.mono, log, stepped, owner)
    }

    /// The leader of a partition whose log is damaged here as a whole has answered: whether it has what there was here,
    /// as far as `least`, so that nothing of that is needed.
    pub fn may_begin_anew(
        &mut self,
        now: Mono,
        log: LogId,
        (asked, answer): (EpochEnd, LeaderLog),
        least: Offset,
    ) -> bool {
        let Some(followed) = self.logs.get_mut(&log) else {
            return false;
        };
        if asked != HAS_NOTHING || followed.in_sync {
            return false;
        }
        if answer.end >= least {
            return true;
        }
        if !std::mem::replace(&mut followed.has_complained, true) {
            let (node, end) = (followed.leader.node, answer.end);
            tracing::error!(
                "log {log} is damaged as a whole, and what is left of it is kept: there was something before offset \
                 {least}, and node {node}, which leads the partition, has nothing behind {end}"
            );
        }
        followed.pause_ms = REPLICA_REFUSES_MS_MAX;
        self.ask_later(now, log);
        false
    }

    /// A partition is followed no more.
    pub fn leave(&mut self, log: LogId) {
        if let Some(followed) = self.logs.remove(&log)
            && let Some(at) = followed.asks_at
        {
            self.due.remove(&(at, log));
        }
    }

    /// Whom they follow.
    pub fn leaders(&self) -> impl Iterator<Item = ReplicaPeer> + '_ {
        self.logs.values().map(|it| it.leader)
    }

    /// Those that follow this shard.
    pub fn of_leader(&self, leader: ReplicaPeer) -> Vec<LogId> {
        let of = |(_, it): &(&LogId, &Followed)| it.leader == leader;
        self.logs.iter().filter(of).map(|(log, _)| *log).collect()
    }

    /// Does something with a partition that is followed; what is to be done then.
    pub fn step(
        &mut self,
        now: Mono,
        log: LogId,
        owner: &mut Owner,
        act: impl FnOnce(&mut Following, Here<'_>) -> Stepped,
    ) -> Option<FollowsUp> {
        let followed = self.logs.get_mut(&log)?;
        let known = &owner.partitions.get(&log)?.log;
        let (newest, end) = (known.leader_epoch(), known.end_offset());
        if newest > followed.term.epoch {
            // This node has led since, and it is not looked yet who does now.
            return None;
        }
        let it = followed.it.as_mut()?;
        let stepped = with(owner, log, |here| {
            let stepped = act(it, (&mut *here.0, &mut *here.1));
            (stepped, here.0.end_offset() > end)
        })?;
        let (stepped, has_come_further) = stepped;
        if has_come_further {
            (followed.refusals, followed.has_complained) = (0, false);
        }
        self.stepped(now, log, stepped, owner)
    }

    /// It asks again, or says again that it has lost something.
    pub fn ask(&mut self, now: Now, log: LogId, owner: &mut Owner) -> Option<FollowsUp> {
        let followed = self.logs.get_mut(&log)?;
        // Who asks because of a new connection asks when the cut is done.
        if followed.asks_at.is_none() && std::mem::take(&mut followed.cut_waits) {
            return self.step(now.mono, log, owner, |it, here| it.go_on(now, here));
        }
        followed.refuses = false;
        match (&followed.it, followed.has_lost, followed.in_sync) {
            (Some(_), ..) => self.step(now.mono, log, owner, |it, here| Ok(it.ask(here.0))),
            (None, true, _) => self.begin(now, log, owner),
            (None, false, _) => None,
        }
    }

    /// What a cut needs was read, or was not; false if that is to be tried again: it says nothing of what is there.
    pub fn read(&mut self, now: Mono, log: LogId, error: Option<&DiskError>) -> bool {
        let followed = self.logs.get_mut(&log);
        let is_cutting = |it: &Followed| it.it.as_ref().is_some_and(Following::is_cutting);
        let Some(followed) = followed.filter(|it| is_cutting(it)) else {
            return true;
        };
        let Some(error) = error else {
            followed.disk.over();
            return true;
        };
        let Some(after_ms) = followed.disk.again_after(error) else {
            return true;
        };
        if followed.disk.are_news() {
            let errno = error.errno;
            tracing::error!(
                "log {log}, which has to be cut back to follow its leader, cannot be read (errno {errno}): it is tried \
                 again for a while, and is not in sync meanwhile"
            );
        }
        followed.cut_waits = true;
        self.due_at(now.plus_ms(after_ms), log);
        false
    }

    /// The next one whose time it is to ask again.
    pub fn next_due(&mut self, now: Mono) -> Option<LogId> {
        let (at, log) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, log));
        if let Some(followed) = self.logs.get_mut(&log) {
            followed.asks_at = None;
        }
        Some(log)
    }

    /// When that is.
    pub fn deadline(&self) -> Mono {
        self.due.first().map_or(Mono::NEVER, |(at, _)| *at)
    }

    fn lost(&self, log: LogId) -> Option<FollowsUp> {
        let it = self.logs.get(&log).filter(|it| it.has_lost)?;
        Some(FollowsUp::Say(
            it.leader,
            said(log, it.term, ReplicaWhat::Lost),
        ))
    }

    /// It asks again after a while, unless it follows by then.
    fn ask_later(&mut self, now: Mono, log: LogId) {
        if let Some(followed) = self.logs.get_mut(&log) {
            let at = now.plus_ms(followed.pause_ms);
            followed.pause_ms = (2 * followed.pause_ms).min(REPLICA_ASKS_AGAIN_MS_MAX);
            self.due_at(at, log);
        }
    }

    fn due_at(&mut self, at: Mono, log: LogId) {
        if let Some(followed) = self.logs.get_mut(&log) {
            if let Some(before) = followed.asks_at.replace(at) {
                self.due.remove(&(before, log));
            }
            self.due.insert((at, log));
        }
    }

    /// It follows: it need not ask again.
    fn follows(&mut self, log: LogId, owner: &mut Owner) {
        // One that could not take a push has to: what it was pushed before may become durable meanwhile.
        if let Some(followed) = self.logs.get_mut(&log).filter(|it| !it.refuses) {
            followed.pause_ms = REPLICA_ASKS_AGAIN_MS_MIN;
            if std::mem::take(&mut followed.has_lost) {
                owner.loses(log, false);
            }
            if let Some(at) = followed.asks_at.take() {
                self.due.remove(&(at, log));
            }
        }
    }

    fn stepped(
        &mut self,
        now: Mono,
        log: LogId,
        stepped: Stepped,
        owner: &mut Owner,
    ) -> Option<FollowsUp> {
        let step = match stepped {
            Ok(step) => step,
            Err(stopped) => return self.stopped(now, log, stopped, owner),
        };
        if let Some(flush) = step.flush {
            owner.wrote(log, flush);
        }
        let followed = self.logs.get(&log)?;
        let (leader, term) = (followed.leader, followed.term);
        match step.next {
            FollowerNext::Waits => {
                if followed.it.as_ref().is_some_and(Following::follows) {
                    self.follows(log, owner);
                }
                None
            }
            FollowerNext::Asks(asked) => {
                self.ask_later(now, log);
                Some(FollowsUp::Say(
                    leader,
                    said(log, term, ReplicaWhat::Asks(asked)),
                ))
            }
            FollowerNext::Cuts(cut) => Some(FollowsUp::Cut(cut)),
            FollowerNext::Tells(on_disk) => {
                self.follows(log, owner);
                Some(FollowsUp::Say(
                    leader,
                    said(log, term, ReplicaWhat::Tells(on_disk)),
                ))
            }
        }
    }

    /// It goes on no more, or not for now.
    fn stopped(
        &mut self,
        now: Mono,
        log: LogId,
        stopped: FollowerStopped,
        owner: &mut Owner,
    ) -> Option<FollowsUp> {
        let followed = self.logs.get_mut(&log)?;
        let is_first = !std::mem::replace(&mut followed.has_complained, true);
        let node = followed.leader.node;
        if let Some(open) = owner.partitions.get(&log).filter(|_| is_first) {
            let label = open.log.label();
            let (topic, partition) = (&label.topic, label.partition);
            tracing::error!("{topic}-{partition}, which node {node} leads: {stopped}");
        }
        if stopped.has_lost() {
            owner.loses(log, true);
            (followed.has_lost, followed.it) = (true, None);
            self.ask_later(now, log);
            return self.lost(log);
        }
        match stopped {
            // When there is room again, or what came was damaged on its way, it is asked for anew.
            FollowerStopped::Unfit(unfit) => {
                followed.refuses = true;
                followed.pause_ms = refuses_for(unfit, followed.refusals);
                followed.refusals = followed.refusals.saturating_add(1);
                self.ask_later(now, log);
            }
            _ => followed.it = None,
        }
        None
    }
}

/// Does something with a log and its store, unless this node leads it by now: what its owner knows already it comes to
/// know here a moment later, and nothing of an earlier term may count meanwhile.
fn with<T>(owner: &mut Owner, log: LogId, act: impl FnOnce(Here<'_>) -> T) -> Option<T> {
    let open = owner.partitions.get_mut(&log)?;
    if open.leader.is_some() {
        return None;
    }
    let store = &mut owner.slots[open.slot].store;
    Some(act((&mut open.log, store)))
}

/// For how many ms a follower takes nothing after it could not take what it was pushed, and has not been able so often
/// before. What was damaged on its way is asked for anew at once: nobody is out of sync for that.
fn refuses_for(unfit: Unfit, before: u32) -> u64 {
    let doubled = REPLICA_ASKS_AGAIN_MS_MAX << before.min(u64::BITS / 4);
    match (unfit, before) {
        (Unfit::Full, _) | (_, 1..) => doubled.min(REPLICA_REFUSES_MS_MAX),
        (_, 0) => REPLICA_ASKS_AGAIN_MS_MIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_full_asks_less_and_less_often_and_who_got_damage_asks_again_at_once() {
        let damaged = Unfit::Impossible("a test");
        assert_eq!(refuses_for(damaged, 0), REPLICA_ASKS_AGAIN_MS_MIN);
        for unfit in [damaged, Unfit::Full] {
            let pauses: Vec<u64> = (1..9).map(|before| refuses_for(unfit, before)).collect();
            assert!(pauses.is_sorted() && pauses[0] == 2 * REPLICA_ASKS_AGAIN_MS_MAX);
            assert_eq!(pauses[7], REPLICA_REFUSES_MS_MAX);
            assert_eq!(refuses_for(unfit, u32::MAX), REPLICA_REFUSES_MS_MAX);
        }
        assert_eq!(refuses_for(Unfit::Full, 0), REPLICA_ASKS_AGAIN_MS_MAX);
    }
}
