//! [`Shard`]: the brain of one core. One file per family of requests turns wire
//! requests into calls on the state machines and their effects into outputs.

mod ack;
pub mod admin;
pub mod apis;
mod conns;
mod control;
mod control_compact;
mod control_groups;
mod control_load;
mod control_room;
#[cfg(test)]
mod cost_tests;
mod explain;
pub mod fatal;
mod fetch;
mod fetch_session;
mod front;
mod fx;
pub mod groups;
mod io;
mod log_dirs;
mod msg;
mod openings;
mod order;
mod owner;
#[cfg(test)]
mod owner_tests;
mod produce;
mod query;
mod reads;
#[cfg(test)]
mod room_tests;
mod run;
mod settings;
mod shard;
mod stores;
#[cfg(test)]
mod testing;
pub mod trace;
mod unserved;
mod validation;
mod watch;

pub use io::*;
pub use msg::*;
pub use shard::{Shard, ShardSetup};
pub use stores::{StoreSlot, format_store, open_store};
