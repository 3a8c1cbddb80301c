//! What operations on a log come to, and what they want read first.

use std::fmt;

use super::hints::Position;
use super::lookup::{Later, Opening, TimeGoal};
use crate::base::{LeaderEpoch, Offset, SegmentId};
use crate::record::BatchError;
use crate::store::{FlushSeq, Piece};

/// A batch that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// The timestamp that the broker gave its records, -1 if they keep their own.
    pub log_append_time: i64,
    /// The flush that makes it durable; `None` for a retry of a batch that was appended before, of which nothing
    /// was written. The original may or may not be durable.
    pub flush: Option<FlushSeq>,
}

/// What [`Log::append_replica`](super::Log::append_replica) has appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicated {
    /// Where the log ends now.
    pub end: Offset,
    /// The flush that makes all of it durable; `None` if it was nothing.
    pub flush: Option<FlushSeq>,
}

/// Why batches that a leader has stamped do not go on where a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// At this byte no whole batch begins.
    Malformed {
        /// From the beginning of what was to be appended.
        at: usize,
        /// What is wrong.
        what: BatchError,
    },
    /// The CRC of the batch with this base offset is wrong.
    Corrupt {
        /// As it says itself.
        base: Offset,
    },
    /// A batch begins before what comes before it ends.
    Overlaps {
        /// Its base offset.
        base: Offset,
        /// The end of the log, or of the batch before.
        end: Offset,
    },
    /// A batch is of an older leader than what comes before it, or of one that there has not been yet.
    Epoch {
        /// The leader epoch that it carries.
        at: LeaderEpoch,
        /// That of what comes before it.
        newest: LeaderEpoch,
        /// That of the leader whose log it is.
        epoch: LeaderEpoch,
    },
    /// No segment can hold so large a batch.
    TooLarge {
        /// Its base offset.
        base: Offset,
    },
    /// Numbers that no leader could say.
    Impossible(&'static str),
    /// The store has no room.
    Full,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { at, what } => write!(f, "no batch begins at byte {at}: {what}"),
            Self::Corrupt { base } => write!(f, "the batch of offset {base} has a wrong CRC"),
            Self::Overlaps { base, end } => {
                write!(f, "a batch begins at offset {base}, which is before {end}")
            }
            Self::Epoch { at, newest, epoch } => write!(
                f,
                "a batch of leader epoch {at} follows one of {newest} in the log of leader {epoch}"
            ),
            Self::TooLarge { base } => {
                write!(f, "the batch of offset {base} is larger than a segment")
            }
            Self::Impossible(what) => f.write_str(what),
            Self::Full => f.write_str("the store is full"),
        }
    }
}

impl std::error::Error for Unfit {}

/// The outcome of [`Log::read`](super::Log::read).
#[derive(Debug)]
pub enum ReadOutcome {
    /// What to send. No piece if there is nothing to read (yet), or nothing that fits.
    Plan {
        /// The batches from the one that holds the offset on; the last one may be cut.
        pieces: Vec<Piece>,
        /// Sum of the lengths.
        bytes: usize,
        /// What it counts for `min.bytes`, as in Kafka: the limit, if more is visible than that, and more than anybody
        /// may wait for if it begins in an older segment than the one in which what is visible ends.
        counts: u64,
        /// The first batch is no longer than this.
        first_bytes_max: usize,
        /// There is a batch, and it is larger than what was asked for.
        withheld: bool,
        /// The offset after the last batch, where that is known without looking at it.
        next: Option<Offset>,
        /// Nothing of it is at this offset or behind it.
        before: Offset,
        /// Bytes in memory that were gone through to find where it begins.
        looked_at: usize,
    },
    /// Bytes are needed to find the offset: read the pieces, join them, give them to
    /// [`Log::scanned`](super::Log::scanned) with the ticket, and at once call the same method again.
    Scan {
        /// What to read, in order.
        pieces: Vec<Piece>,
        /// Goes with the bytes.
        ticket: Ticket,
    },
}

