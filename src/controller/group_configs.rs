//! The settings that single groups have of their own. There may be thousands of groups: a clone shares them with the
//! original.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{Leftovers, SharedMap};

/// Settings by key, of one group.
pub type OwnConfigs = Arc<BTreeMap<String, String>>;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupConfigs {
    groups: SharedMap<Arc<str>, OwnConfigs>,
    count: usize,
    /// What names, keys and values take.
    bytes: usize,
}

impl GroupConfigs {
    /// Those of a group; `None` if it has none of its own.
    #[must_use]
    pub fn get(&self, group: &str) -> Option<&OwnConfigs> {
        self.groups.get(group)
    }

    /// The first group that has any, by name, or the one after this name.
    #[must_use]
    pub fn after(&self, name: Option<&str>) -> Option<(&Arc<str>, &OwnConfigs)> {
        match name {
            Some(name) => {
                let mut behind = self.groups.range_from(name);
                behind.find(|(found, _)| ***found != *name)
            }
            None => self.groups.iter().next(),
        }
    }

    /// How many groups have any.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether no group has any.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of names, keys and values.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What these settings of a group take.
    #[must_use]
    pub fn bytes_of(group: &str, own: &BTreeMap<String, String>) -> usize {
        let settings = own.iter().map(|(key, value)| key.len() + value.len());
        group.len() + settings.sum::<usize>()
    }

    /// Sets a setting, or takes it away.
    pub(super) fn set(&mut self, group: &str, key: &str, value: Option<&str>) {
        let before = self.groups.remove(group);
        if let Some(before) = &before {
            self.count -= 1;
            self.bytes -= Self::bytes_of(group, before);
        }
        let mut own = before.unwrap_or_default();
        let settings = Arc::make_mut(&mut own);
        match value {
            Some(value) => settings.insert(key.to_owned(), value.to_owned()),
            None => settings.remove(key),
        };
        if !own.is_empty() {
            self.count += 1;
            self.bytes += Self::bytes_of(group, &own);
            self.groups.insert(group.into(), own);
        }
    }

    /// Gives them up: what nobody else has is dropped some at a time.
    pub(super) fn leave(self, leftovers: &mut Leftovers) {
        let size = |chunk: &Vec<(Arc<str>, OwnConfigs)>| {
            let settings = chunk.iter().map(|(_, own)| own.len());
            chunk.len() + settings.sum::<usize>()
        };
        leftovers.add(self.groups.into_own_chunks().collect::<Vec<_>>(), size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_and_go_with_what_they_take() {
        let mut configs = GroupConfigs::default();
        configs.set("b", "k", Some("1"));
        configs.set("a", "k", Some("22"));
        configs.set("a", "l", Some("3"));
        assert_eq!((configs.len(), configs.bytes()), (2, 3 + 6));
        let before = configs.clone();
        let names = |configs: &GroupConfigs| {
            let mut names = Vec::new();
            while let Some((name, _)) = configs.after(names.last().map(|name: &String| &**name)) {
                names.push(name.to_string());
            }
            names
        };
        assert_eq!(names(&configs), ["a", "b"]);
        configs.set("a", "k", None);
        configs.set("c", "k", None);
        configs.set("b", "k", None);
        assert_eq!((configs.len(), configs.bytes()), (1, 3));
        assert_eq!(configs.get("b"), None);
        assert_eq!(before.get("b").map(|own| own.len()), Some(1));
        configs.set("a", "l", None);
        assert_eq!(configs, GroupConfigs::default());
        let mut leftovers = Leftovers::default();
        before.leave(&mut leftovers);
        assert!(!leftovers.is_empty());
    }
}
