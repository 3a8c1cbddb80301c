//! DeleteRecords (key 21), versions 0 to 2: drops what is before an offset. As in Kafka the answer has each partition
//! once, and of those that are named again the last one counts.

use bytes::Bytes;
use kafka_wire::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_wire::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::front::{Queries, outcome};
use super::questions::{Again, LogQuestion, LogResult, Questions};
use crate::base::ErrorCode;
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::long::LongKind;
use crate::broker::fx::Fx;
use crate::broker::msg::Query;
use crate::wire::{ListFrame, ListedPartition, RequestHeader, StrBytes, WireError};

#[derive(Debug)]
struct Deletions;

impl Queries {
    /// DeleteRecords.
    pub fn delete_records(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), WireError> {
        let empty = DeleteRecordsResponse::default();
        let frame = ListFrame::new(header.correlation_id, header.version, &empty, 0)?;
        let questions = Questions::<Deletions>::new(header, body, frame)?;
        self.ask(front, reply_to, questions, fx);
        Ok(())
    }
}

impl LogQuestion for Deletions {
    type Request = DeleteRecordsRequest;
    type Topic = DeleteRecordsTopicResult;
    type Partition = DeleteRecordsPartitionResult;

    const KIND: LongKind = LongKind::Changes;
    const AGAIN: Again = Again::Counts;

    fn query(listed: &ListedPartition, _: i16) -> Result<Query, ErrorCode> {
        Ok(Query::DeleteBefore(listed.value))
    }

    fn topic(name: StrBytes) -> DeleteRecordsTopicResult {
        let mut topic = DeleteRecordsTopicResult::default();
        topic.name = name;
        topic
    }

    fn partition(
        listed: &ListedPartition,
        answer: LogResult,
        _: i16,
    ) -> Option<DeleteRecordsPartitionResult> {
        let (error_code, answered) = outcome(answer);
        let mut result = DeleteRecordsPartitionResult::default();
        result.partition_index = listed.index;
        result.low_watermark = answered.offset;
        result.error_code = error_code;
        Some(result)
    }
}
