//! Memory for requests: from when their bytes arrive until their reply is made and nobody has
//! their bytes any more, also when their connection is gone. The node has one [`Pool`]; each shard
//! leases from it slice by slice, so that nothing shared is touched for most requests. Whoever
//! finds none left is remembered and looked at again when there is.
//!
//! A part of it is set aside for small requests of clients with nothing else in
//! progress, shard by shard: whatever large ones hold, a heartbeat gets in. What other
//! nodes send has a pool of its own.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;

use crate::base::Mono;
use crate::base::limits::SMALL_REQUEST_BYTES_MAX;
use crate::broker::ConnId;

/// The share of the memory that is for small requests only: an eighth.
const RESERVE_SHARE: usize = 8;
/// The share of other nodes: an eighth.
const NODES_SHARE: usize = 8;
/// How many slices the pool has for each shard.
const SLICES_PER_SHARD: usize = 16;
/// Connections that are told of free memory at once. More would be told in vain.
const WAKE_AT_ONCE: usize = 32;
/// How often a shard that is short looks whether others have given something back.
const RETRY_MS: u64 = 10;

/// Request memory of the node.
pub struct Pool {
    limit: usize,
    slice: usize,
    leased: AtomicUsize,
    /// Whether a connection somewhere overdraws.
    overdrawn: AtomicBool,
    /// Shards whose connections wait for memory.
    short: AtomicUsize,
    reserve_per_shard: usize,
}

impl Pool {
    /// Of `bytes`, for `shards` shards.
    #[must_use]
    pub fn new(bytes: usize, shards: u16) -> Arc<Self> {
        let shards = usize::from(shards.max(1));
        let reserve = bytes / RESERVE_SHARE;
        let limit = bytes - reserve;
        Arc::new(Self {
            limit,
            slice: (limit / shards / SLICES_PER_SHARD).max(1),
            leased: AtomicUsize::new(0),
            overdrawn: AtomicBool::new(false),
            short: AtomicUsize::new(0),
            // However little there is, one small request fits.
            reserve_per_shard: (reserve / shards).max(SMALL_REQUEST_BYTES_MAX),
        })
    }

    /// Those of a node, for clients and, if there are any, for other nodes: they have an eighth of it. What those send
    /// must not wait until clients let go of something, for clients wait for them.
    #[must_use]
    pub fn of_node(bytes: usize, shards: u16, has_others: bool) -> (Arc<Self>, Option<Arc<Self>>) {
        let of_nodes = if has_others { bytes / NODES_SHARE } else { 0 };
        let clients = Self::new(bytes - of_nodes, shards);
        (clients, has_others.then(|| Self::new(of_nodes, shards)))
    }

    /// Bytes that requests have, or that shards hold ready for them, and how many there may be.
    #[must_use]
    pub fn leased(&self) -> [usize; 2] {
        [self.leased.load(Ordering::Relaxed), self.limit]
    }

    /// Up to `slices` slices, as far as there is something left.
    fn lease(&self, slices: usize) -> usize {
        let wanted = slices * self.slice;
        let mut got = 0;
        // Nothing is published with the number, so its order does not matter.
        let _ = self
            .leased
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |leased| {
                got = wanted.min(self.limit - leased);
                (got > 0).then_some(leased + got)
            });
        got
    }

    fn give_back(&self, bytes: usize) {
        self.leased.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What came back to a shard, from whatever shard, and is not counted yet.
#[derive(Debug, Default)]
struct Returned {
    pool: AtomicUsize,
    reserve: AtomicUsize,
    overdraft: AtomicBool,
}

/// What a request holds: its connection has it until the request is answered, and each part of its frame,
/// wherever it is. The last of them gives the memory back.
#[derive(Debug)]
pub struct Charge {
    /// How much.
    pub bytes: usize,
    source: Source,
    returned: Arc<Returned>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        // Nothing is published with the numbers, so their order does not matter.
        let to = match self.source {
            Source::Reserve => &self.returned.reserve,
            Source::Pool | Source::Overdraft => &self.returned.pool,
        };
        to.fetch_add(self.bytes, Ordering::Relaxed);
        if self.source == Source::Overdraft {
            self.returned.overdraft.store(true, Ordering::Relaxed);
        }
    }
}

