//! What a partition knows of idempotent producers: the epoch and the last five
//! batches of each, by which a retry is told from new data and a gap is refused.
//! The rules are Kafka's (`enable.idempotence`, KIP-98, KIP-360). Also which of them has a transaction open, and where
//! that began.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::limits::{
    PRODUCER_BATCHES_REMEMBERED, PRODUCER_SNAPSHOTS_MAX, PRODUCERS_PER_PARTITION_MAX,
    TRANSACTION_SNAPSHOTS_MAX,
};
use crate::base::{ErrorCode, Offset, Refused, SegmentId};
use crate::record::BatchInfo;

use super::hints::Position;
use super::steps::{EndedTransaction, TransactionStep};

/// The epoch of a producer that has none.
const NO_EPOCH: i16 = -1;
/// Of whose transactions none has ended.
const NO_COORDINATOR: i32 = -1;

/// The producer fields of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProducerBatch {
    pub(super) id: i64,
    pub(super) epoch: i16,
    pub(super) base_sequence: i32,
    /// Offset of the last record minus offset of the first one.
    pub(super) last_delta: i32,
}

impl ProducerBatch {
    /// `None` if no idempotent producer wrote it.
    pub(super) fn of(info: &BatchInfo) -> Option<Self> {
        (info.producer_id >= 0 && info.base_sequence >= 0).then_some(Self {
            id: info.producer_id,
            epoch: info.producer_epoch,
            base_sequence: info.base_sequence,
            last_delta: info.last_offset_delta,
        })
    }

    /// Sequence number of the last record; sequence numbers wrap from `i32::MAX` to 0.
    fn last_sequence(&self) -> i32 {
        self.base_sequence.wrapping_add(self.last_delta) & i32::MAX
    }
}

/// One appended batch of a producer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) base_sequence: i32,
    pub(super) last_delta: i32,
    pub(super) base_offset: Offset,
    /// Largest timestamp of the batch.
    pub(super) timestamp: i64,
}

impl Remembered {
    pub(super) fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_delta))
    }

    fn last_sequence(&self) -> i32 {
        self.base_sequence.wrapping_add(self.last_delta) & i32::MAX
    }
}

/// One producer. The newest batch is the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) epoch: i16,
    recent: [Remembered; PRODUCER_BATCHES_REMEMBERED],
    count: usize,
    /// Where the transaction began that it has open.
    pub(super) transaction: Option<Position>,
    /// Epoch of the coordinator that ended the last one.
    pub(super) coordinator_epoch: i32,
    /// Last offset and largest timestamp of the last batch that had no sequence, a marker or one of the broker's.
    pub(super) heard: Option<(Offset, i64)>,
}

impl Producer {
    pub(super) fn new(epoch: i16) -> Self {
        Self {
            epoch,
            recent: [Remembered::default(); PRODUCER_BATCHES_REMEMBERED],
            count: 0,
            transaction: None,
            coordinator_epoch: NO_COORDINATOR,
            heard: None,
        }
    }

    /// The same in an epoch: of another one no batches are known.
    fn in_epoch(self, epoch: i16) -> Self {
        match self.epoch == epoch {
            true => self,
            false => Self {
                transaction: self.transaction,
                coordinator_epoch: self.coordinator_epoch,
                heard: self.heard,
                ..Self::new(epoch)
            },
        }
    }

    pub(super) fn batches(&self) -> &[Remembered] {
        &self.recent[..self.count]
    }

    pub(super) fn push(&mut self, batch: Remembered) {
        if self.count == PRODUCER_BATCHES_REMEMBERED {
            self.recent.rotate_left(1);
            self.count -= 1;
        }
        self.recent[self.count] = batch;
        self.count += 1;
    }

    /// Whether it was heard of since `wall_ms`, by the clock of its own records, as in Kafka: so it is the
    /// same after a restart and on every replica.
    fn is_younger(&self, wall_ms: i64) -> bool {
        self.last_timestamp().is_some_and(|last| last > wall_ms)
    }

    /// Sequence of its last record; -1 if none is known.
    pub(super) fn last_sequence(&self) -> i32 {
        self.batches().last().map_or(-1, Remembered::last_sequence)
    }

    /// The largest timestamp of its last batch.
    pub(super) fn last_timestamp(&self) -> Option<i64> {
        let last = self
            .batches()
            .last()
            .map(|it| (it.last_offset(), it.timestamp));
        last.max(self.heard).map(|(_, timestamp)| timestamp)
    }

