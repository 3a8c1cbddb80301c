//! What compaction makes of one batch: the records that stay, in a batch that has the same offsets, producer and
//! codec. A bounded amount at a time, but for a checksum at the end.

use std::ops::Range;

use bytes::Bytes;
use zerocopy::IntoBytes;
use zerocopy::big_endian::{I16, I32, I64, U32};

use super::batch::{
    BatchHeader, BatchInfo, DELETE_HORIZON, HEADER_LEN, LOG_OVERHEAD, TimestampType, parse, set_crc,
};
use super::codec::Codec;
use super::error::BatchError;
use super::opener::Opener;
use super::pack::Packer;
use super::raw::{NO_TIMESTAMP, RawRecord};
use super::varint::{Cursor, put_varlong, varlong_len};

/// What looking at a record costs, in bytes decompressed.
const RECORD_COST: usize = 16;
/// Bytes that are packed in one go.
const PIECE_BYTES: usize = 2048;
/// Bytes of records of a batch that is marked in one go: the end of a transaction has no more.
const MARKED_BYTES_MAX: usize = 4096;
/// Bytes that are copied in the time of one decompressed.
const COPIED_PER_WORK: usize = 16;

/// A record as compaction sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedRecord<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its key. One that has none is nobody's newest.
    pub key: Option<&'a [u8]>,
    /// It has no value: the key is deleted.
    pub is_tombstone: bool,
}

/// Looks at the records of a batch one after the other.
#[derive(Debug)]
pub struct KeyWalk {
    info: BatchInfo,
    opener: Option<Box<Opener<Bytes>>>,
    /// All of them, once they are opened.
    records: Bytes,
    opening: Vec<u8>,
    open_bytes_max: usize,
    at: usize,
    seen: i32,
    last_delta: i32,
}

impl KeyWalk {
    /// For one whole batch, of whose records at most `open_bytes_max` bytes are opened.
    ///
    /// # Errors
    /// As [`parse`].
    pub fn new(batch: &Bytes, open_bytes_max: usize) -> Result<Self, BatchError> {
        let info = parse(batch)?;
        let body = batch.slice(HEADER_LEN..info.len);
        let plain = info.codec() == Codec::None;
        let (opener, records) = match plain {
            true => (None, body),
            false => (
                Some(Box::new(Opener::new(info.codec(), body))),
                Bytes::new(),
            ),
        };
        Ok(Self {
            info,
            opener,
            records,
            opening: Vec::new(),
            open_bytes_max,
            at: 0,
            seen: 0,
            last_delta: -1,
        })
    }

    /// Its header.
    #[must_use]
    pub fn info(&self) -> &BatchInfo {
        &self.info
    }

    /// Goes on until `work` is used up, counted in bytes decompressed; whether that was all. `each` is also told where
    /// among the records its record is.
    ///
    /// # Errors
    /// The batch cannot be opened, opens to more than it may, or holds a malformed record.
    pub fn go_on(
        &mut self,
        work: &mut usize,
        each: &mut dyn FnMut(KeyedRecord<'_>, Range<usize>, i64),
    ) -> Result<bool, BatchError> {
        while let Some(opener) = &mut self.opener {
            if *work == 0 {
                return Ok(false);
            }
            let left = self.open_bytes_max - self.opening.len();
            match opener.step(left, work)? {
                Some(bytes) if bytes.len() > left => return Err(BatchError::TooLarge),
                Some(bytes) => self.opening.extend_from_slice(bytes),
                None => {
                    self.records = std::mem::take(&mut self.opening).into();
                    self.opener = None;
                }
            }
        }
        while self.at < self.records.len() {
            if *work == 0 {
                return Ok(false);
            }
            let mut cursor = Cursor::new(&self.records[self.at..]);
            let before = cursor.remaining();
            let record = RawRecord::read(&mut cursor)?;
            if self.seen == self.info.records || record.offset_delta <= self.last_delta {
                return Err(BatchError::Record);
            }
            let keyed = KeyedRecord {
                offset: record.offset(&self.info)?,
                key: record.key,
                is_tombstone: record.value.is_none(),
            };
            let len = before - cursor.remaining();
            let timestamp = record.timestamp(&self.info)?;
            each(keyed, self.at..self.at + len, timestamp);
            (self.seen, self.last_delta) = (self.seen + 1, record.offset_delta);
            self.at += len;
            let key_len = record.key.map_or(0, <[u8]>::len);
            *work = work.saturating_sub(RECORD_COST + key_len);
        }
        match self.seen == self.info.records {
            true => Ok(true),
            false => Err(BatchError::Record),
        }
    }
}

/// What is left of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thinned {
    /// All of it, as it is.
    Whole,
    /// No record.
    Nothing,
    /// Some of its records, or all in a batch that says until when its tombstones stay.
    Part(Bytes),
}

