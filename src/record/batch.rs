//! The batch header: views, parsing, and the few fields the broker rewrites.
//!
//! Layout, big endian: base offset 0..8, length 8..12 (of what follows it),
//! leader epoch 12..16, magic 16, CRC32C 17..21 (of what follows it), attributes
//! 21..23, last offset delta 23..27, base timestamp 27..35, max timestamp 35..43,
//! producer id 43..51, producer epoch 51..53, base sequence 53..57, count 57..61.

use zerocopy::big_endian::{I16, I32, I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::codec::Codec;
use super::error::BatchError;
use crate::base::crc::crc32c;
use crate::base::{LeaderEpoch, Offset};

/// Bytes of a batch before its records.
pub const HEADER_LEN: usize = 61;
/// Bytes that the length field does not count: base offset and length itself.
pub(super) const LOG_OVERHEAD: usize = 12;
/// Bytes needed to see the magic, which has the same place in every format.
const UP_TO_MAGIC: usize = 17;
/// Where the CRC's coverage begins.
const CRC_FROM: usize = 21;

const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
pub(super) const TRANSACTIONAL: i16 = 0x10;
pub(super) const CONTROL: i16 = 0x20;
/// The base timestamp says until when tombstones stay (KIP-534).
pub(super) const DELETE_HORIZON: i16 = 0x40;

/// The header of a batch, in place.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct BatchHeader {
    pub(super) base_offset: I64,
    pub(super) batch_length: I32,
    pub(super) partition_leader_epoch: I32,
    pub(super) magic: i8,
    pub(super) crc: U32,
    pub(super) attributes: I16,
    pub(super) last_offset_delta: I32,
    pub(super) base_timestamp: I64,
    pub(super) max_timestamp: I64,
    pub(super) producer_id: I64,
    pub(super) producer_epoch: I16,
    pub(super) base_sequence: I32,
    pub(super) records_count: I32,
}

const _: () = assert!(size_of::<BatchHeader>() == HEADER_LEN);

