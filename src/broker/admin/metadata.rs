//! Metadata (3), versions 0-13.
//!
//! - No list of topics (version 0: an empty one) means all of them, an empty list none.
//! - A topic that is not there is UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION if it never
//!   can be, UNKNOWN_TOPIC_ID if it is named by id. If it may be created, the front shard has that
//!   done first (`auto_create.rs`), so unlike Kafka the first answer has the new topic already.
//! - Versions 10 and 11 have ids but no null names: an unknown id is answered with an empty name.
//! - Brokers are announced with what is advertised for the listener by which the client came.
//! - Authorized operations are all operations, as in Kafka without an authorizer.
//! - The controller is this broker; with direct ports, its control shard.

use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::metadata_request::MetadataRequestTopic;
use kafka_wire::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_wire::{MetadataRequest, MetadataResponse};
use kafka_wire_core::{StrBytes, Uuid};

use super::auto_create::may_be_created;
use super::brokers::Announced;
use super::handler::{Answer, CLUSTER_OPERATIONS, Ctx, TOPIC_OPERATIONS, from_wire, to_wire};
use super::listing::{List, list};
use super::once::Once;
use crate::base::{ErrorCode, Leftovers, TopicId};
use crate::controller::{Image, Partition, Topic, check_topic_name};
use crate::wire::{RequestHeader, maybe_text_size};

/// Answers a Metadata request. Reads only: where a topic is missing that may be created, [`Answer::Create`].
#[must_use]
pub fn metadata(ctx: &Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    list::<Topics<true>>(ctx, header, body)
}

/// The same when what could be created is there: what is missing then has an error.
#[must_use]
pub fn metadata_after_creation(ctx: &Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    list::<Topics<false>>(ctx, header, body)
}

/// The topics that are told of.
#[derive(Debug)]
struct Topics<const CREATE: bool> {
    version: i16,
    wanted: Wanted,
    may_create: bool,
    operations: bool,
    /// One is missing that may be created.
    creates: bool,
    /// The topic whose partitions are told, and the next one of them.
    at: Option<(Arc<Topic>, usize)>,
}

#[derive(Debug)]
enum Wanted {
    All {
        /// The one that came last.
        last: Option<Arc<Topic>>,
    },
    /// Each once, in the order of the request. Where there is an id, the name beside it does not count.
    Named(Once<(Uuid, Option<StrBytes>), ()>),
}

impl<const CREATE: bool> List for Topics<CREATE> {
    type Request = MetadataRequest;
    type Element = MetadataResponseTopic;
    type Part = MetadataResponsePartition;

    fn new(version: i16, listed: Option<usize>) -> Self {
        let wanted = match (version, listed) {
            (_, None) | (0, Some(0)) => Wanted::All { last: None },
            (_, Some(listed)) => Wanted::Named(Once::with_capacity(listed)),
        };
        Self {
            version,
            wanted,
            may_create: false,
            operations: false,
            creates: false,
            at: None,
        }
    }

    fn take(&mut self, topic: MetadataRequestTopic) {
        if let Wanted::Named(topics) = &mut self.wanted {
            let name = topic.name.filter(|_| topic.topic_id.is_zero());
            topics.push((topic.topic_id, name), ());
        }
    }

    fn rest(&mut self, ctx: &Ctx<'_>, request: MetadataRequest) -> MetadataResponse {
        self.may_create = request.allow_auto_topic_creation;
        self.operations = request.include_topic_authorized_operations;
        let mut response = MetadataResponse::default();
        let brokers = ctx
            .brokers
            .all(ctx.image, ctx.config, ctx.listener, ctx.now);
        response.brokers = brokers.into_iter().map(broker).collect();
        response.cluster_id = ctx.image.cluster_id.as_deref().map(StrBytes::from);
        response.controller_id = ctx.brokers.controller();
        if request.include_cluster_authorized_operations {
            response.cluster_authorized_operations = CLUSTER_OPERATIONS;
        }
        response
    }

