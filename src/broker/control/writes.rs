//! The disk of this node's replica of the metadata log: what the quorum wants written goes to logs of store-0, one
//! write after the other.
//!
//! A write is entries to the metadata log, and behind them the state to the log of the state. Both are of one flush, or
//! of two that follow each other; so what a crash can leave is entries without the state that was to come with them,
//! and never a state without its entries. Such entries nobody was told about. The write is durable when the state is.
//!
//! One that cuts off entries may have to read them first: it and those behind it wait for that. One that puts a
//! snapshot in the place of all entries writes the end of the snapshot, then begins the log anew behind it; what a
//! crash leaves in between a start tells from the log, which does not begin there yet (see `load`).

use std::collections::VecDeque;

use bytes::Bytes;

use super::logs::{entry_batch, offset_of, state_batch};
use crate::base::Offset;
use crate::broker::fx::Fx;
use crate::broker::io::ReadId;
use crate::broker::own::compact::Compaction;
use crate::broker::owner::Owner;
use crate::broker::owner::work::Worker;
use crate::controller::{METADATA_LOG, METADATA_SNAPSHOT_LOG, METADATA_STATE_LOG};
use crate::log::{Ticket, Truncation};
use crate::quorum::{EntryId, EntryIndex, Write};
use crate::store::DiskError;

/// The log of the state is written anew when it has so many bytes.
const STATE_LOG_BYTES: u64 = 64 << 10;

/// The end of a snapshot whose parts are in their log: with it the snapshot counts.
#[derive(Debug)]
pub struct SnapshotEnd {
    /// The last entry that it has.
    pub id: EntryId,
    /// Where it begins in the log of snapshots.
    pub first: Offset,
    /// The batch that says that it is whole.
    pub batch: Bytes,
}

/// See the module.
#[derive(Debug)]
pub struct QuorumWrites {
    /// Not begun: the first one cuts off entries that are being read, the others come behind it.
    waiting: VecDeque<Write>,
    /// What is read for that.
    reading: Option<(ReadId, Ticket)>,
    /// What is to be cut has to be flushed first.
    is_unflushed: bool,
    /// On their way to the disk: the number that says that one is there, and its own.
    begun: VecDeque<(u64, u64)>,
    /// The end of the snapshot that one of those that come puts in the place of all entries.
    pub fetched: Option<SnapshotEnd>,
    /// When the write with this number is durable, older snapshots than the one from here on are not needed.
    installed: Option<(u64, Offset)>,
    compaction: Compaction,
    /// The state's log is not written anew before it has so many bytes.
    least: u64,
}

impl QuorumWrites {
    /// Nothing is to be written yet; `compact_bytes` of a log are worth writing anew what counts of it.
    pub fn new(compact_bytes: u64) -> Self {
        Self {
            waiting: VecDeque::new(),
            reading: None,
            is_unflushed: false,
            begun: VecDeque::new(),
            fetched: None,
            installed: None,
            compaction: Compaction::default(),
            least: STATE_LOG_BYTES.min(compact_bytes),
        }
    }

    /// The number of the newest write that is not durable.
    pub fn newest(&self) -> Option<u64> {
        let waiting = self.waiting.back().map(|write| write.number);
        waiting.or_else(|| self.begun.back().map(|(_, number)| *number))
    }

    /// Whether a write waits that puts a snapshot in the place of all entries.
    pub fn installs(&self) -> bool {
        self.waiting.iter().any(|write| write.snapshot.is_some())
    }

