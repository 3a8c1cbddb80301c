//! StreamsGroupHeartbeat (88), StreamsGroupDescribe (89): groups of streams applications (KIP-1071), as far as
//! `streams.version` 1 is finalized; UNSUPPORTED_VERSION before. StreamsGroupTopologyDescriptionUpdate (93) is not
//! served: it is for plugins, and no member is asked for it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::streams_group_describe_response::{
    Assignment as ToldAssignment, DescribedGroup, Endpoint as ToldEndpoint, KeyValue, Member,
    Subtopology as ToldSubtopology, TaskIds as ToldTasks, TopicInfo as ToldTopic,
    Topology as ToldTopology,
};
use kafka_wire::streams_group_heartbeat_request as asked;
use kafka_wire::streams_group_heartbeat_response as told;
use kafka_wire::{
    CreateTopicsRequest, StreamsGroupDescribeRequest, StreamsGroupDescribeResponse,
    StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse,
};
use kafka_wire_core::{ApiVersion, KafkaEncode, StrBytes};

use super::answers::error_of;
use super::describe::{ALL_GROUP_OPERATIONS, each_once};
use super::plan::{Asks, GroupPlan, PlanCx, Written, name, text};
use crate::base::limits::{
    GROUP_PARTITIONS_MAX, OFFSETS_TOLD_PER_SLICE, STREAMS_CREATE_WAITS_MS_MAX, STREAMS_CREATES_MAX,
};
use crate::base::{ErrorCode, Mono, ShardId};
use crate::broker::fx::Fx;
use crate::broker::msg::{ControlCall, Msg, ReqRef};
use crate::config::is_internal;
use crate::controller::{Image, check_topic_name, streams_version};
use crate::coordinator::{DescribedStreams, GroupAnswer, GroupAsk, StreamsMemberShown};
use crate::group::consumer::JOINS;
use crate::group::streams::{
    CopartitionGroup, EndpointPartitions, HeldTasks, InternalTopic, Subtopology, TaskSet, Tasks,
    Topology, UserEndpoint,
};
use crate::group::{Name, StreamsHeartbeat, StreamsReply};
use crate::wire::{ListFrame, RequestHeader, WireError, decode};

fn are_served(image: &Image) -> bool {
    streams_version(image.features) > 0
}

/// StreamsGroupHeartbeat.
pub fn streams_group_heartbeat(
    cx: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: StreamsGroupHeartbeatRequest = decode(body, header.version)?;
    if let Err(refused) = check(cx, &request) {
        return Ok(GroupPlan::known(heartbeat_response(refused)));
    }
    let client_id = header.client_id.as_ref().map(name).unwrap_or_default();
    let request = heartbeat_request(client_id, Name::from(&*cx.client_host), request);
    let ask = GroupAsk::StreamsHeartbeat(Box::new(request));
    Ok(GroupPlan::ask(vec![ask], |mut answers| {
        heartbeat_response(match answers.next() {
            Some(GroupAnswer::StreamsHeartbeat(reply)) => reply,
            other => StreamsReply::error(error_of(other)),
        })
    }))
}

/// What is wrong with a request, whatever its group is.
fn check(cx: &PlanCx<'_>, request: &StreamsGroupHeartbeatRequest) -> Result<(), StreamsReply> {
    if !are_served(cx.image) {
        return Err(StreamsReply::error(ErrorCode::UnsupportedVersion));
    }
    let owned = [
        &request.active_tasks,
        &request.standby_tasks,
        &request.warmup_tasks,
    ];
    let owned = owned.into_iter().flatten().flatten();
    if owned.map(|of| of.partitions.len()).sum::<usize>() > GROUP_PARTITIONS_MAX {
        let why = "The tasks are more than a group may have.";
        return Err(StreamsReply::refused(ErrorCode::InvalidRequest, why));
    }
    let invalid = |why| {
        Err(StreamsReply::refused(
            ErrorCode::StreamsInvalidTopology,
            why,
        ))
    };
    let subtopologies = request.topology.iter().flat_map(|it| &it.subtopologies);
    for of in subtopologies {
        let internals = of
            .state_changelog_topics
            .iter()
            .chain(&of.repartition_source_topics);
        let named = of.source_topics.iter().chain(&of.repartition_sink_topics);
        for topic in internals.map(|topic| &topic.name).chain(named) {
            if is_internal(topic) {
                return invalid(format!(
                    "Use of Kafka internal topics {topic} in a Kafka Streams topology is prohibited."
                ));
            }
            if check_topic_name(topic).is_err() {
                return invalid(format!("Topic names {topic} are not valid topic names."));
            }
        }
    }
    Ok(())
}

