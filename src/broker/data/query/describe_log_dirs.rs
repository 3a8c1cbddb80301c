//! DescribeLogDirs (35), versions 1-5: the sizes of partitions, which user interfaces and
//! `kafka-log-dirs.sh` show.
//!
//! - The data directory is the only directory, whatever stores are in it. A size is what the partition's
//!   records take; the store that holds it has room of its own besides.
//! - Without topics (null) every partition is told; a topic or partition that does not exist is left out.
//! - Size and free space of the volume (version 4) are -1, unknown: the bound of a store is
//!   `millrace.store.bytes.max`. No directory is cordoned (version 5), none is being moved to.
//! - With direct ports each core is a broker, and tells of its own partitions.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_wire::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_wire::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::front::{Answers, Head, Queries, Shape};
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::fx::Fx;
use crate::broker::msg::Query;
use crate::controller::Topic;
use crate::wire::{self, RequestHeader, StrBytes, TopicRef, WireError};

/// The partitions whose sizes are asked for, in the order of the questions.
#[derive(Debug)]
struct Sizes {
    /// The data directory.
    dir: String,
    by_topic: Vec<(StrBytes, Vec<i32>)>,
}

impl Queries {
    /// DescribeLogDirs, of the whole node or of one shard alone.
    pub fn describe_log_dirs(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let conn = front.conns.get(reply_to.conn);
        let direct = conn.is_some_and(|conn| conn.direct);
        let only = direct.then_some(fx.me);
        let request: DescribeLogDirsRequest =
            wire::decode(body, header.version).map_err(|error| error.to_string())?;
        let here = |topic: &Topic, index: i32| {
            let partition = topic.partition(index);
            let store = partition.and_then(|partition| partition.store);
            store.is_some_and(|store| only.is_none_or(|shard| front.owner_of(store) == shard))
        };
        let mut wanted: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        match &request.topics {
            None => {
                for topic in front.image.topics() {
                    let all = 0..topic.partitions.len() as i32;
                    wanted.insert(&topic.name, all.collect());
                }
            }
            Some(topics) => {
                for topic in topics {
                    let partitions = wanted.entry(topic.topic.as_str()).or_default();
                    partitions.extend(&topic.partitions);
                }
            }
        }
        let (mut by_topic, mut asks) = (Vec::new(), Vec::new());
        for (name, mut partitions) in wanted {
            let Some(topic) = front.image.topic(name) else {
                continue;
            };
            partitions.sort_unstable();
            partitions.dedup();
            partitions.retain(|index| here(topic, *index));
            let name = StrBytes::from(name);
            let sizes = partitions.iter().map(|index| (*index, -1, Ok(Query::Size)));
            asks.push((TopicRef::Name(name.clone()), sizes.collect()));
            if !partitions.is_empty() {
                by_topic.push((name, partitions));
            }
        }
        let dir = front.config.log_dirs.clone();
        let sizes = Box::new(Sizes { dir, by_topic });
        self.ask(front, reply_to, header, asks, sizes, fx);
        Ok(())
    }
}

impl Shape for Sizes {
    fn response(self: Box<Self>, head: Head, answers: Answers<'_>) -> Result<Bytes, WireError> {
        wire::encode_response(head.correlation_id, head.version, &self.told(answers))
    }
}

impl Sizes {
    /// The answer, given those of the logs. A partition that went away meanwhile is left out.
    fn told(self, answers: Answers<'_>) -> DescribeLogDirsResponse {
        let mut result = DescribeLogDirsResult::default();
        result.log_dir = self.dir.as_str().into();
        result.total_bytes = -1;
        result.usable_bytes = -1;
        for (name, partitions) in self.by_topic {
            let mut topic = DescribeLogDirsTopic::default();
            topic.name = name;
            for index in partitions {
                let Some(Ok(answered)) = answers.next() else {
                    continue;
                };
                let mut partition = DescribeLogDirsPartition::default();
                partition.partition_index = index;
                partition.partition_size = answered.offset;
                topic.partitions.push(partition);
            }
            if !topic.partitions.is_empty() {
                result.topics.push(topic);
            }
        }
        let mut response = DescribeLogDirsResponse::default();
        response.results.push(result);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorCode;
    use crate::broker::msg::Answered;

    #[test]
    fn sizes_are_told_and_what_went_away_is_not() {
        let sizes = Sizes {
            dir: "/data".to_owned(),
            by_topic: vec![
                (StrBytes::from("a"), vec![0, 1]),
                (StrBytes::from("b"), vec![0]),
            ],
        };
        let size = |bytes| {
            Ok(Answered {
                offset: bytes,
                timestamp_ms: -1,
                leader_epoch: -1,
            })
        };
        let gone = || Err(ErrorCode::UnknownTopicOrPartition);
        let mut answers = [gone(), size(7), gone()].into_iter();
        let response = sizes.told(&mut answers);
        assert_eq!((response.error_code, response.results.len()), (0, 1));
        let result = &response.results[0];
        assert_eq!((result.log_dir.as_str(), result.error_code), ("/data", 0));
        assert_eq!((result.total_bytes, result.usable_bytes), (-1, -1));
        assert_eq!(result.topics.len(), 1);
        let partition = &result.topics[0].partitions[0];
        assert_eq!(
            (partition.partition_index, partition.partition_size),
            (1, 7)
        );
    }
}
