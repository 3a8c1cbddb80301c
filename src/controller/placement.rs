//! Which brokers get the replicas of new partitions, and which of their directories: of one topic each broker gets its
//! share, and all together each core of each broker; in different racks where there are any; and near each other, so
//! that a broker shares partitions with a few others and not with all.
//!
//! "Near" is by place within the racks: a follower stands, in its rack, where the leader stands in its own, or a little
//! behind.

use std::collections::HashMap;

use super::image::{DirectoryLoad, Image};
use super::registered::Registration;
use crate::base::{DirectoryId, NodeId, StoreId};
use crate::config::INTERNAL_TOPICS;

/// Among so many brokers, near the leader, a follower is chosen.
const SCATTER: usize = 8;

/// The load of all directories while partitions are being placed. Internal topics count by themselves: their many
/// partitions hold next to nothing, and must neither keep other topics away from a directory nor be kept away by them.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The brokers, by node.
    brokers: Vec<Candidate>,
    places: HashMap<NodeId, usize>,
    /// Those of each rack; those in none are in one.
    racks: Vec<Vec<usize>>,
}

#[derive(Clone, Debug)]
struct Candidate {
    node: NodeId,
    fenced: bool,
    /// Its rack, and its place there.
    rack: usize,
    in_rack: usize,
    directories: Vec<Place>,
    /// What it has got of the topic that is being placed.
    given: DirectoryLoad,
    /// What all its directories have: of clients' topics, and of internal ones.
    load: [DirectoryLoad; 2],
}

#[derive(Clone, Debug)]
struct Place {
    id: DirectoryId,
    load: [DirectoryLoad; 2],
}

/// Where the replicas of a partition are: by replica its broker and the directory there.
pub type Placed = Vec<(NodeId, DirectoryId)>;

impl Placement {
    /// The load as the image has it.
    #[must_use]
    pub fn new(image: &Image) -> Self {
        let internal = internal_load(image);
        let mut known: HashMap<Option<&str>, usize> = HashMap::new();
        let mut racks: Vec<Vec<usize>> = Vec::new();
        let mut brokers: Vec<Candidate> = Vec::new();
        for broker in image.brokers.iter() {
            let rack = *known.entry(broker.rack.as_deref()).or_insert(racks.len());
            if rack == racks.len() {
                racks.push(Vec::new());
            }
            racks[rack].push(brokers.len());
            let place = (rack, racks[rack].len() - 1);
            brokers.push(Candidate::new(broker, place, image, &internal));
        }
        let nodes = brokers.iter().map(|candidate| candidate.node);
        Self {
            places: nodes.zip(0..).collect(),
            brokers,
            racks,
        }
    }

    /// What is placed from now on is of another topic.
    pub fn begin_topic(&mut self) {
        for broker in &mut self.brokers {
            broker.given = DirectoryLoad::default();
        }
    }

    /// Brokers and directories that somebody chose for a partition, or the brokers and the store of the first one; it
    /// counts from now on.
    pub fn take(&mut self, nodes: &[NodeId], store: Option<StoreId>, internal: bool) -> Placed {
        let mut placed = Placed::new();
        for (at, node) in nodes.iter().enumerate() {
            let store = store.filter(|_| at == 0);
            let place = self.places.get(node).copied();
            let candidate = place.and_then(|place| self.brokers.get_mut(place));
            let directory = candidate.map(|it| it.take(store, internal, at == 0));
            placed.push((*node, directory.unwrap_or_default()));
        }
        placed
    }

    /// So many replicas of the next partition, the preferred leader first; it counts from now on. Fewer if there are
    /// not so many brokers. Those that are fenced get one only if there are too few others.
    pub fn next(&mut self, factor: usize, internal: bool) -> Placed {
        let kind = usize::from(internal);
        let leads = |at: &usize| {
            let it = &self.brokers[*at];
            let (given, load) = (it.given, it.load[kind]);
            (
                it.fenced,
                given.preferred,
                load.preferred,
                load.replicas,
                *at,
            )
        };
        let Some(leader) = (0..self.brokers.len()).min_by_key(leads) else {
            return Placed::new();
        };
        let mut have = vec![leader];
        while have.len() < factor {
            match self.follower(&have, kind) {
                Some(next) => have.push(next),
                None => break,
            }
        }
        let nodes: Vec<NodeId> = have.iter().map(|at| self.brokers[*at].node).collect();
        self.take(&nodes, None, internal)
    }

