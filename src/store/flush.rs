//! Group commit. A flush takes what is pending, for all logs: small runs go inline
//! into one journal record, large ones straight into the chunks of their logs with
//! a reference in the record; then one sync covers it all, or the one write there is goes
//! through to the disk. Several flushes may be on their way; the durable end moves over
//! the contiguous prefix only.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::api::{ChunkPin, DiskOp, FlushSeq, StoreEvent};
use super::chunks::{Chunk, Chunks, Class, UNPLACED_COST};
use super::journal::{self, ENTRY_BYTES_MAX, Entry, HEADER, Header};
use super::layout::{RING_START, block_ceil, block_floor};
use super::map::{Extent, Segment, Slice};
use super::pending::{Flight, FlightState, Item, OpenFlush};
use super::{Io, Store};
use crate::base::codec::Put;
use crate::base::crc::crc32c;
use crate::base::{BLOCK, IdMap, LeaderEpoch, LogId, Offset, PageBuf, SegmentId};

/// Consecutive appends to one log within a flush.
#[derive(Debug)]
struct Run {
    log: LogId,
    batches: Vec<(Bytes, Offset, LeaderEpoch)>,
    bytes: usize,
}

impl Run {
    /// Copies the run to `to`, stamping each batch: the one copy that a batch is given.
    fn copy_stamped(&self, to: &mut [u8]) {
        let mut at = 0;
        for (batch, base, epoch) in &self.batches {
            let copy = &mut to[at..at + batch.len()];
            copy.copy_from_slice(batch);
            if copy.len() >= 16 {
                copy[..8].copy_from_slice(&base.0.to_be_bytes());
                copy[12..16].copy_from_slice(&epoch.0.to_be_bytes());
            }
            at += batch.len();
        }
    }
}

/// Inline bytes of the record that become the memory tail of a segment.
#[derive(Clone, Copy, Debug)]
struct Placed {
    log: LogId,
    segment: SegmentId,
    /// Position in the segment.
    pos: u64,
    /// Position in the record.
    at: usize,
    len: usize,
}

/// A journal record while it is built, in the memory from which it is written.
#[derive(Default)]
struct Record {
    pages: PageBuf,
    len: usize,
}

impl Record {
    /// The next `len` bytes, to be filled in.
    fn reserve(&mut self, len: usize) -> &mut [u8] {
        let at = self.len;
        self.len += len;
        if self.len > self.pages.len() {
            self.pages.grow(self.len);
        }
        &mut self.pages.as_mut_bytes()[at..at + len]
    }
}

impl Put for Record {
    fn put(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len()).copy_from_slice(bytes);
    }
}

/// A flush while it is built.
struct Build {
    record: Record,
    inline: Vec<Placed>,
    writes: Vec<(u64, Bytes)>,
    filled: Vec<(LogId, SegmentId, u64)>,
    /// What it is about.
    logs: BTreeSet<LogId>,
}

impl Store {
    /// Starts the next pending flush if there is one and the ring has room for whatever its record may
    /// turn out to be. Returns whether it did.
    pub(super) fn start_flush(&mut self, ops: &mut Vec<DiskOp>) -> bool {
        if self.checkpoint_first {
            return false;
        }
        let Some(open) = self.open.front() else {
            return false;
        };
        // What is large goes into chunks if there are any to be had. As long as a checkpoint is being made,
        // room that was promised may still have to come back; then all of it must fit into the ring.
        let bound = self.record_bytes_max(open, self.free_bytes() >= self.needed_by_flush());
        if !self.ring_has_room(bound) {
            self.stuck = self.checkpoint.is_none();
            return false;
        }
        self.stuck = false;
        let remarks = self.remarks_of(open);
        let Some(open) = self.open.pop_front() else {
            return false;
        };
        let mut build = Build {
            record: Record {
                pages: PageBuf::kept(self.record_start() + self.inline_bytes(&open)),
                len: HEADER,
            },
            inline: Vec::new(),
            writes: Vec::new(),
            filled: Vec::new(),
            logs: BTreeSet::new(),
        };
        journal::encode_before(&self.last_logs, &mut build.record);
        self.take_items(open.items, open.seq, &mut build);
        self.put_remarks(remarks, &build.logs, &mut build.record);
        let header = Header {
            crc: 0,
            uuid: self.superblock.uuid,
            seq: open.seq,
            durable: self.durable,
            chain: self.chain,
            len: 0,
            start: self.start,
        };
        self.last_logs = build.logs.into_iter().collect();
        self.said_durable = header.durable;
        let Record { mut pages, len } = build.record;
        assert!(len <= bound, "a record of {len} bytes, {bound} at most");
        pages.finish(len);
        self.chain = header.seal(&mut pages.as_mut_bytes()[..len]);
        let pos = self.take_ring(len);
        let memory = pages.memory_bytes();
        let pages = pages.freeze();
        self.keep_inline(&build.inline, &pages, memory);
        build.writes.push((pos, pages));
        // One write is its own sync: that spares a round through the kernel, and nothing else waits for it.
        let through = build.writes.len() == 1;
        let state = if through {
            FlightState::WritingThrough
        } else {
            FlightState::Writing(build.writes.len())
        };
        for (pos, data) in build.writes {
            let id = self.io(Io::Flush(open.seq));
            ops.push(DiskOp::Write {
                id,
                pos,
                data,
                background: false,
                through,
            });
        }
        self.flights.push_back(Flight {
            seq: open.seq,
            state,
            filled: build.filled,
        });
        true
    }