    fn next(&mut self, ctx: &Ctx<'_>, _: usize) -> Option<MetadataResponseTopic> {
        let found = match &mut self.wanted {
            Wanted::All { last } => {
                let after = last.as_ref().map(|topic| &*topic.name);
                let next = ctx.image.topic_after(after).cloned();
                *last = next;
                Ok(last.clone()?)
            }
            Wanted::Named(topics) => {
                let ((id, name), (), _) = topics.next_named()?;
                let found = named(ctx, self.version, self.may_create, id, name.as_ref());
                if CREATE
                    && self.may_create
                    && found.is_err()
                    && let Some(name) = name
                {
                    self.creates = may_be_created(ctx, &name);
                }
                found
            }
        };
        let topic = match found {
            Ok(topic) => topic,
            Err(unknown) => return Some(unknown),
        };
        let mut shown = known(&topic);
        if self.operations {
            shown.topic_authorized_operations = TOPIC_OPERATIONS;
        }
        self.at = Some((topic, 0));
        Some(shown)
    }

    fn part(&mut self, ctx: &Ctx<'_>) -> Option<MetadataResponsePartition> {
        let (topic, next) = self.at.as_mut()?;
        let Some(found) = topic.partitions.get(*next) else {
            self.at = None;
            return None;
        };
        let shown = partition(ctx, *next as i32, found);
        *next += 1;
        Some(shown)
    }

    fn leave(self, leftovers: &mut Leftovers) {
        if let Wanted::Named(topics) = self.wanted {
            topics.leave(leftovers, |()| 0);
        }
    }

    fn creates(&self) -> bool {
        self.creates
    }

    fn size(topic: &MetadataResponseTopic) -> usize {
        // It is found by its name, or its id.
        1 + maybe_text_size(topic.name.as_ref())
    }

    fn bytes_behind(version: i16) -> usize {
        let operations = if (8..=10).contains(&version) { 4 } else { 0 };
        let error = if version >= 13 { 2 } else { 0 };
        operations + error
    }

    fn bytes_behind_parts(version: i16) -> usize {
        // What a client may do.
        if version >= 8 { 4 } else { 0 }
    }
}

fn broker(announced: Announced) -> MetadataResponseBroker {
    let mut broker = MetadataResponseBroker::default();
    broker.node_id = announced.id;
    broker.host = announced.host;
    broker.port = announced.port;
    broker.rack = announced.rack;
    broker
}

/// A topic as the request names it, or what is told instead.
fn named(
    ctx: &Ctx<'_>,
    version: i16,
    creates: bool,
    id: Uuid,
    name: Option<&StrBytes>,
) -> Result<Arc<Topic>, MetadataResponseTopic> {
    let nameless = || (version < 12).then(StrBytes::default);
    let found = match (from_wire(id), name) {
        (TopicId::ZERO, Some(name)) => ctx
            .image
            .topic(name)
            .ok_or_else(|| unknown(missing(ctx, name, creates), Some(name.clone()))),
        (TopicId::ZERO, None) => Err(unknown(ErrorCode::InvalidTopicException, nameless())),
        (known, _) => ctx.image.topic_by_id(known).ok_or_else(|| {
            let mut topic = unknown(ErrorCode::UnknownTopicId, nameless());
            topic.topic_id = id;
            topic
        }),
    };
    found.cloned()
}

/// Why there is no topic of this name.
fn missing(ctx: &Ctx<'_>, name: &str, may_create: bool) -> ErrorCode {
    let creates = may_create && ctx.config.auto_create_topics_enable;
    if check_topic_name(name).is_err() {
        ErrorCode::InvalidTopicException
    } else if creates && too_few_for(ctx.config.default_replication_factor, ctx.image) {
        // It would have been created, had there been enough brokers.
        ErrorCode::InvalidReplicationFactor
    } else {
        ErrorCode::UnknownTopicOrPartition
    }
}

/// Whether there are fewer brokers than replicas of a partition are wanted.
fn too_few_for(factor: i32, image: &Image) -> bool {
    usize::try_from(factor).is_ok_and(|factor| factor > image.brokers.count())
}

