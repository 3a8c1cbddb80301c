//! [`Shard`]: the brain of one core. One file per family of requests turns wire
//! requests into calls on the state machines and their effects into outputs.

pub mod groups;
pub mod admin;
pub mod io;
pub mod msg;

pub use io::*;
pub use msg::*;
