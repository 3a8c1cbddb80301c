//! `backup`: what a broker has, read of it while it runs, as Kafka keeps partitions on disk; `store import` makes a
//! broker's directory of it. Batches are written as they were fetched, so that offsets, leader epochs and the ends of
//! transactions are kept.
//!
//! Each partition is written up to its last stable offset, which is asked for first, so that no transaction in it is
//! undecided. Topics of the broker's own come first: an offset that a group has committed is then not behind the end of
//! what is written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use millrace::record;
use millrace::store::LogLabel;
use millrace_client::{
    Cluster, EARLIEST, Position, Reader, Topic, last_stable_offsets, list_offsets,
};

use crate::answer::{Answer, Output, Rows};
use crate::args::Backup;
use crate::configs;
use crate::failure::{Failure, Outcome, failed_at};
use crate::kafka_dir::{SegmentWriter, partition_directory, write_starts};
use crate::kafka_source::METADATA_TOPIC;
use crate::settings_file::{TakenOver, TopicFacts};

/// A segment of a backup has no more bytes than this and its last batch: Kafka's default.
const SEGMENT_BYTES: u64 = 1 << 30;
/// How long one fetch waits for what is there, and restarts of brokers are sat out.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// So many fetches in a row that bring nothing say that nothing is left before the end.
const EMPTY_FETCHES_MAX: u32 = 3;

