//! Voters that come and go: what is refused, what is told, and a disk that was lost.

use super::testing::{Group, config, key, key_in, voters};
use super::{Declined, QuorumInput, Restored, VoterChange, Voters};

fn others(leader: i32) -> [i32; 2] {
    [leader % 3 + 1, (leader + 1) % 3 + 1]
}

#[test]
fn a_removal_that_leaves_no_majority_is_refused() {
    let mut group = Group::new(3);
    let leader = group.leader();
    let [gone, left] = others(leader);
    group.isolate(gone);
    group.pass(2 * config(1).election_ms);
    assert_eq!(group.leader(), leader);
    let now = group.now;
    let quorum = group.get(leader);
    for voter in [left, leader] {
        let refused = quorum.change(now, VoterChange::Remove(key(voter)));
        assert_eq!(refused, Err(Declined::LosesMajority), "{voter}");
    }
    assert_eq!(quorum.voters().len(), 3, "nothing is appended");
    assert_eq!(quorum.change(now, VoterChange::Remove(key(gone))), Ok(()));
    group.pass(100);
    assert_eq!(group.in_force[&key(leader)].len(), 1);
    // Of the two that are left none may go while the other is not heard; and the last one never.
    group.isolate(left);
    let now = group.now;
    let quorum = group.get(leader);
    let itself = VoterChange::Remove(key(leader));
    assert_eq!(
        quorum.change(now, itself),
        Ok(()),
        "it was heard a moment ago"
    );
    let mut alone = Group::new(1);
    alone.pass(1);
    let now = alone.now;
    let last = VoterChange::Remove(key(1));
    assert_eq!(alone.get(1).change(now, last), Err(Declined::BadVoters));
}

#[test]
fn voters_that_are_not_committed_are_told_nobody_and_may_be_taken_back() {
    let mut group = Group::new(3);
    let leader = group.leader();
    let [one, two] = others(leader);
    group.isolate(leader);
    let now = group.now;
    let remove = VoterChange::Remove(key(one));
    group.get(leader).change(now, remove).unwrap();
    group.settle();
    let cut_off = group.get(leader);
    assert_eq!(
        cut_off.voters().len(),
        2,
        "in force from when it is appended"
    );
    assert_eq!(cut_off.committed_voters(), &voters(3));
    // The others know nothing of it, and one of them leads.
    group.pass(2_000);
    let next = group.leader();
    assert!([one, two].contains(&next));
    group.cut.clear();
    group.pass(500);
    assert_eq!(group.get(leader).voters(), &voters(3), "it is cut off");
    assert!(group.in_force[&key(leader)].is_empty());
    // Another change is possible at once.
    let (now, remove) = (group.now, VoterChange::Remove(key(leader)));
    assert_eq!(group.get(next).change(now, remove), Ok(()));
}

#[test]
fn a_leader_that_removes_itself_says_when_that_is_committed_though_its_own_disk_is_slow() {
    let mut group = Group::new(3);
    let leader = group.leader();
    group.slow.insert(key(leader));
    let now = group.now;
    let itself = VoterChange::Remove(key(leader));
    group.get(leader).change(now, itself).unwrap();
    group.settle();
    assert_eq!(group.get(leader).elected(), None);
    let told = group.in_force[&key(leader)].clone();
    group.slow.clear();
    let next = group.leader();
    assert_ne!(next, leader);
    assert_eq!(told.len(), 1);
    assert!(
        group
            .get(next)
            .committed_voters()
            .iter()
            .all(|it| it != key(leader))
    );
}

