//! What a leader does: its log to the others, what is committed, who has a vote.

use super::core::{Core, Leading, NewVoter, Role};
use super::entry::{EntryId, EntryIndex, Payload, QuorumEntry};
use super::message::Says;
use super::progress::{PeerProgress, Sending};
use super::ready::{Declined, VoterChange};
use super::voters::{ReplicaKey, Voters};
use crate::base::Mono;
use crate::base::limits::QUORUM_OBSERVERS_MAX;

/// A majority has voted for it.
pub(super) fn become_leader(core: &mut Core, now: Mono) {
    let next = core.log.last().index.next();
    core.role = Role::Leader(Box::new(Leading {
        began: next,
        others: [].into(),
        joining: None,
        resigning: None,
    }));
    append(core, now, Payload::LeaderChange);
    core.due = next_due(core, now);
}

/// When it is to be heard of next: never, as long as there is nobody else.
fn next_due(core: &Core, now: Mono) -> Mono {
    match &core.role {
        Role::Leader(it) if it.others.is_empty() => Mono::NEVER,
        _ => now.plus_ms(core.config.heartbeat_ms),
    }
}

/// Adds an entry of its term to the log.
fn append(core: &mut Core, now: Mono, payload: Payload) -> EntryId {
    let id = EntryId {
        term: core.term(),
        index: core.log.last().index.next(),
    };
    core.append(QuorumEntry { id, payload });
    meet_all(core, now);
    id
}

/// Knows each voter and each observer by its progress, and nobody else but who joins.
fn meet_all(core: &mut Core, now: Mono) {
    let Role::Leader(it) = &mut core.role else {
        return;
    };
    let (voters, next) = (core.log.voters(), core.log.last().index);
    let joining = it.joining.as_ref().map(|joining| joining.replica);
    let observers = &core.observers;
    it.others.retain(|replica, _| {
        voters.contains(*replica) || joining == Some(*replica) || observers.contains(replica)
    });
    for voter in voters.iter().filter(|voter| *voter != core.me) {
        let new = || PeerProgress::new(Sending::Replicate, next, now);
        it.others.entry(voter).or_insert_with(new);
    }
    for observer in observers {
        let new = || PeerProgress::new(Sending::Probe, next.next(), now);
        it.others.entry(*observer).or_insert_with(new);
    }
}

/// A replica that may have no vote is there, or not any more.
pub(super) fn observe(core: &mut Core, now: Mono, who: ReplicaKey, is_there: bool) {
    match is_there {
        true if who == core.me || core.observers.len() >= QUORUM_OBSERVERS_MAX => return,
        true => core.observers.insert(who),
        false => core.observers.remove(&who),
    };
    meet_all(core, now);
    if matches!(core.role, Role::Leader(_)) {
        core.due = core.due.min(next_due(core, now));
    }
}

/// A batch of records is to be committed.
pub(super) fn propose(core: &mut Core, now: Mono, payload: Payload) -> Result<EntryId, Declined> {
    leads(core)?;
    if core.log.bytes() >= core.config.log_bytes {
        return Err(Declined::Full);
    }
    Ok(append(core, now, payload))
}

/// Whether it takes proposals.
fn leads(core: &Core) -> Result<(), Declined> {
    match &core.role {
        Role::Leader(it) if core.handed >= it.began && it.resigning.is_none() => Ok(()),
        Role::Leader(_) => Err(Declined::NotLeader { leader: None }),
        _ => Err(Declined::NotLeader {
            leader: core.leader(),
        }),
    }
}

/// Voters are to be changed. What becomes of it is told by `Ready::changed`.
pub(super) fn change(core: &mut Core, now: Mono, change: VoterChange) -> Result<(), Declined> {
    leads(core)?;
    let is_over = core.log.voters_since() <= core.state.commit;
    #[cfg(test)]
    let is_over = is_over || core.config.flaw == Some(super::flaw::Flaw::ChangesAtOnce);
    let (voters, next) = (core.log.voters(), core.log.last().index.next());
    let (me, patience_ms) = (core.me, core.patience_ms);
    let Role::Leader(it) = &mut core.role else {
        return Ok(());
    };
    if it.joining.is_some() || !is_over {
        return Err(Declined::Changing);
    }
    match change {
        VoterChange::Add(replica) => {
            if voters.with(replica).is_none() {
                return Err(Declined::BadVoters);
            }
            it.joining = Some(NewVoter {
                replica,
                until: now.plus_ms(core.config.joining_ms),
                goal: core.log.last().index,
                since: now,
            });
            let peer = PeerProgress::new(Sending::Probe, next, now);
            it.others.insert(replica, peer);
            core.due = core.due.min(next_due(core, now));
        }
        VoterChange::Remove(replica) => {
            let is_voter = voters.contains(replica);
            let Some(voters) = voters.without(replica).filter(|_| is_voter) else {
                return Err(Declined::BadVoters);
            };
            let is_heard = |voter: &ReplicaKey| {
                let peer = it.others.get(voter);
                *voter == me || peer.is_some_and(|peer| now.ms_since(peer.heard) < patience_ms)
            };
            if voters.iter().filter(is_heard).count() < voters.majority() {
                return Err(Declined::LosesMajority);
            }
            let id = append(core, now, Payload::Voters(voters));
            core.out.changed = Some((change, Ok(id)));
        }
    }
    Ok(())
}

