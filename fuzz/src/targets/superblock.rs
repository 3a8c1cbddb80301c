//! The superblock, where the reading of a store begins.

use bytes::Bytes;
use millrace::base::BLOCK;
use millrace::base::crc::crc32c;
use millrace::store::fuzzing;

use super::{DECODING, Target, outcome};

/// Where the bytes begin that its checksum covers: behind the magic number and itself.
const SUMMED_AT: usize = 12;

pub const TARGET: Target = Target {
    name: "superblock",
    corpus: fuzzing::superblock_corpus,
    check,
    repair,
    memory: DECODING,
};

/// As it is, and as the whole block that a store always reads.
fn check(input: &[u8]) -> u64 {
    let raw = fuzzing::superblock(&Bytes::copy_from_slice(input));
    let whole = fuzzing::superblock(&block(input).into());
    outcome((raw, whole), &())
}

fn block(input: &[u8]) -> Vec<u8> {
    let mut block = input.to_vec();
    block.resize(BLOCK, 0);
    block
}

/// Gives it a magic number, and the CRC that it has as a whole block.
fn repair(input: &mut [u8]) {
    if input.len() < SUMMED_AT {
        return;
    }
    input[..8].copy_from_slice(b"MILLRACE");
    let crc = crc32c(&block(input)[SUMMED_AT..]);
    input[8..SUMMED_AT].copy_from_slice(&crc.to_le_bytes());
}
