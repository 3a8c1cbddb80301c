//! What happens to the nodes of the tests of followers: elections, crashes, disks that lose something, deleted records.

use super::node::{Batch, Node, config, create, found};
use super::{Cluster, Flaw, Following, Leader, Leading, NODES, NOTHING, NOW, Role};
use crate::base::{LeaderEpoch, NodeId, Offset};
use crate::log::Truncation;

impl Cluster {
    /// One of those in sync leads, in a new epoch. Who has lost something does not, and is not in sync then.
    pub(super) fn elect(&mut self) {
        let at = self.candidate();
        self.elect_first(at);
    }

    fn candidate(&mut self) -> usize {
        let in_sync: Vec<usize> = (0..NODES).filter(|node| self.in_sync[*node]).collect();
        in_sync[self.below(in_sync.len())]
    }

    fn elect_first(&mut self, mut at: usize) {
        loop {
            if self.flaw == Flaw::LeadsInSilence {
                let Node { disk, log, .. } = &mut self.nodes[at];
                log.give_up_lost(&mut disk.store);
            }
            if self.leads(at) {
                break;
            }
            self.counts.refused += 1;
            self.in_sync[at] = false;
            if self.in_sync == [false; NODES] {
                // It was elected so, and has crashed before it had given up anything on its disk.
                return self.elect_uncleanly();
            }
            at = self.candidate();
        }
        self.takes_over();
    }

    /// One leads, whatever it has: that is what counts from now on.
    pub(super) fn elect_uncleanly(&mut self) {
        let at = self.below(NODES);
        self.settle(at);
        self.counts.unclean += 1;
        (self.in_sync, self.decided) = ([false; NODES], [true; NODES]);
        (self.in_sync[at], self.decided[at]) = (true, false);
        let Node { disk, log, .. } = &mut self.nodes[at];
        let lost = log.lost_before();
        assert_eq!(log.give_up_lost(&mut disk.store), lost);
        assert!(self.leads(at));
        self.counts_from_now_on();
        self.takes_over();
    }

    /// What is committed is what the leader has of it, and what that takes for it.
    fn counts_from_now_on(&mut self) {
        let leader = &self.nodes[self.leader];
        let start = leader.log.start_offset();
        let is_gone = |it: &&Batch| it.end <= start || self.removed.contains(&it.base);
        let is_there = |it: &&Batch| is_gone(it) || leader.batches.contains(it);
        let gone = self.committed.values().find(|it| !is_there(it));
        let end = gone.map_or(self.end, |it| it.base);
        let end = end.min(leader.log.end_offset());
        self.committed.retain(|base, _| *base < end);
        self.removed.retain(|base| *base < end);
        self.end = end;
        if start >= end {
            self.known_from = start;
        }
        let known = leader.log.known_committed();
        for batch in leader.batches.iter().filter(|it| it.end <= known) {
            if batch.base >= self.end {
                self.committed.insert(batch.base, batch.clone());
            }
        }
        self.end = self.end.max(known);
    }

    /// Whether it leads, in a new epoch.
    fn leads(&mut self, at: usize) -> bool {
        let epoch = LeaderEpoch(self.epoch.0 + 1);
        let Node {
            me,
            disk,
            log,
            role,
            ..
        } = &mut self.nodes[at];
        let began = log.end_offset();
        let begins = log.begin_epoch(epoch, &mut disk.store).is_some();
        assert_eq!(begins, log.lost_before().is_none());
        if begins {
            *role = Role::Leader(Box::new(Leading {
                it: Leader::alone(me.node),
                began,
                next: [None; NODES],
                told: [NOTHING; NODES],
            }));
            (self.leader, self.epoch) = (at, epoch);
        }
        begins
    }

    fn takes_over(&mut self) {
        self.assign(None);
        let leader = self.leader;
        for node in (0..NODES).filter(|node| *node != leader) {
            self.follow(node);
        }
    }

    /// Tells the leader who is in sync; one may be no replica.
    pub(super) fn assign(&mut self, without: Option<usize>) {
        let id = |node: usize| NodeId(node as i32);
        let replicas: Vec<NodeId> = (0..NODES)
            .filter(|it| Some(*it) != without)
            .map(id)
            .collect();
        let in_sync: Vec<NodeId> = (0..NODES).filter(|it| self.in_sync[*it]).map(id).collect();
        self.assigned += 1;
        let epoch = self.assigned;
        self.lead(|leading, here| leading.it.assign(here, epoch, (&replicas, &in_sync), 1));
        self.commits();
    }

    pub(super) fn follow(&mut self, at: usize) {
        let (term, flaw) = (self.term(at), self.flaw);
        if flaw == Flaw::ByWatermark {
            self.nodes[at].role = Role::None;
            self.settle(at);
            let to = self.nodes[at].log.high_watermark();
            self.truncate(at, to);
        }
        let has_left = self.nodes[at].is_rotten && !self.in_sync[at];
        if self.decided[at] || has_left && self.rng.chance(1, 2) {
            return self.follow_out_of_sync(at);
        }
        let node = &mut self.nodes[at];
        let here = (&mut node.log, &mut node.disk.store);
        node.counts = true;
        match Following::begin(NOW, term, here) {
            Ok((it, step)) => {
                node.role = Role::Follower(it);
                self.after(at, step);
            }
            Err(stopped) => self.stops(at, stopped),
        }
    }

