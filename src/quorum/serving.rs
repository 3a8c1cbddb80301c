//! What a voter does for observers: committed entries as they come, or a snapshot.

use super::core::Core;
use super::entry::{EntryId, EntryIndex};
use super::message::Says;
use super::voters::ReplicaKey;
use crate::base::limits::QUORUM_OBSERVERS_WAITING_MAX;

/// An observer asks for what follows an entry.
pub(super) fn on_pull(core: &mut Core, from: ReplicaKey, last: EntryId) {
    if last.index < core.log.before().index {
        let mark = core.log.snapshot().clone();
        return core.send(from, Says::Outdated(mark));
    }
    let waits = last.index >= end(core);
    if waits && core.observers.len() < QUORUM_OBSERVERS_WAITING_MAX {
        core.observers.insert(from, last);
    } else {
        core.observers.remove(&from);
        answer(core, from, last);
    }
}

/// There are more committed entries: whoever waits for them gets them.
pub(super) fn answer_all(core: &mut Core) {
    let end = end(core);
    let waiting = std::mem::take(&mut core.observers);
    for (from, last) in waiting {
        match last.index < end {
            true => answer(core, from, last),
            false => _ = core.observers.insert(from, last),
        }
    }
}

/// What observers may have: what was handed out here as well.
fn end(core: &Core) -> EntryIndex {
    #[cfg(test)]
    if core.config.flaw == Some(super::flaw::Flaw::ServesUncommitted) {
        return core.log.last().index;
    }
    core.handed
}

fn answer(core: &mut Core, to: ReplicaKey, last: EntryId) {
    let end = end(core);
    // What the observer has is in this log too, if this one is as far.
    let prev = core.log.id(last.index.min(end)).unwrap_or(last);
    let pulled = Says::Pulled {
        leader: core.leader(),
        prev,
        entries: core
            .log
            .read(prev.index.next(), end, core.config.append_bytes),
    };
    core.send(to, pulled);
}
