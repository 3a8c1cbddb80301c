//! OffsetCommit (8), OffsetFetch (9), OffsetDelete (47).
//!
//! From version 10 on topics of commits and fetches are named by their ids. A fetch
//! sees durable commits only, so `require_stable` has nothing to add here (there are
//! no transactions).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::offset_commit_request::OffsetCommitRequestTopic;
use kafka_wire::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_wire::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_wire::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_wire::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_wire::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse,
};
use kafka_wire_core::{StrBytes, Uuid};

use super::answers::{error_of, set_commit_error};
use super::plan::{Asks, GroupPlan, PlanCx, Written, name, text};
use crate::base::limits::OFFSETS_TOLD_PER_SLICE;
use crate::base::{ErrorCode, TopicId};
use crate::controller::{Image, Topic};
use crate::coordinator::{FetchedOf, GroupAnswer, GroupAsk, OffsetsOf, TopicOffsets};
use crate::group::writes::CommitRequest;
use crate::group::{self, Committed, Name, OffsetToCommit};
use crate::wire::{ListFrame, RequestHeader, WireError, decode, encode_response};

/// From this version on ids name topics.
const TOPIC_IDS_SINCE: i16 = 10;
/// From this version on an OffsetFetch is of several groups.
const GROUPS_SINCE: i16 = 8;

/// OffsetCommit.
pub fn offset_commit(
    cx: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: OffsetCommitRequest = decode(body, header.version)?;
    let version = header.version;
    let mut commit = CommitRequest {
        group: name(&request.group_id),
        member: name(&request.member_id),
        instance: request.group_instance_id.as_ref().map(name),
        generation: request.generation_id_or_member_epoch,
        knows_group_id_not_found: version >= 9,
        offsets: Vec::new(),
    };
    let mut response = OffsetCommitResponse::default();
    let mut known = false;
    let retention_ms = Some(request.retention_time_ms).filter(|ms| *ms != -1);
    let wall_ms = cx.now.wall_ms;
    let stamp = Stamp {
        commit_ms: wall_ms,
        expire_ms: retention_ms.map(|ms| wall_ms.saturating_add(ms)),
        metadata_max: cx.metadata_max,
    };
    for topic in &request.topics {
        let (found, error) = find(cx.image, version, &topic.name, topic.topic_id);
        let answer = check_commit_topic(topic, found, error, &stamp, &mut commit.offsets);
        let mut partitions = topic.partitions.iter();
        known |= found.is_some_and(|t| partitions.any(|p| has(t, p.partition_index)));
        response.topics.push(answer);
    }
    if !known {
        // As in Kafka the group is not looked at if no partition exists.
        return Ok(GroupPlan::known(response));
    }
    Ok(GroupPlan::ask(
        vec![GroupAsk::Commit(commit)],
        |mut answers| {
            set_commit_error(&mut response, error_of(answers.next()));
            response
        },
    ))
}

/// A topic of an OffsetFetch, and the error of all its partitions if it is one that is not known.
#[derive(Debug)]
struct Wanted {
    topic: OffsetFetchRequestTopics,
    unknown: Option<ErrorCode>,
}

/// Some topics of a group of an OffsetFetch; without topics all are wanted.
#[derive(Debug)]
struct FetchOf {
    group: StrBytes,
    topics: Option<Vec<Wanted>>,
    /// They are the last ones of the group.
    is_last: bool,
}

