//! Rebuilding a log at start, from what the store replays: the state of the last
//! checkpoint and all that came after, through the same bookkeeping as appends.

use std::fmt;

use bytes::Bytes;

use crate::base::{IdMap, LeaderEpoch, LogId, Now, Offset, SegmentId, StoreId};
use crate::record;
use crate::store::{
    Cut, DiskError, FlushSeq, LogLabel, RecoverError, RecoveryReport, ReplayItem, Store,
    StoreConfig,
};

use super::clean::CleanNote;
use super::codec::Malformed;
use super::hints::Position;
use super::notes::Note;
use super::segment::BatchEntry;
use super::truncate::CutNote;
use super::{Log, LogConfig};

/// Why a log cannot be recovered: the disk says something no broker wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecoveryError {
    /// The log.
    pub log: LogId,
    /// Topic and partition, as far as known.
    pub label: LogLabel,
    /// What is wrong.
    pub what: String,
    /// Nothing but that another version of the broker wrote it: no reason to give up anything.
    pub unknown: bool,
}

impl fmt::Display for LogRecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unknown {
            return write!(
                f,
                "{}-{} (log {}): {}",
                self.label.topic, self.label.partition, self.log, self.what
            );
        }
        write!(
            f,
            "log {} ({}-{}) cannot be recovered: {}. Restore the store from a copy, or delete the topic.",
            self.log, self.label.topic, self.label.partition, self.what
        )
    }
}

impl std::error::Error for LogRecoveryError {}

/// What is known of a log that is damaged as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DamagedLog {
    /// Everything before it was known to be committed.
    pub committed: Offset,
    /// Its newest epoch.
    pub epoch: LeaderEpoch,
}

/// A store and its logs, as they were found.
#[derive(Debug)]
pub struct Reopened {
    /// The store.
    pub store: Store,
    /// All but those that are damaged.
    pub logs: IdMap<LogId, Log>,
    /// What can be read of those.
    pub damaged: IdMap<LogId, DamagedLog>,
    /// What was found.
    pub report: RecoveryReport,
}

/// Opens a store after a stop or a crash: replays its journal and rebuilds its logs, which get these settings. Reads
/// block.
///
/// # Errors
/// When the store is damaged where it must not be, or another version of the broker wrote it; nothing is changed
/// then.
pub fn reopen(
    id: StoreId,
    (config, logs): (StoreConfig, LogConfig),
    now: Now,
    file_len: u64,
    read: &mut dyn FnMut(u64, usize) -> Result<Bytes, DiskError>,
) -> Result<Reopened, RecoverError> {
    let mut open: IdMap<LogId, LogRecovery> = IdMap::default();
    let (mut store, mut report) =
        Store::recover(id, config, file_len, read, &mut |(log, item)| {
            if matches!(item, ReplayItem::Deleted) {
                open.remove(&log);
                return;
            }
            // What is in it was to become a segment of another one.
            if log.is_cleaning() {
                return;
            }
            open.entry(log)
                .or_insert_with(|| Log::recovered(log, now))
                .replay(item);
        })?;
    let (mut recovered, mut damaged) = (IdMap::default(), IdMap::default());
    for (log, recovery) in open {
        match recovery.finish(logs) {
            // Another version of the broker can read it: nothing of it is given up.
            Err(what) if what.unknown => return Err(RecoverError::Unknown(what.to_string())),
            found if store.is_damaged(log) => {
                let known = |log: Log| DamagedLog {
                    committed: log.lost_before().unwrap_or(log.known_committed()),
                    epoch: log.leader_epoch(),
                };
                damaged.extend(found.ok().map(|found| (log, known(found))));
            }
            Ok(found) => {
                recovered.insert(log, found);
            }
            Err(what) => {
                report.rot.push(what.to_string());
                store.quarantine(log);
            }
        }
    }
    Ok(Reopened {
        store,
        logs: recovered,
        damaged,
        report,
    })
}

/// A log while it is replayed.
#[derive(Debug)]
pub struct LogRecovery {
    log: Log,
    now: Now,
    deleted: bool,
    /// The first thing that was wrong; what follows it is not looked at.
    failed: Option<String>,
    /// It was that another version wrote it.
    unknown: bool,
}

