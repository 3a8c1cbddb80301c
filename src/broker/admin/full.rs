//! What the requests that would change something are answered with when a store has no room for
//! the change: every item that would have been done is refused, the others keep their errors.
//!
//! The error is KAFKA_STORAGE_ERROR, as for a produce: clients report it, and it points at the
//! disk. InitProducerId is COORDINATOR_LOAD_IN_PROGRESS, which Kafka answers when it has no ids to
//! give out at the moment: every client asks again, while other errors end the producer.

use kafka_wire::InitProducerIdResponse;
use kafka_wire::create_topics_response::CreatableTopicResult;
use kafka_wire_core::StrBytes;

use super::handler::outcome;
use crate::base::{ErrorCode, Refused};

const WHY: &str = "A store that this takes room in is full, the one of the metadata log or one that new partitions go to: \
                   delete topics or records, or raise millrace.store.bytes.max.";

/// Puts the refusal into the fields of an item that went well.
pub(super) fn refuse(code: &mut i16, message: &mut Option<StrBytes>) {
    if *code == ErrorCode::None.code() {
        let refused = Refused::because(ErrorCode::KafkaStorageError, WHY);
        (*code, *message) = outcome(Some(&refused));
    }
}

/// A topic is not created.
pub(super) fn topic_refused(topic: &mut CreatableTopicResult) {
    if topic.error_code == ErrorCode::None.code() {
        // Id, counts and settings of a topic that does not exist must not be told.
        let name = std::mem::take(&mut topic.name);
        *topic = CreatableTopicResult::default();
        topic.name = name;
        refuse(&mut topic.error_code, &mut topic.error_message);
    }
}

/// No producer id is given out.
pub(super) fn id_refused() -> InitProducerIdResponse {
    let mut refused = InitProducerIdResponse::default();
    refused.error_code = ErrorCode::CoordinatorLoadInProgress.code();
    refused.producer_id = -1;
    refused.producer_epoch = -1;
    refused
}

#[cfg(test)]
mod tests {
    use kafka_wire::create_partitions_request::CreatePartitionsTopic;
    use kafka_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    use kafka_wire::{
        CreatePartitionsRequest, DeleteTopicsRequest, IncrementalAlterConfigsRequest,
        InitProducerIdRequest,
    };

    use super::super::testing::{Cluster, new_topic, text};
    use super::super::{
        Decided, create_partitions, create_topics, delete_topics, incremental_alter_configs,
        init_producer_id,
    };

    const FULL: i16 = 56;

    #[test]
    fn topics_that_would_be_made_are_refused_and_nothing_is_told_of_them() {
        let mut cluster = Cluster::with(&[("there", 1)]);
        for version in 2..=7 {
            let mut request = new_topic("new", 3);
            request.topics.extend(new_topic("there", 1).topics);
            let response = cluster.ask_when_full(version, &request, create_topics);
            let codes: Vec<_> = response.topics.iter().map(|t| t.error_code).collect();
            assert_eq!(codes, [FULL, 36], "version {version}");
            let refused = &response.topics[0];
            assert_eq!(refused.name.as_str(), "new");
            assert_eq!(
                (refused.num_partitions, refused.replication_factor),
                (-1, -1)
            );
            assert!(refused.configs.as_ref().is_none_or(Vec::is_empty));
            assert!(refused.topic_id.as_bytes().iter().all(|byte| *byte == 0));
            assert!(refused.error_message.as_ref().unwrap().contains("full"));
        }
    }

    #[test]
    fn partitions_and_settings_are_refused() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        let mut more = CreatePartitionsRequest::default();
        for (name, count) in [("a", 2), ("x", 2)] {
            let mut topic = CreatePartitionsTopic::default();
            topic.name = text(name);
            topic.count = count;
            topic.assignments = None;
            more.topics.push(topic);
        }
        let mut alter = IncrementalAlterConfigsRequest::default();
        for name in ["a", "x"] {
            let mut setting = AlterableConfig::default();
            setting.name = text("retention.ms");
            setting.value = Some(text("5"));
            let mut resource = AlterConfigsResource::default();
            resource.resource_type = 2;
            resource.resource_name = text(name);
            resource.configs = vec![setting];
            alter.resources.push(resource);
        }
        for version in 0..=1 {
            let response = cluster.ask_when_full(version, &more, create_partitions);
            let codes: Vec<_> = response.results.iter().map(|t| t.error_code).collect();
            assert_eq!(codes, [FULL, 3]);
            let response = cluster.ask_when_full(version, &alter, incremental_alter_configs);
            let codes: Vec<_> = response.responses.iter().map(|r| r.error_code).collect();
            assert_eq!(codes, [FULL, 3]);
        }
    }

    #[test]
    fn a_producer_is_told_to_ask_again_and_its_block_of_ids_is_not_used() {
        let mut cluster = Cluster::new();
        for version in 0..=5 {
            let mut request = InitProducerIdRequest::default();
            request.transactional_id = None;
            let response = cluster.ask_when_full(version, &request, init_producer_id);
            assert_eq!((response.error_code, response.producer_id), (14, -1));
        }
        let mut request = InitProducerIdRequest::default();
        request.transactional_id = None;
        let response = cluster.ask(0, &request, init_producer_id);
        assert_eq!((response.error_code, cluster.committed), (0, 1));
        assert!(response.producer_id < cluster.image.next_producer_id);
    }

    #[test]
    fn deleting_is_never_refused() {
        let mut cluster = Cluster::with(&[("a", 1)]);
        let mut request = DeleteTopicsRequest::default();
        request.topic_names = vec![text("a")];
        let (decided, _) = cluster.decide(5, &request, delete_topics);
        assert!(matches!(decided, Decided::Whole { refusal: None, .. }));
    }
}
