//! Checkpoints: what bounds the journal and gives space back.
//!
//! In order: the logs are gathered, one after the other; whole blocks that are only in memory and journal are
//! written to chunks (filling), the map is written to fresh chunks, all of it is synced, and when the
//! flushes it describes are durable the two superblocks are rewritten, each synced
//! before the next step. Only then are the ring before it, the old checkpoint and the
//! chunks freed before it given up: replay never sees a record that refers to them.
//!
//! A checkpoint holds all logs as they are when it begins, and gathers them while others work with them: each is
//! taken before anything of it changes.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::api::{DiskOp, IoId};
use super::chunks::UNPLACED_COST;
use super::copies::{COPIES, Copy};
use super::flush::ensure_extents;
use super::gathering::{Checkpoint, CheckpointStage, Filled, Gathering};
use super::layout::{SUPERBLOCKS, block_ceil, block_floor};
use super::pending::{Flight, FlightState};
use super::snapshot::{Content, Encoder};
use super::superblock::{STARTS_MAX, Start, Superblock};
use super::{Io, Store};
use crate::base::limits::{
    CHECKPOINT_LOG_COST, CHUNKS_FREED_MAX, FLUSH_ITEMS_MAX, SEGMENTS_LET_GO_MAX,
};
use crate::base::{BLOCK, IdMap, LogId, PageBuf};
use crate::store::RoomFor;

/// Background writes of a checkpoint that are on their way at once.
const WRITES_IN_FLIGHT: usize = 4;
/// Largest background write. A flush may find one in front of it in the device's queue, so it is small;
/// and its bytes are copied in one go, while nothing else is done.
const WRITE_BYTES: u64 = 256 << 10;

/// Bytes of a flush that take as long as an item.
const FLUSH_BYTES_PER_ITEM: usize = 4 << 10;

impl Store {
    /// Whether a checkpoint should be made now.
    #[must_use]
    pub fn checkpoint_due(&self) -> bool {
        // What the last one put into chunks is let go of first, and the chunks that it made free.
        if self.checkpoint.is_some() || self.failed || self.has_to_let_go() {
            return false;
        }
        if self.beginning.is_none() && self.put_off.is_some_and(|free| free == self.free_bytes()) {
            return false;
        }
        let ring_used = self.ring_head - self.ring_tail;
        self.beginning.is_some()
            || self.copy_damaged
            || self.checkpoint_first
            || self.superblock.starts.len() > STARTS_MAX / 2
            || self.stuck
            || self.waits_for_checkpoint()
            || ring_used >= self.superblock.journal_bytes / 2
            || self.placed_since >= self.config.checkpoint_bytes
            || self.space_is_short()
    }

    /// Whether a flush waits for a checkpoint that it went into and that was put off.
    pub(super) fn waits_for_checkpoint(&self) -> bool {
        let absorbed = |flight: &Flight| flight.state == FlightState::InCheckpoint;
        self.checkpoint.is_none() && self.flights.iter().any(absorbed)
    }

    /// Whether a checkpoint would bring room of which there is little.
    fn space_is_short(&self) -> bool {
        /// What it has to be worth, unless chunks come free.
        const WORTH_BYTES: u64 = 256 << 10;
        let since = self.since_checkpoint;
        let smaller = UNPLACED_COST * (since.inline_bytes + since.state_bytes);
        let little = |wins: u64| !self.has_room((wins / 8) as usize, RoomFor::Clients);
        self.freed.bytes() > 0 && little(self.freed.bytes())
            || smaller >= WORTH_BYTES && little(smaller)
    }

