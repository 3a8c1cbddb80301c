//! OffsetCommit (8), OffsetFetch (9), OffsetDelete (47).
//!
//! From version 10 on topics of commits and fetches are named by their ids. A fetch
//! sees durable commits only, so `require_stable` has nothing to add here (there are
//! no transactions).

use std::collections::BTreeSet;

use kafka_wire::offset_commit_request::OffsetCommitRequestTopic;
use kafka_wire::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_wire::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_wire::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_wire::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_wire::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse,
};
use kafka_wire_core::{StrBytes, Uuid};

use super::call::{Call, GroupEffect, Origin, TopicInfo, TopicLookup, name, reply, text};
use super::service::{GroupService, Wait};
use crate::base::limits::REQUEST_ENTRIES_MAX;
use crate::base::{ErrorCode, Now, TopicId};
use crate::group::writes::CommitRequest;
use crate::group::{self, Committed, Name, OffsetToCommit};
use crate::wire::{WireError, decode};

/// From this version on ids name topics.
const TOPIC_IDS_SINCE: i16 = 10;

/// Refuses a request of too many partitions: each takes its microseconds, all at once.
fn check_count(by_topic: impl Iterator<Item = usize>) -> Result<(), WireError> {
    // A topic counts too, however few partitions it has.
    let count: usize = by_topic.map(|partitions| partitions + 1).sum();
    if count > REQUEST_ENTRIES_MAX {
        let what = "partitions";
        return Err(WireError::TooManyEntries { what, at: 0 });
    }
    Ok(())
}

impl GroupService {
    pub(crate) fn offset_commit(
        &mut self,
        now: Now,
        origin: Origin,
        call: Call,
        topics: &dyn TopicLookup,
        out: &mut Vec<GroupEffect>,
    ) -> Result<(), WireError> {
        let request: OffsetCommitRequest = decode(call.body, origin.version)?;
        check_count(request.topics.iter().map(|topic| topic.partitions.len()))?;
        let mut commit = CommitRequest {
            group: name(&request.group_id),
            member: name(&request.member_id),
            instance: request.group_instance_id.as_ref().map(name),
            generation: request.generation_id_or_member_epoch,
            knows_group_id_not_found: origin.version >= 9,
            offsets: Vec::new(),
        };
        let mut response = OffsetCommitResponse::default();
        let mut known = false;
        let retention_ms = Some(request.retention_time_ms).filter(|ms| *ms != -1);
        let stamp = Stamp {
            commit_ms: now.wall_ms,
            expire_ms: retention_ms.map(|ms| now.wall_ms.saturating_add(ms)),
            metadata_max: self.coordinator.config().offset_metadata_max_bytes,
        };
        for topic in &request.topics {
            let (info, error) = find(topics, origin.version, &topic.name, topic.topic_id);
            let answer = check_commit_topic(topic, info, error, &stamp, &mut commit.offsets);
            known |=
                info.is_some_and(|i| topic.partitions.iter().any(|p| has(i, p.partition_index)));
            response.topics.push(answer);
        }
        if !known {
            // As in Kafka the group is not looked at if no partition exists.
            reply(origin, &response, out);
            return Ok(());
        }
        let wait = self.wait(Wait::Commit(origin, response));
        let mut effects = Vec::new();
        let serving = self.serving(&commit.group, topics);
        let asked = serving.and_then(|partitions| {
            self.coordinator
                .commit(now, wait, &commit, partitions, &mut effects)
        });
        if let Err(error) = asked {
            self.written(wait, error, out);
        }
        self.perform(effects, out);
        Ok(())
    }

