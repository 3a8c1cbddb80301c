//! Drives this node's replica of the metadata log: does what the quorum wants done, with logs of store-0 as its disk.
//!
//! A write of the quorum is entries to the metadata log, and behind them the state to the log of the state. Both are of
//! one flush, or of two that follow each other; so what a crash can leave is entries without the state that was to come
//! with them, and never a state without its entries. Such entries nobody was told about. The write is durable when the
//! state is.

use std::collections::VecDeque;

use bytes::Bytes;

use super::logs::{entry_batch, offset_of, state_batch};
use crate::base::limits::{QUORUM_LOG_BYTES_MAX, QUORUM_SNAPSHOT_BYTES};
use crate::base::{Mono, Offset};
use crate::broker::fatal;
use crate::broker::fx::Fx;
use crate::broker::own::compact::Compaction;
use crate::broker::owner::Owner;
use crate::controller::{METADATA_LOG, METADATA_SNAPSHOT_LOG, METADATA_STATE_LOG};
use crate::quorum::{
    Declined, EntryId, EntryIndex, Quorum, QuorumConfig, QuorumEntry, QuorumInput, QuorumMessage,
    QuorumRole, Ready, ReplicaKey, Restored, SnapshotMark, Write,
};

/// How long to wait before a snapshot is tried again for which there was no room.
const SNAPSHOT_RETRY_MS: u64 = 5_000;
/// The log of the state is written anew when it has so many bytes.
const STATE_LOG_BYTES: u64 = 64 << 10;

/// What has happened, in its order.
#[derive(Debug)]
pub enum Happened {
    /// An entry is committed.
    Committed(QuorumEntry),
    /// A snapshot is to be made of all that is committed so far.
    SnapshotWanted(SnapshotMark),
    /// This replica leads: all that was committed before has been told.
    Leads,
    /// It does not lead any more.
    Follows,
}

/// See the module.
#[derive(Debug)]
pub struct QuorumDriver {
    quorum: Quorum,
    happened: VecDeque<Happened>,
    /// The quorum has more to tell.
    more: bool,
    /// Writes on their way to the disk: the number that says that one is there, and its own.
    writes: VecDeque<(u64, u64)>,
    /// What may leave when a write is durable, by its number.
    held: VecDeque<(u64, Vec<QuorumMessage>)>,
    leads: bool,
    compaction: Compaction,
    /// The last entry that a snapshot on the disk has, while it or what is before it is still in the log.
    cut: Option<EntryIndex>,
    is_snapshotting: bool,
    /// Entries in bytes, with less than which no snapshot is made.
    snapshot_due: usize,
    /// No snapshot is made before, for there was no room for one.
    snapshot_from: Option<Mono>,
    compact_bytes: u64,
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
        let mut driver = Self {
            quorum: quorum.map_err(|error| error.to_string())?,
            happened: VecDeque::new(),
            more: false,
            writes: VecDeque::new(),
            held: VecDeque::new(),
            leads: false,
            compaction: Compaction::default(),
            cut: None,
            is_snapshotting: false,
            snapshot_due: 0,
            snapshot_from: None,
            compact_bytes,
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
        self.quorum.step(fx.now.mono, input);
        self.do_all(owner, fx);
    }

    /// When [`QuorumInput::Time`] is due.
    pub fn wake_at(&self) -> Mono {
        let quorum = self.quorum.wake_at();
        self.snapshot_from.map_or(quorum, |from| quorum.min(from))
    }

