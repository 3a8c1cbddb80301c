//! A node's client connections: they keep the order of frames in each direction
//! and can be cut at any moment.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use bytes::Bytes;

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

/// A frame that shows whether somebody has it, or a part of it.
struct Watched {
    frame: Bytes,
    _had: Arc<()>,
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

/// The same bytes, and what is alive as long as somebody has some of them.
pub fn watched(frame: Bytes) -> (Bytes, Weak<()>) {
    let had = Arc::new(());
    let alive = Arc::downgrade(&had);
    (Bytes::from_owner(Watched { frame, _had: had }), alive)
}

/// A request that has not been answered.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Its correlation id.
    pub correlation: i32,
    /// Its API key.
    pub key: i16,
    /// Whether the answer has any bytes (`acks=0` has none).
    pub answered: bool,
    /// When it reached the shard, ns.
    pub since: u64,
    /// Alive as long as the node has bytes of it.
    pub had: Weak<()>,
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
    /// Requests that were answered, or are not to be, as their connection is gone, and since when.
    over: VecDeque<(u64, Expected)>,
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

    /// The shard knows, at a time, that it is gone.
    pub fn remove(&mut self, conn: ConnId, now: u64) -> Option<Conn> {
        let mut conn = self.conns.remove(&conn)?;
        let unanswered = conn.expected.drain(..).map(|expected| (now, expected));
        self.over.extend(unanswered);
        Some(conn)
    }

    /// A request was answered at a time.
    pub fn answered(&mut self, expected: Expected, now: u64) {
        self.over.push_back((now, expected));
    }

    /// A request that was over before a time and of which the node still has bytes.
    pub fn kept(&mut self, before: u64) -> Option<Expected> {
        while self.over.front().is_some_and(|(since, _)| *since < before) {
            let (_, expected) = self.over.pop_front()?;
            if expected.had.strong_count() > 0 {
                return Some(expected);
            }
        }
        None
    }

    /// One of those that have not ended, and its client.
    pub fn any(&self, rng: &mut Rng) -> Option<(ConnId, usize)> {
        let open = self.conns.iter().filter(|(_, conn)| !conn.ended);
        let open: Vec<(ConnId, usize)> = open.map(|(id, conn)| (*id, conn.client)).collect();
        open.get(rng.below(open.len() as u64) as usize).copied()
    }

    /// All connections end; returns those that had not before.
    pub fn end_all(&mut self) -> Vec<(ConnId, usize)> {
        self.over.clear();
        std::mem::take(&mut self.conns)
            .into_iter()
            .filter(|(_, conn)| !conn.ended)
            .map(|(id, conn)| (id, conn.client))
            .collect()
    }

    /// The request that has waited longest for its answer.
    #[must_use]
    pub fn longest_waiting(&self) -> Option<(ConnId, Expected)> {
        let first = |(id, conn): (&ConnId, &Conn)| Some((*id, conn.expected.front()?.clone()));
        let waiting = self.conns.iter().filter_map(first);
        waiting.min_by_key(|(_, expected)| expected.since)
    }
}
