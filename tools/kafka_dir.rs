//! Writes a partition the way Kafka keeps it on disk: `<topic>-<partition>/` with a
//! `.log`, an `.index` and a `.timeindex` per segment, which Kafka's own
//! `DumpLogSegments` reads and a Kafka broker can take over.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millrace::log::Log;
use millrace::record::{self, BatchInfo};
use millrace::runtime::blocks;
use millrace::store::{BadRange, Found, LogLabel, LogRemains, Remains};

use crate::failure::failed_at;

/// Bytes of log per index entry, Kafka's `index.interval.bytes`.
const INDEX_INTERVAL_BYTES: u64 = 4096;

/// One segment being written.
pub struct SegmentWriter {
    log: BufWriter<File>,
    index: BufWriter<File>,
    time_index: BufWriter<File>,
    entries: Indexes,
}

/// What the two indexes of a segment hold, entry by entry.
struct Indexes {
    base_offset: i64,
    position: u64,
    bytes_since_entry: u64,
    /// Largest timestamp so far and the offset of the batch that brought it.
    max_timestamp: (i64, i64),
    last_time_entry: i64,
}

/// An entry of the `.index`: offset relative to the segment's base, byte position.
type OffsetEntry = (i32, i32);
/// An entry of the `.timeindex`: timestamp, offset relative to the segment's base.
type TimeEntry = (i64, i32);

impl Indexes {
    fn new(base_offset: i64) -> Self {
        Self {
            base_offset,
            position: 0,
            bytes_since_entry: 0,
            max_timestamp: (-1, base_offset),
            last_time_entry: -1,
        }
    }

    /// Takes the next batch. `None` if the segment is larger than Kafka's formats can say.
    fn add(&mut self, info: &BatchInfo) -> Option<(Option<OffsetEntry>, Option<TimeEntry>)> {
        if info.max_timestamp > self.max_timestamp.0 {
            self.max_timestamp = (info.max_timestamp, info.last_offset());
        }
        let position = i32::try_from(self.position).ok()?;
        let relative = self.relative(info.last_offset())?;
        let mut entries = (None, None);
        if self.bytes_since_entry > INDEX_INTERVAL_BYTES {
            entries = (Some((relative, position)), self.time_entry());
            self.bytes_since_entry = 0;
        }
        self.position += info.len as u64;
        self.bytes_since_entry += info.len as u64;
        Some(entries)
    }

    /// The time entry that is due: timestamps in the index only grow.
    fn time_entry(&mut self) -> Option<TimeEntry> {
        let (timestamp, offset) = self.max_timestamp;
        if timestamp <= self.last_time_entry {
            return None;
        }
        self.last_time_entry = timestamp;
        Some((timestamp, self.relative(offset)?))
    }

    fn relative(&self, offset: i64) -> Option<i32> {
        i32::try_from(offset.checked_sub(self.base_offset)?)
            .ok()
            .filter(|relative| *relative >= 0)
    }
}

impl SegmentWriter {
    /// Begins the segment of this base offset in `directory`. Refuses to overwrite.
    pub fn create(directory: &Path, base_offset: i64) -> io::Result<Self> {
        let file = |extension: &str| {
            let path = directory.join(format!("{base_offset:020}.{extension}"));
            File::create_new(&path)
                .map(BufWriter::new)
                .map_err(|error| named(&path, &error))
        };
        Ok(Self {
            log: file("log")?,
            index: file("index")?,
            time_index: file("timeindex")?,
            entries: Indexes::new(base_offset),
        })
    }

    /// Appends one batch.
    pub fn append(&mut self, info: &BatchInfo, batch: &[u8]) -> io::Result<()> {
        let Some((offset, time)) = self.entries.add(info) else {
            return Err(io::Error::other(
                "the segment is too large for Kafka's index format",
            ));
        };
        self.log.write_all(batch)?;
        if let Some((relative, position)) = offset {
            self.index.write_all(&relative.to_be_bytes())?;
            self.index.write_all(&position.to_be_bytes())?;
        }
        self.write_time(time)
    }

    /// Ends the segment: its last timestamp goes into the time index.
    pub fn finish(mut self) -> io::Result<()> {
        let last = self.entries.time_entry();
        self.write_time(last)?;
        self.log.flush()?;
        self.index.flush()?;
        self.time_index.flush()
    }

    fn write_time(&mut self, entry: Option<TimeEntry>) -> io::Result<()> {
        if let Some((timestamp, relative)) = entry {
            self.time_index.write_all(&timestamp.to_be_bytes())?;
            self.time_index.write_all(&relative.to_be_bytes())?;
        }
        Ok(())
    }
}

