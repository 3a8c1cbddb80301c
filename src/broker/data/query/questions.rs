//! A request of questions to logs, gone through some partitions at a time: all of it is looked at before anything is
//! asked, then some are asked, what they answer is written, and so on. What it takes in memory besides the request is
//! what is asked at a time, and the answer as far as it is written.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::RequestResponsePair;
use kafka_wire_core::KafkaEncode;

use crate::base::limits::{LISTED_PER_SLICE, TOPIC_NAME_BYTES_MAX};
use crate::base::{ErrorCode, IdMap, LogId, ShardId};
use crate::broker::front::{Front, check_epoch, here, partition_of};
use crate::broker::msg::{Answered, Query};
use crate::controller::{Image, Topic};
use crate::wire::{
    ListFrame, ListedPartition, ListsPartitions, PartitionsRequest, RequestHeader, StrBytes,
    TopicOrPartition, WireError,
};

/// What a partition answers, or why it is not asked.
pub type LogResult = Result<Answered, ErrorCode>;

/// Whom to ask what; an error is answered without asking, and [`ErrorCode::None`] is an offset that is not known.
pub type Located = Result<(ShardId, LogId, Query), ErrorCode>;

/// What becomes of a partition when a request names it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It is asked and answered again.
    Asked,
    /// It is refused where it is named first, and answered only there.
    Refused,
    /// It is answered only where it is named first.
    Ignored,
}

/// What an API asks of partitions, and what it makes of their answers.
pub trait LogQuestion: fmt::Debug + 'static {
    type Request: ListsPartitions + RequestResponsePair;
    /// A topic of the response, and a partition of it.
    type Topic: KafkaEncode;
    type Partition: KafkaEncode;

    const AGAIN: Again = Again::Asked;
    /// Whether a topic of which no partition is told is left out.
    const OMITS_EMPTY: bool = false;

    /// The question.
    fn query(listed: &ListedPartition, version: i16) -> Result<Query, ErrorCode>;

    /// A topic without its partitions.
    fn topic(name: StrBytes) -> Self::Topic;

    /// A partition; nothing if it is left out.
    fn partition(
        listed: &ListedPartition,
        answer: LogResult,
        version: i16,
    ) -> Option<Self::Partition>;
}

/// The steps of a [`Questions`], whatever its API.
pub trait Steps: fmt::Debug {
    /// How much is listed, if it is so little that one turn is enough.
    fn short(&self, front: &Front) -> Result<Option<usize>, WireError>;
    /// It has its first turn: what it takes in memory it takes from now on, for so much as may be listed.
    fn begin(&mut self, front: &Front, listed: Option<usize>);
    /// Looks at some of the request. Returns whether it is all of it.
    fn look(&mut self, left: &mut usize) -> Result<bool, WireError>;
    /// The next partitions, to be asked in this order, and whether they are the last ones.
    fn next(&mut self, front: &Front, left: usize) -> Result<(Vec<Located>, bool), WireError>;
    /// Writes what they answered.
    fn write(&mut self, answers: &mut dyn Iterator<Item = LogResult>) -> Result<(), WireError>;
    /// The response.
    fn finish(&mut self) -> Result<Vec<Bytes>, WireError>;
}

/// Where the partitions come from.
#[derive(Debug)]
enum Source<Q> {
    TopicOrPartition(PartitionsRequest<Q>),
    /// Every one that there is, from this one of the topic at hand on.
    All(usize),
}

/// How often a log was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Once,
    Again,
    /// It was answered for.
    Done,
}

/// See the module.
#[derive(Debug)]
pub struct Questions<A: LogQuestion> {
    source: Source<A::Request>,
    /// What is still to be looked at.
    look: Option<PartitionsRequest<A::Request>>,
    /// The logs that were named, where it matters.
    named: IdMap<LogId, Named>,
    /// The metadata that it is answered by from its first turn on, whatever changes meanwhile.
    image: Arc<Image>,
    /// The one shard whose partitions are told of, if not all are.
    only: Option<ShardId>,
    version: i16,
    /// The topic that is being gone through, if it exists,
    topic: Option<Arc<Topic>>,
    /// and the one whose partitions are being written.
    writing: Option<StrBytes>,
    /// What is being asked.
    asked: Vec<TopicOrPartition>,
    frame: ListFrame,
}

impl<A: LogQuestion> Questions<A> {
    /// Of what a request lists. The frame has the response with nothing listed.
    pub fn new(header: &RequestHeader, body: Bytes, frame: ListFrame) -> Result<Self, WireError> {
        let request = PartitionsRequest::<A::Request>::new(body, header.version)?;
        let all = request.is_null();
        Ok(Self {
            named: IdMap::default(),
            look: (!all).then(|| request.clone()),
            source: match all {
                true => Source::All(0),
                false => Source::TopicOrPartition(request),
            },
            image: Arc::default(),
            only: None,
            version: header.version,
            topic: None,
            writing: None,
            asked: Vec::new(),
            frame,
        })
    }

