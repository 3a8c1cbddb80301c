//! What a client is answered whose request was not decided on in time, because the metadata quorum has no leader, or
//! that is out of reach: REQUEST_TIMED_OUT for all that it asks for, as Kafka's brokers answer what they have forwarded
//! for too long. InitProducerId is COORDINATOR_LOAD_IN_PROGRESS there, on which clients ask again. What becomes of the
//! request is not known: it may be decided on all the same.

use bytes::Bytes;
use kafka_wire as kw;
use kafka_wire::RequestResponsePair;
use kafka_wire_core::StrBytes;

use crate::base::ErrorCode;
use crate::base::limits::REFUSED_BYTES_MAX;
use crate::broker::admin::{Answer, answer};
use crate::broker::msg::ControlCall;

/// Why.
const WHY: &str = "The node that decides on changes of the metadata has not answered in time.";

/// The answer. `None` if the request is to be answered from the image, without what was to be created.
///
/// # Errors
/// Why the connection is to be closed instead.
pub fn timed_out(call: &ControlCall) -> Option<Result<Bytes, String>> {
    let refuse = match call.header.key {
        METADATA | FIND_COORDINATOR => return None,
        CREATE_TOPICS => create_topics,
        DELETE_TOPICS => delete_topics,
        INIT_PRODUCER_ID => init_producer_id,
        ALTER_CONFIGS => alter_configs,
        CREATE_PARTITIONS => create_partitions,
        ELECT_LEADERS => elect_leaders,
        INCREMENTAL_ALTER_CONFIGS => incremental_alter_configs,
        DESCRIBE_QUORUM => describe_quorum,
        UNREGISTER_BROKER => unregister_broker,
        ADD_RAFT_VOTER => add_raft_voter,
        REMOVE_RAFT_VOTER => remove_raft_voter,
        key => return Some(Err(format!("API key {key} is answered by nobody in time"))),
    };
    if call.body.len() > REFUSED_BYTES_MAX {
        return Some(Err(WHY.to_owned()));
    }
    Some(match refuse(call) {
        Answer::Reply(frame) => Ok(frame),
        Answer::Malformed(why) => Err(why),
        Answer::Listing(_) | Answer::Create => Err(WHY.to_owned()),
    })
}

const METADATA: i16 = 3;
const FIND_COORDINATOR: i16 = 10;
const CREATE_TOPICS: i16 = 19;
const DELETE_TOPICS: i16 = 20;
const INIT_PRODUCER_ID: i16 = 22;
const ALTER_CONFIGS: i16 = 33;
const CREATE_PARTITIONS: i16 = 37;
const ELECT_LEADERS: i16 = 43;
const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
const DESCRIBE_QUORUM: i16 = 55;
const UNREGISTER_BROKER: i16 = 64;
const ADD_RAFT_VOTER: i16 = 80;
const REMOVE_RAFT_VOTER: i16 = 81;

fn refused<Q: RequestResponsePair>(
    call: &ControlCall,
    response: impl FnOnce(Q) -> Q::Response,
) -> Answer {
    answer(&call.header, call.body.clone(), response)
}

/// The error of an item.
fn outcome() -> (i16, Option<StrBytes>) {
    (ErrorCode::RequestTimedOut.code(), Some(StrBytes::from(WHY)))
}

fn create_topics(call: &ControlCall) -> Answer {
    refused(call, |request: kw::CreateTopicsRequest| {
        let mut response = kw::CreateTopicsResponse::default();
        let topics = request.topics.into_iter().map(|topic| {
            let mut refused = kw::create_topics_response::CreatableTopicResult::default();
            refused.name = topic.name;
            (refused.error_code, refused.error_message) = outcome();
            refused
        });
        response.topics = topics.collect();
        response
    })
}

fn delete_topics(call: &ControlCall) -> Answer {
    refused(call, |request: kw::DeleteTopicsRequest| {
        let mut response = kw::DeleteTopicsResponse::default();
        let refused = |name, id| {
            let mut refused = kw::delete_topics_response::DeletableTopicResult::default();
            (refused.name, refused.topic_id) = (name, id);
            (refused.error_code, refused.error_message) = outcome();
            refused
        };
        let by_name = request.topic_names.into_iter();
        let by_name = by_name.map(|name| refused(Some(name), Default::default()));
        let topics = request.topics.into_iter();
        let topics = topics.map(|topic| refused(topic.name, topic.topic_id));
        response.responses = by_name.chain(topics).collect();
        response
    })
}

fn init_producer_id(call: &ControlCall) -> Answer {
    refused(call, |_: kw::InitProducerIdRequest| {
        let mut response = kw::InitProducerIdResponse::default();
        response.error_code = ErrorCode::CoordinatorLoadInProgress.code();
        (response.producer_id, response.producer_epoch) = (-1, -1);
        response
    })
}

