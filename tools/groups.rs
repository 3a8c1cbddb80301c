//! `groups`: list, describe, delete, reset-offsets.

use std::collections::BTreeMap;

use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_wire::{
    DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetFetchRequest,
};
use kafka_wire_core::StrBytes;
use millrace::base::ErrorCode;

use crate::Outcome;
use crate::args::Groups;
use crate::start::Start;
use crate::table::Table;
use millrace_client::{
    ClientError, Cluster, EARLIEST, LATEST, Result, Topic, list_offsets, message,
};

/// Newest versions of OffsetCommit and OffsetFetch that name topics by name.
const OFFSETS_BY_NAME_UNTIL: i16 = 9;
/// From this version on, OffsetFetch asks for a list of groups.
const FETCH_GROUPS_SINCE: i16 = 8;

/// Runs the command.
pub fn run(cluster: &mut Cluster, command: &Groups) -> Outcome {
    match command {
        Groups::List => cluster.retry(list).map_err(|e| e.to_string()),
        Groups::Describe { group } => cluster
            .retry(|cluster| describe(cluster, group))
            .map_err(|e| e.to_string()),
        Groups::Delete { groups } => groups
            .iter()
            .try_for_each(|group| cluster.retry(|cluster| delete(cluster, group)))
            .map_err(|e| e.to_string()),
        Groups::ResetOffsets {
            group,
            topic,
            partitions,
            to,
            execute,
        } => reset(cluster, group, topic, partitions, *to, *execute),
    }
}

fn list(cluster: &mut Cluster) -> Result<()> {
    let mut groups = BTreeMap::new();
    let nodes: Vec<i32> = cluster.brokers().keys().copied().collect();
    for node in nodes {
        let response = cluster.node(node)?.call(&ListGroupsRequest::default())?;
        ClientError::check(
            || format!("list the groups of node {node}"),
            response.error_code,
            None,
        )?;
        for group in response.groups {
            let kind = if group.group_type.is_empty() {
                group.protocol_type
            } else {
                group.group_type
            };
            groups.insert(
                group.group_id.to_string(),
                [
                    kind.to_string(),
                    group.group_state.to_string(),
                    node.to_string(),
                ],
            );
        }
    }
    let mut table = Table::new(&["GROUP", "TYPE", "STATE", "COORDINATOR"]);
    for (group, cells) in groups {
        table.row(std::iter::once(group).chain(cells));
    }
    print!("{table}");
    Ok(())
}

fn describe(cluster: &mut Cluster, group: &str) -> Result<()> {
    let request = message!(DescribeGroupsRequest {
        groups: vec![StrBytes::from(group)]
    });
    let conn = cluster.coordinator(group)?;
    let coordinator = conn.address().to_owned();
    let response = conn.call(&request)?;
    let offsets = committed(cluster, group)?;
    for described in response.groups {
        // Only groups of the classic protocol are described by this request; offsets are common to all.
        let other_type =
            described.error_code == ErrorCode::GroupIdNotFound.code() && !offsets.is_empty();
        if other_type {
            println!("group  {group}  coordinator {coordinator}  (not of the classic protocol)");
            continue;
        }
        let what = || format!("describe group '{group}'");
        ClientError::check(
            what,
            described.error_code,
            described.error_message.as_deref(),
        )?;
        println!(
            "group  {group}  state {}  protocol {}  coordinator {coordinator}",
            described.group_state, described.protocol_data
        );
        let mut table = Table::new(&["MEMBER", "INSTANCE", "CLIENT", "HOST"]);
        for member in &described.members {
            table.row([
                member.member_id.to_string(),
                member
                    .group_instance_id
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                member.client_id.to_string(),
                member.client_host.to_string(),
            ]);
        }
        if !described.members.is_empty() {
            print!("{table}");
        }
    }
    print!("{}", offset_table(cluster, &offsets)?);
    Ok(())
}

type Offsets = BTreeMap<(String, i32), i64>;

