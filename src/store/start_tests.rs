//! What a start finds, and what it says before anything of it is acknowledged: crashes at the places where
//! two records, or two superblocks, could both be taken for the right one.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::layout::{RING_START, SUPERBLOCKS};
use super::superblock::STARTS_MAX;
use super::tests::{Disk, batch, stamped};
use super::*;
use crate::base::{BLOCK, Rng};

const RING: u64 = 128 << 10;
const LOGS: u64 = 3;

/// A store on a disk that does at once what it is told, and what its logs must hold.
pub(super) struct Scene {
    pub rng: Rng,
    pub config: StoreConfig,
    pub store: Store,
    pub disk: Disk,
    pub logs: BTreeMap<LogId, Vec<u8>>,
}

impl Scene {
    pub fn new(sabotage: Sabotage) -> Self {
        let config = StoreConfig {
            journal_bytes: RING,
            initial_bytes: 0,
            raw: true,
            bytes_max: 64 << 20,
            bulk_bytes_min: 4096,
            flush_bytes_max: 16 << 10,
            sabotage,
            ..StoreConfig::default()
        };
        let (mut store, ops) = Store::format(StoreId(1), config.clone(), 5);
        for log in 1..=LOGS {
            store.create_log(LogId(log), LogLabel::default(), Offset(0));
        }
        let mut scene = Self {
            rng: Rng::new(9),
            config,
            store,
            disk: Disk::new(ops),
            logs: (1..=LOGS).map(|log| (LogId(log), Vec::new())).collect(),
        };
        scene.settle();
        scene
    }

    pub fn batch(&mut self, len: usize) -> Bytes {
        batch(&mut self.rng, len)
    }

    /// Gives the store something to append.
    pub fn give(&mut self, log: u64, batch: &Bytes) {
        self.store
            .append(LogId(log), batch.clone(), Offset(7), LeaderEpoch(0))
            .expect("room");
    }

    /// Appends, and is told that it is durable.
    pub fn acknowledged(&mut self, log: u64, batch: &Bytes) {
        self.give(log, batch);
        self.settle();
        let bytes = stamped(batch, Offset(7), LeaderEpoch(0));
        self.logs.get_mut(&LogId(log)).unwrap().extend(bytes);
    }

    /// What the store wants done next.
    pub fn asked(&mut self) -> Vec<DiskOp> {
        let mut ops = Vec::new();
        self.store.poll(&mut ops);
        ops
    }

    /// Does all that the store wants done.
    pub fn settle(&mut self) {
        loop {
            let ops = self.asked();
            if ops.is_empty() && !self.store.has_more_to_do() {
                break;
            }
            self.perform(ops);
        }
        assert!(self.store.is_quiet());
        assert_eq!(self.store.durable_seq(), self.store.pending_seq());
    }

    pub fn perform(&mut self, mut ops: Vec<DiskOp>) {
        let mut events = Vec::new();
        while let Some(op) = (!ops.is_empty()).then(|| ops.remove(0)) {
            let id = op.id();
            self.write(&op);
            self.store.on_disk(id, Ok(()), &mut ops, &mut events);
        }
    }

    pub fn write(&mut self, op: &DiskOp) {
        if let DiskOp::Write { pos, data, .. } = op {
            self.disk.put(*pos, data);
        }
    }

    pub fn checkpoint(&mut self) {
        let mut ops = Vec::new();
        self.store.checkpoint(Vec::new(), &mut ops);
        self.perform(ops);
        assert!(self.store.is_quiet());
    }

    /// Asks for a checkpoint; what it begins with.
    pub fn checkpoint_asked(&mut self) -> Vec<DiskOp> {
        let mut ops = Vec::new();
        self.store.checkpoint(Vec::new(), &mut ops);
        ops
    }

    /// How a new process finds that the store was left.
    fn left(&self) -> Left {
        let len = self.disk.image.len() as u64;
        let mut read = self.disk.reader();
        let opened = Store::recover(StoreId(1), self.config.clone(), len, &mut read, &mut |_| {});
        opened.expect("a good store").1.left
    }

    /// All shards are drained.
    fn stop(&mut self) {
        for op in self.store.end() {
            self.write(&op);
        }
    }

    /// Opens what is on the disk, as a new process does.
    pub fn recover(&self) -> Result<Store, RecoverError> {
        self.recover_without(&[])
    }

