//! The control shard's part: it alone changes the cluster's metadata, and it
//! runs the group coordinator.
//!
//! A change is decided against the newest image, written as records to the metadata log, and published
//! to every shard when durable; the client is answered when every shard serves by it. What a client
//! was told is therefore true on whichever core it comes back to.

//!
//! A request is decided here: `metadata` has what was decided, `room` asks the stores whether there is room for it,
//! `groups` hosts the coordinator, `compact` writes the broker's own logs anew, `load` reads them at a start. At the
//! shard of the client a request waits in `calls`; `growth` is the part of the stores' owners.

pub mod calls;
mod change;
mod compact;
mod groups;
pub mod growth;
mod load;
mod metadata;
mod reader;
mod room;
mod run;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use bytes::Bytes;

use crate::base::{LogId, Mono, ShardId};
use crate::broker::admin::{self, Answer};
use crate::broker::apis::{self, Handler};
use crate::broker::fatal;
use crate::broker::fx::Fx;
use crate::broker::groups::{GroupHandler, GroupService, OFFSETS_TOPIC, needs_offsets_topic};
use crate::broker::io::{Output, ReadId};
use crate::broker::msg::{ControlCall, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::config::BrokerConfig;
use crate::controller::{Directory, ProducerIdAllocator};
use crate::store::DiskError;
use change::Change;
use compact::Compaction;
use groups::{Groups, offsets_log};
use load::{Load, LoadStep};
use metadata::{Metadata, Then, answer};
use room::Room;

/// See the module. Lives on shard 0.
#[derive(Debug)]
pub struct Control {
    metadata: Metadata,
    groups: Groups,
    load: Load,
    compaction: Compaction,
    producer_ids: ProducerIdAllocator,
}

impl Control {
    pub fn new(
        config: Arc<BrokerConfig>,
        groups: GroupService,
        shards: u16,
        here: Vec<Directory>,
        seed: u64,
    ) -> Self {
        Self {
            metadata: Metadata::new(config, shards, here, seed),
            groups: Groups::new(groups),
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
    }

    /// Whether nothing is still to be answered.
    pub fn is_quiet(&self) -> bool {
        self.metadata.is_quiet() && self.groups.is_quiet() && self.compaction.is_quiet()
    }

    /// When [`Control::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Mono> {
        let is_done = self.load.is_done();
        is_done.then(|| self.groups.service.next_deadline())
    }

    /// Panics if something is wrong inside. For the simulator.
    pub fn invariants(&self) {
        self.groups.service.invariants();
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
            Some(Handler::Groups(handler)) => {
                return self.group_call(handler, req, call, owner, fx);
            }
            Some(Handler::ImageOrCreate(..)) if self.auto_create(req, &call, owner, fx) => return,
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
                let gone = self.metadata.removed_topics(&records);
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
                        let image = &self.metadata.image;
                        self.groups.topics_deleted(&gone, image, owner, fx);
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
            Handler::Image(answer) | Handler::ImageOrCreate(_, answer) => {
                answer(&ctx, header, body).whole(&ctx)
            }
            Handler::Front(_) | Handler::Groups(_) => {
                Answer::Malformed(format!("API key {} is served elsewhere", header.key))
            }
        }
    }

    /// Creates the topics that a Metadata request asks for and that may be created by asking; the request
    /// is taken up again when they are there. Returns whether that is to be waited for.
    fn auto_create(
        &mut self,
        req: ReqRef,
        call: &ControlCall,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> bool {
        let mut ctx = self.metadata.ctx(call.listener);
        let names = admin::topics_to_auto_create(&ctx, &call.header, call.body.clone());
        let records = admin::auto_create(&mut ctx, &names);
        if records.is_empty() {
            return false;
        }
        let change = Change::new(fx.now, &self.metadata.image, records);
        // In a full store the topic stays unknown, which is an answer.
        self.commit_first(change, req, call, owner, fx)
    }

    /// Takes a group request; makes `__consumer_offsets` first if it is not there.
    fn group_call(
        &mut self,
        handler: GroupHandler,
        req: ReqRef,
        call: Box<ControlCall>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let is_there = self.metadata.image.topic(OFFSETS_TOPIC).is_some();
        if !is_there && needs_offsets_topic(&call.header) {
            let mut ctx = self.metadata.ctx(0);
            let records = admin::auto_create(&mut ctx, &[OFFSETS_TOPIC.to_owned()]);
            let change = Change::new(fx.now, &self.metadata.image, records);
            // In a full store the topic has to wait; the coordinator says that it is not available.
            if self.commit_first(change, req, &call, owner, fx) {
                return;
            }
        }
        let image = &self.metadata.image;
        self.groups.call(handler, req, *call, image, owner, fx);
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

    /// A read of one of the broker's own logs has ended.
    pub fn read(
        &mut self,
        owner: &mut Owner,
        id: ReadId,
        result: Result<Bytes, DiskError>,
        fx: &mut Fx<'_>,
    ) {
        self.load.reader.ended(owner, id, result, fx);
    }

    /// Takes what appends and reads have come to.
    pub fn follow_up(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        while !owner.acks.control_done.is_empty() || !self.load.reader.is_empty() {
            for token in std::mem::take(&mut owner.acks.control_done) {
                self.durable(token, owner, fx);
            }
            if !self.load.reader.is_empty() {
                self.loaded(owner, fx);
            }
        }
    }

    /// What something here waited for is committed.
    fn durable(&mut self, token: u64, owner: &mut Owner, fx: &mut Fx<'_>) {
        let Metadata { image, config, .. } = &self.metadata;
        let least = config.millrace_internal_compact_bytes.unsigned_abs();
        if let Some(partition) = self.groups.durable(token, image, owner, fx) {
            if let Some(log) = offsets_log(image, partition) {
                let valid = || self.groups.service.snapshot(partition);
                self.compaction.offsets(log, least, valid, owner, fx);
            }
        } else if !self.compaction.durable(fx.now, token, owner) && self.metadata.durable(token, fx)
        {
            let image = &self.metadata.image;
            self.compaction.metadata(image, least, owner, fx);
        }
    }

    /// Takes what was read at a start.
    fn loaded(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        let groups = &mut self.groups.service;
        match self.load.read(&mut self.metadata, groups, owner, fx) {
            Ok(Some(step)) => self.loaded_up_to(step, owner, fx),
            Ok(None) => {}
            Err(why) => fx.out.push(fatal::metadata(why)),
        }
    }

    fn loaded_up_to(&mut self, step: LoadStep, owner: &mut Owner, fx: &mut Fx<'_>) {
        match step {
            LoadStep::Metadata => match self.metadata.first_start() {
                Ok(records) => {
                    if records.is_empty() {
                        self.metadata.publish_current(fx);
                    } else {
                        self.metadata.commit_quietly(records, owner, fx);
                    }
                    let topic = self.metadata.image.topic(OFFSETS_TOPIC);
                    self.load.offsets_are_in(topic.map(|topic| &**topic));
                }
                Err(why) => fx.out.push(fatal::metadata(why)),
            },
            LoadStep::Offsets { skipped } => {
                let effects = self.groups.loaded(fx);
                let image = &self.metadata.image;
                for partition in skipped {
                    let valid = self.groups.service.snapshot(partition);
                    if let (Some(log), Some(valid)) = (offsets_log(image, partition), valid) {
                        self.compaction.rewrite_offsets(log, &valid, owner, fx);
                    }
                }
                self.groups.perform(effects, image, owner, fx);
                fx.out.push(Output::Ready);
            }
        }
    }

    /// The image is served on this shard.
    pub fn image_applied(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        let groups = &mut self.groups.service;
        let step = self.load.image_applied(&self.metadata, groups, owner, fx);
        if let Some(step) = step {
            self.loaded_up_to(step, owner, fx);
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

    /// Lets the coordinator see the time.
    pub fn tick(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        if self.load.is_done() {
            self.groups.tick(&self.metadata.image, owner, fx);
        }
    }

    /// The broker goes down.
    pub fn stop(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        if self.load.is_done() {
            self.groups.stop(&self.metadata.image, owner, fx);
        }
    }
}

/// Has the connection of a request closed.
fn refuse(req: ReqRef, why: String, fx: &mut Fx<'_>) {
    let answer = Err(why);
    fx.send(req.shard, Msg::ControlDone { id: req.id, answer });
}
