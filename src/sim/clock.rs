//! Virtual time: its unit, how long things take, and what the clocks of a machine show of it.

use crate::base::{Mono, Now, Rng};

/// One millisecond in the unit of virtual time.
pub const MS: u64 = 1_000_000;

/// What a machine's clocks show, by virtual time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// When its process started, ns of virtual time: the monotonic clock begins anew with each start.
    started_at: u64,
    /// Lead of the wall clock over virtual time, ms.
    lead_ms: i64,
}

impl Clock {
    /// The clocks of a machine whose wall clock leads virtual time by so many ms.
    #[must_use]
    pub const fn new(lead_ms: i64) -> Self {
        Self {
            started_at: 0,
            lead_ms,
        }
    }

    /// A process starts now.
    pub const fn start(&mut self, time: u64) {
        self.started_at = time;
    }

    /// The wall clock is set.
    pub const fn jump(&mut self, lead_ms: i64) {
        self.lead_ms = lead_ms;
    }

    /// What they show.
    #[must_use]
    pub const fn now(&self, time: u64) -> Now {
        Now {
            mono: Mono(time - self.started_at),
            wall_ms: (time / MS) as i64 + self.lead_ms,
        }
    }

    /// When the monotonic clock shows this.
    #[must_use]
    pub const fn time_of(&self, deadline: Mono) -> u64 {
        deadline.0.saturating_add(self.started_at)
    }
}

/// A duration of up to `most` ns, short ones more often; never none.
pub fn delay(rng: &mut Rng, most: u64) -> u64 {
    let short = rng.chance(3, 4);
    1 + rng.below(if short { most / 4 + 1 } else { most + 1 })
}
