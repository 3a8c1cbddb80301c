//! Producer ids, never given out twice. They are taken in blocks: a record says
//! that a block may be in use, and only when it is durable is an id of the block
//! given out. After a restart the rest of the last block is skipped.

use std::ops::Range;

use super::image::Image;
use super::record::MetadataRecord;

/// Ids in one block.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// Gives out producer ids. Lives on the control shard, empty at start.
#[derive(Clone, Debug, Default)]
pub struct ProducerIdAllocator {
    /// What is left of the newest block.
    block: Range<i64>,
    /// The end of that block, durable or not.
    promised: i64,
}

impl ProducerIdAllocator {
    /// A new id. With a record it may only be given out when the record is durable.
    ///
    /// While the record of a block is on its way, the next caller gets a block of its own rather
    /// than an id whose block might be lost in a crash: ids are plenty.
    pub fn allocate(&mut self, image: &Image) -> (i64, Option<MetadataRecord>) {
        let durable = self.promised <= image.next_producer_id;
        if durable && let Some(id) = self.block.next() {
            return (id, None);
        }
        let id = self.promised.max(image.next_producer_id);
        self.promised = id.saturating_add(PRODUCER_ID_BLOCK);
        self.block = id.saturating_add(1)..self.promised;
        let record = MetadataRecord::ProducerIds {
            next: self.promised,
        };
        (id, Some(record))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_block_is_used_when_it_is_durable() {
        let mut image = Image::default();
        let mut ids = ProducerIdAllocator::default();
        let (first, record) = ids.allocate(&image);
        assert_eq!(first, 0);
        // Another one before the record is durable: a block of its own.
        let (second, other) = ids.allocate(&image);
        assert_eq!(second, 1000);
        image.replay(&record.unwrap()).unwrap();
        assert_eq!(
            ids.allocate(&image).0,
            2000,
            "its block is still on its way"
        );
        image.replay(&other.unwrap()).unwrap();
    }

    #[test]
    fn no_id_twice_over_restarts() {
        let mut image = Image::default();
        let mut seen = BTreeSet::new();
        for uses in [1, 1500, 3, 2001] {
            let mut ids = ProducerIdAllocator::default();
            for _ in 0..uses {
                let (id, record) = ids.allocate(&image);
                if let Some(record) = record {
                    image.replay(&record).unwrap();
                }
                assert!(seen.insert(id), "{id} twice");
            }
        }
        assert!(image.next_producer_id <= 8000, "blocks are used up");
    }
}
