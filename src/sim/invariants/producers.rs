//! What idempotence promises: each record once, in the order of its producer.

use super::invariant::{By, Invariant};
use crate::sim::fact::{Fact, Moment, Place};
use crate::sim::values::Value;

/// Offsets of the records of one producer in one partition, by their number.
type Offsets = By<u32, i64>;

/// The records of an idempotent producer lie in a partition in the order in which it made them,
/// and none is missing between two of them.
#[derive(Debug, Default)]
pub struct OrderPerProducer {
    offsets: By<(Place, u32), Offsets>,
}

impl OrderPerProducer {
    fn place(&mut self, at: Place, value: Value, offset: i64) -> Result<(), String> {
        let offsets = self.offsets.entry((at, value.producer)).or_default();
        if offsets.insert(value.number, offset).is_some() {
            return Ok(());
        }
        let before = offsets.range(..value.number).next_back();
        let after = offsets.range(value.number + 1..).next();
        let ordered = before.is_none_or(|(_, other)| *other < offset)
            && after.is_none_or(|(_, other)| *other > offset);
        if ordered {
            return Ok(());
        }
        Err(format!(
            "{at}: {value} at offset {offset}, but the one before is at {before:?}, the one after at {after:?}"
        ))
    }

    fn audited(&self, at: Place, log_start: i64) -> Result<(), String> {
        let from = (at, 0);
        let of_place = self
            .offsets
            .range(from..)
            .take_while(|((place, _), _)| *place == at);
        for ((_, producer), offsets) in of_place {
            let mut last = None;
            for (&number, _) in offsets.iter().filter(|(_, offset)| **offset >= log_start) {
                if last.is_some_and(|last: u32| last + 1 != number) {
                    return Err(format!(
                        "{at}: record {number} of producer {producer} follows {last:?}"
                    ));
                }
                last = Some(number);
            }
        }
        Ok(())
    }
}

impl Invariant for OrderPerProducer {
    fn name(&self) -> &'static str {
        "OrderPerProducer"
    }

    fn see(&mut self, _now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::Acked { at, records } | Fact::Read { at, records, .. } => records
                .iter()
                .filter(|record| record.value.is_exactly_once())
                .try_for_each(|record| self.place(at, record.value, record.offset)),
            Fact::Audited { at, log_start, .. } => self.audited(at, log_start),
            _ => Ok(()),
        }
    }
}

/// A record of an idempotent producer has one offset.
#[derive(Debug, Default)]
pub struct NoDuplicateWithIdempotence {
    offsets: By<(Place, Value), i64>,
}

impl Invariant for NoDuplicateWithIdempotence {
    fn name(&self) -> &'static str {
        "NoDuplicateWithIdempotence"
    }

    fn see(&mut self, _now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        let (Fact::Acked { at, records } | Fact::Read { at, records, .. }) = *fact else {
            return Ok(());
        };
        for record in records.iter().filter(|r| r.value.is_exactly_once()) {
            let known = self
                .offsets
                .entry((at, record.value))
                .or_insert(record.offset);
            if *known != record.offset {
                return Err(format!(
                    "{at}: {} is at offset {known} and at {}",
                    record.value, record.offset
                ));
            }
        }
        Ok(())
    }
}

/// No producer id is given to two producers.
#[derive(Debug, Default)]
pub struct ProducerIdsAreUnique {
    given: By<i64, ()>,
}

impl Invariant for ProducerIdsAreUnique {
    fn name(&self) -> &'static str {
        "ProducerIdsAreUnique"
    }

    fn see(&mut self, _now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::ProducerId(id) if self.given.insert(id, ()).is_some() => {
                Err(format!("producer id {id} was given twice"))
            }
            _ => Ok(()),
        }
    }
}
