//! A store that has little room left, or none: what waits then, and what it may never wait for.

use proptest::prelude::*;

use super::start_tests::Scene;
use super::*;

/// Takes all that is free away from a store, as if it were full.
fn fill_up(store: &mut Store) -> Vec<Chunk> {
    std::iter::from_fn(|| store.chunks.take_up_to(Class::Small)).collect()
}

fn give_back(store: &mut Store, chunks: Vec<Chunk>) {
    chunks
        .into_iter()
        .for_each(|chunk| store.chunks.free(chunk));
}

/// A store whose checkpoint found no room after it had taken in a flush for which the ring had none.
fn put_off_after_it_took_in_a_flush() -> (Scene, Vec<Chunk>) {
    let mut scene = Scene::new(Sabotage::default());
    // Less than half of the ring is used, and what is left is in two parts.
    scene.go_to_the_end_of_the_ring(2);
    let taken = fill_up(&mut scene.store);
    let large = scene.batch(70_000);
    scene
        .store
        .append_anyway(LogId(2), large, Offset(7), LeaderEpoch(0));
    assert!(scene.asked().is_empty() && scene.store.checkpoint_due());
    // What has chunks already is written to them all the same.
    let fills = scene.checkpoint_asked();
    assert_eq!(fills.len(), 1);
    scene.perform(fills);
    assert!(scene.store.checkpoint.is_none());
    assert_eq!(scene.store.flights.len(), 1);
    (scene, taken)
}

#[test]
fn a_checkpoint_does_not_wait_for_what_waits_for_it() {
    let (mut scene, taken) = put_off_after_it_took_in_a_flush();
    // For this one the ring has room; it is done at once, behind the other.
    let small = scene.batch(100);
    scene
        .store
        .append_anyway(LogId(1), small, Offset(7), LeaderEpoch(0));
    let ops = scene.asked();
    assert_eq!(ops.len(), 1, "a record");
    scene.perform(ops);
    assert_eq!(
        scene.store.flights.len(),
        2,
        "not durable without the first"
    );
    give_back(&mut scene.store, taken);
    assert!(scene.store.checkpoint_due(), "somebody waits for it");
    scene.checkpoint();
    assert_eq!(scene.store.durable_seq(), scene.store.pending_seq());
}

#[test]
fn a_checkpoint_that_was_put_off_is_tried_again_when_its_owner_thinks_so() {
    let (mut scene, _) = put_off_after_it_took_in_a_flush();
    assert!(!scene.store.checkpoint_due(), "nothing has changed");
    assert!(scene.store.waits_for_room());
    // What a delete gives back, and how much smaller it makes the checkpoint, only a checkpoint can tell.
    scene.store.delete_log(LogId(2));
    assert!(!scene.store.checkpoint_due());
    scene.store.try_again();
    scene.store.let_go_filled();
    assert!(scene.store.checkpoint_due() && !scene.store.waits_for_room());
    assert_eq!(scene.checkpoint_asked().len(), 1, "the delete");
    assert!(!scene.store.checkpoint_due() && scene.store.waits_for_room());
}

/// It would be known of no checkpoint and of no record, until the log remarks something else.
#[test]
fn what_was_remarked_is_not_lost_with_a_checkpoint_that_is_put_off() {
    let mut scene = Scene::new(Sabotage::default());
    let of = |scene: &Scene, log| scene.store.remarks.get(&LogId(log)).cloned();
    let said = |what: &'static [u8]| Bytes::from_static(what);
    scene
        .store
        .create_log(LogId(3), LogLabel::default(), Offset(0));
    let ops = scene.asked();
    scene.perform(ops);
    (1..4).for_each(|log| scene.store.remark(LogId(log), said(b"old")));
    let taken = fill_up(&mut scene.store);
    let mut ops = Vec::new();
    scene.store.begin_checkpoint(&mut ops);
    while let Some(log) = scene.store.next_lacking() {
        scene.store.give_state(log, Bytes::new());
    }
    assert!(scene.store.remarks.is_empty(), "their states say it");
    // One says something else meanwhile, another one is deleted: what they had said does not count.
    scene.store.remark(LogId(2), said(b"new"));
    scene.store.delete_log(LogId(3));
    scene.store.checkpoint_advance(&mut ops);
    scene.perform(ops);
    assert!(scene.store.checkpoint.is_none() && scene.store.put_off.is_some());
    let remarks = [1, 2, 3].map(|log| of(&scene, log));
    assert_eq!(remarks, [Some(said(b"old")), Some(said(b"new")), None]);
    give_back(&mut scene.store, taken);
    scene.checkpoint();
    assert!(scene.store.remarks.is_empty());
}

