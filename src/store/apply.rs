//! What an entry of the journal does to the logs of a store: to those of a flush that is written or that goes into
//! a checkpoint, to those that recovery finds, and to what salvage finds of them.

use super::journal::Entry;
use super::map::{LogEntry, Map, Run};

impl<S: Run> Map<S> {
    /// Applies an entry; returns the segments, and parts of such, that are gone with it. Bytes, of which the
    /// entry's segment has to be found and perhaps mended first, are taken by the segment itself.
    pub fn apply(&mut self, entry: &Entry) -> Vec<S> {
        match entry {
            Entry::Create { log, first, label } => {
                let mut created = LogEntry::new(*log, label.clone(), *first);
                let known = self.logs.remove(log);
                created.damage = known.as_ref().and_then(|known| known.damage);
                self.logs.insert(*log, created);
                segments(known)
            }
            Entry::Delete { log } => segments(self.logs.remove(log)),
            Entry::Roll { log, segment, base } => {
                if let Some(log) = self.logs.get_mut(log) {
                    log.roll(*segment, Some(*base));
                }
                Vec::new()
            }
            Entry::Truncate { log, cut, .. } => {
                let log = self.logs.get_mut(log);
                log.map_or_else(Vec::new, |log| log.truncate(cut))
            }
            Entry::DropBefore { log, segment } => {
                let log = self.logs.get_mut(log);
                log.map_or_else(Vec::new, |log| log.drop_before(*segment))
            }
            Entry::Note { .. }
            | Entry::Remark { .. }
            | Entry::Inline { .. }
            | Entry::Ref { .. } => Vec::new(),
        }
    }
}

fn segments<S>(log: Option<LogEntry<S>>) -> Vec<S> {
    log.map_or_else(Vec::new, |log| log.segments.into())
}
