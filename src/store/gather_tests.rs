//! When a flush starts, when it waits for more, what goes before a checkpoint, and what comes after one.

use super::*;
use crate::base::limits::CHUNKS_FREED_MAX;

#[test]
fn what_is_small_gathers_behind_the_first_flushes() {
    let config = StoreConfig {
        raw: true,
        ..StoreConfig::default()
    };
    let (first, all) = (
        config.small_flushes_in_flight_max,
        config.flushes_in_flight_max,
    );
    let large = config.small_flush_bytes;
    let (mut store, _) = Store::format(StoreId(1), config, 1);
    let mut ops = Vec::new();
    store.create_log(LogId(1), LogLabel::default(), Offset(0));
    let append = |store: &mut Store, bytes, ops: &mut Vec<DiskOp>| {
        let batch = Bytes::from(vec![7; bytes]);
        let appended = store.append(LogId(1), batch, Offset(0), LeaderEpoch(0));
        appended.expect("room");
        store.poll(ops);
        store.flights.len()
    };
    for flying in 1..=first {
        assert_eq!(append(&mut store, 100, &mut ops), flying, "at once");
    }
    assert_eq!(append(&mut store, 100, &mut ops), first, "waits");
    assert_eq!(append(&mut store, 100, &mut ops), first, "and gathers");
    assert_eq!(append(&mut store, large, &mut ops), first + 1, "enough");
    assert_eq!(append(&mut store, 100, &mut ops), first + 1);
    for flying in first + 2..=all {
        assert_eq!(append(&mut store, large, &mut ops), flying);
    }
    assert_eq!(
        append(&mut store, large, &mut ops),
        all,
        "no more than that"
    );
    // Whatever waits goes on its way when those before it have arrived.
    while !ops.is_empty() {
        let id = ops.remove(0).id();
        store.on_disk(id, Ok(()), &mut ops, &mut Vec::new());
        store.poll(&mut ops);
    }
    assert_eq!(store.durable_seq(), store.pending_seq());
}

#[test]
fn a_checkpoint_begins_however_much_more_comes() {
    let (mut store, mut ops) = with_a_backlog(256 << 20);
    let mut turns = 0;
    while store.checkpoint.is_none() {
        assert!(turns < 100, "it does not begin");
        turns += 1;
        for _ in 0..2 * FLUSH_ITEMS_MAX {
            if store.holds_changes() {
                break;
            }
            let batch = Bytes::from_static(&[7; 100]);
            let appended = store.append(LogId(1), batch, Offset(0), LeaderEpoch(0));
            appended.expect("room");
        }
        store.begin_checkpoint(&mut ops);
    }
    assert!(!store.holds_changes());
}

/// A store with 12 MB that wait behind the flushes that are on their way.
fn with_a_backlog(journal_bytes: u64) -> (Store, Vec<DiskOp>) {
    let config = StoreConfig {
        raw: true,
        journal_bytes,
        flush_bytes_max: 512 << 10,
        bulk_bytes_min: 1 << 20,
        ..StoreConfig::default()
    };
    let (mut store, _) = Store::format(StoreId(1), config, 1);
    let mut ops = Vec::new();
    store.create_log(LogId(1), LogLabel::default(), Offset(0));
    store.poll(&mut ops);
    for _ in 0..12 * 16 {
        let batch = Bytes::from(vec![7; 64 << 10]);
        let appended = store.append(LogId(1), batch, Offset(0), LeaderEpoch(0));
        appended.expect("room");
        store.poll(&mut ops);
    }
    assert!(store.open.len() > 20);
    (store, ops)
}

#[test]
fn what_is_pending_goes_before_a_checkpoint_in_slices() {
    // There is room for it in the journal, or next to none.
    for journal_bytes in [32 << 20, 4 << 20] {
        let (mut store, mut ops) = with_a_backlog(journal_bytes);
        let (mut turns, mut most) = (0, 0);
        while store.checkpoint.is_none() {
            let before = store.flights.len();
            store.begin_checkpoint(&mut ops);
            most = most.max(store.flights.len() - before);
            turns += 1;
            let begun = store.checkpoint.is_some();
            assert_eq!(store.has_more_to_do(), !begun);
            assert!(begun || store.checkpoint_due());
        }
        assert!(turns >= 3 && most <= 8, "{turns} turns, {most} in one");
        assert!(store.open.is_empty());
        while let Some(log) = store.next_lacking() {
            store.give_state(log, Bytes::new());
        }
        store.checkpoint_advance(&mut ops);
        while !ops.is_empty() {
            let id = ops.remove(0).id();
            store.on_disk(id, Ok(()), &mut ops, &mut Vec::new());
        }
        assert_eq!(store.durable_seq(), store.pending_seq());
    }
}

#[test]
fn chunks_come_free_some_at_a_time() {
    const SEGMENTS: u64 = 2 * CHUNKS_FREED_MAX as u64 + 100;
    let config = StoreConfig {
        raw: true,
        bulk_bytes_min: 4 << 10,
        ..StoreConfig::default()
    };
    let (mut store, _) = Store::format(StoreId(1), config, 1);
    let (mut ops, log) = (Vec::new(), LogId(1));
    let settle = |store: &mut Store, ops: &mut Vec<DiskOp>| {
        while !ops.is_empty() {
            let id = ops.remove(0).id();
            store.on_disk(id, Ok(()), ops, &mut Vec::new());
        }
    };
    store.create_log(log, LogLabel::default(), Offset(0));
    for n in 1..=SEGMENTS {
        let batch = Bytes::from_static(&[7; 8 << 10]);
        let appended = store.append(log, batch, Offset(0), LeaderEpoch(0));
        appended.expect("room");
        store.roll(log, SegmentId(n), Offset(0));
        store.poll(&mut ops);
        settle(&mut store, &mut ops);
    }
    store.drop_before(log, SegmentId(SEGMENTS));
    store.checkpoint(Vec::new(), &mut ops);
    let (mut free, mut turns) = (store.free_bytes(), 0);
    settle(&mut store, &mut ops);
    while turns == 0 || store.has_more_to_do() {
        let now = store.free_bytes();
        let most = CHUNKS_FREED_MAX as u64 * (16 << 10) + (4 << 20);
        assert!(now.saturating_sub(free) <= most, "{} at once", now - free);
        assert!(store.freed.bytes() == 0 || store.has_more_to_do() && !store.checkpoint_due());
        free = now;
        store.poll(&mut ops);
        settle(&mut store, &mut ops);
        turns += 1;
    }
    assert!(turns >= 2 && store.freed.bytes() == 0, "{turns}");
}

#[test]
fn what_says_that_all_is_durable_is_no_reason_for_a_checkpoint() {
    let config = StoreConfig {
        raw: true,
        journal_bytes: 128 << 10,
        ..StoreConfig::default()
    };
    let (mut store, _) = Store::format(StoreId(1), config, 1);
    let mut ops = Vec::new();
    store.create_log(LogId(1), LogLabel::default(), Offset(0));
    store.poll(&mut ops);
    while !ops.is_empty() {
        let id = ops.remove(0).id();
        store.on_disk(id, Ok(()), &mut ops, &mut Vec::new());
    }
    // Many logs have less than a block each.
    store.unplaced_bytes = 16 << 20;
    assert!(store.lacks_proof() && !store.checkpoint_due());
    store.prove();
    store.poll(&mut ops);
    assert!(!store.checkpoint_due() && ops.len() == 1, "{ops:?}");
}