    /// Forgets its batches from an offset on; whether anything is left.
    fn forget_from(&mut self, offset: Offset) -> bool {
        self.heard = self.heard.filter(|(last, _)| *last < offset);
        self.transaction = self.transaction.filter(|first| first.offset < offset);
        if self.heard.is_none() {
            self.coordinator_epoch = NO_COORDINATOR;
        }
        let kept = self.batches().iter().filter(|b| b.base_offset < offset);
        self.count = kept.count();
        self.recent[self.count..].fill(Remembered::default());
        self.count > 0 || self.heard.is_some() || self.transaction.is_some()
    }

    /// Where its last batch ended: producers are told by it who was heard of last.
    pub(super) fn last_offset(&self) -> Offset {
        let last = self.batches().last().map(Remembered::last_offset);
        let began = self.transaction.map(|first| first.offset);
        let heard = self.heard.map(|(offset, _)| offset);
        last.max(heard).max(began).unwrap_or(Offset(-1))
    }
}

/// What was known, when a segment began, of the producers that have written to it since; of others nothing was. Of
/// segments that are not the newest only those are kept that had a transaction open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) segment: SegmentId,
    /// Its base offset.
    pub(super) base: Offset,
    pub(super) producers: BTreeMap<i64, Producer>,
}

impl Before {
    /// Keeps only those that had a transaction open. Returns how many went.
    fn thin(&mut self) -> usize {
        let before = self.producers.len();
        self.producers
            .retain(|_, known| known.transaction.is_some());
        before - self.producers.len()
    }
}

/// All producers a partition knows, at most [`PRODUCERS_PER_PARTITION_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Producers {
    known: BTreeMap<i64, Producer>,
    /// Those who have no transaction open, by where their last batches ended: who was heard of longest ago comes
    /// first.
    heard: BTreeSet<(Offset, i64)>,
    /// The others, by where their transactions began.
    open: BTreeMap<(Offset, i64), Position>,
    /// Of the newest segments, at most [`TRANSACTION_SNAPSHOTS_MAX`], the active one last.
    before: VecDeque<Before>,
    /// Entries in them.
    entries_before: usize,
    /// How many may be known.
    most: usize,
}

impl Default for Producers {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            heard: BTreeSet::new(),
            open: BTreeMap::new(),
            before: VecDeque::new(),
            entries_before: 0,
            most: PRODUCERS_PER_PARTITION_MAX,
        }
    }
}

impl Producers {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Entries in memory: those of before a segment count too.
    pub(super) fn entries(&self) -> usize {
        self.known.len() + self.entries_before
    }

    fn count_before(&mut self) {
        let before = self.before.iter().map(|before| before.producers.len());
        self.entries_before = before.sum();
    }

    /// How many transactions are open.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Where the first of those began.
    pub(super) fn first_open(&self) -> Option<Position> {
        self.open.first_key_value().map(|(_, first)| *first)
    }

    /// What is known of one.
    pub(super) fn get(&self, id: i64) -> Option<&Producer> {
        self.known.get(&id)
    }

    /// Whether it is known with which transactions open a segment began.
    pub(super) fn knows_before(&self, segment: SegmentId) -> bool {
        self.before.iter().any(|before| before.segment == segment)
    }

