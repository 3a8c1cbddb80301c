//! What a partition knows of idempotent producers: the epoch and the last five
//! batches of each, by which a retry is told from new data and a gap is refused.
//! The rules are Kafka's (`enable.idempotence`, KIP-98, KIP-360).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::limits::{
    PRODUCER_BATCHES_REMEMBERED, PRODUCER_SNAPSHOTS_MAX, PRODUCERS_PER_PARTITION_MAX,
};
use crate::base::{ErrorCode, Offset, Refused, SegmentId};
use crate::record::BatchInfo;

/// The epoch of a producer that has none.
const NO_EPOCH: i16 = -1;

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
}

impl Producer {
    pub(super) fn new(epoch: i16) -> Self {
        Self {
            epoch,
            recent: [Remembered::default(); PRODUCER_BATCHES_REMEMBERED],
            count: 0,
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
        let last = self.batches().last();
        last.is_some_and(|batch| batch.timestamp > wall_ms)
    }

    /// Forgets its batches from an offset on; whether one is left.
    fn forget_from(&mut self, offset: Offset) -> bool {
        let kept = self.batches().iter().filter(|b| b.base_offset < offset);
        self.count = kept.count();
        self.recent[self.count..].fill(Remembered::default());
        self.count > 0
    }

    /// Whether one of its batches is before an offset.
    fn has_batch_before(&self, offset: Offset) -> bool {
        self.batches().iter().any(|b| b.base_offset < offset)
    }

    /// Where its last batch ended: producers are told by it who was heard of last.
    fn last_offset(&self) -> Offset {
        self.batches()
            .last()
            .map_or(Offset(-1), Remembered::last_offset)
    }
}

/// What was known, when a segment began, of the producers that have written to it since; of others nothing was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) segment: SegmentId,
    /// Its base offset.
    pub(super) base: Offset,
    pub(super) producers: BTreeMap<i64, Producer>,
}

/// All producers a partition knows, at most [`PRODUCERS_PER_PARTITION_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Producers {
    known: BTreeMap<i64, Producer>,
    /// The same by where their last batches ended: who was heard of longest ago comes first.
    heard: BTreeSet<(Offset, i64)>,
    /// Of the newest segments, at most [`PRODUCER_SNAPSHOTS_MAX`], the active one last.
    before: VecDeque<Before>,
    /// How many may be known.
    most: usize,
}