/// Who joins has caught up, and has a vote from now on, when it takes no longer than an election to get what there was
/// when it had got what there was before (section 4.2.1 of Ongaro's thesis).
fn join(core: &mut Core, now: Mono, from: ReplicaKey) {
    let (last, election_ms) = (core.log.last().index, core.config.election_ms);
    let Role::Leader(it) = &mut core.role else {
        return;
    };
    let Some(joining) = it
        .joining
        .as_mut()
        .filter(|joining| joining.replica == from)
    else {
        return;
    };
    let goal = joining.goal;
    if it.others.get(&from).is_none_or(|peer| peer.matched < goal) {
        return;
    }
    if now.ms_since(joining.since) >= election_ms {
        (joining.goal, joining.since) = (last, now);
        return;
    }
    it.joining = None;
    let outcome = match core.log.voters().with(from) {
        Some(voters) => Ok(append(core, now, Payload::Voters(voters))),
        None => Err(Declined::BadVoters),
    };
    core.out.changed = Some((VoterChange::Add(from), outcome));
}

/// It is due to be heard of, and looks whom it has heard of.
pub(super) fn on_time(core: &mut Core, now: Mono) {
    let (me, patience_ms) = (core.me, core.patience_ms);
    let Role::Leader(it) = &mut core.role else {
        return;
    };
    let heard = |voter: ReplicaKey| match it.others.get(&voter) {
        _ if voter == me => now,
        Some(peer) => peer.heard,
        None => Mono::default(),
    };
    let voters: &Voters = core.log.voters();
    if now.ms_since(voters.reached(heard)) >= patience_ms {
        // Perhaps the others have elected somebody else by now (section 6.2 of Ongaro's thesis).
        return core.follow(now, core.term(), None);
    }
    if let Some(NewVoter { replica, .. }) = it.joining.take_if(|joining| joining.until <= now) {
        if !core.observers.contains(&replica) {
            it.others.remove(&replica);
        }
        core.out.changed = Some((VoterChange::Add(replica), Err(Declined::TooSlow)));
    }
    it.resigning = it.resigning.filter(|until| *until > now);
    for peer in it.others.values_mut() {
        peer.must = true;
    }
    core.due = next_due(core, now);
}

/// A follower has more of the log on its disk.
pub(super) fn on_appended(core: &mut Core, now: Mono, from: ReplicaKey, matched: EntryIndex) {
    let (last, before) = (core.log.last().index, core.log.before().index);
    let Role::Leader(it) = &mut core.role else {
        return;
    };
    let Some(peer) = it.others.get_mut(&from).filter(|_| matched <= last) else {
        return;
    };
    peer.heard = now;
    peer.appended(matched, before);
    peer.compared(now, last);
    join(core, now, from);
    commit(core, now);
    resign_further(core);
}

/// A follower does not have what was sent before, or is not as far.
pub(super) fn on_rejected(
    core: &mut Core,
    now: Mono,
    from: ReplicaKey,
    prev: EntryId,
    hint: EntryId,
) {
    let Role::Leader(it) = &mut core.role else {
        return;
    };
    let Some(peer) = it.others.get_mut(&from) else {
        return;
    };
    peer.heard = now;
    let is_stale = match peer.stage {
        Sending::Snapshot => true,
        Sending::Probe => prev.index.next() != peer.next,
        Sending::Replicate => prev.index >= peer.next,
    };
    if is_stale || prev.index <= peer.matched {
        return;
    }
    let index = hint.index.min(prev.index.before());
    let same = match index < core.log.before().index {
        // What it lacks has been cut off.
        true => index,
        false => {
            let term = hint.term;
            core.log.not_newer_than(EntryId { term, index }).index
        }
    };
    peer.goes_to(Sending::Probe, same.next());
}

