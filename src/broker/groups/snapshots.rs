//! Compaction of the partitions of `__consumer_offsets`: what their coordinators say is valid is written once more, in
//! slices, while commits go on.

use std::collections::VecDeque;

use crate::base::LogId;
use crate::broker::fx::Fx;
use crate::broker::own::compact::{self, Compaction};
use crate::broker::owner::Owner;
use crate::broker::owner::acks::Told;
use crate::coordinator::Host;
use crate::group::SnapshotPart;

/// A partition whose snapshot is being written.
#[derive(Debug)]
struct Writing {
    partition: i32,
    log: LogId,
    /// For an append of the partition, or the end of a transaction.
    waits: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Snapshots {
    compaction: Compaction,
    /// The first one is next.
    writing: VecDeque<Writing>,
}

impl Snapshots {
    /// Whether nothing is going on.
    pub fn is_quiet(&self) -> bool {
        self.compaction.is_quiet()
    }

    /// Whether [`Snapshots::go_on`] has something to do.
    pub fn has_more(&self) -> bool {
        self.writing.iter().any(|writing| !writing.waits)
    }

    /// An append of a partition has ended, or a transaction: the snapshot may go on, or one is due.
    pub fn appended(
        &mut self,
        host: &mut Host,
        (partition, log): (i32, LogId),
        owner: &mut Owner,
        fx: &Fx<'_>,
    ) {
        for writing in &mut self.writing {
            writing.waits &= writing.partition != partition;
        }
        let least = owner.config.millrace_internal_compact_bytes.unsigned_abs();
        if let Some(size) = self.compaction.due(log, least, owner) {
            let (sizes, bytes) = ((size, least), Some(host.durable_bytes(partition)));
            if self.compaction.is_worth_it(log, sizes, bytes, owner) {
                self.begin(host, (partition, log), owner, fx);
            }
        }
    }

    /// Begins the snapshot of a partition, if there can be one and it is not being made.
    pub fn begin(
        &mut self,
        host: &mut Host,
        (partition, log): (i32, LogId),
        owner: &mut Owner,
        fx: &Fx<'_>,
    ) {
        let is_written = |writing: &Writing| writing.partition == partition;
        if self.writing.iter().any(is_written) || !host.begin_snapshot(partition) {
            return;
        }
        if !self.compaction.begin(log, owner, fx) {
            return host.end_snapshot(partition);
        }
        self.writing.push_back(Writing {
            partition,
            log,
            waits: false,
        });
    }

    /// Goes on with a snapshot that waits for nothing.
    pub fn go_on(&mut self, host: &mut Host, owner: &mut Owner, fx: &Fx<'_>) {
        let next = self.writing.iter().position(|writing| !writing.waits);
        let Some(mut writing) = next.and_then(|next| self.writing.remove(next)) else {
            return;
        };
        let Writing { partition, log, .. } = writing;
        match host.snapshot_part(partition, part_bytes(owner)) {
            SnapshotPart::Records(records) => {
                let is_written = records.is_empty() || {
                    let batch = compact::batch(fx.now, &records);
                    self.compaction.append(log, batch, owner, fx)
                };
                match is_written {
                    true => self.writing.push_back(writing),
                    false => host.end_snapshot(partition),
                }
            }
            SnapshotPart::Wait => {
                writing.waits = true;
                self.writing.push_back(writing);
            }
            SnapshotPart::All => self.compaction.written(log, owner),
            SnapshotPart::Lost => self.compaction.give_up(log, owner),
        }
    }

    /// Another one coordinates a partition from now on: its log is left as it is.
    pub fn forget(&mut self, log: LogId) {
        self.writing.retain(|writing| writing.log != log);
        self.compaction.forget(log);
    }

    /// If the token is that of a compaction: see [`Compaction::told`].
    pub fn told(&mut self, told: Told, owner: &mut Owner, fx: &Fx<'_>) {
        self.compaction.told(fx.now, told, owner);
    }

    /// The broker goes down: what is not written by now is left as it is.
    pub fn stop(&mut self, owner: &Owner) {
        for writing in self.writing.drain(..) {
            self.compaction.give_up(writing.log, owner);
        }
    }
}

/// Bytes of a part: a fraction of what is compacted at the least, so that one has several.
fn part_bytes(owner: &Owner) -> usize {
    let least = owner.config.millrace_internal_compact_bytes.unsigned_abs() as usize;
    (least / 16).min(compact::PART_BYTES_MAX)
}
