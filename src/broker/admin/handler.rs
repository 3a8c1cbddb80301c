//! What the handlers of requests about metadata have in common: what they look at, and how they answer.

use std::fmt::Debug;

use bytes::Bytes;
use kafka_wire::RequestResponsePair;
use kafka_wire_core::{StrBytes, Uuid};

use super::brokers::Brokers;
use crate::base::{ErrorCode, Leftovers, Mono, Refused, Rng, TopicId};
use crate::config::BrokerConfig;
use crate::controller::Image;
use crate::wire::{self, RequestHeader, WireError};

/// What a handler may look at.
#[derive(Debug)]
pub struct Ctx<'a> {
    /// The metadata.
    pub image: &'a Image,
    /// The broker's settings.
    pub config: &'a BrokerConfig,
    /// The listener that the client is connected to, an index into `listeners`.
    pub listener: usize,
    /// The time.
    pub now: Mono,
    /// For ids.
    pub rng: &'a mut Rng,
    /// The brokers as clients see them.
    pub brokers: &'a Brokers,
}

/// What a handler that changes nothing wants done.
#[derive(Debug)]
pub enum Answer {
    /// Send this frame.
    Reply(Bytes),
    /// Go on until there is a frame. Nothing is changed.
    Listing(Box<dyn Listing>),
    /// The control shard has to create something first.
    Create,
    /// Close the connection: the request cannot be read, or its answer cannot be written.
    Malformed(String),
}

/// Answers a request from the metadata that every shard has.
pub type ImageHandler = fn(&Ctx<'_>, &RequestHeader, Bytes) -> Answer;

/// An answer in the making.
pub trait Listing: Debug + Send {
    /// Makes some more of it.
    ///
    /// # Errors
    /// If it cannot be written in the version.
    fn go_on(&mut self, ctx: &Ctx<'_>) -> Result<Progress, WireError>;

    /// It is made, or nobody waits for it any more.
    fn leave(self: Box<Self>, leftovers: &mut Leftovers);
}

/// How far an answer is.
#[derive(Debug)]
pub enum Progress {
    /// There is more to be made.
    Partly,
    /// This is its frame.
    Whole(Vec<Bytes>),
    /// See [`Answer::Create`].
    Create,
}

/// Every operation on a topic, as a set of bits by the numbers of Kafka's `AclOperation`: read,
/// write, create, delete, alter, describe, describe and alter configs. What a client may do where
/// there is no authorizer.
pub const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// The same for the cluster: create, alter, describe, cluster action, describe and alter configs,
/// idempotent write.
pub const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// Reads the request, lets `handle` answer it, writes the answer.
pub fn answer<Q: RequestResponsePair>(
    header: &RequestHeader,
    body: Bytes,
    handle: impl FnOnce(Q) -> Q::Response,
) -> Answer {
    let handled = wire::decode::<Q>(body, header.version)
        .and_then(|request| reply::<Q>(header, &handle(request)));
    match handled {
        Ok(reply) => Answer::Reply(reply),
        Err(error) => Answer::Malformed(error.to_string()),
    }
}

/// Writes the answer.
pub(super) fn reply<Q: RequestResponsePair>(
    header: &RequestHeader,
    response: &Q::Response,
) -> Result<Bytes, WireError> {
    wire::encode_response(header.correlation_id, header.version, response)
}

/// The error code and message fields of a result.
pub fn outcome(refused: Option<&Refused>) -> (i16, Option<StrBytes>) {
    refused.map_or((ErrorCode::None.code(), None), |refused| {
        (refused.code.code(), Some(message(refused.text())))
    })
}

/// A message for the client. It may quote what the client sent, so it is cut: a text that is too
/// long for the response would cost the client its connection.
pub fn message(text: &str) -> StrBytes {
    const BYTES_MAX: usize = 1000;
    let mut end = text.len().min(BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    StrBytes::from(&text[..end])
}

pub const fn to_wire(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.0)
}

pub const fn from_wire(id: Uuid) -> TopicId {
    TopicId(id.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(message("short").as_str(), "short");
        assert_eq!(message(&"ä".repeat(900)).len(), 1000);
        assert_eq!(message(&("x".to_owned() + &"ä".repeat(900))).len(), 999);
    }

    #[test]
    fn operations_have_kafkas_numbers() {
        let bits = |codes: &[i32]| codes.iter().map(|code| 1 << code).sum::<i32>();
        assert_eq!(TOPIC_OPERATIONS, bits(&[3, 4, 5, 6, 7, 8, 10, 11]));
        assert_eq!(CLUSTER_OPERATIONS, bits(&[5, 7, 8, 9, 10, 11, 12]));
    }
}
