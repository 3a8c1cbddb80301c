//! Produce (key 0), versions 3 to 13.
//!
//! Front: validates each batch (format, CRC, every record inside) where it arrived and passes it to the store that owns the
//! partition. Owner: appends; the answer waits for the flush. `acks=1` and `acks=all` are both answered
//! after the data is durable (Kafka answers from the page cache); `acks=0` is never answered, and an
//! error then closes the connection, as in Kafka, since there is no other way to tell. What counts of
//! `min.insync.replicas` is never more than the replicas that there are, as in Kafka, so one node has them always.
//!
//! Deviations: transactional batches are refused with INVALID_TXN_STATE until there is a transaction
//! coordinator.

use std::borrow::Cow;

use bytes::Bytes;

use super::conns::ReplyTo;
use super::front::{Front, Pending};
use super::owner::{Ack, Owner};
use super::trace::ProduceStamps;
use super::{Failure, Fx, Msg, ProducePart, Produced, ReqRef};
use crate::base::{ErrorCode, LogId, Now, StoreId};
use crate::record;
use crate::store::Piece;
use crate::wire::produce::{
    ProducePartitionResponse, ProduceRequest, ProduceTopic, ResponseWriter, codec_allowed,
};
use crate::wire::{RequestHeader, TopicRef};

/// A produce request whose partitions are on their way.
#[derive(Debug)]
pub(super) struct PendingProduce {
    reply_to: ReplyTo,
    correlation_id: i32,
    version: i16,
    acks: i16,
    /// As in the request, but for the records, which are on their way.
    topics: Vec<ProduceTopic>,
    /// All partitions in the order of the request.
    slots: Vec<Option<Result<Produced, Failure>>>,
    open: usize,
    /// The log of the first partition that is written.
    first: LogId,
}

impl Front {
    /// Takes a produce request. `Err` closes the connection.
    pub fn produce(
        &mut self,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let request =
            ProduceRequest::parse(body, header.version).map_err(|error| error.to_string())?;
        let bad_acks = !matches!(request.acks, -1..=1);
        // Very few stores, most often one: looking through them is less than any map.
        let mut by_store: Vec<(StoreId, Vec<ProducePart>)> = Vec::new();
        let mut pending = PendingProduce {
            reply_to,
            correlation_id: header.correlation_id,
            version: header.version,
            acks: request.acks,
            topics: request.topics,
            slots: Vec::new(),
            open: 0,
            first: LogId(0),
        };
        for ProduceTopic { topic, partitions } in &mut pending.topics {
            pending.slots.reserve(partitions.len());
            for partition in partitions {
                let slot = pending.slots.len() as u32;
                let outcome = if bad_acks {
                    Err((ErrorCode::InvalidRequiredAcks, None))
                } else {
                    self.locate_batch(
                        topic,
                        partition.index,
                        partition.records.take(),
                        slot,
                        header.version,
                    )
                };
                let outcome = match outcome {
                    Ok((store, part)) => {
                        if pending.open == 0 {
                            pending.first = part.log;
                        }
                        pending.open += 1;
                        match by_store.iter_mut().find(|(of, _)| *of == store) {
                            Some((_, parts)) => parts.push(part),
                            None => by_store.push((store, vec![part])),
                        }
                        None
                    }
                    Err(failure) => Some(Err(failure)),
                };
                pending.slots.push(outcome);
            }
        }
        if by_store.is_empty() {
            self.finish_produce(pending, fx);
            return Ok(());
        }
        let id = self.park(reply_to, Pending::Produce(pending));
        let req = ReqRef { shard: fx.me, id };
        for (store, parts) in by_store {
            fx.send(self.owner_of(store), Msg::Produce { req, store, parts });
        }
        Ok(())
    }

