//! Rot costs the logs that it is in, and no others; and what is known to be damaged stays known.

use std::collections::BTreeSet;

use super::super::start_tests::Scene;
use super::*;

/// A place in the file, and the logs that lose something with it.
type Target = (u64, BTreeSet<LogId>);

/// A byte of each journal record that recovery needs, and of each range that one refers to.
fn targets(world: &World) -> Vec<Target> {
    let superblock = &world.store.superblock;
    let ring = superblock.journal_bytes;
    let (mut targets, mut seq, mut pos) = (Vec::new(), superblock.flush, superblock.ring_pos);
    loop {
        let next = [pos, pos.next_multiple_of(ring)]
            .into_iter()
            .find_map(|at| {
                let read = &mut world.disk.reader();
                let (header, record) = recover::record_at(superblock, false, at, read).unwrap()?;
                let is_next = header.seq.0 == seq.0 + 1 && recover::counts(superblock, &header);
                is_next.then_some((at, header, record))
            });
        let Some((at, header, record)) = next else {
            return targets;
        };
        let entries = journal::entries(&record).expect("entries");
        let logs = journal::logs_of(&entries).into_iter().collect();
        targets.push((layout::RING_START + at % ring + 40, logs));
        for entry in entries {
            if let Entry::Ref {
                log,
                pos,
                chunk,
                chunk_start,
                ..
            } = entry
            {
                targets.push((chunk.pos + pos - chunk_start, BTreeSet::from([log])));
            }
        }
        seq = header.seq;
        pos = at + layout::block_ceil(u64::from(header.len));
    }
}

fn damaged(store: &Store) -> BTreeSet<LogId> {
    store.damaged().map(|(log, ..)| log).collect()
}

fn settle(world: &mut World) {
    for _ in 0..20_000 {
        world.pump(50);
        if world.store.is_quiet() {
            return;
        }
    }
    panic!("it does not come to rest");
}

fn checkpoint(world: &mut World) {
    let logs: Vec<LogId> = world.store.logs().map(|(log, _)| log).collect();
    let mut ops = Vec::new();
    world.store.begin_checkpoint(&mut ops);
    logs.into_iter().for_each(|log| world.give_state(log));
    world.store.checkpoint_advance(&mut ops);
    world.disk.ask(&mut ops);
    settle(world);
}

/// Uses the store for a while, through checkpoints and restarts.
fn go_on(world: &mut World) {
    for round in 0..3 {
        for _ in 0..40 {
            world.act();
            world.pump(4);
            world.read();
        }
        settle(world);
        if round == 1 {
            checkpoint(world);
        }
        world.restart(false);
    }
}

#[test]
fn rot_damages_the_logs_that_it_is_in_and_no_other() {
    let (mut torn, mut hit) = (0, 0);
    for seed in 100..124 {
        let mut world = settled(seed);
        let targets = targets(&world);
        if targets.is_empty() {
            continue;
        }
        let (pos, logs) = &targets[world.rng.below(targets.len() as u64) as usize];
        world.disk.image[*pos as usize] ^= 1;
        let (store, report) = reopen(&world).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let found = damaged(&store);
        if store.durable_seq() < world.durable {
            // Nothing on the disk says that it was acknowledged.
            assert!(found.is_empty());
            torn += 1;
            continue;
        }
        let alive = |log: &&LogId| !world.logs[log].deleted;
        assert!(found.is_subset(logs), "seed {seed}: {found:?}");
        assert!(logs.iter().filter(alive).all(|log| found.contains(log)));
        assert!(!report.rot.is_empty(), "seed {seed}");
        hit += usize::from(!found.is_empty());
        // All others are as they were, and are used as before; those stay what they are until they are deleted.
        world.restart(false);
        go_on(&mut world);
        assert_eq!(damaged(&world.store), found, "seed {seed}");
        for log in found {
            world.store.delete_log(log);
        }
        settle(&mut world);
        go_on(&mut world);
        assert!(damaged(&world.store).is_empty());
    }
    assert!(hit > 12 && torn < 10, "{hit} hit, {torn} torn");
}

