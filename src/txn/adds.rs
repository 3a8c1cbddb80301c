//! AddPartitionsToTxn and AddOffsetsToTxn: partitions become part of a transaction.
//!
//! In version 2 each shard and node to which a producer writes asks on its own, all at the same time (KIP-890). Kafka
//! tells all of them but one to come again; here those that come while an add of the same producer is being written
//! share the next write, or wait for that one if it brings what they want. Each write brings partitions that were not
//! there before, and a transaction that takes too long is aborted between two, so nobody keeps an id by adding to it.

use std::collections::BTreeSet;

use super::coordinator::{TxnCoordinator, check_producer};
use super::effect::{TxnEffect, TxnProducer};
use super::entry::{ADD_BYTES, TxnEntry, TxnThen, TxnWrite, WaitingAdds};
use super::state::{TxnFacts, TxnPartition, TxnState, TxnVersion, bytes_of};
use crate::base::coordinating::client_error;
use crate::base::limits::{TXN_ADDS_TOGETHER_MAX, TXN_PARTITIONS_MAX};
use crate::base::{ErrorCode, Name, Now};

/// What an add comes to.
enum Adds {
    /// The transaction has the partitions.
    Nothing,
    /// This is to be written.
    Facts(TxnFacts),
    /// What is being written has them.
    Joins(u64),
    /// These are for the next write.
    Waits(BTreeSet<TxnPartition>),
}

impl TxnCoordinator {
    /// AddPartitionsToTxn and AddOffsetsToTxn: answered by [`TxnEffect::Done`].
    pub fn add_partitions(
        &mut self,
        now: Now,
        token: u64,
        (id, producer): (&Name, TxnProducer),
        (partitions, version): (Vec<TxnPartition>, TxnVersion),
        out: &mut Vec<TxnEffect>,
    ) {
        match self.adds(now, (id, producer), partitions, version) {
            Ok(Adds::Nothing) => out.push(TxnEffect::Done(token, ErrorCode::None)),
            Ok(Adds::Facts(facts)) => {
                self.write(id, Some(facts), TxnThen::Added(vec![token]), out);
            }
            Ok(Adds::Joins(append)) => {
                if let Some(TxnWrite {
                    then: TxnThen::Added(tokens),
                    ..
                }) = self.appends.get_mut(&append)
                {
                    tokens.push(token);
                }
                self.change(id, |entry| {
                    if let Some(entry) = entry {
                        entry.pending_bytes += ADD_BYTES;
                    }
                });
            }
            Ok(Adds::Waits(more)) => self.change(id, |entry| {
                if let Some(entry) = entry {
                    entry.waiting.tokens.push(token);
                    entry.waiting.partitions.extend(more);
                }
            }),
            Err(error) => out.push(TxnEffect::Done(token, error)),
        }
    }

    fn adds(
        &self,
        now: Now,
        (id, producer): (&Name, TxnProducer),
        partitions: Vec<TxnPartition>,
        version: TxnVersion,
    ) -> Result<Adds, ErrorCode> {
        let entry = self.entry_of(id)?;
        if let Some(append) = entry.pending {
            return self.shares(entry, append, producer, (&partitions, version));
        }
        if entry.is_busy() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let facts = &entry.facts;
        check_producer(facts, producer)?;
        match has_all(facts, &partitions) {
            true => Ok(Adds::Nothing),
            false => self.with(now, facts, partitions, version).map(Adds::Facts),
        }
    }

    /// What more partitions make of an id.
    fn with(
        &self,
        now: Now,
        facts: &TxnFacts,
        more: impl IntoIterator<Item = TxnPartition>,
        version: TxnVersion,
    ) -> Result<TxnFacts, ErrorCode> {
        let with = facts.with(more, version, now.wall_ms);
        if with.partitions.len() > TXN_PARTITIONS_MAX {
            // As where its record would be too large for Kafka's topic.
            return Err(ErrorCode::UnknownServerError);
        }
        self.has_room(0, 2 * with.memory())?;
        Ok(with)
    }

    /// What an add comes to while an append is on its way: if that is another add of the same producer, and nobody was
    /// told yet that it takes too long, it is waited for.
    fn shares(
        &self,
        entry: &TxnEntry,
        append: u64,
        producer: TxnProducer,
        (partitions, version): (&[TxnPartition], TxnVersion),
    ) -> Result<Adds, ErrorCode> {
        let Some(TxnWrite {
            facts: Some(facts),
            then: TxnThen::Added(tokens),
            is_late: false,
            ..
        }) = self.appends.get(&append)
        else {
            return Err(ErrorCode::ConcurrentTransactions);
        };
        let is_same = check_producer(facts, producer).is_ok() && facts.version == version;
        let waiting = &entry.waiting;
        if !is_same || tokens.len() + waiting.tokens.len() >= TXN_ADDS_TOGETHER_MAX {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        if has_all(&entry.facts, partitions) {
            return Ok(Adds::Nothing);
        }
        if has_all(facts, partitions) {
            self.has_room(0, ADD_BYTES)?;
            return Ok(Adds::Joins(append));
        }
        let more = partitions.iter();
        let more = more.filter(|it| !facts.partitions.contains(it));
        let more: BTreeSet<_> = more.cloned().collect();
        let new = || more.difference(&waiting.partitions);
        if facts.partitions.len() + waiting.partitions.len() + new().count() > TXN_PARTITIONS_MAX {
            return Err(ErrorCode::UnknownServerError);
        }
        self.has_room(0, ADD_BYTES + bytes_of(new()))?;
        Ok(Adds::Waits(more))
    }

    /// The write for which adds have waited has ended so: they have the next one.
    pub(super) fn add_waiting(
        &mut self,
        now: Now,
        id: &Name,
        (waiting, result): (WaitingAdds, Result<(), ErrorCode>),
        out: &mut Vec<TxnEffect>,
    ) {
        if waiting.is_empty() {
            return;
        }
        let with = match result {
            Err(error) => Err(client_error(error)),
            Ok(()) if self.is_unloading => Err(ErrorCode::NotCoordinator),
            // It is aborted next.
            Ok(()) if self.is_overdue(now, id) => Err(ErrorCode::ConcurrentTransactions),
            Ok(()) => self.entry_of(id).and_then(|entry| {
                let facts = &entry.facts;
                self.with(now, facts, waiting.partitions, facts.version)
            }),
        };
        match with {
            Ok(facts) => self.write(id, Some(facts), TxnThen::Added(waiting.tokens), out),
            Err(error) => {
                let tokens = waiting.tokens.into_iter();
                out.extend(tokens.map(|it| TxnEffect::Done(it, error)));
            }
        }
    }

    /// Who waits for the next write is told this.
    pub(super) fn turn_away(&mut self, id: &Name, error: ErrorCode, out: &mut Vec<TxnEffect>) {
        let waiting = self.change(id, |entry| {
            let waiting = entry.as_mut().map(|entry| &mut entry.waiting);
            waiting.map(std::mem::take).unwrap_or_default()
        });
        let tokens = waiting.tokens.into_iter();
        out.extend(tokens.map(|it| TxnEffect::Done(it, error)));
    }
}

/// Whether partitions are part of the transaction that is going on.
fn has_all(facts: &TxnFacts, partitions: &[TxnPartition]) -> bool {
    facts.state == TxnState::Ongoing && partitions.iter().all(|it| facts.partitions.contains(it))
}
