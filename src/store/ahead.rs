//! Writing ahead: a block that was only allocated costs twice the time of one
//! that was written before. New regions are filled with zeroes in the background
//! and used afterwards.

use super::api::{DiskError, DiskOp};
use super::chunks::{Chunk, Class};
use super::growth::STEP_SHORT;
use super::layout::REGION;
use super::{Io, Store};
use crate::store::RoomFor;

/// Bytes of one background write: as much as a flush may find in front of it in the device's queue.
const STEP: u64 = 256 << 10;
/// Blocks are asked for in steps of about an eighth of the file, within these bounds: while the filesystem
/// allocates, nothing is written.
const ALLOCATE: [u64; 2] = [64 << 20, 1 << 30];
/// The filesystem cannot allocate.
const EOPNOTSUPP: i32 = 95;

impl Store {
    /// Whether the store is at its bound for now because the disk has no room.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.ahead.full
    }

    /// Whether something waits that may be possible later without a word from the disk: to grow, or a checkpoint.
    #[must_use]
    pub fn waits_for_room(&self) -> bool {
        self.ahead.full || self.put_off.is_some()
    }

    /// There may be room again: on the disk, or for a checkpoint.
    pub fn try_again(&mut self) {
        self.ahead.full = false;
        self.put_off = None;
    }

    /// Whether there may soon be room for so many bytes more of clients' records because the store grows: then
    /// it is worth waiting. Room counts when the disk has blocks for it, not before.
    pub fn grows_for_clients(&mut self, bytes: usize) -> bool {
        let asked = Self::room_for(bytes, RoomFor::Clients);
        self.ahead.asked = self.ahead.asked.max(asked);
        let grows = self.chunks.allocated() < self.chunks.allocated_max();
        grows && !self.ahead.full && !self.config.raw && !self.failed
    }

    /// From now on the store makes no room of which nobody knows whether it will be needed: if each of several
    /// stores did, there would always be one that is not quiet.
    pub fn wind_down(&mut self) {
        self.ahead.winding_down = true;
    }

    /// Whether more room may be made: for somebody who waits for it, at the end.
    fn may_grow(&self) -> bool {
        !self.ahead.winding_down || self.waits_for_checkpoint() || self.room() < self.ahead.asked
    }

    /// Asks the disk for blocks while there is less room than a step.
    fn allocate(&mut self, ops: &mut Vec<DiskOp>) {
        let (at, max) = (self.chunks.allocated(), self.chunks.allocated_max());
        if self.ahead.allocating.is_some() || self.ahead.full || self.ahead.by_writing || at >= max
        {
            return;
        }
        let [least, most] = ALLOCATE;
        let step = (at / 8).next_power_of_two().clamp(least, most);
        let is_used = self.unplaced_bytes > 0 || self.placed_since > 0 || !self.map.logs.is_empty();
        let wanted = self.ahead.asked.max(if is_used { step } else { 0 });
        let to = if at < self.ahead.initial_bytes {
            self.ahead.initial_bytes
        } else if self.room() < wanted {
            (at + step.max(self.ahead.asked)).next_multiple_of(step)
        } else {
            return;
        };
        let len = (to - at).next_multiple_of(REGION);
        let to = max.min(at + len.min(self.ahead.step_max));
        self.ahead.allocating = Some(to);
        let id = self.io(Io::Allocate);
        ops.push(DiskOp::Allocate {
            id,
            pos: at,
            len: to - at,
        });
    }

    /// The disk has given blocks, or has none: then a smaller step may do, and at last there is no room.
    pub(super) fn allocated(&mut self, result: Result<(), DiskError>) -> Result<(), DiskError> {
        let Some(to) = self.ahead.allocating.take() else {
            return Ok(());
        };
        self.ahead.asked = 0;
        // Written regions may have got there first.
        let step = to.saturating_sub(self.chunks.allocated());
        match result {
            Ok(()) => {
                self.chunks.allocated_to(to);
                self.ahead.step_max = self.ahead.step_max.max(step).saturating_mul(2);
                Ok(())
            }
            Err(error) if error.is_no_room() => {
                self.ahead.step_max = (step / 2 / REGION * REGION).max(REGION);
                self.ahead.full = step <= REGION;
                Ok(())
            }
            Err(error) if error.errno == EOPNOTSUPP => {
                self.ahead.by_writing = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Adds regions while fewer written bytes are free than a quarter of what is used.
    pub fn write_ahead(&mut self, ops: &mut Vec<DiskOp>) {
        if self.config.raw || !self.may_grow() {
            return;
        }
        self.allocate(ops);
        let area = self.chunks.end() - self.chunks.start();
        let wanted = (area / 5).clamp(4 * REGION, 64 * REGION);
        if self.ahead.writing.is_none() {
            let by_writing = self.ahead.by_writing && !self.ahead.full;
            let short = self.chunks.end() < self.ahead.initial_bytes
                || self.chunks.free_bytes() < wanted && area > 0
                || by_writing && self.room() < self.ahead.asked;
            if !short {
                return;
            }
            if by_writing {
                self.chunks.allocated_to(self.chunks.end() + REGION);
            }
            let Some(region) = self.chunks.grow() else {
                return;
            };
            self.ahead.writing = Some((region, 0));
        } else if self.ahead.by_writing && self.ahead.full {
            return;
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

    /// There is no room on the disk for a region, allocated or not. Nothing depends on it yet, so that is no
    /// failure: the store goes on with the regions it has. A region that others came after stays in the area, to
    /// be written again when there may be room.
    pub(super) fn ahead_found_no_room(&mut self, region: u64) {
        let is_gone = self.chunks.ungrow(region);
        self.ahead.writing = (!is_gone).then_some((region, 0));
        self.ahead.full = true;
        self.ahead.by_writing = true;
        self.ahead.asked = 0;
        self.chunks.allocated_no_further();
    }

    /// A step is written; after the last one the region may be used.
    pub(super) fn ahead_done(&mut self, region: u64) {
        if self.ahead.writing == Some((region, REGION)) {
            self.ahead.writing = None;
            self.ahead.asked = 0;
            self.chunks.free(Chunk {
                pos: region,
                class: Class::Large,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::StoreId;
    use crate::store::{Sabotage, StoreConfig, StoreEvent};

    const ROOM: StoreConfig = StoreConfig {
        journal_bytes: 256 << 10,
        initial_bytes: 5 * REGION,
        bytes_max: 64 * REGION + 12_345,
        raw: false,
        bulk_bytes_min: 32 << 10,
        flushes_in_flight_max: 4,
        small_flush_bytes: 0,
        small_flushes_in_flight_max: 2,
        flush_bytes_max: 32 << 10,
        tail_bytes_max: 0,
        checkpoint_bytes: 1 << 20,
        checkpoint_slice_bytes: 1 << 20,
        sabotage: Sabotage {
            ack_before_flush: false,
            skip_recovery_crc: false,
            any_successor: false,
            keep_stop: false,
            reuse_at_once: false,
        },
    };

    /// Does what the store wants on a disk of so many bytes; how far the file reaches.
    fn settle(store: &mut Store, disk: u64, allocates: bool) -> u64 {
        let (mut ops, mut events, mut end) = (Vec::new(), Vec::new(), 0);
        loop {
            store.poll(&mut ops);
            let Some(op) = ops.pop() else { return end };
            let to = match &op {
                DiskOp::Write { pos, data, .. } => pos + data.len() as u64,
                DiskOp::Sync { .. } => 0,
                DiskOp::Allocate { pos, len, .. } => pos + len,
            };
            let result = match &op {
                DiskOp::Allocate { .. } if !allocates => Err(DiskError { errno: EOPNOTSUPP }),
                _ if to > disk => Err(DiskError {
                    errno: DiskError::ENOSPC,
                }),
                _ => {
                    end = end.max(to);
                    Ok(())
                }
            };
            store.on_disk(op.id(), result, &mut ops, &mut events);
            store.invariants();
            let failed = |event: &StoreEvent| matches!(event, StoreEvent::Failed(_));
            assert!(!events.iter().any(failed), "{events:?}");
        }
    }

    #[test]
    fn a_store_grows_as_far_as_the_disk_goes_and_further_when_that_has_room() {
        for allocates in [true, false] {
            let (mut store, _) = Store::format(StoreId(1), ROOM, 1);
            assert!(store.grows_for_clients(100 << 20));
            assert!(
                !store.has_room(1, RoomFor::Broker),
                "what is not there does not count"
            );
            settle(&mut store, 9 * REGION + 1, allocates);
            assert_eq!(store.usage().bytes_total, 5 * REGION);
            // More when that is wanted, down to the last region that there is room for.
            while store.grows_for_clients(100 << 20) {
                settle(&mut store, 9 * REGION + 1, allocates);
            }
            assert_eq!(store.chunks.allocated(), 9 * REGION);
            assert!(store.is_disk_full());
            assert!(
                store.has_room(1 << 20, RoomFor::Broker)
                    && !store.has_room(32 << 20, RoomFor::Broker)
            );
            // It does not ask again by itself.
            assert_eq!(settle(&mut store, 99 * REGION, allocates), 0);
            store.try_again();
            while !store.has_room(30 << 20, RoomFor::Broker) {
                assert!(store.grows_for_clients(30 << 20));
                settle(&mut store, 99 * REGION, allocates);
            }
            // Never beyond the bound.
            store.try_again();
            while store.grows_for_clients(1 << 40) {
                assert!(settle(&mut store, u64::MAX, allocates) <= ROOM.bytes_max);
            }
            assert_eq!(store.chunks.allocated(), 64 * REGION);
        }
    }

    #[test]
    fn any_other_error_is_as_fatal_as_ever() {
        let (mut store, _) = Store::format(StoreId(1), ROOM, 1);
        let (mut ops, mut events) = (Vec::new(), Vec::new());
        store.poll(&mut ops);
        let op = ops.pop().expect("it asks for blocks");
        store.on_disk(op.id(), Err(DiskError { errno: 5 }), &mut ops, &mut events);
        assert_eq!(events, [StoreEvent::Failed(DiskError { errno: 5 })]);
    }

    /// A store with one step of its first region on its way, which is not the last region any more.
    fn writes_before_the_end() -> (Store, DiskOp) {
        let (mut store, _) = Store::format(StoreId(1), ROOM, 1);
        let (mut ops, mut events) = (Vec::new(), Vec::new());
        store.poll(&mut ops);
        let blocks = ops.pop().expect("it asks for blocks");
        store.on_disk(blocks.id(), Ok(()), &mut ops, &mut events);
        store.poll(&mut ops);
        let step = ops.pop().expect("it writes a region");
        let chunk = store.chunks.take_up_to(Class::Small).expect("the next one");
        store.chunks.free(chunk);
        store.invariants();
        (store, step)
    }

    #[test]
    fn a_region_that_found_no_room_is_written_again_if_others_came_after_it() {
        let (mut store, step) = writes_before_the_end();
        let no_room = Err(DiskError {
            errno: DiskError::ENOSPC,
        });
        store.on_disk(step.id(), no_room, &mut Vec::new(), &mut Vec::new());
        store.invariants();
        assert!(store.is_disk_full());
        assert_eq!(store.free_bytes(), REGION, "the other one is as it was");
        assert_eq!(settle(&mut store, u64::MAX, true), 0, "it waits");
        // Not even then, and that changes nothing.
        store.try_again();
        settle(&mut store, 0, true);
        assert_eq!(store.free_bytes(), REGION);
        store.try_again();
        settle(&mut store, u64::MAX, true);
        let area = store.chunks.end() - store.chunks.start();
        assert!(area >= 2 * REGION);
        assert_eq!(store.chunks.free_bytes(), area, "nothing is lost");
    }

    #[test]
    fn blocks_may_come_when_the_store_has_grown_further_without_them() {
        let (mut store, step) = writes_before_the_end();
        let (mut ops, mut events) = (Vec::new(), Vec::new());
        store.ahead.step_max = REGION;
        assert!(store.grows_for_clients(30 << 20));
        store.poll(&mut ops);
        let blocks = ops.pop().expect("it asks for blocks");
        assert!(matches!(blocks, DiskOp::Allocate { len: REGION, .. }));
        let no_room = Err(DiskError {
            errno: DiskError::ENOSPC,
        });
        store.on_disk(step.id(), no_room, &mut ops, &mut events);
        store.try_again();
        while !store.has_room(30 << 20, RoomFor::Broker) {
            assert!(store.grows_for_clients(30 << 20));
            settle(&mut store, u64::MAX, true);
        }
        let before = store.chunks.allocated();
        store.on_disk(blocks.id(), Ok(()), &mut ops, &mut events);
        assert_eq!(store.chunks.allocated(), before);
        store.invariants();
    }
}
