//! The map: which log has which segments, and where their bytes are. A segment's
//! bytes are in chunks up to `filled`; what comes after is in memory, and in the
//! journal or the checkpoint. Memory also keeps recent bytes that are in chunks already.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::api::{ChunkPin, Cleaned, Cut, LogLabel, Piece};
use super::chunks::Chunk;
use super::layout::block_floor;
use crate::base::{IdMap, LogId, Offset, Queue, SegmentId, StoreId};

/// A chunk of a segment.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    /// Segment position of the chunk's first byte.
    pub start: u64,
    pub chunk: Chunk,
    pub pin: ChunkPin,
}

/// Bytes in memory.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub pos: u64,
    pub bytes: Bytes,
    /// Whether it counts against the memory tail's bound; if not, it is a copy of its own and goes as
    /// soon as the bytes are in a chunk.
    pub cached: bool,
}

/// A run of a log, as Kafka's segment files are.
#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    pub id: SegmentId,
    /// Its first offset, for people and for recovery.
    pub base: Offset,
    /// Bytes that were given to a flush.
    pub len: u64,
    /// Up to here the bytes were given to chunks: a block boundary, or `len` of a sealed segment.
    pub placed: u64,
    /// Up to here they are durable there, and may be read from there.
    pub filled: u64,
    /// In the order of `start`.
    pub extents: Vec<Extent>,
    /// Adjacent, up to `len`.
    pub slices: Queue<Slice>,
    pub sealed: bool,
    /// It was cut while bytes up to here were on their way to its chunks: what is cut off of them may still be written,
    /// in the chunk of what is kept.
    pub settling: Option<u64>,
}

impl Segment {
    /// The extent that covers a position, and the end of what it covers.
    pub fn extent_at(&self, pos: u64) -> Option<(&Extent, u64)> {
        let next = self.extents.partition_point(|e| e.start <= pos);
        let extent = self.extents.get(next.checked_sub(1)?)?;
        let mut end = extent.start + extent.chunk.class.bytes();
        if let Some(following) = self.extents.get(next) {
            end = end.min(following.start);
        }
        (pos < end).then_some((extent, end))
    }

    /// Where the next extent begins after a position that none covers, or `end`.
    pub fn gap_end(&self, pos: u64, end: u64) -> u64 {
        let next = self.extents.partition_point(|e| e.start <= pos);
        self.extents.get(next).map_or(end, |e| e.start.min(end))
    }

    /// Puts an extent in its place.
    pub fn add_extent(&mut self, extent: Extent) {
        let at = self.extents.partition_point(|e| e.start <= extent.start);
        self.extents.insert(at, extent);
    }

    /// Bytes of its chunks.
    pub fn chunk_bytes(&self) -> u64 {
        self.extents.iter().map(|e| e.chunk.class.bytes()).sum()
    }

    /// Takes bytes at the end that stand in the journal; their memory is given later.
    pub fn grow(&mut self, len: usize) {
        self.len += len as u64;
    }

    /// Takes bytes at the end, in this memory.
    pub fn push(&mut self, bytes: Bytes, cached: bool) {
        let pos = self.len;
        self.grow(bytes.len());
        self.slices.push_back(Slice { pos, bytes, cached });
    }

    /// Adds bytes at the end, in memory of their own.
    pub fn push_copy(&mut self, bytes: &[u8]) {
        self.push(Bytes::copy_from_slice(bytes), false);
    }

    /// Takes `[pos, pos + len)` as being in a chunk whose first byte is at `chunk_start`. False if something before
    /// it is in none: then these bytes count as if they were not, and are filled again.
    pub fn place(&mut self, pos: u64, len: u64, chunk: Chunk, chunk_start: u64) -> bool {
        if !self.extents.iter().rev().any(|e| e.chunk == chunk) {
            self.add_extent(Extent {
                start: chunk_start,
                chunk,
                pin: ChunkPin::of(chunk),
            });
        }
        let follows = pos == self.placed;
        if follows {
            self.placed = pos + len;
            self.len = self.len.max(self.placed);
        }
        follows
    }

    /// Where memory begins; `len` if nothing is in memory.
    pub fn memory_start(&self) -> u64 {
        self.slices.front().map_or(self.len, |slice| slice.pos)
    }

