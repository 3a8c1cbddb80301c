//! DescribeGroups (15), ListGroups (16), DeleteGroups (42).

use std::collections::{HashSet, VecDeque};

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
use super::plan::{Asks, GroupPlan, PlanCx, Written, name, text};
use crate::base::ErrorCode;
use crate::base::limits::OFFSETS_TOLD_PER_SLICE;
use crate::coordinator::{
    CLASSIC, CONSUMER, Described, DescribedMember, GroupAnswer, GroupAsk, STREAMS,
};
use crate::group::consumer::ConsumerState;
use crate::group::streams::StreamsGroupState;
use crate::group::{Name, State};
use crate::wire::{ListFrame, RequestHeader, WireError, decode, encode_response};

/// What everybody may do with a group where there are no ACLs: READ, DELETE, DESCRIBE,
/// DESCRIBE_CONFIGS and ALTER_CONFIGS, as bits.
pub(super) const ALL_GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// DescribeGroups.
pub fn describe_groups(
    _: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: DescribeGroupsRequest = decode(body, header.version)?;
    let version = header.version;
    // A large group named very often would make an answer of any size.
    let mut ids: VecDeque<Name> = each_once(&request.groups).collect();
    let ask = |id: &Name| GroupAsk::Describe(id.clone(), OFFSETS_TOLD_PER_SLICE);
    let asks = ids.iter().map(ask).collect();
    let tell_operations = request.include_authorized_operations;
    let empty = DescribeGroupsResponse::default();
    let frame = ListFrame::new(header.correlation_id, version, &empty, 0)?;
    // Where there is a place for it.
    let operations_bytes = if version >= 3 { 4 } else { 0 };
    let write = move |frame: &mut ListFrame, answer| {
        let mut described = match answer {
            GroupAnswer::Described(Ok(Some(mut group))) => {
                let mut left = OFFSETS_TOLD_PER_SLICE;
                while left > 0
                    && let Some(member) = group.members.pop_front()
                {
                    left = left.saturating_sub(member.things());
                    frame.add_part(&describe_member(member))?;
                }
                if !group.members.is_empty() {
                    let rest = GroupAnswer::Described(Ok(Some(group)));
                    return Ok(Written::Rest(rest));
                }
                describe(&group)
            }
            GroupAnswer::Described(Ok(None)) => unknown_group(version, ids.front()),
            GroupAnswer::Described(Err(error)) => refused(error),
            other => refused(error_of(Some(other))),
        };
        described.group_id = text(&ids.pop_front().unwrap_or_default());
        if tell_operations && described.error_code == 0 {
            described.authorized_operations = ALL_GROUP_OPERATIONS;
        }
        frame.add_around(&described, operations_bytes)?;
        Ok(Written::Yes)
    };
    Ok(GroupPlan::list(Asks::Groups(asks), frame, write))
}

/// ListGroups. Which groups there are is put together of what every shard has: a client asks each broker once.
pub fn list_groups(
    _: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: ListGroupsRequest = decode(body, header.version)?;
    let (id, version) = (header.correlation_id, header.version);
    let frame = ListFrame::new(id, version, &ListGroupsResponse::default(), 0)?;
    // Looked up once for each type and state, however many are named.
    let by_type =
        [CLASSIC, CONSUMER, STREAMS].map(|kind| (kind, wanted(&request.types_filter, kind)));
    let states = State::ALL.map(State::name).into_iter();
    let states = states
        .chain([ConsumerState::Assigning, ConsumerState::Reconciling].map(ConsumerState::name))
        .chain([StreamsGroupState::NotReady.name()]);
    let by_state: Vec<_> = states
        .map(|state| (state, wanted(&request.states_filter, state)))
        .collect();
    let write = move |frame: &mut ListFrame, answer| {
        let listed = match answer {
            GroupAnswer::Listed(listed) => listed,
            other => Err(error_of(Some(other))),
        };
        let (groups, more) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                let mut response = ListGroupsResponse::default();
                response.error_code = error.code();
                return encode_response(id, version, &response).map(Written::Instead);
            }
        };
        let groups = groups
            .into_iter()
            .filter(|group| by_type.contains(&(group.kind, true)));
        for group in groups.filter(|group| by_state.contains(&(group.state, true))) {
            let mut listed = ListedGroup::default();
            listed.group_id = text(&group.id);
            listed.protocol_type = group.protocol_type.as_ref().map(text).unwrap_or_default();
            listed.group_state = StrBytes::from(group.state);
            listed.group_type = StrBytes::from(group.kind);
            frame.add(&listed)?;
        }
        Ok(more.map_or(Written::Yes, Written::List))
    };
    Ok(GroupPlan::list(Asks::List, frame, write))
}

/// Whether a filter lets a value through; one that names nothing lets all.
fn wanted(filter: &[StrBytes], value: &str) -> bool {
    /// Whoever puts more blanks around a value wants them looked through.
    const BYTES_MAX: usize = 256;
    let mut possible = filter.iter().filter(|f| f.len() <= BYTES_MAX);
    filter.is_empty() || possible.any(|f| f.trim().eq_ignore_ascii_case(value))
}

