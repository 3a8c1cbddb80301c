//! What requests come to in transactions of version 2 (KIP-890).

use super::records::txn_record;
use super::state::LAST_EPOCH;
use super::testing::{World, partition};
use super::{TxnProducer, TxnState, TxnVersion};
use crate::base::ErrorCode as E;

fn world() -> World {
    let mut world = World::new();
    world.set_version(TxnVersion::V2);
    world
}

fn begun(world: &mut World) -> TxnProducer {
    let token = world.init("t", 60_000, None);
    world.commit_all();
    world.producers[&token].unwrap()
}

fn ongoing(world: &mut World, producer: TxnProducer) {
    let token = world.add("t", producer, &[partition("a", 0)]);
    world.commit_all();
    assert_eq!(world.done[&token], E::None);
}

fn end(world: &mut World, producer: TxnProducer, commits: bool) -> Result<TxnProducer, E> {
    let token = world.end_by("t", producer, commits, TxnVersion::V2);
    world.commit_all();
    world.producers[&token]
}

/// The markers are written, and that is written down.
fn complete(world: &mut World) -> TxnProducer {
    let markers = world.mark(|_| E::None).unwrap();
    assert_eq!(markers.version, TxnVersion::V2);
    world.commit_all();
    markers.producer
}

fn state(world: &World) -> (TxnState, i16) {
    let facts = world.coordinator.facts("t").unwrap();
    (facts.state, facts.epoch)
}

fn with_epoch(world: &mut World, epoch: i16) -> TxnProducer {
    let producer = begun(world);
    let mut facts = world.coordinator.facts("t").unwrap().clone();
    facts.epoch = epoch;
    world
        .log
        .push(txn_record("t", Some(&facts), TxnVersion::V2));
    world.restart(0);
    TxnProducer { epoch, ..producer }
}

#[test]
fn each_end_makes_the_epoch_grow() {
    for commits in [true, false] {
        let mut world = world();
        let first = begun(&mut world);
        ongoing(&mut world, first);
        let second = TxnProducer { epoch: 1, ..first };
        assert_eq!(end(&mut world, first, commits), Ok(second));
        assert_eq!(state(&world), (TxnState::prepare(commits), 1));
        // It asks again, the same and the other way, and as whom it is now.
        for (producer, again) in [(first, commits), (first, !commits), (second, commits)] {
            let told = end(&mut world, producer, again);
            assert_eq!(told, Err(E::ConcurrentTransactions));
        }
        assert_eq!(complete(&mut world), second);
        assert_eq!(state(&world), (TxnState::complete(commits), 1));
        assert_eq!(end(&mut world, first, commits), Ok(second), "it asks again");
        assert_eq!(end(&mut world, first, !commits), Err(E::InvalidTxnState));
        let token = world.add("t", first, &[partition("a", 0)]);
        assert_eq!(world.done[&token], E::ProducerFenced);
        ongoing(&mut world, second);
        assert_eq!(end(&mut world, first, commits), Err(E::ProducerFenced));
        assert_eq!(state(&world), (TxnState::Ongoing, 1));
    }
}

#[test]
fn what_has_nothing_in_it_can_be_aborted_and_not_committed() {
    let mut world = world();
    let first = begun(&mut world);
    assert_eq!(end(&mut world, first, true), Err(E::InvalidTxnState));
    let mut newest = first;
    for commits_before in [None, Some(true), Some(false)] {
        if let Some(commits) = commits_before {
            ongoing(&mut world, newest);
            newest = end(&mut world, newest, commits).unwrap();
            complete(&mut world);
            assert_eq!(end(&mut world, newest, true), Err(E::InvalidTxnState));
        }
        let next = TxnProducer {
            epoch: newest.epoch + 1,
            ..newest
        };
        assert_eq!(end(&mut world, newest, false), Ok(next));
        assert!(world.markers.is_empty(), "there is nothing to mark");
        assert_eq!(state(&world), (TxnState::CompleteAbort, next.epoch));
        assert_eq!(end(&mut world, newest, false), Ok(next), "it asks again");
        newest = next;
    }
}

