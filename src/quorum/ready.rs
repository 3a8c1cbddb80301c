//! What a replica is told, and what it wants done.

use std::fmt;

use super::entry::{EntryId, EntryIndex, HardState, QuorumEntry, SnapshotMark};
use super::message::QuorumMessage;
use super::voters::ReplicaKey;
use crate::base::LeaderEpoch;

/// What a replica is told.
#[derive(Clone, Debug)]
pub enum QuorumInput {
    /// Time has passed: due at [`Quorum::wake_at`](super::Quorum::wake_at), harmless before.
    Time,
    /// Somebody says something.
    Message(QuorumMessage),
    /// A replica that may have no vote is there, or not any more: whoever leads sends it the log.
    Observer(ReplicaKey, bool),
    /// All writes up to the one with this number are on the disk.
    Durable(u64),
    /// Somebody is known to be gone, say because the host refuses connections: silence need not be waited for.
    Gone(ReplicaKey),
    /// The process of this replica did not run for so many ms before now: in that time nobody could be heard.
    StoodStill(u64),
    /// Silence of so many ms is nothing unusual among those that a majority takes, and of who leads. Less than
    /// `election_ms` counts as that.
    Patience(u64),
    /// This replica has a snapshot on its disk of all that was handed out as committed up to here: what is before it
    /// may be forgotten.
    Snapshotted(EntryIndex),
    /// The contents of the snapshot that was to be fetched are complete, and become the current ones with the write
    /// that says so. `None`: they cannot be had.
    Fetched(Option<EntryId>),
    /// This replica is about to stop: if it leads, somebody else should.
    Resign,
}

/// What a replica wants done, in the order of the fields. A driver may do more at a time, but not in another order.
#[derive(Debug, Default)]
pub struct Ready {
    /// May leave at once.
    pub messages: Vec<QuorumMessage>,
    /// To be made durable, as a whole and behind all that was given before. Its number comes back as
    /// [`QuorumInput::Durable`].
    pub write: Option<Write>,
    /// May leave when all writes so far are durable, and not at all if the process ends before.
    pub messages_when_durable: Vec<QuorumMessage>,
    /// A snapshot that was written is durable, and takes the place of all that was handed out before.
    pub installed: Option<SnapshotMark>,
    /// Entries that are committed, and on this disk: each once, in their order.
    pub committed: Vec<QuorumEntry>,
    /// There are more of them: to be called again before long.
    pub more: bool,
    /// What this replica is now, if it was something else.
    pub role: Option<QuorumRole>,
    /// The contents of this snapshot are to be fetched from somebody. One that was wanted before is not any more.
    pub fetch: Option<(ReplicaKey, SnapshotMark)>,
    /// The log has become long: a snapshot should be made of all that was handed out, which is this. Nothing else says
    /// who has a vote behind it: the newest voters may not be committed.
    pub snapshot_wanted: Option<SnapshotMark>,
    /// What became of a change of the voters: the entry that says it, which may still have to be committed.
    pub changed: Option<(VoterChange, Result<EntryId, Declined>)>,
    /// Of who leads: the entry that says who has a vote is committed, though perhaps not on this disk yet.
    pub voters_committed: Option<EntryId>,
    /// Something that cannot be: somebody has forgotten what it had promised. The metadata is not to be trusted.
    pub fault: Option<QuorumFault>,
}

/// A change of the voters (KIP-853), one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoterChange {
    /// A replica gets a vote, when it has caught up.
    Add(ReplicaKey),
    /// One has none any more.
    Remove(ReplicaKey),
}

/// What one flush makes durable. On the disk an entry is a batch of the metadata log whose leader epoch is its term,
/// and the state stands beside them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// Its number: one more than that of the one before.
    pub number: u64,
    /// The fetched contents take the place of all entries, and these are then the first to follow.
    pub snapshot: Option<SnapshotMark>,
    /// Entries from this place on are cut off; nothing of them was ever committed.
    pub truncate: Option<EntryIndex>,
    /// Entries to be appended then.
    pub entries: Vec<QuorumEntry>,
    /// The state from then on.
    pub state: HardState,
}

/// What a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumRole {
    /// It follows a leader, or waits for one.
    Follower {
        /// Its newest term.
        term: LeaderEpoch,
        /// Who leads in it, as far as it is known.
        leader: Option<ReplicaKey>,
    },
    /// It leads, and has handed out everything that was committed before.
    Leader {
        /// In which term.
        term: LeaderEpoch,
    },
}

/// Why a proposal is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// This replica does not lead, not yet, or not for long any more.
    NotLeader {
        /// Who does, as far as it is known.
        leader: Option<ReplicaKey>,
    },
    /// It is larger than an entry may be.
    TooLarge,
    /// Too much is not committed yet, or the log has to be cut first.
    Full,
    /// Another change of the voters is not over.
    Changing,
    /// There would be no voters, too many, or two of one node; or that one has a vote already, or has none.
    BadVoters,
    /// A new voter did not catch up in time.
    TooSlow,
    /// Of those that would be left too few are heard to be a majority: nothing more could be decided, not even that
    /// this one has a vote again.
    LosesMajority,
}

/// What cannot be as long as every replica remembers what it has promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumFault {
    /// Two replicas lead in one term.
    TwoLeaders(LeaderEpoch),
    /// A leader sends another entry than the committed one.
    Overwritten(EntryId),
}

impl fmt::Display for QuorumFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = |id: &EntryId| format!("entry {} of term {}", id.index, id.term);
        match self {
            Self::TwoLeaders(term) => write!(f, "two controllers lead in term {term}"),
            Self::Overwritten(id) => {
                write!(
                    f,
                    "the leader would overwrite what is committed: {}",
                    entry(id)
                )
            }
        }
    }
}