/// DeleteGroups.
pub fn delete_groups(
    _: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: DeleteGroupsRequest = decode(body, header.version)?;
    let ids: Vec<Name> = each_once(&request.groups_names).collect();
    let asks = ids.iter().cloned().map(GroupAsk::Delete).collect();
    let empty = DeleteGroupsResponse::default();
    let frame = ListFrame::new(header.correlation_id, header.version, &empty, 0)?;
    let mut ids = ids.into_iter();
    let write = move |frame: &mut ListFrame, answer| {
        let mut result = DeletableGroupResult::default();
        result.group_id = text(&ids.next().unwrap_or_default());
        result.error_code = error_of(Some(answer)).code();
        frame.add(&result)?;
        Ok(Written::Yes)
    };
    Ok(GroupPlan::list(Asks::Groups(asks), frame, write))
}

/// Groups that a request names, each where it is named first.
pub(super) fn each_once(named: &[StrBytes]) -> impl Iterator<Item = Name> {
    let mut seen = HashSet::with_capacity(named.len());
    let first = named.iter().filter(move |id| seen.insert(id.as_bytes()));
    first.map(name)
}

fn refused(error: ErrorCode) -> DescribedGroup {
    let mut described = DescribedGroup::default();
    described.error_code = error.code();
    described
}

/// From version 6 on an unknown group is an error (KIP-1043); before, it was a dead group.
fn unknown_group(version: i16, id: Option<&Name>) -> DescribedGroup {
    let id = id.map_or("", |id| id);
    let mut described = DescribedGroup::default();
    described.group_state = StrBytes::from(State::Dead.name());
    if version >= 6 {
        described.error_code = ErrorCode::GroupIdNotFound.code();
        described.error_message = Some(StrBytes::from(format!("Group {id} not found.")));
    }
    described
}

/// But for its members.
fn describe(group: &Described) -> DescribedGroup {
    let mut described = DescribedGroup::default();
    described.group_state = StrBytes::from(group.state.name());
    described.protocol_type = group.protocol_type.as_ref().map(text).unwrap_or_default();
    described.protocol_data = group.protocol.as_ref().map(text).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::plan::ResponseShape;
    use super::*;
    use crate::base::{Mono, Now};
    use crate::broker::apis;
    use crate::controller::Image;
    use crate::wire::client::encode_request;
    use crate::wire::parse_header;

    const NOW: Now = Now {
        mono: Mono(1),
        wall_ms: 1,
    };

    fn group(members: usize) -> Described {
        let member = |n: usize| DescribedMember {
            id: Name::from(format!("member-{n:04}")),
            instance: n.is_multiple_of(2).then(|| Name::from("i")),
            client_id: Name::from("c"),
            client_host: Name::from("/h"),
            metadata: Bytes::from(vec![1; n % 200]),
            assignment: Bytes::from_static(b"a"),
        };
        Described {
            state: State::Stable,
            protocol_type: Some(Name::from("consumer")),
            protocol: Some(Name::from("range")),
            members: (0..members).map(member).collect(),
        }
    }

    #[test]
    fn a_large_group_is_written_in_slices_and_is_the_same() {
        for version in 0..=6 {
            let mut request = DescribeGroupsRequest::default();
            request.groups = ["large", "small", "large"].map(StrBytes::from).to_vec();
            let frame = encode_request(7, Some("c"), version, &request).unwrap();
            let (header, body) = parse_header(frame.slice(4..), apis::api).unwrap();
            let cx = PlanCx {
                now: NOW,
                image: &Arc::new(Image::of_node([])),
                metadata_max: 0,
                client_host: String::new(),
            };
            let plan = describe_groups(&cx, &header, body).unwrap();
            let ResponseShape::Listed(mut response) = plan.shape else {
                panic!("it is long");
            };
            let mut whole = DescribeGroupsResponse::default();
            for (id, members) in [("large", 1500), ("small", 3)] {
                let mut described = describe(&group(0));
                described.group_id = StrBytes::from(id);
                let all = group(members).members.into_iter();
                described.members = all.map(describe_member).collect();
                whole.groups.push(described);
                let answer = GroupAnswer::Described(Ok(Some(group(members))));
                let (mut slices, mut things) = (1, answer.things());
                let mut written = response.write(answer).unwrap();
                while let Written::Rest(rest) = written {
                    response.end_slice();
                    assert!(things - rest.things() < OFFSETS_TOLD_PER_SLICE + 100);
                    (slices, things) = (slices + 1, rest.things());
                    written = response.write(rest).unwrap();
                }
                assert_eq!(slices > 3, members > 1000, "{slices} slices");
            }
            let told = response.finish().unwrap().concat();
            let at_once = encode_response(7, version, &whole).unwrap();
            assert_eq!(told, at_once, "version {version}");
        }
    }

    #[test]
    fn a_filter_may_have_some_blanks_and_no_thousands() {
        let classic = |blanks: usize| {
            let blanks = " ".repeat(blanks);
            wanted(&[format!("{blanks}Classic{blanks}").into()], CLASSIC)
        };
        assert!(wanted(&[], CLASSIC) && !wanted(&["consumer".into()], CLASSIC));
        assert_eq!([0, 100, 15_000].map(classic), [true, true, false]);
    }
}
