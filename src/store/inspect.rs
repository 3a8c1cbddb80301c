//! Looking into a store from outside: what is in it, and whether it is whole.
//! Works on a recovered [`Store`] and changes nothing.

use bytes::Bytes;

use super::api::{DiskError, LogLabel, Piece};
use super::recover::{batch_crc_is_right, batch_len};
use super::{LogId, Offset, Store};

/// A range of a log that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRange {
    /// Base offset of the segment.
    pub segment: Offset,
    /// Byte position in the segment where the damage begins.
    pub pos: u64,
    /// What is wrong.
    pub why: String,
}

/// What was found in one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Whole, correct batches.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first damage, if any: what follows cannot be told apart any more.
    pub bad: Option<BadRange>,
}

impl Store {
    /// The logs of the store.
    pub fn logs(&self) -> impl Iterator<Item = (LogId, &LogLabel)> {
        self.map.logs.values().map(|log| (log.id, &log.label))
    }

    /// The file ranges in which a segment lies: position in the file, position in the segment, length.
    pub fn extents(&self, log: LogId, segment: Offset) -> Vec<(u64, u64, u64)> {
        let segment = self.map.logs.get(&log).and_then(|log| log.segment(segment));
        segment.map_or_else(Vec::new, |segment| {
            segment
                .extents
                .iter()
                .map(|e| (e.chunk.pos, e.start, e.chunk.class.bytes()))
                .collect()
        })
    }

    /// Where the checkpoint lies, both copies of it: position in the file and bytes of each part.
    pub fn checkpoint_extents(&self) -> Vec<(u64, u64)> {
        let chunks = self.copies.iter().flat_map(super::Copy::chunks);
        chunks.map(|c| (c.pos, c.class.bytes())).collect()
    }

    /// Reads a segment batch by batch, checks each and gives it to `each`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn inspect_segment(
        &self,
        log: LogId,
        segment: Offset,
        read: &mut dyn FnMut(u64, usize) -> Result<Bytes, DiskError>,
        each: &mut dyn FnMut(&Bytes),
    ) -> Result<Inspection, DiskError> {
        let mut pieces = Vec::new();
        self.read(log, segment, 0, usize::MAX, &mut pieces);
        let mut found = Inspection::default();
        let mut carry: Vec<u8> = Vec::new();
        for piece in pieces {
            for part in split(&piece) {
                carry.extend_from_slice(&fetch(&piece, part, read)?);
                let mut at = 0;
                while let Some(len) = batch_len(&carry[at..]) {
                    let batch = Bytes::copy_from_slice(&carry[at..at + len]);
                    if !batch_crc_is_right(&batch) {
                        found.bad = Some(BadRange {
                            segment,
                            pos: found.bytes,
                            why: "a batch whose CRC is wrong".into(),
                        });
                        return Ok(found);
                    }
                    each(&batch);
                    found.batches += 1;
                    found.bytes += len as u64;
                    at += len;
                }
                carry.drain(..at);
            }
        }
        if !carry.is_empty() {
            found.bad = Some(BadRange {
                segment,
                pos: found.bytes,
                why: "a batch header that makes no sense".into(),
            });
        }
        Ok(found)
    }
}

/// Parts of a piece small enough to be read at once: (offset in the piece, length).
fn split(piece: &Piece) -> impl Iterator<Item = (usize, usize)> + use<> {
    const PART: usize = 1 << 20;
    let len = piece.len();
    (0..len)
        .step_by(PART)
        .map(move |at| (at, PART.min(len - at)))
}

fn fetch(
    piece: &Piece,
    (at, len): (usize, usize),
    read: &mut dyn FnMut(u64, usize) -> Result<Bytes, DiskError>,
) -> Result<Bytes, DiskError> {
    match piece {
        Piece::Memory(bytes) => Ok(bytes.slice(at..at + len)),
        Piece::File { pos, .. } => {
            let from = super::layout::block_floor(pos + at as u64);
            let to = super::layout::block_ceil(pos + (at + len) as u64);
            let blocks = read(from, (to - from) as usize)?;
            let skip = (pos + at as u64 - from) as usize;
            blocks
                .get(skip..skip + len)
                .map(Bytes::copy_from_slice)
                .ok_or(DiskError { errno: 5 })
        }
    }
}
