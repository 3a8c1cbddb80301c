//! The transactional ids of one partition of `__transaction_state`, and the requests about them.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::effect::{InitTxn, NeedsId, TxnEffect, TxnProducer};
use super::entry::{Marking, TxnEntry, TxnThen, TxnWrite};
use super::records::{parse_txn_key, parse_txn_value};
use super::state::{
    Ending, LAST_EPOCH, NO_EPOCH, NO_PRODUCER_ID, TxnFacts, TxnPartition, TxnState, TxnUsage,
    TxnVersion,
};
use crate::base::fields::RecordError;
use crate::base::{ErrorCode, Mono, Name, Now, Timers, name};

/// Settings.
#[derive(Clone, Copy, Debug)]
pub struct TxnConfig {
    /// `transaction.max.timeout.ms`
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`
    pub id_expiration_ms: i64,
    /// How long after markers were refused, or a record of the coordinator's own, it is tried again, ms.
    pub retry_ms: u64,
    /// `transaction.version` of the cluster: in which version records are written, and what ends by itself.
    pub version: TxnVersion,
}

/// See the module.
#[derive(Debug)]
pub struct TxnCoordinator {
    pub(super) config: TxnConfig,
    pub(super) ids: BTreeMap<Name, TxnEntry>,
    pub(super) timers: Timers<Name>,
    /// Appends on their way.
    pub(super) appends: BTreeMap<u64, TxnWrite>,
    pub(super) next_append: u64,
    /// Appends of which their clients were told that they took too long.
    pub(super) late: usize,
    pub(super) rounds: u64,
    /// It is given up: no more markers are sent.
    pub(super) is_unloading: bool,
    usage: TxnUsage,
    room: TxnUsage,
}

impl TxnCoordinator {
    /// Without ids.
    #[must_use]
    pub fn new(config: TxnConfig) -> Self {
        Self {
            config,
            ids: BTreeMap::new(),
            timers: Timers::default(),
            appends: BTreeMap::new(),
            next_append: 0,
            late: 0,
            rounds: 0,
            is_unloading: false,
            usage: TxnUsage::default(),
            room: TxnUsage {
                ids: usize::MAX,
                bytes: usize::MAX,
            },
        }
    }

    /// What it takes.
    #[must_use]
    pub const fn usage(&self) -> TxnUsage {
        self.usage
    }

    /// What it may take more.
    pub fn set_room(&mut self, room: TxnUsage) {
        self.room = room;
    }

    /// The cluster's `transaction.version` is this from now on.
    pub fn set_version(&mut self, version: TxnVersion) {
        self.config.version = version;
    }

    /// Applies one record of the partition while it is loaded, in log order.
    ///
    /// # Errors
    /// If the record is malformed: it changes nothing.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), RecordError> {
        let Some(id) = parse_txn_key(key)? else {
            return Ok(());
        };
        let id = name(id);
        match value {
            Some(value) => {
                let facts = parse_txn_value(value)?;
                self.change(&id, |entry| *entry = Some(TxnEntry::new(facts)));
                // What it is waiting for is found out when it is loaded.
                self.timers.set(id, Mono(0));
            }
            None => {
                self.change(&id, |entry| *entry = None);
                self.timers.cancel(&id);
            }
        }
        Ok(())
    }

    /// Changes what is known of an id, or whether something is.
    pub(super) fn change<T>(
        &mut self,
        id: &Name,
        act: impl FnOnce(&mut Option<TxnEntry>) -> T,
    ) -> T {
        let usage = |entry: &Option<TxnEntry>| {
            entry
                .as_ref()
                .map_or(TxnUsage::default(), |it| it.usage(id))
        };
        let mut entry = self.ids.remove(id);
        let before = usage(&entry);
        let done = act(&mut entry);
        self.usage.change(before, usage(&entry));
        if let Some(entry) = entry {
            self.ids.insert(id.clone(), entry);
        }
        done
    }

    /// InitProducerId: fences producers before this one, and gives it an epoch of its own. It is answered by
    /// [`TxnEffect::Producer`], perhaps after [`TxnEffect::NeedsProducerId`].
    pub fn init(&mut self, now: Now, token: u64, request: InitTxn, out: &mut Vec<TxnEffect>) {
        match self.initialized(now, &request) {
            Ok(Initialized::Fences(facts)) => {
                let then = TxnThen::Fence(Some(token));
                self.write(&request.id, Some(facts), then, out);
            }
            Ok(Initialized::Begins(facts)) => {
                self.write(
                    &request.id,
                    Some(facts),
                    TxnThen::Producer(Some(token)),
                    out,
                );
            }
            Ok(Initialized::NeedsProducerId) => {
                out.push(TxnEffect::NeedsProducerId(NeedsId::Init(token, request)));
            }
            Err(error) => out.push(TxnEffect::Producer(token, Err(error))),
        }
    }

    fn initialized(&mut self, now: Now, request: &InitTxn) -> Result<Initialized, ErrorCode> {
        if request.id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        if !(1..=self.config.max_timeout_ms).contains(&request.timeout_ms) {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        let (timeout_ms, now_ms) = (request.timeout_ms, now.wall_ms);
        let Some(entry) = self.ids.get(&request.id) else {
            let Some(fresh) = request.fresh else {
                return Ok(Initialized::NeedsProducerId);
            };
            let facts = TxnFacts::new(fresh, timeout_ms, now_ms);
            let begins = facts.empty(0, -1, timeout_ms, now_ms);
            // Until that is committed nothing is known of the id but that somebody is about to have it.
            self.has_room(1, facts.memory() + begins.memory() + 4 * request.id.len())?;
            self.change(&request.id, |entry| *entry = Some(TxnEntry::new(facts)));
            return Ok(Initialized::Begins(begins));
        };
        let (facts, expected) = (&entry.facts, request.expected);
        if entry.is_busy() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        if expected.is_some_and(|it| !is_known(facts, it)) {
            return Err(ErrorCode::ProducerFenced);
        }
        match facts.state {
            TxnState::PrepareCommit | TxnState::PrepareAbort => {
                Err(ErrorCode::ConcurrentTransactions)
            }
            TxnState::Ongoing => {
                let by = self.ending(facts, self.config.version, request.fresh);
                Ok(by.map_or(Initialized::NeedsProducerId, |by| {
                    Initialized::Fences(facts.fenced(by, now_ms))
                }))
            }
            TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort => {
                let is_newest = expected.is_none_or(|it| it.epoch == facts.epoch);
                if facts.is_exhausted() && is_newest {
                    return Ok(match request.fresh {
                        None => Initialized::NeedsProducerId,
                        Some(fresh) => {
                            let last_epoch = expected.map_or(-1, |it| it.epoch);
                            let mut new = facts.empty(0, last_epoch, timeout_ms, now_ms);
                            new.producer_id = fresh;
                            Initialized::Begins(new)
                        }
                    });
                }
                let (epoch, last_epoch) = next_epoch(facts, expected)?;
                let begins = facts.empty(epoch, last_epoch, timeout_ms, now_ms);
                Ok(Initialized::Begins(begins))
            }
        }
    }

    /// Whether there is room for so much more.
    pub(super) fn has_room(&self, ids: usize, bytes: usize) -> Result<(), ErrorCode> {
        match ids <= self.room.ids && bytes <= self.room.bytes {
            true => Ok(()),
            false => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }

    /// By what a transaction ends; `None` if a producer id that nobody has is needed for that, and there is none.
    pub(super) fn ending(
        &self,
        facts: &TxnFacts,
        version: TxnVersion,
        fresh: Option<i64>,
    ) -> Option<Ending> {
        let needs_id = version.bumps_epoch() && facts.is_exhausted();
        let next_producer_id = match (needs_id, fresh) {
            (false, _) => NO_PRODUCER_ID,
            (true, Some(fresh)) => fresh,
            (true, None) => return None,
        };
        Some(Ending {
            version,
            next_producer_id,
        })
    }

    /// What [`TxnEffect::NeedsProducerId`] asked for, or why there is none.
    pub fn got_id(
        &mut self,
        now: Now,
        needs: NeedsId,
        fresh: Result<i64, ErrorCode>,
        out: &mut Vec<TxnEffect>,
    ) {
        match (needs, fresh) {
            (NeedsId::Init(token, mut request), Ok(fresh)) => {
                request.fresh = Some(fresh);
                self.init(now, token, request, out);
            }
            (NeedsId::End(token, mut request), Ok(fresh)) => {
                request.fresh = Some(fresh);
                self.end(now, token, request, out);
            }
            (NeedsId::Init(token, _) | NeedsId::End(token, _), Err(error)) => {
                out.push(TxnEffect::Producer(token, Err(error)));
            }
            (NeedsId::Abort(id), fresh) => self.abort_with(now, &id, fresh.ok(), out),
        }
    }

    /// A transactional id of which something is known.
    pub(super) fn entry_of(&self, id: &Name) -> Result<&TxnEntry, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        self.ids.get(id).ok_or(ErrorCode::InvalidProducerIdMapping)
    }

    /// Whether these are partitions of the producer's transaction that is going on (KIP-890): an error for each.
    #[must_use]
    pub fn verify(
        &self,
        id: &Name,
        producer: TxnProducer,
        partitions: &[TxnPartition],
    ) -> Vec<ErrorCode> {
        // What is pending does not count: as long as the transaction is not decided no marker is written.
        let facts = self.entry_of(id).map(|entry| &entry.facts);
        let facts = facts.and_then(|facts| check_producer(facts, producer).map(|()| facts));
        let facts = match facts {
            Ok(facts) if facts.state.decided().is_some() => Err(ErrorCode::ConcurrentTransactions),
            other => other,
        };
        let of_each = |it: &TxnPartition| match facts {
            Ok(facts) if facts.partitions.contains(it) => ErrorCode::None,
            Ok(_) => ErrorCode::TransactionAbortable,
            Err(error) => error,
        };
        partitions.iter().map(of_each).collect()
    }

    /// What is known of an id, if there is something that is committed.
    #[must_use]
    pub fn facts(&self, id: &str) -> Option<&TxnFacts> {
        let facts = &self.ids.get(id)?.facts;
        (facts.epoch != NO_EPOCH).then_some(facts)
    }

    /// The ids behind this one, in their order.
    pub fn facts_after(&self, after: Option<&Name>) -> impl Iterator<Item = (&Name, &TxnFacts)> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.clone()));
        let all = self.ids.range((from, Bound::Unbounded));
        let all = all.map(|(id, entry)| (id, &entry.facts));
        all.filter(|(_, facts)| facts.epoch != NO_EPOCH)
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.appends.is_empty()
    }

    /// Whether there is a late append: see [`TxnCoordinator::late`].
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.late > 0
    }

    /// It is given up: appends still end, and nothing else is wanted of it.
    pub fn unload(&mut self) {
        self.is_unloading = true;
        self.timers = Timers::default();
    }

    /// Panics if something is wrong inside. For tests and the simulator.
    pub fn invariants(&self) {
        self.timers.invariants();
        let mut usage = TxnUsage::default();
        let of_each = self.ids.iter().map(|(id, it)| it.usage(id));
        of_each.for_each(|it| usage.change(TxnUsage::default(), it));
        assert_eq!(self.usage, usage, "what the ids take");
        for (id, entry) in &self.ids {
            let facts = &entry.facts;
            let pending = entry.pending.and_then(|append| self.appends.get(&append));
            assert_eq!(entry.pending.is_some(), pending.is_some(), "{id} waits");
            let adds = |it: &&TxnWrite| !it.is_late && matches!(it.then, TxnThen::Added(_));
            let is_add = pending.filter(adds).is_some();
            assert!(
                entry.waiting.is_empty() || is_add,
                "{id}: nothing to wait for"
            );
            assert!(entry.waiting.is_whole(), "{id}: who wants these");
            if let Some(marking) = &entry.marking {
                assert!(facts.state.decided().is_some(), "{id}: markers of nothing");
                assert!(marking.is_within(&facts.partitions), "{id}: other markers");
            }
            let waits = entry.marking.as_ref().is_some_and(Marking::waits);
            let sleeps = !self.timers.contains(id) && !self.is_unloading;
            assert!(
                !sleeps || waits || pending.is_some(),
                "{id} would miss its time"
            );
        }
        let late = self.appends.values().filter(|write| write.is_late).count();
        assert_eq!(late, self.late, "late appends");
    }
}

/// What an InitProducerId makes of an id.
enum Initialized {
    Begins(TxnFacts),
    /// The transaction of the producer before is aborted first.
    Fences(TxnFacts),
    NeedsProducerId,
}

/// Whether a producer is the newest one of its transactional id.
pub(super) fn check_producer(facts: &TxnFacts, producer: TxnProducer) -> Result<(), ErrorCode> {
    if facts.producer_id != producer.id {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    match facts.epoch == producer.epoch {
        true => Ok(()),
        false => Err(ErrorCode::ProducerFenced),
    }
}

/// Whether a producer may be the one that has the id, or had it.
fn is_known(facts: &TxnFacts, producer: TxnProducer) -> bool {
    facts.epoch == NO_EPOCH
        || producer.id == facts.producer_id
        || (producer.id == facts.previous_producer_id && producer.epoch >= LAST_EPOCH)
}

/// The next epoch, and the one from which the producer comes.
fn next_epoch(facts: &TxnFacts, expected: Option<TxnProducer>) -> Result<(i16, i16), ErrorCode> {
    let next = facts.epoch.checked_add(1).ok_or(ErrorCode::ProducerFenced);
    match expected {
        None => Ok((next?, NO_EPOCH)),
        Some(_) if facts.epoch == NO_EPOCH => Ok((next?, facts.epoch)),
        Some(it) if it.epoch == facts.epoch => Ok((next?, facts.epoch)),
        // It asks again: the answer was lost.
        Some(it) if it.epoch == facts.last_epoch => Ok((facts.epoch, facts.last_epoch)),
        Some(_) => Err(ErrorCode::ProducerFenced),
    }
}
