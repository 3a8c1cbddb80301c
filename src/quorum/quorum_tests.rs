//! What a replica does, rule by rule; and that it bears whatever it is told.

use bytes::Bytes;
use proptest::prelude::*;

use super::testing::{Group, any_message, config, entry, id, key, message, voters};
use super::{
    Declined, EntryIndex, HardState, Payload, Quorum, QuorumEntry, QuorumFault, QuorumInput,
    QuorumRole, Restored, Says, SnapshotMark, Vote, VoterChange,
};
use crate::base::limits::QUORUM_ENTRY_BYTES_MAX;
use crate::base::{LeaderEpoch, Mono};

fn new(restored: Restored) -> Quorum {
    Quorum::new(key(1), config(1), restored, Mono(0)).unwrap()
}

/// One of three, with entries 1 to 3 of term 1 of which 2 are committed.
fn follower() -> Quorum {
    let mut restored = Restored::empty(voters(3));
    restored.state.term = LeaderEpoch(1);
    restored.state.commit = EntryIndex(2);
    restored.entries = (1..=3).map(|index| entry(1, index)).collect();
    let mut quorum = new(restored);
    assert_eq!(quorum.ready().committed.len(), 2);
    quorum
}

fn append(prev: super::EntryId, entries: Vec<QuorumEntry>, commit: u64) -> Says {
    Says::Append {
        prev,
        entries,
        commit: EntryIndex(commit),
    }
}

#[test]
fn one_voter_waits_for_its_disk_alone() {
    let mut quorum = new(Restored::empty(voters(1)));
    assert_eq!(quorum.wake_at(), Mono(0));
    quorum.step(Mono(0), QuorumInput::Time);
    let write = quorum.ready().write.unwrap();
    assert_eq!(write.state.vote, Some(key(1)));
    assert_eq!(quorum.elected(), None, "its vote is not durable");
    quorum.step(Mono(0), QuorumInput::Durable(write.number));
    let declined = Err(Declined::NotLeader { leader: None });
    assert_eq!(quorum.propose(Mono(0), Bytes::new()), declined);
    let write = quorum.ready().write.unwrap();
    assert_eq!(write.entries[0].payload, Payload::LeaderChange);
    quorum.step(Mono(0), QuorumInput::Durable(write.number));
    let term = LeaderEpoch(1);
    assert_eq!(quorum.ready().role, Some(QuorumRole::Leader { term }));

    let proposed = quorum.propose(Mono(0), Bytes::from_static(b"records"));
    assert_eq!(proposed, Ok(id(1, 2)));
    let ready = quorum.ready();
    assert!(ready.committed.is_empty() && ready.messages.is_empty());
    quorum.step(Mono(0), QuorumInput::Durable(ready.write.unwrap().number));
    assert_eq!(quorum.ready().committed[0].id, id(1, 2));
}

/// It has nobody to be heard of, and its own disk may take as long as it likes.
#[test]
fn one_voter_acts_by_itself_only_when_it_starts() {
    let mut quorum = new(Restored::empty(voters(1)));
    let mut now = Mono(0);
    assert_eq!(quorum.wake_at(), now);
    quorum.step(now, QuorumInput::Time);
    let write = quorum.ready().write.unwrap();
    for _ in 0..10 {
        assert_eq!(quorum.wake_at(), Mono::NEVER, "its vote is on its way");
        now = now.plus_ms(1_000);
        quorum.step(now, QuorumInput::Time);
        assert_eq!(quorum.ready().write, None);
    }
    quorum.step(now, QuorumInput::Durable(write.number));
    let write = quorum.ready().write.unwrap();
    assert_eq!(write.state.term, LeaderEpoch(1), "it stood once");
    quorum.step(now, QuorumInput::Durable(write.number));
    assert!(matches!(
        quorum.ready().role,
        Some(QuorumRole::Leader { .. })
    ));
    assert_eq!(quorum.wake_at(), Mono::NEVER);
    // Until somebody joins.
    quorum.change(now, VoterChange::Add(key(2))).unwrap();
    assert_eq!(quorum.wake_at(), now.plus_ms(config(1).heartbeat_ms));
    now = now.plus_ms(config(1).joining_ms);
    quorum.step(now, QuorumInput::Time);
    assert!(matches!(
        quorum.ready().changed,
        Some((_, Err(Declined::TooSlow)))
    ));
    assert_eq!(quorum.wake_at(), Mono::NEVER);
}

