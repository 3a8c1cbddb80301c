//! The records of `__consumer_offsets` in Kafka's binary formats, so that Kafka's
//! tools can read the topic and a topic written by Kafka can be taken over.
//!
//! Written: OffsetCommitKey 1, OffsetCommitValue 4 (1 if the commit names a
//! retention of its own), GroupMetadataKey 2, GroupMetadataValue 3. Read: offset
//! keys 0-1 with values 0-4, group keys 2 with values 0-4; those of consumer groups are in
//! `consumer/records.rs`, those of streams groups in `streams/records.rs`. Keys of other kinds (share groups)
//! are known to be unknown. Only version 4 of an offset has a place for the topic's id. Builds before wrote it
//! behind version 1; it is read there.

use bytes::{BufMut, Bytes, BytesMut};

use super::consumer;
use super::consumer::records::ConsumerKey;
use super::offsets::Committed;
use super::streams;
use super::streams::records::StreamsKey;
use crate::base::Name;
use crate::base::TopicId;
pub use crate::base::fields::RecordError;
use crate::base::fields::{
    FieldReader, put_bytes, put_compact_string, put_nullable_string, put_string,
};

/// What a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// A committed offset.
    Offset {
        /// Group id.
        group: &'a str,
        /// Topic name.
        topic: &'a str,
        /// Partition of the topic.
        partition: i32,
    },
    /// Metadata of a classic group.
    Group(&'a str),
    /// Something of a consumer group.
    Consumer(&'a str, ConsumerKey<'a>),
    /// Something of a streams group.
    Streams(&'a str, StreamsKey<'a>),
    /// A record of a kind that this broker does not keep.
    Other(i16),
}

/// Value of a group's metadata record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupValue {
    /// Empty for a group that nobody joined yet.
    pub protocol_type: Option<Name>,
    /// Generation.
    pub generation: i32,
    /// The protocol chosen.
    pub protocol: Option<Name>,
    /// Member id of the leader.
    pub leader: Option<Name>,
    /// Since when the group is in its state, wall clock ms; `None` in records of old brokers.
    pub state_since_ms: Option<i64>,
    /// The members.
    pub members: Vec<MemberValue>,
}

/// A member in a group's metadata record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberValue {
    /// Member id.
    pub member: Name,
    /// `group.instance.id`
    pub instance: Option<Name>,
    /// `client.id`
    pub client_id: Name,
    /// Where it came from.
    pub client_host: Name,
    /// ms
    pub rebalance_timeout_ms: i32,
    /// ms
    pub session_timeout_ms: i32,
    /// Metadata for the chosen protocol.
    pub subscription: Bytes,
    /// Its part.
    pub assignment: Bytes,
}

/// Bytes that a committed offset takes in a batch, or its deletion.
#[must_use]
pub fn offset_bytes(group: &str, topic: &str, committed: Option<&Committed>) -> usize {
    /// What a record has besides its key and value, about; with the fixed fields of both.
    const FIXED_BYTES: usize = 10 + 10 + 50;
    FIXED_BYTES + group.len() + topic.len() + committed.map_or(0, |c| c.metadata.len())
}

/// The key of a committed offset.
#[must_use]
pub fn offset_key(group: &str, topic: &str, partition: i32) -> Bytes {
    let mut out = BytesMut::with_capacity(2 + 2 + group.len() + 2 + topic.len() + 4);
    out.put_i16(1);
    put_string(&mut out, group);
    put_string(&mut out, topic);
    out.put_i32(partition);
    out.freeze()
}

/// The number and the length of the tagged field that has the topic's id in the value of a committed offset.
const TOPIC_ID_TAG: u32 = 0;
const TOPIC_ID_BYTES: usize = 16;

