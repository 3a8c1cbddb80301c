//! Compaction of a log on a store whose disk is a vector.

mod transactions;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::clean_marks::CompactionConfig;
use super::compaction::{CompactionPass, KeptBatch, LookedAt, PassNeeds};
use super::hints::Position;
use super::testing::{Fixture, START_MS};
use super::{Log, LogConfig};
use crate::base::limits::COMPACTION_OPEN_BYTES_MAX;
use crate::base::{LeaderEpoch, Offset, Rng};
use crate::record::{BatchBuilder, Codec, parse, records};

pub(super) const CONFIG: CompactionConfig = CompactionConfig {
    min_dirty_millionths: 0,
    min_lag_ms: 0,
    max_lag_ms: i64::MAX,
    delete_retention_ms: 1000,
};

pub(super) fn fixture() -> Fixture {
    with_segments(3000, 0)
}

pub(super) fn with_segments(segment_bytes: u64, tail_bytes_max: usize) -> Fixture {
    let config = LogConfig {
        segment_bytes,
        retention_ms: -1,
        compaction: Some(CONFIG),
        ..LogConfig::default()
    };
    Fixture::new(config, tail_bytes_max)
}

/// Records of these keys; a value of `None` is a tombstone.
pub(super) fn batch(records: &[(&str, Option<&str>)], codec: Codec, now_ms: i64) -> BatchBuilder {
    let mut builder = BatchBuilder::new(codec, now_ms);
    for (key, value) in records {
        builder.push(now_ms, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    builder
}

impl Fixture {
    pub(super) fn produce(&mut self, builder: BatchBuilder) -> Offset {
        let batch = builder.build();
        let info = crate::record::validate_produced(&batch).unwrap();
        let appended = self
            .log
            .append(self.now, batch, &info, &mut self.disk.store);
        appended.unwrap().base_offset
    }

    pub(super) fn put(&mut self, records: &[(&str, Option<&str>)]) -> Offset {
        let now_ms = self.now.wall_ms;
        self.produce(batch(records, Codec::None, now_ms))
    }

    pub(super) fn roll(&mut self) {
        self.log.roll(self.now, &mut self.disk.store);
        self.settle();
    }

    /// A pass, as a driver makes it; false if there is nothing to do.
    pub(super) fn compact(&mut self, keys_bytes_max: usize) -> bool {
        self.compact_until(keys_bytes_max, usize::MAX)
    }

    /// One that is left after so many groups.
    pub(super) fn compact_until(&mut self, keys_bytes_max: usize, groups: usize) -> bool {
        let Some(mut pass) = CompactionPass::begin(&self.log, self.now, keys_bytes_max) else {
            return false;
        };
        for _ in 0..groups {
            if !self.compacts_group(&mut pass) {
                break;
            }
        }
        if groups < usize::MAX {
            self.writes_group(&mut pass);
        }
        self.settle();
        true
    }

    /// Goes on with a pass until the next group has ended, in an entry that no flush has taken; false if there is none.
    pub(super) fn compacts_group(&mut self, pass: &mut CompactionPass) -> bool {
        if !self.writes_group(pass) {
            return false;
        }
        let ended = pass.end_group(&mut self.log, &mut self.disk.store);
        assert!(ended.is_some());
        self.log.check_live();
        self.disk.store.invariants();
        true
    }

    /// Writes what is left of the next group, and makes it durable; false if there is none.
    pub(super) fn writes_group(&mut self, pass: &mut CompactionPass) -> bool {
        let id = self.log.id();
        let mut pass_has_begun = false;
        loop {
            match pass.needs(self.now.mono, &self.log) {
                PassNeeds::Nothing => return false,
                PassNeeds::Begin(base) => {
                    let label = self.log.label().clone();
                    self.disk.store.begin_cleaning(id, label, base);
                    pass_has_begun = true;
                }
                PassNeeds::Write(kept) => self.keep(kept),
                PassNeeds::End => {
                    self.settle();
                    return true;
                }
                PassNeeds::Skip => {
                    // Nothing else may be left of what was begun.
                    if pass_has_begun {
                        self.disk.store.give_up_cleaning(id);
                    }
                    pass_has_begun = false;
                    pass.skip(&mut self.log);
                }
                PassNeeds::Batches(offset) => {
                    let offset = offset.max(self.log.start_offset());
                    let batches = self.disk.batches();
                    let ends = |batch: &&Bytes| parse(batch).unwrap().last_offset() >= offset.0;
                    let Some(batch) = batches.iter().find(ends) else {
                        pass.nothing_more();
                        continue;
                    };
                    // As little at a time as there is.
                    loop {
                        match pass.look(&self.log, batch, &mut 1).unwrap() {
                            LookedAt::Part => {}
                            LookedAt::All(Some(kept)) => break self.keep(kept),
                            LookedAt::All(None) | LookedAt::Beyond => break,
                        }
                    }
                }
            }
        }
    }

    pub(super) fn keep(&mut self, kept: KeptBatch) {
        let KeptBatch {
            batch,
            base_offset,
            epoch,
        } = kept;
        let (id, store) = (self.log.id(), &mut self.disk.store);
        store.append_cleaned(id, batch, base_offset, epoch).unwrap();
    }

    /// Every record that is there: offset, key, value.
    pub(super) fn all(&self) -> Vec<(i64, String, Option<String>)> {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let batches = self.disk.batches();
        let all = batches.iter().flat_map(|b| records(b, 64 << 20).unwrap());
        all.map(|record| {
            let record = record.unwrap();
            (
                record.offset,
                text(record.key.unwrap()),
                record.value.map(text),
            )
        })
        .collect()
    }

    pub(super) fn offsets(&self) -> Vec<i64> {
        self.all().into_iter().map(|record| record.0).collect()
    }
}

#[test]
fn of_each_key_the_newest_record_stays_where_it_was() {
    let mut f = fixture();
    f.put(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
    f.put(&[("a", Some("2"))]);
    f.roll();
    f.put(&[("b", Some("2")), ("d", Some("1"))]);
    f.roll();
    f.put(&[("a", Some("3"))]);
    f.settle();
    assert!(f.compact(1 << 20));
    // What is in the active segment replaces nothing yet.
    assert_eq!(f.offsets(), [2, 3, 4, 5, 6]);
    assert_eq!(f.log.segment_count(), 2, "small ones become one");
    assert_eq!((f.log.start_offset().0, f.log.end_offset().0), (0, 7));
    assert!(!f.compact(1 << 20), "nothing is dirty");
    let before = f.log.state();
    f.restart();
    assert_eq!(f.log.state(), before);
    f.file();
    f.restart();
    assert_eq!(f.log.state(), before);
    assert_eq!(f.offsets(), [2, 3, 4, 5, 6]);
    assert_eq!(f.read_bases(0, 1 << 20), [0, 3, 4, 6]);
    assert_eq!(
        f.read_bases(1, 1 << 20),
        [0, 3, 4, 6],
        "in a gap comes what follows"
    );
    f.roll();
    assert!(f.compact(1 << 20));
    assert_eq!(f.offsets(), [2, 4, 5, 6]);
}

/// A log has a cleaned segment before the store does: until then it is read where it was written.
#[test]
fn what_was_cleaned_is_read_before_a_flush_says_so() {
    for tail_bytes_max in [0, 1 << 20] {
        let mut f = with_segments(3000, tail_bytes_max);
        for n in 0..40 {
            f.put(&[(&format!("k{}", n % 20), Some(&"v".repeat(400)))]);
        }
        f.roll();
        f.file();
        let mut pass = CompactionPass::begin(&f.log, f.now, 1 << 20).unwrap();
        let mut ended = 0;
        while f.compacts_group(&mut pass) {
            let before = (f.read_bases(0, 1 << 20), f.push_bases(0, 1 << 20));
            let lookup = f.time(START_MS);
            f.settle();
            let after = (f.read_bases(0, 1 << 20), f.push_bases(0, 1 << 20));
            assert_eq!((before, lookup), (after, f.time(START_MS)));
            ended += 1;
        }
        assert!(ended > 3, "{ended}");
        assert_eq!(f.offsets(), (20..40).collect::<Vec<_>>());
    }
}

#[test]
fn tombstones_stay_for_a_while_and_then_go() {
    let mut f = fixture();
    f.put(&[("a", Some("1")), ("b", Some("1"))]);
    f.put(&[("a", None)]);
    f.roll();
    f.put(&[("x", Some("1"))]);
    f.roll();
    assert!(f.compact(1 << 20));
    assert_eq!(f.offsets(), [1, 2, 3]);
    assert_eq!(f.log.tombstones_removed_before(), Offset(0));
    let dirty = |f: &mut Fixture, later_ms| {
        f.now.wall_ms += later_ms;
        f.put(&[("y", Some("1"))]);
        f.roll();
        assert!(f.compact(1 << 20));
        f.log.tombstones_removed_before().0
    };
    assert_eq!(dirty(&mut f, 1000), 0);
    assert_eq!(dirty(&mut f, 1), 3);
    assert_eq!(f.offsets(), [1, 3, 5]);
    f.restart();
    assert_eq!(f.log.tombstones_removed_before().0, 3);
}

#[test]
fn a_tombstone_stays_where_something_older_is_in_a_batch_that_is_too_large() {
    let mut f = with_segments(1 << 20, 0);
    let mut large = batch(&[("a", Some("1"))], Codec::Lz4, f.now.wall_ms);
    for key in ["b", "c"] {
        let value = vec![b'v'; COMPACTION_OPEN_BYTES_MAX * 2 / 3];
        large.push(f.now.wall_ms, Some(key.as_bytes()), Some(&value), &[]);
    }
    f.produce(large);
    f.put(&[("a", None)]);
    f.roll();
    for _ in 0..3 {
        f.put(&[("x", Some("1"))]);
        f.roll();
        assert!(f.compact(1 << 20));
        f.restart();
        f.now.wall_ms += 2000;
    }
    assert_eq!(f.offsets(), [0, 1, 2, 3, 6]);
    // When that is gone there is nothing older any more.
    f.delete_records(3).unwrap();
    f.put(&[("x", Some("1"))]);
    f.roll();
    assert!(f.compact(1 << 20));
    assert_eq!(f.offsets(), [7]);
}

#[test]
fn what_was_gathered_before_a_cut_is_not_used() {
    let mut f = fixture();
    f.put(&[("a", Some("1"))]);
    f.roll();
    f.put(&[("a", Some("2"))]);
    f.roll();
    f.put(&[("b", Some("1"))]);
    f.settle();
    let mut pass = CompactionPass::begin(&f.log, f.now, 1 << 20).unwrap();
    assert_eq!(
        pass.needs(f.now.mono, &f.log),
        PassNeeds::Batches(Offset(0))
    );
    f.truncate(1).unwrap();
    assert_eq!(pass.needs(f.now.mono, &f.log), PassNeeds::Nothing);
    assert!(!pass.is_done());
}

#[test]
fn what_a_leader_has_lost_of_tombstones_is_known_after_a_restart() {
    let mut f = fixture();
    f.put(&[("a", Some("1")), ("b", Some("1"))]);
    f.log.inherit_tombstones(Offset(2), &mut f.disk.store);
    f.put(&[("c", Some("1"))]);
    f.settle();
    f.restart();
    assert_eq!(f.log.tombstones_removed_before(), Offset(2));
    f.log.start_over(f.now, Offset(0), &mut f.disk.store);
    assert_eq!(
        f.log.tombstones_removed_before(),
        Offset(0),
        "nothing is committed"
    );
    f.put(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
    // They were committed, though that is not known here yet.
    assert_eq!(f.log.tombstones_removed_before(), Offset(2));
    f.settle();
    f.restart();
    assert_eq!(f.log.tombstones_removed_before(), Offset(2));
}

/// The log start moves behind a batch of which only a part was looked at.
#[test]
fn what_was_begun_with_a_batch_is_not_taken_for_the_next_one() {
    let mut f = fixture();
    f.put(&[("a", Some("1")), ("b", Some("1"))]);
    f.put(&[("c", Some("1")), ("d", Some("1"))]);
    f.put(&[("a", Some("2")), ("b", Some("2"))]);
    f.roll();
    let mut pass = CompactionPass::begin(&f.log, f.now, 1 << 20).unwrap();
    let batches = f.disk.batches();
    loop {
        match pass.needs(f.now.mono, &f.log) {
            PassNeeds::Begin(base) => {
                let label = f.log.label().clone();
                f.disk.store.begin_cleaning(f.log.id(), label, base);
                break;
            }
            PassNeeds::Batches(offset) => {
                let batch = &batches[offset.0 as usize / 2];
                pass.look(&f.log, batch, &mut usize::MAX.clone()).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    let looked = pass.look(&f.log, &batches[0], &mut 1);
    assert_eq!(looked, Ok(LookedAt::Part));
    f.delete_records(2).unwrap();
    while f.compacts_group(&mut pass) {}
    f.settle();
    assert_eq!(f.offsets(), [2, 3, 4, 5]);
}

#[test]
fn nothing_is_touched_before_it_is_time() {
    let mut f = fixture();
    let set = |f: &mut Fixture, change: &dyn Fn(&mut CompactionConfig)| {
        let mut config = *f.log.config();
        let mut compaction = CONFIG;
        change(&mut compaction);
        config.compaction = Some(compaction);
        f.log.set_config(config);
        f.log.dirt(f.now).map(|dirt| (dirt.from.0, dirt.to.0))
    };
    f.put(&[("a", Some("1"))]);
    f.roll();
    f.put(&[("a", Some("2"))]);
    assert_eq!(set(&mut f, &|_| {}), Some((0, 1)));
    assert_eq!(set(&mut f, &|c| c.min_lag_ms = 10), None);
    f.now.wall_ms += 10;
    assert_eq!(set(&mut f, &|c| c.min_lag_ms = 10), Some((0, 1)));
    assert_eq!(set(&mut f, &|c| c.min_dirty_millionths = 1_000_000), None);
    let overdue = |c: &mut CompactionConfig| {
        c.min_dirty_millionths = 1_000_000;
        c.max_lag_ms = 9;
    };
    assert_eq!(set(&mut f, &overdue), Some((0, 1)));
    let mut config = *f.log.config();
    config.compaction = None;
    f.log.set_config(config);
    assert_eq!(f.log.dirt(f.now), None);
}

#[test]
fn the_last_batch_of_a_producer_stays_emptied() {
    let mut f = fixture();
    let idempotent = |sequence| {
        let now_ms = START_MS;
        batch(&[("a", Some("1"))], Codec::Lz4, now_ms).producer(9, 0, sequence)
    };
    f.put(&[("x", Some("1"))]);
    f.produce(idempotent(0));
    f.produce(idempotent(1));
    f.put(&[("a", Some("2"))]);
    f.roll();
    assert!(f.compact(1 << 20));
    assert_eq!(f.offsets(), [0, 3]);
    let batches: Vec<_> = f.disk.batches().iter().map(|b| parse(b).unwrap()).collect();
    let emptied = (
        batches[1].base_offset,
        batches[1].records,
        batches[1].base_sequence,
    );
    assert_eq!((batches.len(), emptied), (3, (2, 0, 1)));
    let again = idempotent(1).build();
    let info = crate::record::validate_produced(&again).unwrap();
    let again = f
        .log
        .append(f.now, again, &info, &mut f.disk.store)
        .unwrap();
    assert_eq!((again.base_offset.0, again.flush), (2, None), "it is known");
}

#[test]
fn memory_for_a_few_keys_cleans_a_part_at_a_time() {
    let mut f = fixture();
    for n in 0..20 {
        let key = format!("key-{}", n % 10);
        f.put(&[(&key, Some("1"))]);
    }
    f.roll();
    let mut passes = 0;
    while f.compact(3 * 70) {
        passes += 1;
        assert!(passes < 20);
    }
    assert!(passes > 3, "{passes}");
    assert_eq!(f.offsets(), (10..20).collect::<Vec<_>>());
}

/// The epochs that have written something, and where each begins.
pub(super) fn written_epochs(log: &Log) -> Vec<(LeaderEpoch, Offset)> {
    let all = log.epochs.entries().iter();
    all.filter(|it| it.1 < log.end_offset()).copied().collect()
}

/// The same of a replica that begins with what there is of a log.
pub(super) fn epochs_of_batches(f: &Fixture) -> Vec<(LeaderEpoch, Offset)> {
    let mut replica = fixture();
    let (store, epoch) = (&mut replica.disk.store, f.log.leader_epoch());
    let batches = Bytes::from(f.disk.batches().concat());
    let appended = (replica.log).append_replica(f.now, &batches, epoch, store);
    appended.unwrap();
    replica.log.leave_out(f.now, f.log.end_offset(), store);
    written_epochs(&replica.log)
}

/// A log that is compacted, cut back, dropped and restarted at random has what a map has.
#[test]
fn nothing_but_what_is_superseded_is_lost() {
    for seed in 0..12 {
        let mut rng = Rng::new(seed);
        let mut f = fixture();
        let mut values: BTreeMap<String, (i64, Option<String>)> = BTreeMap::new();
        let mut written: BTreeMap<i64, (String, Option<String>)> = BTreeMap::new();
        for step in 0..60 {
            match rng.below(10) {
                0..5 => {
                    let list: Vec<(String, Option<String>)> = (0..1 + rng.below(4))
                        .map(|_| {
                            let value = format!("{step}-{}", "v".repeat(rng.below(300) as usize));
                            (
                                format!("k{}", rng.below(12)),
                                rng.chance(3, 4).then_some(value),
                            )
                        })
                        .collect();
                    let refs: Vec<_> = list
                        .iter()
                        .map(|(k, v)| (k.as_str(), v.as_deref()))
                        .collect();
                    let codec = Codec::from_id(rng.below(5) as u8).unwrap();
                    let base = f.produce(batch(&refs, codec, f.now.wall_ms));
                    for (n, (key, value)) in list.into_iter().enumerate() {
                        let offset = base.0 + n as i64;
                        values.insert(key.clone(), (offset, value.clone()));
                        written.insert(offset, (key, value));
                    }
                    f.settle();
                }
                5 => f.roll(),
                6 => f.now.wall_ms += rng.below(1500) as i64,
                7 => {
                    let keys = [1 << 20, 500][rng.below(2) as usize];
                    let groups = [usize::MAX, 0, 1][rng.below(3) as usize];
                    f.compact_until(keys, groups);
                    if groups < usize::MAX {
                        f.settle();
                        f.restart();
                        let left: Vec<_> = f.disk.store.cleanings().collect();
                        for log in left {
                            f.disk.store.give_up_cleaning(log);
                        }
                        f.settle();
                    }
                }
                8 if rng.chance(1, 2) => {
                    let epoch = LeaderEpoch(f.log.leader_epoch().0 + 1);
                    f.log.begin_epoch(epoch, &mut f.disk.store);
                }
                8 => {
                    f.file();
                }
                _ => {
                    let before = (f.all(), f.log.dirt(f.now));
                    f.restart();
                    assert_eq!((f.all(), f.log.dirt(f.now)), before, "seed {seed}");
                }
            }
            f.log.check_live();
            f.disk.store.invariants();
        }
        let all = f.all();
        assert!(all.is_sorted_by(|a, b| a.0 < b.0));
        let mut newest: BTreeMap<&str, (i64, Option<&str>)> = BTreeMap::new();
        for (offset, key, value) in &all {
            assert_eq!(written[offset], (key.clone(), value.clone()), "seed {seed}");
            newest.insert(key, (*offset, value.as_deref()));
        }
        for (key, (offset, value)) in &values {
            match (newest.get(key.as_str()), value) {
                (Some(found), _) => {
                    assert_eq!(*found, (*offset, value.as_deref()), "seed {seed}")
                }
                (None, value) => assert_eq!(*value, None, "seed {seed}: {key} is lost"),
            }
        }
        assert_eq!(epochs_of_batches(&f), written_epochs(&f.log), "seed {seed}");
        let end = f.log.high_watermark();
        let at = Position {
            offset: end,
            ..f.log.high_watermark
        };
        assert!(f.log.is_place(&at));
    }
}
