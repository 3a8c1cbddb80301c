//! Reads the partitions of `__consumer_offsets` or `__transaction_state` that this shard leads, one after the other,
//! into their coordinators: all that is there when this node begins to lead, which has to be committed first. What was
//! acknowledged before is among it, though a new leader may not know yet that it was.

use std::collections::VecDeque;

use bytes::Bytes;

use super::topic::OFFSETS_TOPIC;
use crate::base::{IdMap, LogId, Mono, Offset, TopicId};
use crate::broker::fx::Fx;
use crate::broker::own::reader::LogReader;
use crate::broker::own::run::{BatchRun, feed};
use crate::broker::owner::Owner;
use crate::broker::owner::acks::Told;
use crate::broker::owner::refused_reads::RefusedReads;
use crate::broker::owner::work::Worker;
use crate::config::BrokerConfig;
use crate::controller::Image;
use crate::coordinator::Host;
use crate::group::Replayed;
use crate::record::{BatchInfo, EndMarker};
use crate::store::DiskError;

/// Coordinators of one kind, whose partitions are read.
pub trait LoadTarget {
    /// Their topic.
    fn topic(&self) -> &'static str;

    /// Whom they coordinate, for the log.
    fn whose(&self) -> &'static str;

    /// Whether what nobody can read of it is skipped, as the operator wants.
    fn skips_damage(&self, config: &BrokerConfig) -> bool;

    /// Whether the topic is compacted in a way that leaves gaps between batches.
    fn has_gaps(&self) -> bool;

    /// Takes a batch of a partition that is being loaded.
    ///
    /// # Errors
    /// It cannot be read.
    fn replay(
        &mut self,
        partition: i32,
        batch: (&BatchInfo, &[u8]),
        image: &Image,
    ) -> Result<(), String>;

    /// A partition cannot be read.
    fn fail(&mut self, partition: i32);
}

impl LoadTarget for Host {
    fn topic(&self) -> &'static str {
        OFFSETS_TOPIC
    }

    fn whose(&self) -> &'static str {
        "groups"
    }

    fn skips_damage(&self, config: &BrokerConfig) -> bool {
        config.millrace_groups_skip_damage
    }

    fn has_gaps(&self) -> bool {
        false
    }

    fn replay(
        &mut self,
        partition: i32,
        (info, batch): (&BatchInfo, &[u8]),
        image: &Image,
    ) -> Result<(), String> {
        if info.is_control() {
            feed(batch, &mut |_, _, _| Ok(()))?;
            if let Some(end) = EndMarker::read(batch) {
                self.marker(partition, info.producer_id, end.commits);
            }
            return Ok(());
        }
        let id = |topic: &str| image.topic(topic).map_or(TopicId::ZERO, |topic| topic.id);
        feed(batch, &mut |key, value, timestamp_ms| {
            let Some(key) = key else {
                return Ok(());
            };
            let record = Replayed {
                key,
                value,
                timestamp_ms,
                producer: Some(info.producer_id).filter(|_| info.is_transactional()),
            };
            // What the coordinator does not understand is a record of a later version: it stays.
            if let Err(error) = self.replay(partition, record, &id) {
                tracing::warn!("{OFFSETS_TOPIC}-{partition}: {error}");
            }
            Ok(())
        })
    }

    fn fail(&mut self, partition: i32) {
        self.fail(partition);
    }
}

/// A partition that is to be read.
#[derive(Clone, Copy, Debug)]
struct Loading {
    partition: i32,
    log: LogId,
    at: Offset,
    /// What is being read ends before this at the latest.
    until: Offset,
    /// Something of it could not be read.
    skipped: bool,
    /// How often the disk has refused to read what is read now.
    refusals: RefusedReads,
}

/// A partition that was read to its end.
#[derive(Clone, Copy, Debug)]
pub struct LoadedPartition {
    pub partition: i32,
    /// But for what could not be read.
    pub skipped: bool,
}

