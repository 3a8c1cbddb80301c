//! Random clients against the coordinator: they join, sync, commit, also in transactions, fall silent,
//! leave, writes fail, the broker crashes. What must hold is checked after each step.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::testing::{Client, Logged, LoggedOffsets, World};
use super::{Coordinator, GroupConfig, Name, State};
use crate::base::ErrorCode;

#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    JoinAll,
    Sync(usize),
    SyncAll,
    Heartbeat(usize),
    Leave(usize),
    Commit(usize, i32),
    SimpleCommit(i32),
    /// By nobody if it is none of these, in the transaction of a producer.
    TransactionCommit(usize, i64, i32),
    Verified(bool),
    /// The transaction of a producer, committed or not; the marker is behind so many appends.
    TransactionEnds(i64, bool, usize),
    Forget(usize),
    DeleteGroup,
    AppendEnds(bool),
    AppendIsLate,
    Advance(u64),
    /// So many of the appends on their way are in the log of whoever comes next.
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..4usize;
    prop_oneof![
        8 => who.clone().prop_map(Step::Join),
        3 => Just(Step::JoinAll),
        8 => who.clone().prop_map(Step::Sync),
        3 => Just(Step::SyncAll),
        3 => who.clone().prop_map(Step::Heartbeat),
        1 => who.clone().prop_map(Step::Leave),
        4 => (who.clone(), 0..2).prop_map(|(who, partition)| Step::Commit(who, partition)),
        1 => (0..2).prop_map(Step::SimpleCommit),
        4 => (0..6usize, 0..2i64, 0..2).prop_map(|(who, producer, partition)| {
            Step::TransactionCommit(who, producer, partition)
        }),
        4 => proptest::bool::weighted(0.9).prop_map(Step::Verified),
        3 => (0..2i64, any::<bool>(), 0..3usize).prop_map(|(producer, commits, behind)| {
            Step::TransactionEnds(producer, commits, behind)
        }),
        1 => who.prop_map(Step::Forget),
        1 => Just(Step::DeleteGroup),
        9 => proptest::bool::weighted(0.9).prop_map(Step::AppendEnds),
        3 => Just(Step::AppendIsLate),
        5 => (0..8_000u64).prop_map(Step::Advance),
        3 => (0..3u64).prop_map(Step::Advance),
        1 => (0..4usize).prop_map(Step::Restart),
    ]
}

/// What clients choose by themselves, which nothing checks.
fn rebalance_timeout_ms() -> impl Strategy<Value = i32> {
    prop_oneof![3 => Just(15_000), 1 => 0..300i32, 1 => Just(0), 1 => Just(-5)]
}

/// What a client waits for.
#[derive(Default)]
struct Waits {
    joins: BTreeMap<u64, usize>,
    syncs: BTreeMap<u64, (usize, i32)>,
    commits: BTreeMap<u64, (i32, i64)>,
    transaction_commits: BTreeSet<u64>,
    /// With the newest offset that had been committed by then, durable or not.
    deletes: BTreeMap<u64, i64>,
}

struct Model {
    world: World,
    clients: Vec<Client>,
    waits: Waits,
    acked: BTreeMap<i32, i64>,
    /// No offset up to this one may come back: deleted, and a client was told so.
    deleted: i64,
    /// Those up to this one may be deleted, but nobody may have been told so.
    may_be_deleted: i64,
    next_offset: i64,
    /// Offsets that were committed in transactions, which count, if they do, when those are over.
    in_transactions: BTreeSet<i64>,
    generation: i32,
}

