//! Tests of finding offsets and planning fetches.

use super::super::LogConfig;
use super::super::index::Index;
use super::super::testing::{Draft, Fixture, START_MS};
use super::*;

fn fixture(tail_bytes_max: usize) -> Fixture {
    let config = LogConfig {
        segment_bytes: 100_000,
        ..LogConfig::default()
    };
    Fixture::new(config, tail_bytes_max)
}

#[test]
fn offsets_out_of_range() {
    let mut f = fixture(0);
    f.fill(3, 10);
    f.append(&Draft::plain(&[START_MS], 10)).unwrap();
    assert_eq!(f.read(-1, 1000, true), Err(ErrorCode::OffsetOutOfRange));
    assert_eq!(f.read(5, 1000, true), Err(ErrorCode::OffsetOutOfRange));
    assert_eq!(f.read(3, 1000, true), Ok(vec![]), "the high watermark");
    assert_eq!(f.read(4, 1000, true), Ok(vec![]), "the log end");
    f.settle();
    assert_eq!(f.read_bases(3, 1000), [3]);
    f.delete_records(2).unwrap();
    assert_eq!(f.read(1, 1000, true), Err(ErrorCode::OffsetOutOfRange));
}

#[test]
fn an_offset_inside_a_batch_gets_the_batch() {
    let mut f = fixture(0);
    for _ in 0..3 {
        f.append(&Draft::plain(&[START_MS; 10], 10)).unwrap();
    }
    f.settle();
    assert_eq!(f.read_bases(19, 10_000), [10, 20]);
    assert_eq!(f.read_bases(0, 10_000), [0, 10, 20]);
}

#[test]
fn a_larger_batch_elsewhere_makes_no_limit_larger() {
    for tail_bytes_max in [0, 1 << 20] {
        let mut f = fixture(tail_bytes_max);
        f.fill(30, 100);
        f.fill(1, 50_000);
        f.fill(30, 100);
        f.settle();
        for offset in [0, 15, 29, 31] {
            let len = f.read(offset, 1000, true).unwrap().len();
            assert!((100..=1000).contains(&len), "{len} bytes from {offset}");
        }
        assert!(f.read(30, 1000, true).unwrap().len() > 50_000, "the first");
    }
}

#[test]
fn the_first_batch_is_whole_or_absent() {
    let mut f = fixture(0);
    f.fill(4, 1000);
    let one = f.read(0, 1, true).unwrap().len();
    assert!(one > 1000, "whole, though larger than asked for");
    assert_eq!(f.read(1, 500, false), Ok(vec![]));
    assert_eq!(f.read(1, one, false).unwrap().len(), one);
    assert_eq!(f.read(1, one + 9, false).unwrap().len(), one + 9);
    // A larger batch elsewhere makes the length of this one uncertain: it is looked up.
    f.append(&Draft::plain(&[START_MS], 5000)).unwrap();
    f.settle();
    assert_eq!(f.read(2, one, false).unwrap().len(), one);
    assert_eq!(f.read(3, one - 1, false), Ok(vec![]));
    assert_eq!(f.read(0, 0, false), Ok(vec![]));
}

#[test]
fn plans_go_on_in_the_next_segment() {
    let mut f = fixture(0);
    f.fill(300, 1000);
    assert!(f.log.segment_count() > 3);
    let all: Vec<i64> = (0..300).collect();
    assert_eq!(f.read_bases(0, usize::MAX >> 1), all);
    assert_eq!(f.read_bases(93, 20_000)[..15], all[93..108]);
}

#[test]
fn sequential_readers_and_tail_readers_do_not_scan() {
    let mut f = fixture(0);
    f.fill(300, 1000);
    f.file();
    let mut offset = 0;
    while offset < 300 {
        let bases = f.read_bases(offset, 10_000);
        assert!(bases.len() >= 5, "at least half of what was asked for");
        offset = bases.last().unwrap() + 1;
    }
    for _ in 0..5 {
        assert!(f.read_bases(offset, 10_000).is_empty());
        f.fill(3, 100);
        assert_eq!(f.read_bases(offset, 10_000).len(), 3);
        offset += 3;
    }
    assert_eq!(f.scans, 0);
}

