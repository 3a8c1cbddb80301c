//! LZ4 frames as the reader in Kafka's Java clients and brokers takes them, which is not all of the format: only
//! independent blocks, no dictionary, one frame, and an end mark; what comes behind that is not looked at. The
//! checksum of the content and its size are not checked; those of the header and of blocks are.
//!
//! A library's reader would take more, and batches that it took would be read by nobody in Java.

use super::error::BatchError;
use super::step::Cost;

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const DAMAGED: BatchError = BatchError::Compression;

/// Bits of the first byte of a header.
mod flag {
    pub(super) const RESERVED: u8 = 0b11;
    pub(super) const CONTENT_CHECKSUM: u8 = 1 << 2;
    pub(super) const CONTENT_SIZE: u8 = 1 << 3;
    pub(super) const BLOCK_CHECKSUM: u8 = 1 << 4;
    pub(super) const INDEPENDENT: u8 = 1 << 5;
}

/// Opens LZ4; see [`super::Opener`]. A block is of up to 4 MiB, so that is done step by step.
#[derive(Debug, Default)]
pub(super) struct Lz4 {
    /// Bytes of the input that are used up.
    at: usize,
    flags: u8,
    /// Bytes that a block opens to at most; 0 before the header was seen.
    block_max: usize,
    block: Block,
    /// Where the block at hand ends.
    end: usize,
    /// What of it is open: copies go back to any place of it.
    out: Vec<u8>,
}

/// The block at hand, and where in it the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Block {
    /// There is none yet.
    #[default]
    None,
    Plain,
    /// At the beginning of a sequence.
    Token,
    /// So many of a sequence's literals are still to come.
    Literals {
        left: usize,
        token: u8,
    },
    /// So many bytes are still to be copied from so far back.
    Copy {
        left: usize,
        offset: usize,
    },
    /// The end mark was seen.
    End,
}

