//! A topic and its partitions, as the metadata has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{Elections, PartitionRecord};
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
    /// What is to be remembered of its elections; none if that is nothing.
    pub elections: Option<Arc<Elections>>,
}

impl Partition {
    /// Whether it counts no more what was committed in this epoch or before: there was an unclean election since.
    #[must_use]
    pub fn overrules(&self, epoch: LeaderEpoch) -> bool {
        self.unclean_epoch().is_some_and(|unclean| epoch < unclean)
    }

    /// The epoch of the last leader that was elected though it may lack what was committed; none if there was none.
    #[must_use]
    pub fn unclean_epoch(&self) -> Option<LeaderEpoch> {
        self.elections.as_ref()?.unclean
    }

    /// Whether the leader was elected so, and has not asked for an ISR since.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.elections.as_ref().is_some_and(|it| it.recovering)
    }

    /// Who was taken out of the ISR in this epoch because its broker was fenced: see [`Elections::left`].
    #[must_use]
    pub fn left(&self) -> &[NodeId] {
        self.elections.as_ref().map_or(&[], |it| &it.left)
    }

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
            elections,
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
            elections: elections.as_deref().cloned().unwrap_or_default(),
        }
    }
}
