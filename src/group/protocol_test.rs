//! Scenarios of the classic protocol and of committed offsets, one for each rule of Kafka's.

use bytes::Bytes;

use super::testing::{Client, Logged, World};
use super::*;
use crate::base::{ErrorCode as E, limits::OFFSETS_PER_COMMIT_MAX};

fn world() -> World {
    World::new(GroupConfig::default())
}

#[test]
fn the_way_to_a_stable_group() {
    let mut w = world();
    let (mut a, mut b) = (Client::new(), Client::new());
    let first = w.send_join(&a);
    assert_eq!(w.joined[&first].error, E::MemberIdRequired);
    let (ja, jb) = (w.join(&mut a), w.join(&mut b));
    assert_eq!(w.state(), State::PreparingRebalance);
    assert!(!w.joined.contains_key(&ja), "the initial delay");
    w.advance(6_000);
    let (ra, rb) = (w.finish_join(&mut a, ja), w.finish_join(&mut b, jb));
    assert_eq!((ra.generation, rb.generation), (1, 1));
    assert_eq!(ra.leader, rb.leader);
    assert_eq!(ra.protocol.as_deref(), Some("range"));
    let (leader, follower, list) = match ra.leader == ra.member {
        true => (&a, &b, (ra.members, rb.members)),
        false => (&b, &a, (rb.members, ra.members)),
    };
    assert_eq!(
        (list.0.len(), list.1.len()),
        (2, 0),
        "only the leader gets the list"
    );
    assert_eq!(list.0[0].metadata, Bytes::from_static(b"r"));
    let waiting = w.sync(follower, &[]);
    assert_eq!(w.heartbeat(follower), E::None);
    assert!(!w.synced.contains_key(&waiting));
    let synced = w.sync(leader, &[(leader, "L"), (follower, "F")]);
    assert_eq!(w.synced[&synced].assignment, "L");
    assert_eq!(w.synced[&waiting].assignment, "F");
    assert_eq!(w.state(), State::Stable);
    let news: Vec<News> = w.news.iter().map(|(_, news)| *news).collect();
    let stable = News::Stable {
        generation: 1,
        members: 2,
    };
    assert_eq!(news, [News::Rebalances { generation: 0 }, stable]);
    let again = w.sync(follower, &[]);
    assert_eq!(w.synced[&again].assignment, "F");
    let mut old = follower.clone();
    old.generation = 0;
    assert_eq!(w.heartbeat(&old), E::IllegalGeneration);
    old.id = Name::from("nobody");
    assert_eq!(w.heartbeat(&old), E::UnknownMemberId);
}

#[test]
fn the_initial_delay_is_extended_up_to_the_rebalance_timeout() {
    let mut w = world();
    let mut first = Client::new();
    first.rebalance_timeout_ms = 8_000;
    let token = w.join(&mut first);
    for _ in 0..2 {
        w.advance(2_500);
        let mut next = Client::new();
        next.rebalance_timeout_ms = 8_000;
        w.join(&mut next);
    }
    // Delays of 3, 3 and 2 seconds; without newcomers in the last one it ends there.
    w.advance(2_900);
    assert!(!w.joined.contains_key(&token));
    w.advance(200);
    assert_eq!(w.finish_join(&mut first, token).generation, 1);

    let mut w = world();
    let mut alone = Client::new();
    let token = w.join(&mut alone);
    w.advance(2_999);
    assert!(!w.joined.contains_key(&token));
    w.advance(1);
    assert_eq!(w.finish_join(&mut alone, token).members.len(), 1);
}

