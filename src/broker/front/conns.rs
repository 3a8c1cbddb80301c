//! The connections of a shard: who they are, and replies in the order of the
//! requests, whatever order they become ready in.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;

use super::order::{Footprint, Order};
use crate::base::limits::{CONN_IN_FLIGHT_MAX, CONN_REPLY_BYTES_MAX, LONG_REPLIES_BYTES_MAX};
use crate::base::{IdMap, Mono};
use crate::broker::io::{ConnId, Output};
use crate::broker::trace::{ClientName, Stage, Trace, Tracer};
use crate::store::Piece;
use crate::wire::RequestHeader;

/// Where the reply to one request has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The connection.
    pub conn: ConnId,
    /// Number of the request on it.
    pub seq: u64,
}

/// What a connection is for, by the port to which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnPurpose {
    /// Anything.
    Any,
    /// Anything, and what is asked of all shards is asked of this one: it came by the shard's own port.
    Direct,
    /// Only other nodes are served.
    Nodes,
}

/// What is known of a connection.
#[derive(Debug)]
pub struct Caller {
    /// Address of the client.
    pub peer: SocketAddr,
    /// Index of the listener by which it came.
    pub listener: usize,
    /// What may come on it.
    pub purpose: ConnPurpose,
    /// Who the client says it is.
    client: ClientName,
    /// Number of the request at the front of `requests`.
    first: u64,
    /// Requests whose reply has not left yet.
    requests: VecDeque<Request>,
    /// How many of them, from the front, were given to the driver to be sent.
    handed_out: usize,
    /// Which of them may begin.
    order: Order<Waiting>,
    /// One of the requests ends the connection when its turn comes to be answered: no more are taken.
    ending: bool,
    /// That turn has come.
    closing: bool,
    /// Bytes of its long replies that have not left.
    long: usize,
    /// Bytes of replies that wait for those before them, and of those that were given to the driver.
    kept: usize,
    unsent: usize,
    /// It is to be told when a request of it is answered, or a long reply has left.
    tell_when_moved: bool,
}

/// A request that has to wait for one before it.
type Waiting = (ReplyTo, RequestHeader, Bytes);

/// A request in progress.
#[derive(Debug)]
struct Request {
    trace: Trace,
    footprint: Footprint,
    outcome: Option<Outcome>,
    /// Under which number the front keeps it while it waits for something.
    parked: Option<u64>,
    /// Bytes of its reply, if that is a long one.
    long: usize,
    /// Bytes of its reply, when there is one.
    bytes: usize,
    /// It is to be told of when its reply [would be kept](Conns::keeps) for nobody.
    waits_for_turn: bool,
}

/// What becomes of a request.
#[derive(Debug)]
enum Outcome {
    Reply(Vec<Piece>),
    /// It cannot be answered, for this reason: its connection is closed.
    Close(String),
}

impl Caller {
    /// Gives out what is now first in line.
    fn hand_out(&mut self, conn: ConnId, now: Mono, out: &mut Vec<Output>) {
        while !self.closing
            && let Some(request) = self.requests.get_mut(self.handed_out)
            && let Some(outcome) = request.outcome.take()
        {
            request.trace.pass(Stage::Order, now);
            self.handed_out += 1;
            self.kept -= request.bytes;
            self.unsent += request.bytes;
            out.push(match outcome {
                Outcome::Reply(pieces) => Output::Reply { conn, pieces },
                Outcome::Close(why) => {
                    self.closing = true;
                    Output::Close { conn, why }
                }
            });
        }
        // A driver that never tells what has left may not cost memory.
        while self.handed_out > CONN_IN_FLIGHT_MAX {
            self.left();
        }
    }

    /// The first reply that was given out has left.
    fn left(&mut self) -> Option<Request> {
        let left = self.requests.pop_front()?;
        self.handed_out -= 1;
        self.first += 1;
        self.long -= left.long;
        self.unsent -= left.bytes;
        Some(left)
    }

