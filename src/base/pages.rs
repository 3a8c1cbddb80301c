//! Page-aligned memory that a disk write can use as it is and that readers can
//! go on sharing: the one copy a produced batch is given.

use bytes::Bytes;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The unit of the store: positions, lengths and memory of every disk write are multiples of it.
pub const BLOCK: usize = 4096;

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Page([u8; BLOCK]);

/// Zeroed, growable memory that starts on a [`BLOCK`] boundary and is a whole number of blocks.
#[derive(Default)]
pub struct PageBuf {
    pages: Vec<Page>,
}

impl PageBuf {
    /// A zeroed buffer of `len` bytes, rounded up to whole blocks.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let pages = Page::new_vec_zeroed(len.div_ceil(BLOCK)).expect("allocation of a page buffer");
        Self { pages }
    }

    /// Grows, with zeroes, to hold at least `len` bytes.
    pub fn grow(&mut self, len: usize) {
        let pages = len.div_ceil(BLOCK);
        if pages > self.pages.len() {
            self.pages.resize(pages, Page([0; BLOCK]));
        }
    }

    /// Drops the pages that do not hold any of the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.pages.truncate(len.div_ceil(BLOCK));
    }

    /// Length in bytes, a multiple of [`BLOCK`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.pages.len() * BLOCK
    }

    /// Whether the buffer has no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The whole content.
    #[must_use]
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        self.pages.as_mut_slice().as_mut_bytes()
    }

    /// The whole content.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.pages.as_slice().as_bytes()
    }

    /// Shares the content: slices of the result keep the memory alive and may cross threads.
    /// A slice taken at a multiple of [`BLOCK`] is aligned for O_DIRECT.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(Frozen(self))
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
}
