//! A record as it stands in a batch, read in place.

use super::batch::{BatchInfo, TimestampType};
use super::error::BatchError;
use super::varint::Cursor;

/// The timestamp of a record that has none.
pub(super) const NO_TIMESTAMP: i64 = -1;

/// A record in place. Its attributes byte has no meaning in magic 2 and is skipped, as in Kafka.
pub(super) struct RawRecord<'a> {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub header_count: usize,
    /// Well-formed and exactly `header_count` of them.
    pub headers: &'a [u8],
}

impl<'a> RawRecord<'a> {
    #[inline]
    pub fn read(cursor: &mut Cursor<'a>) -> Result<Self, BatchError> {
        let len = usize::try_from(cursor.varint()?).map_err(|_| BatchError::Record)?;
        Self::read_body(Cursor::new(cursor.take(len)?))
    }

    /// What follows the length.
    #[inline]
    fn read_body(mut body: Cursor<'a>) -> Result<Self, BatchError> {
        let _attributes = body.byte()?;
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        let key = body.nullable_bytes()?;
        let value = body.nullable_bytes()?;
        let header_count = usize::try_from(body.varint()?).map_err(|_| BatchError::Record)?;
        let headers = body.rest();
        // A header takes two bytes at least, so a hostile count ends soon and reserves nothing.
        for _ in 0..header_count {
            read_header(&mut body)?;
        }
        if body.remaining() != 0 {
            return Err(BatchError::Record);
        }
        Ok(Self {
            timestamp_delta,
            offset_delta,
            key,
            value,
            header_count,
            headers,
        })
    }

    pub fn offset(&self, info: &BatchInfo) -> Result<i64, BatchError> {
        // Beyond the header's range it would collide with the next batch.
        if self.offset_delta < 0 || self.offset_delta > info.last_offset_delta {
            return Err(BatchError::Record);
        }
        info.base_offset
            .checked_add(i64::from(self.offset_delta))
            .ok_or(BatchError::Record)
    }

    pub fn timestamp(&self, info: &BatchInfo) -> Result<i64, BatchError> {
        timestamp(info, self.timestamp_delta)
    }

    /// The first record, if all of it is there.
    #[inline]
    pub fn read_whole(cursor: &mut Cursor<'a>) -> Result<Option<Self>, BatchError> {
        let mut ahead = *cursor;
        // What is wrong with a length is found out when it is read byte by byte.
        let Ok(Ok(len)) = ahead.varint().map(usize::try_from) else {
            return Ok(None);
        };
        if len > ahead.remaining() {
            return Ok(None);
        }
        *cursor = ahead;
        Self::read_body(Cursor::new(cursor.take(len)?)).map(Some)
    }
}

/// The timestamp of a record.
#[inline]
pub(super) fn timestamp(info: &BatchInfo, timestamp_delta: i64) -> Result<i64, BatchError> {
    match info.timestamp_type() {
        TimestampType::LogAppendTime => Ok(info.max_timestamp),
        TimestampType::CreateTime => info
            .base_timestamp
            .checked_add(timestamp_delta)
            .ok_or(BatchError::Record),
    }
}

/// Key and value of the next header.
pub(super) fn read_header<'a>(
    cursor: &mut Cursor<'a>,
) -> Result<(&'a [u8], Option<&'a [u8]>), BatchError> {
    let key = cursor.nullable_bytes()?.ok_or(BatchError::Record)?;
    Ok((key, cursor.nullable_bytes()?))
}