    pub(crate) fn offset_fetch(
        &mut self,
        _: Now,
        origin: Origin,
        call: Call,
        topics: &dyn TopicLookup,
        out: &mut Vec<GroupEffect>,
    ) -> Result<(), WireError> {
        let request: OffsetFetchRequest = decode(call.body, origin.version)?;
        let old = request.topics.iter().flatten();
        let old = old.map(|topic| topic.partition_indexes.len());
        let groups = request.groups.iter();
        let new = groups.flat_map(|group| group.topics.iter().flatten());
        let new = new.map(|topic| topic.partition_indexes.len());
        check_count(old.chain(new))?;
        let mut response = OffsetFetchResponse::default();
        if origin.version >= 8 {
            // Each once: a group with many offsets named very often would make an answer of any size.
            let mut seen = BTreeSet::new();
            let groups = request.groups.iter();
            for group in groups.filter(|group| seen.insert(group.group_id.as_str())) {
                response
                    .groups
                    .push(self.fetch_group(origin.version, group, topics));
            }
        } else {
            let mut group = OffsetFetchRequestGroup::default();
            group.group_id = request.group_id;
            group.topics = request.topics.map(|topics| {
                let named = topics.into_iter().map(|topic| {
                    let mut named = OffsetFetchRequestTopics::default();
                    named.name = topic.name;
                    named.partition_indexes = topic.partition_indexes;
                    named
                });
                named.collect()
            });
            let fetched = self.fetch_group(origin.version, &group, topics);
            response.error_code = fetched.error_code;
            response.topics = fetched.topics.into_iter().map(old_fetch_topic).collect();
        }
        reply(origin, &response, out);
        Ok(())
    }

    fn fetch_group(
        &self,
        version: i16,
        request: &OffsetFetchRequestGroup,
        topics: &dyn TopicLookup,
    ) -> OffsetFetchResponseGroup {
        let mut response = OffsetFetchResponseGroup::default();
        response.group_id = request.group_id.clone();
        let error = self.serving(&request.group_id, topics).err();
        // Version 1 has no place for an error but the partitions.
        response.error_code = error.filter(|_| version >= 2).map_or(0, ErrorCode::code);
        let everywhere = error.filter(|_| version < 2);
        if response.error_code == 0 {
            response.topics = match &request.topics {
                Some(wanted) => wanted
                    .iter()
                    .map(|topic| {
                        self.fetch_topic(version, &request.group_id, topic, topics, everywhere)
                    })
                    .collect(),
                None => self.fetch_everything(version, &request.group_id, topics),
            };
        }
        response
    }

    fn fetch_topic(
        &self,
        version: i16,
        group: &str,
        topic: &OffsetFetchRequestTopics,
        topics: &dyn TopicLookup,
        error: Option<ErrorCode>,
    ) -> OffsetFetchResponseTopics {
        // Names need not exist: nothing is committed for them, then.
        let (topic_name, unknown) = match find(topics, version, &topic.name, topic.topic_id) {
            (Some(info), _) => (info.name, None),
            (None, error) if version >= TOPIC_IDS_SINCE => ("", Some(error)),
            (None, _) => (topic.name.as_str(), None),
        };
        let offsets = self.coordinator.offsets(group);
        let mut response = OffsetFetchResponseTopics::default();
        response.name = topic.name.clone();
        response.topic_id = topic.topic_id;
        for partition in &topic.partition_indexes {
            let committed = offsets.and_then(|o| o.get(topic_name, *partition));
            let mut fetched = fetch_partition(*partition, committed);
            fetched.error_code = unknown.or(error).map_or(0, ErrorCode::code);
            response.partitions.push(fetched);
        }
        response
    }

    fn fetch_everything(
        &self,
        version: i16,
        group: &str,
        topics: &dyn TopicLookup,
    ) -> Vec<OffsetFetchResponseTopics> {
        let offsets = self.coordinator.offsets(group);
        let mut all = Vec::new();
        for (topic, offsets) in offsets.into_iter().flat_map(|o| o.topics()) {
            let mut response = OffsetFetchResponseTopics::default();
            response.name = text(topic);
            if version >= TOPIC_IDS_SINCE {
                // A topic that is gone has no id to name it by.
                let Some(info) = topics.by_name(topic) else {
                    continue;
                };
                response.topic_id = Uuid::from_bytes(info.id.0);
            }
            let partitions = offsets.iter().map(|(p, c)| fetch_partition(*p, Some(c)));
            response.partitions = partitions.collect();
            all.push(response);
        }
        all
    }

