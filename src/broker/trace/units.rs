//! Durations as they are counted in each request in progress.

use super::buckets::UNIT_BITS;
use crate::base::Mono;

/// A duration in units of 64 ns, up to four and a half minutes: half the memory of nanoseconds in
/// each request in progress. Not before its time: `last` moves by whole units, so that what is
/// left over counts for the next stage.
pub type Units = u32;

/// The time from `last` until `at`, which moves `last`. A time of the past is no time.
pub fn elapsed(last: &mut Mono, at: Mono) -> Units {
    let units = at.0.saturating_sub(last.0) >> UNIT_BITS;
    last.0 += units << UNIT_BITS;
    Units::try_from(units).unwrap_or(Units::MAX)
}

/// Units as nanoseconds.
pub const fn ns(units: Units) -> u64 {
    (units as u64) << UNIT_BITS
}
