//! CreateTopics (19), versions 2-7.
//!
//! - Partitions and replication factor -1 mean the defaults of the broker, in every version.
//! - A name that comes twice is answered once, with INVALID_REQUEST.
//! - Internal topics cannot be created by clients, which is INVALID_REQUEST (Kafka refuses
//!   `__cluster_metadata` only); the broker creates the ones it uses itself, and of those that it has
//!   TOPIC_ALREADY_EXISTS is told.
//! - Version 5 tells counts and settings of the new topic, version 7 its id. With `validate_only`
//!   the id is one that the topic would have had.
//! - The reply waits for the topic as long as it takes: `timeout_ms` is not looked at, because the
//!   commit is one flush of the local disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_wire::CreateTopicsRequest;
use kafka_wire::create_topics_request::CreatableTopic;
use kafka_wire::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_wire_core::StrBytes;

use super::config_entries::Source;
use super::deciding::{Decide, Deciding, Decision, decide};
use super::handler::{Ctx, outcome, to_wire};
use super::once::Once;
use super::{config_entries, full};
use crate::base::limits::PARTITIONS_PER_REQUEST_MAX;
use crate::base::{ErrorCode, Leftovers, Refused};
use crate::controller::{Created, NewTopic, Terms, create_topic, partitions_wanted};
use crate::wire::{Lists, RequestHeader, WireError};

/// Decides on a CreateTopics request.
pub fn create_topics(header: &RequestHeader, body: Bytes) -> Result<Box<dyn Decision>, WireError> {
    decide::<Topics>(header, body)
}

/// The topics of a request.
#[derive(Debug)]
struct Topics {
    topics: Once<StrBytes, CreatableTopic>,
    /// Partitions of all of them.
    partitions: usize,
    settings: Settings,
}

impl Decide for Topics {
    type Request = CreateTopicsRequest;
    type Element = CreatableTopicResult;
    const WHEN_FULL: Option<fn(&mut CreatableTopicResult)> = Some(full::topic_refused);

    fn new(version: i16) -> Self {
        Self {
            topics: Once::default(),
            partitions: 0,
            settings: Settings::new(version),
        }
    }

    fn take(&mut self, ctx: &Ctx<'_>, topic: CreatableTopic) {
        let assigned = topic.assignments.len();
        let wanted = partitions_wanted(assigned, topic.num_partitions, ctx.config);
        self.partitions = self.partitions.saturating_add(wanted);
        self.topics.push(topic.name.clone(), topic);
    }

    fn rest(&mut self, request: CreateTopicsRequest) -> bool {
        request.validate_only
    }

    fn next(&mut self, cx: &mut Deciding<'_>) -> Option<CreatableTopicResult> {
        let (topic, is_once) = self.topics.next()?;
        let name = topic.name.clone();
        let result = if self.partitions > PARTITIONS_PER_REQUEST_MAX {
            Err(Refused::because(
                ErrorCode::PolicyViolation,
                "Excessively large number of partitions per request.",
            ))
        } else if is_once {
            let (topic, voters) = (new_topic(&cx.ctx, topic), cx.voters());
            let mut terms = Terms {
                config: cx.ctx.config,
                rng: cx.ctx.rng,
                voters,
            };
            create_topic(cx.draft, &mut terms, topic)
        } else {
            Err(Refused::because(
                ErrorCode::InvalidRequest,
                "Duplicate topic name.",
            ))
        };
        let source = Source::new(cx.ctx.config, cx.ctx.image);
        Some(shown(&mut self.settings, source, name, result))
    }

    fn leave(self, leftovers: &mut Leftovers) {
        self.topics.leave(leftovers, CreateTopicsRequest::entries);
    }

    fn size(&self) -> usize {
        self.topics.peek().map_or(0, CreateTopicsRequest::entries)
    }

    fn answer_size(topic: &CreatableTopicResult) -> usize {
        topic.configs.as_ref().map_or(0, Vec::len)
    }
}

fn new_topic(ctx: &Ctx<'_>, topic: CreatableTopic) -> NewTopic {
    let assignments = topic.assignments.into_iter().map(|assignment| {
        let chosen = ctx.brokers.places(ctx.image, &assignment.broker_ids);
        (assignment.partition_index, chosen)
    });
    let text = |text: StrBytes| text.into_string();
    let configs = topic.configs.into_iter();
    NewTopic {
        assignments: assignments.collect(),
        name: text(topic.name),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        configs: configs.map(|c| (text(c.name), c.value.map(text))).collect(),
    }
}

/// The settings of new topics as they are shown.
#[derive(Debug)]
struct Settings {
    /// Whether the version tells them.
    are_told: bool,
    /// Of a topic that has none of its own, as most: made once.
    plain: Option<Vec<CreatableTopicConfigs>>,
}

