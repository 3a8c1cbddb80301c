//! `cluster`: the brokers, whether they are well, who decides, and what they have on their disks.

use std::collections::BTreeMap;

use kafka_wire::DescribeClusterRequest;
use kafka_wire::describe_quorum_response::ReplicaState;
use millrace_client::{ClientError, Cluster, Result, Topic, message};

use crate::answer::{Answer, Cell, Output, Rows};
use crate::args::ClusterCommand;
use crate::configs;
use crate::dirs::{Directory, directories};
use crate::failure::{Failure, Outcome, Status};
use crate::voters;

/// From this version on, DescribeCluster tells of fenced brokers (KIP-1073).
const FENCED_SINCE: i16 = 2;
/// A directory with less than one part in so many free is nearly full.
const FREE_PART_MIN: u64 = 10;

/// Runs the command.
pub fn run(cluster: &mut Cluster, output: Output, command: Option<ClusterCommand>) -> Outcome {
    match command.unwrap_or(ClusterCommand::Nodes) {
        ClusterCommand::Nodes => output.show(&nodes(cluster)?),
        ClusterCommand::Health { watch } => {
            let mut problems = 0;
            output.watch(watch.every(), || {
                let (answer, found) = health(cluster)?;
                problems = found;
                Ok(answer)
            })?;
            if problems == 0 {
                return Ok(());
            }
            Err(Failure::new(
                Status::Unwell,
                format!("{problems} problems, as said above"),
            ))
        }
        ClusterCommand::Quorum { watch } => output.watch(watch.every(), || Ok(quorum(cluster)?)),
        ClusterCommand::Voters { command } => voters::run(cluster, output, command),
        ClusterCommand::Stores => output.show(&stores(cluster)?),
    }
}

fn nodes(cluster: &mut Cluster) -> Result<Answer> {
    let metadata = cluster.metadata(Some(&[]))?;
    let mut nodes = Rows::of(&[
        "node",
        "address",
        "rack",
        "reachable",
        "apis",
        "produce",
        "fetch",
    ]);
    for broker in &metadata.brokers {
        let node = broker.node_id;
        let conn = cluster.node(node);
        let versions = conn.as_ref().ok().map(|conn| conn.versions());
        let range = |key: i16| {
            let range = versions.and_then(|versions| versions.get(&key));
            Cell::from(range.map(|(min, max)| format!("{min}-{max}")))
        };
        nodes.add([
            node.into(),
            format!("{}:{}", broker.host, broker.port).into(),
            broker.rack.as_ref().into(),
            Cell::from(versions.is_some()).alarm(versions.is_none()),
            versions.map(|versions| versions.len()).into(),
            range(0),
            range(1),
        ]);
    }
    let topics = cluster.topics()?;
    let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
    let behind = partitions()
        .filter(|p| p.isr.len() < p.replicas.len())
        .count();
    let leaderless = partitions().filter(|p| p.leader < 0).count();
    Ok(Answer::new()
        .field("cluster", metadata.cluster_id.as_ref())
        .field("controller", Cell::id(metadata.controller_id))
        .field("topics", topics.len())
        .field("partitions", partitions().count())
        .field("out_of_sync", behind)
        .field("without_leader", leaderless)
        .rows("nodes", nodes))
}

