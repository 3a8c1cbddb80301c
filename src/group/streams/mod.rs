//! Streams groups (KIP-1071), whose tasks the coordinator assigns: members say in heartbeats what the topology of their
//! application is and which tasks they have, and are told which are theirs.
//!
//! `topology.rs` has what an application says of itself, and `configure.rs` what that comes to with the topics that
//! there are. `state.rs` has what is known of a group, and changes by the records of `change.rs` alone, which
//! `records.rs` reads and writes. `group.rs` takes what is asked (`heartbeat.rs`) in turns (`turn.rs`), of whom
//! `fences.rs` lets ask; members come, go and take their steps in `comings.rs`; `assign.rs` makes a new target;
//! `reconcile.rs` brings a member to it, step by step. `tasks.rs` are sets of tasks, `cx.rs` what goes in and out. What
//! is the same as in groups of the consumer protocol is theirs: sets of partitions, changes that can be taken back,
//! timers.

mod assign;
mod change;
mod comings;
mod configure;
mod cx;
mod fences;
mod group;
mod heartbeat;
mod member;
mod reconcile;
pub mod records;
mod state;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
mod topology;
mod turn;

pub use change::{StreamsChange, StreamsEpoch};
pub use configure::{Configured, ConfiguredSubtopology, StreamsStatus};
pub use cx::{StreamsConfig, StreamsCx, StreamsOut};
pub use group::{StreamsGroup, StreamsGroupState};
pub use heartbeat::{EndpointPartitions, StreamsHeartbeat, StreamsReply};
pub use member::{StreamsCurrent, StreamsMember, UserEndpoint};
pub use state::StreamsState;
pub use tasks::{HeldTasks, TaskSet, Tasks};
pub use topology::{CopartitionGroup, InternalTopic, Subtopology, Topology};
