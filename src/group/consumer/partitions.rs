//! Sets of partitions: those of a target assignment or of a request, and those that a member has, each with the epoch
//! in which it was given to it. Of topics, or of whatever else has partitions: tasks are those of subtopologies.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::base::TopicId;

/// What a topic takes in a set, about, and what a partition does.
const TOPIC_BYTES: usize = 64;
const PARTITION_BYTES: usize = 8;

/// Partitions of topics. Sorted, none twice, and no topic is without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions<K = TopicId>(BTreeMap<K, Vec<i32>>);

impl<K> Default for Partitions<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Partitions<K> {
    /// All of these, of topics that may be named again and again.
    pub fn of(all: impl IntoIterator<Item = (K, Vec<i32>)>) -> Self {
        let mut it = Self::default();
        for (topic, mut partitions) in all {
            it.0.entry(topic).or_default().append(&mut partitions);
        }
        for of_topic in it.0.values_mut() {
            of_topic.sort_unstable();
            of_topic.dedup();
        }
        it.0.retain(|_, of_topic| !of_topic.is_empty());
        it
    }

    /// Adds partitions of a topic.
    pub fn add(&mut self, topic: K, partitions: impl IntoIterator<Item = i32>) {
        let mut partitions = partitions.into_iter().peekable();
        if partitions.peek().is_none() {
            return;
        }
        let of_topic = self.0.entry(topic).or_default();
        of_topic.extend(partitions);
        of_topic.sort_unstable();
        of_topic.dedup();
    }

    /// By topic.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = (K, &[i32])> {
        self.0.iter().map(|(topic, of)| (topic.clone(), &**of))
    }

    /// Those behind this topic.
    pub fn topics_after(&self, topic: Option<K>) -> impl Iterator<Item = (K, &[i32])> {
        let from = topic.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.0.range((from, Bound::Unbounded));
        behind.map(|(topic, of)| (topic.clone(), &**of))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (K, i32)> {
        let topics = self.0.iter();
        topics.flat_map(|(topic, of)| of.iter().map(|partition| (topic.clone(), *partition)))
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contains(&self, topic: K, partition: i32) -> bool {
        let of_topic = self.0.get(&topic);
        of_topic.is_some_and(|of| of.binary_search(&partition).is_ok())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they take, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len() * TOPIC_BYTES + self.count() * PARTITION_BYTES
    }
}

/// Partitions that a member has, each with the epoch of the target by which it was given to the member (KIP-1251).
/// Sorted, none twice, and no topic is without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<K = TopicId>(BTreeMap<K, Vec<(i32, i32)>>);

impl<K> Default for Held<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Held<K> {
    /// All of these, in whatever order: topic, partition, epoch. Of one that is there twice the last epoch counts.
    pub fn of(all: impl IntoIterator<Item = (K, i32, i32)>) -> Self {
        let mut it = Self::default();
        for (topic, partition, epoch) in all {
            it.0.entry(topic).or_default().push((partition, epoch));
        }
        for of_topic in it.0.values_mut() {
            // To insert each where it belongs would move what is behind it, once for each.
            if !of_topic.is_sorted_by(|a, b| a.0 < b.0) {
                of_topic.reverse();
                of_topic.sort_by_key(|(partition, _)| *partition);
                of_topic.dedup_by_key(|(partition, _)| *partition);
            }
        }
        it
    }

    /// By topic: each partition with its epoch.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = (K, &[(i32, i32)])> {
        self.0.iter().map(|(topic, of)| (topic.clone(), &**of))
    }

    /// All of them, each with its epoch.
    pub fn all(&self) -> impl Iterator<Item = (K, i32, i32)> {
        let topics = self.0.iter();
        topics.flat_map(|(topic, of)| {
            of.iter()
                .map(|(partition, epoch)| (topic.clone(), *partition, *epoch))
        })
    }

    /// The epoch of this one, if it is among them.
    #[must_use]
    pub fn epoch_of(&self, topic: K, partition: i32) -> Option<i32> {
        let of_topic = self.0.get(&topic)?;
        let at = of_topic.binary_search_by_key(&partition, |(of, _)| *of);
        at.ok().map(|at| of_topic[at].1)
    }

    /// Whether one of these is among them.
    #[must_use]
    pub fn meets(&self, others: &Partitions<K>) -> bool {
        let mut others = others.all();
        others.any(|(topic, partition)| self.epoch_of(topic, partition).is_some())
    }

    /// Whether all of these are among them.
    #[must_use]
    pub fn has_all(&self, others: &Partitions<K>) -> bool {
        let mut others = others.all();
        others.all(|(topic, partition)| self.epoch_of(topic, partition).is_some())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they take, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len() * TOPIC_BYTES + self.count() * PARTITION_BYTES
    }

    /// Whether the same partitions are in both, whatever their epochs.
    #[must_use]
    pub fn has_the_same_as(&self, other: &Self) -> bool {
        let places = |held: &Self| -> Vec<(K, i32)> {
            held.all()
                .map(|(topic, partition, _)| (topic, partition))
                .collect()
        };
        self.count() == other.count() && places(self) == places(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TopicId = TopicId([1; 16]);
    const B: TopicId = TopicId([2; 16]);

    #[test]
    fn sets_are_sorted_and_have_each_once() {
        let mut set = Partitions::default();
        set.add(B, [3, 1, 3]);
        set.add(A, []);
        set.add(B, [0]);
        assert_eq!(set.all().collect::<Vec<_>>(), [(B, 0), (B, 1), (B, 3)]);
        assert!(set.contains(B, 1) && !set.contains(B, 2) && !set.contains(A, 1));
        let held = Held::of([(B, 3, 7), (B, 0, 8), (B, 3, 9)]);
        assert_eq!(held.all().collect::<Vec<_>>(), [(B, 0, 8), (B, 3, 9)]);
        assert!(held.meets(&set) && !held.has_all(&set));
        let held = Held::of(held.all().chain([(B, 1, 1)]));
        assert!(held.has_all(&set) && held.count() == set.count());
        let again = Partitions::of([(B, vec![3, 1]), (A, vec![]), (B, vec![0, 3])]);
        assert_eq!(again, set);
    }
}
