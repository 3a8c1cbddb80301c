//! One shard's store as bookkeeping: which block holds what, what goes out with
//! the next flush, what is durable, what may be reused. It knows logs by
//! [`LogId`] and byte streams by segment; it knows neither topics, offsets of
//! records beyond a segment's base, nor the wire. It performs no I/O: it returns
//! [`DiskOp`]s and is told of their completion.
//!
//! Shape of the file (`layout`; drawn in ARCHITECTURE.md):
//! `superblock x2 | identity x2 | journal ring | chunk area (regions of 4 MiB, split 16-fold twice)`.

mod ahead;
mod api;
mod apply;
mod batch;
mod checkpoint;
mod chunks;
mod cleaned;
mod copies;
pub mod device;
mod flush;
mod freed;
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod gather_tests;
mod gathering;
mod growth;
pub mod identity;
mod inspect;
mod journal;
mod layout;
mod map;
mod parts;
mod pending;
mod proof;
mod queue;
mod recover;
mod remains;
mod remarks;
mod report;
mod salvage;
mod sealed;
mod snapshot;
#[cfg(test)]
mod space_tests;
#[cfg(test)]
mod start_tests;
mod superblock;
mod tail;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

pub use api::*;
pub use map::Damage;
pub use remains::{BadRange, Found, LogRemains, Remains, Salvage};
pub use report::{Left, RecoverError, RecoveryReport};
pub use superblock::checkpoint_bytes;

use chunks::{Chunk, Chunks, Class, UNPLACED_COST};
use copies::{COPIES, Copy, copy_bytes_max};
use freed::Freed;
use gathering::{Checkpoint, SinceCheckpoint};
use growth::Ahead;
use journal::Entry;
use map::{Map, Segment, Slice};
use pending::{Flight, Item, OpenFlush, state_growth};
use superblock::{Start, Superblock};
use tail::Tail;

use crate::base::limits::{FLUSH_ITEMS_MAX, SLICES_LET_GO_MAX};
use crate::base::{BLOCK, IdMap, LeaderEpoch, LogId, Offset, PageBuf, Queue, SegmentId, StoreId};

/// See the module.
#[derive(Debug)]
pub struct Store {
    id: StoreId,
    config: StoreConfig,
    map: Map,
    chunks: Chunks,
    freed: Freed,
    /// Covered by a checkpoint already, waiting for readers only.
    unpinned_soon: Vec<(Chunk, ChunkPin)>,
    /// Appends and notes that no flush has taken yet.
    open: VecDeque<OpenFlush>,
    /// What logs say of themselves and no flush has taken yet.
    remarks: BTreeMap<LogId, Bytes>,
    /// Flushes on their way, in order.
    flights: VecDeque<Flight>,
    /// Number of the next flush to be opened.
    next_seq: FlushSeq,
    durable: FlushSeq,
    /// Logical position of the next record: ring lap and place.
    ring_head: u64,
    /// Logical position of the oldest record that recovery would need.
    ring_tail: u64,
    chain: u32,
    /// What the last record is about: the next one says it once more.
    last_logs: Vec<LogId>,
    /// What the last record says is durable.
    said_durable: FlushSeq,
    superblock: Superblock,
    /// Where the checkpoint stands that the superblock names.
    copies: [Copy; COPIES],
    /// Upper bound of what the next checkpoint holds, but for the bytes that are in no chunk.
    state_bytes: u64,
    /// By how much that may have grown, and how much has come that is in no chunk, since the last checkpoint.
    since_checkpoint: SinceCheckpoint,
    checkpoint: Option<Checkpoint>,
    /// What it was given in this slice, in bytes.
    slice_bytes: u64,
    /// A checkpoint is to begin as soon as all that is pending is on its way; this is the last flush that was pending
    /// when it should have begun.
    beginning: Option<FlushSeq>,
    /// There was no room for a checkpoint when so much was free: tried again when that has changed, or when the
    /// owner thinks so. A delete changes nothing that is free, and yet makes the checkpoint smaller.
    put_off: Option<u64>,
    /// A copy of the superblock or of the checkpoint is damaged or missing: the next checkpoint makes it whole, and
    /// is due at once.
    copy_damaged: bool,
    /// Number of this start of the process.
    start: u64,
    /// No flush may start before a checkpoint: the superblock has no place for this start; or a record of the
    /// journal could not be read, and if it can another time, all that it says must still be true.
    checkpoint_first: bool,
    /// Recovered, and not begun yet: nothing may be written before. With the copy of the superblock that is
    /// damaged or older than the other.
    unbegun: Option<usize>,
    /// Bytes given to chunks since the last checkpoint.
    placed_since: u64,
    ahead: Ahead,
    tail: Tail,
    /// Memory of segments that are gone, which is let go a bit at a time.
    gone: VecDeque<Queue<Slice>>,
    /// Slices of the memory tail that may still be forgotten in this poll.
    may_forget: usize,
    /// Bytes of appends that are in no chunk yet.
    unplaced_bytes: u64,
    ios: IdMap<u64, Io>,
    next_io: u64,
    failed: bool,
    /// It was [ended](Self::end): nothing is written any more.
    ended: bool,
    /// The next flush waits for room that only a checkpoint can make.
    stuck: bool,
    /// Flushes may start for which the last poll, or the beginning of a checkpoint, had no time.
    more_to_start: bool,
    /// The cleaned segment of each log that has one and of which no flush has taken that yet.
    cleaned: IdMap<LogId, SegmentId>,
    /// Up to where segments are in chunks since a checkpoint, which still have it in memory.
    filled: VecDeque<((LogId, SegmentId), u64)>,
}

