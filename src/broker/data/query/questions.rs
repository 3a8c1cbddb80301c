//! A request of questions to logs, gone through some partitions at a time: all of it is looked at before anything is
//! asked, then some are asked, what they answer is written, and so on. What it takes in memory besides the request is
//! what is asked at a time, the answer as far as it is written, and, for most APIs, each partition that it names once:
//! as in Kafka they are answered by topic, whatever the order and however often they are named.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::RequestResponsePair;
use kafka_wire_core::KafkaEncode;

use crate::base::limits::{LISTED_PER_SLICE, TOPIC_NAME_BYTES_MAX};
use crate::base::{ErrorCode, Leftovers, LogId, ShardId};
use crate::broker::front::long::LongKind;
use crate::broker::front::{Front, check_epoch, partition_of};
use crate::broker::msg::{Answered, Query, Reader};
use crate::config::TopicConfig;
use crate::controller::{Image, Topic};
use crate::wire::{
    ListFrame, ListedPartition, ListsPartitions, PartitionsRequest, RequestHeader, StrBytes,
    TopicOrPartition, WireError, sought_size,
};

/// What a partition answers, or why it is not asked.
pub type LogResult = Result<Answered, ErrorCode>;

/// Whom to ask what; an error is answered without asking, and [`ErrorCode::None`] is an offset that is not known.
pub type Located = Result<(ShardId, LogId, Query), ErrorCode>;

/// What becomes of a partition when a request names it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It is asked and answered again, in the order of the request.
    Asked,
    /// It is refused.
    Refused,
    /// What was said of it last counts.
    Counts,
}

/// What an API asks of partitions, and what it makes of their answers.
pub trait LogQuestion: fmt::Debug + 'static {
    type Request: ListsPartitions + RequestResponsePair;
    /// A topic of the response, and a partition of it.
    type Topic: KafkaEncode;
    type Partition: KafkaEncode;

    const KIND: LongKind = LongKind::Looks;
    const AGAIN: Again;
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
    /// What it waits for.
    fn kind(&self) -> LongKind;
    /// Whether it is so little that one turn is enough.
    fn is_short(&self, front: &Front) -> Result<bool, WireError>;
    /// It has its first turn: what it takes in memory it takes from now on.
    fn begin(&mut self, front: &Front);
    /// Looks at some of the request. Returns whether it is all of it.
    fn look(&mut self, left: &mut usize) -> Result<bool, WireError>;
    /// The next partitions, to be asked in this order, and whether they are the last ones.
    fn next(&mut self, front: &Front, left: usize) -> Result<(Vec<Located>, bool), WireError>;
    /// Writes what they answered.
    fn write(&mut self, answers: &mut dyn Iterator<Item = LogResult>) -> Result<(), WireError>;
    /// For how long replicas are waited for, in ms; known when all of the request was looked at.
    fn timeout_ms(&self) -> Option<i32>;
    /// The response.
    fn finish(&mut self) -> Result<Vec<Bytes>, WireError>;
    /// It is answered, or nobody waits for it any more.
    fn leave(self: Box<Self>, leftovers: &mut Leftovers);
}

/// Where the partitions come from.
#[derive(Debug)]
enum Source<Q> {
    /// As the request lists them.
    Listed(PartitionsRequest<Q>),
    Grouped(Grouped),
    /// Every one that there is, from this one of the topic at hand on.
    All(usize),
}

/// What a request lists, each partition once: by the topics as they came first, and by index.
#[derive(Debug, Default)]
struct Grouped {
    /// The topics have numbers.
    numbers: BTreeMap<StrBytes, u32>,
    /// Those that were not told yet.
    names: BTreeMap<u32, StrBytes>,
    /// The partitions, and whether each was named again.
    partitions: BTreeMap<(u32, i32), (ListedPartition, bool)>,
    /// The topic that came last.
    at: u32,
}

