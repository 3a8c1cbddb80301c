//! DeleteRecords (key 21), versions 0 to 2: drops what is before an offset.

use bytes::Bytes;
use kafka_wire as kw;

use super::front::{Answers, Head, Queries, Shape, next};
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::fx::Fx;
use crate::broker::msg::Query;
use crate::wire::{self, RequestHeader, TopicRef, WireError};

impl Queries {
    /// DeleteRecords.
    pub fn delete_records(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let request: kw::DeleteRecordsRequest =
            wire::decode(body, header.version).map_err(|error| error.to_string())?;
        let asks = request.topics.iter().map(|topic| {
            let asks = topic.partitions.iter().map(|partition| {
                let query = Ok(Query::DeleteBefore(partition.offset));
                (partition.partition_index, -1, query)
            });
            (TopicRef::Name(topic.name.clone()), asks.collect())
        });
        let asks = asks.collect();
        self.ask(front, reply_to, header, asks, Box::new(request), fx);
        Ok(())
    }
}

impl Shape for kw::DeleteRecordsRequest {
    fn response(self: Box<Self>, head: Head, answers: Answers<'_>) -> Result<Bytes, WireError> {
        let response = delete_records_response(*self, answers);
        wire::encode_response(head.correlation_id, head.version, &response)
    }
}

fn delete_records_response(
    request: kw::DeleteRecordsRequest,
    answers: Answers<'_>,
) -> kw::DeleteRecordsResponse {
    let mut response = kw::DeleteRecordsResponse::default();
    for topic in request.topics {
        let mut out = kw::delete_records_response::DeleteRecordsTopicResult::default();
        out.name = topic.name;
        for partition in topic.partitions {
            let (error_code, answered) = next(answers);
            let mut result = kw::delete_records_response::DeleteRecordsPartitionResult::default();
            result.partition_index = partition.partition_index;
            result.low_watermark = answered.offset;
            result.error_code = error_code;
            out.partitions.push(result);
        }
        response.topics.push(out);
    }
    response
}
