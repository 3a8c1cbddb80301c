//! Members of a consumer group as their clients see it, and a cluster with topics, for the tests of this directory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::consumer::{JOINS, Partitions};
use super::testing::World;
use super::{ConsumerHeartbeat, ConsumerReply, GroupConfig, GroupTopics, Name};
use crate::base::{ErrorCode, TopicId};

/// Topics that a test can change while a coordinator sees them.
#[derive(Clone, Debug, Default)]
pub struct FakeTopics(Rc<RefCell<Cluster>>);

#[derive(Debug, Default)]
struct Cluster {
    version: u64,
    /// How often the next topic was asked for.
    looked: usize,
    topics: BTreeMap<Name, (TopicId, i32)>,
}

impl FakeTopics {
    /// Makes a topic, or gives it more partitions.
    pub fn set(&self, name: &str, partitions: i32) {
        let mut cluster = self.0.borrow_mut();
        cluster.version += 1;
        let id = TopicId([cluster.version as u8; 16]);
        let topic = cluster.topics.entry(Name::from(name)).or_insert((id, 0));
        topic.1 = partitions;
    }

    /// Deletes a topic.
    pub fn delete(&self, name: &str) {
        let mut cluster = self.0.borrow_mut();
        cluster.version += 1;
        cluster.topics.remove(name);
    }

    /// How often the next topic was asked for.
    pub fn looked(&self) -> usize {
        self.0.borrow().looked
    }

    pub fn id(&self, name: &str) -> TopicId {
        self.0.borrow().topics[name].0
    }

    pub fn all(&self) -> Vec<(Name, TopicId, i32)> {
        let cluster = self.0.borrow();
        let topics = cluster.topics.iter();
        topics
            .map(|(name, (id, count))| (name.clone(), *id, *count))
            .collect()
    }
}

impl GroupTopics for FakeTopics {
    fn version(&self) -> u64 {
        self.0.borrow().version
    }

    fn named(&self, name: &str) -> Option<(TopicId, i32)> {
        self.0.borrow().topics.get(name).copied()
    }

    fn name_of(&self, id: TopicId) -> Option<Name> {
        let cluster = self.0.borrow();
        let mut topics = cluster.topics.iter();
        let found = topics.find(|(_, (of, _))| *of == id);
        found.map(|(name, _)| name.clone())
    }

    fn after(&self, name: Option<&str>) -> Option<Name> {
        self.0.borrow_mut().looked += 1;
        let cluster = self.0.borrow();
        let mut names = cluster.topics.keys();
        names
            .find(|topic| name.is_none_or(|name| &***topic > name))
            .cloned()
    }
}

/// A member as its client sees it.
#[derive(Clone, Debug)]
pub struct Consumer {
    pub id: Name,
    pub instance: Option<Name>,
    pub epoch: i32,
    pub topics: Vec<&'static str>,
    pub regex: Option<&'static str>,
    pub assignor: Option<&'static str>,
    /// What it takes for its own.
    pub owned: Partitions,
}

impl Consumer {
    pub fn new(id: &str, topics: &[&'static str]) -> Self {
        Self {
            id: Name::from(id),
            instance: None,
            epoch: JOINS,
            topics: topics.to_vec(),
            regex: None,
            assignor: None,
            owned: Partitions::default(),
        }
    }

    pub fn fixed(id: &str, instance: &str, topics: &[&'static str]) -> Self {
        Self {
            instance: Some(Name::from(instance)),
            ..Self::new(id, topics)
        }
    }

    /// Says all that there is to say.
    pub fn full(&self) -> ConsumerHeartbeat {
        ConsumerHeartbeat {
            rebalance_timeout_ms: Some(60_000),
            topics: Some(self.topics.iter().map(|topic| Name::from(*topic)).collect()),
            regex: self.regex.map(Name::from),
            assignor: self.assignor.map(Name::from),
            owned: Some(self.owned.clone()),
            ..self.short()
        }
    }

    /// Says that it is there, and what it has.
    pub fn short(&self) -> ConsumerHeartbeat {
        ConsumerHeartbeat {
            group: Name::from("g"),
            member: self.id.clone(),
            epoch: self.epoch,
            instance: self.instance.clone(),
            owned: Some(self.owned.clone()),
            client_id: Name::from("c"),
            client_host: Name::from("/127.0.0.1"),
            ..ConsumerHeartbeat::default()
        }
    }

    /// Does what it is told.
    pub fn take(&mut self, reply: &ConsumerReply) {
        match reply.error {
            ErrorCode::None => {
                self.epoch = reply.epoch;
                if let Some(current) = &reply.assigned {
                    self.owned = Partitions::default();
                    for (topic, partition, _) in current.assigned.all() {
                        self.owned.add(topic, [partition]);
                    }
                }
            }
            ErrorCode::FencedMemberEpoch
            | ErrorCode::UnknownMemberId
            | ErrorCode::GroupIdNotFound => {
                (self.epoch, self.owned) = (JOINS, Partitions::default());
            }
            _ => {}
        }
    }

    /// How many partitions it has.
    pub fn count(&self) -> usize {
        self.owned.count()
    }
}

impl World {
    /// A world with topics.
    pub fn with_topics(config: GroupConfig) -> (Self, FakeTopics) {
        let (mut world, topics) = (Self::new(config), FakeTopics::default());
        world.topics = Box::new(topics.clone());
        (world, topics)
    }

    /// Sends a heartbeat.
    pub fn send_beat(&mut self, request: ConsumerHeartbeat) -> u64 {
        let token = self.token();
        let mut effects = Vec::new();
        let coordinator = &mut self.coordinator;
        coordinator.consumer_heartbeat(self.now, token, request, &*self.topics, &mut effects);
        self.perform(effects);
        token
    }

    /// Sends one, and waits for the answer.
    pub fn beat(&mut self, request: ConsumerHeartbeat) -> ConsumerReply {
        let token = self.send_beat(request);
        for _ in 0..1_000 {
            if let Some(reply) = self.heartbeats.remove(&token) {
                return reply;
            }
            self.advance(1);
        }
        panic!("a heartbeat is answered");
    }

    /// A member says all that there is to say, or that it is there, and does what it is told.
    pub fn beat_of(&mut self, consumer: &mut Consumer) -> ConsumerReply {
        let request = match consumer.epoch {
            JOINS => consumer.full(),
            _ => consumer.short(),
        };
        let reply = self.beat(request);
        consumer.take(&reply);
        reply
    }

    /// All members do so until nothing more comes of it.
    pub fn settle(&mut self, consumers: &mut [&mut Consumer]) {
        for _ in 0..8 {
            for consumer in consumers.iter_mut() {
                let reply = self.beat_of(consumer);
                assert!(reply.error.is_none(), "{reply:?}");
            }
        }
    }

    /// Partitions that a group may be subscribed to.
    pub fn partitions_max(&self) -> usize {
        self.coordinator.config().consumer.partitions_max
    }

    /// The state of group `g`.
    pub fn consumer_state(&self) -> &'static str {
        let group = self.coordinator.consumer_group("g");
        group.map_or("none", |group| group.shown_state().name())
    }
}
