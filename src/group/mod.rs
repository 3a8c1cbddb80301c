//! The group coordinator: membership of classic consumer groups and committed
//! offsets, as pure state machines over the records of `__consumer_offsets`.
//!
//! [`Coordinator`] owns the groups of one partition, the timers and the appends in flight: `coordinator.rs` takes
//! the requests of members, `writes.rs` those that write, `cleanup.rs` deletes what nobody needs, `replay.rs` takes the
//! records, `snapshot.rs` gives those that are still valid. [`ClassicGroup`] is one group: `join.rs` lets members in,
//! `rebalance.rs` moves it from generation to generation, `telling.rs` tells its members, `subscribed.rs` finds their
//! topics, `classic.rs` keeps the books, `persist.rs` makes a record of it. `records.rs` knows Kafka's formats. Nothing
//! here knows the wire: requests come as plain values with a token, and answers leave as [`Effect`]s with that token.
//!
//! What is durable and what is not: committed offsets change only by replaying records that are durable, at start and
//! at run time alike; what is on its way, however long, counts for decisions. Membership is soft state; its record is
//! written when a generation becomes stable (and when a group becomes empty), and the members get their assignment only
//! after it is durable.

pub mod classic;
mod cleanup;
pub mod coordinator;
mod cx;
mod effect;
mod fields;
mod invariants;
pub mod join;
pub mod member;
mod name;
pub mod offsets;
mod persist;
mod progress;
pub mod rebalance;
pub mod records;
mod replay;
mod snapshot;
pub mod state;
mod subscribed;
mod telling;
pub mod writes;

#[cfg(test)]
mod bounds_test;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod protocol_test;
#[cfg(test)]
pub(crate) mod testing;

pub use classic::ClassicGroup;
pub use coordinator::{Coordinator, GroupsUsage};
pub(crate) use cx::{Cx, Forget, Then, Timer};
pub use cx::{GroupConfig, NEW_MEMBER_JOIN_TIMEOUT_MS};
pub use effect::{Effect, JoinReply, JoinedMember, Record, SyncReply};
pub use member::{Member, Protocol};
pub use name::{Name, name};
pub use offsets::{Committed, GroupOffsets, OffsetToCommit, TopicIds};
pub use progress::SnapshotPart;
pub use state::State;

use crate::base::ErrorCode;

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
