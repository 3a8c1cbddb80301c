//! The log's part of a checkpoint: everything that is not to be had from batches
//! after the checkpoint. Versioned, compact, and read back with suspicion.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::LeaderEpoch;

use super::Log;
use super::clean_marks::CleanMarks;
use super::codec::{Malformed, Reader, Writer};
use super::epochs::Epochs;
use super::index::{Index, IndexEntry};
use super::producers::{Before, Producer, Producers, Remembered};
use super::segment::{MaxTimestamp, Segment};
use super::transactions::{Transactions, read_place, write_place};

const VERSION: u8 = 11;
/// The same without which batches compaction left as they are.
const VERSION_WITHOUT_LEFT: u8 = 10;
/// The same without transactions: there were none.
const VERSION_NO_TRANSACTIONS: u8 = 9;
/// The same without how far it is cleaned.
const VERSION_NOT_CLEANED: u8 = 8;
/// The same without who wrote last before the log's start. What is lost is what was known to be committed, if the log
/// ends before that.
const VERSION_LOST_BY_END: u8 = 7;
/// The same without the watermark.
const VERSION_NO_WATERMARK: u8 = 6;
/// In place of an epoch that is not known.
const NO_EPOCH: i64 = -1;

impl Log {
    /// The log as of now, everything appended included, durable or not.
    #[must_use]
    pub fn state(&self) -> Bytes {
        let mut out = Writer::default();
        out.byte(VERSION);
        out.signed(self.log_start.0);
        out.signed(self.end.0);
        out.unsigned(self.segments.len() as u64);
        for segment in &self.segments {
            write_segment(&mut out, segment);
        }
        out.unsigned(self.epochs.entries().len() as u64);
        for (epoch, start) in self.epochs.entries() {
            out.signed(i64::from(epoch.0));
            out.signed(start.0);
        }
        out.unsigned(self.producers.len() as u64);
        for (id, producer) in self.producers.iter() {
            write_producer(&mut out, id, producer);
        }
        out.unsigned(self.producers.before().len() as u64);
        for before in self.producers.before() {
            write_before(&mut out, before);
        }
        self.write_committed(&mut out);
        let before = self.epochs.before();
        out.signed(before.map_or(NO_EPOCH, |epoch| epoch.0.into()));
        self.clean_marks.write(&mut out);
        self.transactions.write(&mut out);
        out.finish()
    }

    /// Takes over what a [`state`](Self::state) says, in place of all there is.
    pub(super) fn restore(&mut self, state: &[u8]) -> Result<(), Malformed> {
        let mut input = Reader::new(state);
        let version = input.byte()?;
        if !(VERSION_NO_WATERMARK..=VERSION).contains(&version) {
            return Err(Malformed::VERSION);
        }
        let has_transactions = version > VERSION_NO_TRANSACTIONS;
        self.log_start = input.offset()?;
        self.end = input.offset()?;
        self.segments.clear();
        for _ in 0..input.count()? {
            let segment = read_segment(&mut input, self.end_bytes())?;
            self.segments.push_back(segment);
        }
        let mut epochs = Vec::new();
        for _ in 0..input.count()? {
            epochs.push((LeaderEpoch(input.int()?), input.offset()?));
        }
        self.epochs =
            Epochs::restored(epochs).ok_or(Malformed("the leader epochs are not in order"))?;
        self.producers = Producers::default();
        for _ in 0..input.count()? {
            let (id, producer) = read_producer(&mut input, has_transactions)?;
            self.producers.restore(id, producer);
        }
        for _ in 0..input.count()? {
            let before = self.read_before(&mut input, has_transactions)?;
            self.producers.restore_before(before);
        }
        if self.segments.is_empty() {
            return Err(Malformed("it has no segment"));
        }
        match version {
            VERSION_NO_WATERMARK => self.committed_all(),
            VERSION_LOST_BY_END => self.read_committed(&mut input, false)?,
            _ => {
                self.read_committed(&mut input, true)?;
                let before = LeaderEpoch(input.int()?);
                let is_known = i64::from(before.0) != NO_EPOCH;
                self.epochs.restore_before(is_known.then_some(before));
            }
        }
        self.clean_marks = match version {
            ..=VERSION_NOT_CLEANED => CleanMarks::default(),
            VERSION_NO_TRANSACTIONS | VERSION_WITHOUT_LEFT => {
                CleanMarks::read_without_left(&mut input)?
            }
            _ => CleanMarks::read(&mut input)?,
        };
        self.transactions = match has_transactions {
            true => Transactions::read(&mut input)?,
            false => Transactions::default(),
        };
        input.end()
    }

    fn read_before(
        &self,
        input: &mut Reader<'_>,
        has_transactions: bool,
    ) -> Result<Before, Malformed> {
        let segment = input.segment()?;
        let known = self.segment(segment);
        let known = known.ok_or(Malformed("producers wrote to a segment that is not there"))?;
        let base = known.1.base;
        let mut producers = BTreeMap::new();
        for _ in 0..input.count()? {
            let (id, producer) = read_producer(input, has_transactions)?;
            producers.insert(id, producer);
        }
        Ok(Before {
            segment,
            base,
            producers,
        })
    }
}

