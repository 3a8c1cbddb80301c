//! TxnOffsetCommit (28), versions 0-6: offsets that count when the transaction of a producer is committed.
//!
//! Up to version 4 the producer has made the partition of `__consumer_offsets` a part of its transaction by
//! AddOffsetsToTxn. That it is one is asked of the coordinator of transactions before anything is appended (KIP-890,
//! part 1). From version 5 on it becomes one by that (part 2).

use bytes::Bytes;
use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::offset_commit_response::OffsetCommitResponseTopic;
use kafka_wire::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use kafka_wire::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_wire::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::answers::{error_of, set_commit_error};
use super::commits::{Checked, Stamp, check_commit};
use super::plan::{GroupPlan, PlanCx, name};
use crate::base::ErrorCode;
use crate::controller::transaction_version;
use crate::coordinator::GroupAsk;
use crate::group::TransactionalProducer;
use crate::group::writes::CommitRequest;
use crate::wire::{RequestHeader, WireError, decode};

/// From this version on clients know COORDINATOR_LOAD_IN_PROGRESS (KAFKA-7296).
const KNOWS_LOADING_SINCE: i16 = 2;
/// From this version on clients know TRANSACTION_ABORTABLE.
const KNOWS_ABORTABLE_SINCE: i16 = 4;
/// From this version on the offsets are of a transaction of version 2.
const ADDS_SINCE: i16 = 5;
/// From this version on topics are known by their ids, as from this one of OffsetCommit on.
const TOPIC_IDS_SINCE: (i16, i16) = (6, 10);

/// TxnOffsetCommit.
pub fn txn_offset_commit(
    cx: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: TxnOffsetCommitRequest = decode(body, header.version)?;
    let version = header.version;
    let stamp = Stamp::new(cx, None);
    let topics: Vec<_> = request.topics.into_iter().map(as_commit).collect();
    let as_version = match version >= TOPIC_IDS_SINCE.0 {
        true => TOPIC_IDS_SINCE.1,
        false => 0,
    };
    let (mut response, offsets) = match check_commit(cx.image, as_version, &topics, &stamp) {
        Checked::Offsets(response, offsets) => (response, offsets),
        // As in Kafka neither is the transaction looked at.
        Checked::Unknown(response) => {
            return Ok(GroupPlan::known(response_of(response.topics, version)));
        }
    };
    let commit = CommitRequest {
        group: name(&request.group_id),
        member: name(&request.member_id),
        instance: request.group_instance_id.as_ref().map(name),
        generation: request.generation_id_or_member_epoch,
        knows_group_id_not_found: false,
        producer: Some(TransactionalProducer {
            id: request.producer_id,
            epoch: request.producer_epoch,
            transactional_id: name(&request.transactional_id),
            adds: version >= ADDS_SINCE && transaction_version(cx.image.features) >= 2,
            knows_abortable: version >= KNOWS_ABORTABLE_SINCE,
        }),
        offsets,
    };
    let asks = vec![GroupAsk::Commit(commit)];
    Ok(GroupPlan::ask(asks, move |mut answers| {
        set_commit_error(&mut response, error_of(answers.next()));
        response_of(response.topics, version)
    }))
}

/// What is to be committed of a topic, as without a transaction.
fn as_commit(topic: TxnOffsetCommitRequestTopic) -> OffsetCommitRequestTopic {
    let mut commit = OffsetCommitRequestTopic::default();
    (commit.name, commit.topic_id) = (topic.name, topic.topic_id);
    let partitions = topic.partitions.into_iter().map(|partition| {
        let mut one = OffsetCommitRequestPartition::default();
        one.partition_index = partition.partition_index;
        one.committed_offset = partition.committed_offset;
        one.committed_leader_epoch = partition.committed_leader_epoch;
        one.committed_metadata = partition.committed_metadata;
        one
    });
    commit.partitions = partitions.collect();
    commit
}

fn response_of(topics: Vec<OffsetCommitResponseTopic>, version: i16) -> TxnOffsetCommitResponse {
    let loading = ErrorCode::CoordinatorLoadInProgress.code();
    let mut response = TxnOffsetCommitResponse::default();
    let topics = topics.into_iter().map(|topic| {
        let mut answer = TxnOffsetCommitResponseTopic::default();
        (answer.name, answer.topic_id) = (topic.name, topic.topic_id);
        let partitions = topic.partitions.into_iter().map(|partition| {
            let mut one = TxnOffsetCommitResponsePartition::default();
            one.partition_index = partition.partition_index;
            one.error_code = match partition.error_code {
                code if code == loading && version < KNOWS_LOADING_SINCE => {
                    ErrorCode::CoordinatorNotAvailable.code()
                }
                code => code,
            };
            one
        });
        answer.partitions = partitions.collect();
        answer
    });
    response.topics = topics.collect();
    response
}
