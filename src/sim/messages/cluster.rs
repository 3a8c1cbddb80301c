//! Machines that talk to each other and to users: each has one process that may
//! stop at any moment, and a state that outlives it as far as it was made durable.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;

use crate::base::{Now, Rng};
use crate::sim::clock::{Clock, MS, delay};
use crate::sim::net::{End, Net, Stream};
use crate::sim::queue::Queue;
use crate::sim::trace::Trace;
use crate::sim::what::What;

/// How long a process is gone.
const DOWN_MAX: u64 = 200 * MS;
/// The longest time for which a way is shut.
const SHUT_MAX: u64 = 500 * MS;
/// Users act about so often.
const PACE_MAX: u64 = 10 * MS;

/// Processes look at their clock about so often.
const TICK_MAX: u64 = 20 * MS;
/// The longest time for which a process stands still.
const PAUSE_MAX: u64 = 400 * MS;

/// What may go wrong besides crashes, cuts and ways that are shut.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Of a thousand messages, so many are lost.
    pub lost: u64,
    /// Of those between nodes, so many arrive twice.
    pub repeated: u64,
    /// So many take longer than those behind them.
    pub reordered: u64,
    /// Processes stand still for a while and do not know, and nodes are cut off from all others.
    pub pauses: bool,
    /// So many disks lose all that they had.
    pub wipes: u32,
    /// A node is started at this time only.
    pub late: Option<(usize, u64)>,
    /// Of so many steps one more goes wrong; none for 0.
    pub often: u64,
}

/// A pure state machine of one node.
pub trait Machine: Sized {
    /// What it tells others, and is told.
    type Message: Clone + Debug;
    /// What outlives its process.
    type Durable: Clone + Default + Debug;

    /// A process starts, the `me`-th of so many nodes, with what the ones before it made durable.
    fn start(me: usize, nodes: usize, durable: &Self::Durable) -> Self;

    /// The same with something to draw from.
    fn start_with(me: usize, nodes: usize, durable: &Self::Durable, _seed: u64) -> Self {
        Self::start(me, nodes, durable)
    }

    /// What is durable when the disk has lost everything.
    fn wiped(_durable: &Self::Durable) -> Self::Durable {
        Self::Durable::default()
    }

    /// It is told something.
    fn take(&mut self, now: Now, from: End, message: Self::Message) -> Vec<Effect<Self>>;

    /// Time has passed.
    fn tick(&mut self, _now: Now) -> Vec<Effect<Self>> {
        Vec::new()
    }
}

/// What a machine wants done, in this order.
#[derive(Debug)]
pub enum Effect<M: Machine> {
    /// Make this durable, in place of what was.
    Persist(M::Durable),
    /// Tell somebody now.
    Send(End, M::Message),
    /// Tell somebody when all that is to be persisted so far is durable.
    SendWhenDurable(End, M::Message),
    /// Be told when all that is to be persisted so far is durable.
    TellWhenDurable(M::Message),
}

/// Who uses the machines, and judges what they say.
pub trait Users<M: Machine> {
    /// A user's turn has come. Says what it tells which node.
    fn act(&mut self, time: u64, user: usize, rng: &mut Rng) -> Option<(usize, M::Message)>;

    /// A user was told something by a node.
    ///
    /// # Errors
    /// What is wrong with it.
    fn told(&mut self, time: u64, user: usize, message: M::Message) -> Result<(), String>;

    /// A machine has started, or has been told something.
    ///
    /// # Errors
    /// What is wrong with it.
    fn saw(&mut self, _time: u64, _node: usize, _machine: &mut M) -> Result<(), String> {
        Ok(())
    }
}

enum Event<M: Machine> {
    /// Void if the link has broken since.
    Arrives {
        from: End,
        to: End,
        message: M::Message,
        link: u32,
    },
    Flushed {
        node: usize,
        start: u32,
    },
    Act {
        user: usize,
    },
    Start {
        node: usize,
    },
    Tick {
        node: usize,
    },
    /// What the process with this number wanted to be told.
    Told {
        node: usize,
        start: u32,
        message: M::Message,
    },
    Resumes {
        node: usize,
        start: u32,
    },
}