    /// Tells of a shard's partitions alone.
    pub fn of_shard(mut self, shard: Option<ShardId>) -> Self {
        self.only = shard;
        self
    }

    fn find(&self, name: &StrBytes) -> Option<Arc<Topic>> {
        let possible = name.len() <= TOPIC_NAME_BYTES_MAX;
        self.image.topic(name).filter(|_| possible).cloned()
    }

    /// The next one that is listed.
    fn read(&mut self) -> Result<Option<TopicOrPartition>, WireError> {
        match &mut self.source {
            Source::TopicOrPartition(request) => {
                let listed = request.read()?;
                if let Some(TopicOrPartition::Topic(name)) = &listed {
                    self.topic = self.find(name);
                }
                Ok(listed)
            }
            Source::All(next) => {
                let topic = self.topic.as_ref();
                if topic.is_some_and(|topic| *next < topic.partitions.len()) {
                    let index = *next as i32;
                    *next += 1;
                    return Ok(Some(TopicOrPartition::Partition(ListedPartition {
                        index,
                        believed_epoch: -1,
                        value: 0,
                    })));
                }
                let after = topic.map(|topic| &*topic.name);
                let following = self.image.topic_after(after).cloned();
                *next = 0;
                self.topic = following;
                let name = self
                    .topic
                    .as_ref()
                    .map(|topic| StrBytes::from(&*topic.name));
                Ok(name.map(TopicOrPartition::Topic))
            }
        }
    }

    /// The log that a partition of the topic at hand has.
    fn log(topic: Option<&Arc<Topic>>, listed: &ListedPartition) -> Option<LogId> {
        let partition = topic?.partition(listed.index)?;
        Some(partition.log)
    }

    /// Whom to ask about a partition; nothing if it was named before.
    fn locate(&mut self, front: &Front, listed: &ListedPartition) -> Option<Located> {
        let topic = self.topic.as_ref();
        let log = Self::log(topic, listed);
        if let Some(named) = log.and_then(|log| self.named.get_mut(&log)) {
            match (std::mem::replace(named, Named::Done), A::AGAIN) {
                (Named::Done, _) => return None,
                (Named::Again, Again::Refused) => return Some(Err(ErrorCode::InvalidRequest)),
                _ => {}
            }
        }
        Some(A::query(listed, self.version).and_then(|query| {
            let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
            let partition = partition_of(topic, listed.index)?;
            if matches!(query, Query::DeleteBefore(_)) && topic.internal {
                return Err(ErrorCode::InvalidTopicException);
            }
            check_epoch(listed.believed_epoch, partition.leader_epoch)?;
            let owner = front.owner_of(here(partition)?);
            if self.only.is_some_and(|only| only != owner) {
                return Err(ErrorCode::NotLeaderOrFollower);
            }
            Ok((owner, partition.log, query))
        }))
    }

    /// Ends the topic that is being written.
    fn end_topic(&mut self) -> Result<(), WireError> {
        match self.writing.take() {
            Some(_) if A::OMITS_EMPTY && self.frame.parts() == 0 => Ok(()),
            Some(name) => self.frame.add_around(&A::topic(name), 0),
            None => Ok(()),
        }
    }
}

impl<A: LogQuestion> Steps for Questions<A> {
    fn short(&self, front: &Front) -> Result<Option<usize>, WireError> {
        // All of it is looked at, and then asked.
        const MOST: usize = LISTED_PER_SLICE / 2;
        let within = |listed: usize, more| Some(listed + more).filter(|listed| *listed < MOST);
        let Some(mut request) = self.look.clone() else {
            let mut topics = front.image.topics();
            return Ok(topics.try_fold(0, |all, topic| within(all, 1 + topic.partitions.len())));
        };
        let mut listed = Some(0);
        while let Some(so_far) = listed
            && request.read()?.is_some()
        {
            listed = within(so_far, 1);
        }
        Ok(listed)
    }

    fn begin(&mut self, front: &Front, listed: Option<usize>) {
        self.image = Arc::clone(&front.image);
        if let Some(request) = &self.look
            && A::AGAIN != Again::Asked
        {
            let most = request.partitions_max();
            self.named
                .reserve(listed.map_or(most, |listed| listed.min(most)));
        }
    }

