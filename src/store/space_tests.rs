//! A store that has little room left, or none: what waits then, and what it may never wait for.

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
    scene.checkpoint_asked(0);
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
    assert!(scene.store.checkpoint_due() && !scene.store.waits_for_room());
    scene.checkpoint_asked(1);
    assert!(!scene.store.checkpoint_due() && scene.store.waits_for_room());
}
