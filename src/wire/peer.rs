//! APIs of our own, between nodes of a cluster. A connection to another node begins as one of a client, on an
//! ordinary listener. With a [`Hello`] it becomes a peer stream: each side says who it is, and the one that dialled
//! whom it believes the other one to be. After that it sends [`PeerMessages`] or [`ReplicaMessages`], as the hello has
//! said; they are not answered one by one.
//!
//! ```text
//! hello:     oldest u16 | newest u16 | purpose u8 | to node i32 | number u64 | facts | purpose's | place | anything
//!                                                                                                little-endian
//! purpose's: for replicas: from shard u16 | to shard u16
//! answer:    status u16, 0: it is a peer stream | version u16 | facts | anything
//!            status u16, another: refused | text length u16 | text | anything
//! facts:     node i32 | directory 16 bytes | incarnation u64 | start u64 | oldest level i16 | newest level i16
//!            | cluster id length u8 | cluster id
//! messages:  one or more of: kind u8 | length u32 | payload
//! ```
//!
//! Releases that know different versions find out here, not in the middle of a stream: the beginnings of a hello and of
//! a refusal stay what they are for ever, and what a newer release puts behind is passed over.

use std::fmt;

use bytes::Bytes;

use crate::base::codec::{Put, Reader};
use crate::base::limits::{
    CLUSTER_ID_BYTES_MAX, PEER_FRAME_BYTES_MAX, PEER_MESSAGES_MAX, PEER_PART_BYTES_MAX,
    PEER_REFUSAL_BYTES_MAX,
};
use crate::base::{DirectoryId, Incarnation, NodeId, ShardId};

use super::place::NodePlace;

/// The only version of a peer stream that is spoken. Before 2 a leader did not say which tombstones are gone.
pub const PEER_VERSION: u16 = 2;

/// Bytes of a request's header and length as they are written here.
const HEAD: usize = 14;

const METADATA: u8 = 1;
const REPLICAS: u8 = 2;

const HEARTBEAT: u8 = 1;
const QUORUM: u8 = 2;
const QUORUM_PART: u8 = 3;

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its `node.id`.
    pub node: NodeId,
    /// Its first store, by which one that lost its disk is told from the one that was.
    pub directory: DirectoryId,
    /// Which of its processes.
    pub incarnation: Incarnation,
    /// A number that this process has drawn by chance: it tells processes apart whose stores are copies of each other.
    pub start: u64,
    /// The feature levels that it can read, oldest and newest.
    pub levels: (i16, i16),
    /// The cluster that it is part of, if it is of one yet; of `CLUSTER_ID_BYTES_MAX` bytes at most.
    pub cluster_id: Option<Box<str>>,
}

/// What a peer stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The metadata quorum, and to notice who is gone.
    Metadata,
    /// What a shard says to one of another node about the partitions that both have.
    Replicas {
        /// The shard that says it.
        from: ShardId,
        /// Whom it is for. The connection may come to any shard of the receiver.
        to: ShardId,
    },
}

/// The first request on a connection to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The versions of peer streams that the sender speaks, oldest and newest.
    pub versions: (u16, u16),
    /// What the stream is for.
    pub purpose: Purpose,
    /// Whom the sender believes the receiver to be; less than 0 if it is to find that out.
    pub to: NodeId,
    /// Which stream of the sender's process it is: a later one has a higher number, and what comes on an earlier one
    /// behind it counts no more.
    pub number: u64,
    /// Who the sender is.
    pub from: NodeFacts,
    /// Which nodes there are, as its configuration says.
    pub place: NodePlace,
}

/// Why a node takes no peer stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRefusal {
    /// The versions of both have nothing in common.
    Version,
    /// The receiver is of another cluster.
    OtherCluster,
    /// The receiver is not the node that the sender took it for.
    OtherNode,
    /// The receiver has the sender's own id.
    SameNode,
    /// The receiver is no member of a cluster, or not of one with the sender.
    NoMember,
    /// The receiver does not know what the stream is for.
    Purpose,
    /// The receiver hears another process of the sender's node.
    TwoProcesses,
    /// The receiver has a later stream of the sender's process.
    Stale,
    /// One of the two does not know yet of which cluster it is: it passes.
    NotYet,
    /// The receiver, or the sender, has no such shard.
    NoShard,
    /// A reason of a newer release.
    Unknown(u16),
}

