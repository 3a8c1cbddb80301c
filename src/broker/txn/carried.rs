//! What nodes ask each other about transactions, as Kafka's requests: AddPartitionsToTxn (24) of the coordinator of a
//! transactional id, WriteTxnMarkers (27) of whoever leads the partitions of a transaction.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_wire::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_wire::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_wire::{
    AddPartitionsToTxnRequest, RequestResponsePair, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use kafka_wire_core::{ApiVersion, KafkaEncode, StrBytes};

use crate::base::limits::DECODE_BYTES_MAX;
use crate::base::{ErrorCode, IdMap, LogId, ShardId};
use crate::broker::front::Front;
use crate::broker::fx::Fx;
use crate::broker::msg::{
    Called, ControlCall, MarkerAsker, MarkerPart, Msg, ReqRef, TransactionQuestion,
};
use crate::wire::client::decode_response;
use crate::wire::{Api, RequestHeader, WireError, decode, encode_response};

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

/// A WriteTxnMarkers of another node: the errors of its partitions so far, in their order.
#[derive(Debug)]
struct MarkersAsked {
    req: ReqRef,
    header: RequestHeader,
    request: WriteTxnMarkersRequest,
    errors: Vec<Option<ErrorCode>>,
    left: usize,
}

/// Those that are being written.
#[derive(Debug, Default)]
pub struct MarkersOfNodes {
    waiting: IdMap<u64, MarkersAsked>,
}

impl MarkersOfNodes {
    /// How many there are.
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
        let mut by_shard: BTreeMap<ShardId, Vec<MarkerPart>> = BTreeMap::new();
        let mut errors = Vec::new();
        for marker in &request.markers {
            for topic in &marker.topics {
                for index in &topic.partition_indexes {
                    let slot = errors.len() as u32;
                    errors.push(match located(front, &topic.name, *index) {
                        Ok((shard, log)) => {
                            by_shard.entry(shard).or_default().push(MarkerPart {
                                slot,
                                log,
                                producer_id: marker.producer_id,
                                producer_epoch: marker.producer_epoch,
                                coordinator_epoch: marker.coordinator_epoch,
                                commits: marker.transaction_result,
                                version: marker.transaction_version,
                            });
                            None
                        }
                        Err(error) => Some(error),
                    });
                }
            }
        }
        let asked = MarkersAsked {
            req,
            header,
            request,
            left: errors.iter().filter(|error| error.is_none()).count(),
            errors,
        };
        if asked.left == 0 {
            return asked.finish(fx);
        }
        self.waiting.insert(number, asked);
        let asker = MarkerAsker::Coordinator(ReqRef::of_transactions(fx.me, number));
        for (shard, markers) in by_shard {
            fx.send(shard, Msg::WriteMarkers { asker, markers });
        }
    }

    /// Some are written; false if they are not of such a request.
    pub fn written(&mut self, number: u64, results: &[(u32, ErrorCode)], fx: &mut Fx<'_>) -> bool {
        let Some(asked) = self.waiting.get_mut(&number) else {
            return false;
        };
        for (slot, error) in results {
            if let Some(known @ None) = asked.errors.get_mut(*slot as usize) {
                *known = Some(*error);
                asked.left -= 1;
            }
        }
        if asked.left == 0
            && let Some(asked) = self.waiting.remove(&number)
        {
            asked.finish(fx);
        }
        true
    }
}

/// The shard that owns a partition which this node leads, and its log.
fn located(front: &Front, topic: &str, index: i32) -> Result<(ShardId, LogId), ErrorCode> {
    let topic = front.image.topic(topic);
    let partition = topic.and_then(|topic| topic.partition(index));
    let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let store = front.led(partition)?;
    Ok((front.owner_of(store), partition.log))
}

impl MarkersAsked {
    fn finish(self, fx: &mut Fx<'_>) {
        let mut response = WriteTxnMarkersResponse::default();
        let mut errors = self.errors.into_iter();
        for marker in self.request.markers {
            let mut of_marker = WritableTxnMarkerResult::default();
            of_marker.producer_id = marker.producer_id;
            for topic in marker.topics {
                let mut of_topic = WritableTxnMarkerTopicResult::default();
                of_topic.name = topic.name;
                for index in topic.partition_indexes {
                    let error = errors.next().flatten();
                    let mut result = WritableTxnMarkerPartitionResult::default();
                    result.partition_index = index;
                    result.error_code = error.unwrap_or(ErrorCode::UnknownServerError).code();
                    of_topic.partitions.push(result);
                }
                of_marker.topics.push(of_topic);
            }
            response.markers.push(of_marker);
        }
        let RequestHeader {
            correlation_id,
            version,
            ..
        } = self.header;
        tell(
            self.req,
            encode_response(correlation_id, version, &response),
            fx,
        );
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
