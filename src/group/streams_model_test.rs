//! Random members of one streams group: answers get lost, appends fail or end late, processes crash, topics change,
//! members come, go, stand still, and ask again. Whatever happens, no task is run by two members at once, epochs grow,
//! what was told is remembered, and in the end everybody has what is to be their own.

use std::collections::BTreeMap;

use super::consumer::{JOINS, LEAVES, LEAVES_FOR_A_WHILE};
use super::consumer_testing::FakeTopics;
use super::streams::{StreamsConfig, Tasks};
use super::streams_testing::Streamer;
use super::testing::World;
use super::{GroupConfig, Name};
use crate::base::{ErrorCode, Rng};

struct Client {
    member: Streamer,
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
    moved: usize,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let slice = [1, 7, 4096][rng.below(3) as usize];
        let config = GroupConfig {
            streams: StreamsConfig {
                max_size: 6,
                slice,
                standby_replicas: rng.below(3) as usize,
                initial_rebalance_delay_ms: rng.below(2) * 3_000,
                assignment_interval_ms: rng.below(2) * 1_000,
                ..StreamsConfig::default()
            },
            ..GroupConfig::default()
        };
        let (mut world, topics) = World::with_topics(config);
        world.slice = slice + 32;
        for topic in ["in", "re", "log"] {
            topics.set(topic, 3);
        }
        Self {
            rng,
            world,
            topics,
            clients: Vec::new(),
            begun: 0,
            told: 0,
            answered: 0,
            moved: 0,
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
        let process = format!("p{}", self.rng.below(3));
        let mut member = Streamer::new(&self.new_id(), &process);
        if self.rng.chance(1, 3) {
            let instance = format!("i{}", self.rng.below(2));
            let mut clients = self.clients.iter();
            if !clients.any(|it| it.member.instance.as_deref() == Some(&*instance)) {
                member.instance = Some(Name::from(instance));
            }
        }
        self.clients.push(Client {
            member,
            waits: None,
            is_still: false,
        });
    }

    fn beat(&mut self, at: usize) {
        let client = &self.clients[at];
        if client.waits.is_some() || client.is_still {
            return;
        }
        let joins = client.member.epoch == JOINS;
        let mut request = match joins {
            true => client.member.joins(),
            false => client.member.short(),
        };
        if !joins && self.rng.chance(1, 3) {
            request.owned = None;
        }
        let is_lost = self.rng.chance(1, 6);
        // It may be sent twice.
        if self.rng.chance(1, 10) {
            self.world.send_streams(request.clone());
        }
        let token = self.world.send_streams(request);
        self.clients[at].waits = Some((token, is_lost));
    }

    fn leave(&mut self, at: usize) {
        if self.clients[at].waits.is_some() {
            return;
        }
        let mut client = self.clients.remove(at);
        // What it had it has given up before it says so.
        client.member.owned = Tasks::default();
        let for_a_while = client.member.instance.is_some() && self.rng.chance(1, 2);
        client.member.epoch = match for_a_while {
            true => LEAVES_FOR_A_WHILE,
            false => LEAVES,
        };
        let token = self.world.send_streams(client.member.short());
        if for_a_while && self.rng.chance(2, 3) {
            client.member.id = self.new_id();
            client.member.epoch = JOINS;
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
            let Some(reply) = self.world.streams_heartbeats.remove(&token) else {
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
                let before = client.member.epoch;
                assert!(
                    before <= reply.epoch,
                    "epochs only grow: {reply:?} after {before}"
                );
                self.moved += reply.assigned.as_ref().map_or(0, |it| it.assigned.count());
            }
            let is_fenced = reply.error == ErrorCode::FencedMemberEpoch
                || reply.error == ErrorCode::UnreleasedInstanceId;
            let joined = client.member.epoch == JOINS;
            client.member.take(&reply);
            if is_fenced && joined && self.rng.chance(1, 2) {
                self.clients[at].member.id = self.new_id();
            }
        }
    }

    /// Whoever makes topics makes those that are asked for, as they were asked for, perhaps.
    fn create(&mut self) {
        for topic in std::mem::take(&mut self.world.created) {
            let all = self.topics.all();
            if !all.iter().any(|(name, ..)| **name == *topic.name) && self.rng.chance(3, 4) {
                self.topics.set(&topic.name, topic.partitions);
            }
        }
    }

