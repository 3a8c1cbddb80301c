//! The coordinators of transactions of a shard, by partition, what they are asked and what they answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::instance::InstanceState;
use crate::base::coordinating::Record;
use crate::base::fields::RecordError;
use crate::base::{ErrorCode, Mono, Name, Now, Timers, limits};
use crate::txn::{
    EndTxn, InitTxn, MarkersToSend, NeedsId, TxnConfig, TxnCoordinator, TxnEffect, TxnFacts,
    TxnPartition, TxnProducer, TxnState, TxnUsage, TxnVersion,
};

/// A question about a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnAsk {
    /// InitProducerId.
    Init(InitTxn),
    /// More partitions for the transaction, and by which version it goes.
    Add(Name, TxnProducer, Vec<TxnPartition>, TxnVersion),
    /// Whether they are part of it.
    Verify(Name, TxnProducer, Vec<TxnPartition>),
    /// EndTxn.
    End(EndTxn),
    /// What is known.
    Describe(Name),
    /// Which ids there are behind this one, in all partitions of the shard: some of them.
    List(TxnFilter, Option<TxnPlace>),
}

impl TxnAsk {
    /// The transactional id that it is about, if it is about one.
    #[must_use]
    pub fn id(&self) -> Option<&Name> {
        match self {
            Self::Init(request) => Some(&request.id),
            Self::End(request) => Some(&request.id),
            Self::Add(id, ..) | Self::Verify(id, ..) | Self::Describe(id) => Some(id),
            Self::List(..) => None,
        }
    }

    /// The answer if it is refused.
    #[must_use]
    pub fn refused(&self, error: ErrorCode) -> TxnAnswer {
        match self {
            Self::Init(_) | Self::End(_) => TxnAnswer::Producer(Err(error)),
            Self::Add(..) => TxnAnswer::Done(error),
            Self::Verify(_, _, partitions) => TxnAnswer::Verified(vec![error; partitions.len()]),
            Self::Describe(_) => TxnAnswer::Described(Err(error)),
            Self::List(..) => TxnAnswer::Listed(Err(error)),
        }
    }
}

/// A transactional id as a place in the list of all of a shard, with its partition.
pub type TxnPlace = (i32, Name);

/// Which transactions ListTransactions is to tell of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnFilter {
    states: Option<Vec<TxnState>>,
    /// In their order: each id of the shard is looked for in them.
    producer_ids: Arc<[i64]>,
    longer_than_ms: i64,
}

impl TxnFilter {
    /// Those in one of these states, or in all without any; of one of these producer ids, if there are some; that have
    /// been going on for longer than this, ms, if it is not negative. States and ids may be there many times.
    #[must_use]
    pub fn new(
        states: Option<Vec<TxnState>>,
        mut producer_ids: Vec<i64>,
        longer_than_ms: i64,
    ) -> Self {
        producer_ids.sort_unstable();
        let states = states.map(|states| {
            let all = TxnState::ALL.into_iter();
            all.filter(|state| states.contains(state)).collect()
        });
        Self {
            states,
            producer_ids: producer_ids.into(),
            longer_than_ms,
        }
    }

    fn wants(&self, facts: &TxnFacts, now_ms: i64) -> bool {
        let took = now_ms.saturating_sub(facts.start_ms);
        self.states
            .as_ref()
            .is_none_or(|states| states.contains(&facts.state))
            && (self.producer_ids.is_empty()
                || self.producer_ids.binary_search(&facts.producer_id).is_ok())
            && (self.longer_than_ms < 0 || took > self.longer_than_ms)
    }
}

/// A transactional id as ListTransactions tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTxn {
    /// The id.
    pub id: Name,
    /// Its producer id.
    pub producer_id: i64,
    /// State.
    pub state: TxnState,
}

/// The answer to a [`TxnAsk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnAnswer {
    /// Of an InitProducerId or an EndTxn: as whom the producer goes on.
    Producer(Result<TxnProducer, ErrorCode>),
    /// It is done, or why not.
    Done(ErrorCode),
    /// An error for each partition.
    Verified(Vec<ErrorCode>),
    /// What is known of an id.
    Described(Result<Box<TxnFacts>, ErrorCode>),
    /// Some ids of the shard, and the place behind which there may be more.
    Listed(Result<(Vec<ListedTxn>, Option<TxnPlace>), ErrorCode>),
}