    /// The bytes `[from, to)`, which are in memory, in parts.
    pub fn memory(&self, from: u64, to: u64) -> impl Iterator<Item = Bytes> + '_ {
        let first = self
            .slices
            .partition_point(|slice| slice.pos + slice.bytes.len() as u64 <= from);
        self.slices
            .range(first)
            .take_while(move |slice| slice.pos < to)
            .map(move |slice| {
                let start = from.saturating_sub(slice.pos) as usize;
                let end = (to - slice.pos).min(slice.bytes.len() as u64) as usize;
                slice.bytes.slice(start..end)
            })
    }

    /// More is durable in chunks, of which a part may have been cut off since: copies that were kept only for lack
    /// of that may go.
    pub fn filled_to(&mut self, filled: u64) {
        self.settling = self.settling.filter(|until| filled < *until);
        self.filled = self.filled.max(filled.min(self.placed));
        while let Some(front) = self.slices.front() {
            if front.cached || front.pos + front.bytes.len() as u64 > self.filled {
                break;
            }
            self.slices.pop_front();
        }
    }

    /// Everything before `pos` is durable in chunks and not wanted in memory (recovery).
    pub fn forget_memory_before(&mut self, pos: u64) {
        self.filled = pos;
        while let Some(front) = self.slices.front_mut() {
            let end = front.pos + front.bytes.len() as u64;
            if end > pos {
                if front.pos < pos {
                    front.bytes =
                        Bytes::copy_from_slice(&front.bytes[(pos - front.pos) as usize..]);
                    front.pos = pos;
                }
                break;
            }
            self.slices.pop_front();
        }
    }

    /// The memory tail is over its bound and the oldest of its slices is this segment's: lets it go if its
    /// bytes are in a chunk, else keeps what is needed in a copy that pins nothing else. False if none is left.
    pub fn evict_oldest_cached(&mut self) -> bool {
        // What was kept in copies came before what is still cached.
        let index = self.slices.partition_point(|slice| !slice.cached);
        if index == self.slices.len() {
            return false;
        }
        let filled = self.filled;
        let slice = &mut self.slices[index];
        let end = slice.pos + slice.bytes.len() as u64;
        if end <= filled && index == 0 {
            self.slices.pop_front();
            return true;
        }
        if slice.pos < filled && index == 0 {
            slice.bytes = slice.bytes.slice((filled - slice.pos) as usize..);
            slice.pos = filled;
        }
        slice.bytes = Bytes::copy_from_slice(&slice.bytes);
        slice.cached = false;
        true
    }

    /// Gives up its place in the memory tail; what is in no chunk yet is kept in copies that pin nothing else. Returns
    /// the memory that it had there.
    pub fn leave_tail(&mut self) -> Queue<Slice> {
        let slices = std::mem::take(&mut self.slices);
        let needed = |slice: &&Slice| slice.pos + slice.bytes.len() as u64 > self.filled;
        for slice in slices.range(0).filter(needed) {
            let done = self.filled.saturating_sub(slice.pos) as usize;
            self.slices.push_back(Slice {
                pos: slice.pos + done as u64,
                bytes: Bytes::copy_from_slice(&slice.bytes[done..]),
                cached: false,
            });
        }
        slices
    }

    /// Where filling should get to: whole blocks, and the padded last one of a sealed segment.
    pub fn fill_target(&self) -> u64 {
        if self.sealed {
            self.len
        } else {
            block_floor(self.len)
        }
    }

    /// Adds the bytes `[pos, end)` to a read plan, but no more than so many pieces; both are within what is readable.
    pub fn read(
        &self,
        store: StoreId,
        (mut pos, end): (u64, u64),
        pieces_max: usize,
        out: &mut Vec<Piece>,
    ) {
        let in_chunks = self.memory_start().min(end);
        let most = out.len().saturating_add(pieces_max);
        while pos < in_chunks && out.len() < most {
            let Some((extent, covered)) = self.extent_at(pos) else {
                debug_assert!(false, "a hole in a segment");
                return;
            };
            let to = covered.min(in_chunks);
            let ended = self.sealed && self.filled == self.len && self.settling.is_none();
            if covered <= self.filled || ended {
                extent.pin.seal();
            }
            out.push(Piece::File {
                store,
                pos: extent.chunk.pos + (pos - extent.start),
                len: (to - pos) as usize,
                pin: extent.pin.clone(),
                begins: None,
            });
            pos = to;
        }
        let left = most - out.len();
        if pos >= in_chunks && left > 0 {
            out.extend(self.memory(pos, end).take(left).map(Piece::Memory));
        }
    }
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A journal record that was about it has rotted.
    Record,
    /// Bytes of it that the journal refers to have rotted.
    Chunk,
    /// What is remembered of it contradicts itself.
    Contradiction,
    /// What the checkpoint has of it has rotted, in both copies.
    Checkpoint,
}

