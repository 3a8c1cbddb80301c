//! One segment: a run of batches that rolls, expires and is dropped as a whole.

use crate::base::{LeaderEpoch, Offset, SegmentId};
use crate::record::{self, BatchHeader, BatchInfo, EndMarker};

use super::index::{Index, IndexEntry};
use super::producers::{ProducerBatch, Remembered};
use super::steps::TransactionStep;

/// No segment gets longer than this; positions inside it fit 31 bits, as in Kafka.
pub(super) const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;
/// No segment spans more offsets than this.
pub(super) const SEGMENT_DELTA_MAX: i64 = i32::MAX as i64;
/// A batch, a record or a segment without a timestamp.
pub(super) const NO_TIMESTAMP: i64 = -1;

/// What the bookkeeping needs to know of a batch that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchEntry {
    pub(super) base_offset: Offset,
    pub(super) last_offset: Offset,
    /// Bytes, header included.
    pub(super) len: u64,
    /// Of its records: none if compaction has emptied it.
    pub(super) max_timestamp: i64,
    /// What the header says.
    written_ms: i64,
    pub(super) epoch: LeaderEpoch,
    /// Present if an idempotent producer wrote it.
    pub(super) producer: Option<ProducerBatch>,
    /// Present if it is of a transaction. The end of one is known by what is in the batch: see
    /// [`reading`](Self::reading).
    pub(super) transaction: Option<TransactionStep>,
}

impl BatchEntry {
    /// The entry of a batch that is, or will be, stamped with this offset and epoch. `None` if the
    /// offsets do not fit the protocol's 63 bits.
    pub(super) fn new(info: &BatchInfo, base_offset: Offset, epoch: LeaderEpoch) -> Option<Self> {
        let delta = i64::from(info.last_offset_delta);
        let last_offset = base_offset.0.checked_add(delta)?;
        last_offset.checked_add(1)?;
        if delta < 0 || base_offset.0 < 0 {
            return None;
        }
        Some(Self {
            base_offset,
            last_offset: Offset(last_offset),
            len: info.len as u64,
            max_timestamp: of_records(info.max_timestamp, info.records),
            written_ms: info.max_timestamp,
            epoch,
            producer: ProducerBatch::of(info),
            transaction: records_of(
                (
                    info.is_transactional() && info.records > 0,
                    info.is_control(),
                ),
                (info.producer_id, info.producer_epoch),
                (Offset(last_offset), info.max_timestamp),
            ),
        })
    }

    /// The same with the end of a transaction, if the batch is that.
    pub(super) fn reading(mut self, batch: &[u8]) -> Self {
        let header = record::header(batch).filter(|header| header.is_control());
        if let Some(header) = header.filter(|header| header.producer_id() >= 0)
            && let Some(end) = EndMarker::read(batch)
        {
            self.transaction = Some(TransactionStep {
                producer_id: header.producer_id(),
                producer_epoch: header.producer_epoch(),
                last_offset: self.last_offset,
                timestamp: self.max_timestamp,
                end: Some(end),
            });
        }
        self
    }

    /// The same from a header that is in the log, all but its offset and epoch, which may not be stamped yet.
    pub(super) fn of_header(
        header: &BatchHeader,
        base_offset: Offset,
        epoch: LeaderEpoch,
        len: u64,
    ) -> Option<Self> {
        let last_delta = header.last_offset_delta();
        let last_offset = base_offset.0.checked_add(i64::from(last_delta))?;
        last_offset.checked_add(1)?;
        let idempotent = header.producer_id() >= 0 && header.base_sequence() >= 0;
        let producer = idempotent.then(|| ProducerBatch {
            id: header.producer_id(),
            epoch: header.producer_epoch(),
            base_sequence: header.base_sequence(),
            last_delta,
        });
        (last_delta >= 0 && base_offset.0 >= 0).then_some(Self {
            base_offset,
            last_offset: Offset(last_offset),
            len,
            max_timestamp: of_records(header.max_timestamp(), header.records_count()),
            written_ms: header.max_timestamp(),
            epoch,
            producer,
            transaction: records_of(
                (
                    header.is_transactional() && header.records_count() > 0,
                    header.is_control(),
                ),
                (header.producer_id(), header.producer_epoch()),
                (Offset(last_offset), header.max_timestamp()),
            ),
        })
    }

