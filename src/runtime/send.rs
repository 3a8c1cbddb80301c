//! What one connection is being sent. Replies go out in order, many small ones with
//! one vectored send; a reader that is slow holds up nobody but itself.
//!
//! File ranges never make the core wait for the disk. They are read through the ring,
//! past the page cache, into recycled memory: several at a time and ahead of what is
//! being sent, so that a replay is bound by the disk and not by its latency. Reading
//! stops where the connection, or the shard, holds as much unsent as it may. What others
//! read too is read into the page cache instead, and sent from there.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use bytes::Bytes;

use super::cached::{CELL, Way};
use super::conn::{Conn, Shared};
use super::disk::Disk;
use super::range::Range;
use super::readers::Reader;
use super::ring::{Op, Ring, SLICES_MAX, SendBatch};
use super::stalled::Stalled;
use super::sys;
use super::tag::Tag;
use crate::base::Mono;
use crate::base::limits::{CONN_READ_AHEAD_BYTES_MAX, STALLED_AFTER_MS, STALLED_DRAIN_MS_MIN};
use crate::store::Piece;

/// Most bytes of one send, so that one connection does not keep the core for long.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of one read: large enough for the disk's full speed with a few of them, small enough
/// that a flush which comes behind them hardly notices.
const READ_BYTES_MAX: usize = 256 * 1024;

/// How often in a row a socket may take nothing of the page cache when it says that it takes something.
const REFUSED_MAX: u32 = 3;

enum Item {
    /// A slice of what others have, too.
    Shared(Bytes),
    /// Memory that nobody else has.
    Own(Bytes),
    /// The same, read for this connection, and how many bytes of pages it holds.
    Loaded(Bytes, usize),
    /// A range on its way from the disk, and the number of its read.
    Loading(Range, u64),
    /// A range that is in the page cache.
    Cached(Range),
    File(Range),
    /// The reply ends here.
    End,
}

/// Memory of replies.
#[derive(Clone, Copy, Default, Debug)]
struct Held {
    /// Which this connection has alone, [`Held::loaded`] not included.
    own: usize,
    /// Which others have, or had, too: slices of the log's tail.
    shared: usize,
    /// Read from disk for it,
    loaded: usize,
    /// and the pages that it lies in: a short range holds whole ones.
    pages: usize,
}

impl Held {
    fn add(&mut self, item: &Item) {
        match item {
            Item::Own(bytes) => self.own += bytes.len(),
            Item::Shared(bytes) => self.shared += bytes.len(),
            Item::Loaded(bytes, pages) => {
                self.loaded += bytes.len();
                self.pages += pages;
            }
            Item::Loading(..) | Item::Cached(_) | Item::File(_) | Item::End => {}
        }
    }

    fn remove(&mut self, sent: Self) {
        self.own -= sent.own;
        self.shared -= sent.shared;
        self.loaded -= sent.loaded;
        self.pages -= sent.pages;
    }

    /// What is to be sent of it.
    fn total(&self) -> usize {
        self.own + self.shared + self.loaded
    }

    /// What it takes.
    fn memory(&self) -> usize {
        self.own + self.shared + self.pages
    }
}

/// A batch on its way.
struct Sending {
    /// How many replies end in it.
    ends: usize,
    held: Held,
    since: Mono,
}

/// What a client had acknowledged, in bytes since it connected, when that was looked at.
#[derive(Clone, Copy)]
struct Acked {
    at: Mono,
    bytes: u64,
}

/// How fast a client takes what it is sent. One and the same for all batches: of each alone there may be no two looks.
struct Pace {
    from: Acked,
    last: Acked,
}

impl Pace {
    const fn new(now: Acked) -> Self {
        Self {
            from: now,
            last: now,
        }
    }

    /// Bytes a second in the last one or two seconds, if it has been looked at for so long.
    fn rate(&mut self, now: Acked) -> Option<u64> {
        if now.at.ms_since(self.last.at) > 3 * STALLED_AFTER_MS {
            // Nobody looked meanwhile.
            *self = Self::new(now);
            return None;
        }
        let ms = now.at.ms_since(self.from.at);
        let taken = now.bytes.saturating_sub(self.from.bytes);
        if now.at.ms_since(self.last.at) >= STALLED_AFTER_MS {
            (self.from, self.last) = (self.last, now);
        }
        (ms >= STALLED_AFTER_MS).then(|| taken * 1000 / ms)
    }
}

