//! Simulated Kafka clients. They speak real frames in every version that the
//! broker serves, behave as real clients do when a connection is cut, and tell
//! the oracle what they send and what they are told.

mod auditor;
mod churn;
mod client;
mod committer;
mod consumer;
mod fetching;
mod finding;
mod frames;
mod lookup;
mod member;
mod moves;
mod producer;
mod setup;
mod shared;
mod talk;
mod transactor;
mod truncator;

pub use auditor::Auditor;
pub use churn::Churn;
pub use client::{Act, Client, Ctx};
pub use committer::Committer;
pub use consumer::Consumer;
pub use lookup::Lookup;
pub use member::Member;
pub use producer::{Producer, RECORDS_PER_BATCH_MAX};
pub use setup::{Plan as SetupTopic, Setup};
pub use shared::{Phase, Shared, Topic};
pub use talk::Talk;
pub use transactor::Transactor;
pub use truncator::Truncator;
