//! WriteTxnMarkers (key 27), versions 1 and 2: a coordinator of transactions on another node, or a tool that aborts a
//! transaction nobody ends, has transactions ended in partitions that this node leads. Each partition is answered when
//! its marker is committed.
//!
//! Deviations: a request of more than [`MARKERS_PER_REQUEST_MAX`] partitions is not served; coordinators send no such.

use bytes::Bytes;
use kafka_wire::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_wire::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use crate::base::limits::MARKERS_PER_REQUEST_MAX;
use crate::base::{ErrorCode, IdMap, LogId, ShardId};
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::parked::Family;
use crate::broker::front::slots::Slots;
use crate::broker::front::{Front, partition_of};
use crate::broker::fx::Fx;
use crate::broker::msg::{MarkerAsker, MarkerPart, Msg, ReqRef};
use crate::store::Piece;
use crate::wire::{self, RequestHeader, TopicRef};

/// A request whose markers are on their way.
#[derive(Debug)]
struct PendingMarkers {
    reply_to: ReplyTo,
    correlation_id: i32,
    version: i16,
    request: WriteTxnMarkersRequest,
    /// All partitions in the order of the request.
    slots: Slots<ErrorCode>,
}

/// The requests of a shard's clients that end transactions.
#[derive(Debug, Default)]
pub struct MarkerRequests {
    waiting: IdMap<u64, PendingMarkers>,
}

impl MarkerRequests {
    /// Takes a request. `Err` closes the connection.
    pub fn begin(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let request = wire::decode::<WriteTxnMarkersRequest>(body, header.version)
            .map_err(|error| error.to_string())?;
        let topics = request.markers.iter().flat_map(|marker| &marker.topics);
        let partitions: usize = topics.map(|topic| topic.partition_indexes.len()).sum();
        if partitions > MARKERS_PER_REQUEST_MAX {
            return Err(format!(
                "it ends transactions in {partitions} partitions at once"
            ));
        }
        let mut slots = Slots::with_capacity(partitions);
        let mut by_shard: Vec<(ShardId, Vec<MarkerPart>)> = Vec::new();
        for marker in &request.markers {
            for topic in &marker.topics {
                for index in &topic.partition_indexes {
                    let (shard, log) = match locate(front, &topic.name, *index) {
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
        let pending = PendingMarkers {
            reply_to,
            correlation_id: header.correlation_id,
            version: header.version,
            request,
            slots,
        };
        if by_shard.is_empty() {
            return finish(front, pending, fx);
        }
        let id = front.park(reply_to, Family::Markers);
        self.waiting.insert(id, pending);
        let asker = MarkerAsker::Client(ReqRef { shard: fx.me, id });
        for (shard, markers) in by_shard {
            fx.send(shard, Msg::WriteMarkers { asker, markers });
        }
        Ok(())
    }

    /// Some partitions have answered.
    pub fn done(
        &mut self,
        front: &mut Front,
        id: u64,
        results: Vec<(u32, ErrorCode)>,
        fx: &mut Fx<'_>,
    ) {
        let Some(pending) = self.waiting.get_mut(&id) else {
            return;
        };
        if pending.slots.answer(results)
            && let Some(pending) = self.waiting.remove(&id)
        {
            front.parked.unpark(id);
            let reply_to = pending.reply_to;
            if let Err(why) = finish(front, pending, fx) {
                front.conns.fail(reply_to, why, fx.out);
            }
        }
    }

    /// How many wait for something.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits for the answer any more.
    pub fn forget(&mut self, id: u64) {
        self.waiting.remove(&id);
    }
}

/// The log of a partition that this node leads, and the shard that has it.
fn locate(
    front: &Front,
    topic: &wire::StrBytes,
    index: i32,
) -> Result<(ShardId, LogId), ErrorCode> {
    let topic = front.topic(&TopicRef::Name(topic.clone()))?;
    let partition = partition_of(topic, index)?;
    let store = front.led(partition)?;
    Ok((front.owner_of(store), partition.log))
}

/// Answers a request of which nothing is open any more.
fn finish(front: &mut Front, pending: PendingMarkers, fx: &mut Fx<'_>) -> Result<(), String> {
    let mut known = pending.slots.into_known();
    let mut response = WriteTxnMarkersResponse::default();
    for marker in pending.request.markers {
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
    let frame = wire::encode_response(pending.correlation_id, pending.version, &response)
        .map_err(|error| error.to_string())?;
    let pieces = vec![Piece::Memory(frame)];
    front.conns.reply(pending.reply_to, pieces, fx.out);
    Ok(())
}