#[test]
fn an_assignment_counts_when_it_is_durable() {
    let mut w = world();
    let mut a = Client::new();
    let token = w.join(&mut a);
    w.advance(3_000);
    w.finish_join(&mut a, token);
    w.hold_appends = true;
    let sync = w.sync(&a, &[(&a, "A")]);
    assert_eq!(w.state(), State::CompletingRebalance);
    assert!(!w.synced.contains_key(&sync));
    // The client gave up the connection and asks again: the first request is answered too.
    let again = w.sync(&a, &[(&a, "A")]);
    assert_eq!(w.synced[&sync].error, E::RebalanceInProgress);
    assert_eq!(w.pending.len(), 1, "it is written once");
    w.append_ends(Ok(()));
    assert_eq!(w.synced[&again].assignment, "A");

    // The same with a write that fails: everybody has to join again.
    let token = w.join(&mut a);
    assert_eq!(w.finish_join(&mut a, token).generation, 2);
    let sync = w.sync(&a, &[(&a, "A")]);
    w.append_ends(Err(E::RequestTimedOut));
    assert_eq!(w.synced[&sync].error, E::CoordinatorNotAvailable);
    assert_eq!(w.state(), State::PreparingRebalance);
    // A write of a generation that is over changes nothing.
    let token = w.join(&mut a);
    assert_eq!(w.finish_join(&mut a, token).generation, 3);
    w.sync(&a, &[(&a, "A")]);
    let mut b = Client::new();
    w.join(&mut b);
    assert_eq!(w.state(), State::PreparingRebalance);
    let (ja, jb) = (w.join(&mut a), w.send_join(&b));
    assert_eq!(w.finish_join(&mut a, ja).generation, 4);
    assert_eq!(w.joined[&jb].generation, 4);
    w.append_ends(Ok(()));
    assert_eq!(w.state(), State::CompletingRebalance);
}

#[test]
fn silence_ends_a_membership() {
    let mut w = world();
    let (mut a, mut b) = (Client::new(), Client::new());
    w.stable(&mut [&mut a, &mut b]);
    w.advance(9_000);
    assert_eq!(w.heartbeat(&a), E::None);
    w.advance(2_000);
    assert_eq!(w.state(), State::PreparingRebalance);
    assert_eq!(w.heartbeat(&b), E::UnknownMemberId);
    assert_eq!(w.heartbeat(&a), E::RebalanceInProgress);
    let token = w.join(&mut a);
    assert_eq!(w.finish_join(&mut a, token).members.len(), 1);
    w.advance(60_000);
    assert_eq!(w.state(), State::Empty);
    w.restart();
    assert_eq!(w.state(), State::Empty);
    assert_eq!(w.coordinator.group("g").unwrap().generation(), 3);
}

#[test]
fn who_does_not_join_or_sync_in_time_is_out() {
    let mut w = world();
    let (mut a, mut b) = (Client::new(), Client::new());
    (a.rebalance_timeout_ms, b.rebalance_timeout_ms) = (20_000, 20_000);
    w.stable(&mut [&mut a, &mut b]);
    let mut c = Client::new();
    c.rebalance_timeout_ms = 20_000;
    let (jc, ja) = (w.join(&mut c), w.join(&mut a));
    for _ in 0..4 {
        w.advance(4_990);
        w.heartbeat(&b);
    }
    assert!(!w.joined.contains_key(&ja));
    w.advance(100);
    assert_eq!(w.heartbeat(&b), E::UnknownMemberId);
    assert_eq!(w.finish_join(&mut a, ja).generation, 2);
    w.finish_join(&mut c, jc);
    // Now nobody syncs, though all send heartbeats.
    for _ in 0..4 {
        w.advance(4_900);
        assert_eq!((w.heartbeat(&a), w.heartbeat(&c)), (E::None, E::None));
    }
    w.sync(&a, &[]);
    w.advance(400);
    assert_eq!(w.heartbeat(&c), E::UnknownMemberId);
    assert_eq!(w.heartbeat(&a), E::RebalanceInProgress);
}