/// One direction of what two ends tell each other.
#[derive(Default)]
struct Link {
    stream: Stream,
    /// How often it has broken.
    broken: u32,
}

/// A state on its way to the disk.
struct Flush<M: Machine> {
    durable: M::Durable,
    /// What is to be told, and to whom, when it is there.
    told: Vec<(End, M::Message)>,
    /// What the process itself is to be told then.
    own: Vec<M::Message>,
}

struct Node<M: Machine> {
    process: Option<M>,
    starts: u32,
    clock: Clock,
    durable: M::Durable,
    flushes: VecDeque<Flush<M>>,
    /// What a process that stands still will see when it goes on.
    held: Option<Vec<Event<M>>>,
}

/// See the module.
pub struct Cluster<M: Machine> {
    rng: Rng,
    time: u64,
    events: Queue<Event<M>>,
    net: Net,
    links: BTreeMap<(End, End), Link>,
    nodes: Vec<Node<M>>,
    users: usize,
    faults: Faults,
    is_calm: bool,
    seeds: Rng,
    /// What happened.
    pub trace: Trace,
}

impl<M: Machine> Cluster<M> {
    /// So many nodes and users.
    pub fn new(seed: u64, nodes: usize, users: usize) -> Self {
        Self::with(seed, nodes, users, Faults::default())
    }

    /// The same where more goes wrong.
    pub fn with(seed: u64, nodes: usize, users: usize, faults: Faults) -> Self {
        let mut rng = Rng::new(seed);
        let mut events = Queue::new(Rng::new(rng.next_u64()));
        for node in 0..nodes {
            let late = faults.late.filter(|(late, _)| *late == node);
            events.add(late.map_or(1, |(_, at)| at), Event::Start { node });
            events.add(2, Event::Tick { node });
        }
        for user in 0..users {
            events.add(1 + rng.below(PACE_MAX), Event::Act { user });
        }
        let clock = |rng: &mut Rng| Clock::new(rng.below(1 << 30) as i64);
        Self {
            time: 0,
            net: Net::new(3 * MS),
            links: BTreeMap::new(),
            nodes: (0..nodes)
                .map(|_| Node {
                    process: None,
                    starts: 0,
                    clock: clock(&mut rng),
                    durable: M::Durable::default(),
                    flushes: VecDeque::new(),
                    held: None,
                })
                .collect(),
            users,
            faults,
            is_calm: false,
            seeds: Rng::new(!seed),
            trace: Trace::new(false),
            events,
            rng,
        }
    }

    /// Lets so many things happen, one in a hundred of which goes wrong.
    pub fn run(&mut self, steps: u64, users: &mut impl Users<M>) -> Result<(), String> {
        (0..steps).try_for_each(|_| self.step(users))
    }

    /// Nothing goes wrong any more; what has goes on for a while.
    pub fn calm(&mut self) {
        self.is_calm = true;
        self.net.open_all();
    }

    /// Lets happen what does within such a time.
    pub fn run_for(&mut self, time: u64, users: &mut impl Users<M>) -> Result<(), String> {
        let until = self.time + time;
        while self.time < until {
            self.step(users)?;
        }
        Ok(())
    }

    fn step(&mut self, users: &mut impl Users<M>) -> Result<(), String> {
        let Some((time, event)) = self.events.take() else {
            return Err("nothing is going to happen any more".into());
        };
        self.time = time.max(self.time);
        self.handle(event, users)?;
        let often = self.faults.often;
        let more = |rng: &mut Rng| often > 0 && rng.chance(1, often);
        if !self.is_calm && (self.rng.chance(1, 100) || more(&mut self.rng)) {
            self.go_wrong();
        }
        Ok(())
    }

    /// What a process that stands still does not see yet.
    fn hold(&mut self, event: Event<M>) -> Option<Event<M>> {
        let node = match &event {
            Event::Arrives {
                to: End::Node(node),
                ..
            }
            | Event::Flushed { node, .. }
            | Event::Told { node, .. } => *node,
            _ => return Some(event),
        };
        match &mut self.nodes[node].held {
            Some(held) => held.push(event),
            None => return Some(event),
        }
        None
    }

