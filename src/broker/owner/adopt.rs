//! A new image of the metadata, as a shard comes to serve by it. What is different may be much, so it is looked at in
//! slices.

use std::sync::Arc;

use crate::base::{IdSet, LogId, Now};
use crate::broker::owner::Owner;
use crate::config::TopicConfig;
use crate::controller::{Delta, Image, Topic};

/// An image that a shard is to serve by.
#[derive(Debug)]
pub struct Adoption {
    pub image: Arc<Image>,
    /// Something of it is done.
    pub is_begun: bool,
    delta: Arc<Delta>,
    /// The topic that is being looked at, its partition that comes next, and the topic before.
    topic: Option<Arc<Topic>>,
    next: usize,
    last: Option<Arc<Topic>>,
    /// Logs of removed topics that are deleted.
    deleted: usize,
    /// Logs of partitions that are here and not served.
    unserved: IdSet<LogId>,
    /// The logs that are here and no partition's, those that are still to be decided about, and the strays among them.
    unclaimed: Option<std::vec::IntoIter<LogId>>,
    strays: Vec<LogId>,
}

/// An image that the logs of this shard agree with.
#[derive(Debug)]
pub struct Adopted {
    /// `Image::version`.
    pub version: u64,
    /// Logs that were found and that the metadata has never given out.
    pub strays: Vec<LogId>,
    /// Topics were removed.
    pub removes_topics: bool,
}

impl Adoption {
    pub fn new(image: Arc<Image>, delta: Arc<Delta>) -> Self {
        Self {
            image,
            is_begun: false,
            delta,
            topic: None,
            next: 0,
            last: None,
            deleted: 0,
            unserved: IdSet::default(),
            unclaimed: None,
            strays: Vec::new(),
        }
    }

    /// The topic that is looked at now; none if all were.
    fn topic(&mut self) -> Option<Arc<Topic>> {
        if self.topic.is_none() {
            let next = self.delta.topic_after(&self.image, self.last.as_deref());
            self.topic = next.cloned();
            self.next = 0;
        }
        self.topic.clone()
    }
}

impl Owner {
    /// Opens or creates the logs of this shard's partitions, applies topic settings, deletes the logs of topics that
    /// were removed, as far as the image is different, and no more than `most` of them at a time; returns when all is
    /// done.
    pub fn adopt(&mut self, now: Now, adoption: &mut Adoption, mut most: usize) -> Option<Adopted> {
        if !std::mem::replace(&mut adoption.is_begun, true) {
            self.serves_by(&adoption.image);
        }
        let is_everything = adoption.delta.is_everything();
        while let Some(topic) = adoption.topic() {
            let mut config = None;
            while let Some(partition) = topic.partitions.get(adoption.next) {
                if most == 0 {
                    return None;
                }
                most -= 1;
                let index = adoption.next as i32;
                adoption.next += 1;
                if let Some(slot) = partition.store.and_then(|store| self.slot_of(store)) {
                    let config = config.get_or_insert_with(|| {
                        TopicConfig::effective(&self.config, &topic.configs)
                    });
                    self.open(now, slot, &topic, index, partition, config);
                }
                if is_everything && self.is_unserved(partition.log) {
                    adoption.unserved.insert(partition.log);
                }
            }
            adoption.last = adoption.topic.take();
        }
        while let Some(log) = adoption.delta.removed().get(adoption.deleted) {
            if most == 0 || self.holds_changes() {
                return None;
            }
            most -= 1;
            adoption.deleted += 1;
            self.delete_log(*log);
        }
        if is_everything {
            self.settle_recovered(adoption, most)?;
        }
        Some(Adopted {
            version: adoption.image.version,
            strays: std::mem::take(&mut adoption.strays),
            removes_topics: adoption.delta.removes_topics(),
        })
    }

    /// Decides about logs that recovery found and no partition has, no more than `most` of them. Those of removed
    /// topics go; what the metadata has never given out is kept: the metadata may be what is wrong.
    fn settle_recovered(&mut self, adoption: &mut Adoption, most: usize) -> Option<()> {
        let unclaimed = adoption
            .unclaimed
            .get_or_insert_with(|| self.unclaimed(&adoption.unserved).into_iter());
        for _ in 0..most {
            if self.holds_changes() {
                return None;
            }
            let Some(log) = unclaimed.next() else {
                break;
            };
            if adoption.image.has_removed(log) {
                self.delete_log(log);
            } else if log.0 >= adoption.image.next_log {
                self.tell_stray(log);
                adoption.strays.push(log);
            }
        }
        (unclaimed.len() == 0).then_some(())
    }
}
