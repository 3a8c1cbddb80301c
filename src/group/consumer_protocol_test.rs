//! What members of consumer groups are answered, case by case.

use super::consumer::{ConsumerHeartbeat, JOINS, LEAVES, LEAVES_FOR_A_WHILE, Partitions};
use super::consumer_testing::{Consumer, FakeTopics};
use super::testing::{Client, World, commit_of};
use super::{ConsumerConfig, ConsumerReply, GroupConfig, GroupsUsage, Name, News, SnapshotPart};
use crate::base::{ErrorCode, TopicId};

fn world(partitions: i32) -> (World, FakeTopics) {
    let (world, topics) = World::with_topics(GroupConfig::default());
    topics.set("t", partitions);
    (world, topics)
}

fn set(topic: TopicId, partitions: &[i32]) -> Partitions {
    let mut set = Partitions::default();
    set.add(topic, partitions.iter().copied());
    set
}

fn error(reply: &ConsumerReply) -> ErrorCode {
    reply.error
}

#[test]
fn a_member_gets_all_and_shares_with_the_next_one() {
    let (mut world, _) = world(4);
    let (mut a, mut b) = (Consumer::new("a", &["t"]), Consumer::new("b", &["t"]));
    let first = world.beat_of(&mut a);
    assert_eq!(
        (first.epoch, first.heartbeat_interval_ms, a.count()),
        (2, 5000, 4)
    );
    assert_eq!(world.consumer_state(), "Stable");
    // Nothing changes: nothing is told, and nothing written.
    let written = world.log.len();
    assert_eq!(world.beat(a.short()).assigned, None);
    assert_eq!(world.log.len(), written);
    // The second one lacks what the first one has not given up.
    let joined = world.beat_of(&mut b);
    assert_eq!((joined.epoch, b.count()), (3, 0));
    assert_eq!(world.consumer_state(), "Reconciling");
    // It is to give up two, and is in its old epoch until it says that it has.
    let before = a.clone();
    let told = world.beat_of(&mut a);
    assert_eq!((told.epoch, a.count()), (2, 2));
    assert_eq!(world.beat(before.short()).epoch, 2, "it has not yet");
    let partly = world.beat_of(&mut b);
    assert_eq!((partly.epoch, b.count()), (3, 0));
    assert_eq!(world.beat_of(&mut a).epoch, 3);
    world.beat_of(&mut b);
    assert_eq!((a.count(), b.count()), (2, 2));
    assert_eq!(world.consumer_state(), "Stable");
    // Who leaves leaves it all.
    let left = world.beat(ConsumerHeartbeat {
        epoch: LEAVES,
        ..a.short()
    });
    assert_eq!((error(&left), left.epoch), (ErrorCode::None, LEAVES));
    world.settle(&mut [&mut b]);
    assert_eq!((b.epoch, b.count()), (4, 4));
    let nobody = world.beat(ConsumerHeartbeat {
        epoch: LEAVES,
        ..b.short()
    });
    assert!(nobody.error.is_none());
    assert_eq!(world.consumer_state(), "Empty");
    let news: Vec<News> = world.news.iter().map(|(_, news)| *news).collect();
    let assigns = |epoch, members| News::Assigns { epoch, members };
    assert_eq!(
        news,
        [assigns(2, 1), assigns(3, 2), assigns(4, 1), News::Empty]
    );
}