#[test]
fn what_is_known_behind_an_offset_are_index_segments_and_end() {
    let config = LogConfig {
        segment_bytes: 300_000,
        ..LogConfig::default()
    };
    let mut f = Fixture::new(config, 0);
    f.fill(700, 1000);
    let mut known = vec![Offset(0)];
    while let Some(&last) = known.last()
        && last < f.log.high_watermark()
    {
        let next = f.log.known_after(last);
        assert!(next > last);
        assert_eq!(f.log.known_after(Offset(next.0 - 1)), next);
        known.push(next);
    }
    assert_eq!(known.last(), Some(&Offset(700)));
    assert!(known.len() > 20, "{known:?}");
    let bases: Vec<Offset> = f.log.segments.iter().map(|s| s.base).collect();
    assert!(bases.len() > 2 && bases.iter().all(|base| known.contains(base)));
}

#[test]
fn a_search_in_the_file_goes_window_by_window() {
    let mut f = Fixture::new(LogConfig::default(), 0);
    f.fill(700, 1000);
    f.file();
    f.log.active_mut().index = Index::default();
    assert_eq!(f.read_bases(690, 1000)[0], 690);
    assert_eq!(f.scans, 3, "700 KiB in windows of 256 KiB");
    assert_eq!(f.read_bases(695, 1000)[0], 695);
    assert_eq!(f.scans, 4, "from where the last search ended");
    assert_eq!(f.read_bases(690, 1000)[0], 690);
    assert_eq!(f.scans, 4);
}

#[test]
fn large_batches_are_passed_by_their_headers() {
    let mut f = Fixture::new(LogConfig::default(), 0);
    f.fill(5, 100_000);
    f.file();
    f.log.active_mut().index = Index::default();
    let found = f.log.read(&f.disk.store, Offset(4), 1000, true).unwrap();
    let ReadOutcome::Scan { pieces, .. } = found else {
        panic!("no scan");
    };
    assert_eq!(pieces.iter().map(Piece::len).sum::<usize>(), 4096);
    assert_eq!(f.read_bases(4, 1000), [4]);
}

