//! Decided records on their way to the metadata log.

use bytes::Bytes;

use crate::base::Now;
use crate::controller::{Image, MetadataRecord};
use crate::record::{BatchBuilder, Codec};

/// Decided records as one batch of the metadata log, so that all of them count or none.
pub struct Change {
    pub records: Vec<MetadataRecord>,
    pub batch: Bytes,
}

impl Change {
    /// Records as the feature level of the image allows to write them.
    pub fn new(now: Now, image: &Image, records: Vec<MetadataRecord>) -> Self {
        // The first records of a cluster say the level themselves.
        let level = image.features.max(1);
        let mut batch = BatchBuilder::new(Codec::None, now.wall_ms);
        for record in &records {
            batch.push(now.wall_ms, None, Some(&record.encode(level)), &[]);
        }
        let batch = batch.build();
        Self { records, batch }
    }
}
