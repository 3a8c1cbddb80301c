//! A follower's log in single cases: each is one that was wrong once.

use bytes::Bytes;

use super::super::{EpochEnd, FollowerNext, FollowerStopped, Following, LeaderLog};
use super::NOW;
use super::node::found;
use super::scene::{Scene, batch, ends, joined, large, lost, restart, term};
use crate::base::{ErrorCode, LeaderEpoch, Offset, Rng};
use crate::log::Unfit;
use crate::log::testing::{Draft, START_MS};

/// Nothing follows by which it would be told otherwise: the flush of a cut, of a log that begins anew, of a log start.
#[test]
fn each_flush_that_it_waits_for_is_told() {
    // What it has is another leader's, and goes.
    let has = [batch(0, 10, 1), batch(10, 10, 1)];
    let leads = [batch(0, 10, 1)];
    let mut it = Scene::new(&leads, 0, &has, 2);
    it.begins_epoch(2);
    it.catch_up().unwrap();
    assert_eq!((it.bounds(), it.last_told()), ((0, 10), None), "a cut");
    it.settle();
    assert_eq!(it.last_told(), Some((0, 10)));
    // Its leader has deleted all that it has, and all.
    let leads = [batch(0, 10, 1), batch(10, 10, 2)];
    let mut it = Scene::new(&leads, 20, &leads[..1], 2);
    it.catch_up().unwrap();
    assert_eq!(
        (it.bounds(), it.last_told()),
        ((20, 20), None),
        "begun anew"
    );
    it.settle();
    assert_eq!(it.last_told(), Some((20, 20)));
    // Its leader has deleted some that it has.
    let mut it = Scene::new(&leads, 0, &leads, 2);
    it.catch_up().unwrap();
    it.settle();
    it.delete(15);
    it.catch_up().unwrap();
    assert_eq!(
        (it.bounds(), it.last_told()),
        ((15, 20), Some((0, 20))),
        "a log start"
    );
    it.settle();
    assert_eq!(it.last_told(), Some((15, 20)));
}

/// The leader's epochs are known from its start on, so the follower's seems to end there.
#[test]
fn a_start_inside_of_a_batch_may_be_where_the_follower_ends() {
    let leads = [batch(0, 3, 1), batch(3, 7, 2), batch(10, 5, 2)];
    for has in [
        vec![batch(0, 5, 1)],
        vec![batch(0, 5, 1), batch(5, 3, 1)],
        vec![batch(0, 3, 1)],
        vec![],
    ] {
        let mut it = Scene::new(&leads, 5, &has, 2);
        it.catch_up().unwrap();
        it.settle();
        assert_eq!(it.last_told(), Some((5, 15)), "{}", has.len());
        let asked = std::mem::take(&mut it.asked);
        assert!(asked <= 2);
        it.catch_up().unwrap();
        assert_eq!((it.bounds(), it.asked), ((5, 15), 1), "it stays like that");
        let all = found(&it.node.disk, &it.node.log);
        assert!(all.iter().eq(&ends(&joined(&leads[1..]))));
        it.restart();
        assert_eq!(it.bounds(), (5, 15));
    }
}

/// Its leader did not know yet that it leads when it was asked: then it calls whoever follows.
#[test]
fn one_that_has_asked_asks_again_when_it_is_called() {
    let leads = [batch(0, 3, 1), batch(3, 7, 2)];
    let mut it = Scene::new(&leads, 0, &leads[..1], 2);
    let (call, late) = (it.push(11, &[]), it.push(3, &leads[1..]));
    let mut pushed = |push| {
        let here = (&mut it.node.log, &mut it.node.disk.store);
        it.it.pushed(NOW, &push, here).unwrap().next
    };
    let waits = matches!(pushed(late), FollowerNext::Waits);
    assert!(waits, "what it was pushed before it asked");
    let FollowerNext::Asks(asked) = pushed(call) else {
        panic!("it asks again");
    };
    let (epoch, end) = (LeaderEpoch(1), Offset(3));
    assert_eq!(asked, EpochEnd { epoch, end });
}

