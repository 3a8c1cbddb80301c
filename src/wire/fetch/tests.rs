//! Our coding of fetch against the generated one, in both directions and all versions.

use bytes::Bytes;
use kafka_wire::fetch_request as theirs;
use kafka_wire::fetch_response as their;
use kafka_wire_core::{StrBytes, Uuid};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::base::limits::{REQUEST_ENTRIES_MAX, TOPIC_NAME_BYTES_MAX};
use crate::base::{ErrorCode, StoreId, TopicId};
use crate::store::{ChunkPin, Piece};
use crate::wire::api::known;
use crate::wire::client::{decode_fetch, decode_response, encode_request};
use crate::wire::{CurrentLeader, NodeEndpoint, TopicRef, WireError, parse_header};

/// Joins pieces; a file piece stands for that many bytes of its position.
fn joined(pieces: &[Piece]) -> Bytes {
    let mut out = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Memory(bytes) => out.extend_from_slice(bytes),
            Piece::File { pos, len, .. } => out.resize(out.len() + len, *pos as u8),
        }
    }
    out.into()
}

fn generated(pick: bool, version: i16) -> (StrBytes, Uuid) {
    if version >= TOPIC_IDS_FROM {
        (
            StrBytes::default(),
            Uuid::from_bytes([if pick { 7 } else { 8 }; 16]),
        )
    } else {
        (if pick { "topic-a" } else { "" }.into(), Uuid::ZERO)
    }
}

fn same_topic(topic: &TopicRef, name: &StrBytes, id: Uuid) -> bool {
    match topic {
        TopicRef::Name(ours) => ours == name,
        TopicRef::Id(ours) => ours.0 == id.to_bytes(),
    }
}

fn any_request() -> impl Strategy<Value = (i16, theirs::FetchRequest)> {
    let partition = any::<(i32, i32, i64, i32, i64, i32, i64)>();
    let topics = vec((any::<bool>(), vec(partition, 0..4)), 0..4);
    let forgotten = vec((any::<bool>(), vec(any::<i32>(), 0..4)), 0..4);
    let head = any::<(i32, i32, i32, i32, i32, i32, bool)>();
    (4i16..=18, head, topics, forgotten, "[a-z]{0,5}").prop_map(
        |(version, head, topics, forgotten, rack)| {
            let mut out = theirs::FetchRequest::default();
            let replica_id;
            (
                replica_id,
                out.max_wait_ms,
                out.min_bytes,
                out.max_bytes,
                ..,
            ) = head;
            if version < 15 {
                out.replica_id = replica_id;
            } else {
                out.replica_state.replica_id = replica_id;
            }
            out.isolation_level = i8::from(head.6);
            if version >= 7 {
                (out.session_id, out.session_epoch) = (head.4, head.5);
                out.forgotten_topics_data = forgotten
                    .into_iter()
                    .map(|(pick, partitions)| {
                        let mut topic = theirs::ForgottenTopic::default();
                        (topic.topic, topic.topic_id) = generated(pick, version);
                        topic.partitions = partitions;
                        topic
                    })
                    .collect();
            }
            if version >= 11 {
                out.rack_id = rack.into();
            }
            for (pick, partitions) in topics {
                let mut topic = theirs::FetchTopic::default();
                (topic.topic, topic.topic_id) = generated(pick, version);
                for (index, epoch, offset, last_epoch, start, max_bytes, watermark) in partitions {
                    let mut partition = theirs::FetchPartition::default();
                    partition.partition = index;
                    partition.fetch_offset = offset;
                    partition.partition_max_bytes = max_bytes;
                    if version >= 5 {
                        partition.log_start_offset = start;
                    }
                    if version >= 9 {
                        partition.current_leader_epoch = epoch;
                    }
                    if version >= 12 {
                        partition.last_fetched_epoch = last_epoch;
                    }
                    if version >= 17 {
                        partition.replica_directory_id = Uuid::from_bytes([3; 16]);
                    }
                    if version >= 18 {
                        partition.high_watermark = watermark;
                    }
                    topic.partitions.push(partition);
                }
                out.topics.push(topic);
            }
            (version, out)
        },
    )
}

