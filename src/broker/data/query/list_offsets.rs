//! ListOffsets (key 2), versions 1 to 11.
//!
//! Deviations: the special timestamps of tiered storage (-4, -5, -6) are answered as Kafka does without
//! tiered storage: -4 as the earliest, -5 and -6 as unknown (-1). A lookup may have to read and open a batch;
//! it waits for the disk without holding up the shard.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use kafka_wire as kw;

use super::front::{Answers, Head, Queries, Shape, next};
use crate::base::ErrorCode;
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::fx::Fx;
use crate::broker::msg::Query;
use crate::wire::{self, RequestHeader, TopicRef, WireError};

impl Queries {
    /// ListOffsets.
    pub fn list_offsets(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let mut request: kw::ListOffsetsRequest =
            wire::decode(body, header.version).map_err(|error| error.to_string())?;
        let twice = merge_mentions(&mut request);
        let asks = request.topics.iter().enumerate().map(|(place, topic)| {
            let asks = topic.partitions.iter().map(|partition| {
                let index = partition.partition_index;
                let query = if twice.contains(&(place, index)) {
                    Err(ErrorCode::InvalidRequest)
                } else {
                    query_of(partition.timestamp, header.version)
                };
                (index, partition.current_leader_epoch, query)
            });
            (TopicRef::Name(topic.name.clone()), asks.collect())
        });
        let asks = asks.collect();
        self.ask(front, reply_to, header, asks, Box::new(request), fx);
        Ok(())
    }
}

impl Shape for kw::ListOffsetsRequest {
    fn response(self: Box<Self>, head: Head, answers: Answers<'_>) -> Result<Bytes, WireError> {
        let response = list_offsets_response(*self, head.version, answers);
        wire::encode_response(head.correlation_id, head.version, &response)
    }
}

/// What a timestamp of ListOffsets asks for; `ErrorCode::None` for what is never known here.
fn query_of(timestamp: i64, version: i16) -> Result<Query, ErrorCode> {
    match timestamp {
        at if at >= 0 => Ok(Query::AtTime(at)),
        -1 => Ok(Query::Latest),
        -2 => Ok(Query::Earliest),
        -3 if version >= 7 => Ok(Query::MaxTimestamp),
        -4 if version >= 8 => Ok(Query::Earliest),
        -5 if version >= 9 => Err(ErrorCode::None),
        -6 if version >= 11 => Err(ErrorCode::None),
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

/// Makes one mention of each topic and partition that is mentioned more than once; returns the partitions that are,
/// with the places of their topics.
fn merge_mentions(request: &mut kw::ListOffsetsRequest) -> HashSet<(usize, i32)> {
    let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
    let mut places = HashMap::new();
    for topic in &request.topics {
        let next = places.len();
        let place = *places.entry(topic.name.clone()).or_insert(next);
        for partition in &topic.partitions {
            let asked = (place, partition.partition_index);
            if !seen.insert(asked) {
                twice.insert(asked);
            }
        }
    }
    if twice.is_empty() {
        return twice;
    }
    seen.clear();
    for mut topic in std::mem::take(&mut request.topics) {
        let place = places[&topic.name];
        topic
            .partitions
            .retain(|asked| seen.insert((place, asked.partition_index)));
        match request.topics.get_mut(place) {
            Some(known) => known.partitions.append(&mut topic.partitions),
            None => request.topics.push(topic),
        }
    }
    twice
}

fn list_offsets_response(
    request: kw::ListOffsetsRequest,
    version: i16,
    answers: Answers<'_>,
) -> kw::ListOffsetsResponse {
    let mut response = kw::ListOffsetsResponse::default();
    for topic in request.topics {
        let mut out = kw::list_offsets_response::ListOffsetsTopicResponse::default();
        out.name = topic.name;
        for partition in topic.partitions {
            let (error_code, answered) = next(answers);
            let mut result = kw::list_offsets_response::ListOffsetsPartitionResponse::default();
            result.partition_index = partition.partition_index;
            result.error_code = error_code;
            result.timestamp = answered.timestamp_ms;
            result.offset = answered.offset;
            result.leader_epoch = if version >= 4 {
                answered.leader_epoch
            } else {
                -1
            };
            out.partitions.push(result);
        }
        response.topics.push(out);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::StrBytes;

    /// As Kafka 4.3.1 answers.
    #[test]
    fn special_timestamps_have_versions() {
        use ErrorCode::{None as NeverKnown, UnsupportedVersion as Unsupported};
        for (timestamp, version, wanted) in [
            (0, 1, Ok(Query::AtTime(0))),
            (-1, 1, Ok(Query::Latest)),
            (-2, 1, Ok(Query::Earliest)),
            (-3, 6, Err(Unsupported)),
            (-3, 7, Ok(Query::MaxTimestamp)),
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

    #[test]
    fn what_is_mentioned_twice_is_answered_once() {
        let request = |topics: &[(&str, &[i32])]| {
            let mut request = kw::ListOffsetsRequest::default();
            for (name, partitions) in topics {
                let mut topic = kw::list_offsets_request::ListOffsetsTopic::default();
                topic.name = StrBytes::from(*name);
                for index in *partitions {
                    let mut one = kw::list_offsets_request::ListOffsetsPartition::default();
                    one.partition_index = *index;
                    topic.partitions.push(one);
                }
                request.topics.push(topic);
            }
            request
        };
        let mut asked = request(&[("a", &[0, 1]), ("a", &[2])]);
        assert!(merge_mentions(&mut asked).is_empty());
        assert_eq!(asked, request(&[("a", &[0, 1]), ("a", &[2])]), "as it was");
        let mut asked = request(&[("a", &[0, 1, 0, 0]), ("b", &[0]), ("a", &[2, 1])]);
        let twice = merge_mentions(&mut asked);
        assert_eq!(asked, request(&[("a", &[0, 1, 2]), ("b", &[0])]));
        assert_eq!(twice, HashSet::from([(0, 0), (0, 1)]));
    }
}
