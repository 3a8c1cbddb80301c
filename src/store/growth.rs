//! How far a store has grown, and what of that is on its way.

use bytes::Bytes;

use super::api::{DiskOp, IoId};
use super::layout::{REGION, RING_START};
use crate::base::PageBuf;

/// Bytes of one background write at most: as many when written space is about to run out, which would cost more.
pub(super) const STEP_SHORT: u64 = 1 << 20;

/// How far a store is written ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    pub initial_bytes: u64,
    /// The region that is being written, and the bytes of it that are on their way or written. Nobody else has
    /// it until it is free.
    pub writing: Option<(u64, u64)>,
    /// Up to where blocks are being asked for.
    pub allocating: Option<u64>,
    /// The largest step that the disk may have room for.
    pub step_max: u64,
    /// Room that somebody waits for.
    pub asked: u64,
    /// Allocating means nothing here: there are blocks where something was written, and nowhere else.
    pub by_writing: bool,
    /// The disk had no room; tried again after the next checkpoint, or when the owner thinks so.
    pub full: bool,
    /// The store is to come to rest.
    pub winding_down: bool,
    pub zeroes: Bytes,
}

impl Ahead {
    pub fn new(initial_bytes: u64) -> Self {
        Self {
            initial_bytes,
            writing: None,
            allocating: None,
            step_max: u64::MAX,
            asked: 0,
            by_writing: false,
            full: false,
            winding_down: false,
            zeroes: PageBuf::zeroed(STEP_SHORT as usize).freeze(),
        }
    }

    /// Bytes that are in the area and not to be had yet.
    pub fn bytes(&self) -> u64 {
        self.writing.map_or(0, |_| REGION)
    }

    /// Writes the journal ring of a new store.
    pub fn format(&self, journal_bytes: u64, ops: &mut Vec<DiskOp>) {
        let mut at = RING_START;
        let end = RING_START + journal_bytes;
        while at < end {
            let len = STEP_SHORT.min(end - at);
            ops.push(DiskOp::Write {
                id: IoId(0),
                pos: at,
                data: self.zeroes.slice(..len as usize),
                background: false,
                through: false,
            });
            at += len;
        }
    }
}
