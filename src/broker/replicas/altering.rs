//! Which partitions need another ISR, and what is asked for.

use std::collections::BTreeMap;

use crate::base::limits::{ALTERED_WITHIN_MS, ALTERS_PER_CALL_MAX, REPLICA_ALTERS_AGAIN_MS};
use crate::base::{IdSet, LogId, Mono};

/// See the module.
#[derive(Debug, Default)]
pub struct Altering {
    /// Whose ISR is to be looked at.
    wanted: IdSet<LogId>,
    /// Those that are asked for again then: it is not known what has come of them.
    again: BTreeMap<Mono, Vec<LogId>>,
    /// What the call that is under way asks for, its number, and when it is waited for no longer.
    calling: Option<(u64, Vec<LogId>, Mono)>,
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
        if let Some((_, late, _)) = self.calling.take_if(|(.., until)| *until <= now) {
            // A second copy of it does no harm: each is a change of the state that was known.
            self.wanted.extend(late);
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
    pub fn call(&mut self, now: Mono, logs: Vec<LogId>) -> u64 {
        self.calls += 1;
        self.calling = Some((self.calls, logs, now.plus_ms(ALTERED_WITHIN_MS)));
        self.calls
    }

    /// A call is over: what it has asked for.
    pub fn called(&mut self, number: u64) -> Vec<LogId> {
        let calling = self.calling.take_if(|(calling, ..)| *calling == number);
        calling.map_or_else(Vec::new, |(_, logs, _)| logs)
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
        let again = self.again.first_key_value().map(|(at, _)| *at);
        let late = self.calling.as_ref().map(|(.., until)| *until);
        again.into_iter().chain(late).fold(Mono::NEVER, Mono::min)
    }
}