impl Damage {
    /// For the disk; 0 is none.
    pub(super) const fn code(this: Option<Self>) -> u8 {
        match this {
            None => 0,
            Some(Self::Record) => 1,
            Some(Self::Chunk) => 2,
            Some(Self::Contradiction) => 3,
            Some(Self::Checkpoint) => 4,
        }
    }

    /// The inner `None` is none.
    pub(super) const fn from_code(code: u8) -> Option<Option<Self>> {
        Some(match code {
            0 => None,
            1 => Some(Self::Record),
            2 => Some(Self::Chunk),
            3 => Some(Self::Contradiction),
            4 => Some(Self::Checkpoint),
            _ => return None,
        })
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Record => "a record of the journal that was about it has rotted",
            Self::Chunk => "bytes that the journal refers to have rotted",
            Self::Contradiction => "what is remembered of it contradicts itself",
            Self::Checkpoint => "what the checkpoint has of it has rotted, in both copies",
        })
    }
}

/// What a segment is to a log: what whoever follows the journal keeps of it.
pub(super) trait Run: Default {
    /// One that nothing was written to yet, and its base offset if that is known.
    fn begin(id: SegmentId, base: Option<Offset>) -> Self;
    fn id(&self) -> SegmentId;
    /// Nothing will be written to it any more.
    fn seal(&mut self);
    /// Takes off what is behind its first `len` bytes.
    fn cut(&mut self, len: u64) -> Self;
    /// It gets another id.
    fn rename(&mut self, id: SegmentId);
}

impl Run for Segment {
    fn begin(id: SegmentId, base: Option<Offset>) -> Self {
        Self {
            id,
            base: base.unwrap_or_default(),
            ..Self::default()
        }
    }

    fn id(&self) -> SegmentId {
        self.id
    }

    fn seal(&mut self) {
        self.sealed = true;
    }

    fn rename(&mut self, id: SegmentId) {
        self.id = id;
    }

    /// What is taken off has the memory and the chunks in which nothing is left, and as many bytes that are in none as
    /// are gone.
    fn cut(&mut self, len: u64) -> Self {
        let unplaced = self.len - self.placed;
        if self.filled < self.placed {
            self.settling = self.settling.max(Some(self.placed));
        }
        self.len = self.len.min(len);
        self.placed = self.placed.min(len);
        self.filled = self.filled.min(len);
        let kept = self.slices.partition_point(|slice| slice.pos < len);
        let slices = self.slices.split_off(kept);
        if let Some(last) = self.slices.back_mut() {
            let kept = (len - last.pos).min(last.bytes.len() as u64);
            last.bytes.truncate(kept as usize);
        }
        let kept = self.extents.partition_point(|e| e.start < len);
        Self {
            extents: self.extents.split_off(kept),
            slices,
            len: unplaced - (self.len - self.placed),
            ..Self::begin(self.id, Some(self.base))
        }
    }
}

/// A log.
#[derive(Clone, Debug)]
pub(super) struct LogEntry<S = Segment> {
    pub id: LogId,
    pub label: LogLabel,
    /// In the order of their ids; the last one is active. Empty only if nothing is known of the log.
    pub segments: VecDeque<S>,
    /// What is wrong with it: then it is kept for those who look for what is left, and not used.
    pub damage: Option<Damage>,
}

impl<S: Run> LogEntry<S> {
    pub fn new(id: LogId, label: LogLabel, first: Offset) -> Self {
        Self {
            id,
            label,
            segments: VecDeque::from([S::begin(SegmentId::FIRST, Some(first))]),
            damage: None,
        }
    }

    /// A log of which nothing is known but that it was there.
    pub fn unknown(id: LogId, damage: Damage) -> Self {
        let label = LogLabel {
            topic: format!("unnamed-log-{id}"),
            ..LogLabel::default()
        };
        Self {
            id,
            label,
            segments: VecDeque::new(),
            damage: Some(damage),
        }
    }

