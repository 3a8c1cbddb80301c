//! Snappy, in xerial's framing (a header of 16 bytes, then blocks, each after its length; another header may
//! follow, and up to three bytes behind it all do not count) and as one plain block, which librdkafka writes.
//! Its blocks are of any size, so they are opened step by step.

use super::error::BatchError;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Version 1, readable by version 1.
const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Uncompressed bytes per block, as the Java producer's.
const BLOCK_BYTES: usize = 32 * 1024;
/// No Snappy input grows by more: three bytes copy at most 64.
const RATIO_MAX: usize = 22;

/// Opens Snappy; see [`super::Opener`].
#[derive(Debug)]
pub(super) struct Snappy {
    framed: bool,
    /// Bytes of the input that are used up.
    at: usize,
    /// Where the block at hand ends.
    end: usize,
    /// Bytes that it opens to.
    len: usize,
    /// What of it is open: copies go back to any place of it.
    out: Vec<u8>,
    /// What of that was given out.
    given: usize,
    /// Bytes of a literal that are still to come.
    literal: usize,
    /// Whether there is a block at hand.
    inside: bool,
}

impl Snappy {
    pub(super) fn new(input: &[u8]) -> Self {
        let framed = input.starts_with(&MAGIC);
        Self {
            framed,
            at: 0,
            end: 0,
            len: 0,
            out: Vec::new(),
            given: 0,
            literal: 0,
            inside: false,
        }
    }

    /// About `step_bytes` more; see [`super::Opener::step`].
    pub(super) fn step(
        &mut self,
        input: &[u8],
        step_bytes: usize,
        bytes_max: usize,
    ) -> Result<Option<&[u8]>, BatchError> {
        if !self.inside {
            if self.framed && self.header(input)? {
                return Ok(Some(&[]));
            }
            if !self.begin(input, bytes_max)? {
                return Ok(None);
            }
        }
        let block = input.get(..self.end).ok_or(BatchError::Compression)?;
        if self.out.is_empty() && self.len <= step_bytes {
            self.out.resize(self.len, 0);
            let opened =
                snap::raw::Decoder::new().decompress(&input[self.at..self.end], &mut self.out);
            self.at = self.end;
            if opened != Ok(self.len) {
                return Err(BatchError::Compression);
            }
        } else {
            let until = (self.given + step_bytes).min(self.len);
            while self.out.len() < until {
                match self.literal {
                    0 => self.element(block)?,
                    _ => self.literal(block, until)?,
                }
            }
        }
        let from = self.given;
        self.given = self.out.len();
        if self.given == self.len {
            if self.at != self.end {
                return Err(BatchError::Compression);
            }
            self.inside = false;
        }
        Ok(Some(&self.out[from..]))
    }

    /// Steps over a header of a stream, if there is one.
    fn header(&mut self, input: &[u8]) -> Result<bool, BatchError> {
        const DAMAGED: BatchError = BatchError::Compression;
        let rest = input.get(self.at..).unwrap_or_default();
        if !rest.starts_with(&MAGIC[..4]) {
            return Ok(false);
        }
        let rest = rest.strip_prefix(&MAGIC).ok_or(DAMAGED)?;
        let versions: &[u8; VERSIONS.len()] = rest.first_chunk().ok_or(DAMAGED)?;
        let version = versions
            .first_chunk()
            .map_or(0, |bytes| i32::from_be_bytes(*bytes));
        if version < 1 {
            return Err(DAMAGED);
        }
        self.at += MAGIC.len() + VERSIONS.len();
        Ok(true)
    }

