//! A broker's metadata for the tests of the handlers: requests and responses go
//! through their bytes, records are replayed.

use bytes::Bytes;
use kafka_wire::{CreateTopicsRequest, RequestResponsePair};

use super::{Answer, Brokers, Ctx, Decided, Deciding, Decision, Progress, create_topics};
use crate::base::{Mono, Now, Rng, ShardId};
use crate::broker::apis;
use crate::broker::msg::Called;
use crate::config::BrokerConfig;
use crate::controller::testing::{self, node_of};
use crate::controller::{
    Change, Draft, Image, ImageRecords, MetadataRecord, ProducerIdAllocator, RecordListReader,
};
use crate::quorum::Quorum;
use crate::wire::client::{decode_response, encode_request};
use crate::wire::{RequestHeader, StrBytes, WireError, parse_header};

pub(in crate::broker) struct Cluster {
    pub(in crate::broker) image: Image,
    pub(in crate::broker) config: BrokerConfig,
    /// As clients see them.
    pub(in crate::broker) brokers: Brokers,
    /// Records of the last request.
    pub(in crate::broker) committed: usize,
    rng: Rng,
    producer_ids: ProducerIdAllocator,
    /// The replica of the metadata that decides, where that counts.
    pub quorum: Option<Quorum>,
}

fn frame(called: Called) -> Bytes {
    match called {
        Called::Frame(pieces) => pieces.concat().into(),
        Called::Created | Called::Member(_) | Called::Again => panic!("no answer"),
    }
}

fn response<Q: RequestResponsePair>(version: i16, frame: &Bytes) -> Q::Response {
    let (id, response) = decode_response::<Q>(frame.slice(4..), version).unwrap();
    assert_eq!(id, 5);
    response
}

impl Cluster {
    pub(in crate::broker) fn new() -> Self {
        let mut image = node_of(2);
        image
            .replay(&MetadataRecord::Cluster {
                id: "c1".to_owned(),
            })
            .unwrap();
        Self::of(image, BrokerConfig::default())
    }

    /// With two shards, each announced as a broker of its own.
    pub(in crate::broker) fn direct() -> Self {
        let mut cluster = Self::new();
        cluster.config.millrace_direct_ports = 1;
        Self::of(cluster.image, cluster.config)
    }

    pub(in crate::broker) fn of(image: Image, config: BrokerConfig) -> Self {
        Self {
            brokers: Brokers::new(&config, 2, &[ShardId(0), ShardId(1)]),
            image,
            config,
            committed: 0,
            rng: Rng::new(3),
            producer_ids: ProducerIdAllocator::default(),
            quorum: None,
        }
    }

    /// Three live brokers, and topics of two partitions that are on all of them.
    pub(in crate::broker) fn of_three() -> Self {
        let mut image = testing::cluster(3);
        testing::create(&mut image, "a", 2, 3);
        testing::create(&mut image, "b", 2, 3);
        Self::of(image, BrokerConfig::default())
    }

    /// With topics of these names and numbers of partitions.
    pub(in crate::broker) fn with(topics: &[(&str, i32)]) -> Self {
        let mut cluster = Self::new();
        for (name, partitions) in topics {
            let request = new_topic(name, *partitions);
            let response = cluster.ask(7, &request, create_topics);
            assert_eq!(response.topics[0].error_code, 0, "{name}");
        }
        cluster
    }

