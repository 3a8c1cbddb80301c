//! What is known of a consumer group. It changes by [`GroupChange`]s alone, be they read from the log or decided now,
//! and each can be taken back.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::change::{GroupChange, GroupEpoch, Resolved, TargetEpoch};
use super::member::{Current, Subscription};
use super::partitions::Partitions;
use crate::base::{IdMap, Name, TopicId};

/// See the module. The second half follows from the first.
#[derive(Debug, Default)]
pub struct GroupState {
    epoch: Option<GroupEpoch>,
    target: Option<TargetEpoch>,
    members: BTreeMap<Name, Arc<Subscription>>,
    targets: BTreeMap<Name, Arc<Partitions>>,
    currents: BTreeMap<Name, Arc<Current>>,
    resolved: BTreeMap<Name, Arc<Resolved>>,
    /// Static members by instance.
    statics: BTreeMap<Name, Name>,
    /// Topics that members name, and how many do.
    topics: BTreeMap<Name, usize>,
    /// The same of regular expressions.
    regexes: BTreeMap<Name, usize>,
    /// Which member has a partition, or is still to give it up.
    owners: BTreeMap<TopicId, IdMap<i32, Name>>,
    /// Members that have nothing more to do until there is another target.
    reconciled: usize,
    /// What members and regular expressions take, about, and what partitions do besides.
    bytes: usize,
    partitions_bytes: usize,
    /// Bytes of the records that stand for all of it, about.
    record_bytes: usize,
}

/// The epoch of a group, and of its target, before there is a record of it: as in Kafka from 4.3 on (KAFKA-20268), so
/// that a member has an epoch, which is not 0, before the first target is made.
const FIRST_EPOCH: i32 = 1;
/// What an entry of a table takes besides its value, and a record besides its own.
const ENTRY_BYTES: usize = 64;
/// What a partition takes in the table of owners.
const OWNED_BYTES: usize = 48;

/// Counts one more, or one less; no zeroes.
fn count(counts: &mut BTreeMap<Name, usize>, of: &Name, more: bool) {
    if more {
        *counts.entry(of.clone()).or_default() += 1;
    } else if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}

/// Puts a value in the place of another, or takes it out; the one before.
fn set<T>(map: &mut BTreeMap<Name, Arc<T>>, id: &Name, to: Option<Arc<T>>) -> Option<Arc<T>> {
    match to {
        Some(to) => map.insert(id.clone(), to),
        None => map.remove(id),
    }
}

impl GroupState {
    /// Makes a change; the one that takes it back.
    pub fn apply(&mut self, change: GroupChange) -> GroupChange {
        match change {
            GroupChange::Epoch(to) => GroupChange::Epoch(std::mem::replace(&mut self.epoch, to)),
            GroupChange::TargetEpoch(to) => {
                let before = std::mem::replace(&mut self.target, to);
                let epoch = self.target_epoch();
                let currents = self.currents.values();
                self.reconciled = currents.filter(|it| it.is_reconciled_to(epoch)).count();
                GroupChange::TargetEpoch(before)
            }
            GroupChange::Member(id, to) => {
                let to = to.map(|member| self.shared(member));
                if let Some(new) = &to {
                    self.count_member(&id, new, true);
                }
                let before = set(&mut self.members, &id, to);
                if let Some(old) = &before {
                    self.count_member(&id, old, false);
                }
                GroupChange::Member(id, before)
            }
            GroupChange::TargetOf(id, to) => {
                self.count_target(&id, to.as_deref(), true);
                let before = set(&mut self.targets, &id, to);
                self.count_target(&id, before.as_deref(), false);
                GroupChange::TargetOf(id, before)
            }
            GroupChange::Current(id, to) => {
                let before = self.currents.get(&id).cloned();
                if let Some(old) = &before {
                    self.count_current(&id, old, false);
                }
                if let Some(new) = &to {
                    self.count_current(&id, new, true);
                }
                set(&mut self.currents, &id, to);
                GroupChange::Current(id, before)
            }
            GroupChange::Regex(id, to) => {
                let bytes = |it: &Resolved| it.bytes() + id.len() + ENTRY_BYTES;
                self.count_bytes(to.as_deref().map_or(0, bytes), true);
                let before = set(&mut self.resolved, &id, to);
                self.count_bytes(before.as_deref().map_or(0, bytes), false);
                GroupChange::Regex(id, before)
            }
        }
    }

