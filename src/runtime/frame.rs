//! Cuts a byte stream into request frames: a 4-byte big-endian length, then that
//! many bytes. Pure, so that every way a stream can be split is tested here and
//! not on sockets.
//!
//! A claimed length costs nothing: memory grows with the bytes that arrive, to four
//! times as much at most. Small frames, and the beginning of large ones, are copied out
//! of a buffer of somebody else's; the rest of a large one is received straight into the
//! memory that becomes the frame, which is not zeroed first.

use std::collections::VecDeque;

use bytes::Bytes;

/// How much of a large frame is made room for at a time, and so received at a time: one connection
/// does not keep the core for long.
pub const STEP_BYTES: usize = 256 * 1024;
/// A frame of which so much is here gets all its memory at once. What nothing was written to yet costs
/// no memory; growing on would copy all that is there, tens of megabytes in one go.
const WHOLE_FROM_BYTES: usize = 1024 * 1024;
/// How much larger than what has arrived the memory of a frame may be, and its least size.
const GROWTH: usize = 4;
const BODY_BYTES_MIN: usize = 4096;

/// The length prefix of a frame that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFrame {
    /// The four bytes that stood where a length was expected.
    pub prefix: [u8; 4],
    /// Frames of this connection that came before it.
    pub frames_before: u64,
}

impl BadFrame {
    /// What the peer probably meant, for the log.
    #[must_use]
    pub fn diagnosis(&self) -> String {
        let [a, b, _, d] = self.prefix;
        if self.frames_before == 0 {
            if a == 0x16 && b == 0x03 {
                return "a TLS handshake on a plaintext listener: the client's security.protocol does not match".into();
            }
            let text: Vec<u8> = self.prefix.iter().map(u8::to_ascii_uppercase).collect();
            if matches!(
                &text[..],
                b"GET " | b"POST" | b"PUT " | b"HEAD" | b"DELE" | b"OPTI" | b"PRI "
            ) {
                return "an HTTP request: this is a Kafka port".into();
            }
            if &text[..] == b"SSH-" || (self.prefix.is_ascii() && d.is_ascii_graphic()) {
                return format!(
                    "not the Kafka protocol, the first bytes are {:?}",
                    String::from_utf8_lossy(&self.prefix)
                );
            }
        }
        format!(
            "a frame length of {}, outside 1..=socket.request.max.bytes",
            i32::from_be_bytes(self.prefix)
        )
    }
}

/// The frames of one connection.
pub struct FrameReader {
    frame_bytes_max: usize,
    prefix: [u8; 4],
    prefix_len: usize,
    /// Length of the frame being received; meaningful while `prefix_len` is 4.
    want: usize,
    /// What is here of the frame being received.
    body: Vec<u8>,
    /// Length of `body` while it is lent.
    lent: Option<usize>,
    ready: VecDeque<Bytes>,
    /// Bytes of `ready`.
    ready_bytes: usize,
    /// Memory of `body`.
    body_bytes: usize,
    frames: u64,
}

