//! What a shard does about stores that have no room, and about those that make some.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::CreateTopicsRequest;
use kafka_wire::create_topics_request::CreatableTopic;
use kafka_wire_core::StrBytes;

use super::control::growth::room_in;
use super::io::{Input, Output};
use super::owner::Owner;
use super::owner::settings::log_config;
use super::owner::stores::format_store;
use super::shard::{Shard, ShardSetup};
use super::testing::{Bench, with_fx};
use crate::base::limits::WAITING_FOR_ROOM_BYTES_MAX;
use crate::base::{DirectoryId, LeaderEpoch, LogId, Mono, Now, Offset, ShardId, StoreId};
use crate::config::{BrokerConfig, TopicConfig};
use crate::controller::Directory;
use crate::store::{DiskOp, LogLabel, RoomFor, StoreConfig};
use crate::wire::client::{decode_response, encode_request};

/// Lets an owner do what there is to do; what the disks are asked for.
fn idle(owner: &mut Owner, now: Mono) -> Vec<Output> {
    let now = Now {
        mono: now,
        wall_ms: 1_700_000_000_000,
    };
    with_fx(now, |fx| owner.idle(fx)).1
}

#[test]
fn a_checkpoint_for_which_there_was_no_room_is_tried_again_each_second() {
    let config = StoreConfig {
        journal_bytes: 128 << 10,
        raw: true,
        ..StoreConfig::default()
    };
    let config = StoreConfig {
        bytes_max: config.least_bytes(),
        ..config
    };
    let (mut slot, _) = format_store(StoreId(0), config, 1);
    slot.store
        .create_log(LogId(1), LogLabel::default(), Offset(0));
    // More than there is room for anywhere.
    let batch = Bytes::from(vec![7; 20 << 20]);
    slot.store
        .append_anyway(LogId(1), batch, Offset(0), LeaderEpoch(0));
    let config = Arc::new(BrokerConfig::default());
    let mut owner = Owner::new(ShardId(0), config, vec![slot]);
    let start = Mono(0).plus_ms(1);
    idle(&mut owner, start);
    while owner.has_more() {
        idle(&mut owner, start);
    }
    let waits = |owner: &Owner| owner.slots[0].store.waits_for_room();
    assert!(waits(&owner), "the checkpoint is put off");
    let mut now = start;
    for _ in 0..3 {
        let next = owner.next_deadline();
        assert!(now < next && next <= now.plus_ms(1000));
        assert!(!owner.slots[0].store.checkpoint_due());
        now = next;
        idle(&mut owner, now);
    }
    // Smaller, now that it is tried with nothing in it.
    owner.slots[0].store.delete_log(LogId(1));
    now = owner.next_deadline();
    assert!(!idle(&mut owner, now).is_empty());
    assert!(!waits(&owner));
}

/// Whether an operation makes room, or readies it.
fn makes_room(op: &DiskOp) -> bool {
    match op {
        DiskOp::Allocate { .. } => true,
        DiskOp::Write {
            data, background, ..
        } => *background && data.iter().all(|byte| *byte == 0),
        DiskOp::Sync { .. } => false,
    }
}

#[test]
fn a_stop_does_not_wait_for_stores_that_write_ahead() {
    let config = Arc::new(BrokerConfig::default());
    let store = |id| format_store(StoreId(id), config.store(), 1).0;
    let mut shard = Shard::new(ShardSetup {
        id: ShardId(0),
        shards: 1,
        config: Arc::clone(&config),
        seed: 1,
        slots: (0..2).map(store).collect(),
        directories: [0, 1]
            .map(|n| Directory {
                id: DirectoryId::new(1, StoreId(n)),
                shard: ShardId(0),
            })
            .to_vec(),
        cluster: None,
        board: Arc::default(),
    });
    let (mut disk, mut drained, mut nanos) = (VecDeque::new(), false, 0);
    // What each input makes room for.
    let mut give = |input, disk: &mut VecDeque<_>| {
        let mut made = 0;
        for input in [input, Input::Idle] {
            nanos += 1000;
            let now = Now {
                mono: Mono(nanos),
                wall_ms: 1_700_000_000_000,
            };
            let mut out = Vec::new();
            shard.handle(now, input, &mut out);
            for output in out {
                match output {
                    Output::Disk { store, op } => {
                        made += usize::from(makes_room(&op));
                        disk.push_back((store, op.id()));
                    }
                    Output::Drained => drained = true,
                    _ => {}
                }
            }
        }
        (made, drained)
    };
    let done = |(store, id)| Input::Disk {
        store,
        id,
        result: Ok(()),
    };
    give(Input::Start, &mut disk);
    let mut made = 0;
    while made < 20 {
        let next = disk.pop_front().expect("they write ahead");
        made += give(done(next), &mut disk).0;
    }
    // From here on one of them always has something on its way when the other one has not.
    assert_eq!(give(Input::Shutdown, &mut disk).0, 0);
    while let Some(next) = disk.pop_front() {
        assert_eq!(give(done(next), &mut disk).0, 0, "nobody needs it");
    }
    assert!(give(Input::Idle, &mut disk).1, "drained");
}

