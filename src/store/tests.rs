//! The whole store against a model and a disk that forgets, tears and reorders.

mod damage;
mod flush;
mod salvage;
mod space;
mod tail;
mod truncate;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::layout::{REGION, SUPERBLOCKS};
use super::*;
use crate::base::crc::crc32c;
use crate::base::{BLOCK, Rng, TopicId};

const SECTOR: usize = 512;

/// A disk: what is durable, what was written since, what is asked for.
pub(super) struct Disk {
    pub image: Vec<u8>,
    /// Completed, not synced.
    written: Vec<(u64, Bytes)>,
    asked: Vec<DiskOp>,
}

impl Disk {
    pub fn new(ops: Vec<DiskOp>) -> Self {
        let mut disk = Self {
            image: Vec::new(),
            written: Vec::new(),
            asked: Vec::new(),
        };
        for op in ops {
            if let DiskOp::Write { pos, data, .. } = op {
                disk.put(pos, &data);
            }
        }
        disk
    }

    pub fn put(&mut self, pos: u64, data: &[u8]) {
        let end = pos as usize + data.len();
        if self.image.len() < end {
            self.image.resize(end, 0);
        }
        self.image[pos as usize..end].copy_from_slice(data);
    }

    fn ask(&mut self, ops: &mut Vec<DiskOp>) {
        for op in ops.drain(..) {
            if let DiskOp::Write { pos, data, .. } = &op {
                assert_eq!(*pos as usize % BLOCK, 0);
                assert_eq!(data.len() % BLOCK, 0);
                assert_eq!(data.as_ptr() as usize % BLOCK, 0);
                let range = *pos..*pos + data.len() as u64;
                for other in &self.asked {
                    if let DiskOp::Write { pos, data, .. } = other {
                        let disjoint = *pos >= range.end || pos + data.len() as u64 <= range.start;
                        assert!(disjoint, "two writes to one block in flight");
                    }
                }
            }
            self.asked.push(op);
        }
    }

    /// Completes one operation, any one.
    fn step(&mut self, rng: &mut Rng) -> Option<IoId> {
        if self.asked.is_empty() {
            return None;
        }
        let at = rng.below(self.asked.len() as u64) as usize;
        match self.asked.swap_remove(at) {
            DiskOp::Write {
                id,
                pos,
                data,
                through,
                ..
            } => {
                if through {
                    let end = pos + data.len() as u64;
                    let covers = |at: u64, n: usize| at < end && pos < at + n as u64;
                    for (at, data) in std::mem::take(&mut self.written) {
                        if covers(at, data.len()) {
                            self.put(at, &data);
                        } else {
                            self.written.push((at, data));
                        }
                    }
                    self.put(pos, &data);
                } else {
                    self.written.push((pos, data));
                }
                Some(id)
            }
            DiskOp::Sync { id, .. } => {
                self.sync();
                Some(id)
            }
            DiskOp::Allocate { id, .. } => Some(id),
        }
    }

    /// What was written is durable.
    fn sync(&mut self) {
        for (pos, data) in std::mem::take(&mut self.written) {
            self.put(pos, &data);
        }
    }

    /// What a reader of the running system sees.
    fn seen(&self, pos: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let image = self.image.get(pos as usize..).unwrap_or(&[]);
        let n = image.len().min(len);
        bytes[..n].copy_from_slice(&image[..n]);
        for (at, data) in &self.written {
            let from = pos.max(*at);
            let to = (pos + len as u64).min(at + data.len() as u64);
            if from < to {
                let part = &data[(from - at) as usize..(to - at) as usize];
                bytes[(from - pos) as usize..][..part.len()].copy_from_slice(part);
            }
        }
        bytes
    }

    /// Whether no write to a range is on its way or waits for a sync.
    fn is_durable(&self, pos: u64, len: usize) -> bool {
        let asked = self.asked.iter().filter_map(|op| match op {
            DiskOp::Write { pos, data, .. } => Some((*pos, data.len())),
            DiskOp::Sync { .. } | DiskOp::Allocate { .. } => None,
        });
        let written = self.written.iter().map(|(pos, data)| (*pos, data.len()));
        asked
            .chain(written)
            .all(|(at, n)| at >= pos + len as u64 || at + n as u64 <= pos)
    }

