//! What is driven: the broker's shards. Under test it is fake ones, so that the driver's own tests depend on nobody's.

#[cfg(test)]
pub use super::fake::*;
#[cfg(not(test))]
pub use crate::broker::{Shard, ShardSetup, StoreSlot, format_store, open_store};
