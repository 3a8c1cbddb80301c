//! Which store holds a new partition: the one with the fewest, so that every
//! core gets its share whatever the sizes of the topics.

use super::image::Image;
use crate::base::StoreId;
use crate::config::INTERNAL_TOPICS;

/// The load of the stores of this node while partitions are being placed. Internal topics count by themselves: their
/// many partitions hold next to nothing, and must neither keep other topics away from a store nor be kept away by them.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Partitions by store: those of clients' topics, and those of internal ones.
    partitions: [Vec<u32>; 2],
}

impl Placement {
    /// The load as the image has it.
    #[must_use]
    pub fn new(image: &Image) -> Self {
        let mut clients = image.load().to_vec();
        clients.resize(clients.len().max(1), 0);
        let internal = vec![0; clients.len()];
        let mut placement = Self {
            partitions: [clients, internal],
        };
        let internal = INTERNAL_TOPICS.iter().filter_map(|name| image.topic(name));
        for partition in internal.flat_map(|topic| topic.partitions.iter()) {
            if let Some(store) = partition.store {
                placement.take(store, true);
            }
        }
        placement
    }

    /// A store that somebody chose for a partition; it counts from now on.
    pub fn take(&mut self, store: StoreId, internal: bool) -> StoreId {
        let partitions = &mut self.partitions[usize::from(internal)];
        if let Some(count) = partitions.get_mut(usize::from(store.0)) {
            *count += 1;
        }
        store
    }

    /// The store of the next partition; it counts from now on.
    pub fn next(&mut self, internal: bool) -> StoreId {
        let partitions = &self.partitions[usize::from(internal)];
        let fewest = (0u16..).zip(partitions).min_by_key(|(_, count)| **count);
        let store = fewest.map_or(StoreId(0), |(store, _)| StoreId(store));
        self.take(store, internal)
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
        let internal: Vec<_> = (0..4).map(|_| placement.next(true).0).collect();
        assert_eq!(internal, [0, 1, 2, 0], "counted by themselves");
        assert_eq!(placement.next(false), StoreId(1));
        assert_eq!(placement.take(StoreId(2), false), StoreId(2));
        assert_eq!(placement.next(false), StoreId(0), "what was chosen counts");
    }
}