    fn locate_batch(
        &self,
        topic: &TopicRef,
        index: i32,
        records: Option<Bytes>,
        slot: u32,
        version: i16,
    ) -> Result<(StoreId, ProducePart), Failure> {
        let (topic, partition) = self.partition(topic, index).map_err(|code| (code, None))?;
        if topic.internal {
            let why = format!("{} is written by the broker alone.", topic.name);
            return Err((ErrorCode::InvalidTopicException, Some(why)));
        }
        let batch = records.unwrap_or_default();
        let refusal = |(code, why): (_, &str)| (code, Some(why.to_string()));
        let mut info = record::validate_produced(&batch).map_err(refusal)?;
        if !codec_allowed(version, info.codec()) {
            return Err((ErrorCode::UnsupportedCompressionType, None));
        }
        if info.is_transactional() {
            let why = "Transactions are not supported yet.".to_string();
            return Err((ErrorCode::InvalidTxnState, Some(why)));
        }
        let open_bytes_max = self.config.millrace_produce_open_bytes_max as usize;
        let batch = record::validate_records(batch, &mut info, open_bytes_max).map_err(refusal)?;
        let part = ProducePart {
            slot,
            log: partition.log,
            batch,
            info,
        };
        Ok((partition.store, part))
    }

    /// Some partitions of a produce request are durable or refused.
    pub fn produce_done(
        &mut self,
        id: u64,
        results: Vec<(u32, Result<Produced, Failure>)>,
        stamps: &ProduceStamps,
        fx: &mut Fx<'_>,
    ) {
        let Some(Pending::Produce(pending)) = self.pending_mut(id) else {
            return;
        };
        for (slot, result) in results {
            pending.slots[slot as usize] = Some(result);
            pending.open -= 1;
        }
        let answered = pending.open == 0;
        let (reply_to, log, partitions) = (pending.reply_to, pending.first, pending.slots.len());
        if let Some(trace) = self.conns.trace(reply_to) {
            trace.describe(log, partitions);
            trace.pass_produce(stamps);
        }
        if answered && let Some(Pending::Produce(pending)) = self.unpark(id) {
            self.finish_produce(pending, fx);
        }
    }

    fn finish_produce(&mut self, pending: PendingProduce, fx: &mut Fx<'_>) {
        if pending.acks == 0 {
            let failed = pending
                .slots
                .iter()
                .find_map(|outcome| outcome.as_ref()?.as_ref().err());
            if let Some((code, why)) = failed {
                let why = why.as_deref().unwrap_or(code.message());
                let reason = format!("produce with acks=0 failed: {code}: {why}");
                self.conns.close(pending.reply_to.conn, reason, fx.out);
            } else {
                self.conns.reply(pending.reply_to, Vec::new(), fx.out);
            }
            return;
        }
        let (id, topics) = (pending.correlation_id, pending.topics.len());
        let mut frame = ResponseWriter::new(id, pending.version, topics);
        let mut slots = pending.slots.into_iter();
        for ProduceTopic { topic, partitions } in &pending.topics {
            frame.topic(topic, partitions.len());
            for (partition, outcome) in partitions.iter().zip(slots.by_ref()) {
                frame.partition(&answer(partition.index, outcome));
            }
            frame.end_topic();
        }
        let pieces = vec![Piece::Memory(frame.finish(0))];
        self.conns.reply(pending.reply_to, pieces, fx.out);
    }
}

fn answer(index: i32, outcome: Option<Result<Produced, Failure>>) -> ProducePartitionResponse {
    match outcome.unwrap_or(Err((ErrorCode::UnknownServerError, None))) {
        Ok(produced) => ProducePartitionResponse {
            index,
            error: ErrorCode::None,
            base_offset: produced.base_offset.0,
            log_append_time: produced.log_append_time_ms,
            log_start_offset: produced.log_start.0,
            error_message: None,
        },
        Err((error, message)) => {
            ProducePartitionResponse::failed(index, error, message.map(Cow::Owned))
        }
    }
}

impl Owner {
    /// Appends the parts of a produce request that belong to one store.
    pub fn produce(
        &mut self,
        now: Now,
        req: ReqRef,
        store: StoreId,
        parts: Vec<ProducePart>,
        fx: &mut Fx<'_>,
    ) {
        let results = parts
            .into_iter()
            .map(|part| {
                let result = self.append(now, part.log, part.batch, &part.info);
                (part.slot, result)
            })
            .collect();
        let ack = Ack::Produce {
            req,
            results,
            stamps: ProduceStamps::arrived(now.mono),
        };
        match self.slot_of(store) {
            Some(slot) => self.ack_after(slot, ack, fx),
            None => debug_assert!(false, "a produce for a store of another shard"),
        }
    }
}
