//! Questions to logs, however many a request has.

use std::collections::BTreeMap;

use kafka_wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_wire::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::{DeleteRecordsRequest, DescribeLogDirsRequest, ListOffsetsRequest};

use super::cost_tests::{TOPIC, batch, bench, list_offsets, look_up, looked_up, pending, produce};
use super::io::Input;
use super::testing::Bench;
use crate::base::limits::{LISTED_ENTRIES_MAX, LISTED_PER_SLICE, LONG_QUERIES_MAX};
use crate::wire::client::{decode_response, encode_request};

/// As Kafka does: the Java admin client asks for the partitions of a broker in one request.
#[test]
fn a_question_about_all_partitions_of_a_large_cluster_is_answered_in_slices() {
    const ASKED: i32 = 120_000;
    let mut bench = bench(2, 3);
    let before = bench.replies.len();
    bench.send(0, &list_offsets(0..ASKED));
    let mut slices = 0;
    while bench.replies.len() == before {
        assert_eq!(bench.closed, []);
        bench.deliver();
        bench.idle(0);
        bench.idle(1);
        slices += 1;
    }
    assert!(slices >= ASKED as usize / LISTED_PER_SLICE, "{slices}");
    let frame = bench.last_reply(0).unwrap().slice(4..);
    let (_, answer) = decode_response::<ListOffsetsRequest>(frame, 7).unwrap();
    let partitions = &answer.topics[0].partitions;
    let shown = |index: i32| &partitions[index as usize];
    assert_eq!(partitions.len(), ASKED as usize);
    assert!((0..ASKED).all(|index| shown(index).partition_index == index));
    assert!((0..ASKED).all(|index| shown(index).error_code == if index < 3 { 0 } else { 3 }));
    assert_eq!(pending(&bench), 0);
}

#[test]
fn a_question_about_more_closes_its_connection() {
    let mut bench = bench(1, 1);
    let before = bench.replies.len();
    bench.ask(0, &list_offsets(0..LISTED_ENTRIES_MAX as i32));
    assert_eq!((bench.replies.len(), bench.closed.len()), (before, 1));
    let why = &bench.closed[0].1;
    assert!(why.contains("more entries"), "{why}");
}

/// As Kafka 4.4.0 answers.
#[test]
fn a_partition_that_is_named_again_is_refused_once() {
    let mut bench = bench(2, 3);
    let mut request = ListOffsetsRequest::default();
    for (name, indexes) in [
        (TOPIC, &[0, 1, 0, 0][..]),
        ("no", &[1, 0]),
        ("none", &[]),
        (TOPIC, &[2, 1]),
        ("no", &[0]),
    ] {
        let mut topic = ListOffsetsTopic::default();
        topic.name = name.into();
        for index in indexes {
            let mut partition = ListOffsetsPartition::default();
            (partition.partition_index, partition.timestamp) = (*index, -1);
            partition.current_leader_epoch = -1;
            topic.partitions.push(partition);
        }
        request.topics.push(topic);
    }
    for version in 1..=11 {
        let frame = encode_request(1, Some("test"), version, &request).unwrap();
        let answer = bench.ask(0, &frame).unwrap().slice(4..);
        let (_, answer) = decode_response::<ListOffsetsRequest>(answer, version).unwrap();
        let told = answer.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter();
            let partitions = partitions.map(|told| (told.partition_index, told.error_code));
            (topic.name.as_str(), partitions.collect::<Vec<_>>())
        });
        let wanted = [
            (TOPIC, vec![(0, 42), (1, 42), (2, 0)]),
            ("no", vec![(0, 42), (1, 3)]),
        ];
        assert!(told.eq(wanted), "version {version}: {answer:?}");
    }
}