/// What is known where a partition is read.
pub struct LoadInto<'a> {
    pub host: &'a mut dyn LoadTarget,
    pub image: &'a Image,
    pub owner: &'a mut Owner,
}

/// See the module.
#[derive(Debug)]
pub struct Loads {
    pub reader: LogReader,
    todo: VecDeque<Loading>,
    /// A part of the first one is being read.
    reading: bool,
    /// And nobody wants it any more.
    is_void: bool,
    /// Those that wait until what they hold is committed, by the token for that.
    uncommitted: IdMap<u64, Loading>,
    /// Those that the disk refused to read, and when each is read on.
    refused: Vec<(Mono, Loading)>,
}

impl Loads {
    /// Whose reads are this worker's.
    pub fn new(worker: Worker) -> Self {
        Self {
            reader: LogReader::new(worker),
            todo: VecDeque::new(),
            reading: false,
            is_void: false,
            uncommitted: IdMap::default(),
            refused: Vec::new(),
        }
    }

    /// A partition is to be read.
    pub fn want(&mut self, partition: i32, log: LogId) {
        self.todo.push_back(Loading {
            partition,
            log,
            at: Offset(0),
            until: Offset(0),
            skipped: false,
            refusals: RefusedReads::default(),
        });
    }

    /// A partition is not to be read, or not on.
    pub fn forget(&mut self, partition: i32) {
        self.uncommitted.retain(|_, it| it.partition != partition);
        self.refused.retain(|(_, it)| it.partition != partition);
        // What is being read ends first.
        let is_first = self.reading
            && self
                .todo
                .front()
                .is_some_and(|it| it.partition == partition);
        self.is_void |= is_first;
        let mut is_read = self.reading;
        self.todo
            .retain(|it| std::mem::take(&mut is_read) || it.partition != partition);
    }

    /// Whether every one is read, but for those of which it is not known when they can be.
    pub fn is_done(&self) -> bool {
        self.todo.is_empty()
    }

    /// Whether [`Loads::next`] has something to do.
    pub fn has_more(&self) -> bool {
        !self.todo.is_empty() && !self.reading
    }

    /// When [`Loads::tick`] has something to do.
    pub fn next_deadline(&self) -> Mono {
        let until = self.refused.iter().map(|(until, _)| *until);
        until.min().unwrap_or(Mono::NEVER)
    }

    /// What the disk refused to read is read on, when it is time for it.
    pub fn tick(&mut self, now: Mono) {
        let due = self.refused.extract_if(.., |(until, _)| *until <= now);
        self.todo.extend(due.map(|(_, loading)| loading));
    }

    /// If the token is that of a partition that waits: what was waited for is committed, or another one leads now,
    /// which is about to be said.
    pub fn told(&mut self, (token, outcome): Told) -> bool {
        let loading = self.uncommitted.remove(&token);
        self.todo.extend(loading.filter(|_| outcome.is_ok()));
        loading.is_some()
    }

    /// Goes on until a partition is read, or something has to be waited for. One that cannot be read has failed.
    pub fn next(&mut self, to: &mut LoadInto<'_>, fx: &mut Fx<'_>) -> Option<LoadedPartition> {
        loop {
            let mut loading = *self.todo.front()?;
            let known = if self.reading {
                let (_, part) = self.reader.next()?;
                self.reading = false;
                if std::mem::take(&mut self.is_void) {
                    self.todo.pop_front();
                    continue;
                }
                match part {
                    Err(error) => match again_after(&mut loading, &error, to) {
                        Some(ms) => Ok(Known::Again(ms)),
                        None => read(&mut loading, Err(error), to),
                    },
                    part => read(&mut loading, part, to),
                }
            } else {
                self.begin(&mut loading, to, fx)
            };
            match known {
                Ok(Known::All) => {
                    self.todo.pop_front();
                    return Some(LoadedPartition {
                        partition: loading.partition,
                        skipped: loading.skipped,
                    });
                }
                Ok(Known::Part) => self.todo[0] = loading,
                Ok(Known::Later(token)) => {
                    self.todo.pop_front();
                    self.uncommitted.insert(token, loading);
                }
                Ok(Known::Again(ms)) => {
                    self.todo.pop_front();
                    self.refused.push((fx.now.mono.plus_ms(ms), loading));
                }
                Ok(Known::NotMore) => drop(self.todo.pop_front()),
                Err(Unreadable) => {
                    self.todo.pop_front();
                    to.host.fail(loading.partition);
                }
            }
        }
    }

