//! What brokers have on their disks (DescribeLogDirs, KIP-113, KIP-827).

use kafka_wire::DescribeLogDirsRequest;
use kafka_wire::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_wire_core::StrBytes;
use millrace::base::ErrorCode;
use millrace_client::{ClientError, Cluster, Result, Topic, message};

/// One replica in a directory.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Bytes of its log.
    pub bytes: u64,
    /// How far it is behind the high watermark, or behind the replica that it is to replace.
    pub lag: i64,
}

/// A directory of a broker; with Millrace, a store.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The broker.
    pub node: i32,
    /// Its path.
    pub path: String,
    /// What is wrong with it.
    pub error: Option<String>,
    /// Bytes of the volume that it is on, if the broker tells.
    pub total: Option<u64>,
    /// How many of those are free, if the broker tells.
    pub usable: Option<u64>,
    /// The replicas in it.
    pub replicas: Vec<Replica>,
}

/// The directories of these brokers with the replicas of `topics`, or all of them.
pub fn directories(
    cluster: &mut Cluster,
    nodes: impl IntoIterator<Item = i32>,
    topics: Option<&[&Topic]>,
) -> Result<Vec<Directory>> {
    let asked = |topic: &&Topic| {
        message!(DescribableLogDirTopic {
            topic: StrBytes::from(topic.name.as_str()),
            partitions: topic.partitions.iter().map(|p| p.index).collect(),
        })
    };
    let request = message!(DescribeLogDirsRequest {
        topics: topics.map(|topics| topics.iter().map(asked).collect())
    });
    let mut found = Vec::new();
    for node in nodes {
        let response = cluster.node(node)?.call(&request)?;
        let what = || format!("ask node {node} for its directories");
        ClientError::check(what, response.error_code, None)?;
        for dir in response.results {
            let replicas = dir.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|p| Replica {
                    topic: topic.name.to_string(),
                    partition: p.partition_index,
                    bytes: u64::try_from(p.partition_size).unwrap_or(0),
                    lag: p.offset_lag,
                })
            });
            found.push(Directory {
                node,
                path: dir.log_dir.to_string(),
                error: (dir.error_code != 0).then(|| error_name(dir.error_code)),
                total: u64::try_from(dir.total_bytes).ok(),
                usable: u64::try_from(dir.usable_bytes).ok(),
                replicas: replicas.collect(),
            });
        }
    }
    Ok(found)
}

/// The name of an error as Kafka has it.
pub fn error_name(code: i16) -> String {
    let known = ErrorCode::from_code(code);
    known.map_or_else(|| format!("error {code}"), |code| code.name().to_owned())
}