    /// Starts a checkpoint, unless one is being made. It takes all logs with everything appended so far, each when it
    /// is [given](Self::give_state), and before anything of it changes. If much is pending that has to be on its way
    /// before, it starts some of that alone, stays [due](Self::checkpoint_due), and
    /// [has more to do](Self::has_more_to_do).
    pub fn begin_checkpoint(&mut self, ops: &mut Vec<DiskOp>) {
        if self.checkpoint.is_some() || self.failed {
            return;
        }
        // What is still to be let go says up to where segments are in chunks: it may not be mixed up with what this
        // checkpoint puts into them.
        while !self.filled.is_empty() {
            self.let_go_filled();
        }
        // The logs' states speak of all that was appended, so the map must too.
        let mut left = FLUSH_ITEMS_MAX;
        while let Some(open) = self.open.front() {
            let work = open.items.len() + open.cost / FLUSH_BYTES_PER_ITEM;
            let enough = work > left && left < FLUSH_ITEMS_MAX;
            self.more_to_start = enough || self.tail.is_full();
            if self.more_to_start {
                let pending = self.pending_seq();
                self.beginning.get_or_insert(pending);
                return;
            }
            left = left.saturating_sub(work);
            if !self.start_flush(ops) {
                self.absorb_next();
            }
        }
        (self.beginning, self.more_to_start, self.stuck) = (None, false, false);
        let order: Vec<LogId> = self.map.logs.keys().copied().collect();
        let flush = self.pending_seq();
        let superblock = Superblock {
            flush,
            ring_pos: self.ring_head,
            chain: self.chain,
            starts: vec![Start {
                number: self.start,
                after: flush,
            }],
            ..self.superblock.clone()
        };
        self.checkpoint = Some(Checkpoint {
            flush,
            gathering: Some(Gathering {
                lacking: order.iter().copied().collect(),
                encoder: Encoder::new(order.len()),
                order,
                tails: IdMap::default(),
                gone_bytes: 0,
                since_checkpoint: self.since_checkpoint,
                placed_since: self.placed_since,
            }),
            copies: None,
            stage: CheckpointStage::Gathering,
            todo: VecDeque::new(),
            in_flight: 0,
            filled: Filled::default(),
            remarks: BTreeMap::new(),
            superblock,
        });
        self.checkpoint_advance(ops);
    }

    /// A checkpoint that is given all logs at once, with the states of these.
    #[cfg(test)]
    pub fn checkpoint(&mut self, states: Vec<(LogId, Bytes)>, ops: &mut Vec<DiskOp>) {
        while self.checkpoint.is_none() {
            if self.tail.is_full() {
                self.poll(ops);
            }
            self.begin_checkpoint(ops);
        }
        for (log, state) in states {
            self.give_state(log, state);
        }
        while let Some(log) = self.next_lacking() {
            self.give_state(log, Bytes::new());
        }
        self.checkpoint_advance(ops);
    }

    fn gathering(&self) -> Option<&Gathering> {
        self.checkpoint.as_ref()?.gathering.as_ref()
    }

    /// Whether changes of logs should wait, if they can. A checkpoint may lack a log that changes, and was given as
    /// much as it should be until the [next slice](Self::next_slice). Or it cannot begin because more keeps coming,
    /// and all that was pending when it was to begin is on its way.
    #[must_use]
    pub fn holds_changes(&self) -> bool {
        self.slice_bytes >= self.config.checkpoint_slice_bytes
            || (self.beginning).is_some_and(|behind| behind <= self.started_seq())
    }

    /// Others have had their turn: a checkpoint may be given more.
    pub fn next_slice(&mut self) {
        self.slice_bytes = 0;
    }

    /// Whether a checkpoint has begun that does not have all logs yet.
    #[must_use]
    pub fn lacks_logs(&self) -> bool {
        self.gathering().is_some()
    }

    /// Whether a checkpoint that is being made does not have this log yet: it is to be given before anything changes.
    #[must_use]
    pub fn lacks(&self, log: LogId) -> bool {
        self.gathering().is_some_and(|g| g.lacking.contains(&log))
    }

    /// How many a checkpoint lacks.
    #[cfg(test)]
    pub fn lacking(&self) -> usize {
        self.gathering().map_or(0, |g| g.lacking.len())
    }