    /// Begins to read the next part of a partition.
    fn begin(
        &mut self,
        loading: &mut Loading,
        to: &mut LoadInto<'_>,
        fx: &mut Fx<'_>,
    ) -> Result<Known, Unreadable> {
        if to.owner.is_damaged(loading.log) {
            return lost(loading.partition, to, fx);
        }
        let Some(partition) = to.owner.partitions.get(&loading.log) else {
            return Err(unserved(loading.partition, to));
        };
        if partition.leader.is_none() {
            // That another one leads is about to be said.
            return Ok(Known::NotMore);
        }
        loading.at = loading.at.max(partition.log.start_offset());
        let (committed, end) = (partition.log.high_watermark(), partition.log.end_offset());
        if loading.at >= committed && committed >= end {
            return Ok(Known::All);
        }
        if loading.at >= committed {
            return Ok(Known::Later(to.owner.tell_when_committed(loading.log, end)));
        }
        loading.until = committed;
        self.reader.load(to.owner, loading.log, loading.at, fx);
        self.reading = true;
        Ok(Known::Part)
    }
}

/// How much of a partition is read.
enum Known {
    Part,
    All,
    /// It can be read on when this is told.
    Later(u64),
    /// It can be tried again after some time.
    Again(u64),
    /// It will not be.
    NotMore,
}

/// A partition is not read on.
struct Unreadable;

/// The disk has refused to read on in a partition: after how many ms it is asked again, if it is.
fn again_after(loading: &mut Loading, error: &DiskError, to: &LoadInto<'_>) -> Option<u64> {
    let after_ms = loading.refusals.again_after(error)?;
    if loading.refusals.are_news() {
        let (place, whose) = (place(to, loading.partition), to.host.whose());
        tracing::error!(
            "{place} cannot be read at offset {} (errno {}): it is tried again for a while; its {whose} get \
             COORDINATOR_LOAD_IN_PROGRESS meanwhile, all others are served",
            loading.at,
            error.errno
        );
    }
    Some(after_ms)
}

/// Takes what was read from where a partition's reading has come to.
fn read(
    loading: &mut Loading,
    part: Result<Bytes, DiskError>,
    to: &mut LoadInto<'_>,
) -> Result<Known, Unreadable> {
    let at = loading.at;
    if part.is_ok() {
        loading.refusals.over();
    }
    let Some(partition) = to.owner.partitions.get(&loading.log) else {
        return Err(unserved(loading.partition, to));
    };
    let start = partition.log.start_offset();
    let part = part.map_err(|error| format!("errno {}", error.errno));
    let next = match part.and_then(|bytes| replay(loading, &bytes, to)) {
        Ok(next) => next?,
        Err(why) => {
            let (next, _) = begins_after(loading.log, at, to.owner);
            damaged(loading, (at, next), &why, to)?;
            next
        }
    };
    if next > at {
        loading.at = next;
    } else if start <= at {
        // There is nothing but a gap.
        loading.at = loading.until;
    }
    Ok(Known::Part)
}

/// Where behind an offset the log knows a batch to begin, and where it ends.
fn begins_after(log: LogId, at: Offset, owner: &Owner) -> (Offset, Offset) {
    let partition = owner.partitions.get(&log);
    partition.map_or((at, at), |p| {
        (p.log.known_after(at), p.log.high_watermark())
    })
}

