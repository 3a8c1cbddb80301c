//! Produce requests whose batches are being checked (format, CRC, every record inside), or handed on to the owners of
//! their partitions.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::limits::{LOGS_CHANGED_PER_SLICE, OPEN_BYTES_PER_BYTE, VALIDATION_SLICE_WORK};
use crate::base::{ErrorCode, LogId, Mono, Refused, StoreId};
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::slots::Slots;
use crate::broker::front::{Front, partition_of};
use crate::broker::fx::Fx;
use crate::broker::io::ConnId;
use crate::broker::msg::{
    Appender, InTransaction, Msg, ProducePart, ProduceParts, Produced, ReqRef,
};
use crate::config::TopicConfig;
use crate::controller::{Topic, transaction_version};
use crate::log::check_message_size;
use crate::record;
use crate::replica::Mark;
use crate::wire::RequestHeader;
use crate::wire::produce::{ProduceRequest, ProduceTopic, codec_allowed};

/// A produce request whose partitions are on their way.
#[derive(Debug)]
pub struct PendingProduce {
    pub reply_to: ReplyTo,
    pub correlation_id: i32,
    pub version: i16,
    pub acks: i16,
    /// For how long other replicas are waited for.
    pub timeout_ms: i32,
    /// Partitions that wait for other replicas, by slot, and until when.
    pub replicated: Vec<u32>,
    pub deadline: Mono,
    /// As in the request, but for the records, which are on their way.
    pub topics: Vec<ProduceTopic>,
    /// All partitions in the order of the request.
    pub slots: Slots<Result<Produced, Refused>>,
    /// The log of the first partition that is written.
    pub first: LogId,
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
    /// Bytes of the request, and of what is made of it.
    bytes: usize,
    /// Bytes that may still be decompressed for it.
    open_bytes_left: usize,
    /// The transaction of those of its batches that are transactional.
    transaction: Option<InTransaction>,
}

/// The batches of a request by store, those that are still to be handed on.
pub type ByStore = Vec<(StoreId, std::vec::IntoIter<ProducePart>)>;

/// A produce request whose batches are checked, and are being handed on to the owners of their partitions.
#[derive(Debug)]
pub struct HandingOn {
    reply_to: ReplyTo,
    req: ReqRef,
    mark: Mark,
    /// Until when other replicas are waited for.
    until: Mono,
    by_store: ByStore,
    transaction: Option<InTransaction>,
    /// Bytes of the request, and of what is made of it.
    bytes: usize,
}

/// What is still to be done with a request before it can but wait.
#[derive(Debug)]
pub enum Job {
    Check(ProduceJob),
    HandOn(HandingOn),
}

/// What a request takes that has nothing to be checked or appended, in bytes decompressed.
pub const REQUEST_COST: usize = PART_COST / 8;
/// What appending a batch takes besides, in bytes decompressed.
const PART_COST: usize = VALIDATION_SLICE_WORK / LOGS_CHANGED_PER_SLICE;
/// From this version on clients know TRANSACTION_ABORTABLE (KIP-890).
const ABORTABLE_FROM: i16 = 11;
/// From this version on transactions are of version 2, if the cluster's are (KIP-890, part 2).
const ADDS_FROM: i16 = 12;
/// What looking at a batch takes at least, and for how many bytes their checksum counts as one, both in
/// bytes decompressed.
const BATCH_COST: usize = 64;
const BYTES_PER_WORK: usize = 64;

