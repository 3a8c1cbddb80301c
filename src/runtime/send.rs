//! What one connection is being sent. Replies go out in order, many small ones with
//! one vectored send; a reader that is slow holds up nobody but itself.
//!
//! File pieces never make the core wait for the disk. A range in the page cache goes
//! out by sendfile, or by way of memory where that is cheaper: if it is short, to a
//! client on this machine (whose kernel would copy page by page), and if the store is
//! written through the page cache (a page that a socket still refers to would change
//! under it). A range that is not cached is read through the ring first.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use super::conn::{Conn, Front};
use super::disk::Disk;
use super::pump::Tag;
use super::ring::{Op, Ring, SLICES_MAX, SendBatch};
use super::sys;
use crate::base::StoreId;
use crate::store::{ChunkPin, Piece};

/// Most bytes of one send, so that one connection does not keep the core for long.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Most file bytes that go out in one step.
const STEP_BYTES_MAX: usize = 512 * 1024;
/// Most file bytes a connection holds in memory at a time.
const COPY_BYTES_MAX: usize = 256 * 1024;
/// Shorter file pieces go by way of memory, together with what is around them.
const SENDFILE_BYTES_MIN: usize = 32 * 1024;

/// A file range that is still to be sent.
struct Range {
    store: StoreId,
    pos: u64,
    len: usize,
    _pin: ChunkPin,
}

enum Item {
    Memory(bytes::Bytes),
    File(Range),
    /// The reply ends here.
    End,
}

/// Whether [`Sender::advance`] has to be called again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A completion or a new reply will come.
    Waiting,
    /// There is more to do now, after the others had their turn.
    More,
}

/// The sending side of a connection.
pub struct Sender {
    conn: Rc<Conn>,
    items: VecDeque<Item>,
    /// What the operation in flight is about.
    flight: Flight,
    closing: bool,
    dead: bool,
}

enum Flight {
    None,
    /// A batch in which so many replies end.
    Batch(usize),
    Poll,
    /// A range on its way from the disk.
    Read(Range),
}

impl Sender {
    /// For a new connection.
    #[must_use]
    pub fn new(conn: Rc<Conn>) -> Self {
        let items = VecDeque::new();
        Self {
            conn,
            items,
            flight: Flight::None,
            closing: false,
            dead: false,
        }
    }

    /// The connection.
    #[must_use]
    pub fn conn(&self) -> &Rc<Conn> {
        &self.conn
    }

    /// Queues a reply. One of no bytes still ends a request.
    pub fn reply(&mut self, pieces: Vec<Piece>) {
        if self.dead {
            return;
        }
        self.conn.reply_queued(pieces.iter().map(Piece::len).sum());
        self.items.extend(
            pieces
                .into_iter()
                .filter(|piece| !piece.is_empty())
                .map(|piece| match piece {
                    Piece::Memory(bytes) => Item::Memory(bytes),
                    Piece::File {
                        store,
                        pos,
                        len,
                        pin,
                    } => Item::File(Range {
                        store,
                        pos,
                        len,
                        _pin: pin,
                    }),
                }),
        );
        self.items.push_back(Item::End);
    }

    /// Closes the connection once everything queued is sent.
    pub fn close_when_sent(&mut self) {
        self.closing = true;
    }

    /// Forgets what is queued: the connection is gone. True if no operation is in flight, so that
    /// the socket may be closed; else [`Sender::on_done`] will say so.
    pub fn kill(&mut self) -> bool {
        self.dead = true;
        self.items.clear();
        matches!(self.flight, Flight::None)
    }

