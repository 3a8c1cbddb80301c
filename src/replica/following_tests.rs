//! A leader and its followers with real logs, over disks that keep only what they have promised: appends, crashes,
//! leaders that come and go with records that nobody else has, deleted records, replicas that fall behind or lose their
//! disk. What was committed stays, everywhere the same. Each rule is broken once to see that it is found.

mod cases;
mod node;
mod runs;

use std::collections::{BTreeMap, VecDeque};

use super::{
    EpochEnd, FollowerNext, FollowerStep, FollowerStopped, Following, Leader, LeaderLog, OnDisk,
    Push, Term,
};
use crate::base::{LeaderEpoch, Mono, NodeId, Now, Offset, Rng};
use crate::log::testing::{Draft, START_MS};
use crate::log::{Log, Truncation, Unfit};
use crate::record;
use crate::store::FlushSeq;
use node::{Batch, Node, batches_of, config, create, found};

const NODES: usize = 3;
const STEPS: usize = 1500;
const NOW: Now = Now {
    mono: Mono(0),
    wall_ms: START_MS,
};

/// What is wrong with all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    Nothing,
    /// A follower cuts its log back to the watermark that it knows.
    ByWatermark,
    /// A follower tells of what it has received, and not of what is on its disk.
    OnReceipt,
    /// A follower compares one epoch, and takes the rest for the same.
    ComparesOnce,
    /// A restart takes all that is on the disk for committed.
    EndIsCommitted,
    /// What was said in another term is taken for something of this one.
    AnyTerm,
    /// A follower's driver does not look which flush it waits for.
    Deaf,
    /// Who has lost something follows as if it had not, and stays in sync.
    LosesInSilence,
}

#[derive(Clone, Debug)]
enum Message {
    Ask(EpochEnd),
    Answer(EpochEnd, LeaderLog),
    Push(Push),
    Tells(OnDisk),
}

struct Leading {
    it: Leader<()>,
    began: Offset,
    /// What each follower is pushed next begins here.
    next: [Option<Offset>; NODES],
    /// What each has told to be on its disk, and where its log starts there.
    told: [OnDisk; NODES],
}

const NOTHING: OnDisk = OnDisk {
    end: Offset(0),
    start: Offset(0),
};

enum Role {
    None,
    Leader(Box<Leading>),
    Follower(Following),
}

/// What has happened, so that it can be seen that it did.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    committed: u64,
    cuts: u64,
    asked_again: u64,
    scans: u64,
    started_over: u64,
    joined: u64,
    lost_flushes: u64,
    /// Nodes that found that something was lost, and what they had lost that was given up.
    lost: u64,
    /// Messages of other terms.
    stale: u64,
}

struct Cluster {
    flaw: Flaw,
    rng: Rng,
    epoch: LeaderEpoch,
    leader: usize,
    in_sync: [bool; NODES],
    nodes: Vec<Node>,
    links: BTreeMap<(usize, usize), VecDeque<(Term, Message)>>,
    committed: BTreeMap<Offset, Batch>,
    /// Where that ends.
    end: Offset,
    counts: Counts,
}

