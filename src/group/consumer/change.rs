//! What changes in a consumer group, one record of `__consumer_offsets` each: nothing else changes it.

use std::sync::Arc;

use super::member::{Current, Subscription};
use super::partitions::Partitions;
use crate::base::Name;

/// How far a group is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupEpoch {
    /// Grows whenever the target has to be made anew.
    pub epoch: i32,
    /// Tells what was known of the topics that members are subscribed to; 0 if there is none.
    pub metadata_hash: i64,
}

/// The target of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetEpoch {
    /// The group's epoch that it is for.
    pub epoch: i32,
    /// When it was made, wall clock ms; 0 if that is not known.
    pub made_ms: i64,
}

/// The topics whose names match a regular expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Sorted, none twice.
    pub topics: Vec<Name>,
    /// The version of the metadata in which they were looked for.
    pub version: i64,
    /// When that was, wall clock ms.
    pub at_ms: i64,
}

impl Resolved {
    /// What it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const EACH_BYTES: usize = 128;
        let topics: usize = self.topics.iter().map(|topic| 16 + topic.len()).sum();
        EACH_BYTES + topics
    }
}

/// A key and its new value; without one it is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupChange {
    /// The epoch of the group.
    Epoch(Option<GroupEpoch>),
    /// That of its target.
    TargetEpoch(Option<TargetEpoch>),
    /// What a member is subscribed to: it is a member as long as there is this.
    Member(Name, Option<Arc<Subscription>>),
    /// What is to be a member's.
    TargetOf(Name, Option<Arc<Partitions>>),
    /// Where a member is.
    Current(Name, Option<Arc<Current>>),
    /// The topics of a regular expression.
    Regex(Name, Option<Arc<Resolved>>),
}

impl GroupChange {
    /// What it is a change of: no two keys of a group have the same.
    #[must_use]
    pub fn key(&self) -> (u8, Name) {
        match self {
            Self::Epoch(_) => (0, Name::default()),
            Self::TargetEpoch(_) => (1, Name::default()),
            Self::Member(id, _) => (2, id.clone()),
            Self::TargetOf(id, _) => (3, id.clone()),
            Self::Current(id, _) => (4, id.clone()),
            Self::Regex(id, _) => (5, id.clone()),
        }
    }

    /// Whether there is something under the key after it.
    #[must_use]
    pub fn is_value(&self) -> bool {
        match self {
            Self::Epoch(to) => to.is_some(),
            Self::TargetEpoch(to) => to.is_some(),
            Self::Member(_, to) => to.is_some(),
            Self::TargetOf(_, to) => to.is_some(),
            Self::Current(_, to) => to.is_some(),
            Self::Regex(_, to) => to.is_some(),
        }
    }
}
