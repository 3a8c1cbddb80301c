//! A follower and its leader, for single cases.

use bytes::Bytes;

use super::super::{FollowerNext, FollowerStopped, Following, LeaderLog, OnDisk, Push, Term};
use super::node::{Node, batches_of, found};
use super::{Batch, NOW};
use crate::base::{Incarnation, LeaderEpoch, NodeId, NodeProcess, Offset};
use crate::log::Truncation;
use crate::log::testing::{Draft, START_MS};
use crate::record;
use crate::store::FlushSeq;

/// A batch of `records`, as a leader of `epoch` has it.
pub(super) fn batch(base: i64, records: usize, epoch: i32) -> Bytes {
    large(base, records, epoch, 20)
}

/// The same, with so many bytes in each record.
pub(super) fn large(base: i64, records: usize, epoch: i32, bytes: usize) -> Bytes {
    let draft = Draft::plain(&vec![START_MS; records], bytes);
    let mut batch = draft.build().0.to_vec();
    record::stamp(&mut batch, Offset(base), LeaderEpoch(epoch));
    batch.into()
}

pub(super) fn joined(batches: &[Bytes]) -> Bytes {
    batches.concat().into()
}

pub(super) fn term(epoch: i32) -> Term {
    let member = |node| NodeProcess {
        node: NodeId(node),
        incarnation: Incarnation(1),
    };
    Term {
        epoch: LeaderEpoch(epoch),
        leader: member(1),
        follower: member(0),
    }
}

/// A follower, and what its leader has.
pub(super) struct Scene {
    pub(super) node: Node,
    pub(super) it: Following,
    pub(super) leader: Node,
    /// What the leader says is committed, if that is not all that it has.
    pub(super) committed: Option<Offset>,
    /// The newest flush that it waits for.
    pub(super) waits: Option<FlushSeq>,
    /// What it has told, and how often it has asked.
    pub(super) told: Vec<OnDisk>,
    pub(super) asked: usize,
    /// What is read of its disk is something else.
    pub(super) is_rotten: bool,
}

impl Scene {
    /// A leader with these batches that starts somewhere, and a follower with those.
    pub(super) fn new(leader: &[Bytes], start: i64, follower: &[Bytes], epoch: i32) -> Self {
        let mut it = Self::begin(
            Self::node(leader, epoch),
            Self::node(follower, epoch),
            epoch,
        );
        it.delete(start);
        it
    }

    pub(super) fn node(batches: &[Bytes], epoch: i32) -> Node {
        let mut node = Node::new(0);
        let (batches, store) = (joined(batches), &mut node.disk.store);
        let appended = (node.log).append_replica(NOW, &batches, LeaderEpoch(epoch), store);
        appended.unwrap();
        let flush = node.disk.settle();
        node.log.on_durable(flush.unwrap());
        node
    }

    pub(super) fn begin(leader: Node, mut node: Node, epoch: i32) -> Self {
        let here = (&mut node.log, &mut node.disk.store);
        let (it, step) = Following::begin(NOW, term(epoch), here).unwrap();
        assert!(matches!(step.next, FollowerNext::Asks(_)));
        Self {
            node,
            it,
            leader,
            committed: None,
            waits: step.flush,
            told: Vec::new(),
            asked: 0,
            is_rotten: false,
        }
    }

    pub(super) fn delete(&mut self, start: i64) {
        let Node { disk, log, .. } = &mut self.leader;
        log.raise_high_watermark(log.end_offset());
        (log.delete_records(NOW, Offset(start), &mut disk.store)).unwrap();
    }

    pub(super) fn begins_epoch(&mut self, epoch: i32) {
        let Node { disk, log, .. } = &mut self.leader;
        log.begin_epoch(LeaderEpoch(epoch), &mut disk.store);
    }

    pub(super) fn push(&self, from: i64, batches: &[Bytes]) -> Push {
        Push {
            from: Offset(from),
            batches: joined(batches),
            to: (batches.last()).map_or(Offset(from), |last| {
                ends(last).last().map_or(Offset(from), |it| it.end)
            }),
            committed: (self.committed).unwrap_or(self.leader.log.high_watermark()),
            start: self.leader.log.start_offset(),
        }
    }

