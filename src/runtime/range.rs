//! Parts of store files that are read to be sent.

use crate::base::{BLOCK, StoreId};
use crate::store::{Beginning, ChunkPin};

/// A file range that is still to be sent.
#[derive(Clone)]
pub struct Range {
    /// The store.
    pub store: StoreId,
    /// Byte position in its file.
    pub pos: u64,
    /// Length in bytes.
    pub len: usize,
    /// Keeps it from being reused.
    pub pin: ChunkPin,
    /// What is known to be at its start.
    pub begins: Option<Box<Beginning>>,
    /// It is to be read past the page cache, whoever else reads it.
    pub past_cache: bool,
}

impl Range {
    /// Bytes of its first block that are before it.
    pub fn in_block(&self) -> usize {
        (self.pos % BLOCK as u64) as usize
    }

    /// Cuts off a part whose blocks are at most so many bytes, at least a block: it ends at a block
    /// boundary, or with the range.
    pub fn split_front(&mut self, bytes_max: usize) -> Self {
        let blocks = (bytes_max / BLOCK).max(1) * BLOCK;
        let len = self.len.min(blocks - self.in_block());
        let front = Self {
            store: self.store,
            pos: self.pos,
            len,
            pin: self.pin.clone(),
            begins: self.begins.clone(),
            past_cache: self.past_cache,
        };
        self.skip(len);
        front
    }

    /// Takes off what is sent, or read, of it.
    pub fn skip(&mut self, len: usize) {
        self.pos += len as u64;
        self.len -= len;
        if len > 0 {
            self.begins = None;
        }
    }
}