impl ProduceJob {
    /// A request of so many bytes. Its batches are taken out of it.
    pub fn new(
        reply_to: ReplyTo,
        header: &RequestHeader,
        mut request: ProduceRequest,
        bytes: usize,
        front: &Front,
    ) -> Self {
        let open_bytes_max = front.config.millrace_produce_open_bytes_max as usize;
        let adds = header.version >= ADDS_FROM && transaction_version(front.image.features) >= 2;
        let topics = request.topics.iter_mut();
        let partitions = topics.flat_map(|topic| &mut topic.partitions);
        let batches: Vec<Option<Bytes>> = partitions
            .map(|partition| partition.records.take())
            .collect();
        let parts = batches.len();
        Self {
            pending: PendingProduce {
                reply_to,
                correlation_id: header.correlation_id,
                version: header.version,
                acks: request.acks,
                timeout_ms: request.timeout_ms,
                replicated: Vec::new(),
                deadline: Mono::NEVER,
                topics: request.topics,
                slots: Slots::with_capacity(parts),
                first: LogId(0),
            },
            transaction: request.transactional_id.map(|id| InTransaction {
                transactional_id: Arc::from(&*id),
                adds,
                knows_abortable: header.version >= ABORTABLE_FROM,
            }),
            batches: batches.into_iter(),
            next: (0, 0),
            current: None,
            by_store: Vec::new(),
            bytes: bytes + parts * size_of::<ProducePart>(),
            open_bytes_left: open_bytes_max
                .saturating_add(bytes.saturating_mul(OPEN_BYTES_PER_BYTE)),
        }
    }

    /// Where its answer has to go.
    pub fn reply_to(&self) -> ReplyTo {
        self.pending.reply_to
    }

    /// Bytes of the request, and of what is made of it.
    pub fn bytes(&self) -> usize {
        self.bytes
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
            Err(refused) => self.checked(Err(refused)),
        }
        true
    }

    /// What becomes of the batch at hand.
    fn checked(&mut self, outcome: Result<(StoreId, ProducePart), Refused>) {
        let pending = &mut self.pending;
        let outcome = match outcome {
            Ok((store, part)) => {
                if pending.slots.are_known() {
                    pending.first = part.log;
                }
                match self.by_store.iter_mut().find(|(of, _)| *of == store) {
                    Some((_, parts)) => parts.push(part),
                    None => self.by_store.push((store, vec![part])),
                }
                None
            }
            Err(refused) => Some(Err(refused)),
        };
        pending.slots.push(outcome);
    }

    /// All batches are checked: whom to answer, and what is to be handed on.
    pub fn checked_all(self) -> (PendingProduce, ByStore, Option<InTransaction>) {
        let by_store = self.by_store.into_iter();
        let by_store = by_store.map(|(store, parts)| (store, parts.into_iter()));
        (self.pending, by_store.collect(), self.transaction)
    }

    /// Gives back what memory an unfinished batch holds: it is begun with anew.
    pub fn rewind(&mut self) {
        if let Some(batch) = &mut self.current {
            batch.2.rewind();
        }
    }

    /// Checks batches until all are or `work` is used up; whether all are.
    pub fn validate(&mut self, front: &Front, work: &mut usize) -> bool {
        if let Some(mut batch) = self.current.take()
            && !self.check(&mut batch, work)
        {
            self.current = Some(batch);
            return false;
        }
        let mut topic = None;
        while let Some(records) = self.batches.next() {
            let bytes = records.as_ref().map_or(0, Bytes::len);
            *work = work.saturating_sub(BATCH_COST + bytes / BYTES_PER_WORK);
            match self.begin_batch(front, &mut topic, records) {
                Ok(mut batch) => {
                    if !self.check(&mut batch, work) {
                        self.current = Some(Box::new(batch));
                        return false;
                    }
                }
                Err(refused) => self.checked(Err(refused)),
            }
            if *work == 0 && self.batches.len() > 0 {
                return false;
            }
        }
        true
    }

    /// `known` is the topic of the batch before, by its place.
    fn begin_batch<'a>(
        &mut self,
        front: &'a Front,
        known: &mut Option<(usize, Result<&'a Topic, ErrorCode>)>,
        records: Option<Bytes>,
    ) -> Result<BatchAtHand, Refused> {
        let (place, partition) = self.next_place();
        let slot = self.pending.slots.len() as u32;
        let pending = &self.pending;
        if !matches!(pending.acks, -1..=1) {
            return Err(ErrorCode::InvalidRequiredAcks.into());
        }
        let ProduceTopic { topic, partitions } = &pending.topics[place];
        let (_, topic) = match *known {
            Some(known) if known.0 == place => known,
            _ => *known.insert((place, front.topic(topic).map(Arc::as_ref))),
        };
        let topic = topic?;
        let index = partitions[partition].index;
        let request = (pending.version, self.transaction.is_some());
        let (store, mut part) = locate(front, topic, index, records, slot, request)?;
        let is_replicated = || {
            let partition = topic.partition(index);
            partition.is_some_and(|partition| partition.replicas.len() > 1)
        };
        if self.pending.mark() == Mark::Committed && is_replicated() {
            self.pending.replicated.push(slot);
        }
        let open_bytes_max = front.config.millrace_produce_open_bytes_max as usize;
        let open_bytes_max = open_bytes_max.min(self.open_bytes_left);
        let mut validation =
            record::Validation::new(std::mem::take(&mut part.batch), part.info, open_bytes_max);
        if TopicConfig::effective_cleanup_policy(&front.config, &topic.configs).compacts() {
            validation.need_keys();
        }
        Ok((store, part, validation))
    }
}

