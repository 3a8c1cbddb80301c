//! The content of a checkpoint: every log of a store, its segments and where they are.

use bytes::Bytes;
use millrace::store::fuzzing;

use super::{DECODING, Target, outcome};

pub const TARGET: Target = Target {
    name: "checkpoint",
    corpus: fuzzing::checkpoint_corpus,
    check,
    repair,
    memory: DECODING,
};

fn check(input: &[u8]) -> u64 {
    outcome(fuzzing::checkpoint(&Bytes::copy_from_slice(input)), &())
}

/// Gives it the version that is known. Its checksum is in the superblock.
fn repair(input: &mut [u8]) {
    if let Some(version) = input.first_chunk_mut() {
        *version = 1u32.to_le_bytes();
    }
}
