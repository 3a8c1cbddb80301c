//! The APIs about transactions. `plan.rs`: what a request asks the coordinators of its transactional ids, and what is
//! made of their answers; `init_producer_id.rs`, `add_partitions.rs`, `add_offsets.rs`, `end.rs`, `describe.rs` have
//! the plans. `front.rs` asks the shards that own the partitions of the ids (`groups::topic`) and waits for all of
//! them, `listing.rs` asks all shards for theirs; `host.rs` is such a shard's part, with `markers.rs` for the markers
//! that are on their way. `carried.rs`: what nodes ask each other; `asked.rs`: a WriteTxnMarkers, be it theirs or a
//! client's (`data::markers`). `super::apis` lists keys and versions.

mod add_offsets;
mod add_partitions;
mod asked;
mod carried;
mod describe;
mod end;
pub mod front;
pub mod host;
mod init_producer_id;
mod listing;
mod markers;
mod plan;

pub use add_offsets::add_offsets_to_txn;
pub use add_partitions::add_partitions_to_txn;
pub use asked::MarkersAsked;
pub use describe::{describe_transactions, list_transactions};
pub use end::end_txn;
pub use init_producer_id::init_transactions;
pub use plan::TxnPlanner;
