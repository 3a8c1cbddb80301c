//! The metadata as it was decided, and what of it is still on its way: to the log, and to the shards.
//!
//! Decided is decided: the next request sees it although it is not durable yet. If it never becomes durable the
//! process has failed and nobody was told.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::change::Change;
use super::room::Rooms;
use crate::base::{LogId, Rng, ShardId};
use crate::broker::admin::{Brokers, Ctx};
use crate::broker::fatal;
use crate::broker::fx::Fx;
use crate::broker::msg::{ControlCall, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::config::BrokerConfig;
use crate::controller::{Delta, Directory, Image, METADATA_LOG, MetadataRecord, bootstrap};

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
pub enum Then {
    Nothing,
    Reply(ReqRef, Bytes),
    Retry(ReqRef, Box<ControlCall>),
}

/// See the module.
#[derive(Debug)]
pub struct Metadata {
    pub config: Arc<BrokerConfig>,
    /// The newest decided image; the published one may lag behind it by the commits in flight.
    pub image: Image,
    pub rooms: Rooms,
    rng: Rng,
    brokers: Brokers,
    commits: VecDeque<Commit>,
    /// Published, not yet served by every shard: (image version, what follows).
    publishing: VecDeque<(u64, Vec<Then>)>,
    /// Whether the shards have an image.
    is_published: bool,
    /// The image version that each shard serves by.
    served: Vec<u64>,
    /// The stores of this node, by number.
    here: Vec<Directory>,
}

impl Metadata {
    pub fn new(config: Arc<BrokerConfig>, shards: u16, here: Vec<Directory>, seed: u64) -> Self {
        let owners: Vec<ShardId> = here.iter().map(|directory| directory.shard).collect();
        Self {
            brokers: Brokers::new(&config, shards, &owners),
            config,
            image: Image::of_node(here.iter().map(|directory| directory.id)),
            rooms: Rooms::new(here.clone()),
            rng: Rng::new(seed ^ 0x636f_6e74_726f_6c00),
            commits: VecDeque::new(),
            publishing: VecDeque::new(),
            is_published: false,
            served: vec![0; usize::from(shards)],
            here,
        }
    }

    /// What a handler may look at.
    pub fn ctx(&mut self, listener: usize) -> Ctx<'_> {
        Ctx {
            image: &self.image,
            config: &self.config,
            listener,
            rng: &mut self.rng,
            brokers: &self.brokers,
        }
    }

    /// Replays a record of the metadata log; the only way, besides deciding one, that the image changes.
    pub fn replay(&mut self, record: &MetadataRecord) -> Result<(), String> {
        self.image.replay(record).map_err(|error| error.to_string())
    }

    /// The records needed before anybody is served: on the first start, and when this node has other stores.
    pub fn first_start(&mut self) -> Result<Vec<MetadataRecord>, String> {
        bootstrap(&self.image, &self.config, &self.here, &mut self.rng)
    }

    /// Names of the topics that records remove.
    pub fn removed_topics(&self, records: &[MetadataRecord]) -> Vec<String> {
        let removed = records.iter().filter_map(|record| match record {
            MetadataRecord::RemoveTopic { id } => self.image.topic_by_id(*id),
            _ => None,
        });
        removed.map(|topic| topic.name.to_string()).collect()
    }

    /// Answers. What was decided by records that are on their way, such as that a topic exists or which
    /// producer ids are taken, must not be known before they are durable.
    pub fn reply(&mut self, req: ReqRef, frame: Bytes, fx: &mut Fx<'_>) {
        match self.commits.back_mut() {
            Some(commit) => commit.then.push(Then::Reply(req, frame)),
            None => answer(req, frame, fx),
        }
    }

    /// Writes a change and takes it into the image at once.
    pub fn commit(&mut self, change: Change, then: Then, owner: &mut Owner, fx: &mut Fx<'_>) {
        let Change { records, batch } = change;
        let mut delta = Delta::default();
        for record in &records {
            delta.note(&self.image, record);
            if let Err(why) = self.replay(record) {
                fx.out.push(fatal::metadata(format!(
                    "a decided metadata record does not apply: {why}"
                )));
                return;
            }
        }
        self.rooms.decided(self.image.version, &records);
        let slot = match owner.append_internal(fx.now, METADATA_LOG, batch) {
            Ok(slot) => slot,
            Err((code, why)) => {
                let why = why.unwrap_or_else(|| code.to_string());
                fx.out.push(fatal::metadata(format!(
                    "the metadata log cannot be written: {why}"
                )));
                return;
            }
        };
        self.commits.push_back(Commit {
            token: owner.tell_when_durable(slot, fx),
            image: Arc::new(self.image.clone()),
            delta: Arc::new(delta),
            then: vec![then],
        });
    }

    /// The same for records that nobody waits for.
    pub fn commit_quietly(
        &mut self,
        records: Vec<MetadataRecord>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let change = Change::new(fx.now, &self.image, records);
        self.commit(change, Then::Nothing, owner, fx);
    }

    /// If the token is that of the next commit: it is durable, so the shards get its image.
    pub fn durable(&mut self, token: u64, fx: &mut Fx<'_>) -> bool {
        if self
            .commits
            .front()
            .is_none_or(|commit| commit.token != token)
        {
            return false;
        }
        if let Some(commit) = self.commits.pop_front() {
            self.publish(commit.image, commit.delta, commit.then, fx);
        }
        true
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
    pub fn strays_found(&mut self, found: &[LogId], owner: &mut Owner, fx: &mut Fx<'_>) {
        let image = &self.image;
        let new = found.iter().filter(|log| !image.is_stray(**log));
        let records: Vec<_> = new.map(|log| MetadataRecord::Stray { log: *log }).collect();
        if !records.is_empty() {
            self.commit_quietly(records, owner, fx);
        }
    }

    /// A shard serves by an image now.
    pub fn served(&mut self, shard: ShardId, version: u64) {
        if let Some(served) = self.served.get_mut(usize::from(shard.0)) {
            *served = (*served).max(version);
        }
        self.rooms.served(self.served_by_all());
    }

    fn served_by_all(&self) -> u64 {
        self.served.iter().copied().min().unwrap_or(0)
    }

    /// What follows from an image that every shard serves by, to be asked for until there is nothing.
    pub fn next_served(&mut self) -> Option<Vec<Then>> {
        let by_all = self.served_by_all();
        let (version, _) = self.publishing.front()?;
        if *version > by_all {
            return None;
        }
        self.publishing.pop_front().map(|(_, then)| then)
    }

    /// Whether all that was decided is served.
    pub fn is_quiet(&self) -> bool {
        self.commits.is_empty() && self.publishing.is_empty() && self.rooms.is_quiet()
    }

    /// Panics if something is wrong inside. For the simulator.
    pub fn invariants(&self) {
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
}

/// Sends an answer to the shard that it is for.
pub fn answer(req: ReqRef, frame: Bytes, fx: &mut Fx<'_>) {
    let answer = Ok(frame);
    fx.send(req.shard, Msg::ControlDone { id: req.id, answer });
}