#[test]
fn the_protocol_with_most_votes_wins() {
    let mut w = world();
    let mut a = Client::with_protocols(&[("roundrobin", ""), ("range", "")]);
    let mut b = Client::with_protocols(&[("range", ""), ("sticky", ""), ("roundrobin", "")]);
    let mut c = Client::with_protocols(&[("range", ""), ("roundrobin", "")]);
    w.stable(&mut [&mut a, &mut b, &mut c]);
    let protocol = w.coordinator.group("g").unwrap().protocol().cloned();
    assert_eq!(protocol.as_deref(), Some("range"));
    let other = w.send_join(&Client::with_protocols(&[("sticky", "")]));
    assert_eq!(w.joined[&other].error, E::InconsistentGroupProtocol);
    let none = w.send_join(&Client::with_protocols(&[]));
    assert_eq!(w.joined[&none].error, E::InconsistentGroupProtocol);
}

#[test]
fn joins_that_are_refused() {
    let mut w = World::new(GroupConfig {
        max_size: 1,
        ..GroupConfig::default()
    });
    let mut short = Client::new();
    short.session_timeout_ms = 5_999;
    let token = w.send_join(&short);
    assert_eq!(w.joined[&token].error, E::InvalidSessionTimeout);
    let mut unknown = Client::new();
    unknown.id = Name::from("x");
    let token = w.send_join(&unknown);
    assert_eq!(w.joined[&token].error, E::UnknownMemberId);
    let mut nameless = Client::new();
    nameless.group = Name::from("");
    let token = w.send_join(&nameless);
    assert_eq!(w.joined[&token].error, E::InvalidGroupId);
    let mut a = Client::new();
    w.stable(&mut [&mut a]);
    let token = w.send_join(&Client::new());
    assert_eq!(w.joined[&token].error, E::GroupMaxSizeReached);
    // An id that was handed out is good for one session timeout.
    let mut w = world();
    let mut late = Client::new();
    let token = w.send_join(&late);
    late.id = w.joined[&token].member.clone();
    w.advance(10_000);
    let token = w.send_join(&late);
    assert_eq!(w.joined[&token].error, E::UnknownMemberId);
}

#[test]
fn members_that_join_again() {
    let mut w = world();
    let (mut a, mut b) = (Client::new(), Client::new());
    w.stable(&mut [&mut a, &mut b]);
    let leader = w.coordinator.group("g").unwrap().leader().cloned().unwrap();
    let (lead, follow) = if a.id == leader {
        (&mut a, &mut b)
    } else {
        (&mut b, &mut a)
    };
    let token = w.join(follow);
    assert_eq!(
        w.finish_join(follow, token).generation,
        1,
        "nothing changed"
    );
    assert_eq!(w.state(), State::Stable);
    follow.protocols = vec![("range", "new topics")];
    let changed = w.join(follow);
    assert_eq!(w.state(), State::PreparingRebalance);
    let token = w.join(lead);
    assert_eq!(w.finish_join(lead, token).generation, 2);
    w.finish_join(follow, changed);
    let repeated = w.join(lead);
    let repeated = w.finish_join(lead, repeated);
    assert_eq!(
        (repeated.generation, repeated.members.len()),
        (2, 2),
        "same generation, same list"
    );
    w.sync_all(&mut [lead, follow]);
    w.join(lead);
    assert_eq!(
        w.state(),
        State::PreparingRebalance,
        "a leader wants a new assignment"
    );
}

