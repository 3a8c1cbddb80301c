//! The users of the model, who are its judge: what they are told, and what becomes known of the nodes, must agree.

use std::collections::{BTreeMap, BTreeSet};

use super::machine::{Fact, Member, Said, Value, first_voters, node_of, value_of};
use crate::base::{LeaderEpoch, Rng};
use crate::quorum::{EntryId, Payload, ReplicaKey, VoterChange, Voters};
use crate::sim::messages::cluster::Users;

/// Users; the last one changes voters.
pub const USERS: usize = 4;
/// Turns for which a user waits for an answer.
const PATIENCE: u32 = 10;

/// What is wrong, by the name of what should hold.
fn broken(name: &str, what: impl std::fmt::Debug) -> Result<(), String> {
    Err(format!("{name}: {what:?}"))
}

/// What is known of an entry that somebody has applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    id: EntryId,
    hash: u64,
    value: Option<Value>,
}

/// See the module.
#[derive(Debug)]
pub struct Judge {
    /// The voters that there should be, by node; and whether healthy ones are removed for a while.
    voters: usize,
    removes: bool,
    /// Nothing goes wrong any more.
    pub is_calm: bool,
    asking: BTreeMap<usize, (Value, u32)>,
    /// Where users believe the leader to be.
    leader: usize,
    attempts: u64,
    /// Who was elected in a term, and in which of its node's lives.
    leaders: BTreeMap<LeaderEpoch, (ReplicaKey, u64)>,
    /// By node: how often it has started.
    starts: Vec<u64>,
    entries: BTreeMap<u64, Known>,
    places: BTreeMap<Value, u64>,
    /// Who has a vote, by the newest entry that says so.
    in_force: (u64, Voters),
    /// Replicas that were asked to be given one, and had none in the beginning.
    added: BTreeSet<ReplicaKey>,
    /// By node: which replica it is, and how far it has applied.
    nodes: Vec<(Option<ReplicaKey>, u64)>,
    /// By node: its log, as far as it is durable.
    logs: Vec<(EntryId, Vec<EntryId>)>,
    /// What users were told is committed.
    pub told: u64,
    /// How often logs were cut, snapshots fetched, voters changed, disks wiped, leaders elected.
    pub counts: Counted,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub elected: u64,
    pub snapshots: u64,
    pub installed: u64,
    pub changes: u64,
    pub wiped: u64,
}

impl Counted {
    /// All of both.
    pub fn with(self, other: Self) -> Self {
        Self {
            elected: self.elected + other.elected,
            snapshots: self.snapshots + other.snapshots,
            installed: self.installed + other.installed,
            changes: self.changes + other.changes,
            wiped: self.wiped + other.wiped,
        }
    }
}

impl Judge {
    /// Of so many voters, which are removed for a while or not, and others.
    pub fn new(voters: usize, removes: bool, nodes: usize) -> Self {
        Self {
            voters,
            removes,
            is_calm: false,
            asking: BTreeMap::new(),
            leader: 0,
            attempts: 0,
            leaders: BTreeMap::new(),
            starts: vec![0; nodes],
            entries: BTreeMap::new(),
            places: BTreeMap::new(),
            in_force: (0, first_voters(voters)),
            added: BTreeSet::new(),
            nodes: vec![(None, 0); nodes],
            logs: vec![(EntryId::default(), Vec::new()); nodes],
            told: 0,
            counts: Counted::default(),
        }
    }