/// OffsetFetch.
pub fn offset_fetch(
    cx: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: OffsetFetchRequest = decode(body, header.version)?;
    let version = header.version;
    let mut groups = if version >= GROUPS_SINCE {
        request.groups
    } else {
        vec![as_group(request.group_id, request.topics)]
    };
    // Each once: a group with many offsets named very often would make an answer of any size.
    let mut seen = BTreeSet::new();
    groups.retain(|group| seen.insert(group.group_id.clone()));
    let mut asks = Vec::with_capacity(groups.len());
    let mut fetches = VecDeque::with_capacity(groups.len());
    for group in groups {
        fetch_of(cx.image, version, group, &mut asks, &mut fetches);
    }
    let behind = if (2..GROUPS_SINCE).contains(&version) {
        2
    } else {
        0
    };
    let empty = OffsetFetchResponse::default();
    let frame = ListFrame::new(header.correlation_id, version, &empty, behind)?;
    let (image, id) = (Arc::clone(cx.image), header.correlation_id);
    let mut failed = None;
    let write = move |frame: &mut ListFrame, answer| {
        let fetched = match answer {
            GroupAnswer::Fetched(fetched) => fetched,
            other => Err(error_of(Some(other))),
        };
        let refused = fetched.as_ref().err().copied();
        // Version 1 has no place for an error but the partitions.
        let error = refused.filter(|_| version >= 2);
        if let Some(error) = error.filter(|_| version < GROUPS_SINCE) {
            let mut response = OffsetFetchResponse::default();
            response.error_code = error.code();
            return encode_response(id, version, &response).map(Written::Instead);
        }
        failed = failed.or(error);
        let Some(mut of) = fetches.pop_front() else {
            return Ok(Written::Yes);
        };
        let (topics, more) = fetched.unwrap_or_default();
        let last = topics.last().filter(|_| more);
        let last = last.map(|(topic, _)| Name::clone(topic));
        if error.is_none() {
            add_topics(frame, &image, version, &mut of, topics, refused)?;
        }
        if let Some(last) = last {
            let ask = GroupAsk::Fetch(name(&of.group), FetchedOf::AllAfter(Some(last)));
            fetches.push_front(of);
            return Ok(Written::Ask(ask));
        }
        if version >= GROUPS_SINCE && of.is_last {
            let mut group = OffsetFetchResponseGroup::default();
            group.group_id = of.group;
            group.error_code = failed.take().map_or(0, ErrorCode::code);
            // The error is behind the topics.
            frame.add_around(&group, 2)?;
        }
        Ok(Written::Yes)
    };
    Ok(GroupPlan::list(Asks::Groups(asks), frame, write))
}

/// The one group of an old request.
fn as_group(id: StrBytes, topics: Option<Vec<OffsetFetchRequestTopic>>) -> OffsetFetchRequestGroup {
    let mut group = OffsetFetchRequestGroup::default();
    group.group_id = id;
    group.topics = topics.map(|topics| {
        let named = topics.into_iter().map(|topic| {
            let mut named = OffsetFetchRequestTopics::default();
            named.name = topic.name;
            named.partition_indexes = topic.partition_indexes;
            named
        });
        named.collect()
    });
    group
}

/// What is asked of a group, in parts that are answered at a time.
fn fetch_of(
    image: &Image,
    version: i16,
    group: OffsetFetchRequestGroup,
    asks: &mut Vec<GroupAsk>,
    fetches: &mut VecDeque<FetchOf>,
) {
    let group_name = name(&group.group_id);
    let Some(topics) = group.topics else {
        asks.push(GroupAsk::Fetch(group_name, FetchedOf::AllAfter(None)));
        return fetches.push_back(FetchOf {
            group: group.group_id,
            topics: None,
            is_last: true,
        });
    };
    let (mut asked, mut wanted, mut count) = (Vec::new(), Vec::new(), 0);
    let mut push = |asked, wanted, is_last| {
        asks.push(GroupAsk::Fetch(group_name.clone(), FetchedOf::Some(asked)));
        fetches.push_back(FetchOf {
            group: group.group_id.clone(),
            topics: Some(wanted),
            is_last,
        });
    };
    // Each once, as groups: long metadata named very often would make an answer of any size.
    let mut seen = BTreeSet::new();
    for mut topic in topics {
        // Names need not exist: nothing is committed for them, then.
        let ((of, id), unknown) = match find(image, version, &topic.name, topic.topic_id) {
            (Some(found), _) => {
                let partitions = &mut topic.partition_indexes;
                partitions.retain(|partition| seen.insert((found.id, *partition)));
                ((Name::clone(&found.name), found.id), None)
            }
            (None, error) if version >= TOPIC_IDS_SINCE => {
                ((Name::from(""), TopicId::ZERO), Some(error))
            }
            (None, _) => ((name(&topic.name), TopicId::ZERO), None),
        };
        count += 1 + topic.partition_indexes.len();
        asked.push(OffsetsOf {
            name: of,
            id,
            partitions: match unknown {
                Some(_) => Vec::new(),
                None => topic.partition_indexes.clone(),
            },
        });
        wanted.push(Wanted { topic, unknown });
        if count >= OFFSETS_TOLD_PER_SLICE {
            push(
                std::mem::take(&mut asked),
                std::mem::take(&mut wanted),
                false,
            );
            count = 0;
        }
    }
    push(asked, wanted, true);
}