    /// The number of the request that waited to be the next one to be answered, when it is and may be.
    fn take_turn(&mut self) -> Option<u64> {
        if self.closing || self.unsent > CONN_REPLY_BYTES_MAX {
            return None;
        }
        let next = self.requests.get_mut(self.handed_out)?;
        std::mem::take(&mut next.waits_for_turn).then_some(next.parked)?
    }
}

/// All connections of a shard. Bounded by `max.connections` and, per connection, by
/// `limits::CONN_IN_FLIGHT_MAX`, both enforced by the driver before a request gets here.
#[derive(Debug, Default)]
pub struct Conns {
    conns: IdMap<u64, Caller>,
    /// The time of the input that is being handled.
    now: Mono,
    /// The request that was the last input: when the next input comes, its handling is over.
    handled: Option<ReplyTo>,
    /// Connections with a request that waited and may begin now.
    ready: VecDeque<ConnId>,
    /// Bytes of long replies of all connections that have not left.
    long: usize,
    /// Connections that were to be told of when they moved.
    moved: Vec<ConnId>,
    /// Requests, by the numbers under which they are parked, whose turn to be answered has come.
    turns: VecDeque<u64>,
}

impl Conns {
    /// Panics if a reply is ready and not sent. For the simulator.
    pub fn invariants(&self) {
        for (id, conn) in &self.conns {
            let sent = conn.handed_out;
            assert!(
                sent <= conn.requests.len(),
                "connection {id}: replies to nothing"
            );
            let waits = conn
                .requests
                .get(sent)
                .is_none_or(|next| next.outcome.is_none());
            assert!(waits || conn.closing, "connection {id}: a reply is stuck");
            let long: usize = conn.requests.iter().map(|request| request.long).sum();
            assert_eq!(long, conn.long, "connection {id}: long replies");
            let bytes = |from: usize, to: usize| -> usize {
                let some = conn.requests.range(from..to);
                some.map(|request| request.bytes).sum()
            };
            assert_eq!(bytes(0, sent), conn.unsent, "connection {id}: unsent");
            assert_eq!(
                bytes(sent, conn.requests.len()),
                conn.kept,
                "connection {id}: kept"
            );
        }
        let long: usize = self.conns.values().map(|conn| conn.long).sum();
        assert_eq!(long, self.long, "long replies");
    }

    /// A new input is handled: the one before is done with.
    pub fn next_input(&mut self, now: Mono) {
        self.now = now;
        if let Some(to) = self.handled.take() {
            self.pass(to, Stage::Parse, now);
        }
    }

    /// The trace of a request, unless its connection is gone.
    pub fn trace(&mut self, to: ReplyTo) -> Option<&mut Trace> {
        self.request(to).map(|request| &mut request.trace)
    }

    fn request(&mut self, to: ReplyTo) -> Option<&mut Request> {
        let entry = self.conns.get_mut(&to.conn.0)?;
        let index = to.seq.checked_sub(entry.first)?;
        entry.requests.get_mut(usize::try_from(index).ok()?)
    }

    /// A request spent the time since its last stamp in `stage`.
    pub fn pass(&mut self, to: ReplyTo, stage: Stage, at: Mono) {
        if let Some(trace) = self.trace(to) {
            trace.pass(stage, at);
        }
    }

    /// The last byte of so many replies has left. Returns whether a long one was among them.
    pub fn sent(&mut self, conn: ConnId, replies: usize, tracer: &mut Tracer) -> bool {
        let Some(entry) = self.conns.get_mut(&conn.0) else {
            return false;
        };
        let before = entry.long;
        for _ in 0..replies.min(entry.handed_out) {
            if let Some(mut request) = entry.left() {
                request.trace.pass(Stage::Send, self.now);
                tracer.finish(&request.trace, &entry.client, self.now);
            }
        }
        let left = before - entry.long;
        self.long -= left;
        self.turns.extend(entry.take_turn());
        if left > 0 && std::mem::take(&mut entry.tell_when_moved) {
            self.moved.push(conn);
        }
        left > 0
    }

