//! One partition's role on this node, and what follows from it: how far its records are committed, which appends it
//! takes, and who waits for what. No other part knows. Pure: it is told what is durable where, and the log keeps the
//! marks.
//!
//! - `in_sync` who has to have a record until it is committed;
//! - `waits` who waits for a mark of the log;
//! - `leader` the two together;
//! - `follower` what a follower cuts off and appends, `term` between whom something is said;
//! - `following` a follower's log.

mod follower;
mod following;
#[cfg(test)]
mod following_tests;
mod in_sync;
mod leader;
#[cfg(test)]
mod model_tests;
mod term;
mod waits;

pub use follower::{Compared, EpochEnd, Follower, Pushed};
pub use following::{
    FollowerNext, FollowerStep, FollowerStopped, Following, Here, LeaderLog, OnDisk, Push,
};
pub use in_sync::InSync;
pub use leader::{Leader, Mark};
pub use term::Term;
