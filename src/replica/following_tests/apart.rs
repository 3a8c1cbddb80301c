//! Single cases in which a follower's log and its leader's went different ways, or seem to.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{EpochEnd, FollowerNext, FollowerStopped, LeaderLog, Push};
use super::NOW;
use super::node::Node;
use super::scene::{Scene, batch, joined, large, restart};
use crate::base::{LeaderEpoch, Offset};
use crate::log::testing::Disk;
use crate::log::{Truncation, Unfit};

fn contradiction(to: i64, committed: i64) -> FollowerStopped {
    let (to, committed) = (Offset(to), Offset(committed));
    FollowerStopped::Contradiction { to, committed }
}

/// Those records are deleted, and still it is known who had written them.
#[test]
fn an_empty_log_compares_the_epoch_of_its_last_record() {
    let leads = [batch(0, 15, 1), batch(15, 15, 3)];
    for is_begun in [false, true] {
        let mut it = Scene::new(&leads, 0, &[batch(0, 20, 1)], 5);
        let Node { disk, log, .. } = &mut it.node;
        if is_begun {
            // It had led, and written nothing.
            log.begin_epoch(LeaderEpoch(4), &mut disk.store);
        }
        log.raise_high_watermark(Offset(20));
        log.delete_records(NOW, Offset(20), &mut disk.store)
            .unwrap();
        disk.settle();
        restart(&mut it.node);
        assert!(it.node.log.is_empty());
        let mut it = Scene::begin(it.leader, it.node, 5);
        it.begins_epoch(5);
        assert_eq!(it.catch_up(), Err(contradiction(15, 20)));
        // In the middle of its leader's log it would be the beginning of nothing.
        it.out_of_sync();
        it.catch_up().unwrap();
        it.settle();
        assert_eq!(it.last_told(), Some((0, 30)));
    }
}

/// Nobody knows how it has come there.
#[test]
fn a_log_that_never_had_a_record_goes_on_where_it_is_only_if_that_is_committed() {
    let empty = |at| {
        let mut node = Node::new(0);
        node.log.start_over(NOW, Offset(at), &mut node.disk.store);
        node.disk.settle();
        restart(&mut node);
        node
    };
    let leads = [batch(0, 12, 1), batch(12, 8, 1), batch(20, 10, 2)];
    let mut it = Scene::begin(Scene::node(&leads, 2), empty(20), 2);
    it.catch_up().unwrap();
    assert_eq!((it.bounds(), it.asked), ((20, 30), 1));
    let mut it = Scene::begin(Scene::node(&leads[..1], 2), empty(20), 2);
    assert_eq!(it.catch_up(), Err(contradiction(12, 20)));
    it.out_of_sync();
    it.catch_up().unwrap();
    assert_eq!(it.bounds(), (0, 12), "and not from 12 on");
    let mut it = Scene::begin(Scene::node(&leads, 2), empty(0), 2);
    it.out_of_sync();
    it.catch_up().unwrap();
    assert_eq!((it.bounds(), it.asked), ((0, 30), 1));
}

/// It would be told of a log that goes on where its leader's does not.
#[test]
fn a_log_that_cannot_be_cut_says_nothing_and_begins_anew() {
    let has = [large(0, 10, 1, 700), large(10, 10, 1, 700)];
    let mut it = Scene::new(&has[..1], 0, &has, 2);
    it.begins_epoch(2);
    it.node.disk.checkpoint(&it.node.log);
    it.restart();
    it.is_rotten = true;
    let stopped = it.catch_up().unwrap_err();
    assert!(matches!(stopped, FollowerStopped::Unreadable(_)) && stopped.has_lost());
    assert!(!it.it.follows());
    let newest = it.node.disk.store.pending_seq();
    let here = (&mut it.node.log, &mut it.node.disk.store);
    let step = it.it.on_durable(NOW, newest, here);
    assert!(matches!(step.next, FollowerNext::Waits));
    it.out_of_sync();
    it.catch_up().unwrap();
    it.settle();
    assert_eq!(it.last_told(), Some((0, 10)));
}

