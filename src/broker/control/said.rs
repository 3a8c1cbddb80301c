//! What the control shards of two nodes say to each other, as bytes. What a peer sends is not trusted: it is read
//! within bounds, and takes no more memory than a small multiple of its bytes.
//!
//! ```text
//! kind u8 | crc32c of what follows u32 | ...    little-endian
//! ```

use bytes::Bytes;

use super::members::MemberAsk;
use crate::base::codec::{Put, Reader};
use crate::base::crc::crc32c;
use crate::base::limits::{HOST_BYTES_MAX, QUORUM_VOTERS_MAX};
use crate::base::{Incarnation, LeaderEpoch, NodeId, NodeProcess};
use crate::broker::msg::Called;
use crate::broker::peers::PeerAddress;
use crate::controller::{FEATURE_LEVEL, Joining, MetadataRecord, Registration};
use crate::quorum::{EntryId, EntryIndex, QuorumMessage, Sitting};

const QUORUM: u8 = 1;
const SITS: u8 = 2;
const ASK_PART: u8 = 3;
const PART: u8 = 4;
const NO_PART: u8 = 5;
const REGISTER: u8 = 6;
const UNFENCE: u8 = 7;
const CALL: u8 = 8;
const CALLED: u8 = 9;
const LEAVE: u8 = 10;
const NODES: u8 = 11;

const FRAME: u8 = 0;
const CREATED: u8 = 1;
const CLOSED: u8 = 2;
const AGAIN: u8 = 3;

/// What the answer to a request is, or why its connection is to be closed.
pub type CallAnswer = Result<Called, String>;

/// A request of a client of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSaid {
    /// Its number there.
    pub number: u64,
    /// API key.
    pub key: i16,
    /// Version of the API.
    pub version: i16,
    /// The client's, which the answer has too.
    pub correlation_id: i32,
    /// Name of the listener by which the client came.
    pub listener: String,
    /// The request's body.
    pub body: Bytes,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeSaid {
    /// Something between replicas of the metadata log.
    Quorum(QuorumMessage),
    /// What the sender knows of a quorum, while one of the two knows of none.
    Sits(Sitting),
    /// Where the voters are, as the configuration of the sender says, which is one of them.
    Nodes(Vec<PeerAddress>),
    /// A part of the snapshot up to an entry is wanted: the first one, or the one behind that which was sent last.
    AskPart(EntryId, u32),
    /// That part.
    Part {
        /// Up to which entry the snapshot is.
        id: EntryId,
        /// Which part.
        number: u32,
        /// Whether it is the last one.
        is_last: bool,
        /// Records of it (`RecordList`).
        records: Bytes,
    },
    /// There is no such snapshot, or the parts are not asked for in their order.
    NoPart(EntryId),
    /// The sender wants to be a broker, or to lead as one.
    Ask(MemberAsk),
    /// A request that the receiver is to decide on, for it leads.
    Call(CallSaid),
    /// What has come of one.
    Called {
        /// Its number.
        number: u64,
        /// Of the metadata by which the answer is true.
        metadata: u64,
        /// The answer, or why the connection is to be closed.
        answer: CallAnswer,
    },
}

