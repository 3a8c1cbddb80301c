//! The requests about metadata, one file per family. A handler looks at the image and answers;
//! one that changes something returns the records along with the reply, which is sent when the
//! records are durable and every shard has the new image. Handlers that take `&Ctx` change
//! nothing and may run on any shard; those that take `&mut Ctx` run on the control shard, with
//! the newest image.

mod alter_configs;
mod api_versions;
mod auto_create;
mod brokers;
mod config_entries;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod describe_acls;
mod describe_cluster;
mod describe_configs;
mod describe_topic_partitions;
mod full;
mod incremental_alter_configs;
mod init_producer_id;
mod list_config_resources;
mod list_partition_reassignments;
mod metadata;
#[cfg(test)]
mod testing;

use bytes::Bytes;
use kafka_wire::RequestResponsePair;
use kafka_wire_core::{StrBytes, Uuid};

use crate::base::{ErrorCode, Rng, TopicId};
use crate::config::BrokerConfig;
use crate::controller::{Image, MetadataRecord, Refused};
use crate::wire::{self, RequestHeader, WireError};

pub use alter_configs::alter_configs;
pub use api_versions::api_versions;
pub use auto_create::{auto_create, topics_to_auto_create};
pub use brokers::Brokers;
pub use create_partitions::create_partitions;
pub use create_topics::create_topics;
pub use delete_topics::delete_topics;
pub use describe_acls::describe_acls;
pub use describe_cluster::describe_cluster;
pub use describe_configs::describe_configs;
pub use describe_topic_partitions::describe_topic_partitions;
pub use incremental_alter_configs::incremental_alter_configs;
pub use init_producer_id::init_producer_id;
pub use list_config_resources::list_config_resources;
pub use list_partition_reassignments::list_partition_reassignments;
pub use metadata::metadata;

/// What a handler may look at.
#[derive(Debug)]
pub struct Ctx<'a> {
    /// The metadata.
    pub image: &'a Image,
    /// The broker's settings.
    pub config: &'a BrokerConfig,
    /// The listener that the client is connected to, an index into `listeners`.
    pub listener: usize,
    /// For ids.
    pub rng: &'a mut Rng,
    /// The brokers as clients see them.
    pub brokers: &'a Brokers,
}

/// What a handler wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Send this frame.
    Reply(Bytes),
    /// Make the records durable, give every shard the image with them, then send the frame.
    Commit {
        /// At least one.
        records: Vec<MetadataRecord>,
        /// The frame.
        reply: Bytes,
        /// The frame to send instead, with nothing changed, if the store is full. `None` for what makes
        /// the store emptier, which is never refused.
        refusal: Option<Bytes>,
    },
    /// Close the connection: the request cannot be read, or its answer cannot be written.
    Malformed(String),
}

/// Every operation on a topic, as a set of bits by the numbers of Kafka's `AclOperation`: read,
/// write, create, delete, alter, describe, describe and alter configs. What a client may do where
/// there is no authorizer.
const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// The same for the cluster: create, alter, describe, cluster action, describe and alter configs,
/// idempotent write.
const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// Reads the request, lets `handle` answer it, writes the answer.
fn answer<Q: RequestResponsePair>(
    header: &RequestHeader,
    body: Bytes,
    handle: impl FnOnce(Q) -> Q::Response,
) -> Answer {
    let handled = wire::decode::<Q>(body, header.version)
        .and_then(|request| encode::<Q>(header, &handle(request)));
    match handled {
        Ok(reply) => Answer::Reply(reply),
        Err(error) => Answer::Malformed(error.to_string()),
    }
}

/// The same for a request that changes something. `when_full` makes of the response the one for a full
/// store; without it the change is made however full the store is.
fn change<Q: RequestResponsePair>(
    header: &RequestHeader,
    body: Bytes,
    handle: impl FnOnce(Q) -> (Q::Response, Vec<MetadataRecord>),
    when_full: Option<fn(Q::Response) -> Q::Response>,
) -> Answer {
    let handled = wire::decode::<Q>(body, header.version).and_then(|request| {
        let (response, records) = handle(request);
        let reply = encode::<Q>(header, &response)?;
        if records.is_empty() {
            return Ok(Answer::Reply(reply));
        }
        let refusal = when_full.map(|refuse| encode::<Q>(header, &refuse(response)));
        Ok(Answer::Commit {
            records,
            reply,
            refusal: refusal.transpose()?,
        })
    });
    // Nothing is committed then, so that the client may try again.
    handled.unwrap_or_else(|error| Answer::Malformed(error.to_string()))
}

fn encode<Q: RequestResponsePair>(
    header: &RequestHeader,
    response: &Q::Response,
) -> Result<Bytes, WireError> {
    wire::encode_response(header.correlation_id, header.version, response)
}

/// The error code and message fields of a result.
fn outcome(refused: Option<&Refused>) -> (i16, Option<StrBytes>) {
    refused.map_or((ErrorCode::None.code(), None), |refused| {
        (refused.code.code(), Some(message(&refused.message)))
    })
}

/// A message for the client. It may quote what the client sent, so it is cut: a text that is too
/// long for the response would cost the client its connection.
fn message(text: &str) -> StrBytes {
    const BYTES_MAX: usize = 1000;
    let mut end = text.len().min(BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    StrBytes::from(&text[..end])
}

const fn to_wire(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.0)
}

const fn from_wire(id: Uuid) -> TopicId {
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
