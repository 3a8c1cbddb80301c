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
use kafka_wire::create_topics_request::CreatableTopic;
use kafka_wire::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_wire::{CreateTopicsRequest, CreateTopicsResponse};

use super::brokers::Brokers;
use super::config_entries::Source;
use super::handler::{Answer, Ctx, change, outcome, to_wire};
use super::{config_entries, full};
use crate::controller::{self, Created, Draft, MetadataRecord, NewTopic, Refused, Terms};
use crate::wire::RequestHeader;

/// Answers a CreateTopics request.
#[must_use]
pub fn create_topics(ctx: &mut Ctx<'_>, header: &RequestHeader, body: Bytes) -> Answer {
    change(
        header,
        body,
        |request| respond(ctx, header.version, request),
        Some(full::topics_refused),
    )
}

fn respond(
    ctx: &mut Ctx<'_>,
    version: i16,
    request: CreateTopicsRequest,
) -> (CreateTopicsResponse, Vec<MetadataRecord>) {
    let topics: Vec<_> = request
        .topics
        .into_iter()
        .map(|topic| new_topic(ctx.brokers, topic))
        .collect();
    let mut draft = Draft::new(ctx.image);
    let mut terms = Terms::new(ctx.image, ctx.config, ctx.rng);
    let results = controller::create_topics(&mut draft, &mut terms, &topics);
    let mut settings = Settings::new(version, Source::new(ctx.config, ctx.image));
    let mut response = CreateTopicsResponse::default();
    response.topics = results
        .into_iter()
        .map(|(name, result)| shown(&mut settings, name, result))
        .collect();
    let records = if request.validate_only {
        Vec::new()
    } else {
        draft.into_records()
    };
    (response, records)
}

fn new_topic(brokers: &Brokers, topic: CreatableTopic) -> NewTopic {
    let mut places = BTreeMap::new();
    let assignments = topic.assignments.into_iter().map(|assignment| {
        let (nodes, store) = brokers.places(&assignment.broker_ids);
        places.extend(store.map(|store| (assignment.partition_index, store)));
        (assignment.partition_index, nodes)
    });
    NewTopic {
        assignments: assignments.collect(),
        places,
        name: topic.name.into_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        configs: topic
            .configs
            .into_iter()
            .map(|c| {
                (
                    c.name.into_string(),
                    c.value.map(|value| value.into_string()),
                )
            })
            .collect(),
    }
}

/// The settings of new topics as they are shown.
struct Settings<'a> {
    source: Source<'a>,
    /// Whether the version tells them.
    are_told: bool,
    /// Of a topic that has none of its own, as most: made once.
    plain: Option<Vec<CreatableTopicConfigs>>,
}

impl<'a> Settings<'a> {
    fn new(version: i16, source: Source<'a>) -> Self {
        Self {
            source,
            are_told: version >= 5,
            plain: None,
        }
    }

    fn of(&mut self, own: &BTreeMap<String, String>) -> Option<Vec<CreatableTopicConfigs>> {
        let source = self.source;
        let make = || config_entries::of_topic(source, own).map(setting).collect();
        self.are_told.then(|| match own.is_empty() {
            true => self.plain.get_or_insert_with(make).clone(),
            false => make(),
        })
    }
}

fn shown(
    settings: &mut Settings<'_>,
    name: String,
    result: Result<Created, Refused>,
) -> CreatableTopicResult {
    let mut shown = CreatableTopicResult::default();
    shown.name = name.into();
    (shown.error_code, shown.error_message) = outcome(result.as_ref().err());
    if let Ok(created) = result {
        shown.topic_id = to_wire(created.id);
        shown.num_partitions = i32::try_from(created.partitions).unwrap_or(i32::MAX);
        shown.replication_factor = i16::try_from(created.replication_factor).unwrap_or(i16::MAX);
        shown.configs = settings.of(&created.configs);
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

    use super::super::testing::{Cluster, new_topic, text};
    use super::*;

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
                .all(|p| p.replicas == [cluster.config.node()])
        );
        // Two cores are not two nodes, and only those that are there can be chosen.
        for brokers in [&[10_000, 10_001][..], &[10_002], &[7]] {
            let mut request = new_topic("b", -1);
            request.topics[0].assignments = vec![assign(0, brokers)];
            let response = cluster.ask(7, &request, create_topics);
            assert_eq!(response.topics[0].error_code, 39, "{brokers:?}");
        }
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
