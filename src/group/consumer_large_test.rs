//! Consumer groups that would be larger than they may be, and those whose records take long to become durable: nobody
//! is worse off than they have to be.

use super::GroupConfig;
use super::consumer::{ConsumerHeartbeat, LEAVES, LEAVES_FOR_A_WHILE, Partitions};
use super::consumer_testing::{Consumer, FakeTopics};
use super::testing::World;
use crate::base::ErrorCode as E;
use crate::base::limits::GROUP_PARTITIONS_MAX;

const MAX: i32 = GROUP_PARTITIONS_MAX as i32;

fn world(topics: &[(&str, i32)]) -> (World, FakeTopics) {
    let (world, all) = World::with_topics(GroupConfig::default());
    topics
        .iter()
        .for_each(|(name, count)| all.set(name, *count));
    (world, all)
}

fn leaves(consumer: &Consumer) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        epoch: LEAVES,
        ..consumer.short()
    }
}

fn matching(id: &str, regex: &'static str) -> Consumer {
    Consumer {
        regex: Some(regex),
        ..Consumer::new(id, &[])
    }
}

fn members(world: &World) -> Vec<String> {
    let group = world.coordinator.consumer_group("g");
    let members = group.into_iter().flat_map(|group| group.state().members());
    members.map(|(id, _)| id.to_string()).collect()
}

/// What these are asked is taken in one turn; their answers.
fn in_one_turn(world: &mut World, requests: Vec<ConsumerHeartbeat>) -> Vec<E> {
    // Another member's turn is being written meanwhile.
    world.hold_appends = true;
    let blocks = world.send_beat(Consumer::new("blocks", &[]).full());
    assert_eq!(world.pending.len(), 1);
    let tokens: Vec<u64> = requests.into_iter().map(|it| world.send_beat(it)).collect();
    world.hold_appends = false;
    world.append_ends(Ok(()));
    world.advance(1_000);
    assert!(world.heartbeats.remove(&blocks).unwrap().error.is_none());
    let answers = tokens.iter().map(|it| world.heartbeats.remove(it).unwrap());
    answers.map(|reply| reply.error).collect()
}

#[test]
fn a_group_whose_topics_grow_too_large_goes_on_with_what_it_has() {
    let (mut world, topics) = world(&[("t", 4), ("u", 2)]);
    let (mut a, mut b) = (Consumer::new("a", &["t"]), Consumer::new("b", &["t"]));
    world.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.count(), b.count()), (2, 2));
    topics.set("t", MAX + 1);
    world.advance(1_000);
    let written = world.log.len();
    world.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.count(), b.count(), world.log.len()), (2, 2, written));
    assert_eq!(
        world.too_large, 1,
        "it is said once, as long as it is the same"
    );
    // Nobody else comes, or wants more; whoever goes, goes.
    let c = Consumer::new("c", &["u"]);
    assert_eq!(world.beat(c.full()).error, E::GroupMaxSizeReached);
    a.topics = vec!["t", "u"];
    assert_eq!(world.beat(a.full()).error, E::GroupMaxSizeReached);
    a.topics = vec!["t"];
    assert_eq!(world.beat(a.full()).error, E::None);
    assert_eq!(world.beat(leaves(&b)).error, E::None);
    assert_eq!(members(&world), ["a"]);
    world.settle(&mut [&mut a]);
    assert_eq!((a.count(), world.consumer_state()), (2, "Assigning"));
    // Also after the coordinator has moved.
    world.restart();
    world.settle(&mut [&mut a]);
    assert_eq!(members(&world), ["a"]);
    assert_eq!((a.count(), world.consumer_state()), (2, "Assigning"));
    // When it may be again, what nobody had is given.
    topics.delete("t");
    topics.set("t", 5);
    world.advance(1_000);
    world.settle(&mut [&mut a]);
    assert_eq!((a.count(), world.consumer_state()), (5, "Stable"));
}