impl Log {
    /// Begins the recovery of a log. `now` stands in for wall times that are not on the disk: how
    /// long ago segments whose records have no timestamps were written to.
    #[must_use]
    pub fn recovered(id: LogId, now: Now) -> LogRecovery {
        LogRecovery {
            log: Log::empty(id, LogConfig::default()),
            now,
            deleted: false,
            failed: None,
            unknown: false,
        }
    }
}

impl LogRecovery {
    /// Takes the next item of this log. Errors are kept for [`finish`](Self::finish).
    pub fn replay(&mut self, item: ReplayItem) {
        if self.failed.is_none()
            && let Err(what) = self.apply(item)
        {
            self.failed = Some(what);
        }
    }

    /// Topic and partition.
    #[must_use]
    pub fn label(&self) -> &LogLabel {
        &self.log.label
    }

    /// Whether the log was deleted: there is nothing to finish then.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// The log, all of it durable. Readable is what was known to be committed when that was written down last: it is
    /// for whoever leads it, or is told by who does, to know more.
    ///
    /// # Errors
    /// If something replayed contradicts the rest.
    pub fn finish(self, config: LogConfig) -> Result<Log, LogRecoveryError> {
        let mut log = self.log;
        let what = match self.failed {
            Some(what) => Some(what),
            None => {
                if log.segments.is_empty() {
                    log.start_segment(SegmentId::FIRST, log.end, self.now.wall_ms);
                }
                log.config = config;
                log.all_is_durable();
                log.durable_start = log.log_start;
                // It is there, and need not be written once more.
                log.written = Some(log.high_watermark);
                log.transactions.are_committed(log.high_watermark.offset);
                log.check().err()
            }
        };
        match what {
            None => Ok(log),
            Some(what) => Err(LogRecoveryError {
                log: log.id,
                label: log.label,
                what,
                unknown: self.unknown,
            }),
        }
    }

    fn apply(&mut self, item: ReplayItem) -> Result<(), String> {
        match item {
            ReplayItem::Created(label) => {
                self.log.label = label;
                Ok(())
            }
            ReplayItem::State(state) => {
                let restored = self.log.restore(&state);
                restored.map_err(|error| self.malformed(error))?;
                self.log.all_is_durable();
                self.log.check()
            }
            ReplayItem::Rolled(segment, base) => self.rolled(segment, base),
            ReplayItem::Batch(batch) => self.batch(&batch),
            ReplayItem::DroppedBefore(segment) => self.dropped(segment),
            ReplayItem::Truncated(cut, note) => {
                let note = CutNote::decode(&note).map_err(|error| self.malformed(error))?;
                self.truncated(&cut, note)
            }
            ReplayItem::Cleaned(cleaned, note) => {
                let note = CleanNote::decode(&note).map_err(|error| self.malformed(error))?;
                self.log.replace_segments(&cleaned, note)
            }
            ReplayItem::Note(note) => {
                let note = Note::decode(&note).map_err(|error| self.malformed(error))?;
                self.note(note)
            }
            ReplayItem::Remarked(mark) => {
                let restored = self.log.restore_remark(&mark);
                restored.map_err(|error| self.malformed(error))
            }
            ReplayItem::Deleted => {
                self.deleted = true;
                Ok(())
            }
        }
    }

    fn malformed(&mut self, error: Malformed) -> String {
        self.unknown = error.is_unknown();
        error.0.to_owned()
    }

    fn rolled(&mut self, id: SegmentId, base: Offset) -> Result<(), String> {
        let log = &mut self.log;
        match log.segments.back() {
            None => {
                log.log_start = base;
                log.end = base;
                log.epochs.nothing_until(base);
                log.high_watermark = Position {
                    offset: base,
                    segment: id,
                    pos: 0,
                };
                log.committed = base;
            }
            Some(active) if active.id >= id => {
                return Err(format!(
                    "segment {id} begins at offset {base}, but there is segment {} already",
                    active.id
                ));
            }
            Some(_) if base < log.end => {
                return Err(format!(
                    "a segment begins at offset {base}, but the log ends at {}",
                    log.end
                ));
            }
            Some(_) => log.skip_to(base),
        }
        log.start_segment(id, base, self.now.wall_ms);
        Ok(())
    }

