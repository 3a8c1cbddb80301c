//! The requests of a shard's clients that wait for something, and until when. What each of them is about its
//! family keeps, under the request's number.

use std::collections::BTreeSet;

use crate::base::{IdMap, Mono};

/// Who keeps what a request is about while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Produce,
    Fetch,
    Query,
    Explain,
    Groups,
    Transactions,
    Control,
    Listing,
    Markers,
    Producers,
}

#[derive(Debug)]
struct Waiting {
    family: Family,
    deadline: Option<Mono>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Parked {
    /// How many there have been.
    begun: u64,
    waiting: IdMap<u64, Waiting>,
    deadlines: BTreeSet<(Mono, u64)>,
}

impl Parked {
    /// A request begins to wait; returns its number, which no other one gets.
    pub fn park(&mut self, family: Family) -> u64 {
        self.begun += 1;
        let deadline = None;
        self.waiting
            .insert(self.begun, Waiting { family, deadline });
        self.begun
    }

    /// It waits no longer than until then. Replaces an earlier time.
    pub fn wait_until(&mut self, id: u64, deadline: Mono) {
        self.forget_deadline(id);
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.deadline = Some(deadline);
            self.deadlines.insert((deadline, id));
        }
    }

    /// It waits for as long as it takes.
    pub fn forget_deadline(&mut self, id: u64) {
        let waiting = self.waiting.get_mut(&id);
        if let Some(deadline) = waiting.and_then(|waiting| waiting.deadline.take()) {
            self.deadlines.remove(&(deadline, id));
        }
    }

    /// It waits no more; returns whose it is.
    pub fn unpark(&mut self, id: u64) -> Option<Family> {
        let Waiting { family, deadline } = self.waiting.remove(&id)?;
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some(family)
    }

    /// The next one whose deadline has come, or, with `all`, that has one; it has none from now on.
    pub fn due(&mut self, now: Mono, all: bool) -> Option<(u64, Family)> {
        let &(deadline, id) = self.deadlines.first()?;
        if deadline > now && !all {
            return None;
        }
        self.deadlines.pop_first();
        let waiting = self.waiting.get_mut(&id)?;
        waiting.deadline = None;
        Some((id, waiting.family))
    }

    /// The first deadline of all.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Panics if deadlines and requests do not belong together. For the simulator.
    pub fn invariants(&self) {
        for (deadline, id) in &self.deadlines {
            let waiting = self.waiting.get(id);
            let known = waiting.and_then(|waiting| waiting.deadline);
            assert_eq!(known, Some(*deadline), "the deadline of request {id}");
        }
        let with_deadline = self.waiting.values().filter(|w| w.deadline.is_some());
        assert_eq!(with_deadline.count(), self.deadlines.len(), "deadlines");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_their_order_and_once() {
        let mut parked = Parked::default();
        let ids = [(); 4].map(|()| parked.park(Family::Fetch));
        let produce = parked.park(Family::Produce);
        for (id, at) in ids.into_iter().zip([30, 10, 20, 40]) {
            parked.wait_until(id, Mono(at));
        }
        parked.wait_until(produce, Mono(15));
        parked.wait_until(ids[3], Mono(5));
        parked.forget_deadline(ids[2]);
        parked.invariants();
        assert_eq!(parked.next_deadline(), Some(Mono(5)));
        let mut due = |now, all| parked.due(Mono(now), all);
        assert_eq!(due(4, false), None);
        assert_eq!(due(15, false), Some((ids[3], Family::Fetch)));
        assert_eq!(due(15, false), Some((ids[1], Family::Fetch)));
        assert_eq!(due(15, false), Some((produce, Family::Produce)));
        assert_eq!(due(15, false), None);
        assert_eq!(due(15, true), Some((ids[0], Family::Fetch)));
        assert_eq!(due(99, true), None, "one has no deadline any more");
        parked.invariants();
        assert_eq!(parked.len(), 5, "all of them wait still");
    }

    #[test]
    fn who_waits_no_more_has_no_deadline() {
        let mut parked = Parked::default();
        let id = parked.park(Family::Control);
        parked.wait_until(id, Mono(1));
        assert_eq!(parked.unpark(id), Some(Family::Control));
        assert_eq!(parked.unpark(id), None);
        parked.wait_until(id, Mono(2));
        assert_eq!((parked.next_deadline(), parked.len()), (None, 0));
        assert_ne!(parked.park(Family::Query), id, "numbers are not used again");
        parked.invariants();
    }
}
