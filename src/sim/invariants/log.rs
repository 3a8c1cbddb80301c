//! What a partition promises to those who write and read it.

use super::invariant::{By, Growing, Invariant};
use crate::sim::fact::{Fact, Moment, Place, Process, Use};
use crate::sim::values::Value;

/// An acknowledged record is found at its offset by every later read, until it is deleted on purpose.
#[derive(Debug, Default)]
pub struct AckedIsNeverLost {
    /// The offset after the last acknowledged one.
    ends: By<Place, Growing>,
    /// Offsets before this may be gone because of DeleteRecords.
    deletable: By<Place, i64>,
    expiring: By<u32, ()>,
    /// Topics that have gaps between their records.
    sparse: By<u32, ()>,
    /// Topics with several replicas, of which a new leader may tell for a while that less is committed. It does not
    /// say so to who asks for the end.
    replicated: By<u32, ()>,
}

impl AckedIsNeverLost {
    fn reaches(&self, at: Place, asked: Moment, end: i64) -> Result<(), String> {
        match self.ends.get(&at).and_then(|ends| ends.at(asked)) {
            Some(acked) if acked > end => Err(format!(
                "{at}: offset {} was acknowledged, but the log ends at {end}",
                acked - 1
            )),
            _ => Ok(()),
        }
    }

    fn starts(&self, at: Place, start: i64) -> Result<(), String> {
        let deletable = self.deletable.get(&at).copied().unwrap_or(0);
        if start > deletable && !self.expiring.contains_key(&at.topic) {
            return Err(format!(
                "{at}: the log starts at {start}, but only offsets before {deletable} were to be deleted"
            ));
        }
        Ok(())
    }
}

impl Invariant for AckedIsNeverLost {
    fn name(&self) -> &'static str {
        "AckedIsNeverLost"
    }

    fn see(&mut self, now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::Created {
                topic,
                used,
                replicas,
                ..
            } => {
                if used == Use::Expiring {
                    self.expiring.insert(topic, ());
                }
                if !used.is_dense() {
                    self.sparse.insert(topic, ());
                }
                if replicas > 1 {
                    self.replicated.insert(topic, ());
                }
                Ok(())
            }
            Fact::Deleting { at, before } => {
                let known = self.deletable.entry(at).or_default();
                *known = before.max(*known);
                Ok(())
            }
            Fact::Acked { at, records } => {
                let end = records.last().map_or(0, |last| last.offset + 1);
                self.ends.entry(at).or_default().learn(now, end);
                Ok(())
            }
            Fact::Latest { at, asked, offset } => self.reaches(at, asked, offset),
            Fact::Earliest { at, offset, .. } => self.starts(at, offset),
            Fact::Read {
                at,
                asked,
                from,
                records,
                high_watermark,
                log_start,
                ..
            } => {
                let has_gaps = self.sparse.contains_key(&at.topic);
                let mut expected = from;
                for record in records {
                    if record.offset < expected || record.offset > expected && !has_gaps {
                        return Err(format!(
                            "{at}: read from {from}: offset {} follows where {expected} should be",
                            record.offset
                        ));
                    }
                    expected = record.offset + 1;
                }
                self.starts(at, log_start.unwrap_or(0))?;
                if self.replicated.contains_key(&at.topic) {
                    return Ok(());
                }
                self.reaches(at, asked, high_watermark)
            }
            Fact::Audited { at, end, .. } => self.reaches(at, now, end),
            _ => Ok(()),
        }
    }
}

/// An offset that a reader or an acknowledgement has shown has one record for ever.
#[derive(Debug, Default)]
pub struct OneValuePerOffset {
    known: By<Place, By<i64, Value>>,
}

impl Invariant for OneValuePerOffset {
    fn name(&self) -> &'static str {
        "OneValuePerOffset"
    }

    fn see(&mut self, _now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        let (Fact::Acked { at, records } | Fact::Read { at, records, .. }) = *fact else {
            return Ok(());
        };
        let known = self.known.entry(at).or_default();
        for record in records {
            let before = known.entry(record.offset).or_insert(record.value);
            if *before != record.value {
                return Err(format!(
                    "{at}: offset {} was {before} and is {}",
                    record.offset, record.value
                ));
            }
        }
        Ok(())
    }
}

