//! Journal records: one for each flush. A record is accepted only if its own CRC
//! is right, it belongs to this store, its number is the expected one, the start of
//! the process that wrote it owns that number, and it names the CRC of the record
//! before it. So neither the stale suffix of a torn write, nor a record of an earlier
//! lap of the ring, nor one that an earlier recovery has rejected, wherever it lies,
//! can ever be taken for the successor.
//!
//! Each record begins with the logs that the one before it is about. If that one has rotted, it is known
//! which logs lack something, and that no other does.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::api::{Cleaned, Cut, FlushSeq, LogLabel};
use super::chunks::{Chunk, Class};
use crate::base::codec::{Put, Reader};
use crate::base::crc::crc32c;
use crate::base::{LogId, Offset, SegmentId, TopicId};

const MAGIC: u32 = u32::from_le_bytes(*b"MRJ5");
/// Bytes of a record before its entries.
pub(super) const HEADER: usize = 48;
/// Upper bound of the encoding of an entry, its own bytes and names not counted.
pub(super) const ENTRY_BYTES_MAX: usize = 64;
/// Longest remark; with it its entry is no longer than that.
pub(super) const REMARK_BYTES_MAX: usize = 32;

/// What a record says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub crc: u32,
    pub uuid: u64,
    pub seq: FlushSeq,
    /// The durable end that was known when the record was written: proof that all before it was acked.
    pub durable: FlushSeq,
    pub chain: u32,
    /// Header and entries, without the padding to whole blocks.
    pub len: u32,
    /// Number of the start of the process: no two records ever have the same bytes.
    pub start: u64,
}

impl Header {
    /// Writes the header into the first bytes of `record` (header and entries) and returns the CRC.
    pub fn seal(mut self, record: &mut [u8]) -> u32 {
        self.len = record.len() as u32;
        let mut out = Vec::with_capacity(HEADER);
        out.u32(MAGIC);
        out.u32(0);
        out.u64(self.uuid);
        out.u64(self.seq.0);
        out.u64(self.durable.0);
        out.u32(self.chain);
        out.u32(self.len);
        out.u64(self.start);
        out.resize(HEADER, 0);
        record[..HEADER].copy_from_slice(&out);
        let crc = crc32c(&record[8..]);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Reads a header; `None` if there is none.
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let mut r = Reader::new(bytes.clone());
        if r.u32()? != MAGIC {
            return None;
        }
        let header = Self {
            crc: r.u32()?,
            uuid: r.u64()?,
            seq: FlushSeq(r.u64()?),
            durable: FlushSeq(r.u64()?),
            chain: r.u32()?,
            len: r.u32()?,
            start: r.u64()?,
        };
        (header.len as usize >= HEADER).then_some(header)
    }
}

/// One statement of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Create {
        log: LogId,
        first: Offset,
        label: LogLabel,
    },
    Delete {
        log: LogId,
    },
    /// A new segment becomes the active one.
    Roll {
        log: LogId,
        segment: SegmentId,
        base: Offset,
    },
    /// The log is cut back, with a note of its own.
    Truncate {
        log: LogId,
        cut: Cut,
        note: Bytes,
    },
    /// The only segment of the log in which they were [cleaned](LogId::cleaning) takes the place of some, with a note
    /// of the log's own. That other log is gone.
    Clean {
        log: LogId,
        cleaned: Cleaned,
        note: Bytes,
    },
    /// The segments before this one are gone.
    DropBefore {
        log: LogId,
        segment: SegmentId,
    },
    Note {
        log: LogId,
        note: Bytes,
    },
    /// What the log says of itself: the newest one counts.
    Remark {
        log: LogId,
        remark: Bytes,
    },
    /// Bytes at the end of the active segment.
    Inline {
        log: LogId,
        segment: SegmentId,
        pos: u64,
        bytes: Bytes,
    },
    /// `[pos, pos + len)` of the active segment is in a chunk. `pos` may lie before the end: the bytes up
    /// to the end are the remainder that was inline before.
    Ref {
        log: LogId,
        segment: SegmentId,
        pos: u64,
        len: u32,
        crc: u32,
        /// The chunk, and the segment position of its first byte.
        chunk: Chunk,
        chunk_start: u64,
    },
}

