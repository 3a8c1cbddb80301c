//! A leader with a real log against the plain statement of what is committed: whatever becomes durable where, whoever
//! is in sync, and whatever `min.insync.replicas` is.

use proptest::prelude::*;
use proptest::sample::Index;

use super::{Leader, Mark};
use crate::base::{LogId, Mono, NodeId, Now, Offset, StoreId};
use crate::log::{Log, LogConfig};
use crate::record::{self, BatchBuilder, Codec};
use crate::store::{DiskOp, FlushSeq, LogLabel, Store, StoreConfig, StoreEvent};

const ME: NodeId = NodeId(1);
const ALL: [NodeId; 4] = [ME, NodeId(2), NodeId(3), NodeId(4)];
const NOW: Now = Now {
    mono: Mono(1),
    wall_ms: 1_700_000_000_000,
};

#[derive(Clone, Debug)]
enum Step {
    /// Appends a batch and waits for it.
    Append { records: i32, all: bool },
    /// Sends a batch once more.
    Retry { which: Index, all: bool },
    /// Deletes records up to somewhere, and waits for that.
    Delete { to: Index },
    /// The leader's disk does some of what it is asked for.
    Disk { ops: usize },
    /// Another replica has more on its disk.
    Reach { other: Index, to: Index },
    /// Who has a copy, who of them is in sync, how many have to be.
    Assign {
        replicas: usize,
        in_sync: u8,
        min: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let index = || any::<Index>();
    prop_oneof![
        6 => (1..4, any::<bool>()).prop_map(|(records, all)| Step::Append { records, all }),
        2 => (index(), any::<bool>()).prop_map(|(which, all)| Step::Retry { which, all }),
        1 => index().prop_map(|to| Step::Delete { to }),
        6 => (1..4usize).prop_map(|ops| Step::Disk { ops }),
        6 => (index(), index()).prop_map(|(other, to)| Step::Reach { other, to }),
        2 => (1..=4usize, any::<u8>(), 1..4usize)
            .prop_map(|(replicas, in_sync, min)| Step::Assign { replicas, in_sync, min }),
    ]
}

/// A leader, its log and disk, and what should be of them.
struct Model {
    leader: Leader<usize>,
    log: Log,
    store: Store,
    ops: Vec<DiskOp>,
    /// Sequence and number of records.
    batches: Vec<(i32, i32)>,
    /// Bytes of all of them.
    bytes: u64,
    sequence: i32,
    /// Flushes of appends and where they end.
    flushes: Vec<(FlushSeq, i64)>,
    durable: FlushSeq,
    /// What the other replicas have, whether they count, and where they start.
    others: Vec<(NodeId, i64, bool, i64)>,
    min: usize,
    /// The watermark, and bytes that were said to be readable.
    mark: i64,
    readable: u64,
    /// Mark and offset of each waiter, and whether it was told.
    waiters: Vec<(Mark, i64, bool)>,
}

impl Model {
    fn new() -> Self {
        let config = StoreConfig {
            journal_bytes: 1 << 20,
            initial_bytes: 4 << 20,
            raw: true,
            ..StoreConfig::default()
        };
        let (mut store, ops) = Store::format(StoreId(0), config, 1);
        let label = LogLabel::default();
        let log = Log::create(LogId(1), label, LogConfig::default(), NOW, &mut store);
        Self {
            leader: Leader::alone(ME),
            log,
            store,
            ops,
            batches: Vec::new(),
            bytes: 0,
            sequence: 0,
            flushes: Vec::new(),
            durable: FlushSeq(0),
            others: Vec::new(),
            min: 1,
            mark: 0,
            readable: 0,
            waiters: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { records, all } => {
                let before = self.batches.len();
                if self.send(self.sequence, records, all) {
                    assert_eq!(self.batches.len(), before + 1);
                    self.sequence += records;
                }
            }
            Step::Retry { which, all } => {
                // Older ones are not known any more.
                let known = &self.batches[self.batches.len().saturating_sub(5)..];
                if !known.is_empty() {
                    let (sequence, records) = *which.get(known);
                    self.send(sequence, records, all);
                }
            }
            Step::Delete { to } => {
                let to = to.index(self.mark as usize + 1) as i64;
                let start = self.log.delete_records(NOW, Offset(to), &mut self.store);
                self.wait(Mark::Dropped, start.unwrap().0);
            }
            Step::Disk { ops } => (0..ops).for_each(|_| self.disk()),
            Step::Reach { other, to } => {
                let end = self.log.end_offset().0;
                if !self.others.is_empty() {
                    let other = other.index(self.others.len());
                    let (node, durable, _, start) = &mut self.others[other];
                    *durable += to.index((end - *durable) as usize + 1) as i64;
                    let to = Offset(*durable);
                    let here = (&mut self.log, &mut self.store);
                    self.readable += self.leader.on_replicated(here, *node, to);
                    if *durable % 2 == 0 {
                        let from = self.log.start_offset();
                        *start = from.0;
                        self.leader.on_dropped(&self.log, *node, from);
                    }
                }
            }
            Step::Assign {
                replicas,
                in_sync,
                min,
            } => self.assign(replicas, in_sync, min),
        }
        self.tell();
        self.compare();
    }