    /// The same with blocks that cannot be read this time.
    fn recover_without(&self, unreadable: &[u64]) -> Result<Store, RecoverError> {
        let len = self.disk.image.len() as u64;
        let mut read = self.disk.reader();
        let mut read = |pos: u64, len: usize| {
            let range = pos..pos + len as u64;
            match unreadable.iter().any(|block| range.contains(block)) {
                true => Err(DiskError { errno: 5 }),
                false => read(pos, len),
            }
        };
        let opened = Store::recover(StoreId(1), self.config.clone(), len, &mut read, &mut |_| {});
        opened.map(|(store, _)| store)
    }

    /// The process is gone, another one starts.
    pub fn restart(&mut self) {
        self.restart_without(&[]);
    }

    /// The same with blocks that cannot be read this time.
    pub fn restart_without(&mut self, unreadable: &[u64]) {
        self.store = self.recover_without(unreadable).expect("a good store");
        for op in self.store.begin() {
            self.write(&op);
        }
        self.store.invariants();
    }

    /// Every log holds what was acknowledged, and that alone.
    pub fn check(&self) {
        self.check_all_but(None);
    }

    /// The same of all logs but one.
    pub fn check_all_but(&self, damaged: Option<LogId>) {
        for (log, expected) in self.logs.iter().filter(|(log, _)| Some(**log) != damaged) {
            assert_eq!(&self.content(&self.store, *log), expected, "log {log}");
        }
    }

    pub fn content(&self, store: &Store, log: LogId) -> Vec<u8> {
        let mut pieces = Vec::new();
        for (segment, _, len) in store.segments(log) {
            store.read(log, segment, 0, len as usize, &mut pieces);
        }
        self.bytes(&pieces)
    }

    /// What is read by a plan.
    pub fn bytes(&self, pieces: &[Piece]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Memory(part) => bytes.extend_from_slice(part),
                Piece::File { pos, len, .. } => {
                    bytes.extend_from_slice(&self.disk.image[*pos as usize..][..*len]);
                }
            }
        }
        bytes
    }

    /// Writes one record of a block each until the ring has so many blocks left before its end; the ring's
    /// beginning is free by then.
    pub fn go_to_the_end_of_the_ring(&mut self, left: u64) {
        let last = RING - left * BLOCK as u64;
        while self.store.ring_head < last {
            if self.store.ring_head == RING / 2 {
                self.checkpoint();
            }
            let small = self.batch(500);
            self.acknowledged(1, &small);
        }
        assert_eq!(self.store.ring_head, last);
        assert_eq!(self.store.ring_tail, RING / 2);
    }

    /// A flush in bulk whose record reaches the disk, in the last block of the ring, and whose chunk does not.
    pub fn torn_at_the_end_of_the_ring(&mut self, bulk: &Bytes) {
        self.go_to_the_end_of_the_ring(1);
        let before = self.store.durable_seq();
        self.give(2, bulk);
        let ops = self.asked();
        let record = RING_START + RING - BLOCK as u64;
        let is_record = |op: &DiskOp| matches!(op, DiskOp::Write { pos, .. } if *pos == record);
        assert!(ops.len() > 1 && ops.iter().any(is_record));
        ops.iter()
            .filter(|op| is_record(op))
            .for_each(|op| self.write(op));
        self.restart();
        assert_eq!(
            self.store.durable_seq(),
            before,
            "the torn flush is cut off"
        );
        self.check();
    }
}

/// Sabotage that brings back what these tests are about.
fn careless() -> Sabotage {
    Sabotage {
        any_successor: true,
        ..Sabotage::default()
    }
}

/// The torn flush's record stays where it is; the next process's record of the same number goes elsewhere.
fn two_records_of_one_number(sabotage: Sabotage, later: bool, same_bulk: bool) -> Scene {
    let mut scene = Scene::new(sabotage);
    let bulk = scene.batch(8 << 10);
    scene.torn_at_the_end_of_the_ring(&bulk);
    // More than a block, so that it goes to the beginning of the ring.
    let small = scene.batch(3000);
    scene.give(1, &small);
    scene.give(3, &small);
    if same_bulk {
        scene.give(2, &bulk);
    }
    scene.settle();
    assert_eq!(scene.store.ring_head, RING + 2 * BLOCK as u64);
    for log in 1..=LOGS {
        let given = match log {
            2 if same_bulk => &bulk,
            2 => continue,
            _ => &small,
        };
        let bytes = stamped(given, Offset(7), LeaderEpoch(0));
        scene.logs.get_mut(&LogId(log)).unwrap().extend(bytes);
    }
    if later {
        scene.acknowledged(1, &small);
    }
    scene
}

