//! Records of a store's journal: the header, and the entries behind it.

use bytes::Bytes;
use millrace::base::crc::crc32c;
use millrace::store::fuzzing;

use super::{DECODING, Target, outcome};

/// Bytes of a record before its entries, where its length is in there, and where the bytes begin that
/// its checksum covers.
const HEADER: usize = 48;
const LEN_AT: usize = 36;
const SUMMED_AT: usize = 8;

pub const TARGET: Target = Target {
    name: "journal",
    corpus: fuzzing::journal_corpus,
    check,
    repair,
    memory: DECODING,
};

fn check(input: &[u8]) -> u64 {
    outcome(fuzzing::journal(&Bytes::copy_from_slice(input)), &())
}

/// Gives the record a magic number, a length and a CRC that fit.
fn repair(input: &mut [u8]) {
    if input.len() < HEADER {
        return;
    }
    let len = input.len() as u32;
    input[..4].copy_from_slice(b"MRJ3");
    input[LEN_AT..LEN_AT + 4].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c(&input[SUMMED_AT..]);
    input[4..SUMMED_AT].copy_from_slice(&crc.to_le_bytes());
}