    fn handle(&mut self, event: Event<M>, users: &mut impl Users<M>) -> Result<(), String> {
        let Some(event) = self.hold(event) else {
            return Ok(());
        };
        match event {
            Event::Start { node } => {
                let (all, seed) = (self.nodes.len(), self.seeds.next_u64());
                let it = &mut self.nodes[node];
                it.starts += 1;
                it.clock.start(self.time);
                it.process = Some(M::start_with(node, all, &it.durable, seed));
                self.note(node, What::Start, 0);
                self.see(node, users)?;
            }
            Event::Flushed { node, start } if self.nodes[node].starts == start => {
                let it = &mut self.nodes[node];
                if let Some(Flush { durable, told, own }) = it.flushes.pop_front() {
                    it.durable = durable;
                    self.note(node, What::DiskDone, told.len() as u64);
                    for (to, message) in told {
                        self.send(End::Node(node), to, message);
                    }
                    for message in own {
                        self.tell(End::Node(node), node, message, users)?;
                    }
                }
            }
            Event::Flushed { .. } => {}
            Event::Told {
                node,
                start,
                message,
            } if self.nodes[node].starts == start => {
                self.tell(End::Node(node), node, message, users)?;
            }
            Event::Told { .. } => {}
            Event::Resumes { node, start } if self.nodes[node].starts == start => {
                for event in self.nodes[node].held.take().into_iter().flatten() {
                    self.handle(event, users)?;
                }
            }
            Event::Resumes { .. } => {}
            Event::Tick { node } => {
                let it = &mut self.nodes[node];
                let now = it.clock.now(self.time);
                let process = it.process.as_mut().filter(|_| it.held.is_none());
                let effects = process.map(|process| process.tick(now));
                for effect in effects.into_iter().flatten() {
                    self.perform(node, effect);
                }
                self.see(node, users)?;
                let at = self.time + delay(&mut self.rng, TICK_MAX);
                self.events.add(at, Event::Tick { node });
            }
            Event::Act { user } => {
                if let Some((node, message)) = users.act(self.time, user, &mut self.rng) {
                    self.send(End::Client(user), End::Node(node), message);
                }
                let at = self.time + delay(&mut self.rng, PACE_MAX);
                self.events.add(at, Event::Act { user });
            }
            Event::Arrives {
                from,
                to,
                message,
                link,
            } => {
                if self.links[&(from, to)].broken == link {
                    self.arrives(from, to, message, users)?;
                }
            }
        }
        Ok(())
    }

    fn arrives(
        &mut self,
        from: End,
        to: End,
        message: M::Message,
        users: &mut impl Users<M>,
    ) -> Result<(), String> {
        match to {
            End::Client(user) => users.told(self.time, user, message),
            End::Node(node) => self.tell(from, node, message, users),
        }
    }

    fn tell(
        &mut self,
        from: End,
        node: usize,
        message: M::Message,
        users: &mut impl Users<M>,
    ) -> Result<(), String> {
        let it = &mut self.nodes[node];
        let now = it.clock.now(self.time);
        let Some(process) = &mut it.process else {
            return Ok(());
        };
        let effects = process.take(now, from, message);
        self.note(node, What::Input, effects.len() as u64);
        for effect in effects {
            self.perform(node, effect);
        }
        self.see(node, users)
    }

    fn see(&mut self, node: usize, users: &mut impl Users<M>) -> Result<(), String> {
        match &mut self.nodes[node].process {
            Some(machine) => users.saw(self.time, node, machine),
            None => Ok(()),
        }
    }

    fn perform(&mut self, node: usize, effect: Effect<M>) {
        match effect {
            Effect::Persist(durable) => {
                let it = &mut self.nodes[node];
                let (told, own) = (Vec::new(), Vec::new());
                it.flushes.push_back(Flush { durable, told, own });
                let start = it.starts;
                let at = self.time + delay(&mut self.rng, 5 * MS);
                self.events.add(at, Event::Flushed { node, start });
            }
            Effect::Send(to, message) => self.send(End::Node(node), to, message),
            Effect::SendWhenDurable(to, message) => match self.nodes[node].flushes.back_mut() {
                Some(flush) => flush.told.push((to, message)),
                None => self.send(End::Node(node), to, message),
            },
            Effect::TellWhenDurable(message) => {
                let it = &mut self.nodes[node];
                let start = it.starts;
                match it.flushes.back_mut() {
                    Some(flush) => flush.own.push(message),
                    None => self.events.add(
                        self.time + 1,
                        Event::Told {
                            node,
                            start,
                            message,
                        },
                    ),
                }
            }
        }
    }

