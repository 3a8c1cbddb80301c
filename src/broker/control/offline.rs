//! The metadata of a node that does not run, for who makes its stores or looks into them from outside.
//!
//! Written is what a release before the quorum wrote, which a start takes over as the first snapshot (see `load`): a
//! new node needs no more.

use bytes::Bytes;

use super::logs;
use super::snapshot::{SnapshotReader, replay_part};
use crate::base::LogId;
use crate::broker::own::run;
use crate::controller::{
    FEATURE_LEVEL, Image, METADATA_LOG, METADATA_SNAPSHOT_LOG, MetadataRecord,
};
use crate::quorum::{EntryIndex, Payload};
use crate::record::{self, BatchBuilder, Codec};
use crate::store::LogLabel;

/// What the log of the metadata is of, in store-0.
#[must_use]
pub fn metadata_label() -> LogLabel {
    logs::label(METADATA_LOG)
}

/// Records as a batch of the log of the metadata of a new node. They are to be no more than a change may have.
#[must_use]
pub fn metadata_batch(records: &[MetadataRecord], wall_ms: i64) -> Bytes {
    let mut batch = BatchBuilder::new(Codec::None, wall_ms);
    for record in records {
        batch.push(wall_ms, None, Some(&record.encode(FEATURE_LEVEL)), &[]);
    }
    batch.build()
}

/// Reads the logs of the metadata of a store, those of [`METADATA_LOGS`](crate::controller::METADATA_LOGS), batch by
/// batch: all of the snapshots first.
#[derive(Debug)]
pub struct MetadataReader {
    snapshots: SnapshotReader,
    /// The image with what follows the snapshot, and the last entry that it has.
    image: Option<(Image, EntryIndex)>,
}

impl Default for MetadataReader {
    fn default() -> Self {
        Self {
            snapshots: SnapshotReader::new(Image::default()),
            image: None,
        }
    }
}

impl MetadataReader {
    /// Takes the next batch of a log.
    ///
    /// # Errors
    /// It is none that this release writes there.
    pub fn take(&mut self, log: LogId, batch: &[u8]) -> Result<(), String> {
        match log {
            METADATA_SNAPSHOT_LOG => self.snapshots.take(batch),
            METADATA_LOG => self.entry(batch),
            // What the replica has promised: a node that is alone has committed all that it has.
            _ => Ok(()),
        }
    }

    fn entry(&mut self, batch: &[u8]) -> Result<(), String> {
        let info = record::parse(batch).map_err(|error| error.to_string())?;
        let (image, last) = self.image.get_or_insert_with(|| {
            let whole = self.snapshots.whole.take();
            whole.map_or_else(
                || (Image::default(), EntryIndex::ZERO),
                |(mark, image)| (image, mark.id.index),
            )
        });
        // Older ones have no key, which tells their kind.
        if logs::record_of(batch).is_ok() {
            let entry = logs::entry_of(&info, batch)?;
            return match entry.payload {
                Payload::Records(records) if entry.id.index > *last => {
                    *last = entry.id.index;
                    replay_part(image, records)
                }
                _ => Ok(()),
            };
        }
        if *last > EntryIndex::ZERO {
            // What the snapshot was made of.
            return Ok(());
        }
        run::feed(batch, &mut |_, value, _| {
            let value = value.ok_or("a metadata record without a value")?;
            let record = MetadataRecord::decode(value).map_err(|error| error.to_string())?;
            image.replay(&record).map_err(|error| error.to_string())
        })
    }

    /// What all of it comes to.
    #[must_use]
    pub fn end(self) -> Image {
        let snapshot = || self.snapshots.whole.map(|(_, image)| image);
        match self.image {
            Some((image, _)) => image,
            None => snapshot().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LeaderEpoch, Offset};
    use crate::broker::control::testing::topic;
    use crate::controller::{METADATA_STATE_LOG, RecordList};
    use crate::quorum::HardState;

    fn names(image: &Image) -> Vec<String> {
        let topics = image.topics();
        topics.map(|topic| topic.name.to_string()).collect()
    }

    fn entry(index: i64, payload: &Payload) -> Vec<u8> {
        let mut batch = logs::entry_batch(payload, 0).to_vec();
        record::stamp(&mut batch, Offset(index), LeaderEpoch(1));
        batch
    }

    fn records(records: &[MetadataRecord]) -> Payload {
        let mut list = RecordList::default();
        for record in records {
            list.push(record, FEATURE_LEVEL);
        }
        Payload::Records(list.into_bytes())
    }

    #[test]
    fn what_is_written_is_read() {
        let mut reader = MetadataReader::default();
        let batch = metadata_batch(&[topic(1), topic(2)], 5);
        reader.take(METADATA_LOG, &batch).unwrap();
        assert_eq!(names(&reader.end()), ["topic-1", "topic-2"]);
        assert!(names(&MetadataReader::default().end()).is_empty());
    }

    #[test]
    fn entries_of_the_quorum_are_read() {
        let mut reader = MetadataReader::default();
        let state = logs::state_batch(&HardState::default(), 0);
        reader.take(METADATA_STATE_LOG, &state).unwrap();
        for (index, payload) in [(1, Payload::LeaderChange), (2, records(&[topic(7)]))] {
            reader.take(METADATA_LOG, &entry(index, &payload)).unwrap();
        }
        assert_eq!(names(&reader.end()), ["topic-7"]);
        assert!(
            MetadataReader::default()
                .take(METADATA_LOG, b"none")
                .is_err()
        );
    }
}
