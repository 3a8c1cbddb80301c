//! Produce requests whose batches are still being checked, or handed on to the owners of their partitions: what is
//! much work is done in slices, when the shard is idle, so that it holds nobody up.
//!
//! Requests of one connection keep their order: behind one that waits, all wait. Connections take
//! turns, a request each, so what one sends holds the others up by one request at most. Only the
//! request whose turn it is holds a decoder.
//!
//! A shard that is to stop does no more than a bounded part of it, for all of it might be hours of work. What is
//! left is not answered: its connections are closed, and who wants to know asks once more.

use std::collections::VecDeque;

use super::job::{Job, ProduceJob, REQUEST_COST};
use crate::base::IdMap;
use crate::base::limits::{
    ORPHANED_BYTES_MAX, STOPPING_REQUEST_WORK_MAX, STOPPING_WORK_MAX, VALIDATION_SLICE_WORK,
    VALIDATION_TURN_WORK,
};
use crate::broker::front::Front;
use crate::broker::io::ConnId;

/// See the module.
#[derive(Debug)]
pub struct Validations {
    by_conn: IdMap<u64, Waiting>,
    /// The connections above, in the order of their turns.
    turns: VecDeque<ConnId>,
    /// Work that may still be done for the input at hand, and before the shard is idle.
    input_left: usize,
    turn_left: usize,
    /// The shard is to stop.
    stopping: Option<Stopping>,
    /// Bytes of requests whose connection is gone.
    orphaned_bytes: usize,
    /// Bytes that were decompressed; tests hold it against the inputs.
    opened: u64,
}

/// The work that a shard still does which is to stop.
#[derive(Debug)]
struct Stopping {
    left: usize,
    /// The same for the request whose turn it is.
    left_for_request: usize,
}

/// The requests of one connection.
#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    orphaned: bool,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.jobs.iter().map(Job::bytes).sum()
    }
}

impl Default for Validations {
    fn default() -> Self {
        Self {
            by_conn: IdMap::default(),
            turns: VecDeque::new(),
            input_left: VALIDATION_SLICE_WORK,
            turn_left: VALIDATION_TURN_WORK,
            stopping: None,
            orphaned_bytes: 0,
            opened: 0,
        }
    }
}

impl Validations {
    /// Bytes that were decompressed so far.
    #[cfg(test)]
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// A request waits for its turn, behind the others of its connection.
    pub fn put_off(&mut self, job: Job) {
        let conn = job.conn();
        let waiting = self.by_conn.entry(conn.0).or_default();
        if waiting.jobs.is_empty() {
            self.turns.push_back(conn);
        }
        waiting.jobs.push_back(job);
    }

    /// A connection is gone. What it sent is worked on all the same, as in Kafka, within bounds: it takes memory
    /// from those that wait for an answer. What is being handed on has a bound of its own beyond that of the
    /// others: a request is taken by halves only if very much is left behind.
    pub fn closed(&mut self, conn: ConnId) {
        let Some(waiting) = self.by_conn.get_mut(&conn.0) else {
            return;
        };
        if self.orphaned_bytes + waiting.bytes() > ORPHANED_BYTES_MAX {
            waiting.jobs.retain(|job| matches!(job, Job::HandOn(_)));
        }
        if self.orphaned_bytes + waiting.bytes() > 2 * ORPHANED_BYTES_MAX {
            waiting.jobs.clear();
        }
        if waiting.jobs.is_empty() {
            self.by_conn.remove(&conn.0);
            self.turns.retain(|turn| *turn != conn);
        } else {
            waiting.orphaned = true;
            self.orphaned_bytes += waiting.bytes();
        }
    }

    /// The shard is to stop.
    pub fn stop(&mut self) {
        self.stopping = Some(Stopping {
            left: STOPPING_WORK_MAX,
            left_for_request: STOPPING_REQUEST_WORK_MAX,
        });
    }

    /// Counts work that was done.
    fn spend(&mut self, work: usize) {
        if let Some(stopping) = &mut self.stopping {
            stopping.left = stopping.left.saturating_sub(work);
            stopping.left_for_request = stopping.left_for_request.saturating_sub(work);
        }
    }

