//! What one request may cost, counted in work and not in time.

use bytes::Bytes;
use kafka_wire::fetch_request::{FetchPartition, FetchTopic};
use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::{FetchRequest, ListOffsetsRequest};
use kafka_wire_core::StrBytes;

use super::io::Input;
use super::testing::Bench;
use crate::base::ErrorCode;
use crate::base::crc::crc32c;
use crate::base::limits::{
    FETCH_WAIT_MS_MAX, OPEN_BYTES_PER_BYTE, ORPHANED_BYTES_MAX, PARTITIONS_PER_SLICE,
    QUERY_READS_BYTES_MAX, REQUEST_ENTRIES_MAX, STOPPING_WORK_MAX, TIME_LOOKUP_SHORT_WORK,
    TIME_LOOKUPS_OPENING_MAX, VALIDATION_SLICE_WORK, VALIDATION_TURN_WORK, WAKES_PER_SLICE,
};
use crate::config::BrokerConfig;
use crate::record::{BatchBuilder, Codec};
use crate::wire::TopicRef;
use crate::wire::client::{encode_produce_flat, encode_request};
use crate::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};

pub(super) const TOPIC: &str = "t";
pub(super) const VERSION: i16 = 12;

pub(super) struct Ask {
    pub wait_ms: i32,
    pub min_bytes: i32,
    /// 0 to open a session, -1 for none.
    pub session_epoch: i32,
}

pub(super) const WAITING: Ask = Ask {
    wait_ms: i32::MAX,
    min_bytes: 1,
    session_epoch: -1,
};

pub(super) fn fetch(ask: &Ask, partitions: impl Iterator<Item = (i32, i64)>) -> Bytes {
    let mut topic = FetchTopic::default();
    topic.topic = StrBytes::from(TOPIC);
    topic.partitions = partitions
        .map(|(index, offset)| {
            let mut at = FetchPartition::default();
            at.partition = index;
            at.current_leader_epoch = -1;
            at.fetch_offset = offset;
            at.last_fetched_epoch = -1;
            at.log_start_offset = -1;
            at.partition_max_bytes = 1 << 20;
            at
        })
        .collect();
    let mut request = FetchRequest::default();
    request.max_wait_ms = ask.wait_ms;
    request.min_bytes = ask.min_bytes;
    request.max_bytes = 50 << 20;
    request.session_epoch = ask.session_epoch;
    request.topics = vec![topic];
    encode_request(1, Some("test"), VERSION, &request).unwrap()
}

pub(super) fn produce(parts: impl Iterator<Item = (i32, Option<Bytes>)>) -> Bytes {
    let partitions = parts
        .map(|(index, records)| ProducePartition { index, records })
        .collect();
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![ProduceTopic {
            topic: TopicRef::Name(TOPIC.into()),
            partitions,
        }],
    };
    encode_produce_flat(1, Some("test"), VERSION, &request)
}

pub(super) fn list_offsets(partitions: std::ops::Range<i32>) -> Bytes {
    look_up(partitions, -1)
}

pub(super) fn look_up(partitions: std::ops::Range<i32>, timestamp: i64) -> Bytes {
    let mut topic = ListOffsetsTopic::default();
    topic.name = StrBytes::from(TOPIC);
    topic.partitions = partitions
        .map(|index| {
            let mut partition = ListOffsetsPartition::default();
            partition.partition_index = index;
            partition.current_leader_epoch = -1;
            partition.timestamp = timestamp;
            partition
        })
        .collect();
    let mut request = ListOffsetsRequest::default();
    request.topics = vec![topic];
    encode_request(1, Some("test"), 7, &request).unwrap()
}

pub(super) fn batch(value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None, 1_700_000_000_000);
    builder.push(1_700_000_000_000, None, Some(value), &[]);
    builder.build()
}

pub(super) fn bench(shards: u16, partitions: i32) -> Bench {
    let mut bench = Bench::new(shards, BrokerConfig::default());
    bench.open(0);
    bench.create_topic(0, TOPIC, partitions);
    bench
}

