//! Walks the records of a batch as they come, in pieces of any size: keys and values are stepped over,
//! never gathered.

use super::batch::BatchInfo;
use super::error::BatchError;
use super::raw::{NO_TIMESTAMP, RawRecord, timestamp};
use super::varint::{Cursor, Varint};

/// What walking over a record costs, in bytes decompressed.
const RECORD_COST: usize = 4;

/// What a walk over the records of a batch, as of [`verify_records`](super::verify_records), has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordsSummary {
    /// Largest timestamp of a record, and the offset delta of the first record that has it.
    pub max_timestamp: (i64, i32),
    /// Smallest timestamp of a record that has one (-1 is none); `i64::MAX` if none has.
    pub min_timestamp: i64,
    /// Index of the first record without a key.
    pub first_keyless: Option<i32>,
}

/// A record that is looked for by the way, and what was seen of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// With this timestamp or a larger one.
    pub timestamp: i64,
    /// No record before this offset is an answer.
    pub first: i64,
    /// The answer: offset and timestamp.
    pub found: Option<(i64, i64)>,
    /// Some record has such a timestamp, wherever it is.
    pub matched: bool,
}

impl Wanted {
    /// The next record.
    fn note(&mut self, offset: i64, timestamp: i64) {
        if timestamp < self.timestamp {
            return;
        }
        self.matched = true;
        if offset >= self.first && self.found.is_none() {
            self.found = Some((offset, timestamp));
        }
    }
}

/// A walk over the records of one batch.
#[derive(Debug)]
pub(super) struct Walk {
    info: BatchInfo,
    /// Records that were seen whole.
    index: i32,
    /// Offset delta of the next one at least.
    next_delta: i32,
    summary: RecordsSummary,
    /// The record that is not whole yet.
    partial: Option<Partial>,
    /// A record that somebody looks for.
    wanted: Option<Wanted>,
}

/// What comes next in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Length,
    Attributes,
    Timestamp,
    Offset,
    KeyLength,
    ValueLength,
    HeaderCount,
    HeaderKeyLength,
    HeaderValueLength,
}

/// A record of which more is to come.
#[derive(Debug)]
struct Partial {
    field: Field,
    varint: Varint,
    /// Bytes of a key or value to step over before the field.
    skip: usize,
    /// Bytes of the record that are still to come, once its length is known.
    left: usize,
    timestamp_delta: i64,
    offset_delta: i32,
    has_key: bool,
    headers: i32,
}

impl Walk {
    pub fn new(info: &BatchInfo) -> Self {
        Self {
            info: *info,
            index: 0,
            next_delta: 0,
            summary: RecordsSummary {
                max_timestamp: (i64::MIN, 0),
                min_timestamp: i64::MAX,
                first_keyless: None,
            },
            partial: None,
            wanted: None,
        }
    }

    /// The same, which looks for a record by the way.
    pub fn seeking(info: &BatchInfo, wanted: Wanted) -> Self {
        Self {
            wanted: Some(wanted),
            ..Self::new(info)
        }
    }

    /// What was seen of the record that is looked for.
    pub fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// Goes on over the next bytes, for so many records at most; returns how many bytes that was.
    pub fn feed(&mut self, bytes: &[u8], records_max: usize) -> Result<usize, BatchError> {
        let mut cursor = Cursor::new(bytes);
        let records_max = i64::try_from(records_max).unwrap_or(i64::MAX);
        let until = i64::from(self.index).saturating_add(records_max);
        while cursor.remaining() > 0 && i64::from(self.index) < until {
            if self.partial.is_none() && self.index == self.info.records {
                return Err(BatchError::Record);
            }
            if self.partial.is_none()
                && let Some(record) = RawRecord::read_whole(&mut cursor)?
            {
                self.seen(
                    record.timestamp_delta,
                    record.offset_delta,
                    record.key.is_some(),
                )?;
                continue;
            }
            let mut partial = self.partial.take().unwrap_or_else(Partial::new);
            if partial.feed(&mut cursor)? {
                self.seen(
                    partial.timestamp_delta,
                    partial.offset_delta,
                    partial.has_key,
                )?;
            } else {
                self.partial = Some(partial);
            }
        }
        Ok(bytes.len() - cursor.remaining())
    }