    fn batch(&mut self, batch: &[u8]) -> Result<(), String> {
        let info = record::parse(batch).map_err(|error| error.to_string())?;
        let base = Offset(info.base_offset);
        let entry = BatchEntry::new(&info, base, LeaderEpoch(info.leader_epoch))
            .ok_or("the offsets of a batch are out of range")?
            .reading(batch);
        if self.log.segments.is_empty() {
            self.rolled(SegmentId::FIRST, base)?;
        }
        if base < self.log.end {
            return Err(format!(
                "a batch begins at offset {base}, but the log ends at {}",
                self.log.end
            ));
        }
        if !self.log.active().fits(&entry) {
            return Err(format!("the segment of offset {base} is too long"));
        }
        self.log.record_entry(&entry, self.now.wall_ms, FlushSeq(0));
        Ok(())
    }

    fn dropped(&mut self, first: SegmentId) -> Result<(), String> {
        match self.log.segments.back() {
            None => return Ok(()),
            Some(active) if first > active.id => {
                return Err(format!(
                    "segments before {first} were dropped, but the last one is {}",
                    active.id
                ));
            }
            Some(_) => {}
        }
        self.log.forget_before(first);
        Ok(())
    }

    fn truncated(&mut self, cut: &Cut, note: CutNote) -> Result<(), String> {
        if self.log.segments.is_empty() {
            return Err(format!(
                "segment {} is to be cut and is not there",
                cut.segment
            ));
        }
        self.log.all_is_durable();
        self.log.cut_back(cut, note, self.now.wall_ms)?;
        self.log.all_is_durable();
        self.log.check()
    }

