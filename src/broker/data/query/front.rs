//! Questions to logs: the partitions of a request are asked where they are, some at a time, and the request is answered
//! when all have answered. What is asked, and what the answer looks like, each API says in a file of its own.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::questions::{LogResult, Steps};
use crate::base::limits::{LISTED_PER_SLICE, PRODUCE_WAITS_MS_MAX};
use crate::base::{ErrorCode, IdMap, Leftovers, LogId, Mono, ShardId};
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::long::LongLines;
use crate::broker::front::parked::Family;
use crate::broker::front::slots::Slots;
use crate::broker::fx::Fx;
use crate::broker::io::ConnId;
use crate::broker::msg::{Answered, LogAnswer, Msg, Query, ReqRef};
use crate::store::Piece;
use crate::wire::WireError;

/// What is not known, and what comes with an error.
const UNKNOWN: Answered = Answered {
    offset: -1,
    timestamp_ms: -1,
    leader_epoch: -1,
};

/// A query whose partitions are being asked.
#[derive(Debug)]
struct PendingQuery {
    reply_to: ReplyTo,
    steps: Box<dyn Steps>,
    /// It is one of those that take more than a turn, and has begun.
    is_long: bool,
    /// All of the request was looked at.
    looked: bool,
    /// Those that are asked now are the last ones.
    last: bool,
    slots: Slots<LogResult>,
    /// Who was asked.
    owners: Vec<ShardId>,
}

/// What is asked of each shard.
type Asked = BTreeMap<ShardId, Vec<(u32, LogId, Query)>>;

/// How far a query is.
enum Progress {
    /// It has had its turn.
    Partly,
    /// These have to answer first.
    Asked(Asked),
    /// This is its response.
    Whole(Vec<Bytes>),
}

impl PendingQuery {
    /// Goes on, as far as a slice goes; whoever was asked has answered.
    fn go_on(&mut self, front: &Front) -> Result<Progress, WireError> {
        let mut left = LISTED_PER_SLICE;
        if !self.looked {
            self.looked = self.steps.look(&mut left)?;
        } else {
            self.write()?;
        }
        if self.last {
            return self.steps.finish().map(Progress::Whole);
        }
        if left == 0 {
            return Ok(Progress::Partly);
        }
        let (located, last) = self.steps.next(front, left)?;
        self.last = last;
        let mut asked = Asked::new();
        self.slots = Slots::with_capacity(located.len());
        for (slot, located) in (0..).zip(located) {
            self.slots.push(match located {
                Ok((owner, log, query)) => {
                    asked.entry(owner).or_default().push((slot, log, query));
                    None
                }
                // Not an error but an offset that is not known.
                Err(ErrorCode::None) => Some(Ok(UNKNOWN)),
                Err(code) => Some(Err(code)),
            });
        }
        self.owners = asked.keys().copied().collect();
        if !asked.is_empty() {
            return Ok(Progress::Asked(asked));
        }
        if !last {
            return Ok(Progress::Partly);
        }
        self.write()?;
        self.steps.finish().map(Progress::Whole)
    }

    fn write(&mut self) -> Result<(), WireError> {
        let slots = std::mem::replace(&mut self.slots, Slots::with_capacity(0));
        let answers = slots.into_known();
        self.steps
            .write(&mut answers.map(|answer| answer.unwrap_or(Err(ErrorCode::UnknownServerError))))
    }
}

/// The queries of a shard's clients.
#[derive(Debug, Default)]
pub struct Queries {
    waiting: IdMap<u64, PendingQuery>,
    /// Those of them that are too long for one turn, and wait for their first one,
    lines: LongLines<u64>,
    /// and those that wait for their next turn.
    turns: VecDeque<u64>,
    /// What is left of long ones before.
    leftovers: Leftovers,
}

impl Queries {
    /// Question the owners of partitions, and answers when all have.
    pub fn ask(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        steps: impl Steps + 'static,
        fx: &mut Fx<'_>,
    ) {
        let is_short = match steps.is_short(front) {
            Ok(is_short) => is_short,
            Err(why) => return front.conns.fail(reply_to, why.to_string(), fx.out),
        };
        let mut query = PendingQuery {
            reply_to,
            steps: Box::new(steps),
            is_long: false,
            looked: false,
            last: false,
            slots: Slots::with_capacity(0),
            owners: Vec::new(),
        };
        if is_short {
            query.steps.begin(front);
            return self.go_on(front, None, query, fx);
        }
        // It takes nothing but its request until it has its turn.
        let id = front.park(reply_to, Family::Query);
        self.lines.push(reply_to, query.steps.kind(), id);
        self.waiting.insert(id, query);
    }