    /// The same for as many records as `work` goes; what they cost is taken off it, also if one is malformed.
    pub fn feed_for(&mut self, bytes: &[u8], work: &mut usize) -> Result<usize, BatchError> {
        let before = self.index;
        // One record at least, or who has less work left than it costs would never come to an end.
        let fed = self.feed(bytes, work.div_ceil(RECORD_COST));
        *work = work.saturating_sub((self.index - before) as usize * RECORD_COST);
        fed
    }

    /// The same for all of the bytes: so few that they are not worth stopping in between.
    pub fn feed_all(&mut self, bytes: &[u8], work: &mut usize) -> Result<(), BatchError> {
        let mut unbounded = usize::MAX;
        let fed = self.feed_for(bytes, &mut unbounded);
        *work = work.saturating_sub(usize::MAX - unbounded);
        fed.map(drop)
    }

    #[inline]
    fn seen(
        &mut self,
        timestamp_delta: i64,
        offset_delta: i32,
        has_key: bool,
    ) -> Result<(), BatchError> {
        // Compaction leaves records out. Where there are as many as offsets, as in all that is produced, none is.
        if offset_delta < self.next_delta || offset_delta > self.info.last_offset_delta {
            return Err(BatchError::Record);
        }
        self.index += 1;
        self.next_delta = offset_delta.saturating_add(1);
        let timestamp = self
            .summary
            .note(&self.info, offset_delta, timestamp_delta, has_key)?;
        if let Some(wanted) = &mut self.wanted {
            wanted.note(self.info.base_offset + i64::from(offset_delta), timestamp);
        }
        Ok(())
    }

    /// What there was, if it was all that the header promises.
    pub fn finish(&self) -> Result<RecordsSummary, BatchError> {
        if self.partial.is_none() && self.index == self.info.records {
            Ok(self.summary)
        } else {
            Err(BatchError::Record)
        }
    }
}

impl RecordsSummary {
    /// Notes the record of this index; returns its timestamp.
    #[inline]
    fn note(
        &mut self,
        info: &BatchInfo,
        index: i32,
        timestamp_delta: i64,
        has_key: bool,
    ) -> Result<i64, BatchError> {
        let timestamp = timestamp(info, timestamp_delta)?;
        if timestamp > self.max_timestamp.0 {
            self.max_timestamp = (timestamp, index);
        }
        if timestamp != NO_TIMESTAMP {
            self.min_timestamp = self.min_timestamp.min(timestamp);
        }
        if !has_key && self.first_keyless.is_none() {
            self.first_keyless = Some(index);
        }
        Ok(timestamp)
    }
}

impl Partial {
    fn new() -> Self {
        Self {
            field: Field::Length,
            varint: Varint::default(),
            skip: 0,
            left: 0,
            timestamp_delta: 0,
            offset_delta: 0,
            has_key: false,
            headers: 0,
        }
    }

