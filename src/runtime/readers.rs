//! Who reads what from the disk, and so what is worth a place in the page cache. A range
//! that one connection reads goes past it: bringing it in would take longer, and drive out
//! what others need. Ranges that several read, one soon after the other, go through it: the
//! disk is then read once for all of them, and nothing is copied.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::base::limits::{CHUNKS_REMEMBERED_MAX, CHUNKS_TOGETHER};
use crate::base::{BLOCK, IdMap, StoreId};
use crate::config::PageCacheReads;

/// One who reads.
#[derive(Clone, Default)]
pub struct Reader {
    /// Chunks that it is still taken to read together with others.
    together: Rc<Cell<usize>>,
}

/// What was read lately, and by whom.
pub struct Readers {
    setting: PageCacheReads,
    last: IdMap<u64, Reader>,
    /// The chunks in it, oldest first.
    order: VecDeque<u64>,
}

impl Readers {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(setting: PageCacheReads) -> Self {
        Self {
            setting,
            last: IdMap::default(),
            order: VecDeque::new(),
        }
    }

    /// `reader` is about to read of the chunk at this place. Whether that is to go through the page cache.
    pub fn share(&mut self, reader: &Reader, store: StoreId, chunk: u64) -> bool {
        match self.setting {
            PageCacheReads::Auto => self.read_together(reader, store, chunk),
            PageCacheReads::Never => false,
            PageCacheReads::Always => true,
        }
    }

    fn read_together(&mut self, reader: &Reader, store: StoreId, chunk: u64) -> bool {
        let chunk = (u64::from(store.0) << 48) | (chunk / BLOCK as u64);
        let together = &reader.together;
        match self.last.insert(chunk, reader.clone()) {
            Some(before) if Rc::ptr_eq(&before.together, together) => {}
            // Who was here before is followed, as long as it reads on at all.
            Some(before) => {
                before.together.set(CHUNKS_TOGETHER);
                together.set(CHUNKS_TOGETHER);
            }
            None => {
                together.set(together.get().saturating_sub(1));
                self.order.push_back(chunk);
                if self.order.len() > CHUNKS_REMEMBERED_MAX
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.last.remove(&oldest);
                }
            }
        }
        together.get() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId(3);
    const CHUNK: u64 = 4 << 20;

    fn auto() -> Readers {
        Readers::new(PageCacheReads::Auto)
    }

    #[test]
    fn who_reads_alone_goes_past_the_cache() {
        let (mut readers, one) = (auto(), Reader::default());
        for at in (0..256).map(|i| i / 4 * CHUNK) {
            assert!(!readers.share(&one, STORE, at));
        }
        // Again, and what has the same place in another store.
        assert!(!readers.share(&one, STORE, 0));
        assert!(!readers.share(&Reader::default(), StoreId(4), 0));
    }

    #[test]
    fn who_follows_and_who_is_followed_share_what_comes_next() {
        let (mut readers, ahead, behind) = (auto(), Reader::default(), Reader::default());
        for chunk in 0..10 {
            assert!(!readers.share(&ahead, STORE, chunk * CHUNK));
        }
        assert!(readers.share(&behind, STORE, 0));
        for chunk in 10..200 {
            assert!(readers.share(&ahead, STORE, chunk * CHUNK));
            assert!(readers.share(&behind, STORE, (chunk - 9) * CHUNK));
        }
    }

    #[test]
    fn who_is_left_alone_soon_goes_past_the_cache_again() {
        let (mut readers, one, other) = (auto(), Reader::default(), Reader::default());
        readers.share(&one, STORE, 0);
        assert!(readers.share(&other, STORE, 0));
        drop(other);
        let mut shared = 0;
        while readers.share(&one, STORE, (1 + shared) * CHUNK) {
            shared += 1;
        }
        assert_eq!(shared, CHUNKS_TOGETHER as u64 - 1);
    }

    #[test]
    fn who_comes_long_after_follows_nobody() {
        let (mut readers, one, other) = (auto(), Reader::default(), Reader::default());
        for chunk in 0..=CHUNKS_REMEMBERED_MAX as u64 {
            readers.share(&one, STORE, chunk * CHUNK);
        }
        assert!(!readers.share(&other, STORE, 0));
        assert_eq!(readers.last.len(), CHUNKS_REMEMBERED_MAX);
        assert_eq!(readers.order.len(), CHUNKS_REMEMBERED_MAX);
    }

    #[test]
    fn a_setting_decides_for_all() {
        let (one, other) = (Reader::default(), Reader::default());
        let mut never = Readers::new(PageCacheReads::Never);
        assert!(!never.share(&one, STORE, 0) && !never.share(&other, STORE, 0));
        let mut always = Readers::new(PageCacheReads::Always);
        assert!(always.share(&one, STORE, 0) && always.share(&one, STORE, CHUNK));
    }
}
