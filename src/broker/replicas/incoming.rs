//! Which stream of each shard of other nodes counts: only its newest one. Streams may come by way of several shards,
//! and what was said on an earlier one behind what is said on a later one.

use std::collections::BTreeMap;

use crate::broker::msg::{PeerStream, ReplicaPeer, ReplicaStream};

/// See the module. One for each shard of each other node, for ever.
#[derive(Debug, Default)]
pub struct NewestStreams {
    by_peer: BTreeMap<ReplicaPeer, (ReplicaStream, PeerStream)>,
}

impl NewestStreams {
    /// A stream has begun, by this connection. The connection that counts no more by that, if there is one: of two
    /// streams of one process that with the lower number, of two processes that which came before.
    ///
    /// So a process that was late takes the place of one that is there. That one has its connection closed, and comes
    /// again.
    pub fn begins(&mut self, stream: ReplicaStream, back: PeerStream) -> Option<PeerStream> {
        let newer = (stream, back);
        match self.by_peer.get_mut(&stream.from) {
            None => {
                self.by_peer.insert(stream.from, newer);
                None
            }
            Some((known, _)) if known.start == stream.start && known.number >= stream.number => {
                Some(back)
            }
            Some(known) => Some(std::mem::replace(known, newer).1),
        }
    }

    /// Whether what comes on this stream, by this connection, counts.
    pub fn counts(&self, stream: ReplicaStream, back: PeerStream) -> bool {
        self.by_peer.get(&stream.from) == Some(&(stream, back))
    }
}
