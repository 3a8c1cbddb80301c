//! The picture of the metadata that every shard reads. It is published as an
//! `Arc`; the next one is a clone that shares every topic that did not change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::features::{FEATURE_LEVEL, FeatureLevel};
use super::group_configs::GroupConfigs;
use super::record::{ConfigResource, Elections, MetadataRecord, PartitionRecord, are_once};
use super::registered::{Registered, Registration};
use super::topic::{Partition, Topic};
use super::topics::Topics;
use crate::base::{
    DirectoryId, Leftovers, LogId, NodeId, NodeProcess, SharedVec, StoreId, TopicId,
};
use crate::config::is_internal;

/// The log that the metadata records themselves are kept in, an entry of the quorum a batch.
pub const METADATA_LOG: LogId = LogId(0);
/// The log of what this node's replica of it has promised.
pub const METADATA_STATE_LOG: LogId = LogId(u64::MAX - 1);
/// The log of snapshots of the metadata.
pub const METADATA_SNAPSHOT_LOG: LogId = LogId(u64::MAX - 2);
/// The logs that are never a partition's.
pub const METADATA_LOGS: [LogId; 3] = [METADATA_LOG, METADATA_STATE_LOG, METADATA_SNAPSHOT_LOG];

/// A record that does not fit the image: the log of the metadata is damaged, or there is a bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayError(pub String);

impl std::fmt::Display for ReplayError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "metadata record does not fit: {}", self.0)
    }
}

impl std::error::Error for ReplayError {}

/// How many partitions a directory has, but for those of the brokers' own topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectoryLoad {
    /// All of them,
    pub replicas: u32,
    /// and those whose preferred leader it has.
    pub preferred: u32,
}

impl DirectoryLoad {
    /// One more replica, of the preferred leader or another.
    pub(super) fn add(&mut self, preferred: bool) {
        self.replicas += 1;
        self.preferred += u32::from(preferred);
    }
}

/// The metadata of the cluster at one moment. Cheap to clone, however many topics there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Records replayed so far.
    pub version: u64,
    /// Unset only before the first record.
    pub cluster_id: Option<Arc<str>>,
    /// Which records may be written.
    pub features: FeatureLevel,
    /// The first producer id that was never given out.
    pub next_producer_id: i64,
    /// The first log id that was never used.
    pub next_log: u64,
    pub(super) topics: Topics,
    /// The brokers of the cluster.
    pub brokers: Registered,
    /// What each directory has that has anything.
    pub(super) load: Arc<BTreeMap<DirectoryId, DirectoryLoad>>,
    /// The directories of the node whose picture this is, by store. Not replayed: the node knows them.
    pub(super) here: Arc<[DirectoryId]>,
    /// Logs that were found and had never been given out.
    pub(super) strays: BTreeSet<LogId>,
    /// Settings of all brokers and of single ones.
    pub(super) settings: BTreeMap<Option<NodeId>, BTreeMap<String, String>>,
    /// Those of single groups.
    pub groups: Arc<GroupConfigs>,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            version: 0,
            cluster_id: None,
            features: 0,
            next_producer_id: 0,
            next_log: METADATA_LOG.0 + 1,
            topics: Topics::default(),
            brokers: Registered::default(),
            load: Arc::default(),
            here: Arc::default(),
            strays: BTreeSet::new(),
            settings: BTreeMap::new(),
            groups: Arc::default(),
        }
    }
}

impl Image {
    /// Nothing yet, as a node with these directories will see it.
    #[must_use]
    pub fn of_node(here: impl IntoIterator<Item = DirectoryId>) -> Self {
        Self {
            here: here.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The directories of the node whose picture this is, by store.
    #[must_use]
    pub fn here(&self) -> &[DirectoryId] {
        &self.here
    }

    /// What a directory has.
    #[must_use]
    pub fn load(&self, directory: DirectoryId) -> DirectoryLoad {
        self.load.get(&directory).copied().unwrap_or_default()
    }

    /// Whether a log that is no partition's was one of a topic that a committed record has removed. Ids are given
    /// out in order and by committed records only, so that is so if it was given out.
    #[must_use]
    pub fn has_removed(&self, log: LogId) -> bool {
        log.0 < self.next_log && !METADATA_LOGS.contains(&log) && !self.strays.contains(&log)
    }

    /// Whether a log was found that this metadata has never given out.
    #[must_use]
    pub fn is_stray(&self, log: LogId) -> bool {
        self.strays.contains(&log)
    }

    /// A topic by name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.named(name)
    }

    /// A topic by id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(id)
    }

