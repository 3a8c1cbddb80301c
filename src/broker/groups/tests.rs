//! The group APIs over real frames: every version that is served can be read and
//! answered, and each rule that lives in the handlers has a case.

mod bounds;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::leave_group_request::MemberIdentity;
use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_wire::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_wire::sync_group_request::SyncGroupRequestAssignment;
use kafka_wire::*;
use kafka_wire_core::{StrBytes, Uuid};

use super::consumers::ImageTopics;
use super::plan::{Asks, GroupPlan, PlanCx, ResponseShape, Written};
use super::topic::{OFFSETS_TOPIC, of_ask, of_group};
use crate::base::{ErrorCode as E, Mono, Now, TopicId};
use crate::broker::apis::{self, Handler, api};
use crate::broker::front::Head;
use crate::controller::testing::partition;
use crate::controller::{Image, MetadataRecord};
use crate::coordinator::{GroupAnswer, GroupAsk, Host, HostEffect, Question};
use crate::group::GroupConfig;
use crate::wire::client::{decode_response, encode_request};
use crate::wire::{RequestHeader, parse_header};

const OFFSETS: u8 = 1;
const OFFSETS_PARTITIONS: i32 = 50;
const T: u8 = 7;
const T_ID: TopicId = TopicId([T; 16]);

/// A broker's part in the group APIs, between a request and its response.
struct Broker {
    host: Host,
    image: Arc<Image>,
    now: Now,
    next: u64,
    /// By question: request and place in it.
    asked: BTreeMap<u64, (u64, usize)>,
    waiting: BTreeMap<u64, Waiting>,
    replies: BTreeMap<u64, Bytes>,
    failed: Vec<u64>,
    append_error: Option<E>,
}

/// The response to a request that is answered in one turn.
fn response(shape: ResponseShape, head: Head, answers: Vec<GroupAnswer>) -> Bytes {
    let mut listed = match shape {
        ResponseShape::Whole(shape) => return shape.response(head, answers).unwrap(),
        ResponseShape::Listed(listed) => listed,
    };
    for answer in answers {
        match listed.write(answer).unwrap() {
            Written::Yes => {}
            Written::Instead(frame) => return frame,
            more => panic!("there is more: {more:?}"),
        }
    }
    listed.finish().unwrap().concat().into()
}

struct Waiting {
    head: Head,
    plan: GroupPlan,
    answers: Vec<Option<GroupAnswer>>,
}

fn image(topics: &[(&str, u8, i32)]) -> Arc<Image> {
    let mut image = Image::default();
    for (name, id, partitions) in topics {
        let topic = MetadataRecord::Topic {
            name: (*name).to_owned(),
            id: TopicId([*id; 16]),
        };
        image.replay(&topic).unwrap();
        for index in 0..*partitions {
            image
                .replay(&partition(*id, index, image.next_log))
                .unwrap();
        }
    }
    Arc::new(image)
}

impl Broker {
    fn new() -> Self {
        let mut host = Host::new(GroupConfig::default(), 1);
        let now = Now {
            mono: Mono(1),
            wall_ms: 1_000,
        };
        for partition in 0..OFFSETS_PARTITIONS {
            host.open(partition);
            host.loaded(now, partition, &mut Vec::new());
        }
        Self {
            host,
            image: image(&[(OFFSETS_TOPIC, OFFSETS, OFFSETS_PARTITIONS), ("t", T, 4)]),
            now,
            next: 0,
            asked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            replies: BTreeMap::new(),
            failed: Vec::new(),
            append_error: None,
        }
    }

    fn partition_of(&self, group: &str) -> i32 {
        of_group(&self.image, group).unwrap().0
    }

    /// The partition of a group, which is not loaded, cannot be read.
    fn fail(&mut self, group: &str) {
        let partition = self.partition_of(group);
        self.host = Host::new(GroupConfig::default(), 1);
        for other in 0..OFFSETS_PARTITIONS {
            self.host.open(other);
            if other == partition {
                self.host.fail(other);
            } else {
                self.host.loaded(self.now, other, &mut Vec::new());
            }
        }
    }

