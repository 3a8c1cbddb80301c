//! What each request comes to.

use super::records::txn_record;
use super::state::TxnPartition;
use super::testing::{World, partition};
use super::{TxnProducer, TxnState, TxnUsage, TxnVersion};
use crate::base::ErrorCode as E;
use crate::base::limits::MARKERS_TOGETHER_MAX;

/// A producer that has its first epoch.
fn begun(world: &mut World) -> TxnProducer {
    let token = world.init("t", 60_000, None);
    world.commit_all();
    world.producers[&token].unwrap()
}

/// One with a transaction that is going on.
fn ongoing(world: &mut World) -> TxnProducer {
    let producer = begun(world);
    let token = world.add("t", producer, &[partition("a", 0), partition("b", 1)]);
    world.commit_all();
    assert_eq!(world.done[&token], E::None);
    producer
}

fn state(world: &World) -> TxnState {
    world.coordinator.facts("t").unwrap().state
}

#[test]
fn a_transaction_from_its_beginning_to_its_end() {
    for commits in [true, false] {
        let mut world = World::new();
        let producer = ongoing(&mut world);
        assert_eq!((producer.id, producer.epoch), (1001, 0));
        let token = world.end("t", producer, commits);
        assert!(!world.producers.contains_key(&token) && world.markers.is_empty());
        world.commit_all();
        assert_eq!(world.producers[&token], Ok(producer), "it is decided");
        assert_eq!(state(&world), TxnState::prepare(commits));
        let markers = world.mark(|_| E::None).unwrap();
        assert_eq!((markers.producer, markers.commits), (producer, commits));
        assert_eq!(markers.partitions, [partition("a", 0), partition("b", 1)]);
        world.commit_all();
        assert_eq!(state(&world), TxnState::complete(commits));
        // Once more, and the other way.
        for (again, want) in [(commits, Ok(producer)), (!commits, Err(E::InvalidTxnState))] {
            let token = world.end("t", producer, again);
            assert_eq!(world.producers[&token], want);
        }
    }
}

#[test]
fn until_all_partitions_have_their_marker_the_next_transaction_waits() {
    let mut world = World::new();
    let producer = ongoing(&mut world);
    world.end("t", producer, true);
    world.commit_all();
    let moved = |it: &(_, i32)| match it.1 {
        0 => E::None,
        _ => E::NotLeaderOrFollower,
    };
    world.mark(moved);
    let token = world.add("t", producer, &[partition("a", 0)]);
    assert_eq!(world.done[&token], E::ConcurrentTransactions);
    for commits in [true, false] {
        let token = world.end("t", producer, commits);
        let told = Err(E::ConcurrentTransactions);
        assert_eq!(world.producers[&token], told);
    }
    let token = world.init("t", 60_000, None);
    assert_eq!(world.producers[&token], Err(E::ConcurrentTransactions));
    assert!(world.markers.is_empty(), "not at once");
    world.advance(100);
    let again = world.mark(|_| E::None).unwrap();
    assert_eq!(again.partitions, [partition("b", 1)]);
    // Its end cannot be written down now.
    world.refuse(E::NotEnoughReplicas);
    assert_eq!(state(&world), TxnState::PrepareCommit);
    world.advance(100);
    world.commit_all();
    assert_eq!(state(&world), TxnState::CompleteCommit);
    let token = world.add("t", producer, &[partition("a", 0)]);
    world.commit_all();
    assert_eq!(world.done[&token], E::None);
}

#[test]
fn a_partition_that_knows_a_newer_epoch_needs_no_marker() {
    let mut world = World::new();
    let producer = ongoing(&mut world);
    world.end("t", producer, true);
    world.commit_all();
    world.mark(|it| match it.1 {
        0 => E::InvalidProducerEpoch,
        _ => E::None,
    });
    world.commit_all();
    assert_eq!(state(&world), TxnState::CompleteCommit);
}

