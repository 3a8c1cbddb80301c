//! ElectLeaders (43), versions 0-2: leaders are elected that are preferred (KIP-183), or not in sync where nobody else
//! can lead (KIP-460).
//!
//! - Without a list all partitions are meant, and those that need no election are left out of the answer, as in Kafka.
//! - A type of election that is not known is INVALID_REQUEST, for the request and for each partition.
//! - What comes twice is decided on twice: the second time no election is needed.
//! - `timeout_ms` is not looked at, see CreateTopics.

use std::collections::VecDeque;
use std::ops::Range;
use std::vec;

use bytes::Bytes;
use kafka_wire::elect_leaders_request::TopicPartitions;
use kafka_wire::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_wire::{ElectLeadersRequest, ElectLeadersResponse};
use kafka_wire_core::StrBytes;

use super::deciding::{Decided, Deciding, Decision};
use super::handler::outcome;
use crate::base::{ErrorCode, Leftovers, Refused};
use crate::broker::msg::Called;
use crate::controller::{Election, Image, elect_leader};
use crate::wire::{self, ListFrame, RequestHeader, WireError, text_size};

/// Decides on an ElectLeaders request.
///
/// # Errors
/// If it is malformed.
pub fn elect_leaders(header: &RequestHeader, body: Bytes) -> Result<Box<dyn Decision>, WireError> {
    let request: ElectLeadersRequest = wire::decode(body, header.version)?;
    let election = Election::from_number(request.election_type);
    let mut response = ElectLeadersResponse::default();
    if election.is_none() && header.version >= 1 {
        response.error_code = ErrorCode::InvalidRequest.code();
    }
    Ok(Box::new(Electing {
        election: election.ok_or(request.election_type),
        named: request.topic_partitions.map(VecDeque::from),
        topic: None,
        last: None,
        reply: ListFrame::new(header.correlation_id, header.version, &response, 0)?,
    }))
}

/// A topic that is being decided on.
#[derive(Debug)]
struct Topic {
    name: StrBytes,
    /// Which of its partitions come.
    indexes: Indexes,
}

#[derive(Debug)]
enum Indexes {
    Named(vec::IntoIter<i32>),
    All(Range<i32>),
}

impl Indexes {
    fn next(&mut self) -> Option<i32> {
        match self {
            Self::Named(named) => named.next(),
            Self::All(all) => all.next(),
        }
    }
}

/// See the module.
#[derive(Debug)]
struct Electing {
    /// Which one, or the number that is none.
    election: Result<Election, i8>,
    /// The topics that are named and not decided on yet; without them all topics are meant,
    named: Option<VecDeque<TopicPartitions>>,
    /// those behind this name.
    last: Option<StrBytes>,
    topic: Option<Topic>,
    reply: ListFrame,
}

impl Electing {
    fn next_topic(&mut self, image: &Image) -> Option<Topic> {
        if let Some(named) = &mut self.named {
            let topic = named.pop_front()?;
            return Some(Topic {
                name: topic.topic,
                indexes: Indexes::Named(topic.partitions.into_iter()),
            });
        }
        if self.election.is_err() {
            return None;
        }
        let topic = image.topic_after(self.last.as_deref())?;
        let name = StrBytes::from(&*topic.name);
        self.last = Some(name.clone());
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let indexes = Indexes::All(0..count);
        Some(Topic { name, indexes })
    }

    /// Decides on a partition. None if nothing is to be said about it.
    fn elect(
        &self,
        (name, index): (&StrBytes, i32),
        cx: &mut Deciding<'_>,
    ) -> Option<PartitionResult> {
        let elected = match self.election {
            Ok(election) => elect_leader(cx.draft, name, index, election),
            Err(number) => {
                let why = format!("Unknown election type {number}");
                Err(Refused::because(ErrorCode::InvalidRequest, why))
            }
        };
        let refused = elected.err();
        let is_needless =
            (refused.as_ref()).is_some_and(|it| it.code == ErrorCode::ElectionNotNeeded);
        if is_needless && self.named.is_none() {
            return None;
        }
        let mut result = PartitionResult::default();
        result.partition_id = index;
        (result.error_code, result.error_message) = outcome(refused.as_ref());
        Some(result)
    }
}

impl Decision for Electing {
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError> {
        loop {
            cx.draft.go_on(left);
            if *left == 0 {
                self.reply.end_slice();
                return Ok(Decided::Partly);
            }
            *left -= 1;
            let Some(mut topic) = self.topic.take().or_else(|| self.next_topic(cx.ctx.image))
            else {
                break;
            };
            *left = left.saturating_sub(text_size(&topic.name));
            if let Some(index) = topic.indexes.next() {
                if let Some(result) = self.elect((&topic.name, index), cx) {
                    self.reply.add_part(&result)?;
                }
                self.topic = Some(topic);
            } else {
                let mut whole = ReplicaElectionResult::default();
                whole.topic = topic.name;
                self.reply.add_around(&whole, 0)?;
            }
        }
        Ok(Decided::Whole {
            commits: true,
            reply: Called::Frame(self.reply.finish()?),
            // However full the stores are, somebody has to lead.
            refusal: None,
        })
    }