/// A frame, and the memory that it is charged for.
struct Charged {
    frame: Bytes,
    _charge: Arc<Charge>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Pool,
    /// From the pool, by the overdraft, which is free again when the request is answered.
    Overdraft,
    Reserve,
}

/// Where a whole frame that is about to be taken gets its memory from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// From what all requests share.
    Shared,
    /// From what is set aside for small ones.
    Reserve,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Overdraft {
    Free,
    /// This connection is receiving a frame with it, since then.
    Receiving(ConnId, Mono),
    /// A frame received with it is in progress.
    InProgress,
}

/// A connection, as far as it waits for memory.
pub struct Waiter {
    conn: ConnId,
    waits: Cell<bool>,
}

impl Waiter {
    /// It does not wait yet.
    #[must_use]
    pub fn new(conn: ConnId) -> Rc<Self> {
        let waits = Cell::new(false);
        Rc::new(Self { conn, waits })
    }
}

/// Request memory of a shard.
pub struct Budget {
    pool: Arc<Pool>,
    leased: Cell<usize>,
    held: Cell<usize>,
    /// Held of what is set aside for small requests.
    reserved: Cell<usize>,
    returned: Arc<Returned>,
    /// One frame at a time, of the whole node, may go over the limit. Without that, frames received
    /// by half could hold all the memory and wait for each other for ever.
    overdraft: Cell<Overdraft>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
    woken: RefCell<Vec<ConnId>>,
    retry_at: Cell<Mono>,
}

impl Budget {
    /// A shard's part in a pool.
    #[must_use]
    pub fn new(pool: Arc<Pool>) -> Self {
        Self {
            pool,
            leased: Cell::new(0),
            held: Cell::new(0),
            reserved: Cell::new(0),
            returned: Arc::default(),
            overdraft: Cell::new(Overdraft::Free),
            waiting: RefCell::default(),
            woken: RefCell::default(),
            retry_at: Cell::new(Mono::NEVER),
        }
    }

    /// Whether there is more than is held, leased now if need be.
    fn has_some(&self) -> bool {
        let (held, leased) = (self.held.get(), self.leased.get());
        if held < leased {
            return true;
        }
        let slices = (held - leased) / self.pool.slice + 1;
        self.leased.set(leased + self.pool.lease(slices));
        held < self.leased.get()
    }

    /// Whether a connection may receive more of a large frame; it may then overdraw by that frame, unless there is
    /// memory for all.
    pub fn may_take(&self, conn: ConnId, now: Mono) -> bool {
        if self.has_some() {
            self.left(conn);
            return true;
        }
        let free = self.overdraft.get() == Overdraft::Free;
        if free && !self.pool.overdrawn.swap(true, Ordering::Relaxed) {
            self.overdraft.set(Overdraft::Receiving(conn, now));
        }
        self.overdraws_since(conn).is_some()
    }

    /// Since when a connection has been receiving a frame by the overdraft.
    #[must_use]
    pub fn overdraws_since(&self, conn: ConnId) -> Option<Mono> {
        match self.overdraft.get() {
            Overdraft::Receiving(by, since) if by == conn => Some(since),
            _ => None,
        }
    }

    /// Where the memory of a small frame can come from, which has been received already. `alone` says
    /// that its connection has nothing else in progress.
    pub fn may_admit_small(&self, conn: ConnId, bytes: usize, alone: bool) -> Option<Grant> {
        if self.has_some() || self.overdraws_since(conn).is_some() {
            return Some(Grant::Shared);
        }
        let room = self.reserved.get() + bytes <= self.pool.reserve_per_shard;
        (alone && room).then_some(Grant::Reserve)
    }

    /// Lets a connection that was refused hear of memory, once.
    pub fn wait(&self, waiter: &Rc<Waiter>, now: Mono) {
        if !waiter.waits.replace(true) {
            self.waiting.borrow_mut().push_back(Rc::clone(waiter));
            self.retry_again_at(self.retry_at.get().min(now.plus_ms(RETRY_MS)));
        }
    }