/// The sending side of a connection.
pub struct Sender {
    conn: Rc<Conn>,
    reader: Reader,
    items: VecDeque<Item>,
    /// How many of them are [`Item::File`].
    files: usize,
    /// Bytes that are read, or on their way, and not given to a send yet.
    ahead: usize,
    /// Reads in flight.
    loading: usize,
    /// Reads so far.
    loads: u64,
    /// A batch that is on its way.
    sending: Option<Sending>,
    /// How fast the client takes what there is for it, looked at now and then.
    pace: Option<Pace>,
    /// How often in a row the socket took nothing of the page cache.
    refused: u32,
    /// Memory of everything queued and on its way.
    held: Held,
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
            reader: Reader::default(),
            items: VecDeque::new(),
            files: 0,
            ahead: 0,
            loading: 0,
            loads: 0,
            sending: None,
            pace: None,
            refused: 0,
            held: Held::default(),
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
    pub fn reply(&mut self, pieces: Vec<Piece>, shared: &Shared) {
        if self.dead {
            return;
        }
        if self.is_done() {
            self.pace = None;
        }
        let bytes = pieces.iter().map(Piece::len).sum();
        self.conn.reply_queued(bytes, shared);
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            let item = match piece {
                // A slice of a page buffer never counts as the only one.
                Piece::Memory(bytes) if bytes.is_unique() => Item::Own(bytes),
                Piece::Memory(bytes) => Item::Shared(bytes),
                Piece::File {
                    store,
                    pos,
                    len,
                    pin,
                    begins,
                } => {
                    self.files += 1;
                    Item::File(Range {
                        store,
                        pos,
                        len,
                        pin,
                        begins,
                        past_cache: false,
                    })
                }
            };
            self.held.add(&item);
            self.items.push_back(item);
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
        self.held = self
            .sending
            .as_ref()
            .map(|sending| sending.held)
            .unwrap_or_default();
    }

