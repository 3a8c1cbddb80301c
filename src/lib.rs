//! Millrace: an Apache Kafka compatible event-streaming broker.
//!
//! The tree is layered and dependencies point down only (see ARCHITECTURE.md):
//! `runtime` and `sim` drive [`broker::Shard`]; `broker` uses the state machines
//! (`coordinator` with `group`, `txn`, `controller`, `replica`, `log`) and `wire`; `log` uses `store`; `base` is below
//! all.
//! `quorum`, the log that several controllers agree on, is used by the simulator's model of it alone so far.
//! Only `runtime` knows glommio, io_uring, clocks, files and unsafe.

pub mod base;
pub mod broker;
pub mod config;
pub mod controller;
pub mod coordinator;
pub mod group;
pub mod log;
pub mod quorum;
pub mod record;
pub mod replica;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod sim;
pub mod store;
pub mod txn;
pub mod wire;