fn unknown(code: ErrorCode, name: Option<StrBytes>) -> MetadataResponseTopic {
    let mut topic = MetadataResponseTopic::default();
    topic.error_code = code.code();
    topic.name = name;
    topic
}

/// A topic without its partitions.
fn known(topic: &Topic) -> MetadataResponseTopic {
    let mut shown = MetadataResponseTopic::default();
    shown.name = Some((&*topic.name).into());
    shown.topic_id = to_wire(topic.id);
    shown.is_internal = topic.internal;
    shown
}

fn partition(ctx: &Ctx<'_>, index: i32, partition: &Partition) -> MetadataResponsePartition {
    let (brokers, image) = (ctx.brokers, ctx.image);
    let mut shown = MetadataResponsePartition::default();
    shown.leader_id = brokers.shown_leader(image, partition);
    if shown.leader_id < 0 {
        shown.error_code = ErrorCode::LeaderNotAvailable.code();
    }
    shown.partition_index = index;
    shown.leader_epoch = partition.leader_epoch.0;
    shown.replica_nodes = brokers.of_all(image, partition, &partition.replicas);
    shown.isr_nodes = brokers.of_all(image, partition, &partition.isr);
    shown.offline_replicas = brokers.offline(image, partition);
    shown
}

#[cfg(test)]
mod tests {
    use super::super::create_topics;
    use super::super::testing::{Cluster, new_topic, text};
    use super::*;

    fn by_name(names: &[&str]) -> MetadataRequest {
        let one = |name: &&str| {
            let mut topic = MetadataRequestTopic::default();
            topic.name = Some(text(name));
            topic
        };
        let mut request = MetadataRequest::default();
        request.topics = Some(names.iter().map(one).collect());
        request
    }

    fn by_id(id: TopicId) -> MetadataRequest {
        let mut topic = MetadataRequestTopic::default();
        topic.name = None;
        topic.topic_id = to_wire(id);
        let mut request = MetadataRequest::default();
        request.topics = Some(vec![topic]);
        request
    }

    fn ask(cluster: &mut Cluster, version: i16, request: &MetadataRequest) -> MetadataResponse {
        cluster.read(version, request, |ctx, header, body| {
            metadata_after_creation(ctx, header, body)
        })
    }

    #[test]
    fn every_version_describes_a_topic() {
        let mut cluster = Cluster::with(&[("a", 2)]);
        for version in 0..=13 {
            let response = ask(&mut cluster, version, &by_name(&["a"]));
            let topic = &response.topics[0];
            assert_eq!(
                (topic.error_code, topic.partitions.len()),
                (0, 2),
                "version {version}"
            );
            assert_eq!(topic.partitions[1].leader_id, 1);
            assert_eq!(
                (response.brokers[0].node_id, response.brokers[0].port),
                (1, 9092)
            );
            if version >= 2 {
                assert_eq!(response.cluster_id, Some(text("c1")));
            }
        }
    }

    #[test]
    fn with_direct_ports_a_partition_is_led_by_its_core() {
        let mut cluster = Cluster::direct();
        cluster.ask(7, &new_topic("a", 4), create_topics);
        for version in 0..=13 {
            let response = ask(&mut cluster, version, &by_name(&["a"]));
            let brokers = response.brokers.iter();
            let brokers: Vec<_> = brokers.map(|one| (one.node_id, one.port)).collect();
            assert_eq!(brokers, [(10_000, 9093), (10_001, 9094)]);
            if version >= 1 {
                assert_eq!(response.controller_id, 10_000);
            }
            for partition in &response.topics[0].partitions {
                // Two stores, which new partitions take in turn.
                let want = 10_000 + partition.partition_index % 2;
                assert_eq!(partition.leader_id, want);
                assert_eq!(partition.replica_nodes, [want]);
                assert_eq!(partition.isr_nodes, [want]);
            }
        }
    }

