//! Checkpoints: what bounds the journal and gives space back.
//!
//! In order: whole blocks that are only in memory and journal are written to chunks
//! (filling), the map is written to fresh chunks, all of it is synced, and when the
//! flushes it describes are durable the two superblocks are rewritten, each synced
//! before the next step. Only then are the ring before it, the old checkpoint and the
//! chunks freed before it given up: replay never sees a record that refers to them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::api::{DiskOp, FlushSeq, IoId};
use super::chunks::{Chunk, UNPLACED_COST};
use super::copies::{COPIES, Copy};
use super::flush::{Flight, FlightState, ensure_extents};
use super::layout::{SUPERBLOCKS, block_ceil, block_floor};
use super::superblock::{STARTS_MAX, Start, Superblock};
use super::{Io, SinceCheckpoint, Store, snapshot};
use crate::base::crc::crc32c;
use crate::base::{BLOCK, IdMap, LogId, PageBuf, SegmentId};

/// Background writes of a checkpoint that are on their way at once.
const WRITES_IN_FLIGHT: usize = 4;
/// Largest background write. A flush may find one in front of it in the device's queue, so it is small;
/// and its bytes are copied in one go, while nothing else is done.
const WRITE_BYTES: u64 = 256 << 10;

/// A write that is still to be made: a position, and the bytes in parts.
type Todo = (u64, Vec<Bytes>);

/// Up to where segments are in chunks.
type Filled = IdMap<(LogId, SegmentId), u64>;

/// A checkpoint that is being made.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// The last flush that it holds.
    pub flush: FlushSeq,
    /// Where its own content goes.
    pub copies: [Copy; COPIES],
    stage: Stage,
    /// What is to be written. The bytes are put into aligned memory only when their turn comes: ahead of
    /// it, that would hold everybody up for milliseconds.
    todo: VecDeque<Todo>,
    in_flight: usize,
    filled: Filled,
    superblock: Superblock,
}

impl Checkpoint {
    /// The chunks of its own content.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> + '_ {
        self.copies.iter().flat_map(Copy::chunks)
    }

    /// Up to where a segment is filled when this is done, if it fills it at all.
    pub fn filling(&mut self, log: LogId, segment: SegmentId) -> Option<&mut u64> {
        self.filled.get_mut(&(log, segment))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Content,
    ContentSync,
    /// Waits until the flushes it describes are durable, but for those that become so with it.
    Flushes,
    /// The superblock of that number is being written.
    Superblock(usize),
    SuperblockSync(usize),
}

impl Store {
    /// Whether a checkpoint should be made now.
    #[must_use]
    pub fn checkpoint_due(&self) -> bool {
        if self.checkpoint.is_some() || self.failed {
            return false;
        }
        if self.put_off.is_some_and(|free| free == self.free_bytes()) {
            return false;
        }
        let ring_used = self.ring_head - self.ring_tail;
        self.copy_damaged
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
        let little = |wins: u64| !self.has_room_for_clients((wins / 8) as usize);
        self.freed_bytes > 0 && little(self.freed_bytes)
            || smaller >= WORTH_BYTES && little(smaller)
    }

    /// Starts a checkpoint, unless one is being made. `states` are the logs' own blobs as of now, that is
    /// with everything appended so far.
    pub fn checkpoint(&mut self, states: Vec<(LogId, Bytes)>, ops: &mut Vec<DiskOp>) {
        if self.checkpoint.is_some() || self.failed {
            return;
        }
        // The states speak of all that was appended, so the map must too.
        while self.start_flush(ops) {}
        self.absorb_open();
        let mut todo = VecDeque::new();
        let (filled, placed_before) = self.fill(&mut todo);
        let content = Bytes::from(snapshot::encode(&self.map, &states.into_iter().collect()));
        let len = content.len() as u64;
        let Some(copies) = self.take_copies(len) else {
            // What the state before needs stays, and what waits for this one goes on waiting.
            self.undo_fill(placed_before);
            self.put_off = Some(self.free_bytes());
            return;
        };
        self.put_off = None;
        self.stuck = false;
        self.state_bytes = len.saturating_sub(self.unplaced_bytes);
        self.since_checkpoint = SinceCheckpoint::default();
        for copy in &copies {
            let writes = copy.writes(&content, WRITE_BYTES);
            todo.extend(writes.into_iter().map(|(pos, part)| (pos, vec![part])));
        }
        let superblock = Superblock {
            generation: self.superblock.generation + 1,
            chunks_end: self.chunks.end(),
            flush: self.pending_seq(),
            ring_pos: self.ring_head,
            chain: self.chain,
            checkpoint_len: content.len() as u64,
            checkpoint_crc: crc32c(&content),
            checkpoint_head: snapshot::head_crc(&content),
            checkpoint: copies.each_ref().map(Copy::named),
            starts: vec![Start {
                number: self.start,
                after: self.pending_seq(),
            }],
            ..self.superblock.clone()
        };
        self.placed_since = 0;
        self.checkpoint = Some(Checkpoint {
            flush: superblock.flush,
            copies,
            stage: Stage::Content,
            todo,
            in_flight: 0,
            filled,
            superblock,
        });
        self.checkpoint_advance(ops);
    }

