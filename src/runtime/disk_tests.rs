//! The store files on a real disk, without a pump.

use super::super::brain::scratch;
use super::*;
use crate::base::{BLOCK, PageBuf};
use crate::store::{ChunkPin, IoId};

struct Bench {
    _dir: tempfile::TempDir,
    disk: Disk,
    ring: Ring<Tag>,
    inputs: VecDeque<Input>,
}

fn block(fill: u8) -> Bytes {
    let mut page = PageBuf::zeroed(BLOCK);
    page.as_mut_bytes().fill(fill);
    page.freeze()
}

fn write(id: u64, pos: u64, background: bool) -> DiskOp {
    DiskOp::Write {
        id: IoId(id),
        pos,
        data: block(id as u8),
        background,
        through: false,
    }
}

const STORE: StoreId = StoreId(0);

impl Bench {
    fn new() -> Self {
        let dir = scratch();
        let files = CachedFiles::new(1);
        let format = [
            write(1, 0, false),
            DiskOp::Sync {
                id: IoId(2),
                background: false,
            },
        ];
        let file = StoreFile::create(STORE, dir.path(), true, &format).expect("a new store");
        file.publish(&StoreFile::path(dir.path(), STORE), &files)
            .expect("readable");
        assert_eq!(StoreFile::list(dir.path()).expect("listed"), [STORE]);
        let mut disk = Disk::new(files, PageCacheReads::Auto);
        disk.add(file);
        Self {
            _dir: dir,
            disk,
            ring: Ring::new().expect("a ring"),
            inputs: VecDeque::new(),
        }
    }

    /// Runs until so many inputs are there.
    fn inputs(&mut self, n: usize) -> Vec<Input> {
        while self.inputs.len() < n {
            self.ring.wait();
            while let Some(done) = self.ring.reap() {
                let Tag::Disk(tag) = done.tag else {
                    panic!("no other tag was pushed")
                };
                let (ring, inputs) = (&mut self.ring, &mut self.inputs);
                self.disk.on_done(tag, done.op, done.result, ring, inputs);
            }
        }
        assert_eq!(self.inputs.len(), n);
        self.inputs.drain(..).collect()
    }

    fn read(&mut self, ranges: &[(u64, usize)]) -> Result<Bytes, DiskError> {
        let pieces = ranges.iter().map(|&(pos, len)| Piece::File {
            store: STORE,
            pos,
            len,
            pin: ChunkPin::default(),
            begins: None,
        });
        let at_once = self.disk.read(ReadId(9), pieces.collect(), &mut self.ring);
        let input = at_once.or_else(|| self.inputs(1).pop());
        let Some(Input::Read {
            id: ReadId(9),
            result,
        }) = input
        else {
            panic!("{input:?}")
        };
        result
    }
}

fn ok_ids(inputs: Vec<Input>) -> Vec<u64> {
    let id = |input| match input {
        Input::Disk {
            store: STORE,
            id,
            result: Ok(()),
        } => id.0,
        other => panic!("{other:?}"),
    };
    let mut ids: Vec<_> = inputs.into_iter().map(id).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn writes_within_and_beyond_the_file_are_read_back() {
    let mut bench = Bench::new();
    for (id, pos) in [(3, 0), (4, 10 * BLOCK as u64), (5, 200 << 20)] {
        bench
            .disk
            .perform(STORE, write(id, pos, false), &mut bench.ring);
    }
    assert_eq!(ok_ids(bench.inputs(3)), [3, 4, 5]);
    bench.disk.perform(
        STORE,
        DiskOp::Sync {
            id: IoId(6),
            background: false,
        },
        &mut bench.ring,
    );
    assert_eq!(ok_ids(bench.inputs(1)), [6]);
    let got = bench.read(&[(4090, 10), (10 * BLOCK as u64 + 4094, 4), (200 << 20, 2)]);
    assert_eq!(
        got.expect("read"),
        [&[3; 6][..], &[0; 4], &[4; 2], &[0; 2], &[5; 2]].concat()
    );
}

#[test]
fn allocated_blocks_are_there() {
    let mut bench = Bench::new();
    let (pos, len) = (BLOCK as u64, 8 << 20);
    let id = IoId(3);
    let op = DiskOp::Allocate { id, pos, len };
    bench.disk.perform(STORE, op, &mut bench.ring);
    assert_eq!(ok_ids(bench.inputs(1)), [3]);
    assert_eq!(bench.disk.stores[&STORE].file.len(), pos + len);
    let last = bench.read(&[(pos + len - 2, 2)]);
    assert_eq!(last.expect("in the file")[..], [0, 0]);
}

#[test]
fn a_read_beyond_the_end_fails_as_a_whole() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.read(&[(0, 10), (4000, 200)]),
        Err(DiskError { errno: libc::EIO })
    );
    assert_eq!(
        bench.read(&[(0, 0)]).expect("nothing to read"),
        Bytes::new()
    );
}