impl ReadOutcome {
    /// As much as anybody may wait for: `min.bytes` is no larger.
    pub const ENOUGH: u64 = i32::MAX as u64;

    /// There is nothing to read yet.
    pub(super) fn nothing(next: Option<Offset>) -> Self {
        Self::Plan {
            pieces: Vec::new(),
            bytes: 0,
            counts: 0,
            first_bytes_max: 0,
            withheld: false,
            next,
            before: next.unwrap_or(Offset(0)),
            looked_at: 0,
        }
    }

    /// Nothing that fits, which counts so much.
    pub(super) fn withheld(counts: u64) -> Self {
        Self::Plan {
            pieces: Vec::new(),
            bytes: 0,
            counts,
            first_bytes_max: 0,
            withheld: true,
            next: None,
            before: Offset(0),
            looked_at: 0,
        }
    }
}

/// What a scan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(super) segment: SegmentId,
    pub(super) pos: u64,
    pub(super) len: usize,
    pub(super) goal: Goal,
    /// How far what wants it may go.
    pub(super) reach: Reach,
}

impl Ticket {
    /// Bytes that the scan is of.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.len
    }

    /// Whether they are of the same search at the same place; the length follows what may be read.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.segment, self.pos, self.goal) == (other.segment, other.pos, other.goal)
            && self.reach.is_beyond() == other.reach.is_beyond()
    }
}

/// How far a read goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// To the high watermark, wherever that is by then.
    Readable,
    /// To the last stable offset, in the same way.
    Stable,
    /// To this end of a batch, which may be beyond it: it is for another replica.
    Pushed(Position),
}

impl Reach {
    const fn is_beyond(self) -> bool {
        matches!(self, Self::Pushed(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// The batch that holds `offset`; the scan begins at the batch of offset `from`.
    Offset {
        from: Offset,
        offset: Offset,
    },
    /// The header of the batch of this offset, which is about to be sent.
    First(Offset),
    Time(TimeGoal),
    /// The headers of a segment that is cut, from where that has got to.
    Rebuild,
}

/// The outcome of a lookup by time.
#[derive(Debug)]
pub enum TimeLookup {
    /// The record.
    Found {
        /// Its offset.
        offset: Offset,
        /// Its timestamp.
        timestamp: i64,
        /// The epoch that wrote it.
        epoch: LeaderEpoch,
    },
    /// No such record below the high watermark; ListOffsets answers -1 for both.
    NotFound,
    /// Bytes are needed: as [`ReadOutcome::Scan`].
    Scan {
        /// What to read, in order.
        pieces: Vec<Piece>,
        /// Goes with the bytes.
        ticket: Ticket,
    },
    /// A batch has to be opened that is too much for one go: [`Opening::go_on`], then
    /// [`Log::opened`](super::Log::opened), then ask again.
    Open(Box<Opening>),
    /// The work is used up: [`Log::resume_lookup`](super::Log::resume_lookup) when others have had their turn, then ask
    /// again.
    Later(Box<Later>),
}

/// The outcome of [`Log::truncate`](super::Log::truncate). Unless it is done nothing has changed, and it is to be asked
/// again.
#[derive(Debug)]
pub enum Truncation {
    /// It is done, as far as reads and appends are concerned.
    Done {
        /// The log's end now.
        end: Offset,
        /// The flush that makes it durable; `None` if there was nothing to cut off.
        flush: Option<FlushSeq>,
    },
    /// There is more to go through than is done in one go.
    More,
    /// Some of it waits for this flush, which has to have begun; it has at the latest when it is durable.
    Unflushed(FlushSeq),
    /// Bytes are needed: as [`ReadOutcome::Scan`].
    Scan {
        /// What to read, in order.
        pieces: Vec<Piece>,
        /// Goes with the bytes.
        ticket: Ticket,
    },
}