    fn perform(&mut self, effects: Vec<HostEffect>) {
        let mut effects = std::collections::VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                HostEffect::Answer(token, answer) => {
                    let (request, slot) = self.asked.remove(&token).expect("asked once");
                    self.answered(request, slot, answer);
                }
                HostEffect::TooLarge(_) | HostEffect::News(..) | HostEffect::CreateTopics(..) => {}
                HostEffect::Append {
                    partition, append, ..
                } => {
                    let result = self.append_error.map_or(Ok(()), Err);
                    let mut more = Vec::new();
                    self.host
                        .appended(self.now, partition, append, result, &mut more);
                    effects.extend(more);
                }
            }
        }
        self.host.invariants();
    }

    fn answered(&mut self, request: u64, slot: usize, answer: GroupAnswer) {
        let waiting = self.waiting.get_mut(&request).expect("a request");
        assert!(waiting.answers[slot].replace(answer).is_none());
        self.finish(request);
    }

    fn finish(&mut self, request: u64) {
        if self.waiting[&request].answers.iter().all(Option::is_some) {
            let waiting = self.waiting.remove(&request).unwrap();
            let answers = waiting.answers.into_iter().flatten().collect();
            let frame = response(waiting.plan.shape, waiting.head, answers);
            self.replies.insert(request, frame);
        }
    }

    fn ask(&mut self, request: u64, slot: usize, question: Question) {
        let token = request * 10_000 + slot as u64;
        self.asked.insert(token, (request, slot));
        let mut effects = Vec::new();
        let topics = ImageTopics(&self.image);
        self.host
            .ask(self.now, token, question, &topics, &mut effects);
        self.perform(effects);
    }

    fn send<R: KafkaRequest>(&mut self, version: i16, request: &R) -> u64 {
        let frame = encode_request(42, Some("client"), version, request).unwrap();
        self.send_frame(frame.slice(4..))
    }

    fn send_frame(&mut self, frame: Bytes) -> u64 {
        let (header, body) = parse_header(frame, apis::api).unwrap();
        let Some(Handler::Groups(planner) | Handler::GroupList(planner)) =
            apis::served(header.key).map(|s| s.handler)
        else {
            panic!("key {} is not the coordinators'", header.key);
        };
        self.next += 1;
        let request = self.next;
        let cx = PlanCx {
            now: self.now,
            image: &self.image,
            metadata_max: 4_096,
            client_host: "/127.0.0.1".into(),
        };
        let Ok(mut plan) = planner(&cx, &header, body) else {
            self.failed.push(request);
            return request;
        };
        let asks = std::mem::replace(&mut plan.asks, Asks::List);
        let questions: Vec<Result<Question, GroupAnswer>> = match asks {
            Asks::List => vec![Ok(Question::List(None))],
            Asks::Groups(asks) => {
                let question = |ask: GroupAsk| match of_ask(&self.image, &ask) {
                    Ok((partition, _)) => Ok(Question::To(partition, ask)),
                    Err(error) => Err(ask.refused(error)),
                };
                asks.into_iter().map(question).collect()
            }
        };
        let head = Head {
            correlation_id: header.correlation_id,
            version: header.version,
        };
        let answers = vec![None; questions.len()];
        let waiting = Waiting {
            head,
            plan,
            answers,
        };
        self.waiting.insert(request, waiting);
        if questions.is_empty() {
            self.finish(request);
        }
        for (slot, question) in questions.into_iter().enumerate() {
            match question {
                Ok(question) => self.ask(request, slot, question),
                Err(answer) => self.answered(request, slot, answer),
            }
        }
        request
    }

    fn reply<R: RequestResponsePair>(&mut self, token: u64, version: i16) -> R::Response {
        let frame = self.replies.remove(&token).expect("a reply");
        let (correlation_id, response) = decode_response::<R>(frame.slice(4..), version).unwrap();
        assert_eq!(correlation_id, 42);
        response
    }

    fn call<R: RequestResponsePair>(&mut self, version: i16, request: &R) -> R::Response {
        let token = self.send(version, request);
        self.reply::<R>(token, version)
    }

    fn advance(&mut self, ms: u64) {
        self.now.mono = self.now.mono.plus_ms(ms);
        self.now.wall_ms += ms as i64;
        let mut effects = Vec::new();
        let topics = ImageTopics(&self.image);
        self.host.tick(self.now, &topics, &mut effects);
        self.perform(effects);
    }

    /// Joins and syncs as the only member of `g`, in these versions. Member id and generation.
    fn member(&mut self, version: i16, sync_version: i16) -> (StrBytes, i32) {
        let mut join = join_of(version);
        let mut token = self.send(version, &join);
        if version >= 4 {
            let first = self.reply::<JoinGroupRequest>(token, version);
            assert_eq!(first.error_code, E::MemberIdRequired.code());
            join.member_id = first.member_id;
            token = self.send(version, &join);
        }
        self.advance(3_000);
        let joined = self.reply::<JoinGroupRequest>(token, version);
        assert_eq!(joined.error_code, 0);
        assert_eq!(joined.members.len(), 1);
        let mut sync = SyncGroupRequest::default();
        sync.group_id = "g".into();
        sync.member_id = joined.member_id.clone();
        sync.generation_id = joined.generation_id;
        sync.protocol_type = Some("consumer".into()).filter(|_| sync_version >= 5);
        sync.protocol_name = Some("range".into()).filter(|_| sync_version >= 5);
        let mut part = SyncGroupRequestAssignment::default();
        part.member_id = joined.member_id.clone();
        part.assignment = Bytes::from_static(b"part");
        sync.assignments.push(part);
        let synced = self.call(sync_version, &sync);
        assert_eq!(
            (synced.error_code, &synced.assignment[..]),
            (0, &b"part"[..])
        );
        (joined.member_id, joined.generation_id)
    }

    fn commit(&mut self, version: i16, change: impl FnOnce(&mut OffsetCommitRequest)) -> i16 {
        let mut request = commit_of(version, 2, 5);
        change(&mut request);
        let response = self.call(version, &request);
        response.topics[0].partitions[0].error_code
    }
}

