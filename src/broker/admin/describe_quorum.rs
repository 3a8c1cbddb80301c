//! DescribeQuorum (55), versions 0-2: how far the replicas of the metadata log are (KIP-595, KIP-836, KIP-853).
//! Answered by whoever leads the quorum, whichever node is asked.
//!
//! - Another topic or partition than __cluster_metadata-0, or more of them, is UNKNOWN_TOPIC_OR_PARTITION for each.
//! - Of one that has not said yet how far it is, end and times are -1.
//! - Times are of the leader's wall clock. A leader that has just begun knows none of the others' before.

use bytes::Bytes;
use kafka_wire::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use kafka_wire::{DescribeQuorumRequest, DescribeQuorumResponse};

use super::deciding::{Decided, Deciding, Decision};
use super::handler::{reply, to_wire};
use crate::base::{ErrorCode, Leftovers, Mono, NodeId, Now, TopicId};
use crate::broker::msg::Called;
use crate::config::BrokerConfig;
use crate::controller::Image;
use crate::quorum::{EntryIndex, ReplicaStanding, Standing};
use crate::wire::{self, RequestHeader, WireError};

/// The only topic of which there is a quorum, and its only partition.
const TOPIC: &str = "__cluster_metadata";
const PARTITION: i32 = 0;
/// What is not known.
const UNKNOWN: i64 = -1;

/// Answers a DescribeQuorum request. Changes nothing.
pub fn describe_quorum(
    header: &RequestHeader,
    body: Bytes,
) -> Result<Box<dyn Decision>, WireError> {
    Ok(Box::new(Describing {
        request: wire::decode(body, header.version)?,
        header: header.clone(),
    }))
}

#[derive(Debug)]
struct Describing {
    header: RequestHeader,
    request: DescribeQuorumRequest,
}

impl Decision for Describing {
    fn go_on(&mut self, cx: &mut Deciding<'_>, left: &mut usize) -> Result<Decided, WireError> {
        *left = left.saturating_sub(1);
        let standing = cx.quorum.and_then(|quorum| quorum.standing(cx.now.mono));
        let request = std::mem::take(&mut self.request);
        let standing = (standing.as_ref(), self.header.version);
        let response = respond(request, standing, (cx.ctx.config, cx.ctx.image), cx.now);
        let frame = reply::<DescribeQuorumRequest>(&self.header, &response)?;
        Ok(Decided::Whole {
            commits: false,
            reply: Called::Frame(vec![frame]),
            refusal: None,
        })
    }

    fn leave(self: Box<Self>, _: &mut Leftovers) {}
}

fn respond(
    request: DescribeQuorumRequest,
    (standing, version): (Option<&Standing>, i16),
    (config, image): (&BrokerConfig, &Image),
    now: Now,
) -> DescribeQuorumResponse {
    let mut response = DescribeQuorumResponse::default();
    response.error_message = None;
    let is_it = match &request.topics[..] {
        [topic] => {
            matches!(&topic.partitions[..], [it] if it.partition_index == PARTITION)
                && topic.topic_name.as_str() == TOPIC
        }
        _ => false,
    };
    let code = match standing {
        _ if !is_it => ErrorCode::UnknownTopicOrPartition,
        None => ErrorCode::NotLeaderOrFollower,
        Some(_) => ErrorCode::None,
    };
    let topics = request.topics.into_iter().map(|asked| {
        let mut topic = TopicData::default();
        topic.topic_name = asked.topic_name;
        let partitions = asked.partitions.into_iter();
        let partitions = partitions.map(|asked| match standing.filter(|_| is_it) {
            Some(standing) => partition(standing, version, now),
            None => refused(asked.partition_index, code),
        });
        topic.partitions = partitions.collect();
        topic
    });
    response.topics = topics.collect();
    if let Some(standing) = standing.filter(|_| is_it && version >= 2) {
        let voters = standing.voters.iter().map(|voter| voter.replica.node);
        response.nodes = voters.map(|node| listeners(node, config, image)).collect();
    }
    response
}

