//! How far a log is compacted, and by which settings.

use std::ops::Range;

use super::codec::{Malformed, Reader, Writer};
use crate::base::Offset;

/// The settings of a log that is compacted, named as Kafka's topic settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionConfig {
    /// `min.cleanable.dirty.ratio`, in millionths.
    pub min_dirty_millionths: u64,
    /// `min.compaction.lag.ms`: nothing younger is touched.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`: what is older is cleaned however little it is.
    pub max_lag_ms: i64,
    /// `delete.retention.ms`: so long tombstones stay after they were first met.
    pub delete_retention_ms: i64,
}

/// How far a log is cleaned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CleanMarks {
    /// What is before it was gone through: of each key only the newest record is there, for those that are before it.
    pub(super) cleaned: Offset,
    /// No tombstone that compaction has removed was at this offset or behind it.
    pub(super) tombstones: Offset,
    /// Something older of a key may be left in batches that could not be thinned, of which the first one begins and the
    /// last one ends here: as long as that one is there, no tombstone may go that is behind the first one and before
    /// `older`.
    pub(super) older: Offset,
    pub(super) left_from: Offset,
    pub(super) left_to: Offset,
}

impl CleanMarks {
    pub(super) fn write(&self, out: &mut Writer) {
        out.signed(self.cleaned.0);
        out.signed(self.tombstones.0);
        out.signed(self.older.0);
        out.signed(self.left_from.0);
        out.signed(self.left_to.0);
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            cleaned: input.offset()?,
            tombstones: input.offset()?,
            older: input.offset()?,
            left_from: input.offset()?,
            left_to: input.offset()?,
        })
    }

    /// Those of a build that thinned no large batches, and did not say which it left: what it has cleaned is gone
    /// through once more if it has left any.
    pub(super) fn read_without_left(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (cleaned, tombstones) = (input.offset()?, input.offset()?);
        let has_left = input.offset()? > Offset(0);
        let cleaned = if has_left { Offset(0) } else { cleaned };
        Ok(Self {
            cleaned,
            tombstones,
            ..Self::default()
        })
    }

    /// The tombstones that stay of a log that starts there, as something older may be left.
    pub(super) fn held_by_older(&self, log_start: Offset) -> Range<Offset> {
        match self.left_to > log_start {
            true => self.left_from..self.older,
            false => Offset(0)..Offset(0),
        }
    }

    /// They go as far as `these` at least.
    pub(super) fn and(&self, these: Self, log_start: Offset) -> Self {
        let left = self.held_by_older(log_start);
        let left_from = match (left.is_empty(), these.left_from < these.left_to) {
            (false, true) => left.start.min(these.left_from),
            (false, false) => left.start,
            (true, _) => these.left_from,
        };
        Self {
            cleaned: self.cleaned.max(these.cleaned),
            tombstones: self.tombstones.max(these.tombstones),
            older: left.end.max(these.older),
            left_from,
            left_to: match left.is_empty() {
                true => these.left_to,
                false => self.left_to.max(these.left_to),
            },
        }
    }

    /// The log ends here now. What was said of tombstones stays: who believes it needlessly does no harm.
    pub(super) fn cut_back(&mut self, end: Offset) {
        self.cleaned = self.cleaned.min(end);
    }
}
