//! A list of which a clone shares with the original whatever neither of them changes: it is made of chunks, and a
//! change copies one of them.

use std::sync::Arc;

/// Elements of a chunk. A clone takes as many steps as there are chunks, a change as many as a chunk has elements.
const CHUNK: usize = 128;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedVec<T> {
    /// All of them full but for the last one, which is not empty.
    chunks: Vec<Arc<Vec<T>>>,
}

impl<T> Default for SharedVec<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T: Clone> SharedVec<T> {
    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let last = self.chunks.last().map_or(0, |chunk| chunk.len());
        self.chunks.len().saturating_sub(1) * CHUNK + last
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// An element by its place.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&T> {
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(at / CHUNK)?;
        Arc::make_mut(chunk).get_mut(at % CHUNK)
    }

    /// The first element.
    #[must_use]
    pub fn first(&self) -> Option<&T> {
        self.get(0)
    }

    /// The last element.
    #[must_use]
    pub fn last(&self) -> Option<&T> {
        self.chunks.last()?.last()
    }

    /// Adds an element.
    pub fn push(&mut self, element: T) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => Arc::make_mut(chunk).push(element),
            _ => self.chunks.push(Arc::new(vec![element])),
        }
    }

    /// All elements, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.from(0)
    }

    /// The elements from a place on.
    pub fn from(&self, at: usize) -> impl Iterator<Item = &T> {
        let chunks = self.chunks.iter().skip(at / CHUNK);
        chunks.flat_map(|chunk| chunk.iter()).skip(at % CHUNK)
    }
}

impl<T: Clone> std::ops::Index<usize> for SharedVec<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        &self.chunks[at / CHUNK][at % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_copies_one_chunk_and_leaves_the_other_list_alone() {
        let mut list = SharedVec::default();
        assert!(list.is_empty() && list.get(0).is_none() && list.last().is_none());
        (0..10 * CHUNK).for_each(|n| list.push(n));
        let old = list.clone();
        *list.get_mut(3 * CHUNK + 1).unwrap() = 0;
        list.push(7);
        let chunks = old.chunks.iter().zip(&list.chunks);
        let copied = chunks.filter(|(old, new)| !Arc::ptr_eq(old, new));
        assert_eq!(copied.count(), 1);
        assert_eq!((old.len(), list.len()), (10 * CHUNK, 10 * CHUNK + 1));
        assert_eq!(
            (old[3 * CHUNK + 1], list[3 * CHUNK + 1]),
            (3 * CHUNK + 1, 0)
        );
        assert_eq!((list.first(), list.last()), (Some(&0), Some(&7)));
        assert!(old.iter().copied().eq(0..10 * CHUNK));
        for at in [
            0,
            1,
            CHUNK - 1,
            CHUNK,
            5 * CHUNK + 3,
            10 * CHUNK,
            11 * CHUNK,
        ] {
            assert!(old.from(at).copied().eq(at..10 * CHUNK), "{at}");
        }
        assert!(list.get_mut(10 * CHUNK + 1).is_none());
        assert_ne!(old, list);
    }
}