#[test]
fn static_members_come_back_without_a_rebalance() {
    for version in [5, 9] {
        let mut w = world();
        let (mut a, mut b) = (Client::fixed("one"), Client::fixed("two"));
        w.stable(&mut [&mut a, &mut b]);
        let leader = w.coordinator.group("g").unwrap().leader().cloned().unwrap();
        let old = if a.id == leader { a.clone() } else { b.clone() };
        let mut back = Client::fixed(old.instance.as_deref().unwrap());
        back.version = version;
        w.hold_appends = true;
        let token = w.join(&mut back);
        assert!(
            !w.joined.contains_key(&token),
            "its new id has to be durable"
        );
        w.append_ends(Ok(()));
        let reply = w.finish_join(&mut back, token);
        assert_eq!((reply.generation, w.state()), (1, State::Stable));
        assert_ne!(back.id, old.id);
        assert_eq!(reply.skip_assignment, version >= 9);
        assert_eq!(
            reply.leader == back.id,
            version >= 9,
            "older clients must not think they lead"
        );
        assert_eq!(w.heartbeat(&old), E::FencedInstanceId);
        assert_eq!(w.heartbeat(&back), E::None);
        assert_eq!(w.commit(&old, 0, 1), Err(E::FencedInstanceId));
        let token = w.send_join(&old);
        assert_eq!(w.joined[&token].error, E::FencedInstanceId);
        let sync = w.sync(&back, &[]);
        assert_eq!(
            w.synced[&sync].assignment,
            old.id.as_bytes(),
            "it keeps its part"
        );
        w.restart();
        assert_eq!(w.heartbeat(&back), E::None, "the new id survives");
    }
}

#[test]
fn a_slow_write_does_not_make_a_static_member_immortal() {
    let mut w = world();
    let mut a = Client::fixed("one");
    w.stable(&mut [&mut a]);
    w.hold_appends = true;
    let mut back = Client::fixed("one");
    let token = w.join(&mut back);
    // Longer than the session: who waits for the coordinator is alive.
    w.advance(30_000);
    w.append_ends(Ok(()));
    assert_eq!(w.finish_join(&mut back, token).error, E::None);
    assert_eq!(w.heartbeat(&back), E::None);
    w.advance(11_000);
    assert_eq!(w.state(), State::Empty);
}

#[test]
fn a_rebalance_timeout_of_nothing_is_a_wait_too() {
    for timeout_ms in [0, -5, i32::MIN] {
        let mut w = world();
        let (mut fixed, mut other) = (Client::fixed("s"), Client::new());
        fixed.rebalance_timeout_ms = timeout_ms;
        fixed.session_timeout_ms = 1_800_000;
        w.stable(&mut [&mut fixed, &mut other]);
        // A group that is on a disk already, one member of which falls silent.
        w.restart();
        for _ in 0..2 {
            let before = w.ticks;
            w.advance(60_000);
            assert_eq!(w.state(), State::PreparingRebalance, "its place is kept");
            assert!(w.ticks - before <= 65, "{} looks", w.ticks - before);
            assert_eq!(w.heartbeat(&fixed), E::RebalanceInProgress);
        }
        let token = w.join(&mut fixed);
        assert_eq!(w.finish_join(&mut fixed, token).generation, 2);
        w.sync_all(&mut [&mut fixed]);
        w.advance(1_800_000);
        assert_eq!(w.state(), State::Empty);
    }
}

#[test]
fn static_members_keep_their_place_during_a_rebalance() {
    let mut w = world();
    let (mut a, mut b) = (Client::fixed("one"), Client::fixed("two"));
    (a.session_timeout_ms, b.session_timeout_ms) = (120_000, 120_000);
    w.stable(&mut [&mut a, &mut b]);
    let mut c = Client::new();
    let (ja, jc) = (w.join(&mut a), w.join(&mut c));
    w.join(&mut a);
    assert_eq!(
        w.joined.get(&ja).map(|r| r.error),
        Some(E::RebalanceInProgress)
    );
    w.advance(60_000);
    let reply = w.finish_join(&mut c, jc);
    assert_eq!(reply.generation, 2);
    let members = w.coordinator.group("g").unwrap().members().count();
    assert_eq!(members, 3, "b has not joined and is still there");
}