#[test]
fn who_is_no_member_or_names_the_wrong_epoch_is_told() {
    let (mut world, topics) = world(2);
    let mut a = Consumer::new("a", &["t"]);
    let stranger = Consumer {
        epoch: 4,
        ..Consumer::new("x", &["t"])
    };
    assert_eq!(
        error(&world.beat(stranger.short())),
        ErrorCode::GroupIdNotFound
    );
    world.settle(&mut [&mut a]);
    let mut b = Consumer::new("b", &["t"]);
    world.settle(&mut [&mut b]);
    world.settle(&mut [&mut a, &mut b]);
    assert_eq!(
        error(&world.beat(stranger.short())),
        ErrorCode::UnknownMemberId
    );
    let leaves = |of: &Consumer| ConsumerHeartbeat {
        epoch: LEAVES,
        ..of.short()
    };
    assert_eq!(
        error(&world.beat(leaves(&stranger))),
        ErrorCode::UnknownMemberId
    );
    let with = |epoch, owned| ConsumerHeartbeat {
        epoch,
        owned,
        ..a.short()
    };
    assert_eq!((a.epoch, a.count()), (3, 1));
    assert_eq!(
        error(&world.beat(with(4, None))),
        ErrorCode::FencedMemberEpoch
    );
    // The epoch before, if all that it has is its own: the answer may have been lost.
    let before = world
        .coordinator
        .consumer_group("g")
        .unwrap()
        .state()
        .current("a");
    assert_eq!((before.epoch, before.previous_epoch), (3, 2));
    assert_eq!(
        error(&world.beat(with(2, None))),
        ErrorCode::FencedMemberEpoch
    );
    let other = set(topics.id("t"), &[0, 1]);
    assert_eq!(
        error(&world.beat(with(2, Some(other)))),
        ErrorCode::FencedMemberEpoch
    );
    let again = world.beat(with(2, Some(a.owned.clone())));
    assert_eq!((error(&again), again.epoch), (ErrorCode::None, 3));
    // Who is a member and joins once more is not what it was, as long as it is not removed.
    assert_eq!(
        error(&world.beat(with(JOINS, Some(Partitions::default())))),
        ErrorCode::InvalidRequest
    );
    let rejoins = Consumer {
        epoch: JOINS,
        owned: Partitions::default(),
        ..a.clone()
    };
    assert_eq!(
        error(&world.beat(rejoins.full())),
        ErrorCode::FencedMemberEpoch
    );
}

#[test]
fn what_is_wrong_with_a_request_is_told() {
    let config = GroupConfig {
        consumer: ConsumerConfig {
            max_size: 1,
            assignors: vec![Name::from("uniform")],
            ..ConsumerConfig::default()
        },
        ..GroupConfig::default()
    };
    let (mut world, topics) = World::with_topics(config);
    topics.set("t", 1);
    let a = Consumer::new("a", &["t"]);
    let wrong = ConsumerHeartbeat {
        rebalance_timeout_ms: None,
        ..a.full()
    };
    let refused = world.beat(wrong);
    assert_eq!(error(&refused), ErrorCode::InvalidRequest);
    assert!(refused.message.unwrap().starts_with("RebalanceTimeoutMs"));
    let range = Consumer {
        assignor: Some("range"),
        ..a.clone()
    };
    assert_eq!(
        error(&world.beat(range.full())),
        ErrorCode::UnsupportedAssignor
    );
    let regex = Consumer {
        regex: Some("(t"),
        ..a.clone()
    };
    assert_eq!(
        error(&world.beat(regex.full())),
        ErrorCode::InvalidRegularExpression
    );
    // Nobody came to be a member: there is no group.
    assert_eq!(world.coordinator.groups().count(), 0);
    assert!(world.beat(a.full()).error.is_none());
    let b = Consumer::new("b", &["t"]);
    assert_eq!(error(&world.beat(b.full())), ErrorCode::GroupMaxSizeReached);
    // Version 0 brings no id.
    let (mut world, _) = world_of_one();
    let joined = world.beat(Consumer::new("", &["t"]).full());
    assert_eq!(joined.member.unwrap().len(), 32);
}

fn world_of_one() -> (World, FakeTopics) {
    world(1)
}

