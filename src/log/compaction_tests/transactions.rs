//! What compaction leaves of transactions.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{CONFIG, batch, epochs_of_batches, fixture, written_epochs};
use crate::base::limits::ABORTED_TRANSACTIONS_PER_SEGMENT;
use crate::base::{ErrorCode, LeaderEpoch, Mono, NodeId, Offset, Rng};
use crate::log::clean_tests::malformed;
use crate::log::compaction::{CompactionPass, LookedAt, PassNeeds};
use crate::log::testing::{Fixture, START_MS};
use crate::log::{CompactionConfig, EndOfTransaction, LogConfig, LogKept};
use crate::record::{Codec, parse, records};

fn writes(f: &mut Fixture, id: i64, sequence: &mut i32, pairs: &[(&str, Option<&str>)]) {
    if !f.log.has_open_transaction(id, 0) {
        f.verified(id, 0);
    }
    let builder = batch(pairs, Codec::None, f.now.wall_ms);
    f.produce(builder.producer(id, 0, *sequence).transactional());
    *sequence += pairs.len() as i32;
}

fn ends(f: &mut Fixture, id: i64, commits: bool) {
    let end = EndOfTransaction {
        producer_id: id,
        producer_epoch: 0,
        coordinator_epoch: 0,
        commits,
        version: 0,
    };
    let ended = f.log.append_end(f.now, &end, &mut f.disk.store);
    assert!(ended.unwrap().flush.is_some());
}

/// What somebody sees in the end who reads what is committed: of each key the newest value.
fn seen(f: &Fixture, batches: &[Bytes]) -> BTreeMap<String, String> {
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let (stable, mut seen) = (f.log.last_stable().0, BTreeMap::new());
    let aborted = f.log.aborted_between(Offset(0), Offset(stable));
    for batch in batches {
        let info = parse(batch).unwrap();
        let base = Offset(info.base_offset);
        let is_aborted = aborted.iter().any(|range| {
            range.producer_id == info.producer_id && range.first <= base && base <= range.last
        });
        if info.is_control() || info.base_offset >= stable || info.is_transactional() && is_aborted
        {
            continue;
        }
        for record in records(batch, 1 << 20).unwrap() {
            let record = record.unwrap();
            let key = text(record.key.unwrap());
            match record.value {
                Some(value) => seen.insert(key, text(value)),
                None => seen.remove(&key),
            };
        }
    }
    seen
}

/// Another replica that gets all that is left.
fn replica(f: &Fixture) -> Fixture {
    let mut other = Fixture::new(LogConfig::default(), 0);
    for batch in f.disk.batches() {
        let store = &mut other.disk.store;
        let taken = (other.log).append_replica(other.now, &batch, LeaderEpoch(0), store);
        assert!(taken.is_ok(), "{taken:?}");
    }
    other.settle();
    other
}

#[test]
fn aborted_records_and_then_their_markers_go() {
    let mut f = fixture();
    let (mut one, mut two) = (0, 0);
    writes(&mut f, 1, &mut one, &[("a", Some("1")), ("b", Some("1"))]);
    writes(&mut f, 2, &mut two, &[("a", Some("never"))]);
    ends(&mut f, 1, true);
    writes(&mut f, 2, &mut two, &[("b", None)]);
    ends(&mut f, 2, false);
    f.roll();
    assert!(f.compact(1 << 20));
    // What its producer was known by last stays, emptied.
    assert_eq!(
        seen(&f, &f.disk.batches()),
        [("a", "1"), ("b", "1")].map(owned).into()
    );
    let bases = |f: &mut Fixture| f.read_bases(0, 1 << 20);
    assert_eq!(bases(&mut f), [0, 3, 4, 5]);
    assert_eq!(f.log.aborted_between(Offset(0), Offset(9)), []);
    // Two others have taken the place of all that they are known by.
    for id in [1, 2] {
        let sequence = if id == 1 { &mut one } else { &mut two };
        writes(&mut f, id, sequence, &[("c", Some("2"))]);
        ends(&mut f, id, true);
    }
    f.roll();
    for _ in 0..2 {
        f.now.wall_ms += CONFIG.delete_retention_ms + 1;
        f.put(&[("d", Some("2"))]);
        f.roll();
        assert!(f.compact(1 << 20));
    }
    // The first commit has something left, the abort has not.
    assert_eq!(bases(&mut f)[..2], [0, 3]);
    assert!(!bases(&mut f).contains(&5));
    assert_eq!(f.log.tombstones_removed_before(), Offset(6));
    let other = replica(&f);
    assert_eq!(other.log.last_stable(), other.log.end_offset());
}

