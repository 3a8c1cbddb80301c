//! The fetch request.

use bytes::Bytes;
use kafka_wire_core::StrBytes;

use super::versions::{
    FLEXIBLE_FROM, LOG_START_FROM, RACK_FROM, SESSIONS_FROM, TOPIC_IDS_FROM, VERSIONS,
};
use crate::base::limits::DECODE_BYTES_MAX;
use crate::wire::reader::{Reader, TOPIC_BYTES_MIN};
use crate::wire::{TopicRef, WireError};

const LEADER_EPOCH_FROM: i16 = 9;
const LAST_FETCHED_EPOCH_FROM: i16 = 12;
/// From here on the replica names itself in a tagged field.
const REPLICA_STATE_FROM: i16 = 15;
const REPLICA_STATE_TAG: u32 = 1;

/// Which records a consumer wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IsolationLevel {
    /// All up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Only those up to the last stable offset.
    ReadCommitted,
}

/// A fetch request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchRequest {
    /// Node id of a follower; negative for consumers.
    pub replica_id: i32,
    /// Milliseconds to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// Bytes that end the wait.
    pub min_bytes: i32,
    /// Bytes that the response may have, beyond at least one batch.
    pub max_bytes: i32,
    /// Which records are wanted.
    pub isolation: IsolationLevel,
    /// Fetch session (KIP-227), 0 for none. Before version 7: 0.
    pub session_id: i32,
    /// Epoch within the session; 0 opens one, -1 closes it. Before version 7: -1.
    pub session_epoch: i32,
    /// What to fetch; within a session, what changed.
    pub topics: Vec<FetchTopic>,
    /// What to take out of the session.
    pub forgotten: Vec<ForgottenTopic>,
    /// Rack of the consumer, empty for none.
    pub rack: StrBytes,
}

/// What to fetch of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopic {
    /// Which one.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<FetchPartition>,
}

/// What to fetch of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Which one.
    pub index: i32,
    /// The leader epoch the client knows, -1 for none.
    pub current_leader_epoch: i32,
    /// Offset to begin at.
    pub fetch_offset: i64,
    /// Epoch of the last record fetched, -1 for none; asks for a divergence check.
    pub last_fetched_epoch: i32,
    /// First offset of the follower; -1 for consumers.
    pub log_start_offset: i64,
    /// Bytes wanted of this partition.
    pub max_bytes: i32,
}

/// Partitions to take out of a fetch session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgottenTopic {
    /// The topic.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

impl FetchRequest {
    /// Parses the body of a request of a version that is served.
    ///
    /// # Errors
    /// If the body is malformed, or the version is not served.
    pub fn parse(body: Bytes, version: i16) -> Result<Self, WireError> {
        if !VERSIONS.contains(&version) {
            return Err(WireError::UnsupportedVersion {
                api: "Fetch",
                version,
            });
        }
        let bytes = body.len();
        if bytes > DECODE_BYTES_MAX {
            return Err(WireError::TooLong { bytes });
        }
        let mut reader = Reader::new(body, version >= FLEXIBLE_FROM);
        let mut request = Self::parse_head(&mut reader, version)?;
        request.topics = reader.list(TOPIC_BYTES_MIN, "topics", |reader| topic(reader, version))?;
        if version >= SESSIONS_FROM {
            request.forgotten = reader.list(TOPIC_BYTES_MIN, "forgotten", |reader| {
                forgotten(reader, version)
            })?;
        }
        if version >= RACK_FROM {
            request.rack = reader.string("rack")?;
        }
        let replica_id = &mut request.replica_id;
        reader.tags(|tag, field| {
            if tag == REPLICA_STATE_TAG && version >= REPLICA_STATE_FROM {
                *replica_id = field.i32("replica id")?;
            }
            Ok(())
        })?;
        Ok(request)
    }

    /// The session that a request of a version that is served goes on with, if it does; what follows is not looked at.
    #[must_use]
    pub fn resumed_session(body: &Bytes, version: i16) -> Option<i32> {
        let mut reader = Reader::new(body.clone(), version >= FLEXIBLE_FROM);
        let head = Self::parse_head(&mut reader, version).ok()?;
        (head.session_epoch > 0).then_some(head.session_id)
    }

    /// What comes before the lists.
    fn parse_head(reader: &mut Reader, version: i16) -> Result<Self, WireError> {
        let mut request = Self {
            replica_id: -1,
            session_epoch: -1,
            ..Self::default()
        };
        if version < REPLICA_STATE_FROM {
            request.replica_id = reader.i32("replica id")?;
        }
        request.max_wait_ms = reader.i32("max wait")?;
        request.min_bytes = reader.i32("min bytes")?;
        request.max_bytes = reader.i32("max bytes")?;
        request.isolation = isolation(reader)?;
        if version >= SESSIONS_FROM {
            request.session_id = reader.i32("session id")?;
            request.session_epoch = reader.i32("session epoch")?;
        }
        Ok(request)
    }
}

fn isolation(reader: &mut Reader) -> Result<IsolationLevel, WireError> {
    const WHAT: &str = "isolation level";
    let at = reader.position();
    match reader.i8(WHAT)? {
        0 => Ok(IsolationLevel::ReadUncommitted),
        1 => Ok(IsolationLevel::ReadCommitted),
        _ => Err(WireError::Malformed { what: WHAT, at }),
    }
}

fn topic(reader: &mut Reader, version: i16) -> Result<FetchTopic, WireError> {
    let topic = reader.topic(version >= TOPIC_IDS_FROM)?;
    let partitions = reader.list(16, "partitions", |reader| partition(reader, version))?;
    reader.skip_tags()?;
    Ok(FetchTopic { topic, partitions })
}

fn partition(reader: &mut Reader, version: i16) -> Result<FetchPartition, WireError> {
    let partition = FetchPartition {
        index: reader.i32("partition index")?,
        current_leader_epoch: if version >= LEADER_EPOCH_FROM {
            reader.i32("leader epoch")?
        } else {
            -1
        },
        fetch_offset: reader.i64("fetch offset")?,
        last_fetched_epoch: if version >= LAST_FETCHED_EPOCH_FROM {
            reader.i32("last fetched epoch")?
        } else {
            -1
        },
        log_start_offset: if version >= LOG_START_FROM {
            reader.i64("log start offset")?
        } else {
            -1
        },
        max_bytes: reader.i32("partition max bytes")?,
    };
    // A follower's directory id and high watermark: followers of ours do not fetch.
    reader.skip_tags()?;
    Ok(partition)
}

fn forgotten(reader: &mut Reader, version: i16) -> Result<ForgottenTopic, WireError> {
    let topic = reader.topic(version >= TOPIC_IDS_FROM)?;
    let partitions = reader.list(4, "partitions", |reader| reader.i32("partition index"))?;
    reader.skip_tags()?;
    Ok(ForgottenTopic { topic, partitions })
}
