//! What the operations of a shard's ring are for.

use crate::base::StoreId;
use crate::broker::{ConnId, LinkId, ReadId};
use crate::store::IoId;

/// What a completion of the ring is for.
#[derive(Clone, Copy, Debug)]
pub enum Tag {
    /// The store files.
    Disk(DiskTag),
    /// What a connection is being sent.
    Conn(ConnId),
    /// What is read for a connection, and the number by which it knows the read.
    Load(ConnId, u64),
    /// What is brought into the page cache for a connection, by its place among all that is.
    Cache(usize),
    /// What a connection sends.
    Receive(ConnId),
    /// A connection to another node.
    Link(LinkId),
    /// A listening socket, by its place.
    Accept(usize),
    /// The eventfd that wakes this shard.
    Bell,
}

/// Which kind of operation a completion belongs to; part of [`Tag`].
#[derive(Clone, Copy, Debug)]
pub enum DiskTag {
    /// An operation of the store's.
    Store {
        /// The store.
        store: StoreId,
        /// The store's own id of it.
        id: IoId,
        /// Whether it counts as background.
        background: bool,
    },
    /// A part of an [`Output::Read`](crate::broker::Output::Read).
    Read {
        /// The read.
        id: ReadId,
        /// Index of the part.
        part: usize,
    },
}
