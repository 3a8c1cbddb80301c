//! The brain of one core: takes inputs, asks the machines, gives outputs. One
//! entry, [`Shard::handle`]; the driver calls it from one place, one input at a time.

mod answers;
mod draining;
mod settings;
mod transactions;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::admin::{Answer, Ctx, ImageHandler};
use super::apis::{self, Handler};
use super::control::{Control, MetadataStatus};
use super::explain;
use super::front::Front;
use super::front::conns::{ConnPurpose, ReplyTo};
use super::front::order::Footprint;
use super::fx::Fx;
use super::groups::front::GroupRequest;
use super::groups::host::Coordinators;
use super::io::{CONTROLLER_LISTENER, ConnId, Input, Output, ReadId};
use super::jobs::Jobs;
use super::msg::{ControlCall, Msg, ReqRef};
use super::other_nodes::OtherNodes;
use super::owner::Owner;
use super::owner::adopt::Adoption;
use super::owner::stores::StoreSlot;
use super::owner::work::Worker;
use super::peers::{ClusterSetup, Verdict};
#[cfg(test)]
use super::replicas::Replication;
use super::requests::Requests;
use super::trace::{Board, Trace};
use super::txn::host::TxnCoordinators;
use crate::base::limits::{LOGS_CHANGED_PER_SLICE, PARTITIONS_PER_SLICE, REQUESTS_BEGUN_MAX};
use crate::base::{Leftovers, LogId, Mono, NodeId, Now, Offset, ShardId, StoreId};
use crate::config::BrokerConfig;
use crate::controller::{Directory, Image};
use crate::store::{DiskError, DiskOp, Piece};
use crate::wire::peer::{Hello, PeerMessages, ReplicaMessages};
use crate::wire::{self, RequestHeader};

/// What a shard is made of.
#[derive(Debug)]
pub struct ShardSetup {
    /// Which one it is.
    pub id: ShardId,
    /// How many there are on this node.
    pub shards: u16,
    /// The node's configuration.
    pub config: Arc<BrokerConfig>,
    /// Where its randomness starts; must differ from shard to shard and from start to start.
    pub seed: u64,
    /// The stores it owns, opened or formatted.
    pub slots: Vec<StoreSlot>,
    /// The stores of the node, by number, and who owns each.
    pub directories: Vec<Directory>,
    /// The other nodes; `None` for a node that stands alone.
    pub cluster: Option<Arc<ClusterSetup>>,
    /// Where it counts what it does, for whoever wants to look.
    pub board: Arc<Board>,
}

/// See the module.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    /// The file's settings, over which those are laid that clients set.
    config: Arc<BrokerConfig>,
    front: Front,
    requests: Requests,
    owner: Owner,
    jobs: Jobs,
    coordinators: Coordinators,
    transactions: TxnCoordinators,
    /// On shard 0 alone.
    control: Option<Control>,
    others: OtherNodes,
    local: VecDeque<Msg>,
    /// Images that are to be served by, in their order. The first one is being looked at.
    images: VecDeque<Adoption>,
    /// What is left of images that were served by.
    leftovers: Leftovers,
    ready: bool,
    draining: Draining,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draining {
    No,
    /// Waiting until others lead what they may, but not beyond this.
    Leaving(Mono),
    /// Waiting for what is in flight.
    InFlight,
    /// Waiting for the last checkpoint.
    Checkpoint,
    Done,
}

impl Shard {
    /// A shard that has not been started: its first input must be [`Input::Start`].
    #[must_use]
    pub fn new(setup: ShardSetup) -> Self {
        let config = setup.config;
        let owners: Vec<ShardId> = setup.directories.iter().map(|d| d.shard).collect();
        let cluster = setup.cluster;
        let control = (setup.id == ShardId(0)).then(|| {
            Control::new(
                Arc::clone(&config),
                setup.shards,
                setup.directories,
                cluster.as_deref(),
                setup.seed,
            )
        });
        let mut owner = Owner::new(setup.id, Arc::clone(&config), setup.slots);
        owner.board = setup.board.clone();
        owner.roles.replicates = cluster.is_some();
        Self {
            id: setup.id,
            others: OtherNodes::new(cluster.as_ref(), (setup.id, setup.shards), setup.seed),
            config: Arc::clone(&config),
            coordinators: Coordinators::new(Arc::clone(&config), setup.seed),
            transactions: TxnCoordinators::new(&config, owners.clone()),
            front: Front::new(
                Arc::clone(&config),
                owners,
                setup.shards,
                setup.seed,
                Arc::clone(&setup.board),
            ),
            requests: Requests::new(&config, cluster),
            owner,
            jobs: Jobs::new(setup.shards),
            control,
            local: VecDeque::new(),
            images: VecDeque::new(),
            leftovers: Leftovers::default(),
            ready: false,
            draining: Draining::No,
        }
    }

