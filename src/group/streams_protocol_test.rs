//! Streams groups by the protocol of KIP-1071: joining, topics, steps, fences, leaving, commits, other kinds of groups.

use std::sync::Arc;

use super::consumer_testing::{Consumer, FakeTopics};
use super::streams::{StreamsConfig, StreamsStatus, Topology};
use super::streams_testing::{Streamer, two_subtopologies};
use super::testing::{Client, World, commit_of};
use super::{GroupConfig, Name, StreamsReply};
use crate::base::ErrorCode;

fn world(config: StreamsConfig) -> (World, FakeTopics) {
    World::with_topics(GroupConfig {
        streams: config,
        ..GroupConfig::default()
    })
}

/// All topics are there, and nobody waits for anybody.
fn at_once(standby_replicas: usize) -> (World, FakeTopics) {
    let (world, topics) = world(StreamsConfig {
        initial_rebalance_delay_ms: 0,
        assignment_interval_ms: 0,
        standby_replicas,
        ..StreamsConfig::default()
    });
    for topic in ["in", "re", "log"] {
        topics.set(topic, 2);
    }
    (world, topics)
}

fn status(reply: &StreamsReply) -> Vec<StreamsStatus> {
    reply.status.iter().map(|(status, _)| *status).collect()
}

#[test]
fn a_group_waits_for_topics_and_for_members_and_has_its_topics_made() {
    use StreamsStatus as S;
    let (mut world, topics) = world(StreamsConfig::default());
    let mut a = Streamer::new("a", "p");
    let reply = world.stream_of(&mut a);
    assert_eq!((reply.error, reply.epoch), (ErrorCode::None, 1));
    assert_eq!(
        status(&reply),
        [S::AssignmentDelayed, S::MissingSourceTopics]
    );
    assert_eq!(reply.status[1].1, "Source topics in are missing.");
    assert_eq!(
        (world.streams_state(), world.created.len()),
        ("NotReady", 0)
    );
    topics.set("in", 2);
    let reply = world.stream_of(&mut a);
    assert_eq!(
        status(&reply),
        [S::AssignmentDelayed, S::MissingInternalTopics]
    );
    let created = std::mem::take(&mut world.created);
    let created: Vec<_> = created
        .iter()
        .map(|it| (&*it.name, it.partitions))
        .collect();
    assert_eq!(created, [("log", 2), ("re", 2)]);
    world.stream_of(&mut a);
    assert!(world.created.is_empty(), "they may be on their way");
    world.advance(1_000);
    world.stream_of(&mut a);
    assert_eq!(world.created.len(), 2, "they were not made");
    topics.set("re", 2);
    topics.set("log", 2);
    let reply = world.stream_of(&mut a);
    assert_eq!(
        (status(&reply), world.streams_state()),
        (vec![S::AssignmentDelayed], "Assigning")
    );
    assert!(a.active().is_empty());
    world.advance(3_000);
    let reply = world.stream_of(&mut a);
    assert!(reply.status.is_empty());
    assert_eq!(a.active(), ["0_0", "0_1", "1_0", "1_1"]);
    assert_eq!(world.streams_state(), "Stable");
    topics.set("in", 3);
    let reply = world.stream_of(&mut a);
    assert_eq!(
        status(&reply),
        [S::AssignmentDelayed, S::IncorrectlyPartitionedTopics]
    );
    world.advance(1_000);
    world.stream_of(&mut a);
    assert!(a.active().is_empty(), "there is nothing that could be run");
}

