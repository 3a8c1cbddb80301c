//! One partition's log, as bookkeeping: which offsets it has, which batch lies at
//! which byte of which segment, what is durable, which producer wrote what. The
//! bytes themselves are the store's. Pure: time comes in as [`Now`], bytes that
//! are not in memory come in through [`Log::scanned`].
//!
//! - `append` offsets, timestamps, idempotent producers, rolling; `verify` who may begin a transaction; `replicate`
//!   what another replica has stamped;
//! - `read` and `times` find offsets and timestamps, as read plans and scans;
//! - `clean` and `keys` are compaction;
//! - `stable` where what is committed ends for those who read that, and what they leave out (`transactions`);
//! - `retention` drops what is old, too much or deleted by a client;
//! - `state` and `recovery` are the way through a restart, `watermark` what is written of the high watermark for it;
//! - `segment`, `index`, `epochs`, `producers`, `hints` are the tables.

use std::collections::VecDeque;

use crate::base::limits::{ABORTED_TRANSACTIONS_PER_LOG_MAX, WATERMARK_PLACES_MAX};
use crate::base::{ErrorCode, LeaderEpoch, LogId, Now, Offset, SegmentId};
use crate::record::TimestampType;
use crate::store::{Beginning, FlushSeq, LogLabel, Store};

mod append;
mod check;
mod clean;
mod clean_marks;
mod codec;
pub mod compaction;
mod epochs;
mod hints;
mod index;
mod keys;
mod lookup;
mod message_size;
mod notes;
mod outcome;
mod producers;
mod read;
mod rebuild;
mod recent;
pub mod recovery;
mod replicate;
mod retention;
mod segment;
mod spent;
mod stable;
mod state;
mod steps;
mod times;
mod tombstones;
mod transactions;
mod truncate;
mod turned_away;
mod verified;
mod verify;
mod walk;
mod watermark;

#[cfg(test)]
mod clean_tests;
#[cfg(test)]
mod compaction_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod push_tests;
#[cfg(test)]
pub(crate) mod testing;

pub use clean_marks::CompactionConfig;
pub use epochs::UNDEFINED as UNDEFINED_EPOCH;
pub use keys::NewestOffsets;
pub use lookup::{Later, Opening};
pub use message_size::check_message_size;
pub use outcome::{Appended, ReadOutcome, Replicated, Ticket, TimeLookup, Truncation, Unfit};
pub use steps::{AbortedRange, ActiveProducer, EndOfTransaction, LogKept};
pub use verified::TransactionAdmission;

use clean_marks::CleanMarks;
use epochs::Epochs;
use hints::{Hints, Position};
use lookup::WaitingLookups;
use notes::Note;
use producers::Producers;
use rebuild::Rebuild;
use recent::Recent;
use segment::{BatchEntry, Segment};
use tombstones::GoneTombstones;
use transactions::Transactions;
use turned_away::TurnedAway;
use verified::Verifications;

/// The settings of a log, named as Kafka's topic settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `retention.ms`; negative for no limit, and for topics that are only compacted.
    pub retention_ms: i64,
    /// `retention.bytes`; negative for no limit, and for topics that are only compacted.
    pub retention_bytes: i64,
    /// `max.message.bytes`: the largest batch.
    pub max_message_bytes: u64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// The broker's `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// If of each key only the newest record is to stay.
    pub compaction: Option<CompactionConfig>,
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        Self {
            segment_bytes: 1024 * 1024 * 1024,
            segment_ms: 7 * DAY_MS,
            retention_ms: 7 * DAY_MS,
            retention_bytes: -1,
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 60 * 60 * 1000,
            producer_id_expiration_ms: DAY_MS,
            compaction: None,
        }
    }
}

