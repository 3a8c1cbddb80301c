//! The loop: takes events in the order of virtual time, lets the node and the
//! clients act on them, makes things go wrong, and asks the oracle after each.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::clients::{
    Act, Auditor, Churn, Client, Committer, Consumer, Ctx, Lookup, Member, Phase, Producer, Setup,
    Shared, Talk, Truncator,
};
use super::clock::MS;
use super::counts::Counts;
use super::disk::Crash;
use super::fact::Fact;
use super::net::Net;
use super::node::{Node, State};
use super::oracle::{Oracle, Violation};
use super::plan::{Options, Plan};
use super::queue::Queue;
use super::trace::Trace;
use super::what::What;
use crate::base::PageBuf;
use crate::base::{Rng, StoreId};
use crate::broker::{ConnId, Input, Output, ReadId};
use crate::store::{IoId, Piece};

mod perform;

/// A request must be answered within this time while the node is up.
const ANSWER_MS_MAX: u64 = 60_000;
/// A start, a shutdown and the end of a run must each be over within this time.
const TRANSITION_MS_MAX: u64 = 60_000;
/// Every so many events the invariants inside the shards are checked.
const INSPECT_EVERY: u64 = 16;
/// A run with more events than this in a millisecond of virtual time does not get on.
const EVENTS_PER_MS_MAX: u64 = 100_000;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The broken invariant, if one was.
    pub violation: Option<Violation>,
    /// Hash over all events.
    pub hash: u64,
    /// What there was of everything.
    pub counts: Counts,
    /// The last events, one on each line.
    pub last_events: String,
}

/// Runs a seed from its beginning to its end.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Outcome {
    // Buffers that an earlier run on this thread left behind may be larger than what is asked for, and
    // how much memory a slice keeps alive decides what the memory tail forgets.
    PageBuf::trim();
    PageBuf::trim();
    let mut world = World::new(seed, options);
    let violation = world.run().err();
    let seen = [
        (What::Full, world.shared.refused),
        (What::DamageRead, world.shared.damage_seen),
    ];
    for (what, times) in seen.into_iter().filter(|(_, times)| *times > 0) {
        world.trace.note(world.time, what, u64::from(times), 0);
    }
    Outcome {
        violation,
        hash: world.trace.hash(),
        counts: world.counts(),
        last_events: world.trace.last_events(),
    }
}

/// Something that happens. Those with a `start` are void after the next start of the node.
#[derive(Debug)]
enum Event {
    /// An input reaches a shard.
    Input {
        start: u32,
        shard: usize,
        input: Input,
    },
    /// A shard is told that nothing is waiting.
    Idle { start: u32, shard: usize },
    /// The time that a shard wanted to be woken at.
    Wake { start: u32, shard: usize },
    /// A disk operation ends.
    DiskDone {
        start: u32,
        shard: usize,
        store: StoreId,
        id: IoId,
        errno: Option<i32>,
        /// Whether it only writes zeroes, ahead of use.
        ahead: bool,
    },
    /// A read ends.
    ReadDone {
        start: u32,
        shard: usize,
        id: ReadId,
        pieces: Vec<Piece>,
    },
    /// A request reaches its shard.
    Request { conn: ConnId, frame: Bytes },
    /// A shard learns that a connection is gone.
    Closed { conn: ConnId },
    /// A client wants to connect.
    Connect { client: usize, to: Option<u16> },
    /// A client's connection is there.
    Connected { client: usize, conn: ConnId },
    /// An answer reaches its client.
    Answer { conn: ConnId, pieces: Vec<Piece> },
    /// A client learns that its connection is gone, or was refused.
    Cut { client: usize, conn: Option<ConnId> },
    /// A client's timer.
    Timer { client: usize, token: u64 },
    /// The node is to start.
    Start,
}

/// What a run does after its clients are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// They are not done yet.
    Not,
    /// Everything is read again after a crash.
    Audit,
    /// The node shuts down so that its stores can be damaged.
    ShutDown,
    /// Everything is read again from damaged stores.
    RottenAudit,
}

