//! Partitions as Kafka keeps them on disk, to be read: directories `<topic>-<partition>/` with a `.log` per segment, as
//! a Kafka broker has left them, or `store export`, or `backup`. What else Kafka has there is made from the records.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use millrace::base::TopicId;
use millrace::record::{self, BatchInfo, header};

use crate::failure::failed_at;
use crate::kafka_metadata;
use crate::settings_file::{self, TakenOver};

/// Bytes of a batch up to and with its length.
const UP_TO_LENGTH: usize = 12;
/// What Kafka writes when it was stopped, and takes away at a start.
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// Whose directory it is.
const META: &str = "meta.properties";
/// Begins the names of the logs in which nodes keep metadata, Kafka's and ours.
pub const METADATA_TOPIC: &str = "__cluster_metadata";

/// What there is to be taken over.
#[derive(Debug, Default)]
pub struct Source {
    /// By topic and partition.
    pub partitions: BTreeMap<(String, i32), Partition>,
    /// Topics with their settings; none if nothing says them.
    pub known: Option<TakenOver>,
    /// As Kafka was formatted with.
    pub cluster_id: Option<String>,
    /// The same.
    pub node_id: Option<i32>,
    /// What is left out, and where.
    pub left_out: Vec<(PathBuf, String)>,
}

/// A partition.
#[derive(Debug)]
pub struct Partition {
    /// Its directory.
    pub path: PathBuf,
    /// As `partition.metadata` says.
    pub topic_id: TopicId,
    /// Base offset and file of each segment, in order.
    pub segments: Vec<(i64, PathBuf)>,
    /// The first offset that clients may read.
    pub start: i64,
    /// The newest leader epoch that is known without looking at batches.
    pub epoch: i32,
}

impl Source {
    /// Looks at all of these directories. Batches are not read yet.
    pub fn open(directories: &[PathBuf]) -> Result<Self, String> {
        let mut source = Self::default();
        for directory in directories {
            source.add(directory)?;
        }
        if source.partitions.is_empty() {
            return Err(String::from(
                "no partition is there: give directories that hold TOPIC-PARTITION directories, which is what \
                 log.dirs of a Kafka broker names, or what `store export` or `backup` wrote",
            ));
        }
        Ok(source)
    }

    fn add(&mut self, directory: &Path) -> Result<(), String> {
        let meta = self.meta(directory)?;
        if meta && !directory.join(CLEAN_SHUTDOWN).exists() {
            return Err(failed_at(
                directory,
                format!(
                    "the Kafka broker runs, or was not stopped in order ({CLEAN_SHUTDOWN} is not there): stop it, and \
                     if it has crashed start it once more before"
                ),
            ));
        }
        let starts = Starts::read(&directory.join("log-start-offset-checkpoint"))?;
        let entries = fs::read_dir(directory).map_err(|error| failed_at(directory, error))?;
        for entry in entries {
            let path = entry.map_err(|error| failed_at(directory, error))?.path();
            if path.is_dir() {
                self.partition(path, &starts)?;
            }
        }
        if let Some(known) = settings_file::read(directory)? {
            self.know(known)?;
        }
        let metadata = directory.join(format!("{METADATA_TOPIC}-0"));
        if meta && metadata.is_dir() {
            self.know(kafka_metadata::read(&metadata)?)?;
        }
        Ok(())
    }

    fn know(&mut self, known: TakenOver) -> Result<(), String> {
        if let Some(id) = &known.cluster_id {
            self.cluster_is(id)?;
        }
        match &mut self.known {
            Some(all) => all.merge(known),
            None => self.known = Some(known),
        }
        Ok(())
    }

    fn cluster_is(&mut self, id: &str) -> Result<(), String> {
        let known = self.cluster_id.get_or_insert_with(|| id.to_owned());
        match known == id {
            true => Ok(()),
            false => Err(format!("these are of two clusters, {known} and {id}")),
        }
    }

    /// Whose directory it is, if it says so.
    fn meta(&mut self, directory: &Path) -> Result<bool, String> {
        let path = directory.join(META);
        let Some(text) = read_text(&path)? else {
            return Ok(false);
        };
        let value = |key: &str| {
            let mut pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs.find_map(|(name, value)| (name.trim() == key).then(|| value.trim().to_owned()))
        };
        if let Some(id) = value("cluster.id") {
            self.cluster_is(&id)?;
        }
        if let Some(id) = value("node.id").or_else(|| value("broker.id")) {
            let id = id
                .parse()
                .map_err(|_| failed_at(&path, "node.id is no number"))?;
            self.node_id.get_or_insert(id);
        }
        Ok(true)
    }

