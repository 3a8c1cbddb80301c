//! `groups`: list, describe, delete, reset-offsets.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::{DeleteGroupsRequest, ListGroupsRequest};
use kafka_wire_core::StrBytes;
use millrace::base::ErrorCode;
use millrace_client::{
    ClientError, Cluster, LATEST, Position, Result, Topic, list_offsets, message, record_time,
};

use crate::answer::{Answer, Cell, Output, Rows};
use crate::args::Groups;
use crate::failure::{Failure, Outcome};
use crate::members::{Described, described};
use crate::offsets::{Committer, Offsets, commit, committed};
use crate::start::{Place, Start, indexes, places};
use crate::time::now_ms;

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
            let offsets = offsets(&plan);
            let done = cluster.retry(|cluster| commit(cluster, group, Committer::NOBODY, &offsets));
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

/// The offsets that the group has afterwards.
fn offsets(plan: &[Move]) -> Offsets {
    let moves = plan.iter().flat_map(|(topic, moves)| {
        let at = |(partition, (_, place)): (&i32, &(Option<i64>, Place))| {
            ((topic.name.clone(), *partition), place.at)
        };
        moves.iter().map(at)
    });
    moves.collect()
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
