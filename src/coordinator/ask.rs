//! What coordinators are asked and what they answer, as plain values.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::limits::GROUP_ASKED_COST;
use crate::base::{ErrorCode, TopicId};
use crate::group::classic::CONSUMER_PROTOCOL_TYPE;
use crate::group::consumer::{
    ConsumerGroup, Current, Partitions, Subscription, preferred_assignor,
};
use crate::group::coordinator::HeartbeatRequest;
use crate::group::join::JoinRequest;
use crate::group::rebalance::{Leaving, SyncRequest};
use crate::group::streams::{StreamsCurrent, StreamsGroup, StreamsMember, Tasks, Topology};
use crate::group::writes::CommitRequest;
use crate::group::{
    ClassicGroup, Committed, ConsumerConfig, ConsumerHeartbeat, ConsumerReply, JoinReply, Name,
    OffsetToCommit, ShownGroup, State, StreamsHeartbeat, StreamsReply, SyncReply,
};

/// A question to the coordinators of a shard.
#[derive(Clone, Debug)]
pub enum Question {
    /// To the one of this partition.
    To(i32, GroupAsk),
    /// To all of them: which groups they have behind this one, some of them.
    List(Option<GroupPlace>),
}

/// A group, by its partition and id.
pub type GroupPlace = (i32, Name);

/// What the coordinator of a group is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupAsk {
    /// JoinGroup.
    Join(JoinRequest),
    /// SyncGroup.
    Sync(SyncRequest),
    /// Heartbeat.
    Heartbeat(HeartbeatRequest),
    /// LeaveGroup.
    Leave(Name, Vec<Leaving>),
    /// OffsetCommit, TxnOffsetCommit.
    Commit(CommitRequest),
    /// OffsetFetch.
    Fetch(Name, FetchedOf, Fetcher),
    /// ConsumerGroupHeartbeat.
    ConsumerHeartbeat(Box<ConsumerHeartbeat>),
    /// ConsumerGroupDescribe, as [`GroupAsk::Describe`].
    DescribeConsumer(Name, usize),
    /// StreamsGroupHeartbeat.
    StreamsHeartbeat(Box<StreamsHeartbeat>),
    /// StreamsGroupDescribe, as [`GroupAsk::Describe`].
    DescribeStreams(Name, usize),
    /// OffsetDelete.
    DeleteOffsets(Name, Vec<(Name, i32)>),
    /// DescribeGroups. A group that takes more [things](GroupAnswer::things) than this to tell is not told: see
    /// [`GroupAnswer::Again`].
    Describe(Name, usize),
    /// DeleteGroups.
    Delete(Name),
}

/// What is told of an offset for which a transaction that is not over has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// What is committed.
    Any,
    /// That it is not known (KIP-447).
    Stable,
}

/// Who fetches offsets, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetcher {
    /// What is told of those that are not stable.
    pub stability: Stability,
    /// A member of a group of the consumer protocol, if it is one.
    pub member: Option<Name>,
    /// Its epoch, -1 of who is none.
    pub epoch: i32,
}

impl From<Stability> for Fetcher {
    /// Who is no member.
    fn from(stability: Stability) -> Self {
        Self {
            stability,
            member: None,
            epoch: -1,
        }
    }
}

/// What is told of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchedOffset {
    /// Nothing is committed.
    Nothing,
    /// What will be is not known before a transaction is over: see [`Stability::Stable`]. With the id of its topic.
    Unstable(TopicId),
    /// This is committed.
    At(Committed),
}

impl FetchedOffset {
    /// What it takes to tell it; see [`GroupAnswer::things`].
    #[must_use]
    pub fn things(&self) -> usize {
        match self {
            Self::Nothing | Self::Unstable(_) => 1,
            Self::At(committed) => 1 + committed.metadata.len() / THING_BYTES,
        }
    }

    /// Whether it is of the topic with this id.
    #[must_use]
    pub fn is_of(&self, id: TopicId) -> bool {
        match self {
            Self::Nothing => false,
            Self::Unstable(of) => *of == id,
            Self::At(committed) => committed.is_of(id),
        }
    }
}

/// Which offsets of a group are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchedOf {
    /// Of these partitions.
    Some(Vec<OffsetsOf>),
    /// Of all partitions that have one, some of them, behind this one of a topic.
    AllAfter(Option<(Name, i32)>),
}

