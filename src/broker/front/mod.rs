//! The front of a shard: the client requests in progress on its connections,
//! and the image by which they are routed to the shards that own the data.

pub mod conns;
pub mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{ErrorCode, IdMap, LeaderEpoch, Mono, Rng, ShardId, StoreId};
use crate::broker::admin::Brokers;
use crate::broker::control::PendingControl;
use crate::broker::data::fetch::front::PendingFetch;
use crate::broker::data::fetch::session::Sessions;
use crate::broker::data::produce::front::PendingProduce;
use crate::broker::data::produce::validation::Validations;
use crate::broker::data::query::front::PendingQuery;
use crate::broker::explain::PendingExplain;
use crate::broker::fx::Fx;
use crate::broker::io::ConnId;
use crate::broker::msg::Msg;
use crate::broker::trace::Tracer;
use crate::config::BrokerConfig;
use crate::controller::{Image, Partition, Topic};
use crate::store::Piece;
use crate::wire::{TopicRef, WireError};
use conns::{Conns, ReplyTo};

/// A request that waits for something.
#[derive(Debug)]
pub enum Pending {
    Produce(PendingProduce),
    Fetch(PendingFetch),
    Query(PendingQuery),
    Control(PendingControl),
    Explain(PendingExplain),
}

/// See the module.
#[derive(Debug)]
pub struct Front {
    pub config: Arc<BrokerConfig>,
    pub conns: Conns,
    pub image: Arc<Image>,
    pub sessions: Sessions,
    /// Produce requests that are still being checked.
    pub validations: Validations,
    pub rng: Rng,
    /// The shard that owns each store of this node.
    pub owners: Vec<ShardId>,
    /// How many shards this node has.
    pub shards: u16,
    /// The brokers as clients see them.
    pub brokers: Brokers,
    /// Where the time of its requests went.
    pub tracer: Tracer,
    /// When it was started, by the wall clock, in ms.
    pub started_ms: i64,
    pending: IdMap<u64, Pending>,
    started: u64,
    /// When parked fetches must be answered, whatever there is.
    pub deadlines: BTreeSet<(Mono, u64)>,
    /// The shard is to stop: no fetch waits any more.
    pub draining: bool,
}

impl Front {
    pub fn new(config: Arc<BrokerConfig>, owners: Vec<ShardId>, shards: u16, seed: u64) -> Self {
        let sessions = Sessions::new(config.max_incremental_fetch_session_cache_slots as usize);
        Self {
            brokers: Brokers::new(&config, shards, &owners),
            config,
            conns: Conns::default(),
            image: Arc::default(),
            sessions,
            validations: Validations::default(),
            rng: Rng::new(seed),
            owners,
            shards,
            tracer: Tracer::new(),
            started_ms: 0,
            pending: IdMap::default(),
            started: 0,
            deadlines: BTreeSet::new(),
            draining: false,
        }
    }

    /// Replies of a connection have left.
    pub fn sent(&mut self, conn: ConnId, replies: usize) {
        self.conns.sent(conn, replies, &mut self.tracer);
    }

    /// Keeps a request until it can be answered, or its connection is gone; returns its number.
    pub fn park(&mut self, to: ReplyTo, pending: Pending) -> u64 {
        self.started += 1;
        self.pending.insert(self.started, pending);
        self.conns.parked(to, self.started);
        self.started
    }

    /// A connection is gone: whatever waits for an answer to it is forgotten, here and at the owners.
    pub fn conn_closed(&mut self, conn: ConnId, fx: &mut Fx<'_>) {
        self.validations.closed(conn);
        let mut queries: BTreeMap<ShardId, Vec<u64>> = BTreeMap::new();
        for id in self.conns.closed(conn) {
            match self.unpark(id) {
                Some(Pending::Fetch(fetch)) => self.fetch_abandoned(id, &fetch, fx),
                Some(Pending::Query(query)) => {
                    for owner in query.owners_to_tell() {
                        queries.entry(*owner).or_default().push(id);
                    }
                }
                _ => {}
            }
        }
        for (owner, mut ids) in queries {
            ids.sort_unstable();
            fx.send(owner, Msg::QueryCancel { shard: fx.me, ids });
        }
    }

    /// The request of that number, if it is still waiting.
    pub fn pending_mut(&mut self, id: u64) -> Option<&mut Pending> {
        self.pending.get_mut(&id)
    }

    /// How many requests are waiting.
    #[cfg(test)]
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The same, to look at.
    pub fn pending_ref(&self, id: u64) -> Option<&Pending> {
        self.pending.get(&id)
    }

    /// Takes the request of that number out.
    pub fn unpark(&mut self, id: u64) -> Option<Pending> {
        self.pending.remove(&id)
    }

    /// Sends a response, or closes the connection if it cannot be written (a text of the client's own that
    /// the version has no room for).
    pub fn reply_or_close(
        &mut self,
        to: ReplyTo,
        frame: Result<Bytes, WireError>,
        fx: &mut Fx<'_>,
    ) {
        match frame {
            Ok(frame) => self.conns.reply(to, vec![Piece::Memory(frame)], fx.out),
            Err(error) => self.conns.fail(to, error.to_string(), fx.out),
        }
    }

    /// The shard that owns a store of this node.
    pub fn owner_of(&self, store: StoreId) -> ShardId {
        self.owners
            .get(usize::from(store.0))
            .copied()
            .unwrap_or_default()
    }

    /// The topic that a request means.
    pub fn topic(&self, topic: &TopicRef) -> Result<&Arc<Topic>, ErrorCode> {
        match topic {
            TopicRef::Name(name) => self
                .image
                .topic(name)
                .ok_or(ErrorCode::UnknownTopicOrPartition),
            TopicRef::Id(id) => self.image.topic_by_id(*id).ok_or(ErrorCode::UnknownTopicId),
        }
    }

    /// The partition that a request means.
    pub fn partition(
        &self,
        topic: &TopicRef,
        index: i32,
    ) -> Result<(&Arc<Topic>, &Partition), ErrorCode> {
        let topic = self.topic(topic)?;
        let partition = topic
            .partition(index)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        Ok((topic, partition))
    }
}

/// The store of this node that has a partition.
pub fn here(partition: &Partition) -> Result<StoreId, ErrorCode> {
    partition.store.ok_or(ErrorCode::NotLeaderOrFollower)
}

/// Checks the leader epoch that a client believes in (KIP-320); -1 is no belief.
pub fn check_epoch(believed: i32, current: LeaderEpoch) -> Result<(), ErrorCode> {
    match believed {
        ..0 => Ok(()),
        older if older < current.0 => Err(ErrorCode::FencedLeaderEpoch),
        newer if newer > current.0 => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}
