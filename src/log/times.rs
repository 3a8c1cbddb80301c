//! ListOffsets by time: the first record at or after a timestamp, and the record
//! with the largest one. Segments and their indexes narrow the search to a few
//! headers; the batch that may hold the record is opened.

use bytes::Bytes;

use crate::base::limits::VALIDATION_SLICE_WORK;
use crate::base::{ErrorCode, Offset, SegmentId};
use crate::record;
use crate::store::Store;

use super::Log;
use super::lookup::{Later, LookupProgress, Opening, TimeGoal, begin_seek, outcome};
use super::outcome::{Goal, Reach, Ticket, TimeLookup};
use super::segment::NO_TIMESTAMP;
use super::walk::{BatchHead, HEADER_BYTES, Loaded, Window, load, window_len};

/// What looking at headers takes at least, and how many bytes are copied and gone into a checksum in the time of
/// one decompressed.
const STEP_COST: usize = 128;
const BYTES_PER_WORK: usize = 16;

impl Log {
    /// The first record, from the log start on, with this timestamp or a larger one. What it took is taken off
    /// `work`, counted in bytes decompressed: it goes on until that is used up, and for no more than a slice then.
    ///
    /// # Errors
    /// CORRUPT_MESSAGE or KAFKA_STORAGE_ERROR, as [`read`](Self::read).
    pub fn offset_for_time(
        &mut self,
        store: &Store,
        timestamp: i64,
        work: &mut usize,
    ) -> Result<TimeLookup, ErrorCode> {
        self.look_up(store, TimeGoal::AtLeast(timestamp), work)
    }

    /// The first record with the largest timestamp of the log (ListOffsets with -3). As in Kafka
    /// it counts until its segment is dropped, even if DeleteRecords removed it.
    ///
    /// # Errors
    /// CORRUPT_MESSAGE or KAFKA_STORAGE_ERROR, as [`read`](Self::read).
    pub fn max_timestamp(
        &mut self,
        store: &Store,
        work: &mut usize,
    ) -> Result<TimeLookup, ErrorCode> {
        let mut largest = NO_TIMESTAMP;
        for segment in &self.segments {
            largest = largest.max(segment.max.timestamp);
        }
        if largest == NO_TIMESTAMP {
            return Ok(TimeLookup::NotFound);
        }
        self.look_up(store, TimeGoal::Max(largest), work)
    }

    fn look_up(
        &mut self,
        store: &Store,
        goal: TimeGoal,
        work: &mut usize,
    ) -> Result<TimeLookup, ErrorCode> {
        let mut progress = self.lookups.take(goal).or_else(|| self.begin(goal, None));
        let mut stepped = false;
        loop {
            progress = match progress {
                None => return Ok(TimeLookup::NotFound),
                // Who asked did not come back for it, and the log start has moved since.
                Some(LookupProgress::Found { offset, .. }) if offset < self.first_answer(goal) => {
                    self.begin(goal, None)
                }
                Some(LookupProgress::Found { offset, timestamp }) => {
                    return Ok(self.found(offset, timestamp));
                }
                Some(LookupProgress::Open(opening)) => return Ok(TimeLookup::Open(opening)),
                Some(LookupProgress::SegmentDone(done)) => self.begin(goal, Some(done)),
                // It was replaced, or dropped.
                Some(LookupProgress::Gone) => self.begin(goal, None),
                Some(LookupProgress::At { segment, .. }) if self.segment(segment).is_none() => {
                    self.begin(goal, None)
                }
                Some(progress @ LookupProgress::At { .. }) if stepped && *work == 0 => {
                    let era = self.lookups.era();
                    return Ok(TimeLookup::Later(Box::new(Later {
                        goal,
                        progress,
                        era,
                    })));
                }
                Some(LookupProgress::At { segment, pos, want }) => {
                    let Some(len) = self.lookup_len(segment, pos, want) else {
                        return Ok(TimeLookup::NotFound);
                    };
                    match load(store, self.id, segment, pos, len)? {
                        Loaded::Memory(bytes) => {
                            stepped = true;
                            Some(self.step(segment, pos, &bytes, goal, work)?)
                        }
                        Loaded::File(pieces) => {
                            let ticket = Ticket {
                                segment,
                                pos,
                                len: len as usize,
                                goal: Goal::Time(goal),
                                reach: Reach::Readable,
                            };
                            self.check_scan(&ticket)?;
                            return Ok(TimeLookup::Scan { pieces, ticket });
                        }
                    }
                }
            };
        }
    }

