//! What can happen to the metadata, one record each. Records are read by later releases,
//! so a type's number and meaning never change; see `record_codec.rs`.

use super::features::FeatureLevel;
use super::registered::Registration;
use crate::base::{DirectoryId, LeaderEpoch, LogId, NodeId, NodeProcess, TopicId};

/// One change of the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataRecord {
    /// The cluster has this id, once and for ever.
    Cluster {
        /// Kafka's text form of a random UUID, or what `millrace.cluster.id` says.
        id: String,
    },
    /// From here on records of this level may follow; see [`super::FeatureLevel`].
    Features {
        /// At least the one before.
        level: FeatureLevel,
    },
    /// A process of a broker has registered: in place of the one of its node before it.
    Broker(Registration),
    /// The registered process of a broker is fenced, or is not any more.
    Fence {
        /// Which.
        member: NodeProcess,
        /// Whether it is.
        fenced: bool,
    },
    /// A broker is not one of the cluster any more.
    RemoveBroker {
        /// Which.
        node: NodeId,
    },
    /// A topic exists. Its partitions follow.
    Topic {
        /// Its name, unique among the topics that exist.
        name: String,
        /// Its id, unique for ever.
        id: TopicId,
    },
    /// A partition exists, or has changed: the whole of its state.
    Partition(PartitionRecord),
    /// A topic and its settings are gone.
    RemoveTopic {
        /// Which.
        id: TopicId,
    },
    /// A setting was set or, without a value, went back to what it is by default.
    Config {
        /// Whose.
        resource: ConfigResource,
        /// Kafka's name of the setting.
        key: String,
        /// The new text.
        value: Option<String>,
    },
    /// Producer ids below this one may have been given out.
    ProducerIds {
        /// The first one that was not.
        next: i64,
    },
    /// A log was found in a store that this metadata had never given out: it is kept, and its id stays unused.
    Stray {
        /// Which.
        log: LogId,
    },
    /// Begins a snapshot: what is before it in the log counts no more.
    SnapshotBegin,
    /// Ends a snapshot: what the records of a snapshot cannot say themselves.
    SnapshotEnd {
        /// [`super::Image::version`] when it was taken.
        version: u64,
        /// The first log id never used; the highest one may belong to a topic that is gone.
        next_log: u64,
    },
}

/// The whole state of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRecord {
    /// Its topic.
    pub topic: TopicId,
    /// Its number in the topic, from 0 without a gap.
    pub index: i32,
    /// Its log in the stores.
    pub log: LogId,
    /// The nodes that should have a copy, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The directory of each of them, in the same order (KIP-858). A copy anywhere else counts for nothing.
    pub directories: Vec<DirectoryId>,
    /// Those that are in sync.
    pub isr: Vec<NodeId>,
    /// The leader; -1 for none.
    pub leader: NodeId,
    /// Grows with each leader.
    pub leader_epoch: LeaderEpoch,
    /// Grows with each change of this record.
    pub partition_epoch: i32,
    /// What is to be remembered of its elections.
    pub elections: Elections,
}

/// What is to be remembered of the elections of a partition's leaders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elections {
    /// The leader was elected though it may lack what was committed, and no leader has asked for an ISR since: Kafka's
    /// leader recovery state RECOVERING.
    pub recovering: bool,
    /// The epoch of the last leader that was elected so. What a replica that is not in sync has known to be committed
    /// before that counts no more.
    pub unclean: Option<LeaderEpoch>,
    /// Who was in the ISR when the leader's epoch began, and was taken out since because its broker was fenced, and not
    /// because the leader asked for it. A leader that has begun nothing in its epoch has committed nothing without
    /// them.
    pub left: Vec<NodeId>,
}

/// Whether each of these nodes is named once.
pub(super) fn are_once(nodes: &[NodeId]) -> bool {
    let mut named = nodes.iter().enumerate();
    named.all(|(at, node)| !nodes[..at].contains(node))
}

/// Whose setting it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// A broker; `None` for all.
    Broker(Option<NodeId>),
    /// A group, by id, whether there is such a group or not.
    Group(String),
}
