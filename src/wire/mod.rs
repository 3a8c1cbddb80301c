//! Kafka's request and response frames.
//!
//! Produce and fetch are coded by hand, because they carry the data: a request's
//! records are slices of the frame, and a response's records are pieces of the
//! store that are never joined in memory. Every other API goes through the
//! generated types of `kafka-wire`, guarded by our own limits ([`decode`],
//! [`encode_response`]).
//!
//! The one import from outside `base` and `record` is [`crate::store::Piece`],
//! a plain value: a fetch response is a list of them.

mod api;
pub mod client;
mod codec;
mod error;
pub mod fetch;
mod gather;
mod header;
mod leaders;
mod list_frame;
mod listed;
mod partitions;
pub mod peer;
mod place;
pub mod produce;
mod reader;
mod shape;
mod topic;
mod writer;

pub use api::Api;
pub use codec::{decode, encode_own_response, encode_response};
pub use error::WireError;
pub use header::{RequestHeader, parse_header};
pub use kafka_wire_core::StrBytes;
pub use leaders::{CurrentLeader, NodeEndpoint};
pub use list_frame::ListFrame;
pub use listed::{ListedRequest, Lists, maybe_text_size, sought_size, text_size};
pub use partitions::{ListedPartition, ListsPartitions, PartitionsRequest, TopicOrPartition};
pub use place::NodePlace;
pub use topic::TopicRef;
pub use writer::list_count;
