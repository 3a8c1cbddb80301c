//! The part of a query that one shard works on.

use std::sync::Arc;

use crate::base::{ErrorCode, LogId, Mono, ShardId};
use crate::broker::msg::{LogAnswer, Query, ReqRef};
use crate::log::Later;

/// The part of a query that one shard works on.
#[derive(Debug)]
pub struct QueryJob {
    pub req: ReqRef,
    pub todo: Vec<(u32, LogId, Query)>,
    /// Until when other replicas are waited for.
    pub until: Mono,
    /// Answers so far.
    pub done: Vec<LogAnswer>,
    /// The question at hand takes long.
    pub takes_long: bool,
    /// It has waited for its turn to open a batch, and has a place for it.
    pub place: Option<Place>,
    /// How far the lookup at hand is that has had its slice.
    pub later: Option<Box<Later>>,
}

impl QueryJob {
    /// The question at hand cannot be answered.
    pub fn fail(&mut self, code: ErrorCode) {
        if let Some((slot, ..)) = self.todo.pop() {
            self.next_question();
            self.done.push((slot, Err(code)));
        }
    }

    /// The question at hand is done with.
    pub fn next_question(&mut self) {
        self.takes_long = false;
        self.place = None;
        self.later = None;
    }

    /// Whether it is one of these requests of a shard, which are in order.
    pub fn is_of(&self, shard: ShardId, ids: &[u64]) -> bool {
        self.req.shard == shard && ids.binary_search(&self.req.id).is_ok()
    }
}

/// A place that is kept for a lookup which gets its batch; free when this is dropped, whatever becomes of it.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "counted, not looked at")] Arc<()>);

impl Place {
    /// One of those that are counted by `kept`.
    pub fn new(kept: &Arc<()>) -> Self {
        Self(Arc::clone(kept))
    }
}
