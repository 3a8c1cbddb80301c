//! Answers that list much are made in slices, counted in elements and not in time.

use bytes::Bytes;
use kafka_wire::describe_configs_request::DescribeConfigsResource;
use kafka_wire::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::metadata_request::MetadataRequestTopic;
use kafka_wire::{
    DeleteTopicsRequest, DescribeConfigsRequest, DescribeLogDirsRequest,
    DescribeTopicPartitionsRequest, FindCoordinatorRequest, ListOffsetsRequest, MetadataRequest,
};
use kafka_wire_core::StrBytes;

use super::cost_tests::{Ask, TOPIC, WAITING, batch, bench, fetch, list_offsets, produce};
use super::io::{ConnId, Input};
use super::testing::Bench;
use crate::base::Mono;
use crate::base::limits::{DECIDED_PER_SLICE, LISTED_PER_SLICE};
use crate::wire::client::{decode_response, encode_request};

/// Metadata of so many topics that there cannot be.
fn absent(version: i16, names: usize) -> Bytes {
    metadata(version, (0..names).map(|n| format!("no/{n}")))
}

fn metadata(version: i16, names: impl Iterator<Item = String>) -> Bytes {
    let mut request = MetadataRequest::default();
    let topic = |name: String| {
        let mut topic = MetadataRequestTopic::default();
        topic.name = Some(name.into());
        topic
    };
    request.topics = Some(names.map(topic).collect());
    encode_request(1, Some("test"), version, &request).unwrap()
}

#[test]
fn an_answer_that_lists_much_is_made_in_slices_and_is_whole() {
    // They are read, then answered, and count twice each time.
    const SLICES: usize = 12;
    let names = SLICES / 4 * LISTED_PER_SLICE - 1;
    for version in 1..=13 {
        let mut bench = bench(1, 1);
        bench.open(1);
        let before = bench.replies.len();
        bench.send(1, &absent(version, names));
        for slice in 1..SLICES {
            assert_eq!(bench.replies.len(), before, "after {slice}");
            // Who asks for little does not wait for it.
            bench.send(0, &absent(version, 1));
            assert_eq!(bench.replies.len(), before + 1, "version {version}");
            bench.replies.truncate(before);
            bench.idle(0);
        }
        let answer = bench.last_reply(1).expect("it is whole");
        let (_, answer) = decode_response::<MetadataRequest>(answer.slice(4..), version).unwrap();
        assert_eq!(answer.topics.len(), names);
        let last = answer.topics.last().unwrap().name.clone();
        assert_eq!(last, Some(format!("no/{}", names - 1).into()));
        assert_eq!(answer.brokers.len(), 1);
    }
}

/// As many as Kafka answers, which knows no bound but that of a request.
#[test]
fn a_hundred_thousand_names_and_keys_are_answered() {
    const NAMES: usize = 100_000;
    let mut bench = bench(1, 1);
    let answer = bench.ask(0, &absent(9, NAMES)).expect("it is whole");
    let (_, answer) = decode_response::<MetadataRequest>(answer.slice(4..), 9).unwrap();
    assert_eq!(answer.topics.len(), NAMES);
    let mut request = FindCoordinatorRequest::default();
    request.coordinator_keys = (0..NAMES).map(|n| n.to_string().into()).collect();
    let frame = encode_request(1, Some("test"), 4, &request).unwrap();
    let mut before = bench.replies.len();
    bench.send(0, &frame);
    // Its topic is created first.
    bench.settle();
    assert_eq!(bench.replies.len(), before + 1, "{:?}", bench.closed);
    let answer = bench.last_reply(0).unwrap();
    let (_, answer) = decode_response::<FindCoordinatorRequest>(answer.slice(4..), 4).unwrap();
    assert_eq!(answer.coordinators.len(), NAMES);
    let found = |n: usize| &answer.coordinators[n];
    assert!((0..NAMES).all(|n| found(n).error_code == 0 && *found(n).key == *n.to_string()));
    before += 1;
    bench.send(0, &frame);
    assert_eq!(bench.replies.len(), before, "it takes several turns");
}

