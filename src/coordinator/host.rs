//! The coordinators of a shard, by partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ask::{GroupAnswer, GroupPlace, Question};
use super::instance::{Instance, InstanceEffect, InstanceState};
use crate::base::{ErrorCode, Mono, Now, Rng, Timers, TopicId, limits};
use crate::group::records::RecordError;
use crate::group::streams::InternalTopic;
use crate::group::{
    ConsumerConfig, GroupConfig, GroupTopics, GroupsUsage, Name, News, OwnSettings, Record,
    Replayed, SnapshotPart, StreamsConfig, TopicIds, TransactionalProducer,
};

/// What the host wants done. Each question gets one answer, sooner or later.
#[derive(Debug)]
pub enum HostEffect {
    /// Answer the question of this token.
    Answer(u64, GroupAnswer),
    /// A consumer group is subscribed to more than it may be, and goes on with the target that it has.
    TooLarge(Name),
    /// A streams group needs these topics: they are to be created, if they can be. If they are not it asks again.
    CreateTopics(Name, Vec<InternalTopic>),
    /// Something became of a group, for the log.
    News(Name, News),
    /// Append these records to this partition as one batch, so that all count or none; then call
    /// [`Host::appended`] with the number.
    Append {
        /// The partition.
        partition: i32,
        /// Number of the append, within the partition.
        append: u64,
        /// At least one.
        records: Arc<[Record]>,
        /// In a transaction of this one.
        producer: Option<TransactionalProducer>,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Host {
    config: GroupConfig,
    /// For the seeds of instances.
    rng: Rng,
    instances: BTreeMap<i32, Instance>,
    /// What the groups of all of them take.
    usage: GroupsUsage,
    /// When instances have something to do by themselves.
    due: Timers<i32>,
    /// Those that delete offsets of topics that are gone.
    sweeping: BTreeSet<i32>,
    stopped: bool,
}

impl Host {
    /// A host without instances. The seed is for member ids.
    #[must_use]
    pub fn new(config: GroupConfig, seed: u64) -> Self {
        Self {
            config,
            rng: Rng::new(seed),
            instances: BTreeMap::new(),
            usage: GroupsUsage {
                groups: 0,
                bytes: 0,
                refreshes: 0,
            },
            due: Timers::default(),
            sweeping: BTreeSet::new(),
            stopped: false,
        }
    }

    /// What the groups of all instances take.
    #[must_use]
    pub const fn usage(&self) -> &GroupsUsage {
        &self.usage
    }

    /// What consumer groups obey has changed.
    pub fn set_consumer_config(&mut self, config: &ConsumerConfig) {
        self.config.consumer = config.clone();
        for instance in self.instances.values_mut() {
            instance.coordinator.set_consumer_config(config.clone());
        }
    }

    /// What streams groups obey has changed.
    pub fn set_streams_config(&mut self, config: &StreamsConfig) {
        self.config.streams = config.clone();
        for instance in self.instances.values_mut() {
            instance.coordinator.set_streams_config(config.clone());
        }
    }

    /// What single groups have of their own has changed.
    pub fn set_own(&mut self, own: &Arc<dyn OwnSettings>) {
        self.config.own = Some(Arc::clone(own));
        for instance in self.instances.values_mut() {
            instance.coordinator.set_own(Arc::clone(own));
        }
    }

    /// Begins to load a partition; false if it has begun before, or none is taken any more.
    pub fn open(&mut self, partition: i32) -> bool {
        if self.stopped || self.instances.contains_key(&partition) {
            return false;
        }
        let instance = Instance::new(self.config.clone(), self.rng.next_u64());
        self.instances.insert(partition, instance);
        true
    }

    /// Applies one record of a partition that is being loaded, in log order. A record that is not understood changes
    /// nothing; the error is for the log. See [`crate::group::Coordinator::replay`].
    ///
    /// # Errors
    /// If the record is malformed.
    pub fn replay(
        &mut self,
        partition: i32,
        record: Replayed<'_>,
        ids: TopicIds<'_>,
    ) -> Result<(), RecordError> {
        let Some(instance) = self.instances.get_mut(&partition) else {
            return Ok(());
        };
        let before = instance.coordinator.usage();
        let replayed = instance.replay(record, ids);
        self.usage = moved(self.usage, before, instance.coordinator.usage());
        replayed
    }

    /// A marker of a transaction in a partition that is committed: while it is loaded in log order among its records,
    /// later among the ends of its appends.
    pub fn marker(&mut self, partition: i32, producer: i64, commits: bool) {
        self.with(partition, &mut Vec::new(), |instance, _| {
            instance.marker(producer, commits);
        });
    }

    /// A partition cannot be read: see [`InstanceState::Failed`].
    pub fn fail(&mut self, partition: i32) {
        if let Some(instance) = self.instances.get_mut(&partition) {
            let before = instance.coordinator.usage();
            instance.fail(self.config.clone());
            self.usage = moved(self.usage, before, instance.coordinator.usage());
        }
    }

    /// Every record of a partition has been replayed; call it also if there was none.
    pub fn loaded(&mut self, now: Now, partition: i32, out: &mut Vec<HostEffect>) {
        self.with(partition, out, |instance, wanted| {
            instance.loaded(now, wanted)
        });
    }

    /// The state of an instance, if there is one.
    #[must_use]
    pub fn state(&self, partition: i32) -> Option<InstanceState> {
        self.instances.get(&partition).map(Instance::state)
    }

    /// Asks.
    pub fn ask(
        &mut self,
        now: Now,
        token: u64,
        question: Question,
        topics: &dyn GroupTopics,
        out: &mut Vec<HostEffect>,
    ) {
        let (partition, ask) = match question {
            Question::List(after) => {
                return out.push(HostEffect::Answer(token, self.list(after.as_ref())));
            }
            Question::To(partition, ask) => (partition, ask),
        };
        let error = if self.stopped {
            ErrorCode::CoordinatorNotAvailable
        } else if let Some(flaw) = ask.flaw() {
            flaw
        } else if self.instances.contains_key(&partition) {
            return self.with(partition, out, |instance, wanted| {
                instance.ask(now, token, ask, topics, wanted);
            });
        } else {
            ErrorCode::NotCoordinator
        };
        out.push(HostEffect::Answer(token, ask.refused(error)));
    }

    /// Some groups behind this one.
    fn list(&self, after: Option<&GroupPlace>) -> GroupAnswer {
        let mut states = self.instances.values().map(Instance::state);
        GroupAnswer::Listed(if self.stopped {
            Err(ErrorCode::CoordinatorNotAvailable)
        } else if states.any(|state| state == InstanceState::Loading) {
            Err(ErrorCode::CoordinatorLoadInProgress)
        } else {
            let from = after.map_or(i32::MIN, |(partition, _)| *partition);
            let mut all = self.instances.range(from..).flat_map(|(of, instance)| {
                let after = after.filter(|(partition, _)| partition == of);
                let groups = instance.list(after.map(|(_, id)| id));
                groups.map(|listed| (*of, listed))
            });
            let some = all.by_ref().take(limits::LISTED_PER_SLICE);
            let (mut groups, mut last) = (Vec::new(), None);
            for (partition, listed) in some {
                last = Some((partition, listed.id.clone()));
                groups.push(listed);
            }
            Ok((groups, last.filter(|_| all.next().is_some())))
        })
    }

    /// Whoever waits for an append is told this error, though it may be committed yet; see
    /// [`crate::group::Coordinator::late`].
    pub fn late(
        &mut self,
        now: Now,
        (partition, append): (i32, u64),
        error: ErrorCode,
        out: &mut Vec<HostEffect>,
    ) {
        self.with(partition, out, |instance, wanted| {
            instance.late(now, append, error, wanted);
        });
    }

    /// Whether a partition has a late append. Nothing more should be appended before that has ended: it would have to
    /// be kept for as long.
    #[must_use]
    pub fn is_behind(&self, partition: i32) -> bool {
        let instance = self.instances.get(&partition);
        instance.is_some_and(|instance| instance.coordinator.is_behind())
    }

    /// An append has ended. Those of one partition that are committed must be reported in the order in which they were
    /// asked for.
    pub fn appended(
        &mut self,
        now: Now,
        partition: i32,
        append: u64,
        result: Result<(), ErrorCode>,
        out: &mut Vec<HostEffect>,
    ) {
        self.with(partition, out, |instance, wanted| {
            instance.appended(now, append, result, wanted);
        });
    }

    /// Bytes that the records take which are still valid of a partition, about.
    #[must_use]
    pub fn durable_bytes(&self, partition: i32) -> usize {
        let instance = self.instances.get(&partition);
        instance.map_or(0, |instance| instance.coordinator.durable_bytes())
    }

    /// Begins a snapshot of a partition, if there can be one; see [`crate::group::Coordinator::begin_snapshot`].
    pub fn begin_snapshot(&mut self, partition: i32) -> bool {
        let instance = self.instances.get_mut(&partition);
        instance.is_some_and(|instance| instance.coordinator.begin_snapshot())
    }

    /// Goes on with the snapshot of a partition; see [`crate::group::Coordinator::snapshot_part`].
    pub fn snapshot_part(&mut self, partition: i32, bytes_max: usize) -> SnapshotPart {
        let instance = self.instances.get_mut(&partition);
        instance.map_or(SnapshotPart::Lost, |instance| {
            instance.coordinator.snapshot_part(bytes_max)
        })
    }

    /// Gives up the snapshot of a partition.
    pub fn end_snapshot(&mut self, partition: i32) {
        if let Some(instance) = self.instances.get_mut(&partition) {
            instance.coordinator.end_snapshot();
        }
    }

    /// Topics are gone, and so are the offsets committed for them in this partition, or in all:
    /// [`Host::sweep_part`] deletes them.
    pub fn begin_sweep(&mut self, partition: Option<i32>) {
        let all = self.instances.iter_mut();
        let some = all.filter(|(of, _)| partition.is_none_or(|partition| partition == **of));
        for (partition, instance) in some {
            if instance.begin_sweep() {
                self.sweeping.insert(*partition);
            }
        }
    }

    /// Whether [`Host::sweep_part`] has something to do now.
    #[must_use]
    pub fn can_sweep(&self) -> bool {
        let mut sweeping = self.sweeping.iter();
        sweeping.any(|partition| self.instances[partition].coordinator.can_sweep())
    }

    /// Deletes some more offsets of topics that are gone, a slice of what can be done now.
    pub fn sweep_part(
        &mut self,
        now: Now,
        is_gone: impl Fn(&str, TopicId) -> bool,
        out: &mut Vec<HostEffect>,
    ) {
        let mut left = limits::OFFSETS_PER_SLICE;
        for partition in self.sweeping.clone() {
            if left == 0 {
                break;
            }
            self.with(partition, out, |instance, wanted| {
                instance.sweep_part(now, &is_gone, &mut left, wanted);
            });
        }
    }

    /// Does what is due, a slice of it; the rest still is.
    pub fn tick(&mut self, now: Now, topics: &dyn GroupTopics, out: &mut Vec<HostEffect>) {
        let mut left = limits::OFFSETS_PER_SLICE;
        while left > 0
            && let Some(partition) = self.due.pop_due(now.mono)
        {
            left -= 1;
            self.with(partition, out, |instance, wanted| {
                instance.tick(now, topics, &mut left, wanted);
            });
        }
    }

    /// When [`Host::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        self.due.next_deadline()
    }

    /// A partition is given up: who waits for a rebalance gets NOT_COORDINATOR. Appends in flight still end with
    /// [`Host::appended`]; when they have, it [may be opened](Host::open) again.
    pub fn unload(&mut self, now: Now, partition: i32, out: &mut Vec<HostEffect>) {
        self.with(partition, out, |instance, wanted| {
            instance.unload(now, wanted);
        });
    }

    /// The broker goes down: who waits for a rebalance gets NOT_COORDINATOR, further questions get
    /// COORDINATOR_NOT_AVAILABLE. Appends in flight still end with [`Host::appended`].
    pub fn stop(&mut self, now: Now, out: &mut Vec<HostEffect>) {
        self.stopped = true;
        let all: Vec<i32> = self.instances.keys().copied().collect();
        for partition in all {
            self.with(partition, out, |instance, wanted| {
                instance.unload(now, wanted)
            });
        }
    }

    /// Lets an instance do something, and passes on what it wants.
    fn with(
        &mut self,
        partition: i32,
        out: &mut Vec<HostEffect>,
        act: impl FnOnce(&mut Instance, &mut Vec<InstanceEffect>),
    ) {
        let Some(instance) = self.instances.get_mut(&partition) else {
            return;
        };
        let mut wanted = Vec::new();
        let before = instance.coordinator.usage();
        instance.coordinator.set_room(GroupsUsage {
            groups: limits::GROUPS_MAX.saturating_sub(self.usage.groups),
            bytes: limits::GROUPS_BYTES_MAX.saturating_sub(self.usage.bytes),
            refreshes: limits::GROUP_REFRESHES_MAX.saturating_sub(self.usage.refreshes),
        });
        act(instance, &mut wanted);
        self.usage = moved(self.usage, before, instance.coordinator.usage());
        out.extend(wanted.into_iter().map(|wanted| match wanted {
            InstanceEffect::Answer(token, answer) => HostEffect::Answer(token, answer),
            InstanceEffect::TooLarge(group) => HostEffect::TooLarge(group),
            InstanceEffect::CreateTopics(group, topics) => HostEffect::CreateTopics(group, topics),
            InstanceEffect::News(group, news) => HostEffect::News(group, news),
            InstanceEffect::Append {
                append,
                records,
                producer,
            } => HostEffect::Append {
                partition,
                append,
                records,
                producer,
            },
        }));
        match instance.coordinator.sweeps() {
            true => self.sweeping.insert(partition),
            false => self.sweeping.remove(&partition),
        };
        let deadline = instance.coordinator.next_deadline();
        if instance.is_unloaded() {
            // What was on its way when it was unloaded may have been replayed.
            let none = GroupsUsage {
                groups: 0,
                bytes: 0,
                refreshes: 0,
            };
            self.usage = moved(self.usage, instance.coordinator.usage(), none);
            self.instances.remove(&partition);
        }
        if deadline == Mono::NEVER {
            self.due.cancel(&partition);
        } else {
            self.due.set(partition, deadline);
        }
    }

    /// Panics if something is wrong inside. For tests and the simulator.
    pub fn invariants(&self) {
        self.due.invariants();
        let of_each = self.instances.values().map(|i| i.coordinator.usage());
        let none = GroupsUsage {
            groups: 0,
            bytes: 0,
            refreshes: 0,
        };
        let all = of_each.fold(none, |all, usage| moved(all, none, usage));
        assert_eq!(self.usage, all, "what the groups take");
        for (partition, instance) in &self.instances {
            instance.invariants();
            assert_eq!(
                self.sweeping.contains(partition),
                instance.coordinator.sweeps(),
                "offsets of topics that are gone"
            );
            let sleeps = instance.coordinator.next_deadline() == Mono::NEVER;
            assert_eq!(
                self.due.contains(partition),
                !sleeps,
                "partition {partition} would miss its time"
            );
        }
    }
}

/// What all take when one of them takes no longer `before` but `after`.
fn moved(all: GroupsUsage, before: GroupsUsage, after: GroupsUsage) -> GroupsUsage {
    GroupsUsage {
        groups: all.groups + after.groups - before.groups,
        bytes: all.bytes + after.bytes - before.bytes,
        refreshes: all.refreshes + after.refreshes - before.refreshes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::{FetchedOf, GroupAsk, Listed, Stability};
    use crate::group::NoTopics;
    use crate::group::coordinator::HeartbeatRequest;
    use crate::group::testing::commit_of;

    const NOW: Now = Now {
        mono: Mono(1),
        wall_ms: 1_000,
    };

    fn host(partitions: i32) -> Host {
        let mut host = Host::new(GroupConfig::default(), 1);
        for partition in 0..partitions {
            assert!(host.open(partition));
            assert!(!host.open(partition), "once");
        }
        host
    }

    fn loaded(partitions: i32) -> Host {
        let mut host = host(partitions);
        for partition in 0..partitions {
            host.loaded(NOW, partition, &mut Vec::new());
        }
        host
    }

    fn commit(topic: &str) -> GroupAsk {
        GroupAsk::Commit(commit_of(topic, TopicId([7; 16]), NOW))
    }

    fn fetch() -> GroupAsk {
        GroupAsk::Fetch(
            Name::from("g"),
            FetchedOf::AllAfter(None),
            Stability::Any.into(),
        )
    }

    fn ask(host: &mut Host, partition: i32, ask: GroupAsk) -> Vec<HostEffect> {
        let mut out = Vec::new();
        host.ask(NOW, 9, Question::To(partition, ask), &NoTopics, &mut out);
        host.invariants();
        out
    }

    fn answered(host: &mut Host, partition: i32, asked: GroupAsk) -> GroupAnswer {
        match &ask(host, partition, asked)[..] {
            [HostEffect::Answer(9, answer)] => answer.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn append_of(effects: &[HostEffect]) -> (i32, u64) {
        match effects {
            [
                HostEffect::Append {
                    partition, append, ..
                },
            ] => (*partition, *append),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_state_has_its_answer() {
        let mut host = host(3);
        let refused = |error| GroupAnswer::Fetched(Err(error));
        let loading = ErrorCode::CoordinatorLoadInProgress;
        assert_eq!(answered(&mut host, 0, fetch()), refused(loading));
        let heartbeat = || {
            GroupAsk::Heartbeat(HeartbeatRequest {
                group: Name::from("g"),
                member: Name::from("m"),
                instance: None,
                generation: 1,
            })
        };
        let done = GroupAnswer::Done(ErrorCode::None);
        assert_eq!(
            answered(&mut host, 0, heartbeat()),
            done,
            "nobody knows better"
        );
        let list = |host: &mut Host| {
            let mut out = Vec::new();
            host.ask(NOW, 1, Question::List(None), &NoTopics, &mut out);
            out.pop()
        };
        assert!(
            matches!(list(&mut host), Some(HostEffect::Answer(1, GroupAnswer::Listed(Err(e)))) if e == loading)
        );
        host.loaded(NOW, 0, &mut Vec::new());
        host.fail(1);
        host.loaded(NOW, 2, &mut Vec::new());
        let states = [0, 1, 2, 3].map(|partition| host.state(partition));
        let (active, failed) = (Some(InstanceState::Active), Some(InstanceState::Failed));
        assert_eq!(states, [active, failed, active, None]);
        let not_here = refused(ErrorCode::NotCoordinator);
        assert_eq!(
            answered(&mut host, 0, fetch()),
            GroupAnswer::Fetched(Ok((vec![], false)))
        );
        assert_eq!(answered(&mut host, 1, fetch()), not_here);
        let elsewhere = GroupAnswer::Done(ErrorCode::NotCoordinator);
        assert_eq!(answered(&mut host, 1, heartbeat()), elsewhere);
        assert_eq!(answered(&mut host, 3, fetch()), not_here);
        assert!(host.begin_snapshot(0) && !host.begin_snapshot(1));
        // A commit is on its way when the host stops: it is answered, and then its instance is gone.
        let (partition, append) = append_of(&ask(&mut host, 2, commit("t")));
        let mut out = Vec::new();
        host.stop(NOW, &mut out);
        host.invariants();
        assert!(out.is_empty());
        let states = [0, 1, 2].map(|partition| host.state(partition));
        assert_eq!(states, [None, None, Some(InstanceState::Unloading)]);
        let stopped = refused(ErrorCode::CoordinatorNotAvailable);
        assert_eq!(answered(&mut host, 2, fetch()), stopped);
        host.appended(NOW, partition, append, Ok(()), &mut out);
        assert!(matches!(
            out[..],
            [HostEffect::Answer(9, GroupAnswer::Done(ErrorCode::None))]
        ));
        assert_eq!(host.state(2), None);
        host.invariants();
        assert!(!host.open(2), "nothing is taken any more");
    }

    #[test]
    fn instances_know_nothing_of_each_other() {
        let mut host = loaded(2);
        for partition in [1, 0] {
            let (of, append) = append_of(&ask(&mut host, partition, commit("t")));
            assert_eq!((of, append), (partition, 1), "numbers are their own");
            host.appended(NOW, of, append, Ok(()), &mut Vec::new());
        }
        let (of, append) = append_of(&ask(&mut host, 1, GroupAsk::Delete(Name::from("g"))));
        host.appended(NOW, of, append, Ok(()), &mut Vec::new());
        let fetched = |host: &mut Host, partition| match answered(host, partition, fetch()) {
            GroupAnswer::Fetched(Ok((topics, _))) => topics.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!((fetched(&mut host, 0), fetched(&mut host, 1)), (1, 0));
        let mut out = Vec::new();
        host.ask(NOW, 1, Question::List(None), &NoTopics, &mut out);
        let [HostEffect::Answer(1, GroupAnswer::Listed(Ok((listed, None))))] = &out[..] else {
            panic!("{out:?}");
        };
        let ids: Vec<&str> = listed.iter().map(|Listed { id, .. }| &**id).collect();
        assert_eq!(ids, ["g"]);
    }

    #[test]
    fn there_is_room_for_so_much_whatever_partition_it_is_in() {
        let mut host = loaded(2);
        let refused = GroupAnswer::Done(ErrorCode::CoordinatorNotAvailable);
        let spare = host.usage;
        // As if others had taken it: what is on its way counts.
        host.usage.bytes = limits::GROUPS_BYTES_MAX - 10;
        let mut out = Vec::new();
        host.ask(NOW, 9, Question::To(0, commit("t")), &NoTopics, &mut out);
        host.usage.bytes = limits::GROUPS_BYTES_MAX - 1_000;
        host.ask(NOW, 9, Question::To(1, commit("t")), &NoTopics, &mut out);
        assert!(matches!(&out[0], HostEffect::Answer(9, answer) if *answer == refused));
        let (of, append) = append_of(&out[1..]);
        assert!(host.usage.bytes > limits::GROUPS_BYTES_MAX - 1_000);
        host.usage.bytes -= limits::GROUPS_BYTES_MAX - 1_000;
        host.appended(NOW, of, append, Ok(()), &mut out);
        host.invariants();
        assert!(host.usage.bytes > spare.bytes && host.usage.groups == 1);
        host.usage.groups = limits::GROUPS_MAX;
        out.clear();
        host.ask(NOW, 9, Question::To(0, commit("t")), &NoTopics, &mut out);
        host.ask(NOW, 9, Question::To(1, commit("t")), &NoTopics, &mut out);
        assert!(matches!(&out[0], HostEffect::Answer(9, answer) if *answer == refused));
        append_of(&out[1..]);
        host.usage.groups = 1;
        host.invariants();
    }

    #[test]
    fn offsets_of_topics_that_are_gone_are_deleted_in_every_partition() {
        let mut host = loaded(2);
        for (partition, topic) in [(0, "t"), (1, "t"), (1, "u")] {
            let (of, append) = append_of(&ask(&mut host, partition, commit(topic)));
            host.appended(NOW, of, append, Ok(()), &mut Vec::new());
        }
        let gone = |topic: &str, _| topic == "t";
        let mut out = Vec::new();
        for (asked, swept) in [(Some(1), vec![1]), (None, vec![0])] {
            host.begin_sweep(asked);
            while host.can_sweep() {
                host.sweep_part(NOW, gone, &mut out);
            }
            let appends = out.drain(..).map(|effect| append_of(&[effect]));
            let appends: Vec<_> = appends.collect();
            assert!(appends.iter().map(|(of, _)| *of).eq(swept));
            for (of, append) in appends {
                host.appended(NOW, of, append, Ok(()), &mut Vec::new());
                host.invariants();
            }
            assert!(!host.can_sweep());
        }
    }

    #[test]
    fn the_offsets_of_a_topic_are_told_some_at_a_time() {
        const MANY: i32 = 2 * limits::OFFSETS_TOLD_PER_SLICE as i32;
        let mut host = loaded(1);
        let mut commit = commit_of("t", TopicId([1; 16]), NOW);
        let one = commit.offsets.remove(0);
        for partition in 0..MANY {
            let mut one = one.clone();
            one.partition = partition;
            let bytes = if partition % 100 == 0 { 5_000 } else { 0 };
            one.committed.metadata = Name::from("m".repeat(bytes));
            commit.offsets.push(one);
        }
        let (of, append) = append_of(&ask(&mut host, 0, GroupAsk::Commit(commit)));
        host.appended(NOW, of, append, Ok(()), &mut Vec::new());
        let (mut told, mut after, mut slices) = (Vec::new(), None, 0);
        loop {
            let fetch = GroupAsk::Fetch(
                Name::from("g"),
                FetchedOf::AllAfter(after),
                Stability::Any.into(),
            );
            let answer = answered(&mut host, 0, fetch);
            assert!(answer.things() < limits::OFFSETS_TOLD_PER_SLICE + 200);
            let GroupAnswer::Fetched(Ok((topics, more))) = answer else {
                panic!("{answer:?}");
            };
            slices += 1;
            told.extend(topics[0].1.iter().map(|(partition, _)| *partition));
            after = told.last().map(|last| (Name::from("t"), *last));
            if !more {
                break;
            }
        }
        assert!(slices > 3 && told.into_iter().eq(0..MANY), "{slices}");
    }

    #[test]
    fn groups_are_listed_some_at_a_time() {
        let mut host = loaded(2);
        let mut ids = Vec::new();
        for n in 0..limits::LISTED_PER_SLICE + 7 {
            let (id, partition) = (Name::from(format!("g-{n}")), n as i32 % 2);
            let mut commit = commit_of("t", TopicId([1; 16]), NOW);
            commit.group = id.clone();
            let asked = ask(&mut host, partition, GroupAsk::Commit(commit));
            let (of, append) = append_of(&asked);
            host.appended(NOW, of, append, Ok(()), &mut Vec::new());
            ids.push((partition, id));
        }
        ids.sort();
        let (mut listed, mut after) = (Vec::new(), None);
        for most in [limits::LISTED_PER_SLICE, 7] {
            let mut out = Vec::new();
            host.ask(NOW, 1, Question::List(after), &NoTopics, &mut out);
            let Some(HostEffect::Answer(_, GroupAnswer::Listed(Ok((some, last))))) = out.pop()
            else {
                panic!("{out:?}");
            };
            assert_eq!(some.len(), most);
            listed.extend(some.into_iter().map(|group| group.id));
            after = last;
        }
        assert_eq!(after, None);
        assert!(listed.iter().eq(ids.iter().map(|(_, id)| id)));
    }

    #[test]
    fn what_is_due_in_many_partitions_is_done_in_slices() {
        let mut host = loaded(3);
        let mut ends = Vec::new();
        for partition in 0..3 {
            for group in 0..limits::OFFSETS_PER_SLICE {
                let mut commit = commit_of("t", TopicId([1; 16]), NOW);
                commit.group = Name::from(group.to_string());
                let commit = GroupAsk::Commit(commit);
                ends.push(append_of(&ask(&mut host, partition, commit)));
            }
        }
        for (of, append) in ends {
            host.appended(NOW, of, append, Ok(()), &mut Vec::new());
        }
        let config = GroupConfig::default();
        let later = Now {
            mono: NOW
                .mono
                .plus_ms(8 * config.offsets_retention_ms.unsigned_abs() / 7),
            wall_ms: NOW.wall_ms + 8 * config.offsets_retention_ms / 7,
        };
        let (mut ticks, mut appends) = (0, 0);
        let mut now = later;
        while host.next_deadline() <= now.mono {
            let mut out = Vec::new();
            host.tick(now, &NoTopics, &mut out);
            assert!(out.len() <= limits::OFFSETS_PER_SLICE / 4, "{}", out.len());
            appends += out.len();
            ticks += 1;
            now.mono = now.mono.plus_ms(1);
        }
        assert_eq!(appends, 3 * limits::OFFSETS_PER_SLICE);
        assert!(ticks > 12, "{ticks}");
    }

    #[test]
    fn what_is_due_is_done_whichever_partition_it_is_of() {
        let mut host = loaded(3);
        let interval = GroupConfig::default().offsets_retention_check_interval_ms;
        assert_eq!(host.next_deadline(), NOW.mono.plus_ms(interval));
        let later = Now {
            mono: NOW.mono.plus_ms(interval),
            ..NOW
        };
        host.tick(later, &NoTopics, &mut Vec::new());
        host.invariants();
        assert_eq!(host.next_deadline(), later.mono.plus_ms(interval));
    }

    #[test]
    fn a_member_of_no_group_is_told_so() {
        let mut host = loaded(1);
        let invalid = ErrorCode::InvalidGroupId;
        let leave = GroupAsk::Leave(Name::from(""), Vec::new());
        assert_eq!(
            answered(&mut host, 5, leave),
            GroupAnswer::Left(Err(invalid))
        );
    }
}