/// The answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloAnswer {
    /// It is a peer stream from now on.
    Welcome {
        /// The version that is spoken.
        version: u16,
        /// Who the receiver is.
        from: NodeFacts,
    },
    /// It is not, and the connection ends.
    Refused {
        /// Why.
        why: PeerRefusal,
        /// For people: what to do. Of `PEER_REFUSAL_BYTES_MAX` bytes at most, if it is of this release.
        text: String,
    },
}

/// What a node says on a peer stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// It is alive.
    Heartbeat {
        /// The age of the oldest push to it that is not on its disk, in ms.
        stuck_ms: u32,
    },
    /// A message of the metadata quorum, as the quorum writes it; or the last part of one. Not empty.
    Quorum(Bytes),
    /// The next part of a message of the metadata quorum, of which more comes on the same stream. Not empty.
    QuorumPart(Bytes),
}

/// Why bytes are nothing that a peer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPeer {
    /// They end too early, or have a value that there cannot be.
    Malformed(&'static str),
    /// They are more than one request may have, or more messages.
    TooLong,
    /// A kind of message that this release does not know.
    UnknownKind(u8),
}

impl fmt::Display for BadPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "malformed {what} of a peer"),
            Self::TooLong => f.write_str("more than a peer may send at a time"),
            Self::UnknownKind(kind) => {
                write!(
                    f,
                    "a peer sent a message of kind {kind}, which this release does not know"
                )
            }
        }
    }
}

impl PeerRefusal {
    const ALL: [(u16, Self); 10] = [
        (1, Self::Version),
        (2, Self::OtherCluster),
        (3, Self::OtherNode),
        (4, Self::SameNode),
        (5, Self::NoMember),
        (6, Self::Purpose),
        (7, Self::TwoProcesses),
        (8, Self::Stale),
        (9, Self::NotYet),
        (10, Self::NoShard),
    ];

    fn code(self) -> u16 {
        let known = Self::ALL.iter().find(|(_, refusal)| *refusal == self);
        match (self, known) {
            (Self::Unknown(code), _) => code,
            (_, known) => known.map_or(u16::MAX, |(code, _)| *code),
        }
    }

    fn of_code(code: u16) -> Self {
        let known = Self::ALL.iter().find(|(known, _)| *known == code);
        known.map_or(Self::Unknown(code), |(_, refusal)| *refusal)
    }
}

impl Hello {
    /// The API key. Not listed by ApiVersions; Kafka's keys are small and dense: it will not meet one of theirs.
    pub const KEY: i16 = 0x4d00;

    /// As a request, its length included.
    #[must_use]
    pub fn encode(&self, correlation_id: i32) -> Bytes {
        let mut to = request(Self::KEY, correlation_id);
        to.u16(self.versions.0);
        to.u16(self.versions.1);
        to.u8(match self.purpose {
            Purpose::Metadata => METADATA,
            Purpose::Replicas { .. } => REPLICAS,
        });
        to.i32(self.to.0);
        to.u64(self.number);
        put_facts(&mut to, &self.from);
        if let Purpose::Replicas { from, to: shard } = self.purpose {
            to.u16(from.0);
            to.u16(shard.0);
        }
        self.place.put(&mut to);
        finish(to)
    }

    /// Reads a request's body. `Err` of a [`PeerRefusal`]: it is a hello, and has to be refused for that.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(body: Bytes) -> Result<Result<Self, PeerRefusal>, BadPeer> {
        let bad = BadPeer::Malformed("hello");
        let mut from = Reader::new(body);
        let versions = from.u16().zip(from.u16()).ok_or(bad)?;
        if versions.0 > versions.1 {
            return Err(bad);
        }
        if !(versions.0..=versions.1).contains(&PEER_VERSION) {
            // What stands behind it is of a release that this one knows nothing of.
            return Ok(Err(PeerRefusal::Version));
        }
        let purpose = from.u8().ok_or(bad)?;
        let to = NodeId(from.i32().ok_or(bad)?);
        let number = from.u64().ok_or(bad)?;
        let facts = facts(&mut from).ok_or(bad)?;
        let purpose = match purpose {
            METADATA => Purpose::Metadata,
            REPLICAS => Purpose::Replicas {
                from: ShardId(from.u16().ok_or(bad)?),
                to: ShardId(from.u16().ok_or(bad)?),
            },
            _ => return Ok(Err(PeerRefusal::Purpose)),
        };
        Ok(Ok(Self {
            versions,
            purpose,
            to,
            number,
            from: facts,
            place: NodePlace::read(&mut from).ok_or(bad)?,
        }))
    }
}

