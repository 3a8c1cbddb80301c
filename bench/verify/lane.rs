//! One producer's way to one partition: which batches are on their way, in which
//! order they may be sent, and what becomes of them when a broker refuses, forgets
//! or dies. Pure; the same rules as a real client's, because the verifier must not
//! be more careful than the clients it stands for.

use std::collections::VecDeque;

use bytes::Bytes;
use millrace::base::ErrorCode;

use super::judge::Batch;
use millrace_client::is_retriable;

/// One batch between being made and being acknowledged.
#[derive(Clone, Debug)]
pub struct Pending {
    /// What it is.
    pub batch: Batch,
    /// Its bytes, the same at every attempt.
    pub bytes: Bytes,
    /// When its first record was due, nanoseconds since 1970.
    pub intended_ns: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be sent.
    Queued,
    /// Sent on the current connection.
    Sent,
    /// Refused for now; sent again when nothing of the lane is on its way any more.
    Held,
}

/// What an answer meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored.
    Acked(Batch, u64),
    /// To be sent again. The leader may have changed.
    Retry,
    /// A correct broker does not say this.
    Rejected(String),
    /// Nothing this lane knows; answers to batches that were given up.
    Stale,
}

/// See the module.
#[derive(Debug)]
pub struct Lane {
    producer: u16,
    partition: i32,
    idempotent: bool,
    in_flight_max: usize,
    next_sequence: u64,
    pending: VecDeque<Pending>,
}

impl Lane {
    /// A lane on which nothing was sent yet. At most `in_flight_max` batches are on their way.
    pub fn new(producer: u16, partition: i32, idempotent: bool, in_flight_max: usize) -> Self {
        Self {
            producer,
            partition,
            idempotent,
            in_flight_max,
            next_sequence: 0,
            pending: VecDeque::new(),
        }
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Sequence of the next record to be made.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Whether there is room for another batch.
    pub fn has_room(&self) -> bool {
        self.pending.len() < self.in_flight_max
            && self.pending.iter().all(|p| p.state != State::Held)
    }

    /// Whether every batch has been acknowledged.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether a batch is on its way.
    pub fn is_waiting(&self) -> bool {
        self.pending.iter().any(|p| p.state == State::Sent)
    }

    /// Batches of unknown outcome.
    pub fn unacked(&self) -> impl Iterator<Item = Batch> + '_ {
        // One that was never sent cannot be anywhere.
        self.pending
            .iter()
            .map(|p| p.batch)
            .filter(|batch| batch.attempts > 0)
    }

    /// Adds a batch of `count` records, which begins at [`Lane::next_sequence`].
    pub fn add(&mut self, count: u32, bytes: Bytes, intended_ns: u64) {
        let batch = Batch {
            producer: self.producer,
            partition: self.partition,
            first: self.next_sequence,
            count,
            attempts: 0,
            offset: None,
        };
        self.next_sequence += u64::from(count);
        self.pending.push_back(Pending {
            batch,
            bytes,
            intended_ns,
            state: State::Queued,
        });
    }

    /// The next batch to send; it counts as sent. After a refusal nothing is sent until every
    /// answer is in, and then all goes again in order: sending on would change the order.
    pub fn send_next(&mut self) -> Option<&Pending> {
        let waiting = self.is_waiting();
        let held = self.pending.iter().any(|p| p.state == State::Held);
        if held {
            if waiting {
                return None;
            }
            self.requeue();
        }
        let next = self.pending.iter_mut().find(|p| p.state == State::Queued)?;
        next.state = State::Sent;
        next.batch.attempts += 1;
        Some(next)
    }

    /// The connection is gone: what was on its way is of unknown outcome and goes again.
    pub fn on_lost(&mut self) {
        self.requeue();
    }

    /// Takes the answer to the batch that begins at `first`.
    pub fn on_answer(&mut self, first: u64, code: ErrorCode, base_offset: i64) -> Outcome {
        let Some(at) = self
            .pending
            .iter()
            .position(|p| p.batch.first == first && p.state == State::Sent)
        else {
            return Outcome::Stale;
        };
        let duplicate = self.idempotent && code == ErrorCode::DuplicateSequenceNumber;
        if code.is_none() || duplicate {
            let done = self.pending.remove(at).expect("found above");
            let offset = (code.is_none() && base_offset >= 0).then_some(base_offset);
            return Outcome::Acked(
                Batch {
                    offset,
                    ..done.batch
                },
                done.intended_ns,
            );
        }
        // Behind a batch that was refused, the next ones are out of sequence: no fault of anybody.
        let follows = self.idempotent && at > 0 && code == ErrorCode::OutOfOrderSequenceNumber;
        if is_retriable(code) || follows {
            self.pending[at].state = State::Held;
            return Outcome::Retry;
        }
        let batch = self.pending.remove(at).expect("found above").batch;
        Outcome::Rejected(format!(
            "partition {}, records {}..{} of producer {}, attempt {}: {code} ({})",
            batch.partition,
            batch.first,
            batch.first + u64::from(batch.count),
            batch.producer,
            batch.attempts,
            code.code()
        ))
    }

