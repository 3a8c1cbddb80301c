//! What a turn of a group decides: applied at once, so that what comes next in the turn builds on it, and taken back if
//! it does not become durable.

use std::collections::BTreeMap;
use std::fmt;

use super::change::GroupChange;
use super::state::GroupState;
use crate::base::Name;

/// A change of what is known of a group: a record.
pub trait Keyed: Clone + fmt::Debug {
    /// What it is a change of: no two keys of a group have the same.
    fn key(&self) -> (u8, Name);

    /// Whether there is something under the key after it.
    fn is_value(&self) -> bool;
}

/// What is known of a group, of whatever kind: it changes by changes of one kind alone.
pub trait Changing: fmt::Debug {
    /// Those.
    type Change: Keyed;

    /// Makes one; the one that takes it back.
    fn apply(&mut self, change: Self::Change) -> Self::Change;

    /// Everything there is: the changes that make it of nothing.
    fn everything(&self) -> Vec<Self::Change>;

    /// The value under a key of which this is a change.
    fn like(&self, change: &Self::Change) -> Option<Self::Change>;
}

impl Keyed for GroupChange {
    fn key(&self) -> (u8, Name) {
        GroupChange::key(self)
    }

    fn is_value(&self) -> bool {
        GroupChange::is_value(self)
    }
}

impl Changing for GroupState {
    type Change = GroupChange;

    fn apply(&mut self, change: GroupChange) -> GroupChange {
        GroupState::apply(self, change)
    }

    fn everything(&self) -> Vec<GroupChange> {
        self.all().collect()
    }

    fn like(&self, change: &GroupChange) -> Option<GroupChange> {
        GroupState::like(self, change)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Changes<S: Changing = GroupState> {
    made: Vec<S::Change>,
    undo: Vec<S::Change>,
}

impl<S: Changing> Default for Changes<S> {
    fn default() -> Self {
        Self {
            made: Vec::new(),
            undo: Vec::new(),
        }
    }
}

impl<S: Changing> Changes<S> {
    /// Makes one.
    pub fn make(&mut self, state: &mut S, change: S::Change) {
        self.undo.push(state.apply(change.clone()));
        self.made.push(change);
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// What there was before under each key that was changed.
    #[must_use]
    pub fn before(&self) -> BTreeMap<(u8, Name), S::Change> {
        // The first one counts.
        let undo = self.undo.iter().rev();
        undo.map(|change| (change.key(), change.clone())).collect()
    }

    /// Everything of a state that is not made by them: what is durable, or being written.
    #[must_use]
    pub fn without(&self, state: &S) -> Vec<S::Change> {
        let before = self.before();
        let all = state.everything().into_iter();
        let kept = all.filter(|change| !before.contains_key(&change.key()));
        kept.chain(before.values().filter(|change| change.is_value()).cloned())
            .collect()
    }

    /// The same of the key of this change alone.
    #[must_use]
    pub fn without_like(&self, state: &S, change: &S::Change) -> Option<S::Change> {
        match self.before().remove(&change.key()) {
            Some(before) => Some(before).filter(S::Change::is_value),
            None => state.like(change),
        }
    }

    /// What was made, in order, which is not needed any more; what takes it back stays.
    pub fn take_made(&mut self) -> Vec<S::Change> {
        std::mem::take(&mut self.made)
    }

    /// How many were made.
    #[must_use]
    pub fn len(&self) -> usize {
        self.undo.len()
    }

    /// Takes all of it back.
    pub fn take_back(mut self, state: &mut S) {
        self.take_back_to(state, 0);
    }

    /// Takes back what was made after the first so many.
    pub fn take_back_to(&mut self, state: &mut S, first: usize) {
        for change in self.undo.drain(first..).rev() {
            state.apply(change);
        }
        self.made.truncate(first);
    }
}
