//! The requests about records: what shards do for them where the client is connected, and where the partitions are.

pub mod fetch;
pub mod markers;
pub mod produce;
pub mod producers;
pub mod query;
mod reads;
