//! The control shard's part: it alone changes the cluster's metadata.
//!
//! A change is decided against the newest image, written as records to the metadata log, and published
//! to every shard when durable; the client is answered when every shard serves by it. What a client
//! was told is therefore true on whichever core it comes back to.
//!
//! A request waits for its turn in `queue` and is decided on in `decisions`; `metadata` has what was decided, `room`
//! asks the stores whether there is room for it, `load` reads the metadata at a start. At the shard of the client a
//! request waits in `calls`; `growth` is the part of the stores' owners.

pub mod calls;
mod decisions;
pub mod growth;
mod load;
mod metadata;
mod queue;
mod room;
mod snapshot;
#[cfg(test)]
pub mod testing;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::limits::{DECIDED_PER_SLICE, DECODE_BYTES_MAX};
use crate::base::{Leftovers, LogId, ShardId};
use crate::broker::admin::Decided;
use crate::broker::fatal;
use crate::broker::fx::Fx;
use crate::broker::io::ReadId;
use crate::broker::msg::{Called, ControlCall, Msg, ReqRef};
use crate::broker::own::compact::Compaction;
use crate::broker::owner::Owner;
use crate::config::BrokerConfig;
use crate::controller::{Directory, Draft, METADATA_LOG, ProducerIdAllocator};
use crate::store::DiskError;
use crate::wire::WireError;
use decisions::Making;
use load::Load;
use metadata::{Metadata, Then, answer};
use queue::{CallQueue, CallTurn};
use room::Room;
use snapshot::SnapshotBatch;

/// See the module. Lives on shard 0.
#[derive(Debug)]
pub struct Control {
    metadata: Metadata,
    load: Load,
    compaction: Compaction,
    /// The log is to be compacted: its bytes, and from how many on it is. What it is to be compacted to, in the making.
    snapshot_wanted: Option<(u64, u64)>,
    snapshot: Option<SnapshotBatch>,
    producer_ids: ProducerIdAllocator,
    queue: CallQueue,
    making: Option<Making>,
    /// What is left of the slice of decisions between two idle moments.
    left: usize,
    /// What is left of decisions that were made.
    leftovers: Leftovers,
    /// Logs that shards have found, to be noted when nothing is being decided.
    strays: BTreeSet<LogId>,
}

