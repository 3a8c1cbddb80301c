//! A sorted map of which a clone shares with the original whatever neither of them changes: it is made of chunks, and
//! a change copies one of them.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Entries of a chunk. A clone takes as many steps as there are chunks, a change as many as a chunk has entries.
const CHUNK_MAX: usize = 128;

type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// See the module.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    /// In order, none of them empty.
    chunks: Vec<Chunk<K, V>>,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The value of a key.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let chunk = self.chunks.get(self.chunk_of(key))?;
        let at = place(chunk, key).ok()?;
        Some(&chunk[at].1)
    }

    /// Puts a value in the place of the one that the key had.
    pub fn insert(&mut self, key: K, value: V) {
        let of = self.chunk_of(&key);
        let Some(chunk) = self.chunks.get_mut(of) else {
            return self.chunks.push(Arc::new(vec![(key, value)]));
        };
        let chunk = Arc::make_mut(chunk);
        match place(chunk, &key) {
            Ok(at) => chunk[at].1 = value,
            Err(at) => chunk.insert(at, (key, value)),
        }
        if chunk.len() > CHUNK_MAX {
            let upper = chunk.split_off(CHUNK_MAX / 2);
            self.chunks.insert(of + 1, Arc::new(upper));
        }
    }

    /// Takes a key out; returns its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let of = self.chunk_of(key);
        let at = place(self.chunks.get(of)?, key).ok()?;
        let (_, value) = Arc::make_mut(&mut self.chunks[of]).remove(at);
        self.join(of);
        Some(value)
    }

    /// The chunks that no clone has, each with its entries.
    pub fn into_own_chunks(self) -> impl Iterator<Item = Vec<(K, V)>> {
        self.chunks.into_iter().filter_map(Arc::into_inner)
    }

    /// Everything, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let entries = self.chunks.iter().flat_map(|chunk| chunk.iter());
        entries.map(|(key, value)| (key, value))
    }

    /// The entries from this key on.
    pub fn range_from<'a, Q: Ord + ?Sized>(
        &'a self,
        key: &Q,
    ) -> impl Iterator<Item = (&'a K, &'a V)>
    where
        K: Borrow<Q>,
    {
        let of = self.chunk_of(key);
        let skipped = self.chunks.get(of).map_or(0, |chunk| {
            place(chunk, key).unwrap_or_else(std::convert::identity)
        });
        let chunks = self.chunks.iter().skip(of);
        let entries = chunks.flat_map(|chunk| chunk.iter()).skip(skipped);
        entries.map(|(key, value)| (key, value))
    }

    /// The chunk that has the key, or would have it. There is no such chunk while there is none.
    fn chunk_of<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        let begins = |chunk: &Chunk<K, V>| chunk[0].0.borrow() <= key;
        self.chunks.partition_point(begins).saturating_sub(1)
    }

    /// Keeps chunks from becoming many and small: one that has become smaller goes together with its neighbours.
    fn join(&mut self, of: usize) {
        if self.chunks[of].is_empty() {
            self.chunks.remove(of);
            return;
        }
        for lower in [Some(of), of.checked_sub(1)].into_iter().flatten() {
            if let Some(upper) = self.chunks.get(lower + 1)
                && self.chunks[lower].len() + upper.len() <= CHUNK_MAX / 2
            {
                let upper = self.chunks.remove(lower + 1);
                Arc::make_mut(&mut self.chunks[lower]).extend(upper.iter().cloned());
            }
        }
    }
}

fn place<K: Borrow<Q>, Q: Ord + ?Sized, V>(chunk: &[(K, V)], key: &Q) -> Result<usize, usize> {
    chunk.binary_search_by(|(known, _)| known.borrow().cmp(key))
}

/// The same entries are the same map, however they are cut into chunks.
impl<K: Ord + Clone + PartialEq, V: Clone + PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<K: Ord + Clone, V: Clone + Eq> Eq for SharedMap<K, V> {}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// How many chunks two maps do not share.
    fn different<K, V>(a: &SharedMap<K, V>, b: &SharedMap<K, V>) -> usize {
        let shared = |chunk: &Chunk<K, V>| b.chunks.iter().any(|other| Arc::ptr_eq(chunk, other));
        a.chunks.iter().filter(|chunk| !shared(chunk)).count()
    }

    #[test]
    fn a_change_copies_one_chunk_and_leaves_the_other_map_alone() {
        let mut map = SharedMap::default();
        (0..10_000).for_each(|key| map.insert(key, key));
        assert!(map.chunks.len() < 2 * 10_000 / (CHUNK_MAX / 2));
        for key in [0, 77, 9_999] {
            let old = map.clone();
            map.insert(key, -1);
            assert_eq!(different(&map, &old), 1);
            assert_eq!((map.get(&key), old.get(&key)), (Some(&-1), Some(&key)));
            let old = map.clone();
            assert_eq!(map.remove(&key), Some(-1));
            assert!(different(&map, &old) <= 1);
            assert_eq!((map.get(&key), old.get(&key)), (None, Some(&-1)));
            let own: Vec<_> = old.into_own_chunks().collect();
            assert!(own.len() == 1 && own[0].contains(&(key, -1)));
        }
    }

    #[test]
    fn emptied_it_has_few_chunks() {
        let mut map = SharedMap::default();
        (0..10_000).for_each(|key| map.insert(key, ()));
        (0..10_000)
            .filter(|key| key % 100 > 0)
            .for_each(|key| _ = map.remove(&key));
        assert_eq!(map.len(), 100);
        assert!(map.chunks.len() <= 10, "{}", map.chunks.len());
        (0..10_000).for_each(|key| _ = map.remove(&key));
        assert!(map.is_empty() && map == SharedMap::default());
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), 0u16..600), 0..3000), from in 0u16..600) {
            let (mut map, mut model) = (SharedMap::default(), BTreeMap::new());
            for (n, (insert, key)) in steps.into_iter().enumerate() {
                if insert {
                    map.insert(key, n);
                    model.insert(key, n);
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(map.get(&key), model.get(&key));
            }
            prop_assert!(map.chunks.iter().all(|chunk| (1..=CHUNK_MAX).contains(&chunk.len())));
            prop_assert!(map.iter().eq(model.iter()));
            prop_assert!(map.range_from(&from).eq(model.range(from..)));
            prop_assert_eq!(map.len(), model.len());
        }
    }
}
