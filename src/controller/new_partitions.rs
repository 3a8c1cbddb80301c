//! New partitions of a topic, made one after the other: there may be thousands.

use super::image::Image;
use super::placement::Placement;
use super::record::{MetadataRecord, PartitionRecord};
use crate::base::{LeaderEpoch, LogId, NodeId, StoreId, TopicId};

/// The nodes of a partition, and its store if somebody chose one.
pub type Chosen = (Vec<NodeId>, Option<StoreId>);

/// Where the replicas of new partitions are.
#[derive(Clone, Debug)]
pub enum Replicas {
    /// So many partitions on the same nodes.
    Alike(Vec<NodeId>, usize),
    /// Those of each one.
    Each(std::vec::IntoIter<Chosen>),
}

impl Replicas {
    /// How many partitions.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Alike(_, count) => *count,
            Self::Each(each) => each.len(),
        }
    }

    /// How many replicas the next one has.
    #[must_use]
    pub fn factor(&self) -> usize {
        match self {
            Self::Alike(nodes, _) => nodes.len(),
            Self::Each(each) => each.as_slice().first().map_or(0, |(nodes, _)| nodes.len()),
        }
    }

    fn next(&mut self) -> Option<Chosen> {
        match self {
            Self::Alike(nodes, count) => {
                *count = count.checked_sub(1)?;
                Some((nodes.clone(), None))
            }
            Self::Each(each) => each.next(),
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
        }
    }

    /// How many there are still to be made.
    #[must_use]
    pub fn len(&self) -> usize {
        self.replicas.len()
    }

    /// The next one, with a log of its own.
    pub(super) fn next(
        &mut self,
        image: &Image,
        placement: &mut Placement,
    ) -> Option<MetadataRecord> {
        let (replicas, place) = self.replicas.next()?;
        let index = self.index;
        self.index += 1;
        let store = match place {
            Some(store) => placement.take(store, self.internal),
            None => placement.next(self.internal),
        };
        let here = image.here().get(usize::from(store.0));
        let directory = here.copied().unwrap_or_default();
        Some(MetadataRecord::Partition(PartitionRecord {
            topic: self.topic,
            index: i32::try_from(index).unwrap_or(i32::MAX),
            log: LogId(image.next_log),
            // Every replica is on this node: the deciders refuse any other one.
            directories: vec![directory; replicas.len()],
            isr: replicas.clone(),
            leader: replicas.first().copied().unwrap_or(NodeId(-1)),
            replicas,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
        }))
    }
}