/// Writes topics of a group.
fn add_topics(
    frame: &mut ListFrame,
    image: &Image,
    version: i16,
    of: &mut FetchOf,
    topics: Vec<TopicOffsets>,
    refused: Option<ErrorCode>,
) -> Result<(), WireError> {
    let mut found = topics.into_iter();
    let mut add = |topic: OffsetFetchResponseTopics| match version {
        GROUPS_SINCE.. => frame.add_part(&topic),
        _ => frame.add(&old_fetch_topic(topic)),
    };
    match of.topics.take() {
        None => found
            .filter_map(|topic| fetched_unasked(image, version, topic))
            .try_for_each(add),
        Some(wanted) => wanted
            .into_iter()
            .try_for_each(|Wanted { topic, unknown }| {
                let offsets = found.next().map(|(_, offsets)| offsets);
                add(fetched_topic(
                    topic,
                    unknown.or(refused),
                    offsets.unwrap_or_default(),
                ))
            }),
    }
}

/// One of all topics for which something is committed.
fn fetched_unasked(
    image: &Image,
    version: i16,
    (topic, offsets): TopicOffsets,
) -> Option<OffsetFetchResponseTopics> {
    // What is there for one that is gone is still to be deleted.
    let id = image.topic(&topic)?.id;
    let mut response = OffsetFetchResponseTopics::default();
    response.name = text(&topic);
    if version >= TOPIC_IDS_SINCE {
        response.topic_id = Uuid::from_bytes(id.0);
    }
    for (partition, committed) in offsets {
        if committed.as_ref().is_some_and(|c| c.is_of(id)) {
            let fetched = fetched_partition(partition, committed.as_ref());
            response.partitions.push(fetched);
        }
    }
    (!response.partitions.is_empty()).then_some(response)
}

/// A topic that was asked for; the offsets are those of its partitions, unless there is an error.
fn fetched_topic(
    topic: OffsetFetchRequestTopics,
    error: Option<ErrorCode>,
    offsets: Vec<(i32, Option<Committed>)>,
) -> OffsetFetchResponseTopics {
    let mut response = OffsetFetchResponseTopics::default();
    response.name = topic.name;
    response.topic_id = topic.topic_id;
    let mut offsets = offsets.into_iter().map(|(_, committed)| committed);
    for partition in topic.partition_indexes {
        let committed = offsets.next().flatten();
        let mut fetched = fetched_partition(partition, committed.as_ref());
        fetched.error_code = error.map_or(0, ErrorCode::code);
        response.partitions.push(fetched);
    }
    response
}

/// OffsetDelete.
pub fn offset_delete(
    cx: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: OffsetDeleteRequest = decode(body, header.version)?;
    let mut response = OffsetDeleteResponse::default();
    let mut targets: Vec<(Name, i32)> = Vec::new();
    let mut places = Vec::new();
    for (t, topic) in request.topics.iter().enumerate() {
        let known = cx.image.topic(&topic.name);
        let mut answer = OffsetDeleteResponseTopic::default();
        answer.name = topic.name.clone();
        for (p, partition) in topic.partitions.iter().enumerate() {
            let mut one = OffsetDeleteResponsePartition::default();
            one.partition_index = partition.partition_index;
            match known {
                Some(known) if has(known, partition.partition_index) => {
                    targets.push((Name::clone(&known.name), partition.partition_index));
                    places.push((t, p));
                }
                _ => one.error_code = ErrorCode::UnknownTopicOrPartition.code(),
            }
            answer.partitions.push(one);
        }
        response.topics.push(answer);
    }
    let ask = GroupAsk::DeleteOffsets(name(&request.group_id), targets);
    Ok(GroupPlan::ask(vec![ask], move |mut answers| {
        let deleted = match answers.next() {
            Some(GroupAnswer::OffsetsDeleted(deleted)) => deleted,
            other => Err(error_of(other)),
        };
        match deleted {
            Ok(errors) => {
                for ((t, p), error) in places.into_iter().zip(errors) {
                    response.topics[t].partitions[p].error_code = error.code();
                }
            }
            Err(error) => {
                response = OffsetDeleteResponse::default();
                response.error_code = error.code();
            }
        }
        response
    }))
}

