//! Who waits for something in the partitions of a shard, and what they are told when it is there.

use crate::base::{ErrorCode, Mono, Refused};
use crate::broker::fx::Fx;
use crate::broker::msg::{
    Answered, AppendFate, Appender, LogAnswer, MarkerAsker, MarkerPart, Msg, Produced, ReqRef,
};
use crate::broker::trace::{FlushStamps, ProduceStamps};

/// A number of [`super::Owner::tell_when_committed`] and what has come of it: all is committed, or it is not known here
/// any more whether it will be.
pub type Told = (u64, Result<(), ErrorCode>);

/// Who waits for a mark of a partition.
#[derive(Debug)]
pub enum LogWaiter {
    /// A batch of a produce request.
    Produced {
        /// Place of its [`Ack`].
        ack: u32,
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
    /// Records of a coordinator, which is told what becomes of them.
    Coordinator(ReqRef),
    /// The end of a transaction.
    Marker(MarkerWait),
    /// Something of the shard's own: see [`super::Owner::tell_when_committed`].
    Token(u64),
}

/// The end of a transaction that is in its log.
#[derive(Debug)]
pub struct MarkerWait {
    /// Who is told when it is committed, by his slot; nobody any more if that took too long.
    pub asker: Option<(MarkerAsker, u32)>,
    /// What it says.
    pub marker: MarkerPart,
}

/// The batches of a produce request that were given to this shard at a time.
#[derive(Debug)]
pub struct Ack {
    pub appender: Appender,
    /// Where it is kept while they wait.
    pub place: u32,
    /// Until when other replicas are waited for.
    pub until: Mono,
    /// How many batches wait.
    pub waiting: usize,
    /// What is known of the others and is not told yet.
    pub results: Vec<(u32, Result<Produced, Refused>)>,
    stamps: ProduceStamps,
}

impl Ack {
    fn tell(
        appender: Appender,
        results: Vec<(u32, Result<Produced, Refused>)>,
        stamps: ProduceStamps,
        fx: &mut Fx<'_>,
    ) {
        match appender {
            Appender::Client(ReqRef { shard, id }) => fx.send(
                shard,
                Msg::ProduceDone {
                    id,
                    results,
                    stamps,
                },
            ),
            // Those that are in the log wait by themselves, or need not.
            Appender::Coordinator(req, _) => {
                for (_, result) in results {
                    let fate = match result {
                        Ok(_) => AppendFate::Committed(Ok(())),
                        Err(refused) => AppendFate::Refused(refused),
                    };
                    tell_fate(req, fate, fx);
                }
            }
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Acks {
    /// By place.
    open: Vec<Option<Ack>>,
    /// Places that are free.
    free: Vec<u32>,
    /// Batches that wait.
    waiting: usize,
    /// Those of them that are of coordinators.
    own_waiting: usize,
    /// Places of those of which some more is known since [`Acks::tell`], and that still wait for the rest.
    parted: Vec<u32>,
    /// The same for requests that drop records.
    dropped: Vec<(ReqRef, LogAnswer)>,
    /// What has become of ends of transactions, and is not told yet.
    marked: Vec<(MarkerAsker, u32, ErrorCode)>,
    /// Numbers whose wait is over, for whoever asked to take.
    pub told: Vec<Told>,
    /// Place of the last one that was taken up.
    newest: Option<u32>,
}

impl Acks {
    /// So many batches of a request are here; to be given to [`Acks::add`] before the next ones.
    pub fn begin(&self, appender: Appender, batches: usize, now: Mono) -> Ack {
        Ack {
            appender,
            place: self.free.last().copied().unwrap_or(self.open.len() as u32),
            until: Mono::NEVER,
            waiting: 0,
            results: Vec::with_capacity(batches),
            stamps: ProduceStamps::arrived(now),
        }
    }

    /// They are appended or refused: answers if none waits.
    pub fn add(&mut self, ack: Ack, fx: &mut Fx<'_>) {
        if ack.waiting == 0 {
            return Ack::tell(ack.appender, ack.results, ack.stamps, fx);
        }
        self.newest = Some(ack.place);
        self.waiting += ack.waiting;
        match self.free.pop() {
            Some(place) => self.open[place as usize] = Some(ack),
            None => self.open.push(Some(ack)),
        }
    }

    /// A batch of a coordinator waits.
    pub fn add_own(&mut self) {
        self.waiting += 1;
        self.own_waiting += 1;
    }

    fn get_mut(&mut self, place: u32) -> Option<&mut Ack> {
        self.open.get_mut(place as usize)?.as_mut()
    }

    /// The input with the newest batches is handled.
    pub fn appended(&mut self, now: Mono) {
        let newest = self.newest.take();
        if let Some(ack) = newest.and_then(|place| self.get_mut(place)) {
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
                ack,
                slot,
                produced,
            } => {
                let result = outcome.map(|()| produced).map_err(Refused::from);
                self.end_batch(ack, (slot, result), flush, fx);
            }
            LogWaiter::Coordinator(req) => {
                self.waiting -= 1;
                self.own_waiting -= 1;
                let fate = match outcome {
                    Ok(()) | Err(ErrorCode::NotEnoughReplicasAfterAppend) => {
                        AppendFate::Committed(outcome)
                    }
                    Err(why) => AppendFate::Left(why),
                };
                tell_fate(req, fate, fx);
            }
            LogWaiter::Dropped {
                req,
                slot,
                answered,
            } => self.dropped.push((req, (slot, outcome.map(|()| answered)))),
            LogWaiter::Marker(MarkerWait { asker, marker }) => {
                self.waiting -= 1;
                self.own_waiting -= 1;
                if matches!(
                    outcome,
                    Ok(()) | Err(ErrorCode::NotEnoughReplicasAfterAppend)
                ) {
                    // In the order of the log, among what coordinators are told of their records there.
                    fx.send(
                        fx.me,
                        Msg::TransactionEnded {
                            log: marker.log,
                            producer_id: marker.producer_id,
                            commits: marker.commits,
                        },
                    );
                }
                if let Some((asker, slot)) = asker {
                    let code = outcome.err().unwrap_or(ErrorCode::None);
                    self.marked(asker, slot, code);
                }
            }
            // What is committed is, however many are in sync by now.
            LogWaiter::Token(token) => match outcome {
                Err(ErrorCode::NotEnoughReplicasAfterAppend) => self.told.push((token, Ok(()))),
                outcome => self.told.push((token, outcome)),
            },
        }
    }

    /// Somebody has waited for other replicas for too long. A coordinator is given back: it waits on until it is known
    /// what becomes of its records.
    pub fn late(&mut self, waiter: LogWaiter, fx: &mut Fx<'_>) -> Option<LogWaiter> {
        if let LogWaiter::Coordinator(req) = waiter {
            tell_fate(req, AppendFate::Late, fx);
            return Some(waiter);
        }
        if let LogWaiter::Marker(MarkerWait { asker, marker }) = waiter {
            if let Some((asker, slot)) = asker {
                self.marked(asker, slot, ErrorCode::RequestTimedOut);
            }
            // When it is committed is to be known all the same.
            return Some(LogWaiter::Marker(MarkerWait {
                asker: None,
                marker,
            }));
        }
        let late = Err(ErrorCode::RequestTimedOut);
        self.end(waiter, late, &FlushStamps::default(), fx);
        None
    }

    /// What has become of the end of a transaction, by the slot of whoever asked.
    pub fn marked(&mut self, asker: MarkerAsker, slot: u32, code: ErrorCode) {
        self.marked.push((asker, slot, code));
    }

    fn end_batch(
        &mut self,
        place: u32,
        result: (u32, Result<Produced, Refused>),
        flush: &FlushStamps,
        fx: &mut Fx<'_>,
    ) {
        let Some(Some(ack)) = self.open.get_mut(place as usize) else {
            debug_assert!(false, "a batch of no request");
            return;
        };
        self.waiting -= 1;
        ack.waiting -= 1;
        ack.results.push(result);
        ack.stamps.durable(flush, fx.now.mono);
        if ack.waiting > 0 {
            if ack.results.len() == 1 {
                self.parted.push(place);
            }
        } else if let Some(ack) = self.open[place as usize].take() {
            self.free.push(place);
            Ack::tell(ack.appender, ack.results, ack.stamps, fx);
        }
    }

    /// Tells what is known of requests that wait for more.
    pub fn tell(&mut self, fx: &mut Fx<'_>) {
        for place in self.parted.drain(..) {
            if let Some(Some(ack)) = self.open.get_mut(place as usize) {
                let results = std::mem::take(&mut ack.results);
                Ack::tell(ack.appender, results, ack.stamps, fx);
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
        for markers in self.marked.chunk_by(|one, next| one.0 == next.0) {
            let asker = markers[0].0;
            let results = markers
                .iter()
                .map(|(_, slot, code)| (*slot, *code))
                .collect();
            fx.send(asker.shard(), Msg::MarkersWritten { asker, results });
        }
        self.marked.clear();
    }

    /// How many batches wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether no batch waits.
    pub fn is_empty(&self) -> bool {
        self.open.len() == self.free.len() && self.own_waiting == 0
    }
}

fn tell_fate(ReqRef { shard, id }: ReqRef, fate: AppendFate, fx: &mut Fx<'_>) {
    fx.send(shard, Msg::Appended { id, fate });
}
