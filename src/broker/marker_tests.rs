//! Ends of transactions, and those who read what is committed, through a whole broker.

use kafka_wire::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_wire::{ListOffsetsRequest, WriteTxnMarkersRequest};

use super::testing::Bench;
use crate::base::ErrorCode;
use crate::config::BrokerConfig;
use crate::wire::client::{decode_response, encode_request};

const TOPIC: &str = "t";

fn bench(shards: u16, partitions: i32) -> Bench {
    let mut bench = Bench::new(shards, BrokerConfig::default());
    bench.open(0);
    bench.create_topic(0, TOPIC, partitions);
    bench
}

fn marker(producer_epoch: i16, topic: &str, partitions: &[i32]) -> WritableTxnMarker {
    let mut marker = WritableTxnMarker::default();
    (marker.producer_id, marker.producer_epoch) = (7, producer_epoch);
    marker.coordinator_epoch = 3;
    let mut of_topic = WritableTxnMarkerTopic::default();
    of_topic.name = topic.into();
    of_topic.partition_indexes = partitions.to_vec();
    marker.topics.push(of_topic);
    marker
}

/// What each partition is answered, as it was asked.
fn write(bench: &mut Bench, markers: Vec<WritableTxnMarker>, version: i16) -> Vec<(i32, i16)> {
    let mut request = WriteTxnMarkersRequest::default();
    request.markers = markers;
    let frame = encode_request(1, Some("test"), version, &request).unwrap();
    let answer = bench.ask(0, &frame).unwrap().slice(4..);
    let (_, answer) = decode_response::<WriteTxnMarkersRequest>(answer, version).unwrap();
    let topics = answer.markers.iter().flat_map(|marker| &marker.topics);
    let partitions = topics.flat_map(|topic| &topic.partitions);
    partitions
        .map(|it| (it.partition_index, it.error_code))
        .collect()
}

fn end(bench: &mut Bench, index: i32) -> i64 {
    use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let mut request = ListOffsetsRequest::default();
    request.isolation_level = 1;
    let mut topic = ListOffsetsTopic::default();
    topic.name = TOPIC.into();
    let mut partition = ListOffsetsPartition::default();
    (partition.partition_index, partition.timestamp) = (index, -1);
    partition.current_leader_epoch = -1;
    topic.partitions.push(partition);
    request.topics.push(topic);
    let frame = encode_request(1, Some("test"), 7, &request).unwrap();
    let answer = bench.ask(0, &frame).unwrap().slice(4..);
    let (_, answer) = decode_response::<ListOffsetsRequest>(answer, 7).unwrap();
    answer.topics[0].partitions[0].offset
}

#[test]
fn transactions_are_ended_wherever_their_partitions_are() {
    let mut bench = bench(2, 4);
    for version in 1..=2 {
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        let stale = ErrorCode::InvalidProducerEpoch.code();
        let epoch = version;
        let markers = vec![
            marker(epoch, TOPIC, &[3, 0, 9, 1]),
            marker(epoch, "nothing", &[0]),
            marker(epoch - 1, TOPIC, &[2, 3]),
        ];
        let told = write(&mut bench, markers, version);
        let ok = vec![(3, 0), (0, 0), (9, unknown), (1, 0), (0, unknown)];
        assert_eq!(told, [ok, vec![(2, 0), (3, stale)]].concat());
    }
    let ends: Vec<i64> = (0..4).map(|index| end(&mut bench, index)).collect();
    assert_eq!(ends, [2, 2, 2, 2]);
    assert_eq!(write(&mut bench, Vec::new(), 1), []);
}

#[test]
fn too_many_at_once_close_the_connection() {
    let mut bench = bench(1, 1);
    let many = vec![0; crate::base::limits::MARKERS_PER_REQUEST_MAX + 1];
    let mut request = WriteTxnMarkersRequest::default();
    request.markers.push(marker(0, TOPIC, &many));
    let frame = encode_request(1, Some("test"), 1, &request).unwrap();
    bench.ask(0, &frame);
    assert_eq!(bench.closed.len(), 1);
}

#[test]
fn producers_are_described() {
    use kafka_wire::DescribeProducersRequest;
    use kafka_wire::describe_producers_request::TopicRequest;
    let mut bench = bench(2, 3);
    write(&mut bench, vec![marker(5, TOPIC, &[2])], 1);
    let mut request = DescribeProducersRequest::default();
    let mut topic = TopicRequest::default();
    topic.name = TOPIC.into();
    topic.partition_indexes = vec![2, 7, 0];
    request.topics.push(topic);
    let frame = encode_request(1, Some("test"), 0, &request).unwrap();
    let answer = bench.ask(0, &frame).unwrap().slice(4..);
    let (_, answer) = decode_response::<DescribeProducersRequest>(answer, 0).unwrap();
    let partitions = &answer.topics[0].partitions;
    let told = partitions
        .iter()
        .map(|it| (it.partition_index, it.error_code));
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert!(told.eq([(2, 0), (7, unknown), (0, 0)]));
    let producers = &partitions[0].active_producers;
    assert!(partitions[2].active_producers.is_empty() && producers.len() == 1);
    let it = &producers[0];
    assert_eq!(
        (it.producer_id, it.producer_epoch, it.coordinator_epoch),
        (7, 5, 3)
    );
    assert_eq!((it.last_sequence, it.current_txn_start_offset), (-1, -1));
}