    fn go_on(
        &mut self,
        front: &mut Front,
        id: Option<u64>,
        mut query: PendingQuery,
        fx: &mut Fx<'_>,
    ) {
        let to = query.reply_to;
        let asked = match query.go_on(front) {
            Ok(Progress::Whole(pieces)) => {
                let pieces = match id {
                    Some(_) => pieces.into_iter().map(Piece::Memory).collect(),
                    None => vec![Piece::Memory(pieces.concat().into())],
                };
                self.end(front, id, query);
                return front.conns.reply_long(to, pieces, fx.out);
            }
            Err(why) => {
                self.end(front, id, query);
                return front.conns.fail(to, why.to_string(), fx.out);
            }
            Ok(Progress::Asked(asked)) => Some(asked),
            Ok(Progress::Partly) => None,
        };
        let id = id.unwrap_or_else(|| front.park(to, Family::Query));
        let timeout_ms = query.steps.timeout_ms();
        self.waiting.insert(id, query);
        let Some(asked) = asked else {
            return self.turns.push_back(id);
        };
        let req = ReqRef { shard: fx.me, id };
        let until = timeout_ms.map_or(Mono::NEVER, |timeout_ms| {
            let timeout_ms = u64::try_from(timeout_ms).unwrap_or(0);
            fx.now.mono.plus_ms(timeout_ms.min(PRODUCE_WAITS_MS_MAX))
        });
        for (shard, parts) in asked {
            fx.send(shard, Msg::Query { req, parts, until });
        }
    }

    /// Some logs have answered.
    pub fn done(&mut self, front: &mut Front, id: u64, results: Vec<LogAnswer>, fx: &mut Fx<'_>) {
        let Some(pending) = self.waiting.get_mut(&id) else {
            return;
        };
        if !pending.slots.answer(results) {
            return;
        }
        if !pending.last {
            self.turns.push_back(id);
        } else if let Some(query) = self.waiting.remove(&id) {
            self.go_on(front, Some(id), query, fx);
        }
    }

    /// Something of a connection was answered, or has been sent.
    pub fn moved(&mut self, conn: ConnId) {
        self.lines.moved(conn);
    }

    /// It is answered, or nobody waits for it any more.
    fn end(&mut self, front: &mut Front, id: Option<u64>, query: PendingQuery) {
        if let Some(id) = id {
            front.parked.unpark(id);
        }
        self.leave(query);
    }

    fn leave(&mut self, query: PendingQuery) {
        if query.is_long {
            self.lines.ended(query.steps.kind());
            query.steps.leave(&mut self.leftovers);
        }
    }

    /// Whether another one may begin that takes more than a turn.
    fn may_begin(&self, front: &Front) -> bool {
        self.leftovers.is_empty() && self.lines.has_next(&front.conns)
    }

    /// Goes on with the query whose turn it is. The shard does not stop for one that has more to ask.
    pub fn slice(&mut self, front: &mut Front, fx: &mut Fx<'_>) {
        self.leftovers.let_go(&mut { LISTED_PER_SLICE });
        if front.draining {
            self.turns.extend(self.lines.take_any());
        } else if self.may_begin(front) {
            for id in self.lines.next(&mut front.conns) {
                if let Some(query) = self.waiting.get_mut(&id) {
                    query.is_long = true;
                    query.steps.begin(front);
                    self.lines.begun(query.steps.kind());
                }
                self.turns.push_back(id);
            }
        }
        let Some(id) = self.turns.pop_front() else {
            return;
        };
        let Some(query) = self.waiting.remove(&id) else {
            return;
        };
        if !front.draining {
            return self.go_on(front, Some(id), query, fx);
        }
        let why = "the broker stops before all is answered that was asked".to_owned();
        front.conns.fail(query.reply_to, why, fx.out);
        self.end(front, Some(id), query);
    }

    /// Whether one can go on now.
    pub fn has_more(&self, front: &Front) -> bool {
        let fails = front.draining && !self.lines.is_empty();
        !self.turns.is_empty() || fails || self.may_begin(front) || !self.leftovers.is_empty()
    }

    /// Whether none waits for a turn.
    pub fn is_quiet(&self) -> bool {
        self.turns.is_empty() && self.lines.is_empty()
    }

    /// How many wait for something.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits for the answers any more, and the owners are told: what they have not begun is not done.
    pub fn forget(&mut self, ids: Vec<u64>, fx: &mut Fx<'_>) {
        let mut by_owner: BTreeMap<ShardId, Vec<u64>> = BTreeMap::new();
        for id in ids {
            let Some(pending) = self.waiting.remove(&id) else {
                continue;
            };
            self.lines.forget(pending.reply_to.conn);
            for owner in &pending.owners {
                by_owner.entry(*owner).or_default().push(id);
            }
            self.leave(pending);
        }
        for (owner, mut ids) in by_owner {
            ids.sort_unstable();
            fx.send(owner, Msg::QueryCancel { shard: fx.me, ids });
        }
    }
}

/// Error code and answer of a partition, as most APIs tell them.
pub fn outcome(answer: LogResult) -> (i16, Answered) {
    match answer {
        Ok(answered) => (ErrorCode::None.code(), answered),
        Err(code) => (code.code(), UNKNOWN),
    }
}