fn join_of(version: i16) -> JoinGroupRequest {
    let mut join = JoinGroupRequest::default();
    join.group_id = "g".into();
    join.session_timeout_ms = 30_000;
    if version >= 1 {
        join.rebalance_timeout_ms = 60_000;
    }
    join.protocol_type = "consumer".into();
    let mut protocol = JoinGroupRequestProtocol::default();
    protocol.name = "range".into();
    protocol.metadata = Bytes::from_static(b"metadata");
    join.protocols.push(protocol);
    join
}

fn commit_of(version: i16, partition: i32, offset: i64) -> OffsetCommitRequest {
    let mut request = OffsetCommitRequest::default();
    request.group_id = "g".into();
    let mut topic = OffsetCommitRequestTopic::default();
    if version >= 10 {
        topic.topic_id = Uuid::from_bytes(T_ID.0);
    } else {
        topic.name = "t".into();
    }
    let mut one = OffsetCommitRequestPartition::default();
    one.partition_index = partition;
    one.committed_offset = offset;
    one.committed_metadata = Some("note".into());
    topic.partitions.push(one);
    request.topics.push(topic);
    request
}

fn versions(key: i16) -> std::ops::RangeInclusive<i16> {
    let api = api(key).unwrap();
    api.min..=api.max
}

#[test]
fn a_sync_without_a_group_is_of_an_invalid_group() {
    let mut b = Broker::new();
    for with_offsets_topic in [true, false] {
        if !with_offsets_topic {
            b.image = image(&[("t", T, 4)]);
        }
        for version in 0..=5 {
            let mut request = SyncGroupRequest::default();
            request.protocol_type = Some("consumer".into());
            request.protocol_name = Some("range".into());
            let reply = b.call(version, &request);
            assert_eq!(reply.error_code, E::InvalidGroupId.code(), "{version}");
        }
    }
}

