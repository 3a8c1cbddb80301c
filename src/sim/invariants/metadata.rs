//! What the metadata promises.

use super::invariant::{By, Invariant};
use crate::base::TopicId;
use crate::sim::fact::{Fact, Moment};

#[derive(Debug)]
struct Topic {
    id: TopicId,
    partitions: usize,
    created: Moment,
    removing: Option<Moment>,
    removed: Option<Moment>,
}

/// A topic whose creation was acknowledged exists, with its id, until its deletion is asked for; one
/// whose deletion was acknowledged does not come back.
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
                topic,
                id,
                partitions,
                ..
            } => {
                let partitions = partitions as usize;
                let known = self.topics.entry(topic).or_insert(Topic {
                    id,
                    partitions,
                    created: now,
                    removing: None,
                    removed: None,
                });
                if known.id != id {
                    return Err(format!("topic {topic} was {} and is {id}", known.id));
                }
            }
            Fact::Removing { topic } => {
                if let Some(topic) = self.topics.get_mut(&topic) {
                    topic.removing.get_or_insert(now);
                }
            }
            Fact::Removed { topic } => {
                if let Some(topic) = self.topics.get_mut(&topic) {
                    topic.removed.get_or_insert(now);
                }
            }
            Fact::Described {
                topic: number,
                asked,
                found,
            } => {
                let Some(topic) = self.topics.get(&number) else {
                    return Ok(());
                };
                let is_it = found == Some((topic.id, topic.partitions));
                if !is_it && asked >= topic.created && topic.removing.is_none() {
                    return Err(format!(
                        "topic {number} is {} with {} partitions, but {found:?} was found",
                        topic.id, topic.partitions
                    ));
                }
                if is_it && topic.removed.is_some_and(|removed| asked >= removed) {
                    return Err(format!("topic {number} was deleted and is there again"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