#[test]
fn a_store_at_rest_tells_rot_in_its_last_record_from_a_torn_one() {
    let mut told = 0;
    for seed in 100..140 {
        let mut world = settled(seed);
        let mut targets = targets(&world);
        if !world.store.lacks_proof() {
            continue;
        }
        let (pos, logs) = targets.pop().expect("it is about something");
        let found = |world: &mut World, pos: u64| {
            world.disk.image[pos as usize] ^= 1;
            let (store, _) = reopen(world).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            world.disk.image[pos as usize] ^= 1;
            (store.durable_seq(), damaged(&store))
        };
        let last = world.durable;
        let (durable, none) = found(&mut world, pos);
        assert!(durable < last && none.is_empty(), "it looks torn");
        let checkpoint = world.store.superblock.flush;
        world.store.prove();
        settle(&mut world);
        if world.store.superblock.flush != checkpoint {
            continue;
        }
        assert!(world.durable > last && !world.store.lacks_proof());
        let (durable, hurt) = found(&mut world, pos);
        let alive = |log: &&LogId| !world.logs[log].deleted;
        assert!(durable == world.durable && hurt.is_subset(&logs));
        assert!(logs.iter().filter(alive).all(|log| hurt.contains(log)));
        // What says it may rot itself.
        let proof = self::targets(&world).pop().expect("a record");
        assert!(proof.1.is_empty());
        assert_eq!(found(&mut world, proof.0), (last, BTreeSet::new()));
        told += 1;
    }
    assert!(told > 5, "{told}");
}

#[test]
fn two_rotten_records_in_a_row_are_refused() {
    let mut refused = 0;
    for seed in 160..170 {
        let mut world = settled(seed);
        let ring = layout::RING_START..layout::RING_START + world.store.superblock.journal_bytes;
        let records: Vec<Target> = targets(&world)
            .into_iter()
            .filter(|(pos, _)| ring.contains(pos))
            .collect();
        if records.len() < 20 {
            continue;
        }
        for (pos, _) in &records[3..5] {
            world.disk.image[*pos as usize] ^= 1;
        }
        let error = reopen(&world).unwrap_err();
        assert!(error.to_string().contains("the journal"), "{error}");
        refused += 1;
    }
    assert!(refused > 2, "{refused}");
}

#[test]
fn a_log_that_makes_no_sense_is_set_aside_for_good() {
    let mut world = settled(3);
    let log = world.alive().expect("a log");
    world.store.quarantine(log);
    world.logs.remove(&log);
    checkpoint(&mut world);
    world.restart(false);
    go_on(&mut world);
    assert_eq!(damaged(&world.store), BTreeSet::from([log]));
}

/// Rot, or what reads as if it were, in the first block of the record that is written next.
fn next_record(scene: &Scene) -> usize {
    (layout::RING_START + scene.store.ring_head) as usize + 60
}

fn only(log: u64) -> BTreeSet<LogId> {
    BTreeSet::from([LogId(log)])
}

/// What is in memory alone is lost with the process; what is known to be damaged is not, how often it ends.
#[test]
fn rot_before_a_torn_record_stays_known() {
    let mut scene = Scene::new(Sabotage::default());
    let small = scene.batch(500);
    scene.acknowledged(1, &small);
    let rot = next_record(&scene);
    scene.acknowledged(2, &small);
    let durable = scene.store.durable_seq();
    let bulk = scene.batch(8 << 10);
    scene.give(3, &bulk);
    let chunks = layout::chunks_start(scene.store.superblock.journal_bytes);
    let is_record = |op: &DiskOp| matches!(op, DiskOp::Write { pos, .. } if *pos < chunks);
    let ops = scene.asked();
    ops.iter()
        .filter(|op| is_record(op))
        .for_each(|op| scene.write(op));
    scene.disk.image[rot] ^= 1;
    for _ in 0..3 {
        scene.restart();
        assert_eq!(scene.store.durable_seq(), durable);
        assert_eq!(damaged(&scene.store), only(2));
        assert_eq!(scene.store.last_logs, [LogId(2)]);
        scene.give(1, &small);
        assert!(scene.asked().is_empty(), "nothing before the checkpoint");
        assert!(scene.store.checkpoint_due());
    }
    scene.checkpoint();
    scene.logs.remove(&LogId(2));
    let bytes = stamped(&small, Offset(7), LeaderEpoch(0));
    scene.logs.get_mut(&LogId(1)).unwrap().extend(bytes);
    scene.acknowledged(3, &bulk);
    for _ in 0..2 {
        scene.restart();
        assert_eq!(damaged(&scene.store), only(2));
        scene.check();
        scene.acknowledged(1, &small);
    }
}

