//! What the coordinator answers and wants done.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::consumer::ConsumerReply;
use super::streams::{InternalTopic, StreamsReply};
use crate::base::ErrorCode;
use crate::base::Name;
pub use crate::base::coordinating::Record;

/// Who commits in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionalProducer {
    /// TransactionalProducer id.
    pub id: i64,
    /// TransactionalProducer epoch.
    pub epoch: i16,
    /// Transactional id.
    pub transactional_id: Name,
    /// The partition becomes part of the transaction by the commit (transaction.version 2).
    pub adds: bool,
    /// It knows TRANSACTION_ABORTABLE (KIP-890, part 1).
    pub knows_abortable: bool,
}

/// The answer to a JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReply {
    /// Success or why not.
    pub error: ErrorCode,
    /// The generation joined, -1 on error.
    pub generation: i32,
    /// Protocol type of the group.
    pub protocol_type: Option<Name>,
    /// The protocol chosen for the generation.
    pub protocol: Option<Name>,
    /// Member id of the leader, empty on error.
    pub leader: Name,
    /// The leader need not compute an assignment (static leader that came back, v9).
    pub skip_assignment: bool,
    /// The member's id, perhaps a new one.
    pub member: Name,
    /// For the leader: everybody, with the metadata of the chosen protocol.
    pub members: Vec<JoinedMember>,
}

/// One line of the list that the leader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Member id.
    pub member: Name,
    /// `group.instance.id` of a static member.
    pub instance: Option<Name>,
    /// What it sent for the chosen protocol.
    pub metadata: Bytes,
}

impl JoinReply {
    /// A refusal.
    #[must_use]
    pub fn error(error: ErrorCode, member: Name) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: Name::from(""),
            skip_assignment: false,
            member,
            members: Vec::new(),
        }
    }
}

/// The answer to a SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReply {
    /// Success or why not.
    pub error: ErrorCode,
    /// Protocol type of the group.
    pub protocol_type: Option<Name>,
    /// The protocol of the generation.
    pub protocol: Option<Name>,
    /// The member's part, empty on error.
    pub assignment: Bytes,
}

impl SyncReply {
    /// A refusal.
    #[must_use]
    pub fn error(error: ErrorCode) -> Self {
        Self {
            error,
            protocol_type: None,
            protocol: None,
            assignment: Bytes::new(),
        }
    }
}

/// What became of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Its members are to join again, because of one that came, went or changed.
    Rebalances {
        /// Its generation so far.
        generation: i32,
    },
    /// Its members have their assignments.
    Stable {
        /// Its generation.
        generation: i32,
        /// How many they are.
        members: usize,
    },
    /// Its members have a new target, by the consumer protocol (KIP-848) or that of streams (KIP-1071).
    Assigns {
        /// The epoch of the group.
        epoch: i32,
        /// How many they are.
        members: usize,
    },
    /// The last member is gone.
    Empty,
    /// It is deleted, with its offsets.
    Deleted,
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rebalances { generation } => {
                write!(f, "rebalances after generation {generation}")
            }
            Self::Stable {
                generation,
                members,
            } => write!(
                f,
                "is stable in generation {generation} with {members} members"
            ),
            Self::Assigns { epoch, members } => {
                write!(f, "assigns in epoch {epoch} to {members} members")
            }
            Self::Empty => f.write_str("has no members any more"),
            Self::Deleted => f.write_str("is deleted"),
        }
    }
}

/// What the coordinator wants done.
#[derive(Debug)]
pub enum Effect {
    /// Answer the JoinGroup of this token.
    Joined(u64, JoinReply),
    /// Answer the SyncGroup of this token.
    Synced(u64, SyncReply),
    /// Answer the ConsumerGroupHeartbeat of this token.
    Heartbeat(u64, ConsumerReply),
    /// Answer the StreamsGroupHeartbeat of this token.
    StreamsHeartbeat(u64, StreamsReply),
    /// A streams group needs these topics: they are to be created, if they can be. If they are not it asks again.
    CreateTopics(Name, Vec<InternalTopic>),
    /// Something became of a group, for the log.
    News(Name, News),
    /// A consumer group is subscribed to more than it may be, and goes on with the target that it has.
    TooLarge(Name),
    /// The write that the request of this token waits for ended.
    Written(u64, ErrorCode),
    /// Append these records as one batch to the coordinator's partition of `__consumer_offsets`, then call
    /// [`Coordinator::appended`](super::Coordinator::appended) with the number.
    Append {
        /// Number of the append.
        append: u64,
        /// At least one.
        records: Arc<[Record]>,
        /// In a transaction of this one.
        producer: Option<TransactionalProducer>,
    },
}
