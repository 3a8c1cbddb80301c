//! A topic as a client asks for it.

use std::collections::BTreeMap;

use crate::base::{NodeId, StoreId};

/// A topic that somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for the default, or if there are assignments.
    pub partitions: i32,
    /// How many replicas of each; -1 for the default, or if there are assignments.
    pub replication_factor: i16,
    /// The nodes of each partition by its index, if the client chose them.
    pub assignments: Vec<(i32, Vec<NodeId>)>,
    /// The store of each partition by its index, where the client chose one.
    pub places: BTreeMap<i32, StoreId>,
    /// Settings; the last one of a key wins.
    pub configs: Vec<(String, Option<String>)>,
}
