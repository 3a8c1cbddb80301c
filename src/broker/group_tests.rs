//! Groups of a node of two shards: each on the shard that has its partition of `__consumer_offsets`.

use std::collections::BTreeSet;

use bytes::Bytes;
use kafka_wire as kw;
use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_wire::{KafkaRequest, RequestResponsePair};
use kafka_wire_core::StrBytes;

use super::io::Input;
use super::msg::Msg;
use super::testing::{Bench, create_topic};
use crate::base::StoreId;
use crate::base::limits::{
    GROUP_ASKED_COST, LOGS_CHANGED_PER_SLICE, LONG_QUERIES_MAX, OFFSETS_TOLD_PER_SLICE,
};
use crate::config::BrokerConfig;
use crate::coordinator::GroupAnswer;
use crate::wire::client::{decode_response, encode_request};

/// Their hashes are 97 and 98: with two partitions they are of partition 1 and of partition 0.
const GROUPS: [&str; 2] = ["a", "b"];

fn frame<R: KafkaRequest>(version: i16, request: &R) -> Bytes {
    encode_request(1, Some("test"), version, request).unwrap()
}

fn answer<R: RequestResponsePair>(reply: &Bytes, version: i16) -> R::Response {
    decode_response::<R>(reply.slice(4..), version).unwrap().1
}

/// Connection `n` is with shard `n % 2`; topic `t` has one partition.
fn bench() -> Bench {
    bench_of(BrokerConfig::default())
}

fn bench_of(config: BrokerConfig) -> Bench {
    let config = BrokerConfig {
        offsets_topic_num_partitions: 2,
        ..config
    };
    let mut bench = Bench::new(2, config);
    for conn in 0..4 {
        bench.open(conn);
    }
    bench.create_topic(0, "t", 1);
    let mut request = kw::FindCoordinatorRequest::default();
    request.key = "a".into();
    let reply = bench.ask(1, &frame(1, &request)).expect("an answer");
    let found = answer::<kw::FindCoordinatorRequest>(&reply, 1);
    assert_eq!(found.error_code, 0, "the topic was made");
    bench
}

fn commit_of(group: &str, offset: i64) -> Bytes {
    let mut partition = OffsetCommitRequestPartition::default();
    partition.committed_offset = offset;
    let mut topic = OffsetCommitRequestTopic::default();
    topic.name = "t".into();
    topic.partitions = vec![partition];
    let mut request = kw::OffsetCommitRequest::default();
    request.group_id = group.into();
    request.topics = vec![topic];
    frame(8, &request)
}

fn commit(bench: &mut Bench, conn: u64, group: &str, offset: i64) -> i16 {
    let reply = bench
        .ask(conn, &commit_of(group, offset))
        .expect("an answer");
    let response = answer::<kw::OffsetCommitRequest>(&reply, 8);
    response.topics[0].partitions[0].error_code
}

fn fetch_of(groups: &[&str]) -> Bytes {
    let mut request = kw::OffsetFetchRequest::default();
    let all = groups.iter().map(|group| {
        let mut one = OffsetFetchRequestGroup::default();
        one.group_id = StrBytes::from(*group);
        one.topics = None;
        one
    });
    request.groups = all.collect();
    frame(8, &request)
}

/// What groups have committed, in the order of the answer.
fn committed(bench: &mut Bench, conn: u64, groups: &[&str]) -> Vec<(String, Vec<i64>)> {
    let reply = bench.ask(conn, &fetch_of(groups)).expect("an answer");
    let response = answer::<kw::OffsetFetchRequest>(&reply, 8);
    let shown = response.groups.iter().map(|group| {
        assert_eq!(group.error_code, 0);
        let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
        let offsets = partitions.map(|partition| partition.committed_offset);
        (group.group_id.to_string(), offsets.collect())
    });
    shown.collect()
}

fn delete_topic(name: &str) -> Bytes {
    let mut request = kw::DeleteTopicsRequest::default();
    request.topic_names = vec![StrBytes::from(name)];
    request.timeout_ms = 30_000;
    frame(5, &request)
}

/// Lets things happen one after the other until they have come so far.
fn until(bench: &mut Bench, come: impl Fn(&Bench) -> bool) {
    until_of(bench, &[0, 1], come);
}

