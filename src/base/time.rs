//! Time as a value. The state machines never read a clock: every input carries
//! a [`Now`], which the simulator makes up.

/// Monotonic time in nanoseconds since an arbitrary start. For deadlines and durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// The far future: a deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// This time plus `ms` milliseconds, saturating at [`Mono::NEVER`].
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// Whole milliseconds from `earlier` to this time; 0 if `earlier` is later.
    #[must_use]
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}

/// Both clocks at the moment an input is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic clock: deadlines, session timeouts.
    pub mono: Mono,
    /// Wall clock, milliseconds since 1970: timestamps of records, retention. May jump.
    pub wall_ms: i64,
}