#[test]
fn leaving() {
    let mut w = world();
    let (mut a, mut b, mut c) = (Client::new(), Client::new(), Client::fixed("one"));
    w.stable(&mut [&mut a, &mut b, &mut c]);
    let errors = w.leave(&[
        (&a.id, None),
        ("nobody", None),
        ("", Some("two")),
        (&b.id, Some("one")),
    ]);
    let expected = vec![
        E::None,
        E::UnknownMemberId,
        E::UnknownMemberId,
        E::FencedInstanceId,
    ];
    assert_eq!(errors, Ok(expected));
    assert_eq!(w.state(), State::PreparingRebalance);
    let waiting = w.join(&mut b);
    assert_eq!(w.leave(&[(&b.id, None)]), Ok(vec![E::None]));
    assert_eq!(w.joined[&waiting].error, E::UnknownMemberId);
    assert_eq!(w.leave(&[("", Some("one"))]), Ok(vec![E::None]));
    assert_eq!(w.state(), State::Empty);
    assert_eq!(w.leave(&[(&a.id, None)]), Ok(vec![E::UnknownMemberId]));
}

#[test]
fn who_may_commit() {
    let mut w = world();
    let mut stranger = Client::new();
    stranger.generation = 3;
    assert_eq!(w.commit(&stranger, 0, 1), Err(E::IllegalGeneration));
    stranger.version = 9;
    assert_eq!(w.commit(&stranger, 0, 1), Err(E::GroupIdNotFound));
    let simple = Client::new();
    let token = w.commit(&simple, 0, 5).unwrap();
    assert_eq!((w.written[&token], w.offset(0)), (E::None, Some(5)));
    assert!(w.commit(&simple, 0, 6).is_ok(), "the group is empty");
    assert_eq!(w.commit(&stranger, 0, 1), Err(E::UnknownMemberId));

    let mut a = Client::new();
    let token = w.join(&mut a);
    assert_eq!(w.commit(&simple, 0, 7), Err(E::UnknownMemberId));
    w.advance(3_000);
    w.finish_join(&mut a, token);
    assert_eq!(w.commit(&a, 0, 7), Err(E::RebalanceInProgress));
    w.sync_all(&mut [&mut a]);
    assert!(w.commit(&a, 0, 7).is_ok());
    let mut old = a.clone();
    old.generation = 0;
    assert_eq!(w.commit(&old, 0, 8), Err(E::IllegalGeneration));
    assert_eq!(w.commit(&simple, 0, 8), Err(E::UnknownMemberId));
    w.join(&mut Client::new());
    assert!(
        w.commit(&a, 0, 9).is_ok(),
        "a last commit before it joins again"
    );
    w.advance(9_000);
    assert_eq!(
        w.heartbeat(&a),
        E::RebalanceInProgress,
        "a commit is a sign of life"
    );
    w.restart();
    assert_eq!(w.offset(0), Some(9));
}

#[test]
fn a_commit_takes_so_many_partitions_and_says_what_it_says_for_a_batch_that_is_too_large() {
    const MANY: i32 = OFFSETS_PER_COMMIT_MAX as i32;
    let mut w = world();
    let client = Client::new();
    assert!(w.commit_all(&client, 0..MANY, 7).is_ok());
    assert_eq!((w.offset(0), w.offset(MANY - 1)), (Some(7), Some(7)));
    let more = w.commit_all(&client, 0..MANY + 1, 8);
    assert_eq!(more, Err(E::UnknownServerError));
    assert_eq!(w.offset(0), Some(7), "none of it");
}

#[test]
fn commits_are_seen_when_they_are_durable() {
    let mut w = world();
    w.hold_appends = true;
    let simple = Client::new();
    let first = w.commit(&simple, 0, 5).unwrap();
    let second = w.commit(&simple, 0, 6).unwrap();
    assert_eq!(w.offset(0), None);
    w.append_ends(Ok(()));
    assert_eq!((w.written[&first], w.offset(0)), (E::None, Some(5)));
    w.append_ends(Err(E::KafkaStorageError));
    assert_eq!(
        (w.written[&second], w.offset(0)),
        (E::NotCoordinator, Some(5))
    );
}

