//! Who leads: votes asked for, given and counted.

use super::core::{Ballots, Core, Role};
use super::leading::become_leader;
use super::message::{Says, Vote};
use super::voters::ReplicaKey;
use crate::base::{LeaderEpoch, Mono};

/// No leader was heard of in time: asks who would vote for this replica.
pub(super) fn stand(core: &mut Core, now: Mono) {
    core.arm(now, false);
    if !may_stand(core) {
        core.role = Role::Follower { leader: None };
        return;
    }
    if core.is_only_voter() {
        return stand_for_real(core, now, false);
    }
    let Some(term) = next_term(core) else {
        return;
    };
    core.role = Role::Candidate(Ballots {
        pre: true,
        own: 0,
        given: [(core.me, true)].into(),
    });
    ask_all(core, term, false);
}

/// Stands for election in a term of its own, at once when the leader itself asks for it.
pub(super) fn stand_for_real(core: &mut Core, now: Mono, by_leader: bool) {
    let Some(term) = next_term(core).filter(|_| may_stand(core)) else {
        return;
    };
    match core.is_only_voter() {
        // It waits for its disk, however long that takes, and for nobody else: a vote of its own that is under way
        // would count no more if it stood again.
        true => core.due = Mono::NEVER,
        false => core.arm(now, false),
    }
    core.state.term = term;
    core.state.vote = Some(core.me);
    core.role = Role::Candidate(Ballots {
        pre: false,
        own: core.write().number,
        given: [].into(),
    });
    ask_all(core, term, by_leader);
}

/// Who has a vote may lead, and until its removal is committed who had one: the others may lack that entry, and then
/// they cannot lead (section 4.2.2 of Ongaro's thesis). Its own vote does not count any more.
fn may_stand(core: &Core) -> bool {
    core.log.may_have_vote(core.me, core.state.commit)
}

/// The term behind this one; none if they are used up.
fn next_term(core: &Core) -> Option<LeaderEpoch> {
    core.term().0.checked_add(1).map(LeaderEpoch)
}

fn ask_all(core: &mut Core, term: LeaderEpoch, by_leader: bool) {
    let pre = term > core.term();
    let vote = Vote {
        pre,
        by_leader,
        last: core.log.last(),
    };
    let others: Vec<ReplicaKey> = core
        .log
        .voters()
        .iter()
        .filter(|voter| *voter != core.me)
        .collect();
    for to in others {
        match pre {
            true => core.send_of(to, term, Says::Vote(vote)),
            false => core.send_when_durable(to, Says::Vote(vote)),
        }
    }
}

/// Somebody asks for a vote. What is not only asked about is of this replica's term by now.
pub(super) fn on_vote(core: &mut Core, now: Mono, from: ReplicaKey, term: LeaderEpoch, vote: Vote) {
    let has_log = vote.last >= core.log.last();
    #[cfg(test)]
    let has_log = has_log || core.config.flaw == Some(super::flaw::Flaw::IgnoresLogs);
    if vote.pre {
        let granted = has_log && term > core.term() && !core.hears_leader(now);
        let of = if granted { term } else { core.term() };
        return core.send_of(from, of, Says::Voted { pre: true, granted });
    }
    let is_free = core.state.vote.is_none_or(|to| to == from);
    let granted = has_log && is_free && term == core.term();
    if granted {
        core.state.vote = Some(from);
        core.arm(now, false);
    }
    core.send_when_durable(
        from,
        Says::Voted {
            pre: false,
            granted,
        },
    );
}

/// Somebody has answered.
pub(super) fn on_voted(
    core: &mut Core,
    now: Mono,
    from: ReplicaKey,
    term: LeaderEpoch,
    (pre, granted): (bool, bool),
) {
    let of = core.term().0.checked_add(i32::from(pre && granted));
    if let Role::Candidate(ballots) = &mut core.role
        && ballots.pre == pre
        && of == Some(term.0)
    {
        ballots.given.insert(from, granted);
        count(core, now);
    }
}

/// Writes are on the disk: perhaps its own vote.
pub(super) fn on_durable(core: &mut Core, now: Mono, number: u64) {
    if let Role::Candidate(ballots) = &mut core.role
        && !ballots.pre
        && ballots.own <= number
    {
        ballots.given.insert(core.me, true);
        count(core, now);
    }
}

fn count(core: &mut Core, now: Mono) {
    let Role::Candidate(ballots) = &core.role else {
        return;
    };
    let voters = core.log.voters();
    let said = |answer: bool| {
        let given = |voter: &ReplicaKey| ballots.given.get(voter) == Some(&answer);
        voters.iter().filter(given).count()
    };
    if said(true) >= voters.majority() {
        match ballots.pre {
            true => stand_for_real(core, now, false),
            false => become_leader(core, now),
        }
    } else if said(false) >= voters.majority() {
        core.follow(now, core.term(), None);
    }
}