pub(super) fn pending(bench: &Bench) -> usize {
    let shards = bench.shards.iter();
    shards.map(|shard| shard.waiting().0).sum()
}

pub(super) fn watches(bench: &Bench) -> usize {
    let shards = bench.shards.iter();
    shards.map(|shard| shard.waiting().1).sum()
}

#[test]
fn a_partition_named_many_times_is_read_and_answered_once() {
    let mut bench = bench(1, 2);
    bench.ask(0, &produce([(0, Some(batch(b"value")))].into_iter()));
    let once = bench.ask(0, &fetch(&WAITING, [(0, 0)].into_iter()));
    let last = (REQUEST_ENTRIES_MAX - 2) as i64;
    let many = fetch(&WAITING, (0..=last).map(|n| (0, last - n)));
    assert_eq!(bench.ask(0, &many), once, "the last naming counts");
}

#[test]
fn a_request_of_too_many_entries_closes_its_connection() {
    let frames = [
        fetch(&WAITING, (0..REQUEST_ENTRIES_MAX as i32).map(|n| (n, 0))),
        produce((0..REQUEST_ENTRIES_MAX as i32).map(|n| (n, None))),
    ];
    for frame in frames {
        let mut bench = bench(1, 1);
        let before = bench.replies.len();
        assert_eq!(bench.ask(0, &frame).is_some(), before > 0);
        assert_eq!((bench.replies.len(), bench.closed.len()), (before, 1));
        assert!(
            bench.closed[0].1.contains("more entries"),
            "{:?}",
            bench.closed
        );
    }
}

/// As in Kafka, which does not look at a request before the one before it is answered.
#[test]
fn what_came_before_a_malformed_request_is_answered() {
    let malformed_body = list_offsets(0..1).slice(..30);
    let unknown_api = Bytes::from_static(&[0, 0, 0, 0, 0x7f, 0xff, 0, 0, 0, 0, 0, 1]);
    for malformed in [malformed_body, unknown_api] {
        let mut bench = bench(2, 2);
        bench.open(1);
        bench.send(
            1,
            &produce([(0, Some(batch(b"1"))), (1, Some(batch(b"2")))].into_iter()),
        );
        // Waits for the produce, and has its turn all the same.
        bench.send(1, &list_offsets(0..2));
        bench.send(1, &malformed);
        bench.send(1, &list_offsets(0..2));
        let before = bench.replies.len();
        assert_eq!(bench.closed, []);
        bench.settle();
        assert_eq!(bench.replies.len() - before, 2);
        assert_eq!(bench.closed.len(), 1, "{malformed:?}");
        assert_eq!(pending(&bench), 0);
    }
}

#[test]
fn a_question_about_many_partitions_is_answered_whole() {
    let mut bench = bench(2, 5 * PARTITIONS_PER_SLICE as i32);
    bench.open(1);
    let all = 5 * PARTITIONS_PER_SLICE as i32;
    let asked = bench.ask(1, &list_offsets(0..all)).unwrap();
    assert!(asked.len() > all as usize * 22);
    let waiting = fetch(&WAITING, (0..all).map(|index| (index, 0)));
    bench.send(1, &waiting);
    bench.settle();
    assert_eq!(
        watches(&bench),
        2,
        "each shard has planned all its partitions"
    );
    let value = Some(batch(b"value"));
    let found = bench.ask(0, &produce([(all - 1, value)].into_iter()));
    assert!(found.is_some());
    assert_eq!((watches(&bench), pending(&bench)), (0, 0));
}

