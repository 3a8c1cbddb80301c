//! A simulated store file that behaves as badly as a real one is allowed to:
//! writes complete in any order, a sync makes durable what had completed before
//! it was issued and promises nothing else but for writes that go through, and a crash leaves of every other
//! write nothing, all, or any of its sectors.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::{BLOCK, Rng};
use crate::store::{DiskError, DiskOp, IoId};

/// What a disk writes or does not write as a whole.
const SECTOR: usize = 512;

/// A block as it is before anything is written to it.
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Content in blocks; `None` is zeros. Blocks share the memory of the writes they came from.
type Image = Vec<Option<Bytes>>;

#[derive(Debug)]
struct Write {
    id: IoId,
    pos: u64,
    data: Bytes,
    completed: bool,
    /// Durable when it completes.
    through: bool,
}

impl Write {
    /// Whether it has bytes in `[pos, end)`.
    fn touches(&self, pos: u64, end: u64) -> bool {
        self.pos < end && pos < self.pos + self.data.len() as u64
    }
}

/// What a crash did to the writes that were not durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crash {
    /// How many there were.
    pub unsynced: usize,
    /// Of which nothing is left.
    pub lost: usize,
    /// Of which a part is left.
    pub torn: usize,
    /// Of which everything is left.
    pub spared: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Disk {
    /// What a crash cannot take away.
    durable: Image,
    /// What a read sees.
    current: Image,
    /// Writes that are not durable, in the order of their completion as far as they have completed.
    unsynced: VecDeque<Write>,
    /// Syncs in progress, each with the writes that had completed before it was issued.
    syncs: Vec<(IoId, Vec<IoId>)>,
    /// Blocks being set aside: up to where.
    allocations: Vec<(IoId, u64)>,
    /// Every block can be written to, as on a device.
    pub raw: bool,
    /// Where the last write to the journal ring went.
    journaled: u64,
}