/// A partition that was written, and what of it is not there.
#[derive(Debug, Default)]
pub struct LogWriter {
    /// Its directory.
    pub target: PathBuf,
    /// Offset of the first record.
    pub first: Option<i64>,
    /// Offset of the last one.
    pub last: i64,
    /// How many there are.
    pub records: u64,
    /// Ranges of offsets between and behind them of which there are none, but for those that were left out.
    pub missing: Vec<String>,
    /// What is damaged, for people.
    pub problems: Vec<String>,
    /// The offset that is due, if it is known, and whether something is lost before it.
    next: Option<i64>,
    torn: bool,
    /// In the segment at hand offsets were left out on purpose.
    leaves_out: bool,
    /// A batch that leaves offsets out. Its CRC does not cover its offset: the batch behind it tells whether
    /// that has rotted.
    held: Option<(BatchInfo, Bytes)>,
}

impl LogWriter {
    /// Writes all of a log that is whole. Damage is told of, what cannot be written is an error. `known` is the log as
    /// a broker would go on with it, if it would: that tells what was left out on purpose.
    pub fn write(
        log: &LogRemains,
        known: Option<&Log>,
        file: &File,
        out: &Path,
    ) -> Result<Self, String> {
        let mut writer = Self {
            target: partition_directory(out, &log.label).map_err(|e| e.to_string())?,
            ..Self::default()
        };
        for segment in &log.segments {
            let leaves_out = known.is_some_and(|log| log.leaves_out(segment.id));
            writer
                .segment(segment, leaves_out, file)
                .map_err(|e| failed_at(&writer.target, e))?;
        }
        if let Some(log) = known {
            writer.due(log.end_offset().0);
        } else if writer.torn {
            let next = writer.next.unwrap_or_default();
            writer.missing.push(format!("{next}.."));
        }
        Ok(writer)
    }

    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.problems.is_empty()
    }

    fn segment(&mut self, segment: &Remains, leaves_out: bool, file: &File) -> io::Result<()> {
        let mut to = None;
        let name = segment.base.map(|base| base.0);
        if let Some(base) = name {
            self.due(base);
            to = Some(SegmentWriter::create(&self.target, base)?);
        }
        self.leaves_out = leaves_out;
        let mut done = Ok(());
        segment.walk(&mut blocks::reader(file), &mut |found| match found {
            Found::Batch(batch) => {
                if done.is_ok() {
                    done = self.batch(batch, &mut to);
                }
            }
            Found::Damage(BadRange { pos, why }) => {
                self.torn = true;
                let name = name.map_or_else(|| "without a name".into(), |name| name.to_string());
                self.problems
                    .push(format!("segment {name} is damaged at byte {pos} ({why})"));
            }
        });
        done?;
        if let Some((info, batch)) = self.held.take() {
            let base = name.unwrap_or(info.base_offset);
            if info.last_offset() - base <= i64::from(i32::MAX) {
                self.put(&info, &batch, &mut to)?;
            } else {
                self.disorder(info.base_offset);
            }
        }
        to.map_or(Ok(()), SegmentWriter::finish)
    }

    fn batch(&mut self, batch: &Bytes, to: &mut Option<SegmentWriter>) -> io::Result<()> {
        let info = match record::parse(batch) {
            Ok(info) => info,
            Err(error) => {
                self.torn = true;
                self.problems.push(error.to_string());
                return Ok(());
            }
        };
        if let Some((held, bytes)) = self.held.take() {
            if held.base_offset < info.base_offset {
                self.put(&held, &bytes, to)?;
            } else {
                self.disorder(held.base_offset);
            }
        }
        match self.next {
            Some(next) if info.base_offset < next => self.disorder(info.base_offset),
            Some(next) if info.base_offset > next => self.held = Some((info, batch.clone())),
            _ => self.put(&info, batch, to)?,
        }
        Ok(())
    }

    fn disorder(&mut self, offset: i64) {
        self.torn = true;
        self.problems
            .push(format!("a batch with offset {offset} is out of order"));
    }

    fn put(
        &mut self,
        info: &BatchInfo,
        batch: &[u8],
        to: &mut Option<SegmentWriter>,
    ) -> io::Result<()> {
        self.due(info.base_offset);
        let segment = match to {
            Some(segment) => segment,
            None => to.insert(SegmentWriter::create(&self.target, info.base_offset)?),
        };
        segment.append(info, batch)?;
        self.first.get_or_insert(info.base_offset);
        self.last = info.last_offset();
        self.records += info.records as u64;
        self.next = Some(info.last_offset() + 1);
        Ok(())
    }

    /// There is something from this offset on: what lies between is missing, unless it was left out and nothing
    /// there is damaged.
    fn due(&mut self, offset: i64) {
        let left_out = self.leaves_out && !self.torn;
        if let Some(next) = self.next.filter(|next| *next < offset && !left_out) {
            self.missing.push(range(next, offset));
        }
        self.next = self.next.max(Some(offset));
        self.torn = false;
    }
}

/// The offsets from `next` on that are before `until`, for people.
pub fn range(next: i64, until: i64) -> String {
    match until - 1 {
        last if last == next => next.to_string(),
        last => format!("{next}..{last}"),
    }
}

/// Where the logs in a directory start, as Kafka says it there: a batch may begin before that.
pub fn write_starts(directory: &Path, starts: &[(String, i32, i64)]) -> Result<(), String> {
    let mut text = format!("0\n{}\n", starts.len());
    for (topic, partition, first) in starts {
        text.push_str(&format!("{topic} {partition} {first}\n"));
    }
    let path = directory.join("log-start-offset-checkpoint");
    fs::write(&path, text).map_err(|error| failed_at(&path, error))
}

