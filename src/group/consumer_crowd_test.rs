//! Consumer groups to which more is asked than they can do at once: whoever asks for too much, waits, or is answered
//! late, nobody else is worse off for it.

use super::GroupConfig;
use super::consumer::{ConsumerHeartbeat, LEAVES, LEAVES_FOR_A_WHILE};
use super::consumer_testing::{Consumer, FakeTopics};
use super::coordinator::GroupsUsage;
use super::testing::World;
use crate::base::ErrorCode as E;
use crate::base::limits::{GROUP_PARTITIONS_MAX, GROUP_REFRESHES_MAX};

const MAX: i32 = GROUP_PARTITIONS_MAX as i32;
const NO_ROOM: GroupsUsage = GroupsUsage {
    groups: 0,
    bytes: 0,
    refreshes: GROUP_REFRESHES_MAX,
};

/// A world in which little is done at a time.
fn world_in_slices(topics: &[(&str, i32)]) -> (World, FakeTopics) {
    let mut config = GroupConfig::default();
    config.consumer.slice = 64;
    let (mut world, all) = World::with_topics(config);
    world.slice = 64;
    for (name, count) in topics {
        all.set(name, *count);
    }
    (world, all)
}

fn world(topics: &[(&str, i32)]) -> (World, FakeTopics) {
    let (world, all) = World::with_topics(GroupConfig::default());
    for (name, count) in topics {
        all.set(name, *count);
    }
    (world, all)
}

fn too_large(n: usize) -> ConsumerHeartbeat {
    Consumer::new(&format!("n{n}"), &["large", "t"]).full()
}

fn members(world: &World) -> Vec<String> {
    let group = world.coordinator.consumer_group("g");
    let members = group.into_iter().flat_map(|group| group.state().members());
    members.map(|(id, _)| id.to_string()).collect()
}

/// What is asked from now on waits until an append ends.
fn block(world: &mut World) {
    world.hold_appends = true;
    world.send_beat(Consumer::new("blocks", &[]).full());
    for _ in 0..1_000 {
        if !world.pending.is_empty() {
            return;
        }
        world.advance(1);
    }
    panic!("nothing is written");
}

fn go_on(world: &mut World) {
    world.hold_appends = false;
    world.flush();
}

fn away(of: &Consumer) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        epoch: LEAVES_FOR_A_WHILE,
        ..of.short()
    }
}

#[test]
fn a_member_is_answered_before_all_are_refused_who_would_make_it_too_large() {
    let (mut world, _) = world_in_slices(&[("large", MAX), ("t", 4)]);
    let mut a = Consumer::new("a", &["t"]);
    world.settle(&mut [&mut a]);
    block(&mut world);
    let joins: Vec<u64> = (0..40).map(|n| world.send_beat(too_large(n))).collect();
    let beats = world.send_beat(a.short());
    go_on(&mut world);
    let refused = |world: &World| {
        let refused = joins.iter().filter(|it| world.heartbeats.contains_key(it));
        refused.count()
    };
    while !world.heartbeats.contains_key(&beats) {
        assert!(
            refused(&world) <= joins.len() / 4,
            "{} before it",
            refused(&world)
        );
        world.advance(1);
    }
    world.advance(1_000);
    assert_eq!(refused(&world), joins.len());
    for it in &joins {
        assert_eq!(world.heartbeats[it].error, E::GroupMaxSizeReached);
    }
    assert!(!members(&world).iter().any(|id| id.starts_with('n')));
}