#[test]
fn a_record_that_recovery_rejected_is_never_met_again() {
    for (later, same_bulk) in [(true, false), (false, false), (false, true), (true, true)] {
        let mut scene = two_records_of_one_number(Sabotage::default(), later, same_bulk);
        let durable = scene.store.durable_seq();
        for _ in 0..3 {
            scene.restart();
            assert_eq!(scene.store.durable_seq(), durable);
            scene.check();
        }
        let more = scene.batch(6000);
        scene.acknowledged(2, &more);
        scene.restart();
        scene.check();
    }
}

#[test]
fn without_the_starts_it_would_be() {
    let scene = two_records_of_one_number(careless(), true, false);
    let opened = scene.recover();
    let hurt = opened.map_or(true, |store| store.damaged().next().is_some());
    assert!(hurt, "a good store is not believed");
    for same_bulk in [false, true] {
        let scene = two_records_of_one_number(careless(), false, same_bulk);
        let lost = scene.recover().is_err()
            || scene.content(&scene.recover().unwrap(), LogId(1)) != scene.logs[&LogId(1)];
        assert!(lost, "what was acknowledged is gone");
    }
}

#[test]
fn a_start_may_be_cut_off_anywhere_and_as_often_as_it_likes() {
    let mut scene = Scene::new(Sabotage::default());
    let bulk = scene.batch(8 << 10);
    scene.torn_at_the_end_of_the_ring(&bulk);
    let durable = scene.store.durable_seq();
    for round in 0..200 {
        let mut store = scene.recover().expect("a good store");
        assert_eq!(store.durable_seq(), durable, "round {round}");
        let ops = store.begin();
        let cut = scene.rng.below(ops.len() as u64) as usize;
        ops[..cut].iter().for_each(|op| scene.write(op));
        if let DiskOp::Write { pos, data, .. } = &ops[cut] {
            let torn = scene.rng.below(9) as usize * 512;
            scene.disk.put(*pos, &data[..torn.min(data.len())]);
        }
    }
    scene.restart();
    assert!(
        scene.store.superblock.starts.len() <= 2,
        "of them nothing is left"
    );
    let small = scene.batch(3000);
    scene.acknowledged(1, &small);
    scene.restart();
    scene.check();
}

#[test]
fn a_start_that_finds_no_place_makes_a_checkpoint_first() {
    let mut scene = Scene::new(Sabotage::default());
    let mut forced = 0;
    for _ in 0..3 * STARTS_MAX {
        scene.restart();
        if scene.store.checkpoint_first {
            forced += 1;
            let small = scene.batch(100);
            scene.give(1, &small);
            assert!(scene.asked().is_empty(), "nothing before the checkpoint");
            assert!(scene.store.checkpoint_due());
            let before = scene.store.durable_seq();
            // Cut off in the middle of it: as if it had never begun.
            let mut ops = Vec::new();
            scene.store.checkpoint(Vec::new(), &mut ops);
            ops.iter().for_each(|op| scene.write(op));
            scene.restart();
            assert!(scene.store.checkpoint_first);
            assert_eq!(scene.store.durable_seq(), before);
            scene.checkpoint();
            assert_eq!(scene.store.superblock.starts.len(), 1);
        }
        let small = scene.batch(100);
        scene.acknowledged(1, &small);
        scene.check();
    }
    assert!(forced >= 2);
}

#[test]
fn what_a_later_start_has_found_is_not_cut_off_as_torn() {
    let mut scene = Scene::new(Sabotage::default());
    let small = scene.batch(500);
    scene.acknowledged(1, &small);
    let last = RING_START + scene.store.ring_head - BLOCK as u64;
    // No record vouches for the last one; after another start, that does.
    let rot = last as usize + 100;
    scene.disk.image[rot] ^= 1;
    assert!(scene.recover().is_ok());
    scene.disk.image[rot] ^= 1;
    scene.restart();
    scene.disk.image[rot] ^= 1;
    assert!(matches!(scene.recover(), Err(RecoverError::Corrupt { .. })));
}

