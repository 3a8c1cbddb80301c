//! The replicas of a partition as its leader sees them: how far each of them has the log on its disk, and which of them
//! have to have a record until it counts as committed.

use crate::base::{NodeId, Offset};

/// Another replica than the leader.
#[derive(Clone, Copy, Debug)]
struct Other {
    node: NodeId,
    /// Everything before it is on its disk, as far as it is known.
    durable: Offset,
    in_sync: bool,
}

/// See the module. The leader is in sync always, and not listed.
#[derive(Debug)]
pub(super) struct InSync {
    leader: NodeId,
    others: Vec<Other>,
    /// `min.insync.replicas`.
    min: usize,
}

impl InSync {
    /// The leader is all there is.
    pub(super) fn alone(leader: NodeId) -> Self {
        Self {
            leader,
            others: Vec::new(),
            min: 1,
        }
    }

    /// Who should have a copy, who of them is in sync, and `min.insync.replicas`.
    pub(super) fn assign(&mut self, replicas: &[NodeId], in_sync: &[NodeId], min: usize) {
        let leader = self.leader;
        self.others.retain(|other| replicas.contains(&other.node));
        for node in replicas.iter().filter(|node| **node != leader) {
            if self.others.iter().all(|other| other.node != *node) {
                self.others.push(Other {
                    node: *node,
                    durable: Offset(0),
                    in_sync: false,
                });
            }
        }
        for other in &mut self.others {
            other.in_sync = in_sync.contains(&other.node);
        }
        self.min = min;
    }

    /// Another replica has everything before this on its disk.
    pub(super) fn reached(&mut self, node: NodeId, durable: Offset) {
        if let Some(other) = self.others.iter_mut().find(|other| other.node == node) {
            other.durable = durable;
        }
    }

    /// Whether as many are in sync as `min.insync.replicas` asks for, which is never more than there are.
    pub(super) fn are_enough(&self) -> bool {
        let in_sync = self.others.iter().filter(|other| other.in_sync).count() + 1;
        in_sync >= self.min.min(self.others.len() + 1)
    }

    /// Everything before it is on the disks of all that are in sync, if these are enough. The leader has everything
    /// before `durable` on its own.
    pub(super) fn committed(&self, durable: Offset) -> Option<Offset> {
        let others = self.others.iter().filter(|other| other.in_sync);
        let least = others.fold(durable, |least, other| least.min(other.durable));
        self.are_enough().then_some(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    #[test]
    fn one_replica_is_enough_where_there_is_one() {
        let mut alone = InSync::alone(NodeId(1));
        alone.assign(&NODES[..1], &NODES[..1], 2);
        assert_eq!(alone.committed(Offset(7)), Some(Offset(7)));
    }

    #[test]
    fn committed_is_what_all_that_are_in_sync_have() {
        let mut three = InSync::alone(NodeId(2));
        three.assign(&NODES, &NODES, 2);
        assert_eq!(three.committed(Offset(7)), Some(Offset(0)));
        three.reached(NodeId(1), Offset(5));
        three.reached(NodeId(3), Offset(9));
        three.reached(NodeId(4), Offset(1));
        assert_eq!(three.committed(Offset(7)), Some(Offset(5)));
        three.assign(&NODES, &NODES[1..], 2);
        assert_eq!(three.committed(Offset(7)), Some(Offset(7)));
        three.assign(&NODES, &NODES[1..2], 2);
        assert_eq!(
            three.committed(Offset(7)),
            None,
            "the leader alone is not enough"
        );
        three.assign(&NODES, &NODES[1..2], 1);
        assert_eq!(three.committed(Offset(7)), Some(Offset(7)));
        three.assign(&NODES, &NODES, 9);
        assert_eq!(
            three.committed(Offset(7)),
            Some(Offset(5)),
            "it is known still"
        );
        three.assign(&NODES[1..], &NODES, 9);
        assert_eq!(
            three.committed(Offset(7)),
            Some(Offset(7)),
            "it has none any more"
        );
    }
}
