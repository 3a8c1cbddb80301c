//! Which store holds a new partition: the one with the fewest, so that every
//! core gets its share whatever the sizes of the topics.

use super::image::Image;
use crate::base::StoreId;

/// The load of the stores of this node while partitions are being placed.
#[derive(Clone, Debug)]
pub struct Placement {
    partitions: Vec<u32>,
}

impl Placement {
    /// The load as the image has it. Internal topics all lie in store 0 and do not count, or else
    /// the 50 partitions of the committed offsets would keep store 0 free of anything else.
    #[must_use]
    pub fn new(image: &Image) -> Self {
        let mut partitions = image.load().to_vec();
        partitions.resize(partitions.len().max(1), 0);
        Self { partitions }
    }

    /// A store that somebody chose; the partition counts from now on.
    pub fn take(&mut self, store: StoreId) -> StoreId {
        if let Some(count) = self.partitions.get_mut(usize::from(store.0)) {
            *count += 1;
        }
        store
    }

    /// The store of the next partition; it counts from now on.
    pub fn next(&mut self, internal: bool) -> StoreId {
        if internal {
            return StoreId(0);
        }
        let fewest = (0u16..)
            .zip(&mut self.partitions)
            .min_by_key(|(_, count)| **count);
        fewest.map_or(StoreId(0), |(store, count)| {
            *count += 1;
            StoreId(store)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DirectoryId;

    #[test]
    fn stores_fill_evenly() {
        let mut placement = Placement::new(&Image::of_node(
            [0, 1, 2].map(|n| DirectoryId::new(1, StoreId(n))),
        ));
        let stores: Vec<_> = (0..7).map(|_| placement.next(false).0).collect();
        assert_eq!(stores, [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(placement.next(true), StoreId(0));
        assert_eq!(placement.next(false), StoreId(1));
        assert_eq!(placement.take(StoreId(2)), StoreId(2));
        assert_eq!(placement.next(false), StoreId(0), "what was chosen counts");
    }
}
