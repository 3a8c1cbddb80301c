//! What this node is for each of its partitions: the one that leads, or one that has a copy. It leads what the metadata
//! say that it leads, in the epoch that they say.

use super::acks::LogWaiter;
use super::{OpenLog, Owner};
use crate::base::{ErrorCode, LogId, Mono, NodeId, Now, Offset};
use crate::controller::{self, Image};
use crate::log::{Log, LogConfig};
use crate::replica::Leader;
use crate::store::{FlushSeq, LogLabel, Store};

impl Owner {
    /// Something of a log is durable with this flush, that was written for whoever leads it.
    pub fn wrote(&mut self, log: LogId, flush: FlushSeq) {
        if let Some(open) = self.partitions.get_mut(&log) {
            let slot = &mut self.slots[open.slot];
            open.changed(flush, slot, &mut self.kept);
        }
    }

    /// Nothing before this comes back at another replica of a log that this node leads: who waits for that is told.
    pub fn dropped(&mut self, log: LogId, replica: NodeId, start: Offset) {
        if let Some(open) = self.partitions.get_mut(&log)
            && let Some(leader) = &mut open.leader
            && leader.on_dropped(&open.log, replica, start)
            && !leader.is_idle()
        {
            self.slots[open.slot].tell_next(log);
        }
    }

    /// Another replica of a log that this node leads has everything before `durable` on its disk.
    pub fn replicated(&mut self, log: LogId, replica: NodeId, durable: Offset) {
        self.commits(log, |leader, here| {
            leader.on_replicated(here, replica, durable)
        });
    }

    /// Something may have moved the high watermark of a log that this node leads: who waited for that is told.
    fn commits(
        &mut self,
        log: LogId,
        act: impl FnOnce(&mut Leader<LogWaiter>, (&mut Log, &mut Store)) -> u64,
    ) {
        let Some(open) = self.partitions.get_mut(&log) else {
            return;
        };
        let (Some(leader), slot) = (&mut open.leader, &mut self.slots[open.slot]) else {
            return;
        };
        let before = open.log.high_watermark();
        let readable = act(leader, (&mut open.log, &mut slot.store));
        self.watches.moved(&mut open.log, readable);
        if open.log.high_watermark() > before {
            self.roles.moved.insert(log);
            if !leader.is_idle() {
                slot.tell_next(log);
            }
        }
    }

    /// The shard is to serve by this image.
    pub fn serves_by(&mut self, image: &Image) {
        let node = self.config.node();
        let me = *self
            .roles
            .me
            .get_or_insert_with(|| image.brokers.member(node).unwrap_or_default());
        self.roles.is_live = image.brokers.is_live(me);
    }

    /// A partition is led by this one and its replicas are these now.
    pub(super) fn assign(
        &mut self,
        now: Mono,
        partition: &controller::Partition,
        min_in_sync: i32,
    ) {
        let (id, node) = (partition.log, self.config.node());
        let Some(open) = self.partitions.get(&id) else {
            return;
        };
        let known = open.leader.as_ref().map(Leader::epoch);
        let is_left = self.roles.is_leaving && partition.replicas.len() > 1;
        let leads = partition.leader == node
            && !is_left
            && (self.roles.is_live || known == Some(partition.leader_epoch));
        if !leads || known != Some(partition.leader_epoch) {
            self.resign(id, ErrorCode::NotLeaderOrFollower);
        }
        if self.roles.replicates {
            self.roles.reassigned.insert(id);
        }
        if leads && !self.begin_epoch(now, partition) {
            return;
        }
        let Some(open) = self.partitions.get_mut(&id) else {
            return;
        };
        let (Some(leader), slot) = (&mut open.leader, &mut self.slots[open.slot]) else {
            return;
        };
        let here = (&mut open.log, &mut slot.store);
        let sets = (&partition.replicas[..], &partition.isr[..]);
        let min = min_in_sync.max(1) as usize;
        let readable = leader.assign(here, partition.partition_epoch, sets, min);
        self.watches.moved(&mut open.log, readable);
        if !leader.is_idle() {
            slot.tell_next(id);
        }
    }