    fn partition(&mut self, path: PathBuf, starts: &Starts) -> Result<(), String> {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let parts = name.rsplit_once('-');
        let Some((topic, Ok(partition))) = parts.map(|(topic, at)| (topic, at.parse::<i32>()))
        else {
            if parts.is_some_and(|(_, end)| ["delete", "future", "stray"].contains(&end)) {
                let what = "was to be deleted, or moved, when the broker stopped";
                self.left_out.push((path, what.to_owned()));
            }
            return Ok(());
        };
        if topic.starts_with(METADATA_TOPIC) {
            return Ok(());
        }
        if topic == "__share_group_state" {
            let what = "share groups are not served";
            self.left_out.push((path, what.to_owned()));
            return Ok(());
        }
        let found = Partition::open(path, starts.of(topic, partition))?;
        let key = (topic.to_owned(), partition);
        let Some(known) = self.partitions.get(&key) else {
            self.partitions.insert(key, found);
            return Ok(());
        };
        // Two replicas: the one that would be elected of them, which has all that is committed.
        let (better, other) = match known.last()? < found.last()? {
            true => (Some(found), known.path.clone()),
            false => (None, found.path),
        };
        let what = "another replica is taken, which has as much or more";
        self.left_out.push((other, what.to_owned()));
        self.partitions.extend(better.map(|better| (key, better)));
        Ok(())
    }
}

impl Partition {
    fn open(path: PathBuf, start: Option<i64>) -> Result<Self, String> {
        let topic_id = topic_id(&path.join("partition.metadata"))?;
        let mut segments = Vec::new();
        for entry in fs::read_dir(&path).map_err(|error| failed_at(&path, error))? {
            let file = entry.map_err(|error| failed_at(&path, error))?.path();
            if file.extension().is_some_and(|it| it == "log") {
                let name = file.file_stem().unwrap_or_default().to_string_lossy();
                let base = name.parse().ok().filter(|base: &i64| *base >= 0);
                let base = base.ok_or_else(|| failed_at(&file, "its name is no offset"))?;
                segments.push((base, file));
            }
        }
        segments.sort();
        let first = segments.first().map_or(0, |(base, _)| *base);
        Ok(Self {
            epoch: newest_epoch(&path.join("leader-epoch-checkpoint"))?,
            path,
            topic_id,
            segments,
            start: start.unwrap_or(0).max(first),
        })
    }

    /// Bytes of its segments.
    pub fn bytes(&self) -> Result<u64, String> {
        let len = |path: &Path| fs::metadata(path).map_err(|error| failed_at(path, error));
        let files = self.segments.iter();
        files.map(|(_, path)| Ok(len(path)?.len())).sum()
    }

    /// Epoch and offset of its last batch.
    fn last(&self) -> Result<(i32, i64), String> {
        for (_, path) in self.segments.iter().rev() {
            let mut segment = SegmentReader::open(path)?;
            let (mut last, mut batch) = (None, Vec::new());
            while segment.next_head(&mut batch)? {
                last =
                    header(&batch).map(|head| (head.partition_leader_epoch(), head.base_offset()));
            }
            if let Some(last) = last {
                return Ok(last);
            }
        }
        Ok((-1, -1))
    }
}

/// The log starts of a directory that lie behind the first batch of the partition.
struct Starts(BTreeMap<(String, i32), i64>);

impl Starts {
    fn read(path: &Path) -> Result<Self, String> {
        let mut starts = BTreeMap::new();
        for line in checkpoint_lines(path)? {
            let words: Vec<&str> = line.split_whitespace().collect();
            let entry = match words[..] {
                [topic, partition, offset] => partition
                    .parse()
                    .ok()
                    .zip(offset.parse().ok())
                    .map(|(partition, offset)| ((topic.to_owned(), partition), offset)),
                _ => None,
            };
            starts
                .extend([entry.ok_or_else(|| failed_at(path, format!("a line is none: {line}")))?]);
        }
        Ok(Self(starts))
    }

    fn of(&self, topic: &str, partition: i32) -> Option<i64> {
        self.0.get(&(topic.to_owned(), partition)).copied()
    }
}

