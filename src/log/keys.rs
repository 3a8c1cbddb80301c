//! Where the newest record of each key is, of a part of a log that is compacted.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::base::Offset;

/// What a key takes besides its bytes, about.
const KEY_COST: usize = 64;
/// Tables that the keys are spread over: what a table moves when it grows, or lets go when it goes, is little.
const PARTS: usize = 1024;

/// See the module. Keys are kept whole: no two are taken for one.
#[derive(Debug, Default)]
pub struct NewestOffsets {
    /// None before the first key.
    parts: Vec<HashMap<Box<[u8]>, Offset>>,
    chooses: RandomState,
    bytes: usize,
}

impl NewestOffsets {
    /// The larger one of two, so that some tables have more than others: else all of them would grow at a time.
    fn part_of(&self, key: &[u8]) -> usize {
        let hash = self.chooses.hash_one(key);
        let (one, other) = (hash as u32 as usize, (hash >> 32) as usize);
        (one % PARTS).max(other % PARTS)
    }

    /// A record of this key is at this offset, behind all that were noted before. Returns how many other keys had to be
    /// moved for it.
    pub fn note(&mut self, key: &[u8], offset: Offset) -> usize {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, HashMap::new);
        }
        let part = self.part_of(key);
        let part = &mut self.parts[part];
        if let Some(newest) = part.get_mut(key) {
            *newest = offset;
            return 0;
        }
        self.bytes += KEY_COST + key.len();
        let moved = if part.len() == part.capacity() {
            part.len()
        } else {
            0
        };
        part.insert(key.into(), offset);
        moved
    }

    /// Whether no newer record of the key was noted.
    #[must_use]
    pub fn is_newest(&self, key: &[u8], offset: Offset) -> bool {
        let part = self.parts.get(self.part_of(key));
        let newest = part.and_then(|part| part.get(key));
        newest.is_none_or(|newest| offset >= *newest)
    }

    /// Bytes of memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets go tables of it until these were so many keys; whether nothing is left. No key may be noted after that.
    pub fn let_go(&mut self, keys: usize) -> bool {
        let mut gone = 0;
        while gone < keys
            && let Some(part) = self.parts.pop()
        {
            gone += part.len().max(1);
        }
        self.parts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_key_is_known_until_it_is_let_go() {
        let mut keys = NewestOffsets::default();
        assert!(keys.is_newest(b"a", Offset(0)));
        let mut moved = 0;
        for offset in 0..5000 {
            moved += keys.note(format!("{}", offset % 3000).as_bytes(), Offset(offset));
        }
        assert!((1000..12_000).contains(&moved), "{moved}");
        for key in 0..3000 {
            let newest = if key < 2000 { key + 3000 } else { key };
            let is_newest = |at| keys.is_newest(format!("{key}").as_bytes(), Offset(at));
            assert!(is_newest(newest) && !is_newest(newest - 1));
        }
        assert!(keys.is_newest(b"other", Offset(0)));
        assert!((3000 * KEY_COST..3000 * (KEY_COST + 5)).contains(&keys.bytes()));
        let mut steps = 1;
        while !keys.let_go(500) {
            steps += 1;
        }
        // Tables without a key count as well.
        assert!((6..9).contains(&steps), "{steps}");
    }
}
