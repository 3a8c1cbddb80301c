//! A node of the tests of followers: a real log, the disk that it is on, and what should be in it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use super::{NOW, Role};
use crate::base::{Incarnation, NodeId, NodeProcess, Offset};
use crate::log::testing::{Disk, LOG};
use crate::log::{Log, LogConfig};
use crate::record;
use crate::store::{FlushSeq, LogLabel};

pub(super) struct Node {
    pub(super) me: NodeProcess,
    pub(super) disk: Disk,
    pub(super) log: Log,
    pub(super) role: Role,
    /// What the log should hold.
    pub(super) batches: VecDeque<Batch>,
    /// The watermark as it was last.
    pub(super) watermark: Offset,
    /// One that is on the disk for sure.
    pub(super) written: Offset,
    /// The flushes of which it wants to know that they are durable.
    pub(super) waits: BTreeSet<FlushSeq>,
    /// Something of its log is lost, and it is not in sync again yet.
    pub(super) is_rotten: bool,
    /// It follows as one that may be in sync.
    pub(super) counts: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) base: Offset,
    pub(super) end: Offset,
    pub(super) epoch: i32,
    pub(super) bytes: Bytes,
}

impl Batch {
    pub(super) fn new(bytes: Bytes) -> Self {
        let info = record::parse(&bytes).unwrap();
        Self {
            base: Offset(info.base_offset),
            end: Offset(info.last_offset() + 1),
            epoch: info.leader_epoch,
            bytes,
        }
    }
}

pub(super) fn batches_of(bytes: &Bytes) -> impl Iterator<Item = Batch> + '_ {
    record::batches(bytes).map(|batch| Batch::new(bytes.slice_ref(batch.unwrap().1)))
}

pub(super) fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 20_000,
        ..LogConfig::default()
    }
}

pub(super) fn create(disk: &mut Disk) -> Log {
    Log::create(LOG, LogLabel::default(), config(), NOW, &mut disk.store)
}

impl Node {
    pub(super) fn new(node: usize) -> Self {
        // What is read of a log that is cut comes from the file, or from memory.
        Self::on(Disk::raw(node * 10_000), node)
    }

    pub(super) fn on(mut disk: Disk, node: usize) -> Self {
        let log = create(&mut disk);
        Self {
            me: NodeProcess {
                node: NodeId(node as i32),
                incarnation: Incarnation(1),
            },
            disk,
            log,
            role: Role::None,
            batches: VecDeque::new(),
            watermark: Offset(0),
            written: Offset(0),
            waits: BTreeSet::new(),
            is_rotten: false,
            counts: true,
        }
    }

    /// What the log has cut off, or dropped, is not expected any more.
    pub(super) fn forget(&mut self) {
        let (start, end) = (self.log.start_offset(), self.log.end_offset());
        self.batches.retain(|it| it.end <= end && it.end > start);
    }

    /// Whether it has all of these that are between two offsets and not before its log's start, but for those that were
    /// removed.
    pub(super) fn has(
        &self,
        committed: &BTreeMap<Offset, Batch>,
        removed: &BTreeSet<Offset>,
        counts: Range<Offset>,
    ) -> Result<(), String> {
        let (start, before) = (self.log.start_offset(), counts.end);
        let is_between = |it: &Batch| it.base >= counts.start && it.end > start && it.end <= before;
        let counts = |it: &&Batch| is_between(it) && !removed.contains(&it.base);
        let mut own = self.batches.iter().filter(counts);
        for batch in committed.values().filter(counts) {
            let is = own.next();
            if is != Some(batch) {
                let of = |it: &Batch| (it.base, it.end, it.epoch);
                let (is, me) = (is.map(of), self.me);
                return Err(format!("{me:?} has {is:?} and not {:?}", of(batch)));
            }
        }
        match own.next() {
            Some(batch) => Err(format!(
                "{:?} takes what it has at {} for committed, up to {before}",
                self.me, batch.base
            )),
            None => Ok(()),
        }
    }
}

/// What is in a log, by what is on the disk.
pub(super) fn found(disk: &Disk, log: &Log) -> VecDeque<Batch> {
    let all = disk.batches().into_iter().map(Batch::new);
    all.filter(|it| it.end > log.start_offset()).collect()
}