/// The value of a committed offset.
#[must_use]
pub fn offset_value(offset: &Committed) -> Bytes {
    let mut out = BytesMut::with_capacity(2 + 8 + 8 + 3 + offset.metadata.len() + 8 + 3 + 16);
    if let Some(expire_ms) = offset.expire_ms {
        out.put_i16(1);
        out.put_i64(offset.offset);
        put_string(&mut out, &offset.metadata);
        out.put_i64(offset.commit_ms);
        out.put_i64(expire_ms);
    } else {
        out.put_i16(4);
        out.put_i64(offset.offset);
        out.put_i32(offset.leader_epoch);
        put_compact_string(&mut out, &offset.metadata);
        out.put_i64(offset.commit_ms);
        // How many tagged fields there are: the number and the length of each are a byte.
        if offset.topic_id == TopicId::ZERO {
            out.put_u8(0);
        } else {
            out.put_slice(&[1, TOPIC_ID_TAG as u8, TOPIC_ID_BYTES as u8]);
            out.put_slice(&offset.topic_id.0);
        }
    }
    out.freeze()
}

/// The key of a group's metadata.
#[must_use]
pub fn group_key(group: &str) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(2);
    put_string(&mut out, group);
    out.freeze()
}

/// The value of a group's metadata.
#[must_use]
pub fn group_value(value: &GroupValue) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(3);
    put_string(&mut out, value.protocol_type.as_deref().unwrap_or(""));
    out.put_i32(value.generation);
    put_nullable_string(&mut out, value.protocol.as_deref());
    put_nullable_string(&mut out, value.leader.as_deref());
    out.put_i64(value.state_since_ms.unwrap_or(-1));
    out.put_i32(i32::try_from(value.members.len()).unwrap_or(i32::MAX));
    for member in &value.members {
        put_string(&mut out, &member.member);
        put_nullable_string(&mut out, member.instance.as_deref());
        put_string(&mut out, &member.client_id);
        put_string(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_bytes(&mut out, &member.subscription);
        put_bytes(&mut out, &member.assignment);
    }
    out.freeze()
}

/// Reads a key.
pub fn parse_key(key: &[u8]) -> Result<Key<'_>, RecordError> {
    let mut key = FieldReader {
        rest: key,
        compact: false,
    };
    let number = key.i16()?;
    match number {
        0 | 1 => Ok(Key::Offset {
            group: key.text()?,
            topic: key.text()?,
            partition: key.i32()?,
        }),
        2 => Ok(Key::Group(key.text()?)),
        17..=23 => Ok(match streams::records::parse_key(number, &mut key)? {
            Some((group, kind)) => Key::Streams(group, kind),
            None => Key::Other(number),
        }),
        _ => Ok(match consumer::records::parse_key(number, &mut key)? {
            Some((group, kind)) => Key::Consumer(group, kind),
            None => Key::Other(number),
        }),
    }
}

/// Reads the value of a committed offset.
pub fn parse_offset_value(value: &[u8]) -> Result<Committed, RecordError> {
    let (version, mut value) = versioned(value)?;
    let mut committed = Committed {
        topic_id: TopicId::ZERO,
        offset: value.i64()?,
        leader_epoch: if version >= 3 { value.i32()? } else { -1 },
        metadata: value.string()?,
        commit_ms: value.i64()?,
        expire_ms: match version {
            1 => Some(value.i64()?).filter(|at| *at != -1),
            _ => None,
        },
        lacks_id: false,
    };
    let id = match version {
        1 => Some(value.rest),
        _ => value.tagged_fields([TOPIC_ID_TAG])?[0],
    };
    if let Some(Ok(id)) = id.map(<[u8; TOPIC_ID_BYTES]>::try_from) {
        committed.topic_id = TopicId(id);
    }
    Ok(committed)
}