/// The same, while only these shards have idle moments.
fn until_of(bench: &mut Bench, shards: &[usize], come: impl Fn(&Bench) -> bool) {
    for _ in 0..1000 {
        if come(bench) {
            return;
        }
        bench.deliver();
        for shard in shards {
            bench.idle(*shard);
        }
    }
    panic!("it does not come so far");
}

#[test]
fn each_group_is_on_the_shard_of_its_partition_and_every_shard_serves_it() {
    let mut bench = bench();
    for partition in 0..2u16 {
        let store = bench.shards[0].store_of("__consumer_offsets", partition.into());
        assert_eq!(store, Some(StoreId(partition)));
    }
    let appended = |bench: &Bench, shard: usize| bench.shards[shard].appended();
    for (group, shard) in GROUPS.into_iter().zip([1, 0]) {
        for conn in 0..2 {
            let before = [0, 1].map(|shard| appended(&bench, shard));
            assert_eq!(commit(&mut bench, conn, group, conn as i64), 0);
            let mut want = before;
            want[shard] += 1;
            assert_eq!([0, 1].map(|shard| appended(&bench, shard)), want, "{group}");
        }
    }
    for conn in 0..2 {
        let both = committed(&mut bench, conn, &GROUPS);
        assert_eq!(both, [("a".to_owned(), vec![1]), ("b".to_owned(), vec![1])]);
        let list = frame(4, &kw::ListGroupsRequest::default());
        let reply = bench.ask(conn, &list).expect("an answer");
        let listed = answer::<kw::ListGroupsRequest>(&reply, 4).groups;
        let mut ids: Vec<&str> = listed.iter().map(|group| group.group_id.as_str()).collect();
        ids.sort_unstable();
        assert_eq!(ids, GROUPS);
        let mut request = kw::DescribeGroupsRequest::default();
        request.groups = ["b", "nobody", "a"].map(StrBytes::from).to_vec();
        let reply = bench.ask(conn, &frame(5, &request)).expect("an answer");
        let described = answer::<kw::DescribeGroupsRequest>(&reply, 5).groups;
        let states: Vec<_> = described
            .iter()
            .map(|group| (group.group_id.as_str(), group.group_state.as_str()))
            .collect();
        assert_eq!(states, [("b", "Empty"), ("nobody", "Dead"), ("a", "Empty")]);
    }
    let mut request = kw::DeleteGroupsRequest::default();
    request.groups_names = ["b", "nobody", "a"].map(StrBytes::from).to_vec();
    let reply = bench.ask(1, &frame(1, &request)).expect("an answer");
    let results = answer::<kw::DeleteGroupsRequest>(&reply, 1).results;
    let codes: Vec<_> = results
        .iter()
        .map(|result| (result.group_id.as_str(), result.error_code))
        .collect();
    assert_eq!(codes, [("b", 0), ("nobody", 69), ("a", 0)]);
    let none = committed(&mut bench, 0, &GROUPS);
    assert!(none.iter().all(|(_, offsets)| offsets.is_empty()));
    bench
        .shards
        .iter()
        .for_each(super::shard::Shard::invariants);
}

#[test]
fn who_is_told_that_a_topic_is_deleted_finds_no_offsets_of_it() {
    let mut bench = bench();
    for group in GROUPS {
        assert_eq!(commit(&mut bench, 0, group, 7), 0);
    }
    bench.ask(0, &delete_topic("t"));
    let none = committed(&mut bench, 1, &GROUPS);
    assert!(none.iter().all(|(_, offsets)| offsets.is_empty()));
}

#[test]
fn a_commit_that_overtook_the_deletion_is_not_of_the_next_topic() {
    let mut bench = bench();
    bench.send(0, &delete_topic("t"));
    // Shard 0, which has the group, serves by the new image; shard 1 does not know of it yet.
    until(&mut bench, |bench| {
        bench.shards[0].store_of("t", 0).is_none()
    });
    assert!(bench.shards[1].store_of("t", 0).is_some());
    bench.send(1, &commit_of("b", 7));
    bench.settle();
    let reply = bench.last_reply(1).expect("an answer");
    let response = answer::<kw::OffsetCommitRequest>(&reply, 8);
    assert_eq!(
        response.topics[0].partitions[0].error_code, 0,
        "it was before"
    );
    bench.create_topic(0, "t", 1);
    let found = committed(&mut bench, 1, &["b"]);
    assert_eq!(found, [("b".to_owned(), vec![])]);
}