/// The entries of one of Kafka's checkpoint files, behind its version and their number; none if it is not there.
fn checkpoint_lines(path: &Path) -> Result<Vec<String>, String> {
    let Some(text) = read_text(path)? else {
        return Ok(Vec::new());
    };
    let mut lines = text.lines().map(str::to_owned);
    match lines.next().as_deref().map(str::trim) {
        Some("0") => {}
        version => {
            return Err(failed_at(
                path,
                format!("version {} is not known", version.unwrap_or("")),
            ));
        }
    }
    let count = lines
        .next()
        .and_then(|line| line.trim().parse::<usize>().ok());
    let lines: Vec<String> = lines.filter(|line| !line.trim().is_empty()).collect();
    match count == Some(lines.len()) {
        true => Ok(lines),
        false => Err(failed_at(path, "it does not have as many lines as it says")),
    }
}

fn newest_epoch(path: &Path) -> Result<i32, String> {
    let mut newest = 0;
    for line in checkpoint_lines(path)? {
        let epoch = line
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok());
        newest = newest.max(epoch.ok_or_else(|| failed_at(path, "an epoch is no number"))?);
    }
    Ok(newest)
}

fn topic_id(path: &Path) -> Result<TopicId, String> {
    let text = read_text(path)?.ok_or_else(|| {
        failed_at(path, "it is not there: what has no topic id was written by a Kafka before 2.8, or is no partition")
    })?;
    let id = text.lines().find_map(|line| line.strip_prefix("topic_id:"));
    let id = id.and_then(|id| TopicId::parse(id.trim()));
    id.ok_or_else(|| failed_at(path, "it names no topic id"))
}

/// None if it is not there.
fn read_text(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed_at(path, error)),
    }
}

/// Reads a segment, batch by batch.
pub struct SegmentReader {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    len: u64,
}

impl SegmentReader {
    /// From its first byte on.
    pub fn open(path: &Path) -> Result<Self, String> {
        let open = || {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            Ok((BufReader::with_capacity(1 << 20, file), len))
        };
        let (file, len) = open().map_err(|error: io::Error| failed_at(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            at: 0,
            len,
        })
    }

    fn bad(&self, at: u64, what: impl Display) -> String {
        failed_at(&self.path, format!("byte {at}: {what}"))
    }

    /// Puts the next batch behind what is in `out`, its CRC and header checked. `None` at the end.
    pub fn next_batch(&mut self, out: &mut Vec<u8>) -> Result<Option<BatchInfo>, String> {
        let (at, from) = (self.at, out.len());
        let Some(len) = self.length()? else {
            return Ok(None);
        };
        out.resize(from + len, 0);
        self.read(&mut out[from..])?;
        let batch = &out[from..];
        let info = record::parse(batch).map_err(|what| self.bad(at, what))?;
        if !record::check_crc(batch) {
            let offset = info.base_offset;
            return Err(self.bad(at, format!("the batch of offset {offset} has a wrong CRC")));
        }
        Ok(Some(info))
    }

    /// Puts the header of the next batch into `out`, and passes the rest by. False at the end.
    fn next_head(&mut self, out: &mut Vec<u8>) -> Result<bool, String> {
        let Some(len) = self.length()? else {
            return Ok(false);
        };
        out.resize(record::HEADER_LEN.min(len), 0);
        self.read(out)?;
        let rest = (len - out.len()) as i64;
        let skipped = self.file.seek_relative(rest);
        skipped.map_err(|error| failed_at(&self.path, error))?;
        self.at += rest as u64;
        Ok(true)
    }

    /// The length of the next batch, which is all there; `None` at the end.
    fn length(&mut self) -> Result<Option<usize>, String> {
        let left = self.len - self.at;
        if left == 0 {
            return Ok(None);
        }
        let mut head = [0; UP_TO_LENGTH];
        if left < head.len() as u64 {
            return Err(self.bad(self.at, "the last batch is cut off"));
        }
        self.read(&mut head)?;
        let back = self.file.seek_relative(-(head.len() as i64));
        back.map_err(|error| failed_at(&self.path, error))?;
        self.at -= head.len() as u64;
        let length = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        let whole = i64::from(length) + UP_TO_LENGTH as i64;
        match u64::try_from(whole).is_ok_and(|whole| whole <= left) && length > 0 {
            true => Ok(usize::try_from(whole).ok()),
            false => Err(self.bad(
                self.at,
                format!("a batch of length {length} goes beyond the end, or is none"),
            )),
        }
    }

    fn read(&mut self, out: &mut [u8]) -> Result<(), String> {
        let read = self.file.read_exact(out);
        read.map_err(|error| failed_at(&self.path, error))?;
        self.at += out.len() as u64;
        Ok(())
    }

    /// Where the next batch begins, in bytes.
    pub fn at(&self) -> u64 {
        self.at
    }
}