#[test]
fn bytes_that_are_no_batches_end_the_search() {
    let mut f = Fixture::new(LogConfig::default(), 0);
    f.fill(100, 1000);
    f.file();
    f.log.active_mut().index = Index::default();
    let found = f.log.read(&f.disk.store, Offset(50), 1000, true).unwrap();
    let ReadOutcome::Scan { pieces, ticket } = found else {
        panic!("no scan");
    };
    let good = f.disk.join(&pieces);
    let mut check = |bytes: &[u8]| f.log.scanned(ticket, bytes);
    assert_eq!(check(&good[1..]), Err(ErrorCode::KafkaStorageError));
    assert_eq!(check(&vec![0; good.len()]), Err(ErrorCode::CorruptMessage));
    let again = f.log.read(&f.disk.store, Offset(50), 1000, true);
    assert_eq!(again.unwrap_err(), ErrorCode::CorruptMessage, "told once");
    assert!(f.log.read(&f.disk.store, Offset(50), 1000, true).is_ok());
    let mut check = |bytes: &[u8]| f.log.scanned(ticket, bytes);
    let mut rotten = good.clone();
    rotten[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    assert_eq!(
        check(&rotten),
        Err(ErrorCode::CorruptMessage),
        "beyond the end"
    );
    let mut rotten = good.clone();
    rotten[..8].copy_from_slice(&(-3i64).to_be_bytes());
    assert_eq!(check(&rotten), Err(ErrorCode::CorruptMessage));
    let second = crate::record::parse(&good).unwrap().len;
    let mut rotten = good.clone();
    rotten[second..second + 8].copy_from_slice(&0i64.to_be_bytes());
    assert_eq!(
        check(&rotten),
        Err(ErrorCode::CorruptMessage),
        "offsets go back"
    );
    assert_eq!(check(&good), Ok(()));
}

#[test]
fn a_first_header_that_has_rotted_is_told_and_no_other() {
    let mut f = fixture(0);
    f.fill(30, 1000);
    f.append(&Draft::plain(&[START_MS], 9000)).unwrap();
    f.fill(20, 1000);
    f.file();
    let sizes = [(0, 1068), (30, 9069)];
    for (offset, len) in sizes {
        f.read(offset, 100, true).unwrap();
        let at = f.log.floor(Reach::Readable, Offset(offset)).unwrap().at;
        let mut pieces = Vec::new();
        f.disk
            .store
            .read(f.log.id, at.segment, at.pos, 1, &mut pieces);
        let [Piece::File { pos: from, .. }] = pieces[..] else {
            panic!("not in the file");
        };
        let good = f.read(offset, len, true).unwrap();
        assert_eq!(crate::record::batches(&good).count(), 1);
        // Of the large batch the part before the CRC is all that can be checked here; its reader
        // checks the rest.
        let bits = if len < 4096 { 8 * len } else { 8 * 21 };
        for bit in (0..bits).filter(|bit| *bit < 8 * 61 || bit % 97 == 0) {
            f.disk.flip(from, bit);
            let read = f.read(offset, len, true);
            f.disk.flip(from, bit);
            f.log.failed_scan = None;
            let crc_alone = len > 4096 && bit >= 8 * 17;
            // A large batch that claims to be shorter, beyond what is looked at, is left to its CRC.
            let shorter = matches!(&read, Ok(bytes) if crate::record::batches(bytes)
                .next().is_some_and(|batch| batch.is_ok_and(|(_, batch)| !crate::record::check_crc(batch))));
            assert!(
                read == Err(ErrorCode::CorruptMessage) || crc_alone || (len > 4096 && shorter),
                "offset {offset}, bit {bit}"
            );
        }
        assert!(f.read(offset, len, true) == Ok(good));
    }
    let mut sound = f.read_bases(0, 1_000_000);
    sound.dedup();
    assert_eq!(sound.len(), 51);
}

#[test]
fn bytes_available_up_to_the_high_watermark() {
    let mut f = fixture(0);
    f.fill(300, 1000);
    let all = f.log.size_bytes();
    assert_eq!(f.log.bytes_available(Offset(0)), all);
    assert_eq!(f.log.bytes_available(Offset(300)), 0);
    assert_eq!(f.log.bytes_available(Offset(301)), 0);
    assert!(f.read(300, 1000, true).unwrap().is_empty());
    let size = f.log.size_bytes();
    f.fill(2, 1000);
    assert_eq!(
        f.log.bytes_available(Offset(300)),
        f.log.size_bytes() - size
    );
    let later = f.log.bytes_available(Offset(150));
    assert!(later < all * 6 / 10 && later > all * 4 / 10);
}

#[test]
fn a_search_reads_no_further_than_the_index_goes_on() {
    let mut f = Fixture::new(LogConfig::default(), 0);
    f.fill(700, 1000);
    f.file();
    let found = f.log.read(&f.disk.store, Offset(401), 1000, true).unwrap();
    let ReadOutcome::Scan { pieces, .. } = found else {
        panic!("no scan");
    };
    let len = pieces.iter().map(Piece::len).sum::<usize>();
    assert!(
        len < 2 * f.log.active_mut().index.interval() as usize,
        "{len}"
    );
    for offset in 0..700 {
        f.log.hints = Hints::default();
        assert_eq!(f.read_bases(offset, 1000), [offset]);
    }
}

/// A slice for each flush.
#[test]
fn a_plan_is_of_a_bounded_number_of_slices() {
    let flushes = 2 * FETCH_PIECES_MAX as i64 + 100;
    let mut f = Fixture::new(LogConfig::default(), 64 << 20);
    for n in 0..flushes {
        f.append(&Draft::plain(&[START_MS], 1)).unwrap();
        f.settle();
        if n % 200 == 199 {
            f.file();
        }
    }
    assert_eq!(f.log.high_watermark(), Offset(flushes));
    let found = f.log.read(&f.disk.store, Offset(1), 1 << 30, true).unwrap();
    let ReadOutcome::Plan { pieces, .. } = found else {
        panic!("it is in memory");
    };
    assert_eq!(pieces.len(), FETCH_PIECES_MAX);
    let (mut next, mut plans) = (1, 0);
    while next < flushes {
        let bases = f.read_bases(next, 1 << 30);
        let end = next + bases.len() as i64;
        assert_eq!(bases, (next..end).collect::<Vec<_>>());
        assert!(end > next, "nothing from {next} on");
        (next, plans) = (end, plans + 1);
    }
    assert_eq!(plans, 3);
}
