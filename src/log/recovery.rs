//! Rebuilding a log at start, from what the store replays: the state of the last
//! checkpoint and all that came after, through the same bookkeeping as appends.

use std::fmt;

use crate::base::{LeaderEpoch, LogId, Now, Offset};
use crate::record;
use crate::store::{FlushSeq, LogLabel, ReplayItem};

use super::codec::Malformed;
use super::notes::Note;
use super::segment::Entry;
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
}

impl fmt::Display for LogRecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "log {} ({}-{}) cannot be recovered: {}. Restore the store from a copy, or delete the topic.",
            self.log, self.label.topic, self.label.partition, self.what
        )
    }
}

impl std::error::Error for LogRecoveryError {}

/// A log while it is replayed.
#[derive(Debug)]
pub struct LogRecovery {
    log: Log,
    now: Now,
    deleted: bool,
    /// The first thing that was wrong; what follows it is not looked at.
    failed: Option<String>,
}

impl Log {
    /// Begins the recovery of a log. `now` stands in for wall times that are not on the disk: how
    /// long ago producers, and segments whose records have no timestamps, were written to.
    #[must_use]
    pub fn recovered(id: LogId, now: Now) -> LogRecovery {
        LogRecovery {
            log: Log::empty(id, LogConfig::default()),
            now,
            deleted: false,
            failed: None,
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

    /// The log, all of it durable and readable.
    ///
    /// # Errors
    /// If something replayed contradicts the rest.
    pub fn finish(self, config: LogConfig) -> Result<Log, LogRecoveryError> {
        let mut log = self.log;
        let what = match self.failed {
            Some(what) => Some(what),
            None => {
                if log.segments.is_empty() {
                    log.start_segment(log.end, self.now.wall_ms);
                }
                log.config = config;
                log.pending.clear();
                log.durable = log.end_position();
                log.advance_high_watermark();
                log.check().err()
            }
        };
        match what {
            None => Ok(log),
            Some(what) => Err(LogRecoveryError {
                log: log.id,
                label: log.label,
                what,
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
                self.log.restore(&state).map_err(what)?;
                self.log.check()
            }
            ReplayItem::Rolled(base) => self.rolled(base),
            ReplayItem::Batch(batch) => self.batch(&batch),
            ReplayItem::DroppedBefore(base) => self.dropped(base),
            ReplayItem::Note(note) => self.note(Note::decode(&note).map_err(what)?),
            ReplayItem::Deleted => {
                self.deleted = true;
                Ok(())
            }
        }
    }

    fn rolled(&mut self, base: Offset) -> Result<(), String> {
        let log = &mut self.log;
        match log.segments.back() {
            None => {
                log.log_start = base;
                log.end = base;
                log.epochs.start_at(base);
            }
            Some(active) if active.base == base => return Ok(()),
            Some(_) if base != log.end => {
                return Err(format!(
                    "a segment begins at offset {base}, but the log ends at {}",
                    log.end
                ));
            }
            Some(_) => {}
        }
        log.start_segment(base, self.now.wall_ms);
        Ok(())
    }

    fn batch(&mut self, batch: &[u8]) -> Result<(), String> {
        let info = record::parse(batch).map_err(|error| error.to_string())?;
        let base = Offset(info.base_offset);
        let entry = Entry::new(&info, base, LeaderEpoch(info.leader_epoch))
            .ok_or("the offsets of a batch are out of range")?;
        if self.log.segments.is_empty() {
            self.rolled(base)?;
        }
        if base != self.log.end {
            return Err(format!(
                "a batch begins at offset {base}, but the log ends at {}",
                self.log.end
            ));
        }
        if !self.log.active().fits(&entry) {
            return Err(format!("the segment of offset {base} is too long"));
        }
        self.log
            .record_entry(&entry, self.now.wall_ms, FlushSeq(0));
        Ok(())
    }

    fn dropped(&mut self, base: Offset) -> Result<(), String> {
        if self.log.segments.is_empty() {
            return Ok(());
        }
        if base > self.log.end {
            return Err(format!(
                "segments before offset {base} were dropped, but the log ends at {}",
                self.log.end
            ));
        }
        self.log.forget_before(base);
        Ok(())
    }

    fn note(&mut self, note: Note) -> Result<(), String> {
        let end = self.log.end;
        match note {
            Note::LogStart(offset) if offset <= end => self.log.set_log_start(offset),
            Note::Epoch { epoch, start } if start == end => self.log.epochs.assign(epoch, start),
            Note::LogStart(offset) | Note::Epoch { start: offset, .. } => {
                return Err(format!(
                    "a note is about offset {offset}, but the log ends at {end}"
                ));
            }
        }
        Ok(())
    }
}

fn what(error: Malformed) -> String {
    error.0.to_owned()
}
