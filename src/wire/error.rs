//! Why a frame was not understood, or could not be written.

use std::fmt;

use kafka_wire_core::{DecodeError, EncodeError};

/// A frame that the broker cannot take. Except for the one case that
/// [`super::parse_header`] names, the answer is to close the connection, as in
/// Kafka: nothing after a frame that was not understood can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// No API of this key is served.
    UnknownApi {
        /// The key in the header.
        key: i16,
    },
    /// The API is served, this version of it is not.
    UnsupportedVersion {
        /// Name of the API.
        api: &'static str,
        /// The version in the header.
        version: i16,
    },
    /// The frame ends inside a field.
    Truncated {
        /// The field's kind.
        what: &'static str,
        /// Byte position in the frame or body.
        at: usize,
    },
    /// A field has a value that it cannot have.
    Malformed {
        /// The field's kind.
        what: &'static str,
        /// Byte position in the frame or body.
        at: usize,
    },
    /// The lists of the request have more elements in all than the broker takes.
    TooManyEntries {
        /// The list that went too far.
        what: &'static str,
        /// Byte position in the frame or body.
        at: usize,
    },
    /// The request is larger than the broker takes of its kind.
    TooLong {
        /// Bytes of its body.
        bytes: usize,
    },
    /// Bytes are left after the last field.
    TrailingBytes {
        /// How many.
        remaining: usize,
    },
    /// A generated type refused the body.
    Decode(DecodeError),
    /// A generated type cannot be written in this version: a mistake of the caller's.
    Encode(EncodeError),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownApi { key } => write!(f, "unknown API key {key}"),
            Self::UnsupportedVersion { api, version } => {
                write!(f, "{api} version {version} is not supported")
            }
            Self::Truncated { what, at } => write!(f, "frame ends inside {what} at byte {at}"),
            Self::Malformed { what, at } => write!(f, "malformed {what} at byte {at}"),
            Self::TooManyEntries { what, at } => {
                write!(
                    f,
                    "more entries than a request may list, in {what} at byte {at}"
                )
            }
            Self::TooLong { bytes } => {
                write!(f, "a body of {bytes} bytes is too long for this API")
            }
            Self::TrailingBytes { remaining } => {
                write!(f, "{remaining} bytes are left after the last field")
            }
            Self::Decode(error) => error.fmt(f),
            Self::Encode(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WireError {}

impl From<DecodeError> for WireError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<EncodeError> for WireError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}