    /// Whether a request may have a long reply now: it is the next one of its connection to be answered, and the
    /// client has taken the long ones before it.
    #[must_use]
    pub fn may_be_long(&self, to: ReplyTo) -> bool {
        let entry = self.conns.get(&to.conn.0);
        entry
            .is_some_and(|entry| entry.long == 0 && to.seq - entry.first == entry.handed_out as u64)
    }

    /// Whether a reply of so many bytes may be made now: what is kept for others to be answered first, or for a client
    /// that does not take it, is in no other bound. If not, it is to be made anew [in its turn](Conns::next_turn).
    #[must_use]
    pub fn keeps(&self, to: ReplyTo, bytes: usize) -> bool {
        let Some(entry) = self.conns.get(&to.conn.0) else {
            return true;
        };
        let is_next = to.seq - entry.first == entry.handed_out as u64;
        is_next && entry.unsent <= CONN_REPLY_BYTES_MAX
            || entry.kept + entry.unsent + bytes <= CONN_REPLY_BYTES_MAX
    }

    /// Has a parked request told of by [`Conns::next_turn`] when its reply may be made, whatever its size.
    pub fn wait_for_turn(&mut self, to: ReplyTo) {
        if let Some(request) = self.request(to) {
            request.waits_for_turn = true;
        }
        let entry = self.conns.get_mut(&to.conn.0);
        self.turns.extend(entry.and_then(Caller::take_turn));
    }

    /// The number of a request whose turn has come; it may be gone since.
    pub fn next_turn(&mut self) -> Option<u64> {
        self.turns.pop_front()
    }

    /// Whether there is any.
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Whether so much of long replies waits to be sent that no further one is begun.
    #[must_use]
    pub const fn has_many_long(&self) -> bool {
        self.long >= LONG_REPLIES_BYTES_MAX
    }

    /// Has it told, once, when a request of the connection was answered or a long reply has left.
    pub fn tell_when_moved(&mut self, conn: ConnId) {
        if let Some(entry) = self.conns.get_mut(&conn.0) {
            entry.tell_when_moved = true;
        }
    }

    /// Whether there are such connections.
    pub fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// The connections that were to be told of and have moved.
    pub fn take_moved(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.moved)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// A connection was accepted.
    pub fn open(&mut self, conn: ConnId, peer: SocketAddr, listener: usize, purpose: ConnPurpose) {
        self.conns.insert(
            conn.0,
            Caller {
                peer,
                listener,
                purpose,
                client: ClientName::default(),
                first: 0,
                requests: VecDeque::new(),
                handed_out: 0,
                order: Order::default(),
                ending: false,
                closing: false,
                long: 0,
                kept: 0,
                unsent: 0,
                tell_when_moved: false,
            },
        );
    }

    /// A connection is gone; later replies to it are dropped. Returns the numbers of its requests that
    /// were parked and are not answered.
    pub fn closed(&mut self, conn: ConnId) -> Vec<u64> {
        let Some(entry) = self.conns.remove(&conn.0) else {
            return Vec::new();
        };
        self.long -= entry.long;
        let requests = entry.requests.iter();
        requests.filter_map(|request| request.parked).collect()
    }

    /// The request is kept by the front under this number until it is answered.
    pub fn parked(&mut self, to: ReplyTo, id: u64) {
        if let Some(request) = self.request(to) {
            request.parked = Some(id);
        }
    }

    /// The connection, unless it is gone or being closed.
    #[must_use]
    pub fn get(&self, conn: ConnId) -> Option<&Caller> {
        self.conns.get(&conn.0).filter(|c| !c.closing)
    }

