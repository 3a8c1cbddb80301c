//! Who waits until what was appended to a store is durable.

use crate::broker::msg::{Failure, LogAnswer, Produced, ReqRef};
use crate::broker::trace::ProduceStamps;

/// Who waits for a flush.
#[derive(Debug)]
pub enum Ack {
    /// A produce request; `results` as they will be answered.
    Produce {
        req: ReqRef,
        results: Vec<(u32, Result<Produced, Failure>)>,
        stamps: ProduceStamps,
    },
    /// A query that changed the log.
    Query {
        req: ReqRef,
        answers: Vec<LogAnswer>,
    },
    /// Something of the control shard's own.
    Control(u64),
}
