//! What compaction promises.

use super::invariant::{By, Invariant};
use crate::sim::fact::{Fact, Moment, Place, Placed, Use};
use crate::sim::values::Value;

/// What is missing where it was read was followed by a record of the same key, or is a tombstone whose time was over;
/// and when that is missing, and nothing followed it, nothing that it deleted is there any more. (What followed says
/// what the key is: a replica that catches up with one that is cleaned gets that, and may not get the tombstone.)
#[derive(Debug, Default)]
pub struct LastValueStays {
    /// Topics that are compacted, and whether their tombstones stay.
    compacted: By<u32, bool>,
    partitions: By<Place, Partition>,
}

#[derive(Debug, Default)]
struct Partition {
    /// What is known to be, or to have been, at each offset.
    known: By<i64, Value>,
    /// What may be there, and where is not known.
    sent: By<Value, ()>,
    /// Offsets at which nothing was read.
    missing: By<i64, ()>,
    /// Since an audit has begun: when they were first known to be missing.
    since: Option<By<i64, Moment>>,
}

impl Partition {
    fn learn(&mut self, records: &[Placed]) {
        for record in records {
            self.known.insert(record.offset, record.value);
            self.sent.remove(&record.value);
        }
    }

    fn read(
        &mut self,
        (asked, now): (Moment, Moment),
        (from, next): (i64, i64),
        records: &[Placed],
    ) -> Result<(), String> {
        self.learn(records);
        let gone = self.known.range(from..next);
        let gone = gone.filter(|(offset, _)| {
            records
                .binary_search_by_key(*offset, |record| record.offset)
                .is_err()
        });
        let gone: Vec<i64> = gone.map(|(offset, _)| *offset).collect();
        self.missing.extend(gone.iter().map(|offset| (*offset, ())));
        for since in self.since.iter_mut() {
            for offset in &gone {
                since.entry(*offset).or_insert(now);
            }
        }
        let since = self.since.as_ref();
        let gone = |offset| {
            since
                .and_then(|it| it.get(offset))
                .is_some_and(|when| *when < asked)
        };
        let last = self.last();
        for Placed {
            offset: at, value, ..
        } in records
        {
            let deleted = last.get(&value.key()).filter(|offset| {
                let by = self.known.get(offset);
                *offset > at && by.is_some_and(|by| by.is_tombstone()) && gone(offset)
            });
            if let Some(offset) = deleted.filter(|_| !self.may_be_followed(*value)) {
                return Err(format!(
                    "{value} at offset {at} was deleted at {offset}, which is gone, and is still there"
                ));
            }
        }
        Ok(())
    }

    /// The last one of each key that is known.
    fn last(&self) -> By<u8, i64> {
        let known = self.known.iter();
        known
            .map(|(offset, value)| (value.key(), *offset))
            .collect()
    }

    /// Whether one of the same key was sent, and is nowhere that is known.
    fn may_be_followed(&self, value: Value) -> bool {
        self.sent.keys().any(|sent| sent.key() == value.key())
    }

    fn audited(&self, keeps_tombstones: bool) -> Result<(), String> {
        let last = self.last();
        for offset in self.missing.keys() {
            let Some(value) = self.known.get(offset) else {
                continue;
            };
            let is_last = last.get(&value.key()) == Some(offset);
            let may_go = value.is_tombstone() && !keeps_tombstones;
            if is_last && !may_go && !self.may_be_followed(*value) {
                return Err(format!(
                    "{value} at offset {offset} is gone, and is the last one of key {}",
                    value.key()
                ));
            }
        }
        Ok(())
    }
}

impl LastValueStays {
    fn at(&mut self, at: Place) -> Option<(bool, &mut Partition)> {
        let keeps_tombstones = *self.compacted.get(&at.topic)?;
        Some((keeps_tombstones, self.partitions.entry(at).or_default()))
    }
}

impl Invariant for LastValueStays {
    fn name(&self) -> &'static str {
        "LastValueStays"
    }

    fn see(&mut self, now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        let (Fact::Sent { at, .. }
        | Fact::Acked { at, .. }
        | Fact::Read { at, .. }
        | Fact::Auditing { at }
        | Fact::Audited { at, .. }) = *fact
        else {
            if let Fact::Created { topic, used, .. } = *fact
                && let Use::Compacted { keeps_tombstones } = used
            {
                self.compacted.insert(topic, keeps_tombstones);
            }
            return Ok(());
        };
        let Some((keeps_tombstones, partition)) = self.at(at) else {
            return Ok(());
        };
        let judged = match *fact {
            Fact::Sent { first, count, .. } => {
                for number in first.number..first.number + count {
                    let value = Value { number, ..first };
                    partition.sent.insert(value, ());
                }
                Ok(())
            }
            Fact::Acked { records, .. } => {
                partition.learn(records);
                Ok(())
            }
            Fact::Read {
                asked,
                from,
                next,
                records,
                ..
            } => partition.read((asked, now), (from, next), records),
            Fact::Auditing { .. } => {
                partition.since = Some(By::default());
                Ok(())
            }
            _ => partition.audited(keeps_tombstones),
        };
        judged.map_err(|what| format!("{at}: {what}"))
    }
}
