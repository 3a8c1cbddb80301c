//! Random producers, of version 2 and of before, against the coordinator, while appends are late, refused or lost,
//! markers fail, producer ids are not to be had, and other nodes take over. What was decided stays decided, every
//! partition gets what was decided, and nobody is told of another transaction's end than of the one that was meant.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::records::{parse_txn_key, parse_txn_value, txn_record};
use super::state::{LAST_EPOCH, NO_PRODUCER_ID, TxnFacts, TxnPartition};
use super::testing::{World, partition};
use super::{TxnProducer, TxnState, TxnVersion};
use crate::base::ErrorCode;

const IDS: [&str; 2] = ["t", "u"];

#[derive(Clone, Debug)]
enum Step {
    Init(usize, bool),
    Add(usize, i32),
    /// Committed or not, by a client of version 2 or of before.
    End(usize, bool, bool),
    /// One that was before goes on, or asks again.
    Zombie(usize, bool, bool),
    /// The last node of an earlier release is gone.
    Upgrade,
    /// Producer ids are to be had, or are not.
    Ids(bool),
    AppendEnds(bool),
    AppendIsLate,
    /// Of the oldest markers these partitions are written.
    Mark(u8),
    Advance(u64),
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..2usize;
    prop_oneof![
        3 => (who.clone(), any::<bool>()).prop_map(|(who, known)| Step::Init(who, known)),
        6 => (who.clone(), 0..4i32).prop_map(|(who, it)| Step::Add(who, it)),
        5 => (who.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(who, commits, bumps)| Step::End(who, commits, bumps)),
        2 => (who, any::<bool>(), any::<bool>())
            .prop_map(|(who, commits, bumps)| Step::Zombie(who, commits, bumps)),
        1 => Just(Step::Upgrade),
        1 => any::<bool>().prop_map(Step::Ids),
        12 => proptest::bool::weighted(0.9).prop_map(Step::AppendEnds),
        2 => Just(Step::AppendIsLate),
        6 => any::<u8>().prop_map(Step::Mark),
        3 => (0..200u64).prop_map(Step::Advance),
        1 => (0..20_000u64).prop_map(Step::Advance),
        1 => (0..3usize).prop_map(Step::Restart),
    ]
}

struct Model {
    world: World,
    /// What each client thinks that it is, and all that it was.
    producers: [Vec<TxnProducer>; 2],
    /// What waits, with what it becomes if it is answered well.
    inits: BTreeMap<u64, usize>,
    adds: BTreeMap<u64, (usize, TxnProducer, TxnPartition)>,
    ends: BTreeMap<u64, (usize, TxnProducer, bool, TxnVersion)>,
    /// How the last transaction of each producer was decided.
    outcomes: BTreeMap<(i64, i16), bool>,
    /// The newest epoch of each producer in each partition, that of records or of markers.
    epochs: BTreeMap<(i64, TxnPartition), i16>,
    /// Records of the log that were looked at.
    seen: usize,
    last: BTreeMap<String, TxnFacts>,
    /// Partitions of the transaction of each id whose marker is written, since it was decided.
    marked: BTreeMap<String, BTreeSet<TxnPartition>>,
    /// Partitions that a client was told to be in its transaction, since it began.
    promised: BTreeMap<usize, (TxnProducer, BTreeSet<TxnPartition>)>,
}

impl Model {
    /// With ids that begin at an epoch.
    fn new(epoch: i16, version: TxnVersion) -> Self {
        let mut world = World::new();
        for (id, producer_id) in IDS.into_iter().zip(1..).filter(|_| epoch > 0) {
            let facts = TxnFacts::new(producer_id, 10_000, world.now.wall_ms);
            let facts = facts.empty(epoch, -1, 10_000, world.now.wall_ms);
            world.log.push(txn_record(id, Some(&facts), version));
        }
        world.restart(0);
        world.set_version(version);
        let mut model = Self {
            world,
            producers: Default::default(),
            inits: BTreeMap::new(),
            adds: BTreeMap::new(),
            ends: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            epochs: BTreeMap::new(),
            seen: 0,
            last: BTreeMap::new(),
            marked: BTreeMap::new(),
            promised: BTreeMap::new(),
        };
        model.look();
        model
    }

    /// The version of a client, which may be of version 2 where the cluster is.
    fn version(&self, bumps: bool) -> TxnVersion {
        match bumps {
            true => self.world.version,
            false => TxnVersion::V0,
        }
    }