/// Some of them wait at any time, and it takes a slice and more to find out what they are subscribed to.
#[test]
fn a_member_is_answered_though_there_is_always_one_who_would_make_it_too_large() {
    let (mut world, _) = world(&[("large", MAX), ("t", 4)]);
    let joins = |n: usize| {
        let mut consumer = Consumer::new(&format!("n{n}"), &["t"]);
        consumer.regex = Some("l.*");
        consumer.full()
    };
    let mut a = Consumer::new("a", &["t"]);
    world.settle(&mut [&mut a]);
    block(&mut world);
    let beats = world.send_beat(a.short());
    let mut waiting: Vec<u64> = (0..3).map(|n| world.send_beat(joins(n))).collect();
    go_on(&mut world);
    let mut begun = waiting.len();
    while !world.heartbeats.contains_key(&beats) {
        waiting.retain(|it| !world.heartbeats.contains_key(it));
        while waiting.len() < 3 {
            waiting.push(world.send_beat(joins(begun)));
            begun += 1;
        }
        assert!(begun < 12, "it waits as long as they come");
        world.advance(1);
    }
    // One who is not too large comes to be a member among them.
    let join = world.send_beat(Consumer::new("b", &["t"]).full());
    world.advance(1_000);
    assert_eq!(world.heartbeats[&join].error, E::None);
}

/// What a member asks is answered in the order in which it was asked, also when some of it has to wait.
#[test]
fn who_leaves_after_it_has_asked_for_too_much_is_gone() {
    let (mut world, _) = world_in_slices(&[("large", MAX), ("t", 4), ("u", 1)]);
    let mut a = Consumer::new("a", &["t"]);
    world.settle(&mut [&mut a]);
    block(&mut world);
    let joins = world.send_beat(Consumer::new("b", &["u"]).full());
    let too_large = [0, 1].map(|n| world.send_beat(too_large(n)));
    let leaves = world.send_beat(ConsumerHeartbeat {
        epoch: LEAVES,
        ..Consumer::new("b", &[]).short()
    });
    go_on(&mut world);
    world.advance(1_000);
    for it in too_large {
        assert_eq!(world.heartbeats[&it].error, E::GroupMaxSizeReached);
    }
    assert_eq!(world.heartbeats[&joins].error, E::None);
    assert_eq!(world.heartbeats[&leaves].error, E::None);
    assert_eq!(members(&world), ["a", "blocks"]);
}

/// Its successor comes in a turn that is taken back, and is refused in one that comes later.
#[test]
fn a_static_member_that_is_away_goes_with_its_session_whatever_becomes_of_its_successor() {
    for steps in 0..30 {
        let (mut world, _) = world_in_slices(&[("large", MAX), ("t", 4)]);
        let (mut a, mut f) = (
            Consumer::new("a", &["t"]),
            Consumer::fixed("f", "i", &["t"]),
        );
        world.settle(&mut [&mut a, &mut f]);
        assert!(world.beat(away(&f)).error.is_none());
        block(&mut world);
        world.send_beat(Consumer::fixed("f2", "i", &["t"]).full());
        for n in 0..2 {
            world.send_beat(too_large(n));
        }
        go_on(&mut world);
        world.advance(steps);
        world.coordinator.set_room(NO_ROOM);
        for _ in 0..20 {
            world.advance(5_000);
            world.beat_of(&mut a);
        }
        assert_eq!(members(&world), ["a"], "after {steps} steps");
    }
}

#[test]
fn one_who_asks_for_little_is_not_refused_because_the_group_was_too_large() {
    let (mut world, topics) = world(&[("large", MAX), ("t", 4), ("u", 2)]);
    let mut a = Consumer::new("a", &["t"]);
    world.settle(&mut [&mut a]);
    topics.set("t", MAX + 1);
    world.advance(1_000);
    world.settle(&mut [&mut a]);
    assert!(world.too_large > 0);
    topics.set("t", 4);
    // Something is written that has nothing to do with it.
    world.hold_appends = true;
    let other = ConsumerHeartbeat {
        rebalance_timeout_ms: Some(50_000),
        ..a.full()
    };
    world.send_beat(other);
    world.advance(1);
    assert_eq!(world.pending.len(), 1);
    let large = world.send_beat(too_large(0));
    let small = world.send_beat(Consumer::new("b", &["u"]).full());
    go_on(&mut world);
    world.advance(500);
    assert_eq!(world.heartbeats[&large].error, E::GroupMaxSizeReached);
    assert_eq!(world.heartbeats[&small].error, E::None);
}

