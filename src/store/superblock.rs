//! The superblock: where the newest checkpoint is and where replay begins. Both
//! copies are written for each checkpoint, one after the other, each made durable
//! before the next step. So a torn write leaves the other copy, and rot in one
//! copy costs nothing: what the older state needs is given up only when both agree.

use bytes::Bytes;

use super::api::FlushSeq;
use super::chunks::{Chunk, Class};
use super::codec::{Put, Reader};
use super::copies::{COPIES, NAMED_MAX, Named};
use crate::base::crc::crc32c;
use crate::base::{BLOCK, PageBuf, StoreId};

pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"MILLRACE");
const VERSION: u32 = 2;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Superblock {
    pub store: StoreId,
    /// Random, so that records of another store are never taken for this one's.
    pub uuid: u64,
    pub journal_bytes: u64,
    /// Grows with each checkpoint.
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
    /// Where it stands, twice.
    pub checkpoint: [Named; COPIES],
}

impl Superblock {
    /// One block, ready to be written.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(BLOCK);
        out.u64(MAGIC);
        out.u32(0); // CRC, below
        out.u32(VERSION);
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
        for copy in &self.checkpoint {
            out.u16(copy.chunks.len() as u16);
            out.u8(u8::from(copy.is_list));
            for chunk in &copy.chunks {
                out.u64(chunk.pos);
                out.u8(chunk.class.code());
            }
        }
        out.resize(BLOCK, 0);
        let crc = crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        let mut page = PageBuf::zeroed(BLOCK);
        page.as_mut_bytes().copy_from_slice(&out);
        page.freeze()
    }

    /// Reads a block back.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn decode(block: &Bytes) -> Result<Self, &'static str> {
        if block.len() != BLOCK {
            return Err("short");
        }
        let mut r = Reader::new(block.clone());
        if r.u64() != Some(MAGIC) {
            return Err("not a superblock");
        }
        if r.u32() != Some(crc32c(&block[12..])) {
            return Err("bad checksum");
        }
        if r.u32() != Some(VERSION) {
            return Err("made by a version of Millrace that this one does not know");
        }
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
            checkpoint: Default::default(),
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
        Some(superblock)
    }
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

const _: () = assert!(100 + COPIES * (3 + NAMED_MAX * 9) <= BLOCK);

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
        }
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
