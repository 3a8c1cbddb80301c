//! Between whom something is said about a partition.

use crate::base::{LeaderEpoch, NodeProcess};

/// A leader in its epoch and one of its followers, both as processes. What either tells the other carries it, and
/// counts only where it is the receiver's too: nothing of an earlier epoch, or for or from a process that is gone, is
/// taken for something of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// The epoch that the leader was given.
    pub epoch: LeaderEpoch,
    /// The leader.
    pub leader: NodeProcess,
    /// The follower.
    pub follower: NodeProcess,
}
