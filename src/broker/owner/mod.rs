//! The partitions and stores that a shard owns. Requests reach them as messages,
//! from this shard or another; an append is answered when its flush is durable.

pub mod ack;
pub mod adopt;
pub mod settings;
pub mod stores;
#[cfg(test)]
mod tests;
mod unserved;
mod watch;
pub mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::limits::{CHECKPOINT_LOG_COST, WAKES_PER_SLICE};
use crate::base::{ErrorCode, IdMap, LogId, Mono, Now, Offset, ShardId, StoreId};
use crate::broker::fx::Fx;
use crate::broker::io::Output;
use crate::broker::msg::{Failure, Msg, Produced};
use crate::config::{BrokerConfig, TopicConfig};
use crate::controller::{self, Topic};
use crate::log::{Log, LogConfig, Ticket};
use crate::record::BatchInfo;
use crate::store::{DiskError, FlushSeq, IoId, LogLabel, StoreEvent};
use ack::Ack;
use settings::log_config;
use stores::StoreSlot;
use watch::Watches;
use work::Work;

/// A store that found its disk full, or no room for a checkpoint, tries again after so long.
const TRY_AGAIN_MS: u64 = 1000;

/// One partition, on the core that owns it.
#[derive(Debug)]
pub struct OpenLog {
    pub log: Log,
    /// Index into [`Owner::slots`].
    pub slot: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Owner {
    pub me: ShardId,
    pub config: Arc<BrokerConfig>,
    pub slots: Vec<StoreSlot>,
    pub partitions: IdMap<LogId, OpenLog>,
    /// Logs that cannot be served, and whose slot: see [`crate::store::Store::damaged`].
    pub damaged: IdMap<LogId, usize>,
    pub watches: Watches,
    pub work: Work,
    next_retention: Mono,
    /// When stores that found no room try again.
    next_try: Mono,
    /// Numbers that were given out by [`Owner::tell_when_durable`].
    tokens: u64,
    /// Those whose flush is durable, for the control shard to take.
    pub control_done: Vec<u64>,
    checkpoint_wanted: bool,
    /// The last input appended to this slot: when the next input comes, that is over.
    appending: Option<usize>,
    /// Scratch space for what stores have to say.
    events: Vec<StoreEvent>,
}

impl Owner {
    pub fn new(me: ShardId, config: Arc<BrokerConfig>, slots: Vec<StoreSlot>) -> Self {
        let damaged = slots.iter().enumerate().flat_map(|(index, slot)| {
            let logs = slot.store.damaged();
            logs.map(move |(log, ..)| (log, index))
        });
        Self {
            damaged: damaged.collect(),
            me,
            config,
            slots,
            partitions: IdMap::default(),
            watches: Watches::default(),
            work: Work::default(),
            next_retention: Mono(0),
            next_try: Mono(0),
            tokens: 0,
            control_done: Vec::new(),
            checkpoint_wanted: false,
            appending: None,
            events: Vec::new(),
        }
    }

    /// A new input is handled: the one before is done with.
    pub fn next_input(&mut self, now: Mono) {
        if let Some(slot) = self.appending.take()
            && let Some((_, Ack::Produce { stamps, .. })) = self.slots[slot].acks.back_mut()
        {
            stamps.appended(now);
        }
    }

    /// Index of the slot that holds a store of this shard.
    pub fn slot_of(&self, store: StoreId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.store.id() == store)
    }

    /// Appends to a log and notes who waits for which flush. The acknowledgement itself is queued by
    /// the caller, with [`Owner::ack_after`], once for all that it appends.
    pub fn append(
        &mut self,
        now: Now,
        log: LogId,
        batch: Bytes,
        info: &BatchInfo,
    ) -> Result<Produced, Failure> {
        let Some(partition) = self.partitions.get_mut(&log) else {
            return Err((self.missing(log), None));
        };
        let slot = &mut self.slots[partition.slot];
        let len = batch.len();
        let appended = partition
            .log
            .append(now, batch, info, &mut slot.store)
            .map_err(|(code, why)| (code, Some(why)))?;
        Ok(slot.appended(&partition.log, appended, len))
    }

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

