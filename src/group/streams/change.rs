//! What changes in a streams group, one record of `__consumer_offsets` each: nothing else changes it.

use std::sync::Arc;

use super::super::consumer::{Keyed, TargetEpoch};
use super::member::{StreamsCurrent, StreamsMember};
use super::tasks::Tasks;
use super::topology::Topology;
use crate::base::Name;

/// How far a group is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsEpoch {
    /// Grows whenever the target has to be made anew.
    pub epoch: i32,
    /// Tells what was known of the topics of the topology; 0 if there is none.
    pub metadata_hash: i64,
    /// The epoch of the topology whose topics are all there, as they should be; -1 if they are not.
    pub validated: i32,
    /// The settings by which the last target was made, sorted by key.
    pub settings: Vec<(Name, Name)>,
    /// The topologies of which Kafka's plugin has a description, and refuses one; -1. There are no plugins here: they
    /// are kept as they are.
    pub described: (i32, i32),
}

impl Default for StreamsEpoch {
    fn default() -> Self {
        Self {
            epoch: 0,
            metadata_hash: 0,
            validated: -1,
            settings: Vec::new(),
            described: (-1, -1),
        }
    }
}

/// A key and its new value; without one it is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamsChange {
    /// The epoch of the group.
    Epoch(Option<Arc<StreamsEpoch>>),
    /// That of its target.
    TargetEpoch(Option<TargetEpoch>),
    /// Its topology.
    Topology(Option<Arc<Topology>>),
    /// What a member says of itself: it is a member as long as there is this.
    Member(Name, Option<Arc<StreamsMember>>),
    /// What is to be a member's.
    TargetOf(Name, Option<Arc<Tasks>>),
    /// Where a member is.
    Current(Name, Option<Arc<StreamsCurrent>>),
}

impl StreamsChange {
    /// The deletion of the same key.
    #[must_use]
    pub fn tombstone(&self) -> Self {
        match self {
            Self::Epoch(_) => Self::Epoch(None),
            Self::TargetEpoch(_) => Self::TargetEpoch(None),
            Self::Topology(_) => Self::Topology(None),
            Self::Member(id, _) => Self::Member(id.clone(), None),
            Self::TargetOf(id, _) => Self::TargetOf(id.clone(), None),
            Self::Current(id, _) => Self::Current(id.clone(), None),
        }
    }
}

impl Keyed for StreamsChange {
    fn key(&self) -> (u8, Name) {
        match self {
            Self::Epoch(_) => (0, Name::default()),
            Self::TargetEpoch(_) => (1, Name::default()),
            Self::Topology(_) => (2, Name::default()),
            Self::Member(id, _) => (3, id.clone()),
            Self::TargetOf(id, _) => (4, id.clone()),
            Self::Current(id, _) => (5, id.clone()),
        }
    }

    fn is_value(&self) -> bool {
        match self {
            Self::Epoch(to) => to.is_some(),
            Self::TargetEpoch(to) => to.is_some(),
            Self::Topology(to) => to.is_some(),
            Self::Member(_, to) => to.is_some(),
            Self::TargetOf(_, to) => to.is_some(),
            Self::Current(_, to) => to.is_some(),
        }
    }
}
