//! The memory of buffers that are gone, by size: a list of its own on each thread, so no lock.

use std::cell::RefCell;

use super::limits::PAGE_POOL_BYTES_MAX;
use super::page::{BLOCK, Page};

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
            assert!(number == last.0 && room == last.1 || number == last.0 + 1 && room > last.1);
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
