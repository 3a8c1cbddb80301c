//! A leader and its followers with real logs, over disks that keep only what they have promised: appends, crashes,
//! leaders that come and go with records that nobody else has, deleted records, replicas that fall behind or lose their
//! disk. What was committed stays, everywhere the same. Each rule is broken once to see that it is found.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{
    EpochEnd, FollowerNext, FollowerStopped, Following, Leader, LeaderLog, OnDisk, Push, Term,
};
use crate::base::{Incarnation, LeaderEpoch, Mono, NodeId, NodeProcess, Now, Offset, Rng};
use crate::log::testing::{Disk, Draft, LOG, START_MS};
use crate::log::{Log, LogConfig, Truncation, Unfit};
use crate::record;
use crate::store::{FlushSeq, LogLabel};

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
    /// What each has told to be on its disk.
    told: [Offset; NODES],
}

enum Role {
    None,
    Leader(Box<Leading>),
    Follower(Following),
}

struct Node {
    me: NodeProcess,
    disk: Disk,
    log: Log,
    role: Role,
    /// What the log should hold.
    batches: VecDeque<Batch>,
    /// The watermark as it was last.
    watermark: Offset,
    /// One that is on the disk for sure.
    written: Offset,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Batch {
    base: Offset,
    end: Offset,
    epoch: i32,
    bytes: Bytes,
}

impl Batch {
    fn new(bytes: Bytes) -> Self {
        let info = record::parse(&bytes).unwrap();
        Self {
            base: Offset(info.base_offset),
            end: Offset(info.last_offset() + 1),
            epoch: info.leader_epoch,
            bytes,
        }
    }
}

fn batches_of(bytes: &Bytes) -> impl Iterator<Item = Batch> + '_ {
    record::batches(bytes).map(|batch| Batch::new(bytes.slice_ref(batch.unwrap().1)))
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 20_000,
        ..LogConfig::default()
    }
}

fn create(disk: &mut Disk) -> Log {
    Log::create(LOG, LogLabel::default(), config(), NOW, &mut disk.store)
}

