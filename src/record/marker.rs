//! The end of a transaction in a log: a control batch of one record, which says whether it was committed (KIP-98).

use bytes::Bytes;

use super::batch::parse;
use super::builder::BatchBuilder;
use super::codec::Codec;
use super::records::records;

/// Version of key and value, both of Kafka's.
const VERSION: i16 = 0;
/// Types of control records; there are others, which end nothing.
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
/// No marker is longer than this; later versions may have more in them.
const RECORD_BYTES_MAX: usize = 4096;

/// What the marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMarker {
    /// Committed, or else aborted.
    pub commits: bool,
    /// Epoch of the coordinator that has decided it.
    pub coordinator_epoch: i32,
}

impl EndMarker {
    /// The batch for the log of a partition in which this producer's transaction ends.
    #[must_use]
    pub fn batch(self, producer_id: i64, producer_epoch: i16, wall_ms: i64) -> Bytes {
        let kind = if self.commits { COMMIT } else { ABORT };
        let key = [VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
        let epoch = self.coordinator_epoch.to_be_bytes();
        let value = [&VERSION.to_be_bytes()[..], &epoch].concat();
        let mut builder = BatchBuilder::new(Codec::None, wall_ms)
            .producer(producer_id, producer_epoch, -1)
            .transactional()
            .control();
        builder.push(wall_ms, Some(&key), Some(&value), &[]);
        builder.build()
    }

    /// What a batch says that ends a transaction; `None` for any other, also for one that compaction has emptied.
    #[must_use]
    pub fn read(batch: &[u8]) -> Option<Self> {
        let info = parse(batch).ok()?;
        if !info.is_control() || info.len > RECORD_BYTES_MAX {
            return None;
        }
        let record = records(batch, RECORD_BYTES_MAX).ok()?.next()?.ok()?;
        let (key, value) = (record.key?, record.value?);
        let field = |bytes: &Bytes, at| bytes.get(at..)?.first_chunk().copied();
        let kind = i16::from_be_bytes(field(&key, 2)?);
        let epoch = value.get(2..)?.first_chunk().copied()?;
        let known = kind == ABORT || kind == COMMIT;
        known.then_some(Self {
            commits: kind == COMMIT,
            coordinator_epoch: i32::from_be_bytes(epoch),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_survive() {
        for (commits, coordinator_epoch) in [(true, 7), (false, i32::MAX)] {
            let marker = EndMarker {
                commits,
                coordinator_epoch,
            };
            let batch = marker.batch(11, 3, 1_700_000_000_000);
            // As long as Kafka's.
            assert_eq!(batch.len(), 78);
            let info = parse(&batch).unwrap();
            assert!(info.is_control() && info.is_transactional());
            assert_eq!((info.producer_id, info.producer_epoch), (11, 3));
            assert_eq!((info.base_sequence, info.records), (-1, 1));
            assert_eq!(EndMarker::read(&batch), Some(marker));
            for len in 0..batch.len() {
                assert_eq!(EndMarker::read(&batch[..len]), None);
            }
        }
    }

    #[test]
    fn what_is_no_marker() {
        let mut builder = BatchBuilder::new(Codec::None, 0).control();
        builder.push(0, Some(&[0, 0, 0, 2]), Some(&[0, 0, 0, 0, 0, 0]), &[]);
        assert_eq!(EndMarker::read(&builder.build()), None, "another kind");
        let emptied = BatchBuilder::new(Codec::None, 0).control().build();
        assert_eq!(EndMarker::read(&emptied), None);
        let mut builder = BatchBuilder::new(Codec::None, 0);
        builder.push(0, Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 0, 0, 0]), &[]);
        assert_eq!(EndMarker::read(&builder.build()), None, "a record");
    }
}
