//! The start of the control shard: it reads the metadata log, gives the image
//! to every shard, then reads `__consumer_offsets`. Clients are let in after that.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::metadata::Metadata;
use super::reader::LogReader;
use super::run::BatchRun;
use crate::base::{LogId, Offset, TopicId};
use crate::broker::fatal;
use crate::broker::fx::Fx;
use crate::broker::groups::{GroupService, OFFSETS_TOPIC};
use crate::broker::owner::Owner;
use crate::broker::owner::settings::log_config;
use crate::config::{BrokerConfig, TopicConfig};
use crate::controller::{Image, METADATA_LOG, MetadataRecord, Topic};
use crate::store::LogLabel;

/// How far the start has come.
#[derive(Debug, Default)]
pub struct Load {
    stage: Stage,
    pub reader: LogReader,
    /// Logs of `__consumer_offsets` still to be read.
    todo: VecDeque<(i32, LogId, Offset)>,
    at: Offset,
    /// Partitions of `__consumer_offsets` of which something was skipped.
    skipped: BTreeSet<i32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Metadata,
    Offsets,
    Done,
}

/// What the start has come to.
#[derive(Debug)]
pub enum LoadStep {
    /// The metadata is read.
    Metadata,
    /// So is `__consumer_offsets`, but for what was skipped of these partitions.
    Offsets { skipped: BTreeSet<i32> },
}

impl Load {
    /// Whether clients may be served.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Opens the metadata log, or makes it on the first start.
    pub fn start(&mut self, config: &BrokerConfig, owner: &mut Owner, fx: &mut Fx<'_>) {
        let Some(slot) = owner.slot_of(crate::base::StoreId(0)) else {
            fx.out.push(fatal::metadata(
                "store-0, which holds the metadata log, is missing".into(),
            ));
            return;
        };
        let topic = TopicConfig::effective(config, &Default::default());
        let mut config = log_config(&topic, config);
        // The history of the cluster is kept whole: the image is replayed from it.
        config.retention_ms = -1;
        config.retention_bytes = -1;
        // A decided change has to fit, however short the segments of topics are.
        config.segment_bytes = u64::MAX;
        owner.open_log(fx.now, slot, METADATA_LOG, metadata_label(), config);
        let Some(partition) = owner.partitions.get(&METADATA_LOG) else {
            fx.out.push(fatal::metadata(format!(
                "log {METADATA_LOG} of store-0 is not the metadata log"
            )));
            return;
        };
        self.at = partition.log.start_offset();
        self.reader.load(owner, METADATA_LOG, self.at, fx);
    }

