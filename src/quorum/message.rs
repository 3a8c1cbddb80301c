//! What replicas tell each other.

use super::entry::{EntryId, EntryIndex, QuorumEntry, SnapshotMark};
use super::voters::ReplicaKey;
use crate::base::LeaderEpoch;

/// Places beyond are refused: sums of a few must not overflow.
const INDEX_MAX: u64 = 1 << 60;

/// A message of one replica to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumMessage {
    /// Who says it.
    pub from: ReplicaKey,
    /// To whom: a replica that is not this one any more, because its store was made anew, does not take it.
    pub to: ReplicaKey,
    /// The sender's term; of a vote that is only asked about, the one that there would be.
    pub term: LeaderEpoch,
    /// What it says.
    pub says: Says,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// Asks for a vote, or whether there would be one.
    Vote(Vote),
    /// The answer to it.
    Voted {
        /// Whether it was only asked about.
        pre: bool,
        /// Whether there is one.
        granted: bool,
    },
    /// A leader sends what follows an entry; nothing, to be heard of and to ask whether the receiver has that entry.
    Append {
        /// The entry before them.
        prev: EntryId,
        /// What follows it.
        entries: Vec<QuorumEntry>,
        /// Up to here entries are committed.
        commit: EntryIndex,
    },
    /// A follower has the leader's log up to here on its disk.
    Appended {
        /// The last entry of which that is known.
        matched: EntryIndex,
    },
    /// A follower does not have the entry before those that it was sent.
    Rejected {
        /// That one.
        prev: EntryId,
        /// The last entry that it has and that may be the leader's too.
        hint: EntryId,
    },
    /// A leader has cut off what a follower lacks: there is this snapshot instead. Its contents are fetched apart.
    Offer(SnapshotMark),
    /// A leader that is about to stop asks the receiver to be elected at once.
    Elect,
}

/// A request for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// It is only asked whether there would be one: nobody's term changes (pre-vote, section 9.6 of Ongaro's thesis).
    pub pre: bool,
    /// The leader has asked for it: that somebody hears the leader is no reason against it.
    pub by_leader: bool,
    /// The last entry of who asks.
    pub last: EntryId,
}

impl QuorumMessage {
    /// Whether a replica can have said this: entries follow each other, and nothing is of a term that the sender has
    /// not heard of.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let is_known = |id: EntryId| {
            (LeaderEpoch(0)..=self.term).contains(&id.term)
                && id.index.0 <= INDEX_MAX
                && (id.term.0 > 0 || id.index.0 == 0)
        };
        let follow = |prev: EntryId, entries: &[QuorumEntry]| {
            let mut last = prev;
            is_known(prev)
                && entries.iter().all(|entry| {
                    let before = std::mem::replace(&mut last, entry.id);
                    entry.id.index == before.index.next()
                        && entry.id.term >= before.term
                        && is_known(entry.id)
                })
        };
        self.term.0 >= 0
            && match &self.says {
                Says::Vote(vote) => self.term.0 > 0 && is_known(vote.last),
                Says::Voted { .. } | Says::Elect => self.term.0 > 0,
                Says::Append {
                    prev,
                    entries,
                    commit,
                } => self.term.0 > 0 && commit.0 <= INDEX_MAX && follow(*prev, entries),
                Says::Appended { matched } => matched.0 <= INDEX_MAX,
                Says::Rejected { prev, hint } => is_known(*prev) && is_known(*hint),
                Says::Offer(mark) => self.term.0 > 0 && is_known(mark.id),
            }
    }
}
