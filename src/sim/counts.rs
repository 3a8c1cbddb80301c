//! What there was of everything in a run, or in several; and what there never was: a fault that no seed brings
//! about, or a branch that none takes, is not tested, whatever the number of seeds that pass.

use super::what::{KINDS, What};

/// So many seeds must show everything at least once.
pub const SEEDS_FOR_ALL: u64 = 200;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Records acknowledged, about.
    pub acknowledged: u64,
    of: Kinds,
}

/// How often something of each kind happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds([u64; KINDS]);

impl Default for Kinds {
    fn default() -> Self {
        Self([0; KINDS])
    }
}

impl Kinds {
    /// It happened once more.
    pub const fn count(&mut self, what: What) {
        self.0[what as usize] += 1;
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        for (mine, more) in self.0.iter_mut().zip(other.0) {
            *mine += more;
        }
    }
}

impl Counts {
    /// Those of a run.
    #[must_use]
    pub fn new(events: u64, acknowledged: u64, kinds: &[&Kinds]) -> Self {
        let mut of = Kinds::default();
        for kinds in kinds {
            of.add(kinds);
        }
        Self {
            events,
            acknowledged,
            of,
        }
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.acknowledged += other.acknowledged;
        self.of.add(&other.of);
    }

    /// How often something happened.
    #[must_use]
    pub const fn of(&self, what: What) -> u64 {
        self.of.0[what as usize]
    }

    /// What never happened.
    #[must_use]
    pub fn never(&self) -> Vec<What> {
        let all = What::ALL.iter().copied();
        all.filter(|what| self.of(*what) == 0).collect()
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} events, {} records acknowledged",
            self.events, self.acknowledged
        )?;
        for what in What::ALL {
            write!(f, ", {what:?} {}", self.of(*what))?;
        }
        Ok(())
    }
}