/// Leaves records of a batch out.
#[derive(Debug)]
pub struct Thinning {
    walk: KeyWalk,
    kept: Vec<Range<usize>>,
    kept_bytes: usize,
    kept_records: i32,
    max_timestamp: i64,
    has_tombstones: bool,
    packing: Option<Packing>,
}

/// What stays, while it is packed.
#[derive(Debug)]
struct Packing {
    packer: Packer,
    /// Until when tombstones stay, if the batch has to be made to say so.
    horizon_ms: Option<i64>,
    /// Which range of what stays has its turn, and where in it the next record is.
    range: usize,
    at: usize,
    /// What goes in as it is, before anything else.
    span: Range<usize>,
}

impl Thinning {
    /// As [`KeyWalk::new`].
    ///
    /// # Errors
    /// The same.
    pub fn new(batch: &Bytes, open_bytes_max: usize) -> Result<Self, BatchError> {
        Ok(Self {
            walk: KeyWalk::new(batch, open_bytes_max)?,
            kept: Vec::new(),
            kept_bytes: 0,
            kept_records: 0,
            max_timestamp: NO_TIMESTAMP,
            has_tombstones: false,
            packing: None,
        })
    }

    /// The header of the batch.
    #[must_use]
    pub fn info(&self) -> &BatchInfo {
        self.walk.info()
    }

    /// As [`KeyWalk::go_on`]; `keep` says which records stay.
    ///
    /// # Errors
    /// The same.
    pub fn go_on(
        &mut self,
        work: &mut usize,
        keep: &mut dyn FnMut(&KeyedRecord<'_>) -> bool,
    ) -> Result<bool, BatchError> {
        let (kept, bytes, count) = (&mut self.kept, &mut self.kept_bytes, &mut self.kept_records);
        let (newest, has_tombstones) = (&mut self.max_timestamp, &mut self.has_tombstones);
        self.walk.go_on(work, &mut |record, range, timestamp| {
            if keep(&record) {
                *newest = timestamp.max(*newest);
                *has_tombstones |= record.is_tombstone;
                *bytes += range.len();
                *count += 1;
                match kept.last_mut().filter(|last| last.end == range.start) {
                    Some(last) => last.end = range.end,
                    None => kept.push(range),
                }
            }
        })
    }

    /// What is left, once all was [looked at](Self::go_on), which is packed until `work` is used up: `None` if there is
    /// more to do. Tombstones that stay, and do not say until when, stay until `delete_horizon_ms`: then it stands in
    /// the place of the base timestamp, as KIP-534 has it.
    ///
    /// # Errors
    /// A timestamp is out of range, or there is no memory to compress.
    pub fn pack(
        &mut self,
        delete_horizon_ms: i64,
        work: &mut usize,
    ) -> Result<Option<Thinned>, BatchError> {
        let info = self.walk.info;
        if self.kept_bytes == 0 {
            return Ok(Some(Thinned::Nothing));
        }
        let packing = match &mut self.packing {
            Some(packing) => packing,
            None => {
                let says_horizon = self.has_tombstones && info.delete_horizon_ms().is_none();
                if self.kept_bytes == self.walk.records.len() && !says_horizon {
                    return Ok(Some(Thinned::Whole));
                }
                let horizon_ms = says_horizon.then_some(delete_horizon_ms);
                *work = work.saturating_sub(Packer::setup_cost(info.codec()));
                let packing = Packing::begin(info.codec(), horizon_ms)?;
                self.packing.insert(packing)
            }
        };
        if !packing.go_on(&info, &self.walk.records, &self.kept, work)? {
            return Ok(None);
        }
        let Some(packing) = self.packing.take() else {
            return Ok(None);
        };
        let mut head = Header::of(&info);
        if let Some(horizon_ms) = packing.horizon_ms {
            head.attributes |= DELETE_HORIZON;
            head.base_timestamp = horizon_ms;
        }
        if info.timestamp_type() == TimestampType::CreateTime {
            head.max_timestamp = self.max_timestamp;
        }
        head.count = self.kept_records;
        let packed = packing.packer.finish();
        let packed = packed.map_err(|_| BatchError::Compression)?;
        Ok(Some(Thinned::Part(head.build(packed))))
    }
}

impl Packing {
    fn begin(codec: Codec, horizon_ms: Option<i64>) -> Result<Self, BatchError> {
        let packer = Packer::new(codec, vec![0; HEADER_LEN]);
        Ok(Self {
            packer: packer.map_err(|_| BatchError::Compression)?,
            horizon_ms,
            range: 0,
            at: 0,
            span: 0..0,
        })
    }