/// Of two parts one fails, or is short.
#[test]
fn a_read_fails_with_any_of_its_parts_and_goes_on_where_one_is_short() {
    let mut bench = Bench::new();
    for id in 2..=4 {
        let op = write(id, (id - 1) * BLOCK as u64, false);
        bench.disk.perform(STORE, op, &mut bench.ring);
    }
    bench.inputs(3);
    let parts = [(10, 2 * BLOCK), (3 * BLOCK as u64, BLOCK)];
    let good = bench.read(&parts).expect("read");
    for how in [Err(libc::EIO), Err(libc::ENOMEM), Ok(512), Ok(BLOCK), Ok(0)] {
        let pieces = parts.map(|(pos, len)| Piece::File {
            store: STORE,
            pos,
            len,
            pin: ChunkPin::default(),
            begins: None,
        });
        let at_once = bench.disk.read(ReadId(9), pieces.into(), &mut bench.ring);
        assert!(at_once.is_none());
        let mut left = Some(how);
        while bench.inputs.is_empty() {
            bench.ring.wait();
            while let Some(done) = bench.ring.reap() {
                let Tag::Disk(tag) = done.tag else {
                    panic!("no other tag was pushed")
                };
                let result = left.take().unwrap_or(done.result);
                let (ring, inputs) = (&mut bench.ring, &mut bench.inputs);
                bench.disk.on_done(tag, done.op, result, ring, inputs);
            }
        }
        let Some(Input::Read { result, .. }) = bench.inputs.pop_front() else {
            panic!("it is told once")
        };
        assert_eq!((bench.inputs.len(), bench.ring.in_flight()), (0, 0));
        match how {
            Err(errno) => assert_eq!(result, Err(DiskError { errno })),
            Ok(0) => assert_eq!(result, Err(DiskError { errno: libc::EIO })),
            Ok(_) => assert!(result.expect("all of it") == good),
        }
    }
}

#[test]
fn background_yields_but_all_of_it_is_done() {
    let mut bench = Bench::new();
    bench
        .disk
        .perform(STORE, write(100, 0, false), &mut bench.ring);
    for id in 1..=40 {
        bench
            .disk
            .perform(STORE, write(id, id * BLOCK as u64, true), &mut bench.ring);
    }
    let mut want: Vec<u64> = (1..=40).collect();
    want.push(100);
    let state = &bench.disk.stores[&STORE];
    assert_eq!(
        (state.foreground, state.background, state.yielding.len()),
        (1, 2, 38)
    );
    assert_eq!(ok_ids(bench.inputs(41)), want);
}

#[test]
fn a_failed_write_is_reported_and_not_retried() {
    let mut bench = Bench::new();
    let crooked = DiskOp::Write {
        id: IoId(7),
        pos: 512,
        data: Bytes::from_static(b"neither aligned nor a block"),
        background: false,
        through: false,
    };
    bench.disk.perform(STORE, crooked, &mut bench.ring);
    match bench.inputs(1).pop() {
        Some(Input::Disk {
            id: IoId(7),
            result: Err(DiskError { errno }),
            ..
        }) => {
            assert_eq!(errno, libc::EINVAL);
        }
        other => panic!("{other:?}"),
    }
}

/// Whoever is named may not want to read any more: it has gone, or has found something else to send.
#[test]
fn all_who_wait_are_named_as_long_as_there_is_room() {
    let mut bench = Bench::new();
    let full = LOADS_IN_FLIGHT_BYTES_MAX[1];
    bench.disk.loading = full;
    for conn in [1, 2, 3, 2] {
        assert_eq!(bench.disk.may_load(ConnId(conn), true), 0);
    }
    let named = |disk: &mut Disk| std::iter::from_fn(|| disk.next_waiting()).collect::<Vec<_>>();
    assert_eq!(named(&mut bench.disk), [], "there is no room");
    // A read ends as a flush begins: there is none yet.
    bench.disk.loading -= LOAD_BYTES_MIN;
    bench
        .disk
        .perform(STORE, write(9, 0, false), &mut bench.ring);
    assert_eq!(named(&mut bench.disk), []);
    assert_eq!(ok_ids(bench.inputs(1)), [9]);
    assert_eq!(
        named(&mut bench.disk),
        [1, 2, 3].map(ConnId),
        "no read has ended, but the flush has"
    );
    bench.disk.loading = full;
    assert_eq!(bench.disk.may_load(ConnId(2), true), 0);
    bench.disk.loading = 0;
    assert_eq!(named(&mut bench.disk), [ConnId(2)], "it waits once more");
}

#[test]
fn a_format_that_was_cut_off_leaves_no_store() {
    let dir = scratch();
    let path = StoreFile::path(dir.path(), STORE).with_extension("unfinished");
    fs::write(&path, b"half a superblock").expect("written");
    assert!(StoreFile::list(dir.path()).expect("listed").is_empty());
    assert!(StoreFile::create(STORE, dir.path(), true, &[write(1, 0, false)]).is_ok());
    assert!(!path.exists());
    let file = File::open(StoreFile::path(dir.path(), STORE)).expect("the store");
    let mut read = super::super::blocks::reader(&file);
    assert_eq!(read(10, 3).expect("read")[..], [1, 1, 1]);
    assert_eq!(read(4000, 200), Err(DiskError { errno: libc::EIO }));
}

/// As a process has it that was killed while its ring still wrote.
#[test]
fn a_file_is_opened_when_whoever_writes_to_it_is_done() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let path = StoreFile::path(dir.path(), STORE);
    let before = StoreFile::create(STORE, dir.path(), true, &[write(1, 0, false)]).expect("new");
    let read = super::super::blocks::open(&path);
    assert!(read.is_ok(), "readers need not wait");
    let (opening, opened) = (path.clone(), std::sync::Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&opened);
    let next = std::thread::spawn(move || {
        let file = StoreFile::open(STORE, &opening, true);
        seen.store(1, Ordering::SeqCst);
        file.map(|file| file.len())
    });
    before.perform(&[write(2, 4096, false)]).expect("written");
    assert_eq!(opened.load(Ordering::SeqCst), 0, "it waits");
    drop(before);
    assert_eq!(next.join().expect("no panic").expect("opened"), 8192);
}
