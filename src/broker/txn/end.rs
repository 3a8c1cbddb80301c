//! EndTxn (26), versions 0-4: those of transactions before version 2. It is answered when it is decided; the markers
//! come behind that.

use bytes::Bytes;
use kafka_wire::{EndTxnRequest, EndTxnResponse};

use super::plan::{TxnPlan, TxnPlanCx, error_of, fenced_since, id_of};
use crate::coordinator::TxnAsk;
use crate::txn::TxnProducer;
use crate::wire::{RequestHeader, WireError, decode};

const FENCED_SINCE: i16 = 2;

/// EndTxn.
pub fn end_txn(
    _: &TxnPlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<TxnPlan, WireError> {
    let request: EndTxnRequest = decode(body, header.version)?;
    let producer = TxnProducer {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let id = id_of(&request.transactional_id);
    let version = header.version;
    let ask = TxnAsk::End(id, producer, request.committed);
    Ok(TxnPlan::ask(vec![ask], move |mut answers| {
        let error = fenced_since(FENCED_SINCE, version, error_of(answers.next()));
        let mut response = EndTxnResponse::default();
        response.error_code = error.code();
        response
    }))
}
