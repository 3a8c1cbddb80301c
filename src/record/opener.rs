//! Opens the records of a batch a bounded amount at a time, so that a shard can do something else in
//! between, and holds no more of them than it looks at.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use super::lz4::Lz4;
use super::snappy::Snappy;
use super::{BatchError, Codec};

/// What one step makes at most, but for LZ4, whose blocks of up to 4 MiB are made at once.
pub(super) const STEP_BYTES: usize = 64 * 1024;
/// Compressed bytes that one step looks at. Where they make nothing, that is all it costs.
const STEP_INPUT_BYTES: usize = 16 * 1024;
/// What a step costs besides, in bytes made.
const STEP_COST: usize = 128;
/// The same for making a decoder: a stream may consist of nothing but beginnings.
const DECODER_COST: usize = 1024;

/// Decompresses what `B` holds, step by step.
pub struct Opener<B: AsRef<[u8]>> {
    input: B,
    /// Bytes of the input that are used up.
    at: usize,
    decoder: Decoder,
    made: Vec<u8>,
}

enum Decoder {
    Plain,
    Gzip(Option<Box<Decompress>>),
    Snappy(Snappy),
    Lz4(Lz4),
    Zstd {
        decoder: Box<ZstdDecoder<'static>>,
        /// The last frame is complete.
        whole: bool,
    },
}

impl<B: AsRef<[u8]> + Clone> Opener<B> {
    /// An opener for records of this codec.
    ///
    /// # Errors
    /// [`BatchError::Compression`] if there is no memory for a decoder.
    pub fn new(codec: Codec, input: B) -> Result<Self, BatchError> {
        let decoder = match codec {
            Codec::None => Decoder::Plain,
            Codec::Gzip => Decoder::Gzip(None),
            Codec::Snappy => Decoder::Snappy(Snappy::new(input.as_ref())),
            Codec::Lz4 => Decoder::Lz4(Lz4::default()),
            Codec::Zstd => Decoder::Zstd {
                decoder: Box::new(ZstdDecoder::new().map_err(|_| BatchError::Compression)?),
                whole: true,
            },
        };
        Ok(Self {
            input,
            at: 0,
            decoder,
            made: Vec::new(),
        })
    }

    /// The next bytes; none yet if they are empty, `None` at the end. What it took is taken off `work`,
    /// counted in bytes made. `bytes_max` is what the caller still wants: blocks that claim more
    /// than that are not opened.
    ///
    /// # Errors
    /// [`BatchError::Compression`] if the input is not of the codec; [`BatchError::TooLarge`].
    pub fn step(
        &mut self,
        bytes_max: usize,
        work: &mut usize,
    ) -> Result<Option<&[u8]>, BatchError> {
        *work = work.saturating_sub(STEP_COST);
        let input = self.input.as_ref();
        let rest = input.get(self.at..).unwrap_or_default();
        let fed = rest.len().min(STEP_INPUT_BYTES);
        let made = match &mut self.decoder {
            Decoder::Plain => {
                let taken = rest.len().min(STEP_BYTES);
                self.at += taken;
                (taken > 0).then(|| &rest[..taken])
            }
            Decoder::Gzip(member) => {
                if rest.is_empty() && member.is_none() {
                    return Ok(None);
                }
                let decoder = member.get_or_insert_with(|| {
                    *work = work.saturating_sub(DECODER_COST);
                    Box::new(Decompress::new_gzip(15))
                });
                self.made.resize(STEP_BYTES, 0);
                let (before_in, before_out) = (decoder.total_in(), decoder.total_out());
                let status = decoder
                    .decompress(&rest[..fed], &mut self.made, FlushDecompress::None)
                    .map_err(|_| BatchError::Compression)?;
                let used = (decoder.total_in() - before_in) as usize;
                let made = (decoder.total_out() - before_out) as usize;
                self.at += used;
                match status {
                    Status::StreamEnd => *member = None,
                    // Nothing left to read, nothing left to say, and yet not the end.
                    _ if used == 0 && made == 0 => return Err(BatchError::Compression),
                    _ => {}
                }
                Some(&self.made[..made])
            }
            Decoder::Snappy(snappy) => snappy.step(input, STEP_BYTES, bytes_max)?,
            Decoder::Lz4(lz4) => lz4.step(input, STEP_BYTES)?,
            Decoder::Zstd { decoder, whole } => {
                if rest.is_empty() && *whole {
                    return Ok(None);
                }
                self.made.resize(STEP_BYTES, 0);
                let mut from = InBuffer::around(&rest[..fed]);
                let mut to = OutBuffer::around(&mut self.made[..]);
                let left = decoder
                    .run(&mut from, &mut to)
                    .map_err(|_| BatchError::Compression)?;
                let (used, made) = (from.pos(), to.pos());
                self.at += used;
                *whole = left == 0;
                if used == 0 && made == 0 && !*whole {
                    return Err(BatchError::Compression);
                }
                Some(&self.made[..made])
            }
        };
        *work = work.saturating_sub(made.map_or(0, <[u8]>::len));
        Ok(made)
    }
}

impl<B: AsRef<[u8]>> std::fmt::Debug for Opener<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("at", &self.at).finish()
    }
}
