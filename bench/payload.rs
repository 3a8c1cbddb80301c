//! Batches made before the clock starts. A batch's CRC covers neither its base
//! offset nor its leader epoch, and without a producer id a broker remembers
//! nothing about it, so the same bytes can be sent again and again: the generator
//! does no work per record and is not the bottleneck.

use bytes::Bytes;
use millrace::base::Rng;
use millrace::record::{BatchBuilder, Codec};

/// Bytes that a record takes beside key and value: lengths, deltas, attributes.
const RECORD_OVERHEAD: u64 = 12;
/// Characters of the values. 16 different ones, four bits of information in each byte, so that
/// compression finds about what it finds in real text: half.
const LETTERS: &[u8; 16] = b"etaoin shrdlucmf";

/// What one batch is to hold.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Records.
    pub records: u32,
    /// Bytes of each value.
    pub record_bytes: u64,
    /// Distinct keys, 0 for none.
    pub keys: u32,
    /// Compression.
    pub codec: Codec,
}

impl Shape {
    /// Number of records of this size that fill a batch of `batch_bytes`, at least one.
    pub fn records_in(batch_bytes: u64, record_bytes: u64) -> u32 {
        let records = batch_bytes / (record_bytes + RECORD_OVERHEAD);
        records.clamp(1, 1_000_000) as u32
    }

    /// A batch of random text. The same seed gives the same bytes.
    pub fn batch(&self, seed: u64, timestamp_ms: i64) -> Bytes {
        let mut rng = Rng::new(seed);
        let mut builder = BatchBuilder::new(self.codec, timestamp_ms);
        let mut value = vec![0; self.record_bytes as usize];
        for _ in 0..self.records {
            fill(&mut rng, &mut value);
            let key =
                (self.keys > 0).then(|| format!("key-{:08}", rng.below(u64::from(self.keys))));
            builder.push(
                timestamp_ms,
                key.as_ref().map(String::as_bytes),
                Some(&value),
                &[],
            );
        }
        builder.build()
    }
}

fn fill(rng: &mut Rng, value: &mut [u8]) {
    for chunk in value.chunks_mut(16) {
        let mut bits = rng.next_u64();
        for byte in chunk {
            *byte = LETTERS[(bits & 15) as usize];
            bits >>= 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace::record;

    use super::*;

    #[test]
    fn a_batch_is_what_was_asked_for() {
        let shape = Shape {
            records: 50,
            record_bytes: 200,
            keys: 3,
            codec: Codec::None,
        };
        let batch = shape.batch(1, 1_700_000_000_000);
        assert!(record::check_crc(&batch));
        let mut keys = std::collections::BTreeSet::new();
        for record in record::records(&batch, 1 << 20).unwrap() {
            let record = record.unwrap();
            assert_eq!(record.value.unwrap().len(), 200);
            keys.insert(record.key.unwrap());
        }
        assert_eq!(keys.len(), 3);
        assert_eq!(shape.batch(1, 0)[61..], shape.batch(1, 0)[61..]);
    }

    #[test]
    fn text_compresses_to_about_half() {
        let plain = Shape {
            records: 100,
            record_bytes: 500,
            keys: 0,
            codec: Codec::None,
        };
        let plain_len = plain.batch(1, 0).len();
        let packed = Shape {
            codec: Codec::Zstd,
            ..plain
        }
        .batch(1, 0)
        .len();
        assert!(
            (plain_len * 4 / 10..plain_len * 6 / 10).contains(&packed),
            "{packed} of {plain_len}"
        );
    }

    #[test]
    fn batches_fill_their_size() {
        assert_eq!(Shape::records_in(16 * 1024, 100), 146);
        assert_eq!(Shape::records_in(10, 100), 1);
        let shape = Shape {
            records: Shape::records_in(65536, 100),
            record_bytes: 100,
            keys: 0,
            codec: Codec::None,
        };
        let len = shape.batch(9, 0).len();
        assert!((60_000..=66_000).contains(&len), "{len}");
    }
}
