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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ConnId, NodeId, ShardId};

    fn stream(shard: u16, start: u64, number: u64) -> ReplicaStream {
        let from = ReplicaPeer {
            node: NodeId(2),
            shard: ShardId(shard),
        };
        ReplicaStream {
            from,
            start,
            number,
        }
    }

    fn by(conn: u64) -> PeerStream {
        PeerStream {
            shard: ShardId((conn % 2) as u16),
            conn: ConnId(conn),
        }
    }

    #[test]
    fn of_the_streams_of_a_process_the_latest_one_counts_however_they_come() {
        for order in [[1, 2], [2, 1]] {
            let mut newest = NewestStreams::default();
            assert!(!newest.counts(stream(3, 7, 1), by(1)));
            assert_eq!(newest.begins(stream(4, 7, 9), by(9)), None);
            let over: Vec<_> = order
                .into_iter()
                .filter_map(|number| newest.begins(stream(3, 7, number), by(number)))
                .collect();
            assert_eq!(over, [by(1)]);
            assert!(newest.counts(stream(3, 7, 2), by(2)));
            assert!(!newest.counts(stream(3, 7, 1), by(1)));
            assert!(newest.counts(stream(4, 7, 9), by(9)), "of another shard");
        }
    }

    #[test]
    fn a_process_takes_the_place_of_another_one_which_may_come_again() {
        let mut newest = NewestStreams::default();
        newest.begins(stream(3, 7, 5), by(1));
        assert_eq!(newest.begins(stream(3, 8, 1), by(2)), Some(by(1)));
        assert!(!newest.counts(stream(3, 7, 5), by(1)));
        assert_eq!(newest.begins(stream(3, 7, 6), by(3)), Some(by(2)));
        assert!(newest.counts(stream(3, 7, 6), by(3)));
        // Whoever says another one's number comes by another connection.
        assert!(!newest.counts(stream(3, 7, 6), by(4)));
        assert_eq!(newest.begins(stream(3, 7, 6), by(4)), Some(by(4)));
        assert!(newest.counts(stream(3, 7, 6), by(3)));
    }
}