    /// Takes a request of an API: reserves the place of its reply.
    pub fn expect_reply(
        &mut self,
        conn: ConnId,
        mut trace: Trace,
        client: &[u8],
        footprint: Footprint,
    ) -> Option<ReplyTo> {
        let entry = self.conns.get_mut(&conn.0).filter(|c| !c.ending)?;
        entry.client.set(client);
        trace.pass(Stage::Queue, self.now);
        entry.requests.push_back(Request {
            trace,
            footprint,
            outcome: None,
            parked: None,
            long: 0,
            bytes: 0,
            waits_for_turn: false,
        });
        let to = ReplyTo {
            conn,
            seq: entry.first + entry.requests.len() as u64 - 1,
        };
        self.handled = Some(to);
        Some(to)
    }

    /// Whether a request that was just taken may begin, or has to wait for those before it.
    pub fn may_begin(&mut self, to: ReplyTo) -> bool {
        let Some(entry) = self.conns.get_mut(&to.conn.0) else {
            return false;
        };
        match entry.requests.back() {
            Some(request) => entry.order.begin(request.footprint),
            None => false,
        }
    }

    /// Keeps a request that may not begin yet, for [`Conns::next_ready`].
    pub fn wait(&mut self, to: ReplyTo, header: RequestHeader, body: Bytes) {
        let Some(entry) = self.conns.get_mut(&to.conn.0) else {
            return;
        };
        if let Some(request) = entry.requests.back() {
            let footprint = request.footprint;
            entry.order.wait(footprint, (to, header, body));
        }
        self.handled = None;
    }

    /// A request that had to wait and may begin now.
    pub fn next_ready(&mut self) -> Option<(ReplyTo, RequestHeader, Bytes)> {
        while let Some(&conn) = self.ready.front() {
            let entry = self.conns.get_mut(&conn.0).filter(|c| !c.closing);
            if let Some((to, header, body)) = entry.and_then(|entry| entry.order.next()) {
                let now = self.now;
                self.pass(to, Stage::Order, now);
                self.handled.get_or_insert(to);
                return Some((to, header, body));
            }
            self.ready.pop_front();
        }
        None
    }

    /// Whether there is any such request.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The same with a long reply.
    pub fn reply_long(&mut self, to: ReplyTo, pieces: Vec<Piece>, out: &mut Vec<Output>) {
        let bytes = pieces.iter().map(Piece::len).sum();
        if let Some(request) = self.request(to) {
            request.long = bytes;
            let entry = self.conns.get_mut(&to.conn.0);
            entry.expect("its request is there").long += bytes;
            self.long += bytes;
        }
        self.reply(to, pieces, out);
    }

    /// Answers a request; what is now first in line goes out.
    pub fn reply(&mut self, to: ReplyTo, pieces: Vec<Piece>, out: &mut Vec<Output>) {
        let Some(entry) = self.conns.get_mut(&to.conn.0) else {
            return;
        };
        let request = &mut entry.requests[(to.seq - entry.first) as usize];
        debug_assert!(request.outcome.is_none(), "answered twice");
        request.trace.pass(Stage::Answer, self.now);
        request.bytes = pieces.iter().map(Piece::len).sum();
        entry.kept += request.bytes;
        request.trace.replied(request.bytes);
        request.outcome = Some(Outcome::Reply(pieces));
        request.parked = None;
        if entry.order.answered(request.footprint) {
            self.ready.push_back(to.conn);
        }
        self.hand_out(to.conn, out);
        let entry = self.conns.get_mut(&to.conn.0);
        if entry.is_some_and(|entry| std::mem::take(&mut entry.tell_when_moved)) {
            self.moved.push(to.conn);
        }
    }

    /// Gives out what is now first in line of a connection. What leaves by that is not in memory any more.
    fn hand_out(&mut self, conn: ConnId, out: &mut Vec<Output>) {
        if let Some(entry) = self.conns.get_mut(&conn.0) {
            let long = entry.long;
            entry.hand_out(conn, self.now, out);
            self.long -= long - entry.long;
            self.turns.extend(entry.take_turn());
        }
    }

