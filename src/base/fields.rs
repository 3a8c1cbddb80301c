//! The primitive fields of Kafka's message formats, for records.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::name::{Name, name};

/// A record that does not follow its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// It ends too early, or a length is negative or beyond the end, or a string is not UTF-8.
    Malformed,
    /// A value of a version that is not known.
    UnknownVersion(i16),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("malformed record"),
            Self::UnknownVersion(version) => write!(f, "unknown value version {version}"),
        }
    }
}

impl std::error::Error for RecordError {}

/// The wire limits strings to 32767 bytes long before they come here; should one slip through, a
/// cut string is better than a record whose length field lies.
pub fn put_string(out: &mut BytesMut, value: &str) {
    let mut len = value.len().min(i16::MAX as usize);
    while !value.is_char_boundary(len) {
        len -= 1;
    }
    out.put_i16(len as i16);
    out.put_slice(&value.as_bytes()[..len]);
}

/// An unsigned varint.
pub fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The same, as a flexible version has it.
pub fn put_compact_string(out: &mut BytesMut, value: &str) {
    put_varint(out, value.len() as u32 + 1);
    out.put_slice(value.as_bytes());
}

/// The same, or null.
pub fn put_nullable_compact_string(out: &mut BytesMut, value: Option<&str>) {
    match value {
        Some(value) => put_compact_string(out, value),
        None => put_varint(out, 0),
    }
}

/// A string, or null.
pub fn put_nullable_string(out: &mut BytesMut, value: Option<&str>) {
    match value {
        Some(value) => put_string(out, value),
        None => out.put_i16(-1),
    }
}

/// Bytes behind their length.
pub fn put_bytes(out: &mut BytesMut, value: &[u8]) {
    // Smaller than a request, which is smaller than 2 GiB.
    out.put_i32(value.len() as i32);
    out.put_slice(value);
}

/// Reads the fields of Kafka's message formats; every length is checked against what is left.
pub struct FieldReader<'a> {
    pub rest: &'a [u8],
    /// "Flexible" versions: lengths are unsigned varints, one too high so that 0 is null.
    pub compact: bool,
}

impl<'a> FieldReader<'a> {
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let (head, tail) = self
            .rest
            .split_at_checked(len)
            .ok_or(RecordError::Malformed)?;
        self.rest = tail;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (head, tail) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(RecordError::Malformed)?;
        self.rest = tail;
        Ok(*head)
    }

    pub fn i16(&mut self) -> Result<i16, RecordError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub fn varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Malformed)
    }

    pub fn length(
        &mut self,
        plain: impl FnOnce(&mut Self) -> Result<i32, RecordError>,
    ) -> Result<Option<usize>, RecordError> {
        if self.compact {
            return Ok(self.varint()?.checked_sub(1).map(|len| len as usize));
        }
        match plain(self)? {
            -1 => Ok(None),
            len => usize::try_from(len)
                .map(Some)
                .map_err(|_| RecordError::Malformed),
        }
    }

    pub fn nullable_text(&mut self) -> Result<Option<&'a str>, RecordError> {
        let Some(len) = self.length(|r| Ok(i32::from(r.i16()?)))? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| RecordError::Malformed)?;
        Ok(Some(text))
    }

    pub fn text(&mut self) -> Result<&'a str, RecordError> {
        self.nullable_text()?.ok_or(RecordError::Malformed)
    }

    pub fn nullable_string(&mut self) -> Result<Option<Name>, RecordError> {
        Ok(self.nullable_text()?.map(name))
    }

    pub fn string(&mut self) -> Result<Name, RecordError> {
        self.text().map(name)
    }

    pub fn bytes(&mut self) -> Result<Bytes, RecordError> {
        let len = self.length(Self::i32)?.ok_or(RecordError::Malformed)?;
        Ok(Bytes::copy_from_slice(self.take(len)?))
    }

    pub fn array_len(&mut self) -> Result<usize, RecordError> {
        self.length(Self::i32)?.ok_or(RecordError::Malformed)
    }

    pub fn skip_tagged_fields(&mut self) -> Result<(), RecordError> {
        self.tagged_fields([]).map(|[]| ())
    }

    /// Reads the tagged fields of a structure; what those have that are wanted.
    pub fn tagged_fields<const N: usize>(
        &mut self,
        wanted: [u32; N],
    ) -> Result<[Option<&'a [u8]>; N], RecordError> {
        let mut found = [None; N];
        if !self.compact {
            return Ok(found);
        }
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let len = self.varint()? as usize;
            let value = self.take(len)?;
            if let Some(at) = wanted.iter().position(|it| *it == tag) {
                found[at] = Some(value);
            }
        }
        Ok(found)
    }
}
