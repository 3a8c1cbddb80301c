//! Requests whose answers list much: one of a shard's is in the making at a time, a slice of it whenever the shard is
//! idle. The others wait as they came, so that what they ask for takes no memory yet; connections take turns, an answer
//! each, when what they were answered before has left. A stop waits for the one that is in the making, and leaves the
//! others unanswered.

use std::sync::Arc;

use super::admin::{Ctx, ImageHandler, Listing, Progress};
use super::front::Front;
use super::front::conns::ReplyTo;
use super::front::long::LongRequests;
use super::front::parked::Family;
use super::fx::Fx;
use super::io::ConnId;
use super::msg::ControlCall;
use crate::base::Leftovers;
use crate::base::limits::LISTED_PER_SLICE;
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
#[derive(Debug)]
struct Waiting {
    id: u64,
    to: ReplyTo,
    call: ControlCall,
    handler: ImageHandler,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listings {
    making: Option<Making>,
    /// What is left of the one before.
    leftovers: Leftovers,
    waiting: LongRequests<Waiting>,
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
        if self.is_busy() || !front.conns.may_be_long(to) || front.conns.has_many_long() {
            let waiting = Waiting {
                id,
                to,
                call,
                handler,
            };
            return self.waiting.push(to, waiting);
        }
        self.waiting.begun(to.conn);
        self.making = Some(Making {
            id,
            to,
            call,
            listing,
            image: Image::clone(&front.image),
            config: Arc::clone(&front.config),
        });
    }

    /// Whether one is in the making, or not all of it is let go.
    fn is_busy(&self) -> bool {
        self.making.is_some() || !self.leftovers.is_empty()
    }

    /// Something of a connection was answered, or has been sent.
    pub fn moved(&mut self, conn: ConnId) {
        self.waiting.moved(conn);
    }

    /// The next request whose turn it is to be answered, from its begin on; it waits no more.
    pub fn next(&mut self, front: &mut Front) -> Option<(ReplyTo, ControlCall, ImageHandler)> {
        if self.is_busy() {
            return None;
        }
        let next = self.waiting.next(&mut front.conns)?;
        front.parked.unpark(next.id);
        Some((next.to, next.call, next.handler))
    }

    /// The shard stops: those whose turn has not come might take long, and are not answered.
    pub fn stop(&mut self, front: &mut Front, fx: &mut Fx<'_>) {
        while let Some(Waiting { id, to, .. }) = self.waiting.take_any() {
            front.parked.unpark(id);
            let why = "the broker stops before what it asks for is listed".to_owned();
            front.conns.fail(to, why, fx.out);
        }
    }

    /// Makes some more of an answer, and sends it when it is whole. Returns a request that is for the control shard.
    pub fn go_on(&mut self, front: &mut Front, fx: &mut Fx<'_>) -> Option<(ReplyTo, ControlCall)> {
        self.leftovers.let_go(&mut { LISTED_PER_SLICE });
        let making = self.making.as_mut()?;
        let ctx = Ctx {
            image: &making.image,
            config: &making.config,
            listener: making.call.listener,
            now: fx.now.mono,
            rng: &mut front.rng,
            brokers: &front.brokers,
        };
        let made = making.listing.go_on(&ctx);
        if matches!(made, Ok(Progress::Partly)) {
            return None;
        }
        let Making {
            id,
            to,
            call,
            listing,
            ..
        } = self.making.take()?;
        listing.leave(&mut self.leftovers);
        front.parked.unpark(id);
        match made {
            Ok(Progress::Whole(pieces)) => {
                let pieces = pieces.into_iter().map(Piece::Memory).collect();
                front.conns.reply_long(to, pieces, fx.out);
            }
            Ok(Progress::Create) => return Some((to, call)),
            Ok(Progress::Partly) => {}
            Err(why) => front.conns.fail(to, why.to_string(), fx.out),
        }
        None
    }

    /// Whether there is something to be made now, or to be let go.
    pub fn has_more(&self, front: &Front) -> bool {
        self.is_busy() || self.waiting.has_next(&front.conns)
    }

    /// Whether nobody waits for an answer.
    pub fn is_empty(&self) -> bool {
        self.making.is_none() && self.waiting.is_empty()
    }

    /// How many wait for their answer.
    pub fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.making.is_some())
    }

    /// Nobody waits for the answer any more.
    pub fn forget(&mut self, conn: ConnId, id: u64) {
        if let Some(making) = self.making.take_if(|making| making.id == id) {
            making.listing.leave(&mut self.leftovers);
        }
        // The others of its connection are forgotten too.
        self.waiting.forget(conn);
    }
}