impl HandingOn {
    /// Of a request of so many bytes.
    pub fn new(
        reply_to: ReplyTo,
        req: ReqRef,
        (mark, until): (Mark, Mono),
        (by_store, transaction): (ByStore, Option<InTransaction>),
        bytes: usize,
    ) -> Self {
        Self {
            reply_to,
            req,
            mark,
            until,
            by_store,
            transaction,
            bytes,
        }
    }

    /// Hands batches on to their owners, in their order, until all are or `work` is used up; whether all are.
    pub fn hand_on(&mut self, front: &Front, work: &mut usize, fx: &mut Fx<'_>) -> bool {
        let (req, mark, until) = (self.req, self.mark, self.until);
        for (store, parts) in &mut self.by_store {
            while parts.len() > 0 {
                if *work == 0 {
                    return false;
                }
                let most = work.div_ceil(PART_COST);
                let batches: Vec<ProducePart> = parts.by_ref().take(most).collect();
                *work = work.saturating_sub(batches.len() * PART_COST);
                let store = *store;
                let appender = Appender::Client(req);
                let parts = ProduceParts {
                    store,
                    transaction: self.transaction.clone(),
                    mark,
                    until,
                    batches,
                };
                fx.send(front.owner_of(store), Msg::Produce { appender, parts });
            }
        }
        true
    }
}

impl PendingProduce {
    /// The mark that has to be behind each batch before it is answered. Nobody hears of those with `acks=0`, but what
    /// comes after them on their connection is to see them.
    pub fn mark(&self) -> Mark {
        match self.acks {
            -1 => Mark::Committed,
            _ => Mark::Durable,
        }
    }
}

impl Job {
    /// The connection that asked.
    pub fn conn(&self) -> ConnId {
        match self {
            Self::Check(job) => job.reply_to().conn,
            Self::HandOn(rest) => rest.reply_to.conn,
        }
    }

    /// Bytes of the request, and of what is made of it.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Check(job) => job.bytes,
            Self::HandOn(rest) => rest.bytes,
        }
    }
}

/// Where a batch is to go, if its header is one that may.
fn locate(
    front: &Front,
    topic: &Topic,
    index: i32,
    records: Option<Bytes>,
    slot: u32,
    (version, names_transaction): (i16, bool),
) -> Result<(StoreId, ProducePart), Refused> {
    let partition = partition_of(topic, index)?;
    if topic.internal {
        let why = format!("{} is written by the broker alone.", topic.name);
        return Err(Refused::because(ErrorCode::InvalidTopicException, why));
    }
    let batch = records.unwrap_or_default();
    let info = record::produced_header(&batch)?;
    // As in Kafka before the checksum, which takes a while if the batch is as large as a request may be.
    let max = TopicConfig::effective_max_message_bytes(&front.config, &topic.configs);
    check_message_size(&info, max as u64)?;
    record::validate_header(&batch, &info)?;
    if !codec_allowed(version, info.codec()) {
        return Err(ErrorCode::UnsupportedCompressionType.into());
    }
    if info.is_transactional() && !names_transaction {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed.into());
    }
    let store = front.led(partition)?;
    let part = ProducePart {
        slot,
        log: partition.log,
        batch,
        info,
        admission: None,
        ends: false,
    };
    Ok((store, part))
}
