//! What there was of everything in a run, or in several; and of what there was too little: a fault that hardly a
//! seed brings about, or a branch that hardly one takes, is not tested, whatever the number of seeds that pass.

use super::what::{KINDS, What};

/// How likely it may be that a run fails because something happened to happen in too few of its seeds, and not
/// because its share is less than it was.
const FALSE_ALARM_MAX: f64 = 1e-6;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Records acknowledged, about.
    pub acknowledged: u64,
    of: Kinds,
    /// Runs.
    runs: u64,
    /// In how many of them something happened at all.
    shown: Kinds,
}

/// Something that happened in fewer runs than it has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What.
    pub what: What,
    /// In how many runs it happened.
    pub shown: u64,
    /// In how many it has to, at least.
    pub floor: u64,
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

    /// How often something happened.
    #[must_use]
    pub const fn of(&self, what: What) -> u64 {
        self.0[what as usize]
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
            runs: 1,
            shown: Kinds(of.0.map(|times| u64::from(times > 0))),
        }
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.acknowledged += other.acknowledged;
        self.of.add(&other.of);
        self.runs += other.runs;
        self.shown.add(&other.shown);
    }

    /// How often something happened.
    #[must_use]
    pub const fn of(&self, what: What) -> u64 {
        self.of.of(what)
    }

    /// What happened in fewer of these runs than it has to in so many.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        let all = What::ALL.iter().map(|what| Missing {
            what: *what,
            shown: self.shown.of(*what),
            floor: floor(self.runs, what.per_mille()),
        });
        all.filter(|it| it.shown < it.floor).collect()
    }
}

/// In how many of `runs` runs something has to show that shows in so many of 1,000 on average. By chance it shows
/// in fewer at most once in a million times; where even none may be chance, this is 0.
fn floor(runs: u64, per_mille: u64) -> u64 {
    let mean = runs as f64 * per_mille as f64 / 1000.0;
    let doubt = -FALSE_ALARM_MAX.ln();
    // Chernoff's bound: that there are fewer than the mean by t is not likelier than exp(-t * t / 2 mean).
    let floor = (mean - (2.0 * doubt * mean).sqrt()).max(0.0) as u64;
    // And none at all than exp(-mean).
    floor.max(u64::from(mean >= doubt))
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} events, {} records acknowledged",
            self.events, self.acknowledged
        )?;
        for what in What::ALL {
            let shown = self.shown.of(*what);
            write!(
                f,
                "\n  {what:?} {} in {shown} of {}",
                self.of(*what),
                self.runs
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    #[test]
    fn a_floor_is_safe_and_not_idle() {
        assert_eq!(floor(0, 500), 0);
        assert_eq!(floor(1000, 0), 0);
        assert_eq!(floor(1000, 13), 0, "none may be chance");
        assert_eq!(floor(1000, 14), 1, "once in 1.2 million times");
        assert_eq!(floor(200, 1000), 125);
        let floors: Vec<u64> = (0..=1000).map(|share| floor(1000, share)).collect();
        assert!(floors.is_sorted(), "{floors:?}");
        assert_eq!(floors[1000], 833);
        assert_eq!(floor(1_000_000, 1000), 994_743, "closer with more of them");
    }

    #[test]
    fn chance_does_not_come_below_a_floor() {
        let mut rng = Rng::new(7);
        for share in [20, 100, 500, 900] {
            let floor = floor(500, share);
            for _ in 0..2000 {
                let shown = (0..500).filter(|_| rng.chance(share, 1000)).count();
                assert!(
                    shown as u64 >= floor,
                    "{shown} of 500, {share} per mille, {floor}"
                );
            }
        }
    }

    #[test]
    fn what_happens_in_too_few_runs_is_named() {
        let mut kinds = Kinds::default();
        kinds.count(What::Crash);
        let mut counts = Counts::default();
        for _ in 0..1000 {
            counts.add(&Counts::new(1, 0, &[&kinds]));
        }
        let missing = counts.missing();
        let names = |what| missing.iter().any(|it| it.what == what);
        assert!(!names(What::Crash) && names(What::Acked) && names(What::Torn));
        for it in missing {
            assert!(it.shown == 0 && it.floor > 0);
        }
        assert_eq!(
            Counts::default().missing(),
            [],
            "no run has to show nothing"
        );
    }
}
