//! Rot costs the logs that it is in, and no others; and what is known to be damaged stays known.

use std::collections::BTreeSet;

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
        targets.push((layout::RING_START + at % ring + 60, logs));
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
    let states = logs.into_iter().map(|log| (log, Bytes::from_static(b"s")));
    let mut ops = Vec::new();
    world.store.checkpoint(states.collect(), &mut ops);
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