fn alter_configs(call: &ControlCall) -> Answer {
    refused(call, |request: kw::AlterConfigsRequest| {
        let mut response = kw::AlterConfigsResponse::default();
        let resources = request.resources.into_iter().map(|resource| {
            let mut refused = kw::alter_configs_response::AlterConfigsResourceResponse::default();
            refused.resource_type = resource.resource_type;
            refused.resource_name = resource.resource_name;
            (refused.error_code, refused.error_message) = outcome();
            refused
        });
        response.responses = resources.collect();
        response
    })
}

fn incremental_alter_configs(call: &ControlCall) -> Answer {
    refused(call, |request: kw::IncrementalAlterConfigsRequest| {
        let mut response = kw::IncrementalAlterConfigsResponse::default();
        let resources = request.resources.into_iter().map(|resource| {
            let mut refused =
                kw::incremental_alter_configs_response::AlterConfigsResourceResponse::default();
            refused.resource_type = resource.resource_type;
            refused.resource_name = resource.resource_name;
            (refused.error_code, refused.error_message) = outcome();
            refused
        });
        response.responses = resources.collect();
        response
    })
}

fn create_partitions(call: &ControlCall) -> Answer {
    refused(call, |request: kw::CreatePartitionsRequest| {
        let mut response = kw::CreatePartitionsResponse::default();
        let topics = request.topics.into_iter().map(|topic| {
            let mut refused =
                kw::create_partitions_response::CreatePartitionsTopicResult::default();
            refused.name = topic.name;
            (refused.error_code, refused.error_message) = outcome();
            refused
        });
        response.results = topics.collect();
        response
    })
}

fn elect_leaders(call: &ControlCall) -> Answer {
    refused(call, |request: kw::ElectLeadersRequest| {
        let mut response = kw::ElectLeadersResponse::default();
        // The first version has a code for each partition alone.
        if call.header.version >= 1 {
            response.error_code = ErrorCode::RequestTimedOut.code();
        }
        let topics = request.topic_partitions.into_iter().flatten();
        let topics = topics.map(|topic| {
            let partition = |index: i32| {
                let mut refused = kw::elect_leaders_response::PartitionResult::default();
                refused.partition_id = index;
                (refused.error_code, refused.error_message) = outcome();
                refused
            };
            let mut refused = kw::elect_leaders_response::ReplicaElectionResult::default();
            refused.topic = topic.topic;
            refused.partition_result = topic.partitions.into_iter().map(partition).collect();
            refused
        });
        response.replica_election_results = topics.collect();
        response
    })
}

fn unregister_broker(call: &ControlCall) -> Answer {
    refused(call, |_: kw::UnregisterBrokerRequest| {
        let mut response = kw::UnregisterBrokerResponse::default();
        (response.error_code, response.error_message) = outcome();
        response
    })
}

fn add_raft_voter(call: &ControlCall) -> Answer {
    refused(call, |_: kw::AddRaftVoterRequest| {
        let mut response = kw::AddRaftVoterResponse::default();
        (response.error_code, response.error_message) = outcome();
        response
    })
}

fn remove_raft_voter(call: &ControlCall) -> Answer {
    refused(call, |_: kw::RemoveRaftVoterRequest| {
        let mut response = kw::RemoveRaftVoterResponse::default();
        (response.error_code, response.error_message) = outcome();
        response
    })
}

fn describe_quorum(call: &ControlCall) -> Answer {
    refused(call, |_: kw::DescribeQuorumRequest| {
        let mut response = kw::DescribeQuorumResponse::default();
        (response.error_code, response.error_message) = outcome();
        response
    })
}

#[cfg(test)]
mod tests {
    use kafka_wire::KafkaRequest;

    use super::*;
    use crate::broker::apis::{self, Handler};
    use crate::wire::client::{decode_response, encode_request};
    use crate::wire::parse_header;

    fn call<Q: KafkaRequest>(version: i16, request: &Q) -> ControlCall {
        let frame = encode_request(5, None, version, request).unwrap();
        let (header, body) = parse_header(frame.slice(4..), apis::api).unwrap();
        ControlCall {
            header,
            body,
            listener: 0,
        }
    }

    /// The answers of all versions.
    fn all<Q: RequestResponsePair + KafkaRequest>(
        key: i16,
        request: impl Fn(i16) -> Q,
    ) -> Vec<Q::Response> {
        let api = apis::api(key).unwrap();
        let versions = api.min..=api.max;
        let answers = versions.map(|version| {
            let frame = timed_out(&call(version, &request(version)));
            let frame = frame.unwrap().unwrap();
            decode_response::<Q>(frame.slice(4..), version).unwrap().1
        });
        answers.collect()
    }

