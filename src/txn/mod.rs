//! The transaction coordinator (KIP-98): the transactional ids of one partition of `__transaction_state`, as a pure
//! state machine over its records.
//!
//! [`TxnCoordinator`] keeps them: `coordinator.rs` takes requests, `adds.rs` those that add partitions, `end.rs` those
//! that end transactions, `effect.rs` has what it is asked and what it wants done, `entry.rs` what it keeps;
//! `writes.rs` appends and what comes of them, `markers.rs` has the markers of transactions that are decided written
//! until all partitions have theirs, `timers.rs` aborts what takes too long and forgets ids that nobody uses.
//! `state.rs` is one transactional id; `records.rs` knows Kafka's formats. Nothing here knows the wire, nor how records
//! and markers get into logs: requests come as plain values with a token, and answers leave as [`TxnEffect`]s with
//! that token.
//!
//! An id's state changes only by records that are committed. What is on its way, however long, is pending: until it
//! ends, requests about the id get CONCURRENT_TRANSACTIONS, but for adds that wait for one of the same producer. So
//! what was decided, commit or abort, is in the log before the first marker is sent, and whoever leads the partition
//! next goes on with the markers.
//!
//! By which version a transaction goes each client says with its requests; what ends by itself goes by the cluster's.
//! So an id may be had by clients of several versions in turn.
//!
//! Deviations from Kafka: a transaction that takes too long is aborted when its time is up, not at the next look at all
//! of them; so is an expired id forgotten. There are no transactions that are prepared first (KIP-939). Adds of one
//! producer share their writes (`adds.rs`). A partition that knows a newer epoch than that of the marker counts as
//! ended: Kafka's coordinator leaves the transaction undone until it is loaded again.

mod adds;
mod coordinator;
mod effect;
mod end;
mod entry;
mod markers;
pub mod records;
mod state;
mod timers;
mod writes;

#[cfg(test)]
mod adds_tests;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod version_2_tests;

pub use coordinator::{TxnConfig, TxnCoordinator};
pub use effect::{EndTxn, InitTxn, MarkersToSend, NeedsId, TxnEffect, TxnProducer};
pub use state::{NO_PRODUCER_ID, TxnFacts, TxnPartition, TxnState, TxnUsage, TxnVersion};