    /// Power off: of each sector that was not synced, either state may be found.
    fn crash(&mut self, rng: &mut Rng) {
        let mut loose = std::mem::take(&mut self.written);
        for op in std::mem::take(&mut self.asked) {
            if let DiskOp::Write { pos, data, .. } = op {
                loose.push((pos, data));
            }
        }
        for (pos, data) in loose {
            let fate = rng.below(3);
            for (i, sector) in data.chunks(SECTOR).enumerate() {
                if fate == 0 || fate == 1 && rng.chance(1, 2) {
                    self.put(pos + (i * SECTOR) as u64, sector);
                }
            }
        }
    }

    pub fn reader(&self) -> impl FnMut(u64, usize) -> Result<Bytes, DiskError> + '_ {
        |pos, len| Ok(self.seen(pos, len).into())
    }
}

pub(super) fn batch(rng: &mut Rng, len: usize) -> Bytes {
    let len = len.max(61);
    let words = (0..len.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes());
    let mut bytes: Vec<u8> = words.take(len).collect();
    bytes[8..12].copy_from_slice(&((len - 12) as i32).to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

pub(super) fn stamped(batch: &Bytes, base: Offset, epoch: LeaderEpoch) -> Vec<u8> {
    let mut bytes = batch.to_vec();
    bytes[..8].copy_from_slice(&base.0.to_be_bytes());
    bytes[12..16].copy_from_slice(&epoch.0.to_be_bytes());
    bytes
}

/// Lengths of a log's segments, and what was appended to it in all.
type Known = (BTreeMap<SegmentId, usize>, u64);

/// What a log should hold: segments of bytes, and up to where it is acknowledged.
#[derive(Clone, Debug, Default)]
struct ModelLog {
    segments: BTreeMap<SegmentId, Vec<u8>>,
    /// What segments held before they were dropped or cut.
    gone: BTreeMap<SegmentId, Vec<u8>>,
    /// Bytes that were appended in all, as the log's state says.
    appended: u64,
    /// (flush, segments as they are when that flush is durable, and what was appended by then).
    history: Vec<(FlushSeq, Option<Known>)>,
    next: i64,
    deleted: bool,
}

impl ModelLog {
    fn active(&self) -> SegmentId {
        *self.segments.last_key_value().unwrap().0
    }

    fn any_segment(&self, rng: &mut Rng) -> SegmentId {
        let at = rng.below(self.segments.len() as u64) as usize;
        *self.segments.keys().nth(at).unwrap()
    }

    fn mark(&mut self, flush: FlushSeq) {
        let lens = self.segments.iter().map(|(b, s)| (*b, s.len())).collect();
        let state = (!self.deleted).then_some((lens, self.appended));
        match self.history.last_mut() {
            Some((seq, last)) if *seq == flush => *last = state,
            _ => self.history.push((flush, state)),
        }
    }
}

struct World {
    rng: Rng,
    config: StoreConfig,
    store: Store,
    disk: Disk,
    logs: BTreeMap<LogId, ModelLog>,
    durable: FlushSeq,
    next_log: u64,
    pins: Vec<(Piece, Vec<u8>)>,
    /// Bytes of what each log wants remembered: what it was told by notes, and a little more.
    states: BTreeMap<LogId, usize>,
}

/// What a memory tail may take.
const TAIL_BYTES: [usize; 3] = [0, 20_000, 1 << 20];

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let config = Self::config(&mut rng, seed % 2 == 1);
        Self::with(rng, config)
    }

    fn config(rng: &mut Rng, raw: bool) -> StoreConfig {
        StoreConfig {
            journal_bytes: [128, 256, 1024][rng.below(3) as usize] << 10,
            initial_bytes: 0,
            raw,
            bytes_max: (8 + rng.below(4)) * REGION,
            bulk_bytes_min: [4096, 9000, 1 << 20][rng.below(3) as usize],
            flushes_in_flight_max: 1 + rng.below(4) as usize,
            small_flush_bytes: [0, 4 << 10, 64 << 10][rng.below(3) as usize],
            small_flushes_in_flight_max: 1 + rng.below(3) as usize,
            flush_bytes_max: 64 << 10,
            tail_bytes_max: TAIL_BYTES[rng.below(3) as usize],
            checkpoint_bytes: 1 << 20,
            checkpoint_slice_bytes: 1,
            sabotage: Sabotage::default(),
        }
    }

    fn with(mut rng: Rng, config: StoreConfig) -> Self {
        let (store, ops) = Store::format(StoreId(1), config.clone(), rng.next_u64());
        Self {
            rng,
            config,
            store,
            disk: Disk::new(ops),
            logs: BTreeMap::new(),
            durable: FlushSeq(0),
            next_log: 1,
            pins: Vec::new(),
            states: BTreeMap::new(),
        }
    }

    fn alive(&mut self) -> Option<LogId> {
        let alive: Vec<LogId> = self
            .logs
            .iter()
            .filter(|(_, l)| !l.deleted)
            .map(|(id, _)| *id)
            .collect();
        (!alive.is_empty()).then(|| alive[self.rng.below(alive.len() as u64) as usize])
    }

    fn act(&mut self) {
        let dice = self.rng.below(100);
        let Some(log) = self.alive().filter(|_| dice >= 3) else {
            let id = LogId(self.next_log);
            self.next_log += 1;
            let label = LogLabel {
                topic: format!("t{}", id.0),
                topic_id: TopicId([id.0 as u8; 16]),
                partition: 0,
            };
            let flush = self.store.create_log(id, label, Offset(0));
            let mut model = ModelLog::default();
            model.segments.insert(SegmentId::FIRST, Vec::new());
            model.mark(flush);
            self.logs.insert(id, model);
            return;
        };
        self.give_state(log);
        let model = self.logs.get_mut(&log).unwrap();
        match dice {
            3..70 => {
                let len = match self.rng.below(10) {
                    0..6 => 61 + self.rng.below(400),
                    6..9 => self.rng.below(12_000),
                    _ => self.rng.below(90_000),
                };
                self.append(log, len as usize);
            }
            70..74 => {
                let active = model.active();
                if !model.segments[&active].is_empty() {
                    let next = active.next();
                    model.segments.insert(next, Vec::new());
                    let flush = self.store.roll(log, next, Offset(model.next));
                    model.mark(flush);
                }
            }
            74..77 => {
                let segment = model.any_segment(&mut self.rng);
                let flush = self.store.drop_before(log, segment);
                let kept = model.segments.split_off(&segment);
                model.gone.append(&mut model.segments);
                model.segments = kept;
                model.mark(flush);
            }
            77 => {
                model.deleted = true;
                let flush = self.store.delete_log(log);
                model.mark(flush);
            }
            78..80 => {
                self.store.note(log, Bytes::from_static(b"note"));
            }
            80 => self.truncate(log),
            81..89 => self.store.prove(),
            89 => {
                let bytes = TAIL_BYTES[self.rng.below(3) as usize];
                self.store.set_tail_bytes_max(bytes);
            }
            _ => {}
        }
    }

    /// Gives a log to a checkpoint that lacks it.
    fn give_state(&mut self, log: LogId) {
        let appended = self.logs.get(&log).map_or(0, |model| model.appended);
        let mut state = vec![7; self.states.get(&log).map_or(8, |len| *len.max(&8))];
        state[..8].copy_from_slice(&appended.to_le_bytes());
        self.store.give_state(log, state.into());
    }

    /// Whether there was room for it.
    fn append(&mut self, log: LogId, len: usize) -> bool {
        self.give_state(log);
        let model = self.logs.get_mut(&log).unwrap();
        let batch = batch(&mut self.rng, len);
        let base = Offset(model.next);
        let bytes = stamped(&batch, base, LeaderEpoch(7));
        let appended = self.store.append(log, batch, base, LeaderEpoch(7));
        if let Ok(flush) = appended {
            model.next += 1 + self.rng.below(5) as i64;
            let mut last = model.segments.last_entry().unwrap();
            last.get_mut().extend_from_slice(&bytes);
            model.appended += bytes.len() as u64;
            model.mark(flush);
        }
        appended.is_ok()
    }

    fn pump(&mut self, steps: u64) {
        let mut ops = Vec::new();
        self.store.poll(&mut ops);
        if self.store.checkpoint_due() || self.rng.chance(1, 60) {
            self.store.begin_checkpoint(&mut ops);
        }
        for _ in 0..self.rng.below(8) {
            if let Some(log) = self.store.next_lacking() {
                self.give_state(log);
            }
        }
        self.store.checkpoint_advance(&mut ops);
        self.disk.ask(&mut ops);
        for _ in 0..steps {
            let Some(id) = self.disk.step(&mut self.rng) else {
                break;
            };
            let mut events = Vec::new();
            self.store.on_disk(id, Ok(()), &mut ops, &mut events);
            self.disk.ask(&mut ops);
            for event in events {
                match event {
                    StoreEvent::Durable(seq) => {
                        assert!(seq >= self.durable, "the durable end went back");
                        self.durable = seq;
                    }
                    StoreEvent::Written(_) | StoreEvent::Synced(_) => {}
                    StoreEvent::Failed(error) => panic!("the store failed: {error:?}"),
                }
            }
            self.store.invariants();
        }
    }

    /// Reads ranges of what is durable, keeping some of the plans for later.
    fn read(&mut self) {
        let Some(log) = self.alive() else { return };
        let model = &self.logs[&log];
        let durable = model.history.iter().rev().find(|(s, _)| *s <= self.durable);
        let Some((_, Some((lens, _)))) = durable else {
            return;
        };
        for (base, len) in lens {
            let Some(bytes) = model.segments.get(base) else {
                continue;
            };
            // What is cut off later may be gone before that is durable.
            let len = bytes.len().min(*len);
            let from = self.rng.below(len as u64 + 1) as usize;
            let want = self.rng.below((len - from) as u64 + 1) as usize;
            let mut pieces = Vec::new();
            self.store.read(log, *base, from as u64, want, &mut pieces);
            let mut at = from;
            for piece in pieces {
                let expected = bytes[at..at + piece.len()].to_vec();
                at += piece.len();
                self.verify(&piece, &expected);
                if self.rng.chance(1, 10) && self.pins.len() < 20 {
                    self.pins.push((piece, expected));
                }
            }
            assert_eq!(at, from + want, "a read plan is short");
        }
        self.check_sealed();
        if self.rng.chance(1, 5) && !self.pins.is_empty() {
            let (piece, expected) = self.pins.swap_remove(0);
            self.verify(&piece, &expected);
        }
    }

    fn verify(&self, piece: &Piece, expected: &[u8]) {
        match piece {
            Piece::Memory(bytes) => assert_eq!(&bytes[..], expected),
            Piece::File { pos, len, .. } => {
                assert!(self.disk.is_durable(*pos, *len), "read before durable");
                assert_eq!(self.disk.seen(*pos, *len), expected, "file range at {pos}");
            }
        }
    }

    /// Everything is drained: the store is ended, or the power goes meanwhile. Whether it must be found stopped
    /// cleanly, if that is clear.
    fn stop(&mut self) -> Option<bool> {
        let ops = self.store.end();
        if ops.is_empty() {
            return Some(false);
        }
        let cut = self.rng.below(2 * ops.len() as u64) as usize;
        for op in ops.iter().take(cut + 1) {
            match op {
                DiskOp::Write { pos, data, .. } => self.disk.written.push((*pos, data.clone())),
                _ => self.disk.sync(),
            }
        }
        // The first copy is whole when it is synced.
        (cut > 0).then_some(true)
    }

    fn restart(&mut self, crash: bool) {
        self.restart_as(crash, None);
    }

    /// The same, and whether the store must be found stopped cleanly.
    fn restart_as(&mut self, crash: bool, stopped: Option<bool>) {
        self.pins.clear();
        if crash {
            self.disk.crash(&mut self.rng);
        }
        let file_len = self.disk.image.len() as u64;
        let mut states: BTreeMap<LogId, usize> = BTreeMap::new();
        let mut appended: BTreeMap<LogId, u64> = BTreeMap::new();
        let (mut store, report) = Store::recover(
            StoreId(1),
            self.config.clone(),
            file_len,
            &mut self.disk.reader(),
            &mut |(log, item)| {
                *appended.entry(log).or_default() += match &item {
                    ReplayItem::State(state) => u64::from_le_bytes(state[..8].try_into().unwrap()),
                    ReplayItem::Batch(batch) => batch.len() as u64,
                    _ => 0,
                };
                *states.entry(log).or_default() += match item {
                    ReplayItem::State(bytes) | ReplayItem::Note(bytes) => bytes.len(),
                    _ => 0,
                };
            },
        )
        .expect("recovery");
        assert!(stopped.is_none_or(|stopped| stopped == (report.left == Left::Stopped)));
        self.states = states;
        assert_eq!(
            report
                .warnings
                .iter()
                .filter(|w| !w.contains("superblock"))
                .count(),
            0
        );
        let recovered = store.durable_seq();
        assert!(recovered >= self.durable, "acknowledged flushes are lost");
        for (id, model) in &mut self.logs {
            if store.is_damaged(*id) {
                model.deleted = true;
                continue;
            }
            let state = model.history.iter().rev().find(|(s, _)| *s <= recovered);
            let known = state.and_then(|(_, known)| known.clone());
            let mut found: BTreeMap<SegmentId, Vec<u8>> = BTreeMap::new();
            for (segment, _, len) in store.segments(*id) {
                let mut pieces = Vec::new();
                store.read(*id, segment, 0, len as usize, &mut pieces);
                let mut bytes = Vec::new();
                for piece in &pieces {
                    match piece {
                        Piece::Memory(part) => bytes.extend_from_slice(part),
                        Piece::File { pos, len, .. } => {
                            bytes.extend_from_slice(&self.disk.seen(*pos, *len));
                        }
                    }
                }
                found.insert(segment, bytes);
            }
            match known {
                None => {
                    assert!(found.is_empty(), "a deleted or unborn log is back");
                    model.deleted = true;
                    model.segments.clear();
                }
                Some((lens, before)) => {
                    assert_eq!(
                        appended[id], before,
                        "log {id}: its state is of another time"
                    );
                    model.appended = before;
                    let found_lens: BTreeMap<SegmentId, usize> =
                        found.iter().map(|(b, s)| (*b, s.len())).collect();
                    assert_eq!(found_lens, lens, "log {id}");
                    for (base, bytes) in &found {
                        // A segment dropped or cut by what was lost is back.
                        let known = model.gone.get(base).or(model.segments.get(base));
                        let expected = known.expect("a segment that was there");
                        assert!(bytes[..] == expected[..bytes.len()], "log {id} differs");
                    }
                    model.deleted = false;
                    model.segments = found;
                }
            }
            model.history.clear();
            model.gone.clear();
            model.mark(recovered);
        }
        self.logs.retain(|_, model| !model.deleted);
        for op in store.begin() {
            if let DiskOp::Write { pos, data, .. } = op {
                self.disk.put(pos, &data);
            }
        }
        self.durable = recovered;
        self.store = store;
        self.store.invariants();
    }
}

