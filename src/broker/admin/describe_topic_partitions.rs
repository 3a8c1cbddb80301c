//! DescribeTopicPartitions (75), version 0.
//!
//! - Topics come sorted by name, each once; without names, all of them, from the cursor on.
//! - No more partitions than the client's limit and `max.request.partition.size.limit`, but always
//!   one: a limit of 0 or less would give pages without end. The cursor says where to go on: in the
//!   topic that was cut, or at the next one.
//! - A named topic that is not there is UNKNOWN_TOPIC_OR_PARTITION, or INVALID_TOPIC_EXCEPTION.
//! - A negative partition in the cursor, or a topic that is not among those that are named, is answered with
//!   INVALID_REQUEST for each of them, and as an empty page if none is named: the response has no other place for an
//!   error.
//! - Eligible leader replicas are always empty: every replica in sync is eligible.

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::describe_topic_partitions_request::TopicRequest;
use kafka_wire::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_wire::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use kafka_wire_core::StrBytes;

use super::handler::{Answer, Ctx, TOPIC_OPERATIONS, to_wire};
use super::listing::{List, list};
use crate::base::{ErrorCode, Leftovers};
use crate::controller::{Partition, Topic, check_topic_name};
use crate::wire::{RequestHeader, maybe_text_size, sought_size};

/// Answers a DescribeTopicPartitions request. Reads only.
#[must_use]
pub fn describe_topic_partitions(ctx: &Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    list::<Page>(ctx, header, body)
}

/// A page of the topics.
#[derive(Debug)]
struct Page {
    /// Those that were named and are not among the sorted ones yet.
    named: VecDeque<StrBytes>,
    wanted: Wanted,
    /// Topic and partition to begin at.
    from: (StrBytes, usize),
    /// Whether the client has said so, and it is still to be seen whether it names that topic.
    resumes: bool,
    /// Partitions that still fit.
    left: usize,
    cursor: Option<Cursor>,
    /// The topic whose partitions are told, and those of them that are still to be.
    at: Option<(Arc<Topic>, Range<usize>)>,
}

/// The topics that come.
#[derive(Debug)]
enum Wanted {
    All {
        /// The one that came last.
        last: Option<Arc<Topic>>,
    },
    Named {
        /// Those from the cursor on.
        sorted: BTreeSet<StrBytes>,
        /// Those before it, which are asked for in vain.
        before: Vec<StrBytes>,
    },
    /// Each of those that are named is an error, as they come.
    None,
    /// So is each of these.
    Refused {
        sorted: BTreeSet<StrBytes>,
        before: Vec<StrBytes>,
    },
}

impl List for Page {
    type Request = DescribeTopicPartitionsRequest;
    type Element = DescribeTopicPartitionsResponseTopic;
    type Part = DescribeTopicPartitionsResponsePartition;

    fn new(_: i16, listed: Option<usize>) -> Self {
        Self {
            named: VecDeque::with_capacity(listed.unwrap_or(0)),
            wanted: Wanted::None,
            from: Default::default(),
            resumes: false,
            left: 0,
            cursor: None,
            at: None,
        }
    }

    fn take(&mut self, topic: TopicRequest) {
        self.named.push_back(topic.name);
    }

    fn rest(
        &mut self,
        ctx: &Ctx<'_>,
        request: DescribeTopicPartitionsRequest,
    ) -> DescribeTopicPartitionsResponse {
        let limit = request
            .response_partition_limit
            .min(ctx.config.max_request_partition_size_limit)
            .max(1);
        self.resumes = request.cursor.is_some();
        let (from, partition) = request.cursor.map_or_else(Default::default, |cursor| {
            (cursor.topic_name, cursor.partition_index)
        });
        self.wanted = match (partition < 0, self.named.is_empty()) {
            (true, _) => Wanted::None,
            (false, true) => Wanted::All { last: None },
            (false, false) => Wanted::Named {
                sorted: BTreeSet::new(),
                before: Vec::new(),
            },
        };
        self.from = (from, usize::try_from(partition).unwrap_or(0));
        self.left = usize::try_from(limit).unwrap_or(0);
        DescribeTopicPartitionsResponse::default()
    }

    fn prepare(&mut self, left: &mut usize) -> bool {
        let Wanted::Named { sorted, before } = &mut self.wanted else {
            return true;
        };
        while *left > 0
            && let Some(name) = self.named.pop_front()
        {
            *left = left.saturating_sub(1 + sought_size(&name));
            match name >= self.from.0 {
                true => drop(sorted.insert(name)),
                false => before.push(name),
            }
        }
        if !self.named.is_empty() {
            return false;
        }
        if mem::take(&mut self.resumes) && sorted.first() != Some(&self.from.0) {
            let (sorted, before) = (mem::take(sorted), mem::take(before));
            self.wanted = Wanted::Refused { sorted, before };
        }
        true
    }

    fn next(&mut self, ctx: &Ctx<'_>, _: usize) -> Option<DescribeTopicPartitionsResponseTopic> {
        if self.cursor.is_some() {
            return None;
        }
        match &mut self.wanted {
            Wanted::None => {
                let name = self.named.pop_front()?;
                Some(not_told(&name))
            }
            Wanted::Refused { sorted, before } => {
                let name = before.pop().or_else(|| sorted.pop_first())?;
                Some(not_told(&name))
            }
            Wanted::All { last } => {
                let next = match last {
                    Some(last) => ctx.image.topic_after(Some(&last.name)),
                    None => ctx.image.topics_from(&self.from.0).next(),
                };
                *last = next.cloned();
                let topic = last.clone()?;
                self.topic(&topic.name, Some(&topic))
            }
            Wanted::Named { sorted, .. } => {
                let name = sorted.pop_first()?;
                let topic = ctx.image.topic(&name);
                self.topic(&name, topic)
            }
        }
    }