#[test]
fn what_is_promised_is_written_first() {
    let mut quorum = new(Restored::empty(voters(3)));
    let vote = Vote {
        pre: false,
        by_leader: false,
        last: id(0, 0),
    };
    quorum.step(Mono(0), message(2, 1, 5, Says::Vote(vote)));
    let ready = quorum.ready();
    assert!(ready.messages.is_empty());
    let state = HardState {
        term: LeaderEpoch(5),
        vote: Some(key(2)),
        commit: EntryIndex(0),
    };
    assert_eq!(ready.write.unwrap().state, state);
    let granted = Says::Voted {
        pre: false,
        granted: true,
    };
    assert_eq!(ready.messages_when_durable[0].says, granted);
    // Nobody else has its vote; what is said has to wait for the same write.
    quorum.step(Mono(0), message(3, 1, 5, Says::Vote(vote)));
    let ready = quorum.ready();
    let denied = Says::Voted {
        pre: false,
        granted: false,
    };
    assert_eq!(ready.messages_when_durable[0].says, denied);
    assert_eq!((ready.write, ready.messages.len()), (None, 0));
    // Who has less of the log has no vote either.
    let mut quorum = follower();
    let less = Vote {
        last: id(1, 2),
        ..vote
    };
    quorum.step(Mono(0), message(2, 1, 5, Says::Vote(less)));
    assert_eq!(quorum.ready().messages_when_durable[0].says, denied);
}

#[test]
fn a_suffix_that_is_no_leaders_is_cut_off() {
    let mut quorum = follower();
    let other = append(id(1, 2), vec![entry(2, 3), entry(2, 4)], 3);
    quorum.step(Mono(0), message(2, 1, 2, other));
    let ready = quorum.ready();
    let write = ready.write.unwrap();
    assert_eq!(write.truncate, Some(EntryIndex(3)));
    assert_eq!(write.entries, [entry(2, 3), entry(2, 4)]);
    let appended = Says::Appended {
        matched: EntryIndex(4),
    };
    assert_eq!(ready.messages_when_durable[0].says, appended);
    assert!(ready.committed.is_empty(), "it is not on this disk");
    quorum.step(Mono(0), QuorumInput::Durable(write.number));
    assert_eq!(quorum.ready().committed, [entry(2, 3)]);
    // What is sent again is acknowledged, and what does not follow is not.
    let again = append(id(1, 2), vec![entry(2, 3)], 3);
    quorum.step(Mono(0), message(2, 1, 2, again));
    let appended = Says::Appended {
        matched: EntryIndex(3),
    };
    assert_eq!(quorum.ready().messages[0].says, appended);
    let gap = append(id(2, 9), vec![entry(2, 10)], 3);
    quorum.step(Mono(0), message(2, 1, 2, gap));
    let rejected = Says::Rejected {
        prev: id(2, 9),
        hint: id(2, 4),
    };
    assert_eq!(quorum.ready().messages[0].says, rejected);
}

#[test]
fn what_is_committed_is_not_overwritten() {
    let mut quorum = follower();
    let other = append(id(1, 1), vec![entry(2, 2)], 0);
    quorum.step(Mono(0), message(2, 1, 2, other));
    let ready = quorum.ready();
    assert_eq!(ready.fault, Some(QuorumFault::Overwritten(id(2, 2))));
    assert_eq!(ready.write.unwrap().truncate, None);
}

#[test]
fn a_late_snapshot_takes_nothing_that_was_acknowledged() {
    let mut quorum = follower();
    let mark = SnapshotMark {
        id: id(1, 4),
        voters: voters(3),
    };
    quorum.step(Mono(0), message(2, 1, 2, Says::Offer(mark.clone())));
    assert!(quorum.ready().fetch.is_some());
    // Meanwhile the leader has sent what it is of, and more.
    let more = append(id(1, 3), vec![entry(1, 4), entry(2, 5)], 2);
    quorum.step(Mono(0), message(2, 1, 2, more));
    let number = quorum.ready().write.unwrap().number;
    quorum.step(Mono(0), QuorumInput::Durable(number));
    quorum.step(Mono(0), QuorumInput::Fetched(Some(mark.id)));
    let ready = quorum.ready();
    assert_eq!(ready.write, None);
    assert_eq!(ready.committed, [entry(1, 3), entry(1, 4)]);
    let next = append(id(2, 5), vec![entry(2, 6)], 4);
    quorum.step(Mono(0), message(2, 1, 2, next));
    assert_eq!(quorum.ready().write.unwrap().entries, [entry(2, 6)]);
}

