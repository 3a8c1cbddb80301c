//! The replicas of a partition as its leader sees them: how far each of them has the log on its disk, and which of them
//! have to have a record until it counts as committed.

use crate::base::{NodeId, Offset};

/// Another replica than the leader.
#[derive(Clone, Copy, Debug)]
struct Other {
    node: NodeId,
    /// Everything before it is on its disk, as it has said of a log that is the leader's as far as it goes. Before it
    /// has, what is there may be another one's.
    durable: Option<Offset>,
    /// Nothing before it comes back there.
    start: Option<Offset>,
    in_sync: bool,
}

/// See the module. The leader is in sync always, and not listed.
#[derive(Debug)]
pub struct InSync {
    leader: NodeId,
    others: Vec<Other>,
    /// `min.insync.replicas`.
    min: usize,
    /// The set that was asked for and may be the one already: its members count as those of the known one do (the
    /// maximal set of KIP-497) until metadata says which it is.
    asked: Option<Vec<NodeId>>,
}

impl InSync {
    /// The leader is all there is.
    #[must_use]
    pub const fn alone(leader: NodeId) -> Self {
        Self {
            leader,
            others: Vec::new(),
            min: 1,
            asked: None,
        }
    }

    /// Who should have a copy, who of them is in sync, and `min.insync.replicas`. `is_newer` says that it is a state of
    /// the partition that is newer than the one before: what was asked for on top of that is done, or comes to nothing.
    pub fn assign(&mut self, replicas: &[NodeId], in_sync: &[NodeId], min: usize, is_newer: bool) {
        let leader = self.leader;
        self.others.retain(|other| replicas.contains(&other.node));
        for node in replicas.iter().filter(|node| **node != leader) {
            if self.others.iter().all(|other| other.node != *node) {
                self.others.push(Other {
                    node: *node,
                    durable: None,
                    start: None,
                    in_sync: false,
                });
            }
        }
        for other in &mut self.others {
            other.in_sync = in_sync.contains(&other.node);
        }
        self.min = min;
        if is_newer {
            self.asked = None;
        }
    }

    /// Which set to ask for, the leader first: without those that are `silent`, and with those that have caught up. Who
    /// joins has on its disk everything that is committed and the beginning of the leader's epoch, `epoch_start`, and
    /// nothing of what is before `start`, for which somebody may have been told that it is deleted.
    /// `None` if that is the set that there is, or if another one is asked for still: one at a time.
    #[must_use]
    pub fn wanted(
        &self,
        committed: Offset,
        (epoch_start, start): (Offset, Offset),
        silent: impl Fn(NodeId) -> bool,
    ) -> Option<Vec<NodeId>> {
        if self.asked.is_some() {
            return None;
        }
        let least = committed.max(epoch_start);
        let is_wanted = |other: &&Other| match silent(other.node) {
            true => false,
            false => {
                other.in_sync
                    || other.durable >= Some(least) && other.start.unwrap_or_default() >= start
            }
        };
        let changes = self.others.iter().any(|it| is_wanted(&it) != it.in_sync);
        let wanted = self.others.iter().filter(is_wanted).map(|it| it.node);
        changes.then(|| [self.leader].into_iter().chain(wanted).collect())
    }

    /// A set is asked for. From now on its members count too.
    pub fn ask(&mut self, in_sync: Vec<NodeId>) {
        self.asked = Some(in_sync);
    }

    /// Whether a record needs this one to be committed.
    fn counts(&self, other: &Other) -> bool {
        other.in_sync
            || self
                .asked
                .as_ref()
                .is_some_and(|set| set.contains(&other.node))
    }

    /// Whether a replica that counts says that less is on its disk than it had said before, or less than everything
    /// before `committed`, which nobody counts who lacks some of it: something was lost there, and it has to leave.
    #[must_use]
    pub fn has_lost(&self, node: NodeId, durable: Offset, committed: Offset) -> bool {
        let known = self.others.iter().find(|other| other.node == node);
        known.is_some_and(|known| {
            self.counts(known) && (durable < committed || Some(durable) < known.durable)
        })
    }

    /// Another replica has everything before this on its disk.
    pub fn reached(&mut self, node: NodeId, durable: Offset) {
        if let Some(other) = self.others.iter_mut().find(|other| other.node == node) {
            other.durable = Some(durable);
        }
    }

    /// Nothing before this comes back at another replica.
    pub fn dropped(&mut self, node: NodeId, start: Offset) {
        if let Some(other) = self.others.iter_mut().find(|other| other.node == node) {
            other.start = Some(start);
        }
    }

    /// The low watermark: nothing before it comes back, whoever of those leads next that are in sync or may be. The
    /// leader has dropped everything before `start` for good. (Kafka's is the smallest of all replicas that are alive:
    /// who is not in sync drops what its leader has before it may join.)
    #[must_use]
    pub fn low_watermark(&self, start: Offset) -> Offset {
        let others = self.others.iter().filter(|other| self.counts(other));
        others.fold(start, |least, other| {
            least.min(other.start.unwrap_or_default())
        })
    }

    /// Another replica compares its log with the leader's anew, or has said that some of it is lost: unless it counts,
    /// what it has said before is not so any more.
    pub fn compares(&mut self, node: NodeId) {
        if let Some(at) = self.others.iter().position(|other| other.node == node)
            && !self.counts(&self.others[at])
        {
            (self.others[at].durable, self.others[at].start) = (None, None);
        }
    }