    /// Applies the items of a flush to the map, in order, and writes them into the record.
    fn take_items(&mut self, items: Vec<Item>, seq: FlushSeq, build: &mut Build) {
        let mut runs: Vec<Run> = Vec::new();
        let mut open: IdMap<LogId, usize> = IdMap::default();
        for item in items {
            match item {
                Item::Append {
                    log,
                    batch,
                    base_offset,
                    epoch,
                } => {
                    let index = *open.entry(log).or_insert_with(|| {
                        runs.push(Run {
                            log,
                            batches: Vec::new(),
                            bytes: 0,
                        });
                        runs.len() - 1
                    });
                    runs[index].bytes += batch.len();
                    runs[index].batches.push((batch, base_offset, epoch));
                }
                Item::Entry(entry) => {
                    // What was appended to the log before comes before.
                    if let Some(index) = open.remove(&entry.log()) {
                        let run = std::mem::replace(
                            &mut runs[index],
                            Run {
                                log: entry.log(),
                                batches: Vec::new(),
                                bytes: 0,
                            },
                        );
                        self.place(&run, build);
                    }
                    debug_assert!(
                        entry.ends().is_none_or(|log| !open.contains_key(&log)),
                        "what was cleaned is in flushes before"
                    );
                    entry.encode(&mut build.record);
                    build.logs.extend(entry.ends());
                    build.logs.insert(entry.log());
                    self.apply(&entry, seq);
                }
            }
        }
        for run in runs.iter().filter(|run| run.bytes > 0) {
            self.place(run, build);
        }
    }

    /// Takes the items of a flush that goes into a checkpoint: the same effect, without a record.
    pub(super) fn absorb_items(&mut self, items: Vec<Item>, seq: FlushSeq) {
        for item in items {
            match item {
                Item::Append {
                    log,
                    batch,
                    base_offset,
                    epoch,
                } => {
                    let Some(entry) = self.map.logs.get_mut(&log) else {
                        self.unplaced_bytes =
                            self.unplaced_bytes.saturating_sub(batch.len() as u64);
                        continue;
                    };
                    let bytes = batch.len();
                    let mut copy = vec![0; bytes];
                    let run = Run {
                        log,
                        bytes,
                        batches: vec![(batch, base_offset, epoch)],
                    };
                    run.copy_stamped(&mut copy);
                    let segment = entry.active();
                    let id = segment.id;
                    segment.push(copy.into(), true);
                    self.remember(log, id, bytes);
                }
                Item::Entry(entry) => self.apply(&entry, seq),
            }
        }
    }