/// What the host wants done. Each question gets one answer, sooner or later.
#[derive(Debug)]
pub enum TxnHostEffect {
    /// Answer the question of this token.
    Answer(u64, TxnAnswer),
    /// Call [`TxnHost::got_id`] for this partition with a producer id that nobody has, or why there is none.
    NeedsProducerId(i32, NeedsId),
    /// Append these records to this partition as one batch; then call [`TxnHost::appended`] with the number.
    Append {
        /// The partition.
        partition: i32,
        /// Number of the append, within the partition.
        append: u64,
        /// At least one.
        records: Arc<[Record]>,
        /// By it a transaction ends: see [`TxnEffect::Append`].
        ends: bool,
    },
    /// Have these markers of a partition's ids written; then call [`TxnHost::marked`].
    Markers(i32, MarkersToSend),
}

#[derive(Debug)]
struct TxnInstance {
    state: InstanceState,
    coordinator: TxnCoordinator,
}

/// See the module.
#[derive(Debug)]
pub struct TxnHost {
    config: TxnConfig,
    instances: BTreeMap<i32, TxnInstance>,
    usage: TxnUsage,
    /// When instances have something to do by themselves.
    due: Timers<i32>,
    stopped: bool,
}

impl TxnHost {
    /// A host without instances.
    #[must_use]
    pub fn new(config: TxnConfig) -> Self {
        Self {
            config,
            instances: BTreeMap::new(),
            usage: TxnUsage::default(),
            due: Timers::default(),
            stopped: false,
        }
    }

    /// What the transactional ids of all instances take.
    #[must_use]
    pub const fn usage(&self) -> &TxnUsage {
        &self.usage
    }

    /// Begins to load a partition; false if it has begun before, or none is taken any more.
    pub fn open(&mut self, partition: i32) -> bool {
        if self.stopped || self.instances.contains_key(&partition) {
            return false;
        }
        let instance = TxnInstance {
            state: InstanceState::Loading,
            coordinator: TxnCoordinator::new(self.config),
        };
        self.instances.insert(partition, instance);
        true
    }

    /// Applies one record of a partition that is being loaded, in log order.
    ///
    /// # Errors
    /// If the record is malformed: it changes nothing.
    pub fn replay(
        &mut self,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), RecordError> {
        let mut replayed = Ok(());
        self.with(partition, &mut Vec::new(), |instance, _| {
            replayed = instance.coordinator.replay(key, value);
        });
        replayed
    }

    /// A partition cannot be read: see [`InstanceState::Failed`].
    pub fn fail(&mut self, partition: i32) {
        let config = self.config;
        self.with(partition, &mut Vec::new(), |instance, _| {
            instance.state = InstanceState::Failed;
            instance.coordinator = TxnCoordinator::new(config);
        });
    }

    /// Every record of a partition has been replayed; call it also if there was none.
    pub fn loaded(&mut self, partition: i32) {
        self.with(partition, &mut Vec::new(), |instance, _| {
            instance.state = InstanceState::Active;
        });
    }

    /// The state of an instance, if there is one.
    #[must_use]
    pub fn state(&self, partition: i32) -> Option<InstanceState> {
        self.instances.get(&partition).map(|it| it.state)
    }