#[test]
fn a_static_member_may_be_away_for_a_while() {
    let (mut world, _) = world(4);
    let mut a = Consumer::fixed("a", "i", &["t"]);
    let mut b = Consumer::new("b", &["t"]);
    world.beat_of(&mut a);
    world.settle(&mut [&mut a, &mut b]);
    world.settle(&mut [&mut a, &mut b]);
    let other = Consumer::fixed("c", "i", &["t"]);
    assert_eq!(
        error(&world.beat(other.full())),
        ErrorCode::UnreleasedInstanceId
    );
    let beats = Consumer {
        epoch: 2,
        ..other.clone()
    };
    assert_eq!(
        error(&world.beat(beats.short())),
        ErrorCode::FencedInstanceId
    );
    let unknown = Consumer {
        instance: Some(Name::from("j")),
        ..beats
    };
    assert_eq!(
        error(&world.beat(unknown.short())),
        ErrorCode::UnknownMemberId
    );
    let away = |of: &Consumer, epoch| ConsumerHeartbeat {
        epoch,
        ..of.short()
    };
    assert_eq!(
        error(&world.beat(away(&other, LEAVES))),
        ErrorCode::FencedInstanceId
    );
    let left = world.beat(away(&a, LEAVES_FOR_A_WHILE));
    assert_eq!(
        (error(&left), left.epoch),
        (ErrorCode::None, LEAVES_FOR_A_WHILE)
    );
    // Its partitions stay its own, and nobody else gets them.
    world.settle(&mut [&mut b]);
    assert_eq!((b.epoch, b.count()), (3, 2));
    assert_eq!(error(&world.beat(a.short())), ErrorCode::FencedMemberEpoch);
    let mut back = other;
    let reply = world.beat_of(&mut back);
    assert_eq!((reply.epoch, &back.owned), (3, &a.owned));
    assert_eq!(error(&world.beat(a.short())), ErrorCode::FencedInstanceId);
    // One that does not come back goes with its session.
    world.beat(away(&back, LEAVES_FOR_A_WHILE));
    for _ in 0..10 {
        world.advance(5_000);
        world.beat_of(&mut b);
    }
    world.settle(&mut [&mut b]);
    assert_eq!((b.epoch, b.count()), (4, 4));
}

/// Its heartbeat and its leave are of one turn.
#[test]
fn a_static_member_that_goes_is_not_brought_back_by_what_it_asked_before() {
    let (mut world, _) = world(2);
    let mut a = Consumer::fixed("a", "i", &["t"]);
    let b = Consumer::new("b", &["t"]);
    world.settle(&mut [&mut a]);
    world.hold_appends = true;
    world.send_beat(b.full());
    let beats = world.send_beat(a.short());
    world.send_beat(ConsumerHeartbeat {
        epoch: LEAVES_FOR_A_WHILE,
        ..a.short()
    });
    world.append_ends(Ok(()));
    world.hold_appends = false;
    world.advance(1);
    world.flush();
    assert!(world.heartbeats.contains_key(&beats), "it is answered");
    let mut back = Consumer::fixed("c", "i", &["t"]);
    let reply = world.beat_of(&mut back);
    assert_eq!(error(&reply), ErrorCode::None);
}

#[test]
fn members_go_on_when_there_is_no_room_for_others() {
    let (mut world, _) = world(2);
    let mut a = Consumer::new("a", &["t"]);
    world.settle(&mut [&mut a]);
    let room = GroupsUsage {
        groups: 0,
        bytes: 0,
        refreshes: 0,
    };
    world.coordinator.set_room(room);
    assert_eq!(error(&world.beat(a.short())), ErrorCode::None);
    assert_eq!(error(&world.beat(a.full())), ErrorCode::None);
    let b = Consumer::new("b", &["t"]);
    let full = ErrorCode::CoordinatorNotAvailable;
    assert_eq!(error(&world.beat(b.full())), full);
    a.topics = vec!["t", "u"];
    assert_eq!(error(&world.beat(a.full())), full, "it wants more");
    let gone = ConsumerHeartbeat {
        epoch: LEAVES,
        ..a.short()
    };
    assert_eq!(error(&world.beat(gone)), ErrorCode::None);
}

#[test]
fn a_name_that_no_topic_can_have_is_refused() {
    let (mut world, _) = world(1);
    let mut request = Consumer::new("a", &[]).full();
    request.topics = Some(vec![Name::from("x".repeat(250))]);
    assert_eq!(error(&world.beat(request)), ErrorCode::InvalidRequest);
}

#[test]
fn who_is_silent_or_keeps_its_partitions_is_removed() {
    let (mut world, _) = world(2);
    let (mut a, mut b) = (Consumer::new("a", &["t"]), Consumer::new("b", &["t"]));
    world.settle(&mut [&mut a]);
    world.beat_of(&mut b);
    // It is alive, and does not give up: after its rebalance timeout it is out.
    for _ in 0..13 {
        world.beat(a.short());
        world.advance(5_000);
        world.beat_of(&mut b);
    }
    assert_eq!(error(&world.beat(a.short())), ErrorCode::UnknownMemberId);
    world.settle(&mut [&mut b]);
    assert_eq!(b.count(), 2);
    world.advance(44_000);
    assert_eq!(world.consumer_state(), "Stable");
    world.advance(2_000);
    assert_eq!(world.consumer_state(), "Empty");
    assert_eq!(error(&world.beat(b.short())), ErrorCode::UnknownMemberId);
}