impl HelloAnswer {
    /// The body of a response.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Vec::new();
        match self {
            Self::Welcome { version, from } => {
                to.u16(0);
                to.u16(*version);
                put_facts(&mut to, from);
            }
            Self::Refused { why, text } => {
                to.u16(why.code());
                let longest = text.len().min(PEER_REFUSAL_BYTES_MAX);
                let ends = (0..=longest).rev().find(|end| text.is_char_boundary(*end));
                let end = ends.unwrap_or(0);
                to.u16(end as u16);
                to.put(&text.as_bytes()[..end]);
            }
        }
        to
    }

    /// Reads the body of a response.
    ///
    /// # Errors
    /// It is no answer to a hello.
    pub fn decode(body: Bytes) -> Result<Self, BadPeer> {
        let bad = BadPeer::Malformed("answer to a hello");
        let mut from = Reader::new(body);
        Ok(match from.u16().ok_or(bad)? {
            0 => Self::Welcome {
                version: from
                    .u16()
                    .filter(|version| *version == PEER_VERSION)
                    .ok_or(bad)?,
                from: facts(&mut from).ok_or(bad)?,
            },
            code => {
                let len = usize::from(from.u16().ok_or(bad)?);
                let text = from.take(len).ok_or(bad)?;
                let end = text.len().min(PEER_REFUSAL_BYTES_MAX);
                Self::Refused {
                    why: PeerRefusal::of_code(code),
                    // It goes to a log: what is no text there is shown as such.
                    text: String::from_utf8_lossy(&text[..end]).into_owned(),
                }
            }
        })
    }
}

/// Messages that go together, as one request.
#[derive(Debug)]
pub struct PeerMessages;

impl PeerMessages {
    /// The API key; see [`Hello::KEY`].
    pub const KEY: i16 = 0x4d01;

    /// As a request, its length included. Together they have to be within `PEER_FRAME_BYTES_MAX`, and no more than
    /// `PEER_MESSAGES_MAX`.
    #[must_use]
    pub fn encode(messages: &[PeerMessage]) -> Bytes {
        let mut to = request(Self::KEY, 0);
        for message in messages {
            match message {
                PeerMessage::Heartbeat { stuck_ms } => {
                    to.u8(HEARTBEAT);
                    to.u32(4);
                    to.u32(*stuck_ms);
                }
                PeerMessage::Quorum(bytes) => put_payload(&mut to, QUORUM, bytes),
                PeerMessage::QuorumPart(bytes) => put_payload(&mut to, QUORUM_PART, bytes),
            }
        }
        finish(to)
    }

    /// A message as one request, or one of the quorum that is longer than `PEER_PART_BYTES_MAX` as several.
    #[must_use]
    pub fn in_parts(message: PeerMessage) -> Vec<Bytes> {
        let mut frames = Vec::new();
        let last = match message {
            PeerMessage::Quorum(mut rest) => {
                while rest.len() > PEER_PART_BYTES_MAX {
                    let part = rest.split_to(PEER_PART_BYTES_MAX);
                    frames.push(Self::encode(&[PeerMessage::QuorumPart(part)]));
                }
                PeerMessage::Quorum(rest)
            }
            other => other,
        };
        frames.push(Self::encode(&[last]));
        frames
    }

    /// Reads a request's body: at least one message, and nothing but messages. Those of the quorum are slices of it.
    ///
    /// # Errors
    /// What is wrong with it. No message of it counts then.
    pub fn decode(body: Bytes) -> Result<Vec<PeerMessage>, BadPeer> {
        let bad = BadPeer::Malformed("message");
        if body.len() > PEER_FRAME_BYTES_MAX {
            return Err(BadPeer::TooLong);
        }
        let mut from = Reader::new(body);
        let mut messages = Vec::new();
        loop {
            let kind = from.u8().ok_or(bad)?;
            let len = from.u32().ok_or(bad)? as usize;
            let payload = from.take(len).ok_or(bad)?;
            if messages.len() >= PEER_MESSAGES_MAX {
                return Err(BadPeer::TooLong);
            }
            messages.push(match kind {
                HEARTBEAT => {
                    // A newer release may say more.
                    let stuck_ms = Reader::new(payload).u32().ok_or(bad)?;
                    PeerMessage::Heartbeat { stuck_ms }
                }
                QUORUM | QUORUM_PART if payload.is_empty() => return Err(bad),
                QUORUM => PeerMessage::Quorum(payload),
                QUORUM_PART => PeerMessage::QuorumPart(payload),
                _ => return Err(BadPeer::UnknownKind(kind)),
            });
            if from.is_at_end() {
                return Ok(messages);
            }
        }
    }
}

