//! Requests whose answers list much: one of a shard's is in the making at a time, a slice of it whenever the shard is
//! idle. The others wait as they came, so that what they ask for takes no memory yet; connections take turns, an answer
//! each. A stop waits for the one that is in the making, and leaves the others unanswered.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::admin::{Ctx, ImageHandler, Listing, Progress};
use super::front::Front;
use super::front::conns::ReplyTo;
use super::front::parked::Family;
use super::fx::Fx;
use super::io::ConnId;
use super::msg::ControlCall;
use crate::config::BrokerConfig;
use crate::controller::Image;
use crate::store::Piece;

/// The answer that is in the making.
#[derive(Debug)]
struct Making {
    id: u64,
    to: ReplyTo,
    call: ControlCall,
    listing: Box<dyn Listing>,
    /// The metadata and the settings that it is made from, whatever changes meanwhile.
    image: Image,
    config: Arc<BrokerConfig>,
}

/// A request whose turn has not come.
type Waiting = (ReplyTo, ControlCall, ImageHandler);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listings {
    making: Option<Making>,
    /// By connection and number, so those of a connection in the order in which they came.
    waiting: BTreeMap<(u64, u64), Waiting>,
    /// The connection that had the last turn.
    last: u64,
}

impl Listings {
    /// Takes a request whose answer this handler has begun to make.
    pub fn begin(
        &mut self,
        front: &mut Front,
        (to, call): (ReplyTo, ControlCall),
        handler: ImageHandler,
        listing: Box<dyn Listing>,
    ) {
        let id = front.park(to, Family::Listing);
        if self.making.is_some() {
            self.waiting.insert((to.conn.0, id), (to, call, handler));
            return;
        }
        self.last = to.conn.0;
        self.making = Some(Making {
            id,
            to,
            call,
            listing,
            image: Image::clone(&front.image),
            config: Arc::clone(&front.config),
        });
    }

    /// The next request whose turn it is to be answered, from its begin on; it waits no more.
    pub fn next(&mut self, front: &mut Front) -> Option<Waiting> {
        if self.making.is_some() {
            return None;
        }
        let behind = (self.last.saturating_add(1), 0)..;
        let of_next = self.waiting.range(behind).next();
        let (key, _) = of_next.or_else(|| self.waiting.first_key_value())?;
        let key = *key;
        self.last = key.0;
        front.parked.unpark(key.1);
        self.waiting.remove(&key)
    }

    /// The shard stops: those whose turn has not come might take long, and are not answered.
    pub fn stop(&mut self, front: &mut Front, fx: &mut Fx<'_>) {
        for ((_, id), (to, ..)) in std::mem::take(&mut self.waiting) {
            front.parked.unpark(id);
            let why = "the broker stops before what it asks for is listed".to_owned();
            front.conns.fail(to, why, fx.out);
        }
    }

    /// Makes some more of an answer, and sends it when it is whole. Returns a request that is for the control shard.
    pub fn go_on(&mut self, front: &mut Front, fx: &mut Fx<'_>) -> Option<(ReplyTo, ControlCall)> {
        let making = self.making.as_mut()?;
        let ctx = Ctx {
            image: &making.image,
            config: &making.config,
            listener: making.call.listener,
            rng: &mut front.rng,
            brokers: &front.brokers,
        };
        let made = making.listing.go_on(&ctx);
        if matches!(made, Ok(Progress::Partly)) {
            return None;
        }
        let Making { id, to, call, .. } = self.making.take()?;
        front.parked.unpark(id);
        match made {
            Ok(Progress::Whole(pieces)) => {
                let pieces = pieces.into_iter().map(Piece::Memory).collect();
                front.conns.reply(to, pieces, fx.out);
            }
            Ok(Progress::Create) => return Some((to, call)),
            Ok(Progress::Partly) => {}
            Err(why) => front.conns.fail(to, why.to_string(), fx.out),
        }
        None
    }

    /// Whether nobody waits for an answer.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait for their answer.
    pub fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.making.is_some())
    }

    /// Nobody waits for the answer any more.
    pub fn forget(&mut self, conn: ConnId, id: u64) {
        self.making.take_if(|making| making.id == id);
        self.waiting.remove(&(conn.0, id));
    }
}