impl Node {
    fn new(node: usize) -> Self {
        // What is read of a log that is cut comes from the file, or from memory.
        let mut disk = Disk::raw(node * 10_000);
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
        }
    }

    /// What the log has cut off, or dropped, is not expected any more.
    fn forget(&mut self) {
        let (start, end) = (self.log.start_offset(), self.log.end_offset());
        self.batches.retain(|it| it.end <= end && it.end > start);
    }

    /// Whether it has all of these that are before an offset and not before its log's start.
    fn has(&self, committed: &BTreeMap<Offset, Batch>, before: Offset) -> Result<(), String> {
        let start = self.log.start_offset();
        let mut own = self.batches.iter().filter(|it| it.end <= before);
        let counts = |it: &&Batch| it.end > start && it.end <= before;
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
            980..996 => self.leaves(node),
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
        if to == self.leader {
            if term == self.term(from) {
                self.leader_takes(from, message);
            }
        } else if let Role::Follower(it) = &self.nodes[to].role
            && it.term() == term
        {
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
                    leading.told[from] = on_disk.end;
                    leading.it.on_replicated(here, node, on_disk.end);
                });
                self.commits();
                self.joins(from);
            }
            other => panic!("a leader is told {other:?}"),
        }
    }

    fn follower_takes(&mut self, to: usize, message: Message) {
        let node = &mut self.nodes[to];
        let Role::Follower(it) = &mut node.role else {
            return;
        };
        let (start, end) = (node.log.start_offset(), node.log.end_offset());
        let here = (&mut node.log, &mut node.disk.store);
        let next = match message {
            Message::Answer(asked, answer) => it.answered(NOW, asked, answer, here),
            Message::Push(push) => {
                let next = it.pushed(NOW, &push, here);
                let reached = node.log.end_offset();
                let new = batches_of(&push.batches).filter(|it| it.end > end);
                let new = new.filter(|it| it.end <= reached);
                node.batches.extend(new);
                next
            }
            other => panic!("a follower is told {other:?}"),
        };
        let log = &node.log;
        self.counts.started_over += u64::from(log.start_offset() > end && start < end);
        if log.start_offset() < start {
            // It begins anew with the batch in which its leader's log starts.
            node.watermark = log.high_watermark();
            node.written = node.written.min(node.watermark);
        }
        self.counts.cuts += u64::from(log.end_offset() < end);
        node.forget();
        self.follows_on(to, next);
    }

    fn follows_on(&mut self, node: usize, next: Result<FollowerNext, FollowerStopped>) {
        match next {
            Ok(next) => self.after(node, next),
            Err(FollowerStopped::Unfit(Unfit::Full)) => self.checkpoint(node),
            Err(stopped) => panic!("{:?}: {stopped}", self.nodes[node].me),
        }
    }

    /// Does what a follower wants.
    fn after(&mut self, node: usize, next: FollowerNext) {
        let message = match next {
            FollowerNext::Waits => return,
            FollowerNext::Appends(_) if self.flaw == Flaw::OnReceipt => {
                let log = &self.nodes[node].log;
                let (end, start) = (log.end_offset(), log.start_offset());
                Message::Tells(OnDisk { end, start })
            }
            FollowerNext::Appends(_) => return,
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
        assert!(!node.disk.store.lacks_proof());
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
                let next = it.on_durable(NOW, flush, (&mut node.log, &mut node.disk.store));
                node.forget();
                self.after(at, next);
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
        self.links.clear();
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
            told: [Offset(0); NODES],
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
        let node = &mut self.nodes[at];
        if flaw == Flaw::ByWatermark {
            node.role = Role::None;
            self.settle(at);
            let node = &mut self.nodes[at];
            let to = node.log.high_watermark();
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
        let node = &mut self.nodes[at];
        let here = (&mut node.log, &mut node.disk.store);
        match Following::begin(NOW, term, here) {
            Ok((it, next)) => {
                node.role = Role::Follower(it);
                self.after(at, next);
            }
            Err(stopped) => panic!("{:?}: {stopped}", self.nodes[at].me),
        }
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
        node.watermark = log.high_watermark();
        let known = std::mem::take(&mut node.batches);
        node.batches = found(&node.disk, &node.log);
        let is_there = |it: &Batch| node.batches.contains(it) || it.end <= node.log.start_offset();
        assert!(known.iter().filter(|it| it.end <= durable).all(is_there));
        node.me.incarnation.0 += 1;
        node.role = Role::None;
        self.links.retain(|(from, to), _| *from != at && *to != at);
        if at == self.leader {
            return self.elect();
        }
        let leading = self.leading();
        (leading.next[at], leading.told[at]) = (None, Offset(0));
        self.follow(at);
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
        let has_caught_up = leading.told[node] >= least.max(leading.began);
        if has_caught_up && !self.in_sync[node] && self.rng.chance(1, 2) {
            self.counts.joined += 1;
            self.in_sync[node] = true;
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
        self.nodes[at].me.incarnation.0 = incarnation + 1;
        self.links.retain(|(from, to), _| *from != at && *to != at);
        let leading = self.leading();
        (leading.next[at], leading.told[at]) = (None, Offset(0));
        self.follow(at);
    }

    fn check(&mut self) {
        let compares = self.rng.chance(1, 16);
        for (at, node) in self.nodes.iter_mut().enumerate() {
            node.log.invariants();
            let mark = node.log.high_watermark();
            assert!(mark >= node.watermark, "{:?} goes back to {mark}", node.me);
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
                "{:?}",
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

/// What is in a log, by what is on the disk.
fn found(disk: &Disk, log: &Log) -> VecDeque<Batch> {
    let all = disk.batches().into_iter().map(Batch::new);
    all.filter(|it| it.end > log.start_offset()).collect()
}

fn run(flaw: Flaw, seed: u64) -> Counts {
    let mut cluster = Cluster::new(flaw, seed);
    (0..STEPS).for_each(|_| cluster.step());
    cluster.end()
}

#[test]
fn what_is_committed_stays_and_is_the_same_everywhere() {
    let mut all = Counts::default();
    for seed in 0..40 {
        let run = || run(Flaw::Nothing, seed);
        let Ok(counts) = std::panic::catch_unwind(run) else {
            panic!("seed {seed}");
        };
        all.committed += counts.committed;
        all.cuts += counts.cuts;
        all.asked_again += counts.asked_again;
        all.scans += counts.scans;
        all.started_over += counts.started_over;
        all.joined += counts.joined;
        all.lost_flushes += counts.lost_flushes;
    }
    let least = [
        all.committed / 1000,
        all.cuts / 10,
        all.asked_again / 10,
        all.scans / 10,
        all.started_over / 10,
        all.joined / 10,
        all.lost_flushes / 10,
    ];
    assert!(least.iter().all(|count| *count > 0), "{all:?}");
}

#[test]
fn each_rule_is_needed() {
    for flaw in [
        Flaw::ByWatermark,
        Flaw::OnReceipt,
        Flaw::ComparesOnce,
        Flaw::EndIsCommitted,
    ] {
        let is_found = |seed| std::panic::catch_unwind(|| run(flaw, seed)).is_err();
        assert!((0..100).any(is_found), "{flaw:?}");
    }
}
