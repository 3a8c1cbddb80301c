//! Why bytes are not a record batch.

use std::fmt;

/// What is wrong with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// The bytes end before the batch does.
    Truncated,
    /// The length field is smaller than a batch can be.
    Length(i32),
    /// Magic 0 or 1: Kafka's message formats of before 0.11.
    OldMagic(i8),
    /// A magic that Kafka never had.
    UnknownMagic(i8),
    /// A compression codec that Kafka never had (ids 5 to 7).
    UnknownCodec(u8),
    /// Record count, last offset delta and base offset contradict each other.
    Counts,
    /// The compressed records cannot be decompressed.
    Compression,
    /// The records decompress to more than the caller allows.
    TooLarge,
    /// The CRC is wrong.
    Crc,
    /// A record is malformed, or there are more or fewer than the header says.
    Record,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the record batch is incomplete"),
            Self::Length(length) => write!(f, "record batch length {length} is too small"),
            Self::OldMagic(magic) => write!(f, "record batch has the old magic {magic}"),
            Self::UnknownMagic(magic) => write!(f, "record batch has the unknown magic {magic}"),
            Self::UnknownCodec(id) => write!(f, "record batch has the unknown codec {id}"),
            Self::Counts => f.write_str("record batch counts and offsets contradict each other"),
            Self::Compression => f.write_str("record batch does not decompress"),
            Self::TooLarge => f.write_str("record batch decompresses to too many bytes"),
            Self::Crc => f.write_str("record batch has failed its CRC checksum"),
            Self::Record => f.write_str("record batch holds a malformed record"),
        }
    }
}

impl std::error::Error for BatchError {}