    #[test]
    fn each_thing_that_is_asked_for_is_answered() {
        let name = || StrBytes::from("a");
        let created = all(CREATE_TOPICS, |_| {
            let mut topic = kw::create_topics_request::CreatableTopic::default();
            topic.name = name();
            let mut request = kw::CreateTopicsRequest::default();
            request.topics = vec![topic; 2];
            request
        });
        for answer in created {
            let topics = answer.topics.iter();
            let told: Vec<_> = topics.map(|it| (it.name.as_str(), it.error_code)).collect();
            assert_eq!(told, [("a", 7); 2]);
        }
        let deleted = all(DELETE_TOPICS, |version| {
            let mut request = kw::DeleteTopicsRequest::default();
            match version {
                6.. => {
                    let mut topic = kw::delete_topics_request::DeleteTopicState::default();
                    topic.name = Some(name());
                    request.topics = vec![topic];
                }
                _ => request.topic_names = vec![name()],
            }
            request
        });
        for answer in deleted {
            let topic = &answer.responses[0];
            assert_eq!((topic.name.as_deref(), topic.error_code), (Some("a"), 7));
        }
        let more = all(CREATE_PARTITIONS, |_| {
            let mut topic = kw::create_partitions_request::CreatePartitionsTopic::default();
            topic.name = name();
            let mut request = kw::CreatePartitionsRequest::default();
            request.topics = vec![topic];
            request
        });
        for answer in more {
            let topic = &answer.results[0];
            assert_eq!((topic.name.as_str(), topic.error_code), ("a", 7));
        }
        let elected = all(ELECT_LEADERS, |_| {
            let mut topic = kw::elect_leaders_request::TopicPartitions::default();
            (topic.topic, topic.partitions) = (name(), vec![3]);
            let mut request = kw::ElectLeadersRequest::default();
            request.topic_partitions = Some(vec![topic]);
            request
        });
        for (version, answer) in (0..).zip(elected) {
            assert_eq!(answer.error_code, if version == 0 { 0 } else { 7 });
            let topic = &answer.replica_election_results[0];
            let partition = &topic.partition_result[0];
            assert_eq!((topic.topic.as_str(), partition.partition_id), ("a", 3));
            assert_eq!(partition.error_code, 7);
        }
    }

    #[test]
    fn settings_and_ids_are_answered() {
        let name = || StrBytes::from("a");
        let altered = all(ALTER_CONFIGS, |_| {
            let mut resource = kw::alter_configs_request::AlterConfigsResource::default();
            (resource.resource_type, resource.resource_name) = (2, name());
            let mut request = kw::AlterConfigsRequest::default();
            request.resources = vec![resource];
            request
        });
        for answer in altered {
            let told = &answer.responses[0];
            assert_eq!((told.resource_type, told.error_code), (2, 7));
            assert_eq!(told.resource_name.as_str(), "a");
        }
        let altered = all(INCREMENTAL_ALTER_CONFIGS, |_| {
            let mut resource =
                kw::incremental_alter_configs_request::AlterConfigsResource::default();
            (resource.resource_type, resource.resource_name) = (2, name());
            let mut request = kw::IncrementalAlterConfigsRequest::default();
            request.resources = vec![resource];
            request
        });
        for answer in altered {
            let told = &answer.responses[0];
            assert_eq!((told.resource_type, told.error_code), (2, 7));
            assert_eq!(told.resource_name.as_str(), "a");
        }
        let ids = all(INIT_PRODUCER_ID, |_| {
            let mut request = kw::InitProducerIdRequest::default();
            request.transactional_id = None;
            request
        });
        for answer in ids {
            assert_eq!((answer.error_code, answer.producer_id), (14, -1));
        }
    }

    #[test]
    fn all_that_the_control_shard_decides_on_has_an_answer() {
        for key in 0..1000 {
            let call = ControlCall {
                header: crate::wire::RequestHeader {
                    key,
                    version: 0,
                    correlation_id: 1,
                    client_id: None,
                },
                body: Bytes::new(),
                listener: 0,
            };
            let answer = timed_out(&call);
            let is_known = !matches!(&answer, Some(Err(why)) if why.contains("by nobody"));
            match apis::served(key).map(|served| served.handler) {
                Some(Handler::Control(_) | Handler::TransactionsOrControl(..)) => {
                    assert!(is_known, "key {key}");
                }
                Some(Handler::ImageOrCreate(..)) => assert!(answer.is_none(), "key {key}"),
                _ => assert!(!is_known, "key {key}"),
            }
        }
    }

    #[test]
    fn a_long_one_is_not_read() {
        let mut topic = kw::create_topics_request::CreatableTopic::default();
        topic.name = StrBytes::from("a".repeat(200).as_str());
        let mut request = kw::CreateTopicsRequest::default();
        request.topics = vec![topic; REFUSED_BYTES_MAX / 200 + 1];
        assert_eq!(timed_out(&call(7, &request)), Some(Err(WHY.to_owned())));
    }
}
