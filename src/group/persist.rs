//! A group as its record and back.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::member::{Member, Protocol};
use super::records::{self, GroupValue, MemberValue};
use super::{ClassicGroup, Cx, Name, Record, State, Then};

impl ClassicGroup {
    /// The group as its record describes it. The record may be damaged in meaning (a leader that
    /// is no member, one instance twice); then the nearest sane group is made of it.
    pub(super) fn from_value(id: Name, value: GroupValue, record_ms: i64) -> Self {
        let record_ms = Some(record_ms).filter(|ms| *ms >= 0);
        let mut group = Self::new(id, value.state_since_ms.or(record_ms));
        group.generation = value.generation.max(0);
        group.protocol_type = value.protocol_type;
        let protocol = value.protocol.clone().unwrap_or_else(|| Name::from(""));
        for mut member in value.members {
            if group.members.contains_key(&member.member) {
                continue;
            }
            let taken = |i: &Name| group.statics.contains_key(i);
            member.instance = member.instance.filter(|i| !taken(i));
            let id = member.member.clone();
            group.insert(id, loaded_member(member, protocol.clone()));
        }
        group.protocol = value.protocol;
        if !group.members.is_empty() {
            group.state = State::Stable;
            group.protocol = Some(protocol);
            group.leader = value.leader.filter(|l| group.members.contains_key(l));
            group.choose_leader_if_none();
        }
        group.begin_looking_for_topics();
        group.look_for_topics(usize::MAX);
        group
    }

    /// The group as a record, with these assignments, for which it is asked by id.
    pub(super) fn to_value(
        &self,
        mut assignment: impl FnMut(&Name, &Member) -> Bytes,
    ) -> GroupValue {
        let protocol = self.protocol.as_deref().unwrap_or("");
        let members = self.members.iter().map(|(id, m)| MemberValue {
            member: id.clone(),
            instance: m.instance.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            rebalance_timeout_ms: m.rebalance_timeout_ms,
            session_timeout_ms: m.session_timeout_ms,
            subscription: m.metadata(protocol),
            assignment: assignment(id, m),
        });
        GroupValue {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.state_since_ms,
            members: members.collect(),
        }
    }

    /// The group's record while nobody has an assignment.
    pub(super) fn write_metadata(&self, cx: &mut Cx<'_>) {
        let record = self.metadata_record(&BTreeMap::new());
        cx.append(&self.id, vec![record], Then::Nothing);
    }

    /// The group's record with these assignments.
    pub(super) fn metadata_record(&self, assignments: &BTreeMap<Name, Bytes>) -> Record {
        let mut assignments = assignments.iter().peekable();
        let value = self.to_value(|id, _| {
            while assignments.next_if(|(of, _)| *of < id).is_some() {}
            let own = assignments.next_if(|(of, _)| *of == id);
            own.map_or_else(Bytes::new, |(_, assignment)| assignment.clone())
        });
        (
            records::group_key(&self.id),
            Some(records::group_value(&value)),
        )
    }
}

fn loaded_member(value: MemberValue, protocol: Name) -> Member {
    let metadata = value.subscription;
    Member {
        instance: value.instance,
        client_id: value.client_id,
        client_host: value.client_host,
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        session_timeout_ms: value.session_timeout_ms,
        protocols: vec![Protocol {
            name: protocol,
            metadata,
        }],
        assignment: value.assignment,
        is_new: false,
        join: None,
        sync: None,
        joined: false,
        synced: None,
    }
}
