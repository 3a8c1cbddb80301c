//! What shards of two nodes say to each other about a partition that both have, as bytes. What a peer sends is not
//! trusted: it is read within bounds, and takes no more memory than a small multiple of its bytes. Whether its numbers
//! make sense is checked by whoever takes them.
//!
//! ```text
//! body of a request:  one or more of: kind u8 | length of what follows u32 | crc32c u32 | head | batches
//! head:               log u64 | epoch i32 | leader | follower | what the kind has         little-endian
//! leader, follower:   node i32 | incarnation u64
//! ```
//!
//! The checksum is of all of a message but itself and the batches, which have their own. Only a push has batches: they
//! are a part of the request when it is read, and are sent as they are, without a copy of them.

use bytes::Bytes;

use crate::base::codec::{Put, Reader};
use crate::base::crc::crc32c_parts;
use crate::base::limits::REPLICA_MESSAGES_MAX;
use crate::base::{Incarnation, LeaderEpoch, LogId, NodeId, NodeProcess, Offset};
use crate::replica::{EpochEnd, LeaderLog, OnDisk, Push, Term};
use crate::wire::peer::BadPeer;

const ASKS: u8 = 1;
const ANSWERS: u8 = 2;
const PUSHES: u8 = 3;
const TELLS: u8 = 4;
const LOST: u8 = 5;

/// Bytes of a message before its head.
const BEFORE: usize = 9;

/// Something that is said about one partition, between its leader and one of its followers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSaid {
    /// Of which log.
    pub log: LogId,
    /// Between whom.
    pub term: Term,
    /// What it is.
    pub what: ReplicaWhat,
}

/// See [`ReplicaSaid`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaWhat {
    /// The follower asks where the latest epoch of its log ends in the leader's.
    Asks(EpochEnd),
    /// The leader answers.
    Answers {
        /// What was asked.
        asked: EpochEnd,
        /// Its log.
        log: LeaderLog,
    },
    /// The leader pushes what the follower does not have.
    Pushes(Push),
    /// The follower tells what is on its disk.
    Tells(OnDisk),
    /// The follower has lost something that may count, and must leave the ISR.
    Lost,
}

