//! A log on a store whose disk is a vector: the driver of this module's tests.

use bytes::Bytes;

use super::hints::Hints;
use super::index::Index;
use super::outcome::Goal;
use super::recovery::LogRecovery;
use super::{
    Appended, Log, LogConfig, ReadOutcome, Replicated, Ticket, TimeLookup, Truncation, Unfit,
};
use crate::base::limits::VALIDATION_SLICE_WORK;
use crate::base::{
    BLOCK, ErrorCode, IdMap, LeaderEpoch, LogId, Mono, Now, Offset, Refused, Rng, StoreId,
};
use crate::record::{self, BatchBuilder, BatchInfo, Codec};
use crate::store::{
    BEGINNING_BYTES, DiskOp, FlushSeq, LogLabel, Piece, ReplayItem, Store, StoreConfig, StoreEvent,
};

pub(crate) const LOG: LogId = LogId(7);
const STORE: StoreId = StoreId(0);

/// A wall time far enough from zero for timestamps before it.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// What the disk holds, and the store on it.
pub(crate) struct Disk {
    pub(crate) store: Store,
    config: StoreConfig,
    image: Vec<u8>,
    /// Begun, and not performed yet.
    begun: Vec<DiskOp>,
    /// Writes that were performed and that no sync covers, with what was there before. A crash may take them back.
    unsynced: Vec<(u64, usize, Vec<u8>)>,
    /// Operations that were performed.
    performed: u64,
    /// How many were when a sync was asked for: it covers those.
    covers: IdMap<u64, u64>,
}

impl Disk {
    /// `tail_bytes_max` is how much the store keeps in memory of what it has filed.
    pub(super) fn new(tail_bytes_max: usize) -> Self {
        Self::with(StoreConfig {
            journal_bytes: 4 << 20,
            initial_bytes: 16 << 20,
            tail_bytes_max,
            ..StoreConfig::default()
        })
    }

    /// The same on a device, which is not written ahead.
    pub(crate) fn raw(tail_bytes_max: usize) -> Self {
        Self::with(StoreConfig {
            journal_bytes: 1 << 20,
            raw: true,
            tail_bytes_max,
            ..StoreConfig::default()
        })
    }

    /// One that is soon full.
    pub(crate) fn small() -> Self {
        Self::with(StoreConfig {
            journal_bytes: 1 << 20,
            bytes_max: 8 << 20,
            raw: true,
            tail_bytes_max: 0,
            ..StoreConfig::default()
        })
    }

    fn with(config: StoreConfig) -> Self {
        let (store, ops) = Store::format(STORE, config.clone(), 1);
        let mut disk = Self {
            store,
            config,
            image: Vec::new(),
            begun: Vec::new(),
            unsynced: Vec::new(),
            performed: 0,
            covers: IdMap::default(),
        };
        disk.perform(ops);
        disk.unsynced.clear();
        disk
    }

    /// Performs everything that the store wants done; the newest durable flush.
    pub(crate) fn settle(&mut self) -> Option<FlushSeq> {
        let begun = std::mem::take(&mut self.begun);
        let mut durable = self.perform(begun);
        loop {
            let mut ops = Vec::new();
            self.store.poll(&mut ops);
            if ops.is_empty() {
                return durable;
            }
            durable = self.perform(ops).or(durable);
        }
    }

    /// Begins with what the store wants done, and leaves it at that.
    pub(crate) fn start(&mut self) {
        self.store.poll(&mut self.begun);
    }

    /// Performs one of the operations that were begun; the newest durable flush.
    pub(crate) fn perform_one(&mut self, rng: &mut Rng) -> Option<FlushSeq> {
        if self.begun.is_empty() {
            return None;
        }
        let mut begun = std::mem::take(&mut self.begun);
        let op = begun.swap_remove(rng.below(begun.len() as u64) as usize);
        let durable = self.complete(op, &mut begun);
        self.begun = begun;
        durable
    }

