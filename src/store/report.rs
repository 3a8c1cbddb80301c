//! Why a store cannot be opened, and what was found in one that can.

use super::api::DiskError;
use crate::base::LogId;

/// Why a store cannot be opened. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoverError {
    /// A read failed.
    Io {
        /// What was being read.
        what: &'static str,
        /// Its errno.
        error: DiskError,
    },
    /// Another version of the broker wrote it: what, for people.
    Unknown(String),
    /// Something that must be whole is not.
    Corrupt {
        /// What, for people.
        what: String,
        /// Where in the store file.
        pos: u64,
    },
}

impl RecoverError {
    /// A log's own state does not make sense.
    #[must_use]
    pub fn corrupt_log(log: LogId, what: impl std::fmt::Display) -> Self {
        Self::Corrupt {
            what: format!("state of log {log}: {what}"),
            pos: 0,
        }
    }
}

impl std::fmt::Display for RecoverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io { what, error } => {
                write!(f, "the {what} cannot be read (errno {})", error.errno)
            }
            Self::Unknown(what) => f.write_str(what),
            Self::Corrupt { what, pos } => write!(f, "{what} is damaged (at byte {pos})"),
        }
    }
}

impl std::error::Error for RecoverError {}

/// How the process before has left a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Left {
    /// No process has used it.
    #[default]
    Unused,
    /// With nothing on its way, and nothing was written since: no flush is unknown.
    Stopped,
    /// In the middle of its work, or so it seems: what says otherwise may have been lost with what has rotted.
    Running,
}

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// How the store was left.
    pub left: Left,
    /// Logs of the store.
    pub logs: usize,
    /// Journal records replayed.
    pub records: u64,
    /// Batches replayed.
    pub batches: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Damage that cost nothing, for the operator.
    pub warnings: Vec<String>,
    /// What has rotted in the journal and damaged logs.
    pub rot: Vec<String>,
}

impl RecoveryReport {
    /// How the store was left, and what that has cost, for people.
    #[must_use]
    pub fn how_left(&self) -> String {
        match self.left {
            Left::Unused => "new".to_owned(),
            Left::Stopped => "stopped cleanly".to_owned(),
            Left::Running => format!(
                "was not stopped cleanly: replayed {} records of the journal with {} batches of {:.1} MiB",
                self.records,
                self.batches,
                self.bytes as f64 / f64::from(1 << 20)
            ),
        }
    }
}