#[test]
fn what_ends_a_transaction_is_told_apart() {
    for version in [TxnVersion::V0, TxnVersion::V2] {
        let mut world = World::new();
        world.set_version(version);
        let mut producer = ongoing(&mut world);
        assert!(!world.ends, "it begins");
        // By its producer, by another one, and by time.
        for by in 0..3 {
            match by {
                0 => drop(world.end_by("t", producer, true, version)),
                1 => drop(world.init("t", 60_000, None)),
                _ => world.advance(60_000),
            }
            assert!(world.ends, "it is decided");
            world.commit();
            world.ends = false;
            world.mark(|_| E::None);
            assert!(world.ends && world.commit(), "and done");
            let token = world.init("t", 60_000, None);
            assert!(!world.ends);
            world.commit();
            producer = world.producers[&token].unwrap();
            world.add("t", producer, &[partition("a", 0)]);
            world.commit();
            assert!(!world.ends);
        }
    }
    // Whoever ends nothing may do so as often as he likes.
    let mut world = World::new();
    let producer = begun(&mut world);
    world.end_by("t", producer, false, TxnVersion::V2);
    assert!(!world.ends && world.appends.len() == 1);
}

#[test]
fn a_later_producer_fences_the_one_before_and_its_transaction() {
    let mut world = World::new();
    let old = ongoing(&mut world);
    let token = world.init("t", 60_000, None);
    world.commit_all();
    assert_eq!(world.producers[&token], Err(E::ConcurrentTransactions));
    let fence = TxnProducer { epoch: 1, ..old };
    let markers = world.mark(|_| E::None).unwrap();
    assert_eq!((markers.producer, markers.commits), (fence, false));
    let token = world.end("t", old, true);
    assert_eq!(world.producers[&token], Err(E::ProducerFenced));
    world.commit_all();
    let token = world.init("t", 60_000, None);
    world.commit_all();
    let new = TxnProducer { epoch: 2, ..old };
    assert_eq!(world.producers[&token], Ok(new));
    for producer in [old, fence] {
        let token = world.add("t", producer, &[partition("a", 0)]);
        assert_eq!(world.done[&token], E::ProducerFenced);
    }
    let other = TxnProducer { id: 5, ..new };
    let token = world.add("t", other, &[partition("a", 0)]);
    assert_eq!(world.done[&token], E::InvalidProducerIdMapping);
    let token = world.end("u", new, true);
    assert_eq!(world.producers[&token], Err(E::InvalidProducerIdMapping));
}

#[test]
fn what_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut world = World::new();
    let producer = ongoing(&mut world);
    world.advance(59_999);
    assert!(world.appends.is_empty());
    world.advance(1);
    world.refuse(E::NotEnoughReplicas);
    assert_eq!(state(&world), TxnState::Ongoing);
    world.advance(100);
    world.commit_all();
    assert_eq!(state(&world), TxnState::PrepareAbort);
    let token = world.end("t", producer, true);
    assert_eq!(world.producers[&token], Err(E::ProducerFenced));
    assert!(!world.mark(|_| E::None).unwrap().commits);
    world.commit_all();
    assert_eq!(state(&world), TxnState::CompleteAbort);
}

#[test]
fn a_producer_asks_for_its_next_epoch_and_may_ask_again() {
    let mut world = World::new();
    let first = begun(&mut world);
    let second = TxnProducer { epoch: 1, ..first };
    for _ in 0..2 {
        let token = world.init("t", 60_000, Some(first));
        world.commit_all();
        assert_eq!(world.producers[&token], Ok(second));
    }
    let token = world.init("t", 60_000, Some(second));
    world.commit_all();
    assert_eq!(
        world.producers[&token],
        Ok(TxnProducer { epoch: 2, ..first })
    );
    for stranger in [first, TxnProducer { id: 3, epoch: 2 }] {
        let token = world.init("t", 60_000, Some(stranger));
        assert_eq!(world.producers[&token], Err(E::ProducerFenced));
    }
}

