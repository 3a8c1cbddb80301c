//! What one connection is being sent. Replies go out in order, many small ones with
//! one vectored send; a reader that is slow holds up nobody but itself.
//!
//! File ranges never make the core wait for the disk. They are read through the ring,
//! past the page cache, into recycled memory: several at a time and ahead of what is
//! being sent, so that a replay is bound by the disk and not by its latency. Reading
//! stops where the connection, or the shard, holds as much unsent as it may.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use bytes::Bytes;

use super::conn::{Conn, Front};
use super::disk::Disk;
use super::pump::Tag;
use super::ring::{Op, Ring, SLICES_MAX, SendBatch};
use crate::base::limits::CONN_READ_AHEAD_BYTES_MAX;
use crate::base::{BLOCK, StoreId};
use crate::store::{ChunkPin, Piece};

/// Most bytes of one send, so that one connection does not keep the core for long.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of one read: large enough for the disk's full speed with a few of them, small enough
/// that a flush which comes behind them hardly notices.
const READ_BYTES_MAX: usize = 256 * 1024;

/// A file range that is still to be sent.
pub struct Range {
    /// The store.
    pub store: StoreId,
    /// Byte position in its file.
    pub pos: u64,
    /// Length in bytes.
    pub len: usize,
    /// Keeps it from being reused.
    pub pin: ChunkPin,
}

impl Range {
    /// Bytes of its first block that are before it.
    pub fn in_block(&self) -> usize {
        (self.pos % BLOCK as u64) as usize
    }

    /// Cuts off a part whose blocks are at most so many bytes, at least a block: it ends at a block
    /// boundary, or with the range.
    fn split_front(&mut self, bytes_max: usize) -> Self {
        let blocks = (bytes_max / BLOCK).max(1) * BLOCK;
        let len = self.len.min(blocks - self.in_block());
        let front = Self {
            store: self.store,
            pos: self.pos,
            len,
            pin: self.pin.clone(),
        };
        self.pos += len as u64;
        self.len -= len;
        front
    }
}

enum Item {
    Memory(Bytes),
    /// The same, but read for this connection.
    Loaded(Bytes),
    /// A range on its way from the disk, and the number of its read.
    Loading(Range, u64),
    File(Range),
    /// The reply ends here.
    End,
}

/// The sending side of a connection.
pub struct Sender {
    conn: Rc<Conn>,
    items: VecDeque<Item>,
    /// How many of them are [`Item::File`].
    files: usize,
    /// Bytes that are read, or on their way, and not given to a send yet.
    ahead: usize,
    /// Reads in flight.
    loading: usize,
    /// Reads so far.
    loads: u64,
    /// A batch in which so many replies end is on its way.
    sending: Option<usize>,
    /// The last batch, empty, for the next one: a small reply then needs no new memory.
    spare: Option<Box<SendBatch>>,
    closing: bool,
    dead: bool,
}

impl Sender {
    /// For a new connection.
    #[must_use]
    pub fn new(conn: Rc<Conn>) -> Self {
        Self {
            conn,
            items: VecDeque::new(),
            files: 0,
            ahead: 0,
            loading: 0,
            loads: 0,
            sending: None,
            spare: None,
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
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            self.items.push_back(match piece {
                Piece::Memory(bytes) => Item::Memory(bytes),
                Piece::File {
                    store,
                    pos,
                    len,
                    pin,
                } => {
                    self.files += 1;
                    Item::File(Range {
                        store,
                        pos,
                        len,
                        pin,
                    })
                }
            });
        }
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
        self.forget();
        self.is_still()
    }