fn heartbeat_request(
    client_id: Name,
    client_host: Name,
    request: StreamsGroupHeartbeatRequest,
) -> StreamsHeartbeat {
    let said = [
        &request.active_tasks,
        &request.standby_tasks,
        &request.warmup_tasks,
    ];
    let said = said.iter().filter(|tasks| tasks.is_some()).count();
    let owned = match (
        request.active_tasks,
        request.standby_tasks,
        request.warmup_tasks,
    ) {
        (Some(active), Some(standby), Some(warmup)) => Some(Tasks {
            active: tasks(active),
            standby: tasks(standby),
            warmup: tasks(warmup),
        }),
        _ => None,
    };
    // Who joins has nothing, whatever it does not say.
    let owned = owned.or_else(|| (said == 0 && request.member_epoch == JOINS).then(Tasks::default));
    StreamsHeartbeat {
        group: name(&request.group_id),
        member: name(&request.member_id),
        epoch: request.member_epoch,
        endpoint_epoch: request.endpoint_information_epoch,
        instance: request.instance_id.as_ref().map(name),
        rack: request.rack_id.as_ref().map(name),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|ms| *ms != -1),
        topology: request.topology.map(|it| Arc::new(topology(it))),
        owned,
        says_part: said > 0 && said < 3,
        process: request.process_id.as_ref().map(name),
        endpoint: request.user_endpoint.map(|it| UserEndpoint {
            host: name(&it.host),
            port: it.port,
        }),
        tags: request.client_tags.map(pairs),
        shuts_down: request.shutdown_application,
        client_id,
        client_host,
    }
}

fn tasks(all: Vec<asked::TaskIds>) -> TaskSet {
    TaskSet::of(
        all.into_iter()
            .map(|of| (name(&of.subtopology_id), of.partitions)),
    )
}

fn pairs(all: Vec<asked::KeyValue>) -> Vec<(Name, Name)> {
    all.iter()
        .map(|pair| (name(&pair.key), name(&pair.value)))
        .collect()
}

fn topology(said: asked::Topology) -> Topology {
    let names = |all: &[StrBytes]| all.iter().map(name).collect::<Vec<Name>>();
    let internal = |topic: asked::TopicInfo| InternalTopic {
        name: name(&topic.name),
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        configs: pairs(topic.topic_configs),
    };
    let subtopologies = said.subtopologies.into_iter().map(|of| {
        let groups = of
            .copartition_groups
            .into_iter()
            .map(|group| CopartitionGroup {
                sources: group.source_topics,
                regexes: group.source_topic_regex,
                repartition_sources: group.repartition_source_topics,
            });
        Subtopology {
            id: name(&of.subtopology_id),
            sources: names(&of.source_topics),
            source_regexes: names(&of.source_topic_regex),
            changelogs: of
                .state_changelog_topics
                .into_iter()
                .map(internal)
                .collect(),
            repartition_sinks: names(&of.repartition_sink_topics),
            repartition_sources: of
                .repartition_source_topics
                .into_iter()
                .map(internal)
                .collect(),
            copartition_groups: groups.collect(),
        }
    });
    Topology::new(said.epoch, subtopologies.collect())
}