/// What a majority has on its disks is committed, if it is of this term; and with it all before.
pub(super) fn commit(core: &mut Core, now: Mono) {
    let Role::Leader(it) = &core.role else {
        return;
    };
    let own = core.log.durable();
    let matched = |voter: ReplicaKey| match it.others.get(&voter) {
        _ if voter == core.me => own,
        Some(peer) => peer.matched,
        None => EntryIndex::ZERO,
    };
    let reached = core.log.voters().reached(matched);
    #[cfg(test)]
    let reached = match core.config.flaw {
        Some(super::flaw::Flaw::CountsObservers) => {
            let all = it.others.keys().copied().chain([core.me]);
            let mut all: Vec<EntryIndex> = all.map(matched).collect();
            all.sort_unstable();
            all[all.len().saturating_sub(core.log.voters().majority())]
        }
        _ => reached,
    };
    let is_own = core
        .log
        .id(reached)
        .is_some_and(|id| id.term == core.term());
    #[cfg(test)]
    let is_own = is_own || core.config.flaw == Some(super::flaw::Flaw::CommitsOlderTerms);
    if reached <= core.state.commit || !is_own {
        return;
    }
    let (before, since) = (core.state.commit, core.log.voters_since());
    core.state.commit = reached;
    if since > before && since <= reached {
        core.out.voters_committed = core.log.id(since);
    }
    let is_out = !core.log.voters().contains(core.me) && since <= reached;
    if is_out {
        // Told to the others first: this leader will say nothing more.
        send_all(core);
        elect_another(core);
        core.follow(now, core.term(), None);
    }
}

/// Somebody is gone: nothing is sent ahead of an answer any more.
pub(super) fn on_gone(core: &mut Core, who: ReplicaKey) {
    if let Role::Leader(it) = &mut core.role
        && let Some(peer) = it.others.get_mut(&who)
        && peer.stage == Sending::Replicate
    {
        peer.goes_to(Sending::Probe, peer.matched.next());
    }
}

/// Somebody else should lead. Nothing is proposed any more until somebody does, or time is up.
pub(super) fn resign(core: &mut Core, now: Mono) {
    let until = now.plus_ms(core.config.election_ms);
    let is_alone = core.is_only_voter();
    if let Role::Leader(it) = &mut core.role
        && !is_alone
    {
        it.resigning = Some(until);
    }
    resign_further(core);
}

fn resign_further(core: &mut Core) {
    if matches!(&core.role, Role::Leader(it) if it.resigning.is_some()) {
        elect_another(core);
    }
}

/// A voter that has all of the log may stand for election at once.
fn elect_another(core: &mut Core) {
    let Role::Leader(it) = &core.role else {
        return;
    };
    let (voters, last) = (core.log.voters(), core.log.last().index);
    let has_all = |(replica, peer): &(&ReplicaKey, &PeerProgress)| {
        voters.contains(**replica) && peer.matched == last
    };
    let best = it
        .others
        .iter()
        .filter(has_all)
        .max_by_key(|(_, peer)| peer.heard);
    if let Some((to, _)) = best {
        core.send(*to, Says::Elect);
    }
}

/// Sends everybody what is new.
pub(super) fn send_all(core: &mut Core) {
    let Role::Leader(it) = &mut core.role else {
        return;
    };
    let (log, config, commit) = (&core.log, &core.config, core.state.commit);
    let mut sent = Vec::new();
    for (to, peer) in &mut it.others {
        let first = log.before().index.next();
        if peer.next < first && peer.stage != Sending::Snapshot {
            peer.goes_to(Sending::Snapshot, peer.next);
        }
        let is_replicate = peer.stage == Sending::Replicate;
        let has_room = peer.in_flight() < config.in_flight_bytes;
        let is_more = is_replicate && has_room && peer.next <= log.last().index;
        let is_news = is_replicate && peer.told < commit && !is_more;
        // What has entries is answered when they are durable: to hear of it in time takes something without.
        if peer.must || is_news {
            let prev = log
                .id(peer.next.before())
                .filter(|_| peer.stage != Sending::Snapshot);
            let says = match prev {
                Some(prev) => Says::Append {
                    prev,
                    entries: Vec::new(),
                    commit,
                },
                None => Says::Offer(log.snapshot().clone()),
            };
            sent.push((*to, says));
        }
        while peer.stage == Sending::Replicate && peer.in_flight() < config.in_flight_bytes {
            let entries = log.read(peer.next, log.last().index, config.append_bytes);
            let (Some(last), Some(prev)) = (entries.last(), log.id(peer.next.before())) else {
                break;
            };
            let bytes = entries.iter().map(QuorumEntry::cost).sum();
            peer.sent(last.id.index, bytes);
            let append = Says::Append {
                prev,
                entries,
                commit,
            };
            sent.push((*to, append));
        }
        peer.told = commit;
        peer.must = false;
    }
    for (to, says) in sent {
        core.send(to, says);
    }
}
