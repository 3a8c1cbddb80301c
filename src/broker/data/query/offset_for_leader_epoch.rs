//! OffsetForLeaderEpoch (key 23), versions 2 to 4: where a leader's records end.

use bytes::Bytes;
use kafka_wire as kw;

use super::front::{Answers, Head, Queries, Shape, next};
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::fx::Fx;
use crate::broker::msg::Query;
use crate::wire::{self, RequestHeader, TopicRef, WireError};

impl Queries {
    /// OffsetForLeaderEpoch.
    pub fn offset_for_leader_epoch(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let request: kw::OffsetForLeaderEpochRequest =
            wire::decode(body, header.version).map_err(|error| error.to_string())?;
        let asks = request.topics.iter().map(|topic| {
            let asks = topic.partitions.iter().map(|partition| {
                let query = Ok(Query::EpochEnd(partition.leader_epoch));
                (partition.partition, partition.current_leader_epoch, query)
            });
            (TopicRef::Name(topic.topic.clone()), asks.collect())
        });
        let asks = asks.collect();
        self.ask(front, reply_to, header, asks, Box::new(request), fx);
        Ok(())
    }
}

impl Shape for kw::OffsetForLeaderEpochRequest {
    fn response(self: Box<Self>, head: Head, answers: Answers<'_>) -> Result<Bytes, WireError> {
        let response = epoch_end_response(*self, answers);
        wire::encode_response(head.correlation_id, head.version, &response)
    }
}

fn epoch_end_response(
    request: kw::OffsetForLeaderEpochRequest,
    answers: Answers<'_>,
) -> kw::OffsetForLeaderEpochResponse {
    let mut response = kw::OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let mut out = kw::offset_for_leader_epoch_response::OffsetForLeaderTopicResult::default();
        out.topic = topic.topic;
        for partition in topic.partitions {
            let (error_code, answered) = next(answers);
            let mut result = kw::offset_for_leader_epoch_response::EpochEndOffset::default();
            result.partition = partition.partition;
            result.error_code = error_code;
            result.leader_epoch = answered.leader_epoch;
            result.end_offset = answered.offset;
            out.partitions.push(result);
        }
        response.topics.push(out);
    }
    response
}