impl Control {
    pub fn new(config: Arc<BrokerConfig>, shards: u16, here: Vec<Directory>, seed: u64) -> Self {
        Self {
            metadata: Metadata::new(config, shards, here, seed),
            load: Load::default(),
            compaction: Compaction::default(),
            snapshot_wanted: None,
            snapshot: None,
            producer_ids: ProducerIdAllocator::default(),
            queue: CallQueue::default(),
            making: None,
            left: DECIDED_PER_SLICE,
            leftovers: Leftovers::default(),
            strays: BTreeSet::new(),
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
        self.metadata.is_quiet()
            && self.compaction.is_quiet()
            && self.queue.is_empty()
            && !self.has_more()
    }

    /// Whether there is something to be decided.
    pub fn has_more(&self) -> bool {
        self.making.is_some()
            || !self.leftovers.is_empty()
            || (!self.queue.is_empty() && !self.metadata.is_full())
            || !self.strays.is_empty()
            || self.snapshot_wanted.is_some()
            || self.snapshot.is_some()
    }

    /// Requests whose turn has not come.
    #[cfg(test)]
    pub fn undecided(&self) -> usize {
        self.queue.len()
    }

    /// Panics if something is wrong inside. For the simulator.
    pub fn invariants(&self) {
        self.metadata.invariants();
        self.queue.invariants();
    }

    /// Takes a request.
    pub fn call(
        &mut self,
        req: ReqRef,
        call: Box<ControlCall>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let bytes = call.body.len();
        if bytes > DECODE_BYTES_MAX {
            // It is not kept until its turn comes.
            return refuse(req, WireError::TooLong { bytes }.to_string(), fx);
        }
        self.queue.push(req, call);
        self.decide_some(owner, fx);
    }

    /// The connection of a request is gone.
    pub fn cancel(&mut self, req: ReqRef) {
        self.queue.cancel(req);
    }

    /// The shard is to stop.
    pub fn stop(&mut self, fx: &mut Fx<'_>) {
        for req in self.queue.stop() {
            refuse(req, "the broker stops".to_owned(), fx);
        }
    }

    /// Nothing is waiting: a slice of what is to be decided has its turn.
    pub fn go_on(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        self.left = DECIDED_PER_SLICE;
        self.decide_some(owner, fx);
    }

    /// Decides, as far as the slice goes.
    fn decide_some(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        while self.left > 0 {
            self.leftovers.let_go(&mut self.left);
            if self.left == 0 {
                return;
            }
            // A decision that has begun is made first: a snapshot is of what was decided.
            if self.making.is_none() && self.snapshot_some(owner, fx) {
                continue;
            }
            let Some(mut making) = self.making.take().or_else(|| self.begin_next(owner, fx)) else {
                return;
            };
            let (metadata, ids) = (&mut self.metadata, &mut self.producer_ids);
            match making.go_on(metadata, ids, &mut self.left) {
                Ok(Decided::Partly) => self.making = Some(making),
                Ok(Decided::Whole {
                    commits,
                    reply,
                    refusal,
                }) => {
                    let Making {
                        turn,
                        decision,
                        draft,
                        ..
                    } = making;
                    decision.leave(&mut self.leftovers);
                    let waited = turn.waited;
                    if commits && !draft.is_empty() {
                        self.decided((turn, draft), reply, refusal, owner, fx);
                    } else {
                        self.metadata.reply(turn.req, reply, fx);
                    }
                    self.next_waiting(waited);
                }
                Err(why) => {
                    making.decision.leave(&mut self.leftovers);
                    refuse(making.turn.req, why.to_string(), fx);
                    self.next_waiting(making.turn.waited);
                }
            }
        }
    }

    /// Begins with a snapshot or goes on with it, and compacts the log to it when it is whole. False if there is none.
    fn snapshot_some(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) -> bool {
        if let Some(sizes) = self.snapshot_wanted.take() {
            let image = &self.metadata.image;
            self.snapshot = Some(SnapshotBatch::new(fx.now, image, sizes));
        }
        let Some(mut snapshot) = self.snapshot.take() else {
            return false;
        };
        if snapshot.go_on(&mut self.left) {
            let sizes = snapshot.sizes;
            let batch = snapshot.into_batch();
            self.compaction
                .compact(METADATA_LOG, sizes, batch, owner, fx);
        } else {
            self.snapshot = Some(snapshot);
        }
        true
    }

    /// Begins with the next request, if there is one.
    fn begin_next(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) -> Option<Making> {
        let strays = std::mem::take(&mut self.strays);
        self.metadata.strays_found(strays, owner, fx);
        while !self.metadata.is_full() {
            let turn = self.queue.pop()?;
            match Making::begin(turn, &self.metadata, fx.now.wall_ms) {
                Ok(making) => return Some(making),
                Err((turn, why)) => {
                    refuse(turn.req, why, fx);
                    self.next_waiting(turn.waited);
                }
            }
        }
        None
    }

    /// Commits what was decided, if there is room for it.
    fn decided(
        &mut self,
        (turn, draft): (CallTurn, Draft),
        reply: Called,
        refusal: Option<Called>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let CallTurn {
            req, call, asked, ..
        } = turn;
        let change = draft.into_change();
        let rooms = &mut self.metadata.rooms;
        let room = match &refusal {
            Some(_) => rooms.room_for(&change, &call, asked.as_ref(), owner),
            None => Room::There,
        };
        match (room, refusal) {
            (Room::Unknown, _) => rooms.ask(req, call, &change, fx),
            (Room::Full, Some(refusal)) => self.metadata.reply(req, refusal, fx),
            _ => {
                let then = Then::Answer(req, reply);
                self.metadata.commit(change, then, owner, fx);
            }
        }
    }

    /// If the request that was decided on is one that had to wait for room: so has the one behind it no more.
    fn next_waiting(&mut self, waited: bool) {
        if waited && let Some((req, call)) = self.metadata.rooms.next() {
            self.queue.push_front(CallTurn {
                req,
                call,
                waited: true,
                asked: None,
            });
        }
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
        let least = self.metadata.config.millrace_internal_compact_bytes;
        let least = least.unsigned_abs();
        if self.snapshot_wanted.is_none()
            && self.snapshot.is_none()
            && let Some(size) = self.compaction.due(METADATA_LOG, least, owner)
        {
            self.snapshot_wanted = Some((size, least));
            self.decide_some(owner, fx);
        }
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
        strays: Vec<LogId>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        self.strays.extend(strays);
        self.metadata.served(shard, version);
        while let Some(then) = self.metadata.next_served() {
            for then in then {
                match then {
                    Then::Answer(req, called) => answer(req, called, fx),
                    Then::Nothing => {}
                }
            }
        }
        self.decide_some(owner, fx);
    }

    /// A store has said whether it has the room that it was asked for.
    pub fn room_told(&mut self, there: bool, owner: &mut Owner, fx: &mut Fx<'_>) {
        if let Some((req, call, asked)) = self.metadata.rooms.told(there) {
            self.queue.push_front(CallTurn {
                req,
                call,
                waited: true,
                asked: Some(asked),
            });
            self.decide_some(owner, fx);
        }
    }
}

/// Has the connection of a request closed.
fn refuse(req: ReqRef, why: String, fx: &mut Fx<'_>) {
    let answer = Err(why);
    fx.send(req.shard, Msg::ControlDone { id: req.id, answer });
}
