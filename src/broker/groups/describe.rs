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

use super::answers::error_of;
use super::plan::{Asks, GroupAnswers, GroupPlan, MakeResponse, PlanCx, name, text};
use crate::base::ErrorCode;
use crate::coordinator::{Described, DescribedMember, GroupAnswer, GroupAsk};
use crate::group::{Name, State};
use crate::wire::{RequestHeader, WireError, decode};

/// The type of all groups here, as ListGroups names it.
const CLASSIC: &str = "classic";

/// What everybody may do with a group where there are no ACLs: READ, DELETE, DESCRIBE,
/// DESCRIBE_CONFIGS and ALTER_CONFIGS, as bits.
const ALL_GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// DescribeGroups.
pub fn describe_groups(
    _: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: DescribeGroupsRequest = decode(body, header.version)?;
    let version = header.version;
    // Each once: a large group named very often would make an answer of any size.
    let mut seen = BTreeSet::new();
    let ids = request.groups.into_iter().map(|id| name(&id));
    let ids: Vec<Name> = ids.filter(|id| seen.insert(id.clone())).collect();
    let asks = ids.iter().cloned().map(GroupAsk::Describe).collect();
    let tell_operations = request.include_authorized_operations;
    Ok(GroupPlan::ask(asks, move |answers| {
        let mut response = DescribeGroupsResponse::default();
        for (id, answer) in ids.iter().zip(answers) {
            let mut described = match answer {
                GroupAnswer::Described(Ok(Some(group))) => describe(group),
                GroupAnswer::Described(Ok(None)) => unknown_group(version, id),
                GroupAnswer::Described(Err(error)) => refused(error),
                other => refused(error_of(Some(other))),
            };
            described.group_id = text(id);
            if tell_operations && described.error_code == 0 {
                described.authorized_operations = ALL_GROUP_OPERATIONS;
            }
            response.groups.push(described);
        }
        response
    }))
}

/// ListGroups. Which groups there are is put together of what every shard has: a client asks each broker once.
pub fn list_groups(
    _: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: ListGroupsRequest = decode(body, header.version)?;
    Ok(GroupPlan {
        asks: Asks::List,
        shape: MakeResponse::new(move |answers| list(&request, answers)),
    })
}

fn list(request: &ListGroupsRequest, answers: GroupAnswers) -> ListGroupsResponse {
    let by_type = wanted(&request.types_filter, CLASSIC);
    // Looked up once for each state, however many are named.
    let by_state = State::ALL.map(|state| (state, wanted(&request.states_filter, state.name())));
    let by_state = |state: State| by_state.contains(&(state, true));
    let mut response = ListGroupsResponse::default();
    let mut all = Vec::new();
    for answer in answers {
        let listed = match answer {
            GroupAnswer::Listed(listed) => listed,
            other => Err(error_of(Some(other))),
        };
        match listed {
            Ok(groups) => all.extend(groups),
            Err(error) => {
                response.error_code = error.code();
                return response;
            }
        }
    }
    all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let groups = all.into_iter().filter(|_| by_type);
    for group in groups.filter(|group| by_state(group.state)) {
        let mut listed = ListedGroup::default();
        listed.group_id = text(&group.id);
        listed.protocol_type = group.protocol_type.as_ref().map(text).unwrap_or_default();
        listed.group_state = StrBytes::from(group.state.name());
        listed.group_type = StrBytes::from(CLASSIC);
        response.groups.push(listed);
    }
    response
}

/// Whether a filter lets a value through; one that names nothing lets all.
fn wanted(filter: &[StrBytes], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|f| f.trim().eq_ignore_ascii_case(value))
}

/// DeleteGroups.
pub fn delete_groups(
    _: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: DeleteGroupsRequest = decode(body, header.version)?;
    let ids: BTreeSet<Name> = request.groups_names.iter().map(name).collect();
    let asks = ids.iter().cloned().map(GroupAsk::Delete).collect();
    Ok(GroupPlan::ask(asks, move |answers| {
        let mut response = DeleteGroupsResponse::default();
        let results = ids.iter().zip(answers).map(|(id, answer)| {
            let mut result = DeletableGroupResult::default();
            result.group_id = text(id);
            result.error_code = error_of(Some(answer)).code();
            result
        });
        response.results = results.collect();
        response
    }))
}

fn refused(error: ErrorCode) -> DescribedGroup {
    let mut described = DescribedGroup::default();
    described.error_code = error.code();
    described
}

/// From version 6 on an unknown group is an error (KIP-1043); before, it was a dead group.
fn unknown_group(version: i16, id: &Name) -> DescribedGroup {
    let mut described = DescribedGroup::default();
    described.group_state = StrBytes::from(State::Dead.name());
    if version >= 6 {
        described.error_code = ErrorCode::GroupIdNotFound.code();
        described.error_message = Some(StrBytes::from(format!("Group {id} not found.")));
    }
    described
}

fn describe(group: Described) -> DescribedGroup {
    let mut described = DescribedGroup::default();
    described.group_state = StrBytes::from(group.state.name());
    described.protocol_type = group.protocol_type.as_ref().map(text).unwrap_or_default();
    described.protocol_data = group.protocol.as_ref().map(text).unwrap_or_default();
    described.members = group.members.into_iter().map(describe_member).collect();
    described
}

fn describe_member(member: DescribedMember) -> DescribedGroupMember {
    let mut described = DescribedGroupMember::default();
    described.member_id = text(&member.id);
    described.group_instance_id = member.instance.as_ref().map(text);
    described.client_id = text(&member.client_id);
    described.client_host = text(&member.client_host);
    described.member_metadata = member.metadata;
    described.member_assignment = member.assignment;
    described
}
