//! A leader and its followers with real logs, over disks that keep only what they have promised: appends, crashes,
//! leaders that come and go with records that nobody else has, deleted records, replicas that fall behind or lose their
//! disk. What was committed stays, everywhere the same. Each rule is broken once to see that it is found.

mod apart;
mod cases;
mod changes;
mod node;
mod runs;
mod scene;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    EpochEnd, FollowerNext, FollowerStep, FollowerStopped, Following, Leader, LeaderLog, OnDisk,
    Push, Term,
};
use crate::base::{LeaderEpoch, Mono, Now, Offset, Rng};
use crate::log::testing::{Draft, START_MS};
use crate::log::{Log, Truncation, Unfit};
use crate::record;
use crate::store::FlushSeq;
use node::{Batch, Node, batches_of, found};

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
    /// Or leads.
    LeadsInSilence,
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
    end: Offset(-1),
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
    /// Logs that could not be read where they were to be cut.
    unreadable: u64,
    /// Pushes that leave out what was removed.
    left_out: u64,
    /// Those that had, and were to lead.
    refused: u64,
    /// Elections of those that were not in sync.
    unclean: u64,
    /// Messages of other terms.
    stale: u64,
}

struct Cluster {
    flaw: Flaw,
    rng: Rng,
    epoch: LeaderEpoch,
    leader: usize,
    /// How often a leader was told who is in sync.
    assigned: i32,
    in_sync: [bool; NODES],
    /// It is decided that what they have does not count: one of them was elected that was not in sync.
    decided: [bool; NODES],
    nodes: Vec<Node>,
    links: BTreeMap<(usize, usize), VecDeque<(Term, Message)>>,
    committed: BTreeMap<Offset, Batch>,
    /// Those of them that compaction may have removed: who has them keeps them, and who has not does not get them.
    removed: BTreeSet<Offset>,
    /// What was before this is not known: the leader that counts had deleted it.
    known_from: Offset,
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
            assigned: 0,
            in_sync: [true; NODES],
            decided: [false; NODES],
            nodes: (0..NODES).map(Node::new).collect(),
            links: BTreeMap::new(),
            committed: BTreeMap::new(),
            removed: BTreeSet::new(),
            known_from: Offset(0),
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
            910..924 => self.elect(),
            924..925 => self.elect_uncleanly(),
            925..940 => self.crash(node),
            940..950 => self.delete(),
            950..956 => self.compacts(),
            956..962 => self.links.retain(|at, _| at.1 != node),
            962..967 => self.checkpoint(node),
            967..980 => self.settle(node),
            980..989 => self.leaves(node),
            989..997 => self.rots(node),
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
            let is_left = |it: &&&Batch| !self.removed.contains(&it.base);
            let batches: Vec<&[u8]> = (new.iter().filter(is_left))
                .map(|it| &it.bytes[..])
                .collect();
            self.counts.left_out += u64::from(batches.len() < new.len());
            let push = Push {
                from,
                batches: batches.concat().into(),
                to: reached,
                committed,
                start,
            };
            self.leading().next[follower] = Some(reached);
            self.send(self.leader, follower, Message::Push(push));
        }
    }

    /// Who has not asked, as far as the leader knows, is made to.
    fn call(&mut self) {
        let leader = &self.nodes[self.leader];
        let far = leader.log.end_offset().plus(1);
        let call = Push {
            from: far,
            batches: Default::default(),
            to: far,
            committed: leader.log.high_watermark(),
            start: leader.log.start_offset(),
        };
        for follower in 0..NODES {
            if follower != self.leader && self.leading().next[follower].is_none() {
                self.send(self.leader, follower, Message::Push(call.clone()));
            }
        }
    }

    fn beat(&mut self) {
        if self.below(4) == 0 {
            self.call();
        }
        let most = self.below(3);
        self.push(most);
        for node in 0..NODES {
            self.joins(node);
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
                self.forget(from);
                self.send(self.leader, from, Message::Answer(asked, answer));
                self.push(2);
            }
            Message::Tells(on_disk) => {
                let node = self.nodes[from].me.node;
                self.lead(|leading, here| {
                    assert!(
                        !leading.it.has_lost(node, on_disk.end, here.0),
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
        let mut begins_anew = false;
        let step = match message {
            Message::Answer(asked, answer) => it.answered(NOW, asked, answer, here),
            Message::Push(push) => {
                let followed = it.follows();
                let step = it.pushed(NOW, &push, here);
                let reached = node.log.end_offset();
                begins_anew = !followed && it.follows();
                if begins_anew {
                    node.batches.clear();
                }
                let had = end.0 * i64::from(!begins_anew);
                let new = batches_of(&push.batches).filter(|it| it.end.0 > had);
                let new = new.filter(|it| it.end <= reached);
                node.batches.extend(new);
                step
            }
            // Of another term, in which the receiver led.
            Message::Ask(_) | Message::Tells(_) => return,
        };
        let log = &node.log;
        if step.is_err() && !begins_anew {
            assert_eq!((log.start_offset(), log.end_offset()), (start, end));
        }
        self.counts.started_over += u64::from(begins_anew && start < end);
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
            // It says so behind all that it has told.
            self.links.remove(&(at, self.leader));
            self.forget(at);
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
                let mut bytes = node.disk.join(&pieces);
                if self.rng.chance(1, 20) {
                    // A disk gives back something else.
                    bytes[16] ^= 1;
                    (self.counts.unreadable, node.is_rotten) = (self.counts.unreadable + 1, true);
                }
                assert_eq!(node.log.scanned(ticket, &bytes).is_err(), bytes[16] != 2);
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
            (node.watermark, node.written) = (mark, node.written.min(mark));
            assert!(
                !self.in_sync[at] || node.log.durable_end() >= self.end,
                "{:?} has {} on its disk, {} is committed",
                node.me,
                node.log.durable_end(),
                self.end
            );
            if self.decided[at] {
                continue;
            }
            let known = node.log.known_committed();
            assert!(
                known <= self.end,
                "{:?} takes {known} for committed, and {} is",
                node.me,
                self.end
            );
            if compares {
                let at = self.known_from..mark;
                node.has(&self.committed, &self.removed, at).unwrap();
            }
        }
    }

    fn comes_to_rest(&mut self, rounds: usize) {
        for _ in 0..rounds {
            (0..NODES).for_each(|node| self.settle(node));
            self.beat();
            self.push(usize::MAX);
            while !self.links.is_empty() {
                self.deliver();
            }
            self.check();
        }
    }

    /// Once nothing goes wrong any more all of them become the same.
    fn end(mut self) -> Counts {
        self.comes_to_rest(40);
        let end = self.nodes[self.leader].log.end_offset();
        for node in &self.nodes {
            let (durable, me) = (node.log.durable_end(), node.me);
            assert_eq!(durable, end, "{me:?} has not become like its leader");
        }
        (self.in_sync, self.decided) = ([true; NODES], [false; NODES]);
        self.assign(None);
        self.comes_to_rest(3);
        let leader = &self.nodes[self.leader];
        for node in &self.nodes {
            let at = self.known_from..self.end;
            node.has(&self.committed, &self.removed, at).unwrap();
            let log = &node.log;
            let marks = [log.high_watermark(), log.known_committed()];
            assert_eq!((marks, log.lost_before()), ([end; 2], None));
            // It may have known of deleted records that its leader did not when it became that.
            let start = node.log.start_offset();
            assert!(start >= leader.log.start_offset());
            let is_left = |it: &&Batch| !self.removed.contains(&it.base);
            let there = leader.batches.iter().filter(|it| it.end > start);
            let here = node.batches.iter().filter(is_left);
            assert!(here.eq(there.filter(is_left)));
        }
        self.counts
    }
}
