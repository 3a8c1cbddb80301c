//! Produce (key 0), versions 3 to 13.
//!
//! Front: validates each batch (format, CRC, every record inside) where it arrived and passes it to the store
//! that owns the partition. Owner: appends; the answer waits for the flush. `acks=1` and `acks=all` are both
//! answered after the data is durable (Kafka answers from the page cache); `acks=0` is never answered, and an
//! error then closes the connection, as in Kafka, since there is no other way to tell. What counts of
//! `min.insync.replicas` is never more than the replicas that there are, as in Kafka, so one node has them
//! always.
//!
//! Deviations: transactional batches are refused with INVALID_TXN_STATE until there is a transaction
//! coordinator.

use std::borrow::Cow;

use bytes::Bytes;

use crate::base::limits::{OPEN_BYTES_PER_BYTE, PARTITIONS_PER_SLICE};
use crate::base::{ErrorCode, LogId, Now, StoreId};
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::{Front, Pending, here};
use crate::broker::fx::Fx;
use crate::broker::io::ConnId;
use crate::broker::msg::{Failure, Msg, ProducePart, Produced, ReqRef};
use crate::broker::owner::Owner;
use crate::broker::owner::ack::Ack;
use crate::broker::trace::ProduceStamps;
use crate::config::TopicConfig;
use crate::log::check_message_size;
use crate::record;
use crate::store::Piece;
use crate::wire::produce::{
    ProducePartitionResponse, ProduceRequest, ProduceTopic, ResponseWriter, codec_allowed,
};
use crate::wire::{RequestHeader, TopicRef};

/// A produce request whose partitions are on their way.
#[derive(Debug)]
pub struct PendingProduce {
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

/// A batch that is being checked, and where it is to go.
type BatchAtHand = (StoreId, ProducePart, record::Validation);

/// A produce request whose batches are being checked.
#[derive(Debug)]
pub struct ProduceJob {
    pending: PendingProduce,
    /// The batches by slot, taken one after the other.
    batches: std::vec::IntoIter<Option<Bytes>>,
    /// Topic and partition of the next one, by their places in the request.
    next: (usize, usize),
    /// The batch at hand.
    current: Option<Box<BatchAtHand>>,
    /// Very few stores, most often one: looking through them is less than any map.
    by_store: Vec<(StoreId, Vec<ProducePart>)>,
    /// Bytes of the request.
    pub bytes: usize,
    /// Bytes that may still be decompressed for it.
    open_bytes_left: usize,
}

/// The batches of a request by store, those that are still to be handed on.
type ByStore = Vec<(StoreId, std::vec::IntoIter<ProducePart>)>;

/// A produce request whose batches are checked, and are being handed on to the owners of their partitions.
#[derive(Debug)]
pub struct HandingOn {
    /// Where its answer has to go.
    pub reply_to: ReplyTo,
    req: ReqRef,
    by_store: ByStore,
    /// Bytes of the request.
    pub bytes: usize,
}

/// What appending a batch takes besides, in bytes decompressed.
const PART_COST: usize = 512;
/// What looking at a batch takes at least, and for how many bytes their checksum counts as one, both in
/// bytes decompressed.
const BATCH_COST: usize = 64;
const BYTES_PER_WORK: usize = 64;

impl ProduceJob {
    /// Where its answer has to go.
    pub fn reply_to(&self) -> ReplyTo {
        self.pending.reply_to
    }

    /// The connection that asked.
    pub fn conn(&self) -> ConnId {
        self.pending.reply_to.conn
    }

    /// Bytes that may still be decompressed for it.
    pub fn open_bytes_left(&self) -> usize {
        self.open_bytes_left
    }

    /// Topic and partition of the next batch, by their places.
    fn next_place(&mut self) -> (usize, usize) {
        let topics = &self.pending.topics;
        while topics[self.next.0].partitions.len() == self.next.1 {
            self.next = (self.next.0 + 1, 0);
        }
        let place = self.next;
        self.next.1 += 1;
        place
    }

