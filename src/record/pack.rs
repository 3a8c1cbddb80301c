//! Packs records a piece at a time, so that a shard can do something else in between: what goes in is compressed at
//! once, or as soon as a block is full.

use std::fmt;
use std::io::{self, Write};

use super::codec::Codec;
use super::snappy::Blocks;

/// Compresses what it is given, behind what there is already, at the codec's default level.
pub(super) struct Packer {
    encoder: Encoder,
    /// What was given to it, in bytes.
    taken: usize,
}

enum Encoder {
    Plain(Vec<u8>),
    Gzip(Box<flate2::write::GzEncoder<Vec<u8>>>),
    Snappy(Box<Blocks>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Packer {
    /// What is packed goes behind these bytes.
    ///
    /// # Errors
    /// There is no memory for an encoder of Zstandard's.
    pub(super) fn new(codec: Codec, out: Vec<u8>) -> io::Result<Self> {
        let encoder = match codec {
            Codec::None => Encoder::Plain(out),
            Codec::Gzip => {
                let level = flate2::Compression::default();
                Encoder::Gzip(Box::new(flate2::write::GzEncoder::new(out, level)))
            }
            Codec::Snappy => Encoder::Snappy(Box::new(Blocks::new(out))),
            // Java's reader knows independent blocks only, which is lz4_flex's default.
            Codec::Lz4 => Encoder::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(out))),
            Codec::Zstd => {
                let level = zstd::DEFAULT_COMPRESSION_LEVEL;
                Encoder::Zstd(zstd::stream::write::Encoder::new(out, level)?)
            }
        };
        Ok(Self { encoder, taken: 0 })
    }

    /// What a byte costs, in bytes decompressed: about how much longer it takes.
    pub(super) const fn cost(codec: Codec) -> usize {
        match codec {
            Codec::None => 1,
            Codec::Snappy | Codec::Lz4 => 2,
            Codec::Zstd => 4,
            Codec::Gzip => 8,
        }
    }

    /// What an encoder costs by itself, in the same: its tables are made ready for inputs of any size.
    pub(super) const fn setup_cost(codec: Codec) -> usize {
        match codec {
            Codec::None => 0,
            Codec::Snappy | Codec::Lz4 => 1024,
            Codec::Gzip => 8 * 1024,
            Codec::Zstd => 16 * 1024,
        }
    }

    /// Takes some more.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.taken += bytes.len();
        match &mut self.encoder {
            Encoder::Plain(out) => out.extend_from_slice(bytes),
            Encoder::Gzip(encoder) => encoder.write_all(bytes)?,
            Encoder::Snappy(blocks) => blocks.push(bytes),
            Encoder::Lz4(encoder) => encoder.write_all(bytes)?,
            Encoder::Zstd(encoder) => encoder.write_all(bytes)?,
        }
        Ok(())
    }

    /// All of it, packed.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self.encoder {
            Encoder::Plain(out) => Ok(out),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Snappy(blocks) => Ok(blocks.finish()),
            Encoder::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Codec {
    /// Appends the compressed `input` to `out`, at the codec's default level.
    pub(super) fn compress(self, input: &[u8], out: &mut Vec<u8>) {
        // Writing into memory cannot fail; zstd fails only for lack of memory.
        const IN_MEMORY: &str = "compressing into memory";
        let mut packer = Packer::new(self, std::mem::take(out)).expect(IN_MEMORY);
        packer.push(input).expect(IN_MEMORY);
        *out = packer.finish().expect(IN_MEMORY);
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer")
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn pieces_make_what_the_whole_does(
            pieces in proptest::collection::vec((any::<u8>(), 0usize..40_000), 0..8),
            front in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let piece = |(byte, len): &(u8, usize)| (0..*len).map(|n| byte.wrapping_add((n / 7) as u8)).collect();
            let pieces: Vec<Vec<u8>> = pieces.iter().map(piece).collect();
            let all = pieces.concat();
            for codec in Codec::ALL {
                let mut packer = Packer::new(codec, front.clone()).unwrap();
                for piece in &pieces {
                    packer.push(piece).unwrap();
                }
                let packed = packer.finish().unwrap();
                prop_assert_eq!(&packed[..front.len()], &front[..]);
                let opened = codec.decompress(&packed[front.len()..], all.len()).unwrap();
                prop_assert!(opened == all, "{codec:?}");
            }
        }
    }
}