#[test]
fn a_commit_for_a_topic_of_an_image_that_its_shard_is_still_to_serve_by_stays() {
    let mut bench = bench();
    // Shard 1 is to make many logs first, and does not get round to it.
    bench.send(0, &create_topic("many", 4 * LOGS_CHANGED_PER_SLICE as i32));
    until_of(&mut bench, &[0], |bench| {
        bench.shards[0].store_of("many", 0).is_some()
    });
    bench.send(2, &delete_topic("t"));
    until_of(&mut bench, &[0], |bench| {
        bench.shards[0].store_of("t", 0).is_none()
    });
    bench.open(4);
    bench.send(4, &create_topic("t", 1));
    until_of(&mut bench, &[0], |bench| {
        bench.shards[0].store_of("t", 0).is_some()
    });
    assert!(bench.shards[1].store_of("many", 0).is_none());
    bench.open(6);
    assert_eq!(commit(&mut bench, 6, "a", 7), 0);
    let found = committed(&mut bench, 6, &["a"]);
    assert_eq!(found, [("a".to_owned(), vec![7])]);
}

#[test]
fn offsets_of_a_topic_that_goes_while_their_store_is_full_are_not_those_of_the_next_one() {
    let mut bench = bench_of(BrokerConfig {
        millrace_store_journal_bytes: 4 << 20,
        millrace_store_initial_bytes: 16 << 20,
        millrace_store_bytes_max: 24 << 20,
        ..BrokerConfig::default()
    });
    assert_eq!(commit(&mut bench, 0, "a", 7), 0);
    bench.create_topic(0, "two", 2);
    let full = (0..2).find(|index| bench.shards[0].store_of("two", *index) == Some(StoreId(1)));
    let full = full.expect("one is in the store of the group's shard");
    let is_full =
        |bench: &mut Bench, bytes| (0..2000).any(|_| bench.produce("two", full, bytes) == 56);
    for bytes in [900_000, 50_000, 1_000, 1] {
        assert!(is_full(&mut bench, bytes));
    }
    bench.ask(0, &delete_topic("t"));
    bench.create_topic(0, "t", 1);
    assert!(bench.shards[0].store_of("t", 0).is_some());
    let found = committed(&mut bench, 0, &["a"]);
    assert_eq!(found, [("a".to_owned(), vec![])]);
}

/// A commit for all of these partitions, or a fetch of what is committed for them; version 5 of both.
fn commit_many(group: &str, topic: &str, partitions: i32) -> Bytes {
    let mut request = kw::OffsetCommitRequest::default();
    request.group_id = StrBytes::from(group);
    let mut listed = OffsetCommitRequestTopic::default();
    listed.name = StrBytes::from(topic);
    for index in 0..partitions {
        let mut partition = OffsetCommitRequestPartition::default();
        partition.partition_index = index;
        partition.committed_offset = index.into();
        listed.partitions.push(partition);
    }
    request.topics = vec![listed];
    frame(5, &request)
}

