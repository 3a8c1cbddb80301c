//! The control shard's part: it alone changes the cluster's metadata, and it
//! runs the group coordinator.
//!
//! A change is decided against the newest image, written as records to the metadata log, and published
//! to every shard when durable; the client is answered when every shard serves by it. What a client
//! was told is therefore true on whichever core it comes back to.

pub mod calls;
mod compact;
mod groups;
pub mod growth;
mod load;
mod reader;
mod room;
mod run;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{IdMap, LogId, Now, Rng, ShardId};
use crate::broker::admin::{self, Answer, Brokers, Ctx};
use crate::broker::apis::{self, Handler};
use crate::broker::fx::Fx;
use crate::broker::groups::GroupService;
use crate::broker::msg::{ControlCall, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::broker::owner::ack::Ack;
use crate::config::BrokerConfig;
use crate::controller::{
    Delta, Directory, Image, METADATA_LOG, MetadataRecord, ProducerIdAllocator, bootstrap,
};
use crate::record::{BatchBuilder, Codec};
use compact::Compaction;
use groups::OFFSETS_TOPIC;
use load::Load;
use room::{Room, Rooms};

/// Decided records as one batch of the metadata log, so that all of them count or none.
pub struct Change {
    records: Vec<MetadataRecord>,
    batch: Bytes,
}

impl Change {
    /// Records as the feature level of the image allows to write them.
    pub fn new(now: Now, image: &Image, records: Vec<MetadataRecord>) -> Self {
        // The first records of a cluster say the level themselves.
        let level = image.features.max(1);
        let mut batch = BatchBuilder::new(Codec::None, now.wall_ms);
        for record in &records {
            batch.push(now.wall_ms, None, Some(&record.encode(level)), &[]);
        }
        let batch = batch.build();
        Self { records, batch }
    }

    /// The batch alone, for records that change nothing.
    pub fn into_batch(self) -> Bytes {
        self.batch
    }

    /// What it changes.
    pub fn records(&self) -> &[MetadataRecord] {
        &self.records
    }

    /// Bytes that it takes in the metadata log.
    pub fn len(&self) -> usize {
        self.batch.len()
    }
}

/// Records on their way to the metadata log, and what follows when they are there.
#[derive(Debug)]
struct Commit {
    token: u64,
    image: Arc<Image>,
    delta: Arc<Delta>,
    then: Vec<Then>,
}

/// What a client, or a call that had to wait, gets when a commit is served by every shard.
#[derive(Debug)]
enum Then {
    Nothing,
    Reply(ReqRef, Bytes),
    Retry(ReqRef, Box<ControlCall>),
}

/// See the module. Lives on shard 0.
#[derive(Debug)]
pub struct Control {
    pub config: Arc<BrokerConfig>,
    pub groups: GroupService,
    pub load: Load,
    /// Who waits for the coordinator, by its token.
    pub group_calls: IdMap<u64, ReqRef>,
    /// Appends of the coordinator that are being flushed, by control token: number and partition.
    pub group_appends: IdMap<u64, (u64, i32)>,
    pub compaction: Compaction,
    pub rooms: Rooms,
    /// The newest decided image; the published one may lag behind it by the commits in flight.
    pub image: Image,
    rng: Rng,
    tokens: u64,
    producer_ids: ProducerIdAllocator,
    commits: VecDeque<Commit>,
    /// Published, not yet served by every shard: (image version, what follows).
    publishing: VecDeque<(u64, Vec<Then>)>,
    /// Whether the shards have an image.
    is_published: bool,
    /// The image version that each shard serves by.
    served: Vec<u64>,
    /// The stores of this node, by number.
    here: Vec<Directory>,
    brokers: Brokers,
}

impl Control {
    pub fn new(
        config: Arc<BrokerConfig>,
        groups: GroupService,
        shards: u16,
        here: Vec<Directory>,
        seed: u64,
    ) -> Self {
        let owners: Vec<ShardId> = here.iter().map(|directory| directory.shard).collect();
        Self {
            brokers: Brokers::new(&config, shards, &owners),
            config,
            groups,
            load: Load::default(),
            group_calls: IdMap::default(),
            group_appends: IdMap::default(),
            compaction: Compaction::default(),
            rooms: Rooms::new(here.clone()),
            image: Image::of_node(here.iter().map(|directory| directory.id)),
            rng: Rng::new(seed ^ 0x636f_6e74_726f_6c00),
            tokens: 0,
            producer_ids: ProducerIdAllocator::default(),
            commits: VecDeque::new(),
            publishing: VecDeque::new(),
            is_published: false,
            served: vec![0; usize::from(shards)],
            here,
        }
    }

    /// A number for something to be waited for.
    pub fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }

    /// The newest decided image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Replays a record of the metadata log; the only way, besides deciding one, that the image changes.
    pub fn replay(&mut self, record: &MetadataRecord) -> Result<(), String> {
        self.image.replay(record).map_err(|error| error.to_string())
    }

    /// Whether something is still to be answered.
    pub fn is_quiet(&self) -> bool {
        self.commits.is_empty()
            && self.publishing.is_empty()
            && self.group_appends.is_empty()
            && self.compaction.is_quiet()
            && self.rooms.is_quiet()
    }

    /// Panics if something is wrong inside. For the simulator.
    pub fn invariants(&self) {
        self.groups.invariants();
        self.image.invariants();
        let published = self.publishing.iter().map(|(version, _)| *version);
        let decided = self.commits.iter().map(|commit| commit.image.version);
        let versions: Vec<u64> = published.chain(decided).collect();
        assert!(versions.is_sorted(), "images are published in their order");
        assert!(
            versions.last() <= Some(&self.image.version),
            "the newest image"
        );
        let tokens = self.commits.iter().map(|commit| commit.token);
        assert!(tokens.is_sorted(), "commits end in their order");
        let by_all = self.served.iter().min();
        let waits = self
            .publishing
            .front()
            .is_none_or(|(version, _)| Some(version) > by_all);
        assert!(
            waits,
            "who waits for an image that all serve by is answered"
        );
    }

    /// Takes a request.
    pub fn call(
        &mut self,
        now: Now,
        req: ReqRef,
        call: Box<ControlCall>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let answer = match apis::served(call.header.key).map(|served| served.handler) {
            Some(Handler::Groups(handler)) => {
                return self.group_call(now, handler, req, call, owner, fx);
            }
            Some(Handler::ImageOrCreate(_)) if self.auto_create(now, req, &call, owner, fx) => {
                return;
            }
            Some(handler) => self.decide(handler, &call),
            None => Answer::Malformed(format!("API key {} is not served", call.header.key)),
        };
        match answer {
            Answer::Reply(frame) => self.reply(req, frame, fx),
            Answer::Malformed(why) => fx.send(
                req.shard,
                Msg::ControlDone {
                    id: req.id,
                    answer: Err(why),
                },
            ),
            Answer::Commit {
                records,
                reply,
                refusal,
            } => {
                let gone = self.removed_topics(&records);
                let change = Change::new(now, &self.image, records);
                let room = match &refusal {
                    Some(_) => self.room_for(&change, &call, owner),
                    None => Room::There,
                };
                match (room, refusal) {
                    (Room::Unknown, _) => self.ask_for_room(req, call, &change, fx),
                    (Room::Full, Some(refusal)) => self.reply(req, refusal, fx),
                    _ => {
                        self.commit(now, change, Then::Reply(req, reply), owner, fx);
                        self.group_topics_deleted(now, &gone, owner, fx);
                    }
                }
            }
        }
    }

    /// Answers. What was decided by records that are on their way, such as that a topic exists or which
    /// producer ids are taken, must not be known before they are durable.
    fn reply(&mut self, req: ReqRef, frame: Bytes, fx: &mut Fx<'_>) {
        match self.commits.back_mut() {
            Some(commit) => commit.then.push(Then::Reply(req, frame)),
            None => fx.send(
                req.shard,
                Msg::ControlDone {
                    id: req.id,
                    answer: Ok(frame),
                },
            ),
        }
    }

    /// Lets the handler of a request decide.
    fn decide(&mut self, handler: Handler, call: &ControlCall) -> Answer {
        let mut ctx = Ctx {
            image: &self.image,
            config: &self.config,
            listener: call.listener,
            rng: &mut self.rng,
            brokers: &self.brokers,
        };
        let (header, body) = (&call.header, call.body.clone());
        match handler {
            Handler::Control(decide) => decide(&mut ctx, &mut self.producer_ids, header, body),
            Handler::Image(answer) | Handler::ImageOrCreate(answer) => answer(&ctx, header, body),
            Handler::Front(_) | Handler::Groups(_) => {
                Answer::Malformed(format!("API key {} is served elsewhere", header.key))
            }
        }
    }

    /// Creates the topics that a Metadata request asks for and that may be created by asking; the request
    /// is taken up again when they are there. Returns whether that is to be waited for.
    fn auto_create(
        &mut self,
        now: Now,
        req: ReqRef,
        call: &ControlCall,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> bool {
        let mut ctx = Ctx {
            image: &self.image,
            config: &self.config,
            listener: call.listener,
            rng: &mut self.rng,
            brokers: &self.brokers,
        };
        let names = admin::topics_to_auto_create(&ctx, &call.header, call.body.clone());
        let records = admin::auto_create(&mut ctx, &names);
        if records.is_empty() {
            return false;
        }
        let change = Change::new(now, &self.image, records);
        let call = Box::new(call.clone());
        match self.room_for(&change, &call, owner) {
            Room::There => self.commit(now, change, Then::Retry(req, call), owner, fx),
            Room::Unknown => self.ask_for_room(req, call, &change, fx),
            // In a full store the topic stays unknown, which is an answer.
            Room::Full => return false,
        }
        true
    }

    /// Names of the topics that records remove.
    fn removed_topics(&self, records: &[MetadataRecord]) -> Vec<String> {
        let removed = records.iter().filter_map(|record| match record {
            MetadataRecord::RemoveTopic { id } => self.image.topic_by_id(*id),
            _ => None,
        });
        removed.map(|topic| topic.name.to_string()).collect()
    }

    /// Commits a change and takes `call` up again when every shard serves by it.
    pub fn commit_and_retry(
        &mut self,
        now: Now,
        change: Change,
        req: ReqRef,
        call: Box<ControlCall>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        self.commit(now, change, Then::Retry(req, call), owner, fx);
    }

    /// Commits records that nobody waits for.
    pub fn commit_quietly(
        &mut self,
        now: Now,
        records: Vec<MetadataRecord>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let change = Change::new(now, &self.image, records);
        self.commit(now, change, Then::Nothing, owner, fx);
    }

    /// The records needed to make `__consumer_offsets`.
    pub fn offsets_topic(&mut self) -> Vec<MetadataRecord> {
        let mut ctx = Ctx {
            image: &self.image,
            config: &self.config,
            listener: 0,
            rng: &mut self.rng,
            brokers: &self.brokers,
        };
        admin::auto_create(&mut ctx, &[OFFSETS_TOPIC.to_owned()])
    }

    /// The records needed before anybody is served: on the first start, and when this node has other stores.
    pub fn first_start(&mut self) -> Result<Vec<MetadataRecord>, String> {
        bootstrap(&self.image, &self.config, &self.here, &mut self.rng)
    }

    /// Writes a change and takes it into the image at once.
    fn commit(&mut self, now: Now, change: Change, then: Then, owner: &mut Owner, fx: &mut Fx<'_>) {
        let Change { records, batch } = change;
        // Decided is decided: the next request must see it although it is not durable yet. If it never
        // becomes durable the process has failed and nobody was told.
        let mut delta = Delta::default();
        for record in &records {
            delta.note(&self.image, record);
            if let Err(why) = self.replay(record) {
                fx.out.push(crate::broker::fatal::metadata(format!(
                    "a decided metadata record does not apply: {why}"
                )));
                return;
            }
        }
        self.rooms.decided(self.image.version, &records);
        let token = self.token();
        let slot = match owner.append_internal(now, METADATA_LOG, batch) {
            Ok(slot) => slot,
            Err((code, why)) => {
                let why = why.unwrap_or_else(|| code.to_string());
                fx.out.push(crate::broker::fatal::metadata(format!(
                    "the metadata log cannot be written: {why}"
                )));
                return;
            }
        };
        self.commits.push_back(Commit {
            token,
            image: Arc::new(self.image.clone()),
            delta: Arc::new(delta),
            then: vec![then],
        });
        owner.ack_after(slot, Ack::Control(token), fx);
    }

    /// Flushes that the control shard waited for are durable.
    pub fn durable(&mut self, now: Now, owner: &mut Owner, fx: &mut Fx<'_>) {
        for token in std::mem::take(&mut owner.control_done) {
            if let Some((append, partition)) = self.group_appends.remove(&token) {
                self.group_appended(now, append, Ok(()), owner, fx);
                self.compact_offsets(now, partition, owner, fx);
            } else if !self.compacted(now, token, owner)
                && self.commits.front().is_some_and(|c| c.token == token)
                && let Some(commit) = self.commits.pop_front()
            {
                self.publish(commit.image, commit.delta, commit.then, fx);
                self.compact_metadata(now, owner, fx);
            }
        }
    }

    /// Gives the image to every shard at a start at which nothing changes.
    pub fn publish_current(&mut self, fx: &mut Fx<'_>) {
        let image = Arc::new(self.image.clone());
        self.publish(image, Arc::default(), Vec::new(), fx);
    }

    fn publish(&mut self, image: Arc<Image>, delta: Arc<Delta>, then: Vec<Then>, fx: &mut Fx<'_>) {
        // The first image of a start may come with a change of its own: it is new to the shards as a whole.
        let first = !std::mem::replace(&mut self.is_published, true);
        let delta = if first {
            Arc::new(Delta::everything())
        } else {
            delta
        };
        self.publishing.push_back((image.version, then));
        for shard in 0..self.served.len() {
            let (image, delta) = (Arc::clone(&image), Arc::clone(&delta));
            fx.send(ShardId(shard as u16), Msg::Image { image, delta });
        }
    }

    /// A shard has found logs that were never given out: from now on they never will be.
    pub fn strays_found(&mut self, now: Now, found: &[LogId], owner: &mut Owner, fx: &mut Fx<'_>) {
        let image = &self.image;
        let new = found.iter().filter(|log| !image.is_stray(**log));
        let records: Vec<_> = new.map(|log| MetadataRecord::Stray { log: *log }).collect();
        if !records.is_empty() {
            self.commit_quietly(now, records, owner, fx);
        }
    }

    /// A shard serves by an image now; answers those who waited for that.
    pub fn served(
        &mut self,
        now: Now,
        shard: ShardId,
        version: u64,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        if let Some(served) = self.served.get_mut(usize::from(shard.0)) {
            *served = (*served).max(version);
        }
        let by_all = self.served.iter().copied().min().unwrap_or(0);
        self.rooms.served(by_all);
        while self
            .publishing
            .front()
            .is_some_and(|(version, _)| *version <= by_all)
        {
            let (_, then) = self.publishing.pop_front().unwrap_or_default();
            for then in then {
                match then {
                    Then::Reply(req, frame) => fx.send(
                        req.shard,
                        Msg::ControlDone {
                            id: req.id,
                            answer: Ok(frame),
                        },
                    ),
                    Then::Retry(req, call) => self.call(now, req, call, owner, fx),
                    Then::Nothing => {}
                }
            }
        }
    }
}
