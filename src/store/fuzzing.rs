//! What the fuzzer needs of the store's own formats, which are nobody else's
//! business: each decoder run on given bytes, with what must hold of whatever it
//! accepts, and good inputs to start from.
//!
//! The functions panic where an assertion does not hold. What they return tells
//! outcomes apart, and means nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::api::{Cleaned, Cut, FlushSeq, LogLabel};
use super::chunks::{Chunk, Class};
use super::copies::{NAMED_MAX, Named};
use super::journal::{self, Entry, Header};
use super::map::{Extent, LogEntry, Map};
use super::snapshot::{self, Snapshot};
use super::superblock::{STARTS_MAX, Start, Superblock};
use crate::base::{BLOCK, IdMap, LogId, Offset, SegmentId, StoreId, TopicId};

/// Counts are told apart up to here, so that longer inputs are not new for ever.
const COUNT_MAX: usize = 15;

/// Reads a journal record. What parses is written again, byte for byte the same.
pub fn journal(record: &Bytes) -> u64 {
    let header = Header::decode(record);
    let sealed = header
        .as_ref()
        .is_some_and(|header| journal::crc_is_right(header, record));
    if let Some(header) = header.filter(|_| sealed) {
        let mut again = record.to_vec();
        let crc = header.seal(&mut again);
        let read = Header::decode(&again.into());
        assert_eq!(read, Some(Header { crc, ..header }));
    }
    let parsed = journal::entries(record).map(|entries| {
        let body = &record[journal::HEADER.min(record.len())..];
        let mut again = Vec::with_capacity(body.len());
        let before = journal::before(record).unwrap_or_default();
        journal::encode_before(&before, &mut again);
        entries.iter().for_each(|entry| entry.encode(&mut again));
        assert_eq!(again, body, "entries read and written again");
        entries.iter().fold(count(entries.len()), |kinds, entry| {
            kinds | 1 << (4 + kind(entry))
        })
    });
    let state = u64::from(header.is_some()) << 1 | u64::from(sealed);
    parsed.map_or(state, |parsed| (parsed << 3) | 4 | state)
}

fn kind(entry: &Entry) -> u32 {
    match entry {
        Entry::Create { .. } => 0,
        Entry::Delete { .. } => 1,
        Entry::Roll { .. } => 2,
        Entry::DropBefore { .. } => 3,
        Entry::Note { .. } => 4,
        Entry::Inline { .. } => 5,
        Entry::Ref { .. } => 6,
        Entry::Truncate { .. } => 7,
        Entry::Remark { .. } => 8,
        Entry::Clean { .. } => 9,
    }
}

/// Reads the content of a checkpoint. What parses is read the same after it was written again, and its
/// segments can be read from end to end.
pub fn checkpoint(content: &Bytes) -> u64 {
    let decode = |content: Bytes| {
        let head = snapshot::head_crc(&content);
        snapshot::decode(&[content], head)
    };
    let Some(read) = decode(content.clone()) else {
        return 0;
    };
    let logs = encoded_logs(&read);
    let states = read.states.iter().cloned().collect();
    let again = encode(&read.map, &states);
    assert!(again.len() <= content.len(), "it grew");
    let again = decode(again.into()).expect("our own checkpoint");
    assert_eq!(encoded_logs(&again), logs);

    let segments = || read.map.logs.values().flat_map(|log| &log.segments);
    for segment in segments() {
        let memory: usize = segment
            .memory(segment.placed, segment.len)
            .map(|part| part.len())
            .sum();
        assert_eq!(memory as u64, segment.len - segment.placed);
        for pos in [0, segment.placed, segment.len, u64::MAX] {
            // Whatever it finds, it is an extent that begins no later.
            let found = segment.extent_at(pos);
            assert!(found.is_none_or(|(extent, end)| extent.start <= pos && pos < end));
        }
    }
    let in_chunks = segments().map(|segment| segment.extents.len()).sum();
    let in_memory = segments().filter(|s| s.placed < s.len).count();
    let counts = [read.states.len(), segments().count(), in_chunks, in_memory];
    counts
        .into_iter()
        .fold(1, |outcome, n| (outcome << 4) | count(n))
}

fn encode(map: &Map, states: &IdMap<LogId, Bytes>) -> Vec<u8> {
    let mut encoder = snapshot::Encoder::new(map.logs.len());
    for log in map.logs.values() {
        encoder.log(log, states.get(&log.id).cloned().unwrap_or_default());
    }
    encoder.finish().parts.concat()
}

/// Each log by itself as a checkpoint, since the order of the logs is not fixed.
fn encoded_logs(snapshot: &Snapshot) -> BTreeMap<LogId, Vec<u8>> {
    let states: IdMap<LogId, Bytes> = snapshot.states.iter().cloned().collect();
    let alone = |log: &LogEntry| {
        let mut map = Map::default();
        map.logs.insert(log.id, log.clone());
        encode(&map, &states)
    };
    let logs = snapshot.map.logs.values();
    logs.map(|log| (log.id, alone(log))).collect()
}

