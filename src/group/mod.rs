//! The group coordinator: membership of classic consumer groups and committed
//! offsets, as pure state machines over the records of `__consumer_offsets`.
//!
//! [`Coordinator`] owns the groups of one partition, the timers and the appends in flight: `coordinator.rs` takes
//! the requests of members, `writes.rs` those that write, `replay.rs` the records, `snapshot.rs` gives those that are
//! still valid. [`ClassicGroup`] is one group: `join.rs` lets members in, `rebalance.rs` moves it from
//! generation to generation, `classic.rs` keeps the books, `persist.rs` makes a record of it. `records.rs`
//! knows Kafka's formats. Nothing here knows the wire: requests come as plain values with a token, and
//! answers leave as [`Effect`]s with that token.
//!
//! What is durable and what is not: committed offsets change only by replaying
//! records that are durable, at start and at run time alike. Membership is soft
//! state; its record is written when a generation becomes stable (and when a group
//! becomes empty), and the members get their assignment only after it is durable.

pub mod classic;
pub mod coordinator;
mod fields;
mod invariants;
pub mod join;
pub mod member;
pub mod offsets;
mod persist;
pub mod rebalance;
pub mod records;
mod replay;
mod snapshot;
pub mod state;
pub mod writes;

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod protocol_test;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{ErrorCode, Now, Timers, limits};
pub use classic::ClassicGroup;
pub use coordinator::Coordinator;
pub use member::{Member, Protocol};
pub use offsets::{Committed, GroupOffsets, OffsetToCommit};
pub use state::State;

/// An id or name that several tables share: group, member, instance, topic, protocol.
pub type Name = Arc<str>;

/// A name; all empty ones share one, since most metadata of offsets is empty.
#[must_use]
pub fn name(text: &str) -> Name {
    match text {
        "" => Name::default(),
        _ => Name::from(text),
    }
}

/// A record of `__consumer_offsets`: key and value, no value for a tombstone.
pub type Record = (Bytes, Option<Bytes>);

/// How long a new member may take until its first rebalance ends, whatever its session timeout.
pub const NEW_MEMBER_JOIN_TIMEOUT_MS: u64 = 5 * 60 * 1000;

/// The settings of Kafka that the coordinator obeys.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: u64,
    /// `group.max.size`, members
    pub max_size: usize,
    /// Groups of one partition; further ones get COORDINATOR_NOT_AVAILABLE
    pub groups_max: usize,
    /// `offsets.retention.minutes`, in ms
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: u64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX as usize,
            groups_max: limits::GROUPS_MAX,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1000,
            offsets_retention_check_interval_ms: 10 * 60 * 1000,
        }
    }
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

/// What the coordinator wants done.
#[derive(Debug)]
pub enum Effect {
    /// Answer the JoinGroup of this token.
    Joined(u64, JoinReply),
    /// Answer the SyncGroup of this token.
    Synced(u64, SyncReply),
    /// The write that the request of this token waits for ended.
    Written(u64, ErrorCode),
    /// Append these records as one batch to the coordinator's partition of `__consumer_offsets`, then call
    /// [`Coordinator::appended`] with the number.
    Append {
        /// Number of the append.
        append: u64,
        /// At least one.
        records: Arc<[Record]>,
    },
}

/// What is to happen when an append ends.
#[derive(Debug)]
pub(crate) enum Then {
    /// Nothing: the record describes a state that the group is in already.
    Nothing,
    /// The members of this generation get their assignments.
    Assign(i32, BTreeMap<Name, Bytes>),
    /// A static member came back under this id: its join is answered.
    StaticMember(Name, StaticReply),
    /// Replay the records, then answer the token, if there is one.
    Replay(Option<u64>),
    /// The group is being deleted: as `Replay`, and a failure makes it usable again.
    Delete(Option<u64>),
}

/// How a static member that came back is answered once its new id is durable.
#[derive(Debug)]
pub(crate) struct StaticReply {
    /// Generation at the time; another one by then means that a rebalance answers instead.
    pub generation: i32,
    /// The client knows `skip_assignment` (v9).
    pub may_skip: bool,
    /// The leader before the id changed: what older clients are told, so that none takes itself for the leader.
    pub old_leader: Name,
}

/// A timer of the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Session of a member, or of a member id that was handed out and not used yet.
    Session(Name, Name),
    /// The join phase of a group ends.
    Join(Name),
    /// The sync phase of a group ends.
    Sync(Name),
    /// Look for expired offsets.
    Expiry,
}

/// Appends that are on their way, by number.
#[derive(Debug, Default)]
pub(crate) struct Appends {
    next: u64,
    pub in_flight: BTreeMap<u64, InFlight>,
}

/// One append on its way.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub group: Name,
    pub records: Arc<[Record]>,
    pub then: Then,
}

/// What a group needs from the coordinator while it handles one event.
pub(crate) struct Cx<'a> {
    pub now: Now,
    pub config: &'a GroupConfig,
    pub timers: &'a mut Timers<Timer>,
    pub appends: &'a mut Appends,
    pub out: &'a mut Vec<Effect>,
}

impl Cx<'_> {
    pub(crate) fn append(&mut self, group: &Name, records: Vec<Record>, then: Then) {
        let records: Arc<[Record]> = records.into();
        let append = self.appends.next;
        self.appends.next += 1;
        let in_flight = InFlight {
            group: group.clone(),
            records: Arc::clone(&records),
            then,
        };
        self.appends.in_flight.insert(append, in_flight);
        self.out.push(Effect::Append { append, records });
    }

    pub(crate) fn joined(&mut self, token: u64, reply: JoinReply) {
        self.out.push(Effect::Joined(token, reply));
    }

    pub(crate) fn synced(&mut self, token: u64, reply: SyncReply) {
        self.out.push(Effect::Synced(token, reply));
    }

    pub(crate) fn after(&mut self, timer: Timer, ms: u64) {
        self.timers.set(timer, self.now.mono.plus_ms(ms));
    }
}

/// The partition of `__consumer_offsets` that holds a group: Java's `String.hashCode` over UTF-16
/// units, its absolute value (0 for the one that has none), modulo the number of partitions.
#[must_use]
pub fn partition_for(group: &str, partitions: i32) -> i32 {
    let hash = group.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

/// What Kafka tells clients when an append of the coordinator fails with `error`.
#[must_use]
pub fn client_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => ErrorCode::UnknownServerError,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_those_of_java() {
        // "test".hashCode() == 3556498, "console-consumer-1".hashCode() is negative in Java.
        assert_eq!(partition_for("test", 50), 3_556_498 % 50);
        assert_eq!(partition_for("", 50), 0);
        // hashCode() == Integer.MIN_VALUE, which has no absolute value.
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        // Surrogate pairs count as two units: U+1F600 is d83d de00.
        assert_eq!(partition_for("\u{1F600}", 1 << 30), 0xd83d * 31 + 0xde00);
    }
}