    /// Appends a batch of the broker's own to one of its internal topics.
    pub fn append_internal(
        &mut self,
        now: Now,
        log: LogId,
        batch: Bytes,
    ) -> Result<usize, Failure> {
        let info = crate::record::parse(&batch)
            .map_err(|error| (ErrorCode::UnknownServerError, Some(error.to_string())))?;
        let Some(partition) = self.partitions.get_mut(&log) else {
            return Err((self.missing(log), None));
        };
        let slot = &mut self.slots[partition.slot];
        let len = batch.len();
        let appended = partition
            .log
            .append_internal(now, batch, &info, &mut slot.store)
            .map_err(|(code, why)| (code, Some(why)))?;
        slot.appended(&partition.log, appended, len);
        Ok(partition.slot)
    }

    /// Appends batches of the broker's own at the start of a new segment. Returns the slot and the offset
    /// of the first one; when they are durable, [`Owner::drop_before`] may drop all that is before it.
    pub fn rewrite_internal(
        &mut self,
        now: Now,
        log: LogId,
        batches: Vec<Bytes>,
    ) -> Result<(usize, Offset), Failure> {
        let Some(partition) = self.partitions.get_mut(&log) else {
            return Err((self.missing(log), None));
        };
        let (slot, first) = (partition.slot, partition.log.end_offset());
        partition.log.roll(now, &mut self.slots[slot].store);
        for batch in batches {
            self.append_internal(now, log, batch)?;
        }
        Ok((slot, first))
    }

    /// Drops everything before an offset of one of the broker's own logs, up to its high watermark.
    pub fn drop_before(&mut self, now: Now, log: LogId, before: Offset) {
        if let Some(partition) = self.partitions.get_mut(&log) {
            let slot = &mut self.slots[partition.slot];
            if let Err((code, why)) = partition.log.delete_records(now, before, &mut slot.store) {
                tracing::warn!("log {log}: the records before {before} stay: {code}: {why}");
            }
            slot.newest = slot.newest.max(slot.store.pending_seq());
        }
    }

    /// Answers `ack` as soon as all that was appended to the slot so far is durable.
    pub fn ack_after(&mut self, slot: usize, ack: Ack, fx: &mut Fx<'_>) {
        let entry = &mut self.slots[slot];
        if entry.newest <= entry.durable {
            Self::answer(ack, &mut self.control_done, fx);
        } else {
            entry.acks.push_back((entry.newest, ack));
            self.appending = Some(slot);
        }
    }

    /// Returns a number that is among [`Owner::control_done`] as soon as all that was appended to the slot so
    /// far is durable.
    pub fn tell_when_durable(&mut self, slot: usize, fx: &mut Fx<'_>) -> u64 {
        self.tokens += 1;
        self.ack_after(slot, Ack::Control(self.tokens), fx);
        self.tokens
    }

    fn answer(ack: Ack, control_done: &mut Vec<u64>, fx: &mut Fx<'_>) {
        match ack {
            Ack::Produce {
                req,
                results,
                stamps,
            } => fx.send(
                req.shard,
                Msg::ProduceDone {
                    id: req.id,
                    results,
                    stamps,
                },
            ),
            Ack::Query { req, answers } => fx.send(
                req.shard,
                Msg::QueryDone {
                    id: req.id,
                    results: answers,
                },
            ),
            Ack::Control(token) => control_done.push(token),
        }
    }

    /// Starts what can be started: flushes first, then checkpoints and retention.
    pub fn idle(&mut self, fx: &mut Fx<'_>) {
        if fx.now.mono >= self.next_retention {
            let interval = self.config.log_retention_check_interval_ms;
            self.next_retention = fx.now.mono.plus_ms(interval.max(1) as u64);
            for partition in self.partitions.values_mut() {
                let slot = &mut self.slots[partition.slot];
                if partition.log.retain(fx.now, &mut slot.store) {
                    slot.newest = slot.newest.max(slot.store.pending_seq());
                }
            }
        }
        let again = fx.now.mono >= self.next_try;
        if again {
            self.next_try = fx.now.mono.plus_ms(TRY_AGAIN_MS);
        }
        for index in 0..self.slots.len() {
            let mut ops = std::mem::take(&mut fx.ops);
            let slot = &mut self.slots[index];
            if again {
                slot.store.try_again();
            }
            slot.store.poll(&mut ops);
            if slot.store.checkpoint_due() || self.checkpoint_wanted {
                slot.store.begin_checkpoint(&mut ops);
            }
            gather(&self.partitions, slot);
            slot.store.checkpoint_advance(&mut ops);
            // The checkpoint may have taken of what is written ahead.
            slot.store.write_ahead(&mut ops);
            slot.flushes_started(slot.store.started_seq(), fx.now.mono);
            let store = slot.store.id();
            fx.out
                .extend(ops.drain(..).map(|op| Output::Disk { store, op }));
            fx.ops = ops;
        }
        self.checkpoint_wanted = false;
    }