    /// Proposes records as one entry.
    ///
    /// # Errors
    /// It is not taken.
    pub fn propose(
        &mut self,
        records: Bytes,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<EntryId, Declined> {
        let proposed = self.quorum.propose(fx.now.mono, records)?;
        self.do_all(owner, fx);
        Ok(proposed)
    }

    /// What has happened next.
    pub fn next(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) -> Option<Happened> {
        if self.happened.is_empty() && self.more {
            self.do_all(owner, fx);
        }
        self.happened.pop_front()
    }

    /// Whether something has happened that was not told.
    pub fn has_more(&self) -> bool {
        self.more || !self.happened.is_empty()
    }

    /// Whether nothing is on its way to the disk.
    pub fn is_quiet(&self) -> bool {
        self.writes.is_empty() && self.compaction.is_quiet()
    }

    /// If the token is that of a write: it is durable.
    pub fn durable(&mut self, token: u64, owner: &mut Owner, fx: &mut Fx<'_>) -> bool {
        if self.compaction.durable(fx.now, token, owner) {
            return true;
        }
        if self.writes.front().is_none_or(|(of, _)| *of != token) {
            return false;
        }
        if let Some((_, number)) = self.writes.pop_front() {
            let may_leave = self.held.partition_point(|(after, _)| *after <= number);
            for (_, messages) in self.held.drain(..may_leave) {
                send(messages);
            }
            self.step(QuorumInput::Durable(number), owner, fx);
        }
        self.cut_some(owner, fx);
        true
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
        loop {
            let ready = self.quorum.ready();
            self.more = ready.more;
            let wants_snapshot = ready.fetch.is_some();
            if let Err(why) = self.perform(ready, owner, fx) {
                return fx.out.push(fatal::metadata(why));
            }
            if !wants_snapshot {
                return;
            }
            // There is nobody that it could be fetched from.
            self.quorum.step(fx.now.mono, QuorumInput::Fetched(None));
        }
    }

    fn perform(&mut self, ready: Ready, owner: &mut Owner, fx: &mut Fx<'_>) -> Result<(), String> {
        send(ready.messages);
        if let Some(write) = ready.write {
            self.write(write, owner, fx)?;
        }
        match self.writes.back() {
            Some((_, number)) if !ready.messages_when_durable.is_empty() => {
                self.held.push_back((*number, ready.messages_when_durable));
            }
            _ => send(ready.messages_when_durable),
        }
        let committed = ready.committed.into_iter().map(Happened::Committed);
        self.happened.extend(committed);
        if let Some(mark) = ready.snapshot_wanted
            && !self.is_snapshotting
            && self.quorum.log_bytes() >= self.snapshot_due
            && self.snapshot_from.is_none()
        {
            self.is_snapshotting = true;
            self.happened.push_back(Happened::SnapshotWanted(mark));
        }
        if let Some(role) = ready.role {
            let leads = matches!(role, QuorumRole::Leader { .. });
            if leads != std::mem::replace(&mut self.leads, leads) {
                let role = if leads {
                    Happened::Leads
                } else {
                    Happened::Follows
                };
                self.happened.push_back(role);
            }
        }
        ready.fault.map_or(Ok(()), |fault| Err(fault.to_string()))
    }

    /// Writes as [`Ready::write`] says.
    fn write(&mut self, write: Write, owner: &mut Owner, fx: &mut Fx<'_>) -> Result<(), String> {
        if write.truncate.is_some() || write.snapshot.is_some() {
            // Only what another leader has sent can be in the way of what it sends.
            return Err("what is in the metadata log is not this leader's".into());
        }
        for entry in write.entries {
            let batch = entry_batch(&entry.payload, fx.now.wall_ms);
            let place = (offset_of(entry.id.index), entry.id.term);
            owner
                .append_at(fx.now, METADATA_LOG, place, batch)
                .map_err(|why| format!("the metadata log cannot be written: {why}"))?;
        }
        let state = state_batch(&write.state, fx.now.wall_ms);
        let end = self.append_state(state.clone(), owner, fx)?;
        let token = owner.tell_when_committed(METADATA_STATE_LOG, end);
        self.writes.push_back((token, write.number));
        // Only the newest one counts: it takes the place of all before it.
        let least = STATE_LOG_BYTES.min(self.compact_bytes);
        if let Some(size) = self.compaction.due(METADATA_STATE_LOG, least, owner) {
            self.compaction
                .compact(METADATA_STATE_LOG, (size, least), Some(state), owner, fx);
        }
        Ok(())
    }

    fn append_state(&self, batch: Bytes, owner: &mut Owner, fx: &Fx<'_>) -> Result<Offset, String> {
        let appended = owner.append_internal(fx.now, METADATA_STATE_LOG, batch);
        appended.map_err(|why| format!("the state of the metadata log cannot be written: {why}"))
    }
}

/// Sends messages to other replicas. There are none as long as a broker is alone, and nothing is sent to nobody.
fn send(messages: Vec<QuorumMessage>) {
    for message in messages {
        tracing::error!(
            "nothing leads to replica {} of the metadata: a message for it is lost",
            message.to
        );
    }
}
