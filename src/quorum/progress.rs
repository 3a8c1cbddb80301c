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
    /// When it had last all that the leader had at that time, as far as that is known.
    pub caught_up: Option<Mono>,
    /// What the leader had some time ago, and when.
    goal: (EntryIndex, Mono),
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
            caught_up: None,
            goal: (next, now),
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

    /// It has said how far it is, and the leader has entries up to `last`.
    pub fn compared(&mut self, now: Mono, last: EntryIndex) {
        if self.matched >= last {
            self.caught_up = Some(now);
        } else if self.matched >= self.goal.0 {
            self.caught_up = self.caught_up.max(Some(self.goal.1));
        } else {
            return;
        }
        self.goal = (last, now);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Kafka's LastCaughtUpTimestamp (KIP-836): the time of which it is known that nothing was lacking then.
    #[test]
    fn one_that_lags_had_caught_up_when_the_leader_had_no_more() {
        let (at, index) = (|ms: u64| Mono(0).plus_ms(ms), EntryIndex);
        let mut peer = PeerProgress::new(Sending::Replicate, index(5), at(0));
        let mut hear = |ms, matched, last| {
            peer.appended(index(matched), EntryIndex::ZERO);
            peer.compared(at(ms), index(last));
            peer.caught_up
        };
        assert_eq!(hear(10, 4, 6), None, "never yet");
        assert_eq!(hear(20, 5, 8), Some(at(0)), "it had 5 when that was all");
        assert_eq!(hear(30, 7, 9), Some(at(0)));
        assert_eq!(hear(40, 8, 9), Some(at(20)));
        assert_eq!(hear(50, 9, 9), Some(at(50)));
        assert_eq!(hear(60, 9, 10), Some(at(50)));
    }
}
