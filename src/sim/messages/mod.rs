//! The tier of messages alone: pure state machines on several nodes, over the
//! queue, the clocks and the network of the whole simulator, with no store and no
//! wire. What it shows in seconds would take the full stack hours of seeds.
//!
//! - [`cluster`]: the machines' world, which stops them, starts them and cuts them off;
//! - [`register`]: the smallest machine that needs all of it, and what is found when it is wrong;
//! - [`replication`]: one partition on three brokers and a controller;
//! - [`quorum`]: the log that controllers agree on.

mod cluster;
mod quorum;
mod register;
mod replication;
