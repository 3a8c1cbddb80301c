//! What may be read by way of the page cache, on real files.

use std::os::unix::fs::{FileExt, OpenOptionsExt};

use super::super::brain::scratch;
use super::*;
use crate::base::PageBuf;

const BYTES: usize = 1 << 20;

/// A file of ones, open with O_DIRECT and without.
fn file() -> (tempfile::TempDir, File, File) {
    let dir = scratch();
    let path = dir.path().join("file");
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let direct = options
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .expect("a file with O_DIRECT");
    fill(&direct, 1);
    let file = File::open(&path).expect("the same file");
    (dir, direct, file)
}

fn fill(direct: &File, byte: u8) {
    let mut pages = PageBuf::zeroed(BYTES);
    pages.as_mut_bytes().fill(byte);
    direct.write_all_at(pages.as_bytes(), 0).expect("written");
}

fn read(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    file.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

#[test]
fn what_is_no_plain_file_is_not_read_through_the_cache() {
    let (dir, _, file) = file();
    // Whatever filesystem it is on.
    assert!(!is_coherent(&File::open(dir.path()).expect("a directory")));
    assert!(!is_coherent(&File::open("/dev/zero").expect("a device")));
    assert!(is_coherent(&file) || !sys::invalidates(&file));
}

/// What everything here rests on.
#[test]
fn a_write_past_the_cache_takes_away_what_it_holds() {
    let (_dir, direct, file) = file();
    if !is_coherent(&file) {
        return eprintln!("skipped: neither ext4 nor xfs");
    }
    for byte in 2..10 {
        read(&file);
        let fd = file.as_raw_fd();
        assert!(is_there(fd, 0, BYTES), "{byte}");
        fill(&direct, byte);
        assert_eq!(sys::cached_pages(fd, 0, BYTES as u64), Some(0), "{byte}");
        assert!(read(&file).iter().all(|it| *it == byte), "{byte}");
    }
}

#[test]
fn a_part_is_there_when_all_of_it_is() {
    let (_dir, _direct, file) = file();
    if !is_coherent(&file) {
        return eprintln!("skipped: neither ext4 nor xfs");
    }
    let fd = file.as_raw_fd();
    sys::no_read_ahead(&file);
    assert!(!is_there(fd, 0, BYTES));
    read(&file);
    assert!(is_there(fd, 0, BYTES) && is_there(fd, 4095, 2));
    sys::drop_cached(fd, 8192, 4096);
    assert!(!is_there(fd, 0, BYTES) && !is_there(fd, 8192, 1) && !is_there(fd, 8191, 2));
    assert!(is_there(fd, 0, 8192) && is_there(fd, 12288, 1));
}

/// The first operation of the ring that ends.
fn ended(ring: &mut Ring<Tag>) -> (usize, Op, Result<usize, i32>) {
    loop {
        match ring.reap() {
            Some(done) => {
                let Tag::Cache(id) = done.tag else {
                    panic!("another operation");
                };
                return (id, done.op, done.result);
            }
            None => ring.wait(),
        }
    }
}

/// Brings a range in. Before it is told that an operation has ended, `meddle` may do something about what is in the
/// cache, or about the result. Whether the range is there in the end, and how much was asked for at a time.
fn bring_in(
    file: &File,
    range: Range,
    mut meddle: impl FnMut(&Op, &mut Result<usize, i32>),
) -> (bool, Vec<usize>) {
    sys::no_read_ahead(file);
    let mut ring = Ring::new().expect("a ring");
    let mut cached = Cached::new(PageCacheReads::Always);
    let (len, pin) = (range.len, range.pin.clone());
    cached.fill(file, ConnId(1), 7, range, &mut ring);
    let mut lens = Vec::new();
    loop {
        let (id, op, mut result) = ended(&mut ring);
        if let Op::Advise { len, .. } = &op {
            lens.push(*len);
        }
        meddle(&op, &mut result);
        if let Some((conn, load, bytes, there)) = cached.on_done(id, op, result, &mut ring) {
            assert_eq!((conn, load, bytes), (ConnId(1), 7, len));
            assert!(!pin.is_held() && cached.work.is_empty());
            return (there, lens);
        }
        assert!(pin.is_held());
    }
}

fn range(pos: u64, len: usize) -> Range {
    Range {
        store: crate::base::StoreId(0),
        pos,
        len,
        pin: ChunkPin::for_test(0, BYTES as u64),
        begins: None,
        past_cache: false,
    }
}

#[test]
fn less_is_asked_for_while_less_is_brought_in() {
    let mut advised = Advised::default();
    assert!(!advised.came(4096, false), "a page of it has gone again");
    assert_eq!(advised.len, CELL);
    while advised.came(advised.len, false) {}
    assert_eq!(advised.len, ADVISED_MIN);
    for _ in 1..WHOLE_UNTIL_MORE {
        assert!(advised.came(ADVISED_MIN, true));
    }
    assert_eq!(advised.len, ADVISED_MIN);
    for _ in 0..99 * WHOLE_UNTIL_MORE {
        assert!(advised.came(ADVISED_MIN, true));
    }
    assert_eq!(advised.len, CELL);
}

/// Where less is brought in than was asked for, less is asked for at a time, until all of it has come.
#[test]
fn what_was_not_brought_in_at_once_is_asked_for_in_parts() {
    let (_dir, _direct, file) = file();
    if !is_coherent(&file) {
        return eprintln!("skipped: neither ext4 nor xfs");
    }
    let mut is_first = true;
    let (there, lens) = bring_in(&file, range(100, CELL - 100), |op, _| {
        if let Op::Advise { fd, .. } = op
            && std::mem::take(&mut is_first)
        {
            read(&file);
            sys::drop_cached(*fd, 64 * 1024, BYTES as u64);
        }
    });
    assert!(there, "{lens:?}");
    assert!(lens[1..].iter().all(|len| *len <= CELL / 2), "{lens:?}");
}

#[test]
fn what_has_gone_before_it_was_there_is_not_there() {
    let (_dir, _direct, file) = file();
    if !is_coherent(&file) {
        return eprintln!("skipped: neither ext4 nor xfs");
    }
    let (there, _) = bring_in(&file, range(0, CELL), |op, _| {
        if let Op::Read { fd, .. } = op {
            sys::drop_cached(*fd, 64 * 1024, 4096);
        }
    });
    assert!(!there);
}

/// However the system says that it could not, or would not, and whatever it has brought in all the same.
#[test]
fn what_could_not_be_brought_in_is_not_there() {
    let (_dir, _direct, file) = file();
    if !is_coherent(&file) {
        return eprintln!("skipped: neither ext4 nor xfs");
    }
    let errors = [libc::EIO, libc::ENOMEM, libc::EAGAIN, libc::EINTR];
    for error in errors {
        let (there, lens) = bring_in(&file, range(0, CELL), |op, result| {
            if matches!(op, Op::Advise { .. }) {
                *result = Err(error);
            }
        });
        assert_eq!((there, lens.len()), (false, 1), "{error}");
    }
    // The last byte cannot be read, or the file ends before it.
    for read in errors.map(Err).into_iter().chain([Ok(0)]) {
        let (there, _) = bring_in(&file, range(0, CELL), |op, result| {
            if matches!(op, Op::Read { .. }) {
                *result = read;
            }
        });
        assert!(!there, "{read:?}");
    }
    let behind_the_end = range(BYTES as u64 - 4096, CELL);
    assert!(!bring_in(&file, behind_the_end, |_, _| {}).0);
}

/// Letting a chunk go takes the kernel long, and each takes a worker of its own: some at a time, and the others later.
#[test]
fn few_chunks_are_let_go_at_a_time() {
    let (_dir, _direct, file) = file();
    if !is_coherent(&file) {
        return eprintln!("skipped: neither ext4 nor xfs");
    }
    read(&file);
    let mut ring = Ring::new().expect("a ring");
    let mut cached = Cached::new(PageCacheReads::Always);
    let chunk = BYTES / 4;
    let pins = [0, 1, 2, 3].map(|n| ChunkPin::for_test((n * chunk) as u64, chunk as u64));
    let mut left = [true; 4];
    for round in 0..2 {
        for (n, pin) in pins.iter().enumerate().filter(|(n, _)| left[*n]) {
            let range = Range {
                pin: pin.clone(),
                ..range((n * chunk) as u64, chunk)
            };
            let way = cached.way(&file, &Reader::default(), &range, &mut ring);
            assert_eq!(way, Way::Past);
        }
        assert_eq!(ring.in_flight(), GOING_MAX);
        let unknown = pins.iter().filter(|pin| pin.trust() == Trust::Unknown);
        assert_eq!(unknown.count(), 2 - 2 * round);
        for _ in 0..GOING_MAX {
            let (id, op, result) = ended(&mut ring);
            assert!(cached.on_done(id, op, result, &mut ring).is_none());
        }
        for (left, pin) in left.iter_mut().zip(&pins) {
            *left = pin.trust() != Trust::Clean;
        }
    }
    assert_eq!(left, [false; 4]);
    assert_eq!(
        sys::cached_pages(file.as_raw_fd(), 0, BYTES as u64),
        Some(0)
    );
}

/// While some parts are being brought in others are written past the cache: no page of those comes in, and whoever
/// reads them sees what was written.
#[test]
fn reading_ahead_beside_writes_brings_in_nothing_of_what_is_written() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (_dir, direct, file) = file();
    if !is_coherent(&file) {
        return eprintln!("skipped: neither ext4 nor xfs");
    }
    sys::no_read_ahead(&file);
    let (part, over) = (64 * 1024, AtomicBool::new(false));
    let fd = file.as_raw_fd();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for pos in (0..BYTES as u64).step_by(2 * part) {
                    let (pos, len) = (pos as libc::off_t, part as libc::off_t);
                    // SAFETY: no memory is passed.
                    unsafe { libc::posix_fadvise(fd, pos, len, libc::POSIX_FADV_WILLNEED) };
                    sys::drop_cached(fd, pos as u64, len as u64);
                }
            }
        });
        for round in 2..60 {
            let mut pages = PageBuf::zeroed(part);
            pages.as_mut_bytes().fill(round);
            for pos in (part as u64..BYTES as u64).step_by(2 * part) {
                direct.write_all_at(pages.as_bytes(), pos).expect("written");
                assert_eq!(sys::cached_pages(fd, pos, part as u64), Some(0));
                if round % 8 == 0 {
                    let mut bytes = vec![0; part];
                    file.read_exact_at(&mut bytes, pos).expect("read");
                    assert!(bytes.iter().all(|byte| *byte == round));
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}

/// A write past the cache that could not take away a page of it, which somebody changes meanwhile, is told by the next
/// fdatasync, and that is the end of the store. It is a matter of chance whether the kernel meets the page so.
#[test]
fn a_page_that_a_write_could_not_take_away_is_told() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (dir, direct, file) = file();
    if !is_coherent(&file) {
        return eprintln!("skipped: neither ext4 nor xfs");
    }
    let mut options = std::fs::OpenOptions::new();
    let other = options.read(true).write(true).open(dir.path().join("file"));
    let other = other.expect("the same file");
    let (len, over) = (64 * 1024, AtomicBool::new(false));
    let mut pages = PageBuf::zeroed(len);
    pages.as_mut_bytes().fill(9);
    let told = std::thread::scope(|threads| {
        threads.spawn(|| {
            // SAFETY: a mapping of its own, of a file that is longer; nobody else has it.
            unsafe {
                let protection = libc::PROT_READ | libc::PROT_WRITE;
                let fd = other.as_raw_fd();
                let at = libc::mmap(
                    std::ptr::null_mut(),
                    len,
                    protection,
                    libc::MAP_SHARED,
                    fd,
                    0,
                );
                assert_ne!(at, libc::MAP_FAILED);
                while !over.load(Ordering::Relaxed) {
                    for page in (0..len).step_by(BLOCK) {
                        at.cast::<u8>().add(page).write_volatile(1);
                    }
                }
                libc::munmap(at, len);
            }
        });
        let told = (0..4000).any(|_| {
            direct.write_all_at(pages.as_bytes(), 0).expect("written");
            let error = direct.sync_data().err();
            error.is_some_and(|error| error.raw_os_error() == Some(libc::EIO))
        });
        over.store(true, Ordering::Relaxed);
        told
    });
    if !told {
        eprintln!("skipped: the kernel never met a page that it could not take away");
    }
}