/// Free space of small chunks alone, no two of them side by side.
fn crumble(store: &mut Store) {
    let crumbs = fill_up(store).into_iter().step_by(2).collect();
    give_back(store, crumbs);
}

#[test]
fn crumbs_are_as_good_as_whole_regions() {
    let mut scene = Scene::new(Sabotage::default());
    crumble(&mut scene.store);
    // In one run: a reference for each crumb.
    let long = scene.batch(3 << 19);
    scene.acknowledged(1, &long);
    let segment = &scene.store.map.logs[&LogId(1)].segments[0];
    let small = |extent: &map::Extent| extent.chunk.class == Class::Small;
    assert!(segment.extents.len() == 96 && segment.extents.iter().all(small));
    scene.restart();
    scene.check();
    // A checkpoint that no chunk holds.
    crumble(&mut scene.store);
    let state = Bytes::from(vec![7; 1 << 20]);
    let mut ops = Vec::new();
    let states = vec![(LogId(1), state)];
    scene.store.checkpoint(states, &mut ops);
    scene.perform(ops);
    let chunks: Vec<Chunk> = scene.store.copies.iter().flat_map(Copy::chunks).collect();
    assert!(chunks.iter().all(|chunk| chunk.class == Class::Small));
    scene.restart();
    scene.store.invariants();
    scene.check();
}

/// Does all that the store wants done.
fn settle(store: &mut Store, ops: &mut Vec<DiskOp>) {
    store.poll(ops);
    while let Some(op) = ops.pop() {
        store.on_disk(op.id(), Ok(()), ops, &mut Vec::new());
        store.poll(ops);
    }
}

#[test]
fn a_store_that_winds_down_grows_only_for_those_who_wait() {
    let config = StoreConfig {
        journal_bytes: 128 << 10,
        ..StoreConfig::default()
    };
    let (mut store, _) = Store::format(StoreId(1), config, 5);
    let polled = |store: &mut Store| {
        let mut ops = Vec::new();
        store.poll(&mut ops);
        ops
    };
    store.create_log(LogId(1), LogLabel::default(), Offset(0));
    store.wind_down();
    let mut ops = polled(&mut store);
    assert!(matches!(ops[..], [DiskOp::Write { through: true, .. }]));
    store.on_disk(ops[0].id(), Ok(()), &mut ops, &mut Vec::new());
    assert!(polled(&mut store).is_empty());
    // A producer waits.
    assert!(store.grows_for_clients(1000));
    let mut ops = polled(&mut store);
    assert!(matches!(ops[..], [DiskOp::Allocate { .. }]), "{ops:?}");
    let no_room = Err(DiskError {
        errno: DiskError::ENOSPC,
    });
    store.on_disk(ops[0].id(), no_room, &mut ops, &mut Vec::new());
    assert!(polled(&mut store).is_empty(), "it has to ask again");
    // A flush waits for a checkpoint, and that for room.
    let batch = vec![7; 1 << 20].into();
    store.append_anyway(LogId(1), batch, Offset(0), LeaderEpoch(0));
    assert!(polled(&mut store).is_empty() && store.checkpoint_due());
    store.checkpoint(Vec::new(), &mut ops);
    assert!(store.waits_for_room());
    // The owner asks the store to try once more whenever it looks whether it has come to rest.
    store.try_again();
    let mut ops = polled(&mut store);
    assert!(matches!(ops[..], [DiskOp::Allocate { .. }]), "{ops:?}");
    // A checkpoint for which nobody waits is no reason.
    store.on_disk(ops[0].id(), Ok(()), &mut ops, &mut Vec::new());
    ops.clear();
    store.try_again();
    store.checkpoint(Vec::new(), &mut ops);
    settle(&mut store, &mut ops);
    assert!(store.is_quiet());
    fill_up(&mut store);
    store.checkpoint(Vec::new(), &mut ops);
    assert!(store.waits_for_room());
    assert!(polled(&mut store).is_empty());
}