/// Partitions of a topic whose offsets are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetsOf {
    /// Its name.
    pub name: Name,
    /// Its id, which tells it from one that had the name before; zero if no topic has the name.
    pub id: TopicId,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupAnswer {
    /// To a join.
    Joined(JoinReply),
    /// To a sync.
    Synced(SyncReply),
    /// To who leaves: one error for each, or one for all.
    Left(Result<Vec<ErrorCode>, ErrorCode>),
    /// To a heartbeat, a commit, or the deletion of a group.
    Done(ErrorCode),
    /// The offsets, in the order in which they were asked for; and whether there are more behind them.
    Fetched(Result<(Vec<TopicOffsets>, bool), ErrorCode>),
    /// To the deletion of offsets: one error for each, or one for all.
    OffsetsDeleted(Result<Vec<ErrorCode>, ErrorCode>),
    /// To a member of a group of the consumer protocol.
    ConsumerHeartbeat(ConsumerReply),
    /// The group, if there is one of the consumer protocol.
    ConsumerDescribed(Result<Option<DescribedConsumer>, ErrorCode>),
    /// To a member of a streams group.
    StreamsHeartbeat(StreamsReply),
    /// The group, if there is a streams group.
    StreamsDescribed(Result<Option<DescribedStreams>, ErrorCode>),
    /// The group, if there is one that is classic.
    Described(Result<Option<Described>, ErrorCode>),
    /// Groups, by partition and id; and the last one, if there are more behind it.
    Listed(Result<(Vec<Listed>, Option<GroupPlace>), ErrorCode>),
    /// Nothing yet: enough was told at a time, or it takes more to tell than it may. This is to be asked in its place.
    Again(Box<GroupAsk>),
}

/// Bytes that are told for as much as a thing.
const THING_BYTES: usize = 64;

impl GroupAnswer {
    /// What it takes to tell it, in things of `limits::OFFSETS_TOLD_PER_SLICE`.
    #[must_use]
    pub fn things(&self) -> usize {
        match self {
            Self::Described(Ok(Some(group))) => {
                let members = group.members.iter();
                GROUP_ASKED_COST + members.map(DescribedMember::things).sum::<usize>()
            }
            Self::ConsumerDescribed(Ok(Some(group))) => {
                let members = group.members.iter();
                GROUP_ASKED_COST + members.map(ConsumerMember::things).sum::<usize>()
            }
            Self::StreamsDescribed(Ok(Some(group))) => {
                let members = group.members.iter();
                let members = members.map(StreamsMemberShown::things).sum::<usize>();
                GROUP_ASKED_COST + group.topology_things() + members
            }
            Self::Fetched(Ok((topics, _))) => {
                let partitions = topics.iter().flat_map(|(_, partitions)| partitions);
                let of = partitions.map(|(_, fetched)| fetched.things());
                GROUP_ASKED_COST + of.sum::<usize>()
            }
            Self::Listed(Ok((groups, _))) => groups.len(),
            Self::Described(_)
            | Self::ConsumerDescribed(_)
            | Self::ConsumerHeartbeat(_)
            | Self::StreamsDescribed(_)
            | Self::StreamsHeartbeat(_)
            | Self::Fetched(Err(_))
            | Self::Listed(Err(_))
            | Self::Joined(_)
            | Self::Synced(_)
            | Self::Left(_)
            | Self::Done(_)
            | Self::OffsetsDeleted(_)
            | Self::Again(_) => GROUP_ASKED_COST,
        }
    }
}

/// The offsets of partitions of one topic.
pub type TopicOffsets = (Name, Vec<(i32, FetchedOffset)>);

/// A group, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its state.
    pub state: State,
    /// Protocol type, if it has ever had members.
    pub protocol_type: Option<Name>,
    /// The protocol of a stable group: while it rebalances, protocol, metadata and assignments are in the making.
    pub protocol: Option<Name>,
    /// By id.
    pub members: VecDeque<DescribedMember>,
}

/// One member of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Member id.
    pub id: Name,
    /// `group.instance.id`
    pub instance: Option<Name>,
    /// Client id.
    pub client_id: Name,
    /// Client host.
    pub client_host: Name,
    /// What it sent for the protocol.
    pub metadata: Bytes,
    /// What the leader gave it.
    pub assignment: Bytes,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Group id.
    pub id: Name,
    /// Its kind, as Kafka calls it.
    pub kind: &'static str,
    /// Its state, likewise.
    pub state: &'static str,
    /// Protocol type, if it has ever had members.
    pub protocol_type: Option<Name>,
}

