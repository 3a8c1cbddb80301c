//! Offsets that a transaction commits for a group: what it has consumed for what it has produced. Each transactional id
//! has a group of its own, and commits the number of the transaction for one partition: so what is committed last says
//! which transaction that was.

use bytes::Bytes;
use kafka_wire as kw;

use super::client::Ctx;
use super::finding::{group_name, transactional_id};
use super::frames::{error_of, frame, message, text, uuid};
use crate::base::ErrorCode;
use crate::sim::fact::{Place, Use};
use crate::wire::client;

/// API keys.
const ADD_OFFSETS: i16 = 25;
const COMMIT_OFFSETS: i16 = 28;
/// The first version of the commit with which the group need not be added first.
const ADDS_FROM: i16 = 5;
/// Groups of other clients have smaller numbers.
const GROUPS_FROM: u32 = 1_000;

/// Of a transactional id, and for which partition it commits.
pub fn group_of(id: u32) -> u32 {
    GROUPS_FROM + id
}

/// The partition for which all transactions commit.
pub fn place(ctx: &Ctx<'_>) -> Option<Place> {
    let places = ctx.shared.places(|topic| topic.used == Use::Transacted);
    places.first().copied()
}

/// Makes the group part of the transaction.
pub fn add(ctx: &mut Ctx<'_>, id: u32, (producer, epoch): (i64, i16)) -> (i16, Bytes) {
    let version = ctx.version(ADD_OFFSETS, 0);
    let request = message!(kw::AddOffsetsToTxnRequest {
        transactional_id: text(&transactional_id(id)),
        producer_id: producer,
        producer_epoch: epoch,
        group_id: text(&group_name(group_of(id))),
    });
    (version, frame(version, &request))
}

/// The answer to that.
pub fn added(frame: Bytes, version: i16) -> Result<ErrorCode, String> {
    let answer = client::decode_response::<kw::AddOffsetsToTxnRequest>(frame, version);
    let (_, answer) = answer.map_err(|error| error.to_string())?;
    Ok(error_of(answer.error_code))
}

/// Commits the number of a transaction, `is_new` as one in which the group need not have been added.
pub fn commit(
    ctx: &mut Ctx<'_>,
    (id, is_new): (u32, bool),
    (producer, epoch): (i64, i16),
    (at, number): (Place, u64),
) -> (i16, Bytes) {
    let version = match is_new {
        true => ctx.version(COMMIT_OFFSETS, ADDS_FROM),
        false => ctx.rng.below(ADDS_FROM as u64) as i16,
    };
    let mut partition = message!(
        kw::txn_offset_commit_request::TxnOffsetCommitRequestPartition {
            partition_index: at.partition,
            committed_offset: number as i64,
            committed_metadata: Some(text(&format!("m{number}"))),
        }
    );
    if version >= 2 {
        partition.committed_leader_epoch = 0;
    }
    let mut topic = message!(kw::txn_offset_commit_request::TxnOffsetCommitRequestTopic {
        partitions: vec![partition],
    });
    match ctx.shared.topic(at.topic) {
        Some(known) if version >= 6 => topic.topic_id = uuid(known.id),
        Some(known) => topic.name = text(&known.name),
        None => {}
    }
    let mut request = message!(kw::TxnOffsetCommitRequest {
        transactional_id: text(&transactional_id(id)),
        group_id: text(&group_name(group_of(id))),
        producer_id: producer,
        producer_epoch: epoch,
        topics: vec![topic],
    });
    request.generation_id_or_member_epoch = -1;
    (version, frame(version, &request))
}

/// The answer to that.
pub fn committed(frame: Bytes, version: i16) -> Result<ErrorCode, String> {
    let answer = client::decode_response::<kw::TxnOffsetCommitRequest>(frame, version);
    let (_, answer) = answer.map_err(|error| error.to_string())?;
    let topic = answer.topics.first();
    let partition = topic.and_then(|topic| topic.partitions.first());
    let partition = partition.ok_or("no partition in the answer")?;
    Ok(error_of(partition.error_code))
}
