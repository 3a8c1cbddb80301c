//! Whether there is room for what is to be appended, by who wants it.

use super::Owner;
use crate::base::LogId;
use crate::store::RoomFor;

impl Owner {
    /// Whether the store of a log takes this many bytes more. For the broker's own what is left for it helps out while
    /// the store grows.
    pub fn has_room(&mut self, log: LogId, bytes: usize, what: RoomFor) -> bool {
        self.partitions.get(&log).is_some_and(|partition| {
            let store = &mut self.slots[partition.slot].store;
            store.has_room(bytes, what)
                || what != RoomFor::Broker
                    && store.grows_for_clients(bytes)
                    && store.has_room(bytes, RoomFor::Broker)
        })
    }
}