impl Grouped {
    fn add(&mut self, listed: TopicOrPartition) {
        match listed {
            TopicOrPartition::Topic(name) => {
                let next = self.numbers.len() as u32;
                self.at = *self.numbers.entry(name.clone()).or_insert(next);
                if self.at == next {
                    self.names.insert(next, name);
                }
            }
            TopicOrPartition::Partition(listed) => {
                match self.partitions.entry((self.at, listed.index)) {
                    btree_map::Entry::Vacant(entry) => entry.insert((listed, false)),
                    btree_map::Entry::Occupied(entry) => {
                        let entry = entry.into_mut();
                        *entry = (listed, true);
                        entry
                    }
                };
            }
        }
    }

    /// The next topic, or partition of the one before, and whether it was named again. A topic without any is none.
    fn next(&mut self) -> Option<(TopicOrPartition, bool)> {
        let (&(topic, _), _) = self.partitions.first_key_value()?;
        if let Some(name) = self.names.remove(&topic) {
            return Some((TopicOrPartition::Topic(name), false));
        }
        let (_, (listed, again)) = self.partitions.pop_first()?;
        Some((TopicOrPartition::Partition(listed), again))
    }
}

/// What one takes of a slice. A topic is looked for among those before.
fn size(listed: &TopicOrPartition) -> usize {
    match listed {
        TopicOrPartition::Topic(name) => 2 + sought_size(name),
        TopicOrPartition::Partition(_) => 1,
    }
}