fn run(seed: u64, steps: u64) {
    let mut world = World::new(seed);
    for _ in 0..steps {
        for _ in 0..world.rng.below(8) {
            world.act();
        }
        let pump = world.rng.below(12);
        world.pump(pump);
        world.read();
        if world.rng.chance(1, 150) {
            let crash = world.rng.chance(4, 5);
            if !crash {
                for _ in 0..10_000 {
                    world.pump(50);
                    if world.store.is_quiet() {
                        break;
                    }
                }
            }
            let stopped = match crash {
                true => Some(false),
                false => world.stop(),
            };
            world.restart_as(true, stopped);
        }
    }
    // Left alone, everything gets done.
    for _ in 0..20_000 {
        world.pump(50);
        if world.store.is_quiet() {
            break;
        }
    }
    assert!(
        world.store.is_quiet(),
        "seed {seed}: the store does not come to rest"
    );
    assert_eq!(world.durable, world.store.pending_seq());
}

#[test]
fn a_short_record_counts_the_block_that_it_keeps() {
    const TAIL_BYTES: usize = 64 << 10;
    let config = StoreConfig {
        raw: true,
        tail_bytes_max: TAIL_BYTES,
        ..StoreConfig::default()
    };
    let (mut store, ops) = Store::format(StoreId(1), config, 1);
    let mut disk = Disk::new(ops);
    let mut rng = Rng::new(1);
    store.create_log(LogId(1), LogLabel::default(), Offset(0));
    let batch = batch(&mut rng, 100);
    for n in 0..200 {
        let appended = store.append(LogId(1), batch.clone(), Offset(n), LeaderEpoch(0));
        appended.expect("room");
        let mut ops = Vec::new();
        store.poll(&mut ops);
        disk.ask(&mut ops);
        while let Some(id) = disk.step(&mut rng) {
            store.on_disk(id, Ok(()), &mut ops, &mut Vec::new());
            disk.ask(&mut ops);
        }
    }
    let slices = &store.map.logs[&LogId(1)].segments[0].slices;
    let in_records = slices.range(0).filter(|slice| slice.cached).count();
    assert!(
        (8..=TAIL_BYTES / BLOCK).contains(&in_records),
        "{in_records}"
    );
    assert_eq!(slices.len(), 200, "nothing is lost before it is in a chunk");
}

