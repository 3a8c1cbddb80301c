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

/// A pure state machine of one node.
pub trait Machine: Sized {
    /// What it tells others, and is told.
    type Message: Clone + Debug;
    /// What outlives its process.
    type Durable: Clone + Default + Debug;

    /// A process starts, the `me`-th of so many nodes, with what the ones before it made durable.
    fn start(me: usize, nodes: usize, durable: &Self::Durable) -> Self;

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
}

struct Node<M: Machine> {
    process: Option<M>,
    starts: u32,
    clock: Clock,
    durable: M::Durable,
    flushes: VecDeque<Flush<M>>,
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
    /// What happened.
    pub trace: Trace,
}

impl<M: Machine> Cluster<M> {
    /// So many nodes and users.
    pub fn new(seed: u64, nodes: usize, users: usize) -> Self {
        let mut rng = Rng::new(seed);
        let mut events = Queue::new(Rng::new(rng.next_u64()));
        for node in 0..nodes {
            events.add(1, Event::Start { node });
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
                })
                .collect(),
            users,
            trace: Trace::new(false),
            events,
            rng,
        }
    }

    /// Lets so many things happen, one in a hundred of which goes wrong.
    pub fn run(&mut self, steps: u64, users: &mut impl Users<M>) -> Result<(), String> {
        for _ in 0..steps {
            let Some((time, event)) = self.events.take() else {
                return Err("nothing is going to happen any more".into());
            };
            self.time = time.max(self.time);
            self.handle(event, users)?;
            if self.rng.chance(1, 100) {
                self.go_wrong();
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Event<M>, users: &mut impl Users<M>) -> Result<(), String> {
        match event {
            Event::Start { node } => {
                let all = self.nodes.len();
                let it = &mut self.nodes[node];
                it.starts += 1;
                it.clock.start(self.time);
                it.process = Some(M::start(node, all, &it.durable));
                self.note(node, What::Start, 0);
            }
            Event::Flushed { node, start } if self.nodes[node].starts == start => {
                let it = &mut self.nodes[node];
                if let Some(Flush { durable, told }) = it.flushes.pop_front() {
                    it.durable = durable;
                    self.note(node, What::DiskDone, told.len() as u64);
                    for (to, message) in told {
                        self.send(End::Node(node), to, message);
                    }
                }
            }
            Event::Flushed { .. } => {}
            Event::Tick { node } => {
                let it = &mut self.nodes[node];
                let now = it.clock.now(self.time);
                let effects = it.process.as_mut().map(|process| process.tick(now));
                for effect in effects.into_iter().flatten() {
                    self.perform(node, effect);
                }
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
        let node = match to {
            End::Client(user) => return users.told(self.time, user, message),
            End::Node(node) => node,
        };
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
        Ok(())
    }

    fn perform(&mut self, node: usize, effect: Effect<M>) {
        match effect {
            Effect::Persist(durable) => {
                let it = &mut self.nodes[node];
                let told = Vec::new();
                it.flushes.push_back(Flush { durable, told });
                let start = it.starts;
                let at = self.time + delay(&mut self.rng, 5 * MS);
                self.events.add(at, Event::Flushed { node, start });
            }
            Effect::Send(to, message) => self.send(End::Node(node), to, message),
            Effect::SendWhenDurable(to, message) => match self.nodes[node].flushes.back_mut() {
                Some(flush) => flush.told.push((to, message)),
                None => self.send(End::Node(node), to, message),
            },
        }
    }

    /// What is sent on a way that is shut may wait for it to open, or be gone with the connection.
    fn send(&mut self, from: End, to: End, message: M::Message) {
        if self.net.is_shut(self.time, from, to) && self.rng.chance(1, 2) {
            return;
        }
        let at = self.net.arrival(self.time, from, to, &mut self.rng);
        let link = self.links.entry((from, to)).or_default();
        let event = Event::Arrives {
            from,
            to,
            message,
            link: link.broken,
        };
        self.events.add(link.stream.arrives_at(at), event);
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
        match self.rng.below(4) {
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
            _ => {
                self.note(node, What::Cut, 0);
                for way in [(here, other), (other, here)] {
                    self.links.entry(way).or_default().broken += 1;
                }
            }
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
