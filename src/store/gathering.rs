//! A checkpoint while it is made: what it has of the logs, and how far it is.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::api::FlushSeq;
use super::chunks::Chunk;
use super::copies::{COPIES, Copy, Todo};
use super::snapshot::Encoder;
use super::superblock::Superblock;
use crate::base::{IdMap, IdSet, LogId, SegmentId};

/// What would be different after a checkpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SinceCheckpoint {
    /// Bytes by which it may be larger.
    pub state_bytes: u64,
    /// Bytes that could be in chunks.
    pub inline_bytes: u64,
}

/// Up to where segments are in chunks.
pub(super) type Filled = IdMap<(LogId, SegmentId), u64>;

/// A checkpoint that is being made.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// The last flush that it holds.
    pub flush: FlushSeq,
    /// As long as it lacks logs.
    pub gathering: Option<Gathering>,
    /// Where its own content goes, once that is known. If there is no room for it, only what goes to chunks is written.
    pub copies: Option<[Copy; COPIES]>,
    pub stage: CheckpointStage,
    /// What is to be written. The bytes are put into aligned memory only when their turn comes: ahead of
    /// it, that would hold everybody up for milliseconds.
    pub todo: VecDeque<Todo>,
    pub in_flight: usize,
    pub filled: Filled,
    /// What its logs had remarked that was in no record: it is in their states.
    pub remarks: BTreeMap<LogId, Bytes>,
    pub superblock: Superblock,
}

/// The logs as they go into a checkpoint.
#[derive(Debug)]
pub(super) struct Gathering {
    /// Those that are still to be taken, and in which order if nothing else says it.
    pub lacking: IdSet<LogId>,
    pub order: Vec<LogId>,
    pub encoder: Encoder,
    /// What the encoder has of segments in bytes that are in no chunk, and are not gone since.
    pub tails: IdMap<(LogId, SegmentId), u64>,
    /// Bytes that it has and that nobody else needs room for any more.
    pub gone_bytes: u64,
    /// What had come since the last checkpoint when this one began.
    pub since_checkpoint: SinceCheckpoint,
    pub placed_since: u64,
}

impl Checkpoint {
    /// The chunks of its own content.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> + '_ {
        self.copies.iter().flatten().flat_map(Copy::chunks)
    }

    /// Bytes of logs in its content that nobody else needs room for any more, as long as it has no chunks.
    pub fn gone_bytes(&self) -> u64 {
        self.gathering.as_ref().map_or(0, |g| g.gone_bytes)
    }

    /// The same if all that were in no chunk when it took them are gone.
    pub fn gone_bytes_max(&self) -> u64 {
        self.gathering.as_ref().map_or(0, |g| g.encoder.unplaced())
    }

    /// So many bytes of a segment, in no chunk so far, need no room of their own any more.
    pub fn are_gone(&mut self, log: LogId, segment: SegmentId, bytes: u64) {
        let Some(gathering) = &mut self.gathering else {
            return;
        };
        // What came after it was taken is no part of its content.
        if let Some(left) = gathering.tails.get_mut(&(log, segment)) {
            let gone = bytes.min(*left);
            *left -= gone;
            gathering.gone_bytes += gone;
        }
    }

    /// A segment has become one of another log.
    pub fn renamed(&mut self, was: (LogId, SegmentId), is: (LogId, SegmentId)) {
        if let Some(filled) = self.filled.remove(&was) {
            self.filled.insert(is, filled);
        }
        if let Some(gathering) = &mut self.gathering
            && let Some(tail) = gathering.tails.remove(&was)
        {
            gathering.tails.insert(is, tail);
        }
    }

    /// Up to where a segment is filled when this is done, if it fills it at all.
    pub fn filling(&mut self, log: LogId, segment: SegmentId) -> Option<&mut u64> {
        self.filled.get_mut(&(log, segment))
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckpointStage {
    Gathering,
    Content,
    ContentSync,
    /// Waits until the flushes it describes are durable, but for those that become so with it.
    Flushes,
    /// The superblock of that number is being written.
    Superblock(usize),
    SuperblockSync(usize),
}
