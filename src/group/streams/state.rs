//! What is known of a streams group. It changes by [`StreamsChange`]s alone, be they read from the log or decided now,
//! and each can be taken back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::consumer::{Changing, TargetEpoch};
use super::change::{StreamsChange, StreamsEpoch};
use super::member::{StreamsCurrent, StreamsMember};
use super::tasks::{HeldTasks, Tasks};
use super::topology::Topology;
use crate::base::{IdMap, Name};

/// Who has a task, or is still to give it up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Holders {
    /// Who runs it.
    active: Option<Name>,
    /// Who has it as a standby or warmup task; once for each.
    replicas: Vec<Name>,
}

/// See the module. The second half follows from the first.
#[derive(Debug, Default)]
pub struct StreamsState {
    epoch: Option<Arc<StreamsEpoch>>,
    target: Option<TargetEpoch>,
    topology: Option<Arc<Topology>>,
    members: BTreeMap<Name, Arc<StreamsMember>>,
    targets: BTreeMap<Name, Arc<Tasks>>,
    currents: BTreeMap<Name, Arc<StreamsCurrent>>,
    /// Static members by instance.
    statics: BTreeMap<Name, Name>,
    /// By subtopology and partition.
    holders: BTreeMap<Name, IdMap<i32, Holders>>,
    /// Members that have nothing more to do until there is another target.
    reconciled: usize,
    /// What members take, about, and what all else does.
    members_bytes: usize,
    other_bytes: usize,
    /// Bytes of the records that stand for all of it, about.
    record_bytes: usize,
}

/// The epoch of a group, and of its target, before there is a record of it, as in Kafka.
const FIRST_EPOCH: i32 = 1;
/// What an entry of a table takes besides its value, and a record besides its own.
const ENTRY_BYTES: usize = 64;
/// What a task takes in the table of holders.
const HELD_BYTES: usize = 64;

fn set<T>(map: &mut BTreeMap<Name, Arc<T>>, id: &Name, to: Option<Arc<T>>) -> Option<Arc<T>> {
    match to {
        Some(to) => map.insert(id.clone(), to),
        None => map.remove(id),
    }
}

fn count(sum: &mut usize, bytes: usize, more: bool) {
    match more {
        true => *sum += bytes,
        false => *sum -= bytes,
    }
}

impl Changing for StreamsState {
    type Change = StreamsChange;

    fn apply(&mut self, change: StreamsChange) -> StreamsChange {
        match change {
            StreamsChange::Epoch(to) => {
                StreamsChange::Epoch(std::mem::replace(&mut self.epoch, to))
            }
            StreamsChange::TargetEpoch(to) => {
                let before = std::mem::replace(&mut self.target, to);
                let epoch = self.target_epoch();
                let currents = self.currents.values();
                self.reconciled = currents.filter(|it| it.is_reconciled_to(epoch)).count();
                StreamsChange::TargetEpoch(before)
            }
            StreamsChange::Topology(to) => {
                let bytes = |of: &Option<Arc<Topology>>| of.as_ref().map_or(0, |of| of.bytes());
                let added = bytes(&to);
                count(&mut self.other_bytes, added, true);
                count(&mut self.record_bytes, added, true);
                let before = std::mem::replace(&mut self.topology, to);
                count(&mut self.other_bytes, bytes(&before), false);
                count(&mut self.record_bytes, bytes(&before), false);
                StreamsChange::Topology(before)
            }
            StreamsChange::Member(id, to) => {
                if let Some(new) = &to {
                    self.count_member(&id, new, true);
                }
                let before = set(&mut self.members, &id, to);
                if let Some(old) = &before {
                    self.count_member(&id, old, false);
                }
                StreamsChange::Member(id, before)
            }
            StreamsChange::TargetOf(id, to) => {
                let bytes = |tasks: &Tasks| id.len() + ENTRY_BYTES + tasks.bytes();
                let added = to.as_deref().map_or(0, bytes);
                count(&mut self.other_bytes, added, true);
                count(&mut self.record_bytes, added, true);
                let before = set(&mut self.targets, &id, to);
                let removed = before.as_deref().map_or(0, bytes);
                count(&mut self.other_bytes, removed, false);
                count(&mut self.record_bytes, removed, false);
                StreamsChange::TargetOf(id, before)
            }
            StreamsChange::Current(id, to) => {
                let before = self.currents.get(&id).cloned();
                if let Some(old) = &before {
                    self.count_current(&id, old, false);
                }
                if let Some(new) = &to {
                    self.count_current(&id, new, true);
                }
                set(&mut self.currents, &id, to);
                StreamsChange::Current(id, before)
            }
        }
    }

    fn everything(&self) -> Vec<StreamsChange> {
        self.all().collect()
    }

