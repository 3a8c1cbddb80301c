//! Drives [`Shard`](crate::broker::Shard) on a real machine: all of glommio, io_uring,
//! `unsafe`, clocks, files, sockets and threads. Nothing in here decides anything about
//! Kafka, so that it can be rewritten in days.
//!
//! `server` starts one `thread` per core; each runs one `pump`, which alone holds the
//! shard. `accept`, `receive`, `send`, `link` and `disk` act through its `ring`; `mesh` connects
//! the shards.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is where the real world is allowed"
)]

pub mod accept;
mod arena;
mod available;
mod batch;
mod bind;
pub mod blocks;
mod brain;
mod budget;
mod cached;
pub mod conn;
pub mod device;
mod direct;
pub mod disk;
#[cfg(test)]
mod fake;
pub mod fatal;
pub mod frame;
pub mod hold;
mod http;
mod lent;
mod link;
mod log_line;
pub mod logging;
mod memory;
pub mod mesh;
mod notify;
pub mod probe;
mod process;
pub mod pump;
mod range;
mod readers;
pub mod receive;
mod report;
pub mod ring;
pub mod send;
pub mod server;
mod settings;
mod stalled;
pub mod stores;
pub mod sys;
mod tag;
mod thread;
mod turns;
pub mod version;

pub use fatal::Fatal;
pub use server::{Server, Stopper};
pub use settings::{Reloader, SettingsSource, warn_about_ignored};
