//! Requests that list partitions by topic, read some partitions at a time: there may be hundreds of thousands, each of
//! a few bytes.

use bytes::Bytes;
use kafka_wire::{
    DeleteRecordsRequest, DescribeLogDirsRequest, KafkaMessage, KafkaRequest, ListOffsetsRequest,
    OffsetForLeaderEpochRequest,
};
use kafka_wire_core::{ApiVersion, StrBytes};

use super::error::WireError;
use super::reader::{Reader, TOPIC_BYTES_MIN};
use crate::base::limits::{LISTED_BYTES_MAX, LISTED_ENTRIES_MAX};

/// What a request says of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedPartition {
    /// Its index.
    pub index: i32,
    /// The leader epoch that the client believes in; -1 for none.
    pub believed_epoch: i32,
    /// What it is about: a timestamp, an offset, an epoch.
    pub value: i64,
}

/// The next thing that such a request lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicOrPartition {
    /// A topic, whose partitions follow.
    Topic(StrBytes),
    /// A partition of the topic before it.
    Partition(ListedPartition),
}

/// A request that lists partitions by topic.
pub trait ListsPartitions: KafkaRequest + Clone + std::fmt::Debug {
    /// The least that a partition takes in it.
    const PARTITION_BYTES_MIN: usize;
    /// Whether there may be null in place of the topics.
    const NULLABLE: bool = false;
    /// Bytes before the topics, and behind them.
    fn around(version: i16) -> (usize, usize);
    /// Reads a partition.
    #[doc(hidden)]
    fn partition(body: &mut Body, version: i16) -> Result<ListedPartition, WireError>;
}

/// The body of such a request, as far as it is not read yet.
#[derive(Clone, Debug)]
pub struct Body(Reader);

impl Body {
    fn i32(&mut self) -> Result<i32, WireError> {
        self.0.i32("partition")
    }

    fn i64(&mut self) -> Result<i64, WireError> {
        self.0.i64("partition")
    }
}

impl ListsPartitions for ListOffsetsRequest {
    const PARTITION_BYTES_MIN: usize = 12;

    fn around(version: i16) -> (usize, usize) {
        // Replica id and isolation level; timeout.
        (
            4 + usize::from(version >= 2),
            if version >= 10 { 4 } else { 0 },
        )
    }

    fn partition(body: &mut Body, version: i16) -> Result<ListedPartition, WireError> {
        let listed = ListedPartition {
            index: body.i32()?,
            believed_epoch: if version >= 4 { body.i32()? } else { -1 },
            value: body.i64()?,
        };
        body.0.skip_tags()?;
        Ok(listed)
    }
}

impl ListsPartitions for DeleteRecordsRequest {
    const PARTITION_BYTES_MIN: usize = 12;

    fn around(_: i16) -> (usize, usize) {
        // Timeout.
        (0, 4)
    }

    fn partition(body: &mut Body, _: i16) -> Result<ListedPartition, WireError> {
        let listed = ListedPartition {
            index: body.i32()?,
            believed_epoch: -1,
            value: body.i64()?,
        };
        body.0.skip_tags()?;
        Ok(listed)
    }
}

impl ListsPartitions for OffsetForLeaderEpochRequest {
    const PARTITION_BYTES_MIN: usize = 12;

    fn around(version: i16) -> (usize, usize) {
        // Replica id.
        (if version >= 3 { 4 } else { 0 }, 0)
    }

    fn partition(body: &mut Body, _: i16) -> Result<ListedPartition, WireError> {
        let listed = ListedPartition {
            index: body.i32()?,
            believed_epoch: body.i32()?,
            value: i64::from(body.i32()?),
        };
        body.0.skip_tags()?;
        Ok(listed)
    }
}

impl ListsPartitions for DescribeLogDirsRequest {
    const PARTITION_BYTES_MIN: usize = 4;
    const NULLABLE: bool = true;

    fn around(_: i16) -> (usize, usize) {
        (0, 0)
    }

