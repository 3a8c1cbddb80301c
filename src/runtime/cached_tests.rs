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
