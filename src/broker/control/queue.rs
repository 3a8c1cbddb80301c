//! Requests that wait for their turn to be decided on. One is at a time, in slices, for each sees what those before it
//! have decided; the others wait as they came, with the memory that their connections have for them. What is to be
//! decided about brokers waits for none of them: there is one such at a time, and others have their turn until it
//! counts.

use std::collections::{BTreeMap, HashMap};

use super::room::RoomAnswer;
use crate::base::limits::{ORPHANED_DECISIONS_BYTES_MAX, STOPPING_DECISIONS_BYTES_MAX};
use crate::broker::admin::Decision;
use crate::broker::msg::{ControlCall, ReqRef};

/// What is to be decided.
#[derive(Debug)]
pub enum ToDecide {
    /// What a client asks for, of this node or another one, or a node.
    Client(Box<ControlCall>),
    /// Something about the brokers.
    Inside(Option<Box<dyn Decision>>),
}

impl ToDecide {
    /// What it keeps while it waits.
    fn memory(&self) -> usize {
        match self {
            Self::Client(call) => call.memory(),
            Self::Inside(_) => size_of::<Self>(),
        }
    }
}

/// A request whose turn comes.
#[derive(Debug)]
pub struct CallTurn {
    pub req: ReqRef,
    pub call: ToDecide,
    /// It had to wait until stores were asked for room.
    pub waited: bool,
    /// What they have said to it.
    pub asked: Option<RoomAnswer>,
}

