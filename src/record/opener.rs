//! Opens the records of a batch a bounded amount at a time, so that a shard can do something else in
//! between, and holds no more of them than it looks at.

use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use super::codec::Codec;
use super::error::BatchError;
use super::gzip::Gzip;
use super::lz4::Lz4;
use super::snappy::Snappy;
use super::step::{Cost, DECODER_COST, Decoded, STEP_BYTES};

/// Compressed bytes that one step looks at. Where they make nothing, that is all it costs.
const STEP_INPUT_BYTES: usize = 16 * 1024;
/// What a step costs besides, in bytes made.
const STEP_COST: usize = 128;
/// Decompresses what `B` holds, step by step.
pub struct Opener<B: AsRef<[u8]>> {
    input: B,
    /// Bytes of the input that are used up.
    at: usize,
    decoder: Decoder,
    made: Vec<u8>,
    /// Bytes decompressed so far.
    opened: usize,
}

enum Decoder {
    Plain,
    Gzip(Gzip),
    Snappy(Snappy),
    Lz4(Lz4),
    Zstd(Zstd),
}

impl<B: AsRef<[u8]> + Clone> Opener<B> {
    /// An opener for records of this codec.
    pub fn new(codec: Codec, input: B) -> Self {
        let decoder = match codec {
            Codec::None => Decoder::Plain,
            Codec::Gzip => Decoder::Gzip(Gzip::default()),
            Codec::Snappy => Decoder::Snappy(Snappy::new(input.as_ref())),
            Codec::Lz4 => Decoder::Lz4(Lz4::default()),
            Codec::Zstd => Decoder::Zstd(Zstd::default()),
        };
        Self {
            input,
            at: 0,
            decoder,
            made: Vec::new(),
            opened: 0,
        }
    }

    /// The next bytes; none yet if they are empty, `None` at the end. What it took is taken off `work`,
    /// counted in bytes made, whatever comes of it. `bytes_max` is what the caller still wants: blocks that
    /// claim more than that are not opened.
    ///
    /// # Errors
    /// [`BatchError::Compression`] if the input is not of the codec, or there is no memory for a decoder;
    /// [`BatchError::TooLarge`].
    pub fn step(
        &mut self,
        bytes_max: usize,
        work: &mut usize,
    ) -> Result<Option<&[u8]>, BatchError> {
        let mut cost = Cost::default();
        let outcome = {
            let input = self.input.as_ref();
            let (at, made) = (&mut self.at, &mut self.made);
            self.decoder.step(input, at, made, bytes_max, &mut cost)
        };
        self.opened = self.opened.saturating_add(cost.opened);
        *work = work.saturating_sub(STEP_COST + cost.besides + cost.opened);
        outcome
    }

    /// Bytes decompressed so far, and of steps that failed as many as they may have.
    pub fn opened(&self) -> usize {
        self.opened
    }
}

impl Codec {
    /// Decompresses records, all at once.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] if they are more than `out_bytes_max`, without having made more
    /// than that; [`BatchError::Compression`] if `input` is not of this codec.
    pub fn decompress(self, input: &[u8], out_bytes_max: usize) -> Result<Vec<u8>, BatchError> {
        if self == Self::None && input.len() > out_bytes_max {
            return Err(BatchError::TooLarge);
        }
        let mut opener = Opener::new(self, input);
        let mut out = Vec::new();
        let mut work = usize::MAX;
        while let Some(bytes) = opener.step(out_bytes_max - out.len(), &mut work)? {
            if bytes.len() > out_bytes_max - out.len() {
                return Err(BatchError::TooLarge);
            }
            out.extend_from_slice(bytes);
        }
        Ok(out)
    }
}

