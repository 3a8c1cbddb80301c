//! Tasks of a streams application: partitions of its subtopologies, in the roles that a member may have them in.

use std::collections::BTreeSet;

use super::super::consumer::{Held, Partitions};
use crate::base::Name;

/// Tasks in one role, by subtopology.
pub type TaskSet = Partitions<Name>;

/// Active tasks, each with the epoch in which it was given.
pub type HeldTaskSet = Held<Name>;

/// What is to be a member's, or what it says that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    /// Those that it runs.
    pub active: TaskSet,
    /// Those whose state it keeps a copy of.
    pub standby: TaskSet,
    /// Those whose state it builds up, to run them then.
    pub warmup: TaskSet,
}

impl Tasks {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.active.count() + self.standby.count() + self.warmup.count()
    }

    /// What they take, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.active.bytes() + self.standby.bytes() + self.warmup.bytes()
    }
}

/// What a member has, or has to give up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldTasks {
    /// See [`Tasks`].
    pub active: HeldTaskSet,
    /// See [`Tasks`].
    pub standby: TaskSet,
    /// See [`Tasks`].
    pub warmup: TaskSet,
}

impl HeldTasks {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.active.count() + self.standby.count() + self.warmup.count()
    }

    /// What they take, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.active.bytes() + self.standby.bytes() + self.warmup.bytes()
    }

    /// Whether one of these is among them, in its role.
    #[must_use]
    pub fn meets(&self, others: &Tasks) -> bool {
        let meet = |mine: &TaskSet, others: &TaskSet| {
            let mut others = others.all();
            others.any(|(of, task)| mine.contains(of, task))
        };
        self.active.meets(&others.active)
            || meet(&self.standby, &others.standby)
            || meet(&self.warmup, &others.warmup)
    }

    /// Whether all of these are among them, in their roles.
    #[must_use]
    pub fn has_all(&self, others: &Tasks) -> bool {
        let has = |mine: &TaskSet, others: &TaskSet| {
            let mut others = others.all();
            others.all(|(of, task)| mine.contains(of, task))
        };
        self.active.has_all(&others.active)
            && has(&self.standby, &others.standby)
            && has(&self.warmup, &others.warmup)
    }

    /// Whether the same tasks are in both, whatever their epochs.
    #[must_use]
    pub fn has_the_same_as(&self, other: &Self) -> bool {
        self.active.has_the_same_as(&other.active)
            && self.standby == other.standby
            && self.warmup == other.warmup
    }
}

/// Tasks of one role while they are worked out.
pub(super) type Loose = BTreeSet<(Name, i32)>;

pub(super) fn loose(set: &TaskSet) -> Loose {
    set.all().collect()
}

pub(super) fn set_of(tasks: impl IntoIterator<Item = (Name, i32)>) -> TaskSet {
    let mut by_subtopology: Vec<(Name, Vec<i32>)> = Vec::new();
    for (of, task) in tasks {
        match by_subtopology.last_mut() {
            Some((last, tasks)) if *last == of => tasks.push(task),
            _ => by_subtopology.push((of, vec![task])),
        }
    }
    Partitions::of(by_subtopology)
}