    /// Whether everything queued is sent.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.items.is_empty() && self.is_still()
    }

    fn is_still(&self) -> bool {
        self.sending.is_none() && self.loading == 0
    }

    fn forget(&mut self) {
        self.items.clear();
        self.files = 0;
        self.ahead = 0;
    }

    /// Starts what can be started; a completion or a new reply comes before there is more to do.
    pub fn advance(&mut self, disk: &mut Disk, front: &Front, ring: &mut Ring<Tag>) {
        if self.dead {
            return;
        }
        self.send(front, ring);
        if self.files > 0
            && let Err(error) = self.read_ahead(disk, ring)
        {
            self.fail(&error);
        }
        if self.closing && self.is_done() {
            self.closing = false;
            self.conn.close();
        }
    }

    /// Takes what was read by read `id`. True if the connection is gone and its socket may now be closed;
    /// else [`Sender::advance`] goes on.
    pub fn on_loaded(&mut self, id: u64, blocks: io::Result<Bytes>) -> bool {
        self.loading -= 1;
        if let Err(error) = blocks.and_then(|blocks| self.put_in_place(id, &blocks)) {
            self.fail(&error);
        }
        self.dead && self.is_still()
    }

    /// Takes the completion of a send; the same as for [`Sender::on_loaded`] goes for the result.
    pub fn on_done(
        &mut self,
        op: Op,
        result: Result<usize, i32>,
        front: &Front,
        ring: &mut Ring<Tag>,
    ) -> bool {
        let ends = self.sending.take().unwrap_or(0);
        match (op, result) {
            _ if self.dead => {}
            (_, Err(errno)) => self.fail(&io::Error::from_raw_os_error(errno)),
            (Op::Send { fd, mut batch }, Ok(n)) => {
                batch.advance(n);
                if batch.is_empty() {
                    self.conn.sent(n, ends, front);
                    self.spare = batch.is_small().then_some(batch);
                } else {
                    // More slices than one send takes, or interrupted.
                    self.conn.sent(n, 0, front);
                    self.sending = Some(ends);
                    ring.push(Tag::Conn(self.conn.id), Op::Send { fd, batch });
                }
            }
            (_, Ok(_)) => {}
        }
        self.dead && self.is_still()
    }

    /// Sends what is in memory, up to the next range that is not.
    fn send(&mut self, front: &Front, ring: &mut Ring<Tag>) {
        if self.sending.is_some() || self.items.is_empty() {
            return;
        }
        let mut batch = self.spare.take().unwrap_or_default();
        batch.more = false;
        let (mut bytes, mut ends) = (0, 0);
        // Whether what is in the batch so far ends within a reply.
        let mut cut = false;
        while bytes < BATCH_BYTES_MAX && batch.slices() < SLICES_MAX {
            match self.items.pop_front() {
                None => break,
                Some(Item::End) => {
                    ends += 1;
                    cut = false;
                    continue;
                }
                Some(Item::Memory(part)) => {
                    bytes += part.len();
                    batch.push(part);
                }
                Some(Item::Loaded(part)) => {
                    bytes += part.len();
                    self.ahead -= part.len();
                    batch.push(part);
                }
                Some(range @ (Item::File(_) | Item::Loading(..))) => {
                    self.items.push_front(range);
                    batch.more = cut;
                    break;
                }
            }
            cut = true;
        }
        if !batch.is_empty() {
            self.sending = Some(ends);
            let fd = self.conn.fd;
            ring.push(Tag::Conn(self.conn.id), Op::Send { fd, batch });
        } else {
            self.spare = Some(batch);
            if ends > 0 {
                self.conn.sent(0, ends, front);
            }
        }
    }

    /// Reads the next ranges, as long as the connection and the shard may hold more.
    fn read_ahead(&mut self, disk: &mut Disk, ring: &mut Ring<Tag>) -> io::Result<()> {
        let mut index = 0;
        // With nothing in flight what comes next is to be read, whatever is there behind it.
        while self.ahead < CONN_READ_AHEAD_BYTES_MAX || self.is_still() {
            match self.items.get_mut(index) {
                None => break,
                Some(Item::File(range)) => {
                    let still = self.sending.is_none() && self.loading == 0;
                    let bytes_max = match disk.may_load(self.conn.id, still) {
                        0 => break,
                        bytes => bytes.min(READ_BYTES_MAX),
                    };
                    let part = range.split_front(bytes_max);
                    self.loads += 1;
                    disk.load(self.conn.id, self.loads, &part, ring)?;
                    self.loading += 1;
                    self.ahead += part.len;
                    let rest = range.len;
                    let part = Item::Loading(part, self.loads);
                    if rest == 0 {
                        self.files -= 1;
                        self.items[index] = part;
                    } else {
                        self.items.insert(index, part);
                    }
                }
                Some(_) => {}
            }
            index += 1;
        }
        Ok(())
    }

    /// Puts what was read in the place of its range. The kernel may have read less than was asked for.
    fn put_in_place(&mut self, id: u64, blocks: &Bytes) -> io::Result<()> {
        let mut items = self.items.iter();
        let is_it = |item: &Item| matches!(item, Item::Loading(_, its)  if *its == id);
        let Some(index) = items.position(is_it) else {
            return Ok(()); // forgotten
        };
        let Item::Loading(mut range, _) = std::mem::replace(&mut self.items[index], Item::End)
        else {
            return Ok(());
        };
        let from = range.in_block();
        let there = blocks.len().saturating_sub(from).min(range.len);
        if there == 0 {
            return Err(cut_off());
        }
        self.items[index] = Item::Loaded(blocks.slice(from..from + there));
        if there < range.len {
            range.pos += there as u64;
            range.len -= there;
            self.ahead -= range.len;
            self.files += 1;
            self.items.insert(index + 1, Item::File(range));
        }
        Ok(())
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::debug!(peer = %self.conn.peer, %error, "cannot send");
        self.forget();
        self.conn.close();
    }
}

fn cut_off() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the store file ends before a range to send",
    )
}

#[cfg(test)]
#[path = "send_tests.rs"]
mod tests;
