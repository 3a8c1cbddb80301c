//! Dropping the oldest segments: by age, by size, and by DeleteRecords. Nothing
//! at or above the high watermark is ever dropped.

use crate::base::{ErrorCode, Now, Offset, Refused, SegmentId};
use crate::store::{FlushSeq, Store};

use super::Log;
use super::hints::Position;
use super::notes::Note;
use super::segment::Segment;

impl Log {
    /// The offset by which DeleteRecords says "all that is readable".
    pub const DELETE_ALL: Offset = Offset(-1);

    /// Drops what `retention.bytes` and `retention.ms` no longer cover and forgets producers that
    /// expired or are too many. To be called every now and then (`log.retention.check.interval.ms`). Says whether
    /// segments were dropped.
    ///
    /// The active segment expires too, once its newest record is old enough; a new one begins then.
    pub fn retain(&mut self, now: Now, store: &mut Store) -> bool {
        let expired = self.config.producer_id_expiration_ms.max(0);
        self.producers.expire(now.wall_ms.saturating_sub(expired));
        self.producers.thin_out();
        self.turned_away.forget_old(now.mono);
        let doomed = self
            .deleted_segments()
            .max(self.oversized_segments())
            .max(self.expired_segments(now.wall_ms));
        self.drop_oldest(doomed, now, store);
        if doomed > 0 {
            self.start_moved(store.pending_seq());
        }
        doomed > 0
    }

    /// DeleteRecords: nothing before `before` can be read any more, -1 stands for the high
    /// watermark. Returns the log start offset, which does not move back.
    ///
    /// # Errors
    /// OFFSET_OUT_OF_RANGE for an offset above the high watermark, or a negative one.
    pub fn delete_records(
        &mut self,
        now: Now,
        before: Offset,
        store: &mut Store,
    ) -> Result<Offset, Refused> {
        let mark = self.high_watermark();
        let before = if before == Self::DELETE_ALL {
            mark
        } else {
            before
        };
        if before.0 < 0 || before > mark {
            let message = format!(
                "Records can be deleted up to the high watermark, which is {mark}; {before} was asked for."
            );
            return Err(Refused::because(ErrorCode::OffsetOutOfRange, message));
        }
        if before > self.log_start {
            self.before_change(store);
            store.note(self.id, Note::LogStart(before).encode());
            self.set_log_start(before);
            self.drop_oldest(self.deleted_segments(), now, store);
            self.start_moved(store.pending_seq());
        }
        Ok(self.log_start)
    }

    /// The leader's log starts at `offset`, so this one does too, as far as what is before it is known to be committed
    /// here. Returns the flush that makes it durable, if it moves.
    pub fn follow_start(
        &mut self,
        now: Now,
        offset: Offset,
        store: &mut Store,
    ) -> Option<FlushSeq> {
        let to = offset.min(self.high_watermark());
        if to <= self.log_start {
            return None;
        }
        let moved = self.delete_records(now, to, store);
        moved.is_ok().then(|| store.pending_seq())
    }

    /// Moves the log start offset in the bookkeeping; never back.
    pub(super) fn set_log_start(&mut self, offset: Offset) {
        if offset > self.log_start {
            self.log_start = offset;
            self.epochs.start_at(offset);
            self.transactions.start_at(offset);
        }
    }

    /// Drops the segments before this one from the bookkeeping; the last one stays.
    pub(super) fn forget_before(&mut self, id: SegmentId) {
        while self.segments.len() > 1 && self.segments[0].id < id {
            self.segments.pop_front();
        }
        let (first, base) = (self.segments[0].id, self.segments[0].base);
        self.producers.drop_before(first);
        self.set_log_start(base);
        self.hints.forget_before(first);
        self.push_hints.forget_before(first);
        self.lookups.clear();
        // They stood at the end of a dropped segment, which is where the first one begins.
        for mark in [&mut self.durable, &mut self.high_watermark] {
            if mark.segment < first {
                *mark = Position {
                    // In recovery it may be older than that.
                    offset: mark.offset.max(base),
                    segment: first,
                    pos: 0,
                };
            }
        }
    }

