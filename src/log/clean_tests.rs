//! What compaction does with logs that are out of the ordinary.

use bytes::Bytes;

use super::TimeLookup;
use super::compaction::CompactionPass;
use super::compaction_tests::{batch, epochs_of_batches, fixture, with_segments, written_epochs};
use super::testing::{Fixture, START_MS};
use crate::base::limits::VALIDATION_SLICE_WORK;
use crate::base::{LeaderEpoch, Mono, NodeId, Offset, SegmentId};
use crate::record::{self, BatchBuilder, Codec, parse};

/// A replica that has nothing but the batches knows where each epoch began, or it would not cut off what an older one
/// has written there.
#[test]
fn the_first_batch_of_an_epoch_stays_emptied() {
    let mut f = fixture();
    f.put(&[("a", Some("1"))]);
    f.log.begin_epoch(LeaderEpoch(2), &mut f.disk.store);
    f.put(&[("b", Some("1"))]);
    f.put(&[("b", Some("2"))]);
    f.log.begin_epoch(LeaderEpoch(3), &mut f.disk.store);
    f.put(&[("b", Some("3"))]);
    f.roll();
    f.put(&[("b", Some("4"))]);
    f.roll();
    let before = written_epochs(&f.log);
    assert_eq!(before.len(), 3);
    for offsets in [[0, 4], [0, 5]] {
        assert!(f.compact(1 << 20));
        assert_eq!(f.offsets(), offsets);
        assert_eq!(written_epochs(&f.log), before);
        assert_eq!(epochs_of_batches(&f), before);
        f.restart();
        f.put(&[("b", Some("5"))]);
        f.roll();
    }
    let all = f.disk.batches();
    let all = all
        .iter()
        .map(|b| parse(b).unwrap())
        .map(|it| (it.base_offset, it.records));
    assert_eq!(
        all.collect::<Vec<_>>(),
        [(0, 1), (1, 0), (3, 0), (5, 1), (6, 1)]
    );
}