/// What a disk operation was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Io {
    Flush(FlushSeq),
    Checkpoint,
    Ahead(u64),
    Allocate,
}

impl Store {
    /// A new store: the operations make the file, and are to be performed, then made durable, before
    /// anything else. Their completion need not be reported.
    #[must_use]
    pub fn format(id: StoreId, config: StoreConfig, seed: u64) -> (Self, Vec<DiskOp>) {
        let start = layout::chunks_start(config.journal_bytes);
        let superblock = Superblock {
            store: id,
            uuid: seed,
            journal_bytes: config.journal_bytes,
            generation: 0,
            chunks_end: start,
            flush: FlushSeq(0),
            ring_pos: 0,
            chain: 0,
            checkpoint_len: 0,
            checkpoint_crc: 0,
            checkpoint_head: 0,
            checkpoint: Default::default(),
            starts: vec![Start {
                number: 1,
                after: FlushSeq(0),
            }],
            stopped: None,
        };
        let mut chunks = Chunks::new(start, config.bytes_max);
        if config.raw {
            chunks.allocated_to(u64::MAX);
        }
        let store = Self::assemble(id, config, Map::default(), chunks, superblock);
        let mut ops = Vec::new();
        store.ahead.format(store.config.journal_bytes, &mut ops);
        // Blank: the node writes it before it uses the store, and a full disk has a place for it then.
        let blank = PageBuf::zeroed(BLOCK).freeze();
        let identities = layout::IDENTITIES.map(|pos| (pos, blank.clone()));
        let superblocks = layout::SUPERBLOCKS.map(|pos| (pos, store.superblock.encode()));
        for (pos, data) in identities.into_iter().chain(superblocks) {
            ops.push(DiskOp::Write {
                id: IoId(0),
                pos,
                data,
                background: false,
                through: false,
            });
        }
        (store, ops)
    }

    /// Makes a recovered store one that may be written: the operations are to be performed one after the
    /// other, each before the next, and nothing else before them. Their completion need not be reported.
    ///
    /// They make durable what recovery has read, which a process that was killed may have written without
    /// saying so to the disk. Then they make both superblocks the same, the worse one first, and say that the
    /// flushes from here on belong to this start of the process: what recovery has rejected can then never be met
    /// again, and what it has found must not go any more.
    #[must_use]
    pub fn begin(&mut self) -> Vec<DiskOp> {
        let Some(worse) = self.unbegun.take() else {
            return Vec::new();
        };
        self.start = self.superblock.start() + 1;
        let stopped = self.superblock.stopped;
        if !self.superblock.begin(self.durable) {
            self.checkpoint_first = true;
            self.superblock.generation += 1;
        }
        if self.config.sabotage.keep_stop {
            self.superblock.stopped = stopped;
        }
        let mut ops = vec![DiskOp::Sync {
            id: IoId(0),
            background: false,
        }];
        let superblock = self.superblock.encode();
        ops.extend(sealed::write_twice(&superblock, layout::SUPERBLOCKS, worse));
        ops
    }