    /// It asks, is answered, and pushed what its leader has, until it has nothing to say any more; what it was pushed.
    pub(super) fn catch_up(&mut self) -> Result<usize, FollowerStopped> {
        let mut step = self.it.ask(&self.node.log);
        for pushes in 0..20 {
            let mut from = None;
            loop {
                self.waits = self.waits.max(step.flush);
                step = match step.next {
                    FollowerNext::Waits => break,
                    FollowerNext::Tells(on_disk) => {
                        self.told.push(on_disk);
                        break;
                    }
                    FollowerNext::Asks(asked) => {
                        self.asked += 1;
                        let answer = LeaderLog::answering(&self.leader.log, asked);
                        from = answer.goes_on(asked).or(from);
                        let here = (&mut self.node.log, &mut self.node.disk.store);
                        self.it.answered(NOW, asked, answer, here)?
                    }
                    FollowerNext::Cuts(truncation) => {
                        if let Truncation::Scan { pieces, ticket } = truncation {
                            let mut bytes = self.node.disk.join(&pieces);
                            bytes[16] ^= u8::from(self.is_rotten);
                            let scanned = self.node.log.scanned(ticket, &bytes);
                            assert_eq!(scanned.is_err(), self.is_rotten);
                        }
                        let here = (&mut self.node.log, &mut self.node.disk.store);
                        self.it.go_on(NOW, here)?
                    }
                };
            }
            let Some(from) = from else {
                return Ok(pushes);
            };
            let all = found(&self.leader.disk, &self.leader.log);
            let all: Vec<Bytes> = (all.into_iter())
                .filter(|it| it.end > from)
                .map(|it| it.bytes)
                .collect();
            let mut push = self.push(from.0, &all);
            push.to = push.to.max(self.leader.log.end_offset());
            let here = (&mut self.node.log, &mut self.node.disk.store);
            step = self.it.pushed(NOW, &push, here)?;
        }
        panic!("it goes on for ever");
    }

    /// What it has given to its disk is durable: it is told if it has asked for that.
    pub(super) fn settle(&mut self) {
        for _ in 0..3 {
            let Some(flush) = self.node.disk.settle() else {
                return;
            };
            if self.waits.take_if(|waits| *waits <= flush).is_some() {
                let here = (&mut self.node.log, &mut self.node.disk.store);
                let step = self.it.on_durable(NOW, flush, here);
                self.waits = step.flush;
                if let FollowerNext::Tells(on_disk) = step.next {
                    self.told.push(on_disk);
                }
            }
        }
    }

    /// The last that it has told: start and end.
    pub(super) fn last_told(&self) -> Option<(i64, i64)> {
        self.told.last().map(|told| (told.start.0, told.end.0))
    }

    pub(super) fn bounds(&self) -> (i64, i64) {
        let log = &self.node.log;
        (log.start_offset().0, log.end_offset().0)
    }

    /// It follows as one that nobody counts on.
    pub(super) fn out_of_sync(&mut self) {
        let term = self.it.term();
        let here = (&mut self.node.log, &mut self.node.disk.store);
        let (it, step) = Following::out_of_sync(NOW, term, here).unwrap();
        (self.it, self.waits) = (it, step.flush);
    }

    pub(super) fn restart(&mut self) {
        restart(&mut self.node);
    }
}

pub(super) fn restart(node: &mut Node) {
    let config = *node.log.config();
    node.log = node.disk.restart(NOW).finish(config).unwrap();
    node.log.invariants();
}

pub(super) fn ends(bytes: &Bytes) -> Vec<Batch> {
    batches_of(bytes).collect()
}

/// A node with these batches that has known more to be committed, as a start finds it.
pub(super) fn lost(batches: &[Bytes], known: Offset) -> Node {
    let mut node = Scene::node(batches, 1);
    node.log.knows(known);
    node.disk.checkpoint(&node.log);
    restart(&mut node);
    assert_eq!(node.log.lost_before(), Some(known));
    node
}