    /// The power fails: of what was begun some is done, some to a part, and what no sync covers may be gone again.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        for (_, pos, before) in std::mem::take(&mut self.unsynced).into_iter().rev() {
            if rng.chance(1, 2) {
                self.write(pos, &before);
            }
        }
        for op in std::mem::take(&mut self.begun) {
            if let DiskOp::Write { pos, data, .. } = op {
                let blocks = rng.below((data.len() / BLOCK) as u64 + 1) as usize;
                let done = if rng.chance(1, 2) { 0 } else { blocks * BLOCK };
                self.write(pos as usize, &data[..done]);
            }
        }
    }

    /// Makes a checkpoint, by which whole blocks get into the file.
    pub(crate) fn checkpoint(&mut self, log: &Log) -> Option<FlushSeq> {
        let mut ops = std::mem::take(&mut self.begun);
        self.store.checkpoint(vec![(LOG, log.state())], &mut ops);
        let durable = self.perform(ops);
        self.settle().or(durable)
    }

    fn perform(&mut self, mut ops: Vec<DiskOp>) -> Option<FlushSeq> {
        let mut durable = None;
        while !ops.is_empty() {
            for op in std::mem::take(&mut ops) {
                durable = durable.max(self.complete(op, &mut ops));
            }
        }
        durable
    }

    /// Performs an operation; what the store wants done then is added to `ops`. The newest durable flush.
    fn complete(&mut self, op: DiskOp, ops: &mut Vec<DiskOp>) -> Option<FlushSeq> {
        self.performed += 1;
        let id = op.id();
        match op {
            DiskOp::Write {
                pos, data, through, ..
            } => {
                let pos = pos as usize;
                if !through {
                    let mut before = self.image.get(pos..).unwrap_or_default().to_vec();
                    before.resize(data.len(), 0);
                    self.unsynced.push((self.performed, pos, before));
                }
                self.write(pos, &data);
            }
            DiskOp::Sync { .. } => {
                let covers = self.covers.remove(&id.0).unwrap_or(self.performed);
                self.unsynced.retain(|(at, ..)| *at > covers);
            }
            DiskOp::Allocate { .. } => {}
        }
        let (known, mut events, mut durable) = (ops.len(), Vec::new(), None);
        self.store.on_disk(id, Ok(()), ops, &mut events);
        for op in &ops[known..] {
            if let DiskOp::Sync { id, .. } = op {
                self.covers.insert(id.0, self.performed);
            }
        }
        for event in events {
            match event {
                StoreEvent::Durable(flush) => durable = durable.max(Some(flush)),
                StoreEvent::Written(_) | StoreEvent::Synced(_) => {}
                StoreEvent::Failed(error) => panic!("{error:?}"),
            }
        }
        durable
    }

    fn write(&mut self, pos: usize, data: &[u8]) {
        if self.image.len() < pos + data.len() {
            self.image.resize(pos + data.len(), 0);
        }
        self.image[pos..pos + data.len()].copy_from_slice(data);
    }

    /// Flips a bit, counted from a byte of the file.
    pub(super) fn flip(&mut self, from: u64, bit: usize) {
        self.image[from as usize + bit / 8] ^= 1 << (bit % 8);
    }

    pub(crate) fn join(&self, pieces: &[Piece]) -> Vec<u8> {
        let mut all = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Memory(bytes) => all.extend_from_slice(bytes),
                Piece::File { pos, len, .. } => {
                    let pos = *pos as usize;
                    all.extend_from_slice(&self.image[pos..pos + len]);
                }
            }
        }
        all
    }

    /// All batches of the log that flushes have taken, readable or not.
    pub(crate) fn batches(&self) -> Vec<Bytes> {
        let mut all = Vec::new();
        for (segment, _, len) in self.store.segments(LOG) {
            let mut pieces = Vec::new();
            self.store.read(LOG, segment, 0, len as usize, &mut pieces);
            let bytes = Bytes::from(self.join(&pieces));
            assert_eq!(bytes.len() as u64, len);
            let batches = record::batches(&bytes).map(|batch| batch.expect("a batch").1);
            all.extend(batches.map(|batch| bytes.slice_ref(batch)));
        }
        assert!(all.iter().all(|batch| record::check_crc(batch)));
        all
    }

    /// Opens the store anew from what is on the disk, and replays the log.
    pub(crate) fn restart(&mut self, now: Now) -> LogRecovery {
        self.begun.clear();
        self.unsynced.clear();
        self.covers.clear();
        let mut recovery = Log::recovered(LOG, now);
        let mut read = |pos: u64, len: usize| {
            let from = self.image.len().min(pos as usize);
            let to = self.image.len().min(pos as usize + len);
            let mut bytes = self.image[from..to].to_vec();
            bytes.resize(len, 0);
            Ok(Bytes::from(bytes))
        };
        let mut replay = |(log, item): (LogId, ReplayItem)| {
            if log.is_cleaning() {
                return;
            }
            assert_eq!(log, LOG);
            recovery.replay(item);
        };
        let (mut store, _) = Store::recover(
            STORE,
            self.config.clone(),
            self.image.len() as u64,
            &mut read,
            &mut replay,
        )
        .unwrap();
        let ops = store.begin();
        self.store = store;
        self.perform(ops);
        recovery
    }
}