    /// Handles one input. Outputs are appended to `out`; their order matters.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.front.conns.next_input(now.mono);
        self.owner.next_input(now.mono);
        self.requests.produce.validations.next_input();
        let mut local = std::mem::take(&mut self.local);
        let mut fx = Fx {
            me: self.id,
            now,
            out,
            local: &mut local,
            ops: Vec::new(),
        };
        self.input(input, &mut fx);
        self.settle(&mut fx);
        if let (Some(control), Some(peers)) = (&mut self.control, &mut self.others.peers)
            && control.talk(peers, &mut self.owner, &mut fx)
        {
            self.settle(&mut fx);
        }
        self.local = local;
    }

    /// Handles the shard's messages to itself, and requests that waited for those that are answered now.
    fn settle(&mut self, fx: &mut Fx<'_>) {
        let mut begun = 0;
        loop {
            while let Some(msg) = fx.local.pop_front() {
                self.message(self.id, msg, fx);
            }
            // One input may not begin any number of them: the rest has its turn when the shard is idle.
            if begun == REQUESTS_BEGUN_MAX {
                break;
            }
            let Some((to, header, body)) = self.front.conns.next_ready() else {
                break;
            };
            begun += 1;
            self.begin(to, header, body, fx);
        }
    }

    /// Bytes that the memory tails have forgotten so far for lack of memory: more of [`Input::TailBytesMax`].
    #[must_use]
    pub fn tail_bytes_missed(&self) -> u64 {
        self.owner.tail_bytes_missed()
    }

    fn input(&mut self, input: Input, fx: &mut Fx<'_>) {
        match input {
            Input::Start => {
                self.front.started_ms = fx.now.wall_ms;
                if let Some(control) = &mut self.control {
                    control.start(&mut self.owner, fx);
                }
                self.follow_up(fx);
            }
            Input::ConnOpened {
                conn,
                peer,
                listener,
            } => {
                let listeners = self.front.config.listeners.0.len().max(1);
                let purpose = match listener {
                    CONTROLLER_LISTENER => ConnPurpose::Nodes,
                    listener if listener >= listeners => ConnPurpose::Direct,
                    _ => ConnPurpose::Any,
                };
                self.front
                    .conns
                    .open(conn, peer, listener % listeners, purpose);
                self.owner.board.opened();
            }
            Input::Request { conn, frame, at } => self.request(conn, frame, at, fx),
            Input::Sent { conn, replies } => {
                if self.front.sent(conn, replies) {
                    // Another one may wait for that.
                    fx.out.push(Output::WakeAt(fx.now.mono));
                }
            }
            Input::ConnClosed { conn } => {
                self.requests.conn_closed(&mut self.front, conn, fx);
                self.owner.board.left(self.front.conns.len());
            }
            Input::LinkUp { link }
            | Input::LinkReceived { link, .. }
            | Input::LinkSent { link, .. }
            | Input::LinkDown { link, .. } => self.others.link(link, input, fx),
            Input::Mesh { from, msg } => self.message(from, *msg, fx),
            Input::Disk { store, id, result } => {
                self.owner.on_disk(store, id, result, fx);
                self.follow_up(fx);
            }
            Input::Read { id, result } => {
                self.read(id, result, fx);
                self.follow_up(fx);
            }
            Input::Turn { ns } => self.front.tracer.turn(ns),
            Input::DiskReads(counts) => self.front.tracer.disk_reads(counts),
            Input::TailBytesMax(bytes) => self.owner.set_tail_bytes_max(bytes),
            Input::Settings(config) => self.read_again(config, fx),
            Input::Idle => self.idle(fx),
            Input::Shutdown => self.shutdown(fx),
        }
    }

    /// What there is of other nodes.
    #[cfg(test)]
    pub(super) fn others(&mut self) -> Option<(&mut Control, &mut OtherNodes)> {
        self.control
            .as_mut()
            .map(|control| (control, &mut self.others))
    }

    /// What it says to shards of other nodes, and has heard of them.
    #[cfg(test)]
    pub(super) fn replicas(&mut self) -> Option<&mut Replication> {
        self.others.replicas.as_mut()
    }

    /// What this node knows of the metadata, if it is shard 0.
    #[must_use]
    pub fn metadata(&self) -> Option<MetadataStatus> {
        self.control.as_ref()?.status()
    }

    /// The metadata that it knows to be committed, if it is shard 0. For the simulator.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        self.control.as_ref()?.known()
    }

    /// Other nodes to which something can be said.
    #[must_use]
    pub fn peers_up(&self) -> usize {
        self.others.up()
    }

    /// What is thought of another node; `None` if it was never heard.
    pub fn verdict(&mut self, now: Now, node: NodeId) -> Option<Verdict> {
        self.others.verdict(now.mono, node)
    }

    fn message(&mut self, from: ShardId, msg: Msg, fx: &mut Fx<'_>) {
        let (front, requests, owner) = (&mut self.front, &mut self.requests, &mut self.owner);
        match msg {
            Msg::Produce { appender, parts } => {
                self.jobs.produce.begin(owner, appender, parts, fx);
            }
            Msg::Appended { id, fate } => {
                let image = &front.image;
                match ReqRef::number_of_transactions(id) {
                    Some(id) => self.transactions.appended(id, fate, image, owner, fx),
                    None => self.coordinators.appended(id, fate, image, owner, fx),
                }
                self.follow_up(fx);
            }
            Msg::ProduceDone {
                id,
                results,
                stamps,
            } => requests.produce.done(front, id, results, &stamps, fx),
            Msg::AskTransaction { .. }
            | Msg::TransactionTold { .. }
            | Msg::WriteMarkers { .. }
            | Msg::MarkersWritten { .. }
            | Msg::TransactionEnded { .. }
            | Msg::DescribeProducers { .. }
            | Msg::ProducersDescribed { .. }
            | Msg::Transactions { .. }
            | Msg::TransactionsDone { .. }
            | Msg::CallNode { .. }
            | Msg::CallOfNode { .. } => self.transaction_message(from, msg, fx),
            Msg::Fetch { req, pass, parts } => self.jobs.fetch.begin(owner, req, pass, parts, fx),
            Msg::FetchDone { id, planned } => requests.fetch.done(front, id, planned, fx),
            Msg::FetchWatch { req, bytes } => owner.watches.want(req, bytes),
            Msg::FetchReady { id } => requests.fetch.ready(front, id, fx),
            Msg::FetchCancel { req } => self.jobs.fetch.forget(owner, req),
            Msg::Query { req, parts, until } => {
                self.jobs.query.begin(owner, req, (parts, until), fx);
            }
            Msg::QueryCancel { shard, ids } => self.jobs.query.forget(shard, &ids),
            Msg::QueryDone { id, results } => requests.query.done(front, id, results, fx),
            Msg::Groups { req, image, parts } => {
                self.coordinators.ask(req, image, parts, &front.image, fx);
            }
            Msg::GroupsDone { id, answers } => requests.groups.done(front, id, answers, fx),
            Msg::Control { req, call } => {
                if let Some(control) = &mut self.control {
                    control.call(req, call, &mut self.owner, fx);
                }
                self.follow_up(fx);
            }
            Msg::ControlCancel { req } => {
                if let Some(control) = &mut self.control {
                    control.cancel(req);
                }
            }
            Msg::ControlDone { id, answer } => self.control_done(id, answer, fx),
            Msg::Room {
                store,
                bytes,
                fills,
            } => self.jobs.growth.ask(owner, store, bytes, fills, fx),
            Msg::RoomTold { there } => {
                if let Some(control) = &mut self.control {
                    control.room_told(there, &mut self.owner, fx);
                }
                self.follow_up(fx);
            }
            Msg::Peer { stream, said } => self.others.said(stream, said, fx),
            Msg::Replica {
                stream,
                back,
                heard,
            } => {
                let here = (&*front.image, &mut *owner);
                let others = &mut self.others;
                others.said_of_replicas(stream, back, heard, here, fx);
                self.follow_up(fx);
            }
            Msg::PeerAnswer { conn, answer } => requests.streams.answered(front, conn, answer, fx),
            Msg::Lost(nodes) => front.brokers.lose(nodes, &front.image, fx.now.mono),
            Msg::Explain { req } => explain::part(front, req, fx),
            Msg::Explained { id, report } => requests.explain.done(front, id, *report, fx),
            Msg::Image { image, delta } => {
                self.images.push_back(Adoption::new(image, delta));
                if self.images.len() == 1 {
                    self.adopt_some(fx);
                }
            }
            Msg::ImageApplied { version, strays } => {
                if let Some(control) = &mut self.control {
                    control.served(from, version, strays, &mut self.owner, fx);
                }
            }
        }
    }

    /// Goes on with the next image that is to be served by.
    fn adopt_some(&mut self, fx: &mut Fx<'_>) {
        let Some(mut adoption) = self.images.pop_front() else {
            return;
        };
        if !adoption.is_begun {
            self.apply_settings(&adoption.image);
        }
        let Some(adopted) = self
            .owner
            .adopt(fx.now, &mut adoption, LOGS_CHANGED_PER_SLICE)
        else {
            return self.images.push_front(adoption);
        };
        let before = std::mem::replace(&mut self.front.image, adoption.image);
        before.leave(&mut self.leftovers);
        let image = &self.front.image;
        self.front.brokers.look(image, fx.now.mono);
        self.transactions.adopted(image, &mut self.owner, fx);
        self.coordinators
            .adopted(image, adopted, &mut self.owner, fx);
        self.follow_up(fx);
    }

    /// Says that clients may be let in, once there is an image and what this shard coordinates is loaded.
    fn say_when_ready(&mut self, fx: &mut Fx<'_>) {
        let is_loaded = self.coordinators.is_loaded() && self.transactions.is_loaded();
        if !self.ready && self.front.image.version > 0 && is_loaded {
            self.ready = true;
            fx.out.push(Output::Ready);
        }
    }

    /// A read of a store's file has ended: whoever began it goes on.
    fn read(&mut self, id: ReadId, result: Result<Bytes, DiskError>, fx: &mut Fx<'_>) {
        let owner = &mut self.owner;
        match owner.work.read_ended(id) {
            Some(Worker::Fetch) => self.jobs.fetch.read(owner, id, result, fx),
            Some(Worker::Query) => self.jobs.query.read(owner, id, result, fx),
            Some(Worker::Metadata) => {
                if let Some(control) = &mut self.control {
                    control.read(owner, id, result, fx);
                }
            }
            Some(Worker::Offsets) => {
                let image = &self.front.image;
                self.coordinators.read(owner, id, result, image, fx);
            }
            Some(Worker::Transactions) => {
                let image = &self.front.image;
                self.transactions.read(owner, (id, result), image, fx);
            }
            Some(Worker::Cleaner) => self.jobs.cleaner.read(owner, id, result, fx),
            Some(Worker::Replicas) => {
                if let Some(replicas) = &mut self.others.replicas {
                    replicas.read(id, result, owner, fx);
                }
            }
            None => {}
        }
    }

    /// Tells whoever waits for records of its own that they are committed, or will not be told of any more. What the
    /// control shard waits for has no other replica.
    fn follow_up(&mut self, fx: &mut Fx<'_>) {
        while !self.owner.acks.told.is_empty() {
            for told in std::mem::take(&mut self.owner.acks.told) {
                let owner = &mut self.owner;
                let control = self.control.as_mut().filter(|_| told.1.is_ok());
                if !control.is_some_and(|control| control.durable(told.0, owner, fx))
                    && !self.transactions.told(told)
                {
                    self.coordinators.told(told, owner, fx);
                }
            }
        }
        self.say_when_ready(fx);
    }

    /// One client request.
    fn request(&mut self, conn: ConnId, frame: Bytes, at: Mono, fx: &mut Fx<'_>) {
        let bytes = frame.len();
        let mut footprint = Footprint::default();
        let parsed = wire::parse_header(frame, |key| {
            let served = apis::served(key)?;
            footprint = served.footprint;
            Some(&served.api)
        });
        let conns = &mut self.front.conns;
        let (header, body) = match parsed {
            Ok(parsed) => parsed,
            Err(why) => {
                let trace = Trace::new(-1, bytes, at);
                return conns.refuse(conn, trace, why.to_string(), fx.out);
            }
        };
        let trace = Trace::new(header.key, bytes, at);
        let name = header.client_id.as_ref();
        let name = name.map_or(&b""[..], wire::StrBytes::as_bytes);
        let Some(to) = conns.expect_reply(conn, trace, name, footprint) else {
            return;
        };
        if conns.may_begin(to) {
            self.begin(to, header, body, fx);
        } else {
            conns.wait(to, header, body);
        }
    }

    /// Begins with a request that may.
    fn begin(&mut self, to: ReplyTo, header: RequestHeader, body: Bytes, fx: &mut Fx<'_>) {
        if let Err(why) = self.hand_on(to, header, body, fx) {
            self.front.conns.fail(to, why, fx.out);
        }
    }

    /// Hands a request to whoever answers it. `Err` is the reason to close the connection.
    fn hand_on(
        &mut self,
        to: ReplyTo,
        header: RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let Some(client) = self.front.conns.get(to.conn) else {
            return Ok(());
        };
        let listener = client.listener;
        let Some(served) = apis::served(header.key) else {
            return Err(format!("API key {} is not served", header.key));
        };
        let is_peer = [Hello::KEY, PeerMessages::KEY, ReplicaMessages::KEY].contains(&header.key);
        let is_for_clients = self.ready && client.purpose != ConnPurpose::Nodes;
        if !is_for_clients && !is_peer {
            return Err(format!(
                "API key {}: no clients are served here, or not yet",
                header.key
            ));
        }
        let (requests, front) = (&mut self.requests, &mut self.front);
        let call = |header, body| ControlCall {
            header,
            body,
            listener,
        };
        match served.handler {
            Handler::Front(handler) => handler(requests, front, to, &header, body, fx),
            Handler::Groups(planner) => {
                let request = GroupRequest::new((to, header, body), planner, served.long_kind());
                requests.groups.begin(front, request, fx)
            }
            Handler::GroupList(planner) => {
                let request = GroupRequest::new((to, header, body), planner, served.long_kind());
                requests.groups.begin_list(front, request, fx)
            }
            Handler::Image(handler) | Handler::ImageOrCreate(handler, ..) => {
                self.answer(to, call(header, body), handler, fx)
            }
            Handler::Transactions(planner) | Handler::TransactionsOrControl(planner, _) => {
                let request = (to, &header, body.clone());
                if !requests.transactions.begin(front, request, planner, fx)? {
                    requests.control.begin(front, to, call(header, body), fx);
                }
                Ok(())
            }
            Handler::Control(_) => {
                requests.control.begin(front, to, call(header, body), fx);
                Ok(())
            }
        }
    }

    /// Answers what the image can answer. `Err` is the reason to close the connection.
    fn answer(
        &mut self,
        to: ReplyTo,
        call: ControlCall,
        handler: ImageHandler,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let (requests, front) = (&mut self.requests, &mut self.front);
        let ctx = Ctx {
            image: &front.image,
            config: &front.config,
            listener: call.listener,
            now: fx.now.mono,
            rng: &mut front.rng,
            brokers: &front.brokers,
        };
        match handler(&ctx, &call.header, call.body.clone()) {
            Answer::Reply(frame) => front.conns.reply(to, vec![Piece::Memory(frame)], fx.out),
            Answer::Malformed(why) => return Err(why),
            Answer::Listing(listing) => {
                requests.listing.begin(front, (to, call), handler, listing);
            }
            Answer::Create => requests.control.begin(front, to, call, fx),
        }
        Ok(())
    }

    /// Goes on with an answer that lists much; the next one begins when there is none.
    fn list_some(&mut self, fx: &mut Fx<'_>) {
        let of_transactions = &mut self.requests.transactions.listings;
        if self.front.draining {
            of_transactions.stop(&mut self.front, fx);
        }
        of_transactions.go_on(&mut self.front, fx);
        let (listings, front) = (&mut self.requests.listing, &mut self.front);
        if front.draining {
            // Also what has begun only now, because what was before it is answered.
            listings.stop(front, fx);
        }
        if let Some((to, call)) = listings.go_on(front, fx) {
            self.requests.control.begin(front, to, call, fx);
        }
        if let Some((to, call, handler)) = self.requests.listing.next(&mut self.front)
            && let Err(why) = self.answer(to, call, handler, fx)
        {
            self.front.conns.fail(to, why, fx.out);
        }
    }

    /// Has shown what its coordinators have, and what is known of the metadata.
    fn show(&self) {
        let board = &self.owner.board;
        board.groups.set(self.coordinators.groups() as u64);
        board.transactional_ids.set(self.transactions.ids() as u64);
        if let Some(control) = &self.control {
            control.show(board);
        }
    }

    fn idle(&mut self, fx: &mut Fx<'_>) {
        self.requests.slice(&mut self.front, fx);
        self.adopt_some(fx);
        self.leftovers.let_go(&mut { PARTITIONS_PER_SLICE });
        self.jobs.slice(&mut self.owner, fx);
        self.follow_up(fx);
        self.requests.produce.validate_some(&mut self.front, fx);
        self.list_some(fx);
        if let Some(control) = &mut self.control {
            control.go_on(&mut self.owner, fx);
        }
        self.jobs.grown(&mut self.owner, fx);
        self.coordinators.tick(&self.front.image, fx);
        self.coordinators
            .slice(&self.front.image, &mut self.owner, fx);
        self.transactions.tick(&self.front.image, fx);
        self.transactions
            .slice(&self.front.image, &mut self.owner, fx);
        self.follow_up(fx);
        let cluster_id = self.front.image.cluster_id.as_deref();
        let (control, owner) = (self.control.as_mut(), &mut self.owner);
        self.others.look_after_peers(control, cluster_id, owner, fx);
        // Who leads what it knows when all of an image is looked at.
        let is_adopted = self.images.front().is_none_or(|it| !it.is_begun);
        let (image, owner) = (&self.front.image, &mut self.owner);
        let here = (image.as_ref(), owner);
        self.others.go_on_with_replicas(is_adopted, here, fx);
        // Messages to this shard itself may append: they belong into the flush that starts now.
        self.settle(fx);
        self.leave(fx);
        self.drain(fx);
        self.owner.idle(fx);
        if self.owner.show(fx.now.mono) {
            self.show();
        }
        let (image, owner) = (&self.front.image, &mut self.owner);
        let cluster_id = image.cluster_id.as_deref();
        self.others.look_after_replicas(cluster_id, owner, fx);
        let mut wake_at = self.owner.next_deadline().min(self.owner.shows_at());
        let deadline = self.front.parked.next_deadline();
        wake_at = deadline.map_or(wake_at, |deadline| wake_at.min(deadline));
        if self.jobs.has_more(&self.owner)
            || !self.images.is_empty()
            || !self.leftovers.is_empty()
            || !self.requests.produce.validations.is_empty()
            || self.requests.listing.has_more(&self.front)
            || self.requests.transactions.listings.has_more(&self.front)
            || (self.control.as_ref()).is_some_and(|it| it.has_more() || it.has_to_learn())
            || self.coordinators.has_more()
            || self.transactions.has_more()
            || self.others.has_more(&self.owner)
            || self.requests.fetch.has_more(&self.front)
            || self.requests.query.has_more(&self.front)
            || self.requests.groups.has_more(&self.front)
            || (self.front.draining && deadline.is_some())
            || (self.drains() && self.is_quiet())
        {
            // The rest has its turn when what has come meanwhile has had its own.
            wake_at = fx.now.mono;
        }
        wake_at = wake_at.min(self.jobs.cleaner.deadline(&self.owner));
        wake_at = wake_at.min(self.jobs.produce.deadline());
        wake_at = wake_at.min(self.coordinators.next_deadline());
        wake_at = wake_at.min(self.transactions.next_deadline());
        wake_at = wake_at.min(self.others.deadline(fx.now.mono));
        if let Draining::Leaving(until) = self.draining {
            wake_at = wake_at.min(until);
        }
        if let Some(control) = &self.control {
            wake_at = wake_at.min(control.wake_at());
        }
        if self.front.conns.has_ready() || self.front.conns.has_moved() {
            wake_at = fx.now.mono;
        }
        fx.out.push(Output::WakeAt(wake_at));
    }

    /// Whether nothing of its stores is on its way. Between [`Output::Drained`] and the end of all shards others may
    /// still have asked something of this one.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.owner.is_at_rest()
    }

    /// All shards of the node are drained and this one is [at rest](Self::is_at_rest): what is to be written to each
    /// store when all of them have been told so; see [`Store::end`](crate::store::Store::end).
    #[must_use]
    pub fn end(&mut self) -> Vec<(StoreId, Vec<DiskOp>)> {
        let slots = self.owner.slots.iter_mut();
        slots
            .map(|slot| (slot.store.id(), slot.store.end()))
            .collect()
    }

    /// Checks the invariants of everything in the shard; panics where one is broken. For the simulator.
    pub fn invariants(&self) {
        self.owner.invariants();
        self.front.conns.invariants();
        self.requests.invariants(&self.front);
        self.coordinators.invariants();
        self.transactions.invariants();
        if let Some(control) = &self.control {
            control.invariants();
        }
        self.others.invariants();
    }

    /// Bytes of produced batches that were decompressed.
    #[cfg(test)]
    pub(super) fn opened(&self) -> u64 {
        self.requests.produce.validations.opened()
    }

    /// The settings that are served by.
    #[cfg(test)]
    pub(super) fn config(&self) -> &Arc<BrokerConfig> {
        &self.front.config
    }

    /// Requests that wait to be decided on.
    #[cfg(test)]
    pub(super) fn undecided(&self) -> usize {
        self.control.as_ref().map_or(0, Control::undecided)
    }

    /// Fetches in progress that wait for their turn no more.
    #[cfg(test)]
    pub(super) fn fetches_begun(&self) -> usize {
        self.requests.fetch.begun()
    }

    /// Requests that wait for something, and watches of fetches, here and of other shards.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.front.parked.len(), self.owner.watches.len())
    }

    /// The store of a partition by the image that is served by.
    #[cfg(test)]
    pub(super) fn store_of(&self, topic: &str, index: i32) -> Option<crate::base::StoreId> {
        let topic = self.front.image.topic(topic)?;
        topic.partition(index).and_then(|partition| partition.store)
    }

    /// Partitions of this shard.
    #[cfg(test)]
    pub(super) fn partitions(&self) -> usize {
        self.owner.partitions.len()
    }

    /// Records in all partitions of this shard.
    #[cfg(test)]
    pub(super) fn appended(&self) -> i64 {
        let partitions = self.owner.partitions.values();
        partitions
            .map(|partition| partition.log.end_offset().0)
            .sum()
    }

    /// Logs that the checkpoints which are being made have not taken yet.
    #[cfg(test)]
    pub(super) fn lacking(&self) -> usize {
        let slots = self.owner.slots.iter();
        slots.map(|slot| slot.store.lacking()).sum()
    }

    /// Whether every store of this shard can go on making checkpoints.
    #[cfg(test)]
    pub(super) fn has_room(&self) -> bool {
        let mut slots = self.owner.slots.iter();
        slots.all(|slot| slot.store.has_room(0, crate::store::RoomFor::Broker))
    }

    /// The logs of this shard with their high watermarks, and where they end on its disks. For the simulator's oracle.
    #[must_use]
    pub fn watermarks(&self) -> BTreeMap<LogId, (Offset, Offset)> {
        self.owner.watermarks()
    }
}
