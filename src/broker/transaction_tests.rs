//! Transactional ids through a whole broker: the requests of a producer, from its first to its last.

use kafka_wire::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_wire::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DeleteTopicsRequest,
    DescribeTransactionsRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ListTransactionsRequest, RequestResponsePair,
};
use kafka_wire_core::KafkaEncode;

use super::testing::Bench;
use crate::base::ErrorCode as E;
use crate::config::BrokerConfig;
use crate::record::{BatchBuilder, Codec};
use crate::wire::client::{decode_response, encode_request};

const TOPIC: &str = "t";

fn bench() -> Bench {
    let config = BrokerConfig {
        transaction_state_log_num_partitions: 4,
        ..BrokerConfig::default()
    };
    bench_of(2, config)
}

fn bench_of(shards: u16, config: BrokerConfig) -> Bench {
    let mut bench = Bench::new(shards, config);
    bench.open(0);
    bench.create_topic(0, TOPIC, 4);
    let mut request = FindCoordinatorRequest::default();
    (request.key, request.key_type) = ("x".into(), 1);
    let found = ask(&mut bench, 1, &request);
    assert_eq!(found.error_code, 0);
    bench
}

/// With a store that takes as little as one may.
fn small_bench() -> Bench {
    let config = BrokerConfig {
        transaction_state_log_num_partitions: 1,
        millrace_store_journal_bytes: 4 << 20,
        millrace_store_initial_bytes: 16 << 20,
        millrace_store_bytes_max: 24 << 20,
        ..BrokerConfig::default()
    };
    bench_of(1, config)
}

fn ask<Q: RequestResponsePair + KafkaEncode>(
    bench: &mut Bench,
    version: i16,
    request: &Q,
) -> Q::Response {
    let frame = encode_request(1, Some("test"), version, request).unwrap();
    let answer = bench.ask(0, &frame).unwrap().slice(4..);
    decode_response::<Q>(answer, version).unwrap().1
}

fn init(bench: &mut Bench, id: &str, version: i16) -> (i16, i64, i16) {
    let mut request = InitProducerIdRequest::default();
    (request.transactional_id, request.transaction_timeout_ms) = (Some(id.into()), 60_000);
    let answer = ask(bench, version, &request);
    (answer.error_code, answer.producer_id, answer.producer_epoch)
}

fn add(bench: &mut Bench, id: &str, (producer, epoch): (i64, i16), partitions: &[i32]) -> Vec<i16> {
    let mut request = AddPartitionsToTxnRequest::default();
    request.v3_and_below_transactional_id = id.into();
    request.v3_and_below_producer_id = producer;
    request.v3_and_below_producer_epoch = epoch;
    let mut topic = AddPartitionsToTxnTopic::default();
    (topic.name, topic.partitions) = (TOPIC.into(), partitions.to_vec());
    request.v3_and_below_topics.push(topic);
    let answer = ask(bench, 3, &request);
    let topics = answer.results_by_topic_v3_and_below.into_iter();
    let partitions = topics.flat_map(|it| it.results_by_partition);
    partitions.map(|it| it.partition_error_code).collect()
}

fn end(bench: &mut Bench, id: &str, (producer, epoch): (i64, i16), version: i16) -> i16 {
    let mut request = EndTxnRequest::default();
    (request.transactional_id, request.committed) = (id.into(), true);
    (request.producer_id, request.producer_epoch) = (producer, epoch);
    ask(bench, version, &request).error_code
}

/// By a client of version 2: as whom it goes on.
fn end_2(
    bench: &mut Bench,
    id: &str,
    (producer, epoch): (i64, i16),
    commits: bool,
) -> Result<(i64, i16), i16> {
    let mut request = EndTxnRequest::default();
    (request.transactional_id, request.committed) = (id.into(), commits);
    (request.producer_id, request.producer_epoch) = (producer, epoch);
    let answer = ask(bench, 5, &request);
    let next = (answer.producer_id, answer.producer_epoch);
    match answer.error_code {
        0 => Ok(next),
        error => {
            assert_eq!(next, (-1, -1), "nobody");
            Err(error)
        }
    }
}

