//! What the records of a produce request must satisfy before they may enter a
//! log, as Kafka's `ProduceRequest.validateRecords` and `LogValidator` have it.
//!
//! Deviations that are stricter than Kafka: an incomplete batch after the first one
//! is refused, where Kafka drops it silently and acknowledges the rest; an
//! unknown codec is `UNSUPPORTED_COMPRESSION_TYPE`, where Kafka trips over it and
//! answers `UNKNOWN_SERVER_ERROR`, as it does for records that do not decompress, which
//! are `INVALID_RECORD` here; the offset deltas of uncompressed records must be 0, 1, 2 and
//! so on too, which Kafka asks of compressed ones only. One that is laxer: a batch that
//! decompresses to more than the broker is set to open is taken unopened.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use super::batch::{BatchInfo, HEADER_LEN, check_crc, parse, set_max_timestamp};
use super::codec::Codec;
use super::error::BatchError;
use super::opener::Opener;
use super::raw::NO_TIMESTAMP;
use super::walk::Walk;
use crate::base::{ErrorCode, Refused};

const fn refuse<T>(code: ErrorCode, why: &'static str) -> Result<T, Refused> {
    let message = Some(Cow::Borrowed(why));
    Err(Refused { code, message })
}

/// Checks the bytes a producer sent for one partition: exactly one whole batch of magic 2, right
/// CRC, consistent counts, not a control batch, consistent producer fields. The records inside are
/// not looked at; see [`validate_records`]. On success the batch is all of `bytes`.
///
/// # Errors
/// The error code for the partition, and a sentence for the response's error message.
pub fn validate_produced(bytes: &[u8]) -> Result<BatchInfo, Refused> {
    let info = produced_header(bytes)?;
    validate_header(bytes, &info)?;
    Ok(info)
}