#[test]
fn epochs_end_and_a_new_producer_id_follows() {
    let mut world = World::new();
    let first = begun(&mut world);
    let mut facts = world.coordinator.facts("t").unwrap().clone();
    facts.epoch = i16::MAX - 1;
    world
        .log
        .push(txn_record("t", Some(&facts), TxnVersion::V0));
    world.restart(0);
    let last = TxnProducer {
        epoch: i16::MAX - 1,
        ..first
    };
    let token = world.init("t", 60_000, Some(last));
    world.commit_all();
    let new = TxnProducer { id: 1002, epoch: 0 };
    assert_eq!(world.producers[&token], Ok(new));
    // The answer was lost: it asks again, by what it had.
    let token = world.init("t", 60_000, Some(last));
    world.commit_all();
    assert_eq!(world.producers[&token], Ok(new));
}

#[test]
fn what_is_wrong_with_a_request() {
    let mut world = World::new();
    for (id, timeout_ms, want) in [
        ("", 60_000, E::InvalidRequest),
        ("t", 0, E::InvalidTransactionTimeout),
        ("t", 900_001, E::InvalidTransactionTimeout),
    ] {
        let token = world.init(id, timeout_ms, None);
        assert_eq!(world.producers[&token], Err(want));
    }
    let producer = begun(&mut world);
    let token = world.end("t", producer, true);
    assert_eq!(
        world.producers[&token],
        Err(E::InvalidTxnState),
        "nothing has begun"
    );
    let token = world.end("", producer, true);
    assert_eq!(world.producers[&token], Err(E::InvalidRequest));
    let many: Vec<_> = (0..4097).map(|it| partition("a", it)).collect();
    let token = world.add("t", producer, &many);
    assert_eq!(world.done[&token], E::UnknownServerError);
    world.coordinator.set_room(TxnUsage { ids: 0, bytes: 10 });
    let token = world.add("t", producer, &many[..1]);
    assert_eq!(world.done[&token], E::CoordinatorNotAvailable);
    let token = world.init("u", 60_000, None);
    assert_eq!(world.producers[&token], Err(E::CoordinatorNotAvailable));
}

#[test]
fn partitions_of_the_transaction_that_goes_on_are_verified() {
    let mut world = World::new();
    let producer = ongoing(&mut world);
    let asked = [partition("a", 0), partition("a", 1)];
    let verify = |world: &World, producer| world.coordinator.verify(&"t".into(), producer, &asked);
    assert_eq!(verify(&world, producer), [E::None, E::TransactionAbortable]);
    let other = TxnProducer {
        epoch: 5,
        ..producer
    };
    assert_eq!(verify(&world, other), [E::ProducerFenced; 2]);
    world.end("t", producer, true);
    assert_eq!(verify(&world, producer)[0], E::None, "not decided yet");
    world.commit_all();
    assert_eq!(verify(&world, producer), [E::ConcurrentTransactions; 2]);
    world.mark(|_| E::None);
    world.commit_all();
    assert_eq!(verify(&world, producer), [E::TransactionAbortable; 2]);
}