    /// Whether it was taken.
    fn send(&mut self, sequence: i32, records: i32, all: bool) -> bool {
        let mut batch = BatchBuilder::new(Codec::None, NOW.wall_ms).producer(7, 0, sequence);
        (0..records).for_each(|_| batch.push(NOW.wall_ms, None, Some(&[0; 600]), &[]));
        let batch = batch.build();
        let info = record::parse(&batch).unwrap();
        let mark = if all { Mark::Committed } else { Mark::Durable };
        let admitted = self.leader.admit(mark);
        assert_eq!(admitted.is_ok(), !all || self.are_enough());
        if admitted.is_err() {
            return false;
        }
        let bytes = batch.len() as u64;
        let appended = self.log.append(NOW, batch, &info, &mut self.store).unwrap();
        let end = appended.last_offset.0 + 1;
        if let Some(flush) = appended.flush {
            self.bytes += bytes;
            self.batches.push((sequence, records));
            match self.flushes.last_mut() {
                Some((last, at)) if *last == flush => *at = end,
                _ => self.flushes.push((flush, end)),
            }
        }
        self.wait(mark, end);
        true
    }

    fn wait(&mut self, mark: Mark, offset: i64) {
        let waiter = self.waiters.len();
        let back = self
            .leader
            .wait(&self.log, mark, (Offset(offset), Mono::NEVER), waiter);
        assert!(back.is_none_or(|back| back == waiter));
        self.waiters.push((mark, offset, back.is_some()));
    }

    fn assign(&mut self, replicas: usize, in_sync: u8, min: usize) {
        let replicas = &ALL[..replicas];
        let others = replicas[1..].iter().map(|node| (*node, 0, false, 0));
        let mut others: Vec<_> = others.collect();
        for (n, (node, durable, counts, start)) in others.iter_mut().enumerate() {
            if let Some(known) = self.others.iter().find(|known| known.0 == *node) {
                (*durable, *start) = (known.1, known.3);
            }
            // Nobody joins who lacks something that is committed, or has something that is deleted.
            let may = *durable >= self.mark && *start >= self.log.durable_start().0;
            *counts = in_sync & (1 << n) != 0 && may;
        }
        let counting = others.iter().filter(|(_, _, counts, _)| *counts);
        let in_sync: Vec<NodeId> = counting.map(|(node, ..)| *node).chain([ME]).collect();
        (self.others, self.min) = (others, min);
        let here = (&mut self.log, &mut self.store);
        let epoch = self.leader.partition_epoch() + 1;
        let sets = (replicas, &in_sync[..]);
        self.readable += self.leader.assign(here, epoch, sets, min);
    }

    /// One operation of the disk ends.
    fn disk(&mut self) {
        if self.ops.is_empty() {
            self.store.poll(&mut self.ops);
        }
        if self.ops.is_empty() {
            return;
        }
        let (id, mut events) = (self.ops.remove(0).id(), Vec::new());
        self.store.on_disk(id, Ok(()), &mut self.ops, &mut events);
        for event in events {
            if let StoreEvent::Durable(flush) = event {
                self.durable = flush;
                let here = (&mut self.log, &mut self.store);
                self.readable += self.leader.on_durable(here, flush);
            }
        }
    }

