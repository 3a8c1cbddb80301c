//! What a lookup by time promises.

use super::invariant::{By, Invariant};
use crate::sim::fact::{Fact, Moment, Place, Use};

/// The answer to "the first record at or after a time" is such a record, and no earlier offset that
/// was known when it was asked is one. Partitions from which records are deleted are not judged.
#[derive(Debug, Default)]
pub struct FirstAtOrAfterTime {
    /// Timestamps by offset, with the moment at which they became known.
    known: By<Place, By<i64, (Moment, i64)>>,
    unjudged_topics: By<u32, ()>,
    unjudged: By<Place, ()>,
}

impl Invariant for FirstAtOrAfterTime {
    fn name(&self) -> &'static str {
        "FirstAtOrAfterTime"
    }

    fn see(&mut self, now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::Created { topic, used, .. } if used == Use::Expiring || !used.is_dense() => {
                self.unjudged_topics.insert(topic, ());
            }
            Fact::Deleting { at, .. } => {
                self.unjudged.insert(at, ());
                self.known.remove(&at);
            }
            Fact::Acked { at, records } | Fact::Read { at, records, .. } => {
                if self.unjudged.contains_key(&at) || self.unjudged_topics.contains_key(&at.topic) {
                    return Ok(());
                }
                let known = self.known.entry(at).or_default();
                for record in records {
                    let Some(timestamp) = record.timestamp else {
                        continue;
                    };
                    let (_, before) = known.entry(record.offset).or_insert((now, timestamp));
                    if *before != timestamp {
                        return Err(format!(
                            "{at}: offset {} had the timestamp {before} and has {timestamp}",
                            record.offset
                        ));
                    }
                }
            }
            Fact::AtTime {
                at,
                asked,
                time,
                found,
            } => return self.judge(at, asked, time, found),
            _ => {}
        }
        Ok(())
    }
}

impl FirstAtOrAfterTime {
    fn judge(
        &self,
        at: Place,
        asked: Moment,
        time: i64,
        found: Option<(i64, i64)>,
    ) -> Result<(), String> {
        let Some(known) = self.known.get(&at) else {
            return Ok(());
        };
        if let Some((offset, timestamp)) = found {
            let really = known.get(&offset).map_or(timestamp, |(_, known)| *known);
            if really != timestamp || timestamp < time {
                return Err(format!(
                    "{at}: for time {time}: offset {offset} with timestamp {timestamp}, which is {really}"
                ));
            }
        }
        let end = found.map_or(i64::MAX, |(offset, _)| offset);
        let missed = known
            .range(..end)
            .find(|(_, (when, timestamp))| *when <= asked && *timestamp >= time);
        match missed {
            Some((offset, (_, timestamp))) => Err(format!(
                "{at}: for time {time}: {found:?}, but offset {offset} has timestamp {timestamp}"
            )),
            None => Ok(()),
        }
    }
}
