//! Reads the primitives of a message body from a frame, in both encodings: the
//! old one with fixed-width lengths and the flexible one with varints and tags.
//! Strings and records come out as slices of the frame.

use bytes::Bytes;
use kafka_wire_core::StrBytes;

use super::error::WireError;
use super::topic::TopicRef;
use crate::base::TopicId;
use crate::base::limits::{
    DECODE_STRING_BYTES_MAX, DECODE_TAGS_MAX, REQUEST_ENTRIES_MAX, TOPIC_NAME_BYTES_MAX,
};

/// The least that a topic takes in a list of topics: an empty name, no partitions, no tags, each
/// of one byte. A bound like this is all that keeps a hostile count from reserving memory.
pub(super) const TOPIC_BYTES_MIN: usize = 3;

type Result<T> = std::result::Result<T, WireError>;

/// A position in a frame.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    bytes: Bytes,
    at: usize,
    flexible: bool,
    /// Elements that the lists still to come may have in all.
    entries_left: usize,
}

macro_rules! fixed {
    ($($name:ident $ty:ty;)*) => {$(
        pub(super) fn $name(&mut self, what: &'static str) -> Result<$ty> {
            self.array(what).map(<$ty>::from_be_bytes)
        }
    )*};
}

impl Reader {
    pub(super) const fn new(bytes: Bytes, flexible: bool) -> Self {
        Self::with_entries(bytes, flexible, REQUEST_ENTRIES_MAX)
    }

    /// One whose lists may have so many elements in all.
    pub(super) const fn with_entries(bytes: Bytes, flexible: bool, entries_max: usize) -> Self {
        Self {
            bytes,
            at: 0,
            flexible,
            entries_left: entries_max,
        }
    }

    pub(super) const fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    /// Bytes read so far.
    pub(super) const fn position(&self) -> usize {
        self.at
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn into_rest(mut self) -> Bytes {
        self.bytes.split_off(self.at)
    }

    /// Ends the reading of a whole body.
    pub(super) fn finish(self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            remaining => Err(WireError::TrailingBytes { remaining }),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let array = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<N>());
        let array = *array.ok_or(WireError::Truncated { what, at: self.at })?;
        self.at += N;
        Ok(array)
    }

    fixed! {
        i8 i8;
        i16 i16;
        i32 i32;
        i64 i64;
    }

    pub(super) fn take(&mut self, len: usize, what: &'static str) -> Result<Bytes> {
        if len > self.remaining() {
            return Err(WireError::Truncated { what, at: self.at });
        }
        let start = self.at;
        self.at += len;
        Ok(self.bytes.slice(start..self.at))
    }

    /// Passes so many bytes.
    pub(super) fn skip(&mut self, len: usize, what: &'static str) -> Result<()> {
        if len > self.remaining() {
            return Err(WireError::Truncated { what, at: self.at });
        }
        self.at += len;
        Ok(())
    }

    /// Passes a string, or null, without a look at it.
    pub(super) fn skip_string(&mut self, what: &'static str) -> Result<()> {
        let len = self.len(false, what)?;
        self.skip(len.unwrap_or(0), what)
    }

    /// Passes bytes, or null, without a look at them.
    pub(super) fn skip_bytes(&mut self, what: &'static str) -> Result<()> {
        let len = self.len(true, what)?;
        self.skip(len.unwrap_or(0), what)
    }

    fn uvarint(&mut self, what: &'static str) -> Result<u32> {
        let at = self.at;
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array(what)?;
            if shift == 28 && byte & 0xf0 != 0 {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Malformed { what, at })
    }

    /// A length: `None` for null. `wide` says whether its fixed form has 32 bits or 16.
    fn len(&mut self, wide: bool, what: &'static str) -> Result<Option<usize>> {
        let at = self.at;
        let len = match (self.flexible, wide) {
            (true, _) => i64::from(self.uvarint(what)?) - 1,
            (false, true) => i64::from(self.i32(what)?),
            (false, false) => i64::from(self.i16(what)?),
        };
        match len {
            -1 => Ok(None),
            _ => match usize::try_from(len) {
                Ok(len) => Ok(Some(len)),
                Err(_) => Err(WireError::Malformed { what, at }),
            },
        }
    }

