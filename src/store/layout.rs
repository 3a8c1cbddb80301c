//! Where things are in a store file.

use crate::base::BLOCK;

/// The unit by which a store grows, and the largest chunk.
pub(super) const REGION: u64 = 4 << 20;
/// First byte of the journal ring. The blocks before it hold the superblocks and the identity; the rest is spare.
pub(super) const RING_START: u64 = 16 * BLOCK as u64;
/// Positions of the two copies of the superblock.
pub(super) const SUPERBLOCKS: [u64; 2] = [0, BLOCK as u64];

/// Positions of the two copies of what says whose store it is.
pub(super) const IDENTITIES: [u64; 2] = [14 * BLOCK as u64, 15 * BLOCK as u64];

const _: () =
    assert!(REGION.is_multiple_of(BLOCK as u64) && RING_START.is_multiple_of(BLOCK as u64));

/// First byte of the chunk area of a store with such a journal.
pub(super) const fn chunks_start(journal_bytes: u64) -> u64 {
    (RING_START + journal_bytes).next_multiple_of(REGION)
}

/// `n` rounded down to whole blocks.
pub(super) const fn block_floor(n: u64) -> u64 {
    n - n % BLOCK as u64
}

/// `n` rounded up to whole blocks.
pub(super) const fn block_ceil(n: u64) -> u64 {
    n.next_multiple_of(BLOCK as u64)
}
