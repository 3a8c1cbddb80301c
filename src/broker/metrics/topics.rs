//! The topics of a node, as its shards have told of them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::base::limits::METRIC_TOPICS_MAX;
use crate::broker::trace::{Board, TopicCounts};

/// What has gone through a topic on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Its name.
    pub topic: String,
    /// Records that clients have produced.
    pub produced_records: u64,
    /// Bytes of their batches.
    pub produced_bytes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct ToldTopics {
    known: Vec<(String, Weak<TopicCounts>)>,
    /// From how many on those that are gone are looked for.
    look_at: usize,
}

impl ToldTopics {
    /// Takes what shards have to tell. To be called every now and then, or it piles up.
    pub fn gather(&mut self, boards: &[Arc<Board>]) {
        let new = boards.iter().flat_map(|board| board.new_topics());
        self.known.extend(new);
        if self.known.len() > self.look_at {
            self.known.retain(|(_, counts)| counts.strong_count() > 0);
            self.look_at = 2 * self.known.len() + 16;
        }
    }

    /// Those with the most bytes so far, by name, no more than [`METRIC_TOPICS_MAX`], and how many are left out.
    #[must_use]
    pub fn busiest(&self) -> (Vec<Traffic>, usize) {
        let mut by_name: BTreeMap<&str, Traffic> = BTreeMap::new();
        for (name, counts) in &self.known {
            let Some(counts) = counts.upgrade() else {
                continue;
            };
            let sum = by_name.entry(name).or_default();
            sum.produced_records += counts.produced_records.get();
            sum.produced_bytes += counts.produced_bytes.get();
        }
        let named = |(name, sum): (&str, Traffic)| Traffic {
            topic: name.to_owned(),
            ..sum
        };
        let mut all: Vec<Traffic> = by_name.into_iter().map(named).collect();
        let left_out = all.len().saturating_sub(METRIC_TOPICS_MAX);
        if left_out > 0 {
            all.sort_by_key(|one| Reverse(one.produced_bytes));
            all.truncate(METRIC_TOPICS_MAX);
            all.sort_by(|a, b| a.topic.cmp(&b.topic));
        }
        (all, left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::TopicId;
    use crate::broker::trace::CountedTopics;

    #[test]
    fn shards_add_up_and_the_busiest_are_told() {
        let boards: Vec<Arc<Board>> = (0..2).map(|_| Arc::new(Board::watched())).collect();
        let mut shards = [CountedTopics::default(), CountedTopics::default()];
        let mut held = Vec::new();
        let many = METRIC_TOPICS_MAX + 10;
        for number in 0..many {
            for (shard, board) in shards.iter_mut().zip(&boards) {
                let id = TopicId((number as u128).to_be_bytes());
                let counts = shard.of((id, format!("t{number:06}")), board);
                counts.produced(1, number as u64);
                held.push(counts);
            }
        }
        let mut topics = ToldTopics::default();
        topics.gather(&boards);
        let (told, left_out) = topics.busiest();
        assert_eq!((told.len(), left_out), (METRIC_TOPICS_MAX, 10));
        assert_eq!(told[0].topic, "t000010", "the least busy ones are left out");
        let last = Traffic {
            topic: format!("t{:06}", many - 1),
            produced_records: 2,
            produced_bytes: 2 * (many as u64 - 1),
        };
        assert_eq!(told.last(), Some(&last));
        held.clear();
        assert_eq!(topics.busiest().0.len(), 0);
        // New ones take their place.
        for number in 0..topics.look_at as u128 {
            drop(shards[0].of((TopicId(number.to_be_bytes()), "t".into()), &boards[0]));
        }
        topics.gather(&boards);
        assert!(topics.known.is_empty());
    }
}
