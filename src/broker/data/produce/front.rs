//! Produce (key 0), versions 3 to 13.
//!
//! Front: validates each batch (format, CRC, every record inside) where it arrived and passes it to the store
//! that owns the partition. Owner: appends; the answer waits for the durable end (`acks=1`), or for the high watermark
//! (`acks=all`), which is never beyond it, where Kafka answers from the page cache. `acks=0` is never answered, and an
//! error then closes the connection, as in Kafka, since there is no other way to tell. What counts of
//! `min.insync.replicas` is never more than the replicas that there are, as in Kafka, so one node has them
//! always. `timeout.ms` limits how long other replicas are waited for: partitions that have such get REQUEST_TIMED_OUT
//! then, as in Kafka, and may be written all the same. What has no other replica waits for this node's disk, however
//! long that takes.
//!
//! Before a batch begins a transaction in its partition, the coordinator of its transactional id is asked whether the
//! partition is part of that (KIP-890); meanwhile it waits at the owner (`verifying`), whatever its `acks`. From
//! version 12 on the partition becomes part of it by that, if the cluster's `transaction.version` is 2.
//!
//! Deviations: no produce waits for other replicas for more than ten minutes.

use bytes::Bytes;

use super::job::{HandingOn, Job, PendingProduce, ProduceJob};
use super::validation::Validations;
use crate::base::limits::PRODUCE_WAITS_MS_MAX;
use crate::base::{ErrorCode, IdMap, Mono, Refused};
use crate::broker::front::Front;
use crate::broker::front::conns::ReplyTo;
use crate::broker::front::leaders::LeaderHints;
use crate::broker::front::parked::Family;
use crate::broker::fx::Fx;
use crate::broker::io::ConnId;
use crate::broker::msg::{Produced, ReqRef};
use crate::broker::trace::ProduceStamps;
use crate::store::Piece;
use crate::wire::RequestHeader;
use crate::wire::produce::{
    LEADERS_FROM, ProducePartitionResponse, ProduceRequest, ProduceTopic, ResponseWriter,
};

/// The produce requests of a shard's clients.
#[derive(Debug, Default)]
pub struct Produces {
    /// Those that are still being checked, or handed on.
    pub validations: Validations,
    /// Those whose partitions are on their way.
    waiting: IdMap<u64, PendingProduce>,
}

impl Produces {
    /// Takes a produce request. `Err` closes the connection.
    pub fn begin(
        &mut self,
        front: &mut Front,
        reply_to: ReplyTo,
        header: &RequestHeader,
        body: Bytes,
        fx: &mut Fx<'_>,
    ) -> Result<(), String> {
        let bytes = body.len();
        let request =
            ProduceRequest::parse(body, header.version).map_err(|error| error.to_string())?;
        let job = ProduceJob::new(reply_to, header, request, bytes, front);
        self.validate_now(front, job, fx);
        Ok(())
    }

