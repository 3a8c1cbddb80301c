//! How far a log is compacted, and by which settings.

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
    /// Before it something older of a key may be left, in a batch that could not be thinned: no tombstone that is
    /// before it may go.
    pub(super) older: Offset,
}

impl CleanMarks {
    pub(super) fn write(&self, out: &mut Writer) {
        out.signed(self.cleaned.0);
        out.signed(self.tombstones.0);
        out.signed(self.older.0);
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            cleaned: input.offset()?,
            tombstones: input.offset()?,
            older: input.offset()?,
        })
    }

    /// The log ends here now. What was said of tombstones stays: who believes it needlessly does no harm.
    pub(super) fn cut_back(&mut self, end: Offset) {
        self.cleaned = self.cleaned.min(end);
    }
}
