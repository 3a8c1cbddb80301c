//! What waits for a flush, and the flushes that are on their way.

use bytes::Bytes;

use super::api::FlushSeq;
use super::journal::{ENTRY_BYTES_MAX, Entry};
use crate::base::{LeaderEpoch, LogId, Offset, SegmentId};

/// Something that waits for a flush.
#[derive(Debug)]
pub(super) enum Item {
    Append {
        log: LogId,
        batch: Bytes,
        base_offset: Offset,
        epoch: LeaderEpoch,
    },
    Entry(Entry),
}

impl Item {
    /// The log that it is about.
    pub fn log(&self) -> LogId {
        match self {
            Self::Append { log, .. } => *log,
            Self::Entry(entry) => entry.log(),
        }
    }

    /// Upper bound of the bytes it takes in a journal record.
    pub fn cost(&self) -> usize {
        ENTRY_BYTES_MAX
            + match self {
                Self::Append { batch, .. } => batch.len(),
                Self::Entry(
                    Entry::Note { note, .. }
                    | Entry::Truncate { note, .. }
                    | Entry::Clean { note, .. },
                ) => note.len(),
                Self::Entry(Entry::Create { label, .. }) => label.topic.len(),
                Self::Entry(_) => 0,
            }
    }

    /// Upper bound of the bytes by which it makes the next checkpoint longer, its batch itself not counted.
    pub fn state_growth(&self) -> u64 {
        match self {
            Self::Append { batch, .. } => state_growth(batch.len() as u64),
            Self::Entry(entry) => entry_growth(entry),
        }
    }
}

/// The same for what is not an append: above all a new log or a new segment.
pub(super) fn entry_growth(entry: &Entry) -> u64 {
    let own = match entry {
        Entry::Note { note, .. } | Entry::Truncate { note, .. } | Entry::Clean { note, .. } => {
            note.len()
        }
        Entry::Create { label, .. } => 256 + label.topic.len(),
        _ => 0,
    };
    256 + own as u64
}

/// By how much a batch of so many bytes makes what a log has in a checkpoint longer, at most: an entry of
/// its index, what is known of its producer and was known before, the chunks that it takes.
pub(super) const fn state_growth(batch: u64) -> u64 {
    256 + batch / 128
}

/// The items of one flush to be.
#[derive(Debug)]
pub(super) struct OpenFlush {
    pub seq: FlushSeq,
    pub items: Vec<Item>,
    pub cost: usize,
}

/// A flush on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub seq: FlushSeq,
    pub state: FlightState,
    /// What is in chunks when the flush is durable: log, segment, position.
    pub filled: Vec<(LogId, SegmentId, u64)>,
}

/// How far a flush is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlightState {
    /// This many writes have not completed.
    Writing(usize),
    /// The only write is on its way; it is durable when it completes.
    WritingThrough,
    Syncing,
    /// It went into the checkpoint that is being made, because the ring had no room.
    InCheckpoint,
    Done,
}

impl FlightState {
    /// Whether the disk has yet to say that what it wrote is durable.
    pub const fn is_under_way(self) -> bool {
        match self {
            Self::Writing(_) | Self::WritingThrough | Self::Syncing => true,
            Self::InCheckpoint | Self::Done => false,
        }
    }
}