impl Model {
    fn new(rebalance_timeouts_ms: [i32; 4], told_at_a_time: usize) -> Self {
        let config = GroupConfig {
            max_size: 3,
            told_at_a_time,
            ..GroupConfig::default()
        };
        let mut world = World::new(config);
        world.hold_appends = true;
        let mut clients = vec![
            Client::new(),
            Client::new(),
            Client::fixed("one"),
            Client::fixed("two"),
        ];
        clients[1].version = 3;
        clients[3].version = 9;
        for (client, timeout_ms) in clients.iter_mut().zip(rebalance_timeouts_ms) {
            client.rebalance_timeout_ms = timeout_ms;
        }
        Self {
            world,
            clients,
            waits: Waits::default(),
            acked: BTreeMap::new(),
            deleted: 0,
            may_be_deleted: 0,
            next_offset: 0,
            in_transactions: BTreeSet::new(),
            generation: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join(who) => self.join(who),
            Step::JoinAll => (0..self.clients.len()).for_each(|who| self.join(who)),
            Step::Sync(who) => self.sync(who),
            Step::SyncAll => (0..self.clients.len()).for_each(|who| self.sync(who)),
            Step::Heartbeat(who) => {
                let client = self.clients[who].clone();
                if self.world.heartbeat(&client).is_none() {
                    assert_eq!(
                        client.generation,
                        self.current_generation(),
                        "alive in an old generation"
                    );
                }
            }
            Step::Leave(who) => {
                let client = &self.clients[who];
                let left = self
                    .world
                    .leave(&[(&client.id, client.instance.as_deref())]);
                assert!(left.is_err() || left.is_ok_and(|l| l.len() == 1));
            }
            Step::Commit(who, partition) => self.commit(&self.clients[who].clone(), partition),
            Step::SimpleCommit(partition) => self.commit(&Client::new(), partition),
            Step::TransactionCommit(who, producer, partition) => {
                let client = self.clients.get(who).cloned().unwrap_or(Client::new());
                self.next_offset += 1;
                let (offset, partitions) = (self.next_offset, partition..partition + 1);
                self.in_transactions.insert(offset);
                let world = &mut self.world;
                let asked = world.commit_in_transaction(&client, producer, partitions, offset);
                self.waits.transaction_commits.extend(asked.ok());
            }
            Step::Verified(may) => {
                let result = match may {
                    true => Ok(()),
                    false => Err(ErrorCode::InvalidTxnState),
                };
                self.world.verified(result);
            }
            Step::TransactionEnds(producer, commits, behind) => {
                self.world.end_transaction(producer, commits, behind);
            }
            Step::Forget(who) => {
                self.clients[who].id = Name::from("");
                self.clients[who].generation = -1;
            }
            Step::DeleteGroup => {
                let token = self.world.token();
                let (mut effects, now) = (Vec::new(), self.world.now);
                let group = Name::from("g");
                if self
                    .world
                    .coordinator
                    .delete_group(now, token, &group, &mut effects)
                    .is_ok()
                {
                    self.waits.deletes.insert(token, self.next_offset);
                    self.may_be_deleted = self.next_offset;
                }
                self.world.perform(effects);
            }
            Step::AppendEnds(well) => {
                let is_late = self.world.pending.front().is_some_and(|it| it.is_late);
                let result = match well || is_late {
                    true => Ok(()),
                    false => Err(ErrorCode::KafkaStorageError),
                };
                self.world.append_ends(result);
            }
            Step::AppendIsLate => self.world.append_is_late(),
            Step::Advance(ms) => self.world.advance(ms),
            Step::Restart(in_log) => {
                let world = &mut self.world;
                for pending in world.pending.iter().take(in_log) {
                    world.log.extend(pending.logged());
                    let markers = pending.markers.iter();
                    let markers = markers.map(|(of, commits)| Logged::Marker(*of, *commits));
                    world.log.extend(markers);
                }
                world.restart();
                // The connections are gone, and with them who waited.
                self.waits = Waits::default();
                self.generation = 0;
            }
        }
        self.take_answers();
        self.check();
    }

    fn join(&mut self, who: usize) {
        let token = self.world.send_join(&self.clients[who]);
        self.waits.joins.insert(token, who);
        self.take_answers();
    }

    /// A leader assigns the number of the generation to everybody.
    fn sync(&mut self, who: usize) {
        let client = self.clients[who].clone();
        let text = client.generation.to_string();
        let leads = self
            .world
            .coordinator
            .group("g")
            .and_then(|g| g.leader().cloned());
        let all: Vec<(&Client, &str)> = match leads == Some(client.id.clone()) {
            true => self.clients.iter().map(|c| (c, text.as_str())).collect(),
            false => Vec::new(),
        };
        let token = self.world.sync(&client, &all);
        self.waits.syncs.insert(token, (who, client.generation));
    }

    fn commit(&mut self, client: &Client, partition: i32) {
        self.next_offset += 1;
        if let Ok(token) = self.world.commit(client, partition, self.next_offset) {
            self.waits
                .commits
                .insert(token, (partition, self.next_offset));
        }
    }

    fn current_generation(&self) -> i32 {
        self.world
            .coordinator
            .group("g")
            .map_or(0, |g| g.generation())
    }

