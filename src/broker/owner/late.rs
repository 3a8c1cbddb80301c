//! In which partitions somebody waits for other replicas, and when it is looked who has for too long.

use crate::base::limits::LATE_CHECKS_MS;
use crate::base::{IdSet, LogId, Mono};

/// The partitions in which somebody waits for other replicas.
#[derive(Debug, Default)]
pub struct LateWaits {
    logs: IdSet<LogId>,
    /// When they are looked at, and those that are left of this time.
    at: Mono,
    looking: Vec<LogId>,
}

impl LateWaits {
    /// Somebody waits there.
    pub fn note(&mut self, now: Mono, log: LogId) {
        if self.logs.is_empty() {
            self.at = now.plus_ms(LATE_CHECKS_MS);
        }
        self.logs.insert(log);
    }

    /// When something is to be looked at.
    pub fn deadline(&self) -> Mono {
        match self.logs.is_empty() {
            true => Mono::NEVER,
            false => self.at,
        }
    }

    /// Whether some are to be looked at now.
    pub fn has_more(&self) -> bool {
        !self.looking.is_empty()
    }

    /// The next one to be looked at.
    pub fn next(&mut self, now: Mono) -> Option<LogId> {
        if self.looking.is_empty() && self.deadline() <= now {
            self.looking = self.logs.drain().collect();
        }
        self.looking.pop()
    }

    /// One that is to be looked at once more, at once.
    pub fn again(&mut self, log: LogId) {
        self.looking.push(log);
    }
}
