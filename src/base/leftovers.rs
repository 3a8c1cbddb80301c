//! What is left of requests that are done with: any number of things, which are dropped some at a time, for that takes
//! a while too.

use std::collections::VecDeque;
use std::fmt;

/// Drops one of many things, and says what that takes of a slice.
type Drops = Box<dyn Iterator<Item = usize> + Send>;

/// See the module.
#[derive(Default)]
pub struct Leftovers(VecDeque<Drops>);

impl Leftovers {
    /// Takes things, each of which takes so much of a slice besides itself.
    pub fn add<T: IntoIterator<IntoIter: Send + 'static>>(
        &mut self,
        things: T,
        size: impl Fn(&T::Item) -> usize + Send + 'static,
    ) {
        let drops = things.into_iter().map(move |thing| 1 + size(&thing));
        if drops.size_hint().1 != Some(0) {
            self.0.push_back(Box::new(drops));
        }
    }

    /// Drops some, as long as there is something `left` of a slice.
    pub fn let_go(&mut self, left: &mut usize) {
        while *left > 0
            && let Some(drops) = self.0.front_mut()
        {
            match drops.next() {
                Some(size) => *left = left.saturating_sub(size),
                None => drop(self.0.pop_front()),
            }
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leftovers").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_dropped_as_far_as_a_slice_goes() {
        let mut leftovers = Leftovers::default();
        leftovers.add(vec![1, 7, 1, 1], |size| *size);
        leftovers.add(["a", "b"], |_| 0);
        leftovers.add(Vec::<u8>::new(), |_| 0);
        let mut slices = 0;
        while !leftovers.is_empty() {
            leftovers.let_go(&mut 5);
            slices += 1;
        }
        // 2 and 8, 4 and 1, 1 and the end.
        assert_eq!(slices, 3);
        leftovers.add(Vec::<u8>::new(), |_| 0);
        assert!(leftovers.is_empty());
    }
}