macro_rules! accessors {
    ($($(#[$doc:meta])* $name:ident -> $ty:ty;)*) => {
        impl BatchHeader {
            $($(#[$doc])* #[must_use] pub fn $name(&self) -> $ty { self.$name.into() })*
        }
    };
}

accessors! {
    /// Offset of the first record.
    base_offset -> i64;
    /// Length of the batch after this field, in bytes.
    batch_length -> i32;
    /// Epoch of the leader that appended the batch.
    partition_leader_epoch -> i32;
    /// Format: 2.
    magic -> i8;
    /// CRC32C of everything after it.
    crc -> u32;
    /// Codec, timestamp type, transactional and control bits.
    attributes -> i16;
    /// Offset of the last record, relative to the base offset.
    last_offset_delta -> i32;
    /// Milliseconds since 1970 to which the records' timestamps are relative.
    base_timestamp -> i64;
    /// The largest timestamp in the batch.
    max_timestamp -> i64;
    /// Producer id, -1 if the producer is not idempotent.
    producer_id -> i64;
    /// Producer epoch, -1 if the producer is not idempotent.
    producer_epoch -> i16;
    /// Sequence number of the first record, -1 if the producer is not idempotent.
    base_sequence -> i32;
    /// Number of records.
    records_count -> i32;
}

impl BatchHeader {
    /// Whether the batch is part of a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    /// Whether the batch holds markers of the broker instead of records.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }
}

/// The header at the start of `bytes`, unchecked; `None` if there are fewer than 61 bytes.
#[must_use]
pub fn header(bytes: &[u8]) -> Option<&BatchHeader> {
    BatchHeader::ref_from_prefix(bytes)
        .ok()
        .map(|(head, _)| head)
}

fn header_mut(bytes: &mut [u8]) -> Option<&mut BatchHeader> {
    BatchHeader::mut_from_prefix(bytes)
        .ok()
        .map(|(head, _)| head)
}

/// Who set the timestamps of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer (`CreateTime`).
    #[default]
    CreateTime,
    /// The broker, one for the whole batch (`LogAppendTime`).
    LogAppendTime,
}

/// What a header says, checked by [`parse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchInfo {
    /// Length of the whole batch in bytes.
    pub len: usize,
    /// Offset of the first record.
    pub base_offset: i64,
    /// Epoch of the leader that appended the batch.
    pub leader_epoch: i32,
    /// Offset of the last record, relative to the base offset; never negative.
    pub last_offset_delta: i32,
    /// Number of records; 0 in a batch that compaction emptied.
    pub records: i32,
    /// Milliseconds since 1970 to which the records' timestamps are relative.
    pub base_timestamp: i64,
    /// The largest timestamp in the batch.
    pub max_timestamp: i64,
    /// The smallest timestamp of its records that have one. The header does not tell it: until the records
    /// were looked at it is the largest one.
    pub min_timestamp: i64,
    /// Producer id, -1 if the producer is not idempotent.
    pub producer_id: i64,
    /// Producer epoch, -1 if the producer is not idempotent.
    pub producer_epoch: i16,
    /// Sequence number of the first record, -1 if the producer is not idempotent.
    pub base_sequence: i32,
    /// Codec, timestamp type, transactional and control bits.
    pub attributes: i16,
}

impl BatchInfo {
    /// How the records are compressed.
    #[must_use]
    pub fn codec(&self) -> Codec {
        // `parse` refuses ids that are no codec.
        Codec::from_id(codec_id(self.attributes)).unwrap_or(Codec::None)
    }

    /// Whether the batch is part of a transaction.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch holds markers of the broker instead of records.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Until when its tombstones stay, if compaction has seen them.
    #[must_use]
    pub const fn delete_horizon_ms(&self) -> Option<i64> {
        match self.attributes & DELETE_HORIZON {
            0 => None,
            _ => Some(self.base_timestamp),
        }
    }

    /// Who set the timestamps.
    #[must_use]
    pub const fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(self.last_offset_delta as i64)
    }

    /// Whether an idempotent producer made it.
    #[must_use]
    pub const fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence number of the last record; sequences wrap from `i32::MAX` to 0.
    #[must_use]
    pub const fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        (self.base_sequence as i64 + self.last_offset_delta as i64).rem_euclid(1 << 31) as i32
    }
}

fn codec_id(attributes: i16) -> u8 {
    (attributes & CODEC_MASK) as u8
}

/// Checks the first batch in `bytes`: it is whole, of magic 2, of a known codec, and its counts
/// agree. Does not look at the CRC nor at the records.
///
/// # Errors
/// [`BatchError::Truncated`] if more bytes are needed, otherwise what is wrong.
pub fn parse(bytes: &[u8]) -> Result<BatchInfo, BatchError> {
    let len = whole_len(bytes)?;
    let head = header(bytes.get(..len).ok_or(BatchError::Truncated)?)
        .ok_or(BatchError::Length(len as i32 - LOG_OVERHEAD as i32))?;
    let info = BatchInfo {
        len,
        base_offset: head.base_offset(),
        leader_epoch: head.partition_leader_epoch(),
        last_offset_delta: head.last_offset_delta(),
        records: head.records_count(),
        base_timestamp: head.base_timestamp(),
        max_timestamp: head.max_timestamp(),
        min_timestamp: head.max_timestamp(),
        producer_id: head.producer_id(),
        producer_epoch: head.producer_epoch(),
        base_sequence: head.base_sequence(),
        attributes: head.attributes(),
    };
    if Codec::from_id(codec_id(info.attributes)).is_none() {
        return Err(BatchError::UnknownCodec(codec_id(info.attributes)));
    }
    // Compaction leaves gaps, so there may be fewer records than offsets, never more.
    let counts_agree = info.base_offset >= 0
        && info.last_offset_delta >= 0
        && info.records >= 0
        && i64::from(info.records) <= i64::from(info.last_offset_delta) + 1
        && info
            .base_offset
            .checked_add(i64::from(info.last_offset_delta))
            .is_some();
    if counts_agree {
        Ok(info)
    } else {
        Err(BatchError::Counts)
    }
}