/// A process that is killed has written more than it has made durable. The next one reads it all the same; if
/// it only said so and the power went, what is not there any more would be rot.
#[test]
fn what_a_start_finds_is_durable_before_it_says_that_it_has_found_it() {
    let mut scene = Scene::new(Sabotage::default());
    let small = scene.batch(500);
    scene.acknowledged(1, &small);
    let durable = scene.disk.image.clone();
    let unsynced = scene.batch(600);
    scene.give(1, &unsynced);
    for op in scene.asked() {
        scene.write(&op);
    }
    let ops = scene.recover().expect("a good store").begin();
    for cut in 0..ops.len() {
        let synced = ops[..cut]
            .iter()
            .any(|op| matches!(op, DiskOp::Sync { .. }));
        let kept = scene.disk.image.clone();
        // The power goes: of what was written since the last sync this write alone has come through.
        if !synced {
            scene.disk.image = durable.clone();
        }
        ops[..=cut].iter().for_each(|op| scene.write(op));
        assert!(scene.recover().is_ok(), "cut off after {cut}");
        scene.disk.image = kept;
    }
}

fn copies(scene: &Scene) -> [&[u8]; 2] {
    SUPERBLOCKS.map(|pos| &scene.disk.image[pos as usize..][..BLOCK])
}

#[test]
fn a_start_makes_both_superblocks_the_same_the_worse_one_first() {
    for worse in [0, 1] {
        for damaged in [false, true] {
            let mut scene = Scene::new(Sabotage::default());
            let small = scene.batch(500);
            scene.acknowledged(1, &small);
            let older = copies(&scene)[worse].to_vec();
            // A crash between the two copies of a checkpoint's superblock leaves one of them older.
            scene.checkpoint();
            scene.disk.put(SUPERBLOCKS[worse], &older);
            if damaged {
                scene.disk.put(SUPERBLOCKS[worse], &[7; 512]);
            }
            let good = copies(&scene)[1 - worse].to_vec();
            let durable = scene.store.durable_seq();
            let ops = scene.recover().expect("a good store").begin();
            let mut written = Vec::new();
            for op in &ops {
                // Whatever is left of each write, there is a good copy.
                if let DiskOp::Write { pos, data, .. } = op {
                    written.push(*pos);
                    for torn in [0, 512, 2048] {
                        scene.disk.put(*pos, &data[..torn]);
                        assert_eq!(scene.recover().expect("good").durable_seq(), durable);
                    }
                }
                scene.write(op);
                if written.len() == 1 {
                    assert_eq!(copies(&scene)[1 - worse], good, "the good one comes last");
                }
            }
            assert_eq!(written, [SUPERBLOCKS[worse], SUPERBLOCKS[1 - worse]]);
            for (n, op) in ops.iter().enumerate() {
                let syncs = matches!(op, DiskOp::Sync { .. });
                assert_eq!(
                    syncs,
                    n % 2 == 0,
                    "one after the other, after what was read"
                );
            }
            let [first, second] = copies(&scene);
            assert_eq!(first, second);
        }
    }
}

#[test]
fn a_store_at_rest_says_once_what_is_durable() {
    let mut scene = Scene::new(Sabotage::default());
    let small = scene.batch(500);
    scene.acknowledged(1, &small);
    assert!(scene.store.lacks_proof());
    for blocks in [1, 0] {
        let before = scene.store.ring_head;
        scene.store.prove();
        scene.settle();
        assert!(!scene.store.lacks_proof());
        assert_eq!(scene.store.ring_head - before, blocks * BLOCK as u64);
    }
    scene.restart();
    scene.check();
    assert!(!scene.store.lacks_proof());
    // A start says so too, and a checkpoint.
    scene.acknowledged(1, &small);
    scene.restart();
    assert!(!scene.store.lacks_proof());
    scene.acknowledged(1, &small);
    scene.checkpoint();
    assert!(!scene.store.lacks_proof());
    // And the next flush.
    for _ in 0..2 {
        scene.acknowledged(1, &small);
    }
    assert!(scene.store.said_durable.0 + 1 == scene.store.durable.0);
    // A record that says it and is torn costs nothing.
    scene.store.prove();
    let ops = scene.asked();
    assert_eq!(ops.len(), 1);
    scene.restart();
    scene.check();
}

