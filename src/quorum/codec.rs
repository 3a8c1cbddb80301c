//! Messages as bytes: a checksum, a version, who to whom, and what is said. What a peer sends is not trusted: it is
//! read within bounds, it never panics, and takes no more memory than a small multiple of its bytes.
//!
//! ```text
//! crc32c u32 | version u8 | kind u8 | from | to | term i32 | ...      little-endian
//! replica:   node i32 | directory 16 bytes
//! entry id:  term i32 | index u64
//! entries:   count u32, then of each: term i32 | kind u8 | its payload; places follow those of the entry before
//! ```

use std::fmt;

use bytes::Bytes;

use super::entry::{EntryId, EntryIndex, Payload, QuorumEntry, SnapshotMark};
use super::message::{QuorumMessage, Says, Vote};
use super::voters::{ReplicaKey, Voters};
use crate::base::codec::{Put, Reader};
use crate::base::crc::crc32c;
use crate::base::limits::{QUORUM_ENTRY_BYTES_MAX, QUORUM_MESSAGE_BYTES_MAX, QUORUM_VOTERS_MAX};
use crate::base::{DirectoryId, LeaderEpoch, NodeId};

/// The version that is written, and the only one that is read.
const VERSION: u8 = 1;
/// Bytes of the checksum, which covers what is behind it.
const CRC: usize = 4;
/// The least that an entry takes.
const ENTRY_BYTES_MIN: usize = 5;

const PRE_VOTE: u8 = 1;
const VOTE: u8 = 2;
const PRE_VOTED: u8 = 3;
const VOTED: u8 = 4;
const APPEND: u8 = 5;
const APPENDED: u8 = 6;
const REJECTED: u8 = 7;
const OFFER: u8 = 8;
const ELECT: u8 = 9;
// 10 to 12 were of releases in which observers asked for entries.

pub(super) const LEADER_CHANGE: u8 = 1;
pub(super) const RECORDS: u8 = 2;
pub(super) const VOTERS: u8 = 3;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadQuorumMessage {
    /// They are more than a message may have.
    TooLong,
    /// The checksum is wrong, or there is none.
    Checksum,
    /// A version of another release.
    Version(u8),
    /// They end too early, go on behind the end, or say what no replica says.
    Malformed,
}

impl fmt::Display for BadQuorumMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("longer than any message between voters"),
            Self::Checksum => f.write_str("the checksum is wrong"),
            Self::Version(version) => write!(f, "version {version} is not known"),
            Self::Malformed => f.write_str("no message between voters"),
        }
    }
}

impl QuorumMessage {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = vec![0; CRC];
        to.u8(VERSION);
        to.u8(kind(&self.says));
        put_replica(&mut to, self.from);
        put_replica(&mut to, self.to);
        to.i32(self.term.0);
        match &self.says {
            Says::Vote(vote) => {
                to.u8(vote.by_leader.into());
                put_id(&mut to, vote.last);
            }
            Says::Voted { granted, .. } => to.u8((*granted).into()),
            Says::Append {
                prev,
                entries,
                commit,
            } => {
                to.u64(commit.0);
                put_entries(&mut to, *prev, entries);
            }
            Says::Appended { matched } => to.u64(matched.0),
            Says::Rejected { prev, hint } => {
                put_id(&mut to, *prev);
                put_id(&mut to, *hint);
            }
            Says::Offer(mark) => {
                put_id(&mut to, mark.id);
                put_voters(&mut to, &mark.voters);
            }
            Says::Elect => {}
        }
        let crc = crc32c(&to[CRC..]);
        to[..CRC].copy_from_slice(&crc.to_le_bytes());
        to
    }

    /// The message that these bytes are.
    ///
    /// # Errors
    /// They are none that a replica of this version sends.
    pub fn decode(bytes: &Bytes) -> Result<Self, BadQuorumMessage> {
        if bytes.len() > QUORUM_MESSAGE_BYTES_MAX {
            return Err(BadQuorumMessage::TooLong);
        }
        let mut from = Reader::new(bytes.clone());
        let crc = from.u32().ok_or(BadQuorumMessage::Checksum)?;
        if crc != crc32c(&bytes[CRC..]) {
            return Err(BadQuorumMessage::Checksum);
        }
        match from.u8() {
            Some(VERSION) => {}
            Some(other) => return Err(BadQuorumMessage::Version(other)),
            None => return Err(BadQuorumMessage::Malformed),
        }
        message(&mut from, bytes.len())
            .filter(|message| from.is_at_end() && message.is_sound())
            .ok_or(BadQuorumMessage::Malformed)
    }
}

