//! `topics`: list, create, describe, alter, delete, delete-records, offsets.

use std::collections::BTreeMap;

use kafka_wire::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_wire::delete_topics_request::DeleteTopicState;
use kafka_wire::{CreatePartitionsRequest, DeleteRecordsRequest, DeleteTopicsRequest};
use kafka_wire_core::StrBytes;
use millrace::base::TopicId;
use millrace_client::{
    ClientError, Cluster, EARLIEST, LATEST, NewTopic, Result, Topic, create_topic, find_offsets,
    list_offsets, message,
};

use crate::answer::{Answer, Cell, Output, Rows};
use crate::args::{Changes, Kind, Topics};
use crate::configs;
use crate::dirs::directories;
use crate::failure::{Failure, Outcome};
use crate::pattern::Pattern;
use crate::start::{Place, Start, indexes, places};

/// From this version on, DeleteTopics names topics in a list of structures.
const DELETE_BY_STATE_SINCE: i16 = 6;
/// Milliseconds that a broker may take to carry out a change.
const CHANGE_TIMEOUT_MS: i32 = 30_000;

/// Runs the command.
pub fn run(cluster: &mut Cluster, output: Output, command: &Topics) -> Outcome {
    let answer = match command {
        Topics::List { internal, matching } => list(cluster, *internal, matching.as_ref())?,
        Topics::Create {
            name,
            partitions,
            replication,
            configs,
        } => {
            let new = NewTopic {
                name,
                partitions: *partitions,
                replication: *replication,
                configs,
            };
            create_topic(cluster, &new)?;
            Answer::new().field("created", name)
        }
        Topics::Describe { names, all_configs } => {
            let one = |name: &String| describe(cluster, name, *all_configs);
            Answer::new().each("topics", names.iter().map(one).collect::<Result<_>>()?)
        }
        Topics::Delete {
            names,
            matching,
            yes,
        } => return delete(cluster, output, names, matching.as_ref(), *yes),
        Topics::Alter {
            name,
            partitions,
            changes,
        } => alter(cluster, name, *partitions, changes)?,
        Topics::DeleteRecords {
            name,
            before,
            partitions,
            yes,
        } => {
            let topic = cluster.topic(name)?;
            let indexes = indexes(&topic, partitions)?;
            delete_records(cluster, output, &topic, &indexes, *before, yes.yes)?
        }
        Topics::Offsets {
            name,
            at,
            partitions,
        } => offsets(cluster, name, *at, partitions)?,
    };
    output.show(&answer)
}

fn list(cluster: &mut Cluster, internal: bool, matching: Option<&Pattern>) -> Result<Answer> {
    let mut rows = Rows::of(&["topic", "partitions", "replicas", "out_of_sync", "internal"]);
    for topic in cluster.topics()? {
        let shown = internal || !topic.internal;
        if !shown || matching.is_some_and(|pattern| !pattern.finds(topic.name.as_bytes())) {
            continue;
        }
        let replicas = topic.partitions.iter().map(|p| p.replicas.len()).max();
        let behind = topic
            .partitions
            .iter()
            .filter(|p| p.isr.len() < p.replicas.len())
            .count();
        rows.add([
            topic.name.into(),
            topic.partitions.len().into(),
            replicas.unwrap_or(0).into(),
            Cell::from(behind).alarm(behind > 0),
            topic.internal.into(),
        ]);
    }
    Ok(Answer::new().rows("topics", rows))
}

/// Bytes of each partition at its leader; nothing of leaders that cannot be asked.
fn sizes(cluster: &mut Cluster, topics: &[&Topic]) -> BTreeMap<(String, i32), u64> {
    let mut leaders = BTreeMap::new();
    for topic in topics {
        for p in topic.partitions.iter().filter(|p| p.leader >= 0) {
            leaders.insert((topic.name.as_str(), p.index), p.leader);
        }
    }
    let mut nodes: Vec<i32> = leaders.values().copied().collect();
    nodes.sort_unstable();
    nodes.dedup();
    let mut sizes = BTreeMap::new();
    for node in nodes {
        // An answer without sizes is better than none.
        let dirs = directories(cluster, [node], Some(topics)).unwrap_or_default();
        for replica in dirs.into_iter().flat_map(|dir| dir.replicas) {
            if leaders.get(&(replica.topic.as_str(), replica.partition)) == Some(&node) {
                *sizes.entry((replica.topic, replica.partition)).or_default() += replica.bytes;
            }
        }
    }
    sizes
}

