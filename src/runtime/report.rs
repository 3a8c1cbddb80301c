//! What the threads of shards tell the server.

use super::disk::StoreFile;
use super::fatal::Fatal;
use crate::store::DiskOp;

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

/// A store of a shard that has ended, and what is to be written to it when all have: that it was stopped cleanly.
pub struct Stopped {
    /// Its file or device.
    pub file: StoreFile,
    /// One after the other.
    pub ops: Vec<DiskOp>,
}

/// What shard threads tell the server.
pub enum Notice {
    /// Its stores are recovered and it serves by the cluster's metadata.
    Ready,
    /// Its pump has ended, drained or not: then without stores.
    Ended(End, Vec<Stopped>),
    /// It could not start.
    Failed(Fatal),
    /// Somebody asked the server to stop.
    Stopping,
}
