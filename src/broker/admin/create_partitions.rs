//! CreatePartitions (37), versions 0-3.
//!
//! - Every result has a message where it is an error; a name that comes twice is answered once,
//!   with INVALID_REQUEST.
//! - The partitions of internal topics are fixed (Kafka allows more, and loses offsets).
//! - `timeout_ms` is not looked at, see CreateTopics.

use bytes::Bytes;
use kafka_wire::CreatePartitionsRequest;
use kafka_wire::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_wire::create_partitions_response::CreatePartitionsTopicResult;
use kafka_wire_core::StrBytes;

use super::deciding::{Decide, Deciding, Decision, decide};
use super::full;
use super::handler::{Ctx, outcome};
use super::once::Once;
use crate::base::{ErrorCode, Leftovers, Refused};
use crate::controller::{MorePartitions, add_partitions};
use crate::wire::{Lists, RequestHeader, WireError};

/// Decides on a CreatePartitions request.
pub fn create_partitions(
    header: &RequestHeader,
    body: Bytes,
) -> Result<Box<dyn Decision>, WireError> {
    decide::<Topics>(header, body)
}

/// The topics of a request.
#[derive(Debug)]
struct Topics(Once<StrBytes, CreatePartitionsTopic>);

impl Decide for Topics {
    type Request = CreatePartitionsRequest;
    type Element = CreatePartitionsTopicResult;
    const WHEN_FULL: Option<fn(&mut CreatePartitionsTopicResult)> =
        Some(|topic| full::refuse(&mut topic.error_code, &mut topic.error_message));

    fn new(_: i16) -> Self {
        Self(Once::default())
    }

    fn take(&mut self, _: &Ctx<'_>, topic: CreatePartitionsTopic) {
        self.0.push(topic.name.clone(), topic);
    }

    fn rest(&mut self, request: CreatePartitionsRequest) -> bool {
        request.validate_only
    }

    fn next(&mut self, cx: &mut Deciding<'_>) -> Option<CreatePartitionsTopicResult> {
        let (topic, is_once) = self.0.next()?;
        let result = match is_once {
            true => add_partitions(cx.draft, more(&cx.ctx, &topic)),
            false => Err(Refused::because(
                ErrorCode::InvalidRequest,
                "Duplicate topic name.",
            )),
        };
        let mut shown = CreatePartitionsTopicResult::default();
        shown.name = topic.name;
        (shown.error_code, shown.error_message) = outcome(result.as_ref().err());
        Some(shown)
    }

    fn leave(self, leftovers: &mut Leftovers) {
        self.0.leave(leftovers, CreatePartitionsRequest::entries);
    }

    fn size(&self) -> usize {
        self.0.peek().map_or(0, CreatePartitionsRequest::entries)
    }
}

fn more(ctx: &Ctx<'_>, topic: &CreatePartitionsTopic) -> MorePartitions {
    let chosen = topic.assignments.as_ref();
    let chosen = chosen.map(|all| {
        let places = |a: &CreatePartitionsAssignment| ctx.brokers.places(ctx.image, &a.broker_ids);
        all.iter().map(places).collect()
    });
    MorePartitions {
        name: topic.name.as_str().to_owned(),
        count: topic.count,
        assignments: chosen,
    }
}

#[cfg(test)]
mod tests {
    use super::super::create_topics;
    use super::super::testing::{Cluster, new_topic, text};
    use super::*;
    use crate::base::limits::RECORDS_PER_CHANGE_MAX;

    fn request(topics: &[(&str, i32)]) -> CreatePartitionsRequest {
        let one = |(name, count): &(&str, i32)| {
            let mut topic = CreatePartitionsTopic::default();
            topic.name = text(name);
            topic.count = *count;
            topic.assignments = None;
            topic
        };
        let mut request = CreatePartitionsRequest::default();
        request.topics = topics.iter().map(one).collect();
        request
    }

    #[test]
    fn every_version_adds_partitions() {
        for version in 0..=3 {
            let mut cluster = Cluster::with(&[("a", 1), ("b", 2)]);
            let wanted = request(&[("a", 3), ("b", 2), ("x", 2)]);
            let response = cluster.ask(version, &wanted, create_partitions);
            let codes: Vec<_> = response
                .results
                .iter()
                .map(|topic| topic.error_code)
                .collect();
            assert_eq!(codes, [0, 37, 3], "version {version}");
            let message = response.results[1].error_message.as_deref();
            assert_eq!(message, Some("Topic already has 2 partition(s)."));
            assert_eq!(cluster.image.topic("a").unwrap().partitions.len(), 3);
        }
    }

    /// As in Kafka: a few bytes of a request would be any number of partitions.
    #[test]
    fn a_request_adds_so_many_partitions_in_all() {
        const MOST: i32 = RECORDS_PER_CHANGE_MAX as i32;
        let mut cluster = Cluster::with(&[("a", 1), ("b", 1), ("c", 1)]);
        let wanted = request(&[("a", MOST), ("b", 2), ("c", 3)]);
        let response = cluster.ask(3, &wanted, create_partitions);
        let codes = response.results.iter().map(|topic| topic.error_code);
        let full = ErrorCode::PolicyViolation.code();
        assert_eq!(codes.collect::<Vec<_>>(), [0, 0, full]);
        assert_eq!(cluster.committed as i32, MOST);
    }

    #[test]
    fn a_chosen_core_gets_the_partition() {
        use kafka_wire::create_partitions_request::CreatePartitionsAssignment;
        let mut cluster = Cluster::direct();
        cluster.ask(7, &new_topic("a", 1), create_topics);
        let mut wanted = request(&[("a", 3)]);
        let assign = |broker| {
            let mut assignment = CreatePartitionsAssignment::default();
            assignment.broker_ids = vec![broker];
            assignment
        };
        wanted.topics[0].assignments = Some(vec![assign(10_001), assign(10_001)]);
        let response = cluster.ask(3, &wanted, create_partitions);
        assert_eq!(response.results[0].error_code, 0);
        let partitions = &cluster.image.topic("a").unwrap().partitions;
        let stores: Vec<_> = partitions.iter().map(|p| p.store.unwrap().0).collect();
        assert_eq!(stores, [0, 1, 1]);
    }

    #[test]
    fn twice_or_only_validated_adds_nothing() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        let response = cluster.ask(3, &request(&[("a", 2), ("a", 3)]), create_partitions);
        assert_eq!(response.results.len(), 1);
        assert_eq!(response.results[0].error_code, 42);
        let mut wanted = request(&[("a", 2)]);
        wanted.validate_only = true;
        let response = cluster.ask(3, &wanted, create_partitions);
        assert_eq!((response.results[0].error_code, cluster.committed), (0, 0));
    }
}