impl Settings {
    const fn new(version: i16) -> Self {
        Self {
            are_told: version >= 5,
            plain: None,
        }
    }

    fn of(
        &mut self,
        source: Source<'_>,
        own: &BTreeMap<String, String>,
    ) -> Option<Vec<CreatableTopicConfigs>> {
        let make = || config_entries::of_topic(source, own).map(setting).collect();
        self.are_told.then(|| match own.is_empty() {
            true => self.plain.get_or_insert_with(make).clone(),
            false => make(),
        })
    }
}

fn shown(
    settings: &mut Settings,
    source: Source<'_>,
    name: StrBytes,
    result: Result<Created, Refused>,
) -> CreatableTopicResult {
    let mut shown = CreatableTopicResult::default();
    shown.name = name;
    (shown.error_code, shown.error_message) = outcome(result.as_ref().err());
    if let Ok(created) = result {
        shown.topic_id = to_wire(created.id);
        shown.num_partitions = i32::try_from(created.partitions).unwrap_or(i32::MAX);
        shown.replication_factor = i16::try_from(created.replication_factor).unwrap_or(i16::MAX);
        shown.configs = settings.of(source, &created.configs);
    }
    shown
}

fn setting(entry: config_entries::ConfigEntry) -> CreatableTopicConfigs {
    let mut shown = CreatableTopicConfigs::default();
    shown.name = entry.setting.key.into();
    shown.value = entry.value.map(Into::into);
    shown.read_only = entry.read_only;
    shown.config_source = entry.source;
    shown
}

#[cfg(test)]
mod tests {
    use kafka_wire::create_topics_request::CreatableTopicConfig;

    use super::super::create_partitions;
    use super::super::testing::{Cluster, new_topic, text};
    use super::*;
    use crate::base::NodeId;
    use crate::config::BrokerConfig;
    use crate::controller::testing::cluster;

    #[test]
    fn every_version_creates_a_topic() {
        let mut cluster = Cluster::new();
        for version in 2..=7 {
            let name = format!("t{version}");
            let response = cluster.ask(version, &new_topic(&name, 3), create_topics);
            let shown = &response.topics[0];
            assert_eq!(
                (shown.error_code, &shown.error_message),
                (0, &None),
                "version {version}"
            );
            let topic = cluster.image.topic(&name).unwrap();
            assert_eq!(topic.partitions.len(), 3);
            if version >= 5 {
                assert_eq!((shown.num_partitions, shown.replication_factor), (3, 1));
                let configs = shown.configs.as_ref().unwrap();
                let retention = configs.iter().find(|c| c.name.as_str() == "retention.ms");
                assert_eq!(retention.unwrap().value, Some(text("604800000")));
            }
            if version >= 7 {
                assert_eq!(shown.topic_id, to_wire(topic.id));
            }
        }
    }

    #[test]
    fn settings_and_assignments_arrive() {
        let mut cluster = Cluster::new();
        let mut request = new_topic("a", -1);
        let mut config = CreatableTopicConfig::default();
        config.name = text("retention.ms");
        config.value = Some(text("5"));
        request.topics[0].configs = vec![config];
        let mut assignment =
            kafka_wire::create_topics_request::CreatableReplicaAssignment::default();
        assignment.broker_ids = vec![1];
        request.topics[0].assignments = vec![assignment];
        let response = cluster.ask(7, &request, create_topics);
        assert_eq!(response.topics[0].error_code, 0);
        assert_eq!(
            cluster.image.topic("a").unwrap().configs["retention.ms"],
            "5"
        );
    }

    #[test]
    fn a_chosen_core_gets_the_partition() {
        let mut cluster = Cluster::direct();
        let assign = |index: i32, brokers: &[i32]| {
            let mut assignment =
                kafka_wire::create_topics_request::CreatableReplicaAssignment::default();
            assignment.partition_index = index;
            assignment.broker_ids = brokers.to_vec();
            assignment
        };
        let mut request = new_topic("a", -1);
        request.topics[0].assignments = vec![
            assign(2, &[10_000]),
            assign(0, &[10_001]),
            assign(1, &[10_001]),
        ];
        let response = cluster.ask(7, &request, create_topics);
        assert_eq!(response.topics[0].error_code, 0);
        let partitions = &cluster.image.topic("a").unwrap().partitions;
        let stores: Vec<_> = partitions.iter().map(|p| p.store.unwrap().0).collect();
        assert_eq!(stores, [1, 1, 0]);
        assert!(
            partitions
                .iter()
                .all(|p| *p.replicas == [cluster.config.node()])
        );
        // Two cores are not two nodes, and only those that are there can be chosen.
        for brokers in [&[10_000, 10_001][..], &[10_002], &[7]] {
            let mut request = new_topic("b", -1);
            request.topics[0].assignments = vec![assign(0, brokers)];
            let response = cluster.ask(7, &request, create_topics);
            assert_eq!(response.topics[0].error_code, 39, "{brokers:?}");
        }
    }

