//! The control shard's part: it alone changes the cluster's metadata.
//!
//! A change is decided against the newest image, proposed to the quorum as one entry of the metadata log, and published
//! to every shard when that is committed; the client is answered when every shard serves by it. What a client
//! was told is therefore true on whichever core it comes back to.
//!
//! A request waits for its turn in `queue` and is decided on in `decisions`; `metadata` has what was decided and what
//! is committed, `room` asks the stores whether there is room for it. `driver` is this node's replica of the log, in
//! `logs` of store-0; `snapshot` writes down what stands for its beginning, `load` reads all that at a start. At the
//! shard of the client a request waits in `calls`; `growth` is the part of the stores' owners.

pub mod calls;
mod cluster;
mod decisions;
mod driver;
mod fetching;
mod follows;
mod forwarding;
pub mod growth;
#[cfg(test)]
mod install_tests;
mod leads;
mod life;
mod load;
mod logs;
#[cfg(test)]
mod machine;
mod members;
mod metadata;
#[cfg(test)]
mod observer_tests;
pub mod offline;
mod others;
mod queue;
#[cfg(test)]
mod quorum_tests;
mod refusals;
#[cfg(test)]
mod restart_tests;
mod room;
mod said;
mod sending;
mod snapshot;
#[cfg(test)]
pub mod testing;
mod voters;
#[cfg(test)]
mod voters_tests;
mod voting;
mod writes;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::limits::{DECIDED_PER_SLICE, DECODE_BYTES_MAX, RESIGNED_WITHIN_MS};
use crate::base::{LeaderEpoch, LogId, Mono, Offset, ShardId};
use crate::broker::admin::Decided;
use crate::broker::fatal;
use crate::broker::fx::Fx;
use crate::broker::io::ReadId;
use crate::broker::msg::{Called, ControlCall, ReqRef};
use crate::broker::owner::Owner;
use crate::broker::peers::ClusterSetup;
use crate::broker::trace::Board;
use crate::config::BrokerConfig;
use crate::controller::{Directory, Draft, Image, METADATA_SNAPSHOT_LOG, ProducerIdAllocator};
use crate::quorum::{Declined, EntryId, QuorumInput, ReplicaKey, Restored, SnapshotMark};
use crate::store::DiskError;
use crate::wire::WireError;
use decisions::Making;
use driver::QuorumDriver;
use fetching::SnapshotFetching;
use follows::{Then, answer, tell};
use forwarding::{ForwardedHere, Forwarding};
use load::{FoundMetadata, Load};
use members::{ClusterMembers, Membership};
use metadata::{CommittedTurn, Metadata};
use others::Others;
use queue::{CallQueue, CallTurn, ToDecide};
use room::Room;
use sending::SnapshotSending;
use snapshot::{SnapshotWriter, SnapshotWritten};
use voting::VoterChanging;

/// A snapshot that is being written down.
#[derive(Debug)]
struct Snapshotting {
    writer: SnapshotWriter,
    /// What it is made of.
    image: Image,
    /// When it is whole: the number that says that it is on the disk, and where it begins.
    written: Option<(u64, Offset)>,
    /// There has to be room for it first.
    waits: bool,
    /// It is that of a first start.
    is_first: bool,
    /// What this replica starts with when it is whole, at the first start.
    starts: Option<Restored>,
}

impl Snapshotting {
    fn new(mark: SnapshotMark, image: &Image, starts: Option<Restored>) -> Self {
        Self {
            // What is kept for the broker is kept for this too: what it stands for goes at once.
            writer: SnapshotWriter::new(mark, image, starts.is_none()),
            image: image.clone(),
            written: None,
            waits: false,
            is_first: starts.is_some(),
            starts,
        }
    }

    /// Whether there is more to be written, and may be at once.
    const fn has_more(&self) -> bool {
        self.written.is_none() && !self.waits
    }
}

