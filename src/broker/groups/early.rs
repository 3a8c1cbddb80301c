//! Commits that wait until their coordinator's shard serves by the metadata that they came by, and what comes behind
//! them. The topic may be one that is not known here yet, while offsets of one before it are still to go.

use std::collections::{BTreeMap, VecDeque};

use crate::base::limits::{EARLY_BYTES_MAX, GROUP_ASKED_COST};
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
    /// and how many of them commit for each group.
    of_group: BTreeMap<Name, usize>,
}

impl EarlyCommits {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether questions that came by metadata of this version have to wait, while this one is served by. A commit does
    /// not overtake another one; and who leaves or joins a group, or changes it otherwise, does so behind what was
    /// committed for it before: a consumer commits and leaves without waiting for an answer.
    pub fn holds(&self, parts: &EarlyParts, version: u64, served: u64) -> bool {
        parts.iter().any(|(_, question)| match question {
            Question::To(_, GroupAsk::Commit(_)) => version > served || !self.is_empty(),
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
        for group in committing(&parts) {
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
        for group in committing(&parts) {
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
        let groups = all().flat_map(committing).count();
        let counted: usize = self.of_group.values().sum();
        assert_eq!(counted, groups, "groups of early commits");
    }
}

fn committing(parts: &EarlyParts) -> impl Iterator<Item = &Name> {
    parts.iter().filter_map(|(_, question)| match question {
        Question::To(_, GroupAsk::Commit(commit)) => Some(&commit.group),
        Question::To(..) | Question::List(_) => None,
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