impl Question {
    /// The answer that nothing comes of it.
    #[must_use]
    pub fn refused(self, error: ErrorCode) -> GroupAnswer {
        match self {
            Self::To(_, ask) => ask.refused(error),
            Self::List(_) => GroupAnswer::Listed(Err(error)),
        }
    }
}

impl GroupAsk {
    /// The group that is asked about.
    #[must_use]
    pub fn group(&self) -> &Name {
        match self {
            Self::Join(request) => &request.group,
            Self::Sync(request) => &request.group,
            Self::Heartbeat(request) => &request.group,
            Self::Commit(request) => &request.group,
            Self::ConsumerHeartbeat(request) => &request.group,
            Self::StreamsHeartbeat(request) => &request.group,
            Self::DescribeConsumer(group, _)
            | Self::DescribeStreams(group, _)
            | Self::Leave(group, _)
            | Self::Fetch(group, ..)
            | Self::DeleteOffsets(group, _)
            | Self::Describe(group, _)
            | Self::Delete(group) => group,
        }
    }

    /// Whether it only tells something, however much.
    #[must_use]
    pub fn tells(&self) -> bool {
        matches!(
            self,
            Self::Fetch(..)
                | Self::Describe(..)
                | Self::DescribeConsumer(..)
                | Self::DescribeStreams(..)
        )
    }

    /// Whether it may change who is in the group, or what it has.
    #[must_use]
    pub fn changes_group(&self) -> bool {
        match self {
            Self::Join(_)
            | Self::Sync(_)
            | Self::Leave(..)
            | Self::Commit(_)
            | Self::ConsumerHeartbeat(_)
            | Self::StreamsHeartbeat(_)
            | Self::DeleteOffsets(..)
            | Self::Delete(_) => true,
            // What a heartbeat changes nobody can look at.
            Self::Heartbeat(_)
            | Self::Fetch(..)
            | Self::Describe(..)
            | Self::DescribeConsumer(..)
            | Self::DescribeStreams(..) => false,
        }
    }

    /// What it takes besides itself, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const EACH_BYTES: usize = 128;
        fn len(name: Option<&Name>) -> usize {
            name.map_or(0, |name| name.len())
        }
        let of_kind = match self {
            Self::Join(request) => request.bytes() + request.protocol_type.len(),
            Self::Sync(request) => {
                let named = [
                    Some(&request.member),
                    request.instance.as_ref(),
                    request.protocol_type.as_ref(),
                    request.protocol.as_ref(),
                ];
                let of = |(member, assignment): &(Name, Bytes)| member.len() + assignment.len();
                let assignments = request.assignments.iter();
                let assigned: usize = assignments.map(|a| EACH_BYTES + of(a)).sum();
                named.map(len).iter().sum::<usize>() + assigned
            }
            Self::Heartbeat(request) => request.member.len() + len(request.instance.as_ref()),
            Self::Leave(_, leaving) => {
                let of = |l: &Leaving| l.member.len() + len(l.instance.as_ref());
                leaving.iter().map(|l| EACH_BYTES + of(l)).sum()
            }
            Self::Commit(request) => {
                let of = |o: &OffsetToCommit| o.topic.len() + o.committed.metadata.len();
                let offsets = request.offsets.iter();
                let offsets: usize = offsets.map(|o| EACH_BYTES + of(o)).sum();
                let producer = request.producer.as_ref();
                len(producer.map(|producer| &producer.transactional_id))
                    + request.member.len()
                    + len(request.instance.as_ref())
                    + offsets
            }
            Self::Fetch(_, FetchedOf::Some(topics), _) => {
                let of = |of: &OffsetsOf| of.name.len() + size_of_val(&*of.partitions);
                topics.iter().map(|topic| EACH_BYTES + of(topic)).sum()
            }
            Self::Fetch(_, FetchedOf::AllAfter(after), _) => {
                len(after.as_ref().map(|(topic, _)| topic))
            }
            Self::DeleteOffsets(_, targets) => {
                let of = |(topic, _): &(Name, i32)| EACH_BYTES + topic.len();
                targets.iter().map(of).sum()
            }
            Self::ConsumerHeartbeat(request) => request.bytes(),
            Self::StreamsHeartbeat(request) => request.bytes(),
            Self::Describe(..)
            | Self::DescribeConsumer(..)
            | Self::DescribeStreams(..)
            | Self::Delete(_) => 0,
        };
        EACH_BYTES + self.group().len() + of_kind
    }

    /// Why no coordinator need be asked: a member asks, or a transaction's producer, and an empty id is no group's that
    /// has members.
    #[must_use]
    pub fn flaw(&self) -> Option<ErrorCode> {
        let is_of_member = match self {
            Self::Join(_) | Self::Sync(_) | Self::Heartbeat(_) | Self::Leave(..) => true,
            // As in Kafka, which takes an empty id of who commits without a transaction.
            Self::Commit(request) => request.producer.is_some(),
            // A member of a consumer or streams group is told INVALID_REQUEST by its coordinator.
            Self::ConsumerHeartbeat(_)
            | Self::StreamsHeartbeat(_)
            | Self::DescribeStreams(..)
            | Self::Fetch(..)
            | Self::DeleteOffsets(..)
            | Self::Describe(..)
            | Self::DescribeConsumer(..)
            | Self::Delete(_) => false,
        };
        (is_of_member && self.group().is_empty()).then_some(ErrorCode::InvalidGroupId)
    }

    /// The answer that nothing comes of it.
    #[must_use]
    pub fn refused(self, error: ErrorCode) -> GroupAnswer {
        match self {
            Self::Join(request) => GroupAnswer::Joined(JoinReply::error(error, request.member)),
            Self::Sync(_) => GroupAnswer::Synced(SyncReply::error(error)),
            Self::Leave(..) => GroupAnswer::Left(Err(error)),
            Self::Heartbeat(_) | Self::Commit(_) | Self::Delete(_) => GroupAnswer::Done(error),
            Self::Fetch(..) => GroupAnswer::Fetched(Err(error)),
            Self::DeleteOffsets(..) => GroupAnswer::OffsetsDeleted(Err(error)),
            Self::Describe(..) => GroupAnswer::Described(Err(error)),
            Self::DescribeConsumer(..) => GroupAnswer::ConsumerDescribed(Err(error)),
            Self::ConsumerHeartbeat(_) => {
                GroupAnswer::ConsumerHeartbeat(ConsumerReply::error(error))
            }
            Self::DescribeStreams(..) => GroupAnswer::StreamsDescribed(Err(error)),
            Self::StreamsHeartbeat(_) => GroupAnswer::StreamsHeartbeat(StreamsReply::error(error)),
        }
    }
}

