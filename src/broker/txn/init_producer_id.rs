//! InitProducerId (22) with a transactional id: its coordinator fences whoever has had it before, aborts what that one
//! has begun, and gives out the next epoch. Without one the control shard gives out a producer id.

use bytes::Bytes;
use kafka_wire::{InitProducerIdRequest, InitProducerIdResponse};

use super::plan::{TxnPlan, TxnPlanCx, fenced_since, fields_of, id_of, producer_of};
use crate::base::ErrorCode;
use crate::coordinator::TxnAsk;
use crate::txn::{InitTxn, TxnProducer};
use crate::wire::{RequestHeader, WireError, decode};

const FENCED_SINCE: i16 = 4;

/// InitProducerId.
pub fn init_transactions(
    _: &TxnPlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<TxnPlan, WireError> {
    let request: InitProducerIdRequest = decode(body, header.version)?;
    let Some(id) = request.transactional_id else {
        return Ok(TxnPlan::Control);
    };
    let is_known = request.producer_id != -1;
    if is_known != (request.producer_epoch != -1) {
        return Ok(TxnPlan::known(response(Err(ErrorCode::InvalidRequest))));
    }
    let expected = is_known.then_some(TxnProducer {
        id: request.producer_id,
        epoch: request.producer_epoch,
    });
    let ask = TxnAsk::Init(InitTxn {
        id: id_of(&id),
        timeout_ms: request.transaction_timeout_ms,
        expected,
        fresh: None,
    });
    let version = header.version;
    Ok(TxnPlan::ask(vec![ask], move |mut answers| {
        let inited = producer_of(answers.next());
        response(inited.map_err(|error| fenced_since(FENCED_SINCE, version, error)))
    }))
}

fn response(inited: Result<TxnProducer, ErrorCode>) -> InitProducerIdResponse {
    let mut response = InitProducerIdResponse::default();
    let (error, id, epoch) = fields_of(inited);
    response.error_code = error;
    (response.producer_id, response.producer_epoch) = (id, epoch);
    response
}