fn describe(cluster: &mut Cluster, name: &str, all_configs: bool) -> Result<Answer> {
    let topic = cluster.topic(name)?;
    let led = led(&topic);
    let first = list_offsets(cluster, &topic, &led, EARLIEST)?;
    let end = list_offsets(cluster, &topic, &led, LATEST)?;
    let sizes = sizes(cluster, &[&topic]);
    let mut rows = Rows::of(&[
        "partition",
        "leader",
        "leader_epoch",
        "replicas",
        "isr",
        "first_offset",
        "end_offset",
        "bytes",
    ]);
    for p in &topic.partitions {
        let ids = |ids: &[i32]| ids.iter().copied().collect::<Cell>();
        let bytes = sizes.get(&(topic.name.clone(), p.index));
        rows.add([
            p.index.into(),
            Cell::id(p.leader).alarm(p.leader < 0),
            p.leader_epoch.into(),
            ids(&p.replicas),
            ids(&p.isr).alarm(p.isr.len() < p.replicas.len()),
            first.get(&p.index).copied().into(),
            end.get(&p.index).copied().into(),
            bytes.map_or(Cell::Null, |bytes| Cell::Bytes(*bytes)),
        ]);
    }
    let id = (topic.id != TopicId::ZERO).then(|| topic.id.to_string());
    Ok(Answer::new()
        .field("topic", name)
        .field("id", id)
        .field("internal", topic.internal)
        .field("bytes", Cell::Bytes(sizes.values().sum()))
        .rows("partitions", rows)
        .rows(
            "configs",
            configs::describe(cluster, Kind::Topic, name, all_configs)?,
        ))
}

/// The partitions that have a leader.
fn led(topic: &Topic) -> Vec<i32> {
    let led = topic.partitions.iter().filter(|p| p.leader >= 0);
    led.map(|p| p.index).collect()
}

fn delete(
    cluster: &mut Cluster,
    output: Output,
    names: &[String],
    matching: Option<&Pattern>,
    sure: bool,
) -> Outcome {
    let mut doomed = Vec::new();
    match matching {
        Some(pattern) => {
            let mut found = cluster.topics()?;
            found.retain(|topic| !topic.internal && pattern.finds(topic.name.as_bytes()));
            if found.is_empty() {
                return Err("no topic's name matches; `millracectl topics list` shows them".into());
            }
            if !sure {
                let question =
                    format!("Delete these {} topics and all their records?", found.len());
                output.confirm(&doomed_answer(cluster, &found)?, &question, sure)?;
            }
            doomed.extend(found.into_iter().map(|topic| topic.name));
        }
        None => {
            for name in names {
                // Names the nearest topic if there is none of this name, which the broker would not do.
                doomed.push(cluster.topic(name)?.name);
            }
        }
    }
    let mut deleted = Vec::new();
    for name in doomed {
        if let Err(error) = delete_one(cluster, &name) {
            output.show(&Answer::new().field("deleted", Cell::from_iter(deleted)))?;
            return Err(error.into());
        }
        deleted.push(name);
    }
    output.show(&Answer::new().field("deleted", Cell::from_iter(deleted)))
}

fn doomed_answer(cluster: &mut Cluster, topics: &[Topic]) -> Result<Answer> {
    let all: Vec<&Topic> = topics.iter().collect();
    let sizes = sizes(cluster, &all);
    let mut rows = Rows::of(&["topic", "partitions", "records", "bytes"]);
    for topic in topics {
        let led = led(topic);
        let first = list_offsets(cluster, topic, &led, EARLIEST)?;
        let end = list_offsets(cluster, topic, &led, LATEST)?;
        let records = end
            .iter()
            .map(|(index, end)| end - first.get(index).unwrap_or(end))
            .sum::<i64>();
        let of_topic = sizes.iter().filter(|((name, _), _)| *name == topic.name);
        rows.add([
            Cell::from(&topic.name),
            topic.partitions.len().into(),
            records.into(),
            Cell::Bytes(of_topic.map(|(_, bytes)| bytes).sum()),
        ]);
    }
    Ok(Answer::new().rows("topics", rows))
}

fn delete_one(cluster: &mut Cluster, name: &str) -> Result<()> {
    let conn = cluster.controller()?;
    let version = conn.version::<DeleteTopicsRequest>()?;
    let mut request = message!(DeleteTopicsRequest {
        timeout_ms: CHANGE_TIMEOUT_MS
    });
    if version >= DELETE_BY_STATE_SINCE {
        request.topics = vec![message!(DeleteTopicState {
            name: Some(StrBytes::from(name))
        })];
    } else {
        request.topic_names = vec![StrBytes::from(name)];
    }
    for result in conn.call_at(&request, version)?.responses {
        let what = || format!("delete topic '{name}'");
        ClientError::check(what, result.error_code, result.error_message.as_deref())?;
    }
    Ok(())
}