    /// Where to begin in the first segment, after `done`, that has such a timestamp.
    fn begin(&self, goal: TimeGoal, done: Option<SegmentId>) -> Option<LookupProgress> {
        let timestamp = goal.timestamp();
        let segment = self
            .segments
            .iter()
            .filter(|segment| done.is_none_or(|done| segment.id > done))
            .find(|segment| segment.max.timestamp >= timestamp)?;
        let (pos, want) = match goal {
            TimeGoal::AtLeast(_) => {
                let (_, by_time) = segment.floor_time(timestamp);
                let first = self.first_answer(goal);
                let by_offset = match first > segment.base {
                    true => segment.floor(first).1,
                    false => 0,
                };
                (by_time.max(by_offset), HEADER_BYTES)
            }
            TimeGoal::Max(_) => (segment.max.pos, segment.max.len),
        };
        Some(LookupProgress::At {
            segment: segment.id,
            pos,
            want,
        })
    }

    /// Bytes to get for the next step; `None` if that is not below the high watermark, or gone.
    fn lookup_len(&self, id: SegmentId, pos: u64, want: u64) -> Option<u64> {
        let (_, segment) = self.segment(id)?;
        let limit = self.readable_end(segment);
        if pos >= limit {
            return None;
        }
        // A batch that has to be opened is all that is wanted.
        let len = match want > HEADER_BYTES {
            true => want,
            false => window_len(segment, pos, limit),
        };
        Some(len.min(limit - pos))
    }

    /// A lookup that had come as far as this is about to be asked for again.
    pub fn resume_lookup(&mut self, later: Later) {
        if later.era == self.lookups.era() {
            self.lookups.put(later.goal, later.progress);
        }
    }

    /// A batch was opened as far as it is needed.
    pub fn opened(&mut self, opening: &Opening) {
        // If the segment went away meanwhile, that is found out when the lookup goes on.
        self.lookups.put(opening.goal, opening.progress());
    }

    /// The bytes of a lookup's scan came.
    pub(super) fn scanned_time(
        &mut self,
        segment: SegmentId,
        start: u64,
        bytes: &[u8],
        goal: TimeGoal,
    ) -> Result<(), ErrorCode> {
        let mut work = VALIDATION_SLICE_WORK;
        let progress = self.step(segment, start, bytes, goal, &mut work)?;
        self.lookups.put(goal, progress);
        Ok(())
    }

    /// One step of a lookup: over the headers in these bytes, into the batch that matches.
    fn step(
        &self,
        id: SegmentId,
        start: u64,
        bytes: &[u8],
        goal: TimeGoal,
        work: &mut usize,
    ) -> Result<LookupProgress, ErrorCode> {
        *work = work.saturating_sub(STEP_COST + bytes.len() / BYTES_PER_WORK);
        let Some((_, segment)) = self.segment(id) else {
            return Ok(LookupProgress::Gone);
        };
        let window = Window {
            segment,
            start,
            bytes,
            limit: self.readable_limit(segment),
        };
        let at = |pos, want| LookupProgress::At {
            segment: id,
            pos,
            want,
        };
        let mut pos = start;
        let mut expected = None;
        while let Some(head) = window.head(pos)? {
            if expected.is_some_and(|expected| !window.follows(expected, head.base_offset)) {
                return Err(ErrorCode::CorruptMessage);
            }
            expected = Some(head.last_offset.plus(1));
            let candidate = head.max_timestamp >= goal.timestamp()
                && head.last_offset >= self.first_answer(goal)
                && head.base_offset < self.high_watermark.offset;
            if candidate {
                match window.batch(&head) {
                    None => return Ok(at(pos, head.len)),
                    Some(batch) if !record::check_crc(batch) => {
                        return Err(ErrorCode::CorruptMessage);
                    }
                    Some(batch) => {
                        if let Some(found) = self.search(id, &head, batch, goal, work) {
                            return Ok(found);
                        }
                    }
                }
            }
            pos = head.end();
        }
        if pos == start {
            return Err(ErrorCode::CorruptMessage); // Not one header: these are not the bytes asked for.
        }
        Ok(match pos >= segment.len {
            true => LookupProgress::SegmentDone(id),
            false => at(pos, HEADER_BYTES),
        })
    }