/// Reads a superblock. What is accepted is read the same after it was written again, and says nothing
/// that cannot be.
///
/// # Errors
/// What is wrong with it.
pub fn superblock(block: &Bytes) -> Result<u64, &'static str> {
    let read = Superblock::decode(block)?;
    assert_eq!(Superblock::decode(&read.encode()).as_ref(), Ok(&read));
    assert!(read.journal_bytes >= BLOCK as u64);
    let named = read.checkpoint.iter().map(|copy| copy.chunks.len());
    assert!(named.clone().all(|chunks| chunks <= NAMED_MAX));
    assert!((1..=STARTS_MAX).contains(&read.starts.len()));
    assert!(read.owner_of(FlushSeq(u64::MAX)) == Some(read.start()) && read.found() >= read.flush);
    Ok(count(named.sum()) << 4 | count(read.starts.len()))
}

fn count(n: usize) -> u64 {
    n.min(COUNT_MAX) as u64
}

/// Journal records: none, one and all of the kinds of entries.
#[must_use]
pub fn journal_corpus() -> Vec<Vec<u8>> {
    let all = entries();
    let mut groups: Vec<&[Entry]> = vec![&[], &all];
    groups.extend(all.chunks(1));
    let sealed = |entries: &[Entry]| {
        let mut record = vec![0; journal::HEADER];
        journal::encode_before(&journal::logs_of(entries), &mut record);
        entries.iter().for_each(|entry| entry.encode(&mut record));
        let header = Header {
            crc: 0,
            uuid: 1,
            seq: FlushSeq(2),
            durable: FlushSeq(1),
            chain: 3,
            len: 0,
            start: 4,
        };
        header.seal(&mut record);
        record
    };
    groups.into_iter().map(sealed).collect()
}

fn entries() -> Vec<Entry> {
    let log = LogId(4);
    vec![
        Entry::Create {
            log,
            first: Offset(0),
            label: label(2),
        },
        Entry::Inline {
            log,
            segment: SegmentId::FIRST,
            pos: 0,
            bytes: Bytes::from_static(b"a batch of records"),
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
            chunk: chunk(1),
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
            note: Bytes::from_static(b"a note"),
        },
        Entry::Clean {
            log,
            cleaned: Cleaned {
                replaced: (SegmentId(1), SegmentId(2)),
                by: SegmentId(3),
            },
            note: Bytes::from_static(b"a note"),
        },
        Entry::Note {
            log,
            note: Bytes::from_static(b"a note"),
        },
        Entry::Remark {
            log,
            remark: Bytes::from_static(b"a remark"),
        },
        Entry::Delete { log },
    ]
}

fn label(partition: i32) -> LogLabel {
    LogLabel {
        topic: "orders".into(),
        topic_id: TopicId([7; 16]),
        partition,
    }
}

fn chunk(region: u64) -> Chunk {
    let class = Class::ALL[region as usize % Class::ALL.len()];
    Chunk {
        pos: region << 22,
        class,
    }
}

/// Checkpoints of no log, an empty one and some with segments in chunks and in memory.
#[must_use]
pub fn checkpoint_corpus() -> Vec<Vec<u8>> {
    (0..4)
        .map(|logs| {
            let mut map = Map::default();
            let mut states = IdMap::default();
            for id in 0..logs {
                map.logs.insert(LogId(id), log(id));
                states.insert(LogId(id), Bytes::from(vec![b's'; id as usize * 5]));
            }
            encode(&map, &states)
        })
        .collect()
}

/// A log that was rolled `n` times. The sealed segments are in chunks, the active one is also in memory.
fn log(n: u64) -> LogEntry {
    let mut log: LogEntry = LogEntry::new(LogId(n), label(n as i32), Offset(0));
    for roll in 0..n {
        let active = log.active();
        active.add_extent(Extent {
            start: 0,
            chunk: chunk(n * 10 + roll),
            pin: Default::default(),
        });
        active.len = 5000;
        active.placed = 5000;
        active.filled = 5000;
        log.roll(SegmentId(roll + 1), Some(Offset(100 * (roll as i64 + 1))));
    }
    if n > 0 {
        log.active().push_copy(b"bytes that are in no chunk yet");
    }
    log
}

/// Superblocks: of a new store, with a small checkpoint, with one as large as it can be.
#[must_use]
pub fn superblock_corpus() -> Vec<Vec<u8>> {
    [0, 2, NAMED_MAX as u64]
        .into_iter()
        .map(|chunks| {
            let superblock = Superblock {
                store: StoreId(3),
                uuid: 7,
                journal_bytes: 1 << 20,
                generation: chunks,
                chunks_end: (chunks + 2) << 22,
                flush: FlushSeq(100),
                ring_pos: 2 * BLOCK as u64,
                chain: 0xdead_beef,
                checkpoint_len: chunks * Class::Small.bytes(),
                checkpoint_crc: 5,
                checkpoint_head: 6,
                checkpoint: [false, true].map(|is_list| Named {
                    is_list: is_list && chunks > 0,
                    chunks: (1..=chunks).map(chunk).collect(),
                }),
                starts: (0..=chunks.min(STARTS_MAX as u64 - 1))
                    .map(|n| Start {
                        number: 1 + n,
                        after: FlushSeq(100 + n),
                    })
                    .collect(),
                stopped: (chunks > 0).then_some(FlushSeq(200)),
            };
            superblock.encode().to_vec()
        })
        .collect()
}