#[test]
fn what_is_no_good_changes_nothing() {
    let leads = [batch(0, 3, 1), batch(3, 7, 2)];
    let has = [batch(0, 3, 1)];
    let mut it = Scene::new(&leads, 5, &has, 2);
    let FollowerNext::Asks(asked) = it.it.ask(&it.node.log).next else {
        panic!("it asks");
    };
    let answer = LeaderLog::answering(&it.leader.log, asked);
    let here = (&mut it.node.log, &mut it.node.disk.store);
    let step = it.it.answered(NOW, asked, answer, here).unwrap();
    assert!(matches!(step.next, FollowerNext::Waits) && step.flush.is_none());
    let before = it.node.log.state();
    let refused = |it: &mut Scene, batches: &[Bytes]| {
        let push = it.push(5, batches);
        let here = (&mut it.node.log, &mut it.node.disk.store);
        let refused = it.it.pushed(NOW, &push, here).unwrap_err();
        assert_eq!(it.node.log.state(), before, "{refused}");
        assert_eq!(it.node.disk.settle(), None, "{refused}");
        refused
    };
    let mut rotten = leads[1].to_vec();
    rotten[90] ^= 1;
    let corrupt = Unfit::Corrupt { base: Offset(3) };
    let unfit = FollowerStopped::Unfit;
    assert_eq!(refused(&mut it, &[rotten.into()]), unfit(corrupt));
    let second = refused(&mut it, &[leads[1].clone(), leads[1].slice(..70)]);
    assert!(matches!(
        second,
        FollowerStopped::Unfit(Unfit::Malformed { .. })
    ));
    let newer = refused(&mut it, &[batch(3, 7, 9)]);
    assert!(matches!(newer, FollowerStopped::Unfit(Unfit::Epoch { .. })));
    let push = it.push(5, &leads[1..]);
    let here = (&mut it.node.log, &mut it.node.disk.store);
    it.waits = it.it.pushed(NOW, &push, here).unwrap().flush;
    it.settle();
    assert_eq!(
        it.last_told(),
        Some((5, 10)),
        "the right ones are taken then"
    );
}

/// One that its log has in the middle of a batch would be left out, and nobody would know.
#[test]
fn a_batch_that_begins_before_the_end_is_not_left_out() {
    let leads = [batch(0, 3, 1), batch(3, 7, 1), batch(10, 2, 1)];
    let has = [batch(0, 3, 1), batch(3, 2, 1)];
    let mut it = Scene::new(&leads, 0, &has, 1);
    let unfit = it.catch_up().unwrap_err();
    let (base, end) = (Offset(3), Offset(5));
    assert_eq!(unfit, FollowerStopped::Unfit(Unfit::Overlaps { base, end }));
    // Nor where it is pushed what it has, with that behind it.
    let push = it.push(0, &leads);
    let here = (&mut it.node.log, &mut it.node.disk.store);
    assert_eq!(it.it.pushed(NOW, &push, here).unwrap_err(), unfit);
    assert_eq!(it.bounds(), (0, 5));
}

/// Whatever of it the disk has done.
#[test]
fn a_crash_finds_the_old_log_or_the_new_one_with_its_start() {
    // More than a block, and more than is written in one go.
    let first = large(3, 7, 2, 9000);
    let leads = [batch(0, 3, 1), first, batch(10, 900, 2)];
    let (mut old, mut new) = (0, 0);
    for seed in 0..60 {
        let mut it = Scene::new(&leads, 5, &leads[..1], 2);
        let mut rng = Rng::new(seed);
        it.catch_up().unwrap();
        it.node.disk.start();
        for _ in 0..rng.below(6) {
            it.node.disk.perform_one(&mut rng);
        }
        it.node.disk.crash(&mut rng);
        it.restart();
        match it.bounds() {
            (0, 3) => old += 1,
            (5, 910) => new += 1,
            other => panic!("{other:?}"),
        }
        assert_eq!(it.node.log.durable_start().0, it.bounds().0);
    }
    assert!(old > 5 && new > 5, "{old} and {new}");
}

/// Its log begins with a gap, which compaction has left, and nobody knows who wrote there.
#[test]
fn a_gap_at_the_beginning_is_of_no_epoch() {
    let mut it = Scene::new(&[batch(0, 3, 1), batch(20, 5, 3)], 10, &[], 3);
    it.committed = Some(Offset(15));
    it.catch_up().unwrap();
    it.settle();
    assert_eq!(it.last_told(), Some((10, 25)));
    for (epoch, end) in [(0, 20), (2, 20), (3, 25)] {
        let ends = it.node.log.end_offset_for_epoch(LeaderEpoch(epoch));
        assert_eq!(ends, (LeaderEpoch(epoch), Offset(end)));
    }
    // It leads, and another one was in sync that has some that were left out.
    let mut other = Scene::node(&[batch(0, 3, 1), batch(12, 3, 1)], 1);
    other.log.is_committed(Offset(15));
    let mut next = Scene::begin(it.node, other, 5);
    next.begins_epoch(5);
    next.catch_up().unwrap();
    next.settle();
    assert_eq!(next.last_told().map(|told| told.1), Some(25));
}