#[test]
fn deleting_a_group_covers_commits_on_their_way() {
    let mut w = world();
    let g = Name::from("g");
    let simple = Client::new();
    w.commit(&simple, 0, 5).unwrap();
    w.hold_appends = true;
    w.commit(&simple, 1, 5).unwrap();
    let mut effects = Vec::new();
    assert_eq!(
        w.coordinator.delete_group(w.now, 900, &g, &mut effects),
        Ok(())
    );
    w.perform(effects);
    let token = w.send_join(&Client::new());
    assert_eq!(
        w.joined[&token].error,
        E::CoordinatorNotAvailable,
        "it is dying"
    );
    assert_eq!(w.commit(&simple, 0, 9), Err(E::CoordinatorNotAvailable));
    w.flush();
    assert_eq!(w.written[&900], E::None);
    assert!(w.coordinator.group("g").is_none());
    w.restart();
    assert!(w.coordinator.group("g").is_none());
    assert!(w.coordinator.delete_group(w.now, 901, &g, &mut Vec::new()) == Err(E::GroupIdNotFound));
    // What is on its way may come to be: it is not there, nor is it not.
    w.hold_appends = true;
    w.commit(&simple, 0, 5).unwrap();
    let unknown = Err(E::CoordinatorNotAvailable);
    let again = w.coordinator.delete_group(w.now, 906, &g, &mut Vec::new());
    assert_eq!(again, unknown);
    let targets = [(Name::from("t"), 0)];
    let again = w
        .coordinator
        .delete_offsets(w.now, 907, &g, &targets, &mut Vec::new());
    assert_eq!(again.map(drop), unknown);
    w.flush();
    // One that takes too long may come to be all the same: nobody joins what is buried then.
    w.hold_appends = false;
    w.commit(&simple, 0, 5).unwrap();
    w.hold_appends = true;
    let mut effects = Vec::new();
    w.coordinator
        .delete_group(w.now, 904, &g, &mut effects)
        .unwrap();
    w.perform(effects);
    w.append_is_late();
    assert_eq!(w.written[&904], E::CoordinatorNotAvailable);
    let token = w.send_join(&Client::new());
    assert_eq!(w.joined[&token].error, E::CoordinatorNotAvailable);
    let again = w.coordinator.delete_group(w.now, 905, &g, &mut Vec::new());
    assert_eq!(again, Err(E::CoordinatorNotAvailable), "it is not gone yet");
    assert_eq!((w.state(), w.offset(0)), (State::Dead, Some(5)));
    w.flush();
    assert!(w.coordinator.group("g").is_none());
    // A deletion that cannot be written leaves the group as it was.
    w.hold_appends = false;
    w.commit(&simple, 0, 5).unwrap();
    w.hold_appends = true;
    let mut effects = Vec::new();
    w.coordinator
        .delete_group(w.now, 902, &g, &mut effects)
        .unwrap();
    w.perform(effects);
    w.append_ends(Err(E::NotEnoughReplicas));
    assert_eq!(w.written[&902], E::CoordinatorNotAvailable);
    assert_eq!((w.state(), w.offset(0)), (State::Empty, Some(5)));
    w.hold_appends = false;
    w.stable(&mut [&mut Client::new()]);
    let refused = w.coordinator.delete_group(w.now, 903, &g, &mut Vec::new());
    assert_eq!(refused, Err(E::NonEmptyGroup));
}

