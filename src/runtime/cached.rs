//! Reads by way of the page cache: a part of a store file is brought in by the ring, waited
//! for by the ring, and sent when it is there, so that calls of a shard's seldom wait for the disk.
//!
//! Writes go past the cache, so it must never show what was there before one:
//! - What is brought in is of a chunk to which nothing more is written before it is free again
//!   (`ChunkPin::is_sealed`), is brought in page by page, and its chunk is pinned until it is there.
//!   So no page comes in while its place is being written, and the kernel takes away what it has
//!   of a place when that is written to.
//! - The first who reads a chunk since it was given to its log looks whether the cache holds anything of it, and lets
//!   that go. If something stays, that chunk is read past the cache until it is free again.
//! - Where what is sent begins with a batch whose header was read past the cache and agrees with the index, the cache
//!   has to have the same there. Nothing else of all this should ever let it have another; if it has, the chunk is read
//!   past it until it is free again.
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
use crate::broker::trace::{DiskReads, SLOW_SEND_US};
use crate::config::PageCacheReads;
use crate::store::{BEGINNING_BYTES, ChunkPin, Trust};

/// What is brought in, asked about and sent at a time: a part of a file between two multiples of this. All readers
/// have the same parts, so that one is brought in by one operation.
pub const CELL: usize = 256 * 1024;
/// What is asked for at a time at least, where the system does not bring in as much as it is asked for.
const ADVISED_MIN: usize = 16 * 1024;
/// After so many parts in a row that came whole, larger ones are tried again: what was short was perhaps memory.
const WHOLE_UNTIL_MORE: u32 = 1024;
/// One page in so many bytes is asked whether it is ready: parts of the disk's queue may end, and fail, by themselves.
const READY_EVERY: usize = 32 * 1024;
/// How many chunks are let go at a time. It takes the kernel long, and each has a worker of the ring to itself.
const GOING_MAX: usize = 2;
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

/// What the ring does about the page cache. It holds the pin, whatever becomes of the connection.
enum Work {
    /// A range is on its way into it.
    Coming {
        conn: ConnId,
        load: u64,
        range: Range,
    },
    /// What it has of a chunk is let go.
    Going { pin: ChunkPin },
}

/// How much the system is asked to bring in at a time: less than a cell where it brings in less than that.
#[derive(Debug)]
struct Advised {
    len: usize,
    /// How many such parts in a row came whole.
    whole: u32,
}

impl Default for Advised {
    fn default() -> Self {
        Self {
            len: CELL,
            whole: 0,
        }
    }
}

impl Advised {
    /// A part has come, whole or not. Whether to go on: with what is behind it, or with it once more, in smaller
    /// parts. A short one that is not whole says nothing of how much can be asked for; pages of it have gone again.
    const fn came(&mut self, len: usize, is_whole: bool) -> bool {
        if is_whole {
            self.whole += 1;
            if self.whole == WHOLE_UNTIL_MORE && self.len < CELL {
                self.len *= 2;
            }
            self.whole %= WHOLE_UNTIL_MORE;
            return true;
        }
        self.whole = 0;
        let says_something = len > self.len / 2 && self.len > ADVISED_MIN;
        if says_something {
            self.len /= 2;
        }
        says_something
    }
}

/// What a shard reads by way of the page cache.
pub struct Cached {
    readers: Readers,
    work: Slab<Work>,
    /// How many of them are [`Work::Going`].
    going: usize,
    advised: Advised,
    /// What was read which way since the start.
    pub counts: DiskReads,
}

impl Cached {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(setting: PageCacheReads) -> Self {
        Self {
            readers: Readers::new(setting),
            work: Slab::new(),
            going: 0,
            advised: Advised::default(),
            counts: DiskReads::default(),
        }
    }

