//! `transactions`: list, describe, producers, hanging, abort (KIP-664).

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::describe_producers_request::TopicRequest;
use kafka_wire::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_wire::{
    DescribeProducersRequest, DescribeTransactionsRequest, ListTransactionsRequest,
    WriteTxnMarkersRequest,
};
use kafka_wire_core::StrBytes;
use millrace_client::{ClientError, Cluster, Result, Topic, message};

use crate::answer::{Answer, Cell, Output, Rows};
use crate::args::Transactions;
use crate::failure::{Failure, Outcome, Status};
use crate::start::indexes;
use crate::time::now_ms;

/// Runs the command.
pub fn run(cluster: &mut Cluster, output: Output, command: &Transactions) -> Outcome {
    let answer = match command {
        Transactions::List { states, producers } => {
            list_answer(cluster.retry(|cluster| list(cluster, states, producers))?)
        }
        Transactions::Describe { ids } => {
            let mut each = Vec::new();
            for id in ids {
                let known = cluster.retry(|cluster| describe(cluster, id))?;
                each.push(known.answer(id));
            }
            Answer::new().each("transactions", each)
        }
        Transactions::Producers { topic, partitions } => {
            let topic = cluster.topic(topic)?;
            let indexes = indexes(&topic, partitions)?;
            let found = cluster.retry(|cluster| producers(cluster, &topic, &indexes))?;
            Answer::new()
                .field("topic", &topic.name)
                .rows("producers", producer_rows(&found))
        }
        Transactions::Hanging { topics, older_than } => {
            let found = cluster.retry(|cluster| hanging(cluster, topics, *older_than))?;
            output.show(&Answer::new().rows("hanging", producer_rows(&found)))?;
            if found.is_empty() {
                return Ok(());
            }
            let text = format!(
                "{} transactions hang; `millracectl transactions abort` ends them one by one",
                found.len()
            );
            return Err(Failure::new(Status::Unwell, text));
        }
        Transactions::Abort {
            topic,
            partition,
            start_offset,
            yes,
        } => abort(cluster, output, topic, *partition, *start_offset, yes.yes)?,
    };
    output.show(&answer)
}

/// A transactional id as its coordinator lists it.
struct Listed {
    id: String,
    state: String,
    producer: i64,
    coordinator: i32,
}

