//! Connections: accepting them, reading requests off them, and stopping to read
//! when too much is in progress. A request counts against its connection and
//! against the shard's memory from when it is read until its reply has left.
//!
//! Each connection has one task, which only reads; the pump sends. The two share
//! [`Conn`], a handful of counters.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::AsyncRead;
use glommio::net::{TcpListener, TcpStream};

use super::frame::{FrameReader, STEP_BYTES};
use super::logging::Often;
use super::sys;
use crate::base::Mono;
use crate::base::limits::{CONN_IN_FLIGHT_MAX, CONN_REPLY_BYTES_MAX};
use crate::broker::ConnId;

/// Receive buffer that all connections of a shard share.
const SCRATCH_BYTES: usize = 64 * 1024;
/// While memory is short, a connection that sends nothing for this long in the middle of a frame
/// is closed, for it keeps others from being read.
const STALL_MS: u64 = 10_000;

/// What connections tell the pump.
pub enum Event {
    /// A connection was accepted.
    Opened {
        /// The connection.
        conn: Rc<Conn>,
        /// Index into the configured listeners.
        listener: usize,
    },
    /// A request frame.
    Request {
        /// Whose.
        conn: ConnId,
        /// Without the length prefix.
        frame: bytes::Bytes,
        /// When its last byte was received.
        at: Mono,
    },
    /// Nothing more is read from the connection.
    Closed {
        /// Which.
        conn: ConnId,
    },
}

/// What a request in progress holds.
#[derive(Clone, Copy)]
struct Charge {
    bytes: usize,
    /// It got in by the overdraft, which is free again when it is answered.
    overdraft: bool,
}

