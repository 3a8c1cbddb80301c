//! A step of a decoder: what it makes, and what that costs.

/// What one step makes at most.
pub(super) const STEP_BYTES: usize = 64 * 1024;
/// What making a decoder or beginning a stream costs, in bytes made: there may be nothing but beginnings.
pub(super) const DECODER_COST: usize = 4096;

/// What a step takes. It is noted before the step may fail: what is no good costs as much as what is.
#[derive(Debug, Default)]
pub(super) struct Cost {
    /// Bytes decompressed; where nobody knows, as many as may have been.
    pub opened: usize,
    /// What it took besides, in such bytes.
    pub besides: usize,
}

/// What a library's decoder did.
pub(super) struct Decoded {
    pub used: usize,
    pub made: usize,
    /// The stream is over; another one may follow.
    pub ended: bool,
}
