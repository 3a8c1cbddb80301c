//! DescribeLogDirs (35), versions 1-5: the sizes of partitions, which user interfaces and
//! `kafka-log-dirs.sh` show.
//!
//! - The data directory is the only directory, whatever stores are in it. A size is what the partition's
//!   records take; the store that holds it has room of its own besides.
//! - Without topics (null) every partition is told; a topic or partition that does not exist is left out.
//! - Size and free space of the volume (version 4) are -1, unknown: the bound of a store is
//!   `millrace.store.bytes.max`. No directory is cordoned (version 5), none is being moved to.
//! - Replicas that follow are told as those that lead. How far one is behind its leader is 0, as in Kafka, which
//!   compares the replica's end with the high watermark that it knows itself.
//! - With direct ports each core is a broker, and tells of its own partitions.

use bytes::Bytes;
use kafka_wire::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_wire::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::front::Queries;
use super::questions::{Again, LogQuestion, LogResult, Questions};
use crate::base::ErrorCode;
use crate::broker::front::Front;
use crate::broker::front::conns::ConnPurpose;
use crate::broker::front::conns::ReplyTo;
use crate::broker::fx::Fx;
use crate::broker::msg::Query;
use crate::wire::{ListFrame, ListedPartition, RequestHeader, StrBytes, WireError};

#[derive(Debug)]
struct Sizes;

impl Queries {
    /// DescribeLogDirs, of the whole node or of one shard alone.
    pub fn describe_log_dirs(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), WireError> {
        let conn = front.conns.get(reply_to.conn);
        let direct = conn.is_some_and(|conn| conn.purpose == ConnPurpose::Direct);
        let (empty, behind) = directory(&front.config.log_dirs, header.version);
        let frame = ListFrame::new(header.correlation_id, header.version, &empty, behind)?;
        let questions = Questions::<Sizes>::new(header, body, frame)?;
        self.ask(
            front,
            reply_to,
            questions.of_shard(direct.then_some(fx.me)),
            fx,
        );
        Ok(())
    }
}

/// The answer without its topics, and how many bytes it has behind them.
fn directory(path: &str, version: i16) -> (DescribeLogDirsResponse, usize) {
    let mut result = DescribeLogDirsResult::default();
    result.log_dir = path.into();
    result.total_bytes = -1;
    result.usable_bytes = -1;
    let mut response = DescribeLogDirsResponse::default();
    response.results.push(result);
    let sizes = if version >= 4 { 16 } else { 0 };
    // Cordoned or not; the tagged fields of the directory.
    let behind = sizes + usize::from(version >= 5) + usize::from(version >= 2);
    (response, behind)
}

impl LogQuestion for Sizes {
    type Request = DescribeLogDirsRequest;
    type Topic = DescribeLogDirsTopic;
    type Partition = DescribeLogDirsPartition;

    const AGAIN: Again = Again::Counts;
    const OMITS_EMPTY: bool = true;

    fn query(_: &ListedPartition, _: i16) -> Result<Query, ErrorCode> {
        Ok(Query::Size)
    }

    fn topic(name: StrBytes) -> DescribeLogDirsTopic {
        let mut topic = DescribeLogDirsTopic::default();
        topic.name = name;
        topic
    }

    fn partition(
        listed: &ListedPartition,
        answer: LogResult,
        _: i16,
    ) -> Option<DescribeLogDirsPartition> {
        let mut partition = DescribeLogDirsPartition::default();
        partition.partition_index = listed.index;
        partition.partition_size = answer.ok()?.offset;
        Some(partition)
    }
}