const fn kind(says: &Says) -> u8 {
    match says {
        Says::Vote(vote) if vote.pre => PRE_VOTE,
        Says::Vote(_) => VOTE,
        Says::Voted { pre: true, .. } => PRE_VOTED,
        Says::Voted { .. } => VOTED,
        Says::Append { .. } => APPEND,
        Says::Appended { .. } => APPENDED,
        Says::Rejected { .. } => REJECTED,
        Says::Offer(_) => OFFER,
        Says::Elect => ELECT,
    }
}

pub(super) fn put_replica(to: &mut Vec<u8>, replica: ReplicaKey) {
    to.i32(replica.node.0);
    to.put(&replica.directory.0);
}

pub(super) fn put_id(to: &mut Vec<u8>, id: EntryId) {
    to.i32(id.term.0);
    to.u64(id.index.0);
}

pub(super) fn put_voters(to: &mut Vec<u8>, voters: &Voters) {
    to.u8(voters.len() as u8);
    voters.iter().for_each(|voter| put_replica(to, voter));
}

fn put_entries(to: &mut Vec<u8>, prev: EntryId, entries: &[QuorumEntry]) {
    put_id(to, prev);
    to.u32(entries.len() as u32);
    for entry in entries {
        to.i32(entry.id.term.0);
        match &entry.payload {
            Payload::LeaderChange => to.u8(LEADER_CHANGE),
            Payload::Records(records) => {
                to.u8(RECORDS);
                to.u32(records.len() as u32);
                to.put(records);
            }
            Payload::Voters(voters) => {
                to.u8(VOTERS);
                put_voters(to, voters);
            }
        }
    }
}

fn message(from: &mut Reader, len: usize) -> Option<QuorumMessage> {
    let kind = from.u8()?;
    let (sender, to) = (replica(from)?, replica(from)?);
    let term = LeaderEpoch(from.i32()?);
    let pre = matches!(kind, PRE_VOTE | PRE_VOTED);
    let says = match kind {
        PRE_VOTE | VOTE => Says::Vote(Vote {
            pre,
            by_leader: flag(from)?,
            last: id(from)?,
        }),
        PRE_VOTED | VOTED => {
            let granted = flag(from)?;
            Says::Voted { pre, granted }
        }
        APPEND => {
            let commit = EntryIndex(from.size()?);
            let (prev, entries) = entries(from, len)?;
            Says::Append {
                prev,
                entries,
                commit,
            }
        }
        APPENDED => Says::Appended {
            matched: EntryIndex(from.size()?),
        },
        REJECTED => {
            let (prev, hint) = (id(from)?, id(from)?);
            Says::Rejected { prev, hint }
        }
        OFFER => Says::Offer(mark(from)?),
        ELECT => Says::Elect,
        _ => return None,
    };
    Some(QuorumMessage {
        from: sender,
        to,
        term,
        says,
    })
}

