//! A register that a majority of the nodes holds: whoever wants to read or write it
//! asks a majority for what is newest, and has a majority hold it, or what comes
//! after it, before anybody is told. A read or write then sees what was done before
//! it began, whichever nodes stop or are cut off.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{Cluster, Effect, Machine, Users};
use crate::base::{Now, Rng};
use crate::sim::net::End;
use crate::sim::what::What;

/// Nothing is wrong with it.
const RIGHT: u8 = 0;
/// It says that it holds what is not durable.
const NOT_DURABLE: u8 = 1;
/// A read tells what perhaps a minority holds.
const NOT_HELD: u8 = 2;

/// An attempt: user and number.
type Op = (usize, u64);

/// Which of two values is the newer one: a count, and who wrote it.
type Stamp = (u64, Op);

/// What is in the register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Content {
    stamp: Stamp,
    value: u64,
}

#[derive(Clone, Debug)]
enum Message {
    /// A user reads, or writes a value.
    Begin(Op, Option<u64>),
    Ask(Op),
    Has(Op, Content),
    Hold(Op, Content),
    Holds(Op),
    /// To the user: what it has read or written.
    Done(Op, Content),
}

/// What a node does for a user.
#[derive(Debug)]
struct Task {
    user: End,
    write: Option<u64>,
    newest: Content,
    /// Who has answered what it is at.
    answered: BTreeSet<End>,
    holding: bool,
}

#[derive(Debug)]
struct Register<const FLAW: u8> {
    nodes: usize,
    content: Content,
    tasks: BTreeMap<Op, Task>,
}

impl<const FLAW: u8> Register<FLAW> {
    fn tell_all(&self, message: &Message) -> Vec<Effect<Self>> {
        let all = (0..self.nodes).map(End::Node);
        all.map(|to| Effect::Send(to, message.clone())).collect()
    }

    /// Somebody has answered a task; when a majority has, it goes on.
    fn answered(&mut self, op: Op, from: End, content: Option<Content>) -> Vec<Effect<Self>> {
        let majority = self.nodes / 2 + 1;
        let Some(task) = self.tasks.get_mut(&op) else {
            return Vec::new();
        };
        if task.holding != content.is_none() {
            return Vec::new();
        }
        task.newest = task.newest.max(content.unwrap_or_default());
        task.answered.insert(from);
        if task.answered.len() < majority {
            return Vec::new();
        }
        let reads = task.write.is_none();
        if task.holding || (FLAW == NOT_HELD && reads) {
            let (user, newest) = (task.user, task.newest);
            self.tasks.remove(&op);
            return vec![Effect::Send(user, Message::Done(op, newest))];
        }
        if let Some(value) = task.write {
            let stamp = (task.newest.stamp.0 + 1, op);
            task.newest = Content { stamp, value };
        }
        task.holding = true;
        task.answered.clear();
        let hold = Message::Hold(op, task.newest);
        self.tell_all(&hold)
    }
}

impl<const FLAW: u8> Machine for Register<FLAW> {
    type Message = Message;
    type Durable = Content;

    fn start(_me: usize, nodes: usize, durable: &Content) -> Self {
        Self {
            nodes,
            content: *durable,
            tasks: BTreeMap::new(),
        }
    }

    fn take(&mut self, _now: Now, from: End, message: Message) -> Vec<Effect<Self>> {
        match message {
            Message::Begin(op, write) => {
                let task = Task {
                    user: from,
                    write,
                    newest: Content::default(),
                    answered: BTreeSet::new(),
                    holding: false,
                };
                self.tasks.insert(op, task);
                self.tell_all(&Message::Ask(op))
            }
            Message::Ask(op) => vec![Effect::Send(from, Message::Has(op, self.content))],
            Message::Has(op, content) => self.answered(op, from, Some(content)),
            Message::Hold(op, content) => {
                let mut effects = Vec::new();
                if content > self.content {
                    self.content = content;
                    effects.push(Effect::Persist(content));
                }
                let holds = Message::Holds(op);
                effects.push(if FLAW == NOT_DURABLE {
                    Effect::Send(from, holds)
                } else {
                    Effect::SendWhenDurable(from, holds)
                });
                effects
            }
            Message::Holds(op) => self.answered(op, from, None),
            Message::Done(..) => Vec::new(),
        }
    }
}

/// Users that read and write, one thing at a time, and give up what takes too long.
#[derive(Debug, Default)]
struct Judge {
    /// What each user is at: which attempt, and the newest stamp that anybody was told before it began.
    asking: BTreeMap<usize, (u64, bool, Stamp, u32)>,
    /// The newest that anybody was told.
    newest: Stamp,
    values: BTreeMap<Stamp, u64>,
    attempts: u64,
    done: u64,
}

impl<const FLAW: u8> Users<Register<FLAW>> for Judge {
    fn act(&mut self, _time: u64, user: usize, rng: &mut Rng) -> Option<(usize, Message)> {
        if let Some((.., patience)) = self.asking.get_mut(&user)
            && *patience > 0
        {
            *patience -= 1;
            return None;
        }
        self.attempts += 1;
        let writes = rng.chance(1, 2);
        let asking = (self.attempts, writes, self.newest, 20);
        self.asking.insert(user, asking);
        let write = writes.then_some(self.attempts);
        let begin = Message::Begin((user, self.attempts), write);
        Some((rng.below(5) as usize, begin))
    }

    fn told(&mut self, _time: u64, user: usize, message: Message) -> Result<(), String> {
        let Message::Done((_, attempt), content) = message else {
            return Err(format!("user {user} was told {message:?}"));
        };
        let Some(&(asked, writes, before, _)) = self.asking.get(&user) else {
            return Ok(());
        };
        if asked != attempt {
            return Ok(());
        }
        self.asking.remove(&user);
        self.done += 1;
        let stamp = content.stamp;
        if stamp < before || (writes && stamp == before) {
            return Err(format!("{content:?}, and {before:?} was known before"));
        }
        let known = self.values.entry(stamp).or_insert(content.value);
        if *known != content.value {
            return Err(format!("{content:?}, which was {known}"));
        }
        self.newest = self.newest.max(stamp);
        Ok(())
    }
}

fn run<const FLAW: u8>(seed: u64) -> (Result<(), String>, Judge, Cluster<Register<FLAW>>) {
    let mut cluster = Cluster::new(seed, 5, 3);
    let mut judge = Judge::default();
    let result = cluster.run(20_000, &mut judge);
    (result, judge, cluster)
}

#[test]
fn a_register_shows_what_was_done_before() {
    for seed in 0..30 {
        let (result, judge, cluster) = run::<RIGHT>(seed);
        assert_eq!(result, Ok(()), "seed {seed}");
        assert!(
            judge.done > 200,
            "seed {seed}: {} of {}",
            judge.done,
            judge.attempts
        );
        let what = [
            What::Crash,
            What::Start,
            What::Cut,
            What::ShutToNode,
            What::ShutFromNode,
        ];
        assert!(
            what.into_iter()
                .all(|what| cluster.trace.kinds().of(what) > 5)
        );
    }
}

#[test]
fn a_register_that_is_wrong_is_found() {
    assert!((0..100).any(|seed| run::<NOT_DURABLE>(seed).0.is_err()));
    assert!((0..100).any(|seed| run::<NOT_HELD>(seed).0.is_err()));
}

#[test]
fn a_seed_is_one_run() {
    let hash = |seed| run::<RIGHT>(seed).2.trace.hash();
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}
