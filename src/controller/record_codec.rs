//! Metadata records as bytes: type, version of the type, fields. Numbers are
//! LEB128, signed ones zigzag first; texts and lists have a length in front.
//! Reading never panics and never allocates more than a small multiple of the
//! bytes it is given. A type or version it does not know is an error: to skip
//! a change of the metadata would be to have different metadata.

use bytes::Bytes;

use super::features::{ELECTIONS_LEVEL, FeatureLevel, ONE_GROUP_LEVEL, REGISTRATION_LEVEL};
use super::record::{ConfigResource, Elections, MetadataRecord, PartitionRecord};
use super::registered::{BrokerAddress, Directory, Registration};
use crate::base::{
    DirectoryId, Incarnation, LeaderEpoch, LogId, NodeId, NodeProcess, ShardId, TopicId,
};

const CLUSTER: u8 = 1;
const TOPIC: u8 = 2;
const PARTITION: u8 = 3;
const REMOVE_TOPIC: u8 = 4;
const CONFIG: u8 = 5;
const PRODUCER_IDS: u8 = 6;
const SNAPSHOT_END: u8 = 7;
const SNAPSHOT_BEGIN: u8 = 8;
const FEATURES: u8 = 9;
const BROKER: u8 = 10;
const STRAY: u8 = 11;
const FENCE: u8 = 12;
const REMOVE_BROKER: u8 = 13;

/// By type: the feature level from which on each version of it is written, oldest version first.
const VERSIONS: [&[FeatureLevel]; 14] = [
    &[], // There is no type 0.
    &[0],
    &[1],
    &[1, ELECTIONS_LEVEL],
    &[1],
    &[1, ONE_GROUP_LEVEL],
    &[1],
    &[1],
    &[0],
    &[0],
    &[1, REGISTRATION_LEVEL],
    &[1],
    &[REGISTRATION_LEVEL],
    &[REGISTRATION_LEVEL],
];

/// The version that is written of a type: the newest one that the level allows.
fn version(kind: u8, level: FeatureLevel) -> u8 {
    let versions = VERSIONS[usize::from(kind)];
    let newest = versions.iter().rposition(|from| *from <= level);
    newest.unwrap_or(0) as u8
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRecord {
    /// They end too early.
    Truncated,
    /// They do not end where the record ends.
    TrailingBytes,
    /// A record type of a later release.
    UnknownType(u8),
    /// A version of a record type of a later release.
    UnknownVersion(u8, u8),
    /// A list of records in a version of a later release.
    UnknownList(u8),
    /// A field has a value that it cannot have.
    BadField(&'static str),
}

impl std::fmt::Display for BadRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated => f.write_str("metadata record ends too early"),
            Self::TrailingBytes => f.write_str("metadata record is followed by other bytes"),
            Self::UnknownType(t) => write!(f, "metadata record type {t} is of a later release"),
            Self::UnknownVersion(t, v) => {
                write!(
                    f,
                    "metadata record type {t} version {v} is of a later release"
                )
            }
            Self::UnknownList(v) => {
                write!(f, "metadata records in version {v} are of a later release")
            }
            Self::BadField(field) => write!(f, "metadata record has a bad {field}"),
        }
    }
}

impl std::error::Error for BadRecord {}

impl MetadataRecord {
    const fn kind(&self) -> u8 {
        match self {
            Self::Cluster { .. } => CLUSTER,
            Self::Features { .. } => FEATURES,
            Self::Broker(_) => BROKER,
            Self::Fence { .. } => FENCE,
            Self::RemoveBroker { .. } => REMOVE_BROKER,
            Self::Stray { .. } => STRAY,
            Self::Topic { .. } => TOPIC,
            Self::Partition(_) => PARTITION,
            Self::RemoveTopic { .. } => REMOVE_TOPIC,
            Self::Config { .. } => CONFIG,
            Self::ProducerIds { .. } => PRODUCER_IDS,
            Self::SnapshotBegin => SNAPSHOT_BEGIN,
            Self::SnapshotEnd { .. } => SNAPSHOT_END,
        }
    }