    /// Asks the coordinator of a partition; which one does not matter where it is about no id.
    pub fn ask(
        &mut self,
        now: Now,
        (token, partition): (u64, i32),
        ask: TxnAsk,
        out: &mut Vec<TxnHostEffect>,
    ) {
        if let TxnAsk::List(filter, after) = &ask {
            let listed = self.list(filter, after.as_ref(), now.wall_ms);
            return out.push(TxnHostEffect::Answer(token, TxnAnswer::Listed(listed)));
        }
        if let Err(error) = self.serves(partition) {
            return out.push(TxnHostEffect::Answer(token, ask.refused(error)));
        }
        self.answering(partition, out, |instance, effects| {
            let coordinator = &mut instance.coordinator;
            let answer = match ask {
                TxnAsk::Init(request) => {
                    coordinator.init(now, token, request, effects);
                    None
                }
                TxnAsk::Add(id, producer, partitions, version) => {
                    let (of, more) = ((&id, producer), (partitions, version));
                    coordinator.add_partitions(now, token, of, more, effects);
                    None
                }
                TxnAsk::End(request) => {
                    coordinator.end(now, token, request, effects);
                    None
                }
                TxnAsk::Verify(id, producer, partitions) => {
                    let errors = coordinator.verify(&id, producer, &partitions);
                    Some(TxnAnswer::Verified(errors))
                }
                TxnAsk::Describe(id) => {
                    let facts = coordinator.facts(&id).cloned().map(Box::new);
                    let facts = facts.ok_or(ErrorCode::TransactionalIdNotFound);
                    Some(TxnAnswer::Described(facts))
                }
                TxnAsk::List(..) => None,
            };
            answer.map(|answer| TxnHostEffect::Answer(token, answer))
        });
    }

    fn serves(&self, partition: i32) -> Result<(), ErrorCode> {
        match self.state(partition) {
            _ if self.stopped => Err(ErrorCode::CoordinatorNotAvailable),
            Some(state) => state.serves(),
            None => Err(ErrorCode::NotCoordinator),
        }
    }

    /// What [`TxnHostEffect::NeedsProducerId`] asked for, or why there is none.
    pub fn got_id(
        &mut self,
        now: Now,
        (partition, needs): (i32, NeedsId),
        fresh: Result<i64, ErrorCode>,
        out: &mut Vec<TxnHostEffect>,
    ) {
        let fresh = self.serves(partition).and(fresh);
        if self.instances.contains_key(&partition) {
            return self.with(partition, out, |instance, effects| {
                instance.coordinator.got_id(now, needs, fresh, effects);
            });
        }
        if let (NeedsId::Init(token, _) | NeedsId::End(token, _), Err(error)) = (needs, fresh) {
            out.push(TxnHostEffect::Answer(
                token,
                TxnAnswer::Producer(Err(error)),
            ));
        }
    }

    /// The cluster's `transaction.version` is this from now on.
    pub fn set_version(&mut self, version: TxnVersion) {
        self.config.version = version;
        let instances = self.instances.values_mut();
        instances.for_each(|instance| instance.coordinator.set_version(version));
    }

    /// How many partitions a question is about, with those that are written down again for it.
    #[must_use]
    pub fn partitions_of(&self, partition: i32, ask: &TxnAsk) -> usize {
        let instance = self.instances.get(&partition);
        let known = |id: &Name| {
            let facts = instance.and_then(|it| it.coordinator.facts(id));
            facts.map_or(0, |facts| facts.partitions.len())
        };
        match ask {
            TxnAsk::Init(InitTxn { id, .. }) | TxnAsk::End(EndTxn { id, .. }) => known(id),
            TxnAsk::List(..) => 0,
            TxnAsk::Add(id, _, partitions, _) => partitions.len() + known(id),
            TxnAsk::Verify(_, _, partitions) => partitions.len(),
            TxnAsk::Describe(id) => known(id),
        }
    }