impl Lz4 {
    /// About `step_bytes` more; see [`super::Opener::step`].
    pub(super) fn step<'a>(
        &'a mut self,
        input: &'a [u8],
        step_bytes: usize,
        cost: &mut Cost,
    ) -> Result<Option<&'a [u8]>, BatchError> {
        if self.block_max == 0 {
            self.begin(input)?;
        }
        if self.block == Block::None {
            self.begin_block(input, cost)?;
        }
        let block = input.get(..self.end).ok_or(DAMAGED)?;
        let from = self.out.len();
        let made = match self.block {
            Block::End => return Ok(None),
            Block::Plain => {
                let len = step_bytes.min(block.len() - self.at);
                let made = self.take(block, len)?;
                if self.at == block.len() {
                    self.end_block();
                }
                made
            }
            Block::Token if from == 0 && self.block_max <= step_bytes => {
                cost.opened = step_bytes;
                self.open_whole(block)?;
                &self.out
            }
            _ => {
                cost.opened = step_bytes;
                self.open(block, from + step_bytes)?;
                &self.out[from..]
            }
        };
        cost.opened = made.len();
        Ok(Some(made))
    }

    fn take<'a>(&mut self, input: &'a [u8], len: usize) -> Result<&'a [u8], BatchError> {
        let rest = input.get(self.at..).ok_or(DAMAGED)?;
        let taken = rest.get(..len).ok_or(DAMAGED)?;
        self.at += len;
        Ok(taken)
    }

    fn number(&mut self, input: &[u8]) -> Result<u32, BatchError> {
        let bytes = self.take(input, 4)?.first_chunk().ok_or(DAMAGED)?;
        Ok(u32::from_le_bytes(*bytes))
    }

    fn begin(&mut self, input: &[u8]) -> Result<(), BatchError> {
        const VERSION: u8 = 1;
        /// In the second byte all but the size of blocks.
        const SIZE_RESERVED: u8 = 0b1000_1111;
        if self.take(input, 4)? != MAGIC {
            return Err(DAMAGED);
        }
        let from = self.at;
        let &[flags, size] = self.take(input, 2)? else {
            return Err(DAMAGED);
        };
        let good = flags >> 6 == VERSION
            && flags & flag::INDEPENDENT != 0
            && flags & flag::RESERVED == 0
            && size & SIZE_RESERVED == 0;
        if !good {
            return Err(DAMAGED);
        }
        if flags & flag::CONTENT_SIZE != 0 {
            self.take(input, 8)?;
        }
        let described = input.get(from..self.at).unwrap_or_default();
        let checksum = (xxh32(described) >> 8) as u8;
        if self.take(input, 1)? != [checksum] {
            return Err(DAMAGED);
        }
        self.block_max = match size >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(DAMAGED),
        };
        self.flags = flags;
        Ok(())
    }

    fn begin_block(&mut self, input: &[u8], cost: &mut Cost) -> Result<(), BatchError> {
        const PLAIN: u32 = 1 << 31;
        /// Bytes that go into a checksum in the time of one that is made.
        const BYTES_PER_COST: usize = 4;
        let head = self.number(input)?;
        let len = (head & !PLAIN) as usize;
        if len == 0 {
            if self.flags & flag::CONTENT_CHECKSUM != 0 {
                self.take(input, 4)?;
            }
            self.block = Block::End;
            return Ok(());
        }
        if len > self.block_max {
            return Err(DAMAGED);
        }
        let from = self.at;
        let block = self.take(input, len)?;
        if self.flags & flag::BLOCK_CHECKSUM != 0 {
            cost.besides += len / BYTES_PER_COST;
            if self.number(input)? != xxh32(block) {
                return Err(DAMAGED);
            }
        }
        (self.at, self.end) = (from, from + len);
        self.out.clear();
        self.block = match head & PLAIN {
            0 => Block::Token,
            _ => Block::Plain,
        };
        Ok(())
    }

    fn end_block(&mut self) {
        if self.flags & flag::BLOCK_CHECKSUM != 0 {
            self.at += 4;
        }
        self.block = Block::None;
    }

    /// A block that is no more than a step, which the library does faster.
    fn open_whole(&mut self, block: &[u8]) -> Result<(), BatchError> {
        /// No LZ4 input grows by more.
        const RATIO_MAX: usize = 256;
        let packed = self.take(block, block.len() - self.at)?;
        self.out
            .resize(self.block_max.min(packed.len() * RATIO_MAX), 0);
        let made = lz4_flex::block::decompress_into(packed, &mut self.out).map_err(|_| DAMAGED)?;
        self.out.truncate(made);
        self.end_block();
        Ok(())
    }

    /// Goes on in a compressed block until so much of it is open, or all.
    fn open(&mut self, block: &[u8], until: usize) -> Result<(), BatchError> {
        const COPY_MIN: usize = 4;
        while self.out.len() < until {
            let (made, room) = (self.out.len(), until - self.out.len());
            self.block = match self.block {
                Block::Literals { left: 0, .. } if self.at == block.len() => {
                    self.end_block();
                    return Ok(());
                }
                Block::Literals { left: 0, token } => {
                    let offset = self.take(block, 2)?.first_chunk().ok_or(DAMAGED)?;
                    let offset = usize::from(u16::from_le_bytes(*offset));
                    let left = self.length(block, token & 15, COPY_MIN)?;
                    if offset == 0 || offset > made {
                        return Err(DAMAGED);
                    }
                    Block::Copy { left, offset }
                }
                Block::Literals { left, token } => {
                    let part = left.min(room);
                    let literals = self.take(block, part)?;
                    self.out.extend_from_slice(literals);
                    let left = left - part;
                    Block::Literals { left, token }
                }
                Block::Copy { left, offset } if left > 0 => {
                    let part = left.min(offset).min(room);
                    self.out
                        .extend_from_within(made - offset..made - offset + part);
                    // What was copied whole stands there twice now: next time, that much at once.
                    let offset = if part == offset { 2 * offset } else { offset };
                    let left = left - part;
                    Block::Copy { left, offset }
                }
                _ => {
                    let &[token] = self.take(block, 1)? else {
                        return Err(DAMAGED);
                    };
                    let left = self.length(block, token >> 4, 0)?;
                    Block::Literals { left, token }
                }
            };
        }
        Ok(())
    }

    /// A length that begins with these four bits and goes on in bytes if they are all set.
    fn length(&mut self, block: &[u8], bits: u8, least: usize) -> Result<usize, BatchError> {
        let most = self.block_max - self.out.len();
        let mut length = least + usize::from(bits);
        let mut more = bits == 15;
        // Looked at as it grows: all the rest of a block may claim to be a length.
        while more && length <= most {
            let &[byte] = self.take(block, 1)? else {
                return Err(DAMAGED);
            };
            length += usize::from(byte);
            more = byte == 255;
        }
        if length > most {
            return Err(DAMAGED);
        }
        Ok(length)
    }
}