    /// The record as bytes, in the version that a feature level allows.
    #[must_use]
    pub fn encode(&self, level: FeatureLevel) -> Bytes {
        let mut out = Vec::with_capacity(64);
        let version = version(self.kind(), level);
        out.extend([self.kind(), version]);
        match self {
            Self::Cluster { id } => put_text(&mut out, id),
            Self::Features { level } => put_unsigned(&mut out, u64::from(*level)),
            Self::Broker(registration) => put_registration(&mut out, registration, version),
            Self::Fence { member, fenced } => {
                put_member(&mut out, *member);
                out.push(u8::from(*fenced));
            }
            Self::RemoveBroker { node } => put_signed(&mut out, node.0.into()),
            Self::Topic { name, id } => {
                put_text(&mut out, name);
                out.extend(id.0);
            }
            Self::Partition(partition) => put_partition(&mut out, partition, version),
            Self::RemoveTopic { id } => out.extend(id.0),
            Self::Config {
                resource,
                key,
                value,
            } => {
                put_resource(&mut out, resource);
                put_text(&mut out, key);
                put_option(&mut out, value.as_deref(), put_text);
            }
            Self::ProducerIds { next } => put_signed(&mut out, *next),
            Self::Stray { log } => put_unsigned(&mut out, log.0),
            Self::SnapshotBegin => {}
            Self::SnapshotEnd { version, next_log } => {
                put_unsigned(&mut out, *version);
                put_unsigned(&mut out, *next_log);
            }
        }
        out.into()
    }

    /// Reads the bytes of one record, all of them.
    ///
    /// # Errors
    /// They are not exactly one record of a known type.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut fields = Fields(bytes);
        let (kind, version) = (fields.byte()?, fields.byte()?);
        let versions = VERSIONS.get(usize::from(kind)).copied().unwrap_or(&[]);
        if versions.is_empty() {
            return Err(BadRecord::UnknownType(kind));
        }
        if usize::from(version) >= versions.len() {
            return Err(BadRecord::UnknownVersion(kind, version));
        }
        let record = match kind {
            CLUSTER => Self::Cluster { id: fields.text()? },
            TOPIC => Self::Topic {
                name: fields.text()?,
                id: fields.topic_id()?,
            },
            PARTITION => Self::Partition(fields.partition(version)?),
            REMOVE_TOPIC => Self::RemoveTopic {
                id: fields.topic_id()?,
            },
            CONFIG => Self::Config {
                resource: fields.resource()?,
                key: fields.text()?,
                value: fields.option(Fields::text)?,
            },
            PRODUCER_IDS => Self::ProducerIds {
                next: fields.signed()?,
            },
            SNAPSHOT_BEGIN => Self::SnapshotBegin,
            FEATURES => Self::Features {
                level: fields.number("feature level")?,
            },
            BROKER => Self::Broker(fields.registration(version)?),
            FENCE => Self::Fence {
                member: fields.member()?,
                fenced: fields.flag()?,
            },
            REMOVE_BROKER => Self::RemoveBroker {
                node: NodeId(fields.int()?),
            },
            STRAY => Self::Stray {
                log: LogId(fields.unsigned()?),
            },
            _ => Self::SnapshotEnd {
                version: fields.unsigned()?,
                next_log: fields.unsigned()?,
            },
        };
        if fields.0.is_empty() {
            Ok(record)
        } else {
            Err(BadRecord::TrailingBytes)
        }
    }
}

fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_unsigned(out, text.len() as u64);
    out.extend(text.as_bytes());
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl Fn(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

fn put_nodes(out: &mut Vec<u8>, nodes: &[NodeId]) {
    put_unsigned(out, nodes.len() as u64);
    for node in nodes {
        put_signed(out, node.0.into());
    }
}

fn put_resource(out: &mut Vec<u8>, resource: &ConfigResource) {
    match resource {
        ConfigResource::Topic(name) => {
            out.push(0);
            put_text(out, name);
        }
        ConfigResource::Broker(node) => {
            out.push(1);
            put_option(out, *node, |out, node| put_signed(out, node.0.into()));
        }
        ConfigResource::Group(id) => {
            out.push(2);
            put_text(out, id);
        }
    }
}

/// The first version has nothing of elections.
fn put_partition(out: &mut Vec<u8>, partition: &PartitionRecord, version: u8) {
    out.extend(partition.topic.0);
    put_signed(out, partition.index.into());
    put_unsigned(out, partition.log.0);
    put_nodes(out, &partition.replicas);
    // As many as replicas.
    for directory in &partition.directories {
        out.extend(directory.0);
    }
    put_nodes(out, &partition.isr);
    put_signed(out, partition.leader.0.into());
    put_signed(out, partition.leader_epoch.0.into());
    put_signed(out, partition.partition_epoch.into());
    if version == 0 {
        return;
    }
    let Elections {
        recovering,
        unclean,
        left,
    } = &partition.elections;
    out.push(u8::from(*recovering));
    put_option(out, *unclean, |out, epoch| put_signed(out, epoch.0.into()));
    put_nodes(out, left);
}

fn put_member(out: &mut Vec<u8>, member: NodeProcess) {
    put_signed(out, member.node.0.into());
    put_unsigned(out, member.incarnation.0);
}

/// The first version has the node and its directories alone.
fn put_registration(out: &mut Vec<u8>, registration: &Registration, version: u8) {
    if version == 0 {
        put_signed(out, registration.member.node.0.into());
    } else {
        put_member(out, registration.member);
    }
    put_unsigned(out, registration.directories.len() as u64);
    for directory in &registration.directories {
        out.extend(directory.id.0);
        put_unsigned(out, directory.shard.0.into());
    }
    if version == 0 {
        return;
    }
    out.extend(registration.start);
    out.push(u8::from(registration.fenced));
    put_unsigned(out, registration.level.into());
    put_option(out, registration.rack.as_deref(), put_text);
    put_unsigned(out, registration.addresses.len() as u64);
    for address in &registration.addresses {
        put_text(out, &address.listener);
        put_text(out, &address.host);
        put_unsigned(out, address.port.into());
        put_unsigned(out, address.shards.len() as u64);
        for port in &address.shards {
            put_unsigned(out, (*port).into());
        }
    }
}

/// What is left to read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], BadRecord> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(BadRecord::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, BadRecord> {
        let (byte, rest) = self.0.split_first().ok_or(BadRecord::Truncated)?;
        self.0 = rest;
        Ok(*byte)
    }

    fn unsigned(&mut self) -> Result<u64, BadRecord> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only.
            if shift == 63 && bits > 1 {
                return Err(BadRecord::BadField("number"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BadRecord::BadField("number"))
    }

    fn signed(&mut self) -> Result<i64, BadRecord> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn int(&mut self) -> Result<i32, BadRecord> {
        i32::try_from(self.signed()?).map_err(|_| BadRecord::BadField("number"))
    }

    fn text(&mut self) -> Result<String, BadRecord> {
        let len = usize::try_from(self.unsigned()?).map_err(|_| BadRecord::Truncated)?;
        let text = std::str::from_utf8(self.take(len)?);
        Ok(text.map_err(|_| BadRecord::BadField("text"))?.to_owned())
    }

    fn uuid(&mut self) -> Result<[u8; 16], BadRecord> {
        let bytes = self.take(16)?.try_into();
        bytes.map_err(|_| BadRecord::Truncated)
    }

    fn topic_id(&mut self) -> Result<TopicId, BadRecord> {
        self.uuid().map(TopicId)
    }

    fn option<T>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<T, BadRecord>,
    ) -> Result<Option<T>, BadRecord> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(BadRecord::BadField("option")),
        }
    }

    /// A list; each of its elements takes a byte at least, so none is ever much larger than the bytes that claim it.
    fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, BadRecord>,
    ) -> Result<Vec<T>, BadRecord> {
        let len = self.unsigned()?;
        if len > self.0.len() as u64 {
            return Err(BadRecord::Truncated);
        }
        (0..len).map(|_| read(self)).collect()
    }

    fn nodes(&mut self) -> Result<Vec<NodeId>, BadRecord> {
        self.list(|fields| fields.int().map(NodeId))
    }

    fn flag(&mut self) -> Result<bool, BadRecord> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(BadRecord::BadField("flag")),
        }
    }

    fn number(&mut self, what: &'static str) -> Result<u16, BadRecord> {
        u16::try_from(self.unsigned()?).map_err(|_| BadRecord::BadField(what))
    }

    fn resource(&mut self) -> Result<ConfigResource, BadRecord> {
        match self.byte()? {
            0 => self.text().map(ConfigResource::Topic),
            1 => self
                .option(|fields| fields.int().map(NodeId))
                .map(ConfigResource::Broker),
            2 => self.text().map(ConfigResource::Group),
            _ => Err(BadRecord::BadField("resource")),
        }
    }

    fn directory(&mut self) -> Result<Directory, BadRecord> {
        Ok(Directory {
            id: self.uuid().map(DirectoryId)?,
            shard: self.number("shard").map(ShardId)?,
        })
    }

    fn member(&mut self) -> Result<NodeProcess, BadRecord> {
        Ok(NodeProcess {
            node: NodeId(self.int()?),
            incarnation: Incarnation(self.unsigned()?),
        })
    }

    fn address(&mut self) -> Result<BrokerAddress, BadRecord> {
        Ok(BrokerAddress {
            listener: self.text()?,
            host: self.text()?,
            port: self.number("port")?,
            shards: self.list(|fields| fields.number("port"))?,
        })
    }

    fn registration(&mut self, version: u8) -> Result<Registration, BadRecord> {
        if version == 0 {
            let node = NodeId(self.int()?);
            return Ok(Registration {
                member: NodeProcess {
                    node,
                    incarnation: Incarnation::default(),
                },
                directories: self.list(Self::directory)?,
                ..Registration::default()
            });
        }
        Ok(Registration {
            member: self.member()?,
            directories: self.list(Self::directory)?,
            start: self.uuid()?,
            fenced: self.flag()?,
            level: self.number("feature level")?,
            rack: self.option(Self::text)?,
            addresses: self.list(Self::address)?,
        })
    }

    fn partition(&mut self, version: u8) -> Result<PartitionRecord, BadRecord> {
        let (topic, index) = (self.topic_id()?, self.int()?);
        let log = LogId(self.unsigned()?);
        let replicas = self.nodes()?;
        let directories = replicas
            .iter()
            .map(|_| self.uuid().map(DirectoryId))
            .collect::<Result<_, _>>()?;
        Ok(PartitionRecord {
            topic,
            index,
            log,
            replicas,
            directories,
            isr: self.nodes()?,
            leader: NodeId(self.int()?),
            leader_epoch: LeaderEpoch(self.int()?),
            partition_epoch: self.int()?,
            elections: match version {
                0 => Elections::default(),
                _ => self.elections()?,
            },
        })
    }

    fn elections(&mut self) -> Result<Elections, BadRecord> {
        Ok(Elections {
            recovering: self.flag()?,
            unclean: self.option(|fields| fields.int().map(LeaderEpoch))?,
            left: self.nodes()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::base::StoreId;
    use crate::controller::FEATURE_LEVEL;
    use crate::controller::testing::one_of_each;

    fn nodes() -> impl Strategy<Value = Vec<NodeId>> {
        proptest::collection::vec(any::<i32>().prop_map(NodeId), 0..5)
    }

    fn partition() -> impl Strategy<Value = PartitionRecord> {
        let ids = (any::<[u8; 16]>(), any::<i32>(), any::<u64>());
        let epochs = (any::<i32>(), any::<i32>(), any::<i32>());
        let elections = (any::<bool>(), any::<Option<i32>>(), nodes());
        let elections = elections.prop_map(|(recovering, unclean, left)| Elections {
            recovering,
            unclean: unclean.map(LeaderEpoch),
            left,
        });
        let all = (ids, nodes(), nodes(), epochs, elections);
        all.prop_map(|(ids, replicas, isr, epochs, elections)| PartitionRecord {
            topic: TopicId(ids.0),
            index: ids.1,
            log: LogId(ids.2),
            directories: replicas
                .iter()
                .map(|node: &NodeId| DirectoryId::new(node.0 as u64, StoreId(7)))
                .collect(),
            replicas,
            isr,
            leader: NodeId(epochs.0),
            leader_epoch: LeaderEpoch(epochs.1),
            partition_epoch: epochs.2,
            elections,
        })
    }

    fn resource() -> impl Strategy<Value = ConfigResource> {
        prop_oneof![
            any::<String>().prop_map(ConfigResource::Topic),
            any::<Option<i32>>().prop_map(|node| ConfigResource::Broker(node.map(NodeId))),
            any::<String>().prop_map(ConfigResource::Group),
        ]
    }

    fn member() -> impl Strategy<Value = NodeProcess> {
        any::<(i32, u64)>().prop_map(|(node, incarnation)| NodeProcess {
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
        })
    }

    fn registration() -> impl Strategy<Value = Registration> {
        let ids = (member(), any::<[u8; 16]>(), any::<bool>(), any::<u16>());
        let address = any::<(String, String, u16, Vec<u16>)>();
        let address = address.prop_map(|(listener, host, port, shards)| BrokerAddress {
            listener,
            host,
            port,
            shards,
        });
        let addresses = proptest::collection::vec(address, 0..3);
        (ids, any::<Option<String>>(), addresses, any::<Vec<u16>>()).prop_map(
            |((member, start, fenced, level), rack, addresses, shards)| Registration {
                member,
                start,
                fenced,
                level,
                rack,
                addresses,
                directories: (0..)
                    .zip(shards)
                    .map(|(store, shard)| Directory {
                        id: DirectoryId::new(9, StoreId(store)),
                        shard: ShardId(shard),
                    })
                    .collect(),
            },
        )
    }

    fn record() -> impl Strategy<Value = MetadataRecord> {
        let id = any::<[u8; 16]>().prop_map(TopicId);
        prop_oneof![
            any::<String>().prop_map(|id| MetadataRecord::Cluster { id }),
            (any::<String>(), id.clone()).prop_map(|(name, id)| MetadataRecord::Topic { name, id }),
            partition().prop_map(MetadataRecord::Partition),
            id.prop_map(|id| MetadataRecord::RemoveTopic { id }),
            (resource(), any::<String>(), any::<Option<String>>()).prop_map(
                |(resource, key, value)| MetadataRecord::Config {
                    resource,
                    key,
                    value
                }
            ),
            any::<i64>().prop_map(|next| MetadataRecord::ProducerIds { next }),
            any::<(u64, u64)>()
                .prop_map(|(version, next_log)| MetadataRecord::SnapshotEnd { version, next_log }),
            Just(MetadataRecord::SnapshotBegin),
            any::<u16>().prop_map(|level| MetadataRecord::Features { level }),
            any::<u64>().prop_map(|log| MetadataRecord::Stray { log: LogId(log) }),
            registration().prop_map(MetadataRecord::Broker),
            (member(), any::<bool>())
                .prop_map(|(member, fenced)| MetadataRecord::Fence { member, fenced }),
            any::<i32>().prop_map(|node| MetadataRecord::RemoveBroker { node: NodeId(node) }),
        ]
    }

    proptest! {
        #[test]
        fn a_record_survives_its_bytes(record in record()) {
            let bytes = record.encode(FEATURE_LEVEL);
            prop_assert_eq!(MetadataRecord::decode(&bytes), Ok(record));
            for end in 0..bytes.len() {
                prop_assert!(MetadataRecord::decode(&bytes[..end]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_survived(kind in 0u8..14, version in 0u8..2, mut bytes: Vec<u8>) {
            let _ = MetadataRecord::decode(&bytes);
            bytes.splice(0..0, [kind, version]);
            let _ = MetadataRecord::decode(&bytes);
        }
    }

    #[test]
    fn every_kind_is_tried() {
        let kinds = one_of_each().iter().map(MetadataRecord::kind).collect();
        let all = (1..VERSIONS.len() as u8).collect::<BTreeSet<_>>();
        assert_eq!(all, kinds, "controller::testing::one_of_each lacks one");
    }

    #[test]
    fn the_bytes_of_a_release_stay_readable() {
        // Written by the first release. If this fails, the records on disks out there are lost.
        let bytes = [3, 0]
            .into_iter()
            .chain([7; 16])
            .chain([4, 5, 1, 2])
            .chain([6; 16])
            .chain([1, 2, 2, 0, 0]);
        let bytes: Vec<u8> = bytes.collect();
        let want = PartitionRecord {
            topic: TopicId([7; 16]),
            index: 2,
            log: LogId(5),
            replicas: vec![NodeId(1)],
            directories: vec![DirectoryId([6; 16])],
            isr: vec![NodeId(1)],
            leader: NodeId(1),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            elections: Elections::default(),
        };
        let want = MetadataRecord::Partition(want);
        assert_eq!(MetadataRecord::decode(&bytes), Ok(want.clone()));
        assert_eq!(want.encode(ELECTIONS_LEVEL - 1), bytes);
    }

    #[test]
    fn what_a_broker_registered_with_an_earlier_release_is_read() {
        let mut bytes = vec![BROKER, 0, 2, 1];
        bytes.extend([6; 16]);
        bytes.push(3);
        let registration = Registration {
            member: NodeProcess {
                node: NodeId(1),
                incarnation: Incarnation(0),
            },
            directories: vec![Directory {
                id: DirectoryId([6; 16]),
                shard: ShardId(3),
            }],
            ..Registration::default()
        };
        let record = MetadataRecord::Broker(registration);
        assert_eq!(MetadataRecord::decode(&bytes), Ok(record.clone()));
        assert_eq!(record.encode(REGISTRATION_LEVEL - 1), bytes);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert_eq!(
            MetadataRecord::decode(&[14, 0]),
            Err(BadRecord::UnknownType(14))
        );
        assert_eq!(
            MetadataRecord::decode(&[6, 1, 2]),
            Err(BadRecord::UnknownVersion(6, 1))
        );
        assert_eq!(
            MetadataRecord::decode(&[6, 0, 2, 2]),
            Err(BadRecord::TrailingBytes)
        );
        // A list that claims more than there is, and a number of more than 64 bits.
        let mut bytes = vec![6, 0];
        bytes.extend([0xff; 9]);
        bytes.push(2);
        assert_eq!(
            MetadataRecord::decode(&bytes),
            Err(BadRecord::BadField("number"))
        );
    }
}
