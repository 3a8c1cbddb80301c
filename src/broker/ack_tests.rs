//! What a produce request waits for before it is answered: its own records, or their originals, and nothing else.

use bytes::Bytes;

use super::cost_tests::{TOPIC, VERSION, base_offset, batch, bench, produce};
use super::testing::Bench;
use crate::record::{BatchBuilder, Codec};
use crate::wire::TopicRef;
use crate::wire::client::encode_produce_flat;
use crate::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};

/// A batch of one record by the idempotent producer 7.
fn numbered(sequence: i32) -> Option<Bytes> {
    let builder = BatchBuilder::new(Codec::None, 1_700_000_000_000);
    let mut builder = builder.producer(7, 0, sequence);
    builder.push(1_700_000_000_000, None, Some(b"value"), &[]);
    Some(builder.build())
}

fn send(bench: &mut Bench, conn: u64, index: i32, records: Option<Bytes>) {
    bench.send(conn, &produce([(index, records)].into_iter()));
}

/// Connections that got a reply since so many were there.
fn replied(bench: &Bench, before: usize) -> Vec<u64> {
    let mut conns: Vec<u64> = bench.replies[before..]
        .iter()
        .map(|(conn, _)| conn.0)
        .collect();
    conns.sort_unstable();
    conns
}

/// Two partitions of one store, with connections 0 and 1.
fn two_partitions() -> (Bench, usize) {
    let mut bench = bench(1, 2);
    bench.open(1);
    let before = bench.replies.len();
    (bench, before)
}

#[test]
fn a_retry_waits_for_its_original() {
    let (mut bench, before) = two_partitions();
    send(&mut bench, 0, 0, numbered(0));
    bench.idle(0);
    assert!(
        !bench.coming.is_empty(),
        "the flush of the original is on its way"
    );
    send(&mut bench, 1, 0, numbered(0));
    assert_eq!(replied(&bench, before), [0_u64; 0]);
    bench.settle();
    assert_eq!(replied(&bench, before), [0, 1]);
    let replies = &bench.replies[before..];
    assert!(replies.iter().all(|(_, reply)| base_offset(reply) == 0));
    assert_eq!(bench.shards[0].waiting().0, 0);
}

#[test]
fn a_retry_of_what_is_durable_waits_for_nothing() {
    let (mut bench, before) = two_partitions();
    send(&mut bench, 0, 0, numbered(0));
    bench.settle();
    // Others of the same partition, and of the same store, are still to be flushed.
    send(&mut bench, 0, 0, numbered(1));
    send(&mut bench, 0, 1, Some(batch(b"value")));
    send(&mut bench, 1, 0, numbered(0));
    assert_eq!(replied(&bench, before), [0, 1]);
    assert_eq!(base_offset(&bench.replies[before + 1].1), 0);
    bench.settle();
    assert_eq!(replied(&bench, before), [0, 0, 0, 1]);
}

#[test]
fn what_a_flush_makes_durable_is_answered_whatever_else_waits() {
    let (mut bench, before) = two_partitions();
    send(&mut bench, 0, 0, Some(batch(b"value")));
    bench.idle(0);
    let flush = std::mem::take(&mut bench.coming);
    send(&mut bench, 1, 0, Some(batch(b"value")));
    bench.coming = flush;
    while replied(&bench, before).is_empty() {
        bench.deliver();
    }
    assert_eq!(replied(&bench, before), [0]);
    bench.settle();
    assert_eq!(replied(&bench, before), [0, 1]);
}

/// As in Kafka, which does not count what its own log takes.
#[test]
fn a_timeout_does_not_limit_what_this_nodes_disk_takes() {
    let (mut bench, before) = two_partitions();
    for acks in [-1, 1] {
        let request = ProduceRequest {
            transactional_id: None,
            acks,
            timeout_ms: 0,
            topics: vec![ProduceTopic {
                topic: TopicRef::Name(TOPIC.into()),
                partitions: vec![ProducePartition {
                    index: 0,
                    records: Some(batch(b"value")),
                }],
            }],
        };
        bench.send(0, &encode_produce_flat(1, Some("test"), VERSION, &request));
    }
    bench.idle(0);
    let flush = std::mem::take(&mut bench.coming);
    bench.nanos += 60_000_000_000;
    while bench.idle(0) {}
    assert_eq!(replied(&bench, before), [0_u64; 0]);
    bench.coming = flush;
    bench.settle();
    assert_eq!(replied(&bench, before), [0, 0]);
    let offsets = bench.replies[before..].iter();
    let offsets: Vec<i64> = offsets.map(|(_, reply)| base_offset(reply)).collect();
    assert_eq!(offsets, [0, 1]);
}