#[test]
fn who_has_no_epoch_left_goes_on_with_a_new_id() {
    for commits in [true, false] {
        let mut world = world();
        let last = with_epoch(&mut world, LAST_EPOCH);
        ongoing(&mut world, last);
        let new = TxnProducer { id: 1002, epoch: 0 };
        world.let_ids(false);
        let token = world.end_by("t", last, commits, TxnVersion::V2);
        world.commit_all();
        assert!(!world.producers.contains_key(&token) && state(&world).0 == TxnState::Ongoing);
        world.let_ids(true);
        world.commit_all();
        assert_eq!(world.producers[&token], Ok(new));
        assert_eq!(state(&world), (TxnState::prepare(commits), i16::MAX));
        // Whoever leads next goes on with that.
        world.restart(0);
        let want = Err(E::ConcurrentTransactions);
        assert_eq!(end(&mut world, last, commits), want);
        let marker = complete(&mut world);
        assert_eq!((marker.id, marker.epoch), (last.id, i16::MAX));
        assert_eq!(state(&world), (TxnState::complete(commits), 0));
        assert_eq!(end(&mut world, last, commits), Ok(new), "it asks again");
        assert_eq!(end(&mut world, last, !commits), Err(E::InvalidTxnState));
        let before = TxnProducer {
            epoch: LAST_EPOCH - 1,
            ..last
        };
        let unknown = Err(E::InvalidProducerIdMapping);
        assert_eq!(end(&mut world, before, commits), unknown);
        ongoing(&mut world, new);
        assert_eq!(end(&mut world, last, commits), unknown);
    }
}

#[test]
fn who_is_too_slow_may_ask_and_go_on() {
    for epoch in [0, LAST_EPOCH] {
        let mut world = world();
        let slow = match epoch {
            0 => begun(&mut world),
            epoch => with_epoch(&mut world, epoch),
        };
        ongoing(&mut world, slow);
        world.let_ids(false);
        world.advance(60_000);
        let needs_id = world.without_id.as_ref().map_or(0, Vec::len);
        assert_eq!(needs_id, usize::from(epoch > 0));
        world.let_ids(true);
        world.commit_all();
        assert_eq!(complete(&mut world).epoch, epoch + 1);
        assert_eq!(
            end(&mut world, slow, true),
            Err(E::InvalidTxnState),
            "too late"
        );
        let next = match epoch {
            0 => TxnProducer { epoch: 1, ..slow },
            _ => TxnProducer { id: 1002, epoch: 0 },
        };
        assert_eq!(end(&mut world, slow, false), Ok(next));
    }
}

/// As with Kafka 4.4, since KAFKA-19367: the abort for another one makes the epoch grow once, like an end by the
/// producer itself, and nothing tells the two apart.
#[test]
fn who_is_fenced_for_another_may_abort_until_that_one_has_the_next_epoch() {
    let mut world = world();
    let old = begun(&mut world);
    ongoing(&mut world, old);
    let token = world.init("t", 60_000, None);
    world.commit_all();
    assert_eq!(world.producers[&token], Err(E::ConcurrentTransactions));
    complete(&mut world);
    let next = TxnProducer { epoch: 1, ..old };
    assert_eq!(end(&mut world, old, true), Err(E::InvalidTxnState));
    assert_eq!(end(&mut world, old, false), Ok(next));
    let token = world.init("t", 60_000, None);
    world.commit_all();
    let new = TxnProducer { epoch: 2, ..old };
    assert_eq!(world.producers[&token], Ok(new));
    for (fenced, want) in [(old, E::ProducerFenced), (next, E::ProducerFenced)] {
        assert_eq!(end(&mut world, fenced, true), Err(want));
    }
    let token = world.init("t", 60_000, Some(old));
    assert_eq!(world.producers[&token], Err(E::ProducerFenced));
}

