//! A frame whose payloads stay where they are: what lies between them is written
//! into one buffer, and the frame is the list of its slices and the payloads.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use super::writer::Writer;

const PREFIX: usize = 4;

/// A frame in the making, with payloads of type `T`.
#[derive(Debug)]
pub(super) struct Gather<T> {
    writer: Writer,
    /// Each payload and the position in the buffer before which it belongs.
    payloads: Vec<(usize, T)>,
    payload_bytes: usize,
}

impl<T> Gather<T> {
    /// Starts a frame: the length prefix, to be filled in by [`Self::finish`].
    pub(super) fn new(capacity: usize, flexible: bool) -> Self {
        let mut writer = Writer::with_capacity(capacity, flexible);
        writer.i32(0);
        Self {
            writer,
            payloads: Vec::new(),
            payload_bytes: 0,
        }
    }

    /// Adds `bytes` bytes that are not copied.
    pub(super) fn payload(&mut self, bytes: usize, payload: T) {
        self.payloads.push((self.writer.out.len(), payload));
        self.payload_bytes += bytes;
    }

    /// The frame, in order. Panics if it is 2 GiB or longer; every caller is bounded far below.
    pub(super) fn finish(mut self, wrap: impl Fn(Bytes) -> T) -> Vec<T> {
        let payloads = std::mem::take(&mut self.payloads);
        let written = self.written();
        let mut parts = Vec::with_capacity(2 * payloads.len() + 1);
        let mut from = 0;
        for (before, payload) in payloads {
            if before > from {
                parts.push(wrap(written.slice(from..before)));
                from = before;
            }
            parts.push(payload);
        }
        if from < written.len() {
            parts.push(wrap(written.slice(from..)));
        }
        parts
    }

    /// What was written, the whole frame if it has no payloads. Panics as [`Self::finish`].
    pub(super) fn written(mut self) -> Bytes {
        let len = self.writer.out.len() - PREFIX + self.payload_bytes;
        let len = i32::try_from(len).expect("a frame is below 2 GiB");
        self.writer.out[..PREFIX].copy_from_slice(&len.to_be_bytes());
        self.writer.out.into()
    }
}

impl<T> Deref for Gather<T> {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl<T> DerefMut for Gather<T> {
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_keep_their_places_and_memory() {
        let payload = Bytes::from_static(b"payload");
        let mut frame = Gather::new(0, false);
        frame.i16(1);
        frame.payload(7, payload.clone());
        frame.payload(7, payload.clone());
        frame.i16(2);
        let parts = frame.finish(|bytes| bytes);
        assert_eq!(parts[1].as_ptr(), payload.as_ptr());
        assert_eq!(parts.concat(), b"\0\0\0\x12\0\x01payloadpayload\0\x02");
        assert_eq!(parts.len(), 4);
    }
}
