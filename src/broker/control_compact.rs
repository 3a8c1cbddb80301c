//! Compaction of `__consumer_offsets`. The coordinator knows what is valid, so
//! nothing has to be read: its records are appended once more in a new segment, and
//! when they are durable all that is before them is dropped.
//!
//! A crash in between leaves the old records and (some of) the new ones behind them,
//! which are the same once more: it is replayed into the same state.

use bytes::Bytes;

use super::Fx;
use super::control::Control;
use super::control_groups::OFFSETS_TOPIC;
use super::owner::{Ack, Owner};
use crate::base::{IdMap, LogId, Now, Offset};
use crate::group::Record;
use crate::record::{BatchBuilder, Codec};

/// Keys and values of one batch, about.
const BATCH_BYTES: usize = 256 << 10;

/// A partition that is being compacted.
#[derive(Debug)]
struct Running {
    partition: i32,
    log: LogId,
    /// Where the valid records begin.
    first: Offset,
}

/// What is going on, and when to look at a partition again.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    /// By the control token of the flush that is waited for.
    running: IdMap<u64, Running>,
    /// Size of a partition from which on it is looked at, if that is not the configured one.
    due_bytes: IdMap<i32, u64>,
}

impl Compaction {
    pub fn is_quiet(&self) -> bool {
        self.running.is_empty()
    }
}

impl Control {
    /// Compacts a partition if it is time. Called when something of it has become durable, so that a
    /// moment comes at which nothing is on its way.
    pub fn compact_offsets(
        &mut self,
        now: Now,
        partition: i32,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        let topic = self.image().topic(OFFSETS_TOPIC);
        let Some(log) = topic.and_then(|t| t.partition(partition)).map(|p| p.log) else {
            return;
        };
        let least = self.config.millrace_offsets_compact_bytes.unsigned_abs();
        let due = self.compaction.due_bytes.get(&partition).copied();
        let size = owner.partitions.get(&log).map_or(0, |p| p.log.size_bytes());
        let is_running = |running: &Running| running.partition == partition;
        if size < due.unwrap_or(least) || self.compaction.running.values().any(is_running) {
            return;
        }
        // To look at all groups costs something: if it is in vain, the next look is some bytes away.
        let again = size + least / 8;
        let Some(records) = self.groups.snapshot(partition) else {
            self.compaction.due_bytes.insert(partition, again);
            return;
        };
        let batches = batches(now, &records);
        let valid: usize = batches.iter().map(Bytes::len).sum();
        let worth_it = 2 * valid as u64 <= size;
        let next = if worth_it && owner.has_room(log, valid, false) {
            self.rewrite_offsets(now, partition, log, batches, owner, fx);
            2 * valid as u64
        } else {
            again.max(2 * valid as u64)
        };
        self.compaction.due_bytes.insert(partition, next.max(least));
    }

    fn rewrite_offsets(
        &mut self,
        now: Now,
        partition: i32,
        log: LogId,
        batches: Vec<Bytes>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        match owner.rewrite_internal(now, log, batches) {
            Ok((slot, first)) => {
                let token = self.token();
                let running = Running {
                    partition,
                    log,
                    first,
                };
                self.compaction.running.insert(token, running);
                owner.ack_after(slot, Ack::Control(token), fx);
            }
            // What has been written of it does no harm.
            Err((code, why)) => {
                let why = why.unwrap_or_default();
                tracing::warn!("{OFFSETS_TOPIC}-{partition} cannot be compacted: {code}: {why}");
            }
        }
    }

    /// If the token is that of a compaction: the valid records are durable, so the rest can go.
    pub fn offsets_compacted(&mut self, now: Now, token: u64, owner: &mut Owner) -> bool {
        let Some(running) = self.compaction.running.remove(&token) else {
            return false;
        };
        owner.drop_before(now, running.log, running.first);
        true
    }
}

fn batches(now: Now, records: &[Record]) -> Vec<Bytes> {
    let mut batches = Vec::new();
    let mut rest = records;
    while !rest.is_empty() {
        let mut bytes = 0;
        let size = |(key, value): &Record| key.len() + value.as_ref().map_or(0, Bytes::len);
        let fits = |record: &&Record| {
            let before = bytes;
            bytes += size(record);
            before < BATCH_BYTES
        };
        let count = rest.iter().take_while(fits).count();
        let (these, others) = rest.split_at(count);
        let mut batch = BatchBuilder::new(Codec::None, now.wall_ms);
        for (key, value) in these {
            batch.push(now.wall_ms, Some(key), value.as_deref(), &[]);
        }
        batches.push(batch.build());
        rest = others;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Mono;

    #[test]
    fn batches_are_bounded_and_whole() {
        let now = Now {
            mono: Mono(0),
            wall_ms: 7,
        };
        assert!(batches(now, &[]).is_empty());
        let records: Vec<Record> = (0..1000u32)
            .map(|n| {
                let key = Bytes::copy_from_slice(&n.to_be_bytes());
                (key, (n % 3 > 0).then(|| vec![1; 1500].into()))
            })
            .collect();
        let batches = batches(now, &records);
        assert!(batches.len() > 2);
        assert!(batches.iter().all(|b| b.len() < BATCH_BYTES + 20_000));
        let mut read = Vec::new();
        for batch in &batches {
            for record in crate::record::records(batch, 1 << 20).unwrap() {
                let record = record.unwrap();
                read.push((record.key.unwrap(), record.value));
            }
        }
        assert_eq!(read, records);
    }
}