#[test]
fn without_the_offsets_topic_nothing_is_served() {
    let mut b = Broker::new();
    b.image = image(&[("t", T, 4)]);
    let not_coordinator = E::NotCoordinator.code();
    assert_eq!(b.call(5, &join_of(5)).error_code, not_coordinator);
    assert_eq!(b.commit(8, |_| {}), not_coordinator);
    let mut fetch = OffsetFetchRequest::default();
    fetch.group_id = "g".into();
    let mut topic = OffsetFetchRequestTopic::default();
    topic.name = "t".into();
    topic.partition_indexes = vec![0];
    fetch.topics = Some(vec![topic]);
    assert_eq!(b.call(2, &fetch).error_code, not_coordinator);
    assert_eq!(
        b.call(1, &fetch).topics[0].partitions[0].error_code,
        not_coordinator
    );
}

#[test]
fn groups_of_a_partition_that_cannot_be_read_are_refused_and_others_are_served() {
    let mut b = Broker::new();
    b.fail("g");
    assert_eq!(b.commit(8, |commit| commit.group_id = "h".into()), 0);
    let refused = E::NotCoordinator.code();
    assert_eq!(b.call(5, &join_of(5)).error_code, refused);
    assert_eq!(b.commit(8, |_| {}), refused);
    assert_eq!(b.call(8, &fetch_of(8, None)).groups[0].error_code, refused);
    let mut describe = DescribeGroupsRequest::default();
    describe.groups = vec!["g".into(), "h".into()];
    let described = b.call(5, &describe).groups;
    assert_eq!(
        (described[0].error_code, described[1].error_code),
        (refused, 0)
    );
    let mut heartbeat = HeartbeatRequest::default();
    heartbeat.group_id = "g".into();
    assert_eq!(b.call(3, &heartbeat).error_code, refused);
    let mut delete = DeleteGroupsRequest::default();
    delete.groups_names = vec!["g".into()];
    assert_eq!(b.call(1, &delete).results[0].error_code, refused);
    let mut leave = LeaveGroupRequest::default();
    leave.group_id = "g".into();
    assert_eq!(b.call(1, &leave).error_code, refused);
    leave.group_id = StrBytes::default();
    let invalid = E::InvalidGroupId.code();
    assert_eq!(b.call(1, &leave).error_code, invalid);
    // What its partition holds is not written anew without it.
    let listed = b.call(3, &ListGroupsRequest::default()).groups;
    assert_eq!(listed.len(), 1);
    let (failed, other) = (b.partition_of("g"), b.partition_of("h"));
    assert!(!b.host.begin_snapshot(failed) && b.host.begin_snapshot(other));
}

#[test]
fn membership_in_all_versions() {
    for version in versions(11) {
        let mut b = Broker::new();
        let (member, generation) = b.member(version, version.min(5));
        let mut heartbeat = HeartbeatRequest::default();
        heartbeat.group_id = "g".into();
        heartbeat.member_id = member.clone();
        heartbeat.generation_id = generation;
        assert_eq!(b.call(version.min(4), &heartbeat).error_code, 0);
        heartbeat.generation_id += 1;
        assert_eq!(
            b.call(version.min(4), &heartbeat).error_code,
            E::IllegalGeneration.code()
        );
        let leave_version = version.min(5);
        let mut leave = LeaveGroupRequest::default();
        leave.group_id = "g".into();
        if leave_version < 3 {
            leave.member_id = member;
            assert_eq!(b.call(leave_version, &leave).error_code, 0);
            let again = b.call(leave_version, &leave);
            assert_eq!(again.error_code, E::UnknownMemberId.code());
        } else {
            let mut identity = MemberIdentity::default();
            identity.member_id = member;
            leave.members = vec![identity.clone(), identity];
            let left = b.call(leave_version, &leave);
            let codes: Vec<i16> = left.members.iter().map(|m| m.error_code).collect();
            assert_eq!(
                (left.error_code, codes),
                (0, vec![0, E::UnknownMemberId.code()])
            );
        }
        leave.group_id = "".into();
        assert_eq!(
            b.call(leave_version, &leave).error_code,
            E::InvalidGroupId.code()
        );
    }
}

