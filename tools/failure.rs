//! Why a command was not done: words that say what to do, and the exit status for scripts.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use millrace_client::ClientError;

/// Exit statuses, beside 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The broker refused, what was named is not there, something is damaged.
    Failed = 1,
    /// The command line says something that cannot be done, as clap ends for what it finds.
    CommandLine = 2,
    /// No broker was reached, or none answered in time: worth another try.
    Unreachable = 3,
    /// The command looked, as it was told to, and what it found is not well.
    Unwell = 4,
}

/// What `--help` says about them.
pub const STATUSES: &str = "\
Exit status:
  0  done
  1  refused by the broker, not there, or damaged
  2  the command line is wrong, or a question would have to be asked (--yes)
  3  no broker was reached, or none answered in time: worth another try
  4  looked and found something wrong (cluster health, transactions hanging)
Who ends because the reader of the output has gone (| head) is ended by SIGPIPE, as others are.";

/// See the module.
#[derive(Debug)]
pub struct Failure {
    status: Status,
    text: String,
}

/// What is wrong, and with what of the disk.
pub fn failed_at(path: &Path, error: impl fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// What a command comes to.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// One with its own status.
    pub fn new(status: Status, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        Self::from(failure.status as u8)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let status = match error {
            ClientError::Unreachable { .. } | ClientError::Lost { .. } => Status::Unreachable,
            _ => Status::Failed,
        };
        Self::new(status, error.to_string())
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::new(Status::Failed, text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self::new(Status::Failed, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