    /// The name of a topic that metrics cannot tell from this one: '.' and '_' are the same to them.
    #[must_use]
    pub fn colliding_with(&self, name: &str) -> Option<&Arc<str>> {
        self.topics.colliding_with(name)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.iter()
    }

    /// The topics from this name on, by name.
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.from(name)
    }

    /// The first topic, by name, or the one after this name.
    #[must_use]
    pub fn topic_after(&self, name: Option<&str>) -> Option<&Arc<Topic>> {
        match name {
            Some(name) => self.topics_from(name).find(|topic| *topic.name != *name),
            None => self.topics().next(),
        }
    }

    /// Panics if the tables contradict each other. For tests and the simulator.
    pub fn invariants(&self) {
        self.topics.invariants();
        let mut logs = BTreeSet::from(METADATA_LOGS);
        let mut load = BTreeMap::new();
        for topic in self.topics() {
            let name = &topic.name;
            for partition in topic.partitions.iter() {
                count(&mut load, topic, partition, 1);
                let log = partition.log;
                assert!(
                    logs.insert(log),
                    "{name}: log {log} belongs to two partitions"
                );
                assert!(
                    log.0 < self.next_log,
                    "{name}: log {log} will be given out again"
                );
                let followed = partition
                    .isr
                    .iter()
                    .all(|node| partition.replicas.contains(node));
                assert!(followed, "{name}: a node is in sync that has no copy");
            }
        }
        assert_eq!(load, *self.load, "partitions of each directory");
    }

    /// Gives up an image: if nobody else has it, its topics are dropped some at a time.
    pub fn leave(self: Arc<Self>, leftovers: &mut Leftovers) {
        if let Some(image) = Arc::into_inner(self) {
            image.topics.leave(leftovers);
            if let Some(groups) = Arc::into_inner(image.groups) {
                groups.leave(leftovers);
            }
        }
    }

    /// The settings of a broker, or of all brokers.
    #[must_use]
    pub fn broker_configs(&self, node: Option<NodeId>) -> Option<&BTreeMap<String, String>> {
        self.settings.get(&node)
    }

    /// Takes one change in.
    ///
    /// # Errors
    /// The record contradicts the image, which is then unchanged.
    pub fn replay(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        match record {
            MetadataRecord::Cluster { id } => self.set_cluster(id)?,
            MetadataRecord::Features { level } => self.set_features(*level)?,
            MetadataRecord::Broker(registration) => self.register(registration)?,
            MetadataRecord::Fence { member, fenced } => self.set_fenced(*member, *fenced)?,
            MetadataRecord::RemoveBroker { node } => {
                if !self.brokers.remove(*node) {
                    return wrong(format!("removal of unknown broker {node}"));
                }
            }
            MetadataRecord::Topic { name, id } => self.add_topic(name, *id)?,
            MetadataRecord::Partition(partition) => self.set_partition(partition)?,
            MetadataRecord::RemoveTopic { id } => self.remove_topic(*id)?,
            MetadataRecord::Config {
                resource,
                key,
                value,
            } => {
                self.set_config(resource, key, value.as_deref())?;
            }
            MetadataRecord::ProducerIds { next } => self.set_producer_ids(*next)?,
            MetadataRecord::Stray { log } => {
                self.next_log = self.next_log.max(after(*log)?);
                self.strays.insert(*log);
            }
            MetadataRecord::SnapshotBegin => *self = Self::of_node(self.here.iter().copied()),
            MetadataRecord::SnapshotEnd { version, next_log } => {
                self.next_log = self.next_log.max(*next_log);
                // The one below is of this record itself.
                self.version = version.wrapping_sub(1);
            }
        }
        self.version = self.version.wrapping_add(1);
        Ok(())
    }

    fn set_cluster(&mut self, id: &str) -> Result<(), ReplayError> {
        if self.cluster_id.as_deref().is_some_and(|known| known != id) {
            return wrong(format!("a second cluster id, {id}"));
        }
        self.cluster_id = Some(id.into());
        Ok(())
    }

    fn set_features(&mut self, level: FeatureLevel) -> Result<(), ReplayError> {
        if level > FEATURE_LEVEL {
            return wrong(format!(
                "feature level {level} is of a later release; this one knows {FEATURE_LEVEL}"
            ));
        }
        if level < self.features {
            return wrong(format!("feature level {level} after {}", self.features));
        }
        self.features = level;
        Ok(())
    }

    fn register(&mut self, registration: &Registration) -> Result<(), ReplayError> {
        let NodeProcess { node, incarnation } = registration.member;
        match self.brokers.register(registration.clone()) {
            Ok(()) => Ok(()),
            Err(_) => wrong(format!(
                "broker {node} registers as {incarnation} after a later one"
            )),
        }
    }

    fn set_fenced(&mut self, member: NodeProcess, is_fenced: bool) -> Result<(), ReplayError> {
        let NodeProcess { node, incarnation } = member;
        if self.brokers.member(node) != Some(member) {
            return wrong(format!(
                "broker {node} is fenced as {incarnation}, which is not the one that has registered"
            ));
        }
        self.brokers.set_fenced(node, is_fenced);
        Ok(())
    }

    fn add_topic(&mut self, name: &str, id: TopicId) -> Result<(), ReplayError> {
        if self.topics.id_of(name).is_some() || self.topics.get(id).is_some() {
            return wrong(format!("topic {name} with id {id} exists"));
        }
        let name: Arc<str> = name.into();
        self.topics.add(Topic {
            internal: is_internal(&name),
            name,
            id,
            partitions: SharedVec::default(),
            configs: BTreeMap::new(),
        });
        Ok(())
    }

    fn set_partition(&mut self, record: &PartitionRecord) -> Result<(), ReplayError> {
        let Some(topic) = self.topics.get(record.topic) else {
            return wrong(format!("partition of unknown topic {}", record.topic));
        };
        let index = usize::try_from(record.index).unwrap_or(usize::MAX);
        if index > topic.partitions.len() {
            return wrong(format!(
                "partition {}-{} leaves a gap",
                topic.name, record.index
            ));
        }
        if record
            .isr
            .iter()
            .any(|node| !record.replicas.contains(node))
        {
            return wrong(format!(
                "partition {}-{} has a node in sync that has no copy",
                topic.name, record.index
            ));
        }
        if !are_once(&record.isr) {
            return wrong(format!(
                "partition {}-{} has a node in sync twice",
                topic.name, record.index
            ));
        }
        if record.directories.len() != record.replicas.len() {
            return wrong(format!(
                "partition {}-{} has {} replicas in {} directories",
                topic.name,
                record.index,
                record.replicas.len(),
                record.directories.len()
            ));
        }
        let next_log = after(record.log)?;
        let mut stores = (0..).map(StoreId).zip(self.here.iter());
        // Where thousands of partitions have the same, it is there once.
        let like = topic.partitions.last();
        let replicas = shared(&record.replicas, like.map(|like| &like.replicas));
        // Partitions go to one store after the other.
        let same_store = index.checked_sub(self.here.len().max(1));
        let same_store = same_store.and_then(|index| topic.partitions.get(index));
        let directories = same_store.map(|like| &like.directories);
        let partition = Partition {
            log: record.log,
            store: stores
                .find(|(_, here)| record.directories.contains(here))
                .map(|(store, _)| store),
            directories: shared(&record.directories, directories),
            isr: shared(&record.isr, Some(&replicas)),
            replicas,
            leader: record.leader,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
            elections: (record.elections != Elections::default())
                .then(|| Arc::new(record.elections.clone())),
        };
        if let Some(topic) = self.topics.get_mut(record.topic) {
            let load = Arc::make_mut(&mut self.load);
            count(load, topic, &partition, 1);
            if let Some(known) = topic.partitions.get_mut(index) {
                let known = std::mem::replace(known, partition);
                count(load, topic, &known, -1);
            } else {
                topic.partitions.push(partition);
            }
        }
        self.next_log = self.next_log.max(next_log);
        Ok(())
    }

    fn remove_topic(&mut self, id: TopicId) -> Result<(), ReplayError> {
        let Some(topic) = self.topics.remove(id) else {
            return wrong(format!("removal of unknown topic {id}"));
        };
        let load = Arc::make_mut(&mut self.load);
        for partition in topic.partitions.iter() {
            count(load, &topic, partition, -1);
        }
        Ok(())
    }

    fn set_config(
        &mut self,
        resource: &ConfigResource,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), ReplayError> {
        let configs = match resource {
            ConfigResource::Topic(name) => {
                let id = self.topics.id_of(name);
                match id.and_then(|id| self.topics.get_mut(id)) {
                    Some(topic) => &mut topic.configs,
                    None => return wrong(format!("setting of unknown topic {name}")),
                }
            }
            ConfigResource::Broker(node) => self.settings.entry(*node).or_default(),
            ConfigResource::Group(id) => {
                Arc::make_mut(&mut self.groups).set(id, key, value);
                return Ok(());
            }
        };
        match value {
            Some(value) => configs.insert(key.to_owned(), value.to_owned()),
            None => configs.remove(key),
        };
        self.settings.retain(|_, configs| !configs.is_empty());
        Ok(())
    }

    fn set_producer_ids(&mut self, next: i64) -> Result<(), ReplayError> {
        if next < self.next_producer_id {
            return wrong(format!("producer ids go back to {next}"));
        }
        self.next_producer_id = next;
        Ok(())
    }
}