#[test]
fn a_copy_of_a_checkpoint_that_was_not_found_is_not_looked_for_again() {
    for copy in [0, 1] {
        let mut scene = Scene::new(Sabotage::default());
        // Small chunks alone: so many that each copy has a list of them.
        crumble(&mut scene.store);
        let state = Bytes::from(vec![7; 3 << 20]);
        let mut ops = Vec::new();
        scene.store.checkpoint(vec![(LogId(1), state)], &mut ops);
        scene.perform(ops);
        let named = scene.store.superblock.checkpoint.clone();
        assert!(named.iter().all(|copy| copy.is_list));
        // Its list cannot be read, once; what it names is anybody's then.
        scene.restart_without(&[named[copy].chunks[0].pos]);
        for _ in 0..24 {
            let bulk = scene.batch(512 << 10);
            scene.acknowledged(2, &bulk);
        }
        scene.restart();
        scene.check();
        assert!(scene.store.checkpoint_due(), "it is to stand twice again");
    }
}

/// What a store goes by when it refuses producers and when it makes checkpoints.
fn estimates(store: &Store) -> [u64; 5] {
    let since = store.since_checkpoint;
    [
        store.state_bytes,
        store.unplaced_bytes,
        since.state_bytes,
        since.inline_bytes,
        store.placed_since,
    ]
}

#[test]
fn a_restart_changes_nothing_that_a_store_goes_by() {
    let mut scene = Scene::new(Sabotage::default());
    for round in 0..4u64 {
        for n in 0..20 {
            let len = if n % 5 == 0 { 9000 } else { 100 * n };
            let batch = scene.batch(len);
            scene.acknowledged(1 + (n as u64 + round) % 3, &batch);
        }
        scene.store.note(LogId(1), Bytes::from_static(b"note"));
        scene.store.roll(LogId(2), SegmentId(1 + round), Offset(8));
        scene.settle();
        let before = estimates(&scene.store);
        scene.restart();
        assert_eq!(estimates(&scene.store), before, "round {round}");
        // Tails of less than a block stay with the checkpoint.
        scene.checkpoint();
        let before = estimates(&scene.store);
        assert!(before[0] < 2000 && before[1] > 0, "{before:?}");
        scene.restart();
        assert_eq!(estimates(&scene.store), before, "round {round}");
    }
}

/// What stands between the batches that a flush has for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Nothing,
    /// A new segment, after the first.
    Roll,
    /// A note, after each: it parts them into runs.
    Notes,
}

/// What one flush has for one log: bytes that earlier flushes left inline, and batches of its own.
type Part = (usize, Vec<usize>, Between);

/// What a flush finds.
#[derive(Clone, Copy, Debug)]
struct Edge {
    /// Bytes free beyond what has to stay so.
    over: i64,
    /// Small chunks alone are free.
    crumbs: bool,
    /// A checkpoint is being made that has been given these logs, and lacks others.
    gathering: bool,
}

