//! Compaction of the broker's own logs, `__consumer_offsets` and the state of the metadata
//! log. What is valid is known here, so nothing has to be read: it is appended once more in
//! a new segment, and when that is committed all that is before it is dropped.
//!
//! A crash in between leaves the old records and the new ones behind them, which are the
//! same once more, or the newest one, which alone counts.

use bytes::Bytes;

use crate::base::{ErrorCode, IdMap, LeaderEpoch, LogId, Now, Offset};
use crate::broker::fx::Fx;
use crate::broker::owner::Owner;
use crate::broker::owner::acks::Told;
use crate::group::Record;
use crate::record::{BatchBuilder, Codec};
use crate::replica::Leader;
use crate::store::RoomFor;

/// What is valid is written in parts of about so many bytes, or less.
pub const PART_BYTES_MAX: usize = 256 << 10;

/// A log that is being compacted.
#[derive(Debug)]
struct Running {
    /// Where the valid records begin.
    first: Offset,
    /// Where they end, so far.
    end: Offset,
    /// The epoch in which this node leads. In another one more may be valid than was known here.
    epoch: LeaderEpoch,
    /// The token by which is waited until they are committed, when they are all written.
    token: Option<u64>,
}

/// What is going on, and when to look at a log again.
#[derive(Debug, Default)]
pub struct Compaction {
    running: IdMap<LogId, Running>,
    /// Size of a log from which on it is looked at, if that is not the configured one.
    due_bytes: IdMap<LogId, u64>,
}

impl Compaction {
    /// Whether nothing is going on.
    pub fn is_quiet(&self) -> bool {
        self.running.is_empty()
    }

    /// The size of a log if it is time to find out what is valid in it, which it is not before it has `least` bytes.
    pub fn due(&self, log: LogId, least: u64, owner: &Owner) -> Option<u64> {
        let due = self.due_bytes.get(&log).copied().unwrap_or(least);
        let size = owner.partitions.get(&log)?.log.size_bytes();
        (size >= due && !self.running.contains_key(&log)).then_some(size)
    }

    /// Writes `valid` anew if that makes a log of `size` bytes at most half as long; without it, not now.
    pub fn compact(
        &mut self,
        log: LogId,
        sizes: (u64, u64),
        valid: Option<Bytes>,
        owner: &mut Owner,
        fx: &Fx<'_>,
    ) {
        if self.is_worth_it(log, sizes, valid.as_ref().map(Bytes::len), owner)
            && let Some(batch) = valid
            && self.begin(log, owner, fx)
            && self.append(log, batch, owner, fx)
        {
            self.written(log, owner);
        }
    }

    /// Whether to write anew what is valid of a log, which takes so many bytes if that can be told now, makes it at
    /// most half as long, and there is room for it. Notes when to look again.
    pub fn is_worth_it(
        &mut self,
        log: LogId,
        (size, least): (u64, u64),
        bytes: Option<usize>,
        owner: &mut Owner,
    ) -> bool {
        let twice = bytes.map_or(0, |bytes| 2 * bytes as u64);
        let is_worth_it =
            twice <= size && bytes.is_some_and(|bytes| owner.has_room(log, bytes, RoomFor::Broker));
        let next = match is_worth_it {
            true => twice,
            // To find out what is valid costs something: the next time is some bytes away.
            false => twice.max(size + least / 8),
        };
        self.due_bytes.insert(log, next.max(least));
        is_worth_it
    }

    /// Begins to write what is valid in a log, if nobody does: it stands for all that is in the log now.
    pub fn begin(&mut self, log: LogId, owner: &mut Owner, fx: &Fx<'_>) -> bool {
        if self.running.contains_key(&log) {
            return false;
        }
        let Some(epoch) = leads(log, owner) else {
            return false;
        };
        let Some(first) = owner.begin_rewrite(fx.now, log) else {
            return false;
        };
        let running = Running {
            first,
            end: first,
            epoch,
            token: None,
        };
        self.running.insert(log, running);
        true
    }

    /// Writes a part of what is valid. If that is not possible, the compaction is given up: what has been written of it
    /// does no harm.
    pub fn append(&mut self, log: LogId, batch: Bytes, owner: &mut Owner, fx: &Fx<'_>) -> bool {
        let Some(running) = self.running.get_mut(&log) else {
            return false;
        };
        let appended = if leads(log, owner) != Some(running.epoch) {
            Err(ErrorCode::NotLeaderOrFollower.into())
        } else if !owner.has_room(log, batch.len(), RoomFor::Broker) {
            Err(ErrorCode::KafkaStorageError.into())
        } else {
            owner.append_internal(fx.now, log, batch)
        };
        match appended {
            Ok(end) => {
                running.end = end;
                true
            }
            Err(refused) => {
                tracing::warn!("log {log} cannot be compacted now: {refused}");
                self.give_up(log, owner);
                false
            }
        }
    }

    /// All that is valid in a log is written: once it is durable, the rest can go.
    pub fn written(&mut self, log: LogId, owner: &mut Owner) {
        if let Some(running) = self.running.get_mut(&log) {
            running.token = Some(owner.tell_when_committed(log, running.end));
        }
    }

    /// What is valid in a log will not be written now.
    pub fn give_up(&mut self, log: LogId, owner: &Owner) {
        self.running.remove(&log);
        if let Some(partition) = owner.partitions.get(&log) {
            let size = partition.log.size_bytes();
            self.due_bytes.insert(log, size + size / 8);
        }
    }

    /// A log is not this one's any more: nothing is known of it, nor dropped because of what was written.
    pub fn forget(&mut self, log: LogId) {
        self.running.remove(&log);
        self.due_bytes.remove(&log);
    }

    /// If the token is that of a compaction: the valid records are committed, so the rest can go; or they may never be,
    /// and it is given up.
    pub fn told(&mut self, now: Now, (token, outcome): Told, owner: &mut Owner) -> bool {
        let mut running = self.running.iter();
        let Some((&log, running)) = running.find(|(_, running)| running.token == Some(token))
        else {
            return false;
        };
        let first = running.first;
        match outcome {
            Ok(()) => {
                owner.drop_before(now, log, first);
                self.running.remove(&log);
            }
            Err(_) => self.give_up(log, owner),
        }
        true
    }
}

/// The epoch in which this node leads a log, if it does.
fn leads(log: LogId, owner: &Owner) -> Option<LeaderEpoch> {
    let leader = owner.partitions.get(&log)?.leader.as_ref();
    leader.map(Leader::epoch)
}

/// Bytes of a record's key and value.
pub fn size((key, value): &Record) -> usize {
    key.len() + value.as_ref().map_or(0, Bytes::len)
}

/// Records as one batch.
pub fn batch(now: Now, records: &[Record]) -> Bytes {
    batch_of(now, records, None)
}

/// Records as one batch, perhaps in the transaction of a producer of this id and epoch. It has no sequence number, as
/// Kafka's coordinators write it.
pub fn batch_of(now: Now, records: &[Record], producer: Option<(i64, i16)>) -> Bytes {
    const NO_SEQUENCE: i32 = -1;
    /// What a record has besides its key and value, about.
    const OVERHEAD_BYTES: usize = 10;
    let bytes = records.iter().map(|record| size(record) + OVERHEAD_BYTES);
    let mut batch = BatchBuilder::with_capacity(Codec::None, now.wall_ms, bytes.sum());
    if let Some((id, epoch)) = producer {
        batch = batch.producer(id, epoch, NO_SEQUENCE).transactional();
    }
    for (key, value) in records {
        batch.push(now.wall_ms, Some(key), value.as_deref(), &[]);
    }
    batch.build()
}
