//! Compression of records: the five codecs of magic 2, each in the framing that
//! Kafka's own clients write and read.

use std::io::{Read, Write};

use super::BatchError;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy, as xerial's stream of blocks; plain Snappy blocks are read too.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard frames.
    Zstd,
}

impl Codec {
    /// All codecs, in the order of their ids.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of the id in a batch's attributes.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The id in a batch's attributes.
    #[must_use]
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The name in `compression.type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of a name in `compression.type`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Decompresses records.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] if they are more than `out_bytes_max`, without having made more
    /// than that; [`BatchError::Compression`] if `input` is not of this codec.
    pub fn decompress(self, input: &[u8], out_bytes_max: usize) -> Result<Vec<u8>, BatchError> {
        match self {
            Self::None if input.len() > out_bytes_max => Err(BatchError::TooLarge),
            Self::None => Ok(input.to_vec()),
            Self::Gzip => read_capped(flate2::read::MultiGzDecoder::new(input), out_bytes_max),
            Self::Snappy => snappy::decompress(input, out_bytes_max),
            Self::Lz4 => read_capped(lz4_flex::frame::FrameDecoder::new(input), out_bytes_max),
            Self::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(input)
                    .map_err(|_| BatchError::Compression)?;
                read_capped(decoder, out_bytes_max)
            }
        }
    }

    /// Appends the compressed `input` to `out`, at the codec's default level.
    pub(super) fn compress(self, input: &[u8], out: &mut Vec<u8>) {
        // Writing into memory cannot fail; zstd fails only for lack of memory.
        const IN_MEMORY: &str = "compressing into memory";
        match self {
            Self::None => out.extend_from_slice(input),
            Self::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(out, flate2::Compression::default());
                encoder.write_all(input).expect(IN_MEMORY);
                encoder.finish().expect(IN_MEMORY);
            }
            Self::Snappy => snappy::compress(input, out),
            Self::Lz4 => {
                // Java's reader knows independent blocks only, which is lz4_flex's default.
                let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
                encoder.write_all(input).expect(IN_MEMORY);
                encoder.finish().expect(IN_MEMORY);
            }
            Self::Zstd => {
                zstd::stream::copy_encode(input, out, zstd::DEFAULT_COMPRESSION_LEVEL)
                    .expect(IN_MEMORY);
            }
        }
    }
}

fn read_capped(reader: impl Read, out_bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    let read = reader.take(out_bytes_max as u64 + 1).read_to_end(&mut out);
    if out.len() > out_bytes_max {
        return Err(BatchError::TooLarge);
    }
    read.map_err(|_| BatchError::Compression)?;
    Ok(out)
}

/// Snappy in xerial's framing: a header of 16 bytes, then blocks, each after its length.
mod snappy {
    use crate::record::BatchError;

    const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
    /// Version 1, readable by version 1.
    const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
    /// Uncompressed bytes per block, as the Java producer's.
    const BLOCK_BYTES: usize = 32 * 1024;
    /// No Snappy input grows by more: three bytes copy at most 64.
    const RATIO_MAX: usize = 22;

    pub(super) fn decompress(input: &[u8], out_bytes_max: usize) -> Result<Vec<u8>, BatchError> {
        let mut out = Vec::new();
        let Some(framed) = input.strip_prefix(&MAGIC) else {
            block(input, out_bytes_max, &mut out)?;
            return Ok(out);
        };
        let mut rest = framed
            .get(VERSIONS.len()..)
            .ok_or(BatchError::Compression)?;
        while let Some((len, tail)) = rest.split_first_chunk::<4>() {
            let (compressed, tail) = usize::try_from(i32::from_be_bytes(*len))
                .ok()
                .and_then(|len| tail.split_at_checked(len))
                .ok_or(BatchError::Compression)?;
            block(compressed, out_bytes_max, &mut out)?;
            rest = tail;
        }
        if rest.is_empty() {
            Ok(out)
        } else {
            Err(BatchError::Compression)
        }
    }

    fn block(input: &[u8], out_bytes_max: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
        let len = snap::raw::decompress_len(input).map_err(|_| BatchError::Compression)?;
        // The length is a claim: do not make room for what the input cannot hold.
        if len > input.len().saturating_mul(RATIO_MAX) {
            return Err(BatchError::Compression);
        }
        let start = out.len();
        let end = start.checked_add(len).filter(|&end| end <= out_bytes_max);
        let end = end.ok_or(BatchError::TooLarge)?;
        out.resize(end, 0);
        let written = snap::raw::Decoder::new().decompress(input, &mut out[start..]);
        match written {
            Ok(written) if written == len => Ok(()),
            _ => Err(BatchError::Compression),
        }
    }

    pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSIONS);
        let mut encoder = snap::raw::Encoder::new();
        for chunk in input.chunks(BLOCK_BYTES) {
            let compressed = encoder
                .compress_vec(chunk)
                .expect("a block is far below Snappy's 4 GiB");
            out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
            out.extend_from_slice(&compressed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compressed(codec: Codec, input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        codec.compress(input, &mut out);
        out
    }

    #[test]
    fn ids_and_names() {
        for (id, codec) in Codec::ALL.into_iter().enumerate() {
            assert_eq!(codec.id() as usize, id);
            assert_eq!(Codec::from_id(id as u8), Some(codec));
            assert_eq!(Codec::from_name(codec.name()), Some(codec));
        }
        assert_eq!(Codec::from_id(5), None);
    }

    #[test]
    fn a_bomb_is_stopped() {
        let zeros = vec![0; 1 << 20];
        for codec in Codec::ALL {
            let input = compressed(codec, &zeros);
            assert_eq!(
                codec.decompress(&input, 1 << 17),
                Err(BatchError::TooLarge),
                "{codec:?}"
            );
            assert_eq!(codec.decompress(&input, zeros.len()).unwrap(), zeros);
        }
    }

    #[test]
    fn a_snappy_claim_of_gigabytes_is_refused() {
        // Varint length 2^32-1 and one literal.
        let input = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 0x61];
        assert_eq!(
            Codec::Snappy.decompress(&input, usize::MAX),
            Err(BatchError::Compression)
        );
    }

    #[test]
    fn plain_snappy_is_read() {
        let input = snap::raw::Encoder::new()
            .compress_vec(b"hello hello hello")
            .unwrap();
        assert_eq!(
            Codec::Snappy.decompress(&input, 100).unwrap(),
            b"hello hello hello"
        );
    }

    proptest! {
        #[test]
        fn round_trip(input: Vec<u8>, repeat in 1usize..100) {
            let input = input.repeat(repeat);
            for codec in Codec::ALL {
                let packed = compressed(codec, &input);
                prop_assert_eq!(codec.decompress(&packed, input.len()).unwrap(), input.clone());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(input: Vec<u8>, flip: prop::sample::Index) {
            for codec in Codec::ALL {
                let _ = codec.decompress(&input, 1 << 16);
                let mut packed = compressed(codec, &input);
                if !packed.is_empty() {
                    let at = flip.index(packed.len());
                    packed[at] ^= 0x55;
                    let _ = codec.decompress(&packed, 1 << 16);
                }
            }
        }
    }
}
