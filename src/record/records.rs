//! Opening a batch: its records one by one, decompressed where needed.
//!
//! Every produced batch is walked by [`verify_records`] or its like, in place. The records as
//! values are for the metadata log, group offsets, time lookups and the tools.

use bytes::Bytes;

use super::batch::{BatchInfo, HEADER_LEN, parse};
use super::codec::Codec;
use super::error::BatchError;
use super::raw::{RawRecord, read_header};
use super::varint::Cursor;
use super::walk::{RecordsSummary, Walk};

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Key; absent and empty differ.
    pub key: Option<Bytes>,
    /// Value; an absent one is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in the order of the producer.
    pub headers: Vec<RecordHeader>,
}

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Name: UTF-8 by convention, any bytes in fact.
    pub key: Bytes,
    /// Value.
    pub value: Option<Bytes>,
}

/// The records of one batch. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    body: Bytes,
    info: BatchInfo,
    left: i32,
}

/// Opens the first batch of `batch`.
///
/// # Errors
/// As [`parse`]; [`BatchError::TooLarge`] if the records take more than `out_bytes_max` bytes once
/// decompressed; [`BatchError::Compression`]. Malformed records are found while iterating.
pub fn records(batch: &[u8], out_bytes_max: usize) -> Result<Records, BatchError> {
    let info = parse(batch)?;
    let body = batch
        .get(HEADER_LEN..info.len)
        .ok_or(BatchError::Truncated)?;
    let body = info.codec().decompress(body, out_bytes_max)?;
    Ok(Records {
        body: body.into(),
        info,
        left: info.records,
    })
}

impl Records {
    /// What the header says.
    #[must_use]
    pub const fn info(&self) -> &BatchInfo {
        &self.info
    }

    fn take_one(&mut self) -> Result<Record, BatchError> {
        let mut cursor = Cursor::new(&self.body);
        let raw = RawRecord::read(&mut cursor)?;
        let slice = |bytes: &[u8]| self.body.slice_ref(bytes);
        let mut headers = Vec::with_capacity(raw.header_count);
        let mut rest = Cursor::new(raw.headers);
        for _ in 0..raw.header_count {
            let (key, value) = read_header(&mut rest)?;
            headers.push(RecordHeader {
                key: slice(key),
                value: value.map(slice),
            });
        }
        let record = Record {
            offset: raw.offset(&self.info)?,
            timestamp: raw.timestamp(&self.info)?,
            key: raw.key.map(slice),
            value: raw.value.map(slice),
            headers,
        };
        self.body = self.body.slice_ref(cursor.rest());
        Ok(record)
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = if self.left > 0 {
            self.left -= 1;
            self.take_one()
        } else if self.body.is_empty() {
            return None;
        } else {
            // The header must count all records: a consumer would never see the others.
            Err(BatchError::Record)
        };
        if item.is_err() {
            self.left = 0;
            self.body = Bytes::new();
        }
        Some(item)
    }
}

/// Walks all records of a batch without copying them, as Kafka's broker does with every produced
/// batch: each is well-formed and their offset deltas are 0, 1, 2 and so on.
///
/// # Errors
/// As [`records`], plus [`BatchError::Record`] for a malformed record or a gap in the offsets.
pub fn verify_records(batch: &[u8], out_bytes_max: usize) -> Result<RecordsSummary, BatchError> {
    let info = parse(batch)?;
    let body = batch
        .get(HEADER_LEN..info.len)
        .ok_or(BatchError::Truncated)?;
    verify_body(&info, body, out_bytes_max)
}

/// The same for a batch whose header is known: `body` is what follows it.
fn verify_body(
    info: &BatchInfo,
    body: &[u8],
    out_bytes_max: usize,
) -> Result<RecordsSummary, BatchError> {
    let mut walk = Walk::new(info);
    let unpacked;
    let body = if info.codec() == Codec::None {
        body
    } else {
        unpacked = info.codec().decompress(body, out_bytes_max)?;
        &unpacked
    };
    walk.feed(body, usize::MAX)?;
    walk.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{BatchBuilder, set_log_append_time};

    fn sample(codec: Codec) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec, 500);
        builder.push(500, Some(b"a"), None, &[]);
        builder.push(499, None, Some(b""), &[("h", Some(b"1")), ("h", None)]);
        builder.push(502, Some(b""), Some(b"v"), &[]);
        builder.build().to_vec()
    }

    #[test]
    fn every_codec_gives_the_records_back() {
        for codec in Codec::ALL {
            let all: Vec<_> = records(&sample(codec), 1 << 20)
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert_eq!(all.len(), 3, "{codec:?}");
            assert_eq!((all[0].offset, all[0].timestamp), (0, 500));
            assert_eq!(
                (all[0].key.as_deref(), all[0].value.as_deref()),
                (Some(&b"a"[..]), None)
            );
            assert_eq!((all[1].offset, all[1].timestamp), (1, 499));
            assert_eq!(
                (all[1].key.as_deref(), all[1].value.as_deref()),
                (None, Some(&b""[..]))
            );
            assert_eq!(all[1].headers.len(), 2);
            assert_eq!(all[1].headers[0].value.as_deref(), Some(&b"1"[..]));
            assert_eq!(all[1].headers[1].value, None);
            assert_eq!(all[2].key.as_deref(), Some(&b""[..]));
            let summary = verify_records(&sample(codec), 1 << 20).unwrap();
            assert_eq!(summary.max_timestamp, (502, 2));
            assert_eq!(
                (summary.min_timestamp, summary.first_keyless),
                (499, Some(1))
            );
        }
    }

    #[test]
    fn log_append_time_is_every_records_time() {
        let mut bytes = sample(Codec::None);
        set_log_append_time(&mut bytes, 9_000);
        assert!(
            records(&bytes, 1 << 20)
                .unwrap()
                .all(|record| record.unwrap().timestamp == 9_000)
        );
    }

    #[test]
    fn the_count_must_be_exact() {
        let fewer = |count: i32, last: i32| {
            let mut bytes = sample(Codec::None);
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            bytes[23..27].copy_from_slice(&last.to_be_bytes());
            bytes
        };
        for bytes in [fewer(2, 2), fewer(4, 9)] {
            assert_eq!(verify_records(&bytes, 1 << 20), Err(BatchError::Record));
            assert_eq!(
                records(&bytes, 1 << 20).unwrap().last(),
                Some(Err(BatchError::Record))
            );
        }
    }

    #[test]
    fn uncompressed_records_obey_the_cap_too() {
        assert_eq!(
            records(&sample(Codec::None), 3).unwrap_err(),
            BatchError::TooLarge
        );
    }

    proptest! {
        #[test]
        fn arbitrary_records_never_panic(codec in 0u8..5, count in 0i32..50, body: Vec<u8>) {
            let mut bytes = BatchBuilder::new(Codec::None, 0).build().to_vec();
            bytes.extend(&body);
            bytes[8..12].copy_from_slice(&(49 + body.len() as i32).to_be_bytes());
            bytes[22] = codec;
            bytes[23..27].copy_from_slice(&count.to_be_bytes());
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            let _ = verify_records(&bytes, 1 << 16);
            if let Ok(records) = records(&bytes, 1 << 16) {
                prop_assert!(records.count() <= count as usize + 1);
            }
        }

        #[test]
        fn verify_agrees_with_iteration(at in 61usize..110, flip: u8) {
            let mut bytes = sample(Codec::None);
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= flip;
            if verify_records(&bytes, 1 << 16).is_ok() {
                prop_assert!(records(&bytes, 1 << 16).unwrap().all(|record| record.is_ok()));
            }
        }
    }
}
