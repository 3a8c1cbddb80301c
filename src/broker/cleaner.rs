//! Compacts the partitions of a shard whose topics want it (`cleanup.policy=compact`), one at a time: whichever is the
//! dirtiest of those that are dirty enough. What is decided about records is [`CompactionPass`]'s; here it gets its
//! batches from memory or from the disk, in slices between other work, and what stays is written and made durable
//! before it takes its place.
//!
//! Every replica compacts its own log. What was begun when the process ended is deleted at the next start.

use bytes::Bytes;

use super::fx::Fx;
use super::own::reader::LogReader;
use super::owner::Owner;
use super::owner::work::Worker;
use crate::base::limits::{COMPACTION_SLICE_WORK, LOGS_CHANGED_PER_SLICE};
use crate::base::{IdMap, LogId, Mono, Now, Offset};
use crate::broker::io::ReadId;
use crate::log::NewestOffsets;
use crate::log::compaction::{CompactionPass, KeptBatch, LookedAt, PassNeeds};
use crate::record::parse;
use crate::store::{DiskError, FlushSeq};

/// After something went wrong with a partition it is left alone for so long.
const AFTER_TROUBLE_MS: u64 = 300_000;
/// Keys of a pass that are let go at a time.
const KEYS_LET_GO: usize = 4096;
/// Longest time between two looks, however long `log.cleaner.backoff.ms` is.
const BACKOFF_MS_MAX: i64 = 3_600_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Cleaner {
    reader: LogReader,
    running: Option<Running>,
    /// When to look for something to do.
    next_look: Mono,
    /// Logs that this look has not come to yet, and the dirtiest one so far.
    looking: Vec<LogId>,
    dirtiest: Option<(bool, u64, LogId)>,
    /// Those that something went wrong with, and until when each is left alone.
    troubled: IdMap<LogId, Mono>,
    /// Keys of passes that are over.
    gone: NewestOffsets,
    /// Nothing is left of what another process began.
    is_swept: bool,
    /// There is more to do at once.
    has_more: bool,
    /// It lets a checkpoint have its turn first.
    gives_way: bool,
    winds_down: bool,
    /// Of the node.
    shards: u16,
}

impl Cleaner {
    /// One of a node with so many shards.
    pub fn new(shards: u16) -> Self {
        Self {
            reader: LogReader::new(Worker::Cleaner),
            running: None,
            next_look: Mono(0),
            looking: Vec::new(),
            dirtiest: None,
            troubled: IdMap::default(),
            gone: NewestOffsets::default(),
            is_swept: false,
            has_more: false,
            gives_way: false,
            winds_down: false,
            shards: shards.max(1),
        }
    }

    /// Does some of what there is to do.
    pub fn go_on(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        if !self.is_swept {
            self.is_swept = true;
            sweep(owner);
        }
        // A checkpoint that lacks logs has its turn first.
        self.gives_way = self.running.is_some() && owner.holds_changes();
        if self.gives_way {
            return;
        }
        self.has_more = !self.gone.let_go(KEYS_LET_GO);
        if self.has_more {
            return;
        }
        let Some(mut running) = self.running.take() else {
            return self.look(owner, fx.now);
        };
        match self.step(&mut running, owner, fx) {
            Step::GoOn => {
                self.has_more = true;
                self.running = Some(running);
            }
            Step::Waits => self.running = Some(running),
            Step::Over => {
                give_up(&mut running, owner);
                let (before, after) = running.pass.bytes;
                tracing::debug!(
                    "log {}: {before} bytes were compacted to {after}",
                    running.log
                );
                self.over(running, fx.now);
            }
            Step::Fails(why) => {
                tracing::warn!("log {} is not compacted now: {why}", running.log);
                give_up(&mut running, owner);
                let until = fx.now.mono.plus_ms(AFTER_TROUBLE_MS);
                self.troubled.insert(running.log, until);
                self.over(running, fx.now);
            }
        }
    }

    /// A pass is over: another one may begin at once.
    fn over(&mut self, mut running: Running, now: Now) {
        self.gone = running.pass.take_keys();
        (self.has_more, self.next_look) = (true, now.mono);
    }