/// Runs the command.
pub fn run(
    cluster: &mut Cluster,
    output: Output,
    args: &Backup,
    connect: &dyn Fn() -> Outcome<Cluster>,
    patience: Duration,
) -> Outcome {
    let mut topics = cluster.topics()?;
    topics.retain(|topic| args.topic.is_empty() || args.topic.contains(&topic.name));
    topics.retain(|topic| !topic.name.starts_with(METADATA_TOPIC));
    // See the module.
    topics.sort_by_key(|topic| (!topic.name.starts_with("__"), topic.name.clone()));
    if let Some(missing) = args
        .topic
        .iter()
        .find(|name| topics.iter().all(|it| it.name != **name))
    {
        cluster.topic(missing)?;
    }
    let unfinished = begin(&args.out)?;
    let mut known = TakenOver {
        cluster_id: cluster
            .metadata(Some(&[]))?
            .cluster_id
            .map(|id| id.to_string()),
        ..TakenOver::default()
    };
    let mut rows = Rows::of(&[
        "topic",
        "partition",
        "first_offset",
        "end_offset",
        "records",
        "bytes",
    ]);
    let mut starts = Vec::new();
    let progress = ProgressBar::new(topics.len() as u64);
    let style = "topic {pos} of {len}, {elapsed}: {msg}";
    progress.set_style(ProgressStyle::with_template(style).map_err(|error| error.to_string())?);
    for topic in &topics {
        let facts = TopicFacts {
            id: topic.id,
            partitions: topic.partitions.len() as i32,
            configs: configs::own_of_topic(cluster, &topic.name)?,
        };
        known.topics.insert(topic.name.clone(), facts);
        let reader = TopicBackup::begin(cluster, topic, &unfinished)?;
        for (partition, written) in reader.run(connect()?, topic.clone(), patience, &progress)? {
            starts.push((topic.name.clone(), partition, written.first));
            rows.add([
                topic.name.as_str().into(),
                partition.into(),
                written.first.into(),
                written.end.into(),
                written.records.into(),
                crate::answer::Cell::Bytes(written.bytes),
            ]);
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    known.write(&unfinished)?;
    write_starts(&unfinished, &starts)?;
    let named = fs::rename(&unfinished, &args.out).and_then(|()| {
        let parent = args.out.parent().filter(|it| !it.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    });
    named.map_err(|error| failed_at(&args.out, error))?;
    let answer = Answer::new().rows("partitions", rows);
    output.show(&answer.field("directory", args.out.display().to_string()))
}

/// Makes the place in which it is written: it gets its name when it is whole.
fn begin(out: &Path) -> Result<PathBuf, String> {
    if out.exists() {
        return Err(failed_at(out, "it is there already"));
    }
    let name = out
        .file_name()
        .ok_or_else(|| failed_at(out, "this names no directory"))?;
    let mut unfinished = name.to_owned();
    unfinished.push(".unfinished");
    let unfinished = out.with_file_name(unfinished);
    fs::create_dir(&unfinished).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => failed_at(
            &unfinished,
            "a backup that did not come to its end has left it, or another one runs: remove it",
        ),
        _ => failed_at(&unfinished, error),
    })?;
    Ok(unfinished)
}

/// What was written of a partition.
struct Written {
    directory: PathBuf,
    first: i64,
    end: i64,
    records: u64,
    bytes: u64,
    /// The segment at hand, and how many bytes it has.
    segment: Option<(SegmentWriter, u64)>,
    next: i64,
}

/// The partitions of a topic.
struct TopicBackup(BTreeMap<i32, Written>);

impl TopicBackup {
    fn begin(cluster: &mut Cluster, topic: &Topic, out: &Path) -> Outcome<Self> {
        let indexes: Vec<i32> = topic
            .partitions
            .iter()
            .map(|partition| partition.index)
            .collect();
        let ends = last_stable_offsets(cluster, topic, &indexes)?;
        let firsts = list_offsets(cluster, topic, &indexes, EARLIEST)?;
        let mut all = BTreeMap::new();
        for (partition, end) in ends {
            let first = firsts.get(&partition).copied().unwrap_or(0).min(end);
            let label = LogLabel {
                topic: topic.name.as_str().into(),
                topic_id: topic.id,
                partition,
            };
            let directory = partition_directory(out, &label).map_err(|error| error.to_string())?;
            let written = Written {
                directory,
                first,
                end,
                records: 0,
                bytes: 0,
                segment: None,
                next: first,
            };
            all.insert(partition, written);
        }
        Ok(Self(all))
    }

    /// Reads all of them to their ends.
    fn run(
        mut self,
        cluster: Cluster,
        topic: Topic,
        patience: Duration,
        progress: &ProgressBar,
    ) -> Outcome<BTreeMap<i32, Written>> {
        let left = self.0.iter().filter(|(_, it)| it.next < it.end);
        let positions: Vec<Position> = left
            .map(|(partition, it)| Position {
                partition: *partition,
                offset: it.next,
            })
            .collect();
        let total: i64 = self.0.values().map(|it| it.end - it.first).sum();
        let name = topic.name.clone();
        let mut reader = Reader::new(cluster, topic, positions, MAX_WAIT, patience);
        let mut empty = 0;
        while !reader.positions().is_empty() && empty < EMPTY_FETCHES_MAX {
            let (mut outcome, mut has_got) = (Ok(()), false);
            let partitions = &mut self.0;
            reader.poll(|partition, _, batch| {
                has_got = true;
                if let (Some(written), Ok(())) = (partitions.get_mut(&partition), &outcome) {
                    outcome = written.take(&batch);
                }
            })?;
            outcome?;
            empty = if has_got { 0 } else { empty + 1 };
            let done: i64 = self
                .0
                .values()
                .map(|it| it.next.min(it.end) - it.first)
                .sum();
            progress.set_message(format!("{name}, offset {done} of {total}"));
            for (partition, written) in &self.0 {
                if written.next >= written.end {
                    reader.finish(*partition);
                }
            }
        }
        for written in self.0.values_mut() {
            written.finish().map_err(Failure::from)?;
        }
        Ok(self.0)
    }
}

impl Written {
    fn take(&mut self, batch: &Bytes) -> Result<(), String> {
        let info = record::parse(batch).map_err(|error| error.to_string())?;
        if info.base_offset >= self.end {
            // It came behind what was stable when that was asked for.
            self.next = self.end;
            return Ok(());
        }
        if !record::check_crc(batch) {
            return Err(format!(
                "{}: the batch of offset {} came with a wrong CRC",
                self.directory.display(),
                info.base_offset
            ));
        }
        let failed = |error: std::io::Error| error.to_string();
        if self
            .segment
            .as_ref()
            .is_some_and(|(_, bytes)| *bytes >= SEGMENT_BYTES)
            && let Some((segment, _)) = self.segment.take()
        {
            segment.finish().map_err(failed)?;
        }
        let (segment, bytes) = match &mut self.segment {
            Some(segment) => segment,
            None => {
                let new =
                    SegmentWriter::create(&self.directory, info.base_offset).map_err(failed)?;
                self.segment.insert((new, 0))
            }
        };
        segment.append(&info, batch).map_err(failed)?;
        *bytes += batch.len() as u64;
        self.bytes += batch.len() as u64;
        self.records += info.records as u64;
        self.next = info.last_offset() + 1;
        Ok(())
    }

    /// Ends the last segment. One without a batch says where the log ends, if no batch does.
    fn finish(&mut self) -> Result<(), String> {
        let failed = |error: std::io::Error| error.to_string();
        if let Some((segment, _)) = self.segment.take() {
            segment.finish().map_err(failed)?;
        }
        if self.next < self.end || self.bytes == 0 {
            let last = SegmentWriter::create(&self.directory, self.end).map_err(failed)?;
            last.finish().map_err(failed)?;
        }
        // All of it is on the disk before the backup gets its name.
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            File::open(path)
                .and_then(|file| file.sync_all())
                .map_err(failed)?;
        }
        Ok(())
    }
}
