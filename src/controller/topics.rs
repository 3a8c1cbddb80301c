//! The topics of an image, by id and by name. A clone shares with the original what neither of them changes, so that a
//! change costs the same however many topics there are.

use std::sync::Arc;

use super::topic::Topic;
use super::topic_name::collision_key;
use crate::base::{IdMap, Leftovers, SharedMap, TopicId};

/// Parts of the table by id; a change copies one of them. Ids are random.
const PARTS: usize = 256;

type Part = IdMap<TopicId, Arc<Topic>>;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// By id, which is how produce and fetch ask.
    parts: Vec<Arc<Part>>,
    names: SharedMap<Arc<str>, TopicId>,
    /// Those that another name may collide with, by what they would have in common.
    colliding: SharedMap<Arc<str>, Arc<str>>,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            parts: vec![Arc::default(); PARTS],
            names: SharedMap::default(),
            colliding: SharedMap::default(),
        }
    }
}

/// The part that has a topic.
fn part(id: TopicId) -> usize {
    usize::from(id.0[15]) % PARTS
}

/// Whether metrics may take a name for another one.
fn may_collide(name: &str) -> bool {
    name.contains(['.', '_'])
}

impl Topics {
    /// A topic by id.
    pub fn get(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.parts[part(id)].get(&id)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: TopicId) -> Option<&mut Topic> {
        self.get(id)?;
        let topic = Arc::make_mut(&mut self.parts[part(id)]).get_mut(&id)?;
        Some(Arc::make_mut(topic))
    }

    /// The id of the topic of this name.
    pub fn id_of(&self, name: &str) -> Option<TopicId> {
        self.names.get(name).copied()
    }

    /// A topic by name.
    pub fn named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.get(self.id_of(name)?)
    }

    /// The name of a topic that metrics cannot tell from this one.
    pub fn colliding_with(&self, name: &str) -> Option<&Arc<str>> {
        let may = may_collide(name);
        may.then(|| self.colliding.get(&*collision_key(name)))?
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.names.iter().filter_map(|(_, id)| self.get(*id))
    }

    /// Those from this name on, by name.
    pub fn from(&self, name: &str) -> impl Iterator<Item = &Arc<Topic>> {
        let ids = self.names.range_from(name).map(|(_, id)| *id);
        ids.filter_map(|id| self.get(id))
    }

    /// Adds one whose name and id no other has.
    pub fn add(&mut self, topic: Topic) {
        let (id, name) = (topic.id, Arc::clone(&topic.name));
        if may_collide(&name) {
            let key = Arc::from(collision_key(&name));
            self.colliding.insert(key, Arc::clone(&name));
        }
        self.names.insert(name, id);
        Arc::make_mut(&mut self.parts[part(id)]).insert(id, Arc::new(topic));
    }

    /// Takes one out.
    pub fn remove(&mut self, id: TopicId) -> Option<Arc<Topic>> {
        self.get(id)?;
        let topic = Arc::make_mut(&mut self.parts[part(id)]).remove(&id)?;
        self.names.remove(&*topic.name);
        if self.colliding_with(&topic.name) == Some(&topic.name) {
            self.colliding.remove(&*collision_key(&topic.name));
        }
        Some(topic)
    }

    /// Gives up the table: what no clone has of it is dropped some at a time.
    pub fn leave(self, leftovers: &mut Leftovers) {
        let parts: Vec<Part> = self.parts.into_iter().filter_map(Arc::into_inner).collect();
        let names: Vec<_> = self.names.into_own_chunks().collect();
        let colliding: Vec<_> = self.colliding.into_own_chunks().collect();
        leftovers.add(parts, |part| part.len());
        leftovers.add(names, Vec::len);
        leftovers.add(colliding, Vec::len);
    }

    /// Panics if the tables contradict each other. For tests and the simulator.
    pub fn invariants(&self) {
        let by_id: usize = self.parts.iter().map(|part| part.len()).sum();
        assert_eq!(self.names.len(), by_id, "a name for each topic");
        for (name, id) in self.names.iter() {
            let topic = self.get(*id).expect("a topic for each name");
            assert_eq!((&topic.name, topic.id), (name, *id), "a topic and its name");
            let collides = self.colliding_with(name).is_some();
            assert_eq!(collides, may_collide(name), "{name}: at least with itself");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::SharedVec;

    fn topic(name: &str, id: u8) -> Topic {
        Topic {
            name: name.into(),
            id: TopicId([id; 16]),
            internal: false,
            partitions: SharedVec::default(),
            configs: BTreeMap::new(),
        }
    }

    #[test]
    fn a_change_copies_one_part_and_leaves_the_other_picture_alone() {
        let mut topics = Topics::default();
        (0..200).for_each(|id| topics.add(topic(&format!("t{id}"), id)));
        let old = topics.clone();
        topics.get_mut(TopicId([7; 16])).unwrap().internal = true;
        assert!(topics.remove(TopicId([8; 16])).is_some());
        let parts = topics.parts.iter().zip(&old.parts);
        let copied = parts.filter(|(new, old)| !Arc::ptr_eq(new, old));
        assert_eq!(copied.count(), 2);
        assert!(!old.named("t7").unwrap().internal && old.named("t8").is_some());
        assert!(topics.named("t8").is_none() && topics.named("t7").unwrap().internal);
        topics.invariants();
        old.invariants();
    }

    #[test]
    fn names_collide_as_long_as_there_is_the_topic() {
        let mut topics = Topics::default();
        topics.add(topic("a.b", 1));
        topics.add(topic("ab", 2));
        assert_eq!(topics.colliding_with("a_b").map(AsRef::as_ref), Some("a.b"));
        assert_eq!(topics.colliding_with("ab"), None);
        topics.invariants();
        topics.remove(TopicId([1; 16]));
        assert_eq!(topics.colliding_with("a_b"), None);
        topics.invariants();
    }
}