/// A broker wants a partition to be part of a transaction.
fn add_as_broker(bench: &mut Bench, id: &str, (producer, epoch): (i64, i16), index: i32) -> i16 {
    let mut topic = AddPartitionsToTxnTopic::default();
    (topic.name, topic.partitions) = (TOPIC.into(), vec![index]);
    let mut one = AddPartitionsToTxnTransaction::default();
    (one.transactional_id, one.topics) = (id.into(), vec![topic]);
    (one.producer_id, one.producer_epoch) = (producer, epoch);
    let mut request = AddPartitionsToTxnRequest::default();
    request.transactions.push(one);
    let answer = ask(bench, 5, &request);
    answer.results_by_transaction[0].topic_results[0].results_by_partition[0].partition_error_code
}

fn state(bench: &mut Bench, id: &str) -> (i16, String, usize) {
    let mut request = DescribeTransactionsRequest::default();
    request.transactional_ids.push(id.into());
    let mut answer = ask(bench, 0, &request).transaction_states;
    let it = answer.remove(0);
    let partitions = it.topics.iter().map(|topic| topic.partitions.len()).sum();
    (it.error_code, it.transaction_state.to_string(), partitions)
}

#[test]
fn a_producer_and_its_transactions_on_whichever_shard() {
    let mut bench = bench();
    for number in 0..6i64 {
        let id = format!("id-{number}");
        let (error, producer, epoch) = init(&mut bench, &id, 4);
        assert_eq!((error, epoch), (0, 0));
        assert_eq!(producer, number, "each has its own");
        let me = (producer, epoch);
        let (unknown, not_tried) = (E::UnknownTopicOrPartition, E::OperationNotAttempted);
        let told = add(&mut bench, &id, me, &[0, 9]);
        assert_eq!(told, [not_tried.code(), unknown.code()]);
        assert_eq!(add(&mut bench, &id, me, &[0, 3]), [0, 0]);
        assert_eq!(state(&mut bench, &id), (0, "Ongoing".into(), 2));
        let mut offsets = AddOffsetsToTxnRequest::default();
        (offsets.transactional_id, offsets.group_id) = (id.as_str().into(), "g".into());
        (offsets.producer_id, offsets.producer_epoch) = me;
        assert_eq!(ask(&mut bench, 3, &offsets).error_code, 0);
        assert_eq!(state(&mut bench, &id).2, 3);
    }
    let mut request = ListTransactionsRequest::default();
    request.state_filters = vec!["Ongoing".into(), "Tired".into()];
    let listed = ask(&mut bench, 0, &request);
    assert_eq!((listed.error_code, listed.transaction_states.len()), (0, 6));
    let unknown: Vec<&str> = listed
        .unknown_state_filters
        .iter()
        .map(|it| &**it)
        .collect();
    assert_eq!(unknown, ["Tired"]);
    // Its partitions are all of this node: the markers are written at once.
    assert_eq!(end(&mut bench, "id-1", (1, 0), 3), 0);
    let (_, state, partitions) = state(&mut bench, "id-1");
    // The group's topic was never made, so it is waited for: whoever knows it may not be heard yet.
    assert_eq!((state.as_str(), partitions), ("PrepareCommit", 3));
}

#[test]
fn what_is_fenced_is_told_so_as_its_version_knows_it() {
    let mut bench = bench();
    let (_, producer, first) = init(&mut bench, "x", 4);
    assert_eq!(init(&mut bench, "x", 4), (0, producer, first + 1));
    let old = (producer, first);
    assert_eq!(end(&mut bench, "x", old, 1), E::InvalidProducerEpoch.code());
    assert_eq!(end(&mut bench, "x", old, 2), E::ProducerFenced.code());
    assert_eq!(add(&mut bench, "x", old, &[1]), [E::ProducerFenced.code()]);
    let unknown = E::InvalidProducerIdMapping.code();
    assert_eq!(end(&mut bench, "nobody", old, 2), unknown);
    assert_eq!(end(&mut bench, "", old, 2), E::InvalidRequest.code());
    let not_found = E::TransactionalIdNotFound.code();
    assert_eq!(state(&mut bench, "nobody").0, not_found);
}

#[test]
fn a_transaction_is_complete_when_its_partitions_have_their_markers() {
    let mut bench = bench();
    let (_, producer, epoch) = init(&mut bench, "x", 4);
    for round in 0..3 {
        let me = (producer, epoch);
        assert_eq!(add(&mut bench, "x", me, &[0, 1, 2, 3]), [0; 4]);
        assert_eq!(end(&mut bench, "x", me, 3), 0);
        let done = (0, "CompleteCommit".to_owned(), 0);
        assert_eq!(state(&mut bench, "x"), done, "{round}");
    }
}