#[test]
fn many_offsets_are_fetched_some_at_a_time() {
    const EACH: i32 = OFFSETS_TOLD_PER_SLICE as i32 / 2 + 1;
    let mut bench = bench();
    let topics = ["one", "three", "two"];
    for topic in topics {
        bench.create_topic(0, topic, EACH);
        assert!(bench.ask(0, &commit_many("a", topic, EACH)).is_some());
    }
    let whole = |partitions: &[(i32, i64, i16)]| {
        partitions
            .iter()
            .copied()
            .eq((0..EACH).map(|n| (n, n.into(), 0)))
    };
    for named in [true, false] {
        let mut group = OffsetFetchRequestGroup::default();
        group.group_id = "a".into();
        let of = |topic: &&str| {
            let mut of = kw::offset_fetch_request::OffsetFetchRequestTopics::default();
            of.name = StrBytes::from(*topic);
            of.partition_indexes = (0..EACH).collect();
            of
        };
        group.topics = named.then(|| topics.iter().map(of).collect());
        let mut none = OffsetFetchRequestGroup::default();
        none.group_id = "b".into();
        none.topics = None;
        let mut request = kw::OffsetFetchRequest::default();
        request.groups = vec![none.clone(), group.clone()];
        let reply = bench.ask(0, &frame(8, &request)).expect("an answer");
        let groups = answer::<kw::OffsetFetchRequest>(&reply, 8).groups;
        let ids: Vec<&str> = groups.iter().map(|group| group.group_id.as_str()).collect();
        assert_eq!(ids, ["b", "a"]);
        assert!(groups[0].topics.is_empty() && groups[1].error_code == 0);
        let told = &groups[1].topics;
        let names: Vec<&str> = told.iter().map(|topic| topic.name.as_str()).collect();
        assert_eq!(names, topics);
        for topic in told {
            let partitions = topic.partitions.iter();
            let told = partitions.map(|p| (p.partition_index, p.committed_offset, p.error_code));
            assert!(whole(&told.collect::<Vec<_>>()));
        }
        let old = |topic: kw::offset_fetch_request::OffsetFetchRequestTopics| {
            let mut old = kw::offset_fetch_request::OffsetFetchRequestTopic::default();
            old.name = topic.name;
            old.partition_indexes = topic.partition_indexes;
            old
        };
        let mut request = kw::OffsetFetchRequest::default();
        request.group_id = "a".into();
        let wanted = group.topics;
        request.topics = wanted.map(|topics| topics.into_iter().map(old).collect());
        let reply = bench.ask(0, &frame(5, &request)).expect("an answer");
        let response = answer::<kw::OffsetFetchRequest>(&reply, 5);
        let names: Vec<&str> = response.topics.iter().map(|t| t.name.as_str()).collect();
        assert_eq!((names, response.error_code), (topics.to_vec(), 0));
        for topic in &response.topics {
            let partitions = topic.partitions.iter();
            let told = partitions.map(|p| (p.partition_index, p.committed_offset, p.error_code));
            assert!(whole(&told.collect::<Vec<_>>()));
        }
    }
}

#[test]
fn what_lists_groups_or_offsets_is_asked_for_one_request_of_a_connection_at_a_time() {
    let mut bench = bench();
    assert_eq!(commit(&mut bench, 0, "a", 7), 0);
    let list = frame(4, &kw::ListGroupsRequest::default());
    let mut many = kw::DescribeGroupsRequest::default();
    let more_than_a_slice = OFFSETS_TOLD_PER_SLICE / GROUP_ASKED_COST + 1;
    many.groups = (0..more_than_a_slice)
        .map(|n| format!("g-{n}").into())
        .collect();
    for request in [fetch_of(&["a"]), list, frame(5, &many)] {
        let before = bench.replies.len();
        for _ in 0..8 {
            bench.send(0, &request);
        }
        for _ in 0..20 {
            bench.idle(0);
        }
        let asked = asked_about_groups(&bench);
        assert!(asked.len() <= 1, "{} at once", asked.len());
        bench.settle();
        assert_eq!(bench.replies.len() - before, 8);
    }
}

fn join_of(group: &str) -> Bytes {
    let mut protocol = kw::join_group_request::JoinGroupRequestProtocol::default();
    protocol.name = "range".into();
    let mut request = kw::JoinGroupRequest::default();
    request.group_id = StrBytes::from(group);
    request.protocol_type = "consumer".into();
    request.session_timeout_ms = 10_000;
    request.rebalance_timeout_ms = 60_000;
    request.protocols = vec![protocol];
    frame(3, &request)
}

#[test]
fn groups_with_many_members_are_told_and_written_in_slices() {
    const MEMBERS: usize = OFFSETS_TOLD_PER_SLICE / 4;
    let mut bench = bench();
    // All of them are with shard 1.
    let large = ["a", "c", "e"];
    for group in large {
        for _ in 0..MEMBERS {
            bench.send(1, &join_of(group));
        }
    }
    bench.settle();
    let mut request = kw::DescribeGroupsRequest::default();
    let asked = ["a", "nobody", "c", "b", "e"];
    request.groups = asked.map(StrBytes::from).to_vec();
    bench.send(2, &frame(5, &request));
    until(&mut bench, |bench| {
        let told = bench.coming.iter().filter_map(|(_, input)| match input {
            Input::Mesh { msg, .. } => match &**msg {
                Msg::GroupsDone { answers, .. } => Some(answers.iter()),
                _ => None,
            },
            _ => None,
        });
        for answers in told {
            let things: usize = answers.map(|(_, answer)| answer.things()).sum();
            assert!(things < 2 * OFFSETS_TOLD_PER_SLICE, "{things} at once");
        }
        bench.last_reply(2).is_some()
    });
    let reply = bench.last_reply(2).expect("an answer");
    let described = answer::<kw::DescribeGroupsRequest>(&reply, 5).groups;
    let told = described.iter().map(|group| {
        let ids = group.members.iter().map(|member| member.member_id.as_str());
        (group.group_id.as_str(), ids.collect::<BTreeSet<_>>().len())
    });
    let members = |group: &&str| if large.contains(group) { MEMBERS } else { 0 };
    assert!(told.eq(asked.iter().map(|group| (*group, members(group)))));
}