/// A store that cannot read a record, this once: what it refers to is free for all that is known.
fn misread() -> (Scene, usize) {
    let mut scene = Scene::new(Sabotage::default());
    let (small, bulk) = (scene.batch(500), scene.batch(8 << 10));
    scene.acknowledged(1, &small);
    let rot = next_record(&scene);
    scene.acknowledged(2, &bulk);
    scene.acknowledged(1, &small);
    scene.disk.image[rot] ^= 1;
    scene.restart();
    assert_eq!(damaged(&scene.store), only(2));
    scene.disk.image[rot] ^= 1;
    (scene, rot)
}

#[test]
fn what_a_record_refers_to_is_given_to_nobody_while_it_may_be_read_again() {
    let (mut scene, _) = misread();
    let bulk = scene.batch(8 << 10);
    scene.give(3, &bulk);
    let ops = scene.asked();
    scene.perform(ops);
    scene.restart();
    assert!(damaged(&scene.store).is_empty());
    scene.check();
    // However far the checkpoint came.
    for cut in 0.. {
        let (mut scene, _) = misread();
        scene.give(3, &bulk);
        let mut ops = Vec::new();
        scene.store.checkpoint(Vec::new(), &mut ops);
        let mut done = 0;
        while done < cut && !ops.is_empty() {
            let op = ops.remove(0);
            scene.write(&op);
            let mut events = Vec::new();
            scene.store.on_disk(op.id(), Ok(()), &mut ops, &mut events);
            done += 1;
        }
        let whole = ops.is_empty();
        scene.restart();
        assert!(damaged(&scene.store).is_subset(&only(2)));
        scene.logs.retain(|log, _| *log == LogId(1));
        scene.check();
        if whole {
            assert_eq!(damaged(&scene.store), only(2));
            break;
        }
    }
}

#[test]
fn a_log_that_is_made_again_is_damaged_by_its_own_rot_alone() {
    for own in [true, false] {
        let mut scene = Scene::new(Sabotage::default());
        let (small, bulk) = (scene.batch(500), scene.batch(8 << 10));
        let again = |scene: &mut Scene| {
            scene.store.delete_log(LogId(2));
            let label = LogLabel::default();
            scene.store.create_log(LogId(2), label, Offset(0));
        };
        if own {
            again(&mut scene);
        }
        scene.give(2, &bulk);
        if !own {
            again(&mut scene);
        }
        let ops = scene.asked();
        let chunks = layout::chunks_start(scene.store.superblock.journal_bytes);
        let places = ops.iter().filter_map(|op| match op {
            DiskOp::Write { pos, .. } if *pos >= chunks => Some(*pos as usize),
            _ => None,
        });
        let places: Vec<usize> = places.collect();
        scene.perform(ops);
        scene.acknowledged(1, &small);
        // A base offset is no part of a batch's own CRC.
        scene.disk.image[places[0]] ^= 1;
        scene.restart();
        assert_eq!(damaged(&scene.store).contains(&LogId(2)), own);
        scene.check_all_but(own.then_some(LogId(2)));
    }
}