/// See the module.
#[derive(Debug)]
pub struct Questions<A: LogQuestion> {
    source: Source<A::Request>,
    /// What is still to be looked at.
    look: Option<PartitionsRequest<A::Request>>,
    /// The metadata that it is answered by from its first turn on, whatever changes meanwhile.
    image: Arc<Image>,
    /// Who asks where partitions end.
    reader: Reader,
    /// The one shard whose partitions are told of, if not all are.
    only: Option<ShardId>,
    version: i16,
    timeout_ms: Option<i32>,
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
            look: (!all).then(|| request.clone()),
            source: match (all, A::AGAIN) {
                (true, _) => Source::All(0),
                (false, Again::Asked) => Source::Listed(request),
                (false, _) => Source::Grouped(Grouped::default()),
            },
            image: Arc::default(),
            reader: Reader::All,
            only: None,
            version: header.version,
            timeout_ms: None,
            topic: None,
            writing: None,
            asked: Vec::new(),
            frame,
        })
    }

    /// Tells where partitions end, and of times, as such a reader sees it.
    pub fn by(mut self, reader: Reader) -> Self {
        self.reader = reader;
        self
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

    /// The next one that is listed, and whether it is named again.
    fn read(&mut self) -> Result<Option<(TopicOrPartition, bool)>, WireError> {
        let read = match &mut self.source {
            Source::Listed(request) => request.read()?.map(|listed| (listed, false)),
            Source::Grouped(grouped) => grouped.next(),
            Source::All(next) => {
                let topic = self.topic.as_ref();
                if topic.is_some_and(|topic| *next < topic.partitions.len()) {
                    let index = *next as i32;
                    *next += 1;
                    let listed = TopicOrPartition::Partition(ListedPartition {
                        index,
                        believed_epoch: -1,
                        value: 0,
                    });
                    return Ok(Some((listed, false)));
                }
                let after = topic.map(|topic| &*topic.name);
                let following = self.image.topic_after(after).cloned();
                *next = 0;
                self.topic = following;
                let topic = self.topic.as_ref();
                let name = topic.map(|topic| StrBytes::from(&*topic.name));
                return Ok(name.map(|name| (TopicOrPartition::Topic(name), false)));
            }
        };
        if let Some((TopicOrPartition::Topic(name), _)) = &read {
            self.topic = self.find(name);
        }
        Ok(read)
    }

    /// Whom to ask about a partition.
    fn locate(&self, front: &Front, listed: &ListedPartition, again: bool) -> Located {
        if again && A::AGAIN == Again::Refused {
            return Err(ErrorCode::InvalidRequest);
        }
        let query = A::query(listed, self.version)?.of(self.reader);
        let topic = self.topic.as_ref();
        let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let partition = partition_of(topic, listed.index)?;
        if matches!(query, Query::DeleteBefore(_)) && topic.internal {
            return Err(ErrorCode::InvalidTopicException);
        }
        if listed.believed_epoch < -1 {
            return Err(ErrorCode::FencedLeaderEpoch); // Fetch takes each negative one for none, as in Kafka.
        }
        check_epoch(listed.believed_epoch, partition.leader_epoch)?;
        let store = match query {
            // Each replica has one.
            Query::Size => partition.store.ok_or(ErrorCode::NotLeaderOrFollower),
            _ => front.led(partition),
        };
        let owner = front.owner_of(store?);
        let policy = TopicConfig::effective_cleanup_policy(&front.config, &topic.configs);
        if matches!(query, Query::DeleteBefore(_)) && !policy.deletes() {
            return Err(ErrorCode::PolicyViolation);
        }
        if self.only.is_some_and(|only| only != owner) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        Ok((owner, partition.log, query))
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
    fn kind(&self) -> LongKind {
        A::KIND
    }

    fn is_short(&self, front: &Front) -> Result<bool, WireError> {
        // All of it is looked at, and then asked.
        let mut left = LISTED_PER_SLICE / 2;
        let Some(mut request) = self.look.clone() else {
            let mut topics = front.image.topics();
            let partitions = |topic: &Arc<Topic>| topic.partitions.len();
            let rest = topics.try_fold(left, |left, topic| left.checked_sub(1 + partitions(topic)));
            return Ok(rest.is_some());
        };
        while let Some(listed) = request.read()? {
            match left.checked_sub(size(&listed)) {
                Some(fewer) => left = fewer,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn begin(&mut self, front: &Front) {
        self.image = Arc::clone(&front.image);
    }

    fn look(&mut self, left: &mut usize) -> Result<bool, WireError> {
        let Some(request) = &mut self.look else {
            return Ok(true);
        };
        while let Some(listed) = request.read()? {
            *left = left.saturating_sub(size(&listed));
            if let Source::Grouped(grouped) = &mut self.source {
                grouped.add(listed);
            }
            if *left == 0 {
                return Ok(false);
            }
        }
        self.timeout_ms = request.timeout_ms();
        self.look = None;
        Ok(true)
    }

    fn timeout_ms(&self) -> Option<i32> {
        self.timeout_ms
    }

    fn next(&mut self, front: &Front, left: usize) -> Result<(Vec<Located>, bool), WireError> {
        let (mut located, mut left) = (Vec::new(), left);
        while left > 0 {
            let Some((listed, again)) = self.read()? else {
                return Ok((located, true));
            };
            left = left.saturating_sub(size(&listed));
            if let TopicOrPartition::Partition(partition) = &listed {
                located.push(self.locate(front, partition, again));
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

    fn leave(self: Box<Self>, leftovers: &mut Leftovers) {
        if let Source::Grouped(grouped) = self.source {
            leftovers.add(grouped.numbers, |_| 0);
            leftovers.add(grouped.names, |_| 0);
            leftovers.add(grouped.partitions, |_| 0);
        }
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
            Ok(Query::Latest(Reader::All))
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
        let partition = |index| {
            let mut partition = ListOffsetsPartition::default();
            partition.partition_index = index as i32;
            partition
        };
        topic.partitions = (0..partitions).map(partition).collect();
        let mut request = ListOffsetsRequest::default();
        request.topics = vec![topic];
        let frame = encode_request(1, Some("test"), VERSION, &request).unwrap();
        let api = |key| crate::broker::apis::served(key).map(|served| &served.api);
        let (header, body) = wire::parse_header(frame.slice(4..), api).unwrap();
        let frame = ListFrame::new(1, VERSION, &ListOffsetsResponse::default(), 0).unwrap();
        Questions::new(&header, body, frame).unwrap()
    }

    #[test]
    fn the_answer_to_a_long_one_is_not_copied_as_it_becomes_more() {
        const SLICES: usize = 5;
        let front = Front::new(
            Arc::new(BrokerConfig::default()),
            Vec::new(),
            1,
            1,
            Arc::default(),
        );
        assert!(of(3).is_short(&front).unwrap());
        let mut questions = of(SLICES * LISTED_PER_SLICE);
        assert!(!questions.is_short(&front).unwrap());
        questions.begin(&front);
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
