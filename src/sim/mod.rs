//! The simulator: the second driver of [`Shard`](crate::broker::Shard). A whole
//! node with its disks, its network and its clients runs in virtual time from one
//! seed, and everything goes wrong that may: crashes that tear writes, disks that
//! fail, connections that are cut, clocks that jump, restarts with more or fewer
//! shards. Named invariants judge all that the clients see.
//!
//! - [`plan`]: everything that a seed chooses in advance;
//! - [`disk`], [`queue`], [`net`], [`node`]: the world around the shards;
//! - [`clients`]: who uses the node;
//! - [`oracle`], [`invariants`]: who judges;
//! - [`world`]: the loop that runs it all.
//!
//! `millrace-sim --seed S` replays a run exactly.

pub mod clients;
pub mod disk;
pub mod invariants;
pub mod net;
pub mod oracle;
pub mod queue;
pub mod trace;
pub mod values;

pub use oracle::Violation;
