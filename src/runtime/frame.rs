//! Cuts a byte stream into request frames: a 4-byte big-endian length, then that
//! many bytes. Pure, so that every way a stream can be split is tested here and
//! not on sockets.
//!
//! A claimed length costs nothing: memory grows with the bytes that arrive. Small
//! frames come out of a receive buffer that all connections of a shard share; the
//! rest of a large one is received straight into the buffer that becomes the frame.

use std::collections::VecDeque;

use bytes::Bytes;

/// How much of a large frame is made room for at a time. Also the most that one receive zeroes
/// beforehand, so it is sized to stay in a core's cache.
pub const STEP_BYTES: usize = 256 * 1024;

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
    body: Vec<u8>,
    /// Bytes of `body` that are received; the rest is zeroed room.
    filled: usize,
    ready: VecDeque<Bytes>,
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
            filled: 0,
            ready: VecDeque::new(),
            frames: 0,
        }
    }

    /// Takes in what was received into a buffer of somebody else's.
    ///
    /// # Errors
    /// A length that is not positive or too large; the connection is of no further use.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), BadFrame> {
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
            let n = bytes.len().min(self.want - self.filled);
            if self.filled == 0 && n == self.want {
                self.ready.push_back(Bytes::copy_from_slice(&bytes[..n]));
                self.next_frame();
            } else {
                self.body.truncate(self.filled);
                self.reserve(n);
                self.body.extend_from_slice(&bytes[..n]);
                self.filled += n;
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
            self.want - self.filled
        }
    }

    /// Bytes of the frame being received that are here.
    #[must_use]
    pub fn received(&self) -> usize {
        self.filled
    }

    /// Whether a frame, or its length, is half received.
    #[must_use]
    pub fn in_frame(&self) -> bool {
        self.prefix_len > 0
    }

    /// Room to receive the next bytes of a large frame into, at most [`STEP_BYTES`] of it; to be
    /// followed by [`FrameReader::filled`].
    pub fn room(&mut self) -> &mut [u8] {
        let n = self.missing().min(STEP_BYTES);
        if self.body.len() < self.filled + n {
            self.reserve(n);
            self.body.resize(self.filled + n, 0);
        }
        &mut self.body[self.filled..]
    }

    /// `n` bytes were received into [`FrameReader::room`].
    pub fn filled(&mut self, n: usize) {
        self.filled += n;
        debug_assert!(self.filled <= self.body.len() && self.filled <= self.want);
        self.finish_if_full();
    }

    /// The next whole frame.
    pub fn pop(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
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

    /// Makes room for `n` more bytes. Doubling keeps the copies of a growing frame within its
    /// length; the frame's own length bounds it, so that a finished one wastes nothing.
    fn reserve(&mut self, n: usize) {
        let needed = self.filled + n;
        if self.body.capacity() < needed {
            let capacity = (needed * 2).max(STEP_BYTES).min(self.want);
            self.body.reserve_exact(capacity - self.body.len());
        }
    }

    fn finish_if_full(&mut self) {
        if self.filled == self.want {
            let mut body = std::mem::take(&mut self.body);
            body.truncate(self.filled);
            self.ready.push_back(body.into());
            self.next_frame();
        }
    }

    fn next_frame(&mut self) {
        self.prefix_len = 0;
        self.want = 0;
        self.filled = 0;
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

    /// Feeds `bytes` in pieces of the given sizes, through `room` where `direct` says so.
    fn run(bytes: &[u8], cuts: &[(usize, bool)]) -> Vec<Bytes> {
        let mut reader = FrameReader::new(1 << 20);
        let mut rest = bytes;
        let mut out = Vec::new();
        for &(cut, direct) in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            if direct && reader.missing() > 0 {
                let room = reader.room();
                let n = cut.clamp(1, room.len()).min(rest.len());
                room[..n].copy_from_slice(&rest[..n]);
                reader.filled(n);
                rest = &rest[n..];
            } else {
                let n = cut.max(1).min(rest.len());
                reader.feed(&rest[..n]).expect("a good stream");
                rest = &rest[n..];
            }
            out.extend(std::iter::from_fn(|| reader.pop()));
        }
        assert!(!reader.in_frame(), "the stream ended between frames");
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
        reader.feed(&[7; 10]).expect("a body");
        assert!(
            reader.body.capacity() <= STEP_BYTES,
            "{}",
            reader.body.capacity()
        );
        // And a large frame is not copied again and again: growth doubles, up to its length.
        let mut growths = 0;
        let mut capacity = 0;
        while reader.missing() > 0 {
            let n = reader.room().len();
            reader.filled(n);
            if reader.body.capacity() != capacity {
                capacity = reader.body.capacity();
                growths += 1;
            }
        }
        assert!(growths < 12, "{growths} reallocations for 100 MiB");
        assert_eq!(reader.pop().map(|f| f.len()), Some(100 << 20));
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
