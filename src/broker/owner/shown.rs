//! What an owner has seen of it by whoever looks at metrics.

use super::Owner;
use super::stores::StoreSlot;
use crate::base::{LogId, Mono, NodeId};
use crate::broker::trace::PartitionStanding;
use crate::controller::{Partition, Topic};

/// What stores have is shown no more often than this.
const SHOW_STORES_MS: u64 = 200;

impl Owner {
    /// The shard has done something: has what its stores have now shown, at once or soon. Returns whether it was, so
    /// that other gauges of the shard are.
    pub fn show(&mut self, now: Mono) -> bool {
        self.is_to_be_shown = now < self.show_at;
        if self.is_to_be_shown {
            return false;
        }
        self.show_at = now.plus_ms(SHOW_STORES_MS);
        let usages = self.slots.iter().map(StoreSlot::usage);
        self.board
            .stores(usages, self.partitions.len(), self.damaged.len());
        true
    }

    /// When that is, if nothing else happens until then.
    pub fn shows_at(&self) -> Mono {
        match self.is_to_be_shown {
            true => self.show_at,
            false => Mono::NEVER,
        }
    }

    /// Counts what goes through a partition with its topic.
    pub(super) fn count_topic(&mut self, log: LogId, topic: &Topic) {
        if let Some(open) = self.partitions.get_mut(&log) {
            let name = (topic.id, topic.name.to_string());
            open.counts = self.topics.of(name, &self.board);
        }
    }

    /// How a partition stands now that it was assigned.
    pub(super) fn show_standing(&mut self, partition: &Partition, min_in_sync: i32) {
        let node = self.config.node();
        let should_lead = partition.leader == node && self.roles.is_live && !self.roles.is_leaving;
        let Some(open) = self.partitions.get_mut(&partition.log) else {
            return;
        };
        let leader = open.leader.as_ref();
        let leads = leader.is_some_and(|it| it.epoch() == partition.leader_epoch);
        let (in_sync, replicas) = (partition.isr.len(), partition.replicas.len());
        // As for acks=all.
        let enough = (min_in_sync.max(1) as usize).min(replicas);
        let now = PartitionStanding {
            leads,
            epoch: partition.leader_epoch,
            in_sync,
            lacks_replicas: leads && in_sync < replicas,
            lacks_min: leads && in_sync < enough,
            is_offline: partition.leader == NodeId::NOBODY,
            is_unserved: should_lead && !leads,
        };
        self.board.stands(open.standing, now);
        open.standing = now;
    }

    /// It leads a partition no more.
    pub(super) fn show_resigned(&mut self, log: LogId) {
        if let Some(open) = self.partitions.get_mut(&log) {
            let now = PartitionStanding {
                leads: false,
                lacks_replicas: false,
                lacks_min: false,
                ..open.standing
            };
            self.board.stands(open.standing, now);
            open.standing = now;
        }
    }
}