/// Makes the directory of a partition under `out`, with the file that names its topic id.
pub fn partition_directory(out: &Path, label: &LogLabel) -> io::Result<PathBuf> {
    let directory = out.join(format!("{}-{}", label.topic, label.partition));
    fs::create_dir_all(&directory).map_err(|error| named(&directory, &error))?;
    let path = directory.join("partition.metadata");
    let text = format!("version: 0\ntopic_id: {}\n", label.topic_id);
    fs::write(&path, text).map_err(|error| named(&path, &error))?;
    Ok(directory)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), failed_at(path, error))
}

#[cfg(test)]
mod tests {
    use millrace::base::TopicId;
    use millrace::base::{LeaderEpoch, Offset};
    use millrace::record::{self, BatchBuilder, Codec};

    use super::*;

    /// A batch of two records at this offset, with the larger timestamp first.
    fn batch(base: i64, timestamp: i64, value: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None, timestamp);
        builder.push(timestamp, None, Some(&vec![b'x'; value]), &[]);
        builder.push(timestamp - 5, None, Some(b""), &[]);
        let mut batch = builder.build().to_vec();
        record::stamp(&mut batch, Offset(base), LeaderEpoch(0));
        batch
    }

    #[test]
    fn files_are_laid_out_as_kafkas() {
        let out = tempfile::tempdir().unwrap();
        let label = LogLabel {
            topic: "t".into(),
            topic_id: TopicId::ZERO,
            partition: 3,
        };
        let directory = partition_directory(out.path(), &label).unwrap();
        assert!(directory.ends_with("t-3"));
        let metadata = fs::read_to_string(directory.join("partition.metadata")).unwrap();
        assert_eq!(metadata, "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA\n");

        let mut segment = SegmentWriter::create(&directory, 100).unwrap();
        let mut log = Vec::new();
        // The second batch is older than the first one, the third is the newest.
        for (base, timestamp) in [(100, 1000), (102, 500), (104, 2000), (106, 1500)] {
            let batch = batch(base, timestamp, 5000);
            segment
                .append(&record::parse(&batch).unwrap(), &batch)
                .unwrap();
            log.extend(batch);
        }
        segment.finish().unwrap();
        let file = |name: &str| fs::read(directory.join(name)).unwrap();
        assert_eq!(file("00000000000000000100.log"), log);

        let len = (log.len() / 4) as i32;
        let offsets: Vec<(i32, i32)> = file("00000000000000000100.index")
            .chunks_exact(8)
            .map(|e| {
                (
                    i32::from_be_bytes(e[..4].try_into().unwrap()),
                    i32::from_be_bytes(e[4..].try_into().unwrap()),
                )
            })
            .collect();
        assert_eq!(offsets, [(3, len), (5, 2 * len), (7, 3 * len)]);
        let times: Vec<(i64, i32)> = file("00000000000000000100.timeindex")
            .chunks_exact(12)
            .map(|e| {
                (
                    i64::from_be_bytes(e[..8].try_into().unwrap()),
                    i32::from_be_bytes(e[8..].try_into().unwrap()),
                )
            })
            .collect();
        assert_eq!(times, [(1000, 1), (2000, 5)]);

        let again = SegmentWriter::create(&directory, 100).err().unwrap();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn an_offset_that_has_rotted_costs_its_own_batch_only() {
        for rotten in [1 << 40, 30, 1] {
            let out = tempfile::tempdir().unwrap();
            let mut log = LogWriter {
                target: out.path().to_owned(),
                next: Some(0),
                ..LogWriter::default()
            };
            let mut to = None;
            for base in [0, 2, rotten, 6, 8] {
                log.batch(&Bytes::from(batch(base, 0, 10)), &mut to)
                    .unwrap();
            }
            assert_eq!((log.records, log.last), (8, 9), "{rotten}");
            assert_eq!(
                (&log.missing[..], log.problems.len()),
                (&["4..5".into()][..], 1)
            );
        }
    }

    #[test]
    fn small_batches_share_an_index_entry() {
        let mut indexes = Indexes::new(0);
        let mut entries = 0;
        for n in 0..100 {
            let batch = batch(2 * n, 1000 + n, 1000);
            let (offset, _) = indexes.add(&record::parse(&batch).unwrap()).unwrap();
            entries += usize::from(offset.is_some());
        }
        // Four batches of about 1.1 KB pass 4096 bytes.
        assert_eq!(entries, 24);
    }

    #[test]
    fn what_the_formats_cannot_say_is_refused() {
        let mut indexes = Indexes::new(0);
        let far = batch(i64::from(i32::MAX), 0, 1);
        assert!(indexes.add(&record::parse(&far).unwrap()).is_none());
        let mut indexes = Indexes::new(10);
        assert!(
            indexes
                .add(&record::parse(&batch(0, 0, 1)).unwrap())
                .is_none()
        );
    }
}