#[test]
fn who_unsubscribes_from_a_group_that_is_too_large_gives_up_what_it_had_of_it() {
    for regex in [None, Some("u")] {
        let (mut world, topics) = world(&[("t", 4), ("u", 2)]);
        let mut a = Consumer::new("a", &["t", "u"]);
        a.regex = regex;
        let mut b = Consumer::new("b", &["t"]);
        world.settle(&mut [&mut a, &mut b]);
        let before = a.count();
        topics.set("t", MAX + 1);
        world.advance(1_000);
        world.settle(&mut [&mut a, &mut b]);
        assert_eq!(a.count(), before, "it keeps what it had");
        a.topics = match regex {
            None => vec!["u"],
            Some(_) => vec![],
        };
        let reply = world.beat(a.full());
        a.take(&reply);
        world.settle(&mut [&mut a, &mut b]);
        let of = |it: &Consumer, topic| {
            let id = topics.id(topic);
            it.owned.all().filter(|(of, _)| *of == id).count()
        };
        assert_eq!(of(&a, "t"), 0, "{regex:?}");
        assert_eq!(of(&a, "u"), 2, "{regex:?}");
        assert!(of(&b, "t") > 0);
    }
}

/// Who has no answer yet sends nothing.
#[test]
fn a_member_whose_own_answer_is_late_has_a_session_from_then_on() {
    let (mut world, _) = world(&[("t", 4), ("u", 1)]);
    let mut a = Consumer::new("a", &["t"]);
    world.settle(&mut [&mut a]);
    world.hold_appends = true;
    a.topics = vec!["t", "u"];
    let token = world.send_beat(a.full());
    world.advance(44_000);
    go_on(&mut world);
    let reply = world.heartbeats.remove(&token).unwrap();
    assert!(reply.error.is_none(), "{reply:?}");
    a.take(&reply);
    world.advance(5_000);
    assert_eq!(world.beat(a.short()).error, E::None);
    world.advance(46_000);
    assert_eq!(members(&world), Vec::<String>::new(), "it is silent");
}

/// The time that it has begins when it is told.
#[test]
fn a_member_is_not_removed_for_what_it_was_not_told() {
    let (mut world, _) = world(&[("t", 4)]);
    let mut a = Consumer::new("a", &["t"]);
    let in_haste = |of: &Consumer| ConsumerHeartbeat {
        rebalance_timeout_ms: Some(2_000),
        ..of.full()
    };
    let reply = world.beat(in_haste(&a));
    a.take(&reply);
    world.settle(&mut [&mut a]);
    let mut b = Consumer::new("b", &["t"]);
    world.beat_of(&mut b);
    world.hold_appends = true;
    let token = world.send_beat(a.short());
    world.advance(1);
    assert_eq!(world.pending.len(), 1);
    world.advance(3_000);
    go_on(&mut world);
    let reply = world.heartbeats.remove(&token).unwrap();
    a.take(&reply);
    assert_eq!(a.count(), 2, "it is to give up two");
    world.advance(1_500);
    assert_eq!(world.beat(a.short()).error, E::None);
    assert_eq!(members(&world), ["a", "b"]);
}

/// What is known so far while a target is made in slices is kept for some groups at a time.
#[test]
fn targets_are_made_for_some_groups_at_a_time() {
    let mut config = GroupConfig::default();
    config.consumer.slice = 64;
    let (mut world, topics) = World::with_topics(config);
    world.slice = 64;
    for n in 0..50 {
        topics.set(&format!("t{n}"), 1);
    }
    let join = |n: usize| {
        let mut consumer = Consumer::new("m", &[]);
        consumer.regex = Some("t.*");
        let group = crate::base::Name::from(format!("g{n}"));
        ConsumerHeartbeat {
            group,
            ..consumer.full()
        }
    };
    let all = 3 * GROUP_REFRESHES_MAX;
    let tokens: Vec<u64> = (0..all).map(|n| world.send_beat(join(n))).collect();
    let mut most = 0;
    for _ in 0..10_000 {
        world.advance(1);
        most = most.max(world.coordinator.usage().refreshes);
    }
    assert_eq!(most, GROUP_REFRESHES_MAX);
    assert_eq!(world.coordinator.usage().refreshes, 0);
    for it in tokens {
        let reply = &world.heartbeats[&it];
        assert_eq!(reply.assigned.as_ref().unwrap().assigned.count(), 50);
    }
    // One that is made in a slice does not wait for them.
    world.slice = 4096;
    world.coordinator.set_room(GroupsUsage {
        groups: 1,
        bytes: 1 << 20,
        refreshes: 0,
    });
    let mut small = Consumer::new("small", &["t1"]);
    world.beat_of(&mut small);
    assert_eq!(small.count(), 1);
}

