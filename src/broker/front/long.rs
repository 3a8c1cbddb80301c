//! Requests whose answers are long. One begins when it is the next of its connection to be answered, and when nothing
//! is left to be sent of a long answer before it; connections take turns. So what waits to be sent on a connection is
//! one long answer and short ones; those of a shard have a bound too (`limits::LONG_REPLIES_BYTES_MAX`).

use std::collections::BTreeMap;

use super::conns::{Conns, ReplyTo};
use crate::base::limits::{LONG_QUERIES_MAX, WAKES_PER_SLICE};
use crate::broker::io::ConnId;

/// Those of a connection, by their places on it.
type OfConn<T> = BTreeMap<u64, T>;

/// See the module.
#[derive(Debug)]
pub struct LongRequests<T> {
    /// Connections whose first one may be able to begin,
    ready: BTreeMap<u64, OfConn<T>>,
    /// and those whose first one has to wait until something of the connection has been answered or sent.
    held: BTreeMap<u64, OfConn<T>>,
    /// The connection that had the last turn.
    last: u64,
}

impl<T> Default for LongRequests<T> {
    fn default() -> Self {
        Self {
            ready: BTreeMap::new(),
            held: BTreeMap::new(),
            last: 0,
        }
    }
}

impl<T> LongRequests<T> {
    /// Adds a request.
    pub fn push(&mut self, to: ReplyTo, waiting: T) {
        self.moved(to.conn);
        let of_conn = self.ready.entry(to.conn.0).or_default();
        of_conn.insert(to.seq, waiting);
    }

    /// A request of a connection has begun without having been here: the connection has had its turn.
    pub fn begun(&mut self, conn: ConnId) {
        self.last = conn.0;
    }

    /// Something of a connection was answered, or has been sent.
    pub fn moved(&mut self, conn: ConnId) {
        if let Some(of_conn) = self.held.remove(&conn.0) {
            self.ready.insert(conn.0, of_conn);
        }
    }

