//! The partitions and stores that a shard owns. Requests reach them as messages, from this shard or another; what
//! a request waits for, and when it is there, each partition's `replica` says.

pub mod acks;
pub mod adopt;
mod append;
mod compacted;
mod kept;
mod late;
mod markers;
mod moved;
pub mod refused_reads;
pub mod roles;
mod room;
pub mod settings;
mod shown;
pub mod stores;
#[cfg(test)]
mod tests;
mod unserved;
mod waiting;
mod watch;
pub mod work;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::limits::{
    LOGS_CHANGED_PER_SLICE, PRODUCERS_PER_LOG_CHANGED, WAITS_TOLD_PER_SLICE, WAKES_PER_SLICE,
};
use crate::base::{ErrorCode, IdMap, IdSet, LogId, Mono, Now, Offset, Refused, ShardId, StoreId};
use crate::broker::fx::Fx;
use crate::broker::io::Output;
use crate::broker::msg::Msg;
use crate::broker::trace::{Board, CountedTopics, FlushStamps, PartitionStanding, TopicCounts};
use crate::config::{BrokerConfig, TopicConfig};
use crate::controller::{self, Topic};
use crate::log::{Log, LogConfig, LogKept, Ticket, Truncation};
use crate::replica::Leader;
use crate::store::{DiskError, FlushSeq, IoId, LogLabel, Piece, StoreEvent};
use acks::{Acks, LogWaiter};
use kept::KeptRoom;
use late::LateWaits;
use moved::Roles;
use settings::log_config;
use stores::StoreSlot;
pub use watch::Watched;
use watch::Watches;
use work::Work;

/// A store that found its disk full, or no room for a checkpoint, tries again after so long.
const TRY_AGAIN_MS: u64 = 1000;

/// One partition, on the core that owns it.
#[derive(Debug)]
pub struct OpenLog {
    pub log: Log,
    /// Who waits for what in the log, and where its watermark stands, if this node leads it.
    pub leader: Option<Leader<LogWaiter>>,
    /// Index into [`Owner::slots`].
    pub slot: usize,
    /// The newest flush that has something of it.
    changed: FlushSeq,
    /// What is counted of what it keeps: see [`KeptRoom`].
    counted: LogKept,
    /// Some of its log is lost here, as a follower has found.
    has_lost: bool,
    /// Where what goes through it is counted.
    pub counts: Arc<TopicCounts>,
    /// How it stands, as far as that is shown.
    standing: PartitionStanding,
}

impl OpenLog {
    /// Whether this node leads it, and others have it too.
    #[must_use]
    pub fn leads_others(&self) -> bool {
        let leader = self.leader.as_ref();
        leader.is_some_and(|leader| !leader.is_alone())
    }

    /// Something was appended to it, or dropped: others have to be told, if they have it.
    fn has_moved(&self, roles: &mut Roles) {
        if self.leads_others() {
            roles.moved.insert(self.log.id());
        }
    }

    /// It may keep more or less than before.
    fn count(&mut self, room: &mut KeptRoom) {
        room.count(&mut self.counted, self.log.kept());
    }

    /// It has changed; this is durable with the flush.
    fn changed(&mut self, flush: FlushSeq, slot: &mut StoreSlot, room: &mut KeptRoom) {
        self.count(room);
        if self.changed < flush {
            self.changed = flush;
            slot.changed.push_back((flush, self.log.id()));
        }
    }
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
    pub acks: Acks,
    late: LateWaits,
    kept: KeptRoom,
    next_retention: Mono,
    /// Logs that the pass of retention that is under way has not looked at yet.
    retaining: Vec<LogId>,
    /// When stores that found no room try again.
    next_try: Mono,
    /// Numbers that were given out by [`Owner::tell_when_committed`].
    tokens: u64,
    checkpoint_wanted: bool,
    /// Those that lead no more, with somebody who waits still, and what he is told.
    resigned: VecDeque<(Leader<LogWaiter>, ErrorCode)>,
    /// This node in the cluster, and what has become of the partitions that other nodes have too.
    pub roles: Roles,
    /// How many who wait may be told until the next [`Owner::idle`] that a flush is durable.
    may_tell: usize,
    /// Scratch space for what stores have to say.
    events: Vec<StoreEvent>,
    /// Where the shard counts.
    pub board: Arc<Board>,
    /// Where it counts what goes through each topic.
    topics: CountedTopics,
    /// When what its stores have is shown there again, at the earliest.
    show_at: Mono,
    /// It may have changed since it was.
    is_to_be_shown: bool,
}