    /// A log that the checkpoint lacks.
    pub fn next_lacking(&mut self) -> Option<LogId> {
        let gathering = self.checkpoint.as_mut()?.gathering.as_mut()?;
        let lacking = &gathering.lacking;
        while gathering
            .order
            .pop_if(|log| !lacking.contains(log))
            .is_some()
        {}
        gathering.order.last().copied()
    }

    /// The checkpoint takes a log that it [lacks](Self::lacks), with the log's own blob, in which is what it has
    /// [remarked](Self::remark) last.
    pub fn give_state(&mut self, log: LogId, state: Bytes) {
        if !self.lacks(log) {
            return;
        }
        self.fill(log);
        let gathering = self.checkpoint.as_mut().and_then(|c| c.gathering.as_mut());
        let Some((gathering, entry)) = gathering.zip(self.map.logs.get(&log)) else {
            return;
        };
        gathering.lacking.remove(&log);
        // The blob says what it would.
        let remark = self.remarks.remove(&log);
        let tails = entry.segments.iter().filter(|s| s.placed < s.len);
        let tails = tails.map(|s| ((log, s.id), s.len - s.placed));
        gathering.tails.extend(tails);
        self.slice_bytes += CHECKPOINT_LOG_COST + gathering.encoder.log(entry, state);
        if let Some((checkpoint, remark)) = self.checkpoint.as_mut().zip(remark) {
            checkpoint.remarks.insert(log, remark);
        }
    }

    /// Finds room for the content, now that it is known. Without it what the state before needs stays, and what waits
    /// for this checkpoint goes on waiting; what goes to chunks is written all the same, for others may be behind it.
    fn gathered(&mut self, gathering: Gathering) {
        let content = gathering.encoder.finish();
        let copies = self.take_copies(content.len);
        self.put_off = copies.is_none().then(|| self.free_bytes());
        let (Some(checkpoint), Some(copies)) = (&mut self.checkpoint, copies) else {
            return;
        };
        let since = &mut self.since_checkpoint;
        since.state_bytes -= gathering.since_checkpoint.state_bytes;
        since.inline_bytes -= gathering.since_checkpoint.inline_bytes;
        self.placed_since -= gathering.placed_since;
        self.state_bytes = content.len - content.unplaced + since.state_bytes;
        for copy in &copies {
            let writes = copy.writes(&content.parts, WRITE_BYTES);
            checkpoint.todo.extend(writes);
        }
        let Content {
            len, crc, head_crc, ..
        } = content;
        checkpoint.superblock = Superblock {
            generation: self.superblock.generation + 1,
            chunks_end: self.chunks.end(),
            checkpoint_len: len,
            checkpoint_crc: crc,
            checkpoint_head: head_crc,
            checkpoint: copies.each_ref().map(Copy::named),
            ..checkpoint.superblock.clone()
        };
        checkpoint.copies = Some(copies);
    }

    /// What no flush could take, because the ring is full, goes into the checkpoint itself and is durable
    /// with it: otherwise a full ring and a checkpoint would wait for each other.
    fn absorb_next(&mut self) {
        if let Some(open) = self.open.pop_front() {
            self.absorb_items(open.items, open.seq);
            self.flights.push_back(Flight {
                seq: open.seq,
                state: FlightState::InCheckpoint,
                filled: Vec::new(),
            });
        }
    }