/// Length of the first batch, header checked as far as its length and format.
///
/// The order of the checks is Kafka's: the length must at least be that of the smallest old
/// message, then the magic is looked at, and only then what magic 2 needs.
fn whole_len(bytes: &[u8]) -> Result<usize, BatchError> {
    const SMALLEST_OLD_MESSAGE: i32 = 14;
    let length = bytes.get(8..LOG_OVERHEAD).ok_or(BatchError::Truncated)?;
    let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
    if length < SMALLEST_OLD_MESSAGE {
        return Err(BatchError::Length(length));
    }
    match *bytes.get(UP_TO_MAGIC - 1).ok_or(BatchError::Truncated)? as i8 {
        2 => {}
        magic @ (0 | 1) => return Err(BatchError::OldMagic(magic)),
        magic => return Err(BatchError::UnknownMagic(magic)),
    }
    if (length as usize) < HEADER_LEN - LOG_OVERHEAD {
        return Err(BatchError::Length(length));
    }
    Ok(length as usize + LOG_OVERHEAD)
}

/// Whether the CRC32C of the batch is right; `false` if it is not whole.
#[must_use]
pub fn check_crc(batch: &[u8]) -> bool {
    let Some(head) = header(batch) else {
        return false;
    };
    let end = i64::from(head.batch_length()) + LOG_OVERHEAD as i64;
    usize::try_from(end)
        .ok()
        .and_then(|end| batch.get(CRC_FROM..end))
        .is_some_and(|covered| crc32c(covered) == head.crc())
}

/// The whole batches of `bytes`, one after the other. See [`Batches`].
#[must_use]
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes }
}

/// Iterator of [`batches`]. A partial batch at the end, as a fetch may return it, ends it silently;
/// after an error it ends too, since nothing says where the next batch would begin.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl Batches<'_> {
    /// Bytes not yet consumed: after the end, the length of the partial batch.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(BatchInfo, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        match parse(self.rest) {
            Ok(info) => {
                let (batch, rest) = self.rest.split_at_checked(info.len)?;
                self.rest = rest;
                Some(Ok((info, batch)))
            }
            Err(BatchError::Truncated) => None,
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// Writes what the leader decides into a batch: the offset of its first record and the epoch.
/// Both lie outside the CRC. Nothing happens if `batch` is shorter than a header.
pub fn stamp(batch: &mut [u8], base_offset: Offset, epoch: LeaderEpoch) {
    if let Some(head) = header_mut(batch) {
        head.base_offset = I64::new(base_offset.0);
        head.partition_leader_epoch = I32::new(epoch.0);
    }
}

/// Makes `wall_ms` the timestamp of all records of this one whole batch: sets the LogAppendTime
/// bit and the max timestamp, and computes the CRC anew. The base timestamp stays, as in Kafka.
pub fn set_log_append_time(batch: &mut [u8], wall_ms: i64) {
    if let Some(head) = header_mut(batch) {
        head.attributes = I16::new(head.attributes.get() | LOG_APPEND_TIME);
        head.max_timestamp = I64::new(wall_ms);
        set_crc(batch);
    }
}

/// Takes the LogAppendTime bit away from this one whole batch, and computes the CRC anew.
pub fn set_create_time(batch: &mut [u8]) {
    if let Some(head) = header_mut(batch) {
        head.attributes = I16::new(head.attributes.get() & !LOG_APPEND_TIME);
        set_crc(batch);
    }
}

/// Writes the largest timestamp of the records of this one whole batch, and computes the CRC anew.
pub(super) fn set_max_timestamp(batch: &mut [u8], timestamp: i64) {
    if let Some(head) = header_mut(batch) {
        head.max_timestamp = I64::new(timestamp);
        set_crc(batch);
    }
}

