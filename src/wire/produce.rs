//! Produce, versions 3 to 13, by hand: the records of a request stay slices of
//! its frame. Flexible from version 9, topics by id from version 13.

use std::borrow::Cow;

use bytes::Bytes;
use kafka_wire_core::StrBytes;

use super::gather::Gather;
use super::reader::Reader;
use super::{Api, TopicRef, WireError, api};
use crate::base::ErrorCode;
use crate::record::Codec;

pub(super) const FLEXIBLE_FROM: i16 = 9;
pub(super) const TOPIC_IDS_FROM: i16 = 13;
pub(super) const ERROR_MESSAGES_FROM: i16 = 8;
pub(super) const LOG_START_FROM: i16 = 5;

/// A produce request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceRequest {
    /// Set by transactional producers.
    pub transactional_id: Option<StrBytes>,
    /// 0 no answer, 1 and -1 an answer when durable; other values are for the broker to refuse.
    pub acks: i16,
    /// Milliseconds the client is willing to wait for the replicas.
    pub timeout_ms: i32,
    /// The records.
    pub topics: Vec<ProduceTopic>,
}

/// The records for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopic {
    /// Which one.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<ProducePartition>,
}

/// The records for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    /// Which one.
    pub index: i32,
    /// As sent, not looked at; see [`crate::record::validate_produced`].
    pub records: Option<Bytes>,
}

impl ProduceRequest {
    /// Parses the body of a request of a version that is served.
    ///
    /// # Errors
    /// If the body is malformed, or the version is not served.
    pub fn parse(body: Bytes, version: i16) -> Result<Self, WireError> {
        check_version(version)?;
        let mut reader = Reader::new(body, version >= FLEXIBLE_FROM);
        let transactional_id = reader.nullable_string("transactional id")?;
        let acks = reader.i16("acks")?;
        let timeout_ms = reader.i32("timeout")?;
        let topics = reader.list(6, "topics", |reader| {
            let topic = reader.topic(version >= TOPIC_IDS_FROM)?;
            let partitions = reader.list(5, "partitions", |reader| {
                let index = reader.i32("partition index")?;
                let records = reader.nullable_bytes("records")?;
                reader.skip_tags()?;
                Ok(ProducePartition { index, records })
            })?;
            reader.skip_tags()?;
            Ok(ProduceTopic { topic, partitions })
        })?;
        reader.skip_tags()?;
        reader.finish()?;
        Ok(Self {
            transactional_id,
            acks,
            timeout_ms,
            topics,
        })
    }
}

fn check_version(version: i16) -> Result<(), WireError> {
    match api(Api::PRODUCE) {
        Some(api) if api.serves(version) => Ok(()),
        _ => Err(WireError::UnsupportedVersion {
            api: "Produce",
            version,
        }),
    }
}

/// Whether a producer may use this codec in a request of this version; if not, the partition is
/// refused with `UNSUPPORTED_COMPRESSION_TYPE`. Zstandard came with version 7.
#[must_use]
pub fn codec_allowed(version: i16, codec: Codec) -> bool {
    version >= 7 || codec != Codec::Zstd
}

/// The answer to a produce request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// The answers, topics and partitions as in the request.
    pub topics: Vec<ProduceTopicResponse>,
    /// Milliseconds for which the client should hold back.
    pub throttle_time_ms: i32,
}

/// The answers for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopicResponse {
    /// As the request named it.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<ProducePartitionResponse>,
}

/// The answer for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartitionResponse {
    /// Which one.
    pub index: i32,
    /// Success or why not.
    pub error: ErrorCode,
    /// Offset of the first record; -1 on error.
    pub base_offset: i64,
    /// Milliseconds since 1970 if the topic has LogAppendTime, otherwise -1.
    pub log_append_time: i64,
    /// First offset of the partition; -1 if unknown.
    pub log_start_offset: i64,
    /// For people, on error; from version 8.
    pub error_message: Option<Cow<'static, str>>,
}

impl ProducePartitionResponse {
    /// The answer for records that were not taken.
    #[must_use]
    pub const fn failed(index: i32, error: ErrorCode, message: Option<Cow<'static, str>>) -> Self {
        Self {
            index,
            error,
            base_offset: -1,
            log_append_time: -1,
            log_start_offset: -1,
            error_message: message,
        }
    }
}

/// The frame of a response, length prefix included.
///
/// # Panics
/// If the frame is 2 GiB or longer; the size of the request bounds it far below.
#[must_use]
pub fn encode_response(correlation_id: i32, version: i16, response: &ProduceResponse) -> Bytes {
    let flexible = version >= FLEXIBLE_FROM;
    let mut out = Gather::new(64 + 64 * response.topics.len(), flexible);
    out.i32(correlation_id);
    out.no_tags();
    out.len(Some(response.topics.len()));
    for topic in &response.topics {
        out.topic(&topic.topic);
        out.len(Some(topic.partitions.len()));
        for partition in &topic.partitions {
            encode_partition(&mut out, version, partition);
        }
        out.no_tags();
    }
    out.i32(response.throttle_time_ms);
    out.no_tags();
    out.finish(|bytes| bytes).pop().unwrap_or_default()
}

fn encode_partition(out: &mut Gather<Bytes>, version: i16, partition: &ProducePartitionResponse) {
    out.i32(partition.index);
    out.i16(partition.error.code());
    out.i64(partition.base_offset);
    out.i64(partition.log_append_time);
    if version >= LOG_START_FROM {
        out.i64(partition.log_start_offset);
    }
    if version >= ERROR_MESSAGES_FROM {
        // No errors of single records: a batch is refused as a whole.
        out.len(Some(0));
        out.nullable_string(partition.error_message.as_deref());
    }
    out.no_tags();
}
