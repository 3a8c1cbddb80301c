//! What one request changes of many logs is changed some at a time, counted in logs and not in time.

use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::{DeleteRecordsRequest, DeleteTopicsRequest, IncrementalAlterConfigsRequest};

use super::cost_tests::{TOPIC, base_offset, batch, bench, look_up, looked_up, produce};
use super::io::Input;
use super::testing::{Bench, create_topic};
use crate::base::limits::{
    APPENDED_PER_TURN, CHECKPOINT_LOG_COST, LOGS_CHANGED_PER_SLICE, ORPHANED_BYTES_MAX,
    PARTITIONS_PER_SLICE, REQUESTS_BEGUN_MAX,
};
use crate::config::BrokerConfig;
use crate::store::StoreConfig;
use crate::wire::client::encode_request;

#[test]
fn a_produce_to_many_partitions_is_appended_in_slices_and_keeps_its_order() {
    const LAST: i32 = 5 * LOGS_CHANGED_PER_SLICE as i32;
    let mut bench = bench(1, LAST + 1);
    bench.open(1);
    let value = || Some(batch(b"value"));
    let appended = |bench: &Bench| bench.shards[0].appended();
    let (start, before) = (appended(&bench), bench.replies.len());
    bench.send(1, &produce((0..=LAST).map(|index| (index, value()))));
    // Behind it on its connection, and another client's.
    bench.send(1, &produce([(LAST, value())].into_iter()));
    bench.send(0, &produce([(LAST, value())].into_iter()));
    let mut reached = appended(&bench);
    while bench.replies.len() < before + 3 {
        bench.idle(0);
        // Nothing of the broker's own is among them.
        let now = appended(&bench);
        assert!(
            now - reached <= LOGS_CHANGED_PER_SLICE as i64,
            "{now} after {reached}"
        );
        reached = now;
        bench.deliver();
    }
    assert_eq!(appended(&bench) - start, i64::from(LAST) + 3);
    let order = bench.replies[before..].iter().map(|(conn, _)| conn.0);
    assert_eq!(order.collect::<Vec<_>>(), [0, 1, 1]);
    assert_eq!(base_offset(&bench.replies[before].1), 0);
    assert_eq!(base_offset(&bench.replies[before + 2].1), 2, "it came last");
}

/// Lets everything happen; the most records that were appended for one input.
fn most_appended_at_once(bench: &mut Bench) -> i64 {
    let (mut most, mut reached) = (0, bench.shards[0].appended());
    loop {
        let coming = std::mem::take(&mut bench.coming);
        let is_quiet = coming.is_empty();
        for (shard, input) in coming.into_iter().chain([(0, Input::Idle)]) {
            bench.handle(shard, input);
            let now = bench.shards[0].appended();
            most = most.max(now - reached);
            reached = now;
        }
        if is_quiet && bench.coming.is_empty() && bench.wake_at[0].0 > bench.nanos {
            return most;
        }
    }
}

#[test]
fn requests_to_some_partitions_each_share_their_slices() {
    const PARTS: i32 = LOGS_CHANGED_PER_SLICE as i32 / 2;
    const CLIENTS: u64 = 40;
    let mut bench = bench(1, PARTS);
    let frame = produce((0..PARTS).map(|index| (index, Some(batch(b"value")))));
    let (start, before) = (bench.shards[0].appended(), bench.replies.len());
    for conn in 1..=CLIENTS {
        bench.open(conn);
        bench.send(conn, &frame);
    }
    let at_once = bench.shards[0].appended() - start;
    assert!(at_once < CLIENTS as i64 * i64::from(PARTS), "some wait");
    let most = most_appended_at_once(&mut bench);
    assert!(most <= LOGS_CHANGED_PER_SLICE as i64, "{most}");
    assert_eq!(bench.replies.len() - before, CLIENTS as usize);
}

