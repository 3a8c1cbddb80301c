//! What a leader reads to push it: beyond the high watermark, and never by that more for clients.

use super::index::Index;
use super::testing::{Draft, Fixture, START_MS};
use super::{Log, LogConfig, ReadOutcome, Ticket};
use crate::base::{ErrorCode, Offset};

/// One whose high watermark stands where it is told to.
fn fixture(segment_bytes: u64) -> Fixture {
    let config = LogConfig {
        segment_bytes,
        ..LogConfig::default()
    };
    Fixture::new(config, 0)
}

fn append(f: &mut Fixture, batches: i64) {
    for _ in 0..batches {
        f.append(&Draft::plain(&[START_MS], 1000)).unwrap();
    }
}

/// All that was appended is on the disk.
fn settle(f: &mut Fixture) {
    if let Some(flush) = f.disk.settle() {
        f.log.on_durable(flush);
    }
    f.log.check_live();
}

/// So many batches in flushes of a few, all on the disk and in the file.
fn filed(f: &mut Fixture, batches: i64) {
    for _ in 0..batches / 5 {
        append(f, 5);
        settle(f);
    }
    if let Some(flush) = f.disk.checkpoint(&f.log) {
        f.log.on_durable(flush);
    }
    f.log.check_live();
}

fn scan_of(outcome: ReadOutcome, f: &Fixture) -> (Ticket, Vec<u8>) {
    match outcome {
        ReadOutcome::Scan { pieces, ticket } => (ticket, f.disk.join(&pieces)),
        plan => panic!("no scan: {plan:?}"),
    }
}

fn push(f: &mut Fixture, offset: i64) -> Result<ReadOutcome, ErrorCode> {
    let started = f.disk.store.started_seq();
    f.log
        .read_to_push(&f.disk.store, Offset(offset), 1000, started)
}

#[test]
fn it_goes_as_far_as_flushes_have_begun() {
    let mut f = fixture(1 << 20);
    append(&mut f, 3);
    assert!(f.push_bases(0, 1 << 20).is_empty(), "no flush has it");
    f.disk.start();
    append(&mut f, 2);
    assert_eq!(f.push_bases(0, 1 << 20), [0, 1, 2]);
    assert_eq!(f.push_bases(1, 1), [1], "one, whatever its size");
    assert!(f.push_bases(3, 1 << 20).is_empty());
    f.disk.start();
    assert_eq!(f.push_bases(3, 1 << 20), [3, 4]);
    settle(&mut f);
    append(&mut f, 1);
    assert_eq!(f.push_bases(0, 1 << 20), [0, 1, 2, 3, 4]);
    assert!(f.push_bases(6, 1 << 20).is_empty(), "the log end");
    assert_eq!(f.push(7, 1000), Err(ErrorCode::OffsetOutOfRange));
    assert_eq!(f.push(-1, 1000), Err(ErrorCode::OffsetOutOfRange));
    assert!(f.read_bases(0, 1 << 20).is_empty(), "no client may");
    f.log.raise_high_watermark(Offset(5));
    assert_eq!(f.read_bases(3, 1 << 20), [3, 4]);
}

#[test]
fn one_that_keeps_up_needs_no_scan_and_takes_no_hint_of_clients() {
    let mut f = fixture(30_000);
    filed(&mut f, 100);
    f.log.raise_high_watermark(Offset(50));
    assert_eq!(f.read_bases(33, 1000), [33]);
    let scans = f.scans;
    for offset in 100..300 {
        append(&mut f, 1);
        f.disk.start();
        assert_eq!(f.push_bases(offset, 1 << 20), [offset]);
        settle(&mut f);
    }
    assert!(f.log.segment_count() > 8);
    assert_eq!(f.read_bases(33, 1000), [33]);
    assert_eq!(f.scans, scans);
}

