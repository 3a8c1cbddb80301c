//! The records of consumer groups in Kafka's binary formats.
//!
//! Written and read: ConsumerGroupMetadata (key 3), ConsumerGroupMemberMetadata (5),
//! ConsumerGroupTargetAssignmentMetadata (6), ConsumerGroupTargetAssignmentMember (7),
//! ConsumerGroupCurrentMemberAssignment (8) and ConsumerGroupRegularExpression (16), all in version 0.
//! ConsumerGroupPartitionMetadata (4), which Kafka has not written since 4.1, is passed over: the hash of key 3 stands
//! in its place.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::change::{GroupChange, GroupEpoch, Resolved, TargetEpoch};
use super::member::{Current, MemberState, Subscription};
use super::partitions::{Held, Partitions};
use crate::base::coordinating::Record;
use crate::base::fields::{
    FieldReader, RecordError, put_compact_string, put_nullable_compact_string, put_string,
    put_varint,
};
use crate::base::{Name, TopicId};

/// What a key is of, within its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerKey<'a> {
    /// See [`GroupChange::Epoch`].
    Epoch,
    /// What older releases of Kafka knew of the topics.
    PartitionMetadata,
    /// See [`GroupChange::Member`].
    Member(&'a str),
    /// See [`GroupChange::TargetEpoch`].
    TargetEpoch,
    /// See [`GroupChange::TargetOf`].
    TargetOf(&'a str),
    /// See [`GroupChange::Current`].
    Current(&'a str),
    /// See [`GroupChange::Regex`].
    Regex(&'a str),
}

impl ConsumerKey<'_> {
    /// The number by which a key begins.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::Epoch => 3,
            Self::PartitionMetadata => 4,
            Self::Member(_) => 5,
            Self::TargetEpoch => 6,
            Self::TargetOf(_) => 7,
            Self::Current(_) => 8,
            Self::Regex(_) => 16,
        }
    }
}

/// Reads what is behind the number of a key: the group, and what it is of. `None` if the number is none of these.
///
/// # Errors
/// If the key is malformed.
pub fn parse_key<'a>(
    number: i16,
    key: &mut FieldReader<'a>,
) -> Result<Option<(&'a str, ConsumerKey<'a>)>, RecordError> {
    if !matches!(number, 3..=8 | 16) {
        return Ok(None);
    }
    let group = key.text()?;
    Ok(Some((
        group,
        match number {
            3 => ConsumerKey::Epoch,
            4 => ConsumerKey::PartitionMetadata,
            5 => ConsumerKey::Member(key.text()?),
            6 => ConsumerKey::TargetEpoch,
            7 => ConsumerKey::TargetOf(key.text()?),
            8 => ConsumerKey::Current(key.text()?),
            _ => ConsumerKey::Regex(key.text()?),
        },
    )))
}

/// A key.
#[must_use]
pub fn key(group: &str, kind: ConsumerKey<'_>) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + group.len());
    out.put_i16(kind.number());
    put_string(&mut out, group);
    match kind {
        ConsumerKey::Epoch | ConsumerKey::PartitionMetadata | ConsumerKey::TargetEpoch => {}
        ConsumerKey::Member(id)
        | ConsumerKey::TargetOf(id)
        | ConsumerKey::Current(id)
        | ConsumerKey::Regex(id) => {
            put_string(&mut out, id);
        }
    }
    out.freeze()
}

/// A change as a record.
#[must_use]
pub fn record(group: &str, change: &GroupChange) -> Record {
    let (kind, value) = match change {
        GroupChange::Epoch(to) => (ConsumerKey::Epoch, to.as_ref().map(epoch_value)),
        GroupChange::TargetEpoch(to) => (
            ConsumerKey::TargetEpoch,
            to.as_ref().map(target_epoch_value),
        ),
        GroupChange::Member(id, to) => (ConsumerKey::Member(id), to.as_deref().map(member_value)),
        GroupChange::TargetOf(id, to) => {
            (ConsumerKey::TargetOf(id), to.as_deref().map(target_value))
        }
        GroupChange::Current(id, to) => {
            (ConsumerKey::Current(id), to.as_deref().map(current_value))
        }
        GroupChange::Regex(id, to) => (ConsumerKey::Regex(id), to.as_deref().map(regex_value)),
    };
    (key(group, kind), value)
}