    /// Goes on with a batch; whether it is done with.
    fn check(&mut self, batch: &mut BatchAtHand, work: &mut usize) -> bool {
        let (store, part, validation) = batch;
        let before = validation.opened();
        let outcome = validation.go_on(work);
        let opened = validation.opened() - before;
        self.open_bytes_left = self.open_bytes_left.saturating_sub(opened);
        match outcome {
            Ok(None) => return false,
            Ok(Some((batch, info))) => {
                let part = ProducePart {
                    batch,
                    info,
                    ..*part
                };
                self.checked(Ok((*store, part)));
            }
            Err((code, why)) => self.checked(Err((code, Some(why.to_string())))),
        }
        true
    }

    /// What becomes of the batch at hand.
    fn checked(&mut self, outcome: Result<(StoreId, ProducePart), Failure>) {
        let pending = &mut self.pending;
        let outcome = match outcome {
            Ok((store, part)) => {
                if pending.open == 0 {
                    pending.first = part.log;
                }
                pending.open += 1;
                match self.by_store.iter_mut().find(|(of, _)| *of == store) {
                    Some((_, parts)) => parts.push(part),
                    None => self.by_store.push((store, vec![part])),
                }
                None
            }
            Err(failure) => Some(Err(failure)),
        };
        pending.slots.push(outcome);
    }

    /// All batches are checked: whom to answer, and what is to be handed on.
    pub fn checked_all(self) -> (PendingProduce, ByStore) {
        let by_store = self.by_store.into_iter();
        let by_store = by_store.map(|(store, parts)| (store, parts.into_iter()));
        (self.pending, by_store.collect())
    }

    /// Gives back what memory an unfinished batch holds: it is begun with anew.
    pub fn rewind(&mut self) {
        if let Some(batch) = &mut self.current {
            batch.2.rewind();
        }
    }
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
        let bytes = body.len();
        let mut request =
            ProduceRequest::parse(body, header.version).map_err(|error| error.to_string())?;
        let partitions = request
            .topics
            .iter_mut()
            .flat_map(|topic| &mut topic.partitions);
        let batches: Vec<Option<Bytes>> = partitions
            .map(|partition| partition.records.take())
            .collect();
        let open_bytes_max = self.config.millrace_produce_open_bytes_max as usize;
        let job = ProduceJob {
            pending: PendingProduce {
                reply_to,
                correlation_id: header.correlation_id,
                version: header.version,
                acks: request.acks,
                topics: request.topics,
                slots: Vec::with_capacity(batches.len()),
                open: 0,
                first: LogId(0),
            },
            batches: batches.into_iter(),
            next: (0, 0),
            current: None,
            by_store: Vec::new(),
            bytes,
            open_bytes_left: open_bytes_max
                .saturating_add(bytes.saturating_mul(OPEN_BYTES_PER_BYTE)),
        };
        self.validate_now(job, fx);
        Ok(())
    }

    /// Checks batches of a request until all are or `work` is used up; whether all are.
    pub fn validate(&self, job: &mut ProduceJob, work: &mut usize) -> bool {
        if let Some(mut batch) = job.current.take()
            && !job.check(&mut batch, work)
        {
            job.current = Some(batch);
            return false;
        }
        while let Some(records) = job.batches.next() {
            let bytes = records.as_ref().map_or(0, Bytes::len);
            *work = work.saturating_sub(BATCH_COST + bytes / BYTES_PER_WORK);
            match self.begin_batch(job, records) {
                Ok(mut batch) => {
                    if !job.check(&mut batch, work) {
                        job.current = Some(Box::new(batch));
                        return false;
                    }
                }
                Err(failure) => job.checked(Err(failure)),
            }
            if *work == 0 && job.batches.len() > 0 {
                return false;
            }
        }
        true
    }

    fn begin_batch(
        &self,
        job: &mut ProduceJob,
        records: Option<Bytes>,
    ) -> Result<BatchAtHand, Failure> {
        let (topic, partition) = job.next_place();
        let slot = job.pending.slots.len() as u32;
        let pending = &job.pending;
        if !matches!(pending.acks, -1..=1) {
            return Err((ErrorCode::InvalidRequiredAcks, None));
        }
        let topic = &pending.topics[topic];
        let index = topic.partitions[partition].index;
        let (store, mut part) =
            self.locate_batch(&topic.topic, index, records, slot, pending.version)?;
        let open_bytes_max = self.config.millrace_produce_open_bytes_max as usize;
        let open_bytes_max = open_bytes_max.min(job.open_bytes_left);
        let validation =
            record::Validation::new(std::mem::take(&mut part.batch), part.info, open_bytes_max);
        Ok((store, part, validation))
    }