    /// When there is something to do that nobody else says.
    pub fn deadline(&self, owner: &Owner) -> Mono {
        if self.gives_way && owner.holds_changes() {
            return Mono::NEVER;
        }
        match self.running.is_some() || self.winds_down {
            true if !self.has_more => Mono::NEVER,
            false if self.looking.is_empty() && !self.has_more => self.next_look,
            _ => Mono(0),
        }
    }

    /// The shard is to come to rest: what has begun is given up, what is done stays.
    pub fn wind_down(&mut self, owner: &mut Owner) {
        (self.winds_down, self.has_more) = (true, false);
        self.looking.clear();
        if let Some(mut running) = self.running.take() {
            give_up(&mut running, owner);
            // What is not let go when the shard ends goes with it.
            self.gone = running.pass.take_keys();
            self.has_more = true;
        }
    }

    /// Looks for the dirtiest log, at some of them.
    fn look(&mut self, owner: &mut Owner, now: Now) {
        if self.winds_down || !owner.config.log_cleaner_enable {
            self.next_look = Mono::NEVER;
            return;
        }
        if self.looking.is_empty() {
            if now.mono < self.next_look {
                return;
            }
            let backoff = owner.config.log_cleaner_backoff_ms.clamp(1, BACKOFF_MS_MAX);
            self.next_look = now.mono.plus_ms(backoff as u64);
            let compacted = owner.partitions.values();
            let compacted = compacted.filter(|it| it.log.is_compacted());
            self.troubled.retain(|_, until| now.mono < *until);
            let untroubled = compacted.map(|it| it.log.id());
            let untroubled = untroubled.filter(|log| !self.troubled.contains_key(log));
            self.looking = untroubled.collect();
        }
        for _ in 0..LOGS_CHANGED_PER_SLICE {
            let Some(log) = self.looking.pop() else {
                break;
            };
            let partition = owner.partitions.get(&log);
            if let Some(dirt) = partition.and_then(|it| it.log.dirt(now)) {
                self.dirtiest = self
                    .dirtiest
                    .max(Some((dirt.is_full, dirt.millionths(), log)));
            }
        }
        if !self.looking.is_empty() {
            return;
        }
        let Some((.., log)) = self.dirtiest.take() else {
            return;
        };
        let keys_bytes_max = owner.config.log_cleaner_dedupe_buffer_size / i64::from(self.shards);
        let partition = owner.partitions.get(&log);
        let pass =
            partition.and_then(|it| CompactionPass::begin(&it.log, now, keys_bytes_max as usize));
        if let Some(pass) = pass {
            self.running = Some(Running {
                log,
                pass: Box::new(pass),
                run: Bytes::new(),
                run_from: Offset(0),
                reads: false,
                begun_in: None,
                is_fresh: false,
                written: FlushSeq(0),
            });
            self.has_more = true;
        }
    }

    /// A read has ended.
    pub fn read(
        &mut self,
        owner: &mut Owner,
        id: ReadId,
        result: Result<Bytes, DiskError>,
        fx: &mut Fx<'_>,
    ) {
        self.reader.ended(owner, id, result, fx);
    }

