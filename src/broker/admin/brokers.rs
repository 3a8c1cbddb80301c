//! The brokers that clients are shown. Inside, a partition is on a node and one of its shards. Outside,
//! it is led by a broker: the node, or, with direct ports, the shard that owns it, under an id and a
//! port of its own, so that an unmodified client talks to the very core that has the data. This is the
//! only place that knows which of the two it is; every shard serves every request in either case.

use kafka_wire_core::StrBytes;

use crate::base::{NodeId, ShardId, StoreId};
use crate::config::BrokerConfig;
use crate::controller::Partition;

/// See the module.
#[derive(Clone, Debug)]
pub struct Brokers {
    node: NodeId,
    direct: bool,
    shards: u16,
    /// The shard that owns each store of this node.
    owners: Vec<ShardId>,
}

/// One broker as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Its id.
    pub id: i32,
    /// Host to connect to.
    pub host: StrBytes,
    /// Port to connect to.
    pub port: i32,
}

impl Brokers {
    /// Of a node with so many shards and these owners of its stores.
    #[must_use]
    pub fn new(config: &BrokerConfig, shards: u16, owners: &[ShardId]) -> Self {
        Self {
            node: config.node(),
            direct: config.is_direct(),
            shards,
            owners: owners.to_vec(),
        }
    }

    /// Everybody, for clients of a listener.
    pub fn all(&self, config: &BrokerConfig, listener: usize) -> Vec<Announced> {
        let shards = if self.direct { self.shards } else { 1 };
        (0..shards)
            .map(|shard| self.announced(config, listener, ShardId(shard)))
            .collect()
    }

    /// The one that changes metadata: where the control shard is.
    #[must_use]
    pub fn controller(&self) -> i32 {
        self.id(self.node, ShardId(0))
    }

    /// The one of this node that has a partition, and how to reach it.
    #[must_use]
    pub fn leader(
        &self,
        config: &BrokerConfig,
        listener: usize,
        partition: &Partition,
    ) -> Announced {
        self.announced(config, listener, self.owner(partition))
    }

    fn owner(&self, partition: &Partition) -> ShardId {
        let store = partition.store.map(|store| usize::from(store.0));
        let owner = store.and_then(|store| self.owners.get(store));
        owner.copied().unwrap_or_default()
    }

    fn announced(&self, config: &BrokerConfig, listener: usize, shard: ShardId) -> Announced {
        let (host, port) = if self.direct {
            config.advertised_direct(listener, shard)
        } else {
            config.advertised(listener)
        };
        Announced {
            id: self.id(self.node, shard),
            host: host.into(),
            port: port.into(),
        }
    }

    fn id(&self, node: NodeId, shard: ShardId) -> i32 {
        if self.direct {
            node.direct(shard)
        } else {
            node.0
        }
    }

    /// The broker of a replica, by the shard that owns the partition; -1 is nobody.
    #[must_use]
    pub fn of(&self, partition: &Partition, node: NodeId) -> i32 {
        if node.0 < 0 {
            return node.0;
        }
        self.id(node, self.owner(partition))
    }

    /// The brokers of replicas.
    #[must_use]
    pub fn of_all(&self, partition: &Partition, nodes: &[NodeId]) -> Vec<i32> {
        nodes.iter().map(|node| self.of(partition, *node)).collect()
    }

    /// Whether an id that a client sent means this node. The node's own id does in both modes, so
    /// that what an operator has written down stays right.
    #[must_use]
    pub fn is_here(&self, id: i32) -> bool {
        id == self.node.0 || self.shard(id).is_some()
    }

    /// Which node a client means by an id, and which store of it, if it says so.
    #[must_use]
    pub fn place(&self, id: i32) -> (NodeId, Option<StoreId>) {
        let Some(shard) = self.shard(id) else {
            return (NodeId(id), None);
        };
        // Each shard has a store of its own number, besides those it may have inherited.
        (self.node, Some(StoreId(shard.0)))
    }

    /// The same for the replicas of one partition: their nodes, and the store of the first one.
    #[must_use]
    pub fn places(&self, ids: &[i32]) -> (Vec<NodeId>, Option<StoreId>) {
        let nodes = ids.iter().map(|id| self.place(*id).0).collect();
        (nodes, ids.first().and_then(|id| self.place(*id).1))
    }

    /// The shard of this node that is announced under this id.
    fn shard(&self, id: i32) -> Option<ShardId> {
        let shards = (0..self.shards).map(ShardId);
        shards
            .filter(|_| self.direct)
            .find(|shard| self.node.direct(*shard) == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DirectoryId, LeaderEpoch, LogId};

    fn brokers(direct: bool) -> (Brokers, BrokerConfig) {
        let mut config = BrokerConfig::default();
        config
            .set("listeners", "A://127.0.0.1:9092,B://:9192")
            .unwrap();
        config.set("node.id", "3").unwrap();
        if direct {
            config.set("millrace.direct.ports", "1").unwrap();
        }
        let owners = [0, 1, 0].map(ShardId);
        (Brokers::new(&config, 2, &owners), config)
    }

    fn partition(store: u16) -> Partition {
        Partition {
            store: Some(StoreId(store)),
            directories: [DirectoryId::default()].into(),
            leader: NodeId(3),
            replicas: [NodeId(3)].into(),
            log: LogId(1),
            isr: [NodeId(3)].into(),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
        }
    }

    fn shown(all: &[Announced]) -> Vec<(i32, &str, i32)> {
        all.iter()
            .map(|one| (one.id, one.host.as_str(), one.port))
            .collect()
    }

    #[test]
    fn without_direct_ports_there_is_one_broker() {
        let (brokers, config) = brokers(false);
        assert_eq!(shown(&brokers.all(&config, 0)), [(3, "127.0.0.1", 9092)]);
        assert_eq!(brokers.controller(), 3);
        assert_eq!(brokers.of(&partition(1), NodeId(3)), 3);
        assert!(brokers.is_here(3) && !brokers.is_here(30_000));
        assert_eq!(brokers.place(3), (NodeId(3), None));
    }

    #[test]
    fn with_direct_ports_each_shard_is_one() {
        let (brokers, config) = brokers(true);
        let all = brokers.all(&config, 0);
        let want = [(30_000, "127.0.0.1", 9093), (30_001, "127.0.0.1", 9094)];
        assert_eq!(shown(&all), want);
        let all = brokers.all(&config, 1);
        let want = [(30_000, "localhost", 9193), (30_001, "localhost", 9194)];
        assert_eq!(shown(&all), want);
        assert_eq!(brokers.controller(), 30_000);
        assert_eq!(brokers.leader(&config, 1, &partition(1)), all[1]);
        let of = |store| brokers.of(&partition(store), NodeId(3));
        assert_eq!([of(0), of(1), of(2)], [30_000, 30_001, 30_000]);
        assert_eq!(brokers.of(&partition(0), NodeId(-1)), -1);
        assert_eq!(brokers.of_all(&partition(1), &[NodeId(3)]), [30_001]);
    }

    #[test]
    fn clients_may_name_a_shard_or_the_node() {
        let (brokers, _) = brokers(true);
        for here in [3, 30_000, 30_001] {
            assert!(brokers.is_here(here), "{here}");
        }
        for elsewhere in [-1, 0, 4, 30_002, 40_000] {
            assert!(!brokers.is_here(elsewhere), "{elsewhere}");
            assert_eq!(brokers.place(elsewhere), (NodeId(elsewhere), None));
        }
        assert_eq!(brokers.place(30_001), (NodeId(3), Some(StoreId(1))));
        assert_eq!(brokers.place(3), (NodeId(3), None));
    }
}
