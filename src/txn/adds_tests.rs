//! Adds of one producer from many sides at once.

use super::testing::{World, partition};
use super::{TxnProducer, TxnState, TxnUsage, TxnVersion};
use crate::base::ErrorCode as E;
use crate::base::limits::TXN_ADDS_TOGETHER_MAX;

fn world() -> (World, TxnProducer) {
    let mut world = World::new();
    world.set_version(TxnVersion::V2);
    let token = world.init("t", 60_000, None);
    world.commit_all();
    let producer = world.producers[&token].unwrap();
    (world, producer)
}

fn partitions(world: &World) -> Vec<i32> {
    let facts = world.coordinator.facts("t").unwrap();
    assert_eq!(facts.state, TxnState::Ongoing);
    facts.partitions.iter().map(|it| it.1).collect()
}

#[test]
fn those_that_come_meanwhile_share_the_next_write() {
    let (mut world, me) = world();
    let add = |world: &mut World, all: &[i32]| {
        let all: Vec<_> = all.iter().map(|it| partition("a", *it)).collect();
        world.add("t", me, &all)
    };
    let first = add(&mut world, &[0, 1]);
    let others = [&[2][..], &[0, 3], &[2, 3]].map(|all| add(&mut world, all));
    let contained = add(&mut world, &[1]);
    assert!(world.done.is_empty(), "nothing is durable yet");
    assert_eq!(world.appends.len(), 1);
    world.commit();
    assert_eq!(
        (world.done[&first], world.done[&contained]),
        (E::None, E::None)
    );
    assert_eq!((world.done.len(), world.appends.len()), (2, 1));
    assert_eq!(partitions(&world), [0, 1]);
    // What it has is answered at once, what comes with the next one joins that.
    let known = add(&mut world, &[0, 1]);
    assert_eq!(world.done[&known], E::None);
    let joins = add(&mut world, &[0, 2]);
    let third = add(&mut world, &[4]);
    world.commit();
    for token in others.into_iter().chain([joins]) {
        assert_eq!(world.done[&token], E::None);
    }
    assert_eq!(partitions(&world), [0, 1, 2, 3]);
    assert!(!world.done.contains_key(&third));
    world.commit_all();
    assert_eq!(world.done[&third], E::None);
    assert_eq!(partitions(&world), [0, 1, 2, 3, 4]);
}

#[test]
fn others_are_told_to_come_again() {
    let (mut world, me) = world();
    let first = world.add("t", me, &[partition("a", 0)]);
    let waits = world.add("t", me, &[partition("a", 1)]);
    let busy = E::ConcurrentTransactions;
    for _ in 0..2 {
        let other = TxnProducer {
            epoch: me.epoch + 1,
            ..me
        };
        for stranger in [other, TxnProducer { id: 5, ..me }] {
            let token = world.add("t", stranger, &[partition("a", 0)]);
            assert_eq!(world.done[&token], busy);
        }
        world.version = TxnVersion::V0;
        let token = world.add("t", me, &[partition("a", 0)]);
        assert_eq!(world.done[&token], busy, "of another version");
        world.version = TxnVersion::V2;
        let token = world.end_by("t", me, true, TxnVersion::V2);
        assert_eq!(world.producers[&token], Err(busy));
        let token = world.init("t", 60_000, None);
        assert_eq!(world.producers[&token], Err(busy));
        world.commit();
    }
    assert_eq!((world.done[&first], world.done[&waits]), (E::None, E::None));
    // The end is being written, or has been: no add waits for that.
    world.end_by("t", me, true, TxnVersion::V2);
    for _ in 0..2 {
        let token = world.add("t", me, &[partition("a", 2)]);
        assert_eq!(world.done[&token], busy);
        world.commit_all();
    }
}

#[test]
fn who_waits_is_told_what_becomes_of_the_write() {
    // It is refused.
    let (mut world, me) = world();
    let add = |world: &mut World, index| world.add("t", me, &[partition("a", index)]);
    let refused = [0, 0, 1].map(|index| add(&mut world, index));
    world.refuse(E::NotEnoughReplicas);
    for token in refused {
        assert_eq!(world.done[&token], E::CoordinatorNotAvailable);
    }
    assert!(world.appends.is_empty());
    // It takes too long: nobody waits any more, and nobody joins.
    let late = [0, 0, 1].map(|index| add(&mut world, index));
    let (append, _) = world.appends[0];
    world.act(|it, _, out| it.late(append, E::RequestTimedOut, out));
    for token in late {
        assert_eq!(world.done[&token], E::CoordinatorNotAvailable);
    }
    for index in [0, 1] {
        let token = add(&mut world, index);
        assert_eq!(world.done[&token], E::ConcurrentTransactions);
    }
    world.commit();
    assert!(world.appends.is_empty());
    // The transaction is to be aborted by then.
    let (first, waits) = (add(&mut world, 1), add(&mut world, 2));
    world.advance(60_000);
    world.commit();
    assert_eq!(world.done[&first], E::None);
    assert_eq!(world.done[&waits], E::ConcurrentTransactions);
    world.commit_all();
    let facts = world.coordinator.facts("t").unwrap();
    assert_eq!(facts.state, TxnState::PrepareAbort);
}

#[test]
fn the_coordinator_is_given_up() {
    let (mut world, me) = world();
    let first = world.add("t", me, &[partition("a", 0)]);
    let waits = world.add("t", me, &[partition("a", 1)]);
    world.coordinator.unload();
    world.commit();
    assert_eq!(world.done[&first], E::None);
    assert_eq!(world.done[&waits], E::NotCoordinator);
    assert!(world.coordinator.is_quiet());
}

#[test]
fn what_waits_is_bounded() {
    let (mut world, me) = world();
    let busy = E::ConcurrentTransactions;
    world.add("t", me, &[partition("a", 0)]);
    for number in 1..TXN_ADDS_TOGETHER_MAX {
        let token = world.add("t", me, &[partition("a", (number % 3) as i32)]);
        assert!(!world.done.contains_key(&token));
    }
    let token = world.add("t", me, &[partition("a", 0)]);
    assert_eq!(world.done[&token], busy);
    world.commit_all();
    assert_eq!(
        world.done.values().filter(|it| it.is_none()).count(),
        TXN_ADDS_TOGETHER_MAX
    );
    // As many partitions as one may have.
    let many: Vec<_> = (3..4095).map(|it| partition("a", it)).collect();
    world.add("t", me, &many);
    let waits = world.add("t", me, &[partition("a", 4095)]);
    let token = world.add("t", me, &[partition("a", 4096)]);
    assert_eq!(world.done[&token], E::UnknownServerError);
    world.commit_all();
    assert_eq!(world.done[&waits], E::None);
    // Without room for somebody who waits.
    let (mut world, me) = self::world();
    world.add("t", me, &[partition("a", 0)]);
    world.coordinator.set_room(TxnUsage { ids: 0, bytes: 10 });
    for index in [0, 1] {
        let token = world.add("t", me, &[partition("a", index)]);
        assert_eq!(world.done[&token], E::CoordinatorNotAvailable);
    }
}
