//! Commits that wait until their coordinator's shard serves by the metadata that they came by, large ones that wait for
//! a turn of their own, and what comes behind them. The topic may be one that is not known here yet, while offsets of
//! one before it are still to go.

use std::collections::{BTreeMap, VecDeque};

use crate::base::limits::{EARLY_BYTES_MAX, GROUP_ASKED_COST, OFFSETS_COMMITTED_AT_ONCE_MAX};
use crate::broker::msg::ReqRef;
use crate::coordinator::{GroupAsk, Question};
use crate::group::Name;

/// Questions of a request, each with its place in it.
pub type EarlyParts = Vec<(u32, Question)>;

#[derive(Debug)]
struct Early {
    /// Of the metadata.
    version: u64,
    req: ReqRef,
    parts: EarlyParts,
}

/// See the module.
#[derive(Debug, Default)]
pub struct EarlyCommits {
    /// In the order in which they came,
    waiting: VecDeque<Early>,
    /// what they take,
    bytes: usize,
    /// and how many of them change each group, by a commit or otherwise.
    of_group: BTreeMap<Name, usize>,
}

impl EarlyCommits {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether questions that came by metadata of this version have to wait, while this one is served by. A commit does
    /// not overtake another one, and a large one, which took a while to be read, has its turn later; and who leaves or
    /// joins a group, or changes it otherwise, does so behind the changes of it that wait: a consumer commits and
    /// leaves without waiting for an answer, and joins again.
    pub fn holds(&self, parts: &EarlyParts, version: u64, served: u64) -> bool {
        parts.iter().any(|(_, question)| match question {
            Question::To(_, GroupAsk::Commit(commit)) => {
                version > served
                    || !self.is_empty()
                    || commit.offsets.len() > OFFSETS_COMMITTED_AT_ONCE_MAX
            }
            Question::To(_, ask) => ask.changes_group() && self.of_group.contains_key(ask.group()),
            Question::List(_) => false,
        })
    }

    /// Keeps questions; they are given back if there is no room for them.
    ///
    /// # Errors
    /// There is none.
    pub fn push(&mut self, version: u64, req: ReqRef, parts: EarlyParts) -> Result<(), EarlyParts> {
        let bytes = bytes_of(&parts);
        if self.bytes + bytes > EARLY_BYTES_MAX {
            return Err(parts);
        }
        self.bytes += bytes;
        for group in changing(&parts) {
            *self.of_group.entry(group.clone()).or_default() += 1;
        }
        self.waiting.push_back(Early {
            version,
            req,
            parts,
        });
        Ok(())
    }

    /// Whether the first ones need not wait any more.
    pub fn may_go(&self, served: u64) -> bool {
        let first = self.waiting.front();
        first.is_some_and(|early| early.version <= served)
    }

    /// Takes the first ones, if they need not wait any more, and what they cost is `left` of a slice.
    pub fn next(&mut self, served: u64, left: &mut usize) -> Option<(ReqRef, EarlyParts)> {
        if *left == 0 || !self.may_go(served) {
            return None;
        }
        let Early { req, parts, .. } = self.waiting.pop_front()?;
        self.bytes -= bytes_of(&parts);
        for group in changing(&parts) {
            if let Some(count) = self.of_group.get_mut(group) {
                *count -= 1;
                if *count == 0 {
                    self.of_group.remove(group);
                }
            }
        }
        let cost = parts.iter().map(|(_, question)| match question {
            Question::To(_, GroupAsk::Commit(commit)) => GROUP_ASKED_COST + commit.offsets.len(),
            Question::To(..) | Question::List(_) => GROUP_ASKED_COST,
        });
        *left = left.saturating_sub(cost.sum());
        Some((req, parts))
    }

    /// Panics if something is wrong inside. For the simulator.
    pub fn invariants(&self) {
        let all = || self.waiting.iter().map(|early| &early.parts);
        let bytes = all().map(bytes_of);
        assert_eq!(self.bytes, bytes.sum::<usize>(), "early commits");
        let groups = all().flat_map(changing).count();
        let counted: usize = self.of_group.values().sum();
        assert_eq!(counted, groups, "groups of early commits");
    }
}

