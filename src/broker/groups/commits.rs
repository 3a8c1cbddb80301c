//! OffsetCommit (8), and what it has in common with commits in transactions: which partitions there are of those that a
//! request names.

use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::offset_commit_request::OffsetCommitRequestTopic;
use kafka_wire::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_wire::{OffsetCommitRequest, OffsetCommitResponse};

use super::answers::{error_of, set_commit_error};
use super::offsets::{find, has};
use super::plan::{GroupPlan, PlanCx, name};
use crate::base::ErrorCode;
use crate::controller::{Image, Topic};
use crate::coordinator::GroupAsk;
use crate::group::writes::CommitRequest;
use crate::group::{self, Committed, Name, OffsetToCommit};
use crate::wire::{RequestHeader, WireError, decode};

/// OffsetCommit.
pub fn offset_commit(
    cx: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: OffsetCommitRequest = decode(body, header.version)?;
    let version = header.version;
    let retention_ms = Some(request.retention_time_ms).filter(|ms| *ms != -1);
    let stamp = Stamp::new(cx, retention_ms);
    let (mut response, offsets) = match check_commit(cx.image, version, &request.topics, &stamp) {
        Checked::Offsets(response, offsets) => (response, offsets),
        Checked::Unknown(response) => return Ok(GroupPlan::known(response)),
    };
    let commit = CommitRequest {
        group: name(&request.group_id),
        member: name(&request.member_id),
        instance: request.group_instance_id.as_ref().map(name),
        generation: request.generation_id_or_member_epoch,
        knows_group_id_not_found: version >= 9,
        producer: None,
        offsets,
    };
    Ok(GroupPlan::ask(
        vec![GroupAsk::Commit(commit)],
        |mut answers| {
            set_commit_error(&mut response, error_of(answers.next()));
            response
        },
    ))
}

/// What there is of what a request names.
pub(super) enum Checked {
    /// The response, but for what the coordinator says; and what it is asked to commit.
    Offsets(OffsetCommitResponse, Vec<OffsetToCommit>),
    /// No partition exists: as in Kafka the group is not looked at, and this is the response.
    Unknown(OffsetCommitResponse),
}

/// Looks for the partitions of a commit.
pub(super) fn check_commit(
    image: &Image,
    version: i16,
    topics: &[OffsetCommitRequestTopic],
    stamp: &Stamp,
) -> Checked {
    let (mut response, mut offsets) = (OffsetCommitResponse::default(), Vec::new());
    let mut known = false;
    for topic in topics {
        let (found, error) = find(image, version, &topic.name, topic.topic_id);
        let answer = check_commit_topic(topic, found, error, stamp, &mut offsets);
        let mut partitions = topic.partitions.iter();
        known |= found.is_some_and(|t| partitions.any(|p| has(t, p.partition_index)));
        response.topics.push(answer);
    }
    match known {
        true => Checked::Offsets(response, offsets),
        false => Checked::Unknown(response),
    }
}

/// What all offsets of one commit have in common.
pub(super) struct Stamp {
    commit_ms: i64,
    expire_ms: Option<i64>,
    metadata_max: usize,
}

impl Stamp {
    /// That of a commit now, perhaps with a retention of its own.
    pub fn new(cx: &PlanCx<'_>, retention_ms: Option<i64>) -> Self {
        let wall_ms = cx.now.wall_ms;
        Self {
            commit_ms: wall_ms,
            expire_ms: retention_ms.map(|ms| wall_ms.saturating_add(ms)),
            metadata_max: cx.metadata_max,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_in_utf16_units_is_that_of_java() {
        for text in ["", "note", "\u{e9}\u{3053}", "a\u{1F600}b"] {
            assert_eq!(utf16_len(text), text.encode_utf16().count(), "{text}");
        }
    }
}
