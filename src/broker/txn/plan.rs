//! What a request about transactions comes down to: questions to coordinators, and a response that is made of their
//! answers.

use bytes::Bytes;
use kafka_wire::KafkaResponse;
use kafka_wire_core::StrBytes;

use super::listing::TxnListing;
use crate::base::{ErrorCode, Name};
use crate::broker::groups::{MakeResponse, name};
use crate::config::BrokerConfig;
use crate::controller::{Image, transaction_version};
use crate::coordinator::{TxnAnswer, TxnAsk};
use crate::txn::{TxnProducer, TxnVersion};
use crate::wire::{RequestHeader, WireError};

/// What is known where a request comes in.
#[derive(Debug)]
pub struct TxnPlanCx<'a> {
    pub image: &'a Image,
    pub config: &'a BrokerConfig,
}

impl TxnPlanCx<'_> {
    /// The cluster's `transaction.version`.
    pub fn version(&self) -> TxnVersion {
        TxnVersion::of_number(transaction_version(self.image.features))
    }
}

/// Makes a plan of a request. An error closes the connection.
pub type TxnPlanner = fn(&TxnPlanCx<'_>, &RequestHeader, Bytes) -> Result<TxnPlan, WireError>;

/// See the module.
#[derive(Debug)]
pub enum TxnPlan {
    /// The coordinator of each one's transactional id is asked. There may be none.
    Ids(Vec<TxnAsk>, MakeResponse<TxnAnswer>),
    /// Every shard is asked which transactions it has.
    List(Box<TxnListing>),
    /// It is for the control shard.
    Control,
}

/// The answers, in the order of what was asked.
pub type TxnAnswers = std::vec::IntoIter<TxnAnswer>;

impl TxnPlan {
    /// Asks these, and makes the response of their answers.
    pub fn ask<R: KafkaResponse>(
        asks: Vec<TxnAsk>,
        make: impl FnOnce(TxnAnswers) -> R + 'static,
    ) -> Self {
        Self::Ids(asks, MakeResponse::new(make))
    }

    /// The response is known.
    pub fn known<R: KafkaResponse + 'static>(response: R) -> Self {
        Self::ask(Vec::new(), |_| response)
    }
}

/// The error of an answer that has nothing else to it; one that is not of its question is a fault of our own.
pub fn error_of(answer: Option<TxnAnswer>) -> ErrorCode {
    match answer {
        Some(TxnAnswer::Done(error)) => error,
        _ => ErrorCode::UnknownServerError,
    }
}

/// As whom a producer goes on, or why not.
pub fn producer_of(answer: Option<TxnAnswer>) -> Result<TxnProducer, ErrorCode> {
    match answer {
        Some(TxnAnswer::Producer(result)) => result,
        _ => Err(ErrorCode::UnknownServerError),
    }
}

/// The same as fields of a response: error, producer id and epoch, -1 of nobody.
pub fn fields_of(producer: Result<TxnProducer, ErrorCode>) -> (i16, i64, i16) {
    match producer {
        Ok(TxnProducer { id, epoch }) => (ErrorCode::None.code(), id, epoch),
        Err(error) => (error.code(), -1, -1),
    }
}

/// What a producer is told that is fenced: PRODUCER_FENCED from a version of each API on, as in Kafka.
pub fn fenced_since(since: i16, version: i16, error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced if version < since => ErrorCode::InvalidProducerEpoch,
        other => other,
    }
}

/// A text of a request as a name.
pub fn id_of(text: &StrBytes) -> Name {
    name(text)
}
