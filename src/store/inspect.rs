//! Looking into a store from outside: what is in it, and whether it is whole.
//! Works on a recovered [`Store`] and changes nothing.

use super::Store;
use super::api::LogLabel;
use super::copies::Copy;
use super::remains::{LogRemains, Remains};
use crate::base::{LogId, SegmentId};

impl Store {
    /// The logs of the store, but those in which segments of others were being cleaned.
    pub fn logs(&self) -> impl Iterator<Item = (LogId, &LogLabel)> {
        let logs = self.map.logs.values().filter(|log| !log.id.is_cleaning());
        logs.map(|log| (log.id, &log.label))
    }

    /// What [`Remains::walk`] goes through, of all logs, ordered by topic and partition.
    #[must_use]
    pub fn remains(&self) -> Vec<LogRemains> {
        let mut logs: Vec<LogRemains> = self
            .logs()
            .map(|(id, label)| LogRemains {
                id,
                label: label.clone(),
                segments: self
                    .segments(id)
                    .map(|(segment, base, _)| {
                        let mut pieces = Vec::new();
                        self.read(id, segment, 0, usize::MAX, &mut pieces);
                        Remains::whole(segment, base, pieces)
                    })
                    .collect(),
            })
            .collect();
        logs.sort_by(|a, b| a.place().cmp(&b.place()));
        logs
    }

    /// The file ranges in which a segment lies: position in the file, position in the segment, length.
    pub fn extents(&self, log: LogId, segment: SegmentId) -> Vec<(u64, u64, u64)> {
        let segment = self.map.logs.get(&log).and_then(|log| log.segment(segment));
        segment.map_or_else(Vec::new, |segment| {
            segment
                .extents
                .iter()
                .map(|e| (e.chunk.pos, e.start, e.chunk.class.bytes()))
                .collect()
        })
    }

    /// Where the checkpoint lies, both copies of it: position in the file and bytes of each part.
    pub fn checkpoint_extents(&self) -> Vec<(u64, u64)> {
        let chunks = self.copies.iter().flat_map(Copy::chunks);
        chunks.map(|c| (c.pos, c.class.bytes())).collect()
    }
}