    /// What is remembered of it for its producer, if that is an idempotent one.
    pub(super) fn remembered(&self) -> Option<(ProducerBatch, Remembered)> {
        let producer = self.producer?;
        let remembered = Remembered {
            base_sequence: producer.base_sequence,
            last_delta: producer.last_delta,
            base_offset: self.base_offset,
            timestamp: self.written_ms,
        };
        Some((producer, remembered))
    }

    /// It is stamped with the time of its append.
    pub(super) fn stamp(&mut self, wall_ms: i64) {
        (self.max_timestamp, self.written_ms) = (wall_ms, wall_ms);
    }

    pub(super) fn next_offset(&self) -> Offset {
        self.last_offset.plus(1)
    }
}

/// What a batch is by its header alone. One that compaction has emptied has nothing of a transaction.
fn records_of(
    (is_transactional, is_control): (bool, bool),
    (producer_id, producer_epoch): (i64, i16),
    (last_offset, timestamp): (Offset, i64),
) -> Option<TransactionStep> {
    let is_records = is_transactional && !is_control && producer_id >= 0;
    is_records.then_some(TransactionStep {
        producer_id,
        producer_epoch,
        last_offset,
        timestamp,
        end: None,
    })
}

/// The largest timestamp of a batch's records: one without any is at no time.
pub(super) const fn of_records(max_timestamp: i64, records: i32) -> i64 {
    match records {
        0 => NO_TIMESTAMP,
        _ => max_timestamp,
    }
}

/// The batch that holds the largest timestamp of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MaxTimestamp {
    /// [`NO_TIMESTAMP`] if no batch has any.
    pub(super) timestamp: i64,
    pub(super) base_offset: Offset,
    pub(super) pos: u64,
    pub(super) len: u64,
}

/// See the module's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) id: SegmentId,
    pub(super) base: Offset,
    /// Bytes that the log had before this segment, counted from its creation: makes sizes and
    /// distances across segments a subtraction. Recovery may count from elsewhere.
    pub(super) start: u64,
    /// Bytes.
    pub(super) len: u64,
    pub(super) batches: u64,
    /// Offsets are left out: before its first batch, between two, or behind the last one.
    pub(super) has_gaps: bool,
    /// Bytes of the largest batch.
    pub(super) largest_batch: u64,
    /// Largest timestamp of the first batch: `segment.ms` counts from here.
    pub(super) first_timestamp: i64,
    pub(super) max: MaxTimestamp,
    /// Wall time at which it began, and of its last append; both are the recovery's for what was
    /// replayed. They count only where batches carry no timestamps.
    pub(super) created_ms: i64,
    pub(super) modified_ms: i64,
    pub(super) index: Index,
}

impl Segment {
    pub(super) fn new(id: SegmentId, base: Offset, start: u64, wall_ms: i64) -> Self {
        Self {
            id,
            base,
            start,
            len: 0,
            batches: 0,
            has_gaps: false,
            largest_batch: 0,
            first_timestamp: NO_TIMESTAMP,
            max: MaxTimestamp {
                timestamp: NO_TIMESTAMP,
                base_offset: base,
                pos: 0,
                len: 0,
            },
            created_ms: wall_ms,
            modified_ms: wall_ms,
            index: Index::default(),
        }
    }

    /// Whether the batch fits the hard bounds of a segment, whatever the configuration says.
    pub(super) fn fits(&self, entry: &BatchEntry) -> bool {
        self.len.saturating_add(entry.len) <= SEGMENT_BYTES_MAX
            && entry.last_offset.0.saturating_sub(self.base.0) <= SEGMENT_DELTA_MAX
    }

    /// Counts a batch that was appended. The caller has checked that it [fits](Self::fits).
    pub(super) fn add(&mut self, entry: &BatchEntry, wall_ms: i64) {
        debug_assert!(self.fits(entry) && entry.base_offset >= self.base);
        self.index.offer(IndexEntry {
            delta: self.delta(entry.base_offset),
            pos: self.len as u32,
            max_before: self.max.timestamp,
        });
        if self.batches == 0 {
            self.first_timestamp = entry.max_timestamp;
        }
        if entry.max_timestamp > self.max.timestamp {
            self.max = MaxTimestamp {
                timestamp: entry.max_timestamp,
                base_offset: entry.base_offset,
                pos: self.len,
                len: entry.len,
            };
        }
        self.len += entry.len;
        self.batches += 1;
        self.largest_batch = self.largest_batch.max(entry.len);
        self.modified_ms = wall_ms;
    }

    /// The last batch the index knows that begins at or before `offset`: its offset and position.
    pub(super) fn floor(&self, offset: Offset) -> (Offset, u64) {
        self.place(self.index.floor(self.delta(offset)))
    }