    /// The record in a batch whose header promises it; `None` if all that match are before the log start. What
    /// takes longer than a moment is put off.
    fn search(
        &self,
        segment: SegmentId,
        head: &BatchHead,
        batch: &[u8],
        goal: TimeGoal,
        work: &mut usize,
    ) -> Option<LookupProgress> {
        let log_start = self.first_answer(goal);
        let first = head.base_offset.max(log_start);
        if head.log_append_time {
            return Some(LookupProgress::Found {
                offset: first,
                timestamp: head.max_timestamp,
            });
        }
        let seek = begin_seek(batch, goal, log_start, |body| body);
        let mut slice = VALIDATION_SLICE_WORK;
        let sought = seek.and_then(|mut seek| seek.go_on(&mut slice));
        *work = work.saturating_sub(VALIDATION_SLICE_WORK - slice);
        match sought.transpose() {
            Some(sought) => outcome(sought, first, head.max_timestamp),
            None => Some(LookupProgress::Open(Box::new(Opening {
                goal,
                segment,
                end: head.end(),
                first: (first, head.max_timestamp),
                batch: Bytes::copy_from_slice(batch),
                seek: None,
                log_start,
                sought: None,
            }))),
        }
    }

    /// No record before this offset is an answer.
    fn first_answer(&self, goal: TimeGoal) -> Offset {
        match goal {
            TimeGoal::AtLeast(_) => self.log_start,
            TimeGoal::Max(_) => Offset(0),
        }
    }

