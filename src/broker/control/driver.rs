//! Drives this node's replica of the metadata log: does what the quorum wants done. What is to be on the disk goes to
//! `writes`, what is said to other replicas is handed out.

use std::cmp::Reverse;
use std::collections::VecDeque;

use bytes::Bytes;

use super::logs::offset_of;
use super::writes::{QuorumWrites, SnapshotEnd};
use crate::base::limits::{QUORUM_LOG_BYTES_MAX, QUORUM_SNAPSHOT_BYTES};
use crate::base::{LeaderEpoch, Mono, NodeId};
use crate::broker::fatal;
use crate::broker::fx::Fx;
use crate::broker::io::ReadId;
use crate::broker::owner::Owner;
use crate::broker::peers::OwnTime;
use crate::controller::{METADATA_LOG, METADATA_SNAPSHOT_LOG};
use crate::quorum::{
    Declined, EntryId, EntryIndex, Quorum, QuorumConfig, QuorumEntry, QuorumInput, QuorumMessage,
    QuorumRole, Ready, ReplicaKey, Restored, SnapshotMark, VoterChange,
};
use crate::store::DiskError;

/// How long to wait before a snapshot is tried again for which there was no room.
const SNAPSHOT_RETRY_MS: u64 = 5_000;
/// How often it is looked whether this process runs, which [`OwnTime`] wants; and how late the others are.
const LOOKS_MS: u64 = 20;
/// See [`LOOKS_MS`].
const BEARS_MS: u64 = 100;
/// What has happened, in its order.
#[derive(Debug)]
pub enum Happened {
    /// An entry is committed.
    Committed(QuorumEntry),
    /// A snapshot is to be made of all that is committed so far.
    SnapshotWanted(SnapshotMark),
    /// The snapshot that was fetched is on the disk: it takes the place of all that was committed before.
    Installed(SnapshotMark),
    /// This replica leads in this term: all that was committed before has been told.
    Leads(LeaderEpoch),
    /// It does not lead any more.
    Follows,
    /// A change of the voters is on its way, as this entry, or given up.
    Changed(Result<EntryId, Declined>),
    /// The voters that this entry names are committed.
    VotersCommitted(EntryId),
}

/// See the module.
#[derive(Debug)]
pub struct QuorumDriver {
    quorum: Quorum,
    happened: VecDeque<Happened>,
    /// The quorum has more to tell.
    more: bool,
    writes: QuorumWrites,
    /// What may leave when a write is durable, by its number.
    held: VecDeque<(u64, Vec<QuorumMessage>)>,
    /// What may leave.
    messages: VecDeque<QuorumMessage>,
    /// A snapshot that is to be fetched, and from whom.
    fetch: Option<(ReplicaKey, SnapshotMark)>,
    /// Who leads, as far as it is known.
    leader: Option<ReplicaKey>,
    /// The term in which it leads, as it was told.
    leads: Option<LeaderEpoch>,
    /// The last entry that a snapshot on the disk has, while it or what is before it is still in the log.
    cut: Option<EntryIndex>,
    is_snapshotting: bool,
    /// Entries in bytes, with less than which no snapshot is made.
    snapshot_due: usize,
    /// No snapshot is made before, for there was no room for one.
    snapshot_from: Option<Mono>,
    /// When it was looked whether this process runs.
    own: OwnTime,
    looked_at: Mono,
    /// When it is looked next how late the others are.
    bears_at: Mono,
}