    /// Whether one of a message's faults befalls it, of which so many of a thousand do.
    fn befalls(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && !self.is_calm && self.rng.chance(per_mille, 1_000)
    }

    /// What is sent on a way that is shut may wait for it to open, or be gone with the connection.
    fn send(&mut self, from: End, to: End, message: M::Message) {
        if self.net.is_shut(self.time, from, to) && self.rng.chance(1, 2) {
            return;
        }
        if self.befalls(self.faults.lost) {
            return;
        }
        // A user says a thing once, or it would be another one.
        let is_between_nodes = matches!((from, to), (End::Node(_), End::Node(_)));
        if is_between_nodes && self.befalls(self.faults.repeated) {
            self.send_once(from, to, message.clone());
        }
        self.send_once(from, to, message);
    }

    fn send_once(&mut self, from: End, to: End, message: M::Message) {
        let at = self.net.arrival(self.time, from, to, &mut self.rng);
        let overtaken = self.befalls(self.faults.reordered);
        let link = self.links.entry((from, to)).or_default();
        let event = Event::Arrives {
            from,
            to,
            message,
            link: link.broken,
        };
        let at = match overtaken {
            true => at + delay(&mut self.rng, DOWN_MAX),
            false => link.stream.arrives_at(at),
        };
        self.events.add(at, event);
    }

    fn go_wrong(&mut self) {
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        let ends = (self.nodes.len() + self.users) as u64;
        let other = self.rng.below(ends) as usize;
        let other = match other.checked_sub(self.nodes.len()) {
            Some(user) => End::Client(user),
            None => End::Node(other),
        };
        let (here, until) = (End::Node(node), self.time + delay(&mut self.rng, SHUT_MAX));
        match self.rng.below(4 + 2 * u64::from(self.faults.pauses)) {
            // Of all machines at once, now and then: the power fails.
            0 if self.rng.chance(1, 4) => (0..self.nodes.len()).for_each(|node| self.crash(node)),
            0 => self.crash(node),
            1 => {
                self.note(node, What::ShutToNode, until);
                self.net.shut(other, here, until);
            }
            2 => {
                self.note(node, What::ShutFromNode, until);
                self.net.shut(here, other, until);
            }
            4 => self.pause(node),
            5 => {
                self.note(node, What::ShutFromNode, until);
                for other in (0..self.nodes.len()).map(End::Node) {
                    self.net.shut(here, other, until);
                    self.net.shut(other, here, until);
                }
            }
            _ => {
                self.note(node, What::Cut, 0);
                for way in [(here, other), (other, here)] {
                    self.links.entry(way).or_default().broken += 1;
                }
            }
        }
    }

    /// A process stands still.
    fn pause(&mut self, node: usize) {
        let at = self.time + delay(&mut self.rng, PAUSE_MAX);
        let it = &mut self.nodes[node];
        if it.process.is_some() && it.held.is_none() {
            it.held = Some(Vec::new());
            let start = it.starts;
            self.events.add(at, Event::Resumes { node, start });
        }
    }

    /// A process stops: some of what it had given to the disk is there, in the order in which it was given.
    fn crash(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        if it.process.take().is_none() {
            return;
        }
        let spared = self.rng.below(it.flushes.len() as u64 + 1) as usize;
        if let Some(flush) = it.flushes.drain(..).take(spared).last() {
            it.durable = flush.durable;
        }
        it.held = None;
        if self.faults.wipes > 0 && self.rng.chance(1, 10) {
            self.faults.wipes -= 1;
            it.durable = M::wiped(&it.durable);
        }
        // What it had been asked to make durable before comes to nothing.
        it.starts += 1;
        self.note(node, What::Crash, spared as u64);
        let at = self.time + delay(&mut self.rng, DOWN_MAX);
        self.events.add(at, Event::Start { node });
    }

    fn note(&mut self, node: usize, what: What, a: u64) {
        self.trace.note(self.time, Some(node), what, a, 0);
    }
}