/// It would ask for ever for what comes between, and never be in sync.
#[test]
fn what_its_leader_leaves_out_at_its_end_is_left_out() {
    let first = batch(0, 10, 1);
    let deleted = || {
        let mut node = Scene::node(&[batch(0, 2, 1)], 1);
        let Node { disk, log, .. } = &mut node;
        log.raise_high_watermark(Offset(2));
        log.delete_records(NOW, Offset(2), &mut disk.store).unwrap();
        disk.settle();
        node
    };
    for follower in [
        Scene::node(std::slice::from_ref(&first), 1),
        Node::new(0),
        deleted(),
    ] {
        let mut leader = Scene::node(std::slice::from_ref(&first), 1);
        let Node { disk, log, .. } = &mut leader;
        assert!(log.leave_out(NOW, Offset(25), &mut disk.store).is_some());
        assert_eq!(log.leave_out(NOW, Offset(25), &mut disk.store), None);
        disk.settle();
        restart(&mut leader);
        assert_eq!(leader.log.end_offset(), Offset(25));
        let mut it = Scene::begin(leader, follower, 2);
        it.begins_epoch(2);
        let start = it.node.log.start_offset().0;
        it.catch_up().unwrap();
        it.settle();
        assert_eq!((it.last_told(), it.asked), (Some((start, 25)), 1));
        it.restart();
        assert_eq!(it.bounds(), (start, 25));
        let Node { disk, log, .. } = &mut it.leader;
        let more = batch(25, 5, 2);
        log.append_replica(NOW, &more, LeaderEpoch(2), &mut disk.store)
            .unwrap();
        disk.settle();
        let mut it = Scene::begin(it.leader, it.node, 2);
        it.catch_up().unwrap();
        it.settle();
        assert_eq!(it.last_told(), Some((start, 30)));
    }
}

/// All that it has may be gone, and all of its leader's be still to come.
#[test]
fn nothing_is_dropped_for_a_push_of_nothing() {
    let leads = [batch(0, 3, 1), batch(3, 7, 2), batch(10, 2, 2)];
    let mut it = Scene::new(&leads, 5, &leads[..1], 2);
    let FollowerNext::Asks(asked) = it.it.ask(&it.node.log).next else {
        panic!("it asks");
    };
    let answer = LeaderLog::answering(&it.leader.log, asked);
    for batches in [&[][..], &leads[1..]] {
        let here = (&mut it.node.log, &mut it.node.disk.store);
        it.it.answered(NOW, asked, answer, here).unwrap();
        let push = it.push(5, batches);
        let here = (&mut it.node.log, &mut it.node.disk.store);
        it.it.pushed(NOW, &push, here).unwrap();
        assert_eq!(
            it.bounds(),
            if batches.is_empty() { (0, 3) } else { (5, 12) }
        );
    }
}

/// Compaction has removed all that an epoch had written, behind the beginning.
#[test]
fn what_was_left_out_is_no_contradiction() {
    let has = [batch(0, 20, 5), batch(22, 3, 6)];
    let leads = [batch(0, 20, 5), batch(30, 5, 7)];
    let follower = || {
        let mut node = Scene::node(&has, 6);
        node.log.is_committed(Offset(25));
        node
    };
    let mut it = Scene::begin(Scene::node(&leads, 7), follower(), 8);
    it.begins_epoch(8);
    it.leader.log.is_committed(Offset(20));
    it.catch_up().unwrap();
    assert_eq!((it.bounds(), it.it.follows()), ((0, 25), false), "it waits");
    it.leader.log.is_committed(Offset(30));
    it.catch_up().unwrap();
    it.settle();
    assert_eq!(it.last_told(), Some((0, 35)));
    // Here its leader has something else there.
    let leads = [batch(0, 20, 5), batch(22, 8, 7)];
    let mut it = Scene::begin(Scene::node(&leads, 7), follower(), 8);
    it.begins_epoch(8);
    it.leader.log.is_committed(Offset(30));
    assert_eq!(it.catch_up(), Err(contradiction(22, 25)));
}

/// What it would drop would keep it from dropping it.
#[test]
fn what_a_full_store_is_to_drop_makes_room() {
    let mut node = Node::on(Disk::small(), 0);
    let full = |n: i64| large(10 * n, 10, 1, 1500);
    let mut n = 0;
    loop {
        let Node { disk, log, .. } = &mut node;
        match log.append_replica(NOW, &full(n), LeaderEpoch(1), &mut disk.store) {
            Ok(_) => n += 1,
            Err(Unfit::Full) => break,
            Err(other) => panic!("{other}"),
        }
        if n % 10 == 0 {
            disk.checkpoint(log);
        }
    }
    assert!(n > 100, "{n}");
    let leads = [full(n + 1), full(n + 2)];
    let mut it = Scene::begin(Scene::node(&leads, 1), node, 2);
    it.delete(10 * (n + 1));
    let start = it.leader.log.start_offset().0;
    let refused = it.catch_up().unwrap_err();
    assert_eq!(refused, FollowerStopped::Unfit(Unfit::Full));
    assert_eq!(it.bounds(), (start, start), "it has dropped all the same");
    for _ in 0..2 {
        it.node.disk.checkpoint(&it.node.log);
    }
    it.catch_up().unwrap();
    assert_eq!(it.bounds(), (start, start + 20));
}