#[test]
fn requests_of_other_shards_share_their_slices() {
    const PARTS: i32 = LOGS_CHANGED_PER_SLICE as i32;
    const CLIENTS: u64 = 64;
    let mut bench = bench(2, PARTS);
    let frame = produce((0..PARTS).map(|index| (index, Some(batch(b"value")))));
    let (start, before) = (bench.shards[0].appended(), bench.replies.len());
    for conn in (1..).step_by(2).take(CLIENTS as usize) {
        bench.open(conn);
        bench.send(conn, &frame);
        while bench.idle(1) {}
    }
    let coming = std::mem::take(&mut bench.coming);
    for (shard, input) in coming {
        bench.handle(shard, input);
    }
    let at_once = bench.shards[0].appended() - start;
    let most = (APPENDED_PER_TURN + LOGS_CHANGED_PER_SLICE) as i64;
    assert!(at_once > 0 && at_once <= most, "{at_once}");
    bench.settle();
    assert_eq!(bench.replies.len() - before, CLIENTS as usize);
}

#[test]
fn requests_that_waited_for_others_share_their_slices() {
    const PARTS: i32 = LOGS_CHANGED_PER_SLICE as i32;
    const CLIENTS: u64 = REQUESTS_BEGUN_MAX as u64;
    let mut bench = bench(1, PARTS);
    let frame = produce((0..PARTS).map(|index| (index, Some(batch(b"value")))));
    let before = bench.replies.len();
    for conn in 1..=CLIENTS {
        bench.open(conn);
        bench.send(conn, &create_topic(&format!("t{conn}"), 1));
        bench.send(conn, &frame);
    }
    let most = most_appended_at_once(&mut bench);
    assert!(most <= LOGS_CHANGED_PER_SLICE as i64, "{most}");
    assert_eq!(bench.replies.len() - before, 2 * CLIENTS as usize);
}

/// DeleteRecords of everything in these partitions.
fn delete_all(partitions: std::ops::Range<i32>) -> Bytes {
    let mut topic = DeleteRecordsTopic::default();
    topic.name = TOPIC.into();
    topic.partitions = partitions
        .map(|index| {
            let mut partition = DeleteRecordsPartition::default();
            (partition.partition_index, partition.offset) = (index, -1);
            partition
        })
        .collect();
    let mut request = DeleteRecordsRequest::default();
    request.topics = vec![topic];
    encode_request(1, Some("test"), 2, &request).unwrap()
}

/// The partitions whose turn comes last.
const LATE: std::ops::Range<i32> = 0..1;
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

#[test]
fn records_that_come_behind_a_deletion_in_slices_stay() {
    const PARTS: i32 = 3 * LOGS_CHANGED_PER_SLICE as i32;
    let mut bench = bench(1, PARTS);
    let frame = produce((0..PARTS).map(|index| (index, Some(batch(b"before")))));
    bench.ask(0, &frame);
    bench.send(0, &delete_all(0..PARTS));
    bench.send(
        0,
        &produce(LATE.map(|index| (index, Some(batch(b"behind"))))),
    );
    bench.settle();
    let first = bench.ask(0, &look_up(LATE, EARLIEST)).unwrap();
    let last = bench.ask(0, &look_up(LATE, LATEST)).unwrap();
    assert_eq!((looked_up(&first), looked_up(&last)), ((0, 1), (0, 2)));
}

#[test]
fn a_question_in_slices_is_not_answered_by_what_comes_behind_it() {
    const PARTS: i32 = 8 * PARTITIONS_PER_SLICE as i32;
    let mut bench = bench(1, PARTS);
    let all = look_up(0..PARTS, LATEST);
    let before = bench.ask(0, &all);
    bench.send(0, &all);
    bench.send(
        0,
        &produce(LATE.map(|index| (index, Some(batch(b"behind"))))),
    );
    let replies = bench.replies.len();
    bench.settle();
    assert!(Some(&bench.replies[replies].1) == before.as_ref());
    assert!(bench.ask(0, &all) != before, "it is there");
}

