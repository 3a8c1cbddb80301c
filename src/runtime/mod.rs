//! Drives [`Shard`](crate::broker::Shard) on a real machine: all of glommio, io_uring,
//! `unsafe`, clocks, files, sockets and threads. Nothing in here decides anything about
//! Kafka, so that it can be rewritten in days.
//!
//! `server` starts one `thread` per core; each runs one `pump`, which alone holds the
//! shard. `accept`, `receive`, `send` and `disk` act through its `ring`; `mesh` connects
//! the shards.

// This is where the real world is allowed.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod accept;
mod batch;
pub mod blocks;
mod budget;
pub mod conn;
pub mod device;
mod direct;
pub mod disk;
pub mod fatal;
pub mod frame;
mod lent;
pub mod logging;
pub mod mesh;
pub mod probe;
pub mod pump;
pub mod receive;
pub mod ring;
pub mod send;
pub mod server;
mod stalled;
mod stores;
pub mod sys;
mod thread;
mod turns;

pub use fatal::Fatal;
pub use server::{Server, Stopper};

// Under test the driver drives a fake shard, so that its own tests depend on nobody's.
#[cfg(not(test))]
use crate::broker as brain;
#[cfg(test)]
#[path = "fake.rs"]
mod brain;