/// Gives the coordinator what was read. Returns where to go on, or what is wrong if that is not known.
fn replay(
    loading: &mut Loading,
    bytes: &[u8],
    to: &mut LoadInto<'_>,
) -> Result<Result<Offset, Unreadable>, String> {
    let (partition, at) = (loading.partition, loading.at);
    let image = to.image;
    let mut run = match to.host.has_gaps() {
        true => BatchRun::with_gaps(bytes, at),
        false => BatchRun::new(bytes, at),
    };
    loop {
        let outcome =
            run.each_batch(&mut |info, batch| to.host.replay(partition, (info, batch), image));
        let Err(why) = outcome else {
            return Ok(Ok(run.next));
        };
        let from = run.next;
        let (begins, end) = begins_after(loading.log, from, to.owner);
        if !run.skip(begins, end) {
            // Whoever reads on from there is told what is wrong there.
            return if from > at { Ok(Ok(from)) } else { Err(why) };
        }
        if let Err(unreadable) = damaged(loading, (from, run.next), &why, to) {
            return Ok(Err(unreadable));
        }
    }
}

/// Something of a partition cannot be read. As in Kafka its groups are not served then, unless the operator wants to go
/// on without, and nobody else has it.
fn damaged(
    loading: &mut Loading,
    (from, next): (Offset, Offset),
    why: &str,
    to: &LoadInto<'_>,
) -> Result<(), Unreadable> {
    let (place, whose) = (place(to, loading.partition), to.host.whose());
    let topic = to.image.topic(to.host.topic());
    let known = topic.and_then(|topic| topic.partition(loading.partition));
    if known.is_some_and(|it| it.isr.len() > 1) {
        // What is written anew takes the place of what they have.
        tracing::error!(
            "{place} is damaged at offset {from} ({why}): its {whose} get NOT_COORDINATOR, all others are served. \
             Replicas that are in sync have what cannot be read here: one of them leads when this node is stopped"
        );
        return Err(Unreadable);
    }
    if to.host.skips_damage(&to.owner.config) {
        let last = Offset(next.0 - 1);
        tracing::error!(
            "{place} is damaged ({why}): offsets {from} to {last} were skipped, the commits in them are lost"
        );
        loading.skipped = true;
        return Ok(());
    }
    tracing::error!(
        "{place} is damaged at offset {from} ({why}): its {whose} get NOT_COORDINATOR, all others are served. \
         `millracectl store check` says where the damage is. Restore the store from a copy, or, if it is of groups, \
         start once with millrace.groups.skip.damage=true to go on without the commits that cannot be read"
    );
    Err(Unreadable)
}

/// A partition is damaged as a whole.
fn lost(partition: i32, to: &mut LoadInto<'_>, fx: &Fx<'_>) -> Result<Known, Unreadable> {
    let (place, whose) = (place(to, partition), to.host.whose());
    let topic = to.image.topic(to.host.topic());
    let known = topic.and_then(|topic| topic.partition(partition));
    if known.is_some_and(|it| it.replicas.len() > 1) {
        tracing::error!(
            "{place} is damaged as a whole: another replica that is in sync is to lead it"
        );
        return Err(Unreadable);
    }
    if to.host.skips_damage(&to.owner.config)
        && topic.is_some_and(|topic| to.owner.recreate(fx.now, topic, partition))
    {
        tracing::error!("{place} is damaged as a whole: the commits in it are lost");
        return Ok(Known::All);
    }
    tracing::error!(
        "{place} is damaged as a whole: its {whose} get NOT_COORDINATOR, all others are served. Restore the \
         store from a copy, or, if it is of groups, start once with millrace.groups.skip.damage=true to go on \
         without its commits"
    );
    Err(Unreadable)
}

/// The log of a partition is not there, or not served: nothing is known of what is coordinated there.
fn unserved(partition: i32, to: &LoadInto<'_>) -> Unreadable {
    let (place, whose) = (place(to, partition), to.host.whose());
    tracing::error!(
        "{place} is not served: its {whose} get NOT_COORDINATOR, all others are served. Metadata and stores may not \
         belong together"
    );
    Unreadable
}

