//! Random consumers of one group, which may be too large for a while: answers get lost, appends fail or end late,
//! processes crash, topics change, members come, go, stand still, and ask again. Whatever happens, no partition is two
//! members' at once, what was told is remembered, and in the end everybody has what is to be their own.

use super::consumer::{JOINS, LEAVES, LEAVES_FOR_A_WHILE, Partitions};
use super::consumer_testing::{Consumer, FakeTopics};
use super::testing::World;
use super::{ConsumerConfig, GroupConfig, Name};
use crate::base::{ErrorCode, Rng};

const TOPICS: [&str; 3] = ["a", "b", "c"];

struct Client {
    consumer: Consumer,
    /// The heartbeat on its way, and whether its answer will be lost.
    waits: Option<(u64, bool)>,
    /// It sends nothing more.
    is_still: bool,
}

struct Model {
    rng: Rng,
    world: World,
    topics: FakeTopics,
    clients: Vec<Client>,
    begun: usize,
    /// The largest epoch that anybody was told.
    told: i32,
    answered: usize,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let slice = [1, 7, 4096][rng.below(3) as usize];
        let partitions_max = [4, 9, 1_000][rng.below(3) as usize];
        let config = GroupConfig {
            consumer: ConsumerConfig {
                max_size: 6,
                partitions_max,
                slice,
                ..ConsumerConfig::default()
            },
            ..GroupConfig::default()
        };
        let (mut world, topics) = World::with_topics(config);
        world.slice = slice + 32;
        topics.set("a", 3);
        Self {
            rng,
            world,
            topics,
            clients: Vec::new(),
            begun: 0,
            told: 0,
            answered: 0,
        }
    }

    fn new_id(&mut self) -> Name {
        self.begun += 1;
        Name::from(format!("m{}", self.begun))
    }

    fn come(&mut self) {
        if self.clients.len() >= 5 {
            return;
        }
        let mut topics = TOPICS.to_vec();
        topics.retain(|_| self.rng.chance(1, 2));
        let mut consumer = Consumer::new(&self.new_id(), &topics);
        if self.rng.chance(1, 3) {
            consumer.regex = Some(["a|c", ".*", "b"][self.rng.below(3) as usize]);
        }
        if self.rng.chance(1, 3) {
            let instance = format!("i{}", self.rng.below(2));
            let taken = self
                .clients
                .iter()
                .any(|it| it.consumer.instance.as_deref() == Some(&*instance));
            if !taken {
                consumer.instance = Some(Name::from(instance));
            }
        }
        if self.rng.chance(1, 3) {
            consumer.assignor = Some(["range", "uniform"][self.rng.below(2) as usize]);
        }
        self.clients.push(Client {
            consumer,
            waits: None,
            is_still: false,
        });
    }

    fn beat(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if client.waits.is_some() || client.is_still {
            return;
        }
        let is_full = client.consumer.epoch == JOINS || self.rng.chance(1, 4);
        let mut request = match is_full {
            true => client.consumer.full(),
            false => client.consumer.short(),
        };
        if !is_full && self.rng.chance(1, 3) {
            request.owned = None;
        }
        let is_lost = self.rng.chance(1, 6);
        // It may be sent twice.
        if self.rng.chance(1, 10) {
            self.world.send_beat(request.clone());
        }
        let token = self.world.send_beat(request);
        self.clients[at].waits = Some((token, is_lost));
    }

    fn leave(&mut self, at: usize) {
        if self.clients[at].waits.is_some() {
            return;
        }
        let mut client = self.clients.remove(at);
        // What it had it has given up before it says so.
        client.consumer.owned = Partitions::default();
        let for_a_while = client.consumer.instance.is_some() && self.rng.chance(1, 2);
        client.consumer.epoch = match for_a_while {
            true => LEAVES_FOR_A_WHILE,
            false => LEAVES,
        };
        let token = self.world.send_beat(client.consumer.short());
        if for_a_while && self.rng.chance(2, 3) {
            client.consumer.id = self.new_id();
            client.consumer.epoch = JOINS;
            client.waits = Some((token, true));
            self.clients.push(client);
        }
    }

    /// Clients take the answers that have come.
    fn take_answers(&mut self) {
        for at in 0..self.clients.len() {
            let Some((token, is_lost)) = self.clients[at].waits else {
                continue;
            };
            let Some(reply) = self.world.heartbeats.remove(&token) else {
                continue;
            };
            let client = &mut self.clients[at];
            client.waits = None;
            if is_lost {
                continue;
            }
            self.answered += 1;
            if reply.error.is_none() {
                self.told = self.told.max(reply.epoch);
                assert!(reply.epoch > 0, "{reply:?}");
                assert!(
                    client.consumer.epoch <= reply.epoch,
                    "epochs only grow: {reply:?} after {}",
                    client.consumer.epoch
                );
            }
            let is_fenced = reply.error == ErrorCode::FencedMemberEpoch
                || reply.error == ErrorCode::UnreleasedInstanceId;
            let joined = client.consumer.epoch == JOINS;
            client.consumer.take(&reply);
            if is_fenced && joined && self.rng.chance(1, 2) {
                self.clients[at].consumer.id = self.new_id();
            }
        }
    }

    /// No two members have a partition; members are those whom the coordinator knows.
    fn check(&self) {
        let Some(group) = self.world.coordinator.consumer_group("g") else {
            return;
        };
        let mut owners = std::collections::BTreeMap::new();
        let clients = self.clients.iter().map(|client| &client.consumer);
        for consumer in clients.filter(|it| group.state().member(&it.id).is_some()) {
            for place in consumer.owned.all() {
                let other = owners.insert(place, &consumer.id);
                assert_eq!(other, None, "{place:?} is also {}'s", consumer.id);
            }
        }
    }

    fn crash(&mut self) {
        // Some of what was on its way is in the log.
        while self.rng.chance(1, 2)
            && let Some(pending) = self.world.pending.pop_front()
        {
            self.world.log.extend(pending.logged());
        }
        self.world.restart();
        self.clients
            .iter_mut()
            .for_each(|client| client.waits = None);
        let group = self.world.coordinator.consumer_group("g");
        let epoch = group.map_or(0, |group| group.state().epoch());
        assert!(
            epoch >= self.told,
            "epoch {epoch} after {} was told",
            self.told
        );
    }

    fn step(&mut self) {
        let at = self.rng.below(self.clients.len().max(1) as u64) as usize;
        let is_one = at < self.clients.len();
        match self.rng.below(40) {
            0..3 => self.come(),
            3 if is_one => self.leave(at),
            4 if is_one => self.clients[at].is_still ^= true,
            5 => {
                let topic = TOPICS[self.rng.below(3) as usize];
                let all = self.topics.all();
                let before = all.iter().find(|(name, ..)| **name == *topic);
                match before {
                    Some(_) if self.rng.chance(1, 3) => self.topics.delete(topic),
                    before => self.topics.set(
                        topic,
                        before.map_or(0, |it| it.2) + 1 + self.rng.below(3) as i32,
                    ),
                }
            }
            6 if self.rng.chance(1, 3) => self.crash(),
            7 => self.world.append_ends(Err(ErrorCode::NotEnoughReplicas)),
            8 => self.world.append_is_late(),
            9 => self.world.hold_appends ^= true,
            10..14 => self.world.append_ends(Ok(())),
            14..18 => self.world.advance(self.rng.below(3_000)),
            18 if self.rng.chance(1, 8) => self.world.advance(50_000),
            19 if is_one => {
                let regex = [None, Some("a|c"), Some(".*"), Some("")][self.rng.below(4) as usize];
                self.clients[at].consumer.regex = regex;
            }
            _ if is_one => self.beat(at),
            _ => {}
        }
        self.take_answers();
        self.check();
    }

    /// Topics go until a group may be subscribed to all.
    fn shrink(&self) {
        loop {
            let all = self.topics.all();
            let count: i32 = all.iter().map(|(.., count)| count).sum();
            if count as usize <= self.world.partitions_max() {
                break;
            }
            self.topics.delete(&all[0].0);
        }
    }

    /// From now on everything goes well.
    fn settle(&mut self) {
        self.world.hold_appends = false;
        self.world.flush();
        self.shrink();
        for round in 0..60 {
            for at in 0..self.clients.len() {
                self.clients[at].is_still = false;
                if self.clients[at].waits.is_none() {
                    let is_lost = false;
                    // As a client does that starts over: it says all.
                    let request = self.clients[at].consumer.full();
                    let token = self.world.send_beat(request);
                    self.clients[at].waits = Some((token, is_lost));
                }
            }
            self.world.advance(match round % 10 {
                9 => 20_000,
                _ => 2_000,
            });
            self.take_answers();
            self.check();
        }
    }

    fn check_all_have_what_is_theirs(&self) {
        if self.clients.is_empty() {
            return;
        }
        assert_eq!(self.world.consumer_state(), "Stable");
        let group = self.world.coordinator.consumer_group("g").unwrap();
        let mut all = 0;
        for Client { consumer, .. } in &self.clients {
            let state = group.state();
            assert!(state.member(&consumer.id).is_some(), "{consumer:?}");
            assert_eq!(*state.target(&consumer.id), consumer.owned);
            assert_eq!(
                state.current(&consumer.id).assigned.count(),
                consumer.count()
            );
            all += consumer.count();
        }
        assert_eq!(group.state().members().len(), self.clients.len());
        let topics = self.topics.all().into_iter();
        let used = topics.filter(|(name, ..)| group.state().is_subscribed_to(name));
        assert_eq!(used.map(|(.., count)| count as usize).sum::<usize>(), all);
    }
}

#[test]
fn partitions_have_one_owner_and_everybody_comes_to_their_own() {
    let mut answered = 0;
    for seed in 0..100 {
        let mut model = Model::new(seed);
        for _ in 0..400 {
            model.step();
        }
        model.settle();
        model.check_all_have_what_is_theirs();
        let before = model.world.replayed();
        let group = |it: &super::Coordinator| {
            let group = it.consumer_group("g");
            group.map(|group| group.state().all().collect::<Vec<_>>())
        };
        assert_eq!(
            group(&before),
            group(&model.world.coordinator),
            "seed {seed}"
        );
        answered += model.answered;
    }
    assert!(answered > 5_000, "{answered} answers");
}