#[test]
fn an_abort_for_which_there_is_no_producer_id_is_tried_again() {
    let mut world = world();
    let slow = with_epoch(&mut world, LAST_EPOCH);
    ongoing(&mut world, slow);
    world.let_ids(false);
    world.advance(60_000);
    // There is none, and then the answer is lost.
    let needs = world.without_id.as_mut().unwrap().pop().unwrap();
    world.act(|it, now, out| it.got_id(now, needs, Err(E::CoordinatorNotAvailable), out));
    world.advance(100);
    assert_eq!(world.without_id.as_ref().unwrap().len(), 1);
    world.advance(10_000);
    assert_eq!(world.without_id.as_ref().unwrap().len(), 2);
    // It ends by itself before one comes, which is not needed then.
    world.let_ids(true);
    world.commit_all();
    assert_eq!(state(&world), (TxnState::PrepareAbort, i16::MAX));
    assert_eq!(world.coordinator.facts("t").unwrap().next_producer_id, 1002);
}

#[test]
fn clients_of_both_versions_have_an_id_in_turn() {
    let mut world = world();
    let old = begun(&mut world);
    for _ in 0..2 {
        let token = world.add("t", old, &[partition("a", 0)]);
        world.commit_all();
        assert_eq!(world.done[&token], E::None);
        let token = world.end("t", old, true);
        world.commit_all();
        assert_eq!(world.producers[&token], Ok(old), "its epoch stays");
        let markers = world.mark(|_| E::None).unwrap();
        assert_eq!((markers.producer, markers.version), (old, TxnVersion::V0));
        world.commit_all();
    }
    let token = world.init("t", 60_000, None);
    world.commit_all();
    let new = world.producers[&token].unwrap();
    assert_eq!(new, TxnProducer { epoch: 1, ..old });
    ongoing(&mut world, new);
    let newer = end(&mut world, new, true).unwrap();
    complete(&mut world);
    for producer in [old, new] {
        let token = world.end("t", producer, true);
        assert_eq!(world.producers[&token], Err(E::ProducerFenced));
    }
    // Before it has done anything, as a client of before that asks again.
    let token = world.end("t", newer, true);
    assert_eq!(world.producers[&token], Ok(newer));
    let token = world.init("t", 60_000, None);
    world.commit_all();
    let last = TxnProducer { epoch: 3, ..old };
    assert_eq!(world.producers[&token], Ok(last));
    // A transaction of before that is going on is aborted as one of the cluster's version.
    let token = world.add("t", last, &[partition("b", 0)]);
    world.commit_all();
    assert_eq!(world.done[&token], E::None);
    let token = world.init("t", 60_000, None);
    world.commit_all();
    let want = Err(E::ConcurrentTransactions);
    assert_eq!(world.producers[&token], want);
    assert_eq!(complete(&mut world), TxnProducer { epoch: 4, ..old });
}

/// One of before ends a transaction in the epoch to which one of version 2 would have come.
#[test]
fn who_is_fenced_does_not_get_the_epoch_of_a_client_of_before() {
    let mut world = world();
    let zombie = begun(&mut world);
    let token = world.init("t", 60_000, None);
    world.commit_all();
    let old = world.producers[&token].unwrap();
    ongoing(&mut world, old);
    world.end("t", old, true);
    world.commit_all();
    world.mark(|_| E::None);
    world.commit_all();
    assert_eq!(state(&world), (TxnState::CompleteCommit, zombie.epoch + 1));
    for commits in [true, false] {
        let told = end(&mut world, zombie, commits);
        assert_eq!(told, Err(E::ProducerFenced));
    }
}

#[test]
fn what_is_pending_comes_before_what_is_wrong() {
    let mut world = world();
    let producer = begun(&mut world);
    ongoing(&mut world, producer);
    let stranger = TxnProducer { id: 5, epoch: 9 };
    world.end_by("t", producer, true, TxnVersion::V2);
    let token = world.end_by("t", stranger, true, TxnVersion::V2);
    let pending = E::ConcurrentTransactions;
    assert_eq!(world.producers[&token], Err(pending));
    let token = world.init("t", 60_000, Some(stranger));
    assert_eq!(world.producers[&token], Err(pending));
    let token = world.add("t", stranger, &[partition("a", 0)]);
    assert_eq!(world.done[&token], pending);
    let token = world.end("t", stranger, true);
    let unknown = E::InvalidProducerIdMapping;
    assert_eq!(world.producers[&token], Err(unknown), "but not of before");
}
