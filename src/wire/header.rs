//! The request header: which API, which version, which correlation id.

use bytes::Bytes;
use kafka_wire_core::StrBytes;

use super::api::Api;
use super::error::WireError;
use super::reader::Reader;

/// What every request begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// API key; one that is served.
    pub key: i16,
    /// Version of the API; one that is served, or any if the API is ApiVersions.
    pub version: i16,
    /// Echoed in the response.
    pub correlation_id: i32,
    /// Who the client says it is.
    pub client_id: Option<StrBytes>,
}

/// Splits a request frame (without length prefix) into header and body.
///
/// A request of an API or version that is not served is an error, on which the connection is to
/// be closed, as Kafka does. The exception is ApiVersions, with which a client finds out what is
/// served: any version of it comes through. Of one that is not served only the correlation id is
/// relied upon, and the body is empty.
///
/// `served` finds the API of a key, if it is served.
///
/// # Errors
/// What is wrong with the header.
pub fn parse_header(
    frame: Bytes,
    served: impl FnOnce(i16) -> Option<&'static Api>,
) -> Result<(RequestHeader, Bytes), WireError> {
    let mut reader = Reader::new(frame, false);
    let key = reader.i16("API key")?;
    let version = reader.i16("API version")?;
    let correlation_id = reader.i32("correlation id")?;
    let api = served(key).ok_or(WireError::UnknownApi { key })?;
    if !api.serves(version) {
        if key != Api::API_VERSIONS {
            return Err(WireError::UnsupportedVersion {
                api: api.name,
                version,
            });
        }
        let client_id = reader.nullable_string("client id").unwrap_or_default();
        return Ok((
            RequestHeader {
                key,
                version,
                correlation_id,
                client_id,
            },
            Bytes::new(),
        ));
    }
    // The client id is never compact, so that every version of the header can be read so far.
    let client_id = reader.nullable_string("client id")?;
    reader.set_flexible(api.is_flexible(version));
    reader.skip_tags()?;
    Ok((
        RequestHeader {
            key,
            version,
            correlation_id,
            client_id,
        },
        reader.into_rest(),
    ))
}

#[cfg(test)]
mod tests {
    use kafka_wire::{ApiVersionsRequest, HeartbeatRequest, MetadataRequest};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::api::known;
    use crate::wire::client::encode_request;

    fn frame(bytes: &Bytes) -> Bytes {
        bytes.slice(4..)
    }

    #[test]
    fn both_header_versions() {
        for version in [0, 8, 9, 13] {
            let mut request = MetadataRequest::default();
            request.topics = Some(Vec::new());
            let bytes = encode_request(7, Some("me"), version, &request).unwrap();
            let (header, body) = parse_header(frame(&bytes), known).unwrap();
            assert_eq!(
                (header.key, header.version, header.correlation_id),
                (3, version, 7)
            );
            assert_eq!(header.client_id.as_deref(), Some("me"));
            assert_eq!(
                crate::wire::decode::<MetadataRequest>(body, version)
                    .unwrap()
                    .topics,
                Some(Vec::new())
            );
        }
    }

    #[test]
    fn the_client_id_may_be_null() {
        let bytes = encode_request(7, None, 4, &HeartbeatRequest::default()).unwrap();
        assert_eq!(
            parse_header(frame(&bytes), known).unwrap().0.client_id,
            None
        );
    }

    #[test]
    fn api_versions_of_the_future_is_let_through() {
        for rest in [&[][..], &[0, 1, b'x', 0, 1, 2, 3], &[0x7f, 0xff], &[0xff]] {
            let mut bytes = vec![0, 18, 0, 99, 0, 0, 0, 5];
            bytes.extend_from_slice(rest);
            let (header, body) = parse_header(bytes.into(), known).unwrap();
            assert_eq!(
                (header.key, header.version, header.correlation_id),
                (18, 99, 5)
            );
            assert!(body.is_empty());
        }
    }

    #[test]
    fn what_is_not_served_is_refused() {
        let parse = |key: i16, version: i16| {
            let mut bytes = [key.to_be_bytes(), version.to_be_bytes()].concat();
            bytes.extend([0, 0, 0, 5, 0xff, 0xff, 0]);
            parse_header(bytes.into(), known).map(|_| ())
        };
        assert_eq!(
            parse(0, 2),
            Err(WireError::UnsupportedVersion {
                api: "Produce",
                version: 2
            })
        );
        assert_eq!(
            parse(0, 14),
            Err(WireError::UnsupportedVersion {
                api: "Produce",
                version: 14
            })
        );
        assert_eq!(parse(4, 0), Err(WireError::UnknownApi { key: 4 }));
        assert_eq!(parse(-1, 0), Err(WireError::UnknownApi { key: -1 }));
        assert_eq!(parse(0, 3), Ok(()));
        assert_eq!(parse(18, 3), Ok(()));
    }

    #[test]
    fn tagged_fields_of_the_header_are_skipped() {
        let bytes = encode_request(7, Some("me"), 3, &ApiVersionsRequest::default()).unwrap();
        let mut bytes = frame(&bytes).to_vec();
        assert_eq!(bytes[12], 0);
        bytes.splice(12..13, [2, 5, 1, 0xaa, 9, 0]);
        let (_, body) = parse_header(bytes.into(), known).unwrap();
        assert!(crate::wire::decode::<ApiVersionsRequest>(body, 3).is_ok());
    }

    proptest! {
        #[test]
        fn arbitrary_frames_never_panic(key in 0i16..20, version in 0i16..15, rest: Vec<u8>) {
            let mut bytes = [key.to_be_bytes(), version.to_be_bytes()].concat();
            bytes.extend(rest);
            let len = bytes.len();
            if let Ok((_, body)) = parse_header(bytes.into(), known) {
                prop_assert!(body.is_empty() || body.len() + 10 <= len);
            }
        }
    }
}