    fn found(&self, offset: Offset, timestamp: i64) -> TimeLookup {
        match offset < self.high_watermark.offset {
            true => TimeLookup::Found {
                offset,
                timestamp,
                epoch: self.epochs.at(offset),
            },
            false => TimeLookup::NotFound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogConfig;
    use super::super::testing::{Draft, Fixture, START_MS};
    use super::*;
    use crate::base::limits::TIME_LOOKUPS_PER_PARTITION_MAX;
    use crate::record::Codec;

    fn fixture() -> Fixture {
        let config = LogConfig {
            segment_bytes: 50_000,
            ..LogConfig::default()
        };
        Fixture::new(config, 0)
    }

    #[test]
    fn the_first_record_at_or_after_a_time() {
        let mut f = fixture();
        for n in 0..200 {
            let t = START_MS + n * 10;
            let mut draft = Draft::plain(&[t, t + 4, t + 2], 300);
            draft.codec = Codec::ALL[n as usize % 5];
            f.append(&draft).unwrap();
        }
        f.file();
        assert!(f.log.segment_count() > 2);
        for n in [0, 1, 77, 199] {
            let t = START_MS + n * 10;
            assert_eq!(f.time(t), Some((n * 3, t)));
            assert_eq!(f.time(t + 1), Some((n * 3 + 1, t + 4)));
            assert_eq!(f.time(t + 3), Some((n * 3 + 1, t + 4)));
        }
        assert_eq!(f.time(0), Some((0, START_MS)));
        assert_eq!(f.time(START_MS + 1995), None);
        assert_eq!(f.max_time(), Some((598, START_MS + 1994)));
        assert!(f.scans > 0, "these are in the file");
    }

    /// 40 MB of zeros in 40 KB, in the memory tail and in the file.
    #[test]
    fn a_batch_that_opens_to_much_is_searched_in_slices() {
        for codec in [Codec::Zstd, Codec::Gzip, Codec::Lz4] {
            let mut f = Fixture::new(LogConfig::default(), 0);
            let mut builder = record::BatchBuilder::new(codec, START_MS);
            builder.push(START_MS, None, Some(&vec![0; 40 << 20]), &[]);
            builder.push(START_MS + 5, None, Some(b"e"), &[]);
            let batch = builder.build();
            let info = record::validate_produced(&batch).unwrap();
            f.log
                .append(f.now, batch, &info, &mut f.disk.store)
                .unwrap();
            f.settle();
            assert_eq!(f.time(START_MS + 1), Some((1, START_MS + 5)));
            assert!(f.slices > 20, "{} slices", f.slices);
            f.fill(30, 1000);
            f.file();
            assert_eq!(f.time(START_MS + 1), Some((1, START_MS + 5)));
            assert_eq!(f.time(START_MS), Some((0, START_MS)));
        }
    }

    #[test]
    fn times_need_not_be_in_order() {
        let mut f = fixture();
        for t in [50, 90, 10, 90, 70] {
            f.append(&Draft::plain(&[START_MS + t], 10)).unwrap();
        }
        f.settle();
        assert_eq!(f.time(START_MS + 60), Some((1, START_MS + 90)));
        assert_eq!(f.max_time(), Some((1, START_MS + 90)));
    }

    #[test]
    fn only_what_is_readable_is_found() {
        let mut f = fixture();
        assert_eq!((f.time(0), f.max_time()), (None, None), "an empty log");
        for t in [10, 20, 30] {
            f.append(&Draft::plain(&[START_MS + t, START_MS + t + 1], 10))
                .unwrap();
        }
        f.settle();
        f.append(&Draft::plain(&[START_MS + 40], 10)).unwrap();
        assert_eq!(f.time(START_MS + 35), None, "not durable yet");
        assert_eq!(f.max_time(), None, "as in Kafka");
        f.settle();
        assert_eq!(f.time(START_MS + 35), Some((6, START_MS + 40)));
        f.delete_records(3).unwrap();
        assert_eq!(f.time(0), Some((3, START_MS + 21)), "from the log start on");
        assert_eq!(f.max_time(), Some((6, START_MS + 40)));
    }

    #[test]
    fn records_without_timestamps_are_not_found() {
        let mut f = fixture();
        f.append(&Draft::plain(&[-1], 10)).unwrap();
        f.settle();
        assert_eq!((f.time(0), f.max_time()), (None, None));
    }

    #[test]
    fn a_header_that_promises_too_much_ends_the_search() {
        let mut f = fixture();
        // The header says 99 ms, the record 10: no broker checked that, since none opens batches.
        let (batch, _) = Draft::plain(&[START_MS + 10], 10).build();
        let mut batch = batch.to_vec();
        batch[35..43].copy_from_slice(&(START_MS + 99).to_be_bytes());
        let crc = crate::base::crc::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        let info = record::validate_produced(&batch).unwrap();
        f.log
            .append(f.now, batch.into(), &info, &mut f.disk.store)
            .unwrap();
        f.fill(1, 10);
        assert_eq!(f.time(START_MS + 50), Some((0, START_MS + 99)));
    }

    #[test]
    fn bytes_that_are_no_batches_end_the_search() {
        let mut f = fixture();
        f.fill(20, 1000);
        f.file();
        let ask = |f: &mut Fixture| f.log.offset_for_time(&f.disk.store, START_MS + 9, &mut 0);
        let Ok(TimeLookup::Scan { pieces, ticket }) = ask(&mut f) else {
            panic!("no scan");
        };
        let rotten = vec![0; f.disk.join(&pieces).len()];
        assert!(f.log.scanned(ticket, &rotten).is_err());
        assert_eq!(ask(&mut f).unwrap_err(), ErrorCode::CorruptMessage);
        assert_eq!(
            f.time(START_MS + 9),
            Some((9, START_MS + 9)),
            "it was the reading"
        );
    }

    /// Who asked may not have come back for it, and the log start has moved meanwhile.
    #[test]
    fn what_was_found_before_is_none_behind_a_new_log_start() {
        let mut f = fixture();
        for t in [10, 20, 30] {
            f.append(&Draft::plain(&[START_MS + t], 10)).unwrap();
        }
        f.settle();
        let found = LookupProgress::Found {
            offset: Offset(0),
            timestamp: START_MS + 10,
        };
        f.log.lookups.put(TimeGoal::AtLeast(0), found);
        f.delete_records(2).unwrap();
        assert_eq!(f.time(0), Some((2, START_MS + 30)));
    }

    /// DeleteRecords leaves what it cannot drop: all of the active segment.
    #[test]
    fn what_is_before_the_log_start_is_not_gone_through() {
        let mut f = Fixture::new(LogConfig::default(), 64 << 20);
        f.fill(1500, 1000);
        f.delete_records(1490).unwrap();
        let mut work = VALIDATION_SLICE_WORK;
        let found = f.log.offset_for_time(&f.disk.store, 0, &mut work).unwrap();
        assert!(
            matches!(found, TimeLookup::Found { offset, .. } if offset.0 == 1490),
            "{found:?}"
        );
        let spent = VALIDATION_SLICE_WORK - work;
        assert!(spent < VALIDATION_SLICE_WORK / 10, "{spent}");
    }

    /// The only record that matches is behind all that DeleteRecords has left, and one that is deleted has hidden that.
    #[test]
    fn what_is_gone_through_in_memory_is_gone_through_in_slices() {
        let mut f = Fixture::new(LogConfig::default(), 64 << 20);
        let late = START_MS + 1_000_000;
        f.append(&Draft::plain(&[late], 10)).unwrap();
        f.fill(1500, 1000);
        f.append(&Draft::plain(&[late], 10)).unwrap();
        f.settle();
        f.delete_records(1).unwrap();
        let mut work = VALIDATION_SLICE_WORK / 16;
        let found = f.log.offset_for_time(&f.disk.store, late, &mut work);
        let Ok(TimeLookup::Later(later)) = found else {
            panic!("{found:?}");
        };
        // Others ask meanwhile: it goes on where it was all the same.
        for goal in 0..2 * TIME_LOOKUPS_PER_PARTITION_MAX as i64 {
            let begun = f.log.begin(TimeGoal::AtLeast(goal), None).unwrap();
            f.log.lookups.put(TimeGoal::AtLeast(goal), begun);
        }
        let LookupProgress::At { pos, .. } = later.progress else {
            panic!("{later:?}");
        };
        assert!(pos > 0);
        f.log.resume_lookup(*later);
        let (mut slices, mut at) = (1, pos);
        let found = loop {
            let mut work = VALIDATION_SLICE_WORK / 16;
            match f
                .log
                .offset_for_time(&f.disk.store, late, &mut work)
                .unwrap()
            {
                TimeLookup::Later(later) => {
                    let LookupProgress::At { pos, .. } = later.progress else {
                        panic!("{later:?}");
                    };
                    assert!(pos > at);
                    at = pos;
                    f.log.resume_lookup(*later);
                }
                TimeLookup::Found { offset, .. } => break offset,
                other => panic!("{other:?}"),
            }
            slices += 1;
        };
        assert_eq!(found.0, 1501);
        assert!(slices > 3, "{slices}");
        // What was learned is void when segments were dropped.
        let later = Later {
            goal: TimeGoal::AtLeast(late),
            progress: LookupProgress::At {
                segment: SegmentId(0),
                pos: 7,
                want: HEADER_BYTES,
            },
            era: f.log.lookups.era(),
        };
        f.log.lookups.clear();
        f.log.resume_lookup(later);
        assert_eq!(f.time(late), Some((1501, late)));
    }
}
