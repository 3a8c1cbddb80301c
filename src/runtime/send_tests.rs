//! The sender on real sockets and files, without a pump.

#[path = "send_fault_tests.rs"]
mod faults;

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use bytes::Bytes;

use super::super::brain::scratch;
use super::super::budget::{Budget, Pool};
use super::super::cached::is_coherent;
use super::super::disk::{CachedFiles, StoreFile};
use super::*;
use crate::base::{BLOCK, Mono, PageBuf, StoreId};
use crate::broker::ConnId;
use crate::broker::trace::DiskReads;
use crate::config::PageCacheReads;
use crate::store::{ChunkPin, DiskOp, IoId, Trust};

const STORE: StoreId = StoreId(0);
const FILE_BYTES: usize = 8 << 20;
const CHUNK_BYTES: usize = 4 << 20;
/// What is read of a chunk by who looks first.
const LOOKED: usize = 64 << 10;

struct Bench {
    dir: tempfile::TempDir,
    content: Bytes,
    disk: Disk,
    shared: Shared,
    ring: Ring<Tag>,
    /// Kept open; the sender only has its number.
    socket: TcpStream,
    sender: Sender,
    client: TcpStream,
    /// What is done about an operation that has ended, before it is told.
    meddle: Box<Meddle>,
}

type Meddle = dyn FnMut(&Op, &mut Result<usize, i32>);

impl Bench {
    fn new(direct: bool) -> Self {
        Self::with(direct, PageCacheReads::Auto)
    }

    fn with(direct: bool, setting: PageCacheReads) -> Self {
        let dir = scratch();
        let mut pages = PageBuf::zeroed(FILE_BYTES);
        for (i, byte) in pages.as_mut_bytes().iter_mut().enumerate() {
            *byte = (i ^ (i >> 8) ^ (i >> 16)) as u8;
        }
        let content = pages.freeze();
        let data = content.clone();
        let write = DiskOp::Write {
            id: IoId(0),
            pos: 0,
            data,
            background: false,
            through: false,
        };
        let files = CachedFiles::new(1);
        let file = StoreFile::create(STORE, dir.path(), direct, &[write]).expect("a store");
        file.publish(&StoreFile::path(dir.path(), STORE), &files)
            .expect("readable");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let client = TcpStream::connect(address).expect("connected");
        let (socket, _) = listener.accept().expect("accepted");
        let peer = SocketAddr::from(([192, 0, 2, 1], 1234));
        let conn = Rc::new(Conn::new(ConnId(1), socket.as_raw_fd(), peer, Mono(0)));
        Self {
            dir,
            content,
            disk: Disk::new(files, setting),
            shared: Shared::new(1000, Budget::new(Pool::new(1000, 1))),
            ring: Ring::new().expect("a ring"),
            socket,
            sender: Sender::new(conn),
            client,
            meddle: Box::new(|_, _| {}),
        }
    }

    fn piece(&self, pos: u64, len: usize) -> Piece {
        Piece::File {
            store: STORE,
            pos,
            len,
            pin: ChunkPin::default(),
            begins: None,
        }
    }

    /// A piece of the chunk that is the first half of the file.
    fn chunk_piece(pin: &ChunkPin, pos: u64, len: usize) -> Piece {
        assert!(pos as usize + len <= CHUNK_BYTES);
        Piece::File {
            store: STORE,
            pos,
            len,
            pin: pin.clone(),
            begins: None,
        }
    }

    /// Without O_DIRECT.
    fn file(&self) -> std::fs::File {
        std::fs::File::open(StoreFile::path(self.dir.path(), STORE)).expect("the store")
    }

    fn reply(&mut self, pieces: Vec<Piece>) {
        self.sender.reply(pieces, &self.shared);
    }