/// The xxHash of 32 bits, seed 0, by which LZ4 frames are checked.
fn xxh32(input: &[u8]) -> u32 {
    const P1: u32 = 0x9e37_79b1;
    const P2: u32 = 0x85eb_ca77;
    const P3: u32 = 0xc2b2_ae3d;
    const P4: u32 = 0x27d4_eb2f;
    const P5: u32 = 0x1656_67b1;
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
    let stripes = input.chunks_exact(16);
    let rest = stripes.remainder();
    let mut hash = if input.len() < 16 {
        P5
    } else {
        let mut lanes = [P1.wrapping_add(P2), P2, 0, P1.wrapping_neg()];
        for stripe in stripes {
            for (lane, bytes) in lanes.iter_mut().zip(stripe.chunks_exact(4)) {
                let mixed = lane.wrapping_add(word(bytes).wrapping_mul(P2));
                *lane = mixed.rotate_left(13).wrapping_mul(P1);
            }
        }
        let turns = [1, 7, 12, 18];
        let turned = lanes.iter().zip(turns).map(|(l, t)| l.rotate_left(t));
        turned.fold(0, u32::wrapping_add)
    };
    hash = hash.wrapping_add(input.len() as u32);
    let words = rest.chunks_exact(4);
    let bytes = words.remainder();
    for bytes in words {
        let mixed = hash.wrapping_add(word(bytes).wrapping_mul(P3));
        hash = mixed.rotate_left(17).wrapping_mul(P4);
    }
    for byte in bytes {
        let mixed = hash.wrapping_add(u32::from(*byte).wrapping_mul(P5));
        hash = mixed.rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 13)).wrapping_mul(P3);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"what a frame holds, and what a frame holds once more";

    fn opened(input: &[u8]) -> Result<Vec<u8>, BatchError> {
        let at_once = opened_by(input, 64 << 10);
        assert_eq!(opened_by(input, 7), at_once);
        at_once
    }

    fn opened_by(input: &[u8], step_bytes: usize) -> Result<Vec<u8>, BatchError> {
        let mut lz4 = Lz4::default();
        let mut all = Vec::new();
        while let Some(bytes) = lz4.step(input, step_bytes, &mut Cost::default())? {
            assert!(bytes.len() <= step_bytes);
            all.extend_from_slice(bytes);
        }
        Ok(all)
    }

    /// A header with a checksum that fits.
    fn header(flags: u8, size: u8, more: &[u8]) -> Vec<u8> {
        let described = [&[flags, size], more].concat();
        let checksum = (xxh32(&described) >> 8) as u8;
        [&MAGIC[..], &described, &[checksum]].concat()
    }

    fn packed(data: &[u8]) -> Vec<u8> {
        let packed = lz4_flex::block::compress(data);
        [&(packed.len() as u32).to_le_bytes()[..], &packed].concat()
    }

    fn plain(data: &[u8]) -> Vec<u8> {
        let head = data.len() as u32 | 1 << 31;
        [&head.to_le_bytes()[..], data].concat()
    }

    const END: [u8; 4] = [0; 4];

    /// What Kafka 4.3.1 took, asked frame by frame.
    #[test]
    fn what_kafka_takes() {
        let whole = |flags, size, more: &[u8]| [header(flags, size, more), packed(TEXT)].concat();
        let sum = |bytes: &[u8]| xxh32(bytes).to_le_bytes();
        let block = packed(TEXT);
        let checked = [&block[..], &sum(&block[4..])].concat();
        for (what, frame) in [
            ("a block", [&whole(0x60, 0x40, b"")[..], &END].concat()),
            (
                "a plain block",
                [&header(0x60, 0x40, b"")[..], &plain(TEXT), &END].concat(),
            ),
            (
                "two blocks",
                [
                    &header(0x60, 0x40, b"")[..],
                    &packed(&TEXT[..9]),
                    &plain(&TEXT[9..]),
                    &END,
                ]
                .concat(),
            ),
            (
                "an empty compressed block first",
                [&header(0x60, 0x40, b"")[..], &[1, 0, 0, 0, 0], &block, &END].concat(),
            ),
            (
                "blocks of 4 MiB",
                [&whole(0x60, 0x70, b"")[..], &END].concat(),
            ),
            (
                "a wrong content size",
                [&whole(0x68, 0x40, &[9; 8])[..], &END].concat(),
            ),
            (
                "a wrong content checksum",
                [&whole(0x64, 0x40, b"")[..], &END, b"oops"].concat(),
            ),
            (
                "a block checksum",
                [&header(0x70, 0x40, b"")[..], &checked, &END].concat(),
            ),
            (
                "junk behind",
                [&whole(0x60, 0x40, b"")[..], &END, b"junk"].concat(),
            ),
            (
                "a second frame, not looked at",
                [
                    &whole(0x60, 0x40, b"")[..],
                    &END,
                    &whole(0x60, 0x40, b""),
                    &END,
                ]
                .concat(),
            ),
        ] {
            assert_eq!(opened(&frame).as_deref(), Ok(TEXT), "{what}");
        }
        let nothing_first = [&header(0x60, 0x40, b"")[..], &plain(b""), &block, &END].concat();
        assert_eq!(opened(&nothing_first).as_deref(), Ok(&b""[..]), "the end");
    }

    /// What Kafka 4.3.1 refused.
    #[test]
    fn what_kafka_refuses() {
        let whole = |flags, size, more: &[u8]| [header(flags, size, more), packed(TEXT)].concat();
        let good = [&whole(0x60, 0x40, b"")[..], &END].concat();
        let mut wrong_sum = good.clone();
        wrong_sum[6] ^= 1;
        let block = packed(TEXT);
        for (what, frame) in [
            ("nothing", Vec::new()),
            (
                "linked blocks",
                [&whole(0x40, 0x40, b"")[..], &END].concat(),
            ),
            ("version 0", [&whole(0x20, 0x40, b"")[..], &END].concat()),
            ("version 2", [&whole(0xa0, 0x40, b"")[..], &END].concat()),
            (
                "a reserved bit",
                [&whole(0x62, 0x40, b"")[..], &END].concat(),
            ),
            (
                "a dictionary",
                [&whole(0x61, 0x40, &[0; 4])[..], &END].concat(),
            ),
            (
                "a reserved bit of the size, low",
                [&whole(0x60, 0x41, b"")[..], &END].concat(),
            ),
            (
                "a reserved bit of the size, high",
                [&whole(0x60, 0xc0, b"")[..], &END].concat(),
            ),
            ("a size of 3", [&whole(0x60, 0x30, b"")[..], &END].concat()),
            ("no end mark", whole(0x60, 0x40, b"")),
            (
                "half an end mark",
                [&whole(0x60, 0x40, b"")[..], &[0; 2]].concat(),
            ),
            (
                "no content checksum",
                [&whole(0x64, 0x40, b"")[..], &END].concat(),
            ),
            ("a wrong header checksum", wrong_sum),
            (
                "a wrong block checksum",
                [&header(0x70, 0x40, b"")[..], &block, b"oops", &END].concat(),
            ),
            (
                "a skippable frame first",
                [b"\x50\x2a\x4d\x18\x01\0\0\0x", &good[..]].concat(),
            ),
            (
                "the legacy format",
                [b"\x02\x21\x4c\x18", &block[..]].concat(),
            ),
            ("a block that is cut", good[..good.len() - 9].to_vec()),
            (
                "a block of more than it may",
                [&header(0x60, 0x40, b"")[..], &packed(&[7; 70_000]), &END].concat(),
            ),
            (
                "a plain block of more than it may",
                [&header(0x60, 0x40, b"")[..], &plain(&[7; 70_000]), &END].concat(),
            ),
        ] {
            assert_eq!(opened(&frame), Err(DAMAGED), "{what}");
        }
    }

    proptest! {
        /// Step by step, and at once by the library.
        #[test]
        fn blocks_are_opened_as_the_library_does(
            words in prop::collection::vec("[a-d]{1,9}", 0..60),
            repeat in 1usize..30,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            cut: Option<prop::sample::Index>,
        ) {
            let data = words.concat().repeat(repeat);
            let mut block = lz4_flex::block::compress(data.as_bytes());
            for (at, flip) in damage {
                let at = at.index(block.len());
                block[at] ^= flip;
            }
            block.truncate(cut.map_or(block.len(), |cut| cut.index(block.len()) + 1));
            let len = (block.len() as u32).to_le_bytes();
            let frame = [&header(0x60, 0x40, b"")[..], &len, &block, &END].concat();
            let mut room = vec![0; 64 << 10];
            let theirs = lz4_flex::block::decompress_into(&block, &mut room);
            let theirs = theirs.ok().map(|made| room[..made].to_vec());
            prop_assert_eq!(&opened_by(&frame, 7).ok(), &theirs);
            prop_assert_eq!(&opened_by(&frame, 64 << 10).ok(), &theirs);
        }
    }

    #[test]
    fn large_blocks_are_opened_in_steps() {
        let mut data = vec![7; 1 << 20];
        data.extend(
            (0..1u32 << 20).flat_map(|n| (n.wrapping_mul(0x9e37_79b1) >> 16).to_le_bytes()),
        );
        data.truncate(4 << 20);
        for (block, flags) in [(packed(&data), 0x60), (plain(&data), 0x60)] {
            let frame = [&header(flags, 0x70, b"")[..], &block, &END].concat();
            assert!(opened_by(&frame, 64 << 10).as_deref() == Ok(&data));
        }
    }

    #[test]
    fn a_length_is_read_no_farther_than_it_may_be() {
        const STEP: usize = 64 << 10;
        let block_max = 4 << 20;
        // Literals, and a copy behind one.
        for begun in [&[0xff][..], &[0x1f, b'a', 1, 0]] {
            let mut block = begun.to_vec();
            block.resize(block_max, 0xff);
            let len = (block.len() as u32).to_le_bytes();
            let frame = [&header(0x60, 0x70, b"")[..], &len, &block].concat();
            let (mut lz4, mut cost) = (Lz4::default(), Cost::default());
            assert_eq!(lz4.step(&frame, STEP, &mut cost), Err(DAMAGED));
            assert!(lz4.at < 2 * block_max / 255, "{} bytes read", lz4.at);
            assert!(cost.opened >= lz4.at, "and that is paid for");
        }
    }

    #[test]
    fn the_hash_is_xxh32() {
        for (input, hash) in [
            (&b""[..], 0x02cc_5d05),
            (b"a", 0x550d_7456),
            (b"abc", 0x32d1_53ff),
            (b"Nobody inspects the spammish repetition", 0xe229_3b2f),
        ] {
            assert_eq!(xxh32(input), hash);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_blocks_never_panic(block: Vec<u8>, size in 0x40u8..0x80) {
            let head = (block.len() as u32).to_le_bytes();
            let _ = opened(&[&header(0x60, size & 0x70, b"")[..], &head, &block, &END].concat());
            let _ = opened(&block);
        }
    }
}
