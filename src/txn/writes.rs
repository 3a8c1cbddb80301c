//! Appends of the coordinator, and what comes of them.

use super::coordinator::TxnCoordinator;
use super::effect::{TxnEffect, TxnProducer};
use super::entry::{TxnEntry, TxnThen, TxnWrite, WaitingAdds};
use super::records::txn_record;
use super::state::{NO_EPOCH, TxnFacts, TxnState};
use crate::base::coordinating::client_error;
use crate::base::{ErrorCode, Name, Now};

impl TxnCoordinator {
    /// Begins to write what becomes of an id.
    pub(super) fn write(
        &mut self,
        id: &Name,
        facts: Option<TxnFacts>,
        then: TxnThen,
        out: &mut Vec<TxnEffect>,
    ) {
        self.next_append += 1;
        let append = self.next_append;
        let records = [txn_record(id, facts.as_ref(), self.config.version)].into();
        let bytes = facts.as_ref().map_or(0, TxnFacts::memory) + then.memory();
        let before = self.change(id, |entry| {
            let entry = entry.as_mut()?;
            (entry.pending, entry.pending_bytes) = (Some(append), bytes);
            Some(entry.facts.state)
        });
        let ends = match facts.as_ref().map(|facts| facts.state) {
            // With nothing in it anybody can decide one as often as he likes.
            Some(TxnState::PrepareCommit | TxnState::PrepareAbort) => {
                before == Some(TxnState::Ongoing)
            }
            Some(TxnState::CompleteCommit | TxnState::CompleteAbort) => true,
            Some(TxnState::Empty | TxnState::Ongoing) | None => false,
        };
        self.timers.cancel(id);
        let write = TxnWrite {
            id: id.clone(),
            facts,
            then,
            is_late: false,
        };
        self.appends.insert(append, write);
        out.push(TxnEffect::Append {
            append,
            records,
            ends,
        });
    }

    /// An append is in the log, and other replicas take too long for it, or fewer are there than should be: who waits
    /// for it is told this. It may be committed yet, so it stays pending until [`TxnCoordinator::appended`] says what
    /// has become of it.
    pub fn late(&mut self, append: u64, error: ErrorCode, out: &mut Vec<TxnEffect>) {
        let write = self.appends.get_mut(&append);
        let Some(write) = write.filter(|it| !it.is_late) else {
            return;
        };
        write.is_late = true;
        self.late += 1;
        let error = client_error(error);
        match &mut write.then {
            TxnThen::Producer(token) | TxnThen::Fence(token) => {
                out.extend(token.take().map(|it| TxnEffect::Producer(it, Err(error))));
            }
            TxnThen::Added(tokens) => {
                let id = write.id.clone();
                let tokens = std::mem::take(tokens);
                out.extend(tokens.into_iter().map(|it| TxnEffect::Done(it, error)));
                self.turn_away(&id, error, out);
            }
            TxnThen::Nothing => {}
        }
    }

    /// The append of [`TxnEffect::Append`] ended: it is committed, or will never be as far as this coordinator is there
    /// to see.
    pub fn appended(
        &mut self,
        now: Now,
        append: u64,
        result: Result<(), ErrorCode>,
        out: &mut Vec<TxnEffect>,
    ) {
        let Some(write) = self.appends.remove(&append) else {
            return;
        };
        self.late -= usize::from(write.is_late);
        let TxnWrite {
            id, facts, then, ..
        } = write;
        let producer = facts.as_ref().map(TxnFacts::next_producer);
        let producer = producer.map(|(id, epoch)| TxnProducer { id, epoch });
        let is_written = result.is_ok();
        let not_before = match is_written {
            true => now.mono,
            false => now.mono.plus_ms(self.config.retry_ms),
        };
        let waiting = self.change(&id, |entry| {
            let Some(known) = entry else {
                return WaitingAdds::default();
            };
            let waiting = std::mem::take(&mut known.waiting);
            (known.pending, known.pending_bytes) = (None, 0);
            known.not_before = not_before;
            match facts {
                Some(facts) if is_written => *entry = Some(TxnEntry::new(facts)),
                None if is_written => *entry = None,
                // Nobody has ever had it.
                _ if known.facts.epoch == NO_EPOCH => *entry = None,
                _ => {}
            }
            waiting
        });
        let error = result.err().map_or(ErrorCode::None, client_error);
        match then {
            TxnThen::Producer(token) => {
                let result = match producer {
                    Some(producer) if is_written => Ok(producer),
                    _ => Err(error),
                };
                out.extend(token.map(|it| TxnEffect::Producer(it, result)));
            }
            TxnThen::Fence(token) => {
                let error = match is_written {
                    true => ErrorCode::ConcurrentTransactions,
                    false => error,
                };
                out.extend(token.map(|it| TxnEffect::Producer(it, Err(error))));
            }
            TxnThen::Added(tokens) => {
                out.extend(tokens.into_iter().map(|it| TxnEffect::Done(it, error)));
            }
            TxnThen::Nothing => {}
        }
        self.add_waiting(now, &id, (waiting, result), out);
        self.go_on_soon(now, &id, out);
    }
}
