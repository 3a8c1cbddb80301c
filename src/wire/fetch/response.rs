//! The fetch response: a list of pieces, of which only the few bytes around the
//! records are written here.

use super::versions::{FLEXIBLE_FROM, LEADERS_FROM, LOG_START_FROM, RACK_FROM, SESSIONS_FROM};
use crate::base::ErrorCode;
use crate::store::Piece;
use crate::wire::TopicRef;
use crate::wire::gather::Gather;
use crate::wire::leaders::{CurrentLeader, NodeEndpoint};

/// The number of the field of a partition that says who leads it.
const LEADER_TAG: u32 = 1;

/// What a response says before its partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchHead {
    /// Milliseconds for which the client should hold back.
    pub throttle_time_ms: i32,
    /// Error of the whole request, from version 7: fetch sessions.
    pub error: ErrorCode,
    /// The fetch session, 0 for none; from version 7.
    pub session_id: i32,
}

/// The answers for one topic.
#[derive(Clone, Debug)]
pub struct FetchTopicResponse {
    /// As the request named it.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<FetchPartitionResponse>,
}

/// The answer for one partition.
#[derive(Clone, Debug)]
pub struct FetchPartitionResponse {
    /// Which one.
    pub index: i32,
    /// Success or why not.
    pub error: ErrorCode,
    /// Offset up to which records are replicated; -1 on error.
    pub high_watermark: i64,
    /// Offset up to which transactions are decided; -1 on error.
    pub last_stable_offset: i64,
    /// First offset of the partition, from version 5; -1 on error.
    pub log_start_offset: i64,
    /// Transactions to skip: a list for read-committed consumers, `None` for others.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// Replica that the consumer should rather read from, from version 11; -1 for none.
    pub preferred_read_replica: i32,
    /// Who leads it, if that is another broker; from version 16, as Kafka says it.
    pub leader: Option<CurrentLeader>,
    /// The records; without any, the response says "empty", never null, as Kafka's broker does.
    pub records: Vec<Piece>,
}

impl FetchPartitionResponse {
    /// The answer for a partition that cannot be read.
    #[must_use]
    pub const fn failed(index: i32, error: ErrorCode) -> Self {
        Self {
            index,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted: None,
            preferred_read_replica: -1,
            leader: None,
            records: Vec::new(),
        }
    }
}

/// An aborted transaction within the fetched range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: i64,
    /// Offset of its first record.
    pub first_offset: i64,
}

/// The frame of a response, length prefix included; with where the leaders are that it names, from version 16.
///
/// # Panics
/// If the frame is 2 GiB or longer: the caller bounds the records by `fetch.max.bytes`.
#[must_use]
pub fn encode_response(
    correlation_id: i32,
    version: i16,
    head: FetchHead,
    topics: Vec<FetchTopicResponse>,
    endpoints: &[NodeEndpoint],
) -> Vec<Piece> {
    let partitions: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut out = Gather::new(
        64 + 64 * (topics.len() + partitions),
        version >= FLEXIBLE_FROM,
    );
    out.i32(correlation_id);
    out.no_tags();
    out.i32(head.throttle_time_ms);
    if version >= SESSIONS_FROM {
        out.i16(head.error.code());
        out.i32(head.session_id);
    }
    out.len(Some(topics.len()));
    for topic in topics {
        out.topic(&topic.topic);
        out.len(Some(topic.partitions.len()));
        for partition in topic.partitions {
            encode_partition(&mut out, version, partition);
        }
        out.no_tags();
    }
    match version {
        LEADERS_FROM.. => out.endpoints_tag(endpoints),
        _ => out.no_tags(),
    }
    out.finish(Piece::Memory)
}

fn encode_partition(out: &mut Gather<Piece>, version: i16, partition: FetchPartitionResponse) {
    out.i32(partition.index);
    out.i16(partition.error.code());
    out.i64(partition.high_watermark);
    out.i64(partition.last_stable_offset);
    if version >= LOG_START_FROM {
        out.i64(partition.log_start_offset);
    }
    out.len(partition.aborted.as_ref().map(Vec::len));
    for aborted in partition.aborted.iter().flatten() {
        out.i64(aborted.producer_id);
        out.i64(aborted.first_offset);
        out.no_tags();
    }
    if version >= RACK_FROM {
        out.i32(partition.preferred_read_replica);
    }
    out.len(Some(partition.records.iter().map(Piece::len).sum()));
    for piece in partition.records {
        out.payload(piece.len(), piece);
    }
    out.leader_tag(
        LEADER_TAG,
        partition.leader.filter(|_| version >= LEADERS_FROM),
    );
}
