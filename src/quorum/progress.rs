//! How far another replica is, as a leader knows it.

use std::collections::VecDeque;

use super::entry::EntryIndex;
use crate::base::Mono;

/// In which way a replica gets what it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// It is asked where its log and the leader's are still the same.
    Probe,
    /// It is sent one message after the other, before the ones before are acknowledged.
    Replicate,
    /// What it lacks has been cut off: it has to fetch a snapshot.
    Snapshot,
}

/// See the module.
#[derive(Debug)]
pub(super) struct PeerProgress {
    /// How it gets what it lacks.
    pub stage: Sending,
    /// Up to here it has the leader's log on its disk.
    pub matched: EntryIndex,
    /// What it is sent next.
    pub next: EntryIndex,
    /// When it was heard of last, or when the leader became one.
    pub heard: Mono,
    /// What it was last told is committed.
    pub told: EntryIndex,
    /// It is to be sent something even if there is nothing new.
    pub must: bool,
    /// What was sent and is not acknowledged: the last entry of each message, and its bytes.
    flights: VecDeque<(EntryIndex, usize)>,
    in_flight: usize,
}

impl PeerProgress {
    /// One that is believed to have everything before `next`.
    pub const fn new(stage: Sending, next: EntryIndex, now: Mono) -> Self {
        Self {
            stage,
            matched: EntryIndex::ZERO,
            next,
            heard: now,
            told: EntryIndex::ZERO,
            must: true,
            flights: VecDeque::new(),
            in_flight: 0,
        }
    }

    /// Bytes that were sent and are not acknowledged.
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Entries up to this one were sent.
    pub fn sent(&mut self, last: EntryIndex, bytes: usize) {
        self.next = last.next();
        self.flights.push_back((last, bytes));
        self.in_flight += bytes;
    }

    /// It has the leader's log up to here; the first one that is kept follows `before`.
    pub fn appended(&mut self, matched: EntryIndex, before: EntryIndex) {
        self.matched = self.matched.max(matched);
        while let Some(&(last, bytes)) = self.flights.front()
            && last <= self.matched
        {
            self.flights.pop_front();
            self.in_flight -= bytes;
        }
        match self.stage {
            Sending::Replicate => self.next = self.next.max(self.matched.next()),
            Sending::Probe => self.goes_to(Sending::Replicate, self.matched.next()),
            Sending::Snapshot if self.matched >= before => {
                self.goes_to(Sending::Replicate, self.matched.next());
            }
            Sending::Snapshot => {}
        }
    }

    /// What was sent counts no more: from `next` on it goes another way.
    pub fn goes_to(&mut self, stage: Sending, next: EntryIndex) {
        self.stage = stage;
        self.next = next.max(self.matched.next());
        self.flights.clear();
        self.in_flight = 0;
        self.must = true;
    }
}