/// However many partitions one topic has.
#[test]
fn a_topic_is_told_in_slices() {
    const SLICES: usize = 3;
    let partitions = SLICES * LISTED_PER_SLICE - 100;
    let mut bench = bench(1, partitions as i32);
    let before = bench.replies.len();
    for version in 0..=13 {
        bench.send(0, &metadata(version, [TOPIC.to_owned()].into_iter()));
        for slice in 1..SLICES {
            assert_eq!(bench.replies.len(), before, "after {slice}");
            bench.idle(0);
        }
        let answer = bench.last_reply(0).expect("it is whole");
        bench.replies.truncate(before);
        bench.settle();
        let (_, answer) = decode_response::<MetadataRequest>(answer.slice(4..), version).unwrap();
        let told = answer.topics[0].partitions.iter();
        let indexes = told.map(|partition| partition.partition_index);
        assert!(indexes.eq(0..partitions as i32), "version {version}");
    }
    let mut request = DescribeTopicPartitionsRequest::default();
    request.response_partition_limit = i32::MAX;
    let mut told = 0;
    loop {
        let frame = encode_request(1, Some("test"), 0, &request).unwrap();
        let answer = bench.ask(0, &frame).unwrap();
        let answer = decode_response::<DescribeTopicPartitionsRequest>(answer.slice(4..), 0);
        let (_, answer) = answer.unwrap();
        told += answer.topics[0].partitions.len();
        let Some(next) = answer.next_cursor else {
            break;
        };
        let mut cursor = Cursor::default();
        (cursor.topic_name, cursor.partition_index) = (next.topic_name, next.partition_index);
        request.cursor = Some(cursor);
    }
    assert_eq!(told, partitions);
}

#[test]
fn partitions_of_many_topics_are_told_in_slices() {
    let mut bench = bench(1, 1);
    let mut request = DescribeTopicPartitionsRequest::default();
    let name = |n: usize| {
        let mut topic = TopicRequest::default();
        topic.name = format!("no-{n}").into();
        topic
    };
    request.topics = (0..2 * LISTED_PER_SLICE).map(name).collect();
    request.response_partition_limit = 10;
    let frame = encode_request(1, Some("test"), 0, &request).unwrap();
    let before = bench.replies.len();
    bench.send(0, &frame);
    // They are read and sorted first.
    for slice in 0..5 {
        assert_eq!(bench.replies.len(), before, "after {slice}");
        bench.idle(0);
    }
    bench.settle();
    let answer = bench.last_reply(0).expect("it is whole");
    let answer = decode_response::<DescribeTopicPartitionsRequest>(answer.slice(4..), 0);
    let topics = answer.unwrap().1.topics;
    assert_eq!(topics.len(), 2 * LISTED_PER_SLICE);
    assert!(topics.is_sorted_by_key(|topic| topic.name.clone()));
    assert!(topics.iter().all(|topic| topic.error_code == 3));
}

#[test]
fn a_topic_is_created_when_a_slice_comes_upon_it() {
    let mut bench = bench(1, 1);
    let names = (0..2 * LISTED_PER_SLICE).map(|n| format!("no/{n}"));
    let frame = metadata(4, names.chain(["new".to_owned()]));
    let answer = bench.ask(0, &frame).expect("it is whole");
    let (_, answer) = decode_response::<MetadataRequest>(answer.slice(4..), 4).unwrap();
    let codes: Vec<i16> = answer.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes.len(), 2 * LISTED_PER_SLICE + 1);
    assert_eq!((codes[0], codes.last()), (17, Some(&0)));
    assert!(bench.shards[0].store_of("new", 0).is_some());
    assert_eq!(bench.shards[0].waiting().0, 0);
}

