//! Where the newest record of each key is, of a part of a log that is compacted.

use std::collections::HashMap;

use crate::base::Offset;

/// What a key takes besides its bytes, about.
const KEY_COST: usize = 64;

/// See the module. Keys are kept whole: no two are taken for one.
#[derive(Debug, Default)]
pub struct NewestOffsets {
    newest: HashMap<Box<[u8]>, Offset>,
    bytes: usize,
}

impl NewestOffsets {
    /// A record of this key is at this offset, behind all that were noted before.
    pub fn note(&mut self, key: &[u8], offset: Offset) {
        match self.newest.get_mut(key) {
            Some(newest) => *newest = offset,
            None => {
                self.bytes += KEY_COST + key.len();
                self.newest.insert(key.into(), offset);
            }
        }
    }

    /// Whether no newer record of the key was noted.
    #[must_use]
    pub fn is_newest(&self, key: &[u8], offset: Offset) -> bool {
        self.newest.get(key).is_none_or(|newest| offset >= *newest)
    }

    /// Bytes of memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