    /// How the next part of a range of this file is read.
    pub fn way(
        &mut self,
        file: &File,
        reader: &Reader,
        range: &Range,
        ring: &mut Ring<Tag>,
    ) -> Way {
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
        if !range.pin.is_sealed() || !self.is_clean(fd, chunk, &range.pin, ring) {
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
        let id = self.work.insert(Work::Coming { conn, load, range });
        let len = len.min(self.advised.len);
        ring.push(Tag::Cache(id), Op::Advise { fd, pos, len });
    }

    /// Whether the page cache holds nothing of a chunk that was there before this use of it. Its first reader looks;
    /// letting go what there is takes the kernel long, so until it has the chunk is read past the cache. While others
    /// are let go, that is left to a later reader.
    fn is_clean(&mut self, fd: RawFd, pos: u64, pin: &ChunkPin, ring: &mut Ring<Tag>) -> bool {
        if !pin.begin_to_look() {
            return pin.trust() == Trust::Clean;
        }
        if sys::cached_pages(fd, pos, pin.len()) == Some(0) {
            pin.looked(true);
            return true;
        }
        if self.going == GOING_MAX {
            pin.look_later();
            return false;
        }
        self.going += 1;
        let (len, pin) = (pin.len() as usize, pin.clone());
        let id = self.work.insert(Work::Going { pin });
        ring.push(Tag::Cache(id), Op::Forget { fd, pos, len });
        false
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
        let range = match self.work.get(id)? {
            Work::Coming { range, .. } => range,
            Work::Going { pin } => {
                let (Op::Forget { fd, pos, .. }, len) = (op, pin.len()) else {
                    return None;
                };
                let clean = sys::cached_pages(fd, pos, len) == Some(0);
                pin.looked(clean);
                self.counts.unclean += u64::from(!clean);
                self.work.remove(id);
                self.going -= 1;
                return None;
            }
        };
        let end = range.pos + range.len as u64;
        let there = match (op, result) {
            (Op::Advise { fd, pos, len }, Ok(_)) => {
                let whole = is_coming(fd, pos, len);
                if self.advised.came(len, whole) {
                    let next = if whole { pos + len as u64 } else { pos };
                    ring.push(Tag::Cache(id), self.next(fd, next, end));
                    return None;
                }
                false
            }
            // The last byte is there.
            (Op::Read { fd, .. }, Ok(1)) => is_there(fd, range.pos, range.len),
            _ => false,
        };
        match self.work.remove(id) {
            Work::Coming { conn, load, range } => Some((conn, load, range.len, there)),
            Work::Going { .. } => None,
        }
    }

    /// What comes next when a range is asked for up to `pos`: its last byte says when the reads are over.
    fn next(&self, fd: RawFd, pos: u64, end: u64) -> Op {
        let len = self.advised.len.min((end - pos) as usize);
        if len > 0 {
            return Op::Advise { fd, pos, len };
        }
        let (pos, len, buf) = (end - 1, 1, Vec::new());
        Op::Read { fd, pos, len, buf }
    }

    /// Sends what a socket takes of the first `len` bytes of a range; `None` if they are not in the cache any more, or
    /// it may not be believed about them.
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
        // Of a chunk that was clean when this came in, another part may have been found not to be.
        if range.pin.trust() != Trust::Clean || !is_there(fd, range.pos, len) {
            self.counts.gone += 1;
            return Ok(None);
        }
        if !self.begins_right(fd, range) {
            return Ok(None);
        }
        let before = sys::mono();
        let sent = sys::send_file(socket, fd, range.pos, len);
        let us = (sys::mono().0 - before.0) / 1000;
        if us > SLOW_SEND_US {
            self.counts.slow += 1;
            self.counts.slow_us += us;
        }
        let sent = sent?;
        self.counts.sent += sent as u64;
        Ok(Some(sent))
    }

    /// Whether the page cache has at the start of a range what is known to be there.
    fn begins_right(&mut self, fd: RawFd, range: &Range) -> bool {
        let Some(expected) = range.begins.as_deref() else {
            return true;
        };
        // What is sent may end before the header does.
        let len = BEGINNING_BYTES.min(range.len);
        let mut found = [0; BEGINNING_BYTES];
        if !sys::read_if_there(fd, range.pos, &mut found[..len]) {
            self.counts.gone += 1;
            return false;
        }
        let is_right = found[..len] == expected[..len];
        if !is_right {
            self.counts.unclean += 1;
            range.pin.looked(false);
            tracing::error!(
                "the page cache does not have what the disk has at {} of store-{}: the chunk is read past it",
                range.pos,
                range.store
            );
        }
        is_right
    }
}

/// Pages that a part of a file is in.
fn pages(pos: u64, len: usize) -> u64 {
    (pos + len as u64).div_ceil(BLOCK as u64) - pos / BLOCK as u64
}

/// Whether all pages of a part of a file are in the page cache, read or being read.
fn is_coming(file: RawFd, pos: u64, len: usize) -> bool {
    sys::cached_pages(file, pos, len as u64) == Some(pages(pos, len))
}

/// Whether all of a part of a file is in the page cache, and read, as far as can be told by asking some of its pages.
fn is_there(file: RawFd, pos: u64, len: usize) -> bool {
    let last = pos + len as u64 - 1;
    let mut asked = (pos..last).step_by(READY_EVERY);
    is_coming(file, pos, len)
        && asked.all(|pos| sys::is_ready(file, pos))
        && sys::is_ready(file, last)
}

#[cfg(test)]
#[path = "cached_tests.rs"]
mod tests;
