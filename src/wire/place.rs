//! What a node's configuration says of the nodes of its cluster, in its hello to another one.
//!
//! ```text
//! voters: count u8, of each node i32 | port u16, 0: nobody reaches it | host length u8 | host    little-endian
//! ```

use crate::base::NodeId;
use crate::base::codec::{Put, Reader};
use crate::base::limits::{HOST_BYTES_MAX, QUORUM_VOTERS_MAX};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePlace {
    /// Those that vote about the metadata, by node; none if the configuration leaves that to others.
    pub voters: Vec<NodeId>,
    /// Host and port by which other nodes reach it, of `HOST_BYTES_MAX` bytes at most; `None` of earlier releases.
    pub reached: Option<(String, u16)>,
}

impl NodePlace {
    /// Whether the node, by its own configuration, has no vote.
    #[must_use]
    pub fn observes(&self, node: NodeId) -> bool {
        self.reached.is_some() && !self.voters.contains(&node)
    }

    pub(super) fn put(&self, to: &mut Vec<u8>) {
        let voters = &self.voters[..self.voters.len().min(QUORUM_VOTERS_MAX)];
        to.u8(voters.len() as u8);
        voters.iter().for_each(|voter| to.i32(voter.0));
        let reached = self.reached.as_ref();
        let reached = reached.filter(|(host, _)| host.len() <= HOST_BYTES_MAX);
        let (host, port) = reached.map_or(("", 0), |(host, port)| (host.as_str(), *port));
        to.u16(port);
        to.u8(host.len() as u8);
        to.put(host.as_bytes());
    }

    /// Nothing at all is that of an earlier release.
    pub(super) fn read(from: &mut Reader) -> Option<Self> {
        if from.is_at_end() {
            return Some(Self::default());
        }
        let count = usize::from(from.u8()?);
        let mut voters = Vec::new();
        for _ in 0..count {
            voters.push(NodeId(from.i32()?));
        }
        let port = from.u16()?;
        let len = usize::from(from.u8()?);
        let host = from.take(len)?;
        let host = std::str::from_utf8(&host).ok()?;
        // It goes to logs, and to whoever looks up names.
        let is_sound = host.bytes().all(|byte| byte.is_ascii_graphic());
        let is_reached = port > 0 && !host.is_empty();
        (is_sound && count <= QUORUM_VOTERS_MAX).then(|| Self {
            voters,
            reached: is_reached.then(|| (host.to_owned(), port)),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn read(bytes: &[u8]) -> Option<NodePlace> {
        NodePlace::read(&mut Reader::new(Bytes::copy_from_slice(bytes)))
    }

    #[test]
    fn what_is_said_is_what_is_read() {
        let place = NodePlace {
            voters: vec![NodeId(1), NodeId(2)],
            reached: Some(("node-4".to_owned(), 9093)),
        };
        let mut bytes = Vec::new();
        place.put(&mut bytes);
        assert_eq!(read(&bytes), Some(place.clone()));
        for len in 1..bytes.len() {
            assert_eq!(read(&bytes[..len]), None, "{len}");
        }
        assert_eq!(read(&[]), Some(NodePlace::default()), "an earlier release");
        assert!(place.observes(NodeId(4)) && !place.observes(NodeId(2)));
        assert!(!NodePlace::default().observes(NodeId(4)));
    }

    #[test]
    fn what_nobody_says_is_not_read() {
        assert_eq!(read(&[0, 1, 0, 1, b' ']), None, "no host");
        let many = [&[17][..], &[0; 17 * 4 + 3]].concat();
        assert_eq!(read(&many), None);
        let nowhere = read(&[0, 0, 0, 1, b'a']).unwrap();
        assert_eq!(nowhere, NodePlace::default());
    }
}
