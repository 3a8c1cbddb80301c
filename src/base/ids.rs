//! Identifiers. Each is a type of its own so that a partition index cannot be
//! passed where a shard is meant; the numbers inside are the wire's.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(/// A shard of this node: one thread, one core, `0..shards`. Shard 0 is the control shard.
    ShardId(u16));
id!(/// A store file of this node, `store-<n>`. A shard owns one or several.
    StoreId(u16));
id!(/// A Kafka node id (`node.id`), as announced in Metadata.
    NodeId(i32));
id!(/// One partition's log inside the stores of a cluster: unique for ever, never reused, so that
    /// the leftovers of a deleted topic can never be taken for a new topic of the same name.
    LogId(u64));
id!(/// A segment of a log: grows along the log, and is never used again for another one.
    SegmentId(u64));
id!(/// A record's position in its partition. The next offset to be written is the log end offset.
    Offset(i64));
id!(/// Leader epoch (KIP-101): grows by one whenever leadership of a partition changes hands.
    LeaderEpoch(i32));

id!(/// Which of a node's processes: grows with each start on its stores. What an earlier one was told or said
    /// counts no more.
    Incarnation(u64));

id!(/// A connection to a shard. Chosen by the driver, never reused within a shard's life.
    ConnId(u64));

/// One process of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeProcess {
    /// The node.
    pub node: NodeId,
    /// The process.
    pub incarnation: Incarnation,
}

impl NodeId {
    /// No node: the leader of a partition that nobody leads.
    pub const NOBODY: Self = Self(-1);

    /// Ids of shards per node: more than a node can have shards.
    pub const SHARD_IDS: i32 = 10_000;
    /// The highest node whose shards have ids too.
    pub const DIRECT_MAX: i32 = i32::MAX / Self::SHARD_IDS - 1;

    /// The id under which a shard of this node is announced as a broker of its own: 20003 is shard 3
    /// of node 2. The node is at most [`NodeId::DIRECT_MAX`].
    #[must_use]
    pub const fn direct(self, shard: ShardId) -> i32 {
        self.0 * Self::SHARD_IDS + shard.0 as i32
    }
}

impl SegmentId {
    /// That of a log's first segment.
    pub const FIRST: Self = Self(0);

    /// So many ids lie between a segment and the next one, for those that take its place.
    const STRIDE: u64 = 1 << 16;

    /// That of a segment which follows this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self((self.0 / Self::STRIDE + 1) * Self::STRIDE)
    }

    /// That of a segment which takes the place of others, from the first to the last one, between the one before them
    /// and the one behind. When those behind the last one are used up, those before it have their turn again: who spoke
    /// of them then does so no more. `None` if no id is left there.
    #[must_use]
    pub fn replacing(
        (first, last): (Self, Self),
        before: Option<Self>,
        behind: Self,
    ) -> Option<Self> {
        let next = Self(last.0 + 1);
        // Those of the segments before are further down.
        let lowest = Self(last.0 / Self::STRIDE * Self::STRIDE);
        let is_lower = lowest < first && before.is_none_or(|before| before < lowest);
        let is_own = !next.0.is_multiple_of(Self::STRIDE) || !is_lower;
        match next < behind && is_own {
            true => Some(next),
            false => is_lower.then_some(lowest),
        }
    }
}

impl LogId {
    /// Set in the ids of logs in which segments of others are cleaned. Those of partitions are far below, and the
    /// broker's own, which are never cleaned, have the next bit set too.
    const CLEANING: u64 = 1 << 63;
    const OWN: u64 = 1 << 62;

    /// The log of the same store in which segments of this one are cleaned, before they take its place.
    #[must_use]
    pub const fn cleaning(self) -> Self {
        Self(self.0 | Self::CLEANING)
    }

    /// The log of which segments are cleaned in this one.
    #[must_use]
    pub const fn cleaned(self) -> Self {
        Self(self.0 & !Self::CLEANING)
    }

    /// Whether it is such a log: it is no partition's, and goes with the process that made it.
    #[must_use]
    pub const fn is_cleaning(self) -> bool {
        self.0 & (Self::CLEANING | Self::OWN) == Self::CLEANING
    }
}

impl Offset {
    /// The offset `n` records further on.
    #[must_use]
    pub const fn plus(self, n: i64) -> Self {
        Self(self.0 + n)
    }
}

/// A topic id (KIP-516): 16 random bytes, Kafka's UUID. All zero means "none".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The zero id, by which requests say "I name the topic instead".
    pub const ZERO: Self = Self([0; 16]);

    /// Reads Kafka's text form; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| ID_DIGITS.iter().position(|digit| *digit == byte);
        let (last, others) = text.as_bytes().split_last()?;
        if others.len() != 21 {
            return None;
        }
        let mut value: u128 = 0;
        for byte in others {
            value = value << 6 | digit(*byte)? as u128;
        }
        // The four bits at its end are padding.
        let last = digit(*last)?;
        let id = Self((value << 2 | last as u128 >> 4).to_be_bytes());
        (last & 15 == 0).then_some(id)
    }
}

/// Of the text form of ids: URL-safe base64.
const ID_DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for TopicId {
    /// Kafka's text form: URL-safe base64 without padding, 22 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        for i in 0..22 {
            // 22 digits carry 132 bits; the last one is padded with four zero bits.
            let shift = 122 - 6 * i;
            let digit = if shift >= 0 {
                value >> shift
            } else {
                value << -shift
            } & 63;
            write!(f, "{}", ID_DIGITS[digit as usize] as char)?;
        }
        Ok(())
    }
}

/// The directory of a replica (KIP-858): which store of which node, for ever. A node whose stores were made anew
/// has other ones, whatever its node id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(pub [u8; 16]);

impl DirectoryId {
    /// Of a store of a set of stores that were made together, `set` being random.
    #[must_use]
    pub fn new(set: u64, store: StoreId) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&set.to_be_bytes());
        id[14..].copy_from_slice(&store.0.to_be_bytes());
        Self(id)
    }
}

impl fmt::Display for DirectoryId {
    /// As Kafka prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TopicId(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_id_prints_as_kafka_does() {
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        // java.util.UUID 00000000-0000-0000-0000-000000000001, Kafka's metadata topic id.
        let mut one = [0; 16];
        one[15] = 1;
        assert_eq!(TopicId(one).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
    }

    #[test]
    fn topic_ids_are_read_as_they_are_printed() {
        for id in [
            TopicId::ZERO,
            TopicId([0xff; 16]),
            TopicId(*b"0123456789abcdef"),
        ] {
            assert_eq!(TopicId::parse(&id.to_string()), Some(id));
        }
        // Too short, too long, another alphabet, and bits behind the end.
        for bad in [
            "",
            "AAAA",
            "AAAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAA+A",
            "AAAAAAAAAAAAAAAAAAAAAB",
        ] {
            assert_eq!(TopicId::parse(bad), None, "{bad}");
        }
    }
}
