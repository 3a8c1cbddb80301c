//! When a flush starts, and when it waits for more.

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
