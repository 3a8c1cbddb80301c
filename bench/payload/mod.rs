//! Batches made before the clock starts. A batch's CRC covers neither its base
//! offset nor its leader epoch, and without a producer id a broker remembers
//! nothing about it, so the same bytes can be sent again and again: the generator
//! does no work per record and is not the bottleneck. Where records must carry
//! their identity, a [`Template`] is copied and only that is written anew.

mod keys;
mod values;

use std::ops::Range;

use bytes::Bytes;
use millrace::base::{Rng, crc};
use millrace::record::{BatchBuilder, Codec, HEADER_LEN};

pub use self::keys::{KeyOrder, Keys};
pub use self::values::{Content, Sizes, read_lines, read_whole};

/// Where the header of a batch has its checksum, and where what it covers begins.
const CRC_AT: Range<usize> = 17..21;
const BASE_TIMESTAMP_AT: Range<usize> = 27..35;
const MAX_TIMESTAMP_AT: Range<usize> = 35..43;
/// Bytes that a record takes beside key and value at most: lengths, deltas, attributes.
const RECORD_OVERHEAD: usize = 12;
/// Most records of a batch.
const RECORDS_MAX: u32 = 1_000_000;

/// How much goes into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// This many records.
    Records(u32),
    /// As many records as fit into this many bytes before compression, at least one.
    Bytes(u64),
}

/// What batches are to hold.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How much.
    pub fill: Fill,
    /// Bytes of each value.
    pub sizes: Sizes,
    /// What the values say.
    pub content: Content,
    /// Which keys.
    pub keys: Keys,
    /// Compression.
    pub codec: Codec,
}

/// One batch, not compressed, and where its values are.
#[derive(Clone, Debug)]
pub struct Template {
    batch: Vec<u8>,
    values: Vec<Range<usize>>,
    keys: Vec<Option<String>>,
    codec: Codec,
}

impl Shape {
    /// The batch of this number. The same number gives the same bytes.
    pub fn template(&self, number: u64) -> Template {
        let mut rng = Rng::new(number);
        let mut builder = BatchBuilder::new(Codec::None, 0);
        let (mut values, mut keys) = (Vec::new(), Vec::new());
        let mut value = Vec::new();
        let records_max = match self.fill {
            Fill::Records(records) => records.clamp(1, RECORDS_MAX),
            Fill::Bytes(_) => RECORDS_MAX,
        };
        for at in 0..records_max {
            self.content
                .fill(self.sizes.draw(&mut rng), &mut rng, &mut value);
            let key = self
                .keys
                .draw(&mut rng, number.wrapping_mul(97) + u64::from(at));
            let key = key.map(|key| format!("key-{key:08}"));
            let grown = builder.uncompressed_len()
                + RECORD_OVERHEAD
                + value.len()
                + key.as_ref().map_or(0, String::len);
            if matches!(self.fill, Fill::Bytes(max) if grown as u64 > max) && at > 0 {
                break;
            }
            builder.push(0, key.as_deref().map(str::as_bytes), Some(&value), &[]);
            // After the value there is only the number of headers, none, in one byte.
            let end = builder.uncompressed_len() - 1;
            values.push(end - value.len()..end);
            keys.push(key);
        }
        Template {
            batch: builder.build().to_vec(),
            values,
            keys,
            codec: self.codec,
        }
    }
}

impl Template {
    /// Number of records.
    pub fn records(&self) -> u32 {
        self.values.len() as u32
    }

    /// Bytes before compression.
    pub fn plain_len(&self) -> usize {
        self.batch.len()
    }

    /// Bytes of all values.
    pub fn value_bytes(&self) -> u64 {
        self.values.iter().map(|value| value.len() as u64).sum()
    }

    /// Bytes of the shortest value.
    pub fn value_bytes_min(&self) -> usize {
        self.values.iter().map(Range::len).min().unwrap_or(0)
    }

    /// The batch as it goes out, with this time on every record. `write` may change each value,
    /// by number, but not its length.
    pub fn batch(&self, timestamp_ms: i64, mut write: impl FnMut(usize, &mut [u8])) -> Bytes {
        let mut batch = self.batch.clone();
        for (at, value) in self.values.iter().enumerate() {
            write(at, &mut batch[value.clone()]);
        }
        if self.codec != Codec::None {
            return self.packed(&batch, timestamp_ms);
        }
        batch[BASE_TIMESTAMP_AT].copy_from_slice(&timestamp_ms.to_be_bytes());
        batch[MAX_TIMESTAMP_AT].copy_from_slice(&timestamp_ms.to_be_bytes());
        let crc = crc::crc32c(&batch[CRC_AT.end..]);
        batch[CRC_AT].copy_from_slice(&crc.to_be_bytes());
        batch.into()
    }

    fn packed(&self, batch: &[u8], timestamp_ms: i64) -> Bytes {
        let room = batch.len() - HEADER_LEN;
        let mut builder = BatchBuilder::with_capacity(self.codec, timestamp_ms, room);
        for (value, key) in self.values.iter().zip(&self.keys) {
            let key = key.as_deref().map(str::as_bytes);
            builder.push(timestamp_ms, key, Some(&batch[value.clone()]), &[]);
        }
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use millrace::record;

    use super::*;

    fn shape(fill: Fill, codec: Codec) -> Shape {
        Shape {
            fill,
            sizes: Sizes::fixed(200),
            content: Content::Text,
            keys: Keys::new(3, KeyOrder::RoundRobin),
            codec,
        }
    }

    #[test]
    fn a_batch_is_what_was_asked_for() {
        for codec in Codec::ALL {
            let template = shape(Fill::Records(50), codec).template(1);
            let batch = template.batch(1_700_000_000_000, |at, value| value[0] = at as u8);
            assert!(record::check_crc(&batch));
            let mut keys = std::collections::BTreeSet::new();
            let records = record::records(&batch, 1 << 20).unwrap();
            for (at, record) in records.map(Result::unwrap).enumerate() {
                let value = record.value.unwrap();
                assert_eq!((value.len(), value[0]), (200, at as u8));
                assert_eq!(record.timestamp, 1_700_000_000_000);
                keys.insert(record.key.unwrap());
            }
            assert_eq!(keys.len(), 3);
            assert_eq!(template.records(), 50);
        }
    }

    #[test]
    fn the_same_number_gives_the_same_bytes() {
        let shape = shape(Fill::Records(5), Codec::None);
        let batch = |number| shape.template(number).batch(0, |_, _| {});
        assert_eq!(batch(1), batch(1));
        assert_ne!(batch(1), batch(2));
    }

    #[test]
    fn batches_fill_their_size() {
        let full = shape(Fill::Bytes(65536), Codec::None).template(9);
        assert!(
            (65_000..=65_536).contains(&full.plain_len()),
            "{}",
            full.plain_len()
        );
        assert_eq!(shape(Fill::Bytes(10), Codec::None).template(9).records(), 1);
        assert_eq!(full.value_bytes(), 200 * u64::from(full.records()));
    }
}