#[test]
fn groups_that_no_coordinator_has_are_all_answered() {
    const MANY: usize = 5 * OFFSETS_TOLD_PER_SLICE / GROUP_ASKED_COST / 2;
    for many in [MANY, MANY / 5 * 3] {
        // There is no __consumer_offsets yet.
        let mut bench = Bench::new(2, BrokerConfig::default());
        bench.open(1);
        let mut request = kw::DescribeGroupsRequest::default();
        request.groups = (0..many).map(|n| format!("g-{n}").into()).collect();
        let reply = bench.ask(1, &frame(5, &request)).expect("an answer");
        let described = answer::<kw::DescribeGroupsRequest>(&reply, 5).groups;
        assert_eq!(described.len(), many, "not one is left out");
    }
}

#[test]
fn many_groups_are_asked_some_at_a_time() {
    const MANY: usize = 3 * OFFSETS_TOLD_PER_SLICE / GROUP_ASKED_COST;
    let mut bench = bench();
    let ids: Vec<String> = (0..MANY).map(|n| format!("g-{n:04}")).collect();
    for id in &ids {
        assert_eq!(commit(&mut bench, 0, id, 7), 0);
    }
    let names = || {
        ids.iter()
            .map(|id| StrBytes::from(&**id))
            .collect::<Vec<_>>()
    };
    let mut request = kw::DescribeGroupsRequest::default();
    request.groups = names();
    let reply = bench.ask(1, &frame(5, &request)).expect("an answer");
    let described = answer::<kw::DescribeGroupsRequest>(&reply, 5).groups;
    let told = described
        .iter()
        .map(|group| (group.group_id.as_str(), group.group_state.as_str()));
    assert!(told.eq(ids.iter().map(|id| (&**id, "Empty"))));
    let mut request = kw::DeleteGroupsRequest::default();
    request.groups_names = names();
    bench.send(1, &frame(1, &request));
    assert!(bench.shards[1].waiting().0 > 0, "some wait for their turn");
    bench.settle();
    let reply = bench.last_reply(1).expect("an answer");
    let results = answer::<kw::DeleteGroupsRequest>(&reply, 1).results;
    let told = results
        .iter()
        .map(|result| (result.group_id.as_str(), result.error_code));
    assert!(told.eq(ids.iter().map(|id| (&**id, 0))));
    bench
        .shards
        .iter()
        .for_each(super::shard::Shard::invariants);
}

/// More groups than are asked about at a time; the last one is `z`.
fn many_groups_and_z() -> Vec<StrBytes> {
    many_groups_and("z")
}

/// The same with another one that comes last.
fn many_groups_and(last: &str) -> Vec<StrBytes> {
    let others =
        (0..OFFSETS_TOLD_PER_SLICE / GROUP_ASKED_COST + 1).map(|n| format!("g-{n}").into());
    others.chain([StrBytes::from(last)]).collect()
}

#[test]
fn what_comes_behind_a_long_deletion_of_groups_stays() {
    let mut bench = bench();
    assert_eq!(commit(&mut bench, 0, "z", 1), 0);
    let mut delete = kw::DeleteGroupsRequest::default();
    delete.groups_names = many_groups_and_z();
    bench.send(0, &frame(1, &delete));
    bench.send(0, &commit_of("z", 2));
    bench.settle();
    let reply = bench.last_reply(0).expect("an answer");
    let response = answer::<kw::OffsetCommitRequest>(&reply, 8);
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
    let found = committed(&mut bench, 0, &["z"]);
    assert_eq!(found, [("z".to_owned(), vec![2])]);
}