#[derive(Debug)]
struct World {
    plan: Plan,
    steps: u64,
    rng: Rng,
    /// Virtual time, ns.
    time: u64,
    /// When the disks have room again.
    relief: u64,
    /// Wall clock at the beginning.
    wall_ms: i64,
    /// Events in the current millisecond.
    burst: (u64, u64),
    events: Queue<Event>,
    node: Node,
    net: Net,
    clients: Vec<(Box<dyn Client>, Option<ConnId>)>,
    shared: Shared,
    oracle: Oracle,
    trace: Trace,
    ending: Ending,
    /// Stores with damage that a start may refuse.
    excuses: BTreeSet<usize>,
    /// Shards at the last start.
    shards: u16,
    /// When the phase or the ending began.
    phase_since: u64,
    outputs: Vec<Output>,
}

impl World {
    fn new(seed: u64, options: &Options) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng, options);
        let wall_ms = 1_700_000_000_000 + rng.below(1 << 30) as i64;
        let shared = Shared {
            phase: Phase::Busy,
            direct: plan.config.is_direct(),
            leaders: Default::default(),
            coordinator: None,
            topics: Vec::new(),
            next_topic: 0,
            topics_planned: plan.topics.len(),
            ends: Default::default(),
            commits: Default::default(),
            starts: 0,
            stops: 0,
            refused: 0,
            rotten: false,
            damage_seen: 0,
        };
        let mut world = Self {
            node: Node::new(&plan, wall_ms),
            events: Queue::new(Rng::new(rng.next_u64())),
            net: Net::default(),
            clients: Vec::new(),
            shared,
            oracle: Oracle::default(),
            trace: Trace::new(options.verbose),
            ending: Ending::Not,
            excuses: BTreeSet::new(),
            shards: 0,
            phase_since: 0,
            outputs: Vec::new(),
            steps: options.steps,
            time: 0,
            relief: rng.below(20_000) * MS,
            wall_ms,
            burst: (0, 0),
            plan,
            rng,
        };
        world.trace.say(0, || format!("{:#?}", world.plan));
        world.hire();
        world.events.add(1, Event::Start);
        world
    }

    /// Makes the clients of the plan.
    fn hire(&mut self) {
        let plan = self.plan.clone();
        let mut clients: Vec<Box<dyn Client>> = vec![Box::new(Talk::new(Setup::new(plan.topics)))];
        let scarce = plan.faults.no_room > 0;
        for number in 0..plan.idempotent {
            let producer = Producer::new(number, None, plan.value_bytes_max, &mut self.rng);
            clients.push(Box::new(producer.on_scarce_disks(scarce)));
        }
        for (number, acks) in (100..).zip(plan.plain) {
            let producer = Producer::new(number, Some(acks), plan.value_bytes_max, &mut self.rng);
            clients.push(Box::new(producer.on_scarce_disks(scarce)));
        }
        for number in 0..plan.consumers {
            clients.push(Box::new(Talk::new(Consumer::new(number % 2 == 1))));
        }
        for _ in 0..plan.lookups {
            clients.push(Box::new(Talk::new(Lookup::default())));
        }
        for group in 0..plan.committers {
            clients.push(Box::new(Talk::new(Committer::new(group))));
        }
        for (group, members) in (100..).zip(plan.groups) {
            for _ in 0..members {
                clients.push(Box::new(Talk::new(Member::new(group))));
            }
        }
        for number in 0..plan.churns {
            let name = format!("churn-{number}");
            clients.push(Box::new(Talk::new(Churn::new(200 + number, &name))));
        }
        for _ in 0..plan.truncators {
            clients.push(Box::new(Talk::new(Truncator::default())));
        }
        for client in clients {
            self.add_client(client);
        }
    }

    fn counts(&self) -> Counts {
        let acknowledged = self.shared.ends.values().sum::<i64>().unsigned_abs();
        let kinds = [self.trace.kinds(), self.oracle.kinds()];
        Counts::new(self.trace.events(), acknowledged, &kinds)
    }

    fn add_client(&mut self, client: Box<dyn Client>) {
        self.clients.push((client, None));
        let client = self.clients.len() - 1;
        self.with_client(client, |client, ctx| client.start(ctx));
    }

    fn run(&mut self) -> Result<(), Violation> {
        loop {
            let Some((time, event)) = self.events.take() else {
                let what = format!("nothing is going to happen any more: {}", self.busy());
                return violated("Progress", what);
            };
            self.time = time.max(self.time);
            self.handle(event)?;
            if self.trace.events().is_multiple_of(INSPECT_EVERY) {
                self.inspect()?;
            }
            if self.shared.phase == Phase::Busy {
                self.go_wrong();
            }
            if let Some(violation) = self.oracle.violation() {
                return Err(violation.clone());
            }
            if self.get_on()? {
                return Ok(());
            }
        }
    }

    fn inspect(&mut self) -> Result<(), Violation> {
        let oracle = &mut self.oracle;
        self.node.inspect(|log, offset| {
            oracle.tell(Fact::ShardWatermark { log, offset });
        });
        let since = self.time.saturating_sub(self.node.since) / MS;
        match self.node.state {
            State::Starting | State::Stopping if since > TRANSITION_MS_MAX => {
                let what = format!("{:?} for {since} ms", self.node.state);
                return violated("Progress", what);
            }
            State::Up => {
                if let Some((conn, request)) = self.net.longest_waiting()
                    && self.time.saturating_sub(request.since) > ANSWER_MS_MAX * MS
                {
                    let what = format!("{conn:?}: no answer to {request:?}");
                    return violated("Progress", what);
                }
            }
            State::Down | State::Starting | State::Stopping => {}
        }
        Ok(())
    }

    /// Lets things go wrong, each with its probability.
    fn go_wrong(&mut self) {
        let faults = self.plan.faults;
        let mut happens = |distance: u64| distance > 0 && self.rng.chance(1, distance);
        let (cut, jump) = (happens(faults.cut), happens(faults.wall_jump));
        let (crash, shutdown) = (happens(faults.crash), happens(faults.shutdown));
        if cut {
            self.cut_one();
        }
        if jump {
            // Not farther apart than timestamps from before a jump may lie in the future.
            let lead_ms = self.wall_ms + self.rng.below(3_000_000) as i64;
            self.node.clock.jump(lead_ms);
            self.trace
                .note(self.time, What::WallJump, lead_ms as u64, 0);
        }
        if crash && self.node.state != State::Down {
            self.crash();
            self.restart_soon();
        } else if shutdown && self.node.state == State::Up {
            self.shut_down();
        }
    }

    /// Enters the next phase when the one at hand is over; true at the end of the run.
    fn get_on(&mut self) -> Result<bool, Violation> {
        self.not_in_circles()?;
        let events = self.trace.events();
        let workers_done = self.clients.iter().all(|(client, _)| client.is_done());
        match self.shared.phase {
            Phase::Busy => {
                let is_over = self.shared.is_set_up() && events >= self.steps;
                if is_over || events >= 20 * self.steps {
                    self.enter(Phase::Quiet);
                }
                return Ok(false);
            }
            _ if !workers_done => {
                let waited = self.time.saturating_sub(self.phase_since) / MS;
                if waited > TRANSITION_MS_MAX {
                    let what = format!("after {waited} ms: {}", self.busy());
                    return violated("Progress", what);
                }
                return Ok(false);
            }
            Phase::Quiet | Phase::Audit => {}
        }
        match self.ending {
            Ending::Not if self.node.state == State::Up => {
                self.enter(Phase::Audit);
                self.ending = Ending::Audit;
                self.crash();
                self.restart_soon();
                self.add_client(Box::new(Talk::new(Auditor::default())));
            }
            Ending::Audit if self.plan.rot_live => {
                self.ending = Ending::RottenAudit;
                self.rot(64);
                self.audit_rotten();
            }
            Ending::Audit if self.plan.rot => {
                self.ending = Ending::ShutDown;
                self.shut_down();
            }
            Ending::Audit | Ending::RottenAudit => return Ok(true),
            Ending::Not | Ending::ShutDown => {}
        }
        Ok(false)
    }

    /// What the clients do that are not done.
    fn busy(&self) -> String {
        let busy = self.clients.iter().filter(|(client, _)| !client.is_done());
        let busy: Vec<String> = busy.map(|(client, _)| client.doing()).collect();
        format!("{:?}, waiting for:\n{}", self.node.state, busy.join("\n"))
    }

    fn not_in_circles(&mut self) -> Result<(), Violation> {
        let ms = self.time / MS;
        if self.burst.0 != ms {
            self.burst = (ms, 0);
        }
        self.burst.1 += 1;
        if self.burst.1 > EVENTS_PER_MS_MAX {
            return violated("Progress", "much happens, but no time passes".into());
        }
        Ok(())
    }

    fn enter(&mut self, phase: Phase) {
        self.trace.note(self.time, What::Phase, phase as u64, 0);
        self.shared.phase = phase;
        self.phase_since = self.time;
    }

    /// The machine stops.
    fn crash(&mut self) {
        let oracle = &mut self.oracle;
        self.node.inspect(|log, offset| {
            oracle.tell(Fact::ShardWatermark { log, offset });
        });
        let crashes = self.node.stop(self.time, &mut self.rng);
        let unsynced: usize = crashes.iter().map(|crash| crash.unsynced).sum();
        self.trace.note(self.time, What::Crash, unsynced as u64, 0);
        for (store, crash) in crashes.iter().enumerate() {
            let Crash {
                lost, torn, spared, ..
            } = *crash;
            let left = [
                (What::Lost, lost),
                (What::Torn, torn),
                (What::Spared, spared),
            ];
            for (what, writes) in left.into_iter().filter(|(_, writes)| *writes > 0) {
                self.trace
                    .note(self.time, what, store as u64, writes as u64);
            }
        }
        for (conn, client) in self.net.end_all() {
            let at = self.time + self.delay(self.plan.delays.net);
            let conn = Some(conn);
            self.events.add(at, Event::Cut { client, conn });
        }
    }

    fn restart_soon(&mut self) {
        let at = self.time + self.delay(200 * MS);
        self.events.add(at, Event::Start);
    }

    fn shut_down(&mut self) {
        self.trace.note(self.time, What::Shutdown, 0, 0);
        self.node.state = State::Stopping;
        self.shared.stops += 1;
        self.node.since = self.time;
        for shard in 0..self.node.shards.len() {
            let at = self.time + self.delay(self.plan.delays.mesh);
            let start = self.node.starts;
            let input = Input::Shutdown;
            self.events.add(
                at,
                Event::Input {
                    start,
                    shard,
                    input,
                },
            );
        }
    }

    /// All shards are drained: the process ends.
    fn drained(&mut self) -> Result<(), Violation> {
        self.crash();
        self.restart_soon();
        if self.ending != Ending::ShutDown {
            return Ok(());
        }
        self.ending = Ending::RottenAudit;
        let read = self.node.read_by_start(self.time, &self.plan.store);
        let read = match read {
            Ok(read) => read,
            Err(why) => return violated("RecoverySucceeds", why),
        };
        for (store, pos) in self.rot(4) {
            let holds = |(start, len): &(u64, usize)| (*start..start + *len as u64).contains(&pos);
            if read[store].iter().any(holds) {
                self.excuses.insert(store);
            }
        }
        self.audit_rotten();
        Ok(())
    }

    /// Flips fewer than so many bits of each store; says where.
    fn rot(&mut self, bits: u64) -> Vec<(usize, u64)> {
        self.shared.rotten = true;
        let mut places = Vec::new();
        for store in 0..self.node.disks.len() {
            for _ in 0..self.rng.below(bits) {
                if let Some(pos) = self.node.disks[store].rot(&mut self.rng) {
                    self.trace.note(self.time, What::Rot, store as u64, pos);
                    places.push((store, pos));
                }
            }
        }
        places
    }

    /// Everything is read once more: served right or refused, never wrong and never in silence.
    fn audit_rotten(&mut self) {
        self.phase_since = self.time;
        self.add_client(Box::new(Talk::new(Auditor::default())));
    }

    fn start_node(&mut self) -> Result<(), Violation> {
        let shards = if self.plan.shards_change && self.node.starts > 0 {
            1 + self.rng.below(4) as u16
        } else {
            self.plan.shards
        };
        let busy = self.shared.phase == Phase::Busy;
        let cut = busy && self.plan.faults.crash > 0 && self.rng.chance(1, 4);
        let started = self
            .node
            .start(self.time, &self.plan, shards, cut, &mut self.rng);
        let lengths = match started {
            Ok(Some(lengths)) => lengths,
            Ok(None) => {
                self.trace.note(self.time, What::CutStart, 0, 0);
                self.restart_soon();
                return Ok(());
            }
            // Damage was noticed, which is all that is asked for.
            Err((store, why)) if self.excuses.contains(&store) => return self.damage_noticed(&why),
            Err((_, why)) if self.shared.rotten => return violated("NoRefusalWithoutCause", why),
            Err((_, why)) => return violated("RecoverySucceeds", why),
        };
        if std::mem::replace(&mut self.shards, shards) != shards && self.node.starts > 1 {
            self.trace
                .note(self.time, What::Resharded, u64::from(shards), 0);
        }
        self.shared.starts = self.node.starts;
        for (store, len) in lengths.into_iter().enumerate() {
            self.trace
                .note(self.time, What::Recovered, store as u64, len);
        }
        let stores = self.node.disks.len() as u64;
        self.trace
            .note(self.time, What::Start, u64::from(shards), stores);
        for shard in 0..self.node.shards.len() {
            self.shard_input(shard, Input::Start)?;
        }
        Ok(())
    }

    /// The damaged node does not start, and says why: the run is over.
    fn damage_noticed(&mut self, why: &str) -> Result<(), Violation> {
        self.trace
            .say(self.time, || format!("damage noticed: {why}"));
        self.clients.clear();
        Ok(())
    }

    /// Cuts a connection. Requests on their way may still arrive; answers do not.
    fn cut_one(&mut self) {
        let Some(id) = self.net.nth(self.rng.next_u64()) else {
            return;
        };
        let lost = self.rng.chance(1, 2);
        self.end_conn(id, lost);
    }

    /// A connection ends, and both sides will learn of it.
    fn end_conn(&mut self, id: ConnId, requests_lost: bool) {
        let delay = self.delay(self.plan.delays.net);
        let at = self.time + self.delay(self.plan.delays.net);
        let Some(conn) = self.net.get(id).filter(|conn| !conn.client_gone) else {
            return;
        };
        conn.client_gone = true;
        conn.requests_lost = requests_lost;
        let (client, conn_at) = (conn.client, conn.shard_gets_at(self.time + delay));
        self.trace.note(self.time, What::Cut, client as u64, id.0);
        self.events.add(conn_at, Event::Closed { conn: id });
        let conn = Some(id);
        self.events.add(at, Event::Cut { client, conn });
    }

    /// A duration of up to `most` ns, short ones more often.
    fn delay(&mut self, most: u64) -> u64 {
        let short = self.rng.chance(3, 4);
        1 + self.rng.below(if short { most / 4 + 1 } else { most + 1 })
    }

    /// Lets a client act.
    fn with_client(&mut self, client: usize, act: impl FnOnce(&mut dyn Client, &mut Ctx<'_>)) {
        let mut acts = Vec::new();
        if let Some((it, _)) = self.clients.get_mut(client) {
            let mut ctx = Ctx {
                now: self.node.clock.now(self.time),
                rng: &mut self.rng,
                shared: &mut self.shared,
                oracle: &mut self.oracle,
                acts: &mut acts,
            };
            act(it.as_mut(), &mut ctx);
        }
        for act in acts {
            self.perform_act(client, act);
        }
    }

    fn perform_act(&mut self, client: usize, act: Act) {
        match act {
            Act::Connect { after, to } => {
                let to = to.filter(|_| self.plan.config.is_direct());
                self.events
                    .add(self.time + after, Event::Connect { client, to });
            }
            Act::Timer { after, token } => {
                self.events
                    .add(self.time + after, Event::Timer { client, token });
            }
            Act::Send { frame, answered } => {
                let delay = self.delay(self.plan.delays.net);
                let id = self.clients[client].1;
                if let Some((id, conn)) = id.and_then(|id| Some((id, self.net.get(id)?))) {
                    let at = conn.shard_gets_at(self.time + delay);
                    conn.on_the_way.push_back(answered);
                    self.events.add(at, Event::Request { conn: id, frame });
                }
            }
            Act::Disconnect => {
                if let Some(id) = self.clients[client].1.take() {
                    self.end_conn(id, false);
                }
            }
        }
    }
}

fn violated<T>(invariant: &'static str, what: String) -> Result<T, Violation> {
    Err(Violation { invariant, what })
}