impl Owner {
    pub fn new(me: ShardId, config: Arc<BrokerConfig>, slots: Vec<StoreSlot>) -> Self {
        let damaged = slots.iter().enumerate().flat_map(|(index, slot)| {
            let logs = slot.store.damaged();
            logs.map(move |(log, ..)| (log, index))
        });
        let tail_bytes_max = config.store().tail_bytes_max;
        let mut owner = Self {
            damaged: damaged.collect(),
            me,
            config,
            slots,
            partitions: IdMap::default(),
            watches: Watches::default(),
            work: Work::default(),
            acks: Acks::default(),
            late: LateWaits::default(),
            kept: KeptRoom::default(),
            next_retention: Mono(0),
            retaining: Vec::new(),
            next_try: Mono(0),
            tokens: 0,
            checkpoint_wanted: false,
            resigned: VecDeque::new(),
            roles: Roles::default(),
            may_tell: WAITS_TOLD_PER_SLICE,
            events: Vec::new(),
            board: Arc::default(),
            topics: CountedTopics::default(),
            show_at: Mono(0),
            is_to_be_shown: false,
        };
        owner.set_tail_bytes_max(tail_bytes_max);
        owner
    }

    /// A new input is handled: the one before is done with.
    pub fn next_input(&mut self, now: Mono) {
        self.acks.appended(now);
    }

