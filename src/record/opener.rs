//! Opens the records of a batch a bounded amount at a time, so that a shard can do something else in
//! between, and holds no more of them than it looks at.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use super::lz4::Lz4;
use super::snappy::Snappy;
use super::{BatchError, Codec};

/// What one step makes at most.
pub(super) const STEP_BYTES: usize = 64 * 1024;
/// Compressed bytes that one step looks at. Where they make nothing, that is all it costs.
const STEP_INPUT_BYTES: usize = 16 * 1024;
/// What a step costs besides, in bytes made.
const STEP_COST: usize = 128;
/// The same for making a decoder or beginning a stream: there may be nothing but beginnings.
const DECODER_COST: usize = 4096;

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
    Gzip(Option<Box<Decompress>>),
    Snappy(Snappy),
    Lz4(Lz4),
    Zstd {
        /// Made when it is needed.
        decoder: Option<Box<ZstdDecoder<'static>>>,
        /// The last frame is complete.
        whole: bool,
    },
}

/// What a step takes. It is noted before the step may fail: what is no good costs as much as what is.
#[derive(Debug, Default)]
pub(super) struct Cost {
    /// Bytes decompressed; where nobody knows, as many as may have been.
    pub opened: usize,
    /// What it took besides, in such bytes.
    pub besides: usize,
}

impl<B: AsRef<[u8]> + Clone> Opener<B> {
    /// An opener for records of this codec.
    pub fn new(codec: Codec, input: B) -> Self {
        let decoder = match codec {
            Codec::None => Decoder::Plain,
            Codec::Gzip => Decoder::Gzip(None),
            Codec::Snappy => Decoder::Snappy(Snappy::new(input.as_ref())),
            Codec::Lz4 => Decoder::Lz4(Lz4::default()),
            Codec::Zstd => Decoder::Zstd {
                decoder: None,
                whole: true,
            },
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
            Self::Gzip(None) | Self::Zstd { whole: true, .. } if rest.is_empty() => {
                return Ok(None);
            }
            Self::Gzip(member) => {
                cost.opened = STEP_BYTES;
                gzip(member, fed, made, cost)?
            }
            Self::Zstd { decoder, whole } => {
                cost.opened = STEP_BYTES;
                zstd(decoder, whole, fed, made, cost)?
            }
        };
        *at += step.used;
        cost.opened = step.made;
        // Nothing left to read, nothing left to say, and yet not the end.
        if step.used == 0 && step.made == 0 && !step.ended {
            return Err(BatchError::Compression);
        }
        Ok(Some(&made[..step.made]))
    }
}

/// What a library's decoder did.
struct Step {
    used: usize,
    made: usize,
    /// The stream is over; another one may follow.
    ended: bool,
}

fn gzip(
    member: &mut Option<Box<Decompress>>,
    fed: &[u8],
    made: &mut Vec<u8>,
    cost: &mut Cost,
) -> Result<Step, BatchError> {
    let decoder = member.get_or_insert_with(|| {
        cost.besides += DECODER_COST;
        Box::new(Decompress::new_gzip(15))
    });
    made.resize(STEP_BYTES, 0);
    let (before_in, before_out) = (decoder.total_in(), decoder.total_out());
    let status = decoder
        .decompress(fed, made, FlushDecompress::None)
        .map_err(|_| BatchError::Compression)?;
    let step = Step {
        used: (decoder.total_in() - before_in) as usize,
        made: (decoder.total_out() - before_out) as usize,
        ended: status == Status::StreamEnd,
    };
    if step.ended {
        *member = None;
    }
    Ok(step)
}

fn zstd(
    decoder: &mut Option<Box<ZstdDecoder<'static>>>,
    whole: &mut bool,
    fed: &[u8],
    made: &mut Vec<u8>,
    cost: &mut Cost,
) -> Result<Step, BatchError> {
    const DAMAGED: BatchError = BatchError::Compression;
    if *whole {
        cost.besides += DECODER_COST;
    }
    if decoder.is_none() {
        *decoder = Some(Box::new(ZstdDecoder::new().map_err(|_| DAMAGED)?));
    }
    let decoder = decoder.as_mut().ok_or(DAMAGED)?;
    made.resize(STEP_BYTES, 0);
    let mut from = InBuffer::around(fed);
    let mut to = OutBuffer::around(&mut made[..]);
    let left = decoder.run(&mut from, &mut to).map_err(|_| DAMAGED)?;
    *whole = left == 0;
    Ok(Step {
        used: from.pos(),
        made: to.pos(),
        ended: *whole,
    })
}

impl<B: AsRef<[u8]>> std::fmt::Debug for Opener<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("at", &self.at).finish()
    }
}
