//! Who is in a group: of the classic protocol (DescribeGroups) or of the consumer protocol
//! (ConsumerGroupDescribe, KIP-848).

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_wire::{
    ConsumerGroupDescribeRequest, DescribeGroupsRequest, ListGroupsRequest,
    decode_consumer_protocol_assignment,
};
use kafka_wire_core::{DecodeLimits, StrBytes};
use millrace::base::ErrorCode;
use millrace_client::{ClientError, Cluster, Result, message};

/// Partitions by topic.
pub type Assigned = BTreeMap<String, Vec<i32>>;

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its `group.instance.id`, if it is static.
    pub instance: Option<String>,
    /// Its client id.
    pub client: String,
    /// Where it connects from.
    pub host: String,
    /// What it reads; not known of protocols that are not consumers'.
    pub partitions: Option<Assigned>,
}

/// A group.
#[derive(Clone, Debug)]
pub struct Described {
    /// `classic` or `consumer`.
    pub kind: &'static str,
    /// Its state, as the broker calls it.
    pub state: String,
    /// How partitions are given to members; empty if nobody has chosen.
    pub assignor: String,
    /// The group epoch, of the consumer protocol.
    pub epoch: Option<i32>,
    /// `host:port` of its coordinator.
    pub coordinator: String,
    /// Its members.
    pub members: Vec<Member>,
}

impl Described {
    /// The member that has a partition.
    pub fn owners(&self) -> BTreeMap<(String, i32), &str> {
        let mut owners = BTreeMap::new();
        for member in &self.members {
            for (topic, partitions) in member.partitions.iter().flatten() {
                for partition in partitions {
                    owners.insert((topic.clone(), *partition), member.id.as_str());
                }
            }
        }
        owners
    }
}

/// Asks the group's coordinator; an error if there is no such group.
pub fn described(cluster: &mut Cluster, group: &str) -> Result<Described> {
    match consumer(cluster, group) {
        Err(ClientError::Refused { code, .. }) if code == ErrorCode::GroupIdNotFound.code() => {}
        // Brokers before 3.7 know no such groups.
        Err(ClientError::Unsupported { .. }) => {}
        other => return other,
    }
    match classic(cluster, group) {
        Err(ClientError::Refused { code, .. }) if code == ErrorCode::GroupIdNotFound.code() => {
            Err(ClientError::Refused {
                what: what(group)(),
                code,
                message: Some(match other_kind(cluster, group)? {
                    Some(kind) => format!(
                        "it is a {kind} group, which this program lists and does not describe"
                    ),
                    None => "`millracectl groups list` shows those there are".to_owned(),
                }),
            })
        }
        other => other,
    }
}

/// The kind of a group that is there and answers neither of the two requests.
fn other_kind(cluster: &mut Cluster, group: &str) -> Result<Option<String>> {
    let listed = cluster
        .coordinator(group)?
        .call(&ListGroupsRequest::default())?;
    ClientError::check(|| "list groups".to_owned(), listed.error_code, None)?;
    let found = listed
        .groups
        .iter()
        .find(|listed| listed.group_id.as_str() == group);
    Ok(found.map(|listed| listed.group_type.to_lowercase()))
}

fn what(group: &str) -> impl Fn() -> String {
    move || format!("describe group '{group}'")
}

fn consumer(cluster: &mut Cluster, group: &str) -> Result<Described> {
    let request = message!(ConsumerGroupDescribeRequest {
        group_ids: vec![StrBytes::from(group)]
    });
    let conn = cluster.coordinator(group)?;
    let coordinator = conn.address().to_owned();
    let found = conn
        .call(&request)?
        .groups
        .into_iter()
        .next()
        .unwrap_or_default();
    ClientError::check(
        what(group),
        found.error_code,
        found.error_message.as_deref(),
    )?;
    let members = found.members.iter().map(|member| {
        let topics = member.assignment.topic_partitions.iter();
        Member {
            id: member.member_id.to_string(),
            instance: member.instance_id.as_ref().map(ToString::to_string),
            client: member.client_id.to_string(),
            host: member.client_host.to_string(),
            partitions: Some(
                topics
                    .map(|t| (t.topic_name.to_string(), t.partitions.clone()))
                    .collect(),
            ),
        }
    });
    Ok(Described {
        kind: "consumer",
        state: found.group_state.to_string(),
        assignor: found.assignor_name.to_string(),
        epoch: Some(found.group_epoch),
        coordinator,
        members: members.collect(),
    })
}

fn classic(cluster: &mut Cluster, group: &str) -> Result<Described> {
    let request = message!(DescribeGroupsRequest {
        groups: vec![StrBytes::from(group)]
    });
    let conn = cluster.coordinator(group)?;
    let coordinator = conn.address().to_owned();
    let found = conn
        .call(&request)?
        .groups
        .into_iter()
        .next()
        .unwrap_or_default();
    ClientError::check(
        what(group),
        found.error_code,
        found.error_message.as_deref(),
    )?;
    let is_consumers = found.protocol_type.as_str() == "consumer";
    let members = found.members.iter().map(|member| Member {
        id: member.member_id.to_string(),
        instance: member.group_instance_id.as_ref().map(ToString::to_string),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        partitions: assigned(&member.member_assignment).filter(|_| is_consumers),
    });
    Ok(Described {
        kind: "classic",
        state: found.group_state.to_string(),
        assignor: found.protocol_data.to_string(),
        epoch: None,
        coordinator,
        members: members.collect(),
    })
}

/// What a member's assignment says, which clients have written; nothing where it makes no sense.
fn assigned(assignment: &Bytes) -> Option<Assigned> {
    if assignment.is_empty() {
        return Some(Assigned::new());
    }
    let limits = DecodeLimits::default();
    let (_, decoded) = decode_consumer_protocol_assignment(assignment.clone(), limits).ok()?;
    let topics = decoded.assigned_partitions.iter();
    Some(
        topics
            .map(|t| (t.topic.to_string(), t.partitions.clone()))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_of_clients_are_read_or_not_known() {
        // Version 0, one topic "t" with partition 1, no user data.
        let bytes = b"\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x01\xff\xff\xff\xff";
        let found = assigned(&Bytes::from_static(bytes));
        assert_eq!(found, Some(Assigned::from([("t".into(), vec![1])])));
        assert_eq!(assigned(&Bytes::new()), Some(Assigned::new()));
        assert_eq!(assigned(&Bytes::from_static(b"nonsense")), None);
    }

    #[test]
    fn owners_are_found_by_partition() {
        let member = |id: &str, partition| Member {
            id: id.into(),
            instance: None,
            client: String::new(),
            host: String::new(),
            partitions: Some(Assigned::from([("t".into(), vec![partition])])),
        };
        let described = Described {
            kind: "classic",
            state: "Stable".into(),
            assignor: "range".into(),
            epoch: None,
            coordinator: String::new(),
            members: vec![member("a", 0), member("b", 1)],
        };
        assert_eq!(described.owners().get(&("t".into(), 1)), Some(&"b"));
    }
}
