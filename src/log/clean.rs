//! Compaction (`cleanup.policy=compact`): what of a log is to be gone through, and what becomes of its tables when
//! segments that were cleaned take the place of others. Offsets stay what they are; a cleaned segment has gaps.
//!
//! What is not known to be committed, and the active segment, are never touched. A segment keeps a batch at least,
//! if need be one that is emptied, so that it goes on to begin where it began.

use std::ops::Range;

use bytes::Bytes;

use super::Log;
use super::clean_marks::CleanMarks;
use super::codec::{Malformed, Reader, Writer};
use super::hints::Position;
use super::notes::Note;
use super::segment::{BatchEntry, SEGMENT_BYTES_MAX, SEGMENT_DELTA_MAX, Segment};
use super::state::{read_segment, write_segment};
use crate::base::limits::ABORTED_TRANSACTIONS_PER_SEGMENT;
use crate::base::{LeaderEpoch, Mono, NodeId, Now, Offset, SegmentId};
use crate::record::BatchInfo;
use crate::store::{Cleaned, FlushSeq, Store};

/// Of the note.
const VERSION: u8 = 2;
/// The same without which batches are left as they are.
const VERSION_WITHOUT_LEFT: u8 = 1;

/// What there is to clean in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirt {
    /// Everything before it was cleaned before.
    pub from: Offset,
    /// Up to here it may be cleaned; greater than `from`.
    pub to: Offset,
    /// Bytes between them, rounded to segments.
    pub bytes: u64,
    /// Bytes before that.
    pub clean_bytes: u64,
    /// The log has so many aborted transactions that soon none may begin any more.
    pub is_full: bool,
}

impl Dirt {
    /// The dirty share of it all, in millionths: who has most is cleaned first.
    #[must_use]
    pub fn millionths(&self) -> u64 {
        let all = self.bytes.saturating_add(self.clean_bytes).max(1);
        (u128::from(self.bytes) * 1_000_000 / u128::from(all)) as u64
    }
}

/// Segments that become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleaningGroup {
    cleaned: Cleaned,
    /// Their first offset.
    pub base: Offset,
    /// The first offset behind them.
    pub end: Offset,
    /// Bytes of all of them: another log has other ones.
    bytes: u64,
}

impl CleaningGroup {
    /// Bytes of its segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// By so much what is left of it may be longer.
    #[must_use]
    pub fn spare(&self) -> u64 {
        SEGMENT_BYTES_MAX.saturating_sub(self.bytes)
    }
}

/// What is left of a group, as it is written.
#[derive(Clone, Debug)]
pub struct CleanSegment {
    segment: Segment,
}

impl CleanSegment {
    /// The next batch that stays, which lies within the group. False if the segment would be longer with it than one
    /// can be: what is packed again may be longer than it was.
    #[must_use]
    pub fn add(&mut self, info: &BatchInfo) -> bool {
        let (base, epoch) = (Offset(info.base_offset), LeaderEpoch(info.leader_epoch));
        let entry = BatchEntry::new(info, base, epoch);
        let Some(entry) = entry.filter(|entry| self.segment.fits(entry)) else {
            return false;
        };
        let modified_ms = self.segment.modified_ms;
        self.segment.add(&entry, modified_ms);
        true
    }

    /// Whether there is no batch yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segment.batches == 0
    }

    /// Bytes of all batches.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segment.len
    }
}

/// What is written down when a cleaned segment takes its place.
#[derive(Debug)]
pub(super) struct CleanNote {
    segment: Segment,
    marks: CleanMarks,
    /// From the first to behind the last segment that the pass has left as it is so far: what was aborted may be left
    /// there.
    skipped: Range<Offset>,
}

impl CleanNote {
    fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.byte(VERSION);
        write_segment(&mut out, &self.segment);
        self.marks.write(&mut out);
        out.signed(self.skipped.start.0);
        out.signed(self.skipped.end.0);
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let version = input.byte()?;
        if ![VERSION_WITHOUT_LEFT, VERSION].contains(&version) {
            return Err(Malformed::VERSION);
        }
        let segment = read_segment(&mut input, 0)?;
        let (marks, skipped) = match version {
            VERSION => {
                let marks = CleanMarks::read(&mut input)?;
                (marks, input.offset()?..input.offset()?)
            }
            _ => {
                let marks = CleanMarks::read_without_left(&mut input)?;
                (marks, Offset(0)..Offset(0))
            }
        };
        input.end()?;
        Ok(Self {
            segment,
            marks,
            skipped,
        })
    }
}