const CREATE: u8 = 1;
const DELETE: u8 = 2;
const ROLL: u8 = 3;
const DROP_BEFORE: u8 = 4;
const NOTE: u8 = 5;
const INLINE: u8 = 6;
const REF: u8 = 7;
const TRUNCATE: u8 = 8;
const REMARK: u8 = 9;
const CLEAN: u8 = 10;

impl Entry {
    /// Appends the entry.
    pub fn encode(&self, out: &mut impl Put) {
        match self {
            Self::Create { log, first, label } => {
                out.u8(CREATE);
                out.u64(log.0);
                out.i64(first.0);
                encode_label(label, out);
            }
            Self::Delete { log } => {
                out.u8(DELETE);
                out.u64(log.0);
            }
            Self::Roll { log, segment, base } => {
                out.u8(ROLL);
                out.u64(log.0);
                out.u64(segment.0);
                out.i64(base.0);
            }
            Self::Truncate { log, cut, note } => {
                out.u8(TRUNCATE);
                out.u64(log.0);
                out.u64(cut.segment.0);
                out.u64(cut.len);
                out.u64(cut.next.0);
                out.i64(cut.base.0);
                out.u32(note.len() as u32);
                out.put(note);
            }
            Self::Clean { log, cleaned, note } => {
                out.u8(CLEAN);
                out.u64(log.0);
                out.u64(cleaned.replaced.0.0);
                out.u64(cleaned.replaced.1.0);
                out.u64(cleaned.by.0);
                out.u32(note.len() as u32);
                out.put(note);
            }
            Self::DropBefore { log, segment } => {
                out.u8(DROP_BEFORE);
                out.u64(log.0);
                out.u64(segment.0);
            }
            Self::Note { log, note } => {
                out.u8(NOTE);
                out.u64(log.0);
                out.u32(note.len() as u32);
                out.put(note);
            }
            Self::Remark { log, remark } => {
                out.u8(REMARK);
                out.u64(log.0);
                out.u8(remark.len() as u8);
                out.put(remark);
            }
            Self::Inline {
                log,
                segment,
                pos,
                bytes,
            } => {
                inline_header((*log, *segment), *pos, bytes.len(), out);
                out.put(bytes);
            }
            Self::Ref {
                log,
                segment,
                pos,
                len,
                crc,
                chunk,
                chunk_start,
            } => {
                out.u8(REF);
                out.u64(log.0);
                out.u64(segment.0);
                out.u64(*pos);
                out.u32(*len);
                out.u32(*crc);
                out.u64(chunk.pos);
                out.u8(chunk.class.code());
                out.u64(*chunk_start);
            }
        }
    }

    /// The segment that is the active one from there on, if it makes one.
    pub fn begins(&self) -> Option<SegmentId> {
        match self {
            Self::Create { .. } => Some(SegmentId::FIRST),
            Self::Roll { segment, .. } => Some(*segment),
            Self::Truncate { cut, .. } => Some(cut.next),
            _ => None,
        }
    }

    /// Which log it is about.
    pub fn log(&self) -> LogId {
        match self {
            Self::Create { log, .. }
            | Self::Delete { log }
            | Self::Roll { log, .. }
            | Self::Truncate { log, .. }
            | Self::Clean { log, .. }
            | Self::DropBefore { log, .. }
            | Self::Note { log, .. }
            | Self::Remark { log, .. }
            | Self::Inline { log, .. }
            | Self::Ref { log, .. } => *log,
        }
    }

    /// The log besides that of which it is the last word.
    pub fn ends(&self) -> Option<LogId> {
        match self {
            Self::Clean { log, .. } => Some(log.cleaning()),
            _ => None,
        }
    }

