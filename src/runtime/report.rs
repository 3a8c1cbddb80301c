//! What the threads of shards tell the server.

use super::fatal::Fatal;

/// Why a pump ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything is durable and answered.
    Drained,
    /// The process has to stop.
    Fatal {
        /// Exit status.
        status: u8,
        /// For people.
        message: String,
    },
}

/// What shard threads tell the server.
pub enum Notice {
    /// Its stores are recovered and it serves by the cluster's metadata.
    Ready,
    /// Its pump has ended.
    Ended(End),
    /// It could not start.
    Failed(Fatal),
    /// Somebody asked the server to stop.
    Stopping,
}