/// What has begun to be appended is, however much was left behind by others.
#[test]
fn a_closed_connection_does_not_tear_what_is_being_handed_on() {
    const PARTS: i32 = 3 * LOGS_CHANGED_PER_SLICE as i32;
    let mut bench = bench(1, PARTS);
    // A batch that is refused at once, and stands for much that is left behind.
    let ballast = || (PARTS, Some(Bytes::from(vec![0; ORPHANED_BYTES_MAX / 10])));
    let all = (0..PARTS).map(|index| (index, Some(batch(b"value"))));
    let large = produce(all.chain([ballast()]));
    let behind = produce([(0, Some(batch(b"behind")))].into_iter());
    let start = bench.shards[0].appended();
    bench.open(1);
    bench.send(1, &large);
    bench.send(1, &behind);
    let torn = bench.shards[0].appended() - start;
    assert!((1..i64::from(PARTS)).contains(&torn), "{torn} at once");
    for conn in 2..=20 {
        bench.open(conn);
        bench.send(conn, &large);
        bench.send(conn, &behind);
        bench.close(conn);
    }
    bench.close(1);
    bench.settle();
    let appended = bench.shards[0].appended() - start;
    let whole = appended / i64::from(PARTS);
    assert!((8..20).contains(&whole), "{whole} are taken");
    assert!(
        appended % i64::from(PARTS) <= whole,
        "{appended}: one is torn"
    );
}

#[test]
fn a_topic_of_many_partitions_comes_and_goes_in_slices_and_is_answered_when_it_is_there() {
    const MANY: i32 = 3 * LOGS_CHANGED_PER_SLICE as i32 + 1;
    let mut bench = bench(1, 1);
    let before = bench.replies.len();
    let steps = |bench: &mut Bench, frame: &Bytes, wanted: i32| {
        let replies = bench.replies.len();
        bench.send(0, frame);
        let (mut most, mut reached) = (0, bench.shards[0].partitions());
        loop {
            let coming = std::mem::take(&mut bench.coming);
            let idle = (0, Input::Idle);
            for (shard, input) in coming.into_iter().chain([idle]) {
                bench.handle(shard, input);
                let now = bench.shards[0].partitions();
                most = most.max(now.abs_diff(reached));
                reached = now;
            }
            if bench.replies.len() > replies {
                assert_eq!(reached as i32, wanted);
                return most;
            }
        }
    };
    let there = bench.shards[0].partitions() as i32;
    let most = steps(&mut bench, &create_topic("many", MANY), there + MANY);
    assert_eq!(most, LOGS_CHANGED_PER_SLICE);
    let mut request = DeleteTopicsRequest::default();
    request.topic_names = vec!["many".into()];
    let delete = encode_request(1, Some("test"), 5, &request).unwrap();
    assert_eq!(steps(&mut bench, &delete, there), LOGS_CHANGED_PER_SLICE);
    assert_eq!(bench.replies.len(), before + 2);
}

#[test]
fn settings_are_laid_over_the_files_once_for_an_image() {
    const MANY: i32 = 3 * LOGS_CHANGED_PER_SLICE as i32;
    let mut bench = bench(1, MANY);
    let mut setting = AlterableConfig::default();
    setting.name = "log.retention.bytes".into();
    setting.value = Some("4096".into());
    let mut resource = AlterConfigsResource::default();
    resource.resource_type = 4;
    resource.configs = vec![setting];
    let mut request = IncrementalAlterConfigsRequest::default();
    request.resources = vec![resource];
    bench.send(0, &encode_request(1, Some("test"), 1, &request).unwrap());
    let config = |bench: &Bench| Arc::clone(bench.shards[0].config());
    let (before, mut known, mut changes) = (config(&bench), config(&bench), 0);
    bench.idle(0);
    while bench.wake_at[0].0 <= bench.nanos || !bench.coming.is_empty() {
        bench.deliver();
        bench.idle(0);
        changes += usize::from(!Arc::ptr_eq(&known, &config(&bench)));
        known = config(&bench);
    }
    let bytes = |config: &BrokerConfig| config.log_retention_bytes;
    assert_eq!((bytes(&before), bytes(&known), changes), (-1, 4096, 1));
}