fn refused(index: i32, code: ErrorCode) -> PartitionData {
    let mut partition = PartitionData::default();
    partition.partition_index = index;
    partition.error_code = code.code();
    partition.error_message = Some(code.message().into());
    (partition.leader_id, partition.leader_epoch) = (-1, -1);
    partition.high_watermark = UNKNOWN;
    partition
}

fn partition(standing: &Standing, version: i16, now: Now) -> PartitionData {
    let mut partition = PartitionData::default();
    partition.partition_index = PARTITION;
    partition.error_message = None;
    partition.leader_id = standing.leader.node.0;
    partition.leader_epoch = standing.term.0;
    partition.high_watermark = behind(standing.committed);
    let states = |all: &[ReplicaStanding]| all.iter().map(|it| state(it, version, now)).collect();
    partition.current_voters = states(&standing.voters);
    partition.observers = states(&standing.observers);
    partition
}

/// The offset behind an entry, whose offset is its place.
fn behind(entry: EntryIndex) -> i64 {
    i64::try_from(entry.next().0).unwrap_or(i64::MAX)
}

fn state(standing: &ReplicaStanding, version: i16, now: Now) -> ReplicaState {
    let wall_ms = |at: Option<Mono>| {
        at.map_or(UNKNOWN, |at| {
            let ago = i64::try_from(now.mono.ms_since(at)).unwrap_or(i64::MAX);
            now.wall_ms.saturating_sub(ago)
        })
    };
    let mut state = ReplicaState::default();
    state.replica_id = standing.replica.node.0;
    if version >= 2 {
        state.replica_directory_id = to_wire(TopicId(standing.replica.directory.0));
    }
    state.log_end_offset = standing.last.map_or(UNKNOWN, behind);
    state.last_fetch_timestamp = wall_ms(standing.heard);
    state.last_caught_up_timestamp = wall_ms(standing.caught_up);
    state
}

/// Where a voter listens for other nodes, as it has registered, or as this node's configuration says.
fn listeners(node: NodeId, config: &BrokerConfig, image: &Image) -> Node {
    let mut listener = Listener::default();
    let by = config.controller_listeners.first();
    let known = image.brokers.get(node);
    let known = known.into_iter().flat_map(|broker| &broker.addresses);
    let mut known = known.filter(|it| by.is_some_and(|by| by.name == it.listener));
    if let Some(reached) = known.next() {
        listener.name = reached.listener.as_str().into();
        (listener.host, listener.port) = (reached.host.as_str().into(), reached.port);
    } else if let Some(voter) = config.voters().into_iter().find(|it| it.node == node) {
        listener.name = by.map_or("CONTROLLER", |it| &it.name).into();
        (listener.host, listener.port) = (voter.host.into(), voter.port);
    } else {
        let (host, port) = config.advertised(0);
        let names = config.listeners.0.first();
        listener.name = names.map_or("PLAINTEXT", |it| &it.name).into();
        (listener.host, listener.port) = (host.into(), port);
    }
    let mut of = Node::default();
    of.node_id = node.0;
    of.listeners = vec![listener];
    of
}

#[cfg(test)]
mod tests {
    use kafka_wire::describe_quorum_request as asked;

    use super::super::testing::{Cluster, text};
    use super::*;
    use crate::base::{DirectoryId, LeaderEpoch};
    use crate::quorum::ReplicaKey;
    use crate::wire::client::decode_response;

    fn request(topics: &[(&str, &[i32])]) -> DescribeQuorumRequest {
        let mut request = DescribeQuorumRequest::default();
        let topic = |(name, partitions): &(&str, &[i32])| {
            let mut topic = asked::TopicData::default();
            topic.topic_name = text(name);
            let partitions = partitions.iter().map(|index| {
                let mut partition = asked::PartitionData::default();
                partition.partition_index = *index;
                partition
            });
            topic.partitions = partitions.collect();
            topic
        };
        request.topics = topics.iter().map(topic).collect();
        request
    }