#[test]
fn survives_crashes_at_any_moment() {
    for seed in 0..25 {
        run(seed, 600);
    }
}

fn settled(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..300 {
        world.act();
        world.pump(4);
    }
    for _ in 0..20_000 {
        world.pump(50);
        if world.store.is_quiet() {
            break;
        }
    }
    world
}

fn reopen(world: &World) -> Result<(Store, RecoveryReport), RecoverError> {
    let len = world.disk.image.len() as u64;
    let mut read = world.disk.reader();
    Store::recover(
        StoreId(1),
        world.config.clone(),
        len,
        &mut read,
        &mut |_| {},
    )
}

#[test]
fn blocks_that_a_crash_took_are_not_handed_out() {
    let mut world = settled(2);
    let len = world.disk.image.len() as u64;
    let (store, _) = reopen(&world).unwrap();
    let mut superblock = store.superblock.clone();
    superblock.chunks_end = len.next_multiple_of(REGION) + 2 * REGION;
    for pos in SUPERBLOCKS {
        world.disk.put(pos, &superblock.encode());
    }
    let (store, _) = reopen(&world).unwrap();
    assert!(store.chunks.end() <= len.next_multiple_of(REGION));
    assert_eq!(store.durable_seq(), world.durable);
}

#[test]
fn one_rotten_superblock_costs_nothing_and_two_are_refused() {
    let mut world = settled(1);
    world.disk.image[100] ^= 1;
    let (store, report) = reopen(&world).unwrap();
    assert_eq!(store.durable_seq(), world.durable);
    assert_eq!(report.warnings.len(), 1);
    world.disk.image[BLOCK + 100] ^= 1;
    assert!(reopen(&world).is_err());
}