impl Disk {
    /// Length of the file as found after a restart, in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        (self.current.len() * BLOCK) as u64
    }

    /// Whether the file is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    /// Takes an operation.
    ///
    /// # Errors
    /// What the store did wrong: it must write whole blocks and never have two writes to one block in flight.
    pub fn issue(&mut self, op: DiskOp) -> Result<(), String> {
        match op {
            DiskOp::Write {
                id,
                pos,
                data,
                through,
                background,
            } => {
                let aligned = pos.is_multiple_of(BLOCK as u64)
                    && data.len().is_multiple_of(BLOCK)
                    && (data.as_ptr() as usize).is_multiple_of(BLOCK);
                if !aligned || data.is_empty() {
                    let len = data.len();
                    return Err(format!("misaligned or empty write of {len} bytes at {pos}"));
                }
                let end = pos + data.len() as u64;
                // Only what is written ahead may come to where no block is, and fail.
                let ahead = background && is_zeroes(&data);
                if end > self.len() && !self.raw && !self.is_empty() && !ahead {
                    let len = self.len();
                    return Err(format!(
                        "a write up to {end}, blocks are allocated to {len}"
                    ));
                }
                let clashes = |w: &&Write| !w.completed && w.touches(pos, end);
                if let Some(other) = self.unsynced.iter().find(clashes) {
                    return Err(format!(
                        "write {id:?} at {pos}..{end} while write {:?} at {} of {} bytes is in flight",
                        other.id,
                        other.pos,
                        other.data.len()
                    ));
                }
                self.unsynced.push_back(Write {
                    id,
                    pos,
                    data,
                    completed: false,
                    through,
                });
            }
            DiskOp::Sync { id, .. } => {
                let covered = self.unsynced.iter().filter(|w| w.completed);
                self.syncs.push((id, covered.map(|w| w.id).collect()));
            }
            DiskOp::Allocate { id, pos, len } => self.allocations.push((id, pos + len)),
        }
        Ok(())
    }

    /// Whether a write begins the journal ring anew.
    pub fn wraps(&mut self, op: &DiskOp, ring: &std::ops::Range<u64>) -> bool {
        match op {
            DiskOp::Write { pos, .. } if ring.contains(pos) => {
                let before = std::mem::replace(&mut self.journaled, *pos);
                *pos == ring.start && before > *pos
            }
            _ => false,
        }
    }

    /// An operation ends well: a write becomes visible, a sync makes its writes durable.
    pub fn complete(&mut self, id: IoId) {
        if let Some(index) = self
            .unsynced
            .iter()
            .position(|w| w.id == id && !w.completed)
            && let Some(mut write) = self.unsynced.remove(index)
        {
            write.completed = true;
            put(&mut self.current, write.pos, &write.data, |_| true);
            if write.through {
                self.make_durable(&write);
            } else {
                self.unsynced.push_back(write);
            }
        } else if let Some(index) = self.syncs.iter().position(|(sync, _)| *sync == id) {
            let (_, covered) = self.syncs.swap_remove(index);
            // So is the length of the file.
            let len = self.current.len().max(self.durable.len());
            self.durable.resize(len, None);
            let durable = &mut self.durable;
            // In the order of completion, which decides between two writes to one place.
            self.unsynced.retain(|write| {
                let synced = write.completed && covered.contains(&write.id);
                if synced {
                    put(durable, write.pos, &write.data, |_| true);
                }
                !synced
            });
        } else if let Some(index) = self.allocations.iter().position(|(it, _)| *it == id) {
            let (_, end) = self.allocations.swap_remove(index);
            let blocks = (end as usize / BLOCK).max(self.current.len());
            self.current.resize(blocks, None);
        }
    }

    /// An operation for which there was no room ends: nothing came of it.
    pub fn found_no_room(&mut self, id: IoId) {
        self.allocations.retain(|(it, _)| *it != id);
        self.unsynced.retain(|write| write.id != id);
    }

    /// One write is durable by itself. What was written to the same place before can then not come back.
    fn make_durable(&mut self, write: &Write) {
        let (start, end) = (write.pos, write.pos + write.data.len() as u64);
        let durable = &mut self.durable;
        self.unsynced.retain(|earlier| {
            let covered = earlier.completed && earlier.touches(start, end);
            if covered {
                put(durable, earlier.pos, &earlier.data, |_| true);
            }
            !covered
        });
        put(durable, start, &write.data, |_| true);
    }

    /// Performs operations one after the other and makes them durable, as a driver does that formats.
    ///
    /// # Errors
    /// As [`Disk::issue`].
    pub fn perform(&mut self, ops: Vec<DiskOp>) -> Result<(), String> {
        for op in ops {
            let id = op.id();
            // A driver that formats writes from the start of an empty file to its end.
            let raw = std::mem::replace(&mut self.raw, true);
            self.issue(op)?;
            self.raw = raw;
            self.complete(id);
        }
        self.unsynced.clear();
        self.durable.clone_from(&self.current);
        Ok(())
    }

    /// Begins to perform operations one after the other; the last one may be on its way.
    ///
    /// # Errors
    /// As [`Disk::issue`].
    pub fn perform_some(&mut self, ops: Vec<DiskOp>, rng: &mut Rng) -> Result<(), String> {
        let done = rng.below(ops.len() as u64 + 1) as usize;
        for (index, op) in ops.into_iter().enumerate().take(done + 1) {
            let id = op.id();
            self.issue(op)?;
            if index < done {
                self.complete(id);
            }
        }
        Ok(())
    }

    /// The machine stops.
    pub fn crash(&mut self, rng: &mut Rng) -> Crash {
        let mut unsynced: Vec<Write> = self.unsynced.drain(..).collect();
        let count = unsynced.len();
        let mut crash = Crash {
            unsynced: count,
            ..Crash::default()
        };
        for last in (1..count).rev() {
            unsynced.swap(last, rng.below(last as u64 + 1) as usize);
        }
        let mood = rng.below(4);
        // A journaling filesystem commits what it was told in order: if a block behind the durable end can be
        // reached, so can all that was allocated before it was written.
        if self.raw || rng.chance(1, 2) {
            let blocks = self.durable.len().max(self.current.len());
            self.durable.resize(blocks, None);
        }
        let there = (self.durable.len() * BLOCK) as u64;
        unsynced.retain(|write| write.pos + write.data.len() as u64 <= there);
        for write in unsynced {
            let (mut kept, sectors) = (0, write.data.len() / SECTOR);
            match (mood, rng.below(3)) {
                // Nothing of any write, or all of every one: the simplest crashes are not the rarest.
                (0, _) | (2.., 0) => {}
                (1, _) | (2.., 1) => {
                    put(&mut self.durable, write.pos, &write.data, |_| true);
                    kept = sectors;
                }
                _ => {
                    let prefix = rng.chance(1, 3).then(|| rng.below(write.data.len() as u64));
                    let mut torn = Rng::new(rng.next_u64());
                    put(&mut self.durable, write.pos, &write.data, |at| {
                        let keep =
                            prefix.map_or_else(|| torn.chance(1, 2), |end| (at as u64) < end);
                        kept += usize::from(keep);
                        keep
                    });
                }
            }
            crash.spared += usize::from(kept == sectors);
            crash.torn += usize::from(kept > 0 && kept < sectors);
        }
        crash.lost = count - crash.spared - crash.torn;
        self.syncs.clear();
        self.allocations.clear();
        self.current.clone_from(&self.durable);
        crash
    }

    /// Flips one bit of what is durable. Returns the byte position.
    pub fn rot(&mut self, rng: &mut Rng) -> Option<u64> {
        let used: Vec<usize> = (0..self.durable.len())
            .filter(|block| self.durable[*block].is_some())
            .collect();
        let block = *used.get(rng.below(used.len() as u64) as usize)?;
        let pos = (block * BLOCK) as u64 + rng.below(BLOCK as u64);
        self.flip(pos, rng);
        Some(pos)
    }

    /// Flips one bit of a byte that is durable. What was written over it since, and is not durable yet, stays.
    pub fn flip(&mut self, pos: u64, rng: &mut Rng) {
        let (block, byte) = ((pos / BLOCK as u64) as usize, (pos % BLOCK as u64) as usize);
        let Some(durable) = self.durable.get_mut(block) else {
            return;
        };
        let mut bytes = durable
            .as_ref()
            .map_or_else(|| vec![0; BLOCK], |b| b.to_vec());
        bytes[byte] ^= 1 << rng.below(8);
        let before = durable.replace(bytes.into());
        if let Some(current) = self.current.get_mut(block)
            && *current == before
        {
            current.clone_from(durable);
        }
    }

    /// The same place in all other blocks that hold what the block of this one does.
    #[must_use]
    pub fn twins(&self, pos: u64) -> Vec<u64> {
        let (block, byte) = ((pos / BLOCK as u64) as usize, pos % BLOCK as u64);
        let Some(Some(content)) = self.durable.get(block) else {
            return Vec::new();
        };
        let others = self
            .durable
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != block);
        let same = others.filter(|(_, other)| other.as_ref() == Some(content));
        same.map(|(other, _)| (other * BLOCK) as u64 + byte)
            .collect()
    }

    /// Reads what is visible now.
    ///
    /// # Errors
    /// Beyond the end of the file.
    pub fn read(&self, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        let end = pos.checked_add(len as u64);
        if end.is_none_or(|end| end > self.len()) {
            // A short read: the driver asks for exactly this much.
            return Err(DiskError { errno: 61 });
        }
        let mut out = Vec::with_capacity(len);
        let mut at = pos;
        while out.len() < len {
            let (block, offset) = ((at / BLOCK as u64) as usize, (at % BLOCK as u64) as usize);
            let take = (BLOCK - offset).min(len - out.len());
            match &self.current[block] {
                Some(bytes) => out.extend_from_slice(&bytes[offset..offset + take]),
                None => out.resize(out.len() + take, 0),
            }
            at += take as u64;
        }
        Ok(out.into())
    }

    /// Why a range is not durable: what of it was never written, or which write to it is not.
    #[must_use]
    pub fn not_durable(&self, pos: u64, len: usize) -> Option<String> {
        let (end, file_end) = (pos + len as u64, (self.durable.len() * BLOCK) as u64);
        if end > file_end {
            return Some(format!("the file ends at {file_end}"));
        }
        let not_durable = self.unsynced.iter().find(|w| w.touches(pos, end));
        not_durable.map(|w| {
            format!(
                "write {:?} of {} bytes at {}, completed: {}",
                w.id,
                w.data.len(),
                w.pos,
                w.completed
            )
        })
    }
}