    /// On as many nodes as it has replicas, with a message as Kafka's if there are fewer.
    #[test]
    fn topics_of_several_replicas() {
        let mut cluster = Cluster::of(cluster(3), BrokerConfig::default());
        let mut request = new_topic("a", 4);
        request.topics[0].replication_factor = 3;
        request.topics.extend(new_topic("b", 1).topics);
        request.topics[1].replication_factor = 4;
        request.topics.extend(new_topic("c", -1).topics);
        let mut assignment =
            kafka_wire::create_topics_request::CreatableReplicaAssignment::default();
        assignment.broker_ids = vec![3, 1];
        request.topics[2].assignments = vec![assignment];
        let response = cluster.ask(7, &request, create_topics);
        let codes = response.topics.iter().map(|topic| topic.error_code);
        assert_eq!(codes.collect::<Vec<_>>(), [0, 38, 0]);
        let shown = response.topics[0].replication_factor;
        assert_eq!((shown, response.topics[2].replication_factor), (3, 2));
        let why = response.topics[1].error_message.as_deref().unwrap();
        assert_eq!(
            why,
            "Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot be reached because \
             only 3 broker(s) are registered."
        );
        let topic = |name| cluster.image.topic(name).unwrap();
        for partition in topic("a").partitions.iter() {
            let mut replicas = partition.replicas.to_vec();
            replicas.sort_unstable();
            assert_eq!(replicas, [1, 2, 3].map(NodeId));
            assert_eq!(partition.leader, partition.replicas[0]);
            assert_eq!(partition.isr, partition.replicas);
        }
        let partition = &topic("c").partitions[0];
        assert_eq!(*partition.replicas, [3, 1].map(NodeId));
        // What is added has as many.
        let mut more = kafka_wire::create_partitions_request::CreatePartitionsTopic::default();
        (more.name, more.count, more.assignments) = (text("c"), 3, None);
        let mut request = kafka_wire::CreatePartitionsRequest::default();
        request.topics = vec![more];
        let response = cluster.ask(3, &request, create_partitions);
        assert_eq!(response.results[0].error_code, 0);
        let topic = cluster.image.topic("c").unwrap();
        assert!(topic.partitions.iter().all(|it| it.replicas.len() == 2));
    }

    #[test]
    fn one_topic_fails_the_other_one_is_made() {
        let mut cluster = Cluster::new();
        let mut request = new_topic("a", 1);
        request.topics.extend(new_topic("b", 0).topics);
        request
            .topics
            .extend(new_topic(&"c".repeat(32_000), 1).topics);
        let response = cluster.ask(4, &request, create_topics);
        let codes: Vec<_> = response
            .topics
            .iter()
            .map(|topic| topic.error_code)
            .collect();
        assert_eq!(codes, [0, 37, 17]);
        assert!(response.topics[1].error_message.is_some());
        assert!(cluster.image.topic("a").is_some() && cluster.image.topic("b").is_none());
    }

    #[test]
    fn a_name_that_comes_twice_is_refused_once() {
        let mut cluster = Cluster::new();
        let mut request = new_topic("a", 1);
        request.topics.extend(new_topic("b", 1).topics);
        request.topics.extend(new_topic("a", 2).topics);
        let response = cluster.ask(7, &request, create_topics);
        let codes = response.topics.iter().map(|topic| topic.error_code);
        assert_eq!(codes.collect::<Vec<_>>(), [42, 0]);
        assert!(cluster.image.topic("a").is_none() && cluster.image.topic("b").is_some());
    }

    #[test]
    fn too_many_partitions_in_all_are_none() {
        let mut cluster = Cluster::new();
        for partitions in [10_000, i32::MAX] {
            let mut request = new_topic("a", partitions);
            request.topics.extend(new_topic("b", 1).topics);
            let response = cluster.ask(7, &request, create_topics);
            let codes = response.topics.iter().map(|topic| topic.error_code);
            assert_eq!(codes.collect::<Vec<_>>(), [44, 44]);
            assert_eq!(cluster.committed, 0);
        }
    }

    #[test]
    fn validate_only_changes_nothing() {
        let mut cluster = Cluster::new();
        let mut request = new_topic("a", 2);
        request.validate_only = true;
        let response = cluster.ask(7, &request, create_topics);
        assert_eq!(
            (
                response.topics[0].error_code,
                response.topics[0].num_partitions
            ),
            (0, 2)
        );
        assert_eq!(cluster.committed, 0);
    }
}