/// Somebody who is nobody's producer writes as one, in an epoch that the coordinator has not given out.
#[test]
fn a_transaction_is_complete_though_a_partition_knows_a_newer_epoch() {
    for version in [3, 5] {
        let mut bench = bench();
        let (_, producer, epoch) = init(&mut bench, "x", version);
        let me = (producer, epoch);
        let batch = BatchBuilder::new(Codec::None, 0).producer(producer, epoch + 7, 0);
        assert_eq!(bench.produce_batch(TOPIC, 1, (batch, 10)), 0);
        match version {
            5 => assert_eq!(add_as_broker(&mut bench, "x", me, 1), 0),
            _ => assert_eq!(add(&mut bench, "x", me, &[0, 1]), [0; 2]),
        }
        assert_eq!(end(&mut bench, "x", me, version), 0);
        let done = (0, "CompleteCommit".to_owned(), 0);
        assert_eq!(state(&mut bench, "x"), done, "{version}");
    }
}

#[test]
fn what_is_open_ends_though_the_store_is_full() {
    let mut bench = small_bench();
    let all: Vec<String> = (0..20).map(|number| format!("id-{number}")).collect();
    let mut producers = Vec::new();
    for id in &all {
        let (error, producer, epoch) = init(&mut bench, id, 4);
        assert_eq!(error, 0);
        assert_eq!(add(&mut bench, id, (producer, epoch), &[0, 1]), [0; 2]);
        producers.push((producer, epoch));
    }
    for bytes in [900_000, 10_000, 1] {
        while bench.produce(TOPIC, 3, bytes) == 0 {}
    }
    // Nothing begins. NOT_COORDINATOR is what Kafka makes of KAFKA_STORAGE_ERROR.
    let full = E::NotCoordinator.code();
    assert_eq!(init(&mut bench, "z", 4).0, full);
    assert_eq!(add(&mut bench, &all[0], producers[0], &[2]), [full]);
    for (number, (id, me)) in all.iter().zip(&producers).enumerate() {
        if number % 2 == 0 {
            assert_eq!(end(&mut bench, id, *me, 3), 0);
            let done = (0, "CompleteCommit".to_owned(), 0);
            assert_eq!(state(&mut bench, id), done);
            continue;
        }
        // Another one's.
        assert_eq!(init(&mut bench, id, 4).0, E::ConcurrentTransactions.code());
        assert_eq!(state(&mut bench, id).1, "CompleteAbort");
        assert_eq!(init(&mut bench, id, 4).0, full);
    }
    // There is room for the broker yet, and then for everybody.
    let mut request = DeleteTopicsRequest::default();
    request.topic_names = vec![TOPIC.into()];
    assert_eq!(ask(&mut bench, 5, &request).responses[0].error_code, 0);
    assert_eq!(init(&mut bench, "z", 4).0, 0);
}

#[test]
fn in_version_2_each_end_makes_the_epoch_grow_and_may_be_asked_for_again() {
    let mut bench = bench();
    for id in ["x", "y", "z"] {
        let (_, producer, epoch) = init(&mut bench, id, 5);
        let mut me = (producer, epoch);
        for commits in [true, false, true] {
            assert_eq!(add_as_broker(&mut bench, id, me, 1), 0);
            let next = (me.0, me.1 + 1);
            assert_eq!(end_2(&mut bench, id, me, commits), Ok(next));
            assert_eq!(end_2(&mut bench, id, me, commits), Ok(next), "again");
            let told = end_2(&mut bench, id, me, !commits);
            assert_eq!(told, Err(E::InvalidTxnState.code()));
            let late = add_as_broker(&mut bench, id, me, 2);
            assert_eq!(late, E::ProducerFenced.code());
            assert_eq!(end(&mut bench, id, me, 4), E::ProducerFenced.code());
            me = next;
        }
        let nothing = end_2(&mut bench, id, me, true);
        assert_eq!(nothing, Err(E::InvalidTxnState.code()));
        assert_eq!(end_2(&mut bench, id, me, false), Ok((me.0, me.1 + 1)));
    }
    let told = end_2(&mut bench, "", (0, 0), true);
    assert_eq!(told, Err(E::InvalidRequest.code()));
}