/// What a search beyond the high watermark finds makes no client's read longer, nor one that is farther.
#[test]
fn what_it_finds_in_the_file_is_no_clients() {
    for segment_bytes in [30_000, 1 << 20] {
        let mut f = fixture(segment_bytes);
        filed(&mut f, 200);
        f.log.raise_high_watermark(Offset(100));
        for segment in &mut f.log.segments {
            segment.index = Index::default();
        }
        let all: Vec<i64> = (0..200).collect();
        for offset in [99, 100, 101, 150, 199, 13] {
            let n = offset as usize;
            assert_eq!(f.push_bases(offset, 1 << 20), all[n..]);
            assert_eq!(f.read_bases(99, 1 << 20), [99]);
            assert!(f.read_bases(100, 1 << 20).is_empty());
            assert!(f.read_bases(offset.max(100), 1 << 20).is_empty());
            assert_eq!(f.log.known_after(Offset(99)), Offset(100));
        }
        assert!(f.scans > 0);
        assert_eq!(f.read_bases(0, 1 << 20), all[..100]);
    }
}

/// The bytes come when what the read was to end at, or what it looked for, is cut off.
#[test]
fn a_scan_of_what_is_cut_off_says_nothing() {
    for (cut, looked_for) in [(150, 190), (199, 190), (150, 100)] {
        let mut f = fixture(1 << 20);
        filed(&mut f, 200);
        f.log.active_mut().index = Index::default();
        let outcome = push(&mut f, looked_for).unwrap();
        let (ticket, bytes) = scan_of(outcome, &f);
        assert_eq!(f.truncate(cut), Ok(cut));
        append(&mut f, 100);
        settle(&mut f);
        assert_eq!(f.log.scanned(ticket, &bytes), Ok(()));
        assert_eq!(f.log.push_hints.iter().count(), 0);
        let all: Vec<i64> = (looked_for..cut + 100).collect();
        assert_eq!(f.push_bases(looked_for, 1 << 20), all);
        f.log.check_live();
    }
}

#[test]
fn hints_of_what_is_cut_off_or_dropped_go() {
    let mut f = fixture(30_000);
    filed(&mut f, 100);
    append(&mut f, 10);
    f.disk.start();
    for offset in 80..110 {
        f.push_bases(offset, 1000);
    }
    assert!(f.log.push_hints.iter().count() > 20);
    assert_eq!(f.truncate(90), Ok(90));
    append(&mut f, 3);
    f.disk.start();
    assert_eq!(f.push_bases(85, 1 << 20), (85..93).collect::<Vec<_>>());
    f.log.start_over(f.now, Offset(500), &mut f.disk.store);
    assert_eq!(f.log.push_hints.iter().count(), 0);
    append(&mut f, 2);
    assert!(f.push_bases(500, 1000).is_empty());
    settle(&mut f);
    assert_eq!(f.push_bases(500, 1 << 20), [500, 501]);
    f.log.raise_high_watermark(Offset(502));
    let store = &mut f.disk.store;
    f.log.delete_records(f.now, Offset(502), store).unwrap();
    f.log.check_live();
}

/// Who asked for bytes that are no good is told, and nobody else.
#[test]
fn what_has_rotted_is_told_to_who_asked() {
    let mut f = fixture(1 << 20);
    filed(&mut f, 200);
    f.log.raise_high_watermark(Offset(100));
    f.log.active_mut().index = Index::default();
    let outcome = push(&mut f, 50).unwrap();
    let (ticket, bytes) = scan_of(outcome, &f);
    let rotten = vec![0; bytes.len()];
    let failed = |log: &mut Log| assert!(log.scanned(ticket, &rotten).is_err());
    failed(&mut f.log);
    assert_eq!(push(&mut f, 50).unwrap_err(), ErrorCode::CorruptMessage);
    failed(&mut f.log);
    assert_eq!(f.read_bases(50, 1000), [50]);
    failed(&mut f.log);
    // As far as more has been flushed: it is the same search.
    append(&mut f, 1);
    f.disk.start();
    assert_eq!(push(&mut f, 50).unwrap_err(), ErrorCode::CorruptMessage);
    assert_eq!(f.push_bases(50, 1000), [50]);
}