    /// The shard is to come to rest.
    pub fn wind_down(&mut self) {
        for slot in &mut self.slots {
            slot.store.wind_down();
        }
    }

    /// Asks for a checkpoint of every store at the next idle moment (before a shutdown).
    pub fn want_checkpoint(&mut self) {
        self.checkpoint_wanted = true;
    }

    /// Whether nothing is on its way to a disk and nobody waits.
    pub fn is_quiet(&self) -> bool {
        self.slots
            .iter()
            .all(|slot| slot.store.is_quiet() && slot.acks.is_empty())
            && !self.has_more()
    }

    /// The next time at which `idle` has something to do by itself.
    pub fn next_deadline(&self) -> Mono {
        if self.slots.iter().any(|slot| slot.store.waits_for_room()) {
            return self.next_retention.min(self.next_try);
        }
        self.next_retention
    }

    /// A disk operation ended.
    pub fn on_disk(
        &mut self,
        store: StoreId,
        id: IoId,
        result: Result<(), DiskError>,
        fx: &mut Fx<'_>,
    ) {
        let Some(index) = self.slot_of(store) else {
            return;
        };
        let mut ops = std::mem::take(&mut fx.ops);
        let mut events = std::mem::take(&mut self.events);
        self.slots[index]
            .store
            .on_disk(id, result, &mut ops, &mut events);
        fx.out
            .extend(ops.drain(..).map(|op| Output::Disk { store, op }));
        fx.ops = ops;
        for event in events.drain(..) {
            match event {
                StoreEvent::Written(flush) => {
                    if let Some(stamps) = self.slots[index].flush_stamps(flush) {
                        stamps.written = fx.now.mono;
                    }
                }
                StoreEvent::Synced(flush) => {
                    if let Some(stamps) = self.slots[index].flush_stamps(flush) {
                        stamps.synced = fx.now.mono;
                    }
                }
                StoreEvent::Durable(flush) => self.on_durable(index, flush, fx),
                StoreEvent::Failed(error) => fx
                    .out
                    .push(crate::broker::fatal::disk_failed(store, &error)),
            }
        }
        self.events = events;
    }

    /// Moves high watermarks, wakes fetches, then releases acknowledgements: a client that saw its
    /// acknowledgement finds the record when it fetches.
    fn on_durable(&mut self, index: usize, flush: FlushSeq, fx: &mut Fx<'_>) {
        self.slots[index].durable = self.slots[index].durable.max(flush);
        while let Some(&(seq, log, bytes)) = self.slots[index].dirty.front() {
            if seq > flush {
                break;
            }
            self.slots[index].dirty.pop_front();
            let Some(partition) = self.partitions.get_mut(&log) else {
                continue;
            };
            if partition.log.on_durable(flush).is_some() {
                self.watches.advanced(log, bytes as u64);
            }
        }
        self.wake_some(fx);
        let slot = &mut self.slots[index];
        while let Some((seq, _)) = slot.acks.front() {
            if *seq > flush {
                break;
            }
            if let Some((seq, mut ack)) = slot.acks.pop_front() {
                if let Ack::Produce { stamps, .. } = &mut ack {
                    let flush = slot.flush_stamps(seq).copied().unwrap_or_default();
                    stamps.durable(&flush, fx.now.mono);
                }
                Self::answer(ack, &mut self.control_done, fx);
            }
        }
        slot.flushes_durable(flush);
    }

    /// Whether work was put off, or fetches are still to be woken.
    pub fn has_more(&self) -> bool {
        self.work.has_more()
            || self.watches.has_ready()
            || (self.slots.iter())
                .any(|slot| slot.store.lacks_logs() || slot.store.has_more_to_do())
    }