    /// The segment that is written to.
    pub fn active(&mut self) -> &mut S {
        if self.segments.is_empty() {
            self.segments.push_back(S::default());
        }
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    /// Starts a new segment.
    pub fn roll(&mut self, id: SegmentId, base: Option<Offset>) {
        if let Some(active) = self.segments.back_mut() {
            active.seal();
        }
        self.segments.push_back(S::begin(id, base));
    }

    /// Cuts the log back; returns what is gone.
    pub fn truncate(&mut self, cut: &Cut) -> Vec<S> {
        let kept = self.segments.partition_point(|s| s.id() <= cut.segment);
        let mut gone: Vec<S> = self.segments.split_off(kept).into();
        if cut.len > 0 {
            let last = self.segment_mut(cut.segment);
            gone.extend(last.map(|last| last.cut(cut.len)));
        } else if self.segment(cut.segment).is_some() {
            gone.extend(self.segments.pop_back());
        }
        self.roll(cut.next, Some(cut.base));
        gone
    }

    /// Whether a segment of this id can follow all that there are.
    pub fn is_new(&self, id: SegmentId) -> bool {
        self.segments.back().is_none_or(|active| active.id() < id)
    }

    /// The active segment, which is to be this one. If nobody has heard of it, its beginning is lost. `None` if
    /// others came after it.
    pub fn active_named(&mut self, id: SegmentId) -> Option<&mut S> {
        if self.is_new(id) {
            self.roll(id, None);
        }
        self.segments.back_mut().filter(|active| active.id() == id)
    }

    /// Whether all that is said to be replaced is there, and a segment fits in its place.
    pub fn can_replace(&self, cleaned: &Cleaned) -> bool {
        let (first, last) = cleaned.replaced;
        let (Some(from), Some(to)) = (self.number(first), self.number(last)) else {
            return false;
        };
        let before = from.checked_sub(1).and_then(|n| self.segments.get(n));
        let next = self.segments.get(to + 1);
        from <= to && next.is_some_and(|next| cleaned.fits(before.map(S::id), next.id()))
    }

    /// Puts a cleaned segment in the place of those that [it can replace](Self::can_replace); returns them.
    pub fn replace(&mut self, cleaned: &Cleaned, mut clean: S) -> Vec<S> {
        clean.seal();
        clean.rename(cleaned.by);
        let range = self
            .number(cleaned.replaced.0)
            .zip(self.number(cleaned.replaced.1));
        let Some((from, to)) = range else {
            return vec![clean];
        };
        let gone = self.segments.drain(from..=to).collect();
        self.segments.insert(from, clean);
        gone
    }

    /// Puts a cleaned segment beside those that it should have replaced, for those who look for what is left.
    pub fn put_beside(&mut self, id: SegmentId, mut clean: S) {
        clean.seal();
        clean.rename(id);
        let number = self.segments.partition_point(|s| s.id() < id);
        if self.segments.get(number).is_none_or(|s| s.id() != id) {
            self.segments.insert(number, clean);
        }
    }

    /// Removes the segments before this one, never the active one.
    pub fn drop_before(&mut self, id: SegmentId) -> Vec<S> {
        let mut dropped = Vec::new();
        while self.segments.len() > 1 && self.segments[0].id() < id {
            dropped.extend(self.segments.pop_front());
        }
        dropped
    }

    fn number(&self, id: SegmentId) -> Option<usize> {
        self.segments.binary_search_by_key(&id, S::id).ok()
    }

    pub fn segment(&self, id: SegmentId) -> Option<&S> {
        self.segments.get(self.number(id)?)
    }

    pub fn segment_mut(&mut self, id: SegmentId) -> Option<&mut S> {
        let number = self.number(id)?;
        self.segments.get_mut(number)
    }
}

/// All logs of a store.
#[derive(Debug)]
pub(super) struct Map<S = Segment> {
    pub logs: IdMap<LogId, LogEntry<S>>,
}

impl<S: Run> Map<S> {
    pub fn segment_mut(&mut self, log: LogId, segment: SegmentId) -> Option<&mut S> {
        self.logs.get_mut(&log)?.segment_mut(segment)
    }
}

impl<S> Default for Map<S> {
    fn default() -> Self {
        Self {
            logs: IdMap::default(),
        }
    }
}

impl Map {
    /// Every chunk that some segment has.
    pub fn chunks(&self) -> BTreeSet<Chunk> {
        self.logs
            .values()
            .flat_map(|log| &log.segments)
            .flat_map(|segment| &segment.extents)
            .map(|extent| extent.chunk)
            .collect()
    }
}