#[test]
fn a_crowd_of_waiting_fetches_is_woken_some_at_a_time() {
    let mut bench = bench(1, 1);
    let crowd = 20 * WAKES_PER_SLICE as u64;
    let frame = fetch(&WAITING, [(0, 0)].into_iter());
    for conn in 1..=crowd {
        bench.open(conn);
        bench.send(conn, &frame);
    }
    bench.settle();
    assert_eq!(watches(&bench), crowd as usize);
    bench.send(0, &produce([(0, Some(batch(b"value")))].into_iter()));
    let mut before = bench.replies.len();
    let mut most = 0;
    loop {
        let coming: Vec<_> = bench.coming.drain(..).collect();
        let nothing_came = coming.is_empty();
        for (shard, input) in coming {
            bench.handle(shard, input);
            most = most.max(bench.replies.len() - before);
            before = bench.replies.len();
        }
        let more = bench.idle(0);
        most = most.max(bench.replies.len() - before);
        before = bench.replies.len();
        if nothing_came && !more && bench.coming.is_empty() {
            break;
        }
    }
    assert_eq!(watches(&bench), 0, "all were answered");
    // The acknowledgement may leave together with some of them.
    assert!(most <= WAKES_PER_SLICE + 1, "{most} at once");
}

#[test]
fn a_crowd_whose_time_is_up_is_answered_some_at_a_time() {
    let mut bench = bench(1, 1);
    let crowd = 10 * WAKES_PER_SLICE as u64;
    let frame = fetch(&WAITING, [(0, 0)].into_iter());
    for conn in 1..=crowd {
        bench.open(conn);
        bench.send(conn, &frame);
    }
    bench.settle();
    bench.nanos += (FETCH_WAIT_MS_MAX + 1000) * 1_000_000;
    let before = bench.replies.len();
    bench.idle(0);
    assert_eq!(bench.replies.len() - before, WAKES_PER_SLICE);
    bench.settle();
    assert_eq!(bench.replies.len() - before, crowd as usize);
}

#[test]
fn what_a_closed_connection_asked_for_is_forgotten_wherever_it_is() {
    // Before the owners hear of it, while they answer, and when it is parked.
    for delivered in 0..3 {
        let mut bench = bench(2, 8);
        bench.open(1);
        let ask = Ask {
            min_bytes: i32::MAX,
            ..WAITING
        };
        bench.send(1, &fetch(&ask, (0..8).map(|index| (index, 0))));
        for _ in 0..delivered {
            bench.deliver();
        }
        assert_eq!(pending(&bench), 1, "{delivered} deliveries");
        bench.close(1);
        assert_eq!(pending(&bench), 0, "{delivered} deliveries");
        bench.settle();
        assert_eq!(watches(&bench), 0, "{delivered} deliveries");
    }
}

#[test]
fn other_requests_of_a_closed_connection_are_forgotten_too() {
    let mut bench = bench(2, 8);
    bench.open(1);
    let all = (0..8).map(|index| (index, Some(batch(b"value"))));
    bench.send(1, &produce(all));
    assert_eq!(pending(&bench), 1);
    bench.close(1);
    assert_eq!(pending(&bench), 0);
    bench.settle();
    bench.open(3);
    let found = bench.ask(3, &fetch(&WAITING, [(0, 0)].into_iter()));
    assert!(found.is_some(), "what was produced is there all the same");
}

#[test]
fn a_stop_answers_every_fetch_that_waits_or_is_about_to() {
    let mut bench = bench(1, 1);
    let crowd = 3 * WAKES_PER_SLICE as u64;
    let frame = fetch(&WAITING, [(0, 0)].into_iter());
    for conn in 1..=crowd {
        bench.open(conn);
        bench.send(conn, &frame);
    }
    bench.settle();
    let before = bench.replies.len();
    bench.handle(0, Input::Shutdown);
    bench.settle();
    assert_eq!(bench.replies.len() - before, crowd as usize);
    assert_eq!((pending(&bench), bench.drained), (0, 1));
    assert!(bench.ask(0, &frame).is_some(), "nobody waits any more");
}

/// A batch that opens to so many bytes, and is small.
fn bomb(codec: Codec, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(codec, 1_700_000_000_000);
    builder.push(1_700_000_000_000, None, Some(&vec![0; bytes]), &[]);
    builder.build()
}

/// Length, correlation id, tags, one topic: its name, one partition: index; the error code is next.
const ERROR_AT: usize = 4 + 4 + 1 + 1 + 2 + 1 + 4;