    fn like(&self, change: &StreamsChange) -> Option<StreamsChange> {
        Some(match change {
            StreamsChange::Epoch(_) => StreamsChange::Epoch(Some(self.epoch.clone()?)),
            StreamsChange::TargetEpoch(_) => StreamsChange::TargetEpoch(Some(self.target?)),
            StreamsChange::Topology(_) => StreamsChange::Topology(Some(self.topology.clone()?)),
            StreamsChange::Member(id, _) => {
                StreamsChange::Member(id.clone(), Some(self.members.get(id)?.clone()))
            }
            StreamsChange::TargetOf(id, _) => {
                StreamsChange::TargetOf(id.clone(), Some(self.targets.get(id)?.clone()))
            }
            StreamsChange::Current(id, _) => {
                StreamsChange::Current(id.clone(), Some(self.currents.get(id)?.clone()))
            }
        })
    }
}

impl StreamsState {
    fn count_member(&mut self, id: &Name, member: &StreamsMember, more: bool) {
        if let Some(instance) = &member.instance {
            if more {
                self.statics.insert(instance.clone(), id.clone());
            } else if self.statics.get(instance) == Some(id)
                && self.members.get(id).and_then(|it| it.instance.as_ref()) != Some(instance)
            {
                self.statics.remove(instance);
            }
        }
        count(
            &mut self.members_bytes,
            id.len() + ENTRY_BYTES + member.bytes(),
            more,
        );
        count(
            &mut self.record_bytes,
            id.len() + ENTRY_BYTES + member.record_bytes(),
            more,
        );
    }

    fn count_current(&mut self, id: &Name, current: &StreamsCurrent, more: bool) {
        let mut held = 0;
        for tasks in [&current.assigned, &current.revoking] {
            held += tasks.count();
            self.count_held(id, tasks, more);
        }
        let bytes = id.len() + ENTRY_BYTES + current.bytes();
        count(&mut self.other_bytes, bytes + held * HELD_BYTES, more);
        count(&mut self.record_bytes, bytes, more);
        let reconciled = usize::from(current.is_reconciled_to(self.target_epoch()));
        count(&mut self.reconciled, reconciled, more);
    }

    fn count_held(&mut self, id: &Name, tasks: &HeldTasks, more: bool) {
        let active = tasks.active.all().map(|(of, task, _)| (of, task, true));
        let replicas = tasks.standby.all().chain(tasks.warmup.all());
        let replicas = replicas.map(|(of, task)| (of, task, false));
        for (of, task, is_active) in active.chain(replicas) {
            let all = self.holders.entry(of.clone()).or_default();
            let holders = all.entry(task).or_default();
            match (is_active, more) {
                (true, true) => holders.active = Some(id.clone()),
                (true, false) if holders.active.as_ref() == Some(id) => holders.active = None,
                (true, false) => {}
                (false, true) => holders.replicas.push(id.clone()),
                (false, false) => {
                    if let Some(at) = holders.replicas.iter().position(|it| it == id) {
                        holders.replicas.swap_remove(at);
                    }
                }
            }
            if holders.active.is_none() && holders.replicas.is_empty() {
                all.remove(&task);
                if all.is_empty() {
                    self.holders.remove(&of);
                }
            }
        }
    }

