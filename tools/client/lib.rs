//! A small blocking Kafka client: what the operator's command line and the load
//! generator need, and no more. It talks to any Kafka broker: every request goes
//! out in the newest version that both sides know.
//!
//! `millracectl` and `millrace-bench` share it, so that there is one client to keep right.

#![allow(
    clippy::disallowed_methods,
    reason = "of programs that face the real world: clocks and sockets are its business"
)]

mod cluster;
mod conn;
mod error;
mod nearest;
mod reader;
mod topics;

pub use cluster::{Cluster, Partition, Topic};
pub use conn::{CLIENT_ID, Conn};
pub use error::{ClientError, is_retriable};
pub use nearest::nearest;
pub use reader::{BATCH_BYTES_MAX, Position, Reader, fetch_request, fetch_version, record_time};
pub use topics::{
    EARLIEST, FoundOffset, LATEST, NewTopic, create_topic, ensure_topic, find_offsets,
    last_stable_offsets, list_offsets,
};

/// Result of everything that talks to a broker.
pub type Result<T> = std::result::Result<T, ClientError>;

/// Builds a wire message from its defaults: the generated types cannot be written as literals,
/// because a later protocol version may add fields to them.
#[macro_export]
macro_rules! message {
    ($type:ident { $($field:ident: $value:expr),* $(,)? }) => {{
        let mut message = $type::default();
        $(message.$field = $value;)*
        message
    }};
}