impl ReplicaSaid {
    /// Puts its beginning behind what is in `to`: all of it but the batches of a push, of which so many bytes follow.
    pub fn put(&self, batches: usize, to: &mut Vec<u8>) {
        let start = to.len();
        to.put(&[0; BEFORE]);
        to.u64(self.log.0);
        to.i32(self.term.epoch.0);
        put_process(to, self.term.leader);
        put_process(to, self.term.follower);
        let kind = match &self.what {
            ReplicaWhat::Asks(asked) => {
                put_end(to, *asked);
                ASKS
            }
            ReplicaWhat::Answers { asked, log } => {
                put_end(to, *asked);
                put_end(to, log.ends);
                put_offsets(to, [log.start, log.end, log.committed, log.tombstones]);
                ANSWERS
            }
            ReplicaWhat::Pushes(push) => {
                put_offsets(to, [push.from, push.to, push.committed, push.start]);
                PUSHES
            }
            ReplicaWhat::Tells(on_disk) => {
                put_offsets(to, [on_disk.end, on_disk.start]);
                TELLS
            }
            ReplicaWhat::Lost => LOST,
        };
        // Batches are bounded far below this.
        let len = u32::try_from(to.len() - start - 5 + batches).unwrap_or(u32::MAX);
        to[start] = kind;
        to[start + 1..start + 5].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c_parts([&to[start..start + 5], &to[start + BEFORE..]]);
        to[start + 5..start + BEFORE].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a request's body: at least one message, and nothing but messages. Batches are slices of it.
    ///
    /// # Errors
    /// What is wrong with it. No message of it counts then.
    pub fn decode_all(body: Bytes) -> Result<Vec<Self>, BadPeer> {
        let bad = BadPeer::Malformed("message about a replica");
        let mut from = Reader::new(body);
        let mut messages = Vec::new();
        loop {
            if messages.len() >= REPLICA_MESSAGES_MAX {
                return Err(BadPeer::TooLong);
            }
            let kind = from.u8().ok_or(bad)?;
            let len = from.u32().ok_or(bad)?;
            let payload = from.take(len as usize).ok_or(bad)?;
            let what = size_of_what(kind).ok_or(BadPeer::UnknownKind(kind))?;
            messages.push(message(kind, what, payload).ok_or(bad)?);
            if from.is_at_end() {
                return Ok(messages);
            }
        }
    }
}

/// Bytes of the checksum and the part of the head that all kinds have.
const COMMON: usize = 4 + 8 + 4 + 2 * 12;

/// Bytes of the part of the head that a kind alone has.
const fn size_of_what(kind: u8) -> Option<usize> {
    Some(match kind {
        ASKS => 12,
        ANSWERS => 12 + 12 + 4 * 8,
        PUSHES => 4 * 8,
        TELLS => 2 * 8,
        LOST => 0,
        _ => return None,
    })
}

fn message(kind: u8, what: usize, payload: Bytes) -> Option<ReplicaSaid> {
    let head = payload.get(..COMMON + what)?;
    let len = u32::try_from(payload.len()).ok()?.to_le_bytes();
    let crc = crc32c_parts([&[kind][..], &len, &head[4..]]);
    let batches = payload.slice(head.len()..);
    let mut from = Reader::new(payload);
    if from.u32()? != crc || (kind != PUSHES && !batches.is_empty()) {
        return None;
    }
    Some(ReplicaSaid {
        log: LogId(from.u64()?),
        term: Term {
            epoch: LeaderEpoch(from.i32().filter(|epoch| *epoch >= 0)?),
            leader: process(&mut from)?,
            follower: process(&mut from)?,
        },
        what: match kind {
            ASKS => ReplicaWhat::Asks(end(&mut from)?),
            ANSWERS => ReplicaWhat::Answers {
                asked: end(&mut from)?,
                log: LeaderLog {
                    ends: end(&mut from)?,
                    start: Offset(from.i64()?),
                    end: Offset(from.i64()?),
                    committed: Offset(from.i64()?),
                    tombstones: Offset(from.i64()?),
                },
            },
            PUSHES => ReplicaWhat::Pushes(Push {
                from: Offset(from.i64()?),
                to: Offset(from.i64()?),
                committed: Offset(from.i64()?),
                start: Offset(from.i64()?),
                batches,
            }),
            TELLS => ReplicaWhat::Tells(OnDisk {
                end: Offset(from.i64()?),
                start: Offset(from.i64()?),
            }),
            _ => ReplicaWhat::Lost,
        },
    })
}

fn put_process(to: &mut Vec<u8>, process: NodeProcess) {
    to.i32(process.node.0);
    to.u64(process.incarnation.0);
}

fn process(from: &mut Reader) -> Option<NodeProcess> {
    let node = NodeId(from.i32().filter(|node| *node >= 0)?);
    let incarnation = Incarnation(from.u64()?);
    Some(NodeProcess { node, incarnation })
}

fn put_end(to: &mut Vec<u8>, at: EpochEnd) {
    to.i32(at.epoch.0);
    to.i64(at.end.0);
}

fn end(from: &mut Reader) -> Option<EpochEnd> {
    let epoch = LeaderEpoch(from.i32()?);
    let end = Offset(from.i64()?);
    Some(EpochEnd { epoch, end })
}

fn put_offsets<const N: usize>(to: &mut Vec<u8>, offsets: [Offset; N]) {
    offsets.iter().for_each(|offset| to.i64(offset.0));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_offset() -> impl Strategy<Value = Offset> {
        any::<i64>().prop_map(Offset)
    }

    fn any_end() -> impl Strategy<Value = EpochEnd> {
        (any::<i32>(), any_offset()).prop_map(|(epoch, end)| EpochEnd {
            epoch: LeaderEpoch(epoch),
            end,
        })
    }

    fn any_what() -> impl Strategy<Value = ReplicaWhat> {
        let offsets = || [any_offset(), any_offset(), any_offset(), any_offset()];
        let answer = (any_end(), any_end(), offsets());
        let batches = prop::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            any_end().prop_map(ReplicaWhat::Asks),
            answer.prop_map(|(asked, ends, [start, end, committed, tombstones])| {
                let log = LeaderLog {
                    ends,
                    start,
                    end,
                    committed,
                    tombstones,
                };
                ReplicaWhat::Answers { asked, log }
            }),
            (offsets(), batches).prop_map(|([from, to, committed, start], batches)| {
                ReplicaWhat::Pushes(Push {
                    from,
                    batches: batches.into(),
                    to,
                    committed,
                    start,
                })
            }),
            (any_offset(), any_offset())
                .prop_map(|(end, start)| ReplicaWhat::Tells(OnDisk { end, start })),
            Just(ReplicaWhat::Lost),
        ]
    }

