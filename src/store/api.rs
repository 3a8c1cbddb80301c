//! What the store says to its callers: operations, events, pieces of a read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use bytes::Bytes;

use super::chunks::Chunk;
use super::layout::{REGION, RING_START, chunks_start};
use crate::base::limits::TAIL_START_BYTES;
use crate::base::{LogId, Offset, SegmentId, StoreId, TopicId};

/// Number of a flush. Everything appended before `Store::poll` started flush `n` is durable when
/// [`StoreEvent::Durable`]`(m)` with `m >= n` is seen. Grows by one per flush, for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlushSeq(pub u64);

/// Identifies one [`DiskOp`] until its completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IoId(pub u64);

/// What the driver has to do with the store's file. Operations may be performed and may complete
/// in any order; the store never has two writes to one block in flight.
#[derive(Clone, Debug)]
pub enum DiskOp {
    /// Write `data` at byte `pos`; position, length and memory are multiples of `BLOCK`.
    Write {
        /// Echoed in the completion.
        id: IoId,
        /// Byte position in the store file.
        pos: u64,
        /// Aligned memory.
        data: Bytes,
        /// Whether somebody waits for it; background work yields to foreground.
        background: bool,
        /// It completes only when it is durable: a write and the sync of it in one (RWF_DSYNC).
        through: bool,
    },
    /// Make every write that has completed durable (fdatasync).
    Sync {
        /// Echoed in the completion.
        id: IoId,
        /// Whether somebody waits for it.
        background: bool,
    },
    /// Have the filesystem set aside the bytes `[pos, pos + len)` of the file, so that a write there cannot
    /// fail for want of room. If this fails nothing is lost.
    Allocate {
        /// Echoed in the completion.
        id: IoId,
        /// Byte position in the store file.
        pos: u64,
        /// Length in bytes.
        len: u64,
    },
}

impl DiskOp {
    /// What its completion is known by.
    #[must_use]
    pub const fn id(&self) -> IoId {
        match self {
            Self::Write { id, .. } | Self::Sync { id, .. } | Self::Allocate { id, .. } => *id,
        }
    }
}

/// A failed write or sync. Fatal for the store: nothing is ever retried, because the kernel may
/// have dropped the dirty pages it failed to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// `errno` of the operation.
    pub errno: i32,
}

impl DiskError {
    /// The filesystem is full.
    pub(super) const ENOSPC: i32 = 28;
    /// The filesystem's quota is used up.
    const EDQUOT: i32 = 122;
    /// The file may not be larger.
    const EFBIG: i32 = 27;

    /// What Linux says of blocks whose checksum is wrong.
    pub const EBADMSG: i32 = 74;

    /// Whether what was to be read is known to be damaged. Any other error of a read says only that the disk could not
    /// read it now.
    pub const fn is_damage(&self) -> bool {
        self.errno == Self::EBADMSG
    }

    /// Whether it is for want of room.
    pub(super) const fn is_no_room(&self) -> bool {
        matches!(self.errno, Self::ENOSPC | Self::EDQUOT | Self::EFBIG)
    }
}

/// What the store has to tell the shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// The writes of this flush have completed; its sync is on the way, or was part of the only write.
    /// For those who measure.
    Written(FlushSeq),
    /// The sync of this flush has completed. It is durable when those before it are.
    Synced(FlushSeq),
    /// All flushes up to and including this one are on disk.
    Durable(FlushSeq),
    /// A disk operation failed; the process must stop with the store's exit status.
    Failed(DiskError),
}

/// Bytes of a batch up to its CRC, which stands for all the others.
pub const BEGINNING_BYTES: usize = 21;
/// How a batch begins: base offset, length, leader epoch, magic and CRC.
pub type Beginning = [u8; BEGINNING_BYTES];

/// A part of a partition's bytes, ready to be sent.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Bytes in memory.
    Memory(Bytes),
    /// Durable whole-block bytes of a store file. The pin keeps the chunk from being reused.
    File {
        /// Which store of this node.
        store: StoreId,
        /// Byte position in the store file; not aligned.
        pos: u64,
        /// Length in bytes.
        len: usize,
        /// Held until the bytes are sent.
        pin: ChunkPin,
        /// What is known to be at `pos`, where the header of a batch was looked at.
        begins: Option<Box<Beginning>>,
    },
}

impl Piece {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File { len, .. } => *len,
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the first `max` bytes, if it is longer.
    pub fn truncate(&mut self, max: usize) {
        match self {
            Self::Memory(bytes) => bytes.truncate(max),
            Self::File { len, .. } => *len = max.min(*len),
        }
    }
}

/// Keeps a chunk from being reused while a read plan may still read it. Cloning is cheap and the
/// clones may live on any thread; the store looks at the count before it reuses a freed chunk.
#[derive(Clone, Debug, Default)]
pub struct ChunkPin(Arc<ChunkUse>);

/// One use of a chunk, from when it is given to a log until it is free again.
#[derive(Debug, Default)]
struct ChunkUse {
    /// Its first byte in the store, and its bytes; none if it is not told.
    span: (u64, u64),
    /// What the page cache may hold of it: a [`Trust`].
    trust: AtomicU8,
    /// Nothing more is written to it.
    sealed: AtomicBool,
}