    /// Gives what a log has only in memory to chunks, to be written with the checkpoint: whole blocks, and the last
    /// block of sealed segments.
    fn fill(&mut self, log: LogId) {
        let mut leave = self.leave();
        let (Some(checkpoint), Some(log)) = (&mut self.checkpoint, self.map.logs.get_mut(&log))
        else {
            return;
        };
        for segment in &mut log.segments {
            let from = segment.placed;
            let chunks = &mut self.chunks;
            // A last block that is not whole may get no chunk. What gets none stays in memory and goes
            // into the checkpoint itself.
            let target = segment.fill_target();
            let to = [target, block_floor(target)].into_iter().find(|to| {
                from < *to && ensure_extents(chunks, leave, segment, from, block_ceil(*to))
            });
            let Some(to) = to else {
                continue;
            };
            let mut pos = from;
            while pos < to {
                let Some((extent, covered)) = segment.extent_at(pos) else {
                    break;
                };
                let end = covered.min(to).min(pos + WRITE_BYTES);
                let parts = segment.memory(pos, end).collect();
                let at = extent.chunk.pos + (pos - extent.start);
                checkpoint.todo.push_back((at, parts));
                pos = end;
            }
            segment.placed = to;
            self.unplaced_bytes = self.unplaced_bytes.saturating_sub(to - from);
            leave = leave.saturating_sub(UNPLACED_COST * (to - from));
            checkpoint.filled.insert((log.id, segment.id), to);
        }
    }

    /// Room for a checkpoint: twice if there is so much, else once.
    fn take_copies(&mut self, len: u64) -> Option<[Copy; COPIES]> {
        let first = Copy::take(len, &mut self.chunks)?;
        let second = Copy::take(len, &mut self.chunks).unwrap_or_default();
        Some([first, second])
    }