    /// Index of the slot that holds a store of this shard.
    pub fn slot_of(&self, store: StoreId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.store.id() == store)
    }

    /// Drops all of one of the broker's own logs, which begins anew at this offset.
    pub fn begin_anew(&mut self, now: Now, log: LogId, offset: Offset) {
        if let Some(partition) = self.partitions.get_mut(&log) {
            let slot = &mut self.slots[partition.slot];
            let flush = partition.log.start_over(now, offset, &mut slot.store);
            partition.changed(flush, slot, &mut self.kept);
        }
    }

    /// Cuts one of the broker's own logs back, for whose end nobody waits: see [`Log::truncate`].
    ///
    /// # Errors
    /// What is cut cannot be read, or the log is not there; nothing is changed then.
    pub fn truncate(
        &mut self,
        now: Now,
        log: LogId,
        offset: Offset,
    ) -> Result<Truncation, ErrorCode> {
        let Some(partition) = self.partitions.get_mut(&log) else {
            return Err(self.missing(log));
        };
        let slot = &mut self.slots[partition.slot];
        let cut = partition.log.truncate(now, offset, &mut slot.store)?;
        if let Truncation::Done {
            flush: Some(flush), ..
        } = cut
        {
            partition.changed(flush, slot, &mut self.kept);
        }
        Ok(cut)
    }

    /// Begins a new segment of one of the broker's own logs, and returns its offset: when what is appended from there
    /// on stands for all that is before it, [`Owner::drop_before`] may drop that.
    pub fn begin_rewrite(&mut self, now: Now, log: LogId) -> Option<Offset> {
        let partition = self.partitions.get_mut(&log)?;
        let slot = &mut self.slots[partition.slot];
        partition.log.roll(now, &mut slot.store);
        Some(partition.log.end_offset())
    }

    /// Drops everything before an offset of one of the broker's own logs, up to its high watermark.
    pub fn drop_before(&mut self, now: Now, log: LogId, before: Offset) {
        if let Err(refused) = self.delete_records(now, log, before) {
            tracing::warn!("log {log}: the records before {before} stay: {refused}");
        }
    }

    /// Drops everything before an offset of a log; see [`Log::delete_records`] and [`Leader::may_delete`].
    pub fn delete_records(
        &mut self,
        now: Now,
        log: LogId,
        before: Offset,
    ) -> Result<Offset, Refused> {
        let Some(partition) = self.partitions.get_mut(&log) else {
            return Err(self.missing(log).into());
        };
        let Some(leader) = &partition.leader else {
            return Err(ErrorCode::NotLeaderOrFollower.into());
        };
        leader.may_delete(&partition.log, before)?;
        let slot = &mut self.slots[partition.slot];
        let start = partition.log.delete_records(now, before, &mut slot.store);
        partition.changed(slot.store.pending_seq(), slot, &mut self.kept);
        partition.has_moved(&mut self.roles);
        start
    }

    /// Bytes that the memory tails of the stores have forgotten so far for lack of memory.
    #[must_use]
    pub fn tail_bytes_missed(&self) -> u64 {
        self.slots
            .iter()
            .map(|slot| slot.store.tail_bytes_missed())
            .sum()
    }

    /// What the memory tails of the stores may take together from now on.
    pub fn set_tail_bytes_max(&mut self, bytes: usize) {
        let each = bytes / self.slots.len().max(1);
        for slot in &mut self.slots {
            slot.store.set_tail_bytes_max(each);
        }
    }

    /// Whether changes of logs should wait for the next slice, if they can: see
    /// [`Store::holds_changes`](crate::store::Store::holds_changes).
    pub fn holds_changes(&self) -> bool {
        self.slots.iter().any(|slot| slot.store.holds_changes())
    }

    /// Starts what can be started: flushes first, then checkpoints and retention.
    pub fn idle(&mut self, fx: &mut Fx<'_>) {
        self.may_tell = WAITS_TOLD_PER_SLICE;
        self.end_late(fx);
        self.retain_some(fx.now);
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
            slot.prove_at_rest(fx.now.mono);
            slot.store.poll(&mut ops);
            if slot.store.checkpoint_due() || self.checkpoint_wanted {
                slot.store.begin_checkpoint(&mut ops);
            }
            gather(&self.partitions, slot);
            slot.store.next_slice();
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

    /// Goes on with a pass of retention, or begins one when it is time and none is under way.
    fn retain_some(&mut self, now: Now) {
        let is_due = now.mono >= self.next_retention
            || self.kept.is_over() && self.next_retention != Mono::NEVER;
        if is_due && self.retaining.is_empty() {
            self.kept.share_out();
            let interval = self.config.log_retention_check_interval_ms;
            self.next_retention = now.mono.plus_ms(interval.max(1) as u64);
            self.retaining = self.partitions.keys().copied().collect();
        }
        let mut left = LOGS_CHANGED_PER_SLICE;
        while left > 0
            && !self.holds_changes()
            && let Some(log) = self.retaining.pop()
        {
            let Some(partition) = self.partitions.get_mut(&log) else {
                continue;
            };
            let slot = &mut self.slots[partition.slot];
            let producers = partition.log.kept().producers;
            left = left.saturating_sub(1 + producers / PRODUCERS_PER_LOG_CHANGED);
            partition.log.limit_kept(self.kept.each());
            // Followers drop what their leaders have dropped.
            if partition.leader.is_some() && partition.log.retain(now, &mut slot.store) {
                partition.changed(slot.store.pending_seq(), slot, &mut self.kept);
                partition.has_moved(&mut self.roles);
            }
            partition.count(&mut self.kept);
        }
    }

    /// The shard is to come to rest.
    pub fn wind_down(&mut self) {
        self.retaining.clear();
        self.next_retention = Mono::NEVER;
        self.leave_replicas();
        for slot in &mut self.slots {
            slot.store.wind_down();
        }
    }

    /// Asks for a checkpoint of every store at the next idle moment (before a shutdown).
    pub fn want_checkpoint(&mut self) {
        self.checkpoint_wanted = true;
    }

    /// Whether nothing is on its way to a disk.
    pub fn is_at_rest(&self) -> bool {
        self.slots.iter().all(|slot| slot.store.is_quiet())
    }

    /// The same, and nobody waits.
    pub fn is_quiet(&self) -> bool {
        self.slots.iter().all(|slot| slot.store.is_quiet())
            && self.acks.is_empty()
            && !self.has_more()
    }

    /// The next time at which `idle` has something to do by itself.
    pub fn next_deadline(&self) -> Mono {
        let no_room = self.slots.iter().any(|slot| slot.store.waits_for_room());
        let tries = no_room.then_some(self.next_try);
        let proofs = self.slots.iter().filter_map(|slot| slot.prove_at);
        let others = tries.into_iter().chain(proofs);
        let late = self.late.deadline();
        others.fold(self.next_retention.min(late), Mono::min)
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
                StoreEvent::Durable(flush) => {
                    let durable = &mut self.slots[index].durable;
                    self.board.flushes.add(flush.0.saturating_sub(durable.0));
                    *durable = flush.max(*durable);
                    self.tell_durable(fx);
                }
                StoreEvent::Failed(error) => fx
                    .out
                    .push(crate::broker::fatal::disk_failed(store, &error)),
            }
        }
        self.events = events;
    }

    /// Moves the marks of the logs that durable flushes are about, tells who waited for them, and wakes fetches. How
    /// much became durable at once is the disk's business, so the rest has its turn when the shard is idle.
    fn tell_durable(&mut self, fx: &mut Fx<'_>) {
        for slot in &mut self.slots {
            while self.may_tell > 0
                && let Some((seq, log)) = slot.first_changed()
            {
                self.may_tell -= 1;
                let Some(partition) = self.partitions.get_mut(&log) else {
                    slot.told();
                    continue;
                };
                let (Some(leader), log) = (&mut partition.leader, &mut partition.log) else {
                    partition.log.on_durable(seq);
                    self.roles.durable(log, seq);
                    slot.told();
                    continue;
                };
                let readable = leader.on_durable((&mut *log, &mut slot.store), seq);
                self.watches.moved(log, readable);
                if !leader.is_alone() {
                    self.roles.moved.insert(log.id());
                }
                let stamps = slot.flush_stamps(seq).copied().unwrap_or_default();
                while let Some((waiter, outcome)) = leader.next_reached(log) {
                    self.acks.end(waiter, outcome, &stamps, fx);
                    self.may_tell = self.may_tell.saturating_sub(1);
                    if self.may_tell == 0 {
                        break;
                    }
                }
                if self.may_tell > 0 {
                    slot.told();
                }
            }
            slot.forget_told();
        }
        self.acks.tell(fx);
        self.wake_some(fx);
    }

    /// Tells some of those who waited in partitions that are gone, or are led by others now.
    fn tell_resigned(&mut self, fx: &mut Fx<'_>) {
        for _ in 0..WAITS_TOLD_PER_SLICE {
            let Some((leader, why)) = self.resigned.front_mut() else {
                break;
            };
            match leader.next_left() {
                Some(waiter) => {
                    let left = Err(*why);
                    self.acks.end(waiter, left, &FlushStamps::default(), fx);
                }
                None => drop(self.resigned.pop_front()),
            }
        }
    }

    /// Goes on with what an image or a flush has left to be told.
    pub fn slice(&mut self, fx: &mut Fx<'_>) {
        self.watches.go_on();
        self.tell_resigned(fx);
        self.tell_durable(fx);
    }

    /// Whether work was put off, or fetches are still to be woken.
    pub fn has_more(&self) -> bool {
        self.work.has_more()
            || self.watches.has_ready()
            || self.watches.has_more()
            || !self.resigned.is_empty()
            || !self.retaining.is_empty()
            || self.late.has_more()
            || (self.slots.iter()).any(|slot| {
                slot.first_changed().is_some()
                    || slot.store.lacks_logs()
                    || slot.store.has_more_to_do()
            })
    }

    /// The pieces of a read that was put off; `None` if they are no longer there.
    #[must_use]
    pub fn pieces_of(&self, log: LogId, ticket: &Ticket) -> Option<Vec<Piece>> {
        let partition = self.partitions.get(&log)?;
        let store = &self.slots[partition.slot].store;
        partition.log.pieces_of(store, ticket)
    }

    /// Takes what was read to find a place in a log.
    pub fn scanned(&mut self, log: LogId, ticket: Ticket, bytes: &[u8]) {
        if let Some(partition) = self.partitions.get_mut(&log) {
            // What cannot be understood is reported by the read that follows.
            let _ = partition.log.scanned(ticket, bytes);
        }
    }

    /// Wakes some of the fetches that have enough.
    fn wake_some(&mut self, fx: &mut Fx<'_>) {
        for _ in 0..WAKES_PER_SLICE {
            let Some(req) = self.watches.next_ready() else {
                break;
            };
            fx.send(req.shard, Msg::FetchReady { id: req.id });
        }
    }

    /// The topic of a log was removed.
    pub fn delete_log(&mut self, log: LogId) {
        self.resign(log, ErrorCode::UnknownTopicOrPartition);
        if let Some(mut partition) = self.partitions.remove(&log) {
            self.kept.count(&mut partition.counted, LogKept::default());
            self.board
                .stands(partition.standing, PartitionStanding::default());
            if self.roles.replicates {
                self.roles.reassigned.insert(log);
            }
            partition.log.delete(&mut self.slots[partition.slot].store);
        } else if let Some(slot) = self.damaged.remove(&log) {
            self.roles.damaged.remove(&log);
            let store = &mut self.slots[slot].store;
            // It has no state: nothing of it is known that holds.
            store.give_state(log, Bytes::new());
            store.delete_log(log);
        } else {
            for slot in &mut self.slots {
                if let Some(found) = slot.recovered.remove(&log) {
                    found.delete(&mut slot.store);
                }
            }
        }
    }

    /// Opens or creates the log of a partition that the image has here, or applies what has changed of it.
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
            return self.finds_damaged(topic.id, index, partition);
        }
        let log_config = log_config(&topic.name, config, &self.config);
        if let Some(open) = self.partitions.get_mut(&partition.log) {
            open.log.set_config(log_config);
        } else {
            let label = LogLabel {
                topic: topic.name.to_string(),
                topic_id: topic.id,
                partition: index,
            };
            self.open_log(now, slot, partition.log, label, log_config);
            self.count_topic(partition.log, topic);
        }
        self.assign(now.mono, partition, config.min_insync_replicas);
        self.show_standing(partition, config.min_insync_replicas);
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
            Log::create(id, label, config, now, &mut slot.store)
        };
        let mut open = OpenLog {
            log,
            leader: None,
            slot: index,
            changed: slot.durable,
            counted: LogKept::default(),
            has_lost: false,
            counts: Arc::default(),
            standing: PartitionStanding::default(),
        };
        open.count(&mut self.kept);
        self.partitions.insert(id, open);
    }

    /// The invariants of everything owned; panics where one is broken.
    pub fn invariants(&self) {
        let untold: IdSet<LogId> = self.slots.iter().flat_map(StoreSlot::untold).collect();
        for (id, partition) in &self.partitions {
            partition.log.invariants();
            let is_told = !untold.contains(id);
            if let Some(leader) = &partition.leader {
                leader.invariants(&partition.log, is_told);
            }
        }
        for slot in &self.slots {
            slot.store.invariants();
        }
    }

    /// Logs by id with their high watermark and durable end, for the simulator's oracle.
    pub fn watermarks(&self) -> BTreeMap<LogId, (Offset, Offset)> {
        let marks = |log: &Log| (log.high_watermark(), log.durable_end());
        self.partitions
            .iter()
            .map(|(id, partition)| (*id, marks(&partition.log)))
            .collect()
    }
}

/// Gives some logs to a checkpoint that is being made. Those that no image has claimed yet, right after a start, are
/// among them: without a state the checkpoint would forget all that the log was before it.
fn gather(partitions: &IdMap<LogId, OpenLog>, slot: &mut StoreSlot) {
    while !slot.store.holds_changes()
        && let Some(log) = slot.store.next_lacking()
    {
        let claimed = partitions.get(&log).map(|partition| &partition.log);
        let state = claimed.or_else(|| slot.recovered.get(&log)).map(Log::state);
        slot.store.give_state(log, state.unwrap_or_default());
    }
}
