//! One pass of compaction over a log. First the keys of what is dirty are gathered, with the offset of the newest
//! record of each, as far as there is memory for them. Then the log is gone through from its beginning, a group of
//! segments after the other, and of each key only what is not older than that is written anew; what was written takes
//! the place of the group. A pass that ends in the middle leaves groups that are cleaned and others that are not.
//!
//! Records of aborted transactions go; a marker goes like a tombstone, with nothing of its transaction left: `spent`.
//! A pass ends before the last stable offset, so every transaction that it meets is decided.
//!
//! A tombstone stays until `delete.retention.ms` have gone by since a pass has met it, as long as anything older of its
//! key may still be there, and while a replica that catches up has not come to it.
//!
//! What cannot be opened stays as it is: a batch that produce has taken unopened, and that is malformed or too much.

use std::ops::Range;

use bytes::Bytes;

use super::clean::{CleanSegment, CleaningGroup, Dirt};
use super::clean_marks::CleanMarks;
use super::spent::KeptTransactions;
use super::{CompactionConfig, Log, NewestOffsets};
use crate::base::limits::COMPACTION_OPEN_BYTES_MAX;
use crate::base::{LeaderEpoch, Mono, Now, Offset};
use crate::record::{
    BatchError, BatchInfo, EndMarker, KeyWalk, KeyedRecord, Thinned, Thinning, check_crc, emptied,
    parse, with_horizon,
};
use crate::store::{FlushSeq, Store};

/// What a key costs that has to be moved to a larger table, in bytes decompressed.
const MOVED_COST: usize = 8;
/// What a batch costs besides its bytes, read and written, in bytes decompressed.
const BATCH_COST: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct CompactionPass {
    config: CompactionConfig,
    now_ms: i64,
    keys_bytes_max: usize,
    keys: NewestOffsets,
    /// Keys are gathered up to here, or are to be.
    keys_to: Offset,
    /// Where the last group ends.
    to: Offset,
    /// The first offset that was not looked at in this phase.
    next: Offset,
    phase: Phase,
    /// The log's when it began.
    cuts: u64,
    /// Tombstones that stay, as earlier passes have left something older.
    older: Range<Offset>,
    /// Batches that were left as they are so far, from the first one to behind the last one: something older of a key
    /// may be left there.
    left: Option<Range<Offset>>,
    /// Segments that were, likewise: of those what was aborted may be left too.
    skipped: Option<Range<Offset>>,
    /// From here on tombstones stay for replicas that catch up.
    held_from: Offset,
    /// Where the last tombstone was that went, and one more: of those groups that have ended, and of the one at hand.
    tombstones: Offset,
    group_tombstones: Offset,
    /// Of what was gone through so far.
    transactions: KeptTransactions,
    /// Bytes of groups, before and after.
    pub bytes: (u64, u64),
}

#[derive(Debug)]
enum Phase {
    Keys(Option<KeyWalk>),
    /// Before a group.
    Between,
    Group(Box<Writing>),
    /// Before what is behind a group that stays as it is, up to here.
    Skips(Offset),
    Over,
}

impl Phase {
    /// What was begun with another batch is given up: the log starts behind that one now.
    fn goes_on_with(&mut self, info: &BatchInfo) {
        match self {
            Self::Keys(walk) => {
                walk.take_if(|walk| walk.info().base_offset != info.base_offset);
            }
            Self::Group(writing) => {
                let thinning = &mut writing.thinning;
                thinning.take_if(|it| it.info().base_offset != info.base_offset);
            }
            Self::Between | Self::Skips(_) | Self::Over => {}
        }
    }
}

/// A group while what is left of it is written.
#[derive(Debug)]
struct Writing {
    group: CleaningGroup,
    segment: CleanSegment,
    thinning: Option<Thinning>,
    /// The last batch that was left out.
    left_out: Option<BatchInfo>,
    /// By so much what is left may be longer than what there was of it.
    spare: u64,
}

