//! Writes a partition the way Kafka keeps it on disk: `<topic>-<partition>/` with a
//! `.log`, an `.index` and a `.timeindex` per segment, which Kafka's own
//! `DumpLogSegments` reads and a Kafka broker can take over.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use millrace::record::BatchInfo;
use millrace::store::LogLabel;

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
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
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
