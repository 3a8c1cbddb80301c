//! A new image of the metadata, as a shard comes to serve by it. What is different may be much, so it is looked at in
//! slices.

use std::sync::Arc;

use crate::base::{LogId, Now, TopicId};
use crate::broker::owner::Owner;
use crate::config::TopicConfig;
use crate::controller::{Delta, Image};

/// An image that a shard is to serve by.
#[derive(Debug)]
pub struct Adoption {
    pub image: Arc<Image>,
    delta: Arc<Delta>,
    /// The topics to look at.
    topics: Vec<TopicId>,
    /// Topic and partition that come next, by their places.
    next: (usize, usize),
    /// Logs of removed topics that are deleted.
    deleted: usize,
}

impl Adoption {
    pub fn new(image: Arc<Image>, delta: Arc<Delta>) -> Self {
        let topics = delta.topics(&image).map(|topic| topic.id).collect();
        Self {
            image,
            delta,
            topics,
            next: (0, 0),
            deleted: 0,
        }
    }
}

impl Owner {
    /// Opens or creates the logs of this shard's partitions, applies topic settings, deletes the logs of topics that
    /// were removed, as far as the image is different, and no more than `most` of them at a time. When all is done,
    /// the logs that were found and that the metadata does not know to be strays.
    pub fn adopt(
        &mut self,
        now: Now,
        adoption: &mut Adoption,
        mut most: usize,
    ) -> Option<Vec<LogId>> {
        while let Some(id) = adoption.topics.get(adoption.next.0) {
            let topic = adoption.image.topic_by_id(*id);
            let mut config = None;
            while let Some(topic) = topic
                && let Some(partition) = topic.partitions.get(adoption.next.1)
            {
                if most == 0 {
                    return None;
                }
                most -= 1;
                let index = adoption.next.1 as i32;
                adoption.next.1 += 1;
                let Some(slot) = partition.store.and_then(|store| self.slot_of(store)) else {
                    continue;
                };
                let config = config
                    .get_or_insert_with(|| TopicConfig::effective(&self.config, &topic.configs));
                self.open(now, slot, topic, index, partition, config);
            }
            adoption.next = (adoption.next.0 + 1, 0);
        }
        while let Some(log) = adoption.delta.removed().get(adoption.deleted) {
            if most == 0 {
                return None;
            }
            most -= 1;
            adoption.deleted += 1;
            self.delete_log(*log);
        }
        Some(if adoption.delta.is_everything() {
            self.settle_recovered(&adoption.image)
        } else {
            Vec::new()
        })
    }
}