    fn standing() -> Standing {
        let of = |node, last, heard: Option<u64>| ReplicaStanding {
            replica: ReplicaKey {
                node: NodeId(node),
                directory: DirectoryId([node as u8; 16]),
            },
            last,
            heard: heard.map(|ms| Mono(0).plus_ms(ms)),
            caught_up: None,
        };
        Standing {
            leader: of(1, None, None).replica,
            term: LeaderEpoch(7),
            committed: EntryIndex(40),
            voters: vec![
                of(1, Some(EntryIndex(41)), Some(500)),
                of(2, Some(EntryIndex(40)), Some(470)),
                of(3, None, None),
            ],
            observers: vec![of(9, Some(EntryIndex(39)), Some(450))],
        }
    }

    fn described(topics: &[(&str, &[i32])], standing: Option<&Standing>) -> DescribeQuorumResponse {
        let now = Now {
            mono: Mono(0).plus_ms(500),
            wall_ms: 10_000,
        };
        respond(
            request(topics),
            (standing, 2),
            (&BrokerConfig::default(), &Image::default()),
            now,
        )
    }

    #[test]
    fn the_replicas_of_the_metadata_are_told() {
        let response = described(&[(TOPIC, &[0])], Some(&standing()));
        assert_eq!((response.error_code, response.topics.len()), (0, 1));
        let partition = &response.topics[0].partitions[0];
        let head = (partition.leader_id, partition.leader_epoch);
        assert_eq!((partition.error_code, head), (0, (1, 7)));
        assert_eq!(partition.high_watermark, 41);
        let told = |all: &[ReplicaState]| {
            let all = all.iter();
            all.map(|it| (it.replica_id, it.log_end_offset, it.last_fetch_timestamp))
                .collect::<Vec<_>>()
        };
        let voters = [(1, 42, 10_000), (2, 41, 9_970), (3, -1, -1)];
        assert_eq!(told(&partition.current_voters), voters);
        assert_eq!(told(&partition.observers), [(9, 40, 9_950)]);
        let directory = partition.observers[0].replica_directory_id;
        assert_eq!(directory.to_bytes(), [9; 16]);
        let nodes = response.nodes.iter().map(|node| node.node_id);
        assert_eq!(nodes.collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn every_version_can_say_it() {
        for version in 0..=2 {
            let (all, config) = (standing(), BrokerConfig::default());
            let asked = request(&[(TOPIC, &[0])]);
            let known = (&config, &Image::default());
            let response = respond(asked, (Some(&all), version), known, Now::default());
            let frame = wire::encode_response(1, version, &response).unwrap();
            let read = decode_response::<DescribeQuorumRequest>(frame.slice(4..), version);
            let partition = &read.unwrap().1.topics[0].partitions[0];
            assert_eq!(partition.current_voters.len(), 3, "version {version}");
        }
    }

    #[test]
    fn of_anything_else_there_is_no_quorum() {
        let whole = standing();
        let others: [&[(&str, &[i32])]; 5] = [
            &[("a", &[0])],
            &[(TOPIC, &[1])],
            &[(TOPIC, &[0, 1])],
            &[(TOPIC, &[0]), ("a", &[0])],
            &[(TOPIC, &[])],
        ];
        for topics in others {
            let response = described(topics, Some(&whole));
            assert_eq!(response.error_code, 0);
            assert_eq!(response.topics.len(), topics.len());
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            let codes: Vec<i16> = partitions.map(|it| it.error_code).collect();
            let asked: usize = topics.iter().map(|(_, partitions)| partitions.len()).sum();
            assert_eq!(codes, vec![3; asked], "{topics:?}");
        }
        assert!(described(&[], Some(&whole)).topics.is_empty());
    }

    #[test]
    fn who_does_not_lead_says_so_in_every_version() {
        let mut cluster = Cluster::new();
        for version in 0..=2 {
            let request = request(&[(TOPIC, &[0])]);
            let response = cluster.ask(version, &request, describe_quorum);
            let partition = &response.topics[0].partitions[0];
            assert_eq!((partition.error_code, partition.leader_id), (6, -1));
        }
    }
}
