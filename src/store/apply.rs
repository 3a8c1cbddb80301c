//! What an entry of the journal does to the logs of a store: to those of a flush that is written or that goes into
//! a checkpoint, to those that recovery finds, and to what salvage finds of them.

use super::journal::Entry;
use super::map::{Damage, LogEntry, Map, Run};

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
            Entry::Clean { log, cleaned, .. } => {
                let clean = self.logs.get(&log.cleaning());
                let damage = clean.map_or(Some(Damage::Contradiction), |clean| clean.damage);
                let Some(entry) = self.logs.get_mut(log) else {
                    return segments(self.logs.remove(&log.cleaning()));
                };
                // What it replaces is still better than nothing.
                if damage.is_some() || !entry.can_replace(cleaned) {
                    entry.damage = entry.damage.or(damage).or(Some(Damage::Contradiction));
                    return segments(self.logs.remove(&log.cleaning()));
                }
                let clean = self.logs.remove(&log.cleaning());
                let clean = clean.and_then(|mut clean| clean.segments.pop_front());
                let entry = self.logs.get_mut(log).zip(clean);
                entry.map_or_else(Vec::new, |(log, clean)| log.replace(cleaned, clean))
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