/// What a record changes; nothing if it is of a kind that is passed over.
///
/// # Errors
/// If the value is malformed, or of a version that is not known.
pub fn parse(
    kind: ConsumerKey<'_>,
    value: Option<&[u8]>,
) -> Result<Option<GroupChange>, RecordError> {
    let mut value = value.map(versioned).transpose()?;
    let value = value.as_mut();
    Ok(Some(match kind {
        ConsumerKey::PartitionMetadata => return Ok(None),
        ConsumerKey::Epoch => GroupChange::Epoch(value.map(parse_epoch).transpose()?),
        ConsumerKey::TargetEpoch => {
            GroupChange::TargetEpoch(value.map(parse_target_epoch).transpose()?)
        }
        ConsumerKey::Member(id) => {
            GroupChange::Member(Name::from(id), parsed(value, parse_member)?)
        }
        ConsumerKey::TargetOf(id) => {
            GroupChange::TargetOf(Name::from(id), parsed(value, parse_target)?)
        }
        ConsumerKey::Current(id) => {
            GroupChange::Current(Name::from(id), parsed(value, parse_current)?)
        }
        ConsumerKey::Regex(id) => GroupChange::Regex(Name::from(id), parsed(value, parse_regex)?),
    }))
}

type Fields<'r, 'a> = &'r mut FieldReader<'a>;

fn parsed<T>(
    value: Option<Fields<'_, '_>>,
    parse: impl FnOnce(Fields<'_, '_>) -> Result<T, RecordError>,
) -> Result<Option<Arc<T>>, RecordError> {
    value.map(|value| parse(value).map(Arc::new)).transpose()
}

fn versioned(value: &[u8]) -> Result<FieldReader<'_>, RecordError> {
    let mut value = FieldReader {
        rest: value,
        compact: true,
    };
    match value.i16()? {
        0 => Ok(value),
        version => Err(RecordError::UnknownVersion(version)),
    }
}

fn begin() -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out
}

/// The tagged fields of a structure that has at most one, with number 0.
fn put_tagged(out: &mut BytesMut, field: Option<&[u8]>) {
    match field {
        None => put_varint(out, 0),
        Some(field) => {
            put_varint(out, 1);
            put_varint(out, 0);
            put_varint(out, field.len() as u32);
            out.put_slice(field);
        }
    }
}

fn put_len(out: &mut BytesMut, len: usize) {
    put_varint(out, len as u32 + 1);
}

/// A tagged field that is a number; none is written for 0.
fn put_tagged_i64(out: &mut BytesMut, value: i64) {
    let bytes = value.to_be_bytes();
    put_tagged(out, (value != 0).then_some(&bytes));
}

fn tagged_i64(value: Fields<'_, '_>) -> Result<i64, RecordError> {
    let [field] = value.tagged_fields([0])?;
    field.map_or(Ok(0), |field| {
        let bytes = field.try_into().map_err(|_| RecordError::Malformed)?;
        Ok(i64::from_be_bytes(bytes))
    })
}

fn epoch_value(to: &GroupEpoch) -> Bytes {
    let mut out = begin();
    out.put_i32(to.epoch);
    put_tagged_i64(&mut out, to.metadata_hash);
    out.freeze()
}

fn parse_epoch(value: Fields<'_, '_>) -> Result<GroupEpoch, RecordError> {
    Ok(GroupEpoch {
        epoch: value.i32()?,
        metadata_hash: tagged_i64(value)?,
    })
}

fn target_epoch_value(to: &TargetEpoch) -> Bytes {
    let mut out = begin();
    out.put_i32(to.epoch);
    put_tagged_i64(&mut out, to.made_ms);
    out.freeze()
}