#[test]
fn tasks_go_from_one_to_the_other_when_they_are_given_up() {
    let (mut world, _) = at_once(0);
    let (mut a, mut b) = (Streamer::new("a", "p"), Streamer::new("b", "q"));
    world.settle_streams(&mut [&mut a]);
    assert_eq!(a.active().len(), 4);
    let reply = world.stream_of(&mut b);
    assert_eq!((reply.error, b.active().len()), (ErrorCode::None, 0));
    let before = a.clone();
    let told = world.stream(a.short());
    assert!(world.has_to_revoke(&a));
    a.take(&told);
    assert_eq!(a.active().len(), 2);
    world.stream_of(&mut b);
    assert!(b.active().is_empty(), "they are not given up yet");
    // Somebody else's answer is not taken for that.
    assert!(world.stream(before.short()).assigned.is_none());
    world.stream_of(&mut a);
    world.settle_streams(&mut [&mut a, &mut b]);
    let mut all = [a.active(), b.active()].concat();
    all.sort_unstable();
    assert_eq!(
        (b.active().len(), all),
        (2, ["0_0", "0_1", "1_0", "1_1"].map(String::from).to_vec())
    );
    assert_eq!(world.streams_state(), "Stable");
}

#[test]
fn standby_tasks_are_where_the_active_ones_are_not() {
    let (mut world, _) = at_once(1);
    let (mut a, mut b) = (Streamer::new("a", "p"), Streamer::new("b", "q"));
    world.settle_streams(&mut [&mut a, &mut b]);
    assert_eq!(world.streams_state(), "Stable");
    for (one, other) in [(&a, &b), (&b, &a)] {
        let kept = one
            .active()
            .into_iter()
            .filter(|task| task.starts_with("1_"));
        assert_eq!(kept.collect::<Vec<_>>(), other.standby());
    }
    let leaving = b.clone();
    world.stream(super::StreamsHeartbeat {
        epoch: super::consumer::LEAVES,
        owned: None,
        ..leaving.short()
    });
    world.settle_streams(&mut [&mut a]);
    assert_eq!((a.active().len(), a.standby().len()), (4, 0));
}

#[test]
fn members_are_fenced_as_kafka_does() {
    let (mut world, _) = at_once(0);
    let mut a = Streamer::new("a", "p");
    world.settle_streams(&mut [&mut a]);
    let error = |world: &mut World, change: &dyn Fn(&mut super::StreamsHeartbeat)| {
        let mut request = a.short();
        change(&mut request);
        world.stream(request).error
    };
    assert_eq!(
        error(&mut world, &|it| it.epoch += 1),
        ErrorCode::FencedMemberEpoch
    );
    assert_eq!(
        error(&mut world, &|it| it.member = Name::from("x")),
        ErrorCode::UnknownMemberId
    );
    assert_eq!(
        error(&mut world, &|it| it.group = Name::from("x")),
        ErrorCode::GroupIdNotFound
    );
    let instance = Some(Name::from("i"));
    assert_eq!(
        error(&mut world, &|it| it.instance.clone_from(&instance)),
        ErrorCode::UnknownMemberId
    );
    let of_no_task = |it: &mut super::StreamsHeartbeat| {
        it.owned.as_mut().unwrap().active.add(Name::from("0"), [2]);
    };
    assert_eq!(error(&mut world, &of_no_task), ErrorCode::InvalidRequest);
    let other = Arc::new(Topology::new(0, two_subtopologies()[..1].to_vec()));
    let mut b = Streamer {
        topology: other,
        ..Streamer::new("b", "q")
    };
    let reply = world.stream_of(&mut b);
    assert_eq!(
        reply.message.as_deref(),
        Some("Topology updates are not supported yet.")
    );
    let changed = |reply: &StreamsReply| (reply.error, reply.epoch);
    let again = world.stream(a.short());
    assert_eq!(
        changed(&again),
        (ErrorCode::None, a.epoch),
        "who is refused changes nothing"
    );
}

#[test]
fn an_older_topology_is_stale_and_one_that_cannot_be_is_refused() {
    let (mut world, _) = at_once(0);
    let mut a = Streamer {
        topology: Arc::new(Topology::new(3, two_subtopologies())),
        ..Streamer::new("a", "p")
    };
    world.settle_streams(&mut [&mut a]);
    let mut b = Streamer::new("b", "q");
    let reply = world.stream_of(&mut b);
    assert_eq!(status(&reply), [StreamsStatus::StaleTopology]);
    let (mut world, _) = at_once(0);
    let mut all = two_subtopologies();
    all[0].repartition_sinks.clear();
    let mut c = Streamer {
        topology: Arc::new(Topology::new(0, all)),
        ..Streamer::new("c", "p")
    };
    let reply = world.stream_of(&mut c);
    assert_eq!(reply.error, ErrorCode::StreamsInvalidTopology);
    assert_eq!(world.streams_state(), "none", "there is no group of it");
}