    fn take_answers(&mut self) {
        for (token, reply) in std::mem::take(&mut self.world.joined) {
            let who = self
                .waits
                .joins
                .remove(&token)
                .expect("somebody waits for this");
            let client = &mut self.clients[who];
            match reply.error {
                ErrorCode::None => {
                    client.id = reply.member.clone();
                    client.generation = reply.generation;
                    let listed = reply.members.iter().any(|m| m.member == reply.leader);
                    assert!(listed || reply.members.is_empty(), "the leader is a member");
                }
                ErrorCode::MemberIdRequired => client.id = reply.member,
                _ => client.id = Name::from(""),
            }
        }
        for (token, reply) in std::mem::take(&mut self.world.synced) {
            let (_, generation) = self
                .waits
                .syncs
                .remove(&token)
                .expect("somebody waits for this");
            if reply.error.is_none() && !reply.assignment.is_empty() {
                assert_eq!(
                    reply.assignment,
                    generation.to_string(),
                    "an assignment of another generation"
                );
            }
        }
        for (token, error) in std::mem::take(&mut self.world.written) {
            if let Some((partition, offset)) = self.waits.commits.remove(&token) {
                if error.is_none() {
                    self.acked.insert(partition, offset);
                }
            } else if !self.waits.transaction_commits.remove(&token) {
                let deleted = self.waits.deletes.remove(&token);
                let deleted = deleted.expect("somebody waits for this");
                if error.is_none() {
                    self.acked.retain(|_, offset| *offset > deleted);
                    self.deleted = self.deleted.max(deleted);
                }
            }
        }
    }

    fn check(&mut self) {
        let generation = self.current_generation();
        if self.world.coordinator.group("g").is_none() {
            self.generation = 0;
        } else {
            assert!(generation >= self.generation, "the generation went back");
            self.generation = generation;
        }
        for (partition, offset) in &self.acked {
            // A later one may be durable whose answer was lost in a crash.
            let now = self.world.offset(*partition);
            if now.is_some_and(|now| self.in_transactions.contains(&now)) {
                continue;
            }
            let is_deleted = now.is_none() && *offset <= self.may_be_deleted;
            assert!(
                now >= Some(*offset) || is_deleted,
                "acked {offset}, now {now:?}"
            );
        }
        let replayed = self.world.replayed();
        let record = |of: &Coordinator| of.groups.get("g").and_then(|entry| entry.record.clone());
        let known = record(&self.world.coordinator);
        assert_eq!(known, record(&replayed), "the log says something else");
        let in_log = LoggedOffsets::of(&self.world.log);
        for known in [&self.world.coordinator, &replayed] {
            assert_eq!(
                known.all_committed(),
                in_log.committed(),
                "the log says something else"
            );
            assert_eq!(
                known.all_pending(),
                in_log.pending(),
                "the log says something else"
            );
        }
        for partition in 0..2 {
            let now = self.world.offset(partition);
            let now = now.filter(|now| !self.in_transactions.contains(now));
            assert!(now.is_none_or(|now| now > self.deleted), "{now:?} is back");
        }
    }

    /// Everybody gets an answer in the end, whether the broker goes down or the clients do.
    fn finish(mut self, stop: bool) {
        self.world.flush();
        self.take_answers();
        if stop {
            let mut effects = Vec::new();
            self.world.coordinator.unload(self.world.now, &mut effects);
            self.world.perform(effects);
        } else {
            self.world.hold_appends = false;
            self.world.advance(20 * 60_000);
            assert!(matches!(self.world.state(), State::Empty | State::Dead));
        }
        self.take_answers();
        assert!(self.waits.joins.is_empty(), "a join was forgotten");
        assert!(self.waits.syncs.is_empty(), "a sync was forgotten");
        assert!(self.waits.commits.is_empty(), "a commit was forgotten");
        assert!(
            self.waits.transaction_commits.is_empty(),
            "one was forgotten"
        );
        assert!(self.waits.deletes.is_empty(), "a deletion was forgotten");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn random_clients(steps in proptest::collection::vec(step(), 1..120),
                      timeouts_ms in proptest::array::uniform4(rebalance_timeout_ms()),
                      told_at_a_time in 1..5usize, stop: bool) {
        let mut model = Model::new(timeouts_ms, told_at_a_time);
        for step in steps {
            model.step(step);
        }
        model.finish(stop);
    }
}
