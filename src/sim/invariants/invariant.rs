//! What an invariant is, and how those here remember what is known.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::sim::fact::{Fact, Moment};

/// One promise: sees every fact and says when it contradicts what was known before.
pub trait Invariant: Debug {
    /// Its name, for reports.
    fn name(&self) -> &'static str;

    /// Sees a fact that becomes known at `now`.
    ///
    /// # Errors
    /// How the fact contradicts the invariant.
    fn see(&mut self, now: Moment, fact: &Fact<'_>) -> Result<(), String>;
}

/// The largest value known, by the moment at which it became known.
#[derive(Clone, Debug, Default)]
pub struct Growing(Vec<(Moment, i64)>);

impl Growing {
    /// `value` is known at `now`.
    pub fn learn(&mut self, now: Moment, value: i64) {
        if self.0.last().is_none_or(|(_, known)| value > *known) {
            self.0.push((now, value));
        }
    }

    /// The largest value that was known at a moment.
    pub fn at(&self, moment: Moment) -> Option<i64> {
        let known = self.0.partition_point(|(when, _)| *when <= moment);
        Some(self.0.get(known.checked_sub(1)?)?.1)
    }
}

/// What is known of each partition, or of whatever `K` is.
pub type By<K, T> = BTreeMap<K, T>;