impl Default for Producers {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            heard: BTreeSet::new(),
            before: VecDeque::new(),
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
        let before = self.before.iter().map(|before| before.producers.len());
        self.known.len() + before.sum::<usize>()
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
    }

    /// What is remembered from now on is of this segment.
    pub(super) fn begin_segment(&mut self, segment: SegmentId, base: Offset) {
        if self.before.len() == PRODUCER_SNAPSHOTS_MAX {
            self.before.pop_front();
        }
        self.before.push_back(Before {
            segment,
            base,
            producers: BTreeMap::new(),
        });
    }

    /// The segments before this one are gone.
    pub(super) fn drop_before(&mut self, segment: SegmentId) {
        self.before.retain(|before| before.segment >= segment);
    }

    /// Another segment has taken the place of some; where those between the first and the last one began is none any
    /// more.
    pub(super) fn replaced(&mut self, (first, last): (SegmentId, SegmentId), by: SegmentId) {
        let (mut inside, others): (VecDeque<Before>, VecDeque<Before>) =
            (self.before.drain(..)).partition(|b| (first..=last).contains(&b.segment));
        self.before = others;
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
    }

    /// Whether a batch is the last one that is known of its producer.
    pub(super) fn is_last(&self, info: &BatchInfo) -> bool {
        let known = self.known.get(&info.producer_id);
        let known = known.filter(|known| known.epoch == info.producer_epoch);
        known.is_some_and(|known| known.last_offset().0 == info.last_offset())
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
        self.known.retain(|_, known| known.forget_from(base));
        let known = self.known.iter();
        self.heard = known
            .map(|(id, known)| (known.last_offset(), *id))
            .collect();
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
            && known.has_batch_before(before.base)
        {
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
            self.heard.remove(&(before.last_offset(), id));
        }
        self.heard.insert((producer.last_offset(), id));
    }

    /// Decides about a batch: `Ok(None)` is to be appended, `Ok(Some(..))` was appended before.
    ///
    /// A producer that is not known may begin anywhere: its state may have expired here. Epoch -1 is that of
    /// none, whose sequences follow no rule (Kafka's clients never send it with an id).
    ///
    /// # Errors
    /// INVALID_PRODUCER_EPOCH for an epoch older than the last one, OUT_OF_ORDER_SEQUENCE_NUMBER
    /// for a gap or for a new epoch that does not begin at 0.
    pub(super) fn check(&self, batch: &ProducerBatch) -> Result<Option<Remembered>, Refused> {
        let unknown = Producer::new(NO_EPOCH);
        let producer = self.known.get(&batch.id).unwrap_or(&unknown);
        if let Some(duplicate) = find_duplicate(producer, batch) {
            return Ok(Some(duplicate));
        }
        if batch.epoch < producer.epoch {
            return Err(stale_epoch(producer, batch));
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
            _ => Ok(None),
        }
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
        let known = known.filter(|known| known.epoch == batch.epoch);
        let mut producer = known.unwrap_or(Producer::new(batch.epoch));
        producer.push(appended);
        self.insert(batch.id, producer);
    }

    /// Forgets producers whose last batch has no timestamp after `wall_ms`.
    pub(super) fn expire(&mut self, wall_ms: i64) {
        let heard = &mut self.heard;
        self.known.retain(|id, producer| {
            let stays = producer.is_younger(wall_ms);
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
        while self.known.len() > self.most {
            self.forget_oldest();
        }
        while self.entries() > self.known.len() + self.most {
            // The active segment's comes last, and what is remembered from now on is of it.
            match self.before.len() {
                0 => break,
                1 => self.before[0].producers.clear(),
                _ => drop(self.before.pop_front()),
            }
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

fn stale_epoch(producer: &Producer, batch: &ProducerBatch) -> Refused {
    let message = format!(
        "Producer {} wrote with epoch {}, but epoch {} was seen already: another instance took over, or this one \
         must ask for a new epoch.",
        batch.id, batch.epoch, producer.epoch
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
mod tests {
    use super::*;

    struct Fixture {
        producers: Producers,
        next: i64,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                producers: Producers::default(),
                next: 0,
            }
        }

        /// The base offset given, or the original one's negative for a duplicate.
        fn send(
            &mut self,
            id: i64,
            epoch: i16,
            sequence: i32,
            records: i32,
        ) -> Result<i64, ErrorCode> {
            let batch = ProducerBatch {
                id,
                epoch,
                base_sequence: sequence,
                last_delta: records - 1,
            };
            match self.producers.check(&batch) {
                Err(refused) => {
                    let text = refused.text();
                    assert!(text.contains(&id.to_string()), "{text}");
                    Err(refused.code)
                }
                Ok(Some(original)) => Ok(-original.base_offset.0),
                Ok(None) => {
                    let base = self.next;
                    self.next += i64::from(records);
                    let appended = Remembered {
                        base_sequence: sequence,
                        last_delta: records - 1,
                        base_offset: Offset(base),
                        timestamp: base,
                    };
                    self.producers.remember(&batch, appended);
                    Ok(base)
                }
            }
        }
    }

    #[test]
    fn the_last_five_batches_are_recognized() {
        let mut f = Fixture::new();
        for n in 0..6 {
            assert_eq!(f.send(7, 0, n * 10, 10), Ok(i64::from(n) * 10));
        }
        for n in 1..6 {
            assert_eq!(f.send(7, 0, n * 10, 10), Ok(-i64::from(n) * 10));
        }
        assert_eq!(
            f.send(7, 0, 0, 10),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        assert_eq!(
            f.send(7, 0, 50, 9),
            Err(ErrorCode::OutOfOrderSequenceNumber),
            "same start, other length"
        );
        assert_eq!(f.send(7, 0, 60, 1), Ok(60));
    }

    #[test]
    fn gaps_and_epochs() {
        let mut f = Fixture::new();
        assert_eq!(
            f.send(1, 3, 100, 5),
            Ok(0),
            "an unknown producer begins anywhere"
        );
        assert_eq!(
            f.send(1, 3, 106, 1),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        assert_eq!(f.send(1, 3, 105, 1), Ok(5));
        assert_eq!(f.send(1, 2, 0, 1), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(
            f.send(1, 4, 106, 1),
            Err(ErrorCode::OutOfOrderSequenceNumber)
        );
        assert_eq!(f.send(1, 4, 0, 1), Ok(6));
        assert_eq!(
            f.send(1, 3, 105, 1),
            Err(ErrorCode::InvalidProducerEpoch),
            "the old epoch's batches are forgotten"
        );
        assert_eq!(
            f.send(2, 0, 9, 1),
            Ok(7),
            "producers do not disturb each other"
        );
    }

    /// As Kafka 4.3.1 answers.
    #[test]
    fn epoch_minus_one_is_that_of_none() {
        let mut f = Fixture::new();
        assert_eq!(f.send(1, -2, 0, 1), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(f.send(1, -1, 7, 1), Ok(0));
        assert_eq!(f.send(1, -1, 7, 1), Ok(0), "a duplicate, of offset 0");
        assert_eq!(f.send(1, -1, 3, 1), Ok(1));
        assert_eq!(f.send(1, -1, 90, 1), Ok(2));
        assert_eq!(f.send(1, 0, 5, 1), Ok(3), "any sequence");
        assert_eq!(f.send(1, -1, 0, 1), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(f.send(1, 0, 5, 1), Ok(-3), "a duplicate");
        assert_eq!(f.send(1, 0, 7, 1), Err(ErrorCode::OutOfOrderSequenceNumber));
    }

    #[test]
    fn sequences_wrap() {
        let mut f = Fixture::new();
        assert_eq!(f.send(1, 0, i32::MAX - 1, 4), Ok(0));
        assert_eq!(f.send(1, 0, 3, 1), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(f.send(1, 0, 2, 1), Ok(4));
        assert_eq!(f.send(1, 0, i32::MAX - 1, 4), Ok(0), "duplicate, offset 0");
        let mut f = Fixture::new();
        assert_eq!(f.send(1, 0, i32::MAX, 1), Ok(0));
        assert_eq!(f.send(1, 0, 0, 1), Ok(1));
    }

    #[test]
    fn producers_expire_and_are_bounded() {
        let mut f = Fixture::new();
        let max = PRODUCERS_PER_PARTITION_MAX as i64;
        for id in 0..max {
            f.send(id, 0, 0, 1).unwrap();
        }
        f.send(0, 0, 1, 1).unwrap();
        assert_eq!(f.producers.len(), PRODUCERS_PER_PARTITION_MAX);
        f.send(max, 0, 0, 1).unwrap();
        assert_eq!(f.producers.len(), PRODUCERS_PER_PARTITION_MAX);
        assert!(f.producers.known.contains_key(&2), "is not in the way");
        assert!(
            f.producers.known.contains_key(&0),
            "used last but one, stays"
        );
        assert!(!f.producers.known.contains_key(&1), "used first, goes");
        f.producers.expire(max - 1);
        let ids: Vec<i64> = f.producers.iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [0, max]);
    }

    #[test]
    fn those_who_are_too_many_are_forgotten() {
        let mut f = Fixture::new();
        f.producers.begin_segment(SegmentId(0), Offset(0));
        for n in 1..=3 {
            (0..10).for_each(|id| assert!(f.send(id, 0, n, 1).is_ok()));
            f.producers
                .begin_segment(SegmentId(n as u64), Offset(f.next));
        }
        assert_eq!((f.producers.len(), f.producers.entries()), (10, 30));
        f.producers.limit(4);
        f.send(10, 0, 0, 1).unwrap();
        assert_eq!(f.producers.len(), 10, "one for another");
        f.producers.thin_out();
        let ids: Vec<i64> = f.producers.iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [7, 8, 9, 10]);
        assert!(f.producers.entries() <= 8, "{}", f.producers.entries());
        f.producers.limit(usize::MAX);
        assert_eq!(f.producers.most, PRODUCERS_PER_PARTITION_MAX);
    }

    #[test]
    fn what_was_known_before_a_segment_is_bounded() {
        let mut f = Fixture::new();
        let max = PRODUCERS_PER_PARTITION_MAX as i64;
        let begin = |f: &mut Fixture, n| f.producers.begin_segment(SegmentId(n), Offset(f.next));
        let kept = |f: &Fixture| -> Vec<usize> {
            let before = f.producers.before();
            before.map(|before| before.producers.len()).collect()
        };
        begin(&mut f, 0);
        for id in 0..max {
            f.send(id, 0, 0, 1).unwrap();
            f.send(id, 0, 1, 1).unwrap();
        }
        assert_eq!(kept(&f), [0], "nothing was known of them");
        begin(&mut f, 1);
        let base = f.next;
        for id in (0..max).chain(max..3 * max) {
            f.send(id, 0, 2, 1).unwrap();
        }
        assert_eq!(kept(&f), [0, max as usize]);
        assert!(f.producers.written().count() <= PRODUCERS_PER_PARTITION_MAX);
        // All of whom something is left come back, and nobody else stays.
        f.producers.roll_back(SegmentId(1), Offset(base));
        assert_eq!(f.producers.len(), PRODUCERS_PER_PARTITION_MAX);
        assert!(
            f.producers
                .iter()
                .all(|(id, p)| id < max && p.batches().len() == 2)
        );
        // Before a cut others may have been known.
        f.next = base;
        begin(&mut f, 1);
        for id in 0..max {
            f.send(id, 0, 2, 1).unwrap();
        }
        begin(&mut f, 2);
        let base = f.next;
        for id in 0..max / 2 {
            f.send(id, 0, 3, 1).unwrap();
        }
        for id in 5 * max..6 * max {
            f.send(id, 0, 0, 1).unwrap();
        }
        f.producers.roll_back(SegmentId(2), Offset(base));
        assert!(f.producers.len() <= PRODUCERS_PER_PARTITION_MAX);
    }
}
