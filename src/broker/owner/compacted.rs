//! What becomes of a partition when segments of it were compacted.

use super::Owner;
use crate::base::LogId;
use crate::log::compaction::CompactionPass;

impl Owner {
    /// What is left of a group of segments takes its place; all of it is durable. False if the log is gone or has
    /// changed meanwhile: then what was written is no good.
    pub fn end_group(&mut self, log: LogId, pass: &mut CompactionPass) -> bool {
        let Some(partition) = self.partitions.get_mut(&log) else {
            return false;
        };
        let slot = &mut self.slots[partition.slot];
        let Some(flush) = pass.end_group(&mut partition.log, &mut slot.store) else {
            return false;
        };
        partition.changed(flush, slot, &mut self.kept);
        true
    }

    /// Entries of producers as they are counted, and as all partitions have them.
    #[cfg(test)]
    pub fn producers_counted(&self) -> (usize, usize) {
        let partitions = self.partitions.values();
        let all = partitions.map(|it| it.log.kept().producers).sum();
        (self.kept.kept().producers, all)
    }
}
