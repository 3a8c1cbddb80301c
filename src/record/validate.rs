//! What the records of a produce request must satisfy before they may enter a
//! log, as Kafka's `ProduceRequest.validateRecords` and `LogValidator` have it.
//!
//! Deviations, both stricter than Kafka: an incomplete batch after the first one
//! is refused, where Kafka drops it silently and acknowledges the rest; an
//! unknown codec is `UNSUPPORTED_COMPRESSION_TYPE`, where Kafka trips over it and
//! answers `UNKNOWN_SERVER_ERROR`.

use super::{BatchError, BatchInfo, TimestampType, check_crc, parse};
use crate::base::ErrorCode;

type Refusal = (ErrorCode, &'static str);

const fn refuse<T>(error: ErrorCode, why: &'static str) -> Result<T, Refusal> {
    Err((error, why))
}

/// Checks the bytes a producer sent for one partition: exactly one whole batch of magic 2, right
/// CRC, consistent counts, not a control batch, consistent producer fields. The records inside are
/// not opened; see [`super::verify_records`]. On success the batch is all of `bytes`.
///
/// # Errors
/// The error code for the partition, and a sentence for the response's error message.
pub fn validate_produced(bytes: &[u8]) -> Result<BatchInfo, (ErrorCode, &'static str)> {
    use ErrorCode::{CorruptMessage, InvalidRecord, InvalidTimestamp};

    let info = parse(bytes).map_err(|error| refusal(error, bytes))?;
    if bytes.len() > info.len {
        return refuse(
            InvalidRecord,
            "Produce requests may contain exactly one record batch per partition.",
        );
    }
    if info.base_offset != 0 {
        return refuse(
            InvalidRecord,
            "The base offset of a produced record batch must be 0.",
        );
    }
    if !check_crc(bytes) {
        return refuse(
            CorruptMessage,
            "The record batch has failed its CRC checksum.",
        );
    }
    if info.records == 0 {
        return refuse(InvalidRecord, "The record batch is empty.");
    }
    if i64::from(info.records) != i64::from(info.last_offset_delta) + 1 {
        return refuse(
            InvalidRecord,
            "The offset range and the count of records of the batch contradict each other.",
        );
    }
    if info.is_control() {
        return refuse(
            InvalidRecord,
            "Clients are not allowed to write control records.",
        );
    }
    if info.timestamp_type() == TimestampType::LogAppendTime {
        return refuse(
            InvalidTimestamp,
            "Producers must not set the timestamp type to LogAppendTime.",
        );
    }
    producer_fields(&info)?;
    Ok(info)
}

fn producer_fields(info: &BatchInfo) -> Result<(), Refusal> {
    if info.has_producer_id() {
        if info.base_sequence < 0 || info.producer_epoch < 0 {
            return refuse(
                ErrorCode::InvalidRecord,
                "A batch with a producer id needs a producer epoch and a sequence number.",
            );
        }
    } else if info.is_transactional() {
        return refuse(
            ErrorCode::InvalidRecord,
            "A transactional batch needs a producer id.",
        );
    }
    Ok(())
}

fn refusal(error: BatchError, bytes: &[u8]) -> Refusal {
    use ErrorCode::{CorruptMessage, InvalidRecord, UnsupportedCompressionType};
    match error {
        BatchError::Truncated => (
            InvalidRecord,
            "Produce requests must have at least one whole record batch per partition.",
        ),
        BatchError::OldMagic(_) => (
            InvalidRecord,
            "Produce requests may only contain record batches with magic version 2.",
        ),
        BatchError::UnknownCodec(_) => (
            UnsupportedCompressionType,
            "The compression type of the record batch is unknown.",
        ),
        // Kafka checks the CRC before the counts: damage on the way is not the producer's fault.
        BatchError::Counts if check_crc(bytes) => (
            InvalidRecord,
            "The offset range and the count of records of the batch contradict each other.",
        ),
        _ => (CorruptMessage, "The record batch is corrupt."),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{BatchBuilder, Codec, batch, set_log_append_time, stamp};

    fn build(producer: Option<(i64, i16, i32)>) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None, 0);
        if let Some((id, epoch, sequence)) = producer {
            builder = builder.producer(id, epoch, sequence);
        }
        builder.push(0, None, Some(b"value"), &[]);
        builder.push(0, None, Some(b"value"), &[]);
        builder.build().to_vec()
    }

    /// A batch with `value` put at `pos` and a CRC that fits.
    fn with(pos: usize, value: &[u8]) -> Vec<u8> {
        let mut bytes = build(None);
        bytes[pos..pos + value.len()].copy_from_slice(value);
        batch::set_crc(&mut bytes);
        bytes
    }

    fn code(bytes: &[u8]) -> ErrorCode {
        validate_produced(bytes).map_or_else(|(error, _)| error, |_| ErrorCode::None)
    }

    #[test]
    fn good_batches_pass() {
        assert_eq!(validate_produced(&build(None)).unwrap().records, 2);
        assert_eq!(
            validate_produced(&build(Some((7, 0, 5))))
                .unwrap()
                .producer_id,
            7
        );
    }

    #[test]
    fn exactly_one_batch() {
        assert_eq!(code(&[]), ErrorCode::InvalidRecord);
        assert_eq!(code(&build(None)[..70]), ErrorCode::InvalidRecord);
        assert_eq!(
            code(&[build(None), build(None)].concat()),
            ErrorCode::InvalidRecord
        );
        assert_eq!(
            code(&[build(None), vec![0]].concat()),
            ErrorCode::InvalidRecord
        );
    }

    #[test]
    fn formats_and_sizes() {
        assert_eq!(code(&with(16, &[0])), ErrorCode::InvalidRecord);
        assert_eq!(code(&with(16, &[1])), ErrorCode::InvalidRecord);
        assert_eq!(code(&with(16, &[3])), ErrorCode::CorruptMessage);
        assert_eq!(code(&with(16, &[0xff])), ErrorCode::CorruptMessage);
        assert_eq!(
            code(&with(8, &3i32.to_be_bytes())),
            ErrorCode::CorruptMessage
        );
        assert_eq!(code(&with(22, &[5])), ErrorCode::UnsupportedCompressionType);
    }

    #[test]
    fn damage_is_corruption() {
        let mut bytes = build(None);
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(code(&bytes), ErrorCode::CorruptMessage);
        let mut bytes = build(None);
        bytes[57] ^= 0x80;
        assert_eq!(code(&bytes), ErrorCode::CorruptMessage);
    }

    #[test]
    fn counts_and_offsets() {
        assert_eq!(
            code(&with(57, &1i32.to_be_bytes())),
            ErrorCode::InvalidRecord
        );
        assert_eq!(
            code(&with(57, &3i32.to_be_bytes())),
            ErrorCode::InvalidRecord
        );
        assert_eq!(
            code(&with(57, &0i32.to_be_bytes())),
            ErrorCode::InvalidRecord
        );
        assert_eq!(
            code(&with(23, &(-1i32).to_be_bytes())),
            ErrorCode::InvalidRecord
        );
        let mut bytes = build(None);
        stamp(
            &mut bytes,
            crate::base::Offset(1),
            crate::base::LeaderEpoch(0),
        );
        assert_eq!(code(&bytes), ErrorCode::InvalidRecord);
    }

    #[test]
    fn attributes_and_producers() {
        assert_eq!(code(&with(22, &[0x20])), ErrorCode::InvalidRecord);
        assert_eq!(code(&with(22, &[0x10])), ErrorCode::InvalidRecord);
        let mut bytes = build(None);
        set_log_append_time(&mut bytes, 1);
        assert_eq!(code(&bytes), ErrorCode::InvalidTimestamp);
        assert_eq!(code(&build(Some((7, 0, -1)))), ErrorCode::InvalidRecord);
        assert_eq!(code(&build(Some((7, -1, 0)))), ErrorCode::InvalidRecord);
    }

    proptest! {
        #[test]
        fn damaged_batches_are_refused(at in 0usize..75, flip in 1u8..) {
            let mut bytes = build(Some((1, 2, 3)));
            bytes[at] ^= flip;
            // The leader epoch is the broker's to fill in; a producer may leave anything there.
            prop_assert_eq!(validate_produced(&bytes).is_ok(), (12..16).contains(&at));
        }
    }
}
