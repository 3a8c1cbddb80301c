//! Committed offsets of groups: read and written, from outside or as a member.

use std::collections::BTreeMap;

use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_wire::{OffsetCommitRequest, OffsetFetchRequest};
use kafka_wire_core::StrBytes;
use millrace_client::{ClientError, Cluster, Result, message};

/// Newest versions of OffsetCommit and OffsetFetch that name topics by name.
const OFFSETS_BY_NAME_UNTIL: i16 = 9;
/// From this version on, OffsetFetch asks for a list of groups.
const FETCH_GROUPS_SINCE: i16 = 8;

/// Committed offsets, by topic and partition.
pub type Offsets = BTreeMap<(String, i32), i64>;

/// Who commits: nobody of the group, who may do so while it has no members, or a member with its epoch.
#[derive(Clone, Copy, Debug)]
pub struct Committer<'a> {
    /// Its member id.
    pub id: &'a str,
    /// Its member epoch.
    pub epoch: i32,
}

impl Committer<'_> {
    /// No member.
    pub const NOBODY: Self = Self { id: "", epoch: -1 };
}

/// All offsets that the group has committed.
pub fn committed(cluster: &mut Cluster, group: &str) -> Result<Offsets> {
    let conn = cluster.coordinator(group)?;
    let version = conn.version_up_to::<OffsetFetchRequest>(OFFSETS_BY_NAME_UNTIL)?;
    let id = StrBytes::from(group);
    let request = if version >= FETCH_GROUPS_SINCE {
        let asked = message!(OffsetFetchRequestGroup {
            group_id: id,
            member_id: None,
            member_epoch: -1,
            topics: None,
        });
        message!(OffsetFetchRequest {
            groups: vec![asked]
        })
    } else {
        message!(OffsetFetchRequest {
            group_id: id,
            topics: None
        })
    };
    let response = conn.call_at(&request, version)?;
    let what = || format!("ask for the offsets of group '{group}'");
    ClientError::check(what, response.error_code, None)?;
    let mut offsets = Offsets::new();
    for topic in &response.topics {
        for p in &topic.partitions {
            ClientError::check(what, p.error_code, None)?;
            offsets.insert(
                (topic.name.to_string(), p.partition_index),
                p.committed_offset,
            );
        }
    }
    for group in &response.groups {
        ClientError::check(what, group.error_code, None)?;
        for topic in &group.topics {
            for p in &topic.partitions {
                ClientError::check(what, p.error_code, None)?;
                offsets.insert(
                    (topic.name.to_string(), p.partition_index),
                    p.committed_offset,
                );
            }
        }
    }
    offsets.retain(|_, offset| *offset >= 0);
    Ok(offsets)
}

/// Commits these offsets.
pub fn commit(
    cluster: &mut Cluster,
    group: &str,
    who: Committer<'_>,
    offsets: &Offsets,
) -> Result<()> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in offsets {
        topics
            .entry(topic)
            .or_default()
            .push(message!(OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                committed_leader_epoch: -1,
                committed_metadata: Some(StrBytes::from("")),
            }));
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        message!(OffsetCommitRequestTopic {
            name: StrBytes::from(name),
            partitions: partitions,
        })
    });
    let request = message!(OffsetCommitRequest {
        group_id: StrBytes::from(group),
        generation_id_or_member_epoch: who.epoch,
        member_id: StrBytes::from(who.id),
        group_instance_id: None,
        topics: topics.collect(),
    });
    let conn = cluster.coordinator(group)?;
    let version = conn.version_up_to::<OffsetCommitRequest>(OFFSETS_BY_NAME_UNTIL)?;
    for topic in conn.call_at(&request, version)?.topics {
        for partition in topic.partitions {
            let index = partition.partition_index;
            let what = || format!("commit the offset of {}-{index}", topic.name);
            ClientError::check(what, partition.error_code, None)?;
        }
    }
    Ok(())
}