/// A batch as a producer sends it.
pub(crate) struct Draft {
    pub(super) codec: Codec,
    /// One record per timestamp.
    pub(super) timestamps: Vec<i64>,
    /// Bytes of each value.
    pub(super) value_len: usize,
    /// Id, epoch, first sequence.
    pub(super) producer: Option<(i64, i16, i32)>,
    /// Part of a transaction of that producer.
    pub(super) transactional: bool,
}

impl Draft {
    pub(crate) fn plain(timestamps: &[i64], value_len: usize) -> Self {
        Self {
            codec: Codec::None,
            timestamps: timestamps.to_vec(),
            value_len,
            producer: None,
            transactional: false,
        }
    }

    pub(crate) fn build(&self) -> (Bytes, BatchInfo) {
        let base_timestamp = self.timestamps[0];
        let mut builder = BatchBuilder::new(self.codec, base_timestamp);
        if let Some((id, epoch, sequence)) = self.producer {
            builder = builder.producer(id, epoch, sequence);
        }
        if self.transactional {
            builder = builder.transactional();
        }
        let mut rng = Rng::new(self.value_len as u64);
        let value: Vec<u8> = (0..self.value_len).map(|_| rng.next_u64() as u8).collect();
        for timestamp in &self.timestamps {
            builder.push(*timestamp, None, Some(&value), &[]);
        }
        let batch = builder.build();
        let info = record::validate_produced(&batch).expect("a valid batch");
        (batch, info)
    }
}

/// A log, its disk and a clock.
pub(super) struct Fixture {
    pub(super) disk: Disk,
    pub(super) log: Log,
    pub(super) now: Now,
    /// Scans that reads and lookups needed so far.
    pub(super) scans: usize,
    /// Slices in which batches were opened for lookups.
    pub(super) slices: usize,
    /// Slices in which segments were gone through that were to be cut.
    pub(super) cuts: usize,
    /// All was made durable on the way of a cut.
    pub(super) settled: bool,
}

impl Fixture {
    pub(super) fn new(config: LogConfig, tail_bytes_max: usize) -> Self {
        let mut disk = Disk::new(tail_bytes_max);
        let now = Now {
            mono: Mono(0),
            wall_ms: START_MS,
        };
        let log = Log::create(LOG, LogLabel::default(), config, now, &mut disk.store);
        let mut fixture = Self {
            disk,
            log,
            now,
            scans: 0,
            slices: 0,
            cuts: 0,
            settled: false,
        };
        fixture.settle();
        fixture
    }

    pub(super) fn append(&mut self, draft: &Draft) -> Result<Appended, Refused> {
        let (batch, info) = draft.build();
        let appended = self
            .log
            .append(self.now, batch, &info, &mut self.disk.store);
        self.log.check_live();
        appended
    }

    /// The partition is part of the transaction of this producer that is about to begin.
    pub(super) fn verified(&mut self, id: i64, epoch: i16) {
        let mut draft = Draft::plain(&[START_MS], 1);
        (draft.producer, draft.transactional) = (Some((id, epoch, 0)), true);
        let (_, info) = draft.build();
        let (token, _) = self.log.begin_verification(&info, false).unwrap();
        assert_eq!(self.log.end_verification(id, token, true), Ok(()));
    }

    /// Appends a batch of the broker's own to a transaction: it has no sequence.
    pub(super) fn append_own(&mut self, id: i64, epoch: i16) -> Result<Appended, Refused> {
        let mut builder = BatchBuilder::new(Codec::None, self.now.wall_ms)
            .producer(id, epoch, -1)
            .transactional();
        builder.push(self.now.wall_ms, Some(b"k"), Some(b"v"), &[]);
        let batch = builder.build();
        let (info, store) = (record::parse(&batch).unwrap(), &mut self.disk.store);
        self.log.append_internal(self.now, batch, &info, store)
    }

