//! What is found of a store in which something has rotted.

use super::super::start_tests::Scene;
use super::*;

/// What a walk through all logs finds, and whether there was damage.
fn walked(logs: &[LogRemains], world: &World) -> (BTreeMap<LogId, Vec<Bytes>>, bool) {
    let mut damaged = false;
    let mut batches: BTreeMap<LogId, Vec<Bytes>> = BTreeMap::new();
    for log in logs {
        let of = batches.entry(log.id).or_default();
        for segment in &log.segments {
            segment.walk(&mut world.disk.reader(), &mut |found| match found {
                Found::Batch(batch) => of.push(batch.clone()),
                Found::Damage(_) => damaged = true,
            });
        }
    }
    batches.retain(|_, of| !of.is_empty());
    (batches, damaged)
}

/// Whether recovery says that something acknowledged is lost.
fn is_hurt(world: &World) -> bool {
    reopen(world).map_or(true, |(store, _)| store.damaged().next().is_some())
}

#[test]
fn a_rotten_journal_record_costs_what_it_says_and_no_more() {
    let mut hurt = 0;
    for seed in 20..40 {
        let mut world = settled(seed);
        let (store, _) = reopen(&world).unwrap();
        let (whole, damaged) = walked(&store.remains(), &world);
        assert!(!damaged);
        // Of a whole store the same is found.
        let salvaged = Store::salvage(StoreId(1), &mut world.disk.reader()).unwrap();
        assert_eq!(salvaged.problems, [""; 0], "seed {seed}");
        assert!(walked(&salvaged.logs, &world).0 == whole, "seed {seed}");
        let ring = world.store.superblock.journal_bytes;
        let tail = layout::RING_START + world.store.ring_tail % ring;
        let superblock = world.store.superblock.clone();
        let Ok(Some((header, record))) = recover::record_at(
            &superblock,
            false,
            world.store.ring_tail,
            &mut world.disk.reader(),
        ) else {
            continue;
        };
        if !recover::counts(&superblock, &header) {
            continue;
        }
        let named: Vec<LogId> = (journal::entries(&record).unwrap().iter())
            .map(Entry::log)
            .collect();
        world.disk.image[tail as usize + 60] ^= 1;
        hurt += u32::from(is_hurt(&world));
        let salvaged = Store::salvage(StoreId(1), &mut world.disk.reader()).unwrap();
        let (found, _) = walked(&salvaged.logs, &world);
        if is_hurt(&world) {
            assert_eq!(salvaged.problems.len(), 1, "{:?}", salvaged.problems);
        }
        for (log, batches) in &whole {
            if is_hurt(&world) && !named.contains(log) {
                let left = found.get(log).map_or(0, Vec::len);
                let same = found.get(log) == Some(batches);
                assert!(same, "seed {seed}, log {log}: {left} of {}", batches.len());
            }
        }
        // One superblock in one copy is all that it needs.
        world.disk.image[100] ^= 1;
        assert!(Store::salvage(StoreId(1), &mut world.disk.reader()).is_ok());
        world.disk.image[BLOCK + 100] ^= 1;
        assert!(Store::salvage(StoreId(1), &mut world.disk.reader()).is_err());
    }
    assert!(hurt > 3, "{hurt} stores were hurt");
}

/// A flush that went into the checkpoint has a number and no record.
#[test]
fn what_the_journal_says_is_found_behind_a_flush_that_a_checkpoint_took_in() {
    let mut scene = Scene::new(Sabotage::default());
    let mut given = 0;
    while !scene.store.checkpoint_due() || !scene.store.stuck {
        let small = scene.batch(3000);
        scene.give(1, &small);
        given += 1;
        let ops = scene.asked();
        scene.perform(ops);
    }
    let in_records = given - 1;
    scene.checkpoint();
    let small = scene.batch(3000);
    scene.acknowledged(1, &small);
    for copy in scene.store.superblock.checkpoint.clone() {
        scene.disk.put(copy.chunks[0].pos, &[0; BLOCK]);
    }
    assert!(scene.recover().is_err());
    let salvaged = Store::salvage(StoreId(1), &mut scene.disk.reader()).unwrap();
    let mut found = 0;
    for segment in salvaged.logs.iter().flat_map(|log| &log.segments) {
        segment.walk(&mut scene.disk.reader(), &mut |event| {
            found += usize::from(matches!(event, Found::Batch(_)));
        });
    }
    assert_eq!(found, in_records + 1, "{:?}", salvaged.problems);
    let lost = |problem: &String| problem.contains("are lost");
    assert!(
        salvaged.problems.iter().any(lost),
        "{:?}",
        salvaged.problems
    );
}