/// What a connection's reader and the pump share.
pub struct Conn {
    /// Its id.
    pub id: ConnId,
    /// Its socket; open until [`Conn::release`] was called.
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
    released: Cell<bool>,
    waker: Cell<Option<Waker>>,
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
            released: Cell::new(false),
            waker: Cell::new(None),
        }
    }

    /// Ends reading and sending; the reader then says [`Event::Closed`].
    pub fn close(&self) {
        self.closing.set(true);
        sys::shutdown_socket(self.fd);
        self.wake();
    }

    /// The pump has no operation in flight on the socket any more: it may be closed.
    pub fn release(&self) {
        self.released.set(true);
        self.wake();
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
        self.discharge(n, front);
        if replies > 0 {
            front.sent.borrow_mut().push((self.id, replies));
        }
        self.wake();
    }

    fn discharge(&self, n: usize, front: &Front) {
        for charge in self.charges.borrow_mut().drain(..n) {
            front.budget.give(charge.bytes);
            if charge.overdraft {
                front.budget.end_overdraft();
            }
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn charge_partial(&self, bytes: usize, front: &Front) {
        let before = self.partial.replace(bytes);
        front.budget.give(before);
        front.budget.held.set(front.budget.held.get() + bytes);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Overdraft {
    Free,
    /// This connection is receiving a frame with it.
    Receiving(ConnId),
    /// A frame received with it is in progress.
    InProgress,
}

/// Request memory of a shard.
pub struct Budget {
    limit: usize,
    held: Cell<usize>,
    /// One frame at a time may go over the limit. Without that, frames received by half could hold
    /// all the memory and wait for each other for ever.
    overdraft: Cell<Overdraft>,
    waiting: RefCell<Vec<Waker>>,
}

impl Budget {
    fn new(limit: usize) -> Self {
        let (held, overdraft) = (Cell::new(0), Cell::new(Overdraft::Free));
        Self {
            limit,
            held,
            overdraft,
            waiting: RefCell::default(),
        }
    }

    fn may_take(&self, conn: ConnId) -> bool {
        if self.held.get() < self.limit {
            return true;
        }
        if self.overdraft.get() == Overdraft::Free {
            self.overdraft.set(Overdraft::Receiving(conn));
        }
        self.overdraft.get() == Overdraft::Receiving(conn)
    }

    fn give(&self, bytes: usize) {
        self.held.set(self.held.get() - bytes);
        if bytes > 0 && self.held.get() < self.limit {
            self.wake();
        }
    }

    /// Charges a whole frame.
    fn admit(&self, conn: ConnId, bytes: usize) -> Charge {
        self.held.set(self.held.get() + bytes);
        let overdraft = self.overdraft.get() == Overdraft::Receiving(conn);
        if overdraft {
            self.overdraft.set(Overdraft::InProgress);
        }
        Charge { bytes, overdraft }
    }

    fn end_overdraft(&self) {
        self.overdraft.set(Overdraft::Free);
        self.wake();
    }

    fn wake(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

/// Connection counts of the whole node. A lock, but only where a connection begins or ends.
pub struct Admission {
    connections_max: usize,
    per_ip_max: usize,
    by_ip: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

impl Admission {
    /// With Kafka's two limits.
    #[must_use]
    pub fn new(connections_max: usize, per_ip_max: usize) -> Arc<Self> {
        Arc::new(Self {
            connections_max,
            per_ip_max,
            by_ip: Mutex::default(),
        })
    }

    fn enter(&self, ip: IpAddr) -> Result<(), &'static str> {
        let mut counts = self.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.0 >= self.connections_max {
            return Err("max.connections is reached");
        }
        let of_ip = counts.1.entry(ip).or_default();
        if *of_ip >= self.per_ip_max {
            return Err("max.connections.per.ip is reached");
        }
        *of_ip += 1;
        counts.0 += 1;
        Ok(())
    }

    fn leave(&self, ip: IpAddr) {
        let mut counts = self.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
        counts.0 -= 1;
        if let Some(of_ip) = counts.1.get_mut(&ip) {
            *of_ip -= 1;
            if *of_ip == 0 {
                counts.1.remove(&ip);
            }
        }
    }
}

/// What the connections of one shard share with its pump.
pub struct Front {
    /// The clock as of the pump's last turn.
    pub now: Cell<Mono>,
    events: RefCell<Vec<Event>>,
    /// Connections and how many of their replies have left since the pump asked.
    sent: RefCell<Vec<(ConnId, usize)>>,
    pump: Cell<Option<Waker>>,
    /// How often the eventfd was seen to be raised.
    bells: Cell<u32>,
    budget: Budget,
    scratch: RefCell<Vec<u8>>,
    frame_bytes_max: usize,
    next_conn: Cell<u64>,
    admission: Arc<Admission>,
    refused: Often,
    garbage: Often,
}

impl Front {
    /// For a shard whose requests may take `request_bytes_max` of memory together.
    #[must_use]
    pub fn new(
        frame_bytes_max: usize,
        request_bytes_max: usize,
        admission: Arc<Admission>,
    ) -> Self {
        Self {
            now: Cell::new(sys::now().mono),
            events: RefCell::default(),
            sent: RefCell::default(),
            pump: Cell::new(None),
            bells: Cell::new(0),
            budget: Budget::new(request_bytes_max),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES]),
            frame_bytes_max,
            next_conn: Cell::new(1),
            admission,
            refused: Often::default(),
            garbage: Often::default(),
        }
    }

    /// Moves what has happened into `events`, which has to be empty.
    pub fn take_events(&self, events: &mut Vec<Event>) {
        std::mem::swap(&mut *self.events.borrow_mut(), events);
    }

    /// Moves what has left into `sent`, which has to be empty.
    pub fn take_sent(&self, sent: &mut Vec<(ConnId, usize)>) {
        std::mem::swap(&mut *self.sent.borrow_mut(), sent);
    }

    /// Whether there is an event to take.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.borrow().is_empty()
    }

    /// Waits for an event or the bell.
    pub async fn wait(&self) {
        let mut waited = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut waited, true) || self.has_events() {
                return Poll::Ready(());
            }
            self.pump.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
        self.pump.set(None);
    }

    /// Waits until the shard's eventfd, which the caller has raised, was seen to be raised. For that
    /// the executor has to look at what has happened on its sockets too.
    pub async fn wait_for_bell(&self) {
        let before = self.bells.get();
        poll_fn(|cx| {
            if self.bells.get() != before {
                return Poll::Ready(());
            }
            self.pump.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// The eventfd was raised: wakes the pump.
    pub fn bell_rang(&self) {
        self.bells.set(self.bells.get().wrapping_add(1));
        self.wake_pump();
    }

    fn wake_pump(&self) {
        if let Some(waker) = self.pump.take() {
            waker.wake();
        }
    }

    /// Whether this connection should be closed: idle for longer than allowed, or in the way of
    /// others while memory is short.
    #[must_use]
    pub fn overdue(&self, conn: &Conn, idle_ms_max: u64) -> Option<&'static str> {
        let idle_ms = self.now.get().ms_since(conn.last_active.get());
        if idle_ms >= idle_ms_max && conn.charges.borrow().is_empty() {
            Some("connections.max.idle.ms is over")
        } else if idle_ms >= STALL_MS
            && conn.partial.get() > 0
            && !self.budget.waiting.borrow().is_empty()
        {
            Some("it stalls in the middle of a request while request memory is short")
        } else {
            None
        }
    }

    fn push(&self, event: Event) {
        self.events.borrow_mut().push(event);
        self.wake_pump();
    }

    /// Waits until the connection may have more in progress; `None`: it is being closed. A frame
    /// whose memory is charged already, while it was received, waits for a place only.
    async fn admission(&self, conn: &Conn, charged: bool) -> Option<()> {
        poll_fn(|cx| {
            if conn.closing.get() {
                return Poll::Ready(None);
            }
            let room = conn.charges.borrow().len() < CONN_IN_FLIGHT_MAX
                && conn.queued.get() < CONN_REPLY_BYTES_MAX;
            if room && (charged || self.budget.may_take(conn.id)) {
                return Poll::Ready(Some(()));
            }
            conn.waker.set(Some(cx.waker().clone()));
            if room {
                self.budget.waiting.borrow_mut().push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        frames: &mut FrameReader,
    ) -> Poll<io::Result<usize>> {
        // The rest of a large frame goes straight to where it stays.
        if frames.missing() > SCRATCH_BYTES / 2 {
            let poll = Pin::new(stream).poll_read(cx, frames.room());
            if let Poll::Ready(Ok(n)) = &poll {
                frames.filled(*n);
            }
            return poll;
        }
        let mut scratch = self.scratch.borrow_mut();
        let poll = Pin::new(stream).poll_read(cx, &mut scratch);
        if let Poll::Ready(Ok(n)) = &poll {
            frames
                .feed(&scratch[..*n])
                .map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad.diagnosis()))?;
        }
        poll
    }
}

/// Accepts connections for as long as it is not dropped.
pub async fn accept(listener: TcpListener, index: usize, front: Rc<Front>) {
    loop {
        match listener.accept().await {
            Ok(stream) => begin(stream, index, &front),
            Err(error) => {
                // Out of descriptors or memory, most likely: let some connections end first.
                front
                    .refused
                    .warn(|| format!("cannot accept connections: {error}"));
                glommio::timer::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn begin(stream: TcpStream, listener: usize, front: &Rc<Front>) {
    let Ok(peer) = stream.peer_addr() else { return };
    if let Err(why) = front.admission.enter(peer.ip()) {
        front
            .refused
            .warn(|| format!("connection of {peer} refused: {why}"));
        return;
    }
    // Without it small replies wait for the client's delayed acknowledgement; if it fails the
    // connection is already gone, which reading finds out.
    let _ = stream.set_nodelay(true);
    let id = front.next_conn.get();
    front.next_conn.set(id + 1);
    let conn = Rc::new(Conn::new(
        ConnId(id),
        stream.as_raw_fd(),
        peer,
        front.now.get(),
    ));
    front.push(Event::Opened {
        conn: Rc::clone(&conn),
        listener,
    });
    glommio::spawn_local(read(stream, conn, Rc::clone(front))).detach();
}

/// A connection's task: reads requests until the connection ends.
async fn read(mut stream: TcpStream, conn: Rc<Conn>, front: Rc<Front>) {
    match read_requests(&mut stream, &conn, &front).await {
        Ok(()) => tracing::debug!(peer = %conn.peer, "connection ended"),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            front
                .garbage
                .warn(|| format!("connection of {} closed: {error}", conn.peer));
        }
        Err(error) => tracing::debug!(peer = %conn.peer, %error, "connection ended"),
    }
    conn.charge_partial(0, &front);
    if front.budget.overdraft.get() == Overdraft::Receiving(conn.id) {
        front.budget.end_overdraft();
    }
    conn.close();
    front.push(Event::Closed { conn: conn.id });
    // The pump may have an operation in flight that names the socket by its number.
    poll_fn(|cx| {
        if conn.released.get() {
            return Poll::Ready(());
        }
        conn.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    })
    .await;
    let left = conn.charges.borrow().len();
    conn.discharge(left, &front);
    drop(stream);
    front.admission.leave(conn.peer.ip());
}

async fn read_requests(stream: &mut TcpStream, conn: &Conn, front: &Front) -> io::Result<()> {
    let mut frames = FrameReader::new(front.frame_bytes_max);
    loop {
        if frames.missing() > SCRATCH_BYTES / 2 {
            if front.admission(conn, false).await.is_none() {
                return Ok(());
            }
            let step = frames.missing().min(STEP_BYTES);
            conn.charge_partial(frames.received() + step, front);
        }
        let received = poll_fn(|cx| front.poll_receive(cx, stream, &mut frames)).await;
        if let Ok(0) = received {
            return Ok(());
        }
        // The pump's clock is as old as its last turn, which is long ago if it slept.
        let at = sys::mono();
        conn.last_active.set(at);
        // Whole frames that came before a bad one still count.
        while let Some(frame) = frames.pop() {
            if front
                .admission(conn, conn.partial.get() > 0)
                .await
                .is_none()
            {
                return Ok(());
            }
            conn.charge_partial(0, front);
            let charge = front.budget.admit(conn.id, frame.len());
            conn.charges.borrow_mut().push_back(charge);
            front.push(Event::Request {
                conn: conn.id,
                frame,
                at,
            });
        }
        received?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admission_counts_both_limits() {
        let admission = Admission::new(3, 2);
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        assert!(admission.enter(a).is_ok());
        assert!(admission.enter(a).is_ok());
        assert!(admission.enter(a).is_err_and(|why| why.contains("per.ip")));
        assert!(admission.enter(b).is_ok());
        assert!(
            admission
                .enter(b)
                .is_err_and(|why| why.contains("max.connections is"))
        );
        admission.leave(a);
        assert!(admission.enter(b).is_ok());
    }

    #[test]
    fn one_frame_at_a_time_may_overdraw() {
        let budget = Budget::new(100);
        let (a, b) = (ConnId(1), ConnId(2));
        assert!(budget.may_take(a));
        assert!(!budget.admit(a, 100).overdraft);
        assert!(budget.may_take(a), "takes the overdraft");
        assert!(!budget.may_take(b));
        assert!(budget.may_take(a), "keeps it");
        assert!(budget.admit(a, 50).overdraft);
        assert!(!budget.may_take(a), "has used it");
        assert!(!budget.may_take(b));
        budget.end_overdraft();
        assert!(budget.may_take(b));
        assert!(!budget.may_take(a));
        budget.give(60);
        assert!(budget.may_take(a));
    }
}
