//! The service over real frames: every version that is served can be read and
//! answered, and each rule that lives in the handlers has a case.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_wire::find_coordinator_response::Coordinator;
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

use super::*;
use crate::base::{ErrorCode as E, Mono, Now, TopicId};
use crate::broker::apis::{self, Handler, api};
use crate::group::{GroupConfig, partition_for};
use crate::wire::client::{decode_response, encode_request};
use crate::wire::{RequestHeader, parse_header};

struct Topics(Vec<(&'static str, TopicId, i32)>);

impl TopicLookup for Topics {
    fn by_name(&self, name: &str) -> Option<TopicInfo<'_>> {
        let found = self.0.iter().find(|t| t.0 == name);
        found.map(|&(name, id, partitions)| TopicInfo {
            name,
            id,
            partitions,
        })
    }

    fn by_id(&self, id: TopicId) -> Option<TopicInfo<'_>> {
        let found = self.0.iter().find(|t| t.1 == id);
        found.map(|&(name, id, partitions)| TopicInfo {
            name,
            id,
            partitions,
        })
    }
}

const T_ID: TopicId = TopicId([7; 16]);

struct Broker {
    service: GroupService,
    topics: Topics,
    now: Now,
    next: u64,
    replies: BTreeMap<u64, Bytes>,
    failed: Vec<u64>,
    append_error: Option<E>,
}

impl Broker {
    fn new() -> Self {
        let node = NodeInfo {
            id: 3,
            endpoints: vec![("inside".into(), 9092), ("outside".into(), 19092)],
        };
        let mut service = GroupService::new(GroupConfig::default(), node, 1);
        let now = Now {
            mono: Mono(1),
            wall_ms: 1_000,
        };
        service.loaded(now, &mut Vec::new());
        Self {
            service,
            topics: Topics(vec![(OFFSETS_TOPIC, TopicId([1; 16]), 50), ("t", T_ID, 4)]),
            now,
            next: 0,
            replies: BTreeMap::new(),
            failed: Vec::new(),
            append_error: None,
        }
    }

