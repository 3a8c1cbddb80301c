//! Metadata records as bytes: type, version of the type, fields. Numbers are
//! LEB128, signed ones zigzag first; texts and lists have a length in front.
//! Reading never panics and never allocates more than a small multiple of the
//! bytes it is given. A type or version it does not know is an error: to skip
//! a change of the metadata would be to have different metadata.

use bytes::Bytes;

use super::features::FeatureLevel;
use super::record::{ConfigResource, Directory, MetadataRecord, PartitionRecord};
use crate::base::{DirectoryId, LeaderEpoch, LogId, NodeId, ShardId, TopicId};

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

/// By type: the feature level from which on each version of it is written, oldest version first.
const VERSIONS: [&[FeatureLevel]; 12] = [
    &[], // There is no type 0.
    &[0],
    &[1],
    &[1],
    &[1],
    &[1],
    &[1],
    &[1],
    &[0],
    &[0],
    &[1],
    &[1],
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
            Self::Broker { .. } => BROKER,
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
        out.extend([self.kind(), version(self.kind(), level)]);
        match self {
            Self::Cluster { id } => put_text(&mut out, id),
            Self::Features { level } => put_unsigned(&mut out, u64::from(*level)),
            Self::Broker { node, directories } => {
                put_signed(&mut out, node.0.into());
                put_unsigned(&mut out, directories.len() as u64);
                for directory in directories {
                    out.extend(directory.id.0);
                    put_unsigned(&mut out, directory.shard.0.into());
                }
            }
            Self::Topic { name, id } => {
                put_text(&mut out, name);
                out.extend(id.0);
            }
            Self::Partition(partition) => put_partition(&mut out, partition),
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
            PARTITION => Self::Partition(fields.partition()?),
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
                level: u16::try_from(fields.unsigned()?)
                    .map_err(|_| BadRecord::BadField("feature level"))?,
            },
            BROKER => Self::Broker {
                node: NodeId(fields.int()?),
                directories: fields.directories()?,
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
    }
}

fn put_partition(out: &mut Vec<u8>, partition: &PartitionRecord) {
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

    fn topic_id(&mut self) -> Result<TopicId, BadRecord> {
        let bytes = self.take(16)?.try_into();
        Ok(TopicId(bytes.map_err(|_| BadRecord::Truncated)?))
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

    fn nodes(&mut self) -> Result<Vec<NodeId>, BadRecord> {
        let len = self.unsigned()?;
        // Each node takes a byte at least, so a list is never larger than what claims it.
        if len > self.0.len() as u64 {
            return Err(BadRecord::Truncated);
        }
        (0..len).map(|_| self.int().map(NodeId)).collect()
    }

    fn resource(&mut self) -> Result<ConfigResource, BadRecord> {
        match self.byte()? {
            0 => self.text().map(ConfigResource::Topic),
            1 => self
                .option(|fields| fields.int().map(NodeId))
                .map(ConfigResource::Broker),
            _ => Err(BadRecord::BadField("resource")),
        }
    }

    fn directories(&mut self) -> Result<Vec<Directory>, BadRecord> {
        let len = self.unsigned()?;
        if len > self.0.len() as u64 {
            return Err(BadRecord::Truncated);
        }
        let directory = |_| {
            Ok(Directory {
                id: self.topic_id().map(|id| DirectoryId(id.0))?,
                shard: u16::try_from(self.unsigned()?)
                    .map(ShardId)
                    .map_err(|_| BadRecord::BadField("shard"))?,
            })
        };
        (0..len).map(directory).collect()
    }

    fn partition(&mut self) -> Result<PartitionRecord, BadRecord> {
        let (topic, index) = (self.topic_id()?, self.int()?);
        let log = LogId(self.unsigned()?);
        let replicas = self.nodes()?;
        let directories = replicas
            .iter()
            .map(|_| self.topic_id().map(|id| DirectoryId(id.0)))
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
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::StoreId;
    use crate::controller::FEATURE_LEVEL;

    fn nodes() -> impl Strategy<Value = Vec<NodeId>> {
        proptest::collection::vec(any::<i32>().prop_map(NodeId), 0..5)
    }

    fn partition() -> impl Strategy<Value = PartitionRecord> {
        let ids = (any::<[u8; 16]>(), any::<i32>(), any::<u64>());
        let epochs = (any::<i32>(), any::<i32>(), any::<i32>());
        (ids, nodes(), nodes(), epochs).prop_map(|(ids, replicas, isr, epochs)| PartitionRecord {
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
        })
    }

    fn resource() -> impl Strategy<Value = ConfigResource> {
        prop_oneof![
            any::<String>().prop_map(ConfigResource::Topic),
            any::<Option<i32>>().prop_map(|node| ConfigResource::Broker(node.map(NodeId))),
        ]
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
            (any::<i32>(), any::<Vec<u16>>()).prop_map(|(node, shards)| MetadataRecord::Broker {
                node: NodeId(node),
                directories: (0..)
                    .zip(shards)
                    .map(|(store, shard)| Directory {
                        id: DirectoryId::new(9, StoreId(store)),
                        shard: ShardId(shard),
                    })
                    .collect(),
            }),
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
        fn any_bytes_are_survived(kind in 0u8..12, mut bytes: Vec<u8>) {
            let _ = MetadataRecord::decode(&bytes);
            bytes.splice(0..0, [kind, 0]);
            let _ = MetadataRecord::decode(&bytes);
        }
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
        };
        assert_eq!(
            MetadataRecord::decode(&bytes),
            Ok(MetadataRecord::Partition(want))
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert_eq!(
            MetadataRecord::decode(&[12, 0]),
            Err(BadRecord::UnknownType(12))
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
