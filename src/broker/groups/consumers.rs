//! ConsumerGroupHeartbeat (68), ConsumerGroupDescribe (69): groups of the consumer protocol (KIP-848), as far as
//! `group.version` 1 is finalized; UNSUPPORTED_VERSION before.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::consumer_group_describe_response::{
    Assignment as ToldAssignment, DescribedGroup, Member, TopicPartitions as ToldPartitions,
};
use kafka_wire::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_wire::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
};
use kafka_wire_core::{StrBytes, Uuid};

use super::answers::error_of;
use super::describe::{ALL_GROUP_OPERATIONS, each_once};
use super::plan::{Asks, GroupPlan, PlanCx, Written, name, text};
use crate::base::limits::{GROUP_PARTITIONS_MAX, OFFSETS_TOLD_PER_SLICE};
use crate::base::{ErrorCode, TopicId};
use crate::controller::{Image, group_version};
use crate::coordinator::{ConsumerMember, DescribedConsumer, GroupAnswer, GroupAsk};
use crate::group::consumer::{Current, Partitions};
use crate::group::{ConsumerHeartbeat, ConsumerReply, GroupTopics, Name};
use crate::wire::{ListFrame, RequestHeader, WireError, decode};

/// The topics of an image, as groups see them.
#[derive(Clone, Copy, Debug)]
pub struct ImageTopics<'a>(pub &'a Image);

impl GroupTopics for ImageTopics<'_> {
    fn version(&self) -> u64 {
        self.0.version
    }

    fn named(&self, name: &str) -> Option<(TopicId, i32)> {
        let topic = self.0.topic(name)?;
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        Some((topic.id, count))
    }

    fn name_of(&self, id: TopicId) -> Option<Name> {
        self.0.topic_by_id(id).map(|topic| Name::clone(&topic.name))
    }

    fn after(&self, name: Option<&str>) -> Option<Name> {
        self.0
            .topic_after(name)
            .map(|topic| Name::clone(&topic.name))
    }
}

fn are_served(image: &Image) -> bool {
    group_version(image.features) > 0
}

/// ConsumerGroupHeartbeat.
pub fn consumer_group_heartbeat(
    cx: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: ConsumerGroupHeartbeatRequest = decode(body, header.version)?;
    if !are_served(cx.image) {
        let refused = ConsumerReply::error(ErrorCode::UnsupportedVersion);
        return Ok(GroupPlan::known(heartbeat_response(refused)));
    }
    let owned = request.topic_partitions.iter().flatten();
    if owned.map(|topic| topic.partitions.len()).sum::<usize>() > GROUP_PARTITIONS_MAX {
        let why = "TopicPartitions are more than a group may be subscribed to.".to_owned();
        let refused = ConsumerReply::refused(ErrorCode::InvalidRequest, why);
        return Ok(GroupPlan::known(heartbeat_response(refused)));
    }
    let client_id = header.client_id.as_ref().map(name).unwrap_or_default();
    let request = heartbeat_request(client_id, Name::from(&*cx.client_host), request);
    // From version 1 on a member brings an id of its own; in version 0 it was given one by its first answer.
    if (header.version >= 1 || request.epoch > 0)
        && request.member.trim().is_empty()
        && request.flaw().is_none()
    {
        let why = "MemberId can't be empty.".to_owned();
        let refused = ConsumerReply::refused(ErrorCode::InvalidRequest, why);
        return Ok(GroupPlan::known(heartbeat_response(refused)));
    }
    let ask = GroupAsk::ConsumerHeartbeat(Box::new(request));
    Ok(GroupPlan::ask(vec![ask], |mut answers| {
        heartbeat_response(match answers.next() {
            Some(GroupAnswer::ConsumerHeartbeat(reply)) => reply,
            other => ConsumerReply::error(error_of(other)),
        })
    }))
}

fn heartbeat_request(
    client_id: Name,
    client_host: Name,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerHeartbeat {
    let owned = request.topic_partitions.map(|topics| {
        let topics = topics.into_iter();
        Partitions::of(topics.map(|it| (TopicId(it.topic_id.to_bytes()), it.partitions)))
    });
    let topics = request.subscribed_topic_names;
    ConsumerHeartbeat {
        group: name(&request.group_id),
        member: name(&request.member_id),
        epoch: request.member_epoch,
        instance: request.instance_id.as_ref().map(name),
        rack: request.rack_id.as_ref().map(name),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|ms| *ms != -1),
        topics: topics.map(|topics| topics.iter().map(name).collect()),
        regex: request.subscribed_topic_regex.as_ref().map(name),
        assignor: request.server_assignor.as_ref().map(name),
        owned,
        client_id,
        client_host,
    }
}

fn heartbeat_response(reply: ConsumerReply) -> ConsumerGroupHeartbeatResponse {
    let mut response = ConsumerGroupHeartbeatResponse::default();
    response.error_code = reply.error.code();
    if !reply.error.is_none() {
        let why = reply
            .message
            .unwrap_or_else(|| reply.error.message().to_owned());
        response.error_message = Some(StrBytes::from(why));
        return response;
    }
    response.member_id = reply.member.as_ref().map(text);
    response.member_epoch = reply.epoch;
    response.heartbeat_interval_ms = reply.heartbeat_interval_ms;
    response.assignment = reply.assigned.map(|current| {
        let topics = current.assigned.topics().map(|(topic, partitions)| {
            let mut told = TopicPartitions::default();
            told.topic_id = Uuid::from_bytes(topic.0);
            told.partitions = partitions.iter().map(|(partition, _)| *partition).collect();
            told
        });
        let mut assignment = Assignment::default();
        assignment.topic_partitions = topics.collect();
        assignment
    });
    response
}

