//! What a broker answers when it is asked where the time goes: the counts of all its
//! shards together, and its slowest requests.

use super::disk_reads::DiskReads;
use super::stage::STAGES;
use super::stats::{RequestKind, Stats};
use super::tracer::Tracer;
use super::turns::Turns;
use super::units::ns;
use crate::base::{IdMap, LogId, Mono};
use crate::controller::Image;

/// One of the slowest requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slow {
    /// Whether it is one of the last seconds; else one of all since the start.
    pub recent: bool,
    /// The shard that held its connection.
    pub shard: u16,
    /// API key.
    pub key: i16,
    /// Beginning of the client's id.
    pub client: String,
    /// Topic of its first partition; empty if it has none, or the topic is gone.
    pub topic: String,
    /// The first partition.
    pub partition: i32,
    /// Number of partitions.
    pub partitions: u32,
    /// Bytes of the request or of the reply, whichever is larger.
    pub bytes: u32,
    /// How long ago its reply had left, in nanoseconds.
    pub ago_ns: u64,
    /// How long it waited for records, in nanoseconds; not part of its latency.
    pub parked_ns: u64,
    /// Nanoseconds by stage.
    pub spent_ns: [u64; STAGES],
}

impl Slow {
    /// Its latency in nanoseconds.
    #[must_use]
    pub fn total_ns(&self) -> u64 {
        self.spent_ns
            .iter()
            .fold(0, |sum, ns| sum.saturating_add(*ns))
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `node.id` of the broker.
    pub node: i32,
    /// When the broker was started, in ms since 1970: what was counted before is forgotten.
    pub started_ms: i64,
    /// Shards it has.
    pub shards: u16,
    /// The broker's monotonic clock, in nanoseconds.
    pub at_ns: u64,
    /// Counts since the start, by [`RequestKind`].
    pub stats: [Stats; RequestKind::ALL.len()],
    /// The slowest requests, in no order.
    pub slowest: Vec<Slow>,
    /// The longer turns of its shards since the start.
    pub turns: Turns,
    /// How its shards have read from the disk for replies.
    pub disk_reads: DiskReads,
}

impl Report {
    /// What one shard has to say.
    pub(crate) fn of_shard(shard: u16, tracer: &Tracer, image: &Image, now: Mono) -> Self {
        let logs: IdMap<LogId, ()> = tracer.slowest().map(|(_, slow)| (slow.log, ())).collect();
        let names = names(&logs, image);
        let slowest = tracer.slowest().map(|(recent, slow)| {
            let (topic, partition) = names.get(&slow.log).cloned().unwrap_or_default();
            Slow {
                recent,
                shard,
                key: slow.key,
                client: String::from_utf8_lossy(slow.client.text()).into_owned(),
                topic,
                partition,
                partitions: slow.partitions,
                bytes: slow.bytes,
                ago_ns: now.0.saturating_sub(slow.finished.0),
                parked_ns: ns(slow.parked),
                spent_ns: slow.spent.map(ns),
            }
        });
        Self {
            node: 0,
            started_ms: 0,
            shards: 1,
            at_ns: now.0,
            stats: RequestKind::ALL.map(|class| tracer.stats(class)),
            slowest: slowest.collect(),
            turns: tracer.turns(),
            disk_reads: tracer.disk_reads_so_far(),
        }
    }

    /// Takes in what another shard has to say.
    pub fn merge(&mut self, other: Self) {
        self.shards += other.shards;
        self.started_ms = self.started_ms.max(other.started_ms);
        self.at_ns = self.at_ns.max(other.at_ns);
        for (mine, theirs) in self.stats.iter_mut().zip(&other.stats) {
            mine.merge(theirs);
        }
        self.slowest.extend(other.slowest);
        self.turns.merge(&other.turns);
        self.disk_reads.merge(&other.disk_reads);
    }

    /// The counts of a kind.
    #[must_use]
    pub const fn of(&self, class: RequestKind) -> &Stats {
        &self.stats[class as usize]
    }
}

/// Topic and partition of these logs.
fn names(logs: &IdMap<LogId, ()>, image: &Image) -> IdMap<LogId, (String, i32)> {
    let mut names = IdMap::default();
    for topic in image.topics() {
        for (index, partition) in topic.partitions.iter().enumerate() {
            if logs.contains_key(&partition.log) {
                names.insert(partition.log, (topic.name.to_string(), index as i32));
            }
        }
    }
    names
}
