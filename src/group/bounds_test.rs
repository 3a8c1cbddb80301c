//! How large what a group carries and writes may become, whatever its clients send.

use super::join::JoinRequest;
use super::testing::{Client, World, commit_of};
use super::*;
use crate::base::limits::{GROUP_BATCH_BYTES_MAX, PROTOCOLS_PER_MEMBER_MAX};
use crate::base::{ErrorCode as E, TopicId};

fn world() -> World {
    World::new(GroupConfig::default())
}

/// As long as an id may be.
fn long_id() -> Name {
    Name::from("g".repeat(32_767))
}

#[test]
fn a_commit_is_no_larger_than_a_batch_however_long_the_id_of_its_group() {
    let mut w = world();
    let mut client = Client::new();
    client.group = long_id();
    w.hold_appends = true;
    assert!(w.commit_all(&client, 0..60, 7).is_ok());
    assert!(w.pending[0].bytes() <= GROUP_BATCH_BYTES_MAX);
    let too_many = w.commit_all(&client, 0..70, 7);
    assert_eq!((too_many, w.pending.len()), (Err(E::UnknownServerError), 1));
}

#[test]
fn a_partition_that_is_named_twice_is_committed_once() {
    let mut w = world();
    let mut commit = commit_of("t", TopicId([7; 16]), w.now);
    let last = OffsetToCommit {
        committed: Committed {
            offset: 6,
            ..commit.offsets[0].committed.clone()
        },
        ..commit.offsets[0].clone()
    };
    commit.offsets = vec![commit.offsets[0].clone(); 10_001];
    commit.offsets.push(last);
    let (token, mut effects) = (w.token(), Vec::new());
    let committed = w.coordinator.commit(w.now, token, &commit, &mut effects);
    assert_eq!(committed, Ok(()));
    w.perform(effects);
    assert_eq!((w.log.len(), w.offset(0)), (1, Some(6)), "the last one");
}

#[test]
fn a_deletion_takes_as_many_batches_as_it_needs() {
    let mut w = world();
    let mut client = Client::new();
    client.group = long_id();
    for first in [0, 60, 120] {
        assert!(w.commit_all(&client, first..first + 60, 7).is_ok());
    }
    // Offsets, one of them named very often, and one of which is on its way.
    w.hold_appends = true;
    assert!(w.commit_all(&client, 180..181, 7).is_ok());
    let targets = |range: std::ops::Range<i32>| range.map(|p| (Name::from("t"), p));
    let mut named: Vec<_> = targets(0..100).chain(targets(180..181)).collect();
    named.extend(vec![(Name::from("t"), 5); 10_000]);
    let (now, token, mut effects) = (w.now, w.token(), Vec::new());
    let deleted = w
        .coordinator
        .delete_offsets(now, token, &client.group, &named, &mut effects);
    assert_eq!(deleted, Ok(vec![E::None; named.len()]));
    w.perform(effects);
    let mut batches = 0;
    while let Some(pending) = w.pending.front() {
        assert!(pending.bytes() <= GROUP_BATCH_BYTES_MAX);
        assert!(!w.written.contains_key(&token));
        w.append_ends(Ok(()));
        batches += 1;
    }
    assert_eq!((batches, w.written[&token]), (1 + 2, E::None));
    let left = |w: &World| match w.coordinator.offsets(&client.group) {
        Some(offsets) => offsets.after(None).count(),
        None => 0,
    };
    assert_eq!(left(&w), 80);

    // The group with all that is left. When a batch fails the rest of it is there, and can be deleted again.
    let delete = |w: &mut World, ends: &[Result<(), E>]| {
        let (token, mut effects) = (w.token(), Vec::new());
        let asked = w
            .coordinator
            .delete_group(now, token, &client.group, &mut effects);
        assert_eq!(asked, Ok(()));
        w.perform(effects);
        for end in ends {
            assert!(!w.written.contains_key(&token));
            assert_eq!(w.commit(&client, 0, 1), Err(E::CoordinatorNotAvailable));
            w.append_ends(*end);
        }
        assert!(w.pending.is_empty());
        w.written[&token]
    };
    let failed = delete(&mut w, &[Ok(()), Err(E::KafkaStorageError)]);
    assert_eq!(failed, E::NotCoordinator);
    assert!((1..80).contains(&left(&w)));
    assert_eq!(delete(&mut w, &[Ok(())]), E::None);
    assert!(w.coordinator.group(&client.group).is_none());
    w.restart();
    assert!(w.coordinator.group(&client.group).is_none());
}

