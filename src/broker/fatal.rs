//! Failures after which the process must not go on, each with an exit status of
//! its own so that a supervisor can tell them apart. `panic` aborts (134).

use super::io::Output;
use crate::base::{NodeId, StoreId};
use crate::store::DiskError;

/// A write or sync of a store failed. Not retried: the kernel may already have dropped the data.
pub const STATUS_DISK: u8 = 74;
/// The metadata log cannot be read or understood.
pub const STATUS_METADATA: u8 = 65;

/// A store's disk failed.
pub fn disk_failed(store: StoreId, error: &DiskError) -> Output {
    let hint = match error.errno {
        28 => "the filesystem is full: free space, or lower millrace.store.bytes.max",
        _ => "check the kernel log and the disk before starting again",
    };
    Output::Fatal {
        status: STATUS_DISK,
        message: format!(
            "store-{store}: a write or sync failed with errno {}; nothing unacknowledged is kept; {hint}",
            error.errno
        ),
    }
}

/// The metadata say that this process is none of the brokers.
pub const STATUS_UNREGISTERED: u8 = 70;

/// This node was unregistered while it ran.
pub fn unregistered(node: NodeId) -> Output {
    Output::Fatal {
        status: STATUS_UNREGISTERED,
        message: format!(
            "broker {node} was unregistered, or another process has registered under its id: start it again to have \
             it back"
        ),
    }
}

/// The metadata cannot be used.
pub fn metadata(message: String) -> Output {
    Output::Fatal {
        status: STATUS_METADATA,
        message,
    }
}
