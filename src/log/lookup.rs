//! A lookup by time while it waits: how far it is, and the batch that it opens.

use bytes::Bytes;

use super::walk::HEADER_BYTES;
use crate::base::limits::{TIME_LOOKUP_OPEN_BYTES_MAX, TIME_LOOKUPS_PER_PARTITION_MAX};
use crate::base::{Offset, SegmentId};
use crate::record::BatchError;
use crate::record::seek::{self, Seek, Sought};

/// A batch that a lookup opens, in slices.
#[derive(Debug)]
pub struct Opening {
    pub(super) goal: TimeGoal,
    pub(super) segment: SegmentId,
    /// Where the next batch begins.
    pub(super) end: u64,
    /// The answer if the batch cannot be opened, or does not hold what its header promises.
    pub(super) first: (Offset, i64),
    pub(super) batch: Bytes,
    /// The search in it. A decoder takes far more memory than the batch: it is made when its turn has come.
    pub(super) seek: Option<Seek<Bytes>>,
    pub(super) log_start: Offset,
    /// What came of it.
    pub(super) sought: Option<Result<Sought, BatchError>>,
}

impl Opening {
    /// Goes on for `work` bytes decompressed; whether it is over.
    pub fn go_on(&mut self, work: usize) -> bool {
        let mut work = work;
        if self.seek.is_none() {
            let batch = &self.batch;
            let body = |body| batch.slice_ref(body);
            match begin_seek(batch, self.goal, self.log_start, body) {
                Ok(seek) => self.seek = Some(seek),
                Err(error) => self.sought = Some(Err(error)),
            }
        }
        if let Some(seek) = &mut self.seek {
            self.sought = seek.go_on(&mut work).transpose();
        }
        self.sought.is_some()
    }

    /// Gives back the memory of a decoder: it is begun with anew.
    pub fn rewind(&mut self) {
        self.seek = None;
    }

    pub(super) fn progress(&self) -> LookupProgress {
        let sought = self.sought.unwrap_or(Err(BatchError::TooLarge));
        let (offset, timestamp) = self.first;
        match outcome(sought, offset, timestamp) {
            Some(found) => found,
            None => LookupProgress::At {
                segment: self.segment,
                pos: self.end,
                want: HEADER_BYTES,
            },
        }
    }
}

pub(super) fn begin_seek<'a, B: AsRef<[u8]> + Clone>(
    batch: &'a [u8],
    goal: TimeGoal,
    log_start: Offset,
    body: impl Fn(&'a [u8]) -> B,
) -> Result<Seek<B>, BatchError> {
    let (info, bytes) = seek::parts(batch)?;
    let max = TIME_LOOKUP_OPEN_BYTES_MAX;
    let timestamp = goal.timestamp();
    Ok(Seek::new(&info, body(bytes), timestamp, log_start.0, max))
}

/// What a search in a batch means for the lookup: `None` if it goes on behind the batch. If no record
/// matches though the header promises one, or it cannot be opened, its first offset is the answer: never
/// after the record, and no reason to search the rest of the log.
pub(super) fn outcome(
    sought: Result<Sought, BatchError>,
    first: Offset,
    timestamp: i64,
) -> Option<LookupProgress> {
    match sought {
        Ok(Sought::Record(offset, timestamp)) => Some(LookupProgress::Found {
            offset: Offset(offset),
            timestamp,
        }),
        Ok(Sought::Before) => None,
        Ok(Sought::Nothing) | Err(_) => Some(LookupProgress::Found {
            offset: first,
            timestamp,
        }),
    }
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeGoal {
    /// The first record with this timestamp or a larger one.
    AtLeast(i64),
    /// The record that has the log's largest timestamp, which is this.
    Max(i64),
}

impl TimeGoal {
    pub(super) fn timestamp(self) -> i64 {
        match self {
            Self::AtLeast(timestamp) | Self::Max(timestamp) => timestamp,
        }
    }
}

/// How far a lookup is.
#[derive(Debug)]
pub(super) enum LookupProgress {
    /// Nothing before this batch matches; `want` bytes are needed from here.
    At {
        segment: SegmentId,
        pos: u64,
        want: u64,
    },
    /// Nothing in this segment matches.
    SegmentDone(SegmentId),
    /// The segment that was looked at is not there any more: it begins anew.
    Gone,
    Found {
        offset: Offset,
        timestamp: i64,
    },
    /// This batch is to be opened.
    Open(Box<Opening>),
}

/// A lookup that has gone through as much in memory as it may at a time. Whoever asked keeps it: here many that take
/// long would push each other out, and never get there.
#[derive(Debug)]
pub struct Later {
    pub(super) goal: TimeGoal,
    pub(super) progress: LookupProgress,
    /// What was learned in another one is forgotten.
    pub(super) era: u64,
}

/// Lookups that wait for bytes, at most [`TIME_LOOKUPS_PER_PARTITION_MAX`]. What was learned of a
/// goal stays true for as long as the segment exists: appends only add behind it.
#[derive(Debug, Default)]
pub(super) struct WaitingLookups {
    waiting: Vec<(TimeGoal, LookupProgress)>,
    /// How often everything was forgotten.
    era: u64,
}

impl WaitingLookups {
    pub(super) fn put(&mut self, goal: TimeGoal, progress: LookupProgress) {
        self.take(goal);
        if self.waiting.len() == TIME_LOOKUPS_PER_PARTITION_MAX {
            self.waiting.remove(0);
        }
        self.waiting.push((goal, progress));
    }

    pub(super) fn take(&mut self, goal: TimeGoal) -> Option<LookupProgress> {
        let number = self.waiting.iter().position(|(g, _)| *g == goal)?;
        Some(self.waiting.remove(number).1)
    }

    /// Forgets everything: segments were dropped.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.era += 1;
    }

    pub(super) fn era(&self) -> u64 {
        self.era
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_that_wait_are_bounded() {
        let mut lookups = WaitingLookups::default();
        for n in 0..=TIME_LOOKUPS_PER_PARTITION_MAX as i64 {
            lookups.put(
                TimeGoal::AtLeast(n),
                LookupProgress::SegmentDone(SegmentId(n as u64)),
            );
        }
        assert!(lookups.take(TimeGoal::AtLeast(0)).is_none());
        assert!(lookups.take(TimeGoal::AtLeast(1)).is_some());
        assert!(lookups.take(TimeGoal::AtLeast(1)).is_none());
    }
}
