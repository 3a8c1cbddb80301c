//! Requests that the control shard answers, at the shard that they came to.

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
}

impl Calls {
    /// Passes a request on.
    pub fn begin(&mut self, front: &mut Front, to: ReplyTo, call: ControlCall, fx: &mut Fx<'_>) {
        let id = front.park(to, Family::Control);
        self.waiting.insert(id, (to, call.clone()));
        let req = ReqRef { shard: fx.me, id };
        let call = Box::new(call);
        fx.send(ShardId(0), Msg::Control { req, call });
    }

    /// The control shard has answered. Returns a request that is now to be answered from the image.
    pub fn done(
        &mut self,
        front: &mut Front,
        id: u64,
        answer: Result<Called, String>,
        fx: &mut Fx<'_>,
    ) -> Option<(ReplyTo, ControlCall)> {
        let (to, call) = self.waiting.remove(&id)?;
        front.parked.unpark(id);
        match answer {
            Ok(Called::Created) => return Some((to, call)),
            Ok(Called::Frame(pieces)) => {
                let pieces = pieces.into_iter().map(Piece::Memory).collect();
                front.conns.reply(to, pieces, fx.out);
            }
            Ok(Called::Member(_)) => {}
            Err(why) => front.conns.fail(to, why, fx.out),
        }
        None
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
