//! Partitions that were decided on, made one after the other: there may be thousands.

use super::image::Image;
use super::placement::Placement;
use super::record::{Elections, MetadataRecord, PartitionRecord};
use crate::base::{LeaderEpoch, LogId, NodeId, StoreId, TopicId};

/// The nodes of a partition, and the store of the first one if somebody chose it.
pub type Chosen = (Vec<NodeId>, Option<StoreId>);

/// Where the replicas of new partitions are.
#[derive(Clone, Debug)]
pub enum Replicas {
    /// So many partitions, with so many replicas each, where there is the most room.
    Counted {
        /// How many partitions.
        partitions: usize,
        /// How many replicas of each.
        factor: usize,
    },
    /// Those of each one.
    Each(std::vec::IntoIter<Chosen>),
}

impl Replicas {
    /// How many partitions.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Counted { partitions, .. } => *partitions,
            Self::Each(each) => each.len(),
        }
    }

    /// How many replicas the next one has.
    #[must_use]
    pub fn factor(&self) -> usize {
        match self {
            Self::Counted { factor, .. } => *factor,
            Self::Each(each) => each.as_slice().first().map_or(0, |(nodes, _)| nodes.len()),
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct NewPartitions {
    topic: TopicId,
    internal: bool,
    /// Index of the next one.
    index: usize,
    replicas: Replicas,
    /// Whether one was made.
    is_begun: bool,
}

impl NewPartitions {
    /// Those of a topic that has so many.
    #[must_use]
    pub const fn new(topic: TopicId, internal: bool, known: usize, replicas: Replicas) -> Self {
        Self {
            topic,
            internal,
            index: known,
            replicas,
            is_begun: false,
        }
    }

    /// How many there are still to be made.
    #[must_use]
    pub fn len(&self) -> usize {
        self.replicas.len()
    }

    /// The next one, with a log of its own. In sync, and leader, are those of its brokers that are not fenced.
    pub(super) fn next(
        &mut self,
        image: &Image,
        placement: &mut Placement,
    ) -> Option<MetadataRecord> {
        if !std::mem::replace(&mut self.is_begun, true) {
            placement.begin_topic();
        }
        let placed = match &mut self.replicas {
            Replicas::Counted { partitions, factor } => {
                *partitions = partitions.checked_sub(1)?;
                placement.next(*factor, self.internal)
            }
            Replicas::Each(each) => {
                let (nodes, store) = each.next()?;
                placement.take(&nodes, store, self.internal)
            }
        };
        let index = self.index;
        self.index += 1;
        let (replicas, directories): (Vec<NodeId>, Vec<_>) = placed.into_iter().unzip();
        let live = replicas.iter().copied();
        let isr: Vec<NodeId> = live
            .filter(|node| image.brokers.is_node_live(*node))
            .collect();
        Some(MetadataRecord::Partition(PartitionRecord {
            topic: self.topic,
            index: i32::try_from(index).unwrap_or(i32::MAX),
            log: LogId(image.next_log),
            leader: isr.first().copied().unwrap_or(NodeId::NOBODY),
            replicas,
            directories,
            isr,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            elections: Elections::default(),
        }))
    }
}