pub(super) fn base_offset(reply: &Bytes) -> i64 {
    let at = ERROR_AT;
    assert_eq!(reply[at..at + 2], [0, 0], "an error");
    i64::from_be_bytes(reply[at + 2..at + 10].try_into().unwrap())
}

fn error_code(reply: &Bytes) -> i16 {
    i16::from_be_bytes(reply[ERROR_AT..ERROR_AT + 2].try_into().unwrap())
}

/// Lets everything happen, and holds what is opened against each input; how many inputs that took.
fn settle_in_slices(bench: &mut Bench) -> usize {
    /// The last step of a slice.
    const STEP: u64 = 64 * 1024 + 64;
    let (mut inputs, mut opened) = (0, bench.shards[0].opened());
    loop {
        let coming: Vec<_> = bench.coming.drain(..).collect();
        let nothing_came = coming.is_empty();
        for (shard, input) in coming {
            bench.handle(shard, input);
        }
        let more = bench.idle(0);
        let now = bench.shards[0].opened();
        assert!(now - opened <= VALIDATION_SLICE_WORK as u64 + STEP);
        opened = now;
        inputs += 1;
        if nothing_came && !more && bench.coming.is_empty() {
            return inputs;
        }
    }
}

#[test]
fn what_opens_to_much_is_opened_in_slices_and_holds_nobody_up() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut bench = bench(1, 2);
        bench.open(1);
        let before = bench.replies.len();
        let frame = produce([(0, Some(bomb(codec, 8 << 20)))].into_iter());
        bench.send(1, &frame);
        assert!(bench.shards[0].opened() <= 2 * VALIDATION_SLICE_WORK as u64);
        // Behind it on the same connection: it may not overtake.
        bench.send(1, &produce([(0, Some(batch(b"second")))].into_iter()));
        // Another client's is answered before it is done.
        bench.send(0, &produce([(1, Some(batch(b"other")))].into_iter()));
        let mut turns = 0;
        while bench.last_reply(0).is_none() || bench.replies.len() == before {
            bench.deliver();
            bench.idle(0);
            turns += 1;
        }
        assert!(turns < 10, "{turns}");
        assert_eq!(bench.replies[before].0.0, 0, "{codec:?}");
        assert!(settle_in_slices(&mut bench) >= 20, "{codec:?}");
        let to_first: Vec<_> = bench.replies[before..].iter().collect();
        let offsets: Vec<i64> = to_first
            .iter()
            .filter(|(conn, _)| conn.0 == 1)
            .map(|(_, reply)| base_offset(reply))
            .collect();
        assert_eq!(offsets, [0, 1], "{codec:?}");
    }
}

/// What cannot be opened takes as long as what can.
#[test]
fn damaged_batches_are_refused_in_slices() {
    const BATCHES: usize = 100;
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Zstd] {
        let mut bench = bench(1, 1);
        let mut damaged = batch(b"no codec wrote this").to_vec();
        damaged[22] = codec.id();
        let crc = crc32c(&damaged[21..]);
        damaged[17..21].copy_from_slice(&crc.to_be_bytes());
        let damaged = Bytes::from(damaged);
        bench.send(
            0,
            &produce((0..BATCHES).map(|_| (0, Some(damaged.clone())))),
        );
        let slices = settle_in_slices(&mut bench);
        assert!(
            slices >= BATCHES * 64 * 1024 / VALIDATION_SLICE_WORK / 2,
            "{codec:?}: {slices}"
        );
        assert_eq!(
            error_code(&bench.last_reply(0).unwrap()),
            ErrorCode::InvalidRecord.code()
        );
    }
}

/// As in Kafka: there may be much of it.
#[test]
fn a_batch_that_is_too_large_is_refused_before_its_checksum_is_made() {
    let mut bench = bench(1, 1);
    let mut large = batch(&vec![0; 2 << 20]).to_vec();
    large[17] ^= 1;
    let reply = bench.ask(0, &produce([(0, Some(large.into()))].into_iter()));
    assert_eq!(
        error_code(&reply.unwrap()),
        ErrorCode::MessageTooLarge.code()
    );
}