/// What is wrong, by what it is about.
#[derive(Debug, Default, PartialEq, Eq)]
struct Problems(Vec<(&'static str, String, String)>);

impl Problems {
    fn add(&mut self, kind: &'static str, place: impl ToString, what: impl ToString) {
        self.0.push((kind, place.to_string(), what.to_string()));
    }

    /// `min_isr` is how many replicas have to be in sync for `acks=all`, by topic, where it is known.
    fn of_topics(&mut self, topics: &[Topic], min_isr: &BTreeMap<String, String>) {
        for topic in topics {
            for p in &topic.partitions {
                let place = format!("{}-{}", topic.name, p.index);
                if p.leader < 0 {
                    self.add("no-leader", place, "nobody can write or read it");
                    continue;
                }
                let due = min_isr.get(&topic.name).and_then(|due| due.parse().ok());
                if due.is_some_and(|due: usize| p.isr.len() < due) {
                    let what = format!("{} in sync: acks=all is refused", p.isr.len());
                    self.add("under-min-isr", place, what);
                } else if p.isr.len() < p.replicas.len() {
                    let gone = p.replicas.iter().filter(|id| !p.isr.contains(id));
                    let gone: Vec<String> = gone.map(ToString::to_string).collect();
                    self.add(
                        "out-of-sync",
                        place,
                        format!("not in sync: {}", gone.join(",")),
                    );
                }
            }
        }
    }

    fn of_directory(&mut self, dir: &Directory) {
        let place = format!("{} of node {}", dir.path, dir.node);
        if let Some(error) = &dir.error {
            self.add("directory", &place, error);
        }
        if let (Some(total), Some(usable)) = (dir.total, dir.usable)
            && usable < total / FREE_PART_MIN
        {
            let free = Cell::Bytes(usable);
            self.add(
                "nearly-full",
                &place,
                format!("{free} of {} are free", Cell::Bytes(total)),
            );
        }
    }

    fn rows(&self) -> Rows {
        let mut rows = Rows::of(&["problem", "place", "what"]);
        for (kind, place, what) in &self.0 {
            rows.add([Cell::from(*kind).alarm(true), place.into(), what.into()]);
        }
        rows
    }
}

fn health(cluster: &mut Cluster) -> Result<(Answer, usize)> {
    let mut problems = Problems::default();
    let topics = cluster.topics()?;
    let lacking = |topic: &&Topic| {
        topic
            .partitions
            .iter()
            .any(|p| p.isr.len() < p.replicas.len())
    };
    let lacking: Vec<&str> = topics
        .iter()
        .filter(lacking)
        .map(|topic| topic.name.as_str())
        .collect();
    let min_isr = configs::of_topics(cluster, &lacking, "min.insync.replicas")?;
    problems.of_topics(&topics, &min_isr);
    let nodes: BTreeMap<i32, String> = cluster.brokers().clone();
    for (&node, address) in &nodes {
        match directories(cluster, [node], None) {
            Ok(dirs) => dirs.iter().for_each(|dir| problems.of_directory(dir)),
            Err(ClientError::Unreachable { source, .. } | ClientError::Lost { source, .. }) => {
                problems.add("unreachable", format!("node {node} at {address}"), source);
            }
            Err(error) => problems.add("node", format!("node {node} at {address}"), error),
        }
    }
    for node in fenced(cluster)? {
        problems.add("fenced", format!("node {node}"), "registered, and not live");
    }
    let found = problems.0.len();
    let answer = Answer::new()
        .field("healthy", Cell::from(found == 0).alarm(found > 0))
        .field("nodes", nodes.len())
        .field("topics", topics.len())
        .field(
            "partitions",
            topics
                .iter()
                .map(|topic| topic.partitions.len())
                .sum::<usize>(),
        )
        .rows("problems", problems.rows());
    Ok((answer, found))
}

/// Brokers that are registered and not live, as far as the cluster tells.
fn fenced(cluster: &mut Cluster) -> Result<Vec<i32>> {
    let conn = cluster.any()?;
    match conn.version::<DescribeClusterRequest>() {
        Ok(FENCED_SINCE..) => {}
        _ => return Ok(Vec::new()),
    }
    let request = message!(DescribeClusterRequest {
        include_fenced_brokers: true
    });
    let found = conn.call(&request)?;
    let what = || "describe the cluster".to_owned();
    ClientError::check(what, found.error_code, found.error_message.as_deref())?;
    let fenced = found.brokers.iter().filter(|broker| broker.is_fenced);
    Ok(fenced.map(|broker| broker.broker_id).collect())
}

fn quorum(cluster: &mut Cluster) -> Result<Answer> {
    let (log, _) = voters::described(cluster)?;
    let voters = log.current_voters.iter();
    let end = voters
        .clone()
        .find(|voter| voter.replica_id == log.leader_id);
    let end = end.map_or(log.high_watermark, |leader| leader.log_end_offset);
    let mut rows = Rows::of(&[
        "node",
        "role",
        "end_offset",
        "lag",
        "last_fetch_ms",
        "caught_up_ms",
    ]);
    let mut add = |state: &ReplicaState, role: &str| {
        let time = |ms: i64| if ms < 0 { Cell::Null } else { Cell::Time(ms) };
        let known = state.log_end_offset >= 0;
        let offset = |offset: i64| if known { offset.into() } else { Cell::Null };
        rows.add([
            state.replica_id.into(),
            role.into(),
            offset(state.log_end_offset),
            offset((end - state.log_end_offset).max(0)),
            time(state.last_fetch_timestamp),
            time(state.last_caught_up_timestamp),
        ]);
    };
    for voter in voters {
        let leads = voter.replica_id == log.leader_id;
        add(voter, if leads { "leader" } else { "voter" });
    }
    log.observers
        .iter()
        .for_each(|observer| add(observer, "observer"));
    Ok(Answer::new()
        .field("leader", Cell::id(log.leader_id).alarm(log.leader_id < 0))
        .field("leader_epoch", log.leader_epoch)
        .field("high_watermark", log.high_watermark)
        .rows("replicas", rows))
}

fn stores(cluster: &mut Cluster) -> Result<Answer> {
    let nodes: Vec<i32> = cluster.brokers().keys().copied().collect();
    let mut rows = Rows::of(&[
        "node",
        "path",
        "error",
        "replicas",
        "bytes",
        "total_bytes",
        "usable_bytes",
    ]);
    let bytes = |bytes: Option<u64>| bytes.map_or(Cell::Null, Cell::Bytes);
    for dir in directories(cluster, nodes, None)? {
        rows.add([
            dir.node.into(),
            dir.path.into(),
            Cell::from(dir.error.clone()).alarm(dir.error.is_some()),
            dir.replicas.len().into(),
            Cell::Bytes(dir.replicas.iter().map(|replica| replica.bytes).sum()),
            bytes(dir.total),
            bytes(dir.usable),
        ]);
    }
    Ok(Answer::new().rows("stores", rows))
}

#[cfg(test)]
mod tests {
    use millrace_client::Partition;

    use super::*;

    #[test]
    fn partitions_without_leader_or_replicas_are_problems() {
        let partition = |index, leader, isr: &[i32]| Partition {
            index,
            leader,
            replicas: vec![1, 2],
            isr: isr.to_vec(),
            ..Partition::default()
        };
        let topic = Topic {
            name: "t".into(),
            partitions: vec![
                partition(0, 1, &[1, 2]),
                partition(1, 1, &[1]),
                partition(2, -1, &[2]),
            ],
            ..Topic::default()
        };
        let mut problems = Problems::default();
        problems.of_topics(std::slice::from_ref(&topic), &BTreeMap::new());
        let found: Vec<(&str, &str)> = problems
            .0
            .iter()
            .map(|(kind, place, _)| (*kind, place.as_str()))
            .collect();
        assert_eq!(found, [("out-of-sync", "t-1"), ("no-leader", "t-2")]);
        assert_eq!(problems.0[0].2, "not in sync: 2");
        let mut strict = Problems::default();
        strict.of_topics(&[topic], &BTreeMap::from([("t".into(), "2".into())]));
        let kinds: Vec<&str> = strict.0.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds, ["under-min-isr", "no-leader"]);
    }

    #[test]
    fn directories_that_failed_or_are_nearly_full_are_problems() {
        let dir = |error: Option<&str>, usable| Directory {
            node: 1,
            path: "/d".into(),
            error: error.map(str::to_owned),
            total: Some(1000),
            usable,
            replicas: Vec::new(),
        };
        let kinds = |dir: Directory| {
            let mut problems = Problems::default();
            problems.of_directory(&dir);
            problems
                .0
                .iter()
                .map(|(kind, ..)| *kind)
                .collect::<Vec<_>>()
        };
        assert_eq!(kinds(dir(None, Some(100))), [""; 0]);
        assert_eq!(kinds(dir(None, None)), [""; 0]);
        assert_eq!(kinds(dir(None, Some(99))), ["nearly-full"]);
        assert_eq!(kinds(dir(Some("KAFKA_STORAGE_ERROR"), None)), ["directory"]);
    }
}