    fn step(&mut self, it: &mut Running, owner: &mut Owner, fx: &mut Fx<'_>) -> Step {
        let mut work = COMPACTION_SLICE_WORK;
        while work > 0 {
            if it.reads {
                match self.reader.next() {
                    Some((log, Ok(run))) if log == it.log => {
                        (it.run, it.reads, it.is_fresh) = (run, false, true);
                    }
                    Some((log, Err(error))) if log == it.log => {
                        return Step::Fails(format!("it cannot be read (errno {})", error.errno));
                    }
                    // Of one that was given up.
                    Some(_) => continue,
                    None => return Step::Waits,
                }
            }
            let Some(partition) = owner.partitions.get_mut(&it.log) else {
                return Step::Over;
            };
            if it.is_fresh && it.run.is_empty() {
                it.is_fresh = false;
                let has_moved = partition.log.start_offset() > it.run_from;
                match it.pass.is_readable(&partition.log) {
                    // What was asked for was dropped meanwhile: what is behind that is read next.
                    true if has_moved => {}
                    true => it.pass.nothing_more(),
                    false => return Step::Fails("it was cut meanwhile".to_owned()),
                }
            }
            let slot = &mut owner.slots[partition.slot];
            let needs = it.pass.needs(fx.now.mono, &partition.log);
            match needs {
                // The setting may have been changed meanwhile.
                PassNeeds::Nothing if it.pass.is_done() || !partition.log.is_compacted() => {
                    return Step::Over;
                }
                PassNeeds::Nothing => return Step::Fails("it was cut meanwhile".to_owned()),
                PassNeeds::Begin(base) => {
                    let label = partition.log.label().clone();
                    it.written = slot.store.begin_cleaning(it.log, label, base);
                    it.begun_in = Some(partition.slot);
                }
                PassNeeds::Skip => {
                    it.pass.skip(&mut partition.log);
                    give_up(it, owner);
                }
                PassNeeds::Write(kept) => {
                    if let Err(why) = it.write(kept, owner) {
                        return Step::Fails(why);
                    }
                }
                PassNeeds::End if slot.durable < it.written => return Step::Waits,
                PassNeeds::End => {
                    if !owner.end_group(it.log, &mut it.pass) {
                        return Step::Fails("it has changed meanwhile".to_owned());
                    }
                    it.begun_in = None;
                }
                PassNeeds::Batches(offset) => {
                    let from = offset.max(partition.log.start_offset());
                    let Some(batch) = it.next_batch(from) else {
                        if it.is_fresh && !it.run.is_empty() {
                            return Step::Fails("it holds what is no batch".to_owned());
                        }
                        // What was read before is on its way to the disk first, so that it does not heap up.
                        if slot.durable < it.written {
                            return Step::Waits;
                        }
                        (it.reads, it.run_from) = (true, from);
                        self.reader.load(owner, it.log, from, fx);
                        continue;
                    };
                    it.is_fresh = false;
                    let kept = match it.pass.look(&partition.log, &batch, &mut work) {
                        Ok(LookedAt::All(kept)) => kept,
                        Ok(LookedAt::Part | LookedAt::Beyond) => continue,
                        Err(why) => return Step::Fails(why.to_string()),
                    };
                    if let Some(kept) = kept
                        && let Err(why) = it.write(kept, owner)
                    {
                        return Step::Fails(why);
                    }
                }
            }
        }
        Step::GoOn
    }
}

/// A log that is being compacted.
#[derive(Debug)]
struct Running {
    log: LogId,
    pass: Box<CompactionPass>,
    /// Batches that were read and not looked at yet: all from an offset on.
    run: Bytes,
    run_from: Offset,
    /// A read is on its way.
    reads: bool,
    /// Nothing was found in the run yet.
    is_fresh: bool,
    /// What is left of a group is being written, to the store of this slot.
    begun_in: Option<usize>,
    /// The last flush that has something of that.
    written: FlushSeq,
}

/// What becomes of a pass.
enum Step {
    /// There is more to do, when others have had their turn.
    GoOn,
    /// It waits for a read or for a flush.
    Waits,
    /// It is over.
    Over,
    /// Nothing can be done for the partition now: why.
    Fails(String),
}

impl Running {
    /// The first batch of the run that ends at or behind an offset; none if there is no whole one.
    fn next_batch(&mut self, offset: Offset) -> Option<Bytes> {
        if offset < self.run_from {
            (self.run, self.is_fresh) = (Bytes::new(), false);
        }
        loop {
            // One that is cut, or damaged: the next read begins with it, and tells.
            let info = parse(&self.run).ok()?;
            let batch = self.run.slice(..info.len);
            if info.last_offset() >= offset.0 {
                return Some(batch);
            }
            self.run = self.run.slice(info.len..);
            self.run_from = Offset(info.last_offset() + 1);
        }
    }

    /// Writes a batch that stays.
    fn write(&mut self, kept: KeptBatch, owner: &mut Owner) -> Result<(), String> {
        let Some(partition) = owner.partitions.get_mut(&self.log) else {
            return Ok(());
        };
        let store = &mut owner.slots[partition.slot].store;
        let KeptBatch {
            batch,
            base_offset,
            epoch,
        } = kept;
        match store.append_cleaned(self.log, batch, base_offset, epoch) {
            Ok(flush) => self.written = flush,
            Err(_) => return Err("the store is full".to_owned()),
        }
        Ok(())
    }
}

