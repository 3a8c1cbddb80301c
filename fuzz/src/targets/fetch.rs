//! Fetch: our decoders against the generated ones. Ours may take what theirs
//! refuses, since we skip tagged fields that they look into; never the reverse,
//! but for isolation levels that do not exist.
//!
//! Input: a byte for the version, a byte for request or response, the body.

use bytes::Bytes;
use kafka_wire::FetchRequest as Generated;
use kafka_wire::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_wire_core::Uuid;
use millrace::base::{ErrorCode, TopicId};
use millrace::broker::apis::api;
use millrace::record::batches;
use millrace::store::Piece;
use millrace::wire::client::{decode_fetch, decode_response, encode_request};
use millrace::wire::fetch::{
    AbortedTransaction, FetchHead, FetchPartitionResponse, FetchRequest, FetchTopicResponse,
    encode_response,
};
use millrace::wire::{CurrentLeader, TopicRef, decode, parse_header};

use super::produce::other;
use super::{DECODING, Target, outcome};

pub const TARGET: Target = Target {
    name: "fetch",
    corpus,
    check,
    repair: |_| (),
    memory: DECODING,
};

fn version_of(byte: u8) -> i16 {
    4 + i16::from(byte) % 15
}

fn corpus() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for byte in 0..15 {
        let version = version_of(byte);
        let frame = encode_request(1, None, version, &request(version)).expect("a good request");
        let (_, body) = parse_header(frame.slice(4..), api).expect("our own frame");
        out.push([&[byte, 0], &body[..]].concat());
        let mut frame = vec![byte, 1];
        for piece in encode_response(
            1,
            version,
            FetchHead::default(),
            response(version),
            &[other()],
        ) {
            if let Piece::Memory(bytes) = piece {
                frame.extend_from_slice(&bytes);
            }
        }
        frame.drain(2..6);
        out.push(frame);
    }
    out
}

fn request(version: i16) -> Generated {
    let mut topic = FetchTopic::default();
    topic.partitions = vec![FetchPartition::default(); 2];
    let mut forgotten = ForgottenTopic::default();
    forgotten.partitions = vec![1, 2];
    if version >= 13 {
        topic.topic_id = Uuid::from_bytes([7; 16]);
        forgotten.topic_id = Uuid::from_bytes([8; 16]);
    } else {
        topic.topic = "topic".into();
        forgotten.topic = "other".into();
    }
    let mut request = Generated::default();
    request.topics = vec![topic];
    if version >= 7 {
        request.forgotten_topics_data = vec![forgotten];
    }
    if version >= 12 {
        request.cluster_id = Some("cluster".into());
    }
    if version >= 15 {
        request.replica_state.replica_id = 3;
    }
    request
}

fn response(version: i16) -> Vec<FetchTopicResponse> {
    let topic = if version >= 13 {
        TopicRef::Id(TopicId([7; 16]))
    } else {
        TopicRef::Name("topic".into())
    };
    let mut partition = FetchPartitionResponse::failed(0, ErrorCode::None);
    partition.aborted = Some(vec![AbortedTransaction {
        producer_id: 1,
        first_offset: 2,
    }]);
    partition.records = vec![Piece::Memory(Bytes::from_static(b"some records"))];
    let mut failed = FetchPartitionResponse::failed(1, ErrorCode::NotLeaderOrFollower);
    failed.leader = Some(CurrentLeader { id: 2, epoch: 5 });
    vec![FetchTopicResponse {
        topic,
        partitions: vec![partition, failed],
    }]
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
    match (FetchRequest::parse(body, version), theirs) {
        (Err(error), theirs) => {
            let known_isolation = |request: &Generated| (0..2).contains(&request.isolation_level);
            assert!(
                !theirs.is_ok_and(|r| known_isolation(&r)),
                "only ours refuses: {error}"
            );
            outcome(version, &error)
        }
        (Ok(_), Err(_)) => outcome(version, &()),
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.max_bytes, theirs.max_bytes);
            assert_eq!(ours.session_epoch, theirs.session_epoch);
            assert_eq!(ours.rack, theirs.rack_id);
            assert_eq!(ours.topics.len(), theirs.topics.len());
            for (ours, theirs) in ours.topics.iter().zip(&theirs.topics) {
                assert!(same_topic(&ours.topic, &theirs.topic, theirs.topic_id));
                let mine = ours
                    .partitions
                    .iter()
                    .map(|p| (p.index, p.fetch_offset, p.max_bytes));
                assert!(mine.eq(theirs.partitions.iter().map(|p| (
                    p.partition,
                    p.fetch_offset,
                    p.partition_max_bytes
                ))));
            }
            let mine = ours.forgotten.iter().map(|topic| &topic.partitions);
            assert!(
                mine.eq(theirs
                    .forgotten_topics_data
                    .iter()
                    .map(|topic| &topic.partitions))
            );
            outcome(version, &(ours.topics.len(), ours.forgotten.len()))
        }
    }
}

fn check_response(version: i16, frame: Bytes) -> u64 {
    let theirs = decode_response::<Generated>(frame.clone(), version);
    match (decode_fetch(frame, version), theirs) {
        (Err(error), theirs) => {
            assert!(theirs.is_err(), "only ours refuses: {error}");
            outcome(("response", version), &error)
        }
        (Ok(_), Err(_)) => outcome(("response", version), &()),
        (Ok((id, ours)), Ok(theirs)) => {
            assert_eq!((id, ours.head.session_id), (theirs.0, theirs.1.session_id));
            assert_eq!(ours.topics.len(), theirs.1.responses.len());
            for (ours, theirs) in ours.topics.iter().zip(&theirs.1.responses) {
                assert!(same_topic(&ours.topic, &theirs.topic, theirs.topic_id));
                let mine = ours.partitions.iter().map(|p| (p.index, &p.records[..]));
                assert!(
                    mine.eq(theirs
                        .partitions
                        .iter()
                        .map(|p| (p.partition_index, p.records.as_deref().unwrap_or_default())))
                );
            }
            let partitions = ours.topics.iter().flat_map(|topic| &topic.partitions);
            let whole: usize = partitions.map(|p| batches(&p.records).count()).sum();
            outcome(("response", version), &(ours.topics.len(), whole))
        }
    }
}