fn check_request(ours: &FetchRequest, theirs: &theirs::FetchRequest, version: i16) {
    let replica_id = if version < 15 {
        theirs.replica_id
    } else {
        theirs.replica_state.replica_id
    };
    assert_eq!(ours.replica_id, replica_id);
    assert_eq!(
        (ours.max_wait_ms, ours.min_bytes, ours.max_bytes),
        (theirs.max_wait_ms, theirs.min_bytes, theirs.max_bytes)
    );
    assert_eq!(ours.isolation as i8, theirs.isolation_level);
    assert_eq!(
        (ours.session_id, ours.session_epoch),
        (theirs.session_id, theirs.session_epoch)
    );
    assert_eq!(ours.rack, theirs.rack_id);
    assert_eq!(ours.topics.len(), theirs.topics.len());
    for (ours, theirs) in ours.topics.iter().zip(&theirs.topics) {
        assert!(same_topic(&ours.topic, &theirs.topic, theirs.topic_id));
        let expected = theirs.partitions.iter().map(|partition| FetchPartition {
            index: partition.partition,
            current_leader_epoch: partition.current_leader_epoch,
            fetch_offset: partition.fetch_offset,
            last_fetched_epoch: partition.last_fetched_epoch,
            log_start_offset: partition.log_start_offset,
            max_bytes: partition.partition_max_bytes,
        });
        assert!(expected.eq(ours.partitions.iter().copied()));
    }
    assert_eq!(ours.forgotten.len(), theirs.forgotten_topics_data.len());
    for (ours, theirs) in ours.forgotten.iter().zip(&theirs.forgotten_topics_data) {
        assert!(same_topic(&ours.topic, &theirs.topic, theirs.topic_id));
        assert_eq!(ours.partitions, theirs.partitions);
    }
}

fn any_piece() -> impl Strategy<Value = Piece> {
    (any::<bool>(), any::<u8>(), 0usize..200).prop_map(|(file, byte, len)| {
        if file {
            let (store, pin) = (StoreId(0), ChunkPin::default());
            Piece::File {
                store,
                pos: u64::from(byte),
                len,
                pin,
                begins: None,
            }
        } else {
            Piece::Memory(vec![byte; len].into())
        }
    })
}

type Response = (FetchHead, Vec<FetchTopicResponse>, Vec<NodeEndpoint>);

fn any_response() -> impl Strategy<Value = (i16, Response)> {
    (4i16..=18).prop_flat_map(|version| {
        let aborted = option::of(vec(any::<(i64, i64)>(), 0..3));
        let records = vec(any_piece(), 0..4);
        let partition = (
            any::<(i32, i64, i64, i64, i32)>(),
            -1i16..130,
            aborted,
            records,
            option::of((0..i32::MAX, any::<i32>())),
        );
        let endpoint = (any::<(i32, i32)>(), "\\PC{0,20}").prop_map(|((id, port), host)| {
            let host = host.as_str().into();
            NodeEndpoint { id, host, port }
        });
        let topic = (any::<bool>(), vec(partition, 0..4));
        let (topics, endpoints) = (vec(topic, 0..4), vec(endpoint, 0..3));
        (any::<(i32, i32)>(), -1i16..130, topics, endpoints).prop_map(
            move |(head, error, topics, mut endpoints)| {
                if version < LEADERS_FROM {
                    endpoints.clear();
                }
                let error = ErrorCode::from_code(error).unwrap_or_default();
                let sessions = version >= 7;
                let head = FetchHead {
                    throttle_time_ms: head.0,
                    error: if sessions { error } else { ErrorCode::None },
                    session_id: if sessions { head.1 } else { 0 },
                };
                let topics = topics.into_iter().map(|(pick, partitions)| {
                    let (name, id) = generated(pick, version);
                    let topic = if version >= TOPIC_IDS_FROM {
                        TopicRef::Id(TopicId(id.to_bytes()))
                    } else {
                        TopicRef::Name(name)
                    };
                    let partitions =
                        partitions
                            .into_iter()
                            .map(|(ints, error, aborted, records, leader)| {
                                let aborted = aborted.map(|list| {
                                    list.into_iter()
                                        .map(|(producer_id, first_offset)| AbortedTransaction {
                                            producer_id,
                                            first_offset,
                                        })
                                        .collect()
                                });
                                FetchPartitionResponse {
                                    index: ints.0,
                                    error: ErrorCode::from_code(error).unwrap_or_default(),
                                    high_watermark: ints.1,
                                    last_stable_offset: ints.2,
                                    log_start_offset: if version >= 5 { ints.3 } else { -1 },
                                    aborted,
                                    preferred_read_replica: if version >= 11 { ints.4 } else { -1 },
                                    leader: leader
                                        .filter(|_| version >= LEADERS_FROM)
                                        .map(|(id, epoch)| CurrentLeader { id, epoch }),
                                    records,
                                }
                            });
                    FetchTopicResponse {
                        topic,
                        partitions: partitions.collect(),
                    }
                });
                (version, (head, topics.collect(), endpoints))
            },
        )
    })
}