#[test]
fn what_is_told_about_many_groups_is_of_before_what_comes_behind() {
    let mut bench = bench();
    assert_eq!(commit(&mut bench, 0, "z", 1), 0);
    let mut describe = kw::DescribeGroupsRequest::default();
    describe.groups = many_groups_and_z();
    let mut delete = kw::DeleteGroupsRequest::default();
    delete.groups_names = vec!["z".into()];
    let asked = [
        frame(5, &describe),
        fetch_of(&["z"]),
        frame(4, &kw::ListGroupsRequest::default()),
    ];
    for question in &asked {
        let before = bench.replies.len();
        bench.send(0, question);
        bench.send(0, &frame(1, &delete));
        bench.settle();
        let replies = &bench.replies[before..];
        assert_eq!(replies.len(), 2);
        let told = replies[0].1.clone();
        let deleted = answer::<kw::DeleteGroupsRequest>(&replies[1].1, 1).results;
        assert_eq!(deleted[0].error_code, 0);
        if question == &asked[0] {
            let groups = answer::<kw::DescribeGroupsRequest>(&told, 5).groups;
            assert_eq!(groups.last().unwrap().group_state.as_str(), "Empty");
        } else if question == &asked[1] {
            let groups = answer::<kw::OffsetFetchRequest>(&told, 8).groups;
            assert_eq!(groups[0].topics[0].partitions[0].committed_offset, 1);
        } else {
            let groups = answer::<kw::ListGroupsRequest>(&told, 4).groups;
            assert_eq!(groups[0].group_id.as_str(), "z");
        }
        assert_eq!(commit(&mut bench, 0, "z", 1), 0);
    }
}

/// Requests whose coordinators are asked at the moment.
fn asked_about_groups(bench: &Bench) -> BTreeSet<u64> {
    let asked = bench.coming.iter().filter_map(|(_, input)| match input {
        Input::Mesh { msg, .. } => match &**msg {
            Msg::Groups { req, .. } => Some(req.id),
            _ => None,
        },
        _ => None,
    });
    asked.collect()
}

/// A group of shard 1 that is told in several slices, and a request to describe it.
fn large_group(bench: &mut Bench) -> Bytes {
    for _ in 0..OFFSETS_TOLD_PER_SLICE / 2 {
        bench.send(1, &join_of("a"));
    }
    bench.settle();
    let mut request = kw::DescribeGroupsRequest::default();
    request.groups = vec!["a".into()];
    frame(5, &request)
}

/// Lets the coordinators answer for the first time, and shard 0 go on without them.
fn answer_once(bench: &mut Bench) {
    for _ in 0..2 {
        bench.deliver();
    }
    for _ in 0..60 {
        bench.idle(0);
    }
}

#[test]
fn short_questions_with_long_answers_are_answered_one_of_a_connection_at_a_time() {
    let mut bench = bench();
    let describe = large_group(&mut bench);
    let before = bench.replies.len();
    for _ in 0..8 {
        bench.send(0, &describe);
    }
    answer_once(&mut bench);
    assert_eq!(bench.replies.len(), before, "none is made yet");
    assert_eq!(asked_about_groups(&bench).len(), 1);
    bench.settle();
    let told = bench.replies[before..].iter().map(|(_, reply)| {
        let groups = answer::<kw::DescribeGroupsRequest>(reply, 5).groups;
        groups[0].members.len()
    });
    let told: Vec<usize> = told.collect();
    assert_eq!(told, [OFFSETS_TOLD_PER_SLICE / 2; 8]);
}

/// Members of groups that coordinators are just telling to who asked.
fn members_on_their_way(bench: &Bench) -> usize {
    let told = bench.coming.iter().map(|(_, input)| match input {
        Input::Mesh { msg, .. } => match &**msg {
            Msg::GroupsDone { answers, .. } => members_of(answers),
            _ => 0,
        },
        _ => 0,
    });
    told.sum()
}

fn members_of(answers: &[(u32, GroupAnswer)]) -> usize {
    let described = answers.iter().map(|(_, answer)| match answer {
        GroupAnswer::Described(Ok(Some(group))) => group.members.len(),
        _ => 0,
    });
    described.sum()
}

#[test]
fn a_large_group_is_copied_when_there_is_room_for_it_and_only_then() {
    const REQUESTS: usize = 8;
    let mut bench = bench();
    let describe = large_group(&mut bench);
    let before = bench.replies.len();
    for _ in 0..REQUESTS {
        bench.send(0, &describe);
    }
    let mut copied = 0;
    while bench.replies.len() < before + REQUESTS {
        bench.deliver();
        copied += members_on_their_way(&bench);
        bench.idle(0);
        bench.idle(1);
    }
    assert_eq!(copied, REQUESTS * OFFSETS_TOLD_PER_SLICE / 2);
}