#[test]
fn a_clean_stop_is_told_from_a_crash_wherever_it_is_cut_off() {
    let mut scene = Scene::new(Sabotage::default());
    assert_eq!(scene.left(), Left::Unused);
    for round in 0..3 {
        scene.restart();
        assert_eq!(scene.left(), Left::Running, "begun, and nothing else");
        let small = scene.batch(500);
        scene.acknowledged(1, &small);
        if round == 1 {
            scene.checkpoint();
        }
        assert_eq!(scene.left(), Left::Running);
        let durable = scene.store.durable_seq();
        let ops = scene.store.end();
        let mut expected = Left::Running;
        for op in &ops {
            if let DiskOp::Write { pos, data, .. } = op {
                let whole = scene.disk.image.clone();
                for torn in [0, 16, 100] {
                    scene.disk.put(*pos, &data[..torn]);
                    assert_eq!(scene.left(), expected, "a part of it says nothing");
                    scene.disk.image = whole.clone();
                }
                expected = Left::Stopped;
            }
            scene.write(op);
            assert_eq!(scene.left(), expected);
            assert_eq!(scene.recover().unwrap().durable_seq(), durable);
        }
        assert_eq!(ops.len(), 4, "two copies, each synced");
        let [first, second] = copies(&scene);
        assert_eq!(first, second);
        // Whoever finds it and does not begin has changed nothing: the next one finds it too.
        let _ = scene.recover().unwrap();
        assert_eq!(scene.left(), Left::Stopped);
    }
    scene.restart();
    scene.check();
}

/// Before a start may acknowledge anything it is gone, in both copies.
#[test]
fn a_start_takes_back_that_the_one_before_it_has_stopped() {
    for places in [1, STARTS_MAX - 1] {
        let mut scene = Scene::new(Sabotage::default());
        let small = scene.batch(500);
        for _ in 0..places {
            scene.restart();
            scene.acknowledged(1, &small);
        }
        scene.stop();
        let ops = scene.recover().unwrap().begin();
        let image = scene.disk.image.clone();
        for (n, op) in ops.iter().enumerate() {
            scene.write(op);
            let last = n + 1 == ops.len();
            let copies = copies(&scene).map(|copy| Superblock::decode(&copy.to_vec().into()));
            let says = |copy: &Result<Superblock, _>| copy.as_ref().unwrap().stopped.is_some();
            assert_eq!(copies.iter().any(says), n < 3, "{n}");
            assert!(!last || scene.left() == Left::Running);
        }
        // A crash right then, and another one in the start after it.
        for _ in 0..2 {
            scene.restart();
            assert_eq!(scene.left(), Left::Running);
        }
        // The file as it was when it was stopped says so again, and that it is of that time.
        let generation = scene.store.superblock.generation;
        scene.disk.image = image;
        assert_eq!(scene.left(), Left::Stopped);
        assert!(scene.recover().unwrap().superblock.generation < generation);
    }
}

#[test]
fn what_was_durable_at_a_clean_stop_is_not_cut_off_as_torn() {
    let mut scene = Scene::new(Sabotage::default());
    let small = scene.batch(500);
    scene.acknowledged(1, &small);
    let rot = (RING_START + scene.store.ring_head - BLOCK as u64) as usize + 100;
    // No record vouches for the last one; the stop does.
    scene.disk.image[rot] ^= 1;
    assert!(scene.recover().is_ok());
    scene.disk.image[rot] ^= 1;
    scene.stop();
    scene.disk.image[rot] ^= 1;
    assert!(matches!(scene.recover(), Err(RecoverError::Corrupt { .. })));
}

#[test]
fn a_store_that_is_not_at_rest_is_not_stopped_and_a_stopped_one_writes_nothing() {
    let mut scene = Scene::new(Sabotage::default());
    let small = scene.batch(500);
    scene.give(1, &small);
    assert!(scene.store.end().is_empty(), "something waits");
    let ops = scene.asked();
    assert!(scene.store.end().is_empty(), "something is on its way");
    scene.perform(ops);
    scene.settle();
    let ops = scene.checkpoint_asked();
    assert!(scene.store.end().is_empty(), "a checkpoint is");
    scene.perform(ops);
    assert!(!scene.store.end().is_empty());
    scene.give(1, &small);
    assert!(scene.asked().is_empty() && scene.store.end().is_empty());
    let mut opened = scene.recover().unwrap();
    assert!(opened.end().is_empty(), "it was not begun");
}
