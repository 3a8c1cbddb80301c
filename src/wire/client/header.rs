//! What responses have in common.

use bytes::Bytes;

use crate::base::ErrorCode;
use crate::wire::error::WireError;
use crate::wire::reader::Reader;

/// The correlation id of a response, and what comes behind its header.
pub fn response_header(frame: Bytes, flexible: bool) -> Result<(i32, Bytes), WireError> {
    let mut reader = Reader::new(frame, flexible);
    let correlation_id = reader.i32("correlation id")?;
    reader.skip_tags()?;
    Ok((correlation_id, reader.into_rest()))
}

/// The error of a code; one that Kafka has added since is an unknown error to us.
pub fn error_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}