    pub(crate) fn offset_delete(
        &mut self,
        now: Now,
        origin: Origin,
        call: Call,
        topics: &dyn TopicLookup,
        out: &mut Vec<GroupEffect>,
    ) -> Result<(), WireError> {
        let request: OffsetDeleteRequest = decode(call.body, origin.version)?;
        check_count(request.topics.iter().map(|topic| topic.partitions.len()))?;
        let mut response = OffsetDeleteResponse::default();
        let mut targets: Vec<(Name, i32)> = Vec::new();
        let mut places = Vec::new();
        for (t, topic) in request.topics.iter().enumerate() {
            let info = topics.by_name(&topic.name);
            let mut answer = OffsetDeleteResponseTopic::default();
            answer.name = topic.name.clone();
            for (p, partition) in topic.partitions.iter().enumerate() {
                let mut one = OffsetDeleteResponsePartition::default();
                one.partition_index = partition.partition_index;
                if info.is_some_and(|i| has(i, partition.partition_index)) {
                    targets.push((name(&topic.name), partition.partition_index));
                    places.push((t, p));
                } else {
                    one.error_code = ErrorCode::UnknownTopicOrPartition.code();
                }
                answer.partitions.push(one);
            }
            response.topics.push(answer);
        }
        let group = name(&request.group_id);
        let wait = self.number();
        let mut effects = Vec::new();
        let asked = self.serving(&group, topics).and_then(|_| {
            self.coordinator
                .delete_offsets(now, wait, &group, &targets, &mut effects)
        });
        match asked {
            Ok(errors) => {
                for ((t, p), error) in places.into_iter().zip(errors) {
                    response.topics[t].partitions[p].error_code = error.code();
                }
                self.waits
                    .insert(wait, Wait::OffsetDelete(origin, response));
            }
            Err(error) => {
                let mut refused = OffsetDeleteResponse::default();
                refused.error_code = error.code();
                reply(origin, &refused, out);
            }
        }
        self.perform(effects, out);
        Ok(())
    }
}

/// The topic that a request names, and the error if there is none.
fn find<'a>(
    topics: &'a dyn TopicLookup,
    version: i16,
    name: &str,
    id: Uuid,
) -> (Option<TopicInfo<'a>>, ErrorCode) {
    if version >= TOPIC_IDS_SINCE {
        (
            topics.by_id(TopicId(id.to_bytes())),
            ErrorCode::UnknownTopicId,
        )
    } else {
        (topics.by_name(name), ErrorCode::UnknownTopicOrPartition)
    }
}

fn has(topic: TopicInfo<'_>, partition: i32) -> bool {
    (0..topic.partitions).contains(&partition)
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
    info: Option<TopicInfo<'_>>,
    unknown: ErrorCode,
    stamp: &Stamp,
    commit: &mut Vec<OffsetToCommit>,
) -> OffsetCommitResponseTopic {
    let mut answer = OffsetCommitResponseTopic::default();
    answer.name = topic.name.clone();
    answer.topic_id = topic.topic_id;
    let topic_name = info.map(|i| Name::from(i.name));
    for partition in &topic.partitions {
        let metadata = partition.committed_metadata.as_deref().unwrap_or("");
        let error = match info {
            None => unknown,
            Some(info) if !has(info, partition.partition_index) => {
                ErrorCode::UnknownTopicOrPartition
            }
            Some(_) if utf16_len(metadata) > stamp.metadata_max => {
                ErrorCode::OffsetMetadataTooLarge
            }
            Some(_) => ErrorCode::None,
        };
        if let (ErrorCode::None, Some(topic)) = (error, &topic_name) {
            commit.push(OffsetToCommit {
                topic: topic.clone(),
                partition: partition.partition_index,
                committed: Committed {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: group::name(metadata),
                    commit_ms: stamp.commit_ms,
                    expire_ms: stamp.expire_ms,
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

fn fetch_partition(partition: i32, committed: Option<&Committed>) -> OffsetFetchResponsePartitions {
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
