//! The reads of store files that queries wait for, and the queries that wait until there is memory for theirs.
//!
//! A read is counted until it has ended, whether or not anybody still wants it. Those that wait have nothing but
//! their ticket, so they neither hold bytes nor keep a part of the file from being used anew.

use std::collections::VecDeque;

use super::job::QueryJob;
use crate::base::limits::{LOAD_BYTES_MIN, QUERY_READS_BYTES_MAX};
use crate::base::{IdMap, LogId, ShardId};
use crate::broker::io::ReadId;
use crate::log::Ticket;

/// A query that reads, or is to.
pub type Reading = (QueryJob, LogId, Ticket);

/// What a read takes of the memory for queries.
fn cost(ticket: &Ticket) -> usize {
    ticket.bytes().max(LOAD_BYTES_MIN)
}

/// See the module.
#[derive(Debug, Default)]
pub struct Reads {
    /// What each takes, and who waits for it, if somebody still does.
    on_their_way: IdMap<u64, (usize, Option<Reading>)>,
    /// What all of them take.
    taken: usize,
    /// In turn; if any, there is a read on its way.
    waiting: VecDeque<Reading>,
}

impl Reads {
    /// A read was started for this.
    pub fn started(&mut self, id: ReadId, reading: Reading) {
        let cost = cost(&reading.2);
        self.taken += cost;
        self.on_their_way.insert(id.0, (cost, Some(reading)));
    }

    /// A read has ended: who still waits for it.
    pub fn ended(&mut self, id: ReadId) -> Option<Reading> {
        let (cost, reading) = self.on_their_way.remove(&id.0)?;
        self.taken -= cost;
        reading
    }

    /// Whether one that has just come may read now.
    pub fn may_start(&self, ticket: &Ticket) -> bool {
        self.waiting.is_empty() && self.has_room(ticket)
    }

    fn has_room(&self, ticket: &Ticket) -> bool {
        self.taken == 0 || self.taken + cost(ticket) <= QUERY_READS_BYTES_MAX
    }

    /// One that may not.
    pub fn wait(&mut self, reading: Reading) {
        self.waiting.push_back(reading);
    }

    /// The next one that may read now, to be asked for until there is none when a read has ended.
    pub fn next(&mut self) -> Option<Reading> {
        let (.., ticket) = self.waiting.front()?;
        if !self.has_room(ticket) {
            return None;
        }
        self.waiting.pop_front()
    }

    /// Takes out all that wait.
    pub fn take_waiting(&mut self) -> impl Iterator<Item = QueryJob> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().map(|(job, ..)| job)
    }

    /// Forgets queries of a shard, by their numbers in order.
    pub fn forget(&mut self, shard: ShardId, ids: &[u64]) {
        self.waiting.retain(|(job, ..)| !job.is_of(shard, ids));
        for (_, reading) in self.on_their_way.values_mut() {
            if matches!(reading, Some((job, ..)) if job.is_of(shard, ids)) {
                *reading = None;
            }
        }
    }
}