/// What its leader has said is committed may be more than what it has made durable.
#[test]
fn what_it_has_heard_is_committed_is_known_to_the_next_term() {
    let leads = [batch(0, 3, 1), batch(3, 7, 1)];
    let mut it = Scene::new(&leads, 0, &[], 1);
    it.catch_up().unwrap();
    assert_eq!(
        it.node.log.high_watermark(),
        Offset(0),
        "nothing is durable"
    );
    assert_eq!(it.node.log.known_committed(), Offset(10));
    let mut shorter = Scene::new(&leads[..1], 0, &[], 2);
    shorter.begins_epoch(2);
    it.node.disk.settle();
    let mut next = Scene::begin(shorter.leader, it.node, 2);
    let (to, committed) = (Offset(3), Offset(10));
    let contradiction = FollowerStopped::Contradiction { to, committed };
    assert_eq!(next.catch_up(), Err(contradiction));
}

/// It leaves the ISR once, and not at each start for ever.
#[test]
fn what_is_lost_is_given_up_when_the_log_is_its_leaders() {
    let leads = [batch(0, 3, 1), batch(3, 7, 1), batch(10, 90, 1)];
    let mut scene = Scene::new(&leads, 0, &leads[..1], 2);
    let (end, committed) = (Offset(3), Offset(40));
    scene.node = lost(&leads[..1], committed);
    let here = (&mut scene.node.log, &mut scene.node.disk.store);
    let stopped = Following::begin(NOW, term(2), here).map(drop).unwrap_err();
    assert_eq!(stopped, FollowerStopped::Lost { end, committed });
    assert!(stopped.has_lost());
    for is_durable in [false, true] {
        let here = (&mut scene.node.log, &mut scene.node.disk.store);
        scene.it = Following::out_of_sync(NOW, term(2), here).unwrap().0;
        assert_eq!(scene.node.log.lost_before(), Some(committed));
        scene.catch_up().unwrap();
        assert_eq!(scene.bounds(), (0, 100), "more than it had known");
        if is_durable {
            scene.settle();
            assert_eq!(scene.last_told(), Some((0, 100)));
        }
        restart(&mut scene.node);
        let still = Some(committed).filter(|_| !is_durable);
        assert_eq!(scene.node.log.lost_before(), still);
    }
    let here = (&mut scene.node.log, &mut scene.node.disk.store);
    assert!(Following::begin(NOW, term(2), here).is_ok());
}

/// Otherwise all others would have to drop what it has lost, and nobody would know.
#[test]
fn who_has_lost_something_does_not_lead() {
    let mut node = lost(&[batch(0, 3, 1)], Offset(40));
    let epoch = LeaderEpoch(2);
    assert_eq!(node.log.begin_epoch(epoch, &mut node.disk.store), None);
    let (fresh, info) = Draft::plain(&[START_MS; 50], 9).build();
    let refused = (node.log).append(NOW, fresh, &info, &mut node.disk.store);
    assert_eq!(refused.unwrap_err().code, ErrorCode::KafkaStorageError);
    // Nor when it has got longer than that.
    let more = batch(3, 97, 1);
    let appended = (node.log).append_replica(NOW, &more, epoch, &mut node.disk.store);
    appended.unwrap();
    assert_eq!(node.log.begin_epoch(epoch, &mut node.disk.store), None);
    assert_eq!(node.log.lost_before(), Some(Offset(40)));
    // If there is nobody else it is given up, and that is said.
    let lost = node.log.give_up_lost(&mut node.disk.store);
    assert_eq!(lost, Some(Offset(40)));
    assert_eq!(node.log.known_committed(), Offset(0), "nobody knows more");
    assert!((node.log.begin_epoch(epoch, &mut node.disk.store)).is_some());
    node.disk.settle();
    restart(&mut node);
    assert_eq!(
        (node.log.leader_epoch(), node.log.lost_before()),
        (epoch, None)
    );
}