    fn decode(r: &mut Reader) -> Option<Self> {
        let kind = r.u8()?;
        let log = LogId(r.u64()?);
        Some(match kind {
            CREATE => Self::Create {
                log,
                first: Offset(r.i64()?),
                label: decode_label(r)?,
            },
            DELETE => Self::Delete { log },
            ROLL => Self::Roll {
                log,
                segment: SegmentId(r.size()?),
                base: Offset(r.i64()?),
            },
            TRUNCATE => Self::Truncate {
                log,
                cut: Cut {
                    segment: SegmentId(r.size()?),
                    len: r.size()?,
                    next: SegmentId(r.size()?),
                    base: Offset(r.i64()?),
                },
                note: {
                    let len = r.u32()?;
                    r.take(len as usize)?
                },
            },
            CLEAN => Self::Clean {
                log,
                cleaned: Cleaned {
                    replaced: (SegmentId(r.size()?), SegmentId(r.size()?)),
                    by: SegmentId(r.size()?),
                },
                note: {
                    let len = r.u32()?;
                    r.take(len as usize)?
                },
            },
            DROP_BEFORE => Self::DropBefore {
                log,
                segment: SegmentId(r.size()?),
            },
            NOTE => {
                let len = r.u32()?;
                Self::Note {
                    log,
                    note: r.take(len as usize)?,
                }
            }
            REMARK => {
                let len = r.u8()?;
                Self::Remark {
                    log,
                    remark: r.take(len.into())?,
                }
            }
            INLINE => {
                let segment = SegmentId(r.size()?);
                let pos = r.size()?;
                let len = r.u32()?;
                Self::Inline {
                    log,
                    segment,
                    pos,
                    bytes: r.take(len as usize)?,
                }
            }
            REF => Self::Ref {
                log,
                segment: SegmentId(r.size()?),
                pos: r.size()?,
                len: r.u32()?,
                crc: r.u32()?,
                chunk: Chunk {
                    pos: r.size()?,
                    class: Class::from_code(r.u8()?)?,
                },
                chunk_start: r.size()?,
            },
            _ => return None,
        })
    }
}

/// The part of an inline entry before its bytes, which the flush copies in by itself.
pub(super) fn inline_header(
    (log, segment): (LogId, SegmentId),
    pos: u64,
    len: usize,
    out: &mut impl Put,
) {
    out.u8(INLINE);
    out.u64(log.0);
    out.u64(segment.0);
    out.u64(pos);
    out.u32(len as u32);
}

/// Appends a label.
pub(super) fn encode_label(label: &LogLabel, out: &mut impl Put) {
    out.put(&label.topic_id.0);
    out.i32(label.partition);
    out.u16(label.topic.len() as u16);
    out.put(label.topic.as_bytes());
}

/// Reads a label.
pub(super) fn decode_label(r: &mut Reader) -> Option<LogLabel> {
    let topic_id = TopicId(r.id()?);
    let partition = r.i32()?;
    let len = r.u16()?;
    let topic = String::from_utf8(r.take(len as usize)?.to_vec()).ok()?;
    Some(LogLabel {
        topic,
        topic_id,
        partition,
    })
}

/// Bytes of the list of logs that a record begins with.
pub(super) const fn before_bytes(logs: usize) -> usize {
    4 + 8 * logs
}

/// Appends the logs that the record before is about.
pub(super) fn encode_before(logs: &[LogId], out: &mut impl Put) {
    out.u32(logs.len() as u32);
    for log in logs {
        out.u64(log.0);
    }
}

fn decode_before(r: &mut Reader) -> Option<Vec<LogId>> {
    let count = r.u32()?;
    (0..count).map(|_| r.u64().map(LogId)).collect()
}

fn content(record: &Bytes) -> Reader {
    Reader::new(record.slice(HEADER.min(record.len())..))
}