#[test]
fn a_leader_installs_no_snapshot() {
    let mut quorum = follower();
    let mark = SnapshotMark {
        id: id(1, 9),
        voters: voters(3),
    };
    quorum.step(Mono(0), message(2, 1, 1, Says::Offer(mark.clone())));
    quorum.step(Mono(0), message(2, 1, 1, Says::Elect));
    let number = quorum.ready().write.unwrap().number;
    quorum.step(Mono(0), QuorumInput::Durable(number));
    let granted = Says::Voted {
        pre: false,
        granted: true,
    };
    quorum.step(Mono(0), message(3, 1, 2, granted));
    assert_eq!(quorum.elected(), Some(LeaderEpoch(2)));
    quorum.step(Mono(0), QuorumInput::Fetched(Some(mark.id)));
    let ready = quorum.ready();
    assert_eq!(ready.fault, Some(QuorumFault::Overwritten(mark.id)));
    assert_eq!(ready.write.unwrap().snapshot, None);
}

#[test]
fn who_is_cut_off_disturbs_nobody() {
    let mut group = Group::new(3);
    let leader = group.leader();
    let term = group.get(leader).state().term;
    let other = leader % 3 + 1;
    group.isolate(other);
    group.pass(5_000);
    group.cut.clear();
    group.pass(1_000);
    assert_eq!(group.leader(), leader);
    assert_eq!(group.get(other).state().term, term);
}

#[test]
fn a_leader_that_hears_of_no_majority_is_none() {
    let mut group = Group::new(3);
    let leader = group.leader();
    group.isolate(leader);
    group.pass(400);
    assert_eq!(group.get(leader).elected(), None);
    let other = group.leader();
    assert_ne!(other, leader);
    assert!(group.get(other).state().term > group.get(leader).state().term);
}

#[test]
fn who_stood_still_accuses_nobody() {
    let mut group = Group::new(3);
    let leader = group.leader();
    let term = group.get(leader).state().term;
    for _ in 0..20 {
        group.pass(100);
        // All of them, and what was said meanwhile is heard behind it.
        group.now = group.now.plus_ms(2_000);
        let now = group.now;
        for quorum in group.replicas.values_mut() {
            quorum.step(now, QuorumInput::StoodStill(2_000));
            quorum.step(now, QuorumInput::Time);
        }
        group.settle();
        assert_eq!(group.get(leader).elected(), Some(term));
    }
    assert!((1..=3).all(|node| group.get(node).state().term == term));
    // It hears the others no sooner than they say something.
    group.isolate(leader);
    group.pass(400);
    assert_eq!(group.get(leader).elected(), None);
}

#[test]
fn those_that_are_late_are_waited_for() {
    let mut group = Group::new(3);
    let leader = group.leader();
    let term = group.get(leader).state().term;
    let patience = |group: &mut Group, ms| {
        (1..=3).for_each(|node| group.step(node, QuorumInput::Patience(ms)));
        group.pass(100);
    };
    patience(&mut group, 2_000);
    for _ in 0..5 {
        group.isolate(leader);
        group.pass(1_800);
        group.cut.clear();
        group.pass(200);
        assert_eq!(group.get(leader).elected(), Some(term));
    }
    patience(&mut group, 0);
    group.isolate(leader);
    group.pass(400);
    assert_eq!(group.get(leader).elected(), None);
}

#[test]
fn nobody_is_not_waited_for_so_long() {
    let mut group = Group::new(3);
    (1..=3).for_each(|node| group.step(node, QuorumInput::Patience(4_000)));
    (1..=3).for_each(|node| group.isolate(node));
    group.pass(3_000);
    group.cut.clear();
    let since = group.now;
    group.leader();
    let took = group.now.ms_since(since);
    assert!(took <= 2 * config(1).nobody_ms_max, "{took} ms");
}