#[test]
fn a_request_opens_no_more_than_its_bytes_pay_for() {
    let mut bench = bench(1, 1);
    let config = BrokerConfig::default();
    let bomb = bomb(Codec::Zstd, 8 << 20);
    let frame = produce((0..200).map(|_| (0, Some(bomb.clone()))));
    bench.send(0, &frame);
    settle_in_slices(&mut bench);
    let paid = config.millrace_produce_open_bytes_max as usize + OPEN_BYTES_PER_BYTE * frame.len();
    let most = (paid + (8 << 20) + VALIDATION_SLICE_WORK) as u64;
    assert!(bench.shards[0].opened() <= most);
    let answered = bench.last_reply(0).unwrap();
    assert_eq!(answered[0..2], [0, 0]);
}

#[test]
fn what_many_small_requests_open_is_bounded_between_two_idle_moments() {
    let mut bench = bench(1, 1);
    let frame = produce([(0, Some(bomb(Codec::Zstd, 200_000)))].into_iter());
    let before = bench.replies.len();
    for conn in 1..=64 {
        bench.open(conn);
        bench.send(conn, &frame);
    }
    let most = VALIDATION_TURN_WORK + VALIDATION_SLICE_WORK;
    assert!(bench.shards[0].opened() <= most as u64);
    settle_in_slices(&mut bench);
    assert_eq!(bench.replies.len() - before, 64);
}

#[test]
fn what_a_closed_connection_produced_is_still_taken_within_bounds() {
    let mut bench = bench(1, 1);
    let mut parts = vec![(0, Some(bomb(Codec::Zstd, 8 << 20)))];
    // Ballast: each request stands for a tenth of what may be left behind.
    parts.push((9, Some(vec![0; ORPHANED_BYTES_MAX / 10].into())));
    let frame = produce(parts.into_iter());
    for conn in 1..=20 {
        bench.open(conn);
        bench.send(conn, &frame);
        bench.close(conn);
    }
    settle_in_slices(&mut bench);
    let next = bench.ask(0, &produce([(0, Some(batch(b"value")))].into_iter()));
    let taken = base_offset(&next.unwrap());
    assert!((8..=10).contains(&taken), "{taken}");
}

#[test]
fn a_connection_that_sends_much_holds_another_up_by_one_request() {
    let mut bench = bench(1, 1);
    bench.open(1);
    bench.open(2);
    let frame = produce([(0, Some(bomb(Codec::Zstd, 8 << 20)))].into_iter());
    let before = bench.replies.len();
    (0..20).for_each(|_| bench.send(1, &frame));
    bench.send(2, &frame);
    settle_in_slices(&mut bench);
    let order: Vec<u64> = bench.replies[before..]
        .iter()
        .map(|(conn, _)| conn.0)
        .collect();
    assert_eq!((order.len(), order[1]), (21, 2), "{order:?}");
}

#[test]
fn a_stop_does_no_more_than_some_of_what_is_to_be_opened() {
    // The second is more than one request may be; at each size there are some that wait for their turn.
    for (bytes, answered) in [(8 << 20, 20..=32), (24 << 20, 0..=0)] {
        let mut bench = bench(1, 1);
        let frame = produce([(0, Some(bomb(Codec::Zstd, bytes)))].into_iter());
        let behind = produce([(0, Some(batch(b"second")))].into_iter());
        let before = bench.replies.len();
        for conn in 1..=100 {
            bench.open(conn);
            bench.send(conn, &frame);
            bench.send(conn, &behind);
        }
        let opened = bench.shards[0].opened();
        bench.handle(0, Input::Shutdown);
        settle_in_slices(&mut bench);
        let opened = bench.shards[0].opened() - opened;
        let most = STOPPING_WORK_MAX + 2 * VALIDATION_SLICE_WORK;
        assert!(opened <= most as u64, "{opened}");
        let first = bench.replies.len() + bench.closed.len() - before - 100;
        assert!(answered.contains(&first), "{first} of {bytes} bytes");
        assert_eq!((pending(&bench), bench.drained), (0, 1));
    }
}

