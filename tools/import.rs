//! `store import`: a new data directory from partitions as Kafka keeps them, offsets, leader epochs and transactions as
//! they are. It is made under another name and gets its own at the end, so that there is all of it or nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use millrace::base::limits::RECORDS_PER_CHANGE_MAX;
use millrace::base::{LeaderEpoch, Mono, Now, Offset, StoreId, TopicId};
use millrace::broker::{metadata_batch, metadata_label};
use millrace::config::{BrokerConfig, is_internal};
use millrace::controller::{
    ConfigOp, ConfigResource, Draft, Elections, FEATURE_LEVEL, Image, METADATA_LOG, MetadataRecord,
    PartitionRecord, alter_topic_configs, check_topic_name,
};
use millrace::record;
use millrace::runtime::disk::StoreFile;
use millrace::runtime::{SettingsSource, probe};
use millrace::store::LogLabel;

use crate::answer::{Answer, Rows};
use crate::args::Import;
use crate::failure::failed_at;
use crate::kafka_source::{Partition, SegmentReader, Source};
use crate::new_store::NewStores;
use crate::settings_file::TopicFacts;

/// Bytes of batches that are given to a log at once, unless one alone is larger.
const PART_BYTES: usize = 1 << 20;
/// Where the stores are made, within the directory that they are for.
const UNFINISHED: &str = "importing";
/// Producer ids are given out in blocks, of which a broker may have had one that no batch tells of.
const PRODUCER_ID_BLOCK: i64 = 1000;
/// Its records name producer ids, of which there may be no batch.
const TRANSACTION_STATE: &str = "__transaction_state";

/// A partition that was taken over.
struct Taken {
    record: PartitionRecord,
    start: Offset,
    end: Offset,
    records: u64,
}

/// Runs the command.
pub fn import(args: &Import) -> Result<Answer, String> {
    let source = Source::open(&args.sources)?;
    let topics = topics(&source, args.without_settings)?;
    let config = settings(args, &source)?;
    let directory = PathBuf::from(&config.log_dirs);
    let (_lock, is_direct) = probe::directory(&directory).map_err(|fatal| fatal.to_string())?;
    let unfinished = begin(&directory)?;
    let cores = probe::cores(config.millrace_shards.max(0) as usize, "millrace.shards");
    let count = cores.map_err(|fatal| fatal.to_string())?.len() as u16;
    let stores = NewStores::make(&unfinished, count, &config, is_direct, (now(), seed()))?;
    let mut import = Importing {
        config,
        stores,
        bytes: vec![0; usize::from(count)],
        next_producer_id: source
            .known
            .as_ref()
            .map_or(0, |known| known.next_producer_id),
        taken: BTreeMap::new(),
    };
    let all = source
        .partitions
        .values()
        .map(Partition::bytes)
        .sum::<Result<u64, _>>()?;
    let progress = ProgressBar::new(all);
    let style = "{bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left: {msg}";
    progress.set_style(ProgressStyle::with_template(style).map_err(|error| error.to_string())?);
    for ((topic, partition), found) in &source.partitions {
        progress.set_message(format!("{topic}-{partition}"));
        let label = LogLabel {
            topic: topic.as_str().into(),
            topic_id: found.topic_id,
            partition: *partition,
        };
        import.partition(label, found, &progress)?;
    }
    progress.finish_and_clear();
    let mut answer = Importing::answer(&import.taken);
    let mut left_out = Rows::of(&["place", "what"]);
    for (path, what) in &source.left_out {
        left_out.add([path.display().to_string().into(), what.as_str().into()]);
    }
    let metadata = import.metadata(&topics, source.cluster_id.clone())?;
    for (topic, why) in &metadata.refused {
        left_out.add([topic.as_str().into(), why.as_str().into()]);
    }
    for name in source.known.iter().flat_map(|known| known.topics.keys()) {
        if !topics.contains_key(name) {
            left_out.add([
                name.as_str().into(),
                "none of its partitions is there".into(),
            ]);
        }
    }
    for note in source.known.iter().flat_map(|known| &known.notes) {
        left_out.add(["cluster".into(), note.as_str().into()]);
    }
    import.write_metadata(&metadata.records)?;
    let node = import.config.node_id;
    import.stores.finish()?;
    end(&unfinished, &directory, count)?;
    answer = answer.rows("left_out", left_out);
    answer = answer.field("directory", directory.display().to_string());
    Ok(answer
        .field("node", node)
        .note("start the broker with this node.id and log.dirs"))
}