    fn any_said() -> impl Strategy<Value = ReplicaSaid> {
        let process = || {
            (0..=i32::MAX, any::<u64>()).prop_map(|(node, incarnation)| NodeProcess {
                node: NodeId(node),
                incarnation: Incarnation(incarnation),
            })
        };
        let term = (0..=i32::MAX, process(), process());
        (any::<u64>(), term, any_what()).prop_map(|(log, (epoch, leader, follower), what)| {
            let term = Term {
                epoch: LeaderEpoch(epoch),
                leader,
                follower,
            };
            let log = LogId(log);
            ReplicaSaid { log, term, what }
        })
    }

    fn batches(said: &ReplicaSaid) -> Bytes {
        match &said.what {
            ReplicaWhat::Pushes(push) => push.batches.clone(),
            _ => Bytes::new(),
        }
    }

    /// A request's body, and for each of its bytes whether a checksum covers it.
    fn body(messages: &[ReplicaSaid]) -> (Bytes, Vec<bool>) {
        let (mut bytes, mut covered) = (Vec::new(), Vec::new());
        for said in messages {
            let batches = batches(said);
            said.put(batches.len(), &mut bytes);
            covered.resize(bytes.len(), true);
            bytes.extend_from_slice(&batches);
            covered.resize(bytes.len(), false);
        }
        (bytes.into(), covered)
    }

    proptest! {
        #[test]
        fn what_is_said_is_read_and_batches_are_not_copied(
            messages in prop::collection::vec(any_said(), 1..9),
        ) {
            let (bytes, _) = body(&messages);
            let read = ReplicaSaid::decode_all(bytes.clone());
            prop_assert_eq!(read.as_ref(), Ok(&messages));
            let within = bytes.as_ptr_range();
            for said in read.iter().flatten() {
                let batches = batches(said);
                prop_assert!(batches.is_empty() || within.contains(&batches.as_ptr()));
            }
            for cut in 0..bytes.len() {
                // Where it is cut between two messages it is a shorter list.
                if let Ok(fewer) = ReplicaSaid::decode_all(bytes.slice(..cut)) {
                    prop_assert!(fewer.len() < messages.len() && messages.starts_with(&fewer));
                }
            }
            let rubbish = [&bytes[..], &[LOST, 0]].concat();
            prop_assert!(ReplicaSaid::decode_all(rubbish.into()).is_err());
        }

        #[test]
        fn nothing_that_is_damaged_is_read(
            messages in prop::collection::vec(any_said(), 1..4),
            at: prop::sample::Index,
            bit in 0..8u32,
        ) {
            let (bytes, covered) = body(&messages);
            let at = at.index(bytes.len());
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1u8 << bit;
            let read = ReplicaSaid::decode_all(damaged.into());
            // Batches are checked by whoever appends them.
            prop_assert_eq!(read.is_err(), covered[at], "{} of {}", at, bytes.len());
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(messages) = ReplicaSaid::decode_all(bytes.into()) {
                prop_assert!(!messages.is_empty());
            }
        }
    }

    fn lost() -> ReplicaSaid {
        let member = |node| NodeProcess {
            node: NodeId(node),
            incarnation: Incarnation(3),
        };
        ReplicaSaid {
            log: LogId(9),
            term: Term {
                epoch: LeaderEpoch(5),
                leader: member(1),
                follower: member(2),
            },
            what: ReplicaWhat::Lost,
        }
    }

    #[test]
    fn a_request_has_one_message_at_least_and_not_too_many() {
        assert!(ReplicaSaid::decode_all(Bytes::new()).is_err());
        for (count, is_read) in [
            (REPLICA_MESSAGES_MAX, true),
            (REPLICA_MESSAGES_MAX + 1, false),
        ] {
            let (bytes, _) = body(&vec![lost(); count]);
            let read = ReplicaSaid::decode_all(bytes);
            assert_eq!(read.is_ok(), is_read);
            assert!(is_read || read == Err(BadPeer::TooLong));
        }
        let unknown = Bytes::from_static(&[9, 0, 0, 0, 0]);
        assert_eq!(
            ReplicaSaid::decode_all(unknown),
            Err(BadPeer::UnknownKind(9))
        );
    }

    #[test]
    fn only_a_push_has_batches() {
        let mut bytes = Vec::new();
        lost().put(3, &mut bytes);
        bytes.extend([1, 2, 3]);
        assert!(ReplicaSaid::decode_all(bytes.into()).is_err());
    }

    #[test]
    fn the_format_stays_what_it_is() {
        let (bytes, _) = body(&[lost()]);
        let head = [
            &[9, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0][..],
            &[1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(bytes[..5], [LOST, 40, 0, 0, 0]);
        assert_eq!(bytes[BEFORE..], head);
    }
}