    fn note(&mut self, note: Note) -> Result<(), String> {
        let end = self.log.end;
        match note {
            Note::LogStart(offset) if offset <= end => self.log.set_log_start(offset),
            Note::Epoch { epoch, start } if start == end => self.log.epochs.assign(epoch, end),
            Note::EpochsEnd(offset) if offset == end => self.log.epochs.end_at(end),
            Note::GivenUp(offset) if offset == end => self.log.nothing_is_lost(),
            Note::Tombstones(offset) => self.log.tombstones_are_gone(offset),
            Note::LogStart(offset)
            | Note::Epoch { start: offset, .. }
            | Note::EpochsEnd(offset)
            | Note::GivenUp(offset) => {
                return Err(format!(
                    "a note is about offset {offset}, but the log ends at {end}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::testing::{Draft, Fixture, LOG, START_MS};
    use super::*;
    use crate::base::Mono;

    const NOW: Now = Now {
        mono: Mono(0),
        wall_ms: START_MS,
    };

    fn busy() -> Fixture {
        let config = LogConfig {
            segment_bytes: 30_000,
            retention_ms: -1,
            ..LogConfig::default()
        };
        let mut f = Fixture::new(config, 0);
        f.fill(60, 1000);
        for sequence in 0..7 {
            let mut draft = Draft::plain(&[START_MS + 100; 2], 20);
            draft.producer = Some((5, 1, sequence * 2));
            f.append(&draft).unwrap();
        }
        f.log.begin_epoch(LeaderEpoch(4), &mut f.disk.store);
        f.fill(30, 1000);
        f.delete_records(33).unwrap();
        f.settle();
        f
    }

    fn finish(items: impl IntoIterator<Item = ReplayItem>) -> Result<Log, LogRecoveryError> {
        let mut recovery = Log::recovered(LOG, NOW);
        for item in items {
            recovery.replay(item);
        }
        recovery.finish(LogConfig::default())
    }

    #[test]
    fn a_restart_changes_nothing() {
        let mut f = busy();
        f.log.write_watermark(&mut f.disk.store);
        f.disk.store.prove();
        f.settle();
        f.append(&Draft::plain(&[START_MS], 20)).unwrap();
        f.disk.settle();
        let (state, mark) = (f.log.state(), f.log.high_watermark());
        f.restart_as_found();
        assert_eq!(f.log.high_watermark(), mark);
        assert_eq!(f.log.durable_end(), mark.plus(1));
        assert_eq!(f.log.state(), state);
        f.restart();
        assert_eq!(f.log.high_watermark(), mark.plus(1));
        let mut draft = Draft::plain(&[START_MS + 100; 2], 20);
        draft.producer = Some((5, 1, 6));
        assert!(
            f.append(&draft).unwrap().flush.is_none(),
            "producers are remembered"
        );
    }

    #[test]
    fn state_is_the_log() {
        let f = busy();
        let state = f.log.state();
        let log = finish([ReplayItem::State(state.clone())]).unwrap();
        assert_eq!(log.state(), state);
        assert_eq!((&log.epochs, log.producers.len()), (&f.log.epochs, 1));
        assert_eq!(log.segments.len(), f.log.segments.len());
        for (read, written) in log.segments.iter().zip(&f.log.segments) {
            let start = read.start;
            assert_eq!(
                *read,
                super::super::Segment {
                    start,
                    ..written.clone()
                }
            );
        }
        assert_eq!(log.high_watermark(), f.log.high_watermark());
    }

    #[test]
    fn batches_must_go_forward() {
        let batch = |offset: i64| {
            let (batch, _) = Draft::plain(&[START_MS], 10).build();
            let mut batch = batch.to_vec();
            record::stamp(&mut batch, Offset(offset), LeaderEpoch(0));
            ReplayItem::Batch(batch.into())
        };
        let log = finish([
            ReplayItem::Rolled(SegmentId(3), Offset(5)),
            batch(5),
            batch(6),
        ])
        .unwrap();
        assert_eq!(
            (log.start_offset(), log.end_offset()),
            (Offset(5), Offset(7))
        );
        let rolled = |segment, base| ReplayItem::Rolled(SegmentId(segment), Offset(base));
        let gaps = finish([batch(0), batch(2), rolled(1, 9), batch(20)]).unwrap();
        assert_eq!(gaps.end_offset(), Offset(21));
        let error = finish([batch(0), batch(2), batch(1)]).unwrap_err();
        assert!(error.to_string().contains("begins at offset 1"), "{error}");
        assert!(finish([batch(0), batch(1), rolled(1, 1)]).is_err());
        assert!(finish([batch(0), rolled(0, 1)]).is_err());
        assert!(finish([batch(0), ReplayItem::DroppedBefore(SegmentId(9))]).is_err());
        assert!(finish([ReplayItem::Batch(Bytes::from_static(b"?"))]).is_err());
        let note = Note::LogStart(Offset(2)).encode();
        assert!(finish([batch(0), ReplayItem::Note(note)]).is_err());
        let empty = finish([]).unwrap();
        assert_eq!(empty.end_offset(), Offset(0));
    }

    #[test]
    fn a_deleted_log_says_so() {
        let mut recovery = Log::recovered(LOG, NOW);
        recovery.replay(ReplayItem::Created(LogLabel::default()));
        assert!(!recovery.is_deleted());
        recovery.replay(ReplayItem::Deleted);
        assert!(recovery.is_deleted());
    }

    #[test]
    fn every_shortened_state_is_refused() {
        let state = busy().log.state();
        for len in 0..state.len() {
            assert!(finish([ReplayItem::State(state.slice(..len))]).is_err());
        }
    }

    proptest! {
        /// A state with wrong bytes is refused or is a sound log; it never panics.
        #[test]
        fn rotten_states_are_survived(
            places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            static STATE: std::sync::OnceLock<Bytes> = std::sync::OnceLock::new();
            let mut state = STATE.get_or_init(|| busy().log.state()).to_vec();
            for (place, byte) in places {
                let len = state.len();
                state[place.index(len)] = byte;
            }
            if let Ok(log) = finish([ReplayItem::State(state.into())]) {
                log.invariants();
            }
        }
    }
}
