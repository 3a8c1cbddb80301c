//! JoinGroup (11), Heartbeat (12), LeaveGroup (13), SyncGroup (14).

use bytes::Bytes;
use kafka_wire::leave_group_response::MemberResponse;
use kafka_wire::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest,
};

use super::answers::{error_of, join_response, sync_response};
use super::plan::{GroupPlan, PlanCx, name, text};
use crate::base::ErrorCode;
use crate::coordinator::{GroupAnswer, GroupAsk};
use crate::group::join::JoinRequest;
use crate::group::member::without_duplicates;
use crate::group::rebalance::{Leaving, SyncRequest};
use crate::group::{JoinReply, Name, Protocol, SyncReply, coordinator};
use crate::wire::{RequestHeader, WireError, decode};

/// JoinGroup.
pub fn join_group(
    cx: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: JoinGroupRequest = decode(body, header.version)?;
    let request = join_request(header, &cx.client_host, request);
    let version = header.version;
    Ok(GroupPlan::ask(
        vec![GroupAsk::Join(request)],
        move |mut answers| {
            let joined = match answers.next() {
                Some(GroupAnswer::Joined(joined)) => joined,
                other => JoinReply::error(error_of(other), Name::from("")),
            };
            join_response(version, joined)
        },
    ))
}

/// SyncGroup.
pub fn sync_group(
    _: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: SyncGroupRequest = decode(body, header.version)?;
    // From version 5 on the two must be there (KIP-559).
    if header.version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        let refused = SyncReply::error(ErrorCode::InconsistentGroupProtocol);
        return Ok(GroupPlan::known(sync_response(refused)));
    }
    let ask = GroupAsk::Sync(sync_request(request));
    Ok(GroupPlan::ask(vec![ask], |mut answers| {
        sync_response(match answers.next() {
            Some(GroupAnswer::Synced(synced)) => synced,
            other => SyncReply::error(error_of(other)),
        })
    }))
}

/// Heartbeat.
pub fn heartbeat(
    _: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: HeartbeatRequest = decode(body, header.version)?;
    let ask = GroupAsk::Heartbeat(coordinator::HeartbeatRequest {
        group: name(&request.group_id),
        member: name(&request.member_id),
        instance: request.group_instance_id.as_ref().map(name),
        generation: request.generation_id,
    });
    Ok(GroupPlan::ask(vec![ask], |mut answers| {
        let mut response = HeartbeatResponse::default();
        response.error_code = error_of(answers.next()).code();
        response
    }))
}

/// LeaveGroup.
pub fn leave_group(
    _: &PlanCx<'_>,
    header: &RequestHeader,
    body: Bytes,
) -> Result<GroupPlan, WireError> {
    let request: LeaveGroupRequest = decode(body, header.version)?;
    let version = header.version;
    let leaving = leaving(version, &request);
    let ask = GroupAsk::Leave(name(&request.group_id), leaving.clone());
    Ok(GroupPlan::ask(vec![ask], move |mut answers| {
        let left = match answers.next() {
            Some(GroupAnswer::Left(left)) => left,
            other => Err(error_of(other)),
        };
        leave_response(version, &leaving, left)
    }))
}

fn join_request(
    header: &RequestHeader,
    client_host: &str,
    request: JoinGroupRequest,
) -> JoinRequest {
    let protocols = request.protocols.into_iter().map(|p| Protocol {
        name: name(&p.name),
        // A slice of the request would keep all of it as long as the member is there.
        metadata: Bytes::copy_from_slice(&p.metadata),
    });
    JoinRequest {
        group: name(&request.group_id),
        member: name(&request.member_id),
        instance: request.group_instance_id.as_ref().map(name),
        client_id: header
            .client_id
            .as_ref()
            .map_or_else(|| Name::from(""), name),
        client_host: Name::from(client_host),
        session_timeout_ms: request.session_timeout_ms,
        // Version 0 has one timeout for both.
        rebalance_timeout_ms: match header.version {
            0 => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms,
        },
        protocol_type: name(&request.protocol_type),
        protocols: without_duplicates(protocols.collect()),
        needs_member_id: header.version >= 4,
        may_skip_assignment: header.version >= 9,
    }
}

fn sync_request(request: SyncGroupRequest) -> SyncRequest {
    let assignments = request.assignments.into_iter();
    SyncRequest {
        group: name(&request.group_id),
        member: name(&request.member_id),
        instance: request.group_instance_id.as_ref().map(name),
        generation: request.generation_id,
        protocol_type: request.protocol_type.as_ref().map(name),
        protocol: request.protocol_name.as_ref().map(name),
        assignments: assignments
            .map(|a| (name(&a.member_id), Bytes::copy_from_slice(&a.assignment)))
            .collect(),
    }
}

fn leaving(version: i16, request: &LeaveGroupRequest) -> Vec<Leaving> {
    if version < 3 {
        return vec![Leaving {
            member: name(&request.member_id),
            instance: None,
        }];
    }
    let members = request.members.iter().map(|m| Leaving {
        member: name(&m.member_id),
        instance: m.group_instance_id.as_ref().map(name),
    });
    members.collect()
}

fn leave_response(
    version: i16,
    leaving: &[Leaving],
    left: Result<Vec<ErrorCode>, ErrorCode>,
) -> LeaveGroupResponse {
    let mut response = LeaveGroupResponse::default();
    match left {
        Err(error) => response.error_code = error.code(),
        Ok(errors) if version < 3 => {
            response.error_code = errors.first().map_or(0, |e| e.code());
        }
        Ok(errors) => {
            for (leaving, error) in leaving.iter().zip(errors) {
                let mut member = MemberResponse::default();
                member.member_id = text(&leaving.member);
                member.group_instance_id = leaving.instance.as_ref().map(text);
                member.error_code = error.code();
                response.members.push(member);
            }
        }
    }
    response
}
