//! The content of a checkpoint: the whole map as of a flush, with the bytes that
//! are in no chunk and what each log wants remembered.
//!
//! First comes the head: which logs there are and where their bytes lie, without which no
//! chunk could be used. Its CRC is in the superblock, so that no other checkpoint's is taken for it. Then a section
//! for each log, with its state and the bytes in no chunk, whose CRC is in the head: what has rotted in both copies
//! costs the logs whose sections it is in.

use std::collections::VecDeque;

use bytes::Bytes;

use super::api::ChunkPin;
use super::chunks::{Chunk, Class};
use super::codec::{Put, Reader};
use super::journal::{decode_label, encode_label};
use super::map::{Damage, Extent, LogEntry, Map, Segment};
use crate::base::crc::crc32c;
use crate::base::{IdMap, LogId, Offset, SegmentId};

const VERSION: u32 = 4;
/// Version and length of the head, which is counted from here.
const HEAD: usize = 8;

/// Encodes the map. Everything up to `placed` of each segment will be durable in its chunks when the
/// checkpoint becomes valid; the rest is put in here.
pub(super) fn encode(map: &Map, states: &IdMap<LogId, Bytes>) -> Vec<u8> {
    let state_of = |log: &LogEntry| states.get(&log.id).map_or(&[][..], |state| state);
    // With very many logs this is large: to grow it step by step would take twice the memory.
    let mut out = Vec::with_capacity(encoded_len(map, states));
    out.u32(VERSION);
    out.u32(0); // The head's length, below.
    out.u64(map.logs.len() as u64);
    let mut crcs = Vec::with_capacity(map.logs.len());
    for log in map.logs.values() {
        out.u64(log.id.0);
        encode_label(&log.label, &mut out);
        out.u8(Damage::code(log.damage));
        out.u32(state_of(log).len() as u32);
        crcs.push(out.len());
        out.u32(0); // The section's CRC, below.
        out.u32(log.segments.len() as u32);
        for segment in &log.segments {
            encode_segment(segment, &mut out);
        }
    }
    let head = out.len() - HEAD;
    for (log, at) in map.logs.values().zip(crcs) {
        let start = out.len();
        out.put(state_of(log));
        for segment in &log.segments {
            for part in segment.memory(segment.placed, segment.len) {
                out.put(&part);
            }
        }
        let crc = crc32c(&out[start..]);
        out[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
    out[4..HEAD].copy_from_slice(&(head as u32).to_le_bytes());
    out
}

/// The head, as long as it says itself.
fn head(bytes: &[u8]) -> Option<&[u8]> {
    let len = u32::from_le_bytes(bytes.get(4..HEAD)?.try_into().ok()?);
    bytes.get(HEAD..)?.get(..len as usize)
}

/// CRC of the head.
pub(super) fn head_crc(bytes: &[u8]) -> u32 {
    head(bytes).map_or(0, crc32c)
}

/// Upper bound of the length.
fn encoded_len(map: &Map, states: &IdMap<LogId, Bytes>) -> usize {
    /// Fixed parts of the file, a log, a segment and an extent, rounded up.
    const FIXED: usize = 64;
    let states: usize = states.values().map(Bytes::len).sum();
    let logs = map.logs.values().map(|log| {
        let segments = log.segments.iter().map(|segment| {
            FIXED + FIXED * segment.extents.len() + (segment.len - segment.placed) as usize
        });
        FIXED + log.label.topic.len() + segments.sum::<usize>()
    });
    FIXED + states + logs.sum::<usize>()
}

fn encode_segment(segment: &Segment, out: &mut Vec<u8>) {
    out.u64(segment.id.0);
    out.i64(segment.base.0);
    out.u8(u8::from(segment.sealed));
    out.u64(segment.len);
    out.u64(segment.placed);
    out.u32(segment.extents.len() as u32);
    for extent in &segment.extents {
        out.u64(extent.start);
        out.u64(extent.chunk.pos);
        out.u8(extent.chunk.class.code());
    }
}

/// A decoded checkpoint.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub map: Map,
    pub states: Vec<(LogId, Bytes)>,
}

/// A log as the head has it, and what its section is like.
struct Known {
    log: LogEntry,
    state_len: usize,
    /// Bytes of each segment in the section.
    tails: Vec<usize>,
    crc: u32,
}

/// Decodes a checkpoint from what there is of its copies, all equally long; `None` if none has the head with this CRC.
/// A log whose section is whole in none is damaged.
pub(super) fn decode(copies: &[Bytes], head: u32) -> Option<Snapshot> {
    let (logs, mut at) = copies.iter().find_map(|copy| decode_head(copy, head))?;
    let mut snapshot = Snapshot::default();
    for known in logs {
        let tails = known.tails.iter();
        let len = tails
            .copied()
            .try_fold(known.state_len, usize::checked_add)?;
        let end = at.checked_add(len)?;
        let mut sections = copies
            .iter()
            .filter_map(|copy| copy.get(at..end).map(|_| copy.slice(at..end)));
        let whole = sections.find(|section| crc32c(section) == known.crc);
        if copies.iter().any(|copy| copy.len() < end) {
            return None;
        }
        at = end;
        let (log, state) = known.filled(whole);
        snapshot.states.push((log.id, state));
        snapshot.map.logs.insert(log.id, log);
    }
    copies
        .iter()
        .all(|copy| copy.len() == at)
        .then_some(snapshot)
}

/// Where the section of each log is.
#[cfg(test)]
pub(super) fn sections(content: &Bytes) -> Option<Vec<(LogId, std::ops::Range<usize>)>> {
    let (logs, mut at) = decode_head(content, head_crc(content))?;
    let mut sections = Vec::new();
    for known in logs {
        let start = at;
        at += known.state_len + known.tails.iter().sum::<usize>();
        sections.push((known.log.id, start..at));
    }
    Some(sections)
}

/// The logs, and where their sections begin.
fn decode_head(copy: &Bytes, crc: u32) -> Option<(Vec<Known>, usize)> {
    let version = Reader::new(copy.clone()).u32()?;
    let head = head(copy).filter(|head| version == VERSION && crc32c(head) == crc)?;
    let mut r = Reader::new(copy.slice(HEAD..HEAD + head.len()));
    let mut logs = Vec::new();
    for _ in 0..r.u64()? {
        logs.push(decode_log(&mut r)?);
    }
    r.is_at_end().then_some((logs, HEAD + head.len()))
}

fn decode_log(r: &mut Reader) -> Option<Known> {
    let id = LogId(r.u64()?);
    let label = decode_label(r)?;
    let damage = Damage::from_code(r.u8()?)?;
    let (state_len, crc) = (r.u32()? as usize, r.u32()?);
    let (mut segments, mut tails) = (VecDeque::new(), Vec::new());
    for _ in 0..r.u32()? {
        let (segment, tail) = decode_segment(r)?;
        segments.push_back(segment);
        tails.push(tail);
    }
    let follow = |a: &Segment, b: &Segment| a.id < b.id;
    if segments.is_empty() || !segments.iter().is_sorted_by(|a, b| follow(a, b)) {
        return None;
    }
    let log = LogEntry {
        id,
        label,
        segments,
        damage,
    };
    Some(Known {
        log,
        state_len,
        tails,
        crc,
    })
}

impl Known {
    /// The log with what is in its section, and its state. Without one it is damaged, with zeros in place of what
    /// is lost.
    fn filled(mut self, section: Option<Bytes>) -> (LogEntry, Bytes) {
        if section.is_none() {
            self.log.damage.get_or_insert(Damage::Checkpoint);
        }
        let part = |at: usize, len: usize| match &section {
            Some(section) => section.slice(at..at + len),
            None => vec![0; len].into(),
        };
        let mut at = self.state_len;
        for (segment, len) in self.log.segments.iter_mut().zip(self.tails) {
            if len > 0 {
                segment.push_copy(&part(at, len));
            }
            at += len;
        }
        let state = section.map(|section| section.slice(..self.state_len));
        (self.log, state.unwrap_or_default())
    }
}

/// A segment as far as it is in chunks, and how many bytes of it are in the section.
fn decode_segment(r: &mut Reader) -> Option<(Segment, usize)> {
    let id = SegmentId(r.size()?);
    let base = Offset(r.i64()?);
    let sealed = r.u8()? != 0;
    let len = r.size()?;
    let placed = r.size()?;
    let tail = len.checked_sub(placed)?;
    let mut segment = Segment {
        id,
        base,
        sealed,
        len: placed,
        placed,
        filled: placed,
        ..Segment::default()
    };
    for _ in 0..r.u32()? {
        segment.extents.push(Extent {
            start: r.size()?,
            chunk: Chunk {
                pos: r.size()?,
                class: Class::from_code(r.u8()?)?,
            },
            pin: ChunkPin::default(),
        });
    }
    if !segment.extents.is_sorted_by_key(|e| e.start) {
        return None;
    }
    Some((segment, usize::try_from(tail).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkpoint of one log with one segment: its placed bytes, and where its chunk begins in the
    /// segment and in the file.
    fn checkpoint(placed: u64, start: u64, pos: u64) -> Bytes {
        let mut out = Vec::new();
        out.u32(VERSION);
        out.u32(0);
        out.u64(1);
        out.u64(7);
        let label = super::super::LogLabel {
            topic: "orders".into(),
            topic_id: crate::base::TopicId([7; 16]),
            partition: 0,
        };
        encode_label(&label, &mut out);
        out.u8(0);
        out.u64(0); // No state; the CRC of nothing is 0.
        out.u32(1);
        out.u64(0);
        out.i64(0);
        out.u8(1);
        out.u64(placed);
        out.u64(placed);
        out.u32(1);
        out.u64(start);
        out.u64(pos);
        out.u8(Class::Large.code());
        let head = (out.len() - HEAD) as u32;
        out[4..HEAD].copy_from_slice(&head.to_le_bytes());
        out.into()
    }

    #[test]
    fn positions_that_would_overflow_are_refused() {
        let decode = |content: Bytes| decode(std::slice::from_ref(&content), head_crc(&content));
        assert!(decode(checkpoint(4096, 0, 4 << 20)).is_some());
        assert!(decode(checkpoint(u64::MAX, 0, 4 << 20)).is_none());
        assert!(decode(checkpoint(4096, u64::MAX, 4 << 20)).is_none());
        assert!(decode(checkpoint(4096, 0, u64::MAX)).is_none());
    }
}
