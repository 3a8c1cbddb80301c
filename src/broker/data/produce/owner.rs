//! Produce at the shard that owns the partitions: appends, each of which is answered when a mark of its log is
//! behind it.

use std::collections::VecDeque;

use crate::base::limits::{
    APPENDED_PER_TURN, COORDINATORS_WAITING_BYTES_MAX, LOGS_CHANGED_PER_SLICE,
};
use crate::base::{ErrorCode, Mono, Refused, StoreId};
use crate::broker::fx::Fx;
use crate::broker::msg::{Appender, ProduceParts};
use crate::broker::owner::Owner;
use crate::store::RoomFor;

use super::verifying::{Due, Verifying};

/// What a request appends to one store.
type Waiting = (Appender, ProduceParts);

/// The produce requests that wait for their store to grow, or for a turn at it.
#[derive(Debug)]
pub struct Delayed {
    /// By store, each in turn.
    by_store: VecDeque<(StoreId, VecDeque<Waiting>)>,
    /// One of them has room, but has had its turn.
    has_more: bool,
    /// Bytes of those that are of coordinators: nobody's request memory is held for them.
    own_bytes: usize,
    /// Batches that may still be appended as they come before the shard is idle.
    left: usize,
    /// Those that wait for coordinators of transactions.
    verifying: Verifying,
    /// The node stops.
    stopping: bool,
}

impl Default for Delayed {
    fn default() -> Self {
        Self {
            by_store: VecDeque::new(),
            has_more: false,
            own_bytes: 0,
            left: APPENDED_PER_TURN,
            verifying: Verifying::default(),
            stopping: false,
        }
    }
}

impl Delayed {
    /// Appends the parts of a produce request that belong to one store, or lets them wait while it grows, or while a
    /// checkpoint takes their logs; those that would begin a transaction, while its coordinator is asked.
    pub fn begin(
        &mut self,
        owner: &mut Owner,
        appender: Appender,
        mut parts: ProduceParts,
        fx: &mut Fx<'_>,
    ) {
        if parts.transaction.is_some() {
            let refused = self.verifying.take(owner, appender, &mut parts, fx);
            refuse_some(owner, refused, fx);
            if parts.batches.is_empty() {
                return;
            }
        }
        self.begin_verified(owner, appender, parts, fx);
    }

    /// A coordinator has said which partitions are part of a transaction.
    pub fn told(&mut self, owner: &mut Owner, id: u64, errors: &[ErrorCode], fx: &mut Fx<'_>) {
        let verified = self.verifying.told(owner, id, errors, fx.now);
        refuse_some(owner, verified.refused, fx);
        for (appender, parts) in verified.parts {
            self.begin_verified(owner, appender, parts, fx);
        }
    }

    /// The node is to stop: coordinators are not waited for any more.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// What coordinators have not answered for too long is refused, and what they are to be asked again is, some at a
    /// time.
    pub fn give_up_late(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        for _ in 0..LOGS_CHANGED_PER_SLICE {
            match self.verifying.due(fx.now.mono, self.stopping) {
                Some(Due::Late(id)) => self.told(owner, id, &[], fx),
                Some(Due::Again(id)) => self.verifying.put(id, fx),
                None => break,
            }
        }
    }

    /// When [`Delayed::give_up_late`] has something to do.
    pub fn deadline(&self) -> Mono {
        self.verifying.deadline()
    }

    fn begin_verified(
        &mut self,
        owner: &mut Owner,
        appender: Appender,
        parts: ProduceParts,
        fx: &mut Fx<'_>,
    ) {
        let first = self.first_of(parts.store);
        let is_first = first.is_none();
        if must_grow(owner, first.unwrap_or(&parts)) {
            // What waits for a turn alone has it soon.
            let own = own_bytes(appender, &parts);
            let fits = self.own_bytes + own <= COORDINATORS_WAITING_BYTES_MAX;
            if own > 0 && self.own_bytes > 0 && !fits {
                return refuse(owner, appender, &parts, fx);
            }
            return self.wait(appender, parts);
        }
        let rest = match is_first && self.left > 0 {
            true => {
                self.left = self.left.saturating_sub(parts.batches.len());
                append(owner, appender, parts, fx)
            }
            false => Some(parts),
        };
        if let Some(rest) = rest {
            self.wait(appender, rest);
            self.has_more = true;
        }
    }

    /// What waits first for a store.
    fn first_of(&self, store: StoreId) -> Option<&ProduceParts> {
        let (_, waiting) = self.by_store.iter().find(|(of, _)| *of == store)?;
        waiting.front().map(|(_, parts)| parts)
    }

    /// Lets parts wait behind the others of their store.
    fn wait(&mut self, appender: Appender, parts: ProduceParts) {
        self.own_bytes += own_bytes(appender, &parts);
        let store = parts.store;
        match self.by_store.iter_mut().find(|(of, _)| *of == store) {
            Some((_, waiting)) => waiting.push_back((appender, parts)),
            None => self.by_store.push_back((store, [(appender, parts)].into())),
        }
    }