    /// Whether everything queued is sent.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.items.is_empty() && matches!(self.flight, Flight::None)
    }

    /// Starts what can be started.
    pub fn advance(&mut self, disk: &Disk, front: &Front, ring: &mut Ring<Tag>) -> Progress {
        while matches!(self.flight, Flight::None) && !self.dead {
            let result = match self.items.front() {
                None => {
                    if std::mem::take(&mut self.closing) {
                        self.conn.close();
                    }
                    return Progress::Waiting;
                }
                Some(Item::File(range)) if !self.by_memory(range, disk) => {
                    self.send_file(disk, front, ring)
                }
                Some(_) => self.send_batch(disk, front, ring),
            };
            match result {
                Ok(Progress::Waiting) => {}
                Ok(Progress::More) => return Progress::More,
                Err(error) => self.fail(&error),
            }
        }
        Progress::Waiting
    }

    /// Takes the completion of this connection's operation. True if the connection is gone and its
    /// socket may now be closed; else [`Sender::advance`] goes on.
    pub fn on_done(
        &mut self,
        op: Op,
        result: Result<usize, i32>,
        front: &Front,
        ring: &mut Ring<Tag>,
    ) -> bool {
        match (
            std::mem::replace(&mut self.flight, Flight::None),
            op,
            result,
        ) {
            _ if self.dead => return true,
            (_, _, Err(errno)) => self.fail(&io::Error::from_raw_os_error(errno)),
            (Flight::Batch(ends), Op::Send { fd, mut batch }, Ok(n)) => {
                batch.advance(n);
                if batch.is_empty() {
                    self.conn.sent(n, ends, front);
                } else {
                    // More slices than one send takes, or interrupted.
                    self.conn.sent(n, 0, front);
                    self.flight = Flight::Batch(ends);
                    ring.push(Tag::Conn(self.conn.id), Op::Send { fd, batch });
                }
            }
            (Flight::Read(range), Op::Read { buf, .. }, Ok(n)) if n > 0 => {
                self.unread(range, buf);
            }
            (Flight::Read(_), _, Ok(_)) => self.fail(&cut_off()),
            (Flight::None | Flight::Batch(_) | Flight::Poll, _, Ok(_)) => {}
        }
        false
    }

    /// Sends what is in memory, and file pieces by way of memory, up to the next large range.
    fn send_batch(
        &mut self,
        disk: &Disk,
        front: &Front,
        ring: &mut Ring<Tag>,
    ) -> io::Result<Progress> {
        let mut batch = Box::new(SendBatch::default());
        let (mut bytes, mut copied, mut ends) = (0, 0, 0);
        while bytes < BATCH_BYTES_MAX && batch.slices() < SLICES_MAX {
            let Some(item) = self.items.pop_front() else {
                break;
            };
            match item {
                Item::End => ends += 1,
                Item::Memory(part) => {
                    bytes += part.len();
                    batch.push(part);
                }
                Item::File(range) if copied < COPY_BYTES_MAX && self.by_memory(&range, disk) => {
                    match self.read_cached(range, COPY_BYTES_MAX - copied, disk)? {
                        Ok(n) => copied += n,
                        Err(range) if batch.is_empty() && ends == 0 => {
                            self.read_ahead(range, disk, ring)?;
                            return Ok(Progress::Waiting);
                        }
                        Err(range) => {
                            self.items.push_front(Item::File(range));
                            break;
                        }
                    }
                }
                Item::File(range) => {
                    self.items.push_front(Item::File(range));
                    batch.more = true;
                    break;
                }
            }
        }
        if batch.is_empty() {
            self.conn.sent(0, ends, front);
        } else {
            self.flight = Flight::Batch(ends);
            ring.push(
                Tag::Conn(self.conn.id),
                Op::Send {
                    fd: self.conn.fd,
                    batch,
                },
            );
        }
        Ok(Progress::Waiting)
    }

    /// Whether a range goes by way of memory.
    fn by_memory(&self, range: &Range, disk: &Disk) -> bool {
        range.len < SENDFILE_BYTES_MIN
            || self.conn.peer.ip().is_loopback()
            || disk
                .cached(range.store)
                .is_none_or(|file| !file.written_direct)
    }

    /// Puts as much of a range as is cached at the front of the queue, as memory, the rest of the
    /// range behind it; gives the range back if its first page is not cached.
    fn read_cached(
        &mut self,
        range: Range,
        bytes_max: usize,
        disk: &Disk,
    ) -> io::Result<Result<usize, Range>> {
        let file = &disk.cached(range.store).ok_or_else(no_store)?.file;
        let mut buf = Vec::new();
        match sys::read_resident(file, range.pos, &mut buf, range.len.min(bytes_max)) {
            Ok(0) => Err(cut_off()),
            Ok(n) => {
                self.unread(range, buf);
                Ok(Ok(n))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Err(range)),
            // A filesystem without RWF_NOWAIT: the ring knows what to do.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Err(range)),
            Err(error) => Err(error),
        }
    }

    /// `buf` is the beginning of `range`: both go to the front of the queue.
    fn unread(&mut self, mut range: Range, buf: Vec<u8>) {
        range.pos += buf.len() as u64;
        range.len = range.len.saturating_sub(buf.len());
        if range.len > 0 {
            self.items.push_front(Item::File(range));
        }
        self.items.push_front(Item::Memory(buf.into()));
    }

    fn read_ahead(&mut self, range: Range, disk: &Disk, ring: &mut Ring<Tag>) -> io::Result<()> {
        let file = &disk.cached(range.store).ok_or_else(no_store)?.file;
        let (fd, len) = (file.as_raw_fd(), range.len.min(COPY_BYTES_MAX));
        let op = Op::Read {
            fd,
            pos: range.pos,
            len,
            buf: Vec::new(),
        };
        self.flight = Flight::Read(range);
        ring.push(Tag::Conn(self.conn.id), op);
        Ok(())
    }

    /// Sends a part of the range at the front from the page cache.
    fn send_file(
        &mut self,
        disk: &Disk,
        front: &Front,
        ring: &mut Ring<Tag>,
    ) -> io::Result<Progress> {
        let Some(Item::File(range)) = self.items.front_mut() else {
            return Ok(Progress::Waiting);
        };
        let file = &disk.cached(range.store).ok_or_else(no_store)?.file;
        let n = range.len.min(STEP_BYTES_MAX);
        if !sys::is_resident(file, range.pos, n) {
            if let Some(Item::File(range)) = self.items.pop_front() {
                self.read_ahead(range, disk, ring)?;
            }
            return Ok(Progress::Waiting);
        }
        match sys::sendfile(self.conn.fd, file, range.pos, n) {
            Ok(0) => Err(cut_off()),
            Ok(n) => {
                range.pos += n as u64;
                range.len -= n;
                if range.len == 0 {
                    self.items.pop_front();
                }
                self.conn.sent(n, 0, front);
                Ok(Progress::More)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.flight = Flight::Poll;
                ring.push(Tag::Conn(self.conn.id), Op::Writable { fd: self.conn.fd });
                Ok(Progress::Waiting)
            }
            Err(error) => Err(error),
        }
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::debug!(peer = %self.conn.peer, %error, "cannot send");
        self.items.clear();
        self.conn.close();
    }
}

fn cut_off() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the store file ends before a range to send",
    )
}

fn no_store() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        "a range of a store that is not open",
    )
}

#[cfg(test)]
#[path = "send_tests.rs"]
mod tests;