    /// One more broker besides those that have a replica, by their places: in a rack that has the fewest of them.
    fn follower(&self, have: &[usize], kind: usize) -> Option<usize> {
        let leader = &self.brokers[*have.first()?];
        let may = |at: usize, fenced| self.brokers[at].fenced == fenced && !have.contains(&at);
        for fenced in [false, true] {
            let has = |rack: usize| {
                let in_it = have.iter().filter(|at| self.brokers[**at].rack == rack);
                in_it.count()
            };
            // The racks behind the leader's, and its own at last.
            let count = self.racks.len();
            let racks = (1..=count).map(|step| (leader.rack + step) % count);
            let racks = racks.filter(|rack| self.racks[*rack].iter().any(|at| may(*at, fenced)));
            let racks: Vec<(usize, usize)> = racks.map(|rack| (has(rack), rack)).collect();
            let Some((fewest, _)) = racks.iter().min() else {
                continue;
            };
            let racks = racks.iter().filter(|(has, _)| has == fewest);
            let racks: Vec<usize> = racks.map(|(_, rack)| *rack).take(SCATTER).collect();
            let near = racks.iter().flat_map(|rack| {
                let near = self.near(leader, *rack).filter(|at| may(*at, fenced));
                near.take(SCATTER.div_ceil(racks.len()))
            });
            let near: Vec<usize> = near.collect();
            // Which one of equal ones is another one each time.
            let turn = leader.given.preferred as usize;
            let rank = |place: &usize| {
                let it = &self.brokers[near[*place]];
                let after = (place + near.len() - turn % near.len()) % near.len();
                (it.given.replicas, it.load[kind].replicas, after)
            };
            let best = (0..near.len()).min_by_key(rank);
            return best.map(|place| near[place]);
        }
        None
    }

    /// The brokers of a rack, from the one on that stands there as the leader does in its own.
    fn near(&self, leader: &Candidate, rack: usize) -> impl Iterator<Item = usize> {
        let (own, those) = (self.racks[leader.rack].len(), &self.racks[rack]);
        let first = leader.in_rack * those.len() / own;
        let first = first + usize::from(rack == leader.rack);
        (0..those.len()).map(move |step| those[(first + step) % those.len()])
    }
}

impl Candidate {
    fn new(
        broker: &Registration,
        (rack, in_rack): (usize, usize),
        image: &Image,
        internal: &HashMap<DirectoryId, DirectoryLoad>,
    ) -> Self {
        let directories = broker.directories.iter().map(|directory| Place {
            id: directory.id,
            load: [
                image.load(directory.id),
                internal.get(&directory.id).copied().unwrap_or_default(),
            ],
        });
        let directories: Vec<Place> = directories.collect();
        let mut load = [DirectoryLoad::default(); 2];
        for place in &directories {
            for (sum, has) in load.iter_mut().zip(&place.load) {
                sum.replicas += has.replicas;
                sum.preferred += has.preferred;
            }
        }
        Self {
            node: broker.member.node,
            fenced: broker.fenced,
            rack,
            in_rack,
            directories,
            given: DirectoryLoad::default(),
            load,
        }
    }

    /// The directory of this store, or the one with the fewest; it counts from now on.
    fn take(&mut self, store: Option<StoreId>, internal: bool, preferred: bool) -> DirectoryId {
        let kind = usize::from(internal);
        let chosen = store.map(|store| usize::from(store.0));
        let chosen = chosen.filter(|at| *at < self.directories.len());
        let fewest = || {
            let key = |at: &usize| {
                let load = self.directories[*at].load[kind];
                if preferred {
                    (load.preferred, load.replicas)
                } else {
                    (load.replicas, load.preferred)
                }
            };
            (0..self.directories.len()).min_by_key(key)
        };
        let Some(at) = chosen.or_else(fewest) else {
            return DirectoryId::default();
        };
        let place = &mut self.directories[at];
        for load in [&mut place.load[kind], &mut self.load[kind], &mut self.given] {
            load.add(preferred);
        }
        place.id
    }
}