#[test]
fn a_checkpoint_that_rots_once_costs_nothing_and_twice_is_refused() {
    let mut world = settled(2);
    let mut ops = Vec::new();
    world.store.checkpoint(Vec::new(), &mut ops);
    world.disk.ask(&mut ops);
    for _ in 0..1000 {
        world.pump(10);
    }
    let copies: Vec<u64> = (world.store.copies.iter())
        .filter_map(|copy| copy.chunks().next().map(|chunk| chunk.pos))
        .collect();
    let [first, second] = copies[..] else {
        panic!("it stands twice: {copies:?}");
    };
    let (store, report) = reopen(&world).unwrap();
    assert_eq!(report.warnings.len(), 0);
    assert!(!store.checkpoint_due());
    world.disk.image[first as usize + 9] ^= 0x40;
    let (mut store, report) = reopen(&world).unwrap();
    assert_eq!(store.durable_seq(), world.durable);
    assert!(
        report.warnings[0].contains("checkpoint"),
        "{:?}",
        report.warnings
    );
    assert!(store.checkpoint_due(), "it is to stand twice again");
    store.invariants();
    world.disk.image[second as usize + 9] ^= 0x40;
    assert!(matches!(reopen(&world), Err(RecoverError::Corrupt { .. })));
    // The next checkpoint of the store that was opened makes both whole.
    for op in store.begin() {
        if let DiskOp::Write { pos, data, .. } = op {
            world.disk.put(pos, &data);
        }
    }
    store.checkpoint(Vec::new(), &mut ops);
    world.store = store;
    world.disk.ask(&mut ops);
    for _ in 0..1000 {
        world.pump(10);
    }
    let (store, report) = reopen(&world).unwrap();
    assert_eq!(report.warnings.len(), 0);
    assert!(!store.checkpoint_due());
}

