//! DescribeTransactions (65) and ListTransactions (66), versions 0-1: what coordinators know of transactional ids.

use bytes::Bytes;
use kafka_wire::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest,
    describe_transactions_response as described,
};
use kafka_wire_core::StrBytes;

use super::listing::TxnListing;
use super::plan::{TxnPlan, TxnPlanCx, id_of};
use crate::base::ErrorCode;
use crate::coordinator::{TxnAnswer, TxnAsk, TxnFilter};
use crate::txn::{TxnFacts, TxnState};
use crate::wire::{RequestHeader, WireError, decode};

/// States of Kafka's that no id is in here, or is told to be in.
const OTHER_STATES: [&str; 2] = ["Dead", "PrepareEpochFence"];

/// DescribeTransactions.
pub fn describe_transactions(
    _: &TxnPlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<TxnPlan, WireError> {
    let request: DescribeTransactionsRequest = decode(body, header.version)?;
    let ids = request.transactional_ids;
    let asks = ids.iter().map(|id| TxnAsk::Describe(id_of(id)));
    Ok(TxnPlan::ask(asks.collect(), move |answers| {
        let mut response = DescribeTransactionsResponse::default();
        let states = ids.into_iter().zip(answers);
        let states = states.map(|(id, answer)| described_state(id, answer));
        response.transaction_states = states.collect();
        response
    }))
}

fn described_state(id: StrBytes, answer: TxnAnswer) -> described::TransactionState {
    let mut state = described::TransactionState::default();
    state.transactional_id = id;
    match answer {
        TxnAnswer::Described(Ok(facts)) => fill(&mut state, &facts),
        TxnAnswer::Described(Err(error)) => state.error_code = error.code(),
        _ => state.error_code = ErrorCode::UnknownServerError.code(),
    }
    state
}

fn fill(state: &mut described::TransactionState, facts: &TxnFacts) {
    state.transaction_state = StrBytes::from(facts.state.name());
    state.transaction_timeout_ms = facts.timeout_ms;
    state.transaction_start_time_ms = facts.start_ms;
    state.producer_id = facts.producer_id;
    state.producer_epoch = facts.epoch;
    for (topic, index) in &facts.partitions {
        let is_last = |last: &described::TopicData| *last.topic == **topic;
        if !state.topics.last().is_some_and(is_last) {
            let mut data = described::TopicData::default();
            data.topic = StrBytes::from(&**topic);
            state.topics.push(data);
        }
        if let Some(last) = state.topics.last_mut() {
            last.partitions.push(*index);
        }
    }
}

/// ListTransactions.
pub fn list_transactions(
    _: &TxnPlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<TxnPlan, WireError> {
    let request: ListTransactionsRequest = decode(body, header.version)?;
    let (mut states, mut unknown) = (Vec::new(), Vec::new());
    let has_states = !request.state_filters.is_empty();
    for name in request.state_filters {
        match TxnState::ALL.iter().find(|state| *state.name() == *name) {
            Some(state) => states.push(*state),
            None if OTHER_STATES.contains(&&*name) => {}
            None => unknown.push(name),
        }
    }
    let filter = TxnFilter::new(
        has_states.then_some(states),
        request.producer_id_filters,
        request.duration_filter,
    );
    Ok(TxnPlan::List(Box::new(TxnListing::new(
        header, filter, unknown,
    )?)))
}
