//! What a follower does: its log as the leader's, or a snapshot in its place.

use super::core::{Core, Role};
use super::entry::{EntryId, EntryIndex, QuorumEntry, SnapshotMark};
use super::message::Says;
use super::ready::QuorumFault;
use super::voters::ReplicaKey;
use crate::base::Mono;

/// Follows who leads in its term. There cannot be two.
fn follows(core: &mut Core, now: Mono, leader: ReplicaKey) -> bool {
    if matches!(core.role, Role::Leader(_)) {
        core.fault(QuorumFault::TwoLeaders(core.term()));
        return false;
    }
    core.follow(now, core.term(), Some(leader));
    true
}

/// The leader sends what follows an entry.
pub(super) fn on_append(
    core: &mut Core,
    now: Mono,
    from: ReplicaKey,
    (prev, commit): (EntryId, EntryIndex),
    entries: Vec<QuorumEntry>,
) {
    if !follows(core, now, from) {
        return;
    }
    // What is committed is the leader's too, or it would not be one.
    let known = core.state.commit;
    let is_other = |id: &EntryId| {
        id.index <= known
            && core
                .log
                .id(id.index)
                .is_some_and(|committed| committed != *id)
    };
    let mut all = [prev]
        .into_iter()
        .chain(entries.iter().map(|entry| entry.id));
    if let Some(other) = all.find(is_other) {
        return core.fault(QuorumFault::Overwritten(other));
    }
    if prev.index > known && !core.log.has(prev) {
        let hint = core.log.not_newer_than(EntryId {
            term: prev.term,
            index: prev.index.before(),
        });
        return core.send(from, Says::Rejected { prev, hint });
    }
    let is_heartbeat = entries.is_empty();
    let end = EntryIndex(prev.index.0 + entries.len() as u64);
    let kept = core.log.before().index.next();
    let new: Vec<QuorumEntry> = entries
        .into_iter()
        .skip_while(|entry| entry.id.index < kept || core.log.has(entry.id))
        .collect();
    if let Some(first) = new.first().map(|entry| entry.id.index) {
        let bytes: usize = new.iter().map(QuorumEntry::cost).sum();
        if core.log.bytes() + bytes > 2 * core.config.log_bytes {
            // It is sent again; until then a snapshot may have made room.
            return;
        }
        if first <= core.log.last().index {
            core.truncate(first);
        }
        for entry in new {
            core.append(entry);
        }
    }
    let matched = end.max(known);
    let compared = matched;
    #[cfg(test)]
    let compared = match core.config.flaw {
        Some(super::flaw::Flaw::CommitsUncompared) => core.log.last().index,
        _ => compared,
    };
    core.state.commit = known.max(commit.min(compared));
    match is_heartbeat {
        true => core.acknowledge(from, matched),
        false => core.send_when_durable(from, Says::Appended { matched }),
    }
}

/// The leader has cut off what this replica lacks.
pub(super) fn on_offer(core: &mut Core, now: Mono, from: ReplicaKey, mark: SnapshotMark) {
    if !follows(core, now, from) {
        return;
    }
    if core.log.has(mark.id) {
        core.state.commit = core.state.commit.max(mark.id.index);
    }
    if mark.id.index <= core.state.commit {
        return core.acknowledge(from, core.state.commit);
    }
    // Heard, and not there yet.
    let (prev, hint) = (mark.id, core.log.last());
    core.send(from, Says::Rejected { prev, hint });
    if core.fetching.as_ref().is_none_or(|it| it.id < mark.id) {
        core.fetching = Some(mark.clone());
        core.out.fetch = Some((from, mark));
    }
}

/// The contents of the snapshot are here, or not to be had.
pub(super) fn on_fetched(core: &mut Core, id: Option<EntryId>) {
    let is_it = |mark: &mut SnapshotMark| id.is_none_or(|id| id == mark.id);
    let Some(mark) = core.fetching.take_if(is_it).filter(|_| id.is_some()) else {
        return;
    };
    if mark.id.index <= core.state.commit {
        return;
    }
    let matched = mark.id.index;
    let has_it = core.log.has(mark.id);
    if matches!(core.role, Role::Leader(_)) {
        // What a snapshot is of is committed: it would not have been elected without.
        if !has_it {
            core.fault(QuorumFault::Overwritten(mark.id));
        }
        return;
    }
    match has_it {
        // The leader has sent it meanwhile. What follows may have been acknowledged: it has to stay.
        true => core.state.commit = matched,
        false => core.install(mark),
    }
    if let Role::Follower { leader: Some(to) } = core.role {
        core.send_when_durable(to, Says::Appended { matched });
    }
}