/// What directories answer in all versions: the partitions of each topic.
fn directories(bench: &mut Bench, request: &DescribeLogDirsRequest) -> BTreeMap<String, Vec<i32>> {
    let mut answers = (1..=5).map(|version| {
        let frame = encode_request(1, Some("test"), version, request).unwrap();
        let answer = bench.ask(0, &frame).unwrap().slice(4..);
        let (_, answer) = decode_response::<DescribeLogDirsRequest>(answer, version).unwrap();
        assert_eq!((answer.error_code, answer.results.len()), (0, 1));
        let result = &answer.results[0];
        assert_eq!((result.total_bytes, result.usable_bytes), (-1, -1));
        assert_eq!((result.log_dir.is_empty(), result.error_code), (false, 0));
        let topics = result.topics.iter().map(|topic| {
            assert!(topic.partitions.iter().all(|told| told.partition_size == 0));
            let indexes = topic.partitions.iter().map(|told| told.partition_index);
            (topic.name.as_str().to_owned(), indexes.collect())
        });
        topics.collect::<BTreeMap<_, Vec<i32>>>()
    });
    let first = answers.next().unwrap();
    assert!(answers.all(|answer| answer == first));
    first
}

#[test]
fn directories_tell_of_all_partitions_or_of_those_that_are_named() {
    const MANY: i32 = 2 * LISTED_PER_SLICE as i32 + 1;
    let mut bench = bench(2, MANY);
    bench.create_topic(0, "other", 2);
    let mut request = DescribeLogDirsRequest::default();
    request.topics = None;
    let all = directories(&mut bench, &request);
    assert_eq!(all.keys().collect::<Vec<_>>(), ["other", TOPIC]);
    assert_eq!(all["other"], [0, 1]);
    assert!(all[TOPIC].iter().copied().eq(0..MANY));
    for (name, indexes) in [("no", &[0][..]), ("other", &[1, 1, 7]), (TOPIC, &[9, 2])] {
        let mut topic = DescribableLogDirTopic::default();
        topic.topic = name.into();
        topic.partitions = indexes.to_vec();
        request.topics.get_or_insert_default().push(topic);
    }
    let named = directories(&mut bench, &request);
    let wanted = [("other", vec![1]), (TOPIC, vec![2, 9])];
    let wanted = wanted.map(|(name, indexes)| (name.to_owned(), indexes));
    assert_eq!(named, BTreeMap::from(wanted));
}

#[test]
fn nothing_is_deleted_for_a_request_that_cannot_be_read() {
    let mut bench = bench(1, 1);
    bench.ask(0, &produce([(0, Some(batch(b"value")))].into_iter()));
    let mut request = DeleteRecordsRequest::default();
    // What is malformed comes behind the first slice.
    for index in 0..=LISTED_PER_SLICE as i32 {
        let mut topic = DeleteRecordsTopic::default();
        topic.name = TOPIC.into();
        let mut partition = DeleteRecordsPartition::default();
        (partition.partition_index, partition.offset) = (index, -1);
        topic.partitions = vec![partition];
        request.topics.push(topic);
    }
    let frame = encode_request(1, Some("test"), 2, &request).unwrap();
    bench.open(1);
    bench.ask(1, &frame.slice(..frame.len() - 1));
    assert_eq!(bench.closed.len(), 1);
    let earliest = |bench: &mut Bench| looked_up(&bench.ask(0, &look_up(0..1, -2)).unwrap());
    assert_eq!(earliest(&mut bench), (0, 0));
    bench.ask(0, &frame);
    assert_eq!(earliest(&mut bench), (0, 1));
}

/// As Kafka 4.4.0 answers.
#[test]
fn a_deletion_that_is_named_again_is_told_once_and_the_last_one_counts() {
    let mut bench = bench(1, 2);
    for index in [0, 0, 1, 1] {
        bench.ask(0, &produce([(index, Some(batch(b"value")))].into_iter()));
    }
    let mut request = DeleteRecordsRequest::default();
    for (name, partitions) in [
        (TOPIC, &[(0, 2), (1, 1)][..]),
        ("no", &[(0, 1), (0, 1)]),
        (TOPIC, &[(0, 1)]),
    ] {
        let mut topic = DeleteRecordsTopic::default();
        topic.name = name.into();
        for (index, offset) in partitions {
            let mut partition = DeleteRecordsPartition::default();
            (partition.partition_index, partition.offset) = (*index, *offset);
            topic.partitions.push(partition);
        }
        request.topics.push(topic);
    }
    let frame = encode_request(1, Some("test"), 2, &request).unwrap();
    let answer = bench.ask(0, &frame).unwrap().slice(4..);
    let (_, answer) = decode_response::<DeleteRecordsRequest>(answer, 2).unwrap();
    let told = answer.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(|p| (p.partition_index, p.low_watermark, p.error_code));
        (topic.name.as_str(), partitions.collect::<Vec<_>>())
    });
    let wanted = [
        (TOPIC, vec![(0, 1, 0), (1, 1, 0)]),
        ("no", vec![(0, -1, 3)]),
    ];
    assert!(told.eq(wanted), "{answer:?}");
}

