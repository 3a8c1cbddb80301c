//! The three logs of store-0 in which this node's replica of the metadata is kept. Each of their batches is one record,
//! whose key is its kind and a version:
//!
//! - of the metadata log an entry of the quorum: the offset is its place, the leader epoch its term, the key the kind
//!   of its payload, the value two bytes 0 and the payload;
//! - of the log of the state what the replica has promised (`HardState`): the newest one counts;
//! - of the log of snapshots a part of one, see `snapshot`: the newest whole one counts.

use bytes::Bytes;

use crate::base::{LeaderEpoch, LogId, Offset, StoreId, TopicId};
use crate::broker::fx::Fx;
use crate::broker::own::run;
use crate::broker::owner::Owner;
use crate::broker::owner::settings::log_config;
use crate::config::{BrokerConfig, TopicConfig};
use crate::controller::{METADATA_LOGS, METADATA_SNAPSHOT_LOG, METADATA_STATE_LOG};
use crate::quorum::{EntryId, EntryIndex, HardState, Payload, QuorumEntry};
use crate::record::{BatchBuilder, BatchInfo, Codec};
use crate::store::LogLabel;

/// The version of the records in all three logs: the one that is written, and the only one that is read.
pub const VERSION: u8 = 0;
/// Begins the value of an entry. Releases before the quorum take it for the type and version of a metadata record of a
/// later release, and refuse to start.
const ENTRY_MARK: [u8; 2] = [0, 0];
/// The kind of record in the log of the state, which no other one has.
const STATE: u8 = 0x10;

/// What a log is of.
pub fn label(log: LogId) -> LogLabel {
    let (topic, number) = match log {
        METADATA_STATE_LOG => ("__cluster_metadata_state", 3),
        METADATA_SNAPSHOT_LOG => ("__cluster_metadata_snapshot", 4),
        // Kafka's fixed id of that topic.
        _ => ("__cluster_metadata", 1),
    };
    let mut id = [0; 16];
    id[15] = number;
    LogLabel {
        topic: topic.into(),
        topic_id: TopicId(id),
        partition: 0,
    }
}

/// Opens the logs, or makes them on the first start.
///
/// # Errors
/// Why that cannot be.
pub fn open_all(config: &BrokerConfig, owner: &mut Owner, fx: &Fx<'_>) -> Result<(), String> {
    let slot = owner.slot_of(StoreId(0));
    let slot = slot.ok_or("store-0, which holds the metadata log, is missing")?;
    let topic = TopicConfig::effective(config, &Default::default());
    let mut config = log_config("__cluster_metadata", &topic, config);
    // What is not needed any more is dropped when a snapshot says so, and by nothing else.
    config.retention_ms = -1;
    config.retention_bytes = -1;
    // A decided change has to fit, however short the segments of topics are.
    config.segment_bytes = u64::MAX;
    for log in METADATA_LOGS {
        let label = label(log);
        let topic = label.topic.clone();
        owner.open_own(fx.now, slot, log, label, config);
        if !owner.partitions.contains_key(&log) {
            return Err(format!("log {log} of store-0 is not {topic}"));
        }
    }
    Ok(())
}

/// A batch of one record.
pub fn batch_of(kind: u8, value: &[u8], wall_ms: i64) -> Bytes {
    let mut batch = BatchBuilder::with_capacity(Codec::None, wall_ms, value.len() + 32);
    batch.push(wall_ms, Some(&[kind, VERSION]), Some(value), &[]);
    batch.build()
}

/// Kind and value of the one record of a batch.
///
/// # Errors
/// It is none of this release's.
pub fn record_of(batch: &[u8]) -> Result<(u8, Bytes), String> {
    let mut found = None;
    run::feed(batch, &mut |key, value, _| {
        let (Some([kind, version]), Some(value), None) = (key, value, &found) else {
            return Err("a batch that is not one record with its kind".into());
        };
        if *version != VERSION {
            return Err(format!(
                "version {version} of kind {kind} is of a later release"
            ));
        }
        found = Some((*kind, Bytes::copy_from_slice(value)));
        Ok(())
    })?;
    found.ok_or_else(|| "an empty batch".into())
}

