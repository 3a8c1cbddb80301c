//! ListOffsets (key 2), versions 1 to 11.
//!
//! Deviations: the special timestamps of tiered storage (-4, -5, -6) are answered as Kafka does without
//! tiered storage: -4 as the earliest, -5 and -6 as unknown (-1). A lookup may have to read and open a batch;
//! it waits for the disk without holding up the shard. As in Kafka the answer has each topic once that has partitions
//! in the request, and each partition once, with INVALID_REQUEST if it is named again.

use bytes::Bytes;
use kafka_wire::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_wire::{ListOffsetsRequest, ListOffsetsResponse};

use super::front::{Queries, outcome};
use super::questions::{Again, LogQuestion, LogResult, Questions};
use crate::base::ErrorCode;
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::fx::Fx;
use crate::broker::msg::{Query, Reader};
use crate::wire::{ListFrame, ListedPartition, RequestHeader, StrBytes, WireError};

/// From this version on the request says which records are wanted,
const ISOLATION_FROM: i16 = 2;
/// and this is how it says that they are those that are committed. Any other value is for all, as in Kafka.
const READ_COMMITTED: u8 = 1;
/// From this version on clients know OFFSET_NOT_AVAILABLE (KIP-207). As in Kafka those before are told
/// LEADER_NOT_AVAILABLE, which they try again at, too.
const OFFSET_NOT_AVAILABLE_FROM: i16 = 5;

#[derive(Debug)]
struct Offsets;

impl Queries {
    /// ListOffsets.
    pub fn list_offsets(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), WireError> {
        let empty = ListOffsetsResponse::default();
        let frame = ListFrame::new(header.correlation_id, header.version, &empty, 0)?;
        // Behind the replica id.
        let committed = header.version >= ISOLATION_FROM && body.get(4) == Some(&READ_COMMITTED);
        let reader = if committed {
            Reader::Committed
        } else {
            Reader::All
        };
        let questions = Questions::<Offsets>::new(header, body, frame)?.by(reader);
        self.ask(front, reply_to, questions, fx);
        Ok(())
    }
}

impl LogQuestion for Offsets {
    type Request = ListOffsetsRequest;
    type Topic = ListOffsetsTopicResponse;
    type Partition = ListOffsetsPartitionResponse;

    const AGAIN: Again = Again::Refused;

    fn query(listed: &ListedPartition, version: i16) -> Result<Query, ErrorCode> {
        query_of(listed.value, version)
    }

    fn topic(name: StrBytes) -> ListOffsetsTopicResponse {
        let mut topic = ListOffsetsTopicResponse::default();
        topic.name = name;
        topic
    }

    fn partition(
        listed: &ListedPartition,
        answer: LogResult,
        version: i16,
    ) -> Option<ListOffsetsPartitionResponse> {
        let answer = match answer {
            Err(ErrorCode::OffsetNotAvailable) if version < OFFSET_NOT_AVAILABLE_FROM => {
                Err(ErrorCode::LeaderNotAvailable)
            }
            answer => answer,
        };
        let (error_code, answered) = outcome(answer);
        let mut result = ListOffsetsPartitionResponse::default();
        result.partition_index = listed.index;
        result.error_code = error_code;
        result.timestamp = answered.timestamp_ms;
        result.offset = answered.offset;
        if version >= 4 {
            result.leader_epoch = answered.leader_epoch;
        }
        Some(result)
    }
}

/// What a timestamp of ListOffsets asks for; `ErrorCode::None` for what is never known here.
fn query_of(timestamp: i64, version: i16) -> Result<Query, ErrorCode> {
    match timestamp {
        at if at >= 0 => Ok(Query::AtTime(at, Reader::All)),
        -1 => Ok(Query::Latest(Reader::All)),
        -2 => Ok(Query::Earliest),
        -3 if version >= 7 => Ok(Query::MaxTimestamp(Reader::All)),
        -4 if version >= 8 => Ok(Query::Earliest),
        -5 if version >= 9 => Err(ErrorCode::None),
        -6 if version >= 11 => Err(ErrorCode::None),
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Kafka 4.3.1 answers.
    #[test]
    fn special_timestamps_have_versions() {
        use ErrorCode::{None as NeverKnown, UnsupportedVersion as Unsupported};
        for (timestamp, version, wanted) in [
            (0, 1, Ok(Query::AtTime(0, Reader::All))),
            (-1, 1, Ok(Query::Latest(Reader::All))),
            (-2, 1, Ok(Query::Earliest)),
            (-3, 6, Err(Unsupported)),
            (-3, 7, Ok(Query::MaxTimestamp(Reader::All))),
            (-4, 7, Err(Unsupported)),
            (-4, 8, Ok(Query::Earliest)),
            (-5, 8, Err(Unsupported)),
            (-5, 9, Err(NeverKnown)),
            (-6, 10, Err(Unsupported)),
            (-6, 11, Err(NeverKnown)),
            (-7, 11, Err(Unsupported)),
        ] {
            let query = query_of(timestamp, version);
            assert_eq!(query, wanted, "{timestamp} in version {version}");
        }
    }

    /// KIP-207: those who do not know OFFSET_NOT_AVAILABLE are told what they try again at.
    #[test]
    fn older_versions_are_told_that_there_is_no_leader() {
        let listed = ListedPartition {
            index: 0,
            believed_epoch: -1,
            value: 0,
        };
        for (code, version, told) in [
            (
                ErrorCode::OffsetNotAvailable,
                1,
                ErrorCode::LeaderNotAvailable,
            ),
            (
                ErrorCode::OffsetNotAvailable,
                4,
                ErrorCode::LeaderNotAvailable,
            ),
            (
                ErrorCode::OffsetNotAvailable,
                5,
                ErrorCode::OffsetNotAvailable,
            ),
            (
                ErrorCode::OffsetNotAvailable,
                11,
                ErrorCode::OffsetNotAvailable,
            ),
            (
                ErrorCode::NotLeaderOrFollower,
                4,
                ErrorCode::NotLeaderOrFollower,
            ),
        ] {
            let answer = Offsets::partition(&listed, Err(code), version).unwrap();
            assert_eq!(answer.error_code, told.code(), "version {version}");
        }
    }
}