/// What has to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum PassNeeds {
    /// The batches from this offset on are to be [looked at](CompactionPass::look).
    Batches(Offset),
    /// What is left of the next group is about to be written: its base offset.
    Begin(Offset),
    /// This is to be written, as a batch that stays.
    Write(KeptBatch),
    /// What is left of a group is written: when that is durable, [it ends](CompactionPass::end_group).
    End,
    /// A group stays as it is, and what was begun of it, if anything was, is given up: then the pass [goes
    /// past](CompactionPass::skip) it.
    Skip,
    /// Nothing.
    Nothing,
}

/// A batch that stays, and what is to be stamped on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBatch {
    /// All of it.
    pub batch: Bytes,
    /// Its base offset.
    pub base_offset: Offset,
    /// The epoch that wrote it.
    pub epoch: LeaderEpoch,
}

/// How far a batch was looked at.
#[derive(Debug, PartialEq, Eq)]
pub enum LookedAt {
    /// There is more: the same batch again.
    Part,
    /// All of it, and it is to be written, or nothing of it.
    All(Option<KeptBatch>),
    /// It comes behind what this phase is about.
    Beyond,
}

impl CompactionPass {
    /// A pass over a log that is [dirty enough](Log::dirt), with so much memory for keys, and for those of one batch
    /// more.
    #[must_use]
    pub fn begin(log: &Log, now: Now, keys_bytes_max: usize) -> Option<Self> {
        let Dirt { from, to, .. } = log.dirt(now)?;
        Some(Self {
            config: log.config().compaction?,
            now_ms: now.wall_ms,
            keys_bytes_max,
            keys: NewestOffsets::default(),
            keys_to: to,
            to,
            next: from,
            phase: Phase::Keys(None),
            cuts: log.cuts(),
            older: log.clean_marks().held_by_older(log.start_offset()),
            left: None,
            skipped: None,
            held_from: log.tombstones_held_from(now.mono),
            tombstones: Offset(0),
            group_tombstones: Offset(0),
            transactions: KeptTransactions::default(),
            bytes: (0, 0),
        })
    }

    /// The keys that were gathered, of a pass that is over: to be let go bit by bit.
    pub fn take_keys(&mut self) -> NewestOffsets {
        std::mem::take(&mut self.keys)
    }

    /// What has to be done next.
    pub fn needs(&mut self, now: Mono, log: &Log) -> PassNeeds {
        if log.cuts() != self.cuts || !log.is_compacted() {
            self.phase = Phase::Over;
        }
        loop {
            match &mut self.phase {
                Phase::Keys(_) if self.next < self.keys_to => return PassNeeds::Batches(self.next),
                Phase::Keys(_) => {
                    let (start, end) = log.cleaning_bounds(self.keys_to);
                    (self.next, self.to) = (start, self.to.min(end));
                    self.phase = Phase::Between;
                }
                Phase::Between => {
                    let group = log.cleaning_group(self.next, self.to);
                    let begun = group.and_then(|group| Writing::begin(group, log));
                    if let Some(writing) = begun {
                        // A replica may have begun to catch up since the last one.
                        self.held_from = self.held_from.min(log.tombstones_held_from(now));
                        let base = writing.group.base;
                        self.phase = Phase::Group(Box::new(writing));
                        return PassNeeds::Begin(base);
                    }
                    let Some(end) = log.uncleanable_end(self.next, self.to) else {
                        self.phase = Phase::Over;
                        return PassNeeds::Nothing;
                    };
                    let from = self.next;
                    extend(&mut self.left, from..end);
                    extend(&mut self.skipped, from..end);
                    self.phase = Phase::Skips(end);
                }
                Phase::Skips(_) => return PassNeeds::Skip,
                Phase::Group(writing) if self.next < writing.group.end => {
                    return PassNeeds::Batches(self.next);
                }
                Phase::Group(writing) if !writing.segment.is_empty() => return PassNeeds::End,
                Phase::Group(writing) => {
                    // A segment has a batch.
                    if let Some(info) = writing.left_out.take()
                        && let Ok(kept) = writing.keep(emptied(&info))
                    {
                        return PassNeeds::Write(kept);
                    }
                    // The log starts behind all of them, in a gap.
                    self.phase = Phase::Skips(writing.group.end);
                }
                Phase::Over => return PassNeeds::Nothing,
            }
        }
    }