/// However many partitions a transaction has, only some of its markers are on their way at a time, in a turn of their
/// own; those that are refused wait until all others have been tried.
#[test]
fn markers_of_many_partitions_are_sent_in_parts() {
    let mut world = World::new();
    let producer = begun(&mut world);
    let all: Vec<_> = (0..2 * MARKERS_TOGETHER_MAX as i32 + 1)
        .map(|it| partition("a", it))
        .collect();
    world.add("t", producer, &all);
    world.commit_all();
    world.end("t", producer, true);
    world.commit_all();
    assert!(world.markers.is_empty(), "that is left to a slice");
    world.advance(0);
    let mut first = world.markers.pop_front().unwrap();
    assert!(world.markers.is_empty());
    assert_eq!(first.partitions, all[..MARKERS_TOGETHER_MAX]);
    let place = (first.id.clone(), first.round);
    let answer = |world: &mut World, some: Vec<TxnPartition>, error| {
        let results = some.into_iter().map(|it| (it, error)).collect();
        world.act(|it, now, out| it.marked(now, (&place.0, place.1), results, out));
        world.advance(0);
    };
    // Two are refused, and one says nothing for long: as others are answered more are sent.
    let mut rest = first.partitions.split_off(3);
    answer(
        &mut world,
        first.partitions[..2].to_vec(),
        E::LeaderNotAvailable,
    );
    assert!(world.markers.is_empty());
    let mut sent = MARKERS_TOGETHER_MAX;
    while !rest.is_empty() {
        answer(&mut world, std::mem::take(&mut rest), E::None);
        if let Some(more) = world.markers.pop_front() {
            assert_eq!(more.partitions[0], all[sent]);
            sent += more.partitions.len();
            rest = more.partitions;
        }
    }
    assert_eq!(sent, all.len());
    world.advance(1_000);
    assert!(world.markers.is_empty(), "one is waited for");
    answer(&mut world, first.partitions[2..].to_vec(), E::None);
    for pause_ms in [0, 200, 400] {
        world.advance(pause_ms);
        let again = world.markers.pop_front().unwrap();
        assert_eq!(again.partitions, all[..2]);
        let error = if pause_ms == 400 {
            E::None
        } else {
            E::NotLeaderOrFollower
        };
        answer(&mut world, again.partitions, error);
    }
    world.advance(0);
    world.commit_all();
    assert_eq!(
        world.coordinator.facts("t").unwrap().state,
        TxnState::CompleteCommit
    );
}

#[test]
fn who_is_told_that_it_takes_too_long_finds_it_pending() {
    let mut world = World::new();
    let producer = ongoing(&mut world);
    let token = world.end("t", producer, true);
    let (append, _) = world.appends[0];
    world.act(|it, _, out| it.late(append, E::NotEnoughReplicasAfterAppend, out));
    let told = Err(E::CoordinatorNotAvailable);
    assert_eq!(world.producers[&token], told);
    assert!(world.coordinator.is_behind());
    for commits in [true, false] {
        let token = world.end("t", producer, commits);
        assert_eq!(world.producers[&token], Err(E::ConcurrentTransactions));
    }
    world.commit_all();
    assert!(!world.coordinator.is_behind());
    assert!(world.mark(|_| E::None).unwrap().commits);
}

#[test]
fn an_id_that_could_not_be_written_down_is_not_there() {
    let mut world = World::new();
    let token = world.init("t", 60_000, None);
    assert!(world.coordinator.facts("t").is_none());
    let second = world.init("t", 60_000, None);
    assert_eq!(world.producers[&second], Err(E::ConcurrentTransactions));
    world.refuse(E::NotEnoughReplicas);
    assert_eq!(world.producers[&token], Err(E::CoordinatorNotAvailable));
    assert_eq!(world.coordinator.usage(), TxnUsage::default());
}

#[test]
fn an_id_that_nobody_uses_is_forgotten() {
    let mut world = World::new();
    begun(&mut world);
    world.restart(0);
    world.advance(7 * 86_400_000 - 1);
    assert!(world.appends.is_empty());
    world.advance(1);
    let (_, records) = &world.appends[0];
    assert_eq!(records[0].1, None);
    world.commit_all();
    assert_eq!(world.coordinator.usage(), TxnUsage::default());
    world.restart(0);
    assert_eq!(world.coordinator.facts_after(None).count(), 0);
}

#[test]
fn what_was_decided_is_gone_on_with_by_whoever_leads_next() {
    let mut world = World::new();
    let producer = ongoing(&mut world);
    world.end("t", producer, true);
    world.restart(1);
    let markers = world.mark(|_| E::None).unwrap();
    assert_eq!((markers.producer, markers.commits), (producer, true));
    world.restart(0);
    assert!(
        world.mark(|_| E::None).is_some(),
        "its end is not in the log"
    );
    world.commit_all();
    world.restart(0);
    assert!(world.markers.is_empty());
}