/// Whether an operation only writes zeroes, ahead of use.
#[must_use]
pub fn writes_ahead(op: &DiskOp) -> bool {
    matches!(op, DiskOp::Write { background: true, data, .. } if is_zeroes(data))
}

/// By blocks: the larger part of what a run writes is looked at here, and most of it is zeroes.
fn is_zeroes(data: &[u8]) -> bool {
    data.chunks(BLOCK)
        .all(|block| block == &ZEROS[..block.len()])
}

/// Puts the sectors of `data` that `keep` chooses (by their position in `data`) at `pos`.
fn put(image: &mut Image, pos: u64, data: &Bytes, mut keep: impl FnMut(usize) -> bool) {
    let first = (pos / BLOCK as u64) as usize;
    let blocks = data.len() / BLOCK;
    if image.len() < first + blocks {
        image.resize(first + blocks, None);
    }
    for block in 0..blocks {
        let new = data.slice(block * BLOCK..(block + 1) * BLOCK);
        let mut kept = [false; BLOCK / SECTOR];
        for (sector, kept) in kept.iter_mut().enumerate() {
            *kept = keep(block * BLOCK + sector * SECTOR);
        }
        let slot = &mut image[first + block];
        if kept.iter().all(|kept| *kept) {
            *slot = (new[..] != ZEROS).then_some(new);
        } else if kept.iter().any(|kept| *kept) {
            let mut mixed = slot
                .as_ref()
                .map_or_else(|| vec![0; BLOCK], |old| old.to_vec());
            for (sector, _) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                mixed[range.clone()].copy_from_slice(&new[range]);
            }
            *slot = Some(mixed.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PageBuf;

    fn write(id: u64, pos: u64, fill: u8, blocks: usize) -> DiskOp {
        let mut page = PageBuf::zeroed(blocks * BLOCK);
        page.as_mut_bytes().fill(fill);
        DiskOp::Write {
            id: IoId(id),
            pos,
            data: page.freeze(),
            background: false,
            through: false,
        }
    }

    fn sync(id: u64) -> DiskOp {
        DiskOp::Sync {
            id: IoId(id),
            background: false,
        }
    }

    #[test]
    fn a_sync_covers_what_had_completed_before_it_and_no_more() {
        for seed in 0..50 {
            let mut disk = Disk {
                raw: true,
                ..Disk::default()
            };
            disk.issue(write(1, 0, 1, 1)).unwrap();
            disk.complete(IoId(1));
            disk.issue(write(2, 4096, 2, 1)).unwrap();
            disk.issue(sync(3)).unwrap();
            disk.complete(IoId(2));
            assert!(disk.not_durable(0, 10).is_some());
            disk.complete(IoId(3));
            assert_eq!(disk.not_durable(0, 4096), None);
            assert!(disk.not_durable(4095, 2).is_some());
            assert_eq!(disk.read(4096, 1).unwrap()[..], [2], "visible");
            assert_eq!(disk.crash(&mut Rng::new(seed)).unsynced, 1);
            assert!(disk.read(0, BLOCK).unwrap().iter().all(|b| *b == 1));
        }
    }

    #[test]
    fn a_crash_keeps_loses_and_tears_by_sectors() {
        let (mut kept, mut lost, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let mut disk = Disk::default();
            disk.perform(vec![write(1, 0, 1, 4), sync(2)]).unwrap();
            disk.issue(write(3, 0, 9, 4)).unwrap();
            disk.crash(&mut Rng::new(seed));
            let bytes = disk.read(0, 4 * BLOCK).unwrap();
            for sector in bytes.chunks(SECTOR) {
                assert!(sector.iter().all(|b| *b == sector[0]), "sectors are whole");
            }
            match bytes.iter().filter(|b| **b == 9).count() {
                0 => lost += 1,
                n if n == bytes.len() => kept += 1,
                _ => torn += 1,
            }
        }
        assert!(kept > 20 && lost > 20 && torn > 20, "{kept} {lost} {torn}");
    }

    #[test]
    fn two_writes_to_one_block_in_flight_are_an_error() {
        let mut disk = Disk::default();
        disk.issue(write(1, 0, 1, 2)).unwrap();
        assert!(disk.issue(write(2, 4096, 2, 1)).is_err());
        disk.complete(IoId(1));
        disk.issue(write(2, 4096, 2, 1)).unwrap();
        assert!(disk.issue(write(3, 1, 2, 1)).is_err(), "misaligned");
    }

    #[test]
    fn a_write_to_where_no_block_is_is_an_error() {
        let mut disk = Disk::default();
        disk.perform(vec![write(1, 0, 1, 2)]).unwrap();
        assert!(disk.issue(write(2, 8192, 1, 1)).is_err());
        let (id, pos, len) = (IoId(3), 8192, 8192);
        disk.issue(DiskOp::Allocate { id, pos, len }).unwrap();
        assert!(disk.issue(write(2, 8192, 1, 1)).is_err(), "not yet");
        disk.complete(id);
        disk.issue(write(2, 8192, 1, 1)).unwrap();
        assert_eq!(disk.len(), 16384);
        disk.crash(&mut Rng::new(1));
        assert!(disk.len() < 16384, "nothing made it durable");
    }

    #[test]
    fn rot_flips_one_bit() {
        let mut disk = Disk::default();
        disk.perform(vec![write(1, 0, 0, 3), write(2, 8192, 7, 1), sync(3)])
            .unwrap();
        let at = disk.rot(&mut Rng::new(5)).unwrap();
        assert!(at >= 8192, "in a block that holds something");
        let bytes = disk.read(8192, BLOCK).unwrap();
        let flipped: u32 = bytes.iter().map(|b| (b ^ 7).count_ones()).sum();
        assert_eq!(flipped, 1);
        assert!(disk.read(8192, BLOCK + 1).is_err(), "beyond the end");
    }

    /// Neither in another block nor in the one that has rotted.
    #[test]
    fn rot_leaves_what_was_written_since() {
        let is_newer = |disk: &Disk| {
            disk.read(0, 2 * BLOCK)
                .is_ok_and(|bytes| bytes.iter().all(|b| *b == 8))
        };
        let mut disk = Disk::default();
        disk.perform(vec![write(1, 0, 7, 2)]).unwrap();
        disk.issue(write(2, 0, 8, 2)).unwrap();
        disk.complete(IoId(2));
        disk.flip(5, &mut Rng::new(1));
        assert!(is_newer(&disk));
        disk.issue(sync(3)).unwrap();
        disk.complete(IoId(3));
        disk.crash(&mut Rng::new(1));
        assert!(is_newer(&disk));
    }

    #[test]
    fn copies_of_a_block_are_found() {
        let mut disk = Disk::default();
        let ops = vec![
            write(1, 0, 7, 1),
            write(2, 4096, 8, 1),
            write(3, 8192, 7, 2),
        ];
        disk.perform(ops).unwrap();
        assert_eq!(disk.twins(10), [8202, 12_298]);
        assert_eq!(disk.twins(4096), []);
        disk.flip(8202, &mut Rng::new(1));
        assert_eq!(disk.twins(10), [12_298]);
    }
}