impl Cluster {
    fn new(flaw: Flaw, seed: u64) -> Self {
        let mut cluster = Self {
            flaw,
            rng: Rng::new(seed),
            epoch: LeaderEpoch(0),
            leader: 0,
            in_sync: [true; NODES],
            nodes: (0..NODES).map(Node::new).collect(),
            links: BTreeMap::new(),
            committed: BTreeMap::new(),
            end: Offset(0),
            counts: Counts::default(),
        };
        cluster.elect();
        cluster
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u64) as usize
    }

    fn step(&mut self) {
        let node = self.below(NODES);
        match self.below(1000) {
            0..280 => self.append(),
            280..640 => self.deliver(),
            640..860 => self.disk(node),
            860..910 => self.beat(),
            910..925 => self.elect(),
            925..940 => self.crash(node),
            940..950 => self.delete(),
            950..960 => self.links.retain(|at, _| at.1 != node),
            960..967 => self.checkpoint(node),
            967..980 => self.settle(node),
            980..994 => self.leaves(node),
            994..997 => self.rots(node),
            _ => self.wipe(node),
        }
        self.check();
    }

    fn leading(&mut self) -> &mut Leading {
        match &mut self.nodes[self.leader].role {
            Role::Leader(leading) => leading,
            _ => panic!("the leader leads"),
        }
    }

    /// Something with the leader and its log.
    fn lead<T>(
        &mut self,
        act: impl FnOnce(&mut Leading, (&mut Log, &mut crate::store::Store)) -> T,
    ) -> T {
        let Node {
            disk, log, role, ..
        } = &mut self.nodes[self.leader];
        let Role::Leader(leading) = role else {
            panic!("the leader leads");
        };
        act(leading, (log, &mut disk.store))
    }

    fn term(&self, follower: usize) -> Term {
        Term {
            epoch: self.epoch,
            leader: self.nodes[self.leader].me,
            follower: self.nodes[follower].me,
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let follower = if from == self.leader { to } else { from };
        let sent = (self.term(follower), message);
        self.links.entry((from, to)).or_default().push_back(sent);
    }

    fn append(&mut self) {
        let records = 1 + self.below(4);
        let len = match self.below(12) {
            0 => 40_000,
            _ => self.below(600),
        };
        let (batch, info) = Draft::plain(&vec![START_MS; records], len).build();
        let epoch = self.epoch;
        let mut stamped = batch.to_vec();
        let appended = self.lead(|_, (log, store)| log.append(NOW, batch, &info, store));
        let Ok(appended) = appended else {
            return self.checkpoint(self.leader);
        };
        record::stamp(&mut stamped, appended.base_offset, epoch);
        let leader = &mut self.nodes[self.leader];
        leader.batches.push_back(Batch::new(stamped.into()));
        self.push(usize::MAX);
    }

    /// Pushes to each follower what it has not been pushed, at most so many batches.
    fn push(&mut self, most: usize) {
        let leader = &self.nodes[self.leader];
        let (committed, start) = (leader.log.high_watermark(), leader.log.start_offset());
        let end = leader.log.end_offset();
        for follower in 0..NODES {
            let Some(from) = self.leading().next[follower] else {
                continue;
            };
            let all = &self.nodes[self.leader].batches;
            let new = all.iter().filter(|it| it.end > from).take(most);
            let new: Vec<&Batch> = new.collect();
            let reached = match new.len() == most {
                true => new.last().map_or(from, |last| last.end),
                false => end,
            };
            let batches: Vec<&[u8]> = new.iter().map(|it| &it.bytes[..]).collect();
            let push = Push {
                from,
                batches: batches.concat().into(),
                committed,
                start,
            };
            self.leading().next[follower] = Some(reached);
            self.send(self.leader, follower, Message::Push(push));
        }
    }

    fn beat(&mut self) {
        let most = self.below(3);
        self.push(most);
        for node in 0..NODES {
            let Node { log, role, .. } = &mut self.nodes[node];
            if let Role::Follower(it) = role
                && !it.follows()
            {
                let next = it.ask(log);
                self.after(node, next);
            }
        }
    }

    fn deliver(&mut self) {
        let links: Vec<(usize, usize)> = self.links.keys().copied().collect();
        if links.is_empty() {
            return;
        }
        let at = links[self.below(links.len())];
        let Some((term, message)) = self.links.get_mut(&at).and_then(VecDeque::pop_front) else {
            self.links.remove(&at);
            return;
        };
        let (from, to) = at;
        let (now, any) = (
            self.term(if to == self.leader { from } else { to }),
            self.flaw,
        );
        if term != now && any != Flaw::AnyTerm {
            self.counts.stale += 1;
        } else if to == self.leader {
            self.leader_takes(from, message);
        } else if let Role::Follower(it) = &self.nodes[to].role {
            assert_eq!(it.term(), now);
            self.follower_takes(to, message);
        }
    }

    fn leader_takes(&mut self, from: usize, message: Message) {
        match message {
            Message::Ask(asked) => {
                let mut answer = LeaderLog::answering(&self.nodes[self.leader].log, asked);
                if self.flaw == Flaw::ComparesOnce {
                    answer.ends.epoch = asked.epoch;
                }
                self.leading().next[from] = answer.goes_on(asked);
                self.send(self.leader, from, Message::Answer(asked, answer));
                self.push(2);
            }
            Message::Tells(on_disk) => {
                let node = self.nodes[from].me.node;
                self.lead(|leading, here| {
                    assert!(
                        !leading.it.has_lost(node, on_disk.end),
                        "{node} has lost some"
                    );
                    assert!(
                        on_disk.start >= leading.told[from].start,
                        "deleted records come back"
                    );
                    leading.told[from] = on_disk;
                    leading.it.on_replicated(here, node, on_disk.end);
                });
                self.commits();
                self.joins(from);
            }
            // Of another term, in which the receiver did not lead.
            Message::Answer(..) | Message::Push(_) => {}
        }
    }

    fn follower_takes(&mut self, to: usize, message: Message) {
        let node = &mut self.nodes[to];
        let Role::Follower(it) = &mut node.role else {
            return;
        };
        let (start, end) = (node.log.start_offset(), node.log.end_offset());
        let here = (&mut node.log, &mut node.disk.store);
        let step = match message {
            Message::Answer(asked, answer) => it.answered(NOW, asked, answer, here),
            Message::Push(push) => {
                let step = it.pushed(NOW, &push, here);
                let reached = node.log.end_offset();
                let new = batches_of(&push.batches).filter(|it| it.end > end);
                let new = new.filter(|it| it.end <= reached);
                node.batches.extend(new);
                step
            }
            // Of another term, in which the receiver led.
            Message::Ask(_) | Message::Tells(_) => return,
        };
        let log = &node.log;
        if step.is_err() {
            assert_eq!((log.start_offset(), log.end_offset()), (start, end));
        }
        self.counts.started_over += u64::from(log.start_offset() > end && start < end);
        self.counts.cuts += u64::from(log.end_offset() < end);
        assert!(!node.counts || log.start_offset() >= start);
        let (reached, begins) = (log.end_offset(), log.start_offset());
        node.forget();
        if self.flaw == Flaw::OnReceipt && reached > end {
            let (end, start) = (reached, begins);
            self.send(to, self.leader, Message::Tells(OnDisk { end, start }));
        }
        self.follows_on(to, step);
    }

    fn follows_on(&mut self, node: usize, step: Result<FollowerStep, FollowerStopped>) {
        match step {
            Ok(step) => self.after(node, step),
            Err(FollowerStopped::Unfit(Unfit::Full)) => self.checkpoint(node),
            Err(stopped) => self.stops(node, stopped),
        }
    }

    /// One that has lost something leaves the ISR, and follows as one that nobody counts on.
    fn stops(&mut self, at: usize, stopped: FollowerStopped) {
        let node = &self.nodes[at];
        assert!(
            stopped.has_lost() && node.is_rotten,
            "{:?}: {stopped}",
            node.me
        );
        self.counts.lost += 1;
        if self.flaw != Flaw::LosesInSilence {
            self.in_sync[at] = false;
            self.assign(None);
        }
        self.follow_out_of_sync(at);
    }

    fn follow_out_of_sync(&mut self, at: usize) {
        let term = self.term(at);
        let node = &mut self.nodes[at];
        node.counts = false;
        let here = (&mut node.log, &mut node.disk.store);
        let (it, step) = Following::out_of_sync(NOW, term, here).unwrap();
        node.role = Role::Follower(it);
        self.after(at, step);
    }

    /// Does what a follower wants. It is told what is durable only if it has asked for that.
    fn after(&mut self, node: usize, step: FollowerStep) {
        if self.flaw != Flaw::Deaf {
            self.nodes[node].waits.extend(step.flush);
        }
        let message = match step.next {
            FollowerNext::Waits => return,
            FollowerNext::Asks(asked) => {
                self.counts.asked_again += u64::from(asked.epoch > LeaderEpoch(0));
                Message::Ask(asked)
            }
            FollowerNext::Tells(on_disk) => Message::Tells(on_disk),
            FollowerNext::Cuts(truncation) => return self.cuts(node, truncation),
        };
        self.send(node, self.leader, message);
    }

    fn cuts(&mut self, at: usize, truncation: Truncation) {
        let node = &mut self.nodes[at];
        match truncation {
            Truncation::Scan { pieces, ticket } => {
                self.counts.scans += 1;
                let bytes = node.disk.join(&pieces);
                node.log.scanned(ticket, &bytes).unwrap();
            }
            Truncation::Unflushed(_) => {
                node.disk.start();
                if self.rng.chance(1, 4) {
                    self.settle(at);
                }
            }
            Truncation::More | Truncation::Done { .. } => {}
        }
        let node = &mut self.nodes[at];
        let Role::Follower(it) = &mut node.role else {
            return;
        };
        let next = it.go_on(NOW, (&mut node.log, &mut node.disk.store));
        node.forget();
        self.follows_on(at, next);
    }

    fn checkpoint(&mut self, node: usize) {
        let Node { disk, log, .. } = &mut self.nodes[node];
        if let Some(flush) = disk.checkpoint(log) {
            self.durable(node, flush);
        }
    }

    fn disk(&mut self, node: usize) {
        self.nodes[node].disk.start();
        for _ in 0..1 + self.below(4) {
            let durable = self.nodes[node].disk.perform_one(&mut self.rng);
            if let Some(flush) = durable {
                self.durable(node, flush);
            }
        }
    }

    /// All that there is to write is durable, and what is known of the watermark is written.
    fn settle(&mut self, at: usize) {
        // What is durable has more to be written: a log start, the watermark.
        for _ in 0..5 {
            let node = &mut self.nodes[at];
            node.disk.store.prove();
            if let Some(flush) = node.disk.settle() {
                self.durable(at, flush);
            }
        }
        let node = &mut self.nodes[at];
        assert!(!node.disk.store.lacks_proof() && !node.disk.store.lacks_remarks());
        if !matches!(node.role, Role::None) {
            node.written = node.log.high_watermark();
        }
        assert_eq!(found(&node.disk, &node.log), node.batches);
    }

    fn durable(&mut self, at: usize, flush: FlushSeq) {
        if at == self.leader {
            self.lead(|leading, here| leading.it.on_durable(here, flush));
            return self.commits();
        }
        let node = &mut self.nodes[at];
        match &mut node.role {
            Role::Follower(it) => {
                let later = node.waits.split_off(&FlushSeq(flush.0 + 1));
                if std::mem::replace(&mut node.waits, later).is_empty() {
                    return;
                }
                let step = it.on_durable(NOW, flush, (&mut node.log, &mut node.disk.store));
                node.forget();
                self.after(at, step);
            }
            Role::Leader(_) | Role::None => node.log.on_durable(flush),
        }
    }

    /// What the leader takes for committed is.
    fn commits(&mut self) {
        let leader = &self.nodes[self.leader];
        let mark = leader.log.high_watermark();
        for batch in leader.batches.iter().filter(|it| it.end <= mark) {
            if batch.base >= self.end {
                self.committed.insert(batch.base, batch.clone());
                self.counts.committed += 1;
            }
        }
        self.end = self.end.max(mark);
    }

    /// One of those in sync leads, in a new epoch.
    fn elect(&mut self) {
        let in_sync: Vec<usize> = (0..NODES).filter(|node| self.in_sync[*node]).collect();
        self.leader = in_sync[self.below(in_sync.len())];
        self.epoch.0 += 1;
        let (leader, epoch) = (self.leader, self.epoch);
        let Node {
            me,
            disk,
            log,
            role,
            ..
        } = &mut self.nodes[leader];
        let began = log.end_offset();
        log.begin_epoch(epoch, &mut disk.store);
        *role = Role::Leader(Box::new(Leading {
            it: Leader::alone(me.node),
            began,
            next: [None; NODES],
            told: [NOTHING; NODES],
        }));
        self.assign(None);
        for node in (0..NODES).filter(|node| *node != leader) {
            self.follow(node);
        }
    }

    /// Tells the leader who is in sync; one may be no replica.
    fn assign(&mut self, without: Option<usize>) {
        let id = |node: usize| NodeId(node as i32);
        let replicas: Vec<NodeId> = (0..NODES)
            .filter(|it| Some(*it) != without)
            .map(id)
            .collect();
        let in_sync: Vec<NodeId> = (0..NODES).filter(|it| self.in_sync[*it]).map(id).collect();
        self.lead(|leading, here| leading.it.assign(here, &replicas, &in_sync, 1));
        self.commits();
    }

    fn follow(&mut self, at: usize) {
        let (term, flaw) = (self.term(at), self.flaw);
        if flaw == Flaw::ByWatermark {
            self.nodes[at].role = Role::None;
            self.settle(at);
            let to = self.nodes[at].log.high_watermark();
            self.truncate(at, to);
        }
        if !self.in_sync[at] && self.rng.chance(1, 2) {
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
    fn rots(&mut self, at: usize) {
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
        node.is_rotten = true;
        self.starts_anew(at);
        self.follow(at);
    }

    /// The process of a replica is another one.
    fn starts_anew(&mut self, at: usize) {
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

    fn truncate(&mut self, at: usize, to: Offset) {
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

    fn crash(&mut self, at: usize) {
        let flaw = self.flaw;
        let node = &mut self.nodes[at];
        let end = node.log.end_offset();
        let (durable, most) = match node.log.is_cut_durable() {
            true => (node.log.durable_end(), node.watermark),
            // It may have started over.
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

    fn delete(&mut self) {
        let leader = &self.nodes[self.leader];
        let (start, mark) = (leader.log.start_offset(), leader.log.high_watermark());
        let to = start.plus(self.below((mark.0 - start.0) as usize + 1) as i64);
        let deleted = self.lead(|_, (log, store)| log.delete_records(NOW, to, store));
        deleted.unwrap();
        self.nodes[self.leader].forget();
    }

    /// A replica that is in sync is not any more.
    fn leaves(&mut self, node: usize) {
        if node != self.leader {
            self.in_sync[node] = false;
            self.assign(None);
        }
    }

    /// One that has caught up is in sync again, sooner or later.
    fn joins(&mut self, node: usize) {
        let least = self.nodes[self.leader].log.high_watermark();
        let leading = self.leading();
        let has_caught_up = leading.told[node].end >= least.max(leading.began);
        if has_caught_up && !self.in_sync[node] && self.rng.chance(1, 2) {
            self.counts.joined += 1;
            self.in_sync[node] = true;
            self.nodes[node].is_rotten = false;
            self.assign(None);
        }
    }

    /// A replica loses its disk, and begins with nothing.
    fn wipe(&mut self, at: usize) {
        if at == self.leader {
            return;
        }
        self.in_sync[at] = false;
        self.assign(Some(at));
        self.assign(None);
        let incarnation = self.nodes[at].me.incarnation.0;
        self.nodes[at] = Node::new(at);
        self.nodes[at].me.incarnation.0 = incarnation;
        self.starts_anew(at);
        self.follow(at);
    }

    fn check(&mut self) {
        let compares = self.rng.chance(1, 16);
        for (at, node) in self.nodes.iter_mut().enumerate() {
            node.log.invariants();
            let mark = node.log.high_watermark();
            assert!(
                mark >= node.watermark || !node.counts,
                "{:?} goes back to {mark}",
                node.me
            );
            node.watermark = mark;
            assert!(
                !self.in_sync[at] || node.log.durable_end() >= self.end,
                "{:?} has {} on its disk, {} is committed",
                node.me,
                node.log.durable_end(),
                self.end
            );
            if compares {
                node.has(&self.committed, mark).unwrap();
            }
        }
    }

    /// Once nothing goes wrong any more all of them become the same.
    fn end(mut self) -> Counts {
        for _ in 0..40 {
            (0..NODES).for_each(|node| self.settle(node));
            self.beat();
            self.push(usize::MAX);
            while !self.links.is_empty() {
                self.deliver();
            }
            self.check();
        }
        let leader = &self.nodes[self.leader];
        for node in &self.nodes {
            node.has(&self.committed, self.end).unwrap();
            assert_eq!(
                node.log.durable_end(),
                leader.log.end_offset(),
                "{:?} has not become like its leader",
                node.me
            );
            // It may have known of deleted records that its leader did not when it became that.
            let start = node.log.start_offset();
            assert!(start >= leader.log.start_offset());
            let there = leader.batches.iter().filter(|it| it.end > start);
            assert!(node.batches.iter().eq(there));
        }
        self.counts
    }
}
