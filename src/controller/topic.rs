//! A topic and its partitions, as the metadata has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::PartitionRecord;
use crate::base::{DirectoryId, LeaderEpoch, LogId, NodeId, SharedVec, StoreId, TopicId};

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: TopicId,
    /// Whether it belongs to the broker.
    pub internal: bool,
    /// Its partitions; the position is the index.
    pub partitions: SharedVec<Partition>,
    /// Its own settings.
    pub configs: BTreeMap<String, String>,
}

impl Topic {
    /// A partition by its index on the wire.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its log in the stores.
    pub log: LogId,
    /// The store of this node that holds the log, if one does.
    pub store: Option<StoreId>,
    /// The nodes that should have a copy. Partitions that have the same share them.
    pub replicas: Arc<[NodeId]>,
    /// The directory of each of them.
    pub directories: Arc<[DirectoryId]>,
    /// Those that are in sync.
    pub isr: Arc<[NodeId]>,
    /// The leader; -1 for none.
    pub leader: NodeId,
    /// Grows with each leader.
    pub leader_epoch: LeaderEpoch,
    /// Grows with each change.
    pub partition_epoch: i32,
}

impl Partition {
    /// The record that makes it what it is, as this partition of this topic.
    #[must_use]
    pub fn record(&self, topic: TopicId, index: i32) -> PartitionRecord {
        // All that it is: what is forgotten here is lost when the log of the metadata is compacted.
        let Self {
            log,
            store: _,
            replicas,
            directories,
            isr,
            leader,
            leader_epoch,
            partition_epoch,
        } = self;
        PartitionRecord {
            topic,
            index,
            log: *log,
            replicas: replicas.to_vec(),
            directories: directories.to_vec(),
            isr: isr.to_vec(),
            leader: *leader,
            leader_epoch: *leader_epoch,
            partition_epoch: *partition_epoch,
        }
    }
}