/// A member has as many texts as this, and is copied for each.
const MEMBER_TEXTS: usize = 4;

impl Described {
    /// The group, unless it takes more than this to tell it; see [`GroupAnswer::things`].
    pub(super) fn of(group: &ClassicGroup, things_max: usize) -> Option<Self> {
        let members = group.members();
        if members.len() > things_max / MEMBER_TEXTS {
            return None;
        }
        let protocol = group.protocol().filter(|_| group.state() == State::Stable);
        let mut left = things_max.checked_sub(GROUP_ASKED_COST)?;
        let members = members.map(|(id, member)| {
            let described = DescribedMember {
                id: id.clone(),
                instance: member.instance.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                metadata: protocol.map_or_else(Bytes::new, |protocol| member.metadata(protocol)),
                // What it has until the rebalance is over.
                assignment: member.assignment.clone(),
            };
            left = left.checked_sub(described.things())?;
            Some(described)
        });
        Some(Self {
            members: members.collect::<Option<_>>()?,
            state: group.state(),
            protocol_type: group.protocol_type().cloned(),
            protocol: protocol.cloned(),
        })
    }
}

impl DescribedMember {
    /// See [`GroupAnswer::things`].
    #[must_use]
    pub fn things(&self) -> usize {
        let instance = self.instance.as_deref().unwrap_or("");
        let names = [&*self.id, instance, &self.client_id, &self.client_host];
        let bytes = names.iter().map(|name| name.len()).sum::<usize>()
            + self.metadata.len()
            + self.assignment.len();
        MEMBER_TEXTS + bytes / THING_BYTES
    }
}

/// The kinds of groups, as ListGroups names them.
pub const CLASSIC: &str = "classic";
/// See [`CLASSIC`].
pub const CONSUMER: &str = "consumer";
/// See [`CLASSIC`]; this is the protocol type of such a group, too.
pub const STREAMS: &str = "streams";

