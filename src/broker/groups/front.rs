//! Requests of the group APIs at the shard that they came to: it asks the owners of their groups' partitions, and
//! answers when all have.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::plan::{Asks, GroupPlan, MakeResponse, PlanCx, Planner};
use super::topic::of_ask;
use crate::base::{ErrorCode, IdMap, ShardId};
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::parked::Family;
use crate::broker::front::slots::Slots;
use crate::broker::front::{Front, Head, here};
use crate::broker::fx::Fx;
use crate::broker::msg::{Msg, ReqRef};
use crate::coordinator::{GroupAnswer, GroupAsk, Question};
use crate::wire::RequestHeader;

/// A request whose coordinators are being asked.
#[derive(Debug)]
struct Pending {
    reply_to: ReplyTo,
    head: Head,
    shape: MakeResponse,
    slots: Slots<GroupAnswer>,
}

/// The group requests of a shard's clients.
#[derive(Debug, Default)]
pub struct GroupRequests {
    waiting: IdMap<u64, Pending>,
}

/// Questions to a shard, each with its place in the request.
type Parts = Vec<(u32, Question)>;

impl GroupRequests {
    /// Takes a request.
    ///
    /// # Errors
    /// It cannot be read: the reason to close the connection.
    pub fn begin(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        (header, body): (&RequestHeader, Bytes),
        planner: Planner,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let Some(client) = front.conns.get(reply_to.conn) else {
            return Ok(());
        };
        let direct = client.direct;
        let cx = PlanCx {
            now: fx.now,
            image: &front.image,
            metadata_max: front.config.offset_metadata_max_bytes.max(0) as usize,
            client_host: format!("/{}", client.peer.ip()),
        };
        let GroupPlan { asks, shape } =
            planner(&cx, header, body).map_err(|error| error.to_string())?;
        let mut by_shard: BTreeMap<ShardId, Parts> = BTreeMap::new();
        let slots = match asks {
            Asks::Groups(asks) => {
                let slots = (0..).zip(asks);
                slots
                    .map(|(slot, ask)| locate(front, slot, ask, &mut by_shard))
                    .collect()
            }
            Asks::List => {
                // With direct ports a shard is a broker of its own, and clients ask each of them.
                let all = (0..front.shards).map(ShardId);
                let asked = all.filter(|shard| !direct || *shard == fx.me);
                by_shard.extend(
                    (0..)
                        .zip(asked)
                        .map(|(n, shard)| (shard, vec![(n, Question::List)])),
                );
                by_shard.keys().map(|_| None).collect()
            }
        };
        let pending = Pending {
            reply_to,
            head: Head {
                correlation_id: header.correlation_id,
                version: header.version,
            },
            shape,
            slots,
        };
        if pending.slots.are_known() {
            finish(front, pending, fx);
            return Ok(());
        }
        let id = front.park(reply_to, Family::Groups);
        self.waiting.insert(id, pending);
        let (req, image) = (ReqRef { shard: fx.me, id }, front.image.version);
        for (shard, parts) in by_shard {
            fx.send(shard, Msg::Groups { req, image, parts });
        }
        Ok(())
    }

    /// Coordinators have answered.
    pub fn done(
        &mut self,
        front: &mut Front,
        id: u64,
        answers: Vec<(u32, GroupAnswer)>,
        fx: &mut Fx<'_>,
    ) {
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
        self.waiting.len()
    }

    /// Nobody waits for the answers any more. What was asked is done all the same, as in Kafka.
    pub fn forget(&mut self, id: u64) {
        self.waiting.remove(&id);
    }
}

/// Adds a question to those of the shard that has the group; the answer, if there is none.
fn locate(
    front: &Front,
    slot: u32,
    ask: GroupAsk,
    by_shard: &mut BTreeMap<ShardId, Parts>,
) -> Option<GroupAnswer> {
    let place = of_ask(&front.image, &ask).and_then(|(index, partition)| {
        let store = here(partition).map_err(|_| ErrorCode::NotCoordinator)?;
        Ok((index, front.owner_of(store)))
    });
    match place {
        Ok((partition, shard)) => {
            let parts = by_shard.entry(shard).or_default();
            parts.push((slot, Question::To(partition, ask)));
            None
        }
        Err(error) => Some(ask.refused(error)),
    }
}

fn finish(front: &mut Front, pending: Pending, fx: &mut Fx<'_>) {
    let answers = pending.slots.into_known().flatten().collect();
    let frame = pending.shape.response(pending.head, answers);
    front.reply_or_close(pending.reply_to, frame, fx);
}
