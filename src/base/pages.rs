//! Page-aligned memory that a disk write can use as it is and that readers can
//! go on sharing: the one copy a produced batch is given.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The unit of the store: positions, lengths and memory of every disk write are multiples of it.
pub const BLOCK: usize = 4096;

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Page([u8; BLOCK]);

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

/// The memory of buffers that are gone, by size: a list of its own on each thread, so no lock.
mod pool {
    use std::cell::RefCell;

    use super::super::limits::PAGE_POOL_BYTES_MAX;
    use super::{BLOCK, Page};

    /// Larger buffers are made and dropped as they come.
    const PAGES_MAX: usize = 1024;
    /// Sizes up to [`PAGES_MAX`]: 1 to 8 pages one by one, then four for each doubling.
    const SIZES: usize = 8 + 4 * 7;

    /// The number of the smallest size that holds so many pages, and that size.
    fn size(pages: usize) -> (usize, usize) {
        if pages <= 8 {
            let pages = pages.max(1);
            return (pages - 1, pages);
        }
        let doublings = (pages - 1).ilog2() as usize;
        let step = 1 << (doublings - 2);
        let quarters = (pages - 1) / step + 1;
        (4 * (doublings - 3) + quarters - 5 + 8, quarters * step)
    }

    /// How many pages to allocate for a buffer of so many.
    pub(super) fn room_for(pages: usize) -> usize {
        match pages {
            0 => 0,
            1..=PAGES_MAX => size(pages).1,
            _ => pages,
        }
    }

    struct Pool {
        free: [Vec<Vec<Page>>; SIZES],
        bytes: usize,
        /// The least there was since [`trim`].
        bytes_least: usize,
    }

    impl Pool {
        /// Lets one go, of the size that takes the most memory: what is asked for changes, and a pool
        /// full of what nobody asks for any more would be of no use.
        fn drop_one(&mut self) {
            let most = self
                .free
                .iter_mut()
                .max_by_key(|list| list.first().map_or(0, Vec::len) * list.len());
            let dropped = most.and_then(Vec::pop).unwrap_or_default();
            self.bytes -= dropped.len() * BLOCK;
            self.bytes_least = self.bytes_least.min(self.bytes);
        }
    }

    thread_local! {
        static POOL: RefCell<Pool> = const {
            RefCell::new(Pool {
                free: [const { Vec::new() }; SIZES],
                bytes: 0,
                bytes_least: 0,
            })
        };
    }

    /// Memory for so many pages, if there is some.
    pub(super) fn take(pages: usize) -> Option<Vec<Page>> {
        if pages == 0 || pages > PAGES_MAX {
            return None;
        }
        let taken = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            let (first, room) = size(pages);
            // A larger one will do, up to half as much again: two sizes up at most.
            let pages = pool.free[first..]
                .iter_mut()
                .take(3)
                .find_map(|list| list.pop_if(|pages| pages.len() * 2 <= room * 3))?;
            pool.bytes -= pages.len() * BLOCK;
            pool.bytes_least = pool.bytes_least.min(pool.bytes);
            Some(pages)
        });
        taken.ok().flatten()
    }

    /// Keeps memory for the next one, or lets it go.
    pub(super) fn give(pages: Vec<Page>) {
        if pages.is_empty() || room_for(pages.len()) != pages.len() || pages.len() > PAGES_MAX {
            return;
        }
        // A thread that is ending has no pool any more.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            pool.bytes += pages.len() * BLOCK;
            pool.free[size(pages.len()).0].push(pages);
            while pool.bytes > PAGE_POOL_BYTES_MAX {
                pool.drop_one();
            }
        });
    }

    /// Lets go what lay here unused since the last call.
    pub(super) fn trim() {
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            let keep = pool.bytes - pool.bytes_least;
            while pool.bytes > keep {
                pool.drop_one();
            }
            pool.bytes_least = pool.bytes;
        });
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn sizes_are_in_order_and_waste_little() {
            let mut last = (0, 1);
            for pages in 1..=PAGES_MAX {
                let (number, room) = size(pages);
                assert!(
                    room >= pages && room * 4 <= pages * 5 + 3,
                    "{pages}: {room}"
                );
                assert!(
                    number == last.0 && room == last.1 || number == last.0 + 1 && room > last.1
                );
                assert_eq!(size(room), (number, room));
                last = (number, room);
            }
            assert_eq!(last, (SIZES - 1, PAGES_MAX));
        }

        #[test]
        fn the_pool_is_bounded() {
            let many = 2 * PAGE_POOL_BYTES_MAX / (64 * BLOCK);
            for _ in 0..many {
                give(pages(64));
            }
            assert_eq!(bytes(), PAGE_POOL_BYTES_MAX);
            while take(64).is_some() {}
            assert_eq!(bytes(), 0);
        }

        fn bytes() -> usize {
            POOL.with(|pool| pool.borrow().bytes)
        }

        fn pages(n: usize) -> Vec<Page> {
            vec![Page([0; BLOCK]); n]
        }

        #[test]
        fn a_full_pool_makes_room_for_another_size() {
            let many = PAGE_POOL_BYTES_MAX / (64 * BLOCK);
            (0..many).for_each(|_| give(pages(64)));
            (0..many).for_each(|_| give(pages(16)));
            assert!(bytes() <= PAGE_POOL_BYTES_MAX);
            assert!((0..many).all(|_| take(16).is_some()));
        }

        #[test]
        fn a_somewhat_larger_one_will_do() {
            give(pages(24));
            assert!(take(14).is_none(), "too large");
            assert_eq!(take(16).map(|p| p.len()), Some(24));
            give(pages(16));
            assert!(take(17).is_none(), "too small");
        }

        #[test]
        fn what_lies_unused_goes_back() {
            (0..4).for_each(|_| give(pages(16)));
            trim();
            // Of four, one is in use now and then.
            give(take(16).expect("one of four"));
            trim();
            assert_eq!(bytes(), 16 * BLOCK);
            trim();
            assert_eq!(bytes(), 0);
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
    fn growing_keeps_what_is_there() {
        let mut pages = PageBuf::zeroed(BLOCK);
        pages.as_mut_bytes().fill(9);
        pages.grow(10 * BLOCK);
        assert_eq!(pages.len(), 10 * BLOCK);
        assert!(pages.as_bytes()[..BLOCK].iter().all(|b| *b == 9));
    }
}
