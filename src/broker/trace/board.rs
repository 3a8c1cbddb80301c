//! What a shard counts for whoever wants to look: it alone writes here, and others read at any time without its having
//! to do anything for them.

use std::cmp::Ordering;
use std::sync::{Arc, Weak};

use crossbeam::queue::SegQueue;

use super::disk_reads::DiskReads;
use super::stats::{LiveStats, RequestKind};
use super::turns::LiveTurns;
use super::walk::Trace;
use crate::base::{Counter, LeaderEpoch};
use crate::store::Usage;

/// Requests are counted by API key below this; those of other keys, which are our own, are not.
const API_KEYS: usize = 128;

/// What has gone through the partitions of one topic on one shard, as far as this node leads them.
#[derive(Debug, Default)]
pub struct TopicCounts {
    /// Records that clients have produced, those that came twice left out.
    pub produced_records: Counter,
    /// Bytes of their batches, as they were sent.
    pub produced_bytes: Counter,
}

impl TopicCounts {
    pub(in crate::broker) fn produced(&self, records: u64, bytes: u64) {
        self.produced_records.add(records);
        self.produced_bytes.add(bytes);
    }
}

/// How a partition of the shard stands; the default is that of one that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionStanding {
    /// This node leads it.
    pub leads: bool,
    /// In this epoch.
    pub epoch: LeaderEpoch,
    /// So many replicas are in sync.
    pub in_sync: usize,
    /// This node leads it, and those are not all of them.
    pub lacks_replicas: bool,
    /// This node leads it, and those are fewer than `min.insync.replicas`.
    pub lacks_min: bool,
    /// Nobody leads it.
    pub is_offline: bool,
    /// This node should lead it, or has it, and does not serve it, for what is missing in its log.
    pub is_unserved: bool,
}

/// See the module. What only grows does so from the start of the process.
#[derive(Debug)]
pub struct Board {
    /// Finished requests by [`RequestKind`].
    pub stats: [LiveStats; RequestKind::ALL.len()],
    /// The shard's longer turns.
    pub turns: LiveTurns,
    pub(super) disk_reads: [Counter; 7],
    /// Requests by API key whose reply has left, or that get none.
    requests: [Counter; API_KEYS],
    /// Bytes of those requests.
    pub received_bytes: Counter,
    /// Bytes of their replies.
    pub replied_bytes: Counter,
    /// Connections that are open.
    pub connections: Counter,
    /// Connections that were opened.
    pub connections_opened: Counter,
    /// Batches that clients have produced to this shard's partitions, retries left out.
    pub produced_batches: Counter,
    /// Records of those batches.
    pub produced_records: Counter,
    /// Bytes of those batches, as they were sent.
    pub produced_bytes: Counter,
    /// Bytes of batches in the replies to fetches.
    pub fetched_bytes: Counter,
    /// Partitions that this node leads.
    pub leaders: Counter,
    /// Of those, the ones that lack a replica in sync.
    pub under_replicated: Counter,
    /// Of those, the ones with fewer in sync than acks=all needs.
    pub under_min_isr: Counter,
    /// Partitions that nobody leads.
    pub offline: Counter,
    /// Partitions whose log is damaged.
    pub damaged: Counter,
    /// Others that this node should lead, and cannot: their log has lost records.
    pub unserved: Counter,
    /// How often this node began to lead one.
    pub leaderships: Counter,
    /// How often fewer were in sync than before, of one that it leads.
    pub isr_shrinks: Counter,
    /// How often more were.
    pub isr_expansions: Counter,
    /// Flushes of this shard's stores that became durable.
    pub flushes: Counter,
    /// Partitions that the shard has.
    pub partitions: Counter,
    /// Bytes that its stores use of their files.
    pub store_bytes: Counter,
    /// Bytes of those that are free for what comes next.
    pub store_free_bytes: Counter,
    /// Bytes that its stores may use.
    pub store_max_bytes: Counter,
    /// Bytes of the rings of its stores.
    pub journal_bytes: Counter,
    /// Bytes of those that a recovery would read.
    pub journal_used_bytes: Counter,
    /// Bytes of the newest batches that are in memory.
    pub tail_bytes: Counter,
    /// Groups that it coordinates.
    pub groups: Counter,
    /// Transactional ids that it coordinates.
    pub transactional_ids: Counter,
    /// 1 while this node decides on the metadata. This and the next ones are of shard 0 alone.
    pub controls: Counter,
    /// The last entry of the metadata log that it has replayed.
    pub metadata_entry: Counter,
    /// Brokers that are live by that, and those that are fenced.
    pub brokers: [Counter; 2],
    /// Topics of which it has got the first partition since somebody has asked, if somebody does so now and then.
    new_topics: Option<SegQueue<(String, Weak<TopicCounts>)>>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            stats: std::array::from_fn(|_| LiveStats::default()),
            turns: LiveTurns::default(),
            disk_reads: Default::default(),
            requests: std::array::from_fn(|_| Counter::default()),
            received_bytes: Counter::default(),
            replied_bytes: Counter::default(),
            connections: Counter::default(),
            connections_opened: Counter::default(),
            produced_batches: Counter::default(),
            produced_records: Counter::default(),
            produced_bytes: Counter::default(),
            fetched_bytes: Counter::default(),
            leaders: Counter::default(),
            under_replicated: Counter::default(),
            under_min_isr: Counter::default(),
            offline: Counter::default(),
            damaged: Counter::default(),
            unserved: Counter::default(),
            leaderships: Counter::default(),
            isr_shrinks: Counter::default(),
            isr_expansions: Counter::default(),
            flushes: Counter::default(),
            partitions: Counter::default(),
            store_bytes: Counter::default(),
            store_free_bytes: Counter::default(),
            store_max_bytes: Counter::default(),
            journal_bytes: Counter::default(),
            journal_used_bytes: Counter::default(),
            tail_bytes: Counter::default(),
            groups: Counter::default(),
            transactional_ids: Counter::default(),
            controls: Counter::default(),
            metadata_entry: Counter::default(),
            brokers: Default::default(),
            new_topics: None,
        }
    }
}

