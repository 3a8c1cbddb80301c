//! Where a log ended a while ago: what was appended behind that is recent.

use crate::base::limits::PRODUCER_KEPT_MS;
use crate::base::{Mono, Offset};

/// See the module. It is no part of the log's state: after a start nothing is recent that was there before.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// When the log ended at `mark`.
    since: Option<Mono>,
    mark: Offset,
    from: Offset,
}

impl Recent {
    /// The log ends here now. Returns the offset from which on all is recent: it was appended in the last
    /// [`PRODUCER_KEPT_MS`], or not much longer ago.
    pub(super) fn from(&mut self, now: Mono, end: Offset) -> Offset {
        let ms = self.since.map_or(u64::MAX, |since| now.ms_since(since));
        if ms >= PRODUCER_KEPT_MS {
            // What came behind the mark may all have come long ago if nobody has asked since.
            let is_known = ms < 2 * PRODUCER_KEPT_MS;
            self.from = if is_known { self.mark } else { end };
            (self.since, self.mark) = (Some(now), end);
        }
        self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_a_moment_ago_is_recent() {
        const STEP_MS: u64 = PRODUCER_KEPT_MS / 10;
        let (mut recent, start) = (Recent::default(), Mono(1).plus_ms(1 << 20));
        assert_eq!(recent.from(start, Offset(100)), Offset(100));
        // An offset each step.
        for n in 1..100 {
            let from = recent.from(start.plus_ms(n * STEP_MS), Offset(100 + n as i64));
            let steps = 100 + n as i64 - from.0;
            assert!((n.min(10) as i64..=20).contains(&steps), "{steps} at {n}");
        }
        let later = start.plus_ms(200 * STEP_MS);
        assert_eq!(recent.from(later, Offset(200)), Offset(200));
    }
}
