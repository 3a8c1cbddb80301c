//! What the metadata promises.

use super::invariant::{By, Invariant};
use crate::base::TopicId;
use crate::sim::fact::{Fact, Moment, Place};

#[derive(Debug)]
struct Topic {
    id: TopicId,
    partitions: usize,
    removing: Option<Moment>,
    /// Since when each node has to know that it is there, and that it is gone: those that have said so, and those
    /// that have started since.
    there: By<usize, Moment>,
    gone: By<usize, Moment>,
}

impl Topic {
    /// A node learns what others know.
    fn starts(&mut self, node: usize, now: Moment) {
        for known in [&mut self.there, &mut self.gone] {
            if !known.is_empty() {
                known.entry(node).or_insert(now);
            }
        }
    }
}

/// A topic whose creation was acknowledged exists, with its id, until its deletion is asked for; one
/// whose deletion was acknowledged does not come back. What a node knows it does not forget, and when it has started
/// it knows all that others knew before.
#[derive(Debug, Default)]
pub struct TopicsSurvive {
    topics: By<u32, Topic>,
}

impl Invariant for TopicsSurvive {
    fn name(&self) -> &'static str {
        "TopicsSurvive"
    }

    fn see(&mut self, now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::Created {
                node,
                topic,
                id,
                partitions,
                ..
            } => {
                let partitions = partitions as usize;
                let known = self.topics.entry(topic).or_insert(Topic {
                    id,
                    partitions,
                    removing: None,
                    there: By::new(),
                    gone: By::new(),
                });
                known.there.entry(node).or_insert(now);
                if known.id != id {
                    return Err(format!("topic {topic} was {} and is {id}", known.id));
                }
            }
            Fact::Restarted { node, .. } => {
                let topics = self.topics.values_mut();
                topics.for_each(|topic| topic.starts(node, now));
            }
            Fact::Removing { topic } => {
                if let Some(topic) = self.topics.get_mut(&topic) {
                    topic.removing.get_or_insert(now);
                }
            }
            Fact::Removed { node, topic } => {
                if let Some(topic) = self.topics.get_mut(&topic) {
                    topic.gone.entry(node).or_insert(now);
                }
            }
            Fact::Described {
                node,
                topic: number,
                asked,
                found,
            } => return self.described(now, (node, number), asked, found),
            _ => {}
        }
        Ok(())
    }
}

impl TopicsSurvive {
    fn described(
        &mut self,
        now: Moment,
        (node, number): (usize, u32),
        asked: Moment,
        found: Option<(TopicId, usize)>,
    ) -> Result<(), String> {
        let Some(topic) = self.topics.get_mut(&number) else {
            return Ok(());
        };
        let is_it = found == Some((topic.id, topic.partitions));
        let knows = |since: &By<usize, Moment>| since.get(&node).is_some_and(|it| asked >= *it);
        if !is_it && knows(&topic.there) && topic.removing.is_none() {
            return Err(format!(
                "node {node}: topic {number} is {} with {} partitions, but {found:?} was found",
                topic.id, topic.partitions
            ));
        }
        if is_it && knows(&topic.gone) {
            return Err(format!(
                "node {node}: topic {number} was deleted and is there again"
            ));
        }
        if is_it {
            topic.there.entry(node).or_insert(now);
        }
        Ok(())
    }
}

/// In one epoch one node leads a partition.
#[derive(Debug, Default)]
pub struct OneLeaderPerEpoch {
    leaders: By<(Place, i32), usize>,
}

impl Invariant for OneLeaderPerEpoch {
    fn name(&self) -> &'static str {
        "OneLeaderPerEpoch"
    }

    fn see(&mut self, _now: Moment, fact: &Fact<'_>) -> Result<(), String> {
        match *fact {
            Fact::Led {
                at,
                epoch: Some(epoch),
                node,
            } => match *self.leaders.entry((at, epoch)).or_insert(node) {
                known if known != node => Err(format!(
                    "{at}: in epoch {epoch} nodes {known} and {node} lead"
                )),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