    #[test]
    fn all_topics_and_none() {
        let mut cluster = Cluster::with(&[("a", 1), ("b", 1)]);
        let none = by_name(&[]);
        let mut all = MetadataRequest::default();
        all.topics = None;
        assert_eq!(ask(&mut cluster, 0, &none).topics.len(), 2);
        for version in 1..=13 {
            assert_eq!(ask(&mut cluster, version, &all).topics.len(), 2);
            assert_eq!(ask(&mut cluster, version, &none).topics.len(), 0);
        }
    }

    #[test]
    fn what_is_not_there() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        let response = ask(&mut cluster, 9, &by_name(&["x", "a", "x", "no good"]));
        let codes: Vec<_> = response
            .topics
            .iter()
            .map(|topic| topic.error_code)
            .collect();
        assert_eq!(codes, [3, 0, 17]);
        cluster.config.default_replication_factor = 3;
        let response = ask(&mut cluster, 9, &by_name(&["x"]));
        assert_eq!(response.topics[0].error_code, 38);
        cluster.config.default_replication_factor = 1;
        let response = ask(&mut cluster, 9, &by_name(&["x"]));
        assert_eq!(response.topics[0].error_code, 3, "for another reason");
        for version in 10..=13 {
            let response = ask(&mut cluster, version, &by_name(&["a"]));
            assert_eq!(response.topics[0].error_code, 0);
        }
    }

    #[test]
    fn a_topic_named_many_times_is_described_once() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        let id = cluster.image.topic("a").unwrap().id;
        let mut request = by_id(id);
        let one = request.topics.as_ref().unwrap()[0].clone();
        let named = |n: i32| {
            let mut topic = one.clone();
            topic.name = Some(text(&n.to_string()));
            topic
        };
        request.topics = Some((0..100).map(named).collect());
        assert_eq!(ask(&mut cluster, 12, &request).topics.len(), 1);
        let many = ask(&mut cluster, 12, &by_name(&["a"; 100]));
        assert_eq!(many.topics.len(), 1);
    }

    #[test]
    fn topics_by_id() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        let id = cluster.image.topic("a").unwrap().id;
        for version in 10..=13 {
            let mut request = by_id(id);
            let mut unknown = by_id(TopicId([9; 16]));
            if version < 12 {
                // Names cannot be null on the wire yet.
                for topics in [&mut request.topics, &mut unknown.topics] {
                    topics.as_mut().unwrap()[0].name = Some(text(""));
                }
            }
            let response = ask(&mut cluster, version, &request);
            assert_eq!(response.topics[0].name, Some(text("a")));
            let response = ask(&mut cluster, version, &unknown);
            assert_eq!(response.topics[0].error_code, 100);
            assert_eq!(response.topics[0].topic_id, to_wire(TopicId([9; 16])));
            assert_eq!(response.topics[0].name, (version < 12).then(|| text("")));
        }
    }

    #[test]
    fn authorized_operations_when_asked_for() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        let mut request = by_name(&["a", "x"]);
        request.include_topic_authorized_operations = true;
        request.include_cluster_authorized_operations = true;
        let response = ask(&mut cluster, 8, &request);
        assert_eq!(
            response.topics[0].topic_authorized_operations,
            TOPIC_OPERATIONS
        );
        assert_eq!(response.topics[1].topic_authorized_operations, i32::MIN);
        assert_eq!(response.cluster_authorized_operations, CLUSTER_OPERATIONS);
        let response = ask(&mut cluster, 8, &by_name(&["a"]));
        assert_eq!(response.topics[0].topic_authorized_operations, i32::MIN);
        assert_eq!(response.cluster_authorized_operations, i32::MIN);
    }

    #[test]
    fn rubbish_closes_the_connection() {
        let mut cluster = Cluster::new();
        let header = RequestHeader {
            key: 3,
            version: 9,
            correlation_id: 1,
            client_id: None,
        };
        let body = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(matches!(
            metadata(&cluster.ctx(), &header, body),
            Answer::Malformed(_)
        ));
    }
}