fn place(to: &LoadInto<'_>, partition: i32) -> String {
    let name = to.host.topic();
    let topic = to.image.topic(name);
    let store = topic.and_then(|t| t.partition(partition));
    let store = store.and_then(|p| p.store).unwrap_or_default();
    format!("{name}-{partition} in store-{store}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{ErrorCode, NodeId, StoreId};
    use crate::broker::control::testing::{NOW, Site, batch, directories, unreadable};
    use crate::config::{BrokerConfig, TopicConfig};
    use crate::controller::MetadataRecord;
    use crate::controller::testing::partition;
    use crate::coordinator::InstanceState;
    use crate::group::GroupConfig;
    use crate::log::LogConfig;
    use crate::store::LogLabel;

    const LOGS: [LogId; 2] = [LogId(5), LogId(6)];

    struct Fixture {
        site: Site,
        image: Image,
        host: Host,
        loads: Loads,
    }

    impl Fixture {
        /// Two partitions; the batches are what is in the first one.
        fn new(skips_damage: bool, batches: impl IntoIterator<Item = Bytes>) -> Self {
            let offsets = MetadataRecord::Topic {
                name: OFFSETS_TOPIC.to_owned(),
                id: TopicId([2; 16]),
            };
            let mut image = Image::of_node(directories(1).iter().map(|directory| directory.id));
            let partitions = (0..).zip(LOGS).map(|(n, log)| partition(2, n, log.0));
            for record in [offsets].into_iter().chain(partitions) {
                image.replay(&record).unwrap();
            }
            let mut site = Site::new();
            site.owner.config = Arc::new(BrokerConfig {
                millrace_groups_skip_damage: skips_damage,
                ..BrokerConfig::default()
            });
            site.act(|owner, fx| {
                for log in LOGS {
                    owner.open_own(fx.now, 0, log, LogLabel::default(), LogConfig::default());
                }
                for batch in batches {
                    owner
                        .append_internal(fx.now, LOGS[0], batch)
                        .expect("written");
                }
            });
            site.flush();
            Self {
                site,
                image,
                host: Host::new(GroupConfig::default(), 1),
                loads: Loads::new(Worker::Offsets),
            }
        }

        /// These have copies of the first one, and are in sync.
        fn replicate(&mut self, nodes: &[i32]) {
            let MetadataRecord::Partition(mut record) = partition(2, 0, LOGS[0].0) else {
                panic!("a partition");
            };
            record.replicas = nodes.iter().copied().map(NodeId).collect();
            record.isr = record.replicas.clone();
            record.directories = vec![directories(1)[0].id; nodes.len()];
            self.image
                .replay(&MetadataRecord::Partition(record))
                .unwrap();
            let topic = self.image.topic(OFFSETS_TOPIC).unwrap();
            let config = TopicConfig::effective(&BrokerConfig::default(), &topic.configs);
            self.site.act(|owner, fx| {
                owner.open(fx.now, 0, topic, 0, &topic.partitions[0], &config);
            });
        }

        fn append(&mut self, batch: Bytes) {
            self.site.act(|owner, fx| {
                let written = owner.append_internal(fx.now, LOGS[0], batch);
                written.expect("written");
            });
            self.site.flush();
        }

        /// Goes on; which are loaded.
        fn go_on(&mut self) -> Vec<i32> {
            let (host, image, loads) = (&mut self.host, &self.image, &mut self.loads);
            self.site.act(|owner, fx| {
                let mut all = Vec::new();
                loop {
                    let mut to = LoadInto {
                        host: &mut *host,
                        image,
                        owner: &mut *owner,
                    };
                    let Some(loaded) = loads.next(&mut to, fx) else {
                        break all;
                    };
                    host.loaded(fx.now, loaded.partition, &mut Vec::new());
                    all.push(loaded.partition);
                }
            })
        }

        /// Loads both; says of which something was skipped, and whether the groups of each are served.
        fn load(&mut self) -> (Vec<i32>, [bool; 2]) {
            for (partition, log) in (0..).zip(LOGS) {
                assert!(self.host.open(partition));
                self.loads.want(partition, log);
            }
            let mut skipped = Vec::new();
            let (host, image, loads) = (&mut self.host, &self.image, &mut self.loads);
            self.site.act(|owner, fx| {
                loop {
                    let mut to = LoadInto {
                        host: &mut *host,
                        image,
                        owner: &mut *owner,
                    };
                    let Some(loaded) = loads.next(&mut to, fx) else {
                        break;
                    };
                    host.loaded(fx.now, loaded.partition, &mut Vec::new());
                    skipped.extend(Some(loaded.partition).filter(|_| loaded.skipped));
                }
            });
            assert!(self.loads.is_done());
            let serves = |partition| self.host.state(partition) == Some(InstanceState::Active);
            (skipped, [0, 1].map(serves))
        }
    }

    #[test]
    fn what_cannot_be_read_of_the_commits_costs_its_groups_or_the_commits() {
        let batches = [batch(b"k", b"v"), unreadable(), batch(b"k", b"v")];
        let mut f = Fixture::new(false, batches.clone());
        assert_eq!(f.load(), (vec![], [false, true]));
        let batches_again = batches.clone();
        let mut f = Fixture::new(true, batches);
        assert_eq!(f.load(), (vec![0], [true, true]));
        // What another one has that is in sync is not given up for what is left here.
        let mut f = Fixture::new(true, batches_again);
        f.replicate(&[1, 2]);
        assert_eq!(f.load(), (vec![], [false, true]));
        // A key that nobody knows is of a later version.
        let mut f = Fixture::new(false, [batch(b"k", b"v")]);
        assert_eq!(f.load(), (vec![], [true, true]));
        let mut f = Fixture::new(false, []);
        assert_eq!(f.load(), (vec![], [true, true]));
    }

    /// Loads one whose records are on two nodes, of which the other one has not said yet that it has them; returns the
    /// token that is waited for.
    fn load_uncommitted(f: &mut Fixture) -> u64 {
        assert!(f.host.open(0));
        f.loads.want(0, LOGS[0]);
        assert_eq!(f.go_on(), []);
        assert!(f.loads.is_done() && !f.loads.has_more());
        *f.loads.uncommitted.keys().next().expect("it waits")
    }

    #[test]
    fn what_is_not_committed_is_waited_for_as_long_as_this_node_leads() {
        let mut f = Fixture::new(false, []);
        f.replicate(&[1, 2]);
        f.append(batch(b"k", b"v"));
        let token = load_uncommitted(&mut f);
        let elsewhere = Err(ErrorCode::NotLeaderOrFollower);
        assert!(!f.loads.told((token + 1, Ok(()))) && f.loads.told((token, elsewhere)));
        assert!(!f.loads.has_more() && f.loads.uncommitted.is_empty());
        assert_eq!(f.host.state(0), Some(InstanceState::Loading));
        f.host.unload(NOW, 0, &mut Vec::new());
        let token = load_uncommitted(&mut f);
        f.replicate(&[1]);
        assert!(f.loads.told((token, Ok(()))));
        assert_eq!(f.go_on(), [0]);
        assert_eq!(f.host.state(0), Some(InstanceState::Active));
        f.host.unload(NOW, 0, &mut Vec::new());
        f.replicate(&[1, 2]);
        f.append(batch(b"k", b"v"));
        let token = load_uncommitted(&mut f);
        f.loads.forget(0);
        assert!(!f.loads.told((token, Ok(()))) && !f.loads.has_more());
    }

    /// A part of the first one is being read, and the disk says this.
    fn refuse(f: &mut Fixture, errno: i32) -> Vec<i32> {
        f.loads.reading = true;
        f.loads.reader.push(LOGS[0], Err(DiskError { errno }));
        f.go_on()
    }

    #[test]
    fn what_the_disk_refuses_to_read_is_tried_again_for_a_while() {
        const EIO: i32 = 5;
        for skips in [false, true] {
            let mut f = Fixture::new(skips, [batch(b"k", b"v")]);
            assert!(f.host.open(0));
            f.loads.want(0, LOGS[0]);
            let mut refusals = RefusedReads::default();
            while let Some(after_ms) = refusals.again_after(&DiskError { errno: EIO }) {
                assert_eq!(refuse(&mut f, EIO), []);
                assert_eq!(f.host.state(0), Some(InstanceState::Loading));
                assert!(f.loads.is_done() && !f.loads.has_more());
                let (now, until) = (f.site.act(|_, fx| fx.now.mono), f.loads.next_deadline());
                f.loads.tick(Mono(until.0 - 1));
                assert!(!f.loads.has_more());
                f.loads.tick(until);
                assert!(f.loads.has_more());
                assert_eq!(until.ms_since(now), after_ms);
                f.site.pass_ms(after_ms);
            }
            let state = match skips {
                // Who wants to go on without does so then.
                true => InstanceState::Active,
                false => InstanceState::Failed,
            };
            assert_eq!(refuse(&mut f, EIO).len(), usize::from(skips));
            assert_eq!(f.loads.next_deadline(), Mono::NEVER);
            assert_eq!(f.host.state(0), Some(state));
        }
    }

    /// A part holds much more than what cannot be read of it, and only so much is skipped at a time.
    #[test]
    fn what_comes_behind_damage_is_not_waited_for_anew() {
        let mut f = Fixture::new(true, [batch(b"k", b"v")]);
        f.loads.want(0, LOGS[0]);
        let mut loading = f.loads.todo[0];
        let error = DiskError { errno: 5 };
        let (host, image) = (&mut f.host, &f.image);
        f.site.act(|owner, _| {
            let mut to = LoadInto { host, image, owner };
            while again_after(&mut loading, &error, &to).is_some() {}
            for _ in 0..2 {
                assert!(read(&mut loading, Err(error.clone()), &mut to).is_ok());
                assert!(loading.skipped && again_after(&mut loading, &error, &to).is_none());
            }
            assert!(read(&mut loading, Ok(Bytes::new()), &mut to).is_ok());
            assert!(again_after(&mut loading, &error, &to).is_some());
        });
    }

    #[test]
    fn a_partition_that_the_disk_refuses_to_read_may_be_given_up_and_damage_is_not_tried_again() {
        let mut f = Fixture::new(false, [batch(b"k", b"v")]);
        assert!(f.host.open(0));
        f.loads.want(0, LOGS[0]);
        assert_eq!(refuse(&mut f, 5), []);
        f.loads.forget(0);
        assert_eq!(f.loads.next_deadline(), Mono::NEVER);
        f.loads.want(0, LOGS[0]);
        assert_eq!(refuse(&mut f, DiskError::EBADMSG), []);
        assert_eq!(f.loads.next_deadline(), Mono::NEVER);
        assert_eq!(f.host.state(0), Some(InstanceState::Failed));
    }

    #[test]
    fn a_partition_whose_log_is_not_served_is_not_taken_for_an_empty_one() {
        for skips in [false, true] {
            let mut f = Fixture::new(skips, []);
            f.site.owner.partitions.remove(&LOGS[1]);
            assert_eq!(f.load(), (vec![], [true, false]));
        }
    }

    #[test]
    fn a_partition_that_is_damaged_as_a_whole_costs_its_groups_or_is_made_anew() {
        for skips in [false, true] {
            let mut f = Fixture::new(skips, []);
            let owner = &mut f.site.owner;
            owner.partitions.remove(&LOGS[1]);
            owner.damaged.insert(LOGS[1], 0);
            assert_eq!(f.load(), (vec![], [true, skips]));
            let owner = &f.site.owner;
            assert_eq!(owner.partitions.contains_key(&LOGS[1]), skips);
            assert_eq!(owner.is_damaged(LOGS[1]), !skips);
            assert!(owner.slot_of(StoreId(0)).is_some());
        }
    }
}