const START_MS: i64 = 1_700_000_000_000;
/// The offset of this is found when all but the last record of [`deep`] is opened.
const DEEP_MS: i64 = START_MS + 5;

/// A batch whose record at [`DEEP_MS`] lies behind so many bytes.
fn deep(bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::Zstd, START_MS);
    builder.push(START_MS, None, Some(&vec![0; bytes]), &[]);
    builder.push(DEEP_MS, None, Some(b"v"), &[]);
    builder.build()
}

/// A node with a partition for each of these, whose lookup has to open so many bytes.
fn deep_logs(bytes: &[usize]) -> Bench {
    let mut bench = bench(1, bytes.len() as i32);
    for (index, bytes) in bytes.iter().enumerate() {
        let batch = deep(*bytes);
        bench.ask(0, &produce([(index as i32, Some(batch))].into_iter()));
    }
    bench
}

/// Error code and offset of the last partition that a lookup answers.
pub(super) fn looked_up(reply: &Bytes) -> (i16, i64) {
    // Error code, timestamp, offset, leader epoch, and two counts of tagged fields and one of the whole.
    let at = reply.len() - (2 + 8 + 8 + 4 + 3);
    let code = i16::from_be_bytes(reply[at..at + 2].try_into().unwrap());
    let offset = i64::from_be_bytes(reply[at + 10..at + 18].try_into().unwrap());
    (code, offset)
}

#[test]
fn who_looks_up_little_does_not_wait_for_those_who_look_up_much() {
    const MUCH: usize = 10 * TIME_LOOKUP_SHORT_WORK;
    const LITTLE: usize = TIME_LOOKUP_SHORT_WORK / 2;
    let mut bench = deep_logs(&[LITTLE, MUCH, MUCH]);
    let others = 3 * TIME_LOOKUPS_OPENING_MAX as u64;
    for conn in 1..=others {
        bench.open(conn);
        bench.send(conn, &look_up(1..3, DEEP_MS));
    }
    // They are all at it.
    for _ in 0..2000 {
        bench.idle(0);
    }
    let before = bench.replies.len();
    bench.send(0, &look_up(0..1, DEEP_MS));
    let mut turns = 0;
    while bench.replies.len() == before || bench.replies.last().unwrap().0.0 != 0 {
        bench.deliver();
        bench.idle(0);
        turns += 1;
        assert!(turns < 2 * others * (TIME_LOOKUP_SHORT_WORK / VALIDATION_SLICE_WORK) as u64);
    }
    assert_eq!(looked_up(&bench.last_reply(0).unwrap()), (0, 1));
    // And those who look up much are answered too.
    (1..others).for_each(|conn| bench.close(conn));
    bench.settle();
    let last = bench.last_reply(others).expect("answered");
    assert_eq!(looked_up(&last), (0, 1));
}

#[test]
fn a_stop_does_not_wait_for_lookups() {
    let mut bench = deep_logs(&[300 << 20]);
    let before = bench.replies.len();
    let others = 50;
    for conn in 1..=others {
        bench.open(conn);
        bench.send(conn, &look_up(0..1, DEEP_MS));
    }
    for _ in 0..20 {
        bench.idle(0);
    }
    bench.handle(0, Input::Shutdown);
    let mut turns = 0;
    while bench.drained == 0 {
        bench.deliver();
        bench.idle(0);
        turns += 1;
        assert!(turns < 200, "it waits for them");
    }
    assert_eq!(bench.replies.len() - before, others as usize);
    let not_leader = (6, -1);
    assert_eq!(looked_up(&bench.last_reply(others).unwrap()), not_leader);
    assert_eq!(looked_up(&bench.last_reply(1).unwrap()), not_leader);
}

#[test]
fn lookups_of_a_closed_connection_are_forgotten() {
    let mut bench = deep_logs(&[300 << 20]);
    let others = 3 * TIME_LOOKUPS_OPENING_MAX as u64;
    for conn in 1..=others {
        bench.open(conn);
        bench.send(conn, &look_up(0..1, DEEP_MS));
    }
    for turn in 0..200 {
        bench.deliver();
        assert!(bench.idle(0), "nothing to do after {turn} turns");
    }
    (1..=others).for_each(|conn| bench.close(conn));
    bench.deliver();
    assert!(!bench.idle(0), "it goes on for nobody");
    assert_eq!(pending(&bench), 0);
}

