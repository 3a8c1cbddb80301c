//! What the two halves of a connection, `receive` and `send`, know of each other,
//! and what all connections of a shard share. A request counts against its
//! connection from when it is read until its reply has left, and against the node's
//! memory until its reply is made, and for as long as bytes of it are somewhere. How
//! fast a client sends and takes bytes is kept here, too: one that does neither may not
//! hold what others need.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::budget::{Budget, Charge, Grant, Waiter};
use super::frame::FrameReader;
use super::logging::Often;
use super::sys;
use crate::base::Mono;
use crate::base::limits::{
    CONN_IN_FLIGHT_MAX, CONN_REPLY_BYTES_MAX, CONN_REQUEST_BYTES_MAX, HALF_CLOSED_MS_MAX,
    HELD_MS_MAX, LOOKED_AT_LATELY_MS, RECEIVE_BYTES_PER_SECOND_MIN, RECEIVE_GRACE_MS,
    REPLICA_FRAME_HEAD_BYTES, SMALL_REQUEST_BYTES_MAX,
};
use crate::broker::ConnId;
use crate::broker::apis::may_wait_for_others;

/// How a request arrives whose beginning is here.
#[derive(Clone, Copy, Default)]
struct Arrival {
    /// Since when the client's bytes are waited for.
    since: Option<Mono>,
    /// How many ms longer they were waited for than they may take, with time to spare and while memory is
    /// short. What came quickly does not pay for a stop that follows.
    behind_ms: [u64; 2],
    /// Bytes of it that are here, its length included.
    bytes: usize,
    /// The frame it is, by number.
    frame: u64,
}

impl Arrival {
    /// How far behind it is if nothing comes until `now`.
    fn behind_ms_at(&self, now: Mono) -> [u64; 2] {
        let waited_ms = self.since.map_or(0, |since| now.ms_since(since));
        self.behind_ms.map(|ms| ms + waited_ms)
    }
}

/// A request in progress.
struct Request {
    charge: Arc<Charge>,
    since: Mono,
    /// It may be answered when others do something, or its time is up, as its client has asked for.
    waits: bool,
}

/// What a connection's receiving and sending halves share.
pub struct Conn {
    /// Its id.
    pub id: ConnId,
    /// Its socket; open for as long as an operation on it is in flight.
    pub fd: RawFd,
    /// The client.
    pub peer: SocketAddr,
    /// It is another node, which is heard while this one stops, too.
    pub is_node: Cell<bool>,
    /// Each request in progress, oldest first.
    requests: RefCell<VecDeque<Request>>,
    /// Bytes of those.
    charged: Cell<usize>,
    /// Replies that are not sent yet.
    unsent: Cell<usize>,
    /// Since when the first of them has been the first. What its client has taken of it at a good pace counts as time
    /// that has not passed.
    unsent_since: Cell<Option<Mono>>,
    /// Memory of what was received and is not a request in progress yet.
    partial: Cell<usize>,
    arrival: Cell<Arrival>,
    /// Since when there has been no room for what is received, counted in the same way.
    no_room: Cell<Option<Mono>>,
    /// Bytes of replies that are not sent yet.
    queued: Cell<usize>,
    /// Bytes of replies that have left since it was opened, and how many of them were of replies that have left as a
    /// whole.
    left: Cell<[u64; 2]>,
    /// How many of them its client had acknowledged, and when that was looked at last, since there has been one to
    /// send.
    acknowledged: Cell<Option<(u64, Mono)>>,
    /// When the client last sent something, or took something.
    last_active: Cell<Mono>,
    /// When the client ended its sending side.
    half_closed: Cell<Option<Mono>>,
    closing: Cell<bool>,
    /// For `Budget::wait`.
    pub waiter: Rc<Waiter>,
}