/// Gives up what was written of a group.
fn give_up(running: &mut Running, owner: &mut Owner) {
    let begun_in = running.begun_in.take();
    if let Some(slot) = begun_in.and_then(|slot| owner.slots.get_mut(slot)) {
        slot.store.give_up_cleaning(running.log);
    }
}

/// Deletes what another process has begun.
fn sweep(owner: &mut Owner) {
    for slot in &mut owner.slots {
        let left: Vec<LogId> = slot.store.cleanings().collect();
        for log in left {
            slot.store.give_up_cleaning(log);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{LeaderEpoch, ShardId, StoreId};
    use crate::broker::io::Output;
    use crate::broker::msg::{Appender, ProducePart, ReqRef};
    use crate::broker::owner::stores::format_store;
    use crate::broker::testing::with_fx;
    use crate::config::BrokerConfig;
    use crate::log::{CompactionConfig, LogConfig};
    use crate::record::{BatchBuilder, Codec};
    use crate::replica::Mark;
    use crate::store::{LogLabel, StoreConfig};

    const LOG: LogId = LogId(1);
    const NOW: Now = Now {
        mono: Mono(1),
        wall_ms: 1_700_000_000_000,
    };

    fn owner() -> Owner {
        let config = BrokerConfig::default();
        let store = StoreConfig {
            raw: true,
            ..config.store()
        };
        let slots = vec![format_store(StoreId(0), store, 1).0];
        let mut owner = Owner::new(ShardId(0), Arc::new(config), slots);
        let config = LogConfig {
            compaction: Some(CompactionConfig {
                min_dirty_millionths: 0,
                min_lag_ms: 0,
                max_lag_ms: i64::MAX,
                delete_retention_ms: 0,
            }),
            ..LogConfig::default()
        };
        owner.open_own(NOW, 0, LOG, LogLabel::default(), config);
        owner
    }

    /// One record of the same key, of a producer.
    fn put(owner: &mut Owner, producer: i64, sequence: i32) {
        let mut builder =
            BatchBuilder::new(Codec::None, NOW.wall_ms).producer(producer, 0, sequence);
        builder.push(NOW.wall_ms, Some(b"k"), Some(b"v"), &[]);
        let batch = builder.build();
        let part = ProducePart {
            slot: 0,
            log: LOG,
            info: parse(&batch).unwrap(),
            batch,
            admission: None,
            ends: false,
        };
        let own = ReqRef {
            shard: ShardId(0),
            id: 1,
        };
        let mut ack = owner
            .acks
            .begin(Appender::Coordinator(own, LeaderEpoch(0)), 1, NOW.mono);
        owner.append(NOW, part, Mark::Committed, &mut ack);
        assert!(ack.results.is_empty(), "{:?}", ack.results);
    }

    /// The cleaner has its turn, and what the store wants done is.
    fn turn(cleaner: &mut Cleaner, owner: &mut Owner) {
        with_fx(NOW, |fx| {
            cleaner.go_on(owner, fx);
            owner.idle(fx);
            while let Some(output) = fx.out.pop() {
                if let Output::Disk { store, op } = output {
                    owner.on_disk(store, op.id(), Ok(()), fx);
                }
            }
        });
    }

    #[test]
    fn producers_are_counted_when_segments_become_one() {
        let (mut owner, mut cleaner) = (owner(), Cleaner::new(1));
        cleaner.winds_down = true;
        for sequence in 0..4 {
            for producer in 0..10 {
                put(&mut owner, producer, sequence);
            }
            let partition = owner.partitions.get_mut(&LOG).unwrap();
            let store = &mut owner.slots[partition.slot].store;
            partition.log.roll(NOW, store);
            turn(&mut cleaner, &mut owner);
        }
        let before = owner.producers_counted();
        assert_eq!(before, (40, 40));
        cleaner = Cleaner::new(1);
        let size = |owner: &Owner| owner.partitions[&LOG].log.segment_count();
        assert_eq!(size(&owner), 5);
        for _ in 0..100 {
            turn(&mut cleaner, &mut owner);
        }
        assert_eq!(size(&owner), 2);
        let (counted, all) = owner.producers_counted();
        assert!(counted == all && all < before.1, "{counted} of {all}");
        owner.slots[0].store.invariants();
    }
}