pub(super) fn write_segment(out: &mut Writer, segment: &Segment) {
    out.unsigned(segment.id.0);
    out.signed(segment.base.0);
    out.unsigned(segment.len);
    out.unsigned(segment.batches);
    out.byte(u8::from(segment.has_gaps));
    out.unsigned(segment.largest_batch);
    out.signed(segment.first_timestamp);
    out.signed(segment.max.timestamp);
    out.signed(segment.max.base_offset.0);
    out.unsigned(segment.max.pos);
    out.unsigned(segment.max.len);
    out.signed(segment.created_ms);
    out.signed(segment.modified_ms);
    out.unsigned(u64::from(segment.index.interval()));
    let entries = segment.index.entries();
    out.unsigned(entries.len() as u64);
    let mut last = IndexEntry {
        delta: 0,
        pos: 0,
        max_before: 0,
    };
    for entry in entries {
        out.unsigned(u64::from(entry.delta - last.delta));
        out.unsigned(u64::from(entry.pos - last.pos));
        out.signed(entry.max_before.wrapping_sub(last.max_before));
        last = *entry;
    }
}

pub(super) fn read_segment(input: &mut Reader<'_>, start: u64) -> Result<Segment, Malformed> {
    let id = input.segment()?;
    let mut segment = Segment::new(id, input.offset()?, start, 0);
    segment.len = input.uint::<u32>()?.into();
    segment.batches = input.unsigned()?;
    segment.has_gaps = input.flag()?;
    segment.largest_batch = input.unsigned()?;
    segment.first_timestamp = input.signed()?;
    segment.max = MaxTimestamp {
        timestamp: input.signed()?,
        base_offset: input.offset()?,
        pos: input.unsigned()?,
        len: input.unsigned()?,
    };
    segment.created_ms = input.signed()?;
    segment.modified_ms = input.signed()?;
    let interval = input.uint()?;
    let count = input.count()?;
    let mut entries = Vec::new();
    let mut last = IndexEntry {
        delta: 0,
        pos: 0,
        max_before: 0,
    };
    for _ in 0..count {
        last = read_index_entry(input, last)
            .ok_or(Malformed("an index entry of a segment is malformed"))?;
        entries.push(last);
    }
    segment.index = Index::restored(interval, entries)
        .ok_or(Malformed("the index of a segment is not in order"))?;
    Ok(segment)
}

fn read_index_entry(input: &mut Reader<'_>, last: IndexEntry) -> Option<IndexEntry> {
    Some(IndexEntry {
        delta: last.delta.checked_add(input.uint().ok()?)?,
        pos: last.pos.checked_add(input.uint().ok()?)?,
        max_before: last.max_before.wrapping_add(input.signed().ok()?),
    })
}

pub(super) fn write_producer(out: &mut Writer, id: i64, producer: &Producer) {
    out.signed(id);
    out.signed(i64::from(producer.epoch));
    out.unsigned(producer.batches().len() as u64);
    for batch in producer.batches() {
        out.signed(i64::from(batch.base_sequence));
        out.signed(i64::from(batch.last_delta));
        out.signed(batch.base_offset.0);
        out.signed(batch.timestamp);
    }
    out.byte(u8::from(producer.transaction.is_some()));
    if let Some(first) = &producer.transaction {
        write_place(out, first);
    }
    out.signed(i64::from(producer.coordinator_epoch));
    out.byte(u8::from(producer.heard.is_some()));
    if let Some((offset, timestamp)) = producer.heard {
        out.signed(offset.0);
        out.signed(timestamp);
    }
}

/// What [`write_producer`] wrote; builds without transactions wrote nothing of them.
pub(super) fn read_producer(
    input: &mut Reader<'_>,
    has_transactions: bool,
) -> Result<(i64, Producer), Malformed> {
    let id = input.signed()?;
    let mut producer = Producer::new(input.int()?);
    for _ in 0..input.count()? {
        let batch = Remembered {
            base_sequence: input.int()?,
            last_delta: input.int()?,
            base_offset: input.offset()?,
            timestamp: input.signed()?,
        };
        let in_bounds = batch.base_sequence >= 0
            && batch.last_delta >= 0
            && batch
                .base_offset
                .0
                .checked_add(i64::from(batch.last_delta))
                .is_some();
        if !in_bounds {
            return Err(Malformed("a producer's batch is out of range"));
        }
        producer.push(batch);
    }
    if has_transactions {
        if input.flag()? {
            producer.transaction = Some(read_place(input)?);
        }
        producer.coordinator_epoch = input.int()?;
        if input.flag()? {
            producer.heard = Some((input.offset()?, input.signed()?));
        }
    }
    Ok((id, producer))
}

fn write_before(out: &mut Writer, before: &Before) {
    out.unsigned(before.segment.0);
    out.unsigned(before.producers.len() as u64);
    for (id, producer) in &before.producers {
        write_producer(out, *id, producer);
    }
}