    fn drop_oldest(&mut self, count: usize, now: Now, store: &mut Store) {
        if count == 0 {
            return;
        }
        self.before_change(store);
        if count == self.segments.len() {
            self.roll_at_end(now, store);
        }
        let first = self.segments[count].id;
        store.drop_before(self.id, first);
        self.forget_before(first);
    }

    /// How many of the oldest segments lie wholly before the log start.
    fn deleted_segments(&self) -> usize {
        self.count_oldest(|_, end| end <= self.log_start)
    }

    /// How many of the oldest segments the log can lose and still have `retention.bytes`.
    fn oversized_segments(&self) -> usize {
        let Ok(keep) = u64::try_from(self.config.retention_bytes) else {
            return 0;
        };
        let mut excess = self.size_bytes().saturating_sub(keep);
        self.count_oldest(|segment, _| {
            let enough = excess >= segment.len && excess > 0;
            excess = excess.saturating_sub(segment.len);
            enough
        })
    }

    /// How many of the oldest segments have no record younger than `retention.ms`.
    fn expired_segments(&self, wall_ms: i64) -> usize {
        if self.config.retention_ms < 0 {
            return 0;
        }
        self.count_oldest(|segment, _| segment.age_ms(wall_ms) > self.config.retention_ms)
    }

    /// Counts segments from the oldest on for as long as `doomed` says so of them and their end
    /// offset, and they may go at all: below the high watermark and not the empty active one.
    fn count_oldest(&self, mut doomed: impl FnMut(&Segment, Offset) -> bool) -> usize {
        let mut count = 0;
        for (number, segment) in self.segments.iter().enumerate() {
            let next = self.segments.get(number + 1);
            let end = next.map_or(self.end, |next| next.base);
            let empty = next.is_none() && segment.batches == 0;
            if empty || end > self.high_watermark.offset || !doomed(segment, end) {
                break;
            }
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogConfig;
    use super::super::testing::{Draft, Fixture, START_MS};
    use super::*;

    /// Ten segments of ten batches; `len` bytes each batch.
    fn ten_segments(config: LogConfig) -> (Fixture, u64) {
        let (batch, _) = Draft::plain(&[START_MS], 1000).build();
        let len = batch.len() as u64;
        let segment_bytes = len * 10;
        let mut f = Fixture::new(
            LogConfig {
                segment_bytes,
                ..config
            },
            0,
        );
        f.fill(100, 1000);
        assert_eq!(f.log.segment_count(), 10);
        (f, len)
    }

    fn config() -> LogConfig {
        LogConfig {
            retention_ms: -1,
            ..LogConfig::default()
        }
    }

    #[test]
    fn by_size() {
        let (mut f, len) = ten_segments(config());
        assert!(!f.retain(), "no limits");
        f.log.config.retention_bytes = len as i64 * 35;
        assert!(f.retain());
        assert_eq!(
            f.log.start_offset(),
            Offset(60),
            "what is left is at least the limit"
        );
        assert_eq!(f.log.size_bytes(), len * 40);
        assert!(!f.retain());
        f.log.config.retention_bytes = 1;
        assert!(f.retain());
        assert_eq!(f.log.start_offset(), Offset(90), "the active segment stays");
        f.log.config.retention_bytes = 0;
        assert!(f.retain());
        assert_eq!(
            f.log.start_offset(),
            Offset(100),
            "except if nothing is to stay, as in Kafka"
        );
        assert!(!f.retain());
    }

    #[test]
    fn by_age() {
        let (mut f, _) = ten_segments(LogConfig {
            retention_ms: 1000,
            ..config()
        });
        f.now.wall_ms = START_MS + 1000 + 29;
        assert!(
            f.retain(),
            "the newest of segment 10 has START + 19, of 20 START + 29"
        );
        assert_eq!(f.log.start_offset(), Offset(20));
        f.now.wall_ms = START_MS + 1000 + 100;
        assert!(f.retain());
        assert_eq!(f.log.start_offset(), Offset(100), "the active segment too");
        assert_eq!((f.log.size_bytes(), f.log.segment_count()), (0, 1));
        assert!(!f.retain(), "an empty segment does not expire");
        f.fill(1, 10);
        assert_eq!(f.read_bases(100, 1000), [100]);
        assert_eq!(f.read(99, 1000, true), Err(ErrorCode::OffsetOutOfRange));
    }

    #[test]
    fn records_without_timestamps_age_by_the_clock() {
        let mut f = Fixture::new(
            LogConfig {
                retention_ms: 1000,
                ..config()
            },
            0,
        );
        f.append(&Draft::plain(&[-1], 10)).unwrap();
        f.settle();
        f.now.wall_ms += 1000;
        assert!(!f.retain());
        f.now.wall_ms += 1;
        assert!(f.retain());
    }

    #[test]
    fn never_what_is_not_durable() {
        let mut f = Fixture::new(
            LogConfig {
                retention_bytes: 0,
                ..config()
            },
            0,
        );
        f.append(&Draft::plain(&[START_MS], 10)).unwrap();
        assert!(!f.retain());
        f.settle();
        assert!(f.retain());
    }

    #[test]
    fn delete_records_as_kafka_answers() {
        let (mut f, _) = ten_segments(config());
        f.append(&Draft::plain(&[START_MS], 10)).unwrap();
        assert_eq!(f.delete_records(101), Err(ErrorCode::OffsetOutOfRange));
        assert_eq!(f.delete_records(-2), Err(ErrorCode::OffsetOutOfRange));
        assert_eq!(f.delete_records(0), Ok(0));
        assert_eq!(f.delete_records(25), Ok(25));
        assert_eq!(
            f.log.segment_count(),
            9,
            "the first two went, one new began"
        );
        assert_eq!(f.delete_records(10), Ok(25), "never back");
        assert_eq!(f.read_bases(25, 1)[0], 25);
        assert_eq!(f.delete_records(-1), Ok(100));
        f.settle();
        assert_eq!(f.delete_records(-1), Ok(101));
        assert_eq!(f.log.size_bytes(), 0);
        f.settle();
        f.restart();
        assert_eq!(f.log.start_offset(), Offset(101));
        assert_eq!(f.log.end_offset(), Offset(101));
    }

    #[test]
    fn a_followers_log_starts_where_its_leaders_does_as_far_as_it_is_committed() {
        let (mut f, _) = ten_segments(config());
        f.append(&Draft::plain(&[START_MS], 10)).unwrap();
        let mut follow = |to| {
            let flush = f.log.follow_start(f.now, Offset(to), &mut f.disk.store);
            f.log.check_live();
            (flush.is_some(), f.log.start_offset().0)
        };
        assert_eq!(follow(25), (true, 25));
        assert_eq!(follow(20), (false, 25));
        assert_eq!(follow(101), (true, 100));
        assert_eq!(follow(101), (false, 100));
    }

    #[test]
    fn producers_expire() {
        let mut f = Fixture::new(config(), 0);
        let mut draft = Draft::plain(&[START_MS], 10);
        draft.producer = Some((1, 0, 5));
        f.append(&draft).unwrap();
        draft.producer = Some((1, 0, 9));
        assert_eq!(
            f.append(&draft).unwrap_err().code,
            ErrorCode::OutOfOrderSequenceNumber
        );
        f.now.wall_ms += f.log.config().producer_id_expiration_ms - 1;
        f.retain();
        assert!(f.append(&draft).is_err(), "still remembered");
        f.now.wall_ms += 1;
        f.retain();
        f.append(&draft)
            .expect("forgotten, so it may begin anywhere");
        // It is the time of the records that counts, not that of their arrival.
        f.retain();
        draft.producer = Some((1, 0, 20));
        f.append(&draft).expect("forgotten at once");
    }
}
