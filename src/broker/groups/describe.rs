//! DescribeGroups (15), ListGroups (16), DeleteGroups (42).

use std::collections::BTreeSet;

use bytes::Bytes;
use kafka_wire::delete_groups_response::DeletableGroupResult;
use kafka_wire::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_wire::list_groups_response::ListedGroup;
use kafka_wire::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    ListGroupsRequest, ListGroupsResponse,
};
use kafka_wire_core::StrBytes;

use super::call::{Call, GroupEffect, Origin, TopicLookup, name, reply, text};
use super::service::{DeleteBatch, GroupService, Wait};
use crate::base::{ErrorCode, Now};
use crate::group::{ClassicGroup, Member, Name, State};
use crate::wire::{RequestHeader, WireError, decode, encode_response};

/// The type of all groups here, as ListGroups names it.
const CLASSIC: &str = "classic";

/// What everybody may do with a group where there are no ACLs: READ, DELETE, DESCRIBE,
/// DESCRIBE_CONFIGS and ALTER_CONFIGS, as bits.
const ALL_GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// The answer to ListGroups of a broker that coordinates none: with direct ports, of every shard but
/// the control shard. Clients ask all brokers and put the answers together.
///
/// # Errors
/// None that is known: the answer has nothing in it.
pub fn no_groups(header: &RequestHeader) -> Result<Bytes, WireError> {
    let response = ListGroupsResponse::default();
    encode_response(header.correlation_id, header.version, &response)
}

impl GroupService {
    pub(crate) fn describe_groups(
        &mut self,
        _: Now,
        origin: Origin,
        call: Call,
        topics: &dyn TopicLookup,
        out: &mut Vec<GroupEffect>,
    ) -> Result<(), WireError> {
        let request: DescribeGroupsRequest = decode(call.body, origin.version)?;
        let mut response = DescribeGroupsResponse::default();
        // Each once: a large group named very often would make an answer of any size.
        let mut seen = BTreeSet::new();
        for id in request.groups.iter().filter(|id| seen.insert(id.as_str())) {
            let mut described = match (self.serving(id, topics), self.coordinator.group(id)) {
                (Err(error), _) => {
                    let mut described = DescribedGroup::default();
                    described.error_code = error.code();
                    described
                }
                (Ok(_), Some(group)) => describe(group),
                (Ok(_), None) => unknown_group(origin.version, id),
            };
            described.group_id = id.clone();
            if request.include_authorized_operations && described.error_code == 0 {
                described.authorized_operations = ALL_GROUP_OPERATIONS;
            }
            response.groups.push(described);
        }
        reply(origin, &response, out);
        Ok(())
    }

    pub(crate) fn list_groups(
        &mut self,
        _: Now,
        origin: Origin,
        call: Call,
        _: &dyn TopicLookup,
        out: &mut Vec<GroupEffect>,
    ) -> Result<(), WireError> {
        let request: ListGroupsRequest = decode(call.body, origin.version)?;
        let mut response = ListGroupsResponse::default();
        if self.stopped {
            response.error_code = ErrorCode::CoordinatorNotAvailable.code();
            reply(origin, &response, out);
            return Ok(());
        }
        let wanted = |filter: &[StrBytes], value: &str| {
            filter.is_empty() || filter.iter().any(|f| f.trim().eq_ignore_ascii_case(value))
        };
        let by_type = wanted(&request.types_filter, CLASSIC);
        let groups = self.coordinator.groups().filter(|_| by_type);
        for group in groups.filter(|g| wanted(&request.states_filter, g.state().name())) {
            let mut listed = ListedGroup::default();
            listed.group_id = text(group.id());
            listed.protocol_type = group.protocol_type().map(text).unwrap_or_default();
            listed.group_state = StrBytes::from(group.state().name());
            listed.group_type = StrBytes::from(CLASSIC);
            response.groups.push(listed);
        }
        reply(origin, &response, out);
        Ok(())
    }

    pub(crate) fn delete_groups(
        &mut self,
        now: Now,
        origin: Origin,
        call: Call,
        topics: &dyn TopicLookup,
        out: &mut Vec<GroupEffect>,
    ) -> Result<(), WireError> {
        let request: DeleteGroupsRequest = decode(call.body, origin.version)?;
        let ids: BTreeSet<Name> = request.groups_names.iter().map(name).collect();
        let number = self.number();
        let mut batch = DeleteBatch {
            origin,
            response: DeleteGroupsResponse::default(),
            // One more, so that the batch does not end before everything is asked for.
            waiting: ids.len() + 1,
        };
        batch.response.results = ids.iter().map(deletable).collect();
        self.deletes.insert(number, batch);
        let mut effects = Vec::new();
        for (index, id) in ids.iter().enumerate() {
            let wait = self.wait(Wait::DeleteGroup(number, index));
            let asked = match self.serving(id, topics) {
                Ok(_) => self.coordinator.delete_group(now, wait, id, &mut effects),
                Err(error) => Err(error),
            };
            if let Err(error) = asked {
                self.waits.remove(&wait);
                self.group_deleted(number, index, error, out);
            }
        }
        self.perform(effects, out);
        self.batch_went_on(number, out);
        Ok(())
    }
}

fn deletable(id: &Name) -> DeletableGroupResult {
    let mut result = DeletableGroupResult::default();
    result.group_id = text(id);
    result
}

/// From version 6 on an unknown group is an error (KIP-1043); before, it was a dead group.
fn unknown_group(version: i16, id: &StrBytes) -> DescribedGroup {
    let mut described = DescribedGroup::default();
    described.group_state = StrBytes::from(State::Dead.name());
    if version >= 6 {
        described.error_code = ErrorCode::GroupIdNotFound.code();
        described.error_message = Some(StrBytes::from(format!("Group {id} not found.")));
    }
    described
}

fn describe(group: &ClassicGroup) -> DescribedGroup {
    let mut described = DescribedGroup::default();
    described.group_state = StrBytes::from(group.state().name());
    described.protocol_type = group.protocol_type().map(text).unwrap_or_default();
    // While the group rebalances, protocol, metadata and assignments are in the making.
    let protocol = group.protocol().filter(|_| group.state() == State::Stable);
    described.protocol_data = protocol.map(text).unwrap_or_default();
    let members = group
        .members()
        .map(|(id, m)| describe_member(id, m, protocol));
    described.members = members.collect();
    described
}

fn describe_member(id: &Name, member: &Member, protocol: Option<&Name>) -> DescribedGroupMember {
    let mut described = DescribedGroupMember::default();
    described.member_id = text(id);
    described.group_instance_id = member.instance.as_ref().map(text);
    described.client_id = text(&member.client_id);
    described.client_host = text(&member.client_host);
    if let Some(protocol) = protocol {
        described.member_metadata = member.metadata(protocol);
        described.member_assignment = member.assignment.clone();
    }
    described
}
