//! `groups`: list, describe, delete, reset-offsets.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_wire::{DeleteGroupsRequest, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest};
use kafka_wire_core::StrBytes;
use millrace::base::ErrorCode;
use millrace_client::{
    ClientError, Cluster, LATEST, Position, Result, Topic, list_offsets, message, record_time,
};

use crate::answer::{Answer, Cell, Output, Rows};
use crate::args::Groups;
use crate::failure::{Failure, Outcome};
use crate::members::{Described, described};
use crate::start::{Place, Start, indexes, places};
use crate::time::now_ms;

/// Newest versions of OffsetCommit and OffsetFetch that name topics by name.
const OFFSETS_BY_NAME_UNTIL: i16 = 9;
/// From this version on, OffsetFetch asks for a list of groups.
const FETCH_GROUPS_SINCE: i16 = 8;

/// Runs the command.
pub fn run(cluster: &mut Cluster, output: Output, command: &Groups) -> Outcome {
    match command {
        Groups::List => output.show(&cluster.retry(list)?),
        Groups::Describe { groups, watch } => output.watch(watch.every(), || {
            let one = |group: &String| cluster.retry(|cluster| describe(cluster, group));
            let each = groups.iter().map(one).collect::<Result<_>>()?;
            Ok(Answer::new().each("groups", each))
        }),
        Groups::Delete { groups } => {
            for group in groups {
                cluster.retry(|cluster| delete(cluster, group))?;
            }
            output.show(&Answer::new().field("deleted", groups.iter().collect::<Cell>()))
        }
        Groups::ResetOffsets {
            group,
            topics,
            partitions,
            to,
            execute,
        } => {
            let plan = cluster.retry(|cluster| plan(cluster, group, topics, partitions, *to))?;
            let answer = plan_answer(group, &plan, *execute);
            if !execute {
                return output
                    .show(&answer.note("nothing changed; repeat with --execute to do it"));
            }
            let done = cluster.retry(|cluster| commit(cluster, group, &plan));
            done.map_err(|error| has_members(group, error))?;
            output.show(&answer)
        }
    }
}

fn list(cluster: &mut Cluster) -> Result<Answer> {
    let mut groups = BTreeMap::new();
    let nodes: Vec<i32> = cluster.brokers().keys().copied().collect();
    for node in nodes {
        let response = cluster.node(node)?.call(&ListGroupsRequest::default())?;
        let what = || format!("list the groups of node {node}");
        ClientError::check(what, response.error_code, None)?;
        for group in response.groups {
            groups.insert(group.group_id.to_string(), (node, group));
        }
    }
    let mut rows = Rows::of(&["group", "type", "protocol_type", "state", "coordinator"]);
    // What a broker does not tell, because it is too old, is not known.
    let told = |text: &StrBytes| (!text.is_empty()).then(|| text.to_string()).into();
    for (group_id, (node, group)) in groups {
        rows.add([
            group_id.into(),
            told(&group.group_type),
            told(&group.protocol_type),
            told(&group.group_state),
            node.into(),
        ]);
    }
    Ok(Answer::new().rows("groups", rows))
}

fn describe(cluster: &mut Cluster, group: &str) -> Result<Answer> {
    let described = described(cluster, group)?;
    let offsets = committed(cluster, group)?;
    let mut members = Rows::of(&["member", "instance", "client", "host", "partitions"]);
    for member in &described.members {
        members.add([
            Cell::from(&member.id),
            member.instance.as_ref().into(),
            Cell::from(&member.client),
            Cell::from(&member.host),
            member.partitions.as_ref().map_or(Cell::Null, |topics| {
                let topics = topics.iter();
                Cell::Map(
                    topics
                        .map(|(name, list)| (name.clone(), list.iter().copied().collect()))
                        .collect(),
                )
            }),
        ]);
    }
    let (rows, lag) = lags(cluster, &described, &offsets)?;
    Ok(Answer::new()
        .field("group", group)
        .field("type", described.kind)
        .field("state", &described.state)
        .field("assignor", &described.assignor)
        .field("epoch", described.epoch)
        .field("coordinator", &described.coordinator)
        .field("lag", lag)
        .rows("members", members)
        .rows("offsets", rows))
}

/// Committed offsets, by topic and partition.
type Offsets = BTreeMap<(String, i32), i64>;