    /// This node leads a partition in this epoch. Returns whether it can.
    fn begin_epoch(&mut self, now: Mono, partition: &controller::Partition) -> bool {
        let node = self.config.node();
        let Some(open) = self.partitions.get_mut(&partition.log) else {
            return false;
        };
        if open.leader.is_some() {
            return true;
        }
        let (log, slot) = (&mut open.log, &mut self.slots[open.slot]);
        // What is here counts from the epoch of an unclean election on, whatever there was: that is said once.
        if partition.is_recovering() && partition.overrules(log.leader_epoch()) {
            let lost = log.give_up_lost(&mut slot.store);
            let (topic, index) = (&log.label().topic, log.label().partition);
            let lost = lost.map_or(String::new(), |before| {
                format!(", and what was committed from there to offset {before} is lost")
            });
            tracing::error!(
                "{topic}-{index}: this node leads it in epoch {} though it was not in sync: it goes on at offset {}{lost}",
                partition.leader_epoch,
                log.end_offset(),
            );
            open.has_lost = false;
        }
        if open.has_lost || log.lost_before().is_some() {
            if !self.roles.replicates {
                let label = log.label();
                tracing::error!(
                    "{}-{} has lost records that were committed, and is not served: other nodes may have them",
                    label.topic,
                    label.partition,
                );
            }
            // Whoever talks with the others has one of them lead.
            return false;
        }
        let flush = log.begin_epoch(partition.leader_epoch, &mut slot.store);
        if self.roles.replicates {
            log.leads_from(now);
        }
        let leader = Leader::begins(node, partition.leader_epoch, log.end_offset());
        open.leader = Some(leader);
        if let Some(flush) = flush {
            open.changed(flush, slot, &mut self.kept);
        }
        true
    }

    /// This node does not lead a partition any more, if it did: whoever waits there is told this.
    pub(super) fn resign(&mut self, log: LogId, why: ErrorCode) {
        let Some(leader) = self
            .partitions
            .get_mut(&log)
            .and_then(|it| it.leader.take())
        else {
            return;
        };
        self.show_resigned(log);
        self.watches.gone(log);
        if !leader.is_idle() {
            self.resigned.push_back((leader, why));
        }
    }

    /// Grows with each flush that begins.
    #[must_use]
    pub fn flushes_begun(&self) -> u64 {
        let begun = self.slots.iter().map(|slot| slot.store.started_seq().0);
        begun.sum()
    }

    /// Whether this node leads something that other nodes have too.
    #[must_use]
    pub fn leads_others(&self) -> bool {
        self.partitions.values().any(OpenLog::leads_others)
    }

    /// The node stops: what has other replicas it leads no more, so that nobody waits here for them.
    pub(super) fn leave_replicas(&mut self) {
        self.roles.is_leaving = true;
        let open = self.partitions.iter();
        let led = open.filter(|(_, open)| open.leads_others());
        let led: Vec<LogId> = led.map(|(log, _)| *log).collect();
        for log in led {
            self.resign(log, ErrorCode::NotLeaderOrFollower);
            self.roles.reassigned.insert(log);
        }
    }

    /// Opens or creates a log of the broker's own. It has no other replica: what is on the disk of it is committed.
    pub fn open_own(
        &mut self,
        now: Now,
        slot: usize,
        log: LogId,
        label: LogLabel,
        config: LogConfig,
    ) {
        self.open_log(now, slot, log, label, config);
        let node = self.config.node();
        if let Some(open) = self.partitions.get_mut(&log) {
            let here = (&mut open.log, &mut self.slots[open.slot].store);
            let me = [node];
            let leader = open.leader.get_or_insert_with(|| Leader::alone(node));
            leader.assign(here, 0, (&me, &me), 1);
        }
    }
}
