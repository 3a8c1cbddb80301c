//! The loop: takes events in the order of virtual time, lets the nodes and the
//! clients act on them, makes things go wrong, and asks the oracle after each.

use bytes::Bytes;

use super::clients::{
    Act, Auditor, Churn, Client, Committer, Consumer, Ctx, Lookup, Member, Phase, Producer, Setup,
    Shared, Talk, Transactor, Truncator,
};
use super::clock::{MS, delay};
use super::committed::Committed;
use super::conns::Socket;
use super::counts::Counts;
use super::fact::{Address, Fact, Process};
use super::links::Links;
use super::net::Net;
use super::node::{Core, Node, State};
use super::oracle::{Oracle, Violation};
use super::plan::{Options, Plan};
use super::queue::Queue;
use super::trace::Trace;
use super::what::What;
use crate::base::PageBuf;
use crate::base::{Rng, StoreId};
use crate::broker::{Input, LinkLost, Output, ReadId};
use crate::store::{IoId, Left, Piece};

mod cluster;
mod faults;
mod peers;
mod perform;
mod traffic;

/// A request must be answered within this time while its node is up.
const ANSWER_MS_MAX: u64 = 60_000;
/// How long a node may have bytes of a request that is answered, or is not to be: what is produced has to be written,
/// whoever is gone, and with a full ring that waits for a checkpoint of many megabytes on a slow disk.
const KEPT_MS_MAX: u64 = 5000;
/// A start, a shutdown and the end of a run must each be over within this time.
const TRANSITION_MS_MAX: u64 = 60_000;
/// Every so many events it is looked whether something takes too long, and the watermarks are told.
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
    let damaged = world.shared.damaged.len() as u32 + world.shared.groups_lost;
    let seen = [
        (What::Full, world.shared.refused),
        (What::DamageRead, damaged),
    ];
    for (what, times) in seen.into_iter().filter(|(_, times)| *times > 0) {
        world
            .trace
            .note(world.time, None, what, u64::from(times), 0);
    }
    Outcome {
        violation,
        hash: world.trace.hash(),
        counts: world.counts(),
        last_events: world.trace.last_events(),
    }
}

/// Something that happens. What is for a core is void when its node is gone or has started again.
#[derive(Debug)]
enum Event {
    /// An input reaches a shard.
    Input { core: Core, input: Input },
    /// A shard is told that nothing is waiting.
    Idle { core: Core },
    /// The time that a shard wanted to be woken at.
    Wake { core: Core },
    /// A disk operation ends.
    DiskDone {
        core: Core,
        store: StoreId,
        id: IoId,
        errno: Option<i32>,
        /// Whether it only writes zeroes, ahead of use.
        ahead: bool,
    },
    /// A read ends.
    ReadDone {
        core: Core,
        id: ReadId,
        pieces: Vec<Piece>,
    },
    /// A request reaches its shard.
    Request { socket: Socket, frame: Bytes },
    /// A shard learns that a connection is gone.
    Closed { socket: Socket },
    /// A client wants to connect.
    Connect { client: usize, to: Option<Address> },
    /// A client's connection is there.
    Connected { client: usize, socket: Socket },
    /// An answer reaches its client.
    Answer { socket: Socket, pieces: Vec<Piece> },
    /// A client learns that its connection is gone, or was refused.
    Cut {
        client: usize,
        socket: Option<Socket>,
    },
    /// A client gives up a connection whose way is shut.
    GiveUp { socket: Socket },
    /// A client's timer.
    Timer { client: usize, token: u64 },
    /// A node is to start.
    Start { node: usize },
    /// A node is asked for a connection, by the number of the link.
    Dialled { link: usize },
    /// A link does not come to be.
    LinkFails { link: usize, why: LinkLost },
    /// Bytes of a link have left.
    LinkSent { link: usize, bytes: usize },
}

/// What a run does after its clients are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// They are not done yet.
    Not,
    /// Everything is read again after a crash.
    Audit,
    /// The nodes shut down so that their stores can be damaged.
    ShutDown,
    /// Everything is read again from damaged stores.
    RottenAudit,
}