/// How many turns a shard takes until it rests.
fn turns(bench: &mut Bench) -> usize {
    let turns = (1..).find(|_| !bench.idle(0));
    turns.unwrap_or_default()
}

/// What a request has listed is given back in slices too, whatever becomes of it.
#[test]
fn what_was_listed_is_let_go_in_slices() {
    const NAMES: usize = 20 * LISTED_PER_SLICE;
    let mut request = FindCoordinatorRequest::default();
    request.coordinator_keys = (0..NAMES).map(|n| n.to_string().into()).collect();
    let keys = encode_request(1, Some("test"), 4, &request).unwrap();
    let mut request = DescribeTopicPartitionsRequest::default();
    let topic = |n| {
        let mut topic = TopicRequest::default();
        topic.name = format!("no-{n}").into();
        topic
    };
    request.topics = (0..NAMES).map(topic).collect();
    let topics = encode_request(1, Some("test"), 0, &request).unwrap();
    for (frame, a_name_takes) in [(absent(9, NAMES), 2), (keys, 1), (topics, 1)] {
        let mut bench = bench(1, 1);
        bench.open(1);
        bench.send(1, &frame);
        for _ in 0..a_name_takes * NAMES / LISTED_PER_SLICE - 2 {
            assert!(bench.idle(0));
        }
        // Nearly all of it is read.
        bench.close(1);
        let turns_closed = turns(&mut bench);
        assert!(
            turns_closed > NAMES / LISTED_PER_SLICE - 2,
            "{turns_closed}"
        );
        // What cannot be read of it is the very end.
        bench.open(2);
        bench.send(2, &frame.slice(..frame.len() - 1));
        while bench.closed.is_empty() {
            assert!(bench.idle(0));
        }
        let turns_bad = turns(&mut bench);
        assert!(turns_bad > NAMES / LISTED_PER_SLICE - 2, "{turns_bad}");
    }
}

/// The longest text that a request can have takes as long as hundreds of short ones.
#[test]
fn names_count_for_as_much_as_they_are() {
    const NAMES: usize = 100;
    const BYTES: usize = 30_000;
    let names = || (0..NAMES).map(|n| format!("{n:0width$}", width = BYTES));
    let mut requests = vec![metadata(9, names())];
    let mut request = FindCoordinatorRequest::default();
    request.coordinator_keys = names().map(StrBytes::from).collect();
    requests.push(encode_request(1, Some("test"), 4, &request).unwrap());
    let mut request = DescribeTopicPartitionsRequest::default();
    let topic = |name: String| {
        let mut topic = TopicRequest::default();
        topic.name = name.into();
        topic
    };
    request.topics = names().map(topic).collect();
    requests.push(encode_request(1, Some("test"), 0, &request).unwrap());
    let mut request = DescribeConfigsRequest::default();
    let group = |name: String| {
        let mut resource = DescribeConfigsResource::default();
        resource.resource_type = 32;
        resource.resource_name = name.into();
        resource
    };
    request.resources = names().map(group).collect();
    requests.push(encode_request(1, Some("test"), 4, &request).unwrap());
    let mut request = ListOffsetsRequest::default();
    let topic = |name: String| {
        let mut topic = ListOffsetsTopic::default();
        topic.name = name.into();
        topic.partitions = vec![ListOffsetsPartition::default()];
        topic
    };
    request.topics = names().map(topic).collect();
    requests.push(encode_request(1, Some("test"), 7, &request).unwrap());
    let least = NAMES * BYTES / 64 / LISTED_PER_SLICE;
    for (n, frame) in requests.iter().enumerate() {
        let mut bench = bench(1, 1);
        let before = bench.replies.len();
        bench.send(0, frame);
        let mut turns = 0;
        while bench.replies.len() == before {
            let more = bench.idle(0);
            assert!(more || bench.replies.len() > before, "{n}");
            turns += 1;
            bench.deliver();
        }
        assert!(turns >= least, "{n}: {turns} of {least}");
    }
}

