//! One block of memory, aligned as the store needs it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The unit of the store: positions, lengths and memory of every disk write are multiples of it.
pub const BLOCK: usize = 4096;

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
pub(super) struct Page(pub [u8; BLOCK]);