fn heartbeat_response(reply: StreamsReply) -> StreamsGroupHeartbeatResponse {
    let mut response = StreamsGroupHeartbeatResponse::default();
    response.error_code = reply.error.code();
    if !reply.error.is_none() {
        let why = reply
            .message
            .unwrap_or_else(|| reply.error.message().to_owned());
        response.error_message = Some(StrBytes::from(why));
        return response;
    }
    response.member_id = text(&reply.member);
    response.member_epoch = reply.epoch;
    response.heartbeat_interval_ms = reply.heartbeat_interval_ms;
    response.task_offset_interval_ms = reply.task_offset_interval_ms;
    response.acceptable_recovery_lag = reply.acceptable_recovery_lag;
    let status = reply.status.into_iter().map(|(status, why)| {
        let mut told = told::Status::default();
        told.status_code = status.code();
        told.status_detail = StrBytes::from(why);
        told
    });
    response.status = Some(status.collect());
    if let Some(current) = reply.assigned {
        let HeldTasks {
            active,
            standby,
            warmup,
        } = &current.assigned;
        let active = active.topics().map(|(of, tasks)| {
            let tasks = tasks.iter().map(|(task, _)| *task).collect();
            told_tasks(&of, tasks)
        });
        response.active_tasks = Some(active.collect());
        let all = |set: &TaskSet| {
            let topics = set.topics();
            topics
                .map(|(of, tasks)| told_tasks(&of, tasks.to_vec()))
                .collect()
        };
        response.standby_tasks = Some(all(standby));
        response.warmup_tasks = Some(all(warmup));
    }
    response.endpoint_information_epoch = reply.endpoint_epoch;
    response.partitions_by_user_endpoint = reply
        .endpoints
        .map(|all| all.iter().map(told_endpoint).collect());
    response
}

fn told_tasks(of: &Name, partitions: Vec<i32>) -> told::TaskIds {
    let mut tasks = told::TaskIds::default();
    tasks.subtopology_id = text(of);
    tasks.partitions = partitions;
    tasks
}

fn told_endpoint(of: &EndpointPartitions) -> told::EndpointToPartitions {
    let partitions = |all: &[(Name, Vec<i32>)]| {
        let told = all.iter().map(|(topic, partitions)| {
            let mut told = told::TopicPartition::default();
            told.topic = text(topic);
            told.partitions.clone_from(partitions);
            told
        });
        told.collect()
    };
    let mut endpoint = told::EndpointToPartitions::default();
    endpoint.user_endpoint.host = text(&of.endpoint.host);
    endpoint.user_endpoint.port = of.endpoint.port;
    endpoint.active_partitions = partitions(&of.active);
    endpoint.standby_partitions = partitions(&of.standby);
    endpoint
}

/// Topics that groups need are created, as by a client: the control shard decides. What comes of it a group sees by the
/// metadata.
#[derive(Debug, Default)]
pub struct CreatesTopics {
    /// Those on their way, and since when.
    begun: Vec<(u64, Mono)>,
}

impl CreatesTopics {
    /// Asks for some, by a number that nothing else has; unless too many are on their way: then the group asks again.
    pub fn begin(&mut self, number: u64, topics: Vec<InternalTopic>, fx: &mut Fx<'_>) {
        let now = fx.now.mono;
        self.begun
            .retain(|(_, since)| now.ms_since(*since) < STREAMS_CREATE_WAITS_MS_MAX);
        if self.begun.len() >= STREAMS_CREATES_MAX {
            return;
        }
        self.begun.push((number, now));
        let (req, call) = (ReqRef::of_groups(fx.me, number), creation(topics));
        fx.send(ShardId(0), Msg::Control { req, call });
    }

    /// One has its answer.
    pub fn ended(&mut self, number: u64) {
        self.begun.retain(|(begun, _)| *begun != number);
    }
}

fn creation(topics: Vec<InternalTopic>) -> Box<ControlCall> {
    const CREATE_TOPICS: (i16, i16) = (19, 7);
    let (key, version) = CREATE_TOPICS;
    let mut request = CreateTopicsRequest::default();
    request.topics = topics.into_iter().map(creatable).collect();
    Box::new(ControlCall {
        header: RequestHeader {
            key,
            version,
            correlation_id: 0,
            client_id: None,
        },
        // Nothing of it is longer than what the topology has brought.
        body: request
            .encode_to_bytes(ApiVersion::new(version))
            .unwrap_or_default(),
        listener: 0,
    })
}

fn creatable(topic: InternalTopic) -> CreatableTopic {
    let mut creatable = CreatableTopic::default();
    creatable.name = text(&topic.name);
    creatable.num_partitions = topic.partitions;
    creatable.replication_factor = match topic.replication_factor {
        0 => -1,
        factor => factor,
    };
    let configs = topic.configs.iter().map(|(key, value)| {
        let mut config = CreatableTopicConfig::default();
        config.name = text(key);
        config.value = Some(text(value));
        config
    });
    creatable.configs = configs.collect();
    creatable
}

