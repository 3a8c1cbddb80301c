//! Whether there is room for what is to be appended, by who wants it.

use super::Owner;
use crate::base::LogId;

impl Owner {
    /// Whether the store of a log takes this many bytes more of the broker's own, or, if it is for
    /// clients, without touching what is left for the broker; that helps out only while the store grows.
    pub fn has_room(&mut self, log: LogId, bytes: usize, for_clients: bool) -> bool {
        self.partitions.get(&log).is_some_and(|partition| {
            let store = &mut self.slots[partition.slot].store;
            if !for_clients {
                return store.has_room(bytes);
            }
            store.has_room_for_clients(bytes)
                || store.grows_for_clients(bytes) && store.has_room(bytes)
        })
    }

    /// The same of what ends something that clients have begun, which no others can do.
    pub fn has_room_to_end(&mut self, log: LogId, bytes: usize) -> bool {
        self.partitions.get(&log).is_some_and(|partition| {
            let store = &mut self.slots[partition.slot].store;
            store.has_room_for_ends(bytes)
                || store.grows_for_clients(bytes) && store.has_room(bytes)
        })
    }
}