/// The logs that the record before this one, whose CRC is right, is about.
pub(super) fn before(record: &Bytes) -> Option<Vec<LogId>> {
    decode_before(&mut content(record))
}

/// The logs that entries are about, each once. A remark alone is nothing that a log could lack.
pub(super) fn logs_of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<LogId> {
    let entries = entries.into_iter();
    let about = entries.filter(|entry| !matches!(entry, Entry::Remark { .. }));
    let logs = about.flat_map(|entry| entry.ends().into_iter().chain([entry.log()]));
    let logs: BTreeSet<LogId> = logs.collect();
    logs.into_iter().collect()
}

/// The entries of a record whose CRC is right. `None` if they do not parse.
pub(super) fn entries(record: &Bytes) -> Option<Vec<Entry>> {
    let mut r = content(record);
    decode_before(&mut r)?;
    let mut entries = Vec::new();
    while !r.is_at_end() {
        entries.push(Entry::decode(&mut r)?);
    }
    Some(entries)
}

/// Whether the record's CRC is right.
pub(super) fn crc_is_right(header: &Header, record: &[u8]) -> bool {
    record.len() == header.len as usize && record.len() >= 8 && crc32c(&record[8..]) == header.crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<Entry> {
        let log = LogId(4);
        vec![
            Entry::Create {
                log,
                first: Offset(0),
                label: LogLabel {
                    topic: "orders".into(),
                    topic_id: TopicId([7; 16]),
                    partition: 2,
                },
            },
            Entry::Inline {
                log,
                segment: SegmentId::FIRST,
                pos: 0,
                bytes: Bytes::from_static(b"batch"),
            },
            Entry::Roll {
                log,
                segment: SegmentId(1),
                base: Offset(9),
            },
            Entry::Ref {
                log,
                segment: SegmentId(1),
                pos: 0,
                len: 4096,
                crc: 1,
                chunk: Chunk {
                    pos: 1 << 20,
                    class: Class::Large,
                },
                chunk_start: 0,
            },
            Entry::DropBefore {
                log,
                segment: SegmentId(1),
            },
            Entry::Truncate {
                log,
                cut: Cut {
                    segment: SegmentId(1),
                    len: 61,
                    next: SegmentId(2),
                    base: Offset(10),
                },
                note: Bytes::from_static(b"n"),
            },
            Entry::Note {
                log,
                note: Bytes::from_static(b"n"),
            },
            Entry::Remark {
                log,
                remark: Bytes::from_static(b"m"),
            },
            Entry::Delete { log },
        ]
    }

    fn record(entries: &[Entry]) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        encode_before(&[LogId(4), LogId(9)], &mut out);
        for entry in entries {
            entry.encode(&mut out);
        }
        let header = Header {
            crc: 0,
            uuid: 1,
            seq: FlushSeq(2),
            durable: FlushSeq(1),
            chain: 3,
            len: 0,
            start: 4,
        };
        header.seal(&mut out);
        out
    }

    #[test]
    fn round_trip() {
        let bytes = Bytes::from(record(&sample()));
        let header = Header::decode(&bytes).unwrap();
        assert!(crc_is_right(&header, &bytes));
        assert_eq!((header.seq, header.chain), (FlushSeq(2), 3));
        assert_eq!(entries(&bytes).unwrap(), sample());
        assert_eq!(before(&bytes), Some(vec![LogId(4), LogId(9)]));
        assert_eq!(logs_of(&sample()), [LogId(4)]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = Bytes::from(bytes);
            let _ = Header::decode(&bytes);
            let _ = (entries(&bytes), before(&bytes));
        }

        #[test]
        fn a_flipped_bit_is_noticed(bit in 32usize..8 * 150) {
            let mut bytes = record(&sample());
            let at = bit / 8 % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
            let bytes = Bytes::from(bytes);
            let good = Header::decode(&bytes).is_some_and(|h| crc_is_right(&h, &bytes));
            prop_assert!(!good);
        }
    }
}