/// An entry as a batch, without its place.
pub fn entry_batch(payload: &Payload, wall_ms: i64) -> Bytes {
    let (kind, payload) = payload.encode();
    let value = [&ENTRY_MARK[..], &payload].concat();
    batch_of(kind, &value, wall_ms)
}

/// The entry that a batch is.
///
/// # Errors
/// It is none of this release's.
pub fn entry_of(info: &BatchInfo, batch: &[u8]) -> Result<QuorumEntry, String> {
    let (kind, value) = record_of(batch)?;
    let payload = match value.starts_with(&ENTRY_MARK) {
        true => Payload::decode(kind, &value.slice(ENTRY_MARK.len()..)),
        false => None,
    };
    let index = u64::try_from(info.base_offset).map_err(|_| "an entry before the first one")?;
    Ok(QuorumEntry {
        id: EntryId {
            term: LeaderEpoch(info.leader_epoch),
            index: EntryIndex(index),
        },
        payload: payload.ok_or_else(|| format!("an entry of kind {kind} that is none"))?,
    })
}

/// The state as a batch.
pub fn state_batch(state: &HardState, wall_ms: i64) -> Bytes {
    batch_of(STATE, &state.encode(), wall_ms)
}

/// The state that a batch is.
///
/// # Errors
/// It is none of this release's.
pub fn state_of(batch: &[u8]) -> Result<HardState, String> {
    match record_of(batch)? {
        (STATE, value) => HardState::decode(&value).ok_or_else(|| "a state that is none".into()),
        (kind, _) => Err(format!("kind {kind} of state is of a later release")),
    }
}

/// Where an entry is in the log. What was read of a disk, or is to be written, is far below the end of offsets.
pub fn offset_of(index: EntryIndex) -> Offset {
    Offset(i64::try_from(index.0).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DirectoryId, NodeId};
    use crate::controller::{BadRecord, MetadataRecord};
    use crate::quorum::{ReplicaKey, Voters};
    use crate::record;

    #[test]
    fn an_entry_is_one_record_whose_place_is_its_offset() {
        for payload in [
            Payload::LeaderChange,
            Payload::Records(Bytes::from_static(b"x")),
        ] {
            let mut batch = entry_batch(&payload, 5).to_vec();
            record::stamp(&mut batch, Offset(7), LeaderEpoch(3));
            let info = record::parse(&batch).unwrap();
            let entry = entry_of(&info, &batch).unwrap();
            assert_eq!(
                (entry.id.term, entry.id.index),
                (LeaderEpoch(3), EntryIndex(7))
            );
            assert_eq!((entry.payload, info.last_offset()), (payload, 7));
            let last = batch.len() - 1;
            batch[last] ^= 1;
            assert!(entry_of(&info, &batch).is_err());
        }
        let state = state_batch(&HardState::default(), 5);
        assert_eq!(state_of(&state), Ok(HardState::default()));
        assert!(state_of(&entry_batch(&Payload::LeaderChange, 5)).is_err());
    }

    /// A release before the quorum reads each record of the log as a metadata record, whatever its key.
    #[test]
    fn an_older_release_refuses_each_entry() {
        let voters = Voters::new([ReplicaKey {
            node: NodeId(1),
            directory: DirectoryId([1; 16]),
        }]);
        for payload in [
            Payload::LeaderChange,
            Payload::Records(Bytes::from_static(b"\x00\x02\x00\x00\x00\x08\x00")),
            Payload::Voters(voters.unwrap()),
        ] {
            let (_, value) = record_of(&entry_batch(&payload, 5)).unwrap();
            let refused = MetadataRecord::decode(&value).unwrap_err();
            assert_eq!(refused, BadRecord::UnknownType(0));
        }
    }
}
