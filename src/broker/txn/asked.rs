//! WriteTxnMarkers (27), whoever sends it: what the owners of its partitions are asked, and the response that is made
//! of what they answer.

use bytes::Bytes;
use kafka_wire::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_wire::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use crate::base::{ErrorCode, ShardId};
use crate::broker::front::Front;
use crate::broker::front::slots::Slots;
use crate::broker::msg::MarkerPart;
use crate::txn::NO_PRODUCER_ID;
use crate::wire::{RequestHeader, WireError, encode_response};

/// A request whose markers are on their way.
#[derive(Debug)]
pub struct MarkersAsked {
    correlation_id: i32,
    version: i16,
    request: WriteTxnMarkersRequest,
    /// All partitions in the order of the request.
    slots: Slots<ErrorCode>,
}

/// What a shard is asked for.
pub type MarkersOfShard = (ShardId, Vec<MarkerPart>);

impl MarkersAsked {
    /// Of a request, with what is to be asked.
    pub fn new(
        front: &Front,
        header: &RequestHeader,
        request: WriteTxnMarkersRequest,
    ) -> (Self, Vec<MarkersOfShard>) {
        let mut slots = Slots::with_capacity(0);
        let mut by_shard: Vec<MarkersOfShard> = Vec::new();
        for marker in &request.markers {
            for topic in &marker.topics {
                for index in &topic.partition_indexes {
                    let (shard, log) = match front.led_log(&topic.name, *index) {
                        // As Kafka answers who ends transactions of no producer.
                        Ok(_) if marker.producer_id == NO_PRODUCER_ID => {
                            slots.push(Some(ErrorCode::UnknownServerError));
                            continue;
                        }
                        Ok(found) => found,
                        Err(error) => {
                            slots.push(Some(error));
                            continue;
                        }
                    };
                    let part = MarkerPart {
                        slot: slots.len() as u32,
                        log,
                        producer_id: marker.producer_id,
                        producer_epoch: marker.producer_epoch,
                        coordinator_epoch: marker.coordinator_epoch,
                        commits: marker.transaction_result,
                        version: marker.transaction_version,
                    };
                    slots.push(None);
                    match by_shard.iter_mut().find(|(of, _)| *of == shard) {
                        Some((_, parts)) => parts.push(part),
                        None => by_shard.push((shard, vec![part])),
                    }
                }
            }
        }
        let asked = Self {
            correlation_id: header.correlation_id,
            version: header.version,
            request,
            slots,
        };
        (asked, by_shard)
    }

    /// Some partitions have answered; whether they were the last ones.
    pub fn answer(&mut self, results: Vec<(u32, ErrorCode)>) -> bool {
        self.slots.answer(results)
    }

    /// The response, as a frame.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn frame(self) -> Result<Bytes, WireError> {
        let mut known = self.slots.into_known();
        let mut response = WriteTxnMarkersResponse::default();
        for marker in self.request.markers {
            let mut result = WritableTxnMarkerResult::default();
            result.producer_id = marker.producer_id;
            for topic in marker.topics {
                let mut of_topic = WritableTxnMarkerTopicResult::default();
                of_topic.name = topic.name;
                let partitions = topic.partition_indexes.into_iter().zip(known.by_ref());
                let partitions = partitions.map(|(index, error)| {
                    let mut partition = WritableTxnMarkerPartitionResult::default();
                    partition.partition_index = index;
                    partition.error_code = error.unwrap_or(ErrorCode::UnknownServerError).code();
                    partition
                });
                of_topic.partitions = partitions.collect();
                result.topics.push(of_topic);
            }
            response.markers.push(result);
        }
        encode_response(self.correlation_id, self.version, &response)
    }
}
