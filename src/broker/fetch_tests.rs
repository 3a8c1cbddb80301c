//! Fetches that come together: of one session, of many partitions, of connections that are gone.

use bytes::Bytes;
use kafka_wire::FetchRequest;
use kafka_wire::fetch_request::{FetchPartition, FetchTopic};

use super::cost_tests::{
    Ask, VERSION, WAITING, batch, bench, fetch, on_disk, pending, produce, watches,
};
use crate::base::ErrorCode;
use crate::base::limits::{
    CONN_IN_FLIGHT_MAX, CONN_REPLY_BYTES_MAX, FETCH_READS_BYTES_MAX, FETCH_WAIT_MS_MAX,
    FETCHED_PER_TURN, LOAD_BYTES_MIN, PARTITIONS_PER_SLICE,
};
use crate::wire::client::encode_request;

#[test]
fn the_plan_of_a_closed_connection_is_not_made_to_its_end() {
    let all = 10 * PARTITIONS_PER_SLICE as i32;
    let mut bench = bench(1, all);
    bench.open(1);
    bench.send(1, &fetch(&WAITING, (0..all).map(|index| (index, 0))));
    bench.close(1);
    let slices = (0..).take_while(|_| bench.idle(0)).count();
    assert!(slices <= 2, "{slices}");
    assert_eq!((pending(&bench), watches(&bench)), (0, 0));
}

/// As in Kafka, where a connection has one request in progress.
#[test]
fn fetches_of_a_session_go_one_after_the_other() {
    const PARTITIONS: i32 = 100;
    let mut bench = bench(1, PARTITIONS);
    bench.open(1);
    bench.open(2);
    let first = Ask {
        wait_ms: 0,
        min_bytes: 1,
        session_epoch: 0,
    };
    let opened = bench.ask(1, &fetch(&first, (0..PARTITIONS).map(|n| (n, 0))));
    let (error, session) = session_of(&opened.unwrap());
    assert_eq!(error, 0);
    let before = bench.replies.len();
    for epoch in 1..=20 {
        bench.send(1, &resume(session, epoch, 1000));
    }
    for answered in 0..20 {
        bench.settle();
        assert_eq!((watches(&bench), pending(&bench)), (1, 20 - answered));
        assert_eq!(bench.replies.len() - before, answered);
        bench.nanos += 1_001_000_000;
    }
    bench.settle();
    let answers = bench.replies[before..].iter();
    let answers: Vec<_> = answers.map(|(_, reply)| session_of(reply)).collect();
    assert_eq!(answers, [(0, session); 20]);
    // Whoever waits for one whose connection is gone, or that is refused, goes on.
    bench.send(1, &resume(session, 21, i32::MAX));
    bench.send(2, &resume(session, 20, 0));
    bench.send(2, &resume(session, 22, i32::MAX));
    bench.settle();
    assert_eq!((watches(&bench), pending(&bench)), (1, 3));
    bench.close(1);
    bench.settle();
    assert_eq!((watches(&bench), pending(&bench)), (1, 1));
    let refused = ErrorCode::InvalidFetchSessionEpoch.code();
    assert_eq!(session_of(&bench.last_reply(2).unwrap()), (refused, 0));
    bench.close(2);
    bench.settle();
    assert_eq!((watches(&bench), pending(&bench)), (0, 0));
}

/// Error and id of the session in the answer to a fetch.
fn session_of(reply: &Bytes) -> (i16, i32) {
    /// Length, correlation id, tags, throttle time.
    const AT: usize = 4 + 4 + 1 + 4;
    let error = i16::from_be_bytes(reply[AT..AT + 2].try_into().unwrap());
    let session = i32::from_be_bytes(reply[AT + 2..AT + 6].try_into().unwrap());
    (error, session)
}

/// A fetch that goes on with a session and changes nothing of it.
fn resume(session: i32, epoch: i32, wait_ms: i32) -> Bytes {
    let mut request = FetchRequest::default();
    (request.max_wait_ms, request.min_bytes) = (wait_ms, 1);
    request.max_bytes = 50 << 20;
    (request.session_id, request.session_epoch) = (session, epoch);
    encode_request(1, Some("test"), VERSION, &request).unwrap()
}

#[test]
fn fetches_begin_some_at_a_time() {
    const PARTITIONS: i32 = 2000;
    let mut bench = bench(1, PARTITIONS);
    let frame = fetch(&WAITING, (0..PARTITIONS).map(|n| (n, 0)));
    for conn in 1..=20 {
        bench.open(conn);
        bench.send(conn, &frame);
    }
    let per_turn = FETCHED_PER_TURN.div_ceil(PARTITIONS as usize);
    assert_eq!(bench.shards[0].fetches_begun(), per_turn);
    // One of few partitions comes between them.
    bench.open(21);
    bench.send(21, &fetch(&WAITING, [(0, 0)].into_iter()));
    for turn in 2..=4 {
        bench.idle(0);
        assert!(bench.shards[0].fetches_begun() <= turn * per_turn);
    }
    bench.settle();
    assert_eq!(watches(&bench), 21);
    let value = Some(batch(b"value"));
    bench.send(0, &produce([(0, value)].into_iter()));
    bench.settle();
    assert_eq!((watches(&bench), pending(&bench)), (0, 0));
}