    /// Checks a request that has just come and hands its batches on, if that is little work and none before it waits.
    fn validate_now(&mut self, front: &mut Front, job: ProduceJob, fx: &mut Fx<'_>) {
        let granted = self.validations.granted(job.reply_to().conn);
        if self.validations.is_spent() {
            return left_unanswered(front, &job, fx);
        }
        let mut rest = Some(Job::Check(job));
        if granted > 0 {
            let mut work = granted;
            rest = rest.and_then(|job| self.go_on_with(front, job, &mut work, fx));
            self.validations.done_at_once(granted - work);
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
    fn go_on_with(
        &mut self,
        front: &mut Front,
        job: Job,
        work: &mut usize,
        fx: &mut Fx<'_>,
    ) -> Option<Job> {
        let mut rest = match job {
            Job::Check(mut job) => {
                if !self.validations.check(front, &mut job, work) {
                    return Some(Job::Check(job));
                }
                self.validated(front, job, fx)?
            }
            Job::HandOn(rest) => rest,
        };
        (!rest.hand_on(front, work, fx)).then_some(Job::HandOn(rest))
    }

    /// Does a slice of what was put off.
    pub fn validate_some(&mut self, front: &mut Front, fx: &mut Fx<'_>) {
        let mut work = self.validations.begin_turn();
        while work > 0
            && let Some(job) = self.validations.take(&mut work)
        {
            let (conn, bytes) = (job.conn(), job.bytes());
            let is_spent = self.validations.is_spent();
            let rest = match job {
                Job::Check(job) if is_spent => Some(Job::Check(job)),
                job => self.go_on_with(front, job, &mut work, fx),
            };
            match rest {
                // What is checked is taken, even if the shard is to stop.
                Some(job @ Job::HandOn(_)) => self.validations.put_back(job),
                Some(job) if !is_spent && self.validations.may_go_on() => {
                    self.validations.put_back(job);
                }
                Some(Job::Check(job)) => {
                    self.validations.done(conn, bytes);
                    left_unanswered(front, &job, fx);
                }
                None => self.validations.done(conn, bytes),
            }
        }
        self.validations.end_slice(work);
    }

    /// All batches of a request are checked: whatever is left of it is to be handed on.
    fn validated(
        &mut self,
        front: &mut Front,
        job: ProduceJob,
        fx: &mut Fx<'_>,
    ) -> Option<HandingOn> {
        let bytes = job.bytes();
        let (mut pending, by_store, transaction) = job.checked_all();
        if by_store.is_empty() {
            finish(front, pending, fx);
            return None;
        }
        let (reply_to, mark, mut until) = (pending.reply_to, pending.mark(), Mono::NEVER);
        let id = front.park(reply_to, Family::Produce);
        if !pending.replicated.is_empty() {
            let timeout_ms = u64::try_from(pending.timeout_ms).unwrap_or(0);
            let timeout_ms = timeout_ms.min(PRODUCE_WAITS_MS_MAX);
            pending.deadline = fx.now.mono.plus_ms(timeout_ms);
            until = pending.deadline;
            front.parked.wait_until(id, until);
        }
        self.waiting.insert(id, pending);
        let req = ReqRef { shard: fx.me, id };
        Some(HandingOn::new(
            reply_to,
            req,
            (mark, until),
            (by_store, transaction),
            bytes,
        ))
    }

    /// Some partitions of a produce request are durable or refused.
    pub fn done(
        &mut self,
        front: &mut Front,
        id: u64,
        results: Vec<(u32, Result<Produced, Refused>)>,
        stamps: &ProduceStamps,
        fx: &mut Fx<'_>,
    ) {
        let Some(pending) = self.waiting.get_mut(&id) else {
            return;
        };
        let answered = pending.slots.answer(results);
        let (reply_to, log, partitions) = (pending.reply_to, pending.first, pending.slots.len());
        if let Some(trace) = front.conns.trace(reply_to) {
            trace.describe(log, partitions);
            trace.pass_produce(stamps);
        }
        if answered && let Some(pending) = self.waiting.remove(&id) {
            front.parked.unpark(id);
            finish(front, pending, fx);
        }
    }

    /// Other replicas were waited for as long as the client wanted, or the shard is to stop: then nobody waits for
    /// them, since it does not lead any more what they have too.
    pub fn due(&mut self, front: &mut Front, id: u64, fx: &mut Fx<'_>) {
        let Some(pending) = self.waiting.get_mut(&id) else {
            return;
        };
        if fx.now.mono < pending.deadline {
            return;
        }
        let late = std::mem::take(&mut pending.replicated).into_iter();
        let late = late.map(|slot| (slot, Err(ErrorCode::RequestTimedOut.into())));
        if pending.slots.answer(late.collect())
            && let Some(pending) = self.waiting.remove(&id)
        {
            front.parked.unpark(id);
            finish(front, pending, fx);
        }
    }

    /// How many wait for something.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits for the answer any more.
    pub fn forget(&mut self, id: u64) {
        self.waiting.remove(&id);
    }

    /// A connection is gone: of what it sent, the checks go on within bounds.
    pub fn conn_closed(&mut self, conn: ConnId) {
        self.validations.closed(conn);
    }
}

/// The shard stops before a request is checked: nothing of it was taken.
fn left_unanswered(front: &mut Front, job: &ProduceJob, fx: &mut Fx<'_>) {
    let why = "the broker stops before its records are checked".to_owned();
    front.conns.fail(job.reply_to(), why, fx.out);
}

/// Answers a request of which nothing is open any more.
fn finish(front: &mut Front, pending: PendingProduce, fx: &mut Fx<'_>) {
    if pending.acks == 0 {
        let mut outcomes = pending.slots.iter().flatten();
        let failed = outcomes.find_map(|outcome| outcome.as_ref().err());
        if let Some(refused) = failed {
            let reason = format!("produce with acks=0 failed: {refused}");
            front.conns.fail(pending.reply_to, reason, fx.out);
        } else {
            front.conns.reply(pending.reply_to, Vec::new(), fx.out);
        }
        return;
    }
    let (id, topics) = (pending.correlation_id, pending.topics.len());
    let mut frame = ResponseWriter::new(id, pending.version, topics);
    let may_hint = pending.version >= LEADERS_FROM;
    let mut leaders = LeaderHints::new(front, pending.reply_to, may_hint);
    let mut slots = pending.slots.into_known();
    for ProduceTopic { topic, partitions } in &pending.topics {
        frame.topic(topic, partitions.len());
        for (partition, outcome) in partitions.iter().zip(slots.by_ref()) {
            let mut answer = answer(partition.index, outcome);
            answer.leader = leaders.leader(front, topic, answer.index, answer.error);
            frame.partition(&answer);
        }
        frame.end_topic();
    }
    let pieces = vec![Piece::Memory(frame.finish(0, &leaders.endpoints()))];
    front.conns.reply(pending.reply_to, pieces, fx.out);
}

fn answer(index: i32, outcome: Option<Result<Produced, Refused>>) -> ProducePartitionResponse {
    match outcome.unwrap_or(Err(ErrorCode::UnknownServerError.into())) {
        Ok(produced) => ProducePartitionResponse {
            index,
            error: ErrorCode::None,
            base_offset: produced.base_offset.0,
            log_append_time: produced.log_append_time_ms,
            log_start_offset: produced.log_start.0,
            error_message: None,
            leader: None,
        },
        Err(Refused { code, message }) => ProducePartitionResponse::failed(index, code, message),
    }
}
