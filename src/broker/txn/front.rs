//! Requests about transactions at the shard that they came to: it asks the owners of the partitions of their ids, and
//! answers when all have. So does the control shard with what other nodes ask for.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::listing::TxnListings;
use super::plan::{TxnPlan, TxnPlanCx, TxnPlanner};
use crate::base::{ErrorCode, IdMap, ShardId};
use crate::broker::front::conns::{ConnPurpose, ReplyTo};
use crate::broker::front::parked::Family;
use crate::broker::front::slots::Slots;
use crate::broker::front::{Front, Head};
use crate::broker::fx::Fx;
use crate::broker::groups::{MakeResponse, of_transaction};
use crate::broker::io::ConnId;
use crate::broker::msg::{Called, Msg, ReqRef};
use crate::coordinator::{TxnAnswer, TxnAsk};
use crate::wire::{RequestHeader, WireError};

/// Who gets the response.
#[derive(Clone, Copy, Debug)]
enum ReplyWhere {
    Client(ReplyTo),
    /// Another node, by the control shard's number for its request.
    Node(ReqRef),
}

/// A request whose coordinators are being asked.
#[derive(Debug)]
struct PendingTxn {
    reply: ReplyWhere,
    head: Head,
    response: MakeResponse<TxnAnswer>,
    slots: Slots<TxnAnswer>,
}

/// The requests about transactions of a shard's clients.
#[derive(Debug, Default)]
pub struct TxnRequests {
    waiting: IdMap<u64, PendingTxn>,
    /// Those that list ids.
    pub listings: TxnListings,
}

/// Questions to each shard, each with its place in the request, and the partition.
type ByShard = BTreeMap<ShardId, Vec<(u32, i32, TxnAsk)>>;

impl TxnRequests {
    /// Takes a request of a client; false if it is one for the control shard.
    ///
    /// # Errors
    /// It cannot be read: the reason to close the connection.
    pub fn begin(
        &mut self,
        front: &mut Front,
        (to, header, body): (ReplyTo, &RequestHeader, Bytes),
        planner: TxnPlanner,
        fx: &mut Fx<'_>,
    ) -> Result<bool, String> {
        let Some(client) = front.conns.get(to.conn) else {
            return Ok(true);
        };
        let is_direct = client.purpose == ConnPurpose::Direct;
        let plan = plan(front, header, body, planner).map_err(|error| error.to_string())?;
        match plan {
            TxnPlan::Control => return Ok(false),
            TxnPlan::List(listing) => {
                self.listings.begin(front, (to, is_direct), *listing, fx);
            }
            TxnPlan::Ids(asks, response) => {
                self.ask(
                    front,
                    (ReplyWhere::Client(to), header),
                    (asks, response),
                    fx,
                );
            }
        }
        Ok(true)
    }

    /// Takes a request of another node, which is answered by [`Msg::ControlDone`].
    pub fn begin_of_node(
        &mut self,
        front: &mut Front,
        (req, header, body): (ReqRef, &RequestHeader, Bytes),
        planner: TxnPlanner,
        fx: &mut Fx<'_>,
    ) {
        let why = match plan(front, header, body, planner) {
            Ok(TxnPlan::Ids(asks, response)) => {
                let of_node = (ReplyWhere::Node(req), header);
                return self.ask(front, of_node, (asks, response), fx);
            }
            Ok(TxnPlan::List(_) | TxnPlan::Control) => {
                "nodes do not ask each other that".to_owned()
            }
            Err(why) => why.to_string(),
        };
        let (id, answer) = (req.id, Err(why));
        fx.send(req.shard, Msg::ControlDone { id, answer });
    }

    fn ask(
        &mut self,
        front: &mut Front,
        (reply, header): (ReplyWhere, &RequestHeader),
        (asks, response): (Vec<TxnAsk>, MakeResponse<TxnAnswer>),
        fx: &mut Fx<'_>,
    ) {
        let (mut by_shard, mut slots) = (ByShard::new(), Slots::with_capacity(1));
        for ask in asks {
            let slot = slots.len() as u32;
            slots.push(locate(front, slot, ask, &mut by_shard));
        }
        let head = Head {
            correlation_id: header.correlation_id,
            version: header.version,
        };
        let pending = PendingTxn {
            reply,
            head,
            response,
            slots,
        };
        if pending.slots.are_known() {
            return finish(front, pending, fx);
        }
        let id = match reply {
            ReplyWhere::Client(to) => front.park(to, Family::Transactions),
            ReplyWhere::Node(_) => front.parked.park(Family::Transactions),
        };
        self.waiting.insert(id, pending);
        let req = ReqRef { shard: fx.me, id };
        for (shard, parts) in by_shard {
            fx.send(shard, Msg::Transactions { req, parts });
        }
    }

    /// Coordinators have answered.
    pub fn done(
        &mut self,
        front: &mut Front,
        id: u64,
        answers: Vec<(u32, TxnAnswer)>,
        fx: &mut Fx<'_>,
    ) {
        let Some(answers) = self.listings.told(front, (id, answers), fx) else {
            return;
        };
        let Some(pending) = self.waiting.get_mut(&id) else {
            return;
        };
        if pending.slots.answer(answers)
            && let Some(pending) = self.waiting.remove(&id)
        {
            front.parked.unpark(id);
            finish(front, pending, fx);
        }
    }

    /// How many wait for something.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.listings.len()
    }

    /// Nobody waits for the answers any more. What was asked is done all the same, as in Kafka.
    pub fn forget(&mut self, conn: ConnId, id: u64) {
        if self.waiting.remove(&id).is_none() {
            self.listings.forget(conn, id);
        }
    }
}

fn plan(
    front: &Front,
    header: &RequestHeader,
    body: Bytes,
    planner: TxnPlanner,
) -> Result<TxnPlan, WireError> {
    let cx = TxnPlanCx {
        image: &front.image,
        config: &front.config,
    };
    planner(&cx, header, body)
}

/// Adds a question to those of the shard that has the id; the answer, if there is none.
fn locate(front: &Front, slot: u32, ask: TxnAsk, by_shard: &mut ByShard) -> Option<TxnAnswer> {
    let id = ask.id().cloned().unwrap_or_default();
    if id.is_empty() {
        return Some(ask.refused(ErrorCode::InvalidRequest));
    }
    let place = of_transaction(&front.image, &id).and_then(|(index, partition)| {
        let store = front.led(partition);
        let store = store.map_err(|_| ErrorCode::NotCoordinator)?;
        Ok((index, front.owner_of(store)))
    });
    match place {
        Ok((partition, shard)) => {
            by_shard
                .entry(shard)
                .or_default()
                .push((slot, partition, ask));
            None
        }
        Err(error) => Some(ask.refused(error)),
    }
}

fn finish(front: &mut Front, pending: PendingTxn, fx: &mut Fx<'_>) {
    let answers = pending.slots.into_known().flatten().collect();
    let frame = pending.response.response(pending.head, answers);
    match pending.reply {
        ReplyWhere::Client(to) => front.reply_or_close(to, frame, fx),
        ReplyWhere::Node(req) => {
            let answer = match frame {
                Ok(frame) => Ok(Called::Frame(vec![frame])),
                Err(why) => Err(why.to_string()),
            };
            fx.send(req.shard, Msg::ControlDone { id: req.id, answer });
        }
    }
}