#[test]
fn deleting_offsets() {
    let mut w = world();
    let g = Name::from("g");
    let targets = [(Name::from("t"), 0), (Name::from("t"), 7)];
    let missing = w
        .coordinator
        .delete_offsets(w.now, 1, &g, &targets, &mut Vec::new());
    assert_eq!(missing, Err(E::GroupIdNotFound));
    w.commit(&Client::new(), 0, 5).unwrap();
    let mut effects = Vec::new();
    let deleted = w
        .coordinator
        .delete_offsets(w.now, 900, &g, &targets, &mut effects);
    assert_eq!(deleted, Ok(vec![E::None, E::None]));
    w.perform(effects);
    assert_eq!((w.written[&900], w.offset(0)), (E::None, None));
    // Members subscribed to t: version, one topic "t".
    let mut a = Client::with_protocols(&[("range", "\0\0\0\0\0\x01\0\x01t\0\0\0\0")]);
    w.stable(&mut [&mut a]);
    w.commit(&a, 0, 5).unwrap();
    let refused = w
        .coordinator
        .delete_offsets(w.now, 901, &g, &targets[..1], &mut Vec::new());
    assert_eq!(refused, Ok(vec![E::GroupSubscribedToTopic]));
    let other = [(Name::from("u"), 0)];
    let other = w
        .coordinator
        .delete_offsets(w.now, 902, &g, &other, &mut Vec::new());
    assert_eq!(other, Ok(vec![E::None]));
}

#[test]
fn offsets_expire() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let mut w = world();
    w.commit(&Client::new(), 0, 5).unwrap();
    w.advance(6 * DAY);
    w.commit(&Client::new(), 1, 5).unwrap();
    w.advance(DAY + 3_600_000);
    assert_eq!(
        (w.offset(0), w.offset(1)),
        (None, Some(5)),
        "each by its commit"
    );
    w.advance(6 * DAY);
    assert!(w.coordinator.group("g").is_none(), "nothing is left");
    // With members it counts from when the last one left.
    let mut a = Client::with_protocols(&[("range", "\0\0\0\0\0\x01\0\x01t\0\0\0\0")]);
    a.session_timeout_ms = 1_800_000;
    w.stable(&mut [&mut a]);
    w.commit(&a, 0, 5).unwrap();
    for _ in 0..8 * 48 {
        w.advance(DAY / 48 - 1_000);
        assert_eq!(w.heartbeat(&a), E::None);
    }
    assert_eq!(w.offset(0), Some(5), "in use");
    w.leave(&[(&a.id, None)]).unwrap();
    w.advance(7 * DAY - 1_200_000);
    assert_eq!(w.offset(0), Some(5));
    w.restart();
    w.advance(1_800_000);
    assert!(w.coordinator.group("g").is_none());
    w.restart();
    assert!(w.coordinator.group("g").is_none());
}

#[test]
fn after_a_restart_members_have_a_fresh_session() {
    let mut w = world();
    let (mut a, mut b) = (Client::new(), Client::new());
    w.stable(&mut [&mut a, &mut b]);
    w.commit(&a, 0, 5).unwrap();
    w.advance(9_000);
    w.restart();
    assert_eq!((w.state(), w.offset(0)), (State::Stable, Some(5)));
    w.advance(9_000);
    assert_eq!(w.heartbeat(&a), E::None);
    let sync = w.sync(&b, &[]);
    assert_eq!(w.synced[&sync].assignment, b.id.as_bytes());
    w.advance(2_000);
    assert_eq!(w.heartbeat(&b), E::UnknownMemberId);
}

#[test]
fn damaged_records_make_sane_groups() {
    let mut w = world();
    let member = |id: &str| records::MemberValue {
        member: Name::from(id),
        instance: Some(Name::from("same")),
        client_id: Name::from(""),
        client_host: Name::from(""),
        rebalance_timeout_ms: -5,
        session_timeout_ms: -5,
        subscription: Bytes::new(),
        assignment: Bytes::new(),
    };
    let value = records::GroupValue {
        protocol_type: Some(Name::from("consumer")),
        generation: i32::MAX,
        leader: Some(Name::from("nobody")),
        members: vec![member("a"), member("a"), member("b")],
        ..records::GroupValue::default()
    };
    let record = (records::group_key("g"), Some(records::group_value(&value)));
    w.log.push(Logged::Record(record, None));
    w.restart();
    assert_eq!(w.coordinator.group("g").unwrap().members().count(), 2);
    w.advance(1);
    assert_eq!(w.state(), State::Empty);
}