/// The topic that a request names, and the error if there is none.
fn find<'a>(
    image: &'a Image,
    version: i16,
    name: &str,
    id: Uuid,
) -> (Option<&'a Arc<Topic>>, ErrorCode) {
    if version >= TOPIC_IDS_SINCE {
        let id = TopicId(id.to_bytes());
        (image.topic_by_id(id), ErrorCode::UnknownTopicId)
    } else {
        (image.topic(name), ErrorCode::UnknownTopicOrPartition)
    }
}

fn has(topic: &Topic, partition: i32) -> bool {
    topic.partition(partition).is_some()
}

/// What all offsets of one commit have in common.
struct Stamp {
    commit_ms: i64,
    expire_ms: Option<i64>,
    metadata_max: usize,
}

/// The length of a text in UTF-16 units: one for each character, two for those of four bytes.
fn utf16_len(text: &str) -> usize {
    let units = |byte: &u8| usize::from(*byte & 0xc0 != 0x80) + usize::from(*byte >= 0xf0);
    text.as_bytes().iter().map(units).sum()
}

/// Sorts the partitions of a topic into those to be committed and those with an error.
fn check_commit_topic(
    topic: &OffsetCommitRequestTopic,
    found: Option<&Arc<Topic>>,
    unknown: ErrorCode,
    stamp: &Stamp,
    commit: &mut Vec<OffsetToCommit>,
) -> OffsetCommitResponseTopic {
    let mut answer = OffsetCommitResponseTopic::default();
    answer.name = topic.name.clone();
    answer.topic_id = topic.topic_id;
    for partition in &topic.partitions {
        let metadata = partition.committed_metadata.as_deref().unwrap_or("");
        let error = match found {
            None => unknown,
            Some(found) if !has(found, partition.partition_index) => {
                ErrorCode::UnknownTopicOrPartition
            }
            Some(_) if utf16_len(metadata) > stamp.metadata_max => {
                ErrorCode::OffsetMetadataTooLarge
            }
            Some(_) => ErrorCode::None,
        };
        if let (ErrorCode::None, Some(found)) = (error, found) {
            commit.push(OffsetToCommit {
                topic: Name::clone(&found.name),
                partition: partition.partition_index,
                committed: Committed {
                    topic_id: found.id,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: group::name(metadata),
                    commit_ms: stamp.commit_ms,
                    expire_ms: stamp.expire_ms,
                    lacks_id: false,
                },
            });
        }
        let mut one = OffsetCommitResponsePartition::default();
        one.partition_index = partition.partition_index;
        one.error_code = error.code();
        answer.partitions.push(one);
    }
    answer
}

fn fetched_partition(
    partition: i32,
    committed: Option<&Committed>,
) -> OffsetFetchResponsePartitions {
    let mut fetched = OffsetFetchResponsePartitions::default();
    fetched.partition_index = partition;
    fetched.committed_offset = committed.map_or(-1, |c| c.offset);
    fetched.committed_leader_epoch = committed.map_or(-1, |c| c.leader_epoch);
    fetched.metadata = Some(committed.map_or_else(StrBytes::default, |c| text(&c.metadata)));
    fetched
}

fn old_fetch_topic(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let mut old = OffsetFetchResponseTopic::default();
    old.name = topic.name;
    let partitions = topic.partitions.into_iter().map(|p| {
        let mut old = OffsetFetchResponsePartition::default();
        old.partition_index = p.partition_index;
        old.committed_offset = p.committed_offset;
        old.committed_leader_epoch = p.committed_leader_epoch;
        old.metadata = p.metadata;
        old.error_code = p.error_code;
        old
    });
    old.partitions = partitions.collect();
    old
}

#[cfg(test)]
mod tests {
    use super::utf16_len;

    #[test]
    fn a_length_in_utf16_units_is_that_of_java() {
        for text in ["", "note", "\u{e9}\u{3053}", "a\u{1F600}b"] {
            assert_eq!(utf16_len(text), text.encode_utf16().count(), "{text}");
        }
    }
}