    fn perform(&mut self, effects: Vec<GroupEffect>) {
        let mut effects = std::collections::VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                GroupEffect::Reply { token, frame } => {
                    assert!(self.replies.insert(token, frame).is_none());
                }
                GroupEffect::Fail { token, .. } => self.failed.push(token),
                GroupEffect::Append { append, .. } => {
                    let result = self.append_error.map_or(Ok(()), Err);
                    let mut more = Vec::new();
                    self.service.appended(self.now, append, result, &mut more);
                    effects.extend(more);
                }
            }
        }
        self.service.invariants();
    }

    fn send<R: KafkaRequest>(&mut self, version: i16, request: &R) -> u64 {
        let frame = encode_request(42, Some("client"), version, request).unwrap();
        self.send_frame(frame.slice(4..))
    }

    fn send_frame(&mut self, frame: Bytes) -> u64 {
        let (header, body) = parse_header(frame, apis::api).unwrap();
        let Some(Handler::Groups(handler)) = apis::served(header.key).map(|s| s.handler) else {
            panic!("key {} is not the coordinator's", header.key);
        };
        self.next += 1;
        let call = Call {
            token: self.next,
            header,
            body,
            client_host: "/127.0.0.1".into(),
            listener: 1,
        };
        let mut effects = Vec::new();
        self.service
            .request(self.now, handler, call, &self.topics, &mut effects);
        self.perform(effects);
        self.next
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
        self.service.tick(self.now, &mut effects);
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
fn find_coordinator_in_all_versions() {
    let mut b = Broker::new();
    for version in versions(10) {
        let mut request = FindCoordinatorRequest::default();
        if version >= 4 {
            request.coordinator_keys = vec!["g".into(), "h".into()];
        } else {
            request.key = "g".into();
        }
        let found = b.call(version, &request);
        if version >= 4 {
            assert_eq!(found.coordinators.len(), 2);
            let Coordinator {
                key,
                node_id,
                host,
                port,
                error_code,
                ..
            } = &found.coordinators[1];
            assert_eq!(
                (key.as_str(), *node_id, host.as_str(), *port, *error_code),
                ("h", 3, "outside", 19092, 0)
            );
        } else {
            assert_eq!(
                (
                    found.node_id,
                    found.host.as_str(),
                    found.port,
                    found.error_code
                ),
                (3, "outside", 19092, 0)
            );
        }
        let unknown = E::InvalidRequest;
        let no_transactions = E::TransactionalIdAuthorizationFailed;
        let refused = [(1, no_transactions), (2, unknown), (9, unknown)];
        for (key_type, want) in refused.into_iter().filter(|_| version >= 1) {
            request.key_type = key_type;
            let refused = b.call(version, &request);
            let code = refused
                .coordinators
                .first()
                .map_or(refused.error_code, |c| c.error_code);
            assert_eq!(code, want.code());
        }
    }
}

#[test]
fn a_sync_without_a_group_is_of_an_invalid_group() {
    let mut b = Broker::new();
    for version in 0..=5 {
        let mut request = SyncGroupRequest::default();
        request.protocol_type = Some("consumer".into());
        request.protocol_name = Some("range".into());
        let reply = b.call(version, &request);
        assert_eq!(reply.error_code, E::InvalidGroupId.code(), "{version}");
    }
}

#[test]
fn without_the_offsets_topic_nothing_is_served() {
    let mut b = Broker::new();
    b.topics.0.remove(0);
    let mut find = FindCoordinatorRequest::default();
    find.key = "g".into();
    assert_eq!(
        b.call(1, &find).error_code,
        E::CoordinatorNotAvailable.code()
    );
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
    b.member(4, 3);
    assert_eq!(b.commit(8, |commit| commit.group_id = "h".into()), 0);
    b.service.fail(partition_for("g", 50));
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
    // It is found, as in Kafka; and what its partition holds is not written anew without it.
    let mut find = FindCoordinatorRequest::default();
    find.key = "g".into();
    assert_eq!(b.call(1, &find).error_code, 0);
    let listed = b.call(3, &ListGroupsRequest::default()).groups;
    assert_eq!(listed.len(), 1);
    assert!(b.service.snapshot(partition_for("g", 50)).is_none());
    assert!(b.service.snapshot(partition_for("h", 50)).is_some());
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
fn commits_and_fetches_of_too_many_partitions_close_the_connection() {
    let mut b = Broker::new();
    let many: Vec<i32> = (0..20_000).collect();
    let mut commit = commit_of(5, 0, 1);
    let one = commit.topics[0].partitions[0].clone();
    commit.topics[0].partitions = vec![one; many.len()];
    let frames = [
        encode_request(42, Some("client"), 5, &commit).unwrap(),
        encode_request(42, Some("client"), 5, &fetch_of(5, Some(&many))).unwrap(),
        encode_request(42, Some("client"), 8, &fetch_of(8, Some(&many[..10_000]))).unwrap(),
    ];
    for frame in frames {
        let token = b.send_frame(frame.slice(4..));
        assert!(b.failed.contains(&token), "{token}");
    }
    b.call(5, &fetch_of(5, Some(&many[1..])));
}

#[test]
fn a_group_named_many_times_is_answered_once() {
    let mut b = Broker::new();
    b.member(5, 3);
    let mut request = DescribeGroupsRequest::default();
    request.groups = vec!["g".into(); 1000];
    assert_eq!(b.call(5, &request).groups.len(), 1);
    let mut request = fetch_of(8, None);
    request.groups = vec![request.groups[0].clone(); 1000];
    assert_eq!(b.call(8, &request).groups.len(), 1);
}

#[test]
fn what_a_member_sent_is_not_kept_in_the_memory_of_its_request() {
    let mut b = Broker::new();
    let metadata = Bytes::from(vec![7; 5000]);
    let mut request = join_of(3);
    request.protocols[0].metadata = metadata.clone();
    let frame = encode_request(42, Some("client"), 3, &request).unwrap();
    let request: Bytes = frame.slice(4..);
    b.send_frame(request.clone());
    let members = b.service.coordinator.group("g").unwrap().members();
    let kept = &members.last().unwrap().1.protocols[0].metadata;
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
            ("g", E::NonEmptyGroup.code()),
            ("nobody", E::GroupIdNotFound.code()),
            ("simple", 0),
        ];
        assert_eq!(codes, expected);
        assert!(b.service.deletes.is_empty() && b.service.waits.is_empty());
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
    assert!(b.service.coordinator().offsets("g").unwrap().is_empty());
}

#[test]
fn garbage_fails_and_a_stop_answers_everybody() {
    let mut b = Broker::new();
    for key in (8..=16).chain([42, 47]) {
        let header = RequestHeader {
            key,
            version: api(key).unwrap().max,
            correlation_id: 1,
            client_id: None,
        };
        let call = Call {
            token: 1_000,
            header,
            body: Bytes::from_static(&[0xff; 7]),
            client_host: String::new(),
            listener: 0,
        };
        let mut effects = Vec::new();
        let Some(Handler::Groups(handler)) = apis::served(key).map(|s| s.handler) else {
            panic!("key {key} is not the coordinator's");
        };
        b.service
            .request(b.now, handler, call, &b.topics, &mut effects);
        assert!(
            matches!(effects[..], [GroupEffect::Fail { token: 1_000, .. }]),
            "key {key}"
        );
    }
    let waiting = b.send(3, &join_of(3));
    assert!(b.replies.is_empty());
    let mut effects = Vec::new();
    b.service.stop(b.now, &mut effects);
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
