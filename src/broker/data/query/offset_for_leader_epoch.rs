//! OffsetForLeaderEpoch (key 23), versions 2 to 4: where a leader's records end.

use bytes::Bytes;
use kafka_wire::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_wire::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::front::{Queries, outcome};
use super::questions::{Again, LogQuestion, LogResult, Questions};
use crate::base::ErrorCode;
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::fx::Fx;
use crate::broker::msg::Query;
use crate::wire::{ListFrame, ListedPartition, RequestHeader, StrBytes, WireError};

#[derive(Debug)]
struct EpochEnds;

impl Queries {
    /// OffsetForLeaderEpoch.
    pub fn offset_for_leader_epoch(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), WireError> {
        let empty = OffsetForLeaderEpochResponse::default();
        let frame = ListFrame::new(header.correlation_id, header.version, &empty, 0)?;
        let questions = Questions::<EpochEnds>::new(header, body, frame)?;
        self.ask(front, reply_to, questions, fx);
        Ok(())
    }
}

impl LogQuestion for EpochEnds {
    type Request = OffsetForLeaderEpochRequest;
    type Topic = OffsetForLeaderTopicResult;
    type Partition = EpochEndOffset;

    const AGAIN: Again = Again::Asked;

    fn query(listed: &ListedPartition, _: i16) -> Result<Query, ErrorCode> {
        // It has 32 bits in the request.
        Ok(Query::EpochEnd(listed.value as i32))
    }

    fn topic(name: StrBytes) -> OffsetForLeaderTopicResult {
        let mut topic = OffsetForLeaderTopicResult::default();
        topic.topic = name;
        topic
    }

    fn partition(listed: &ListedPartition, answer: LogResult, _: i16) -> Option<EpochEndOffset> {
        let (error_code, answered) = outcome(answer);
        let mut result = EpochEndOffset::default();
        result.partition = listed.index;
        result.error_code = error_code;
        result.leader_epoch = answered.leader_epoch;
        result.end_offset = answered.offset;
        Some(result)
    }
}
