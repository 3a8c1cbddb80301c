//! Records for tests.

use super::create::create_missing;
use super::draft::{Draft, Terms};
use super::image::Image;
use super::record::{MetadataRecord, PartitionRecord};
use crate::base::limits::PARTITIONS_PER_REQUEST_MAX;
use crate::base::{DirectoryId, LeaderEpoch, LogId, NodeId, Rng, StoreId, TopicId};
use crate::config::BrokerConfig;

/// A draft of a node of two stores with those of these topics that may be created.
pub fn with_topics(names: &[&str]) -> Draft {
    let image = Image::of_node([0, 1].map(|store| DirectoryId::new(1, StoreId(store))));
    let mut draft = Draft::new(&image, 0);
    let (config, mut rng) = (BrokerConfig::default(), Rng::new(1));
    let mut terms = Terms {
        config: &config,
        rng: &mut rng,
    };
    let mut left = PARTITIONS_PER_REQUEST_MAX;
    for name in names {
        create_missing(&mut draft, &mut terms, name, &mut left);
        draft.settle();
    }
    draft
}

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
