//! Requests at the front of a shard, alone: what comes in, and the messages and replies that go out.

use std::sync::Arc;

use bytes::Bytes;
use kafka_wire as kw;
use kafka_wire_core::{StrBytes, Uuid};

use super::apis;
use super::front::Front;
use super::front::conns::ConnPurpose;
use super::front::conns::ReplyTo;
use super::front::order::Footprint;
use super::fx::Fx;
use super::io::{ConnId, Output};
use super::msg::{Answered, FetchPlanned, FetchedPart, Msg, Produced, Query, Reader, Watch};
use super::requests::Requests;
use super::testing::with_fx;
use super::trace::{FetchStamps, ProduceStamps, Trace};
use crate::base::{
    DirectoryId, ErrorCode, Mono, NodeId, Now, Offset, Refused, ShardId, StoreId, TopicId,
};
use crate::config::BrokerConfig;
use crate::controller::testing::{broker, partition};
use crate::controller::{BrokerAddress, Image, MetadataRecord};
use crate::record::{BatchBuilder, Codec};
use crate::store::Piece;
use crate::wire::client::{decode_response, encode_request};
use crate::wire::{RequestHeader, parse_header};

const CONN: ConnId = ConnId(1);
const PREFIX: usize = 4;
const PRODUCE_VERSION: i16 = 9;

/// The front of shard 0 of two. Topic `t` has partition 0 here, as log 1, and partition 1 on shard 1, as log 2; of
/// partition 2, which node 2 leads, shard 0 has a copy, as log 3. Partition 3 is led here, as log 4, and node 2 has a
/// copy.
struct Desk {
    front: Front,
    requests: Requests,
    now: Now,
    /// Messages, and to whom, since they were last looked at.
    sent: Vec<(u16, Msg)>,
    replies: Vec<Bytes>,
}

