//! Room for what the control shard decides, at the shard that owns a store: who asks for it is told at once, or
//! when the store has grown.

use crate::base::{ShardId, StoreId};
use crate::broker::fx::Fx;
use crate::broker::msg::Msg;
use crate::broker::owner::Owner;
use crate::store::RoomFor;

/// What the control shard has asked for and a store has to grow for: store, bytes, whether it fills the store.
#[derive(Debug, Default)]
pub struct Growth {
    asked: Vec<(StoreId, usize, bool)>,
}

impl Growth {
    /// Says whether there is room, at once or when the store has grown.
    pub fn ask(
        &mut self,
        owner: &mut Owner,
        store: StoreId,
        bytes: usize,
        fills: bool,
        fx: &mut Fx<'_>,
    ) {
        match room_in(owner, store, bytes, fills) {
            Some(there) => fx.send(ShardId(0), Msg::RoomTold { there }),
            None if owner.slot_of(store).is_some() => self.asked.push((store, bytes, fills)),
            None => fx.send(ShardId(0), Msg::RoomTold { there: false }),
        }
    }

    /// Tells those that waited for a store to grow, as far as it has, or will not.
    pub fn go_on(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        for (store, bytes, fills) in std::mem::take(&mut self.asked) {
            self.ask(owner, store, bytes, fills, fx);
        }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }
}

/// Whether a store has room for this many bytes more; for what fills it, without touching what it keeps
/// for the broker. `None` as long as it grows, and for a store of another shard.
pub fn room_in(owner: &mut Owner, store: StoreId, bytes: usize, fills: bool) -> Option<bool> {
    let slot = owner.slot_of(store)?;
    let store = &mut owner.slots[slot].store;
    let what = match fills {
        true => RoomFor::Clients,
        false => RoomFor::Broker,
    };
    let there = store.has_room(bytes, what);
    (there || !store.grows_for_clients(bytes)).then_some(there)
}
