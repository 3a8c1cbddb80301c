//! Fetches that come together: of one session, of many partitions, of connections that are gone.

use bytes::Bytes;
use kafka_wire::FetchRequest;

use super::cost_tests::{Ask, VERSION, WAITING, batch, bench, fetch, pending, produce, watches};
use crate::base::ErrorCode;
use crate::base::limits::{FETCHED_PER_TURN, PARTITIONS_PER_SLICE};
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
