//! The map: which log has which segments, and where their bytes are. A segment's
//! bytes are in chunks up to `filled`; what comes after is in memory, and in the
//! journal or the checkpoint. Memory also keeps recent bytes that are in chunks already.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::api::{ChunkPin, LogLabel, Piece};
use super::chunks::Chunk;
use super::layout::block_floor;
use crate::base::{IdMap, LogId, Offset, StoreId};

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
    pub slices: VecDeque<Slice>,
    pub sealed: bool,
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

    /// Adds bytes at the end, in memory of their own.
    pub fn push_copy(&mut self, bytes: &[u8]) {
        let pos = self.len;
        self.len += bytes.len() as u64;
        self.slices.push_back(Slice {
            pos,
            bytes: Bytes::copy_from_slice(bytes),
            cached: false,
        });
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
            .range(first..)
            .take_while(move |slice| slice.pos < to)
            .map(move |slice| {
                let start = from.saturating_sub(slice.pos) as usize;
                let end = (to - slice.pos).min(slice.bytes.len() as u64) as usize;
                slice.bytes.slice(start..end)
            })
    }

    /// More is durable in chunks: copies that were kept only for lack of that may go.
    pub fn filled_to(&mut self, filled: u64) {
        self.filled = self.filled.max(filled);
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
    /// bytes are in a chunk, else keeps what is needed in a copy that pins nothing else.
    pub fn evict_oldest_cached(&mut self) {
        let Some(index) = self.slices.iter().position(|slice| slice.cached) else {
            return;
        };
        let filled = self.filled;
        let slice = &mut self.slices[index];
        let end = slice.pos + slice.bytes.len() as u64;
        if end <= filled && index == 0 {
            self.slices.pop_front();
            return;
        }
        if slice.pos < filled && index == 0 {
            slice.bytes = slice.bytes.slice((filled - slice.pos) as usize..);
            slice.pos = filled;
        }
        slice.bytes = Bytes::copy_from_slice(&slice.bytes);
        slice.cached = false;
    }

    /// Where filling should get to: whole blocks, and the padded last one of a sealed segment.
    pub fn fill_target(&self) -> u64 {
        if self.sealed {
            self.len
        } else {
            block_floor(self.len)
        }
    }

    /// Adds the bytes `[pos, end)` to a read plan; both are within what is readable.
    pub fn read(&self, store: StoreId, mut pos: u64, end: u64, out: &mut Vec<Piece>) {
        let in_chunks = self.memory_start().min(end);
        while pos < in_chunks {
            let Some((extent, covered)) = self.extent_at(pos) else {
                debug_assert!(false, "a hole in a segment");
                return;
            };
            let to = covered.min(in_chunks);
            out.push(Piece::File {
                store,
                pos: extent.chunk.pos + (pos - extent.start),
                len: (to - pos) as usize,
                pin: extent.pin.clone(),
            });
            pos = to;
        }
        out.extend(self.memory(pos, end).map(Piece::Memory));
    }
}

/// A log.
#[derive(Clone, Debug)]
pub(super) struct LogEntry {
    pub id: LogId,
    pub label: LogLabel,
    /// In the order of their bases; the last one is active. Never empty.
    pub segments: VecDeque<Segment>,
}

impl LogEntry {
    pub fn new(id: LogId, label: LogLabel, first: Offset) -> Self {
        Self {
            id,
            label,
            segments: VecDeque::from([Segment {
                base: first,
                ..Segment::default()
            }]),
        }
    }

    /// The segment that is written to.
    pub fn active(&mut self) -> &mut Segment {
        if self.segments.is_empty() {
            self.segments.push_back(Segment::default());
        }
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    pub fn segment(&self, base: Offset) -> Option<&Segment> {
        let index = self.segments.binary_search_by_key(&base, |s| s.base).ok()?;
        self.segments.get(index)
    }

    pub fn segment_mut(&mut self, base: Offset) -> Option<&mut Segment> {
        let index = self.segments.binary_search_by_key(&base, |s| s.base).ok()?;
        self.segments.get_mut(index)
    }

    /// Starts a new segment.
    pub fn roll(&mut self, base: Offset) {
        self.active().sealed = true;
        self.segments.push_back(Segment {
            base,
            ..Segment::default()
        });
    }

    /// Removes the segments below `base`, never the active one.
    pub fn drop_before(&mut self, base: Offset) -> Vec<Segment> {
        let mut dropped = Vec::new();
        while self.segments.len() > 1 && self.segments[0].base < base {
            dropped.extend(self.segments.pop_front());
        }
        dropped
    }
}

/// All logs of a store.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub logs: IdMap<LogId, LogEntry>,
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