    /// The answer of a handler that changes nothing.
    pub(in crate::broker) fn read<Q: RequestResponsePair>(
        &mut self,
        version: i16,
        request: &Q,
        handle: impl FnOnce(&Ctx<'_>, &RequestHeader, Bytes) -> Answer,
    ) -> Q::Response {
        let (header, body) = parsed(version, request);
        let ctx = self.ctx();
        let mut listing = match handle(&ctx, &header, body) {
            Answer::Reply(frame) => return response::<Q>(version, &frame),
            Answer::Listing(listing) => listing,
            other => panic!("no answer: {other:?}"),
        };
        loop {
            match listing.go_on(&ctx).unwrap() {
                Progress::Partly => {}
                Progress::Whole(pieces) => {
                    return response::<Q>(version, &pieces.concat().into());
                }
                Progress::Create => panic!("no answer"),
            }
        }
    }

    /// The answer to a change, after its records were replayed.
    pub(in crate::broker) fn ask<Q: RequestResponsePair>(
        &mut self,
        version: i16,
        request: &Q,
        decider: impl FnOnce(&RequestHeader, Bytes) -> Result<Box<dyn Decision>, WireError>,
    ) -> Q::Response {
        let (decided, change) = self.decide(version, request, decider);
        let Decided::Whole { commits, reply, .. } = decided else {
            panic!("it is made");
        };
        self.committed = 0;
        if commits {
            self.commit(&change);
        }
        response::<Q>(version, &frame(reply))
    }

    /// What is decided, and the change that it comes to. It is made in small slices.
    pub(in crate::broker) fn decide<Q: RequestResponsePair>(
        &mut self,
        version: i16,
        request: &Q,
        decider: impl FnOnce(&RequestHeader, Bytes) -> Result<Box<dyn Decision>, WireError>,
    ) -> (Decided, Change) {
        let (header, body) = parsed(version, request);
        self.make(decider(&header, body).unwrap())
    }

    /// What a decision comes to.
    pub(in crate::broker) fn make(&mut self, mut decision: Box<dyn Decision>) -> (Decided, Change) {
        let mut draft = Draft::new(&self.image);
        let mut ids = std::mem::take(&mut self.producer_ids);
        let quorum = self.quorum.take();
        let decided = loop {
            let mut cx = Deciding {
                ctx: self.ctx(),
                draft: &mut draft,
                producer_ids: &mut ids,
                quorum: quorum.as_ref(),
                is_member: quorum.is_some(),
                now: Now::default(),
            };
            match decision.go_on(&mut cx, &mut 3).unwrap() {
                Decided::Partly => {}
                decided => break decided,
            }
        };
        (self.producer_ids, self.quorum) = (ids, quorum);
        (decided, draft.into_change())
    }

    /// What a change is answered in a full store, where nothing is committed.
    pub(in crate::broker) fn ask_when_full<Q: RequestResponsePair>(
        &mut self,
        version: i16,
        request: &Q,
        decider: impl FnOnce(&RequestHeader, Bytes) -> Result<Box<dyn Decision>, WireError>,
    ) -> Q::Response {
        match self.decide(version, request, decider).0 {
            Decided::Whole {
                refusal: Some(refusal),
                ..
            } => response::<Q>(version, &frame(refusal)),
            other => panic!("not a change that may be refused: {other:?}"),
        }
    }

    /// Replays the records of a change, as they are in the log.
    pub(in crate::broker) fn commit(&mut self, change: &Change) {
        self.committed = 0;
        for record in RecordListReader::new(change.records.clone()).unwrap() {
            self.image.replay(&record.unwrap()).unwrap();
            self.committed += 1;
        }
        assert_eq!(self.image, change.image);
    }

    pub(in crate::broker) fn ctx(&mut self) -> Ctx<'_> {
        Ctx {
            image: &self.image,
            config: &self.config,
            listener: 0,
            now: Mono::default(),
            rng: &mut self.rng,
            brokers: &self.brokers,
        }
    }
}

fn parsed<Q: RequestResponsePair>(version: i16, request: &Q) -> (RequestHeader, Bytes) {
    let frame = encode_request(5, Some("test"), version, request).unwrap();
    parse_header(frame.slice(4..), apis::api).unwrap()
}

pub(in crate::broker) fn new_topic(name: &str, partitions: i32) -> CreateTopicsRequest {
    let mut topic = kafka_wire::create_topics_request::CreatableTopic::default();
    topic.name = text(name);
    topic.num_partitions = partitions;
    topic.replication_factor = -1;
    let mut request = CreateTopicsRequest::default();
    request.topics = vec![topic];
    request
}

pub(in crate::broker) fn text(text: &str) -> StrBytes {
    StrBytes::from(text)
}

mod tests {
    use std::collections::BTreeSet;