    /// Whether it has come to its end: else the log was cut meanwhile, or nothing can take the place of a segment.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Over) && self.next >= self.to
    }

    /// Whether all that this phase is about can be read: nothing that is read then is there.
    #[must_use]
    pub fn is_readable(&self, log: &Log) -> bool {
        self.limit() <= log.cleanable_to()
    }

    /// Where this phase ends.
    fn limit(&self) -> Offset {
        match &self.phase {
            Phase::Keys(_) => self.keys_to,
            Phase::Group(writing) => writing.group.end,
            Phase::Between | Phase::Skips(_) | Phase::Over => Offset(0),
        }
    }

    /// Nothing is to be read any more before where this phase ends.
    pub fn nothing_more(&mut self) {
        self.next = self.next.max(self.limit());
    }

    /// Looks at a batch, the first one that ends at or behind what [it needs](Self::needs), until `work` is used up,
    /// counted in bytes decompressed.
    ///
    /// # Errors
    /// It is no batch, or its CRC is wrong: the log is to be left as it is.
    pub fn look(
        &mut self,
        log: &Log,
        batch: &Bytes,
        work: &mut usize,
    ) -> Result<LookedAt, BatchError> {
        let info = parse(batch)?;
        if info.base_offset >= self.limit().0 {
            self.nothing_more();
            return Ok(LookedAt::Beyond);
        }
        self.phase.goes_on_with(&info);
        let looked = match &mut self.phase {
            // What the broker says in it has no keys; what was aborted takes nothing's place.
            Phase::Keys(None) if info.is_control() || log.is_aborted(&info, work) => {
                *work = work.saturating_sub(BATCH_COST);
                LookedAt::All(None)
            }
            Phase::Keys(walk) => Self::gather(&mut self.keys, walk, batch, work)?,
            Phase::Group(_) => self.thin(log, &info, batch, work)?,
            Phase::Between | Phase::Skips(_) | Phase::Over => LookedAt::Beyond,
        };
        if let LookedAt::All(_) = looked {
            self.next = Offset(info.last_offset() + 1);
            if matches!(self.phase, Phase::Keys(_)) && self.keys.bytes() >= self.keys_bytes_max {
                self.keys_to = self.keys_to.min(self.next);
            }
        }
        Ok(looked)
    }

    /// Gathers the keys of a batch.
    fn gather(
        keys: &mut NewestOffsets,
        walk: &mut Option<KeyWalk>,
        batch: &Bytes,
        work: &mut usize,
    ) -> Result<LookedAt, BatchError> {
        let begun = match walk.take() {
            Some(walk) => Ok(walk),
            None => begin(batch, work, KeyWalk::new),
        };
        let looked = begun.and_then(|mut walk| {
            let mut moved = 0;
            let all = walk.go_on(work, &mut |record, _, _| {
                if let Some(key) = record.key {
                    moved += keys.note(key, Offset(record.offset));
                }
            })?;
            *work = work.saturating_sub(moved * MOVED_COST);
            Ok((all, walk))
        });
        match looked {
            Ok((false, begun)) => *walk = Some(begun),
            Ok((true, _)) => return Ok(LookedAt::All(None)),
            Err(BatchError::Crc) => return Err(BatchError::Crc),
            // It stays as it is, so what was seen of its keys holds: who reads it gets as far.
            Err(_) => return Ok(LookedAt::All(None)),
        }
        Ok(LookedAt::Part)
    }

    /// Takes out of a batch what is not the newest of its key.
    fn thin(
        &mut self,
        log: &Log,
        info: &BatchInfo,
        batch: &Bytes,
        work: &mut usize,
    ) -> Result<LookedAt, BatchError> {
        let Phase::Group(writing) = &mut self.phase else {
            return Ok(LookedAt::Beyond);
        };
        if info.is_control() && info.is_transactional() && EndMarker::read(batch).is_some() {
            return self.thin_marker(log, info, batch, work);
        }
        if info.is_control() {
            begin(batch, work, |_, _| Ok(()))?;
            return writing.put(info, batch.clone());
        }
        let stays = log.is_last_of_producer(info) || log.begins_epoch(info);
        if writing.thinning.is_none() && log.is_aborted(info, work) {
            begin(batch, work, |_, _| Ok(()))?;
            return writing.leave_out(info, stays);
        }
        let begun = match writing.thinning.take() {
            Some(thinning) => Ok(thinning),
            None => begin(batch, work, Thinning::new),
        };
        let is_past = info.delete_horizon_ms().is_some_and(|at| at < self.now_ms);
        let goes = is_past && self.left.is_none();
        // Of one behind the keys nobody knows what is older.
        let (keys, older) = (&self.keys, &self.older);
        let goes_before = self.keys_to.min(self.held_from);
        let tombstones = &mut self.group_tombstones;
        let mut keep = |record: &KeyedRecord<'_>| {
            let Some(key) = record.key else {
                return false;
            };
            let offset = Offset(record.offset);
            if !keys.is_newest(key, offset) {
                return false;
            }
            if record.is_tombstone && goes && offset < goes_before && !older.contains(&offset) {
                *tombstones = offset.plus(1).max(*tombstones);
                return false;
            }
            true
        };
        let horizon = self.now_ms.saturating_add(self.config.delete_retention_ms);
        let looked = begun.and_then(|mut thinning| {
            let thinned = match thinning.go_on(work, &mut keep)? {
                true => thinning.pack(horizon, work)?,
                false => None,
            };
            if thinned.is_none() {
                writing.thinning = Some(thinning);
            }
            Ok(thinned)
        });
        let kept = match looked {
            Ok(None) => return Ok(LookedAt::Part),
            Ok(Some(Thinned::Whole)) => batch.clone(),
            Ok(Some(Thinned::Part(part))) if writing.has_room(info, &part) => part,
            Ok(Some(Thinned::Nothing)) => return writing.leave_out(info, stays),
            Err(BatchError::Crc) => return Err(BatchError::Crc),
            // What is packed again may be longer than it was, and more than fits a segment.
            Ok(Some(Thinned::Part(_))) | Err(_) => {
                let put = writing.put(info, batch.clone())?;
                self.transactions.keep(info);
                let left = Offset(info.base_offset)..Offset(info.last_offset() + 1);
                extend(&mut self.left, left);
                return Ok(put);
            }
        };
        self.transactions.keep(&parse(&kept)?);
        writing.put(info, kept)
    }

    /// Decides about the end of a transaction.
    fn thin_marker(
        &mut self,
        log: &Log,
        info: &BatchInfo,
        batch: &Bytes,
        work: &mut usize,
    ) -> Result<LookedAt, BatchError> {
        let Phase::Group(writing) = &mut self.phase else {
            return Ok(LookedAt::Beyond);
        };
        begin(batch, work, |_, _| Ok(()))?;
        let is_empty = self.transactions.end(info.producer_id);
        let stays = log.is_last_of_producer(info) || log.begins_epoch(info);
        // What was passed as it is may have something of it.
        let is_spent = is_empty && !stays && self.left.is_none();
        let is_held = Offset(info.last_offset()) >= self.held_from;
        match info.delete_horizon_ms() {
            Some(at) if is_spent && at < self.now_ms && !is_held => {
                // Who has what it ended, and not itself, would wait for it for ever.
                let behind = Offset(info.last_offset() + 1);
                self.group_tombstones = self.group_tombstones.max(behind);
                writing.leave_out(info, false)
            }
            None if is_spent => {
                let horizon = self.now_ms.saturating_add(self.config.delete_retention_ms);
                let part = with_horizon(batch, horizon).ok();
                let part = part.filter(|part| writing.has_room(info, part));
                writing.put(info, part.unwrap_or_else(|| batch.clone()))
            }
            _ => writing.put(info, batch.clone()),
        }
    }

    /// Goes past a group that [stays as it is](PassNeeds::Skip).
    pub fn skip(&mut self, log: &mut Log) {
        let Phase::Skips(end) = self.phase else {
            return;
        };
        if log.cuts() == self.cuts && end >= self.to {
            log.is_clean(self.marks(true));
        }
        (self.phase, self.next) = (Phase::Between, end);
    }

    /// How far the log is cleaned when a group has ended: as long as others are to come, nothing says that they are
    /// clean.
    fn marks(&self, is_last: bool) -> CleanMarks {
        let (left, older) = match &self.left {
            Some(left) => (left.clone(), self.keys_to),
            None => (Offset(0)..Offset(0), Offset(0)),
        };
        CleanMarks {
            cleaned: if is_last { self.keys_to } else { Offset(0) },
            tombstones: self.tombstones,
            older,
            left_from: left.start,
            left_to: left.end,
        }
    }

    /// What is left of a group takes its place; all of it is durable. False if the log has changed meanwhile: then
    /// what was written is no good, and the pass is over.
    pub fn end_group(&mut self, log: &mut Log, store: &mut Store) -> Option<FlushSeq> {
        let Phase::Group(writing) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return None;
        };
        let Writing { group, segment, .. } = *writing;
        if log.cuts() != self.cuts {
            return None;
        }
        let removed = std::mem::take(&mut self.group_tombstones);
        self.tombstones = self.tombstones.max(removed);
        let marks = self.marks(group.end >= self.to);
        let after = segment.bytes();
        let skipped = self.skipped.clone().unwrap_or(Offset(0)..Offset(0));
        let flush = log.end_cleaning(&group, segment, (marks, removed, skipped), store)?;
        self.bytes.0 += group.bytes();
        self.bytes.1 += after;
        (self.phase, self.next) = (Phase::Between, group.end);
        Some(flush)
    }
}