impl Conn {
    pub(super) fn new(id: ConnId, fd: RawFd, peer: SocketAddr, now: Mono) -> Self {
        Self {
            id,
            fd,
            peer,
            is_node: Cell::new(false),
            requests: RefCell::default(),
            charged: Cell::new(0),
            unsent: Cell::new(0),
            unsent_since: Cell::new(None),
            partial: Cell::new(0),
            arrival: Cell::default(),
            no_room: Cell::new(None),
            queued: Cell::new(0),
            left: Cell::default(),
            acknowledged: Cell::new(None),
            last_active: Cell::new(now),
            half_closed: Cell::new(None),
            closing: Cell::new(false),
            waiter: Waiter::new(id),
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

    /// A reply of so many bytes is made and queued: its request costs no memory on its account any more. What
    /// replies cost, to clients that do not take them, has a bound of its own.
    pub fn reply_queued(&self, bytes: usize, shared: &Shared) {
        self.queued.set(self.queued.get() + bytes);
        if self.unsent.replace(self.unsent.get() + 1) == 0 {
            self.acknowledged.set(None);
        }
        let since = self.unsent_since.get().unwrap_or(shared.now.get());
        self.unsent_since.set(Some(since));
        if let Some(request) = self.requests.borrow_mut().pop_front() {
            self.charged.set(self.charged.get() - request.charge.bytes);
            drop(request);
            shared.budget_of(self).collect();
        }
    }

    /// `bytes` of replies and the last byte of `replies` of them have left.
    pub fn sent(&self, bytes: usize, replies: usize, shared: &Shared) {
        self.queued.set(self.queued.get().saturating_sub(bytes));
        self.unsent.set(self.unsent.get().saturating_sub(replies));
        let [left, whole] = self.left.get();
        let left = left + bytes as u64;
        self.left
            .set([left, if replies > 0 { left } else { whole }]);
        self.took_something(shared.now.get());
        if replies > 0 {
            let since = (self.unsent.get() > 0).then(|| shared.now.get());
            self.unsent_since.set(since);
            shared.sent.borrow_mut().push((self.id, replies));
        }
    }

    /// The client took bytes of a reply.
    pub fn took_something(&self, now: Mono) {
        self.last_active.set(now);
    }

    /// The client was seen to have acknowledged so many bytes of replies since it was opened.
    pub fn acknowledged(&self, bytes: u64, now: Mono) {
        let before = self.acknowledged.replace(Some((bytes, now)));
        if before.is_some_and(|(before, _)| bytes > before) {
            self.took_something(now);
        }
        // What it acknowledges comes behind what has left by as much as the socket holds. So where it was looked at a
        // moment ago, all that it has taken since counts; else only what has left since no reply is whole.
        let lately = before.filter(|(_, at)| now.ms_since(*at) <= LOOKED_AT_LATELY_MS);
        let [_, whole] = self.left.get();
        let taken = bytes.saturating_sub(lately.map_or(whole, |(before, _)| before));
        let allowed_ms = taken * 1000 / RECEIVE_BYTES_PER_SECOND_MIN[1];
        for since in [&self.unsent_since, &self.no_room] {
            since.set(since.get().map(|since| since.plus_ms(allowed_ms).min(now)));
        }
    }

    /// Whether the client has sent and taken nothing for so long, as far as is known.
    #[must_use]
    pub fn is_quiet_for(&self, now: Mono, ms: u64) -> bool {
        now.ms_since(self.last_active.get()) >= ms.min(HALF_CLOSED_MS_MAX / 2)
    }

    /// What the client sends next is waited for from now on.
    pub fn receiving(&self, frames: &FrameReader, shared: &Shared) {
        self.no_room.set(None);
        let mut arrival = self.arrival_of(frames);
        if arrival.bytes > 0 {
            arrival.since = Some(shared.now.get());
        }
        self.arrival.set(arrival);
    }

    /// Bytes were received.
    pub fn received(&self, frames: &FrameReader, shared: &Shared) {
        let now = shared.now.get();
        self.last_active.set(now);
        let before = self.arrival.get();
        let mut arrival = self.arrival_of(frames);
        if arrival.frame == before.frame {
            let bytes = (arrival.bytes - before.bytes) as u64;
            let behind_ms = before.behind_ms_at(now);
            arrival.behind_ms = [0, 1].map(|short| {
                let allowed_ms = bytes * 1000 / RECEIVE_BYTES_PER_SECOND_MIN[short];
                behind_ms[short].saturating_sub(allowed_ms)
            });
        }
        self.arrival.set(arrival);
        self.charge_partial(frames.memory(), shared);
    }

    /// The arrival of the frame that is being received now.
    fn arrival_of(&self, frames: &FrameReader) -> Arrival {
        let before = self.arrival.get();
        let behind_ms = if before.frame == frames.count() {
            before.behind_ms
        } else {
            [0; 2]
        };
        Arrival {
            since: None,
            behind_ms,
            bytes: frames.begun(),
            frame: frames.count(),
        }
    }

    /// Charges what was received, and is no request in progress yet, takes by now.
    pub fn charge_partial(&self, bytes: usize, shared: &Shared) {
        let before = self.partial.replace(bytes);
        if bytes < before {
            shared.budget_of(self).give(before - bytes);
        } else {
            shared.budget_of(self).take(bytes - before);
        }
    }

    /// Charges a whole frame, which `frames` does not have any more, in place of what was charged
    /// while it was received; the returned one keeps it charged.
    pub fn admit(
        &self,
        frames: &FrameReader,
        frame: Bytes,
        grant: Grant,
        shared: &Shared,
    ) -> Bytes {
        self.no_room.set(None);
        self.charge_partial(frames.memory(), shared);
        let waits = may_wait_for_others(&frame);
        let (frame, charge) = shared.budget_of(self).admit(self.id, frame, grant);
        self.charged.set(self.charged.get() + charge.bytes);
        self.requests.borrow_mut().push_back(Request {
            charge,
            since: shared.now.get(),
            waits,
        });
        frame
    }

    /// Whether a request is in progress, or its reply not sent yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.in_flight() > 0
    }

    fn in_flight(&self) -> usize {
        self.requests.borrow().len() + self.unsent.get()
    }

    /// Whether one more request may be in progress, as far as this connection is concerned.
    #[must_use]
    pub fn has_room(&self, shared: &Shared) -> bool {
        let room = self.in_flight() < CONN_IN_FLIGHT_MAX
            && self.charged.get() < CONN_REQUEST_BYTES_MAX
            && self.queued.get() < CONN_REPLY_BYTES_MAX;
        let since = (!room).then(|| self.no_room.get().unwrap_or_else(|| shared.now.get()));
        self.no_room.set(since);
        room
    }

    /// Since when the client has been keeping memory for requests that it could give back, and how.
    fn holds_since(&self, shared: &Shared) -> Option<(Mono, &'static str)> {
        if let Some(since) = shared.budget_of(self).overdraws_since(self.id) {
            return Some((
                since,
                "it takes too long for a request for which there was no memory",
            ));
        }
        if self.partial.get() + self.charged.get() <= SMALL_REQUEST_BYTES_MAX {
            return None;
        }
        // Replies leave in order: whatever comes behind this one waits as long.
        if let Some(first) = self.requests.borrow().front()
            && first.waits
        {
            return Some((
                first.since,
                "it waits for others with request memory that they need",
            ));
        }
        let unsent = self.unsent_since.get()?;
        if !self.requests.borrow().is_empty() {
            return Some((
                unsent,
                "its client does not take a reply and has more requests in progress",
            ));
        }
        Some((
            self.no_room.get()?,
            "its client does not take replies and has sent more than there is memory for",
        ))
    }

    /// The client sends nothing more, but is answered.
    pub fn half_closed(&self, shared: &Shared) {
        self.half_closed.set(Some(shared.now.get()));
    }

    /// Nothing more is received.
    pub fn receives_no_more(&self, shared: &Shared) {
        self.arrival.take();
        self.charge_partial(0, shared);
        shared.budget_of(self).left(self.id);
    }

    /// The connection is over: no replies are made any more.
    pub fn release(&self, shared: &Shared) {
        self.charge_partial(0, shared);
        self.release_requests(shared);
    }

    /// No replies to its requests come any more: they cost memory for as long as they are worked on.
    pub fn release_requests(&self, shared: &Shared) {
        self.charged.set(0);
        self.requests.borrow_mut().clear();
        shared.budget_of(self).collect();
    }
}

/// What the connections of one shard share with its pump.
pub struct Shared {
    /// The clock as of the pump's last turn.
    pub now: Cell<Mono>,
    /// Whether no more requests are taken.
    pub stopping: Cell<bool>,
    /// Connections and how many of their replies have left since the pump asked.
    sent: RefCell<Vec<(ConnId, usize)>>,
    /// Memory for requests.
    pub budget: Budget,
    /// The same for what other nodes send, if there are others. It has to be another one: requests of clients keep
    /// theirs until other nodes have heard of them, and what those answer must not wait for that.
    of_nodes: Option<Budget>,
    /// `socket.request.max.bytes`.
    frame_bytes_max: usize,
    /// Warnings about what is not the Kafka protocol.
    pub garbage: Often,
    /// Lines about connections that were closed.
    pub closed: Often,
    /// Errors about what could not be read for a reply.
    pub unreadable: Often,
}

impl Shared {
    /// For a shard whose requests take their memory from `budget`.
    #[must_use]
    pub fn new(frame_bytes_max: usize, budget: Budget) -> Self {
        Self {
            now: Cell::new(sys::mono()),
            stopping: Cell::new(false),
            sent: RefCell::default(),
            budget,
            of_nodes: None,
            frame_bytes_max,
            garbage: Often::default(),
            closed: Often::default(),
            unreadable: Often::default(),
        }
    }

