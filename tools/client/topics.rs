//! Making topics and asking for offsets: what both programs do to topics.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_wire::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::{CreateTopicsRequest, ListOffsetsRequest};
use kafka_wire_core::StrBytes;

use super::{ClientError, Cluster, Result, Topic, message};
use millrace::base::ErrorCode;

/// Timestamp that asks for the first offset there is.
pub const EARLIEST: i64 = -2;
/// Timestamp that asks for the offset of the next record.
pub const LATEST: i64 = -1;
/// Isolation levels of requests.
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;
/// Version 4 of CreateTopics is the first to know "the broker's default" for counts.
const BROKER_DEFAULTS_SINCE: i16 = 4;
/// How long a broker may take to make a topic.
const CREATE_TIMEOUT: Duration = Duration::from_secs(30);

/// A topic to be made.
#[derive(Clone, Debug)]
pub struct NewTopic<'a> {
    /// Its name.
    pub name: &'a str,
    /// Number of partitions, -1 for the broker's default.
    pub partitions: i32,
    /// Number of replicas, -1 for the broker's default.
    pub replication: i16,
    /// Configuration keys and values.
    pub configs: &'a [(String, String)],
}

/// Makes a topic; an error if there is one of this name.
pub fn create_topic(cluster: &mut Cluster, new: &NewTopic<'_>) -> Result<()> {
    let conn = cluster.controller()?;
    let version = conn.version::<CreateTopicsRequest>()?;
    let default = |count: i32| {
        if count < 0 && version < BROKER_DEFAULTS_SINCE {
            1
        } else {
            count
        }
    };
    let configs = new.configs.iter().map(|(name, value)| {
        message!(CreatableTopicConfig {
            name: StrBytes::from(name.as_str()),
            value: Some(StrBytes::from(value.as_str())),
        })
    });
    let topic = message!(CreatableTopic {
        name: StrBytes::from(new.name),
        num_partitions: default(new.partitions),
        replication_factor: default(i32::from(new.replication)) as i16,
        configs: configs.collect(),
    });
    let request = message!(CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: CREATE_TIMEOUT.as_millis() as i32,
    });
    for result in conn.call_at(&request, version)?.topics {
        let what = || format!("create topic '{}'", new.name);
        ClientError::check(what, result.error_code, result.error_message.as_deref())?;
    }
    Ok(())
}

/// The topic, made first if it is missing, with a leader for every partition.
pub fn ensure_topic(cluster: &mut Cluster, new: &NewTopic<'_>) -> Result<Topic> {
    let deadline = Instant::now() + CREATE_TIMEOUT;
    match cluster.topic(new.name) {
        Ok(_) => {}
        Err(ClientError::UnknownTopic { .. }) => match create_topic(cluster, new) {
            // Somebody else was quicker.
            Err(ClientError::Refused { code, .. })
                if code == ErrorCode::TopicAlreadyExists.code() => {}
            other => other?,
        },
        Err(error) => return Err(error),
    }
    // A broker may not have heard yet of a topic that was just made: ask until it has.
    loop {
        match cluster.topic_with_leaders(new.name, deadline) {
            Err(ClientError::UnknownTopic { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
}

/// What ListOffsets finds in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset; -1: no record is that young.
    pub offset: i64,
    /// Milliseconds since 1970 of the record there, if a time was asked for; else -1.
    pub timestamp: i64,
}

/// Offsets of these partitions at `timestamp` (milliseconds since 1970, or [`EARLIEST`] or
/// [`LATEST`]), by partition. -1: no record is that young.
pub fn list_offsets(
    cluster: &mut Cluster,
    topic: &Topic,
    partitions: &[i32],
    timestamp: i64,
) -> Result<BTreeMap<i32, i64>> {
    let found = find_offsets(cluster, topic, partitions, timestamp)?;
    Ok(found
        .into_iter()
        .map(|(index, found)| (index, found.offset))
        .collect())
}

/// As [`list_offsets`], with the times of the records there.
pub fn find_offsets(
    cluster: &mut Cluster,
    topic: &Topic,
    partitions: &[i32],
    timestamp: i64,
) -> Result<BTreeMap<i32, FoundOffset>> {
    let mut known = Some(topic.clone());
    cluster.retry(|cluster| {
        // What failed may have failed because the leader is another one by now.
        let topic = known
            .take()
            .map_or_else(|| cluster.topic(&topic.name), Ok)?;
        list_offsets_once(cluster, &topic, partitions, (timestamp, READ_UNCOMMITTED))
    })
}

/// The last stable offsets of these partitions: no transaction is undecided before them.
pub fn last_stable_offsets(
    cluster: &mut Cluster,
    topic: &Topic,
    partitions: &[i32],
) -> Result<BTreeMap<i32, i64>> {
    let found = cluster.retry(|cluster| {
        let topic = cluster.topic(&topic.name)?;
        list_offsets_once(cluster, &topic, partitions, (LATEST, READ_COMMITTED))
    })?;
    let found = found.into_iter();
    Ok(found.map(|(index, found)| (index, found.offset)).collect())
}

fn list_offsets_once(
    cluster: &mut Cluster,
    topic: &Topic,
    partitions: &[i32],
    (timestamp, isolation_level): (i64, i8),
) -> Result<BTreeMap<i32, FoundOffset>> {
    let mut offsets = BTreeMap::new();
    for (leader, indexes) in topic.by_leader(partitions.iter().copied())? {
        let asked = indexes.iter().map(|&partition_index| {
            message!(ListOffsetsPartition {
                partition_index: partition_index,
                current_leader_epoch: -1,
                timestamp: timestamp,
            })
        });
        let asked = message!(ListOffsetsTopic {
            name: StrBytes::from(topic.name.as_str()),
            partitions: asked.collect(),
        });
        let request = message!(ListOffsetsRequest {
            replica_id: -1,
            isolation_level: isolation_level,
            topics: vec![asked]
        });
        for found in cluster.node(leader)?.call(&request)?.topics {
            for partition in found.partitions {
                let index = partition.partition_index;
                let what = || format!("ask for offsets of {}-{index}", topic.name);
                ClientError::check(what, partition.error_code, None)?;
                let found = FoundOffset {
                    offset: partition.offset,
                    timestamp: partition.timestamp,
                };
                offsets.insert(index, found);
            }
        }
    }
    Ok(offsets)
}
