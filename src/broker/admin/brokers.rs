//! The brokers that clients are shown. Inside, a partition is on a node and one of its shards. Outside,
//! it is led by a broker: the node, or, with direct ports, the shard that owns it, under an id and a
//! port of its own, so that an unmodified client talks to the very core that has the data. This is the
//! only place that knows which of the two it is; every shard serves every request in either case.

use std::collections::BTreeMap;

use kafka_wire_core::StrBytes;

use crate::base::limits::{LOST_SHOWN_MS, SILENT_SHOWN_MS};
use crate::base::{Mono, NodeId, ShardId, StoreId};
use crate::config::BrokerConfig;
use crate::controller::{BrokerAddress, Image, Partition, Registration};

/// See the module.
#[derive(Clone, Debug)]
pub struct Brokers {
    node: NodeId,
    direct: bool,
    shards: u16,
    /// The shard that owns each store of this node.
    owners: Vec<ShardId>,
    /// Nodes that are thought to be gone, though the metadata may not know yet, and whether for their silence alone.
    lost: Vec<(NodeId, bool)>,
    /// Nodes that were live once, and of those that are lost or fenced what is known of that.
    away: BTreeMap<NodeId, Option<Absence>>,
}

/// Of a node that is lost or fenced, and not live in between.
#[derive(Clone, Copy, Debug)]
struct Absence {
    /// Since when: if it is fenced, since that.
    since: Mono,
    is_fenced: bool,
    /// A connection to it was reset, as those of its clients were.
    was_reset: bool,
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
    /// Where it stands, if it says so.
    pub rack: Option<StrBytes>,
    /// Whether it may neither lead nor be in sync for now.
    pub is_fenced: bool,
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
            lost: Vec::new(),
            away: BTreeMap::new(),
        }
    }

    /// These nodes are thought to be gone, and no others, some of them for their silence alone. Until the metadata says
    /// who leads what they led nobody does, for clients: one that is told of a leader which it cannot reach may not
    /// ask again for seconds, and one that is told of none does so at once (librdkafka).
    pub fn lose(&mut self, nodes: Vec<(NodeId, bool)>, image: &Image, now: Mono) {
        self.lost = nodes;
        self.look(image, now);
    }

    /// Takes note of who is away, by this image, which is new, or by what is thought of nodes.
    ///
    /// Who is fenced in the first image there is may have been live a moment ago, if there are topics: then the cluster
    /// is not one that is just made.
    pub fn look(&mut self, image: &Image, now: Mono) {
        let is_first = self.away.is_empty() && image.topics().next().is_some();
        self.away
            .retain(|node, _| image.brokers.get(*node).is_some());
        for broker in image.brokers.iter() {
            let node = broker.member.node;
            let is_away = broker.fenced || self.is_lost(node);
            if is_first || !is_away || self.away.contains_key(&node) {
                let was_reset = self.lost.contains(&(node, false));
                let known = self.away.entry(node).or_default();
                let before = known.filter(|it| it.is_fenced || !broker.fenced);
                *known = is_away.then(|| Absence {
                    since: before.map_or(now, |it| it.since),
                    is_fenced: broker.fenced,
                    was_reset: was_reset || known.is_some_and(|it| it.was_reset),
                });
            }
        }
    }

    fn is_lost(&self, node: NodeId) -> bool {
        self.lost.iter().any(|(lost, _)| *lost == node)
    }

    /// Everybody who is not fenced, for clients of a listener: by its name where there are others. And this node, which
    /// answers: clients forget whom they are not told of, and of nobody there is no way back. (Kafka's brokers serve
    /// nobody before they are unfenced.)
    ///
    /// One that is away only since a moment ago is among them, be it fenced, or back and not unfenced yet: it takes a
    /// Kafka nine seconds to find that out, and librdkafka 2.16 waits for ever for a coordinator that it knows at a
    /// broker which it was not told of once. One that is only silent is so for a shorter time: librdkafka
    /// waits for the answers of a broker for as long as it is told of it, and for no longer.
    pub fn all(
        &self,
        image: &Image,
        config: &BrokerConfig,
        listener: usize,
        now: Mono,
    ) -> Vec<Announced> {
        let is_told =
            |broker: &Registration| !broker.fenced || self.was_there(broker.member.node, now);
        self.told(image, config, listener, is_told)
    }

    /// The same with all who are fenced.
    pub fn registered(
        &self,
        image: &Image,
        config: &BrokerConfig,
        listener: usize,
    ) -> Vec<Announced> {
        self.told(image, config, listener, |_| true)
    }

    fn told(
        &self,
        image: &Image,
        config: &BrokerConfig,
        listener: usize,
        is_told: impl Fn(&Registration) -> bool,
    ) -> Vec<Announced> {
        let mut all: Vec<Announced> = Vec::new();
        let shards = if self.direct { self.shards } else { 1 };
        let here = (0..shards).map(|shard| self.announced(image, config, listener, ShardId(shard)));
        all.extend(here);
        let others = image.brokers.iter();
        for broker in others.filter(|it| it.member.node != self.node && is_told(it)) {
            let address = address(broker, config, listener);
            all.extend(address.iter().flat_map(|address| {
                let count = if self.direct { address.shards.len() } else { 1 };
                let shards = (0..count as u16).map(ShardId);
                shards.map(|shard| self.elsewhere(broker, address, shard))
            }));
        }
        all
    }

    /// Whether a node that is fenced was live a moment ago.
    fn was_there(&self, node: NodeId, now: Mono) -> bool {
        let absence = self.away.get(&node).copied().flatten();
        absence.is_some_and(|absence| {
            let is_silent = self.lost.contains(&(node, true)) && !absence.was_reset;
            let shown_ms = match is_silent {
                true => SILENT_SHOWN_MS,
                false => LOST_SHOWN_MS,
            };
            now.ms_since(absence.since) < shown_ms
        })
    }

    /// Whether clients are shown a node. This one is before it has registered, too.
    fn is_shown(&self, image: &Image, node: NodeId) -> bool {
        match image.brokers.get(node) {
            Some(broker) => !broker.fenced,
            None => node == self.node,
        }
    }

    /// Those of a partition's replicas whose brokers clients are not shown.
    #[must_use]
    pub fn offline(&self, image: &Image, partition: &Partition) -> Vec<i32> {
        let replicas = partition.replicas.iter();
        let offline = replicas.filter(|node| !self.is_shown(image, **node));
        offline
            .map(|node| self.of(image, partition, *node))
            .collect()
    }

    /// The leader of a partition, if clients are shown it, else -1.
    #[must_use]
    pub fn shown_leader(&self, image: &Image, partition: &Partition) -> i32 {
        match !self.is_lost(partition.leader) && self.is_shown(image, partition.leader) {
            true => self.of(image, partition, partition.leader),
            false => -1,
        }
    }

    /// The one that changes metadata: where the control shard is.
    #[must_use]
    pub fn controller(&self) -> i32 {
        self.id(self.node, ShardId(0))
    }

    /// The one that leads a partition, and how to reach it; `None` if nobody does, or it cannot be reached by clients
    /// of this listener.
    #[must_use]
    pub fn leader(
        &self,
        image: &Image,
        config: &BrokerConfig,
        listener: usize,
        partition: &Partition,
    ) -> Option<Announced> {
        let node = partition.leader;
        if node == self.node {
            return Some(self.announced(image, config, listener, self.owner(partition)));
        }
        let known = image.brokers.get(node);
        let broker = known.filter(|broker| !broker.fenced && !self.is_lost(node))?;
        let address = address(broker, config, listener)?;
        Some(self.elsewhere(broker, address, owner_elsewhere(broker, partition)))
    }

    /// The shard of this node that has a partition.
    fn owner(&self, partition: &Partition) -> ShardId {
        let store = partition.store.map(|store| usize::from(store.0));
        let owner = store.and_then(|store| self.owners.get(store));
        owner.copied().unwrap_or_default()
    }

    /// A shard of another node.
    fn elsewhere(
        &self,
        broker: &Registration,
        address: &BrokerAddress,
        shard: ShardId,
    ) -> Announced {
        let direct = address.shards.get(usize::from(shard.0)).copied();
        let direct = direct.filter(|_| self.direct);
        Announced {
            id: self.id(broker.member.node, shard),
            host: address.host.as_str().into(),
            port: direct.unwrap_or(address.port).into(),
            rack: broker.rack.as_deref().map(StrBytes::from),
            is_fenced: broker.fenced,
        }
    }

    fn announced(
        &self,
        image: &Image,
        config: &BrokerConfig,
        listener: usize,
        shard: ShardId,
    ) -> Announced {
        let (host, port) = if self.direct {
            config.advertised_direct(listener, shard)
        } else {
            config.advertised(listener)
        };
        Announced {
            id: self.id(self.node, shard),
            host: host.into(),
            port: port.into(),
            rack: config.broker_rack.as_deref().map(StrBytes::from),
            is_fenced: (image.brokers.get(self.node)).is_some_and(|broker| broker.fenced),
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
    pub fn of(&self, image: &Image, partition: &Partition, node: NodeId) -> i32 {
        if node.0 < 0 || !self.direct {
            return node.0;
        }
        let shard = match image.brokers.get(node) {
            _ if node == self.node => self.owner(partition),
            Some(broker) => owner_elsewhere(broker, partition),
            None => ShardId::default(),
        };
        self.id(node, shard)
    }

    /// The brokers of replicas.
    #[must_use]
    pub fn of_all(&self, image: &Image, partition: &Partition, nodes: &[NodeId]) -> Vec<i32> {
        let of = |node: &NodeId| self.of(image, partition, *node);
        nodes.iter().map(of).collect()
    }

    /// Whether an id that a client sent means this node. The node's own id does in both modes, so
    /// that what an operator has written down stays right.
    #[must_use]
    pub fn is_here(&self, id: i32) -> bool {
        id == self.node.0 || self.shard(id).is_some()
    }

    /// Which node a client means by an id, and which store of it, if it says so.
    #[must_use]
    pub fn place(&self, image: &Image, id: i32) -> (NodeId, Option<StoreId>) {
        // Each shard has a store of its own number, besides those it may have inherited.
        if let Some(shard) = self.shard(id) {
            return (self.node, Some(StoreId(shard.0)));
        }
        let node = NodeId(id / NodeId::SHARD_IDS);
        // The shards of node 0 have the ids of small nodes: those that there are come first.
        let is_node = image.brokers.get(NodeId(id)).is_some();
        let known = image
            .brokers
            .get(node)
            .filter(|_| self.direct && id > 0 && !is_node);
        let shards = known.map_or(0, |broker| broker.directories.len());
        match usize::try_from(id % NodeId::SHARD_IDS) {
            Ok(shard) if shard < shards && node != self.node => (node, Some(StoreId(shard as u16))),
            _ => (NodeId(id), None),
        }
    }

    /// The same for the replicas of one partition: their nodes, and the store of the first one.
    #[must_use]
    pub fn places(&self, image: &Image, ids: &[i32]) -> (Vec<NodeId>, Option<StoreId>) {
        let nodes = ids.iter().map(|id| self.place(image, *id).0).collect();
        (nodes, ids.first().and_then(|id| self.place(image, *id).1))
    }

    /// The shard of this node that is announced under this id.
    fn shard(&self, id: i32) -> Option<ShardId> {
        let shards = (0..self.shards).map(ShardId);
        shards
            .filter(|_| self.direct)
            .find(|shard| self.node.direct(*shard) == id)
    }
}

/// Where clients of this broker's listener reach another one: at its listener of the same name.
fn address<'a>(
    broker: &'a Registration,
    config: &BrokerConfig,
    listener: usize,
) -> Option<&'a BrokerAddress> {
    let listeners = &config.listeners.0;
    let name = &listeners.get(listener).or(listeners.first())?.name;
    let mut addresses = broker.addresses.iter();
    addresses.find(|address| address.listener == *name)
}