#[test]
fn who_is_silent_is_removed_from_a_group_that_is_too_large() {
    let (mut world, topics) = world(&[("t", 4)]);
    let (mut a, mut b) = (Consumer::new("a", &["t"]), Consumer::new("b", &["t"]));
    world.settle(&mut [&mut a, &mut b]);
    topics.set("t", MAX + 1);
    for _ in 0..10 {
        world.advance(5_000);
        world.settle(&mut [&mut a]);
    }
    assert_eq!(members(&world), ["a"]);
    // And it costs nothing more.
    let (written, said) = (world.log.len(), world.too_large);
    for _ in 0..10 {
        world.advance(5_000);
        world.settle(&mut [&mut a]);
    }
    assert_eq!((world.log.len(), world.too_large), (written, said));
    // It was the same number of partitions before it grew.
    topics.set("t", 4);
    world.advance(1_000);
    world.settle(&mut [&mut a]);
    assert_eq!((a.count(), world.consumer_state()), (4, "Stable"));
}

#[test]
fn one_who_would_make_it_too_large_is_refused_and_nobody_else() {
    let (mut world, _) = world(&[("large", MAX), ("t", 4), ("u", 2), ("v", 2)]);
    let mut a = Consumer::new("a", &["t"]);
    let (mut b, c) = (Consumer::new("b", &["t"]), Consumer::new("c", &["t"]));
    world.settle(&mut [&mut a, &mut b]);
    let more = Consumer {
        topics: vec!["t", "large"],
        ..b.clone()
    };
    let requests = vec![
        a.short(),
        matching("x", ".*").full(),
        Consumer::new("d", &["u"]).full(),
        leaves(&b),
        more.full(),
        matching("y", "l.*").full(),
        c.full(),
        matching("z", "v").full(),
    ];
    let answers = in_one_turn(&mut world, requests);
    let (max, none) = (E::GroupMaxSizeReached, E::None);
    let expected = [none, max, none, none, E::UnknownMemberId, max, none, none];
    assert_eq!(answers, expected);
    assert_eq!(members(&world), ["a", "blocks", "c", "d", "z"]);
    let state = world.coordinator.consumer_group("g").unwrap().state();
    assert!(state.resolved(".*").is_none() && state.resolved("l.*").is_none());
    assert_eq!(world.too_large, 0, "the group is not");
    // Nothing of who was refused is left.
    world.advance(60_000);
    assert_eq!(members(&world), Vec::<String>::new());
}

#[test]
fn a_member_that_wants_too_much_stays_what_it_was() {
    let (mut world, _) = world(&[("large", MAX), ("t", 4)]);
    let mut a = Consumer::new("a", &["t"]);
    world.settle(&mut [&mut a]);
    let wants = Consumer {
        topics: vec!["t", "large"],
        ..a.clone()
    };
    for _ in 0..20 {
        world.advance(5_000);
        assert_eq!(world.beat(wants.full()).error, E::GroupMaxSizeReached);
    }
    let written = world.log.len();
    world.settle(&mut [&mut a]);
    assert_eq!((a.epoch, a.count(), world.log.len()), (2, 4, written));
    // A static member that was away is still there, and goes with its session.
    let mut fixed = Consumer::fixed("f", "i", &["t"]);
    world.settle(&mut [&mut a, &mut fixed]);
    let away = ConsumerHeartbeat {
        epoch: LEAVES_FOR_A_WHILE,
        ..fixed.short()
    };
    assert_eq!(world.beat(away).error, E::None);
    let back = Consumer::fixed("f2", "i", &["t", "large"]);
    assert_eq!(world.beat(back.full()).error, E::GroupMaxSizeReached);
    assert_eq!(members(&world), ["a", "f"]);
    for _ in 0..10 {
        world.advance(5_000);
        world.beat_of(&mut a);
    }
    assert_eq!(members(&world), ["a"]);
}

#[test]
fn who_wants_less_of_a_group_that_is_too_large_may() {
    let (mut world, topics) = world(&[("t", 4), ("u", 2), ("v", 2)]);
    let (mut a, mut b) = (
        Consumer::new("a", &["t", "u"]),
        Consumer::new("b", &["t", "v"]),
    );
    world.settle(&mut [&mut a, &mut b]);
    topics.set("t", MAX + 1);
    world.advance(1_000);
    world.settle(&mut [&mut a, &mut b]);
    (a.topics, b.topics) = (vec!["u"], vec!["v"]);
    for it in [&mut a, &mut b] {
        let reply = world.beat(it.full());
        assert_eq!(reply.error, E::None);
        it.take(&reply);
    }
    world.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.count(), b.count()), (2, 2));
    assert_eq!(world.consumer_state(), "Stable");
}