    /// The last entry that anybody has applied.
    pub fn end(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(end, _)| *end)
    }

    /// Everybody should have applied this by now: those who have a vote, and observers.
    pub fn all_reached(&self, end: u64) -> Result<(), String> {
        for (node, (replica, applied)) in self.nodes.iter().enumerate() {
            let has_vote = replica.is_none_or(|replica| self.in_force.1.contains(replica));
            if (has_vote || node >= self.voters) && *applied < end {
                return broken("Progress", (node, replica, applied, end));
            }
        }
        match self.in_force.1.len() == self.voters {
            true => Ok(()),
            false => broken("VotersAreReplaced", &self.in_force),
        }
    }

    /// What should be done about voters: one that is no replica any more goes, one that is missing comes. An observer
    /// is one of them for a while where others are removed.
    fn change(&mut self, rng: &mut Rng) -> Option<VoterChange> {
        let all = &self.in_force.1;
        let fourth = all.iter().find(|voter| node_of(*voter) >= self.voters);
        if let Some(voter) = fourth.filter(|_| self.is_calm || rng.chance(1, 10)) {
            return Some(VoterChange::Remove(voter));
        }
        for (node, (replica, _)) in self.nodes[..self.voters].iter().enumerate() {
            let replica = (*replica)?;
            match all.iter().find(|voter| node_of(*voter) == node) {
                Some(voter) if voter != replica => return Some(VoterChange::Remove(voter)),
                None => return Some(VoterChange::Add(replica)),
                Some(_) => {}
            }
        }
        let removes = self.removes && !self.is_calm && rng.chance(1, 20);
        let any = rng.below(all.len() as u64) as usize;
        if removes && fourth.is_none() && rng.chance(1, 2) {
            let replica = self.nodes[self.voters].0?;
            self.added.insert(replica);
            return Some(VoterChange::Add(replica));
        }
        removes.then(|| VoterChange::Remove(all.iter().nth(any).expect("a voter")))
    }

    /// Nobody who lacks a committed entry can be elected, by the logs that there are.
    fn survives(&self, id: EntryId) -> Result<(), String> {
        let log = |voter: ReplicaKey| match self.nodes[node_of(voter)].0 {
            Some(replica) if replica == voter => Some(&self.logs[node_of(voter)]),
            // Its disk is gone, or it has not been there yet.
            _ => None,
        };
        let last = |(before, log): &(EntryId, Vec<EntryId>)| *log.last().unwrap_or(before);
        let has =
            |(before, log): &(EntryId, Vec<EntryId>)| id.index <= before.index || log.contains(&id);
        let voters = &self.in_force.1;
        for candidate in voters.iter().filter_map(log).filter(|log| !has(log)) {
            let would_vote = voters
                .iter()
                .filter_map(log)
                .filter(|log| last(log) <= last(candidate));
            if would_vote.count() >= voters.majority() {
                return broken("CommittedSurvivesElections", (id, &self.logs));
            }
        }
        Ok(())
    }

    fn applied(&mut self, node: usize, known: Known) -> Result<(), String> {
        let index = known.id.index.0;
        if self.nodes[node].1 + 1 != index {
            return broken("AppliedInOrder", (node, self.nodes[node].1, known));
        }
        self.nodes[node].1 = index;
        match self.entries.get(&index) {
            None => {
                self.entries.insert(index, known);
                self.survives(known.id)?;
            }
            Some(other) if other.id != known.id || other.value != known.value => {
                return broken("CommittedIsNeverUndone", (node, known, other));
            }
            Some(other) if other.hash != known.hash => {
                return broken("AppliedPrefixesAgree", (node, known, other));
            }
            Some(_) => {}
        }
        if let Some(value) = known.value {
            let place = *self.places.entry(value).or_insert(index);
            if place != index {
                return broken("AtMostOnce", (known, place));
            }
        }
        Ok(())
    }

    fn learn(&mut self, node: usize, fact: Fact) -> Result<(), String> {
        match fact {
            Fact::Started(replica) => {
                let (known, applied) = &mut self.nodes[node];
                self.counts.wiped += u64::from(known.is_some_and(|known| known != replica));
                *known = Some(replica);
                *applied = 0;
                self.starts[node] += 1;
            }
            Fact::Log(before, log) => {
                self.logs[node] = (before, log);
                let last = self.entries.last_key_value().map(|(_, known)| known.id);
                last.map_or(Ok(()), |id| self.survives(id))?;
            }
            Fact::Unreadable(error) => return broken("WhatIsWrittenIsRead", (node, error)),
            Fact::Elected(term, replica) => {
                if node >= self.voters && !self.added.contains(&replica) {
                    return broken("ObserversNeverLead", (node, term));
                }
                self.leader = node;
                self.counts.elected += 1;
                // One that has forgotten its vote may elect itself twice.
                let elected = (replica, self.starts[node]);
                let known = *self.leaders.entry(term).or_insert(elected);
                if known != elected {
                    return broken("OneLeaderPerTerm", (term, known, elected));
                }
            }
            Fact::Applied(entry, image) => {
                let known = Known {
                    id: entry.id,
                    hash: image.hash,
                    value: value_of(&entry),
                };
                self.applied(node, known)?;
                if let Payload::Voters(voters) = entry.payload
                    && entry.id.index.0 > self.in_force.0
                {
                    self.in_force = (entry.id.index.0, voters);
                }
            }
            Fact::Installed(image) => {
                let index = image.last.index.0;
                let known = self.entries.get(&index).map(|known| (known.id, known.hash));
                if index > 0 && known != Some((image.last, image.hash)) {
                    return broken("AppliedPrefixesAgree", (node, image, known));
                }
                self.counts.installed += u64::from(index > self.nodes[node].1 && index > 0);
                self.nodes[node].1 = index;
            }
            Fact::Fault(fault) => return broken("NobodyForgets", (node, fault)),
            Fact::Snapshotted => self.counts.snapshots += 1,
            Fact::Changed(outcome) => self.counts.changes += u64::from(outcome.is_ok()),
        }
        Ok(())
    }
}