    /// In the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.known.iter().map(|(id, producer)| (*id, producer))
    }

    pub(super) fn before(&self) -> impl ExactSizeIterator<Item = &Before> {
        self.before.iter()
    }

    /// Takes what was known before a segment, read back from a checkpoint.
    pub(super) fn restore_before(&mut self, before: Before) {
        self.begin_segment(before.segment, before.base);
        if let Some(last) = self.before.back_mut() {
            *last = before;
        }
        self.count_before();
    }

    /// What is remembered from now on is of this segment.
    pub(super) fn begin_segment(&mut self, segment: SegmentId, base: Offset) {
        if self.before.len() == TRANSACTION_SNAPSHOTS_MAX {
            self.before.pop_front();
        }
        let older = (self.before.len() + 1).saturating_sub(PRODUCER_SNAPSHOTS_MAX);
        self.before.iter_mut().take(older).for_each(|before| {
            before.thin();
        });
        self.count_before();
        self.before.push_back(Before {
            segment,
            base,
            producers: BTreeMap::new(),
        });
    }

    /// The segments before this one are gone.
    pub(super) fn drop_before(&mut self, segment: SegmentId) {
        self.before.retain(|before| before.segment >= segment);
        self.count_before();
    }

    /// Another segment has taken the place of some; where those between the first and the last one began is none any
    /// more.
    pub(super) fn replaced(&mut self, (first, last): (SegmentId, SegmentId), by: SegmentId) {
        let (mut inside, others): (VecDeque<Before>, VecDeque<Before>) =
            (self.before.drain(..)).partition(|b| (first..=last).contains(&b.segment));
        self.before = others;
        self.count_before();
        let Some(mut before) = inside.pop_front().filter(|b| b.segment == first) else {
            return;
        };
        // Who has not written to the first one was the same when a later one began.
        for later in inside {
            for (id, known) in later.producers {
                before.producers.entry(id).or_insert(known);
            }
        }
        before.segment = by;
        let at = self.before.partition_point(|b| b.segment < by);
        self.before.insert(at, before);
        self.count_before();
    }

    /// Whether a batch is the last one that is known of its producer.
    pub(super) fn is_last(&self, info: &BatchInfo) -> bool {
        let known = self.known.get(&info.producer_id);
        let known = known.filter(|known| known.epoch == info.producer_epoch);
        let last = known.map(|known| match known.batches().last() {
            // By its sequences a producer is known, whatever marker came behind.
            Some(last) if !info.is_control() => last.last_offset(),
            _ => known.last_offset(),
        });
        last == Some(Offset(info.last_offset()))
    }

    /// Goes back to where a segment began, at this offset. If that is farther back than is remembered, producers of
    /// whom no batch is left are forgotten.
    pub(super) fn roll_back(&mut self, segment: SegmentId, base: Offset) {
        let mut back = BTreeMap::new();
        while self.before.back().is_some_and(|b| b.segment >= segment)
            && let Some(before) = self.before.pop_back()
        {
            back.extend(before.producers);
        }
        self.count_before();
        self.known.retain(|_, known| known.forget_from(base));
        (self.heard, self.open) = Default::default();
        for (id, producer) in std::mem::take(&mut self.known) {
            self.insert(id, producer);
        }
        for (id, mut producer) in back {
            if producer.forget_from(base) {
                self.restore(id, producer);
            }
        }
    }

    /// Notes what is known of a producer that is about to write, if that is of before the newest segment.
    fn keep_before(&mut self, id: i64) {
        if let Some(before) = self.before.back_mut()
            && let Some(known) = self.known.get(&id)
            && known.last_offset() < before.base
        {
            self.entries_before += usize::from(!before.producers.contains_key(&id));
            before.producers.entry(id).or_insert(*known);
        }
    }

    /// Who has written to the newest segment, as they are known now.
    pub(super) fn written(&self) -> impl Iterator<Item = (i64, Producer)> + '_ {
        let base = self.before.back().map(|before| before.base);
        let known = self.known.iter().map(|(id, producer)| (*id, *producer));
        known.filter(move |(_, producer)| base.is_some_and(|base| producer.last_offset() >= base))
    }

    /// Takes a producer as it has become in the newest segment.
    pub(super) fn rewrite(&mut self, id: i64, producer: Producer) {
        self.keep_before(id);
        self.restore(id, producer);
    }

    /// Takes a producer read back from a checkpoint.
    pub(super) fn restore(&mut self, id: i64, producer: Producer) {
        self.make_room(id);
        self.insert(id, producer);
    }

    fn insert(&mut self, id: i64, producer: Producer) {
        if let Some(before) = self.known.insert(id, producer) {
            self.forget_place(id, &before);
        }
        match producer.transaction {
            None => drop(self.heard.insert((producer.last_offset(), id))),
            Some(first) => drop(self.open.insert((first.offset, id), first)),
        }
    }

    fn forget_place(&mut self, id: i64, producer: &Producer) {
        match producer.transaction {
            None => drop(self.heard.remove(&(producer.last_offset(), id))),
            Some(first) => drop(self.open.remove(&(first.offset, id))),
        }
    }

    /// Takes what a batch in the log says of its producer, if it has one; it lies at this place. A transaction that
    /// ends with it is returned.
    pub(super) fn take(
        &mut self,
        remembered: Option<(ProducerBatch, Remembered)>,
        step: Option<TransactionStep>,
        at: Position,
    ) -> Option<EndedTransaction> {
        if let Some((producer, appended)) = remembered {
            self.remember(&producer, appended);
        }
        let step = step?;
        let id = step.producer_id;
        let is_full = self.known.len() >= self.most;
        if is_full && step.end.is_some() && !self.known.contains_key(&id) {
            // It has nothing here that could end. Others do not make room for who only might come.
            return None;
        }
        self.keep_before(id);
        self.make_room(id);
        let known = self.known.get(&id).copied();
        let mut producer = known.unwrap_or(Producer::new(step.producer_epoch));
        producer = producer.in_epoch(step.producer_epoch);
        if remembered.is_none() {
            producer.heard = Some((step.last_offset, step.timestamp));
        }
        let mut ended = None;
        match step.end {
            None => drop(producer.transaction.get_or_insert(at)),
            Some(marker) => {
                producer.coordinator_epoch = marker.coordinator_epoch;
                ended = producer.transaction.take().map(|first| EndedTransaction {
                    producer_id: id,
                    first,
                    last: step.last_offset,
                    commits: marker.commits,
                });
            }
        }
        self.insert(id, producer);
        ended
    }

    /// Decides about a batch: `Ok(None)` is to be appended, `Ok(Some(..))` was appended before.
    ///
    /// A producer that is not known may begin anywhere: its state may have expired here. Epoch -1 is that of
    /// none, whose sequences follow no rule (Kafka's clients never send it with an id).
    ///
    /// # Errors
    /// INVALID_PRODUCER_EPOCH for an epoch older than the last one, OUT_OF_ORDER_SEQUENCE_NUMBER
    /// for a gap or for a new epoch that does not begin at 0, whether a batch or a marker has begun it.
    pub(super) fn check(&self, batch: &ProducerBatch) -> Result<Option<Remembered>, Refused> {
        let unknown = Producer::new(NO_EPOCH);
        let producer = self.known.get(&batch.id).unwrap_or(&unknown);
        if let Some(duplicate) = find_duplicate(producer, batch) {
            return Ok(Some(duplicate));
        }
        if batch.epoch < producer.epoch {
            return Err(stale_epoch(batch.id, batch.epoch, producer.epoch));
        }
        if producer.epoch == NO_EPOCH {
            return Ok(None);
        }
        if batch.epoch > producer.epoch {
            return match batch.base_sequence {
                0 => Ok(None),
                _ => Err(bad_start(batch)),
            };
        }
        match producer.batches().last() {
            Some(last) if !follows(last.last_sequence(), batch.base_sequence) => {
                Err(out_of_order(last, batch))
            }
            // It is known by the end of a transaction, by which its epoch has grown.
            None if producer.heard.is_some() && batch.base_sequence != 0 => Err(bad_start(batch)),
            _ => Ok(None),
        }
    }

    /// Decides about a batch without a sequence, of the broker's own, in the transaction of a producer.
    ///
    /// # Errors
    /// INVALID_PRODUCER_EPOCH for an epoch older than the last one.
    pub(super) fn check_epoch(&self, id: i64, epoch: i16) -> Result<(), Refused> {
        match self.known.get(&id) {
            Some(producer) if epoch < producer.epoch => Err(stale_epoch(id, epoch, producer.epoch)),
            _ => Ok(()),
        }
    }

    /// Decides about the end of a producer's transaction, by the version of transactions by which it ends: from 2 on
    /// its epoch is newer than that of its records, so one of the same epoch ends nothing that is open; but for the
    /// largest one, from which it could not grow.
    ///
    /// # Errors
    /// INVALID_PRODUCER_EPOCH, and TRANSACTION_COORDINATOR_FENCED for a coordinator older than the last one.
    pub(super) fn check_end(
        &self,
        (id, epoch): (i64, i16),
        coordinator_epoch: i32,
        version: i8,
    ) -> Result<(), Refused> {
        let Some(producer) = self.known.get(&id) else {
            return Ok(());
        };
        let has_grown = epoch > producer.epoch || epoch == i16::MAX;
        let is_late = version >= 2 && !has_grown && producer.transaction.is_some();
        if epoch < producer.epoch || is_late {
            return Err(stale_epoch(id, epoch, producer.epoch));
        }
        if coordinator_epoch < producer.coordinator_epoch {
            let message = format!(
                "A coordinator of epoch {coordinator_epoch} ends a transaction of producer {id}, of whose \
                 transactions one of epoch {} has ended the last one.",
                producer.coordinator_epoch
            );
            let code = ErrorCode::TransactionCoordinatorFenced;
            return Err(Refused::because(code, message));
        }
        Ok(())
    }

    /// Whether no batch with a sequence is known of a producer.
    pub(super) fn is_silent(&self, id: i64) -> bool {
        self.known.get(&id).is_none_or(|known| known.count == 0)
    }

    /// Whether a batch is of a producer that is not known, and that follows a rule.
    pub(super) fn is_new(&self, batch: &ProducerBatch) -> bool {
        let known = self.known.get(&batch.id);
        batch.epoch > NO_EPOCH && known.is_none_or(|known| known.epoch == NO_EPOCH)
    }

    /// Remembers an appended batch.
    pub(super) fn remember(&mut self, batch: &ProducerBatch, appended: Remembered) {
        self.keep_before(batch.id);
        self.make_room(batch.id);
        let known = self.known.get(&batch.id).copied();
        let mut producer = known.unwrap_or(Producer::new(batch.epoch));
        producer = producer.in_epoch(batch.epoch);
        producer.push(appended);
        self.insert(batch.id, producer);
    }

    /// Forgets producers whose last batch has no timestamp after `wall_ms`, but for those with a transaction open.
    pub(super) fn expire(&mut self, wall_ms: i64) {
        let heard = &mut self.heard;
        self.known.retain(|id, producer| {
            let stays = producer.transaction.is_some() || producer.is_younger(wall_ms);
            if !stays {
                heard.remove(&(producer.last_offset(), *id));
            }
            stays
        });
    }

    /// Makes room for a producer that is not known yet.
    fn make_room(&mut self, id: i64) {
        if self.known.len() >= self.most && !self.known.contains_key(&id) {
            self.forget_oldest();
        }
    }

    /// Forgets the one that was heard of longest ago.
    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.heard.pop_first() {
            self.known.remove(&id);
        }
    }

    /// Whether a batch is of a producer that is not known, and whose place would have to be that of one that was heard
    /// of behind this offset.
    ///
    /// # Errors
    /// KAFKA_STORAGE_ERROR then: it is retried, and there will be a place.
    pub(super) fn check_room(&self, batch: &ProducerBatch, recent: Offset) -> Result<(), Refused> {
        let is_known = || self.known.contains_key(&batch.id);
        let oldest = self.heard.first().map(|(heard, _)| *heard);
        if self.known.len() < self.most || oldest < Some(recent) || is_known() {
            return Ok(());
        }
        let message = format!(
            "The partition remembers {} idempotent producers, and all of them have just written: producer {} may \
             begin when one of them has been silent for a minute. Use more partitions, or fewer producers.",
            self.known.len(),
            batch.id
        );
        Err(Refused::because(ErrorCode::KafkaStorageError, message))
    }

    /// No more than this may be known.
    pub(super) fn limit(&mut self, most: usize) {
        self.most = most.min(PRODUCERS_PER_PARTITION_MAX);
    }

    /// Forgets those heard of longest ago until no more are known than may be, and what was known before segments
    /// until that is no more than as many again.
    pub(super) fn thin_out(&mut self) {
        while self.known.len() > self.most && !self.heard.is_empty() {
            self.forget_oldest();
        }
        // With which transactions open a segment began is kept as long as it can be: without that a log cannot be cut
        // back to it.
        let mut before = self.before.iter_mut();
        while self.entries_before > self.most
            && let Some(before) = before.next()
        {
            self.entries_before -= before.thin();
        }
        while self.entries_before > PRODUCERS_PER_PARTITION_MAX && self.before.len() > 1 {
            self.before.pop_front();
            self.count_before();
        }
    }
}