impl Listed {
    pub(super) fn of(group: ShownGroup<'_>) -> Self {
        match group {
            ShownGroup::Classic(group) => Self {
                id: group.id().clone(),
                kind: CLASSIC,
                state: group.state().name(),
                protocol_type: group.protocol_type().cloned(),
            },
            ShownGroup::Consumer(id, group, is_dead) => Self {
                id: id.clone(),
                kind: CONSUMER,
                state: consumer_state(group, is_dead),
                protocol_type: Some(Name::from(CONSUMER_PROTOCOL_TYPE)),
            },
            ShownGroup::Streams(id, group, is_dead) => Self {
                id: id.clone(),
                kind: STREAMS,
                state: streams_state(group, is_dead),
                protocol_type: Some(Name::from(STREAMS)),
            },
        }
    }
}

fn consumer_state(group: &ConsumerGroup, is_dead: bool) -> &'static str {
    match is_dead {
        true => State::Dead.name(),
        false => group.shown_state().name(),
    }
}

fn streams_state(group: &StreamsGroup, is_dead: bool) -> &'static str {
    match is_dead {
        true => State::Dead.name(),
        false => group.shown_state().name(),
    }
}

/// A group of the consumer protocol, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConsumer {
    /// Its state, as Kafka calls it.
    pub state: &'static str,
    /// Its epoch, and that of its target.
    pub epochs: (i32, i32),
    /// Its assignor.
    pub assignor: &'static str,
    /// By id.
    pub members: VecDeque<ConsumerMember>,
}

/// One member of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMember {
    /// Member id.
    pub id: Name,
    /// What it says of itself.
    pub subscription: Arc<Subscription>,
    /// Where it is.
    pub current: Arc<Current>,
    /// What is to be its own.
    pub target: Arc<Partitions>,
}

/// What comes of telling a group.
pub(super) enum ToldConsumer {
    /// It.
    Group(DescribedConsumer),
    /// It takes more to tell than it may.
    TooMuch,
}

impl DescribedConsumer {
    /// The group, if it is one of the consumer protocol.
    pub(super) fn of(
        group: ShownGroup<'_>,
        config: &ConsumerConfig,
        things_max: usize,
    ) -> Option<ToldConsumer> {
        let ShownGroup::Consumer(_, group, is_dead) = group else {
            return None;
        };
        let state = group.state();
        if state.members().len() > things_max / MEMBER_TEXTS {
            return Some(ToldConsumer::TooMuch);
        }
        let Some(mut left) = things_max.checked_sub(GROUP_ASKED_COST) else {
            return Some(ToldConsumer::TooMuch);
        };
        let mut members = VecDeque::new();
        for (id, subscription) in state.members() {
            let member = ConsumerMember {
                id: id.clone(),
                subscription: subscription.clone(),
                current: state.current(id),
                target: state.target(id),
            };
            let Some(less) = left.checked_sub(member.things()) else {
                return Some(ToldConsumer::TooMuch);
            };
            left = less;
            members.push_back(member);
        }
        Some(ToldConsumer::Group(Self {
            state: consumer_state(group, is_dead),
            epochs: (state.epoch(), state.target_epoch()),
            assignor: config.assignor(preferred_assignor(state).as_ref()).name(),
            members,
        }))
    }
}

impl ConsumerMember {
    /// See [`GroupAnswer::things`].
    #[must_use]
    pub fn things(&self) -> usize {
        let partitions = self.current.assigned.count() + self.target.count();
        let topics = self.subscription.topics.len();
        MEMBER_TEXTS + topics + (self.subscription.bytes() + partitions * 4) / THING_BYTES
    }
}

/// A streams group, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedStreams {
    /// Its state, as Kafka calls it.
    pub state: &'static str,
    /// Its epoch, and that of its target.
    pub epochs: (i32, i32),
    /// Its topology. Where internal topics have partitions by now, they are said.
    pub topology: Option<Arc<Topology>>,
    /// By id.
    pub members: VecDeque<StreamsMemberShown>,
}

/// One member of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsMemberShown {
    /// Member id.
    pub id: Name,
    /// What it says of itself.
    pub said: Arc<StreamsMember>,
    /// Where it is.
    pub current: Arc<StreamsCurrent>,
    /// What is to be its own.
    pub target: Arc<Tasks>,
}