fn generated_response((head, topics, endpoints): &Response) -> their::FetchResponse {
    let mut out = their::FetchResponse::default();
    out.throttle_time_ms = head.throttle_time_ms;
    out.error_code = head.error.code();
    out.session_id = head.session_id;
    for endpoint in endpoints {
        let mut one = their::NodeEndpoint::default();
        (one.node_id, one.host, one.port) = (endpoint.id, endpoint.host.clone(), endpoint.port);
        out.node_endpoints.push(one);
    }
    for topic in topics {
        let mut data = their::FetchableTopicResponse::default();
        match &topic.topic {
            TopicRef::Name(name) => data.topic = name.clone(),
            TopicRef::Id(id) => data.topic_id = Uuid::from_bytes(id.0),
        }
        for partition in &topic.partitions {
            let mut item = their::PartitionData::default();
            item.partition_index = partition.index;
            item.error_code = partition.error.code();
            item.high_watermark = partition.high_watermark;
            item.last_stable_offset = partition.last_stable_offset;
            item.log_start_offset = partition.log_start_offset;
            item.preferred_read_replica = partition.preferred_read_replica;
            if let Some(leader) = partition.leader {
                item.current_leader.leader_id = leader.id;
                item.current_leader.leader_epoch = leader.epoch;
            }
            item.aborted_transactions = partition.aborted.as_ref().map(|list| {
                list.iter()
                    .map(|aborted| {
                        let mut item = their::AbortedTransaction::default();
                        item.producer_id = aborted.producer_id;
                        item.first_offset = aborted.first_offset;
                        item
                    })
                    .collect()
            });
            item.records = Some(joined(&partition.records));
            data.partitions.push(item);
        }
        out.responses.push(data);
    }
    out
}

#[test]
fn an_unknown_isolation_level_is_refused() {
    let mut request = theirs::FetchRequest::default();
    request.isolation_level = 2;
    let frame = encode_request(1, None, 4, &request).unwrap();
    let (_, body) = parse_header(frame.slice(4..), known).unwrap();
    assert_eq!(
        FetchRequest::parse(body, 4),
        Err(WireError::Malformed {
            what: "isolation level",
            at: 16
        })
    );
}

#[test]
fn a_request_has_as_many_bytes_as_what_may_be_listed_takes() {
    let named = |bytes: usize, topics: usize| {
        let mut topic = theirs::FetchTopic::default();
        topic.topic = "x".repeat(bytes).into();
        topic.partitions = vec![theirs::FetchPartition::default()];
        let mut request = theirs::FetchRequest::default();
        request.topics = vec![topic; topics];
        let frame = encode_request(1, None, 12, &request).unwrap();
        let (_, body) = parse_header(frame.slice(4..), known).unwrap();
        FetchRequest::parse(body, 12)
    };
    let most = REQUEST_ENTRIES_MAX / 2;
    let longest = named(TOPIC_NAME_BYTES_MAX, most).unwrap();
    assert_eq!(longest.topics.len(), most);
    let refused = named(100 * TOPIC_NAME_BYTES_MAX, most / 50);
    assert!(matches!(refused, Err(WireError::TooLong { .. })));
}