    /// A replica has lost what it had known to be committed, and starts anew with the rest.
    pub(super) fn rots(&mut self, at: usize) {
        if at == self.leader {
            return;
        }
        self.settle(at);
        let node = &self.nodes[at];
        let (start, known) = (node.log.start_offset(), node.log.known_committed());
        if start == known || !node.counts {
            return;
        }
        let to = start.plus(self.below((known.0 - start.0) as usize) as i64);
        self.nodes[at].role = Role::None;
        self.truncate(at, to);
        self.settle(at);
        let node = &mut self.nodes[at];
        node.log.knows(known);
        node.disk.checkpoint(&node.log);
        node.is_rotten = true;
        self.starts_anew(at);
        match self.in_sync[at] && self.rng.chance(1, 2) {
            true => self.elect_first(at),
            false => self.follow(at),
        }
    }

    /// The process of a replica is another one.
    pub(super) fn starts_anew(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.watermark = node.log.high_watermark();
        node.written = node.written.min(node.watermark);
        node.me.incarnation.0 += 1;
        node.role = Role::None;
        node.waits.clear();
        self.links.retain(|(from, to), _| *from != at && *to != at);
        if at != self.leader {
            let leading = self.leading();
            (leading.next[at], leading.told[at]) = (None, NOTHING);
        }
    }

    pub(super) fn truncate(&mut self, at: usize, to: Offset) {
        let node = &mut self.nodes[at];
        loop {
            let cut = node.log.truncate(NOW, to, &mut node.disk.store).unwrap();
            match cut {
                Truncation::Done { .. } => break,
                Truncation::Scan { pieces, ticket } => {
                    let bytes = node.disk.join(&pieces);
                    node.log.scanned(ticket, &bytes).unwrap();
                }
                Truncation::More | Truncation::Unflushed(_) => {}
            }
        }
        node.forget();
    }

    pub(super) fn crash(&mut self, at: usize) {
        let flaw = self.flaw;
        let node = &mut self.nodes[at];
        let end = node.log.end_offset();
        let (durable, most) = match node.log.is_cut_durable() {
            true => (node.log.durable_end(), node.watermark),
            // It may have started over, or have cut off what does not count any more.
            false if self.decided[at] => (Offset(0), Offset(i64::MAX)),
            false => (Offset(0), end.max(self.end)),
        };
        node.disk.crash(&mut self.rng);
        node.log = node.disk.restart(NOW).finish(config()).unwrap();
        if node.disk.store.logs().next().is_none() {
            node.log = create(&mut node.disk);
        }
        let log = &mut node.log;
        log.invariants();
        assert!(
            log.durable_end() >= durable,
            "{:?}: {durable} of {end} was durable, and {} is there",
            node.me,
            log.durable_end()
        );
        assert!(
            (node.written..=most).contains(&log.high_watermark()),
            "the watermark was {}, {} of it written, and is {}",
            node.watermark,
            node.written,
            log.high_watermark()
        );
        self.counts.lost_flushes += u64::from(log.durable_end() < end);
        if flaw == Flaw::EndIsCommitted {
            log.raise_high_watermark(log.durable_end());
        }
        let known = std::mem::take(&mut node.batches);
        node.batches = found(&node.disk, &node.log);
        let is_there = |it: &Batch| node.batches.contains(it) || it.end <= node.log.start_offset();
        assert!(known.iter().filter(|it| it.end <= durable).all(is_there));
        self.starts_anew(at);
        match at == self.leader {
            true => self.elect(),
            false => self.follow(at),
        }
    }

    pub(super) fn delete(&mut self) {
        let leader = &self.nodes[self.leader];
        let (start, mark) = (leader.log.start_offset(), leader.log.high_watermark());
        let to = start.plus(self.below((mark.0 - start.0) as usize + 1) as i64);
        let deleted = self.lead(|_, (log, store)| log.delete_records(NOW, to, store));
        deleted.unwrap();
        self.nodes[self.leader].forget();
    }

    /// A batch that is committed is removed by compaction.
    pub(super) fn compacts(&mut self) {
        let all: Vec<Offset> = self.committed.keys().rev().take(6).copied().collect();
        if !all.is_empty() {
            let batch = all[self.below(all.len())];
            self.removed.insert(batch);
        }
    }

    /// One that is not in sync compares its log anew, or has said that it lost something.
    pub(super) fn forget(&mut self, node: usize) {
        let id = self.nodes[node].me.node;
        self.lead(|leading, _| leading.it.on_asked(id));
        if !self.in_sync[node] {
            self.leading().told[node] = NOTHING;
        }
    }

    /// A replica that is in sync is not any more.
    pub(super) fn leaves(&mut self, node: usize) {
        if node != self.leader {
            self.in_sync[node] = false;
            self.assign(None);
        }
    }

    /// One that has caught up is in sync again, sooner or later.
    pub(super) fn joins(&mut self, node: usize) {
        let least = self.nodes[self.leader].log.high_watermark();
        let leading = self.leading();
        let has_caught_up = leading.told[node].end >= least.max(leading.began);
        if has_caught_up && !self.in_sync[node] && self.rng.chance(1, 2) {
            self.counts.joined += 1;
            (self.in_sync[node], self.decided[node]) = (true, false);
            self.nodes[node].is_rotten = false;
            self.assign(None);
        }
    }

    /// A replica loses its disk, and begins with nothing.
    pub(super) fn wipe(&mut self, at: usize) {
        if at == self.leader {
            return;
        }
        (self.in_sync[at], self.decided[at]) = (false, false);
        self.assign(Some(at));
        self.assign(None);
        let incarnation = self.nodes[at].me.incarnation.0;
        self.nodes[at] = Node::new(at);
        self.nodes[at].me.incarnation.0 = incarnation;
        self.starts_anew(at);
        self.follow(at);
    }
}
