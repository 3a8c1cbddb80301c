//! Produce, as a client does it: prebuilt batches go out without being copied.

use bytes::{Bytes, BytesMut};

use super::header::{error_of, response_header};
use crate::wire::gather::Gather;
use crate::wire::produce::{
    ERROR_MESSAGES_FROM, FLEXIBLE_FROM, LOG_START_FROM, ProducePartitionResponse, ProduceRequest,
    ProduceResponse, ProduceTopicResponse, TOPIC_IDS_FROM,
};
use crate::wire::reader::{Reader, TOPIC_BYTES_MIN};
use crate::wire::{Api, WireError};

/// The frame of a produce request, as slices to be sent one after the other; the batches are
/// among them as they are. Topics must be named in the form of the version: by name up to version
/// 12, by id from 13 on.
///
/// # Panics
/// If the frame is 2 GiB or longer.
#[must_use]
pub fn encode_produce(
    correlation_id: i32,
    client_id: Option<&str>,
    version: i16,
    request: &ProduceRequest,
) -> Vec<Bytes> {
    let partitions: usize = request
        .topics
        .iter()
        .map(|topic| topic.partitions.len())
        .sum();
    let mut out = Gather::new(64 + 64 * request.topics.len() + 16 * partitions, false);
    out.i16(Api::PRODUCE);
    out.i16(version);
    out.i32(correlation_id);
    out.nullable_string(client_id);
    out.flexible = version >= FLEXIBLE_FROM;
    out.no_tags();
    out.nullable_string(request.transactional_id.as_deref());
    out.i16(request.acks);
    out.i32(request.timeout_ms);
    out.len(Some(request.topics.len()));
    for topic in &request.topics {
        out.topic(&topic.topic);
        out.len(Some(topic.partitions.len()));
        for partition in &topic.partitions {
            out.i32(partition.index);
            out.len(partition.records.as_ref().map(Bytes::len));
            if let Some(records) = partition
                .records
                .as_ref()
                .filter(|records| !records.is_empty())
            {
                out.payload(records.len(), records.clone());
            }
            out.no_tags();
        }
        out.no_tags();
    }
    out.no_tags();
    out.finish(|bytes| bytes)
}

/// As [`encode_produce`], in one buffer.
///
/// # Panics
/// If the frame is 2 GiB or longer.
#[must_use]
pub fn encode_produce_flat(
    correlation_id: i32,
    client_id: Option<&str>,
    version: i16,
    request: &ProduceRequest,
) -> Bytes {
    let parts = encode_produce(correlation_id, client_id, version, request);
    let mut frame = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        frame.extend_from_slice(&part);
    }
    frame.freeze()
}

/// The correlation id and the body of a produce response.
///
/// # Errors
/// If the frame is malformed.
pub fn decode_produce(frame: Bytes, version: i16) -> Result<(i32, ProduceResponse), WireError> {
    let flexible = version >= FLEXIBLE_FROM;
    let (correlation_id, body) = response_header(frame, flexible)?;
    let mut reader = Reader::new(body, flexible);
    let topics = reader.list(TOPIC_BYTES_MIN, "topics", |reader| {
        let topic = reader.topic(version >= TOPIC_IDS_FROM)?;
        let partitions = reader.list(22, "partitions", |reader| partition(reader, version))?;
        reader.skip_tags()?;
        Ok(ProduceTopicResponse { topic, partitions })
    })?;
    let throttle_time_ms = reader.i32("throttle time")?;
    reader.skip_tags()?;
    reader.finish()?;
    Ok((
        correlation_id,
        ProduceResponse {
            topics,
            throttle_time_ms,
            endpoints: Vec::new(),
        },
    ))
}

fn partition(reader: &mut Reader, version: i16) -> Result<ProducePartitionResponse, WireError> {
    let index = reader.i32("partition index")?;
    let error = error_of(reader.i16("error code")?);
    let base_offset = reader.i64("base offset")?;
    let log_append_time = reader.i64("log append time")?;
    let log_start_offset = if version >= LOG_START_FROM {
        reader.i64("log start offset")?
    } else {
        -1
    };
    let mut error_message = None;
    if version >= ERROR_MESSAGES_FROM {
        reader.list(5, "record errors", |reader| {
            reader.i32("batch index")?;
            reader.nullable_string("record error")?;
            reader.skip_tags()
        })?;
        error_message = reader.nullable_string("error message")?;
    }
    reader.skip_tags()?;
    Ok(ProducePartitionResponse {
        index,
        error,
        base_offset,
        log_append_time,
        log_start_offset,
        error_message: error_message.map(|message| message.into_string().into()),
        leader: None,
    })
}