    fn partition(body: &mut Body, _: i16) -> Result<ListedPartition, WireError> {
        Ok(ListedPartition {
            index: body.i32()?,
            believed_epoch: -1,
            value: 0,
        })
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct PartitionsRequest<Q> {
    body: Body,
    version: i16,
    /// Topics that are still to be read; none if null stands in their place.
    topics: Option<usize>,
    /// Partitions of the topic at hand that are still to be read.
    partitions: usize,
    in_topic: bool,
    /// What is behind the topics, where that is a timeout in ms.
    timeout_ms: Option<i32>,
    of: std::marker::PhantomData<fn() -> Q>,
}

impl<Q: ListsPartitions> PartitionsRequest<Q> {
    /// Begins to read a request's body.
    ///
    /// # Errors
    /// If it is too long, or malformed as far as it is read.
    pub fn new(body: Bytes, version: i16) -> Result<Self, WireError> {
        let bytes = body.len();
        if bytes > LISTED_BYTES_MAX {
            return Err(WireError::TooLong { bytes });
        }
        let flexible = <Q as KafkaMessage>::is_flexible(ApiVersion::new(version));
        let mut reader = Reader::with_entries(body, flexible, LISTED_ENTRIES_MAX);
        reader.skip(Q::around(version).0, TOPICS)?;
        let at = reader.position();
        let topics = reader.nullable_count(TOPIC_BYTES_MIN, TOPICS)?;
        if topics.is_none() && !Q::NULLABLE {
            return Err(WireError::Malformed { what: TOPICS, at });
        }
        Ok(Self {
            body: Body(reader),
            version,
            topics,
            partitions: 0,
            in_topic: false,
            timeout_ms: None,
            of: std::marker::PhantomData,
        })
    }

    /// Whether it lists no topics but has null.
    pub fn is_null(&self) -> bool {
        self.topics.is_none()
    }

    /// For how long the answer is waited for, in ms; known at the end of the list, and if the request says so.
    pub fn timeout_ms(&self) -> Option<i32> {
        self.timeout_ms
    }

    /// Reads on. At the end of the list what is behind it is looked at too.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn read(&mut self) -> Result<Option<TopicOrPartition>, WireError> {
        if let Some(left) = self.partitions.checked_sub(1) {
            self.partitions = left;
            let partition = Q::partition(&mut self.body, self.version)?;
            return Ok(Some(TopicOrPartition::Partition(partition)));
        }
        let reader = &mut self.body.0;
        if std::mem::take(&mut self.in_topic) {
            reader.skip_tags()?;
        }
        let Some(left) = self.topics.and_then(|topics| topics.checked_sub(1)) else {
            let mut rest = reader.clone();
            let what = "fields behind the topics";
            match Q::around(self.version).1 {
                4 => self.timeout_ms = Some(rest.i32(what)?),
                bytes => rest.skip(bytes, what)?,
            }
            rest.skip_tags()?;
            return Ok(None);
        };
        (self.topics, self.in_topic) = (Some(left), true);
        let name = reader.string("topic name")?;
        let at = reader.position();
        let partitions = reader.nullable_count(Q::PARTITION_BYTES_MIN, "partitions")?;
        self.partitions = partitions.ok_or(WireError::Malformed {
            what: "partitions",
            at,
        })?;
        Ok(Some(TopicOrPartition::Topic(name)))
    }
}

const TOPICS: &str = "topics";

#[cfg(test)]
mod tests {
    use kafka_wire::{
        delete_records_request, describe_log_dirs_request, list_offsets_request,
        offset_for_leader_epoch_request,
    };
    use kafka_wire_core::KafkaEncode;

    use super::*;

    fn body(request: &impl KafkaEncode, version: i16) -> Bytes {
        let mut body = bytes::BytesMut::new();
        request
            .encode_into(&mut body, ApiVersion::new(version))
            .unwrap();
        body.freeze()
    }

    fn read<Q: ListsPartitions>(
        body: Bytes,
        version: i16,
    ) -> Result<Vec<TopicOrPartition>, WireError> {
        let mut request = PartitionsRequest::<Q>::new(body, version)?;
        let mut listed = Vec::new();
        while let Some(next) = request.read()? {
            listed.push(next);
        }
        assert_eq!(request.read()?, None, "it stays at its end");
        Ok(listed)
    }

    fn listed(epochs: bool, value: i64) -> Vec<TopicOrPartition> {
        let topic = |name: &'static str| TopicOrPartition::Topic(name.into());
        let partition = |index| {
            TopicOrPartition::Partition(ListedPartition {
                index,
                believed_epoch: if epochs { index + 10 } else { -1 },
                value,
            })
        };
        vec![
            topic("a"),
            partition(0),
            partition(1),
            topic("none"),
            topic("b"),
            partition(7),
        ]
    }

