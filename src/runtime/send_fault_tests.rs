//! The sender where the disk, the page cache or the client do not do what they should.

use super::super::super::budget::{Grant, Waiter};
use super::super::super::frame::FrameReader;
use super::*;
use crate::base::limits::SMALL_REQUEST_BYTES_MAX;
use crate::store::{BEGINNING_BYTES, Beginning};

/// Fails one operation in so many of a kind.
fn failing(
    every: usize,
    is_it: impl Fn(&Op) -> bool + 'static,
    how: Result<usize, i32>,
) -> Box<Meddle> {
    let mut count = 0;
    Box::new(move |op, result| {
        if is_it(op) {
            count += 1;
            if count % every == 0 {
                *result = how;
            }
        }
    })
}

fn is_load(op: &Op) -> bool {
    matches!(op, Op::Load { .. })
}

/// What is brought into the page cache is asked for, and waited for.
fn is_filling(op: &Op) -> bool {
    matches!(op, Op::Advise { .. } | Op::Read { .. })
}

/// Its connection has ended, with one line about it, after a part of what was right; nothing is held any more.
fn ended(bench: &mut Bench, expected: &[u8]) {
    let (got, _) = bench.send_all(0);
    assert!(got.len() < expected.len() && expected.starts_with(&got));
    assert!(bench.sender.conn().is_closing());
    assert_eq!(bench.shared.unreadable.lines(), 1);
    assert_eq!(bench.disk.held_bytes(), 0);
    assert_eq!((bench.sender.ahead, bench.sender.files), (0, 0));
    assert!(bench.disk.may_load(ConnId(1), false) > 0);
}

#[test]
fn what_is_missing_of_a_short_read_is_read_once_more() {
    let mut bench = Bench::new(true);
    let range = bench.piece(10, 600_000);
    bench.reply(vec![range]);
    bench.meddle = failing(2, is_load, Ok(BLOCK));
    let expected = bench.content.slice(10..600_010);
    let (got, operations) = bench.run(0);
    assert!(got == expected);
    assert!(operations.matches('l').count() > 3, "{operations}");
}

#[test]
fn what_cannot_be_read_ends_the_connection() {
    for how in [Err(libc::EIO), Err(libc::ENOMEM), Err(libc::EAGAIN), Ok(0)] {
        let mut bench = Bench::new(true);
        let range = bench.piece(0, 1_000_000);
        bench.reply(vec![Piece::Memory("head".into()), range]);
        bench.meddle = failing(3, is_load, how);
        let expected = [b"head", &bench.content[..1_000_000]].concat();
        ended(&mut bench, &expected);
    }
}

/// For whatever reason, and whatever the system has brought in all the same.
#[test]
fn what_the_page_cache_does_not_take_is_read_past_it() {
    let faults = [Err(libc::EIO), Err(libc::ENOMEM), Err(libc::EAGAIN), Ok(0)];
    for (how, every) in faults.into_iter().flat_map(|how| [(how, 1), (how, 3)]) {
        let Some((mut bench, pin)) = caching() else {
            return;
        };
        let is_read = |op: &Op| matches!(op, Op::Read { .. });
        bench.meddle = match how {
            Ok(_) => failing(every, is_read, how),
            Err(_) => failing(every, is_filling, how),
        };
        bench.reply(vec![Bench::chunk_piece(&pin, 4097, 3_000_000)]);
        let expected = bench.content.slice(4097..3_004_097);
        let (got, _, reads) = bench.run_counting(0);
        assert!(got == expected, "{how:?}");
        assert_eq!(reads.past + reads.sent, 3_000_000, "{how:?}");
        assert_eq!((reads.past > 0, reads.sent > 0), (true, every > 1));
    }
}

#[test]
fn what_neither_of_them_gives_ends_the_connection() {
    let Some((mut bench, pin)) = caching() else {
        return;
    };
    bench.meddle = failing(1, |op| is_filling(op) || is_load(op), Err(libc::EIO));
    bench.reply(vec![Bench::chunk_piece(&pin, 0, 3_000_000)]);
    let expected = bench.content.slice(..3_000_000);
    ended(&mut bench, &expected);
    assert!(!pin.is_held());
}

/// It has less than what is in the page cache and waits for the client.
#[test]
fn a_file_that_has_been_cut_meanwhile_ends_the_connection() {
    let Some((mut bench, pin)) = caching() else {
        return;
    };
    bench.reply(vec![Bench::chunk_piece(&pin, 0, 4_000_000)]);
    bench.until_socket_is_full(&mut String::new());
    let mut options = std::fs::OpenOptions::new();
    let path = StoreFile::path(bench.dir.path(), STORE);
    let file = options.write(true).open(path).expect("the store");
    file.set_len(2 * CELL as u64).expect("cut");
    let expected = bench.content.slice(..4_000_000);
    ended(&mut bench, &expected);
    assert!(!pin.is_held());
}