/// The log starts inside of the first batch of an epoch: that is where it begins to be known.
#[test]
fn the_batch_in_which_the_log_starts_stays_emptied() {
    let mut f = fixture();
    f.log.begin_epoch(LeaderEpoch(2), &mut f.disk.store);
    f.put(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
    f.log.begin_epoch(LeaderEpoch(3), &mut f.disk.store);
    f.put(&[("d", Some("1"))]);
    f.put(&[("a", Some("2")), ("b", Some("2")), ("c", Some("2"))]);
    f.roll();
    f.delete_records(1).unwrap();
    assert!(f.compact(1 << 20));
    let first = parse(&f.disk.batches()[0]).unwrap();
    assert_eq!(
        (first.base_offset, first.records, first.leader_epoch),
        (0, 0, 2)
    );
}

#[test]
fn a_log_that_starts_in_a_gap_behind_its_last_batch_is_compacted() {
    let mut f = with_segments(170, 0);
    f.put(&[("x", Some("1"))]);
    f.put(&[("a", Some("1"))]);
    f.put(&[("a", Some("2"))]);
    f.put(&[("y", Some("1"))]);
    f.roll();
    assert_eq!(f.log.segment_count(), 3);
    assert!(f.compact(1 << 20));
    assert_eq!((f.offsets(), f.log.segment_count()), (vec![0, 2, 3], 3));
    assert_eq!(f.delete_records(1), Ok(1));
    f.put(&[("y", Some("2"))]);
    f.roll();
    assert!(
        f.compact(1 << 20),
        "the group of which nothing is left is no obstacle"
    );
    assert_eq!(f.offsets(), [0, 2, 4]);
    assert!(!f.compact(1 << 20), "nothing is dirty");
    assert_eq!(f.log.start_offset(), Offset(1));
}

/// All that there is to clean lies before the log's start.
#[test]
fn a_log_of_which_nothing_is_left_to_clean_is_clean() {
    let mut f = with_segments(170, 0);
    f.put(&[("x", Some("1"))]);
    f.put(&[("a", Some("1"))]);
    f.put(&[("a", Some("2"))]);
    f.put(&[("y", Some("1"))]);
    f.roll();
    assert!(f.compact(1 << 20));
    let (segments, end) = (f.log.segment_count(), f.log.end_offset());
    f.restart();
    let marks = f.log.clean_marks;
    // As if the first segment had never been cleaned.
    f.log.clean_marks.cleaned = Offset(0);
    f.delete_records(1).unwrap();
    f.compact(1 << 20);
    f.compact(1 << 20);
    assert!(!f.compact(1 << 20), "nothing is dirty");
    assert_eq!((f.log.segment_count(), f.log.end_offset()), (segments, end));
    assert_eq!(f.log.clean_marks, marks);
}

pub(super) fn malformed(builder: BatchBuilder) -> Bytes {
    let mut bad = builder.build().to_vec();
    // One more record than there is.
    bad[60] += 1;
    bad[26] += 1;
    record::set_create_time(&mut bad);
    assert!(record::check_crc(&bad));
    bad.into()
}

/// Produce takes large batches unopened.
#[test]
fn a_malformed_batch_stays_as_it_is_and_the_rest_is_compacted() {
    let mut f = fixture();
    let pairs = [("a", Some("1")), ("m", Some("1"))];
    let bad = malformed(batch(&pairs, Codec::Lz4, START_MS));
    let info = parse(&bad).unwrap();
    f.log.append(f.now, bad, &info, &mut f.disk.store).unwrap();
    f.put(&[("b", Some("1"))]);
    f.put(&[("a", None)]);
    f.roll();
    let batches = |f: &Fixture| {
        let all = f.disk.batches();
        all.iter()
            .map(|b| parse(b).map(|b| (b.base_offset, b.records)).unwrap())
            .collect::<Vec<_>>()
    };
    for _ in 0..3 {
        f.put(&[("b", Some("2"))]);
        f.roll();
        assert!(f.compact(1 << 20));
        f.restart();
        f.now.wall_ms += 2000;
    }
    assert_eq!(batches(&f), [(0, 3), (4, 1), (7, 1)], "the tombstone stays");
    // When it is gone there is nothing older any more.
    f.delete_records(3).unwrap();
    f.put(&[("b", Some("2"))]);
    f.roll();
    assert!(f.compact(1 << 20));
    assert_eq!(batches(&f), [(8, 1)]);
}

#[test]
fn a_batch_that_compaction_has_emptied_is_at_no_time() {
    let mut f = fixture();
    let idempotent =
        |later_ms| batch(&[("a", Some("1"))], Codec::None, START_MS + later_ms).producer(9, 0, 0);
    f.produce(idempotent(10));
    f.roll();
    f.now.wall_ms += 5;
    f.put(&[("a", Some("2"))]);
    f.roll();
    assert!(f.compact(1 << 20));
    assert_eq!((f.offsets(), f.disk.batches().len()), (vec![1], 2));
    for _ in 0..2 {
        assert_eq!(f.time(START_MS), Some((1, START_MS + 5)));
        assert_eq!(f.time(START_MS + 6), None);
        assert_eq!(f.max_time(), Some((1, START_MS + 5)));
        f.restart();
    }
}

/// A lookup that waits for a batch to be opened goes on where its segment was replaced.
#[test]
fn a_lookup_survives_that_its_segment_is_replaced() {
    let mut f = with_segments(1 << 20, 0);
    let mut large = batch(&[("a", Some("1"))], Codec::Lz4, START_MS + 50);
    for n in 0..3 {
        let value = vec![n; 300_000];
        large.push(START_MS, Some(&[n]), Some(&value), &[]);
    }
    f.produce(large);
    f.put(&[("x", Some("1"))]);
    f.now.wall_ms += 60;
    f.put(&[("b", Some("1"))]);
    f.roll();
    f.put(&[("x", Some("2"))]);
    f.roll();
    f.delete_records(1).unwrap();
    let opening = {
        let store = &f.disk.store;
        let mut work = VALIDATION_SLICE_WORK;
        match f
            .log
            .offset_for_time(store, START_MS + 20, &mut work)
            .unwrap()
        {
            TimeLookup::Open(opening) => Some(opening),
            TimeLookup::Scan { pieces, ticket } => {
                let bytes = f.disk.join(&pieces);
                f.log.scanned(ticket, &bytes).unwrap();
                match f
                    .log
                    .offset_for_time(store, START_MS + 20, &mut work)
                    .unwrap()
                {
                    TimeLookup::Open(opening) => Some(opening),
                    _ => None,
                }
            }
            _ => None,
        }
    };
    let mut opening = opening.expect("it takes more than a moment");
    while !opening.go_on(1 << 16) {}
    assert!(f.compact(1 << 20));
    f.log.opened(&opening);
    assert_eq!(f.time(START_MS + 20), Some((5, START_MS + 60)));
}

/// A replica that catches up has what a tombstone deletes, and has not come to that tombstone.
#[test]
fn tombstones_stay_for_a_replica_that_catches_up() {
    let mut f = fixture();
    f.put(&[("a", Some("1")), ("b", Some("1"))]);
    f.put(&[("a", None)]);
    f.put(&[("b", None)]);
    f.roll();
    assert!(f.compact(1 << 20));
    f.log.hold_tombstones(NodeId(1), Offset(3), Mono(5));
    f.now.wall_ms += 2000;
    let pass = |f: &mut Fixture| {
        f.put(&[("x", Some("1"))]);
        f.roll();
        assert!(f.compact(1 << 20));
        f.offsets()
    };
    assert_eq!(pass(&mut f), [3, 4]);
    assert_eq!(f.log.tombstones_removed_since(0), Some(Offset(3)));
    f.now.mono = Mono(5);
    assert_eq!(pass(&mut f), [5]);
    assert_eq!(f.log.tombstones_removed_since(1), Some(Offset(4)));
    assert_eq!(f.log.tombstones_removed_since(2), None);
}

/// It begins to catch up when a pass is on its way.
#[test]
fn tombstones_that_a_pass_comes_to_later_stay_for_a_replica() {
    for (begins, stay) in [(false, false), (true, true)] {
        let mut f = with_segments(100, 0);
        f.put(&[("x", Some("1"))]);
        f.put(&[("a", None)]);
        f.roll();
        assert!(f.compact(1 << 20));
        f.now.wall_ms += 2000;
        f.put(&[("y", Some("1"))]);
        f.roll();
        let mut pass = CompactionPass::begin(&f.log, f.now, 1 << 20).unwrap();
        assert!(f.compacts_group(&mut pass));
        if begins {
            f.log.hold_tombstones(NodeId(1), Offset(0), Mono::NEVER);
        }
        while f.compacts_group(&mut pass) {}
        f.settle();
        assert_eq!(f.offsets().contains(&1), stay);
    }
}

/// A new active segment that has this number.
fn roll_to(f: &mut Fixture, id: u64) {
    let (id, end, wall_ms) = (SegmentId(id), f.log.end_offset(), f.now.wall_ms);
    f.disk.store.roll(f.log.id(), id, end);
    f.log.start_segment(id, end, wall_ms);
    f.settle();
}

fn ids(f: &Fixture) -> Vec<u64> {
    f.log.segments.iter().map(|segment| segment.id.0).collect()
}

/// When all numbers behind a segment are used up, those before it have their turn again.
#[test]
fn numbers_of_segments_do_not_end() {
    let mut f = with_segments(170, 0);
    f.put(&[("x", Some("1"))]);
    roll_to(&mut f, (1 << 16) - 2);
    f.put(&[("p", Some("1"))]);
    f.put(&[("q", Some("1"))]);
    f.roll();
    f.delete_records(1).unwrap();
    assert_eq!(ids(&f), [(1 << 16) - 2, 1 << 16]);
    let mut seen = Vec::new();
    for n in 0..6 {
        f.put(&[("a", Some("1"))]);
        f.put(&[("b", Some("1"))]);
        f.roll();
        assert!(f.compact(1 << 20));
        f.file();
        if n % 2 == 1 {
            f.restart();
        }
        seen.push(ids(&f)[0]);
        assert_eq!(f.offsets()[..2], [1, 2]);
    }
    assert_eq!(seen, [(1 << 16) - 1, 0, 1, 2, 3, 4]);
}

/// Segments of builds before compaction have numbers that follow each other.
#[test]
fn segments_without_numbers_between_are_left_and_the_others_compacted() {
    let mut f = with_segments(170, 0);
    for id in 1..4 {
        f.put(&[("a", Some("1"))]);
        f.put(&[("k", Some("1"))]);
        roll_to(&mut f, id);
    }
    assert!(f.compact(1 << 20));
    assert!(!f.compact(1 << 20), "it is gone through");
    assert_eq!(f.offsets(), [0, 1, 2, 3, 4, 5]);
    for _ in 0..3 {
        f.put(&[("a", None)]);
        f.put(&[("k", Some("1"))]);
        f.roll();
    }
    assert_eq!(ids(&f), [0, 1, 2, 3, 1 << 16, 2 << 16, 3 << 16]);
    for _ in 0..3 {
        f.put(&[("b", Some("1"))]);
        f.roll();
        f.now.wall_ms += 2000;
        // All of them together have less than a segment may have, so they are one in the end.
        assert!(f.compact(1 << 20));
        f.restart();
    }
    assert!(ids(&f)[0] > 3, "{:?}", ids(&f));
    assert_eq!(f.offsets(), [11, 14]);
}