impl CallTurn {
    const fn new(req: ReqRef, call: ToDecide) -> Self {
        Self {
            req,
            call,
            waited: false,
            asked: None,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct CallQueue {
    /// By number, so in their order.
    waiting: BTreeMap<i64, CallTurn>,
    /// The numbers.
    numbers: HashMap<ReqRef, i64>,
    /// Bytes of those whose connections are gone, to which they are charged no more.
    orphaned: usize,
}

impl CallQueue {
    /// Takes a request.
    pub fn push(&mut self, req: ReqRef, call: ToDecide) {
        let last = self.waiting.last_key_value();
        let number = last.map_or(0, |(number, _)| number + 1);
        self.insert(number, CallTurn::new(req, call));
    }

    /// Takes one that waits for nobody: partitions may be without a leader until it is decided.
    pub fn push_inside(&mut self, number: u64, call: ToDecide) {
        self.push_front(CallTurn::new(ReqRef::inside(number), call));
    }

    /// Takes one that has waited long enough: it is next.
    pub fn push_front(&mut self, turn: CallTurn) {
        let first = self.waiting.first_key_value();
        let number = first.map_or(0, |(number, _)| number - 1);
        self.insert(number, turn);
    }

    fn insert(&mut self, number: i64, turn: CallTurn) {
        self.numbers.insert(turn.req, number);
        self.waiting.insert(number, turn);
    }

    /// The next one.
    pub fn pop(&mut self) -> Option<CallTurn> {
        let (_, turn) = self.waiting.pop_first()?;
        if self.numbers.remove(&turn.req).is_none() {
            self.orphaned -= turn.call.memory();
        }
        Some(turn)
    }

    /// All of them, in their order.
    pub fn drain(&mut self) -> Vec<CallTurn> {
        std::iter::from_fn(|| self.pop()).collect()
    }

    /// How many wait.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Nobody waits for a request any more. If this node decides, `decides`, it does so all the same, as in Kafka,
    /// unless there are many of such.
    pub fn cancel(&mut self, req: ReqRef, decides: bool) {
        let Some(number) = self.numbers.remove(&req) else {
            return;
        };
        let memory = self
            .waiting
            .get(&number)
            .map_or(0, |turn| turn.call.memory());
        if decides && self.orphaned + memory <= ORPHANED_DECISIONS_BYTES_MAX {
            self.orphaned += memory;
        } else {
            self.waiting.remove(&number);
        }
    }

    /// The shard is to stop: it decides on some of them, and these are the others.
    pub fn stop(&mut self) -> Vec<ReqRef> {
        let mut left = STOPPING_DECISIONS_BYTES_MAX;
        let kept = self.waiting.iter().take_while(|(_, turn)| {
            let fits = left.checked_sub(turn.call.memory());
            left = fits.unwrap_or(0);
            fits.is_some()
        });
        let Some((first, _)) = self.waiting.iter().nth(kept.count()) else {
            return Vec::new();
        };
        let first = *first;
        let gone = self.waiting.split_off(&first).into_values();
        let gone = gone.filter_map(|turn| {
            if self.numbers.remove(&turn.req).is_none() {
                self.orphaned -= turn.call.memory();
                return None;
            }
            Some(turn.req)
        });
        gone.collect()
    }

    /// Panics if something is wrong inside. For the simulator.
    pub fn invariants(&self) {
        for (req, number) in &self.numbers {
            let turn = self.waiting.get(number);
            assert!(
                turn.is_some_and(|turn| turn.req == *req),
                "a request that waits"
            );
        }
        let orphans = self.waiting.iter();
        let orphans = orphans.filter(|(number, turn)| self.numbers.get(&turn.req) != Some(number));
        let bytes: usize = orphans.map(|(_, turn)| turn.call.memory()).sum();
        assert_eq!(bytes, self.orphaned, "bytes of closed connections");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::control::testing::{call, req};

    fn waiting(queue: &mut CallQueue) -> Vec<u64> {
        queue.invariants();
        std::iter::from_fn(|| queue.pop().map(|turn| turn.req.id)).collect()
    }

    #[test]
    fn they_come_in_their_order_and_who_has_waited_first() {
        let mut queue = CallQueue::default();
        (1..=3).for_each(|id| queue.push(req(id), ToDecide::Client(call(0))));
        for id in [7, 8] {
            queue.push_front(CallTurn {
                req: req(id),
                call: ToDecide::Client(call(0)),
                waited: true,
                asked: None,
            });
        }
        queue.push(req(4), ToDecide::Client(call(0)));
        queue.cancel(req(9), true);
        assert_eq!(waiting(&mut queue), [8, 7, 1, 2, 3, 4]);
    }

    #[test]
    fn what_closed_connections_leave_behind_is_bounded() {
        let mut queue = CallQueue::default();
        const PARTS: u64 = 10;
        let bytes = ORPHANED_DECISIONS_BYTES_MAX / PARTS as usize;
        (0..2 * PARTS).for_each(|id| queue.push(req(id), ToDecide::Client(call(bytes))));
        (1..2 * PARTS).for_each(|id| queue.cancel(req(id), true));
        let left: Vec<u64> = (0..PARTS).collect();
        assert_eq!(waiting(&mut queue), left, "what fits, and who is there");
        assert_eq!(queue.orphaned, 0);
    }

    #[test]
    fn where_nobody_decides_what_nobody_waits_for_is_let_go() {
        let mut queue = CallQueue::default();
        (1..=3).for_each(|id| queue.push(req(id), ToDecide::Client(call(10))));
        queue.cancel(req(2), false);
        assert_eq!(queue.orphaned, 0);
        assert_eq!(waiting(&mut queue), [1, 3]);
    }

    #[test]
    fn a_stop_decides_on_some_and_the_others_are_told() {
        let mut queue = CallQueue::default();
        const PARTS: u64 = 10;
        let bytes = STOPPING_DECISIONS_BYTES_MAX / PARTS as usize;
        (0..2 * PARTS).for_each(|id| queue.push(req(id), ToDecide::Client(call(bytes))));
        queue.cancel(req(1), true);
        queue.cancel(req(PARTS), true);
        let told: Vec<u64> = queue.stop().iter().map(|req| req.id).collect();
        let left: Vec<u64> = (0..PARTS - 1).collect();
        assert_eq!(waiting(&mut queue), left);
        let others = (PARTS - 1..2 * PARTS).filter(|id| *id != PARTS);
        assert_eq!(told, others.collect::<Vec<_>>());
        assert!(queue.stop().is_empty());
    }
}