    /// A fetch of what is committed, with all its scans.
    pub(super) fn read_committed(
        &mut self,
        offset: i64,
        max_bytes: usize,
    ) -> Result<Vec<u8>, ErrorCode> {
        self.read_by(true, |log, store| {
            log.read_stable(store, Offset(offset), max_bytes, true)
        })
    }

    /// Appends a batch that is stamped already.
    pub(super) fn append_stamped(
        &mut self,
        draft: &Draft,
        base: i64,
        epoch: i32,
    ) -> Result<Replicated, Unfit> {
        let (mut batch, epoch) = (draft.build().0.to_vec(), LeaderEpoch(epoch));
        record::stamp(&mut batch, Offset(base), epoch);
        let store = &mut self.disk.store;
        let appended = (self.log).append_replica(self.now, &batch.into(), epoch, store);
        self.log.check_live();
        appended
    }

    /// Cuts the log back, with all its scans; its new end.
    pub(super) fn truncate(&mut self, offset: i64) -> Result<i64, ErrorCode> {
        loop {
            self.cuts += 1;
            let store = &mut self.disk.store;
            let outcome = self.log.truncate(self.now, Offset(offset), store)?;
            self.log.check_live();
            match outcome {
                Truncation::Done { end, .. } => return Ok(end.0),
                Truncation::Scan { pieces, ticket } => self.scan(&pieces, ticket)?,
                Truncation::More => {}
                Truncation::Unflushed(flush) => {
                    let before = self.disk.store.started_seq();
                    assert!(flush > before, "it has begun");
                    self.disk.start();
                    if self.disk.store.started_seq() == before {
                        // Too many are on their way.
                        self.settle();
                        self.settled = true;
                    }
                }
            }
        }
    }

    /// Appends batches of one record, one millisecond apart, and makes them durable in flushes of
    /// about 8 KiB: the store drops memory by whole flushes.
    pub(super) fn fill(&mut self, batches: i64, value_len: usize) {
        for n in 1..=batches as usize {
            let timestamp = START_MS + self.log.end_offset().0;
            self.append(&Draft::plain(&[timestamp], value_len)).unwrap();
            if n % (8192 / value_len).max(1) == 0 {
                self.settle();
            }
        }
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        if let Some(flush) = self.disk.settle() {
            self.durable(flush);
        }
        self.log.check_live();
    }

    /// A flush is durable: all of it may be read.
    pub(super) fn durable(&mut self, flush: FlushSeq) -> u64 {
        self.log.on_durable(flush);
        self.log.raise_high_watermark(self.log.durable_end())
    }

    /// Makes all durable and gets it into the file, as far as it fills blocks.
    pub(super) fn file(&mut self) {
        if let Some(flush) = self.disk.checkpoint(&self.log) {
            self.durable(flush);
        }
        self.log.check_live();
    }

