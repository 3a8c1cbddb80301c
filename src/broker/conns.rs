//! The connections of a shard: who they are, and replies in the order of the
//! requests, whatever order they become ready in.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;

use super::order::{Footprint, Order};
use super::trace::{ClientName, Stage, Trace, Tracer};
use super::{ConnId, Output};
use crate::base::limits::CONN_IN_FLIGHT_MAX;
use crate::base::{IdMap, Mono};
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

/// What is known of a connection.
#[derive(Debug)]
pub struct Conn {
    /// Address of the client.
    pub peer: SocketAddr,
    /// Index of the listener by which it came.
    pub listener: usize,
    /// Whether it came to this shard by the shard's own port.
    pub direct: bool,
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
    closing: bool,
}

/// A request that has to wait for one before it.
type Waiting = (ReplyTo, RequestHeader, Bytes);

/// A request in progress.
#[derive(Debug)]
struct Request {
    trace: Trace,
    footprint: Footprint,
    reply: Option<Vec<Piece>>,
    /// Under which number the front keeps it while it waits for something.
    parked: Option<u64>,
}

/// All connections of a shard. Bounded by `max.connections` and, per connection, by
/// `limits::CONN_IN_FLIGHT_MAX`, both enforced by the driver before a request gets here.
#[derive(Debug, Default)]
pub struct Conns {
    conns: IdMap<u64, Conn>,
    /// The time of the input that is being handled.
    now: Mono,
    /// The request that was the last input: when the next input comes, its handling is over.
    handled: Option<ReplyTo>,
    /// Connections with a request that waited and may begin now.
    ready: VecDeque<ConnId>,
}

impl Conns {
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

    /// The last byte of so many replies has left.
    pub fn sent(&mut self, conn: ConnId, replies: usize, tracer: &mut Tracer) {
        let Some(entry) = self.conns.get_mut(&conn.0) else {
            return;
        };
        for _ in 0..replies.min(entry.handed_out) {
            entry.handed_out -= 1;
            entry.first += 1;
            if let Some(mut request) = entry.requests.pop_front() {
                request.trace.pass(Stage::Send, self.now);
                tracer.finish(&request.trace, &entry.client, self.now);
            }
        }
    }

    /// A connection was accepted.
    pub fn open(&mut self, conn: ConnId, peer: SocketAddr, listener: usize, direct: bool) {
        self.conns.insert(
            conn.0,
            Conn {
                peer,
                listener,
                direct,
                client: ClientName::default(),
                first: 0,
                requests: VecDeque::new(),
                handed_out: 0,
                order: Order::default(),
                closing: false,
            },
        );
    }

    /// A connection is gone; later replies to it are dropped. Returns the numbers of its requests that
    /// were parked and are not answered.
    pub fn closed(&mut self, conn: ConnId) -> Vec<u64> {
        let Some(entry) = self.conns.remove(&conn.0) else {
            return Vec::new();
        };
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
    pub fn get(&self, conn: ConnId) -> Option<&Conn> {
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
        let entry = self.conns.get_mut(&conn.0).filter(|c| !c.closing)?;
        entry.client.set(client);
        trace.pass(Stage::Queue, self.now);
        entry.requests.push_back(Request {
            trace,
            footprint,
            reply: None,
            parked: None,
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

    /// Answers a request; what is now first in line goes out.
    pub fn reply(&mut self, to: ReplyTo, pieces: Vec<Piece>, out: &mut Vec<Output>) {
        let Some(entry) = self.conns.get_mut(&to.conn.0) else {
            return;
        };
        let request = &mut entry.requests[(to.seq - entry.first) as usize];
        debug_assert!(request.reply.is_none(), "answered twice");
        request.trace.pass(Stage::Answer, self.now);
        request.trace.replied(pieces.iter().map(Piece::len).sum());
        request.reply = Some(pieces);
        request.parked = None;
        if entry.order.answered(request.footprint) {
            self.ready.push_back(to.conn);
        }
        while let Some(request) = entry.requests.get_mut(entry.handed_out)
            && let Some(pieces) = request.reply.take()
        {
            request.trace.pass(Stage::Order, self.now);
            entry.handed_out += 1;
            out.push(Output::Reply {
                conn: to.conn,
                pieces,
            });
        }
        // A driver that never tells what has left may not cost memory.
        while entry.handed_out > CONN_IN_FLIGHT_MAX {
            entry.handed_out -= 1;
            entry.first += 1;
            entry.requests.pop_front();
        }
    }

    /// Ends a connection: nothing that was asked on it is answered any more.
    pub fn close(&mut self, conn: ConnId, why: String, out: &mut Vec<Output>) {
        if let Some(entry) = self.conns.get_mut(&conn.0)
            && !entry.closing
        {
            entry.closing = true;
            out.push(Output::Close { conn, why });
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::trace::Class;
    use super::*;

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
        conns.open(conn, "127.0.0.1:1".parse().unwrap(), 0, false);
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
    fn a_closed_connection_takes_no_requests_and_no_replies() {
        let mut conns = Conns::default();
        let conn = ConnId(1);
        conns.open(conn, "127.0.0.1:1".parse().unwrap(), 0, false);
        let to = expect(&mut conns, conn).unwrap();
        let mut out = Vec::new();
        conns.close(conn, "test".into(), &mut out);
        conns.close(conn, "test".into(), &mut out);
        assert_eq!(out.len(), 1, "closed once");
        assert!(expect(&mut conns, conn).is_none());
        conns.closed(conn);
        conns.reply(to, body("late"), &mut out);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn a_request_is_traced_until_its_reply_has_left() {
        // In whole units of the trace.
        let at = |units: u64| Mono(units * 64);
        let (mut conns, mut tracer) = (Conns::default(), Tracer::new());
        let conn = ConnId(7);
        let mut out = Vec::new();
        conns.open(conn, "127.0.0.1:1".parse().unwrap(), 0, false);
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
        assert_eq!(tracer.stats(Class::Produce).count(), 1);
        conns.next_input(at(200));
        // More than there are, as after a reply that was dropped.
        conns.sent(conn, 5, &mut tracer);
        let spent: Vec<[u32; super::super::trace::STAGES]> = tracer
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
        conns.open(conn, "127.0.0.1:1".parse().unwrap(), 0, false);
        let mut out = Vec::new();
        for _ in 0..3 * CONN_IN_FLIGHT_MAX {
            let to = expect(&mut conns, conn).unwrap();
            conns.reply(to, body("x"), &mut out);
        }
        assert_eq!(out.len(), 3 * CONN_IN_FLIGHT_MAX);
        assert_eq!(conns.conns[&7].requests.len(), CONN_IN_FLIGHT_MAX);
    }
}
