//! AddPartitionsToTxn (24): versions 0-3 are a client's, of one transaction; 4 and 5 are what brokers ask before they
//! append the first batch of a transaction to a partition (KIP-890), of many. They only look if `VerifyOnly` says so,
//! and otherwise add what a client of version 2 writes to.

use bytes::Bytes;
use kafka_wire::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_wire::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_wire::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use kafka_wire_core::StrBytes;

use super::plan::{TxnPlan, TxnPlanCx, fenced_since, id_of};
use crate::base::ErrorCode;
use crate::controller::Image;
use crate::coordinator::{TxnAnswer, TxnAsk};
use crate::txn::{TxnPartition, TxnProducer, TxnVersion};
use crate::wire::{RequestHeader, WireError, decode};

const MANY_SINCE: i16 = 4;
const FENCED_SINCE: i16 = 2;
const ABORTABLE_SINCE: i16 = 5;

/// AddPartitionsToTxn.
pub fn add_partitions_to_txn(
    cx: &TxnPlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<TxnPlan, WireError> {
    let request: AddPartitionsToTxnRequest = decode(body, header.version)?;
    let version = header.version;
    if version >= MANY_SINCE {
        let all = request.transactions.into_iter();
        return Ok(many(cx, version, all.map(Transaction::of).collect()));
    }
    let one = Transaction {
        id: request.v3_and_below_transactional_id,
        producer: TxnProducer {
            id: request.v3_and_below_producer_id,
            epoch: request.v3_and_below_producer_epoch,
        },
        verify_only: false,
        topics: request.v3_and_below_topics,
    };
    Ok(many(cx, version, vec![one]))
}

/// A transaction of a request.
struct Transaction {
    id: StrBytes,
    producer: TxnProducer,
    verify_only: bool,
    topics: Vec<AddPartitionsToTxnTopic>,
}

impl Transaction {
    fn of(one: AddPartitionsToTxnTransaction) -> Self {
        Self {
            id: one.transactional_id,
            producer: TxnProducer {
                id: one.producer_id,
                epoch: one.producer_epoch,
            },
            verify_only: one.verify_only,
            topics: one.topics,
        }
    }

    fn partitions(&self) -> Vec<TxnPartition> {
        let topics = self.topics.iter();
        let of_each = topics.flat_map(|topic| {
            let name = id_of(&topic.name);
            let indexes = topic.partitions.iter();
            indexes.map(move |index| (name.clone(), *index))
        });
        of_each.collect()
    }
}

/// What is answered of a transaction.
enum Known {
    /// The errors of its partitions, if some of them do not exist.
    Errors(Vec<ErrorCode>),
    /// Its coordinator knows.
    Asked,
}

/// Which of them do not exist; the others are not tried then.
fn unknown(image: &Image, partitions: &[TxnPartition]) -> Option<Vec<ErrorCode>> {
    let exists = |(topic, index): &TxnPartition| {
        let topic = image.topic(topic);
        topic.is_some_and(|topic| topic.partition(*index).is_some())
    };
    if partitions.iter().all(exists) {
        return None;
    }
    let error = |it| match exists(it) {
        true => ErrorCode::OperationNotAttempted,
        false => ErrorCode::UnknownTopicOrPartition,
    };
    Some(partitions.iter().map(error).collect())
}

fn many(cx: &TxnPlanCx<'_>, version: i16, transactions: Vec<Transaction>) -> TxnPlan {
    // What brokers add is of transactions of version 2, if the cluster has those.
    let adds_by = match version >= MANY_SINCE {
        true => cx.version(),
        false => TxnVersion::V0,
    };
    let mut asks = Vec::new();
    let known = transactions.iter().map(|one| {
        let partitions = one.partitions();
        if let Some(errors) = unknown(cx.image, &partitions) {
            return Known::Errors(errors);
        }
        let id = id_of(&one.id);
        asks.push(match one.verify_only {
            true => TxnAsk::Verify(id, one.producer, partitions),
            false => TxnAsk::Add(id, one.producer, partitions, adds_by),
        });
        Known::Asked
    });
    let known: Vec<Known> = known.collect();
    TxnPlan::ask(asks, move |mut answers| {
        let mut response = AddPartitionsToTxnResponse::default();
        for (one, known) in transactions.into_iter().zip(known) {
            let of_all = |error| Errors::All(to_client(version, error));
            let errors = match known {
                Known::Errors(errors) => Errors::Each(errors.into_iter()),
                Known::Asked => match answers.next() {
                    Some(TxnAnswer::Verified(errors)) => Errors::Each(errors.into_iter()),
                    Some(TxnAnswer::Done(error)) => of_all(error),
                    _ => of_all(ErrorCode::UnknownServerError),
                },
            };
            let topics = results(version, one.topics, errors);
            if version < MANY_SINCE {
                response.results_by_topic_v3_and_below = topics;
                continue;
            }
            let mut result = AddPartitionsToTxnResult::default();
            result.transactional_id = one.id;
            result.topic_results = topics;
            response.results_by_transaction.push(result);
        }
        response
    })
}

/// The errors of a transaction's partitions, in their order.
enum Errors {
    All(ErrorCode),
    Each(std::vec::IntoIter<ErrorCode>),
}

fn to_client(version: i16, error: ErrorCode) -> ErrorCode {
    match fenced_since(FENCED_SINCE, version, error) {
        ErrorCode::TransactionAbortable if version < ABORTABLE_SINCE => ErrorCode::InvalidTxnState,
        other => other,
    }
}

fn results(
    version: i16,
    topics: Vec<AddPartitionsToTxnTopic>,
    mut errors: Errors,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let of_topic = |topic: AddPartitionsToTxnTopic| {
        let mut result = AddPartitionsToTxnTopicResult::default();
        result.name = topic.name;
        let partitions = topic.partitions.into_iter().map(|index| {
            let mut result = AddPartitionsToTxnPartitionResult::default();
            result.partition_index = index;
            let error = match &mut errors {
                Errors::All(error) => *error,
                Errors::Each(errors) => {
                    let error = errors.next().unwrap_or(ErrorCode::UnknownServerError);
                    to_client(version, error)
                }
            };
            result.partition_error_code = error.code();
            result
        });
        result.results_by_partition = partitions.collect();
        result
    };
    topics.into_iter().map(of_topic).collect()
}
