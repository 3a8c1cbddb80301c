//! Page-aligned memory that a disk write can use as it is and that readers can
//! go on sharing: the one copy a produced batch is given.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use zerocopy::{FromZeros, IntoBytes};

use super::page::{BLOCK, Page};
use super::pool;

/// Memory of all buffers that exist.
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SOURCE: RefCell<Option<Box<dyn PageSource>>> = const { RefCell::new(None) };
}

/// Who has memory at hand for buffers that are kept long.
pub trait PageSource {
    /// Memory of `len` bytes, a multiple of [`BLOCK`] and not 0, on a block boundary. It holds what an earlier
    /// buffer left, or zeroes. `None` if there is none: then the allocator is asked.
    fn pages(&mut self, len: usize) -> Option<Box<dyn Pages>>;
}

/// Memory of a [`PageSource`], which has it back when this is dropped, on whatever thread.
pub trait Pages: Send + Sync {
    /// All of it.
    fn bytes(&self) -> &[u8];
    /// All of it.
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// From now on [`PageBuf::kept`] asks this source on this thread.
pub fn keep_pages_in(source: impl PageSource + 'static) {
    SOURCE.set(Some(Box::new(source)));
}

enum Memory {
    Own(Vec<Page>),
    Kept(Box<dyn Pages>),
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(pages) => pages.as_bytes(),
            Self::Kept(kept) => kept.bytes(),
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Own(pages) => pages.as_mut_bytes(),
            Self::Kept(kept) => kept.bytes_mut(),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

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
    memory: Memory,
    /// Bytes of content, a multiple of [`BLOCK`].
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
        let pages = len.div_ceil(BLOCK);
        let memory = pool::take(pages).unwrap_or_else(|| {
            Page::new_vec_zeroed(pool::room_for(pages)).expect("allocation of a page buffer")
        });
        Self::of(Memory::Own(memory), len)
    }

    /// The same for what is going to be kept for long: of the thread's [`PageSource`], if it has the memory.
    #[must_use]
    pub fn kept(len: usize) -> Self {
        let len = len.next_multiple_of(BLOCK);
        let kept = SOURCE.with_borrow_mut(|source| {
            let source = source.as_mut().filter(|_| len > 0)?;
            source.pages(len)
        });
        match kept {
            Some(kept) => Self::of(Memory::Kept(kept), len),
            None => Self::stale(len),
        }
    }

    fn of(memory: Memory, len: usize) -> Self {
        LIVE_BYTES.fetch_add(memory.bytes().len(), Ordering::Relaxed);
        let used = len.next_multiple_of(BLOCK);
        Self { memory, used }
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
        if len > self.memory_bytes() {
            let mut larger = Self::stale(len);
            larger.as_mut_bytes()[..self.len()].copy_from_slice(self.as_bytes());
            *self = larger;
        }
        self.used = self.used.max(len.next_multiple_of(BLOCK));
    }

    /// Makes the first `len` bytes the content: pages after them are dropped, and what is left of the
    /// last one is zeroed.
    pub fn finish(&mut self, len: usize) {
        self.used = self.used.min(len.next_multiple_of(BLOCK));
        let end = self.len();
        self.as_mut_bytes()[len.min(end)..].fill(0);
    }

    /// Length in bytes, a multiple of [`BLOCK`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.used
    }

    /// Bytes of memory it takes, at least its length.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory.bytes().len()
    }

    /// Whether the buffer has no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The whole content.
    #[must_use]
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        &mut self.memory.bytes_mut()[..self.used]
    }

    /// The whole content.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.memory.bytes()[..self.used]
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
        LIVE_BYTES.fetch_sub(self.memory_bytes(), Ordering::Relaxed);
        if let Memory::Own(pages) = std::mem::take(&mut self.memory) {
            pool::give(pages);
        }
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
    fn what_is_kept_is_kept_if_there_is_something() {
        struct Boxed(Box<[u8]>);
        impl Pages for Boxed {
            fn bytes(&self) -> &[u8] {
                &self.0
            }
            fn bytes_mut(&mut self) -> &mut [u8] {
                &mut self.0
            }
        }
        struct Once(bool);
        impl PageSource for Once {
            fn pages(&mut self, len: usize) -> Option<Box<dyn Pages>> {
                let has = std::mem::take(&mut self.0);
                has.then(|| -> Box<dyn Pages> { Box::new(Boxed(vec![2; len].into())) })
            }
        }
        keep_pages_in(Once(true));
        assert!(PageBuf::kept(0).is_empty());
        let mut kept = PageBuf::kept(BLOCK + 1);
        assert_eq!(kept.as_bytes(), [2; 2 * BLOCK]);
        kept.finish(BLOCK + 3);
        kept.grow(3 * BLOCK);
        assert_eq!(kept.as_bytes()[BLOCK + 2..][..2], [2, 0]);
        assert_eq!(PageBuf::kept(BLOCK).len(), BLOCK, "the allocator's");
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
