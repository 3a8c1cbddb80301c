//! The other end of the wire: requests written and responses read, for the load
//! generator, the simulator's clients and the tools. Frames that are written
//! include their length prefix; frames that are read come without it.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::{KafkaRequest, OutboundFrameLimits, RequestResponsePair};
use kafka_wire_core::{ApiVersion, KafkaDecode, StrBytes};

use super::api::Api;
use super::codec::limits;
use super::error::WireError;
use crate::base::ErrorCode;
use crate::base::limits::DECODE_ARRAY_MAX;
use header::response_header;

mod fetch;
mod header;
mod produce;

pub use fetch::{Fetched, FetchedPartition, FetchedTopic, decode_fetch};
pub use produce::{decode_produce, encode_produce, encode_produce_flat};

/// A request frame of any API.
///
/// # Errors
/// If the request cannot be written in this version.
pub fn encode_request<R: KafkaRequest>(
    correlation_id: i32,
    client_id: Option<&str>,
    version: i16,
    request: &R,
) -> Result<Bytes, WireError> {
    let mut frame = BytesMut::new();
    kafka_wire::encode_request(
        &mut frame,
        correlation_id,
        client_id.map(StrBytes::from),
        request,
        ApiVersion::new(version),
        OutboundFrameLimits::new(i32::MAX as usize),
    )?;
    Ok(frame.freeze())
}

/// A request frame of one of our own APIs, version 0, without a body.
#[must_use]
pub fn encode_own_request(key: i16, correlation_id: i32, client_id: &str) -> Bytes {
    let len = client_id.len().min(i16::MAX as usize);
    let mut frame = BytesMut::with_capacity(15 + len);
    frame.put_i32(11 + len as i32);
    frame.put_i16(key);
    frame.put_i16(0);
    frame.put_i32(correlation_id);
    frame.put_i16(len as i16);
    frame.put_slice(&client_id.as_bytes()[..len]);
    frame.put_u8(0);
    frame.freeze()
}

/// The correlation id and the body of a response frame of one of our own APIs.
///
/// # Errors
/// If the frame is malformed.
pub fn decode_own_response(frame: Bytes) -> Result<(i32, Bytes), WireError> {
    response_header(frame, true)
}

/// The correlation id and the body of a response frame to request `R` of this version.
///
/// A broker that does not know the version of an ApiVersions request answers in version 0, which
/// is recognized by its error code.
///
/// # Errors
/// If the frame is malformed.
pub fn decode_response<R: RequestResponsePair>(
    frame: Bytes,
    version: i16,
) -> Result<(i32, R::Response), WireError> {
    let key = R::API_KEY.value();
    let flexible = key != Api::API_VERSIONS && R::is_flexible(ApiVersion::new(version));
    let (correlation_id, body) = response_header(frame, flexible)?;
    let unsupported = ErrorCode::UnsupportedVersion.code().to_be_bytes();
    let version = if key == Api::API_VERSIONS && body.starts_with(&unsupported) {
        0
    } else {
        version
    };
    let limits = limits(body.len(), DECODE_ARRAY_MAX);
    let response = R::Response::decode_from_bytes(body, ApiVersion::new(version), limits)?;
    Ok((correlation_id, response))
}

/// The correlation id of a response frame, which tells whose answer it is.
#[must_use]
pub fn correlation_id(frame: &[u8]) -> Option<i32> {
    frame.first_chunk().map(|id| i32::from_be_bytes(*id))
}

#[cfg(test)]
mod tests {
    use kafka_wire::api_versions_response::ApiVersion;
    use kafka_wire::{
        ApiVersionsRequest, ApiVersionsResponse, HeartbeatRequest, HeartbeatResponse,
    };

    use super::*;
    use crate::wire::api::known;
    use crate::wire::{encode_own_response, encode_response, parse_header};

    #[test]
    fn responses_of_both_header_versions_come_back() {
        for version in 0..=4 {
            let mut response = HeartbeatResponse::default();
            response.error_code = 27;
            let frame = encode_response(9, version, &response).unwrap().slice(4..);
            assert_eq!(correlation_id(&frame), Some(9));
            let back = decode_response::<HeartbeatRequest>(frame, version).unwrap();
            assert_eq!(back, (9, response));
        }
    }

    #[test]
    fn our_own_requests_and_responses() {
        let frame = encode_own_request(Api::EXPLAIN, 9, "me");
        assert_eq!(frame[..4], (frame.len() as u32 - 4).to_be_bytes());
        let (header, body) = parse_header(frame.slice(4..), known).unwrap();
        assert_eq!((header.key, header.correlation_id), (Api::EXPLAIN, 9));
        assert_eq!(header.client_id.as_deref(), Some("me"));
        assert!(body.is_empty());
        let frame = encode_own_response(9, b"body");
        assert_eq!(frame[..4], (frame.len() as u32 - 4).to_be_bytes());
        let back = decode_own_response(frame.slice(4..)).unwrap();
        assert_eq!(back, (9, Bytes::from_static(b"body")));
    }

    #[test]
    fn api_versions_falls_back_to_version_0() {
        for asked in [0, 3, 5, 6, 99] {
            let mut response = ApiVersionsResponse::default();
            let mut own = ApiVersion::default();
            (own.api_key, own.max_version) = (18, 5);
            response.api_keys = vec![own];
            response.error_code = if asked > 5 { 35 } else { 0 };
            let version = if asked > 5 { 0 } else { asked };
            let frame = encode_response(1, version, &response).unwrap().slice(4..);
            let (_, back) = decode_response::<ApiVersionsRequest>(frame, asked).unwrap();
            assert_eq!(
                (back.error_code, back.api_keys),
                (response.error_code, response.api_keys)
            );
        }
    }
}