    /// The same, with the names of topics that others have too.
    fn shared(&self, member: Arc<Subscription>) -> Arc<Subscription> {
        let known = |topic: &Name| match self.topics.get_key_value(topic) {
            Some((known, _)) => known.clone(),
            None => topic.clone(),
        };
        Arc::new(Subscription {
            topics: member.topics.iter().map(known).collect(),
            ..Arc::unwrap_or_clone(member)
        })
    }

    fn count_bytes(&mut self, bytes: usize, more: bool) {
        match more {
            true => self.bytes += bytes,
            false => self.bytes -= bytes,
        }
    }

    fn count_record(&mut self, bytes: usize, more: bool) {
        match more {
            true => self.record_bytes += bytes,
            false => self.record_bytes -= bytes,
        }
    }

    fn count_member(&mut self, id: &Name, member: &Subscription, more: bool) {
        if let Some(instance) = &member.instance {
            if more {
                self.statics.insert(instance.clone(), id.clone());
            } else if self.statics.get(instance) == Some(id)
                && self.members.get(id).and_then(|it| it.instance.as_ref()) != Some(instance)
            {
                self.statics.remove(instance);
            }
        }
        for topic in &member.topics {
            count(&mut self.topics, topic, more);
        }
        if let Some(regex) = member.regex() {
            count(&mut self.regexes, regex, more);
        }
        self.count_bytes(id.len() + ENTRY_BYTES + member.bytes(), more);
        self.count_record(id.len() + ENTRY_BYTES + member.record_bytes(), more);
    }

    fn count_target(&mut self, id: &Name, target: Option<&Partitions>, more: bool) {
        let Some(target) = target else {
            return;
        };
        let bytes = id.len() + ENTRY_BYTES + target.bytes();
        match more {
            true => self.partitions_bytes += bytes,
            false => self.partitions_bytes -= bytes,
        }
        self.count_record(bytes, more);
    }

    fn count_current(&mut self, id: &Name, current: &Current, more: bool) {
        let all = current.assigned.all().chain(current.revoking.all());
        let mut count = 0;
        for (topic, partition, _) in all {
            count += 1;
            let of_topic = self.owners.entry(topic).or_default();
            if more {
                of_topic.insert(partition, id.clone());
            } else if of_topic.get(&partition) == Some(id) {
                of_topic.remove(&partition);
            }
            if of_topic.is_empty() {
                self.owners.remove(&topic);
            }
        }
        let bytes = id.len() + ENTRY_BYTES + current.bytes();
        let reconciled = usize::from(current.is_reconciled_to(self.target_epoch()));
        match more {
            true => {
                self.reconciled += reconciled;
                self.partitions_bytes += bytes + count * OWNED_BYTES;
            }
            false => {
                self.reconciled -= reconciled;
                self.partitions_bytes -= bytes + count * OWNED_BYTES;
            }
        }
        self.count_record(bytes, more);
    }