/// What is answered behind a fetch that waits holds slices of the tail: 64 fetches of 55 MB on a connection.
#[test]
fn little_is_kept_behind_a_fetch_that_waits() {
    const BYTES: usize = 900 << 10;
    let mut bench = bench(1, 2);
    bench.ask(0, &produce([(1, Some(batch(&[7; BYTES])))].into_iter()));
    let parked = Ask {
        min_bytes: i32::MAX,
        ..WAITING
    };
    bench.open(1);
    bench.send(1, &fetch(&parked, [(0, 0)].into_iter()));
    let behind = CONN_IN_FLIGHT_MAX - 1;
    for _ in 0..behind {
        bench.send(1, &fetch(&WAITING, [(1, 0)].into_iter()));
    }
    bench.settle();
    let kept = 1 + behind - bench.shards[0].fetches_begun();
    assert!(kept * BYTES <= CONN_REPLY_BYTES_MAX, "{kept} are kept");
    let before = bench.replies.len();
    bench.nanos += (FETCH_WAIT_MS_MAX + 1) * 1_000_000;
    bench.settle();
    let replies: Vec<usize> = bench.replies[before..]
        .iter()
        .map(|it| it.1.len())
        .collect();
    assert_eq!(replies.len(), 1 + behind, "all are answered");
    assert!(replies[0] < 1000, "the first had nothing");
    assert!(replies[1..].iter().all(|len| *len > BYTES), "{replies:?}");
    assert_eq!(pending(&bench), 0);
}

/// A fetch of partition 0 from its beginning on, with these limits.
fn within(bytes_min: i32, bytes_max: i32, of_partition: i32) -> Bytes {
    let mut request = FetchRequest::default();
    (request.max_wait_ms, request.min_bytes) = (i32::MAX, bytes_min);
    (request.max_bytes, request.session_epoch) = (bytes_max, -1);
    let mut topic = FetchTopic::default();
    topic.topic = "t".into();
    let mut at = FetchPartition::default();
    (at.current_leader_epoch, at.last_fetched_epoch) = (-1, -1);
    (at.log_start_offset, at.partition_max_bytes) = (-1, of_partition);
    topic.partitions = vec![at];
    request.topics = vec![topic];
    encode_request(1, Some("test"), VERSION, &request).unwrap()
}

/// As in Kafka, where `min.bytes` is never more than `max.bytes`.
#[test]
fn a_fetch_that_has_all_it_may_does_not_wait() {
    let mut bench = bench(1, 1);
    for _ in 0..100 {
        bench.ask(0, &produce([(0, Some(batch(&[1; 1000])))].into_iter()));
    }
    bench.open(1);
    for (min, max, of_partition) in [
        (i32::MAX, 30_000, 1 << 20),
        (30_000, 30_000, 1 << 20),
        (30_000, 1 << 20, 30_000),
        (-1, 30_000, 30_000),
        (30_000, -1, 30_000),
    ] {
        let before = bench.replies.len();
        bench.ask(1, &within(min, max, of_partition));
        let which = (min, max, of_partition);
        assert_eq!(bench.replies.len() - before, 1, "{which:?}");
    }
    // More than one partition may give is waited for, as in Kafka if it ends in the same segment.
    bench.ask(1, &within(30_001, 1 << 20, 30_000));
    assert_eq!((pending(&bench), watches(&bench)), (1, 1));
}

/// Each has the header of its first batch read; whose connection is gone is read no more for, but what is on its way is
/// still counted.
#[test]
fn fetches_read_no_more_at_a_time_than_there_is_memory_for() {
    let mut bench = on_disk();
    let most = FETCH_READS_BYTES_MAX / LOAD_BYTES_MIN;
    let conns = (2 * most / CONN_IN_FLIGHT_MAX) as u64;
    for conn in 1..=conns {
        bench.open(conn);
        for _ in 0..CONN_IN_FLIGHT_MAX {
            bench.send(conn, &fetch(&WAITING, [(0, 6)].into_iter()));
        }
    }
    for _ in 0..10 {
        bench.deliver();
        bench.idle(0);
    }
    assert!(bench.reads.len() <= most, "{} reads", bench.reads.len());
    (1..conns).for_each(|conn| bench.close(conn));
    bench.deliver();
    let before = bench.replies.len();
    bench.read_lens.clear();
    bench.settle();
    assert_eq!(bench.replies.len() - before, CONN_IN_FLIGHT_MAX);
    assert!(
        bench.read_lens.len() <= 2 * CONN_IN_FLIGHT_MAX,
        "nothing is read for nobody"
    );
    assert_eq!(pending(&bench), 0);
}