/// The shard of another broker that has a partition.
fn owner_elsewhere(broker: &Registration, partition: &Partition) -> ShardId {
    let mut replicas = partition.replicas.iter().zip(partition.directories.iter());
    let placed = replicas.find(|(node, _)| **node == broker.member.node);
    let directory = placed.and_then(|(_, id)| broker.directories.iter().find(|it| it.id == *id));
    directory.map_or(ShardId::default(), |directory| directory.shard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DirectoryId, LeaderEpoch, LogId};
    use crate::controller::testing::broker;

    const NOW: Mono = Mono(7_000_000_000);

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
            elections: None,
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
        let alone = Image::default();
        assert_eq!(
            shown(&brokers.all(&alone, &config, 0, NOW)),
            [(3, "127.0.0.1", 9092)]
        );
        assert_eq!(brokers.controller(), 3);
        assert_eq!(brokers.of(&alone, &partition(1), NodeId(3)), 3);
        assert!(brokers.is_here(3) && !brokers.is_here(30_000));
        assert_eq!(brokers.place(&alone, 3), (NodeId(3), None));
    }

    #[test]
    fn with_direct_ports_each_shard_is_one() {
        let (brokers, config) = brokers(true);
        let alone = Image::default();
        let all = brokers.all(&alone, &config, 0, NOW);
        let want = [(30_000, "127.0.0.1", 9093), (30_001, "127.0.0.1", 9094)];
        assert_eq!(shown(&all), want);
        let all = brokers.all(&alone, &config, 1, NOW);
        let want = [(30_000, "localhost", 9193), (30_001, "localhost", 9194)];
        assert_eq!(shown(&all), want);
        assert_eq!(brokers.controller(), 30_000);
        assert_eq!(
            brokers.leader(&alone, &config, 1, &partition(1)).as_ref(),
            Some(&all[1])
        );
        let of = |store| brokers.of(&alone, &partition(store), NodeId(3));
        assert_eq!([of(0), of(1), of(2)], [30_000, 30_001, 30_000]);
        assert_eq!(brokers.of(&alone, &partition(0), NodeId::NOBODY), -1);
        assert_eq!(
            brokers.of_all(&alone, &partition(1), &[NodeId(3)]),
            [30_001]
        );
    }

    #[test]
    fn clients_may_name_a_shard_or_the_node() {
        let (brokers, _) = brokers(true);
        let alone = Image::default();
        for here in [3, 30_000, 30_001] {
            assert!(brokers.is_here(here), "{here}");
        }
        for elsewhere in [-1, 0, 4, 30_002, 40_000] {
            assert!(!brokers.is_here(elsewhere), "{elsewhere}");
            assert_eq!(brokers.place(&alone, elsewhere), (NodeId(elsewhere), None));
        }
        assert_eq!(brokers.place(&alone, 30_001), (NodeId(3), Some(StoreId(1))));
        assert_eq!(brokers.place(&alone, 3), (NodeId(3), None));
    }

    /// Nodes 3, which is here, and 4, whose second store has partition(1)'s other replica, and 5, which is fenced.
    fn three() -> Image {
        let mut image = Image::default();
        for node in 3..=5 {
            let address = |listener: &str, port| BrokerAddress {
                listener: listener.to_owned(),
                host: format!("host-{node}"),
                port,
                shards: vec![port + 1, port + 2],
            };
            let registration = Registration {
                addresses: vec![address("A", 9092), address("B", 9192)],
                fenced: node == 5,
                ..broker(node, 2)
            };
            image.brokers.register(registration).expect("the first");
        }
        image
    }

    fn led_elsewhere() -> Partition {
        Partition {
            leader: NodeId(4),
            replicas: [NodeId(3), NodeId(4)].into(),
            isr: [NodeId(4)].into(),
            directories: [(3, 0), (4, 1)]
                .map(|(node, store)| DirectoryId::new(node, StoreId(store)))
                .into(),
            ..partition(0)
        }
    }

    #[test]
    fn others_are_shown_as_they_have_registered_unless_they_are_fenced() {
        let (image, (mut brokers, config)) = (three(), brokers(false));
        brokers.look(&image, NOW);
        let all = brokers.all(&image, &config, 1, NOW);
        assert_eq!(shown(&all), [(3, "localhost", 9192), (4, "host-4", 9192)]);
        let mut partition = led_elsewhere();
        let leader = brokers.leader(&image, &config, 1, &partition);
        assert_eq!(leader.as_ref(), Some(&all[1]));
        assert_eq!(
            brokers.of_all(&image, &partition, &partition.replicas),
            [3, 4]
        );
        partition.leader = NodeId(5);
        assert_eq!(
            brokers.leader(&image, &config, 1, &partition),
            None,
            "it is fenced"
        );
        assert_eq!(brokers.shown_leader(&image, &partition), -1);
        assert_eq!(brokers.offline(&image, &partition), [0; 0]);
        partition.replicas = [NodeId(3), NodeId(5), NodeId(6)].into();
        assert_eq!(brokers.offline(&image, &partition), [5, 6]);
        partition.leader = NodeId::NOBODY;
        assert_eq!(brokers.leader(&image, &config, 1, &partition), None);
    }

    /// After all nodes were killed, none of them may be live for a moment.
    #[test]
    fn who_answers_is_shown_also_while_it_is_fenced() {
        let mut image = Image::default();
        for node in 3..=4 {
            let registration = Registration {
                fenced: true,
                ..broker(node, 2)
            };
            image.brokers.register(registration).expect("the first");
        }
        let (brokers, config) = brokers(false);
        let all = brokers.all(&image, &config, 1, NOW);
        assert_eq!(shown(&all), [(3, "localhost", 9192)]);
        let mut partition = led_elsewhere();
        partition.leader = NodeId(3);
        assert_eq!(brokers.shown_leader(&image, &partition), -1, "it is fenced");
        assert_eq!(brokers.offline(&image, &partition), [3, 4]);
    }

    #[test]
    fn what_a_lost_node_leads_is_led_by_nobody_until_it_is_heard() {
        let (image, (mut brokers, config)) = (three(), brokers(false));
        let partition = led_elsewhere();
        for lost in [vec![], vec![NodeId(5)], vec![NodeId(4)], vec![]] {
            let is_there = !lost.contains(&partition.leader);
            let lost = lost.into_iter().map(|node| (node, false)).collect();
            brokers.lose(lost, &image, NOW);
            let shown = brokers.shown_leader(&image, &partition);
            assert_eq!(shown, if is_there { 4 } else { -1 });
            let leader = brokers.leader(&image, &config, 0, &partition);
            assert_eq!(leader.is_some(), is_there);
            let all = brokers.all(&image, &config, 0, NOW);
            assert!(all.iter().any(|it| it.id == 4), "clients may remember it");
        }
    }

    /// Whether clients are shown node 4 after so many ms.
    fn is_four_there(brokers: &Brokers, image: &Image, ms: u64) -> bool {
        let config = super::tests::brokers(false).1;
        let all = brokers.all(image, &config, 0, after(ms));
        all.iter().any(|it| it.id == 4)
    }

    const fn after(ms: u64) -> Mono {
        Mono(NOW.0 + ms * 1_000_000)
    }

    #[test]
    fn who_is_away_is_shown_for_a_while_until_it_is_live_again() {
        let (image, (mut brokers, _)) = (three(), brokers(false));
        let mut fenced = image.clone();
        fenced.brokers.set_fenced(NodeId(4), true);
        brokers.look(&image, NOW);
        // A connection is reset, the controller knows it, it is back, says nothing for a moment, and registers: all
        // that is one absence.
        brokers.lose(vec![(NodeId(4), false)], &image, after(1_000));
        brokers.look(&fenced, after(2_000));
        brokers.lose(vec![], &fenced, after(3_000));
        brokers.lose(vec![(NodeId(4), true)], &fenced, after(4_000));
        assert!(is_four_there(&brokers, &fenced, 9_999));
        brokers.lose(vec![], &fenced, after(10_000));
        brokers.look(&fenced.clone(), after(10_500));
        assert!(is_four_there(&brokers, &fenced, 10_999));
        assert!(!is_four_there(&brokers, &fenced, 11_000));
        assert_eq!(brokers.offline(&fenced, &led_elsewhere()), [4]);
        // The next one begins when it was live in between.
        brokers.look(&image, after(11_500));
        brokers.look(&fenced, after(12_000));
        assert!(is_four_there(&brokers, &fenced, 20_999));
        assert!(!is_four_there(&brokers, &fenced, 21_000));
    }

    #[test]
    fn who_is_only_silent_is_shown_for_a_shorter_time() {
        let (image, (mut brokers, _)) = (three(), brokers(false));
        let mut fenced = image.clone();
        fenced.brokers.set_fenced(NodeId(4), true);
        brokers.look(&image, NOW);
        // This one cannot reach it for long; its clients may.
        brokers.lose(vec![(NodeId(4), true)], &image, NOW);
        brokers.look(&fenced, after(20_000));
        assert!(is_four_there(&brokers, &fenced, 20_999));
        assert!(!is_four_there(&brokers, &fenced, 21_000));
    }

    #[test]
    fn who_is_fenced_at_first_is_shown_only_where_it_may_have_been_live() {
        let mut fenced = three();
        fenced.brokers.set_fenced(NodeId(4), true);
        let (mut is_new, mut is_back) = (brokers(false).0, brokers(false).0);
        is_new.look(&fenced, NOW);
        assert!(!is_four_there(&is_new, &fenced, 0), "it was never live");
        crate::controller::testing::create(&mut fenced, "a", 1, 1);
        is_back.look(&fenced, NOW);
        assert!(is_four_there(&is_back, &fenced, 8_999));
        is_back.look(&fenced, after(9_000));
        assert!(!is_four_there(&is_back, &fenced, 9_000));
    }

    #[test]
    fn shards_of_others_are_brokers_too() {
        let (image, (brokers, config)) = (three(), brokers(true));
        let ids: Vec<i32> = brokers
            .all(&image, &config, 0, NOW)
            .iter()
            .map(|it| it.id)
            .collect();
        assert_eq!(ids, [30_000, 30_001, 40_000, 40_001]);
        let partition = led_elsewhere();
        let leader = brokers
            .leader(&image, &config, 0, &partition)
            .expect("it is known");
        assert_eq!(shown(&[leader]), [(40_001, "host-4", 9094)]);
        let of = brokers.of_all(&image, &partition, &partition.replicas);
        assert_eq!(of, [30_000, 40_001]);
        assert_eq!(brokers.place(&image, 40_001), (NodeId(4), Some(StoreId(1))));
        assert_eq!(brokers.place(&image, 40_002), (NodeId(40_002), None));
        assert_eq!(brokers.place(&image, 60_000), (NodeId(60_000), None));
    }
}