/// Its new disk is another replica: it has no vote, and gives none in the old one's name.
#[test]
fn a_voter_whose_disk_was_lost_is_replaced_by_a_removal_and_an_addition() {
    let mut group = Group::new(3);
    let leader = group.leader();
    let [lost, left] = others(leader);
    let (old, new) = (key(lost), key_in(lost, 9));
    group.replicas.remove(&old);
    group.start_as(new, Restored::empty(voters(3)));
    for node in [leader, left] {
        group.step(node, QuorumInput::Observer(new, true));
    }
    group.propose(leader);
    group.pass(500);
    assert_eq!(group.committed[&new], group.committed[&key(leader)]);
    // With one more voter cut off there is no majority, whoever asks it.
    group.isolate(left);
    group.pass(5_000);
    assert!(group.replicas.values().all(|it| it.elected().is_none()));
    assert_eq!(group.replicas[&new].state().vote, None);
    group.cut.clear();
    let leader = group.leader();
    let now = group.now;
    let twice = group.get(leader).change(now, VoterChange::Add(new));
    assert_eq!(twice, Err(Declined::BadVoters));
    group
        .get(leader)
        .change(now, VoterChange::Remove(old))
        .unwrap();
    group.settle();
    let now = group.now;
    group
        .get(leader)
        .change(now, VoterChange::Add(new))
        .unwrap();
    group.pass(300);
    let all = [key(leader), new, key(leader + left - leader)];
    let expected = Voters::new([1, 2, 3].map(|node| if node == lost { new } else { key(node) }));
    assert_eq!(
        Some(group.get(leader).committed_voters()),
        expected.as_ref(),
        "{all:?}"
    );
    // It counts from now on.
    let other = (1..=3).find(|it| *it != leader && *it != lost).unwrap();
    group.isolate(other);
    let before = group.committed[&key(leader)].len();
    group.propose(leader);
    group.pass(100);
    assert_eq!(group.committed[&key(leader)].len(), before + 1);
}

#[test]
fn a_new_voter_that_dies_is_given_up_and_another_may_come() {
    let mut group = Group::new(3);
    let leader = group.leader();
    group.start(4, Restored::empty(voters(3)));
    group.isolate(4);
    let now = group.now;
    group
        .get(leader)
        .change(now, VoterChange::Add(key(4)))
        .unwrap();
    let second = group.get(leader).change(now, VoterChange::Add(key(5)));
    assert_eq!(second, Err(Declined::Changing));
    group.pass(config(1).joining_ms + 100);
    assert_eq!(group.leader(), leader);
    group.replicas.remove(&key(4));
    group.cut.clear();
    group.start(5, Restored::empty(voters(3)));
    let now = group.now;
    group
        .get(leader)
        .change(now, VoterChange::Add(key(5)))
        .unwrap();
    group.pass(300);
    let quorum = group.get(leader);
    assert!(quorum.committed_voters().contains(key(5)) && quorum.voters().len() == 4);
    // One that dies as soon as it has a vote keeps nobody from going on.
    group.isolate(5);
    group.propose(leader);
    group.pass(1_000);
    let leader = group.leader();
    let now = group.now;
    assert_eq!(
        group.get(leader).change(now, VoterChange::Remove(key(5))),
        Ok(())
    );
    group.pass(100);
    assert_eq!(group.get(leader).committed_voters(), &voters(3));
}

/// It does not know that it has no vote any more, for it was cut off.
#[test]
fn one_that_was_removed_disturbs_nobody() {
    let mut group = Group::new(3);
    let leader = group.leader();
    let [removed, _] = others(leader);
    group.isolate(removed);
    group.pass(500);
    let now = group.now;
    let remove = VoterChange::Remove(key(removed));
    group.get(leader).change(now, remove).unwrap();
    group.pass(1_000);
    let term = group.get(leader).state().term;
    group.cut.clear();
    group.pass(5_000);
    assert_eq!(group.get(leader).elected(), Some(term));
    assert_eq!(group.get(removed).voters(), &voters(3), "nobody tells it");
    // Until whoever leads hears that it is there.
    group.step(leader, QuorumInput::Observer(key(removed), true));
    group.pass(500);
    assert_eq!(group.get(removed).voters().len(), 2);
    assert_eq!(group.get(leader).elected(), Some(term));
}