/// What a node knows of the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataStatus {
    /// The last entry that it has replayed.
    pub replayed: EntryId,
    /// The version that it has come to by that.
    pub version: u64,
    /// The term in which it leads, if it does.
    pub leads: Option<LeaderEpoch>,
    /// Brokers that may lead.
    pub live: usize,
    /// Snapshots that this process has fetched.
    pub fetched: u64,
}

/// See the module. Lives on shard 0.
#[derive(Debug)]
pub struct Control {
    metadata: Metadata,
    /// This node's replica of the metadata log, and the seed of its chance.
    me: ReplicaKey,
    seed: u64,
    load: Load,
    /// The other nodes of the configuration.
    others: Others,
    /// The disk knows of no quorum, and others are to be part of it.
    is_blank: bool,
    snapshot: Option<Snapshotting>,
    /// The newest snapshot, as others get it.
    sending: SnapshotSending,
    /// One that is being fetched.
    fetching: Option<SnapshotFetching>,
    /// One that was, and takes the place of the committed image when the disk has it.
    fetched: Option<(EntryId, Box<Image>)>,
    producer_ids: ProducerIdAllocator,
    queue: CallQueue,
    making: Option<Making>,
    /// What is left of the slice of decisions between two idle moments.
    left: usize,
    /// The quorum takes nothing of this node any more, which is about to lead it no more.
    is_declined: bool,
    /// The records with which this node begins to decide wait for a snapshot, for the log is full.
    begins_late: bool,
    /// Which nodes are brokers, if this one leads.
    members: ClusterMembers,
    /// Requests that others decide on, and those that they have forwarded to this node.
    forwarding: Forwarding,
    forwarded: ForwardedHere,
    /// The number of the last thing that the control shard has decided for itself or another node.
    numbers: u64,
    /// What other nodes have said that is not understood.
    #[cfg(test)]
    pub strange: std::collections::VecDeque<(crate::base::NodeId, Bytes)>,
    /// When the node leaves the others, though it leads or waits for their answers.
    leaves_at: Mono,
    /// That was.
    leaves: bool,
    /// The version of the metadata in which it was looked whether others lead what they may, and whether they did.
    has_left: (u64, bool),
    /// Logs that shards have found, to be noted when nothing is being decided.
    strays: BTreeSet<LogId>,
    /// The change of the voters that is being made, and who waits for it.
    voting: Option<VoterChanging>,
}

impl Control {
    /// For a node that is one of several, if there is a cluster.
    pub fn new(
        config: Arc<BrokerConfig>,
        shards: u16,
        here: Vec<Directory>,
        cluster: Option<&ClusterSetup>,
        seed: u64,
    ) -> Self {
        let directory = here.first().map(|first| first.id);
        let me = ReplicaKey {
            node: config.node(),
            directory: directory.unwrap_or_default(),
        };
        let mut metadata = Metadata::new(config, shards, here, seed);
        if let Some(cluster) = cluster {
            let start = metadata.random_id();
            let reached = cluster.reached.clone();
            metadata.membership = Some(Membership::new(start, reached));
        }
        Self {
            load: Load::new(me, metadata.committed.clone()),
            metadata,
            me,
            seed,
            others: Others::new(me, cluster),
            is_blank: false,
            snapshot: None,
            sending: SnapshotSending::default(),
            fetching: None,
            fetched: None,
            producer_ids: ProducerIdAllocator::default(),
            queue: CallQueue::default(),
            making: None,
            left: DECIDED_PER_SLICE,
            is_declined: false,
            begins_late: false,
            members: ClusterMembers::default(),
            forwarding: Forwarding::default(),
            forwarded: ForwardedHere::default(),
            numbers: 0,
            #[cfg(test)]
            strange: std::collections::VecDeque::new(),
            leaves_at: Mono::NEVER,
            leaves: false,
            has_left: (0, false),
            strays: BTreeSet::new(),
            voting: None,
        }
    }

