//! Which bucket a duration is counted in: eight per doubling, so that a bucket is
//! an eighth of its value wide, from 64 ns to 18 minutes.

/// Number of buckets.
pub const BUCKETS: usize = 256;
/// Durations are counted in units of 64 ns.
pub const UNIT_BITS: u32 = 6;
/// Eight buckets for each power of two.
const SUB_BITS: u32 = 3;
const SUB: u64 = 1 << SUB_BITS;

/// The bucket of a duration in units of 64 ns; the last one takes all that is longer.
#[must_use]
pub fn bucket_of(units: u64) -> usize {
    if units < SUB {
        return units as usize;
    }
    let exponent = u64::BITS - 1 - units.leading_zeros();
    let sub = (units >> (exponent - SUB_BITS)) & (SUB - 1);
    let bucket = u64::from(exponent - SUB_BITS + 1) * SUB + sub;
    (bucket as usize).min(BUCKETS - 1)
}

/// The end of a bucket in nanoseconds: every duration in it is shorter.
#[must_use]
pub const fn upper_ns(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    let (power, sub) = (next / SUB, next % SUB);
    if power == 0 {
        return sub << UNIT_BITS;
    }
    (SUB + sub) << (power - 1) << UNIT_BITS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_and_the_last() {
        assert_eq!((bucket_of(0), bucket_of(1), bucket_of(8)), (0, 1, 8));
        assert_eq!((upper_ns(0), upper_ns(1)), (64, 128));
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert!(upper_ns(BUCKETS - 2) > 1_000_000_000_000);
    }

    #[test]
    fn each_bucket_begins_where_the_one_before_ends() {
        for bucket in 0..BUCKETS - 1 {
            let end = upper_ns(bucket) >> UNIT_BITS;
            assert_eq!(bucket_of(end - 1), bucket, "before {end}");
            assert_eq!(bucket_of(end), bucket + 1, "at {end}");
        }
    }

    proptest! {
        #[test]
        fn a_bucket_is_at_most_an_eighth_wide(units in 8u64..1 << 34) {
            let end = upper_ns(bucket_of(units)) >> UNIT_BITS;
            prop_assert!(end > units && end - units <= units / 8 + 1);
        }
    }
}
