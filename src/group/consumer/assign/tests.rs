//! Whatever a group is like, each partition has one owner who is subscribed to it, shares are even, and what may stay
//! stays; in slices of any size.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::partitions::Partitions;
use super::*;
use crate::base::{Name, Rng, TopicId};

fn topic(n: usize) -> TopicId {
    TopicId([n as u8 + 1; 16])
}

fn spec(topics: &[i32], members: &[Vec<u32>]) -> Spec {
    let ids: Vec<(TopicId, i32)> = (0..)
        .zip(topics)
        .map(|(n, count)| (topic(n), *count))
        .collect();
    Spec {
        places: (0..)
            .zip(&ids)
            .map(|(place, (id, _))| (*id, place))
            .collect(),
        topics: ids,
        members: (0..)
            .zip(members)
            .map(|(n, topics): (usize, _)| SpecMember {
                order: Name::from(format!("m{n:03}")),
                topics: topics.clone().into(),
                before: Arc::default(),
            })
            .collect(),
    }
}

fn run(assignor: &dyn Assignor, spec: &Spec, slice: usize) -> (Assigned, usize) {
    let mut assigning = assignor.begin(spec);
    for slices in 1.. {
        let mut left = slice;
        if let Some(mut assigned) = assigning.go_on(spec, &mut left) {
            assigned.iter_mut().for_each(|of| of.sort_unstable());
            return (assigned, slices);
        }
        assert!(slices < 10_000_000, "it comes to an end");
    }
    unreachable!()
}

fn check(spec: &Spec, assigned: &Assigned) {
    let mut owners = BTreeMap::new();
    for (member, of) in assigned.iter().enumerate() {
        for (topic, partition) in of {
            assert!(
                spec.members[member].topics.contains(topic),
                "it is subscribed"
            );
            assert_eq!(
                owners.insert((*topic, *partition), member),
                None,
                "one owner"
            );
        }
    }
    for (topic, (_, count)) in (0..).zip(&spec.topics) {
        let mut members = spec.members.iter();
        if members.any(|member| member.topics.contains(&topic)) {
            for partition in 0..*count {
                assert!(
                    owners.contains_key(&(topic, partition)),
                    "{topic} {partition}"
                );
            }
        }
    }
}

fn kept(before: &Assigned, after: &Assigned) -> usize {
    let pairs = before.iter().zip(after);
    pairs
        .map(|(b, a)| b.iter().filter(|p| a.contains(p)).count())
        .sum()
}

fn remember(spec: &mut Spec, assigned: &Assigned) {
    for (member, of) in spec.members.iter_mut().zip(assigned) {
        let mut before = Partitions::default();
        for (place, partition) in of {
            before.add(spec.topics[*place as usize].0, [*partition]);
        }
        member.before = Arc::new(before);
    }
}

#[test]
fn random_groups() {
    let mut rng = Rng::new(1);
    for _ in 0..300 {
        let topics: Vec<i32> = (0..1 + rng.below(6))
            .map(|_| rng.below(12) as i32)
            .collect();
        let members = 1 + rng.below(8) as usize;
        let same = rng.chance(1, 2);
        let mut subscribe = || -> Vec<u32> {
            let all = 0..topics.len() as u32;
            all.filter(|_| same || rng.chance(1, 2)).collect()
        };
        let members: Vec<Vec<u32>> = (0..members).map(|_| subscribe()).collect();
        let mut spec = spec(&topics, &members);
        let slice = 1 + rng.below(40) as usize;
        for assignor in ASSIGNORS {
            let (first, _) = run(assignor, &spec, slice);
            check(&spec, &first);
            if assignor.name() == "range" {
                continue;
            }
            let loads = first.iter().map(Vec::len);
            let (least, most) = (loads.clone().min().unwrap(), loads.max().unwrap());
            assert!(!same || most - least <= 1, "{first:?}");
            remember(&mut spec, &first);
            let (again, _) = run(assignor, &spec, slice);
            assert_eq!(first, again, "nothing moves when nothing has changed");
        }
    }
}

#[test]
fn uniform_keeps_what_it_can_when_somebody_comes_or_goes() {
    let mut three = spec(&[12], &[vec![0], vec![0], vec![0]]);
    let (first, _) = run(&UniformAssignor, &three, 1000);
    remember(&mut three, &first);
    let mut four = three.clone();
    four.members.push(SpecMember {
        order: Name::from("new"),
        before: Arc::default(),
        ..three.members[0].clone()
    });
    let (more, _) = run(&UniformAssignor, &four, 1000);
    assert_eq!(more.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 3, 3]);
    assert_eq!(kept(&first, &more), 9);
    three.members.pop();
    let (less, _) = run(&UniformAssignor, &three, 1000);
    assert_eq!(kept(&first, &less), 8);
}

#[test]
fn uniform_evens_out_what_different_subscriptions_let_it() {
    let mut spec = spec(&[4, 4], &[vec![0, 1], vec![0], vec![1]]);
    let (assigned, _) = run(&UniformAssignor, &spec, 3);
    check(&spec, &assigned);
    let loads: Vec<usize> = assigned.iter().map(Vec::len).collect();
    assert!(loads.iter().all(|load| (2..=3).contains(load)), "{loads:?}");
    // Somebody has all of the first topic: that is too much.
    let all = vec![vec![], (0..4).map(|p| (0, p)).collect(), vec![]];
    remember(&mut spec, &all);
    let (assigned, _) = run(&UniformAssignor, &spec, 3);
    assert!(assigned[1].len() <= 3, "{assigned:?}");
}

#[test]
fn ranges_are_those_of_kafka() {
    let spec = spec(&[5, 5, 1], &[vec![0, 1, 2], vec![0, 1]]);
    let (assigned, _) = run(&RangeAssignor, &spec, 1);
    assert_eq!(
        assigned[0],
        [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]
    );
    assert_eq!(assigned[1], [(0, 3), (0, 4), (1, 3), (1, 4)]);
}

#[test]
fn a_large_group_is_assigned_in_slices() {
    const SLICE: usize = 4096;
    let topics = [100; 100];
    let members: Vec<Vec<u32>> = vec![(0..100).collect(); 1000];
    let same = spec(&topics, &members);
    let (assigned, slices) = run(&UniformAssignor, &same, SLICE);
    check(&same, &assigned);
    assert!(assigned.iter().all(|of| of.len() == 10));
    assert!(slices > 2, "{slices}");
    let different: Vec<Vec<u32>> = (0..1000).map(|n| (n % 50..100).collect()).collect();
    let different = spec(&topics, &different);
    let (assigned, slices) = run(&UniformAssignor, &different, SLICE);
    check(&different, &assigned);
    assert!(slices > 20, "{slices}");
}
