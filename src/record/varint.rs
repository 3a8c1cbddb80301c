//! Reading and writing inside a batch's records: zig-zag varints and the values
//! whose length they carry.

use super::error::BatchError;

/// A position in the records of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, BatchError> {
        let (&byte, rest) = self.rest.split_first().ok_or(BatchError::Record)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], BatchError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(BatchError::Record)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A zig-zag varint of up to 64 bits. Longer forms of small numbers are taken, as Kafka takes
    /// them; bits beyond the 64th are refused.
    #[inline]
    pub(super) fn varlong(&mut self) -> Result<i64, BatchError> {
        // Nearly all numbers in a record have one or two bytes, and every produced record comes here.
        match *self.rest {
            [low, ref rest @ ..] if low < 0x80 => {
                self.rest = rest;
                Ok(unzigzag(u64::from(low)))
            }
            [low, high, ref rest @ ..] if high < 0x80 => {
                self.rest = rest;
                Ok(unzigzag(u64::from(low & 0x7f) | u64::from(high) << 7))
            }
            _ => self.long_varlong(),
        }
    }

    #[inline(never)]
    fn long_varlong(&mut self) -> Result<i64, BatchError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(BatchError::Record);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(unzigzag(value));
            }
        }
        Err(BatchError::Record)
    }

    /// A zig-zag varint of up to 32 bits.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<i32, BatchError> {
        i32::try_from(self.varlong()?).map_err(|_| BatchError::Record)
    }

    /// Bytes after their varint length; `None` for length -1.
    #[inline]
    pub(super) fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, BatchError> {
        match self.varint()? {
            -1 => Ok(None),
            len => {
                let len = usize::try_from(len).map_err(|_| BatchError::Record)?;
                self.take(len).map(Some)
            }
        }
    }
}

/// A zig-zag varint of which one byte comes after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Varint {
    value: u64,
    shift: u32,
}

impl Varint {
    /// Takes the next byte; the number if that was the last one. As [`Cursor::varlong`] in all else.
    pub(super) fn push(&mut self, byte: u8) -> Result<Option<i64>, BatchError> {
        let bits = u64::from(byte & 0x7f);
        if self.shift > 63 || (self.shift == 63 && bits > 1) {
            return Err(BatchError::Record);
        }
        self.value |= bits << self.shift;
        self.shift += 7;
        if byte & 0x80 != 0 {
            return if self.shift > 63 {
                Err(BatchError::Record)
            } else {
                Ok(None)
            };
        }
        let value = unzigzag(self.value);
        *self = Self::default();
        Ok(Some(value))
    }
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends the zig-zag varint of `value`.
pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends the length of `value` and its bytes; length -1 for `None`.
pub(super) fn put_nullable_bytes(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(bytes) => {
            put_varlong(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => put_varlong(out, -1),
    }
}

/// Bytes that [`put_varlong`] writes for `value`.
pub(super) const fn varlong_len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    let bits = 64 - (zigzag | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Bytes that [`put_nullable_bytes`] writes for a value of this length.
pub(super) const fn nullable_bytes_len(value: Option<usize>) -> usize {
    match value {
        Some(len) => varlong_len(len as i64) + len,
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varlong(&mut out, value);
        out
    }

    #[test]
    fn known_vectors() {
        assert_eq!(encoded(0), [0]);
        assert_eq!(encoded(-1), [1]);
        assert_eq!(encoded(63), [0x7e]);
        assert_eq!(encoded(-64), [0x7f]);
        assert_eq!(encoded(64), [0x80, 0x01]);
        assert_eq!(encoded(i64::from(i32::MAX)), [0xfe, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(encoded(i64::MIN).len(), 10);
    }

    #[test]
    fn hostile_varints_are_refused() {
        assert!(Cursor::new(&[0x80; 11]).varlong().is_err());
        assert!(Cursor::new(&[0xff; 9]).varlong().is_err());
        assert!(
            Cursor::new(&[255, 255, 255, 255, 255, 255, 255, 255, 255, 2])
                .varlong()
                .is_err()
        );
        assert!(Cursor::new(&encoded(1 << 40)).varint().is_err());
        assert!(Cursor::new(&encoded(-2)).nullable_bytes().is_err());
        assert!(Cursor::new(&encoded(5)).nullable_bytes().is_err());
    }

    proptest! {
        #[test]
        fn round_trip(value: i64, shift in 0u32..64) {
            let value = value >> shift;
            let bytes = encoded(value);
            prop_assert_eq!(bytes.len(), varlong_len(value));
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.varlong(), Ok(value));
            prop_assert_eq!(cursor.remaining(), 0);
        }
    }
}
