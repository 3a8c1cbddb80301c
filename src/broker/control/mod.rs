//! The control shard's part: it alone changes the cluster's metadata.
//!
//! A change is decided against the newest image, written as records to the metadata log, and published
//! to every shard when durable; the client is answered when every shard serves by it. What a client
//! was told is therefore true on whichever core it comes back to.

//!
//! A request is decided here: `metadata` has what was decided, `room` asks the stores whether there is room for it,
//! `load` reads the metadata at a start. At the shard of the client a request waits in `calls`; `growth` is the part of
//! the stores' owners.

pub mod calls;
mod change;
pub mod growth;
mod load;
mod metadata;
mod room;
#[cfg(test)]
pub mod testing;

use std::sync::Arc;

use bytes::Bytes;

use crate::base::{LogId, ShardId};
use crate::broker::admin::{self, Answer};
use crate::broker::apis::{self, Handler, Missing};
use crate::broker::fatal;
use crate::broker::fx::Fx;
use crate::broker::io::ReadId;
use crate::broker::msg::{ControlCall, Msg, ReqRef};
use crate::broker::own::compact::Compaction;
use crate::broker::owner::Owner;
use crate::config::BrokerConfig;
use crate::controller::{Directory, METADATA_LOG, ProducerIdAllocator};
use crate::store::DiskError;
use change::Change;
use load::Load;
use metadata::{Metadata, Then, answer};
use room::Room;

/// A larger image is not written at once.
const METADATA_BYTES_MAX: usize = 64 << 20;

/// See the module. Lives on shard 0.
#[derive(Debug)]
pub struct Control {
    metadata: Metadata,
    load: Load,
    compaction: Compaction,
    producer_ids: ProducerIdAllocator,
}

impl Control {
    pub fn new(config: Arc<BrokerConfig>, shards: u16, here: Vec<Directory>, seed: u64) -> Self {
        Self {
            metadata: Metadata::new(config, shards, here, seed),
            load: Load::default(),
            compaction: Compaction::default(),
            producer_ids: ProducerIdAllocator::default(),
        }
    }

    /// Serves by other settings.
    pub fn set_config(&mut self, config: Arc<BrokerConfig>) {
        self.metadata.config = config;
    }

    /// Begins to read what was decided before.
    pub fn start(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        self.load.start(&self.metadata.config, owner, fx);
        self.loaded(owner, fx);
    }

    /// Whether nothing is still to be answered.
    pub fn is_quiet(&self) -> bool {
        self.metadata.is_quiet() && self.compaction.is_quiet()
    }

    /// Panics if something is wrong inside. For the simulator.
    pub fn invariants(&self) {
        self.metadata.invariants();
    }

    /// Takes a request.
    pub fn call(
        &mut self,
        req: ReqRef,
        call: Box<ControlCall>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let decided = match apis::served(call.header.key).map(|served| served.handler) {
            Some(Handler::ImageOrCreate(_, _, missing))
                if self.create_missing(missing, req, &call, owner, fx) =>
            {
                return;
            }
            Some(handler) => self.decide(handler, &call),
            None => Answer::Malformed(format!("API key {} is not served", call.header.key)),
        };
        match decided {
            Answer::Reply(frame) => self.metadata.reply(req, frame, fx),
            Answer::Malformed(why) => refuse(req, why, fx),
            Answer::Listing(_) | Answer::Create => {
                refuse(req, "the answer was left unfinished".to_owned(), fx);
            }
            Answer::Commit {
                records,
                reply,
                refusal,
            } => {
                let change = Change::new(fx.now, &self.metadata.image, records);
                let room = match &refusal {
                    Some(_) => self.metadata.rooms.room_for(&change, &call, owner),
                    None => Room::There,
                };
                match (room, refusal) {
                    (Room::Unknown, _) => self.metadata.rooms.ask(req, call, &change, fx),
                    (Room::Full, Some(refusal)) => self.metadata.reply(req, refusal, fx),
                    _ => {
                        let then = Then::Reply(req, reply);
                        self.metadata.commit(change, then, owner, fx);
                    }
                }
            }
        }
    }

    /// Lets the handler of a request decide.
    fn decide(&mut self, handler: Handler, call: &ControlCall) -> Answer {
        let mut ctx = self.metadata.ctx(call.listener);
        let (header, body) = (&call.header, call.body.clone());
        match handler {
            Handler::Control(decide) => decide(&mut ctx, &mut self.producer_ids, header, body),
            Handler::Image(answer) | Handler::ImageOrCreate(_, answer, _) => {
                answer(&ctx, header, body).whole(&ctx)
            }
            Handler::Front(_) | Handler::Groups(_) => {
                Answer::Malformed(format!("API key {} is served elsewhere", header.key))
            }
        }
    }

