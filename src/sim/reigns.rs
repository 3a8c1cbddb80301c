//! Who leads each partition by the metadata that are committed, and since when. A node that does not know yet that
//! another one leads may answer as things were before.

use std::collections::{BTreeMap, BTreeSet};

use super::fact::Moment;
use crate::base::{LogId, NodeId, TopicId};
use crate::controller::Image;
use crate::group::partition_for;

/// The topic of committed offsets.
const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The number of a node of a cluster, by its id.
#[must_use]
pub fn number_of(node: NodeId) -> Option<usize> {
    usize::try_from(node.0 - 1).ok()
}

/// A leader epoch of a partition.
#[derive(Clone, Copy, Debug)]
struct Reign {
    epoch: i32,
    /// Nobody while none of those in sync is there.
    leader: Option<usize>,
    since: Moment,
}

/// The newest state of a partition.
#[derive(Clone, Debug, Default)]
pub struct Replicated {
    /// Its log.
    pub log: LogId,
    /// All nodes that are to have it.
    pub replicas: Vec<usize>,
    /// Those that are in sync.
    pub in_sync: Vec<usize>,
    reigns: Vec<Reign>,
}

impl Replicated {
    /// Who leads it, if somebody does, and in which epoch.
    #[must_use]
    pub fn leader(&self) -> Option<(usize, i32)> {
        let last = self.reigns.last()?;
        Some((last.leader?, last.epoch))
    }
}

/// What the nodes that run say of their logs, all at one time.
#[derive(Debug, Default)]
pub struct Marks {
    /// Where a log ends on the disk of a node.
    durable: BTreeMap<(LogId, usize), i64>,
    /// The largest high watermark of a log, and whose it is.
    committed: BTreeMap<LogId, (i64, usize)>,
}

impl Marks {
    /// A node has a log, with this high watermark and this durable end.
    pub fn tell(&mut self, node: usize, log: LogId, (committed, durable): (i64, i64)) {
        self.durable.insert((log, node), durable);
        let known = self.committed.entry(log).or_default();
        *known = (committed, node).max(*known);
    }

    /// Where a log ends on the disk of a node, if that runs and has it.
    #[must_use]
    pub fn durable(&self, log: LogId, node: usize) -> Option<i64> {
        self.durable.get(&(log, node)).copied()
    }
}

/// See the module. Empty for nodes that stand alone.
#[derive(Debug, Default)]
pub struct Reigns {
    version: u64,
    partitions: BTreeMap<(TopicId, i32), Replicated>,
    /// The topic of committed offsets, and how many partitions it has.
    offsets: Option<(TopicId, i32)>,
    /// Logs with the nodes that should have a copy and are not in sync.
    behind: BTreeSet<(LogId, usize)>,
}

impl Reigns {
    /// A node knows that this is committed.
    pub fn learn(&mut self, now: Moment, image: &Image) {
        if image.version <= self.version {
            return;
        }
        self.version = image.version;
        let offsets = image.topic(OFFSETS_TOPIC);
        self.offsets = offsets.map(|topic| (topic.id, topic.partitions.len() as i32));
        let numbers = |nodes: &[NodeId]| nodes.iter().filter_map(|node| number_of(*node)).collect();
        for topic in image.topics() {
            for (index, partition) in (0..).zip(topic.partitions.iter()) {
                let known = self.partitions.entry((topic.id, index)).or_default();
                known.log = partition.log;
                known.replicas = numbers(&partition.replicas);
                known.in_sync = numbers(&partition.isr);
                let (epoch, leader) = (partition.leader_epoch.0, number_of(partition.leader));
                let last = known.reigns.last();
                if last.is_none_or(|last| (last.epoch, last.leader) != (epoch, leader)) {
                    known.reigns.push(Reign {
                        epoch,
                        leader,
                        since: now,
                    });
                }
            }
        }
        self.partitions
            .retain(|(topic, _), _| image.topic_by_id(*topic).is_some());
        let behind = self.partitions.values().flat_map(|it| {
            let behind = it.replicas.iter().filter(|node| !it.in_sync.contains(node));
            behind.map(|node| (it.log, *node))
        });
        self.behind = behind.collect();
    }

    /// Whether a node's copy of a log is not in sync, so that it may have to begin anew.
    #[must_use]
    pub fn is_behind(&self, log: LogId, node: usize) -> bool {
        self.behind.contains(&(log, node))
    }

    /// All partitions that there are.
    pub fn all(&self) -> impl Iterator<Item = (&(TopicId, i32), &Replicated)> {
        self.partitions.iter()
    }