/// Whether the page cache may be believed about a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Trust {
    /// Nobody has looked yet.
    Unknown,
    /// Somebody is at it: until then it may not.
    Looking,
    /// It holds nothing that the chunk had before this use of it.
    Clean,
    /// It may hold something, for as long as this use lasts.
    Stale,
}

impl ChunkPin {
    pub(super) fn of(chunk: Chunk) -> Self {
        let span = (chunk.pos, chunk.class.bytes());
        Self(Arc::new(ChunkUse {
            span,
            ..ChunkUse::default()
        }))
    }

    /// Whether somebody may still read the chunk, besides who asks.
    #[must_use]
    pub fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// The chunk's first byte in the store, if it is told.
    #[must_use]
    pub fn chunk(&self) -> Option<u64> {
        let (pos, len) = self.0.span;
        (len > 0).then_some(pos)
    }

    /// The chunk's bytes; none if they are not told.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.span.1
    }

    /// Whether the chunk's bytes are not told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the page cache may be believed about the chunk, as far as is known. Never waits for anybody.
    #[must_use]
    pub fn trust(&self) -> Trust {
        match self.0.trust.load(Ordering::Acquire) {
            0 => Trust::Unknown,
            1 => Trust::Looking,
            2 => Trust::Clean,
            _ => Trust::Stale,
        }
    }

    /// The caller is about to look, if nobody else is or has; then it is to say what it saw.
    #[must_use]
    pub fn begin_to_look(&self) -> bool {
        let (from, to) = (Trust::Unknown as u8, Trust::Looking as u8);
        let (set, unset) = (Ordering::AcqRel, Ordering::Acquire);
        self.0.trust.compare_exchange(from, to, set, unset).is_ok()
    }

    /// What who was to look has seen.
    pub fn looked(&self, clean: bool) {
        let seen = if clean { Trust::Clean } else { Trust::Stale };
        self.0.trust.store(seen as u8, Ordering::Release);
    }

    /// Who was to look leaves it to others.
    pub fn look_later(&self) {
        self.0.trust.store(Trust::Unknown as u8, Ordering::Release);
    }

    /// All that will ever be written to the chunk in this use of it is durable.
    pub(super) fn seal(&self) {
        self.0.sealed.store(true, Ordering::Release);
    }

    /// Whether that is so.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.0.sealed.load(Ordering::Acquire)
    }

    /// For a sealed chunk of `len` bytes at `pos`.
    #[cfg(test)]
    pub fn for_test(pos: u64, len: u64) -> Self {
        let pin = Self::for_test_unsealed(pos, len);
        pin.seal();
        pin
    }

    /// For a chunk of `len` bytes at `pos` to which more is written.
    #[cfg(test)]
    pub fn for_test_unsealed(pos: u64, len: u64) -> Self {
        Self(Arc::new(ChunkUse {
            span: (pos, len),
            ..ChunkUse::default()
        }))
    }
}

/// Who a log is, for people and for recovery: written when the log is created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogLabel {
    /// Topic name.
    pub topic: String,
    /// Topic id.
    pub topic_id: TopicId,
    /// Partition index.
    pub partition: i32,
}

/// Where a log is cut back: one of its segments ends earlier and takes nothing more, those after it go, and what is
/// appended from then on is of a new segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The last segment of which something may stay.
    pub segment: SegmentId,
    /// Bytes of it that stay; if none, it goes too.
    pub len: u64,
    /// The new segment, whose id is larger than all that the log has had.
    pub next: SegmentId,
    /// Its base offset.
    pub base: Offset,
}

/// Segments of a log of which one that was cleaned takes the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// The first and the last one; neither is the active one.
    pub replaced: (SegmentId, SegmentId),
    /// The one that takes their place, and begins at the first one's base offset.
    pub by: SegmentId,
}

impl Cleaned {
    /// Whether it can take their place between the segment before them, if there is one, and the one behind.
    #[must_use]
    pub fn fits(&self, before: Option<SegmentId>, behind: SegmentId) -> bool {
        let (first, last) = self.replaced;
        let is_free = self.by < first || last < self.by;
        is_free && before < Some(self.by) && self.by < behind
    }
}

/// What recovery replays, per log and in the order in which it was appended.
#[derive(Clone, Debug)]
pub enum ReplayItem {
    /// The log exists. First item of every log.
    Created(LogLabel),
    /// The state blob that the log gave for the checkpoint.
    State(Bytes),
    /// A new segment began, with this base offset; the batches that follow are in it.
    Rolled(SegmentId, Offset),
    /// One batch, whole and CRC-checked, at the current end of the current segment.
    Batch(Bytes),
    /// The segments before this one were dropped.
    DroppedBefore(SegmentId),
    /// The log was cut back, and what it wanted remembered of that.
    Truncated(Cut, Bytes),
    /// A cleaned segment took the place of some, and what the log wanted remembered of that.
    Cleaned(Cleaned, Bytes),
    /// An opaque note of the log's.
    Note(Bytes),
    /// The log has remarked this; a later one takes its place.
    Remarked(Bytes),
    /// The log was deleted.
    Deleted,
}