    /// Packs until `work` is used up; whether that was all.
    fn go_on(
        &mut self,
        info: &BatchInfo,
        records: &[u8],
        kept: &[Range<usize>],
        work: &mut usize,
    ) -> Result<bool, BatchError> {
        while *work > 0 {
            if !self.span.is_empty() {
                let to = self.span.end.min(self.span.start + PIECE_BYTES);
                self.push(&records[self.span.start..to], info.codec(), work)?;
                self.span.start = to;
                continue;
            }
            let Some(range) = kept.get(self.range) else {
                return Ok(true);
            };
            let from = self.at.max(range.start);
            let Some(horizon_ms) = self.horizon_ms.filter(|_| from < range.end) else {
                (self.range, self.span) = (self.range + 1, from..range.end);
                continue;
            };
            let mut cursor = Cursor::new(&records[from..range.end]);
            let before = cursor.remaining();
            let len = usize::try_from(cursor.varint()?).map_err(|_| BatchError::Record)?;
            let prefix = before - cursor.remaining();
            let (begin, skipped) = later(cursor.take(len)?, info.base_timestamp, horizon_ms)?;
            *work = work.saturating_sub(RECORD_COST);
            self.push(&begin, info.codec(), work)?;
            self.at = from + prefix + len;
            self.span = from + prefix + skipped..self.at;
        }
        Ok(false)
    }

    fn push(&mut self, bytes: &[u8], codec: Codec, work: &mut usize) -> Result<(), BatchError> {
        let cost = match codec {
            Codec::None => bytes.len() / COPIED_PER_WORK + 1,
            _ => bytes.len() * Packer::cost(codec),
        };
        *work = work.saturating_sub(cost);
        let pushed = self.packer.push(bytes);
        pushed.map_err(|_| BatchError::Compression)
    }
}

/// A batch that goes at that time, as [`Thinning::pack`] says it of tombstones: a small one, in one go.
///
/// # Errors
/// As [`Thinning::new`] and [`Thinning::pack`].
pub fn with_horizon(batch: &Bytes, delete_horizon_ms: i64) -> Result<Bytes, BatchError> {
    let mut thinning = Thinning::new(batch, MARKED_BYTES_MAX)?;
    let mut all = usize::MAX;
    thinning.go_on(&mut all, &mut |_| true)?;
    thinning.has_tombstones = true;
    match thinning.pack(delete_horizon_ms, &mut all)? {
        Some(Thinned::Part(part)) => Ok(part),
        Some(Thinned::Whole | Thinned::Nothing) | None => Ok(batch.clone()),
    }
}

/// How a record begins that has the same timestamp, relative to another base, and how much of what follows its length
/// that takes the place of.
fn later(body: &[u8], base: i64, new_base: i64) -> Result<(Vec<u8>, usize), BatchError> {
    let mut cursor = Cursor::new(body);
    let attributes = cursor.byte()?;
    let delta = cursor.varlong()?;
    let timestamp = base.checked_add(delta);
    let delta = timestamp.and_then(|timestamp| timestamp.checked_sub(new_base));
    let delta = delta.ok_or(BatchError::Record)?;
    let rest = cursor.remaining();
    let mut begin = Vec::with_capacity(24);
    put_varlong(&mut begin, (1 + varlong_len(delta) + rest) as i64);
    begin.push(attributes);
    put_varlong(&mut begin, delta);
    Ok((begin, body.len() - rest))
}

/// What compaction leaves of a batch that has lost all its records, where its producer has written nothing since: so a
/// replica that reads it knows the producer.
#[must_use]
pub fn emptied(info: &BatchInfo) -> Bytes {
    let mut head = Header::of(info);
    head.attributes &= !(CODEC_BITS | DELETE_HORIZON);
    head.base_timestamp = info.max_timestamp;
    head.build(vec![0; HEADER_LEN])
}

const CODEC_BITS: i16 = 0x07;

/// What a batch's header says that may become different.
struct Header {
    info: BatchInfo,
    attributes: i16,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
}

impl Header {
    fn of(info: &BatchInfo) -> Self {
        Self {
            info: *info,
            attributes: info.attributes,
            base_timestamp: info.base_timestamp,
            max_timestamp: info.max_timestamp,
            count: 0,
        }
    }