    /// Takes what was read. Returns how far the start has come by it, if that is a step.
    ///
    /// # Errors
    /// What is wrong with the metadata.
    pub fn read(
        &mut self,
        metadata: &mut Metadata,
        groups: &mut GroupService,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<Option<LoadStep>, String> {
        while let Some((log, result)) = self.reader.next() {
            let result = result.map_err(|error| format!("errno {}", error.errno));
            let step = match self.stage {
                Stage::Metadata => self.read_metadata(result, metadata, owner, fx)?,
                Stage::Offsets => self.read_offsets(log, result, metadata, groups, owner, fx),
                Stage::Done => None,
            };
            if step.is_some() {
                return Ok(step);
            }
        }
        Ok(None)
    }

    fn read_metadata(
        &mut self,
        result: Result<Bytes, String>,
        metadata: &mut Metadata,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Result<Option<LoadStep>, String> {
        let at = self.at;
        let end = result.and_then(|bytes| {
            let mut run = BatchRun::new(&bytes, at);
            run.each(&mut |_, value, _| {
                let value = value.ok_or("a metadata record without a value")?;
                let record = MetadataRecord::decode(value).map_err(|error| error.to_string())?;
                metadata.replay(&record)
            })?;
            Ok(run.next)
        });
        let end = end.map_err(|why| {
            format!(
                "the metadata log (log {METADATA_LOG} of store-0) cannot be understood from offset {at} on: {why}"
            )
        })?;
        if end > at {
            self.at = end;
            self.reader.load(owner, METADATA_LOG, end, fx);
            return Ok(None);
        }
        self.stage = Stage::Offsets;
        Ok(Some(LoadStep::Metadata))
    }

    /// The topic of commits is known, if there is one.
    pub fn offsets_are_in(&mut self, topic: Option<&Topic>) {
        let logs = topic.iter().flat_map(|topic| &topic.partitions);
        self.todo = (0..)
            .zip(logs)
            .map(|(i, p)| (i, p.log, Offset(0)))
            .collect();
    }

    /// The image is served here: the logs are open, so the offsets can be read.
    pub fn image_applied(
        &mut self,
        metadata: &Metadata,
        groups: &mut GroupService,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Option<LoadStep> {
        match self.stage {
            Stage::Offsets => self.read_next_offsets(metadata, groups, owner, fx),
            Stage::Metadata | Stage::Done => None,
        }
    }

    fn read_next_offsets(
        &mut self,
        metadata: &Metadata,
        groups: &mut GroupService,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Option<LoadStep> {
        while let Some((partition, log, at)) = self.todo.front_mut() {
            if owner.is_damaged(*log) {
                let partition = *partition;
                self.todo.pop_front();
                lost_offsets(partition, metadata, groups, owner, fx);
                continue;
            }
            let bounds = owner
                .partitions
                .get(log)
                .map(|p| (p.log.start_offset(), p.log.high_watermark()));
            match bounds {
                Some((start, end)) if start < end && *at < end => {
                    *at = (*at).max(start);
                    let (log, at) = (*log, *at);
                    self.reader.load(owner, log, at, fx);
                    return None;
                }
                _ => {
                    self.todo.pop_front();
                }
            }
        }
        self.stage = Stage::Done;
        Some(LoadStep::Offsets {
            skipped: std::mem::take(&mut self.skipped),
        })
    }

    fn read_offsets(
        &mut self,
        log: LogId,
        result: Result<Bytes, String>,
        metadata: &Metadata,
        groups: &mut GroupService,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) -> Option<LoadStep> {
        let (partition, _, at) = self.todo.front().copied()?;
        // Behind what cannot be read, the log knows where some batch begins.
        let log = owner.partitions.get(&log).map(|p| &p.log);
        let known = |at| log.map_or((at, at), |log| (log.known_after(at), log.high_watermark()));
        let outcome = result.and_then(|bytes| {
            self.replay_offsets((partition, at), &bytes, known, metadata, groups)
        });
        let next = outcome.or_else(|why| {
            let (next, _) = known(at);
            self.damaged_offsets(partition, (at, next), &why, metadata, groups)
                .map(|()| next)
        });
        match (next, self.todo.front_mut()) {
            (Ok(next), Some((_, _, front))) if next > at => *front = next,
            _ => {
                self.todo.pop_front();
            }
        }
        self.read_next_offsets(metadata, groups, owner, fx)
    }

    /// Gives the coordinator what was read from `at` on. Returns where to go on, or what is wrong if that is
    /// not known. `known` says where behind an offset a batch begins, and where the log ends.
    fn replay_offsets(
        &mut self,
        (partition, at): (i32, Offset),
        bytes: &[u8],
        known: impl Fn(Offset) -> (Offset, Offset),
        metadata: &Metadata,
        groups: &mut GroupService,
    ) -> Result<Offset, String> {
        let mut run = BatchRun::new(bytes, at);
        loop {
            let outcome = run.each(&mut |key, value, timestamp_ms| {
                if let Some(key) = key {
                    // What the coordinator does not understand is a record of a later version: it stays.
                    if let Err(error) = groups.replay(partition, key, value, timestamp_ms) {
                        tracing::warn!("{OFFSETS_TOPIC}-{partition}: {error}");
                    }
                }
                Ok(())
            });
            let Err(why) = outcome else {
                return Ok(run.next);
            };
            let from = run.next;
            let (begins, end) = known(from);
            if !run.skip(begins, end) {
                // Whoever reads on from there is told what is wrong there.
                return if from > at { Ok(from) } else { Err(why) };
            }
            if self
                .damaged_offsets(partition, (from, run.next), &why, metadata, groups)
                .is_err()
            {
                return Ok(at);
            }
        }
    }

    /// Something of a partition of `__consumer_offsets` cannot be read. As in Kafka its groups are not served
    /// then, unless the operator wants to go on without.
    fn damaged_offsets(
        &mut self,
        partition: i32,
        (from, next): (Offset, Offset),
        why: &str,
        metadata: &Metadata,
        groups: &mut GroupService,
    ) -> Result<(), Unreadable> {
        let place = place_of_offsets(&metadata.image, partition);
        if metadata.config.millrace_groups_skip_damage {
            let last = Offset(next.0 - 1);
            tracing::error!(
                "{place} is damaged ({why}): offsets {from} to {last} were skipped, the commits in them are lost"
            );
            self.skipped.insert(partition);
            return Ok(());
        }
        tracing::error!(
            "{place} is damaged at offset {from} ({why}): its groups get NOT_COORDINATOR, all others are served. \
             `millracectl store check` says where the damage is. Restore the store from a copy, or start once \
             with millrace.groups.skip.damage=true to go on without the commits that cannot be read"
        );
        groups.fail(partition);
        Err(Unreadable)
    }
}

/// What the metadata log is of.
pub fn metadata_label() -> LogLabel {
    LogLabel {
        topic: "__cluster_metadata".into(),
        // Kafka's fixed id of that topic.
        topic_id: TopicId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        partition: 0,
    }
}

/// A partition of `__consumer_offsets` is damaged as a whole.
fn lost_offsets(
    partition: i32,
    metadata: &Metadata,
    groups: &mut GroupService,
    owner: &mut Owner,
    fx: &Fx<'_>,
) {
    let place = place_of_offsets(&metadata.image, partition);
    if metadata.config.millrace_groups_skip_damage
        && let Some(topic) = metadata.image.topic(OFFSETS_TOPIC)
    {
        tracing::error!("{place} is damaged as a whole: the commits in it are lost");
        return owner.recreate(fx.now, topic, partition);
    }
    tracing::error!(
        "{place} is damaged as a whole: its groups get NOT_COORDINATOR, all others are served. Restore the \
         store from a copy, or start once with millrace.groups.skip.damage=true to go on without its commits"
    );
    groups.fail(partition);
}

fn place_of_offsets(image: &Image, partition: i32) -> String {
    let topic = image.topic(OFFSETS_TOPIC);
    let store = topic.and_then(|t| t.partition(partition));
    let store = store.and_then(|p| p.store).unwrap_or_default();
    format!("{OFFSETS_TOPIC}-{partition} in store-{store}")
}

/// A partition is not read on.
struct Unreadable;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::StoreId;
    use crate::base::crc::crc32c;
    use crate::broker::control::change::Change;
    use crate::broker::control::testing::{NOW, Site, directories, topic};
    use crate::broker::groups::NodeInfo;
    use crate::controller::testing::partition;
    use crate::group::GroupConfig;
    use crate::log::LogConfig;
    use crate::record::{BatchBuilder, Codec};

    struct Fixture {
        site: Site,
        load: Load,
        metadata: Metadata,
        groups: GroupService,
    }

    impl Fixture {
        fn new(skips_damage: bool) -> Self {
            let config = BrokerConfig {
                millrace_groups_skip_damage: skips_damage,
                ..BrokerConfig::default()
            };
            let node = NodeInfo {
                id: 1,
                endpoints: vec![("here".into(), 9092)],
            };
            Self {
                site: Site::new(),
                load: Load::default(),
                metadata: Metadata::new(Arc::new(config), 1, directories(1), 1),
                groups: GroupService::new(GroupConfig::default(), node, 1),
            }
        }

        fn write(&mut self, log: LogId, batch: Bytes) {
            let written = self
                .site
                .act(|owner, fx| owner.append_internal(fx.now, log, batch));
            written.expect("written");
        }

        /// A start: as far as the metadata is read.
        fn start(&mut self) -> Result<(), String> {
            self.site.restart();
            let (load, config) = (&mut self.load, &self.metadata.config);
            self.site.act(|owner, fx| load.start(config, owner, fx));
            match self.read()? {
                Some(LoadStep::Metadata) => Ok(()),
                step => panic!("{step:?}"),
            }
        }

        fn read(&mut self) -> Result<Option<LoadStep>, String> {
            let (load, metadata, groups) = (&mut self.load, &mut self.metadata, &mut self.groups);
            self.site
                .act(|owner, fx| load.read(metadata, groups, owner, fx))
        }

        /// Goes on with the partitions of `__consumer_offsets`, and says of which something was skipped.
        fn read_offsets(&mut self) -> Vec<i32> {
            let topic = self.metadata.image.topic(OFFSETS_TOPIC).map(Arc::clone);
            self.load.offsets_are_in(topic.as_deref());
            let (load, metadata, groups) = (&mut self.load, &self.metadata, &mut self.groups);
            let step = self
                .site
                .act(|owner, fx| load.image_applied(metadata, groups, owner, fx));
            match step.map_or_else(|| self.read(), |step| Ok(Some(step))) {
                Ok(Some(LoadStep::Offsets { skipped })) => skipped.into_iter().collect(),
                step => panic!("{step:?}"),
            }
        }

        /// Whether the groups of each partition are served.
        fn serves(&self) -> [bool; 2] {
            [0, 1].map(|partition| self.groups.coordinator().serves(partition))
        }
    }

    fn decided(records: Vec<MetadataRecord>) -> Bytes {
        Change::new(NOW, &Image::default(), records).batch
    }

    fn batch(key: &[u8], value: &[u8]) -> Bytes {
        let mut batch = BatchBuilder::new(Codec::None, 0);
        batch.push(0, Some(key), Some(value), &[]);
        batch.build()
    }

    /// One that says that it is compressed, and is not.
    fn unreadable() -> Bytes {
        let mut batch = batch(b"key", b"value").to_vec();
        batch[22] = Codec::Gzip.id();
        let crc = crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch.into()
    }

    #[test]
    fn a_first_start_makes_the_metadata_log_and_finds_nothing() {
        let mut f = Fixture::new(false);
        f.site.owner.partitions.clear();
        f.start().unwrap();
        assert_eq!(f.metadata.image.version, 0);
        assert!(f.site.owner.partitions.contains_key(&METADATA_LOG));
        assert_eq!(f.read_offsets(), [0; 0]);
        assert!(f.load.is_done());
    }

    #[test]
    fn what_was_decided_is_replayed() {
        let mut f = Fixture::new(false);
        f.write(METADATA_LOG, decided(vec![topic(1), partition(1, 0, 1)]));
        f.write(METADATA_LOG, decided(vec![topic(2)]));
        f.start().unwrap();
        let image = &f.metadata.image;
        assert_eq!((image.version, image.next_log), (3, 2));
        assert!(image.topic("topic-1").is_some() && image.topic("topic-2").is_some());
        assert!(!f.load.is_done(), "commits are still to be read");
    }

    #[test]
    fn metadata_that_cannot_be_understood_refuses_the_start() {
        let no_record = batch(b"", b"\xff what is this");
        // A removal of what is not there.
        let no_sense = decided(vec![MetadataRecord::RemoveTopic {
            id: TopicId([9; 16]),
        }]);
        for bad in [no_record, no_sense, unreadable()] {
            let mut f = Fixture::new(true);
            f.write(METADATA_LOG, decided(vec![topic(1)]));
            f.write(METADATA_LOG, bad);
            let why = f.start().unwrap_err();
            assert!(why.contains("cannot be understood"), "{why}");
        }
    }

    #[test]
    fn a_start_without_a_log_for_the_metadata_is_refused() {
        let mut other = Fixture::new(false);
        let owner = &mut other.site.owner;
        owner.partitions.clear();
        owner.open_log(
            NOW,
            0,
            METADATA_LOG,
            LogLabel::default(),
            LogConfig::default(),
        );
        other.site.restart();
        let mut none = Fixture::new(false);
        none.site.restart();
        none.site.owner.slots.clear();
        for (mut f, what) in [(other, "is not the metadata log"), (none, "is missing")] {
            let (load, config) = (&mut f.load, &f.metadata.config);
            f.site.act(|owner, fx| load.start(config, owner, fx));
            let fatal = f.site.fatal();
            assert!(fatal.is_some_and(|why| why.contains(what)), "{what}");
        }
    }

    /// Metadata with two partitions of `__consumer_offsets`, as logs 5 and 6; the bytes are what is in the first one.
    fn with_commits(skips_damage: bool, batches: impl IntoIterator<Item = Bytes>) -> Fixture {
        let mut f = Fixture::new(skips_damage);
        let offsets = MetadataRecord::Topic {
            name: OFFSETS_TOPIC.to_owned(),
            id: TopicId([2; 16]),
        };
        let partitions = [partition(2, 0, 5), partition(2, 1, 6)];
        let records = [offsets].into_iter().chain(partitions);
        f.write(METADATA_LOG, decided(records.collect()));
        f.site.act(|owner, fx| {
            for log in [5, 6].map(LogId) {
                owner.open_log(fx.now, 0, log, LogLabel::default(), LogConfig::default());
            }
        });
        for batch in batches {
            f.write(LogId(5), batch);
        }
        f.start().unwrap();
        // As the image is adopted.
        f.site.act(|owner, fx| {
            for log in [5, 6].map(LogId) {
                owner.open_log(fx.now, 0, log, LogLabel::default(), LogConfig::default());
            }
        });
        f
    }

    #[test]
    fn what_cannot_be_read_of_the_commits_costs_its_groups_or_the_commits() {
        let batches = [batch(b"k", b"v"), unreadable(), batch(b"k", b"v")];
        let mut f = with_commits(false, batches.clone());
        assert_eq!((f.read_offsets(), f.serves()), (vec![], [false, true]));
        let mut f = with_commits(true, batches);
        assert_eq!((f.read_offsets(), f.serves()), (vec![0], [true, true]));
        // A key that nobody knows is of a later version.
        let mut f = with_commits(false, [batch(b"k", b"v")]);
        assert_eq!((f.read_offsets(), f.serves()), (vec![], [true, true]));
    }

    #[test]
    fn a_partition_that_is_damaged_as_a_whole_costs_its_groups_or_is_made_anew() {
        for skips in [false, true] {
            let mut f = with_commits(skips, []);
            let owner = &mut f.site.owner;
            owner.partitions.remove(&LogId(6));
            owner.damaged.insert(LogId(6), 0);
            assert_eq!((f.read_offsets(), f.serves()), (vec![], [true, skips]));
            let owner = &f.site.owner;
            assert_eq!(owner.partitions.contains_key(&LogId(6)), skips);
            assert_eq!(owner.is_damaged(LogId(6)), !skips);
            assert!(owner.slot_of(StoreId(0)).is_some());
        }
    }
}
