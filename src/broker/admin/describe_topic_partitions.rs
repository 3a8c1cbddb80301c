//! DescribeTopicPartitions (75), version 0.
//!
//! - Topics come sorted by name, each once; without names, all of them, from the cursor on.
//! - No more partitions than the client's limit and `max.request.partition.size.limit`, but always
//!   one: a limit of 0 or less would give pages without end. The cursor says where to go on: in the
//!   topic that was cut, or at the next one.
//! - A named topic that is not there is UNKNOWN_TOPIC_OR_PARTITION, or INVALID_TOPIC_EXCEPTION.
//! - A negative partition in the cursor is answered with INVALID_REQUEST for each named topic, and
//!   as an empty page if none is named: the response has no other place for an error.
//! - Eligible leader replicas are always empty: every replica in sync is eligible.

use bytes::Bytes;
use kafka_wire::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_wire::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use super::brokers::Brokers;
use super::handler::{Answer, Ctx, TOPIC_OPERATIONS, answer, to_wire};
use crate::base::ErrorCode;
use crate::controller::{Partition, Topic, check_topic_name};
use crate::wire::RequestHeader;

/// Answers a DescribeTopicPartitions request. Reads only.
#[must_use]
pub fn describe_topic_partitions(ctx: &Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    answer(header, body, |request| respond(ctx, &request))
}

fn respond(
    ctx: &Ctx<'_>,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let mut response = DescribeTopicPartitionsResponse::default();
    let cursor = request.cursor.as_ref();
    if cursor.is_some_and(|cursor| cursor.partition_index < 0) {
        let names = request.topics.iter().map(|topic| topic.name.as_str());
        let error = |name| refused(name, ErrorCode::InvalidRequest);
        response.topics = names.map(error).collect();
        return response;
    }
    let limit = request
        .response_partition_limit
        .min(ctx.config.max_request_partition_size_limit)
        .max(1);
    let mut page = Page {
        brokers: ctx.brokers,
        response,
        left: usize::try_from(limit).unwrap_or(0),
    };
    let from = cursor.map_or("", |cursor| cursor.topic_name.as_str());
    let start = |name: &str| match cursor {
        Some(cursor) if cursor.topic_name.as_str() == name => {
            usize::try_from(cursor.partition_index).unwrap_or(0)
        }
        _ => 0,
    };
    if request.topics.is_empty() {
        for topic in ctx.image.topics_from(from) {
            if !page.add(&topic.name, Some(topic), start(&topic.name)) {
                break;
            }
        }
    } else {
        let names = request.topics.iter().map(|topic| topic.name.as_str());
        let mut sorted: Vec<_> = names.filter(|name| *name >= from).collect();
        sorted.sort_unstable();
        sorted.dedup();
        for name in sorted {
            let topic = ctx.image.topic(name).map(AsRef::as_ref);
            if !page.add(name, topic, start(name)) {
                break;
            }
        }
    }
    page.response
}

/// The answer while it is filled.
struct Page<'a> {
    brokers: &'a Brokers,
    response: DescribeTopicPartitionsResponse,
    /// Partitions that still fit.
    left: usize,
}

impl Page<'_> {
    /// Adds the partitions of a topic from `start` on, as far as they fit. False when the page is
    /// full, with the cursor set.
    fn add(&mut self, name: &str, topic: Option<&Topic>, start: usize) -> bool {
        if self.left == 0 {
            self.go_on_at(name, 0);
            return false;
        }
        let Some(topic) = topic else {
            let code = match check_topic_name(name) {
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            };
            self.response.topics.push(refused(name, code));
            return true;
        };
        let rest = topic.partitions.get(start..).unwrap_or_default();
        let shown = &rest[..rest.len().min(self.left)];
        self.left -= shown.len();
        let known = known(self.brokers, topic, start, shown);
        self.response.topics.push(known);
        if shown.len() < rest.len() {
            self.go_on_at(name, start + shown.len());
            return false;
        }
        true
    }

    fn go_on_at(&mut self, topic: &str, partition: usize) {
        let mut cursor = Cursor::default();
        cursor.topic_name = topic.into();
        cursor.partition_index = i32::try_from(partition).unwrap_or(i32::MAX);
        self.response.next_cursor = Some(cursor);
    }
}

fn refused(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    let mut topic = DescribeTopicPartitionsResponseTopic::default();
    topic.error_code = code.code();
    topic.name = Some(name.into());
    topic.topic_authorized_operations = TOPIC_OPERATIONS;
    topic
}

fn known(
    brokers: &Brokers,
    topic: &Topic,
    start: usize,
    partitions: &[Partition],
) -> DescribeTopicPartitionsResponseTopic {
    let mut shown = DescribeTopicPartitionsResponseTopic::default();
    shown.name = Some((&*topic.name).into());
    shown.topic_id = to_wire(topic.id);
    shown.is_internal = topic.internal;
    shown.topic_authorized_operations = TOPIC_OPERATIONS;
    let numbered = (start..).zip(partitions);
    shown.partitions = numbered
        .map(|(index, p)| partition(brokers, index, p))
        .collect();
    shown
}

