//! Where a checkpoint stands: twice, each copy in chunks of its own, so that what
//! rots in one is whole in the other. Chunks of any size will do: if they are too
//! small for the superblock to name them all, it names those of a list of them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::api::DiskError;
use super::chunks::{Chunk, Chunks, Class};
use super::parts::take;
use crate::base::BLOCK;
use crate::base::codec::{Put, Reader};
use crate::base::crc::crc32c;

/// Copies of a checkpoint.
pub(super) const COPIES: usize = 2;
/// Chunks that the superblock names for one copy.
pub(super) const NAMED_MAX: usize = 160;
/// Bytes of a list before its chunks: its CRC and their number.
const LIST_HEADER: u64 = 8;
/// Bytes of a chunk in a list.
const LIST_ENTRY: u64 = 9;
/// Largest read at once.
const READ_BYTES: u64 = 1 << 20;

/// How the superblock names a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// Whether the chunks hold a list of the content's chunks, not the content itself.
    pub is_list: bool,
    /// None if there is no such copy.
    pub chunks: Vec<Chunk>,
}

/// The chunks of one copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Copy {
    /// Bytes of all its chunks.
    pub bytes: u64,
    content: Vec<Chunk>,
    /// Where the list of the content's chunks is; empty if the superblock names them itself.
    list: Vec<Chunk>,
}

/// What a copy of so many bytes takes at most, however small the free chunks are.
pub(super) const fn copy_bytes_max(len: u64) -> u64 {
    let small = Class::Small.bytes();
    let content = len.next_multiple_of(small);
    let list = LIST_HEADER + content / small * LIST_ENTRY;
    content + list.next_multiple_of(small)
}

impl Copy {
    /// Takes chunks for content of `len` bytes; `None`, with nothing taken, if there are too few.
    pub fn take(len: u64, from: &mut Chunks) -> Option<Self> {
        let content = from.take_bytes(len)?;
        if content.len() <= NAMED_MAX {
            return Some(Self::of(content, Vec::new()));
        }
        let list = from.take_bytes(LIST_HEADER + LIST_ENTRY * content.len() as u64);
        let copy = Self::of(content, list.unwrap_or_default());
        if (1..=NAMED_MAX).contains(&copy.list.len()) {
            return Some(copy);
        }
        copy.chunks().for_each(|chunk| from.free(chunk));
        None
    }

    fn of(content: Vec<Chunk>, list: Vec<Chunk>) -> Self {
        let chunks = content.iter().chain(&list);
        Self {
            bytes: chunks.map(|chunk| chunk.class.bytes()).sum(),
            content,
            list,
        }
    }

    /// All its chunks.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> + '_ {
        self.content.iter().chain(&self.list).copied()
    }

    pub fn named(&self) -> Named {
        let is_list = !self.list.is_empty();
        let chunks = if is_list { &self.list } else { &self.content };
        Named {
            is_list,
            chunks: chunks.clone(),
        }
    }

    /// The writes that make it, none larger than `most`: positions and bytes.
    pub fn writes(&self, content: &[Bytes], most: u64) -> Vec<Todo> {
        let mut writes = Vec::new();
        spread(&self.content, content, most, &mut writes);
        if !self.list.is_empty() {
            spread(&self.list, &[encode_list(&self.content)], most, &mut writes);
        }
        writes
    }
}

/// A write that is still to be made: a position, and the bytes in parts.
pub(super) type Todo = (u64, Vec<Bytes>);

fn spread(chunks: &[Chunk], content: &[Bytes], most: u64, out: &mut Vec<Todo>) {
    let mut rest = VecDeque::from(content.to_vec());
    for chunk in chunks {
        let bytes = chunk.class.bytes();
        for start in (0..bytes).step_by(most as usize) {
            let parts = take(&mut rest, most.min(bytes - start) as usize);
            if parts.is_empty() {
                return;
            }
            out.push((chunk.pos + start, parts));
        }
    }
}

