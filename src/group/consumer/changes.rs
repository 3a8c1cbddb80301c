//! What a turn of a group decides: applied at once, so that what comes next in the turn builds on it, and taken back if
//! it does not become durable.

use std::collections::BTreeMap;

use super::change::GroupChange;
use super::state::GroupState;
use crate::base::Name;

/// See the module.
#[derive(Debug, Default)]
pub struct Changes {
    made: Vec<GroupChange>,
    undo: Vec<GroupChange>,
}

impl Changes {
    /// Makes one.
    pub fn make(&mut self, state: &mut GroupState, change: GroupChange) {
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
    pub fn before(&self) -> BTreeMap<(u8, Name), GroupChange> {
        // The first one counts.
        let undo = self.undo.iter().rev();
        undo.map(|change| (change.key(), change.clone())).collect()
    }

    /// What was made, in order, which is not needed any more; what takes it back stays.
    pub fn take_made(&mut self) -> Vec<GroupChange> {
        std::mem::take(&mut self.made)
    }

    /// How many were made.
    #[must_use]
    pub fn len(&self) -> usize {
        self.undo.len()
    }

    /// Takes all of it back.
    pub fn take_back(mut self, state: &mut GroupState) {
        self.take_back_to(state, 0);
    }

    /// Takes back what was made after the first so many.
    pub fn take_back_to(&mut self, state: &mut GroupState, first: usize) {
        for change in self.undo.drain(first..).rev() {
            state.apply(change);
        }
        self.made.truncate(first);
    }
}
