//! Random producers against the coordinator, while appends are late, refused or lost, markers fail, and other nodes
//! take over. What was decided stays decided, and every partition gets what was decided.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::records::{parse_txn_key, parse_txn_value};
use super::state::{TxnFacts, TxnPartition};
use super::testing::{World, partition};
use super::{TxnProducer, TxnState};
use crate::base::ErrorCode;

const IDS: [&str; 2] = ["t", "u"];

#[derive(Clone, Debug)]
enum Step {
    Init(usize, bool),
    Add(usize, i32),
    End(usize, bool),
    /// One that was fenced goes on.
    Zombie(usize, bool),
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
        4 => (who.clone(), any::<bool>()).prop_map(|(who, commits)| Step::End(who, commits)),
        1 => (who, any::<bool>()).prop_map(|(who, commits)| Step::Zombie(who, commits)),
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
    ends: BTreeMap<u64, (usize, TxnProducer, bool)>,
    /// Records of the log that were looked at.
    seen: usize,
    last: BTreeMap<String, TxnFacts>,
    /// Partitions of the transaction of each id whose marker is written, since it was decided.
    marked: BTreeMap<String, BTreeSet<TxnPartition>>,
    /// Partitions that a client was told to be in its transaction, since it began.
    promised: BTreeMap<usize, (TxnProducer, BTreeSet<TxnPartition>)>,
}

impl Model {
    fn new() -> Self {
        Self {
            world: World::new(),
            producers: Default::default(),
            inits: BTreeMap::new(),
            adds: BTreeMap::new(),
            ends: BTreeMap::new(),
            seen: 0,
            last: BTreeMap::new(),
            marked: BTreeMap::new(),
            promised: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: Step) {
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
            Step::End(who, commits) => {
                if let Some(&producer) = self.producers[who].last() {
                    let token = world.end(IDS[who], producer, commits);
                    self.ends.insert(token, (who, producer, commits));
                }
            }
            Step::Zombie(who, commits) => {
                if let [zombie, .., newest] = self.producers[who][..]
                    && zombie != newest
                {
                    let token = world.end(IDS[who], zombie, commits);
                    let told = world.done.remove(&token);
                    assert!(told.is_some_and(|it| !it.is_none()), "{zombie:?} is fenced");
                }
            }
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
        let marked = self.marked.entry(markers.id.to_string()).or_default();
        for it in markers.partitions {
            assert!(facts.partitions.contains(&it));
            if of(&it).is_none() {
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
            let was = before.map(|it| it.state);
            match facts.state {
                TxnState::Empty => {
                    assert!(was.is_none_or(|it| it.decided().is_none() && it != TxnState::Ongoing))
                }
                TxnState::Ongoing => {
                    assert!(was.is_some_and(|it| it.decided().is_none()), "{id} {was:?}");
                    self.marked.remove(&id);
                }
                TxnState::PrepareCommit | TxnState::PrepareAbort => {
                    assert_eq!(was, Some(TxnState::Ongoing));
                    assert_eq!(before.unwrap().partitions, facts.partitions);
                    // Whoever ends it, what its client was told to be in it is.
                    let who = IDS.iter().position(|it| *it == id);
                    let promised = who.and_then(|who| self.promised.remove(&who));
                    let promised = promised.map(|(_, partitions)| partitions);
                    assert!(promised.is_none_or(|it| it.is_subset(&facts.partitions)));
                }
                TxnState::CompleteCommit | TxnState::CompleteAbort => {
                    let before = before.unwrap();
                    let commits = facts.state == TxnState::CompleteCommit;
                    assert_eq!(before.state, TxnState::prepare(commits), "undecided");
                    let marked = self.marked.get(&id).cloned().unwrap_or_default();
                    assert_eq!(before.partitions, marked, "all have their marker");
                }
            }
            self.last.insert(id, facts);
        }
        self.seen = self.world.log.len();
    }

    fn answers(&mut self) {
        for (token, result) in std::mem::take(&mut self.world.inited) {
            if let (Some(who), Ok(producer)) = (self.inits.remove(&token), result) {
                let facts = &self.last[IDS[who]];
                assert_eq!(
                    (facts.producer_id, facts.epoch),
                    (producer.id, producer.epoch)
                );
                let known = &mut self.producers[who];
                if known.last() != Some(&producer) {
                    assert!(!known.contains(&producer), "an epoch is had once");
                    known.push(producer);
                }
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
                promised.1.insert(added);
            }
            if let Some((who, _, commits)) = self.ends.remove(&token)
                && error.is_none()
            {
                let facts = &self.last[IDS[who]];
                let ended = [TxnState::prepare(commits), TxnState::complete(commits)];
                assert!(ended.contains(&facts.state), "{:?}", facts.state);
            }
        }
    }

    /// When nothing fails any more each transaction comes to an end.
    fn settle(&mut self) {
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
    fn what_is_decided_is_done(steps in prop::collection::vec(step(), 1..150)) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
        model.settle();
    }
}