    fn leave(self: Box<Self>, leftovers: &mut Leftovers) {
        leftovers.add(self.named.unwrap_or_default(), |topic| {
            topic.partitions.len()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Cluster, text};
    use super::*;
    use crate::base::NodeId;
    use crate::controller::MetadataRecord;

    /// Another one leads a partition than the first of its replicas, or nobody.
    fn lead(cluster: &mut Cluster, name: &str, index: i32, leader: Option<usize>, isr: &[usize]) {
        let topic = cluster.image.topic(name).unwrap();
        let mut record = topic.partition(index).unwrap().record(topic.id, index);
        let node = |at: usize| record.replicas[at];
        let isr: Vec<NodeId> = isr.iter().copied().map(node).collect();
        record.leader = leader.map_or(NodeId::NOBODY, node);
        record.isr = isr;
        let record = MetadataRecord::Partition(record);
        cluster.image.replay(&record).unwrap();
    }

    fn request(kind: i8, topics: Option<&[(&str, &[i32])]>) -> ElectLeadersRequest {
        let one = |(name, partitions): &(&str, &[i32])| {
            let mut topic = TopicPartitions::default();
            (topic.topic, topic.partitions) = (text(name), partitions.to_vec());
            topic
        };
        let mut request = ElectLeadersRequest::default();
        request.election_type = kind;
        request.topic_partitions = topics.map(|topics| topics.iter().map(one).collect());
        request
    }

    type Told = Vec<(String, Vec<(i32, i16)>)>;

    fn told(response: &ElectLeadersResponse) -> Told {
        let topics = response.replica_election_results.iter();
        let topics = topics.map(|topic| {
            let partitions = topic.partition_result.iter();
            let partitions = partitions.map(|it| (it.partition_id, it.error_code));
            (topic.topic.as_str().to_owned(), partitions.collect())
        });
        topics.collect()
    }

    fn ask(cluster: &mut Cluster, version: i16, request: &ElectLeadersRequest) -> (i16, Told) {
        let response = cluster.ask(version, request, elect_leaders);
        (response.error_code, told(&response))
    }

    fn topic(name: &str, partitions: &[(i32, i16)]) -> (String, Vec<(i32, i16)>) {
        (name.to_owned(), partitions.to_vec())
    }

    #[test]
    fn every_version_elects_what_is_named_and_says_so_of_each() {
        for version in 0..=2 {
            let mut cluster = Cluster::of_three();
            lead(&mut cluster, "a", 1, Some(1), &[0, 1, 2]);
            lead(&mut cluster, "b", 0, Some(2), &[2]);
            let named: &[(&str, &[i32])] = &[("a", &[1, 0, 1, 7]), ("b", &[0]), ("c", &[0])];
            let (code, all) = ask(&mut cluster, version, &request(0, Some(named)));
            let expected = [
                topic("a", &[(1, 0), (0, 84), (1, 84), (7, 3)]),
                topic("b", &[(0, 80)]),
                topic("c", &[(0, 3)]),
            ];
            assert_eq!((code, &all[..]), (0, &expected[..]), "version {version}");
            assert_eq!(cluster.committed, 1);
            let partition = cluster.image.topic("a").unwrap().partitions[1].clone();
            assert_eq!(partition.leader, partition.replicas[0]);
        }
    }

    #[test]
    fn of_all_partitions_those_are_told_that_need_an_election() {
        let mut cluster = Cluster::of_three();
        lead(&mut cluster, "a", 1, Some(1), &[0, 1, 2]);
        lead(&mut cluster, "b", 0, None, &[]);
        let (code, all) = ask(&mut cluster, 2, &request(0, None));
        let expected = [topic("a", &[(1, 0)]), topic("b", &[(0, 80)])];
        assert_eq!((code, &all[..]), (0, &expected[..]));
        let (_, all) = ask(&mut cluster, 2, &request(1, None));
        assert_eq!(all, [topic("a", &[]), topic("b", &[(0, 0)])]);
        let led = &cluster.image.topic("b").unwrap().partitions[0];
        assert_eq!(
            (led.leader, &led.isr[..]),
            (led.replicas[0], &led.replicas[..1])
        );
        let nothing = (0, Vec::new());
        assert_eq!(ask(&mut cluster, 2, &request(1, Some(&[]))), nothing);
        assert_eq!(cluster.committed, 0);
    }

    #[test]
    fn what_is_no_election_is_refused() {
        let mut cluster = Cluster::of_three();
        lead(&mut cluster, "a", 1, Some(1), &[0, 1, 2]);
        let named: &[(&str, &[i32])] = &[("a", &[1, 0])];
        for version in 1..=2 {
            let (code, all) = ask(&mut cluster, version, &request(2, Some(named)));
            assert_eq!(
                (code, &all[..]),
                (42, &[topic("a", &[(1, 42), (0, 42)])][..])
            );
            let (code, all) = ask(&mut cluster, version, &request(-1, None));
            assert_eq!((code, all.len(), cluster.committed), (42, 0, 0));
        }
    }
}