/// A shard of so many partitions with a checkpoint that lacks most of them.
fn gathering(partitions: i32) -> Bench {
    let config = BrokerConfig {
        millrace_store_checkpoint_bytes: 64 << 10,
        ..BrokerConfig::default()
    };
    let mut bench = Bench::new(1, config);
    bench.open(0);
    bench.create_topic(0, TOPIC, partitions);
    bench.ask(
        0,
        &produce((0..partitions).map(|index| (index, Some(batch(b"value"))))),
    );
    // Enough of it goes to chunks: a checkpoint is due.
    let large = produce([(0, Some(batch(&vec![0; 100_000])))].into_iter());
    bench.send(0, &large);
    while bench.shards[0].lacking() == 0 {
        bench.deliver();
        bench.idle(0);
    }
    bench
}

#[test]
fn what_changes_logs_is_no_reason_for_a_checkpoint_to_take_many_at_once() {
    const LOGS: i32 = 8 * LOGS_CHANGED_PER_SLICE as i32;
    let all = produce((0..LOGS).map(|index| (index, Some(batch(b"value")))));
    let mut request = DeleteTopicsRequest::default();
    request.topic_names = vec![TOPIC.into()];
    let delete = encode_request(1, Some("test"), 5, &request).unwrap();
    let slice = StoreConfig::default().checkpoint_slice_bytes / CHECKPOINT_LOG_COST;
    for (request, what) in [
        (all, "produce"),
        (delete_all(0..LOGS), "delete records"),
        (delete, "delete topics"),
    ] {
        let mut bench = gathering(LOGS);
        let replies = bench.replies.len();
        let (mut most, mut before) = (0, bench.shards[0].lacking());
        bench.send(0, &request);
        while before > 0 {
            bench.idle(0);
            let lacking = bench.shards[0].lacking();
            most = most.max(before - lacking);
            before = lacking;
            bench.deliver();
        }
        assert!(most as u64 <= slice, "{what}: {most} in one turn");
        bench.settle();
        assert_eq!(bench.replies.len(), replies + 2, "{what}: not answered");
    }
}

#[test]
fn a_checkpoint_takes_logs_in_slices_and_each_as_it_was() {
    const LOGS: i32 = 1000;
    let config = BrokerConfig {
        millrace_store_checkpoint_bytes: 64 << 10,
        ..BrokerConfig::default()
    };
    let mut bench = Bench::new(1, config);
    bench.open(0);
    bench.create_topic(0, TOPIC, LOGS);
    let lacking = |bench: &Bench| bench.shards[0].lacking();
    // Enough of it goes to chunks: a checkpoint is due.
    bench.send(
        0,
        &produce([(0, Some(batch(&vec![0; 100_000])))].into_iter()),
    );
    let (mut most, mut before, mut turns) = (0, 0_usize, 0);
    while turns == 0 || lacking(&bench) > 0 {
        bench.deliver();
        // What changes is taken first, and is no reason to wait.
        bench.send(0, &produce([(turns, Some(batch(b"value")))].into_iter()));
        let goes_on = bench.idle(0);
        assert!(goes_on || lacking(&bench) == 0);
        most = most.max(before.saturating_sub(lacking(&bench)));
        before = lacking(&bench);
        turns += 1;
    }
    let slice = StoreConfig::default().checkpoint_slice_bytes / CHECKPOINT_LOG_COST;
    assert!(turns > 5 && most as u64 <= slice, "{most} at once");
    bench.settle();
    assert_eq!(
        bench.replies.len() as i32,
        1 + 1 + turns,
        "all are answered"
    );
}