/// A piece that begins with a header which was looked at.
fn begins(pin: &ChunkPin, pos: u64, len: usize, header: &[u8]) -> Piece {
    let begins: Beginning = header[..BEGINNING_BYTES].try_into().expect("a header");
    match Bench::chunk_piece(pin, pos, len) {
        Piece::File {
            store,
            pos,
            len,
            pin,
            begins: _,
        } => Piece::File {
            store,
            pos,
            len,
            pin,
            begins: Some(Box::new(begins)),
        },
        memory @ Piece::Memory(_) => memory,
    }
}

#[test]
fn what_begins_as_it_should_is_sent_from_the_page_cache() {
    // Also where what is sent at first ends within the header.
    for pos in [100, CELL - 10, CELL - BLOCK - 10] {
        let Some((mut bench, pin)) = caching() else {
            return;
        };
        let expected = bench.content.slice(pos..5 * CELL);
        let len = expected.len();
        bench.reply(vec![begins(&pin, pos as u64, len, &expected)]);
        let (got, _, reads) = bench.run_counting(0);
        assert!(got == expected);
        let sent = reads.sent as usize;
        assert_eq!((sent, reads.unclean, reads.gone), (len, 0, 0));
    }
}

/// As if a page of before were there. None of that chunk is believed any more.
#[test]
fn what_does_not_begin_as_it_should_is_read_past_the_page_cache() {
    for bit in [0, 8 * BEGINNING_BYTES - 1] {
        let Some((mut bench, pin)) = caching() else {
            return;
        };
        let mut header = bench.content[100..200].to_vec();
        header[bit / 8] ^= 1 << (bit % 8);
        bench.reply(vec![begins(&pin, 100, 1 << 20, &header)]);
        bench.reply(vec![Bench::chunk_piece(&pin, 2 << 20, 1 << 20)]);
        let ranges = [100..100 + (1 << 20), 2 << 20..3 << 20];
        let expected = ranges.map(|range| bench.content.slice(range)).concat();
        let (got, _, reads) = bench.run_counting(0);
        assert!(got == expected);
        assert_eq!((reads.past, reads.sent, reads.unclean), (2 << 20, 0, 1));
        assert_eq!(pin.trust(), Trust::Stale);
    }
}

/// The client takes so many bytes while the sender has its turns.
fn take(bench: &mut Bench, bytes: usize) {
    let mut client = bench.client.try_clone().expect("a second handle");
    let reader = std::thread::spawn(move || client.read_exact(&mut vec![0; bytes]));
    while !reader.is_finished() {
        bench.turn(&mut String::new());
        bench.ring.wait_until(sys::mono().plus_ms(1));
    }
    let taken = reader.join().expect("reader");
    taken.expect("so much is sent");
}

/// However little is sent at a time beside what its client takes between two looks.
#[test]
fn who_takes_a_long_reply_is_seen_to_take_it() {
    for by_cache in [false, true] {
        let Some((mut bench, pin)) = caching() else {
            return;
        };
        let part = match by_cache {
            true => Bench::chunk_piece(&pin, 0, 4_000_000),
            false => Piece::Memory(bench.content.slice(..4_000_000)),
        };
        bench.shared = Shared::new(1 << 20, Budget::new(Pool::new(2 << 20, 1)));
        bench.shared.now.set(Mono(0));
        let frames = FrameReader::new(1 << 20);
        for _ in 0..2 {
            let frame = vec![0; SMALL_REQUEST_BYTES_MAX + 1].into();
            let (conn, shared) = (bench.sender.conn(), &bench.shared);
            conn.admit(&frames, frame, Grant::Shared, shared);
        }
        bench.reply(vec![part; 10]);
        let other = Waiter::new(ConnId(2));
        bench.shared.budget.wait(&other, Mono(0));
        for second in 1..=20 {
            take(&mut bench, 1_500_000);
            let now = Mono(0).plus_ms(second * 1000);
            bench.shared.now.set(now);
            bench.sender.stalled(now);
            assert!(bench.shared.budget.is_short());
            let overdue = bench.shared.overdue(bench.sender.conn(), u64::MAX);
            assert_eq!(overdue, None, "after {second} s, by cache: {by_cache}");
        }
    }
}

#[test]
fn a_pause_is_not_the_pace_of_a_client() {
    let Some((mut bench, pin)) = caching() else {
        return;
    };
    bench.shared.now.set(Mono(0));
    let own = Piece::Memory(vec![1; 8_000_000].into());
    let cached = Bench::chunk_piece(&pin, 0, 4_000_000);
    bench.reply(vec![cached.clone(), cached, own]);
    bench.until_socket_is_full(&mut String::new());
    let at = |ms| Mono(0).plus_ms(ms);
    assert_eq!(bench.sender.stalled(at(0)), None);
    bench.shared.now.set(at(900));
    take(&mut bench, 5_000_000);
    bench.until_socket_is_full(&mut String::new());
    assert_eq!(bench.sender.stalled(at(1000)), None);
    assert_eq!(bench.sender.stalled(at(2000)), None, "5 MB in two seconds");
    let stalled = bench.sender.stalled(at(3000)).expect("and then nothing");
    assert_eq!(stalled.own, 8_000_000);
    assert!(stalled.drain_ms > STALLED_DRAIN_MS_MIN);
}
