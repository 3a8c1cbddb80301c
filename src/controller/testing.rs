//! Records for tests.

use super::record::{MetadataRecord, PartitionRecord};
use crate::base::{DirectoryId, LeaderEpoch, LogId, NodeId, StoreId, TopicId};

/// A partition of node 1, in the first store of set 1, of the topic whose id is this byte sixteen times.
pub fn partition(topic: u8, index: i32, log: u64) -> MetadataRecord {
    MetadataRecord::Partition(PartitionRecord {
        topic: TopicId([topic; 16]),
        index,
        log: LogId(log),
        replicas: vec![NodeId(1)],
        directories: vec![DirectoryId::new(1, StoreId(0))],
        isr: vec![NodeId(1)],
        leader: NodeId(1),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
    })
}