impl Log {
    /// Whether of each key only the newest record is to stay.
    #[must_use]
    pub fn is_compacted(&self) -> bool {
        self.config.compaction.is_some()
    }

    /// What a compaction could clean now; `None` if that is too little, or the log is not compacted.
    #[must_use]
    pub fn dirt(&self, now: Now) -> Option<Dirt> {
        let config = self.config.compaction?;
        if self.lost.is_some() || self.rebuild.is_some() {
            return None;
        }
        let start = self.clean_marks.cleaned.max(self.log_start);
        let (mut clean_bytes, mut bytes, mut to, mut oldest) = (0, 0, start, i64::MAX);
        for (number, segment) in self.segments.iter().enumerate() {
            let Some(next) = self.segments.get(number + 1) else {
                break;
            };
            let is_young = config.min_lag_ms > 0 && segment.age_ms(now.wall_ms) < config.min_lag_ms;
            let is_committed = next.base <= self.cleanable_to();
            if next.base <= start {
                clean_bytes += segment.len;
            } else if is_young || !is_committed {
                break;
            } else {
                bytes += segment.len;
                to = next.base;
                let began = match segment.first_timestamp {
                    timestamp @ 0.. => timestamp,
                    _ => segment.created_ms,
                };
                oldest = oldest.min(began);
            }
        }
        let dirt = Dirt {
            from: start,
            to,
            bytes,
            clean_bytes,
            is_full: self.transactions.aborted()
                > ABORTED_TRANSACTIONS_PER_SEGMENT.max(self.aborted_max / 2),
        };
        let is_overdue = now.wall_ms.saturating_sub(oldest) > config.max_lag_ms;
        let is_enough = dirt.millionths() > config.min_dirty_millionths;
        (to > start && (is_enough || is_overdue || dirt.is_full)).then_some(dirt)
    }

    /// What is before it is committed and here for good, and no transaction is undecided there.
    pub(super) fn cleanable_to(&self) -> Offset {
        let to = self.high_watermark().min(self.durable.offset);
        to.min(self.last_stable())
    }

    /// Where the log's segments begin, and where the one ends in which `offset` is, or that ends there.
    #[must_use]
    pub fn cleaning_bounds(&self, offset: Offset) -> (Offset, Offset) {
        let next = self.segments.partition_point(|s| s.base < offset);
        let end = self.segments.get(next).map_or(self.end, |next| next.base);
        (self.segments[0].base, end)
    }

    /// The segments from `from` on, where one begins or that is inside of one, which are cleaned next, together and
    /// all of them before `to`; no more than fit `segment.bytes`, but one at least. `None` if there are none.
    #[must_use]
    pub fn cleaning_group(&self, from: Offset, to: Offset) -> Option<CleaningGroup> {
        let after = self.segments.partition_point(|s| s.base <= from);
        let first_number = after.saturating_sub(1);
        let first = self.segments.get(first_number)?;
        let mut bytes = 0;
        let mut group = None;
        for (number, segment) in self.segments.iter().enumerate().skip(first_number) {
            let to = to.min(self.cleanable_to());
            let Some(next) = self.segments.get(number + 1).filter(|next| next.base <= to) else {
                break;
            };
            bytes += segment.len;
            // Where no other id is free, as in stores of builds without compaction, one more is taken.
            let wanted = self.config.segment_bytes.min(SEGMENT_BYTES_MAX);
            let fits = bytes <= wanted && next.base.0 - first.base.0 <= SEGMENT_DELTA_MAX;
            if group.is_some() && !fits {
                break;
            }
            let before = first_number
                .checked_sub(1)
                .and_then(|n| self.segments.get(n));
            let before = before.map(|before| before.id);
            if let Some(by) = SegmentId::replacing((first.id, segment.id), before, next.id) {
                group = Some(CleaningGroup {
                    cleaned: Cleaned {
                        replaced: (first.id, segment.id),
                        by,
                    },
                    base: first.base,
                    end: next.base,
                    bytes,
                });
            }
        }
        group.filter(|group| group.bytes <= SEGMENT_BYTES_MAX)
    }

