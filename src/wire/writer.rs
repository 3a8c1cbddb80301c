//! Writes the primitives of a message body, the counterpart of `reader`.

use bytes::BufMut;

use super::topic::TopicRef;

/// Kafka's strings have 15-bit lengths, in the flexible encoding too.
const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// How many elements a list has, as it stands before them.
#[must_use]
pub fn list_count(flexible: bool, elements: usize) -> Vec<u8> {
    const BYTES_MAX: usize = 5;
    let mut writer = Writer::with_capacity(BYTES_MAX, flexible);
    writer.len(Some(elements));
    writer.out
}

/// A frame in the making.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) out: Vec<u8>,
    pub(super) flexible: bool,
}

impl Writer {
    pub(super) fn with_capacity(bytes: usize, flexible: bool) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
            flexible,
        }
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.out.put_i16(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.out.put_i64(value);
    }

    pub(super) fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }

    /// A length with the meaning of Kafka's 32-bit lengths, null as `None`. What it counts is
    /// bounded by the frame, whose own length has 31 bits.
    pub(super) fn len(&mut self, len: Option<usize>) {
        match (self.flexible, len) {
            (true, None) => self.uvarint(0),
            (true, Some(len)) => self.uvarint(len as u32 + 1),
            (false, None) => self.i32(-1),
            (false, Some(len)) => self.i32(len as i32),
        }
    }

    /// A string or null. A string that is too long for the protocol is cut: only messages for
    /// people can be so long, since names have been checked.
    pub(super) fn nullable_string(&mut self, value: Option<&str>) {
        self.text(value.map(str::as_bytes));
    }

    /// The same, given as its bytes.
    fn text(&mut self, value: Option<&[u8]>) {
        let value = value.map(cut);
        let len = value.map(<[u8]>::len);
        match (self.flexible, len) {
            (true, _) => self.len(len),
            (false, None) => self.i16(-1),
            (false, Some(len)) => self.i16(len as i16),
        }
        self.out.put_slice(value.unwrap_or_default());
    }

    pub(super) fn topic(&mut self, topic: &TopicRef) {
        match topic {
            TopicRef::Name(name) => self.text(Some(name.as_bytes())),
            TopicRef::Id(id) => self.out.put_slice(&id.0),
        }
    }

    /// Ends a structure that has no tagged fields.
    pub(super) fn no_tags(&mut self) {
        if self.flexible {
            self.out.put_u8(0);
        }
    }
}

/// The beginning of UTF-8 text that has room, up to the end of a character.
fn cut(text: &[u8]) -> &[u8] {
    let continues = |byte: Option<&u8>| byte.is_some_and(|byte| byte & 0xc0 == 0x80);
    let mut end = text.len().min(STRING_BYTES_MAX);
    while end > 0 && continues(text.get(end)) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_strings_are_cut_at_a_character() {
        let mut writer = Writer::with_capacity(0, false);
        writer.nullable_string(Some(&"é".repeat(20_000)));
        assert_eq!(writer.out.len(), 2 + 32_766);
        assert_eq!(writer.out[..2], 32_766i16.to_be_bytes());
    }
}
