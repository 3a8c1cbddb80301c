//! The group APIs: turns requests of the wire into calls on the coordinator and
//! its effects into reply frames. Lives on shard 0.
//!
//! `service.rs` has the service, `call.rs` what goes in and out of it, `offsets.rs` commits, `find.rs`
//! FindCoordinator, `members.rs` what members send, `describe.rs` what tools ask; `super::apis` lists them with keys
//! and versions.
//!
//! Deviation from Kafka: LeaveGroup is answered when the members are gone from the
//! group, not when a record says so; after a crash such members end with their session.

mod answers;
mod call;
mod describe;
mod find;
mod members;
mod offsets;
mod service;
#[cfg(test)]
mod tests;

pub use call::{
    Call, GroupEffect, NodeInfo, OFFSETS_TOPIC, TopicInfo, TopicLookup, needs_offsets_topic,
};
pub use describe::no_groups;
pub(super) use service::GroupHandler;
pub use service::GroupService;
