//! Offsets that are committed in transactions, through a whole broker of two shards.

use bytes::Bytes;
use kafka_wire as kw;
use kafka_wire::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_wire::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_wire::{KafkaRequest, RequestResponsePair};

use super::testing::Bench;
use crate::base::ErrorCode as E;
use crate::config::BrokerConfig;
use crate::wire::client::{decode_response, encode_request};

const ID: &str = "copier";

/// Asks, and has everything done that follows.
fn ask<R: KafkaRequest + RequestResponsePair>(
    bench: &mut Bench,
    version: i16,
    request: &R,
) -> R::Response {
    let frame: Bytes = encode_request(1, Some("test"), version, request).unwrap();
    let reply = bench.ask(1, &frame).expect("an answer");
    decode_response::<R>(reply.slice(4..), version).unwrap().1
}

/// Connection 1 is with shard 1; topic `t` has one partition, and both coordinators have their topics.
fn bench() -> Bench {
    let mut bench = Bench::new(
        2,
        BrokerConfig {
            offsets_topic_num_partitions: 2,
            ..BrokerConfig::default()
        },
    );
    (0..2).for_each(|conn| bench.open(conn));
    bench.create_topic(0, "t", 1);
    for (key, key_type) in [("a", 0), (ID, 1)] {
        let mut request = kw::FindCoordinatorRequest::default();
        (request.key, request.key_type) = (key.into(), key_type);
        assert_eq!(ask(&mut bench, 1, &request).error_code, 0, "{key}");
    }
    bench
}

/// A producer of the transactional id, by its id and epoch.
fn init(bench: &mut Bench) -> (i64, i16) {
    let mut request = kw::InitProducerIdRequest::default();
    request.transactional_id = Some(ID.into());
    request.transaction_timeout_ms = 60_000;
    let begun = ask(bench, 2, &request);
    assert_eq!(begun.error_code, 0);
    (begun.producer_id, begun.producer_epoch)
}

fn add_offsets(bench: &mut Bench, (id, epoch): (i64, i16), group: &str) -> i16 {
    let mut request = kw::AddOffsetsToTxnRequest::default();
    (request.transactional_id, request.group_id) = (ID.into(), group.into());
    (request.producer_id, request.producer_epoch) = (id, epoch);
    ask(bench, 3, &request).error_code
}

fn end(bench: &mut Bench, (id, epoch): (i64, i16), commits: bool) {
    let mut request = kw::EndTxnRequest::default();
    request.transactional_id = ID.into();
    (request.producer_id, request.producer_epoch) = (id, epoch);
    request.committed = commits;
    assert_eq!(ask(bench, 3, &request).error_code, 0);
}

/// Commits an offset of `t`, as this request is changed.
fn commit(
    bench: &mut Bench,
    version: i16,
    ((id, epoch), group, offset): ((i64, i16), &str, i64),
    change: impl FnOnce(&mut kw::TxnOffsetCommitRequest),
) -> i16 {
    let mut partition = TxnOffsetCommitRequestPartition::default();
    partition.committed_offset = offset;
    let mut topic = TxnOffsetCommitRequestTopic::default();
    (topic.name, topic.partitions) = ("t".into(), vec![partition]);
    let mut request = kw::TxnOffsetCommitRequest::default();
    (request.transactional_id, request.group_id) = (ID.into(), group.into());
    (request.producer_id, request.producer_epoch) = (id, epoch);
    request.topics = vec![topic];
    change(&mut request);
    let response = ask(bench, version, &request);
    response.topics[0].partitions[0].error_code
}

/// The offset of `t`, and the error.
fn fetch(bench: &mut Bench, group: &str, require_stable: bool) -> (i64, i16) {
    let mut topic = kw::offset_fetch_request::OffsetFetchRequestTopics::default();
    (topic.name, topic.partition_indexes) = ("t".into(), vec![0]);
    let mut one = OffsetFetchRequestGroup::default();
    (one.group_id, one.topics) = (group.into(), Some(vec![topic]));
    let mut request = kw::OffsetFetchRequest::default();
    (request.groups, request.require_stable) = (vec![one], require_stable);
    let response = ask(bench, 8, &request);
    let partition = &response.groups[0].topics[0].partitions[0];
    (partition.committed_offset, partition.error_code)
}