    use kafka_wire::create_partitions_request::CreatePartitionsTopic;
    use kafka_wire::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};
    use kafka_wire::delete_topics_request::DeleteTopicState;
    use kafka_wire::{CreatePartitionsRequest, DeleteTopicsRequest};
    use proptest::prelude::*;

    use super::super::handler::{from_wire, to_wire};
    use super::super::{create_partitions, delete_topics};
    use super::*;
    use crate::base::TopicId;

    /// Few, so that requests meet what others made; some are never allowed.
    const NAMES: [&str; 6] = ["a", "a.b", "a_b", "no good", "", "__consumer_offsets"];

    fn create() -> impl Strategy<Value = CreateTopicsRequest> {
        let assignments = proptest::collection::vec((-1i32..3, 0i32..3), 0..3);
        let retention = proptest::option::of(proptest::option::of("[0-9x]{0,3}"));
        let topic = (0..NAMES.len(), -2i32..4, -2i16..3, assignments, retention);
        let topic = topic.prop_map(|(name, partitions, factor, assignments, retention)| {
            let mut topic = new_topic(NAMES[name], partitions).topics.remove(0);
            topic.replication_factor = factor;
            let assignment = |(index, node)| {
                let mut assignment = CreatableReplicaAssignment::default();
                assignment.partition_index = index;
                assignment.broker_ids = vec![node];
                assignment
            };
            topic.assignments = assignments.into_iter().map(assignment).collect();
            topic.configs.extend(retention.map(|value| {
                let mut config = CreatableTopicConfig::default();
                config.name = text("retention.ms");
                config.value = value.as_deref().map(text);
                config
            }));
            topic
        });
        (proptest::collection::vec(topic, 0..4), any::<bool>()).prop_map(|(topics, validate)| {
            let mut request = CreateTopicsRequest::default();
            request.topics = topics;
            request.validate_only = validate;
            request
        })
    }

    /// Topics to delete: by name, by the id of the one of this name, or both.
    fn delete() -> impl Strategy<Value = Vec<(usize, bool, bool)>> {
        proptest::collection::vec((0..NAMES.len(), any::<bool>(), any::<bool>()), 0..4)
    }

    fn grow() -> impl Strategy<Value = CreatePartitionsRequest> {
        let topic = (0..NAMES.len(), -1i32..6).prop_map(|(name, count)| {
            let mut topic = CreatePartitionsTopic::default();
            topic.name = text(NAMES[name]);
            topic.count = count;
            topic.assignments = None;
            topic
        });
        proptest::collection::vec(topic, 0..4).prop_map(|topics| {
            let mut request = CreatePartitionsRequest::default();
            request.topics = topics;
            request
        })
    }

    fn deletion(image: &Image, topics: &[(usize, bool, bool)]) -> DeleteTopicsRequest {
        let one = |(name, by_name, by_id): &(usize, bool, bool)| {
            let topic = image.topic(NAMES[*name]).filter(|_| *by_id);
            let mut state = DeleteTopicState::default();
            state.name = by_name.then(|| text(NAMES[*name]));
            state.topic_id = to_wire(topic.map_or(TopicId::ZERO, |topic| topic.id));
            state
        };
        let mut request = DeleteTopicsRequest::default();
        request.topics = topics.iter().map(one).collect();
        request
    }

    /// What holds whatever clients ask for.
    fn check(cluster: &Cluster, logs_before: u64) {
        let image = &cluster.image;
        let partitions = image.topics().flat_map(|topic| topic.partitions.iter());
        let logs: Vec<_> = partitions.map(|partition| partition.log).collect();
        let once: BTreeSet<_> = logs.iter().collect();
        assert_eq!(once.len(), logs.len(), "two partitions with one log");
        assert!(logs.iter().all(|log| log.0 < image.next_log));
        assert!(image.next_log >= logs_before, "a log id could come again");
        let mut copy = Image::of_node(image.here().iter().copied());
        for record in ImageRecords::new(image) {
            copy.replay(&record).unwrap();
        }
        assert_eq!(copy, *image);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn requests_never_break_the_image(
            rounds in proptest::collection::vec((create(), delete(), grow()), 1..8)
        ) {
            let mut cluster = Cluster::new();
            for (create, delete, grow) in rounds {
                let logs = cluster.image.next_log;
                let created = cluster.ask(7, &create, create_topics);
                for topic in created.topics.iter().filter(|_| !create.validate_only) {
                    let id = cluster.image.topic(&topic.name).map(|topic| topic.id);
                    let made = topic.error_code == 0;
                    prop_assert!(!made || id == Some(from_wire(topic.topic_id)));
                }
                cluster.ask(3, &grow, create_partitions);
                let request = deletion(&cluster.image, &delete);
                let deleted = cluster.ask(6, &request, delete_topics);
                for topic in deleted.responses.iter().filter(|topic| topic.error_code == 0) {
                    let name = topic.name.as_deref().unwrap_or_default();
                    prop_assert!(cluster.image.topic(name).is_none());
                }
                check(&cluster, logs);
            }
        }
    }
}
