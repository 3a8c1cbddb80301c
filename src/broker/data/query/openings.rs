//! Lookups by time that have to open a batch, slice by slice, when the shard is idle.
//!
//! What a batch opens to nobody knows before, so each begins in the first of two queues, where it is worked on for a
//! moment. Most are done by then. The others go on in the second queue, which takes turns with the first: whoever
//! asks for little waits for no more than a moment of each of those before. Only the first of a queue has a
//! decoder, and only so many have their batch in hand; the rest ask their log again when there is a place, which is
//! kept for them until they are back with the batch.

use std::collections::VecDeque;
use std::sync::Arc;

use super::job::{Place, QueryJob};
use crate::base::limits::{
    TIME_LOOKUP_SHORT_WORK, TIME_LOOKUPS_OPENING_MAX, VALIDATION_SLICE_WORK,
};
use crate::base::{LogId, ShardId};
use crate::log::Opening;

/// A lookup with its batch in hand.
#[derive(Debug)]
struct Open {
    job: QueryJob,
    log: LogId,
    opening: Box<Opening>,
    /// What was done for it.
    work: usize,
}

#[derive(Debug, Default)]
struct Queue {
    open: VecDeque<Open>,
    /// Those for which there was no place.
    waiting: VecDeque<QueryJob>,
    /// Shared with the places that are kept.
    kept: Arc<()>,
}

impl Queue {
    fn has_place(&self) -> bool {
        let kept = Arc::strong_count(&self.kept) - 1;
        self.open.len() + kept < TIME_LOOKUPS_OPENING_MAX
    }

    fn push(&mut self, mut open: Open) {
        let has_one = open.job.place.take().is_some();
        if has_one || self.waiting.is_empty() && self.has_place() {
            self.open.push_back(open);
        } else {
            self.waiting.push_back(open.job);
        }
    }
}

/// What is to be done with a lookup.
#[derive(Debug)]
pub enum Turn {
    /// Its batch is opened as far as need be.
    Opened(QueryJob, LogId, Box<Opening>),
    /// There is a place for it.
    Ask(QueryJob),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Openings {
    short: Queue,
    long: Queue,
    /// Whose turn it is, if both have something.
    long_is_next: bool,
}

impl Openings {
    /// A lookup has to open this batch.
    pub fn push(&mut self, job: QueryJob, log: LogId, opening: Box<Opening>) {
        let queue = match job.takes_long {
            true => &mut self.long,
            false => &mut self.short,
        };
        queue.push(Open {
            job,
            log,
            opening,
            work: 0,
        });
    }

    /// Whether there is something to do now: not if all wait for places that are kept for others.
    pub fn can_go_on(&self) -> bool {
        let queues = [&self.short, &self.long];
        queues
            .iter()
            .any(|queue| !queue.open.is_empty() || !queue.waiting.is_empty() && queue.has_place())
    }

    /// Whether there is nothing to do, now or later.
    pub fn is_empty(&self) -> bool {
        let queues = [&self.short, &self.long];
        queues
            .iter()
            .all(|queue| queue.open.is_empty() && queue.waiting.is_empty())
    }

    /// Does a slice of work.
    pub fn go_on(&mut self) -> Option<Turn> {
        for queue in [&mut self.short, &mut self.long] {
            if queue.has_place()
                && let Some(mut job) = queue.waiting.pop_front()
            {
                job.place = Some(Place::new(&queue.kept));
                return Some(Turn::Ask(job));
            }
        }
        let long = match self.long_is_next {
            true => !self.long.open.is_empty(),
            false => self.short.open.is_empty(),
        };
        self.long_is_next = !long;
        let queue = match long {
            true => &mut self.long,
            false => &mut self.short,
        };
        let mut first = queue.open.pop_front()?;
        if first.opening.go_on(VALIDATION_SLICE_WORK) {
            return Some(Turn::Opened(first.job, first.log, first.opening));
        }
        first.work += VALIDATION_SLICE_WORK;
        if long || first.work < TIME_LOOKUP_SHORT_WORK {
            queue.open.push_front(first);
        } else {
            if !self.long.open.is_empty() {
                first.opening.rewind();
            }
            first.job.takes_long = true;
            self.long.push(first);
        }
        None
    }

    /// Forgets lookups of a shard, by their numbers in order.
    pub fn forget(&mut self, shard: ShardId, ids: &[u64]) {
        for queue in [&mut self.short, &mut self.long] {
            queue.open.retain(|open| !open.job.is_of(shard, ids));
            queue.waiting.retain(|job| !job.is_of(shard, ids));
        }
    }

    /// Takes all of them out.
    pub fn take_all(&mut self) -> Vec<QueryJob> {
        let mut all = Vec::new();
        for queue in [&mut self.short, &mut self.long] {
            all.extend(queue.open.drain(..).map(|open| open.job));
            all.extend(queue.waiting.drain(..));
        }
        all
    }
}
