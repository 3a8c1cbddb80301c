//! Cutting a log back: to where it went another way than its leader's, or to begin anew elsewhere.
//!
//! The segment that is cut is gone through from its beginning, header by header: what is known of it, and of the
//! producers that wrote to it, becomes what it was when the batch that goes first had not come yet. So that a restart
//! need not read all that again, what came of it is written down with the cut.

use bytes::Bytes;

use crate::base::limits::CUT_HEADERS_PER_SLICE;
use crate::base::{ErrorCode, LeaderEpoch, Now, Offset};
use crate::store::{Cut, FlushSeq, Store};

use super::Log;
use super::codec::{Malformed, Reader, Writer};
use super::epochs::Epochs;
use super::hints::Position;
use super::notes::Note;
use super::outcome::{Goal, Reach, Ticket, Truncation};
use super::producers::{Producer, Producers};
use super::rebuild::Rebuild;
use super::segment::{BatchEntry, Segment};
use super::state::{read_producer, read_segment, write_producer, write_segment};
use super::transactions::Transactions;
use super::walk::{Loaded, Window, load, window_len};

/// Set in the first byte of a note whose producers say which transactions they have open. Builds without transactions
/// wrote 0 or 1.
const WITH_TRANSACTIONS: u8 = 2;

/// What is written down with a cut.
#[derive(Debug, Default)]
pub(super) struct CutNote {
    /// The log begins anew: nothing of what was known of it counts.
    anew: bool,
    /// The segment that was cut, if any of it stays.
    segment: Option<Segment>,
    /// The producers that have written to what stays of it.
    producers: Vec<(i64, Producer)>,
}

impl CutNote {
    fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.byte(WITH_TRANSACTIONS | u8::from(self.anew));
        out.byte(u8::from(self.segment.is_some()));
        if let Some(segment) = &self.segment {
            write_segment(&mut out, segment);
        }
        out.unsigned(self.producers.len() as u64);
        for (id, producer) in &self.producers {
            write_producer(&mut out, *id, producer);
        }
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let kind = input.byte()?;
        let has_transactions = kind & WITH_TRANSACTIONS != 0;
        let anew = match kind & !WITH_TRANSACTIONS {
            0 => false,
            1 => true,
            _ => return Err(Malformed::KIND),
        };
        let segment = match input.flag()? {
            true => Some(read_segment(&mut input, 0)?),
            false => None,
        };
        let mut producers = Vec::new();
        for _ in 0..input.count()? {
            producers.push(read_producer(&mut input, has_transactions)?);
        }
        input.end()?;
        Ok(Self {
            anew,
            segment,
            producers,
        })
    }
}

impl Log {
    /// Cuts off the batch that holds `offset` and everything after it. Before the log's start it begins anew there,
    /// as in Kafka; behind its end nothing is cut off. Leader epochs and producers are those of what is left, but
    /// that of a segment older than [`PRODUCER_SNAPSHOTS_MAX`](crate::base::limits::PRODUCER_SNAPSHOTS_MAX) it is
    /// not known who had written before, but for who had a transaction open. If transactions have something behind one
    /// that is older than [`TRANSACTION_SNAPSHOTS_MAX`](crate::base::limits::TRANSACTION_SNAPSHOTS_MAX), the whole
    /// log goes, and it begins anew where it started.
    ///
    /// # Errors
    /// CORRUPT_MESSAGE or KAFKA_STORAGE_ERROR, as [`read`](Self::read); nothing is changed then.
    pub fn truncate(
        &mut self,
        now: Now,
        offset: Offset,
        store: &mut Store,
    ) -> Result<Truncation, ErrorCode> {
        if offset >= self.end {
            let (end, flush) = (self.end, self.forget_begun_epochs(store));
            return Ok(Truncation::Done { end, flush });
        }
        if offset < self.log_start {
            let flush = Some(self.start_over(now, offset, store));
            return Ok(Truncation::Done { end: offset, flush });
        }
        if !self.knows_transactions_at(offset) {
            // As far back nobody knows which were open. What is committed is not cut so far but by an unclean election.
            let offset = self.log_start;
            let flush = Some(self.start_over(now, offset, store));
            return Ok(Truncation::Done { end: offset, flush });
        }
        let mut rebuild = self.rebuild_for(offset)?;
        if let Some(first) = self.gone_through(&mut rebuild, store)? {
            self.rebuild = Some(rebuild);
            return Ok(first);
        }
        let Rebuild {
            mut segment,
            producers,
            next,
            first_gone,
            ..
        } = *rebuild;
        let end = first_gone.map_or(offset, |base| offset.min(base).max(self.log_start));
        let cut = Cut {
            segment: segment.id,
            len: segment.len,
            next: self.active().id.next(),
            base: end,
        };
        segment.has_gaps |= end > next;
        let stays = segment.len > 0;
        let note = CutNote {
            anew: false,
            segment: stays.then_some(segment),
            producers: producers.written().filter(|_| stays).collect(),
        };
        self.before_change(store);
        let flush = store.truncate(self.id, cut, note.encode());
        self.cut_back(&cut, note, now.wall_ms)
            .map_err(|_| ErrorCode::KafkaStorageError)?;
        self.cut_is_durable_with(flush);
        let flush = Some(flush);
        Ok(Truncation::Done { end, flush })
    }

