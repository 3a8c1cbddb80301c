//! One blocking connection to one broker.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::{ApiVersionsRequest, KafkaRequest, RequestResponsePair};
use kafka_wire_core::{ApiVersion, StrBytes};
use millrace::base::ErrorCode;
use millrace::wire::WireError;
use millrace::wire::client::{
    decode_own_response, decode_response, encode_own_request, encode_request,
};

use super::{ClientError, Result, message};

/// Name under which brokers see these programs in their logs and quotas.
pub const CLIENT_ID: &str = "millrace-tools";

/// Longest answer that is accepted, in bytes.
const FRAME_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Spoken by every broker since Kafka 2.4; older ones answer it in version 0 and are asked again.
const API_VERSIONS_FIRST: i16 = 3;

/// A connection that knows which versions its broker speaks.
pub struct Conn {
    stream: TcpStream,
    address: String,
    versions: BTreeMap<i16, (i16, i16)>,
    correlation_id: i32,
}

impl Conn {
    /// Connects to `host:port` and asks for the broker's versions. `timeout` bounds the connection
    /// attempt and, later, the wait for each answer.
    pub fn connect(address: &str, timeout: Duration) -> Result<Self> {
        let stream = dial(address, timeout).map_err(|source| ClientError::Unreachable {
            address: address.to_owned(),
            source,
        })?;
        let mut conn = Self {
            stream,
            address: address.to_owned(),
            versions: BTreeMap::new(),
            correlation_id: 0,
        };
        conn.negotiate()?;
        Ok(conn)
    }

    /// Changes how long to wait for an answer.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.stream
            .set_read_timeout(Some(timeout))
            .map_err(|source| self.lost(source))
    }

    /// `host:port` of the broker.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Versions of every request that the broker offers, by API key.
    pub fn versions(&self) -> &BTreeMap<i16, (i16, i16)> {
        &self.versions
    }

    /// The newest version of `R` that both sides speak.
    pub fn version<R: KafkaRequest>(&self) -> Result<i16> {
        self.version_up_to::<R>(i16::MAX)
    }

    /// The newest version of `R` that both sides speak and that is not above `cap`.
    pub fn version_up_to<R: KafkaRequest>(&self, cap: i16) -> Result<i16> {
        let descriptor = R::API_DESCRIPTOR;
        let newest = descriptor
            .latest_stable_version()
            .map_or(0, ApiVersion::value);
        let ours = (descriptor.supported_versions.min().value(), newest.min(cap));
        let broker = self.versions.get(&R::API_KEY.value()).copied();
        let unsupported = ClientError::Unsupported {
            api: R::NAME,
            broker,
            ours,
        };
        let (oldest, newest) = broker.ok_or(unsupported)?;
        let version = newest.min(ours.1);
        if version < oldest.max(ours.0) {
            return Err(ClientError::Unsupported {
                api: R::NAME,
                broker,
                ours,
            });
        }
        Ok(version)
    }

    /// Sends a request in the newest version and waits for the answer.
    pub fn call<R: RequestResponsePair>(&mut self, request: &R) -> Result<R::Response> {
        let version = self.version::<R>()?;
        self.call_at(request, version)
    }

    /// Sends a request in this version and waits for the answer.
    pub fn call_at<R: RequestResponsePair>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response> {
        let correlation_id = self.send(request, version)?;
        let frame = self.receive()?;
        let (answered, response) = self.read(decode_response::<R>(frame, version))?;
        if answered != correlation_id {
            return Err(self.malformed(format!("answer {answered} where {correlation_id} was due")));
        }
        Ok(response)
    }

    /// Sends one of our own requests, which only Millrace knows, and waits for the answer's body. A
    /// broker that does not know it ends the connection.
    pub fn call_own(&mut self, key: i16) -> Result<Bytes> {
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        let frame = encode_own_request(key, self.correlation_id, CLIENT_ID);
        self.send_frame(&frame)?;
        let frame = self.receive()?;
        let (answered, body) = self.read(decode_own_response(frame))?;
        if answered != self.correlation_id {
            return Err(self.malformed(format!("answer {answered} to another request")));
        }
        Ok(body)
    }

    /// Sends a request and returns its correlation id; the answer is for [`Conn::receive`].
    pub fn send<R: KafkaRequest>(&mut self, request: &R, version: i16) -> Result<i32> {
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        let frame = encode_request(self.correlation_id, Some(CLIENT_ID), version, request)
            .map_err(|error| self.malformed(format!("{} cannot be written: {error}", R::NAME)))?;
        self.send_frame(&frame)?;
        Ok(self.correlation_id)
    }

    /// Sends a frame made elsewhere, length prefix included.
    pub fn send_frame(&mut self, frame: &[u8]) -> Result<()> {
        self.stream
            .write_all(frame)
            .map_err(|source| self.lost(source))
    }

    /// The next answer, without its length prefix. Answers come in the order of the requests.
    pub fn receive(&mut self) -> Result<Bytes> {
        let mut prefix = [0; 4];
        self.stream
            .read_exact(&mut prefix)
            .map_err(|source| self.lost(source))?;
        let len = usize::try_from(i32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
        if !(4..=FRAME_BYTES_MAX).contains(&len) {
            return Err(self.malformed(format!("an answer of {len} bytes")));
        }
        let mut frame = vec![0; len];
        self.stream
            .read_exact(&mut frame)
            .map_err(|source| self.lost(source))?;
        Ok(frame.into())
    }

    /// Turns the outcome of decoding an answer into one that names the broker.
    pub fn read<T>(&self, decoded: std::result::Result<T, WireError>) -> Result<T> {
        decoded.map_err(|error| self.malformed(error.to_string()))
    }

    /// Gives up the framing: the socket, for a caller with its own event loop.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn negotiate(&mut self) -> Result<()> {
        let request = message!(ApiVersionsRequest {
            client_software_name: StrBytes::from("millrace-tools"),
            client_software_version: StrBytes::from(env!("CARGO_PKG_VERSION")),
        });
        let mut response = self.call_at(&request, API_VERSIONS_FIRST)?;
        // A broker too old for our version answers in the oldest form there is, without the list.
        if response.error_code == ErrorCode::UnsupportedVersion.code() {
            response = self.call_at(&ApiVersionsRequest::default(), 0)?;
        }
        ClientError::check(
            || "ask for the broker's versions".into(),
            response.error_code,
            None,
        )?;
        let keys = response.api_keys.iter();
        self.versions = keys
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect();
        Ok(())
    }

    fn lost(&self, source: io::Error) -> ClientError {
        let source = match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
            }
            io::ErrorKind::UnexpectedEof => io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the broker closed the connection",
            ),
            _ => source,
        };
        ClientError::Lost {
            address: self.address.clone(),
            source,
        }
    }

    fn malformed(&self, what: String) -> ClientError {
        ClientError::Malformed {
            address: self.address.clone(),
            what,
        }
    }
}

fn dial(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for resolved in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&resolved, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