#[test]
fn a_shutdown_is_told_to_all_until_all_are_gone() {
    let (mut world, _) = at_once(0);
    let (mut a, mut b) = (Streamer::new("a", "p"), Streamer::new("b", "q"));
    world.settle_streams(&mut [&mut a, &mut b]);
    world.stream(super::StreamsHeartbeat {
        shuts_down: true,
        ..a.short()
    });
    let reply = world.stream_of(&mut b);
    assert_eq!(status(&reply), [StreamsStatus::ShutdownApplication]);
    for member in [&a, &b] {
        world.stream(super::StreamsHeartbeat {
            epoch: super::consumer::LEAVES,
            owned: None,
            ..member.short()
        });
    }
    assert_eq!(world.streams_state(), "Empty");
    let mut c = Streamer::new("c", "p");
    assert!(world.stream_of(&mut c).status.is_empty());
}

#[test]
fn a_static_member_comes_back_to_its_tasks() {
    let (mut world, _) = at_once(0);
    let mut a = Streamer {
        instance: Some(Name::from("i")),
        ..Streamer::new("a", "p")
    };
    world.settle_streams(&mut [&mut a]);
    let mut twin = Streamer {
        id: Name::from("b"),
        ..a.clone()
    };
    twin.epoch = 0;
    assert_eq!(
        world.stream_of(&mut twin).error,
        ErrorCode::UnreleasedInstanceId
    );
    let epoch = world
        .coordinator
        .streams_group("g")
        .unwrap()
        .state()
        .epoch();
    world.stream(super::StreamsHeartbeat {
        epoch: super::consumer::LEAVES_FOR_A_WHILE,
        owned: None,
        ..a.short()
    });
    twin.owned = Default::default();
    world.settle_streams(&mut [&mut twin]);
    assert_eq!(twin.active().len(), 4);
    let group = world.coordinator.streams_group("g").unwrap();
    assert_eq!(
        group.state().epoch(),
        epoch,
        "nothing was to be assigned anew"
    );
    assert_eq!(world.stream(a.short()).error, ErrorCode::FencedInstanceId);
}

#[test]
fn who_is_silent_or_does_not_give_up_is_removed() {
    let (mut world, _) = at_once(0);
    let (mut a, mut b) = (Streamer::new("a", "p"), Streamer::new("b", "q"));
    world.settle_streams(&mut [&mut a]);
    world.stream_of(&mut b);
    let keeps = a.clone();
    for _ in 0..7 {
        world.stream(super::StreamsHeartbeat {
            epoch: keeps.epoch,
            ..keeps.short()
        });
        world.advance(10_000);
        world.stream_of(&mut b);
    }
    assert_eq!(
        world.stream(keeps.short()).error,
        ErrorCode::UnknownMemberId
    );
    world.settle_streams(&mut [&mut b]);
    assert_eq!(b.active().len(), 4);
    world.advance(46_000);
    assert_eq!(world.streams_state(), "Empty");
    assert_eq!(world.stream_of(&mut b).error, ErrorCode::UnknownMemberId);
}

