//! Fetch, as a client does it: the records of a response are slices of its frame.
//! Requests are written with [`super::encode_request`].

use bytes::Bytes;

use super::header::{error_of, response_header};
use crate::base::ErrorCode;
use crate::wire::fetch::versions::{FLEXIBLE_FROM, LOG_START_FROM, RACK_FROM, SESSIONS_FROM};
use crate::wire::fetch::{AbortedTransaction, FetchHead, TOPIC_IDS_FROM};
use crate::wire::reader::{Reader, TOPIC_BYTES_MIN};
use crate::wire::{TopicRef, WireError};

/// A fetch response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Throttle time, error and session.
    pub head: FetchHead,
    /// The answers.
    pub topics: Vec<FetchedTopic>,
}

/// What was fetched of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic {
    /// Which one.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// What was fetched of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPartition {
    /// Which one.
    pub index: i32,
    /// Success or why not.
    pub error: ErrorCode,
    /// Offset up to which records are replicated.
    pub high_watermark: i64,
    /// Offset up to which transactions are decided.
    pub last_stable_offset: i64,
    /// First offset of the partition; -1 before version 5.
    pub log_start_offset: i64,
    /// Transactions to skip.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// Replica that the consumer should rather read from, -1 for none.
    pub preferred_read_replica: i32,
    /// Batches, the last one maybe partial; see [`crate::record::batches`]. Null comes as empty.
    pub records: Bytes,
}

/// The correlation id and the body of a fetch response.
///
/// # Errors
/// If the frame is malformed.
pub fn decode_fetch(frame: Bytes, version: i16) -> Result<(i32, Fetched), WireError> {
    let flexible = version >= FLEXIBLE_FROM;
    let (correlation_id, body) = response_header(frame, flexible)?;
    let mut reader = Reader::new(body, flexible);
    let mut head = FetchHead {
        throttle_time_ms: reader.i32("throttle time")?,
        ..FetchHead::default()
    };
    if version >= SESSIONS_FROM {
        head.error = error_of(reader.i16("error code")?);
        head.session_id = reader.i32("session id")?;
    }
    let topics = reader.list(TOPIC_BYTES_MIN, "topics", |reader| {
        let topic = reader.topic(version >= TOPIC_IDS_FROM)?;
        let partitions = reader.list(24, "partitions", |reader| partition(reader, version))?;
        reader.skip_tags()?;
        Ok(FetchedTopic { topic, partitions })
    })?;
    reader.skip_tags()?;
    reader.finish()?;
    Ok((correlation_id, Fetched { head, topics }))
}

fn partition(reader: &mut Reader, version: i16) -> Result<FetchedPartition, WireError> {
    let index = reader.i32("partition index")?;
    let error = error_of(reader.i16("error code")?);
    let high_watermark = reader.i64("high watermark")?;
    let last_stable_offset = reader.i64("last stable offset")?;
    let log_start_offset = if version >= LOG_START_FROM {
        reader.i64("log start offset")?
    } else {
        -1
    };
    let aborted = reader.nullable_list(16, "aborted transactions", |reader| {
        let producer_id = reader.i64("producer id")?;
        let first_offset = reader.i64("first offset")?;
        reader.skip_tags()?;
        Ok(AbortedTransaction {
            producer_id,
            first_offset,
        })
    })?;
    let preferred_read_replica = if version >= RACK_FROM {
        reader.i32("preferred read replica")?
    } else {
        -1
    };
    let records = reader.nullable_bytes("records")?.unwrap_or_default();
    reader.skip_tags()?;
    Ok(FetchedPartition {
        index,
        error,
        high_watermark,
        last_stable_offset,
        log_start_offset,
        aborted,
        preferred_read_replica,
        records,
    })
}
