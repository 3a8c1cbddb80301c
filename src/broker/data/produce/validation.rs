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

use super::front::{HandingOn, ProduceJob};
use crate::base::IdMap;
use crate::base::limits::{
    ORPHANED_BYTES_MAX, STOPPING_REQUEST_WORK_MAX, STOPPING_WORK_MAX, VALIDATION_SLICE_WORK,
    VALIDATION_TURN_WORK,
};
use crate::broker::front::Front;
use crate::broker::fx::Fx;
use crate::broker::io::ConnId;

/// See the module.
#[derive(Debug)]
pub struct Validations {
    by_conn: IdMap<u64, Waiting>,
    /// The connections above, in the order of their turns.
    turns: VecDeque<ConnId>,
    /// Work that may still be done before the shard is idle.
    work_left: usize,
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

/// What is still to be done with a request.
#[derive(Debug)]
enum Job {
    Check(ProduceJob),
    HandOn(HandingOn),
}

impl Job {
    fn conn(&self) -> ConnId {
        match self {
            Self::Check(job) => job.conn(),
            Self::HandOn(rest) => rest.reply_to.conn,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Check(job) => job.bytes,
            Self::HandOn(rest) => rest.bytes,
        }
    }
}

/// The requests of one connection.
#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    orphaned: bool,
}

impl Default for Validations {
    fn default() -> Self {
        Self {
            by_conn: IdMap::default(),
            turns: VecDeque::new(),
            work_left: VALIDATION_TURN_WORK,
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

    fn put_off(&mut self, job: Job) {
        let conn = job.conn();
        let waiting = self.by_conn.entry(conn.0).or_default();
        if waiting.jobs.is_empty() {
            self.turns.push_back(conn);
        }
        waiting.jobs.push_back(job);
    }

    /// A connection is gone. What it sent is worked on all the same, as in Kafka, within bounds: the
    /// memory of its requests is nobody's any more.
    pub fn closed(&mut self, conn: ConnId) {
        let Some(waiting) = self.by_conn.get_mut(&conn.0) else {
            return;
        };
        let bytes: usize = waiting.jobs.iter().map(Job::bytes).sum();
        if self.orphaned_bytes + bytes > ORPHANED_BYTES_MAX {
            self.by_conn.remove(&conn.0);
            self.turns.retain(|turn| *turn != conn);
        } else {
            waiting.orphaned = true;
            self.orphaned_bytes += bytes;
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
    fn is_spent(&self) -> bool {
        self.stopping
            .as_ref()
            .is_some_and(|stopping| stopping.left == 0)
    }

    /// Whether the request whose turn it is may have more work.
    fn may_go_on(&self) -> bool {
        self.stopping
            .as_ref()
            .is_none_or(|stopping| stopping.left_for_request > 0)
    }

    /// The request whose turn it is.
    fn take(&mut self) -> Option<Job> {
        let conn = self.turns.front()?;
        self.by_conn.get_mut(&conn.0)?.jobs.pop_front()
    }

    /// It needs more turns.
    fn put_back(&mut self, job: Job) {
        if let Some(waiting) = self.by_conn.get_mut(&job.conn().0) {
            waiting.jobs.push_front(job);
        }
    }

    /// It is done with: it is the next connection's turn.
    fn done(&mut self, conn: ConnId, bytes: usize) {
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
}

impl Front {
    /// Checks a request that has just come and hands its batches on, if that is little work and none before it waits.
    pub fn validate_now(&mut self, job: ProduceJob, fx: &mut Fx<'_>) {
        let validations = &mut self.validations;
        let waits = validations.by_conn.contains_key(&job.conn().0);
        let granted = VALIDATION_SLICE_WORK.min(validations.work_left);
        if validations.is_spent() {
            return self.left_unanswered(&job, fx);
        }
        let mut rest = Some(Job::Check(job));
        if !waits && granted > 0 {
            let mut work = granted;
            rest = rest.and_then(|job| self.go_on_with(job, &mut work, fx));
            self.validations.work_left -= granted - work;
            // However many wait, one decoder is all that is held.
            if let Some(Job::Check(job)) = &mut rest {
                job.rewind();
            }
        }
        if let Some(rest) = rest {
            self.validations.put_off(rest);
        }
    }

    /// Does some of the work on a request; what is left of it.
    fn go_on_with(&mut self, job: Job, work: &mut usize, fx: &mut Fx<'_>) -> Option<Job> {
        let mut rest = match job {
            Job::Check(mut job) => {
                if !self.validate_counted(&mut job, work) {
                    return Some(Job::Check(job));
                }
                self.validated(job, fx)?
            }
            Job::HandOn(rest) => rest,
        };
        (!self.hand_on_parts(&mut rest, work, fx)).then_some(Job::HandOn(rest))
    }

    fn validate_counted(&mut self, job: &mut ProduceJob, work: &mut usize) -> bool {
        let (bytes_before, work_before) = (job.open_bytes_left(), *work);
        let done = self.validate(job, work);
        let opened = bytes_before.saturating_sub(job.open_bytes_left());
        self.validations.opened += opened as u64;
        self.validations.spend(work_before - *work);
        done
    }

    /// Does a slice of what was put off.
    pub fn validate_some(&mut self, fx: &mut Fx<'_>) {
        self.validations.work_left = VALIDATION_TURN_WORK;
        let mut work = VALIDATION_SLICE_WORK;
        while work > 0
            && let Some(job) = self.validations.take()
        {
            let (conn, bytes) = (job.conn(), job.bytes());
            let is_spent = self.validations.is_spent();
            let rest = match job {
                Job::Check(job) if is_spent => Some(Job::Check(job)),
                job => self.go_on_with(job, &mut work, fx),
            };
            match rest {
                // What is checked is taken, even if the shard is to stop.
                Some(job @ Job::HandOn(_)) => self.validations.put_back(job),
                Some(job) if !is_spent && self.validations.may_go_on() => {
                    self.validations.put_back(job);
                }
                Some(Job::Check(job)) => {
                    self.validations.done(conn, bytes);
                    self.left_unanswered(&job, fx);
                }
                None => self.validations.done(conn, bytes),
            }
        }
    }

    /// The shard stops before a request is checked: nothing of it was taken.
    fn left_unanswered(&mut self, job: &ProduceJob, fx: &mut Fx<'_>) {
        let why = "the broker stops before its records are checked".to_owned();
        self.conns.fail(job.reply_to(), why, fx.out);
    }
}