    fn look(&mut self, left: &mut usize) -> Result<bool, WireError> {
        let Some(mut request) = self.look.take() else {
            return Ok(true);
        };
        while let Some(listed) = request.read()? {
            match listed {
                TopicOrPartition::Topic(name) if A::AGAIN != Again::Asked => {
                    self.topic = self.find(&name)
                }
                TopicOrPartition::Partition(listed) if A::AGAIN != Again::Asked => {
                    if let Some(log) = Self::log(self.topic.as_ref(), &listed) {
                        let named = self.named.entry(log);
                        named
                            .and_modify(|named| *named = Named::Again)
                            .or_insert(Named::Once);
                    }
                }
                _ => {}
            }
            *left -= 1;
            if *left == 0 {
                self.look = Some(request);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn next(&mut self, front: &Front, left: usize) -> Result<(Vec<Located>, bool), WireError> {
        let mut located = Vec::new();
        for _ in 0..left {
            let Some(listed) = self.read()? else {
                return Ok((located, true));
            };
            if let TopicOrPartition::Partition(partition) = &listed {
                let Some(to) = self.locate(front, partition) else {
                    continue;
                };
                located.push(to);
            }
            self.asked.push(listed);
        }
        Ok((located, false))
    }

    fn write(&mut self, answers: &mut dyn Iterator<Item = LogResult>) -> Result<(), WireError> {
        for listed in std::mem::take(&mut self.asked) {
            match listed {
                TopicOrPartition::Topic(name) => {
                    self.end_topic()?;
                    self.writing = Some(name);
                }
                TopicOrPartition::Partition(listed) => {
                    let answer = answers.next().unwrap_or(Err(ErrorCode::UnknownServerError));
                    if let Some(partition) = A::partition(&listed, answer, self.version) {
                        self.frame.add_part(&partition)?;
                    }
                }
            }
        }
        self.frame.end_slice();
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Bytes>, WireError> {
        self.end_topic()?;
        self.frame.finish()
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use kafka_wire::list_offsets_response::{
        ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
    };
    use kafka_wire::{ListOffsetsRequest, ListOffsetsResponse};

    use super::*;
    use crate::config::BrokerConfig;
    use crate::wire;
    use crate::wire::client::encode_request;

    const VERSION: i16 = 7;

    #[derive(Debug)]
    struct Asked;

    impl LogQuestion for Asked {
        type Request = ListOffsetsRequest;
        type Topic = ListOffsetsTopicResponse;
        type Partition = ListOffsetsPartitionResponse;

        const AGAIN: Again = Again::Refused;

        fn query(_: &ListedPartition, _: i16) -> Result<Query, ErrorCode> {
            Ok(Query::Latest)
        }

        fn topic(name: StrBytes) -> ListOffsetsTopicResponse {
            let mut topic = ListOffsetsTopicResponse::default();
            topic.name = name;
            topic
        }

        fn partition(
            _: &ListedPartition,
            _: LogResult,
            _: i16,
        ) -> Option<ListOffsetsPartitionResponse> {
            Some(ListOffsetsPartitionResponse::default())
        }
    }

    /// Of so many partitions of a topic that there is not.
    fn of(partitions: usize) -> Questions<Asked> {
        let mut topic = ListOffsetsTopic::default();
        topic.name = "no".into();
        topic.partitions = vec![ListOffsetsPartition::default(); partitions];
        let mut request = ListOffsetsRequest::default();
        request.topics = vec![topic];
        let frame = encode_request(1, Some("test"), VERSION, &request).unwrap();
        let api = |key| crate::broker::apis::served(key).map(|served| &served.api);
        let (header, body) = wire::parse_header(frame.slice(4..), api).unwrap();
        let frame = ListFrame::new(1, VERSION, &ListOffsetsResponse::default(), 0).unwrap();
        Questions::new(&header, body, frame).unwrap()
    }

    #[test]
    fn a_long_one_takes_its_memory_in_its_turn_and_its_answer_is_not_copied() {
        const SLICES: usize = 5;
        let front = Front::new(Arc::new(BrokerConfig::default()), Vec::new(), 1, 1);
        assert_eq!(of(3).short(&front).unwrap(), Some(4));
        let mut questions = of(SLICES * LISTED_PER_SLICE);
        assert_eq!(questions.short(&front).unwrap(), None);
        assert_eq!(questions.named.capacity(), 0);
        questions.begin(&front, None);
        while !questions.look(&mut { LISTED_PER_SLICE }).unwrap() {}
        let (mut slices, mut is_last) = (0, false);
        while !is_last {
            let (located, last) = questions.next(&front, LISTED_PER_SLICE).unwrap();
            let answers = located
                .into_iter()
                .map(|of| of.map(|_| panic!("it is there")));
            questions.write(&mut answers.into_iter()).unwrap();
            (slices, is_last) = (slices + 1, last);
        }
        assert_eq!(slices, SLICES + 1);
        let pieces = questions.finish().unwrap();
        let longest = pieces.iter().map(Bytes::len).max();
        let whole: usize = pieces.iter().map(Bytes::len).sum();
        assert!(longest <= Some(whole / SLICES), "{longest:?} of {whole}");
    }
}