#[test]
fn sync_from_version_5_names_the_protocol() {
    let mut b = Broker::new();
    let (member, generation) = b.member(9, 5);
    let mut sync = SyncGroupRequest::default();
    sync.group_id = "g".into();
    sync.member_id = member;
    sync.generation_id = generation;
    assert_eq!(b.call(4, &sync).error_code, 0);
    assert_eq!(
        b.call(5, &sync).error_code,
        E::InconsistentGroupProtocol.code()
    );
    sync.protocol_type = Some("consumer".into());
    sync.protocol_name = Some("sticky".into());
    assert_eq!(
        b.call(5, &sync).error_code,
        E::InconsistentGroupProtocol.code()
    );
}

#[test]
fn commit_and_fetch_in_all_versions() {
    for version in versions(8) {
        let mut b = Broker::new();
        assert_eq!(b.commit(version, |_| {}), 0);
        let unknown = if version >= 10 {
            E::UnknownTopicId
        } else {
            E::UnknownTopicOrPartition
        };
        let code = b.commit(version, |r| {
            r.topics[0].name = StrBytes::from(if version >= 10 { "" } else { "nope" });
            r.topics[0].topic_id = Uuid::default();
        });
        assert_eq!(code, unknown.code());
        let code = b.commit(version, |r| r.topics[0].partitions[0].partition_index = 4);
        assert_eq!(code, E::UnknownTopicOrPartition.code());
        let long = |r: &mut OffsetCommitRequest| {
            r.topics[0].partitions[0].committed_metadata = Some("x".repeat(4_097).into());
        };
        assert_eq!(b.commit(version, long), E::OffsetMetadataTooLarge.code());
        let code = b.commit(version, |r| {
            long(r);
            r.group_id = "nobody".into();
            r.generation_id_or_member_epoch = 1;
        });
        let missing = if version >= 9 {
            E::GroupIdNotFound
        } else {
            E::IllegalGeneration
        };
        assert_eq!(code, missing.code(), "the group goes before the metadata");
        b.append_error = Some(E::KafkaStorageError);
        assert_eq!(b.commit(version, |_| {}), E::NotCoordinator.code());
    }
    let mut b = Broker::new();
    assert_eq!(b.commit(10, |_| {}), 0);
    for version in versions(9) {
        let fetched = b.call(version, &fetch_of(version, Some(&[2, 3])));
        check_fetched(version, &fetched, &[(2, 5, "note"), (3, -1, "")]);
        if version >= 2 {
            let all = b.call(version, &fetch_of(version, None));
            check_fetched(version, &all, &[(2, 5, "note")]);
        }
    }
    let mut unknown = fetch_of(10, Some(&[0]));
    unknown.groups[0].topics.as_mut().unwrap()[0].topic_id = Uuid::default();
    let fetched = b.call(10, &unknown);
    let partition = &fetched.groups[0].topics[0].partitions[0];
    assert_eq!(
        (partition.error_code, partition.committed_offset),
        (E::UnknownTopicId.code(), -1)
    );
}

fn fetch_of(version: i16, partitions: Option<&[i32]>) -> OffsetFetchRequest {
    let mut request = OffsetFetchRequest::default();
    request.require_stable = version >= 7;
    if version < 8 {
        request.group_id = "g".into();
        request.topics = partitions.map(|partitions| {
            let mut topic = OffsetFetchRequestTopic::default();
            topic.name = "t".into();
            topic.partition_indexes = partitions.to_vec();
            vec![topic]
        });
        return request;
    }
    for id in ["g", "nobody"] {
        let mut group = OffsetFetchRequestGroup::default();
        group.group_id = id.into();
        group.topics = partitions.map(|partitions| {
            let mut topic = OffsetFetchRequestTopics::default();
            if version >= 10 {
                topic.topic_id = Uuid::from_bytes(T_ID.0);
            } else {
                topic.name = "t".into();
            }
            topic.partition_indexes = partitions.to_vec();
            vec![topic]
        });
        request.groups.push(group);
    }
    request
}