    /// No two members run a task; members are those whom the coordinator knows.
    fn check(&self) {
        let Some(group) = self.world.coordinator.streams_group("g") else {
            return;
        };
        group.invariants();
        let mut owners = BTreeMap::new();
        let members = self.clients.iter().map(|client| &client.member);
        for member in members.filter(|it| group.state().member(&it.id).is_some()) {
            for task in member.owned.active.all() {
                let other = owners.insert(task.clone(), &member.id);
                assert_eq!(other, None, "{task:?} is also {}'s", member.id);
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
        let group = self.world.coordinator.streams_group("g");
        let epoch = group.map_or(0, |group| group.state().epoch());
        let told = self.told;
        assert!(epoch >= told, "epoch {epoch} after {told} was told");
    }

    fn step(&mut self) {
        let at = self.rng.below(self.clients.len().max(1) as u64) as usize;
        let is_one = at < self.clients.len();
        match self.rng.below(40) {
            0..3 => self.come(),
            3 if is_one => self.leave(at),
            4 if is_one => self.clients[at].is_still ^= true,
            5 => match self.rng.below(4) {
                0 => self.topics.set("in", 1 + self.rng.below(4) as i32),
                1 => self
                    .topics
                    .delete(["in", "re", "log"][self.rng.below(3) as usize]),
                _ => self.create(),
            },
            6 if self.rng.chance(1, 3) => self.crash(),
            7 => self.world.append_ends(Err(ErrorCode::NotEnoughReplicas)),
            8 => self.world.append_is_late(),
            9 => self.world.hold_appends ^= true,
            10..14 => self.world.append_ends(Ok(())),
            14..18 => self.world.advance(self.rng.below(3_000)),
            18 if self.rng.chance(1, 8) => self.world.advance(50_000),
            _ if is_one => self.beat(at),
            _ => {}
        }
        self.take_answers();
        self.check();
    }

    /// From now on everything goes well.
    fn settle(&mut self) {
        self.world.hold_appends = false;
        self.world.flush();
        // Topics are made anew: nothing else helps when there are more partitions than there were.
        for topic in ["in", "re", "log"] {
            self.topics.delete(topic);
        }
        self.world.created.clear();
        self.topics.set("in", 3);
        for round in 0..60 {
            for at in 0..self.clients.len() {
                self.clients[at].is_still = false;
                if self.clients[at].waits.is_none() {
                    let member = &self.clients[at].member;
                    let request = match member.epoch {
                        JOINS => member.joins(),
                        _ => member.short(),
                    };
                    let token = self.world.send_streams(request);
                    self.clients[at].waits = Some((token, false));
                }
            }
            self.world.advance(match round % 10 {
                9 => 20_000,
                _ => 2_000,
            });
            self.take_answers();
            self.create();
            self.check();
        }
    }

    fn check_all_have_what_is_theirs(&self) {
        if self.clients.is_empty() {
            return;
        }
        assert_eq!(self.world.streams_state(), "Stable");
        let group = self.world.coordinator.streams_group("g").unwrap();
        let mut all = 0;
        for Client { member, .. } in &self.clients {
            let state = group.state();
            assert!(state.member(&member.id).is_some(), "{member:?}");
            assert_eq!(*state.target(&member.id), member.owned);
            assert_eq!(
                state.current(&member.id).assigned.count(),
                member.owned.count()
            );
            all += member.owned.active.count();
        }
        assert_eq!(group.state().members().len(), self.clients.len());
        assert_eq!(all, 6, "three tasks of each of two subtopologies");
    }
}

#[test]
fn tasks_are_run_by_one_and_everybody_comes_to_their_own() {
    let (mut answered, mut moved) = (0, 0);
    for seed in 0..100 {
        let mut model = Model::new(seed);
        for _ in 0..400 {
            model.step();
        }
        model.settle();
        model.check_all_have_what_is_theirs();
        let before = model.world.replayed();
        let group = |it: &super::Coordinator| {
            let group = it.streams_group("g");
            group.map(|group| group.state().all().collect::<Vec<_>>())
        };
        assert_eq!(
            group(&before),
            group(&model.world.coordinator),
            "seed {seed}"
        );
        (answered, moved) = (answered + model.answered, moved + model.moved);
    }
    assert!(
        answered > 5_000 && moved > 1_000,
        "{answered} answers, {moved} tasks"
    );
}