    /// One turn of a pump.
    fn turn(&mut self, operations: &mut String) {
        while let Some(mut done) = self.ring.reap() {
            (self.meddle)(&done.op, &mut done.result);
            match done.tag {
                Tag::Load(_, id) => {
                    operations.push('l');
                    let blocks = self.disk.on_loaded(done.op, done.result);
                    self.sender.on_loaded(id, blocks, &self.shared);
                }
                Tag::Cache(id) => {
                    let ended = self
                        .disk
                        .on_cached(id, done.op, done.result, &mut self.ring);
                    if let Some((_, id, there)) = ended {
                        operations.push('c');
                        self.sender.on_cached(id, there);
                    }
                }
                _ => {
                    operations.push('s');
                    let (op, result) = (done.op, done.result);
                    self.sender
                        .on_done(op, result, &self.shared, &mut self.ring);
                }
            }
        }
        self.sender
            .advance(&mut self.disk, &self.shared, &mut self.ring);
        self.ring.submit();
    }

    /// Goes on until what is to be sent is in the page cache as far as may be, and waits for the client.
    fn until_socket_is_full(&mut self, operations: &mut String) {
        let client = socket2::SockRef::from(&self.client);
        client.set_recv_buffer_size(65536).expect("a small buffer");
        let socket = socket2::SockRef::from(&self.socket);
        socket.set_send_buffer_size(65536).expect("a small buffer");
        while self.sender.sending.is_none()
            || self.sender.loading > 0
            || self.sender.ahead < CONN_READ_AHEAD_BYTES_MAX
        {
            self.turn(operations);
            self.ring.wait_until(sys::mono().plus_ms(1));
        }
    }

    /// Sends the beginning of a chunk, and goes on until it is known whether the page cache may be believed about it.
    fn until_looked(&mut self, pin: &ChunkPin) {
        self.reply(vec![Self::chunk_piece(pin, 0, LOOKED)]);
        while !self.sender.is_done() || pin.trust() == Trust::Looking {
            self.turn(&mut String::new());
            self.ring.wait_until(sys::mono().plus_ms(1));
        }
        let mut got = vec![0; LOOKED];
        self.client.read_exact(&mut got).expect("sent");
        assert!(got == self.content[..LOOKED]);
    }

    /// Sends everything queued while a client reads it; what the client got, and which kinds of
    /// operations went through the ring.
    fn run(mut self, delay_ms: u64) -> (Vec<u8>, String) {
        self.send_all(delay_ms)
    }

    /// The same, and how the disk was read.
    fn run_counting(mut self, delay_ms: u64) -> (Vec<u8>, String, DiskReads) {
        let (got, operations) = self.send_all(delay_ms);
        (got, operations, self.disk.reads())
    }

    fn send_all(&mut self, delay_ms: u64) -> (Vec<u8>, String) {
        let mut client = self.client.try_clone().expect("a second handle");
        let reader = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(delay_ms));
            let mut got = Vec::new();
            client.read_to_end(&mut got).expect("all of it");
            got
        });
        self.sender.close_when_sent();
        let mut operations = String::new();
        loop {
            self.turn(&mut operations);
            if self.sender.is_done() {
                break;
            }
            self.ring.wait();
        }
        (reader.join().expect("reader"), operations)
    }
}

#[test]
fn a_range_is_read_in_parts_and_sent_in_order() {
    for direct in [true, false] {
        let mut bench = Bench::new(direct);
        let range = bench.piece(4097, 6_000_000);
        bench.reply(vec![
            Piece::Memory("head".into()),
            range,
            Piece::Memory("tail".into()),
        ]);
        let expected = [b"head", &bench.content[4097..6_004_097], b"tail"].concat();
        let (got, operations) = bench.run(20);
        assert!(got == expected);
        assert_eq!(operations.matches('l').count(), 23, "{operations}");
    }
}

#[test]
fn short_ranges_are_read_together() {
    let mut bench = Bench::new(true);
    let mut expected = Vec::new();
    for i in 0..20usize {
        let range = bench.piece(i as u64 * 1000, 4000);
        bench.sender.reply(
            vec![Piece::Memory("h".into()), range, bench.piece(7, 0)],
            &bench.shared,
        );
        expected.extend_from_slice(b"h");
        expected.extend_from_slice(&bench.content[i * 1000..i * 1000 + 4000]);
    }
    bench.turn(&mut String::new());
    // All are on their way, and the first reply's beginning.
    assert_eq!(bench.ring.in_flight(), 21);
    let (got, operations) = bench.run(0);
    assert!(got == expected);
    assert_eq!(operations.matches('l').count(), 20, "{operations}");
}

