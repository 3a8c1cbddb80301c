//! Who waits for something in the partitions of a shard, and what they are told when it is there.

use crate::base::{ErrorCode, IdMap, Mono};
use crate::broker::fx::Fx;
use crate::broker::msg::{Answered, Failure, LogAnswer, Msg, Produced, ReqRef};
use crate::broker::trace::{FlushStamps, ProduceStamps};

/// Who waits for a mark of a partition.
#[derive(Debug)]
pub enum LogWaiter {
    /// A batch of a produce request.
    Produced {
        req: ReqRef,
        /// Its slot of the request.
        slot: u32,
        produced: Produced,
    },
    /// A partition whose records a request has dropped.
    Dropped {
        req: ReqRef,
        /// Its slot of the request.
        slot: u32,
        answered: Answered,
    },
    /// Something of the control shard's own.
    Control(u64),
}

/// The batches of a produce request that were given to this shard.
#[derive(Debug)]
pub struct Ack {
    pub req: ReqRef,
    /// How many batches wait.
    pub waiting: usize,
    /// What is known of the others and is not told yet.
    pub results: Vec<(u32, Result<Produced, Failure>)>,
    stamps: ProduceStamps,
}

impl Ack {
    /// Of a request that came now, with so many batches.
    pub fn new(req: ReqRef, batches: usize, now: Mono) -> Self {
        Self {
            req,
            waiting: 0,
            results: Vec::with_capacity(batches),
            stamps: ProduceStamps::arrived(now),
        }
    }

    fn tell(
        req: ReqRef,
        results: Vec<(u32, Result<Produced, Failure>)>,
        stamps: ProduceStamps,
        fx: &mut Fx<'_>,
    ) {
        let id = req.id;
        fx.send(
            req.shard,
            Msg::ProduceDone {
                id,
                results,
                stamps,
            },
        );
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Acks {
    open: IdMap<ReqRef, Ack>,
    /// Requests of which some more is known since [`Acks::tell`], and that still wait for the rest.
    parted: Vec<ReqRef>,
    /// The same for requests that drop records.
    dropped: Vec<(ReqRef, LogAnswer)>,
    /// Numbers of the control shard's own whose records are committed, for it to take.
    pub control_done: Vec<u64>,
    /// The last request that was taken up.
    newest: Option<ReqRef>,
}

impl Acks {
    /// All batches of a message are appended or refused: answers if none waits.
    pub fn add(&mut self, ack: Ack, fx: &mut Fx<'_>) {
        if ack.waiting == 0 {
            return Ack::tell(ack.req, ack.results, ack.stamps, fx);
        }
        self.newest = Some(ack.req);
        match self.open.get_mut(&ack.req) {
            Some(open) => {
                open.waiting += ack.waiting;
                open.results.extend(ack.results);
            }
            None => {
                self.open.insert(ack.req, ack);
            }
        }
    }

    /// The input with the newest request is handled.
    pub fn appended(&mut self, now: Mono) {
        let newest = self.newest.take();
        if let Some(ack) = newest.and_then(|req| self.open.get_mut(&req)) {
            ack.stamps.appended(now);
        }
    }

    /// Somebody waits no more, because a flush is durable or for another reason.
    pub fn end(
        &mut self,
        waiter: LogWaiter,
        outcome: Result<(), ErrorCode>,
        flush: &FlushStamps,
        fx: &mut Fx<'_>,
    ) {
        match waiter {
            LogWaiter::Produced {
                req,
                slot,
                produced,
            } => {
                let result = outcome.map(|()| produced).map_err(|code| (code, None));
                self.end_batch(req, (slot, result), flush, fx);
            }
            LogWaiter::Dropped {
                req,
                slot,
                answered,
            } => self.dropped.push((req, (slot, outcome.map(|()| answered)))),
            LogWaiter::Control(token) => self.control_done.push(token),
        }
    }

    fn end_batch(
        &mut self,
        req: ReqRef,
        result: (u32, Result<Produced, Failure>),
        flush: &FlushStamps,
        fx: &mut Fx<'_>,
    ) {
        let Some(ack) = self.open.get_mut(&req) else {
            debug_assert!(false, "a batch of no request");
            return;
        };
        ack.waiting -= 1;
        ack.results.push(result);
        ack.stamps.durable(flush, fx.now.mono);
        if ack.waiting > 0 {
            if ack.results.len() == 1 {
                self.parted.push(req);
            }
        } else if let Some(ack) = self.open.remove(&req) {
            Ack::tell(ack.req, ack.results, ack.stamps, fx);
        }
    }

    /// Tells what is known of requests that wait for more.
    pub fn tell(&mut self, fx: &mut Fx<'_>) {
        for req in self.parted.drain(..) {
            if let Some(ack) = self.open.get_mut(&req) {
                let results = std::mem::take(&mut ack.results);
                Ack::tell(req, results, ack.stamps, fx);
            }
        }
        self.dropped.sort_by_key(|(req, _)| (req.shard, req.id));
        for answers in self.dropped.chunk_by(|one, next| one.0 == next.0) {
            let req = answers[0].0;
            let results = answers.iter().map(|(_, answer)| *answer).collect();
            fx.send(
                req.shard,
                Msg::QueryDone {
                    id: req.id,
                    results,
                },
            );
        }
        self.dropped.clear();
    }

    /// Whether no produce request waits.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
