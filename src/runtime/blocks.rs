//! Reading a store's file or device past the page cache, outside of the ring: for
//! recovery and for looking in from outside. The page cache may hold what a device
//! had before it was written with O_DIRECT, and keeps what nobody reads again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;

use super::hold;
use crate::base::{BLOCK, PageBuf};
use crate::store::DiskError;

/// What is read at least, if it is there: the journal is read block by block.
const AHEAD_BYTES: usize = 256 * 1024;

/// Opens a file or device for reading, with O_DIRECT where there is such a thing.
///
/// # Errors
/// As open(2).
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    match options.clone().custom_flags(libc::O_DIRECT).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => options.open(path),
        opened => opened,
    }
}

/// Blocking reads of a file that nobody writes to meanwhile: exactly as many bytes as asked for.
pub fn reader(file: &File) -> impl FnMut(u64, usize) -> Result<Bytes, DiskError> {
    let mut ahead = (0, Bytes::new());
    move |pos, len| {
        let failed = |error: io::Error| DiskError {
            // Bytes beyond the end have no errno, but are unreadable all the same.
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        };
        if let Some(bytes) = part(&ahead, pos, len) {
            return Ok(bytes);
        }
        let from = pos - pos % BLOCK as u64;
        let least = (pos - from) as usize + len;
        // What was not asked for may be unreadable, or not there, without harm.
        let read = read_at(file, from, least.max(AHEAD_BYTES));
        ahead = match read {
            Ok(bytes) if bytes.len() >= least => (from, bytes),
            _ => (from, read_at(file, from, least).map_err(failed)?),
        };
        part(&ahead, pos, len).ok_or(DiskError { errno: libc::EIO })
    }
}

/// `[pos, pos + len)` of bytes that begin at a position of their own.
fn part((from, bytes): &(u64, Bytes), pos: u64, len: usize) -> Option<Bytes> {
    let skip = usize::try_from(pos.checked_sub(*from)?).ok()?;
    let end = skip.checked_add(len)?;
    (end <= bytes.len()).then(|| bytes.slice(skip..end))
}

/// Reads whole blocks, fewer only at the end of the file.
fn read_at(file: &File, from: u64, len: usize) -> io::Result<Bytes> {
    let mut pages = PageBuf::stale(len);
    let mut read = 0;
    while read < pages.len() {
        match file.read_at(&mut pages.as_mut_bytes()[read..], from + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The last block of a file may be cut, and O_DIRECT then cannot go on within it.
            Err(_) if read > 0 && from + read as u64 == hold::size(file)? => break,
            Err(error) => return Err(error),
        }
    }
    Ok(pages.freeze().slice(..read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_is_read_and_nothing_beyond_the_end() {
        let dir = super::super::brain::scratch();
        let path = dir.path().join("store");
        let content: Vec<u8> = (0..700_000_u32).map(|n| (n / 7) as u8).collect();
        std::fs::write(&path, &content).expect("written");
        let file = open(&path).expect("open");
        let mut read = reader(&file);
        let ranges = [
            (0, 4096),
            (4096, 4096),
            (5000, 10),
            (262_100, 100),
            (0, 600_000),
            (699_999, 1),
            (690_000, 10_000),
        ];
        for (pos, len) in ranges {
            let bytes = read(pos as u64, len).expect("read");
            assert!(bytes[..] == content[pos..pos + len], "{len} at {pos}");
        }
        assert!(read(699_999, 2).is_err());
        assert!(read(10 << 20, 1).is_err());
    }
}
