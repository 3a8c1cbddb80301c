//! How long the turns of a shard take on its core. Not by the clock, which also counts the time in which
//! the kernel lets other threads run there; and not by the CPU clock of each turn, which is a system call
//! and would cost more than a short turn's own work.

use crate::base::Mono;
use crate::base::limits::TURN_TOLD_NS_MIN;

/// Turns between two looks at the CPU clock, at most.
const LOOK_EVERY: u32 = 8;

/// See the module.
#[derive(Debug, Default)]
pub struct TurnClock {
    /// Time that turns took by the clock since the CPU clock was looked at.
    passed_ns: u64,
    /// How many they were.
    passed: u32,
    /// What the CPU clock said then.
    cpu_ns: u64,
}

impl TurnClock {
    /// A turn has ended. What it took on the core, if it is long enough to be told: never too little, and
    /// too much only by the few short ones before it, where another thread had the core meanwhile.
    pub fn ended(&mut self, began: Mono, now: Mono, cpu_ns: impl FnOnce() -> u64) -> Option<u64> {
        let took = now.0.saturating_sub(began.0);
        self.passed_ns += took;
        self.passed += 1;
        if self.passed_ns < TURN_TOLD_NS_MIN && self.passed < LOOK_EVERY {
            return None;
        }
        let cpu_ns = cpu_ns();
        let used = cpu_ns.saturating_sub(self.cpu_ns);
        (self.passed_ns, self.passed, self.cpu_ns) = (0, 0, cpu_ns);
        let took = took.min(used);
        (took >= TURN_TOLD_NS_MIN).then_some(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: u64 = 4 * TURN_TOLD_NS_MIN;

    #[test]
    fn long_turns_are_told_and_short_ones_are_not() {
        let mut turns = TurnClock::default();
        assert_eq!(turns.ended(Mono(5), Mono(5 + LONG), || LONG), Some(LONG));
        for _ in 0..3 {
            let short = turns.ended(Mono(0), Mono(TURN_TOLD_NS_MIN / 4), || unreachable!());
            assert_eq!(short, None);
        }
        let short = turns.ended(Mono(0), Mono(TURN_TOLD_NS_MIN / 4), || 2 * LONG);
        assert_eq!(short, None, "it is time for a look, and no more");
        let mut looks = 0;
        for _ in 0..10 * LOOK_EVERY {
            let none = turns.ended(Mono(0), Mono(1), || {
                looks += 1;
                2 * LONG
            });
            assert_eq!(none, None);
        }
        assert_eq!(looks, 10, "the kernel's part of short turns adds up, too");
    }

    #[test]
    fn what_others_had_of_the_core_does_not_count() {
        let mut turns = TurnClock::default();
        assert_eq!(turns.ended(Mono(0), Mono(9 * LONG), || LONG), Some(LONG));
        assert_eq!(turns.ended(Mono(0), Mono(9 * LONG), || LONG + 10), None);
    }
}
