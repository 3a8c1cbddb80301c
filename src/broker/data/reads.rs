//! The reads of store files by which queries and fetches find their place, and those that wait until there is memory
//! for theirs.
//!
//! A read is counted until it has ended, whether or not anybody still wants it. Those that wait have nothing but
//! their ticket, so they neither hold bytes nor keep a part of the file from being used anew.

use std::collections::VecDeque;

use crate::base::limits::LOAD_BYTES_MIN;
use crate::base::{IdMap, LogId};
use crate::broker::io::ReadId;
use crate::log::Ticket;

/// Who reads, or is to.
pub type Reading<J> = (J, LogId, Ticket);

/// What a read takes of the memory for all of them.
fn cost(ticket: &Ticket) -> usize {
    ticket.bytes().max(LOAD_BYTES_MIN)
}

/// See the module. `J` is who waits for a read.
#[derive(Debug)]
pub struct Reads<J> {
    /// What each takes, and who waits for it, if somebody still does.
    on_their_way: IdMap<u64, (usize, Option<Reading<J>>)>,
    /// What all of them take,
    taken: usize,
    /// and may take.
    bytes_max: usize,
    /// In turn; if any, there is a read on its way.
    waiting: VecDeque<Reading<J>>,
}

impl<J> Reads<J> {
    /// For reads of so many bytes at a time; one that is of more is made alone.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            on_their_way: IdMap::default(),
            taken: 0,
            bytes_max,
            waiting: VecDeque::new(),
        }
    }

    /// A read was started for this.
    pub fn started(&mut self, id: ReadId, reading: Reading<J>) {
        let cost = cost(&reading.2);
        self.taken += cost;
        self.on_their_way.insert(id.0, (cost, Some(reading)));
    }

    /// A read has ended: who still waits for it.
    pub fn ended(&mut self, id: ReadId) -> Option<Reading<J>> {
        let (cost, reading) = self.on_their_way.remove(&id.0)?;
        self.taken -= cost;
        reading
    }

    /// Whether one that has just come may read now.
    pub fn may_start(&self, ticket: &Ticket) -> bool {
        self.waiting.is_empty() && self.has_room(ticket)
    }

    fn has_room(&self, ticket: &Ticket) -> bool {
        self.taken == 0 || self.taken + cost(ticket) <= self.bytes_max
    }

    /// One that may not.
    pub fn wait(&mut self, reading: Reading<J>) {
        self.waiting.push_back(reading);
    }

    /// The next one that may read now, to be asked for until there is none when a read has ended.
    pub fn next(&mut self) -> Option<Reading<J>> {
        let (.., ticket) = self.waiting.front()?;
        if !self.has_room(ticket) {
            return None;
        }
        self.waiting.pop_front()
    }

    /// Takes out all that wait.
    pub fn take_waiting(&mut self) -> impl Iterator<Item = J> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().map(|(job, ..)| job)
    }

    /// Forgets those that are gone.
    pub fn forget(&mut self, is_gone: impl Fn(&J) -> bool) {
        self.waiting.retain(|(job, ..)| !is_gone(job));
        for (_, reading) in self.on_their_way.values_mut() {
            if matches!(reading, Some((job, ..)) if is_gone(job)) {
                *reading = None;
            }
        }
    }
}