fn check_fetched(version: i16, response: &OffsetFetchResponse, expected: &[(i32, i64, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(p, o, m)| (*p, *o, Some((*m).into()), 0))
        .collect();
    let got: Vec<(i32, i64, Option<StrBytes>, i16)> = if version < 8 {
        let partitions = response.topics[0].partitions.iter();
        partitions
            .map(|p| {
                (
                    p.partition_index,
                    p.committed_offset,
                    p.metadata.clone(),
                    p.error_code,
                )
            })
            .collect()
    } else {
        let nobody = response.groups[1].topics.iter().flat_map(|t| &t.partitions);
        assert!(
            nobody
                .into_iter()
                .all(|p| p.committed_offset == -1 && p.error_code == 0)
        );
        let topic = &response.groups[0].topics[0];
        match version >= 10 {
            true => assert_eq!(topic.topic_id.to_bytes(), T_ID.0),
            false => assert_eq!(topic.name.as_str(), "t"),
        }
        let partitions = topic.partitions.iter();
        partitions
            .map(|p| {
                (
                    p.partition_index,
                    p.committed_offset,
                    p.metadata.clone(),
                    p.error_code,
                )
            })
            .collect()
    };
    assert_eq!(got, expected, "version {version}");
}

#[test]
fn what_a_member_sent_is_not_kept_in_the_memory_of_its_request() {
    let b = Broker::new();
    let metadata = Bytes::from(vec![7; 5000]);
    let mut request = join_of(3);
    request.protocols[0].metadata = metadata.clone();
    let frame = encode_request(42, Some("client"), 3, &request).unwrap();
    let request: Bytes = frame.slice(4..);
    let (header, body) = parse_header(request.clone(), apis::api).unwrap();
    let cx = PlanCx {
        now: b.now,
        image: &b.image,
        metadata_max: 0,
        client_host: String::new(),
    };
    let plan = super::join_group(&cx, &header, body).unwrap();
    let Asks::Groups(asks) = plan.asks else {
        panic!("of a group");
    };
    let [GroupAsk::Join(join)] = &asks[..] else {
        panic!("{asks:?}");
    };
    let kept = &join.protocols[0].metadata;
    assert_eq!(kept, &metadata);
    assert!(!request.as_ptr_range().contains(&kept.as_ptr()));
}

#[test]
fn describe_and_list_in_all_versions() {
    let mut b = Broker::new();
    b.member(5, 3);
    for version in versions(15) {
        let mut request = DescribeGroupsRequest::default();
        request.groups = vec!["g".into(), "nobody".into()];
        request.include_authorized_operations = version >= 3;
        let described = b.call(version, &request);
        let group = &described.groups[0];
        assert_eq!(
            (group.group_state.as_str(), group.protocol_data.as_str()),
            ("Stable", "range")
        );
        let member = &group.members[0];
        assert_eq!(
            (member.client_id.as_str(), member.client_host.as_str()),
            ("client", "/127.0.0.1")
        );
        assert_eq!(
            (&member.member_metadata[..], &member.member_assignment[..]),
            (&b"metadata"[..], &b"part"[..])
        );
        let operations = if version >= 3 { 3400 } else { i32::MIN };
        assert_eq!(group.authorized_operations, operations);
        let nobody = &described.groups[1];
        let code = if version >= 6 {
            E::GroupIdNotFound.code()
        } else {
            0
        };
        assert_eq!(
            (nobody.error_code, nobody.group_state.as_str()),
            (code, "Dead")
        );
    }
    b.commit(8, |r| r.group_id = "simple".into());
    for version in versions(16) {
        let listed = b.call(version, &ListGroupsRequest::default());
        let names: Vec<&str> = listed.groups.iter().map(|g| g.group_id.as_str()).collect();
        assert_eq!(names, ["g", "simple"]);
        if version >= 4 {
            let mut request = ListGroupsRequest::default();
            request.states_filter = vec!["stable".into()];
            let listed = b.call(version, &request);
            assert_eq!(listed.groups.len(), 1);
            assert_eq!(listed.groups[0].group_state.as_str(), "Stable");
        }
        if version >= 5 {
            let mut request = ListGroupsRequest::default();
            request.types_filter = vec!["Consumer".into()];
            assert_eq!(b.call(version, &request).groups.len(), 0);
            request.types_filter.push("Classic".into());
            assert_eq!(
                b.call(version, &request).groups[0].group_type.as_str(),
                "classic"
            );
        }
    }
}

#[test]
fn delete_groups_in_all_versions() {
    for version in versions(42) {
        let mut b = Broker::new();
        b.member(5, 3);
        b.commit(8, |r| r.group_id = "simple".into());
        let mut request = DeleteGroupsRequest::default();
        request.groups_names = vec![
            "simple".into(),
            "g".into(),
            "nobody".into(),
            "simple".into(),
        ];
        let deleted = b.call(version, &request);
        let codes: Vec<(&str, i16)> = deleted
            .results
            .iter()
            .map(|r| (r.group_id.as_str(), r.error_code))
            .collect();
        let expected = [
            ("simple", 0),
            ("g", E::NonEmptyGroup.code()),
            ("nobody", E::GroupIdNotFound.code()),
        ];
        assert_eq!(codes, expected);
        assert!(b.waiting.is_empty() && b.asked.is_empty());
        request.groups_names.clear();
        assert!(b.call(version, &request).results.is_empty());
    }
}

#[test]
fn offset_delete() {
    let mut b = Broker::new();
    let mut request = OffsetDeleteRequest::default();
    request.group_id = "g".into();
    let mut topic = OffsetDeleteRequestTopic::default();
    topic.name = "t".into();
    for partition in [2, 9] {
        let mut one = OffsetDeleteRequestPartition::default();
        one.partition_index = partition;
        topic.partitions.push(one);
    }
    request.topics.push(topic);
    assert_eq!(b.call(0, &request).error_code, E::GroupIdNotFound.code());
    b.commit(8, |_| {});
    let deleted = b.call(0, &request);
    let codes: Vec<i16> = deleted.topics[0]
        .partitions
        .iter()
        .map(|p| p.error_code)
        .collect();
    assert_eq!(
        (deleted.error_code, codes),
        (0, vec![0, E::UnknownTopicOrPartition.code()])
    );
    let all = b.call(8, &fetch_of(8, None));
    assert!(all.groups[0].topics.is_empty());
}

#[test]
fn garbage_fails_and_a_stop_answers_everybody() {
    let mut b = Broker::new();
    let cx = PlanCx {
        now: b.now,
        image: &b.image,
        metadata_max: 0,
        client_host: String::new(),
    };
    for key in [8, 9].into_iter().chain(11..=16).chain([42, 47]) {
        let header = RequestHeader {
            key,
            version: api(key).unwrap().max,
            correlation_id: 1,
            client_id: None,
        };
        let Some(Handler::Groups(planner) | Handler::GroupList(planner)) =
            apis::served(key).map(|s| s.handler)
        else {
            panic!("key {key} is not the coordinators'");
        };
        let garbage = Bytes::from_static(&[0xff; 7]);
        assert!(planner(&cx, &header, garbage).is_err(), "key {key}");
    }
    let waiting = b.send(3, &join_of(3));
    assert!(b.replies.is_empty());
    let mut effects = Vec::new();
    b.host.stop(b.now, &mut effects);
    b.perform(effects);
    let reply = b.reply::<JoinGroupRequest>(waiting, 3);
    assert_eq!(reply.error_code, E::NotCoordinator.code());
    assert_eq!(
        b.call(3, &join_of(3)).error_code,
        E::CoordinatorNotAvailable.code()
    );
    assert_eq!(
        b.call(0, &ListGroupsRequest::default()).error_code,
        E::CoordinatorNotAvailable.code()
    );
}
