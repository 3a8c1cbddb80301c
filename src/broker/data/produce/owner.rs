//! Produce at the shard that owns the partitions: appends, each of which is answered when a mark of its log is
//! behind it.

use std::collections::VecDeque;

use crate::base::limits::{
    APPENDED_PER_TURN, COORDINATORS_WAITING_BYTES_MAX, LOGS_CHANGED_PER_SLICE,
};
use crate::base::{ErrorCode, StoreId};
use crate::broker::fx::Fx;
use crate::broker::msg::{Appender, ProduceParts};
use crate::broker::owner::Owner;

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
}

impl Default for Delayed {
    fn default() -> Self {
        Self {
            by_store: VecDeque::new(),
            has_more: false,
            own_bytes: 0,
            left: APPENDED_PER_TURN,
        }
    }
}

impl Delayed {
    /// Appends the parts of a produce request that belong to one store, or lets them wait while it grows, or while a
    /// checkpoint takes their logs.
    pub fn begin(
        &mut self,
        owner: &mut Owner,
        appender: Appender,
        parts: ProduceParts,
        fx: &mut Fx<'_>,
    ) {
        let store = parts.store;
        let left = self.left.saturating_sub(parts.batches.len());
        let waiting = self.by_store.iter().any(|(of, _)| *of == store);
        if waiting || must_grow(owner, &parts) {
            let own = own_bytes(appender, &parts);
            if own > 0 && self.own_bytes + own > COORDINATORS_WAITING_BYTES_MAX {
                return refuse(owner, appender, &parts, fx);
            }
            self.wait(appender, parts);
        } else if self.left == 0 {
            self.wait(appender, parts);
            self.has_more = true;
        } else if let Some(rest) = append(owner, appender, parts, fx) {
            self.wait(appender, rest);
            self.has_more = true;
            self.left = left;
        } else {
            self.left = left;
        }
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
            while let Some((_, parts)) = waiting.front()
                && !must_grow(owner, parts)
            {
                let batches = parts.batches.len();
                if most < batches.min(LOGS_CHANGED_PER_SLICE) {
                    self.has_more = true;
                    break;
                }
                most = most.saturating_sub(batches);
                let Some((appender, parts)) = waiting.pop_front() else {
                    break;
                };
                self.own_bytes -= own_bytes(appender, &parts);
                if let Some(rest) = append(owner, appender, parts, fx) {
                    self.own_bytes += own_bytes(appender, &rest);
                    waiting.push_front((appender, rest));
                    self.has_more = true;
                    break;
                }
            }
            if !waiting.is_empty() {
                self.by_store.push_back((store, waiting));
            }
        }
    }

    /// Whether something can go on: it has had its turn, or its store has come to have room for it since.
    pub fn has_more(&self, owner: &Owner) -> bool {
        let mut first = self
            .by_store
            .iter()
            .filter_map(|(_, waiting)| waiting.front());
        self.has_more || first.any(|(_, parts)| has_room(owner, parts))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.by_store.is_empty()
    }
}

fn bytes_of(parts: &ProduceParts) -> usize {
    parts.batches.iter().map(|part| part.batch.len()).sum()
}

/// The same for what a coordinator appends.
fn own_bytes(appender: Appender, parts: &ProduceParts) -> usize {
    match appender {
        Appender::Coordinator(_) => bytes_of(parts),
        Appender::Client(_) => 0,
    }
}