    /// Begins with the next block; false if there is none.
    fn begin(&mut self, input: &[u8], bytes_max: usize) -> Result<bool, BatchError> {
        const DAMAGED: BatchError = BatchError::Compression;
        self.end = input.len();
        if self.framed {
            let rest = input.get(self.at..).unwrap_or_default();
            let Some((len, rest)) = rest.split_first_chunk::<4>() else {
                return Ok(false);
            };
            let len = usize::try_from(i32::from_be_bytes(*len)).map_err(|_| DAMAGED)?;
            if len > rest.len() {
                return Err(DAMAGED);
            }
            self.at += 4;
            self.end = self.at + len;
        } else if self.at > 0 {
            return Ok(false);
        }
        let block = &input[self.at..self.end];
        self.len = snap::raw::decompress_len(block).map_err(|_| DAMAGED)?;
        // The length is a claim: do not make room for what the input cannot hold.
        if self.len > block.len().saturating_mul(RATIO_MAX) {
            return Err(DAMAGED);
        }
        if self.len > bytes_max {
            return Err(BatchError::TooLarge);
        }
        (self.given, self.inside) = (0, true);
        self.out.clear();
        self.out.reserve_exact(self.len);
        if self.len > super::step::STEP_BYTES {
            // The other way skips the length itself.
            self.at += block.iter().take_while(|byte| **byte >= 0x80).count() + 1;
        }
        Ok(true)
    }

    /// Goes on with a literal: it may be the whole block.
    fn literal(&mut self, block: &[u8], until: usize) -> Result<(), BatchError> {
        let part = self.literal.min(until - self.out.len());
        let bytes = block.get(self.at..self.at + part);
        self.out
            .extend_from_slice(bytes.ok_or(BatchError::Compression)?);
        self.at += part;
        self.literal -= part;
        Ok(())
    }

    /// One copy of a block, of at most 64 bytes, or the beginning of a literal.
    fn element(&mut self, block: &[u8]) -> Result<(), BatchError> {
        const DAMAGED: BatchError = BatchError::Compression;
        let rest = block.get(self.at..).ok_or(DAMAGED)?;
        let (&tag, rest) = rest.split_first().ok_or(DAMAGED)?;
        let number = |bytes: usize| -> Result<usize, BatchError> {
            let bytes = rest.get(..bytes).ok_or(DAMAGED)?;
            let low_first = bytes.iter().rev();
            Ok(low_first.fold(0, |value, byte| value << 8 | usize::from(*byte)))
        };
        let high = usize::from(tag >> 2);
        let (extra, len, offset) = match tag & 3 {
            0 if high < 60 => (0, high + 1, 0),
            0 => (high - 59, number(high - 59)? + 1, 0),
            1 => (1, (high & 7) + 4, (high >> 3) << 8 | number(1)?),
            2 => (2, high + 1, number(2)?),
            _ => (4, high + 1, number(4)?),
        };
        self.at += 1 + extra;
        if len > self.len - self.out.len() {
            return Err(DAMAGED);
        }
        if tag & 3 == 0 {
            self.literal = len;
            return Ok(());
        }
        if offset == 0 || offset > self.out.len() {
            return Err(DAMAGED);
        }
        // A copy may go on into what it makes itself.
        let mut left = len;
        while left > 0 {
            let from = self.out.len() - offset;
            let part = left.min(offset);
            self.out.extend_from_within(from..from + part);
            left -= part;
        }
        Ok(())
    }
}

/// Makes xerial's stream of blocks, each as soon as it is full.
pub(super) struct Blocks {
    out: Vec<u8>,
    /// What fills no block yet.
    block: Vec<u8>,
    encoder: snap::raw::Encoder,
}

