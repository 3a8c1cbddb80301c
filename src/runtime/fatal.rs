//! Exit statuses of the broker, for service managers and scripts. They follow
//! sysexits.h where it has one that fits. There is no way out of a shard but these:
//! a half-alive broker is worse than none.

/// Unusable command line.
pub const USAGE: u8 = 64;
/// A store is damaged in a way that recovery must not paper over.
pub const CORRUPT: u8 = 65;
/// A thread or a socket of the broker's own could not be made.
pub const SOFTWARE: u8 = 70;
/// The system lacks something: io_uring, locked memory, descriptors, a free port.
pub const SYSTEM: u8 = 71;
/// The data directory cannot be created, locked or read, or lacks a store, or has one that is older or not its own.
pub const DIRECTORY: u8 = 73;
/// The disk failed to write, sync or read. Start again only when it is known why.
pub const DISK: u8 = 74;
/// The configuration is not usable.
pub const CONFIG: u8 = 78;

/// Why the broker cannot start, or had to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// Exit status, one of this module's.
    pub status: u8,
    /// What happened and what to do about it.
    pub message: String,
}

impl Fatal {
    /// A reason to stop.
    #[must_use]
    pub fn new(status: u8, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

impl std::fmt::Display for Fatal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fatal {}
