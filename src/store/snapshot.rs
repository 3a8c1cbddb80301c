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
use super::journal::{decode_label, encode_label};
use super::map::{Damage, Extent, LogEntry, Map, Segment};
use super::parts::Parts;
use crate::base::codec::{Put, Reader};
use crate::base::crc::{Crc32c, crc32c, crc32c_joined};
use crate::base::{LogId, Offset, SegmentId};

const VERSION: u32 = 4;
/// Version and length of the head, which is counted from here.
const HEAD: usize = 8;

/// The content of a checkpoint while it is made, log by log, in any order.
#[derive(Debug)]
pub(super) struct Encoder {
    head: Parts,
    sections: Parts,
    /// Bytes that are in no chunk.
    unplaced: u64,
}

/// All of it, as it is written.
#[derive(Debug)]
pub(super) struct Content {
    pub parts: Vec<Bytes>,
    pub len: u64,
    pub crc: u32,
    pub head_crc: u32,
    /// Bytes of logs that are in no chunk.
    pub unplaced: u64,
}

impl Encoder {
    /// For so many logs.
    pub fn new(logs: usize) -> Self {
        let mut head = Parts::default();
        head.u64(logs as u64);
        Self {
            head,
            sections: Parts::default(),
            unplaced: 0,
        }
    }

    /// Adds a log and what it wants remembered. Everything up to `placed` of each segment will be durable in its
    /// chunks when the checkpoint becomes valid; the rest is put in here. Returns how many bytes it took.
    pub fn log(&mut self, log: &LogEntry, state: Bytes) -> u64 {
        let before = self.head.len() + self.sections.len();
        let (state_len, mut crc) = (state.len() as u32, Crc32c::default());
        let segments = || log.segments.iter();
        let tails = segments().flat_map(|segment| segment.memory(segment.placed, segment.len));
        for part in std::iter::once(state).chain(tails) {
            crc.update(&part);
            self.sections.share(part);
        }
        self.unplaced += segments().map(|s| s.len - s.placed).sum::<u64>();
        let head = &mut self.head;
        head.u64(log.id.0);
        encode_label(&log.label, head);
        head.u8(Damage::code(log.damage));
        head.u32(state_len);
        head.u32(crc.finish());
        head.u32(log.segments.len() as u32);
        segments().for_each(|segment| encode_segment(segment, head));
        self.head.len() + self.sections.len() - before
    }

    /// Bytes of logs so far that were in no chunk.
    pub fn unplaced(&self) -> u64 {
        self.unplaced
    }

    pub fn finish(self) -> Content {
        let (head_len, sections_len) = (self.head.len(), self.sections.len());
        let (head, head_crc) = self.head.finish();
        let (sections, sections_crc) = self.sections.finish();
        let mut start = Vec::with_capacity(HEAD);
        start.u32(VERSION);
        start.u32(head_len as u32);
        let crc = crc32c_joined(crc32c(&start), head_crc, head_len);
        Content {
            len: HEAD as u64 + head_len + sections_len,
            crc: crc32c_joined(crc, sections_crc, sections_len),
            head_crc,
            unplaced: self.unplaced,
            parts: [vec![start.into()], head, sections].concat(),
        }
    }
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

fn encode_segment(segment: &Segment, out: &mut Parts) {
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
        let start = r.size()?;
        let chunk = Chunk {
            pos: r.size()?,
            class: Class::from_code(r.u8()?)?,
        };
        segment.extents.push(Extent {
            start,
            chunk,
            pin: ChunkPin::of(chunk),
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
