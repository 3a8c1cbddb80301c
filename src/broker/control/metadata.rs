//! The metadata as it was decided, as it is committed, and what is on its way: to the quorum, and to the shards.
//!
//! What is decided the next request sees although it is not committed yet. It becomes true when the quorum says that it
//! is committed, and by nothing else: then it is replayed, and published. If this node leads no more before that, what
//! it has decided is forgotten, and whoever waits for it is told so.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::driver::{Happened, QuorumDriver};
use super::follows::{Follows, Then, answer};
use super::members::{MemberAsk, Membership};
use super::room::Rooms;
use crate::base::limits::{DECIDED_BYTES_MAX, LOG_IDS_AHEAD_MAX};
use crate::base::{LeaderEpoch, Leftovers, LogId, Mono, Rng, ShardId};
use crate::broker::admin::{Brokers, Ctx};
use crate::broker::fx::Fx;
use crate::broker::msg::{Called, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::config::BrokerConfig;
use crate::controller::{
    Change, Delta, Directory, FEATURE_LEVEL, Image, Joining, MetadataRecord, RecordListReader,
    Replaying, addresses, bootstrap, first_records,
};
use crate::quorum::{Declined, EntryId, Payload, SnapshotMark};

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
            publishing: VecDeque::new(),
            unpublished: Follows::default(),
            kept: 0,
            is_published: false,
            membership: None,
            served: vec![0; usize::from(shards)],
            here,
            leftovers: Leftovers::default(),
        }
    }

    /// What a decision by these settings may look at.
    pub fn ctx<'a>(&'a mut self, config: &'a BrokerConfig, listener: usize) -> Ctx<'a> {
        Ctx {
            image: &self.image,
            config,
            listener,
            rng: &mut self.rng,
            brokers: &self.brokers,
        }
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
        let start = membership.start;
        let joining = || {
            Some(Joining {
                node,
                start,
                cluster_id: image.cluster_id.as_ref()?.to_string(),
                level: FEATURE_LEVEL,
                rack: None,
                addresses: addresses(&self.config, self.served.len() as u16),
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
        let is_own = self.proposed.front().is_some_and(|first| first.id == id);
        let own = is_own.then(|| self.proposed.pop_front()).flatten();
        let own = own.map(|own| own.follows);
        if self.proposed.is_empty() && self.leads() {
            debug_assert_eq!(self.image, self.committed, "what was decided");
            // The same, from one root: an image shares what it has with those that were made of it.
            self.decide_anew();
        }
        // At a start the shards get the first image when this node's own records are in it.
        let publishes = match &self.membership {
            Some(membership) => membership.is_registered(self.config.node(), &self.committed),
            None => own.is_some(),
        };
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

    /// Forgets what was decided and is not committed: whoever waits for that.
    pub fn forget_decided(&mut self) -> Vec<Then> {
        let mut lost = Vec::new();
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
        self.decide_anew();
        let membership = self.membership.as_ref();
        let is_registered =
            membership.is_some_and(|it| it.is_registered(self.config.node(), &self.committed));
        if self.is_published || is_registered {
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
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::base::{LeaderEpoch, NodeId, Offset};
    use crate::broker::control::testing::{Site, directories, req, topic};
    use crate::controller::METADATA_LOG;
    use crate::controller::testing::partition;
    use crate::quorum::{
        EntryIndex, QuorumInput, QuorumMessage, ReplicaKey, Restored, Says, Voters,
    };

    fn reply() -> Called {
        Called::Frame(vec![Bytes::from_static(b"reply")])
    }

    /// Metadata of two shards, both of which serve by the first image.
    fn serving() -> (Site, Metadata) {
        let mut site = Site::new();
        let config = Arc::new(BrokerConfig::default());
        let mut metadata = Metadata::new(config, 2, directories(2), 1);
        let me = key(0);
        let restored = Restored::empty(Voters::new([me]).unwrap());
        let quorum = site.act(|owner, fx| {
            owner.begin_at(fx.now, METADATA_LOG, Offset(1));
            QuorumDriver::start(me, restored, (4096, 1), owner, fx)
        });
        metadata.quorum = Some(quorum.unwrap());
        let turns = settle(&mut site, &mut metadata);
        assert!(matches!(turns[..], [CommittedTurn::Leads]));
        site.act(|_, fx| metadata.publish_current(fx));
        assert_eq!(published(&mut site), [(0, 0), (1, 0)]);
        assert!(metadata.next_served().is_some());
        (site, metadata)
    }

    /// A replica of this node, or another one.
    fn key(other: u16) -> ReplicaKey {
        ReplicaKey {
            node: NodeId(1 + i32::from(other)),
            directory: directories(other + 1)[usize::from(other)].id,
        }
    }

    /// Replays what is committed; what else there is to do by it.
    fn replay(site: &mut Site, metadata: &mut Metadata) -> Vec<CommittedTurn> {
        let mut turns = Vec::new();
        site.act(|owner, fx| {
            while let Some(turn) = metadata
                .replay_some(&mut usize::MAX.clone(), owner, fx)
                .unwrap()
            {
                turns.push(turn);
            }
        });
        metadata.invariants();
        turns
    }

    /// Makes all durable, until nothing more comes of it.
    fn settle(site: &mut Site, metadata: &mut Metadata) -> Vec<CommittedTurn> {
        let mut turns = Vec::new();
        loop {
            let tokens = site.flush();
            if tokens.is_empty() {
                return turns;
            }
            for token in tokens {
                durable(site, metadata, token);
            }
            turns.extend(replay(site, metadata));
        }
    }

    fn durable(site: &mut Site, metadata: &mut Metadata, token: u64) -> bool {
        let quorum = metadata.quorum.as_mut().unwrap();
        site.act(|owner, fx| quorum.durable(token, owner, fx))
    }

    /// Which images the shards got since the last time, by version.
    fn published(site: &mut Site) -> Vec<(u16, u64)> {
        let sent = site.sent().into_iter();
        sent.map(|(to, msg)| match msg {
            Msg::Image { image, .. } => (to, image.version),
            msg => panic!("unexpected {msg:?}"),
        })
        .collect()
    }

    fn commit(site: &mut Site, metadata: &mut Metadata, records: Vec<MetadataRecord>, then: Then) {
        site.act(|owner, fx| {
            let change = Change::new(&metadata.image, records).unwrap();
            assert!(metadata.commit(change, then, owner, fx).is_ok());
        });
        metadata.invariants();
    }

    #[test]
    fn a_change_is_published_when_it_is_committed_and_answered_when_every_shard_serves_by_it() {
        let (mut site, mut metadata) = serving();
        let records = vec![topic(1), partition(1, 0, 1)];
        commit(
            &mut site,
            &mut metadata,
            records,
            Then::Answer(req(7), reply()),
        );
        assert!(metadata.image.topic("topic-1").is_some(), "decided");
        assert!(site.sent().is_empty() && !metadata.is_quiet());
        let tokens = site.flush();
        assert_eq!(tokens.len(), 1, "one flush");
        assert!(metadata.committed.topic("topic-1").is_none());
        assert!(durable(&mut site, &mut metadata, tokens[0]));
        assert!(replay(&mut site, &mut metadata).is_empty());
        assert_eq!(published(&mut site), [(0, 2), (1, 2)]);
        metadata.served(ShardId(1), 2);
        assert!(metadata.next_served().is_none(), "one does not serve by it");
        metadata.served(ShardId(0), 2);
        let then = metadata.next_served().unwrap();
        assert!(
            matches!(&then[..], [Then::Answer(to, called)] if *to == req(7) && *called == reply())
        );
        assert!(metadata.is_quiet());
    }

    #[test]
    fn what_is_answered_meanwhile_waits_for_what_it_was_decided_by() {
        let (mut site, mut metadata) = serving();
        site.act(|_, fx| metadata.reply(req(1), reply(), fx));
        assert_eq!(site.answers(), [(1, Ok(reply()))], "nothing is on its way");
        commit(&mut site, &mut metadata, vec![topic(1)], Then::Nothing);
        let other = Then::Answer(req(2), reply());
        commit(&mut site, &mut metadata, vec![topic(2)], other);
        site.act(|_, fx| metadata.reply(req(3), reply(), fx));
        assert!(site.answers().is_empty());
        settle(&mut site, &mut metadata);
        assert_eq!(published(&mut site), [(0, 1), (0, 2), (1, 1), (1, 2)]);
        // It is committed, which is enough but for who is to be answered from the image.
        site.act(|_, fx| metadata.reply(req(4), reply(), fx));
        site.act(|_, fx| metadata.reply(req(5), Called::Created, fx));
        assert_eq!(site.answers(), [(4, Ok(reply()))]);
        (0..2).for_each(|shard| metadata.served(ShardId(shard), 2));
        let first = metadata.next_served().unwrap();
        let second = metadata.next_served().unwrap();
        assert!(matches!(first[..], [Then::Nothing]));
        let told = second.iter().map(|then| match then {
            Then::Answer(req, _) => req.id,
            Then::Nothing => 0,
        });
        assert_eq!(told.collect::<Vec<_>>(), [2, 3, 5]);
    }

    #[test]
    fn a_flush_of_somebody_elses_publishes_nothing() {
        let (mut site, mut metadata) = serving();
        commit(&mut site, &mut metadata, vec![topic(1)], Then::Nothing);
        commit(&mut site, &mut metadata, vec![topic(2)], Then::Nothing);
        let tokens = site.flush();
        assert!(
            !durable(&mut site, &mut metadata, tokens[1]),
            "it has its turn later"
        );
        assert!(!durable(&mut site, &mut metadata, 999));
        assert!(replay(&mut site, &mut metadata).is_empty());
        assert!(site.sent().is_empty());
    }

    /// Somebody says that there is another leader, of the next term.
    fn depose(site: &mut Site, metadata: &mut Metadata) {
        let message = QuorumMessage {
            from: key(1),
            to: key(0),
            term: LeaderEpoch(2),
            says: Says::Append {
                prev: EntryId::default(),
                entries: Vec::new(),
                commit: EntryIndex(0),
            },
        };
        let quorum = metadata.quorum.as_mut().unwrap();
        site.act(|owner, fx| quorum.step(QuorumInput::Message(message), owner, fx));
    }

    #[test]
    fn who_leads_no_more_forgets_what_it_has_decided_and_not_what_is_committed() {
        let (mut site, mut metadata) = serving();
        let then = |id| Then::Answer(req(id), reply());
        commit(&mut site, &mut metadata, vec![topic(1)], then(1));
        let tokens = site.flush();
        commit(&mut site, &mut metadata, vec![topic(2)], then(2));
        assert!(durable(&mut site, &mut metadata, tokens[0]));
        depose(&mut site, &mut metadata);
        let turns = replay(&mut site, &mut metadata);
        assert!(matches!(turns[..], [CommittedTurn::Follows]) && !metadata.leads());
        assert_eq!(published(&mut site), [(0, 1), (1, 1)], "it was committed");
        let lost = metadata.forget_decided();
        assert!(matches!(lost[..], [Then::Answer(to, _)] if to == req(2)));
        metadata.invariants();
        let change = Change::new(&metadata.image, [topic(3)]).unwrap();
        let refused = site.act(|owner, fx| metadata.commit(change, then(3), owner, fx));
        assert!(matches!(refused, Err((Declined::NotLeader { .. }, _))));
        // Nobody has said that it is not committed: when it leads again, it is.
        site.pass_ms(1_000);
        let quorum = metadata.quorum.as_mut().unwrap();
        site.act(|owner, fx| quorum.step(QuorumInput::Time, owner, fx));
        let turns = settle(&mut site, &mut metadata);
        assert!(matches!(turns[..], [CommittedTurn::Leads]));
        assert_eq!(published(&mut site), [(0, 2), (1, 2)]);
        assert!(metadata.image.topic("topic-2").is_some());
        assert!(metadata.image.topic("topic-3").is_none());
    }

    /// It leads again before it has come to that it did not: what others have decided meanwhile is not in its image.
    #[test]
    fn what_was_decided_in_an_earlier_term_is_not_gone_on_with() {
        let (mut site, mut metadata) = serving();
        depose(&mut site, &mut metadata);
        site.pass_ms(1_000);
        let quorum = metadata.quorum.as_mut().unwrap();
        site.act(|owner, fx| quorum.step(QuorumInput::Time, owner, fx));
        for _ in 0..3 {
            for token in site.flush() {
                durable(&mut site, &mut metadata, token);
            }
        }
        assert!(metadata.leads() && metadata.quorum.as_ref().unwrap().leads_in().is_some());
        let change = Change::new(&metadata.image, [topic(1)]).unwrap();
        let refused = site.act(|owner, fx| metadata.commit(change, Then::Nothing, owner, fx));
        assert!(matches!(refused, Err((Declined::NotLeader { .. }, _))));
        let mut turns = replay(&mut site, &mut metadata);
        turns.extend(settle(&mut site, &mut metadata));
        assert!(matches!(
            turns[..],
            [CommittedTurn::Follows, CommittedTurn::Leads]
        ));
    }

    /// Their ids are never given out; and none may use up those of everybody else, or keep the broker from starting.
    #[test]
    fn strays_keep_their_ids_if_these_could_ever_be_given_out() {
        for (found, noted, next_log) in [
            (vec![7, 3], vec![3, 7], 8),
            (vec![u64::MAX], vec![], 1),
            (vec![u64::MAX - 1, 5, u64::MAX / 2], vec![5], 6),
        ] {
            let (mut site, mut metadata) = serving();
            let found: BTreeSet<LogId> = found.into_iter().map(LogId).collect();
            for _ in 0..2 {
                site.act(|owner, fx| metadata.strays_found(found.clone(), owner, fx));
                assert!(site.sent().is_empty(), "nothing is fatal");
            }
            let noted: Vec<LogId> = noted.into_iter().map(LogId).collect();
            let strays = found.iter().filter(|log| metadata.image.is_stray(**log));
            assert_eq!(strays.count(), noted.len());
            assert!(noted.iter().all(|log| metadata.image.is_stray(*log)));
            assert_eq!(metadata.image.next_log, next_log);
            let version = metadata.image.version;
            assert_eq!(version as usize, noted.len(), "once each");
        }
    }
}