#[test]
fn members_commit_in_their_epoch_and_for_what_they_had_by_then() {
    let (mut world, topics) = at_once(0);
    let (mut a, mut b) = (Streamer::new("a", "p"), Streamer::new("b", "q"));
    world.settle_streams(&mut [&mut a]);
    let before = a.epoch;
    world.settle_streams(&mut [&mut a, &mut b]);
    assert!(a.epoch > before);
    let commit = |world: &mut World, member: &Streamer, epoch: i32, topic: &str, partition: i32| {
        let (now, token) = (world.now, world.token());
        let mut commit = commit_of(topic, topics.id("in"), now);
        (commit.member, commit.generation) = (member.id.clone(), epoch);
        commit.offsets[0].partition = partition;
        let mut effects = Vec::new();
        let done = world.coordinator.commit(now, token, &commit, &mut effects);
        world.perform(effects);
        done
    };
    assert_eq!(commit(&mut world, &a, a.epoch, "in", 1), Ok(()));
    assert_eq!(
        commit(&mut world, &a, a.epoch + 1, "in", 0),
        Err(ErrorCode::StaleMemberEpoch)
    );
    let (of, task) = a.owned.active.all().next().unwrap();
    let topic = if &*of == "0" { "in" } else { "re" };
    assert_eq!(commit(&mut world, &a, before, topic, task), Ok(()));
    assert_eq!(
        commit(&mut world, &a, before, "log", task),
        Err(ErrorCode::StaleMemberEpoch)
    );
    let (of, task) = b.owned.active.all().next().unwrap();
    let topic = if &*of == "0" { "in" } else { "re" };
    assert_eq!(
        commit(&mut world, &a, before, topic, task),
        Err(ErrorCode::StaleMemberEpoch)
    );
    let nobody = Streamer::new("x", "p");
    assert_eq!(
        commit(&mut world, &nobody, 1, "in", 0),
        Err(ErrorCode::UnknownMemberId)
    );
    let group = world.coordinator.streams_group("g").unwrap();
    assert_eq!(group.state().check_fetch(Some("a"), a.epoch), Ok(()));
    assert_eq!(
        group.state().check_fetch(Some("a"), 0),
        Err(ErrorCode::StaleMemberEpoch)
    );
    assert!(group.is_subscribed_to("in") && group.is_subscribed_to("re"));
    assert!(!group.is_subscribed_to("log"));
}

#[test]
fn a_group_is_of_one_kind_until_it_is_empty() {
    let (mut world, _) = at_once(0);
    let mut a = Streamer::new("a", "p");
    world.settle_streams(&mut [&mut a]);
    let mut other = Consumer::new("c", &["in"]);
    assert_eq!(world.beat_of(&mut other).error, ErrorCode::GroupIdNotFound);
    let classic = Client::new();
    let token = world.send_join(&classic);
    assert_eq!(
        world.joined.remove(&token).unwrap().error,
        ErrorCode::InconsistentGroupProtocol
    );
    world.stream(super::StreamsHeartbeat {
        epoch: super::consumer::LEAVES,
        owned: None,
        ..a.short()
    });
    assert_eq!(world.beat_of(&mut other).error, ErrorCode::GroupIdNotFound);
    let mut classic = Client::new();
    world.stable(&mut [&mut classic]);
    assert_eq!(world.streams_state(), "none");
    let mut again = Streamer::new("b", "p");
    assert_eq!(
        world.stream_of(&mut again).error,
        ErrorCode::GroupIdNotFound
    );
    let replayed = world.replayed();
    assert!(replayed.streams_group("g").is_none() && replayed.group("g").is_some());
}

#[test]
fn a_group_is_as_it_was_after_a_restart_and_gone_when_it_is_deleted() {
    let (mut world, _) = at_once(1);
    let (mut a, mut b) = (Streamer::new("a", "p"), Streamer::new("b", "q"));
    world.settle_streams(&mut [&mut a, &mut b]);
    let all = |world: &World| {
        let group = world.coordinator.streams_group("g").unwrap();
        group.state().all().collect::<Vec<_>>()
    };
    let before = all(&world);
    world.restart();
    assert_eq!(all(&world), before);
    world.settle_streams(&mut [&mut a, &mut b]);
    assert_eq!(all(&world), before, "nothing has changed");
    world.advance(60_000);
    assert_eq!(world.streams_state(), "Empty");
    let (now, token, mut effects) = (world.now, world.token(), Vec::new());
    let group = Name::from("g");
    assert_eq!(
        world
            .coordinator
            .delete_group(now, token, &group, &mut effects),
        Ok(())
    );
    world.perform(effects);
    assert!(world.coordinator.shown("g").is_none());
    assert!(world.replayed().shown("g").is_none());
}