    /// Whether nothing is on its way to the disk.
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.begun.is_empty() && self.compaction.is_quiet()
    }

    /// Whether a write waits that can go on at once.
    pub fn has_more(&self) -> bool {
        !self.waiting.is_empty() && self.reading.is_none() && !self.is_unflushed
    }

    /// Writes, behind all that was to be written before.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn push(&mut self, write: Write, owner: &mut Owner, fx: &mut Fx<'_>) -> Result<(), String> {
        self.waiting.push_back(write);
        match self.waiting.len() {
            1 => self.go_on(owner, fx),
            _ => Ok(()),
        }
    }

    /// Goes on with those that wait; to be tried when a flush has begun or ended, too.
    ///
    /// # Errors
    /// One cannot be written.
    pub fn go_on(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) -> Result<(), String> {
        while self.reading.is_none()
            && let Some(write) = self.waiting.front_mut()
        {
            if let Some(from) = write.truncate
                && write.snapshot.is_none()
            {
                let cut = cut(from, owner, fx)?;
                self.is_unflushed = matches!(cut, Truncation::Unflushed(_));
                match cut {
                    Truncation::Done { .. } => write.truncate = None,
                    Truncation::More | Truncation::Unflushed(_) => return Ok(()),
                    Truncation::Scan { pieces, ticket } => {
                        let id = owner.work.read(Worker::Metadata, pieces, fx);
                        self.reading = Some((id, ticket));
                        return Ok(());
                    }
                }
            }
            if let Some(write) = self.waiting.pop_front() {
                self.write(write, owner, fx)?;
            }
        }
        Ok(())
    }

    /// If a read is one of these, it has ended: goes on. Returns whether it was.
    ///
    /// # Errors
    /// What was to be cut cannot be read, or something cannot be written.
    pub fn read(
        &mut self,
        id: ReadId,
        result: &Result<Bytes, DiskError>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<bool, String> {
        let Some((_, ticket)) = self.reading.take_if(|(reading, _)| *reading == id) else {
            return Ok(false);
        };
        match result {
            Ok(bytes) => owner.scanned(METADATA_LOG, ticket, bytes),
            Err(error) => {
                return Err(format!(
                    "the metadata log cannot be read: errno {}",
                    error.errno
                ));
            }
        }
        self.go_on(owner, fx).map(|()| true)
    }

    /// If the token is that of a write, the write is durable: its number. `Some(None)` for what else was written here.
    pub fn durable(
        &mut self,
        token: u64,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Option<Option<u64>> {
        if self.compaction.told(fx.now, (token, Ok(())), owner) {
            return Some(None);
        }
        let (_, number) = *self.begun.front().filter(|(of, _)| *of == token)?;
        self.begun.pop_front();
        if let Some((_, first)) = self.installed.take_if(|(after, _)| *after <= number) {
            owner.drop_before(fx.now, METADATA_SNAPSHOT_LOG, first);
        }
        Some(Some(number))
    }

    /// Writes what does not wait for anything.
    fn write(&mut self, write: Write, owner: &mut Owner, fx: &mut Fx<'_>) -> Result<(), String> {
        if let Some(mark) = &write.snapshot {
            let end = self.fetched.take().filter(|end| end.id == mark.id);
            let end = end.ok_or("a snapshot of the metadata that was not fetched is to be used")?;
            let appended = owner.append_internal(fx.now, METADATA_SNAPSHOT_LOG, end.batch);
            appended
                .map_err(|why| format!("a snapshot of the metadata cannot be written: {why}"))?;
            self.installed = Some((write.number, end.first));
            owner.begin_anew(fx.now, METADATA_LOG, offset_of(mark.id.index.next()));
        }
        for entry in write.entries {
            let batch = entry_batch(&entry.payload, fx.now.wall_ms);
            let place = (offset_of(entry.id.index), entry.id.term);
            owner
                .append_at(fx.now, METADATA_LOG, place, batch)
                .map_err(|why| format!("the metadata log cannot be written: {why}"))?;
        }
        let state = state_batch(&write.state, fx.now.wall_ms);
        let end = owner
            .append_internal(fx.now, METADATA_STATE_LOG, state.clone())
            .map_err(|why| format!("the state of the metadata log cannot be written: {why}"))?;
        let token = owner.tell_when_committed(METADATA_STATE_LOG, end);
        self.begun.push_back((token, write.number));
        // Only the newest one counts: it takes the place of all before it.
        let least = self.least;
        if let Some(size) = self.compaction.due(METADATA_STATE_LOG, least, owner) {
            self.compaction
                .compact(METADATA_STATE_LOG, (size, least), Some(state), owner, fx);
        }
        Ok(())
    }
}

/// Cuts entries off the log, from this one on.
fn cut(from: EntryIndex, owner: &mut Owner, fx: &Fx<'_>) -> Result<Truncation, String> {
    let cut = owner.truncate(fx.now, METADATA_LOG, offset_of(from));
    cut.map_err(|error| format!("the metadata log cannot be cut back to entry {from}: {error}"))
}