    /// Epochs that have written nothing are forgotten: what comes next may be of older ones.
    fn forget_begun_epochs(&mut self, store: &mut Store) -> Option<FlushSeq> {
        let nothing = (LeaderEpoch(0), self.end);
        let newest = self.epochs.entries().last();
        if newest.is_none_or(|newest| newest.1 < self.end || *newest == nothing) {
            return None;
        }
        self.before_change(store);
        self.epochs.end_at(self.end);
        Some(store.note(self.id, Note::EpochsEnd(self.end).encode()))
    }

    /// Drops everything; the log begins anew at `offset`, wherever that is. Returns the flush that makes it durable.
    pub fn start_over(&mut self, now: Now, offset: Offset, store: &mut Store) -> FlushSeq {
        let (cut, note) = self.cut_of_all(offset);
        self.before_change(store);
        let flush = store.truncate(self.id, cut, note.encode());
        self.apply_cut(&cut, note, now, flush);
        flush
    }

    /// The same, to begin with a batch: at `base`, which is not behind that, and to start at `start`, which the batch
    /// may hold. All in one flush. The caller has checked the batch.
    pub(super) fn start_over_with(
        &mut self,
        now: Now,
        (base, start): (Offset, Offset),
        entry: &BatchEntry,
        batch: Bytes,
        store: &mut Store,
    ) {
        let (cut, note) = self.cut_of_all(base);
        self.before_change(store);
        let starts_behind = (start > base).then(|| Note::LogStart(start).encode());
        let flush = store.replace(
            self.id,
            (cut, note.encode()),
            (batch, entry.base_offset, entry.epoch),
            starts_behind,
        );
        let durable_start = self.durable_start.min(start);
        self.apply_cut(&cut, note, now, flush);
        self.record_entry(entry, now.wall_ms, flush);
        self.set_log_start(start);
        self.start_moved(flush);
        // Before and after it, nothing before that comes back.
        self.durable_start = durable_start;
        self.committed = self.committed.max(start);
    }

    fn cut_of_all(&self, base: Offset) -> (Cut, CutNote) {
        let cut = Cut {
            segment: self.segments[0].id,
            len: 0,
            next: self.active().id.next(),
            base,
        };
        let note = CutNote {
            anew: true,
            ..CutNote::default()
        };
        (cut, note)
    }

    /// The active segment is empty, and reaches no batch that begins here, 2^31 offsets or more behind it: another one
    /// takes its place. A log without any other segment starts here then.
    pub(super) fn begin_farther(&mut self, now: Now, base: Offset, store: &mut Store) {
        let active = self.active().id;
        let cut = Cut {
            segment: active,
            len: 0,
            next: active.next(),
            base,
        };
        let note = CutNote::default();
        self.before_change(store);
        let flush = store.truncate(self.id, cut, note.encode());
        self.apply_cut(&cut, note, now, flush);
    }

    fn apply_cut(&mut self, cut: &Cut, note: CutNote, now: Now, flush: FlushSeq) {
        let done = self.cut_back(cut, note, now.wall_ms);
        debug_assert_eq!(done, Ok(()));
        self.cut_is_durable_with(flush);
    }

    fn cut_is_durable_with(&mut self, flush: FlushSeq) {
        self.start_moved(flush);
        (self.cut, self.written) = (Some(flush), None);
    }

    /// Where the going through for this offset has got to.
    fn rebuild_for(&mut self, offset: Offset) -> Result<Box<Rebuild>, ErrorCode> {
        let after = self.segments.partition_point(|s| s.base <= offset);
        let number = after.checked_sub(1).ok_or(ErrorCode::OffsetOutOfRange)?;
        let segment = &self.segments[number];
        let begun = self.rebuild.take();
        if let Some(begun) = begun.filter(|r| r.offset == offset && r.segment.id == segment.id) {
            return Ok(begun);
        }
        let mut producers = self.producers.clone();
        producers.roll_back(segment.id, segment.base);
        producers.begin_segment(segment.id, segment.base);
        Ok(Box::new(Rebuild {
            offset,
            segment: Segment::new(segment.id, segment.base, segment.start, segment.created_ms),
            producers,
            next: segment.base,
            modified_ms: segment.modified_ms,
            first_gone: None,
        }))
    }