#[test]
fn a_slow_flush_deposes_nobody() {
    let mut group = Group::new(3);
    let leader = group.leader();
    let term = group.get(leader).state().term;
    group.slow = (1..=3).filter(|node| *node != leader).map(key).collect();
    for _ in 0..40 {
        let now = group.now;
        let records = Bytes::from_static(b"records");
        group.get(leader).propose(now, records).unwrap();
        group.pass(10);
    }
    assert_eq!(group.get(leader).elected(), Some(term));
    assert_eq!(group.get(leader).state().commit, EntryIndex(1));
    group.slow.clear();
    group.pass(100);
    assert_eq!(group.get(leader).state().commit, EntryIndex(41));
}

#[test]
fn who_is_known_to_be_gone_is_not_waited_for() {
    let mut group = Group::new(3);
    let leader = group.leader();
    group.isolate(leader);
    let since = group.now;
    for node in (1..=3).filter(|node| *node != leader) {
        group.step(node, QuorumInput::Gone(key(leader)));
    }
    group.leader();
    let took = group.now.ms_since(since);
    assert!(took <= 2 * config(1).heartbeat_ms, "{took} ms");
}

#[test]
fn who_resigns_is_followed_by_another_at_once() {
    let mut group = Group::new(3);
    let leader = group.leader();
    let since = group.now;
    group.step(leader, QuorumInput::Resign);
    let next = group.leader();
    assert_ne!(next, leader);
    assert_eq!(group.now, since);
}

#[test]
fn proposals_are_bounded() {
    let mut group = Group::new(3);
    let leader = group.leader();
    let now = group.now;
    let large = Bytes::from(vec![0; QUORUM_ENTRY_BYTES_MAX + 1]);
    let quorum = group.get(leader);
    assert_eq!(quorum.propose(now, large), Err(Declined::TooLarge));
    let other = group.get(leader % 3 + 1).propose(now, Bytes::new());
    let declined = Declined::NotLeader {
        leader: Some(key(leader)),
    };
    assert_eq!(other, Err(declined));
    group.isolate(leader);
    let quorum = group.get(leader);
    let records = Bytes::from(vec![0; 500]);
    let taken = std::iter::repeat_with(|| quorum.propose(now, records.clone()));
    let taken = taken.take_while(Result::is_ok).count();
    assert!((65..75).contains(&taken), "{taken}");
    assert_eq!(quorum.propose(now, records.clone()), Err(Declined::Full));
    // No more than so much is on its way to any of them.
    let ready = quorum.ready();
    for to in (1..=3).filter(|node| *node != leader) {
        let sent = ready
            .messages
            .iter()
            .filter(|message| message.to == key(to));
        let bytes = sent.map(|message| message.encode().len()).sum::<usize>();
        assert!((3_000..6_000).contains(&bytes), "{bytes}");
    }
}

#[test]
fn who_comes_late_fetches_a_snapshot() {
    let mut group = Group::new(3);
    group.isolate(3);
    let leader = group.leader();
    for _ in 0..20 {
        let now = group.now;
        group
            .get(leader)
            .propose(now, Bytes::from(vec![0; 500]))
            .unwrap();
        group.settle();
    }
    group.step(leader, QuorumInput::Snapshotted(EntryIndex(15)));
    assert!(
        group.get(leader).log_bytes() > 6_000,
        "who is cut off was heard of not long ago"
    );
    group.pass(1_000);
    let now = group.now;
    group
        .get(leader)
        .propose(now, Bytes::from(vec![0; 500]))
        .unwrap();
    group.settle();
    group.step(leader, QuorumInput::Snapshotted(EntryIndex(18)));
    assert!(group.get(leader).log_bytes() < 3_000);
    group.cut.clear();
    group.pass(100);
    let (from, mark) = group.wanted.remove(&key(3)).unwrap().fetch.unwrap();
    assert_eq!((from, mark.id.index), (key(leader), EntryIndex(18)));

    let now = group.now;
    group.get(3).step(now, QuorumInput::Fetched(Some(mark.id)));
    let ready = group.get(3).ready();
    let write = ready.write.unwrap();
    assert_eq!(write.snapshot, Some(mark.clone()));
    assert_eq!(write.state.commit, EntryIndex(18));
    assert_eq!(write.state.term, group.get(leader).state().term);
    assert_eq!(ready.installed, None);
    group.step(3, QuorumInput::Durable(write.number));
    assert_eq!(group.wanted.remove(&key(3)).unwrap().installed, Some(mark));
    // What it had sent before was not taken, so the leader asks again what it has.
    group.pass(200);
    let handed: Vec<u64> = group.committed[&key(3)]
        .iter()
        .map(|entry| entry.id.index.0)
        .collect();
    assert_eq!(handed, [19, 20, 21, 22]);
}