    /// Bytes, or null.
    pub(super) fn nullable_bytes(&mut self, what: &'static str) -> Result<Option<Bytes>> {
        self.len(true, what)?
            .map(|len| self.take(len, what))
            .transpose()
    }

    /// A string, or null.
    pub(super) fn nullable_string(&mut self, what: &'static str) -> Result<Option<StrBytes>> {
        let at = self.at;
        let Some(len) = self.len(false, what)? else {
            return Ok(None);
        };
        if len > DECODE_STRING_BYTES_MAX {
            return Err(WireError::Malformed { what, at });
        }
        let bytes = self.take(len, what)?;
        match StrBytes::try_from(bytes) {
            Ok(string) => Ok(Some(string)),
            Err(_) => Err(WireError::Malformed { what, at }),
        }
    }

    /// A string that must not be null.
    pub(super) fn string(&mut self, what: &'static str) -> Result<StrBytes> {
        let at = self.at;
        self.nullable_string(what)?
            .ok_or(WireError::Malformed { what, at })
    }

    /// The topic in the form that the version uses.
    pub(super) fn topic(&mut self, by_id: bool) -> Result<TopicRef> {
        const WHAT: &str = "topic name";
        if by_id {
            return Ok(TopicRef::Id(TopicId(self.array("topic id")?)));
        }
        let at = self.at;
        let name = self.string(WHAT)?;
        self.count_entries(
            name.len().saturating_sub(1) / TOPIC_NAME_BYTES_MAX,
            WHAT,
            at,
        )?;
        Ok(TopicRef::Name(name))
    }

    /// Entries of the request, as far as it may have so many.
    fn count_entries(&mut self, count: usize, what: &'static str, at: usize) -> Result<()> {
        let left = self.entries_left.checked_sub(count);
        self.entries_left = left.ok_or(WireError::TooManyEntries { what, at })?;
        Ok(())
    }

    /// Reads something whose lists may have so many elements in all, within what those of the request may have.
    pub(super) fn within_entries<T>(
        &mut self,
        entries_max: usize,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let kept = self.entries_left.saturating_sub(entries_max);
        self.entries_left -= kept;
        let done = read(self);
        self.entries_left += kept;
        done
    }

    /// How many elements an array has that take `element_bytes_min` bytes each, or null.
    pub(super) fn nullable_count(
        &mut self,
        element_bytes_min: usize,
        what: &'static str,
    ) -> Result<Option<usize>> {
        let at = self.at;
        let Some(count) = self.len(true, what)? else {
            return Ok(None);
        };
        self.count_entries(count, what, at)?;
        // The count is a claim: do not make room for more than the frame can hold.
        if count > self.remaining() / element_bytes_min {
            return Err(WireError::Truncated { what, at });
        }
        Ok(Some(count))
    }

    /// Such an array.
    pub(super) fn nullable_list<T>(
        &mut self,
        element_bytes_min: usize,
        what: &'static str,
        mut element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(count) = self.nullable_count(element_bytes_min, what)? else {
            return Ok(None);
        };
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(Some(list))
    }

    /// An array that must not be null.
    pub(super) fn list<T>(
        &mut self,
        element_bytes_min: usize,
        what: &'static str,
        element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let at = self.at;
        self.nullable_list(element_bytes_min, what, element)?
            .ok_or(WireError::Malformed { what, at })
    }