/// Reads the value of a group's metadata.
pub fn parse_group_value(value: &[u8]) -> Result<GroupValue, RecordError> {
    let (version, mut value) = versioned(value)?;
    let protocol_type = Some(value.string()?).filter(|t| !t.is_empty());
    let generation = value.i32()?;
    let protocol = value.nullable_string()?;
    let leader = value.nullable_string()?;
    let state_since_ms = match version {
        0 | 1 => None,
        _ => Some(value.i64()?).filter(|at| *at != -1),
    };
    let mut members = Vec::new();
    for _ in 0..value.array_len()? {
        members.push(parse_member(version, &mut value)?);
    }
    Ok(GroupValue {
        protocol_type,
        generation,
        protocol,
        leader,
        state_since_ms,
        members,
    })
}

fn parse_member(version: i16, value: &mut FieldReader<'_>) -> Result<MemberValue, RecordError> {
    let member = value.string()?;
    let instance = if version >= 3 {
        value.nullable_string()?
    } else {
        None
    };
    let client_id = value.string()?;
    let client_host = value.string()?;
    let rebalance_timeout_ms = if version >= 1 { value.i32()? } else { -1 };
    let session_timeout_ms = value.i32()?;
    let member = MemberValue {
        member,
        instance,
        client_id,
        client_host,
        // Version 0 had one timeout for both.
        rebalance_timeout_ms: match rebalance_timeout_ms {
            -1 => session_timeout_ms,
            ms => ms,
        },
        session_timeout_ms,
        subscription: value.bytes()?,
        assignment: value.bytes()?,
    };
    value.skip_tagged_fields()?;
    Ok(member)
}