fn find_duplicate(producer: &Producer, batch: &ProducerBatch) -> Option<Remembered> {
    if producer.epoch != batch.epoch {
        return None;
    }
    producer
        .batches()
        .iter()
        .find(|seen| {
            seen.base_sequence == batch.base_sequence && seen.last_delta == batch.last_delta
        })
        .copied()
}

fn follows(last: i32, next: i32) -> bool {
    next == last.wrapping_add(1) & i32::MAX
}

fn stale_epoch(id: i64, epoch: i16, seen: i16) -> Refused {
    let message = format!(
        "Producer {id} wrote with epoch {epoch}, but epoch {seen} was seen already: another instance took over, or \
         this one must ask for a new epoch."
    );
    Refused::because(ErrorCode::InvalidProducerEpoch, message)
}

fn bad_start(batch: &ProducerBatch) -> Refused {
    let message = format!(
        "Producer {} began epoch {} with sequence {}: a new epoch begins with sequence 0.",
        batch.id, batch.epoch, batch.base_sequence
    );
    Refused::because(ErrorCode::OutOfOrderSequenceNumber, message)
}

fn out_of_order(last: &Remembered, batch: &ProducerBatch) -> Refused {
    let message = format!(
        "Producer {} sent sequences {} to {}, expected was {}: batches before this one were lost or failed and must \
         be sent again first.",
        batch.id,
        batch.base_sequence,
        batch.last_sequence(),
        last.last_sequence().wrapping_add(1) & i32::MAX
    );
    Refused::because(ErrorCode::OutOfOrderSequenceNumber, message)
}

#[cfg(test)]
mod tests;
