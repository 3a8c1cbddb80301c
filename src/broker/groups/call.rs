//! What goes in and out of the group service: requests, effects, and where answers go.

use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::KafkaResponse;
use kafka_wire_core::StrBytes;

use crate::base::TopicId;
use crate::group::{self, Name, Record};
use crate::wire::{RequestHeader, WireError, encode_response};

/// The internal topic of groups and committed offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// How clients reach the node that coordinates all groups.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The id under which it is announced.
    pub id: i32,
    /// Host and port as announced, for each listener.
    pub endpoints: Vec<(StrBytes, i32)>,
}

/// A topic as the metadata image knows it.
#[derive(Clone, Copy, Debug)]
pub struct TopicInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
}

/// The topics of the cluster.
pub trait TopicLookup {
    /// The topic of this name.
    fn by_name(&self, name: &str) -> Option<TopicInfo<'_>>;
    /// The topic of this id.
    fn by_id(&self, id: TopicId) -> Option<TopicInfo<'_>>;
}

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    /// Chosen by the caller; comes back with the reply.
    pub token: u64,
    /// Header of the request.
    pub header: RequestHeader,
    /// The rest of the frame.
    pub body: Bytes,
    /// Where it comes from, in Kafka's form: a slash and the address (`/10.0.0.1`).
    pub client_host: String,
    /// Which of the configured listeners it came by.
    pub listener: usize,
}

/// What the service wants done. Each request gets one `Reply` or one `Fail`, sooner or later.
#[derive(Debug)]
pub enum GroupEffect {
    /// Send this frame.
    Reply {
        /// Of the request.
        token: u64,
        /// With length prefix and header.
        frame: Bytes,
    },
    /// The request cannot be read, or the answer not be written: close the connection.
    Fail {
        /// Of the request.
        token: u64,
        /// What is wrong.
        error: WireError,
    },
    /// Append to a partition of [`OFFSETS_TOPIC`], then call [`GroupService::appended`](super::GroupService::appended).
    Append {
        /// Number of the append.
        append: u64,
        /// The partition.
        partition: i32,
        /// The records, at least one: exactly one batch, so that all count or none.
        records: Arc<[Record]>,
    },
}

/// Whether a request makes the broker create [`OFFSETS_TOPIC`] if it is missing. Until it exists
/// FindCoordinator gets COORDINATOR_NOT_AVAILABLE and the others NOT_COORDINATOR, as in Kafka.
#[must_use]
pub fn needs_offsets_topic(header: &RequestHeader) -> bool {
    const OFFSET_COMMIT: i16 = 8;
    const FIND_COORDINATOR: i16 = 10;
    const JOIN_GROUP: i16 = 11;
    matches!(header.key, OFFSET_COMMIT | FIND_COORDINATOR | JOIN_GROUP)
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub token: u64,
    pub version: i16,
    pub correlation_id: i32,
}

/// Sends a response; one that cannot be encoded ends the connection.
pub fn reply<R: KafkaResponse>(origin: Origin, response: &R, out: &mut Vec<GroupEffect>) {
    let token = origin.token;
    out.push(
        match encode_response(origin.correlation_id, origin.version, response) {
            Ok(frame) => GroupEffect::Reply { token, frame },
            Err(error) => GroupEffect::Fail { token, error },
        },
    );
}

pub fn name(text: &StrBytes) -> Name {
    group::name(text)
}

pub fn text(name: &Name) -> StrBytes {
    StrBytes::from(&**name)
}
