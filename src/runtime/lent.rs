//! Buffers that a ring lends to receive into. The kernel takes one only when bytes
//! have come, so that thousands of idle connections need no memory of their own.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Size of one buffer.
pub const LENT_BYTES: usize = 16 * 1024;
/// Buffers of a ring. With all of them lent, operations fail with `ENOBUFS`.
const BUFFERS: u16 = 256;
/// The kernel wants the table of entries on a page boundary.
const PAGE: usize = 4096;
/// The number under which the kernel knows the buffers of a ring.
pub const GROUP: u16 = 0;

const _: () = assert!(BUFFERS.is_power_of_two() && LENT_BYTES.is_multiple_of(PAGE));

/// All buffers of a ring, and the table through which the kernel is given them.
pub struct Lender {
    table: NonNull<BufRingEntry>,
    buffers: NonNull<u8>,
    tail: Cell<u16>,
}

impl Lender {
    /// Makes the buffers known to a ring.
    ///
    /// # Errors
    /// The kernel does not have this (before 5.19), or has no memory for it.
    pub fn register(submitter: &Submitter<'_>) -> io::Result<Rc<Self>> {
        let lender = Self {
            table: allocate(Self::table_layout(), true).cast(),
            buffers: allocate(Self::buffers_layout(), false),
            tail: Cell::new(0),
        };
        let table = lender.table.as_ptr() as u64;
        // SAFETY: the table is zeroed memory of the size and alignment that this many entries need.
        // It is freed with the lender, which the ring keeps for as long as it exists.
        unsafe { submitter.register_buf_ring_with_flags(table, BUFFERS, GROUP, 0)? };
        (0..BUFFERS).for_each(|id| lender.give(id));
        Ok(Rc::new(lender))
    }

    /// The first `len` bytes of buffer `id`.
    ///
    /// # Safety
    /// The kernel has just completed an operation with this buffer, and has written that many bytes.
    #[must_use]
    pub unsafe fn lent(self: &Rc<Self>, id: u16, len: usize) -> Lent {
        debug_assert!(id < BUFFERS && len <= LENT_BYTES);
        Lent {
            lender: Rc::clone(self),
            id,
            len,
        }
    }

    /// Lets the kernel use a buffer, again.
    fn give(&self, id: u16) {
        let tail = self.tail.get();
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: the index is below the number of entries, which the table has memory for. The
        // kernel reads the entry only when the tail has moved past it, which the release store says;
        // the tail lies in a field of the first entry that the setters leave alone.
        unsafe {
            let entry = &mut *self.table.as_ptr().add(usize::from(tail % BUFFERS));
            entry.set_addr(self.buffer(id) as u64);
            entry.set_len(LENT_BYTES as u32);
            entry.set_bid(id);
            let shared = BufRingEntry::tail(self.table.as_ptr()).cast_mut();
            AtomicU16::from_ptr(shared).store(tail.wrapping_add(1), Ordering::Release);
        }
    }

    fn buffer(&self, id: u16) -> *mut u8 {
        // SAFETY: there are `BUFFERS` of them, one behind the other.
        unsafe { self.buffers.as_ptr().add(usize::from(id) * LENT_BYTES) }
    }

    fn table_layout() -> Layout {
        let bytes = usize::from(BUFFERS) * size_of::<BufRingEntry>();
        Layout::from_size_align(bytes, PAGE).expect("a page is a good alignment")
    }

    fn buffers_layout() -> Layout {
        let bytes = usize::from(BUFFERS) * LENT_BYTES;
        Layout::from_size_align(bytes, PAGE).expect("a page is a good alignment")
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layouts, and the ring does not drop its lender before the
        // kernel is done with the buffers.
        unsafe {
            dealloc(self.table.as_ptr().cast(), Self::table_layout());
            dealloc(self.buffers.as_ptr(), Self::buffers_layout());
        }
    }
}

fn allocate(layout: Layout, zeroed: bool) -> NonNull<u8> {
    // SAFETY: the layouts are not empty.
    let memory = unsafe {
        if zeroed {
            alloc_zeroed(layout)
        } else {
            alloc(layout)
        }
    };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Received bytes in a buffer that goes back to the kernel when this is dropped.
pub struct Lent {
    lender: Rc<Lender>,
    id: u16,
    len: usize,
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the kernel has written these bytes and does not touch the buffer until it is given
        // back, which `drop` does.
        unsafe { std::slice::from_raw_parts(self.lender.buffer(self.id), self.len) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.lender.give(self.id);
    }
}