fn put_payload(to: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    to.u8(kind);
    to.u32(payload.len() as u32);
    to.put(payload);
}

/// What shards of two nodes say to each other about replicas, as one request. `broker/replicas` knows what that is.
#[derive(Debug)]
pub struct ReplicaMessages;

impl ReplicaMessages {
    /// The API key; see [`Hello::KEY`].
    pub const KEY: i16 = 0x4d02;

    /// What stands before a body of so many bytes: a request's length and header.
    #[must_use]
    pub fn head(body: usize) -> Vec<u8> {
        let mut head = request(Self::KEY, 0);
        // It is bounded far below this.
        let len = u32::try_from(head.len() - 4 + body).unwrap_or(u32::MAX);
        head[..4].copy_from_slice(&len.to_be_bytes());
        head
    }
}

/// The head of a request of version 0, without a client id; its length is not known yet.
fn request(key: i16, correlation_id: i32) -> Vec<u8> {
    let mut to = vec![0; 4];
    to.put(&key.to_be_bytes());
    to.put(&[0, 0]);
    to.put(&correlation_id.to_be_bytes());
    // No client id.
    to.put(&[0xff, 0xff]);
    debug_assert_eq!(to.len(), HEAD);
    to
}

fn finish(mut frame: Vec<u8>) -> Bytes {
    // It is bounded far below this.
    let len = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame.into()
}

fn put_facts(to: &mut Vec<u8>, facts: &NodeFacts) {
    to.i32(facts.node.0);
    to.put(&facts.directory.0);
    to.u64(facts.incarnation.0);
    to.u64(facts.start);
    to.u16(facts.levels.0 as u16);
    to.u16(facts.levels.1 as u16);
    let id = facts.cluster_id.as_deref().unwrap_or_default();
    to.u8(id.len().min(CLUSTER_ID_BYTES_MAX) as u8);
    to.put(&id.as_bytes()[..id.len().min(CLUSTER_ID_BYTES_MAX)]);
}