    /// Creates the topics that are missing for a request and that may be created by asking; it is taken up again
    /// when they are there. Returns whether that is to be waited for.
    fn create_missing(
        &mut self,
        missing: Missing,
        req: ReqRef,
        call: &ControlCall,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> bool {
        let mut ctx = self.metadata.ctx(call.listener);
        let names = missing(&ctx, &call.header, call.body.clone());
        let records = admin::auto_create(&mut ctx, &names);
        if records.is_empty() {
            return false;
        }
        let change = Change::new(fx.now, &self.metadata.image, records);
        // In a full store the topic stays unknown, which is an answer.
        self.commit_first(change, req, call, owner, fx)
    }

    /// Commits a change that a request needs; it is taken up again when every shard serves by it. False if there is
    /// no room for it.
    fn commit_first(
        &mut self,
        change: Change,
        req: ReqRef,
        call: &ControlCall,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> bool {
        let call = Box::new(call.clone());
        match self.metadata.rooms.room_for(&change, &call, owner) {
            Room::There => {
                let then = Then::Retry(req, call);
                self.metadata.commit(change, then, owner, fx);
            }
            Room::Unknown => self.metadata.rooms.ask(req, call, &change, fx),
            Room::Full => return false,
        }
        true
    }

    /// A read of the metadata log has ended.
    pub fn read(
        &mut self,
        owner: &mut Owner,
        id: ReadId,
        result: Result<Bytes, DiskError>,
        fx: &mut Fx<'_>,
    ) {
        self.load.reader.ended(owner, id, result, fx);
        self.loaded(owner, fx);
    }

    /// If the token is that of an append of this shard's, it is durable: returns whether it is.
    pub fn durable(&mut self, token: u64, owner: &mut Owner, fx: &mut Fx<'_>) -> bool {
        if self.compaction.durable(fx.now, token, owner) {
            return true;
        }
        if !self.metadata.durable(token, fx) {
            return false;
        }
        let Metadata { image, config, .. } = &self.metadata;
        let least = config.millrace_internal_compact_bytes.unsigned_abs();
        let now = fx.now;
        // The image has all that was decided, and what was decided before this is before it in the log.
        let valid = || {
            let batch = Change::new(now, image, image.snapshot()).batch;
            (batch.len() <= METADATA_BYTES_MAX).then(|| vec![batch])
        };
        self.compaction
            .look_at(METADATA_LOG, least, valid, owner, fx);
        true
    }

    /// Takes what was read at a start.
    fn loaded(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        let read = self.load.read(&mut self.metadata, owner, fx);
        let first = read.and_then(|all| match all {
            true => self.metadata.first_start().map(Some),
            false => Ok(None),
        });
        match first {
            Ok(Some(records)) if records.is_empty() => self.metadata.publish_current(fx),
            Ok(Some(records)) => self.metadata.commit_quietly(records, owner, fx),
            Ok(None) => {}
            Err(why) => fx.out.push(fatal::metadata(why)),
        }
    }

    /// A shard serves by an image now, and has found logs that were never given out; answers those who waited for
    /// that.
    pub fn served(
        &mut self,
        shard: ShardId,
        version: u64,
        strays: &[LogId],
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        self.metadata.strays_found(strays, owner, fx);
        self.metadata.served(shard, version);
        while let Some(then) = self.metadata.next_served() {
            for then in then {
                match then {
                    Then::Reply(req, frame) => answer(req, frame, fx),
                    Then::Retry(req, call) => self.call(req, call, owner, fx),
                    Then::Nothing => {}
                }
            }
        }
    }

    /// A store has said whether it has the room that it was asked for.
    pub fn room_told(&mut self, there: bool, owner: &mut Owner, fx: &mut Fx<'_>) {
        let mut next = self.metadata.rooms.told(there);
        while let Some((req, call)) = next {
            self.call(req, call, owner, fx);
            next = self.metadata.rooms.next();
        }
    }
}

/// Has the connection of a request closed.
fn refuse(req: ReqRef, why: String, fx: &mut Fx<'_>) {
    let answer = Err(why);
    fx.send(req.shard, Msg::ControlDone { id: req.id, answer });
}