fn versioned(value: &[u8]) -> Result<(i16, FieldReader<'_>), RecordError> {
    let mut value = FieldReader {
        rest: value,
        compact: false,
    };
    let version = value.i16()?;
    if !(0..=4).contains(&version) {
        return Err(RecordError::UnknownVersion(version));
    }
    value.compact = version >= 4;
    Ok((version, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = Name> {
        "[a-zé0-9.-]{0,12}".prop_map(Name::from)
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    prop_compose! {
        fn committed()(id: [u8; 16], offset: i64, epoch in -1..9i32, metadata in name(), commit_ms in 0i64..,
                       expire_ms in proptest::option::of(0i64..)) -> Committed {
            // Version 1, the one with an expiry, has no leader epoch and no id of the topic.
            let (leader_epoch, topic_id) = match expire_ms {
                Some(_) => (-1, TopicId::ZERO),
                None => (epoch, TopicId(id)),
            };
            Committed { topic_id, offset, leader_epoch, metadata, commit_ms, expire_ms, lacks_id: false }
        }
    }

    prop_compose! {
        fn member()(member in name(), instance in proptest::option::of(name()), client_id in name(),
                    client_host in name(), rebalance_timeout_ms in 0..i32::MAX, session_timeout_ms: i32,
                    subscription in bytes(), assignment in bytes()) -> MemberValue {
            MemberValue { member, instance, client_id, client_host, rebalance_timeout_ms,
                          session_timeout_ms, subscription, assignment }
        }
    }

    prop_compose! {
        fn group()(protocol_type in proptest::option::of("[a-z]{1,8}".prop_map(Name::from)), generation: i32,
                   protocol in proptest::option::of(name()), leader in proptest::option::of(name()),
                   state_since_ms in proptest::option::of(0i64..),
                   members in proptest::collection::vec(member(), 0..4)) -> GroupValue {
            GroupValue { protocol_type, generation, protocol, leader, state_since_ms, members }
        }
    }

    proptest! {
        #[test]
        fn offsets_round_trip(value in committed(), group in name(), topic in name(), partition: i32) {
            prop_assert_eq!(parse_offset_value(&offset_value(&value)), Ok(value));
            let key = offset_key(&group, &topic, partition);
            prop_assert_eq!(parse_key(&key), Ok(Key::Offset { group: &group, topic: &topic, partition }));
        }

        #[test]
        fn groups_round_trip_and_cut_ones_fail(value in group(), cut: prop::sample::Index) {
            let bytes = group_value(&value);
            prop_assert_eq!(parse_group_value(&bytes), Ok(value));
            prop_assert_eq!(parse_group_value(&bytes[..cut.index(bytes.len())]), Err(RecordError::Malformed));
        }

        #[test]
        fn any_bytes_are_survived(version in 0..6i16, tail in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = version.to_be_bytes().to_vec();
            bytes.extend(tail);
            let _ = parse_key(&bytes);
            let _ = parse_offset_value(&bytes);
            let _ = parse_group_value(&bytes);
        }
    }

    /// As the serializer of 4.4's group coordinator writes them.
    #[test]
    fn bytes_of_an_offset_commit_are_kafkas() {
        let key = offset_key("g", "t", 7);
        assert_eq!(&key[..], b"\0\x01\0\x01g\0\x01t\0\0\0\x07");
        let mut value = Committed {
            topic_id: TopicId([7; 16]),
            offset: 5,
            leader_epoch: 2,
            metadata: Name::from("m"),
            commit_ms: 9,
            expire_ms: None,
            lacks_id: false,
        };
        let fixed = b"\0\x04\0\0\0\0\0\0\0\x05\0\0\0\x02\x02m\0\0\0\0\0\0\0\x09";
        let with_id = [&fixed[..], &[1, 0, 16], &[7; 16]].concat();
        assert_eq!(offset_value(&value), with_id);
        value.expire_ms = Some(77);
        let expires = b"\0\x01\0\0\0\0\0\0\0\x05\0\x01m\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x4d";
        assert_eq!(&offset_value(&value)[..], expires);
        let before = parse_offset_value(&[&expires[..], &[7; 16]].concat()).unwrap();
        assert_eq!(
            (before.topic_id, before.expire_ms),
            (TopicId([7; 16]), Some(77))
        );
        (value.topic_id, value.expire_ms) = (TopicId::ZERO, None);
        assert_eq!(offset_value(&value), [&fixed[..], &[0]].concat());
    }

    #[test]
    fn old_and_flexible_versions_are_read() {
        let v0 = parse_offset_value(b"\0\0\0\0\0\0\0\0\0\x05\0\x01m\0\0\0\0\0\0\0\x09").unwrap();
        assert_eq!(
            (v0.offset, v0.leader_epoch, v0.commit_ms, &*v0.metadata),
            (5, -1, 9, "m")
        );
        let v4 = parse_offset_value(b"\0\x04\0\0\0\0\0\0\0\x05\0\0\0\x01\x02m\0\0\0\0\0\0\0\x09\0")
            .unwrap();
        assert_eq!(
            (v4.offset, v4.leader_epoch, v4.commit_ms, &*v4.metadata),
            (5, 1, 9, "m")
        );
        let group = parse_group_value(
            b"\0\x04\x09consumer\0\0\0\x03\x06range\x02a\0\0\0\0\0\0\0\x01\x02\x02a\0\x02c\x02h\0\0\0\x05\0\0\0\x06\x02s\x03as\x01\x07\x01z\0",
        )
        .unwrap();
        assert_eq!(group.members.len(), 1);
        assert_eq!(group.members[0].assignment, Bytes::from_static(b"as"));
        let old = parse_group_value(
            b"\0\0\0\x08consumer\0\0\0\x03\0\x05range\0\x01a\0\0\0\x01\0\x01a\0\x01c\0\x01h\0\0\0\x06\0\0\0\x01s\0\0\0\x01x",
        )
        .unwrap();
        assert_eq!(old.members[0].rebalance_timeout_ms, 6);
        assert_eq!(
            parse_group_value(b"\0\x05"),
            Err(RecordError::UnknownVersion(5))
        );
        assert_eq!(parse_key(b"\0\x09\0"), Ok(Key::Other(9)));
        let member = Key::Consumer("g", ConsumerKey::Current("m"));
        assert_eq!(parse_key(b"\0\x08\0\x01g\0\x01m"), Ok(member));
    }
}
