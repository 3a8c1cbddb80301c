//! What the two halves of a connection, `receive` and `send`, know of each other,
//! and what all connections of a shard share. A request counts against its
//! connection and against the shard's memory from when it is read until its reply
//! has left. How fast a client sends and takes bytes is kept here, too: one that does
//! neither may not hold what others need.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use super::budget::{Budget, Charge, Grant};
use super::frame::FrameReader;
use super::logging::Often;
use super::sys;
use crate::base::Mono;
use crate::base::limits::{
    CONN_IN_FLIGHT_MAX, CONN_REPLY_BYTES_MAX, CONN_REQUEST_BYTES_MAX, HALF_CLOSED_MS_MAX,
    RECEIVE_BYTES_PER_SECOND_MIN, RECEIVE_GRACE_MS,
};
use crate::broker::ConnId;

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
    /// Bytes of those.
    charged: Cell<usize>,
    /// Memory of what was received and is not a request in progress yet.
    partial: Cell<usize>,
    arrival: Cell<Arrival>,
    /// Bytes of replies that are not sent yet.
    queued: Cell<usize>,
    /// When the client last sent something, or took something.
    last_active: Cell<Mono>,
    /// When the client ended its sending side.
    half_closed: Cell<Option<Mono>>,
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
            charged: Cell::new(0),
            partial: Cell::new(0),
            arrival: Cell::default(),
            queued: Cell::new(0),
            last_active: Cell::new(now),
            half_closed: Cell::new(None),
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
        self.took_something(front.now.get());
        let n = replies.min(self.charges.borrow().len());
        for charge in self.charges.borrow_mut().drain(..n) {
            self.charged.set(self.charged.get() - charge.bytes);
            front.budget.release(charge);
        }
        if replies > 0 {
            front.sent.borrow_mut().push((self.id, replies));
        }
    }

    /// The client took bytes of a reply.
    pub fn took_something(&self, now: Mono) {
        self.last_active.set(now);
    }

    /// Whether the client has sent and taken nothing for so long, as far as is known.
    #[must_use]
    pub fn is_quiet_for(&self, now: Mono, ms: u64) -> bool {
        now.ms_since(self.last_active.get()) >= ms.min(HALF_CLOSED_MS_MAX / 2)
    }

    /// What the client sends next is waited for from now on.
    pub fn receiving(&self, frames: &FrameReader, front: &Front) {
        let mut arrival = self.arrival_of(frames);
        if arrival.bytes > 0 {
            arrival.since = Some(front.now.get());
        }
        self.arrival.set(arrival);
    }

    /// Bytes were received.
    pub fn received(&self, frames: &FrameReader, front: &Front) {
        let now = front.now.get();
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
        self.charge_partial(frames.memory(), front);
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
    pub fn charge_partial(&self, bytes: usize, front: &Front) {
        let before = self.partial.replace(bytes);
        if bytes < before {
            front.budget.give(before - bytes);
        } else {
            front.budget.take(bytes - before);
        }
    }

    /// Charges a whole frame, which `frames` does not have any more, in place of what was charged
    /// while it was received.
    pub fn admit(&self, frames: &FrameReader, bytes: usize, grant: Grant, front: &Front) {
        self.charge_partial(frames.memory(), front);
        let charge = front.budget.admit(self.id, bytes, grant);
        self.charged.set(self.charged.get() + bytes);
        self.charges.borrow_mut().push_back(charge);
    }

    /// Whether a request is in progress.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.charges.borrow().is_empty()
    }

    /// Whether one more request may be in progress, as far as this connection is concerned.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.charges.borrow().len() < CONN_IN_FLIGHT_MAX
            && self.charged.get() < CONN_REQUEST_BYTES_MAX
            && self.queued.get() < CONN_REPLY_BYTES_MAX
    }

    /// The client sends nothing more, but is answered.
    pub fn half_closed(&self, front: &Front) {
        self.half_closed.set(Some(front.now.get()));
    }

    /// Nothing more is received.
    pub fn receives_no_more(&self, front: &Front) {
        self.arrival.take();
        self.charge_partial(0, front);
        front.budget.left(self.id);
    }

    /// The connection is over: nothing of it is in progress any more.
    pub fn release(&self, front: &Front) {
        self.charge_partial(0, front);
        for charge in self.charges.borrow_mut().drain(..) {
            front.budget.release(charge);
        }
    }
}

