//! A topic as a client asks for it.

use super::new_partitions::Chosen;
use crate::config::BrokerConfig;

/// A topic that somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for the default, or if there are assignments.
    pub partitions: i32,
    /// How many replicas of each; -1 for the default, or if there are assignments.
    pub replication_factor: i16,
    /// The nodes of each partition and its store, by its index, if the client chose them.
    pub assignments: Vec<(i32, Chosen)>,
    /// Settings; the last one of a key wins.
    pub configs: Vec<(String, Option<String>)>,
}

/// How many partitions a topic would have for which so many are assigned and so many asked for.
#[must_use]
pub fn partitions_wanted(assigned: usize, asked: i32, config: &BrokerConfig) -> usize {
    match asked {
        _ if assigned > 0 => assigned,
        -1 => usize::try_from(config.num_partitions).unwrap_or(0),
        n => usize::try_from(n).unwrap_or(0),
    }
}
