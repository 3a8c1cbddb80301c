//! Requests that the control shard answers, at the shard that they came to.

use super::refusals::timed_out;
use crate::base::limits::DECIDED_WITHIN_MS;
use crate::base::{IdMap, ShardId};
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::parked::Family;
use crate::broker::fx::Fx;
use crate::broker::msg::{Called, ControlCall, Msg, ReqRef};
use crate::store::Piece;

/// Those that are with the control shard.
#[derive(Debug, Default)]
pub struct Calls {
    waiting: IdMap<u64, (ReplyTo, ControlCall)>,
    /// Another node may have to decide, and is not waited for however long it takes.
    is_member: bool,
}

impl Calls {
    /// Of a node that is one of a cluster, or stands alone.
    pub fn new(is_member: bool) -> Self {
        Self {
            is_member,
            ..Self::default()
        }
    }

    /// Passes a request on.
    pub fn begin(&mut self, front: &mut Front, to: ReplyTo, call: ControlCall, fx: &mut Fx<'_>) {
        let id = front.park(to, Family::Control);
        if self.is_member {
            let until = fx.now.mono.plus_ms(DECIDED_WITHIN_MS);
            front.parked.wait_until(id, until);
        }
        send(id, call.clone(), fx);
        self.waiting.insert(id, (to, call));
    }

    /// The control shard has answered. Returns a request that is now to be answered from the image.
    pub fn done(
        &mut self,
        front: &mut Front,
        id: u64,
        answer: Result<Called, String>,
        fx: &mut Fx<'_>,
    ) -> Option<(ReplyTo, ControlCall)> {
        if answer == Ok(Called::Again) {
            if let Some((_, call)) = self.waiting.get(&id) {
                send(id, call.clone(), fx);
            }
            return None;
        }
        let (to, call) = self.waiting.remove(&id)?;
        front.parked.unpark(id);
        match answer {
            Ok(Called::Created) => return Some((to, call)),
            Ok(Called::Frame(pieces)) => {
                let pieces = pieces.into_iter().map(Piece::Memory).collect();
                front.conns.reply(to, pieces, fx.out);
            }
            Ok(Called::Member(_) | Called::Again) => {}
            Err(why) => front.conns.fail(to, why, fx.out),
        }
        None
    }

    /// A request has waited for long enough, unless the shard is about to stop: then it is answered soon, or closed.
    /// What becomes of it is not known.
    pub fn late(&self, front: &Front, id: u64, fx: &mut Fx<'_>) {
        let Some((_, call)) = self.waiting.get(&id).filter(|_| !front.draining) else {
            return;
        };
        let answer = match timed_out(call) {
            Some(frame) => frame.map(|frame| Called::Frame(vec![frame])),
            None => Ok(Called::Created),
        };
        let req = ReqRef { shard: fx.me, id };
        fx.send(ShardId(0), Msg::ControlCancel { req });
        fx.send(fx.me, Msg::ControlDone { id, answer });
    }

    /// How many wait for something.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits for the answer any more.
    pub fn forget(&mut self, id: u64, fx: &mut Fx<'_>) {
        if self.waiting.remove(&id).is_some() {
            let req = ReqRef { shard: fx.me, id };
            fx.send(ShardId(0), Msg::ControlCancel { req });
        }
    }
}

fn send(id: u64, call: ControlCall, fx: &mut Fx<'_>) {
    let (req, call) = (ReqRef { shard: fx.me, id }, Box::new(call));
    fx.send(ShardId(0), Msg::Control { req, call });
}