/// How far the group is behind in each partition that it has an offset of or a member for, and in all.
fn lags(cluster: &mut Cluster, described: &Described, offsets: &Offsets) -> Result<(Rows, i64)> {
    let mut rows = Rows::of(&[
        "topic",
        "partition",
        "offset",
        "end_offset",
        "lag",
        "behind_ms",
        "member",
    ]);
    let mut partitions: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    let owned = described.owners();
    for (topic, partition) in offsets.keys().chain(owned.keys()) {
        partitions
            .entry(topic.clone())
            .or_default()
            .insert(*partition);
    }
    let mut sum = 0;
    for (name, partitions) in partitions {
        // A group may hold offsets of a topic that is gone.
        let topic = match cluster.topic(&name) {
            Ok(topic) => Some(topic),
            Err(ClientError::UnknownTopic { .. }) => None,
            Err(error) => return Err(error),
        };
        let ends = match &topic {
            Some(topic) => {
                let led = |index: &i32| topic.partition(*index).is_ok_and(|p| p.leader >= 0);
                let led: Vec<i32> = partitions.iter().copied().filter(led).collect();
                list_offsets(cluster, topic, &led, LATEST)?
            }
            None => BTreeMap::new(),
        };
        for partition in partitions {
            let place = (name.clone(), partition);
            let (offset, end) = (offsets.get(&place).copied(), ends.get(&partition).copied());
            let lag = offset.zip(end).map(|(offset, end)| (end - offset).max(0));
            sum += lag.unwrap_or(0);
            let behind = match (&topic, offset, lag) {
                (Some(topic), Some(offset), Some(1..)) => {
                    let time = record_time(cluster, topic, Position { partition, offset })?;
                    time.map_or(Cell::Null, |time| Cell::Span((now_ms() - time).max(0)))
                }
                (_, _, Some(_)) => Cell::Span(0),
                _ => Cell::Null,
            };
            rows.add([
                Cell::from(&name),
                partition.into(),
                offset.into(),
                end.into(),
                lag.into(),
                behind,
                owned.get(&place).copied().into(),
            ]);
        }
    }
    Ok((rows, sum))
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
    Ok(())
}

/// Of a topic: the current offset (if there is one) and where to go, by partition.
type Move = (Topic, BTreeMap<i32, (Option<i64>, Place)>);

fn plan(
    cluster: &mut Cluster,
    group: &str,
    topics: &[String],
    partitions: &[i32],
    to: Start,
) -> Result<Vec<Move>> {
    let current = committed(cluster, group)?;
    let mut wanted: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for topic in topics {
        wanted.insert(topic, partitions.to_vec());
    }
    if topics.is_empty() {
        for (topic, partition) in current.keys() {
            wanted.entry(topic).or_default().push(*partition);
        }
    }
    let mut plan = Vec::new();
    for (name, partitions) in wanted {
        let topic = cluster.topic(name)?;
        let now = |index: i32| current.get(&(name.to_owned(), index)).copied();
        let indexes = indexes(&topic, &partitions)?;
        let places = places(cluster, &topic, &indexes, to, now)?;
        let moves = places
            .into_iter()
            .map(|(index, place)| (index, (now(index), place)));
        plan.push((topic, moves.collect()));
    }
    Ok(plan)
}

fn plan_answer(group: &str, plan: &[Move], executed: bool) -> Answer {
    let mut rows = Rows::of(&[
        "topic",
        "partition",
        "from_offset",
        "to_offset",
        "first_offset",
        "end_offset",
    ]);
    for (topic, moves) in plan {
        for (partition, (from, place)) in moves {
            rows.add([
                Cell::from(&topic.name),
                (*partition).into(),
                (*from).into(),
                place.at.into(),
                place.first.into(),
                place.end.into(),
            ]);
        }
    }
    let answer = Answer::new()
        .field("group", group)
        .field("executed", executed);
    answer.rows("offsets", rows)
}

fn commit(cluster: &mut Cluster, group: &str, plan: &[Move]) -> Result<()> {
    let topics = plan.iter().map(|(topic, moves)| {
        let partitions = moves.iter().map(|(partition, (_, place))| {
            message!(OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: place.at,
                committed_leader_epoch: -1,
                committed_metadata: Some(StrBytes::from("")),
            })
        });
        message!(OffsetCommitRequestTopic {
            name: StrBytes::from(topic.name.as_str()),
            partitions: partitions.collect(),
        })
    });
    let request = message!(OffsetCommitRequest {
        group_id: StrBytes::from(group),
        generation_id_or_member_epoch: -1,
        group_instance_id: None,
        topics: topics.collect(),
    });
    let conn = cluster.coordinator(group)?;
    let version = conn.version_up_to::<OffsetCommitRequest>(OFFSETS_BY_NAME_UNTIL)?;
    for topic in conn.call_at(&request, version)?.topics {
        for partition in topic.partitions {
            let index = partition.partition_index;
            let what = || format!("commit the offset of {}-{index}", topic.name);
            ClientError::check(what, partition.error_code, None)?;
        }
    }
    Ok(())
}

/// Why offsets could not be moved, as an operator can use it.
fn has_members(group: &str, error: ClientError) -> Failure {
    match &error {
        ClientError::Refused { code, .. }
            if *code == ErrorCode::UnknownMemberId.code()
                || *code == ErrorCode::RebalanceInProgress.code() =>
        {
            format!("group '{group}' has members: stop its consumers first").into()
        }
        _ => error.into(),
    }
}