/// One flush for some logs when the chunks that are left may do for some of them and not for others; the store
/// itself checks that the record is no longer than it said.
fn flush_near_the_edge(parts: &[Part], edge: Edge) {
    const OTHER: LogId = LogId(99);
    let config = StoreConfig {
        journal_bytes: 4 << 20,
        raw: true,
        bytes_max: 64 << 20,
        bulk_bytes_min: 4096,
        flush_bytes_max: 512 << 10,
        tail_bytes_max: 0,
        ..StoreConfig::default()
    };
    let (mut store, _) = Store::format(StoreId(1), config, 5);
    let mut ops = Vec::new();
    let taken = fill_up(&mut store);
    let append = |store: &mut Store, log: usize, len: usize| {
        let batch = vec![7; len].into();
        store.append_anyway(LogId(log as u64), batch, Offset(0), LeaderEpoch(0));
    };
    store.create_log(OTHER, LogLabel::default(), Offset(0));
    for (log, (before, ..)) in parts.iter().enumerate() {
        store.create_log(LogId(log as u64), LogLabel::default(), Offset(0));
        append(&mut store, log, *before);
        settle(&mut store, &mut ops);
    }
    if edge.gathering {
        store.begin_checkpoint(&mut ops);
        (0..parts.len()).for_each(|log| {
            store.give_state(LogId(log as u64), Bytes::new());
        });
    }
    for (log, (_, batches, between)) in parts.iter().enumerate() {
        let id = LogId(log as u64);
        for (n, len) in batches.iter().enumerate() {
            append(&mut store, log, *len);
            match between {
                Between::Roll if n == 0 => {
                    store.roll(id, SegmentId(1), Offset(1));
                }
                Between::Notes => {
                    store.note(id, Bytes::from_static(b"note"));
                }
                Between::Roll | Between::Nothing => {}
            }
        }
    }
    let free = store.leave().saturating_add_signed(edge.over);
    for chunk in taken.into_iter().step_by(if edge.crumbs { 2 } else { 1 }) {
        if store.chunks.free_bytes() < free {
            store.chunks.free(chunk);
        }
    }
    settle(&mut store, &mut ops);
    assert_eq!(store.lacks_logs(), edge.gathering);
    while let Some(log) = store.next_lacking() {
        store.give_state(log, Bytes::new());
    }
    store.checkpoint_advance(&mut ops);
    settle(&mut store, &mut ops);
    assert_eq!(store.durable_seq(), store.pending_seq());
}

/// Some go inline, and for others there are more references than their bytes would have taken.
#[test]
fn a_record_of_both_kinds_has_a_bound_too() {
    let inline = (0, vec![8 << 10], Between::Nothing);
    let parts = [
        inline.clone(),
        inline.clone(),
        inline,
        ((500 << 10) + 4000, vec![4096], Between::Nothing),
    ];
    let edge = Edge {
        over: -(32 << 10),
        crumbs: true,
        gathering: false,
    };
    flush_near_the_edge(&parts, edge);
}

/// A large chunk that is just worth its bytes leaves nothing of what is free to the next log: whatever a checkpoint
/// needs for those bytes has to be free beyond that.
#[test]
fn a_checkpoint_that_gathers_takes_nothing_of_what_a_flush_was_promised() {
    let edge = Edge {
        over: 16 << 10,
        crumbs: false,
        gathering: true,
    };
    let other = (0, vec![40_000], Between::Nothing);
    // Bytes that the checkpoint has not taken, and bytes that it has.
    let small_ones_and_a_bulk = [vec![4000; 15], vec![4096]].concat();
    flush_near_the_edge(
        &[(0, small_ones_and_a_bulk, Between::Notes), other.clone()],
        edge,
    );
    flush_near_the_edge(&[(60_000, vec![4096], Between::Nothing), other], edge);
}

