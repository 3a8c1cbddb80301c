//! Metadata records, each behind its length, and the image that they are replayed into.

use std::collections::{BTreeMap, BTreeSet};

use millrace::base::{
    DirectoryId, Incarnation, LeaderEpoch, LogId, NodeId, NodeProcess, ShardId, StoreId, TopicId,
};
use millrace::controller::{
    ConfigResource, Directory, Elections, FEATURE_LEVEL, Image, ImageRecords, MetadataRecord,
    PartitionRecord, Registration,
};

use super::{Memory, Target, outcome};

pub const TARGET: Target = Target {
    name: "metadata",
    corpus,
    check,
    repair,
    // Two images and a snapshot; a topic or a setting of few bytes is several entries of maps.
    memory: Memory {
        fixed: 128 * 1024,
        per_byte: 512,
    },
};

/// What decodes encodes to the same; what can be replayed leaves a sound image, and its snapshot makes the same one.
fn check(input: &[u8]) -> u64 {
    let mut image = Image::default();
    let mut outcomes = BTreeMap::new();
    let mut rest = input;
    while let Some((bytes, after)) = split(rest) {
        rest = after;
        let result = match MetadataRecord::decode(bytes) {
            Ok(record) => {
                let again = record.encode(FEATURE_LEVEL);
                assert_eq!(MetadataRecord::decode(&again).as_ref(), Ok(&record));
                image.replay(&record).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        outcomes.insert(outcome(bytes.first(), &result), ());
    }
    // That no two partitions get one log is up to whoever makes the records.
    let mut partitions = image.topics().flat_map(|topic| topic.partitions.iter());
    let mut logs = BTreeSet::new();
    if partitions.all(|partition| logs.insert(partition.log)) {
        image.invariants();
    }
    let mut copy = Image::default();
    for record in ImageRecords::new(&image) {
        copy.replay(&record).expect("a snapshot can be replayed");
    }
    assert_eq!(copy, image);
    outcome(outcomes, &())
}

/// The first record, and what is behind it.
fn split(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = input.split_first()?;
    Some(rest.split_at(usize::from(*len).min(rest.len())))
}

/// A record is not summed up by itself.
fn repair(_: &mut [u8]) {}

fn corpus() -> Vec<Vec<u8>> {
    let (node, topic, directory) = (NodeId(1), TopicId([7; 16]), DirectoryId::new(1, StoreId(0)));
    let partition = |index: i32| {
        MetadataRecord::Partition(PartitionRecord {
            topic,
            index,
            log: LogId(10 + index as u64),
            replicas: vec![node],
            directories: vec![directory],
            isr: vec![node],
            leader: node,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            elections: Elections::default(),
        })
    };
    let set = |resource: ConfigResource, value: Option<&str>| MetadataRecord::Config {
        resource,
        key: "retention.ms".to_owned(),
        value: value.map(str::to_owned),
    };
    let records = [
        MetadataRecord::Cluster {
            id: "fuzz".to_owned(),
        },
        MetadataRecord::Features {
            level: FEATURE_LEVEL,
        },
        MetadataRecord::Broker(Registration {
            member: NodeProcess {
                node,
                incarnation: Incarnation(1),
            },
            directories: vec![Directory {
                id: directory,
                shard: ShardId(0),
            }],
            ..Registration::default()
        }),
        MetadataRecord::Stray { log: LogId(5) },
        MetadataRecord::Topic {
            name: "orders".to_owned(),
            id: topic,
        },
        partition(0),
        partition(1),
        set(ConfigResource::Topic("orders".to_owned()), Some("1000")),
        set(ConfigResource::Broker(None), Some("2000")),
        set(ConfigResource::Broker(Some(node)), None),
        set(ConfigResource::Group("readers".to_owned()), Some("50000")),
        MetadataRecord::ProducerIds { next: 1000 },
    ];
    let mut whole = frame(&records);
    let mut replaced = frame(&[MetadataRecord::SnapshotBegin]);
    replaced.extend(&whole);
    replaced.extend(frame(&[MetadataRecord::SnapshotEnd {
        version: 99,
        next_log: 50,
    }]));
    whole.extend(frame(&[MetadataRecord::RemoveTopic { id: topic }]));
    vec![whole, replaced]
}

fn frame(records: &[MetadataRecord]) -> Vec<u8> {
    let bytes = records.iter().map(|record| record.encode(FEATURE_LEVEL));
    bytes
        .flat_map(|bytes| [&[bytes.len() as u8], &bytes[..]].concat())
        .collect()
}
