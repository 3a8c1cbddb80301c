//! Requests made and answers looked at, as far as all clients do it alike.

use bytes::Bytes;
use kafka_wire::KafkaRequest;
use kafka_wire_core::{StrBytes, Uuid};

use crate::base::{ErrorCode, TopicId};
use crate::wire::client;

/// A request frame without a correlation id yet, see [`with_correlation`].
pub fn frame<R: KafkaRequest>(version: i16, request: &R) -> Bytes {
    client::encode_request(0, Some("sim"), version, request)
        .unwrap_or_else(|error| panic!("{} {version}: {error}", std::any::type_name::<R>()))
}

/// The frame with its correlation id, which lies behind length, key and version.
pub fn with_correlation(frame: &Bytes, correlation: i32) -> Bytes {
    let mut bytes = frame.to_vec();
    bytes[8..12].copy_from_slice(&correlation.to_be_bytes());
    bytes.into()
}

/// The error of a code in an answer.
pub fn error_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

pub fn uuid(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.0)
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from(text)
}

/// A kafka-wire message made from its default and the fields that matter.
macro_rules! message {
    ($ty:path { $($field:ident: $value:expr),* $(,)? }) => {{
        let mut message = <$ty>::default();
        $(message.$field = $value;)*
        message
    }};
}
pub(super) use message;
