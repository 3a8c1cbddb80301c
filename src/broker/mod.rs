//! [`Shard`]: the brain of one core. A room for each family of requests turns wire
//! requests into calls on the state machines and their effects into outputs.

#[cfg(test)]
mod ack_tests;
pub mod admin;
pub mod apis;
mod cleaner;
mod control;
#[cfg(test)]
mod cost_tests;
mod data;
#[cfg(test)]
mod decision_tests;
mod explain;
pub mod fatal;
#[cfg(test)]
mod fetch_tests;
mod front;
mod fx;
#[cfg(test)]
mod group_tests;
mod groups;
mod io;
mod jobs;
#[cfg(test)]
mod listing_tests;
mod listings;
#[cfg(test)]
mod marker_tests;
pub mod metrics;
mod msg;
mod other_nodes;
mod own;
mod owner;
#[cfg(test)]
mod peer_tests;
pub mod peers;
#[cfg(test)]
mod query_tests;
mod rare_log;
mod replicas;
#[cfg(test)]
mod request_tests;
mod requests;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod settings_tests;
mod shard;
#[cfg(test)]
mod slice_tests;
#[cfg(test)]
mod testing;
pub mod trace;
#[cfg(test)]
mod transaction_tests;
#[cfg(test)]
mod transactional_tests;
mod txn;

pub use control::MetadataStatus;
pub use control::offline::{MetadataReader, metadata_batch, metadata_label};
pub use io::*;
pub use msg::*;
pub use owner::stores::{StoreSlot, format_store, open_store};
pub use peers::{ClusterSetup, PeerAddress};
pub use replicas::said::{ReplicaSaid, ReplicaWhat};
pub use shard::{Shard, ShardSetup};
