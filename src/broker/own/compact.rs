//! Compaction of the broker's own logs, `__consumer_offsets` and the metadata. What is
//! valid is known here, so nothing has to be read: it is appended once more in a new
//! segment, and when that is durable all that is before it is dropped.
//!
//! A crash in between leaves the old records and the new ones behind them. Those of
//! `__consumer_offsets` are the same once more; the metadata's are one batch, there
//! or not there, that begins by forgetting what was before.

use bytes::Bytes;

use crate::base::{IdMap, LogId, Now, Offset};
use crate::broker::fx::Fx;
use crate::broker::owner::Owner;
use crate::group::Record;
use crate::record::{BatchBuilder, Codec};

/// Keys and values of one of the [`batches`], about.
const BATCH_BYTES: usize = 256 << 10;

/// A log that is being compacted.
#[derive(Debug)]
struct Running {
    log: LogId,
    /// Where the valid records begin.
    first: Offset,
}

/// What is going on, and when to look at a log again.
#[derive(Debug, Default)]
pub struct Compaction {
    /// By the token of the flush that is waited for.
    running: IdMap<u64, Running>,
    /// Size of a log from which on it is looked at, if that is not the configured one.
    due_bytes: IdMap<LogId, u64>,
}

impl Compaction {
    /// Whether nothing is going on.
    pub fn is_quiet(&self) -> bool {
        self.running.is_empty()
    }

    /// Compacts a log if it is time, which it is not before it has `least` bytes. What is `valid` in it, if that can be
    /// told now, is asked for if it is time. To be called when something of the log has become durable, so that a
    /// moment comes at which nothing is on its way.
    pub fn look_at(
        &mut self,
        log: LogId,
        least: u64,
        valid: impl FnOnce() -> Option<Vec<Bytes>>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        if let Some(size) = self.due(log, least, owner) {
            self.compact(log, (size, least), valid(), owner, fx);
        }
    }

    /// Writes a log anew, whatever its size: something of it cannot be read.
    pub fn rewrite_now(
        &mut self,
        log: LogId,
        valid: Vec<Bytes>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        if owner.has_room(log, valid.iter().map(Bytes::len).sum(), false) {
            self.rewrite(log, valid, owner, fx);
        }
    }

    /// The size of a log if it is time to compact it, which it is not before it has `least` bytes.
    pub fn due(&self, log: LogId, least: u64, owner: &Owner) -> Option<u64> {
        let due = self.due_bytes.get(&log).copied();
        let size = owner.partitions.get(&log)?.log.size_bytes();
        let mut running = self.running.values();
        let is_due = size >= due.unwrap_or(least) && running.all(|running| running.log != log);
        is_due.then_some(size)
    }

    /// Writes `valid` anew if that makes a log of `size` bytes at most half as long; without it, not now.
    pub fn compact(
        &mut self,
        log: LogId,
        (size, least): (u64, u64),
        valid: Option<Vec<Bytes>>,
        owner: &mut Owner,
        fx: &mut Fx<'_>,
    ) {
        // To find out what is valid costs something: if it is in vain, the next time is some bytes away.
        let again = size + least / 8;
        let next = match valid {
            None => again,
            Some(batches) => {
                let bytes: usize = batches.iter().map(Bytes::len).sum();
                let twice = 2 * bytes as u64;
                if twice <= size && owner.has_room(log, bytes, false) {
                    self.rewrite(log, batches, owner, fx);
                    twice
                } else {
                    again.max(twice)
                }
            }
        };
        self.due_bytes.insert(log, next.max(least));
    }

    fn rewrite(&mut self, log: LogId, batches: Vec<Bytes>, owner: &mut Owner, fx: &mut Fx<'_>) {
        match owner.rewrite_internal(fx.now, log, batches) {
            Ok((first, end)) => {
                let token = owner.tell_when_committed(log, end);
                self.running.insert(token, Running { log, first });
            }
            // What has been written of it does no harm.
            Err((code, why)) => {
                let why = why.unwrap_or_default();
                tracing::warn!("log {log} cannot be compacted: {code}: {why}");
            }
        }
    }

    /// If the token is that of a compaction: the valid records are durable, so the rest can go.
    pub fn durable(&mut self, now: Now, token: u64, owner: &mut Owner) -> bool {
        let Some(running) = self.running.remove(&token) else {
            return false;
        };
        owner.drop_before(now, running.log, running.first);
        true
    }
}

/// Bytes of a record's key and value.
fn size((key, value): &Record) -> usize {
    key.len() + value.as_ref().map_or(0, Bytes::len)
}

/// Records as one batch.
pub fn batch(now: Now, records: &[Record]) -> Bytes {
    /// What a record has besides its key and value, about.
    const OVERHEAD_BYTES: usize = 10;
    let bytes = records.iter().map(|record| size(record) + OVERHEAD_BYTES);
    let mut batch = BatchBuilder::with_capacity(Codec::None, now.wall_ms, bytes.sum());
    for (key, value) in records {
        batch.push(now.wall_ms, Some(key), value.as_deref(), &[]);
    }
    batch.build()
}

/// Valid records, as batches of a bounded size.
pub fn batches(now: Now, records: &[Record]) -> Vec<Bytes> {
    let mut batches = Vec::new();
    let mut rest = records;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let before = bytes;
            bytes += size(record);
            before < BATCH_BYTES
        };
        let count = rest.iter().take_while(fits).count();
        let (these, others) = rest.split_at(count);
        batches.push(batch(now, these));
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