#[test]
fn a_client_that_does_not_read_holds_little_memory() {
    let mut bench = Bench::new(true);
    for _ in 0..3 {
        let range = bench.piece(0, FILE_BYTES);
        bench.reply(vec![range]);
    }
    let mut operations = String::new();
    loop {
        bench.turn(&mut operations);
        let waits_for_client = bench.sender.sending.is_some() && bench.ring.in_flight() == 1;
        if waits_for_client && bench.sender.ahead >= CONN_READ_AHEAD_BYTES_MAX {
            break;
        }
        bench.ring.wait();
    }
    let most = CONN_READ_AHEAD_BYTES_MAX + BATCH_BYTES_MAX + 2 * READ_BYTES_MAX;
    assert!(bench.disk.held_bytes() <= most);
    let expected = bench.content.repeat(3);
    let mut client = bench.client.try_clone().expect("a second handle");
    bench.sender.close_when_sent();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        client.read_to_end(&mut got).expect("all of it");
        got
    });
    while !bench.sender.is_done() {
        bench.turn(&mut operations);
        if !bench.sender.is_done() {
            bench.ring.wait();
        }
    }
    assert!(reader.join().expect("reader") == expected);
    assert_eq!(bench.disk.held_bytes(), 0);
}

#[test]
fn connections_take_turns_at_the_disk() {
    let mut bench = Bench::new(true);
    let range = Range {
        store: STORE,
        pos: 0,
        len: READ_BYTES_MAX,
        pin: ChunkPin::default(),
        begins: None,
        past_cache: false,
    };
    let busy = ConnId(7);
    let mut loads = 0;
    while bench.disk.may_load(busy, loads == 0) > 0 {
        loads += 1;
        let load = bench.disk.load(busy, loads, &range, &mut bench.ring);
        load.expect("a store that is open");
    }
    let reply = bench.piece(0, 1000);
    bench.reply(vec![reply]);
    bench
        .sender
        .advance(&mut bench.disk, &bench.shared, &mut bench.ring);
    assert_eq!(bench.sender.loading, 0, "it has to wait");
    bench.ring.wait();
    let done = bench.ring.reap().expect("a read that has ended");
    let held = bench.disk.on_loaded(done.op, done.result);
    assert_eq!(bench.disk.next_waiting(), Some(ConnId(1)));
    assert_eq!(bench.disk.next_waiting(), None);
    bench
        .sender
        .advance(&mut bench.disk, &bench.shared, &mut bench.ring);
    assert_eq!(bench.sender.loading, 1);
    drop(held);
}

#[test]
fn a_range_beyond_the_file_ends_the_connection() {
    let mut bench = Bench::new(true);
    let range = bench.piece(FILE_BYTES as u64 - 10, 100_000);
    bench
        .sender
        .reply(vec![Piece::Memory("head".into()), range], &bench.shared);
    bench.reply(vec![Piece::Memory("never".into())]);
    let (got, _) = bench.run(0);
    assert!(got.len() <= 14, "{} bytes", got.len());
}

#[test]
fn many_slices_take_several_sends() {
    let mut bench = Bench::new(true);
    let mut expected = Vec::new();
    for i in 0..3000usize {
        let part = bench.content.slice(i * 10..i * 10 + 10);
        expected.extend_from_slice(&part);
        bench.reply(vec![Piece::Memory(part)]);
    }
    let (got, operations) = bench.run(0);
    assert!(got == expected);
    assert_eq!(operations, "sss");
}

/// Each lies in a page of its own.
#[test]
fn short_ranges_are_read_ahead_no_further_than_long_ones() {
    let mut bench = Bench::new(true);
    let mut pieces = vec![Piece::Memory(vec![1; 8_000_000].into())];
    pieces.extend((0..2000).map(|n| bench.piece(n * 4096, 100)));
    bench.reply(pieces);
    let (mut operations, mut quiet) = (String::new(), 0);
    while quiet < 20 {
        let before = operations.len();
        bench.turn(&mut operations);
        bench.ring.wait_until(sys::mono().plus_ms(5));
        quiet = if operations.len() == before {
            quiet + 1
        } else {
            0
        };
    }
    let held = bench.disk.held_bytes();
    assert!(held > 0 && held <= 2 * CONN_READ_AHEAD_BYTES_MAX, "{held}");
}