impl Blocks {
    /// The stream begins behind these bytes.
    pub(super) fn new(mut out: Vec<u8>) -> Self {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSIONS);
        Self {
            out,
            block: Vec::new(),
            encoder: snap::raw::Encoder::new(),
        }
    }

    /// Takes some more.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - self.block.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.extend_from_slice(now);
            if self.block.len() == BLOCK_BYTES {
                self.end_block();
            }
            bytes = later;
        }
    }

    fn end_block(&mut self) {
        let compressed = self
            .encoder
            .compress_vec(&self.block)
            .expect("a block is far below Snappy's 4 GiB");
        self.block.clear();
        let len = (compressed.len() as u32).to_be_bytes();
        self.out.extend_from_slice(&len);
        self.out.extend_from_slice(&compressed);
    }

    /// All of it.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if !self.block.is_empty() {
            self.end_block();
        }
        self.out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::step::STEP_BYTES;
    use super::*;

    fn opened(input: &[u8]) -> Result<Vec<u8>, BatchError> {
        let mut snappy = Snappy::new(input);
        let mut all = Vec::new();
        while let Some(bytes) = snappy.step(input, STEP_BYTES, usize::MAX)? {
            assert!(bytes.len() < STEP_BYTES + 64);
            all.extend_from_slice(bytes);
        }
        Ok(all)
    }

    proptest! {
        /// Large plain blocks, which the library would open at once, against the library.
        #[test]
        fn large_blocks_are_opened_as_the_library_does(
            words in prop::collection::vec("[a-d]{1,9}", 1..300),
            repeat in 1usize..200,
            damage: Option<(prop::sample::Index, u8)>,
        ) {
            let input = words.concat().repeat(repeat);
            let mut packed = snap::raw::Encoder::new().compress_vec(input.as_bytes()).unwrap();
            if let Some((at, flip)) = damage {
                let at = at.index(packed.len());
                packed[at] ^= flip;
            }
            let theirs = snap::raw::Decoder::new().decompress_vec(&packed);
            match opened(&packed) {
                Ok(ours) => prop_assert!(theirs.is_ok_and(|theirs| theirs == ours)),
                Err(_) => prop_assert!(theirs.is_err()),
            }
        }
    }

    #[test]
    fn streams_may_follow_one_another() {
        let stream = |data: &[u8]| {
            let mut blocks = Blocks::new(Vec::new());
            blocks.push(data);
            blocks.finish()
        };
        let (one, two) = (stream(b"one"), stream(b"two"));
        let header = &two[..16];
        assert_eq!(opened(&[&one[..], &two].concat()).unwrap(), b"onetwo");
        assert_eq!(opened(&[header, header, &one].concat()).unwrap(), b"one");
        for len in 0..4 {
            assert_eq!(
                opened(&[&one[..], &b"end"[..len]].concat()).unwrap(),
                b"one"
            );
        }
        for cut in 4..16 {
            assert!(opened(&[&one[..], &header[..cut]].concat()).is_err());
        }
        for (at, damage) in [(7, 1), (11, 0), (8, 0x80)] {
            let mut wrong = two.clone();
            wrong[at] = damage;
            assert!(opened(&[&one[..], &wrong].concat()).is_err(), "{at}");
        }
        assert!(opened(&[&one[..], b"\0\0\0\0"].concat()).is_err());
    }

    #[test]
    fn long_literals_and_all_kinds_of_copies() {
        let mut random = 1u32;
        let mut input: Vec<u8> = (0..200_000)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 24) as u8
            })
            .collect();
        input.extend_from_within(..70_000);
        input.extend(vec![7; 100_000]);
        let packed = snap::raw::Encoder::new().compress_vec(&input).unwrap();
        assert_eq!(opened(&packed).unwrap(), input);
        // A copy with an offset of four bytes, which encoders do not write: literal "abcd", then 64 bytes of it.
        let mut by_hand = vec![0x80, 0x80, 0x08, 3 << 2, b'a', b'b', b'c', b'd'];
        let copies = (131_072 - 4) / 64;
        (0..copies).for_each(|_| by_hand.extend([63 << 2 | 3, 4, 0, 0, 0]));
        by_hand.extend([59 << 2 | 3, 4, 0, 0, 0]);
        assert_eq!(opened(&by_hand).unwrap(), b"abcd".repeat(32_768));
        by_hand.push(0);
        assert!(opened(&by_hand).is_err(), "bytes after the end");
    }
}