    /// Its epoch; 1 before it has one of its own.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        self.epoch.as_ref().map_or(FIRST_EPOCH, |it| it.epoch)
    }

    /// The same with what comes with it.
    #[must_use]
    pub fn epoch_as_it_is(&self) -> Arc<StreamsEpoch> {
        self.epoch.clone().unwrap_or_else(|| {
            let epoch = FIRST_EPOCH;
            Arc::new(StreamsEpoch {
                epoch,
                ..StreamsEpoch::default()
            })
        })
    }

    /// The epoch of its target; 1 before there is one: nobody has anything by it.
    #[must_use]
    pub fn target_epoch(&self) -> i32 {
        self.target.map_or(FIRST_EPOCH, |it| it.epoch)
    }

    /// Its topology.
    #[must_use]
    pub fn topology(&self) -> Option<&Arc<Topology>> {
        self.topology.as_ref()
    }

    /// Whether the topics of its topology were all there when its epoch last grew.
    #[must_use]
    pub fn is_validated(&self) -> bool {
        let validated = self.epoch.as_ref().map_or(-1, |it| it.validated);
        self.topology
            .as_ref()
            .is_some_and(|it| it.epoch == validated)
    }

    /// Whether there is nothing: there is no such group.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.epoch.is_none()
            && self.target.is_none()
            && self.topology.is_none()
            && self.members.is_empty()
            && self.targets.is_empty()
            && self.currents.is_empty()
    }

    /// The members by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&Name, &Arc<StreamsMember>)> {
        self.members.iter()
    }

    /// A member.
    #[must_use]
    pub fn member(&self, id: &str) -> Option<&Arc<StreamsMember>> {
        self.members.get(id)
    }

    /// The static member of an instance.
    #[must_use]
    pub fn static_member(&self, instance: &str) -> Option<&Name> {
        self.statics.get(instance)
    }

    /// Where a member is.
    #[must_use]
    pub fn current(&self, id: &str) -> Arc<StreamsCurrent> {
        self.currents.get(id).cloned().unwrap_or_default()
    }

    /// What is to be a member's.
    #[must_use]
    pub fn target(&self, id: &str) -> Arc<Tasks> {
        self.targets.get(id).cloned().unwrap_or_default()
    }

    /// The same, if it has a record.
    #[must_use]
    pub fn target_as_it_is(&self, id: &str) -> Option<&Arc<Tasks>> {
        self.targets.get(id)
    }

    /// Whether another member runs a task, or has not given it up yet.
    #[must_use]
    pub fn runs_elsewhere(&self, of: &Name, task: i32, member: &Name) -> bool {
        let active = self.holders(of, task).and_then(|it| it.active.as_ref());
        active.is_some_and(|active| active != member)
    }

    /// Whether another member of the same process runs a task; and whether one has it as a replica.
    #[must_use]
    pub fn is_in_process(&self, of: &Name, task: i32, member: &Name) -> (bool, bool) {
        let Some(holders) = self.holders(of, task) else {
            return (false, false);
        };
        let process = self.members.get(member).map(|it| &it.process);
        let is_beside = |other: &Name| {
            other != member && self.members.get(other).map(|it| &it.process) == process
        };
        let active = holders.active.as_ref().is_some_and(is_beside);
        (active, holders.replicas.iter().any(is_beside))
    }

    fn holders(&self, of: &Name, task: i32) -> Option<&Holders> {
        self.holders.get(of)?.get(&task)
    }

    /// Whether all members have what they are to have.
    #[must_use]
    pub fn is_reconciled(&self) -> bool {
        self.reconciled == self.members.len()
    }

    /// What it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.members_bytes + self.other_bytes
    }

    /// What its members take.
    #[must_use]
    pub fn members_bytes(&self) -> usize {
        self.members_bytes
    }

    /// Bytes of the records that stand for it, about.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        self.record_bytes + self.epoch.as_ref().map_or(0, |_| 4 * ENTRY_BYTES)
    }

    /// Everything there is: the changes that make it of nothing.
    pub fn all(&self) -> impl Iterator<Item = StreamsChange> {
        let epoch = self.epoch.iter();
        let epoch = epoch.map(|it| StreamsChange::Epoch(Some(it.clone())));
        let target = self.target.map(|it| StreamsChange::TargetEpoch(Some(it)));
        let topology = self.topology.iter();
        let topology = topology.map(|it| StreamsChange::Topology(Some(it.clone())));
        let members = self.members.iter();
        let members = members.map(|(id, it)| StreamsChange::Member(id.clone(), Some(it.clone())));
        let targets = self.targets.iter();
        let targets = targets.map(|(id, it)| StreamsChange::TargetOf(id.clone(), Some(it.clone())));
        let currents = self.currents.iter();
        let currents =
            currents.map(|(id, it)| StreamsChange::Current(id.clone(), Some(it.clone())));
        epoch
            .chain(target)
            .chain(topology)
            .chain(members)
            .chain(targets)
            .chain(currents)
    }

    /// Panics if something was counted wrongly, or a task is run by two. For tests and the simulator.
    pub fn invariants(&self) {
        let mut again = Self::default();
        self.all().for_each(|change| drop(again.apply(change)));
        let sums = |it: &Self| {
            (
                it.members_bytes,
                it.other_bytes,
                it.record_bytes,
                it.reconciled,
            )
        };
        assert_eq!(sums(self), sums(&again), "bytes of a streams group");
        assert_eq!(self.statics, again.statics, "static members");
        let runs = self.currents.values();
        let runs: usize = runs
            .map(|it| it.assigned.active.count() + it.revoking.active.count())
            .sum();
        let all = || self.holders.values().flat_map(|of| of.values());
        let owned = all().filter(|it| it.active.is_some()).count();
        assert_eq!(runs, owned, "a task is run by one member");
        let replicas = all().map(|it| it.replicas.len()).sum::<usize>();
        let counted = again.holders.values().flat_map(|of| of.values());
        assert_eq!(
            replicas,
            counted.map(|it| it.replicas.len()).sum::<usize>(),
            "replicas"
        );
        for id in self.currents.keys() {
            assert!(self.members.contains_key(id), "{id} is no member");
        }
    }
}