impl QuorumDriver {
    /// A process starts with what its disk has; `compact_bytes` of entries are worth a snapshot.
    ///
    /// # Errors
    /// No replica can have written that.
    pub fn start(
        me: ReplicaKey,
        restored: Restored,
        (compact_bytes, seed): (u64, u64),
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<Self, String> {
        let wanted = usize::try_from(compact_bytes).unwrap_or(usize::MAX);
        let config = QuorumConfig {
            snapshot_bytes: wanted.min(QUORUM_SNAPSHOT_BYTES),
            ..QuorumConfig::new(seed)
        };
        let mark = restored.snapshot.id.index;
        let quorum = Quorum::new(me, config, restored, fx.now.mono);
        let mut own = OwnTime::default();
        own.at(fx.now.mono);
        let mut driver = Self {
            quorum: quorum.map_err(|error| error.to_string())?,
            happened: VecDeque::new(),
            more: false,
            writes: QuorumWrites::new(compact_bytes),
            held: VecDeque::new(),
            messages: VecDeque::new(),
            fetch: None,
            leader: None,
            leads: None,
            cut: None,
            is_snapshotting: false,
            snapshot_due: 0,
            snapshot_from: None,
            own,
            looked_at: fx.now.mono,
            bears_at: fx.now.mono,
        };
        let log = owner.partitions.get(&METADATA_LOG);
        if log.is_some_and(|open| open.log.start_offset() <= offset_of(mark) && mark.0 > 0) {
            driver.begin_cut(owner, fx);
            driver.cut = Some(mark);
        }
        driver.step(QuorumInput::Time, owner, fx);
        Ok(driver)
    }

    /// Something has happened to the quorum: the one way in, for messages of other replicas too.
    pub fn step(&mut self, input: QuorumInput, owner: &mut Owner, fx: &mut Fx<'_>) {
        self.snapshot_from = self.snapshot_from.filter(|from| fx.now.mono < *from);
        self.look_at_clock(fx.now.mono);
        self.quorum.step(fx.now.mono, input);
        self.do_all(owner, fx);
    }

    /// Nobody is accused of silence in which this process did not run.
    fn look_at_clock(&mut self, now: Mono) {
        self.looked_at = now;
        let ms = self.own.missed_ms(now);
        if ms > 0 && self.has_others() {
            self.quorum.step(now, QuorumInput::StoodStill(ms));
        }
    }

    fn has_others(&self) -> bool {
        self.quorum.voters().iter().count() > 1
    }

    /// How late are the others? `silence` says of another node how much of it it may keep, in ms. Of all voters those
    /// count that are a majority soonest, and who leads.
    pub fn bear(&mut self, now: Mono, mut silence: impl FnMut(NodeId) -> u64) {
        if now < self.bears_at {
            return;
        }
        self.bears_at = now.plus_ms(BEARS_MS);
        let leader = self.leader.map_or(0, |leader| silence(leader.node));
        let voters = self.quorum.voters();
        let Reverse(soonest) = voters.reached(|voter| Reverse(silence(voter.node)));
        let ms = leader.max(soonest);
        self.quorum.step(now, QuorumInput::Patience(ms));
    }

    /// When [`QuorumInput::Time`] is due.
    pub fn wake_at(&self) -> Mono {
        let quorum = match self.has_others() {
            true => self.quorum.wake_at().min(self.looked_at.plus_ms(LOOKS_MS)),
            false => self.quorum.wake_at(),
        };
        self.snapshot_from.map_or(quorum, |from| quorum.min(from))
    }

    /// Proposes records as one entry, which were decided by who leads in this term.
    ///
    /// # Errors
    /// It is not taken: by a leader of another term, because what they were decided by may not be its.
    pub fn propose(
        &mut self,
        term: LeaderEpoch,
        records: Bytes,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<EntryId, Declined> {
        if self.leads_in() != Some(term) {
            return Err(Declined::NotLeader { leader: None });
        }
        let proposed = self.quorum.propose(fx.now.mono, records)?;
        self.do_all(owner, fx);
        Ok(proposed)
    }

    /// Begins a change of the voters, which [`Happened::Changed`] says the end of.
    ///
    /// # Errors
    /// It is not begun.
    pub fn change(
        &mut self,
        change: VoterChange,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<(), Declined> {
        self.quorum.change(fx.now.mono, change)?;
        self.do_all(owner, fx);
        Ok(())
    }

    /// What has happened next.
    pub fn next(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) -> Option<Happened> {
        if self.happened.is_empty() && self.more {
            self.do_all(owner, fx);
        }
        self.happened.pop_front()
    }

    /// The next thing to be said to another replica.
    pub fn next_message(&mut self) -> Option<QuorumMessage> {
        self.messages.pop_front()
    }

    /// A snapshot that is to be fetched from now on instead of any other one, and from whom.
    pub fn next_fetch(&mut self) -> Option<(ReplicaKey, SnapshotMark)> {
        self.fetch.take()
    }

    /// The term in which it leads, if it does.
    pub fn leads_in(&self) -> Option<LeaderEpoch> {
        match self.quorum.role() {
            QuorumRole::Leader { term } => Some(term),
            QuorumRole::Follower { .. } => None,
        }
    }

    /// The replica itself.
    pub const fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// Who leads, as far as it is known.
    pub const fn leader(&self) -> Option<ReplicaKey> {
        self.leader
    }

    /// Whether something has happened that was not told, or a write can go on.
    pub fn has_more(&self) -> bool {
        self.more || !self.happened.is_empty() || self.writes.has_more()
    }

    /// Whether nothing is on its way to the disk.
    pub fn is_quiet(&self) -> bool {
        self.writes.is_quiet()
    }

    /// Goes on with writes that wait. To be called whenever the shard is idle.
    pub fn go_on(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        self.look_at_clock(fx.now.mono);
        if let Err(why) = self.writes.go_on(owner, fx) {
            fx.out.push(fatal::metadata(why));
        }
    }

    /// If a read is one for a write, it has ended: returns whether it was.
    pub fn read(
        &mut self,
        id: ReadId,
        result: &Result<Bytes, DiskError>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> bool {
        self.writes
            .read(id, result, owner, fx)
            .unwrap_or_else(|why| {
                fx.out.push(fatal::metadata(why));
                true
            })
    }

    /// If the token is that of a write: it is durable.
    pub fn durable(&mut self, token: u64, owner: &mut Owner, fx: &mut Fx<'_>) -> bool {
        let Some(number) = self.writes.durable(token, owner, fx) else {
            return false;
        };
        if let Some(number) = number {
            let may_leave = self.held.partition_point(|(after, _)| *after <= number);
            let held = self.held.drain(..may_leave);
            self.messages
                .extend(held.flat_map(|(_, messages)| messages));
            self.step(QuorumInput::Durable(number), owner, fx);
        }
        self.cut_some(owner, fx);
        true
    }

    /// The parts of the snapshot that was to be fetched are in their log, and this is its end; `None`: it cannot be
    /// had.
    /// Returns whether it takes the place of all entries as soon as the disk has that: it may not be needed any more.
    pub fn fetched(
        &mut self,
        end: Option<SnapshotEnd>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> bool {
        let id = end.as_ref().map(|end| end.id);
        self.writes.fetched = end;
        self.step(QuorumInput::Fetched(id), owner, fx);
        let is_used = id.is_some() && (self.writes.fetched.is_none() || self.writes.installs());
        if !is_used {
            self.writes.fetched = None;
        }
        is_used
    }

    /// A snapshot that was wanted is on the disk.
    pub fn snapshotted(&mut self, index: EntryIndex, owner: &mut Owner, fx: &mut Fx<'_>) {
        self.is_snapshotting = false;
        // What is written down each time must not be more than what has happened since.
        let snapshots = owner.partitions.get(&METADATA_SNAPSHOT_LOG);
        let bytes = snapshots.map_or(0, |open| open.log.size_bytes());
        self.snapshot_due = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(QUORUM_LOG_BYTES_MAX / 2);
        self.cut = Some(index);
        self.step(QuorumInput::Snapshotted(index), owner, fx);
        self.cut_some(owner, fx);
    }

    /// A snapshot that was wanted cannot be made now.
    pub fn not_snapshotted(&mut self, now: Mono) {
        self.is_snapshotting = false;
        let bytes = self.quorum.log_bytes();
        // Before the log is full, when nothing more would be taken in and so nothing would ever ask again.
        self.snapshot_due = (bytes + bytes / 8).min(QUORUM_LOG_BYTES_MAX / 2);
        self.snapshot_from = Some(now.plus_ms(SNAPSHOT_RETRY_MS));
    }

    /// What follows in the log may stay when a snapshot of what is committed now is on the disk.
    pub fn begin_cut(&self, owner: &mut Owner, fx: &Fx<'_>) {
        owner.begin_rewrite(fx.now, METADATA_LOG);
    }

    /// Drops entries that a snapshot has, once one behind them is on the disk: a log that is empty would be a new one
    /// to releases before the quorum.
    fn cut_some(&mut self, owner: &mut Owner, fx: &Fx<'_>) {
        if let Some(index) = self.cut
            && let Some(open) = owner.partitions.get(&METADATA_LOG)
            && open.log.durable_end() > offset_of(index.next())
        {
            self.cut = None;
            owner.drop_before(fx.now, METADATA_LOG, offset_of(index.next()));
        }
    }

    /// Does all that the quorum wants done now.
    fn do_all(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        let ready = self.quorum.ready();
        self.more = ready.more;
        if let Err(why) = self.perform(ready, owner, fx) {
            fx.out.push(fatal::metadata(why));
        }
    }

    fn perform(&mut self, ready: Ready, owner: &mut Owner, fx: &mut Fx<'_>) -> Result<(), String> {
        self.messages.extend(ready.messages);
        if let Some(write) = ready.write {
            if write.snapshot.is_some() {
                // What was to be cut was of the log before it.
                self.cut = None;
            }
            self.writes.push(write, owner, fx)?;
        }
        match self.writes.newest() {
            Some(number) if !ready.messages_when_durable.is_empty() => {
                self.held.push_back((number, ready.messages_when_durable));
            }
            _ => self.messages.extend(ready.messages_when_durable),
        }
        let changed = ready.changed.map(|(_, outcome)| Happened::Changed(outcome));
        let committed = ready.voters_committed.map(Happened::VotersCommitted);
        self.happened.extend(changed.into_iter().chain(committed));
        let installed = ready.installed.map(Happened::Installed);
        let committed = ready.committed.into_iter().map(Happened::Committed);
        self.happened.extend(installed.into_iter().chain(committed));
        if let Some(mark) = ready.snapshot_wanted
            && !self.is_snapshotting
            && self.quorum.log_bytes() >= self.snapshot_due
            && self.snapshot_from.is_none()
        {
            self.is_snapshotting = true;
            self.happened.push_back(Happened::SnapshotWanted(mark));
        }
        if let Some(role) = ready.role {
            self.role(role);
        }
        if ready.fetch.is_some() {
            self.fetch = ready.fetch;
        }
        ready.fault.map_or(Ok(()), |fault| Err(fault.to_string()))
    }

    fn role(&mut self, role: QuorumRole) {
        let (leads, leader) = match role {
            QuorumRole::Leader { term } => (Some(term), None),
            QuorumRole::Follower { leader, .. } => (None, leader),
        };
        self.leader = leader;
        let before = std::mem::replace(&mut self.leads, leads);
        if before != leads {
            let ends = before.map(|_| Happened::Follows);
            let begins = leads.map(Happened::Leads);
            self.happened.extend(ends.into_iter().chain(begins));
        }
    }
}