impl DescribedStreams {
    /// The group, if it is a streams group; `Err` if it takes more to tell than it may.
    pub(super) fn of(group: ShownGroup<'_>, things_max: usize) -> Option<Result<Self, ()>> {
        let ShownGroup::Streams(_, group, is_dead) = group else {
            return None;
        };
        let state = group.state();
        let configured = group.configured().filter(|it| it.is_ready());
        let topology = state.topology().map(|topology| match configured {
            None => topology.clone(),
            Some(configured) => {
                let mut told = Topology::clone(topology);
                for of in &mut told.subtopologies {
                    for topic in of.repartition_sources.iter_mut().chain(&mut of.changelogs) {
                        let partitions = configured.partitions.get(&topic.name).copied();
                        topic.partitions = partitions.unwrap_or(topic.partitions);
                    }
                }
                Arc::new(told)
            }
        });
        let mut described = Self {
            state: streams_state(group, is_dead),
            epochs: (state.epoch(), state.target_epoch()),
            topology,
            members: VecDeque::new(),
        };
        let rest = things_max.checked_sub(GROUP_ASKED_COST + described.topology_things());
        let Some(mut left) = rest else {
            return Some(Err(()));
        };
        for (id, said) in state.members() {
            let member = StreamsMemberShown {
                id: id.clone(),
                said: said.clone(),
                current: state.current(id),
                target: state.target(id),
            };
            let Some(less) = left.checked_sub(member.things()) else {
                return Some(Err(()));
            };
            left = less;
            described.members.push_back(member);
        }
        Some(Ok(described))
    }

    /// What it takes to tell its topology; see [`GroupAnswer::things`].
    #[must_use]
    pub fn topology_things(&self) -> usize {
        let topology = self.topology.as_ref();
        topology.map_or(0, |topology| topology.bytes() / THING_BYTES)
    }
}

impl StreamsMemberShown {
    /// See [`GroupAnswer::things`].
    #[must_use]
    pub fn things(&self) -> usize {
        let tasks = self.current.assigned.count() + self.target.count();
        MEMBER_TEXTS + (self.said.bytes() + tasks * 4) / THING_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Mono, Now};
    use crate::group::Protocol;
    use crate::group::testing::commit_of;

    #[test]
    fn every_text_that_a_client_chooses_counts() {
        const LONG: usize = 32_767;
        let long = || Name::from("x".repeat(LONG));
        let now = Now {
            mono: Mono(1),
            wall_ms: 1,
        };
        let mut commit = commit_of("t", TopicId([1; 16]), now);
        (commit.group, commit.member, commit.instance) = (long(), long(), Some(long()));
        commit.offsets[0].committed.metadata = long();
        let leaving = Leaving {
            member: long(),
            instance: Some(long()),
        };
        let asked = OffsetsOf {
            name: long(),
            id: TopicId::ZERO,
            partitions: vec![0; LONG / size_of::<i32>() + 1],
        };
        let join = JoinRequest {
            group: long(),
            member: long(),
            instance: Some(long()),
            client_id: long(),
            client_host: Name::from("/h"),
            session_timeout_ms: 1,
            rebalance_timeout_ms: 1,
            protocol_type: long(),
            protocols: vec![Protocol {
                name: long(),
                metadata: Bytes::from(vec![1; LONG]),
            }],
            needs_member_id: false,
            may_skip_assignment: false,
        };
        let sync = SyncRequest {
            group: long(),
            member: long(),
            instance: Some(long()),
            generation: 1,
            protocol_type: Some(long()),
            protocol: Some(long()),
            assignments: vec![(long(), Bytes::from(vec![1; LONG]))],
        };
        let heartbeat = HeartbeatRequest {
            group: long(),
            member: long(),
            instance: Some(long()),
            generation: 1,
        };
        let all = [
            (7, GroupAsk::Join(join)),
            (7, GroupAsk::Sync(sync)),
            (3, GroupAsk::Heartbeat(heartbeat)),
            (3, GroupAsk::Leave(long(), vec![leaving])),
            (4, GroupAsk::Commit(commit)),
            (
                3,
                GroupAsk::Fetch(long(), FetchedOf::Some(vec![asked]), Stability::Any.into()),
            ),
            (
                2,
                GroupAsk::Fetch(
                    long(),
                    FetchedOf::AllAfter(Some((long(), 0))),
                    Stability::Any.into(),
                ),
            ),
            (2, GroupAsk::DeleteOffsets(long(), vec![(long(), 0)])),
            (1, GroupAsk::Describe(long(), 1)),
            (1, GroupAsk::Delete(long())),
        ];
        for (texts, ask) in all {
            let bytes = ask.bytes();
            assert!(bytes >= texts * LONG, "{bytes} of {texts} texts");
            assert!(bytes < texts * LONG + 2_000, "{bytes} of {texts} texts");
        }
    }
}
