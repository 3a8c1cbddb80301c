//! The decoders under attack, one file each.

mod batch;
mod checkpoint;
mod fetch;
mod frame;
mod groups;
mod journal;
mod metadata;
mod peer;
mod produce;
mod quorum;
mod superblock;

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

/// One decoder, or a family of them.
pub struct Target {
    /// Name on the command line.
    pub name: &'static str,
    /// Good inputs to start from.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// Runs the decoder and asserts what must hold. The number tells outcomes apart: inputs with
    /// a new one are worth mutating further.
    pub check: fn(&[u8]) -> u64,
    /// Makes a damaged input pass the first checks again (lengths, checksums), so that the damage
    /// reaches what lies behind them. Used for half of the inputs.
    pub repair: fn(&mut [u8]),
    /// What one check may allocate.
    pub memory: Memory,
}

/// Bytes that a check may have allocated at one time.
pub struct Memory {
    /// For any input.
    pub fixed: usize,
    /// For each byte of input.
    pub per_byte: usize,
}

impl Memory {
    /// The bound for an input of `len` bytes.
    pub fn allowed(&self, len: usize) -> usize {
        self.fixed + self.per_byte * len
    }
}

/// Decoded types are wider than their bytes, and a check decodes more than once.
const DECODING: Memory = Memory {
    fixed: 128 * 1024,
    per_byte: 128,
};

/// Every target.
pub const TARGETS: &[Target] = &[
    frame::TARGET,
    produce::TARGET,
    fetch::TARGET,
    batch::TARGET,
    journal::TARGET,
    checkpoint::TARGET,
    superblock::TARGET,
    metadata::TARGET,
    peer::TARGET,
    groups::TARGET,
    quorum::TARGET,
];

/// An outcome from anything printable: errors say what they stumbled over, and where. Only the
/// first number counts, which is where, and only if it is short: otherwise every input would be
/// something new.
fn outcome(tag: impl Hash, value: &impl Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    tag.hash(&mut hasher);
    let text = format!("{value:?}");
    let mut numbers = 0;
    for run in text
        .as_bytes()
        .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
    {
        let number = run[0].is_ascii_digit();
        numbers += usize::from(number);
        if !number || (numbers == 1 && run.len() <= 2) {
            run.hash(&mut hasher);
        }
    }
    hasher.finish()
}
