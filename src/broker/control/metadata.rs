//! The metadata as it was decided, and what of it is still on its way: to the log, and to the shards.
//!
//! Decided is decided: the next request sees it although it is not durable yet. If it never becomes durable the
//! process has failed and nobody was told.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::room::Rooms;
use crate::base::limits::{DECIDED_BYTES_MAX, LOG_IDS_AHEAD_MAX};
use crate::base::{LogId, Rng, ShardId};
use crate::broker::admin::{Brokers, Ctx};
use crate::broker::fatal;
use crate::broker::fx::Fx;
use crate::broker::msg::{Called, Msg, ReqRef};
use crate::broker::owner::Owner;
use crate::config::BrokerConfig;
use crate::controller::{Change, Delta, Directory, Image, METADATA_LOG, MetadataRecord, bootstrap};

/// Records on their way to the metadata log, and what follows when they are there.
#[derive(Debug)]
struct Commit {
    token: u64,
    image: Arc<Image>,
    delta: Arc<Delta>,
    follows: Follows,
}

/// What follows when a commit is served by every shard.
#[derive(Debug)]
pub enum Then {
    Nothing,
    Answer(ReqRef, Called),
}

impl Then {
    /// What it takes in memory.
    fn memory(&self) -> usize {
        let frame = match self {
            Self::Answer(_, Called::Frame(pieces)) => pieces.iter().map(Bytes::len).sum(),
            Self::Answer(_, Called::Created) | Self::Nothing => 0,
        };
        size_of::<Self>() + frame
    }
}

/// All that follows from a commit, and what it and the commit take in memory.
#[derive(Debug, Default)]
struct Follows {
    then: Vec<Then>,
    memory: usize,
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
    publishing: VecDeque<(u64, Follows)>,
    /// What they and the commits take in memory.
    kept: usize,
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
            kept: 0,
            is_published: false,
            served: vec![0; usize::from(shards)],
            here,
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

    /// Replays a record of the metadata log; the only way, besides deciding one, that the image changes.
    pub fn replay(&mut self, record: &MetadataRecord) -> Result<(), String> {
        self.image.replay(record).map_err(|error| error.to_string())
    }

    /// The records needed before anybody is served: on the first start, and when this node has other stores.
    pub fn first_start(&mut self) -> Result<Vec<MetadataRecord>, String> {
        let shards = self.served.len() as u16;
        bootstrap(&self.image, &self.config, shards, &self.here, &mut self.rng)
    }

    /// Answers. What was decided by records that are on their way, such as that a topic exists or which
    /// producer ids are taken, must not be known before they are durable; and who is to be answered from the image
    /// waits until every shard serves by it.
    pub fn reply(&mut self, req: ReqRef, called: Called, fx: &mut Fx<'_>) {
        let follows = match (self.commits.back_mut(), self.publishing.back_mut()) {
            (Some(commit), _) => &mut commit.follows,
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

    /// Writes a change of the newest image and takes it into that at once.
    pub fn commit(&mut self, change: Change, then: Then, owner: &mut Owner, fx: &mut Fx<'_>) {
        let Change {
            image,
            delta,
            batch,
            partitions,
        } = change;
        self.rooms.decided(image.version, &partitions);
        self.image = image;
        let memory = batch.len() + then.memory();
        self.kept += memory;
        let end = match owner.append_internal(fx.now, METADATA_LOG, batch) {
            Ok(end) => end,
            Err(refused) => {
                fx.out.push(fatal::metadata(format!(
                    "the metadata log cannot be written: {refused}"
                )));
                return;
            }
        };
        self.commits.push_back(Commit {
            token: owner.tell_when_committed(METADATA_LOG, end),
            image: Arc::new(self.image.clone()),
            delta: Arc::new(delta),
            follows: Follows {
                then: vec![then],
                memory,
            },
        });
    }

    /// The same for records that nobody waits for.
    pub fn commit_quietly(
        &mut self,
        records: Vec<MetadataRecord>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        match Change::new(&self.image, fx.now.wall_ms, records) {
            Ok(change) => self.commit(change, Then::Nothing, owner, fx),
            Err(why) => fx.out.push(fatal::metadata(format!(
                "a decided metadata record does not apply: {why}"
            ))),
        }
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
            self.publish(commit.image, commit.delta, commit.follows, fx);
        }
        true
    }

    /// Gives the image to every shard at a start at which nothing changes.
    pub fn publish_current(&mut self, fx: &mut Fx<'_>) {
        let image = Arc::new(self.image.clone());
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
        self.publishing.push_back((image.version, follows));
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
        let (_, follows) = self.publishing.pop_front()?;
        self.kept -= follows.memory;
        Some(follows.then)
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
        let follows = self.publishing.iter().map(|(_, follows)| follows);
        let follows = follows.chain(self.commits.iter().map(|commit| &commit.follows));
        let memory: usize = follows.map(|follows| follows.memory).sum();
        assert_eq!(memory, self.kept, "memory of what follows");
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
pub fn answer(req: ReqRef, called: Called, fx: &mut Fx<'_>) {
    let answer = Ok(called);
    fx.send(req.shard, Msg::ControlDone { id: req.id, answer });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::control::testing::{NOW, Site, directories, req, topic};
    use crate::controller::testing::partition;

    fn reply() -> Called {
        Called::Frame(vec![Bytes::from_static(b"reply")])
    }

    /// Metadata of two shards, both of which serve by the first image.
    fn serving() -> (Site, Metadata) {
        let mut site = Site::new();
        let config = Arc::new(BrokerConfig::default());
        let mut metadata = Metadata::new(config, 2, directories(2), 1);
        site.act(|_, fx| metadata.publish_current(fx));
        assert_eq!(published(&mut site), [(0, 0), (1, 0)]);
        assert!(metadata.next_served().is_some());
        (site, metadata)
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
            let change = Change::new(&metadata.image, NOW.wall_ms, records).unwrap();
            metadata.commit(change, then, owner, fx);
        });
        metadata.invariants();
    }

    #[test]
    fn a_change_is_published_when_it_is_durable_and_answered_when_every_shard_serves_by_it() {
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
        assert_eq!(tokens.len(), 1);
        assert!(site.act(|_, fx| metadata.durable(tokens[0], fx)));
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
        for token in site.flush() {
            assert!(site.act(|_, fx| metadata.durable(token, fx)));
        }
        assert_eq!(published(&mut site), [(0, 1), (0, 2), (1, 1), (1, 2)]);
        // It is durable, which is enough but for who is to be answered from the image.
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
            !site.act(|_, fx| metadata.durable(tokens[1], fx)),
            "it has its turn later"
        );
        assert!(!site.act(|_, fx| metadata.durable(999, fx)));
        assert!(site.sent().is_empty());
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
