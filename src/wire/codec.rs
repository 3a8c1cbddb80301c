//! Every API but produce and fetch: the generated types of `kafka-wire`, with
//! our limits on what a request may claim.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::{KafkaRequest, KafkaResponse};
use kafka_wire_core::{ApiVersion, DecodeLimits, Decoder, KafkaDecode};

use super::api::Api;
use super::error::WireError;
use super::shape;
use crate::base::limits::{
    DECODE_BYTES_MAX, DECODE_STRING_BYTES_MAX, DECODE_TAGS_MAX, REQUEST_ENTRIES_MAX,
};

/// The limits for decoding a frame. Its size was bounded when it was read from the connection
/// (`socket.request.max.bytes`), and neither bytes nor tags can be longer than the frame.
pub(super) fn limits(frame_bytes: usize, array_max: usize) -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.max_frame_bytes = frame_bytes;
    limits.max_string_bytes = DECODE_STRING_BYTES_MAX;
    limits.max_bytes_bytes = frame_bytes;
    limits.max_array_elements = array_max;
    limits.max_tagged_fields = DECODE_TAGS_MAX;
    limits.max_tag_bytes = frame_bytes;
    limits.max_total_tag_bytes = frame_bytes;
    limits
}

/// Decodes a request's body. What follows it is ignored, as Kafka does: librdkafka 2.16 leaves three
/// bytes behind its metadata request for all topics.
///
/// # Errors
/// If the body is malformed, too big, or of a version that the type does not know.
pub fn decode<R: KafkaRequest + KafkaDecode>(body: Bytes, version: i16) -> Result<R, WireError> {
    let kafkas = ApiVersion::new(version);
    let (bytes, key) = (body.len(), R::API_KEY.value());
    if bytes > DECODE_BYTES_MAX {
        return Err(WireError::TooLong { bytes });
    }
    shape::check(key, version, R::is_flexible(kafkas), &body)?;
    let mut decoder = Decoder::new(body, limits(bytes, REQUEST_ENTRIES_MAX))?;
    Ok(R::decode(&mut decoder, kafkas)?)
}

/// A response frame: length prefix, the header that this API and version have, body.
///
/// # Errors
/// If the response cannot be written in this version: a field is set that the version lacks and
/// that must not be dropped, or a string is too long. A mistake of the caller's, but an error all
/// the same, because what a handler puts into a response may come from a client.
pub fn encode_response<R: KafkaResponse>(
    correlation_id: i32,
    request_version: i16,
    response: &R,
) -> Result<Bytes, WireError> {
    const PREFIX: usize = 4;
    let version = ApiVersion::new(request_version);
    let mut frame = BytesMut::with_capacity(256);
    frame.put_i32(0);
    frame.put_i32(correlation_id);
    // ApiVersions keeps the old header for ever; see `Api::response_header_is_flexible`.
    if R::is_flexible(version) && R::API_KEY.value() != Api::API_VERSIONS {
        frame.put_u8(0);
    }
    response.encode_into(&mut frame, version)?;
    let bytes = frame.len() - PREFIX;
    let len =
        i32::try_from(bytes).map_err(|_| kafka_wire_core::EncodeError::FrameTooLarge { bytes })?;
    frame[..PREFIX].copy_from_slice(&len.to_be_bytes());
    Ok(frame.freeze())
}

/// A response frame of one of our own APIs: flexible header, then this body.
#[must_use]
pub fn encode_own_response(correlation_id: i32, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(9 + body.len());
    // What we answer ourselves is far from 2 GiB.
    frame.put_i32(5 + body.len() as i32);
    frame.put_i32(correlation_id);
    frame.put_u8(0);
    frame.put_slice(body);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use kafka_wire::{ApiVersionsResponse, HeartbeatRequest, HeartbeatResponse, MetadataRequest};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn response_headers() {
        let response = HeartbeatResponse::default();
        let old = encode_response(9, 3, &response).unwrap();
        assert_eq!(old[..], [0, 0, 0, 10, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0]);
        let flexible = encode_response(9, 4, &response).unwrap();
        assert_eq!(
            flexible[..],
            [0, 0, 0, 12, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn api_versions_always_has_the_old_header() {
        for version in 0..=5 {
            let frame = encode_response(9, version, &ApiVersionsResponse::default()).unwrap();
            // Directly after the correlation id: the error code.
            assert_eq!(frame[4..10], [0, 0, 0, 9, 0, 0], "version {version}");
            assert_eq!(
                frame[10],
                u8::from(version >= 3),
                "empty array, version {version}"
            );
        }
    }

    #[test]
    fn trailing_bytes_are_ignored_and_short_bodies_and_huge_claims_refused() {
        let mut body = vec![0, 1, b'g', 0, 0, 0, 1, 0, 1, b'm'];
        let exact = decode::<HeartbeatRequest>(body.clone().into(), 0).unwrap();
        body.push(0);
        let longer = decode::<HeartbeatRequest>(body.clone().into(), 0).unwrap();
        assert_eq!(longer, exact);
        body.truncate(9);
        assert!(decode::<HeartbeatRequest>(body.into(), 0).is_err());
        let huge = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
        assert!(decode::<MetadataRequest>(huge, 0).is_err());
    }

    #[test]
    fn requests_are_taken_up_to_a_size() {
        use kafka_wire::SyncGroupRequest;
        let body = || Bytes::from(vec![0; DECODE_BYTES_MAX + 1]);
        let bytes = body().len();
        assert_eq!(
            decode::<SyncGroupRequest>(body(), 2).unwrap_err(),
            WireError::TooLong { bytes }
        );
        assert!(decode::<SyncGroupRequest>(body().slice(1..), 2).is_ok());
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(version in 0i16..15, body: Vec<u8>) {
            let _ = decode::<MetadataRequest>(body.into(), version);
        }
    }
}