#[test]
fn some_long_questions_about_groups_are_asked_at_a_time() {
    const MANY: u64 = LONG_QUERIES_MAX as u64 + 3;
    let mut bench = bench();
    let describe = large_group(&mut bench);
    let before = bench.replies.len();
    let conns = || (2..2 + MANY).map(|n| 2 * n);
    for conn in conns() {
        bench.open(conn);
        bench.send(conn, &describe);
    }
    answer_once(&mut bench);
    assert_eq!(asked_about_groups(&bench).len(), LONG_QUERIES_MAX);
    // One that is being answered, and one that is not.
    for conn in [conns().next(), conns().next_back()] {
        bench.close(conn.unwrap());
    }
    bench.settle();
    assert_eq!((bench.replies.len() - before) as u64, MANY - 2);
    let (waiting, _) = bench.shards[0].waiting();
    assert_eq!(waiting, 0);
}

#[test]
fn deletions_that_wait_for_the_disk_keep_nobody_who_only_asks() {
    let mut bench = bench();
    let describe = large_group(&mut bench);
    let deletions = (0..=LONG_QUERIES_MAX as u64).map(|n| (4 + 2 * n, format!("z-{n}")));
    for (conn, last) in deletions.clone() {
        bench.open(conn);
        assert_eq!(commit(&mut bench, conn, &last, 1), 0);
    }
    for (conn, last) in deletions.clone() {
        let mut delete = kw::DeleteGroupsRequest::default();
        delete.groups_names = many_groups_and(&last);
        bench.send(conn, &frame(1, &delete));
    }
    let before = bench.replies.len();
    let hung = bench.settle_but_disk();
    assert_eq!(bench.replies.len(), before, "none is durable");
    bench.send(0, &describe);
    let more = bench.settle_but_disk();
    let told = bench.replies[before..].iter().map(|(_, reply)| {
        let groups = answer::<kw::DescribeGroupsRequest>(reply, 5).groups;
        groups[0].members.len()
    });
    assert_eq!(told.collect::<Vec<_>>(), [OFFSETS_TOLD_PER_SLICE / 2]);
    bench.coming.extend(hung.into_iter().chain(more));
    bench.settle();
    for (conn, last) in deletions {
        let reply = bench.last_reply(conn).expect("an answer");
        let results = answer::<kw::DeleteGroupsRequest>(&reply, 1).results;
        let of_last = results.last().unwrap();
        assert_eq!(
            (of_last.group_id.as_str(), of_last.error_code),
            (last.as_str(), 0)
        );
    }
}

#[test]
fn a_long_question_is_answered_by_the_metadata_of_when_it_is_its_turn() {
    let mut bench = bench();
    assert_eq!(commit(&mut bench, 0, "b", 7), 0);
    // It is behind a member that waits for others.
    let before = bench.replies.len();
    bench.send(1, &join_of("a"));
    bench.send(1, &fetch_of(&["b"]));
    bench.settle();
    assert_eq!(bench.replies.len(), before);
    bench.ask(0, &delete_topic("t"));
    bench.create_topic(0, "t", 1);
    assert_eq!(commit(&mut bench, 0, "b", 9), 0);
    bench.nanos += 5_000_000_000;
    bench.settle();
    let reply = bench.last_reply(1).expect("an answer");
    let group = &answer::<kw::OffsetFetchRequest>(&reply, 8).groups[0];
    assert_eq!(group.topics[0].partitions[0].committed_offset, 9);
}

#[test]
fn what_has_many_bytes_is_read_when_it_is_its_turn() {
    let mut bench = bench();
    let describe = |names: usize| {
        let mut request = kw::DescribeGroupsRequest::default();
        request.groups = (0..names).map(|n| format!("g-{n:09}").into()).collect();
        frame(5, &request)
    };
    // Both are too much for one input, one is also more than a request may list.
    for (conn, names, closes) in [(1, 15_000, false), (3, 30_000, true)] {
        bench.send(conn, &describe(names));
        assert!(bench.closed.is_empty() && bench.shards[1].waiting().0 == 1);
        bench.settle();
        assert_eq!(!bench.closed.is_empty(), closes);
        assert_eq!(bench.shards[1].waiting().0, 0);
    }
    let reply = bench.last_reply(1).expect("an answer");
    let described = answer::<kw::DescribeGroupsRequest>(&reply, 5).groups;
    assert_eq!((described.len(), bench.last_reply(3)), (15_000, None));
}
