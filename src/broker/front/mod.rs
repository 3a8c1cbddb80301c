//! The front of a shard: the client requests in progress on its connections,
//! and the image by which they are routed to the shards that own the data.

pub mod conns;
pub mod leaders;
pub mod long;
pub mod order;
pub mod parked;
pub mod slots;

use std::sync::Arc;

use bytes::Bytes;

use conns::{Conns, ReplyTo};
use parked::{Family, Parked};

use crate::base::limits::TOPIC_NAME_BYTES_MAX;
use crate::base::{ErrorCode, LeaderEpoch, LogId, Mono, Rng, ShardId, StoreId};
use crate::broker::admin::Brokers;
use crate::broker::fx::Fx;
use crate::broker::io::ConnId;
use crate::broker::trace::{Board, Tracer};
use crate::config::BrokerConfig;
use crate::controller::{Image, Partition, Topic};
use crate::store::Piece;
use crate::wire::{StrBytes, TopicRef, WireError};

/// See the module.
#[derive(Debug)]
pub struct Front {
    pub config: Arc<BrokerConfig>,
    pub conns: Conns,
    pub image: Arc<Image>,
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
    /// Those of its requests that wait for something.
    pub parked: Parked,
    /// The shard is to stop: no fetch waits any more.
    pub draining: bool,
}

impl Front {
    pub fn new(
        config: Arc<BrokerConfig>,
        owners: Vec<ShardId>,
        shards: u16,
        seed: u64,
        board: Arc<Board>,
    ) -> Self {
        Self {
            brokers: Brokers::new(&config, shards, &owners),
            config,
            conns: Conns::default(),
            image: Arc::default(),
            rng: Rng::new(seed),
            owners,
            shards,
            tracer: Tracer::new(board),
            started_ms: 0,
            parked: Parked::default(),
            draining: false,
        }
    }

    /// Replies of a connection have left. Returns whether a long one was among them.
    pub fn sent(&mut self, conn: ConnId, replies: usize) -> bool {
        self.conns.sent(conn, replies, &mut self.tracer)
    }

    /// Notes that a request waits until it can be answered, or its connection is gone; returns its number.
    pub fn park(&mut self, to: ReplyTo, family: Family) -> u64 {
        let id = self.parked.park(family);
        self.conns.parked(to, id);
        id
    }

    /// A connection is gone; returns which of its requests waited, and who has them.
    pub fn conn_closed(&mut self, conn: ConnId) -> Vec<(u64, Family)> {
        let ids = self.conns.closed(conn).into_iter();
        ids.filter_map(|id| Some((id, self.parked.unpark(id)?)))
            .collect()
    }

    /// The next request that waits no longer, because its time is up or the shard is to stop.
    pub fn due(&mut self, now: Mono) -> Option<(u64, Family)> {
        self.parked.due(now, self.draining)
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

    /// The store of this node that has the log of a partition, if this node leads it.
    pub fn led(&self, partition: &Partition) -> Result<StoreId, ErrorCode> {
        let store = partition
            .store
            .filter(|_| partition.leader == self.config.node());
        store.ok_or(ErrorCode::NotLeaderOrFollower)
    }

    /// The log of a partition that this node leads, named in a request, and the shard that has it.
    pub fn led_log(&self, topic: &StrBytes, index: i32) -> Result<(ShardId, LogId), ErrorCode> {
        let topic = self.topic(&TopicRef::Name(topic.clone()))?;
        let partition = partition_of(topic, index)?;
        let store = self.led(partition)?;
        Ok((self.owner_of(store), partition.log))
    }

    /// The topic that a request means.
    pub fn topic(&self, topic: &TopicRef) -> Result<&Arc<Topic>, ErrorCode> {
        match topic {
            TopicRef::Name(name) => Some(name)
                .filter(|name| name.len() <= TOPIC_NAME_BYTES_MAX)
                .and_then(|name| self.image.topic(name))
                .ok_or(ErrorCode::UnknownTopicOrPartition),
            TopicRef::Id(id) => self.image.topic_by_id(*id).ok_or(ErrorCode::UnknownTopicId),
        }
    }
}

/// A partition of a topic that a request means.
pub fn partition_of(topic: &Topic, index: i32) -> Result<&Partition, ErrorCode> {
    let partition = topic.partition(index);
    partition.ok_or(ErrorCode::UnknownTopicOrPartition)
}

/// What the head of a response needs of the request's.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub correlation_id: i32,
    pub version: i16,
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
