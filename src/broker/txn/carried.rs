//! What nodes ask each other about transactions, as Kafka's requests: AddPartitionsToTxn (24) of the coordinator of a
//! transactional id, WriteTxnMarkers (27) of whoever leads the partitions of a transaction.

use bytes::Bytes;
use kafka_wire::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_wire::{AddPartitionsToTxnRequest, RequestResponsePair, WriteTxnMarkersRequest};
use kafka_wire_core::{ApiVersion, KafkaEncode, StrBytes};

use super::asked::MarkersAsked;
use crate::base::limits::DECODE_BYTES_MAX;
use crate::base::{ErrorCode, IdMap};
use crate::broker::front::Front;
use crate::broker::fx::Fx;
use crate::broker::msg::{Called, ControlCall, MarkerAsker, Msg, ReqRef, TransactionQuestion};
use crate::wire::client::decode_response;
use crate::wire::{Api, RequestHeader, WireError, decode};

/// The version in which nodes ask each other about partitions.
const ADD_VERSION: i16 = 5;

/// A question to the coordinator of a transactional id on another node.
pub fn call_of(question: &TransactionQuestion) -> ControlCall {
    let mut transaction = AddPartitionsToTxnTransaction::default();
    transaction.transactional_id = StrBytes::from(&*question.transactional_id);
    transaction.producer_id = question.producer_id;
    transaction.producer_epoch = question.producer_epoch;
    transaction.verify_only = !question.adds;
    let topics = question.partitions.chunk_by(|one, next| one.0 == next.0);
    let topics = topics.map(|topic| {
        let mut of_topic = AddPartitionsToTxnTopic::default();
        of_topic.name = StrBytes::from(&*topic[0].0);
        of_topic.partitions = topic.iter().map(|it| it.1).collect();
        of_topic
    });
    transaction.topics = topics.collect();
    let mut request = AddPartitionsToTxnRequest::default();
    request.transactions.push(transaction);
    let body = request.encode_to_bytes(ApiVersion::new(ADD_VERSION));
    ControlCall {
        header: RequestHeader {
            key: Api::ADD_PARTITIONS_TO_TXN,
            version: ADD_VERSION,
            correlation_id: 0,
            client_id: None,
        },
        // Its names are short enough: they came in a request. A body that is none is refused.
        body: body.unwrap_or_default(),
        listener: 0,
    }
}

/// What that node has answered: an error for each of so many partitions.
pub fn told_of(answer: Result<Bytes, String>, count: usize) -> Vec<ErrorCode> {
    let response =
        answer.and_then(|frame| answer_of::<AddPartitionsToTxnRequest>(frame, ADD_VERSION));
    let errors: Vec<ErrorCode> = match response {
        Ok(response) => {
            let topics = response.results_by_transaction.into_iter();
            let topics = topics.flat_map(|it| it.topic_results);
            let all = topics.flat_map(|it| it.results_by_partition);
            let code = |code| ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
            all.map(|it| code(it.partition_error_code)).collect()
        }
        Err(why) => {
            tracing::debug!("a question about a transaction: {why}");
            Vec::new()
        }
    };
    match errors.len() == count {
        true => errors,
        false => vec![ErrorCode::CoordinatorNotAvailable; count],
    }
}

/// Reads the answer of another node.
///
/// # Errors
/// Why it cannot be read.
pub fn answer_of<Q: RequestResponsePair>(
    frame: Bytes,
    version: i16,
) -> Result<Q::Response, String> {
    const PREFIX: usize = 4;
    if frame.len() < PREFIX || frame.len() > DECODE_BYTES_MAX {
        return Err("the answer of a node has a wrong length".to_owned());
    }
    let decoded = decode_response::<Q>(frame.slice(PREFIX..), version);
    let (_, response) = decoded.map_err(|why| format!("the answer of a node: {why}"))?;
    Ok(response)
}

/// The frame of an answer.
///
/// # Errors
/// It is none.
pub fn frame_of(answer: Result<Called, String>) -> Result<Bytes, String> {
    match answer? {
        Called::Frame(pieces) => Ok(match <[Bytes; 1]>::try_from(pieces) {
            Ok([frame]) => frame,
            Err(pieces) => pieces.concat().into(),
        }),
        _ => Err("a node answers with something else".to_owned()),
    }
}

/// The WriteTxnMarkers of other nodes that are being written.
#[derive(Debug, Default)]
pub struct MarkersOfNodes {
    waiting: IdMap<u64, (ReqRef, MarkersAsked)>,
}

impl MarkersOfNodes {
    /// Whether there are none.
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes one, with a number.
    pub fn begin(
        &mut self,
        front: &Front,
        (req, number): (ReqRef, u64),
        (header, body): (RequestHeader, Bytes),
        fx: &mut Fx<'_>,
    ) {
        let request: WriteTxnMarkersRequest = match decode(body, header.version) {
            Ok(request) => request,
            Err(why) => return tell(req, Err(why), fx),
        };
        let (asked, by_shard) = MarkersAsked::new(front, &header, request);
        if by_shard.is_empty() {
            return tell(req, asked.frame(), fx);
        }
        self.waiting.insert(number, (req, asked));
        let asker = MarkerAsker::Coordinator(ReqRef::of_transactions(fx.me, number));
        for (shard, markers) in by_shard {
            fx.send(shard, Msg::WriteMarkers { asker, markers });
        }
    }

    /// Some are written; false if they are not of such a request.
    pub fn written(&mut self, number: u64, results: &[(u32, ErrorCode)], fx: &mut Fx<'_>) -> bool {
        let Some((_, asked)) = self.waiting.get_mut(&number) else {
            return false;
        };
        if asked.answer(results.to_vec())
            && let Some((req, asked)) = self.waiting.remove(&number)
        {
            tell(req, asked.frame(), fx);
        }
        true
    }
}

/// Answers a request of another node.
fn tell(req: ReqRef, frame: Result<Bytes, WireError>, fx: &mut Fx<'_>) {
    let answer = match frame {
        Ok(frame) => Ok(Called::Frame(vec![frame])),
        Err(why) => Err(why.to_string()),
    };
    fx.send(req.shard, Msg::ControlDone { id: req.id, answer });
}