    /// The counterpart of [`begin`](Self::begin): makes a store that is at rest one that was stopped cleanly. The
    /// operations are to be performed one after the other, when nobody on the node can give any store anything any
    /// more: what one shard asks of another one may be the last thing that it does. Nothing is written to the store
    /// after them.
    ///
    /// Both superblocks say then which flush was the last one. A crash before the first of them is whole leaves a store
    /// that was not stopped, one after that a store that was, as nothing comes after it.
    #[must_use]
    pub fn end(&mut self) -> Vec<DiskOp> {
        if self.failed || self.unbegun.is_some() || !self.is_quiet() {
            return Vec::new();
        }
        self.ended = true;
        self.superblock.stopped = Some(self.durable);
        self.superblock.generation += 1;
        sealed::write_twice(&self.superblock.encode(), layout::SUPERBLOCKS, 0)
    }

    fn assemble(
        id: StoreId,
        mut config: StoreConfig,
        map: Map,
        chunks: Chunks,
        superblock: Superblock,
    ) -> Self {
        // A flush must fit into the ring several times over, whatever the settings say.
        let ring = superblock.journal_bytes as usize;
        config.flush_bytes_max = config.flush_bytes_max.clamp(4096, ring / 8);
        config.bulk_bytes_min = config
            .bulk_bytes_min
            .clamp(4096, config.flush_bytes_max.max(4096));
        config.flushes_in_flight_max = config.flushes_in_flight_max.max(1);
        config.small_flushes_in_flight_max = config.small_flushes_in_flight_max.max(1);
        Self {
            id,
            map,
            freed: Freed::default(),
            unpinned_soon: Vec::new(),
            open: VecDeque::new(),
            remarks: BTreeMap::new(),
            flights: VecDeque::new(),
            next_seq: FlushSeq(superblock.flush.0 + 1),
            durable: superblock.flush,
            ring_head: superblock.ring_pos,
            ring_tail: superblock.ring_pos,
            chain: superblock.chain,
            last_logs: Vec::new(),
            said_durable: superblock.flush,
            checkpoint: None,
            slice_bytes: 0,
            beginning: None,
            copies: Default::default(),
            state_bytes: superblock.checkpoint_len,
            since_checkpoint: SinceCheckpoint::default(),
            put_off: None,
            copy_damaged: false,
            start: superblock.start(),
            checkpoint_first: false,
            unbegun: None,
            placed_since: 0,
            ahead: Ahead::new(config.initial_bytes),
            chunks,
            tail: Tail::new(config.tail_bytes_max),
            gone: VecDeque::new(),
            may_forget: 0,
            unplaced_bytes: 0,
            ios: IdMap::default(),
            next_io: 0,
            failed: false,
            ended: false,
            stuck: false,
            more_to_start: false,
            cleaned: IdMap::default(),
            filled: VecDeque::new(),
            superblock,
            config,
        }
    }