#[test]
fn topics_that_come_go_and_grow_are_noticed() {
    let (mut world, topics) = world(2);
    let mut a = Consumer::new("a", &["t", "later"]);
    let mut b = Consumer::new("b", &[]);
    b.regex = Some("x.*");
    world.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.count(), b.count()), (2, 0));
    topics.set("t", 3);
    topics.set("later", 2);
    topics.set("x1", 1);
    world.advance(1_000);
    world.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.count(), b.count()), (5, 1));
    let epoch = a.epoch;
    // Nothing of it is theirs.
    topics.set("other", 7);
    world.advance(1_000);
    world.settle(&mut [&mut a, &mut b]);
    assert_eq!(a.epoch, epoch);
    topics.delete("t");
    topics.delete("x1");
    topics.set("x2", 4);
    world.advance(1_000);
    world.settle(&mut [&mut a, &mut b]);
    world.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.count(), b.count()), (2, 4));
    // Also while nobody coordinates.
    topics.set("x3", 1);
    world.restart();
    world.settle(&mut [&mut a, &mut b]);
    assert_eq!(b.count(), 5);
    b.regex = Some("");
    let reply = world.beat(b.full());
    b.take(&reply);
    world.settle(&mut [&mut b]);
    assert_eq!(b.count(), 0);
    let state = world.coordinator.consumer_group("g").unwrap().state();
    assert!(state.resolved("x.*").is_none() && !state.is_subscribed_to("x2"));
}