/// One partition's log. See the module's description.
#[derive(Debug)]
pub struct Log {
    id: LogId,
    label: LogLabel,
    config: LogConfig,
    /// Oldest first, never empty; the last one is the active one.
    segments: VecDeque<Segment>,
    /// First offset that clients may read.
    log_start: Offset,
    /// The next offset to be written.
    end: Offset,
    epochs: Epochs,
    producers: Producers,
    recent: Recent,
    turned_away: TurnedAway,
    transactions: Transactions,
    /// With so many that were aborted none begins.
    aborted_max: usize,
    verifications: Verifications,
    /// Where it was stable when that was asked last.
    stable_seen: Position,
    /// Appended, not yet durable: where the log ends once a flush is. One entry per flush.
    pending: VecDeque<(FlushSeq, Position)>,
    /// Everything before it is on this node's disk.
    durable: Position,
    /// Everything before it may be read.
    high_watermark: Position,
    /// Everything before it is known to have been committed, and is here: the high watermark, or more if a leader has
    /// said so of what is not durable here yet.
    committed: Offset,
    /// What was known to be committed when a start found less: everything before this.
    lost: Option<Offset>,
    /// The high watermark that the store was told last.
    written: Option<Position>,
    /// The flush of the last cut, or of what was given up last, as long as that is not durable.
    cut: Option<FlushSeq>,
    /// Where the high watermark may go: ends of flushes that are durable, the last of them is where that ends.
    places: VecDeque<Position>,
    /// Moved, not yet durable: where the log starts once a flush is. One entry per flush.
    starts: VecDeque<(FlushSeq, Offset)>,
    /// Nothing before it comes back.
    durable_start: Offset,
    hints: Hints,
    /// Those of reads that may go beyond the high watermark, for themselves: a client's never begins there.
    push_hints: Hints,
    lookups: WaitingLookups,
    /// The last scan whose bytes were no good: whoever asks for it again is told, instead of being
    /// sent for the same bytes for ever.
    failed_scan: Option<(Ticket, ErrorCode)>,
    /// The batch in the file whose header the last scan saw, and how it begins; the read that follows may send it.
    seen: Option<(Position, Beginning)>,
    /// A truncation that waits for bytes.
    rebuild: Option<Box<Rebuild>>,
    clean_marks: CleanMarks,
    gone_tombstones: GoneTombstones,
    /// Grows with each cut, from when the log was made on.
    cuts: u64,
}

impl Log {
    /// Creates the log of a new partition in the store. It begins at offset 0, in leader epoch 0.
    pub fn create(
        id: LogId,
        label: LogLabel,
        config: LogConfig,
        now: Now,
        store: &mut Store,
    ) -> Self {
        store.create_log(id, label.clone(), Offset(0));
        let mut log = Self::empty(id, config);
        log.label = label;
        // Another log of the same id may have been here a moment ago.
        log.cuts = now.mono.0;
        log.start_segment(SegmentId::FIRST, Offset(0), now.wall_ms);
        log
    }

    /// A log without its first segment.
    fn empty(id: LogId, config: LogConfig) -> Self {
        let zero = Position {
            offset: Offset(0),
            segment: SegmentId::FIRST,
            pos: 0,
        };
        Self {
            id,
            label: LogLabel::default(),
            config,
            segments: VecDeque::new(),
            log_start: Offset(0),
            end: Offset(0),
            epochs: Epochs::new(LeaderEpoch(0), Offset(0)),
            producers: Producers::default(),
            recent: Recent::default(),
            turned_away: TurnedAway::default(),
            transactions: Transactions::default(),
            aborted_max: ABORTED_TRANSACTIONS_PER_LOG_MAX,
            verifications: Verifications::default(),
            stable_seen: zero,
            pending: VecDeque::new(),
            durable: zero,
            high_watermark: zero,
            committed: Offset(0),
            lost: None,
            written: None,
            cut: None,
            places: VecDeque::new(),
            starts: VecDeque::new(),
            durable_start: Offset(0),
            hints: Hints::default(),
            push_hints: Hints::default(),
            lookups: WaitingLookups::default(),
            failed_scan: None,
            seen: None,
            rebuild: None,
            clean_marks: CleanMarks::default(),
            gone_tombstones: GoneTombstones::default(),
            cuts: 0,
        }
    }

    /// Deletes it from the store.
    pub fn delete(self, store: &mut Store) -> FlushSeq {
        self.before_change(store);
        store.delete_log(self.id)
    }

    /// A checkpoint that is being made takes the log as it was when that began. To be called before anything is
    /// given to the store.
    fn before_change(&self, store: &mut Store) {
        if store.lacks(self.id) {
            store.give_state(self.id, self.state());
        }
    }

    /// Its id in the store.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    /// Topic and partition.
    #[must_use]
    pub fn label(&self) -> &LogLabel {
        &self.label
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings. What is in the log already is looked at by the next
    /// [`retain`](Self::retain).
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// The first offset that may be read (log start offset).
    #[must_use]
    pub fn start_offset(&self) -> Offset {
        self.log_start
    }

    /// The log start offset as it is on this node's disk: nothing before it comes back.
    #[must_use]
    pub fn durable_start(&self) -> Offset {
        self.durable_start
    }

    /// The first offset that may not be read yet.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        // A log start is never behind it, but may be on the disk before it.
        self.high_watermark.offset.max(self.log_start)
    }