/// The groups that are changed.
fn changing(parts: &EarlyParts) -> impl Iterator<Item = &Name> {
    parts.iter().filter_map(|(_, question)| match question {
        Question::To(_, ask) => Some(ask.group()).filter(|_| ask.changes_group()),
        Question::List(_) => None,
    })
}

fn bytes_of(parts: &EarlyParts) -> usize {
    /// A question by itself, with who asks it.
    const EACH_BYTES: usize = 256;
    let of = |question: &Question| match question {
        Question::To(_, ask) => ask.bytes(),
        Question::List(_) => 0,
    };
    parts.iter().map(|(_, q)| EACH_BYTES + of(q)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::OFFSETS_PER_SLICE;
    use crate::base::{Mono, Now, ShardId, TopicId};
    use crate::group::testing::commit_of;

    const NOW: Now = Now {
        mono: Mono(1),
        wall_ms: 1,
    };

    fn commit(group: &str) -> GroupAsk {
        let mut commit = commit_of("t", TopicId([1; 16]), NOW);
        commit.group = Name::from(group);
        GroupAsk::Commit(commit)
    }

    fn leave(group: &str) -> GroupAsk {
        GroupAsk::Leave(Name::from(group), Vec::new())
    }

    fn delete(group: &str) -> GroupAsk {
        GroupAsk::Delete(Name::from(group))
    }

    fn parts<const N: usize>(asks: [GroupAsk; N]) -> EarlyParts {
        let questions = asks.into_iter().map(|ask| Question::To(0, ask));
        (0..).zip(questions).collect()
    }

    /// Whether questions of a request wait, which are kept then; version 1 is served by.
    fn waits<const N: usize>(early: &mut EarlyCommits, version: u64, asks: [GroupAsk; N]) -> bool {
        let parts = parts(asks);
        let holds = early.holds(&parts, version, 1);
        if holds {
            let req = ReqRef {
                shard: ShardId(0),
                id: version,
            };
            early.push(version, req, parts).expect("there is room");
        }
        early.invariants();
        holds
    }

    #[test]
    fn no_change_of_a_group_overtakes_another_one_that_waits() {
        let mut early = EarlyCommits::default();
        assert!(!waits(&mut early, 1, [leave("a")]), "nothing waits");
        assert!(waits(&mut early, 2, [commit("a")]));
        assert!(waits(&mut early, 1, [delete("a"), delete("b")]));
        assert!(waits(&mut early, 1, [leave("b")]), "behind the deletion");
        let describe = GroupAsk::Describe(Name::from("b"), 1);
        assert!(!waits(&mut early, 1, [describe]), "it changes nothing");
        assert!(!waits(&mut early, 1, [delete("c")]));
    }

    #[test]
    fn a_large_commit_waits_and_is_not_overtaken() {
        let large = |offsets| {
            let mut ask = commit("a");
            if let GroupAsk::Commit(commit) = &mut ask {
                commit.offsets = vec![commit.offsets[0].clone(); offsets];
            }
            ask
        };
        let mut early = EarlyCommits::default();
        let at_once = OFFSETS_COMMITTED_AT_ONCE_MAX;
        assert!(!waits(&mut early, 1, [large(at_once)]));
        assert!(waits(&mut early, 1, [large(at_once + 1)]));
        assert!(waits(&mut early, 1, [leave("a")]) && !waits(&mut early, 1, [leave("b")]));
        assert!(early.next(1, &mut 1).is_some() && early.next(1, &mut 1).is_some());
        assert!(early.is_empty());
    }

    #[test]
    fn what_is_left_when_a_slice_ends_is_not_overtaken() {
        let mut early = EarlyCommits::default();
        assert!(waits(&mut early, 2, [commit("a")]));
        assert!(waits(&mut early, 1, [leave("a")]));
        assert!(early.next(2, &mut 1).is_some(), "the commit");
        assert!(early.next(2, &mut 0).is_none(), "the slice is over");
        let again = parts([delete("a")]);
        assert!(early.holds(&again, 2, 2), "behind who leaves");
        assert!(early.next(2, &mut { OFFSETS_PER_SLICE }).is_some());
        assert!(!early.holds(&again, 2, 2) && early.is_empty());
        early.invariants();
    }
}
