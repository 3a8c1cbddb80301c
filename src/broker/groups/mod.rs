//! The group APIs. `plan.rs`: what a request asks the coordinators of its groups, and what is made of their answers;
//! `commits.rs`, `transactional.rs`, `offsets.rs`, `members.rs`, `consumers.rs`, `streams.rs`, `describe.rs` have them;
//! `find.rs` is FindCoordinator, which the image answers. `front.rs` asks the shards that own the partitions of the
//! groups (`topic.rs`) and waits for all of them; `host.rs` is such a shard's part, with `load.rs` for what was there
//! before, `snapshots.rs` for what is written once more, `early.rs` for what came by metadata that it is still to serve
//! by, `own_settings.rs` for settings of single groups, and `refusals.rs` for commits in transactions that groups
//! refuse. `super::apis` lists keys and versions.
//!
//! Deviation from Kafka: LeaveGroup is answered when the members are gone from the
//! group, not when a record says so; after a crash such members end with their session.

mod answers;
mod commits;
mod consumers;
mod describe;
mod early;
mod find;
pub mod front;
pub mod host;
pub mod load;
mod members;
mod offsets;
mod own_settings;
mod plan;
mod refusals;
mod snapshots;
mod streams;
#[cfg(test)]
mod tests;
mod topic;
mod transactional;

pub use commits::offset_commit;
pub use consumers::{consumer_group_describe, consumer_group_heartbeat};
pub use describe::{delete_groups, describe_groups, list_groups};
pub use find::{create_coordinators, find_after_creation, find_coordinator};
pub use members::{heartbeat, join_group, leave_group, sync_group};
pub use offsets::{offset_delete, offset_fetch};
pub use plan::{MakeResponse, Planner, name};
pub use streams::{streams_group_describe, streams_group_heartbeat};
pub use topic::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC, of_transaction};
pub use transactional::txn_offset_commit;