#[test]
fn they_count_when_the_transaction_is_committed() {
    let mut bench = bench();
    let producer = init(&mut bench);
    let unstable = (-1, E::UnstableOffsetCommit.code());
    for group in ["a", "b"] {
        let mut committed = -1;
        for version in 0..=4 {
            let offset = i64::from(version) * 10;
            let refused = commit(&mut bench, version, (producer, group, offset), |_| {});
            let wanted = match version {
                4 => E::TransactionAbortable,
                _ => E::InvalidTxnState,
            };
            assert_eq!(refused, wanted.code(), "version {version}: it is not added");
            for commits in [false, true] {
                assert_eq!(add_offsets(&mut bench, producer, group), 0);
                let of = (producer, group, offset);
                assert_eq!(commit(&mut bench, version, of, |_| {}), 0);
                assert_eq!(fetch(&mut bench, group, true), unstable);
                assert_eq!(fetch(&mut bench, group, false), (committed, 0));
                end(&mut bench, producer, commits);
                committed = if commits { offset } else { committed };
                assert_eq!(fetch(&mut bench, group, true), (committed, 0));
            }
        }
    }
}

#[test]
fn what_is_refused_is_refused_as_by_kafka() {
    let mut bench = bench();
    let producer = init(&mut bench);
    assert_eq!(add_offsets(&mut bench, producer, "a"), 0);
    let of = (producer, "a", 5);
    let mut refused =
        |change: fn(&mut kw::TxnOffsetCommitRequest)| commit(&mut bench, 3, of, change);
    assert_eq!(
        refused(|r| r.group_id = "".into()),
        E::InvalidGroupId.code()
    );
    let unknown = E::UnknownTopicOrPartition.code();
    assert_eq!(refused(|r| r.topics[0].name = "u".into()), unknown);
    assert_eq!(
        refused(|r| r.topics[0].partitions[0].partition_index = 1),
        unknown
    );
    let generation = refused(|r| r.generation_id_or_member_epoch = 3);
    assert_eq!(generation, E::IllegalGeneration.code());
    let id = refused(|r| r.transactional_id = "other".into());
    assert_eq!(id, E::InvalidProducerIdMapping.code());
    let epoch = refused(|r| r.producer_epoch = 9);
    assert_eq!(epoch, E::InvalidProducerEpoch.code());
    assert_eq!(refused(|_| {}), 0);
    end(&mut bench, producer, true);
    assert_eq!(fetch(&mut bench, "a", true), (5, 0));
}

#[test]
fn in_version_2_they_are_part_of_the_transaction_by_being_committed() {
    let mut bench = bench();
    let mut producer = init(&mut bench);
    let mut request = kw::MetadataRequest::default();
    let mut topic = kw::metadata_request::MetadataRequestTopic::default();
    topic.name = Some("t".into());
    request.topics = Some(vec![topic]);
    let id = ask(&mut bench, 12, &request).topics[0].topic_id;
    let mut committed = -1;
    for (version, commits) in [(5, false), (6, true), (5, true)] {
        let offset = committed + 10;
        let code = commit(&mut bench, version, (producer, "a", offset), |r| {
            r.topics[0].topic_id = id;
        });
        assert_eq!(code, 0, "version {version}");
        let unstable = (-1, E::UnstableOffsetCommit.code());
        assert_eq!(fetch(&mut bench, "a", true), unstable);
        let mut request = kw::EndTxnRequest::default();
        (request.transactional_id, request.committed) = (ID.into(), commits);
        (request.producer_id, request.producer_epoch) = producer;
        let ended = ask(&mut bench, 5, &request);
        assert_eq!(ended.error_code, 0);
        committed = if commits { offset } else { committed };
        assert_eq!(fetch(&mut bench, "a", true), (committed, 0));
        let late = commit(&mut bench, 5, (producer, "a", 99), |_| {});
        assert_eq!(late, E::InvalidProducerEpoch.code());
        producer = (ended.producer_id, ended.producer_epoch);
    }
    // What its group refuses has begun all the same, as with Kafka.
    let refused = |r: &mut kw::TxnOffsetCommitRequest| r.generation_id_or_member_epoch = 3;
    let told = commit(&mut bench, 5, (producer, "b", 1), refused);
    assert_eq!(told, E::IllegalGeneration.code());
    let stranger = (producer.0, producer.1 + 3);
    let told = commit(&mut bench, 5, (stranger, "b", 1), refused);
    assert_eq!(told, E::InvalidProducerEpoch.code());
    end(&mut bench, producer, true);
}
