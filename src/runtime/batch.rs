//! What one send carries: slices of replies, with the list of them that the kernel wants.

use std::collections::VecDeque;

use bytes::Bytes;

/// Most slices that one send carries, the kernel's `UIO_MAXIOV`.
pub const SLICES_MAX: usize = 1024;

/// See [`SendBatch::is_small`].
const SMALL_SLICES: usize = 8;

/// Slices for one vectored send.
pub struct SendBatch {
    pub(super) parts: VecDeque<Bytes>,
    iov: Vec<libc::iovec>,
    header: libc::msghdr,
    /// Whether bytes follow that this batch does not have: the kernel then does not push a short
    /// last segment out.
    pub more: bool,
}

impl Default for SendBatch {
    fn default() -> Self {
        Self {
            parts: VecDeque::new(),
            iov: Vec::new(),
            // SAFETY: a msghdr is plain data, for which all zeroes means "nothing".
            header: unsafe { std::mem::zeroed() },
            more: false,
        }
    }
}

impl SendBatch {
    /// Adds a slice at the end.
    pub fn push(&mut self, part: Bytes) {
        self.parts.push_back(part);
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether it has so little memory of its own that it may be kept for each connection.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.parts.capacity() <= SMALL_SLICES && self.iov.capacity() <= SMALL_SLICES
    }

    /// Slices in it; at most [`SLICES_MAX`] go out with one operation.
    #[must_use]
    pub fn slices(&self) -> usize {
        self.parts.len()
    }

    /// The slice, if it is the only one.
    #[must_use]
    pub fn only(&self) -> Option<&Bytes> {
        self.parts.front().filter(|_| self.parts.len() == 1)
    }

    /// Drops the `n` bytes that were sent.
    pub fn advance(&mut self, mut n: usize) {
        while let Some(part) = self.parts.front_mut() {
            if n < part.len() {
                bytes::Buf::advance(part, n);
                return;
            }
            n -= part.len();
            self.parts.pop_front();
        }
    }

    /// The message header of the first [`SLICES_MAX`] slices. It points into `self`, which has to
    /// stay where it is, unchanged, for as long as the kernel uses it.
    pub(super) fn header(&mut self) -> *const libc::msghdr {
        self.iov.clear();
        self.iov
            .extend(self.parts.iter().take(SLICES_MAX).map(|part| libc::iovec {
                iov_base: part.as_ptr().cast_mut().cast(),
                iov_len: part.len(),
            }));
        self.header.msg_iov = self.iov.as_mut_ptr();
        self.header.msg_iovlen = self.iov.len();
        &raw const self.header
    }
}