    /// Goes on with some of what waited for a store to grow, or for its turn, in order, as far as it has room now or
    /// will not get it.
    pub fn go_on(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        self.has_more = false;
        self.left = APPENDED_PER_TURN;
        let mut most = LOGS_CHANGED_PER_SLICE;
        for _ in 0..self.by_store.len() {
            let Some((store, mut waiting)) = self.by_store.pop_front() else {
                break;
            };
            let before = most;
            self.has_more = self.append_some(owner, &mut waiting, &mut most, fx);
            if self.has_more && most == before {
                // It needs more of a slice than those before it have left: it has the next one.
                self.by_store.push_front((store, waiting));
            } else if !waiting.is_empty() {
                self.by_store.push_back((store, waiting));
            }
            if self.has_more {
                break;
            }
        }
    }

    /// Appends what waits for a store, as far as there is room and this many batches go. Returns whether it has to stop
    /// for the slice.
    fn append_some(
        &mut self,
        owner: &mut Owner,
        waiting: &mut VecDeque<Waiting>,
        most: &mut usize,
        fx: &mut Fx<'_>,
    ) -> bool {
        while let Some((_, parts)) = waiting.front()
            && !must_grow(owner, parts)
        {
            let batches = parts.batches.len();
            if *most < batches.min(LOGS_CHANGED_PER_SLICE) {
                return true;
            }
            *most = most.saturating_sub(batches);
            let Some((appender, parts)) = waiting.pop_front() else {
                break;
            };
            self.own_bytes -= own_bytes(appender, &parts);
            if let Some(rest) = append(owner, appender, parts, fx) {
                self.own_bytes += own_bytes(appender, &rest);
                waiting.push_front((appender, rest));
                return true;
            }
        }
        false
    }

    /// Whether something can go on: it has had its turn, or its store has come to have room for it since.
    pub fn has_more(&self, owner: &Owner) -> bool {
        let mut first = self
            .by_store
            .iter()
            .filter_map(|(_, waiting)| waiting.front());
        let gives_up = self.stopping && !self.verifying.is_empty();
        self.has_more || gives_up || first.any(|(_, parts)| has_room(owner, parts))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.by_store.is_empty() && self.verifying.is_empty()
    }
}

fn bytes_of(parts: &ProduceParts) -> usize {
    parts.batches.iter().map(|part| part.batch.len()).sum()
}

/// The same for what a coordinator appends.
fn own_bytes(appender: Appender, parts: &ProduceParts) -> usize {
    match appender {
        Appender::Coordinator(..) => bytes_of(parts),
        Appender::Client(_) => 0,
    }
}

/// Answers batches that are not appended.
fn refuse_some(owner: &mut Owner, refused: Vec<(Appender, u32, Refused)>, fx: &mut Fx<'_>) {
    for (appender, slot, why) in refused {
        let mut ack = owner.acks.begin(appender, 1, fx.now.mono);
        ack.results.push((slot, Err(why)));
        owner.acks.add(ack, fx);
    }
}

/// Answers that there is no room.
fn refuse(owner: &mut Owner, appender: Appender, parts: &ProduceParts, fx: &mut Fx<'_>) {
    let mut ack = owner.acks.begin(appender, parts.batches.len(), fx.now.mono);
    let refused = || Err(ErrorCode::KafkaStorageError.into());
    let parts = parts.batches.iter();
    ack.results.extend(parts.map(|part| (part.slot, refused())));
    owner.acks.add(ack, fx);
}

/// Whether a store has room for these.
fn has_room(owner: &Owner, parts: &ProduceParts) -> bool {
    let slot = owner.slot_of(parts.store);
    slot.is_some_and(|slot| {
        owner.slots[slot]
            .store
            .has_room(bytes_of(parts), RoomFor::Clients)
    })
}

/// Whether a store has no room for these, but may soon.
fn must_grow(owner: &mut Owner, parts: &ProduceParts) -> bool {
    if has_room(owner, parts) {
        return false;
    }
    let slot = owner.slot_of(parts.store);
    slot.is_some_and(|slot| owner.slots[slot].store.grows_for_clients(bytes_of(parts)))
}

/// Appends as many as may be appended in this slice, and returns the others, which are answered apart.
fn append(
    owner: &mut Owner,
    appender: Appender,
    parts: ProduceParts,
    fx: &mut Fx<'_>,
) -> Option<ProduceParts> {
    let ProduceParts {
        store,
        transaction,
        mark,
        until,
        batches,
    } = parts;
    let (now, mut batches) = (fx.now.mono, batches.into_iter());
    let mut ack = owner.acks.begin(appender, batches.len(), now);
    ack.until = owner.waits_until(appender, until, now);
    while !owner.holds_changes()
        && let Some(part) = batches.next()
    {
        owner.append(fx.now, part, mark, &mut ack);
    }
    if ack.waiting > 0 || !ack.results.is_empty() {
        owner.acks.add(ack, fx);
    }
    (batches.len() > 0).then(|| ProduceParts {
        store,
        transaction,
        mark,
        until,
        batches: batches.collect(),
    })
}

#[cfg(test)]
mod tests;