    /// Its epoch; 1 before it has one of its own.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        self.epoch.map_or(FIRST_EPOCH, |it| it.epoch)
    }

    /// What was known of its topics when it got that.
    #[must_use]
    pub fn metadata_hash(&self) -> i64 {
        self.epoch.map_or(0, |it| it.metadata_hash)
    }

    /// The epoch of its target; 1 before there is one: nobody has anything by it.
    #[must_use]
    pub fn target_epoch(&self) -> i32 {
        self.target.map_or(FIRST_EPOCH, |it| it.epoch)
    }

    /// Whether there is nothing: there is no such group.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.epoch.is_none()
            && self.target.is_none()
            && self.members.is_empty()
            && self.targets.is_empty()
            && self.currents.is_empty()
            && self.resolved.is_empty()
    }

    /// The members by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&Name, &Arc<Subscription>)> {
        self.members.iter()
    }

    /// Those behind this one.
    pub fn members_after(
        &self,
        id: Option<&Name>,
    ) -> impl Iterator<Item = (&Name, &Arc<Subscription>)> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.members.range::<Name, _>((from, Bound::Unbounded))
    }

    /// A member.
    #[must_use]
    pub fn member(&self, id: &str) -> Option<&Arc<Subscription>> {
        self.members.get(id)
    }

    /// The static member of an instance.
    #[must_use]
    pub fn static_member(&self, instance: &str) -> Option<&Name> {
        self.statics.get(instance)
    }

    /// Where a member is.
    #[must_use]
    pub fn current(&self, id: &str) -> Arc<Current> {
        self.currents.get(id).cloned().unwrap_or_default()
    }

    /// What is to be a member's.
    #[must_use]
    pub fn target(&self, id: &str) -> Arc<Partitions> {
        self.targets.get(id).cloned().unwrap_or_default()
    }

    /// Whether a partition is another member's, or that one has not given it up yet.
    #[must_use]
    pub fn is_of_another(&self, topic: TopicId, partition: i32, member: &Name) -> bool {
        let owner = self.owners.get(&topic).and_then(|of| of.get(&partition));
        owner.is_some_and(|owner| owner != member)
    }

    /// The topics that members name, behind this one.
    pub fn topics_after(&self, topic: Option<&Name>) -> impl Iterator<Item = &Name> {
        let from = topic.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.topics.range::<Name, _>((from, Bound::Unbounded));
        behind.map(|(topic, _)| topic)
    }

    /// The regular expressions of members.
    pub fn regexes(&self) -> impl Iterator<Item = &Name> {
        self.regexes.keys()
    }

    /// Those behind this one.
    pub fn regexes_after(&self, regex: Option<&Name>) -> impl Iterator<Item = &Name> {
        let from = regex.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.regexes.range::<Name, _>((from, Bound::Unbounded));
        behind.map(|(regex, _)| regex)
    }

    /// The topics of a regular expression, if they were looked for.
    #[must_use]
    pub fn resolved(&self, regex: &str) -> Option<&Arc<Resolved>> {
        self.resolved.get(regex)
    }

    /// Those that no member has any more.
    #[must_use]
    pub fn unused_regexes(&self) -> Vec<Name> {
        let resolved = self.resolved.keys();
        resolved
            .filter(|it| !self.regexes.contains_key(*it))
            .cloned()
            .collect()
    }

    /// Whether a member is subscribed to a topic.
    #[must_use]
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        let matches = |(regex, resolved): (&Name, &Arc<Resolved>)| {
            let found = resolved.topics.binary_search_by(|name| (**name).cmp(topic));
            self.regexes.contains_key(regex) && found.is_ok()
        };
        self.topics.contains_key(topic) || self.resolved.iter().any(matches)
    }

    /// Whether this member is subscribed to a topic.
    #[must_use]
    pub fn wants(&self, member: &str, topic: &str) -> bool {
        let is_in = |names: &[Name]| names.binary_search_by(|name| (**name).cmp(topic)).is_ok();
        self.member(member).is_some_and(|member| {
            let resolved = member.regex().and_then(|regex| self.resolved(regex));
            is_in(&member.topics) || resolved.is_some_and(|resolved| is_in(&resolved.topics))
        })
    }

    /// Whether all members have what they are to have.
    #[must_use]
    pub fn is_reconciled(&self) -> bool {
        self.reconciled == self.members.len()
    }

    /// What it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes + self.partitions_bytes
    }

    /// What its members and their regular expressions take, without partitions.
    #[must_use]
    pub fn members_bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the records that stand for it, about.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        self.record_bytes
            + if self.epoch.is_some() {
                2 * ENTRY_BYTES
            } else {
                0
            }
    }

    /// Everything there is: the changes that make it of nothing.
    pub fn all(&self) -> impl Iterator<Item = GroupChange> {
        let epoch = self.epoch.map(|it| GroupChange::Epoch(Some(it)));
        let target = self.target.map(|it| GroupChange::TargetEpoch(Some(it)));
        let members = self.members.iter();
        let members = members.map(|(id, it)| GroupChange::Member(id.clone(), Some(it.clone())));
        let targets = self.targets.iter();
        let targets = targets.map(|(id, it)| GroupChange::TargetOf(id.clone(), Some(it.clone())));
        let currents = self.currents.iter();
        let currents = currents.map(|(id, it)| GroupChange::Current(id.clone(), Some(it.clone())));
        let resolved = self.resolved.iter();
        let resolved = resolved.map(|(id, it)| GroupChange::Regex(id.clone(), Some(it.clone())));
        let partitions = targets.chain(currents);
        epoch
            .into_iter()
            .chain(target)
            .chain(members)
            .chain(partitions)
            .chain(resolved)
    }

    /// The changes that make nothing of it, but for a tombstone of each key that is in a log.
    pub fn tombstones(&self) -> impl Iterator<Item = GroupChange> {
        self.all().map(|change| match change {
            GroupChange::Epoch(_) => GroupChange::Epoch(None),
            GroupChange::TargetEpoch(_) => GroupChange::TargetEpoch(None),
            GroupChange::Member(id, _) => GroupChange::Member(id, None),
            GroupChange::TargetOf(id, _) => GroupChange::TargetOf(id, None),
            GroupChange::Current(id, _) => GroupChange::Current(id, None),
            GroupChange::Regex(id, _) => GroupChange::Regex(id, None),
        })
    }

    /// The value under a key of which this is a change.
    #[must_use]
    pub fn like(&self, change: &GroupChange) -> Option<GroupChange> {
        Some(match change {
            GroupChange::Epoch(_) => GroupChange::Epoch(Some(self.epoch?)),
            GroupChange::TargetEpoch(_) => GroupChange::TargetEpoch(Some(self.target?)),
            GroupChange::Member(id, _) => {
                GroupChange::Member(id.clone(), Some(self.members.get(id)?.clone()))
            }
            GroupChange::TargetOf(id, _) => {
                GroupChange::TargetOf(id.clone(), Some(self.targets.get(id)?.clone()))
            }
            GroupChange::Current(id, _) => {
                GroupChange::Current(id.clone(), Some(self.currents.get(id)?.clone()))
            }
            GroupChange::Regex(id, _) => {
                GroupChange::Regex(id.clone(), Some(self.resolved.get(id)?.clone()))
            }
        })
    }

    /// Panics if something was counted wrongly, or a partition has two owners. For tests and the simulator.
    pub fn invariants(&self) {
        let mut again = Self::default();
        self.all().for_each(|change| drop(again.apply(change)));
        let sums = |it: &Self| {
            (
                it.bytes,
                it.partitions_bytes,
                it.record_bytes,
                it.reconciled,
            )
        };
        assert_eq!(sums(self), sums(&again), "bytes of a consumer group");
        assert_eq!(
            (&self.topics, &self.regexes),
            (&again.topics, &again.regexes)
        );
        assert_eq!(self.statics, again.statics, "static members");
        assert_eq!(self.owners, again.owners, "owners");
        let owned = self.owners.values().map(|of| of.len()).sum::<usize>();
        let held = self.currents.values();
        let held: usize = held
            .map(|it| it.assigned.count() + it.revoking.count())
            .sum();
        assert_eq!(owned, held, "a partition has one owner");
        for id in self.currents.keys() {
            assert!(self.members.contains_key(id), "{id} is no member");
        }
    }
}
