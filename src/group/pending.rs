//! Offsets that were committed in transactions which are not over: what there is of them, and of which transactions.
//! `transactions.rs` says what becomes of them.

use std::collections::{BTreeMap, BTreeSet};

use super::logged::LogPlace;
use super::offsets::Committed;
use crate::base::{Name, TopicId};

/// An offset that waits for the end of its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub committed: Committed,
    /// Where its record is.
    pub place: LogPlace,
}

/// Those of one group, by topic, partition and producer.
#[derive(Debug, Default)]
pub(super) struct PendingOffsets {
    by_topic: BTreeMap<Name, BTreeMap<i32, BTreeMap<i64, Pending>>>,
    /// What they take, about.
    bytes: usize,
}

/// What one takes by itself, with its place among those of its transaction.
const PENDING_BYTES: usize = 320;

impl Pending {
    fn bytes(&self, topic: &str) -> usize {
        PENDING_BYTES + topic.len() + self.committed.metadata.len()
    }
}

impl PendingOffsets {
    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// What they take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a transaction has an offset for a partition.
    pub fn contains(&self, topic: &str, partition: i32) -> bool {
        let of_topic = self.by_topic.get(topic);
        of_topic.is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// Whether a transaction has an offset for a partition of the topic with this id.
    pub fn contains_of(&self, topic: &str, partition: i32, id: TopicId) -> bool {
        let of_topic = self.by_topic.get(topic);
        let pending = of_topic.and_then(|partitions| partitions.get(&partition));
        pending.is_some_and(|pending| pending.values().any(|it| it.committed.is_of(id)))
    }

    /// All partitions that have one.
    pub fn places(&self) -> impl Iterator<Item = (&Name, i32)> {
        let topics = self.by_topic.iter();
        topics.flat_map(|(topic, partitions)| partitions.keys().map(move |p| (topic, *p)))
    }

    /// Panics if something was counted wrongly; how many there are. For tests and the simulator.
    pub fn invariants(&self) -> usize {
        let (mut count, mut bytes) = (0, 0);
        for (topic, partitions) in &self.by_topic {
            assert!(!partitions.is_empty(), "{topic} has nothing");
            for of_partition in partitions.values() {
                assert!(
                    !of_partition.is_empty(),
                    "{topic} has a partition of nobody"
                );
                count += of_partition.len();
                bytes += of_partition
                    .values()
                    .map(|it| it.bytes(topic))
                    .sum::<usize>();
            }
        }
        assert_eq!(bytes, self.bytes, "bytes of pending offsets");
        count
    }

    /// The producer has this one now, in place of what it had before. Returns the name of the topic that is kept.
    pub fn put(&mut self, topic: &str, partition: i32, producer: i64, pending: Pending) -> Name {
        self.bytes += pending.bytes(topic);
        let name = match self.by_topic.get_key_value(topic) {
            Some((name, _)) => name.clone(),
            None => Name::from(topic),
        };
        let partitions = self.by_topic.entry(name.clone()).or_default();
        let of_partition = partitions.entry(partition).or_default();
        if let Some(before) = of_partition.insert(producer, pending) {
            self.bytes -= before.bytes(topic);
        }
        name
    }

    /// What the producer has, which it has no more.
    pub fn take(&mut self, topic: &str, partition: i32, producer: i64) -> Option<Pending> {
        let partitions = self.by_topic.get_mut(topic)?;
        let of_partition = partitions.get_mut(&partition)?;
        let taken = of_partition.remove(&producer)?;
        if of_partition.is_empty() {
            partitions.remove(&partition);
        }
        if partitions.is_empty() {
            self.by_topic.remove(topic);
        }
        self.bytes -= taken.bytes(topic);
        Some(taken)
    }

    /// Takes out all of a partition; the producers that had one.
    pub fn take_all(&mut self, topic: &str, partition: i32) -> Vec<i64> {
        let of_topic = self.by_topic.get(topic);
        let of_partition = of_topic.and_then(|partitions| partitions.get(&partition));
        let producers: Vec<i64> =
            of_partition.map_or_else(Vec::new, |p| p.keys().copied().collect());
        for producer in &producers {
            self.take(topic, partition, *producer);
        }
        producers
    }
}

/// A partition for which a transaction has an offset: group, topic, partition.
pub(super) type OffsetOf = (Name, Name, i32);

/// A transaction that is not over, as far as this partition of `__consumer_offsets` knows it.
#[derive(Debug)]
pub(super) struct OpenTransaction {
    /// The smallest number of an append that has written one of its records.
    pub since: u64,
    /// For which it has an offset; none if they were deleted since.
    pub offsets: BTreeSet<OffsetOf>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct OpenTransactions {
    by_producer: BTreeMap<i64, OpenTransaction>,
    by_age: BTreeSet<(u64, i64)>,
}

impl OpenTransactions {
    /// The smallest number of an append that has written a record of one.
    pub fn oldest(&self) -> Option<u64> {
        self.by_age.first().map(|(since, _)| *since)
    }

    /// How many offsets a producer would have with these.
    pub fn count_with<'a>(
        &self,
        producer: i64,
        group: &Name,
        more: impl Iterator<Item = (&'a Name, i32)>,
    ) -> usize {
        let Some(open) = self.by_producer.get(&producer) else {
            return more.count();
        };
        let is_new = |(topic, partition): &(&Name, i32)| {
            let offset = (group.clone(), Name::clone(topic), *partition);
            !open.offsets.contains(&offset)
        };
        open.offsets.len() + more.filter(is_new).count()
    }

    /// A producer has an offset, which an append with this number has written.
    pub fn add(&mut self, producer: i64, offset: OffsetOf, append: u64) {
        let new = || OpenTransaction {
            since: append,
            offsets: BTreeSet::new(),
        };
        let open = self.by_producer.entry(producer).or_insert_with(new);
        if append < open.since {
            self.by_age.remove(&(open.since, producer));
            open.since = append;
        }
        self.by_age.insert((open.since, producer));
        open.offsets.insert(offset);
    }

    /// An offset is deleted.
    pub fn remove(&mut self, producer: i64, offset: &OffsetOf) {
        if let Some(open) = self.by_producer.get_mut(&producer) {
            open.offsets.remove(offset);
        }
    }

    /// Panics if the books contradict each other, or what groups have. For tests and the simulator.
    pub fn invariants<'a>(&self, groups: impl Fn(&str) -> Option<&'a PendingOffsets>) -> usize {
        let ages = self.by_producer.iter().map(|(id, open)| (open.since, *id));
        let ages: BTreeSet<_> = ages.collect();
        assert!(ages == self.by_age, "ages of transactions");
        for (producer, open) in &self.by_producer {
            for (group, topic, partition) in &open.offsets {
                let pending = groups(group).expect("it has a pending offset");
                let of_partition = &pending.by_topic[topic][partition];
                let append = of_partition[producer].place.append;
                assert!(append >= open.since, "the first one");
            }
        }
        self.by_producer.values().map(|it| it.offsets.len()).sum()
    }

    /// A transaction is over.
    pub fn end(&mut self, producer: i64) -> Option<OpenTransaction> {
        let open = self.by_producer.remove(&producer)?;
        self.by_age.remove(&(open.since, producer));
        Some(open)
    }
}
