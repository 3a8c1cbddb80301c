//! Who has a vote.

use std::fmt;

use crate::base::limits::QUORUM_VOTERS_MAX;
use crate::base::{DirectoryId, NodeId};

/// A replica of the metadata log: a node with one store of its (KIP-853). Votes and acknowledgements are of this pair
/// and not of the node: one whose store was made anew is another replica, which has promised nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaKey {
    /// The node.
    pub node: NodeId,
    /// The store in which its copy of the log is.
    pub directory: DirectoryId,
}

impl fmt::Debug for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.node, self.directory)
    }
}

/// The replicas that have a vote: one at least, [`QUORUM_VOTERS_MAX`] at the most, none of the same node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voters(Vec<ReplicaKey>);

impl Voters {
    /// These, in any order; `None` if they are none, too many, or two of one node.
    #[must_use]
    pub fn new(voters: impl IntoIterator<Item = ReplicaKey>) -> Option<Self> {
        let mut voters: Vec<ReplicaKey> = voters.into_iter().take(QUORUM_VOTERS_MAX + 1).collect();
        voters.sort_unstable();
        let is_sound = (1..=QUORUM_VOTERS_MAX).contains(&voters.len())
            && voters.is_sorted_by(|one, next| one.node < next.node);
        is_sound.then_some(Self(voters))
    }

    /// All of them, by node.
    pub fn iter(&self) -> impl Iterator<Item = ReplicaKey> + '_ {
        self.0.iter().copied()
    }

    /// How many there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this replica has a vote.
    #[must_use]
    pub fn contains(&self, replica: ReplicaKey) -> bool {
        self.0.binary_search(&replica).is_ok()
    }

    /// Whether a replica of this node has a vote, perhaps another one.
    #[must_use]
    pub fn has_node(&self, node: NodeId) -> bool {
        self.0.iter().any(|voter| voter.node == node)
    }

    /// How many decide.
    #[must_use]
    pub const fn majority(&self) -> usize {
        self.0.len() / 2 + 1
    }

    /// These and one more.
    #[must_use]
    pub fn with(&self, replica: ReplicaKey) -> Option<Self> {
        Self::new(self.iter().chain([replica]))
    }

    /// These without one.
    #[must_use]
    pub fn without(&self, replica: ReplicaKey) -> Option<Self> {
        Self::new(self.iter().filter(|voter| *voter != replica))
    }

    /// How far a majority is, if each is as far as `of` says.
    pub fn reached<T: Ord + Copy>(&self, of: impl FnMut(ReplicaKey) -> T) -> T {
        let mut all: Vec<T> = self.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() - self.majority()]
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::key_in as key;
    use super::*;

    #[test]
    fn there_is_one_voter_of_a_node() {
        assert_eq!(Voters::new([]), None);
        assert_eq!(Voters::new([key(1, 1), key(1, 2)]), None);
        assert_eq!(Voters::new((0..17).map(|node| key(node, 1))), None);
        let voters = Voters::new([key(3, 1), key(1, 1), key(2, 1)]).unwrap();
        assert!(voters.contains(key(3, 1)) && !voters.contains(key(3, 2)));
        assert!(voters.has_node(NodeId(3)) && voters.with(key(3, 2)).is_none());
        let two = voters.without(key(1, 1)).unwrap();
        assert_eq!((two.len(), two.majority()), (2, 2));
        assert_eq!(two.with(key(1, 1)), Some(voters));
        let alone = two.without(key(2, 1)).unwrap();
        assert_eq!(alone.without(key(3, 1)), None);
    }

    #[test]
    fn a_majority_has_reached_what_the_middle_one_has() {
        let voters = |n: i32| Voters::new((1..=n).map(|node| key(node, 1))).unwrap();
        let of = |replica: ReplicaKey| [9, 4, 7, 5, 1][replica.node.0 as usize - 1];
        assert_eq!(
            [1, 2, 3, 4, 5].map(|n| voters(n).reached(of)),
            [9, 4, 7, 5, 5]
        );
    }
}
