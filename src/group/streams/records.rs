//! The records of streams groups in Kafka's binary formats: StreamsGroupMetadata (key 17),
//! StreamsGroupMemberMetadata (19), StreamsGroupTargetAssignmentMetadata (20), StreamsGroupTargetAssignmentMember (21),
//! StreamsGroupCurrentMemberAssignment (22) and StreamsGroupTopology (23), all in version 0.
//! StreamsGroupPartitionMetadata (18), which no release of Kafka writes any more, is passed over.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::super::consumer::{Held, MemberState, Partitions, TargetEpoch};
use super::change::{StreamsChange, StreamsEpoch};
use super::member::{StreamsCurrent, StreamsMember, UserEndpoint};
use super::tasks::{HeldTaskSet, HeldTasks, TaskSet, Tasks};
use super::topology::{CopartitionGroup, InternalTopic, Subtopology, Topology};
use crate::base::Name;
use crate::base::coordinating::Record;
use crate::base::fields::{
    FieldReader, RecordError, put_compact_string, put_nullable_compact_string, put_string,
    put_varint,
};

/// What a key is of, within its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamsKey<'a> {
    /// See [`StreamsChange::Epoch`].
    Epoch,
    /// What early releases of Kafka knew of the topics.
    PartitionMetadata,
    /// See [`StreamsChange::Member`].
    Member(&'a str),
    /// See [`StreamsChange::TargetEpoch`].
    TargetEpoch,
    /// See [`StreamsChange::TargetOf`].
    TargetOf(&'a str),
    /// See [`StreamsChange::Current`].
    Current(&'a str),
    /// See [`StreamsChange::Topology`].
    Topology,
}

impl StreamsKey<'_> {
    /// The number by which a key begins.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::Epoch => 17,
            Self::PartitionMetadata => 18,
            Self::Member(_) => 19,
            Self::TargetEpoch => 20,
            Self::TargetOf(_) => 21,
            Self::Current(_) => 22,
            Self::Topology => 23,
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
) -> Result<Option<(&'a str, StreamsKey<'a>)>, RecordError> {
    if !matches!(number, 17..=23) {
        return Ok(None);
    }
    let group = key.text()?;
    Ok(Some((
        group,
        match number {
            17 => StreamsKey::Epoch,
            18 => StreamsKey::PartitionMetadata,
            19 => StreamsKey::Member(key.text()?),
            20 => StreamsKey::TargetEpoch,
            21 => StreamsKey::TargetOf(key.text()?),
            22 => StreamsKey::Current(key.text()?),
            _ => StreamsKey::Topology,
        },
    )))
}

fn key(group: &str, kind: StreamsKey<'_>) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + group.len());
    out.put_i16(kind.number());
    put_string(&mut out, group);
    match kind {
        StreamsKey::Epoch
        | StreamsKey::PartitionMetadata
        | StreamsKey::TargetEpoch
        | StreamsKey::Topology => {}
        StreamsKey::Member(id) | StreamsKey::TargetOf(id) | StreamsKey::Current(id) => {
            put_string(&mut out, id);
        }
    }
    out.freeze()
}

/// A change as a record.
#[must_use]
pub fn record(group: &str, change: &StreamsChange) -> Record {
    let (kind, value) = match change {
        StreamsChange::Epoch(to) => (StreamsKey::Epoch, to.as_deref().map(epoch_value)),
        StreamsChange::TargetEpoch(to) => {
            (StreamsKey::TargetEpoch, to.as_ref().map(target_epoch_value))
        }
        StreamsChange::Topology(to) => (StreamsKey::Topology, to.as_deref().map(topology_value)),
        StreamsChange::Member(id, to) => (StreamsKey::Member(id), to.as_deref().map(member_value)),
        StreamsChange::TargetOf(id, to) => {
            (StreamsKey::TargetOf(id), to.as_deref().map(target_value))
        }
        StreamsChange::Current(id, to) => {
            (StreamsKey::Current(id), to.as_deref().map(current_value))
        }
    };
    (key(group, kind), value)
}

/// What a record changes; nothing if it is of a kind that is passed over.
///
/// # Errors
/// If the value is malformed, or of a version that is not known.
pub fn parse(
    kind: StreamsKey<'_>,
    value: Option<&[u8]>,
) -> Result<Option<StreamsChange>, RecordError> {
    let mut value = value.map(versioned).transpose()?;
    let value = value.as_mut();
    Ok(Some(match kind {
        StreamsKey::PartitionMetadata => return Ok(None),
        StreamsKey::Epoch => StreamsChange::Epoch(parsed(value, parse_epoch)?),
        StreamsKey::TargetEpoch => {
            StreamsChange::TargetEpoch(value.map(parse_target_epoch).transpose()?)
        }
        StreamsKey::Topology => StreamsChange::Topology(parsed(value, parse_topology)?),
        StreamsKey::Member(id) => {
            StreamsChange::Member(Name::from(id), parsed(value, parse_member)?)
        }
        StreamsKey::TargetOf(id) => {
            StreamsChange::TargetOf(Name::from(id), parsed(value, parse_target)?)
        }
        StreamsKey::Current(id) => {
            StreamsChange::Current(Name::from(id), parsed(value, parse_current)?)
        }
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
    let mut value = compact(value);
    match value.i16()? {
        0 => Ok(value),
        version => Err(RecordError::UnknownVersion(version)),
    }
}

fn compact(rest: &[u8]) -> FieldReader<'_> {
    FieldReader {
        rest,
        compact: true,
    }
}

fn begin() -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out
}

/// Tagged fields, by ascending number.
fn put_tagged(out: &mut BytesMut, fields: &[(u32, &[u8])]) {
    put_varint(out, fields.len() as u32);
    for (tag, field) in fields {
        put_varint(out, *tag);
        put_varint(out, field.len() as u32);
        out.put_slice(field);
    }
}

fn put_list<T>(out: &mut BytesMut, all: &[T], mut put: impl FnMut(&mut BytesMut, &T)) {
    put_varint(out, all.len() as u32 + 1);
    all.iter().for_each(|one| put(out, one));
}

fn list<'a, T>(
    value: Fields<'_, 'a>,
    mut one: impl FnMut(&mut FieldReader<'a>) -> Result<T, RecordError>,
) -> Result<Vec<T>, RecordError> {
    let mut all = Vec::new();
    for _ in 0..value.array_len()? {
        all.push(one(value)?);
    }
    Ok(all)
}

fn put_pairs(out: &mut BytesMut, pairs: &[(Name, Name)]) {
    put_list(out, pairs, |out, (key, value)| {
        put_compact_string(out, key);
        put_compact_string(out, value);
        put_tagged(out, &[]);
    });
}

fn pairs(value: Fields<'_, '_>) -> Result<Vec<(Name, Name)>, RecordError> {
    list(value, |value| {
        let pair = (value.string()?, value.string()?);
        value.skip_tagged_fields()?;
        Ok(pair)
    })
}

fn put_names(out: &mut BytesMut, names: &[Name]) {
    put_list(out, names, |out, name| put_compact_string(out, name));
}

fn names(value: Fields<'_, '_>) -> Result<Vec<Name>, RecordError> {
    list(value, |value| value.string())
}

fn put_i32s(out: &mut BytesMut, all: &[i32]) {
    put_list(out, all, |out, one| out.put_i32(*one));
}

fn i32s(value: Fields<'_, '_>) -> Result<Vec<i32>, RecordError> {
    list(value, |value| value.i32())
}

fn put_i16s(out: &mut BytesMut, all: &[i16]) {
    put_list(out, all, |out, one| out.put_i16(*one));
}

fn i16s(value: Fields<'_, '_>) -> Result<Vec<i16>, RecordError> {
    list(value, |value| value.i16())
}

fn epoch_value(to: &StreamsEpoch) -> Bytes {
    let mut out = begin();
    out.put_i32(to.epoch);
    out.put_i64(to.metadata_hash);
    let mut settings = BytesMut::new();
    put_pairs(&mut settings, &to.settings);
    let validated = to.validated.to_be_bytes();
    let (stored, failed) = (to.described.0.to_be_bytes(), to.described.1.to_be_bytes());
    let fields: [(bool, (u32, &[u8])); 4] = [
        (to.validated != -1, (0, &validated)),
        (!to.settings.is_empty(), (1, &settings)),
        (to.described.0 != -1, (2, &stored)),
        (to.described.1 != -1, (3, &failed)),
    ];
    let fields = fields.iter().filter(|(is_set, _)| *is_set);
    put_tagged(
        &mut out,
        &fields.map(|(_, field)| *field).collect::<Vec<_>>(),
    );
    out.freeze()
}

fn parse_epoch(value: Fields<'_, '_>) -> Result<StreamsEpoch, RecordError> {
    let (epoch, metadata_hash) = (value.i32()?, value.i64()?);
    let [validated, settings, stored, failed] = value.tagged_fields([0, 1, 2, 3])?;
    let number = |field: Option<&[u8]>| field.map_or(Ok(-1), |field| compact(field).i32());
    let settings = match settings {
        // None at all is a length of 0.
        None | Some([0, ..]) => Vec::new(),
        Some(field) => pairs(&mut compact(field))?,
    };
    Ok(StreamsEpoch {
        epoch,
        metadata_hash,
        validated: number(validated)?,
        settings,
        described: (number(stored)?, number(failed)?),
    })
}

fn target_epoch_value(to: &TargetEpoch) -> Bytes {
    let mut out = begin();
    out.put_i32(to.epoch);
    let made = to.made_ms.to_be_bytes();
    match to.made_ms {
        0 => put_tagged(&mut out, &[]),
        _ => put_tagged(&mut out, &[(0, &made)]),
    }
    out.freeze()
}

fn parse_target_epoch(value: Fields<'_, '_>) -> Result<TargetEpoch, RecordError> {
    let epoch = value.i32()?;
    let [made] = value.tagged_fields([0])?;
    let made_ms = made.map_or(Ok(0), |field| compact(field).i64())?;
    Ok(TargetEpoch { epoch, made_ms })
}

fn put_internals(out: &mut BytesMut, all: &[InternalTopic]) {
    put_list(out, all, |out, topic| {
        put_compact_string(out, &topic.name);
        out.put_i32(topic.partitions);
        out.put_i16(topic.replication_factor);
        put_pairs(out, &topic.configs);
        put_tagged(out, &[]);
    });
}

fn internals(value: Fields<'_, '_>) -> Result<Vec<InternalTopic>, RecordError> {
    list(value, |value| {
        let topic = InternalTopic {
            name: value.string()?,
            partitions: value.i32()?,
            replication_factor: value.i16()?,
            configs: pairs(value)?,
        };
        value.skip_tagged_fields()?;
        Ok(topic)
    })
}

fn topology_value(to: &Topology) -> Bytes {
    let mut out = begin();
    out.put_i32(to.epoch);
    put_list(&mut out, &to.subtopologies, |out, of| {
        put_compact_string(out, &of.id);
        put_names(out, &of.sources);
        put_names(out, &of.source_regexes);
        put_internals(out, &of.changelogs);
        put_names(out, &of.repartition_sinks);
        put_internals(out, &of.repartition_sources);
        put_list(out, &of.copartition_groups, |out, group| {
            put_i16s(out, &group.sources);
            put_i16s(out, &group.regexes);
            put_i16s(out, &group.repartition_sources);
            put_tagged(out, &[]);
        });
        put_tagged(out, &[]);
    });
    put_tagged(&mut out, &[]);
    out.freeze()
}

fn parse_topology(value: Fields<'_, '_>) -> Result<Topology, RecordError> {
    let epoch = value.i32()?;
    let subtopologies = list(value, |value| {
        let of = Subtopology {
            id: value.string()?,
            sources: names(value)?,
            source_regexes: names(value)?,
            changelogs: internals(value)?,
            repartition_sinks: names(value)?,
            repartition_sources: internals(value)?,
            copartition_groups: list(value, |value| {
                let group = CopartitionGroup {
                    sources: i16s(value)?,
                    regexes: i16s(value)?,
                    repartition_sources: i16s(value)?,
                };
                value.skip_tagged_fields()?;
                Ok(group)
            })?,
        };
        value.skip_tagged_fields()?;
        Ok(of)
    })?;
    value.skip_tagged_fields()?;
    Ok(Topology::new(epoch, subtopologies))
}

fn member_value(to: &StreamsMember) -> Bytes {
    let mut out = begin();
    put_nullable_compact_string(&mut out, to.instance.as_deref());
    put_nullable_compact_string(&mut out, to.rack.as_deref());
    put_compact_string(&mut out, &to.client_id);
    put_compact_string(&mut out, &to.client_host);
    out.put_i32(to.rebalance_timeout_ms);
    out.put_i32(to.topology_epoch);
    put_compact_string(&mut out, &to.process);
    match &to.endpoint {
        None => out.put_i8(-1),
        Some(endpoint) => {
            out.put_i8(1);
            put_compact_string(&mut out, &endpoint.host);
            out.put_u16(endpoint.port);
            put_tagged(&mut out, &[]);
        }
    }
    put_pairs(&mut out, &to.tags);
    put_tagged(&mut out, &[]);
    out.freeze()
}

fn parse_member(value: Fields<'_, '_>) -> Result<StreamsMember, RecordError> {
    let (instance, rack) = (value.nullable_string()?, value.nullable_string()?);
    let (client_id, client_host) = (value.string()?, value.string()?);
    let (rebalance_timeout_ms, topology_epoch) = (value.i32()?, value.i32()?);
    let process = value.string()?;
    let [is_there] = value.array()?;
    let endpoint = match i8::from_be_bytes([is_there]) {
        ..0 => None,
        _ => {
            let host = value.string()?;
            let port = u16::from_be_bytes(value.array()?);
            value.skip_tagged_fields()?;
            Some(UserEndpoint { host, port })
        }
    };
    let mut tags = pairs(value)?;
    tags.sort_unstable();
    value.skip_tagged_fields()?;
    Ok(StreamsMember {
        instance,
        rack,
        client_id,
        client_host,
        rebalance_timeout_ms,
        topology_epoch,
        process,
        endpoint,
        tags,
    })
}

fn put_tasks(out: &mut BytesMut, tasks: &TaskSet) {
    let all: Vec<_> = tasks.topics().collect();
    put_list(out, &all, |out, (of, tasks)| {
        put_compact_string(out, of);
        put_i32s(out, tasks);
        put_tagged(out, &[]);
    });
}

fn tasks(value: Fields<'_, '_>) -> Result<TaskSet, RecordError> {
    let all = list(value, |value| {
        let of = (value.string()?, i32s(value)?);
        value.skip_tagged_fields()?;
        Ok(of)
    })?;
    Ok(Partitions::of(all))
}

fn target_value(to: &Tasks) -> Bytes {
    let mut out = begin();
    for set in [&to.active, &to.standby, &to.warmup] {
        put_tasks(&mut out, set);
    }
    put_tagged(&mut out, &[]);
    out.freeze()
}

fn parse_target(value: Fields<'_, '_>) -> Result<Tasks, RecordError> {
    let target = Tasks {
        active: tasks(value)?,
        standby: tasks(value)?,
        warmup: tasks(value)?,
    };
    value.skip_tagged_fields()?;
    Ok(target)
}

fn put_held(out: &mut BytesMut, held: &HeldTaskSet) {
    let all: Vec<_> = held.topics().collect();
    put_list(out, &all, |out, (of, tasks)| {
        put_compact_string(out, of);
        put_list(out, tasks, |out, (task, _)| out.put_i32(*task));
        let mut epochs = BytesMut::new();
        put_list(&mut epochs, tasks, |out, (_, epoch)| out.put_i32(*epoch));
        put_tagged(out, &[(0, &epochs)]);
    });
}

/// Releases of Kafka that did not write epochs gave what there is in this one.
fn held(value: Fields<'_, '_>, epoch: i32) -> Result<HeldTaskSet, RecordError> {
    let mut all = Vec::new();
    for _ in 0..value.array_len()? {
        let (of, tasks) = (value.string()?, i32s(value)?);
        let [epochs] = value.tagged_fields([0])?;
        let epochs = match epochs {
            None | Some([0, ..]) => vec![epoch; tasks.len()],
            Some(field) => i32s(&mut compact(field))?,
        };
        if epochs.len() != tasks.len() {
            return Err(RecordError::Malformed);
        }
        let tasks = tasks.into_iter().zip(epochs);
        all.extend(tasks.map(|(task, epoch)| (of.clone(), task, epoch)));
    }
    Ok(Held::of(all))
}

/// The numbers of Kafka's `streams.MemberState`, which are not those of consumer groups.
const STATES: [(MemberState, i8); 4] = [
    (MemberState::Stable, 1),
    (MemberState::UnrevokedPartitions, 2),
    (MemberState::UnreleasedPartitions, 3),
    (MemberState::Unknown, 127),
];

fn current_value(to: &StreamsCurrent) -> Bytes {
    let mut out = begin();
    out.put_i32(to.epoch);
    out.put_i32(to.previous_epoch);
    let number = STATES.iter().find(|(state, _)| *state == to.state);
    out.put_i8(number.map_or(127, |(_, number)| *number));
    for tasks in [&to.assigned, &to.revoking] {
        put_held(&mut out, &tasks.active);
        put_tasks(&mut out, &tasks.standby);
        put_tasks(&mut out, &tasks.warmup);
    }
    put_tagged(&mut out, &[]);
    out.freeze()
}

fn parse_current(value: Fields<'_, '_>) -> Result<StreamsCurrent, RecordError> {
    let (epoch, previous_epoch) = (value.i32()?, value.i32()?);
    let [number] = value.array()?;
    let number = i8::from_be_bytes([number]);
    let known = STATES.iter().find(|(_, of)| *of == number);
    let mut all = || -> Result<HeldTasks, RecordError> {
        Ok(HeldTasks {
            active: held(value, epoch)?,
            standby: tasks(value)?,
            warmup: tasks(value)?,
        })
    };
    let current = StreamsCurrent {
        epoch,
        previous_epoch,
        state: known.map_or(MemberState::Unknown, |(state, _)| *state),
        assigned: all()?,
        revoking: all()?,
    };
    value.skip_tagged_fields()?;
    Ok(current)
}

#[cfg(test)]
mod tests {
    use super::super::tasks::set_of;
    use super::super::testing::{internal, subtopology};
    use super::*;

    fn all() -> Vec<StreamsChange> {
        let name = Name::from;
        let mut of = subtopology("0", &["a", "b"]);
        of.source_regexes = vec![name("x.*")];
        of.changelogs = vec![InternalTopic {
            replication_factor: 3,
            configs: vec![(name("cleanup.policy"), name("compact"))],
            ..internal("log", 0)
        }];
        of.repartition_sources = vec![internal("re", 4)];
        of.repartition_sinks = vec![name("other")];
        of.copartition_groups = vec![CopartitionGroup {
            sources: vec![0, 1],
            regexes: vec![0],
            repartition_sources: vec![0],
        }];
        let topology = Topology::new(2, vec![subtopology("1", &["c"]), of]);
        let set = |tasks: &[i32]| set_of(tasks.iter().map(|task| (name("0"), *task)));
        let tasks = Tasks {
            active: set(&[1, 2]),
            standby: set(&[3]),
            warmup: set(&[]),
        };
        let held = |epoch| HeldTasks {
            active: Held::of([(name("0"), 1, epoch), (name("1"), 7, epoch + 1)]),
            standby: set(&[9]),
            warmup: set(&[8]),
        };
        let member = StreamsMember {
            instance: Some(name("i")),
            rack: None,
            client_id: name("c"),
            client_host: name("/h"),
            rebalance_timeout_ms: 5,
            topology_epoch: 2,
            process: name("p"),
            endpoint: Some(UserEndpoint {
                host: name("h"),
                port: 65_535,
            }),
            tags: vec![(name("zone"), name("z"))],
        };
        let other = StreamsMember {
            endpoint: None,
            tags: Vec::new(),
            ..member.clone()
        };
        let epoch = StreamsEpoch {
            epoch: 7,
            metadata_hash: -3,
            validated: 2,
            settings: vec![(name("num.standby.replicas"), name("1"))],
            described: (4, 5),
        };
        let current = |state| StreamsCurrent {
            epoch: 7,
            previous_epoch: 6,
            state,
            assigned: held(3),
            revoking: HeldTasks::default(),
        };
        let states = STATES
            .map(|(state, _)| StreamsChange::Current(name("m"), Some(Arc::new(current(state)))));
        let target = |made_ms| TargetEpoch { epoch: 6, made_ms };
        let mut all = vec![
            StreamsChange::Epoch(Some(Arc::new(epoch))),
            StreamsChange::Epoch(Some(Arc::default())),
            StreamsChange::TargetEpoch(Some(target(0))),
            StreamsChange::TargetEpoch(Some(target(99))),
            StreamsChange::Topology(Some(Arc::new(topology))),
            StreamsChange::Member(name("m"), Some(Arc::new(member))),
            StreamsChange::Member(name("m"), Some(Arc::new(other))),
            StreamsChange::TargetOf(name("m"), Some(Arc::new(tasks))),
            StreamsChange::TargetOf(name("m"), Some(Arc::default())),
        ];
        all.extend(states);
        let tombstones: Vec<_> = all.iter().map(StreamsChange::tombstone).collect();
        all.extend(tombstones);
        all
    }

    fn parsed_of((key, value): &Record) -> (String, Option<StreamsChange>) {
        let mut fields = FieldReader {
            rest: key,
            compact: false,
        };
        let number = fields.i16().unwrap();
        let (group, kind) = parse_key(number, &mut fields).unwrap().unwrap();
        assert_eq!(kind.number(), number);
        (group.to_owned(), parse(kind, value.as_deref()).unwrap())
    }

    #[test]
    fn changes_are_read_as_they_were_written() {
        for change in all() {
            let read = parsed_of(&record("g", &change));
            assert_eq!(read, ("g".to_owned(), Some(change)));
        }
    }

    /// Values that Kafka 4.4.0's own classes have written.
    #[test]
    fn values_are_those_of_kafka() {
        let bytes = |change: StreamsChange| record("g", &change).1.unwrap().to_vec();
        let epoch = bytes(StreamsChange::Epoch(Some(Arc::new(StreamsEpoch {
            epoch: 3,
            metadata_hash: 1,
            validated: 0,
            settings: vec![(Name::from("a"), Name::from("b"))],
            ..StreamsEpoch::default()
        }))));
        let wanted = [
            &[0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1][..],
            &[2, 0, 4, 0, 0, 0, 0, 1, 6, 2, 2, b'a', 2, b'b', 0],
        ];
        assert_eq!(epoch, wanted.concat());
        let target = bytes(StreamsChange::TargetOf(
            Name::from("m"),
            Some(Arc::new(Tasks {
                active: set_of([(Name::from("0"), 5)]),
                ..Tasks::default()
            })),
        ));
        assert_eq!(target, [0, 0, 2, 2, b'0', 2, 0, 0, 0, 5, 0, 1, 1, 0]);
    }

    #[test]
    fn no_bytes_are_a_reason_to_panic() {
        for change in all() {
            let (key, value) = record("group", &change);
            let mut fields = FieldReader {
                rest: &key,
                compact: false,
            };
            let number = fields.i16().unwrap();
            let (_, kind) = parse_key(number, &mut fields).unwrap().unwrap();
            let value = value.unwrap_or_default();
            for end in 0..value.len() {
                drop(parse(kind, Some(&value[..end])));
                for flip in [1, 0x80, 0xff] {
                    let mut broken = value.to_vec();
                    broken[end] ^= flip;
                    drop(parse(kind, Some(&broken)));
                }
            }
        }
    }
}