    fn requeue(&mut self) {
        for pending in &mut self.pending {
            pending.state = State::Queued;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: ErrorCode = ErrorCode::None;
    const NOT_LEADER: ErrorCode = ErrorCode::NotLeaderOrFollower;
    const OUT_OF_ORDER: ErrorCode = ErrorCode::OutOfOrderSequenceNumber;
    const DUPLICATE: ErrorCode = ErrorCode::DuplicateSequenceNumber;
    const TOO_LARGE: ErrorCode = ErrorCode::MessageTooLarge;

    fn lane(batches: u64) -> Lane {
        let mut lane = Lane::new(4, 2, true, 5);
        for n in 0..batches {
            assert!(lane.has_room());
            lane.add(10, Bytes::new(), n);
        }
        lane
    }

    fn send_all(lane: &mut Lane) -> Vec<u64> {
        std::iter::from_fn(|| lane.send_next().map(|p| p.batch.first)).collect()
    }

    #[test]
    fn sends_in_order_and_takes_acks() {
        let mut lane = lane(3);
        assert_eq!(send_all(&mut lane), [0, 10, 20]);
        let Outcome::Acked(batch, intended) = lane.on_answer(0, OK, 500) else {
            panic!()
        };
        assert_eq!(
            (batch.first, batch.offset, batch.attempts, intended),
            (0, Some(500), 1, 0)
        );
        assert_eq!(lane.on_answer(0, OK, 500), Outcome::Stale);
        assert_eq!(
            lane.unacked().map(|b| b.first).collect::<Vec<_>>(),
            [10, 20]
        );
    }

    #[test]
    fn room_is_bounded() {
        let mut lane = lane(5);
        assert!(!lane.has_room());
        send_all(&mut lane);
        lane.on_answer(0, OK, 0);
        assert!(lane.has_room());
    }

    #[test]
    fn a_refusal_holds_the_lane_until_all_answers_are_in() {
        let mut lane = lane(3);
        send_all(&mut lane);
        assert_eq!(lane.on_answer(0, NOT_LEADER, -1), Outcome::Retry);
        assert!(!lane.has_room());
        assert_eq!(send_all(&mut lane), [] as [u64; 0]);
        // The broker is right to refuse what follows the missing one.
        assert_eq!(lane.on_answer(10, OUT_OF_ORDER, -1), Outcome::Retry);
        assert_eq!(lane.on_answer(20, OUT_OF_ORDER, -1), Outcome::Retry);
        assert_eq!(send_all(&mut lane), [0, 10, 20]);
        assert_eq!(
            lane.unacked().map(|b| b.attempts).collect::<Vec<_>>(),
            [2, 2, 2]
        );
    }

    #[test]
    fn a_lost_connection_sends_everything_again() {
        let mut lane = lane(2);
        send_all(&mut lane);
        lane.on_lost();
        assert_eq!(send_all(&mut lane), [0, 10]);
        let Outcome::Acked(batch, _) = lane.on_answer(0, DUPLICATE, -1) else {
            panic!()
        };
        assert_eq!((batch.offset, batch.attempts), (None, 2));
    }

    #[test]
    fn a_sequence_error_at_the_head_is_the_brokers_fault() {
        let mut lane = lane(2);
        send_all(&mut lane);
        let Outcome::Rejected(text) = lane.on_answer(0, OUT_OF_ORDER, -1) else {
            panic!()
        };
        assert!(text.contains("OUT_OF_ORDER_SEQUENCE_NUMBER (45)"), "{text}");
        assert!(matches!(
            lane.on_answer(10, TOO_LARGE, -1),
            Outcome::Rejected(_)
        ));
        assert!(lane.is_idle());
    }

    #[test]
    fn what_was_never_sent_is_not_of_unknown_outcome() {
        let mut lane = lane(2);
        lane.send_next();
        assert_eq!(lane.unacked().count(), 1);
    }
}