    fn behind(&mut self) -> Option<DescribeTopicPartitionsResponse> {
        let mut response = DescribeTopicPartitionsResponse::default();
        response.next_cursor = Some(self.cursor.take()?);
        Some(response)
    }

    fn part(&mut self, ctx: &Ctx<'_>) -> Option<DescribeTopicPartitionsResponsePartition> {
        let (topic, indexes) = self.at.as_mut()?;
        let index = indexes.next();
        let found = index.and_then(|index| Some((index, topic.partitions.get(index)?)));
        let shown = found.map(|(index, found)| partition(ctx, index, found));
        if shown.is_none() {
            self.at = None;
        }
        shown
    }

    fn leave(self, leftovers: &mut Leftovers) {
        leftovers.add(self.named, |_| 0);
        if let Wanted::Named { sorted, before } | Wanted::Refused { sorted, before } = self.wanted {
            leftovers.add(sorted, |_| 0);
            leftovers.add(before, |_| 0);
        }
    }

    fn size(topic: &DescribeTopicPartitionsResponseTopic) -> usize {
        maybe_text_size(topic.name.as_ref())
    }

    fn bytes_behind_parts(_: i16) -> usize {
        // What a client may do.
        4
    }

    fn bytes_behind(_: i16) -> usize {
        // That there is no cursor.
        1
    }
}

impl Page {
    /// A topic, whose partitions come as far as they fit. When the page is full the cursor is set.
    fn topic(
        &mut self,
        name: &str,
        topic: Option<&Arc<Topic>>,
    ) -> Option<DescribeTopicPartitionsResponseTopic> {
        if self.left == 0 {
            self.go_on_at(name, 0);
            return None;
        }
        let Some(topic) = topic else {
            let code = match check_topic_name(name) {
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            };
            return Some(refused(name, code));
        };
        let start = match &self.from {
            (from, partition) if from.as_str() == name => *partition,
            _ => 0,
        };
        let rest = topic.partitions.len().saturating_sub(start);
        let count = rest.min(self.left);
        self.left -= count;
        if count < rest {
            self.go_on_at(name, start + count);
        }
        self.at = Some((Arc::clone(topic), start..start + count));
        Some(known(topic))
    }

    fn go_on_at(&mut self, topic: &str, partition: usize) {
        let mut cursor = Cursor::default();
        cursor.topic_name = topic.into();
        cursor.partition_index = i32::try_from(partition).unwrap_or(i32::MAX);
        self.cursor = Some(cursor);
    }
}

/// What nobody looks for, since the cursor is odd.
fn not_told(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let mut topic = refused(name, ErrorCode::InvalidRequest);
    topic.topic_authorized_operations = i32::MIN;
    topic
}

fn refused(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    let mut topic = DescribeTopicPartitionsResponseTopic::default();
    topic.error_code = code.code();
    topic.name = Some(name.into());
    topic.topic_authorized_operations = TOPIC_OPERATIONS;
    topic
}

/// A topic without its partitions.
fn known(topic: &Topic) -> DescribeTopicPartitionsResponseTopic {
    let mut shown = DescribeTopicPartitionsResponseTopic::default();
    shown.name = Some((&*topic.name).into());
    shown.topic_id = to_wire(topic.id);
    shown.is_internal = topic.internal;
    shown.topic_authorized_operations = TOPIC_OPERATIONS;
    shown
}

fn partition(
    ctx: &Ctx<'_>,
    index: usize,
    partition: &Partition,
) -> DescribeTopicPartitionsResponsePartition {
    let (brokers, image) = (ctx.brokers, ctx.image);
    let mut shown = DescribeTopicPartitionsResponsePartition::default();
    shown.leader_id = brokers.shown_leader(image, partition);
    if shown.leader_id < 0 {
        shown.error_code = ErrorCode::LeaderNotAvailable.code();
    }
    shown.partition_index = i32::try_from(index).unwrap_or(i32::MAX);
    shown.leader_epoch = partition.leader_epoch.0;
    shown.replica_nodes = brokers.of_all(image, partition, &partition.replicas);
    shown.isr_nodes = brokers.of_all(image, partition, &partition.isr);
    shown.offline_replicas = brokers.offline(image, partition);
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
        cluster.read(0, request, |ctx, header, body| {
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
    fn a_cursor_at_a_topic_that_is_not_named_is_odd() {
        let mut cluster = Cluster::with(&[("a", 1), ("b", 1), ("c", 1)]);
        for (at, codes) in [
            ("b", &[0, 0][..]),
            ("", &[42; 3]),
            ("bb", &[42; 3]),
            ("d", &[42; 3]),
        ] {
            let mut request = request(&["c", "a", "b"], 10);
            let mut cursor = From::default();
            cursor.topic_name = text(at);
            request.cursor = Some(cursor);
            let response = ask(&mut cluster, &request);
            let told: Vec<_> = response.topics.iter().map(|it| it.error_code).collect();
            assert_eq!(told, codes, "{at}");
        }
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