    /// Serves by other settings.
    pub fn set_config(&mut self, config: Arc<BrokerConfig>) {
        let allows = |config: &BrokerConfig| config.unclean_leader_election_enable;
        if allows(&config) && !allows(&self.metadata.config) {
            self.members.elects_others();
        }
        self.metadata.config = config;
    }

    /// Begins to read what was decided before.
    pub fn start(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        match self.load.start(&self.metadata.config, owner, fx) {
            Ok(()) => self.loaded(owner, fx),
            Err(why) => fx.out.push(fatal::metadata(why)),
        }
    }

    /// Whether nothing is still to be answered.
    pub fn is_quiet(&self) -> bool {
        self.metadata.is_quiet()
            && self.snapshot.as_ref().is_none_or(|it| it.waits)
            && self.queue.is_empty()
            && self.forwarding.is_empty()
            && !self.has_more()
    }

    /// Whether there is something to be decided.
    pub fn has_more(&self) -> bool {
        let decides = self.decides();
        self.making.is_some()
            || !self.metadata.leftovers.is_empty()
            || (!self.queue.is_empty() && decides && !self.metadata.is_full())
            || (!self.strays.is_empty() && decides)
            || (self.members.has_more() && decides)
            || self.metadata.has_more()
            || self.snapshot.as_ref().is_some_and(Snapshotting::has_more)
            || self.sending.has_more()
    }

    /// Whether it is still to be learned where brokers are, which it is when it [talks](Self::talk).
    pub fn has_to_learn(&self) -> bool {
        let image = self.metadata.known();
        image.is_some_and(|image| self.others.has_to_learn(image))
    }

    /// Whether the next request may be decided.
    const fn decides(&self) -> bool {
        self.metadata.leads() && !self.begins_late && !self.is_declined
    }

    /// When the quorum wants to be told the time.
    pub fn wake_at(&self) -> Mono {
        let quorum = self.metadata.quorum.as_ref();
        let quorum = quorum.map_or(Mono::NEVER, QuorumDriver::wake_at);
        quorum.min(self.others_wake_at())
    }

    /// Something has happened to the quorum: the one way in, for messages of other replicas too.
    fn quorum_input(&mut self, input: QuorumInput, owner: &mut Owner, fx: &mut Fx<'_>) {
        if let Some(quorum) = &mut self.metadata.quorum {
            quorum.step(input, owner, fx);
        }
        self.decide_some(owner, fx);
    }

    /// What is known of the metadata, once there is a quorum.
    pub fn status(&self) -> Option<MetadataStatus> {
        let quorum = self.metadata.quorum.as_ref()?;
        let image = self.metadata.known()?;
        Some(MetadataStatus {
            replayed: self.metadata.replayed,
            version: image.version,
            leads: quorum.leads_in(),
            fetched: self.metadata.installed,
            live: image.brokers.iter().filter(|it| !it.fenced).count(),
        })
    }

    /// Has shown what is known of the metadata.
    pub fn show(&self, board: &Board) {
        let entry = self.metadata.replayed.index.0;
        let fenced = self.metadata.known().map(|image| {
            let fenced = image.brokers.iter().filter(|it| it.fenced).count();
            [image.brokers.count() - fenced, fenced]
        });
        board.metadata(self.metadata.leads(), entry, fenced);
    }

    /// What is known to be committed. For the simulator.
    pub fn known(&self) -> Option<&Image> {
        self.metadata.quorum.as_ref()?;
        self.metadata.known()
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
        if self.leaves {
            return refuse(req, "the broker stops".to_owned(), fx);
        }
        if !self.metadata.leads() && self.others.is_alone() {
            return self.not_controller(req, fx);
        }
        self.queue.push(req, ToDecide::Client(call));
        self.forward_some(fx.now.mono);
        self.decide_some(owner, fx);
    }