#[test]
fn a_snapshot_has_the_voters_that_are_committed() {
    let mut restored = Restored::empty(voters(3));
    restored.state.term = LeaderEpoch(1);
    restored.state.commit = EntryIndex(22);
    let large = || Payload::Records(Bytes::from(vec![0; 500]));
    let entries = (1..=24).map(|index| QuorumEntry {
        id: id(1, index),
        payload: match index {
            21 => Payload::Voters(voters(4)),
            23 => Payload::Voters(voters(5)),
            _ => large(),
        },
    });
    restored.entries = entries.collect();
    let mut quorum = new(restored);
    let ready = quorum.ready();
    assert_eq!(ready.committed.len(), 22);
    assert_eq!(quorum.voters().len(), 5);
    let mark = SnapshotMark {
        id: id(1, 22),
        voters: voters(4),
    };
    assert_eq!(ready.snapshot_wanted, Some(mark));
}

#[test]
fn a_newer_snapshot_is_fetched_instead() {
    let mut quorum = follower();
    let mark = |index| SnapshotMark {
        id: id(1, index),
        voters: voters(3),
    };
    let wanted = |quorum: &mut Quorum, index| {
        quorum.step(Mono(0), message(2, 1, 1, Says::Offer(mark(index))));
        quorum.ready().fetch.map(|(_, mark)| mark)
    };
    assert_eq!(wanted(&mut quorum, 8), Some(mark(8)));
    assert_eq!(wanted(&mut quorum, 8), None);
    assert_eq!(wanted(&mut quorum, 9), Some(mark(9)));
    assert_eq!(wanted(&mut quorum, 8), None);
    // What is not wanted any more changes nothing.
    quorum.step(Mono(0), QuorumInput::Fetched(Some(id(1, 8))));
    assert_eq!(quorum.ready().write, None);
    quorum.step(Mono(0), QuorumInput::Fetched(Some(id(1, 9))));
    assert_eq!(quorum.ready().write.unwrap().snapshot, Some(mark(9)));
}

#[test]
fn voters_are_changed_one_at_a_time() {
    let mut group = Group::new(3);
    let leader = group.leader();
    let now = group.now;
    let quorum = group.get(leader);
    let bad = Err(Declined::BadVoters);
    assert_eq!(quorum.change(now, VoterChange::Add(key(1))), bad);
    assert_eq!(quorum.change(now, VoterChange::Remove(key(4))), bad);
    assert_eq!(quorum.change(now, VoterChange::Add(key(4))), Ok(()));
    let changing = Err(Declined::Changing);
    assert_eq!(quorum.change(now, VoterChange::Remove(key(1))), changing);
    // It has no vote before it has caught up, and is given up if it does not.
    group.settle();
    assert_eq!(group.get(leader).voters().len(), 3);
    group.pass(config(1).joining_ms + 100);
    let changed = group.wanted.remove(&key(leader)).unwrap().changed;
    assert_eq!(
        changed,
        Some((VoterChange::Add(key(4)), Err(Declined::TooSlow)))
    );

    group.start(4, Restored::empty(voters(3)));
    let now = group.now;
    group
        .get(leader)
        .change(now, VoterChange::Add(key(4)))
        .unwrap();
    group.pass(200);
    assert_eq!(group.get(4).voters(), &voters(4));
    // The leader itself goes, and another one leads.
    let now = group.now;
    group
        .get(leader)
        .change(now, VoterChange::Remove(key(leader)))
        .unwrap();
    group.pass(1);
    assert_eq!(group.get(leader).elected(), None);
    let next = group.leader();
    assert_ne!(next, leader);
    assert_eq!(group.get(next).voters().len(), 3);
}