fn alter(
    cluster: &mut Cluster,
    name: &str,
    partitions: Option<i32>,
    changes: &Changes,
) -> Outcome<Answer> {
    if partitions.is_none() && changes.is_empty() {
        return Err(Failure::new(
            crate::failure::Status::CommandLine,
            "nothing to change: give --partitions, --set or --unset",
        ));
    }
    cluster.topic(name)?;
    let mut answer = Answer::new().field("altered", name);
    if !changes.is_empty() {
        configs::alter(cluster, Kind::Topic, name, changes)?;
        answer = changes.answer(answer);
    }
    if let Some(count) = partitions {
        let topic = message!(CreatePartitionsTopic {
            name: StrBytes::from(name),
            count: count,
            assignments: None,
        });
        let request = message!(CreatePartitionsRequest {
            topics: vec![topic],
            timeout_ms: CHANGE_TIMEOUT_MS
        });
        for result in cluster.controller()?.call(&request)?.results {
            let what = || format!("change the number of partitions of '{name}'");
            ClientError::check(what, result.error_code, result.error_message.as_deref())?;
        }
        answer = answer.field("partitions", count);
    }
    Ok(answer)
}

fn delete_records(
    cluster: &mut Cluster,
    output: Output,
    topic: &Topic,
    indexes: &[i32],
    before: Start,
    sure: bool,
) -> Outcome<Answer> {
    let plan = places(cluster, topic, indexes, before, |_| None)?;
    let mut rows = Rows::of(&[
        "partition",
        "first_offset",
        "before_offset",
        "end_offset",
        "records",
    ]);
    for (index, place) in &plan {
        let records = place.at - place.first;
        let cells = [place.first, place.at, place.end, records];
        rows.add(std::iter::once((*index).into()).chain(cells.map(Cell::from)));
    }
    let records = plan
        .values()
        .map(|place| place.at - place.first)
        .sum::<i64>();
    let shown = Answer::new()
        .field("topic", &topic.name)
        .rows("partitions", rows);
    output.confirm(
        &shown,
        &format!("Delete these {records} records for good?"),
        sure,
    )?;

    let left = cluster.retry(|cluster| {
        let topic = cluster.topic(&topic.name)?;
        delete_before(cluster, &topic, &plan)
    })?;
    let mut rows = Rows::of(&["partition", "first_offset"]);
    for (index, first) in left {
        rows.add([index.into(), first.into()]);
    }
    Ok(Answer::new()
        .field("topic", &topic.name)
        .field("deleted_records", records)
        .rows("partitions", rows))
}

/// Deletes what is before the places; the first offsets then, by partition.
fn delete_before(
    cluster: &mut Cluster,
    topic: &Topic,
    plan: &BTreeMap<i32, Place>,
) -> Result<BTreeMap<i32, i64>> {
    let mut left = BTreeMap::new();
    for (leader, indexes) in topic.by_leader(plan.keys().copied())? {
        let partitions = indexes.iter().map(|index| {
            message!(DeleteRecordsPartition {
                partition_index: *index,
                offset: plan[index].at
            })
        });
        let asked = message!(DeleteRecordsTopic {
            name: StrBytes::from(topic.name.as_str()),
            partitions: partitions.collect(),
        });
        let request = message!(DeleteRecordsRequest {
            topics: vec![asked],
            timeout_ms: CHANGE_TIMEOUT_MS
        });
        let answers = cluster.node(leader)?.call(&request)?.topics;
        for answer in answers.iter().flat_map(|topic| &topic.partitions) {
            let index = answer.partition_index;
            let what = || format!("delete records of {}-{index}", topic.name);
            ClientError::check(what, answer.error_code, None)?;
            left.insert(index, answer.low_watermark);
        }
    }
    Ok(left)
}

fn offsets(cluster: &mut Cluster, name: &str, at: Option<Start>, wanted: &[i32]) -> Result<Answer> {
    let topic = cluster.topic(name)?;
    let indexes = indexes(&topic, wanted)?;
    let answer = Answer::new().field("topic", name);
    let Some(at) = at else {
        let places = places(cluster, &topic, &indexes, Start::End, |_| None)?;
        let mut rows = Rows::of(&["partition", "first_offset", "end_offset"]);
        for (index, place) in places {
            rows.add([index.into(), place.first.into(), place.end.into()]);
        }
        return Ok(answer.rows("partitions", rows));
    };
    let places = places(cluster, &topic, &indexes, at, |_| None)?;
    let times = match at.time_ms() {
        Some(time) => find_offsets(cluster, &topic, &indexes, time)?,
        None => BTreeMap::new(),
    };
    let mut rows = Rows::of(&["partition", "offset", "timestamp_ms"]);
    for (index, place) in places {
        let time = times.get(&index).filter(|found| found.offset >= 0);
        let time = time.map_or(Cell::Null, |found| Cell::Time(found.timestamp));
        rows.add([index.into(), place.at.into(), time]);
    }
    Ok(answer.rows("partitions", rows))
}