    /// All batches of a request are checked: whatever is left of it is to be [handed on](Self::hand_on_parts).
    pub fn validated(&mut self, job: ProduceJob, fx: &mut Fx<'_>) -> Option<HandingOn> {
        let bytes = job.bytes;
        let (pending, by_store) = job.checked_all();
        if by_store.is_empty() {
            self.finish_produce(pending, fx);
            return None;
        }
        let reply_to = pending.reply_to;
        let id = self.park(reply_to, Pending::Produce(pending));
        let req = ReqRef { shard: fx.me, id };
        Some(HandingOn {
            reply_to,
            req,
            by_store,
            bytes,
        })
    }

    /// Hands batches on to their owners, in their order, until all are or `work` is used up; whether all are.
    pub fn hand_on_parts(&self, rest: &mut HandingOn, work: &mut usize, fx: &mut Fx<'_>) -> bool {
        let req = rest.req;
        for (store, parts) in &mut rest.by_store {
            while parts.len() > 0 {
                if *work == 0 {
                    return false;
                }
                let parts: Vec<ProducePart> = if parts.len() <= PARTITIONS_PER_SLICE {
                    std::mem::take(parts).collect()
                } else {
                    parts.by_ref().take(PARTITIONS_PER_SLICE).collect()
                };
                *work = work.saturating_sub(parts.len() * PART_COST);
                let store = *store;
                fx.send(self.owner_of(store), Msg::Produce { req, store, parts });
            }
        }
        true
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
        let info = record::produced_header(&batch).map_err(refusal)?;
        // As in Kafka before the checksum, which takes a while if the batch is as large as a request may be.
        let max = TopicConfig::effective_max_message_bytes(&self.config, &topic.configs);
        check_message_size(&info, max as u64).map_err(|(code, why)| (code, Some(why)))?;
        record::validate_header(&batch, &info).map_err(refusal)?;
        if !codec_allowed(version, info.codec()) {
            return Err((ErrorCode::UnsupportedCompressionType, None));
        }
        if info.is_transactional() {
            let why = "Transactions are not supported yet.".to_string();
            return Err((ErrorCode::InvalidTxnState, Some(why)));
        }
        let store = here(partition).map_err(|code| (code, None))?;
        let part = ProducePart {
            slot,
            log: partition.log,
            batch,
            info,
        };
        Ok((store, part))
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
                self.conns.fail(pending.reply_to, reason, fx.out);
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
    /// Appends the parts of a produce request that belong to one store, or lets them wait while it grows.
    pub fn produce(
        &mut self,
        now: Now,
        req: ReqRef,
        store: StoreId,
        parts: Vec<ProducePart>,
        fx: &mut Fx<'_>,
    ) {
        if self.delayed.iter().any(|(_, of, _)| *of == store) || self.must_grow(store, &parts) {
            self.delayed.push_back((req, store, parts));
        } else {
            self.produce_now(now, req, store, parts, fx);
        }
    }

    /// Goes on with what waited for a store to grow, in order, as far as it has room now or will not get it.
    pub fn produce_delayed(&mut self, now: Now, fx: &mut Fx<'_>) {
        let mut blocked = Vec::new();
        for (req, store, parts) in std::mem::take(&mut self.delayed) {
            if blocked.contains(&store) || self.must_grow(store, &parts) {
                blocked.push(store);
                self.delayed.push_back((req, store, parts));
            } else {
                self.produce_now(now, req, store, parts, fx);
            }
        }
    }

    /// Whether a store has no room for these, but may soon.
    fn must_grow(&mut self, store: StoreId, parts: &[ProducePart]) -> bool {
        let bytes = parts.iter().map(|part| part.batch.len()).sum();
        self.slot_of(store).is_some_and(|slot| {
            let store = &mut self.slots[slot].store;
            !store.has_room_for_clients(bytes) && store.grows_for_clients(bytes)
        })
    }

    fn produce_now(
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