/// With too many aborted transactions none begins: those of a compacted log go in time.
#[test]
fn many_aborted_transactions_make_a_log_dirty() {
    const MANY: usize = ABORTED_TRANSACTIONS_PER_SEGMENT + 1;
    let mut f = super::with_segments(1 << 30, 0);
    let lazy = CompactionConfig {
        min_dirty_millionths: 1_000_000,
        ..CONFIG
    };
    f.log.set_config(LogConfig {
        compaction: Some(lazy),
        ..*f.log.config()
    });
    let most = MANY + 2;
    f.log.limit_kept(LogKept {
        producers: 100,
        aborted: most,
    });
    let mut sequence = 0;
    for n in 1..=most {
        writes(&mut f, 1, &mut sequence, &[("a", Some("1"))]);
        ends(&mut f, 1, false);
        if n >= MANY - 1 {
            f.settle();
            assert_eq!(f.log.segment_count(), 1 + usize::from(n > MANY), "of {n}");
            assert_eq!(f.log.dirt(f.now).is_some(), n > MANY, "with {n}");
        }
    }
    f.verified(1, 0);
    let builder = batch(&[("a", Some("2"))], Codec::None, f.now.wall_ms);
    let next = builder.producer(1, 0, sequence).transactional().build();
    let info = parse(&next).unwrap();
    let refused = f.log.append(f.now, next.clone(), &info, &mut f.disk.store);
    assert_eq!(refused.unwrap_err().code, ErrorCode::KafkaStorageError);
    assert!(f.compact(1 << 20));
    assert_eq!(f.log.kept().aborted, 2, "those of the active segment");
    let taken = f.log.append(f.now, next, &info, &mut f.disk.store);
    assert!(taken.is_ok(), "{taken:?}");
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn nothing_is_compacted_behind_what_is_undecided() {
    let mut f = fixture();
    let mut sequence = 0;
    f.put(&[("a", Some("1"))]);
    f.put(&[("a", Some("2"))]);
    f.roll();
    writes(&mut f, 1, &mut sequence, &[("a", Some("3"))]);
    f.put(&[("b", Some("1"))]);
    f.put(&[("b", Some("2"))]);
    f.roll();
    assert!(f.compact(1 << 20));
    assert_eq!(f.offsets(), [1, 2, 3, 4]);
    assert!(!f.compact(1 << 20));
    ends(&mut f, 1, false);
    f.settle();
    assert!(f.compact(1 << 20));
    assert_eq!(
        seen(&f, &f.disk.batches()),
        [("a", "2"), ("b", "2")].map(owned).into()
    );
}

/// A pass after the time that tombstones stay: what is left in the end.
fn passes_later(f: &mut Fixture) -> Vec<i64> {
    f.now.wall_ms += CONFIG.delete_retention_ms + 1;
    f.put(&[("last", Some("1"))]);
    f.roll();
    assert!(f.compact(1 << 20));
    f.read_bases(f.log.start_offset().0, 1 << 20)
}

/// Of what cannot be opened nobody knows whether anything is superseded.
#[test]
fn a_marker_stays_as_long_as_what_cannot_be_opened() {
    let mut f = fixture();
    f.verified(1, 0);
    let pairs = [("a", Some("1")), ("b", Some("1"))];
    let builder = batch(&pairs, Codec::Lz4, f.now.wall_ms).producer(1, 0, 0);
    let bad = malformed(builder.transactional());
    let info = parse(&bad).unwrap();
    f.log.append(f.now, bad, &info, &mut f.disk.store).unwrap();
    ends(&mut f, 1, true);
    let mut sequence = 3;
    for _ in 0..2 {
        writes(&mut f, 1, &mut sequence, &[("c", Some("1"))]);
        ends(&mut f, 1, true);
    }
    f.put(&[("c", Some("2"))]);
    f.roll();
    for _ in 0..3 {
        assert_eq!(passes_later(&mut f)[..3], [0, 3, 5]);
    }
    f.delete_records(3).unwrap();
    passes_later(&mut f);
    assert!(!passes_later(&mut f).contains(&5));
}

/// What cannot be opened is none of what was aborted: that goes unopened.
#[test]
fn what_was_aborted_between_batches_that_cannot_be_opened_is_forgotten() {
    let mut f = fixture();
    let mut sequence = 0;
    for _ in 0..2 {
        let bad = malformed(batch(&[("a", Some("1"))], Codec::Lz4, START_MS));
        let info = parse(&bad).unwrap();
        f.log.append(f.now, bad, &info, &mut f.disk.store).unwrap();
        writes(&mut f, 1, &mut sequence, &[("b", Some("1"))]);
        ends(&mut f, 1, false);
    }
    f.roll();
    let aborted = |f: &Fixture| f.log.aborted_between(Offset(0), f.log.end_offset()).len();
    assert_eq!(aborted(&f), 2);
    passes_later(&mut f);
    assert_eq!(aborted(&f), 0);
    f.restart();
    assert_eq!(aborted(&f), 0);
}

/// Neither is opened, and there may be very many.
#[test]
fn aborted_batches_and_ends_of_transactions_are_work() {
    let mut f = fixture();
    let mut sequence = 0;
    writes(&mut f, 1, &mut sequence, &[("b", Some("1"))]);
    ends(&mut f, 1, false);
    f.roll();
    let mut pass = CompactionPass::begin(&f.log, f.now, 1 << 20).unwrap();
    assert_eq!(
        pass.needs(f.now.mono, &f.log),
        PassNeeds::Batches(Offset(0))
    );
    for batch in f.disk.batches() {
        let mut work = 10_000;
        let looked = pass.look(&f.log, &batch, &mut work);
        assert_eq!(looked, Ok(LookedAt::All(None)));
        assert!(work < 10_000);
    }
}

/// A replica that catches up has what a transaction began with, and waits for its end.
#[test]
fn markers_stay_for_a_replica_that_catches_up() {
    let mut f = fixture();
    let mut sequence = 0;
    for commits in [false, true] {
        writes(&mut f, 1, &mut sequence, &[("a", Some("1"))]);
        ends(&mut f, 1, commits);
    }
    f.roll();
    f.log.hold_tombstones(NodeId(1), Offset(1), Mono(5));
    for _ in 0..3 {
        assert_eq!(passes_later(&mut f)[..3], [0, 1, 2]);
    }
    assert_eq!(f.log.tombstones_removed_since(0), None);
    f.now.mono = Mono(5);
    assert_eq!(passes_later(&mut f)[..2], [0, 2]);
    assert_eq!(f.log.tombstones_removed_since(0), Some(Offset(2)));
}

/// A replica that has nothing but the batches knows by it where the epoch began.
#[test]
fn what_an_epoch_begins_with_stays() {
    let mut f = fixture();
    let mut sequence = 0;
    writes(&mut f, 1, &mut sequence, &[("a", Some("1"))]);
    f.log.begin_epoch(LeaderEpoch(2), &mut f.disk.store);
    ends(&mut f, 1, false);
    f.log.begin_epoch(LeaderEpoch(3), &mut f.disk.store);
    for _ in 0..2 {
        writes(&mut f, 1, &mut sequence, &[("a", Some("2"))]);
        ends(&mut f, 1, false);
    }
    f.roll();
    let before = written_epochs(&f.log);
    assert_eq!(before.len(), 3);
    for _ in 0..3 {
        passes_later(&mut f);
        assert_eq!(written_epochs(&f.log), before);
        assert_eq!(epochs_of_batches(&f), before);
    }
    assert_eq!(f.read_bases(0, 1 << 20)[..3], [0, 1, 2]);
    assert!(!f.read_bases(0, 1 << 20).contains(&3));
}

/// Who reads what is committed sees the same of a log and of what compaction makes of it, here, after a restart, and
/// on another replica, which waits for the end of nothing.
#[test]
fn what_is_committed_stays_what_it_was() {
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let mut f = fixture();
        let mut sequences = [0; 3];
        let mut open = [false; 3];
        for step in 0..120 {
            let id = rng.below(3) as usize;
            let key = format!("k{}", rng.below(6));
            let value = format!("v{step}");
            let value = (!rng.chance(1, 5)).then_some(&*value);
            match rng.below(10) {
                0..5 => {
                    writes(&mut f, id as i64, &mut sequences[id], &[(&key, value)]);
                    open[id] = true;
                }
                5..7 => {
                    ends(&mut f, id as i64, rng.chance(1, 2));
                    open[id] = false;
                }
                7 => drop(f.put(&[(&key, value)])),
                8 => f.roll(),
                _ => {
                    f.settle();
                    f.now.wall_ms += 700;
                    let before = seen(&f, &f.disk.batches());
                    f.compact(1 << 20);
                    assert_eq!(
                        seen(&f, &f.disk.batches()),
                        before,
                        "seed {seed}, step {step}"
                    );
                }
            }
        }
        (0..3).for_each(|id| ends(&mut f, id, rng.chance(1, 2)));
        f.roll();
        let before = seen(&f, &f.disk.batches());
        for _ in 0..3 {
            f.now.wall_ms += CONFIG.delete_retention_ms + 1;
            f.put(&[("last", Some("1"))]);
            f.roll();
            f.compact(1 << 20);
        }
        let mut after = seen(&f, &f.disk.batches());
        after.remove("last");
        assert_eq!(after, before, "seed {seed}");
        let state = f.log.state();
        f.restart();
        assert_eq!(f.log.state(), state, "seed {seed}");
        let other = replica(&f);
        assert_eq!(
            other.log.last_stable(),
            other.log.end_offset(),
            "seed {seed}"
        );
        let mut there = seen(&other, &other.disk.batches());
        there.remove("last");
        assert_eq!(there, before, "seed {seed}");
    }
}