/// Their heartbeats wait behind what is late.
#[test]
fn members_that_speak_are_not_removed_because_a_write_is_late() {
    for slice in [1, 4096] {
        let mut config = GroupConfig::default();
        config.consumer.slice = slice;
        let (mut world, topics) = World::with_topics(config);
        topics.set("t", 6);
        let mut all = ["a", "b", "c"].map(|id| Consumer::new(id, &["t"]));
        let [a, b, c] = &mut all;
        world.settle(&mut [a, b, c]);
        world.settle(&mut [a, b, c]);
        world.hold_appends = true;
        let joins = world.send_beat(Consumer::new("d", &["t"]).full());
        world.append_is_late();
        for _ in 0..20 {
            world.advance(5_000);
            for it in [&*a, b, c] {
                world.send_beat(it.short());
            }
        }
        world.hold_appends = false;
        world.append_ends(Ok(()));
        world.advance(1_000);
        assert!(world.heartbeats.contains_key(&joins));
        assert_eq!(members(&world), ["a", "b", "c", "d"], "slice {slice}");
        // Who has said nothing for a session since is removed all the same.
        let [a, b, _] = &mut all;
        for _ in 0..10 {
            world.advance(5_000);
            world.beat_of(a);
            world.beat_of(b);
        }
        assert_eq!(members(&world), ["a", "b"], "slice {slice}");
    }
}

/// The group writes in every turn, but none of the writes is late.
#[test]
fn who_is_silent_is_removed_from_a_group_that_writes_often() {
    let (mut world, _) = world(&[("t", 2)]);
    let mut a = Consumer::new("a", &["t"]);
    world.settle(&mut [&mut a]);
    world.hold_appends = true;
    for n in 0..60 {
        let joins = Consumer::new(&format!("n{n}"), &["t"]);
        world.send_beat(joins.full());
        world.advance(1_000);
        world.append_ends(Ok(()));
    }
    assert!(!members(&world).contains(&"a".to_owned()));
    assert!(members(&world).len() > 40);
}

/// Whose session ends before its heartbeat is taken, in the same turn.
#[test]
fn who_is_heard_in_time_stays_and_who_comes_back_is_not_in_its_own_way() {
    let (mut world, _) = world(&[("t", 2)]);
    let (mut a, mut b) = (
        Consumer::new("a", &["t"]),
        Consumer::fixed("b", "i", &["t"]),
    );
    world.settle(&mut [&mut a, &mut b]);
    world.settle(&mut [&mut a, &mut b]);
    world.advance(43_000);
    world.hold_appends = true;
    world.send_beat(Consumer::new("c", &[]).full());
    world.advance(1_500);
    let before = world.send_beat(a.short());
    world.advance(1_000);
    let other = Consumer::fixed("b2", "i", &["t"]);
    let after = [world.send_beat(a.short()), world.send_beat(other.full())];
    world.hold_appends = false;
    world.append_ends(Ok(()));
    world.advance(1_000);
    assert_eq!(world.heartbeats[&before].error, E::None);
    assert_eq!(after.map(|it| world.heartbeats[&it].error), [E::None; 2]);
    assert_eq!(members(&world), ["a", "b2", "c"]);
}

/// It has said that it has given up, and that waits behind what is being written when its time is over.
#[test]
fn who_has_given_up_in_time_is_not_removed() {
    let (mut world, _) = world(&[("t", 2)]);
    let (mut a, mut b) = (Consumer::new("a", &["t"]), Consumer::new("b", &["t"]));
    world.settle(&mut [&mut a]);
    world.beat_of(&mut b);
    world.beat_of(&mut a);
    for _ in 0..11 {
        world.advance(5_000);
        world.beat_of(&mut b);
        let still = Consumer {
            owned: Partitions::of([(world_topic(&world), vec![0, 1])]),
            ..a.clone()
        };
        assert_eq!(world.beat(still.short()).error, E::None);
    }
    world.advance(2_000);
    world.hold_appends = true;
    world.send_beat(Consumer::new("c", &[]).full());
    let given_up = world.send_beat(a.short());
    world.advance(3_500);
    world.hold_appends = false;
    world.append_ends(Ok(()));
    world.advance(1_000);
    assert_eq!(world.heartbeats[&given_up].error, E::None);
    assert_eq!(members(&world), ["a", "b", "c"]);
}

fn world_topic(world: &World) -> crate::base::TopicId {
    world.topics.named("t").unwrap().0
}