fn parse_target_epoch(value: Fields<'_, '_>) -> Result<TargetEpoch, RecordError> {
    Ok(TargetEpoch {
        epoch: value.i32()?,
        made_ms: tagged_i64(value)?,
    })
}

fn member_value(to: &Subscription) -> Bytes {
    let mut out = begin();
    put_nullable_compact_string(&mut out, to.instance.as_deref());
    put_nullable_compact_string(&mut out, to.rack.as_deref());
    put_compact_string(&mut out, &to.client_id);
    put_compact_string(&mut out, &to.client_host);
    put_len(&mut out, to.topics.len());
    for topic in &to.topics {
        put_compact_string(&mut out, topic);
    }
    put_nullable_compact_string(&mut out, to.regex.as_deref());
    out.put_i32(to.rebalance_timeout_ms);
    put_nullable_compact_string(&mut out, to.assignor.as_deref());
    put_tagged(&mut out, None);
    out.freeze()
}

fn names(value: Fields<'_, '_>) -> Result<Vec<Name>, RecordError> {
    let mut names = Vec::new();
    for _ in 0..value.array_len()? {
        names.push(value.string()?);
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn parse_member(value: Fields<'_, '_>) -> Result<Subscription, RecordError> {
    let member = Subscription {
        instance: value.nullable_string()?,
        rack: value.nullable_string()?,
        client_id: value.string()?,
        client_host: value.string()?,
        topics: names(value)?,
        regex: value.nullable_string()?,
        rebalance_timeout_ms: value.i32()?,
        assignor: value.nullable_string()?,
    };
    value.skip_tagged_fields()?;
    Ok(member)
}

fn target_value(to: &Partitions) -> Bytes {
    let mut out = begin();
    put_len(&mut out, to.topics().len());
    for (topic, partitions) in to.topics() {
        out.put_slice(&topic.0);
        put_len(&mut out, partitions.len());
        partitions.iter().for_each(|p| out.put_i32(*p));
        put_tagged(&mut out, None);
    }
    put_tagged(&mut out, None);
    out.freeze()
}

fn numbers(value: Fields<'_, '_>) -> Result<Vec<i32>, RecordError> {
    let mut numbers = Vec::new();
    for _ in 0..value.array_len()? {
        numbers.push(value.i32()?);
    }
    Ok(numbers)
}

fn parse_target(value: Fields<'_, '_>) -> Result<Partitions, RecordError> {
    let mut all = Vec::new();
    for _ in 0..value.array_len()? {
        let topic = TopicId(value.array()?);
        all.push((topic, numbers(value)?));
        value.skip_tagged_fields()?;
    }
    value.skip_tagged_fields()?;
    Ok(Partitions::of(all))
}

fn put_held(out: &mut BytesMut, held: &Held) {
    put_len(out, held.topics().len());
    for (topic, partitions) in held.topics() {
        out.put_slice(&topic.0);
        put_len(out, partitions.len());
        partitions.iter().for_each(|(p, _)| out.put_i32(*p));
        let mut epochs = BytesMut::with_capacity(5 + partitions.len() * 4);
        put_len(&mut epochs, partitions.len());
        partitions
            .iter()
            .for_each(|(_, epoch)| epochs.put_i32(*epoch));
        put_tagged(out, Some(&epochs));
    }
}

/// Older releases of Kafka did not write the epochs: then they count as given in this one.
fn parse_held(value: Fields<'_, '_>, epoch: i32) -> Result<Held, RecordError> {
    let mut held = Vec::new();
    for _ in 0..value.array_len()? {
        let topic = TopicId(value.array()?);
        let partitions = numbers(value)?;
        let [epochs] = value.tagged_fields([0])?;
        let epochs = epochs.map(|field| FieldReader {
            rest: field,
            compact: true,
        });
        let epochs = match epochs {
            Some(mut field) => numbers(&mut field)?,
            None => vec![epoch; partitions.len()],
        };
        if epochs.len() != partitions.len() {
            return Err(RecordError::Malformed);
        }
        let all = partitions.into_iter().zip(epochs);
        held.extend(all.map(|(partition, epoch)| (topic, partition, epoch)));
    }
    Ok(Held::of(held))
}

fn current_value(to: &Current) -> Bytes {
    let mut out = begin();
    out.put_i32(to.epoch);
    out.put_i32(to.previous_epoch);
    out.put_i8(to.state.number());
    put_held(&mut out, &to.assigned);
    put_held(&mut out, &to.revoking);
    put_tagged(&mut out, None);
    out.freeze()
}

fn parse_current(value: Fields<'_, '_>) -> Result<Current, RecordError> {
    let (epoch, previous_epoch) = (value.i32()?, value.i32()?);
    let [state] = value.array()?;
    let current = Current {
        epoch,
        previous_epoch,
        state: MemberState::of(i8::from_be_bytes([state])),
        assigned: parse_held(value, epoch)?,
        revoking: parse_held(value, epoch)?,
    };
    value.skip_tagged_fields()?;
    Ok(current)
}

fn regex_value(to: &Resolved) -> Bytes {
    let mut out = begin();
    put_len(&mut out, to.topics.len());
    for topic in &to.topics {
        put_compact_string(&mut out, topic);
    }
    out.put_i64(to.version);
    out.put_i64(to.at_ms);
    put_tagged(&mut out, None);
    out.freeze()
}

fn parse_regex(value: Fields<'_, '_>) -> Result<Resolved, RecordError> {
    let resolved = Resolved {
        topics: names(value)?,
        version: value.i64()?,
        at_ms: value.i64()?,
    };
    value.skip_tagged_fields()?;
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = Name> {
        "[a-zé0-9.-]{0,12}".prop_map(Name::from)
    }

    fn names() -> impl Strategy<Value = Vec<Name>> {
        proptest::collection::btree_set(name(), 0..4).prop_map(|set| set.into_iter().collect())
    }

    fn option<T: std::fmt::Debug>(
        of: impl Strategy<Value = T>,
    ) -> impl Strategy<Value = Option<T>> {
        proptest::option::of(of)
    }

    prop_compose! {
        fn held()(all in proptest::collection::vec((0..3u8, 0..9i32, 0..9i32), 0..6)) -> Held {
            Held::of(all.iter().map(|(topic, p, epoch)| (TopicId([*topic; 16]), *p, *epoch)))
        }
    }

    prop_compose! {
        fn partitions()(held in held()) -> Partitions {
            let mut partitions = Partitions::default();
            held.all().for_each(|(topic, p, _)| partitions.add(topic, [p]));
            partitions
        }
    }

    prop_compose! {
        fn subscription()(instance in option(name()), rack in option(name()), client_id in name(),
                          client_host in name(), topics in names(), regex in option(name()),
                          rebalance_timeout_ms: i32, assignor in option(name())) -> Subscription {
            Subscription { instance, rack, client_id, client_host, topics, regex, rebalance_timeout_ms,
                           assignor }
        }
    }

    prop_compose! {
        fn current()(epoch: i32, previous_epoch: i32, state in 0..4u8, assigned in held(),
                     revoking in held()) -> Current {
            let state = MemberState::of([0, 1, 2, 127][usize::from(state)]);
            Current { epoch, previous_epoch, state, assigned, revoking }
        }
    }

    fn change() -> impl Strategy<Value = GroupChange> {
        let epoch = any::<(i32, i64)>().prop_map(|(epoch, metadata_hash)| GroupEpoch {
            epoch,
            metadata_hash,
        });
        let target =
            any::<(i32, i64)>().prop_map(|(epoch, made_ms)| TargetEpoch { epoch, made_ms });
        let regex = (names(), any::<(i64, i64)>());
        let regex = regex.prop_map(|(topics, (version, at_ms))| Resolved {
            topics,
            version,
            at_ms,
        });
        prop_oneof![
            option(epoch).prop_map(GroupChange::Epoch),
            option(target).prop_map(GroupChange::TargetEpoch),
            (name(), option(subscription().prop_map(Arc::new)))
                .prop_map(|(id, to)| GroupChange::Member(id, to)),
            (name(), option(partitions().prop_map(Arc::new)))
                .prop_map(|(id, to)| GroupChange::TargetOf(id, to)),
            (name(), option(current().prop_map(Arc::new)))
                .prop_map(|(id, to)| GroupChange::Current(id, to)),
            (name(), option(regex.prop_map(Arc::new)))
                .prop_map(|(id, to)| GroupChange::Regex(id, to)),
        ]
    }

    fn reader(bytes: &[u8]) -> (i16, FieldReader<'_>) {
        let mut key = FieldReader {
            rest: bytes,
            compact: false,
        };
        let number = key.i16().unwrap();
        (number, key)
    }

    proptest! {
        #[test]
        fn changes_round_trip_and_cut_ones_fail(change in change(), group in name(), cut: prop::sample::Index) {
            let (key, value) = record(&group, &change);
            let (number, mut fields) = reader(&key);
            let (of, kind) = parse_key(number, &mut fields).unwrap().unwrap();
            prop_assert_eq!(of, &*group);
            prop_assert_eq!(parse(kind, value.as_deref()), Ok(Some(change)));
            if let Some(value) = value {
                prop_assert!(parse(kind, Some(&value[..cut.index(value.len())])).is_err());
            }
        }

        #[test]
        fn any_bytes_are_survived(number in 0..20i16, version in 0..2i16,
                                  tail in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut fields = FieldReader { rest: &tail, compact: false };
            let _ = parse_key(number, &mut fields);
            let mut value = version.to_be_bytes().to_vec();
            value.extend(&tail);
            for kind in [ConsumerKey::Epoch, ConsumerKey::Member("m"), ConsumerKey::TargetEpoch, ConsumerKey::TargetOf("m"),
                         ConsumerKey::Current("m"), ConsumerKey::Regex("r"), ConsumerKey::PartitionMetadata] {
                let _ = parse(kind, Some(&value));
            }
        }
    }

    /// As the serializer of 4.4's group coordinator writes them.
    #[test]
    fn bytes_are_kafkas() {
        let member = Name::from("m");
        let held = Held::of([(TopicId([9; 16]), 3, 2)]);
        let current = Current {
            epoch: 2,
            previous_epoch: 1,
            state: MemberState::UnreleasedPartitions,
            assigned: held,
            revoking: Held::default(),
        };
        let (key, value) = record(
            "g",
            &GroupChange::Current(member.clone(), Some(Arc::new(current))),
        );
        assert_eq!(&key[..], b"\0\x08\0\x01g\0\x01m");
        let expected = [
            &b"\0\0\0\0\0\x02\0\0\0\x01\x02\x02"[..],
            &[9; 16],
            b"\x02\0\0\0\x03\x01\0\x05\x02\0\0\0\x02\x01\0",
        ]
        .concat();
        assert_eq!(value.unwrap(), expected);
        let epoch = GroupEpoch {
            epoch: 7,
            metadata_hash: 1,
        };
        let (key, value) = record("g", &GroupChange::Epoch(Some(epoch)));
        assert_eq!(&key[..], b"\0\x03\0\x01g");
        assert_eq!(
            &value.unwrap()[..],
            b"\0\0\0\0\0\x07\x01\0\x08\0\0\0\0\0\0\0\x01"
        );
        // Before there were epochs of partitions.
        let old = [
            &b"\0\0\0\0\0\x02\0\0\0\x01\0\x02"[..],
            &[9; 16],
            b"\x02\0\0\0\x03\0\x01\0",
        ]
        .concat();
        let Some(GroupChange::Current(_, Some(old))) =
            parse(ConsumerKey::Current("m"), Some(&old)).unwrap()
        else {
            panic!("a member");
        };
        assert_eq!(old.assigned.epoch_of(TopicId([9; 16]), 3), Some(2));
    }
}
