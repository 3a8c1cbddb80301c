//! The simulator: the second driver of [`Shard`](crate::broker::Shard). Whole
//! nodes with their disks, their network and their clients run in virtual time from one
//! seed, and everything goes wrong that may: crashes that tear writes, disks that
//! fail, connections that are cut, clocks that jump, restarts with more or fewer
//! shards. Named invariants judge all that the clients see.
//!
//! - [`plan`]: everything that a seed chooses in advance;
//! - [`queue`], [`clock`], [`net`], [`links`]: time, the network between all machines, and who has dialled whom;
//! - [`node`], [`disk`], [`conns`]: what belongs to one machine;
//! - [`clients`]: who uses the node;
//! - [`fact`], [`oracle`], [`invariants`]: what becomes known, and who judges;
//! - [`what`], [`trace`], [`counts`]: what happened, and what never did;
//! - [`world`]: the loop that runs it all;
//! - `messages`: pure machines that only exchange messages, in tests.
//!
//! `millrace-sim --seed S` replays a run exactly.

pub mod clients;
pub mod clock;
pub mod committed;
pub mod conns;
pub mod counts;
pub mod disk;
pub mod fact;
pub mod invariants;
pub mod links;
#[cfg(test)]
mod messages;
pub mod net;
pub mod node;
pub mod oracle;
pub mod plan;
pub mod queue;
mod reigns;
#[cfg(test)]
mod tests;
pub mod trace;
pub mod values;
pub mod what;
pub mod world;

pub use counts::Counts;
pub use oracle::Violation;
pub use plan::{Options, Plan, Shape};
pub use world::{Outcome, run};
