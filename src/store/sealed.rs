//! A block that stands twice on the disk and says itself what it is: magic, checksum, version, then what it
//! holds. Superblocks and identities are such blocks.

use bytes::Bytes;

use super::api::{DiskOp, IoId};
use crate::base::codec::{Put, Reader};
use crate::base::crc::crc32c;
use crate::base::{BLOCK, PageBuf};

/// Where the checksum stands, and where what it covers begins.
const CRC: usize = 8;
const COVERED: usize = 12;

/// The start of a block; its content is appended, then it is [sealed](seal).
pub(super) fn begin(magic: u64, version: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(BLOCK);
    out.u64(magic);
    out.u32(0); // The checksum.
    out.u32(version);
    out
}

/// One block, ready to be written. The content fits, as its encoder knows.
pub(super) fn seal(mut out: Vec<u8>) -> Bytes {
    debug_assert!(out.len() <= BLOCK);
    out.resize(BLOCK, 0);
    let crc = crc32c(&out[COVERED..]);
    out[CRC..COVERED].copy_from_slice(&crc.to_le_bytes());
    let mut page = PageBuf::zeroed(BLOCK);
    page.as_mut_bytes().copy_from_slice(&out);
    page.freeze()
}

/// A reader of the content.
///
/// # Errors
/// What is wrong with the block, for people; `no_magic` if it is something else.
pub(super) fn open(
    block: &Bytes,
    magic: u64,
    version: u32,
    no_magic: &'static str,
) -> Result<Reader, &'static str> {
    let mut r = Reader::new(block.clone());
    if r.u64() != Some(magic) {
        return Err(no_magic);
    }
    if r.u32() != block.get(COVERED..).map(crc32c) {
        return Err("bad checksum");
    }
    if r.u32() != Some(version) {
        return Err("made by a version of Millrace that this one does not know");
    }
    Ok(r)
}

/// The operations that write both copies, to be performed one after the other: the worse copy first, as a torn
/// write is to leave one.
pub(super) fn write_twice(block: &Bytes, copies: [u64; 2], worse: usize) -> Vec<DiskOp> {
    let id = IoId(0);
    let write = |copy: usize| {
        [
            DiskOp::Write {
                id,
                pos: copies[copy],
                data: block.clone(),
                background: false,
                through: false,
            },
            DiskOp::Sync {
                id,
                background: false,
            },
        ]
    };
    [worse, 1 - worse].into_iter().flat_map(write).collect()
}
