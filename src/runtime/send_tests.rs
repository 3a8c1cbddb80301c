//! The sender on real sockets and files, without a pump; clients appear to be remote.

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use bytes::Bytes;

use super::super::brain::scratch;
use super::super::disk::{CachedFiles, StoreFile};
use super::*;
use crate::base::{Mono, PageBuf};
use crate::broker::ConnId;
use crate::store::{DiskOp, IoId};

const STORE: StoreId = StoreId(0);
const FILE_BYTES: usize = 8 << 20;

struct Bench {
    dir: tempfile::TempDir,
    content: Bytes,
    disk: Disk,
    front: Front,
    ring: Ring<Tag>,
    /// Kept open; the sender only has its number.
    _socket: TcpStream,
    sender: Sender,
    client: TcpStream,
}

impl Bench {
    fn new(peer: [u8; 4], direct: bool) -> Self {
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
        };
        let files = CachedFiles::new(1);
        let file = StoreFile::create(STORE, dir.path(), direct, &[write]).expect("a store");
        file.publish(&StoreFile::path(dir.path(), STORE), &files)
            .expect("readable");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let client = TcpStream::connect(address).expect("connected");
        let (socket, _) = listener.accept().expect("accepted");
        let peer = SocketAddr::from((peer, 1234));
        let conn = Rc::new(Conn::new(ConnId(1), socket.as_raw_fd(), peer, Mono(0)));
        Self {
            dir,
            content,
            disk: Disk::new(files),
            front: Front::new(1000, 1000),
            ring: Ring::new().expect("a ring"),
            _socket: socket,
            sender: Sender::new(conn),
            client,
        }
    }

    fn piece(&self, pos: u64, len: usize) -> Piece {
        Piece::File {
            store: STORE,
            pos,
            len,
            pin: ChunkPin::default(),
        }
    }

    /// Drops the store from the page cache.
    fn chill(&self) {
        let file = File::open(StoreFile::path(self.dir.path(), STORE)).expect("the store");
        file.sync_all().expect("synced");
        // SAFETY: no memory is passed.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        assert!(
            !sys::is_resident(&file, 0, FILE_BYTES),
            "the cache keeps what it was told to drop"
        );
    }

    fn warm(&self) {
        let path = StoreFile::path(self.dir.path(), STORE);
        assert_eq!(std::fs::read(path).expect("read").len(), FILE_BYTES);
    }

    /// Sends everything queued while a client reads it; what the client got, and which kinds of
    /// operations went through the ring.
    fn run(mut self, delay_ms: u64) -> (Vec<u8>, String) {
        let mut client = self.client.try_clone().expect("a second handle");
        let reader = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(delay_ms));
            let mut got = Vec::new();
            client.read_to_end(&mut got).expect("all of it");
            got
        });
        self.sender.close_when_sent();
        let mut operations = String::new();
        let mut more = self.sender.advance(&self.disk, &self.front, &mut self.ring);
        while more == Progress::More || !self.sender.is_done() {
            if more == Progress::Waiting {
                self.ring.wait();
            }
            while let Some(done) = self.ring.reap() {
                operations.push(match done.op {
                    Op::Send { .. } => 's',
                    Op::Read { .. } => 'r',
                    Op::Writable { .. } => 'p',
                    _ => '?',
                });
                self.sender
                    .on_done(done.op, done.result, &self.front, &mut self.ring);
            }
            more = self.sender.advance(&self.disk, &self.front, &mut self.ring);
        }
        (reader.join().expect("reader"), operations)
    }
}

const REMOTE: [u8; 4] = [192, 0, 2, 1];
const LOCAL: [u8; 4] = [127, 0, 0, 1];

#[test]
fn a_cached_range_goes_to_a_remote_client_by_sendfile() {
    let mut bench = Bench::new(REMOTE, true);
    bench.warm();
    let range = bench.piece(4097, 6_000_000);
    bench.sender.reply(vec![
        Piece::Memory("head".into()),
        range,
        Piece::Memory("tail".into()),
    ]);
    let expected = [b"head", &bench.content[4097..6_004_097], b"tail"].concat();
    // The client is slow, so that the socket fills up and has to be waited for.
    let (got, operations) = bench.run(50);
    assert!(got == expected);
    assert!(
        !operations.contains('r') && operations.contains('p'),
        "{operations}"
    );
    assert_eq!(operations.matches('s').count(), 2, "{operations}");
}

#[test]
fn a_range_that_is_not_cached_is_read_by_the_ring() {
    for (peer, direct) in [(REMOTE, true), (LOCAL, true), (REMOTE, false)] {
        let mut bench = Bench::new(peer, direct);
        bench.chill();
        let range = bench.piece(100, 2_000_000);
        bench
            .sender
            .reply(vec![Piece::Memory("head".into()), range]);
        let expected = [b"head", &bench.content[100..2_000_100]].concat();
        let (got, operations) = bench.run(0);
        assert!(got == expected);
        assert!(operations.contains('r'), "{operations}");
    }
}

#[test]
fn short_and_local_ranges_share_a_send() {
    let mut bench = Bench::new(LOCAL, true);
    bench.warm();
    let mut expected = Vec::new();
    for i in 0..50usize {
        let range = bench.piece(i as u64 * 1000, 4000);
        bench
            .sender
            .reply(vec![Piece::Memory("h".into()), range, bench.piece(7, 0)]);
        expected.extend_from_slice(b"h");
        expected.extend_from_slice(&bench.content[i * 1000..i * 1000 + 4000]);
    }
    let (got, operations) = bench.run(0);
    assert!(got == expected);
    assert_eq!(operations, "s");
}

#[test]
fn buffered_stores_are_never_sent_by_reference() {
    let mut bench = Bench::new(REMOTE, false);
    bench.warm();
    let range = bench.piece(0, 1_000_000);
    bench.sender.reply(vec![range]);
    let expected = bench.content.slice(..1_000_000);
    let (got, operations) = bench.run(0);
    assert!(got == expected);
    assert!(
        operations.len() >= 4 && operations.chars().all(|op| op == 's'),
        "{operations}"
    );
}

#[test]
fn a_range_beyond_the_file_ends_the_connection() {
    let mut bench = Bench::new(REMOTE, true);
    bench.warm();
    let range = bench.piece(FILE_BYTES as u64 - 10, 100_000);
    bench
        .sender
        .reply(vec![Piece::Memory("head".into()), range]);
    bench.sender.reply(vec![Piece::Memory("never".into())]);
    let (got, _) = bench.run(0);
    assert!(got.len() <= 14, "{} bytes", got.len());
}

#[test]
fn many_slices_take_several_sends() {
    let mut bench = Bench::new(REMOTE, true);
    let mut expected = Vec::new();
    for i in 0..3000usize {
        let part = bench.content.slice(i * 10..i * 10 + 10);
        expected.extend_from_slice(&part);
        bench.sender.reply(vec![Piece::Memory(part)]);
    }
    let (got, operations) = bench.run(0);
    assert!(got == expected);
    assert_eq!(operations, "sss");
}