    /// The first offset that is not on this node's disk yet.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.durable.offset
    }

    /// Whether the last cut is on this node's disk, and that what was lost is [given up](Self::give_up_lost). Before
    /// that a crash brings back what was cut off, or that something is lost, and of a log that
    /// has [started over](Self::start_over) elsewhere the durable end is none.
    #[must_use]
    pub fn is_cut_durable(&self) -> bool {
        self.cut.is_none()
    }

    /// The next offset to be written (log end offset).
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.end
    }

    /// The epoch that appends are stamped with.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.epochs.latest()
    }

    /// The epoch that wrote `offset`, as ListOffsets reports it.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        self.epochs.at(offset)
    }

    /// The answer to OffsetForLeaderEpoch: the last epoch not newer than `epoch`, and the offset at
    /// which it ended; [`UNDEFINED_EPOCH`] if there is no answer.
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        self.epochs.end_offset_for(epoch, self.end)
    }

    /// Appends from now on are stamped with `epoch`. No effect, and `None`, if it is not newer; nor if something [is
    /// lost](Self::lost_before) here, as long as that is not [given up](Self::give_up_lost): others may have it, and
    /// would have to drop it to become like this log.
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch, store: &mut Store) -> Option<FlushSeq> {
        if epoch <= self.leader_epoch() || self.lost.is_some() {
            return None;
        }
        self.before_change(store);
        self.epochs.assign(epoch, self.end);
        let note = Note::Epoch {
            epoch,
            start: self.end,
        };
        Some(store.note(self.id, note.encode()))
    }

    /// The epoch of its last record, whether that is deleted or not, as far as it is known.
    #[must_use]
    pub fn last_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.last_written(self.end)
    }

    /// Whether there is no record to be compared with those of another replica.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.log_start == self.end || self.size_bytes() == 0
    }

    /// Bytes of all batches, those before the log start in the first segment included.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.end_bytes() - self.segments.front().map_or(0, |first| first.start)
    }

    /// Number of segments.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// What it keeps of producers and of transactions.
    #[must_use]
    pub fn kept(&self) -> LogKept {
        LogKept {
            producers: self.producers.entries(),
            aborted: self.transactions.aborted(),
        }
    }

    /// How much of that it may keep from now on, at most what any partition may. Producers that are too many are
    /// forgotten by the next [`retain`](Self::retain); with too many aborted transactions none begins.
    pub fn limit_kept(&mut self, most: LogKept) {
        self.producers.limit(most.producers);
        self.aborted_max = most.aborted;
    }

    /// The newest flush that one of its marks waits for, or what says that it was cut: whoever gives it something to
    /// write has to tell it when that [is durable](Self::on_durable). `None` if all of it is.
    #[must_use]
    pub fn undurable(&self) -> Option<FlushSeq> {
        let (end, start) = (self.pending.back(), self.starts.back());
        let of_marks = end.map(|last| last.0).max(start.map(|last| last.0));
        of_marks.max(self.cut)
    }

    /// A flush and all before it are on the disk.
    pub fn on_durable(&mut self, flush: FlushSeq) {
        while let Some(&(waiting, end)) = self.pending.front() {
            if waiting > flush {
                break;
            }
            self.pending.pop_front();
            self.durable = end;
            self.places.truncate(WATERMARK_PLACES_MAX - 1);
            self.places.push_back(end);
        }
        while let Some(&(waiting, start)) = self.starts.front() {
            if waiting > flush {
                break;
            }
            self.starts.pop_front();
            self.durable_start = start;
        }
        self.cut = self.cut.filter(|cut| *cut > flush);
    }

    /// What is before `to` may be read, as far as it is durable here. The high watermark moves to the end of the last
    /// flush that does not reach beyond it, and never back. Returns the bytes that became readable.
    pub fn raise_high_watermark(&mut self, to: Offset) -> u64 {
        let before = self.high_watermark;
        while let Some(&place) = self.places.front()
            && place.offset <= to
        {
            self.places.pop_front();
            self.high_watermark = place;
        }
        if self.high_watermark == before {
            return 0;
        }
        self.committed = self.committed.max(self.high_watermark.offset);
        self.transactions.are_committed(self.high_watermark.offset);
        let bytes = self.log_bytes(&self.high_watermark);
        bytes.saturating_sub(self.log_bytes(&before))
    }

    /// The log start has moved; this is durable with the flush.
    fn start_moved(&mut self, flush: FlushSeq) {
        match self.starts.back_mut() {
            Some((waiting, start)) if *waiting == flush => *start = self.log_start,
            _ => self.starts.push_back((flush, self.log_start)),
        }
    }

    /// The bookkeeping of a batch that is in the store now: the one way for appends and recovery.
    /// The caller has checked that the active segment can take it.
    fn record_entry(&mut self, entry: &BatchEntry, wall_ms: i64, flush: FlushSeq) {
        (self.epochs).wrote(entry.epoch, entry.base_offset, self.end);
        if let Some(producer) = &entry.producer {
            self.turned_away.begun(producer.id);
        }
        let at = Position {
            offset: entry.base_offset,
            ..self.end_position()
        };
        let ended = self
            .producers
            .take(entry.remembered(), entry.transaction, at);
        if let Some(step) = &entry.transaction {
            // The end of one may have the epoch of the next one, which may be asked about already.
            let is_end = step.end.is_some();
            let epoch = step.producer_epoch.saturating_sub(i16::from(is_end));
            self.verifications.forget(step.producer_id, epoch);
            self.transactions
                .saw(entry.base_offset, entry.next_offset());
        }
        if let Some(ended) = ended {
            self.transactions.end(ended, self.producers.first_open());
        }
        let leaves_out = entry.base_offset > self.end;
        self.end = entry.next_offset();
        let active = self.active_mut();
        active.has_gaps |= leaves_out;
        active.add(entry, wall_ms);
        self.end_moved(flush);
    }

    /// The log ends elsewhere; this is durable with the flush.
    fn end_moved(&mut self, flush: FlushSeq) {
        let end = self.end_position();
        match self.pending.back_mut() {
            Some((waiting, reached)) if *waiting == flush => *reached = end,
            _ => self.pending.push_back((flush, end)),
        }
    }

    /// Begins a new active segment at the log's end.
    fn roll_at_end(&mut self, now: Now, store: &mut Store) -> FlushSeq {
        self.before_change(store);
        let id = self.active().id.next();
        let flush = store.roll(self.id, id, self.end);
        self.start_segment(id, self.end, now.wall_ms);
        flush
    }

    /// No batch will have the offsets from the end up to here.
    fn skip_to(&mut self, offset: Offset) {
        if offset > self.end {
            self.active_mut().has_gaps = true;
            self.epochs.leave_out(self.end, offset);
            self.end = offset;
        }
    }

    /// Begins a new active segment in the bookkeeping.
    fn start_segment(&mut self, id: SegmentId, base: Offset, wall_ms: i64) {
        let segment = Segment::new(id, base, self.end_bytes(), wall_ms);
        self.segments.push_back(segment);
        self.producers.begin_segment(id, base);
    }

    fn active(&self) -> &Segment {
        self.segments.back().expect("a log has an active segment")
    }

    fn active_mut(&mut self) -> &mut Segment {
        self.segments
            .back_mut()
            .expect("a log has an active segment")
    }

    /// Where the next batch goes.
    fn end_position(&self) -> Position {
        let active = self.active();
        Position {
            offset: self.end,
            segment: active.id,
            pos: active.len,
        }
    }

    /// Bytes appended in all, dropped ones included.
    fn end_bytes(&self) -> u64 {
        self.segments.back().map_or(0, |last| last.start + last.len)
    }

    /// The segment of this id and its number.
    fn segment(&self, id: SegmentId) -> Option<(usize, &Segment)> {
        let number = self
            .segments
            .binary_search_by_key(&id, |segment| segment.id)
            .ok()?;
        Some((number, &self.segments[number]))
    }

    /// Whether offsets are left out in a segment, on purpose: before its first batch, between two, or behind the last
    /// one. In any other segment one that is not there is lost.
    #[must_use]
    pub fn leaves_out(&self, segment: SegmentId) -> bool {
        self.segment(segment)
            .is_some_and(|(_, segment)| segment.has_gaps)
    }

    /// Where the bytes of a segment before `bound` end; 0 for segments after that.
    fn end_within(segment: &Segment, bound: &Position) -> u64 {
        match segment.id.cmp(&bound.segment) {
            std::cmp::Ordering::Less => segment.len,
            std::cmp::Ordering::Equal => bound.pos,
            std::cmp::Ordering::Greater => 0,
        }
    }

    /// The same, and the offset there.
    fn limit_within(&self, segment: &Segment, bound: &Position) -> (Offset, u64) {
        let end = Self::end_within(segment, bound);
        let next = self.segments.partition_point(|s| s.id <= segment.id);
        let offset = match self.segments.get(next) {
            Some(next) if segment.id < bound.segment => next.base,
            _ => bound.offset,
        };
        (offset, end)
    }

    /// Where the readable bytes of a segment end; 0 for segments after the high watermark.
    fn readable_end(&self, segment: &Segment) -> u64 {
        Self::end_within(segment, &self.high_watermark)
    }

    /// The same, and the offset there.
    fn readable_limit(&self, segment: &Segment) -> (Offset, u64) {
        self.limit_within(segment, &self.high_watermark)
    }
}