/// Answers that there is no room.
fn refuse(owner: &mut Owner, appender: Appender, parts: &ProduceParts, fx: &mut Fx<'_>) {
    let mut ack = owner.acks.begin(appender, parts.batches.len(), fx.now.mono);
    let refused = || Err((ErrorCode::KafkaStorageError, None));
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
            .has_room_for_clients(bytes_of(parts))
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
        mark,
        batches,
    } = parts;
    let mut batches = batches.into_iter();
    let mut ack = owner.acks.begin(appender, batches.len(), fx.now.mono);
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
        mark,
        batches: batches.collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{LogId, Mono, Now, ShardId};
    use crate::broker::io::Output;
    use crate::broker::msg::{Msg, ProducePart, ReqRef};
    use crate::broker::owner::stores::format_store;
    use crate::broker::testing::with_fx;
    use crate::config::BrokerConfig;
    use crate::log::LogConfig;
    use crate::record::{self, BatchBuilder, Codec};
    use crate::replica::Mark;
    use crate::store::{LogLabel, StoreConfig};

    const ME: ShardId = ShardId(0);
    const NOW: Now = Now {
        mono: Mono(1),
        wall_ms: 1_700_000_000_000,
    };
    const STORE: StoreId = StoreId(0);
    const LOGS: u64 = LOGS_CHANGED_PER_SLICE as u64 / 2 + 1;

    fn part(log: u64, bytes: usize) -> ProducePart {
        let mut builder = BatchBuilder::new(Codec::None, NOW.wall_ms);
        builder.push(NOW.wall_ms, None, Some(&vec![0; bytes]), &[]);
        let batch = builder.build();
        ProducePart {
            slot: 0,
            log: LogId(log),
            info: record::parse(&batch).unwrap(),
            batch,
        }
    }

    fn parts(batches: Vec<ProducePart>) -> ProduceParts {
        ProduceParts {
            store: STORE,
            mark: Mark::Committed,
            batches,
        }
    }

    /// Lets something happen, and the disk do what it is asked for.
    fn run(owner: &mut Owner, act: impl FnOnce(&mut Owner, &mut Fx<'_>)) {
        with_fx(NOW, |fx| {
            act(owner, fx);
            for output in std::mem::take(fx.out) {
                if let Output::Disk { store, op } = output {
                    owner.on_disk(store, op.id(), Ok(()), fx);
                }
            }
        });
    }

    fn appended(owner: &Owner) -> i64 {
        let partitions = owner.partitions.values();
        partitions.map(|open| open.log.end_offset().0).sum()
    }

    #[test]
    fn what_waited_for_a_store_to_grow_is_appended_in_slices() {
        const REQUESTS: u64 = 10;
        /// More than the store has room for.
        const MUCH: usize = 20 << 20;
        let config = StoreConfig {
            journal_bytes: 1 << 20,
            initial_bytes: 4 << 20,
            ..StoreConfig::default()
        };
        let slot = format_store(STORE, config, 1).0;
        let mut owner = Owner::new(ME, Arc::new(BrokerConfig::default()), vec![slot]);
        let mut delayed = Delayed::default();
        let req = |id| Appender::Client(ReqRef { shard: ME, id });
        run(&mut owner, |owner, fx| {
            for log in 0..LOGS {
                owner.open_log(
                    NOW,
                    0,
                    LogId(log),
                    LogLabel::default(),
                    LogConfig::default(),
                );
            }
            // It is too large for its log too; but that is told when it has its turn.
            delayed.begin(owner, req(0), parts(vec![part(0, MUCH)]), fx);
            for id in 1..=REQUESTS {
                let batches = (0..LOGS).map(|log| part(log, 1)).collect();
                delayed.begin(owner, req(id), parts(batches), fx);
            }
        });
        assert_eq!((appended(&owner), delayed.is_empty()), (0, false));
        let mut turns = 0;
        while !delayed.is_empty() {
            let before = appended(&owner);
            run(&mut owner, |owner, fx| {
                delayed.go_on(owner, fx);
                owner.idle(fx);
            });
            let now = appended(&owner) - before;
            assert!(now <= LOGS_CHANGED_PER_SLICE as i64, "{now} at once");
            let waits = before == 0 && now == 0;
            assert!(waits || delayed.has_more(&owner) != delayed.is_empty());
            if !delayed.has_more(&owner) {
                let before = appended(&owner);
                run(&mut owner, |owner, fx| delayed.go_on(owner, fx));
                assert_eq!(appended(&owner), before, "nobody asks for this turn");
            }
            turns += 1;
            assert!(turns < 10 * REQUESTS, "it does not end");
        }
        assert_eq!(appended(&owner), (REQUESTS * LOGS) as i64);
    }

    #[test]
    fn what_coordinators_append_waits_for_room_within_a_bound() {
        const BATCH: usize = 1 << 20;
        let config = StoreConfig {
            journal_bytes: 1 << 20,
            initial_bytes: 4 << 20,
            ..StoreConfig::default()
        };
        let slot = format_store(STORE, config, 1).0;
        let mut owner = Owner::new(ME, Arc::new(BrokerConfig::default()), vec![slot]);
        let mut delayed = Delayed::default();
        let mut refused = 0;
        let ((), _, local) = with_fx(NOW, |fx| {
            let (label, config) = (LogLabel::default(), LogConfig::default());
            owner.open_log(NOW, 0, LogId(0), label, config);
            let client = Appender::Client(ReqRef { shard: ME, id: 0 });
            delayed.begin(&mut owner, client, parts(vec![part(0, 20 << 20)]), fx);
            for id in 0..40 {
                let own = Appender::Coordinator(ReqRef { shard: ME, id });
                delayed.begin(&mut owner, own, parts(vec![part(0, BATCH)]), fx);
            }
        });
        for msg in local {
            let Msg::Appended { result, .. } = msg else {
                panic!("unexpected {msg:?}");
            };
            assert_eq!(result, Err((ErrorCode::KafkaStorageError, None)));
            refused += 1;
        }
        assert_eq!(refused, 40 - (COORDINATORS_WAITING_BYTES_MAX / BATCH - 1));
        while !delayed.is_empty() {
            run(&mut owner, |owner, fx| {
                delayed.go_on(owner, fx);
                owner.idle(fx);
            });
        }
        assert_eq!(delayed.own_bytes, 0);
    }
}
