//! Produce at the shard that owns the partitions: appends, which are acknowledged when their flush is durable.

use std::collections::VecDeque;

use crate::base::{Now, StoreId};
use crate::broker::fx::Fx;
use crate::broker::msg::{ProducePart, ReqRef};
use crate::broker::owner::Owner;
use crate::broker::owner::ack::Ack;
use crate::broker::trace::ProduceStamps;

/// The produce requests that wait for their store to grow.
#[derive(Debug, Default)]
pub struct Appends {
    delayed: VecDeque<(ReqRef, StoreId, Vec<ProducePart>)>,
}

impl Appends {
    /// Appends the parts of a produce request that belong to one store, or lets them wait while it grows.
    pub fn begin(
        &mut self,
        owner: &mut Owner,
        now: Now,
        req: ReqRef,
        store: StoreId,
        parts: Vec<ProducePart>,
        fx: &mut Fx<'_>,
    ) {
        if self.delayed.iter().any(|(_, of, _)| *of == store) || must_grow(owner, store, &parts) {
            self.delayed.push_back((req, store, parts));
        } else {
            append(owner, now, req, store, parts, fx);
        }
    }

    /// Goes on with what waited for a store to grow, in order, as far as it has room now or will not get it.
    pub fn go_on(&mut self, owner: &mut Owner, now: Now, fx: &mut Fx<'_>) {
        let mut blocked = Vec::new();
        for (req, store, parts) in std::mem::take(&mut self.delayed) {
            if blocked.contains(&store) || must_grow(owner, store, &parts) {
                blocked.push(store);
                self.delayed.push_back((req, store, parts));
            } else {
                append(owner, now, req, store, parts, fx);
            }
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.delayed.is_empty()
    }
}

/// Whether a store has no room for these, but may soon.
fn must_grow(owner: &mut Owner, store: StoreId, parts: &[ProducePart]) -> bool {
    let bytes = parts.iter().map(|part| part.batch.len()).sum();
    owner.slot_of(store).is_some_and(|slot| {
        let store = &mut owner.slots[slot].store;
        !store.has_room_for_clients(bytes) && store.grows_for_clients(bytes)
    })
}

fn append(
    owner: &mut Owner,
    now: Now,
    req: ReqRef,
    store: StoreId,
    parts: Vec<ProducePart>,
    fx: &mut Fx<'_>,
) {
    let results = parts
        .into_iter()
        .map(|part| {
            let result = owner.append(now, part.log, part.batch, &part.info);
            (part.slot, result)
        })
        .collect();
    let ack = Ack::Produce {
        req,
        results,
        stamps: ProduceStamps::arrived(now.mono),
    };
    match owner.slot_of(store) {
        Some(slot) => owner.ack_after(slot, ack, fx),
        None => debug_assert!(false, "a produce for a store of another shard"),
    }
}