/// What is left in one place, from the first to behind the last, comes to this too.
fn extend(left: &mut Option<Range<Offset>>, more: Range<Offset>) {
    match left {
        Some(left) => left.end = left.end.max(more.end),
        None => *left = Some(more),
    }
}

/// Begins with a batch, of which nothing was looked at.
fn begin<T>(
    batch: &Bytes,
    work: &mut usize,
    new: impl FnOnce(&Bytes, usize) -> Result<T, BatchError>,
) -> Result<T, BatchError> {
    /// Bytes that go into a checksum in the time of one decompressed.
    const CHECKED_PER_WORK: usize = 16;
    *work = work.saturating_sub(BATCH_COST + batch.len() / CHECKED_PER_WORK);
    if !check_crc(batch) {
        return Err(BatchError::Crc);
    }
    new(batch, COMPACTION_OPEN_BYTES_MAX)
}

impl Writing {
    fn begin(group: CleaningGroup, log: &Log) -> Option<Self> {
        let segment = log.begin_clean(&group)?;
        let spare = group.spare();
        Some(Self {
            group,
            segment,
            thinning: None,
            left_out: None,
            spare,
        })
    }

    /// Whether this can take the place of a batch, and all that follow it still fit.
    fn has_room(&self, info: &BatchInfo, part: &Bytes) -> bool {
        part.len() as u64 <= info.len as u64 + self.spare
    }

    /// This stays of a batch.
    fn put(&mut self, info: &BatchInfo, kept: Bytes) -> Result<LookedAt, BatchError> {
        self.spare = (self.spare + info.len as u64).saturating_sub(kept.len() as u64);
        Ok(LookedAt::All(Some(self.keep(kept)?)))
    }

    /// Nothing stays of a batch, or its header.
    fn leave_out(&mut self, info: &BatchInfo, header_stays: bool) -> Result<LookedAt, BatchError> {
        if header_stays {
            return self.put(info, emptied(info));
        }
        self.spare += info.len as u64;
        self.left_out = Some(*info);
        Ok(LookedAt::All(None))
    }

    fn keep(&mut self, batch: Bytes) -> Result<KeptBatch, BatchError> {
        let info = parse(&batch)?;
        match self.segment.add(&info) {
            true => Ok(KeptBatch {
                batch,
                base_offset: Offset(info.base_offset),
                epoch: LeaderEpoch(info.leader_epoch),
            }),
            false => Err(BatchError::TooLarge),
        }
    }
}
