//! The group coordinator: membership of classic consumer groups and committed
//! offsets, as pure state machines over the records of `__consumer_offsets`.
//!
//! [`Coordinator`] owns the groups of one partition, the timers and the appends in flight: `coordinator.rs` takes
//! the requests of members, `writes.rs` those that write, `cleanup.rs` deletes what nobody needs, `replay.rs` takes the
//! records, `snapshot.rs` gives those that are still valid. [`ClassicGroup`] is one group: `join.rs` lets members in,
//! `rebalance.rs` moves it from generation to generation, `telling.rs` tells its members, `subscribed.rs` finds their
//! topics, `classic.rs` keeps the books, `persist.rs` makes a record of it. `transactions.rs` has what is committed in
//! transactions, as long as they are not over in `pending.rs`. Groups of the consumer protocol are in `consumer/`, and
//! beside the classic ones by `consumers.rs`; streams groups in `streams/`, and beside the others by
//! `streams_groups.rs`. `records.rs` knows Kafka's formats. Nothing here knows
//! the wire: requests come as plain values with a token, and answers leave as [`Effect`]s with that token.
//!
//! What is durable and what is not: committed offsets change only by replaying records that are durable, at start and
//! at run time alike; what is on its way, however long, counts for decisions. Membership is soft state; its record is
//! written when a generation becomes stable (and when a group becomes empty), and the members get their assignment only
//! after it is durable.

pub mod classic;
mod cleanup;
pub mod consumer;
mod consumers;
pub mod coordinator;
mod cx;
mod effect;
mod invariants;
pub mod join;
mod logged;
pub mod member;
pub mod offsets;
mod pending;
mod persist;
mod progress;
pub mod rebalance;
pub mod records;
mod replay;
mod snapshot;
pub mod state;
pub mod streams;
mod streams_groups;
mod subscribed;
mod telling;
mod transactions;
pub mod writes;

#[cfg(test)]
mod bounds_test;
#[cfg(test)]
mod consumer_crowd_test;
#[cfg(test)]
mod consumer_large_test;
#[cfg(test)]
mod consumer_model_test;
#[cfg(test)]
mod consumer_protocol_test;
#[cfg(test)]
pub(crate) mod consumer_testing;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod protocol_test;
#[cfg(test)]
mod streams_model_test;
#[cfg(test)]
mod streams_protocol_test;
#[cfg(test)]
pub(crate) mod streams_testing;
#[cfg(test)]
pub(crate) mod testing;

pub use classic::ClassicGroup;
pub use consumer::{ConsumerConfig, ConsumerHeartbeat, ConsumerReply, GroupTopics, NoTopics};
pub use consumers::ShownGroup;
pub use coordinator::{Coordinator, GroupsUsage};
pub(crate) use cx::{Cx, Forget, Then, Timer};
pub use cx::{GroupConfig, NEW_MEMBER_JOIN_TIMEOUT_MS, OwnSettings};
pub use effect::{Effect, JoinReply, JoinedMember, News, Record, SyncReply, TransactionalProducer};
pub use logged::Replayed;
pub use member::{Member, Protocol};
pub use offsets::{Committed, GroupOffsets, OffsetToCommit, TopicIds};
pub use progress::SnapshotPart;
pub use state::State;
pub use streams::{StreamsConfig, StreamsHeartbeat, StreamsReply};

pub use crate::base::coordinating::{client_error, partition_for};
pub use crate::base::{Name, name};
