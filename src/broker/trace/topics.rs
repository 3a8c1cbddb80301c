//! What goes through each topic, counted by the shards that have its partitions.

use std::sync::{Arc, Weak};

use super::board::{Board, TopicCounts};
use crate::base::{IdMap, TopicId};

/// The topics of which a shard has partitions, who hold their counts: a topic is counted as long as one of them does.
#[derive(Debug, Default)]
pub struct CountedTopics {
    known: IdMap<TopicId, Weak<TopicCounts>>,
    /// How many there may be until those that are gone are looked for.
    look_at: usize,
}

impl CountedTopics {
    /// Where a topic is counted. Whoever looks at the board gets to know of it.
    pub(in crate::broker) fn of(
        &mut self,
        topic: (TopicId, String),
        board: &Board,
    ) -> Arc<TopicCounts> {
        let (id, name) = topic;
        if let Some(counts) = self.known.get(&id).and_then(Weak::upgrade) {
            return counts;
        }
        if self.known.len() >= self.look_at {
            self.known.retain(|_, counts| counts.strong_count() > 0);
            self.look_at = 2 * self.known.len() + 16;
        }
        let counts = Arc::new(TopicCounts::default());
        self.known.insert(id, Arc::downgrade(&counts));
        board.topic(name, &counts);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> TopicId {
        TopicId(number.to_be_bytes())
    }

    #[test]
    fn partitions_of_a_topic_count_together_and_it_goes_with_the_last() {
        let (board, mut topics) = (Board::watched(), CountedTopics::default());
        let first = topics.of((id(1), "a".into()), &board);
        let second = topics.of((id(1), "a".into()), &board);
        first.produced(3, 100);
        second.produced(4, 50);
        let told: Vec<_> = board.new_topics().collect();
        assert_eq!((told.len(), told[0].0.as_str()), (1, "a"));
        let seen = told[0].1.upgrade().unwrap();
        assert_eq!(
            (seen.produced_records.get(), seen.produced_bytes.get()),
            (7, 150)
        );
        drop((first, second, seen));
        assert!(told[0].1.upgrade().is_none());
        // One of the same id that comes again begins anew.
        let again = topics.of((id(1), "a".into()), &board);
        assert_eq!(again.produced_records.get(), 0);
        assert_eq!(board.new_topics().count(), 1);
    }

    #[test]
    fn topics_that_are_gone_take_no_room() {
        let (board, mut topics) = (Board::default(), CountedTopics::default());
        let kept = topics.of((id(0), "kept".into()), &board);
        for number in 1..1000 {
            drop(topics.of((id(number), "gone".into()), &board));
        }
        assert!(topics.known.len() < 50, "{}", topics.known.len());
        assert!(Arc::ptr_eq(
            &kept,
            &topics.of((id(0), "kept".into()), &board)
        ));
        assert_eq!(board.new_topics().count(), 0, "nobody looks");
    }
}