/// The settings of the broker that is to have it.
fn settings(args: &Import, source: &Source) -> Result<BrokerConfig, String> {
    let mut overrides = Vec::new();
    if let Some(directory) = &args.to {
        let directory = directory
            .to_str()
            .ok_or("the name of the directory is no UTF-8")?;
        overrides.push(("log.dirs".to_owned(), directory.to_owned()));
    }
    if args.config.is_none()
        && let Some(node) = source.node_id
    {
        overrides.push(("node.id".to_owned(), node.to_string()));
    }
    let settings = SettingsSource {
        path: args.config.clone(),
        overrides,
    };
    let text = settings.read()?;
    let config = settings
        .load(text.as_deref())
        .map_err(|problems| problems.join("; "))?;
    if config.is_member() {
        return Err(
            "the settings are of a node of a cluster of several: import makes a node that is alone"
                .into(),
        );
    }
    if !config.store_devices().is_empty() {
        return Err("import makes stores that are files: leave millrace.store.devices out".into());
    }
    Ok(config)
}

/// Every topic that has partitions, with what is known of it.
fn topics(source: &Source, without: bool) -> Result<BTreeMap<String, TopicFacts>, String> {
    let mut topics: BTreeMap<String, TopicFacts> = BTreeMap::new();
    for ((name, partition), found) in &source.partitions {
        let place = found.path.display();
        check_topic_name(name).map_err(|why| format!("{place}: {why}"))?;
        let known = source.known.as_ref().map(|known| known.topics.get(name));
        let told = match known {
            Some(Some(told)) => told.clone(),
            _ if without || is_internal(name) => TopicFacts {
                id: found.topic_id,
                partitions: 0,
                configs: own_settings(name),
            },
            Some(None) => {
                return Err(format!(
                    "{place}: the metadata has no topic {name}: remove the directory, if it was deleted"
                ));
            }
            None => {
                return Err(format!(
                    "{place}: nothing says which settings topics have, such as cleanup.policy: give also the directory \
                     with {}-0 of the Kafka broker, or --without-settings for the defaults",
                    crate::kafka_source::METADATA_TOPIC
                ));
            }
        };
        let facts = topics.entry(name.clone()).or_insert(told);
        if facts.id != found.topic_id {
            return Err(format!(
                "{place}: its topic id is {}, but the topic {name} is {}: another topic had this name before",
                found.topic_id, facts.id
            ));
        }
        facts.partitions = facts.partitions.max(partition.saturating_add(1));
    }
    for (name, facts) in &topics {
        let has = |at: &i32| source.partitions.contains_key(&(name.clone(), *at));
        if let Some(missing) = (0..facts.partitions).find(|at| !has(at)) {
            return Err(format!(
                "partition {missing} of {name}, which has {}, is not there: give all directories of the broker, or \
                 those of brokers that have the others",
                facts.partitions
            ));
        }
    }
    Ok(topics)
}

/// What a topic of the broker's own has, whatever is known.
fn own_settings(name: &str) -> BTreeMap<String, String> {
    let policy = is_internal(name).then(|| ("cleanup.policy".to_owned(), "compact".to_owned()));
    policy.into_iter().collect()
}

/// Makes the place in which the stores are made.
fn begin(directory: &Path) -> Result<PathBuf, String> {
    let shown = directory.display();
    let stores = StoreFile::list(directory).map_err(|error| failed_at(directory, error))?;
    if !stores.is_empty() {
        return Err(format!(
            "{shown} has stores already: import makes a new node"
        ));
    }
    let unfinished = directory.join(UNFINISHED);
    fs::create_dir(&unfinished).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => format!(
            "{} was left by an import that did not come to its end: remove it, nothing counts of what is in it",
            unfinished.display()
        ),
        _ => failed_at(&unfinished, error),
    })?;
    Ok(unfinished)
}