    /// Where the segment ends that begins at `from`, or in which that is, if it ends at `to` at the latest and may be
    /// cleaned: it [stays as it is](Self::cleaning_group) then for want of an id.
    #[must_use]
    pub fn uncleanable_end(&self, from: Offset, to: Offset) -> Option<Offset> {
        let after = self.segments.partition_point(|s| s.base <= from);
        let next = self.segments.get(after)?;
        (next.base <= to.min(self.cleanable_to())).then_some(next.base)
    }

    /// What is left of a group, before anything is.
    #[must_use]
    pub fn begin_clean(&self, group: &CleaningGroup) -> Option<CleanSegment> {
        let (_, first) = self.segment(group.cleaned.replaced.0)?;
        let (_, last) = self.segment(group.cleaned.replaced.1)?;
        let mut segment = Segment::new(group.cleaned.by, group.base, 0, first.created_ms);
        segment.modified_ms = last.modified_ms;
        segment.has_gaps = true;
        Some(CleanSegment { segment })
    }

    /// Whether a batch is the last one that is known of its producer: something of it has to stay, or a replica that
    /// reads it would not know the producer.
    #[must_use]
    pub fn is_last_of_producer(&self, info: &BatchInfo) -> bool {
        self.producers.is_last(info)
    }

    /// Whether an epoch begins with a batch, or is known from there on: something of it has to stay, or a replica that
    /// reads it would take what an older epoch has written there for its leader's.
    #[must_use]
    pub fn begins_epoch(&self, info: &BatchInfo) -> bool {
        let offsets = Offset(info.base_offset)..=Offset(info.last_offset());
        self.epochs.begins_in(offsets)
    }

    /// Whether the segments of a group are what they were.
    #[must_use]
    pub fn has_group(&self, group: &CleaningGroup) -> bool {
        let (first, last) = group.cleaned.replaced;
        let (Some((from, first)), Some((to, last))) = (self.segment(first), self.segment(last))
        else {
            return false;
        };
        let next = self.segments.get(to + 1);
        from <= to
            && first.base == group.base
            && last.start + last.len - first.start == group.bytes
            && next.is_some_and(|next| next.base == group.end)
            && self.rebuild.is_none()
    }

    /// What is left of a group takes its place, in the store too, where it is durable, and the marks go as far as these
    /// at least. `removed`: tombstones of it before that; `skipped`: segments before it that stay as they are. `None`,
    /// and nothing is changed, if the group is not [what it was](Self::has_group).
    pub(super) fn end_cleaning(
        &mut self,
        group: &CleaningGroup,
        clean: CleanSegment,
        (marks, removed, skipped): (CleanMarks, Offset, Range<Offset>),
        store: &mut Store,
    ) -> Option<FlushSeq> {
        if !self.has_group(group) || clean.is_empty() {
            return None;
        }
        self.before_change(store);
        let note = CleanNote {
            segment: clean.segment,
            marks: self.clean_marks.and(marks, self.log_start),
            skipped,
        };
        let flush = store.end_cleaning(self.id, group.cleaned, note.encode());
        if let Err(what) = self.replace_segments(&group.cleaned, note) {
            debug_assert!(false, "{what}");
        }
        self.gone_tombstones.removed(removed);
        Some(flush)
    }