    /// Some ids behind this one.
    fn list(
        &self,
        filter: &TxnFilter,
        after: Option<&TxnPlace>,
        now_ms: i64,
    ) -> Result<(Vec<ListedTxn>, Option<TxnPlace>), ErrorCode> {
        /// Of an id, that cost as much as an id without any.
        const ID_BYTES: usize = 128;
        if self.stopped {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let mut states = self.instances.values().map(|it| it.state);
        if states.any(|state| state == InstanceState::Loading) {
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        let from = after.map_or(i32::MIN, |(partition, _)| *partition);
        let instances = self.instances.range(from..);
        let active = instances.filter(|(_, it)| it.state == InstanceState::Active);
        let all = active.flat_map(|(of, it)| {
            let after = after.filter(|(partition, _)| partition == of);
            let ids = it.coordinator.facts_after(after.map(|(_, id)| id));
            ids.map(|(id, facts)| (*of, id, facts))
        });
        let (mut listed, mut left) = (Vec::new(), limits::LISTED_PER_SLICE);
        for (partition, id, facts) in all {
            if filter.wants(facts, now_ms) {
                listed.push(ListedTxn {
                    id: id.clone(),
                    producer_id: facts.producer_id,
                    state: facts.state,
                });
            }
            left = left.saturating_sub(1 + id.len() / ID_BYTES);
            if left == 0 {
                return Ok((listed, Some((partition, id.clone()))));
            }
        }
        Ok((listed, None))
    }

    /// Whoever waits for an append is told this error, though it may be committed yet; see [`TxnCoordinator::late`].
    pub fn late(
        &mut self,
        (partition, append): (i32, u64),
        error: ErrorCode,
        out: &mut Vec<TxnHostEffect>,
    ) {
        self.with(partition, out, |instance, effects| {
            instance.coordinator.late(append, error, effects);
        });
    }

    /// Whether a partition has a late append. Nothing more should be appended before that has ended: it would have to
    /// be kept for as long.
    #[must_use]
    pub fn is_behind(&self, partition: i32) -> bool {
        let instance = self.instances.get(&partition);
        instance.is_some_and(|instance| instance.coordinator.is_behind())
    }

    /// An append has ended. Those of one partition that are committed must be reported in the order in which they were
    /// asked for.
    pub fn appended(
        &mut self,
        now: Now,
        (partition, append): (i32, u64),
        result: Result<(), ErrorCode>,
        out: &mut Vec<TxnHostEffect>,
    ) {
        self.with(partition, out, |instance, effects| {
            instance.coordinator.appended(now, append, result, effects);
        });
    }

    /// Some markers of [`TxnHostEffect::Markers`] are written, or refused.
    pub fn marked(
        &mut self,
        now: Now,
        (partition, id, round): (i32, &Name, u64),
        results: Vec<(TxnPartition, ErrorCode)>,
        out: &mut Vec<TxnHostEffect>,
    ) {
        self.with(partition, out, |instance, effects| {
            instance
                .coordinator
                .marked(now, (id, round), results, effects);
        });
    }

    /// Does what is due, a slice of it; the rest still is.
    pub fn tick(&mut self, now: Now, out: &mut Vec<TxnHostEffect>) {
        let mut left = limits::TXN_IDS_PER_SLICE;
        while left > 0
            && let Some(partition) = self.due.pop_due(now.mono)
        {
            left -= 1;
            self.with(partition, out, |instance, effects| {
                instance.coordinator.tick(now, &mut left, effects);
            });
        }
    }

    /// When [`TxnHost::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Mono {
        self.due.next_deadline()
    }

    /// A partition is given up. Appends in flight still end with [`TxnHost::appended`]; when they have, it
    /// [may be opened](TxnHost::open) again.
    pub fn unload(&mut self, partition: i32) {
        self.with(partition, &mut Vec::new(), |instance, _| {
            instance.state = InstanceState::Unloading;
            instance.coordinator.unload();
        });
    }

    /// The broker goes down: further questions get COORDINATOR_NOT_AVAILABLE. Appends in flight still end with
    /// [`TxnHost::appended`].
    pub fn stop(&mut self) {
        self.stopped = true;
        let all: Vec<i32> = self.instances.keys().copied().collect();
        all.into_iter().for_each(|partition| self.unload(partition));
    }

    /// Lets an instance do something, and passes on what it wants.
    fn with(
        &mut self,
        partition: i32,
        out: &mut Vec<TxnHostEffect>,
        act: impl FnOnce(&mut TxnInstance, &mut Vec<TxnEffect>),
    ) {
        self.answering(partition, out, |instance, effects| {
            act(instance, effects);
            None
        });
    }

    /// The same for what may be answered at once.
    fn answering(
        &mut self,
        partition: i32,
        out: &mut Vec<TxnHostEffect>,
        act: impl FnOnce(&mut TxnInstance, &mut Vec<TxnEffect>) -> Option<TxnHostEffect>,
    ) {
        let Some(instance) = self.instances.get_mut(&partition) else {
            return;
        };
        let before = instance.coordinator.usage();
        instance.coordinator.set_room(TxnUsage {
            ids: limits::TXN_IDS_MAX.saturating_sub(self.usage.ids),
            bytes: limits::TXN_BYTES_MAX.saturating_sub(self.usage.bytes),
        });
        let mut effects = Vec::new();
        out.extend(act(instance, &mut effects));
        out.extend(effects.into_iter().map(|effect| match effect {
            TxnEffect::Append {
                append,
                records,
                ends,
            } => TxnHostEffect::Append {
                partition,
                append,
                records,
                ends,
            },
            TxnEffect::Producer(token, result) => {
                TxnHostEffect::Answer(token, TxnAnswer::Producer(result))
            }
            TxnEffect::NeedsProducerId(needs) => TxnHostEffect::NeedsProducerId(partition, needs),
            TxnEffect::Done(token, error) => TxnHostEffect::Answer(token, TxnAnswer::Done(error)),
            TxnEffect::Markers(markers) => TxnHostEffect::Markers(partition, markers),
        }));
        let coordinator = &instance.coordinator;
        let mut after = coordinator.usage();
        let deadline = match instance.state {
            InstanceState::Active => coordinator.next_deadline(),
            _ => Mono::NEVER,
        };
        if instance.state == InstanceState::Unloading && coordinator.is_quiet() {
            after = TxnUsage::default();
            self.instances.remove(&partition);
        }
        self.usage.change(before, after);
        if deadline == Mono::NEVER {
            self.due.cancel(&partition);
        } else {
            self.due.set(partition, deadline);
        }
    }

    /// Panics if something is wrong inside. For tests and the simulator.
    pub fn invariants(&self) {
        self.due.invariants();
        let mut usage = TxnUsage::default();
        for instance in self.instances.values() {
            instance.coordinator.invariants();
            usage.change(TxnUsage::default(), instance.coordinator.usage());
        }
        assert_eq!(self.usage, usage, "what the ids take");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::records::txn_record;

    const NOW: Now = Now {
        mono: Mono(1),
        wall_ms: 100_000,
    };

    fn host() -> TxnHost {
        TxnHost::new(TxnConfig {
            max_timeout_ms: 900_000,
            id_expiration_ms: 1_000_000,
            retry_ms: 100,
            version: TxnVersion::V0,
        })
    }

    fn init() -> TxnAsk {
        TxnAsk::Init(InitTxn {
            id: "t".into(),
            timeout_ms: 60_000,
            expected: None,
            fresh: Some(7),
        })
    }

    fn answer(host: &mut TxnHost, ask: TxnAsk) -> Option<TxnAnswer> {
        let mut out = Vec::new();
        host.ask(NOW, (9, 0), ask, &mut out);
        host.invariants();
        match out.pop() {
            Some(TxnHostEffect::Answer(9, answer)) => Some(answer),
            _ => None,
        }
    }

    fn listed(states: Option<Vec<TxnState>>, longer_than_ms: i64) -> TxnAsk {
        TxnAsk::List(TxnFilter::new(states, Vec::new(), longer_than_ms), None)
    }

    #[test]
    fn each_state_has_its_answer() {
        let mut host = host();
        let refused = |error| Some(TxnAnswer::Producer(Err(error)));
        assert_eq!(
            answer(&mut host, init()),
            refused(ErrorCode::NotCoordinator)
        );
        assert!(host.open(0) && !host.open(0));
        let loading = ErrorCode::CoordinatorLoadInProgress;
        assert_eq!(answer(&mut host, init()), refused(loading));
        let list = listed(None, -1);
        assert_eq!(
            answer(&mut host, list.clone()),
            Some(TxnAnswer::Listed(Err(loading)))
        );
        host.fail(0);
        assert_eq!(
            answer(&mut host, init()),
            refused(ErrorCode::NotCoordinator)
        );
        host.unload(0);
        assert!(host.open(0));
        host.loaded(0);
        let mut out = Vec::new();
        host.ask(NOW, (3, 0), init(), &mut out);
        let [TxnHostEffect::Append { append, .. }] = out[..] else {
            panic!("{out:?}");
        };
        host.stop();
        assert_eq!(host.state(0), Some(InstanceState::Unloading));
        let stopped = ErrorCode::CoordinatorNotAvailable;
        assert_eq!(answer(&mut host, init()), refused(stopped));
        out.clear();
        host.appended(NOW, (0, append), Ok(()), &mut out);
        let begun = TxnProducer { id: 7, epoch: 0 };
        assert!(
            matches!(&out[..], [TxnHostEffect::Answer(3, TxnAnswer::Producer(Ok(it)))] if *it == begun)
        );
        assert_eq!(host.state(0), None);
        host.invariants();
        assert!(!host.open(0), "nothing is taken any more");
    }

    #[test]
    fn many_ids_are_listed_by_parts_and_each_once() {
        let mut host = host();
        let facts = TxnFacts::new(1, 60_000, 0).empty(0, -1, 60_000, 0);
        let mut all = Vec::new();
        for partition in [0, 3] {
            host.open(partition);
            for n in 0..limits::LISTED_PER_SLICE {
                // Long ones cost more.
                let id = format!("{partition}-{n:05}{}", "x".repeat(n % 500));
                let (key, value) = txn_record(&id, Some(&facts), TxnVersion::V2);
                host.replay(partition, &key, value.as_deref()).unwrap();
                all.push(id);
            }
            host.loaded(partition);
        }
        let (mut after, mut told, mut parts) = (None, Vec::new(), 0);
        loop {
            let filter = TxnFilter::new(None, Vec::new(), -1);
            let Some(TxnAnswer::Listed(Ok((some, more)))) =
                answer(&mut host, TxnAsk::List(filter, after))
            else {
                panic!("not listed");
            };
            assert!(some.len() <= limits::LISTED_PER_SLICE);
            assert!(some.iter().map(|it| it.id.len()).sum::<usize>() < 1 << 20);
            told.extend(some.into_iter().map(|it| it.id.to_string()));
            (after, parts) = (more, parts + 1);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(told, all);
        assert!(parts > 2);
    }

    #[test]
    fn ids_are_described_and_listed_by_what_is_asked_for() {
        let mut host = host();
        host.open(0);
        let empty = TxnFacts::new(1, 60_000, 0).empty(0, -1, 60_000, 0);
        let ongoing = empty.with([("a".into(), 0)], TxnVersion::V0, 90_000);
        for (id, facts) in [("e", &empty), ("o", &ongoing)] {
            let (key, value) = txn_record(id, Some(facts), TxnVersion::V2);
            host.replay(0, &key, value.as_deref()).unwrap();
        }
        host.loaded(0);
        let mut ids = |ask| match answer(&mut host, ask) {
            Some(TxnAnswer::Listed(Ok((listed, None)))) => {
                let ids = listed.into_iter().map(|it| it.id.to_string());
                ids.collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(ids(listed(None, -1)), ["e", "o"]);
        assert_eq!(ids(listed(Some(vec![TxnState::Ongoing]), -1)), ["o"]);
        assert_eq!(ids(listed(Some(vec![]), -1)), [""; 0]);
        let of = |producers: &[i64]| {
            let filter = TxnFilter::new(None, producers.to_vec(), -1);
            TxnAsk::List(filter, None)
        };
        assert_eq!(ids(of(&[3, 1, 2, 1])), ["e", "o"]);
        assert_eq!(ids(of(&[2, 3])), [""; 0]);
        let described =
            |host: &mut TxnHost, id: &str| match answer(host, TxnAsk::Describe(id.into())) {
                Some(TxnAnswer::Described(facts)) => facts,
                other => panic!("{other:?}"),
            };
        assert_eq!(described(&mut host, "o").as_deref(), Ok(&ongoing));
        let unknown = Err(ErrorCode::TransactionalIdNotFound);
        assert_eq!(described(&mut host, "x"), unknown);
    }
}
