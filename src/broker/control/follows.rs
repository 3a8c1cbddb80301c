//! What follows from a change of the metadata: who is answered when it is true.

use bytes::Bytes;

use crate::broker::fx::Fx;
use crate::broker::msg::{Called, Msg, ReqRef};

/// What follows when a change is served by every shard.
#[derive(Debug)]
pub enum Then {
    Nothing,
    Answer(ReqRef, Called),
}

impl Then {
    /// What it takes in memory.
    pub fn memory(&self) -> usize {
        let frame = match self {
            Self::Answer(_, Called::Frame(pieces)) => pieces.iter().map(Bytes::len).sum(),
            Self::Answer(_, Called::Created | Called::Member(_) | Called::Again)
            | Self::Nothing => 0,
        };
        size_of::<Self>() + frame
    }
}

/// All that follows from a change, and what it and the change take in memory.
#[derive(Debug, Default)]
pub struct Follows {
    pub then: Vec<Then>,
    pub memory: usize,
}

impl Follows {
    /// Answers to the control shard itself, which need not wait until the shards serve by them.
    pub fn take_inside(&mut self) -> Vec<(ReqRef, Called)> {
        let inside = |then: &mut Then| matches!(then, Then::Answer(_, Called::Member(_)));
        let inside = self.then.extract_if(.., inside);
        inside
            .filter_map(|then| match then {
                Then::Answer(req, called) => Some((req, called)),
                Then::Nothing => None,
            })
            .collect()
    }

    /// Others follow, too.
    pub fn add(&mut self, other: Self) {
        self.then.extend(other.then);
        self.memory += other.memory;
    }
}

/// Tells the shard that it is for what has come of a request: the answer, or why its connection is to be closed.
pub fn tell(req: ReqRef, answer: Result<Called, String>, fx: &mut Fx<'_>) {
    fx.send(req.shard, Msg::ControlDone { id: req.id, answer });
}

/// Sends an answer to the shard that it is for.
pub fn answer(req: ReqRef, called: Called, fx: &mut Fx<'_>) {
    tell(req, Ok(called), fx);
}
