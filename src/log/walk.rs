//! Walking over batch headers in a window of a segment's bytes, and getting such
//! a window from the store: at once if it is in memory, else as pieces for the
//! driver to read.

use bytes::{Bytes, BytesMut};

use crate::base::{ErrorCode, LeaderEpoch, LogId, Offset, SegmentId};
use crate::record;
use crate::store::{BEGINNING_BYTES, Beginning, Piece, Store};

use super::segment::{Segment, of_records};

/// Bytes of a window where batches are small.
const WINDOW_BYTES_MAX: u64 = 256 * 1024;
/// Bytes of a window where batches are so large that each read finds one header.
const WINDOW_BYTES_MIN: u64 = 4096;
/// From this average batch length on, headers are read one by one.
const LARGE_BATCH_BYTES: u64 = 64 * 1024;
/// Bytes of a batch header.
pub(super) const HEADER_BYTES: u64 = record::HEADER_LEN as u64;

/// What a search needs of a batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHead {
    /// Position in the segment.
    pub(super) pos: u64,
    pub(super) len: u64,
    pub(super) base_offset: Offset,
    pub(super) last_offset: Offset,
    pub(super) epoch: LeaderEpoch,
    pub(super) max_timestamp: i64,
    /// All its records have the timestamp of the append, which is `max_timestamp`.
    pub(super) log_append_time: bool,
}

impl BatchHead {
    pub(super) fn end(&self) -> u64 {
        self.pos + self.len
    }
}

/// A run of a segment's bytes that begins at a batch.
#[derive(Clone, Copy)]
pub(super) struct Window<'a> {
    pub(super) segment: &'a Segment,
    /// Position of the first byte in the segment.
    pub(super) start: u64,
    pub(super) bytes: &'a [u8],
    /// Where its readable part ends, a batch boundary as those of the index: offset and position.
    pub(super) limit: (Offset, u64),
}

impl<'a> Window<'a> {
    /// The header of the batch at `pos`; `Ok(None)` if the window ends before its end.
    ///
    /// Length and offsets are outside of a batch's CRC: what the index and the end of the segment say is all
    /// that tells a header which has rotted from a good one.
    ///
    /// # Errors
    /// CORRUPT_MESSAGE if this log has no such batch there.
    pub(super) fn head(&self, pos: u64) -> Result<Option<BatchHead>, ErrorCode> {
        let Some(header) = self.slice(pos, HEADER_BYTES).and_then(record::header) else {
            return Ok(None);
        };
        match read_head(pos, header).filter(|head| self.agrees(head)) {
            Some(head) => Ok(Some(head)),
            None => Err(ErrorCode::CorruptMessage),
        }
    }

    /// Whether the index knows nothing that contradicts this header.
    fn agrees(&self, head: &BatchHead) -> bool {
        let (here, next) = self.segment.around(head.pos);
        let (mut offset, mut end) = self.limit;
        if let Some(next) = next
            && next.1 < end
        {
            (offset, end) = next;
        }
        let following = head.last_offset.plus(1);
        let (is_last, reaches) = (head.end() == end, following == offset);
        let begins = match here {
            // A segment's own base is no batch's, if it begins with a gap.
            Some(here) if head.pos > 0 => head.base_offset == here,
            Some(here) => self.follows(here, head.base_offset),
            None => true,
        };
        // Without gaps it reaches the next known batch with both or with neither.
        let ends = if self.segment.has_gaps {
            is_last || !reaches
        } else {
            is_last == reaches
        };
        begins && ends && head.end() <= end && following <= offset
    }

    /// Whether a batch of this base offset can stand where `expected` follows the one before it.
    pub(super) fn follows(&self, expected: Offset, base: Offset) -> bool {
        base == expected || self.segment.has_gaps && base > expected
    }

    /// All of a header that was [seen](Self::head).
    pub(super) fn header(&self, pos: u64) -> Option<&'a record::BatchHeader> {
        self.slice(pos, HEADER_BYTES).and_then(record::header)
    }

    /// How a batch begins whose header was [seen](Self::head).
    pub(super) fn beginning(&self, pos: u64) -> Option<Beginning> {
        let bytes = self.slice(pos, BEGINNING_BYTES as u64)?;
        bytes.try_into().ok()
    }

    /// The whole batch, if the window has it.
    pub(super) fn batch(&self, head: &BatchHead) -> Option<&'a [u8]> {
        self.slice(head.pos, head.len)
    }

    fn slice(&self, pos: u64, len: u64) -> Option<&'a [u8]> {
        let from = usize::try_from(pos.checked_sub(self.start)?).ok()?;
        let to = from.checked_add(usize::try_from(len).ok()?)?;
        self.bytes.get(from..to)
    }
}

fn read_head(pos: u64, header: &record::BatchHeader) -> Option<BatchHead> {
    const LEN_PREFIX: i32 = 12;
    const MAGIC: i8 = 2;
    let len = header.batch_length().checked_add(LEN_PREFIX)?;
    let len = u64::try_from(len).ok()?;
    let base_offset = header.base_offset();
    let delta = header.last_offset_delta();
    if len < HEADER_BYTES || base_offset < 0 || delta < 0 || header.magic() != MAGIC {
        return None;
    }
    let last_offset = base_offset.checked_add(i64::from(delta))?;
    last_offset.checked_add(1)?;
    Some(BatchHead {
        pos,
        len,
        base_offset: Offset(base_offset),
        last_offset: Offset(last_offset),
        epoch: LeaderEpoch(header.partition_leader_epoch()),
        max_timestamp: of_records(header.max_timestamp(), header.records_count()),
        log_append_time: header.attributes() & 0x08 != 0,
    })
}

/// Bytes asked for, where they are.
pub(super) enum Loaded {
    /// In memory.
    Memory(Bytes),
    /// At least partly in the file: to be read by the driver.
    File(Vec<Piece>),
}

/// Gets `len` bytes of a segment.
///
/// # Errors
/// KAFKA_STORAGE_ERROR if the store has fewer: it and the log disagree.
pub(super) fn load(
    store: &Store,
    log: LogId,
    segment: SegmentId,
    pos: u64,
    len: u64,
) -> Result<Loaded, ErrorCode> {
    let mut pieces = Vec::new();
    store.read(log, segment, pos, len as usize, &mut pieces);
    if pieces.iter().map(Piece::len).sum::<usize>() as u64 != len {
        return Err(ErrorCode::KafkaStorageError);
    }
    Ok(match joined(&pieces) {
        Some(bytes) => Loaded::Memory(bytes),
        None => Loaded::File(pieces),
    })
}

/// The pieces as one run of bytes, without a copy if there is but one; `None` if any is in the file.
fn joined(pieces: &[Piece]) -> Option<Bytes> {
    if let [Piece::Memory(bytes)] = pieces {
        return Some(bytes.clone());
    }
    let mut all = BytesMut::with_capacity(pieces.iter().map(Piece::len).sum());
    for piece in pieces {
        match piece {
            Piece::Memory(bytes) => all.extend_from_slice(bytes),
            Piece::File { .. } => return None,
        }
    }
    Some(all.freeze())
}

/// How many bytes to look at at once in this segment, from `pos` to no further than `limit`:
/// each header found leads to the next batch, so large batches need not be read to be passed.
pub(super) fn window_len(segment: &Segment, pos: u64, limit: u64) -> u64 {
    let average = segment.len.checked_div(segment.batches).unwrap_or(0);
    let len = match average >= LARGE_BATCH_BYTES {
        true => WINDOW_BYTES_MIN,
        false => WINDOW_BYTES_MAX,
    };
    len.min(limit.saturating_sub(pos))
}
