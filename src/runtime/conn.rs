//! What the two halves of a connection, `receive` and `send`, know of each other,
//! and what all connections of a shard share. A request counts against its
//! connection and against the shard's memory from when it is read until its reply
//! has left.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use super::budget::{Budget, Charge};
use super::logging::Often;
use super::sys;
use crate::base::Mono;
use crate::base::limits::{CONN_IN_FLIGHT_MAX, CONN_REPLY_BYTES_MAX};
use crate::broker::ConnId;

/// While memory is short, a connection that sends nothing for this long in the middle of a frame
/// is closed, for it keeps others from being read.
const STALL_MS: u64 = 10_000;

/// What a connection's receiving and sending halves share.
pub struct Conn {
    /// Its id.
    pub id: ConnId,
    /// Its socket; open for as long as an operation on it is in flight.
    pub fd: RawFd,
    /// The client.
    pub peer: SocketAddr,
    /// Each request in progress, oldest first.
    charges: RefCell<VecDeque<Charge>>,
    /// Memory of the frame that is being received.
    partial: Cell<usize>,
    /// Bytes of replies that are not sent yet.
    queued: Cell<usize>,
    last_active: Cell<Mono>,
    closing: Cell<bool>,
    /// For [`Budget::wait`].
    pub(super) waits_for_memory: Cell<bool>,
}

impl Conn {
    pub(super) fn new(id: ConnId, fd: RawFd, peer: SocketAddr, now: Mono) -> Self {
        Self {
            id,
            fd,
            peer,
            charges: RefCell::default(),
            partial: Cell::new(0),
            queued: Cell::new(0),
            last_active: Cell::new(now),
            closing: Cell::new(false),
            waits_for_memory: Cell::new(false),
        }
    }

    /// Ends reading and sending: operations in flight complete, and no others are started.
    pub fn close(&self) {
        if !self.closing.replace(true) {
            sys::shutdown_socket(self.fd);
        }
    }

    /// Whether [`Conn::close`] was called.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Counts the bytes of a reply that was queued.
    pub fn reply_queued(&self, bytes: usize) {
        self.queued.set(self.queued.get() + bytes);
    }

    /// `bytes` of replies and the last byte of `replies` of them have left.
    pub fn sent(&self, bytes: usize, replies: usize, front: &Front) {
        self.queued.set(self.queued.get().saturating_sub(bytes));
        self.last_active.set(front.now.get());
        let n = replies.min(self.charges.borrow().len());
        for charge in self.charges.borrow_mut().drain(..n) {
            front.budget.release(charge);
        }
        if replies > 0 {
            front.sent.borrow_mut().push((self.id, replies));
        }
    }

    /// Bytes were received.
    pub fn received(&self, now: Mono) {
        self.last_active.set(now);
    }

    /// Charges what the frame that is being received takes by now.
    pub fn charge_partial(&self, bytes: usize, budget: &Budget) {
        budget.give(self.partial.replace(bytes));
        budget.take(bytes);
    }

    /// Whether memory is charged for a frame that is being received.
    #[must_use]
    pub fn has_partial(&self) -> bool {
        self.partial.get() > 0
    }

    /// Charges a whole frame, in place of what was charged while it was received.
    pub fn admit(&self, bytes: usize, budget: &Budget) {
        self.charge_partial(0, budget);
        let charge = budget.admit(self.id, bytes);
        self.charges.borrow_mut().push_back(charge);
    }

    /// Whether one more request may be in progress, as far as this connection is concerned.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.charges.borrow().len() < CONN_IN_FLIGHT_MAX && self.queued.get() < CONN_REPLY_BYTES_MAX
    }

    /// The connection is over: nothing of it is in progress any more.
    pub fn release(&self, budget: &Budget) {
        self.charge_partial(0, budget);
        for charge in self.charges.borrow_mut().drain(..) {
            budget.release(charge);
        }
    }
}

/// What the connections of one shard share with its pump.
pub struct Front {
    /// The clock as of the pump's last turn.
    pub now: Cell<Mono>,
    /// Connections and how many of their replies have left since the pump asked.
    sent: RefCell<Vec<(ConnId, usize)>>,
    /// Memory for requests.
    pub budget: Budget,
    /// `socket.request.max.bytes`.
    pub frame_bytes_max: usize,
    /// Warnings about what is not the Kafka protocol.
    pub garbage: Often,
}

impl Front {
    /// For a shard whose requests may take `request_bytes_max` of memory together.
    #[must_use]
    pub fn new(frame_bytes_max: usize, request_bytes_max: usize) -> Self {
        Self {
            now: Cell::new(sys::mono()),
            sent: RefCell::default(),
            budget: Budget::new(request_bytes_max),
            frame_bytes_max,
            garbage: Often::default(),
        }
    }

    /// Moves what has left into `sent`, which has to be empty.
    pub fn take_sent(&self, sent: &mut Vec<(ConnId, usize)>) {
        std::mem::swap(&mut *self.sent.borrow_mut(), sent);
    }

    /// Whether this connection should be closed: idle for longer than allowed, or in the way of
    /// others while memory is short.
    #[must_use]
    pub fn overdue(&self, conn: &Conn, idle_ms_max: u64) -> Option<&'static str> {
        let idle_ms = self.now.get().ms_since(conn.last_active.get());
        if idle_ms >= idle_ms_max && conn.charges.borrow().is_empty() {
            Some("connections.max.idle.ms is over")
        } else if idle_ms >= STALL_MS && conn.has_partial() && self.budget.is_short() {
            Some("it stalls in the middle of a request while request memory is short")
        } else {
            None
        }
    }
}
