//! The simulated network: connections that keep the order of frames in each
//! direction and can be cut at any moment.

use std::collections::{BTreeMap, VecDeque};

use crate::broker::ConnId;

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
    /// The client has left or was cut off: it gets nothing any more.
    pub client_gone: bool,
    /// What is still on the way to the shard is lost.
    pub requests_lost: bool,
    /// When the last frame in each direction arrives: nothing overtakes it.
    to_shard: u64,
    to_client: u64,
}

/// All connections of the node.
#[derive(Debug, Default)]
pub struct Net {
    conns: BTreeMap<ConnId, Conn>,
    opened: u64,
}

impl Net {
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
                client_gone: false,
                requests_lost: false,
                to_shard: 0,
                to_client: 0,
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

    /// The n-th of the connections whose client is there, counted round.
    pub fn nth(&self, n: u64) -> Option<ConnId> {
        let open: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| !conn.client_gone)
            .map(|(id, _)| *id)
            .collect();
        Some(open[n.checked_rem(open.len() as u64)? as usize])
    }

    /// All connections end; returns those whose client is there.
    pub fn end_all(&mut self) -> Vec<(ConnId, usize)> {
        std::mem::take(&mut self.conns)
            .into_iter()
            .filter(|(_, conn)| !conn.client_gone)
            .map(|(id, conn)| (id, conn.client))
            .collect()
    }

    /// The request that has waited longest for its answer.
    pub fn longest_waiting(&self) -> Option<(ConnId, Expected)> {
        let first = |(id, conn): (&ConnId, &Conn)| Some((*id, *conn.expected.front()?));
        let waiting = self.conns.iter().filter_map(first);
        waiting.min_by_key(|(_, expected)| expected.since)
    }
}

impl Conn {
    /// When a frame that would arrive at `at` reaches the shard.
    pub fn shard_gets_at(&mut self, at: u64) -> u64 {
        self.to_shard = at.max(self.to_shard + 1);
        self.to_shard
    }

    /// When a frame that would arrive at `at` reaches the client.
    pub fn client_gets_at(&mut self, at: u64) -> u64 {
        self.to_client = at.max(self.to_client + 1);
        self.to_client
    }
}