/// Gives the stores their place; store-0, without which no broker starts, comes last.
fn end(unfinished: &Path, directory: &Path, count: u16) -> Result<(), String> {
    let moved = || {
        for store in (0..count).rev().map(StoreId) {
            fs::rename(
                StoreFile::path(unfinished, store),
                StoreFile::path(directory, store),
            )?;
            if store.0 <= 1 {
                fs::File::open(directory)?.sync_all()?;
            }
        }
        fs::remove_dir_all(unfinished)
    };
    moved().map_err(|error| failed_at(directory, error))
}

struct Importing {
    config: BrokerConfig,
    stores: NewStores,
    /// Of each store.
    bytes: Vec<u64>,
    next_producer_id: i64,
    taken: BTreeMap<(String, i32), Taken>,
}

/// What the topics come to.
struct NewMetadata {
    records: Vec<MetadataRecord>,
    /// Settings that this broker does not have, or not so.
    refused: Vec<(String, String)>,
}

impl Importing {
    fn partition(
        &mut self,
        label: LogLabel,
        found: &Partition,
        progress: &ProgressBar,
    ) -> Result<(), String> {
        let key = (label.topic.to_string(), label.partition);
        let topic = label.topic_id;
        // The one that has least.
        let store = (0..self.stores.count())
            .min_by_key(|store| self.bytes[*store])
            .unwrap_or(0);
        let newest = LeaderEpoch(i32::MAX - 1);
        let start = Offset(found.start);
        let mut log = self.stores.log(store, label, (start, newest));
        let id = log.id();
        let (mut part, mut epoch, mut records) = (Vec::new(), found.epoch, 0);
        let give = |log: &mut crate::new_store::NewLog<'_>, part: &mut Vec<u8>, path: &Path| {
            let bytes = Bytes::from(std::mem::take(part));
            progress.inc(bytes.len() as u64);
            log.append(&bytes).map_err(|what| failed_at(path, what))
        };
        for (at, (base, path)) in found.segments.iter().enumerate() {
            if at > 0 {
                log.roll().map_err(|what| failed_at(path, what))?;
            }
            let mut segment = SegmentReader::open(path)?;
            loop {
                let from = part.len();
                let Some(info) = segment.next_batch(&mut part)? else {
                    break;
                };
                if info.base_offset < *base {
                    let what = format!(
                        "the batch of offset {} does not belong there",
                        info.base_offset
                    );
                    return Err(failed_at(path, what));
                }
                epoch = epoch.max(info.leader_epoch);
                self.next_producer_id = self.next_producer_id.max(info.producer_id + 1);
                if key.0 == TRANSACTION_STATE {
                    let last = producer_ids(&part[from..]).map_err(|what| failed_at(path, what))?;
                    self.next_producer_id = self.next_producer_id.max(last + 1);
                }
                if info.last_offset() < start.0 {
                    part.truncate(from);
                    continue;
                }
                records += u64::from(info.records.unsigned_abs());
                if part.len() >= PART_BYTES {
                    give(&mut log, &mut part, path)?;
                }
            }
            give(&mut log, &mut part, path)?;
        }
        let last = found.segments.last().map_or(0, |(base, _)| *base);
        let (start, end) = log
            .finish(Offset(last))
            .map_err(|what| failed_at(&found.path, what))?;
        self.bytes[store] += found.bytes()?;
        let node = self.config.node();
        let leads = epoch
            .checked_add(1)
            .ok_or("there is no later leader epoch")?;
        let record = PartitionRecord {
            topic,
            index: key.1,
            log: id,
            replicas: vec![node],
            directories: vec![self.stores.directory(store)],
            isr: vec![node],
            leader: node,
            leader_epoch: LeaderEpoch(leads),
            partition_epoch: 0,
            elections: Elections::default(),
        };
        let taken = Taken {
            record,
            start,
            end,
            records,
        };
        self.taken.insert(key, taken);
        Ok(())
    }

    fn answer(taken: &BTreeMap<(String, i32), Taken>) -> Answer {
        let mut rows = Rows::of(&[
            "topic",
            "partition",
            "first_offset",
            "end_offset",
            "records",
        ]);
        for ((topic, partition), taken) in taken {
            rows.add([
                topic.into(),
                (*partition).into(),
                taken.start.0.into(),
                taken.end.0.into(),
                taken.records.into(),
            ]);
        }
        Answer::new().rows("partitions", rows)
    }

    /// The records of the new cluster, each tried out.
    fn metadata(
        &self,
        topics: &BTreeMap<String, TopicFacts>,
        cluster_id: Option<String>,
    ) -> Result<NewMetadata, String> {
        let here = (0..self.stores.count()).map(|store| self.stores.directory(store));
        let mut image = Image::of_node(here);
        let mut new = NewMetadata {
            records: Vec::new(),
            refused: Vec::new(),
        };
        let id = self.config.millrace_cluster_id.clone().or(cluster_id);
        let id = id.unwrap_or_else(|| TopicId(random()).to_string());
        let mut add = |image: &mut Image, record: MetadataRecord| {
            image.replay(&record).map_err(|error| error.to_string())?;
            new.records.push(record);
            Ok::<(), String>(())
        };
        add(&mut image, MetadataRecord::Cluster { id })?;
        add(
            &mut image,
            MetadataRecord::Features {
                level: FEATURE_LEVEL,
            },
        )?;
        for (name, facts) in topics {
            let topic = MetadataRecord::Topic {
                name: name.clone(),
                id: facts.id,
            };
            add(&mut image, topic)?;
            for index in 0..facts.partitions {
                let taken = &self.taken[&(name.clone(), index)];
                add(&mut image, MetadataRecord::Partition(taken.record.clone()))?;
            }
            for (key, value) in &facts.configs {
                let change = [(key.clone(), ConfigOp::Set(value.clone()))];
                let mut draft = Draft::new(&image);
                if let Err(refused) = alter_topic_configs(&mut draft, &self.config, name, &change) {
                    let why = refused.text();
                    new.refused
                        .push((name.clone(), format!("{key}={value}: {why}")));
                    continue;
                }
                let setting = MetadataRecord::Config {
                    resource: ConfigResource::Topic(name.clone()),
                    key: key.clone(),
                    value: Some(value.clone()),
                };
                add(&mut image, setting)?;
            }
        }
        let next = self.next_producer_id;
        if next > 0 {
            let next = (next / PRODUCER_ID_BLOCK + 2) * PRODUCER_ID_BLOCK;
            add(&mut image, MetadataRecord::ProducerIds { next })?;
        }
        Ok(new)
    }

    fn write_metadata(&mut self, records: &[MetadataRecord]) -> Result<(), String> {
        let (label, begins) = (metadata_label(), (Offset(0), LeaderEpoch(0)));
        let mut log = self.stores.log_with(0, METADATA_LOG, label, begins);
        let mut next = 0;
        for records in records.chunks(RECORDS_PER_CHANGE_MAX / 10) {
            let mut batch = metadata_batch(records, now().wall_ms).to_vec();
            record::stamp(&mut batch, Offset(next), LeaderEpoch(0));
            next += records.len() as i64;
            log.append(&batch.into())?;
        }
        log.finish(Offset(next)).map(|_| ())
    }
}

/// The largest producer id that values of transactional ids name; -1 if none does. Each begins with a version and the
/// producer id.
fn producer_ids(batch: &[u8]) -> Result<i64, String> {
    const OPENED_BYTES_MAX: usize = 256 << 20;
    let mut largest = -1;
    for record in record::records(batch, OPENED_BYTES_MAX).map_err(|what| what.to_string())? {
        let value = record.map_err(|what| what.to_string())?.value;
        let id = value
            .as_deref()
            .and_then(|value| value.get(2..10)?.try_into().ok());
        largest = largest.max(id.map_or(-1, i64::from_be_bytes));
    }
    Ok(largest)
}

fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Now {
        mono: Mono(1),
        wall_ms: since.map_or(0, |since| since.as_millis() as i64),
    }
}

fn seed() -> u64 {
    u64::from_be_bytes(random())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let read = fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    // What the kernel always has.
    read.expect("/dev/urandom can be read");
    bytes
}