/// Bytes of the batches of [`on_disk`].
const LARGE: usize = 900 << 10;

/// A node with a batch in its file that a lookup of [`DEEP_MS`] has to read and to open.
pub(super) fn on_disk() -> Bench {
    let config = BrokerConfig {
        millrace_store_tail_bytes_max: Some(0),
        ..BrokerConfig::default()
    };
    let mut bench = Bench::new(1, config);
    bench.open(0);
    bench.create_topic(0, TOPIC, 1);
    let mut builder = BatchBuilder::new(Codec::None, START_MS);
    builder.push(START_MS, None, Some(&vec![0; LARGE]), &[]);
    builder.push(DEEP_MS, None, Some(b"v"), &[]);
    let batch = builder.build();
    for _ in 0..40 {
        bench.ask(0, &produce([(0, Some(batch.clone()))].into_iter()));
    }
    bench.read_lens.clear();
    bench
}

fn larges(bench: &Bench) -> usize {
    bench.read_lens.iter().filter(|len| **len > LARGE).count()
}

#[test]
fn lookups_read_no_more_at_a_time_than_there_is_memory_for() {
    let mut bench = on_disk();
    let others = 4 * (QUERY_READS_BYTES_MAX / LARGE) as u64;
    let before = bench.replies.len();
    for conn in 1..=others {
        bench.open(conn);
        bench.send(conn, &look_up(0..1, DEEP_MS));
    }
    bench.settle();
    assert!(larges(&bench) >= others as usize, "they read");
    assert!(
        bench.reads_peak <= QUERY_READS_BYTES_MAX,
        "{}",
        bench.reads_peak
    );
    let answered: Vec<u64> = bench.replies[before..]
        .iter()
        .map(|(conn, _)| conn.0)
        .collect();
    assert!(answered.is_sorted(), "{answered:?}");
    assert_eq!(answered.len(), others as usize);
    assert_eq!(looked_up(&bench.last_reply(others).unwrap()), (0, 1));
}

#[test]
fn neither_a_stop_nor_a_closed_connection_hangs_on_lookups_that_wait_to_read() {
    for stop in [false, true] {
        let mut bench = on_disk();
        let others = 4 * (QUERY_READS_BYTES_MAX / LARGE) as u64;
        for conn in 1..=others {
            bench.open(conn);
            bench.send(conn, &look_up(0..1, DEEP_MS));
        }
        // The headers are read: now it is the batches.
        bench.end_reads();
        let (reading, before) = (bench.reads.len(), bench.replies.len());
        if stop {
            bench.handle(0, Input::Shutdown);
            (0..others).for_each(|_| _ = bench.idle(0));
            assert_eq!(bench.replies.len() - before, others as usize - reading);
            bench.settle();
            assert_eq!((bench.drained, pending(&bench)), (1, 0));
        } else {
            (1..others).for_each(|conn| bench.close(conn));
            bench.deliver();
            assert_eq!((bench.reads.len(), bench.idle(0)), (reading, false));
            bench.settle();
            assert_eq!(bench.replies.len() - before, 1);
            assert_eq!(larges(&bench), reading + 1, "nothing is read for nobody");
        }
    }
}

#[test]
fn a_lookup_reads_its_batch_again_only_when_it_has_a_place_to_open_it() {
    let mut bench = on_disk();
    let others = 3 * TIME_LOOKUPS_OPENING_MAX;
    for conn in 1..=others as u64 {
        bench.open(conn);
        bench.send(conn, &look_up(0..1, DEEP_MS));
    }
    let before = bench.replies.len();
    while bench.replies.len() < before + others {
        bench.deliver();
        bench.end_reads();
        // A disk that takes its time.
        (0..20).for_each(|_| _ = bench.idle(0));
    }
    assert!(larges(&bench) < 2 * others, "{} reads", larges(&bench));
}