    /// The batch, with records behind the room for its header.
    fn build(&self, mut batch: Vec<u8>) -> Bytes {
        let info = &self.info;
        let head = BatchHeader {
            base_offset: I64::new(info.base_offset),
            batch_length: I32::new((batch.len() - LOG_OVERHEAD) as i32),
            partition_leader_epoch: I32::new(info.leader_epoch),
            magic: 2,
            crc: U32::new(0),
            attributes: I16::new(self.attributes),
            last_offset_delta: I32::new(info.last_offset_delta),
            base_timestamp: I64::new(self.base_timestamp),
            max_timestamp: I64::new(self.max_timestamp),
            producer_id: I64::new(info.producer_id),
            producer_epoch: I16::new(info.producer_epoch),
            base_sequence: I32::new(info.base_sequence),
            records_count: I32::new(self.count),
        };
        batch[..HEADER_LEN].copy_from_slice(head.as_bytes());
        set_crc(&mut batch);
        batch.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::base::{LeaderEpoch, Offset};
    use crate::record::{BatchBuilder, check_crc, records, stamp};

    const OPEN_MAX: usize = 1 << 20;

    fn batch(codec: Codec, list: &[(Option<u8>, bool)]) -> Bytes {
        let mut builder = BatchBuilder::new(codec, 1_000).producer(9, 2, 40);
        for (n, (key, has_value)) in list.iter().enumerate() {
            let key = key.map(|key| [key]);
            let value = [n as u8; 50];
            let (key, value) = (
                key.as_ref().map(|k| &k[..]),
                has_value.then_some(&value[..]),
            );
            builder.push(1_000 + n as i64, key, value, &[("h", None)]);
        }
        let mut batch = builder.build().to_vec();
        stamp(&mut batch, Offset(500), LeaderEpoch(3));
        batch.into()
    }

    fn thin(batch: &Bytes, keep: &dyn Fn(i64) -> bool, horizon: i64) -> Thinned {
        let mut thinning = Thinning::new(batch, OPEN_MAX).unwrap();
        // As little at a time as there is.
        while !thinning
            .go_on(&mut 1, &mut |record| keep(record.offset))
            .unwrap()
        {}
        loop {
            if let Some(thinned) = thinning.pack(horizon, &mut 1).unwrap() {
                return thinned;
            }
        }
    }

    /// Offsets, timestamps and values.
    fn content(batch: &Bytes) -> Vec<(i64, i64, Option<Vec<u8>>)> {
        let all = records(batch, OPEN_MAX).unwrap().map(Result::unwrap);
        all.map(|r| (r.offset, r.timestamp, r.value.map(|v| v.to_vec())))
            .collect()
    }

    proptest! {
        #[test]
        fn what_stays_is_as_it_was(
            codec in 0u8..5,
            list in vec((proptest::option::of(0u8..4), any::<bool>(), any::<bool>()), 1..20),
            horizon in 0i64..1 << 40,
        ) {
            let codec = Codec::from_id(codec).unwrap();
            let made: Vec<_> = list.iter().map(|(key, value, _)| (*key, *value)).collect();
            let before = batch(codec, &made);
            let stays = |offset: i64| list[(offset - 500) as usize].2;
            let expected: Vec<_> = content(&before).into_iter().filter(|r| stays(r.0)).collect();
            let tombstones = expected.iter().any(|r| r.2.is_none());
            match thin(&before, &stays, horizon) {
                Thinned::Whole => prop_assert!(expected.len() == list.len() && !tombstones),
                Thinned::Nothing => prop_assert!(expected.is_empty()),
                Thinned::Part(after) => {
                    prop_assert!(check_crc(&after));
                    let (was, is) = (parse(&before).unwrap(), parse(&after).unwrap());
                    prop_assert_eq!(content(&after), expected.clone());
                    prop_assert_eq!(is.last_offset(), was.last_offset());
                    prop_assert_eq!((is.base_offset, is.leader_epoch), (500, 3));
                    prop_assert_eq!((is.producer_id, is.producer_epoch, is.base_sequence), (9, 2, 40));
                    prop_assert_eq!((is.codec(), is.records as usize), (codec, expected.len()));
                    prop_assert_eq!(Some(is.max_timestamp), expected.iter().map(|r| r.1).max());
                    prop_assert_eq!(is.delete_horizon_ms(), tombstones.then_some(horizon));
                    // Once said it stays.
                    let again = thin(&after, &|_| true, horizon + 1);
                    prop_assert_eq!(again, Thinned::Whole);
                }
            }
        }

        #[test]
        fn any_bytes_are_survived(at: prop::sample::Index, to: u8, codec in 0u8..5) {
            let codec = Codec::from_id(codec).unwrap();
            let mut bytes = batch(codec, &[(Some(1), true), (None, false), (Some(2), true)]).to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(mut thinning) = Thinning::new(&bytes.into(), OPEN_MAX)
                && let Ok(true) = thinning.go_on(&mut usize::MAX.clone(), &mut |record| record.offset % 2 == 0)
            {
                while let Ok(None) = thinning.pack(i64::MAX, &mut 1) {}
            }
        }
    }

    #[test]
    fn an_emptied_batch_is_its_producers_alone() {
        let before = batch(Codec::Zstd, &[(Some(1), true), (Some(2), true)]);
        let (was, after) = (parse(&before).unwrap(), emptied(&parse(&before).unwrap()));
        let is = parse(&after).unwrap();
        assert!(check_crc(&after) && after.len() == HEADER_LEN);
        assert_eq!((is.records, is.codec()), (0, Codec::None));
        assert_eq!((is.base_offset, is.last_offset()), (500, 501));
        assert_eq!(is.last_sequence(), was.last_sequence());
        assert_eq!(is.max_timestamp, was.max_timestamp);
        assert_eq!(content(&after), []);
        let nothing = thin(&after, &|_| true, 0);
        assert_eq!(nothing, Thinned::Nothing);
    }

    #[test]
    fn much_is_packed_a_bounded_amount_at_a_time() {
        const WORK: usize = 16 * 1024;
        const VALUE: usize = 300_000;
        for codec in Codec::ALL {
            for has_value in [true, false] {
                let mut builder = BatchBuilder::new(codec, 0);
                for n in 0..4 {
                    let value: Vec<u8> = (0..VALUE).map(|at| (at / 9) as u8 ^ n).collect();
                    // A tombstone is large by its headers.
                    let header: &[(&str, Option<&[u8]>)] = &[("h", Some(&value))];
                    match has_value {
                        true => builder.push(7, Some(&[n]), Some(&value), &[]),
                        false => builder.push(7, Some(&[n]), None, header),
                    }
                }
                let large = builder.build();
                let mut thinning = Thinning::new(&large, 8 << 20).unwrap();
                let mut keep = |record: &KeyedRecord<'_>| record.offset > 0;
                assert!(thinning.go_on(&mut usize::MAX.clone(), &mut keep).unwrap());
                let mut slices = 0;
                let part = loop {
                    let mut work = WORK;
                    slices += 1;
                    match thinning.pack(5, &mut work).unwrap() {
                        Some(Thinned::Part(part)) => break part,
                        Some(other) => panic!("{other:?}"),
                        None => assert_eq!(work, 0),
                    }
                };
                let cost = match codec {
                    Codec::None => 3 * VALUE / COPIED_PER_WORK,
                    _ => 3 * VALUE * Packer::cost(codec),
                };
                assert!(
                    (cost / WORK..=cost / WORK * 5 / 4 + 2).contains(&slices),
                    "{slices}"
                );
                let info = parse(&part).unwrap();
                assert!(check_crc(&part) && info.codec() == codec);
                let all = records(&part, 8 << 20).unwrap().map(Result::unwrap);
                let all: Vec<_> = all.map(|it| (it.offset, it.timestamp)).collect();
                assert_eq!(all, [(1, 7), (2, 7), (3, 7)]);
            }
        }
    }
}
