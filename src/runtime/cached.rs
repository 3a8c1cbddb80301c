//! Reads by way of the page cache: a part of a store file is brought in by the ring, waited
//! for by the ring, and sent when it is there, so that no call of a shard's waits for the disk.
//!
//! Writes go past the cache, so it must never show what was there before one:
//! - What is brought in is durable, is brought in page by page, and its chunk is pinned until it is there.
//!   So no page comes in while its place is being written, and the kernel takes away what it has
//!   of a place when that is written to.
//! - The first who reads a chunk since it was given to its log looks whether the cache holds anything of it, and lets
//!   that go. If something stays, that chunk is read past the cache until it is free again.
//! - Only filesystems that are known to keep both ways together are read so, never devices.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use slab::Slab;

use super::range::Range;
use super::readers::{Reader, Readers};
use super::ring::{Op, Ring};
use super::sys;
use super::tag::Tag;
use crate::base::BLOCK;
use crate::broker::ConnId;
use crate::broker::trace::DiskReads;
use crate::config::PageCacheReads;

/// What is brought in, asked about and sent at a time: a part of a file between two multiples of this. All readers
/// have the same parts, so that one is brought in by one operation.
pub const CELL: usize = 256 * 1024;
/// A shorter range is not worth the calls that it takes.
const WORTH_IT: usize = 32 * 1024;

/// Whether a store's file can be read both ways: `file` is open without O_DIRECT.
pub fn is_coherent(file: &File) -> bool {
    let pages = sys::page_bytes() == BLOCK && sys::cached_pages(file.as_raw_fd(), 0, 1).is_some();
    let plain = file.metadata().is_ok_and(|about| about.is_file());
    pages && plain && sys::invalidates(file)
}

/// How a range is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Past the page cache.
    Past,
    /// Through it: so many bytes, from the beginning of its first block on, are to be brought in.
    Fill(usize),
    /// So many are in it.
    There(usize),
}

/// What is on its way into the page cache.
struct Coming {
    conn: ConnId,
    load: u64,
    /// Holds the pin, whatever becomes of the connection.
    range: Range,
}

/// What a shard reads by way of the page cache.
pub struct Cached {
    readers: Readers,
    coming: Slab<Coming>,
    /// What was read which way since the start.
    pub counts: DiskReads,
}

impl Cached {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(setting: PageCacheReads) -> Self {
        Self {
            readers: Readers::new(setting),
            coming: Slab::new(),
            counts: DiskReads::default(),
        }
    }

    /// How the next part of a range of this file is read.
    pub fn way(&mut self, file: &File, reader: &Reader, range: &Range) -> Way {
        if range.past_cache || range.len < WORTH_IT {
            return Way::Past;
        }
        let Some(chunk) = range.pin.chunk() else {
            return Way::Past;
        };
        if !self.readers.share(reader, range.store, chunk) {
            return Way::Past;
        }
        let fd = file.as_raw_fd();
        let counts = &mut self.counts;
        let clean = range.pin.is_clean(|pos, len| {
            let clean = look(fd, pos, len);
            counts.unclean += u64::from(!clean);
            clean
        });
        if !clean {
            return Way::Past;
        }
        let start = range.pos - range.in_block() as u64;
        let bytes = CELL - (start % CELL as u64) as usize;
        let len = range.len.min(bytes - range.in_block());
        if is_there(fd, range.pos, len) {
            Way::There(bytes)
        } else {
            Way::Fill(bytes)
        }
    }

    /// Begins to bring a range in, for a connection that knows it as `load`.
    pub fn fill(
        &mut self,
        file: &File,
        conn: ConnId,
        load: u64,
        range: Range,
        ring: &mut Ring<Tag>,
    ) {
        let (fd, pos, len) = (file.as_raw_fd(), range.pos, range.len);
        self.counts.filled += len as u64;
        let id = self.coming.insert(Coming { conn, load, range });
        ring.push(Tag::Cache(id), Op::Advise { fd, pos, len });
    }

    /// An operation of the filling has ended: which range of which connection is there now, how long it is, and
    /// whether it really is.
    pub fn on_done(
        &mut self,
        id: usize,
        op: Op,
        result: Result<usize, i32>,
        ring: &mut Ring<Tag>,
    ) -> Option<(ConnId, u64, usize, bool)> {
        if let (Op::Advise { fd, pos, len }, Ok(_)) = (&op, result) {
            // The reads have begun. Their last byte says when they are over.
            let (fd, pos, buf) = (*fd, pos + *len as u64 - 1, Vec::new());
            ring.push(
                Tag::Cache(id),
                Op::Read {
                    fd,
                    pos,
                    len: 1,
                    buf,
                },
            );
            return None;
        }
        let Coming { conn, load, range } = self.coming.remove(id);
        Some((conn, load, range.len, result == Ok(1)))
    }

    /// Sends what a socket takes of the first `len` bytes of a range; `None` if they are not in the cache any more.
    ///
    /// # Errors
    /// As sendfile(2): `EAGAIN` if the socket takes nothing now.
    pub fn send(
        &mut self,
        file: &File,
        socket: RawFd,
        range: &Range,
        len: usize,
    ) -> io::Result<Option<usize>> {
        let (fd, len) = (file.as_raw_fd(), len.min(range.len));
        if !is_there(fd, range.pos, len) {
            self.counts.gone += 1;
            return Ok(None);
        }
        let sent = sys::send_file(socket, fd, range.pos, len)?;
        self.counts.sent += sent as u64;
        Ok(Some(sent))
    }
}

/// Whether the page cache holds nothing of a chunk, or does not any more.
fn look(file: RawFd, pos: u64, len: u64) -> bool {
    let is_empty = || sys::cached_pages(file, pos, len) == Some(0);
    if is_empty() {
        return true;
    }
    sys::drop_cached(file, pos, len);
    is_empty()
}

/// Whether all of a part of a file is in the page cache. All its pages are, the first and the last one ready: those
/// between came with them.
fn is_there(file: RawFd, pos: u64, len: usize) -> bool {
    let last = pos + len as u64 - 1;
    let pages = last / BLOCK as u64 - pos / BLOCK as u64 + 1;
    sys::cached_pages(file, pos, len as u64) == Some(pages)
        && sys::is_ready(file, pos)
        && sys::is_ready(file, last)
}

#[cfg(test)]
#[path = "cached_tests.rs"]
mod tests;
