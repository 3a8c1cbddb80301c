//! One partition's role on this node, and what follows from it: how far its records are committed, which appends it
//! takes, and who waits for what. No other part knows. A node leads every partition that it serves. Pure: it is told
//! what is durable where, and the log keeps the marks.
//!
//! - `in_sync` who has to have a record until it is committed;
//! - `waits` who waits for a mark of the log;
//! - `leader` the two together.

mod in_sync;
mod leader;
#[cfg(test)]
mod model_tests;
mod waits;

pub use leader::{Leader, Mark};