/// What the connections of one shard share with its pump.
pub struct Front {
    /// The clock as of the pump's last turn.
    pub now: Cell<Mono>,
    /// Whether no more requests are taken.
    pub stopping: Cell<bool>,
    /// Connections and how many of their replies have left since the pump asked.
    sent: RefCell<Vec<(ConnId, usize)>>,
    /// Memory for requests.
    pub budget: Budget,
    /// `socket.request.max.bytes`.
    pub frame_bytes_max: usize,
    /// Warnings about what is not the Kafka protocol.
    pub garbage: Often,
    /// Lines about connections that were closed.
    pub closed: Often,
    /// Errors about what could not be read for a reply.
    pub unreadable: Often,
}

impl Front {
    /// For a shard whose requests take their memory from `budget`.
    #[must_use]
    pub fn new(frame_bytes_max: usize, budget: Budget) -> Self {
        Self {
            now: Cell::new(sys::mono()),
            stopping: Cell::new(false),
            sent: RefCell::default(),
            budget,
            frame_bytes_max,
            garbage: Often::default(),
            closed: Often::default(),
            unreadable: Often::default(),
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
        if idle_ms >= idle_ms_max && !waits_for_us {
            return Some("connections.max.idle.ms is over");
        }
        if let Some(since) = conn.half_closed.get()
            && idle_ms.min(now.ms_since(since)) >= HALF_CLOSED_MS_MAX
        {
            return Some("its client has gone before it was answered");
        }
        let short = self.budget.is_short();
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
mod tests {
    use super::super::budget::Pool;
    use super::*;

    const IDLE_MS: u64 = 600_000;

    struct Bench {
        front: Front,
        conn: Conn,
        frames: FrameReader,
    }

    impl Bench {
        fn new() -> Self {
            let front = Front::new(1 << 20, Budget::new(Pool::new(2 << 20, 1)));
            front.now.set(Mono(0));
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            Self {
                front,
                conn: Conn::new(ConnId(1), -1, peer, Mono(0)),
                frames: FrameReader::new(1 << 20),
            }
        }

        /// Some bytes come, `ms` after they were waited for.
        fn receive(&mut self, bytes: &[u8], ms: u64) {
            self.conn.receiving(&self.frames, &self.front);
            self.pass(ms);
            self.frames.feed(bytes).expect("a good stream");
            self.conn.received(&self.frames, &self.front);
        }

        fn pass(&self, ms: u64) {
            self.front.now.set(self.front.now.get().plus_ms(ms));
        }

        /// Whether it is to be closed, and whether it would be if memory were short.
        fn overdue(&self) -> [bool; 2] {
            let calm = self.front.overdue(&self.conn, IDLE_MS).is_some();
            let peer = self.conn.peer;
            let other = std::rc::Rc::new(Conn::new(ConnId(2), -1, peer, Mono(0)));
            let now = self.front.now.get();
            self.front.budget.wait(&other, now);
            let short = self.front.overdue(&self.conn, IDLE_MS).is_some();
            for _ in 0..3 {
                self.front.budget.retry(self.front.budget.retry_at());
            }
            assert!(!self.front.budget.is_short());
            [calm, short]
        }
    }

    #[test]
    fn a_byte_now_and_then_is_not_enough() {
        let mut bench = Bench::new();
        // Between requests there is all the time in the world.
        bench.receive(&[], 100_000);
        assert_eq!(bench.overdue(), [false, false]);
        bench.receive(&1_000_000u32.to_be_bytes(), 500);
        assert_eq!(bench.overdue(), [false, false]);
        bench.receive(&[1], 900);
        assert_eq!(bench.overdue(), [false, false]);
        bench.receive(&[1], 200);
        assert_eq!(bench.overdue(), [false, true], "more than a second");
        bench.receive(&[1], 8800);
        assert_eq!(bench.overdue(), [false, true]);
        // The wait that is not over counts, too.
        bench.conn.receiving(&bench.frames, &bench.front);
        bench.pass(200);
        assert_eq!(bench.overdue(), [true, true], "more than ten");
    }

    #[test]
    fn a_slow_line_is_enough() {
        let mut bench = Bench::new();
        bench.receive(&1_000_000u32.to_be_bytes(), 0);
        // 4 KiB a second, for four minutes.
        for _ in 0..240 {
            bench.receive(&[1; 4096], 1000);
            assert!(!bench.overdue()[0]);
        }
        assert!(bench.overdue()[1]);
        // Slower than that it has no more than the ten seconds.
        for _ in 0..20 {
            bench.receive(&[1; 10], 1000);
        }
        assert!(bench.overdue()[0]);
    }

    #[test]
    fn only_time_for_which_we_read_counts_and_only_for_this_request() {
        let mut bench = Bench::new();
        bench.receive(&1000u32.to_be_bytes(), 0);
        bench.receive(&[1; 10], 5000);
        // We do not read: it has no room, or there is no memory.
        bench.pass(60_000);
        assert_eq!(bench.overdue(), [false, true]);
        bench.receive(&[1; 10], 4000);
        assert_eq!(bench.overdue(), [false, true]);
        // The rest of it, and the beginning of the next one.
        let mut rest = vec![1; 980];
        rest.extend(1000u32.to_be_bytes());
        bench.receive(&rest, 500);
        assert_eq!(bench.overdue(), [false, false]);
    }

    #[test]
    fn a_client_that_is_gone_by_half_is_waited_for_while_it_takes_something() {
        let mut bench = Bench::new();
        bench.receive(&[], 0);
        bench
            .conn
            .admit(&bench.frames, 100, Grant::Shared, &bench.front);
        bench.pass(60_000);
        assert_eq!(bench.overdue(), [false, false], "it is our turn");
        bench.conn.half_closed(&bench.front);
        bench.pass(HALF_CLOSED_MS_MAX - 1);
        assert_eq!(bench.overdue(), [false, false]);
        bench.conn.took_something(bench.front.now.get());
        bench.pass(HALF_CLOSED_MS_MAX - 1);
        assert_eq!(bench.overdue(), [false, false]);
        bench.pass(1);
        assert_eq!(bench.overdue(), [true, true]);
    }

    #[test]
    fn who_does_not_take_a_reply_is_idle_who_waits_for_one_is_not() {
        let mut bench = Bench::new();
        bench.receive(&[], 0);
        bench
            .conn
            .admit(&bench.frames, 100, Grant::Shared, &bench.front);
        bench.pass(2 * IDLE_MS);
        assert_eq!(bench.overdue(), [false, false]);
        bench.conn.reply_queued(1000);
        assert_eq!(bench.overdue(), [true, true]);
        bench.conn.took_something(bench.front.now.get());
        assert_eq!(bench.overdue(), [false, false]);
        bench.conn.sent(1000, 1, &bench.front);
        bench.pass(IDLE_MS);
        assert_eq!(bench.overdue(), [true, true]);
    }

    #[test]
    fn one_connection_has_a_bound_in_bytes() {
        let bench = Bench::new();
        let half = CONN_REQUEST_BYTES_MAX / 2;
        for room in [true, true, false] {
            assert_eq!(bench.conn.has_room(), room);
            bench
                .conn
                .admit(&bench.frames, half, Grant::Shared, &bench.front);
        }
        bench.conn.sent(0, 2, &bench.front);
        assert!(bench.conn.has_room());
    }
}
