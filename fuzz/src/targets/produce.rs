//! Produce: our decoder against the generated one, which must agree on what is a
//! request and on what is in it; the same for responses, as the client reads them.
//!
//! Input: a byte for the version, a byte for request or response, the body.

use bytes::Bytes;
use kafka_wire::ProduceRequest as Generated;
use kafka_wire_core::Uuid;
use millrace::base::TopicId;
use millrace::broker::apis::api;
use millrace::record::{BatchBuilder, Codec, validate_produced};
use millrace::wire::client::{decode_produce, decode_response, encode_produce_flat};
use millrace::wire::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
    ProduceTopicResponse, encode_response,
};
use millrace::wire::{CurrentLeader, NodeEndpoint, TopicRef, decode, parse_header};

use super::{DECODING, Target, outcome};

pub const TARGET: Target = Target {
    name: "produce",
    corpus,
    check,
    repair: |_| (),
    memory: DECODING,
};

fn version_of(byte: u8) -> i16 {
    3 + i16::from(byte) % 11
}

fn corpus() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for byte in 0..11 {
        let version = version_of(byte);
        let topic = if version >= 13 {
            TopicRef::Id(TopicId([7; 16]))
        } else {
            TopicRef::Name("topic".into())
        };
        let frame = encode_produce_flat(1, None, version, &request(topic.clone()));
        let (_, body) = parse_header(frame.slice(4..), api).expect("our own frame");
        out.push([&[byte, 0], &body[..]].concat());
        let frame = encode_response(1, version, &response(topic));
        out.push([&[byte, 1], &frame[4..]].concat());
    }
    out
}

fn request(topic: TopicRef) -> ProduceRequest {
    let mut batch = BatchBuilder::new(Codec::None, 1);
    batch.push(1, Some(b"key"), Some(b"value"), &[]);
    let partitions = vec![
        ProducePartition {
            index: 0,
            records: Some(batch.build()),
        },
        ProducePartition {
            index: 1,
            records: None,
        },
    ];
    ProduceRequest {
        transactional_id: Some("id".into()),
        acks: -1,
        timeout_ms: 1000,
        topics: vec![ProduceTopic { topic, partitions }],
    }
}

fn response(topic: TopicRef) -> ProduceResponse {
    let error = millrace::base::ErrorCode::InvalidRecord;
    let partitions = vec![ProducePartitionResponse::failed(
        3,
        error,
        Some("why".into()),
    )];
    let topics = vec![ProduceTopicResponse { topic, partitions }];
    let mut response = ProduceResponse {
        topics,
        ..ProduceResponse::default()
    };
    let leader = CurrentLeader { id: 2, epoch: 5 };
    response.topics[0].partitions[0].leader = Some(leader);
    response.endpoints = vec![other()];
    response
}

/// Where another broker is.
pub fn other() -> NodeEndpoint {
    NodeEndpoint {
        id: 2,
        host: "other".into(),
        port: 9092,
    }
}

fn check(input: &[u8]) -> u64 {
    let [version, kind, body @ ..] = input else {
        return 0;
    };
    let version = version_of(*version);
    let body = Bytes::copy_from_slice(body);
    if kind % 2 == 0 {
        check_request(version, body)
    } else {
        check_response(version, body)
    }
}

fn same_topic(topic: &TopicRef, name: &str, id: Uuid) -> bool {
    match topic {
        TopicRef::Name(ours) => &**ours == name,
        TopicRef::Id(ours) => ours.0 == id.to_bytes(),
    }
}

fn check_request(version: i16, body: Bytes) -> u64 {
    let theirs = decode::<Generated>(body.clone(), version);
    let ours = match ProduceRequest::parse(body, version) {
        Ok(ours) => ours,
        Err(error) => {
            assert!(theirs.is_err(), "only ours refuses: {error}");
            return outcome(version, &error);
        }
    };
    let theirs = theirs.expect("only theirs refuses");
    assert_eq!(ours.transactional_id, theirs.transactional_id);
    assert_eq!(
        (ours.acks, ours.timeout_ms),
        (theirs.acks, theirs.timeout_ms)
    );
    assert_eq!(ours.topics.len(), theirs.topic_data.len());
    for (ours, theirs) in ours.topics.iter().zip(&theirs.topic_data) {
        assert!(same_topic(&ours.topic, &theirs.name, theirs.topic_id));
        let partitions = ours
            .partitions
            .iter()
            .map(|p| (p.index, p.records.as_ref()));
        assert!(
            partitions.eq(theirs
                .partition_data
                .iter()
                .map(|p| (p.index, p.records.as_ref())))
        );
    }
    let frame = encode_produce_flat(1, None, version, &ours);
    let (_, again) = parse_header(frame.slice(4..), api).expect("our own frame");
    assert_eq!(
        ProduceRequest::parse(again, version).expect("our own body"),
        ours
    );
    let records = ours.topics.iter().flat_map(|topic| &topic.partitions);
    let verdicts: Vec<_> = records
        .map(|partition| validate_produced(partition.records.as_deref().unwrap_or_default()))
        .map(|verdict| verdict.map(|_| ()))
        .collect();
    outcome(version, &verdicts)
}

fn check_response(version: i16, frame: Bytes) -> u64 {
    let theirs = decode_response::<Generated>(frame.clone(), version);
    match (decode_produce(frame, version), theirs) {
        (Err(error), theirs) => {
            assert!(theirs.is_err(), "only ours refuses: {error}");
            outcome(("response", version), &error)
        }
        // The generated type looks into tagged fields that we skip, and may dislike them.
        (Ok(_), Err(_)) => outcome(("response", version), &()),
        (Ok((id, ours)), Ok(theirs)) => {
            assert_eq!(
                (id, ours.throttle_time_ms),
                (theirs.0, theirs.1.throttle_time_ms)
            );
            assert_eq!(ours.topics.len(), theirs.1.responses.len());
            for (ours, theirs) in ours.topics.iter().zip(&theirs.1.responses) {
                assert!(same_topic(&ours.topic, &theirs.name, theirs.topic_id));
                let mine = ours.partitions.iter().map(|p| (p.index, p.base_offset));
                let both = theirs
                    .partition_responses
                    .iter()
                    .map(|p| (p.index, p.base_offset));
                assert!(mine.eq(both));
            }
            outcome(("response", version), &ours.topics.len())
        }
    }
}
