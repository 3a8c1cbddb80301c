//! Numbers as bytes, for the log's own notes and checkpoints: variable-length
//! integers, and a reader that takes nothing for granted.

use bytes::Bytes;

use crate::base::{Offset, SegmentId};

/// Bytes from the disk that no version of this code wrote, and what of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl Malformed {
    /// A state of another version.
    pub(super) const VERSION: Self =
        Self("the checkpoint of a log is of a version this broker does not know");
    /// A note that another version wrote.
    pub(super) const KIND: Self = Self("a note of a kind this broker does not know");

    /// Whether there is nothing wrong with them but that another version of this code wrote them.
    pub(super) fn is_unknown(self) -> bool {
        self == Self::VERSION || self == Self::KIND
    }
}

/// Appends numbers to a buffer.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Seven bits per byte, least significant first.
    pub(super) fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    /// Zigzag, so that small negative numbers are short too.
    pub(super) fn signed(&mut self, value: i64) {
        self.unsigned((value << 1) as u64 ^ (value >> 63) as u64);
    }

    pub(super) fn finish(self) -> Bytes {
        self.bytes.into()
    }
}

/// Takes numbers from bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self
            .bytes
            .split_first()
            .ok_or(Malformed("it ends too early"))?;
        self.bytes = rest;
        Ok(*first)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("what is to be yes or no is neither")),
        }
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is too long"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, Malformed> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A signed number that has to fit a smaller type.
    pub(super) fn int<T: TryFrom<i64>>(&mut self) -> Result<T, Malformed> {
        T::try_from(self.signed()?).map_err(|_| Malformed("a number is out of range"))
    }

    /// An unsigned number that has to fit a smaller type.
    pub(super) fn uint<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        T::try_from(self.unsigned()?).map_err(|_| Malformed("a number is out of range"))
    }

    /// An offset that is not negative.
    pub(super) fn offset(&mut self) -> Result<Offset, Malformed> {
        match self.signed()? {
            offset @ 0.. => Ok(Offset(offset)),
            _ => Err(Malformed("an offset is negative")),
        }
    }

    /// The id of a segment; there is room for more behind it.
    pub(super) fn segment(&mut self) -> Result<SegmentId, Malformed> {
        match self.unsigned()? {
            id @ 0..=0xffff_ffff_ffff => Ok(SegmentId(id)),
            _ => Err(Malformed("a segment's number is out of range")),
        }
    }

    /// How many elements follow. Each takes a byte at least, which bounds what may be claimed.
    pub(super) fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.uint()?;
        match count <= self.bytes.len() {
            true => Ok(count),
            false => Err(Malformed("it claims more elements than it has bytes")),
        }
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), Malformed> {
        match self.bytes.is_empty() {
            true => Ok(()),
            false => Err(Malformed("something follows its end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_survive(unsigned: u64, signed: i64, small: i32) {
            let mut out = Writer::default();
            out.unsigned(unsigned);
            out.signed(signed);
            out.signed(i64::from(small));
            let bytes = out.finish();
            let mut input = Reader::new(&bytes);
            prop_assert_eq!(input.unsigned(), Ok(unsigned));
            prop_assert_eq!(input.signed(), Ok(signed));
            prop_assert_eq!(input.int::<i32>(), Ok(small));
            prop_assert_eq!(input.end(), Ok(()));
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let mut input = Reader::new(&bytes);
            while input.unsigned().is_ok() {}
        }
    }

    #[test]
    fn bounds() {
        let mut ten = [0x80; 10];
        ten[9] = 1;
        assert_eq!(Reader::new(&ten).unsigned(), Ok(1 << 63));
        ten[9] = 2;
        assert!(Reader::new(&ten).unsigned().is_err());
        assert!(Reader::new(&[0x80; 11]).unsigned().is_err());
        assert!(Reader::new(&[200, 1]).count().is_err());
        assert!(Reader::new(&[1]).offset().is_err());
    }
}