fn list(cluster: &mut Cluster, states: &[String], producers: &[i64]) -> Result<Vec<Listed>> {
    let request = message!(ListTransactionsRequest {
        state_filters: states
            .iter()
            .map(|state| StrBytes::from(state.as_str()))
            .collect(),
        producer_id_filters: producers.to_vec(),
        duration_filter: -1,
    });
    let nodes: Vec<i32> = cluster.brokers().keys().copied().collect();
    let mut found = Vec::new();
    for node in nodes {
        let response = cluster.node(node)?.call(&request)?;
        let what = || format!("list the transactions of node {node}");
        ClientError::check(what, response.error_code, None)?;
        if let Some(unknown) = response.unknown_state_filters.first() {
            // A state that nobody knows is a typing mistake, not a list without entries.
            let message = format!("there is no state '{unknown}'; Ongoing is one");
            return Err(ClientError::Refused {
                what: what(),
                code: millrace::base::ErrorCode::InvalidRequest.code(),
                message: Some(message),
            });
        }
        found.extend(response.transaction_states.iter().map(|state| Listed {
            id: state.transactional_id.to_string(),
            state: state.transaction_state.to_string(),
            producer: state.producer_id,
            coordinator: node,
        }));
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

fn list_answer(found: Vec<Listed>) -> Answer {
    let mut rows = Rows::of(&["transactional_id", "state", "producer_id", "coordinator"]);
    for one in found {
        rows.add([
            one.id.into(),
            one.state.into(),
            one.producer.into(),
            one.coordinator.into(),
        ]);
    }
    Answer::new().rows("transactions", rows)
}

/// What a coordinator knows of a transactional id.
struct Known {
    state: String,
    producer: i64,
    epoch: i16,
    timeout_ms: i32,
    /// Milliseconds since 1970, -1 if no transaction is open.
    started_ms: i64,
    partitions: BTreeMap<String, Vec<i32>>,
    coordinator: String,
}

impl Known {
    fn answer(self, id: &str) -> Answer {
        let open = self.started_ms >= 0;
        let started = if open {
            Cell::Time(self.started_ms)
        } else {
            Cell::Null
        };
        let age = (now_ms() - self.started_ms).max(0);
        let partitions = self.partitions.into_iter();
        Answer::new()
            .field("transactional_id", id)
            .field("state", self.state)
            .field("producer_id", self.producer)
            .field("producer_epoch", self.epoch)
            .field("timeout_ms", Cell::Span(i64::from(self.timeout_ms)))
            .field("started_ms", started)
            .field("open_ms", if open { Cell::Span(age) } else { Cell::Null })
            .field(
                "partitions",
                Cell::Map(
                    partitions
                        .map(|(name, list)| (name, list.into_iter().collect()))
                        .collect(),
                ),
            )
            .field("coordinator", self.coordinator)
    }
}

fn describe(cluster: &mut Cluster, id: &str) -> Result<Known> {
    let request = message!(DescribeTransactionsRequest {
        transactional_ids: vec![StrBytes::from(id)]
    });
    let conn = cluster.transaction_coordinator(id)?;
    let coordinator = conn.address().to_owned();
    let states = conn.call(&request)?.transaction_states;
    let found = states.into_iter().next().unwrap_or_default();
    let what = || format!("describe transactional id '{id}'");
    ClientError::check(what, found.error_code, None)?;
    let topics = found.topics.iter();
    Ok(Known {
        state: found.transaction_state.to_string(),
        producer: found.producer_id,
        epoch: found.producer_epoch,
        timeout_ms: found.transaction_timeout_ms,
        started_ms: found.transaction_start_time_ms,
        partitions: topics
            .map(|topic| (topic.topic.to_string(), topic.partitions.clone()))
            .collect(),
        coordinator,
    })
}

/// A producer as a partition knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    topic: String,
    partition: i32,
    id: i64,
    epoch: i32,
    coordinator_epoch: i32,
    last_sequence: i32,
    last_ms: i64,
    /// Where its open transaction begins, if it has one.
    start_offset: Option<i64>,
}

fn producers(cluster: &mut Cluster, topic: &Topic, indexes: &[i32]) -> Result<Vec<Producer>> {
    let mut found = Vec::new();
    for (leader, indexes) in topic.by_leader(indexes.iter().copied())? {
        let asked = message!(TopicRequest {
            name: StrBytes::from(topic.name.as_str()),
            partition_indexes: indexes,
        });
        let request = message!(DescribeProducersRequest {
            topics: vec![asked]
        });
        let response = cluster.node(leader)?.call(&request)?;
        for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
            let index = partition.partition_index;
            let what = || format!("ask for the producers of {}-{index}", topic.name);
            ClientError::check(
                what,
                partition.error_code,
                partition.error_message.as_deref(),
            )?;
            found.extend(partition.active_producers.iter().map(|producer| Producer {
                topic: topic.name.clone(),
                partition: index,
                id: producer.producer_id,
                epoch: producer.producer_epoch,
                coordinator_epoch: producer.coordinator_epoch,
                last_sequence: producer.last_sequence,
                last_ms: producer.last_timestamp,
                start_offset: Some(producer.current_txn_start_offset).filter(|offset| *offset >= 0),
            }));
        }
    }
    found.sort_by_key(|producer| (producer.partition, producer.id));
    Ok(found)
}

fn producer_rows(producers: &[Producer]) -> Rows {
    let mut rows = Rows::of(&[
        "topic",
        "partition",
        "producer_id",
        "producer_epoch",
        "coordinator_epoch",
        "last_sequence",
        "last_write_ms",
        "start_offset",
    ]);
    for producer in producers {
        rows.add([
            Cell::from(&producer.topic),
            producer.partition.into(),
            producer.id.into(),
            producer.epoch.into(),
            producer.coordinator_epoch.into(),
            producer.last_sequence.into(),
            Cell::Time(producer.last_ms),
            producer.start_offset.into(),
        ]);
    }
    rows
}

