//! `top`: what goes on now: records by topic, how far groups are behind, disks, and where there are metrics listeners,
//! what nodes take in, send out and need for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::{ListGroupsRequest, ListOffsetsRequest};
use kafka_wire_core::StrBytes;
use millrace_client::{ClientError, Cluster, LATEST, Result, Topic, message};

use crate::answer::{Answer, Cell, Output, Rows};
use crate::args::Top;
use crate::dirs::directories;
use crate::failure::Outcome;
use crate::metrics::Metrics;
use crate::offsets::committed;

/// Runs the command.
pub fn run(
    cluster: &mut Cluster,
    output: Output,
    args: &Top,
    metrics: Option<&str>,
    timeout: Duration,
) -> Outcome {
    let listeners: Vec<&str> = metrics
        .into_iter()
        .flat_map(|list| list.split(','))
        .collect();
    let look = |cluster: &mut Cluster| Look::now(cluster, &listeners, timeout);
    let mut before = look(cluster)?;
    for number in 1_u64.. {
        std::thread::sleep(Duration::from_secs(args.every));
        let after = look(cluster)?;
        output.top_of_screen()?;
        output.show(&after.since(&before, args.rows))?;
        if args.count == Some(number) {
            break;
        }
        before = after;
    }
    Ok(())
}

/// What a node has on its disks.
#[derive(Clone, Copy, Debug, Default)]
struct Disk {
    bytes: u64,
    usable: Option<u64>,
    replicas: usize,
}

/// What there is at a moment.
struct Look {
    at: Instant,
    disks: BTreeMap<i32, Disk>,
    /// Bytes of each topic's leaders.
    sizes: BTreeMap<String, u64>,
    /// Sums of the end offsets, by topic.
    ends: BTreeMap<String, i64>,
    /// Records that groups have not read.
    lags: BTreeMap<String, i64>,
    metrics: Vec<Metrics>,
}

impl Look {
    fn now(cluster: &mut Cluster, listeners: &[&str], timeout: Duration) -> Outcome<Self> {
        let at = Instant::now();
        let topics = cluster.topics()?;
        let offsets = cluster.retry(|cluster| ends(cluster, &topics))?;
        let lags = cluster.retry(|cluster| lags(cluster, &offsets))?;
        let mut ends = BTreeMap::new();
        for topic in topics.iter().filter(|topic| !topic.internal) {
            let of_topic = topic.partitions.iter();
            let sum = of_topic
                .filter_map(|p| offsets.get(&(topic.name.clone(), p.index)))
                .sum();
            ends.insert(topic.name.clone(), sum);
        }
        let mut leaders = BTreeMap::new();
        for topic in &topics {
            let of_topic = topic.partitions.iter();
            leaders.extend(of_topic.map(|p| ((topic.name.as_str(), p.index), p.leader)));
        }
        let (mut disks, mut sizes) = (BTreeMap::new(), BTreeMap::new());
        let nodes: Vec<i32> = cluster.brokers().keys().copied().collect();
        for dir in directories(cluster, nodes, None)? {
            let disk: &mut Disk = disks.entry(dir.node).or_default();
            disk.replicas += dir.replicas.len();
            // Directories on one volume have the same room.
            disk.usable = disk.usable.max(dir.usable);
            for replica in dir.replicas {
                disk.bytes += replica.bytes;
                if leaders.get(&(replica.topic.as_str(), replica.partition)) == Some(&dir.node) {
                    *sizes.entry(replica.topic).or_default() += replica.bytes;
                }
            }
        }
        let metrics = listeners
            .iter()
            .map(|address| Metrics::read(address, timeout));
        Ok(Self {
            at,
            disks,
            sizes,
            ends,
            lags,
            metrics: metrics.collect::<std::result::Result<_, String>>()?,
        })
    }

    /// What has happened since an earlier moment.
    fn since(&self, before: &Self, rows_max: usize) -> Answer {
        let seconds = (self.at - before.at).as_secs_f64().max(0.001);
        let mut answer = Answer::new();
        if !self.metrics.is_empty() {
            answer = answer.rows("processes", self.processes(before, seconds));
        }
        answer
            .rows("nodes", self.nodes())
            .rows("topics", self.topics(before, seconds, rows_max))
            .rows("groups", self.groups(before, seconds, rows_max))
    }

    fn processes(&self, before: &Self, seconds: f64) -> Rows {
        let mut rows = Rows::of(&[
            "listener",
            "node",
            "cpu_percent",
            "memory",
            "produced_per_s",
            "fetched_per_s",
        ]);
        for now in &self.metrics {
            let earlier = before
                .metrics
                .iter()
                .find(|earlier| earlier.address == now.address);
            let rate = |name: &str| {
                let earlier = earlier?.sum(name)?;
                // A counter that is smaller belongs to a process that was started in between.
                Some((now.sum(name)? - earlier).max(0.0) / seconds)
            };
            let bytes =
                |value: Option<f64>| value.map_or(Cell::Null, |bytes| Cell::Bytes(bytes as u64));
            let cpu = rate("process_cpu_seconds_total").map(|cores| (cores * 100.0) as i64);
            rows.add([
                Cell::from(&now.address),
                now.node.clone().into(),
                cpu.into(),
                bytes(now.sum("process_resident_memory_bytes")),
                bytes(rate("millrace_produced_bytes_total")),
                bytes(rate("millrace_fetched_bytes_total")),
            ]);
        }
        rows
    }