/// StreamsGroupDescribe.
pub fn streams_group_describe(
    cx: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: StreamsGroupDescribeRequest = decode(body, header.version)?;
    // A large group named very often would make an answer of any size.
    let mut ids: VecDeque<Name> = each_once(&request.group_ids).collect();
    if !are_served(cx.image) {
        let mut response = StreamsGroupDescribeResponse::default();
        let refused = |id: &Name| refused(id, ErrorCode::UnsupportedVersion);
        response.groups = ids.iter().map(refused).collect();
        return Ok(GroupPlan::known(response));
    }
    let ask = |id: &Name| GroupAsk::DescribeStreams(id.clone(), OFFSETS_TOLD_PER_SLICE);
    let asks = ids.iter().map(ask).collect();
    let tell_operations = request.include_authorized_operations;
    let empty = StreamsGroupDescribeResponse::default();
    let frame = ListFrame::new(header.correlation_id, header.version, &empty, 0)?;
    let write = move |frame: &mut ListFrame, answer| {
        let id = ids.front().cloned().unwrap_or_default();
        let mut described = match answer {
            GroupAnswer::StreamsDescribed(Ok(Some(mut group))) => {
                let mut left = OFFSETS_TOLD_PER_SLICE;
                while left > 0
                    && let Some(member) = group.members.pop_front()
                {
                    left = left.saturating_sub(member.things());
                    frame.add_part(&describe_member(&member))?;
                }
                if !group.members.is_empty() {
                    let rest = GroupAnswer::StreamsDescribed(Ok(Some(group)));
                    return Ok(Written::Rest(rest));
                }
                describe(&id, &group)
            }
            GroupAnswer::StreamsDescribed(Ok(None)) => {
                let mut unknown = refused(&id, ErrorCode::GroupIdNotFound);
                unknown.error_message = Some(format!("Group {id} is not a streams group.").into());
                unknown
            }
            GroupAnswer::StreamsDescribed(Err(error)) => refused(&id, error),
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
fn describe(id: &Name, group: &DescribedStreams) -> DescribedGroup {
    let mut described = DescribedGroup::default();
    described.group_id = text(id);
    described.group_state = StrBytes::from(group.state);
    (described.group_epoch, described.assignment_epoch) = group.epochs;
    described.topology = group.topology.as_deref().map(told_topology);
    described
}

fn told_topology(topology: &Topology) -> ToldTopology {
    let names = |all: &[Name]| {
        let mut names: Vec<StrBytes> = all.iter().map(text).collect();
        names.sort_unstable();
        names
    };
    let internals = |all: &[InternalTopic]| {
        let told = all.iter().map(|topic| {
            let mut told = ToldTopic::default();
            told.name = text(&topic.name);
            told.partitions = topic.partitions;
            told.replication_factor = topic.replication_factor;
            told.topic_configs = topic.configs.iter().map(told_pair).collect();
            told
        });
        let mut told: Vec<ToldTopic> = told.collect();
        told.sort_by(|a, b| a.name.cmp(&b.name));
        told
    };
    let mut told = ToldTopology::default();
    told.epoch = topology.epoch;
    let subtopologies = topology.subtopologies.iter().map(|of| {
        let mut told = ToldSubtopology::default();
        told.subtopology_id = text(&of.id);
        told.source_topics = names(&of.sources);
        told.repartition_sink_topics = names(&of.repartition_sinks);
        told.state_changelog_topics = internals(&of.changelogs);
        told.repartition_source_topics = internals(&of.repartition_sources);
        told
    });
    told.subtopologies = Some(subtopologies.collect());
    told
}

fn told_pair((key, value): &(Name, Name)) -> KeyValue {
    let mut pair = KeyValue::default();
    pair.key = text(key);
    pair.value = text(value);
    pair
}

fn describe_member(member: &StreamsMemberShown) -> Member {
    let said = &member.said;
    let mut told = Member::default();
    told.member_id = text(&member.id);
    told.member_epoch = member.current.epoch;
    told.instance_id = said.instance.as_ref().map(text);
    told.rack_id = said.rack.as_ref().map(text);
    told.client_id = text(&said.client_id);
    told.client_host = text(&said.client_host);
    told.topology_epoch = said.topology_epoch;
    told.process_id = text(&said.process);
    told.user_endpoint = said.endpoint.as_ref().map(|endpoint| {
        let mut told = ToldEndpoint::default();
        told.host = text(&endpoint.host);
        told.port = endpoint.port;
        told
    });
    told.client_tags = said.tags.iter().map(told_pair).collect();
    let set = |of: Name, tasks: Vec<i32>| {
        let mut told = ToldTasks::default();
        told.subtopology_id = text(&of);
        told.partitions = tasks;
        told
    };
    let all = |tasks: &TaskSet| {
        tasks
            .topics()
            .map(|(of, all)| set(of, all.to_vec()))
            .collect()
    };
    let active = member.current.assigned.active.topics();
    let active = active.map(|(of, all)| set(of, all.iter().map(|(task, _)| *task).collect()));
    let mut assignment = ToldAssignment::default();
    assignment.active_tasks = active.collect();
    assignment.standby_tasks = all(&member.current.assigned.standby);
    assignment.warmup_tasks = all(&member.current.assigned.warmup);
    told.assignment = assignment;
    let mut target = ToldAssignment::default();
    target.active_tasks = all(&member.target.active);
    target.standby_tasks = all(&member.target.standby);
    target.warmup_tasks = all(&member.target.warmup);
    told.target_assignment = target;
    told
}

#[cfg(test)]
mod tests {
    use kafka_wire::streams_group_heartbeat_request::{
        Subtopology as Asked, TaskIds, Topology as AskedTopology,
    };

    use super::*;
    use crate::base::Now;
    use crate::controller::FEATURE_LEVEL;

    fn refused(below: u16, request: &StreamsGroupHeartbeatRequest) -> Option<StreamsReply> {
        let mut image = Image::of_node([]);
        image.features = FEATURE_LEVEL - below;
        let cx = PlanCx {
            now: Now {
                mono: Mono(1),
                wall_ms: 1,
            },
            image: &Arc::new(image),
            metadata_max: 0,
            client_host: String::new(),
        };
        check(&cx, request).err()
    }

    fn joins(source: &str) -> StreamsGroupHeartbeatRequest {
        let mut of = Asked::default();
        of.subtopology_id = StrBytes::from("0");
        of.source_topics = vec![StrBytes::from(source)];
        let mut topology = AskedTopology::default();
        topology.subtopologies = vec![of];
        let mut request = StreamsGroupHeartbeatRequest::default();
        request.topology = Some(topology);
        request
    }

    #[test]
    fn nobody_is_served_before_the_feature_is_there() {
        let request = joins("a");
        let told = refused(2, &request).map(|reply| reply.error);
        assert_eq!(told, Some(ErrorCode::UnsupportedVersion));
        assert_eq!(refused(0, &request), None);
    }

    #[test]
    fn topics_of_a_topology_are_such_as_there_may_be() {
        for (name, why) in [("__consumer_offsets", "internal"), ("a b", "not valid")] {
            let reply = refused(0, &joins(name)).unwrap();
            assert_eq!(reply.error, ErrorCode::StreamsInvalidTopology);
            assert!(reply.message.unwrap().contains(why), "{name}");
        }
    }

    #[test]
    fn what_is_not_said_is_told_from_what_is_nothing() {
        let read = |request| heartbeat_request(Name::default(), Name::default(), request);
        let mut request = joins("a");
        assert_eq!(
            read(request.clone()).owned,
            Some(Tasks::default()),
            "who joins has nothing"
        );
        request.member_epoch = 1;
        assert_eq!(
            (read(request.clone()).owned, read(request.clone()).says_part),
            (None, false)
        );
        let mut tasks = TaskIds::default();
        tasks.partitions = vec![2, 1, 2];
        request.active_tasks = Some(vec![tasks]);
        assert!(read(request.clone()).says_part);
        (request.standby_tasks, request.warmup_tasks) = (Some(Vec::new()), Some(Vec::new()));
        let said = read(request);
        assert_eq!(
            (said.says_part, said.owned.unwrap().active.count()),
            (false, 2)
        );
    }
}