/// Only what was sent to a partition is read from it.
#[derive(Debug, Default)]
pub struct NothingIsMadeUp {
    /// How many records a producer has sent to a partition.
    sent: By<(Place, u32), u32>,
}

impl Invariant for NothingIsMadeUp {
    fn name(&self) -> &'static str {
        "NothingIsMadeUp"
    }

    fn see(&mut self, _now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::Sent { at, first, count } => {
                let sent = self.sent.entry((at, first.producer)).or_default();
                *sent = (*sent).max(first.number + count);
            }
            Fact::Read { at, records, .. } => {
                for record in records {
                    let sent = self.sent.get(&(at, record.value.producer));
                    if sent.is_none_or(|sent| record.value.number >= *sent) {
                        return Err(format!(
                            "{at}: offset {} holds {}, which nobody sent there",
                            record.offset, record.value
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// A high watermark, once told, is never lower in an answer to a later question, nor in the shard. A node of a cluster
/// may have to learn after a start how much is committed, and so does a replica that is not in sync and begins anew.
#[derive(Debug, Default)]
pub struct WatermarkNeverGoesBack {
    told: By<Place, Growing>,
    shards: By<(Process, u64), i64>,
    replicated: By<u32, ()>,
}

impl Invariant for WatermarkNeverGoesBack {
    fn name(&self) -> &'static str {
        "WatermarkNeverGoesBack"
    }

    fn see(&mut self, now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        let (at, asked, offset) = match *fact {
            Fact::Created {
                topic, replicas, ..
            } if replicas > 1 => {
                self.replicated.insert(topic, ());
                return Ok(());
            }
            // Of a new leader it may be too low for a while: it is not judged by itself.
            Fact::Read {
                at, high_watermark, ..
            } if self.replicated.contains_key(&at.topic) => {
                let told = self.told.entry(at).or_default();
                told.learn(now, high_watermark);
                return Ok(());
            }
            Fact::Read {
                at,
                asked,
                high_watermark,
                ..
            } => (at, asked, high_watermark),
            Fact::Latest { at, asked, offset } => (at, asked, offset),
            Fact::ShardWatermark {
                of,
                log,
                offset,
                is_behind,
            } => {
                let known = self.shards.entry((of, log.0)).or_default();
                if offset < *known && !is_behind {
                    let node = of.node;
                    return Err(format!(
                        "node {node}, log {log}: from {known} to {offset} in the shard"
                    ));
                }
                *known = offset;
                return Ok(());
            }
            _ => return Ok(()),
        };
        let told = self.told.entry(at).or_default();
        if let Some(known) = told.at(asked)
            && offset < known
        {
            return Err(format!("{at}: from {known} to {offset}"));
        }
        told.learn(now, offset);
        Ok(())
    }
}

/// Records whose deletion was acknowledged do not come back.
#[derive(Debug, Default)]
pub struct DeletedStaysDeleted {
    starts: By<Place, Growing>,
}

impl DeletedStaysDeleted {
    fn check(&self, at: Place, asked: Moment, start: i64) -> Result<(), String> {
        match self.starts.get(&at).and_then(|starts| starts.at(asked)) {
            Some(deleted) if start < deleted => Err(format!(
                "{at}: deleted before {deleted}, but the log starts at {start}"
            )),
            _ => Ok(()),
        }
    }
}

impl Invariant for DeletedStaysDeleted {
    fn name(&self) -> &'static str {
        "DeletedStaysDeleted"
    }

    fn see(&mut self, now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::Deleted { at, before } => {
                self.starts.entry(at).or_default().learn(now, before);
                Ok(())
            }
            Fact::Earliest { at, asked, offset } => self.check(at, asked, offset),
            Fact::Read {
                at,
                asked,
                log_start: Some(start),
                ..
            } => self.check(at, asked, start),
            _ => Ok(()),
        }
    }
}