    fn nodes(&self) -> Rows {
        let mut rows = Rows::of(&["node", "replicas", "bytes", "usable_bytes"]);
        for (node, disk) in &self.disks {
            rows.add([
                (*node).into(),
                disk.replicas.into(),
                Cell::Bytes(disk.bytes),
                disk.usable.map_or(Cell::Null, Cell::Bytes),
            ]);
        }
        rows
    }

    fn topics(&self, before: &Self, seconds: f64, rows_max: usize) -> Rows {
        let mut rows = Rows::of(&["topic", "records_per_s", "bytes"]);
        for (topic, rate) in busiest(&self.ends, &before.ends, seconds, rows_max) {
            let bytes = self.sizes.get(topic).copied().unwrap_or(0);
            rows.add([topic.into(), rate.max(0).into(), Cell::Bytes(bytes)]);
        }
        rows
    }

    fn groups(&self, before: &Self, seconds: f64, rows_max: usize) -> Rows {
        let mut rows = Rows::of(&["group", "lag", "lag_per_s"]);
        let rates: BTreeMap<&str, i64> = busiest(&self.lags, &before.lags, seconds, usize::MAX)
            .into_iter()
            .collect();
        let mut furthest: Vec<(&String, &i64)> = self.lags.iter().collect();
        furthest.sort_by_key(|(_, lag)| std::cmp::Reverse(**lag));
        for (group, lag) in furthest.into_iter().take(rows_max) {
            let rate = rates.get(group.as_str()).copied();
            rows.add([group.into(), (*lag).into(), rate.into()]);
        }
        rows
    }
}

/// How much more there is each second, the most first.
fn busiest<'a>(
    now: &'a BTreeMap<String, i64>,
    before: &BTreeMap<String, i64>,
    seconds: f64,
    most: usize,
) -> Vec<(&'a str, i64)> {
    let rate = |(name, count): (&'a String, &i64)| {
        let more = count - before.get(name)?;
        Some((name.as_str(), (more as f64 / seconds).round() as i64))
    };
    let mut rates: Vec<(&str, i64)> = now.iter().filter_map(rate).collect();
    rates.sort_by_key(|(_, rate)| std::cmp::Reverse(*rate));
    rates.truncate(most);
    rates
}

/// End offsets of all partitions that have a leader: one request for each node.
fn ends(cluster: &mut Cluster, topics: &[Topic]) -> Result<BTreeMap<(String, i32), i64>> {
    let mut asked: BTreeMap<i32, Vec<ListOffsetsTopic>> = BTreeMap::new();
    for topic in topics {
        let led = topic
            .partitions
            .iter()
            .filter(|p| p.leader >= 0)
            .map(|p| p.index);
        for (leader, indexes) in topic.by_leader(led)? {
            let partitions = indexes.iter().map(|index| {
                message!(ListOffsetsPartition {
                    partition_index: *index,
                    current_leader_epoch: -1,
                    timestamp: LATEST,
                })
            });
            asked
                .entry(leader)
                .or_default()
                .push(message!(ListOffsetsTopic {
                    name: StrBytes::from(topic.name.as_str()),
                    partitions: partitions.collect(),
                }));
        }
    }
    let mut ends = BTreeMap::new();
    for (leader, topics) in asked {
        let request = message!(ListOffsetsRequest {
            replica_id: -1,
            topics: topics
        });
        for topic in cluster.node(leader)?.call(&request)?.topics {
            // What cannot be told of at the moment is left out of this look.
            for p in topic.partitions.iter().filter(|p| p.error_code == 0) {
                ends.insert((topic.name.to_string(), p.partition_index), p.offset);
            }
        }
    }
    Ok(ends)
}

/// How many records each group has not read.
fn lags(
    cluster: &mut Cluster,
    ends: &BTreeMap<(String, i32), i64>,
) -> Result<BTreeMap<String, i64>> {
    let nodes: Vec<i32> = cluster.brokers().keys().copied().collect();
    let mut lags = BTreeMap::new();
    for node in nodes {
        let response = cluster.node(node)?.call(&ListGroupsRequest::default())?;
        let what = || format!("list the groups of node {node}");
        ClientError::check(what, response.error_code, None)?;
        for group in response.groups {
            let offsets = committed(cluster, &group.group_id)?.into_iter();
            let behind =
                offsets.filter_map(|(place, offset)| Some((ends.get(&place)? - offset).max(0)));
            lags.insert(group.group_id.to_string(), behind.sum());
        }
    }
    Ok(lags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_come_first() {
        let counts = |counts: &[(&str, i64)]| -> BTreeMap<String, i64> {
            counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect()
        };
        let before = counts(&[("a", 10), ("b", 10), ("gone", 5)]);
        let now = counts(&[("a", 12), ("b", 30), ("new", 7)]);
        assert_eq!(busiest(&now, &before, 2.0, 9), [("b", 10), ("a", 1)]);
        assert_eq!(busiest(&now, &before, 2.0, 1), [("b", 10)]);
    }
}
