//! The content of a checkpoint: the whole map as of a flush, with the bytes that
//! are in no chunk and what each log wants remembered.

use std::collections::VecDeque;

use bytes::Bytes;

use super::api::ChunkPin;
use super::chunks::{Chunk, Class};
use super::codec::{Put, Reader};
use super::journal::{decode_label, encode_label};
use super::map::{Damage, Extent, LogEntry, Map, Segment};
use crate::base::{IdMap, LogId, Offset};

const VERSION: u32 = 2;

/// Encodes the map. Everything up to `placed` of each segment will be durable in its chunks when the
/// checkpoint becomes valid; the rest is put in here.
pub(super) fn encode(map: &Map, states: &IdMap<LogId, Bytes>) -> Vec<u8> {
    // With very many logs this is large: to grow it step by step would take twice the memory.
    let mut out = Vec::with_capacity(encoded_len(map, states));
    out.u32(VERSION);
    out.u64(map.logs.len() as u64);
    for log in map.logs.values() {
        out.u64(log.id.0);
        encode_label(&log.label, &mut out);
        out.u8(Damage::code(log.damage));
        let state = states.get(&log.id).map_or(&[][..], |state| state);
        out.u32(state.len() as u32);
        out.put(state);
        out.u32(log.segments.len() as u32);
        for segment in &log.segments {
            encode_segment(segment, &mut out);
        }
    }
    out
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
    for part in segment.memory(segment.placed, segment.len) {
        out.put(&part);
    }
}

/// A decoded checkpoint.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub map: Map,
    pub states: Vec<(LogId, Bytes)>,
}

/// Decodes a checkpoint; `None` if it does not parse.
pub(super) fn decode(bytes: Bytes) -> Option<Snapshot> {
    let mut r = Reader::new(bytes);
    if r.u32()? != VERSION {
        return None;
    }
    let mut snapshot = Snapshot::default();
    for _ in 0..r.u64()? {
        let id = LogId(r.u64()?);
        let label = decode_label(&mut r)?;
        let damage = Damage::from_code(r.u8()?)?;
        let state_len = r.u32()?;
        let state = r.take(state_len as usize)?;
        let mut segments = VecDeque::new();
        for _ in 0..r.u32()? {
            segments.push_back(decode_segment(&mut r)?);
        }
        if segments.is_empty() || !segments.iter().is_sorted_by_key(|s: &Segment| s.base) {
            return None;
        }
        snapshot.states.push((id, state));
        snapshot.map.logs.insert(
            id,
            LogEntry {
                id,
                label,
                segments,
                damage,
            },
        );
    }
    r.is_at_end().then_some(snapshot)
}

fn decode_segment(r: &mut Reader) -> Option<Segment> {
    let base = Offset(r.i64()?);
    let sealed = r.u8()? != 0;
    let len = r.size()?;
    let placed = r.size()?;
    let tail = len.checked_sub(placed)?;
    let mut segment = Segment {
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
    let tail = r.take(usize::try_from(tail).ok()?)?;
    if !tail.is_empty() {
        segment.push_copy(&tail);
    }
    Some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkpoint of one log with one segment: its placed bytes, and where its chunk begins in the
    /// segment and in the file.
    fn checkpoint(placed: u64, start: u64, pos: u64) -> Bytes {
        let mut out = Vec::new();
        out.u32(VERSION);
        out.u64(1);
        out.u64(7);
        let label = super::super::LogLabel {
            topic: "orders".into(),
            topic_id: crate::base::TopicId([7; 16]),
            partition: 0,
        };
        encode_label(&label, &mut out);
        out.u8(0);
        out.u32(0);
        out.u32(1);
        out.i64(0);
        out.u8(1);
        out.u64(placed);
        out.u64(placed);
        out.u32(1);
        out.u64(start);
        out.u64(pos);
        out.u8(Class::Large.code());
        out.into()
    }

    #[test]
    fn positions_that_would_overflow_are_refused() {
        assert!(decode(checkpoint(4096, 0, 4 << 20)).is_some());
        assert!(decode(checkpoint(u64::MAX, 0, 4 << 20)).is_none());
        assert!(decode(checkpoint(4096, u64::MAX, 4 << 20)).is_none());
        assert!(decode(checkpoint(4096, 0, u64::MAX)).is_none());
    }
}