#[test]
fn members_fit_into_the_record_of_their_group() {
    let mut w = world();
    let join = |w: &mut World, member: Name, bytes: usize, protocols: usize| {
        let protocol = |n: usize| Protocol {
            name: Name::from(format!("{n}")),
            metadata: vec![1; bytes].into(),
        };
        let request = JoinRequest {
            group: Name::from("g"),
            member,
            instance: None,
            client_id: Name::from("c"),
            client_host: Name::from("/127.0.0.1"),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            protocol_type: Name::from("consumer"),
            protocols: (0..protocols).map(protocol).collect(),
            needs_member_id: false,
            may_skip_assignment: false,
        };
        let (token, mut effects) = (w.token(), Vec::new());
        w.coordinator.join(w.now, token, request, &mut effects);
        w.perform(effects);
        token
    };
    let none = || Name::from("");
    let waiting: Vec<u64> = (0..4).map(|_| join(&mut w, none(), 1_000_000, 1)).collect();
    assert!(waiting.iter().all(|token| !w.joined.contains_key(token)));
    let fifth = join(&mut w, none(), 1_000_000, 1);
    assert_eq!(w.joined[&fifth].error, E::GroupMaxSizeReached);
    let many = join(&mut w, none(), 1, PROTOCOLS_PER_MEMBER_MAX + 1);
    assert_eq!(w.joined[&many].error, E::InconsistentGroupProtocol);
    let small = join(&mut w, none(), 1, 1);
    assert!(!w.joined.contains_key(&small));
    // Who is in it may carry what it had, and no more than there is room for.
    w.advance(7_000);
    let leader = w.joined[&waiting[0]].leader.clone();
    let members = w.coordinator.group("g").unwrap().members().count();
    assert_eq!(members, 5);
    let same = join(&mut w, leader.clone(), 1_000_001, 1);
    assert!(!w.joined.contains_key(&same));
    let larger = join(&mut w, leader, 2_000_000, 1);
    assert_eq!(w.joined[&larger].error, E::GroupMaxSizeReached);
}

#[test]
fn the_record_that_is_kept_of_a_group_counts_as_long_as_it_is_kept() {
    let mut w = world();
    let before = w.coordinator.usage();
    let mut client = Client::new();
    let token = w.join(&mut client);
    w.advance(3_000);
    w.finish_join(&mut client, token);
    w.hold_appends = true;
    w.sync(&client, &[(&client, &"a".repeat(100_000))]);
    let on_its_way = w.coordinator.usage().bytes;
    assert!((100_000..200_000).contains(&on_its_way), "{on_its_way}");
    w.flush();
    let durable = w.coordinator.usage().bytes;
    assert!(durable > 200_000, "the record and the member: {durable}");
    let told = w.coordinator.durable_bytes();
    assert!((100_000..200_000).contains(&told), "{told}");
    w.restart();
    assert_eq!(w.coordinator.usage().bytes, durable);
    assert_eq!(w.coordinator.durable_bytes(), told);
    assert!(w.leave(&[(&client.id, None)]).is_ok());
    w.flush();
    let (now, token, mut effects) = (w.now, w.token(), Vec::new());
    let coordinator = &mut w.coordinator;
    let deleted = coordinator.delete_group(now, token, &client.group, &mut effects);
    assert_eq!(deleted, Ok(()));
    w.perform(effects);
    w.flush();
    assert_eq!(w.coordinator.usage(), before);
    assert_eq!(w.coordinator.durable_bytes(), 0);
}