#[test]
fn who_removes_itself_may_stand_until_that_is_committed() {
    let mut group = Group::new(2);
    let leader = group.leader();
    group.isolate(leader);
    let now = group.now;
    let removed = VoterChange::Remove(key(leader));
    group.get(leader).change(now, removed).unwrap();
    group.settle();
    group.pass(1_000);
    group.cut.clear();
    // The other needs its vote, and has less of the log.
    group.pass(1_000);
    let other = 3 - leader;
    assert_eq!(group.leader(), other);
    assert_eq!(group.get(other).voters().len(), 1);
}

/// A leader of three with an observer, that has proposed something; and what has come of it.
fn observed() -> (Group, i32) {
    let mut group = Group::new(3);
    let leader = group.leader();
    group.start(9, Restored::empty(voters(3)));
    for node in 1..=3 {
        group.step(node, QuorumInput::Observer(key(9), true));
    }
    group.propose(leader);
    group.pass(200);
    (group, leader)
}

#[test]
fn an_observer_gets_the_log_from_whoever_leads() {
    let (mut group, leader) = observed();
    let all = group.committed[&key(leader)].clone();
    assert_eq!(group.committed[&key(9)], all);
    let term = group.get(leader).state().term;
    let leads = Some(key(leader));
    let follows = QuorumRole::Follower {
        term,
        leader: leads,
    };
    assert_eq!(group.get(9).role(), follows);
    // Another one leads, who knows of it too.
    group.isolate(leader);
    group.pass(2_000);
    let next = group.leader();
    assert_ne!(next, leader);
    group.propose(next);
    group.pass(200);
    assert_eq!(group.committed[&key(9)], group.committed[&key(next)]);
    assert!(group.committed[&key(9)].len() > all.len());
}

#[test]
fn an_observer_decides_nothing() {
    let (mut group, leader) = observed();
    let others: Vec<i32> = (1..=3).filter(|node| *node != leader).collect();
    others.iter().for_each(|node| group.isolate(*node));
    let before = group.committed[&key(leader)].len();
    group.propose(leader);
    group.pass(100);
    let standing = group.get(leader).standing(Mono(0)).unwrap();
    assert_eq!(
        standing.observers[0].last,
        standing.voters[leader as usize - 1].last
    );
    assert_eq!(
        group.committed[&key(leader)].len(),
        before,
        "two of four have it"
    );
    // It elects nobody, and does not stand.
    group.pass(5_000);
    assert_eq!(group.get(leader).elected(), None);
    assert_eq!(group.get(9).elected(), None);
    assert_eq!(group.get(9).voters().len(), 3);
}

#[test]
fn what_another_leader_has_not_is_cut_off_at_an_observer() {
    let (mut group, leader) = observed();
    let others: Vec<i32> = (1..=3).filter(|node| *node != leader).collect();
    for other in &others {
        let both = [(key(leader), key(*other)), (key(*other), key(leader))];
        group.cut.extend(both);
        group.cut.insert((key(*other), key(9)));
    }
    group.propose(leader);
    group.pass(50);
    let lost = group.get(9).core().log.last();
    group.pass(2_000);
    group.isolate(leader);
    for other in &others {
        group.cut.remove(&(key(*other), key(9)));
    }
    group.pass(2_000);
    let next = group.leader();
    assert_ne!(next, leader);
    group.pass(500);
    assert!(!group.get(9).core().log.has(lost));
    assert_eq!(group.committed[&key(9)], group.committed[&key(next)]);
}

#[test]
fn one_that_observes_no_more_is_forgotten_but_not_as_a_voter() {
    let (mut group, leader) = observed();
    let known = |group: &mut Group| {
        let standing = group.get(leader).standing(Mono(0)).unwrap();
        (standing.voters.len(), standing.observers.len())
    };
    assert_eq!(known(&mut group), (3, 1));
    group.step(leader, QuorumInput::Observer(key(9), false));
    assert_eq!(known(&mut group), (3, 0));
    group.step(leader, QuorumInput::Observer(key(9), true));
    let now = group.now;
    let add = VoterChange::Add(key(9));
    assert_eq!(group.get(leader).change(now, add), Ok(()));
    group.pass(300);
    assert_eq!(known(&mut group), (4, 0));
    group.step(leader, QuorumInput::Observer(key(9), false));
    assert_eq!(known(&mut group), (4, 0));
    group.propose(leader);
    group.pass(200);
    assert_eq!(group.committed[&key(9)], group.committed[&key(leader)]);
}