    /// Applies what is not an append, and keeps what that gives up.
    fn apply(&mut self, entry: &Entry, seq: FlushSeq) {
        for segment in self.map.apply(entry) {
            let unplaced = segment.len - segment.placed;
            self.unplaced_bytes = self.unplaced_bytes.saturating_sub(unplaced);
            self.no_longer_counted(entry.log(), segment.id, unplaced);
            if !segment.slices.is_empty() {
                self.gone.push_back(segment.slices);
            }
            if self.config.sabotage.reuse_at_once {
                let chunks = segment.extents.iter().map(|extent| extent.chunk);
                chunks.for_each(|chunk| self.chunks.free(chunk));
            } else {
                self.freed.push(seq, segment.extents);
            }
        }
        if let Entry::Clean { log, cleaned, .. } = entry {
            self.renamed((log.cleaning(), SegmentId::FIRST), (*log, cleaned.by));
        }
    }

    /// Bytes are in a chunk now, or nowhere. A checkpoint that has no chunks yet may hold them.
    fn no_longer_counted(&mut self, log: LogId, segment: SegmentId, bytes: u64) {
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.are_gone(log, segment, bytes);
        }
    }

    /// Gives a run its place: in chunks if it is large, else inline.
    fn place(&mut self, run: &Run, build: &mut Build) {
        if !self.map.logs.contains_key(&run.log) {
            // Deleted by an earlier flush while this was pending: nobody can read it any more.
            self.unplaced_bytes = self.unplaced_bytes.saturating_sub(run.bytes as u64);
            return;
        }
        build.logs.insert(run.log);
        if run.bytes >= self.config.bulk_bytes_min && self.place_bulk(run, build) {
            return;
        }
        self.place_inline(run, build);
    }

    fn place_inline(&mut self, run: &Run, build: &mut Build) {
        let Some(log) = self.map.logs.get_mut(&run.log) else {
            return;
        };
        self.since_checkpoint.inline_bytes += run.bytes as u64;
        let segment = log.active();
        let (id, pos) = (segment.id, segment.len);
        journal::inline_header((run.log, id), pos, run.bytes, &mut build.record);
        let at = build.record.len;
        run.copy_stamped(build.record.reserve(run.bytes));
        // The bytes get their memory when the record is complete; their length counts at once, so that
        // what follows in this flush has the right position.
        segment.grow(run.bytes);
        build.inline.push(Placed {
            log: run.log,
            segment: id,
            pos,
            at,
            len: run.bytes,
        });
    }

    /// Writes the unfilled remainder and the run as whole blocks into chunks; what fills no block goes
    /// inline. Returns false, with nothing changed, if there is no chunk to be had.
    fn place_bulk(&mut self, run: &Run, build: &mut Build) -> bool {
        let leave = self.leave_by_flush();
        let Some(log) = self.map.logs.get_mut(&run.log) else {
            return false;
        };
        let segment = log.active();
        let (id, from, old_len) = (segment.id, segment.placed, segment.len);
        let new_len = old_len + run.bytes as u64;
        let to = block_floor(new_len);
        if !ensure_extents(&mut self.chunks, leave, segment, from, to) {
            return false;
        }
        let mut pages = PageBuf::kept((new_len - from) as usize);
        let memory = pages.as_mut_bytes();
        let mut at = 0;
        for part in segment.memory(from, old_len) {
            memory[at..at + part.len()].copy_from_slice(&part);
            at += part.len();
        }
        // Inline bytes of this very flush are not in the segment's memory yet: they join this run's.
        let mut kept_from = old_len;
        build.inline.retain(|placed| {
            let mine = placed.log == run.log && placed.segment == id;
            if mine {
                kept_from = kept_from.min(placed.pos);
                let bytes = &build.record.pages.as_bytes()[placed.at..placed.at + placed.len];
                memory[at..at + placed.len].copy_from_slice(bytes);
                at += placed.len;
            }
            !mine
        });
        run.copy_stamped(&mut memory[at..at + run.bytes]);
        debug_assert_eq!(at + run.bytes, (new_len - from) as usize);
        pages.finish(at + run.bytes);
        let memory_bytes = pages.memory_bytes();
        let pages = pages.freeze();
        let mut pos = from;
        while pos < to {
            let Some((extent, covered)) = segment.extent_at(pos) else {
                debug_assert!(false, "extents were ensured");
                break;
            };
            let (chunk, chunk_start) = (extent.chunk, extent.start);
            let end = covered.min(to);
            let data = pages.slice((pos - from) as usize..(end - from) as usize);
            Entry::Ref {
                log: run.log,
                segment: id,
                pos,
                len: data.len() as u32,
                crc: crc32c(&data),
                chunk,
                chunk_start,
            }
            .encode(&mut build.record);
            build.writes.push((chunk.pos + (pos - chunk_start), data));
            segment.place(pos, end - pos, chunk, chunk_start);
            pos = end;
        }
        let remainder = pages.slice((to - from) as usize..(new_len - from) as usize);
        if !remainder.is_empty() {
            segment.grow(remainder.len());
            Entry::Inline {
                log: run.log,
                segment: id,
                pos: to,
                bytes: remainder,
            }
            .encode(&mut build.record);
        }
        debug_assert_eq!((segment.placed, segment.len), (to, new_len));
        let kept = (kept_from - from) as usize..(new_len - from) as usize;
        segment.slices.push_back(Slice {
            pos: kept_from,
            bytes: pages.slice(kept),
            cached: true,
        });
        build.filled.push((run.log, id, to));
        self.unplaced_bytes = self.unplaced_bytes.saturating_sub(to - from);
        self.no_longer_counted(run.log, id, old_len - from);
        self.placed_since += to - from;
        self.remember(run.log, id, memory_bytes);
        true
    }

    /// Gives the inline bytes of a record their memory: slices of the record's own pages, which are kept
    /// as a whole as long as one slice is; the first one answers for what the others do not.
    fn keep_inline(&mut self, inline: &[Placed], pages: &Bytes, memory: usize) {
        let sliced: usize = inline.iter().map(|placed| placed.len).sum();
        let mut rest = memory.saturating_sub(sliced);
        for placed in inline {
            let Some(segment) = self.map.segment_mut(placed.log, placed.segment) else {
                continue;
            };
            // The same flush may have cut them off again.
            let left = segment.len.saturating_sub(placed.pos);
            let len = left.min(placed.len as u64) as usize;
            if len == 0 {
                continue;
            }
            segment.slices.push_back(Slice {
                pos: placed.pos,
                bytes: pages.slice(placed.at..placed.at + len),
                cached: true,
            });
            self.remember(
                placed.log,
                placed.segment,
                placed.len + std::mem::take(&mut rest),
            );
        }
    }

    /// What the journal record of a flush will hold, as far as it can be told in advance.
    fn inline_bytes(&self, open: &OpenFlush) -> usize {
        let bulk_min = self.config.bulk_bytes_min;
        let items = open.items.iter().map(|item| match item {
            Item::Append { batch, .. } if batch.len() >= bulk_min => BLOCK / 4,
            item => item.cost(),
        });
        items.sum()
    }

    /// Upper bound of the journal record of a flush: what is large enough leaves only references and
    /// a remainder there, if there are `chunks` for all of it; if not, any of it may go inline while the rest
    /// does not. A run is given chunks for all of the log that has none yet, so there are references for that
    /// too: one for each block if there is nothing but gaps.
    pub(super) fn record_bytes_max(&self, open: &OpenFlush, chunks: bool) -> usize {
        let bulk_min = self.config.bulk_bytes_min;
        let items = open.items.iter().map(|item| match item {
            Item::Append { batch, .. } if batch.len() >= bulk_min => {
                let placed = BLOCK + 2 * ENTRY_BYTES_MAX;
                placed.max(if chunks { 0 } else { item.cost() })
            }
            // Small ones may be large together; then their run leaves this much.
            item => item.cost() + ENTRY_BYTES_MAX,
        });
        let blocks = match open.items.is_empty() {
            true => 0,
            false => self.unplaced_bytes as usize / BLOCK + 1,
        };
        let entries = blocks + self.remarks_of(open);
        self.record_start() + items.sum::<usize>() + entries * ENTRY_BYTES_MAX
    }

    /// Bytes of the next record before its entries.
    pub(super) fn record_start(&self) -> usize {
        HEADER + journal::before_bytes(self.last_logs.len())
    }

    pub(super) fn ring_has_room(&self, record: usize) -> bool {
        let size = block_ceil(record as u64);
        let pos = self.ring_pos_for(size);
        pos + size - self.ring_tail <= self.superblock.journal_bytes
    }

    /// Where a record of this size goes: it never wraps around the end of the ring.
    fn ring_pos_for(&self, size: u64) -> u64 {
        let ring = self.superblock.journal_bytes;
        if self.ring_head % ring + size > ring {
            self.ring_head.next_multiple_of(ring)
        } else {
            self.ring_head
        }
    }

    /// Takes the place of a record and returns its position in the file.
    fn take_ring(&mut self, record: usize) -> u64 {
        let size = block_ceil(record as u64);
        let pos = self.ring_pos_for(size);
        self.ring_head = pos + size;
        RING_START + pos % self.superblock.journal_bytes
    }

    /// A write or the sync of a flush completed.
    pub(super) fn flush_io_done(
        &mut self,
        seq: FlushSeq,
        ops: &mut Vec<DiskOp>,
        events: &mut Vec<StoreEvent>,
    ) {
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.seq == seq) else {
            return;
        };
        match flight.state {
            FlightState::Writing(1) => {
                flight.state = FlightState::Syncing;
                events.push(StoreEvent::Written(seq));
                let id = self.io(Io::Flush(seq));
                ops.push(DiskOp::Sync {
                    id,
                    background: false,
                });
            }
            FlightState::Writing(left) => flight.state = FlightState::Writing(left - 1),
            FlightState::WritingThrough => {
                flight.state = FlightState::Done;
                events.extend([StoreEvent::Written(seq), StoreEvent::Synced(seq)]);
            }
            FlightState::Syncing => {
                flight.state = FlightState::Done;
                events.push(StoreEvent::Synced(seq));
            }
            FlightState::InCheckpoint | FlightState::Done => {}
        }
    }

    /// Moves the durable end over the flushes that are done.
    pub(super) fn advance_durable(&mut self, ops: &mut Vec<DiskOp>, events: &mut Vec<StoreEvent>) {
        let before = self.durable;
        while let Some(flight) = self.flights.front() {
            let early = self.config.sabotage.ack_before_flush
                && matches!(
                    flight.state,
                    FlightState::Writing(_) | FlightState::WritingThrough
                );
            if early {
                events.push(StoreEvent::Durable(flight.seq));
            }
            if flight.state != FlightState::Done {
                break;
            }
            let Some(flight) = self.flights.pop_front() else {
                break;
            };
            self.durable = flight.seq;
            for (log, segment, filled) in flight.filled {
                self.filled_by_flush(log, segment, filled);
            }
        }
        if self.durable > before {
            events.push(StoreEvent::Durable(self.durable));
            self.checkpoint_advance(ops);
        }
    }

    /// The chunks of a segment are durable up to `filled`, but for what a checkpoint may still be filling
    /// in before that: then it becomes readable there together with it.
    fn filled_by_flush(&mut self, log: LogId, segment: SegmentId, filled: u64) {
        let checkpoint = self.checkpoint.as_mut();
        let filling = checkpoint.and_then(|c| c.filling(log, segment));
        if let Some(target) = filling
            && filled > *target
        {
            *target = filled;
            return;
        }
        if let Some(segment) = self.map.segment_mut(log, segment) {
            segment.filled_to(filled);
        }
    }
}

/// Makes sure that `[from, to)` of a segment, which no chunk has yet, has chunks, or changes nothing and
/// returns false. `leave` is what has to stay free as long as those bytes are counted.
pub(super) fn ensure_extents(
    chunks: &mut Chunks,
    mut leave: u64,
    segment: &mut Segment,
    from: u64,
    to: u64,
) -> bool {
    let mut added: Vec<Chunk> = Vec::new();
    let mut pos = from;
    while pos < to {
        if let Some((_, covered)) = segment.extent_at(pos) {
            leave = leave.saturating_sub(UNPLACED_COST * (covered.min(to) - pos));
            pos = covered;
            continue;
        }
        let to_go = segment.gap_end(pos, to) - pos;
        let class = Class::for_growth(segment.chunk_bytes(), to - pos);
        let Some(chunk) = chunks.take_for_log(class, to_go, leave) else {
            segment.extents.retain(|e| !added.contains(&e.chunk));
            for chunk in added {
                chunks.free(chunk);
            }
            return false;
        };
        added.push(chunk);
        segment.add_extent(Extent {
            start: pos,
            chunk,
            pin: ChunkPin::of(chunk),
        });
    }
    true
}