    fn retry_again_at(&self, at: Mono) {
        let before = self.retry_at.replace(at);
        match (before < Mono::NEVER, at < Mono::NEVER) {
            (false, true) => self.pool.short.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.pool.short.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// When [`Budget::retry`] has something to do.
    #[must_use]
    pub fn retry_at(&self) -> Mono {
        self.retry_at.get()
    }

    /// Looks for what has come back, and, if it is time to, for what other shards do not need any more.
    pub fn retry(&self, now: Mono) {
        self.collect();
        if now >= self.retry_at.get() {
            let nobody = self.waiting.borrow().is_empty();
            self.retry_again_at(if nobody {
                Mono::NEVER
            } else {
                now.plus_ms(RETRY_MS)
            });
            let overdraft = !self.pool.overdrawn.load(Ordering::Relaxed);
            let small = self.reserved.get() < self.pool.reserve_per_shard;
            if overdraft || small || self.has_some() {
                self.wake();
            }
        }
    }

    /// Whether somebody was refused memory, now or a moment ago, here or on another shard.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.pool.short.load(Ordering::Relaxed) > 0
    }

    /// Connections that should try again, added to `conns`.
    pub fn take_woken(&self, conns: &mut Vec<ConnId>) {
        conns.append(&mut self.woken.borrow_mut());
    }

    /// Charges what is being received.
    pub fn take(&self, bytes: usize) {
        self.held.set(self.held.get() + bytes);
    }

    /// Charges a whole frame: until the returned charge is dropped, and all parts of the returned frame are.
    pub fn admit(&self, conn: ConnId, frame: Bytes, grant: Grant) -> (Bytes, Arc<Charge>) {
        let bytes = frame.len();
        let source = if grant == Grant::Reserve {
            self.reserved.set(self.reserved.get() + bytes);
            Source::Reserve
        } else {
            self.take(bytes);
            if self.overdraws_since(conn).is_some() {
                self.overdraft.set(Overdraft::InProgress);
                Source::Overdraft
            } else {
                Source::Pool
            }
        };
        let returned = Arc::clone(&self.returned);
        let charge = Arc::new(Charge {
            bytes,
            source,
            returned,
        });
        let _charge = Arc::clone(&charge);
        (Bytes::from_owner(Charged { frame, _charge }), charge)
    }

    /// Takes back what requests do not hold any more.
    pub fn collect(&self) {
        let Returned {
            pool,
            reserve,
            overdraft,
        } = &*self.returned;
        // Most often there is nothing, and looking is cheaper than taking.
        let taken = |from: &AtomicUsize| match from.load(Ordering::Relaxed) {
            0 => 0,
            _ => from.swap(0, Ordering::Relaxed),
        };
        let bytes = taken(reserve);
        if bytes > 0 {
            self.reserved.set(self.reserved.get() - bytes);
            self.wake();
        }
        self.give(taken(pool));
        if overdraft.load(Ordering::Relaxed) {
            overdraft.store(false, Ordering::Relaxed);
            self.end_overdraft();
        }
    }

    /// Takes memory back.
    pub fn give(&self, bytes: usize) {
        let held = self.held.get() - bytes;
        self.held.set(held);
        // A slice stays here, so that a shard at the edge of one need not ask all the time.
        let spare = self.leased.get().saturating_sub(held);
        if spare >= 2 * self.pool.slice {
            let back = spare - self.pool.slice;
            self.leased.set(self.leased.get() - back);
            self.pool.give_back(back);
        }
        if bytes > 0 && held < self.leased.get() {
            self.wake();
        }
    }

    /// A connection receives nothing more.
    pub fn left(&self, conn: ConnId) {
        if self.overdraws_since(conn).is_some() {
            self.end_overdraft();
        }
    }

    fn end_overdraft(&self) {
        self.overdraft.set(Overdraft::Free);
        self.pool.overdrawn.store(false, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return;
        }
        let n = waiting.len().min(WAKE_AT_ONCE);
        let mut woken = self.woken.borrow_mut();
        for waiter in waiting.drain(..n) {
            waiter.waits.set(false);
            woken.push(waiter.conn);
        }
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.retry_again_at(Mono::NEVER);
        self.pool.give_back(self.leased.get());
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