    /// What no flush could take, because the ring is full, goes into the checkpoint itself and is durable
    /// with it: otherwise a full ring and a checkpoint would wait for each other.
    fn absorb_open(&mut self) {
        while let Some(open) = self.open.pop_front() {
            self.absorb_items(open.items, open.seq);
            self.flights.push_back(Flight {
                seq: open.seq,
                state: FlightState::InCheckpoint,
                filled: Vec::new(),
            });
        }
    }

    /// Writes what is in memory only to chunks: whole blocks, and the last block of sealed segments.
    /// Returns up to where the segments are filled then, and what they had in chunks before.
    fn fill(&mut self, todo: &mut VecDeque<Todo>) -> (Filled, Vec<(LogId, SegmentId, u64)>) {
        let (mut filled, mut before) = (Filled::default(), Vec::new());
        let mut leave = self.leave();
        for log in self.map.logs.values_mut() {
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
                    todo.push_back((extent.chunk.pos + (pos - extent.start), parts));
                    pos = end;
                }
                segment.placed = to;
                self.unplaced_bytes = self.unplaced_bytes.saturating_sub(to - from);
                leave = leave.saturating_sub(UNPLACED_COST * (to - from));
                filled.insert((log.id, segment.id), to);
                before.push((log.id, segment.id, from));
            }
        }
        (filled, before)
    }

    /// Nothing of what [`fill`](Self::fill) gave to chunks is written. They stay with their segments.
    fn undo_fill(&mut self, before: Vec<(LogId, SegmentId, u64)>) {
        for (log, segment, placed) in before {
            if let Some(segment) = self.map.segment_mut(log, segment) {
                self.unplaced_bytes += segment.placed - placed;
                segment.placed = placed;
            }
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

    /// Goes on with the checkpoint as far as it can.
    pub(super) fn checkpoint_advance(&mut self, ops: &mut Vec<DiskOp>) {
        while let Some(checkpoint) = &mut self.checkpoint {
            let next = match checkpoint.stage {
                Stage::Content => {
                    while checkpoint.in_flight < WRITES_IN_FLIGHT {
                        let Some((pos, parts)) = checkpoint.todo.pop_front() else {
                            break;
                        };
                        checkpoint.in_flight += 1;
                        let data = PageBuf::joined(&parts).freeze();
                        let op = checkpoint_write(&mut self.ios, &mut self.next_io, pos, data);
                        ops.push(op);
                    }
                    (checkpoint.in_flight == 0).then_some(Stage::ContentSync)
                }
                Stage::ContentSync if checkpoint.in_flight == 0 => Some(Stage::Flushes),
                Stage::Flushes => {
                    // One that is done may wait in the queue behind one that only this checkpoint makes durable.
                    let pending = self.flights.iter().any(|flight| {
                        flight.seq <= checkpoint.flush && flight.state.is_under_way()
                    });
                    (!pending).then_some(Stage::Superblock(0))
                }
                Stage::Superblock(n) if checkpoint.in_flight == 0 => Some(Stage::SuperblockSync(n)),
                Stage::SuperblockSync(n) if checkpoint.in_flight == 0 => {
                    if n + 1 == SUPERBLOCKS.len() {
                        self.checkpoint_done();
                        return;
                    }
                    Some(Stage::Superblock(n + 1))
                }
                Stage::ContentSync | Stage::Superblock(_) | Stage::SuperblockSync(_) => None,
            };
            let Some(next) = next else { return };
            checkpoint.stage = next;
            match next {
                Stage::ContentSync | Stage::SuperblockSync(_) => {
                    checkpoint.in_flight = 1;
                    let id = self.io(Io::Checkpoint);
                    ops.push(DiskOp::Sync {
                        id,
                        background: true,
                    });
                }
                Stage::Superblock(n) => {
                    checkpoint.in_flight = 1;
                    let data = checkpoint.superblock.encode();
                    let pos = SUPERBLOCKS[n];
                    let op = checkpoint_write(&mut self.ios, &mut self.next_io, pos, data);
                    ops.push(op);
                }
                Stage::Content | Stage::Flushes => {}
            }
        }
    }

    /// Both superblocks say so: what the state before needed is given up.
    fn checkpoint_done(&mut self) {
        let Some(checkpoint) = self.checkpoint.take() else {
            return;
        };
        let old = std::mem::replace(&mut self.copies, checkpoint.copies);
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
        for ((log, segment), filled) in checkpoint.filled {
            if let Some(segment) = self.map.segment_mut(log, segment) {
                segment.filled_to(filled);
            }
        }
        while let Some((seq, chunk, pin)) = self.freed.pop_front() {
            if seq > checkpoint.flush {
                self.freed.push_front((seq, chunk, pin));
                break;
            }
            self.freed_bytes -= chunk.class.bytes();
            self.unpinned_soon.push((chunk, pin));
        }
        self.reclaim_unpinned();
    }

    /// Frees the chunks that no read plan holds any more.
    pub(super) fn reclaim_unpinned(&mut self) {
        let chunks = &mut self.chunks;
        self.unpinned_soon.retain(|(chunk, pin)| {
            let held = std::sync::Arc::strong_count(&pin.0) > 1;
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