/// One replayed item and the log it belongs to.
pub type Replay = (LogId, ReplayItem);

/// The store has reached its bound: retry after deletes or retention have made room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFull;

/// How a store is used, for tools and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Logs.
    pub logs: usize,
    /// Bytes of the file that are in use or written ahead.
    pub bytes_total: u64,
    /// `millrace.store.bytes.max`.
    pub bytes_max: u64,
    /// Bytes of free chunks within `bytes_total`.
    pub chunk_bytes_free: u64,
    /// Size of the journal ring.
    pub journal_bytes: u64,
    /// Bytes of it that recovery would replay.
    pub journal_bytes_used: u64,
    /// Bytes kept in memory for tail readers.
    pub memory_tail_bytes: usize,
    /// How often the superblock was written, for a checkpoint or a start.
    pub generation: u64,
}

/// Faults that the simulator plants to show that it would find them. Never set otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sabotage {
    /// Say that a flush is durable when it is only on its way.
    pub ack_before_flush: bool,
    /// Believe whatever the journal and the chunks hold.
    pub skip_recovery_crc: bool,
    /// Take for the successor of a journal record whatever has its number and its chain, whichever start of
    /// the process wrote it.
    pub any_successor: bool,
    /// Leave it standing that the store was stopped cleanly when it is begun again.
    pub keep_stop: bool,
    /// Give the chunks of what is dropped out again before a checkpoint covers that, and while they are read.
    pub reuse_at_once: bool,
}

/// Sizes and bounds of a store. All in bytes unless named otherwise.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Journal ring, a multiple of `BLOCK`. Fixed when the store is formatted.
    pub journal_bytes: u64,
    /// Size to which a store is written ahead from its start on, in the background.
    pub initial_bytes: u64,
    /// The store is a raw block device: there every block can be written at the price of one that was written
    /// before, so nothing is written ahead.
    pub raw: bool,
    /// The store never grows beyond this (`millrace.store.bytes.max`).
    pub bytes_max: u64,
    /// From this many new bytes per log in one flush on, they go straight into the log's chunks.
    pub bulk_bytes_min: usize,
    /// Flushes that may be on their way at once.
    pub flushes_in_flight_max: usize,
    /// A flush of less than this starts only while fewer than `small_flushes_in_flight_max` are on
    /// their way; until then it takes in what comes.
    pub small_flush_bytes: usize,
    /// See `small_flush_bytes`.
    pub small_flushes_in_flight_max: usize,
    /// One flush takes no more than this from the pending appends.
    pub flush_bytes_max: usize,
    /// Memory tail: bytes kept in memory for tail readers, beyond what is not in chunks yet. Until
    /// [`Store::set_tail_bytes_max`](super::Store::set_tail_bytes_max) says otherwise.
    pub tail_bytes_max: usize,
    /// A checkpoint is due after this many bytes went into chunks or half the ring was used.
    pub checkpoint_bytes: u64,
    /// A checkpoint takes about this many bytes of logs at a time.
    pub checkpoint_slice_bytes: u64,
    /// For the simulator only.
    pub sabotage: Sabotage,
}

impl StoreConfig {
    /// Where the journal ring lies in the file.
    #[must_use]
    pub const fn ring(&self) -> std::ops::Range<u64> {
        RING_START..RING_START + self.journal_bytes
    }

    /// The least that a store can do anything with.
    #[must_use]
    pub const fn least_bytes(&self) -> u64 {
        chunks_start(self.journal_bytes) + 4 * REGION
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            journal_bytes: 32 * MIB,
            initial_bytes: 64 * MIB,
            raw: false,
            bytes_max: u64::MAX,
            bulk_bytes_min: 32 * 1024,
            flushes_in_flight_max: 4,
            small_flush_bytes: 512 * 1024,
            small_flushes_in_flight_max: 2,
            flush_bytes_max: 4 * MIB as usize,
            tail_bytes_max: TAIL_START_BYTES,
            checkpoint_bytes: 512 * MIB,
            checkpoint_slice_bytes: MIB / 4,
            sabotage: Sabotage::default(),
        }
    }
}

/// What is left for the broker when there is no room for clients, in bytes of batches.
const RESERVED: usize = 256 << 10;

/// What room is asked for: the more others wait for it, the more it gets of what is left for the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomFor {
    /// Clients' records, and what as many of the broker's own come of as clients like.
    Clients,
    /// Records that end what clients have begun, which nobody else can do.
    Ends,
    /// Markers of transactions that end: those who read what is committed wait for them.
    Markers,
    /// What makes a full store emptier, above all that a topic is deleted.
    Broker,
}

impl RoomFor {
    /// How much has to be left for others, in bytes of batches.
    pub(super) const fn leaves(self) -> usize {
        match self {
            Self::Clients => RESERVED,
            Self::Ends => RESERVED / 2,
            Self::Markers => RESERVED / 4,
            Self::Broker => 0,
        }
    }
}