fn encode_list(chunks: &[Chunk]) -> Bytes {
    let mut out = Vec::with_capacity((LIST_HEADER + LIST_ENTRY * chunks.len() as u64) as usize);
    out.u32(0); // CRC, below
    out.u32(chunks.len() as u32);
    for chunk in chunks {
        out.u64(chunk.pos);
        out.u8(chunk.class.code());
    }
    let crc = crc32c(&out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out.into()
}

/// Length of the list that begins so.
fn list_bytes(start: &Bytes) -> u64 {
    let mut r = Reader::new(start.clone());
    let count = r.u32().and_then(|_| r.u32()).unwrap_or(0);
    LIST_HEADER + LIST_ENTRY * u64::from(count)
}

fn decode_list(bytes: &Bytes) -> Option<Vec<Chunk>> {
    let mut r = Reader::new(bytes.clone());
    let (crc, count) = (r.u32()?, r.u32()?);
    if bytes.len() as u64 != list_bytes(bytes) || crc32c(&bytes[4..]) != crc {
        return None;
    }
    let chunk = |r: &mut Reader| {
        Some(Chunk {
            pos: r.size()?,
            class: Class::from_code(r.u8()?)?,
        })
    };
    (0..count).map(|_| chunk(&mut r)).collect()
}

/// Reads whole blocks.
pub(super) type Read<'a> = &'a mut dyn FnMut(u64, usize) -> Result<Bytes, DiskError>;

/// The chunks of a copy, as far as the disk still knows them. A list that cannot be read is gone, and
/// what it named with it: the other copy is there for that.
pub(super) fn find(named: &Named, read: Read<'_>) -> Result<Copy, String> {
    if !named.is_list {
        return Ok(Copy::of(named.chunks.clone(), Vec::new()));
    }
    // How long it is stands in its beginning; what comes after it was perhaps never written.
    let start = read_chunks(&named.chunks, LIST_HEADER, read)?;
    let list = read_chunks(&named.chunks, list_bytes(&start), read)?;
    let content = decode_list(&list).ok_or("bad list of its chunks")?;
    Ok(Copy::of(content, named.chunks.clone()))
}

/// The content as it stands in a copy, and whether it is what was written: so many bytes, with this CRC.
pub(super) fn content(
    copy: &Copy,
    (len, crc): (u64, u32),
    read: Read<'_>,
) -> Result<(Bytes, bool), String> {
    let content = read_chunks(&copy.content, len, read)?;
    if content.len() as u64 != len {
        return Err("too short".into());
    }
    let whole = crc32c(&content) == crc;
    Ok((content, whole))
}

fn read_chunks(chunks: &[Chunk], len: u64, read: Read<'_>) -> Result<Bytes, String> {
    let mut bytes = Vec::new();
    for chunk in chunks {
        let end = len.min(bytes.len() as u64 + chunk.class.bytes());
        let mut pos = chunk.pos;
        while (bytes.len() as u64) < end {
            let wanted = (end - bytes.len() as u64).min(READ_BYTES) as usize;
            let part = read(pos, wanted.next_multiple_of(BLOCK))
                .map_err(|error| format!("errno {}", error.errno))?;
            let part = part.get(..wanted).ok_or("too short")?;
            bytes.extend_from_slice(part);
            pos += wanted as u64;
        }
    }
    Ok(bytes.into())
}

/// Bytes of the chunks of a checkpoint.
pub(super) fn bytes_of(copies: &[Copy; COPIES]) -> u64 {
    copies.iter().map(|copy| copy.bytes).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::layout::REGION;
    use super::*;

    /// Free space of small chunks only, no two of them side by side.
    fn crumbs(bytes: u64) -> Chunks {
        let small = Class::Small.bytes();
        let all = 2 * bytes.next_multiple_of(REGION);
        let used: BTreeSet<Chunk> = (0..all)
            .step_by(2 * small as usize)
            .map(|pos| Chunk {
                pos,
                class: Class::Small,
            })
            .collect();
        Chunks::rebuilt(0, all, all, &used).expect("disjoint")
    }

    #[test]
    fn what_it_takes_at_most_is_enough_in_crumbs_and_comes_back() {
        for len in [1, 16 << 10, 2_621_440, 2_621_441, 7_000_000, 30_000_001] {
            let mut chunks = crumbs(copy_bytes_max(len) + REGION);
            let free = chunks.free_bytes();
            while chunks.free_bytes() > copy_bytes_max(len) {
                chunks.take_bytes(1).expect("more than enough");
            }
            let left = chunks.free_bytes();
            let copy = Copy::take(len, &mut chunks).expect("room");
            assert_eq!(left - chunks.free_bytes(), copy.bytes);
            copy.chunks().for_each(|chunk| chunks.free(chunk));
            assert_eq!(chunks.free_bytes(), left);
            assert!(left <= free);
        }
    }

    #[test]
    fn a_copy_is_written_and_found_whatever_its_size() {
        for len in [1usize, 40_000, 5_000_000] {
            let content: Bytes = (0..len).map(|n| (n / 1000) as u8).collect();
            let mut chunks = crumbs(2 * copy_bytes_max(len as u64));
            let copy = Copy::take(len as u64, &mut chunks).expect("room");
            let mut blocks: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            let parts = [content.slice(..len / 3), content.slice(len / 3..)];
            for (pos, parts) in copy.writes(&parts, 256 << 10) {
                for (n, bytes) in parts.concat().chunks(BLOCK).enumerate() {
                    let mut block = bytes.to_vec();
                    block.resize(BLOCK, 0);
                    blocks.insert(pos + (n * BLOCK) as u64, block);
                }
            }
            let sum = (len as u64, crc32c(&content));
            let mut read = |pos: u64, len: usize| {
                let range = (pos..pos + len as u64).step_by(BLOCK);
                Ok(range.flat_map(|at| blocks[&at].clone()).collect())
            };
            let named = copy.named();
            assert_eq!(named.is_list, len > 1_000_000);
            let found = super::find(&named, &mut read).expect("its chunks");
            assert_eq!(found, copy);
            let again = super::content(&found, sum, &mut read);
            assert_eq!(again, Ok((content, true)));
            // One rotten byte is noticed, in the list as in the content.
            let at = named.chunks[0].pos;
            blocks.get_mut(&at).expect("written")[0] ^= 1;
            let mut read = |pos: u64, len: usize| {
                let range = (pos..pos + len as u64).step_by(BLOCK);
                Ok(range.flat_map(|at| blocks[&at].clone()).collect())
            };
            let found = super::find(&named, &mut read);
            let content = super::content(&copy, sum, &mut read);
            assert!(found.is_err() || content.is_ok_and(|(_, whole)| !whole));
        }
    }
}
