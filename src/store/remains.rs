//! What there is of logs, perhaps with holes: segments as pieces, and the batches that are whole among these.

use bytes::Bytes;

use super::api::{DiskError, LogLabel, Piece};
use super::batch::batch_crc_is_right;
use super::layout::{block_ceil, block_floor};
use super::map::Run;
use crate::base::{BLOCK, LogId, Offset, SegmentId};

/// Bytes that are looked at together, in search of the next batch.
const WINDOW: u64 = 1 << 20;
/// Bytes of a batch before its records.
const BATCH_HEADER: u64 = 61;

/// What there is of a log.
#[derive(Debug)]
pub struct LogRemains {
    /// Its number.
    pub id: LogId,
    /// Which topic and partition it is.
    pub label: LogLabel,
    /// Its segments, in order.
    pub segments: Vec<Remains>,
}

impl LogRemains {
    /// By what logs are ordered for people.
    #[must_use]
    pub fn place(&self) -> (&str, i32) {
        (&self.label.topic, self.label.partition)
    }
}

/// What there is of a segment: bytes at their positions, perhaps with holes.
#[derive(Debug, Default)]
pub struct Remains {
    /// Its number.
    pub id: SegmentId,
    /// Its base offset, if that is known.
    pub base: Option<Offset>,
    /// By position, disjoint.
    parts: Vec<(u64, Piece)>,
    /// Positions at which a batch is known to begin, in order.
    boundaries: Vec<u64>,
}

/// What a walk comes by.
#[derive(Debug)]
pub enum Found<'a> {
    /// A whole batch whose CRC is right.
    Batch(&'a Bytes),
    /// A range that is none; the walk goes on behind it.
    Damage(BadRange),
}

/// A range of a segment that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRange {
    /// Byte position in the segment where the damage begins.
    pub pos: u64,
    /// What is wrong.
    pub why: &'static str,
}

type Read<'a> = &'a mut dyn FnMut(u64, usize) -> Result<Bytes, DiskError>;

/// What can be read of a store that cannot be opened.
#[derive(Debug, Default)]
pub struct Salvage {
    /// The logs, ordered by topic and partition.
    pub logs: Vec<LogRemains>,
    /// What is damaged, for people. Damage within the batches of a log is found by reading them.
    pub problems: Vec<String>,
}

impl Run for Remains {
    fn begin(id: SegmentId, base: Option<Offset>) -> Self {
        Self {
            id,
            base,
            ..Self::default()
        }
    }

    fn id(&self) -> SegmentId {
        self.id
    }

    fn seal(&mut self) {}

    fn rename(&mut self, id: SegmentId) {
        self.id = id;
    }

    fn cut(&mut self, len: u64) -> Self {
        self.parts.retain(|(start, _)| *start < len);
        if let Some((start, piece)) = self.parts.last_mut() {
            piece.truncate((len - *start) as usize);
        }
        self.boundaries.retain(|start| *start < len);
        Self::begin(self.id, self.base)
    }
}

impl Remains {
    /// A segment of pieces that follow each other.
    pub(super) fn whole(id: SegmentId, base: Offset, pieces: Vec<Piece>) -> Self {
        let mut remains = Self::begin(id, Some(base));
        for piece in pieces {
            remains.add(remains.end(), piece, false);
        }
        remains
    }

    /// Adds bytes at a position; those before the end are there already. `boundary`: the first of the new
    /// ones begins a batch.
    pub(super) fn add(&mut self, pos: u64, piece: Piece, boundary: bool) {
        let skip = self.end().saturating_sub(pos);
        let len = piece.len() as u64;
        if skip >= len {
            return;
        }
        if boundary {
            self.boundaries.push(pos + skip);
        }
        let piece = match piece {
            Piece::Memory(bytes) => Piece::Memory(bytes.slice(skip as usize..)),
            Piece::File {
                store,
                pos,
                len,
                pin,
                begins: _,
            } => Piece::File {
                store,
                pos: pos + skip,
                len: len - skip as usize,
                pin,
                begins: None,
            },
        };
        self.parts.push((pos + skip, piece));
    }

