//! The batch of records that the metadata log is compacted to, made some records at a time. Nothing is decided
//! meanwhile: what is in the log before it counts no more.

use bytes::Bytes;

use crate::base::Now;
use crate::controller::{FeatureLevel, Image, ImageRecords};
use crate::record::{BatchBuilder, Codec};

/// A larger image is not written at once.
const METADATA_BYTES_MAX: usize = 64 << 20;

/// See the module.
#[derive(Debug)]
pub struct SnapshotBatch {
    records: ImageRecords,
    level: FeatureLevel,
    wall_ms: i64,
    batch: BatchBuilder,
    /// Bytes of the log as it is, and from which on it is compacted.
    pub sizes: (u64, u64),
}

impl SnapshotBatch {
    pub fn new(now: Now, image: &Image, sizes: (u64, u64)) -> Self {
        Self {
            records: ImageRecords::new(image),
            level: image.features.max(1),
            wall_ms: now.wall_ms,
            batch: BatchBuilder::new(Codec::None, now.wall_ms),
            sizes,
        }
    }

    /// Goes on, as long as there is something `left` of a slice; a record costs one. Returns whether it is whole.
    pub fn go_on(&mut self, left: &mut usize) -> bool {
        while *left > 0 && self.batch.uncompressed_len() <= METADATA_BYTES_MAX {
            *left -= 1;
            let Some(record) = self.records.next() else {
                return true;
            };
            let value = record.encode(self.level);
            self.batch.push(self.wall_ms, None, Some(&value), &[]);
        }
        *left > 0
    }

    /// The batch, unless it is too large.
    pub fn into_batch(self) -> Option<Bytes> {
        let fits = self.batch.uncompressed_len() <= METADATA_BYTES_MAX;
        fits.then(|| self.batch.build())
    }
}
