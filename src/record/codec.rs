//! Compression of records: the five codecs of magic 2, each in the framing that
//! Kafka's own clients write and read.

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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::error::BatchError;
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