    /// With memory for what other nodes send.
    #[must_use]
    pub fn with_nodes(mut self, of_nodes: Option<Budget>) -> Self {
        self.of_nodes = of_nodes;
        self
    }

    /// Where the requests of a connection take their memory from.
    #[must_use]
    pub fn budget_of(&self, conn: &Conn) -> &Budget {
        let of_nodes = self.of_nodes.as_ref().filter(|_| conn.is_node.get());
        of_nodes.unwrap_or(&self.budget)
    }

    /// Memory for requests, of clients and of other nodes.
    pub fn budgets(&self) -> impl Iterator<Item = &Budget> {
        [&self.budget].into_iter().chain(&self.of_nodes)
    }

    /// The longest request that may come on a connection. Another node may send what a client has sent to it, with a
    /// head of its own.
    #[must_use]
    pub fn frame_bytes_max_of(&self, conn: &Conn) -> usize {
        if conn.is_node.get() {
            self.frame_bytes_max
                .saturating_add(REPLICA_FRAME_HEAD_BYTES)
        } else {
            self.frame_bytes_max
        }
    }

    /// Moves what has left into `sent`, which has to be empty.
    pub fn take_sent(&self, sent: &mut Vec<(ConnId, usize)>) {
        std::mem::swap(&mut *self.sent.borrow_mut(), sent);
    }

