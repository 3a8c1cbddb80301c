//! What all clients of a run know of each other, out of the broker's sight.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::TopicId;
use crate::sim::fact::{Address, Place, Use};
use crate::sim::reigns::{Reigns, Replicated};
use crate::wire::TopicRef;

/// What a run is about at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything happens, and goes wrong.
    Busy,
    /// Nothing new is begun and nothing goes wrong: what was begun must end.
    Quiet,
    /// Everything is read once more.
    Audit,
}

/// A topic that clients can use.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its number in this run.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Its number of partitions.
    pub partitions: i32,
    /// What it is for.
    pub used: Use,
}

impl Topic {
    /// How a request names it.
    #[must_use]
    pub fn reference(&self, by_id: bool) -> TopicRef {
        if by_id {
            TopicRef::Id(self.id)
        } else {
            TopicRef::Name(self.name.as_str().into())
        }
    }

    /// Whether an answer means it.
    #[must_use]
    pub fn is(&self, topic: &TopicRef) -> bool {
        match topic {
            TopicRef::Name(name) => **name == *self.name,
            TopicRef::Id(id) => *id == self.id,
        }
    }
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Where it listens.
    pub address: Address,
    /// The leader epoch, if that was told.
    pub epoch: Option<i32>,
}

/// Whom a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Any node takes it.
    Anybody,
    /// The leader of a partition.
    Leader(Place),
    /// The coordinator of a group.
    Coordinator(u32),
    /// The coordinator of the transactions of an id.
    Transactions(u32),
}

/// What is known of a node's processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lives {
    /// How often it has started.
    pub starts: u32,
    /// How often it was told to stop.
    pub stops: u32,
}

/// What all clients of a run know, out of the broker's sight.
#[derive(Debug)]
pub struct Shared {
    /// What the run is about.
    pub phase: Phase,
    /// Each shard is a broker of its own.
    pub direct: bool,
    /// There are several nodes, of one cluster.
    pub cluster: bool,
    /// Topics that exist for good, once they do.
    pub topics: Vec<Topic>,
    /// Name and id of all topics that there have been, by number.
    pub names: BTreeMap<u32, (String, TopicId)>,
    /// How many topics there are to be.
    pub topics_planned: usize,
    /// The offset after the last acknowledged record.
    pub ends: BTreeMap<Place, i64>,
    /// Who leads each partition, as Metadata has said last.
    pub leaders: BTreeMap<Place, Leader>,
    /// Where the coordinator of a group listens, as FindCoordinator has said last.
    pub coordinators: BTreeMap<u32, Address>,
    /// The same of transactional ids.
    pub transactions: BTreeMap<u32, Address>,
    /// How many transactions were begun.
    pub transactions_begun: u64,
    /// For which groups transactions have committed offsets, and of which partition.
    pub moves: BTreeSet<(u32, Place)>,
    /// Who leads each partition in truth, which nobody is told.
    pub reigns: Reigns,
    /// Where what a leader alone has acknowledged ends in each partition, and in which epoch it did.
    pub by_one: BTreeMap<Place, (i32, i64)>,
    /// The next offset to be committed by a group.
    pub commits: BTreeMap<(u32, Place), i64>,
    /// What is known of each node's processes.
    pub lives: Vec<Lives>,
    /// Batches that a full store refused.
    pub refused: u32,
    /// Bits were flipped: data that is recognizably damaged is no violation.
    pub rotten: bool,
    /// Partitions of which damage was recognized.
    pub damaged: BTreeSet<Place>,
    /// Times that the groups of a partition were refused because it is damaged.
    pub groups_lost: u32,
}

impl Shared {
    /// What clients know before there is anything.
    #[must_use]
    pub fn new(direct: bool, topics_planned: usize, nodes: usize) -> Self {
        Self {
            phase: Phase::Busy,
            direct,
            cluster: nodes > 1,
            topics: Vec::new(),
            names: BTreeMap::new(),
            topics_planned,
            ends: BTreeMap::new(),
            leaders: BTreeMap::new(),
            coordinators: BTreeMap::new(),
            transactions: BTreeMap::new(),
            transactions_begun: 0,
            moves: BTreeSet::new(),
            reigns: Reigns::default(),
            by_one: BTreeMap::new(),
            commits: BTreeMap::new(),
            lives: vec![Lives::default(); nodes],
            refused: 0,
            rotten: false,
            damaged: BTreeSet::new(),
            groups_lost: 0,
        }
    }

    /// A new topic: its number.
    pub fn new_topic(&mut self, name: &str, id: TopicId) -> u32 {
        let number = self.names.len() as u32;
        self.names.insert(number, (name.to_owned(), id));
        number
    }

    /// A partition as it is in truth, if there are several nodes.
    #[must_use]
    pub fn replicated(&self, at: Place) -> Option<&Replicated> {
        let (_, topic) = self.names.get(&at.topic)?;
        self.reigns.of(*topic, at.partition)
    }

    /// Where somebody listens, as far as that is known.
    #[must_use]
    pub fn address(&self, whom: Whom) -> Option<Address> {
        match whom {
            Whom::Anybody => None,
            Whom::Leader(at) => self.leaders.get(&at).map(|leader| leader.address),
            Whom::Coordinator(group) => self.coordinators.get(&group).copied(),
            Whom::Transactions(id) => self.transactions.get(&id).copied(),
        }
    }

    /// The topic of that number among those that exist for good.
    #[must_use]
    pub fn topic(&self, number: u32) -> Option<&Topic> {
        self.topics.iter().find(|topic| topic.number == number)
    }

    /// All partitions of topics for which `wanted` holds.
    pub fn places(&self, wanted: impl Fn(&Topic) -> bool) -> Vec<Place> {
        let mut places = Vec::new();
        for topic in self.topics.iter().filter(|topic| wanted(topic)) {
            places.extend((0..topic.partitions).map(|partition| Place {
                topic: topic.number,
                partition,
            }));
        }
        places
    }

    /// Nobody listens at an address any more: who is told of it asks anew.
    pub fn forget(&mut self, address: Address) {
        self.leaders.retain(|_, leader| leader.address != address);
        self.coordinators.retain(|_, known| *known != address);
        self.transactions.retain(|_, known| *known != address);
    }

    /// Whether all topics are there.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        self.topics.len() == self.topics_planned
    }
}
