//! EndTxn, by the version of transactions of whoever asks.
//!
//! Before version 2 the state alone says whether a transaction has ended as it is to end now. In version 2 (KIP-890)
//! each end makes the epoch grow: who asks again still has the epoch before, and one that has the newest epoch means
//! its next transaction, which may have nothing in it yet and can be aborted.

use super::coordinator::{TxnCoordinator, check_producer};
use super::effect::{EndTxn, NeedsId, TxnEffect, TxnProducer};
use super::entry::{TxnEntry, TxnThen};
use super::state::{LAST_EPOCH, TxnState};
use crate::base::{ErrorCode, Now};

/// What an EndTxn comes to.
enum Ends {
    /// The transaction is decided.
    Now,
    /// It has ended so.
    Already,
}

impl TxnCoordinator {
    /// EndTxn: answered by [`TxnEffect::Producer`] when it is decided, perhaps after [`TxnEffect::NeedsProducerId`];
    /// the markers come behind that.
    pub fn end(&mut self, now: Now, token: u64, request: EndTxn, out: &mut Vec<TxnEffect>) {
        let ends = self.entry_of(&request.id).and_then(|entry| {
            let ends = match request.version.bumps_epoch() {
                true => ends_by_epoch(entry, &request)?,
                false => ends_by_state(entry, &request)?,
            };
            Ok((&entry.facts, ends))
        });
        let (facts, ends) = match ends {
            Ok(ends) => ends,
            Err(error) => return out.push(TxnEffect::Producer(token, Err(error))),
        };
        if matches!(ends, Ends::Already) {
            let (id, epoch) = facts.next_producer();
            let producer = TxnProducer { id, epoch };
            return out.push(TxnEffect::Producer(token, Ok(producer)));
        }
        match self.ending(facts, request.version, request.fresh) {
            Some(by) => {
                let facts = facts.prepared(request.commits, by, now.wall_ms);
                let then = TxnThen::Producer(Some(token));
                self.write(&request.id, Some(facts), then, out);
            }
            None => out.push(TxnEffect::NeedsProducerId(NeedsId::End(token, request))),
        }
    }
}

/// Before version 2.
fn ends_by_state(entry: &TxnEntry, request: &EndTxn) -> Result<Ends, ErrorCode> {
    let facts = &entry.facts;
    check_producer(facts, request.producer)?;
    if entry.is_busy() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    match facts.state {
        TxnState::Ongoing => Ok(Ends::Now),
        state if state == TxnState::complete(request.commits) => Ok(Ends::Already),
        _ => Err(ErrorCode::InvalidTxnState),
    }
}

/// In version 2.
fn ends_by_epoch(entry: &TxnEntry, request: &EndTxn) -> Result<Ends, ErrorCode> {
    let (facts, producer, commits) = (&entry.facts, request.producer, request.commits);
    if entry.is_busy() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    // By an end of before version 2 no epoch has grown: whoever has the one before is fenced. Kafka takes him for
    // somebody who asks again, and tells him the epoch of another producer.
    // Whose transaction was aborted for another one's InitProducerId is like one who asks again, until that other one
    // has the next epoch: so it is in Kafka 4.4, where that abort makes the epoch grow once (KAFKA-19367).
    let has_grown = facts.version.bumps_epoch() && facts.state.has_ended();
    // Its last epoch is gone with the transaction, and with that its id.
    let has_new_id = facts.previous_producer_id == producer.id
        && producer.epoch == LAST_EPOCH
        && facts.epoch == 0;
    let is_next = Some(facts.epoch) == producer.epoch.checked_add(1);
    let is_retry = has_grown && (has_new_id || (is_next && facts.producer_id == producer.id));
    if is_retry {
        return match facts.state == TxnState::complete(commits) {
            true => Ok(Ends::Already),
            false => Err(ErrorCode::InvalidTxnState),
        };
    }
    check_producer(facts, producer)?;
    match facts.state == TxnState::Ongoing || !commits {
        true => Ok(Ends::Now),
        false => Err(ErrorCode::InvalidTxnState),
    }
}
