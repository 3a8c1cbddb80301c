//! When a follower that has left the ISR because it came no further may be in it again. One that is slow, and not gone,
//! catches up, is waited for by everybody, and leaves, again and again: so it is away for longer each time.

use crate::base::Mono;
use crate::base::limits::{
    REPLICA_PROBATION_MS_MAX, REPLICA_PROBATION_MS_MIN, REPLICA_PROBATION_OVER_MS,
};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probation {
    /// How often it has left, and when last.
    times: u32,
    left_at: Mono,
}

impl Probation {
    /// It leaves.
    pub fn leaves(&mut self, now: Mono) {
        let is_first = now.ms_since(self.left_at) >= REPLICA_PROBATION_OVER_MS;
        self.times = match is_first {
            true => 1,
            false => self.times.saturating_add(1),
        };
        self.left_at = now;
    }

    /// Whether it may be in sync again. Once may be chance, and is forgiven.
    pub fn is_over(&self, now: Mono) -> bool {
        let Some(before) = self.times.checked_sub(2) else {
            return true;
        };
        let ms = REPLICA_PROBATION_MS_MIN << before.min(u64::BITS / 4);
        now.ms_since(self.left_at) >= ms.min(REPLICA_PROBATION_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long it is away if it leaves now, in ms.
    fn away(it: &mut Probation, now: &mut Mono) -> u64 {
        it.leaves(*now);
        let left_at = *now;
        while !it.is_over(*now) {
            *now = now.plus_ms(100);
        }
        now.ms_since(left_at)
    }

    #[test]
    fn who_leaves_again_and_again_is_away_for_longer_and_longer() {
        let (mut it, mut now) = (
            Probation::default(),
            Mono(0).plus_ms(REPLICA_PROBATION_OVER_MS),
        );
        assert!(it.is_over(now));
        // In sync for a second each time.
        let aways: Vec<u64> = (0..40)
            .map(|_| {
                now = now.plus_ms(1_000);
                away(&mut it, &mut now)
            })
            .collect();
        assert_eq!(aways[..4], [0, 1_000, 2_000, 4_000]);
        assert!(aways.is_sorted() && aways[39] == REPLICA_PROBATION_MS_MAX);
        // It has kept up for long enough.
        now = now.plus_ms(REPLICA_PROBATION_OVER_MS);
        assert_eq!(away(&mut it, &mut now), 0);
    }
}
