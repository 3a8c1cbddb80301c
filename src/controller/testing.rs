//! Records for tests.

use super::create::{create_missing, create_topic};
use super::draft::{Draft, Terms};
use super::features::FEATURE_LEVEL;
use super::image::Image;
use super::new_topic::NewTopic;
use super::record::{ConfigResource, Elections, MetadataRecord, PartitionRecord};
use super::registered::{Directory, Registration};
use crate::base::limits::PARTITIONS_PER_REQUEST_MAX;
use crate::base::{
    DirectoryId, Incarnation, LeaderEpoch, LogId, NodeId, NodeProcess, Rng, ShardId, StoreId,
    TopicId,
};
use crate::config::BrokerConfig;

/// A live process of a broker with so many stores, each with a shard of its own.
pub fn broker(node: i32, stores: u16) -> Registration {
    let directory = |store| Directory {
        id: DirectoryId::new(node as u64, StoreId(store)),
        shard: ShardId(store),
    };
    Registration {
        member: NodeProcess {
            node: NodeId(node),
            incarnation: Incarnation(1),
        },
        directories: (0..stores).map(directory).collect(),
        ..Registration::default()
    }
}

/// What node 1 sees, which is alone and has so many stores.
pub fn node_of(stores: u16) -> Image {
    let mut image = Image::of_node((0..stores).map(|store| DirectoryId::new(1, StoreId(store))));
    let alone = image.brokers.register(broker(1, stores));
    alone.expect("the first");
    image
}

/// What the first of brokers 1 to `nodes` sees, all of which are live and have two stores.
pub fn cluster(nodes: i32) -> Image {
    let mut image = Image::of_node([0, 1].map(|store| DirectoryId::new(1, StoreId(store))));
    image.features = FEATURE_LEVEL;
    for node in 1..=nodes {
        let another = image.brokers.register(broker(node, 2));
        another.expect("the first");
    }
    image
}

/// Creates a topic.
pub fn create(image: &mut Image, name: &str, partitions: usize, factor: i16) {
    let mut draft = Draft::new(image);
    let (config, mut rng) = (BrokerConfig::default(), Rng::new(image.version));
    let mut terms = Terms {
        config: &config,
        rng: &mut rng,
        voters: 1,
    };
    let topic = NewTopic {
        name: name.to_owned(),
        partitions: partitions as i32,
        replication_factor: factor,
        ..NewTopic::default()
    };
    create_topic(&mut draft, &mut terms, topic).expect("it may be created");
    draft.settle();
    *image = draft.into_change().image;
}

/// A draft of a node of two stores with those of these topics that may be created.
pub fn with_topics(names: &[&str]) -> Draft {
    let mut draft = Draft::new(&node_of(2));
    let (config, mut rng) = (BrokerConfig::default(), Rng::new(1));
    let mut terms = Terms {
        config: &config,
        rng: &mut rng,
        voters: 1,
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
        elections: Elections::default(),
    })
}

/// Records of each kind, which an empty image takes one after the other.
pub fn one_of_each() -> Vec<MetadataRecord> {
    let topic = |id| MetadataRecord::Topic {
        name: format!("t{id}"),
        id: TopicId([id; 16]),
    };
    vec![
        MetadataRecord::Cluster { id: "c".to_owned() },
        MetadataRecord::SnapshotBegin,
        MetadataRecord::SnapshotEnd {
            version: 7,
            next_log: 3,
        },
        MetadataRecord::Cluster { id: "d".to_owned() },
        MetadataRecord::Features { level: 1 },
        MetadataRecord::Broker(broker(1, 1)),
        MetadataRecord::Fence {
            member: broker(1, 1).member,
            fenced: true,
        },
        MetadataRecord::Broker(broker(2, 1)),
        MetadataRecord::RemoveBroker { node: NodeId(2) },
        MetadataRecord::Stray { log: LogId(5) },
        topic(1),
        partition(1, 0, 6),
        MetadataRecord::Config {
            resource: ConfigResource::Topic("t1".to_owned()),
            key: "retention.ms".to_owned(),
            value: Some("1000".to_owned()),
        },
        MetadataRecord::Config {
            resource: ConfigResource::Group("g".to_owned()),
            key: "consumer.session.timeout.ms".to_owned(),
            value: Some("50000".to_owned()),
        },
        topic(2),
        MetadataRecord::RemoveTopic {
            id: TopicId([2; 16]),
        },
        MetadataRecord::ProducerIds { next: 1000 },
    ]
}