    /// Which store it is.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.id
    }

    /// The flush up to which everything is durable.
    #[must_use]
    pub fn durable_seq(&self) -> FlushSeq {
        self.durable
    }

    /// The last flush that is on its way.
    #[must_use]
    pub fn started_seq(&self) -> FlushSeq {
        self.flights
            .back()
            .map_or(self.durable, |flight| flight.seq)
    }

    /// The last flush that anything given to the store so far belongs to.
    #[must_use]
    pub fn pending_seq(&self) -> FlushSeq {
        FlushSeq(self.next_seq.0 - 1)
    }

    /// Makes a log whose first segment, [`SegmentId::FIRST`], begins at `first`.
    pub fn create_log(&mut self, log: LogId, label: LogLabel, first: Offset) -> FlushSeq {
        self.push_entry(Entry::Create { log, first, label })
    }

    /// Deletes a log; its space comes back after the next checkpoint.
    pub fn delete_log(&mut self, log: LogId) -> FlushSeq {
        self.forget_remark(log);
        self.push_entry(Entry::Delete { log })
    }

    /// Lets the next append go to a new segment, whose id is larger than all that the log has had.
    pub fn roll(&mut self, log: LogId, segment: SegmentId, base: Offset) -> FlushSeq {
        self.push_entry(Entry::Roll { log, segment, base })
    }

    /// Cuts a log back, behind everything that was given to the store for it so far, and keeps an opaque note with
    /// that. A remark that no flush has taken is void.
    pub fn truncate(&mut self, log: LogId, cut: Cut, note: Bytes) -> FlushSeq {
        self.forget_remark(log);
        self.push_entry(Entry::Truncate { log, cut, note })
    }

    /// Cuts a log back as [`truncate`](Self::truncate), and appends a batch behind that as
    /// [`append_anyway`](Self::append_anyway), with opaque notes that follow it: all of it is there after a crash, or
    /// nothing.
    pub fn replace(
        &mut self,
        log: LogId,
        (cut, note): (Cut, Bytes),
        (batch, base_offset, epoch): (Bytes, Offset, LeaderEpoch),
        after: impl IntoIterator<Item = Bytes>,
    ) -> FlushSeq {
        self.forget_remark(log);
        self.unplaced_bytes += batch.len() as u64;
        let append = Item::Append {
            log,
            batch,
            base_offset,
            epoch,
        };
        let after = after.into_iter().map(|note| Entry::Note { log, note });
        let mut items = vec![Item::Entry(Entry::Truncate { log, cut, note }), append];
        items.extend(after.map(Item::Entry));
        self.push_together(items)
    }

    /// How many bytes of a segment flushes have taken so far, before what else they may have to do with it.
    #[must_use]
    pub fn flushed(&self, log: LogId, segment: SegmentId) -> u64 {
        self.segment(log, segment).map_or(0, |s| s.len)
    }

    /// Drops the segments before this one, except the active one.
    pub fn drop_before(&mut self, log: LogId, segment: SegmentId) -> FlushSeq {
        self.push_entry(Entry::DropBefore { log, segment })
    }

    /// Keeps an opaque note, replayed in its place among the log's batches.
    pub fn note(&mut self, log: LogId, note: Bytes) -> FlushSeq {
        self.push_entry(Entry::Note { log, note })
    }

    /// Appends a batch to the active segment of a log. While it is copied, once, into the memory that is
    /// written, base offset and leader epoch are stamped into it.
    ///
    /// # Errors
    /// [`StoreFull`] if the store has reached `millrace.store.bytes.max`; nothing is kept then.
    pub fn append(
        &mut self,
        log: LogId,
        batch: Bytes,
        base_offset: Offset,
        epoch: LeaderEpoch,
    ) -> Result<FlushSeq, StoreFull> {
        if !self.has_room(batch.len(), RoomFor::Broker) {
            return Err(StoreFull);
        }
        Ok(self.append_anyway(log, batch, base_offset, epoch))
    }

    /// As [`append`](Self::append), whether there is room or not: for the few bytes by which a full store
    /// is told to become emptier.
    pub fn append_anyway(
        &mut self,
        log: LogId,
        batch: Bytes,
        base_offset: Offset,
        epoch: LeaderEpoch,
    ) -> FlushSeq {
        self.unplaced_bytes += batch.len() as u64;
        self.push_item(Item::Append {
            log,
            batch,
            base_offset,
            epoch,
        })
    }

    /// Whether the store could place this many bytes more, and make the checkpoints that it takes, with so much room
    /// left as there has to be.
    #[must_use]
    pub fn has_room(&self, bytes: usize, what: RoomFor) -> bool {
        self.room() >= Self::room_for(bytes, what)
    }

    /// The room that it takes for this.
    fn room_for(bytes: usize, what: RoomFor) -> u64 {
        let bytes = bytes.saturating_add(what.leaves()) as u64;
        let more = bytes.saturating_add(state_growth(bytes));
        UNPLACED_COST.saturating_mul(more)
    }

    /// What is free beyond that which has to stay so.
    fn room(&self) -> u64 {
        (self.free_bytes() + self.coming_back()).saturating_sub(self.needed())
    }

    /// Bytes of chunks that can be taken now.
    fn free_bytes(&self) -> u64 {
        self.chunks.free_bytes() + self.chunks.growable_bytes()
    }

    /// Bytes of chunks that are free as soon as the checkpoint that is being made is done; it has its own already.
    fn coming_back(&self) -> u64 {
        let has_room = self.checkpoint.as_ref().is_some_and(|c| c.copies.is_some());
        if has_room {
            copies::bytes_of(&self.copies)
        } else {
            0
        }
    }

    /// What has to be free for checkpoints, which have to be possible whatever shape free space has: the next
    /// one stands beside the newest one, twice, and so does the one after it.
    fn needed(&self) -> u64 {
        self.needed_with(self.checkpoint.as_ref().map_or(0, Checkpoint::gone_bytes))
    }

    /// The most that has to be free while a flush puts into chunks what it can: it makes place for itself, but what a
    /// checkpoint that is being gathered has taken of the same logs needs its own then.
    fn needed_by_flush(&self) -> u64 {
        let checkpoint = self.checkpoint.as_ref();
        self.needed_with(checkpoint.map_or(0, Checkpoint::gone_bytes_max))
    }

    /// `gone`: bytes that are in chunks or deleted, and for which a checkpoint that is being gathered needs room.
    fn needed_with(&self, gone: u64) -> u64 {
        /// For what is rounded up.
        const SLACK: u64 = 16 * Class::Small.bytes();
        let newest = self.checkpoint.as_ref().and_then(|c| c.copies.as_ref());
        let newest = newest.unwrap_or(&self.copies);
        let gone = COPIES as u64 * gone;
        let next = COPIES as u64 * copy_bytes_max(self.state_bytes);
        let after = (2 * next).saturating_sub(copies::bytes_of(newest));
        SLACK + next.max(after) + UNPLACED_COST * self.unplaced_bytes + gone
    }

    /// What the bytes of logs have to leave of the free space.
    fn leave(&self) -> u64 {
        self.needed().saturating_sub(self.coming_back())
    }

    /// The same for a flush: what it was promised counts on all that it may come to need.
    fn leave_by_flush(&self) -> u64 {
        self.needed_by_flush().saturating_sub(self.coming_back())
    }

    /// Starts what can be started: flushes as long as there is room for them and they are not too much work together,
    /// then background work. Lets go some of the memory that is not needed any more.
    pub fn poll(&mut self, ops: &mut Vec<DiskOp>) {
        assert!(
            self.unbegun.is_none(),
            "a recovered store is begun before it is used"
        );
        if self.failed || self.ended {
            return;
        }
        let mut left = FLUSH_ITEMS_MAX;
        self.may_forget = SLICES_LET_GO_MAX;
        self.more_to_start = false;
        while self.may_fly() {
            let items = self.open.front().map_or(0, |open| open.items.len());
            self.more_to_start = items > left;
            if self.more_to_start || !self.start_flush(ops) {
                break;
            }
            left -= items;
        }
        self.let_go_filled();
        self.let_go_gone();
        self.forget_oldest();
        self.reclaim();
        self.write_ahead(ops);
    }

    /// Whether [`poll`](Self::poll) or [`begin_checkpoint`](Self::begin_checkpoint) left something that it might have
    /// done.
    #[must_use]
    pub fn has_more_to_do(&self) -> bool {
        self.more_to_start || self.has_to_let_go() || !self.gone.is_empty() || self.tail.is_over()
    }

    /// Lets go some of the memory of segments that are gone.
    fn let_go_gone(&mut self) {
        let mut left = SLICES_LET_GO_MAX;
        while let Some(slices) = self.gone.front_mut() {
            while left > 0 && slices.pop_front().is_some() {
                left -= 1;
            }
            if !slices.is_empty() {
                break;
            }
            self.gone.pop_front();
        }
    }

    /// Whether one more flush may be on its way. The first ones start however little there is, so that
    /// nobody waits for company; beyond them what is small gathers, because a write and its sync cost
    /// the core as much for one request as for a hundred. None does while the memory tail has too much to forget.
    fn may_fly(&self) -> bool {
        let flying = self.flights.len();
        let small = match self.open.len() {
            0 => return false,
            _ if self.tail.is_full() => return false,
            1 => self.open[0].cost < self.config.small_flush_bytes,
            _ => false,
        };
        flying < self.config.flushes_in_flight_max
            && !(small && flying >= self.config.small_flushes_in_flight_max)
    }

    /// A disk operation ended.
    pub fn on_disk(
        &mut self,
        id: IoId,
        result: Result<(), DiskError>,
        ops: &mut Vec<DiskOp>,
        events: &mut Vec<StoreEvent>,
    ) {
        let Some(io) = self.ios.remove(&id.0) else {
            return;
        };
        if let (Io::Ahead(region), Err(error)) = (io, &result)
            && error.is_no_room()
        {
            self.ahead_found_no_room(region);
            return;
        }
        let result = match io {
            Io::Allocate => self.allocated(result),
            _ => result,
        };
        if let Err(error) = result {
            // Whatever was asked to be durable may not be, and asking again would be answered with a lie.
            self.failed = true;
            events.push(StoreEvent::Failed(error));
            return;
        }
        if self.failed {
            return;
        }
        match io {
            Io::Flush(seq) => self.flush_io_done(seq, ops, events),
            Io::Checkpoint => self.checkpoint_io_done(ops),
            Io::Ahead(region) => self.ahead_done(region),
            Io::Allocate => {}
        }
        self.advance_durable(ops, events);
    }

    /// Adds the bytes `[pos, pos + len)` of a segment to a read plan, as far as they exist.
    pub fn read(&self, log: LogId, segment: SegmentId, pos: u64, len: usize, out: &mut Vec<Piece>) {
        self.read_some(log, segment, (pos, len), usize::MAX, out);
    }

    /// The same in no more than so many pieces.
    pub fn read_some(
        &self,
        log: LogId,
        segment: SegmentId,
        (pos, len): (u64, usize),
        pieces_max: usize,
        out: &mut Vec<Piece>,
    ) {
        let Some(segment) = self.segment(log, segment) else {
            return;
        };
        let end = pos.saturating_add(len as u64).min(segment.len);
        if pos < end {
            segment.read(self.id, (pos, end), pieces_max, out);
        }
    }

    /// The logs that are damaged: they are kept for those who look for what is left, and nothing else is done
    /// with them but deleting them.
    pub fn damaged(&self) -> impl Iterator<Item = (LogId, &LogLabel, Damage)> {
        let logs = self.map.logs.values().filter(|log| !log.id.is_cleaning());
        logs.filter_map(|log| Some((log.id, &log.label, log.damage?)))
    }

    /// Whether a log is damaged.
    #[must_use]
    pub fn is_damaged(&self, log: LogId) -> bool {
        let log = self.map.logs.get(&log);
        log.is_some_and(|log| log.damage.is_some())
    }

    /// What recovery said of a log makes no sense: it is damaged from now on, and after the next checkpoint for
    /// good.
    pub fn quarantine(&mut self, log: LogId) {
        if let Some(log) = self.map.logs.get_mut(&log) {
            log.damage.get_or_insert(Damage::Contradiction);
        }
    }

    /// The segments of a log: id, base offset and length in bytes.
    pub fn segments(&self, log: LogId) -> impl Iterator<Item = (SegmentId, Offset, u64)> + '_ {
        let log = self.map.logs.get(&log);
        log.into_iter()
            .flat_map(|log| log.segments.iter().map(|s| (s.id, s.base, s.len)))
    }

    /// Whether nothing is pending and nothing on its way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.open.is_empty()
            && self.flights.is_empty()
            && self.checkpoint.is_none()
            && self.ios.is_empty()
    }

    /// How the store is used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            logs: self.map.logs.len(),
            bytes_total: self.chunks.end(),
            bytes_max: self.config.bytes_max,
            chunk_bytes_free: self.chunks.free_bytes(),
            journal_bytes: self.superblock.journal_bytes,
            journal_bytes_used: self.ring_head - self.ring_tail,
            memory_tail_bytes: self.tail.bytes(),
            generation: self.superblock.generation,
        }
    }

    fn io(&mut self, io: Io) -> IoId {
        self.next_io += 1;
        self.ios.insert(self.next_io, io);
        IoId(self.next_io)
    }

    /// Keeps a slice that was just pushed in the memory tail, and the tail in its bound. `bytes` is the
    /// memory that goes with the slice.
    fn remember(&mut self, log: LogId, segment: SegmentId, bytes: usize) {
        self.tail.push(log, segment, bytes);
        self.forget_oldest();
    }

    /// Forgets the oldest of the memory tail as long as it is over its bound, but not too many in one poll: a large
    /// slice may take the place of very many small ones, and the bound may have come down.
    fn forget_oldest(&mut self) {
        while self.may_forget > 0 {
            let Some((log, segment, lacking)) = self.tail.forget() else {
                break;
            };
            self.may_forget -= 1;
            let segment = self.map.segment_mut(log, segment);
            if segment.is_some_and(Segment::evict_oldest_cached) {
                self.tail.missed(lacking);
            }
        }
    }

    /// Bytes that the memory tail has forgotten so far for lack of memory.
    #[must_use]
    pub fn tail_bytes_missed(&self) -> u64 {
        self.tail.missed_bytes()
    }

    /// What the memory tail may take from now on. What is too much is forgotten when there is time for it.
    pub fn set_tail_bytes_max(&mut self, bytes: usize) {
        self.tail.set_max(bytes);
    }

    /// What the memory tail may take.
    #[cfg(test)]
    pub fn tail_bytes_max(&self) -> usize {
        self.tail.bytes_max()
    }

    /// Slices of memory of segments that are gone, which are still to be let go.
    #[cfg(test)]
    pub fn gone_slices(&self) -> usize {
        self.gone.iter().map(Queue::len).sum()
    }

    /// Panics where the bookkeeping contradicts itself.
    pub fn invariants(&self) {
        let mut used = self.map.chunks();
        let count = self.map.logs.values().flat_map(|log| &log.segments);
        let extents: usize = count.map(|s| s.extents.len()).sum();
        assert_eq!(used.len(), extents, "two segments share a chunk");
        let waiting = self.freed.chunks();
        let freed: u64 = waiting.clone().map(|chunk| chunk.class.bytes()).sum();
        assert_eq!(freed, self.freed.bytes());
        let more = waiting
            .chain(self.unpinned_soon.iter().map(|(chunk, _)| *chunk))
            .chain(self.copies.iter().flat_map(Copy::chunks))
            .chain(self.checkpoint.iter().flat_map(Checkpoint::chunks));
        for chunk in more {
            assert!(used.insert(chunk), "chunk {chunk:?} has two owners");
        }
        self.chunks.check(&used, self.ahead.bytes());
        assert!(self.ring_head - self.ring_tail <= self.superblock.journal_bytes);
        for log in self.map.logs.values() {
            for segment in &log.segments {
                assert!(segment.filled <= segment.placed && segment.placed <= segment.len);
                let memory = segment.memory_start();
                let copies = segment.slices.partition_point(|slice| !slice.cached);
                assert!(segment.slices.range(copies).all(|slice| slice.cached));
                assert!(
                    memory <= segment.filled || segment.len == segment.filled,
                    "log {} has bytes that are nowhere: memory from {memory}, filled to {}",
                    log.id,
                    segment.filled
                );
            }
        }
    }
}