/// Computes the CRC of this one whole batch and stores it.
pub(super) fn set_crc(batch: &mut [u8]) {
    let crc = batch.get(CRC_FROM..).map_or(0, crc32c);
    if let Some(head) = header_mut(batch) {
        head.crc = U32::new(crc);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::BatchBuilder;

    fn batch(records: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None, 1_000);
        for i in 0..records {
            builder.push(1_000 + i as i64, Some(b"key"), Some(b"value"), &[]);
        }
        builder.build().to_vec()
    }

    #[test]
    fn stamping_keeps_the_crc() {
        let mut bytes = batch(3);
        stamp(&mut bytes, Offset(77), LeaderEpoch(5));
        let info = parse(&bytes).unwrap();
        assert_eq!(
            (info.base_offset, info.last_offset(), info.leader_epoch),
            (77, 79, 5)
        );
        assert_eq!(bytes[..8], 77i64.to_be_bytes());
        assert_eq!(bytes[12..16], 5i32.to_be_bytes());
        assert!(check_crc(&bytes));
    }

    #[test]
    fn log_append_time_sets_bit_max_timestamp_and_crc() {
        let mut bytes = batch(2);
        set_log_append_time(&mut bytes, 123_456);
        let info = parse(&bytes).unwrap();
        assert_eq!(info.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!((info.base_timestamp, info.max_timestamp), (1_000, 123_456));
        assert!(check_crc(&bytes));
    }

    #[test]
    fn a_partial_batch_ends_the_iteration_silently() {
        let mut bytes = batch(1);
        let first = bytes.len();
        bytes.extend(batch(2));
        let whole = bytes.len();
        bytes.extend(&batch(3)[..40]);
        let mut iter = batches(&bytes);
        assert_eq!(iter.next().unwrap().unwrap().1.len(), first);
        assert_eq!(iter.next().unwrap().unwrap().0.records, 2);
        assert!(iter.next().is_none());
        assert_eq!(iter.remaining(), bytes.len() - whole);
    }

    #[test]
    fn errors_are_told_apart() {
        let good = batch(1);
        let with = |pos: usize, value: &[u8]| {
            let mut bytes = good.clone();
            bytes[pos..pos + value.len()].copy_from_slice(value);
            parse(&bytes).unwrap_err()
        };
        assert_eq!(parse(&good[..16]), Err(BatchError::Truncated));
        assert_eq!(parse(&good[..good.len() - 1]), Err(BatchError::Truncated));
        assert_eq!(with(8, &13i32.to_be_bytes()), BatchError::Length(13));
        assert_eq!(with(8, &48i32.to_be_bytes()), BatchError::Length(48));
        assert_eq!(with(8, &(-1i32).to_be_bytes()), BatchError::Length(-1));
        assert_eq!(with(8, &i32::MAX.to_be_bytes()), BatchError::Truncated);
        assert_eq!(with(16, &[1]), BatchError::OldMagic(1));
        assert_eq!(with(16, &[3]), BatchError::UnknownMagic(3));
        assert_eq!(with(22, &[6]), BatchError::UnknownCodec(6));
        assert_eq!(with(0, &i64::MIN.to_be_bytes()), BatchError::Counts);
        assert_eq!(with(23, &(-1i32).to_be_bytes()), BatchError::Counts);
        assert_eq!(with(57, &9i32.to_be_bytes()), BatchError::Counts);
    }

    #[test]
    fn sequences_wrap_at_31_bits() {
        let mut info = parse(&batch(3)).unwrap();
        info.base_sequence = i32::MAX - 1;
        assert_eq!(info.last_sequence(), 0);
        info.base_sequence = -1;
        assert_eq!(info.last_sequence(), -1);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes: Vec<u8>) {
            let _ = (header(&bytes), parse(&bytes), check_crc(&bytes), batches(&bytes).count());
            stamp(&mut bytes, Offset(1), LeaderEpoch(1));
            set_log_append_time(&mut bytes, 1);
        }

        #[test]
        fn a_flipped_bit_is_seen(bit in 0usize..8 * 120) {
            let mut bytes = batch(4);
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            // Outside the CRC lie what the leader stamps, and the magic, which `parse` looks at.
            let outside_the_crc = matches!(bit / 8, 0..8 | 12..17);
            prop_assert_eq!(check_crc(&bytes), outside_the_crc);
            prop_assert!(bit / 8 != 16 || parse(&bytes).is_err());
        }
    }
}