/// They are looked at when they are read, and when their resource is told.
#[test]
fn keys_that_are_asked_for_count_twice() {
    const RESOURCES: usize = 10;
    const KEYS: usize = 2 * LISTED_PER_SLICE;
    let mut request = DescribeConfigsRequest::default();
    let topic = |n: usize| {
        let mut resource = DescribeConfigsResource::default();
        (resource.resource_type, resource.resource_name) = (2, format!("{TOPIC}{n}").into());
        let keys = (0..KEYS).map(|key| StrBytes::from(key.to_string()));
        resource.configuration_keys = Some(keys.collect());
        resource
    };
    request.resources = (0..RESOURCES).map(topic).collect();
    let frame = encode_request(1, Some("test"), 4, &request).unwrap();
    let mut bench = bench(1, 1);
    let before = bench.replies.len();
    bench.send(0, &frame);
    let turns = (1..).find(|_| !bench.idle(0) || bench.replies.len() > before);
    assert_eq!(bench.replies.len(), before + 1);
    assert!(turns >= Some(2 * RESOURCES - 1), "{turns:?}");
}

/// The same of what is to be changed.
#[test]
fn what_a_decision_was_about_is_let_go_in_slices() {
    const NAMES: usize = 20 * DECIDED_PER_SLICE;
    let mut request = DeleteTopicsRequest::default();
    request.topic_names = (0..NAMES).map(|n| format!("no-{n}").into()).collect();
    let frame = encode_request(1, Some("test"), 5, &request).unwrap();
    let mut bench = bench(1, 1);
    bench.send(0, &frame.slice(..frame.len() - 1));
    while bench.closed.is_empty() {
        assert!(bench.idle(0));
        bench.deliver();
    }
    let turns = turns(&mut bench);
    assert!(turns >= NAMES / DECIDED_PER_SLICE, "{turns}");
}

/// Asks for the settings of 1,000 groups.
fn thousand_groups() -> Bytes {
    let mut request = DescribeConfigsRequest::default();
    let group = |n: usize| {
        let mut resource = DescribeConfigsResource::default();
        resource.resource_type = 32;
        resource.resource_name = n.to_string().into();
        resource
    };
    request.resources = (0..1000).map(group).collect();
    encode_request(1, Some("test"), 4, &request).unwrap()
}

#[test]
fn answers_that_list_much_are_made_one_after_the_other_and_not_for_those_who_are_gone() {
    let mut bench = bench(1, 1);
    let frame = thousand_groups();
    let before = bench.replies.len();
    for conn in 1..=5 {
        bench.open(conn);
        bench.send(conn, &frame);
    }
    // The one that is being made, and one that waits.
    bench.close(1);
    bench.close(3);
    bench.settle();
    let order = bench.replies[before..].iter().map(|(conn, _)| conn.0);
    assert_eq!(order.collect::<Vec<_>>(), [2, 4, 5]);
    let answer = bench.last_reply(5).unwrap();
    let (_, answer) = decode_response::<DescribeConfigsRequest>(answer.slice(4..), 4).unwrap();
    assert_eq!(answer.results.len(), 1000);
    assert_eq!(bench.shards[0].waiting().0, 0);
}

#[test]
fn connections_take_turns_at_what_lists_much() {
    let mut bench = bench(1, 1);
    let frame = thousand_groups();
    let before = bench.replies.len();
    for conn in 1..=3 {
        bench.open(conn);
    }
    for _ in 0..4 {
        bench.send(2, &frame);
    }
    bench.send(1, &frame);
    bench.send(3, &frame);
    bench.settle();
    let order = bench.replies[before..].iter().map(|(conn, _)| conn.0);
    assert_eq!(order.collect::<Vec<_>>(), [2, 3, 1, 2, 2, 2]);
}