/// With a lost record that began a segment, it is not known which one a chunk belongs to.
#[test]
fn no_two_segments_of_a_damaged_log_have_one_chunk() {
    for drops in [false, true] {
        let mut scene = Scene::new(Sabotage::default());
        let (small, bulk) = (scene.batch(3300), scene.batch(5000));
        for _ in 0..3 {
            scene.acknowledged(2, &small);
        }
        let rot = next_record(&scene);
        scene.store.roll(LogId(2), SegmentId(1), Offset(8));
        scene.settle();
        scene.acknowledged(2, &bulk);
        if drops {
            scene.store.drop_before(LogId(2), SegmentId(1));
            scene.settle();
        }
        scene.acknowledged(2, &bulk);
        scene.acknowledged(1, &small);
        scene.disk.image[rot] ^= 1;
        for _ in 0..2 {
            scene.restart();
            assert_eq!(damaged(&scene.store), only(2));
            scene.check_all_but(Some(LogId(2)));
            let read = scene.content(&scene.store, LogId(2)).len() as u64;
            let segments = scene.store.segments(LogId(2));
            assert_eq!(read, segments.map(|(.., len)| len).sum::<u64>());
            scene.checkpoint();
        }
        scene.store.delete_log(LogId(2));
        scene.settle();
        scene.checkpoint();
        scene.restart();
        scene.check_all_but(Some(LogId(2)));
    }
}

#[test]
fn a_block_of_the_journal_that_nobody_needs_need_not_be_readable() {
    let mut scene = Scene::new(Sabotage::default());
    for _ in 0..3 {
        let small = scene.batch(500);
        scene.acknowledged(1, &small);
    }
    let ring = scene.store.superblock.journal_bytes;
    for block in [layout::RING_START + ring / 2, layout::RING_START + ring - 1] {
        scene.restart_without(&[block]);
        scene.check();
    }
}

/// Where a byte of the checkpoint is in the file.
fn place(copy: &Copy, at: usize) -> usize {
    let mut at = at as u64;
    for chunk in copy.chunks() {
        if at < chunk.class.bytes() {
            return (chunk.pos + at) as usize;
        }
        at -= chunk.class.bytes();
    }
    panic!("behind the end of the checkpoint");
}

#[test]
fn rot_in_both_copies_of_the_checkpoint_costs_what_is_whole_in_neither() {
    let mut hit = 0;
    for seed in 1..12 {
        let mut world = settled(seed);
        checkpoint(&mut world);
        let content = {
            let superblock = &world.store.superblock;
            let copy = &world.store.copies[0];
            copies::content(copy, superblock.checkpoint_sum(), &mut world.disk.reader())
                .unwrap()
                .0
        };
        let sections = snapshot::sections(&content).expect("a head");
        if sections.len() < 2 {
            continue;
        }
        hit += 1;
        let whole = |world: &World| damaged(&reopen(world).unwrap().0);
        let [first, second] = [0, 1].map(|n| sections[n].1.start);
        let at = |world: &World, copy: usize, at| place(&world.store.copies[copy], at);
        let flip = |world: &mut World, copy, byte| {
            let byte = at(world, copy, byte);
            world.disk.image[byte] ^= 4;
        };
        // Of each copy something else: it is all there.
        flip(&mut world, 0, first);
        flip(&mut world, 1, second);
        assert!(whole(&world).is_empty());
        assert!(reopen(&world).unwrap().0.checkpoint_due());
        // The head of one too: its sections are as good as before.
        flip(&mut world, 0, 20);
        assert!(whole(&world).is_empty());
        flip(&mut world, 1, 20);
        assert!(reopen(&world).is_err(), "without a head nothing is known");
        flip(&mut world, 0, 20);
        flip(&mut world, 1, 20);
        // The same of both.
        flip(&mut world, 1, first);
        let lost = BTreeSet::from([sections[0].0]);
        assert_eq!(whole(&world), lost, "seed {seed}");
        world.restart(false);
        go_on(&mut world);
        assert_eq!(damaged(&world.store), lost);
    }
    assert!(hit > 4, "{hit}");
}

#[test]
fn the_head_of_another_checkpoint_is_none() {
    let mut world = settled(2);
    checkpoint(&mut world);
    let superblock = world.store.superblock.clone();
    let copies = world.store.copies.clone();
    let content = copies::content(
        &copies[0],
        superblock.checkpoint_sum(),
        &mut world.disk.reader(),
    );
    // As long and as good, and of another time: writes that the disk has lost leave that.
    let mut other = content.unwrap().0.to_vec();
    other[16] ^= 128;
    for copy in &copies {
        for (at, byte) in other.iter().enumerate() {
            world.disk.image[place(copy, at)] = *byte;
        }
    }
    assert!(reopen(&world).is_err());
}
