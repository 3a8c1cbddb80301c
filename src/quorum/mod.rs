//! The metadata quorum: a log that a majority of voters agrees on, whichever of them stop or are cut off. Raft
//! (Ongaro's thesis) with pre-vote, check-quorum, snapshots and changes of one voter at a time, as Kafka's KRaft has
//! it (KIP-595, KIP-630, KIP-853, KIP-996); what an entry says is nobody's business in here.
//!
//! Pure: a driver tells a replica what happens ([`QuorumInput`]), and does what it wants, in the order in which
//! [`Ready`] lists it. A replica without a vote is an observer: it follows whoever leads as the voters do, and nothing
//! waits for it (a learner, in Raft's words).
//!
//! - `forming` how it begins;
//! - `voters` who has a vote; `entry` what the log consists of; `message` what is said; `ready` what goes in and out;
//! - `log` the entries in memory; `progress` how far another replica is;
//! - `core` what a replica is at, whatever its role: term, vote, log, and what is on its way to the disk;
//! - `election`, `leading`, `following` what it does: as a candidate, a leader, a follower;
//! - `describing` how far all of them are;
//! - `replica` all of it; `codec` messages as bytes, `stored` what is on the disk.
//!
//! The model of it, with everything that may go wrong, is `sim/messages/quorum`.

#[cfg(test)]
mod changes_tests;
mod codec;
mod config;
mod core;
mod describing;
mod election;
mod entry;
#[cfg(test)]
mod flaw;
mod following;
mod forming;
mod leading;
mod log;
mod message;
mod progress;
#[cfg(test)]
mod quorum_tests;
mod ready;
mod replica;
mod seated;
mod stored;
#[cfg(test)]
mod testing;
mod voters;

pub use codec::BadQuorumMessage;
pub use config::QuorumConfig;
pub use describing::{ReplicaStanding, Standing};
pub use entry::{EntryId, EntryIndex, HardState, Payload, QuorumEntry, SnapshotMark};
#[cfg(test)]
pub(crate) use flaw::Flaw;
pub use forming::{Formed, Forming, FormingError, Knows, Seat, Sitting, WaitsFor, forming};
pub use log::RestoreError;
pub use message::{QuorumMessage, Says, Vote};
pub use ready::{Declined, QuorumFault, QuorumInput, QuorumRole, Ready, VoterChange, Write};
pub use replica::{Quorum, Restored};
pub use voters::{ReplicaKey, Voters};