pub(super) fn flag(from: &mut Reader) -> Option<bool> {
    match from.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

pub(super) fn replica(from: &mut Reader) -> Option<ReplicaKey> {
    Some(ReplicaKey {
        node: NodeId(from.i32()?),
        directory: DirectoryId(from.id()?),
    })
}

fn id(from: &mut Reader) -> Option<EntryId> {
    Some(EntryId {
        term: LeaderEpoch(from.i32()?),
        index: EntryIndex(from.size()?),
    })
}

pub(super) fn voters(from: &mut Reader) -> Option<Voters> {
    let count = usize::from(from.u8()?);
    if count > QUORUM_VOTERS_MAX {
        return None;
    }
    let voters: Option<Vec<ReplicaKey>> = (0..count).map(|_| replica(from)).collect();
    // In the order in which they are written, so that a message has one form.
    let voters = voters?;
    Voters::new(voters.iter().copied()).filter(|sorted| sorted.iter().eq(voters))
}

pub(super) fn mark(from: &mut Reader) -> Option<SnapshotMark> {
    Some(SnapshotMark {
        id: id(from)?,
        voters: voters(from)?,
    })
}

/// Entries of a message of `len` bytes, and the one before them.
fn entries(from: &mut Reader, len: usize) -> Option<(EntryId, Vec<QuorumEntry>)> {
    let prev = id(from)?;
    let count = from.u32()? as usize;
    if count > len / ENTRY_BYTES_MIN {
        return None;
    }
    let mut entries = Vec::with_capacity(count);
    let mut index = prev.index;
    for _ in 0..count {
        index = index.next();
        let term = LeaderEpoch(from.i32()?);
        let payload = match from.u8()? {
            LEADER_CHANGE => Payload::LeaderChange,
            RECORDS => {
                let len = from.u32()? as usize;
                let records = from.take(len).filter(|_| len <= QUORUM_ENTRY_BYTES_MAX)?;
                // Memory of its own: entries live longer than the message.
                Payload::Records(Bytes::copy_from_slice(&records))
            }
            VOTERS => Payload::Voters(voters(from)?),
            _ => return None,
        };
        let id = EntryId { term, index };
        entries.push(QuorumEntry { id, payload });
    }
    Some((prev, entries))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::any_message;
    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(message in any_message()) {
            let bytes = Bytes::from(message.encode());
            let read = QuorumMessage::decode(&bytes);
            // Where entries do not follow each other, the places that they would have are read.
            prop_assert_eq!(read == Ok(message.clone()), message.is_sound(), "{:?}", read);
        }

        /// Damage that the checksum does not show, because it is that of the damaged bytes.
        #[test]
        fn damaged_bytes_are_no_message_or_another(
            message in any_message(),
            at in any::<prop::sample::Index>(),
            to in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = message.encode();
            let len = bytes.len();
            bytes[CRC + at.index(len - CRC)] = to;
            bytes.truncate(CRC + cut.index(len - CRC + 1));
            let crc = crc32c(&bytes[CRC..]);
            bytes[..CRC].copy_from_slice(&crc.to_le_bytes());
            let bytes = Bytes::from(bytes);
            if let Ok(read) = QuorumMessage::decode(&bytes) {
                prop_assert!(read.is_sound());
                prop_assert_eq!(Bytes::from(read.encode()), bytes);
            }
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let read = QuorumMessage::decode(&bytes.into());
            prop_assert!(read.is_err());
        }
    }

    #[test]
    fn the_format_stays_what_it_is() {
        let replica = |node| ReplicaKey {
            node: NodeId(node),
            directory: DirectoryId([node as u8; 16]),
        };
        let message = QuorumMessage {
            from: replica(1),
            to: replica(2),
            term: LeaderEpoch(7),
            says: Says::Appended {
                matched: EntryIndex(9),
            },
        };
        let mut bytes = message.encode();
        let expected = [
            &[1, 6, 1, 0, 0, 0][..],
            &[1; 16],
            &[2, 0, 0, 0],
            &[2; 16],
            &[7, 0, 0, 0],
            &[9, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(bytes[CRC..], expected.concat());
        bytes[CRC] = 2;
        let crc = crc32c(&bytes[CRC..]);
        bytes[..CRC].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(
            QuorumMessage::decode(&bytes.into()),
            Err(BadQuorumMessage::Version(2))
        );
    }
}