impl<const FLAW: u8, const VOTERS: usize> Users<Member<FLAW, VOTERS>> for Judge {
    fn act(&mut self, _time: u64, user: usize, rng: &mut Rng) -> Option<(usize, Said)> {
        if user == USERS - 1 {
            let change = self.change(rng).filter(|_| rng.chance(1, 4))?;
            let any = rng.below(VOTERS as u64) as usize;
            let node = if rng.chance(1, 4) { any } else { self.leader };
            return Some((node, Said::Change(change)));
        }
        if let Some((_, patience)) = self.asking.get_mut(&user)
            && *patience > 0
        {
            *patience -= 1;
            return None;
        }
        self.attempts += 1;
        let value = (user, self.attempts);
        self.asking.insert(user, (value, PATIENCE));
        Some((self.leader, Said::Propose(value)))
    }

    fn told(&mut self, _time: u64, user: usize, said: Said) -> Result<(), String> {
        let (value, told) = match said {
            Said::Committed(value, id) => (value, Ok(id)),
            Said::Refused(value, leader) => (value, Err(leader)),
            other => return broken("UsersAreAnswered", (user, other)),
        };
        let is_asked = self
            .asking
            .get(&user)
            .is_some_and(|(asked, _)| *asked == value);
        if is_asked {
            self.asking.remove(&user);
        }
        match told {
            Ok(id) => {
                self.told += 1;
                let known = self.entries.get(&id.index.0);
                match known.is_some_and(|known| known.id == id && known.value == Some(value)) {
                    true => Ok(()),
                    false => broken("ToldIsCommitted", (value, id, known)),
                }
            }
            Err(leader) => {
                if is_asked {
                    self.leader = leader.unwrap_or((self.leader + 1) % VOTERS);
                }
                Ok(())
            }
        }
    }

    fn saw(
        &mut self,
        _time: u64,
        node: usize,
        machine: &mut Member<FLAW, VOTERS>,
    ) -> Result<(), String> {
        let facts = std::mem::take(&mut machine.facts);
        facts
            .into_iter()
            .try_for_each(|fact| self.learn(node, fact))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::{EntryIndex, QuorumEntry};
    use crate::sim::messages::quorum::machine::Image;

    fn is_broken(result: Result<(), String>, name: &str) -> bool {
        result.is_err_and(|error| error.starts_with(name))
    }

    #[test]
    fn a_disk_may_not_lose_later_what_is_committed() {
        let mut judge = Judge::new(3, false, 3);
        let (before, index) = (EntryId::default(), EntryIndex(1));
        let id = EntryId {
            term: LeaderEpoch(1),
            index,
        };
        for (node, voter) in first_voters(3).iter().enumerate() {
            judge.learn(node, Fact::Started(voter)).unwrap();
        }
        for node in 0..2 {
            judge.learn(node, Fact::Log(before, vec![id])).unwrap();
        }
        let payload = Payload::LeaderChange;
        let applied = Fact::Applied(QuorumEntry { id, payload }, Image::default());
        judge.learn(0, applied).unwrap();
        let lost = judge.learn(1, Fact::Log(before, Vec::new()));
        assert!(is_broken(lost, "CommittedSurvivesElections"));
    }

    #[test]
    fn nobody_is_elected_twice_in_a_term() {
        let mut judge = Judge::new(1, false, 1);
        let replica = first_voters(1).iter().next().unwrap();
        let elected = || Fact::Elected(LeaderEpoch(1), replica);
        judge.learn(0, Fact::Started(replica)).unwrap();
        judge.learn(0, elected()).unwrap();
        judge.learn(0, Fact::Started(replica)).unwrap();
        assert!(is_broken(judge.learn(0, elected()), "OneLeaderPerTerm"));
    }
}