    /// Bytes of memory that wait for the client.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.memory()
    }

    /// Looks how fast the client takes what is on its way. What it holds, if it takes next to nothing.
    pub fn stalled(&mut self, now: Mono) -> Option<Stalled> {
        if self.is_done() {
            return None;
        }
        let bytes = sys::acknowledged_bytes(self.conn.fd)?;
        self.conn.acknowledged(bytes, now);
        let acked = Acked { at: now, bytes };
        let Some(sending) = &self.sending else {
            // It is the disk that is waited for.
            self.pace = Some(Pace::new(acked));
            return None;
        };
        let (held, pace) = (self.held, self.pace.get_or_insert(Pace::new(acked)));
        let rate = pace.rate(acked);
        let drain_ms = held.total() as u64 * 1000 / rate?.max(1);
        let old = now.ms_since(sending.since) >= STALLED_AFTER_MS;
        (old && drain_ms >= STALLED_DRAIN_MS_MIN).then_some(Stalled {
            conn: self.conn.id,
            own: held.own + held.pages,
            shared: held.shared,
            loaded: held.pages,
            drain_ms,
        })
    }

    /// Starts what can be started; a completion or a new reply comes before there is more to do.
    pub fn advance(&mut self, disk: &mut Disk, shared: &Shared, ring: &mut Ring<Tag>) {
        if self.dead {
            return;
        }
        self.send(disk, shared, ring);
        while self.files > 0 {
            match self.read_ahead(disk, ring) {
                // If it is gone again already, there is more to read.
                Ok(true) => self.send(disk, shared, ring),
                Ok(false) => break,
                Err(error) => self.unreadable(self.loads, &error, shared),
            }
        }
        if self.closing && self.is_done() {
            self.closing = false;
            self.conn.close();
        }
    }

    /// Takes what was read by read `id`. True if the connection is gone and its socket may now be closed;
    /// else [`Sender::advance`] goes on.
    pub fn on_loaded(&mut self, id: u64, blocks: io::Result<Bytes>, shared: &Shared) -> bool {
        self.loading -= 1;
        if let Err(error) = blocks.and_then(|blocks| self.put_in_place(id, &blocks)) {
            self.unreadable(id, &error, shared);
        }
        self.dead && self.is_still()
    }

    /// Takes the completion of a send; the same as for [`Sender::on_loaded`] goes for the result.
    pub fn on_done(
        &mut self,
        op: Op,
        result: Result<usize, i32>,
        shared: &Shared,
        ring: &mut Ring<Tag>,
    ) -> bool {
        let Some(sending) = self.sending.take() else {
            return false;
        };
        match (op, result) {
            (Op::Send { fd, mut batch }, Ok(n)) if !self.dead => {
                batch.advance(n);
                if batch.is_empty() {
                    self.conn.sent(n, sending.ends, shared);
                    self.held.remove(sending.held);
                    self.spare = batch.is_small().then_some(batch);
                } else {
                    // More slices than one send takes, or interrupted.
                    self.conn.sent(n, 0, shared);
                    self.sending = Some(sending);
                    ring.push(Tag::Conn(self.conn.id), Op::Send { fd, batch });
                }
            }
            (_, result) => {
                self.held.remove(sending.held);
                if let Err(errno) = result
                    && !self.dead
                {
                    self.fail(&io::Error::from_raw_os_error(errno));
                }
            }
        }
        self.dead && self.is_still()
    }

    /// Sends what is in memory, up to the next range that is not.
    fn send(&mut self, disk: &mut Disk, shared: &Shared, ring: &mut Ring<Tag>) {
        if self.sending.is_none() && matches!(self.items.front(), Some(Item::Cached(_))) {
            self.send_cached(disk, shared, ring);
        }
        if self.sending.is_some() || self.items.is_empty() {
            return;
        }
        let mut batch = self.spare.take().unwrap_or_default();
        batch.more = false;
        let (mut bytes, mut ends) = (0, 0);
        let mut held = Held::default();
        // Whether what is in the batch so far ends within a reply.
        let mut cut = false;
        while bytes < BATCH_BYTES_MAX && batch.slices() < SLICES_MAX {
            let Some(item) = self.items.pop_front() else {
                break;
            };
            held.add(&item);
            match item {
                Item::End => {
                    ends += 1;
                    cut = false;
                    continue;
                }
                Item::Shared(part) | Item::Own(part) => {
                    bytes += part.len();
                    batch.push(part);
                }
                Item::Loaded(part, _) => {
                    bytes += part.len();
                    self.ahead -= part.len();
                    batch.push(part);
                }
                range @ (Item::File(_) | Item::Loading(..) | Item::Cached(_)) => {
                    self.items.push_front(range);
                    batch.more = cut;
                    break;
                }
            }
            cut = true;
        }
        if !batch.is_empty() {
            self.sending = Some(Sending {
                ends,
                held,
                since: shared.now.get(),
            });
            let fd = self.conn.fd;
            ring.push(Tag::Conn(self.conn.id), Op::Send { fd, batch });
        } else {
            self.spare = Some(batch);
            if ends > 0 {
                self.conn.sent(0, ends, shared);
            }
        }
    }

    /// Sends what comes next and is in the page cache, some of it in this turn; what is not any more is to be read
    /// past it.
    fn send_cached(&mut self, disk: &mut Disk, shared: &Shared, ring: &mut Ring<Tag>) {
        let mut left = CELL;
        while let Some(Item::Cached(range)) = self.items.front_mut() {
            let sent = match left {
                0 => Err(io::ErrorKind::WouldBlock.into()), // others first
                _ => disk.send_cached(self.conn.fd, range, left),
            };
            match sent {
                Ok(Some(n)) if n > 0 => {
                    self.refused = 0;
                    left -= n;
                    self.ahead -= n;
                    range.skip(n);
                    if range.len == 0 {
                        self.items.pop_front();
                    }
                    self.conn.sent(n, 0, shared);
                }
                // The file ends there, or the kernel has no memory, or cannot read it: the disk will tell.
                Ok(_) => self.read_past_cache(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.refused += u32::from(left > 0);
                    if self.refused > REFUSED_MAX {
                        // A socket that says it takes something, and does not, for want of the system's memory:
                        // the ring knows how to wait for that.
                        self.refused = 0;
                        self.read_past_cache(0);
                        continue;
                    }
                    self.sending = Some(Sending {
                        ends: 0,
                        held: Held::default(),
                        since: shared.now.get(),
                    });
                    let fd = self.conn.fd;
                    return ring.push(Tag::Conn(self.conn.id), Op::Writable { fd });
                }
                Err(error) if is_of_socket(&error) => return self.fail(&error),
                Err(_) => self.read_past_cache(0),
            }
        }
    }

    /// The range at this place is not in the page cache.
    fn read_past_cache(&mut self, index: usize) {
        let item = std::mem::replace(&mut self.items[index], Item::End);
        self.items[index] = match item {
            Item::Cached(mut range) | Item::Loading(mut range, _) => {
                range.past_cache = true;
                self.ahead -= range.len;
                self.files += 1;
                Item::File(range)
            }
            item => item,
        };
    }

    /// A range was brought into the page cache by read `id`, if it is `there`. The same as for
    /// [`Sender::on_loaded`] goes for the result.
    pub fn on_cached(&mut self, id: u64, there: bool) -> bool {
        self.loading -= 1;
        let mut items = self.items.iter();
        let is_it = |item: &Item| matches!(item, Item::Loading(_, its) if *its == id);
        if let Some(index) = items.position(is_it) {
            if !there {
                self.read_past_cache(index);
            } else if let Item::Loading(range, _) =
                std::mem::replace(&mut self.items[index], Item::End)
            {
                self.items[index] = Item::Cached(range);
            }
        }
        self.dead && self.is_still()
    }

    /// What is read ahead takes so much, with the rest of the pages in which short ranges lie.
    fn memory_ahead(&self) -> usize {
        self.ahead + self.held.pages.saturating_sub(self.held.loaded)
    }

    /// Reads the next ranges, as long as the connection and the shard may hold more. Whether some need not be read.
    fn read_ahead(&mut self, disk: &mut Disk, ring: &mut Ring<Tag>) -> io::Result<bool> {
        let (mut index, mut some_there) = (0, false);
        // With nothing in flight what comes next is to be read, whatever is there behind it.
        while self.memory_ahead() < CONN_READ_AHEAD_BYTES_MAX || self.is_still() && !some_there {
            match self.items.get_mut(index) {
                None => break,
                Some(Item::File(range)) => {
                    let still = self.sending.is_none() && self.loading == 0;
                    let conn = self.conn.id;
                    let way = disk.way(&self.reader, range, ring);
                    let bytes_max = match way {
                        Way::There(bytes) => bytes,
                        Way::Fill(bytes) => bytes.min(disk.may_load(conn, still)),
                        Way::Past => READ_BYTES_MAX.min(disk.may_load(conn, still)),
                    };
                    if bytes_max == 0 {
                        break;
                    }
                    let part = range.split_front(bytes_max);
                    let rest = range.len;
                    self.ahead += part.len;
                    self.loads += 1;
                    let (started, part) = match way {
                        Way::There(_) => (Ok(()), Item::Cached(part)),
                        Way::Fill(_) => (
                            disk.fill(conn, self.loads, part.clone(), ring),
                            Item::Loading(part, self.loads),
                        ),
                        Way::Past => (
                            disk.load(conn, self.loads, &part, ring),
                            Item::Loading(part, self.loads),
                        ),
                    };
                    let is_there = matches!(part, Item::Cached(_));
                    some_there |= is_there;
                    self.loading += usize::from(started.is_ok() && !is_there);
                    if rest == 0 {
                        self.files -= 1;
                        self.items[index] = part;
                    } else {
                        self.items.insert(index, part);
                    }
                    started?;
                }
                Some(_) => {}
            }
            index += 1;
        }
        Ok(some_there)
    }

    /// Puts what was read in the place of its range. The kernel may have read less than was asked for.
    fn put_in_place(&mut self, id: u64, blocks: &Bytes) -> io::Result<()> {
        let mut items = self.items.iter();
        let is_it = |item: &Item| matches!(item, Item::Loading(_, its)  if *its == id);
        let Some(index) = items.position(is_it) else {
            return Ok(()); // forgotten
        };
        let Item::Loading(range, _) = &self.items[index] else {
            return Ok(());
        };
        let from = range.in_block();
        let there = blocks.len().saturating_sub(from).min(range.len);
        if there == 0 {
            return Err(cut_off());
        }
        let loaded = Item::Loaded(blocks.slice(from..from + there), blocks.len());
        self.held.add(&loaded);
        let Item::Loading(mut range, _) = std::mem::replace(&mut self.items[index], loaded) else {
            return Ok(());
        };
        if there < range.len {
            range.skip(there);
            self.ahead -= range.len;
            self.files += 1;
            self.items.insert(index + 1, Item::File(range));
        }
        Ok(())
    }

    /// What read `id` was to read cannot be sent. A reply cannot be taken back once it is here, and its
    /// length is told already, so the connection ends, as in Kafka. For the store it means nothing: what
    /// else is in it is as good as before, and so is what is written to it.
    fn unreadable(&mut self, id: u64, error: &io::Error, shared: &Shared) {
        let place = self.items.iter().find_map(|item| match item {
            Item::Loading(range, its) if *its == id => Some((range.store, range.pos, range.len)),
            _ => None,
        });
        if let Some((store, pos, len)) = place {
            let peer = self.conn.peer;
            shared.unreadable.error(|| {
                format!(
                    "cannot read {len} bytes at {pos} of store-{store} for a reply: {error}; connection of {peer} closed"
                )
            });
        }
        self.fail(error);
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::debug!(peer = %self.conn.peer, %error, "cannot send");
        self.forget();
        self.conn.close();
    }
}

/// Whether sending failed because of the connection, and not of what was sent.
fn is_of_socket(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::BrokenPipe
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    )
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
