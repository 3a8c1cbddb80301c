//! Which partitions need another ISR, and what is asked for.

use std::collections::BTreeMap;

use crate::base::limits::{ALTERS_PER_CALL_MAX, REPLICA_ALTERS_AGAIN_MS};
use crate::base::{IdSet, LogId, Mono};

/// See the module.
#[derive(Debug, Default)]
pub struct Altering {
    /// Whose ISR is to be looked at.
    wanted: IdSet<LogId>,
    /// Those that are asked for again then: it is not known what has come of them.
    again: BTreeMap<Mono, Vec<LogId>>,
    /// What the call that is under way asks for, and its number.
    calling: Option<(u64, Vec<LogId>)>,
    calls: u64,
}

impl Altering {
    /// The ISR of a partition may have to be changed.
    pub fn look_at(&mut self, log: LogId) {
        self.wanted.insert(log);
    }

    /// The next ones to be looked at, if no call is under way.
    pub fn take(&mut self, now: Mono) -> Vec<LogId> {
        while let Some(first) = self.again.first_entry()
            && *first.key() <= now
        {
            self.wanted.extend(first.remove());
        }
        if self.calling.is_some() {
            return Vec::new();
        }
        let some = self.wanted.iter().copied().take(ALTERS_PER_CALL_MAX);
        let some: Vec<LogId> = some.collect();
        for log in &some {
            self.wanted.remove(log);
        }
        some
    }

    /// These are asked for: the number of the call.
    pub fn call(&mut self, logs: Vec<LogId>) -> u64 {
        self.calls += 1;
        self.calling = Some((self.calls, logs));
        self.calls
    }

    /// A call is over: what it has asked for.
    pub fn called(&mut self, number: u64) -> Vec<LogId> {
        let calling = self.calling.take_if(|(calling, _)| *calling == number);
        calling.map_or_else(Vec::new, |(_, logs)| logs)
    }

    /// Nothing certain has come of this one: it is asked for again in a while.
    pub fn later(&mut self, now: Mono, log: LogId) {
        let at = now.plus_ms(REPLICA_ALTERS_AGAIN_MS);
        self.again.entry(at).or_default().push(log);
    }

    /// When something is due.
    pub fn deadline(&self, now: Mono) -> Mono {
        if self.calling.is_none() && !self.wanted.is_empty() {
            return now;
        }
        let again = self.again.first_key_value();
        again.map_or(Mono::NEVER, |(at, _)| *at)
    }
}
