//! The connections of a shard: who they are, and replies in the order of the
//! requests, whatever order they become ready in.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::{ConnId, Output};
use crate::base::IdMap;
use crate::store::Piece;

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
    /// Number of the request at the front of `replies`.
    first: u64,
    /// One slot for each request not yet answered on the socket.
    replies: VecDeque<Option<Vec<Piece>>>,
    closing: bool,
}

/// All connections of a shard. Bounded by `max.connections` and, per connection, by
/// `limits::CONN_IN_FLIGHT_MAX`, both enforced by the driver before a request gets here.
#[derive(Debug, Default)]
pub struct Conns {
    conns: IdMap<u64, Conn>,
}

impl Conns {
    /// A connection was accepted.
    pub fn open(&mut self, conn: ConnId, peer: SocketAddr, listener: usize) {
        self.conns.insert(
            conn.0,
            Conn {
                peer,
                listener,
                first: 0,
                replies: VecDeque::new(),
                closing: false,
            },
        );
    }

    /// A connection is gone; later replies to it are dropped.
    pub fn closed(&mut self, conn: ConnId) {
        self.conns.remove(&conn.0);
    }

    /// The connection, unless it is gone or being closed.
    #[must_use]
    pub fn get(&self, conn: ConnId) -> Option<&Conn> {
        self.conns.get(&conn.0).filter(|c| !c.closing)
    }

    /// Takes a request: reserves the place of its reply.
    pub fn expect_reply(&mut self, conn: ConnId) -> Option<ReplyTo> {
        let entry = self.conns.get_mut(&conn.0).filter(|c| !c.closing)?;
        entry.replies.push_back(None);
        Some(ReplyTo {
            conn,
            seq: entry.first + entry.replies.len() as u64 - 1,
        })
    }

    /// Answers a request; what is now first in line goes out.
    pub fn reply(&mut self, to: ReplyTo, pieces: Vec<Piece>, out: &mut Vec<Output>) {
        let Some(entry) = self.conns.get_mut(&to.conn.0) else {
            return;
        };
        let index = (to.seq - entry.first) as usize;
        debug_assert!(entry.replies[index].is_none(), "answered twice");
        entry.replies[index] = Some(pieces);
        while let Some(Some(_)) = entry.replies.front() {
            let pieces = entry.replies.pop_front().flatten().unwrap_or_default();
            entry.first += 1;
            out.push(Output::Reply {
                conn: to.conn,
                pieces,
            });
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

    use super::*;

    fn body(text: &'static str) -> Vec<Piece> {
        vec![Piece::Memory(Bytes::from_static(text.as_bytes()))]
    }

    #[test]
    fn replies_leave_in_the_order_of_the_requests() {
        let mut conns = Conns::default();
        let conn = ConnId(7);
        conns.open(conn, "127.0.0.1:1".parse().unwrap(), 0);
        let first = conns.expect_reply(conn).unwrap();
        let second = conns.expect_reply(conn).unwrap();
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
        conns.open(conn, "127.0.0.1:1".parse().unwrap(), 0);
        let to = conns.expect_reply(conn).unwrap();
        let mut out = Vec::new();
        conns.close(conn, "test".into(), &mut out);
        conns.close(conn, "test".into(), &mut out);
        assert_eq!(out.len(), 1, "closed once");
        assert!(conns.expect_reply(conn).is_none());
        conns.closed(conn);
        conns.reply(to, body("late"), &mut out);
        assert_eq!(out.len(), 1);
    }
}