impl NodeSaid {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut to = vec![0; 5];
        let kind = match self {
            Self::Quorum(message) => {
                to.put(&message.encode());
                QUORUM
            }
            Self::Sits(sitting) => {
                to.put(&sitting.encode());
                SITS
            }
            Self::Nodes(addresses) => {
                put_nodes(&mut to, addresses);
                NODES
            }
            Self::AskPart(id, number) => {
                put_id(&mut to, *id);
                to.u32(*number);
                ASK_PART
            }
            Self::Part {
                id,
                number,
                is_last,
                records,
            } => {
                put_id(&mut to, *id);
                to.u32(*number);
                to.u8((*is_last).into());
                to.put(records);
                PART
            }
            Self::NoPart(id) => {
                put_id(&mut to, *id);
                NO_PART
            }
            Self::Ask(MemberAsk::Register(joining)) => {
                put_text(&mut to, &joining.cluster_id);
                to.put(&registration(joining).encode(FEATURE_LEVEL));
                REGISTER
            }
            Self::Ask(MemberAsk::Unfence(member)) => {
                put_member(&mut to, *member);
                UNFENCE
            }
            Self::Ask(MemberAsk::Leave(member)) => {
                put_member(&mut to, *member);
                LEAVE
            }
            Self::Call(call) => {
                to.u64(call.number);
                to.u16(call.key as u16);
                to.u16(call.version as u16);
                to.i32(call.correlation_id);
                put_text(&mut to, &call.listener);
                to.put(&call.body);
                CALL
            }
            Self::Called {
                number,
                metadata,
                answer,
            } => {
                to.u64(*number);
                to.u64(*metadata);
                match answer {
                    Ok(Called::Frame(pieces)) => {
                        to.u8(FRAME);
                        pieces.iter().for_each(|piece| to.put(piece));
                    }
                    Ok(Called::Created) => to.u8(CREATED),
                    Ok(Called::Again) => to.u8(AGAIN),
                    // What is decided about members is no answer to anybody else.
                    Ok(Called::Member(_)) => to.u8(CLOSED),
                    Err(why) => {
                        to.u8(CLOSED);
                        to.put(why.as_bytes());
                    }
                }
                CALLED
            }
        };
        let crc = crc32c(&to[5..]);
        to[0] = kind;
        to[1..5].copy_from_slice(&crc.to_le_bytes());
        to.into()
    }

    /// Whether nobody says it again that is lost: requests that are forwarded, and the answers to them.
    #[must_use]
    pub fn is_said_once(bytes: &[u8]) -> bool {
        matches!(bytes.first(), Some(&(CALL | CALLED)))
    }

    /// What these bytes say; `None` if they are nothing that this release says.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let mut from = Reader::new(bytes.clone());
        let (kind, crc) = (from.u8()?, from.u32()?);
        let rest = bytes.slice(5..);
        if crc32c(&rest) != crc {
            return None;
        }
        match kind {
            QUORUM => return QuorumMessage::decode(&rest).ok().map(Self::Quorum),
            SITS => return Sitting::decode(&rest).map(Self::Sits),
            NODES => return nodes(rest).map(Self::Nodes),
            REGISTER | UNFENCE | LEAVE => return ask(kind, rest).map(Self::Ask),
            CALL => return call(rest).map(Self::Call),
            CALLED => return called(rest),
            _ => {}
        }
        let id = id(&mut from)?;
        let said = match kind {
            ASK_PART => Self::AskPart(id, from.u32()?),
            PART => Self::Part {
                id,
                number: from.u32()?,
                is_last: match from.u8()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                },
                records: from.take(rest.len().checked_sub(ID + 5)?)?,
            },
            NO_PART => Self::NoPart(id),
            _ => return None,
        };
        from.is_at_end().then_some(said)
    }
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    to.u16(text.len().min(usize::from(u16::MAX)) as u16);
    to.put(&text.as_bytes()[..text.len().min(usize::from(u16::MAX))]);
}

fn text(from: &mut Reader) -> Option<String> {
    let len = from.u16()?;
    let bytes = from.take(len.into())?;
    std::str::from_utf8(&bytes).ok().map(str::to_owned)
}

fn put_member(to: &mut Vec<u8>, member: NodeProcess) {
    to.i32(member.node.0);
    to.u64(member.incarnation.0);
}

/// What is recorded of a node that joins, but for what is decided about it.
fn registration(joining: &Joining) -> MetadataRecord {
    MetadataRecord::Broker(Registration {
        member: NodeProcess {
            node: joining.node,
            incarnation: Incarnation(0),
        },
        start: joining.start,
        fenced: true,
        level: joining.level,
        rack: joining.rack.clone(),
        addresses: joining.addresses.clone(),
        directories: joining.directories.clone(),
    })
}

fn ask(kind: u8, bytes: Bytes) -> Option<MemberAsk> {
    let len = bytes.len();
    let mut from = Reader::new(bytes);
    if kind != REGISTER {
        let node = NodeId(from.i32()?);
        let incarnation = Incarnation(from.u64()?);
        let member = NodeProcess { node, incarnation };
        let asked = match kind {
            LEAVE => MemberAsk::Leave(member),
            _ => MemberAsk::Unfence(member),
        };
        return from.is_at_end().then_some(asked);
    }
    let cluster_id = text(&mut from)?;
    let rest = from.take(len.checked_sub(2 + cluster_id.len())?)?;
    let MetadataRecord::Broker(known) = MetadataRecord::decode(&rest).ok()? else {
        return None;
    };
    Some(MemberAsk::Register(Box::new(Joining {
        node: known.member.node,
        start: known.start,
        cluster_id,
        level: known.level,
        rack: known.rack,
        addresses: known.addresses,
        directories: known.directories,
    })))
}

fn put_nodes(to: &mut Vec<u8>, addresses: &[PeerAddress]) {
    let addresses = &addresses[..addresses.len().min(QUORUM_VOTERS_MAX)];
    to.u8(addresses.len() as u8);
    for address in addresses {
        to.i32(address.node.0);
        to.u16(address.port);
        put_text(to, &address.host);
    }
}