    /// What [`end_cleaning`](Self::end_cleaning) does in the bookkeeping: the one way for compaction and recovery.
    pub(super) fn replace_segments(
        &mut self,
        cleaned: &Cleaned,
        note: CleanNote,
    ) -> Result<(), String> {
        let (first, last) = cleaned.replaced;
        let numbers = self.segment(first).zip(self.segment(last));
        let Some(((from, was_first), (to, was_last))) = numbers.filter(|(a, b)| a.0 <= b.0) else {
            return Err(format!(
                "segments {first} to {last} are cleaned and not there"
            ));
        };
        let Some(next) = self.segments.get(to + 1) else {
            return Err(format!("segment {last} is cleaned and is the active one"));
        };
        let bytes = was_last.start + was_last.len - was_first.start;
        let mut segment = note.segment;
        let before = from.checked_sub(1).and_then(|n| self.segments.get(n));
        let before = before.map(|before| before.id);
        let in_place = cleaned.fits(before, next.id);
        if segment.id != cleaned.by
            || segment.base != was_first.base
            || segment.batches == 0
            || !in_place
        {
            return Err(format!(
                "segment {first} is cleaned and becomes another one"
            ));
        }
        let behind = Position {
            offset: next.base,
            segment: next.id,
            pos: 0,
        };
        // What is longer than it was shifts what comes behind it, what is shorter all that was before.
        let (saved, added) = (
            bytes.saturating_sub(segment.len),
            segment.len.saturating_sub(bytes),
        );
        segment.start = was_first.start + saved;
        for before in self.segments.range_mut(..from) {
            before.start += saved;
        }
        for after in self.segments.range_mut(to + 1..) {
            after.start += added;
        }
        self.transactions.cleaned_to(behind.offset, note.skipped);
        self.segments.drain(from..=to);
        self.segments.insert(from, segment);
        self.producers.replaced((first, last), cleaned.by);
        let is_gone = |at: SegmentId| first <= at && at <= last;
        for mark in [&mut self.durable, &mut self.high_watermark] {
            // In recovery it may be older than what was cleaned, all of which was committed.
            if is_gone(mark.segment) {
                *mark = behind;
            }
        }
        self.committed = self.committed.max(self.high_watermark.offset);
        self.places.retain(|place| !is_gone(place.segment));
        self.hints.forget_between(first, last);
        self.push_hints.forget_between(first, last);
        self.lookups.clear();
        (self.failed_scan, self.seen) = (None, None);
        self.clean_marks = note.marks;
        Ok(())
    }

    /// It is clean as far as that, though nothing of it was written anew: the next checkpoint says so.
    pub(super) fn is_clean(&mut self, marks: CleanMarks) {
        self.clean_marks = self.clean_marks.and(marks, self.log_start);
    }

    /// How far it is cleaned.
    pub(super) fn clean_marks(&self) -> CleanMarks {
        self.clean_marks
    }

    /// Grows with each cut: what was gathered before one is not of this log any more.
    pub(super) fn cuts(&self) -> u64 {
        self.cuts
    }

    /// The log that this one follows, or begins anew from, has lost tombstones before this offset, so this one may lack
    /// them too. On the disk with what is appended next, or before.
    pub fn inherit_tombstones(&mut self, gone: Offset, store: &mut Store) {
        if gone > self.clean_marks.tombstones {
            self.before_change(store);
            store.note(self.id, Note::Tombstones(gone).encode());
            self.tombstones_are_gone(gone);
        }
    }

    /// The same in the bookkeeping.
    pub(super) fn tombstones_are_gone(&mut self, before: Offset) {
        self.clean_marks.tombstones = self.clean_marks.tombstones.max(before);
    }

    /// Replicas that catch up may still need tombstones from this offset on: they stay.
    pub(super) fn tombstones_held_from(&self, now: Mono) -> Offset {
        self.gone_tombstones.held_from(now)
    }

    /// A replica that catches up has not come beyond this offset: tombstones that follow it stay for it, until then.
    pub fn hold_tombstones(&mut self, node: NodeId, from: Offset, until: Mono) {
        self.gone_tombstones.hold(node, from, until);
    }

    /// How often compaction has removed tombstones here since this process has the log.
    #[must_use]
    pub fn tombstones_removed(&self) -> u64 {
        self.gone_tombstones.count()
    }

    /// Before which offset it has removed some since it had done so [so often](Self::tombstones_removed); `None` if it
    /// has not.
    #[must_use]
    pub fn tombstones_removed_since(&self, count: u64) -> Option<Offset> {
        self.gone_tombstones.since(count)
    }

    /// Compaction has removed no tombstone at this offset or behind it, of those that are in this log or were. Another
    /// replica that ends before it may have records that such a tombstone deleted, and nothing would tell it: it has to
    /// start over.
    #[must_use]
    pub fn tombstones_removed_before(&self) -> Offset {
        // Those were committed, whether it is known here already or not.
        self.clean_marks.tombstones.min(self.end_offset())
    }
}