    /// A request for what [`listed`] lists.
    macro_rules! request {
        ($request:ident, $module:ident::$topic:ident.$name:ident, |$index:ident| $partition:expr) => {{
            let mut request = $request::default();
            for (name, indexes) in [("a", &[0, 1][..]), ("none", &[]), ("b", &[7])] {
                let mut topic = $module::$topic::default();
                topic.$name = name.into();
                topic.partitions = indexes.iter().map(|$index| $partition).collect();
                request.topics.extend([topic]);
            }
            request
        }};
    }

    /// Of every version, and what is cut is refused wherever it is.
    fn check<Q: ListsPartitions + KafkaEncode>(
        request: &Q,
        versions: std::ops::RangeInclusive<i16>,
        wanted: impl Fn(i16) -> Vec<TopicOrPartition>,
    ) {
        for version in versions {
            let body = body(request, version);
            let read_whole = read::<Q>(body.clone(), version).unwrap();
            assert_eq!(read_whole, wanted(version), "version {version}");
            for len in 0..body.len() {
                let cut = read::<Q>(body.slice(..len), version);
                assert!(cut.is_err(), "version {version}, {len} bytes");
            }
            let longer = [&body[..], &[7; 3]].concat();
            assert!(read::<Q>(longer.into(), version).is_ok(), "it is ignored");
        }
    }

    #[test]
    fn partitions_are_those_of_every_version() {
        use list_offsets_request::ListOffsetsPartition;
        let request = request!(
            ListOffsetsRequest,
            list_offsets_request::ListOffsetsTopic.name,
            |index| {
                let mut partition = ListOffsetsPartition::default();
                partition.partition_index = *index;
                partition.current_leader_epoch = index + 10;
                partition.timestamp = 1 << 40;
                partition
            }
        );
        check(&request, 1..=11, |version| listed(version >= 4, 1 << 40));
        use delete_records_request::DeleteRecordsPartition;
        let request = request!(
            DeleteRecordsRequest,
            delete_records_request::DeleteRecordsTopic.name,
            |index| {
                let mut partition = DeleteRecordsPartition::default();
                (partition.partition_index, partition.offset) = (*index, 1 << 40);
                partition
            }
        );
        check(&request, 0..=2, |_| listed(false, 1 << 40));
        use offset_for_leader_epoch_request::OffsetForLeaderPartition;
        let request = request!(
            OffsetForLeaderEpochRequest,
            offset_for_leader_epoch_request::OffsetForLeaderTopic.topic,
            |index| {
                let mut partition = OffsetForLeaderPartition::default();
                (partition.partition, partition.leader_epoch) = (*index, 3);
                partition.current_leader_epoch = index + 10;
                partition
            }
        );
        check(&request, 2..=4, |_| listed(true, 3));
    }

    #[test]
    fn directories_may_be_asked_for_what_there_is() {
        let mut request = DescribeLogDirsRequest::default();
        for (name, indexes) in [("a", &[0, 1][..]), ("none", &[]), ("b", &[7])] {
            let mut topic = describe_log_dirs_request::DescribableLogDirTopic::default();
            topic.topic = name.into();
            topic.partitions = indexes.to_vec();
            request.topics.get_or_insert_default().push(topic);
        }
        check(&request, 1..=5, |_| listed(false, 0));
        request.topics = None;
        for version in 1..=5 {
            let all = body(&request, version);
            let all = PartitionsRequest::<DescribeLogDirsRequest>::new(all, version);
            assert!(all.unwrap().is_null());
        }
        let null = body(&request, 1);
        assert!(PartitionsRequest::<DeleteRecordsRequest>::new(null, 0).is_err());
    }

    #[test]
    fn limits_hold() {
        type Request = PartitionsRequest<DescribeLogDirsRequest>;
        let long = Bytes::from(vec![0; LISTED_BYTES_MAX + 1]);
        assert!(Request::new(long.clone(), 1).is_err());
        assert!(Request::new(long.slice(1..), 1).is_ok());
        // One topic of no name.
        let of = |partitions: usize| {
            let mut body = vec![0, 0, 0, 1, 0, 0];
            body.extend((partitions as i32).to_be_bytes());
            body.resize(body.len() + 4 * partitions, 0);
            read::<DescribeLogDirsRequest>(body.into(), 1)
        };
        assert_eq!(
            of(LISTED_ENTRIES_MAX - 1).unwrap().len(),
            LISTED_ENTRIES_MAX
        );
        assert!(matches!(
            of(LISTED_ENTRIES_MAX),
            Err(WireError::TooManyEntries { .. })
        ));
    }
}
