//! The metadata as it was decided, as it is committed, and what is on its way: to the quorum, and to the shards.
//!
//! What is decided the next request sees although it is not committed yet. It becomes true when the quorum says that it
//! is committed, and by nothing else: then it is replayed, and published. If this node leads no more before that, what
//! it has decided is forgotten, and whoever waits for it is told so.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::driver::{Happened, QuorumDriver};
use super::follows::{Follows, Then, answer};
use super::life::Life;
use super::members::{MemberAsk, Membership, OwnRegistration};
use super::room::Rooms;
use crate::base::limits::{DECIDED_BYTES_MAX, LOG_IDS_AHEAD_MAX};
use crate::base::{LeaderEpoch, Leftovers, LogId, Mono, Rng, ShardId};
use crate::broker::admin::{Brokers, Ctx};
use crate::broker::fatal;
use crate::broker::fx::Fx;
use crate::broker::msg::{Called, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::config::BrokerConfig;
use crate::controller::{
    Change, Delta, Directory, FEATURE_LEVEL, Image, Joining, MetadataRecord, RecordListReader,
    Replaying, addresses, bootstrap, first_records,
};
use crate::quorum::{Declined, EntryId, Payload, Quorum, SnapshotMark};

/// What an image besides the one before takes of a slice: it has a root of its own, and parts with what is different.
const IMAGE_COST: usize = 16;

/// A change that is proposed and not committed yet, and what follows when it is.
#[derive(Debug)]
struct Proposed {
    id: EntryId,
    /// Of the image with it.
    version: u64,
    follows: Follows,
}

/// A committed entry that is being replayed.
#[derive(Debug)]
struct Replay {
    id: EntryId,
    replaying: Replaying,
    records: RecordListReader,
}

/// What the control shard has to do by what is committed.
#[derive(Debug)]
pub enum CommittedTurn {
    /// A snapshot of the committed image is wanted.
    Snapshot(SnapshotMark),
    /// The snapshot that was fetched takes the place of the committed image.
    Installed(SnapshotMark),
    /// This node decides from now on.
    Leads,
    /// It does not any more.
    Follows,
    /// A change of the voters is on its way, as this entry, or given up.
    Changed(Result<EntryId, Declined>),
    /// The voters that this entry names are committed.
    VotersCommitted(EntryId),
}

/// See the module.
#[derive(Debug)]
pub struct Metadata {
    pub config: Arc<BrokerConfig>,
    /// The newest decided image; the committed one may lag behind it by what is proposed.
    pub image: Image,
    /// What is committed, as far as it was replayed,
    pub committed: Image,
    /// and the last entry that is in it.
    pub replayed: EntryId,
    /// How many snapshots that were fetched have taken its place.
    pub installed: u64,
    /// This node's replica of the metadata log, once it is read.
    pub quorum: Option<QuorumDriver>,
    /// The term in which this node decides, if it does.
    leads: Option<LeaderEpoch>,
    pub rooms: Rooms,
    rng: Rng,
    brokers: Brokers,
    proposed: VecDeque<Proposed>,
    replay: Option<Replay>,
    life: Life,
    /// Published, not yet served by every shard: (image version, what follows).
    publishing: VecDeque<(u64, Follows)>,
    /// What follows from changes from before there was an image for the shards.
    unpublished: Follows,
    /// What all of them take in memory.
    kept: usize,
    /// Whether the shards have an image.
    is_published: bool,
    /// This process among the brokers of a cluster of several nodes.
    pub membership: Option<Membership>,
    /// The image version that each shard serves by.
    served: Vec<u64>,
    /// The stores of this node, by number.
    here: Vec<Directory>,
    /// What is left of decisions that were made, and of images.
    pub leftovers: Leftovers,
    /// Settings are committed by which other replicas may lead than before.
    pub alters_elections: bool,
}

impl Metadata {
    pub fn new(config: Arc<BrokerConfig>, shards: u16, here: Vec<Directory>, seed: u64) -> Self {
        let owners: Vec<ShardId> = here.iter().map(|directory| directory.shard).collect();
        Self {
            brokers: Brokers::new(&config, shards, &owners),
            config,
            image: Image::default(),
            committed: Image::of_node(here.iter().map(|directory| directory.id)),
            replayed: EntryId::default(),
            installed: 0,
            quorum: None,
            leads: None,
            rooms: Rooms::new(here.clone()),
            rng: Rng::new(seed ^ 0x636f_6e74_726f_6c00),
            proposed: VecDeque::new(),
            replay: None,
            life: Life::default(),
            publishing: VecDeque::new(),
            unpublished: Follows::default(),
            kept: 0,
            is_published: false,
            membership: None,
            served: vec![0; usize::from(shards)],
            here,
            leftovers: Leftovers::default(),
            alters_elections: false,
        }
    }

    /// What a decision by these settings may look at, and the quorum.
    pub fn ctx<'a>(
        &'a mut self,
        config: &'a BrokerConfig,
        listener: usize,
        now: Mono,
    ) -> (Ctx<'a>, Option<&'a Quorum>) {
        let ctx = Ctx {
            image: &self.image,
            config,
            listener,
            now,
            rng: &mut self.rng,
            brokers: &self.brokers,
        };
        (ctx, self.quorum.as_ref().map(QuorumDriver::quorum))
    }

    /// A random id.
    pub fn random_id(&mut self) -> [u8; 16] {
        self.rng.uuid()
    }

    /// The image before there are any records.
    pub fn nothing(&self) -> Image {
        Image::of_node(self.here.iter().map(|directory| directory.id))
    }

    /// Whether this node decides.
    pub const fn leads(&self) -> bool {
        self.leads.is_some()
    }

    /// The records needed before anybody is served: on the first start, and when this node has other stores.
    pub fn first_start(&mut self) -> Result<Vec<MetadataRecord>, String> {
        if self.membership.is_some() {
            return first_records(&self.image, &self.config, &mut self.rng);
        }
        let shards = self.served.len() as u16;
        bootstrap(&self.image, &self.config, shards, &self.here, &mut self.rng)
    }

    /// What is committed, between two entries.
    pub fn known(&self) -> Option<&Image> {
        self.replay.is_none().then_some(&self.committed)
    }

    /// When it asks for something to be a broker that leads, if it does.
    pub fn member_asks_at(&self) -> Option<Mono> {
        let node = self.config.node();
        let membership = self.membership.as_ref()?;
        let knows_leader = self.leads() || self.quorum.as_ref()?.leader().is_some();
        let image = self.known().filter(|_| knows_leader)?;
        let waits = membership.is_registered(node, image) && !self.is_served();
        (!waits && membership.wants(node, image)).then(|| membership.ask_at())
    }

    /// Whether every shard serves by metadata in which this process is registered: none is published before.
    fn is_served(&self) -> bool {
        self.is_published && self.served_by_all() > 0
    }

    /// What this node asks for to be a broker that leads, if something and now.
    pub fn member_ask(&mut self, now: Mono) -> Option<MemberAsk> {
        // What it serves by says that it is registered.
        let is_served = self.is_served();
        self.known()?;
        let (node, image) = (self.config.node(), &self.committed);
        let membership = self.membership.as_mut()?;
        let (start, reached) = (membership.start, membership.reached.clone());
        let joining = || {
            Some(Joining {
                node,
                start,
                cluster_id: image.cluster_id.as_ref()?.to_string(),
                level: FEATURE_LEVEL,
                rack: self.config.broker_rack.clone(),
                addresses: addresses(&self.config, self.served.len() as u16)
                    .into_iter()
                    .chain(reached)
                    .collect(),
                directories: self.here.clone(),
            })
        };
        membership.ask(now, image, is_served, joining, node)
    }

    /// Answers. What was decided by records that are on their way, such as that a topic exists or which
    /// producer ids are taken, must not be known before they are durable; and who is to be answered from the image
    /// waits until every shard serves by it.
    pub fn reply(&mut self, req: ReqRef, called: Called, fx: &mut Fx<'_>) {
        let follows = match (self.proposed.back_mut(), self.publishing.back_mut()) {
            (Some(proposed), _) => &mut proposed.follows,
            (None, Some((_, follows))) if called == Called::Created => follows,
            _ => return answer(req, called, fx),
        };
        let then = Then::Answer(req, called);
        let memory = then.memory();
        follows.memory += memory;
        self.kept += memory;
        follows.then.push(then);
    }

    /// Whether so much waits for the disk, or for shards, that nothing more is decided.
    pub const fn is_full(&self) -> bool {
        self.kept >= DECIDED_BYTES_MAX
    }

    /// Proposes a change of the newest image and takes it into that at once.
    ///
    /// # Errors
    /// The quorum does not take it, and what was to follow.
    pub fn commit(
        &mut self,
        change: Change,
        then: Then,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<(), (Declined, Then)> {
        let Change {
            image,
            delta: _, // It is found again when the change is replayed.
            records,
            partitions,
        } = change;
        let memory = records.len() + then.memory();
        let proposed = match (&mut self.quorum, self.leads) {
            (Some(quorum), Some(term)) => quorum.propose(term, records, owner, fx),
            _ => Err(Declined::NotLeader { leader: None }),
        };
        let id = match proposed {
            Ok(id) => id,
            Err(declined) => return Err((declined, then)),
        };
        self.rooms.decided(image.version, &partitions);
        self.image = image;
        self.kept += memory;
        self.proposed.push_back(Proposed {
            id,
            version: self.image.version,
            follows: Follows {
                then: vec![then],
                memory,
            },
        });
        Ok(())
    }

    /// The same for records that nobody waits for.
    ///
    /// # Errors
    /// They do not apply; and inside of that, the quorum does not take them.
    pub fn commit_quietly(
        &mut self,
        records: Vec<MetadataRecord>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<Result<(), Declined>, String> {
        let change = Change::new(&self.image, records)
            .map_err(|why| format!("a decided metadata record does not apply: {why}"))?;
        let committed = self.commit(change, Then::Nothing, owner, fx);
        Ok(committed.map_err(|(declined, _)| declined))
    }

    /// Takes what is committed for what is decided.
    fn decide_anew(&mut self) {
        let decided = std::mem::replace(&mut self.image, self.committed.clone());
        Arc::new(decided).leave(&mut self.leftovers);
    }

    /// Whether something is committed that was not replayed.
    pub fn has_more(&self) -> bool {
        self.replay.is_some() || self.quorum.as_ref().is_some_and(QuorumDriver::has_more)
    }

    /// Replays what is committed, as long as there is something `left` of a slice; a record costs one. Returns what
    /// else there is to do when it has come to that.
    ///
    /// # Errors
    /// A committed record cannot be understood.
    pub fn replay_some(
        &mut self,
        left: &mut usize,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<Option<CommittedTurn>, String> {
        while *left > 0 {
            if let Some(replay) = &mut self.replay {
                match replay.records.next() {
                    Some(record) => {
                        *left -= 1;
                        let record = record.map_err(|why| of_entry(replay.id, &why))?;
                        if self.is_published {
                            let image = &replay.replaying.image;
                            self.life.record(fx.now.mono, image, &record);
                        }
                        let replayed = replay.replaying.replay(&record);
                        replayed.map_err(|why| of_entry(replay.id, &why))?;
                    }
                    None => self.replayed(fx),
                }
                continue;
            }
            let quorum = self.quorum.as_mut();
            match quorum.and_then(|quorum| quorum.next(owner, fx)) {
                None => break,
                Some(Happened::Committed(entry)) => {
                    *left -= 1;
                    if !matches!(entry.payload, Payload::Records(_)) {
                        self.replayed = entry.id;
                    }
                    if let Payload::Records(records) = entry.payload {
                        let records = RecordListReader::new(records);
                        // Before anybody has an image there is no other one for which it would have to stay as it is.
                        let image = if self.is_published {
                            *left = left.saturating_sub(IMAGE_COST);
                            self.committed.clone()
                        } else {
                            std::mem::take(&mut self.committed)
                        };
                        self.replay = Some(Replay {
                            id: entry.id,
                            replaying: Replaying::new(image),
                            records: records.map_err(|why| of_entry(entry.id, &why))?,
                        });
                    }
                }
                Some(Happened::SnapshotWanted(mark)) => {
                    return Ok(Some(CommittedTurn::Snapshot(mark)));
                }
                Some(Happened::Changed(outcome)) => {
                    return Ok(Some(CommittedTurn::Changed(outcome)));
                }
                Some(Happened::VotersCommitted(id)) => {
                    return Ok(Some(CommittedTurn::VotersCommitted(id)));
                }
                Some(Happened::Installed(mark)) => {
                    return Ok(Some(CommittedTurn::Installed(mark)));
                }
                Some(Happened::Leads(term)) => {
                    self.leads = Some(term);
                    self.decide_anew();
                    return Ok(Some(CommittedTurn::Leads));
                }
                Some(Happened::Follows) => {
                    self.leads = None;
                    return Ok(Some(CommittedTurn::Follows));
                }
            }
        }
        Ok(None)
    }

    /// All of a committed entry is replayed: it is true, and the shards get it.
    fn replayed(&mut self, fx: &mut Fx<'_>) {
        let Some(Replay { id, replaying, .. }) = self.replay.take() else {
            return;
        };
        (self.committed, self.replayed) = (replaying.image, id);
        self.life.entry(fx.now.mono, &self.committed);
        let is_registered = self.look_for_itself(fx);
        self.alters_elections |= replaying.delta.alters_elections();
        let is_own = self.proposed.front().is_some_and(|first| first.id == id);
        let own = is_own.then(|| self.proposed.pop_front()).flatten();
        let own = own.map(|own| own.follows);
        if self.proposed.is_empty() && self.leads() {
            debug_assert_eq!(self.image, self.committed, "what was decided");
            // The same, from one root: an image shares what it has with those that were made of it.
            self.decide_anew();
        }
        // At a start the shards get the first image when this node's own records are in it.
        let publishes = is_registered.unwrap_or(own.is_some());
        let mut follows = own.unwrap_or_default();
        for (req, called) in follows.take_inside() {
            answer(req, called, fx);
        }
        if publishes || self.is_published {
            let image = Arc::new(self.committed.clone());
            let delta = Arc::new(replaying.delta);
            self.publish(image, delta, follows, fx);
        } else {
            self.unpublished.add(follows);
        }
    }

    /// Whether this process is registered, where brokers register. It ends if it was and is not any more.
    fn look_for_itself(&mut self, fx: &mut Fx<'_>) -> Option<bool> {
        let node = self.config.node();
        let standing = self.membership.as_mut()?.look(node, &self.committed);
        if standing == OwnRegistration::Out {
            fx.out.push(fatal::unregistered(node));
        }
        Some(standing == OwnRegistration::Registered)
    }

    /// Forgets what was decided and is not committed: whoever waits for that. It may be committed yet, so nothing more
    /// is decided in this term, also by one that stops and still leads: it would not know of it.
    pub fn forget_decided(&mut self) -> Vec<Then> {
        let mut lost = Vec::new();
        self.leads = None;
        for proposed in self.proposed.drain(..) {
            self.kept -= proposed.follows.memory;
            lost.extend(proposed.follows.then);
        }
        self.decide_anew();
        lost
    }

    /// A snapshot that was fetched takes the place of all that was committed before.
    pub fn install(&mut self, id: EntryId, image: Image, fx: &mut Fx<'_>) {
        let delta = Delta::between(&self.committed, &image);
        let before = std::mem::replace(&mut self.committed, image);
        self.replayed = id;
        self.installed += 1;
        Arc::new(before).leave(&mut self.leftovers);
        let is_registered = self.look_for_itself(fx);
        self.decide_anew();
        if self.is_published || is_registered == Some(true) {
            let image = Arc::new(self.committed.clone());
            self.publish(image, Arc::new(delta), Follows::default(), fx);
        }
    }

    /// Gives the image to every shard at a start at which nothing changes.
    pub fn publish_current(&mut self, fx: &mut Fx<'_>) {
        let image = Arc::new(self.committed.clone());
        self.publish(image, Arc::default(), Follows::default(), fx);
    }

    fn publish(&mut self, image: Arc<Image>, delta: Arc<Delta>, follows: Follows, fx: &mut Fx<'_>) {
        // The first image of a start may come with a change of its own: it is new to the shards as a whole.
        let first = !std::mem::replace(&mut self.is_published, true);
        let delta = if first {
            let id = image.cluster_id.as_deref().unwrap_or_default();
            let node = self.config.node();
            tracing::info!("cluster {id}: node {node} serves by its metadata");
            Arc::new(Delta::everything())
        } else {
            delta
        };
        let mut all = std::mem::take(&mut self.unpublished);
        all.add(follows);
        self.publishing.push_back((image.version, all));
        for shard in 0..self.served.len() {
            let (image, delta) = (Arc::clone(&image), Arc::clone(&delta));
            fx.send(ShardId(shard as u16), Msg::Image { image, delta });
        }
    }

    /// A shard has found logs that were never given out: from now on they never will be. What is too far ahead of all
    /// that are given out is not noted, so as not to use up the ids in between.
    pub fn strays_found(&mut self, found: BTreeSet<LogId>, owner: &mut Owner, fx: &mut Fx<'_>) {
        let image = &self.image;
        let (mut records, mut next) = (Vec::new(), image.next_log);
        for log in found.into_iter().filter(|log| !image.is_stray(*log)) {
            if log.0 < next.saturating_add(LOG_IDS_AHEAD_MAX) {
                records.push(MetadataRecord::Stray { log });
                next = next.max(log.0 + 1);
            }
        }
        if records.is_empty() {
            return;
        }
        let committed = self.commit_quietly(records, owner, fx);
        let why = match committed {
            Ok(Ok(())) => return,
            Ok(Err(declined)) => format!("{declined:?}"),
            Err(why) => why,
        };
        // They are found again at the next start.
        tracing::warn!("logs that were never given out are not noted: {why}");
    }

    /// A shard serves by an image now.
    pub fn served(&mut self, shard: ShardId, version: u64) {
        if let Some(served) = self.served.get_mut(usize::from(shard.0)) {
            *served = (*served).max(version);
        }
        self.rooms.served(self.served_by_all());
    }

    /// The version of the metadata by which every shard serves.
    pub fn served_by_all(&self) -> u64 {
        self.served.iter().copied().min().unwrap_or(0)
    }

    /// What follows from an image that every shard serves by, to be asked for until there is nothing.
    pub fn next_served(&mut self) -> Option<Vec<Then>> {
        let by_all = self.served_by_all();
        let (version, _) = self.publishing.front()?;
        if *version > by_all {
            return None;
        }
        let (_, follows) = self.publishing.pop_front()?;
        self.kept -= follows.memory;
        Some(follows.then)
    }

    /// Whether all that was decided is served.
    pub fn is_quiet(&self) -> bool {
        self.proposed.is_empty()
            && self.publishing.is_empty()
            && self.rooms.is_quiet()
            && self.quorum.as_ref().is_none_or(QuorumDriver::is_quiet)
    }

    /// Panics if something is wrong inside. For the simulator.
    pub fn invariants(&self) {
        self.image.invariants();
        self.committed.invariants();
        let published = self.publishing.iter().map(|(version, _)| *version);
        let proposed = self.proposed.iter().map(|proposed| proposed.version);
        let versions: Vec<u64> = published.chain(proposed).collect();
        assert!(versions.is_sorted(), "images are published in their order");
        if self.leads() {
            assert!(
                versions.last() <= Some(&self.image.version),
                "the newest image"
            );
        }
        let follows = self.publishing.iter().map(|(_, follows)| follows);
        let follows = follows.chain([&self.unpublished]);
        let follows = follows.chain(self.proposed.iter().map(|proposed| &proposed.follows));
        let memory: usize = follows.map(|follows| follows.memory).sum();
        assert_eq!(memory, self.kept, "memory of what follows");
        let ids = self.proposed.iter().map(|proposed| proposed.id);
        assert!(ids.is_sorted(), "changes are committed in their order");
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

/// What is wrong with a committed entry.
fn of_entry(id: EntryId, why: &dyn std::fmt::Display) -> String {
    let EntryId { term, index } = id;
    format!("entry {index} of term {term} of the metadata cannot be understood: {why}")
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;