fn facts(from: &mut Reader) -> Option<NodeFacts> {
    let node = NodeId(from.i32().filter(|node| *node >= 0)?);
    let directory = DirectoryId(from.id()?);
    let incarnation = Incarnation(from.u64()?);
    let start = from.u64()?;
    let levels = (from.u16()? as i16, from.u16()? as i16);
    let len = usize::from(from.u8()?);
    let id = from.take(len).filter(|_| len <= CLUSTER_ID_BYTES_MAX)?;
    let id = std::str::from_utf8(&id).ok()?;
    // It goes to logs.
    let sound = id.bytes().all(|byte| byte.is_ascii_graphic());
    (levels.0 <= levels.1 && sound).then(|| NodeFacts {
        node,
        directory,
        incarnation,
        start,
        levels,
        cluster_id: (!id.is_empty()).then(|| id.into()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::limits::LINK_FRAME_BYTES_MAX;
    use crate::wire::client::decode_own_response;
    use crate::wire::{Api, encode_own_response, parse_header};

    const fn own(key: i16) -> Api {
        Api {
            key,
            name: "Peer",
            min: 0,
            max: 0,
            flexible_from: i16::MAX,
        }
    }

    static OWN: [Api; 3] = [
        own(Hello::KEY),
        own(PeerMessages::KEY),
        own(ReplicaMessages::KEY),
    ];

    /// The body of a request, read as a broker does.
    fn body(frame: &Bytes, key: i16) -> Bytes {
        let len = frame.first_chunk().map(|len| u32::from_be_bytes(*len));
        assert_eq!(len, Some(frame.len() as u32 - 4));
        let known = |key| OWN.iter().find(|api| api.key == key);
        let (header, body) = parse_header(frame.slice(4..), known).unwrap();
        assert_eq!(
            (header.key, header.version, header.client_id),
            (key, 0, None)
        );
        body
    }

    fn any_facts() -> impl Strategy<Value = NodeFacts> {
        let id = prop::option::of("[A-Za-z0-9_-]{1,64}");
        (
            0..=i32::MAX,
            any::<[u8; 16]>(),
            any::<[u64; 2]>(),
            0i16..9,
            0i16..9,
            id,
        )
            .prop_map(
                |(node, directory, [incarnation, start], oldest, more, id)| NodeFacts {
                    node: NodeId(node),
                    directory: DirectoryId(directory),
                    incarnation: Incarnation(incarnation),
                    start,
                    levels: (oldest, oldest + more),
                    cluster_id: id.map(Into::into),
                },
            )
    }

    fn any_peer_message() -> impl Strategy<Value = PeerMessage> {
        prop_oneof![
            any::<u32>().prop_map(|stuck_ms| PeerMessage::Heartbeat { stuck_ms }),
            prop::collection::vec(any::<u8>(), 1..50).prop_map(|b| PeerMessage::Quorum(b.into())),
            prop::collection::vec(any::<u8>(), 1..5)
                .prop_map(|b| PeerMessage::QuorumPart(b.into())),
        ]
    }

    proptest! {
        #[test]
        fn hellos_are_read_as_written(
            from in any_facts(),
            shards in prop::option::of(any::<(u16, u16)>()),
            to: i32,
            id: i32,
        ) {
            let purpose = shards.map_or(Purpose::Metadata, |(from, to)| Purpose::Replicas {
                from: ShardId(from),
                to: ShardId(to),
            });
            let hello = Hello {
                versions: (PEER_VERSION, PEER_VERSION + 3),
                purpose,
                to: NodeId(to),
                number: 11,
                from: from.clone(),
                place: NodePlace::default(),
            };
            let mut bytes = body(&hello.encode(id), Hello::KEY).to_vec();
            prop_assert_eq!(Hello::decode(bytes.clone().into()), Ok(Ok(hello.clone())));
            bytes.extend([1, 2, 3]);
            prop_assert_eq!(Hello::decode(bytes.into()), Ok(Ok(hello)), "of a newer release");
            let answer = HelloAnswer::Welcome { version: PEER_VERSION, from };
            let frame = encode_own_response(id, &answer.encode());
            let (back, body) = decode_own_response(frame.slice(4..)).unwrap();
            prop_assert_eq!(back, id);
            prop_assert_eq!(HelloAnswer::decode(body), Ok(answer));
        }

        #[test]
        fn messages_are_read_as_written(messages in prop::collection::vec(any_peer_message(), 1..9)) {
            let bytes = body(&PeerMessages::encode(&messages), PeerMessages::KEY);
            prop_assert_eq!(PeerMessages::decode(bytes.clone()), Ok(messages.clone()));
            for cut in 0..bytes.len() {
                // Where it is cut between two messages it is a shorter list.
                if let Ok(fewer) = PeerMessages::decode(bytes.slice(..cut)) {
                    prop_assert!(fewer.len() < messages.len() && messages.starts_with(&fewer));
                }
            }
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let bytes = Bytes::from(bytes);
            let _ = Hello::decode(bytes.clone());
            let _ = HelloAnswer::decode(bytes.clone());
            if let Ok(messages) = PeerMessages::decode(bytes) {
                prop_assert!(!messages.is_empty());
            }
        }
    }

    #[test]
    fn refusals_are_told_and_those_of_newer_releases_too() {
        for (code, why) in PeerRefusal::ALL
            .into_iter()
            .chain([(99, PeerRefusal::Unknown(99))])
        {
            let text = "two nodes have node.id 1".to_owned();
            let answer = HelloAnswer::Refused { why, text };
            let bytes = answer.encode();
            assert_eq!(bytes[..2], code.to_le_bytes());
            assert_eq!(HelloAnswer::decode(bytes.into()), Ok(answer));
        }
        let long = HelloAnswer::Refused {
            why: PeerRefusal::Version,
            text: "ä".repeat(PEER_REFUSAL_BYTES_MAX),
        };
        let Ok(HelloAnswer::Refused { text, .. }) = HelloAnswer::decode(long.encode().into())
        else {
            panic!("no refusal");
        };
        assert_eq!(text, "ä".repeat(PEER_REFUSAL_BYTES_MAX / 2));
        // The side that dials takes no larger frame.
        assert!(long.encode().len() + 64 <= LINK_FRAME_BYTES_MAX);
    }

    fn hello(cluster_id: Option<&str>) -> Hello {
        Hello {
            versions: (PEER_VERSION, PEER_VERSION),
            purpose: Purpose::Metadata,
            to: NodeId(2),
            number: 4,
            from: NodeFacts {
                node: NodeId(1),
                directory: DirectoryId([7; 16]),
                incarnation: Incarnation(3),
                start: 9,
                levels: (1, 2),
                cluster_id: cluster_id.map(Into::into),
            },
            place: NodePlace {
                voters: vec![NodeId(1)],
                reached: Some(("a".to_owned(), 258)),
            },
        }
    }

    #[test]
    fn what_other_releases_say_is_refused_for_what_it_is() {
        // Other versions, and behind them what nobody here can read.
        let newer = [3, 0, 5, 0, 0xff];
        assert_eq!(
            Hello::decode(Bytes::copy_from_slice(&newer)),
            Ok(Err(PeerRefusal::Version))
        );
        let backwards = [5, 0, 2, 0, 1];
        assert!(Hello::decode(Bytes::copy_from_slice(&backwards)).is_err());
        let hello = hello(None);
        let mut bytes = body(&hello.encode(1), Hello::KEY).to_vec();
        bytes[4] = 200;
        assert_eq!(Hello::decode(bytes.into()), Ok(Err(PeerRefusal::Purpose)));
        let unknown = Bytes::from_static(&[9, 1, 0, 0, 0, 0]);
        assert_eq!(PeerMessages::decode(unknown), Err(BadPeer::UnknownKind(9)));
        assert_eq!(
            PeerMessages::decode(Bytes::new()),
            Err(BadPeer::Malformed("message")),
            "no message at all"
        );
        for kind in [QUORUM, QUORUM_PART] {
            // Each costs more than it is charged for.
            let empty = Bytes::copy_from_slice(&[kind, 0, 0, 0, 0]);
            assert_eq!(
                PeerMessages::decode(empty),
                Err(BadPeer::Malformed("message"))
            );
        }
        let many = PeerMessages::encode(&vec![
            PeerMessage::Heartbeat { stuck_ms: 0 };
            PEER_MESSAGES_MAX + 1
        ]);
        assert_eq!(
            PeerMessages::decode(many.slice(HEAD..)),
            Err(BadPeer::TooLong)
        );
        let large = Bytes::from(vec![0; PEER_FRAME_BYTES_MAX + 1]);
        assert_eq!(PeerMessages::decode(large), Err(BadPeer::TooLong));
    }

    #[test]
    fn a_long_message_goes_in_parts_that_may_be_sent() {
        for len in [
            1,
            PEER_PART_BYTES_MAX,
            PEER_PART_BYTES_MAX + 1,
            3 * PEER_PART_BYTES_MAX,
        ] {
            let whole: Bytes = (0..len).map(|n| (n / 7) as u8).collect();
            let frames = PeerMessages::in_parts(PeerMessage::Quorum(whole.clone()));
            let (mut joined, mut is_whole) = (Vec::new(), false);
            for frame in frames {
                assert!(!is_whole, "more behind the last part");
                match &PeerMessages::decode(frame.slice(HEAD..)).unwrap()[..] {
                    [PeerMessage::QuorumPart(part)] => joined.extend_from_slice(part),
                    [PeerMessage::Quorum(last)] => {
                        joined.extend_from_slice(last);
                        is_whole = true;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert!(is_whole && whole == joined, "{len}");
        }
    }

    #[test]
    fn the_format_stays_what_it_is() {
        let hello = hello(Some("ab"));
        let body = [
            &[
                2, 0, 2, 0, 1, 2, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
            ][..],
            &[7; 16],
            &[3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 2, 0, 2, b'a', b'b'],
            &[1, 1, 0, 0, 0, 2, 1, 1, b'a'],
        ]
        .concat();
        let head = [0, 0, 0, 79, 0x4d, 0, 0, 0, 0, 0, 0, 5, 0xff, 0xff];
        assert_eq!(hello.encode(5), [&head[..], &body].concat());
        let beat = PeerMessages::encode(&[PeerMessage::Heartbeat { stuck_ms: 258 }]);
        assert_eq!(beat[HEAD..], [1, 4, 0, 0, 0, 2, 1, 0, 0]);
        let hello = Hello {
            purpose: Purpose::Replicas {
                from: ShardId(3),
                to: ShardId(258),
            },
            ..hello
        };
        let encoded = hello.encode(5);
        assert_eq!(encoded[HEAD + 4], 2);
        assert_eq!(encoded[encoded.len() - 13..][..4], [3, 0, 2, 1]);
        assert_eq!(
            ReplicaMessages::head(2),
            [0, 0, 0, 12, 0x4d, 2, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
        );
    }
}
