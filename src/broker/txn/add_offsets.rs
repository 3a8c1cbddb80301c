//! AddOffsetsToTxn (25): the partition of `__consumer_offsets` that has a group becomes part of the transaction.

use bytes::Bytes;
use kafka_wire::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::plan::{TxnPlan, TxnPlanCx, error_of, fenced_since, id_of};
use crate::base::coordinating::partition_for;
use crate::base::{ErrorCode, name};
use crate::broker::groups::OFFSETS_TOPIC;
use crate::coordinator::TxnAsk;
use crate::txn::{TxnProducer, TxnVersion};
use crate::wire::{RequestHeader, WireError, decode};

const FENCED_SINCE: i16 = 2;

/// AddOffsetsToTxn.
pub fn add_offsets_to_txn(
    cx: &TxnPlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<TxnPlan, WireError> {
    let request: AddOffsetsToTxnRequest = decode(body, header.version)?;
    // A client looks for the group's coordinator behind this, which creates the topic.
    let topic = cx.image.topic(OFFSETS_TOPIC);
    let partitions = match topic {
        Some(topic) => topic.partitions.len() as i32,
        None => cx.config.offsets_topic_num_partitions,
    };
    let offsets = (
        name(OFFSETS_TOPIC),
        partition_for(&request.group_id, partitions),
    );
    let producer = TxnProducer {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let ask = TxnAsk::Add(
        id_of(&request.transactional_id),
        producer,
        vec![offsets],
        TxnVersion::V0,
    );
    let version = header.version;
    Ok(TxnPlan::ask(vec![ask], move |mut answers| {
        let error: ErrorCode = fenced_since(FENCED_SINCE, version, error_of(answers.next()));
        let mut response = AddOffsetsToTxnResponse::default();
        response.error_code = error.code();
        response
    }))
}
