//! How far the replicas of the metadata log are, as their leader knows it.

use super::core::Role;
use super::entry::EntryIndex;
use super::replica::Quorum;
use super::voters::ReplicaKey;
use crate::base::{LeaderEpoch, Mono};

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaStanding {
    /// Which one.
    pub replica: ReplicaKey,
    /// The last entry that it is known to have; `None` if it has not said so in this term.
    pub last: Option<EntryIndex>,
    /// When it was heard of last.
    pub heard: Option<Mono>,
    /// When it had last all that the leader had then.
    pub caught_up: Option<Mono>,
}

/// What a leader knows of all replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Who leads.
    pub leader: ReplicaKey,
    /// In which term.
    pub term: LeaderEpoch,
    /// Up to here entries are committed.
    pub committed: EntryIndex,
    /// Those that have a vote, by node.
    pub voters: Vec<ReplicaStanding>,
    /// The others.
    pub observers: Vec<ReplicaStanding>,
}

impl Quorum {
    /// How far everybody is, if this replica leads.
    #[must_use]
    pub fn standing(&self, now: Mono) -> Option<Standing> {
        let core = self.core();
        let Role::Leader(it) = &core.role else {
            return None;
        };
        let of = |replica: ReplicaKey| {
            if replica == core.me {
                return ReplicaStanding {
                    replica,
                    last: Some(core.log.last().index),
                    heard: Some(now),
                    caught_up: Some(now),
                };
            }
            let peer = it.others.get(&replica);
            let answered = peer.filter(|peer| peer.matched > EntryIndex::ZERO);
            ReplicaStanding {
                replica,
                last: answered.map(|peer| peer.matched),
                heard: answered.map(|peer| peer.heard),
                caught_up: answered.and_then(|peer| peer.caught_up),
            }
        };
        let voters = core.log.voters();
        let others = it.others.keys().copied();
        Some(Standing {
            leader: core.me,
            term: core.term(),
            committed: core.state.commit,
            voters: voters.iter().map(of).collect(),
            observers: others
                .filter(|replica| !voters.contains(*replica))
                .map(of)
                .collect(),
        })
    }
}