    /// The tagged fields that end a flexible structure; nothing in the old encoding. `known` gets
    /// each tag and a reader of its bytes, and ignores the tags it does not know.
    pub(super) fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<()>,
    ) -> Result<()> {
        const WHAT: &str = "tagged fields";
        if !self.flexible {
            return Ok(());
        }
        let at = self.at;
        let count = self.uvarint(WHAT)? as usize;
        if count > DECODE_TAGS_MAX {
            return Err(WireError::Malformed { what: WHAT, at });
        }
        self.count_entries(count, WHAT, at)?;
        let mut after = None;
        for _ in 0..count {
            let at = self.at;
            let tag = self.uvarint(WHAT)?;
            if after.is_some_and(|after| tag <= after) {
                return Err(WireError::Malformed { what: WHAT, at });
            }
            after = Some(tag);
            let len = self.uvarint(WHAT)? as usize;
            let mut field = Self::new(self.take(len, WHAT)?, true);
            known(tag, &mut field)?;
        }
        Ok(())
    }

    /// Skips the tagged fields that end a flexible structure.
    pub(super) fn skip_tags(&mut self) -> Result<()> {
        self.tags(|_, _| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8], flexible: bool) -> Reader {
        Reader::new(Bytes::copy_from_slice(bytes), flexible)
    }

    #[test]
    fn null_and_empty_differ_in_both_encodings() {
        assert_eq!(reader(&[0xff; 4], false).nullable_bytes("x"), Ok(None));
        assert_eq!(
            reader(&[0; 4], false).nullable_bytes("x"),
            Ok(Some(Bytes::new()))
        );
        assert_eq!(reader(&[0], true).nullable_bytes("x"), Ok(None));
        assert_eq!(
            reader(&[1], true).nullable_bytes("x"),
            Ok(Some(Bytes::new()))
        );
        assert!(reader(&[0], true).string("x").is_err());
        assert!(reader(&[0xff, 0xff], false).string("x").is_err());
    }

    #[test]
    fn claims_beyond_the_frame_are_refused_before_anything_is_reserved() {
        let count = |flexible, bytes: &[u8]| reader(bytes, flexible).list(1, "x", |r| r.i8("y"));
        assert!(count(false, &i32::MAX.to_be_bytes()).is_err());
        assert!(count(false, &(-2i32).to_be_bytes()).is_err());
        assert!(count(true, &[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
        assert_eq!(
            count(true, &[4, 1, 2]),
            Err(WireError::Truncated { what: "x", at: 0 })
        );
        assert!(
            reader(&[0xff, 0xff, 0xff, 0x7f], true)
                .nullable_bytes("x")
                .is_err()
        );
        assert!(
            reader(&[0x80, 0x80, 0x80, 0x80, 0x10], true)
                .nullable_bytes("x")
                .is_err()
        );
    }

    #[test]
    fn tags_come_in_order_and_within_their_bytes() {
        let mut seen = Vec::new();
        let mut good = reader(&[2, 0, 1, 7, 3, 2, 0, 9, 42], true);
        good.tags(|tag, field| {
            seen.push((tag, field.remaining()));
            Ok(())
        })
        .unwrap();
        assert_eq!((seen, good.i8("rest")), (vec![(0, 1), (3, 2)], Ok(42)));
        assert!(reader(&[2, 3, 0, 3, 0], true).skip_tags().is_err());
        assert!(reader(&[1, 0, 5, 1], true).skip_tags().is_err());
        assert!(reader(&[0xff, 0x7f], true).skip_tags().is_err());
        assert_eq!(reader(&[], false).skip_tags(), Ok(()));
    }

    #[test]
    fn a_name_that_is_too_long_for_a_topic_counts_as_several_entries() {
        let named = |bytes: usize| {
            let mut frame = (bytes as i16).to_be_bytes().to_vec();
            frame.resize(2 + bytes, b'x');
            let mut reader = reader(&frame, false);
            let topic = reader.topic(false).unwrap();
            assert!(matches!(topic, TopicRef::Name(name) if name.len() == bytes));
            REQUEST_ENTRIES_MAX - reader.entries_left
        };
        let longest = TOPIC_NAME_BYTES_MAX;
        let counted = [0, 1, longest, longest + 1, 3 * longest, 100 * longest + 1].map(named);
        assert_eq!(counted, [0, 0, 0, 1, 2, 100]);
        let mut frame = vec![0x7f, 0xff];
        frame.resize(2 + 0x7fff, b'x');
        let all = [&(200i32).to_be_bytes()[..], &frame.repeat(200)].concat();
        let refused = reader(&all, false).list(2, "topics", |reader| reader.topic(false));
        assert!(matches!(refused, Err(WireError::TooManyEntries { .. })));
    }

    #[test]
    fn strings_are_utf8() {
        assert!(reader(&[0, 1, 0xff], false).string("x").is_err());
        assert_eq!(
            &*reader(&[0, 2, 0xc3, 0xa9], false).string("x").unwrap(),
            "é"
        );
    }
}