fn offset_table(cluster: &mut Cluster, offsets: &Offsets) -> Result<Table> {
    let mut table = Table::new(&["TOPIC", "PARTITION", "OFFSET", "END", "LAG"]);
    let mut by_topic: BTreeMap<&str, Vec<(i32, i64)>> = BTreeMap::new();
    for ((topic, partition), offset) in offsets {
        by_topic
            .entry(topic)
            .or_default()
            .push((*partition, *offset));
    }
    for (name, positions) in by_topic {
        // A group may hold offsets of a topic that is gone.
        let ends = match cluster.topic(name) {
            Ok(topic) => {
                let indexes: Vec<i32> = positions
                    .iter()
                    .map(|(index, _)| *index)
                    .filter(|index| topic.partition(*index).is_ok_and(|p| p.leader >= 0))
                    .collect();
                list_offsets(cluster, &topic, &indexes, LATEST)?
            }
            Err(ClientError::UnknownTopic { .. }) => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        for (partition, offset) in positions {
            let end = ends.get(&partition);
            table.row([
                name.to_owned(),
                partition.to_string(),
                offset.to_string(),
                end.map(i64::to_string).unwrap_or_default(),
                end.map(|end| (end - offset).max(0).to_string())
                    .unwrap_or_default(),
            ]);
        }
    }
    Ok(table)
}

/// All offsets that the group has committed.
fn committed(cluster: &mut Cluster, group: &str) -> Result<Offsets> {
    let conn = cluster.coordinator(group)?;
    let version = conn.version_up_to::<OffsetFetchRequest>(OFFSETS_BY_NAME_UNTIL)?;
    let id = StrBytes::from(group);
    let request = if version >= FETCH_GROUPS_SINCE {
        let asked = message!(OffsetFetchRequestGroup {
            group_id: id,
            member_id: None,
            member_epoch: -1,
            topics: None,
        });
        message!(OffsetFetchRequest {
            groups: vec![asked]
        })
    } else {
        message!(OffsetFetchRequest {
            group_id: id,
            topics: None
        })
    };
    let response = conn.call_at(&request, version)?;
    let what = || format!("ask for the offsets of group '{group}'");
    ClientError::check(what, response.error_code, None)?;
    let mut offsets = Offsets::new();
    for topic in &response.topics {
        for p in &topic.partitions {
            ClientError::check(what, p.error_code, None)?;
            offsets.insert(
                (topic.name.to_string(), p.partition_index),
                p.committed_offset,
            );
        }
    }
    for group in &response.groups {
        ClientError::check(what, group.error_code, None)?;
        for topic in &group.topics {
            for p in &topic.partitions {
                ClientError::check(what, p.error_code, None)?;
                offsets.insert(
                    (topic.name.to_string(), p.partition_index),
                    p.committed_offset,
                );
            }
        }
    }
    offsets.retain(|_, offset| *offset >= 0);
    Ok(offsets)
}

fn delete(cluster: &mut Cluster, group: &str) -> Result<()> {
    let request = message!(DeleteGroupsRequest {
        groups_names: vec![StrBytes::from(group)]
    });
    for result in cluster.coordinator(group)?.call(&request)?.results {
        let what = || format!("delete group '{group}'");
        ClientError::check(what, result.error_code, result.error_message.as_deref())?;
    }
    println!("deleted {group}");
    Ok(())
}

fn reset(
    cluster: &mut Cluster,
    group: &str,
    topic: &str,
    partitions: &[i32],
    to: Start,
    execute: bool,
) -> Outcome {
    let topic = cluster.topic(topic).map_err(|e| e.to_string())?;
    let mut indexes = partitions.to_vec();
    if indexes.is_empty() {
        indexes = topic.partitions.iter().map(|p| p.index).collect();
    }
    let plan = cluster.retry(|cluster| plan(cluster, group, &topic, &indexes, to));
    let plan = plan.map_err(|e| e.to_string())?;
    let mut table = Table::new(&["TOPIC", "PARTITION", "FROM", "TO"]);
    for (partition, (from, to)) in &plan {
        let from = from.map(|offset| offset.to_string()).unwrap_or_default();
        table.row([
            topic.name.clone(),
            partition.to_string(),
            from,
            to.to_string(),
        ]);
    }
    print!("{table}");
    if !execute {
        println!("nothing changed; repeat with --execute to do it");
        return Ok(());
    }
    let done = cluster.retry(|cluster| commit(cluster, group, &topic, &plan));
    done.map_err(|error| match &error {
        ClientError::Refused { code, .. }
            if *code == ErrorCode::UnknownMemberId.code()
                || *code == ErrorCode::RebalanceInProgress.code() =>
        {
            format!("group '{group}' has members: stop its consumers first")
        }
        _ => error.to_string(),
    })
}

/// Current (if any) and new offset, by partition.
type Plan = BTreeMap<i32, (Option<i64>, i64)>;

fn plan(
    cluster: &mut Cluster,
    group: &str,
    topic: &Topic,
    indexes: &[i32],
    to: Start,
) -> Result<Plan> {
    let current = committed(cluster, group)?;
    let first = list_offsets(cluster, topic, indexes, EARLIEST)?;
    let end = list_offsets(cluster, topic, indexes, LATEST)?;
    let timed = match to {
        Start::Time(time) => list_offsets(cluster, topic, indexes, time)?,
        _ => BTreeMap::new(),
    };
    let mut plan = Plan::new();
    for index in indexes {
        let now = current.get(&(topic.name.clone(), *index)).copied();
        let (first, end) = (first[index], end[index]);
        let target = target(to, now, first, end, timed.get(index).copied());
        plan.insert(*index, (now, target));
    }
    Ok(plan)
}

/// The new offset: never outside of what the partition holds.
fn target(to: Start, now: Option<i64>, first: i64, end: i64, timed: Option<i64>) -> i64 {
    let target = match to {
        Start::Beginning => first,
        Start::End => end,
        Start::Offset(offset) => offset,
        Start::Back(n) => now.unwrap_or(end).saturating_sub(n),
        Start::Forward(n) => now.unwrap_or(first).saturating_add(n),
        // No record is that young: what comes next will be.
        Start::Time(_) => timed.filter(|offset| *offset >= 0).unwrap_or(end),
    };
    target.clamp(first, end.max(first))
}

fn commit(cluster: &mut Cluster, group: &str, topic: &Topic, plan: &Plan) -> Result<()> {
    let partitions = plan.iter().map(|(partition, (_, to))| {
        message!(OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: *to,
            committed_leader_epoch: -1,
            committed_metadata: Some(StrBytes::from("")),
        })
    });
    let committed = message!(OffsetCommitRequestTopic {
        name: StrBytes::from(topic.name.as_str()),
        partitions: partitions.collect(),
    });
    let request = message!(OffsetCommitRequest {
        group_id: StrBytes::from(group),
        generation_id_or_member_epoch: -1,
        group_instance_id: None,
        topics: vec![committed],
    });
    let conn = cluster.coordinator(group)?;
    let version = conn.version_up_to::<OffsetCommitRequest>(OFFSETS_BY_NAME_UNTIL)?;
    for result in conn.call_at(&request, version)?.topics {
        for partition in result.partitions {
            let what = || {
                format!(
                    "commit the offset of {}-{}",
                    topic.name, partition.partition_index
                )
            };
            ClientError::check(what, partition.error_code, None)?;
        }
    }
    println!("done");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stay_within_the_partition() {
        let at = |to, now| target(to, now, 10, 100, None);
        assert_eq!(at(Start::Beginning, Some(50)), 10);
        assert_eq!(at(Start::End, None), 100);
        assert_eq!(at(Start::Offset(5), None), 10);
        assert_eq!(at(Start::Offset(500), None), 100);
        assert_eq!(at(Start::Back(20), Some(50)), 30);
        assert_eq!(at(Start::Back(20), None), 80);
        assert_eq!(at(Start::Forward(20), Some(90)), 100);
        assert_eq!(at(Start::Forward(20), None), 30);
    }

    #[test]
    fn a_time_after_the_last_record_is_the_end() {
        assert_eq!(target(Start::Time(1), None, 0, 9, Some(-1)), 9);
        assert_eq!(target(Start::Time(1), None, 0, 9, Some(4)), 4);
    }
}
