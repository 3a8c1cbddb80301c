//! Which brokers get the replicas of new partitions, and which of their directories: the ones with the fewest, so that
//! every core of every broker gets its share whatever the sizes of the topics; in different racks where there are any;
//! and near each other on a ring of brokers, so that a broker shares partitions with a few others and not with all.

use std::collections::HashMap;

use super::image::{DirectoryLoad, Image};
use super::registered::Registration;
use crate::base::{DirectoryId, NodeId, StoreId};
use crate::config::INTERNAL_TOPICS;

/// Among so many brokers, the next ones on the ring, a follower is chosen.
const SCATTER: usize = 8;

/// The load of all directories while partitions are being placed. Internal topics count by themselves: their many
/// partitions hold next to nothing, and must neither keep other topics away from a directory nor be kept away by them.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The brokers as a ring: neighbours are in different racks as far as there are any.
    ring: Vec<Candidate>,
    /// Their places on it.
    places: HashMap<NodeId, usize>,
}

#[derive(Clone, Debug)]
struct Candidate {
    node: NodeId,
    fenced: bool,
    /// Brokers in the same rack have the same number; so have those in none.
    rack: usize,
    directories: Vec<Place>,
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
        let mut racks: HashMap<Option<&str>, (usize, usize)> = HashMap::new();
        let mut ring: Vec<(usize, Candidate)> = Vec::new();
        for broker in image.brokers.iter() {
            let known = racks.len();
            let (rack, members) = racks.entry(broker.rack.as_deref()).or_insert((known, 0));
            ring.push((*members, Candidate::new(broker, *rack, image, &internal)));
            *members += 1;
        }
        ring.sort_by_key(|(in_rack, candidate)| (*in_rack, candidate.rack));
        let ring: Vec<Candidate> = ring.into_iter().map(|(_, candidate)| candidate).collect();
        let nodes = ring.iter().map(|candidate| candidate.node);
        Self {
            places: nodes.zip(0..).collect(),
            ring,
        }
    }

    /// Brokers and directories that somebody chose for a partition, or the brokers and the store of the first one; it
    /// counts from now on.
    pub fn take(&mut self, nodes: &[NodeId], store: Option<StoreId>, internal: bool) -> Placed {
        let mut placed = Placed::new();
        for (at, node) in nodes.iter().enumerate() {
            let store = store.filter(|_| at == 0);
            let place = self.places.get(node).copied();
            let candidate = place.and_then(|place| self.ring.get_mut(place));
            let directory = candidate.map(|it| it.take(store, internal, at == 0));
            placed.push((*node, directory.unwrap_or_default()));
        }
        placed
    }

    /// So many replicas of the next partition, the preferred leader first; it counts from now on. Fewer if there are
    /// not so many brokers. Those that are fenced get one only if there are too few others.
    pub fn next(&mut self, factor: usize, internal: bool) -> Placed {
        let mut nodes = Vec::with_capacity(factor);
        let kind = usize::from(internal);
        let leads = |at: &usize| {
            let it: &Candidate = &self.ring[*at];
            (
                it.fenced,
                it.load[kind].preferred,
                it.load[kind].replicas,
                *at,
            )
        };
        let Some(leader) = (0..self.ring.len()).min_by_key(leads) else {
            return Placed::new();
        };
        nodes.push(leader);
        while nodes.len() < factor {
            match self.follower(&nodes, kind) {
                Some(next) => nodes.push(next),
                None => break,
            }
        }
        let nodes: Vec<NodeId> = nodes.into_iter().map(|at| self.ring[at].node).collect();
        self.take(&nodes, None, internal)
    }

    /// One more broker besides those that have a replica, by their places: in a rack that has the fewest of them.
    fn follower(&self, have: &[usize], kind: usize) -> Option<usize> {
        let after = have.first()? + 1;
        let others = (0..self.ring.len()).map(|step| (after + step) % self.ring.len());
        let others: Vec<usize> = others.filter(|at| !have.contains(at)).collect();
        let in_rack = |at: usize| {
            let rack = self.ring[at].rack;
            have.iter()
                .filter(|it| self.ring[**it].rack == rack)
                .count()
        };
        let rank = |at: usize| (self.ring[at].fenced, in_rack(at));
        let best = others.iter().map(|at| rank(*at)).min()?;
        let near = others.into_iter().filter(|at| rank(*at) == best);
        near.take(SCATTER)
            .min_by_key(|at| self.ring[*at].load[kind].replicas)
    }
}

impl Candidate {
    fn new(
        broker: &Registration,
        rack: usize,
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
            directories,
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
        for load in [&mut place.load[kind], &mut self.load[kind]] {
            load.replicas += 1;
            load.preferred += u32::from(preferred);
        }
        place.id
    }
}

fn internal_load(image: &Image) -> HashMap<DirectoryId, DirectoryLoad> {
    let mut load: HashMap<DirectoryId, DirectoryLoad> = HashMap::new();
    let topics = INTERNAL_TOPICS.iter().filter_map(|name| image.topic(name));
    for partition in topics.flat_map(|topic| topic.partitions.iter()) {
        for (at, directory) in partition.directories.iter().enumerate() {
            let has = load.entry(*directory).or_default();
            has.replicas += 1;
            has.preferred += u32::from(at == 0);
        }
    }
    load
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::controller::testing::{broker, cluster, node_of};

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

    #[test]
    fn replicas_are_in_different_racks_and_with_few_others() {
        let mut image = cluster(0);
        for node in 0..30 {
            let mut broker = broker(node, 2);
            broker.rack = Some(format!("rack-{}", node % 3));
            image.brokers.register(broker).expect("the first");
        }
        let mut placement = Placement::new(&image);
        let mut peers: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for _ in 0..3_000 {
            let placed = placement.next(3, false);
            let racks: BTreeSet<i32> = placed.iter().map(|(node, _)| node.0 % 3).collect();
            assert_eq!(racks.len(), 3);
            for (node, _) in &placed {
                let others = placed.iter().map(|(node, _)| *node);
                peers.entry(*node).or_default().extend(others);
            }
        }
        let most = peers.values().map(BTreeSet::len).max();
        assert!(most < Some(30), "{most:?}");
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