    /// One of the requests ends its connection, at once if it is first in line.
    fn end(&mut self, conn: ConnId, out: &mut Vec<Output>) {
        self.hand_out(conn, out);
        if let Some(entry) = self.conns.get_mut(&conn.0)
            && !std::mem::replace(&mut entry.ending, true)
            && !entry.closing
        {
            out.push(Output::TakeNoMore { conn });
        }
    }

    /// A request that has begun cannot be answered. Its connection is closed, as in Kafka, when those before it are
    /// answered; those behind it do not begin any more.
    pub fn fail(&mut self, to: ReplyTo, why: String, out: &mut Vec<Output>) {
        if let Some(request) = self.request(to) {
            request.outcome = Some(Outcome::Close(why));
            request.parked = None;
        }
        if let Some(entry) = self.conns.get_mut(&to.conn.0) {
            entry.order.forget_waiting();
            self.end(to.conn, out);
        }
    }

    /// The same for a request of which not even the kind is known.
    pub fn refuse(&mut self, conn: ConnId, trace: Trace, why: String, out: &mut Vec<Output>) {
        if let Some(entry) = self.conns.get_mut(&conn.0).filter(|c| !c.ending) {
            entry.requests.push_back(Request {
                trace,
                footprint: Footprint::default(),
                outcome: Some(Outcome::Close(why)),
                parked: None,
                long: 0,
                bytes: 0,
                waits_for_turn: false,
            });
            self.end(conn, out);
        }
    }