    fn are_enough(&self) -> bool {
        let counting = self.others.iter().filter(|(_, _, counts, _)| *counts);
        let in_sync = counting.count() + 1;
        in_sync >= self.min.min(self.others.len() + 1)
    }

    /// Takes who is told, each once.
    fn tell(&mut self) {
        let mut last = Vec::new();
        let waiters = &mut self.waiters;
        while let Some((waiter, _)) = self.leader.next_reached(&self.log) {
            let (mark, offset, told) = &mut waiters[waiter];
            assert!(!std::mem::replace(told, true), "{waiter} was told twice");
            let before = last.iter().rev().find(|(of, _)| of == mark);
            assert!(before.is_none_or(|(_, before)| *before <= *offset));
            last.push((*mark, *offset));
        }
    }

    fn compare(&mut self) {
        let durable = self
            .flushes
            .iter()
            .filter(|(flush, _)| *flush <= self.durable);
        let ends: Vec<i64> = durable.map(|(_, end)| *end).collect();
        let durable = ends.last().copied().unwrap_or(0);
        assert_eq!(self.log.durable_end().0, durable);
        let in_sync = || self.others.iter().filter(|(_, _, counts, _)| *counts);
        if self.are_enough() {
            let all_have = in_sync().fold(durable, |least, (_, has, ..)| least.min(*has));
            let places = ends.iter().copied().filter(|end| *end <= all_have);
            self.mark = places.fold(self.mark, i64::max);
        }
        assert_eq!(self.log.high_watermark().0, self.mark);
        for (waiter, (mark, offset, told)) in self.waiters.iter().enumerate() {
            let at = match mark {
                Mark::Durable => durable,
                Mark::Committed => self.mark,
                Mark::Dropped => in_sync()
                    .fold(self.log.durable_start().0, |least, (.., start)| {
                        least.min(*start)
                    }),
            };
            assert_eq!(
                *told,
                at >= *offset,
                "{waiter} waits for {mark:?} {offset}, at {at}"
            );
        }
        assert!(self.log.durable_start() <= self.log.start_offset());
        self.leader.invariants(&self.log, true);
        self.log.invariants();
    }

    /// With the disk done and all in sync, nobody waits; what they were told of is all there is.
    fn end(mut self) {
        for _ in 0..1000 {
            self.disk();
        }
        let end = self.log.end_offset();
        let from = self.log.start_offset();
        for (node, durable, _, start) in &mut self.others {
            (*durable, *start) = (end.0, from.0);
            let here = (&mut self.log, &mut self.store);
            self.readable += self.leader.on_replicated(here, *node, end);
            self.leader.on_dropped(&self.log, *node, from);
        }
        self.assign(self.others.len() + 1, u8::MAX, 4);
        self.tell();
        self.compare();
        assert!(self.waiters.iter().all(|(.., told)| *told));
        assert_eq!(self.mark, end.0);
        assert_eq!(self.readable, self.bytes);
    }
}

proptest! {
    #[test]
    fn who_waits_is_told_when_it_is_so_and_not_before(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut model = Model::new();
        steps.into_iter().for_each(|step| model.step(step));
        model.end();
    }

    #[test]
    fn whoever_still_waits_is_known_when_it_leads_no_more(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut model = Model::new();
        steps.into_iter().for_each(|step| model.step(step));
        let waiters = model.waiters.iter().enumerate();
        let waiting: Vec<usize> = waiters.filter(|(_, of)| !of.2).map(|(n, _)| n).collect();
        prop_assert_eq!(model.leader.is_idle(), waiting.is_empty());
        let mut left: Vec<usize> = std::iter::from_fn(|| model.leader.next_left()).collect();
        prop_assert!(model.leader.is_idle());
        left.sort_unstable();
        prop_assert_eq!(left, waiting);
    }
}
