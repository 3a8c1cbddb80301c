//! One shard's store as bookkeeping: which block holds what, what goes out with
//! the next flush, what is durable, what may be reused. It knows logs by
//! [`LogId`] and byte streams by segment; it knows neither topics, offsets of
//! records beyond a segment's base, nor the wire. It performs no I/O: it returns
//! [`DiskOp`]s and is told of their completion.
//!
//! Shape of the file (DESIGN.md section 5):
//! `superblock x2 | journal ring | chunk area (regions of 4 MiB, split 16-fold twice)`.

use bytes::Bytes;

use crate::base::{LogId, Offset};

pub mod api;

pub use api::*;

const _: fn(LogId, Offset, Bytes) = |_, _, _| {};
