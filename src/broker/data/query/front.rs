//! Questions to logs: the partitions of a request are asked where they are, and the request is answered when all have
//! answered. What is asked, and what the answer looks like, each API says in a file of its own.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::base::{ErrorCode, IdMap, LogId, ShardId};
pub use crate::broker::front::Head;
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::parked::Family;
use crate::broker::front::slots::Slots;
use crate::broker::front::{Front, check_epoch, here, partition_of};
use crate::broker::fx::Fx;
use crate::broker::msg::{Answered, LogAnswer, Msg, Query, ReqRef};
use crate::wire::{RequestHeader, TopicRef, WireError};

/// What is not known, and what comes with an error.
const UNKNOWN: Answered = Answered {
    offset: -1,
    timestamp_ms: -1,
    leader_epoch: -1,
};

/// What is asked of the partitions of a topic.
pub type AskTopic = (TopicRef, Vec<Ask>);

/// One partition of a request: index, the leader epoch that the client believes in, and the question. What is an error
/// is answered without asking; [`ErrorCode::None`] is an offset that is not known.
pub type Ask = (i32, i32, Result<Query, ErrorCode>);

/// What an API makes of the answers, with what it echoes of the request.
pub trait Shape: fmt::Debug {
    /// The response frame.
    fn response(self: Box<Self>, head: Head, answers: Answers<'_>) -> Result<Bytes, WireError>;
}

/// A query whose partitions are being asked.
#[derive(Debug)]
struct PendingQuery {
    reply_to: ReplyTo,
    head: Head,
    shape: Box<dyn Shape>,
    slots: Slots<Result<Answered, ErrorCode>>,
    /// Who was asked.
    owners: Vec<ShardId>,
}

/// The queries of a shard's clients.
#[derive(Debug, Default)]
pub struct Queries {
    waiting: IdMap<u64, PendingQuery>,
}

impl Queries {
    /// Asks the owners of partitions, and answers when all have. How many there are is bounded by what a request may
    /// list, which is seen before it is decoded, or by what exists.
    pub fn ask(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        asks: Vec<AskTopic>,
        shape: Box<dyn Shape>,
        fx: &mut Fx<'_>,
    ) {
        let mut by_shard: BTreeMap<ShardId, Vec<(u32, LogId, Query)>> = BTreeMap::new();
        let partitions = asks.iter().map(|(_, asks)| asks.len());
        let mut slots = Slots::with_capacity(partitions.sum());
        let asks = asks.into_iter().flat_map(|(topic, asks)| {
            let topic = front.topic(&topic);
            asks.into_iter().map(move |ask| (topic, ask))
        });
        for (topic, (index, epoch, query)) in asks {
            let slot = slots.len() as u32;
            let located = query.and_then(|query| {
                let topic = topic?;
                let partition = partition_of(topic, index)?;
                if matches!(query, Query::DeleteBefore(_)) && topic.internal {
                    return Err(ErrorCode::InvalidTopicException);
                }
                check_epoch(epoch, partition.leader_epoch)?;
                let owner = front.owner_of(here(partition)?);
                Ok((owner, partition.log, query))
            });
            slots.push(match located {
                Ok((owner, log, query)) => {
                    by_shard.entry(owner).or_default().push((slot, log, query));
                    None
                }
                // Not an error but an offset that is not known.
                Err(ErrorCode::None) => Some(Ok(UNKNOWN)),
                Err(code) => Some(Err(code)),
            });
        }
        let pending = PendingQuery {
            reply_to,
            head: Head {
                correlation_id: header.correlation_id,
                version: header.version,
            },
            shape,
            owners: by_shard.keys().copied().collect(),
            slots,
        };
        if pending.slots.are_known() {
            return finish(front, pending, fx);
        }
        let id = front.park(reply_to, Family::Query);
        self.waiting.insert(id, pending);
        let req = ReqRef { shard: fx.me, id };
        for (shard, parts) in by_shard {
            fx.send(shard, Msg::Query { req, parts });
        }
    }

    /// Some logs have answered.
    pub fn done(&mut self, front: &mut Front, id: u64, results: Vec<LogAnswer>, fx: &mut Fx<'_>) {
        let Some(pending) = self.waiting.get_mut(&id) else {
            return;
        };
        if pending.slots.answer(results)
            && let Some(pending) = self.waiting.remove(&id)
        {
            front.parked.unpark(id);
            finish(front, pending, fx);
        }
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
            for owner in pending.owners {
                by_owner.entry(owner).or_default().push(id);
            }
        }
        for (owner, mut ids) in by_owner {
            ids.sort_unstable();
            fx.send(owner, Msg::QueryCancel { shard: fx.me, ids });
        }
    }
}

fn finish(front: &mut Front, pending: PendingQuery, fx: &mut Fx<'_>) {
    let slots = pending.slots.into_known();
    let mut answers = slots.map(|slot| slot.unwrap_or(Err(ErrorCode::UnknownServerError)));
    let frame = pending.shape.response(pending.head, &mut answers);
    front.reply_or_close(pending.reply_to, frame, fx);
}

/// The answers in the order in which the partitions were asked.
pub type Answers<'a> = &'a mut dyn Iterator<Item = Result<Answered, ErrorCode>>;

/// Error code and answer of the partition whose turn it is.
pub fn next(answers: Answers<'_>) -> (i16, Answered) {
    match answers.next() {
        Some(Ok(answered)) => (ErrorCode::None.code(), answered),
        Some(Err(code)) => (code.code(), UNKNOWN),
        None => (ErrorCode::UnknownServerError.code(), UNKNOWN),
    }
}