fn partition(
    brokers: &Brokers,
    index: usize,
    partition: &Partition,
) -> DescribeTopicPartitionsResponsePartition {
    let mut shown = DescribeTopicPartitionsResponsePartition::default();
    if partition.leader.0 < 0 {
        shown.error_code = ErrorCode::LeaderNotAvailable.code();
    }
    shown.partition_index = i32::try_from(index).unwrap_or(i32::MAX);
    shown.leader_id = brokers.of(partition, partition.leader);
    shown.leader_epoch = partition.leader_epoch.0;
    shown.replica_nodes = brokers.of_all(partition, &partition.replicas);
    shown.isr_nodes = brokers.of_all(partition, &partition.isr);
    shown.eligible_leader_replicas = Some(Vec::new());
    shown.last_known_elr = Some(Vec::new());
    shown
}

#[cfg(test)]
mod tests {
    use kafka_wire::describe_topic_partitions_request::{Cursor as From, TopicRequest};

    use super::super::testing::{Cluster, text};
    use super::*;

    fn request(names: &[&str], limit: i32) -> DescribeTopicPartitionsRequest {
        let one = |name: &&str| {
            let mut topic = TopicRequest::default();
            topic.name = text(name);
            topic
        };
        let mut request = DescribeTopicPartitionsRequest::default();
        request.topics = names.iter().map(one).collect();
        request.response_partition_limit = limit;
        request
    }

    fn ask(
        cluster: &mut Cluster,
        request: &DescribeTopicPartitionsRequest,
    ) -> DescribeTopicPartitionsResponse {
        cluster.ask(0, request, |ctx, header, body| {
            describe_topic_partitions(ctx, header, body)
        })
    }

    /// Every page that a client gets: (topic, first partition, count), pages separated.
    fn pages(cluster: &mut Cluster, names: &[&str], limit: i32) -> Vec<Vec<(String, i32, usize)>> {
        let mut request = request(names, limit);
        let mut pages = Vec::new();
        loop {
            let response = ask(cluster, &request);
            let topics = response.topics.iter().map(|topic| {
                let first = topic.partitions.first().map_or(-1, |p| p.partition_index);
                (
                    topic.name.clone().unwrap().into_string(),
                    first,
                    topic.partitions.len(),
                )
            });
            pages.push(topics.collect());
            let Some(next) = response.next_cursor else {
                return pages;
            };
            let mut cursor = From::default();
            cursor.topic_name = next.topic_name;
            cursor.partition_index = next.partition_index;
            request.cursor = Some(cursor);
        }
    }

    fn page(topics: &[(&str, i32, usize)]) -> Vec<(String, i32, usize)> {
        topics
            .iter()
            .map(|(name, first, count)| ((*name).to_owned(), *first, *count))
            .collect()
    }

    #[test]
    fn pages_join_to_the_whole() {
        let mut cluster = Cluster::with(&[("b", 3), ("a", 2), ("c", 1)]);
        let all = page(&[("a", 0, 2), ("b", 0, 3), ("c", 0, 1)]);
        assert_eq!(pages(&mut cluster, &[], 2000), [all]);
        let want = [
            page(&[("a", 0, 2), ("b", 0, 1)]),
            page(&[("b", 1, 2), ("c", 0, 1)]),
        ];
        assert_eq!(pages(&mut cluster, &[], 3), want);
        let want = [page(&[("a", 0, 2)]), page(&[("c", 0, 1)])];
        assert_eq!(pages(&mut cluster, &["c", "a", "a"], 2), want);
        cluster.config.max_request_partition_size_limit = 5;
        assert_eq!(pages(&mut cluster, &[], 2000).len(), 2);
    }

    #[test]
    fn a_limit_of_nothing_is_one_so_that_pages_end() {
        let mut cluster = Cluster::with(&[("a", 2)]);
        let want = [page(&[("a", 0, 1)]), page(&[("a", 1, 1)])];
        for limit in [1, 0, -1, i32::MIN] {
            assert_eq!(pages(&mut cluster, &["a"], limit), want, "{limit}");
        }
    }

    #[test]
    fn what_is_not_there() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        let response = ask(&mut cluster, &request(&["x", "no good", "a"], 10));
        let codes: Vec<_> = response
            .topics
            .iter()
            .map(|topic| topic.error_code)
            .collect();
        assert_eq!(codes, [0, 17, 3]);
        let mut bad = request(&["a"], 10);
        let mut cursor = From::default();
        cursor.partition_index = -1;
        bad.cursor = Some(cursor);
        assert_eq!(ask(&mut cluster, &bad).topics[0].error_code, 42);
    }

    #[test]
    fn a_cursor_past_the_end_of_a_topic_goes_on_with_the_next() {
        let mut cluster = Cluster::with(&[("a", 1), ("b", 1)]);
        let mut request = request(&[], 10);
        let mut cursor = From::default();
        cursor.topic_name = text("a");
        cursor.partition_index = i32::MAX;
        request.cursor = Some(cursor);
        let response = ask(&mut cluster, &request);
        assert_eq!(response.topics[0].partitions.len(), 0);
        assert_eq!(response.topics[1].partitions.len(), 1);
    }
}