#[test]
fn members_are_told_what_is_durable_alone() {
    let (mut world, _) = world(2);
    let mut a = Consumer::new("a", &["t"]);
    world.hold_appends = true;
    let token = world.send_beat(a.full());
    assert!(!world.heartbeats.contains_key(&token));
    // What cannot be written has never been.
    world.append_ends(Err(ErrorCode::NotEnoughReplicas));
    assert_eq!(
        world.heartbeats[&token].error,
        ErrorCode::CoordinatorNotAvailable
    );
    assert_eq!(world.coordinator.groups().count(), 0);
    world.hold_appends = false;
    world.settle(&mut [&mut a]);
    world.hold_appends = true;
    let mut b = Consumer::new("b", &["t"]);
    let (joins, waits) = (world.send_beat(b.full()), world.send_beat(a.short()));
    // Who is late may be a member yet.
    world.append_is_late();
    assert_eq!(
        world.heartbeats[&joins].error,
        ErrorCode::CoordinatorNotAvailable
    );
    assert!(!world.heartbeats.contains_key(&waits));
    world.append_ends(Ok(()));
    world.advance(1);
    world.flush();
    let told = world.heartbeats.remove(&waits).unwrap();
    assert_eq!(told.assigned.unwrap().assigned.count(), 1);
    world.hold_appends = false;
    // Its epoch is known now, so it is another one that joins; but nothing was told to it, so it may be lost.
    let again = world.beat_of(&mut b);
    assert!(again.error.is_none(), "{again:?}");
    // Who waits when the partition is given up looks for the coordinator.
    world.hold_appends = true;
    let c = Consumer::new("c", &["t"]);
    let first = world.send_beat(c.full());
    let second = world.send_beat(a.short());
    let mut effects = Vec::new();
    world.coordinator.unload(world.now, &mut effects);
    world.perform(effects);
    assert_eq!(world.heartbeats[&second].error, ErrorCode::NotCoordinator);
    world.append_ends(Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(world.heartbeats[&first].error, ErrorCode::NotCoordinator);
}

#[test]
fn offsets_are_committed_and_fetched_by_members() {
    let (mut world, topics) = world(2);
    let (mut a, mut b) = (Consumer::new("a", &["t"]), Consumer::new("b", &["t"]));
    world.settle(&mut [&mut a]);
    let (old, id) = (a.clone(), topics.id("t"));
    let commit = |world: &mut World, member: &str, epoch, partition, version| {
        let mut request = commit_of("t", id, world.now);
        request.member = Name::from(member);
        request.generation = epoch;
        request.offsets[0].partition = partition;
        request.knows_group_id_not_found = version >= 9;
        let (token, mut effects) = (world.token(), Vec::new());
        let asked = world
            .coordinator
            .commit(world.now, token, &request, &mut effects);
        world.perform(effects);
        asked.err().unwrap_or(ErrorCode::None)
    };
    assert_eq!(commit(&mut world, "a", 2, 0, 9), ErrorCode::None);
    assert_eq!(
        commit(&mut world, "a", 2, 0, 8),
        ErrorCode::UnsupportedVersion
    );
    assert_eq!(
        commit(&mut world, "a", 3, 0, 9),
        ErrorCode::StaleMemberEpoch
    );
    assert_eq!(commit(&mut world, "x", 1, 0, 9), ErrorCode::UnknownMemberId);
    assert_eq!(commit(&mut world, "", -1, 0, 9), ErrorCode::UnknownMemberId);
    world.settle(&mut [&mut b]);
    world.settle(&mut [&mut a, &mut b]);
    // An epoch before counts for what has been its own since (KIP-1251), and for nothing else.
    let kept = a.owned.all().next().unwrap().1;
    assert_eq!(commit(&mut world, "a", old.epoch, kept, 9), ErrorCode::None);
    assert_eq!(
        commit(&mut world, "a", old.epoch, 1 - kept, 9),
        ErrorCode::StaleMemberEpoch
    );
    let group = world.coordinator.consumer_group("g").unwrap();
    let places = || [(&id, 1 - kept)].into_iter();
    let in_transaction = group
        .state()
        .check_commit(("a", old.epoch), true, true, places());
    assert_eq!(in_transaction, Err(ErrorCode::IllegalGeneration));
    assert_eq!(group.state().check_fetch(None, -1), Ok(()));
    assert_eq!(group.state().check_fetch(Some("a"), 3), Ok(()));
    assert_eq!(
        group.state().check_fetch(Some("a"), 2),
        Err(ErrorCode::StaleMemberEpoch)
    );
    assert_eq!(
        group.state().check_fetch(Some("x"), 1),
        Err(ErrorCode::UnknownMemberId)
    );
    // What somebody is subscribed to is not deleted.
    let targets = [(Name::from("t"), 0), (Name::from("u"), 0)];
    let (now, token, mut effects) = (world.now, world.token(), Vec::new());
    let coordinator = &mut world.coordinator;
    let deleted = coordinator.delete_offsets(now, token, &Name::from("g"), &targets, &mut effects);
    let errors = [ErrorCode::GroupSubscribedToTopic, ErrorCode::None];
    assert_eq!(deleted, Ok(errors.to_vec()));
    world.perform(effects);
}

fn leave(world: &mut World, consumer: &Consumer) {
    let left = world.beat(ConsumerHeartbeat {
        epoch: LEAVES,
        ..consumer.short()
    });
    assert!(left.error.is_none());
}

#[test]
fn an_empty_group_becomes_one_of_the_other_kind_and_others_do_not() {
    let (mut world, _) = world(1);
    let mut classic = Client::new();
    world.stable(&mut [&mut classic]);
    let mut a = Consumer::new("a", &["t"]);
    assert_eq!(error(&world.beat(a.full())), ErrorCode::GroupIdNotFound);
    assert_eq!(
        world.leave(&[(&*classic.id, None)]),
        Ok(vec![ErrorCode::None])
    );
    world.settle(&mut [&mut a]);
    assert!(world.coordinator.group("g").is_none());
    world.restart();
    assert!(world.coordinator.group("g").is_none());
    assert_eq!(world.heartbeat(&classic), ErrorCode::UnknownMemberId);
    let token = world.send_join(&Client::new());
    assert_eq!(
        world.joined[&token].error,
        ErrorCode::InconsistentGroupProtocol
    );
    world.settle(&mut [&mut a]);
    leave(&mut world, &a);
    let mut classic = Client::new();
    world.stable(&mut [&mut classic]);
    assert!(world.coordinator.consumer_group("g").is_none());
    world.restart();
    assert!(world.coordinator.consumer_group("g").is_none());
    assert_eq!(world.heartbeat(&classic), ErrorCode::None);
}

#[test]
fn a_group_is_deleted_with_all_that_it_has() {
    let (mut world, topics) = world(1);
    let mut a = Consumer::new("a", &["t"]);
    a.regex = Some("t");
    world.settle(&mut [&mut a]);
    let request = commit_of("t", topics.id("t"), world.now);
    let delete = |world: &mut World| {
        let (token, mut effects) = (world.token(), Vec::new());
        let group = Name::from("g");
        let asked = world
            .coordinator
            .delete_group(world.now, token, &group, &mut effects);
        world.perform(effects);
        asked
    };
    assert_eq!(delete(&mut world), Err(ErrorCode::NonEmptyGroup));
    leave(&mut world, &a);
    let (token, mut effects) = (world.token(), Vec::new());
    let committed = world
        .coordinator
        .commit(world.now, token, &request, &mut effects);
    assert_eq!(committed, Ok(()));
    world.perform(effects);
    assert_eq!(delete(&mut world), Ok(()));
    assert_eq!(world.coordinator.groups().count(), 0);
    world.restart();
    assert_eq!(world.coordinator.groups().count(), 0);
    // And so is one whose offsets are over.
    world.settle(&mut [&mut Consumer::new("b", &["t"])]);
    world.advance(8 * 24 * 60 * 60 * 1000);
    assert_eq!(world.coordinator.groups().count(), 0);
    world.restart();
    assert_eq!(world.coordinator.groups().count(), 0);
}

#[test]
fn a_snapshot_stands_for_the_log() {
    let (mut world, _) = world(4);
    let (mut a, mut b) = (
        Consumer::new("a", &["t"]),
        Consumer::fixed("b", "i", &["t"]),
    );
    b.regex = Some("t.*");
    world.settle(&mut [&mut a]);
    world.settle(&mut [&mut a, &mut b]);
    leave(&mut world, &a);
    let shown = |it: &super::Coordinator| {
        let group = it.consumer_group("g").unwrap();
        group.state().all().collect::<Vec<_>>()
    };
    let before = shown(&world.coordinator);
    // What is on its way stands for itself, and what it was to replace is there if it fails.
    assert!(world.coordinator.begin_snapshot());
    world.hold_appends = true;
    world.send_beat(Consumer::new("c", &["t"]).full());
    let mut records = Vec::new();
    loop {
        match world.coordinator.snapshot_part(1) {
            SnapshotPart::Records(some) => records.extend(some),
            SnapshotPart::Wait => world.append_ends(Err(ErrorCode::KafkaStorageError)),
            SnapshotPart::All => break,
            SnapshotPart::Lost => panic!("it is lost"),
        }
    }
    assert_eq!(shown(&world.coordinator), before);
    assert!(records.len() < world.log.len());
    world.log = super::testing::Logged::all(&records, None).collect();
    world.restart();
    assert_eq!(shown(&world.coordinator), before);
}

/// 1,000 members share 10,000 partitions, a slice at a time.
#[test]
fn a_large_group_does_not_hold_the_core() {
    const MEMBERS: usize = 1_000;
    let (mut world, topics) = World::with_topics(GroupConfig::default());
    let names: Vec<&'static str> = vec!["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"];
    names.iter().for_each(|name| topics.set(name, 1_000));
    let mut consumers = (0..MEMBERS).map(|n| Consumer::new(&format!("m{n:04}"), &names));
    world.hold_appends = true;
    world.send_beat(consumers.next().unwrap().full());
    world.advance(100);
    assert_eq!(world.pending.len(), 1, "the first one is a member soon");
    for consumer in consumers {
        // They wait for what is being written.
        let (now, token, mut effects) = (world.now, world.token(), Vec::new());
        let coordinator = &mut world.coordinator;
        coordinator.consumer_heartbeat(now, token, consumer.full(), &topics, &mut effects);
        assert!(effects.is_empty());
    }
    world.hold_appends = false;
    world.flush();
    let ticks = world.ticks;
    world.advance(10_000);
    assert!(world.ticks - ticks > 20, "{} slices", world.ticks - ticks);
    assert_eq!(world.heartbeats.len(), MEMBERS);
    let group = world.coordinator.consumer_group("g").unwrap();
    for (id, _) in group.state().members() {
        assert_eq!(group.state().target(id).count(), 10);
    }
}