    /// Whether this connection should be closed: idle for longer than allowed, too slow with a request,
    /// or half closed for too long.
    #[must_use]
    pub fn overdue(&self, conn: &Conn, idle_ms_max: u64) -> Option<&'static str> {
        let now = self.now.get();
        let idle_ms = now.ms_since(conn.last_active.get());
        // A client whose request takes long is not idle; one that does not take its reply is.
        let waits_for_us = conn.is_waiting() && conn.queued.get() == 0;
        // Another node has nothing to say for as long as nothing happens; that it is there its sockets tell.
        let is_greeted = conn.is_node.get() && conn.arrival.get().frame > 0;
        if idle_ms >= idle_ms_max && !waits_for_us && !is_greeted {
            return Some("connections.max.idle.ms is over");
        }
        if let Some(since) = conn.half_closed.get()
            && idle_ms.min(now.ms_since(since)) >= HALF_CLOSED_MS_MAX
        {
            return Some("its client has gone before it was answered");
        }
        let short = self.budget_of(conn).is_short();
        if short
            && let Some((since, why)) = conn.holds_since(self)
            && now.ms_since(since) >= HELD_MS_MAX
        {
            return Some(why);
        }
        let behind_ms = conn.arrival.get().behind_ms_at(now)[usize::from(short)];
        if behind_ms >= RECEIVE_GRACE_MS[usize::from(short)] {
            Some(if short {
                "it is slow in the middle of a request while request memory is short"
            } else {
                "it is slow in the middle of a request"
            })
        } else {
            None
        }
    }
}

#[cfg(test)]
#[path = "conn_tests.rs"]
mod tests;