/// Of each no more is done at once than of any other request.
#[test]
fn heartbeats_that_come_together_do_not_have_a_slice_each() {
    let (mut world, topics) = world(&[]);
    for n in 0..300 {
        topics.set(&format!("t{n}"), 1);
    }
    let mut a = Consumer::new("a", &["t1"]);
    a.regex = Some("t.*");
    let before = topics.looked();
    let token = world.send_beat(a.full());
    assert_eq!(
        topics.looked() - before,
        0,
        "nothing is compiled, and nothing looked at"
    );
    world.advance(100);
    assert_eq!(world.heartbeats[&token].error, E::None);
    assert!(topics.looked() >= 300);
}

#[test]
fn the_first_epoch_is_two_and_who_wants_nothing_is_in_the_one_before() {
    let (mut world, _) = world(&[("t", 2)]);
    let nobody = Consumer {
        epoch: 1,
        ..Consumer::new("x", &[])
    };
    assert_eq!(world.beat(nobody.short()).error, E::GroupIdNotFound);
    let mut a = Consumer::new("a", &[]);
    assert_eq!(world.beat_of(&mut a).epoch, 1);
    assert_eq!(
        (world.beat_of(&mut a).epoch, world.consumer_state()),
        (1, "Stable")
    );
    world.restart();
    assert_eq!(world.beat_of(&mut a).epoch, 1);
    let mut b = Consumer::new("b", &["t"]);
    assert_eq!((world.beat_of(&mut b).epoch, b.count()), (2, 2));
    for it in [&a, &b] {
        let leaves = ConsumerHeartbeat {
            epoch: LEAVES,
            ..it.short()
        };
        assert_eq!(world.beat(leaves).error, E::None);
    }
    let state = world.coordinator.consumer_group("g").unwrap().state();
    assert_eq!((state.epoch(), state.target_epoch()), (4, 4));
    assert_eq!(world.consumer_state(), "Empty");
}

/// `group.consumer.assignment.interval.ms`
#[test]
fn there_is_an_interval_between_two_targets() {
    let mut config = GroupConfig::default();
    config.consumer.assignment_interval_ms = 1_000;
    let (mut world, topics) = World::with_topics(config);
    topics.set("t", 4);
    topics.set("u", 2);
    let mut a = Consumer::new("a", &["t", "u"]);
    let mut b = Consumer::new("b", &["t"]);
    world.beat_of(&mut a);
    assert_eq!(
        (a.epoch, a.count()),
        (2, 6),
        "the first one is made at once"
    );
    world.advance(500);
    world.beat_of(&mut b);
    assert_eq!(
        (b.epoch, b.count(), world.consumer_state()),
        (2, 0, "Assigning")
    );
    // Who does not want something any more gives it up meanwhile.
    a.topics = vec!["t"];
    let reply = world.beat(a.full());
    a.take(&reply);
    assert_eq!(a.count(), 4);
    let written = world.log.len();
    world.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.count(), b.count()), (4, 0));
    assert!(world.log.len() <= written + 1, "it gives up once");
    world.advance(600);
    world.settle(&mut [&mut a, &mut b]);
    assert_eq!(
        (a.count(), b.count(), world.consumer_state()),
        (2, 2, "Stable")
    );
    assert_eq!((a.epoch, b.epoch), (4, 4));
}