/// A device is not erased as a whole: a new store finds the journal, the checkpoint and the chunks of the one
/// before it, of the same number and size. Here not even the ring is zeroed.
#[test]
fn stale_bytes_of_an_earlier_store_are_never_taken_for_its_own() {
    for seed in [1, 3, 5, 7, 9, 11] {
        let old = settled(seed);
        assert!(old.config.raw && old.disk.image.len() as u64 > REGION);
        let mut new = World::new(seed);
        new.config = old.config.clone();
        let (store, ops) = Store::format(StoreId(1), new.config.clone(), seed + 1000);
        new.store = store;
        let stale = old.disk.image.clone();
        new.disk.image = stale.clone();
        for op in ops {
            if let DiskOp::Write { pos, data, .. } = op
                && layout::SUPERBLOCKS.contains(&pos)
            {
                new.disk.put(pos, &data);
            }
        }
        new.restart(false);
        assert_eq!((new.store.logs().count(), new.durable), (0, FlushSeq(0)));
        for _ in 0..200 {
            for _ in 0..new.rng.below(8) {
                new.act();
            }
            let steps = new.rng.below(12);
            new.pump(steps);
            if new.rng.chance(1, 10) {
                // Compares every log with what was written to it, and finds no others.
                new.restart(true);
                assert_eq!(new.store.logs().count(), new.logs.len());
            }
        }
        assert!(new.durable > FlushSeq(50), "seed {seed}: {:?}", new.durable);
    }
}
