//! The superblock: where the newest checkpoint is, where replay begins, and which
//! start of the process owns which flushes since. Both copies are written for each
//! checkpoint and each start, one after the other, each made durable before the next
//! step, the worse one first. So a torn write leaves the other copy, and rot in one
//! copy costs nothing: what the older state needs is given up only when both agree.

use bytes::Bytes;

use super::api::FlushSeq;
use super::chunks::{Chunk, Class};
use super::copies::{COPIES, NAMED_MAX, Named};
use super::sealed;
use crate::base::codec::{Put, Reader};
use crate::base::{BLOCK, StoreId};

pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"MILLRACE");
const VERSION: u32 = 9;
/// Starts that a superblock can tell of. A store that has had so many since its last checkpoint makes one
/// before it does anything else.
pub(super) const STARTS_MAX: usize = 16;

/// A start of the process, durable before anything of it is acknowledged.
///
/// A crash may leave whole records in the ring whose flush was torn: right numbers, right chain, and perhaps
/// not where the next process writes its own under the same numbers. Only a record of the start that owns its
/// number counts, so that recovery never has to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// Grows with each start of the store.
    pub number: u64,
    /// What it found: the flushes after this one are its own, up to the next start's.
    pub after: FlushSeq,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Superblock {
    pub store: StoreId,
    /// Random, so that records of another store are never taken for this one's.
    pub uuid: u64,
    pub journal_bytes: u64,
    /// Grows with each rewriting.
    pub generation: u64,
    /// End of the chunk area.
    pub chunks_end: u64,
    /// The flush up to which the checkpoint holds everything.
    pub flush: FlushSeq,
    /// Logical ring position of the record that follows `flush`.
    pub ring_pos: u64,
    /// CRC of the last record before that position: the start of the chain.
    pub chain: u32,
    pub checkpoint_len: u64,
    pub checkpoint_crc: u32,
    /// CRC of its head alone.
    pub checkpoint_head: u32,
    /// Where it stands, twice.
    pub checkpoint: [Named; COPIES],
    /// The starts that own the flushes after the checkpoint, oldest first; never empty.
    pub starts: Vec<Start>,
    /// The newest start has stopped cleanly, and this was its last flush. The next one takes that back before anything.
    pub stopped: Option<FlushSeq>,
}

impl Superblock {
    /// The number of the newest start.
    pub fn start(&self) -> u64 {
        self.starts.last().map_or(0, |start| start.number)
    }

    /// Length and CRC of the checkpoint.
    pub const fn checkpoint_sum(&self) -> (u64, u32) {
        (self.checkpoint_len, self.checkpoint_crc)
    }

    /// Which start a flush after the checkpoint belongs to.
    pub fn owner_of(&self, seq: FlushSeq) -> Option<u64> {
        let owner = self.starts.iter().rev().find(|start| start.after < seq);
        owner.map(|start| start.number)
    }

    /// Up to which flush everything is known to have been durable: a later start has found it, or the newest one has
    /// stopped with it.
    pub fn found(&self) -> FlushSeq {
        let found = self.starts.last().map_or(self.flush, |start| start.after);
        self.stopped.map_or(found, |stopped| stopped.max(found))
    }

    /// One more start, which found everything up to `after`. A start before it of which nothing is left needs
    /// no place: what it may have written is nobody's. False if there is no place for another one.
    pub fn begin(&mut self, after: FlushSeq) -> bool {
        let number = self.start() + 1;
        self.stopped = None;
        self.starts.retain(|start| start.after < after);
        if self.starts.len() == STARTS_MAX {
            return false;
        }
        self.generation += 1;
        self.starts.push(Start { number, after });
        true
    }

    /// One block, ready to be written.
    pub fn encode(&self) -> Bytes {
        let mut out = sealed::begin(MAGIC, VERSION);
        out.u16(self.store.0);
        out.u64(self.uuid);
        out.u64(self.journal_bytes);
        out.u64(self.generation);
        out.u64(self.chunks_end);
        out.u64(self.flush.0);
        out.u64(self.ring_pos);
        out.u32(self.chain);
        out.u64(self.checkpoint_len);
        out.u32(self.checkpoint_crc);
        out.u32(self.checkpoint_head);
        for copy in &self.checkpoint {
            out.u16(copy.chunks.len() as u16);
            out.u8(u8::from(copy.is_list));
            for chunk in &copy.chunks {
                out.u64(chunk.pos);
                out.u8(chunk.class.code());
            }
        }
        out.u32(self.starts.len() as u32);
        for start in &self.starts {
            out.u64(start.number);
            out.u64(start.after.0);
        }
        out.u8(u8::from(self.stopped.is_some()));
        out.u64(self.stopped.map_or(0, |stopped| stopped.0));
        sealed::seal(out)
    }