    fn step(&mut self, step: Step) {
        let of_client = match step {
            Step::End(_, _, bumps) | Step::Zombie(_, _, bumps) => self.version(bumps),
            _ => TxnVersion::V0,
        };
        let world = &mut self.world;
        match step {
            Step::Init(who, known) => {
                let expected = self.producers[who].last().filter(|_| known).copied();
                let token = world.init(IDS[who], 10_000, expected);
                self.inits.insert(token, who);
            }
            Step::Add(who, index) => {
                if let Some(&producer) = self.producers[who].last() {
                    let added = partition("a", index);
                    let token = world.add(IDS[who], producer, std::slice::from_ref(&added));
                    self.adds.insert(token, (who, producer, added));
                }
            }
            Step::End(who, commits, _) => {
                if let Some(&producer) = self.producers[who].last() {
                    let token = world.end_by(IDS[who], producer, commits, of_client);
                    self.ends.insert(token, (who, producer, commits, of_client));
                }
            }
            Step::Zombie(who, commits, bumps) => {
                if let [.., zombie, newest] = self.producers[who][..]
                    && zombie != newest
                {
                    let appends = world.appends.len();
                    let token = world.end_by(IDS[who], zombie, commits, of_client);
                    assert_eq!(world.appends.len(), appends, "{zombie:?} does nothing");
                    let told = world.producers.remove(&token);
                    let ended = self.outcomes.get(&(zombie.id, zombie.epoch));
                    match told.expect("it is told at once") {
                        Ok(_) => assert!(bumps && ended == Some(&commits), "{zombie:?} {ended:?}"),
                        Err(error) => assert!(!error.is_none()),
                    }
                }
            }
            Step::Upgrade => world.set_version(TxnVersion::V2),
            Step::Ids(are_there) => world.let_ids(are_there),
            Step::AppendEnds(true) => drop(world.commit()),
            Step::AppendEnds(false) => world.refuse(ErrorCode::NotEnoughReplicas),
            Step::AppendIsLate => {
                if let Some((append, _)) = world.appends.front() {
                    let append = *append;
                    world.act(|it, _, out| it.late(append, ErrorCode::RequestTimedOut, out));
                }
            }
            Step::Mark(which) => {
                let of = |it: &TxnPartition| match which >> it.1 & 1 {
                    1 => ErrorCode::None,
                    _ => ErrorCode::NotLeaderOrFollower,
                };
                self.look();
                self.mark(of);
            }
            Step::Advance(ms) => world.advance(ms),
            Step::Restart(found) => {
                world.restart(found);
                // Who waits is told nothing, and looks for the coordinator again.
                self.inits.clear();
                self.adds.clear();
                self.ends.clear();
            }
        }
        self.look();
        self.answers();
    }

    /// Markers are those of what the log says, and of nothing that was decided otherwise.
    fn mark(&mut self, of: impl Fn(&TxnPartition) -> ErrorCode) {
        let Some(markers) = self.world.mark(&of) else {
            return;
        };
        let facts = &self.last[&*markers.id];
        // A round that was sent before another node led is answered to nobody.
        assert_eq!(
            facts.state.decided(),
            Some(markers.commits),
            "what was decided"
        );
        assert_eq!(facts.epoch, markers.producer.epoch);
        assert_eq!(facts.producer_id, markers.producer.id);
        assert_eq!(facts.version, markers.version);
        let (producer, version) = (markers.producer, markers.version);
        let marked = self.marked.entry(markers.id.to_string()).or_default();
        for it in markers.partitions {
            assert!(facts.partitions.contains(&it));
            if of(&it).is_none() {
                let epoch = self.epochs.entry((producer.id, it.clone())).or_insert(-1);
                let is_first = !marked.contains(&it);
                let grows = version.bumps_epoch() && is_first && producer.epoch < i16::MAX;
                assert!(
                    producer.epoch >= *epoch + i16::from(grows),
                    "a log refuses it"
                );
                *epoch = producer.epoch;
                marked.insert(it);
            }
        }
    }

    /// Looks at what is new in the log.
    fn look(&mut self) {
        for (key, value) in &self.world.log[self.seen..] {
            let id = parse_txn_key(key).unwrap().unwrap().to_owned();
            let facts = value.as_ref().map(|value| parse_txn_value(value).unwrap());
            let facts = facts.expect("nothing is forgotten so early");
            let before = self.last.get(&id);
            self.look_at(&id, before, &facts);
            if let Some(before) = before
                && facts.state.decided().is_some()
            {
                let who = IDS.iter().position(|it| *it == id);
                // Whoever ends it, what its client was told to be in it is.
                let promised = who.and_then(|who| self.promised.remove(&who));
                let promised = promised.map(|(_, partitions)| partitions);
                assert!(promised.is_none_or(|it| it.is_subset(&facts.partitions)));
                let ended = (before.producer_id, before.epoch);
                self.outcomes
                    .insert(ended, facts.state == TxnState::PrepareCommit);
            }
            if facts.state == TxnState::Ongoing
                || before.is_some_and(|it| it.state.decided().is_none())
            {
                self.marked.remove(&id);
            }
            self.last.insert(id, facts);
        }
        self.seen = self.world.log.len();
    }