/// Its leader would wait for it for ever.
#[test]
fn what_it_has_told_is_told_again_while_its_leader_does_not_know_it() {
    let leads = [batch(0, 10, 1)];
    let mut it = Scene::new(&leads, 0, &[], 1);
    it.catch_up().unwrap();
    it.settle();
    let told = it.told.last().copied().unwrap();
    for (committed, again) in [(9, true), (10, false)] {
        it.committed = Some(Offset(committed));
        let push = it.push(10, &[]);
        let here = (&mut it.node.log, &mut it.node.disk.store);
        let step = it.it.pushed(NOW, &push, here).unwrap();
        match step.next {
            FollowerNext::Tells(on_disk) => assert!(again && on_disk == told),
            next => assert!(!again, "{next:?}"),
        }
    }
}

#[test]
fn numbers_that_no_leader_could_say_are_refused() {
    let leads = [batch(0, 10, 1)];
    let mut it = Scene::new(&leads, 0, &leads, 1);
    let FollowerNext::Asks(asked) = it.it.ask(&it.node.log).next else {
        panic!("it asks");
    };
    let good = LeaderLog::answering(&it.leader.log, asked);
    let ends = |epoch, end| EpochEnd {
        epoch: LeaderEpoch(epoch),
        end: Offset(end),
    };
    let of = |start, committed, end, ends| LeaderLog {
        ends,
        start: Offset(start),
        end: Offset(end),
        committed: Offset(committed),
        tombstones: Offset(0),
    };
    for bad in [
        of(-1, 5, 10, good.ends),
        of(6, 5, 10, good.ends),
        of(0, 11, 10, good.ends),
        of(0, 5, 10, ends(1, 11)),
        of(0, 5, 10, ends(1, -1)),
        of(0, 5, 10, ends(2, 10)),
    ] {
        let here = (&mut it.node.log, &mut it.node.disk.store);
        let refused = it.it.answered(NOW, asked, bad, here).unwrap_err();
        assert!(matches!(
            refused,
            FollowerStopped::Unfit(Unfit::Impossible(_))
        ));
    }
    let here = (&mut it.node.log, &mut it.node.disk.store);
    it.it.answered(NOW, asked, good, here).unwrap();
    assert!(it.it.follows(), "and the right ones are taken then");
    for (from, to, start, committed) in [
        (-1, 10, 0, 0),
        (10, 9, 0, 0),
        (10, 10, 5, 4),
        (10, 10, -1, 0),
    ] {
        let push = Push {
            from: Offset(from),
            batches: Bytes::new(),
            to: Offset(to),
            committed: Offset(committed),
            start: Offset(start),
        };
        let here = (&mut it.node.log, &mut it.node.disk.store);
        let refused = it.it.pushed(NOW, &push, here).unwrap_err();
        assert!(matches!(
            refused,
            FollowerStopped::Unfit(Unfit::Impossible(_))
        ));
        assert_eq!(it.bounds(), (0, 10));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever a peer answers and pushes: it is refused, or the log is sound and comes back as it is.
    #[test]
    fn nothing_that_is_said_is_a_panic(
        counts in any::<bool>(),
        said in prop::collection::vec(-2..40i64, 9),
        epoch in -2..4i32,
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut it = Scene::new(&[batch(0, 3, 1)], 0, &[batch(0, 3, 1), batch(3, 7, 2)], 3);
        if !counts {
            it.out_of_sync();
        }
        let FollowerNext::Asks(asked) = it.it.ask(&it.node.log).next else {
            panic!("it asks");
        };
        let at = |n: usize| Offset(said[n]);
        let answer = LeaderLog {
            ends: EpochEnd { epoch: LeaderEpoch(epoch), end: at(0) },
            start: at(1),
            end: at(2),
            committed: at(3),
            tombstones: at(3),
        };
        let here = (&mut it.node.log, &mut it.node.disk.store);
        let mut step = it.it.answered(NOW, asked, answer, here);
        while let Ok(next) = &step && let FollowerNext::Cuts(cut) = &next.next {
            if let Truncation::Scan { pieces, ticket } = cut {
                let bytes = it.node.disk.join(pieces);
                it.node.log.scanned(*ticket, &bytes).unwrap();
            }
            let here = (&mut it.node.log, &mut it.node.disk.store);
            step = it.it.go_on(NOW, here);
        }
        let mut bytes = joined(&[batch(said[4], 3, 1), batch(said[5], 5, 2)]).to_vec();
        for (place, byte) in places {
            bytes[place.index(17)] = byte;
        }
        let (from, to) = (at(6), at(7));
        let push = Push { from, batches: bytes.into(), to, committed: at(8), start: at(1) };
        for _ in 0..2 {
            let here = (&mut it.node.log, &mut it.node.disk.store);
            let _ = it.it.pushed(NOW, &push, here);
            it.node.log.invariants();
        }
        it.node.disk.settle();
        let bounds = it.bounds();
        it.restart();
        prop_assert_eq!(it.bounds(), bounds);
    }
}