/// A client and where it is.
#[derive(Debug)]
struct Seat {
    client: Box<dyn Client>,
    /// Its connection.
    socket: Option<Socket>,
    /// The node that it has connected to last: its machine shows the time of that one.
    node: usize,
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
    nodes: Vec<Node>,
    net: Net,
    links: Links,
    /// Until when nothing happens to a link.
    links_spared: u64,
    /// What is known to be committed of the metadata, by all nodes.
    committed: Committed,
    seats: Vec<Seat>,
    shared: Shared,
    oracle: Oracle,
    trace: Trace,
    ending: Ending,
    /// How many partitions the bits that were flipped may have damaged; `None` before.
    damaged_max: Option<usize>,
    /// When the phase or the ending began.
    phase_since: u64,
    /// From which event on clients have all that they need.
    busy_from: u64,
    outputs: Vec<Output>,
}

impl World {
    fn new(seed: u64, options: &Options) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng, options);
        let mut world = Self::without_clients(plan, rng, options);
        if world.plan.has_clients() {
            world.hire();
        }
        world
    }

    /// The machines of a plan, and nobody who uses them.
    fn without_clients(plan: Plan, mut rng: Rng, options: &Options) -> Self {
        let wall_ms = 1_700_000_000_000 + rng.below(1 << 30) as i64;
        let mut world = Self {
            nodes: (0..plan.nodes)
                .map(|number| Node::new(number, &plan, wall_ms))
                .collect(),
            events: Queue::new(Rng::new(rng.next_u64())),
            net: Net::new(plan.delays.net),
            links: Links::default(),
            links_spared: 0,
            committed: Committed::default(),
            seats: Vec::new(),
            shared: Shared::new(plan.config.is_direct(), plan.topics.len(), plan.nodes),
            oracle: Oracle::default(),
            trace: Trace::new(options.verbose),
            ending: Ending::Not,
            damaged_max: None,
            phase_since: 0,
            busy_from: 0,
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
        for node in 0..world.nodes.len() {
            world.events.add(1, Event::Start { node });
        }
        world
    }

    /// Makes the clients of the plan.
    fn hire(&mut self) {
        let plan = self.plan.clone();
        let mut clients: Vec<Box<dyn Client>> = vec![Box::new(Talk::new(Setup::new(plan.topics)))];
        for number in 0..plan.idempotent {
            let producer = Producer::new(number, None, plan.value_bytes_max, &mut self.rng);
            clients.push(Box::new(producer));
        }
        for (number, acks) in (100..).zip(plan.plain) {
            let producer = Producer::new(number, Some(acks), plan.value_bytes_max, &mut self.rng);
            clients.push(Box::new(producer));
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
            let churn = Churn::new(200 + number, &name, plan.replicas);
            clients.push(Box::new(Talk::new(churn)));
        }
        for number in 0..plan.crowds {
            let name = format!("crowd-{number}");
            clients.push(Box::new(Talk::new(Churn::crowd(300 + number, &name))));
        }
        for (number, id) in (400..).zip(plan.transactors) {
            let transactor = Transactor::new(id, number, plan.value_bytes_max, &mut self.rng);
            clients.push(Box::new(Talk::new(transactor)));
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
        self.seats.push(Seat {
            client,
            socket: None,
            node: 0,
        });
        let client = self.seats.len() - 1;
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
        self.replicas_keep_up()?;
        for number in 0..self.nodes.len() {
            self.tell_watermarks(number);
            let node = &mut self.nodes[number];
            let over_for = self.time.saturating_sub(KEPT_MS_MAX * MS);
            if let Some(request) = node.conns.kept(over_for) {
                let what = format!("node {number}: still has bytes of {request:?}");
                return violated("RequestsAreLetGo", what);
            }
            let since = self.time.saturating_sub(node.since) / MS;
            match node.state {
                State::Starting | State::Stopping if since > TRANSITION_MS_MAX => {
                    let what = format!("node {number}: {:?} for {since} ms", node.state);
                    return violated("Progress", what);
                }
                State::Up => {
                    if let Some((conn, request)) = node.conns.longest_waiting()
                        && self.time.saturating_sub(request.since) > ANSWER_MS_MAX * MS
                    {
                        let what = format!("node {number}, {conn:?}: no answer to {request:?}");
                        return violated("Progress", what);
                    }
                }
                State::Down | State::Starting | State::Stopping => {}
            }
        }
        Ok(())
    }

    fn tell_watermarks(&mut self, node: usize) {
        let oracle = &mut self.oracle;
        let start = match self.plan.is_cluster() {
            true => self.nodes[node].starts,
            false => 0,
        };
        let of = Process { node, start };
        let reigns = &self.shared.reigns;
        self.nodes[node].watermarks(|log, offset, _| {
            let is_behind = reigns.is_behind(log, node);
            oracle.tell(Fact::ShardWatermark {
                of,
                log,
                offset,
                is_behind,
            });
        });
    }

    fn are_up(&self) -> bool {
        self.nodes.iter().all(|node| node.state == State::Up)
    }

    /// Enters the next phase when the one at hand is over; true at the end of the run.
    fn get_on(&mut self) -> Result<bool, Violation> {
        self.not_in_circles()?;
        let events = self.trace.events();
        let clients_done = self.seats.iter().all(|seat| seat.client.is_done());
        match self.shared.phase {
            Phase::Busy => {
                // A cluster is busy with itself until it has formed.
                if !self.shared.is_set_up() && self.plan.is_cluster() {
                    self.busy_from = events;
                }
                let is_over = self.shared.is_set_up() && events >= self.busy_from + self.steps;
                if is_over || events >= 20 * self.steps {
                    self.enter(Phase::Quiet);
                    self.net.open_all();
                }
                return Ok(false);
            }
            _ if !clients_done => {
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
            Ending::Not if self.are_up() => {
                if !self.are_of_one_mind()? {
                    return Ok(false);
                }
                self.enter(Phase::Audit);
                self.ending = Ending::Audit;
                for node in 0..self.nodes.len() {
                    self.crash(node);
                    self.restart_soon(node);
                }
                self.add_client(Box::new(Talk::new(Auditor::default())));
            }
            // The auditor may have found all that it looked for on another node.
            Ending::Audit if self.nodes.iter().any(|node| node.state != State::Up) => {}
            Ending::Audit if self.plan.rot_live => {
                self.ending = Ending::RottenAudit;
                for node in 0..self.nodes.len() {
                    let bits = self.rot(node, 64).len();
                    self.may_damage(bits);
                }
                self.audit_rotten();
            }
            // One that is still starting cannot be stopped.
            Ending::Audit if self.plan.rot && !self.are_up() => {}
            Ending::Audit if self.plan.rot => {
                self.ending = Ending::ShutDown;
                for node in 0..self.nodes.len() {
                    self.shut_down(node);
                }
            }
            Ending::Audit | Ending::RottenAudit => return self.rot_is_confined().map(|()| true),
            Ending::Not | Ending::ShutDown => {}
        }
        Ok(false)
    }

    /// What the clients do that are not done.
    fn busy(&self) -> String {
        let states: Vec<State> = self.nodes.iter().map(|node| node.state).collect();
        let busy = self.seats.iter().filter(|seat| !seat.client.is_done());
        let busy: Vec<String> = busy.map(|seat| seat.client.doing()).collect();
        format!("{states:?}, waiting for:\n{}", busy.join("\n"))
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
        self.trace
            .note(self.time, None, What::Phase, phase as u64, 0);
        self.shared.phase = phase;
        self.phase_since = self.time;
    }

    /// Notes what happens at a node.
    fn note(&mut self, node: usize, what: What, a: u64, b: u64) {
        self.trace.note(self.time, Some(node), what, a, b);
    }

    /// A duration of up to `most` ns, short ones more often.
    fn delay(&mut self, most: u64) -> u64 {
        delay(&mut self.rng, most)
    }

    fn start_node(&mut self, number: usize) -> Result<(), Violation> {
        let node = &mut self.nodes[number];
        let shards = if self.plan.shards_change && node.starts > 0 {
            1 + self.rng.below(4) as u16
        } else {
            self.plan.shards
        };
        let busy = self.shared.phase == Phase::Busy;
        let cut = busy && self.plan.faults.crash > 0 && self.rng.chance(1, 4);
        let started = node.start(self.time, &self.plan, shards, cut, &mut self.rng);
        let (starts, stores) = (node.starts, node.disks.len() as u64);
        let opened = match started {
            Ok(Some(opened)) => opened,
            Ok(None) => {
                self.note(number, What::CutStart, 0, 0);
                self.oracle.tell(Fact::StartCut { node: number });
                self.restart_soon(number);
                return Ok(());
            }
            // Damage was noticed, which is all that is asked for.
            Err((store, why)) if node.excuses.contains(&store) => {
                self.note(number, What::StartRefused, store as u64, 0);
                self.damage_noticed(&why);
                return Ok(());
            }
            Err((_, why)) if self.shared.rotten => return violated("NoRefusalWithoutCause", why),
            Err((_, why)) => return violated("RecoverySucceeds", why),
        };
        let before = node.last_shards.replace(shards);
        if before.is_some_and(|before| before != shards) {
            self.note(number, What::Resharded, u64::from(shards), 0);
        }
        self.shared.lives[number].starts = starts;
        if !opened.is_empty() && !self.shared.rotten {
            let clean = opened.iter().all(|store| store.left == Left::Stopped);
            self.oracle.tell(Fact::Restarted {
                node: number,
                clean,
            });
        }
        for (store, opened) in opened.into_iter().enumerate() {
            self.note(number, What::Recovered, store as u64, opened.len);
            if opened.rot > 0 {
                self.note(number, What::RotFound, store as u64, opened.rot as u64);
            }
        }
        self.note(number, What::Start, u64::from(shards), stores);
        for shard in 0..self.nodes[number].shards.len() {
            let core = self.nodes[number].core(shard);
            self.shard_input(core, Input::Start)?;
        }
        Ok(())
    }

    /// A damaged node does not start, or stops, and says why: the run is over.
    fn damage_noticed(&mut self, why: &str) {
        self.trace
            .say(self.time, || format!("damage noticed: {why}"));
        self.seats.clear();
    }

    /// Lets a client act.
    fn with_client(&mut self, client: usize, act: impl FnOnce(&mut dyn Client, &mut Ctx<'_>)) {
        let mut acts = Vec::new();
        if let Some(seat) = self.seats.get_mut(client) {
            let mut ctx = Ctx {
                now: self.nodes[seat.node].clock.now(self.time),
                node: seat.node,
                rng: &mut self.rng,
                shared: &mut self.shared,
                oracle: &mut self.oracle,
                acts: &mut acts,
            };
            act(seat.client.as_mut(), &mut ctx);
        }
        for act in acts {
            self.perform_act(client, act);
        }
    }

    fn perform_act(&mut self, client: usize, act: Act) {
        match act {
            Act::Connect { after, to } => {
                let named = self.plan.config.is_direct() || self.plan.is_cluster();
                let to = to.filter(|_| named);
                self.events
                    .add(self.time + after, Event::Connect { client, to });
            }
            Act::Timer { after, token } => {
                self.events
                    .add(self.time + after, Event::Timer { client, token });
            }
            Act::Send { frame, answered } => self.send(client, frame, answered),
            Act::Disconnect => {
                if let Some(socket) = self.seats[client].socket.take() {
                    self.end_conn(socket, false);
                }
            }
        }
    }
}

fn violated<T>(invariant: &'static str, what: String) -> Result<T, Violation> {
    Err(Violation { invariant, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They are strangers to each other, but the world has to keep them apart in everything that it does.
    #[test]
    fn two_nodes_start_crash_shut_down_and_rot_each_by_itself() {
        for seed in 0..6 {
            let options = Options {
                steps: 3000,
                ..Options::default()
            };
            let mut rng = Rng::new(seed);
            let mut plan = Plan::new(&mut rng, &options);
            (plan.nodes, plan.topics) = (2, Vec::new());
            (
                plan.faults.crash,
                plan.faults.shutdown,
                plan.faults.wall_jump,
            ) = (200, 400, 300);
            (plan.rot, plan.rot_live) = (true, seed % 2 == 0);
            let mut world = World::without_clients(plan, rng, &options);
            let result = world.run();
            assert!(
                result.is_ok(),
                "seed {seed}: {result:?}\n{}",
                world.trace.last_events()
            );
            let starts: Vec<u32> = world.nodes.iter().map(|node| node.starts).collect();
            assert!(
                starts.iter().all(|starts| *starts > 3),
                "seed {seed}: {starts:?}"
            );
            assert_eq!(world.ending, Ending::RottenAudit, "seed {seed}");
        }
    }
}