/// A chunk that is much larger than what goes into it takes of what a checkpoint comes to need for the bytes that it
/// has already: what is left would not do for the small chunks that the next logs were promised.
#[test]
fn a_large_chunk_takes_nothing_of_what_a_flush_was_promised() {
    let large = (20_384, vec![4200], Between::Nothing);
    let other = (0, vec![8000], Between::Nothing);
    let parts = [large, other.clone(), other.clone(), other];
    for over in (100 << 10..260 << 10).step_by(4096) {
        let edge = Edge {
            over,
            crumbs: false,
            gathering: true,
        };
        flush_near_the_edge(&parts, edge);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_record_is_longer_than_its_bound(
        parts in proptest::collection::vec(
            (
                prop_oneof![0usize..9000, 0usize..600_000],
                proptest::collection::vec(prop_oneof![61usize..5000, 4000usize..40_000], 1..24),
                prop_oneof![Just(Between::Nothing), Just(Between::Roll), Just(Between::Notes)],
            ),
            1..7,
        ),
        over in prop_oneof![-(128i64 << 10)..(512 << 10), -(4i64 << 20)..(8 << 20)],
        crumbs in any::<bool>(),
        gathering in any::<bool>(),
    ) {
        flush_near_the_edge(&parts, Edge { over, crumbs, gathering });
    }
}

/// What is known of a chunk's pages in the cache of the system is known of one use of it.
#[test]
fn a_chunk_that_is_given_out_again_is_to_be_looked_at_again() {
    let mut scene = Scene::new(Sabotage::default());
    let long = scene.batch(3 << 19);
    scene.acknowledged(1, &long);
    let extents = |scene: &Scene, log| -> Vec<map::Extent> {
        scene.store.map.logs[&LogId(log)].segments[0]
            .extents
            .clone()
    };
    let before = extents(&scene, 1);
    for extent in &before {
        assert!(extent.pin.begin_to_look());
        extent.pin.looked(true);
    }
    let chunks: Vec<Chunk> = before.iter().map(|extent| extent.chunk).collect();
    scene.store.delete_log(LogId(1));
    scene.checkpoint();
    // They are held by who reads them.
    let free = fill_up(&mut scene.store);
    let within = |free: &Chunk| {
        let holds =
            |chunk: &Chunk| chunk.pos <= free.pos && free.pos < chunk.pos + chunk.class.bytes();
        chunks.iter().any(holds)
    };
    assert!(!free.iter().any(within));
    give_back(&mut scene.store, free);
    drop(before);
    scene.checkpoint();
    let mut again = 0;
    for _ in 0..8 {
        let long = scene.batch(3 << 19);
        scene.acknowledged(2, &long);
    }
    for extent in extents(&scene, 2) {
        again += usize::from(chunks.contains(&extent.chunk));
        assert_eq!(extent.pin.trust(), Trust::Unknown);
        assert!(extent.pin.begin_to_look());
    }
    assert!(again > 0, "none was given out again");
}

/// The page cache is asked for whole chunks alone: nothing more is written to those.
#[test]
fn a_chunk_is_sealed_when_all_of_it_is_durable() {
    let mut scene = Scene::new(Sabotage::default());
    scene.store.set_tail_bytes_max(0);
    let (mut sealed, mut open) = (0, 0);
    for _ in 0..12 {
        let batch = scene.batch(300_000);
        scene.acknowledged(1, &batch);
        // What is in memory besides is forgotten a bit at a time.
        for _ in 0..100 {
            let ops = scene.asked();
            scene.perform(ops);
        }
        let segment = &scene.store.map.logs[&LogId(1)].segments[0];
        let (store, log, id, len) = (&scene.store, LogId(1), segment.id, segment.len);
        store.read(log, id, 0, len as usize, &mut Vec::new());
        for extent in &segment.extents {
            let end = segment.extent_at(extent.start).map(|(_, end)| end);
            let whole = end.is_some_and(|end| end <= segment.filled);
            let is_sealed = extent.pin.is_sealed();
            assert!(whole || !is_sealed, "{extent:?}");
            (sealed, open) = (sealed + u32::from(is_sealed), open + u32::from(!whole));
        }
    }
    assert!(sealed > 0 && open > 0, "{sealed} sealed, {open} not");
}