    /// Whether no more work is done at all.
    pub fn is_spent(&self) -> bool {
        self.stopping
            .as_ref()
            .is_some_and(|stopping| stopping.left == 0)
    }

    /// Whether the request whose turn it is may have more work.
    pub fn may_go_on(&self) -> bool {
        self.stopping
            .as_ref()
            .is_none_or(|stopping| stopping.left_for_request > 0)
    }

    /// The request whose turn it is, of which there can be so many that taking them is work, too.
    pub fn take(&mut self, work: &mut usize) -> Option<Job> {
        let conn = self.turns.front()?;
        let job = self.by_conn.get_mut(&conn.0)?.jobs.pop_front()?;
        *work = work.saturating_sub(REQUEST_COST);
        self.spend(REQUEST_COST);
        Some(job)
    }

    /// It needs more turns.
    pub fn put_back(&mut self, job: Job) {
        if let Some(waiting) = self.by_conn.get_mut(&job.conn().0) {
            waiting.jobs.push_front(job);
        }
    }

    /// It is done with: it is the next connection's turn.
    pub fn done(&mut self, conn: ConnId, bytes: usize) {
        self.turns.pop_front();
        if let Some(stopping) = &mut self.stopping {
            stopping.left_for_request = STOPPING_REQUEST_WORK_MAX;
        }
        let Some(waiting) = self.by_conn.get(&conn.0) else {
            return;
        };
        if waiting.orphaned {
            self.orphaned_bytes -= bytes;
        }
        if waiting.jobs.is_empty() {
            self.by_conn.remove(&conn.0);
        } else {
            self.turns.push_back(conn);
        }
    }

    /// A new input is handled.
    pub fn next_input(&mut self) {
        self.input_left = VALIDATION_SLICE_WORK;
    }

    /// How much of the work on a request that has just come may be done at once: nothing if one before it on its
    /// connection waits.
    pub fn granted(&self, conn: ConnId) -> usize {
        match self.by_conn.contains_key(&conn.0) {
            true => 0,
            false => self.input_left.min(self.turn_left),
        }
    }

    /// So much of it was.
    pub fn done_at_once(&mut self, work: usize) {
        self.input_left -= work;
        self.turn_left -= work;
    }

    /// The shard is idle: what comes from now on has a turn of its own. How much of what was put off may be done.
    pub fn begin_turn(&mut self) -> usize {
        self.turn_left = VALIDATION_TURN_WORK;
        std::mem::take(&mut self.input_left)
    }

    /// So much of that was not needed.
    pub fn end_slice(&mut self, left: usize) {
        self.input_left = left;
    }

    /// Goes on with the checks of a request; whether they are done.
    pub fn check(&mut self, front: &Front, job: &mut ProduceJob, work: &mut usize) -> bool {
        let (bytes_before, work_before) = (job.open_bytes_left(), *work);
        let done = job.validate(front, work);
        let opened = bytes_before.saturating_sub(job.open_bytes_left());
        self.opened += opened as u64;
        self.spend(work_before - *work);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::HandingOn;
    use super::*;
    use crate::base::{Mono, ShardId};
    use crate::broker::front::conns::ReplyTo;
    use crate::broker::msg::ReqRef;
    use crate::replica::Mark;

    #[test]
    fn what_closed_connections_leave_to_be_handed_on_is_bounded() {
        const CONNS: u64 = 20;
        let mut validations = Validations::default();
        for conn in (0..CONNS).map(ConnId) {
            let reply_to = ReplyTo { conn, seq: 0 };
            let req = ReqRef {
                shard: ShardId(0),
                id: conn.0,
            };
            let (mark, bytes) = (Mark::Durable, ORPHANED_BYTES_MAX / 4);
            let rest = HandingOn::new(
                reply_to,
                req,
                (mark, Mono::NEVER),
                (Vec::new(), None),
                bytes,
            );
            validations.put_off(Job::HandOn(rest));
        }
        (0..CONNS).for_each(|conn| validations.closed(ConnId(conn)));
        let mut taken = 0;
        while let Some(job) = validations.take(&mut 0) {
            validations.done(job.conn(), job.bytes());
            taken += 1;
        }
        assert_eq!(taken, 8);
        assert_eq!(validations.orphaned_bytes, 0);
    }
}