impl Desk {
    fn new() -> Self {
        let config = Arc::new(BrokerConfig::default());
        let stores = [0, 1].map(|n| DirectoryId::new(1, StoreId(n)));
        let mut image = Image::of_node(stores);
        let mut elsewhere = partition(1, 1, 2);
        if let MetadataRecord::Partition(record) = &mut elsewhere {
            record.directories = vec![stores[1]];
        }
        let topic = MetadataRecord::Topic {
            name: "t".to_owned(),
            id: TopicId([1; 16]),
        };
        let mut follows = partition(1, 2, 3);
        if let MetadataRecord::Partition(record) = &mut follows {
            record.replicas = vec![NodeId(2), NodeId(1)];
            record.directories = vec![DirectoryId([9; 16]), stores[0]];
            (record.isr, record.leader) = (record.replicas.clone(), NodeId(2));
        }
        let mut replicated = partition(1, 3, 4);
        if let MetadataRecord::Partition(record) = &mut replicated {
            record.replicas.push(NodeId(2));
            record.directories.push(DirectoryId([9; 16]));
            record.isr.push(NodeId(2));
        }
        for record in [topic, partition(1, 0, 1), elsewhere, follows, replicated] {
            image.replay(&record).unwrap();
        }
        let owners = vec![ShardId(0), ShardId(1)];
        let mut front = Front::new(Arc::clone(&config), owners, 2, 1, Arc::default());
        front.image = Arc::new(image);
        front
            .conns
            .open(CONN, ([127, 0, 0, 1], 1).into(), 0, ConnPurpose::Any);
        Self {
            front,
            requests: Requests::new(&config, None),
            now: Now {
                mono: Mono(1),
                wall_ms: 1_700_000_000_000,
            },
            sent: Vec::new(),
            replies: Vec::new(),
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut Requests, &mut Front, &mut Fx<'_>)) {
        let (requests, front) = (&mut self.requests, &mut self.front);
        let ((), out, local) = with_fx(self.now, |fx| act(requests, front, fx));
        self.sent.extend(local.into_iter().map(|msg| (0, msg)));
        for output in out {
            match output {
                Output::Mesh { to, msg } => self.sent.push((to.0, *msg)),
                Output::Reply { pieces, .. } => self.replies.push(joined(&pieces)),
                other => panic!("unexpected {other:?}"),
            }
        }
        self.requests.invariants(&self.front);
    }

    /// A request as its handler gets it.
    fn take<R: kw::KafkaRequest>(
        &mut self,
        version: i16,
        request: &R,
    ) -> (ReplyTo, RequestHeader, Bytes) {
        let frame = encode_request(7, Some("me"), version, request).unwrap();
        let (header, body) = parse_header(frame.slice(PREFIX..), apis::api).unwrap();
        let trace = Trace::new(header.key, frame.len(), self.now.mono);
        let conns = &mut self.front.conns;
        let to = conns.expect_reply(CONN, trace, b"me", Footprint::default());
        let to = to.unwrap();
        assert!(conns.may_begin(to));
        (to, header, body)
    }

    fn list_offsets(&mut self, partitions: &[i32]) {
        let mut topic = kw::list_offsets_request::ListOffsetsTopic::default();
        topic.name = StrBytes::from("t");
        for index in partitions {
            let mut one = kw::list_offsets_request::ListOffsetsPartition::default();
            (one.partition_index, one.timestamp) = (*index, -1);
            one.current_leader_epoch = -1;
            topic.partitions.push(one);
        }
        let mut request = kw::ListOffsetsRequest::default();
        request.topics = vec![topic];
        let (to, header, body) = self.take(7, &request);
        self.act(|all, front, fx| {
            all.query
                .list_offsets(front, to, &header, body, fx)
                .unwrap();
        });
    }

    fn fetch(&mut self, partitions: &[i32], bytes_min: i32, wait_ms: i32) {
        let mut topic = kw::fetch_request::FetchTopic::default();
        topic.topic = StrBytes::from("t");
        for index in partitions {
            let mut one = kw::fetch_request::FetchPartition::default();
            one.partition = *index;
            one.current_leader_epoch = -1;
            one.partition_max_bytes = 1000;
            topic.partitions.push(one);
        }
        let mut request = kw::FetchRequest::default();
        request.topics = vec![topic];
        (request.min_bytes, request.max_bytes) = (bytes_min, 1000);
        request.max_wait_ms = wait_ms;
        request.session_epoch = -1;
        let (to, header, body) = self.take(11, &request);
        self.act(|all, front, fx| all.fetch.begin(front, to, &header, body, fx).unwrap());
    }

    /// Produces a record to each of these partitions.
    fn produce(&mut self, partitions: &[i32], acks: i16, timeout_ms: i32) {
        self.produce_in(PRODUCE_VERSION, partitions, acks, timeout_ms);
    }

    fn produce_in(&mut self, version: i16, partitions: &[i32], acks: i16, timeout_ms: i32) {
        let mut batch = BatchBuilder::new(Codec::None, self.now.wall_ms);
        batch.push(self.now.wall_ms, None, Some(b"value"), &[]);
        let batch = batch.build();
        let mut topic = kw::produce_request::TopicProduceData::default();
        topic.name = StrBytes::from("t");
        for index in partitions {
            let mut one = kw::produce_request::PartitionProduceData::default();
            (one.index, one.records) = (*index, Some(batch.clone()));
            topic.partition_data.push(one);
        }
        let mut request = kw::ProduceRequest::default();
        (request.acks, request.timeout_ms) = (acks, timeout_ms);
        request.topic_data = vec![topic];
        let (to, header, body) = self.take(version, &request);
        self.act(|all, front, fx| {
            all.produce.begin(front, to, &header, body, fx).unwrap();
        });
    }

    /// What an owner says of a produce request.
    fn done(&mut self, id: u64, results: Vec<(u32, Result<Produced, Refused>)>) {
        let stamps = ProduceStamps::arrived(self.now.mono);
        self.act(|all, front, fx| all.produce.done(front, id, results, &stamps, fx));
    }

    /// It is this time.
    fn due(&mut self, now: Mono) {
        self.now.mono = now;
        self.act(|all, front, fx| all.due(front, fx));
    }

    /// The partitions of the reply to a produce request, and their errors.
    fn produced(&mut self) -> Vec<(i32, i16)> {
        let reply = self.replies.pop().expect("a reply").slice(PREFIX..);
        let (_, response) = decode_response::<kw::ProduceRequest>(reply, PRODUCE_VERSION).unwrap();
        let partitions = response.responses[0].partition_responses.iter();
        partitions.map(|it| (it.index, it.error_code)).collect()
    }

    /// Takes the passes that were asked for: of whom, its number, and whether it is to watch.
    fn passes(&mut self) -> Vec<(u16, u32, Watch)> {
        let passes = std::mem::take(&mut self.sent).into_iter();
        let passes = passes.map(|(to, msg)| match msg {
            Msg::Fetch { pass, .. } => (to, pass.round, pass.watch),
            other => panic!("unexpected {other:?}"),
        });
        passes.collect()
    }

    /// An owner has found so many bytes in the partition of this slot, of the first fetch that there was.
    fn found(&mut self, round: u32, slot: u32, bytes: usize, watching: Option<u16>) {
        let part = FetchedPart {
            slot,
            pieces: vec![Piece::Memory(vec![7; bytes].into())],
            bytes,
            counts: bytes as u64,
            first_bytes_max: bytes,
            ..FetchedPart::default()
        };
        let planned = FetchPlanned {
            round,
            parts: vec![part],
            watching: watching.map(ShardId),
            stamps: FetchStamps::default(),
        };
        self.act(|all, front, fx| all.fetch.done(front, 1, planned, fx));
    }
}

fn joined(pieces: &[Piece]) -> Bytes {
    let bytes = pieces.iter().map(|piece| match piece {
        Piece::Memory(bytes) => &bytes[..],
        Piece::File { .. } => panic!("no file here"),
    });
    bytes.collect::<Vec<_>>().concat().into()
}

fn answered(offset: i64) -> Result<Answered, ErrorCode> {
    Ok(Answered {
        offset,
        timestamp_ms: -1,
        leader_epoch: 0,
    })
}

#[test]
fn a_query_is_answered_when_every_owner_has() {
    let mut desk = Desk::new();
    desk.list_offsets(&[1, 7, 0]);
    let asked: Vec<_> = std::mem::take(&mut desk.sent)
        .into_iter()
        .map(|(to, msg)| match msg {
            Msg::Query { req, parts, .. } => (to, req.id, parts),
            other => panic!("unexpected {other:?}"),
        })
        .map(|(to, id, parts)| {
            (
                to,
                id,
                parts
                    .iter()
                    .map(|(slot, log, q)| (*slot, log.0, *q))
                    .collect(),
            )
        })
        .collect();
    let wanted: [(u16, u64, Vec<_>); 2] = [
        (0, 1, vec![(0, 1, Query::Latest(Reader::All))]),
        (1, 1, vec![(1, 2, Query::Latest(Reader::All))]),
    ];
    assert_eq!(asked, wanted);
    desk.act(|all, front, fx| all.query.done(front, 1, vec![(0, answered(5))], fx));
    assert!(desk.replies.is_empty(), "one is still asked");
    desk.act(|all, front, fx| all.query.done(front, 1, vec![(1, answered(6))], fx));
    let reply = desk.replies.pop().unwrap().slice(PREFIX..);
    let (_, response) = decode_response::<kw::ListOffsetsRequest>(reply, 7).unwrap();
    let told = response.topics[0].partitions.iter();
    let told: Vec<_> = told
        .map(|p| (p.partition_index, p.error_code, p.offset))
        .collect();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(told, [(0, 0, 5), (1, 0, 6), (7, unknown, -1)]);
    assert_eq!(desk.front.parked.len(), 0);
}

/// That a log is here does not say that it is led here.
#[test]
fn what_another_node_leads_is_not_asked_for_here_but_for_its_size() {
    let not_here = ErrorCode::NotLeaderOrFollower.code();
    let mut desk = Desk::new();
    desk.list_offsets(&[2]);
    let reply = desk.replies.pop().unwrap().slice(PREFIX..);
    let (_, response) = decode_response::<kw::ListOffsetsRequest>(reply, 7).unwrap();
    assert_eq!(response.topics[0].partitions[0].error_code, not_here);
    desk.fetch(&[2], 1, 500);
    let reply = desk.replies.pop().unwrap().slice(PREFIX..);
    let (_, response) = decode_response::<kw::FetchRequest>(reply, 11).unwrap();
    assert_eq!(response.responses[0].partitions[0].error_code, not_here);
    desk.produce(&[2], -1, 500);
    assert_eq!(desk.produced(), [(2, not_here)]);
    assert!(desk.sent.is_empty());
    let mut request = kw::DescribeLogDirsRequest::default();
    request.topics = None;
    let (to, header, body) = desk.take(4, &request);
    desk.act(|all, front, fx| {
        all.query
            .describe_log_dirs(front, to, &header, body, fx)
            .unwrap();
    });
    let sizes = desk.sent.iter().map(|(to, msg)| match msg {
        Msg::Query { parts, .. } => (*to, parts.iter().map(|it| it.1.0).collect()),
        other => panic!("unexpected {other:?}"),
    });
    let all: [(u16, Vec<u64>); 2] = [(0, vec![1, 3, 4]), (1, vec![2])];
    assert_eq!(sizes.collect::<Vec<_>>(), all);
}

/// Clients are told who leads, as far as their version has a place for it.
#[test]
fn who_leads_elsewhere_is_said_with_the_error() {
    let mut desk = Desk::new();
    let mut image = (*desk.front.image).clone();
    let mut other = broker(2, 1);
    other.addresses = vec![BrokerAddress {
        listener: desk.front.config.listeners.0[0].name.clone(),
        host: "other".to_owned(),
        port: 19_092,
        shards: Vec::new(),
    }];
    image.brokers.register(other).unwrap();
    desk.front.image = Arc::new(image);
    for version in [9, 10, 12] {
        desk.produce_in(version, &[2, 7, 2], -1, 500);
        let reply = desk.replies.pop().unwrap().slice(PREFIX..);
        let (_, response) = decode_response::<kw::ProduceRequest>(reply, version).unwrap();
        let leaders = response.responses[0].partition_responses.iter();
        let leaders =
            leaders.map(|it| (it.current_leader.leader_id, it.current_leader.leader_epoch));
        let endpoints = response.node_endpoints.iter();
        let endpoints = endpoints.map(|it| (it.node_id, it.host.as_str(), it.port));
        let (leaders, endpoints): (Vec<_>, Vec<_>) = (leaders.collect(), endpoints.collect());
        match version {
            9 => assert_eq!((leaders, endpoints), (vec![(-1, -1); 3], vec![])),
            _ => {
                assert_eq!(leaders, [(2, 0), (-1, -1), (2, 0)]);
                assert_eq!(endpoints, [(2, "other", 19_092)], "once");
            }
        }
    }
    let mut topic = kw::fetch_request::FetchTopic::default();
    topic.topic_id = Uuid::from_bytes([1; 16]);
    topic.partitions = vec![kw::fetch_request::FetchPartition::default()];
    topic.partitions[0].partition = 2;
    let mut request = kw::FetchRequest::default();
    request.topics = vec![topic];
    for (version, leader) in [(15, (-1, -1)), (16, (2, 0)), (18, (2, 0))] {
        let (to, header, body) = desk.take(version, &request);
        desk.act(|all, front, fx| all.fetch.begin(front, to, &header, body, fx).unwrap());
        let reply = desk.replies.pop().unwrap().slice(PREFIX..);
        let (_, response) = decode_response::<kw::FetchRequest>(reply, version).unwrap();
        let told = &response.responses[0].partitions[0].current_leader;
        assert_eq!((told.leader_id, told.leader_epoch), leader, "{version}");
        let endpoints = response.node_endpoints.iter();
        let endpoints: Vec<_> = endpoints.map(|it| (it.node_id, it.port)).collect();
        assert_eq!(endpoints.is_empty(), version < 16);
        assert!(endpoints.iter().all(|it| *it == (2, 19_092)));
    }
}

fn appended() -> Result<Produced, Refused> {
    Ok(Produced {
        base_offset: Offset(5),
        log_append_time_ms: -1,
        log_start: Offset(0),
    })
}

#[test]
fn other_replicas_are_waited_for_no_longer_than_the_producer_wants() {
    let late = ErrorCode::RequestTimedOut.code();
    let mut desk = Desk::new();
    desk.produce(&[3, 0], -1, 500);
    let until = desk.now.mono.plus_ms(500);
    assert_eq!(desk.front.parked.next_deadline(), Some(until));
    desk.due(Mono(until.0 - 1));
    desk.due(until);
    assert!(
        desk.replies.is_empty(),
        "the disk of this node is waited for"
    );
    assert_eq!(desk.front.parked.next_deadline(), None);
    // What comes too late changes nothing.
    desk.done(1, vec![(0, appended())]);
    assert!(desk.replies.is_empty());
    desk.done(1, vec![(1, appended())]);
    assert_eq!(desk.produced(), [(3, late), (0, 0)]);
    desk.done(1, vec![(0, appended())]);
    assert!(desk.replies.is_empty() && desk.front.parked.len() == 0);
    // One that is not willing to wait at all.
    for (id, timeout_ms) in [(2, 0), (3, -1), (4, i32::MIN)] {
        desk.produce(&[3], -1, timeout_ms);
        let now = desk.now.mono;
        desk.due(now);
        assert_eq!(desk.produced(), [(3, late)], "request {id}");
    }
    desk.produce(&[3], -1, 500);
    desk.done(5, vec![(0, appended())]);
    assert_eq!(desk.produced(), [(3, 0)], "in time");
    assert_eq!(desk.front.parked.next_deadline(), None);
}

#[test]
fn who_waits_for_no_other_replica_waits_for_as_long_as_it_takes() {
    let mut desk = Desk::new();
    for (id, acks, partitions) in [(1, 1, [3, 0]), (2, 0, [3, 0]), (3, -1, [0, 1])] {
        desk.produce(&partitions, acks, 500);
        assert_eq!(desk.front.parked.next_deadline(), None, "acks={acks}");
        desk.done(id, vec![(0, appended()), (1, appended())]);
    }
    desk.replies.clear();
    // At a stop nobody leads here what others have too, and that is what is told.
    desk.produce(&[3], -1, 500);
    desk.front.draining = true;
    let now = desk.now.mono;
    desk.due(now);
    assert!(desk.replies.is_empty());
    assert_eq!(desk.front.parked.next_deadline(), None);
    let elsewhere = ErrorCode::NotLeaderOrFollower;
    desk.done(4, vec![(0, Err(elsewhere.into()))]);
    assert_eq!(desk.produced(), [(3, elsewhere.code())]);
}

#[test]
fn owners_hear_of_a_closed_connection() {
    let mut desk = Desk::new();
    desk.list_offsets(&[0, 1]);
    desk.list_offsets(&[1]);
    let mut topic = kw::delete_records_request::DeleteRecordsTopic::default();
    topic.name = StrBytes::from("t");
    topic.partitions = vec![Default::default()];
    let mut request = kw::DeleteRecordsRequest::default();
    request.topics = vec![topic];
    let (to, header, body) = desk.take(2, &request);
    desk.act(|all, front, fx| {
        all.query
            .delete_records(front, to, &header, body, fx)
            .unwrap()
    });
    assert_eq!((desk.front.parked.len(), desk.sent.len()), (3, 4));
    desk.sent.clear();
    desk.act(|all, front, fx| all.conn_closed(front, CONN, fx));
    let told = desk.sent.iter().map(|(to, msg)| match msg {
        Msg::QueryCancel { shard, ids } => (*to, shard.0, ids.clone()),
        other => panic!("unexpected {other:?}"),
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [(0, 0, vec![1, 3]), (1, 0, vec![1, 2])]
    );
    assert_eq!(desk.front.parked.len(), 0);
    desk.act(|all, front, fx| all.query.done(front, 1, vec![(0, answered(5))], fx));
    assert!(desk.replies.is_empty(), "there is nobody to tell");
}

#[test]
fn a_fetch_waits_for_its_deadline_and_then_takes_what_there_is() {
    let mut desk = Desk::new();
    desk.fetch(&[0], 10, 500);
    assert_eq!(desk.passes(), [(0, 1, Watch::Until(10))]);
    desk.found(1, 0, 3, Some(0));
    assert!(desk.replies.is_empty() && desk.sent.is_empty());
    let deadline = desk.now.mono.plus_ms(500);
    assert_eq!(desk.front.parked.next_deadline(), Some(deadline));
    desk.now.mono = Mono(deadline.0 - 1);
    desk.act(|all, front, fx| all.due(front, fx));
    assert!(desk.sent.is_empty(), "not before its time");
    desk.now.mono = deadline;
    desk.act(|all, front, fx| all.due(front, fx));
    assert_eq!(desk.passes(), [(0, 2, Watch::No)]);
    assert_eq!(desk.front.parked.next_deadline(), None);
    desk.found(1, 0, 900, None);
    assert!(desk.replies.is_empty(), "of a pass that is over");
    desk.found(2, 0, 4, None);
    assert_eq!(desk.replies.len(), 1);
    assert!(matches!(desk.sent[..], [(0, Msg::FetchCancel { .. })]));
    assert_eq!(desk.front.parked.len(), 0);
}

#[test]
fn a_fetch_from_several_owners_waits_for_a_share_of_each() {
    let mut desk = Desk::new();
    desk.fetch(&[0, 1], 100, 500);
    let count = Watch::Count(100);
    assert_eq!(desk.passes(), [(0, 1, count), (1, 1, count)]);
    desk.found(1, 0, 11, Some(0));
    desk.found(1, 1, 0, Some(1));
    let shares = std::mem::take(&mut desk.sent).into_iter();
    let shares = shares.map(|(to, msg)| match msg {
        Msg::FetchWatch { bytes, .. } => (to, bytes),
        other => panic!("unexpected {other:?}"),
    });
    assert_eq!(shares.collect::<Vec<_>>(), [(0, 45), (1, 45)]);
    // One of them has its share: all are asked again, and now it is enough.
    desk.act(|all, front, fx| all.fetch.ready(front, 1, fx));
    assert_eq!(desk.passes(), [(0, 2, count), (1, 2, count)]);
    assert_eq!(desk.front.parked.next_deadline(), None);
    desk.found(2, 0, 60, None);
    desk.act(|all, front, fx| all.fetch.ready(front, 1, fx));
    desk.found(2, 1, 50, None);
    assert_eq!((desk.replies.len(), desk.front.parked.len()), (1, 0));
}

#[test]
fn a_fetch_is_forgotten_with_its_connection_whatever_it_waits_for() {
    for parked in [false, true] {
        let mut desk = Desk::new();
        desk.fetch(&[0, 1], 100, 500);
        if parked {
            desk.found(1, 0, 0, Some(0));
            desk.found(1, 1, 0, Some(1));
        }
        desk.sent.clear();
        desk.act(|all, front, fx| all.conn_closed(front, CONN, fx));
        let told = |(to, msg): &(u16, Msg)| matches!(msg, Msg::FetchCancel { .. }).then_some(*to);
        assert_eq!(
            desk.sent.iter().filter_map(told).collect::<Vec<_>>(),
            [0, 1]
        );
        assert_eq!(desk.front.parked.next_deadline(), None);
        // An owner that has just begun to watch hears of it again.
        desk.sent.clear();
        desk.found(1, 0, 0, Some(1));
        assert!(matches!(desk.sent[..], [(1, Msg::FetchCancel { .. })]));
    }
}