    /// A fetch with all its scans; `None` if the log has no such offset.
    pub(super) fn read(
        &mut self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Vec<u8>, ErrorCode> {
        self.read_by(true, |log, store| {
            log.read(store, Offset(offset), max_bytes, at_least_one)
        })
    }

    /// What a leader would push of the log as it is, with all scans. How it begins is not looked at.
    pub(super) fn push(&mut self, offset: i64, max_bytes: usize) -> Result<Vec<u8>, ErrorCode> {
        self.read_by(false, |log, store| {
            log.read_to_push(store, Offset(offset), max_bytes, store.started_seq())
        })
    }

    fn read_by(
        &mut self,
        looks: bool,
        mut read: impl FnMut(&mut Log, &Store) -> Result<ReadOutcome, ErrorCode>,
    ) -> Result<Vec<u8>, ErrorCode> {
        loop {
            let outcome = read(&mut self.log, &self.disk.store)?;
            self.log.check_live();
            match outcome {
                ReadOutcome::Plan { pieces, bytes, .. } => {
                    let read = self.disk.join(&pieces);
                    assert_eq!(read.len(), bytes);
                    if let Some(Piece::File { begins, .. }) = pieces.first() {
                        let known = looks.then(|| &read[..BEGINNING_BYTES]);
                        assert_eq!(begins.as_deref().map(|it| &it[..]), known);
                    }
                    return Ok(read);
                }
                ReadOutcome::Scan { pieces, ticket } => self.scan(&pieces, ticket)?,
            }
        }
    }

    /// Base offsets of the whole batches that a fetch returns.
    pub(super) fn read_bases(&mut self, offset: i64, max_bytes: usize) -> Vec<i64> {
        bases(&self.read(offset, max_bytes, true).unwrap())
    }

    /// The same of what a leader would push.
    pub(super) fn push_bases(&mut self, offset: i64, max_bytes: usize) -> Vec<i64> {
        bases(&self.push(offset, max_bytes).unwrap())
    }

    /// Offset and timestamp of the first record with this timestamp or a larger one.
    pub(super) fn time(&mut self, timestamp: i64) -> Option<(i64, i64)> {
        self.look_up(|log, store| log.offset_for_time(store, timestamp, &mut 0))
    }

    pub(super) fn max_time(&mut self) -> Option<(i64, i64)> {
        self.look_up(|log, store| log.max_timestamp(store, &mut 0))
    }

    fn look_up(
        &mut self,
        mut ask: impl FnMut(&mut Log, &Store) -> Result<TimeLookup, ErrorCode>,
    ) -> Option<(i64, i64)> {
        loop {
            match ask(&mut self.log, &self.disk.store).unwrap() {
                TimeLookup::Found {
                    offset, timestamp, ..
                } => return Some((offset.0, timestamp)),
                TimeLookup::NotFound => return None,
                TimeLookup::Scan { pieces, ticket } => self.scan(&pieces, ticket).unwrap(),
                TimeLookup::Later(later) => {
                    self.slices += 1;
                    self.log.resume_lookup(*later);
                }
                TimeLookup::Open(mut opening) => {
                    while !opening.go_on(VALIDATION_SLICE_WORK) {
                        self.slices += 1;
                    }
                    self.log.opened(&opening);
                }
            }
        }
    }

    fn scan(&mut self, pieces: &[Piece], ticket: Ticket) -> Result<(), ErrorCode> {
        // A look at the header that is about to be sent is no search.
        self.scans += usize::from(!matches!(ticket.goal, Goal::First(_)));
        let bytes = self.disk.join(pieces);
        self.log.scanned(ticket, &bytes)
    }

    /// Stops and starts again, as the leader of a log that has no other replica. What is not durable may be lost; call
    /// [`settle`](Self::settle) first.
    pub(super) fn restart(&mut self) {
        self.restart_as_found();
        self.log.raise_high_watermark(self.log.durable_end());
        self.log.check_live();
    }

    /// Stops and starts again, and knows no more than what is on the disk.
    pub(super) fn restart_as_found(&mut self) {
        let config = *self.log.config();
        let recovery = self.disk.restart(self.now);
        self.log = recovery.finish(config).unwrap();
        self.log.check_live();
    }

    pub(super) fn retain(&mut self) -> bool {
        let dropped = self.log.retain(self.now, &mut self.disk.store);
        self.log.check_live();
        dropped
    }

    pub(super) fn delete_records(&mut self, before: i64) -> Result<i64, ErrorCode> {
        let deleted = self
            .log
            .delete_records(self.now, Offset(before), &mut self.disk.store);
        self.log.check_live();
        deleted.map(|start| start.0).map_err(|refused| refused.code)
    }
}

/// Base offsets of whole batches.
fn bases(bytes: &[u8]) -> Vec<i64> {
    let batches = record::batches(bytes);
    batches.map(|batch| batch.unwrap().0.base_offset).collect()
}

impl Log {
    /// It has known that everything before this was committed, whether it has that or not.
    pub(crate) fn knows(&mut self, committed: Offset) {
        self.committed = committed.min(self.end);
        self.lost = Some(committed).filter(|known| *known > self.end);
    }

    /// Compaction has removed tombstones before this.
    pub(crate) fn lose_tombstones(&mut self, before: Offset) {
        self.tombstones_are_gone(before);
        self.gone_tombstones.removed(before);
    }

    /// From here on they stay.
    pub(crate) fn holds_tombstones_from(&self, now: Mono) -> Offset {
        self.tombstones_held_from(now)
    }

    /// Forgets hints and indexes, so that searches begin at the start of a segment: what the index of
    /// a very large one comes to.
    pub(super) fn forget_shortcuts(&mut self) {
        (self.hints, self.push_hints) = (Hints::default(), Hints::default());
        for segment in &mut self.segments {
            segment.index = Index::default();
        }
    }
}