/// Each keeps what its request lists.
#[test]
fn some_long_questions_are_asked_at_a_time() {
    const FIRST: u64 = LONG_QUERIES_MAX as u64;
    let long = list_offsets(0..20 * LISTED_PER_SLICE as i32);
    let shorter = list_offsets(0..LISTED_PER_SLICE as i32);
    let mut bench = bench(1, 1);
    let before = bench.replies.len();
    for conn in 1..=FIRST {
        bench.open(conn);
        bench.send(conn, &long);
    }
    let last = FIRST + 1;
    bench.open(last);
    bench.send(last, &shorter);
    for _ in 0..20 * FIRST {
        assert!(bench.idle(0));
        assert_eq!(bench.replies.len(), before);
    }
    bench.close(1);
    bench.settle();
    let order = bench.replies[before..].iter().map(|(conn, _)| conn.0);
    assert_eq!(order.collect::<Vec<_>>()[0], last);
    assert_eq!((bench.replies.len() - before) as u64, FIRST);
    assert_eq!(pending(&bench), 0);
}

#[test]
fn deletions_that_wait_for_the_disk_keep_nobody_who_only_asks() {
    const MANY: u64 = LONG_QUERIES_MAX as u64 + 1;
    let mut bench = bench(1, 2);
    for _ in 0..MANY {
        bench.ask(0, &produce([(0, Some(batch(b"value")))].into_iter()));
    }
    let before = bench.replies.len();
    for conn in 1..=MANY {
        let mut topic = DeleteRecordsTopic::default();
        topic.name = TOPIC.into();
        topic.partitions = (0..LISTED_PER_SLICE as i32)
            .map(|index| {
                let mut partition = DeleteRecordsPartition::default();
                (partition.partition_index, partition.offset) = (index, conn as i64);
                partition
            })
            .collect();
        let mut request = DeleteRecordsRequest::default();
        request.topics = vec![topic];
        bench.open(conn);
        bench.send(conn, &encode_request(1, Some("test"), 2, &request).unwrap());
    }
    let hung = bench.settle_but_disk();
    assert_eq!(bench.replies.len(), before, "none is durable");
    bench.send(0, &list_offsets(0..2 * LISTED_PER_SLICE as i32));
    let more = bench.settle_but_disk();
    let told = bench.replies[before..].iter().map(|(conn, _)| conn.0);
    assert_eq!(told.collect::<Vec<_>>(), [0]);
    bench.coming.extend(hung.into_iter().chain(more));
    bench.settle();
    assert_eq!((bench.replies.len() - before) as u64, 1 + MANY);
}

/// It is not known how long it would take.
#[test]
fn a_stop_does_not_wait_for_what_has_more_to_ask() {
    let mut bench = bench(1, 1);
    bench.open(1);
    bench.open(2);
    bench.send(1, &list_offsets(0..10 * LISTED_PER_SLICE as i32));
    bench.send(2, &list_offsets(0..1));
    let answered = bench.last_reply(2);
    assert!(answered.is_some(), "who asks for little does not wait");
    bench.handle(0, Input::Shutdown);
    bench.settle();
    assert_eq!((bench.drained, pending(&bench)), (1, 0));
    assert_eq!(bench.closed.len(), 1);
    assert!(bench.closed[0].1.contains("stops"), "{:?}", bench.closed);
}