    /// Nobody waits for a request any more.
    pub fn cancel(&mut self, req: ReqRef) {
        self.queue.cancel(req, self.decides());
        self.forwarding.cancel(req);
    }

    /// The shard is to stop: if this node leads, another one is to.
    pub fn stop(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        self.leaves_at = fx.now.mono.plus_ms(RESIGNED_WITHIN_MS);
        self.voters_unknown(fx);
        if let Some(quorum) = &mut self.metadata.quorum
            && !self.others.is_alone()
        {
            quorum.step(QuorumInput::Resign, owner, fx);
        }
        for req in self.queue.stop() {
            refuse(req, "the broker stops".to_owned(), fx);
        }
    }

    /// Nothing is waiting: a slice of what is to be decided has its turn.
    pub fn go_on(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        self.left = DECIDED_PER_SLICE;
        if let Some(quorum) = &mut self.metadata.quorum {
            quorum.go_on(owner, fx);
            if fx.now.mono >= quorum.wake_at() {
                quorum.step(QuorumInput::Time, owner, fx);
            }
        }
        self.others_go_on(owner, fx);
        self.decide_some(owner, fx);
    }

    /// Replays what is committed, and decides, as far as the slice goes.
    fn decide_some(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        while self.left > 0 {
            self.metadata.leftovers.let_go(&mut self.left);
            if let Err(why) = self.committed_some(owner, fx) {
                return fx.out.push(fatal::metadata(why));
            }
            self.snapshot_some(owner, fx);
            if self.left == 0 {
                return;
            }
            let Some(mut making) = self.making.take().or_else(|| self.begin_next(owner, fx)) else {
                return;
            };
            let (metadata, ids) = (&mut self.metadata, &mut self.producer_ids);
            match making.go_on(metadata, ids, &mut self.left, fx.now) {
                Ok(Decided::Partly) => self.making = Some(making),
                Ok(Decided::Voters(ask)) => {
                    making.decision.leave(&mut self.metadata.leftovers);
                    self.change_voters(making.turn.req, *ask, owner, fx);
                    self.next_waiting(making.turn.waited);
                }
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
                    decision.leave(&mut self.metadata.leftovers);
                    let waited = turn.waited;
                    if commits && !draft.is_empty() {
                        self.decided((turn, draft), reply, refusal, owner, fx);
                    } else {
                        self.metadata.reply(turn.req, reply, fx);
                    }
                    self.next_waiting(waited);
                }
                Err(why) => {
                    making.decision.leave(&mut self.metadata.leftovers);
                    refuse(making.turn.req, why.to_string(), fx);
                    self.next_waiting(making.turn.waited);
                }
            }
        }
    }

    /// Replays what is committed, and does what has to be done by it.
    fn committed_some(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) -> Result<(), String> {
        while let Some(turn) = self.metadata.replay_some(&mut self.left, owner, fx)? {
            match turn {
                // That which is fetched would have its parts in between, or end before it.
                CommittedTurn::Snapshot(_) if self.fetching.is_some() || self.fetched.is_some() => {
                    if let Some(quorum) = &mut self.metadata.quorum {
                        quorum.not_snapshotted(fx.now.mono);
                    }
                }
                CommittedTurn::Installed(mark) => self.installed(&mark, fx)?,
                CommittedTurn::Snapshot(mark) => {
                    if let Some(quorum) = &self.metadata.quorum {
                        quorum.begin_cut(owner, fx);
                    }
                    let image = &self.metadata.committed;
                    self.snapshot = Some(Snapshotting::new(mark, image, None));
                }
                CommittedTurn::Leads => {
                    self.is_declined = false;
                    if !self.others.is_alone() {
                        tracing::info!("this node leads the metadata quorum");
                    }
                    self.members.lead(fx.now.mono, &self.metadata.committed);
                    self.begin_deciding(owner, fx)?;
                }
                CommittedTurn::Follows => self.resign(fx),
                CommittedTurn::Changed(outcome) => self.voters_changed(outcome, fx),
                CommittedTurn::VotersCommitted(id) => self.voters_committed(id, fx),
            }
        }
        if std::mem::take(&mut self.metadata.alters_elections) {
            self.members.elects_others();
        }
        if self.begins_late && self.snapshot.is_none() {
            self.begin_deciding(owner, fx)?;
        }
        Ok(())
    }

    /// Goes on with a snapshot.
    fn snapshot_some(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        let Some(snapshot) = &mut self.snapshot else {
            return;
        };
        if snapshot.written.is_some() {
            return;
        }
        // Decisions go on meanwhile.
        let share = self.left.div_ceil(2);
        let mut left = share;
        let gone_on = snapshot.writer.go_on(&mut left, owner, fx);
        self.left -= share - left;
        snapshot.waits = gone_on == Ok(SnapshotWritten::Waits);
        match gone_on {
            Ok(SnapshotWritten::Partly | SnapshotWritten::Waits) => {}
            Ok(SnapshotWritten::Whole { first, end }) => {
                let token = owner.tell_when_committed(METADATA_SNAPSHOT_LOG, end);
                snapshot.written = Some((token, first));
                if let Some(restored) = snapshot.starts.take() {
                    self.join(restored, owner, fx);
                }
            }
            Ok(SnapshotWritten::NoRoom) if snapshot.starts.is_some() => {
                self.snapshot = None;
                let why = "store-0 has no room for a snapshot of the metadata: raise millrace.store.bytes.max";
                fx.out.push(fatal::metadata(why.to_owned()));
            }
            Ok(SnapshotWritten::NoRoom) => {
                tracing::warn!(
                    "store-0 has no room for a snapshot of the metadata: its log stays long"
                );
                self.snapshot = None;
                if let Some(quorum) = &mut self.metadata.quorum {
                    quorum.not_snapshotted(fx.now.mono);
                }
            }
            Err(why) => {
                self.snapshot = None;
                fx.out.push(fatal::metadata(why));
            }
        }
    }

    /// Begins with the next request, if there is one.
    fn begin_next(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) -> Option<Making> {
        if !self.decides() {
            return None;
        }
        let strays = std::mem::take(&mut self.strays);
        self.metadata.strays_found(strays, owner, fx);
        if let Some(decision) = self.members.next(self.numbers + 1) {
            self.numbers += 1;
            self.queue.push_inside(self.numbers, decision);
        }
        while !self.metadata.is_full() {
            let turn = self.queue.pop()?;
            match Making::begin(turn, &self.metadata) {
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
        let room = match (&refusal, &call) {
            (Some(_), ToDecide::Client(call)) => {
                rooms.room_for(&change, call, asked.as_ref(), owner)
            }
            _ => Room::There,
        };
        match (room, refusal, call) {
            (Room::Unknown, _, ToDecide::Client(call)) => rooms.ask(req, call, &change, fx),
            (Room::Full, Some(refusal), _) => self.metadata.reply(req, refusal, fx),
            (_, refusal, _) => {
                let then = Then::Answer(req, reply);
                let committed = self.metadata.commit(change, then, owner, fx);
                match (committed, refusal) {
                    (Ok(()), _) => {}
                    (Err((Declined::NotLeader { .. }, _)), _) => {
                        self.is_declined = true;
                        self.not_controller(req, fx);
                    }
                    (Err(_), Some(refusal)) => self.metadata.reply(req, refusal, fx),
                    (Err((declined, _)), None) => {
                        refuse(
                            req,
                            format!("metadata cannot be committed: {declined:?}"),
                            fx,
                        );
                    }
                }
            }
        }
    }

    /// If the request that was decided on is one that had to wait for room: so has the one behind it no more.
    fn next_waiting(&mut self, waited: bool) {
        if waited && let Some((req, call)) = self.metadata.rooms.next() {
            self.queue.push_front(CallTurn {
                req,
                call: ToDecide::Client(call),
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
        if let Some(quorum) = &mut self.metadata.quorum
            && quorum.read(id, &result, owner, fx)
        {
            return self.decide_some(owner, fx);
        }
        self.load.reader.ended(owner, id, result, fx);
        self.loaded(owner, fx);
    }

    /// If the token is that of an append of this shard's, it is durable: returns whether it is.
    pub fn durable(&mut self, token: u64, owner: &mut Owner, fx: &mut Fx<'_>) -> bool {
        let is_snapshot = |it: &mut Snapshotting| it.written.is_some_and(|(of, _)| of == token);
        if let Some(snapshot) = self.snapshot.take_if(is_snapshot) {
            let index = snapshot.writer.mark.id.index;
            if let Some((_, first)) = snapshot.written {
                owner.drop_before(fx.now, METADATA_SNAPSHOT_LOG, first);
            }
            let (id, leftovers) = (snapshot.writer.mark.id, &mut self.metadata.leftovers);
            self.sending.set_newest(id, snapshot.image, leftovers);
            snapshot.writer.leave(leftovers);
            if let Some(quorum) = &mut self.metadata.quorum {
                quorum.snapshotted(index, owner, fx);
            }
        } else if let Some(quorum) = &mut self.metadata.quorum {
            if !quorum.durable(token, owner, fx) {
                return false;
            }
        } else {
            return false;
        }
        self.decide_some(owner, fx);
        true
    }

    /// Takes what was read at a start.
    fn loaded(&mut self, owner: &mut Owner, fx: &mut Fx<'_>) {
        match self.load.read(owner, fx) {
            Ok(None) => {}
            Ok(Some(FoundMetadata {
                restored,
                image,
                is_new,
            })) => {
                let is_nothing = image.version == 0;
                self.metadata.committed = image;
                if is_new && is_nothing && !self.others.is_alone() {
                    self.is_blank = true;
                    self.form(owner, fx);
                } else if is_new {
                    let (mark, image) = (restored.snapshot.clone(), &self.metadata.committed);
                    self.snapshot = Some(Snapshotting::new(mark, image, Some(restored)));
                } else {
                    let (id, image) = (restored.snapshot.id, self.metadata.committed.clone());
                    self.metadata.replayed = id;
                    self.sending
                        .set_newest(id, image, &mut self.metadata.leftovers);
                    self.join(restored, owner, fx);
                }
                self.decide_some(owner, fx);
            }
            Err(why) => fx.out.push(fatal::metadata(why)),
        }
    }

    /// This node's replica begins with what its disk has, or will have before anything that the replica writes.
    fn join(&mut self, restored: Restored, owner: &mut Owner, fx: &mut Fx<'_>) {
        let compact_bytes = self.metadata.config.millrace_internal_compact_bytes;
        let settings = (compact_bytes.unsigned_abs(), self.seed);
        if let Err(why) = self.others.may_join(&restored) {
            return fx.out.push(fatal::metadata(why));
        }
        self.tell_of_vote(&restored);
        match QuorumDriver::start(self.me, restored, settings, owner, fx) {
            Ok(mut quorum) => {
                for there in self.others.there() {
                    quorum.step(QuorumInput::Observer(there, true), owner, fx);
                }
                self.metadata.quorum = Some(quorum);
            }
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
        self.answer_forwarded(fx);
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
            if !self.metadata.leads() {
                self.not_controller(req, fx);
                return self.resign_waiting(fx);
            }
            self.queue.push_front(CallTurn {
                req,
                call: ToDecide::Client(call),
                waited: true,
                asked: Some(asked),
            });
            self.decide_some(owner, fx);
        }
    }
}

/// Has the connection of a request closed.
fn refuse(req: ReqRef, why: String, fx: &mut Fx<'_>) {
    tell(req, Err(why), fx);
}