/// ConsumerGroupDescribe.
pub fn consumer_group_describe(
    cx: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: ConsumerGroupDescribeRequest = decode(body, header.version)?;
    // A large group named very often would make an answer of any size.
    let mut ids: VecDeque<Name> = each_once(&request.group_ids).collect();
    if !are_served(cx.image) {
        let mut response = ConsumerGroupDescribeResponse::default();
        let refused = |id: &Name| refused(id, ErrorCode::UnsupportedVersion);
        response.groups = ids.iter().map(refused).collect();
        return Ok(GroupPlan::known(response));
    }
    let ask = |id: &Name| GroupAsk::DescribeConsumer(id.clone(), OFFSETS_TOLD_PER_SLICE);
    let asks = ids.iter().map(ask).collect();
    let tell_operations = request.include_authorized_operations;
    let empty = ConsumerGroupDescribeResponse::default();
    let frame = ListFrame::new(header.correlation_id, header.version, &empty, 0)?;
    let image = Arc::clone(cx.image);
    let write = move |frame: &mut ListFrame, answer| {
        let id = ids.front().cloned().unwrap_or_default();
        let mut described = match answer {
            GroupAnswer::ConsumerDescribed(Ok(Some(mut group))) => {
                let mut left = OFFSETS_TOLD_PER_SLICE;
                while left > 0
                    && let Some(member) = group.members.pop_front()
                {
                    left = left.saturating_sub(member.things());
                    frame.add_part(&describe_member(&image, &member))?;
                }
                if !group.members.is_empty() {
                    let rest = GroupAnswer::ConsumerDescribed(Ok(Some(group)));
                    return Ok(Written::Rest(rest));
                }
                describe(&id, &group)
            }
            GroupAnswer::ConsumerDescribed(Ok(None)) => {
                let mut unknown = refused(&id, ErrorCode::GroupIdNotFound);
                unknown.error_message = Some(format!("Group {id} is not a consumer group.").into());
                unknown
            }
            GroupAnswer::ConsumerDescribed(Err(error)) => refused(&id, error),
            other => refused(&id, error_of(Some(other))),
        };
        ids.pop_front();
        if tell_operations && described.error_code == 0 {
            described.authorized_operations = ALL_GROUP_OPERATIONS;
        }
        // Behind the members are the operations.
        frame.add_around(&described, 4)?;
        Ok(Written::Yes)
    };
    Ok(GroupPlan::list(Asks::Groups(asks), frame, write))
}

fn refused(id: &Name, error: ErrorCode) -> DescribedGroup {
    let mut described = DescribedGroup::default();
    described.group_id = text(id);
    described.error_code = error.code();
    described.error_message = Some(StrBytes::from(error.message()));
    described
}

/// But for its members.
fn describe(id: &Name, group: &DescribedConsumer) -> DescribedGroup {
    let mut described = DescribedGroup::default();
    described.group_id = text(id);
    described.group_state = StrBytes::from(group.state);
    (described.group_epoch, described.assignment_epoch) = group.epochs;
    described.assignor_name = StrBytes::from(group.assignor);
    described
}

fn describe_member(image: &Image, member: &ConsumerMember) -> Member {
    /// It speaks the consumer protocol.
    const CONSUMER_TYPE: i8 = 1;
    let mut told = Member::default();
    let subscription = &member.subscription;
    told.member_id = text(&member.id);
    told.instance_id = subscription.instance.as_ref().map(text);
    told.rack_id = subscription.rack.as_ref().map(text);
    told.member_epoch = member.current.epoch;
    told.client_id = text(&subscription.client_id);
    told.client_host = text(&subscription.client_host);
    told.subscribed_topic_names = subscription.topics.iter().map(text).collect();
    // None is told as an empty one, as Kafka does.
    let regex = subscription.regex.as_ref();
    told.subscribed_topic_regex = Some(regex.map_or_else(StrBytes::default, text));
    told.assignment = assignment(image, of_current(&member.current));
    let target = member.target.topics();
    told.target_assignment = assignment(image, target.map(|(topic, of)| (topic, of.to_vec())));
    told.member_type = CONSUMER_TYPE;
    told
}

fn of_current(current: &Current) -> impl Iterator<Item = (TopicId, Vec<i32>)> {
    let topics = current.assigned.topics();
    topics.map(|(topic, of)| (topic, of.iter().map(|(partition, _)| *partition).collect()))
}

/// Topics that are gone are not told.
fn assignment(image: &Image, of: impl Iterator<Item = (TopicId, Vec<i32>)>) -> ToldAssignment {
    let topics = of.filter_map(|(id, partitions)| {
        let topic = image.topic_by_id(id)?;
        let mut told = ToldPartitions::default();
        told.topic_id = Uuid::from_bytes(id.0);
        told.topic_name = text(&topic.name);
        told.partitions = partitions;
        Some(told)
    });
    let mut assignment = ToldAssignment::default();
    assignment.topic_partitions = topics.collect();
    assignment
}