    /// A batch before which the segment has no timestamp at or above `timestamp`.
    pub(super) fn floor_time(&self, timestamp: i64) -> (Offset, u64) {
        self.place(self.index.floor_time(timestamp))
    }

    /// The last batch the index knows that begins in `(low, high]`.
    pub(super) fn boundary_between(&self, low: u64, high: u64) -> Option<(Offset, u64)> {
        let found = self.index.last_between(low, high)?;
        Some(self.place(found))
    }

    /// How long ago its newest record was written: by timestamp, else by the wall clock.
    pub(super) fn age_ms(&self, wall_ms: i64) -> i64 {
        let newest = match self.max.timestamp {
            0.. => self.max.timestamp,
            _ => self.modified_ms,
        };
        wall_ms.saturating_sub(newest)
    }

    /// How long it has been the active one when a batch of this timestamp arrives.
    pub(super) fn open_ms(&self, wall_ms: i64, timestamp: i64) -> i64 {
        match self.first_timestamp {
            0.. => timestamp.saturating_sub(self.first_timestamp),
            _ => wall_ms.saturating_sub(self.created_ms),
        }
    }

    /// The offset of the batch at `pos`, if the index has it, and the next batch that it has: offset and position.
    pub(super) fn around(&self, pos: u64) -> (Option<Offset>, Option<(Offset, u64)>) {
        let (here, next) = self.index.around(pos);
        let here = here.map(|delta| self.base.plus(i64::from(delta)));
        (here, next.map(|next| self.place(next)))
    }

    fn delta(&self, offset: Offset) -> u32 {
        let delta = offset.0.saturating_sub(self.base.0);
        delta.clamp(0, i64::from(u32::MAX)) as u32
    }

    fn place(&self, (delta, pos): (u32, u32)) -> (Offset, u64) {
        (self.base.plus(i64::from(delta)), u64::from(pos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(base: i64, records: i64, len: u64, max_timestamp: i64) -> BatchEntry {
        BatchEntry {
            base_offset: Offset(base),
            last_offset: Offset(base + records - 1),
            len,
            max_timestamp,
            written_ms: max_timestamp,
            epoch: LeaderEpoch(0),
            producer: None,
            transaction: None,
        }
    }

    #[test]
    fn a_segment_counts_its_batches() {
        let mut segment = Segment::new(SegmentId(3), Offset(100), 7, 50);
        for (n, timestamp) in [30, 90, 20, 90].into_iter().enumerate() {
            segment.add(
                &entry(100 + n as i64 * 10, 10, 5000 + n as u64, timestamp),
                60,
            );
        }
        assert_eq!(
            (segment.len, segment.batches, segment.largest_batch),
            (20_006, 4, 5003)
        );
        assert_eq!(segment.first_timestamp, 30);
        let max = segment.max;
        assert_eq!(
            (max.timestamp, max.base_offset, max.pos, max.len),
            (90, Offset(110), 5000, 5001),
            "the first batch that has it"
        );
        assert_eq!(segment.floor(Offset(119)), (Offset(110), 5000));
        assert_eq!(segment.floor(Offset(5)), (Offset(100), 0));
        assert_eq!(segment.floor_time(90), (Offset(110), 5000));
        assert_eq!(segment.floor_time(30), (Offset(100), 0));
    }

    #[test]
    fn ages_go_by_timestamp_and_else_by_the_clock() {
        let mut segment = Segment::new(SegmentId::FIRST, Offset(0), 0, 50);
        segment.add(&entry(0, 1, 100, NO_TIMESTAMP), 60);
        assert_eq!(
            (segment.age_ms(100), segment.open_ms(100, NO_TIMESTAMP)),
            (40, 50)
        );
        let mut segment = Segment::new(SegmentId::FIRST, Offset(0), 0, 50);
        segment.add(&entry(0, 1, 100, 10), 60);
        assert_eq!((segment.age_ms(100), segment.open_ms(100, 25)), (90, 15));
    }

    #[test]
    fn hard_bounds() {
        let mut segment = Segment::new(SegmentId::FIRST, Offset(0), 0, 0);
        assert!(!segment.fits(&entry(i64::from(i32::MAX), 2, 100, 0)));
        assert!(segment.fits(&entry(i64::from(i32::MAX), 1, 100, 0)));
        segment.len = SEGMENT_BYTES_MAX - 99;
        assert!(!segment.fits(&entry(1, 1, 100, 0)));
    }
}