fn nodes(bytes: Bytes) -> Option<Vec<PeerAddress>> {
    let mut from = Reader::new(bytes);
    let count = usize::from(from.u8()?);
    let mut addresses = Vec::new();
    for _ in 0..count {
        let node = NodeId(from.i32().filter(|node| *node >= 0)?);
        let port = from.u16()?;
        let host = text(&mut from).filter(|host| host.len() <= HOST_BYTES_MAX)?;
        let is_sound = host.bytes().all(|byte| byte.is_ascii_graphic());
        addresses.push(is_sound.then_some(PeerAddress { node, host, port })?);
    }
    (from.is_at_end() && count <= QUORUM_VOTERS_MAX).then_some(addresses)
}

fn call(bytes: Bytes) -> Option<CallSaid> {
    let len = bytes.len();
    let mut from = Reader::new(bytes);
    let number = from.u64()?;
    let (key, version) = (from.u16()? as i16, from.u16()? as i16);
    let correlation_id = from.i32()?;
    let listener = text(&mut from)?;
    let body = from.take(len.checked_sub(8 + 2 + 2 + 4 + 2 + listener.len())?)?;
    Some(CallSaid {
        number,
        key,
        version,
        correlation_id,
        listener,
        body,
    })
}

fn called(bytes: Bytes) -> Option<NodeSaid> {
    let len = bytes.len();
    let mut from = Reader::new(bytes);
    let (number, metadata) = (from.u64()?, from.u64()?);
    let kind = from.u8()?;
    let rest = from.take(len.checked_sub(8 + 8 + 1)?)?;
    let answer = match kind {
        FRAME => Ok(Called::Frame(vec![rest])),
        CREATED if rest.is_empty() => Ok(Called::Created),
        AGAIN if rest.is_empty() => Ok(Called::Again),
        // It goes to a log.
        CLOSED => Err(String::from_utf8_lossy(&rest).into_owned()),
        _ => return None,
    };
    Some(NodeSaid::Called {
        number,
        metadata,
        answer,
    })
}

/// Bytes of the id of an entry.
const ID: usize = 12;

fn put_id(to: &mut Vec<u8>, id: EntryId) {
    to.i32(id.term.0);
    to.u64(id.index.0);
}

fn id(from: &mut Reader) -> Option<EntryId> {
    let term = LeaderEpoch(from.i32().filter(|term| *term >= 0)?);
    let index = EntryIndex(from.size()?);
    Some(EntryId { term, index })
}

#[cfg(test)]
mod tests {
    use super::super::machine::address;
    use super::*;
    use crate::base::{DirectoryId, NodeId};
    use crate::quorum::{Knows, ReplicaKey, Says};

    #[test]
    fn what_is_said_is_what_is_heard_and_nothing_damaged_is() {
        let key = |node| ReplicaKey {
            node: NodeId(node),
            directory: DirectoryId([7; 16]),
        };
        let id = EntryId {
            term: LeaderEpoch(3),
            index: EntryIndex(9),
        };
        let message = QuorumMessage {
            from: key(1),
            to: key(2),
            term: LeaderEpoch(3),
            says: Says::Elect,
        };
        let member = NodeProcess {
            node: NodeId(4),
            incarnation: Incarnation(9),
        };
        let sitting = Sitting {
            replica: key(1),
            knows: Knows::Blank(None),
        };
        for said in [
            NodeSaid::Quorum(message),
            NodeSaid::Sits(sitting),
            NodeSaid::Nodes(vec![address(NodeId(3)), address(NodeId(1))]),
            NodeSaid::AskPart(id, 5),
            NodeSaid::Part {
                id,
                number: 5,
                is_last: true,
                records: Bytes::from_static(b"records"),
            },
            NodeSaid::Part {
                id,
                number: 0,
                is_last: false,
                records: Bytes::new(),
            },
            NodeSaid::NoPart(id),
            NodeSaid::Ask(MemberAsk::Unfence(member)),
            NodeSaid::Ask(MemberAsk::Leave(member)),
        ] {
            let bytes = said.encode();
            assert_eq!(NodeSaid::decode(&bytes), Some(said));
            for len in 0..bytes.len() {
                assert_eq!(NodeSaid::decode(&bytes.slice(..len)), None, "{len}");
            }
            for (at, bit) in (1..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut other = bytes.to_vec();
                other[at] ^= 1 << bit;
                assert_eq!(NodeSaid::decode(&other.into()), None, "{at}");
            }
        }
    }
}
