//! Requests that the control shard answers, at the shard that they came to.

use bytes::Bytes;

use crate::base::{IdMap, ShardId};
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::parked::Family;
use crate::broker::fx::Fx;
use crate::broker::msg::{ControlCall, Msg, ReqRef};
use crate::store::Piece;

/// Those that are with the control shard.
#[derive(Debug, Default)]
pub struct Calls {
    waiting: IdMap<u64, ReplyTo>,
}

impl Calls {
    /// Passes a request on.
    pub fn begin(&mut self, front: &mut Front, to: ReplyTo, call: ControlCall, fx: &mut Fx<'_>) {
        let id = front.park(to, Family::Control);
        self.waiting.insert(id, to);
        let req = ReqRef { shard: fx.me, id };
        let call = Box::new(call);
        fx.send(ShardId(0), Msg::Control { req, call });
    }

    /// The control shard has answered.
    pub fn done(
        &mut self,
        front: &mut Front,
        id: u64,
        answer: Result<Bytes, String>,
        fx: &mut Fx<'_>,
    ) {
        let Some(to) = self.waiting.remove(&id) else {
            return;
        };
        front.parked.unpark(id);
        match answer {
            Ok(frame) => front.conns.reply(to, vec![Piece::Memory(frame)], fx.out),
            Err(why) => front.conns.fail(to, why, fx.out),
        }
    }

    /// How many wait for something.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits for the answer any more.
    pub fn forget(&mut self, id: u64) {
        self.waiting.remove(&id);
    }
}