    /// The next one that may begin now, after a look at some connections.
    pub fn next(&mut self, conns: &mut Conns) -> Option<T> {
        for _ in 0..WAKES_PER_SLICE {
            if !self.has_next(conns) {
                break;
            }
            let behind = self.ready.range(self.last.saturating_add(1)..).next();
            let (&id, _) = behind.or_else(|| self.ready.first_key_value())?;
            self.last = id;
            let conn = ConnId(id);
            let mut of_conn = self.ready.remove(&id)?;
            let (&seq, _) = of_conn.first_key_value()?;
            let next = match conns.may_be_long(ReplyTo { conn, seq }) {
                true => of_conn.pop_first().map(|(_, next)| next),
                false => None,
            };
            if !of_conn.is_empty() {
                conns.tell_when_moved(conn);
                self.held.insert(id, of_conn);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }

    /// Whether one may be able to begin now.
    pub fn has_next(&self, conns: &Conns) -> bool {
        !self.ready.is_empty() && !conns.has_many_long()
    }

    /// Takes one that will not begin.
    pub fn take_any(&mut self) -> Option<T> {
        for all in [&mut self.ready, &mut self.held] {
            if let Some((id, mut of_conn)) = all.pop_first() {
                let taken = of_conn.pop_first();
                if !of_conn.is_empty() {
                    all.insert(id, of_conn);
                }
                return taken.map(|(_, taken)| taken);
            }
        }
        None
    }

    /// The requests of a connection are not answered any more.
    pub fn forget(&mut self, conn: ConnId) {
        self.ready.remove(&conn.0);
        self.held.remove(&conn.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let all = self.ready.values().chain(self.held.values());
        all.map(BTreeMap::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.held.is_empty()
    }
}

/// What a long request waits for once it has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongKind {
    /// It looks at things alone.
    Looks,
    /// It changes things, and waits until that is on the disk, however long that takes.
    Changes,
}

/// Long requests of which [`LONG_QUERIES_MAX`] are in progress at a time, of each kind: those that wait for a disk that
/// hangs keep nobody waiting who only looks.
#[derive(Debug)]
pub struct LongLines<T> {
    looks: LongLine<T>,
    changes: LongLine<T>,
}

/// Those of a kind.
#[derive(Debug)]
struct LongLine<T> {
    waiting: LongRequests<T>,
    /// How many are in progress.
    begun: usize,
}

impl<T> Default for LongLine<T> {
    fn default() -> Self {
        Self {
            waiting: LongRequests::default(),
            begun: 0,
        }
    }
}

impl<T> LongLine<T> {
    fn has_next(&self, conns: &Conns) -> bool {
        self.begun < LONG_QUERIES_MAX && self.waiting.has_next(conns)
    }
}

impl<T> Default for LongLines<T> {
    fn default() -> Self {
        Self {
            looks: LongLine::default(),
            changes: LongLine::default(),
        }
    }
}

impl<T> LongLines<T> {
    fn all(&self) -> [&LongLine<T>; 2] {
        [&self.looks, &self.changes]
    }

    fn all_mut(&mut self) -> [&mut LongLine<T>; 2] {
        [&mut self.looks, &mut self.changes]
    }

    fn of(&mut self, kind: LongKind) -> &mut LongLine<T> {
        match kind {
            LongKind::Looks => &mut self.looks,
            LongKind::Changes => &mut self.changes,
        }
    }

    /// Adds a request.
    pub fn push(&mut self, to: ReplyTo, kind: LongKind, waiting: T) {
        self.of(kind).waiting.push(to, waiting);
    }

    /// See [`LongRequests::moved`].
    pub fn moved(&mut self, conn: ConnId) {
        for line in self.all_mut() {
            line.waiting.moved(conn);
        }
    }

    /// The next one of each kind that may begin now; see [`LongRequests::next`].
    pub fn next(&mut self, conns: &mut Conns) -> impl Iterator<Item = T> + use<T> {
        let next = self.all_mut().map(|line| match line.has_next(conns) {
            true => line.waiting.next(conns),
            false => None,
        });
        next.into_iter().flatten()
    }

    /// Whether one may be able to begin now.
    pub fn has_next(&self, conns: &Conns) -> bool {
        self.all().iter().any(|line| line.has_next(conns))
    }

    /// One has begun.
    pub fn begun(&mut self, kind: LongKind) {
        self.of(kind).begun += 1;
    }

    /// One that had begun is answered, or nobody waits for it any more.
    pub fn ended(&mut self, kind: LongKind) {
        self.of(kind).begun -= 1;
    }

    /// Takes one that will not begin.
    pub fn take_any(&mut self) -> Option<T> {
        let taken = self.looks.waiting.take_any();
        taken.or_else(|| self.changes.waiting.take_any())
    }

    /// The requests of a connection are not answered any more.
    pub fn forget(&mut self, conn: ConnId) {
        for line in self.all_mut() {
            line.waiting.forget(conn);
        }
    }

    /// Whether none waits to begin.
    pub fn is_empty(&self) -> bool {
        self.all().iter().all(|line| line.waiting.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::limits::LONG_REPLIES_BYTES_MAX;
    use crate::broker::front::conns::ConnPurpose;
    use crate::broker::front::order::Footprint;
    use crate::broker::trace::{Trace, Tracer};
    use crate::store::Piece;

    fn conns(of: impl IntoIterator<Item = u64>) -> Conns {
        let mut conns = Conns::default();
        for conn in of {
            conns.open(
                ConnId(conn),
                ([127, 0, 0, 1], 1).into(),
                0,
                ConnPurpose::Any,
            );
        }
        conns
    }

    fn take(conns: &mut Conns, conn: u64) -> ReplyTo {
        let trace = Trace::new(3, 100, Default::default());
        let to = conns.expect_reply(ConnId(conn), trace, b"me", Footprint::default());
        let to = to.unwrap();
        assert!(conns.may_begin(to));
        to
    }

    fn long(bytes: usize) -> Vec<Piece> {
        vec![Piece::Memory(vec![0; bytes].into())]
    }

    #[test]
    fn those_of_a_connection_come_in_its_order_whatever_order_they_were_added_in() {
        let mut conns = conns(1..3);
        let mut line = LongRequests::default();
        let places = [1, 1, 2].map(|conn| take(&mut conns, conn));
        for at in [1, 2, 0] {
            line.push(places[at], at);
        }
        assert_eq!(line.next(&mut conns), Some(0));
        assert_eq!(line.next(&mut conns), Some(2));
        assert_eq!(line.next(&mut conns), None, "the first is not answered");
        let mut out = Vec::new();
        conns.reply_long(places[0], long(10), &mut out);
        assert_eq!(conns.take_moved(), [ConnId(1)]);
        line.moved(ConnId(1));
        assert_eq!(line.next(&mut conns), None, "it has not left");
        assert!(conns.sent(ConnId(1), 1, &mut Tracer::new(Arc::default())));
        assert_eq!(conns.take_moved(), [ConnId(1)]);
        line.moved(ConnId(1));
        assert_eq!((line.next(&mut conns), line.len()), (Some(1), 0));
        conns.invariants();
    }

    #[test]
    fn none_begins_while_too_much_waits_to_be_sent() {
        let mut conns = conns(0..4);
        let (mut line, mut out) = (LongRequests::default(), Vec::new());
        for conn in 0..2 {
            let to = take(&mut conns, conn);
            conns.reply_long(to, long(LONG_REPLIES_BYTES_MAX / 2), &mut out);
        }
        let to = take(&mut conns, 2);
        line.push(to, ());
        assert!(!line.has_next(&conns));
        assert_eq!(line.next(&mut conns), None);
        conns.closed(ConnId(1));
        assert_eq!(line.next(&mut conns), Some(()));
        assert_eq!((line.take_any(), line.is_empty()), (None, true));
        conns.invariants();
    }
}