fn internal_load(image: &Image) -> HashMap<DirectoryId, DirectoryLoad> {
    let mut load: HashMap<DirectoryId, DirectoryLoad> = HashMap::new();
    let topics = INTERNAL_TOPICS.iter().filter_map(|name| image.topic(name));
    for partition in topics.flat_map(|topic| topic.partitions.iter()) {
        for (at, directory) in partition.directories.iter().enumerate() {
            load.entry(*directory).or_default().add(at == 0);
        }
    }
    load
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::controller::testing::{broker, cluster, create, node_of};

    /// The store of a directory of `node_of`.
    fn store(placed: &Placed) -> u16 {
        let known = (0..9).map(StoreId);
        let is_it = |store: &StoreId| DirectoryId::new(1, *store) == placed[0].1;
        known.into_iter().find(is_it).expect("one of the node").0
    }

    #[test]
    fn stores_fill_evenly() {
        let mut placement = Placement::new(&node_of(3));
        let stores: Vec<_> = (0..7).map(|_| store(&placement.next(1, false))).collect();
        assert_eq!(stores, [0, 1, 2, 0, 1, 2, 0]);
        let internal: Vec<_> = (0..4).map(|_| store(&placement.next(1, true))).collect();
        assert_eq!(internal, [0, 1, 2, 0], "counted by themselves");
        assert_eq!(store(&placement.next(1, false)), 1);
        let chosen = placement.take(&[NodeId(1)], Some(StoreId(2)), false);
        assert_eq!(store(&chosen), 2);
        assert_eq!(
            store(&placement.next(1, false)),
            0,
            "what was chosen counts"
        );
    }

    /// How many replicas, and how many of preferred leaders, each directory gets.
    fn spread(placement: &mut Placement, partitions: usize) -> BTreeMap<DirectoryId, [u32; 2]> {
        let mut spread: BTreeMap<DirectoryId, [u32; 2]> = BTreeMap::new();
        for _ in 0..partitions {
            let placed = placement.next(3, false);
            let nodes: BTreeSet<NodeId> = placed.iter().map(|(node, _)| *node).collect();
            assert_eq!(nodes.len(), 3, "each on a broker of its own");
            for (at, (_, directory)) in placed.iter().enumerate() {
                let has = spread.entry(*directory).or_default();
                has[0] += 1;
                has[1] += u32::from(at == 0);
            }
        }
        spread
    }

    #[test]
    fn brokers_and_their_cores_get_the_same_share() {
        let image = cluster(5);
        let spread = spread(&mut Placement::new(&image), 1_000);
        assert_eq!(spread.len(), 10, "two stores each");
        for [replicas, preferred] in spread.into_values() {
            assert!((280..=320).contains(&replicas), "{replicas} replicas");
            assert!((95..=105).contains(&preferred), "{preferred} leaders");
        }
    }

    /// Brokers 0 on, so many in each rack.
    fn racks(sizes: &[usize]) -> Image {
        let mut image = cluster(0);
        for (rack, size) in sizes.iter().enumerate() {
            for _ in 0..*size {
                let mut broker = broker(image.brokers.count() as i32, 2);
                broker.rack = Some(format!("rack-{rack}"));
                image.brokers.register(broker).expect("the first");
            }
        }
        image
    }

    #[test]
    fn replicas_are_in_different_racks_and_with_few_others() {
        let mut placement = Placement::new(&racks(&[10, 10, 10]));
        let mut peers: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for _ in 0..3_000 {
            let placed = placement.next(3, false);
            let racks: BTreeSet<i32> = placed.iter().map(|(node, _)| node.0 / 10).collect();
            assert_eq!(racks.len(), 3);
            for (node, _) in &placed {
                let others = placed.iter().map(|(node, _)| *node);
                peers.entry(*node).or_default().extend(others);
            }
        }
        let most = peers.values().map(BTreeSet::len).max();
        assert!(most <= Some(22), "{most:?}");
    }

    #[test]
    fn racks_of_any_size_give_each_broker_its_share() {
        let mut placement = Placement::new(&racks(&[20, 100]));
        let mut has: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (node, _) in (0..18_000).flat_map(|_| placement.next(2, false)) {
            *has.entry(node).or_default() += 1;
        }
        // Each partition has one replica in each rack: 900 for each of the 20, 180 for each of the 100.
        for (node, count) in has {
            let share = if node.0 < 20 { 900 } else { 180 };
            assert!(count.abs_diff(share) * 5 < share, "{node}: {count}");
        }
    }

    /// Whom a broker leads with: if it is lost, others share its work.
    #[test]
    fn a_leader_has_several_followers() {
        for image in [racks(&[12]), racks(&[4, 4, 4])] {
            let mut placement = Placement::new(&image);
            let mut second: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
            for _ in 0..1_200 {
                let placed = placement.next(3, false);
                second.entry(placed[0].0).or_default().insert(placed[1].0);
            }
            let fewest = second.values().map(BTreeSet::len).min();
            assert!(fewest >= Some(4), "{fewest:?}");
        }
    }

    #[test]
    fn who_comes_late_gets_its_share_of_a_new_topic_and_no_more() {
        let mut image = cluster(3);
        create(&mut image, "a", 300, 3);
        image.brokers.register(broker(4, 2)).expect("it is new");
        create(&mut image, "b", 40, 3);
        let partitions = &image.topic("b").expect("it is there").partitions;
        for node in 1..=4 {
            let leads = partitions.iter().filter(|it| it.leader == NodeId(node));
            assert_eq!(leads.count(), 10, "{node}");
        }
    }

    #[test]
    fn fenced_brokers_come_last() {
        let mut image = cluster(4);
        image.brokers.set_fenced(NodeId(2), true);
        let mut placement = Placement::new(&image);
        for _ in 0..20 {
            let placed = placement.next(3, false);
            assert!(placed.iter().all(|(node, _)| *node != NodeId(2)));
        }
        assert_eq!(
            placement.next(4, false).last().map(|it| it.0),
            Some(NodeId(2))
        );
        assert_eq!(placement.next(9, false).len(), 4);
        assert_eq!(Placement::new(&cluster(0)).next(1, false), []);
    }
}
