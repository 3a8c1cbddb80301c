//! One member of a classic group.

use bytes::Bytes;

use crate::base::ErrorCode;
use crate::base::Name;

/// A protocol (assignor) that a member supports, with what it sent along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Name of the assignor, e.g. `range`.
    pub name: Name,
    /// Opaque to the coordinator, but for the topics of consumers (see [`subscribed_topics`]).
    pub metadata: Bytes,
}

/// One member. What it waits for is kept as the token of the waiting request.
#[derive(Clone, Debug)]
pub struct Member {
    /// `group.instance.id` of a static member.
    pub instance: Option<Name>,
    /// `client.id` of the request that made it a member.
    pub client_id: Name,
    /// Where it came from, in Kafka's form (`/10.0.0.1`).
    pub client_host: Name,
    /// How long a rebalance waits for it, ms.
    pub rebalance_timeout_ms: i32,
    /// Without a sign of life for so long it is removed, ms.
    pub session_timeout_ms: i32,
    /// In order of preference, without duplicates.
    pub protocols: Vec<Protocol>,
    /// Its part of the current generation.
    pub assignment: Bytes,
    /// It has not been part of a generation yet.
    pub is_new: bool,
    pub(super) join: Option<u64>,
    pub(super) sync: Option<u64>,
    /// It is part of the generation, which it is still to be told if it waits for that.
    pub(super) joined: bool,
    /// What has come of its sync, and is still to be told.
    pub(super) synced: Option<ErrorCode>,
}

impl Member {
    /// What it sent for this protocol; empty if it does not support it.
    #[must_use]
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|p| *p.name == *protocol);
        found.map_or_else(Bytes::new, |p| p.metadata.clone())
    }

    /// Members that wait for a rebalance are alive without heartbeats, but for new ones, whose
    /// client may have given up and left no trace but this entry.
    pub(super) fn has_satisfied_heartbeat(&self) -> bool {
        !self.is_new && (self.join.is_some() || self.sync.is_some())
    }

    /// Whether something is decided that it is still to be told.
    pub(super) fn is_untold(&self) -> bool {
        self.joined || self.synced.is_some()
    }

    /// What it takes, about, its id aside.
    pub(super) fn bytes(&self) -> usize {
        let instance = self.instance.as_deref().unwrap_or("");
        let names = [instance, &self.client_id, &self.client_host];
        carried(names, &self.protocols) + self.assignment.len()
    }

    pub(super) fn session_ms(&self) -> u64 {
        u64::try_from(self.session_timeout_ms).unwrap_or(0)
    }
}

/// What a member takes with these names and protocols, about.
pub(super) fn carried<const N: usize>(names: [&str; N], protocols: &[Protocol]) -> usize {
    /// A member and a protocol by themselves, with their entries in tables.
    const MEMBER_BYTES: usize = 512;
    const PROTOCOL_BYTES: usize = 128;
    let of_protocol = |p: &Protocol| PROTOCOL_BYTES + p.name.len() + p.metadata.len();
    let names: usize = names.iter().map(|name| name.len()).sum();
    MEMBER_BYTES + names + protocols.iter().map(of_protocol).sum::<usize>()
}

/// Drops protocols named twice; the first one counts.
#[must_use]
pub fn without_duplicates(protocols: Vec<Protocol>) -> Vec<Protocol> {
    let mut seen = std::collections::BTreeSet::new();
    protocols
        .into_iter()
        .filter(|p| seen.insert(p.name.clone()))
        .collect()
}

/// The topics of a `ConsumerProtocolSubscription`: a version, then an array of strings, in every version so far; and
/// how many bytes say that. `None` if the bytes are something else, as members may send anything, or name more than
/// `max`.
#[must_use]
pub fn subscribed_topics(metadata: &[u8], max: usize) -> Option<(Vec<&str>, usize)> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok()?;
    if count > max {
        return None;
    }
    let mut topics = Vec::new();
    for _ in 0..count {
        let (len, tail) = rest.split_first_chunk::<2>()?;
        let len = usize::try_from(i16::from_be_bytes(*len)).ok()?;
        let (name, tail) = tail.split_at_checked(len)?;
        topics.push(std::str::from_utf8(name).ok()?);
        rest = tail;
    }
    Some((topics, metadata.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_a_subscription() {
        let bytes = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff rest";
        assert_eq!(subscribed_topics(bytes, 2), Some((vec!["a", "bc"], 13)));
        assert_eq!(subscribed_topics(bytes, 1), None);
        for bytes in [
            &b"\0\x01\0\0\0\x02\0\x01a\0\x02b"[..],
            b"\0\x01\x7f\xff\xff\xff",
            b"\0\x01\xff\xff\xff\xff",
            b"",
        ] {
            assert_eq!(subscribed_topics(bytes, usize::MAX), None);
        }
    }
}