    /// Whether this one is another replica, and whether metadata have it in sync.
    #[must_use]
    pub fn is_in_sync(&self, node: NodeId) -> Option<bool> {
        let other = self.others.iter().find(|other| other.node == node);
        other.map(|other| other.in_sync)
    }

    /// Whether there is no other replica.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.others.is_empty()
    }

    /// Whether as many are in sync as `min.insync.replicas` asks for, which is never more than there are.
    #[must_use]
    pub fn are_enough(&self) -> bool {
        let in_sync = self.others.iter().filter(|other| other.in_sync).count() + 1;
        in_sync >= self.min.min(self.others.len() + 1)
    }

    /// Everything before it is on the disks of all that are in sync or may be, if those that are known to be are
    /// enough. The leader has everything before `durable` on its own.
    #[must_use]
    pub fn committed(&self, durable: Offset) -> Option<Offset> {
        let others = self.others.iter().filter(|other| self.counts(other));
        let least = others.fold(durable, |least, other| {
            least.min(other.durable.unwrap_or_default())
        });
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
        alone.assign(&NODES[..1], &NODES[..1], 2, true);
        assert_eq!(alone.committed(Offset(7)), Some(Offset(7)));
    }

    #[test]
    fn committed_is_what_all_that_are_in_sync_have() {
        let mut three = InSync::alone(NodeId(2));
        three.assign(&NODES, &NODES, 2, true);
        assert_eq!(three.committed(Offset(7)), Some(Offset(0)));
        three.reached(NodeId(1), Offset(5));
        three.reached(NodeId(3), Offset(9));
        three.reached(NodeId(4), Offset(1));
        assert_eq!(three.committed(Offset(7)), Some(Offset(5)));
        let has_lost = |it: &InSync, node, durable| it.has_lost(NodeId(node), durable, Offset(5));
        assert!(has_lost(&three, 3, Offset(8)));
        assert!(!has_lost(&three, 3, Offset(9)) && !has_lost(&three, 4, Offset(0)));
        let mut of_later = InSync::alone(NodeId(2));
        of_later.assign(&NODES, &NODES, 2, true);
        assert!(
            has_lost(&of_later, 3, Offset(4)),
            "it had that before this epoch"
        );
        assert!(!has_lost(&of_later, 3, Offset(5)));
        three.assign(&NODES, &NODES[1..], 2, true);
        assert_eq!(three.committed(Offset(7)), Some(Offset(7)));
        assert!(!has_lost(&three, 1, Offset(0)), "nobody counts on it");
        three.assign(&NODES, &NODES[1..2], 2, true);
        assert_eq!(
            three.committed(Offset(7)),
            None,
            "the leader alone is not enough"
        );
        three.assign(&NODES, &NODES[1..2], 1, true);
        assert_eq!(three.committed(Offset(7)), Some(Offset(7)));
        three.assign(&NODES, &NODES, 9, true);
        assert_eq!(
            three.committed(Offset(7)),
            Some(Offset(5)),
            "it is known still"
        );
        three.assign(&NODES[1..], &NODES, 9, true);
        assert_eq!(
            three.committed(Offset(7)),
            Some(Offset(7)),
            "it has none any more"
        );
    }

    #[test]
    fn who_may_be_in_sync_counts_and_one_set_is_asked_for_at_a_time() {
        let [one, two, three] = NODES;
        let mut it = InSync::alone(one);
        it.assign(&NODES, &[one, two], 1, true);
        it.reached(two, Offset(20));
        assert_eq!(
            it.wanted(Offset(0), (Offset(0), Offset(0)), |_| false),
            None,
            "nobody knows what the third one has"
        );
        it.reached(three, Offset(9));
        let wanted = |it: &InSync, silent: &[NodeId]| {
            it.wanted(Offset(10), (Offset(5), Offset(3)), |node| {
                silent.contains(&node)
            })
        };
        assert_eq!(wanted(&it, &[]), None, "the third one has too little");
        it.reached(three, Offset(10));
        assert_eq!(wanted(&it, &[three]), None, "and is silent");
        assert_eq!(
            it.wanted(Offset(10), (Offset(11), Offset(3)), |_| false),
            None,
            "and may have another epoch's records there"
        );
        assert_eq!(wanted(&it, &[]), None, "and has what was deleted");
        it.dropped(three, Offset(3));
        assert_eq!(wanted(&it, &[]), Some(NODES.to_vec()));
        it.compares(two);
        it.compares(three);
        assert_eq!(wanted(&it, &[]), None, "what it has had may be gone");
        it.reached(three, Offset(10));
        it.dropped(three, Offset(4));
        it.dropped(two, Offset(6));
        assert_eq!(
            it.low_watermark(Offset(5)),
            Offset(5),
            "nobody counts on it"
        );
        it.ask(NODES.to_vec());
        assert_eq!(it.low_watermark(Offset(5)), Offset(4));
        assert_eq!(wanted(&it, &[two]), None, "one at a time");
        assert_eq!(it.committed(Offset(20)), Some(Offset(10)));
        it.assign(&NODES, &[one, two], 1, true);
        assert_eq!(it.committed(Offset(20)), Some(Offset(20)));
        assert_eq!(wanted(&it, &[two]), Some(vec![one, three]));
        it.ask(vec![one]);
        it.assign(&NODES, &[one, two], 1, false);
        it.reached(two, Offset(15));
        assert_eq!(
            it.committed(Offset(20)),
            Some(Offset(15)),
            "who is to leave counts until it has left"
        );
        it.assign(&NODES, &[one], 1, true);
        assert_eq!(it.committed(Offset(20)), Some(Offset(20)));
    }
}