impl Board {
    /// One of which somebody takes the [new topics](Self::new_topics) every now and then: they wait until then.
    #[must_use]
    pub fn watched() -> Self {
        Self {
            new_topics: Some(SegQueue::new()),
            ..Self::default()
        }
    }

    /// Takes the topics of which the shard has got the first partition since this was called before, with their counts,
    /// which are there until it has lost the last one.
    pub fn new_topics(&self) -> impl Iterator<Item = (String, Weak<TopicCounts>)> {
        let queue = self.new_topics.as_ref();
        std::iter::from_fn(move || queue?.pop())
    }

    /// The shard has got the first partition of a topic.
    pub(super) fn topic(&self, name: String, counts: &Arc<TopicCounts>) {
        if let Some(queue) = &self.new_topics {
            queue.push((name, Arc::downgrade(counts)));
        }
    }

    /// How what replies have from the disk was read.
    #[must_use]
    pub fn disk_reads(&self) -> DiskReads {
        DiskReads::of(std::array::from_fn(|i| self.disk_reads[i].get()))
    }

    /// Requests of an API whose reply has left, or that get none.
    #[must_use]
    pub fn requests(&self, key: i16) -> u64 {
        let counter = usize::try_from(key)
            .ok()
            .and_then(|key| self.requests.get(key));
        counter.map_or(0, Counter::get)
    }

    /// The reply of a request has left, or it gets none.
    pub(super) fn finished(&self, trace: &Trace) {
        let key = usize::try_from(trace.key).ok();
        if let Some(counter) = key.and_then(|key| self.requests.get(key)) {
            counter.add(1);
        }
        self.received_bytes.add(u64::from(trace.received));
        self.replied_bytes.add(u64::from(trace.replied));
    }

    /// A connection was accepted.
    pub(in crate::broker) fn opened(&self) {
        self.connections.add(1);
        self.connections_opened.add(1);
    }

    /// So many connections are left.
    pub(in crate::broker) fn left(&self, connections: usize) {
        self.connections.set(connections as u64);
    }

    /// A batch of a client's was appended.
    pub(in crate::broker) fn appended(&self, records: u64, bytes: u64) {
        self.produced_batches.add(1);
        self.produced_records.add(records);
        self.produced_bytes.add(bytes);
    }