#[test]
fn the_only_voter_has_observers_too() {
    let mut group = Group::new(1);
    group.pass(1);
    assert_eq!(group.leader(), 1);
    group.start(9, Restored::empty(voters(1)));
    group.step(1, QuorumInput::Observer(key(9), true));
    group.propose(1);
    group.pass(200);
    assert_eq!(group.committed[&key(9)], group.committed[&key(1)]);
    // It cannot have somebody else lead.
    group.step(1, QuorumInput::Resign);
    group.propose(1);
}

#[test]
fn a_disk_that_cannot_be_a_replicas_is_refused() {
    let restore = |change: fn(&mut Restored)| {
        let mut restored = Restored::empty(voters(3));
        restored.state.term = LeaderEpoch(2);
        restored.entries = vec![entry(1, 1), entry(2, 2)];
        change(&mut restored);
        Quorum::new(key(1), config(1), restored, Mono(0))
            .err()
            .map(|error| error.to_string())
    };
    assert_eq!(restore(|_| {}), None);
    assert!(restore(|it| it.entries[1].id.index.0 = 3).is_some());
    assert!(restore(|it| it.entries[0].id.term.0 = 3).is_some());
    assert!(restore(|it| it.state.term.0 = 1).is_some());
    assert!(restore(|it| it.state.commit.0 = 3).is_some());
    let voters = voters(3);
    let mark = SnapshotMark {
        id: id(1, 1),
        voters,
    };
    let mut restored = Restored::empty(mark.voters.clone());
    restored.state.term = LeaderEpoch(2);
    restored.entries = vec![entry(1, 1), entry(2, 2)];
    restored.snapshot = mark;
    assert!(Quorum::new(key(1), config(1), restored.clone(), Mono(0)).is_ok());
    restored.snapshot.id.term.0 = 2;
    assert!(Quorum::new(key(1), config(1), restored, Mono(0)).is_err());
}

proptest! {
    /// Whatever it is told, sound or not, in whatever role: it goes on, keeps to its bounds, and what it wrote is what
    /// a replica can begin with.
    #[test]
    fn it_bears_whatever_it_is_told(
        count in 1..4,
        seed in any::<u64>(),
        messages in prop::collection::vec((any_message(), 0..400u64, 0..9), 1..60),
    ) {
        let restored = Restored::empty(voters(count));
        let mut quorum = Quorum::new(key(1), config(seed), restored.clone(), Mono(0)).unwrap();
        let mut disk = restored;
        let mut now = Mono(0);
        for (message, ms, what) in messages {
            now = now.plus_ms(ms);
            match what {
                0 => quorum.step(now, QuorumInput::Gone(message.from)),
                1 => _ = quorum.propose(now, Bytes::from(vec![0; 300])),
                2 => _ = quorum.change(now, VoterChange::Add(message.from)),
                3 => _ = quorum.change(now, VoterChange::Remove(message.from)),
                4 => quorum.step(now, QuorumInput::Resign),
                5 => quorum.step(now, QuorumInput::Snapshotted(quorum.state().commit)),
                6 => quorum.step(now, QuorumInput::Observer(message.from, ms % 2 == 0)),
                _ => quorum.step(now, QuorumInput::Time),
            }
            let mut message = message;
            message.to = key(1);
            quorum.step(now, QuorumInput::Message(message));
            let ready = quorum.ready();
            if let Some(write) = ready.write {
                if let Some(mark) = write.snapshot {
                    (disk.snapshot, disk.entries) = (mark, Vec::new());
                }
                if let Some(from) = write.truncate {
                    disk.entries.retain(|entry| entry.id.index < from);
                }
                disk.entries.extend(write.entries);
                disk.state = write.state;
                quorum.step(now, QuorumInput::Durable(write.number));
            }
            if let Some((_, mark)) = ready.fetch {
                quorum.step(now, QuorumInput::Fetched(Some(mark.id)));
            }
            prop_assert!(quorum.log_bytes() <= 2 * config(1).log_bytes);
        }
        let again = Quorum::new(key(1), config(seed), disk, now);
        prop_assert!(again.is_ok(), "{:?}", again.err());
    }
}