/// These, as somebody else has them if they are the same.
fn shared<T: Copy + PartialEq>(these: &[T], others: Option<&Arc<[T]>>) -> Arc<[T]> {
    match others {
        Some(others) if **others == *these => Arc::clone(others),
        _ => these.into(),
    }
}

/// Adds a partition to the load of its directories, or takes it away, if it counts.
fn count(
    load: &mut BTreeMap<DirectoryId, DirectoryLoad>,
    topic: &Topic,
    partition: &Partition,
    by: i32,
) {
    if topic.internal {
        return;
    }
    for (at, directory) in partition.directories.iter().enumerate() {
        let has = load.entry(*directory).or_default();
        has.replicas = has.replicas.saturating_add_signed(by);
        if at == 0 {
            has.preferred = has.preferred.saturating_add_signed(by);
        }
        if has.replicas == 0 {
            load.remove(directory);
        }
    }
}

fn wrong<T>(why: String) -> Result<T, ReplayError> {
    Err(ReplayError(why))
}

/// The id that follows the one of a log, which is then never given out again.
fn after(log: LogId) -> Result<u64, ReplayError> {
    match log.0.checked_add(1) {
        Some(next) if !METADATA_LOGS.contains(&log) => Ok(next),
        _ => wrong(format!("log {log} is no partition's")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::Incarnation;
    use crate::controller::ImageRecords;
    use crate::controller::testing::partition;

    fn topic(name: u8) -> MetadataRecord {
        MetadataRecord::Topic {
            name: format!("t{name}"),
            id: TopicId([name; 16]),
        }
    }

    fn member() -> impl Strategy<Value = NodeProcess> {
        (0i32..2, 0u64..3).prop_map(|(node, incarnation)| NodeProcess {
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
        })
    }

    /// Few names, so that records meet each other.
    fn record() -> impl Strategy<Value = MetadataRecord> {
        let value = proptest::option::of("[a-z]{0,3}");
        let resource = prop_oneof![
            (0u8..3).prop_map(|t| ConfigResource::Topic(format!("t{t}"))),
            proptest::option::of(0i32..2).prop_map(|n| ConfigResource::Broker(n.map(NodeId))),
            (0u8..3).prop_map(|g| ConfigResource::Group(format!("g{g}"))),
        ];
        prop_oneof![
            Just(MetadataRecord::Cluster { id: "c".to_owned() }),
            (0u8..3).prop_map(topic),
            (0u8..3, 0i32..3, 0u64..9).prop_map(|(t, i, l)| partition(t, i, l)),
            (0u8..3).prop_map(|t| MetadataRecord::RemoveTopic {
                id: TopicId([t; 16])
            }),
            (resource, "[ab]", value).prop_map(|(resource, key, value)| MetadataRecord::Config {
                resource,
                key,
                value
            }),
            (0i64..5000).prop_map(|next| MetadataRecord::ProducerIds { next }),
            (0..=FEATURE_LEVEL).prop_map(|level| MetadataRecord::Features { level }),
            (1u64..20).prop_map(|log| MetadataRecord::Stray { log: LogId(log) }),
            (member(), any::<bool>()).prop_map(|(member, fenced)| {
                MetadataRecord::Broker(Registration {
                    member,
                    fenced,
                    ..Registration::default()
                })
            }),
            (member(), any::<bool>())
                .prop_map(|(member, fenced)| MetadataRecord::Fence { member, fenced }),
            (0i32..2).prop_map(|node| MetadataRecord::RemoveBroker { node: NodeId(node) }),
        ]
    }

    proptest! {
        #[test]
        fn a_snapshot_makes_the_same_image(
            records in proptest::collection::vec(record(), 0..60),
            others in proptest::collection::vec(record(), 0..30),
        ) {
            let mut image = Image::default();
            for record in &records {
                let before = image.clone();
                if image.replay(record).is_err() {
                    prop_assert_eq!(&image, &before);
                }
            }
            // Whatever was before it in the log.
            let mut copy = Image::default();
            for record in &others {
                let _ = copy.replay(record);
            }
            for record in ImageRecords::new(&image) {
                prop_assert_eq!(copy.replay(&record), Ok(()));
            }
            prop_assert_eq!(copy, image);
        }
    }

    #[test]
    fn topics_come_and_go() {
        let mut image = Image::default();
        for record in [topic(1), partition(1, 0, 7), partition(1, 1, 8)] {
            image.replay(&record).unwrap();
        }
        let old = image.clone();
        assert_eq!(image.topic("t1").unwrap().partitions.len(), 2);
        assert_eq!(image.topic_by_id(TopicId([1; 16])), image.topic("t1"));
        image
            .replay(&MetadataRecord::RemoveTopic {
                id: TopicId([1; 16]),
            })
            .unwrap();
        assert!(image.topic("t1").is_none());
        assert_eq!(image.next_log, 9, "a log id is never used again");
        assert_eq!(
            old.topic("t1").unwrap().partitions.len(),
            2,
            "an image never changes"
        );
    }

    #[test]
    fn an_image_that_is_given_up_is_dropped_some_at_a_time() {
        const TOPICS: u16 = 5000;
        let mut image = Image::default();
        let id = |n: u16| {
            let mut id = [0; 16];
            id[14..].copy_from_slice(&n.to_be_bytes());
            TopicId(id)
        };
        for n in 0..TOPICS {
            let name = format!("t{n}");
            let record = MetadataRecord::Topic { name, id: id(n) };
            image.replay(&record).unwrap();
        }
        let before = Arc::new(image.clone());
        let remove = |n| MetadataRecord::RemoveTopic { id: id(n) };
        image.replay(&remove(7)).unwrap();
        let mut leftovers = Leftovers::default();
        Arc::clone(&before).leave(&mut leftovers);
        assert!(leftovers.is_empty(), "somebody has it");
        let topic = Arc::downgrade(before.topic("t7").unwrap());
        before.leave(&mut leftovers);
        assert!(topic.upgrade().is_some());
        leftovers.let_go(&mut 500);
        assert!(leftovers.is_empty(), "nothing but what is different");
        assert!(topic.upgrade().is_none());
        Arc::new(image).leave(&mut leftovers);
        let mut slices = 0;
        while !leftovers.is_empty() {
            leftovers.let_go(&mut 500);
            slices += 1;
        }
        assert!(slices > 15, "{slices}");
    }

    fn in_sync_without_a_copy() -> MetadataRecord {
        let mut record = partition(1, 0, 7);
        if let MetadataRecord::Partition(partition) = &mut record {
            partition.isr.push(NodeId(2));
        }
        record
    }

    #[test]
    fn records_that_do_not_fit_are_refused() {
        let mut image = Image::default();
        image.replay(&topic(1)).unwrap();
        for record in [
            topic(1),
            partition(1, 1, 0),
            partition(1, -1, 0),
            partition(1, 0, METADATA_LOG.0),
            partition(1, 0, u64::MAX),
            MetadataRecord::Stray { log: METADATA_LOG },
            in_sync_without_a_copy(),
            partition(2, 0, 0),
        ] {
            assert!(image.replay(&record).is_err(), "{record:?}");
        }
        image
            .replay(&MetadataRecord::ProducerIds { next: 1000 })
            .unwrap();
        assert!(
            image
                .replay(&MetadataRecord::ProducerIds { next: 999 })
                .is_err()
        );
        assert_eq!(image.version, 2);
    }
}