/// What a full store answers.
const STORAGE_ERROR: i16 = 56;

/// Two shards whose stores may not grow beyond the least that a store takes.
fn small_stores() -> Bench {
    let config = BrokerConfig {
        millrace_store_journal_bytes: 4 << 20,
        millrace_store_initial_bytes: 16 << 20,
        millrace_store_bytes_max: 24 << 20,
        num_partitions: 1,
        ..BrokerConfig::default()
    };
    let mut bench = Bench::new(2, config);
    bench.open(0);
    bench
}

/// Asks for a topic whose partitions are spread over the stores in turn; error and message.
fn create(bench: &mut Bench, name: &str, partitions: i32) -> (i16, Option<StrBytes>) {
    let reply = bench.ask_for_topic(0, name, partitions).unwrap();
    let (_, response) = decode_response::<CreateTopicsRequest>(reply.slice(4..), 5).unwrap();
    let topic = &response.topics[0];
    (topic.error_code, topic.error_message.clone())
}

/// Two shards, the store of the second one full of records; the partition of a topic that has room.
fn other_store_full() -> (Bench, i32) {
    let mut bench = small_stores();
    assert_eq!(create(&mut bench, "two", 2).0, 0);
    let other = (0..2).find(|index| bench.shards[0].store_of("two", *index) == Some(StoreId(1)));
    let other = other.expect("one is in the other store");
    let full = (0..100).any(|_| bench.produce("two", other, 900_000) == STORAGE_ERROR);
    assert!(full, "the other store is full");
    (bench, 1 - other)
}

#[test]
fn partitions_are_not_made_in_a_store_that_is_full_while_that_of_the_metadata_has_room() {
    let (mut bench, with_room) = other_store_full();
    let (code, why) = create(&mut bench, "many", 500);
    assert_eq!(code, STORAGE_ERROR);
    assert!(why.expect("a reason").contains("full"));
    assert_eq!(bench.produce("two", with_room, 1000), 0);
}

#[test]
fn a_full_store_makes_checkpoints_however_many_partitions_are_asked_for() {
    let (mut bench, _) = other_store_full();
    for n in 0..40 {
        create(&mut bench, &format!("{n}-{}", "n".repeat(200)), 500);
        assert!(bench.shards[1].has_room(), "overdrawn after {n}");
    }
}

/// Whoever hangs up meanwhile leaves its request behind.
#[test]
fn what_waits_for_room_is_bounded() {
    let mut bench = small_stores();
    let request = |n: u64| {
        let topic = |name: String| {
            let mut topic = CreatableTopic::default();
            topic.name = StrBytes::from(name);
            topic.num_partitions = 2;
            topic.replication_factor = 1;
            topic
        };
        let mut request = CreateTopicsRequest::default();
        request.topics = vec![topic(format!("good-{n}"))];
        let long = |k| topic(format!("{k}-{}", "n".repeat(30_000)));
        request.topics.extend((0..35).map(long));
        encode_request(1, Some("test"), 5, &request).unwrap()
    };
    let bytes = request(0).len();
    // Of one shard, each with a connection of its own.
    let conns: Vec<u64> = (0..40).map(|n| 2 * n).collect();
    for conn in &conns[1..] {
        bench.open(*conn);
    }
    for conn in &conns {
        bench.send(*conn, &request(*conn));
        // The next slices of decisions: long names take some.
        for _ in 0..100 {
            bench.idle(0);
        }
    }
    let codes = |bench: &Bench| -> Vec<i16> {
        let replies = conns.iter().filter_map(|conn| bench.last_reply(*conn));
        let first = |reply: Bytes| {
            let response = decode_response::<CreateTopicsRequest>(reply.slice(4..), 5);
            response.unwrap().1.topics[0].error_code
        };
        replies.map(first).collect()
    };
    // One asks, the others wait.
    let refused = codes(&bench);
    assert!(refused.iter().all(|code| *code == STORAGE_ERROR));
    let waiting = conns.len() - refused.len() - 1;
    let most = WAITING_FOR_ROOM_BYTES_MAX / bytes;
    assert!((most - 1..=most).contains(&waiting), "{waiting} of {most}");
    bench.close(conns[1]);
    bench.settle();
    let made = codes(&bench).iter().filter(|code| **code == 0).count();
    assert_eq!(made, waiting, "all but the one that has gone");
}

#[test]
fn what_a_store_may_grow_by_is_no_room_yet() {
    let (slot, _) = format_store(StoreId(0), StoreConfig::default(), 1);
    let broker = Arc::new(BrokerConfig::default());
    let mut owner = Owner::new(ShardId(0), Arc::clone(&broker), vec![slot]);
    let settings = log_config("a", &TopicConfig::of_broker(&broker), &broker);
    let now = Now {
        mono: Mono(0),
        wall_ms: 0,
    };
    owner.open_own(now, 0, LogId(1), LogLabel::default(), settings);
    for (what, fills) in [(RoomFor::Broker, false), (RoomFor::Clients, true)] {
        assert!(!owner.has_room(LogId(1), 1 << 30, what));
        assert_eq!(
            room_in(&mut owner, StoreId(0), 1 << 30, fills),
            None,
            "it grows"
        );
    }
}