    /// A record that a node takes for committed and that is not on the disk of one that is in sync.
    #[must_use]
    pub fn not_on_all(&self, marks: &Marks) -> Option<String> {
        self.partitions.values().find_map(|partition| {
            let log = partition.log;
            let (mark, who) = *marks.committed.get(&log)?;
            let in_sync = partition.in_sync.iter();
            let mut ends = in_sync.filter_map(|node| Some((*node, marks.durable(log, *node)?)));
            let (node, end) = ends.find(|(_, end)| *end < mark)?;
            Some(format!(
                "log {log}: node {who} takes all before {mark} for committed, and node {node}, which is in sync, has \
                 all before {end}"
            ))
        })
    }

    /// A partition, if it is there.
    #[must_use]
    pub fn of(&self, topic: TopicId, index: i32) -> Option<&Replicated> {
        self.partitions.get(&(topic, index))
    }

    /// The partition of the offsets of a group.
    #[must_use]
    pub fn of_group(&self, group: &str) -> Option<(TopicId, i32)> {
        let (topic, count) = self.offsets?;
        Some((topic, partition_for(group, count)))
    }

    /// What was known when a node was asked at a moment that it must have known: what it answers is true then at the
    /// latest, if another one leads the partition since.
    #[must_use]
    pub fn as_of(&self, partition: (TopicId, i32), node: usize, asked: Moment) -> Moment {
        let reigns = self.partitions.get(&partition);
        let reigns = reigns.map_or(&[][..], |known| &known.reigns);
        let led = reigns.iter().rposition(|reign| reign.leader == Some(node));
        let after = led.map_or(reigns, |last| &reigns[last..]);
        let other = |reign: &&Reign| reign.leader.is_some_and(|leader| leader != node);
        let deposed = after.iter().find(other).map(|reign| reign.since);
        deposed
            .filter(|_| led.is_some())
            .map_or(asked, |deposed| deposed.min(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reigns(leaders: &[Option<usize>]) -> Reigns {
        let reigns = (1..).zip(leaders).map(|(at, leader)| Reign {
            epoch: at as i32,
            leader: *leader,
            since: Moment(10 * at),
        });
        let known = Replicated {
            reigns: reigns.collect(),
            ..Replicated::default()
        };
        let mut all = Reigns::default();
        all.partitions.insert((TopicId::default(), 0), known);
        all
    }

    #[test]
    fn what_is_committed_and_not_on_all_that_are_in_sync_is_seen() {
        let mut all = reigns(&[Some(0)]);
        for partition in all.partitions.values_mut() {
            (partition.log, partition.in_sync) = (LogId(7), vec![0, 2]);
        }
        let seen = |told: &[(usize, i64, i64)]| {
            let mut marks = Marks::default();
            for (node, committed, durable) in told {
                marks.tell(*node, LogId(7), (*committed, *durable));
            }
            all.not_on_all(&marks).is_some()
        };
        assert!(!seen(&[]));
        assert!(
            !seen(&[(0, 5, 9), (1, 3, 3), (2, 4, 5)]),
            "node 1 is not in sync"
        );
        assert!(!seen(&[(0, 5, 9), (1, 3, 3)]), "node 2 does not run");
        assert!(seen(&[(0, 5, 9), (1, 3, 3), (2, 4, 4)]));
        assert!(seen(&[(0, 4, 4), (1, 5, 5), (2, 5, 5)]), "whoever says so");
    }

    #[test]
    fn a_node_knows_all_until_another_one_leads() {
        let as_of = |leaders: &[Option<usize>], node, asked| {
            let all = reigns(leaders);
            all.as_of((TopicId::default(), 0), node, Moment(asked)).0
        };
        assert_eq!(as_of(&[], 0, 99), 99, "a node that stands alone");
        assert_eq!(as_of(&[Some(0)], 0, 99), 99);
        assert_eq!(as_of(&[Some(0), Some(1)], 0, 99), 20);
        assert_eq!(as_of(&[Some(0), Some(1)], 0, 15), 15);
        assert_eq!(as_of(&[Some(0), Some(1)], 1, 99), 99);
        assert_eq!(as_of(&[Some(0), Some(1)], 2, 99), 99, "it has no excuse");
        assert_eq!(as_of(&[Some(0), None, Some(1), None], 0, 99), 30);
        assert_eq!(as_of(&[Some(0), None], 0, 99), 99, "nobody else leads");
        assert_eq!(as_of(&[Some(0), Some(1), Some(0)], 0, 99), 99);
    }
}