    /// Ends a connection for no request of it, when those that it has are answered.
    pub fn close(&mut self, conn: ConnId, why: String, out: &mut Vec<Output>) {
        self.refuse(conn, Trace::new(-1, 0, self.now), why, out);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use std::sync::Arc;

    use super::*;
    use crate::broker::trace::RequestKind;

    fn expect(conns: &mut Conns, conn: ConnId) -> Option<ReplyTo> {
        let trace = Trace::new(0, 100, conns.now);
        let to = conns.expect_reply(conn, trace, b"me", Footprint::default())?;
        assert!(conns.may_begin(to));
        Some(to)
    }

    fn body(text: &'static str) -> Vec<Piece> {
        vec![Piece::Memory(Bytes::from_static(text.as_bytes()))]
    }

    #[test]
    fn replies_leave_in_the_order_of_the_requests() {
        let mut conns = Conns::default();
        let conn = ConnId(7);
        conns.open(conn, "127.0.0.1:1".parse().unwrap(), 0, ConnPurpose::Any);
        let first = expect(&mut conns, conn).unwrap();
        let second = expect(&mut conns, conn).unwrap();
        let mut out = Vec::new();
        conns.reply(second, body("2"), &mut out);
        assert!(out.is_empty(), "the second waits for the first");
        conns.reply(first, body("1"), &mut out);
        let sent: Vec<_> = out
            .iter()
            .map(|o| match o {
                Output::Reply { pieces, .. } => match &pieces[0] {
                    Piece::Memory(bytes) => bytes.clone(),
                    Piece::File { .. } => panic!("no file here"),
                },
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        assert_eq!(sent, ["1", "2"]);
    }

    #[test]
    fn what_cannot_be_answered_ends_the_connection_in_its_turn() {
        for header_is_bad in [false, true] {
            let mut conns = Conns::default();
            let conn = ConnId(1);
            conns.open(conn, "127.0.0.1:1".parse().unwrap(), 0, ConnPurpose::Any);
            let first = expect(&mut conns, conn).unwrap();
            let mut out = Vec::new();
            if header_is_bad {
                let trace = Trace::new(-1, 100, conns.now);
                conns.refuse(conn, trace, "test".into(), &mut out);
            } else {
                let bad = expect(&mut conns, conn).unwrap();
                let behind = expect(&mut conns, conn).unwrap();
                conns.fail(bad, "test".into(), &mut out);
                conns.reply(behind, body("no more"), &mut out);
            }
            assert!(
                matches!(out[..], [Output::TakeNoMore { .. }]),
                "the first is not answered yet"
            );
            out.clear();
            assert!(expect(&mut conns, conn).is_none(), "no more are taken");
            assert!(conns.get(conn).is_some());
            conns.reply(first, body("1"), &mut out);
            assert!(
                matches!(out[..], [Output::Reply { .. }, Output::Close { .. }]),
                "{out:?}"
            );
            assert!(conns.get(conn).is_none());
            conns.closed(conn);
            conns.reply(first, body("late"), &mut out);
            assert_eq!(out.len(), 2);
        }
    }

    #[test]
    fn a_request_is_traced_until_its_reply_has_left() {
        // In whole units of the trace.
        let at = |units: u64| Mono(units * 64);
        let (mut conns, mut tracer) = (Conns::default(), Tracer::new(Arc::default()));
        let conn = ConnId(7);
        let mut out = Vec::new();
        conns.open(conn, "127.0.0.1:1".parse().unwrap(), 0, ConnPurpose::Any);
        conns.next_input(at(1));
        let first = expect(&mut conns, conn).unwrap();
        conns.next_input(at(3));
        let second = expect(&mut conns, conn).unwrap();
        conns.next_input(at(7));
        conns.reply(second, body("2"), &mut out);
        conns.next_input(at(10));
        conns.reply(first, body("1"), &mut out);
        conns.next_input(at(100));
        conns.sent(conn, 1, &mut tracer);
        assert_eq!(tracer.stats(RequestKind::Produce).count(), 1);
        conns.next_input(at(200));
        // More than there are, as after a reply that was dropped.
        conns.sent(conn, 5, &mut tracer);
        let spent: Vec<[u32; crate::broker::trace::STAGES]> = tracer
            .slowest()
            .filter(|(recent, _)| *recent)
            .map(|(_, slow)| slow.spent)
            .collect();
        assert_eq!(spent[0], [0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 90]);
        assert_eq!(spent[1], [0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 3, 190]);
    }

    #[test]
    fn what_never_leaves_is_forgotten() {
        let mut conns = Conns::default();
        let conn = ConnId(7);
        conns.open(conn, "127.0.0.1:1".parse().unwrap(), 0, ConnPurpose::Any);
        let mut out = Vec::new();
        for _ in 0..3 * CONN_IN_FLIGHT_MAX {
            let to = expect(&mut conns, conn).unwrap();
            conns.reply(to, body("x"), &mut out);
        }
        assert_eq!(out.len(), 3 * CONN_IN_FLIGHT_MAX);
        assert_eq!(conns.conns[&7].requests.len(), CONN_IN_FLIGHT_MAX);
    }

    #[test]
    fn a_long_reply_that_never_leaves_is_forgotten_by_whatever_ends_the_connection() {
        for header_is_bad in [false, true] {
            let (mut conns, mut out) = (Conns::default(), Vec::new());
            let conn = ConnId(7);
            conns.open(conn, "127.0.0.1:1".parse().unwrap(), 0, ConnPurpose::Any);
            let first = expect(&mut conns, conn).unwrap();
            conns.reply_long(first, body("long"), &mut out);
            for _ in 1..CONN_IN_FLIGHT_MAX {
                let to = expect(&mut conns, conn).unwrap();
                conns.reply(to, body("x"), &mut out);
            }
            assert_eq!(conns.long, 4);
            if header_is_bad {
                let trace = Trace::new(-1, 100, conns.now);
                conns.refuse(conn, trace, "test".into(), &mut out);
            } else {
                let bad = expect(&mut conns, conn).unwrap();
                conns.fail(bad, "test".into(), &mut out);
            }
            conns.invariants();
            assert_eq!(conns.long, 0);
        }
    }
}
