//! Things that a request lists and may name once only: one that comes more often is answered in its first place alone.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;

/// See the module.
#[derive(Debug)]
pub(super) struct Once<K, T> {
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

impl<K: Hash + Eq + Clone, T> Once<K, T> {
    /// With room for so many, so that what is there need not be moved when more come.
    pub fn with_capacity(things: usize) -> Self {
        Self {
            things: VecDeque::with_capacity(things),
            count: HashMap::with_capacity(things),
        }
    }

    /// Adds what has this name.
    pub fn push(&mut self, name: K, thing: T) {
        *self.count.entry(name.clone()).or_default() += 1;
        self.things.push_back((name, thing));
    }

    /// The one that comes next.
    pub fn peek(&self) -> Option<&T> {
        self.things.front().map(|(_, thing)| thing)
    }

    /// Takes the next one, and whether it is named once. One that has been taken by its name before is passed over.
    pub fn next(&mut self) -> Option<(T, bool)> {
        self.next_named().map(|(_, thing, once)| (thing, once))
    }

    /// The same with its name.
    pub fn next_named(&mut self) -> Option<(K, T, bool)> {
        loop {
            let (name, thing) = self.things.pop_front()?;
            if let Some(count) = self.count.remove(&name) {
                return Some((name, thing, count == 1));
            }
        }
    }

    /// Lets all go that is left, as long as there is something `left` of a slice. Returns whether there is nothing.
    pub fn let_go(&mut self, left: &mut usize) -> bool {
        while *left > 0 {
            if self.next().is_none() {
                return true;
            }
            *left -= 1;
        }
        false
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
        let taken: Vec<_> = std::iter::from_fn(|| once.next()).collect();
        assert_eq!(taken, [(1, false), (2, true), (4, false)]);
    }
}