    /// A partition stood so, and stands otherwise now.
    pub(in crate::broker) fn stands(&self, before: PartitionStanding, now: PartitionStanding) {
        let gauges = [
            (&self.leaders, before.leads, now.leads),
            (
                &self.under_replicated,
                before.lacks_replicas,
                now.lacks_replicas,
            ),
            (&self.under_min_isr, before.lacks_min, now.lacks_min),
            (&self.offline, before.is_offline, now.is_offline),
            (&self.unserved, before.is_unserved, now.is_unserved),
        ];
        for (gauge, before, now) in gauges {
            match (before, now) {
                (false, true) => gauge.add(1),
                (true, false) => gauge.take(1),
                _ => {}
            }
        }
        if now.leads && (!before.leads || before.epoch != now.epoch) {
            self.leaderships.add(1);
        }
        if now.leads && before.leads {
            match now.in_sync.cmp(&before.in_sync) {
                Ordering::Less => self.isr_shrinks.add(1),
                Ordering::Greater => self.isr_expansions.add(1),
                Ordering::Equal => {}
            }
        }
    }

    /// What the stores of the shard have.
    pub(in crate::broker) fn stores(
        &self,
        usages: impl Iterator<Item = Usage>,
        partitions: usize,
        damaged: usize,
    ) {
        let mut sums = [0; 6];
        for usage in usages {
            let of = [
                usage.bytes_total,
                usage.chunk_bytes_free,
                usage.bytes_max,
                usage.journal_bytes,
                usage.journal_bytes_used,
                usage.memory_tail_bytes as u64,
            ];
            for (sum, more) in sums.iter_mut().zip(of) {
                *sum = u64::saturating_add(*sum, more);
            }
        }
        let shown = [
            &self.store_bytes,
            &self.store_free_bytes,
            &self.store_max_bytes,
            &self.journal_bytes,
            &self.journal_used_bytes,
            &self.tail_bytes,
        ];
        for (counter, sum) in shown.into_iter().zip(sums) {
            counter.set(sum);
        }
        self.partitions.set(partitions as u64);
        self.damaged.set(damaged as u64);
    }

    /// What is known of the metadata: whether this node decides on them, which entry was replayed last, and, unless one
    /// is being replayed, how many brokers are live and fenced.
    pub(in crate::broker) fn metadata(&self, leads: bool, entry: u64, brokers: Option<[usize; 2]>) {
        self.controls.set(u64::from(leads));
        self.metadata_entry.set(entry);
        for (counter, count) in self.brokers.iter().zip(brokers.into_iter().flatten()) {
            counter.set(count as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_a_partition_is_counted() {
        let board = Board::default();
        let stands = |before, now| {
            board.stands(before, now);
            let gauges = [
                &board.leaders,
                &board.under_replicated,
                &board.under_min_isr,
                &board.offline,
            ];
            let counts = [
                &board.leaderships,
                &board.isr_shrinks,
                &board.isr_expansions,
            ];
            (gauges.map(Counter::get), counts.map(Counter::get))
        };
        let nothing = PartitionStanding::default();
        let whole = PartitionStanding {
            leads: true,
            epoch: LeaderEpoch(3),
            in_sync: 3,
            ..nothing
        };
        let shrunk = PartitionStanding {
            in_sync: 1,
            lacks_replicas: true,
            lacks_min: true,
            ..whole
        };
        let led_elsewhere = PartitionStanding {
            epoch: LeaderEpoch(4),
            in_sync: 2,
            ..nothing
        };
        let offline = PartitionStanding {
            is_offline: true,
            ..led_elsewhere
        };
        assert_eq!(stands(nothing, whole), ([1, 0, 0, 0], [1, 0, 0]));
        assert_eq!(stands(whole, shrunk), ([1, 1, 1, 0], [1, 1, 0]));
        assert_eq!(stands(shrunk, whole), ([1, 0, 0, 0], [1, 1, 1]));
        assert_eq!(stands(whole, led_elsewhere), ([0, 0, 0, 0], [1, 1, 1]));
        assert_eq!(stands(led_elsewhere, offline), ([0, 0, 0, 1], [1, 1, 1]));
        let again = PartitionStanding {
            epoch: LeaderEpoch(5),
            ..whole
        };
        assert_eq!(stands(offline, again), ([1, 0, 0, 0], [2, 1, 1]));
        assert_eq!(stands(again, nothing), ([0, 0, 0, 0], [2, 1, 1]));
    }
}