/// A client that takes nothing is found out by what its side has acknowledged; one that takes a little
/// is as far from done as its pace says.
#[test]
fn who_takes_nothing_is_found_out() {
    let mut bench = Bench::new(true);
    let own = Bytes::from(vec![1; 8_000_000]);
    let page = PageBuf::zeroed(4096).freeze();
    let range = bench.piece(0, 300_000);
    bench.reply(vec![
        Piece::Memory(own),
        Piece::Memory(page.slice(..1000)),
        range,
    ]);
    assert_eq!(bench.sender.held_bytes(), 8_001_000);
    bench.shared.now.set(Mono(0));
    let mut operations = String::new();
    while !operations.contains("ll") {
        bench.turn(&mut operations);
        bench.ring.wait_until(sys::mono().plus_ms(20));
    }
    let at = |ms| Mono(0).plus_ms(ms);
    assert_eq!(bench.sender.stalled(at(400)), None, "the first look");
    assert_eq!(
        bench.sender.stalled(at(900)),
        None,
        "it has only just begun"
    );
    let stalled = bench.sender.stalled(at(2900)).expect("nothing was taken");
    assert_eq!(
        (stalled.own, stalled.shared, stalled.loaded),
        (8_303_104, 1000, 303_104),
        "whole pages"
    );
    assert_eq!(stalled.drain_ms, 8_301_000 * 1000);
    // It takes a megabyte: that is soon enough.
    let mut taken = vec![0; 1_000_000];
    bench.client.read_exact(&mut taken).expect("a part");
    let acked = sys::acknowledged_bytes(bench.sender.conn().fd);
    while sys::acknowledged_bytes(bench.sender.conn().fd) < acked.map(|n| n + 100_000) {
        bench
            .client
            .read_exact(&mut taken[..100_000])
            .expect("a part");
    }
    let after = bench.sender.stalled(at(3000));
    assert!(after.is_none_or(|it| it.drain_ms < 100_000), "{after:?}");
    let later = bench.sender.stalled(at(600_000));
    assert!(
        later.is_none(),
        "what it took meanwhile says nothing of now"
    );
    // All of it, and nothing is held any more.
    let mut client = bench.client.try_clone().expect("a second handle");
    let reader = std::thread::spawn(move || while client.read(&mut taken).is_ok_and(|n| n > 0) {});
    bench.sender.close_when_sent();
    while !bench.sender.is_done() {
        bench.ring.wait();
        bench.turn(&mut operations);
    }
    assert_eq!(bench.sender.held_bytes(), 0);
    reader.join().expect("reader");
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_the_place() {
    for (pos, len) in [(1 << 40, 10), (FILE_BYTES as u64 - 10, 4096)] {
        let mut bench = Bench::new(true);
        let range = bench.piece(pos, len);
        bench.reply(vec![range]);
        let mut operations = String::new();
        while !bench.sender.is_done() {
            bench.turn(&mut operations);
            bench.ring.wait_until(sys::mono().plus_ms(20));
        }
        assert_eq!(bench.shared.unreadable.lines(), 1, "one line");
        assert!(bench.sender.conn().is_closing());
    }
}

/// One whose ranges all go through the page cache; `None` where that is never done.
fn caching() -> Option<(Bench, ChunkPin)> {
    let bench = Bench::with(true, PageCacheReads::Always);
    if !is_coherent(&bench.file()) {
        eprintln!("skipped: neither ext4 nor xfs");
        return None;
    }
    Some((bench, ChunkPin::for_test(0, CHUNK_BYTES as u64)))
}

#[test]
fn a_range_is_brought_in_once_and_sent_from_the_page_cache() {
    let Some((mut bench, pin)) = caching() else {
        return;
    };
    let mut expected = Vec::new();
    for _ in 0..3 {
        let range = Bench::chunk_piece(&pin, 4097, 3_000_000);
        bench.reply(vec![
            Piece::Memory("head".into()),
            range,
            Piece::Memory("tail".into()),
        ]);
        expected.extend_from_slice(b"head");
        expected.extend_from_slice(&bench.content[4097..3_004_097]);
        expected.extend_from_slice(b"tail");
    }
    let (got, operations, reads) = bench.run_counting(20);
    assert!(got == expected);
    assert_eq!(operations.matches('l').count(), 0, "{operations}");
    assert_eq!(operations.matches('c').count(), 12, "{operations}");
    assert_eq!(reads.filled, 3_000_000);
    assert_eq!(reads.sent, 9_000_000);
    assert_eq!((reads.past, reads.gone, reads.unclean), (0, 0, 0));
}

#[test]
fn short_ranges_and_chunks_of_which_nothing_is_told_go_past_the_page_cache() {
    let Some((mut bench, pin)) = caching() else {
        return;
    };
    let (short, untold) = (
        Bench::chunk_piece(&pin, 5000, 20_000),
        bench.piece(5000, 300_000),
    );
    let expected = [&bench.content[5000..25_000], &bench.content[5000..305_000]].concat();
    bench.reply(vec![short, untold]);
    let (got, _, reads) = bench.run_counting(0);
    assert!(got == expected);
    assert_eq!((reads.past, reads.filled, reads.sent), (320_000, 0, 0));
}

/// Nothing that was in the page cache before the chunk was given to its log is sent.
#[test]
fn what_a_chunk_held_before_is_dropped_from_the_page_cache() {
    let Some((mut bench, pin)) = caching() else {
        return;
    };
    let mut old = Vec::new();
    bench.file().read_to_end(&mut old).expect("read");
    let file = bench.file();
    let pages = |file: &std::fs::File| sys::cached_pages(file.as_raw_fd(), 0, CHUNK_BYTES as u64);
    assert_eq!(pages(&file), Some((CHUNK_BYTES / BLOCK) as u64));
    bench.until_looked(&pin);
    assert_eq!((pin.trust(), pages(&file)), (Trust::Clean, Some(0)));
    let range = Bench::chunk_piece(&pin, 0, 1 << 20);
    bench.reply(vec![range]);
    let expected = bench.content.slice(..1 << 20);
    let (got, _, reads) = bench.run_counting(0);
    assert!(got == expected);
    assert_eq!((reads.filled, reads.sent), (1 << 20, 1 << 20));
    assert_eq!(
        reads.past, LOOKED as u64,
        "past it until what was there had gone"
    );
}

/// What cannot be dropped, because somebody uses it, is not trusted.
#[test]
fn a_chunk_that_stays_in_the_page_cache_is_read_past_it() {
    let Some((mut bench, pin)) = caching() else {
        return;
    };
    let file = bench.file();
    // SAFETY: a mapping of its own, of a file that is longer, read once and unmapped at the end.
    let mapped = unsafe {
        let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED | libc::MAP_POPULATE);
        libc::mmap(
            std::ptr::null_mut(),
            BLOCK,
            read,
            shared,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(mapped, libc::MAP_FAILED);
    bench.until_looked(&pin);
    let ranges = [0, 2 << 20].map(|pos| Bench::chunk_piece(&pin, pos, 1 << 20));
    bench.reply(ranges.into());
    let expected = [&bench.content[..1 << 20], &bench.content[2 << 20..3 << 20]].concat();
    let (got, _, reads) = bench.run_counting(0);
    assert!(got == expected);
    let past = (2 << 20) + LOOKED as u64;
    assert_eq!((reads.past, reads.filled, reads.sent), (past, 0, 0));
    assert_eq!(reads.unclean, 1);
    // SAFETY: the mapping from above, used by nobody.
    unsafe { libc::munmap(mapped, BLOCK) };
}

#[test]
fn what_is_gone_when_it_is_to_be_sent_is_read_past_the_page_cache() {
    let Some((mut bench, pin)) = caching() else {
        return;
    };
    let range = Bench::chunk_piece(&pin, 100, 4_000_000);
    bench.reply(vec![range]);
    let expected = bench.content.slice(100..4_000_100);
    let mut operations = String::new();
    bench.until_socket_is_full(&mut operations);
    let file = bench.file();
    sys::drop_cached(file.as_raw_fd(), 0, FILE_BYTES as u64);
    let (got, operations, reads) = bench.run_counting(0);
    assert!(got == expected);
    assert!(reads.gone > 0 && operations.contains('l'), "{operations}");
    assert_eq!(reads.past + reads.sent, 4_000_000);
}

/// A chunk is not written again while a part of it may still be coming into the page cache.
#[test]
fn a_chunk_is_held_until_its_range_has_come_in_whatever_becomes_of_the_connection() {
    let Some((mut bench, pin)) = caching() else {
        return;
    };
    let range = Bench::chunk_piece(&pin, 0, CELL);
    bench.reply(vec![range]);
    bench
        .sender
        .advance(&mut bench.disk, &bench.shared, &mut bench.ring);
    assert!(!bench.sender.kill(), "the socket is still in use");
    assert!(pin.is_held());
    let mut ended = 0;
    while !bench.sender.is_done() {
        assert!(pin.is_held());
        let mut operations = String::new();
        bench.ring.wait();
        bench.turn(&mut operations);
        ended += operations.len();
    }
    assert_eq!(ended, 1);
    assert!(!pin.is_held());
}

/// A connection that is closed while it waits for its client needs nobody to read on.
#[test]
fn who_waits_for_the_socket_is_closed_at_once() {
    let Some((mut bench, pin)) = caching() else {
        return;
    };
    let range = Bench::chunk_piece(&pin, 0, 4_000_000);
    bench.reply(vec![range]);
    let mut operations = String::new();
    bench.until_socket_is_full(&mut operations);
    // SAFETY: no memory is passed.
    let flags = unsafe { libc::fcntl(bench.sender.conn().fd, libc::F_GETFL) };
    assert_eq!(
        flags & libc::O_NONBLOCK,
        0,
        "the ring waits for it by itself"
    );
    bench.sender.conn().close();
    assert!(!bench.sender.kill());
    while !bench.sender.is_done() {
        bench.ring.wait();
        bench.turn(&mut operations);
    }
}

/// More is written to the chunk: no page of it comes in beside that.
#[test]
fn a_chunk_to_which_more_is_written_is_read_past_the_page_cache() {
    let Some((mut bench, _)) = caching() else {
        return;
    };
    let pin = ChunkPin::for_test_unsealed(0, CHUNK_BYTES as u64);
    bench.reply(vec![Bench::chunk_piece(&pin, 0, 1 << 20)]);
    let expected = bench.content.slice(..1 << 20);
    let (got, _, reads) = bench.run_counting(0);
    assert!(got == expected);
    assert_eq!((reads.past, reads.filled, reads.sent), (1 << 20, 0, 0));
}

#[test]
fn a_chunk_is_held_while_what_is_in_the_page_cache_waits_for_the_client() {
    let Some((mut bench, pin)) = caching() else {
        return;
    };
    bench.reply(vec![Bench::chunk_piece(&pin, 0, 4_000_000)]);
    bench.until_socket_is_full(&mut String::new());
    assert!(matches!(bench.sender.items.front(), Some(Item::Cached(_))));
    assert!(pin.is_held());
    bench.sender.kill();
    assert!(!pin.is_held());
}

/// As when TCP has no memory: then the socket is writable, and takes nothing.
#[test]
fn who_is_refused_again_and_again_is_sent_to_by_the_ring() {
    let Some((mut bench, pin)) = caching() else {
        return;
    };
    bench.reply(vec![Bench::chunk_piece(&pin, 0, 4_000_000)]);
    let mut operations = String::new();
    bench.until_socket_is_full(&mut operations);
    let mut refused = 0;
    while bench.sender.sending.is_some() && bench.sender.loading == 0 {
        refused += 1;
        assert!(refused < 10, "it asks the socket for ever");
        // It is said to be writable, and is not: what the ring waits for is forgotten with it.
        bench.ring = Ring::new().expect("a ring");
        let fd = bench.sender.conn().fd;
        let over = bench
            .sender
            .on_done(Op::Writable { fd }, Ok(1), &bench.shared, &mut bench.ring);
        assert!(!over);
        bench
            .sender
            .advance(&mut bench.disk, &bench.shared, &mut bench.ring);
        bench.ring.submit();
    }
    let expected = bench.content.slice(..4_000_000);
    let (got, operations, reads) = bench.run_counting(0);
    assert!(got == expected);
    assert!(reads.past > 0 && operations.contains('l'), "{operations}");
}
