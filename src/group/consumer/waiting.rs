//! What is asked of a group and is in no turn yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::heartbeat::ConsumerHeartbeat;
use super::member::Current;
use crate::base::Name;

/// What is asked of a group.
#[derive(Debug)]
pub(super) enum GroupAsked {
    Heartbeat(u64, Arc<ConsumerHeartbeat>),
    /// A member was silent for too long; unless it is heard before, or in the same turn.
    Remove(Name),
    /// A member took too long to give up partitions; unless it is somewhere else than here by now, or says that it has.
    RemoveRevoking(Name, Arc<Current>),
}

impl GroupAsked {
    /// What it takes, about, of what is counted.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Heartbeat(_, request) => request.bytes(),
            Self::Remove(_) | Self::RemoveRevoking(..) => 0,
        }
    }

    /// Whom it is about.
    pub(super) fn member(&self) -> &Name {
        match self {
            Self::Heartbeat(_, request) => &request.member,
            Self::Remove(member) | Self::RemoveRevoking(member, _) => member,
        }
    }
}

/// Two queues. What is about one member stays in its order: as long as some of it is in the second one, whatever else
/// is asked goes there, or does so when it would be its turn.
#[derive(Debug, Default)]
pub(super) struct GroupQueue {
    first: VecDeque<GroupAsked>,
    /// Those with whom the group may be too large, so that others do not wait for all of them.
    later: VecDeque<GroupAsked>,
    /// How much in it is about each member; no zeroes.
    members: BTreeMap<Name, usize>,
}

impl GroupQueue {
    /// Whether nothing is.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.later.is_empty()
    }

    /// Whether nothing is in the first queue.
    pub(super) fn is_all_later(&self) -> bool {
        self.first.is_empty()
    }

    /// Whether something is in the second one.
    pub(super) fn has_later(&self) -> bool {
        !self.later.is_empty()
    }

    /// Whether something about a member is in the second one.
    pub(super) fn waits_for_later(&self, member: &Name) -> bool {
        self.members.contains_key(member)
    }

    /// Something is asked.
    pub(super) fn push(&mut self, asked: GroupAsked) {
        match self.waits_for_later(asked.member()) {
            true => self.defer(asked),
            false => self.first.push_back(asked),
        }
    }

    /// It waits in the second queue.
    pub(super) fn defer(&mut self, asked: GroupAsked) {
        *self.members.entry(asked.member().clone()).or_default() += 1;
        self.later.push_back(asked);
    }

    /// Takes what is next.
    pub(super) fn pop(&mut self, of_later: bool) -> Option<GroupAsked> {
        if !of_later {
            return self.first.pop_front();
        }
        let asked = self.later.pop_front()?;
        if let Some(count) = self.members.get_mut(asked.member()) {
            *count -= 1;
            if *count == 0 {
                self.members.remove(asked.member());
            }
        }
        Some(asked)
    }

    /// Puts back what was taken last.
    pub(super) fn put_back(&mut self, of_later: bool, asked: GroupAsked) {
        if of_later {
            *self.members.entry(asked.member().clone()).or_default() += 1;
            self.later.push_front(asked);
        } else {
            self.first.push_front(asked);
        }
    }

    /// All of it.
    pub(super) fn iter(&self) -> impl Iterator<Item = &GroupAsked> {
        self.first.iter().chain(&self.later)
    }

    /// Forgets that members are to be removed.
    pub(super) fn forget_removals(&mut self) {
        let is_said = |asked: &GroupAsked| matches!(asked, GroupAsked::Heartbeat(..));
        self.first.retain(is_said);
        let later = std::mem::take(&mut self.later);
        self.members.clear();
        later
            .into_iter()
            .filter(is_said)
            .for_each(|it| self.defer(it));
    }

    /// Panics if something is wrong inside.
    pub(super) fn invariants(&self) {
        let mut members: BTreeMap<Name, usize> = BTreeMap::new();
        for asked in &self.later {
            *members.entry(asked.member().clone()).or_default() += 1;
        }
        assert_eq!(self.members, members, "who waits for later");
    }
}