/// Whoever would have to cut off what was committed may be the last one who has it.
#[test]
fn a_contradiction_keeps_what_is_here() {
    let has = [batch(0, 3, 1), batch(3, 7, 1)];
    let leads = [batch(0, 3, 1), batch(3, 20, 2)];
    let mut node = Scene::node(&has, 1);
    node.log.is_committed(Offset(10));
    let mut it = Scene::begin(Scene::node(&leads, 2), node, 3);
    let stopped = it.catch_up().unwrap_err();
    let (to, committed) = (Offset(3), Offset(10));
    assert_eq!(stopped, FollowerStopped::Contradiction { to, committed });
    assert!(!stopped.has_lost(), "it does not follow as one that has");
    assert_eq!((it.bounds(), it.it.follows()), ((0, 10), false));
    // When it is decided that its leader's log is to count it becomes like that.
    let here = (&mut it.node.log, &mut it.node.disk.store);
    it.it = Following::out_of_sync(NOW, term(3), here).unwrap().0;
    it.catch_up().unwrap();
    it.settle();
    assert_eq!(it.last_told(), Some((0, 23)));
}

/// What it has may be deleted by tombstones that compaction has removed from its leader's log.
#[test]
fn who_ends_before_tombstones_that_are_gone_begins_anew() {
    for (tombstones, anew) in [(3, false), (4, true)] {
        let leader = [batch(0, 3, 1), batch(3, 3, 1)];
        let mut it = Scene::new(&leader, 0, &leader[..1], 2);
        let FollowerNext::Asks(asked) = it.it.ask(&it.node.log).next else {
            panic!("it asks");
        };
        let answer = LeaderLog {
            committed: Offset(6),
            tombstones: Offset(tombstones),
            ..LeaderLog::answering(&it.leader.log, asked)
        };
        let goes_on = if anew { Offset(0) } else { Offset(3) };
        assert_eq!(answer.goes_on(asked), Some(goes_on));
        let here = (&mut it.node.log, &mut it.node.disk.store);
        it.it.answered(NOW, asked, answer, here).unwrap();
        assert_eq!(it.it.follows(), !anew);
    }
}

/// What it has of the epoch and its leader has not is cut off: then it ends before tombstones that are gone.
#[test]
fn who_is_cut_back_behind_tombstones_that_are_gone_starts_over() {
    let has = [batch(0, 3, 1), batch(3, 2, 1), batch(5, 4, 1)];
    let leads = [batch(0, 3, 1), batch(3, 2, 1), batch(5, 4, 2)];
    let mut it = Scene::new(&leads, 0, &has, 3);
    let FollowerNext::Asks(asked) = it.it.ask(&it.node.log).next else {
        panic!("it asks");
    };
    let answer = LeaderLog {
        ends: EpochEnd {
            epoch: LeaderEpoch(1),
            end: Offset(5),
        },
        start: Offset(0),
        end: Offset(9),
        committed: Offset(9),
        tombstones: Offset(7),
    };
    assert_eq!(
        (asked.end, answer.goes_on(asked)),
        (Offset(9), Some(Offset(0)))
    );
    let here = (&mut it.node.log, &mut it.node.disk.store);
    it.it.answered(NOW, asked, answer, here).unwrap();
    assert!(!it.it.follows(), "it begins anew");
}

/// It never had a record, and ends behind where its leader starts.
#[test]
fn a_log_without_epochs_goes_on_where_it_ends() {
    let it = Scene::new(&[batch(0, 3, 1), batch(3, 6, 1)], 3, &[batch(0, 3, 1)], 2);
    let asked = |end| EpochEnd {
        epoch: LeaderEpoch(-1),
        end: Offset(end),
    };
    for (end, from) in [(2, Some(3)), (3, Some(3)), (5, Some(5)), (10, None)] {
        let answer = LeaderLog::answering(&it.leader.log, asked(end));
        assert_eq!(answer.goes_on(asked(end)), from.map(Offset), "{end}");
    }
}

#[test]
fn an_answer_of_one_who_has_not_begun_is_none() {
    let mut it = Scene::new(&[batch(0, 3, 1)], 0, &[batch(0, 3, 1)], 2);
    let FollowerNext::Asks(asked) = it.it.ask(&it.node.log).next else {
        panic!("it asks");
    };
    let nobody = EpochEnd {
        epoch: LeaderEpoch(-1),
        end: Offset(-1),
    };
    let answer = LeaderLog {
        ends: nobody,
        start: Offset(0),
        end: Offset(3),
        committed: Offset(0),
        tombstones: Offset(0),
    };
    let here = (&mut it.node.log, &mut it.node.disk.store);
    let step = it.it.answered(NOW, asked, answer, here).unwrap();
    assert!(matches!(step.next, FollowerNext::Waits) && !it.it.follows());
}
