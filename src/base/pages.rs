//! Page-aligned memory that a disk write can use as it is and that readers can
//! go on sharing: the one copy a produced batch is given.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use zerocopy::{FromZeros, IntoBytes};

use super::page::{BLOCK, Page};
use super::pool;

/// Memory of all buffers that exist.
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Growable memory that starts on a [`BLOCK`] boundary and is a whole number of blocks.
///
/// Buffers are recycled: one that is dropped, or whose last [`Bytes`] is, leaves its memory to the next
/// one that is made on that thread, up to
/// [`PAGE_POOL_BYTES_MAX`](super::limits::PAGE_POOL_BYTES_MAX). That spares the kernel the
/// work of handing out the same memory again, and us that of zeroing it. What no buffer needed for
/// a while goes back with [`PageBuf::trim`].
#[derive(Default)]
pub struct PageBuf {
    /// At least as long as the content: the rest is room to grow.
    pages: Vec<Page>,
    /// Pages of content.
    used: usize,
}

impl PageBuf {
    /// A zeroed buffer of `len` bytes, rounded up to whole blocks.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let mut pages = Self::stale(len);
        pages.as_mut_bytes().fill(0);
        pages
    }

    /// A buffer of `len` bytes, rounded up to whole blocks, to be overwritten: what it holds is what an
    /// earlier buffer left, or zeroes.
    #[must_use]
    pub fn stale(len: usize) -> Self {
        let used = len.div_ceil(BLOCK);
        let pages = pool::take(used).unwrap_or_else(|| {
            Page::new_vec_zeroed(pool::room_for(used)).expect("allocation of a page buffer")
        });
        LIVE_BYTES.fetch_add(pages.len() * BLOCK, Ordering::Relaxed);
        Self { pages, used }
    }

    /// Gives back the memory of gone buffers, on this thread, that was not needed since the last
    /// call; with nothing going on, the second call in a row gives back all of it.
    pub fn trim() {
        pool::trim();
    }

    /// Memory of all buffers of this process that exist, and of those whose content is shared for as
    /// long as somebody has a part of it. What is recycled is not among it.
    #[must_use]
    pub fn live_bytes() -> usize {
        LIVE_BYTES.load(Ordering::Relaxed)
    }

    /// The parts one after the other, with zeroes up to the end of the last block.
    #[must_use]
    pub fn joined(parts: &[Bytes]) -> Self {
        let len = parts.iter().map(Bytes::len).sum();
        let mut pages = Self::stale(len);
        let mut room = pages.as_mut_bytes();
        for part in parts {
            let (to, rest) = room.split_at_mut(part.len());
            to.copy_from_slice(part);
            room = rest;
        }
        pages.finish(len);
        pages
    }

    /// Grows to hold at least `len` bytes; what is added is stale.
    pub fn grow(&mut self, len: usize) {
        if len.div_ceil(BLOCK) > self.pages.len() {
            let mut larger = Self::stale(len);
            larger.as_mut_bytes()[..self.len()].copy_from_slice(self.as_bytes());
            *self = larger;
        }
        self.used = self.used.max(len.div_ceil(BLOCK));
    }

    /// Makes the first `len` bytes the content: pages after them are dropped, and what is left of the
    /// last one is zeroed.
    pub fn finish(&mut self, len: usize) {
        self.used = self.used.min(len.div_ceil(BLOCK));
        let end = self.len();
        self.as_mut_bytes()[len.min(end)..].fill(0);
    }

    /// Length in bytes, a multiple of [`BLOCK`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.used * BLOCK
    }

    /// Bytes of memory it takes, at least its length.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.pages.len() * BLOCK
    }

    /// Whether the buffer has no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The whole content.
    #[must_use]
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        self.pages[..self.used].as_mut_bytes()
    }

    /// The whole content.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.pages[..self.used].as_bytes()
    }

    /// Shares the content: slices of the result keep the memory alive and may cross threads.
    /// A slice taken at a multiple of [`BLOCK`] is aligned for O_DIRECT.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(Frozen(self))
    }
}

impl Drop for PageBuf {
    fn drop(&mut self) {
        LIVE_BYTES.fetch_sub(self.pages.len() * BLOCK, Ordering::Relaxed);
        pool::give(std::mem::take(&mut self.pages));
    }
}

struct Frozen(PageBuf);

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_pages_are_aligned() {
        let bytes = PageBuf::zeroed(3 * BLOCK + 1).freeze();
        assert_eq!(bytes.len(), 4 * BLOCK);
        assert_eq!(bytes.slice(BLOCK..).as_ptr() as usize % BLOCK, 0);
    }

    #[test]
    fn memory_comes_back_when_the_last_slice_is_gone() {
        let mut pages = PageBuf::zeroed(9 * BLOCK);
        pages.as_mut_bytes().fill(7);
        let slice = pages.freeze().slice(100..200);
        let other = PageBuf::zeroed(9 * BLOCK);
        assert_eq!(slice[..], [7; 100], "not while somebody reads it");
        drop((slice, other));
        let mut again = PageBuf::stale(8 * BLOCK + 1);
        let mut more = PageBuf::stale(8 * BLOCK + 1);
        assert!(
            again.as_bytes()[0] == 7 || more.as_bytes()[0] == 7,
            "recycled"
        );
        again.finish(BLOCK + 10);
        more.finish(BLOCK + 10);
        for pages in [&again, &more] {
            assert_eq!(pages.len(), 2 * BLOCK);
            assert!(pages.as_bytes()[BLOCK + 10..].iter().all(|b| *b == 0));
        }
        assert!(PageBuf::zeroed(BLOCK).as_bytes().iter().all(|b| *b == 0));
    }

    #[test]
    fn growing_keeps_what_is_there() {
        let mut pages = PageBuf::zeroed(BLOCK);
        pages.as_mut_bytes().fill(9);
        pages.grow(10 * BLOCK);
        assert_eq!(pages.len(), 10 * BLOCK);
        assert!(pages.as_bytes()[..BLOCK].iter().all(|b| *b == 9));
    }
}