impl FrameReader {
    /// A reader that refuses frames longer than `frame_bytes_max`.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> Self {
        Self {
            frame_bytes_max,
            prefix: [0; 4],
            prefix_len: 0,
            want: 0,
            body: Vec::new(),
            lent: None,
            ready: VecDeque::new(),
            ready_bytes: 0,
            body_bytes: 0,
            frames: 0,
        }
    }

    /// Takes in what was received into a buffer of somebody else's.
    ///
    /// # Errors
    /// A length that is not positive or too large; the connection is of no further use.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), BadFrame> {
        debug_assert!(self.lent.is_none(), "received in two ways at once");
        while !bytes.is_empty() {
            if self.prefix_len < 4 {
                let n = bytes.len().min(4 - self.prefix_len);
                self.prefix[self.prefix_len..self.prefix_len + n].copy_from_slice(&bytes[..n]);
                self.prefix_len += n;
                bytes = &bytes[n..];
                if self.prefix_len == 4 {
                    self.want = self.length()?;
                }
                continue;
            }
            let n = bytes.len().min(self.missing());
            if n == self.want {
                self.push_ready(Bytes::copy_from_slice(&bytes[..n]));
            } else {
                self.reserve(n, n);
                self.body.extend_from_slice(&bytes[..n]);
                self.finish_if_full();
            }
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Bytes that the frame being received still lacks; 0 between frames.
    #[must_use]
    pub fn missing(&self) -> usize {
        if self.prefix_len < 4 {
            0
        } else {
            self.want - self.received()
        }
    }

    /// Bytes of the frame being received that are here.
    #[must_use]
    pub fn received(&self) -> usize {
        self.lent.unwrap_or(self.body.len())
    }

    /// Bytes of the frame being received that are here, with those of its length.
    #[must_use]
    pub fn begun(&self) -> usize {
        self.prefix_len + self.received()
    }

    /// Memory of everything that is here: of whole frames, and of the one being received, as far as
    /// bytes that have arrived account for it.
    #[must_use]
    pub fn memory(&self) -> usize {
        let body = (GROWTH * self.received()).max(BODY_BYTES_MIN);
        self.ready_bytes + self.body_bytes.min(body)
    }

    /// Gives away the memory of the frame being received, with room for so many more bytes of it: at
    /// most [`STEP_BYTES`], and some times what is here. To be followed by [`FrameReader::give_back`].
    pub fn lend(&mut self) -> (Vec<u8>, usize) {
        let growth = ((GROWTH - 1) * self.body.len()).max(BODY_BYTES_MIN);
        let n = self.missing().min(STEP_BYTES).min(growth);
        self.reserve(n, 0);
        self.lent = Some(self.body.len());
        (std::mem::take(&mut self.body), n)
    }

    /// Takes back what [`FrameReader::lend`] gave, with the received bytes appended.
    pub fn give_back(&mut self, body: Vec<u8>) {
        debug_assert!(self.lent.is_some_and(|n| n <= body.len()) && body.len() <= self.want);
        self.lent = None;
        self.body = body;
        self.finish_if_full();
    }

    /// Whether there is a whole frame.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Length of the next whole frame.
    #[must_use]
    pub fn next_len(&self) -> Option<usize> {
        self.ready.front().map(Bytes::len)
    }

    /// The next whole frame.
    pub fn pop(&mut self) -> Option<Bytes> {
        let frame = self.ready.pop_front()?;
        self.ready_bytes -= frame.len();
        Some(frame)
    }

    /// Frames that were received so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.frames
    }

    fn length(&self) -> Result<usize, BadFrame> {
        let length = i32::from_be_bytes(self.prefix);
        match usize::try_from(length) {
            Ok(n) if n > 0 && n <= self.frame_bytes_max => Ok(n),
            _ => Err(BadFrame {
                prefix: self.prefix,
                frames_before: self.frames,
            }),
        }
    }

    /// Makes room for `n` more bytes, of which `arrived` have. Growing by a factor keeps the copies of a
    /// growing frame well below its length; the frame's own length bounds it, so that a finished one wastes
    /// nothing.
    fn reserve(&mut self, n: usize, arrived: usize) {
        let (here, needed) = (self.body.len(), self.body.len() + n);
        if self.body.capacity() < needed {
            let capacity = if here >= WHOLE_FROM_BYTES {
                self.want
            } else {
                let growth = GROWTH * (here + arrived);
                growth.max(BODY_BYTES_MIN).max(needed).min(self.want)
            };
            self.body.reserve_exact(capacity - here);
            self.body_bytes = self.body.capacity();
        }
    }

    fn finish_if_full(&mut self) {
        if self.body.len() == self.want {
            let body = std::mem::take(&mut self.body);
            self.body_bytes = 0;
            self.push_ready(body.into());
        }
    }

    fn push_ready(&mut self, frame: Bytes) {
        self.ready_bytes += frame.len();
        self.ready.push_back(frame);
        self.prefix_len = 0;
        self.want = 0;
        self.frames += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for frame in frames {
            out.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            out.extend_from_slice(frame);
        }
        out
    }

    /// Feeds `bytes` in pieces of the given sizes, through `lend` where `direct` says so.
    fn run(bytes: &[u8], cuts: &[(usize, bool)]) -> Vec<Bytes> {
        let mut reader = FrameReader::new(1 << 20);
        let mut rest = bytes;
        let mut out = Vec::new();
        for &(cut, direct) in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            if direct && reader.missing() > 0 {
                let (mut body, room) = reader.lend();
                let n = cut.clamp(1, room).min(rest.len());
                assert!(body.capacity() - body.len() >= n);
                body.extend_from_slice(&rest[..n]);
                reader.give_back(body);
                rest = &rest[n..];
            } else {
                let n = cut.max(1).min(rest.len());
                reader.feed(&rest[..n]).expect("a good stream");
                rest = &rest[n..];
            }
            out.extend(std::iter::from_fn(|| reader.pop()));
        }
        assert_eq!(reader.prefix_len, 0, "the stream ended between frames");
        out
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..2000), 0..12),
            cuts in prop::collection::vec((1usize..3000, any::<bool>()), 1..20),
        ) {
            let got = run(&stream(&frames), &cuts);
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
            let mut reader = FrameReader::new(1000);
            let result = reader.feed(&bytes);
            while let Some(frame) = reader.pop() {
                prop_assert!(!frame.is_empty() && frame.len() <= 1000);
            }
            prop_assert!(result.is_ok() || !bytes.is_empty());
        }
    }

    #[test]
    fn a_claimed_length_costs_nothing() {
        let mut reader = FrameReader::new(100 << 20);
        reader
            .feed(&(100u32 << 20).to_be_bytes())
            .expect("within the maximum");
        assert_eq!(reader.body.capacity(), 0);
        assert_eq!(reader.memory(), 0);
        // Memory follows what has arrived, however it is received.
        let mut sizes = [10, 5000, 16_000, 100_000].into_iter();
        for size in sizes.by_ref() {
            while reader.received() < size {
                let n = (size - reader.received()).min(7000);
                reader.feed(&vec![7; n]).expect("a body");
                let (held, here) = (reader.body.capacity(), reader.received());
                assert!(
                    held <= (GROWTH * here).max(BODY_BYTES_MIN),
                    "{held} for {here}"
                );
                assert_eq!(reader.memory(), held);
            }
            let (body, room) = reader.lend();
            let (held, here) = (body.capacity(), body.len());
            assert!(room > 0 && held >= here + room);
            assert!(
                held <= (GROWTH * here).max(here + BODY_BYTES_MIN),
                "{held} for {here}"
            );
            reader.give_back(body);
        }
        // And a large frame is not copied again and again.
        let mut growths = 0;
        let mut capacity = 0;
        while reader.missing() > 0 {
            let (mut body, room) = reader.lend();
            body.resize(body.len() + room, 7);
            reader.give_back(body);
            if reader.body.capacity() != capacity {
                capacity = reader.body.capacity();
                growths += 1;
            }
        }
        assert!(growths < 6, "{growths} reallocations for 100 MiB");
        assert_eq!(reader.memory(), 100 << 20);
        assert_eq!(reader.pop().map(|f| f.len()), Some(100 << 20));
        assert_eq!(reader.memory(), 0);
    }

    #[test]
    fn bad_prefixes_are_named() {
        let say = |prefix: &[u8; 4]| {
            FrameReader::new(1 << 20)
                .feed(prefix)
                .expect_err("not a length")
                .diagnosis()
        };
        assert!(say(b"GET ").contains("HTTP"));
        assert!(say(&[0x16, 3, 1, 2]).contains("TLS"));
        assert!(say(&[0; 4]).contains("length of 0"));
        assert!(say(&(-1i32).to_be_bytes()).contains("length of -1"));
        assert!(say(&((1u32 << 20) + 1).to_be_bytes()).contains("1048577"));
    }
}