    /// A write or a sync of the checkpoint completed.
    pub(super) fn checkpoint_io_done(&mut self, ops: &mut Vec<DiskOp>) {
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.in_flight -= 1;
        }
        self.checkpoint_advance(ops);
    }

    /// Goes on with the checkpoint as far as it can. To be called when logs were given to it.
    pub fn checkpoint_advance(&mut self, ops: &mut Vec<DiskOp>) {
        while let Some(checkpoint) = &mut self.checkpoint {
            let next = match checkpoint.stage {
                CheckpointStage::Gathering => {
                    let whole = checkpoint.gathering.take_if(|g| g.lacking.is_empty());
                    let Some(gathering) = whole else { return };
                    self.gathered(gathering);
                    Some(CheckpointStage::Content)
                }
                CheckpointStage::Content => {
                    while checkpoint.in_flight < WRITES_IN_FLIGHT {
                        let Some((pos, parts)) = checkpoint.todo.pop_front() else {
                            break;
                        };
                        checkpoint.in_flight += 1;
                        let data = PageBuf::joined(&parts).freeze();
                        let op = checkpoint_write(&mut self.ios, &mut self.next_io, pos, data);
                        ops.push(op);
                    }
                    let nothing = checkpoint.copies.is_none() && checkpoint.filled.is_empty();
                    let next = if nothing {
                        CheckpointStage::Flushes
                    } else {
                        CheckpointStage::ContentSync
                    };
                    (checkpoint.in_flight == 0).then_some(next)
                }
                CheckpointStage::ContentSync if checkpoint.in_flight == 0 => {
                    Some(CheckpointStage::Flushes)
                }
                CheckpointStage::Flushes => {
                    // One that is done may wait in the queue behind one that only this checkpoint makes durable.
                    let pending = self.flights.iter().any(|flight| {
                        flight.seq <= checkpoint.flush && flight.state.is_under_way()
                    });
                    if !pending && checkpoint.copies.is_none() {
                        self.checkpoint_put_off();
                        return;
                    }
                    (!pending).then_some(CheckpointStage::Superblock(0))
                }
                CheckpointStage::Superblock(n) if checkpoint.in_flight == 0 => {
                    Some(CheckpointStage::SuperblockSync(n))
                }
                CheckpointStage::SuperblockSync(n) if checkpoint.in_flight == 0 => {
                    if n + 1 == SUPERBLOCKS.len() {
                        self.checkpoint_done();
                        return;
                    }
                    Some(CheckpointStage::Superblock(n + 1))
                }
                CheckpointStage::ContentSync
                | CheckpointStage::Superblock(_)
                | CheckpointStage::SuperblockSync(_) => None,
            };
            let (Some(next), Some(checkpoint)) = (next, &mut self.checkpoint) else {
                return;
            };
            checkpoint.stage = next;
            match next {
                CheckpointStage::ContentSync | CheckpointStage::SuperblockSync(_) => {
                    checkpoint.in_flight = 1;
                    let id = self.io(Io::Checkpoint);
                    ops.push(DiskOp::Sync {
                        id,
                        background: true,
                    });
                }
                CheckpointStage::Superblock(n) => {
                    checkpoint.in_flight = 1;
                    let data = checkpoint.superblock.encode();
                    let pos = SUPERBLOCKS[n];
                    let op = checkpoint_write(&mut self.ios, &mut self.next_io, pos, data);
                    ops.push(op);
                }
                CheckpointStage::Gathering
                | CheckpointStage::Content
                | CheckpointStage::Flushes => {}
            }
        }
    }

    /// There was no room for the content. What went to chunks is there, and what logs have remarked is nowhere.
    fn checkpoint_put_off(&mut self) {
        if let Some(checkpoint) = self.checkpoint.take() {
            self.filled.extend(checkpoint.filled);
            self.remarks.extend(checkpoint.remarks);
        }
    }

    /// Lets go the memory of what is durable in its chunks, for some of the segments: until then it is only kept
    /// longer.
    pub(super) fn let_go_filled(&mut self) {
        for _ in 0..SEGMENTS_LET_GO_MAX {
            let Some(((log, segment), filled)) = self.filled.pop_front() else {
                break;
            };
            if let Some(segment) = self.map.segment_mut(log, segment) {
                segment.filled_to(filled);
            }
        }
    }

    /// Both superblocks say so: what the state before needed is given up.
    fn checkpoint_done(&mut self) {
        let Some(checkpoint) = self.checkpoint.take() else {
            return;
        };
        let Some(copies) = checkpoint.copies else {
            return;
        };
        let old = std::mem::replace(&mut self.copies, copies);
        for chunk in old.iter().flat_map(Copy::chunks) {
            self.chunks.free(chunk);
        }
        self.superblock = checkpoint.superblock;
        self.checkpoint_first = false;
        self.copy_damaged = false;
        self.try_again();
        self.ring_tail = self.superblock.ring_pos;
        for flight in &mut self.flights {
            if flight.state == FlightState::InCheckpoint && flight.seq <= checkpoint.flush {
                flight.state = FlightState::Done;
            }
        }
        self.filled.extend(checkpoint.filled);
        self.reclaim();
    }

    /// Whether the last checkpoint has left memory or chunks that are to be let go.
    pub(super) fn has_to_let_go(&self) -> bool {
        !self.filled.is_empty() || self.freed.has(self.superblock.flush)
    }

    /// Frees some of the chunks that were given up before the last checkpoint, but those that a read plan holds only
    /// when it does no more.
    pub(super) fn reclaim(&mut self) {
        for _ in 0..CHUNKS_FREED_MAX {
            let Some(freed) = self.freed.pop(self.superblock.flush) else {
                break;
            };
            self.unpinned_soon.push(freed);
        }
        let chunks = &mut self.chunks;
        self.unpinned_soon.retain(|(chunk, pin)| {
            let held = pin.is_held();
            if !held {
                chunks.free(*chunk);
            }
            held
        });
    }
}

fn checkpoint_write(
    ios: &mut crate::base::IdMap<u64, Io>,
    next_io: &mut u64,
    pos: u64,
    data: Bytes,
) -> DiskOp {
    debug_assert!(data.len().is_multiple_of(BLOCK) && pos.is_multiple_of(BLOCK as u64));
    *next_io += 1;
    ios.insert(*next_io, Io::Checkpoint);
    DiskOp::Write {
        id: IoId(*next_io),
        pos,
        data,
        background: true,
        through: false,
    }
}