    /// Reads a block back.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn decode(block: &Bytes) -> Result<Self, &'static str> {
        if block.len() != BLOCK {
            return Err("short");
        }
        let mut r = sealed::open(block, MAGIC, VERSION, "not a superblock")?;
        Self::decode_fields(&mut r).ok_or("contradicts itself")
    }

    fn decode_fields(r: &mut Reader) -> Option<Self> {
        let mut superblock = Self {
            store: StoreId(r.u16()?),
            uuid: r.u64()?,
            journal_bytes: r.u64()?,
            generation: r.size()?,
            chunks_end: r.size()?,
            flush: FlushSeq(r.size()?),
            ring_pos: r.size()?,
            chain: r.u32()?,
            checkpoint_len: r.u64()?,
            checkpoint_crc: r.u32()?,
            checkpoint_head: r.u32()?,
            checkpoint: Default::default(),
            starts: Vec::new(),
            stopped: None,
        };
        if superblock.journal_bytes == 0
            || !superblock.journal_bytes.is_multiple_of(BLOCK as u64)
            || superblock.journal_bytes > 1 << 40
            || !superblock.ring_pos.is_multiple_of(BLOCK as u64)
        {
            return None;
        }
        for copy in &mut superblock.checkpoint {
            *copy = decode_named(r)?;
            let room: u64 = copy.chunks.iter().map(|c| c.class.bytes()).sum();
            if !copy.is_list && !copy.chunks.is_empty() && superblock.checkpoint_len > room {
                return None;
            }
        }
        let starts = r.u32()? as usize;
        if starts == 0 || starts > STARTS_MAX {
            return None;
        }
        for _ in 0..starts {
            let start = Start {
                number: r.size()?,
                after: FlushSeq(r.size()?),
            };
            let before = superblock.starts.last();
            let grows = before.is_none_or(|b| b.number < start.number && b.after < start.after);
            if !grows || start.after < superblock.flush {
                return None;
            }
            superblock.starts.push(start);
        }
        let (has_stopped, last) = (r.u8()?, FlushSeq(r.size()?));
        superblock.stopped = match has_stopped {
            0 => None,
            1 if last >= superblock.found() => Some(last),
            _ => return None,
        };
        Some(superblock)
    }
}

/// Bytes of each copy of the checkpoint that a superblock names; `None` if the block is no superblock.
#[must_use]
pub fn checkpoint_bytes(block: &Bytes) -> Option<u64> {
    let superblock = Superblock::decode(block).ok()?;
    Some(superblock.checkpoint_len)
}

fn decode_named(r: &mut Reader) -> Option<Named> {
    let count = usize::from(r.u16()?);
    let is_list = match r.u8()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    if count > NAMED_MAX || is_list && count == 0 {
        return None;
    }
    let mut chunks = Vec::with_capacity(count);
    for _ in 0..count {
        chunks.push(Chunk {
            pos: r.size()?,
            class: Class::from_code(r.u8()?)?,
        });
    }
    Some(Named { is_list, chunks })
}

const _: () = assert!(113 + COPIES * (3 + NAMED_MAX * 9) + STARTS_MAX * 16 <= BLOCK);

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(mib: u64) -> Chunk {
        Chunk {
            pos: mib << 20,
            class: Class::Medium,
        }
    }

    fn sample() -> Superblock {
        Superblock {
            store: StoreId(3),
            uuid: 7,
            journal_bytes: 1 << 20,
            generation: 9,
            chunks_end: 64 << 20,
            flush: FlushSeq(100),
            ring_pos: 8192,
            chain: 0xdead_beef,
            checkpoint_len: 300_000,
            checkpoint_crc: 5,
            checkpoint_head: 6,
            checkpoint: [
                Named {
                    is_list: false,
                    chunks: [4, 8].map(chunk).to_vec(),
                },
                Named {
                    is_list: true,
                    chunks: vec![chunk(12)],
                },
            ],
            starts: vec![
                Start {
                    number: 3,
                    after: FlushSeq(100),
                },
                Start {
                    number: 5,
                    after: FlushSeq(104),
                },
            ],
            stopped: None,
        }
    }

    #[test]
    fn a_flush_belongs_to_the_newest_start_before_it() {
        let mut superblock = sample();
        let owner = |superblock: &Superblock, seq| superblock.owner_of(FlushSeq(seq));
        assert_eq!(owner(&superblock, 100), None);
        assert_eq!(owner(&superblock, 101), Some(3));
        assert_eq!(owner(&superblock, 104), Some(3));
        assert_eq!(owner(&superblock, 105), Some(5));
        assert_eq!(superblock.found(), FlushSeq(104));
        // Nothing of the last start was found: its numbers are the new one's, its records nobody's.
        assert!(superblock.begin(FlushSeq(104)));
        assert_eq!((superblock.start(), superblock.starts.len()), (6, 2));
        assert_eq!(owner(&superblock, 105), Some(6));
        assert_eq!(superblock.generation, sample().generation + 1);
        for after in 105.. {
            let before = superblock.clone();
            if !superblock.begin(FlushSeq(after)) {
                assert_eq!((before.starts.len(), &before), (STARTS_MAX, &superblock));
                break;
            }
            assert_eq!(
                Superblock::decode(&superblock.encode()),
                Ok(superblock.clone())
            );
        }
    }

    #[test]
    fn what_a_start_has_stopped_with_was_durable_until_the_next_one() {
        let mut superblock = sample();
        superblock.stopped = Some(FlushSeq(109));
        assert_eq!(superblock.found(), FlushSeq(109));
        assert_eq!(
            Superblock::decode(&superblock.encode()),
            Ok(superblock.clone())
        );
        let mut older = superblock.clone();
        older.stopped = Some(FlushSeq(103));
        assert!(Superblock::decode(&older.encode()).is_err());
        assert!(superblock.begin(FlushSeq(109)));
        assert_eq!(superblock.stopped, None);
        // Also if there is no place for it.
        for after in 110..130 {
            superblock.stopped = Some(FlushSeq(after));
            superblock.begin(FlushSeq(after));
            assert_eq!(superblock.stopped, None);
        }
        assert_eq!(superblock.starts.len(), STARTS_MAX);
    }

    #[test]
    fn round_trip_and_every_flipped_bit_is_noticed() {
        let block = sample().encode();
        assert_eq!(Superblock::decode(&block), Ok(sample()));
        for bit in 0..BLOCK * 8 {
            let mut bad = block.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::decode(&bad.into()).is_err(), "bit {bit}");
        }
    }
}