/// Transactions that are open in these topics (all if none are named) for so long, and that no
/// coordinator knows to be.
fn hanging(cluster: &mut Cluster, names: &[String], older_than: i64) -> Result<Vec<Producer>> {
    let topics = match names {
        [] => cluster.topics()?,
        names => names
            .iter()
            .map(|name| cluster.topic(name))
            .collect::<Result<_>>()?,
    };
    let before = now_ms().saturating_sub(older_than);
    let mut suspects = Vec::new();
    for topic in &topics {
        // Who leads nothing has no producers to tell of.
        let led = topic.partitions.iter().filter(|p| p.leader >= 0);
        let led: Vec<i32> = led.map(|p| p.index).collect();
        let found = producers(cluster, topic, &led)?.into_iter();
        suspects.extend(found.filter(|one| one.start_offset.is_some() && one.last_ms <= before));
    }
    if suspects.is_empty() {
        return Ok(suspects);
    }
    let ids: BTreeSet<i64> = suspects.iter().map(|suspect| suspect.id).collect();
    let ids: Vec<i64> = ids.into_iter().collect();
    let mut known: Places = BTreeMap::new();
    for listed in list(cluster, &[], &ids)? {
        let described = describe(cluster, &listed.id)?;
        let partitions = described.partitions.into_iter();
        let places =
            partitions.flat_map(|(topic, list)| list.into_iter().map(move |p| (topic.clone(), p)));
        known.entry(described.producer).or_default().extend(places);
    }
    suspects.retain(|suspect| hangs(suspect, &known));
    Ok(suspects)
}

/// The partitions of open transactions that coordinators know of, by producer id.
type Places = BTreeMap<i64, BTreeSet<(String, i32)>>;

/// Whether no coordinator is going to end this producer's transaction in its partition.
fn hangs(producer: &Producer, known: &Places) -> bool {
    let place = (producer.topic.clone(), producer.partition);
    !known
        .get(&producer.id)
        .is_some_and(|places| places.contains(&place))
}

fn abort(
    cluster: &mut Cluster,
    output: Output,
    topic: &str,
    partition: i32,
    start_offset: i64,
    sure: bool,
) -> Outcome<Answer> {
    let topic = cluster.topic(topic)?;
    let found = cluster.retry(|cluster| producers(cluster, &topic, &[partition]))?;
    let found = found
        .into_iter()
        .find(|producer| producer.start_offset == Some(start_offset));
    let Some(producer) = found else {
        let name = &topic.name;
        return Err(format!(
            "no transaction that is open in {name}-{partition} begins at offset {start_offset}; \
             `millracectl transactions producers {name}` shows those there are"
        )
        .into());
    };
    let plan = Answer::new().rows("aborting", producer_rows(std::slice::from_ref(&producer)));
    output.confirm(
        &plan,
        "Abort this transaction? Its producer loses what it wrote in it.",
        sure,
    )?;
    cluster.retry(|cluster| write_marker(cluster, &topic.name, &producer))?;
    Ok(Answer::new()
        .field("topic", topic.name)
        .field("partition", partition)
        .field("aborted_producer_id", producer.id)
        .field("start_offset", start_offset))
}

fn write_marker(cluster: &mut Cluster, name: &str, producer: &Producer) -> Result<()> {
    let partition = producer.partition;
    let topic = cluster.topic(name)?;
    let leader = topic.by_leader([partition])?;
    let leader = leader.first_key_value().map_or(-1, |(leader, _)| *leader);
    let place = message!(WritableTxnMarkerTopic {
        name: StrBytes::from(name),
        partition_indexes: vec![partition],
    });
    let marker = message!(WritableTxnMarker {
        producer_id: producer.id,
        // Epochs are 16 bits wide, and wider only in the answer that they come from.
        producer_epoch: i16::try_from(producer.epoch).unwrap_or(i16::MAX),
        transaction_result: false,
        topics: vec![place],
        // None has written to the partition yet.
        coordinator_epoch: producer.coordinator_epoch.max(0),
    });
    let request = message!(WriteTxnMarkersRequest {
        markers: vec![marker]
    });
    for marker in cluster.node(leader)?.call(&request)?.markers {
        for result in marker.topics.iter().flat_map(|topic| &topic.partitions) {
            let what = || format!("abort the transaction in {name}-{partition}");
            ClientError::check(what, result.error_code, None)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_coordinator_knows_hangs() {
        let producer = |id, partition| Producer {
            topic: "t".into(),
            partition,
            id,
            epoch: 0,
            coordinator_epoch: 0,
            last_sequence: 0,
            last_ms: 0,
            start_offset: Some(0),
        };
        let known = Places::from([(7, BTreeSet::from([("t".into(), 0)]))]);
        assert!(!hangs(&producer(7, 0), &known));
        assert!(
            hangs(&producer(7, 1), &known),
            "its transaction is elsewhere"
        );
        assert!(hangs(&producer(8, 0), &known), "nobody knows its producer");
    }
}
