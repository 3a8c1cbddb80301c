//! When a flush starts, when it waits for more, and what goes before a checkpoint.

use super::*;

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