    /// What a record of an id may be behind the one before.
    fn look_at(&self, id: &str, before: Option<&TxnFacts>, facts: &TxnFacts) {
        let was = before.map(|it| it.state);
        let Some(before) = before else {
            return assert_eq!((was, facts.state), (None, TxnState::Empty));
        };
        let is_at_rest = before.state.decided().is_none() && before.state != TxnState::Ongoing;
        let (ended, now) = (
            (before.producer_id, before.epoch),
            (facts.producer_id, facts.epoch),
        );
        assert!(now >= ended, "{id}: {ended:?} {now:?}");
        // Where the cluster is not of version 2 records do not say it.
        let previous = [before.producer_id, NO_PRODUCER_ID];
        assert!(previous.contains(&facts.previous_producer_id));
        match facts.state {
            TxnState::Empty => assert!(is_at_rest),
            TxnState::Ongoing => {
                assert!(
                    is_at_rest || before.state == TxnState::Ongoing,
                    "{id} {was:?}"
                );
                assert_eq!(now, ended, "nobody else has begun it");
            }
            TxnState::PrepareCommit | TxnState::PrepareAbort => {
                let bumps = facts.version.bumps_epoch();
                let of_nothing = bumps && facts.state == TxnState::PrepareAbort && is_at_rest;
                assert!(
                    of_nothing || before.state == TxnState::Ongoing,
                    "{id} {was:?}"
                );
                assert_eq!(before.partitions, facts.partitions);
                assert_eq!(facts.producer_id, before.producer_id);
                let next = before.epoch.saturating_add(1);
                assert!(facts.epoch == next || (!bumps && facts.epoch == before.epoch));
                let needs_id = bumps && before.epoch >= LAST_EPOCH;
                assert_eq!(facts.next_producer_id != NO_PRODUCER_ID, needs_id);
            }
            TxnState::CompleteCommit | TxnState::CompleteAbort => {
                let commits = facts.state == TxnState::CompleteCommit;
                assert_eq!(before.state, TxnState::prepare(commits), "undecided");
                assert_eq!(before.next_producer(), now);
                let marked = self.marked.get(id).cloned().unwrap_or_default();
                assert_eq!(before.partitions, marked, "all have their marker");
            }
        }
    }

    fn answers(&mut self) {
        for (token, result) in std::mem::take(&mut self.world.producers) {
            if let (Some((who, asked, commits, version)), Ok(producer)) =
                (self.ends.remove(&token), result)
            {
                let facts = &self.last[IDS[who]];
                let ended = [TxnState::prepare(commits), TxnState::complete(commits)];
                assert!(ended.contains(&facts.state), "{:?}", facts.state);
                assert_eq!(facts.next_producer(), (producer.id, producer.epoch));
                let outcome = self.outcomes.get(&(asked.id, asked.epoch));
                if version.bumps_epoch() {
                    assert_eq!(outcome, Some(&commits), "another transaction");
                    assert!(producer > asked || asked.epoch == i16::MAX);
                    self.became(who, producer);
                } else {
                    assert_eq!(producer, asked);
                }
            }
            if let (Some(who), Ok(producer)) = (self.inits.remove(&token), result) {
                let facts = &self.last[IDS[who]];
                assert_eq!(
                    (facts.producer_id, facts.epoch),
                    (producer.id, producer.epoch)
                );
                self.became(who, producer);
                self.promised.remove(&who);
            }
        }
        for (token, error) in std::mem::take(&mut self.world.done) {
            if let Some((who, producer, added)) = self.adds.remove(&token)
                && error.is_none()
            {
                let facts = &self.last[IDS[who]];
                assert!(facts.state == TxnState::Ongoing && facts.partitions.contains(&added));
                let none = || (producer, BTreeSet::new());
                let promised = self.promised.entry(who).or_insert_with(none);
                if promised.0 != producer {
                    *promised = none();
                }
                promised.1.insert(added.clone());
                // It is written to in that epoch.
                let epoch = self.epochs.entry((producer.id, added)).or_insert(-1);
                assert!(producer.epoch >= *epoch, "a log refuses it");
                *epoch = producer.epoch;
            }
        }
    }

    /// A client knows as whom it goes on.
    fn became(&mut self, who: usize, producer: TxnProducer) {
        let known = &mut self.producers[who];
        if known.last() != Some(&producer) {
            assert!(!known.contains(&producer), "an epoch is had once");
            known.push(producer);
        }
    }

    /// When nothing fails any more each transaction comes to an end.
    fn settle(&mut self) {
        self.world.let_ids(true);
        for _ in 0..200 {
            while self.world.commit() {
                self.look();
            }
            self.mark(|_| ErrorCode::None);
            self.look();
            self.world.advance(1000);
            self.look();
        }
        assert!(self.world.appends.is_empty() && self.world.markers.is_empty());
        let is_at_rest =
            |facts: &TxnFacts| facts.state.decided().is_none() && facts.state != TxnState::Ongoing;
        assert!(self.last.values().all(is_at_rest), "{:?}", self.last);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_decided_is_done(
        steps in prop::collection::vec(step(), 1..150),
        left in prop_oneof![Just(i16::MAX), 0..4i16],
        bumps in any::<bool>(),
    ) {
        let version = if bumps { TxnVersion::V2 } else { TxnVersion::V0 };
        let mut model = Model::new(LAST_EPOCH.saturating_sub(left).max(0), version);
        for step in steps {
            model.step(step);
        }
        model.settle();
    }
}
