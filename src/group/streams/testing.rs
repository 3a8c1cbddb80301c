//! What tests of streams groups share.

use std::collections::BTreeMap;

use super::super::consumer::GroupTopics;
use super::topology::{InternalTopic, Subtopology};
use crate::base::{Name, TopicId};

/// Topics by name, each with its partitions.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    pub version: u64,
    all: BTreeMap<String, i32>,
}

impl Topics {
    pub fn set(&mut self, name: &str, partitions: i32) {
        self.version += 1;
        self.all.insert(name.to_owned(), partitions);
    }
}

fn id_of(name: &str) -> TopicId {
    let mut id = [0; 16];
    for (at, byte) in name.bytes().enumerate() {
        id[at % 16] ^= byte.rotate_left(at as u32 / 16);
    }
    TopicId(id)
}

impl GroupTopics for Topics {
    fn version(&self) -> u64 {
        self.version
    }

    fn named(&self, name: &str) -> Option<(TopicId, i32)> {
        Some((id_of(name), *self.all.get(name)?))
    }

    fn name_of(&self, id: TopicId) -> Option<Name> {
        let mut names = self.all.keys();
        names
            .find(|name| id_of(name) == id)
            .map(|name| Name::from(&**name))
    }

    fn after(&self, name: Option<&str>) -> Option<Name> {
        let mut names = self.all.keys();
        names
            .find(|it| name.is_none_or(|name| ***it > *name))
            .map(|it| Name::from(&**it))
    }
}

pub(crate) fn internal(name: &str, partitions: i32) -> InternalTopic {
    InternalTopic {
        name: Name::from(name),
        partitions,
        ..InternalTopic::default()
    }
}

pub(crate) fn subtopology(id: &str, sources: &[&str]) -> Subtopology {
    Subtopology {
        id: Name::from(id),
        sources: sources.iter().map(|it| Name::from(*it)).collect(),
        ..Subtopology::default()
    }
}