    /// The position behind the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        let last = self.parts.last();
        last.map_or(0, |(pos, piece)| pos + piece.len() as u64)
    }

    /// Reads it batch by batch. Damage ends with the batch that has it where the next one is found behind
    /// it, else where the next batch is known to begin or is found by its CRC.
    pub fn walk(&self, read: Read<'_>, each: &mut dyn FnMut(Found<'_>)) {
        let (mut pos, mut last) = (0, -1);
        while pos < self.end() {
            if let Some(batch) = self.batch(pos, read) {
                last = base_of(&batch).unwrap_or(last);
                each(Found::Batch(&batch));
                pos += batch.len() as u64;
                continue;
            }
            let header = self.bytes(pos, BATCH_HEADER.min(self.end() - pos), read);
            let why = match header.map(|header| self.len_at(pos, &header)) {
                None => "bytes that cannot be read",
                Some(None) => "a batch header that makes no sense",
                Some(Some(_)) => "a batch whose CRC is wrong",
            };
            each(Found::Damage(BadRange { pos, why }));
            pos = self.resume(pos, last, read);
        }
    }

    /// Where to go on behind damage at `pos`, after the batch with base offset `last`.
    fn resume(&self, pos: u64, last: i64, read: Read<'_>) -> u64 {
        let end = self.end();
        if let Some(len) = self
            .bytes(pos, BATCH_HEADER, read)
            .and_then(|header| self.len_at(pos, &header))
        {
            let next = pos + len;
            if next == end || self.batch(next, read).is_some() {
                return next;
            }
        }
        let known = self.boundaries.iter().find(|at| **at > pos);
        let limit = known.map_or(end, |at| *at);
        let mut from = pos + 1;
        while from < limit {
            // A window so long that a header that begins in it is in it.
            let len = WINDOW.min(limit - from);
            let Some(window) = self.bytes(from, len, read) else {
                from = self.next_block(from).min(limit);
                continue;
            };
            for (n, header) in window.windows(BATCH_HEADER as usize).enumerate() {
                let at = from + n as u64;
                if looks_like_a_batch(header, last) && self.batch(at, read).is_some() {
                    return at;
                }
            }
            if from + len >= limit {
                break;
            }
            from += len - BATCH_HEADER + 1;
        }
        limit
    }

    /// The next position from which reading may do better than at `pos`.
    fn next_block(&self, pos: u64) -> u64 {
        let next = self.parts.partition_point(|(start, _)| *start <= pos);
        let part = next.checked_sub(1).and_then(|n| self.parts.get(n));
        let following = self.parts.get(next).map_or(self.end(), |(start, _)| *start);
        let block = match part {
            Some((start, Piece::File { pos: at, .. })) => {
                let in_file = at + (pos - start);
                pos + block_floor(in_file + BLOCK as u64) - in_file
            }
            _ => following,
        };
        block.min(following).max(pos + 1)
    }

    /// The whole batch at a position, if there is one and its CRC is right.
    fn batch(&self, pos: u64, read: Read<'_>) -> Option<Bytes> {
        let header = self.bytes(pos, BATCH_HEADER, read)?;
        let len = self.len_at(pos, &header)?;
        let batch = Bytes::from(self.bytes(pos, len, read)?);
        batch_crc_is_right(&batch).then_some(batch)
    }

    /// The length that a header at `pos` names, if there is room for it.
    fn len_at(&self, pos: u64, header: &[u8]) -> Option<u64> {
        let len = header.get(8..12)?.try_into().ok().map(i32::from_be_bytes)?;
        let len = u64::try_from(len).ok()? + 12;
        (len >= BATCH_HEADER && pos + len <= self.end()).then_some(len)
    }

    /// The bytes of a range, if all of it is there and can be read.
    pub(super) fn bytes(&self, pos: u64, len: u64, read: Read<'_>) -> Option<Vec<u8>> {
        let first = self.parts.partition_point(|(start, _)| *start <= pos);
        let (mut at, end) = (pos, pos + len);
        let mut out = Vec::new();
        for (start, piece) in self.parts.get(first.checked_sub(1)?..)? {
            if at >= end {
                break;
            }
            let skip = at.checked_sub(*start)?;
            let some = (end - at).min((piece.len() as u64).checked_sub(skip)?);
            out.extend_from_slice(&fetch(piece, (skip as usize, some as usize), read).ok()?);
            at += some;
        }
        (at == end).then_some(out)
    }
}

fn base_of(batch: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(batch.get(..8)?.try_into().ok()?))
}

/// Whether it is worth while to compute a CRC: the base offset can be the next, the epoch and the magic byte
/// are some that are given.
fn looks_like_a_batch(header: &[u8], last: i64) -> bool {
    let after = |base: i64| base > last && base - last.max(0) <= i64::from(i32::MAX);
    base_of(header).is_some_and(after) && header[12] < 0x80 && header[16] == 2
}

fn fetch(piece: &Piece, (at, len): (usize, usize), read: Read<'_>) -> Result<Bytes, DiskError> {
    match piece {
        Piece::Memory(bytes) => Ok(bytes.slice(at..at + len)),
        Piece::File { pos, .. } => {
            let from = block_floor(pos + at as u64);
            let to = block_ceil(pos + (at + len) as u64);
            let blocks = read(from, (to - from) as usize)?;
            let skip = (pos + at as u64 - from) as usize;
            blocks
                .get(skip..skip + len)
                .map(Bytes::copy_from_slice)
                .ok_or(DiskError { errno: 5 })
        }
    }
}
