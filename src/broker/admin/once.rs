//! Things that a request lists and may name once only: one that comes more often is answered in its first place alone.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;

use crate::base::Leftovers;

/// See the module.
#[derive(Debug)]
pub(super) struct Once<K, T> {
    /// Each that is named, in its first place.
    things: VecDeque<(K, T)>,
    /// How often each is named, of those that were not answered yet.
    count: HashMap<K, usize>,
}

impl<K, T> Default for Once<K, T> {
    fn default() -> Self {
        Self {
            things: VecDeque::new(),
            count: HashMap::new(),
        }
    }
}

impl<K: Hash + Eq + Clone + Send + 'static, T: Send + 'static> Once<K, T> {
    /// With room for so many, so that what is there need not be moved when more come.
    pub fn with_capacity(things: usize) -> Self {
        Self {
            things: VecDeque::with_capacity(things),
            count: HashMap::with_capacity(things),
        }
    }

    /// Adds what has this name, before any is taken.
    pub fn push(&mut self, name: K, thing: T) {
        let count = self.count.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 {
            self.things.push_back((name, thing));
        }
    }

    /// The one that comes next.
    pub fn peek(&self) -> Option<&T> {
        self.things.front().map(|(_, thing)| thing)
    }

    /// Takes the next one, and whether it is named once.
    pub fn next(&mut self) -> Option<(T, bool)> {
        self.next_named().map(|(_, thing, once)| (thing, once))
    }

    /// The same with its name.
    pub fn next_named(&mut self) -> Option<(K, T, bool)> {
        let (name, thing) = self.things.pop_front()?;
        let once = self.count.remove(&name) == Some(1);
        Some((name, thing, once))
    }

    /// Leaves what there is, each of which takes so much of a slice besides.
    pub fn leave(self, leftovers: &mut Leftovers, size: fn(&T) -> usize) {
        leftovers.add(self.things, move |(_, thing)| size(thing));
        leftovers.add(self.count, |_| 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_comes_in_its_first_place() {
        let mut once = Once::default();
        for (name, thing) in [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("c", 5), ("c", 6)] {
            once.push(name, thing);
        }
        assert_eq!(once.peek(), Some(&1));
        assert_eq!(once.things.len(), 3, "nothing has to be passed over");
        let taken: Vec<_> = std::iter::from_fn(|| once.next()).collect();
        assert_eq!(taken, [(1, false), (2, true), (4, false)]);
    }
}
