//! The judge: hears every fact and asks the named invariants. The first that is
//! broken ends the run.

use super::counts::Kinds;
use super::fact::{Fact, Moment};
use super::invariants::{self, Invariant};
use super::what::What;

/// A broken invariant.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Its name.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

/// See the module.
#[derive(Debug)]
pub struct Oracle {
    invariants: Vec<Box<dyn Invariant>>,
    told: u64,
    kinds: Kinds,
    violation: Option<Violation>,
}

impl Default for Oracle {
    fn default() -> Self {
        Self {
            invariants: invariants::all(),
            told: 0,
            kinds: Kinds::default(),
            violation: None,
        }
    }
}

impl Oracle {
    /// Now, in the order of facts.
    #[must_use]
    pub const fn moment(&self) -> Moment {
        Moment(self.told)
    }

    /// Lets every invariant see a fact.
    pub fn tell(&mut self, fact: Fact<'_>) {
        self.told += 1;
        if let Some(what) = fact.kind() {
            self.kinds.count(what);
        }
        let now = Moment(self.told);
        for invariant in &mut self.invariants {
            if let Err(what) = invariant.see(now, &fact) {
                let invariant = invariant.name();
                self.violation.get_or_insert(Violation { invariant, what });
            }
        }
    }

    /// How often what the facts and the clients tell of happened.
    #[must_use]
    pub const fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// A client saw something happen.
    pub const fn saw(&mut self, what: What) {
        self.kinds.count(what);
    }

    /// Something that only the one who saw it can judge is wrong.
    pub fn fail(&mut self, invariant: &'static str, what: String) {
        self.violation.get_or_insert(Violation { invariant, what });
    }

    /// The first invariant found broken.
    #[must_use]
    pub const fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }
}
