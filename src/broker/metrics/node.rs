//! What is known of a node when somebody looks.

use std::sync::Arc;

use super::topics::Traffic;
use crate::base::Counter;
use crate::broker::trace::Board;

/// What the system says of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Seconds of all cores that it has taken, its own and the kernel's for it.
    pub cpu_seconds: f64,
    /// Bytes of memory that are in RAM.
    pub resident_bytes: u64,
    /// Bytes of its address space.
    pub virtual_bytes: u64,
    /// File descriptors that are open.
    pub open_fds: u64,
    /// File descriptors that may be.
    pub max_fds: u64,
    /// When it was started, in seconds since 1970.
    pub start_seconds: f64,
}

/// What a node looks like from outside at one moment.
#[derive(Clone, Debug)]
pub struct Node {
    /// `node.id`.
    pub id: i32,
    /// Of the program.
    pub version: &'static str,
    /// The commit that it was built from, if that is known.
    pub commit: Option<&'static str>,
    /// Whether it serves.
    pub is_ready: bool,
    /// See there.
    pub process: Process,
    /// Bytes of requests in progress, and how many there may be (`queued.max.request.bytes`).
    pub request_bytes: [u64; 2],
    /// Of each shard.
    pub boards: Vec<Arc<Board>>,
    /// The busiest topics.
    pub topics: Vec<Traffic>,
    /// Topics that are not among those.
    pub topics_left_out: usize,
}

impl Node {
    /// Of the control shard.
    pub(super) fn first(&self, of: impl Fn(&Board) -> &Counter) -> u64 {
        self.boards.first().map_or(0, |board| of(board).get())
    }

    /// Of all shards.
    pub(super) fn sum(&self, of: impl Fn(&Board) -> &Counter) -> u64 {
        let counts = self.boards.iter().map(|board| of(board).get());
        counts.fold(0, u64::wrapping_add)
    }
}
