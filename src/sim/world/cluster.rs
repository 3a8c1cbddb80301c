//! Several nodes of one cluster: what holds for the metadata that they agree on.

use super::perform::Done;
use super::{Violation, World, violated};
use crate::base::NodeId;
use crate::broker::MetadataStatus;
use crate::broker::peers::Verdict;
use crate::sim::clock::MS;
use crate::sim::node::Core;
use crate::sim::reigns::{Marks, Replicated};
use crate::sim::what::What;

/// When nothing goes wrong any more, all nodes have to be of one mind within this time.
const FOUND_MS_MAX: u64 = 10_000;

impl World {
    /// What a control shard knows of the metadata agrees with what others have known.
    pub(super) fn metadata_agrees(&mut self, core: Core) -> Done {
        if core.shard != 0 || !self.plan.is_cluster() {
            return Ok(());
        }
        let Some(status) = self.nodes[core.node].metadata() else {
            return Ok(());
        };
        let MetadataStatus {
            replayed,
            version,
            leads,
            fetched,
            ..
        } = status;
        let index = replayed.index;
        let reached = self.committed.reached.entry((core.node, core.start));
        let reached = reached.or_insert(index);
        if *reached > index {
            let what = format!(
                "node {} goes back from entry {reached} to {index}",
                core.node
            );
            return violated("MetadataIsNeverUndone", what);
        }
        *reached = index;
        let known = self.committed.entries.entry(index);
        let known = *known.or_insert((replayed, version));
        if known != (replayed, version) {
            let what = format!(
                "node {}: {replayed:?} makes version {version}, and others know {known:?}",
                core.node
            );
            return violated("MetadataAgrees", what);
        }
        if let Some(image) = self.nodes[core.node].image() {
            self.shared.reigns.learn(self.oracle.moment(), image);
        }
        if fetched > std::mem::replace(&mut self.nodes[core.node].fetched, fetched) {
            self.note(core.node, What::Fetched, fetched, index.0);
        }
        if let Some(term) = leads {
            if self.nodes[core.node].observes {
                let what = format!("node {} leads in term {term}", core.node);
                return violated("ObserversDoNotLead", what);
            }
            let leader = *self
                .committed
                .leaders
                .entry(term.0)
                .or_insert_with(|| core.node);
            if leader != core.node {
                let what = format!("nodes {leader} and {} lead in term {term}", core.node);
                return violated("OneLeaderPerTerm", what);
            }
            if self.nodes[core.node].elected != Some(term) {
                self.nodes[core.node].elected = Some(term);
                self.note(core.node, What::Elected, term.0 as u64, index.0);
            }
        }
        Ok(())
    }

    /// Whether all nodes talk with each other, take each other for alive, follow one of them, and are brokers. They
    /// have to, some time after things have stopped to go wrong.
    pub(super) fn are_of_one_mind(&mut self) -> Result<bool, Violation> {
        if !self.plan.is_cluster() {
            return Ok(true);
        }
        let since = self.nodes.iter().map(|node| node.since).max().unwrap_or(0);
        let waited = self.time.saturating_sub(since.max(self.phase_since)) / MS;
        match self.lacking() {
            Some(what) if waited > FOUND_MS_MAX => {
                violated("NodesFindEachOther", format!("after {waited} ms {what}"))
            }
            lacking => Ok(lacking.is_none()),
        }
    }

    /// What a node takes for committed of a partition is on the disks of all that are in sync by the metadata, and what
    /// a leader alone has acknowledged on its own.
    pub(super) fn replicas_keep_up(&mut self) -> Done {
        if !self.plan.is_cluster() {
            return Ok(());
        }
        let mut marks = Marks::default();
        for (number, node) in self.nodes.iter().enumerate() {
            node.watermarks(|log, committed, durable| {
                marks.tell(number, log, (committed, durable))
            });
        }
        if let Some(what) = self.shared.reigns.not_on_all(&marks) {
            return violated("CommittedIsOnAllInSync", what);
        }
        for (at, (epoch, end)) in &self.shared.by_one {
            let Some(partition) = self.shared.replicated(*at) else {
                continue;
            };
            let Some((leader, _)) = partition.leader().filter(|(_, it)| it == epoch) else {
                continue;
            };
            let durable = marks.durable(partition.log, leader);
            if let Some(durable) = durable.filter(|durable| durable < end) {
                let what = format!("{at}: node {leader} has acknowledged {end}, and has {durable}");
                return violated("AckedByOneIsOnItsLeader", what);
            }
        }
        Ok(())
    }

    /// A partition that has no leader, or of which not all replicas are in sync.
    fn out_of_sync(&self) -> Option<String> {
        let all = self.shared.reigns.all();
        let whole =
            |it: &Replicated| it.leader().is_some() && it.in_sync.len() == it.replicas.len();
        let mut lacking = all.filter(|(_, partition)| !whole(partition));
        lacking.next().map(|(_, it)| format!("{it:?}"))
    }

    fn lacking(&mut self) -> Option<String> {
        let (count, time) = (self.nodes.len(), self.time);
        let ids = || (0..count).map(|node| NodeId(node as i32 + 1));
        let mut seen = Vec::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let mut others = ids().filter(|id| id.0 != number as i32 + 1);
            let silent = others.find(|id| node.verdict(time, *id) != Some(Verdict::Alive));
            if let Some(other) = silent {
                return Some(format!("node {number} does not hear {other}"));
            }
            if node.peers_up() + 1 < count {
                return Some(format!("node {number} cannot talk to all others"));
            }
            seen.extend(node.metadata());
        }
        let leaders = seen.iter().filter(|status| status.leads.is_some()).count();
        let same = seen.iter().all(|it| it.replayed == seen[0].replayed);
        let live = seen.iter().all(|it| it.live == count);
        let whole = seen.len() == count && leaders == 1 && same && live;
        if !whole {
            return Some(format!("they know {seen:?}"));
        }
        self.out_of_sync()
    }
}
