//! A node's client connections: they keep the order of frames in each direction
//! and can be cut at any moment.

use std::collections::{BTreeMap, VecDeque};

use super::net::Stream;
use crate::base::Rng;
use crate::broker::ConnId;

/// A connection of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The node.
    pub node: usize,
    /// Which of its connections.
    pub conn: ConnId,
}

/// A request that has not been answered.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Its correlation id.
    pub correlation: i32,
    /// Its API key.
    pub key: i16,
    /// Whether the answer has any bytes (`acks=0` has none).
    pub answered: bool,
    /// When it reached the shard, ns.
    pub since: u64,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    /// Whose it is.
    pub client: usize,
    /// The shard that accepted it.
    pub shard: usize,
    /// Requests on their way to the shard, whether each is to be answered.
    pub on_the_way: VecDeque<bool>,
    /// Requests that the shard has not answered.
    pub expected: VecDeque<Expected>,
    /// It has ended, and is on its way out of the shard too: the client gets nothing from it any more.
    pub ended: bool,
    /// What is still on the way to the shard is lost.
    pub requests_lost: bool,
    /// Frames to the shard.
    pub to_shard: Stream,
    /// Frames to the client.
    pub to_client: Stream,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Conns {
    conns: BTreeMap<ConnId, Conn>,
    opened: u64,
}

impl Conns {
    /// A new connection.
    pub fn open(&mut self, client: usize, shard: usize) -> ConnId {
        self.opened += 1;
        let id = ConnId(self.opened);
        self.conns.insert(
            id,
            Conn {
                client,
                shard,
                on_the_way: VecDeque::new(),
                expected: VecDeque::new(),
                ended: false,
                requests_lost: false,
                to_shard: Stream::default(),
                to_client: Stream::default(),
            },
        );
        id
    }

    /// The connection, unless the shard knows that it is gone.
    pub fn get(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(&conn)
    }

    /// The shard knows that it is gone.
    pub fn remove(&mut self, conn: ConnId) -> Option<Conn> {
        self.conns.remove(&conn)
    }

    /// One of those that have not ended, and its client.
    pub fn any(&self, rng: &mut Rng) -> Option<(ConnId, usize)> {
        let open = self.conns.iter().filter(|(_, conn)| !conn.ended);
        let open: Vec<(ConnId, usize)> = open.map(|(id, conn)| (*id, conn.client)).collect();
        open.get(rng.below(open.len() as u64) as usize).copied()
    }

    /// All connections end; returns those that had not before.
    pub fn end_all(&mut self) -> Vec<(ConnId, usize)> {
        std::mem::take(&mut self.conns)
            .into_iter()
            .filter(|(_, conn)| !conn.ended)
            .map(|(id, conn)| (id, conn.client))
            .collect()
    }

    /// The request that has waited longest for its answer.
    #[must_use]
    pub fn longest_waiting(&self) -> Option<(ConnId, Expected)> {
        let first = |(id, conn): (&ConnId, &Conn)| Some((*id, *conn.expected.front()?));
        let waiting = self.conns.iter().filter_map(first);
        waiting.min_by_key(|(_, expected)| expected.since)
    }
}
