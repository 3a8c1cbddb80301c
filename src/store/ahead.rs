//! Writing ahead: a block that was only allocated costs twice the time of one
//! that was written before. New regions are filled with zeroes in the background
//! and used afterwards.

use bytes::Bytes;

use super::layout::{REGION, RING_START};
use super::{DiskOp, Io, Store};
use crate::base::PageBuf;
use crate::store::api::IoId;
use crate::store::chunks::{Chunk, Class};

/// Bytes of one background write: as much as a flush may find in front of it in the device's queue.
const STEP: u64 = 256 << 10;
/// The same when written space is about to run out, which would cost more.
const STEP_SHORT: u64 = 1 << 20;

/// How far a store is written ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    initial_bytes: u64,
    /// The region that is being written, and the bytes of it that are on their way or written.
    writing: Option<(u64, u64)>,
    /// The disk had no room; tried again after the next checkpoint.
    full: bool,
    zeroes: Bytes,
}

impl Ahead {
    pub fn new(initial_bytes: u64) -> Self {
        Self {
            initial_bytes,
            writing: None,
            full: false,
            zeroes: PageBuf::zeroed(STEP_SHORT as usize).freeze(),
        }
    }

    /// Writes the journal ring of a new store.
    pub fn format(&self, journal_bytes: u64, ops: &mut Vec<DiskOp>) {
        let mut at = RING_START;
        let end = RING_START + journal_bytes;
        while at < end {
            let len = STEP_SHORT.min(end - at);
            ops.push(DiskOp::Write {
                id: IoId(0),
                pos: at,
                data: self.zeroes.slice(..len as usize),
                background: false,
                through: false,
            });
            at += len;
        }
    }
}

impl Store {
    /// Adds regions while fewer written bytes are free than a quarter of what is used.
    pub(super) fn write_ahead(&mut self, ops: &mut Vec<DiskOp>) {
        if self.config.raw || self.ahead.full {
            return;
        }
        let area = self.chunks.end() - self.chunks.start();
        let wanted = (area / 5).clamp(4 * REGION, 64 * REGION);
        if self.ahead.writing.is_none() {
            let short = self.chunks.end() < self.ahead.initial_bytes
                || self.chunks.free_bytes() < wanted && area > 0;
            if !short {
                return;
            }
            let Some(region) = self.chunks.grow() else {
                return;
            };
            self.ahead.writing = Some((region, 0));
        }
        let short = self.chunks.free_bytes() < wanted / 2;
        self.write_ahead_step(if short { STEP_SHORT } else { STEP }, ops);
    }

    /// One step at a time: background work must never fill the device's queue.
    fn write_ahead_step(&mut self, step: u64, ops: &mut Vec<DiskOp>) {
        let Some((region, done)) = self.ahead.writing else {
            return;
        };
        if self.ios.values().any(|io| *io == Io::Ahead(region)) {
            return;
        }
        if done == REGION {
            self.ahead.writing = None;
            return;
        }
        let step = step.min(REGION - done);
        self.ahead.writing = Some((region, done + step));
        let id = self.io(Io::Ahead(region));
        ops.push(DiskOp::Write {
            id,
            pos: region + done,
            data: self.ahead.zeroes.slice(..step as usize),
            background: true,
            through: false,
        });
    }

    /// There is no room on the disk for a region. Nothing depends on it yet, so that is no failure: the store
    /// goes on with the regions it has.
    pub(super) fn ahead_found_no_room(&mut self, region: u64) {
        self.ahead.writing = None;
        self.ahead.full = true;
        self.chunks.ungrow(region);
    }

    /// A checkpoint may have made room, or others have.
    pub(super) fn ahead_may_try_again(&mut self) {
        self.ahead.full = false;
    }

    /// A step is written; after the last one the region may be used.
    pub(super) fn ahead_done(&mut self, region: u64) {
        if self.ahead.writing == Some((region, REGION)) {
            self.ahead.writing = None;
            self.chunks.free(Chunk {
                pos: region,
                class: Class::Large,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::flush::ENOSPC;
    use super::*;
    use crate::base::StoreId;
    use crate::store::{DiskError, StoreConfig, StoreEvent};

    #[test]
    fn a_disk_without_room_stops_writing_ahead_and_nothing_else() {
        let config = StoreConfig {
            journal_bytes: 256 << 10,
            initial_bytes: 5 * REGION,
            bytes_max: 64 * REGION,
            ..StoreConfig::default()
        };
        let (mut store, _) = Store::format(StoreId(1), config, 1);
        let (mut ops, mut events) = (Vec::new(), Vec::new());
        store.poll(&mut ops);
        let Some(DiskOp::Write { id, pos, .. }) = ops.pop() else {
            panic!("something is written ahead");
        };
        let end = store.usage().bytes_total;
        store.on_disk(id, Err(DiskError { errno: ENOSPC }), &mut ops, &mut events);
        store.poll(&mut ops);
        assert!(ops.is_empty() && events.is_empty() && store.is_quiet());
        assert_eq!(store.usage().bytes_total, end - REGION);
        store.invariants();
        // A checkpoint later it is tried again, in the same place.
        store.checkpoint(Vec::new(), &mut ops);
        let mut again = None;
        while let Some(op) = ops.pop() {
            let id = match op {
                DiskOp::Write { id, pos: at, .. } => {
                    again = again.or((at == pos + REGION).then_some(at));
                    id
                }
                DiskOp::Sync { id, .. } => id,
            };
            store.on_disk(id, Ok(()), &mut ops, &mut events);
            store.poll(&mut ops);
            if again.is_some() {
                break;
            }
        }
        assert!(again.is_some(), "nothing was written ahead again");
        assert!(events.is_empty());
        // Any other error is as fatal as ever.
        let (mut store, _) = Store::format(StoreId(1), store.config.clone(), 1);
        ops.clear();
        store.poll(&mut ops);
        let Some(DiskOp::Write { id, .. }) = ops.pop() else {
            panic!("something is written ahead");
        };
        store.on_disk(id, Err(DiskError { errno: 5 }), &mut ops, &mut events);
        assert_eq!(events, [StoreEvent::Failed(DiskError { errno: 5 })]);
    }
}