    /// Goes on until the record or the bytes are over; whether it is the record.
    fn feed(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, BatchError> {
        loop {
            let skip = self.skip.min(cursor.remaining());
            cursor.take(skip)?;
            self.skip -= skip;
            if self.skip == 0 && self.field == Field::HeaderKeyLength && self.headers == 0 {
                return match self.left {
                    0 => Ok(true),
                    _ => Err(BatchError::Record),
                };
            }
            if cursor.remaining() == 0 {
                return Ok(false);
            }
            let byte = cursor.byte()?;
            if self.field != Field::Length {
                self.left = self.left.checked_sub(1).ok_or(BatchError::Record)?;
            }
            if self.field == Field::Attributes {
                self.field = Field::Timestamp;
            } else if let Some(value) = self.varint.push(byte)? {
                self.field = self.next(value)?;
            }
        }
    }

    /// A number is complete.
    fn next(&mut self, value: i64) -> Result<Field, BatchError> {
        let number = || i32::try_from(value).map_err(|_| BatchError::Record);
        Ok(match self.field {
            Field::Length => {
                self.left = usize::try_from(number()?).map_err(|_| BatchError::Record)?;
                Field::Attributes
            }
            Field::Attributes | Field::Timestamp => {
                self.timestamp_delta = value;
                Field::Offset
            }
            Field::Offset => {
                self.offset_delta = number()?;
                Field::KeyLength
            }
            Field::KeyLength => {
                self.has_key = self.step_over(number()?)?;
                Field::ValueLength
            }
            Field::ValueLength => {
                self.step_over(number()?)?;
                Field::HeaderCount
            }
            Field::HeaderCount => {
                self.headers = number()?;
                if self.headers < 0 {
                    return Err(BatchError::Record);
                }
                Field::HeaderKeyLength
            }
            Field::HeaderKeyLength => {
                if !self.step_over(number()?)? {
                    return Err(BatchError::Record);
                }
                Field::HeaderValueLength
            }
            Field::HeaderValueLength => {
                self.step_over(number()?)?;
                self.headers -= 1;
                Field::HeaderKeyLength
            }
        })
    }

    /// Bytes of this length follow, none for -1; whether it is not -1.
    fn step_over(&mut self, len: i32) -> Result<bool, BatchError> {
        if len == -1 {
            return Ok(false);
        }
        self.skip = usize::try_from(len).map_err(|_| BatchError::Record)?;
        self.left = self.left.checked_sub(self.skip).ok_or(BatchError::Record)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{BatchBuilder, Codec, HEADER_LEN, parse};

    fn sample() -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None, 500);
        builder.push(500, Some(b"a"), None, &[]);
        builder.push(499, None, Some(b""), &[("h", Some(b"1")), ("h", None)]);
        builder.push(90_000, Some(b""), Some(&[7; 300]), &[("", Some(b""))]);
        builder.push(502, None, None, &[]);
        builder.build().to_vec()
    }

    fn walk(info: &BatchInfo, body: &[u8], cuts: &[usize]) -> Result<RecordsSummary, BatchError> {
        let mut walk = Walk::new(info);
        let (mut at, mut cuts) = (0, cuts.iter().cycle());
        while at < body.len() {
            let len = cuts.next().map_or(body.len(), |cut| cut + 1);
            let piece = &body[at..(at + len).min(body.len())];
            at += walk.feed(piece, 2)?;
        }
        walk.finish()
    }

    /// Whoever has a little work left goes on all the same: with nothing walked and nothing taken off he would be
    /// asked again for ever.
    #[test]
    fn the_least_of_work_walks_a_record() {
        let batch = sample();
        let info = parse(&batch).unwrap();
        let body = &batch[HEADER_LEN..];
        for least in 1..=RECORD_COST {
            let (mut walk, mut at) = (Walk::new(&info), 0);
            while at < body.len() {
                let mut work = least;
                at += walk.feed_for(&body[at..], &mut work).unwrap();
                assert_eq!(work, 0);
            }
            assert_eq!(walk.index, 4);
        }
    }

    proptest! {
        /// However the bytes come, the outcome is that of the whole.
        #[test]
        fn pieces_are_walked_as_the_whole_is(
            cuts in prop::collection::vec(0usize..40, 1..20),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let batch = sample();
            let info = parse(&batch).unwrap();
            let mut body = batch[HEADER_LEN..].to_vec();
            for (at, flip) in damage {
                let at = at.index(body.len());
                body[at] ^= flip;
            }
            let whole = walk(&info, &body, &[]);
            prop_assert_eq!(&walk(&info, &body, &cuts), &whole);
            prop_assert_eq!(&walk(&info, &body, &[0]), &whole);
        }
    }

    #[test]
    fn a_good_batch_is_walked_in_any_pieces() {
        let batch = sample();
        let info = parse(&batch).unwrap();
        for cut in 0..80 {
            let summary = walk(&info, &batch[HEADER_LEN..], &[cut]).unwrap();
            assert_eq!(summary.max_timestamp, (90_000, 2));
            assert_eq!(
                (summary.min_timestamp, summary.first_keyless),
                (499, Some(1))
            );
            let short = &batch[HEADER_LEN..batch.len() - 1];
            assert!(walk(&info, short, &[cut]).is_err());
        }
    }
}