    /// Goes on for a while, as far as the bytes are in memory; what comes first, if that was not to the end.
    fn gone_through(
        &mut self,
        rebuild: &mut Rebuild,
        store: &Store,
    ) -> Result<Option<Truncation>, ErrorCode> {
        let id = rebuild.segment.id;
        let (_, segment) = self.segment(id).ok_or(ErrorCode::KafkaStorageError)?;
        // What an earlier cut takes off may be in the store's queue all the same.
        let flushed = store.flushed(self.id, id).min(segment.len);
        let until = rebuild.segment.batches + CUT_HEADERS_PER_SLICE as u64;
        while rebuild.first_gone.is_none() && rebuild.segment.len < flushed {
            if rebuild.segment.batches >= until {
                return Ok(Some(Truncation::More));
            }
            let pos = rebuild.segment.len;
            let len = window_len(segment, pos, flushed);
            match load(store, self.id, id, pos, len)? {
                Loaded::Memory(bytes) => rebuild.go_through(&self.window(segment, pos, &bytes))?,
                Loaded::File(pieces) => {
                    let ticket = Ticket {
                        segment: id,
                        pos,
                        len: len as usize,
                        goal: Goal::Rebuild,
                        reach: Reach::Readable,
                    };
                    self.check_scan(&ticket)?;
                    return Ok(Some(Truncation::Scan { pieces, ticket }));
                }
            }
        }
        if rebuild.first_gone.is_some() || rebuild.segment.len == segment.len {
            return Ok(None);
        }
        let behind = |at: &Position| (at.segment, at.pos) > (id, flushed);
        let waits = self.pending.iter().find(|(_, at)| behind(at));
        let (flush, _) = waits.ok_or(ErrorCode::KafkaStorageError)?;
        Ok(Some(Truncation::Unflushed(*flush)))
    }

    /// The bytes of a scan came.
    pub(super) fn scanned_rebuild(
        &mut self,
        ticket: &Ticket,
        bytes: &[u8],
    ) -> Result<(), ErrorCode> {
        let Some(mut rebuild) = self.rebuild.take() else {
            return Ok(());
        };
        let here = (rebuild.segment.id, rebuild.segment.len) == (ticket.segment, ticket.pos);
        let outcome = match self.segment(ticket.segment) {
            Some((_, segment)) if here => {
                rebuild.go_through(&self.window(segment, ticket.pos, bytes))
            }
            _ => Ok(()), // Something else was begun meanwhile.
        };
        self.rebuild = Some(rebuild);
        outcome
    }

    /// A window of everything that was appended, readable or not.
    fn window<'a>(&self, segment: &'a Segment, start: u64, bytes: &'a [u8]) -> Window<'a> {
        Window {
            segment,
            start,
            bytes,
            limit: self.limit_within(segment, &self.end_position()),
        }
    }

    /// A cut in the bookkeeping: the one way for truncation and recovery.
    pub(super) fn cut_back(
        &mut self,
        cut: &Cut,
        note: CutNote,
        wall_ms: i64,
    ) -> Result<(), String> {
        let number = self.segments.partition_point(|s| s.id < cut.segment);
        let (Some(first), last) = (self.segments.get(number), self.active().id) else {
            return Err(format!(
                "segment {} is to be cut and is not there",
                cut.segment
            ));
        };
        let (id, base, start) = (first.id, first.base, first.start);
        let stays = note.segment.as_ref();
        let fits = stays.map_or(cut.len == 0, |stays| {
            (stays.id, stays.base, stays.len) == (cut.segment, base, cut.len)
                && cut.len <= first.len
        });
        if id != cut.segment || cut.next <= last || !fits || !note.anew && cut.base < base {
            return Err(format!("segment {} is cut where it cannot be", cut.segment));
        }
        if self.size_bytes() == 0 {
            self.epochs.nothing_until(cut.base);
        } else if cut.base > self.end {
            self.epochs.leave_out(self.end, cut.base);
        }
        self.segments.truncate(number);
        self.producers.roll_back(id, base);
        if let Some(segment) = note.segment {
            self.segments.push_back(Segment { start, ..segment });
            self.producers.begin_segment(id, base);
            for (id, producer) in note.producers {
                self.producers.rewrite(id, producer);
            }
        } else if let Some(last) = self.segments.back_mut() {
            last.has_gaps |= cut.base > base;
        }
        self.end = cut.base;
        self.committed = self.committed.min(cut.base);
        self.clean_marks.cut_back(cut.base);
        self.transactions.cut_back(cut.base);
        self.cuts += 1;
        if note.anew {
            (self.committed, self.lost) = (cut.base, None);
            self.producers = Producers::default();
            self.transactions = Transactions::default();
            self.epochs = Epochs::new(LeaderEpoch(0), cut.base);
            self.log_start = cut.base;
            self.starts.clear();
            self.durable_start = self.durable_start.min(cut.base);
        }
        self.start_segment(cut.next, cut.base, wall_ms);
        self.set_log_start(self.segments[0].base);
        self.epochs.end_at(self.end);
        for hints in [&mut self.hints, &mut self.push_hints] {
            hints.forget_behind(cut.segment, cut.len, cut.base);
        }
        self.lookups.clear();
        (self.failed_scan, self.seen, self.rebuild) = (None, None, None);
        self.move_marks_back(note.anew);
        // Without a segment before there is a gap that has become its end.
        self.committed = self.committed.max(self.high_watermark.offset);
        Ok(())
    }

