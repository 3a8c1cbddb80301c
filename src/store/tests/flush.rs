//! Flushes, and what goes on beside them.

use super::*;
use crate::base::limits::SEGMENTS_LET_GO_MAX;

impl World {
    /// Nothing is on its way to a chunk of which the page cache may be asked.
    pub(super) fn check_sealed(&self) {
        let segments = self.store.map.logs.values().flat_map(|log| &log.segments);
        let extents = segments.flat_map(|segment| &segment.extents);
        for extent in extents.filter(|extent| extent.pin.is_sealed()) {
            let (pos, len) = (extent.chunk.pos, extent.chunk.class.bytes());
            assert!(self.disk.is_durable(pos, len as usize), "{extent:?}");
        }
    }
}

#[test]
fn a_flush_does_not_make_readable_what_a_checkpoint_still_fills_in() {
    let config = StoreConfig {
        journal_bytes: 256 << 10,
        initial_bytes: 0,
        raw: true,
        bulk_bytes_min: 9000,
        tail_bytes_max: 0,
        ..StoreConfig::default()
    };
    let (mut store, ops) = Store::format(StoreId(1), config, 1);
    let (mut disk, mut rng) = (Disk::new(ops), Rng::new(1));
    let (log, mut ops, mut events) = (LogId(1), Vec::new(), Vec::new());
    store.create_log(log, LogLabel::default(), Offset(0));
    let append = |store: &mut Store, base, len| {
        let batch = batch(&mut Rng::new(2), len);
        let appended = store.append(log, batch, Offset(base), LeaderEpoch(0));
        appended.unwrap();
    };
    // Inline, and durable.
    append(&mut store, 0, 6000);
    store.poll(&mut ops);
    disk.ask(&mut ops);
    while let Some(id) = disk.step(&mut rng) {
        store.on_disk(id, Ok(()), &mut ops, &mut events);
        disk.ask(&mut ops);
    }
    // A checkpoint writes the first block to a chunk, and does not get on.
    let mut stuck = Vec::new();
    store.checkpoint(vec![(log, Bytes::new())], &mut stuck);
    assert!(!stuck.is_empty());
    // Bulk behind that block is durable.
    append(&mut store, 1, 20_000);
    store.poll(&mut ops);
    disk.ask(&mut ops);
    while let Some(id) = disk.step(&mut rng) {
        store.on_disk(id, Ok(()), &mut ops, &mut events);
        disk.ask(&mut ops);
    }
    assert_eq!(
        events.last(),
        Some(&StoreEvent::Durable(store.durable_seq()))
    );
    let mut pieces = Vec::new();
    store.read(log, SegmentId::FIRST, 0, 6000, &mut pieces);
    let in_memory = |piece: &Piece| matches!(piece, Piece::Memory(_));
    assert!(
        pieces.iter().all(in_memory),
        "read from where nothing is yet"
    );
    // When the checkpoint is done, all of it is.
    disk.ask(&mut stuck);
    while let Some(id) = disk.step(&mut rng) {
        store.on_disk(id, Ok(()), &mut ops, &mut events);
        disk.ask(&mut ops);
    }
    store.poll(&mut ops);
    let mut pieces = Vec::new();
    store.read(log, SegmentId::FIRST, 0, 6000, &mut pieces);
    assert!(!pieces.iter().any(in_memory), "memory is not given back");
}

#[test]
fn the_memory_of_many_segments_is_let_go_in_slices() {
    let config = StoreConfig {
        raw: true,
        tail_bytes_max: 0,
        ..StoreConfig::default()
    };
    let (mut store, ops) = Store::format(StoreId(1), config, 1);
    let (mut disk, mut rng) = (Disk::new(ops), Rng::new(1));
    let (mut ops, mut events) = (Vec::new(), Vec::new());
    let batch = batch(&mut Rng::new(2), 6000);
    for log in 0..3 * SEGMENTS_LET_GO_MAX as u64 {
        store.create_log(LogId(log), LogLabel::default(), Offset(0));
        let appended = store.append(LogId(log), batch.clone(), Offset(0), LeaderEpoch(0));
        appended.unwrap();
    }
    store.checkpoint(Vec::new(), &mut ops);
    loop {
        disk.ask(&mut ops);
        let Some(id) = disk.step(&mut rng) else {
            break;
        };
        store.on_disk(id, Ok(()), &mut ops, &mut events);
    }
    assert!(store.is_quiet());
    for slices in [2, 1, 0] {
        assert!(store.has_more_to_do());
        store.poll(&mut ops);
        assert_eq!(store.filled.len(), slices * SEGMENTS_LET_GO_MAX);
    }
    assert!(!store.has_more_to_do());
}

#[test]
fn flushes_of_many_items_start_one_at_a_time() {
    let config = StoreConfig {
        small_flush_bytes: 0,
        ..StoreConfig::default()
    };
    let (mut store, _) = Store::format(StoreId(1), config, 1);
    for log in 0..3 * FLUSH_ITEMS_MAX as u64 {
        store.create_log(LogId(log), LogLabel::default(), Offset(0));
    }
    for started in 1..=3 {
        store.poll(&mut Vec::new());
        assert_eq!(store.flights.len(), started);
        assert_eq!(store.has_more_to_do(), started < 3);
    }
    assert!(store.open.is_empty());
}