impl Decoder {
    fn step<'a>(
        &'a mut self,
        input: &'a [u8],
        at: &mut usize,
        made: &'a mut Vec<u8>,
        bytes_max: usize,
        cost: &mut Cost,
    ) -> Result<Option<&'a [u8]>, BatchError> {
        let rest = input.get(*at..).unwrap_or_default();
        let fed = &rest[..rest.len().min(STEP_INPUT_BYTES)];
        let step = match self {
            Self::Plain => {
                let taken = rest.len().min(STEP_BYTES);
                *at += taken;
                cost.opened = taken;
                return Ok((taken > 0).then(|| &rest[..taken]));
            }
            Self::Snappy(snappy) => {
                cost.opened = STEP_BYTES;
                let bytes = snappy.step(input, STEP_BYTES, bytes_max)?;
                cost.opened = bytes.map_or(0, <[u8]>::len);
                return Ok(bytes);
            }
            Self::Lz4(lz4) => return lz4.step(input, STEP_BYTES, cost),
            Self::Gzip(gzip) if gzip.is_over(rest, cost) => return Ok(None),
            Self::Zstd(zstd) if rest.is_empty() && zstd.whole == *at => return Ok(None),
            Self::Gzip(gzip) => {
                cost.opened = STEP_BYTES;
                gzip.step(fed, made, cost)?
            }
            Self::Zstd(zstd) => {
                cost.opened = STEP_BYTES;
                zstd.step(fed, *at, made, cost)?
            }
        };
        *at += step.used;
        cost.opened = step.made;
        // Nothing left to read, nothing left to say, and yet not the end.
        if step.used == 0 && step.made == 0 && !step.ended {
            return match self {
                Self::Zstd(zstd) if rest.is_empty() && zstd.may_end(input.len()) => Ok(None),
                _ => Err(BatchError::Compression),
            };
        }
        Ok(Some(&made[..step.made]))
    }
}

/// Zstandard as zstd-jni's reader takes it: frames one behind another.
#[derive(Default)]
struct Zstd {
    /// Made when it is needed.
    decoder: Option<Box<ZstdDecoder<'static>>>,
    /// Where the last whole frame ended.
    whole: usize,
}

impl Zstd {
    /// Whether the input of so many bytes may end here. A frame that is cut is none to that reader, if the one
    /// before it ended in the same filling of its buffer: it forgets only then that it had come to an end.
    fn may_end(&self, len: usize) -> bool {
        const FILLING: usize = 128 * 1024 + 3;
        self.whole == len || self.whole > len.saturating_sub(1) / FILLING * FILLING
    }

    fn step(
        &mut self,
        fed: &[u8],
        at: usize,
        made: &mut Vec<u8>,
        cost: &mut Cost,
    ) -> Result<Decoded, BatchError> {
        const DAMAGED: BatchError = BatchError::Compression;
        if self.whole == at {
            cost.besides += DECODER_COST;
        }
        if self.decoder.is_none() {
            self.decoder = Some(Box::new(ZstdDecoder::new().map_err(|_| DAMAGED)?));
        }
        let decoder = self.decoder.as_mut().ok_or(DAMAGED)?;
        made.resize(STEP_BYTES, 0);
        let mut from = InBuffer::around(fed);
        let mut to = OutBuffer::around(&mut made[..]);
        let left = decoder.run(&mut from, &mut to).map_err(|_| DAMAGED)?;
        if left == 0 {
            self.whole = at + from.pos();
        }
        Ok(Decoded {
            used: from.pos(),
            made: to.pos(),
            ended: left == 0,
        })
    }
}

impl<B: AsRef<[u8]>> std::fmt::Debug for Opener<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("at", &self.at).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(data: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        Codec::Zstd.compress(data, &mut packed);
        packed
    }

    fn opened(parts: &[&[u8]]) -> Option<Vec<u8>> {
        Codec::Zstd.decompress(&parts.concat(), 1 << 20).ok()
    }

    #[test]
    fn a_frame_that_is_cut_behind_a_whole_one_does_not_count() {
        let (one, two) = (frame(b"one"), frame(b"two"));
        let whole = |data: &[u8]| Some(data.to_vec());
        assert_eq!(opened(&[&one, &two]), whole(b"onetwo"));
        for cut in 1..two.len() {
            // What of it is there counts.
            let some = opened(&[&one, &two[..cut]]).unwrap();
            assert!(
                some.starts_with(b"one") && b"onetwo".starts_with(&some[..]),
                "{cut} bytes"
            );
            assert_eq!(opened(&[&two[..cut]]), None, "{cut} bytes alone");
        }
        assert_eq!(opened(&[&one, b"junk that no frame begins with"]), None);
        // That it is cut counts if it is long.
        let mut random = 1u32;
        let noise: Vec<u8> = (0..300_000)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 24) as u8
            })
            .collect();
        let large = frame(&noise);
        let some = opened(&[&one, &large[..131_075 - one.len()]]).unwrap();
        assert!(some.starts_with(b"one"));
        assert_eq!(opened(&[&one, &large[..131_076 - one.len()]]), None);
        assert_eq!(opened(&[&one, &large[..200_000]]), None);
    }
}