/// What of [`validate_produced`] Kafka asks before it knows whether the batch is too large for its topic, all
/// of which takes no time.
///
/// # Errors
/// As [`validate_produced`].
pub fn produced_header(bytes: &[u8]) -> Result<BatchInfo, Refused> {
    use ErrorCode::InvalidRecord;

    let info = parse(bytes).map_err(|error| refusal(error, bytes))?;
    if bytes.len() > info.len {
        if !check_crc(bytes) {
            // It is the length that is wrong: damage on the way is not the producer's fault, who may send it again.
            return Err(refusal(BatchError::Crc, bytes));
        }
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
    Ok(info)
}

/// The rest of [`validate_produced`]; `info` is what [`produced_header`] said.
///
/// # Errors
/// As [`validate_produced`].
pub fn validate_header(bytes: &[u8], info: &BatchInfo) -> Result<(), Refused> {
    use ErrorCode::{CorruptMessage, InvalidRecord};

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
    producer_fields(info)
}

/// Checks the records of a batch that passed [`validate_produced`], which `info` comes from: each is
/// well-formed, they are as many as the header says and nothing follows them. Returns the batch to be
/// stored: if the header does not name the largest timestamp of its records, a copy that does, as in
/// Kafka, since consumers and time lookups go by it.
///
/// Compressed records are decompressed for this, at most `open_bytes_max` bytes of them, 0 for not at
/// all; a batch of more, good so far, is taken as it is. Nothing is allocated per record.
///
/// # Errors
/// INVALID_RECORD, and a sentence for the response's error message.
pub fn validate_records(
    batch: Bytes,
    info: &mut BatchInfo,
    open_bytes_max: usize,
) -> Result<Bytes, Refused> {
    let mut validation = Validation::new(batch, *info, open_bytes_max);
    loop {
        let mut work = usize::MAX;
        if let Some((batch, checked)) = validation.go_on(&mut work)? {
            *info = checked;
            return Ok(batch);
        }
    }
}

/// What [`validate_records`] does, a bounded amount at a time.
#[derive(Debug)]
pub struct Validation {
    batch: Bytes,
    info: BatchInfo,
    open_bytes_max: usize,
    needs_keys: bool,
    walk: Walk,
    /// Bytes of the records that were walked over.
    walked: usize,
    opener: Option<Box<Opener<Bytes>>>,
    /// Bytes that openers before that one decompressed.
    opened: usize,
}

/// Bytes that are copied and gone into a checksum in the time of one decompressed.
const COPIED_PER_WORK: usize = 16;

impl Validation {
    /// Nothing is done yet.
    #[must_use]
    pub fn new(batch: Bytes, info: BatchInfo, open_bytes_max: usize) -> Self {
        Self {
            batch,
            info,
            open_bytes_max,
            needs_keys: false,
            walk: Walk::new(&info),
            walked: 0,
            opener: None,
            opened: 0,
        }
    }

    /// A record without a key is refused, as far as records are looked at: what is compacted knows nothing else of it.
    pub fn need_keys(&mut self) {
        self.needs_keys = true;
    }

    /// Forgets how far it has got, and what memory that holds.
    pub fn rewind(&mut self) {
        self.drop_opener();
        (self.walk, self.walked) = (Walk::new(&self.info), 0);
    }

    /// Bytes that were decompressed so far, whatever came of it.
    #[must_use]
    pub fn opened(&self) -> usize {
        let opener = self.opener.as_ref();
        self.opened + opener.map_or(0, |opener| opener.opened())
    }

    fn drop_opener(&mut self) {
        self.opened = self.opened();
        self.opener = None;
    }

    /// Goes on until the batch is checked or `work` is used up, counted in bytes decompressed. Returns the
    /// batch to be stored and what its header says then.
    ///
    /// # Errors
    /// As [`validate_records`].
    pub fn go_on(&mut self, work: &mut usize) -> Result<Option<(Bytes, BatchInfo)>, Refused> {
        if self.info.codec() != Codec::None && self.open_bytes_max == 0 {
            return Ok(Some(self.unchanged()));
        }
        match self.look(work) {
            Ok(false) => return Ok(None),
            Ok(true) => {}
            Err(BatchError::TooLarge) => return Ok(Some(self.unchanged())),
            Err(BatchError::Compression) => {
                return refuse(
                    ErrorCode::InvalidRecord,
                    "The records of the batch cannot be decompressed.",
                );
            }
            Err(_) => return MALFORMED,
        }
        let Ok(summary) = self.walk.finish() else {
            return MALFORMED;
        };
        if let Some(index) = summary.first_keyless.filter(|_| self.needs_keys) {
            let what = format!(
                "Compacted topic cannot accept message without key (record {index} of the batch)."
            );
            return Err(Refused::because(ErrorCode::InvalidRecord, what));
        }
        self.info.min_timestamp = match summary.min_timestamp {
            i64::MAX => NO_TIMESTAMP,
            least => least,
        };
        // The least that Kafka makes of the timestamps of records.
        let max_timestamp = summary.max_timestamp.0.max(NO_TIMESTAMP);
        if max_timestamp == self.info.max_timestamp {
            return Ok(Some(self.unchanged()));
        }
        *work = work.saturating_sub(self.batch.len() / COPIED_PER_WORK);
        let mut batch = BytesMut::from(&self.batch[..]);
        set_max_timestamp(&mut batch, max_timestamp);
        self.info.max_timestamp = max_timestamp;
        Ok(Some((batch.freeze(), self.info)))
    }

    /// It is over: nobody else holds the batch then, which is stamped in place.
    fn unchanged(&mut self) -> (Bytes, BatchInfo) {
        self.drop_opener();
        (std::mem::take(&mut self.batch), self.info)
    }

    /// Walks over what is left of the records, as far as `work` goes; whether that was all.
    fn look(&mut self, work: &mut usize) -> Result<bool, BatchError> {
        if self.info.codec() == Codec::None {
            let body = self.batch.get(HEADER_LEN..self.info.len);
            let body = body.unwrap_or_default();
            self.walked += self.walk.feed_for(&body[self.walked..], work)?;
            return Ok(self.walked == body.len());
        }
        let opener = self.opener.get_or_insert_with(|| {
            let end = self.info.len.min(self.batch.len());
            let body = self.batch.slice(HEADER_LEN.min(end)..end);
            Box::new(Opener::new(self.info.codec(), body))
        });
        while *work > 0 {
            let left = self.open_bytes_max - self.walked;
            let Some(bytes) = opener.step(left, work)? else {
                return Ok(true);
            };
            self.walk.feed_all(&bytes[..bytes.len().min(left)], work)?;
            if bytes.len() > left {
                return Err(BatchError::TooLarge);
            }
            self.walked += bytes.len();
        }
        Ok(false)
    }
}

const MALFORMED: Result<Option<(Bytes, BatchInfo)>, Refused> = refuse(
    ErrorCode::InvalidRecord,
    "The batch holds a malformed record, or not as many records as it says.",
);

fn producer_fields(info: &BatchInfo) -> Result<(), Refused> {
    if info.has_producer_id() {
        if info.base_sequence < 0 {
            return refuse(
                ErrorCode::InvalidRecord,
                "A batch with a producer id needs a sequence number.",
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

fn refusal(error: BatchError, bytes: &[u8]) -> Refused {
    use ErrorCode::{CorruptMessage, InvalidRecord, UnsupportedCompressionType};
    let (code, why) = match error {
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
    };
    Refused::because(code, why)
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
        validate_produced(bytes).map_or_else(|refused| refused.code, |_| ErrorCode::None)
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
        let mut bytes = build(None);
        bytes[11] -= 1; // The last byte of its length, so that a byte is left over.
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
        assert_eq!(code(&bytes), ErrorCode::None, "the log decides about it");
        assert_eq!(code(&build(Some((7, 0, -1)))), ErrorCode::InvalidRecord);
        assert_eq!(code(&build(Some((7, -1, -1)))), ErrorCode::InvalidRecord);
        assert_eq!(code(&build(Some((7, -1, 0)))), ErrorCode::None);
    }

    /// A good batch of this codec with `body` in place of its records, header and CRC right.
    fn with_body(codec: Codec, body: &[u8]) -> Bytes {
        let mut packed = Vec::new();
        codec.compress(body, &mut packed);
        let mut bytes = build(None)[..HEADER_LEN].to_vec();
        bytes.extend(packed);
        bytes[22] = codec.id();
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        batch::set_crc(&mut bytes);
        bytes.into()
    }

    fn records_code(batch: &Bytes, open_bytes_max: usize) -> ErrorCode {
        let mut info = validate_produced(batch).expect("nothing is wrong with the header");
        validate_records(batch.clone(), &mut info, open_bytes_max)
            .map_or_else(|refused| refused.code, |_| ErrorCode::None)
    }

    #[test]
    fn malformed_records_under_a_right_crc_are_refused() {
        let good = build(None)[HEADER_LEN..].to_vec();
        let middle = good.len() / 2;
        let mut long = good.clone();
        long[0] += 2;
        let mut gap = good.clone();
        // Length, attributes, timestamp delta, offset delta.
        gap[middle + 3] = 4;
        let bad = [
            &good[..middle],
            &good[..good.len() - 1],
            &[&good[..], &[0]].concat(),
            &long,
            &gap,
            b"",
            b"what is this",
        ];
        for codec in Codec::ALL {
            assert_eq!(
                records_code(&with_body(codec, &good), 1 << 20),
                ErrorCode::None
            );
            for (case, body) in bad.into_iter().enumerate() {
                let code = records_code(&with_body(codec, body), 1 << 20);
                assert_eq!(code, ErrorCode::InvalidRecord, "{codec:?}, case {case}");
            }
        }
    }

    #[test]
    fn compressed_batches_are_opened_as_far_as_is_allowed() {
        for codec in Codec::ALL.into_iter().filter(|codec| *codec != Codec::None) {
            let mut builder = BatchBuilder::new(codec, 0);
            builder.push(0, None, Some(&vec![0; 1 << 20]), &[]);
            let large = builder.build();
            assert_eq!(records_code(&large, 2 << 20), ErrorCode::None, "{codec:?}");
            assert_eq!(records_code(&large, 1 << 19), ErrorCode::None, "{codec:?}");
            let zeros = with_body(codec, &vec![0; 1 << 20]);
            assert_eq!(records_code(&zeros, 1 << 20), ErrorCode::InvalidRecord);
            assert_eq!(records_code(&zeros, 0), ErrorCode::None, "{codec:?}");
            let mut junk = with_body(codec, b"x").to_vec();
            junk.truncate(HEADER_LEN);
            junk.extend(b"no codec wrote this");
            let length = (junk.len() - 12) as i32;
            junk[8..12].copy_from_slice(&length.to_be_bytes());
            batch::set_crc(&mut junk);
            assert_eq!(
                records_code(&junk.into(), 1 << 20),
                ErrorCode::InvalidRecord
            );
        }
    }

    #[test]
    fn the_header_is_made_to_name_the_largest_timestamp() {
        for codec in Codec::ALL {
            let mut builder = BatchBuilder::new(codec, 100);
            builder.push(100, None, Some(b"a"), &[]);
            builder.push(300, None, Some(b"b"), &[]);
            builder.push(200, None, Some(b"c"), &[]);
            let good = builder.build();
            let mut info = validate_produced(&good).unwrap();
            let kept = validate_records(good.clone(), &mut info, 1 << 20).unwrap();
            assert_eq!((kept.as_ptr(), kept.len()), (good.as_ptr(), good.len()));
            for wrong in [0, 250, 301, i64::MAX, -1] {
                let mut lie = good.to_vec();
                set_max_timestamp(&mut lie, wrong);
                let mut info = validate_produced(&lie).unwrap();
                let stored = validate_records(lie.into(), &mut info, 1 << 20).unwrap();
                assert_eq!((&stored[..], info.max_timestamp), (&good[..], 300));
            }
        }
    }

    /// However little is done at a time, no step does much more than it is given, and the outcome is
    /// the same.
    #[test]
    fn batches_are_validated_a_bounded_amount_at_a_time() {
        const SLICE: usize = 50_000;
        /// One LZ4 block of the size that the encoder makes, and a step of the others.
        const STEP: usize = 64 * 1024 * 5;
        for codec in Codec::ALL {
            for value in [0usize, 100, 3 << 20] {
                let mut builder = BatchBuilder::new(codec, 5);
                let records = (6 << 20) / (value + 8);
                (0..records).for_each(|_| builder.push(9, None, Some(&vec![1; value]), &[]));
                let batch = builder.build();
                let info = validate_produced(&batch).unwrap();
                let mut validation = Validation::new(batch.clone(), info, 32 << 20);
                let (mut slices, mut opened) = (0, 0);
                loop {
                    let mut work = SLICE;
                    let done = validation.go_on(&mut work).unwrap();
                    let walked = validation.opened() - opened;
                    assert!(walked <= SLICE + STEP, "{codec:?}, {value}: {walked}");
                    opened += walked;
                    slices += 1;
                    if let Some((stored, info)) = done {
                        assert_eq!((&stored, info.max_timestamp), (&batch, 9));
                        break;
                    }
                }
                let bodies = records * value;
                assert!(opened == 0 || opened > bodies);
                assert!(codec == Codec::None || slices >= bodies / (SLICE + STEP));
            }
        }
    }

    /// A good batch's header before these compressed records, so many are they said to be.
    fn with_packed(codec: Codec, records: i32, packed: &[u8]) -> Bytes {
        let mut bytes = build(None)[..HEADER_LEN].to_vec();
        bytes.extend(packed);
        bytes[22] = codec.id();
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[23..27].copy_from_slice(&(records - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&records.to_be_bytes());
        batch::set_crc(&mut bytes);
        bytes.into()
    }

    /// The work that a batch takes that is refused, and the bytes opened.
    fn cost_of_refusal(batch: Bytes) -> (usize, usize) {
        let info = validate_produced(&batch).unwrap();
        let mut validation = Validation::new(batch, info, 32 << 20);
        let mut work = usize::MAX;
        assert!(validation.go_on(&mut work).is_err());
        (usize::MAX - work, validation.opened())
    }

    #[test]
    fn what_fails_costs_what_it_took() {
        for codec in Codec::ALL.into_iter().filter(|codec| *codec != Codec::None) {
            let mut packed = Vec::new();
            codec.compress(b"", &mut packed);
            let junk = match codec {
                // A header, and a block of which a sequence copies from before its beginning.
                Codec::Lz4 => [&packed[..7], &[5, 0, 0, 0, 0, 1, 1, 0, 0]].concat(),
                _ => b"no codec wrote this".to_vec(),
            };
            let (work, opened) = cost_of_refusal(with_packed(codec, 2, &junk));
            assert!(work >= opened && opened >= 1 << 16, "{codec:?}");
        }
        // Records that are good until the last one: they were looked at.
        let mut builder = BatchBuilder::new(Codec::None, 0);
        (0..10_000).for_each(|_| builder.push(0, None, None, &[]));
        let mut records = builder.build()[HEADER_LEN..].to_vec();
        *records.last_mut().unwrap() = 2;
        let (work, _) = cost_of_refusal(with_packed(Codec::None, 10_000, &records));
        assert!(work >= 9_999 * 4, "{work}");
    }

    /// A decoder costs, whatever it decodes.
    #[test]
    fn decoders_cost() {
        for codec in [Codec::Gzip, Codec::Zstd] {
            let batch = with_body(codec, &build(None)[HEADER_LEN..]);
            let info = validate_produced(&batch).unwrap();
            let mut work = 1 << 20;
            let mut validation = Validation::new(batch, info, 1 << 20);
            assert!(validation.go_on(&mut work).unwrap().is_some());
            assert!((1 << 20) - work > 4096, "{codec:?}");
        }
    }

    /// Streams that make nothing cost too.
    #[test]
    fn streams_of_nothing_are_walked_in_slices() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Zstd] {
            let mut nothing = Vec::new();
            codec.compress(b"", &mut nothing);
            if codec == Codec::Snappy {
                // Blocks of the length zero follow the header.
                (0..20_000).for_each(|_| nothing.extend([0, 0, 0, 1, 0]));
            } else {
                nothing = nothing.repeat(20_000);
            }
            let mut bytes = build(None)[..HEADER_LEN].to_vec();
            bytes.extend(nothing);
            bytes[22] = codec.id();
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            batch::set_crc(&mut bytes);
            let info = validate_produced(&bytes).unwrap();
            let mut validation = Validation::new(bytes.into(), info, 1 << 20);
            let mut slices = 0;
            let refused = loop {
                match validation.go_on(&mut 100_000) {
                    Ok(None) => slices += 1,
                    Ok(Some(_)) => panic!("it has no records"),
                    Err(refused) => break refused.code,
                }
            };
            assert_eq!(refused, ErrorCode::InvalidRecord);
            assert!(slices >= 20, "{codec:?}: {slices}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_records_are_never_taken_for_good_ones(codec in 0usize..5, body: Vec<u8>) {
            let batch = with_body(Codec::ALL[codec], &body);
            if records_code(&batch, 1 << 16) == ErrorCode::None {
                let opened = crate::record::records(&batch, 1 << 16).unwrap();
                prop_assert!(opened.collect::<Result<Vec<_>, _>>().is_ok());
            }
        }

        #[test]
        fn damaged_batches_are_refused(at in 0usize..75, flip in 1u8..) {
            let mut bytes = build(Some((1, 2, 3)));
            bytes[at] ^= flip;
            // The leader epoch is the broker's to fill in; a producer may leave anything there.
            prop_assert_eq!(validate_produced(&bytes).is_ok(), (12..16).contains(&at));
        }
    }
}