/// A client that takes nothing has one of them in memory, however many it asks for; so do questions to logs.
#[test]
fn a_connection_has_one_long_answer_at_a_time() {
    let all = 2 * LISTED_PER_SLICE as i32;
    let mut bench = bench(1, all);
    let mut directories = DescribeLogDirsRequest::default();
    directories.topics = None;
    let directories = encode_request(1, Some("test"), 4, &directories).unwrap();
    for frame in [thousand_groups(), list_offsets(0..all), directories] {
        let before = bench.replies.len();
        bench.open(1);
        bench.open(2);
        for _ in 0..8 {
            bench.send(1, &frame);
            bench.send(2, &frame);
        }
        let sent = std::mem::take(&mut bench.coming);
        for _ in 0..1000 {
            bench.idle(0);
        }
        let order = bench.replies[before..].iter().map(|(conn, _)| conn.0);
        assert_eq!(order.collect::<Vec<_>>(), [1, 2], "none of them has left");
        assert!(!bench.idle(0), "there is nothing to do");
        let (conn, replies) = (ConnId(2), 1);
        bench.handle(0, Input::Sent { conn, replies });
        assert!(bench.wake_at[0] <= Mono(bench.nanos), "that is told");
        for _ in 0..1000 {
            bench.idle(0);
        }
        let order = bench.replies[before..].iter().map(|(conn, _)| conn.0);
        assert_eq!(order.collect::<Vec<_>>(), [1, 2, 2]);
        bench.close(1);
        bench.close(2);
        bench.settle();
        assert_eq!((sent.len(), bench.shards[0].waiting().0), (0, 0));
    }
}

/// What is behind a request that waits for others would be in memory for as long.
#[test]
fn a_long_answer_is_made_when_it_is_next() {
    let mut bench = bench(1, 1);
    let before = bench.replies.len();
    bench.send(0, &fetch(&WAITING, [(0, 0)].into_iter()));
    bench.send(0, &thousand_groups());
    // Who asks for little is answered at once.
    bench.send(0, &absent(9, 1));
    bench.settle();
    assert_eq!(bench.replies.len(), before);
    assert_eq!(bench.shards[0].waiting().0, 2, "neither is answered");
    bench.open(1);
    bench.ask(1, &produce([(0, Some(batch(b"value")))].into_iter()));
    let order = bench.replies[before..].iter().map(|(conn, _)| conn.0);
    assert_eq!(order.collect::<Vec<_>>(), [1, 0, 0, 0]);
}

/// What is before it may be answered at the very end of an idle turn, after which nothing else need come.
#[test]
fn a_long_answer_is_made_when_the_one_before_it_has_timed_out() {
    let mut bench = bench(1, 1);
    let before = bench.replies.len();
    let waiting = Ask {
        wait_ms: 500,
        ..WAITING
    };
    bench.send(0, &fetch(&waiting, [(0, 0)].into_iter()));
    bench.send(0, &thousand_groups());
    bench.settle();
    assert_eq!(bench.replies.len(), before);
    bench.nanos += 600_000_000;
    let mut turns = 0;
    while bench.idle(0) {
        turns += 1;
        assert!(turns < 100, "it never rests");
    }
    assert_eq!(bench.replies.len(), before + 2);
}

/// However many wait, a stop is over when one more answer is made.
#[test]
fn a_stop_leaves_what_would_be_listed_after_it() {
    let mut bench = bench(1, 1);
    let frame = thousand_groups();
    let before = bench.replies.len();
    for conn in 1..=20 {
        bench.open(conn);
        bench.send(conn, &frame);
    }
    bench.handle(0, Input::Shutdown);
    assert_eq!(bench.shards[0].waiting().0, 1);
    bench.settle();
    let order = bench.replies[before..].iter().map(|(conn, _)| conn.0);
    assert_eq!(order.collect::<Vec<_>>(), [1]);
}