    /// Takes what was read to find a place in a log.
    pub fn scanned(&mut self, log: LogId, ticket: Ticket, bytes: &[u8]) {
        if let Some(partition) = self.partitions.get_mut(&log) {
            // What cannot be understood is reported by the read that follows.
            let _ = partition.log.scanned(ticket, bytes);
        }
    }

    /// Wakes some of the fetches that have enough.
    pub fn wake_some(&mut self, fx: &mut Fx<'_>) {
        for _ in 0..WAKES_PER_SLICE {
            let Some(req) = self.watches.next_ready() else {
                break;
            };
            fx.send(req.shard, Msg::FetchReady { id: req.id });
        }
    }

    /// The topic of a log was removed.
    pub fn delete_log(&mut self, log: LogId) {
        if let Some(partition) = self.partitions.remove(&log) {
            self.watches.gone(log);
            let slot = &mut self.slots[partition.slot];
            slot.newest = slot.newest.max(partition.log.delete(&mut slot.store));
        } else if let Some(slot) = self.damaged.remove(&log) {
            let slot = &mut self.slots[slot];
            // It has no state: nothing of it is known that holds.
            slot.store.give_state(log, Bytes::new());
            slot.newest = slot.newest.max(slot.store.delete_log(log));
        } else {
            for slot in &mut self.slots {
                if let Some(found) = slot.recovered.remove(&log) {
                    slot.newest = slot.newest.max(found.delete(&mut slot.store));
                }
            }
        }
    }

    pub fn open(
        &mut self,
        now: Now,
        slot: usize,
        topic: &Topic,
        index: i32,
        partition: &controller::Partition,
        config: &TopicConfig,
    ) {
        if self.is_damaged(partition.log) {
            return;
        }
        let log_config = log_config(config, &self.config);
        if let Some(open) = self.partitions.get_mut(&partition.log) {
            open.log.set_config(log_config);
            return;
        }
        let label = LogLabel {
            topic: topic.name.to_string(),
            topic_id: topic.id,
            partition: index,
        };
        self.open_log(now, slot, partition.log, label, log_config);
    }

    /// Opens a recovered log or creates it.
    pub fn open_log(
        &mut self,
        now: Now,
        index: usize,
        id: LogId,
        label: LogLabel,
        config: LogConfig,
    ) {
        let slot = &mut self.slots[index];
        let log = if let Some(found) = slot.recovered.get(&id)
            && found.label().topic_id != label.topic_id
        {
            // A stray. What is in it is nobody's who asks for this partition.
            tracing::error!(
                "{}-{}: log {id} exists already and is of {}: the partition is not served",
                label.topic,
                label.partition,
                found.label().topic,
            );
            return;
        } else if let Some(mut log) = slot.recovered.remove(&id) {
            log.set_config(config);
            log
        } else {
            let log = Log::create(id, label, config, now, &mut slot.store);
            slot.newest = slot.newest.max(slot.store.pending_seq());
            log
        };
        self.partitions.insert(id, OpenLog { log, slot: index });
    }

    /// The invariants of everything owned; panics where one is broken.
    pub fn invariants(&self) {
        for partition in self.partitions.values() {
            partition.log.invariants();
        }
        for slot in &self.slots {
            slot.store.invariants();
        }
    }

    /// Logs by id with their high watermark, for the simulator's oracle.
    pub fn watermarks(&self) -> BTreeMap<LogId, Offset> {
        self.partitions
            .iter()
            .map(|(id, partition)| (*id, partition.log.high_watermark()))
            .collect()
    }
}

/// Gives some logs to a checkpoint that is being made. Those that no image has claimed yet, right after a start, are
/// among them: without a state the checkpoint would forget all that the log was before it.
fn gather(partitions: &IdMap<LogId, OpenLog>, slot: &mut StoreSlot) {
    let mut work = slot.store.checkpoint_slice_bytes();
    while work > 0
        && let Some(log) = slot.store.next_lacking()
    {
        let claimed = partitions.get(&log).map(|partition| &partition.log);
        let state = claimed.or_else(|| slot.recovered.get(&log)).map(Log::state);
        let bytes = slot.store.give_state(log, state.unwrap_or_default());
        work = work.saturating_sub(CHECKPOINT_LOG_COST + bytes);
    }
}