    /// No mark stands behind the end, nor is anything waited for there.
    fn move_marks_back(&mut self, all: bool) {
        let end = self.end_position();
        let last = self.segments.iter().rev().nth(1).map(|s| s.id);
        // With a segment that begins with a gap, places before the end may go.
        let is_gone = |at: &Position| all || at.offset >= end.offset || Some(at.segment) > last;
        self.places.retain(|place| !is_gone(place));
        if is_gone(&self.durable) {
            self.durable = end;
        }
        if is_gone(&self.stable_seen) {
            // What comes in its place is news.
            self.stable_seen = end;
        }
        if is_gone(&self.high_watermark) {
            let committed = self.high_watermark.offset;
            let before = self.segments.iter().rev().nth(1);
            self.high_watermark = match before.filter(|_| !all && committed < end.offset) {
                // What is left out before the end is not committed by that.
                Some(before) => Position {
                    offset: committed,
                    segment: before.id,
                    pos: before.len,
                },
                None => end,
            };
        }
        if self.places.back().unwrap_or(&self.high_watermark).offset < self.durable.offset {
            self.places.push_back(self.durable);
        }
        // The first flush that reaches beyond the end reaches it.
        let beyond = self.pending.iter().position(|(_, at)| is_gone(at));
        if let Some(beyond) = beyond {
            self.pending.truncate(beyond + 1);
            self.pending[beyond].1 = end;
        }
        let durable = self.durable.offset;
        self.pending.retain(|(_, at)| at.offset > durable);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Draft, Fixture, START_MS};
    use super::super::{LogConfig, Truncation};
    use crate::base::Offset;
    use crate::base::limits::CUT_HEADERS_PER_SLICE;

    /// What is in memory needs no read to stop at.
    #[test]
    fn memory_is_gone_through_in_slices() {
        const BATCHES: usize = 20_000;
        let mut f = Fixture::new(LogConfig::default(), 64 << 20);
        f.fill(BATCHES as i64, 10);
        let end = BATCHES as i64 - 10;
        assert_eq!((f.truncate(end), f.scans), (Ok(end), 0));
        // A slice ends with the window that exceeds it.
        assert!(f.cuts > BATCHES / (2 * CUT_HEADERS_PER_SLICE), "{}", f.cuts);
        assert_eq!(f.log.end_offset().0, end);
        f.settle();
        f.restart();
        assert_eq!(f.log.end_offset().0, end);
    }

    #[test]
    fn what_no_flush_has_taken_is_waited_for() {
        let mut f = Fixture::new(LogConfig::default(), 64 << 20);
        f.fill(5, 10);
        let append = |f: &mut Fixture| f.append(&Draft::plain(&[START_MS], 10)).unwrap().flush;
        let waits = |f: &mut Fixture, offset| {
            let store = &mut f.disk.store;
            match f.log.truncate(f.now, Offset(offset), store).unwrap() {
                Truncation::Unflushed(flush) => Some(flush),
                Truncation::Done { end, .. } => {
                    assert_eq!(end.0, offset);
                    None
                }
                other => panic!("{other:?}"),
            }
        };
        let flush = append(&mut f);
        append(&mut f);
        assert_eq!(waits(&mut f, 6), flush);
        assert_eq!(f.log.end_offset(), Offset(7), "nothing is changed");
        // What is on the disk already does not wait, and what comes after it is of a segment that waits with it.
        assert_eq!(waits(&mut f, 3), None);
        let flush = append(&mut f);
        append(&mut f);
        assert_eq!(waits(&mut f, 4), flush);
        f.disk.start();
        assert_eq!(waits(&mut f, 4), None);
        f.settle();
        f.restart();
        assert_eq!(f.log.end_offset(), Offset(4));
    }
}