#[test]
fn a_client_takes_null_records_and_the_newest_tags() {
    let mut item = their::PartitionData::default();
    item.records = None;
    item.diverging_epoch.epoch = 3;
    item.current_leader.leader_id = 3;
    item.snapshot_id.epoch = 3;
    item.error_code = 9999;
    let mut data = their::FetchableTopicResponse::default();
    data.partitions.push(item);
    let mut response = their::FetchResponse::default();
    response.responses.push(data);
    response.node_endpoints = vec![their::NodeEndpoint::default()];
    let frame = crate::wire::encode_response(1, 18, &response).unwrap();
    let (_, fetched) = decode_fetch(frame.slice(4..), 18).unwrap();
    let partition = &fetched.topics[0].partitions[0];
    assert!(partition.records.is_empty());
    assert_eq!(partition.error, ErrorCode::UnknownServerError);
}

#[test]
fn fetched_records_are_slices_of_the_frame() {
    let mut partition = FetchPartitionResponse::failed(0, ErrorCode::None);
    partition.records = vec![Piece::Memory(vec![1; 500].into())];
    let topic = TopicRef::Name("t".into());
    let topics = vec![FetchTopicResponse {
        topic,
        partitions: vec![partition],
    }];
    let frame = joined(&encode_response(1, 12, FetchHead::default(), topics, &[])).slice(4..);
    let (_, fetched) = decode_fetch(frame.clone(), 12).unwrap();
    let records = &fetched.topics[0].partitions[0].records;
    assert_eq!(records.len(), 500);
    assert!(frame.as_ptr_range().contains(&records.as_ptr()));
}

proptest! {
    #[test]
    fn requests_agree_with_the_generated_type((version, request) in any_request()) {
        let frame = encode_request(5, Some("c"), version, &request).unwrap();
        let (_, body) = parse_header(frame.slice(4..), known).unwrap();
        check_request(&FetchRequest::parse(body.clone(), version).unwrap(), &request, version);
        let resumed = (version >= 7 && request.session_epoch > 0).then_some(request.session_id);
        prop_assert_eq!(FetchRequest::resumed_session(&body, version), resumed);
        for len in 0..body.len() {
            prop_assert!(FetchRequest::parse(body.slice(..len), version).is_err());
        }
    }

    #[test]
    fn responses_agree_with_the_generated_type((version, response) in any_response()) {
        let generated = generated_response(&response);
        let (head, topics, endpoints) = response;
        let ours = joined(&encode_response(5, version, head, topics.clone(), &endpoints));
        prop_assert_eq!(&ours, &crate::wire::encode_response(5, version, &generated).unwrap());
        let frame = ours.slice(4..);
        let back = decode_response::<theirs::FetchRequest>(frame.clone(), version).unwrap();
        prop_assert_eq!(back, (5, generated));
        let (id, fetched) = decode_fetch(frame, version).unwrap();
        prop_assert_eq!((id, fetched.head), (5, head));
        for (ours, sent) in fetched.topics.iter().zip(&topics) {
            prop_assert_eq!(&ours.topic, &sent.topic);
            for (ours, sent) in ours.partitions.iter().zip(&sent.partitions) {
                prop_assert_eq!((ours.index, ours.error), (sent.index, sent.error));
                prop_assert_eq!(ours.high_watermark, sent.high_watermark);
                prop_assert_eq!(ours.last_stable_offset, sent.last_stable_offset);
                prop_assert_eq!(ours.log_start_offset, sent.log_start_offset);
                prop_assert_eq!(ours.preferred_read_replica, sent.preferred_read_replica);
                prop_assert_eq!(&ours.aborted, &sent.aborted);
                prop_assert_eq!(&ours.records, &joined(&sent.records));
            }
        }
    }

    #[test]
    fn damaged_bodies_never_panic(
        (version, request) in any_request(),
        at: prop::sample::Index,
        byte: u8,
        noise: Vec<u8>,
    ) {
        let _ = FetchRequest::parse(noise.clone().into(), version);
        let _ = decode_fetch(noise.into(), version);
        let mut frame = encode_request(5, None, version, &request).unwrap().to_vec();
        let at = at.index(frame.len());
        frame[at] = byte;
        if let Ok((header, body)) = parse_header(Bytes::from(frame).slice(4..), known) {
            let _ = FetchRequest::parse(body, header.version);
        }
    }
}
